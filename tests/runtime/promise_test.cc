// SPDX-License-Identifier: MIT
// Promises: values, errors, ownership, what is destroyed when, fulfillers and adapters, misuse, budgets.
#include "helpers.h"

#include <troth/runtime/pool_detail.h>

#include <algorithm>
#include <any>
#include <array>
#include <cstdio>
#include <new>
#include <stdexcept>
#include <system_error>
#include <thread>
#include <vector>

using namespace troth;
using namespace troth::test;

namespace {

using Kind = Exception::Kind;

int twice(int x) { return 2 * x; }

struct Point {
  std::int64_t x;
  std::int64_t next() { return x + 1; }
};

} // namespace

// -------------------------------------------------------------------------------------------- values

TEST_CASE_FIXTURE(LoopTest, "a continuation gets the value") {
  CHECK(Promise<int>(20).then([](int x) { return x + 1; }).wait(scope) == 21);
}

TEST_CASE_FIXTURE(LoopTest, "a continuation of a void promise is called without arguments") {
  CHECK(Promise<void>(READY_NOW).then([] { return 7; }).wait(scope) == 7);
}

TEST_CASE_FIXTURE(LoopTest, "a continuation that returns nothing gives a void promise") {
  int seen = 0;
  Promise<void> promise = Promise<int>(3).then([&](int x) { seen = x; });
  CHECK(seen == 0);
  std::move(promise).wait(scope);
  CHECK(seen == 3);
}

TEST_CASE_FIXTURE(LoopTest, "a continuation may be a function, a member function or a member") {
  CHECK(Promise<int>(4).then(twice).wait(scope) == 8);
  CHECK(Promise<int>(4).then(&twice).wait(scope) == 8);
  CHECK(Promise<Point>(Point{4}).then(&Point::next).wait(scope) == 5);
  CHECK(Promise<Point>(Point{4}).then(&Point::x).wait(scope) == 4);
}

TEST_CASE_FIXTURE(LoopTest, "a continuation may hold move-only things and change them") {
  auto held = std::make_unique<int>(5);
  auto gives = Promise<int>(1).then([held = std::move(held)](int x) mutable {
    *held += x;
    return std::move(held);
  });
  CHECK(*std::move(gives).wait(scope) == 6);
}

TEST_CASE_FIXTURE(LoopTest, "a move-only value travels through a chain") {
  auto promise = Promise<std::unique_ptr<int>>(std::make_unique<int>(1))
                     .then([](std::unique_ptr<int> p) { return p; })
                     .then([](std::unique_ptr<int>&& p) -> Promise<std::unique_ptr<int>> { return std::move(p); })
                     .attach(1)
                     .eagerlyEvaluate(nullptr);
  const int* const address = std::move(promise).then([](std::unique_ptr<int> p) { return p.release(); }).wait(scope);
  CHECK(*address == 1);
  delete address;
}

TEST_CASE_FIXTURE(LoopTest, "a value is moved along a chain and never copied") {
  struct Counting {
    explicit Counting(int& c) : copies(&c) {}
    Counting(const Counting& o) : copies(o.copies) { ++*copies; }
    Counting(Counting&&) noexcept = default;
    Counting& operator=(const Counting& o) {
      copies = o.copies;
      ++*copies;
      return *this;
    }
    Counting& operator=(Counting&&) noexcept = default;
    int* copies;
  };
  int copies = 0;
  Promise<Counting> promise = Promise<Counting>(Counting(copies))
                                  .then([](Counting c) { return c; })
                                  .then([](Counting c) -> Promise<Counting> { return c; })
                                  .catch_([](Exception e) -> Counting { e.rethrow(); })
                                  .exclusiveJoin(NEVER_DONE)
                                  .eagerlyEvaluate(nullptr);
  Counting result = std::move(promise).wait(scope);
  CHECK(result.copies == &copies);
  CHECK(copies == 0);
}

TEST_CASE_FIXTURE(LoopTest, "a value without default constructor or of many kilobytes is carried") {
  struct NoDefault {
    explicit NoDefault(int v) : value(v) {}
    int value;
  };
  CHECK(Promise<NoDefault>(NoDefault(9)).then([](NoDefault n) { return n.value; }).wait(scope) == 9);
  using Big = std::array<std::uint8_t, 20'000>;
  Big big;
  big.fill(0xab);
  big.back() = 1;
  Big back = Promise<Big>(big).then([](Big b) { return b; }).eagerlyEvaluate(nullptr).wait(scope);
  CHECK(back == big);
}

TEST_CASE_FIXTURE(LoopTest, "a promise that a continuation returns is waited for") {
  auto inner = newPromiseAndFulfiller<int>();
  Promise<int> outer = Promise<void>(READY_NOW).then([&] { return std::move(inner.promise); });
  CHECK(takeAfter(outer, scope, [&] { inner.fulfiller->fulfill(12); }) == 12);
}

TEST_CASE_FIXTURE(LoopTest, "promises returned from promises returned from promises are one promise") {
  auto inner = newPromiseAndFulfiller<int>();
  Promise<int> outer = evalLater([&] {
    return evalLater([&] { return evalLater([&] { return std::move(inner.promise).then(twice); }).then(twice); });
  });
  CHECK(takeAfter(outer, scope, [&] { inner.fulfiller->fulfill(3); }) == 12);
}

TEST_CASE_FIXTURE(LoopTest, "a continuation that returns a consumed promise fails instead of hanging") {
  Promise<int> consumed = 1;
  Promise<int> taken = std::move(consumed);
  const Exception e = failureOf(evalLater([&] { return std::move(consumed); }), scope);
  CHECK(kindName(e) == "FAILED");
  CHECK(contains(e.description(), "consumed"));
  CHECK(fileOf(e) == "promise_test.cc");
  CHECK(std::move(taken).wait(scope) == 1);
}

TEST_CASE_FIXTURE(LoopTest, "ignoreResult waits for the work and drops its value") {
  std::string log;
  auto pair = newPromiseAndFulfiller<Noted>();
  Promise<void> promise = std::move(pair.promise).ignoreResult();
  takeAfter(promise, scope, [&] { pair.fulfiller->fulfill(Noted(log, "value")); });
  CHECK(log == "value ");
  CHECK(Promise<void>(READY_NOW).ignoreResult().poll(scope));
  CHECK(kindName(failureOf(Promise<int>(Exception(Kind::OVERLOADED, "no")).ignoreResult(), scope)) == "OVERLOADED");
}

TEST_CASE_FIXTURE(LoopTest, "READY_NOW and NEVER_DONE allocate nothing") {
  const auto blocks = detail::liveBlocks();
  Promise<void> ready = READY_NOW;
  Promise<std::unique_ptr<int>> never = NEVER_DONE;
  CHECK(detail::liveBlocks() == blocks);
  CHECK(ready.poll(scope));
  CHECK_FALSE(never.poll(scope));
  Promise<int> after = std::move(never).then([](std::unique_ptr<int> p) { return *p; });
  CHECK_FALSE(after.poll(scope));
}

TEST_CASE_FIXTURE(LoopTest, "waiting for NEVER_DONE runs everything else and then reports the deadlock") {
  int ran = 0;
  Promise<void> other = evalLater([&] { ++ran; }).eagerlyEvaluate(nullptr);
  const Exception e = thrownBy([&] { NEVER_DONE.wait(scope); });
  CHECK(contains(e.description(), "deadlock"));
  CHECK(fileOf(e) == "promise_test.cc");
  CHECK(ran == 1);
}

TEST_CASE_FIXTURE(LoopTest, "evalNow calls at once and turns a throw into a failed promise") {
  bool called = false;
  Promise<int> promise = evalNow([&] {
    called = true;
    return 5;
  });
  CHECK(called);
  CHECK(std::move(promise).wait(scope) == 5);
  CHECK(evalNow([]() -> Promise<int> { return 6; }).wait(scope) == 6);
  evalNow([&] { called = false; }).wait(scope);
  CHECK_FALSE(called);
  Promise<int> failed = evalNow([]() -> int { throw std::out_of_range("far"); });
  CHECK_THROWS_AS(std::move(failed).wait(scope), std::out_of_range);
  CHECK_THROWS_AS(evalNow([]() -> Promise<void> { throw std::length_error("long"); }).wait(scope), std::length_error);
}

TEST_CASE_FIXTURE(LoopTest, "evalLater and evalLast never call inside the call") {
  std::string log;
  Promise<void> later = evalLater([&] { log += "later "; });
  Promise<void> last = evalLast([&] { log += "last "; });
  CHECK(log.empty());
  scope.poll();
  CHECK(log.empty()); // lazy: nobody has asked
  std::move(last).wait(scope);
  std::move(later).wait(scope);
  CHECK(log == "last later ");
}

