// SPDX-License-Identifier: MIT
// EventLoop: the order of events, running and waiting on a port, fairness, misuse.
#include "helpers.h"

#include <troth/runtime/task_set.h>

#include <stdexcept>
#include <thread>
#include <vector>

using namespace troth;
using namespace troth::test;

namespace {

class FailOnError final : public TaskSet::ErrorHandler {
public:
  void taskFailed(Exception exception) override { FAIL_CHECK("a task failed: " << exception.what()); }
};

/// A port whose world is a list of things to happen, one for each wait().
class ScriptedPort final : public EventPort {
public:
  std::vector<std::function<void()>> script;
  std::function<void()> onPoll;
  std::string log;
  std::size_t polls = 0;
  std::size_t waits = 0;

  bool wait() override {
    ++waits;
    if (script.empty()) throw std::runtime_error("the script is over");
    auto next = std::move(script.front());
    script.erase(script.begin());
    next();
    return true;
  }
  void poll() override {
    ++polls;
    if (onPoll) onPoll();
  }
  void wake() const override {}
  void setRunnable(bool runnable) noexcept override { log += runnable ? "+" : "-"; }
};

Promise<void> forEver(const bool& stop, std::size_t& laps) {
  return evalLater([&]() -> Promise<void> {
    if (stop || ++laps > 1'000'000) return READY_NOW;
    return forEver(stop, laps);
  });
}

} // namespace

// --------------------------------------------------------------------------------------------- order

TEST_CASE_FIXTURE(LoopTest, "events run in KJ's order: resolved first, then what was ready, then evalLater, then evalLast") {
  FailOnError handler;
  TaskSet tasks(handler);
  std::string log;
  const auto note = [&log](const char* name) { log += name; };

  tasks.add(evalLater([&] {
    note("0");
    {
      // Fulfilled after it is waited for: depth-first.
      auto pair = newPromiseAndFulfiller<void>();
      tasks.add(std::move(pair.promise).then([&] { note("1"); }));
      pair.fulfiller->fulfill();
    }
    // Ready already when it is waited for: breadth-first.
    tasks.add(Promise<void>(READY_NOW).then([&] { note("4"); }).then([&] {
      note("5");
      tasks.add(evalLast([&] {
        note("7");
        tasks.add(evalLater([&] { note("8"); }));
      }));
    }));
    {
      auto pair = newPromiseAndFulfiller<void>();
      tasks.add(std::move(pair.promise).then([&] {
        note("2");
        tasks.add(evalLast([&] {
          note("9");
          tasks.add(evalLater([&] { note("A"); }));
        }));
      }));
      pair.fulfiller->fulfill();
    }
    tasks.add(evalLater([&] { note("6"); }));
    {
      auto pair = newPromiseAndFulfiller<void>();
      tasks.add(std::move(pair.promise).then([&] { note("3"); }));
      pair.fulfiller->fulfill();
    }
  }));
  tasks.add(evalLater([&] { note("|"); }));
  scope.poll();
  CHECK(log == "0123|456789A");
}

TEST_CASE_FIXTURE(LoopTest, "the same order holds for coroutines") {
  FailOnError handler;
  TaskSet tasks(handler);
  std::string log;
  struct Step {
    static Promise<void> after(Promise<void> first, std::string& log, std::string name) {
      co_await std::move(first);
      log += name;
    }
  };
  auto body = [&]() -> Promise<void> {
    co_await READY_NOW;
    log += "0";
    auto a = newPromiseAndFulfiller<void>();
    auto b = newPromiseAndFulfiller<void>();
    tasks.add(Step::after(std::move(a.promise), log, "2"));
    tasks.add(Step::after(READY_NOW, log, "3"));
    tasks.add(Step::after(std::move(b.promise), log, "1"));
    tasks.add(Step::after(evalLast([] {}), log, "6"));
    tasks.add(Step::after(evalLast([] {}), log, "5"));
    tasks.add(Step::after(evalLater([] {}), log, "4"));
    b.fulfiller->fulfill(); // resolved first, so it runs first
    a.fulfiller->fulfill();
  };
  tasks.add(body());
  tasks.add(Step::after(READY_NOW, log, "|"));
  scope.poll();
  CHECK(log == "012|3456");
}

