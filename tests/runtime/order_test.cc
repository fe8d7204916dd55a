// SPDX-License-Identifier: MIT
// The order in which things run: the queue itself, then what each sort of step makes of it; the same as KJ's.
#include "helpers.h"

#include <troth/runtime/canceler.h>
#include <troth/runtime/event_detail.h>
#include <troth/runtime/join.h>
#include <troth/runtime/task_set.h>

#include <deque>
#include <vector>

using namespace troth;
using namespace troth::test;

namespace {

enum class Arm { DEPTH, BREADTH, LAST };
using enum Arm;

/// A loop whose events write their names into a log and arm others.
struct QueueTest : LoopTest {
  class Named final : public detail::Event {
  public:
    Named(QueueTest& test, char name) : Event(test.loop), test_(test), name_(name) {}

    void arm(Arm how) {
      switch (how) {
      case DEPTH: return armDepthFirst();
      case BREADTH: return armBreadthFirst();
      case LAST: return armLast();
      }
    }

    std::vector<std::pair<char, Arm>> then; // what it arms when it runs

  private:
    QueueTest& test_;
    char name_;

    void fire() noexcept override {
      test_.log += name_;
      for (const auto& [name, how] : then) test_.event(name).arm(how);
    }
  };

  Named& event(char name) { return events[static_cast<std::size_t>(name - 'a')]; }

  /// Arms the events of `names` in turn.
  void arm(Arm how, std::string_view names) {
    for (const char name : names) event(name).arm(how);
  }

  std::string run() {
    scope.poll();
    return std::exchange(log, {});
  }

  std::string log;
  std::deque<Named> events;

  QueueTest() {
    for (char name = 'a'; name <= 'h'; ++name) events.emplace_back(*this, name);
  }
};

struct FailOnError final : TaskSet::ErrorHandler {
  void taskFailed(Exception exception) override { FAIL_CHECK(exception.what()); }
};

/// A loop with tasks that write into a log. What `inTurn` makes is made inside of a turn, as most things are.
struct TaskTest : LoopTest {
  FailOnError handler;
  std::string log;
  TaskSet tasks{handler};

  auto note(std::string name) {
    return [this, name = std::move(name)] { log += name; };
  }

  template <typename Func>
  std::string inTurn(Func func) {
    tasks.add(evalLater(std::move(func)));
    scope.poll();
    return std::exchange(log, {});
  }

  static void fulfill(PromiseFulfillerPair<void>& pair) { pair.fulfiller->fulfill(); }
};

} // namespace

// ------------------------------------------------------------------------------------------ the queue

TEST_CASE_FIXTURE(QueueTest, "an event that is armed in any way runs once") {
  for (const Arm how : {DEPTH, BREADTH, LAST}) {
    event('a').arm(how);
    CHECK(event('a').isArmed());
    CHECK(run() == "a");
    CHECK_FALSE(event('a').isArmed());
    CHECK(run().empty());
  }
}

TEST_CASE_FIXTURE(QueueTest, "events that are armed alike run in the order of arming, those armed last in the opposite") {
  arm(DEPTH, "abc");
  CHECK(run() == "abc");
  arm(BREADTH, "abc");
  CHECK(run() == "abc");
  arm(LAST, "abc");
  CHECK(run() == "cba");
}

TEST_CASE_FIXTURE(QueueTest, "depth-first runs before breadth-first, and that before last, however they were armed") {
  event('a').arm(BREADTH);
  event('b').arm(DEPTH);
  event('c').arm(LAST);
  event('d').arm(DEPTH);
  event('e').arm(BREADTH);
  event('f').arm(LAST);
  CHECK(run() == "bdaefc");

  arm(LAST, "ab");
  arm(BREADTH, "cd");
  arm(DEPTH, "ef");
  CHECK(run() == "efcdba");

  event('a').arm(BREADTH);
  arm(LAST, "bc");
  event('d').arm(BREADTH);
  CHECK(run() == "adcb");
}

TEST_CASE_FIXTURE(QueueTest, "what an event arms depth-first runs right after it, in the order of arming") {
  SUBCASE("before those that were armed depth-first earlier") {
    event('a').then = {{'c', DEPTH}, {'d', DEPTH}};
    arm(DEPTH, "ab");
    CHECK(run() == "acdb");
  }
  SUBCASE("before those that were armed breadth-first earlier") {
    event('a').then = {{'c', DEPTH}};
    arm(BREADTH, "abd");
    CHECK(run() == "acbd");
  }
  SUBCASE("each before what its elder siblings' siblings left") {
    event('a').then = {{'b', DEPTH}, {'g', DEPTH}};
    event('b').then = {{'c', DEPTH}, {'f', DEPTH}};
    event('c').then = {{'d', DEPTH}, {'e', DEPTH}};
    arm(DEPTH, "ah");
    CHECK(run() == "abcdefgh");
  }
}