TEST_CASE_FIXTURE(LoopTest, "evalLater and evalLast reject with what their function throws") {
  CHECK_THROWS_AS(evalLater([]() -> int { throw std::out_of_range("x"); }).wait(scope), std::out_of_range);
  CHECK_THROWS_AS(evalLast([]() -> Promise<int> { throw std::out_of_range("x"); }).wait(scope), std::out_of_range);
}

TEST_CASE_FIXTURE(LoopTest, "a lazy continuation does not run until its result is asked for") {
  int ran = 0;
  Promise<int> promise = Promise<int>(1).then([&](int x) { return ++ran, x; });
  scope.poll();
  CHECK(ran == 0);
  CHECK(promise.poll(scope));
  CHECK(ran == 0); // ready means that wait() will not block, not that it was computed
  CHECK(std::move(promise).wait(scope) == 1);
  CHECK(ran == 1);
}

TEST_CASE_FIXTURE(LoopTest, "a lazy continuation whose promise is dropped never runs") {
  int ran = 0;
  { Promise<void> promise = evalLater([] {}).then([&] { ++ran; }); }
  scope.poll();
  CHECK(ran == 0);
}

TEST_CASE_FIXTURE(LoopTest, "a continuation that returns a promise runs as soon as it can, unasked") {
  int ran = 0;
  auto pair = newPromiseAndFulfiller<void>();
  Promise<void> promise = std::move(pair.promise).then([&]() -> Promise<void> {
    ++ran;
    return READY_NOW;
  });
  scope.poll();
  CHECK(ran == 0);
  pair.fulfiller->fulfill();
  CHECK(ran == 0); // never inside fulfill()
  scope.poll();
  CHECK(ran == 1);
}

TEST_CASE_FIXTURE(LoopTest, "a lazy continuation below one that returns a promise runs with it") {
  std::string log;
  Promise<void> promise = Promise<int>(1)
                              .then([&](int) { log += "lazy "; })
                              .then([&]() -> Promise<void> {
                                log += "eager ";
                                return READY_NOW;
                              })
                              .then([&] { log += "never "; });
  scope.poll();
  CHECK(log == "lazy eager ");
}

TEST_CASE_FIXTURE(LoopTest, "eagerlyEvaluate runs the chain unasked and keeps the result") {
  int ran = 0;
  Promise<int> promise = evalLater([&] { return ++ran; }).eagerlyEvaluate(nullptr);
  CHECK(ran == 0);
  scope.poll();
  CHECK(ran == 1);
  CHECK(std::move(promise).wait(scope) == 1);
  CHECK(ran == 1);
}

TEST_CASE_FIXTURE(LoopTest, "eagerlyEvaluate hands a failure to its handler unasked") {
  std::string seen;
  Promise<void> promise = evalLater([] { throw std::runtime_error("lost"); }).eagerlyEvaluate([&](Exception e) {
    seen = e.description();
  });
  scope.poll();
  CHECK(seen == "lost");
  CHECK_NOTHROW(std::move(promise).wait(scope));
}

TEST_CASE_FIXTURE(LoopTest, "eagerlyEvaluate with a handler that gives a value replaces the failure by it") {
  Promise<int> promise = evalLater([]() -> int { throw 1; }).eagerlyEvaluate([](Exception) { return 8; });
  CHECK(std::move(promise).wait(scope) == 8);
}

TEST_CASE_FIXTURE(LoopTest, "eagerlyEvaluate frees the work as soon as its result is there") {
  std::string log;
  Promise<void> promise = evalLater([] {}).attach(Noted(log, "work")).eagerlyEvaluate(nullptr);
  CHECK(log.empty());
  scope.poll();
  CHECK(log == "work ");
}

// -------------------------------------------------------------------------------------------- errors

TEST_CASE_FIXTURE(LoopTest, "a throwing continuation rejects and skips what follows (R8)") {
  int ran = 0;
  std::optional<Exception> seen;
  Promise<int>(1)
      .then([](int) -> int { throw std::out_of_range("too far"); })
      .then([&](int x) { return ++ran, x; })
      .then([&](int) -> Promise<int> { return ++ran; })
      .catch_([&](Exception e) { return seen = e, 0; })
      .wait(scope);
  REQUIRE(seen);
  CHECK(seen->description() == "too far");
  CHECK(seen->original() != nullptr);
  CHECK(ran == 0);
}

TEST_CASE_FIXTURE(LoopTest, "wait throws the original type") {
  CHECK_THROWS_AS(Promise<int>(1).then([](int) -> int { throw std::out_of_range("x"); }).wait(scope), std::out_of_range);
  CHECK_THROWS_AS(Promise<int>(1).then([](int) -> Promise<int> { throw std::out_of_range("x"); }).wait(scope), std::out_of_range);
  CHECK_THROWS_AS(evalLater([] { throw 42; }).wait(scope), int);
  CHECK_THROWS_AS(Promise<void>(Exception(Kind::FAILED, "x")).wait(scope), Exception);
}

TEST_CASE_FIXTURE(LoopTest, "a failure travels through a chain without being thrown or copied") {
  struct Counting {
    explicit Counting(int& c) : copies(c) {}
    Counting(const Counting& o) : copies(o.copies) { ++copies; }
    int& copies;
  };
  int copies = 0;
  std::exception_ptr first;
  Promise<int> promise = evalLater([&]() -> int {
    try {
      throw Counting(copies);
    } catch (...) {
      first = std::current_exception();
      throw;
    }
  });
  for (int i = 0; i < 20; ++i) {
    promise = std::move(promise).then([](int x) { return x; });
    promise = std::move(promise).then([](int x) -> Promise<int> { return x; }).attach(i);
  }
  promise = std::move(promise).eagerlyEvaluate(nullptr);
  std::optional<Exception> seen;
  std::move(promise).catch_([&](Exception e) { return seen = std::move(e), 0; }).wait(scope);
  REQUIRE(seen);
  CHECK(seen->original() == first);
  CHECK(copies == 0);
}

TEST_CASE_FIXTURE(LoopTest, "an Exception reaches the handler as the very same one") {
  const Exception made(Kind::DISCONNECTED, "gone");
  Promise<int> promise = made;
  for (int i = 0; i < 10; ++i) promise = std::move(promise).then(twice);
  std::move(promise)
      .then([](int) { FAIL("the continuation of a failed promise ran"); },
            [&](Exception e) { CHECK(e.ref().get() == made.ref().get()); })
      .wait(scope);
}

TEST_CASE_FIXTURE(LoopTest, "catch_ passes values and handles failures") {
  CHECK(Promise<int>(1).catch_([](Exception) { return 2; }).wait(scope) == 1);
  CHECK(Promise<int>(Exception(Kind::FAILED, "x")).catch_([](Exception) { return 2; }).wait(scope) == 2);
  bool handled = false;
  Promise<void>(Exception(Kind::FAILED, "x")).catch_([&](Exception) { handled = true; }).wait(scope);
  CHECK(handled);
}

TEST_CASE_FIXTURE(LoopTest, "an error handler may return a promise") {
  auto pair = newPromiseAndFulfiller<int>();
  Promise<int> promise = Promise<int>(Exception(Kind::FAILED, "x")).catch_([&](Exception) { return std::move(pair.promise); });
  CHECK(takeAfter(promise, scope, [&] { pair.fulfiller->fulfill(3); }) == 3);
  CHECK(Promise<std::unique_ptr<int>>(std::make_unique<int>(4))
            .catch_([](Exception) -> Promise<std::unique_ptr<int>> { return NEVER_DONE; })
            .then([](std::unique_ptr<int> p) { return *p; })
            .wait(scope) == 4);
  Promise<void> done = Promise<void>(Exception(Kind::FAILED, "x")).catch_([](Exception) -> Promise<void> { return READY_NOW; });
  CHECK_NOTHROW(std::move(done).wait(scope));
}

TEST_CASE_FIXTURE(LoopTest, "an error handler beside a promise-returning continuation may return a value, a promise or nothing") {
  const auto failed = [] { return Promise<int>(Exception(Kind::FAILED, "x")); };
  const auto toPromise = [](int x) -> Promise<int> { return x; };
  CHECK(failed().then(toPromise, [](Exception) -> Promise<int> { return 5; }).wait(scope) == 5);
  CHECK(failed().then(toPromise, [](Exception) { return 6; }).wait(scope) == 6);
  bool handled = false;
  failed()
      .then([](int) -> Promise<void> { return NEVER_DONE; }, [&](Exception) { handled = true; })
      .wait(scope);
  CHECK(handled);
}

