// SPDX-License-Identifier: MIT
// A promise is destroyed on the thread whose loop it belongs to.
#include "helpers.h"

#include <troth/runtime/canceler.h>
#include <troth/runtime/channel.h>
#include <troth/runtime/join.h>
#include <troth/runtime/promise.h>
#include <troth/runtime/queue.h>
#include <troth/runtime/sync.h>
#include <troth/runtime/task_set.h>

#include <doctest/doctest.h>

#include <functional>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

using namespace troth;
using namespace troth::test;

namespace {

/// What makes promises that wait for ever.
struct Sources {
  std::vector<std::unique_ptr<PromiseFulfiller<int>>> fulfillers;
  ProducerConsumerQueue<int> queue;
  WaiterQueue<int> waiters;
  AsyncEvent event;
  AsyncMutex mutex;
  std::optional<AsyncMutex::Lock> lock;
  Canceler canceler;
  FailOnError errors;
  TaskSet tasks{errors};

  Promise<int> pending() {
    auto pair = newPromiseAndFulfiller<int>();
    fulfillers.push_back(std::move(pair.fulfiller));
    return std::move(pair.promise);
  }
  Promise<int> coroutine() { co_return co_await pending(); }
};

struct NeverFulfils {
  explicit NeverFulfils(PromiseFulfiller<int>&) {}
};

/// Promises that are alive and wait, each with a name.
struct Kind {
  const char* name;
  std::function<std::function<void()>(Sources&)> make; // gives what destroys the promise
};

template <typename T>
std::function<void()> holder(T held) {
  auto shared = std::make_shared<std::optional<T>>(std::move(held));
  return [shared] { shared->reset(); };
}

const std::vector<Kind> KINDS = {
    {"a fulfiller's promise", [](Sources& s) { return holder(s.pending()); }},
    {"a continuation", [](Sources& s) { return holder(s.pending().then([](int i) { return i; })); }},
    {"a continuation for a promise",
     [](Sources& s) { return holder(s.pending().then([](int) -> Promise<int> { return 1; })); }},
    {"an adapted promise", [](Sources&) { return holder(newAdaptedPromise<int, NeverFulfils>()); }},
    {"a coroutine that waits", [](Sources& s) { return holder(s.coroutine()); }},
    {"an eager promise", [](Sources& s) { return holder(s.pending().eagerlyEvaluate(nullptr)); }},
    {"evalLater, wanted", [](Sources&) { return holder(evalLater([] { return 1; }).eagerlyEvaluate(nullptr)); }},
    {"a fork", [](Sources& s) { return holder(s.pending().fork()); }},
    {"a branch", [](Sources& s) { return holder(s.pending().fork().addBranch()); }},
    {"an exclusiveJoin", [](Sources& s) { return holder(s.pending().exclusiveJoin(s.pending())); }},
    {"a join", [](Sources& s) { return holder(joinPromises(s.pending(), s.pending())); }},
    {"a race", [](Sources& s) { return holder(raceSuccessful(s.pending(), s.pending())); }},
    {"a wrapped promise", [](Sources& s) { return holder(s.canceler.wrap(s.pending())); }},
    {"an eager promise of what is shared",
     [](Sources&) { return holder(Promise<int>(NEVER_DONE).eagerlyEvaluate(nullptr)); }},
    {"a continuation for a promise, of what is shared",
     [](Sources&) { return holder(yieldUntilQueueEmpty().then([]() -> Promise<int> { return 1; })); }},
    {"a join of what is ready", [](Sources&) { return holder(joinPromises(Promise<int>(1), Promise<int>(2))); }},
    {"an exclusiveJoin of what is ready",
     [](Sources&) { return holder(Promise<int>(1).exclusiveJoin(Promise<int>(2))); }},
    {"a branch that is ready",
     [](Sources&) {
       auto fork = Promise<int>(1).fork();
       Promise<int> branch = fork.addBranch();
       return holder(std::make_pair(std::move(branch), std::move(fork)));
     }},
    {"a wrapped promise of what is shared, by cancel()",
     [](Sources& s) {
       auto keep = holder(s.canceler.wrap(Promise<int>(NEVER_DONE)));
       return std::function<void()>([&s, keep] { s.canceler.cancel("x"); });
     }},
    {"a task of what is shared",
     [](Sources& s) {
       s.tasks.add(NEVER_DONE);
       return std::function<void()>([&s] { s.tasks.clear(); });
     }},
    {"a pop", [](Sources& s) { return holder(s.queue.pop()); }},
    {"a waiter", [](Sources& s) { return holder(s.waiters.wait()); }},
    {"an event's promise", [](Sources& s) { return holder(s.event.wait()); }},
    {"a lock's promise",
     [](Sources& s) {
       s.lock.emplace(*s.mutex.tryLock());
       return holder(s.mutex.lock());
     }},
    {"a task set's clear()",
     [](Sources& s) {
       s.tasks.add(s.pending().ignoreResult());
       return std::function<void()>([&s] { s.tasks.clear(); });
     }},
    {"a Canceler's cancel()",
     [](Sources& s) {
       auto keep = holder(s.canceler.wrap(s.pending()));
       return std::function<void()>([&s, keep] { s.canceler.cancel("x"); });
     }},
};

} // namespace