TEST_CASE_FIXTURE(QueueTest, "what an event arms breadth-first runs after all that is queued, but before what is armed last") {
  event('a').then = {{'d', BREADTH}, {'e', BREADTH}};
  arm(LAST, "f");
  arm(DEPTH, "ab");
  arm(BREADTH, "c");
  CHECK(run() == "abcdef");
}

TEST_CASE_FIXTURE(QueueTest, "what an event arms last runs after all else, the last one first") {
  event('a').then = {{'e', LAST}, {'d', LAST}};
  event('b').then = {{'c', BREADTH}};
  event('f').then = {};
  arm(LAST, "f");
  arm(DEPTH, "ab");
  CHECK(run() == "abcdef");
}

TEST_CASE_FIXTURE(QueueTest, "what runs last and arms others lets them run before the rest of the last") {
  event('a').then = {{'c', BREADTH}, {'b', DEPTH}};
  event('c').then = {{'d', LAST}};
  arm(LAST, "ea");
  CHECK(run() == "abcde");
}

TEST_CASE_FIXTURE(QueueTest, "a disarmed event does not run, and the others keep their order") {
  for (const char gone : {'a', 'b', 'c'}) {
    for (const Arm how : {DEPTH, BREADTH, LAST}) {
      CAPTURE(gone);
      arm(how, "abc");
      event(gone).disarm();
      CHECK_FALSE(event(gone).isArmed());
      std::string rest = how == LAST ? "cba" : "abc";
      rest.erase(rest.find(gone), 1);
      CHECK(run() == rest);
    }
  }
  event('a').disarm(); // of what is not armed: no effect
  CHECK(run().empty());
}

TEST_CASE_FIXTURE(QueueTest, "an event that was disarmed may be armed in another way") {
  arm(DEPTH, "ab");
  event('a').disarm();
  event('a').arm(BREADTH);
  CHECK(run() == "ba");
}

TEST_CASE_FIXTURE(QueueTest, "arming what is armed changes nothing") {
  arm(DEPTH, "ab");
  event('a').arm(BREADTH);
  event('a').arm(LAST);
  event('a').arm(DEPTH);
  CHECK(run() == "ab");
  arm(LAST, "ab");
  event('a').arm(DEPTH);
  CHECK(run() == "ba");
}

TEST_CASE_FIXTURE(QueueTest, "after the newest of its sort is disarmed, the next one takes its place") {
  SUBCASE("depth-first") {
    arm(DEPTH, "ab");
    arm(BREADTH, "c");
    event('b').disarm();
    arm(DEPTH, "d");
    CHECK(run() == "adc");
  }
  SUBCASE("depth-first, the only one") {
    arm(BREADTH, "c");
    arm(DEPTH, "a");
    event('a').disarm();
    arm(DEPTH, "d");
    CHECK(run() == "dc");
  }
  SUBCASE("breadth-first") {
    arm(BREADTH, "ab");
    arm(LAST, "c");
    event('b').disarm();
    arm(BREADTH, "d");
    CHECK(run() == "adc");
  }
  SUBCASE("breadth-first, at the end of the queue") {
    arm(BREADTH, "ab");
    event('b').disarm();
    arm(BREADTH, "c");
    CHECK(run() == "ac");
  }
  SUBCASE("last") {
    arm(LAST, "ab");
    event('b').disarm();
    arm(LAST, "c");
    CHECK(run() == "ca");
  }
  SUBCASE("inside of a turn") {
    event('a').then = {{'b', DEPTH}, {'c', DEPTH}};
    arm(DEPTH, "ad");
    loop.run(1);
    event('c').disarm();
    event('b').disarm();
    arm(DEPTH, "ef");
    CHECK(run() == "aefd");
  }
}

TEST_CASE_FIXTURE(QueueTest, "between two turns depth-first goes to the front, breadth-first to the end") {
  arm(DEPTH, "ab");
  arm(BREADTH, "c");
  CHECK(scope.poll(1) == 1);
  arm(DEPTH, "de");
  arm(BREADTH, "f");
  CHECK(run() == "adebcf");

  arm(BREADTH, "ab");
  CHECK(scope.poll(1) == 1);
  arm(BREADTH, "c");
  CHECK(run() == "abc");
}