TEST_CASE_FIXTURE(LoopTest, "an error handler that returns nothing where a value is wanted fails unless it throws") {
  const Exception forgot = failureOf(Promise<int>(Exception(Kind::DISCONNECTED, "x")).catch_([](Exception) {}), scope);
  CHECK(kindName(forgot) == "FAILED");
  CHECK(contains(forgot.description(), "must throw"));
  CHECK(fileOf(forgot) == "promise_test.cc");
  CHECK_THROWS_AS(Promise<int>(Exception(Kind::FAILED, "x")).catch_([](Exception) { throw std::out_of_range("y"); }).wait(scope),
                  std::out_of_range);
}

TEST_CASE_FIXTURE(LoopTest, "what an error handler throws is the new failure") {
  const Exception e = failureOf(Promise<int>(Exception(Kind::FAILED, "first")).catch_([](Exception caught) -> int {
                        throw caught.withContext("second");
                      }),
                                scope);
  CHECK(e.description() == "second: first");
}

TEST_CASE_FIXTURE(LoopTest, "an error handler does not see what its own continuation throws") {
  bool handled = false;
  auto promise = Promise<int>(1).then([](int) -> int { throw std::out_of_range("x"); }, [&](Exception) { return handled = true, 0; });
  CHECK_THROWS_AS(std::move(promise).wait(scope), std::out_of_range);
  CHECK_FALSE(handled);
}

TEST_CASE_FIXTURE(LoopTest, "a promise may be moved, consumed or replaced by what runs while it is polled") {
  auto pair = newPromiseAndFulfiller<int>();
  Promise<int> promise = std::move(pair.promise);
  std::optional<Promise<int>> other;
  SUBCASE("moved") {
    Promise<void> mover = evalLater([&] { other.emplace(std::move(promise)); }).eagerlyEvaluate(nullptr);
    CHECK_FALSE(promise.poll(scope));
  }
  SUBCASE("consumed") {
    Promise<void> mover = evalLater([&] {
                            other.emplace(std::move(promise).then([](int i) { return i; }).eagerlyEvaluate(nullptr));
                          }).eagerlyEvaluate(nullptr);
    CHECK_FALSE(promise.poll(scope));
  }
  SUBCASE("replaced") {
    Promise<void> mover = evalLater([&] {
                            other.emplace(std::move(promise));
                            promise = Promise<int>(5);
                          }).eagerlyEvaluate(nullptr);
    CHECK_FALSE(promise.poll(scope));
    CHECK(std::move(promise).wait(scope) == 5);
  }
  // What it was waits for nobody who has gone, and disturbs no other wait.
  auto second = newPromiseAndFulfiller<int>();
  pair.fulfiller->fulfill(1);
  CHECK_FALSE(second.promise.poll(scope));
  second.fulfiller->fulfill(2);
  CHECK(std::move(second.promise).wait(scope) == 2);
  CHECK(std::move(*other).wait(scope) == 1);
}

TEST_CASE_FIXTURE(LoopTest, "destroying a promise while it is polled throws from the poll and names the place") {
  std::optional<Promise<int>> promise(NEVER_DONE);
  SUBCASE("one that waits for nothing") {}
  SUBCASE("an operation") { promise.emplace(newPromiseAndFulfiller<int>().promise); }
  Promise<void> destroyer = evalLater([&] { promise.reset(); }).eagerlyEvaluate(nullptr);
  const Exception e = thrownBy([&] { (void)promise->poll(scope); });
  CHECK(contains(e.description(), "destroyed while it was polled"));
  CHECK(fileOf(e) == "promise_test.cc");
  CHECK(evalLater([] { return 1; }).wait(scope) == 1);
}

TEST_CASE_FIXTURE(LoopTest, "a promise that is polled many times grows once") {
  auto pair = newPromiseAndFulfiller<int>();
  for (int i = 0; i < 1000; ++i) CHECK_FALSE(pair.promise.poll(scope));
  pair.fulfiller->fulfill(1);
  CHECK(pair.promise.poll(scope));
  CHECK(std::move(pair.promise).wait(scope) == 1);
}

TEST_CASE_FIXTURE(LoopTest, "without memory a promise fails with OVERLOADED, and says so") {
  if (SANITIZED) return; // NoMemory has no effect
  const auto check = [&](const std::function<Promise<int>()>& make) {
    std::optional<Promise<int>> promise;
    {
      detail::trimPool();
      const NoMemory none;
      promise.emplace(make());
    }
    CHECK(promise->trace() == "failed promise\n");
    const Exception failure = failureOf(std::move(*promise), scope);
    CHECK(kindName(failure) == "OVERLOADED");
    CHECK(failure.description() == "out of memory");
  };
  for (int i = 0; i < 2; ++i) {
    check([] { return evalNow([]() -> int { throw 1; }); });
    check([] { return evalNow([] { return 1; }); });
    check([]() -> Promise<int> { return Exception(Exception::Kind::FAILED, "x"); });
  }
}

TEST_CASE_FIXTURE(LoopTest, "a continuation that should give a promise, and finds no memory, fails") {
  if (SANITIZED) return;
  std::optional<NoMemory> none;
  Promise<int> promise = evalLater([&]() -> Promise<int> {
    detail::trimPool();
    none.emplace();
    throw std::bad_alloc();
  });
  const bool ready = promise.poll(scope);
  none.reset();
  CHECK(ready);
  CHECK(kindName(failureOf(std::move(promise), scope)) == "OVERLOADED");
}

TEST_CASE_FIXTURE(LoopTest, "std::bad_alloc becomes OVERLOADED and is thrown as itself") {
  const auto make = [] { return evalLater([]() -> int { throw std::bad_alloc(); }); };
  std::optional<Exception> seen;
  make().catch_([&](Exception e) { return seen = e, 0; }).wait(scope);
  REQUIRE(seen);
  CHECK(kindName(*seen) == "OVERLOADED");
  CHECK(seen->description() == "out of memory");
  CHECK_THROWS_AS(make().wait(scope), std::bad_alloc);
}

TEST_CASE_FIXTURE(LoopTest, "an exception that is not a std::exception is FAILED and names its type") {
  struct Odd {};
  std::optional<Exception> seen;
  evalLater([] { throw Odd(); }).catch_([&](Exception e) { seen = e; }).wait(scope);
  REQUIRE(seen);
  CHECK(kindName(*seen) == "FAILED");
  CHECK(contains(seen->description(), "Odd"));
  CHECK_THROWS_AS(seen->rethrow(), Odd);
}

TEST_CASE_FIXTURE(LoopTest, "std::system_error keeps its code and gets its kind") {
  std::optional<Exception> seen;
  evalLater([] { throw std::system_error(std::make_error_code(std::errc::connection_reset), "reading"); })
      .catch_([&](Exception e) { seen = e; })
      .wait(scope);
  REQUIRE(seen);
  CHECK(kindName(*seen) == "DISCONNECTED");
  CHECK(seen->code() == std::errc::connection_reset);
}

// -------------------------------------------------------------------------- what is destroyed and when

TEST_CASE_FIXTURE(LoopTest, "what a step waits for is destroyed before the step, the innermost first") {
  std::string log;
  {
    Promise<void> promise = Promise<void>(NEVER_DONE)
                                .attach(Noted(log, "attached1"))
                                .then([n = Noted(log, "functor1")] {}, [n = Noted(log, "handler1")](Exception) {})
                                .attach(Noted(log, "attached2"))
                                .then([n = Noted(log, "functor2")]() -> Promise<void> { return READY_NOW; })
                                .attach(Noted(log, "attached3"))
                                .eagerlyEvaluate(nullptr)
                                .attach(Noted(log, "attached4"));
    scope.poll();
    CHECK(log.empty());
  }
  CHECK(log == "attached1 handler1 functor1 attached2 functor2 attached3 attached4 ");
}

TEST_CASE_FIXTURE(LoopTest, "a chain longer than one arena is destroyed in the same order") {
  std::string log;
  {
    Promise<int> promise = NEVER_DONE;
    for (int i = 0; i < 40; ++i)
      promise = std::move(promise).then([n = Noted(log, std::to_string(i)), room = std::array<char, 40>()](int x) {
        return x + room[0];
      });
  }
  std::string expected;
  for (int i = 0; i < 40; ++i) expected += std::to_string(i) + " ";
  CHECK(log == expected);
}

