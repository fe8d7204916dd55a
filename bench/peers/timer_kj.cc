// SPDX-License-Identifier: MIT
// A peer in the timer benchmark: KJ's TimerImpl, whose time the program moves.
#include "../timer_workload.h"

#include <kj/async.h>
#include <kj/timer.h>
#include <kj/vector.h>

#ifndef KJ_VERSION
#define KJ_VERSION "(unknown version)"
#endif

namespace {

using bench::TIMERS;

kj::Duration kjDuration(std::chrono::nanoseconds delay) { return delay.count() * kj::NANOSECONDS; }

/// What outlives a single operation.
struct World {
  kj::EventLoop loop;
  kj::WaitScope scope{loop};
  kj::TimerImpl timer{kj::origin<kj::TimePoint>()};
  bench::Random random;
  kj::Vector<kj::Maybe<kj::Promise<void>>> pending;
  kj::Promise<void> one = timer.afterDelay(1 * kj::HOURS);
  int nothing = 1;

  void fill() {
    while (pending.size() < TIMERS) pending.add(timer.atTime(deadline()));
  }
  kj::TimePoint deadline() { return timer.now() + kjDuration(bench::farOff(random)); }
};

void empty(World& world) {
  bench::keep(world.nothing);
  BENCH_CHECK(world.nothing == 1);
}

void setCancel(World& world) {
  auto promise = world.timer.atTime(world.deadline());
  bench::keep(promise);
}

void delayCancel(World& world) {
  auto promise = world.timer.afterDelay(kjDuration(bench::farOff(world.random)));
  bench::keep(promise);
}

void replace(World& world) {
  auto& any = world.pending[world.random.next() % TIMERS];
  any = nullptr;
  any = world.timer.atTime(world.deadline());
}

void rearm(World& world) { world.one = world.timer.afterDelay(30 * kj::SECONDS); }

void fire(World& world, std::size_t n) {
  bench::Fired fired;
  kj::Vector<kj::Promise<void>> promises(n);
  const kj::TimePoint start = world.timer.now();
  for (std::size_t i = 0; i < n; ++i)
    promises.add(world.timer.atTime(start + kjDuration(bench::soon(world.random)))
                     .then([&fired, i] { fired.add(i); })
                     .eagerlyEvaluate(nullptr));
  world.timer.advanceTo(start + kjDuration(bench::SOON));
  world.scope.poll();
  promises.clear();
  BENCH_CHECK(fired.isAllOf(n));
}

template <auto OPERATION>
bench::Case besideMany(std::string_view name, World& world) {
  return {.name = std::string(name), .repeat = [&world](std::size_t n) {
            world.fill();
            for (std::size_t i = 0; i < n; ++i) OPERATION(world);
          }};
}

} // namespace

int main(int argc, char** argv) {
  World world;
  return bench::runCases(argc, argv, "KJ " KJ_VERSION,
                         {
                             bench::makeCase<empty>("empty", world),
                             bench::makeCase<rearm>("rearm", world),
                             besideMany<setCancel>("set_cancel", world),
                             besideMany<delayCancel>("delay_cancel", world),
                             besideMany<replace>("replace", world),
                             bench::manyAtOnce<fire>("fire", world),
                         });
}
