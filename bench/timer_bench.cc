// SPDX-License-Identifier: MIT
// The timer benchmark: troth's timer on libuv, by promises, and its queue alone.
#include "timer_workload.h"

#include <troth/io/async_io.h>
#include <troth/runtime/promise.h>
#include <troth/timers/timer.h>
#include <troth/timers/timer_queue_detail.h>

#include <optional>
#include <vector>

namespace {

using namespace troth;
using bench::TIMERS;

using Promises = std::vector<std::optional<Promise<void>>>;

/// What outlives a single operation.
struct World {
  AsyncIoContext io = setupAsyncIo();
  Timer& timer = io.timer();
  detail::TimerQueue queue;
  bench::Random random;
  Promises ofTimer;
  Promises ofQueue;
  Promise<void> one = timer.afterDelay(std::chrono::hours(1));
  int nothing = 1;

  void fillTimer() {
    while (ofTimer.size() < TIMERS) ofTimer.emplace_back(timer.atTime(deadline()));
  }
  void fillQueue() {
    while (ofQueue.size() < TIMERS) ofQueue.emplace_back(addToQueue());
  }

  TimePoint deadline() { return timer.now() + bench::farOff(random); }
  Promise<void> addToQueue() { return queue.add(deadline(), std::source_location::current()); }
  std::size_t any() { return random.next() % TIMERS; }
};

void empty(World& world) {
  bench::keep(world.nothing);
  BENCH_CHECK(world.nothing == 1);
}

void setCancel(World& world) {
  Promise<void> promise = world.timer.atTime(world.deadline());
  bench::keep(promise);
}

void delayCancel(World& world) {
  Promise<void> promise = world.timer.afterDelay(bench::farOff(world.random));
  bench::keep(promise);
}

void replace(World& world) {
  std::optional<Promise<void>>& any = world.ofTimer[world.any()];
  any.reset();
  any.emplace(world.timer.atTime(world.deadline()));
}

void rearm(World& world) { world.one = world.timer.afterDelay(std::chrono::seconds(30)); }

void queueSetCancel(World& world) {
  Promise<void> promise = world.addToQueue();
  bench::keep(promise);
}

void queueReplace(World& world) {
  std::optional<Promise<void>>& any = world.ofQueue[world.any()];
  any.reset();
  any.emplace(world.addToQueue());
}

/// Sets `n` timers by `set(deadline, number, fired)`, lets their time pass and runs the loop until all have fired.
template <typename Set>
void fireAll(World& world, std::size_t n, Set set) {
  bench::Fired fired;
  std::vector<Promise<void>> promises;
  promises.reserve(n);
  const auto start = std::chrono::steady_clock::now();
  for (std::size_t i = 0; i < n; ++i) promises.push_back(set(start + bench::soon(world.random), i, fired));
  bench::letPass(start);
  while (fired.count < n) world.io.waitScope().poll();
  promises.clear();
  BENCH_CHECK(fired.isAllOf(n));
}

void fire(World& world, std::size_t n) {
  fireAll(world, n, [&](TimePoint deadline, std::size_t number, bench::Fired& fired) {
    return world.timer.atTime(deadline).then([&fired, number] { fired.add(number); }).eagerlyEvaluate(nullptr);
  });
}

Promise<void> await(Timer& timer, TimePoint deadline, std::size_t number, bench::Fired& fired) {
  co_await timer.atTime(deadline);
  fired.add(number);
}

void fireAwaited(World& world, std::size_t n) {
  fireAll(world, n, [&](TimePoint deadline, std::size_t number, bench::Fired& fired) {
    return await(world.timer, deadline, number, fired);
  });
}

// Nobody waits for these: what is measured is the queue.
void queueFire(World& world, std::size_t n) {
  std::vector<Promise<void>> promises;
  promises.reserve(n);
  detail::TimerQueue queue;
  for (std::size_t i = 0; i < n; ++i)
    promises.push_back(queue.add(TimePoint(bench::soon(world.random)), std::source_location::current()));
  BENCH_CHECK(queue.size() == n);
  queue.advanceTo(TimePoint(bench::SOON));
  BENCH_CHECK(queue.isEmpty());
}

/// A case that goes on beside TIMERS pending ones.
template <auto OPERATION, auto FILL>
bench::Case besideMany(std::string_view name, World& world) {
  return {.name = std::string(name), .repeat = [&world](std::size_t n) {
            (world.*FILL)();
            for (std::size_t i = 0; i < n; ++i) OPERATION(world);
          }};
}

} // namespace

int main(int argc, char** argv) {
  World world;
  return bench::runCases(argc, argv, "troth " TROTH_VERSION,
                         {
                             bench::makeCase<empty>("empty", world),
                             bench::makeCase<rearm>("rearm", world),
                             besideMany<setCancel, &World::fillTimer>("set_cancel", world),
                             besideMany<delayCancel, &World::fillTimer>("delay_cancel", world),
                             besideMany<replace, &World::fillTimer>("replace", world),
                             besideMany<queueSetCancel, &World::fillQueue>("queue_set_cancel", world),
                             besideMany<queueReplace, &World::fillQueue>("queue_replace", world),
                             bench::manyAtOnce<fire>("fire", world),
                             bench::manyAtOnce<fireAwaited>("fire_awaited", world),
                             bench::manyAtOnce<queueFire>("queue_fire", world),
                         });
}
