// SPDX-License-Identifier: MIT
// Out of memory anywhere: every allocation of an operation fails once, alone and with all that follow (R6).
#include "helpers.h"

#include <troth/runtime/canceler.h>
#include <troth/runtime/channel.h>
#include <troth/runtime/event_loop_local.h>
#include <troth/runtime/join.h>
#include <troth/runtime/queue.h>
#include <troth/runtime/require.h>
#include <troth/runtime/sync.h>
#include <troth/runtime/task_set.h>

#include <tuple>
#include <vector>

using namespace troth;
using namespace troth::test;

namespace {

struct IgnoreErrors final : TaskSet::ErrorHandler {
  void taskFailed(Exception) override {}
};

EventLoopLocal<std::vector<int>> numbers;

Promise<int> count(int n) {
  if (n == 0) co_return 0;
  co_await yield();
  co_return co_await count(n - 1) + 1;
}

Promise<std::string> longText() {
  return evalLater([] { return std::string(100, 'x'); });
}

template <typename T>
std::vector<Promise<T>> vectorOf(Promise<T> a, Promise<T> b, Promise<T> c) {
  std::vector<Promise<T>> promises;
  promises.push_back(std::move(a));
  promises.push_back(std::move(b));
  promises.push_back(std::move(c));
  return promises;
}

Promise<int> disconnected() { return Exception(Exception::Kind::DISCONNECTED, "gone, with a text that needs memory"); }

struct Operation {
  const char* name;
  void (*run)(WaitScope&);
};

constexpr Operation OPERATIONS[] = {
    {"continuations",
     [](WaitScope& scope) {
       longText()
           .then([](std::string s) { return s.size(); })
           .then([](std::size_t n) -> Promise<std::size_t> { return n; })
           .wait(scope);
     }},
    {"coroutines", [](WaitScope& scope) { count(3).wait(scope); }},
    {"a coroutine with captures",
     [](WaitScope& scope) {
       coCapture([text = std::string(100, 'x')]() -> Promise<std::size_t> {
         co_await yield();
         co_return text.size();
       })()
           .wait(scope);
     }},
    {"evalNow", [](WaitScope& scope) { evalNow([] { return std::string(100, 'x'); }).wait(scope); }},
    {"a fork",
     [](WaitScope& scope) {
       auto fork = longText().fork();
       Promise<std::string> a = fork.addBranch();
       Promise<std::size_t> b = fork.addBranch().then([](std::string s) { return s.size(); });
       std::move(a).wait(scope);
       std::move(b).wait(scope);
     }},
    {"split",
     [](WaitScope& scope) {
       auto [a, b] = evalLater([] { return std::tuple<int, Promise<int>>(1, count(1)); }).split();
       std::move(b).wait(scope);
       std::move(a).wait(scope);
     }},
    {"exclusiveJoin", [](WaitScope& scope) { longText().exclusiveJoin(NEVER_DONE).wait(scope); }},
    {"joinPromises", [](WaitScope& scope) { joinPromises(vectorOf(longText(), longText(), longText())).wait(scope); }},
    {"joinPromisesFailFast", [](WaitScope& scope) { joinPromisesFailFast(longText(), yield(), count(1)).wait(scope); }},
    {"raceSuccessful",
     [](WaitScope& scope) { raceSuccessful(vectorOf(count(2), disconnected(), count(1))).wait(scope); }},
    {"a Canceler",
     [](WaitScope& scope) {
       Canceler canceler;
       Promise<int> a = canceler.wrap(count(1));
       Promise<void> b = canceler.wrap(Promise<void>(NEVER_DONE));
       std::move(a).wait(scope);
       canceler.cancel("a reason that is longer than a small string");
       (void)std::move(b).asResult().wait(scope);
     }},
    {"a TaskSet",
     [](WaitScope& scope) {
       IgnoreErrors errors;
       TaskSet tasks(errors);
       tasks.add(count(2).ignoreResult());
       tasks.add(disconnected().ignoreResult());
       tasks.add(NEVER_DONE);
       Promise<void> empty = tasks.onEmpty();
       scope.poll();
       (void)tasks.trace();
       (void)EventLoop::current().traceTasks();
       tasks.clear();
       std::move(empty).wait(scope);
     }},
    {"a fulfiller of a promise",
     [](WaitScope& scope) {
       auto pair = newPromiseAndFulfiller<Promise<int>>();
       pair.fulfiller->fulfill(count(1));
       std::move(pair.promise).wait(scope);
     }},
    {"a fulfiller that is dropped",
     [](WaitScope& scope) {
       auto pair = newPromiseAndFulfiller<int>();
       Promise<int> waits = [](Promise<int> p) -> Promise<int> {
         co_return co_await std::move(p);
       }(std::move(pair.promise));
       scope.poll();
       pair.fulfiller.reset();
       const Exception e = std::move(waits).asResult().wait(scope).error();
       (void)e.what();
       (void)e.trace();
     }},
    {"retryOnDisconnect",
     [](WaitScope& scope) {
       int tries = 0;
       retryOnDisconnect([&]() -> Promise<int> {
         if (tries++ == 0) return disconnected();
         return count(1);
       }).wait(scope);
     }},
    {"detach",
     [](WaitScope& scope) {
       count(2).ignoreResult().detach([](Exception) {});
       Promise<void>(NEVER_DONE).detach([](Exception) {});
       scope.poll();
       EventLoop::current().cancelAllDetached();
     }},
    {"a queue",
     [](WaitScope& scope) {
       ProducerConsumerQueue<int> queue;
       Promise<int> first = queue.pop();
       for (int i = 0; i < 40; ++i) queue.push(i);
       std::move(first).wait(scope);
       queue.pop().wait(scope);
       WaiterQueue<int> waiters;
       Promise<int> waits = waiters.wait();
       waiters.fulfill(1);
       std::move(waits).wait(scope);
     }},
    {"a channel",
     [](WaitScope& scope) {
       auto ends = newChannel<int>(1);
       Promise<void> a = ends.sender.send(1);
       Promise<void> b = ends.sender.send(2);
       ends.receiver.receive().wait(scope);
       std::move(a).wait(scope);
       std::move(b).wait(scope);
       ends.receiver.receive().wait(scope);
     }},
    {"locks",
     [](WaitScope& scope) {
       AsyncMutex mutex;
       std::optional<AsyncMutex::Lock> lock = mutex.lock().wait(scope);
       Promise<AsyncMutex::Lock> next = mutex.lock();
       lock.reset();
       (void)std::move(next).wait(scope);
       Semaphore semaphore(2);
       (void)semaphore.acquire(2).wait(scope);
       AsyncEvent event;
       Promise<void> waits = event.wait();
       event.set();
       std::move(waits).wait(scope);
     }},
    {"a loop's local", [](WaitScope&) { numbers->push_back(1); }},
    {"a failed requirement",
     [](WaitScope& scope) {
       const std::string value = "value";
       const auto fails = [&]() -> Promise<void> {
         co_await yield();
         TROTH_REQUIRE(value.empty(), "with a message of some length", value);
       };
       const Exception e = fails().asResult().wait(scope).error();
       (void)e.what();
       (void)e.withContext("context").what();
     }},
};

} // namespace

TEST_CASE("when an allocation fails, that is reported, nothing is lost and the loop goes on (R6)") {
  for (const Operation& operation : OPERATIONS) {
    CAPTURE(operation.name);
    const std::size_t failures = starveSweep([&](LoopTest& test) { operation.run(test.scope); });
    CHECK((SANITIZED || failures > 0));
  }
}
