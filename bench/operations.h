// SPDX-License-Identifier: MIT
// The operations whose cost is measured: by the promise benchmark beside its peers, and by the tests that pin it.

// Each is one operation with its `wait()` at the end, and checks its result. They are inline, so that the benchmark
// measures no call.
#pragma once

#include <troth/runtime/canceler.h>
#include <troth/runtime/channel.h>
#include <troth/runtime/event_loop.h>
#include <troth/runtime/join.h>
#include <troth/runtime/promise.h>
#include <troth/runtime/queue.h>
#include <troth/runtime/sync.h>
#include <troth/runtime/task_set.h>
#include <troth/timers/manual_timer.h>

#include <chrono>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <optional>
#include <source_location>
#include <tuple>
#include <utility>
#include <variant>
#include <vector>

namespace troth::bench {

using namespace std::chrono_literals;

class AbortOnFailure final : public TaskSet::ErrorHandler {
public:
  void taskFailed(Exception exception) override {
    std::fprintf(stderr, "a task failed: %s\n", exception.what());
    std::abort();
  }
};

/// What outlives a single operation.
struct World {
  EventLoop loop;
  WaitScope scope{loop};
  AbortOnFailure handler;
  TaskSet tasks{handler};
  Canceler canceler;
  ProducerConsumerQueue<int> queue;
  Channel<int> channel{1};
  AsyncMutex mutex;
  Semaphore semaphore{1};
  ManualTimer timer;
  std::size_t count = 0;
};

[[noreturn, gnu::cold]] inline void wrongResult(std::source_location where) noexcept {
  std::fprintf(stderr, "%s:%u: wrong result\n", where.file_name(), static_cast<unsigned>(where.line()));
  std::abort();
}

/// Aborts unless `right`: the cost of something that does not work is of no interest.
inline void expect(bool right, std::source_location where = std::source_location::current()) noexcept {
  if (!right) [[unlikely]]
    wrongResult(where);
}

/// Makes the optimizer believe that `object` is looked at and changed here: so it must exist, and so must the memory
/// that it points to.
template <typename T>
void keep(T& object) {
  asm volatile("" : : "r"(&object) : "memory");
}

// As in a program: what is used in one file is compiled as of that file alone.
namespace {

// --- Promises and continuations

inline void ready(World& world) { Promise<void>(READY_NOW).wait(world.scope); }

inline void immediate(World& world) { expect(Promise<int>(42).wait(world.scope) == 42); }

inline void then(World& world) {
  expect(Promise<int>(42).then([](int value) { return value + 1; }).wait(world.scope) == 43);
}

inline void then10(World& world) {
  const auto increment = [](int value) { return value + 1; };
  int result = Promise<int>(42)
                   .then(increment)
                   .then(increment)
                   .then(increment)
                   .then(increment)
                   .then(increment)
                   .then(increment)
                   .then(increment)
                   .then(increment)
                   .then(increment)
                   .then(increment)
                   .wait(world.scope);
  expect(result == 52);
}

// More than fit into one arena.
inline void then50(World& world) {
  Promise<int> promise = 0;
  for (int i = 0; i < 50; ++i) promise = std::move(promise).then([](int value) { return value + 1; });
  expect(std::move(promise).wait(world.scope) == 50);
}

inline void thenPromise(World& world) {
  expect(Promise<int>(42).then([](int value) -> Promise<int> { return value + 1; }).wait(world.scope) == 43);
}

inline void catchNothing(World& world) {
  expect(Promise<int>(42).catch_([](Exception) { return 0; }).wait(world.scope) == 42);
}

inline void rejected(World& world) {
  int result = Promise<int>(Exception(Exception::Kind::FAILED, "x"))
                   .then([](int value) { return value; }, [](Exception) { return 7; })
                   .wait(world.scope);
  expect(result == 7);
}

inline void asResult(World& world) {
  Result<int> result = Promise<int>(42).asResult().wait(world.scope);
  expect(*result == 42);
}

inline void asFailedResult(World& world) {
  Promise<int> failed = Exception(Exception::Kind::FAILED, "x");
  Result<int> result = std::move(failed).asResult().wait(world.scope);
  expect(!result);
}

inline void attach(World& world) {
  std::size_t attachments[4] = {};
  expect(Promise<int>(42).attach(attachments, &world).wait(world.scope) == 42);
}

inline void ignoreResult(World& world) { Promise<int>(42).ignoreResult().wait(world.scope); }

inline void eagerlyEvaluate(World& world) {
  expect(Promise<int>(42).then([](int value) { return value + 1; }).eagerlyEvaluate(nullptr).wait(world.scope) == 43);
}

inline void constPromise(World& world) { expect(troth::constPromise<int, 42>().wait(world.scope) == 42); }

// --- Turns of the loop

inline void evalNow(World& world) {
  expect(troth::evalNow([] { return 42; }).wait(world.scope) == 42);
}

inline void evalLater(World& world) {
  expect(troth::evalLater([] { return 42; }).wait(world.scope) == 42);
}

inline void evalLast(World& world) {
  expect(troth::evalLast([] { return 42; }).wait(world.scope) == 42);
}

inline void yields(World& world) {
  yield().wait(world.scope);
  yieldUntilQueueEmpty().wait(world.scope);
  yieldUntilWouldSleep().wait(world.scope);
}

inline void retryOnDisconnect(World& world) {
  expect(troth::retryOnDisconnect([] { return Promise<int>(42); }).wait(world.scope) == 42);
}

inline void poll(World& world) {
  Promise<int> promise = troth::evalLater([] { return 42; });
  expect(promise.poll(world.scope));
  expect(std::move(promise).wait(world.scope) == 42);
}

// --- Coroutines

[[gnu::noinline]] inline Promise<int> returnAnswer() { co_return 42; }

[[gnu::noinline]] inline Promise<int> awaitReadyConstant() {
  co_await Promise<void>(READY_NOW);
  co_return 42;
}

[[gnu::noinline]] inline Promise<int> awaitAnswer() { co_return co_await returnAnswer(); }

[[gnu::noinline]] inline Promise<int> awaitAnswers() {
  int sum = 0;
  for (int i = 0; i < 100; ++i) sum += co_await returnAnswer();
  co_return sum;
}

[[gnu::noinline]] inline Promise<int> pow2(int n) {
  if (n == 0) co_return 1;
  co_return 2 * co_await pow2(n - 1);
}

[[gnu::noinline]] inline Promise<int> awaitPromise(Promise<int> promise) { co_return co_await std::move(promise); }

[[gnu::noinline]] inline Promise<int> awaitFork(ForkedPromise<int> fork) { co_return co_await fork; }

[[gnu::noinline]] inline Promise<int> awaitFailure(Promise<int> promise) {
  Result<int> result = co_await std::move(promise).asResult();
  co_return result ? 0 : 42;
}

[[gnu::noinline]] inline Promise<void> countOne(std::size_t& count) {
  ++count;
  co_return;
}

inline void coroutine(World& world) { expect(returnAnswer().wait(world.scope) == 42); }

inline void coroutineAwaitsReady(World& world) { expect(awaitReadyConstant().wait(world.scope) == 42); }

inline void coroutineAwaitsCoroutine(World& world) { expect(awaitAnswer().wait(world.scope) == 42); }

inline void coroutineAwaits100Coroutines(World& world) { expect(awaitAnswers().wait(world.scope) == 4200); }

inline void recursion20(World& world) { expect(pow2(20).wait(world.scope) == 1 << 20); }

inline void coroutineAwaitsFork(World& world) { expect(awaitFork(Promise<int>(42).fork()).wait(world.scope) == 42); }

inline void coroutineCancelled(World& world) {
  Promise<int> waiting = awaitPromise(NEVER_DONE);
  world.scope.poll();
  keep(waiting);
}

inline void coroutineTakesFailure(World& world) {
  Promise<int> failed = Exception(Exception::Kind::FAILED, "x");
  expect(awaitFailure(std::move(failed)).wait(world.scope) == 42);
}

inline void coCapture(World& world) {
  int captured = 42;
  auto lambda = troth::coCapture([captured]() -> Promise<int> {
    co_await yield();
    co_return captured;
  });
  expect(lambda().wait(world.scope) == 42);
}

// --- Fulfillers and adapters

inline void fulfiller(World& world) {
  auto pair = newPromiseAndFulfiller<int>();
  pair.fulfiller->fulfill(42);
  expect(std::move(pair.promise).wait(world.scope) == 42);
}

inline void fulfillerOfPromise(World& world) {
  auto pair = newPromiseAndFulfiller<Promise<int>>();
  pair.fulfiller->fulfill(Promise<int>(42));
  expect(std::move(pair.promise).wait(world.scope) == 42);
}

inline void coroutineAwaitsFulfiller(World& world) {
  auto pair = newPromiseAndFulfiller<int>();
  Promise<int> result = awaitPromise(std::move(pair.promise));
  pair.fulfiller->fulfill(42);
  expect(std::move(result).wait(world.scope) == 42);
}

class FulfilledAtOnce {
public:
  explicit FulfilledAtOnce(PromiseFulfiller<int>& fulfiller) { fulfiller.fulfill(42); }
};

inline void adapted(World& world) { expect(newAdaptedPromise<int, FulfilledAtOnce>().wait(world.scope) == 42); }

// Is never completed, and counts how often it was cancelled.
class Cancellable {
public:
  Cancellable(PromiseFulfiller<int>&, std::size_t& cancelled) : cancelled_(cancelled) {}
  ~Cancellable() { ++cancelled_; }

private:
  std::size_t& cancelled_;
};

inline void adaptedCancelled(World& world) {
  const std::size_t before = world.count;
  {
    auto promise = newAdaptedPromise<int, Cancellable>(world.count);
    keep(promise);
  }
  expect(world.count == before + 1);
}

// --- Several promises

inline void fork2(World& world) {
  auto fork = Promise<int>(42).fork();
  Promise<int> first = fork.addBranch();
  Promise<int> second = fork.addBranch();
  expect(std::move(first).wait(world.scope) == 42);
  expect(std::move(second).wait(world.scope) == 42);
}

inline void split2(World& world) {
  auto [first, second] = Promise<std::tuple<int, char>>(std::tuple(42, 'x')).split();
  expect(std::move(first).wait(world.scope) == 42);
  expect(std::move(second).wait(world.scope) == 'x');
}

inline void exclusiveJoin(World& world) { expect(Promise<int>(42).exclusiveJoin(NEVER_DONE).wait(world.scope) == 42); }

inline std::vector<Promise<void>> tenReady() {
  std::vector<Promise<void>> promises;
  promises.reserve(10);
  for (int i = 0; i < 10; ++i) promises.push_back(READY_NOW);
  return promises;
}

inline std::vector<Promise<int>> tenValues() {
  std::vector<Promise<int>> promises;
  promises.reserve(10);
  for (int i = 0; i < 10; ++i) promises.push_back(42 + i);
  return promises;
}

inline void join10All(World& world) { joinPromises(tenReady()).wait(world.scope); }

inline void join10(World& world) { joinPromisesFailFast(tenReady()).wait(world.scope); }

inline void join10Variadic(World& world) {
  auto one = [] { return Promise<void>(READY_NOW); };
  auto joined = joinPromisesFailFast(one(), one(), one(), one(), one(), one(), one(), one(), one(), one());
  std::move(joined).wait(world.scope);
}

inline void join3Variadic(World& world) {
  auto [number, letter, nothing] =
      joinPromises(Promise<int>(42), Promise<char>('x'), Promise<void>(READY_NOW)).wait(world.scope);
  expect(number == 42 && letter == 'x' && nothing == std::monostate());
}

inline void joinValues(World& world) { expect(joinPromises(tenValues()).wait(world.scope).back() == 51); }

inline void joinValuesFailFast(World& world) {
  expect(joinPromisesFailFast(tenValues()).wait(world.scope).back() == 51);
}

inline void race10(World& world) { expect(raceSuccessful(tenValues()).wait(world.scope) == 42); }

inline void race2Variadic(World& world) {
  expect(raceSuccessful(Promise<int>(42), Promise<int>(NEVER_DONE)).wait(world.scope) == 42);
}

// --- Tasks and cancellation

inline void taskSet(World& world) {
  const std::size_t before = world.count;
  world.tasks.add(countOne(world.count));
  world.scope.poll();
  expect(world.count == before + 1 && world.tasks.isEmpty());
}

inline void taskSetReady(World& world) {
  world.tasks.add(READY_NOW);
  world.scope.poll();
  expect(world.tasks.isEmpty());
}

inline void taskSetEmpty(World& world) {
  world.tasks.add(troth::evalLater([] {}));
  world.tasks.onEmpty().wait(world.scope);
  expect(world.tasks.isEmpty());
}

inline void taskSetCleared(World& world) {
  for (int i = 0; i < 10; ++i) world.tasks.add(NEVER_DONE);
  world.tasks.clear();
  expect(world.tasks.isEmpty());
}

inline void detach(World& world) {
  const std::size_t before = world.count;
  troth::evalLater([&world] { ++world.count; }).detach([](Exception) { std::abort(); });
  world.scope.poll();
  expect(world.count == before + 1);
}

inline void canceler(World& world) { expect(world.canceler.wrap(Promise<int>(42)).wait(world.scope) == 42); }

inline void cancelerReleases(World& world) {
  Promise<int> wrapped = world.canceler.wrap(Promise<int>(NEVER_DONE));
  world.canceler.release();
  expect(world.canceler.isEmpty());
}

// --- Queues and locks

inline void queue(World& world) {
  world.queue.push(42);
  expect(world.queue.pop().wait(world.scope) == 42);
}

inline void queueAwaited(World& world) {
  Promise<int> popped = world.queue.pop();
  world.queue.push(42);
  expect(std::move(popped).wait(world.scope) == 42);
}

inline void channel(World& world) {
  world.channel.send(42).wait(world.scope);
  expect(world.channel.receive().wait(world.scope) == 42);
}

// The second of two sends has to wait for room.
inline void channelFull(World& world) {
  world.channel.send(1).wait(world.scope);
  Promise<void> second = world.channel.send(2);
  expect(world.channel.receive().wait(world.scope) == 1);
  std::move(second).wait(world.scope);
  expect(world.channel.receive().wait(world.scope) == 2);
}

inline void mutex(World& world) {
  AsyncMutex::Lock lock = world.mutex.lock().wait(world.scope);
  Promise<AsyncMutex::Lock> next = world.mutex.lock();
  lock.unlock();
  expect(std::move(next).wait(world.scope).isHeld());
}

inline void semaphore(World& world) {
  Semaphore::Permit permit = world.semaphore.acquire().wait(world.scope);
  Promise<Semaphore::Permit> next = world.semaphore.acquire();
  permit.release();
  expect(std::move(next).wait(world.scope).count() == 1);
}

// --- Time

inline void timer(World& world) {
  Promise<void> later = world.timer.afterDelay(1ms);
  world.timer.advanceBy(1ms);
  std::move(later).wait(world.scope);
}

inline void timerCancelled(World& world) {
  Promise<void> later = world.timer.afterDelay(1h);
  keep(later);
}

inline void timeoutNotReached(World& world) {
  expect(world.timer.timeoutAfter(1h, Promise<int>(42)).wait(world.scope) == 42);
}

} // namespace
} // namespace troth::bench
