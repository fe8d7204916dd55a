// SPDX-License-Identifier: MIT
// WaiterQueue and ProducerConsumerQueue: order, cancellation, destruction, misuse, large numbers.
#include "cancel_check.h"
#include "helpers.h"

#include <troth/runtime/pool_detail.h>
#include <troth/runtime/queue.h>
#include <troth/runtime/task_set.h>

#include <algorithm>
#include <deque>
#include <memory>
#include <numeric>
#include <random>
#include <stdexcept>
#include <thread>
#include <vector>

using namespace troth;
using namespace troth::test;

namespace {

Promise<void> popInto(ProducerConsumerQueue<int>& queue, std::vector<int>& to, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) to.push_back(co_await queue.pop());
}

std::vector<int> upTo(int end) {
  std::vector<int> numbers(static_cast<std::size_t>(end));
  std::iota(numbers.begin(), numbers.end(), 0);
  return numbers;
}

} // namespace

// --- WaiterQueue

TEST_CASE_FIXTURE(LoopTest, "waiters are fulfilled in the order in which they came") {
  WaiterQueue<int> queue;
  CHECK(queue.isEmpty());
  Promise<int> first = queue.wait();
  Promise<int> second = queue.wait();
  Promise<int> third = queue.wait();
  CHECK_FALSE(queue.isEmpty());
  CHECK(takeAfter(first, scope, [&] { queue.fulfill(1); }) == 1);
  queue.fulfill(2);
  CHECK(takeAfter(third, scope, [&] { queue.fulfill(3); }) == 3);
  CHECK(std::move(second).wait(scope) == 2);
  CHECK(queue.isEmpty());
}

TEST_CASE_FIXTURE(LoopTest, "reject makes the first waiter fail and leaves the others") {
  WaiterQueue<std::string> queue;
  Promise<std::string> first = queue.wait();
  Promise<std::string> second = queue.wait();
  queue.reject(Exception(Exception::Kind::OVERLOADED, "no more"));
  CHECK(failureOf(std::move(first), scope).description() == "no more");
  CHECK(takeAfter(second, scope, [&] { queue.fulfill("x"); }) == "x");
}

TEST_CASE_FIXTURE(LoopTest, "a cancelled waiter is passed over, wherever it stands in the line") {
  for (std::size_t cancelled = 0; cancelled < 3; ++cancelled) {
    WaiterQueue<void> queue;
    std::vector<std::optional<Promise<void>>> waiters;
    for (int i = 0; i < 3; ++i) waiters.emplace_back(queue.wait());
    waiters[cancelled].reset();
    for (auto& waiter : waiters)
      if (waiter) takeAfter(*waiter, scope, [&] { queue.fulfill(); });
    CHECK(queue.isEmpty());
  }
}

TEST_CASE_FIXTURE(LoopTest, "fulfilling or rejecting when nobody waits throws and names the caller") {
  WaiterQueue<std::unique_ptr<int>> queue;
  const Exception fulfilled = thrownBy([&] { queue.fulfill(nullptr); });
  CHECK(kindName(fulfilled) == "FAILED");
  CHECK(contains(fulfilled.description(), "nobody waits"));
  CHECK(fileOf(fulfilled) == "queue_test.cc");
  CHECK(fileOf(thrownBy([&] { queue.reject(Exception(Exception::Kind::FAILED, "x")); })) == "queue_test.cc");
}

TEST_CASE_FIXTURE(LoopTest, "destroying a WaiterQueue rejects those who wait with DISCONNECTED and their place") {
  auto queue = std::make_unique<WaiterQueue<int>>();
  Promise<int> fulfilled = queue->wait();
  Promise<int> waiting = queue->wait();
  queue->fulfill(5);
  queue.reset();
  CHECK(std::move(fulfilled).wait(scope) == 5);
  const Exception e = failureOf(std::move(waiting), scope);
  CHECK(kindName(e) == "DISCONNECTED");
  CHECK(fileOf(e) == "queue_test.cc");
}

