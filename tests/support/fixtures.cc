// SPDX-License-Identifier: MIT
// The fixtures' checks, and the cancellation sweep.
#include "fixtures.h"

#include <troth/runtime/pool_detail.h>
#include <troth/runtime/uv/uv_event_port.h>

#include <filesystem>

namespace troth::test {

std::size_t openDescriptors() {
  std::size_t count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) ++count;
  return count - 1; // the one that lists the directory
}

namespace {

// libuv's first loop of a process opens a pipe for signals that stays for good.
void openWhatLibuvKeeps() {
  static const int once = [] {
    uv_loop_t loop;
    uv_loop_init(&loop);
    return uv_loop_close(&loop);
  }();
  REQUIRE(once == 0);
}

} // namespace

NothingLeft::NothingLeft() : blocks_((openWhatLibuvKeeps(), detail::liveBlocks())), descriptors_(openDescriptors()) {}

NothingLeft::~NothingLeft() {
  CHECK_MESSAGE(detail::liveBlocks() == blocks_, "promises, coroutines or operations were left alive");
  CHECK_MESSAGE(openDescriptors() == descriptors_, "descriptors were left open");
}

void IoTest::step() {
  EventLoop& loop = io.eventLoop();
  if (loop.run(1) == 0) io.uvEventPort().wait();
}

namespace {

constexpr std::size_t MOST_STEPS = 100'000; // a body that needs more does not end

template <typename Fixture, typename Step>
std::size_t sweep(const std::function<Promise<void>(Fixture&)>& body, Step&& step) {
  std::size_t steps = 0;
  {
    Fixture fixture;
    bool done = false;
    Promise<void> promise = body(fixture).then([&done] { done = true; }).eagerlyEvaluate(nullptr);
    while (!done) {
      step(fixture);
      REQUIRE(++steps < MOST_STEPS);
    }
  }
  for (std::size_t k = 0; k < steps; ++k) {
    CAPTURE(k);
    Fixture fixture;
    bool done = false;
    {
      Promise<void> promise = body(fixture).then([&done] { done = true; }).eagerlyEvaluate(nullptr);
      for (std::size_t i = 0; i < k && !done; ++i) step(fixture);
    }
    // What was in flight may still arrive; nobody may hear of it.
    fixture.scope.poll();
  }
  return steps;
}

} // namespace

std::size_t cancelSweep(const std::function<Promise<void>(LoopTest&)>& body) {
  return sweep<LoopTest>(body, [](LoopTest& fixture) { REQUIRE(fixture.loop.run(1) == 1); });
}

std::size_t cancelSweep(const std::function<Promise<void>(IoTest&)>& body) {
  return sweep<IoTest>(body, [](IoTest& fixture) { fixture.step(); });
}

} // namespace troth::test
