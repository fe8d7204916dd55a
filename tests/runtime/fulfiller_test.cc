// SPDX-License-Identifier: MIT
// Fulfillers: of promises, dropped by exceptions, rejectIfThrows, the first settling, adapters of promises.
#include "helpers.h"

#include <troth/runtime/pool_detail.h>
#include <troth/runtime/require.h>

#include <unistd.h>

#include <array>
#include <future>
#include <stdexcept>
#include <thread>

using namespace troth;
using namespace troth::test;

namespace {

using Kind = Exception::Kind;

/// How a promise fails whose fulfiller is destroyed while `throwing` throws, and what `throwing` threw is caught.
template <typename Throwing>
Exception failureOfDropped(WaitScope& scope, Throwing&& throwing) {
  auto pair = newPromiseAndFulfiller<int>();
  try {
    auto fulfiller = std::move(pair.fulfiller);
    throwing();
  } catch (...) {
  }
  return failureOf(std::move(pair.promise), scope);
}

} // namespace

// ------------------------------------------------------------------------------------- of promises

TEST_CASE_FIXTURE(LoopTest, "a fulfiller that takes a promise gives what that comes to") {
  PromiseFulfillerPair<Promise<int>> outer = newPromiseAndFulfiller<Promise<int>>();
  static_assert(std::is_same_v<decltype(outer.promise), Promise<int>>);
  auto inner = newPromiseAndFulfiller<int>();
  CHECK_FALSE(outer.promise.poll(scope));
  outer.fulfiller->fulfill(std::move(inner.promise));
  CHECK(takeAfter(outer.promise, scope, [&] { inner.fulfiller->fulfill(4); }) == 4);
}

TEST_CASE_FIXTURE(LoopTest, "a fulfiller of promises takes constants, values, failures and pending work") {
  const auto give = [](Promise<int> promise) {
    auto pair = newPromiseAndFulfiller<Promise<int>>();
    pair.fulfiller->fulfill(std::move(promise));
    return std::move(pair.promise);
  };
  CHECK(give(3).wait(scope) == 3);
  CHECK(give(evalLater([] { return 5; })).wait(scope) == 5);
  CHECK(failureOf(give(Exception(Kind::OVERLOADED, "x")), scope).description() == "x");
  CHECK_FALSE(give(NEVER_DONE).poll(scope));
  auto pair = newPromiseAndFulfiller<Promise<void>>();
  pair.fulfiller->fulfill(READY_NOW);
  CHECK(pair.promise.poll(scope));
  auto late = newPromiseAndFulfiller<Promise<void>>();
  late.fulfiller->fulfill(Promise<void>(READY_NOW).then([]() -> Promise<void> { return evalLater([] {}); }));
  CHECK(late.promise.poll(scope));
}

TEST_CASE_FIXTURE(LoopTest, "a fulfiller of promises may be rejected, or dropped") {
  auto rejected = newPromiseAndFulfiller<Promise<int>>();
  rejected.fulfiller->reject(Exception(Kind::DISCONNECTED, "gone"));
  CHECK(kindName(failureOf(std::move(rejected.promise), scope)) == "DISCONNECTED");
  auto dropped = newPromiseAndFulfiller<Promise<int>>();
  dropped.fulfiller.reset();
  CHECK(contains(failureOf(std::move(dropped.promise), scope).description(), "destroyed without fulfilling"));
}

TEST_CASE_FIXTURE(LoopTest, "a fulfiller that was given a consumed promise fails its own instead of hanging") {
  Promise<int> consumed = 1;
  std::move(consumed).wait(scope);
  auto pair = newPromiseAndFulfiller<Promise<int>>();
  pair.fulfiller->fulfill(std::move(consumed));
  CHECK(contains(failureOf(std::move(pair.promise), scope).description(), "consumed"));
}

