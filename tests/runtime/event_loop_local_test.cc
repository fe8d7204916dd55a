// SPDX-License-Identifier: MIT
// EventLoopLocal, EventLoopObserver, and what a loop says when it is destroyed before its promises.
#include "helpers.h"

#include <troth/runtime/canceler.h>
#include <troth/runtime/event_loop_local.h>
#include <troth/runtime/event_loop_observer.h>
#include <troth/runtime/join.h>
#include <troth/runtime/task_set.h>

#include <array>
#include <chrono>
#include <stdexcept>
#include <thread>
#include <vector>

using namespace troth;
using namespace troth::test;

namespace {

std::string* lifeLog = nullptr; // of the test that runs; on its thread only

void noteLife(const char* what) {
  if (lifeLog != nullptr) *lifeLog += what;
}

struct LifeLog {
  std::string log;
  LifeLog() { lifeLog = &log; }
  ~LifeLog() { lifeLog = nullptr; }
};

struct Counter {
  int count = 0;
};
EventLoopLocal<Counter> counter;
EventLoopLocal<Counter> otherCounter;

struct First {
  First() { noteLife("+1 "); }
  ~First() { noteLife("-1 "); }
  int value = 10;
};
EventLoopLocal<First> first;

struct Second {
  Second() : value(first->value + 1) { noteLife("+2 "); }
  ~Second() {
    noteLife(first->value == 10 ? "-2 " : "? ");
  }
  int value;
};
EventLoopLocal<Second> second;

struct ThrowsOnce {
  static inline int made = 0;
  ThrowsOnce() {
    if (++made == 1) throw std::runtime_error("not yet");
  }
};
EventLoopLocal<ThrowsOnce> throwsOnce;

struct Quiet : TaskSet::ErrorHandler {
  void taskFailed(Exception) override {}
};
struct Background : Quiet {
  TaskSet tasks{*this};
};
EventLoopLocal<Background> background;

struct DetachesOnExit {
  ~DetachesOnExit() {
    Promise<void>(NEVER_DONE).attach(std::make_unique<int>(1)).detach([](Exception) {});
    noteLife("detached ");
  }
};
EventLoopLocal<DetachesOnExit> detachesOnExit;

struct MakesAnotherOnExit {
  ~MakesAnotherOnExit() {
    ++counter->count;
    noteLife("made ");
  }
};
EventLoopLocal<MakesAnotherOnExit> makesAnotherOnExit;

class Observer final : public EventLoopObserver {
public:
  std::string& log;
  explicit Observer(std::string& l) : log(l) {}
  void onWaitStart() noexcept override { log += "<"; }
  void onWaitEnd() noexcept override { log += ">"; }
};

/// Hears of slow turns.
class Stopwatch final : public EventLoopObserver {
public:
  explicit Stopwatch(std::chrono::nanoseconds limit) : limit_(limit) {}
  std::chrono::nanoseconds slowTurnLimit() const noexcept override { return limit_; }
  void onSlowTurn(std::chrono::nanoseconds duration, std::string_view trace) noexcept override {
    durations.push_back(duration);
    traces.emplace_back(trace);
  }
  std::vector<std::chrono::nanoseconds> durations;
  std::vector<std::string> traces;

private:
  std::chrono::nanoseconds limit_;
};

class Port final : public EventPort {
public:
  std::string& log;
  std::function<bool()> onWait;
  explicit Port(std::string& l) : log(l) {}
  bool wait() override {
    log += "w";
    return onWait();
  }
  void poll() override { log += "p"; }
  void wake() const override {}
};

} // namespace

// ------------------------------------------------------------------------------------ EventLoopLocal

TEST_CASE("each loop has its own object, made when it is first asked for") {
  LifeLog life;
  {
    LoopTest one;
    CHECK(life.log.empty());
    CHECK(first->value == 10);
    CHECK(life.log == "+1 ");
    first->value = 11;
    CHECK((*first).value == 11);
    CHECK(&first.get() == &*first);
    first->value = 10;
    CHECK(life.log == "+1 ");
  }
  CHECK(life.log == "+1 -1 ");
  LoopTest another;
  CHECK(first->value == 10);
  CHECK(life.log == "+1 -1 +1 ");
}

