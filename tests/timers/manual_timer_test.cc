// SPDX-License-Identifier: MIT
// ManualTimer, and through it what all timers promise: order, cancellation, ends of time.
#include "../runtime/helpers.h"

#include <troth/timers/manual_timer.h>

#include <thread>
#include <vector>

using namespace troth;
using namespace troth::test;
using namespace std::chrono_literals;

namespace {

struct ManualTest : LoopTest {
  ManualTimer timer{TimePoint(100s)};
};

} // namespace

TEST_CASE("a delay that is destroyed on another thread aborts and says so") {
  const ChildEnd end = runInChild([] {
    ManualTest test;
    Promise<void> promise = test.timer.afterDelay(1s);
    std::thread([&] { const Promise<void> gone = std::move(promise); }).join();
  });
  CHECK(end.aborted);
  CHECK_MESSAGE(contains(end.errors, "another thread"), end.errors);
}

TEST_CASE_FIXTURE(ManualTest, "time stands still until it is advanced") {
  CHECK((timer.now() == TimePoint(100s)));
  Promise<void> promise = timer.afterDelay(10ns);
  CHECK_FALSE(promise.poll(scope));
  timer.advanceBy(9ns);
  CHECK_FALSE(promise.poll(scope));
  takeAfter(promise, scope, [&] { timer.advanceBy(1ns); });
  CHECK((timer.now() == TimePoint(100s) + 10ns));
}

TEST_CASE_FIXTURE(ManualTest, "advancing only makes ready: what waits runs when the loop runs") {
  bool ran = false;
  Promise<void> promise = timer.afterDelay(1ms).then([&] { ran = true; }).eagerlyEvaluate(nullptr);
  timer.advanceBy(1ms);
  CHECK_FALSE(ran);
  scope.poll();
  CHECK(ran);
}

TEST_CASE_FIXTURE(ManualTest, "deadlines fire in their order, and equal ones in the order in which they were set") {
  std::string log;
  std::vector<Promise<void>> promises;
  const std::pair<int, const char*> entries[] = {{3, "e"}, {1, "a"}, {2, "c"}, {1, "b"}, {3, "f"}, {2, "d"}, {3, "g"}};
  for (const auto& [delay, name] : entries)
    promises.push_back(timer.afterDelay(std::chrono::milliseconds(delay)).then([&log, n = name] { log += n; }).eagerlyEvaluate(nullptr));
  timer.advanceBy(10ms);
  scope.poll();
  CHECK(log == "abcdefg");
}

TEST_CASE_FIXTURE(ManualTest, "equal deadlines fire in the order in which they were set, not in that of waiting") {
  std::string log;
  for (const Duration delay : {Duration(5ms), Duration(0)}) {
    CAPTURE(delay.count());
    log.clear();
    Promise<void> a = timer.afterDelay(delay);
    Promise<void> b = timer.afterDelay(delay);
    Promise<void> second = std::move(b).then([&] { log += "b"; }).eagerlyEvaluate(nullptr);
    Promise<void> first = std::move(a).then([&] { log += "a"; }).eagerlyEvaluate(nullptr);
    timer.advanceBy(5ms);
    scope.poll();
    CHECK(log == "ab");
  }
}

TEST_CASE_FIXTURE(ManualTest, "a delay that is not positive is over at once, but never inside the call") {
  for (const Duration delay : {Duration(0), Duration(-1), Duration::min()}) {
    CAPTURE(delay.count());
    bool ran = false;
    Promise<void> promise = timer.afterDelay(delay).then([&] { ran = true; }).eagerlyEvaluate(nullptr);
    CHECK_FALSE(ran);
    scope.poll();
    CHECK(ran);
  }
  CHECK(timer.atTime(timer.now()).poll(scope));
  CHECK(timer.atTime(TimePoint::min()).poll(scope));
}

TEST_CASE_FIXTURE(ManualTest, "a delay of max() ends at the end of time") {
  Promise<void> promise = timer.afterDelay(Duration::max());
  CHECK((timer.nextEvent() == TimePoint::max()));
  timer.advanceBy(100h);
  CHECK_FALSE(promise.poll(scope));
  takeAfter(promise, scope, [&] { timer.advanceTo(TimePoint::max()); });
}

