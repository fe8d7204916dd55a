// SPDX-License-Identifier: MIT
// yield and its kin, constPromise, retryOnDisconnect, detach, coCapture.
#include "helpers.h"

#include <troth/runtime/event_loop_local.h>
#include <troth/runtime/event_loop_observer.h>
#include <troth/runtime/pool_detail.h>
#include <troth/runtime/task_set.h>

#include <stdexcept>
#include <vector>

using namespace troth;
using namespace troth::test;

namespace {

using Kind = Exception::Kind;

struct TaskTest : LoopTest {
  FailOnError handler;
  std::string log;
  TaskSet tasks{handler};

  auto note(std::string name) {
    return [this, name = std::move(name)] { log += name; };
  }
};

/// A port that brings what `onPoll` does, at most as often as that returns true.
class Port final : public EventPort {
public:
  std::string* log = nullptr;
  std::function<bool()> onPoll;
  std::function<bool()> onWait;

  bool wait() override {
    if (log != nullptr) *log += "w";
    return onWait && onWait();
  }
  void poll() override {
    if (log != nullptr) *log += "p";
    if (onPoll) onPoll();
  }
  void wake() const override {}
};

/// Runs what is queued one event after another; when nothing is, what waits until the loop would sleep.
bool step(EventLoop& loop) {
  if (loop.run(1) == 1) return true;
  return loop.wakeSleepers() && loop.run(1) == 1;
}

} // namespace

// --------------------------------------------------------------------------------------------- yield

TEST_CASE_FIXTURE(TaskTest, "yield is ready when what is queued now has run") {
  tasks.add(evalLater(note("1")));
  tasks.add(yield().then(note("2")));
  tasks.add(evalLater(note("3")));
  scope.poll();
  CHECK(log == "123");
}

TEST_CASE_FIXTURE(TaskTest, "a coroutine that yields lets the others run between its steps") {
  const auto steps = [this](std::string name) -> Promise<void> {
    for (int i = 0; i < 3; ++i) {
      co_await yield();
      log += name;
    }
  };
  tasks.add(steps("a"));
  tasks.add(steps("b"));
  scope.poll();
  CHECK(log == "ababab");
}

TEST_CASE_FIXTURE(TaskTest, "yieldUntilQueueEmpty waits for all that the queue goes on getting, the last one to wait goes first") {
  tasks.add(yieldUntilQueueEmpty().then(note("6")));
  tasks.add(yieldUntilQueueEmpty().then(note("5")));
  tasks.add(evalLater([this] {
    log += "1";
    tasks.add(evalLater([this] {
      log += "3";
      tasks.add(evalLater(note("4")));
    }));
  }));
  tasks.add(evalLater(note("2")));
  scope.poll();
  CHECK(log == "123456");
}

TEST_CASE_FIXTURE(TaskTest, "yieldUntilWouldSleep waits until nothing else is queued, evalLast's included, in the order of waiting") {
  tasks.add(yieldUntilWouldSleep().then(note("4")));
  tasks.add(evalLast(note("3")));
  tasks.add(evalLater(note("1")));
  tasks.add(yieldUntilWouldSleep().then(note("5")));
  tasks.add(evalLater(note("2")));
  scope.poll();
  CHECK(log == "12345");
}

TEST_CASE_FIXTURE(TaskTest, "what yieldUntilWouldSleep lets run may queue more, and wait again") {
  const auto body = [this]() -> Promise<void> {
    co_await yieldUntilWouldSleep();
    log += "1";
    tasks.add(evalLater(note("2")));
    co_await yieldUntilWouldSleep();
    log += "3";
  };
  tasks.add(body());
  scope.poll();
  CHECK(log == "123");
  CHECK(tasks.isEmpty());
}