TEST_CASE_FIXTURE(LoopTest, "of two promises that a fulfiller is given the second is cancelled at once") {
  std::string log;
  auto pair = newPromiseAndFulfiller<Promise<void>>();
  pair.fulfiller->fulfill(Promise<void>(NEVER_DONE).attach(Noted(log, "first")));
  CHECK_FALSE(pair.fulfiller->isWaiting());
  pair.fulfiller->fulfill(Promise<void>(NEVER_DONE).attach(Noted(log, "second")));
  CHECK(log == "second ");
  { Promise<void> dropped = std::move(pair.promise); }
  CHECK(log == "second first ");
}

TEST_CASE_FIXTURE(LoopTest, "what a fulfiller was given is cancelled with the promise, before and after the loop has seen it") {
  for (const bool seen : {false, true}) {
    CAPTURE(seen);
    std::string log;
    auto pair = newPromiseAndFulfiller<Promise<void>>();
    pair.fulfiller->fulfill(Promise<void>(NEVER_DONE).attach(Noted(log, "work")));
    if (seen) scope.poll();
    { Promise<void> dropped = std::move(pair.promise); }
    CHECK(log == "work ");
    pair.fulfiller->fulfill(READY_NOW); // nobody hears
    CHECK_FALSE(pair.fulfiller->isWaiting());
  }
}

TEST_CASE_FIXTURE(LoopTest, "a promise that is given to a fulfiller whose own promise is gone is cancelled at once") {
  std::string log;
  auto pair = newPromiseAndFulfiller<Promise<void>>();
  { Promise<void> dropped = std::move(pair.promise); }
  pair.fulfiller->fulfill(Promise<void>(NEVER_DONE).attach(Noted(log, "work")));
  CHECK(log == "work ");
}

TEST_CASE_FIXTURE(LoopTest, "an adapter may fulfil with a promise") {
  struct Adapter {
    PromiseFulfiller<Promise<int>>& fulfiller;
    Adapter(PromiseFulfiller<Promise<int>>& f, Promise<int> inner) : fulfiller(f) { fulfiller.fulfill(std::move(inner)); }
  };
  Promise<int> promise = newAdaptedPromise<Promise<int>, Adapter>(evalLater([] { return 8; }));
  CHECK(std::move(promise).wait(scope) == 8);
  CHECK_FALSE(newAdaptedPromise<Promise<int>, Adapter>(NEVER_DONE).poll(scope));
}

TEST_CASE("a fulfiller of promises without a loop throws and leaves nothing") {
  NothingLeft nothingLeft;
  const Exception e = thrownBy([] { (void)newPromiseAndFulfiller<Promise<int>>(); });
  CHECK(contains(e.description(), "no event loop"));
  CHECK(fileOf(e) == "fulfiller_test.cc");
}

TEST_CASE_FIXTURE(LoopTest, "giving a fulfiller a promise on another thread throws, and leaves it waiting") {
  auto pair = newPromiseAndFulfiller<Promise<void>>();
  std::string seen;
  std::thread([&] {
    EventLoop other;
    WaitScope otherScope(other);
    seen = thrownBy([&] { pair.fulfiller->fulfill(READY_NOW); }).description();
  }).join();
  CHECK(contains(seen, "another thread"));
  CHECK(pair.fulfiller->isWaiting());
  pair.fulfiller->fulfill(READY_NOW);
  CHECK(pair.promise.poll(scope));
}

// --------------------------------------------------------------------------- the first settling counts

TEST_CASE_FIXTURE(LoopTest, "of any two settlings the first counts, also after the promise was heard of and with values that cannot be copied") {
  for (int first = 0; first < 2; ++first)
    for (int second = 0; second < 3; ++second) {
      CAPTURE(first);
      CAPTURE(second);
      auto pair = newPromiseAndFulfiller<std::unique_ptr<int>>();
      Promise<std::unique_ptr<int>> heard = std::move(pair.promise).eagerlyEvaluate(nullptr);
      if (first == 0)
        pair.fulfiller->fulfill(std::make_unique<int>(1));
      else
        pair.fulfiller->reject(Exception(Kind::OVERLOADED, "first"));
      CHECK_FALSE(pair.fulfiller->isWaiting());
      if (second == 2) scope.poll();
      if (second == 0)
        pair.fulfiller->reject(Exception(Kind::FAILED, "second"));
      else
        pair.fulfiller->fulfill(std::make_unique<int>(2));
      if (first == 0)
        CHECK(*std::move(heard).wait(scope) == 1);
      else
        CHECK(failureOf(std::move(heard), scope).description() == "first");
    }
}