TEST_CASE_FIXTURE(LoopTest, "a value given to a waiter is destroyed with its promise") {
  WaiterQueue<Item> queue;
  {
    Promise<Item> waiter = queue.wait();
    queue.fulfill(Item(1));
    CHECK(Item::alive == 1);
  }
  CHECK(Item::alive == 0);
}

TEST_CASE_FIXTURE(LoopTest, "a waiter may destroy the WaiterQueue when it goes on") {
  auto queue = std::make_unique<WaiterQueue<int>>();
  Promise<int> byCoroutine = [](std::unique_ptr<WaiterQueue<int>>& q) -> Promise<int> {
    const int value = co_await q->wait();
    q.reset();
    co_return value;
  }(queue);
  Promise<int> other = queue->wait();
  CHECK(takeAfter(byCoroutine, scope, [&] { queue->fulfill(7); }) == 7);
  CHECK(queue == nullptr);
  CHECK(kindName(failureOf(std::move(other), scope)) == "DISCONNECTED");
}

// --- ProducerConsumerQueue: order

TEST_CASE_FIXTURE(LoopTest, "items come out in the order in which they were pushed") {
  ProducerConsumerQueue<int> queue;
  CHECK(queue.isEmpty());
  for (int i = 0; i < 100; ++i) queue.push(i);
  CHECK(queue.size() == 100);
  for (int i = 0; i < 100; ++i) CHECK(queue.pop().wait(scope) == i);
  CHECK(queue.isEmpty());
}

TEST_CASE_FIXTURE(LoopTest, "the oldest pop gets the oldest item, in whatever order the results are taken") {
  ProducerConsumerQueue<int> queue;
  Promise<int> a = queue.pop();
  Promise<int> b = queue.pop();
  Promise<int> c = queue.pop();
  CHECK(takeAfter(a, scope, [&] { queue.push(1); }) == 1);
  queue.push(2);
  queue.push(3);
  Promise<int> d = queue.pop();
  queue.push(4);
  CHECK(std::move(c).wait(scope) == 3);
  CHECK(std::move(d).wait(scope) == 4);
  CHECK(std::move(b).wait(scope) == 2);
}

TEST_CASE_FIXTURE(LoopTest, "an item that a pop has a claim to is not counted, and is again when that is cancelled") {
  ProducerConsumerQueue<int> queue;
  queue.push(1);
  queue.push(2);
  {
    Promise<int> pop = queue.pop();
    CHECK(queue.size() == 1);
  }
  CHECK(queue.size() == 2);
}

TEST_CASE_FIXTURE(LoopTest, "an item may be move-only and without a default constructor, and none is left behind") {
  {
    ProducerConsumerQueue<Item> queue;
    for (int i = 0; i < 20; ++i) queue.push(Item(i));
    for (int i = 0; i < 7; ++i) CHECK(queue.pop().wait(scope).number() == i);
    CHECK(Item::alive == 13);
    Promise<Item> ready = queue.pop();
    CHECK(Item::alive == 13);
  }
  CHECK(Item::alive == 0);
}

TEST_CASE_FIXTURE(LoopTest, "coroutines and continuations take items as they come") {
  ProducerConsumerQueue<int> queue;
  std::vector<int> byCoroutine;
  int byContinuation = 0;
  Promise<void> coroutine = popInto(queue, byCoroutine, 2);
  scope.poll();
  Promise<void> continuation = queue.pop().then([&](int value) { byContinuation = value; }).eagerlyEvaluate(nullptr);
  for (int i = 1; i <= 3; ++i) queue.push(i);
  std::move(coroutine).wait(scope);
  std::move(continuation).wait(scope);
  CHECK(byContinuation == 2);
  CHECK(byCoroutine == std::vector{1, 3});
}

// --- ProducerConsumerQueue: cancellation

TEST_CASE_FIXTURE(LoopTest, "a waiting pop that is cancelled is passed over") {
  ProducerConsumerQueue<int> queue;
  std::optional<Promise<int>> first = queue.pop();
  Promise<int> second = queue.pop();
  first.reset();
  CHECK(takeAfter(second, scope, [&] { queue.push(1); }) == 1);
}