TEST_CASE("yieldToIo has the loop look at the world behind each step, and what that brings goes first") {
  NothingLeft nothingLeft;
  Port port;
  EventLoop loop(port);
  WaitScope scope(loop);
  std::string log;
  port.log = &log;
  auto brought = newPromiseAndFulfiller<void>();
  port.onPoll = [&] {
    if (brought.fulfiller->isWaiting()) brought.fulfiller->fulfill();
    return true;
  };
  Promise<void> reader = std::move(brought.promise).then([&] { log += "r"; }).eagerlyEvaluate(nullptr);
  const auto body = [&]() -> Promise<void> {
    co_await yield();
    for (int i = 0; i < 3; ++i) {
      log += "s";
      co_await yieldToIo();
    }
  };
  Promise<void> steps = body();
  SUBCASE("wait") {
    std::move(steps).wait(scope);
    CHECK(log == "sprspsp");
  }
  SUBCASE("poll") {
    CHECK(scope.poll() > 0);
    CHECK(log.starts_with("sprspsp"));
  }
  SUBCASE("run, for a port that is driven") {
    std::size_t batches = 0;
    for (; loop.run() > 0; ++batches) port.poll();
    CHECK(log == "sprspspp");
    CHECK(batches == 4);
  }
  SUBCASE("timed, for an observer") {
    struct Observer final : EventLoopObserver {
      std::chrono::nanoseconds slowTurnLimit() const noexcept override { return std::chrono::hours(1); }
    } observer;
    loop.setObserver(&observer);
    std::move(steps).wait(scope);
    CHECK(log == "sprspsp");
    loop.setObserver(nullptr);
  }
}

TEST_CASE("yieldUntilWouldSleep waits until a look at the world brings nothing, and does not block") {
  NothingLeft nothingLeft;
  Port port;
  EventLoop loop(port);
  WaitScope scope(loop);
  std::string log;
  port.log = &log;
  auto first = newPromiseAndFulfiller<void>();
  auto second = newPromiseAndFulfiller<void>();
  int polls = 0;
  port.onPoll = [&] {
    ++polls;
    if (polls == 1) first.fulfiller->fulfill();
    if (polls == 2) second.fulfiller->fulfill();
    return true;
  };
  Promise<void> a = std::move(first.promise).then([&] { log += "a"; }).eagerlyEvaluate(nullptr);
  Promise<void> b = std::move(second.promise).then([&] { log += "b"; }).eagerlyEvaluate(nullptr);
  SUBCASE("wait") { yieldUntilWouldSleep().then([&] { log += "c"; }).wait(scope); }
  SUBCASE("poll") {
    Promise<void> asleep = yieldUntilWouldSleep().then([&] { log += "c"; }).eagerlyEvaluate(nullptr);
    scope.poll();
  }
  CHECK(contains(log, "papbpc"));
  CHECK_FALSE(contains(log, "w"));
}

TEST_CASE("evalLast runs before the world is looked at, yieldUntilWouldSleep after") {
  NothingLeft nothingLeft;
  Port port;
  EventLoop loop(port);
  WaitScope scope(loop);
  std::string log;
  port.log = &log;
  Promise<void> last = evalLast([&] { log += "l"; }).eagerlyEvaluate(nullptr);
  Promise<void> sleep = yieldUntilWouldSleep().then([&] { log += "s"; }).eagerlyEvaluate(nullptr);
  std::move(sleep).wait(scope);
  CHECK(log == "lps");
  std::move(last).wait(scope);
}

TEST_CASE("a loop with a sleeper is runnable, and one whose sleeper was cancelled is not") {
  NothingLeft nothingLeft;
  EventLoop loop;
  WaitScope scope(loop);
  {
    Promise<void> first = yieldUntilWouldSleep().eagerlyEvaluate(nullptr);
    Promise<void> second = yieldUntilWouldSleep().eagerlyEvaluate(nullptr);
    CHECK(loop.isRunnable());
    { Promise<void> gone = std::move(first); }
    CHECK(loop.isRunnable());
  }
  CHECK_FALSE(loop.isRunnable());
  CHECK_FALSE(loop.wakeSleepers());
}