TEST_CASE_FIXTURE(LoopTest, "the dependency is destroyed before the continuation runs") {
  std::string log;
  Promise<int>(1)
      .attach(Noted(log, "attached"))
      .then([&, n = Noted(log, "functor1")](int x) { return log += "run1 ", x; })
      .then([&, n = Noted(log, "functor2")](int) -> Promise<void> {
        log += "run2 ";
        return READY_NOW;
      })
      .then([&, n = Noted(log, "functor3")] { log += "run3 "; })
      .wait(scope);
  CHECK(log == "attached run1 functor1 run2 functor2 run3 functor3 ");
}

TEST_CASE_FIXTURE(LoopTest, "the promise that a continuation returned outlives the continuation's functor when it runs on") {
  std::string log;
  auto inner = newPromiseAndFulfiller<void>();
  {
    Promise<void> promise = evalLater([&, n = Noted(log, "functor")] { return std::move(inner.promise).attach(Noted(log, "inner")); })
                                .attach(Noted(log, "outer"));
    CHECK_FALSE(promise.poll(scope));
    CHECK(log == "functor "); // the step is over; what it started is not
  }
  CHECK(log == "functor inner outer ");
}

TEST_CASE_FIXTURE(LoopTest, "an attachment lives until its promise is consumed") {
  std::string log;
  Promise<int> promise = Promise<int>(1).attach(Noted(log, "attached"));
  CHECK(promise.poll(scope));
  CHECK(log.empty());
  CHECK(std::move(promise).wait(scope) == 1);
  CHECK(log == "attached ");
}

TEST_CASE_FIXTURE(LoopTest, "attachments may be several, move-only, and lvalues are copied") {
  auto shared = std::make_shared<int>(1);
  {
    Promise<void> promise = Promise<void>(NEVER_DONE).attach(shared, std::make_unique<int>(2), std::string("three"));
    CHECK(shared.use_count() == 2);
  }
  CHECK(shared.use_count() == 1);
}

TEST_CASE_FIXTURE(LoopTest, "an attachment is kept while the failure of its promise is pending and freed with it") {
  std::string log;
  auto pair = newPromiseAndFulfiller<void>();
  Promise<void> promise = std::move(pair.promise).attach(Noted(log, "attached"));
  pair.fulfiller->reject(Exception(Kind::FAILED, "x"));
  CHECK(promise.poll(scope));
  CHECK(log.empty());
  CHECK_THROWS_AS(std::move(promise).wait(scope), Exception);
  CHECK(log == "attached ");
}

TEST_CASE_FIXTURE(LoopTest, "assigning to a promise cancels what it held") {
  std::string log;
  Promise<int> promise = Promise<int>(NEVER_DONE).attach(Noted(log, "old"));
  promise = 4;
  CHECK(log == "old ");
  CHECK(std::move(promise).wait(scope) == 4);
}

TEST_CASE_FIXTURE(LoopTest, "destroying a promise whose event is queued runs nothing of it") {
  int ran = 0;
  {
    Promise<void> promise = evalLater([&] { ++ran; }).eagerlyEvaluate(nullptr);
    CHECK(loop.isRunnable());
  }
  CHECK_FALSE(loop.isRunnable());
  CHECK(scope.poll() == 0);
  CHECK(ran == 0);
}

TEST_CASE_FIXTURE(LoopTest, "a continuation may destroy another promise that is queued behind it") {
  std::string log;
  std::optional<Promise<void>> victim;
  Promise<void> killer = evalLater([&] {
                           log += "kill ";
                           victim.reset();
                         }).eagerlyEvaluate(nullptr);
  victim = evalLater([&] { log += "victim "; }).eagerlyEvaluate(nullptr);
  Promise<void> after = evalLater([&] { log += "after "; }).eagerlyEvaluate(nullptr);
  scope.poll();
  CHECK(log == "kill after ");
}

TEST_CASE_FIXTURE(LoopTest, "a destructor that runs during cancellation may fulfil other promises") {
  auto pair = newPromiseAndFulfiller<int>();
  struct Fulfils {
    std::unique_ptr<PromiseFulfiller<int>> fulfiller;
    explicit Fulfils(std::unique_ptr<PromiseFulfiller<int>> f) : fulfiller(std::move(f)) {}
    Fulfils(Fulfils&&) noexcept = default;
    ~Fulfils() {
      if (fulfiller) fulfiller->fulfill(11);
    }
  };
  std::optional<Promise<void>> cancelled = Promise<void>(NEVER_DONE).attach(Fulfils(std::move(pair.fulfiller)));
  CHECK(takeAfter(pair.promise, scope, [&] { cancelled.reset(); }) == 11);
}

TEST_CASE("a promise that its own continuation destroys aborts and says so") {
  const ChildEnd end = runInChild([] {
    EventLoop loop;
    WaitScope scope(loop);
    std::optional<Promise<void>> self;
    self = evalLater([&] { self.reset(); }).eagerlyEvaluate(nullptr);
    scope.poll();
  });
  CHECK(end.aborted);
  CHECK(contains(end.errors, "destroyed by the code that it is running"));
}

TEST_CASE("a promise that its own promise-returning continuation destroys aborts and says so") {
  const ChildEnd end = runInChild([] {
    EventLoop loop;
    WaitScope scope(loop);
    std::optional<Promise<void>> self;
    self = evalLater([&]() -> Promise<void> {
      self.reset();
      return READY_NOW;
    });
    scope.poll();
  });
  CHECK(end.aborted);
  CHECK(contains(end.errors, "destroyed by the code that it is running"));
}

// ------------------------------------------------------------------------------------- exclusiveJoin

TEST_CASE_FIXTURE(LoopTest, "exclusiveJoin gives the first result and destroys the loser before it is seen") {
  std::string log;
  auto left = newPromiseAndFulfiller<int>();
  auto right = newPromiseAndFulfiller<int>();
  Promise<void> joined = std::move(left.promise)
                             .attach(Noted(log, "left"))
                             .exclusiveJoin(std::move(right.promise).attach(Noted(log, "right")))
                             .then([&](int x) { log += "seen" + std::to_string(x) + " "; });
  takeAfter(joined, scope, [&] { right.fulfiller->fulfill(2); });
  CHECK(log == "left right seen2 ");
  CHECK_FALSE(left.fulfiller->isWaiting());
}

TEST_CASE_FIXTURE(LoopTest, "exclusiveJoin cancels the loser unasked") {
  std::string log;
  Promise<int> joined = Promise<int>(NEVER_DONE).attach(Noted(log, "loser")).exclusiveJoin(evalLater([] { return 1; }));
  scope.poll();
  CHECK(log == "loser ");
  CHECK(std::move(joined).wait(scope) == 1);
}

TEST_CASE_FIXTURE(LoopTest, "exclusiveJoin of two that are ready takes the left one") {
  int ran = 0;
  CHECK(Promise<int>(1).exclusiveJoin(Promise<int>(2).then([&](int x) { return ++ran, x; })).wait(scope) == 1);
  CHECK(ran == 0);
}

TEST_CASE_FIXTURE(LoopTest, "a decided exclusiveJoin is ready, and does not queue behind all else a second time") {
  std::string log;
  Promise<void> joined = evalLast([&] { log += "won "; }).exclusiveJoin(NEVER_DONE);
  CHECK(joined.poll(scope));
  Promise<void> later = evalLater([&] { log += "later "; }).eagerlyEvaluate(nullptr);
  Promise<void> last = evalLast([&] { log += "last "; }).eagerlyEvaluate(nullptr);
  std::move(joined).wait(scope);
  CHECK(log == "later won ");
}

TEST_CASE_FIXTURE(LoopTest, "exclusiveJoin takes the one that was ready first when both are by the time it runs") {
  auto left = newPromiseAndFulfiller<int>();
  auto right = newPromiseAndFulfiller<int>();
  Promise<int> joined = std::move(left.promise).exclusiveJoin(std::move(right.promise));
  CHECK_FALSE(joined.poll(scope));
  right.fulfiller->fulfill(2);
  left.fulfiller->fulfill(1);
  CHECK(std::move(joined).wait(scope) == 2);
}

TEST_CASE_FIXTURE(LoopTest, "exclusiveJoin fails if the first to be ready has failed") {
  auto left = newPromiseAndFulfiller<int>();
  Promise<int> joined = std::move(left.promise).exclusiveJoin(NEVER_DONE);
  CHECK_FALSE(joined.poll(scope));
  left.fulfiller->reject(Exception(Kind::DISCONNECTED, "gone"));
  CHECK(kindName(failureOf(std::move(joined), scope)) == "DISCONNECTED");
}