TEST_CASE_FIXTURE(LoopTest, "the item of a ready pop that is cancelled goes to the pop that waits") {
  ProducerConsumerQueue<int> queue;
  std::optional<Promise<int>> first = queue.pop();
  Promise<int> second = queue.pop();
  queue.push(1);
  CHECK(first->poll(scope));
  CHECK(takeAfter(second, scope, [&] { first.reset(); }) == 1);
  Promise<int> third = queue.pop();
  CHECK(takeAfter(third, scope, [&] { queue.push(2); }) == 2);
}

TEST_CASE_FIXTURE(LoopTest, "ready pops that are cancelled, in any order, leave the items in theirs") {
  std::vector<std::size_t> order{0, 1, 2, 3};
  do {
    for (std::size_t cancelled = 1; cancelled <= order.size(); ++cancelled) {
      ProducerConsumerQueue<int> queue;
      std::vector<std::optional<Promise<int>>> pops;
      for (std::size_t i = 0; i < order.size(); ++i) pops.emplace_back(queue.pop());
      for (int i = 0; i < 6; ++i) queue.push(i);
      for (std::size_t i = 0; i < cancelled; ++i) pops[order[i]].reset();
      std::vector<int> seen;
      for (auto& pop : pops)
        if (pop) seen.push_back(std::move(*pop).wait(scope));
      while (!queue.isEmpty()) seen.push_back(queue.pop().wait(scope));
      CHECK(seen == upTo(6));
    }
  } while (std::next_permutation(order.begin(), order.end()));
}

TEST_CASE_FIXTURE(LoopTest, "a pop that loses against another promise in the turn of its item loses no item") {
  ProducerConsumerQueue<int> queue;
  for (int i = 0; i < 3; ++i) {
    auto other = newPromiseAndFulfiller<int>();
    Promise<int> either = std::move(other.promise).exclusiveJoin(queue.pop());
    CHECK_FALSE(either.poll(scope));
    other.fulfiller->fulfill(-1);
    queue.push(i);
    CHECK(std::move(either).wait(scope) == -1);
    CHECK(queue.pop().wait(scope) == i);
  }
  for (int i = 0; i < 10; ++i) {
    queue.push(i);
    CHECK(Promise<int>(-1).exclusiveJoin(queue.pop()).wait(scope) == -1);
  }
  for (int i = 0; i < 10; ++i) CHECK(queue.pop().wait(scope) == i);
}

TEST_CASE_FIXTURE(LoopTest, "traces say what is waited for in a queue, and where") {
  ProducerConsumerQueue<int> queue;
  WaiterQueue<int> waiters;
  const Promise<int> pop = queue.pop().then([](int value) { return value; });
  CHECK(contains(pop.trace(), "ProducerConsumerQueue::pop at tests/runtime/queue_test.cc"));
  CHECK(contains(waiters.wait().trace(), "WaiterQueue::wait at tests/runtime/queue_test.cc"));
}

namespace {

/// One consumer of two is cancelled while the producer pushes.
struct TwoConsumers {
  ProducerConsumerQueue<int> queue;
  std::vector<int> seen;
  FailOnError errors;
  TaskSet others{errors};

  Promise<void> cancelled() {
    others.add(evalLater([this] { queue.push(0); }).then([this] { return evalLater([this] { push(1, 4); }); }));
    others.add(evalLast([this] { push(4, 8); }));
    return [](TwoConsumers& t) -> Promise<void> {
      co_await popInto(t.queue, t.seen, 1);
      Promise<int> ahead = t.queue.pop();
      t.seen.push_back(co_await t.queue.pop().then([](int value) { return value; }));
      co_await evalLater([] {});
      t.seen.push_back(co_await std::move(ahead));
      co_await popInto(t.queue, t.seen, 3);
    }(*this);
  }

  void push(int from, int to) {
    for (int i = from; i < to; ++i) queue.push(i);
  }

  void check(WaitScope& scope) {
    popInto(queue, seen, 8 - seen.size()).wait(scope);
    CHECK(queue.isEmpty());
    std::sort(seen.begin(), seen.end()); // the pop that is made ahead is taken late
    CHECK(seen == upTo(8));
  }
};

} // namespace