TEST_CASE_FIXTURE(TaskTest, "a sleeper may cancel the next one") {
  std::optional<Promise<void>> second;
  Promise<void> first = yieldUntilWouldSleep().then([&] {
    log += "1";
    second.reset();
  }).eagerlyEvaluate(nullptr);
  second = yieldUntilWouldSleep().then(note("2")).eagerlyEvaluate(nullptr);
  scope.poll();
  CHECK(log == "1");
}

TEST_CASE_FIXTURE(LoopTest, "the yields and constants take no memory, and may be waited for, polled and dropped") {
  const auto blocks = detail::liveBlocks();
  for (int i = 0; i < 3; ++i) {
    yield().wait(scope);
    yieldUntilQueueEmpty().wait(scope);
    yieldUntilWouldSleep().wait(scope);
    CHECK(constPromise<int, 7>().wait(scope) == 7);
    { Promise<void> dropped = yieldUntilWouldSleep(); }
  }
  Promise<void> a = yield();
  Promise<void> b = yieldUntilQueueEmpty();
  Promise<void> c = yieldUntilWouldSleep();
  Promise<int> d = constPromise<int, 8>();
  CHECK(detail::liveBlocks() == blocks);
  CHECK(a.poll(scope));
  CHECK(b.poll(scope));
  CHECK(c.poll(scope));
  CHECK(d.poll(scope));
}

TEST_CASE_FIXTURE(LoopTest, "a constant is the same however often it is read, changed by continuations and awaited") {
  enum class Color { RED, GREEN };
  for (int i = 0; i < 2; ++i) {
    CHECK(constPromise<int, 5>().then([](int&& x) { return std::exchange(x, 9); }).wait(scope) == 5);
    CHECK(constPromise<Color, Color::GREEN>().wait(scope) == Color::GREEN);
    CHECK(constPromise<bool, true>().fork().addBranch().wait(scope));
    auto body = []() -> Promise<int> { co_return co_await constPromise<int, 5>() + co_await constPromise<int, 6>(); };
    CHECK(body().wait(scope) == 11);
  }
}

TEST_CASE("yields make no loop necessary until somebody waits, and then need one") {
  NothingLeft nothingLeft;
  { Promise<void> dropped = yield(); }
  { Promise<int> dropped = constPromise<int, 1>(); }
  CHECK(contains(thrownBy([] { (void)yieldUntilWouldSleep().eagerlyEvaluate(nullptr); }).description(), "no event loop"));
}

TEST_CASE("cancelling what yields at every step leaves nothing (R5)") {
  std::size_t steps = 0;
  const auto body = []() -> Promise<void> {
    auto local = std::make_unique<int>(1);
    co_await yield();
    co_await yieldUntilQueueEmpty();
    co_await yieldUntilWouldSleep();
    co_await yield().exclusiveJoin(yieldUntilWouldSleep());
    co_await yieldUntilWouldSleep().exclusiveJoin(yield()).attach(std::make_unique<int>(2));
    CHECK(co_await constPromise<int, 2>() == 2);
    ForkedPromise<void> fork = yieldUntilWouldSleep().fork();
    co_await fork;
    co_await yieldUntilQueueEmpty().then([] { return yield(); });
  };
  const auto run = [&](std::size_t most) {
    LoopTest fixture;
    bool done = false;
    std::size_t ran = 0;
    {
      Promise<void> promise = body().then([&] { done = true; }).eagerlyEvaluate(nullptr);
      for (; ran < most && !done; ++ran) REQUIRE(step(fixture.loop));
    }
    fixture.scope.poll();
    CHECK_FALSE(fixture.loop.isRunnable());
    return ran;
  };
  steps = run(1000);
  REQUIRE(steps >= 8);
  REQUIRE(steps < 1000);
  for (std::size_t k = 0; k < steps; ++k) {
    CAPTURE(k);
    CHECK(run(k) == k);
  }
}