TEST_CASE_FIXTURE(LoopTest, "what a resolved continuation resolves runs before its sibling") {
  std::string log;
  auto a = newPromiseAndFulfiller<void>();
  auto b = newPromiseAndFulfiller<void>();
  auto nested = newPromiseAndFulfiller<void>();
  const auto waiter = [&](Promise<void> p, const char* name, PromiseFulfiller<void>* also) {
    return std::move(p)
        .then([&log, name, also] {
          log += name;
          if (also != nullptr) also->fulfill();
        })
        .eagerlyEvaluate(nullptr);
  };
  Promise<void> wa = waiter(std::move(a.promise), "a", nested.fulfiller.get());
  Promise<void> wn = waiter(std::move(nested.promise), "n", nullptr);
  Promise<void> wb = waiter(std::move(b.promise), "b", nullptr);
  a.fulfiller->fulfill();
  b.fulfiller->fulfill();
  scope.poll();
  CHECK(log == "anb");
}

TEST_CASE_FIXTURE(LoopTest, "evalLater runs in the order of the calls that wait") {
  std::string log;
  std::vector<Promise<void>> promises;
  for (const char* name : {"a", "b", "c", "d"}) promises.push_back(evalLater([&log, name] { log += name; }).eagerlyEvaluate(nullptr));
  scope.poll();
  CHECK(log == "abcd");
}

TEST_CASE_FIXTURE(LoopTest, "evalLast runs after everything that evalLater goes on adding, the last first") {
  std::string log;
  std::vector<Promise<void>> promises;
  for (const char* name : {"x", "y"}) promises.push_back(evalLast([&log, name] { log += name; }).eagerlyEvaluate(nullptr));
  Promise<void> later = evalLater([&] {
    log += "1";
    return evalLater([&] {
      log += "2";
      return evalLater([&] { log += "3"; });
    });
  });
  scope.poll();
  CHECK(log == "12yx"); // "3" is lazy
  std::move(later).wait(scope);
  CHECK(log == "12yx3");
}

TEST_CASE("evalLast runs before the port is asked for I/O") {
  NothingLeft nothingLeft;
  ScriptedPort port;
  EventLoop loop(port);
  WaitScope scope(loop);
  std::string log;
  auto pair = newPromiseAndFulfiller<void>();
  Promise<void> last = evalLast([&] { log += "last "; }).eagerlyEvaluate(nullptr);
  port.script.push_back([&] {
    log += "io ";
    pair.fulfiller->fulfill();
  });
  std::move(pair.promise).wait(scope);
  CHECK(log == "last io ");
}

// --------------------------------------------------------------------------------------------- running

TEST_CASE_FIXTURE(LoopTest, "run runs at most as many events as it is told") {
  std::size_t ran = 0;
  std::vector<Promise<void>> promises;
  for (int i = 0; i < 5; ++i) promises.push_back(evalLater([&] { ++ran; }).eagerlyEvaluate(nullptr));
  CHECK(loop.run(0) == 0);
  CHECK(loop.run(2) == 2);
  CHECK(ran == 2);
  CHECK(loop.isRunnable());
  CHECK(scope.poll(2) == 2);
  CHECK(ran == 4);
  CHECK(loop.run() == 1);
  CHECK_FALSE(loop.isRunnable());
  CHECK(loop.run() == 0);
}

TEST_CASE_FIXTURE(LoopTest, "isRunning is true exactly while user code is on the stack") {
  CHECK_FALSE(loop.isRunning());
  bool inside = false;
  evalLater([&] { inside = loop.isRunning(); }).wait(scope);
  CHECK(inside);
  CHECK_FALSE(loop.isRunning());
}

TEST_CASE_FIXTURE(LoopTest, "EventLoop::run inside an event throws") {
  std::optional<Exception> seen;
  evalLater([&] { seen = thrownBy([&] { loop.run(); }); }).eagerlyEvaluate(nullptr).wait(scope);
  REQUIRE(seen);
  CHECK(kindName(*seen) == "FAILED");
  CHECK(contains(seen->description(), "inside an event"));
}

