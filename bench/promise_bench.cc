// SPDX-License-Identifier: MIT
// The promise benchmark: what promises, coroutines and what is built of them
// cost. `tools/bench promise` runs it.

// Each function is one operation, with the `wait()` at its end. The same cases,
// under the same names, are written for the peers in peers/promise_kj.cc and
// peers/promise_asio.cc.

#include "case_runner.h"

#include <troth/runtime/canceler.h>
#include <troth/runtime/event_loop.h>
#include <troth/runtime/join.h>
#include <troth/runtime/promise.h>
#include <troth/runtime/queue.h>
#include <troth/runtime/task_set.h>

#include <cstdio>
#include <cstdlib>
#include <utility>
#include <vector>

namespace {

using troth::NEVER_DONE;
using troth::Promise;
using troth::READY_NOW;

class AbortOnFailure final : public troth::TaskSet::ErrorHandler {
public:
  void taskFailed(troth::Exception exception) override {
    std::fprintf(stderr, "a task failed: %s\n", exception.what());
    std::abort();
  }
};

// What outlives a single operation.
struct World {
  troth::EventLoop loop;
  troth::WaitScope scope{loop};
  AbortOnFailure handler;
  troth::TaskSet tasks{handler};
  troth::Canceler canceler;
  troth::ProducerConsumerQueue<int> queue;
  int one = 1;
  std::size_t count = 0;
};

// --- Promises
// ---------------------------------------------------------------------------------------------------

void empty(World& world) {
  bench::keep(world.one);
  BENCH_CHECK(world.one == 1);
}

void ready(World& world) { Promise<void>(READY_NOW).wait(world.scope); }

void immediate(World& world) { BENCH_CHECK(Promise<int>(42).wait(world.scope) == 42); }

void then(World& world) {
  BENCH_CHECK(Promise<int>(42).then([](int value) { return value + 1; }).wait(world.scope) == 43);
}

void then10(World& world) {
  auto increment = [](int value) { return value + 1; };
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
  BENCH_CHECK(result == 52);
}

void thenPromise(World& world) {
  auto increment = [](int value) -> Promise<int> { return value + 1; };
  BENCH_CHECK(Promise<int>(42).then(increment).wait(world.scope) == 43);
}

void rejected(World& world) {
  int result = Promise<int>(troth::Exception(troth::Exception::Kind::FAILED, "x"))
                   .then([](int value) { return value; }, [](troth::Exception) { return 7; })
                   .wait(world.scope);
  BENCH_CHECK(result == 7);
}

void evalLater(World& world) {
  BENCH_CHECK(troth::evalLater([] { return 42; }).wait(world.scope) == 42);
}

// --- Coroutines
// -------------------------------------------------------------------------------------------------

[[gnu::noinline]] Promise<int> returnAnswer() { co_return 42; }

[[gnu::noinline]] Promise<int> awaitReady() {
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

[[gnu::noinline]] Promise<void> countOne(std::size_t& count) {
  ++count;
  co_return;
}

void coroutine(World& world) { BENCH_CHECK(returnAnswer().wait(world.scope) == 42); }

void coroutineAwaitsReady(World& world) { BENCH_CHECK(awaitReady().wait(world.scope) == 42); }

void coroutineAwaitsCoroutine(World& world) { BENCH_CHECK(awaitAnswer().wait(world.scope) == 42); }

void coroutineAwaits100Coroutines(World& world) { BENCH_CHECK(awaitAnswers().wait(world.scope) == 4200); }

void recursion20(World& world) { BENCH_CHECK(pow2(20).wait(world.scope) == 1 << 20); }

// --- Fulfillers and adapters
// ------------------------------------------------------------------------------------

void fulfiller(World& world) {
  auto pair = troth::newPromiseAndFulfiller<int>();
  pair.fulfiller->fulfill(42);
  BENCH_CHECK(std::move(pair.promise).wait(world.scope) == 42);
}

void coroutineAwaitsFulfiller(World& world) {
  auto pair = troth::newPromiseAndFulfiller<int>();
  Promise<int> result = awaitPromise(std::move(pair.promise));
  pair.fulfiller->fulfill(42);
  BENCH_CHECK(std::move(result).wait(world.scope) == 42);
}

// An operation that is never completed, and counts how often it was cancelled.
class Cancellable {
public:
  Cancellable(troth::PromiseFulfiller<int>&, std::size_t& cancelled) : cancelled_(cancelled) {}
  ~Cancellable() { ++cancelled_; }

private:
  std::size_t& cancelled_;
};

void adaptedCancelled(World& world) {
  std::size_t before = world.count;
  {
    auto promise = troth::newAdaptedPromise<int, Cancellable>(world.count);
    bench::keep(promise);
  }
  BENCH_CHECK(world.count == before + 1);
}

// --- Several promises
// -------------------------------------------------------------------------------------------

void fork2(World& world) {
  auto fork = Promise<int>(42).fork();
  Promise<int> first = fork.addBranch();
  Promise<int> second = fork.addBranch();
  BENCH_CHECK(std::move(first).wait(world.scope) == 42);
  BENCH_CHECK(std::move(second).wait(world.scope) == 42);
}

void exclusiveJoin(World& world) { BENCH_CHECK(Promise<int>(42).exclusiveJoin(NEVER_DONE).wait(world.scope) == 42); }

void join10(World& world) {
  std::vector<Promise<void>> promises;
  promises.reserve(10);
  for (int i = 0; i < 10; ++i) promises.push_back(READY_NOW);
  Promise<void> joined = troth::joinPromisesFailFast(std::move(promises));
  std::move(joined).wait(world.scope);
}

void join10Variadic(World& world) {
  auto one = [] { return Promise<void>(READY_NOW); };
  auto joined = troth::joinPromisesFailFast(one(), one(), one(), one(), one(), one(), one(), one(), one(), one());
  std::move(joined).wait(world.scope);
}

void race10(World& world) {
  std::vector<Promise<int>> promises;
  promises.reserve(10);
  for (int i = 0; i < 10; ++i) promises.push_back(42 + i);
  BENCH_CHECK(troth::raceSuccessful(std::move(promises)).wait(world.scope) == 42);
}

// --- Tasks
// ------------------------------------------------------------------------------------------------------

void taskSet(World& world) {
  std::size_t before = world.count;
  world.tasks.add(countOne(world.count));
  world.scope.poll();
  BENCH_CHECK(world.count == before + 1 && world.tasks.isEmpty());
}

void taskSetReady(World& world) {
  world.tasks.add(READY_NOW);
  world.scope.poll();
  BENCH_CHECK(world.tasks.isEmpty());
}

void canceler(World& world) { BENCH_CHECK(world.canceler.wrap(Promise<int>(42)).wait(world.scope) == 42); }

void queue(World& world) {
  world.queue.push(42);
  BENCH_CHECK(world.queue.pop().wait(world.scope) == 42);
}

} // namespace

int main(int argc, char** argv) {
  World world;
  return bench::runCases(argc, argv, "troth " TROTH_VERSION,
                         {
                             bench::makeCase<empty>("empty", world),
                             bench::makeCase<ready>("ready", world),
                             bench::makeCase<immediate>("immediate", world),
                             bench::makeCase<then>("then", world),
                             bench::makeCase<then10>("then_10", world),
                             bench::makeCase<thenPromise>("then_promise", world),
                             bench::makeCase<coroutine>("coroutine", world),
                             bench::makeCase<coroutineAwaitsReady>("await_ready", world),
                             bench::makeCase<coroutineAwaitsCoroutine>("await_coroutine", world),
                             bench::makeCase<coroutineAwaits100Coroutines>("await_100_coroutines", world),
                             bench::makeCase<recursion20>("recursion_20", world),
                             bench::makeCase<rejected>("rejected", world),
                             bench::makeCase<fulfiller>("fulfiller", world),
                             bench::makeCase<coroutineAwaitsFulfiller>("await_fulfiller", world),
                             bench::makeCase<adaptedCancelled>("adapted_cancelled", world),
                             bench::makeCase<fork2>("fork_2", world),
                             bench::makeCase<exclusiveJoin>("exclusive_join", world),
                             bench::makeCase<join10>("join_10", world),
                             bench::makeCase<join10Variadic>("join_10_variadic", world),
                             bench::makeCase<race10>("race_10", world),
                             bench::makeCase<taskSet>("task_set", world),
                             bench::makeCase<taskSetReady>("task_set_ready", world),
                             bench::makeCase<evalLater>("eval_later", world),
                             bench::makeCase<canceler>("canceler", world),
                             bench::makeCase<queue>("queue", world),
                         });
}