// --------------------------------------------------------------------------------- retryOnDisconnect

TEST_CASE_FIXTURE(LoopTest, "retryOnDisconnect calls its function later, once if it succeeds") {
  int calls = 0;
  Promise<int> promise = retryOnDisconnect([&] { return Promise<int>(++calls); });
  CHECK(calls == 0);
  CHECK(std::move(promise).wait(scope) == 1);
  CHECK(calls == 1);
}

TEST_CASE_FIXTURE(LoopTest, "retryOnDisconnect calls its function once more after a DISCONNECTED, thrown or promised") {
  int calls = 0;
  const auto failingOnce = [&](bool thrown) {
    return [&calls, thrown]() -> Promise<int> {
      const Exception gone(Kind::DISCONNECTED, "gone");
      if (++calls == 2) return 7;
      if (thrown) throw gone;
      return gone;
    };
  };
  CHECK(retryOnDisconnect(failingOnce(false)).wait(scope) == 7);
  CHECK(calls == 2);
  calls = 0;
  CHECK(retryOnDisconnect(failingOnce(true)).wait(scope) == 7);
  CHECK(calls == 2);
}

TEST_CASE_FIXTURE(LoopTest, "retryOnDisconnect gives up after the second DISCONNECTED, and at once after any other failure") {
  int calls = 0;
  const Exception twice = failureOf(retryOnDisconnect([&]() -> Promise<void> {
                                      return Exception(Kind::DISCONNECTED, "gone " + std::to_string(++calls));
                                    }),
                                    scope);
  CHECK(twice.description() == "gone 2");
  calls = 0;
  CHECK_THROWS_AS(retryOnDisconnect([&]() -> Promise<void> {
                    ++calls;
                    throw std::out_of_range("x");
                  }).wait(scope),
                  std::out_of_range);
  CHECK(calls == 1);
}

TEST_CASE_FIXTURE(LoopTest, "retryOnDisconnect takes functions that return values or nothing, and that hold what cannot be copied") {
  int calls = 0;
  CHECK(retryOnDisconnect([&] {
          if (++calls == 1) throw Exception(Kind::DISCONNECTED, "gone");
          return 4;
        }).wait(scope) == 4);
  retryOnDisconnect([&] {
    if (++calls == 3) throw Exception(Kind::DISCONNECTED, "gone");
  }).wait(scope);
  CHECK(calls == 4);
  CHECK(retryOnDisconnect([held = std::make_unique<int>(6)] { return Promise<int>(*held); }).wait(scope) == 6);
}

TEST_CASE_FIXTURE(LoopTest, "the first try's work is destroyed before the second try, and the function once") {
  std::string log;
  int calls = 0;
  retryOnDisconnect([&, held = Noted(log, "function")]() -> Promise<void> {
    log += "call ";
    if (++calls == 1) return Promise<void>(Exception(Kind::DISCONNECTED, "gone")).attach(Noted(log, "work"));
    return evalLater([&log] { log += "end "; });
  }).wait(scope);
  CHECK(contains(log, "call work call "));
  CHECK(contains(log, "end "));
  CHECK(log.find("function") == log.rfind("function"));
  CHECK(contains(log, "function"));
}

TEST_CASE("cancelling tries at every step leaves nothing (R5)") {
  const std::size_t steps = cancelSweep([](LoopTest&) {
    auto calls = std::make_shared<int>(0);
    return retryOnDisconnect([calls, held = std::make_unique<int>(1)] {
      return [](std::shared_ptr<int> counted) -> Promise<void> {
        for (int i = 0; i < 2; ++i) co_await yield();
        if (++*counted == 1) throw Exception(Kind::DISCONNECTED, "gone");
      }(calls);
    });
  });
  CHECK(steps >= 6);
}

// ------------------------------------------------------------------------------------------- detach

