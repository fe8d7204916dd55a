// SPDX-License-Identifier: MIT
// Timer: time-outs, both outcomes, what they say and when the work is destroyed.
#include "../runtime/helpers.h"

#include <troth/timers/manual_timer.h>

#include <stdexcept>
#include <thread>

using namespace troth;
using namespace troth::test;
using namespace std::chrono_literals;

namespace {
struct ManualTest : LoopTest {
  ManualTimer timer;
};
} // namespace

TEST_CASE_FIXTURE(ManualTest, "a promise that is ready in time passes its time-out, which then waits for nothing") {
  auto pair = newPromiseAndFulfiller<int>();
  Promise<int> promise = timer.timeoutAfter(10ms, std::move(pair.promise));
  CHECK(timer.nextEvent() == timer.now() + 10ms);
  timer.advanceBy(9ms);
  CHECK(takeAfter(promise, scope, [&] { pair.fulfiller->fulfill(3); }) == 3);
  CHECK_FALSE(timer.nextEvent());
}

TEST_CASE_FIXTURE(ManualTest, "a promise that fails in time fails with its own error") {
  auto pair = newPromiseAndFulfiller<std::unique_ptr<int>>();
  auto promise = timer.timeoutAfter(10ms, std::move(pair.promise).then([](std::unique_ptr<int> p) { return p; }));
  pair.fulfiller->reject(Exception(Exception::Kind::DISCONNECTED, "gone"));
  CHECK(failureOf(std::move(promise), scope).description() == "gone");
}

TEST_CASE_FIXTURE(ManualTest, "a time-out says how long it was, is OVERLOADED and has the code and place") {
  Promise<void> promise = timer.timeoutAfter(250ms, Promise<void>(NEVER_DONE));
  CHECK_FALSE(promise.poll(scope));
  timer.advanceBy(249ms);
  CHECK_FALSE(promise.poll(scope));
  timer.advanceBy(1ms);
  CHECK(promise.poll(scope));
  const Exception e = failureOf(std::move(promise), scope);
  CHECK(e.description() == "timed out after 250ms");
  CHECK(kindName(e) == "OVERLOADED");
  CHECK(e.code() == std::errc::timed_out);
  CHECK(fileOf(e) == "timer_test.cc");
}

TEST_CASE_FIXTURE(ManualTest, "a time-out says what was waited for, and the place is the caller's still") {
  Promise<void> after = timer.timeoutAfter(250ms, Promise<void>(NEVER_DONE), "reading the head");
  Promise<void> at = timer.timeoutAt(timer.now() + 2s, Promise<void>(NEVER_DONE), std::string("the whole of ") + "it");
  timer.advanceBy(2s);
  const Exception e = failureOf(std::move(after), scope);
  CHECK(e.description() == "timed out after 250ms: reading the head");
  CHECK(kindName(e) == "OVERLOADED");
  CHECK(e.code() == std::errc::timed_out);
  CHECK(fileOf(e) == "timer_test.cc");
  CHECK(failureOf(std::move(at), scope).description() == "timed out after 2s: the whole of it");
}

TEST_CASE_FIXTURE(ManualTest, "time-outs are told in the unit in which a person would") {
  const auto text = [&](Duration delay) {
    Promise<void> promise = timer.timeoutAfter(delay, Promise<void>(NEVER_DONE));
    timer.advanceBy(delay);
    return std::string(failureOf(std::move(promise), scope).description());
  };
  CHECK(text(30s) == "timed out after 30s");
  CHECK(text(1500ms) == "timed out after 1.5s");
  CHECK(text(1ms) == "timed out after 1ms");
  CHECK(text(1500us) == "timed out after 1.5ms");
  CHECK(text(20us) == "timed out after 20us");
  CHECK(text(5ns) == "timed out after 5ns");
}

TEST_CASE_FIXTURE(ManualTest, "the work is destroyed before its time-out is seen") {
  std::string log;
  Promise<void> promise = timer.timeoutAfter(1ms, Promise<void>(NEVER_DONE).attach(Noted(log, "work"))).catch_([&](Exception) {
    log += "seen ";
  });
  takeAfter(promise, scope, [&] { timer.advanceBy(1ms); });
  CHECK(log == "work seen ");
}