TEST_CASE("destroying a promise that waits on another thread than its loop's aborts and says so") {
  for (const Kind& kind : KINDS) {
    for (const bool withLoop : {false, true}) {
      CAPTURE(kind.name);
      CAPTURE(withLoop);
      const ChildEnd end = runInChild([&] {
        EventLoop loop;
        WaitScope scope(loop);
        Sources sources;
        const std::function<void()> destroy = kind.make(sources);
        std::thread([&] {
          EventLoop other;
          std::optional<WaitScope> otherScope;
          if (withLoop) otherScope.emplace(other);
          destroy();
        }).join();
        _exit(0);
      });
      CHECK(end.aborted);
      CHECK_MESSAGE(contains(end.errors, "another thread"), end.errors.substr(0, 300));
      // An adapted promise does not know where it was made.
      const bool hasPlace = std::string_view(kind.name) != "an adapted promise";
      CHECK_MESSAGE(contains(end.errors, "thread_test.cc") == hasPlace, end.errors.substr(0, 300));
    }
  }
}

TEST_CASE("waiting with another thread's scope throws, also for a promise of that thread") {
  const ChildEnd end = runInChild([] {
    EventLoop loop;
    WaitScope scope(loop);
    auto pair = newPromiseAndFulfiller<int>();
    std::string seen;
    std::thread([&] {
      try {
        std::move(pair.promise).wait(scope);
      } catch (const Exception& e) {
        seen = e.what();
      }
    }).join();
    std::fprintf(stderr, "%s", seen.c_str());
    _exit(0);
  });
  CHECK(end.finished);
  CHECK_MESSAGE(contains(end.errors, "on another thread than the one of its WaitScope"), end.errors);
}

TEST_CASE("a coroutine that has suspended and ended is destroyed on its thread, too") {
  const ChildEnd end = runInChild([] {
    EventLoop loop;
    WaitScope scope(loop);
    Promise<int> ended = []() -> Promise<int> {
      co_await yield();
      co_return 1;
    }();
    scope.poll();
    std::thread([&] { const Promise<int> gone = std::move(ended); }).join();
    _exit(0);
  });
  CHECK(end.aborted);
  CHECK_MESSAGE(contains(end.errors, "another thread"), end.errors);
  CHECK_MESSAGE(contains(end.errors, "thread_test.cc"), end.errors);
}

TEST_CASE("on its own thread every kind of promise is destroyed, also when the loop is not entered") {
  for (const Kind& kind : KINDS) {
    CAPTURE(kind.name);
    EventLoop loop;
    std::optional<WaitScope> scope(std::in_place, loop);
    std::optional<Sources> sources(std::in_place);
    std::function<void()> destroy = kind.make(*sources);
    scope.reset();
    destroy();
    destroy = nullptr;
    scope.emplace(loop);
    sources.reset();
    CHECK(loop.liveEvents() == 0);
  }
}

TEST_CASE("what waits for nothing may be destroyed or awaited on any thread") {
  EventLoop loop;
  WaitScope scope(loop);
  Promise<int> value(1);
  Promise<int> failed = Exception(Exception::Kind::FAILED, "x");
  Promise<void> ready = READY_NOW;
  Promise<void> never = NEVER_DONE;
  Promise<int> immediate = []() -> Promise<int> { co_return 2; }();
  Promise<int> other = []() -> Promise<int> { co_return 3; }();
  int got = 0;
  std::thread([&] {
    { const Promise<int> gone = std::move(value); }
    { const Promise<int> gone = std::move(failed); }
    { const Promise<void> gone = std::move(ready); }
    { const Promise<void> gone = std::move(never); }
    { const Promise<int> gone = std::move(immediate); }
    EventLoop otherLoop;
    WaitScope otherScope(otherLoop);
    got = std::move(other).wait(otherScope);
  }).join();
  CHECK(got == 3);
}

TEST_CASE("when its loop is not entered any more, or gone, a promise is settled or dropped where there is no loop") {
  for (const bool gone : {false, true}) {
    CAPTURE(gone);
    std::optional<EventLoop> loop(std::in_place);
    std::optional<WaitScope> scope(std::in_place, *loop);
    auto fulfilled = newPromiseAndFulfiller<int>();
    auto rejected = newPromiseAndFulfiller<int>();
    auto dropped = newPromiseAndFulfiller<int>();
    scope.reset();
    if (gone) loop.reset();
    fulfilled.fulfiller->fulfill(1);
    rejected.fulfiller->reject(Exception(Exception::Kind::FAILED, "x"));
    dropped.fulfiller.reset();
    if (gone) loop.emplace();
    scope.emplace(*loop);
    CHECK(std::move(fulfilled.promise).wait(*scope) == 1);
    CHECK(failureOf(std::move(rejected.promise), *scope).description() == "x");
    CHECK(contains(failureOf(std::move(dropped.promise), *scope).description(), "without fulfilling it"));
  }
}

TEST_CASE_FIXTURE(LoopTest, "what is fulfilled while its loop is not entered runs once that is entered again") {
  EventLoop second;
  std::string log;
  std::optional<PromiseFulfillerPair<void>> pair;
  std::optional<Promise<void>> waiting;
  std::thread([&] {
    {
      WaitScope in(second);
      pair.emplace(newPromiseAndFulfiller<void>());
      waiting = std::move(pair->promise).then([&] { log += "ran"; }).eagerlyEvaluate(nullptr);
    }
    pair->fulfiller->fulfill();
    CHECK(log.empty());
    WaitScope in(second);
    std::move(*waiting).wait(in);
    waiting.reset();
    pair.reset();
  }).join();
  CHECK(log == "ran");
}

TEST_CASE("a promise that no loop knows may outlive its loop, and go on any thread") {
  std::optional<PromiseFulfillerPair<int>> pair;
  {
    EventLoop loop;
    WaitScope scope(loop);
    pair.emplace(newPromiseAndFulfiller<int>());
  }
  std::thread([&] {
    EventLoop other;
    WaitScope scope(other);
    { const Promise<int> gone = std::move(pair->promise); }
    CHECK_FALSE(pair->fulfiller->isWaiting());
  }).join();
}