TEST_CASE_FIXTURE(LoopTest, "a fulfiller may be destroyed, or used again, by who hears of it") {
  auto pair = newPromiseAndFulfiller<int>();
  Promise<int> promise = std::move(pair.promise)
                             .then([&](int x) {
                               pair.fulfiller->fulfill(x + 1);
                               pair.fulfiller.reset();
                               return x;
                             })
                             .eagerlyEvaluate(nullptr);
  pair.fulfiller->fulfill(1);
  CHECK(std::move(promise).wait(scope) == 1);
  CHECK(pair.fulfiller == nullptr);
}

// -------------------------------------------------------------------------------------------- dropped

TEST_CASE_FIXTURE(LoopTest, "a fulfiller that an exception of the library destroys passes it on, with its kind") {
  const Exception e = failureOfDropped(scope, [] { Exception(Kind::OVERLOADED, "no more memory").rethrow(); });
  CHECK(contains(e.description(), "no more memory"));
  CHECK(contains(e.description(), "destroyed by an exception"));
  CHECK(kindName(e) == "OVERLOADED");
}

TEST_CASE_FIXTURE(LoopTest, "a fulfiller that a wait() destroys by its failure passes that on") {
  const Exception e = failureOfDropped(scope, [&] { Promise<int>(Exception(Kind::DISCONNECTED, "gone")).wait(scope); });
  CHECK(contains(e.description(), "gone"));
  CHECK(kindName(e) == "DISCONNECTED");
}

TEST_CASE_FIXTURE(LoopTest, "a fulfiller that a coroutine's failed co_await destroys passes that on") {
  auto pair = newPromiseAndFulfiller<int>();
  auto body = [](std::unique_ptr<PromiseFulfiller<int>> fulfiller) -> Promise<void> {
    auto local = std::move(fulfiller);
    co_await Promise<void>(Exception(Kind::DISCONNECTED, "the peer has gone"));
    local->fulfill(1);
  };
  Promise<void> coroutine = body(std::move(pair.fulfiller));
  CHECK(failureOf(std::move(coroutine), scope).description() == "the peer has gone");
  const Exception e = failureOf(std::move(pair.promise), scope);
  CHECK(contains(e.description(), "the peer has gone"));
  CHECK(kindName(e) == "DISCONNECTED");
}

TEST_CASE_FIXTURE(LoopTest, "a fulfiller that misuse of the library destroys passes that on") {
  Promise<int> consumed = 1;
  std::move(consumed).wait(scope);
  const Exception e = failureOfDropped(scope, [&] { std::move(consumed).wait(scope); });
  CHECK(contains(e.description(), "consumed"));
}

TEST_CASE_FIXTURE(LoopTest, "a fulfiller that a failed assertion, requirement or system call destroys passes that on") {
  const int zero = 0;
  CHECK(contains(failureOfDropped(scope, [&] { TROTH_REQUIRE(zero == 1); }).description(), "zero == 1"));
  CHECK(contains(failureOfDropped(scope, [&] { TROTH_ASSERT(zero == 1); }).description(), "zero == 1"));
  CHECK(contains(failureOfDropped(scope, [&] { TROTH_FAIL("hopeless"); }).description(), "hopeless"));
  const Exception e = failureOfDropped(scope, [&] { TROTH_SYSCALL(close(-1)); });
  CHECK(contains(e.description(), "close(-1)"));
  CHECK(e.code() == std::errc::bad_file_descriptor);
}

TEST_CASE_FIXTURE(LoopTest, "a fulfiller that any other exception destroys says that there was one") {
  const Exception e = failureOfDropped(scope, [] { throw std::runtime_error("x"); });
  CHECK(contains(e.description(), "destroyed by an exception"));
  CHECK(kindName(e) == "FAILED");
}