TEST_CASE("a consumer that is cancelled anywhere loses no item and doubles none (R5)") {
  CHECK(cancelAndCheck<TwoConsumers>() >= 8);
}

TEST_CASE("a coroutine that owns a queue and its users is cancelled anywhere and leaves nothing (R5)") {
  const std::size_t steps = cancelSweep([](LoopTest&) -> Promise<void> {
    ProducerConsumerQueue<Item> queue;
    WaiterQueue<int> waiters;
    FailOnError errors;
    TaskSet tasks(errors);
    int sum = 0;
    for (int i = 0; i < 3; ++i)
      tasks.add([](ProducerConsumerQueue<Item>& q, WaiterQueue<int>& w, int& total) -> Promise<void> {
        total += co_await w.wait();
        total += (co_await q.pop()).number();
      }(queue, waiters, sum));
    for (int i = 0; i < 3; ++i) {
      co_await evalLater([&] { waiters.fulfill(100); });
      queue.push(Item(i));
    }
    co_await tasks.onEmpty();
    CHECK(sum == 303);
  });
  CHECK(steps >= 8);
  CHECK(Item::alive == 0);
}

TEST_CASE_FIXTURE(LoopTest, "random pushes, pops, takes and cancellations agree with a model") {
  struct Pop {
    Promise<Item> promise;
  };
  for (unsigned seed = 1; seed <= 40; ++seed) {
    CAPTURE(seed);
    std::mt19937 random(seed);
    auto below = [&random](std::size_t n) { return std::uniform_int_distribution<std::size_t>(0, n - 1)(random); };
    auto queue = std::make_unique<ProducerConsumerQueue<Item>>();
    // The model: the i-th pop has the i-th item.
    std::deque<int> items;
    std::vector<Pop> pops;
    int next = 0;
    auto take = [&](std::size_t i) {
      CHECK(std::move(pops[i].promise).wait(scope).number() == items[i]);
      pops.erase(pops.begin() + static_cast<std::ptrdiff_t>(i));
      items.erase(items.begin() + static_cast<std::ptrdiff_t>(i));
    };
    for (int operation = 0; operation < 1'000; ++operation) {
      const std::size_t dice = below(100);
      const std::size_t ready = std::min(pops.size(), items.size());
      if (dice < 35 && items.size() < 40) {
        queue->push(Item(next));
        items.push_back(next++);
      } else if (dice < 70 && pops.size() < 20) {
        pops.push_back({queue->pop()});
      } else if (dice < 84 && ready > 0) {
        take(below(2) == 0 ? 0 : below(ready));
      } else if (dice < 98 && !pops.empty()) {
        pops.erase(pops.begin() + static_cast<std::ptrdiff_t>(below(pops.size())));
      } else if (dice == 98) {
        queue->rejectAll(Exception(Exception::Kind::FAILED, "rejected"));
        while (pops.size() > items.size()) {
          CHECK(failureOf(std::move(pops.back().promise), scope).description() == "rejected");
          pops.pop_back();
        }
      }
      CHECK(queue->size() == items.size() - std::min(pops.size(), items.size()));
      for (std::size_t i = 0; i < pops.size(); ++i) CHECK(pops[i].promise.poll(scope) == (i < items.size()));
    }
    queue.reset();
    while (!pops.empty() && !items.empty()) take(0);
    for (Pop& pop : pops) CHECK(kindName(failureOf(std::move(pop.promise), scope)) == "DISCONNECTED");
    pops.clear();
    CHECK(Item::alive == 0);
  }
}

// --- ProducerConsumerQueue: failing, destruction, misuse

TEST_CASE_FIXTURE(LoopTest, "rejectAll fails the pops that wait, and neither those that are ready nor later ones") {
  ProducerConsumerQueue<int> queue;
  Promise<int> ready = queue.pop();
  Promise<int> waiting = queue.pop();
  queue.push(1);
  queue.rejectAll(Exception(Exception::Kind::OVERLOADED, "enough"));
  CHECK(std::move(ready).wait(scope) == 1);
  CHECK(failureOf(std::move(waiting), scope).description() == "enough");
  Promise<int> later = queue.pop();
  CHECK(takeAfter(later, scope, [&] { queue.push(2); }) == 2);
}