TEST_CASE_FIXTURE(ManualTest, "time cannot go back") {
  timer.advanceTo(timer.now());
  const Exception e = thrownBy([&] { timer.advanceTo(timer.now() - 1ns); });
  CHECK(kindName(e) == "FAILED");
  CHECK(contains(e.description(), "time cannot go back"));
  CHECK(fileOf(e) == "manual_timer_test.cc");
  CHECK_THROWS_AS(timer.advanceBy(-1ns), Exception);
  CHECK((timer.now() == TimePoint(100s)));
}

TEST_CASE_FIXTURE(ManualTest, "nextEvent is the earliest deadline that somebody waits for") {
  CHECK_FALSE(timer.nextEvent());
  Promise<void> late = timer.afterDelay(20ms);
  {
    Promise<void> early = timer.afterDelay(10ms);
    CHECK((timer.nextEvent() == timer.now() + 10ms));
  }
  CHECK((timer.nextEvent() == timer.now() + 20ms));
  timer.advanceBy(20ms);
  CHECK_FALSE(timer.nextEvent());
}

TEST_CASE_FIXTURE(ManualTest, "a cancelled deadline does not fire, wherever in the queue it stands") {
  for (int cancel = 0; cancel < 30; ++cancel) {
    CAPTURE(cancel);
    std::string log;
    std::string expected;
    std::vector<std::optional<Promise<void>>> promises;
    for (int i = 0; i < 30; ++i) {
      promises.emplace_back(timer.afterDelay(Duration(1 + i)).then([&log, i] { log += std::to_string(i) + " "; }).eagerlyEvaluate(nullptr));
      if (i != cancel) expected += std::to_string(i) + " ";
    }
    promises[static_cast<std::size_t>(cancel)].reset();
    timer.advanceBy(100ns);
    scope.poll();
    CHECK(log == expected);
  }
}

TEST_CASE_FIXTURE(ManualTest, "a deadline that has fired may be cancelled before its waiter runs") {
  bool ran = false;
  {
    Promise<void> promise = timer.afterDelay(1ms).then([&] { ran = true; }).eagerlyEvaluate(nullptr);
    timer.advanceBy(1ms);
  }
  scope.poll();
  CHECK_FALSE(ran);
}

TEST_CASE_FIXTURE(LoopTest, "a timer that is destroyed first disconnects who waits") {
  std::optional<ManualTimer> timer(std::in_place);
  Promise<void> a = timer->afterDelay(1ms);
  Promise<void> b = timer->afterDelay(2ms);
  CHECK_FALSE(a.poll(scope));
  timer.reset();
  for (Promise<void>* p : {&a, &b}) {
    CHECK(p->poll(scope));
    const Exception e = failureOf(std::move(*p), scope);
    CHECK(kindName(e) == "DISCONNECTED");
    CHECK(contains(e.description(), "timer was destroyed"));
  }
}

TEST_CASE_FIXTURE(LoopTest, "a promise may be destroyed after its timer") {
  std::optional<ManualTimer> timer(std::in_place);
  std::optional<Promise<void>> fired = timer->afterDelay(1ms);
  std::optional<Promise<void>> pending = timer->afterDelay(2ms);
  timer->advanceBy(1ms);
  timer.reset();
  fired.reset();
  pending.reset();
  CHECK(scope.poll() == 0);
}

TEST_CASE("cancelling waits and time-outs at every step leaves nothing (R5)") {
  const std::size_t steps = cancelSweep([](LoopTest&) -> Promise<void> {
    auto clock = std::make_unique<ManualTimer>();
    ManualTimer& time = *clock;
    for (int i = 0; i < 3; ++i) {
      Promise<void> a = time.afterDelay(5ms);
      Promise<void> b = time.timeoutAfter(1ms, time.afterDelay(10ms)).catch_([](Exception) {});
      Promise<void> tick = evalLater([&time] {
                             time.advanceBy(2ms);
                             return evalLater([&time] { time.advanceBy(10ms); });
                           }).eagerlyEvaluate(nullptr);
      co_await std::move(b);
      co_await std::move(a);
      co_await std::move(tick);
    }
  });
  CHECK(steps >= 9);
}

TEST_CASE_FIXTURE(LoopTest, "times before the epoch are times like others, also with delays without end") {
  ManualTimer timer(TimePoint(-5s));
  Promise<void> never = timer.afterDelay(Duration::max());
  Promise<void> soon = timer.afterDelay(7s);
  takeAfter(soon, scope, [&] { timer.advanceBy(7s); });
  CHECK(timer.now() == TimePoint(2s));
  CHECK_FALSE(never.poll(scope));
  CHECK_THROWS_AS(timer.advanceBy(Duration::min()), Exception);
}
