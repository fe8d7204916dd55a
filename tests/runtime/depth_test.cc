// SPDX-License-Identifier: MIT
// Depth: towers of everything that promises are made of are completed, failed and destroyed on small stacks.
#include "helpers.h"

#include <troth/runtime/canceler.h>
#include <troth/runtime/channel.h>
#include <troth/runtime/join.h>
#include <troth/runtime/pool_detail.h>
#include <troth/runtime/queue.h>
#include <troth/runtime/task_set.h>

#include <stdexcept>
#include <vector>

using namespace troth;
using namespace troth::test;

namespace {

using Kind = Exception::Kind;

constexpr std::size_t SMALL_STACK = 256 * 1024;
constexpr int MANY = SANITIZED ? 200'000 : 1'000'000; // what the sanitizers' memory allows
constexpr int DEPTH = SANITIZED ? 20'000 : 100'000; // 13 bytes of the stack for each, or 2: no recursion fits

struct CountErrors final : TaskSet::ErrorHandler {
  std::size_t failures = 0;
  void taskFailed(Exception) override { ++failures; }
};

void require(bool condition, const char* what) {
  if (!condition) throw std::logic_error(what);
}

/// Runs `body` in a child, on a small stack, with a loop, and checks that it leaves nothing.
void checkOnSmallStack(const std::function<void(WaitScope&)>& body) {
  const ChildEnd end = runInChild([&] {
    onStackOf(SMALL_STACK, [&] {
      EventLoop loop;
      WaitScope scope(loop);
      const auto blocks = detail::liveBlocks();
      body(scope);
      require(detail::liveBlocks() == blocks, "blocks are left");
      require(loop.liveEvents() == 0, "events are left");
    });
  });
  CHECK_MESSAGE(end.finished, end.errors.substr(0, 400));
}

/// Completes, fails, cancels and drops what `tower` builds on a promise.
void checkTower(WaitScope& scope, const std::function<Promise<int>(Promise<int>)>& tower, int expected) {
  require(tower(0).wait(scope) == expected, "the value is wrong");
  require(kindName(failureOf(tower(Exception(Kind::OVERLOADED, "x")), scope)) == "OVERLOADED", "the failure is wrong");
  { Promise<int> dropped = tower(0); }
  { Promise<int> dropped = tower(NEVER_DONE); }
  require(!tower(NEVER_DONE).poll(scope), "it was ready");
  {
    Promise<int> ready = tower(0);
    require(ready.poll(scope), "it was not ready");
  }
  {
    Promise<int> half = tower(0);
    scope.loop().run(DEPTH / 2);
  }
  {
    auto pair = newPromiseAndFulfiller<int>();
    Promise<int> late = tower(std::move(pair.promise));
    require(!late.poll(scope), "it was ready before its cause");
    pair.fulfiller->fulfill(0);
    require(std::move(late).wait(scope) == expected, "the late value is wrong");
  }
}

Promise<int> countDown(int depth) {
  if (depth == 0) {
    co_await yield();
    co_return 0;
  }
  co_return co_await countDown(depth - 1) + 1;
}

/// Coroutines that await each other, made from the inside: making them takes no stack.
Promise<int> addOne(Promise<int> promise) { co_return co_await std::move(promise) + 1; }

Promise<int> popAll(ProducerConsumerQueue<int>& queue) {
  for (int next = 0;; ++next) {
    if (next == MANY) co_return next;
    require(co_await queue.pop() == next, "the order is wrong");
  }
}

/// The same without a coroutine: each continuation returns the rest.
Promise<int> popFrom(ProducerConsumerQueue<int>& queue, int next) {
  if (next == MANY) return next;
  return queue.pop().then([&queue, next](int item) {
    require(item == next, "the order is wrong");
    return popFrom(queue, next + 1);
  });
}

Promise<void> sendAll(Channel<int>& channel) {
  for (int i = 0; i < MANY; ++i) co_await channel.send(i);
  channel.close();
}

Promise<int> receiveAll(Channel<int>& channel) {
  int next = 0;
  while (const std::optional<int> item = co_await channel.receive()) require(*item == next++, "the order is wrong");
  co_return next;
}

} // namespace

TEST_CASE("a million continuations (200 000 under a sanitizer) run, and are cancelled, on a stack of 256 KiB (R1, R2)") {
  checkOnSmallStack([](WaitScope& scope) {
    const auto chain = [](Promise<int> promise) {
      for (int i = 0; i < MANY; ++i) promise = std::move(promise).then([](int x) { return x + 1; });
      return promise;
    };
    require(chain(0).wait(scope) == MANY, "the value is wrong");
    require(!chain(NEVER_DONE).poll(scope), "it was ready");
    { Promise<int> dropped = chain(0); }
    require(kindName(failureOf(chain(Exception(Kind::FAILED, "x")), scope)) == "FAILED", "the failure is wrong");
  });
}