TEST_CASE_FIXTURE(LoopTest, "a fulfiller that is dropped while an earlier exception is handled does not blame that") {
  SUBCASE("no exception is in flight") {
    auto pair = newPromiseAndFulfiller<int>();
    try {
      Exception(Kind::OVERLOADED, "earlier").rethrow();
    } catch (const Exception&) {
      pair.fulfiller.reset();
    }
    const Exception e = failureOf(std::move(pair.promise), scope);
    CHECK_FALSE(contains(e.description(), "earlier"));
    CHECK(contains(e.description(), "without fulfilling it"));
  }
  SUBCASE("another exception is in flight") {
    std::optional<Exception> e;
    try {
      Exception(Kind::OVERLOADED, "earlier").rethrow();
    } catch (const Exception&) {
      e = failureOfDropped(scope, [] { throw std::runtime_error("later"); });
    }
    CHECK_FALSE(contains(e->description(), "earlier"));
    CHECK(kindName(*e) == "FAILED");
  }
  SUBCASE("another exception of the library is in flight") {
    std::optional<Exception> e;
    try {
      Exception(Kind::OVERLOADED, "earlier").rethrow();
    } catch (const Exception&) {
      e = failureOfDropped(scope, [] { Exception(Kind::DISCONNECTED, "later").rethrow(); });
    }
    CHECK_FALSE(contains(e->description(), "earlier"));
    CHECK(contains(e->description(), "later"));
  }
}

TEST_CASE_FIXTURE(LoopTest, "a fulfiller that a destructor drops during unwinding blames the exception; one in a try inside it does not blame the outer") {
  struct Inner {
    WaitScope& scope;
    std::string& seen;
    ~Inner() {
      try {
        auto pair = newPromiseAndFulfiller<int>();
        std::unique_ptr<PromiseFulfiller<int>> fulfiller = std::move(pair.fulfiller);
        fulfiller.reset();
        seen = failureOf(std::move(pair.promise), scope).description();
        auto inner = newPromiseAndFulfiller<int>();
        try {
          auto local = std::move(inner.fulfiller);
          throw std::runtime_error("inner");
        } catch (const std::runtime_error&) {
        }
        seen += "|" + std::string(failureOf(std::move(inner.promise), scope).description());
      } catch (...) {
        seen = "threw";
      }
    }
  };
  std::string seen;
  try {
    Inner local{scope, seen};
    Exception(Kind::OVERLOADED, "outer").rethrow();
  } catch (const Exception&) {
  }
  CHECK(contains(seen.substr(0, seen.find('|')), "outer"));
  CHECK_FALSE(contains(seen.substr(seen.find('|')), "outer"));
}

TEST_CASE_FIXTURE(LoopTest, "a failure that wait() throws twice on the way up is passed on by each fulfiller it destroys") {
  auto a = newPromiseAndFulfiller<int>();
  auto b = newPromiseAndFulfiller<int>();
  try {
    auto outer = std::move(a.fulfiller);
    try {
      auto inner = std::move(b.fulfiller);
      Exception(Kind::OVERLOADED, "first").rethrow();
    } catch (const Exception& e) {
      e.withContext("second").rethrow();
    }
  } catch (const Exception&) {
  }
  CHECK(contains(failureOf(std::move(a.promise), scope).description(), "second: first"));
  const Exception inner = failureOf(std::move(b.promise), scope);
  CHECK(contains(inner.description(), "first"));
  CHECK_FALSE(contains(inner.description(), "second"));
}

// ------------------------------------------------------------------------------------- rejectIfThrows