TEST_CASE_FIXTURE(QueueTest, "an event that is destroyed while it is armed leaves the queue") {
  for (const Arm how : {DEPTH, BREADTH, LAST}) {
    event('a').arm(how);
    {
      Named gone(*this, 'x');
      gone.arm(how);
    }
    event('b').arm(how);
    CHECK(run() == (how == LAST ? "ba" : "ab"));
  }
}

TEST_CASE_FIXTURE(QueueTest, "an event may arm itself again, and others run between") {
  event('a').then = {{'a', BREADTH}};
  arm(BREADTH, "ab");
  CHECK(loop.run(4) == 4);
  CHECK(log == "abaa");
  event('a').disarm();
}

// ------------------------------------------------------------------------------------------ continuations

TEST_CASE_FIXTURE(TaskTest, "a promise that is resolved while somebody waits is heard of next, one that was ready before in its turn") {
  const std::string order = inTurn([this] {
    auto before = newPromiseAndFulfiller<void>();
    fulfill(before);
    tasks.add(std::move(before.promise).then(note("3")));
    tasks.add(evalLater(note("4")));
    auto after = newPromiseAndFulfiller<void>();
    tasks.add(std::move(after.promise).then(note("1")).then(note("2")));
    fulfill(after);
  });
  CHECK(order == "1234");
}

TEST_CASE_FIXTURE(TaskTest, "of several that wait, the first to be resolved is heard of first") {
  const std::string order = inTurn([this] {
    PromiseFulfillerPair<void> pairs[] = {newPromiseAndFulfiller<void>(), newPromiseAndFulfiller<void>(),
                                          newPromiseAndFulfiller<void>()};
    for (int i = 0; i < 3; ++i) tasks.add(std::move(pairs[i].promise).then(note(std::to_string(i))));
    for (const int i : {1, 2, 0}) fulfill(pairs[i]);
  });
  CHECK(order == "120");
}

TEST_CASE_FIXTURE(TaskTest, "trailing continuations of a chain run together, in one event") {
  const std::string order = inTurn([this] {
    tasks.add(evalLater(note("1")).then(note("2")).then(note("3")));
    tasks.add(evalLater(note("4")));
  });
  CHECK(order == "1234");
}

TEST_CASE_FIXTURE(TaskTest, "a continuation that returns a ready promise lets the queue go first, and one that is resolved later does not") {
  auto pair = newPromiseAndFulfiller<void>();
  SUBCASE("ready") {
    const std::string order = inTurn([this] {
      tasks.add(evalLater([this]() -> Promise<void> {
                  log += "1";
                  return READY_NOW;
                }).then(note("3")));
      tasks.add(evalLater(note("2")));
    });
    CHECK(order == "123");
  }
  SUBCASE("resolved later") {
    const std::string order = inTurn([&, this] {
      tasks.add(evalLater([&, this]() -> Promise<void> {
                  log += "1";
                  return std::move(pair.promise);
                }).then(note("3")));
      tasks.add(evalLater([&, this] {
        log += "2";
        pair.fulfiller->fulfill();
      }));
      tasks.add(evalLater(note("4")));
    });
    CHECK(order == "1234");
  }
}

TEST_CASE_FIXTURE(TaskTest, "a task that returns a ready promise does not get before what an earlier task resolved") {
  tasks.add(evalLater([this] {
    log += "0";
    auto pair = newPromiseAndFulfiller<void>();
    tasks.add(std::move(pair.promise).then(note("1")));
    fulfill(pair);
    tasks.add(evalLater(note("3")));
  }));
  tasks.add(evalLater([this]() -> Promise<void> {
    log += "2";
    return READY_NOW;
  }));
  scope.poll();
  CHECK(log == "0123");
}

TEST_CASE_FIXTURE(TaskTest, "error handlers run where the continuations would have") {
  const std::string order = inTurn([this] {
    auto pair = newPromiseAndFulfiller<void>();
    tasks.add(std::move(pair.promise).catch_([this](Exception) { log += "1"; }));
    tasks.add(Promise<void>(Exception(Exception::Kind::FAILED, "x")).catch_([this](Exception) { log += "2"; }));
    tasks.add(evalLater(note("3")));
    pair.fulfiller->reject(Exception(Exception::Kind::FAILED, "x"));
  });
  CHECK(order == "123");
}