TEST_CASE_FIXTURE(LoopTest, "liveEvents counts what waits") {
  CHECK(loop.liveEvents() == 0);
  {
    Promise<void> a = Promise<void>(NEVER_DONE).eagerlyEvaluate(nullptr);
    CHECK(loop.liveEvents() == 1);
    Promise<void> b = Promise<void>(NEVER_DONE).exclusiveJoin(NEVER_DONE);
    CHECK(loop.liveEvents() == 3);
  }
  CHECK(loop.liveEvents() == 0);
}

TEST_CASE("a loop waits on its port until the promise is ready") {
  NothingLeft nothingLeft;
  ScriptedPort port;
  EventLoop loop(port);
  WaitScope scope(loop);
  auto pair = newPromiseAndFulfiller<int>();
  port.script = {[] {}, [] {}, [&] { pair.fulfiller->fulfill(4); }};
  CHECK(std::move(pair.promise).wait(scope) == 4);
  CHECK(port.waits == 3);
}

TEST_CASE("poll asks the port without blocking, and again while it brings something") {
  NothingLeft nothingLeft;
  ScriptedPort port;
  EventLoop loop(port);
  WaitScope scope(loop);
  auto pair = newPromiseAndFulfiller<int>();
  CHECK_FALSE(pair.promise.poll(scope));
  CHECK(port.polls >= 1);
  port.onPoll = [&] { pair.fulfiller->fulfill(4); };
  CHECK(pair.promise.poll(scope));
  CHECK(port.waits == 0);
  CHECK(std::move(pair.promise).wait(scope) == 4);
}

TEST_CASE("what the port throws comes out of wait, and the loop is usable afterwards") {
  NothingLeft nothingLeft;
  ScriptedPort port;
  EventLoop loop(port);
  WaitScope scope(loop);
  CHECK_THROWS_WITH(Promise<int>(NEVER_DONE).wait(scope), "the script is over");
  CHECK_FALSE(loop.isRunning());
  CHECK(evalLater([] { return 1; }).wait(scope) == 1);
}

TEST_CASE("the port hears of the queue's becoming non-empty and empty, once each") {
  NothingLeft nothingLeft;
  ScriptedPort port;
  EventLoop loop(port);
  EventLoopScope scope(loop);
  std::vector<Promise<void>> promises;
  for (int i = 0; i < 3; ++i) promises.push_back(evalLater([] {}).eagerlyEvaluate(nullptr));
  CHECK(port.log == "+");
  loop.run(1);
  CHECK(port.log == "+");
  loop.run();
  CHECK(port.log == "+-");
  auto pair = newPromiseAndFulfiller<void>();
  Promise<void> waits = std::move(pair.promise).eagerlyEvaluate(nullptr);
  CHECK(port.log == "+-");
  pair.fulfiller->fulfill();
  CHECK(port.log == "+-+");
  loop.run();
  CHECK(port.log == "+-+-");
}

TEST_CASE("the port hears that the queue is empty after what was queued is cancelled and the loop is run") {
  ScriptedPort port;
  EventLoop loop(port);
  EventLoopScope scope(loop);
  { Promise<void> promise = evalLater([] {}).eagerlyEvaluate(nullptr); }
  CHECK_FALSE(loop.isRunnable());
  loop.run();
  CHECK(port.log == "+-");
}

// -------------------------------------------------------------------------------------------- fairness