TEST_CASE_FIXTURE(LoopTest, "two locals of one type are two objects") {
  counter->count = 1;
  otherCounter->count = 2;
  CHECK(counter->count == 1);
  CHECK(otherCounter->count == 2);
}

TEST_CASE("locals are destroyed with the loop, the newest first, and may use the older ones to the last") {
  LifeLog life;
  {
    LoopTest fixture;
    CHECK(second->value == 11);
    CHECK(life.log == "+1 +2 ");
  }
  CHECK(life.log == "+1 +2 -2 -1 ");
}

TEST_CASE("detached promises are cancelled before the locals that they may use") {
  LifeLog life;
  std::string log;
  {
    LoopTest fixture;
    struct UsesLocal {
      bool armed = true;
      UsesLocal() = default;
      UsesLocal(UsesLocal&& other) noexcept : armed(std::exchange(other.armed, false)) {}
      ~UsesLocal() {
        if (armed) noteLife(first->value == 10 ? "promise " : "? ");
      }
    };
    (void)first.get();
    Promise<void>(NEVER_DONE).attach(UsesLocal()).detach([](Exception) {});
    fixture.scope.poll();
  }
  CHECK(life.log == "+1 promise -1 ");
}

TEST_CASE("a local may own tasks, which are cancelled with it") {
  std::string log;
  {
    LoopTest fixture;
    background->tasks.add(Promise<void>(NEVER_DONE).attach(Noted(log, "task")));
    fixture.scope.poll();
    CHECK(log.empty());
  }
  CHECK(log == "task ");
}

TEST_CASE("a local's destructor may detach promises and make other locals, and nothing is left") {
  LifeLog life;
  {
    LoopTest fixture;
    (void)detachesOnExit.get();
    (void)makesAnotherOnExit.get();
  }
  CHECK(life.log == "made detached ");
}

TEST_CASE_FIXTURE(LoopTest, "a local whose constructor throws is made when it is asked for again") {
  ThrowsOnce::made = 0;
  CHECK_THROWS_AS((void)throwsOnce.get(), std::runtime_error);
  (void)throwsOnce.get();
  (void)throwsOnce.get();
  CHECK(ThrowsOnce::made == 2);
}

TEST_CASE("a local on a thread without a loop throws and names the caller") {
  const Exception e = thrownBy([] { (void)counter.get(); });
  CHECK(kindName(e) == "FAILED");
  CHECK(contains(e.description(), "no event loop"));
  CHECK(fileOf(e) == "event_loop_local_test.cc");
}

TEST_CASE("the loops of several threads have an object each") {
  std::array<int, 4> counts{};
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < counts.size(); ++t)
    threads.emplace_back([&count = counts[t], t] {
      EventLoop loop;
      WaitScope scope(loop);
      for (std::size_t i = 0; i <= t; ++i) evalLater([] { ++counter->count; }).wait(scope);
      count = counter->count;
    });
  for (std::thread& thread : threads) thread.join();
  CHECK(counts == std::array{1, 2, 3, 4});
}

TEST_CASE_FIXTURE(LoopTest, "locals may be used in continuations and coroutines") {
  auto body = []() -> Promise<int> {
    ++counter->count;
    co_await yield();
    co_return ++counter->count;
  };
  CHECK(body().wait(scope) == 2);
}

// ---------------------------------------------------------------------------------- EventLoopObserver