TEST_CASE_FIXTURE(LoopTest, "destroying the queue rejects the pops that wait, and those that are ready keep their item") {
  auto queue = std::make_unique<ProducerConsumerQueue<Item>>();
  Promise<Item> first = queue->pop();
  Promise<Item> second = queue->pop();
  Promise<Item> waiting = queue->pop();
  queue->push(Item(1));
  queue->push(Item(2));
  queue.reset();
  CHECK(std::move(second).wait(scope).number() == 2);
  CHECK(std::move(first).wait(scope).number() == 1);
  const Exception e = failureOf(std::move(waiting), scope);
  CHECK(kindName(e) == "DISCONNECTED");
  CHECK(fileOf(e) == "queue_test.cc");
  CHECK(Item::alive == 0);
}

TEST_CASE_FIXTURE(LoopTest, "whoever pops may destroy the queue when it goes on") {
  auto queue = std::make_unique<ProducerConsumerQueue<int>>();
  SUBCASE("a coroutine") {
    Promise<void> promise = [](std::unique_ptr<ProducerConsumerQueue<int>>& q) -> Promise<void> {
      CHECK(co_await q->pop() == 1);
      q.reset();
    }(queue);
    Promise<int> ready = queue->pop();
    Promise<int> waiting = queue->pop();
    queue->push(1);
    queue->push(2);
    std::move(promise).wait(scope);
    CHECK(std::move(ready).wait(scope) == 2);
    CHECK(kindName(failureOf(std::move(waiting), scope)) == "DISCONNECTED");
  }
  SUBCASE("a continuation") {
    Promise<void> promise = queue->pop().then([&](int) { queue.reset(); });
    queue->push(1);
    queue->push(2);
    std::move(promise).wait(scope);
  }
  CHECK(queue == nullptr);
}

TEST_CASE_FIXTURE(LoopTest, "using a queue on another thread throws and names the caller") {
  ProducerConsumerQueue<int> queue;
  WaiterQueue<int> waiters;
  queue.push(1);
  Promise<int> waiter = waiters.wait();
  std::thread([&] {
    const Exception pushed = thrownBy([&] { queue.push(2); });
    CHECK(kindName(pushed) == "FAILED");
    CHECK(contains(pushed.description(), "ProducerConsumerQueue::push"));
    CHECK(contains(pushed.description(), "another thread"));
    CHECK(fileOf(pushed) == "queue_test.cc");
    EventLoop other;
    WaitScope otherScope(other);
    CHECK(contains(thrownBy([&] { (void)queue.pop(); }).description(), "ProducerConsumerQueue::pop"));
    CHECK(contains(thrownBy([&] { queue.rejectAll(pushed); }).description(), "rejectAll"));
    CHECK(contains(thrownBy([&] { waiters.fulfill(1); }).description(), "WaiterQueue::fulfill"));
    CHECK(contains(thrownBy([&] { (void)waiters.wait(); }).description(), "WaiterQueue::wait"));
  }).join();
  CHECK(queue.size() == 1);
  CHECK_FALSE(waiter.poll(scope));
}

TEST_CASE("taking or destroying a pop, or destroying its queue, on another thread aborts and says so") {
  auto diesOnAThread = [](const std::function<void(ProducerConsumerQueue<int>*, Promise<int>*)>& body) {
    const ChildEnd end = runInChild([&] {
      EventLoop loop;
      WaitScope scope(loop);
      auto* queue = new ProducerConsumerQueue<int>;
      auto* promise = new Promise<int>(queue->pop());
      std::thread([&] {
        EventLoop other;
        WaitScope otherScope(other);
        body(queue, promise);
      }).join();
    });
    CHECK(end.aborted);
    CHECK(contains(end.errors, "another thread"));
  };
  diesOnAThread([](ProducerConsumerQueue<int>*, Promise<int>* promise) { delete promise; });
  diesOnAThread([](ProducerConsumerQueue<int>* queue, Promise<int>*) { delete queue; });
}

