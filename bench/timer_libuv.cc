// SPDX-License-Identifier: MIT
// The yardstick of the timer benchmark: a `uv_timer_t` for each timer, initialised beforehand.
#include "timer_workload.h"

#include <uv.h>

#include <vector>

namespace {

using bench::TIMERS;

void neverFires(uv_timer_t*) { BENCH_CHECK(false); }

std::uint64_t milliseconds(std::chrono::nanoseconds delay) {
  return static_cast<std::uint64_t>(std::chrono::ceil<std::chrono::milliseconds>(delay).count());
}

struct Timers {
  explicit Timers(uv_loop_t& loop) : handles(TIMERS) {
    for (uv_timer_t& handle : handles) uv_timer_init(&loop, &handle);
  }
  uv_timer_t& operator[](std::size_t i) { return handles[i]; }

  std::vector<uv_timer_t> handles;
};

/// What outlives a single operation. Nothing is closed: the program ends.
struct World {
  World() { uv_timer_init(&loop, &one); }

  bool initialised = uv_loop_init(&loop) == 0;
  uv_loop_t loop;
  uv_timer_t one;
  Timers pending{loop};
  Timers firing{loop};
  bool isFull = false;
  bench::Random random;
  bench::Fired fired;
  int nothing = 1;

  void fill() {
    if (isFull) return;
    isFull = true;
    for (uv_timer_t& handle : pending.handles) start(handle);
  }
  void start(uv_timer_t& handle) { uv_timer_start(&handle, neverFires, milliseconds(bench::farOff(random)), 0); }
};

void empty(World& world) {
  bench::keep(world.nothing);
  BENCH_CHECK(world.nothing == 1);
}

void setCancel(World& world) {
  world.start(world.one);
  bench::keep(world.one);
  uv_timer_stop(&world.one);
}

void replace(World& world) {
  uv_timer_t& any = world.pending[world.random.next() % TIMERS];
  uv_timer_stop(&any);
  world.start(any);
}

void rearm(World& world) { uv_timer_start(&world.one, neverFires, 30'000, 0); }

void fire(World& world, std::size_t n) {
  world.fired = {};
  const auto start = std::chrono::steady_clock::now();
  uv_update_time(&world.loop);
  for (std::size_t i = 0; i < n; ++i) {
    uv_timer_t& handle = world.firing[i];
    handle.data = &world;
    uv_timer_start(
        &handle,
        [](uv_timer_t* fired) {
          auto& w = *static_cast<World*>(fired->data);
          w.fired.add(static_cast<std::size_t>(fired - w.firing.handles.data()));
        },
        milliseconds(bench::soon(world.random)), 0);
  }
  bench::letPass(start);
  while (world.fired.count < n) uv_run(&world.loop, UV_RUN_NOWAIT);
  BENCH_CHECK(world.fired.isAllOf(n));
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
  static World world;
  BENCH_CHECK(world.initialised);
  return bench::runCases(argc, argv, std::string("libuv ") + uv_version_string(),
                         {
                             bench::makeCase<empty>("empty", world),
                             bench::makeCase<rearm>("rearm", world),
                             besideMany<setCancel>("set_cancel", world),
                             besideMany<replace>("replace", world),
                             bench::manyAtOnce<fire>("fire", world),
                         });
}