TEST_CASE("an observer hears exactly when the loop waits for the world and goes on") {
  NothingLeft nothingLeft;
  std::string log;
  Port port(log);
  Observer observer(log);
  EventLoop loop(port);
  WaitScope scope(loop);
  CHECK(loop.observer() == nullptr);
  loop.setObserver(&observer);
  CHECK(loop.observer() == &observer);
  auto pair = newPromiseAndFulfiller<void>();
  int waits = 0;
  port.onWait = [&] {
    if (++waits == 2) pair.fulfiller->fulfill();
    return true;
  };
  std::move(pair.promise).then([&] { log += "ran"; }).wait(scope);
  CHECK(log == "<w><w>ran");
  log.clear();
  evalLater([] {}).wait(scope);
  scope.poll();
  (void)Promise<void>(NEVER_DONE).poll(scope);
  CHECK_FALSE(contains(log, "<"));
  log.clear();
  loop.setObserver(nullptr);
  waits = 1;
  auto again = newPromiseAndFulfiller<void>();
  port.onWait = [&] {
    again.fulfiller->fulfill();
    return true;
  };
  std::move(again.promise).wait(scope);
  CHECK(log == "w");
}

TEST_CASE("an observer hears the end of a wait that finds a deadlock, or that throws") {
  NothingLeft nothingLeft;
  std::string log;
  Port port(log);
  Observer observer(log);
  EventLoop loop(port);
  WaitScope scope(loop);
  loop.setObserver(&observer);
  SUBCASE("a deadlock") {
    port.onWait = [] { return false; };
    CHECK(contains(thrownBy([&] { NEVER_DONE.wait(scope); }).description(), "deadlock"));
  }
  SUBCASE("an exception") {
    port.onWait = []() -> bool { throw std::runtime_error("the port"); };
    CHECK_THROWS_AS(NEVER_DONE.wait(scope), std::runtime_error);
  }
  CHECK(log == "<w>");
}

TEST_CASE_FIXTURE(LoopTest, "an observer hears of a slow turn, how long it was and what ran (R12)") {
  using Clock = std::chrono::steady_clock;
  std::chrono::nanoseconds worked{};
  const auto work = [&]() -> Promise<void> {
    co_await yield();
    const auto begin = Clock::now();
    while (Clock::now() == begin) continue; // one tick of the clock, however long that is
    worked = Clock::now() - begin;
  };
  const auto waits = [&]() -> Promise<void> { co_await work(); };
  Stopwatch patient(std::chrono::hours(1));
  loop.setObserver(&patient);
  waits().wait(scope);
  CHECK(patient.traces.empty());
  Stopwatch strict(std::chrono::nanoseconds(0));
  loop.setObserver(&strict);
  waits().wait(scope);
  REQUIRE_FALSE(strict.traces.empty());
  CHECK((strict.durations[0] >= worked));
  CHECK_MESSAGE(contains(strict.traces[0], "coroutine at"), strict.traces[0]);
  CHECK(contains(strict.traces[0], "event_loop_local_test.cc"));
  CHECK_MESSAGE(contains(strict.traces[0], "wait at"), strict.traces[0]);
  loop.setObserver(nullptr);
  const std::size_t heard = strict.traces.size();
  work().wait(scope);
  CHECK(strict.traces.size() == heard);
}

TEST_CASE_FIXTURE(LoopTest, "every turn counts as slow with a limit below zero, and none with the greatest") {
  Stopwatch all(std::chrono::nanoseconds(-1));
  Stopwatch none(std::chrono::nanoseconds::max());
  std::string log;
  const auto inner = [&]() -> Promise<void> {
    co_await yield();
    log += "inner ";
  };
  const auto outer = [&]() -> Promise<void> {
    co_await inner();
    log += "outer ";
  };
  loop.setObserver(&all);
  Promise<void> promise = outer();
  CHECK(scope.poll(1) == 1);
  CHECK(log == "inner ");
  CHECK(scope.poll(1) == 1); // the one that waited for it
  CHECK(log == "inner outer ");
  CHECK(all.traces.size() == 2);
  std::move(promise).wait(scope);
  loop.setObserver(&none);
  outer().wait(scope);
  CHECK(all.traces.size() == 2);
  CHECK(none.traces.empty());
  loop.setObserver(nullptr);
}