TEST_CASE_FIXTURE(LoopTest, "exclusiveJoin nests, and a tree of them is cancelled whole") {
  std::string log;
  auto only = newPromiseAndFulfiller<int>();
  Promise<int> tree = std::move(only.promise);
  for (int i = 0; i < 4; ++i)
    tree = Promise<int>(NEVER_DONE).attach(Noted(log, std::to_string(i))).exclusiveJoin(std::move(tree)).then(twice);
  CHECK_FALSE(tree.poll(scope));
  SUBCASE("won by the innermost") {
    only.fulfiller->fulfill(1);
    CHECK(std::move(tree).wait(scope) == 16);
    CHECK(log == "0 1 2 3 ");
  }
  SUBCASE("cancelled") {
    { Promise<int> gone = std::move(tree); }
    CHECK(log.size() == 8);
    CHECK_FALSE(only.fulfiller->isWaiting());
  }
}

TEST_CASE_FIXTURE(LoopTest, "exclusiveJoin's pending halves are both destroyed with it") {
  std::string log;
  {
    Promise<int> joined = Promise<int>(NEVER_DONE).attach(Noted(log, "a")).exclusiveJoin(Promise<int>(NEVER_DONE).attach(Noted(log, "b")));
    CHECK_FALSE(joined.poll(scope));
  }
  CHECK(log.size() == 4);
}

// -------------------------------------------------------------------------------------- wait and poll

TEST_CASE_FIXTURE(LoopTest, "poll tells without consuming") {
  auto pair = newPromiseAndFulfiller<int>();
  CHECK_FALSE(pair.promise.poll(scope));
  CHECK_FALSE(pair.promise.poll(scope));
  pair.fulfiller->fulfill(1);
  CHECK(pair.promise.poll(scope));
  CHECK(pair.promise.poll(scope));
  CHECK(std::move(pair.promise).wait(scope) == 1);
}

TEST_CASE_FIXTURE(LoopTest, "a promise that was polled may still be chained to, awaited or destroyed") {
  auto a = newPromiseAndFulfiller<int>();
  CHECK_FALSE(a.promise.poll(scope));
  Promise<int> chained = std::move(a.promise).then([](int x) -> Promise<int> { return x + 1; });
  CHECK_FALSE(chained.poll(scope));
  a.fulfiller->fulfill(1);
  CHECK(std::move(chained).wait(scope) == 2);
  auto b = newPromiseAndFulfiller<int>();
  CHECK_FALSE(b.promise.poll(scope));
  { Promise<int> gone = std::move(b.promise); }
  b.fulfiller->fulfill(1);
  CHECK(scope.poll() == 0);
}

TEST_CASE_FIXTURE(LoopTest, "wait runs what else is queued on the way and leaves what comes later") {
  std::string log;
  std::optional<Promise<void>> later;
  Promise<void> before = evalLater([&] { log += "before "; }).eagerlyEvaluate(nullptr);
  Promise<void> mine = evalLater([&] {
    log += "mine ";
    later = evalLater([&] { log += "later "; }).eagerlyEvaluate(nullptr);
  });
  std::move(mine).wait(scope);
  CHECK(log == "before mine ");
  scope.poll();
  CHECK(log == "before mine later ");
}

TEST_CASE_FIXTURE(LoopTest, "a wait that failed by deadlock leaves the loop usable") {
  auto pair = newPromiseAndFulfiller<int>();
  CHECK(contains(thrownBy([&] { std::move(pair.promise).wait(scope); }).description(), "deadlock"));
  CHECK_FALSE(pair.fulfiller->isWaiting()); // wait() consumed and so cancelled it
  CHECK(evalLater([] { return 1; }).wait(scope) == 1);
}

// ---------------------------------------------------------------------------------- fulfiller, adapter

TEST_CASE_FIXTURE(LoopTest, "a fulfiller makes its promise ready") {
  auto pair = newPromiseAndFulfiller<std::string>();
  CHECK(takeAfter(pair.promise, scope, [&] { pair.fulfiller->fulfill("here"); }) == "here");
  auto nothing = newPromiseAndFulfiller<void>();
  takeAfter(nothing.promise, scope, [&] { nothing.fulfiller->fulfill(); });
}

TEST_CASE_FIXTURE(LoopTest, "a fulfiller may be used before anybody waits") {
  auto pair = newPromiseAndFulfiller<std::unique_ptr<int>>();
  pair.fulfiller->fulfill(std::make_unique<int>(6));
  CHECK(*std::move(pair.promise).wait(scope) == 6);
  auto failed = newPromiseAndFulfiller<void>();
  failed.fulfiller->reject(Exception(Kind::OVERLOADED, "x"));
  CHECK(kindName(failureOf(std::move(failed.promise), scope)) == "OVERLOADED");
}

TEST_CASE_FIXTURE(LoopTest, "only the first settling of a promise counts") {
  auto a = newPromiseAndFulfiller<int>();
  a.fulfiller->fulfill(1);
  a.fulfiller->fulfill(2);
  a.fulfiller->reject(Exception(Kind::FAILED, "x"));
  CHECK(std::move(a.promise).wait(scope) == 1);
  auto b = newPromiseAndFulfiller<void>();
  b.fulfiller->reject(Exception(Kind::FAILED, "first"));
  b.fulfiller->fulfill();
  b.fulfiller->reject(Exception(Kind::FAILED, "second"));
  CHECK(failureOf(std::move(b.promise), scope).description() == "first");
}

TEST_CASE_FIXTURE(LoopTest, "isWaiting is true until the promise is settled or gone") {
  auto a = newPromiseAndFulfiller<int>();
  CHECK(a.fulfiller->isWaiting());
  a.fulfiller->fulfill(1);
  CHECK_FALSE(a.fulfiller->isWaiting());
  auto b = newPromiseAndFulfiller<int>();
  { Promise<int> gone = std::move(b.promise).then(twice); }
  CHECK_FALSE(b.fulfiller->isWaiting());
  b.fulfiller->fulfill(1);
  b.fulfiller->reject(Exception(Kind::FAILED, "x"));
}

TEST_CASE_FIXTURE(LoopTest, "a fulfiller that is dropped rejects its promise") {
  auto pair = newPromiseAndFulfiller<int>();
  CHECK_FALSE(pair.promise.poll(scope));
  pair.fulfiller.reset();
  const Exception e = failureOf(std::move(pair.promise), scope);
  CHECK(kindName(e) == "FAILED");
  CHECK(contains(e.description(), "fulfiller"));
  CHECK(fileOf(e) == "promise_test.cc");
}

TEST_CASE_FIXTURE(LoopTest, "a fulfiller that is dropped after it has settled changes nothing") {
  auto pair = newPromiseAndFulfiller<int>();
  pair.fulfiller->fulfill(1);
  pair.fulfiller.reset();
  CHECK(std::move(pair.promise).wait(scope) == 1);
}

TEST_CASE_FIXTURE(LoopTest, "rejectIfThrows rejects exactly if its function throws (R8)") {
  auto pair = newPromiseAndFulfiller<int>();
  CHECK(pair.fulfiller->rejectIfThrows([] {}));
  CHECK(pair.fulfiller->isWaiting());
  CHECK_FALSE(pair.fulfiller->rejectIfThrows([] { throw std::out_of_range("x"); }));
  CHECK_THROWS_AS(std::move(pair.promise).wait(scope), std::out_of_range);
  auto nothing = newPromiseAndFulfiller<void>();
  CHECK_FALSE(nothing.fulfiller->rejectIfThrows([] { throw 1; }));
  CHECK_THROWS_AS(std::move(nothing.promise).wait(scope), int);
}

namespace {

struct Adapter {
  Adapter(PromiseFulfiller<int>& f, std::string& l) : fulfiller(f), log(l) { log += "made "; }
  ~Adapter() { log += fulfiller.isWaiting() ? "undone " : "gone "; }
  PromiseFulfiller<int>& fulfiller;
  std::string& log;
};

struct Registering : Adapter {
  Registering(PromiseFulfiller<int>& f, std::string& l, PromiseFulfiller<int>*& registry) : Adapter(f, l), place(registry) { place = &f; }
  ~Registering() { place = nullptr; }
  PromiseFulfiller<int>*& place;
};

} // namespace

