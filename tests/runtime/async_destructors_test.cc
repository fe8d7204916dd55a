// SPDX-License-Identifier: MIT
// Scopes that forbid destroying promises: what aborts, what does not, nesting.
#include "helpers.h"

#include <troth/runtime/async_destructors.h>
#include <troth/runtime/canceler.h>
#include <troth/runtime/join.h>
#include <troth/runtime/task_set.h>

#include <thread>

using namespace troth;
using namespace troth::test;

namespace {

struct Quiet final : TaskSet::ErrorHandler {
  void taskFailed(Exception) override {}
};

Promise<void> pendingCoroutine() { co_await NEVER_DONE; }

/// How a child ends that does `body` with a loop.
ChildEnd inChildWithLoop(const std::function<void()>& body) {
  return runInChild([&] {
    EventLoop loop;
    WaitScope scope(loop);
    body();
  });
}

} // namespace

TEST_CASE("destroying pending work where that is disallowed aborts, with the reason and the place of the promise") {
  using Body = std::function<void()>;
  const std::pair<std::string, Body> bodies[] = {
      {"a chain", [] {
         std::optional<Promise<void>> promise = evalLater([] {});
         const DisallowAsyncDestructorsScope scope("this thread owns no promises");
         promise.reset();
       }},
      {"a coroutine", [] {
         std::optional<Promise<void>> promise = pendingCoroutine();
         const DisallowAsyncDestructorsScope scope("this thread owns no promises");
         promise.reset();
       }},
      {"one of a pair", [] {
         auto pair = newPromiseAndFulfiller<int>();
         std::optional<Promise<int>> promise = std::move(pair.promise);
         const DisallowAsyncDestructorsScope scope("this thread owns no promises");
         promise.reset();
       }},
      {"a fork", [] {
         std::optional<ForkedPromise<void>> fork = evalLater([] {}).fork();
         const DisallowAsyncDestructorsScope scope("this thread owns no promises");
         fork.reset();
       }},
      {"a join", [] {
         std::optional<Promise<std::tuple<int, int>>> join = joinPromises(Promise<int>(NEVER_DONE), Promise<int>(1));
         const DisallowAsyncDestructorsScope scope("this thread owns no promises");
         join.reset();
       }},
      {"by assignment", [] {
         Promise<void> promise = evalLater([] {});
         const DisallowAsyncDestructorsScope scope("this thread owns no promises");
         promise = READY_NOW;
       }},
      {"by a task set", [] {
         Quiet handler;
         TaskSet tasks(handler);
         tasks.add(evalLater([] {}));
         const DisallowAsyncDestructorsScope scope("this thread owns no promises");
         tasks.clear();
       }},
      {"by a canceler", [] {
         Canceler canceler;
         Promise<void> promise = canceler.wrap(evalLater([] {}));
         const DisallowAsyncDestructorsScope scope("this thread owns no promises");
         canceler.cancel("stop");
       }},
      {"by the loop", [] {
         evalLater([] {}).detach([](Exception) {});
         const DisallowAsyncDestructorsScope scope("this thread owns no promises");
         EventLoop::current().cancelAllDetached();
       }},
  };
  for (const auto& [name, body] : bodies) {
    CAPTURE(name);
    const ChildEnd end = inChildWithLoop(body);
    CHECK(end.aborted);
    CHECK_MESSAGE(contains(end.errors, "a promise was destroyed where that is not allowed: this thread owns no promises"), end.errors);
  }
  const ChildEnd end = inChildWithLoop(bodies[0].second);
  CHECK_MESSAGE(contains(end.errors, "async_destructors_test.cc"), end.errors);
}

TEST_CASE_FIXTURE(LoopTest, "what costs nothing, was consumed, or is only moved may go in such a scope") {
  auto pair = newPromiseAndFulfiller<int>();
  Promise<int> moved = NEVER_DONE;
  {
    const DisallowAsyncDestructorsScope disallowed("no promises here");
    { Promise<void> constant = READY_NOW; }
    { Promise<int> constant = NEVER_DONE; }
    { Promise<void> yielding = yield(); }
    { Promise<int> constant = constPromise<int, 3>(); }
    moved = std::move(pair.promise);
    { Promise<int> empty = std::move(moved); moved = std::move(empty); }
  }
  CHECK(takeAfter(moved, scope, [&] { pair.fulfiller->fulfill(2); }) == 2);
}