TEST_CASE("taking a ready pop on another thread aborts and says so") {
  const ChildEnd end = runInChild([] {
    EventLoop loop;
    WaitScope scope(loop);
    ProducerConsumerQueue<int> queue;
    queue.push(1);
    Promise<int> promise = queue.pop();
    std::thread([&] {
      EventLoop other;
      WaitScope otherScope(other);
      std::move(promise).wait(otherScope);
    }).join();
  });
  CHECK(end.aborted);
  CHECK(contains(end.errors, "another thread"));
}

TEST_CASE("a queue may be made and filled before there is a loop") {
  ProducerConsumerQueue<int> queue;
  queue.push(1);
  LoopTest test;
  CHECK(queue.pop().wait(test.scope) == 1);
}

// --- Large numbers, and costs

TEST_CASE("a million pops wait, are served and taken, or destroyed, in constant stack and linear time") {
  onStackOf(256 * 1024, [] {
    constexpr std::size_t COUNT = SANITIZED ? 200'000 : 1'000'000;
    LoopTest test;
    auto queue = std::make_unique<ProducerConsumerQueue<int>>();
    std::vector<std::optional<Promise<int>>> pops(COUNT);
    auto popAll = [&] {
      for (auto& pop : pops) pop.emplace(queue->pop());
    };
    auto pushAll = [&] {
      for (std::size_t i = 0; i < COUNT; ++i) queue->push(static_cast<int>(i));
    };
    popAll(); // and destroyed waiting
    for (auto& pop : pops) pop.reset();
    popAll(); // and taken in order
    pushAll();
    long sum = 0;
    for (auto& pop : pops) sum += std::move(*pop).wait(test.scope);
    CHECK(sum == static_cast<long>(COUNT * (COUNT - 1) / 2));
    popAll(); // and taken from the back
    pushAll();
    for (std::size_t i = COUNT; i > 0; --i) sum -= std::move(*pops[i - 1]).wait(test.scope);
    CHECK(sum == 0);
    popAll(); // and destroyed with their items, from both ends
    pushAll();
    for (std::size_t i = 0; i < COUNT / 2; ++i) {
      pops[i].reset();
      pops[COUNT - 1 - i].reset();
    }
    CHECK(queue->size() == COUNT);
    for (int i = 0; i < 10; ++i) CHECK(queue->pop().wait(test.scope) == i);
    queue = std::make_unique<ProducerConsumerQueue<int>>();
    popAll(); // and rejected
    queue.reset();
    CHECK(kindName(failureOf(std::move(*pops[COUNT / 2]), test.scope)) == "DISCONNECTED");
    pops.clear();
  });
}

TEST_CASE_FIXTURE(LoopTest, "a hundred thousand coroutines that wait in a line are served, each by the one before") {
  WaiterQueue<void> queue;
  FailOnError errors;
  TaskSet tasks(errors);
  int served = 0;
  for (int i = 0; i < 100'000; ++i)
    tasks.add([](WaiterQueue<void>& q, int& count) -> Promise<void> {
      co_await q.wait();
      ++count;
      if (!q.isEmpty()) q.fulfill();
    }(queue, served));
  queue.fulfill();
  scope.poll();
  CHECK(served == 100'000);
  CHECK(tasks.isEmpty());
}

TEST_CASE_FIXTURE(LoopTest, "a queue in its steady state allocates nothing from the heap") {
  if (SANITIZED) return; // the pool keeps nothing then
  ProducerConsumerQueue<std::unique_ptr<int>> queue;
  WaiterQueue<int> waiters;
  long sum = 0;
  auto run = [&] {
    for (int i = 0; i < 50; ++i) queue.push(nullptr);
    for (int i = 0; i < 50; ++i) sum += queue.pop().wait(scope) == nullptr;
    Promise<std::unique_ptr<int>> pop = queue.pop();
    queue.push(nullptr);
    sum += std::move(pop).wait(scope) == nullptr;
    Promise<int> waiter = waiters.wait();
    waiters.fulfill(1);
    sum += std::move(waiter).wait(scope);
  };
  run();
  const std::uint64_t before = heapAllocations();
  for (int i = 0; i < 100; ++i) run();
  CHECK(heapAllocations() == before);
  CHECK(sum == 101 * 52);
}