TEST_CASE_FIXTURE(LoopTest, "an adapter starts when it is made and is destroyed on cancellation before what holds it") {
  std::string log;
  PromiseFulfiller<int>* registry = nullptr;
  {
    Promise<int> promise = newAdaptedPromise<int, Registering>(log, registry).attach(Noted(log, "attached")).then([n = Noted(log, "functor")](int x) {
      return x;
    });
    CHECK(log == "made ");
    CHECK(registry != nullptr);
    CHECK_FALSE(promise.poll(scope));
  }
  CHECK(registry == nullptr);
  CHECK(log == "made undone attached functor ");
}

TEST_CASE_FIXTURE(LoopTest, "an adapter that has fulfilled is destroyed before the continuation runs") {
  std::string log;
  PromiseFulfiller<int>* registry = nullptr;
  Promise<void> promise = newAdaptedPromise<int, Registering>(log, registry).then([&](int x) { log += "run" + std::to_string(x); });
  takeAfter(promise, scope, [&] {
    registry->fulfill(5);
    registry->fulfill(6);
  });
  CHECK(log == "made gone run5");
}

TEST_CASE_FIXTURE(LoopTest, "an adapter may fulfil or reject in its constructor") {
  struct AtOnce {
    AtOnce(PromiseFulfiller<std::unique_ptr<int>>& f, bool good) {
      if (good)
        f.fulfill(std::make_unique<int>(1));
      else
        f.reject(Exception(Kind::OVERLOADED, "x"));
    }
  };
  CHECK(*newAdaptedPromise<std::unique_ptr<int>, AtOnce>(true).wait(scope) == 1);
  CHECK(kindName(failureOf(newAdaptedPromise<std::unique_ptr<int>, AtOnce>(false), scope)) == "OVERLOADED");
}

TEST_CASE_FIXTURE(LoopTest, "an adapter whose constructor throws leaves nothing behind") {
  struct Throws {
    explicit Throws(PromiseFulfiller<void>&) { throw std::out_of_range("x"); }
  };
  CHECK_THROWS_AS(static_cast<void>((newAdaptedPromise<void, Throws>())), std::out_of_range);
  CHECK_THROWS_AS(evalLater([] { return newAdaptedPromise<void, Throws>(); }).wait(scope), std::out_of_range);
}

TEST_CASE_FIXTURE(LoopTest, "an adapter takes move-only arguments") {
  struct Takes {
    Takes(PromiseFulfiller<int>& f, std::unique_ptr<int> p) { f.fulfill(int(*p)); }
  };
  CHECK(newAdaptedPromise<int, Takes>(std::make_unique<int>(3)).wait(scope) == 3);
}

// -------------------------------------------------------------------------------------------- misuse

TEST_CASE_FIXTURE(LoopTest, "a consumed promise refuses every use and names the caller") {
  Promise<int> promise = 1;
  Promise<int> taken = std::move(promise);
  const auto check = [](const Exception& e) {
    CHECK(kindName(e) == "FAILED");
    CHECK(contains(e.description(), "consumed"));
    CHECK(fileOf(e) == "promise_test.cc");
  };
  check(thrownBy([&] { (void)std::move(promise).then(twice); }));
  check(thrownBy([&] { (void)std::move(promise).then([](int x) -> Promise<int> { return x; }); }));
  check(thrownBy([&] { (void)std::move(promise).catch_([](Exception) { return 1; }); }));
  check(thrownBy([&] { (void)std::move(promise).ignoreResult(); }));
  check(thrownBy([&] { (void)std::move(promise).eagerlyEvaluate(nullptr); }));
  check(thrownBy([&] { (void)std::move(promise).exclusiveJoin(NEVER_DONE); }));
  check(thrownBy([&] { (void)Promise<int>(NEVER_DONE).exclusiveJoin(std::move(promise)); }));
  check(thrownBy([&] { (void)promise.poll(scope); }));
  check(thrownBy([&] { std::move(promise).wait(scope); }));
  CHECK(std::move(taken).wait(scope) == 1);
}

TEST_CASE_FIXTURE(LoopTest, "attach to a consumed promise throws, and names no place rather than a wrong one") {
  Promise<int> promise = 1;
  Promise<int> taken = std::move(promise);
  const Exception e = thrownBy([&] { (void)std::move(promise).attach(1); });
  CHECK(contains(e.description(), "consumed"));
  CHECK(e.where().line() == 0);
}

TEST_CASE_FIXTURE(LoopTest, "a promise that was waited for is consumed") {
  Promise<int> promise = 1;
  CHECK(std::move(promise).wait(scope) == 1);
  CHECK(contains(thrownBy([&] { std::move(promise).wait(scope); }).description(), "consumed"));
}

TEST_CASE_FIXTURE(LoopTest, "wait and poll inside a continuation throw and name the caller") {
  const auto check = [&](auto&& misuse) {
    for (int way = 0; way < 3; ++way) {
      CAPTURE(way);
      std::optional<Exception> seen;
      const auto inside = [&] { seen = thrownBy(misuse); };
      if (way == 0) evalLater(inside).wait(scope); // computed by wait() itself
      if (way == 1) evalLater(inside).eagerlyEvaluate(nullptr).wait(scope);
      if (way == 2)
        evalLater([&]() -> Promise<void> {
          inside();
          return READY_NOW;
        }).wait(scope);
      REQUIRE(seen);
      CHECK(kindName(*seen) == "FAILED");
      CHECK(contains(seen->description(), "inside a continuation or coroutine"));
      CHECK(fileOf(*seen) == "promise_test.cc");
    }
  };
  check([&] { Promise<void>(READY_NOW).wait(scope); });
  check([&] { (void)Promise<void>(READY_NOW).then([] {}).poll(scope); });
  check([&] { scope.poll(); });
  check([&] { NEVER_DONE.wait(scope); });
}

TEST_CASE_FIXTURE(LoopTest, "wait inside a destructor that the loop runs throws") {
  struct Waits {
    WaitScope& scope;
    std::string& text;
    bool active = true;
    Waits(WaitScope& s, std::string& t) : scope(s), text(t) {}
    Waits(Waits&& o) noexcept : scope(o.scope), text(o.text), active(std::exchange(o.active, false)) {}
    ~Waits() {
      if (active) text = thrownBy([&] { Promise<void>(READY_NOW).wait(scope); }).description();
    }
  };
  std::string text;
  Promise<int>(1).attach(Waits(scope, text)).then(twice).wait(scope);
  CHECK(contains(text, "inside a continuation"));
}

TEST_CASE("a promise that needs a loop throws on a thread without one and names the caller") {
  NothingLeft nothingLeft;
  const auto check = [](const Exception& e) {
    CHECK(kindName(e) == "FAILED");
    CHECK(contains(e.description(), "no event loop on this thread"));
    CHECK(fileOf(e) == "promise_test.cc");
  };
  SUBCASE("EventLoop::current()") { check(thrownBy([] { EventLoop::current(); })); }
  SUBCASE("then with a promise-returning continuation") {
    check(thrownBy([] { (void)Promise<int>(1).then([](int x) -> Promise<int> { return x; }); }));
  }
  SUBCASE("eagerlyEvaluate") {
    check(thrownBy([] { (void)Promise<int>(1).eagerlyEvaluate(nullptr); }));
  }
  SUBCASE("exclusiveJoin") {
    check(thrownBy([] { (void)Promise<int>(1).exclusiveJoin(NEVER_DONE); }));
  }
}

TEST_CASE("awaiting another thread's promise throws, names the mistake and the promise's place, and touches it no more") {
  // In a child, because the promise is let go of: here it could not be destroyed.
  for (const bool poll : {false, true}) {
    CAPTURE(poll);
    const ChildEnd end = runInChild([poll] {
      EventLoop loop;
      WaitScope scope(loop);
      auto pair = newPromiseAndFulfiller<int>();
      std::string problem;
      std::thread([&] {
        EventLoop other;
        WaitScope otherScope(other);
        try {
          if (poll)
            (void)pair.promise.poll(otherScope);
          else
            std::move(pair.promise).wait(otherScope);
          problem = "nothing was thrown";
        } catch (const Exception& e) {
          if (!contains(e.description(), "another thread")) problem = e.what();
          if (fileOf(e) != "promise_test.cc") problem = e.what();
        }
      }).join();
      if (!problem.empty()) throw std::logic_error(problem);
      pair.fulfiller->fulfill(3);
      scope.poll();
    });
    CHECK_MESSAGE(end.finished, end.errors);
  }
}