TEST_CASE_FIXTURE(LoopTest, "the ban ends with its scope, and an allowing scope lifts it meanwhile") {
  std::optional<Promise<void>> a = evalLater([] {});
  std::optional<Promise<void>> b = evalLater([] {});
  {
    const DisallowAsyncDestructorsScope disallowed("no promises here");
    {
      const AllowAsyncDestructorsScope allowed;
      a.reset();
    }
  }
  b.reset();
  CHECK_FALSE(loop.isRunnable());
}

TEST_CASE("scopes nest: the innermost counts, and each gives back what was") {
  const ChildEnd inner = inChildWithLoop([] {
    std::optional<Promise<void>> promise = evalLater([] {});
    const DisallowAsyncDestructorsScope outer("the outer reason");
    const DisallowAsyncDestructorsScope innermost("the inner reason");
    promise.reset();
  });
  CHECK(contains(inner.errors, "the inner reason"));
  const ChildEnd outer = inChildWithLoop([] {
    std::optional<Promise<void>> promise = evalLater([] {});
    const DisallowAsyncDestructorsScope first("the outer reason");
    { const DisallowAsyncDestructorsScope second("the inner reason"); }
    {
      const AllowAsyncDestructorsScope allowed;
      { const DisallowAsyncDestructorsScope third("a third reason"); }
    }
    promise.reset();
  });
  CHECK(outer.aborted);
  CHECK(contains(outer.errors, "the outer reason"));
}

TEST_CASE_FIXTURE(LoopTest, "the ban is its thread's own") {
  const DisallowAsyncDestructorsScope disallowed("no promises here");
  bool destroyed = false;
  std::thread([&] {
    EventLoop other;
    WaitScope otherScope(other);
    { Promise<void> promise = evalLater([] {}); }
    destroyed = true;
  }).join();
  CHECK(destroyed);
}

TEST_CASE("destroying a fulfiller, a task set, a canceler or an AsyncObject where that is disallowed aborts, with the reason") {
  struct Own : AsyncObject {};
  using Body = std::function<void()>;
  const std::pair<std::string, Body> bodies[] = {
      {"a fulfiller", [] {
         auto pair = newPromiseAndFulfiller<int>();
         const DisallowAsyncDestructorsScope scope("this thread owns no tasks");
         pair.fulfiller.reset();
       }},
      {"a task set", [] {
         Quiet quiet;
         std::optional<TaskSet> tasks(quiet);
         const DisallowAsyncDestructorsScope scope("this thread owns no tasks");
         tasks.reset();
       }},
      {"a canceler", [] {
         std::optional<Canceler> canceler(std::in_place);
         const DisallowAsyncDestructorsScope scope("this thread owns no tasks");
         canceler.reset();
       }},
      {"an AsyncObject", [] {
         std::optional<Own> own(std::in_place);
         const DisallowAsyncDestructorsScope scope("this thread owns no tasks");
         own.reset();
       }},
  };
  for (const auto& [name, body] : bodies) {
    CAPTURE(name);
    const ChildEnd end = inChildWithLoop(body);
    CHECK(end.aborted);
    CHECK_MESSAGE(contains(end.errors, "this thread owns no tasks"), end.errors);
  }
}

TEST_CASE_FIXTURE(LoopTest, "a fulfiller that has done its work, and an AsyncObject where it is allowed, go quietly") {
  struct Own : AsyncObject {};
  auto pair = newPromiseAndFulfiller<int>();
  pair.fulfiller->fulfill(1);
  {
    const DisallowAsyncDestructorsScope disallow("this thread owns no promises");
    pair.fulfiller.reset();
    const AllowAsyncDestructorsScope allow;
    const Own own;
  }
  CHECK(std::move(pair.promise).wait(scope) == 1);
}