TEST_CASE_FIXTURE(LoopTest, "a slow turn may take the observer away, and destroy what ran") {
  struct Observer final : EventLoopObserver {
    EventLoop* loop = nullptr;
    int heard = 0;
    std::chrono::nanoseconds slowTurnLimit() const noexcept override { return std::chrono::nanoseconds(-1); }
    void onSlowTurn(std::chrono::nanoseconds, std::string_view) noexcept override { ++heard; }
  } observer;
  loop.setObserver(&observer);
  Promise<void> after = evalLater([] {}).eagerlyEvaluate(nullptr);
  evalLater([&] { loop.setObserver(nullptr); }).eagerlyEvaluate(nullptr).wait(scope);
  CHECK(observer.heard == 1); // of the one that was queued before
  loop.setObserver(&observer);
  std::optional<Promise<void>> gone = Promise<void>(NEVER_DONE).eagerlyEvaluate(nullptr);
  evalLater([&] { gone.reset(); }).eagerlyEvaluate(nullptr).wait(scope);
  loop.setObserver(nullptr);
  CHECK(observer.heard > 1);
}

// ---------------------------------------------------------------- a loop that goes before its promises

TEST_CASE("a loop that is destroyed before its promises aborts and names where the newest was made") {
  using Left = std::shared_ptr<void>;
  using Make = std::function<Left()>;
  const auto keep = [](auto promise) { return std::make_shared<decltype(promise)>(std::move(promise)); };
  struct Set : Quiet {
    TaskSet tasks{*this};
  };
  static Canceler canceler; // outlives the loop, as what it wraps does here
  unsigned line = 0;
  const auto here = [&line](std::source_location where = std::source_location::current()) { line = where.line(); };
  const std::pair<std::string, Make> cases[] = {
      {"eagerlyEvaluate", [&] { here(); return keep(Promise<void>(NEVER_DONE).eagerlyEvaluate(nullptr)); }},
      {"coroutine", [&] { return keep([](const auto& note) -> Promise<void> { note(); co_await NEVER_DONE; }(here)); }},
      {"then", [&] { here(); return keep(Promise<void>(NEVER_DONE).then([]() -> Promise<int> { return 1; })); }},
      {"fork", [&] { here(); return keep(Promise<int>(NEVER_DONE).fork()); }},
      {"exclusiveJoin", [&] { here(); return keep(Promise<int>(NEVER_DONE).exclusiveJoin(NEVER_DONE)); }},
      {"joinPromisesFailFast", [&] {
         std::vector<Promise<int>> parts;
         parts.push_back(NEVER_DONE);
         here(); return keep(joinPromisesFailFast(std::move(parts)));
       }},
      {"Canceler::wrap", [&] { here(); return keep(canceler.wrap(Promise<int>(NEVER_DONE))); }},
      {"task", [&] {
         auto set = std::make_shared<Set>();
         here(); set->tasks.add(NEVER_DONE);
         return Left(set);
       }},
  };
  for (const auto& [name, make] : cases) {
    CAPTURE(name);
    const ChildEnd end = runInChild([&make = make, &line] {
      Left older;
      Left newest;
      EventLoop loop;
      WaitScope scope(loop);
      older = std::make_shared<Promise<void>>(Promise<void>(NEVER_DONE).eagerlyEvaluate(nullptr));
      newest = make();
      std::fprintf(stderr, "expected: event_loop_local_test.cc:%u\n", line);
    });
    CHECK(end.aborted);
    CHECK_MESSAGE(contains(end.errors, "still wait on it"), end.errors);
    const std::size_t expected = end.errors.find("expected: ");
    REQUIRE(expected != std::string::npos);
    const std::string place = end.errors.substr(expected + 10, end.errors.find('\n', expected) - expected - 10);
    CHECK_MESSAGE(contains(std::string_view(end.errors).substr(expected + 10 + place.size()), place), end.errors);
    CHECK_MESSAGE(contains(end.errors, name), end.errors);
  }
}

TEST_CASE("a loop that is destroyed by one of its events aborts and says so") {
  const ChildEnd end = runInChild([] {
    auto loop = std::make_unique<EventLoop>();
    auto scope = std::make_unique<WaitScope>(*loop);
    Promise<void> promise = evalLater([&] { loop.reset(); }).eagerlyEvaluate(nullptr);
    scope->poll();
  });
  CHECK(end.aborted);
  CHECK(contains(end.errors, "from inside one of its events"));
}
