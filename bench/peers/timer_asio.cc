// SPDX-License-Identifier: MIT
// A peer in the timer benchmark: standalone Asio's steady_timer, made beforehand, with a handler for each wait.

// Asio runs the handler of a wait that is cancelled, too, from its queue: a hundred at a time here.
#include "../timer_workload.h"

#include <asio/awaitable.hpp>
#include <asio/co_spawn.hpp>
#include <asio/detached.hpp>
#include <asio/io_context.hpp>
#include <asio/steady_timer.hpp>
#include <asio/use_awaitable.hpp>
#include <asio/version.hpp>

#include <deque>
#include <string>

namespace {

using bench::TIMERS;
using Clock = std::chrono::steady_clock;

using Timers = std::deque<asio::steady_timer>;

void fill(Timers& timers, asio::io_context& context) {
  while (timers.size() < TIMERS) timers.emplace_back(context);
}

/// What outlives a single operation.
struct World {
  asio::io_context context{1};
  bench::Random random;
  Timers pending;
  Timers firing;
  asio::steady_timer one{context};
  Clock::time_point now = Clock::now(); // Asio has no cached one
  std::size_t cancelled = 0;
  int nothing = 1;

  void fill() {
    if (!pending.empty()) return;
    ::fill(pending, context);
    for (asio::steady_timer& timer : pending) start(timer);
  }
  void start(asio::steady_timer& timer) {
    timer.expires_at(now + bench::farOff(random)); // cancels what was waited for before
    wait(timer);
  }
  void wait(asio::steady_timer& timer) {
    timer.async_wait([this](const asio::error_code& error) {
      BENCH_CHECK(error == asio::error::operation_aborted);
      ++cancelled;
    });
  }
};

void empty(World& world) {
  bench::keep(world.nothing);
  BENCH_CHECK(world.nothing == 1);
}

void setCancel(World& world) {
  world.start(world.one);
  world.one.cancel();
}

void delayCancel(World& world) {
  world.one.expires_after(bench::farOff(world.random));
  world.wait(world.one);
  world.one.cancel();
}

void replace(World& world) { world.start(world.pending[world.random.next() % TIMERS]); }

void rearm(World& world) {
  world.one.expires_after(std::chrono::seconds(30));
  world.wait(world.one);
}

/// Sets `n` timers by `set(deadline, number, fired)`, lets their time pass and runs the context until all have fired.
template <typename Set>
void fireAll(World& world, std::size_t n, Set set) {
  bench::Fired fired;
  const Clock::time_point start = Clock::now();
  for (std::size_t i = 0; i < n; ++i) set(start + bench::soon(world.random), i, fired);
  bench::letPass(start);
  while (fired.count < n) world.context.poll();
  BENCH_CHECK(fired.isAllOf(n));
  world.context.restart();
}

void fire(World& world, std::size_t n) {
  fill(world.firing, world.context);
  fireAll(world, n, [&](Clock::time_point deadline, std::size_t number, bench::Fired& fired) {
    asio::steady_timer& timer = world.firing[number];
    timer.expires_at(deadline);
    timer.async_wait([&fired, number](const asio::error_code& error) {
      BENCH_CHECK(!error);
      fired.add(number);
    });
  });
}

asio::awaitable<void> await(asio::io_context& context, Clock::time_point deadline, std::size_t number,
                            bench::Fired& fired) {
  asio::steady_timer timer(context, deadline);
  co_await timer.async_wait(asio::use_awaitable);
  fired.add(number);
}

void fireAwaited(World& world, std::size_t n) {
  fireAll(world, n, [&](Clock::time_point deadline, std::size_t number, bench::Fired& fired) {
    asio::co_spawn(world.context, await(world.context, deadline, number, fired), asio::detached);
  });
}

// A wait that goes on, so that the context never runs out of work, and the handlers of those that are cancelled.
template <auto OPERATION>
void repeat(World& world, std::size_t n) {
  const std::size_t before = world.cancelled;
  for (std::size_t i = 0; i < n; ++i) {
    OPERATION(world);
    if (i % bench::BATCH == bench::BATCH - 1) world.context.poll();
  }
  world.context.poll();
  world.context.restart();
  BENCH_CHECK(world.cancelled >= before + n - 1);
}

template <auto OPERATION>
bench::Case besideMany(std::string_view name, World& world) {
  return {.name = std::string(name), .repeat = [&world](std::size_t n) {
            world.fill();
            repeat<OPERATION>(world, n);
          }};
}

std::string version() {
  return "Asio " + std::to_string(ASIO_VERSION / 100000) + "." + std::to_string(ASIO_VERSION / 100 % 1000) + "." +
         std::to_string(ASIO_VERSION % 100);
}

} // namespace

int main(int argc, char** argv) {
  World world;
  return bench::runCases(argc, argv, version(),
                         {
                             bench::makeCase<empty>("empty", world),
                             {.name = "rearm", .repeat = [&world](std::size_t n) { repeat<rearm>(world, n); }},
                             besideMany<setCancel>("set_cancel", world),
                             besideMany<delayCancel>("delay_cancel", world),
                             besideMany<replace>("replace", world),
                             bench::manyAtOnce<fire>("fire", world),
                             bench::manyAtOnce<fireAwaited>("fire_awaited", world),
                         });
}