TEST_CASE_FIXTURE(LoopTest, "what is detached runs to its end unasked, and its handler hears of a failure") {
  std::string log;
  evalLater([&] { log += "ran "; }).detach([](Exception) { FAIL("no failure was expected"); });
  evalLater([]() -> int { throw std::out_of_range("far"); }).then([](int x) { return x; }).detach([&](Exception e) {
    log += e.description();
  });
  CHECK(log.empty());
  scope.poll();
  CHECK(log == "ran far");
  CHECK(loop.liveEvents() == 0);
}

TEST_CASE("what is detached is cancelled with the loop, in which its destructors may detach more") {
  NothingLeft nothingLeft;
  std::string log;
  {
    EventLoop loop;
    WaitScope scope(loop);
    struct OnExit {
      std::function<void()> f;
      explicit OnExit(std::function<void()> g) : f(std::move(g)) {}
      OnExit(OnExit&& other) noexcept : f(std::exchange(other.f, nullptr)) {}
      ~OnExit() {
        if (f) f();
      }
    };
    Promise<void>(NEVER_DONE)
        .attach(OnExit([&] { Promise<void>(NEVER_DONE).attach(Noted(log, "late")).detach([](Exception) {}); }))
        .detach([](Exception) {});
    Promise<void>(NEVER_DONE).attach(Noted(log, "work")).detach([](Exception) {});
    scope.poll();
    CHECK(log.empty());
  }
  CHECK(contains(log, "work "));
  CHECK(contains(log, "late "));
}

TEST_CASE_FIXTURE(LoopTest, "cancelAllDetached destroys what was detached and nothing else, and the loop goes on") {
  std::string log;
  Promise<void> kept = Promise<void>(NEVER_DONE).attach(Noted(log, "kept"));
  for (const char* name : {"a", "b"}) Promise<void>(NEVER_DONE).attach(Noted(log, name)).detach([](Exception) {});
  loop.cancelAllDetached();
  CHECK(log.size() == 4);
  CHECK_FALSE(contains(log, "kept"));
  loop.cancelAllDetached();
  bool ran = false;
  evalLater([&] { ran = true; }).detach([](Exception) {});
  scope.poll();
  CHECK(ran);
}

TEST_CASE_FIXTURE(LoopTest, "a handler of detached work may detach more") {
  std::string log;
  evalLater([] { throw 1; }).detach([&](Exception) { evalLater([&] { log += "more"; }).detach([](Exception) {}); });
  scope.poll();
  CHECK(log == "more");
}

TEST_CASE("a handler of detached work that throws aborts and says so") {
  const ChildEnd end = runInChild([] {
    EventLoop loop;
    WaitScope scope(loop);
    evalLater([] { throw std::runtime_error("x"); }).detach([](Exception e) { throw e; });
    scope.poll();
  });
  CHECK(end.aborted);
  CHECK(contains(end.errors, "the error handler of a detached promise has thrown"));
}

TEST_CASE("detached work that cancels all detached work aborts and says so") {
  const ChildEnd end = runInChild([] {
    EventLoop loop;
    WaitScope scope(loop);
    evalLater([&] { loop.cancelAllDetached(); }).detach([](Exception) {});
    scope.poll();
  });
  CHECK(end.aborted);
  CHECK(contains(end.errors, "destroyed by the code that it is running"));
}

TEST_CASE_FIXTURE(LoopTest, "detaching a consumed promise throws and names the caller") {
  Promise<int> promise = 1;
  std::move(promise).wait(scope);
  const Exception e = thrownBy([&] { std::move(promise).detach([](Exception) {}); });
  CHECK(contains(e.description(), "consumed"));
  CHECK(fileOf(e) == "yield_test.cc");
}

TEST_CASE("detaching on a thread without a loop throws, names the caller and destroys the work") {
  NothingLeft nothingLeft;
  std::string log;
  const Exception e = thrownBy([&] { Promise<void>(NEVER_DONE).attach(Noted(log, "work")).detach([](Exception) {}); });
  CHECK(contains(e.description(), "no event loop"));
  CHECK(fileOf(e) == "yield_test.cc");
  CHECK(log == "work ");
}