TEST_CASE("another thread's promise that a continuation returns, or a join gives, fails and names the mistake") {
  for (const bool waited : {false, true}) {
    CAPTURE(waited);
    const ChildEnd end = runInChild([waited] {
      EventLoop loop;
      WaitScope scope(loop);
      auto first = newPromiseAndFulfiller<int>();
      auto second = newPromiseAndFulfiller<int>();
      Promise<int> joined = std::move(second.promise).exclusiveJoin(NEVER_DONE);
      std::string problem;
      std::thread([&] {
        EventLoop other;
        WaitScope otherScope(other);
        for (Promise<int>* foreign : {&first.promise, &joined}) {
          Promise<int> outer = evalLater([&]() -> Promise<int> { return std::move(*foreign); });
          if (!waited) (void)outer.poll(otherScope);
          try {
            std::move(outer).wait(otherScope);
            problem = "nothing was thrown";
          } catch (const Exception& e) {
            if (!contains(e.description(), "another thread")) problem = e.what();
            if (fileOf(e) != "promise_test.cc" && foreign == &first.promise) problem = e.what();
          }
        }
      }).join();
      if (!problem.empty()) throw std::logic_error(problem);
      _exit(0); // the promises were let go of, so the loop could not be destroyed
    });
    CHECK_MESSAGE(end.finished, end.errors);
  }
}

TEST_CASE_FIXTURE(LoopTest, "a continuation may return the constants READY_NOW and NEVER_DONE") {
  int ran = 0;
  Promise<void> ready = Promise<int>(1).then([](int) { return READY_NOW; });
  std::move(ready).then([&] { ++ran; }).wait(scope);
  CHECK(ran == 1);
  Promise<void> never = evalLater([] { return NEVER_DONE; });
  CHECK_FALSE(never.poll(scope));
  Promise<void> handled = evalNow([]() -> Promise<void> { throw std::runtime_error("x"); }).catch_([](Exception) { return READY_NOW; });
  std::move(handled).wait(scope);
}

TEST_CASE_FIXTURE(LoopTest, "using another thread's WaitScope throws") {
  std::optional<Exception> seen;
  std::thread([&] {
    EventLoop other;
    WaitScope otherScope(other);
    seen = thrownBy([&] { Promise<void>(READY_NOW).wait(scope); });
  }).join();
  REQUIRE(seen);
  CHECK(kindName(*seen) == "FAILED");
  CHECK(contains(seen->description(), "another thread"));
  CHECK(fileOf(*seen) == "promise_test.cc");
}

TEST_CASE_FIXTURE(LoopTest, "fulfilling and rejecting on another thread throw and leave the promise waiting") {
  auto pair = newPromiseAndFulfiller<int>();
  auto nothing = newPromiseAndFulfiller<void>();
  CHECK_FALSE(nothing.promise.poll(scope));
  std::vector<Exception> seen;
  std::thread([&] {
    seen.push_back(thrownBy([&] { pair.fulfiller->fulfill(1); }));
    seen.push_back(thrownBy([&] { pair.fulfiller->reject(Exception(Kind::FAILED, "x")); }));
    seen.push_back(thrownBy([&] { nothing.fulfiller->fulfill(); }));
  }).join();
  REQUIRE(seen.size() == 3);
  for (const Exception& e : seen) {
    CHECK(kindName(e) == "FAILED");
    CHECK(contains(e.description(), "another thread"));
    CHECK(fileOf(e) == "promise_test.cc");
  }
  pair.fulfiller->fulfill(2);
  CHECK(std::move(pair.promise).wait(scope) == 2);
  CHECK(nothing.fulfiller->isWaiting());
}

TEST_CASE("a fulfiller that is dropped on another thread aborts with a message that names the mistake") {
  const ChildEnd end = runInChild([] {
    EventLoop loop;
    WaitScope scope(loop);
    auto pair = newPromiseAndFulfiller<int>();
    std::thread([&] { pair.fulfiller.reset(); }).join();
  });
  CHECK(end.aborted);
  CHECK(contains(end.errors, "troth: fatal"));
  CHECK(contains(end.errors, "another thread"));
}

namespace {

/// Throws in the move that brings `movesLeft` to 0.
struct Fragile {
  static inline int movesLeft = 0;
  Fragile() = default;
  Fragile(Fragile&&) { move(); }
  Fragile& operator=(Fragile&&) {
    move();
    return *this;
  }

private:
  static void move() {
    if (--movesLeft == 0) throw std::out_of_range("fragile");
  }
};

} // namespace

TEST_CASE("a value whose move constructor throws, at whichever move, rejects the promise (R8)") {
  const ChildEnd end = runInChild([] {
    EventLoop loop;
    WaitScope scope(loop);
    for (int k = 1; k < 50; ++k) {
      Fragile::movesLeft = k;
      try {
        evalLater([] { return Fragile(); })
            .then([](Fragile&& f) { return std::move(f); })
            .eagerlyEvaluate(nullptr)
            .then([](Fragile&&) {})
            .wait(scope);
        if (Fragile::movesLeft > 0 && k > 3) return; // never reached: all moves went well
        throw std::logic_error("nothing was thrown");
      } catch (const std::out_of_range&) {
        std::fprintf(stderr, "survived a throw in move %d\n", k);
      }
    }
  });
  CHECK_MESSAGE(end.finished, end.errors);
}

// ------------------------------------------------------------------------------------ deep and long

namespace {

Promise<int> longChain(std::size_t length, Promise<int> promise) {
  for (std::size_t i = 0; i < length; ++i) promise = std::move(promise).then([](int x) { return x + 1; });
  return promise;
}

Promise<int> longEagerChain(std::size_t length, Promise<int> promise) {
  for (std::size_t i = 0; i < length; ++i) promise = std::move(promise).then([](int x) -> Promise<int> { return x + 1; });
  return promise;
}

constexpr std::size_t SMALL_STACK = 256 * 1024;

} // namespace

TEST_CASE_FIXTURE(LoopTest, "a chain of 1 000 000 continuations runs (R1)") {
  CHECK(longChain(1'000'000, Promise<int>(0)).wait(scope) == 1'000'000);
}

TEST_CASE_FIXTURE(LoopTest, "a pending chain of 1 000 000 continuations is cancelled (R2)") {
  const auto blocks = detail::liveBlocks();
  {
    Promise<int> promise = longChain(1'000'000, NEVER_DONE);
    CHECK_FALSE(promise.poll(scope));
    CHECK(detail::liveBlocks() > blocks);
  }
  CHECK(detail::liveBlocks() == blocks);
}

TEST_CASE("a chain of 100 000 continuations of each sort runs and is destroyed on a stack of 256 KiB (R1, R2)") {
  onStackOf(SMALL_STACK, [] {
    NothingLeft nothingLeft;
    EventLoop loop;
    WaitScope scope(loop);
    constexpr std::size_t LENGTH = 100'000;
    CHECK(longChain(LENGTH, Promise<int>(0)).wait(scope) == LENGTH);
    CHECK(longEagerChain(LENGTH, Promise<int>(0)).wait(scope) == LENGTH);
    { CHECK_FALSE(longChain(LENGTH, NEVER_DONE).poll(scope)); }
    { CHECK_FALSE(longEagerChain(LENGTH, NEVER_DONE).poll(scope)); }
    { Promise<int> neverAsked = longChain(LENGTH, Promise<int>(0)); }
    { Promise<int> halfRun = longEagerChain(LENGTH, Promise<int>(0)); loop.run(LENGTH / 2); }
    CHECK_THROWS_AS(longChain(LENGTH, Exception(Kind::FAILED, "x")).wait(scope), Exception);
    Promise<int> attached = 0;
    for (std::size_t i = 0; i < LENGTH; ++i) attached = std::move(attached).attach(i);
    CHECK(std::move(attached).wait(scope) == 0);
    Promise<int> eager = 0;
    for (std::size_t i = 0; i < LENGTH; ++i) eager = std::move(eager).eagerlyEvaluate(nullptr);
    CHECK(std::move(eager).wait(scope) == 0);
  });
}

