// SPDX-License-Identifier: MIT
// A peer in the promise benchmark: KJ (Cap'n Proto's runtime), as far as the installed version has the cases.

// KJ 0.9, the version in Debian 12, has neither coroutines nor fail-fast and racing joins.

#include "../case_runner.h"

#include <kj/array.h>
#include <kj/async-queue.h>
#include <kj/async.h>
#include <kj/common.h>
#include <kj/exception.h>
#include <kj/string.h>

#include <cstdlib>

#ifndef KJ_VERSION
#define KJ_VERSION "(unknown version)"
#endif

namespace {

class Tasks final : private kj::TaskSet::ErrorHandler {
public:
  kj::TaskSet set{*this};

private:
  void taskFailed(kj::Exception&&) override { std::abort(); }
};

// What outlives a single operation.
struct World {
  kj::EventLoop loop;
  kj::WaitScope scope{loop};
  Tasks tasks;
  kj::Canceler canceler;
  kj::ProducerConsumerQueue<int> queue;
  int one = 1;
  size_t count = 0;
};

void empty(World& world) {
  bench::keep(world.one);
  BENCH_CHECK(world.one == 1);
}

void ready(World& world) { kj::Promise<void>(kj::READY_NOW).wait(world.scope); }

void immediate(World& world) { BENCH_CHECK(kj::Promise<int>(42).wait(world.scope) == 42); }

void then(World& world) {
  BENCH_CHECK(kj::Promise<int>(42).then([](int value) { return value + 1; }).wait(world.scope) == 43);
}

void then10(World& world) {
  auto increment = [](int value) { return value + 1; };
  int result = kj::Promise<int>(42)
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
  auto increment = [](int value) -> kj::Promise<int> { return value + 1; };
  BENCH_CHECK(kj::Promise<int>(42).then(increment).wait(world.scope) == 43);
}

void rejected(World& world) {
  int result = kj::Promise<int>(kj::Exception(kj::Exception::Type::FAILED, __FILE__, __LINE__, kj::str("x")))
                   .then([](int value) { return value; }, [](kj::Exception&&) { return 7; })
                   .wait(world.scope);
  BENCH_CHECK(result == 7);
}

void evalLater(World& world) {
  BENCH_CHECK(kj::evalLater([] { return 42; }).wait(world.scope) == 42);
}

void fulfiller(World& world) {
  auto pair = kj::newPromiseAndFulfiller<int>();
  pair.fulfiller->fulfill(42);
  BENCH_CHECK(pair.promise.wait(world.scope) == 42);
}

// An operation that is never completed, and counts how often it was cancelled.
class Cancellable {
public:
  Cancellable(kj::PromiseFulfiller<int>&, size_t& cancelled) : cancelled_(cancelled) {}
  ~Cancellable() { ++cancelled_; }

private:
  size_t& cancelled_;
};

void adaptedCancelled(World& world) {
  size_t before = world.count;
  {
    auto promise = kj::newAdaptedPromise<int, Cancellable>(world.count);
    bench::keep(promise);
  }
  BENCH_CHECK(world.count == before + 1);
}

void fork2(World& world) {
  auto fork = kj::Promise<int>(42).fork();
  auto first = fork.addBranch();
  auto second = fork.addBranch();
  BENCH_CHECK(first.wait(world.scope) == 42);
  BENCH_CHECK(second.wait(world.scope) == 42);
}

void exclusiveJoin(World& world) {
  BENCH_CHECK(kj::Promise<int>(42).exclusiveJoin(kj::NEVER_DONE).wait(world.scope) == 42);
}

// KJ 0.9 has no coroutines; the task is a ready promise, which costs KJ less than a coroutine that returns at once.
void taskSetReady(World& world) {
  world.tasks.set.add(kj::READY_NOW);
  world.scope.poll();
  BENCH_CHECK(world.tasks.set.isEmpty());
}

void canceler(World& world) { BENCH_CHECK(world.canceler.wrap(kj::Promise<int>(42)).wait(world.scope) == 42); }

void queue(World& world) {
  world.queue.push(42);
  BENCH_CHECK(world.queue.pop().wait(world.scope) == 42);
}

} // namespace

int main(int argc, char** argv) {
  World world;
  return bench::runCases(argc, argv, "KJ " KJ_VERSION,
                         {
                             bench::makeCase<empty>("empty", world),
                             bench::makeCase<ready>("ready", world),
                             bench::makeCase<immediate>("immediate", world),
                             bench::makeCase<then>("then", world),
                             bench::makeCase<then10>("then_10", world),
                             bench::makeCase<thenPromise>("then_promise", world),
                             bench::makeCase<rejected>("rejected", world),
                             bench::makeCase<fulfiller>("fulfiller", world),
                             bench::makeCase<adaptedCancelled>("adapted_cancelled", world),
                             bench::makeCase<fork2>("fork_2", world),
                             bench::makeCase<exclusiveJoin>("exclusive_join", world),
                             bench::makeCase<taskSetReady>("task_set_ready", world),
                             bench::makeCase<evalLater>("eval_later", world),
                             bench::makeCase<canceler>("canceler", world),
                             bench::makeCase<queue>("queue", world),
                         });
}