TEST_CASE_FIXTURE(TaskTest, "evaluating eagerly what is eager already changes the order no further") {
  const std::string order = inTurn([this] {
    auto pair = newPromiseAndFulfiller<void>();
    tasks.add(std::move(pair.promise).then(note("1")).eagerlyEvaluate(nullptr).then(note("2")).eagerlyEvaluate(nullptr).then(note("3")));
    tasks.add(evalLater(note("4")));
    fulfill(pair);
  });
  CHECK(order == "1234");
}

TEST_CASE_FIXTURE(TaskTest, "an eager promise that has ended is ready for who comes then, who waits for his turn") {
  Promise<void> ended = evalLater(note("0")).eagerlyEvaluate(nullptr);
  scope.poll();
  const std::string order = inTurn([&, this] {
    tasks.add(evalLater(note("1")));
    tasks.add(std::move(ended).then(note("2")));
    tasks.add(evalLater(note("3")));
  });
  CHECK(order == "0123");
}

TEST_CASE_FIXTURE(TaskTest, "wait runs what is queued before it, and of what is queued after only what it must") {
  tasks.add(evalLater(note("1")));
  tasks.add(evalLater([this] {
    log += "2";
    tasks.add(evalLater(note("5")));
  }));
  evalLater(note("4")).wait(scope);
  CHECK(log == "124");
  tasks.add(evalLater(note("6")));
  yieldUntilQueueEmpty().then(note("7")).wait(scope);
  CHECK(log == "124567");
}

// ------------------------------------------------------------------------------ later, last, and between

TEST_CASE_FIXTURE(TaskTest, "evalLater is queued when somebody begins to wait, not when it is called") {
  Promise<void> first = evalLater(note("2"));
  Promise<void> second = evalLater(note("1"));
  tasks.add(std::move(second));
  tasks.add(std::move(first));
  scope.poll();
  CHECK(log == "12");
}

TEST_CASE_FIXTURE(TaskTest, "evalLast in a chain of evalLast waits each time until all else is done") {
  tasks.add(evalLast([this] {
    log += "3";
    tasks.add(evalLater([this] {
      log += "4";
      tasks.add(evalLater(note("5")));
    }));
    return evalLast(note("6"));
  }));
  tasks.add(evalLater([this] {
    log += "1";
    return evalLater(note("2"));
  }));
  scope.poll();
  CHECK(log == "123456");
}

TEST_CASE_FIXTURE(TaskTest, "a flood of evalLater keeps evalLast waiting until it ends") {
  int laps = 0;
  const std::function<Promise<void>()> flood = [&]() -> Promise<void> {
    if (++laps == 1000) return READY_NOW;
    return evalLater([&] { return flood(); });
  };
  tasks.add(evalLast([&] { log += std::to_string(laps); }));
  tasks.add(flood());
  scope.poll();
  CHECK(log == "1000");
}

TEST_CASE_FIXTURE(TaskTest, "a cancelled evalLater or evalLast leaves the order of the others as it was") {
  std::vector<Promise<void>> promises;
  for (const char* name : {"1", "x", "2"}) promises.push_back(evalLater(note(name)).eagerlyEvaluate(nullptr));
  for (const char* name : {"4", "x", "3"}) promises.push_back(evalLast(note(name)).eagerlyEvaluate(nullptr));
  promises.erase(promises.begin() + 4);
  promises.erase(promises.begin() + 1);
  scope.poll();
  CHECK(log == "1234");
}

// -------------------------------------------------------------------------------------- forks and joins

TEST_CASE_FIXTURE(TaskTest, "what a branch's continuation resolves runs before the next branch's") {
  const std::string order = inTurn([this] {
    auto pair = newPromiseAndFulfiller<void>();
    auto nested = newPromiseAndFulfiller<void>();
    ForkedPromise<void> fork = std::move(pair.promise).fork();
    tasks.add(std::move(nested.promise).then(note("2")));
    tasks.add(fork.addBranch().then([this, f = std::move(nested.fulfiller)] {
      log += "1";
      f->fulfill();
    }));
    tasks.add(fork.addBranch().then(note("3")));
    tasks.add(evalLater(note("4")));
    fulfill(pair);
  });
  CHECK(order == "1234");
}