TEST_CASE_FIXTURE(LoopTest, "rejectIfThrows passes on the exception with its type and kind, and says whether it did not") {
  auto pair = newPromiseAndFulfiller<int>();
  CHECK(pair.fulfiller->rejectIfThrows([] {}));
  CHECK(pair.fulfiller->isWaiting());
  CHECK_FALSE(pair.fulfiller->rejectIfThrows([] { throw std::out_of_range("far"); }));
  CHECK_FALSE(pair.fulfiller->isWaiting());
  CHECK_THROWS_AS(std::move(pair.promise).wait(scope), std::out_of_range);
  auto nothing = newPromiseAndFulfiller<void>();
  CHECK_FALSE(nothing.fulfiller->rejectIfThrows([] { throw Exception(Kind::OVERLOADED, "full"); }));
  CHECK(kindName(failureOf(std::move(nothing.promise), scope)) == "OVERLOADED");
  auto promises = newPromiseAndFulfiller<Promise<int>>();
  CHECK_FALSE(promises.fulfiller->rejectIfThrows([] { throw 1; }));
  CHECK_THROWS_AS(std::move(promises.promise).wait(scope), int);
}

TEST_CASE_FIXTURE(LoopTest, "rejectIfThrows after a settling, or of a promise that is gone, swallows the exception") {
  auto pair = newPromiseAndFulfiller<int>();
  pair.fulfiller->fulfill(1);
  CHECK_FALSE(pair.fulfiller->rejectIfThrows([] { throw 1; }));
  CHECK(std::move(pair.promise).wait(scope) == 1);
  CHECK_FALSE(pair.fulfiller->rejectIfThrows([] { throw 1; }));
}

TEST_CASE_FIXTURE(LoopTest, "rejectIfThrows of a function that fulfils and then throws keeps the value") {
  auto pair = newPromiseAndFulfiller<int>();
  CHECK_FALSE(pair.fulfiller->rejectIfThrows([&] {
    pair.fulfiller->fulfill(3);
    throw 1;
  }));
  CHECK(std::move(pair.promise).wait(scope) == 3);
}

// -------------------------------------------------------------------------------------- cancellation

TEST_CASE("cancelling who waits for promises that fulfillers were given at every step leaves nothing (R5)") {
  const std::size_t steps = cancelSweep([](LoopTest&) -> Promise<void> {
    auto outer = newPromiseAndFulfiller<Promise<std::unique_ptr<int>>>();
    auto inner = newPromiseAndFulfiller<std::unique_ptr<int>>();
    Promise<void> giver = [](std::unique_ptr<PromiseFulfiller<Promise<std::unique_ptr<int>>>> f,
                             Promise<std::unique_ptr<int>> p) -> Promise<void> {
      co_await evalLater([] {});
      f->fulfill(std::move(p));
      co_await evalLater([] {});
    }(std::move(outer.fulfiller), std::move(inner.promise));
    Promise<void> filler = [](std::unique_ptr<PromiseFulfiller<std::unique_ptr<int>>> f) -> Promise<void> {
      for (int i = 0; i < 4; ++i) co_await evalLater([] {});
      f->fulfill(std::make_unique<int>(6));
    }(std::move(inner.fulfiller));
    CHECK(*co_await std::move(outer.promise) == 6);
    co_await std::move(giver);
    co_await std::move(filler);
  });
  CHECK(steps >= 6);
}

TEST_CASE("100 000 fulfillers that are given each other's promises are completed and cancelled on a stack of 256 KiB (R1, R2)") {
  const ChildEnd end = runInChild([] {
    onStackOf(256 * 1024, [] {
      EventLoop loop;
      WaitScope scope(loop);
      constexpr int DEPTH = 100'000;
      const auto tower = [](Promise<int> promise) {
        for (int i = 0; i < DEPTH; ++i) {
          auto pair = newPromiseAndFulfiller<Promise<int>>();
          pair.fulfiller->fulfill(std::move(promise));
          promise = std::move(pair.promise);
        }
        return promise;
      };
      if (tower(7).wait(scope) != 7) throw std::logic_error("the value is wrong");
      if (tower(NEVER_DONE).poll(scope)) throw std::logic_error("ready");
      { Promise<int> dropped = tower(NEVER_DONE); }
      {
        Promise<int> half = tower(7);
        loop.run(DEPTH / 2);
      }
    });
  });
  CHECK_MESSAGE(end.finished, end.errors.substr(0, 300));
}