TEST_CASE_FIXTURE(ManualTest, "a coroutine that catches a time-out finds the locals of the work gone") {
  std::string log;
  const auto work = [](std::string& into, Timer& slow) -> Promise<int> {
    const Noted outer(into, "outer");
    const Noted inner(into, "inner");
    co_await slow.afterDelay(1h);
    co_return 1;
  };
  const auto impatient = [&]() -> Promise<void> {
    try {
      co_await timer.timeoutAfter(1ms, work(log, timer), "working");
    } catch (const Exception& e) {
      log += e.description();
    }
    CHECK_FALSE(timer.nextEvent());
  };
  Promise<void> promise = impatient();
  takeAfter(promise, scope, [&] { timer.advanceBy(1ms); });
  CHECK(log == "inner outer timed out after 1ms: working");
}

TEST_CASE_FIXTURE(ManualTest, "a timer is a clock; a steady clock needs no loop") {
  const Clock& clock = timer;
  const TimePoint before = clock.now();
  timer.advanceBy(3s);
  CHECK((clock.now() == before + 3s));
  std::thread([] {
    const SteadyClock steady;
    const TimePoint first = steady.now();
    while (steady.now() == first) {
    }
    CHECK((steady.now() > first));
  }).join();
}

TEST_CASE_FIXTURE(ManualTest, "cancelling a time-out cancels its work and its timer") {
  std::string log;
  { Promise<void> promise = timer.timeoutAfter(1ms, Promise<void>(NEVER_DONE).attach(Noted(log, "work"))); }
  CHECK(log == "work ");
  CHECK_FALSE(timer.nextEvent());
}

TEST_CASE_FIXTURE(ManualTest, "a promise that is ready beats a time-out of zero") {
  CHECK(timer.timeoutAfter(0ms, Promise<int>(1)).wait(scope) == 1);
  CHECK(contains(failureOf(timer.timeoutAfter(0ms, Promise<int>(NEVER_DONE)), scope).description(), "timed out"));
  CHECK(contains(failureOf(timer.timeoutAfter(-5ms, Promise<int>(NEVER_DONE)), scope).description(), "timed out"));
}

TEST_CASE_FIXTURE(ManualTest, "timeoutAt has a fixed end") {
  const TimePoint end = timer.now() + 10ms;
  Promise<int> late = timer.timeoutAt(end, Promise<int>(NEVER_DONE));
  Promise<int> inTime = timer.timeoutAt(end, timer.afterDelay(9ms).then([] { return 1; }));
  CHECK_FALSE(late.poll(scope));
  timer.advanceBy(9ms);
  CHECK(std::move(inTime).wait(scope) == 1);
  CHECK_FALSE(late.poll(scope));
  timer.advanceBy(1ms);
  CHECK(late.poll(scope));
  const Exception e = failureOf(std::move(late), scope);
  CHECK(kindName(e) == "OVERLOADED");
  CHECK(e.description() == "timed out after 10ms");
}

TEST_CASE_FIXTURE(ManualTest, "a coroutine catches a time-out and goes on") {
  auto body = [&]() -> Promise<int> {
    int timeouts = 0;
    for (int i = 0; i < 3; ++i) {
      try {
        co_await timer.timeoutAfter(1ms, Promise<void>(NEVER_DONE));
      } catch (const Exception& e) {
        if (e.kind() == Exception::Kind::OVERLOADED) ++timeouts;
      }
    }
    co_return timeouts;
  };
  Promise<int> promise = body();
  for (int i = 0; i < 3; ++i) {
    CHECK_FALSE(promise.poll(scope));
    timer.advanceBy(1ms);
  }
  CHECK(std::move(promise).wait(scope) == 3);
}

TEST_CASE("time-outs at the ends of time are no undefined behaviour") {
  const ChildEnd end = runInChild([] {
    EventLoop loop;
    WaitScope scope(loop);
    ManualTimer timer(TimePoint(1s));
    Promise<void> never = timer.timeoutAt(TimePoint::max(), Promise<void>(NEVER_DONE));
    if (never.poll(scope)) throw std::logic_error("the end of time has come");
    Promise<void> past = timer.timeoutAt(TimePoint::min(), Promise<void>(NEVER_DONE));
    if (!past.poll(scope)) throw std::logic_error("the past is not over");
  });
  CHECK_MESSAGE(end.finished, end.errors);
  CHECK_MESSAGE(!contains(end.errors, "runtime error"), end.errors.substr(0, 300));
}