TEST_CASE("a flood of events does not keep wait from asking the port (R12)") {
  NothingLeft nothingLeft;
  ScriptedPort port;
  EventLoop loop(port);
  WaitScope scope(loop);
  bool stop = false;
  std::size_t laps = 0;
  Promise<void> flood = forEver(stop, laps);
  auto pair = newPromiseAndFulfiller<void>();
  port.onPoll = [&] { pair.fulfiller->fulfill(); };
  std::move(pair.promise).wait(scope);
  CHECK(port.polls >= 1);
  CHECK(laps <= 10'000);
  stop = true;
  std::move(flood).wait(scope);
}

TEST_CASE("a flood of coroutines does not keep poll from asking the port (R12)") {
  NothingLeft nothingLeft;
  ScriptedPort port;
  EventLoop loop(port);
  WaitScope scope(loop);
  std::size_t laps = 0;
  bool stop = false;
  auto spin = [&]() -> Promise<void> {
    while (!stop && ++laps < 3'000'000) co_await READY_NOW;
  };
  Promise<void> spinning = spin();
  auto pair = newPromiseAndFulfiller<void>();
  port.onPoll = [&] { pair.fulfiller->fulfill(); };
  CHECK(pair.promise.poll(scope));
  CHECK(laps < 1'000'000);
  stop = true;
  std::move(spinning).wait(scope);
}

// --------------------------------------------------------------------------------------------- misuse

TEST_CASE_FIXTURE(LoopTest, "a deadlock on a loop without a port throws and names the caller") {
  const Exception e = thrownBy([&] { Promise<void>(NEVER_DONE).wait(scope); });
  CHECK(kindName(e) == "FAILED");
  CHECK(contains(e.description(), "deadlock"));
  CHECK(fileOf(e) == "event_loop_test.cc");
}

TEST_CASE_FIXTURE(LoopTest, "a second loop on a thread is refused and names the caller") {
  EventLoop second;
  const Exception e = thrownBy([&] { WaitScope secondScope(second); });
  CHECK(kindName(e) == "FAILED");
  CHECK(contains(e.description(), "already has an event loop"));
  CHECK(fileOf(e) == "event_loop_test.cc");
  CHECK(&EventLoop::current() == &loop);
}

TEST_CASE_FIXTURE(LoopTest, "a loop that is in use is refused on another thread") {
  std::optional<Exception> seen;
  std::thread([&] { seen = thrownBy([&] { EventLoopScope again(loop); }); }).join();
  REQUIRE(seen);
  CHECK(contains(seen->description(), "already in use on another thread"));
  CHECK(fileOf(*seen) == "event_loop_test.cc");
}

TEST_CASE("the current loop is the entered one") {
  CHECK(EventLoop::currentOrNull() == nullptr);
  EventLoop loop;
  CHECK(EventLoop::currentOrNull() == nullptr);
  for (int i = 0; i < 2; ++i) {
    WaitScope scope(loop);
    CHECK(&EventLoop::current() == &loop);
    CHECK(&scope.loop() == &loop);
    std::thread([&] { CHECK(EventLoop::currentOrNull() == nullptr); }).join();
  }
  CHECK(EventLoop::currentOrNull() == nullptr);
}

TEST_CASE("each thread has its own loop") {
  std::vector<std::thread> threads;
  std::vector<int> results(4);
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([t, &results] {
      EventLoop loop;
      WaitScope scope(loop);
      auto work = [](int laps) -> Promise<int> {
        int sum = 0;
        for (int i = 0; i < laps; ++i) sum += co_await evalLater([] { return 1; });
        co_return sum;
      };
      results[static_cast<std::size_t>(t)] = work(1000 + t).wait(scope);
    });
  for (std::thread& thread : threads) thread.join();
  CHECK(results == std::vector<int>{1000, 1001, 1002, 1003});
}

TEST_CASE("a loop that is destroyed before its promises aborts and says how many") {
  const ChildEnd end = runInChild([] {
    std::optional<Promise<void>> left;
    EventLoop loop;
    WaitScope scope(loop);
    left = Promise<void>(NEVER_DONE).eagerlyEvaluate(nullptr);
  });
  CHECK(end.aborted);
  CHECK(contains(end.errors, "1 promise(s) or coroutine(s) still wait on it"));
}

TEST_CASE("a loop that is destroyed before its scope aborts and says so") {
  const ChildEnd end = runInChild([] {
    std::optional<EventLoop> loop(std::in_place);
    WaitScope scope(*loop);
    loop.reset();
  });
  CHECK(end.aborted);
  CHECK(contains(end.errors, "while it is the thread's current loop"));
}

TEST_CASE_FIXTURE(LoopTest, "a destructor that runs the loop while its promise is being destroyed is refused") {
  std::optional<Exception> seen;
  struct Waits {
    WaitScope* scope;
    std::optional<Exception>* seen;
    ~Waits() {
      try {
        scope->poll();
      } catch (const Exception& e) {
        *seen = e;
      }
    }
  };
  {
    Promise<void> promise = evalLater([] {}).attach(std::make_unique<Waits>(&scope, &seen)).eagerlyEvaluate(nullptr);
  }
  REQUIRE(seen);
  CHECK(contains(seen->description(), "while a promise is being destroyed"));
}