TEST_CASE("a million coroutines (200 000 under a sanitizer) that wait for each other complete, fail and are cancelled on a stack of 256 KiB (R1, R2)") {
  checkOnSmallStack([](WaitScope& scope) {
    const auto tower = [](Promise<int> promise) {
      for (int i = 0; i < MANY; ++i) promise = addOne(std::move(promise));
      return promise;
    };
    {
      auto pair = newPromiseAndFulfiller<int>();
      Promise<int> promise = tower(std::move(pair.promise));
      require(!promise.poll(scope), "it was ready before its cause");
      pair.fulfiller->fulfill(0);
      require(std::move(promise).wait(scope) == MANY, "the value is wrong");
    }
    { Promise<int> dropped = tower(NEVER_DONE); }
    {
      Promise<int> half = tower(0);
      scope.loop().run(static_cast<std::size_t>(MANY) / 2);
    }
  });
}

TEST_CASE("10 000 coroutines that call each other complete on a stack of 8 MiB") {
  const ChildEnd end = runInChild([] {
    onStackOf(SANITIZED ? 64U << 20U : 8U << 20U, [] {
      EventLoop loop;
      WaitScope scope(loop);
      require(countDown(10'000).wait(scope) == 10'000, "the value is wrong");
      { Promise<int> dropped = countDown(10'000); }
    });
  });
  CHECK_MESSAGE(end.finished, end.errors.substr(0, 400));
}

TEST_CASE("exclusiveJoins nested 100 000 deep (20 000 under a sanitizer) to the left, to the right and to both sides end on a stack of 256 KiB (R1, R2)") {
  checkOnSmallStack([](WaitScope& scope) {
    checkTower(
        scope,
        [](Promise<int> promise) {
          for (int i = 0; i < DEPTH; ++i) promise = std::move(promise).exclusiveJoin(NEVER_DONE);
          return promise;
        },
        0);
  });
  checkOnSmallStack([](WaitScope& scope) {
    checkTower(
        scope,
        [](Promise<int> promise) {
          for (int i = 0; i < DEPTH; ++i) promise = Promise<int>(NEVER_DONE).exclusiveJoin(std::move(promise));
          return promise;
        },
        0);
  });
  checkOnSmallStack([](WaitScope& scope) {
    checkTower(
        scope,
        [](Promise<int> promise) {
          for (int i = 0; i < DEPTH; ++i) {
            if (i % 2 == 0)
              promise = std::move(promise).exclusiveJoin(NEVER_DONE);
            else
              promise = Promise<int>(NEVER_DONE).exclusiveJoin(std::move(promise));
          }
          return promise;
        },
        0);
  });
}

TEST_CASE("a tower of 100 000 exclusiveJoins (20 000 under a sanitizer) whose outermost is decided destroys the rest on a stack of 256 KiB (R2)") {
  checkOnSmallStack([](WaitScope& scope) {
    for (const bool left : {true, false}) {
      auto pair = newPromiseAndFulfiller<int>();
      Promise<int> tower = NEVER_DONE;
      for (int i = 0; i < DEPTH; ++i)
        tower = left ? std::move(tower).exclusiveJoin(NEVER_DONE) : Promise<int>(NEVER_DONE).exclusiveJoin(std::move(tower));
      tower = left ? std::move(tower).exclusiveJoin(std::move(pair.promise)) : std::move(pair.promise).exclusiveJoin(std::move(tower));
      require(!tower.poll(scope), "it was ready before its cause");
      pair.fulfiller->fulfill(7);
      require(std::move(tower).wait(scope) == 7, "the value is wrong");
    }
  });
}

TEST_CASE("a set of a million tasks (200 000 under a sanitizer) is completed, failed and destroyed on a stack of 256 KiB (R1, R2)") {
  checkOnSmallStack([](WaitScope& scope) {
    CountErrors handler;
    {
      TaskSet tasks(handler);
      int ran = 0;
      for (int i = 0; i < MANY; ++i) tasks.add(evalLater([&] { ++ran; }));
      scope.poll();
      require(ran == MANY, "not all have run");
      for (int i = 0; i < MANY; ++i) tasks.add(Exception(Kind::FAILED, "x"));
      scope.poll();
      require(handler.failures == static_cast<std::size_t>(MANY), "not all have failed");
      for (int i = 0; i < MANY; ++i) tasks.add(NEVER_DONE);
      for (int i = 0; i < 1000; ++i) tasks.add(addOne(NEVER_DONE).ignoreResult());
      require(tasks.size() == static_cast<std::size_t>(MANY) + 1000, "not all are there");
    }
  });
}

TEST_CASE("towers of 100 000 (20 000 under a sanitizer) of each other sort of step complete, fail and are cancelled on a stack of 256 KiB (R1, R2)") {
  using Tower = std::function<Promise<int>(Promise<int>)>;
  Canceler canceler;
  const std::pair<std::string, Tower> towers[] = {
      {"asResult",
       [](Promise<int> promise) {
         return std::move(promise).asResult().then([](Result<int> result) { return std::move(result).value(); });
       }},
      {"catch_", [](Promise<int> promise) { return std::move(promise).catch_([](Exception e) -> int { e.rethrow(); }); }},
      {"catch_ to a promise",
       [](Promise<int> promise) { return std::move(promise).catch_([](Exception e) -> Promise<int> { return e; }); }},
      {"attach", [](Promise<int> promise) { return std::move(promise).attach(std::make_unique<int>(1)); }},
      {"eagerlyEvaluate", [](Promise<int> promise) { return std::move(promise).eagerlyEvaluate(nullptr); }},
      {"then to a promise", [](Promise<int> promise) { return std::move(promise).then([](int x) -> Promise<int> { return x; }); }},
      {"fork", [](Promise<int> promise) { return std::move(promise).fork().addBranch(); }},
      {"split",
       [](Promise<int> promise) {
         auto [first, second] = std::move(promise).then([](int x) { return std::tuple(x, 1); }).split();
         return std::move(first);
       }},
      {"Canceler::wrap", [&](Promise<int> promise) { return canceler.wrap(std::move(promise)); }},
      {"a coroutine", [](Promise<int> promise) {
         return [](Promise<int> p) -> Promise<int> { co_return co_await std::move(p); }(std::move(promise));
       }},
      {"raceSuccessful", [](Promise<int> promise) { return raceSuccessful(std::move(promise)); }},
  };
  for (const auto& [name, step] : towers) {
    CAPTURE(name);
    checkOnSmallStack([&step = step](WaitScope& scope) {
      checkTower(
          scope,
          [&step](Promise<int> promise) {
            for (int i = 0; i < DEPTH; ++i) promise = step(std::move(promise));
            return promise;
          },
          0);
    });
  }
  checkOnSmallStack([&](WaitScope& scope) {
    checkTower(
        scope,
        [&](Promise<int> promise) {
          for (std::size_t i = 0; i < DEPTH; ++i) promise = towers[i % std::size(towers)].second(std::move(promise));
          return promise;
        },
        0);
  });
}

TEST_CASE("a million buffered items (200 000 under a sanitizer) reach a reader that is always ready on a stack of 256 KiB (R4)") {
  checkOnSmallStack([](WaitScope& scope) {
    ProducerConsumerQueue<int> queue;
    const auto fill = [&queue] {
      for (int i = 0; i < MANY; ++i) queue.push(i);
    };
    fill();
    require(popAll(queue).wait(scope) == MANY, "a coroutine did not get all");
    fill();
    require(popFrom(queue, 0).wait(scope) == MANY, "continuations did not get all");
    Promise<int> readers = popAll(queue);
    require(!readers.poll(scope), "it was ready before its cause");
    fill();
    require(std::move(readers).wait(scope) == MANY, "who waited did not get all");
  });
  checkOnSmallStack([](WaitScope& scope) {
    Channel<int> channel(MANY);
    for (int i = 0; i < MANY; ++i) require(channel.trySend(i), "there was no room");
    channel.close();
    require(receiveAll(channel).wait(scope) == MANY, "a reader did not get all");
  });
}

TEST_CASE("a million items (200 000 under a sanitizer) pass from a sender to a receiver on a stack of 256 KiB, whatever the bound (R4)") {
  for (const std::size_t capacity : {std::size_t(0), std::size_t(1), std::size_t(1000)}) {
    CAPTURE(capacity);
    checkOnSmallStack([capacity](WaitScope& scope) {
      Channel<int> channel(capacity);
      Promise<void> sender = sendAll(channel).eagerlyEvaluate(nullptr);
      require(receiveAll(channel).wait(scope) == MANY, "not all have arrived");
      std::move(sender).wait(scope);
    });
  }
}

TEST_CASE("a million requests that wait (200 000 under a sanitizer) are answered, and cancelled, on a stack of 256 KiB (R4)") {
  checkOnSmallStack([](WaitScope& scope) {
    ProducerConsumerQueue<int> queue;
    std::vector<Promise<int>> pops;
    for (int i = 0; i < MANY; ++i) pops.push_back(queue.pop());
    for (int i = 0; i < MANY; ++i) queue.push(i);
    for (int i = 0; i < MANY; ++i) require(std::move(pops[static_cast<std::size_t>(i)]).wait(scope) == i, "the order is wrong");
    pops.clear();
    for (int i = 0; i < MANY; ++i) pops.push_back(queue.pop());
  });
}