TEST_CASE("cancelling detached work at every step leaves nothing (R5)") {
  std::size_t steps = 1;
  for (std::size_t k = 0; k <= steps; ++k) {
    CAPTURE(k);
    LoopTest fixture;
    bool done = false;
    [](bool& ended) -> Promise<void> {
      auto local = std::make_unique<int>(1);
      for (int i = 0; i < 4; ++i) co_await yield().attach(std::make_unique<int>(i));
      ended = true;
    }(done).detach([](Exception) {});
    std::size_t ran = 0;
    while (ran < k && fixture.loop.run(1) == 1) ++ran;
    if (!done) steps = k + 1;
    fixture.loop.cancelAllDetached();
    CHECK(fixture.loop.liveEvents() == 0);
  }
  CHECK(steps >= 4);
}

// ----------------------------------------------------------------------------------------- coCapture

TEST_CASE_FIXTURE(LoopTest, "coCapture keeps the captures of a lambda alive for its coroutine, and frees them after it") {
  std::string log;
  Promise<int> promise = [&] {
    auto lambda = coCapture([held = std::make_unique<int>(5), noted = Noted(log, "captures")](int x) -> Promise<int> {
      co_await yield();
      co_return *held + x;
    });
    return lambda(1);
  }();
  scope.poll();
  CHECK(log.empty());
  CHECK(std::move(promise).wait(scope) == 6);
  CHECK(log == "captures ");
}

TEST_CASE_FIXTURE(LoopTest, "a coroutine by coCapture that is cancelled is destroyed before its captures") {
  std::string log;
  {
    Promise<void> promise = coCapture([&log, noted = Noted(log, "captures")]() -> Promise<void> {
      Noted local(log, "local");
      co_await NEVER_DONE;
    })();
  }
  CHECK(log == "local captures ");
}

TEST_CASE_FIXTURE(LoopTest, "what coCapture gives may be a continuation") {
  Promise<int> promise = evalLater([] { return 20; }).then(coCapture([one = std::make_unique<int>(1)](int x) -> Promise<int> {
    co_await yield();
    co_return x + *one;
  }));
  CHECK(std::move(promise).wait(scope) == 21);
}

TEST_CASE_FIXTURE(LoopTest, "a second call of what coCapture gives throws FAILED") {
  auto lambda = coCapture([held = std::make_unique<int>(1)]() -> Promise<int> { co_return *held; });
  CHECK(lambda().wait(scope) == 1);
  const Exception e = thrownBy([&] { (void)lambda(); });
  CHECK(kindName(e) == "FAILED");
  CHECK(contains(e.description(), "coCapture"));
}

TEST_CASE_FIXTURE(LoopTest, "a lambda that throws before it is a coroutine leaves its captures to be freed") {
  std::string log;
  {
    auto lambda = coCapture([noted = Noted(log, "captures")]() -> Promise<void> { throw std::runtime_error("x"); });
    CHECK_THROWS_AS((void)lambda(), std::runtime_error);
  }
  CHECK(log == "captures ");
}

TEST_CASE_FIXTURE(LoopTest, "captures that are never called for are freed") {
  std::string log;
  { auto lambda = coCapture([noted = Noted(log, "captures")]() -> Promise<void> { co_return; }); }
  CHECK(log == "captures ");
}

TEST_CASE("cancelling coroutines by coCapture at every step leaves nothing (R5)") {
  const std::size_t steps = cancelSweep([](LoopTest&) {
    return coCapture([held = std::make_unique<int>(3)]() -> Promise<void> {
      for (int i = 0; i < *held; ++i) {
        auto inner = coCapture([local = std::make_unique<int>(i)]() -> Promise<void> { co_await yield(); });
        co_await inner();
      }
    })();
  });
  CHECK(steps >= 4);
}
