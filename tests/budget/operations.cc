// SPDX-License-Identifier: MIT
// The operations, each with its `wait()` at the end, and the table of what they allocate.
#include "operations.h"
#include "counting.h"

#include <troth/runtime/join.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <optional>
#include <tuple>
#include <utility>
#include <vector>

namespace troth::budget {

void AbortOnFailure::taskFailed(Exception exception) {
  std::fprintf(stderr, "a task failed: %s\n", exception.what());
  std::abort();
}

void wrongResult(std::source_location where) noexcept {
  std::fprintf(stderr, "%s:%u: wrong result\n", where.file_name(), static_cast<unsigned>(where.line()));
  std::abort();
}

namespace {

using namespace std::chrono_literals;

int increment(int value) { return value + 1; }

// --- Promises and continuations

void ready(World& world) { Promise<void>(READY_NOW).wait(world.scope); }

void immediate(World& world) { expect(Promise<int>(42).wait(world.scope) == 42); }

void then(World& world) { expect(Promise<int>(42).then(increment).wait(world.scope) == 43); }

void then10(World& world) {
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
void then50(World& world) {
  Promise<int> promise = 0;
  for (int i = 0; i < 50; ++i) promise = std::move(promise).then(increment);
  expect(std::move(promise).wait(world.scope) == 50);
}

void thenPromise(World& world) {
  expect(Promise<int>(42).then([](int value) -> Promise<int> { return value + 1; }).wait(world.scope) == 43);
}

void catchNothing(World& world) {
  expect(Promise<int>(42).catch_([](Exception) { return 0; }).wait(world.scope) == 42);
}

void rejected(World& world) {
  int result = Promise<int>(Exception(Exception::Kind::FAILED, "x"))
                   .then([](int value) { return value; }, [](Exception) { return 7; })
                   .wait(world.scope);
  expect(result == 7);
}

void asResult(World& world) {
  Result<int> result = Promise<int>(42).asResult().wait(world.scope);
  expect(*result == 42);
}

void asFailedResult(World& world) {
  Promise<int> failed = Exception(Exception::Kind::FAILED, "x");
  Result<int> result = std::move(failed).asResult().wait(world.scope);
  expect(!result);
}

void attach(World& world) {
  std::size_t attachments[4] = {};
  expect(Promise<int>(42).attach(attachments, &world).wait(world.scope) == 42);
}

void ignoreResult(World& world) { Promise<int>(42).ignoreResult().wait(world.scope); }

void eagerlyEvaluate(World& world) {
  expect(Promise<int>(42).then(increment).eagerlyEvaluate(nullptr).wait(world.scope) == 43);
}

void constPromise(World& world) { expect(troth::constPromise<int, 42>().wait(world.scope) == 42); }

// --- Turns of the loop

void evalNow(World& world) {
  expect(troth::evalNow([] { return 42; }).wait(world.scope) == 42);
}

void evalLater(World& world) {
  expect(troth::evalLater([] { return 42; }).wait(world.scope) == 42);
}

void evalLast(World& world) {
  expect(troth::evalLast([] { return 42; }).wait(world.scope) == 42);
}

void yields(World& world) {
  yield().wait(world.scope);
  yieldUntilQueueEmpty().wait(world.scope);
  yieldUntilWouldSleep().wait(world.scope);
}

void retryOnDisconnect(World& world) {
  expect(troth::retryOnDisconnect([] { return Promise<int>(42); }).wait(world.scope) == 42);
}

void poll(World& world) {
  Promise<int> promise = troth::evalLater([] { return 42; });
  expect(promise.poll(world.scope));
  expect(std::move(promise).wait(world.scope) == 42);
}

// --- Coroutines

[[gnu::noinline]] Promise<int> returnAnswer() { co_return 42; }

[[gnu::noinline]] Promise<int> awaitReadyConstant() {
  co_await Promise<void>(READY_NOW);
  co_return 42;
}

[[gnu::noinline]] Promise<int> awaitAnswer() { co_return co_await returnAnswer(); }

[[gnu::noinline]] Promise<int> awaitAnswers() {
  int sum = 0;
  for (int i = 0; i < 100; ++i) sum += co_await returnAnswer();
  co_return sum;
}

[[gnu::noinline]] Promise<int> pow2(int n) {
  if (n == 0) co_return 1;
  co_return 2 * co_await pow2(n - 1);
}

[[gnu::noinline]] Promise<int> awaitPromise(Promise<int> promise) { co_return co_await std::move(promise); }

[[gnu::noinline]] Promise<int> awaitFork(ForkedPromise<int> fork) { co_return co_await fork; }

[[gnu::noinline]] Promise<int> awaitFailure(Promise<int> promise) {
  Result<int> result = co_await std::move(promise).asResult();
  co_return result ? 0 : 42;
}

[[gnu::noinline]] Promise<void> countOne(std::size_t& count) {
  ++count;
  co_return;
}

void coroutine(World& world) { expect(returnAnswer().wait(world.scope) == 42); }

void coroutineAwaitsReady(World& world) { expect(awaitReadyConstant().wait(world.scope) == 42); }

void coroutineAwaitsCoroutine(World& world) { expect(awaitAnswer().wait(world.scope) == 42); }

void coroutineAwaits100Coroutines(World& world) { expect(awaitAnswers().wait(world.scope) == 4200); }

void recursion20(World& world) { expect(pow2(20).wait(world.scope) == 1 << 20); }

void coroutineAwaitsFork(World& world) { expect(awaitFork(Promise<int>(42).fork()).wait(world.scope) == 42); }

void coroutineCancelled(World& world) {
  Promise<int> waiting = awaitPromise(NEVER_DONE);
  world.scope.poll();
  keep(waiting);
}

void coroutineTakesFailure(World& world) {
  Promise<int> failed = Exception(Exception::Kind::FAILED, "x");
  expect(awaitFailure(std::move(failed)).wait(world.scope) == 42);
}

void coCapture(World& world) {
  int captured = 42;
  auto lambda = troth::coCapture([captured]() -> Promise<int> {
    co_await yield();
    co_return captured;
  });
  expect(lambda().wait(world.scope) == 42);
}

// --- Fulfillers and adapters

void fulfiller(World& world) {
  auto pair = newPromiseAndFulfiller<int>();
  pair.fulfiller->fulfill(42);
  expect(std::move(pair.promise).wait(world.scope) == 42);
}

void fulfillerOfPromise(World& world) {
  auto pair = newPromiseAndFulfiller<Promise<int>>();
  pair.fulfiller->fulfill(Promise<int>(42));
  expect(std::move(pair.promise).wait(world.scope) == 42);
}

void coroutineAwaitsFulfiller(World& world) {
  auto pair = newPromiseAndFulfiller<int>();
  Promise<int> result = awaitPromise(std::move(pair.promise));
  pair.fulfiller->fulfill(42);
  expect(std::move(result).wait(world.scope) == 42);
}

class FulfilledAtOnce {
public:
  explicit FulfilledAtOnce(PromiseFulfiller<int>& fulfiller) { fulfiller.fulfill(42); }
};

void adapted(World& world) { expect(newAdaptedPromise<int, FulfilledAtOnce>().wait(world.scope) == 42); }

// Is never completed, and counts how often it was cancelled.
class Cancellable {
public:
  Cancellable(PromiseFulfiller<int>&, std::size_t& cancelled) : cancelled_(cancelled) {}
  ~Cancellable() { ++cancelled_; }

private:
  std::size_t& cancelled_;
};

void adaptedCancelled(World& world) {
  const std::size_t before = world.count;
  {
    auto promise = newAdaptedPromise<int, Cancellable>(world.count);
    keep(promise);
  }
  expect(world.count == before + 1);
}

// --- Several promises

void fork2(World& world) {
  auto fork = Promise<int>(42).fork();
  Promise<int> first = fork.addBranch();
  Promise<int> second = fork.addBranch();
  expect(std::move(first).wait(world.scope) == 42);
  expect(std::move(second).wait(world.scope) == 42);
}

void split2(World& world) {
  auto [first, second] = Promise<std::tuple<int, char>>(std::tuple(42, 'x')).split();
  expect(std::move(first).wait(world.scope) == 42);
  expect(std::move(second).wait(world.scope) == 'x');
}

void exclusiveJoin(World& world) { expect(Promise<int>(42).exclusiveJoin(NEVER_DONE).wait(world.scope) == 42); }

std::vector<Promise<void>> tenReady() {
  std::vector<Promise<void>> promises;
  promises.reserve(10);
  for (int i = 0; i < 10; ++i) promises.push_back(READY_NOW);
  return promises;
}

std::vector<Promise<int>> tenValues() {
  std::vector<Promise<int>> promises;
  promises.reserve(10);
  for (int i = 0; i < 10; ++i) promises.push_back(42 + i);
  return promises;
}

void join10All(World& world) { joinPromises(tenReady()).wait(world.scope); }

void join10(World& world) { joinPromisesFailFast(tenReady()).wait(world.scope); }

void join10Variadic(World& world) {
  auto one = [] { return Promise<void>(READY_NOW); };
  auto joined = joinPromisesFailFast(one(), one(), one(), one(), one(), one(), one(), one(), one(), one());
  std::move(joined).wait(world.scope);
}

void join3Variadic(World& world) {
  auto [number, letter, nothing] =
      joinPromises(Promise<int>(42), Promise<char>('x'), Promise<void>(READY_NOW)).wait(world.scope);
  expect(number == 42 && letter == 'x' && nothing == std::monostate());
}

void joinValues(World& world) { expect(joinPromises(tenValues()).wait(world.scope).back() == 51); }

void joinValuesFailFast(World& world) { expect(joinPromisesFailFast(tenValues()).wait(world.scope).back() == 51); }

void race10(World& world) { expect(raceSuccessful(tenValues()).wait(world.scope) == 42); }

void race2Variadic(World& world) {
  expect(raceSuccessful(Promise<int>(42), Promise<int>(NEVER_DONE)).wait(world.scope) == 42);
}

// --- Tasks and cancellation

void taskSet(World& world) {
  const std::size_t before = world.count;
  world.tasks.add(countOne(world.count));
  world.scope.poll();
  expect(world.count == before + 1 && world.tasks.isEmpty());
}

void taskSetReady(World& world) {
  world.tasks.add(READY_NOW);
  world.scope.poll();
  expect(world.tasks.isEmpty());
}

void taskSetEmpty(World& world) {
  world.tasks.add(troth::evalLater([] {}));
  world.tasks.onEmpty().wait(world.scope);
  expect(world.tasks.isEmpty());
}

void taskSetCleared(World& world) {
  for (int i = 0; i < 10; ++i) world.tasks.add(NEVER_DONE);
  world.tasks.clear();
  expect(world.tasks.isEmpty());
}

void detach(World& world) {
  const std::size_t before = world.count;
  troth::evalLater([&world] { ++world.count; }).detach([](Exception) { std::abort(); });
  world.scope.poll();
  expect(world.count == before + 1);
}

void canceler(World& world) { expect(world.canceler.wrap(Promise<int>(42)).wait(world.scope) == 42); }

void cancelerReleases(World& world) {
  Promise<int> wrapped = world.canceler.wrap(Promise<int>(NEVER_DONE));
  world.canceler.release();
  expect(world.canceler.isEmpty());
}

// --- Queues and locks

void queue(World& world) {
  world.queue.push(42);
  expect(world.queue.pop().wait(world.scope) == 42);
}

void queueAwaited(World& world) {
  Promise<int> popped = world.queue.pop();
  world.queue.push(42);
  expect(std::move(popped).wait(world.scope) == 42);
}

void channel(World& world) {
  world.channel.send(42).wait(world.scope);
  expect(world.channel.receive().wait(world.scope) == 42);
}

// The second of two sends has to wait for room.
void channelFull(World& world) {
  world.channel.send(1).wait(world.scope);
  Promise<void> second = world.channel.send(2);
  expect(world.channel.receive().wait(world.scope) == 1);
  std::move(second).wait(world.scope);
  expect(world.channel.receive().wait(world.scope) == 2);
}

void mutex(World& world) {
  AsyncMutex::Lock lock = world.mutex.lock().wait(world.scope);
  Promise<AsyncMutex::Lock> next = world.mutex.lock();
  lock.unlock();
  expect(std::move(next).wait(world.scope).isHeld());
}

void semaphore(World& world) {
  Semaphore::Permit permit = world.semaphore.acquire().wait(world.scope);
  Promise<Semaphore::Permit> next = world.semaphore.acquire();
  permit.release();
  expect(std::move(next).wait(world.scope).count() == 1);
}

// --- Time

void timer(World& world) {
  Promise<void> later = world.timer.afterDelay(1ms);
  world.timer.advanceBy(1ms);
  std::move(later).wait(world.scope);
}

void timerCancelled(World& world) {
  Promise<void> later = world.timer.afterDelay(1h);
  keep(later);
}

void timeoutNotReached(World& world) { expect(world.timer.timeoutAfter(1h, Promise<int>(42)).wait(world.scope) == 42); }

// What is on the heap: the body of an exception; a vector of promises, which the caller makes; a vector of values,
// which is the result of a join.
constexpr Operation ALL[] = {
    {"ready", 0, ready},
    {"immediate", 0, immediate},
    {"then", 0, then},
    {"then_10", 0, then10},
    {"then_50", 0, then50},
    {"then_promise", 0, thenPromise},
    {"catch_nothing", 0, catchNothing},
    {"rejected", 1, rejected},
    {"as_result", 0, asResult},
    {"as_failed_result", 1, asFailedResult},
    {"attach", 0, attach},
    {"ignore_result", 0, ignoreResult},
    {"eagerly_evaluate", 0, eagerlyEvaluate},
    {"const_promise", 0, constPromise},

    {"eval_now", 0, evalNow},
    {"eval_later", 0, evalLater},
    {"eval_last", 0, evalLast},
    {"yields", 0, yields},
    {"retry_on_disconnect", 1, retryOnDisconnect},
    {"poll", 0, poll},

    {"coroutine", 0, coroutine},
    {"await_ready", 0, coroutineAwaitsReady},
    {"await_coroutine", 0, coroutineAwaitsCoroutine},
    {"await_100_coroutines", 0, coroutineAwaits100Coroutines},
    {"recursion_20", 0, recursion20},
    {"await_fork", 0, coroutineAwaitsFork},
    {"coroutine_cancelled", 0, coroutineCancelled},
    {"await_failure_as_result", 1, coroutineTakesFailure},
    {"co_capture", 0, coCapture},

    {"fulfiller", 0, fulfiller},
    {"fulfiller_of_promise", 0, fulfillerOfPromise},
    {"await_fulfiller", 0, coroutineAwaitsFulfiller},
    {"adapted", 0, adapted},
    {"adapted_cancelled", 0, adaptedCancelled},

    {"fork_2", 0, fork2},
    {"split_2", 0, split2},
    {"exclusive_join", 0, exclusiveJoin},
    {"join_10_all", 1, join10All},
    {"join_10", 1, join10},
    {"join_10_variadic", 0, join10Variadic},
    {"join_3_variadic", 0, join3Variadic},
    {"join_values", 2, joinValues},
    {"join_values_fail_fast", 3, joinValuesFailFast},
    {"race_10", 1, race10},
    {"race_2_variadic", 0, race2Variadic},

    {"task_set", 0, taskSet},
    {"task_set_ready", 0, taskSetReady},
    {"task_set_empty", 0, taskSetEmpty},
    {"task_set_cleared", 0, taskSetCleared},
    {"detach", 0, detach},
    {"canceler", 0, canceler},
    {"canceler_releases", 0, cancelerReleases},

    {"queue", 0, queue},
    {"queue_awaited", 0, queueAwaited},
    {"channel", 0, channel},
    {"channel_full", 0, channelFull},
    {"mutex", 0, mutex},
    {"semaphore", 0, semaphore},

    {"timer", 0, timer},
    {"timer_cancelled", 0, timerCancelled},
    {"timeout_not_reached", 0, timeoutNotReached},
};

} // namespace

std::span<const Operation> operations() noexcept { return ALL; }

} // namespace troth::budget