TEST_CASE("promises nested 100 000 deep by returning them are completed and cancelled on a stack of 256 KiB (R1, R2)") {
  onStackOf(SMALL_STACK, [] {
    NothingLeft nothingLeft;
    EventLoop loop;
    WaitScope scope(loop);
    struct Nest {
      static Promise<int> make(int depth, Promise<int> last) {
        return evalLater([depth, last = std::move(last)]() mutable -> Promise<int> {
          if (depth == 0) return std::move(last);
          return make(depth - 1, std::move(last)).then([](int x) { return x + 1; });
        });
      }
    };
    CHECK(Nest::make(100'000, 0).wait(scope) == 100'000);
    CHECK_FALSE(Nest::make(100'000, NEVER_DONE).poll(scope));
  });
}

TEST_CASE("a tower of 100 000 exclusiveJoins is cancelled on a stack of 256 KiB (R2)") {
  const ChildEnd end = runInChild([] {
    onStackOf(SMALL_STACK, [] {
      EventLoop loop;
      WaitScope scope(loop);
      Promise<int> tower = NEVER_DONE;
      for (int i = 0; i < 100'000; ++i) tower = std::move(tower).exclusiveJoin(NEVER_DONE);
      (void)tower.poll(scope);
    });
  });
  CHECK_MESSAGE(end.finished, end.errors.substr(0, 300));
}

namespace {

struct Loops {
  std::size_t left;
  std::size_t every;
  std::vector<std::int64_t> blocks;

  void note() {
    if (left % every == 0) blocks.push_back(detail::liveBlocks());
  }
  Promise<void> later() {
    return evalLater([this]() -> Promise<void> {
      note();
      if (left-- == 0) return READY_NOW;
      return later();
    });
  }
  Promise<void> ready() {
    return Promise<void>(READY_NOW).then([this]() -> Promise<void> {
      note();
      if (left-- == 0) return READY_NOW;
      return ready();
    });
  }
  Promise<int> value() {
    return Promise<int>(1).then([this](int x) -> Promise<int> {
      note();
      if (left-- == 0) return x;
      return value();
    });
  }
  Promise<void> recovering() {
    return evalLater([]() -> Promise<void> { throw 1; }).catch_([this](Exception) -> Promise<void> {
      note();
      if (left-- == 0) return READY_NOW;
      return recovering();
    });
  }
};

void checkConstant(const std::vector<std::int64_t>& blocks) {
  REQUIRE(blocks.size() >= 10);
  for (const auto b : blocks) CHECK(b == blocks[1]); // the first was taken before the first tail call
}

} // namespace

TEST_CASE_FIXTURE(LoopTest, "a tail-recursive loop of 1 000 000 steps (200 000 under a sanitizer) runs in constant memory (R3)") {
  constexpr std::size_t STEPS = SANITIZED ? 200'000 : 1'000'000;
  Loops loops{STEPS, STEPS / 10, {}};
  loops.blocks.reserve(16);
  std::size_t before = 0;
  SUBCASE("through evalLater") {
    Promise<void> promise = loops.later();
    loop.run(1000);
    before = residentBytes();
    std::move(promise).wait(scope);
  }
  SUBCASE("through a ready promise") {
    Promise<void> promise = loops.ready();
    loop.run(1000);
    before = residentBytes();
    std::move(promise).wait(scope);
  }
  const std::size_t after = residentBytes();
  loops.blocks.erase(loops.blocks.begin());
  checkConstant(loops.blocks);
  if (!SANITIZED) CHECK(after < before + 1024 * 1024);
}

TEST_CASE_FIXTURE(LoopTest, "a tail-recursive loop with values or through error handlers runs in constant memory (R3)") {
  Loops loops{50'000, 5'000, {}};
  loops.blocks.reserve(16);
  SUBCASE("values") { CHECK(loops.value().wait(scope) == 1); }
  SUBCASE("error handlers") {
    loops.left = 20'000;
    loops.every = 2'000;
    loops.recovering().wait(scope);
  }
  loops.blocks.erase(loops.blocks.begin());
  checkConstant(loops.blocks);
}

TEST_CASE_FIXTURE(LoopTest, "a tail-recursive loop can be cancelled after any step (R5)") {
  for (const std::size_t steps : std::initializer_list<std::size_t>{0, 1, 2, 3, 10, 1000}) {
    Loops loops{SIZE_MAX, SIZE_MAX, {}};
    Promise<void> promise = loops.later().then([]() -> Promise<void> { return NEVER_DONE; });
    loop.run(steps);
  }
}

// ------------------------------------------------------------------------------------------ R5, budgets

TEST_CASE("cancelling a chain at every step leaves nothing (R5)") {
  const std::size_t steps = cancelSweep([](LoopTest&) -> Promise<void> {
    return evalLater([] { return evalLater([] { return 1; }); }).ignoreResult();
  });
  CHECK(steps >= 2);
}

TEST_CASE("cancelling chains with attachments, errors, joins and eager parts at every step leaves nothing (R5)") {
  const std::size_t steps = cancelSweep([](LoopTest&) -> Promise<void> {
    auto slow = [](int laps) {
      Promise<int> p = laps;
      for (int i = 0; i < laps; ++i)
        p = std::move(p).then([](int x) -> Promise<int> { return evalLater([x] { return x; }); }).attach(std::make_unique<int>(i));
      return p;
    };
    return slow(3)
        .exclusiveJoin(slow(5).attach(std::string(100, 'x')))
        .then([slow](int x) { return slow(x).eagerlyEvaluate(nullptr); })
        .then([](int) -> Promise<int> { throw std::runtime_error("x"); })
        .catch_([slow](Exception) { return slow(2); })
        .then([](int x) { return evalLast([x] { return std::make_unique<int>(x); }); })
        .attach(std::make_shared<int>(1))
        .ignoreResult();
  });
  CHECK(steps >= 10);
}

TEST_CASE("cancelling a producer and its consumer at every step leaves nothing (R5)") {
  const std::size_t steps = cancelSweep([](LoopTest&) -> Promise<void> {
    auto pair = newPromiseAndFulfiller<std::unique_ptr<int>>();
    Promise<void> producer = evalLater([f = std::move(pair.fulfiller)]() mutable {
      return evalLater([f = std::move(f)] { f->fulfill(std::make_unique<int>(1)); });
    });
    return std::move(pair.promise)
        .then([](std::unique_ptr<int> p) { return evalLater([p = std::move(p)] { return *p; }); })
        .ignoreResult()
        .attach(std::move(producer).eagerlyEvaluate(nullptr));
  });
  CHECK(steps >= 4);
}

static_assert(sizeof(Promise<void>) == 8);
static_assert(sizeof(Promise<std::string>) == 8);
static_assert(!std::is_copy_constructible_v<Promise<int>>);
static_assert(std::is_nothrow_move_constructible_v<Promise<int>>);
static_assert(std::is_nothrow_destructible_v<Promise<int>>);

TEST_CASE_FIXTURE(LoopTest, "a chain of four continuations costs the block of its source and no other") {
  auto pair = newPromiseAndFulfiller<int>();
  const auto blocks = detail::liveBlocks();
  Promise<int> promise = std::move(pair.promise).then(twice).then([](int x) { return x + 1; }).attach(1).then([](int x) { return x; });
  CHECK(detail::liveBlocks() == blocks);
  pair.fulfiller->fulfill(2);
  CHECK(std::move(promise).wait(scope) == 5);
}

TEST_CASE_FIXTURE(LoopTest, "a steady state of chains and pairs takes nothing from the heap") {
  const auto lap = [&] {
    auto pair = newPromiseAndFulfiller<int>();
    Promise<int> promise = std::move(pair.promise).then(twice).then([](int x) -> Promise<int> { return evalLater([x] { return x; }); });
    Promise<int> joined = std::move(promise).exclusiveJoin(NEVER_DONE).eagerlyEvaluate(nullptr);
    pair.fulfiller->fulfill(2);
    return std::move(joined).wait(scope);
  };
  for (int i = 0; i < 10; ++i) lap();
  const auto fromHeap = detail::poolState.fromHeap;
  const auto allocations = heapAllocations();
  int sum = 0;
  for (int i = 0; i < 1000; ++i) sum += lap();
  CHECK(heapAllocations() == allocations);
  CHECK(detail::poolState.fromHeap == fromHeap);
  CHECK(sum == 4000);
}

// ------------------------------------------------------------------------------------- odd types

TEST_CASE_FIXTURE(LoopTest, "a promise for a type that can be made from anything may be NEVER_DONE") {
  Promise<std::any> promise = NEVER_DONE;
  CHECK(!promise.poll(scope));
}

TEST_CASE_FIXTURE(LoopTest, "a value of nearly 64 KiB keeps its bytes through a chain") {
  struct Large {
    std::array<unsigned char, 65000> bytes;
  };
  auto large = std::make_unique<Large>();
  large->bytes.fill(0x5a);
  Promise<Large> promise(*large);
  const auto wrong = std::move(promise)
                         .then([](const Large& value) { return std::ranges::count_if(value.bytes, [](unsigned char b) { return b != 0x5a; }); })
                         .wait(scope);
  CHECK(wrong == 0);
}
