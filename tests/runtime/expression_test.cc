// SPDX-License-Identifier: MIT
// Several awaits in one expression, losers that settle while they die, and loops that end in the wrong place.
#include "helpers.h"

#include <troth/runtime/task_set.h>

#include <functional>
#include <memory>
#include <stdexcept>
#include <string>

using namespace troth;
using namespace troth::test;

namespace {

Promise<int> later(int value) {
  co_await evalLater([] {});
  co_return value;
}

Promise<int> failing() {
  co_await evalLater([] {});
  throw std::runtime_error("x");
}

int both(int a, int b) { return a * 10 + b; }

} // namespace

TEST_CASE_FIXTURE(LoopTest, "several awaits in one expression each give their own result") {
  auto sum = []() -> Promise<int> { co_return co_await later(1) + co_await later(2) + co_await later(3); };
  CHECK(sum().wait(scope) == 6);
  auto call = []() -> Promise<int> { co_return both(co_await later(1), co_await later(2)); };
  CHECK(call().wait(scope) == 12);
  auto ready = []() -> Promise<std::string> {
    co_return co_await Promise<std::string>("a") + co_await Promise<std::string>("b");
  };
  CHECK(ready().wait(scope) == "ab");
}

TEST_CASE("cancelling or failing between the awaits of one expression leaves nothing (R5)") {
  const std::size_t steps = cancelSweep([](LoopTest&) -> Promise<void> {
    auto body = []() -> Promise<void> {
      try {
        [[maybe_unused]] const int sum = co_await later(1) + co_await failing() + co_await later(3);
        FAIL("not reached");
      } catch (const std::runtime_error&) {
      }
    };
    return body();
  });
  CHECK(steps >= 3);
}

TEST_CASE_FIXTURE(LoopTest, "the loser of a join that settles while it is destroyed is not heard") {
  struct SettlesWhenItGoes {
    PromiseFulfiller<int>& fulfiller;
    explicit SettlesWhenItGoes(PromiseFulfiller<int>& f) : fulfiller(f) {}
    ~SettlesWhenItGoes() { fulfiller.fulfill(99); }
  };
  for (const bool loserIsRight : {true, false}) {
    auto pair = newPromiseAndFulfiller<int>();
    Promise<int> loser = newAdaptedPromise<int, SettlesWhenItGoes>();
    Promise<int> joined = loserIsRight ? std::move(pair.promise).exclusiveJoin(std::move(loser))
                                       : std::move(loser).exclusiveJoin(std::move(pair.promise));
    CHECK(takeAfter(joined, scope, [&] { pair.fulfiller->fulfill(1); }) == 1);
  }
}

TEST_CASE("a loop that is destroyed by one of its events aborts and says so") {
  const ChildEnd end = runInChild([] {
    auto loop = std::make_unique<EventLoop>();
    auto scope = std::make_unique<WaitScope>(*loop);
    struct Handler final : TaskSet::ErrorHandler {
      std::function<void()> act;
      void taskFailed(Exception) override { act(); }
    } handler;
    auto tasks = std::make_unique<TaskSet>(handler);
    handler.act = [&] {
      tasks.reset();
      scope.reset();
      loop.reset();
    };
    tasks->add(evalLater([]() { throw std::runtime_error("x"); }));
    scope->poll();
  });
  CHECK(end.aborted);
  CHECK(contains(end.errors, "from inside one of its events"));
}