TEST_CASE_FIXTURE(TaskTest, "a branch that waits for another promise as well is heard of when both are there") {
  const std::string order = inTurn([this] {
    auto first = newPromiseAndFulfiller<void>();
    auto second = newPromiseAndFulfiller<void>();
    ForkedPromise<void> fork = std::move(first.promise).fork();
    tasks.add(joinPromisesFailFast(fork.addBranch(), std::move(second.promise)).then([this](auto) { log += "2"; }));
    tasks.add(fork.addBranch().then(note("1")));
    fulfill(first);
    fulfill(second);
    tasks.add(evalLater(note("3")));
  });
  CHECK(order == "123");
}

TEST_CASE_FIXTURE(TaskTest, "an exclusiveJoin is heard of right after its first half, before what that half's resolver queued") {
  const std::string order = inTurn([this] {
    auto pair = newPromiseAndFulfiller<void>();
    tasks.add(std::move(pair.promise).then(note("1")).exclusiveJoin(NEVER_DONE).then(note("2")));
    fulfill(pair);
    tasks.add(evalLater(note("3")));
  });
  CHECK(order == "123");
}

TEST_CASE_FIXTURE(TaskTest, "an exclusiveJoin whose halves are both ready counts once in what it is part of") {
  std::vector<Promise<int>> parts;
  parts.push_back(Promise<int>(1).exclusiveJoin(Promise<int>(2)));
  parts.push_back(NEVER_DONE);
  SUBCASE("joinPromises") { CHECK_FALSE(joinPromises(std::move(parts)).poll(scope)); }
  SUBCASE("joinPromisesFailFast") { CHECK_FALSE(joinPromisesFailFast(std::move(parts)).poll(scope)); }
  SUBCASE("another exclusiveJoin, in a join") {
    std::vector<Promise<int>> more;
    more.push_back(std::move(parts[0]).exclusiveJoin(evalLater([] { return 3; })));
    more.push_back(NEVER_DONE);
    CHECK_FALSE(joinPromises(std::move(more)).poll(scope));
  }
}

TEST_CASE_FIXTURE(TaskTest, "trailing continuations of a join's parts run when the join is asked for, eager ones when they can") {
  const std::string order = inTurn([this] {
    auto pair = newPromiseAndFulfiller<void>();
    std::vector<Promise<void>> parts;
    parts.push_back(evalLater(note("2")));
    parts.push_back(evalLater(note("1")).eagerlyEvaluate(nullptr));
    parts.push_back(std::move(pair.promise).then(note("4")));
    tasks.add(joinPromises(std::move(parts)).then(note("5")));
    tasks.add(evalLater([f = std::move(pair.fulfiller), this] {
      log += "0";
      f->fulfill();
    }));
    tasks.add(evalLater(note("6")));
  });
  CHECK(order == "102456");
}

TEST_CASE_FIXTURE(TaskTest, "the holder of cancelled work hears of it like of any promise that is resolved") {
  Canceler canceler;
  std::vector<Promise<void>> holders;
  for (const char* name : {"1", "2"}) {
    holders.push_back(canceler.wrap(Promise<void>(NEVER_DONE))
                          .catch_([this, name](Exception) { log += name; })
                          .eagerlyEvaluate(nullptr));
  }
  const std::string order = inTurn([&, this] {
    tasks.add(evalLater(note("3")));
    canceler.cancel("stop");
  });
  CHECK(order == "213"); // the newest is cancelled first
}

// --------------------------------------------------------------------------------------------- coroutines

TEST_CASE_FIXTURE(TaskTest, "a coroutine that is resumed runs before what is queued, one that finds its promise ready in its turn") {
  const auto body = [this](Promise<void> awaited, std::string name) -> Promise<void> {
    co_await std::move(awaited);
    log += name;
  };
  const std::string order = inTurn([&, this] {
    auto pair = newPromiseAndFulfiller<void>();
    tasks.add(evalLater(note("2")));
    tasks.add(body(READY_NOW, "3"));
    tasks.add(body(std::move(pair.promise), "1"));
    tasks.add(evalLater(note("4")));
    fulfill(pair);
  });
  CHECK(order == "1234");
}

TEST_CASE_FIXTURE(TaskTest, "coroutines that wait for each other end from the inside out before anything else runs") {
  struct Nest {
    static Promise<void> run(std::string& log, int depth, Promise<void> innermost) {
      if (depth == 0)
        co_await std::move(innermost);
      else
        co_await run(log, depth - 1, std::move(innermost));
      log += std::to_string(depth);
    }
  };
  const std::string order = inTurn([this] {
    auto pair = newPromiseAndFulfiller<void>();
    tasks.add(Nest::run(log, 3, std::move(pair.promise)));
    tasks.add(evalLater(note("4")));
    fulfill(pair);
  });
  CHECK(order == "01234");
}

TEST_CASE_FIXTURE(TaskTest, "continuations and coroutines that wait for one fork hear in the order in which they came") {
  auto pair = newPromiseAndFulfiller<void>();
  ForkedPromise<void> fork = std::move(pair.promise).fork();
  const auto body = [&, this](std::string name) -> Promise<void> {
    co_await fork;
    log += name;
  };
  tasks.add(fork.addBranch().then(note("1")));
  tasks.add(body("2"));
  tasks.add(fork.addBranch().then(note("3")));
  tasks.add(body("4"));
  scope.poll();
  CHECK(log.empty());
  fulfill(pair);
  scope.poll();
  CHECK(log == "1234");
}

// ------------------------------------------------------------------ what runs without a trip through the queue

TEST_CASE_FIXTURE(LoopTest, "who waits for work that ends runs next, but behind what the work itself has resolved before") {
  std::string log;
  auto pair = newPromiseAndFulfiller<void>();
  Promise<void> resolved = std::move(pair.promise).then([&] { log += "resolved "; }).eagerlyEvaluate(nullptr);
  const auto ends = [&] {
    log += "ends ";
    pair.fulfiller->fulfill();
  };
  std::function<Promise<void>()> work;
  SUBCASE("a coroutine") {
    work = [&]() -> Promise<void> {
      return [](auto& e) -> Promise<void> {
        co_await yield();
        e();
      }(ends);
    };
  }
  SUBCASE("an eager promise") {
    work = [&] { return evalLater([&] { ends(); }).eagerlyEvaluate(nullptr); };
  }
  SUBCASE("an exclusiveJoin") {
    work = [&] { return evalLater([&] { ends(); }).eagerlyEvaluate(nullptr).exclusiveJoin(NEVER_DONE); };
  }
  SUBCASE("a join that fails fast") {
    work = [&] { return joinPromisesFailFast(evalLater([&] { ends(); })).ignoreResult(); };
  }
  SUBCASE("a Canceler") {
    work = [&, canceler = std::make_shared<Canceler>()] { return canceler->wrap(evalLater([&] { ends(); })); };
  }
  const auto waits = [&]() -> Promise<void> {
    co_await work();
    log += "goes on ";
  };
  Promise<void> waiter = waits();
  Promise<void> other = evalLater([&] { log += "other "; }).eagerlyEvaluate(nullptr);
  scope.poll();
  CHECK(log.find("resolved") < log.find("goes on"));
  CHECK(log.find("ends") < log.find("resolved"));
  if (log.starts_with("ends resolved goes on other")) CHECK(log == "ends resolved goes on other ");
}

TEST_CASE_FIXTURE(LoopTest, "a coroutine that ends is followed by the one that waits for it, before all that is queued") {
  std::string log;
  const auto child = [&]() -> Promise<void> {
    co_await yield();
    log += "child ";
  };
  const auto parent = [&]() -> Promise<void> {
    co_await child();
    log += "parent ";
  };
  const auto grandparent = [&]() -> Promise<void> {
    co_await parent();
    log += "grandparent ";
  };
  Promise<void> promise = grandparent();
  Promise<void> other = evalLater([&] { log += "other "; }).eagerlyEvaluate(nullptr);
  SUBCASE("in one go") { scope.poll(); }
  SUBCASE("turn by turn") {
    for (const std::string_view expected : {"child ", "child parent ", "child parent grandparent "}) {
      CHECK(loop.isRunnable());
      CHECK(scope.poll(1) == 1);
      CHECK(log == expected);
    }
    scope.poll();
  }
  CHECK(log == "child parent grandparent other ");
}

TEST_CASE_FIXTURE(LoopTest, "who is to run next may be destroyed before, when turns end there") {
  std::string log;
  const auto child = [&]() -> Promise<void> {
    co_await yield();
    log += "child ";
  };
  const auto parent = [&]() -> Promise<void> {
    co_await child();
    log += "parent ";
  };
  {
    Promise<void> promise = parent();
    CHECK(scope.poll(1) == 1);
    CHECK(loop.isRunnable());
  }
  CHECK_FALSE(loop.isRunnable());
  CHECK(scope.poll() == 0);
  CHECK(log == "child ");
}
