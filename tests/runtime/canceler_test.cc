// SPDX-License-Identifier: MIT
// Canceler: what it destroys and when, what the holders see, its end, misuse.
#include "helpers.h"

#include <troth/runtime/canceler.h>
#include <troth/runtime/pool_detail.h>

#include <stdexcept>
#include <vector>

using namespace troth;
using namespace troth::test;

namespace {

using Kind = Exception::Kind;

} // namespace

TEST_CASE_FIXTURE(LoopTest, "what is wrapped and left alone gives its value, failure or nothing") {
  Canceler canceler;
  CHECK(canceler.wrap(Promise<int>(3)).wait(scope) == 3);
  CHECK(*canceler.wrap(Promise<std::unique_ptr<int>>(std::make_unique<int>(4))).wait(scope) == 4);
  canceler.wrap(Promise<void>(READY_NOW)).wait(scope);
  CHECK_THROWS_AS(canceler.wrap(evalLater([] { throw std::out_of_range("x"); })).wait(scope), std::out_of_range);
  CHECK(canceler.isEmpty());
}

TEST_CASE_FIXTURE(LoopTest, "what is wrapped runs unasked") {
  Canceler canceler;
  bool ran = false;
  Promise<void> promise = canceler.wrap(evalLater([&] { ran = true; }));
  CHECK_FALSE(ran);
  scope.poll();
  CHECK(ran);
}

TEST_CASE_FIXTURE(LoopTest, "after cancel the work has been destroyed, and each holder sees the reason") {
  std::string log;
  Canceler canceler;
  Promise<int> a = canceler.wrap(Promise<int>(NEVER_DONE).attach(Noted(log, "a")));
  Promise<void> b = canceler.wrap(Promise<void>(NEVER_DONE).attach(Noted(log, "b")));
  CHECK_FALSE(canceler.isEmpty());
  SUBCASE("a text") {
    CHECK_FALSE(a.poll(scope));
    canceler.cancel("the house is closed");
    CHECK(log.size() == 4);
    CHECK(canceler.isEmpty());
    const Exception e = failureOf(std::move(a), scope);
    CHECK(e.description() == "the house is closed");
    CHECK(kindName(e) == "DISCONNECTED");
    CHECK(fileOf(e) == "canceler_test.cc");
    CHECK(failureOf(std::move(b), scope).description() == "the house is closed");
  }
  SUBCASE("an Exception") {
    canceler.cancel(Exception(Kind::OVERLOADED, "too much"));
    CHECK(log.size() == 4);
    const Exception e = failureOf(std::move(a), scope);
    CHECK(e.description() == "too much");
    CHECK(kindName(e) == "OVERLOADED");
    CHECK(kindName(failureOf(std::move(b), scope)) == "OVERLOADED");
  }
  SUBCASE("an Exception with an original") {
    canceler.cancel(Exception::from(std::make_exception_ptr(std::out_of_range("far"))));
    CHECK_THROWS_AS(std::move(a).wait(scope), std::out_of_range);
    CHECK_THROWS_AS(std::move(b).wait(scope), std::out_of_range);
  }
}

TEST_CASE_FIXTURE(LoopTest, "destroying a canceler cancels with DISCONNECTED") {
  std::string log;
  std::optional<Canceler> canceler(std::in_place);
  Promise<int> promise = canceler->wrap(Promise<int>(NEVER_DONE).attach(Noted(log, "work")));
  CHECK_FALSE(promise.poll(scope));
  canceler.reset();
  CHECK(log == "work ");
  REQUIRE(promise.poll(scope));
  const Exception e = failureOf(std::move(promise), scope);
  CHECK(kindName(e) == "DISCONNECTED");
  CHECK(e.description() == "operation canceled");
}

TEST_CASE_FIXTURE(LoopTest, "a canceler that is destroyed by an exception of the library passes it on") {
  std::optional<Promise<int>> promise;
  try {
    Canceler canceler;
    promise = canceler.wrap(Promise<int>(NEVER_DONE));
    Exception(Kind::OVERLOADED, "no more memory").rethrow();
  } catch (const Exception&) {
  }
  const Exception e = failureOf(std::move(*promise), scope);
  CHECK(kindName(e) == "OVERLOADED");
  CHECK(contains(e.description(), "no more memory"));
}

TEST_CASE_FIXTURE(LoopTest, "a canceler that is destroyed by another exception cancels with DISCONNECTED") {
  std::optional<Promise<int>> promise;
  try {
    Canceler canceler;
    promise = canceler.wrap(Promise<int>(NEVER_DONE));
    throw std::runtime_error("x");
  } catch (const std::runtime_error&) {
  }
  CHECK(kindName(failureOf(std::move(*promise), scope)) == "DISCONNECTED");
}

TEST_CASE_FIXTURE(LoopTest, "what has ended is not cancelled, even if nobody has taken its result") {
  Canceler canceler;
  std::string log;
  Promise<int> done = canceler.wrap(Promise<int>(5));
  Promise<int> failed = canceler.wrap(Promise<int>(Exception(Kind::FAILED, "own")));
  scope.poll();
  CHECK(canceler.isEmpty());
  canceler.cancel("late");
  CHECK(std::move(done).wait(scope) == 5);
  CHECK(failureOf(std::move(failed), scope).description() == "own");
}

TEST_CASE_FIXTURE(LoopTest, "what is ready but has not run is cancelled without running") {
  Canceler canceler;
  bool ran = false;
  auto pair = newPromiseAndFulfiller<void>();
  Promise<void> promise = canceler.wrap(std::move(pair.promise).then([&] { ran = true; }));
  scope.poll();
  pair.fulfiller->fulfill();
  canceler.cancel("stop");
  CHECK(failureOf(std::move(promise), scope).description() == "stop");
  CHECK_FALSE(ran);
}

TEST_CASE_FIXTURE(LoopTest, "what is dropped by its holder leaves the canceler, and is destroyed once") {
  Canceler canceler;
  std::string log;
  std::vector<std::optional<Promise<void>>> promises;
  for (const char* name : {"a", "b", "c"})
    promises.emplace_back(canceler.wrap(Promise<void>(NEVER_DONE).attach(Noted(log, name))));
  promises[1].reset();
  CHECK(log == "b ");
  CHECK_FALSE(canceler.isEmpty());
  promises[0].reset();
  promises[2].reset();
  CHECK(log == "b a c ");
  CHECK(canceler.isEmpty());
  canceler.cancel("nothing");
  CHECK(log == "b a c ");
}

TEST_CASE_FIXTURE(LoopTest, "release leaves the promises to their holders") {
  auto pair = newPromiseAndFulfiller<int>();
  std::optional<Canceler> canceler(std::in_place);
  Promise<int> promise = canceler->wrap(std::move(pair.promise));
  Promise<int> other = canceler->wrap(Promise<int>(NEVER_DONE));
  canceler->release();
  CHECK(canceler->isEmpty());
  canceler->cancel("nobody");
  canceler.reset();
  CHECK_FALSE(other.poll(scope));
  CHECK(takeAfter(promise, scope, [&] { pair.fulfiller->fulfill(8); }) == 8);
}

TEST_CASE_FIXTURE(LoopTest, "a canceler may be used again after cancel and release") {
  Canceler canceler;
  Promise<int> a = canceler.wrap(Promise<int>(NEVER_DONE));
  canceler.cancel("first");
  Promise<int> b = canceler.wrap(Promise<int>(NEVER_DONE));
  canceler.release();
  Promise<int> c = canceler.wrap(Promise<int>(NEVER_DONE));
  CHECK(failureOf(std::move(a), scope).description() == "first");
  canceler.cancel("second");
  CHECK_FALSE(b.poll(scope));
  CHECK(failureOf(std::move(c), scope).description() == "second");
}

TEST_CASE_FIXTURE(LoopTest, "a promise may be wrapped twice, by one canceler or two, and each can cancel it") {
  std::string log;
  Canceler outer;
  SUBCASE("by one") {
    Promise<int> promise = outer.wrap(outer.wrap(Promise<int>(NEVER_DONE).attach(Noted(log, "work"))));
    CHECK_FALSE(promise.poll(scope));
    outer.cancel("stop");
    CHECK(log == "work ");
    CHECK(failureOf(std::move(promise), scope).description() == "stop");
  }
  SUBCASE("by two, the inner cancels") {
    Canceler inner;
    Promise<int> promise = outer.wrap(inner.wrap(Promise<int>(NEVER_DONE).attach(Noted(log, "work"))));
    inner.cancel("inner");
    CHECK(log == "work ");
    CHECK(failureOf(std::move(promise), scope).description() == "inner");
  }
  SUBCASE("by two, the outer cancels") {
    Canceler inner;
    Promise<int> promise = outer.wrap(inner.wrap(Promise<int>(NEVER_DONE).attach(Noted(log, "work"))));
    outer.cancel("outer");
    CHECK(log == "work ");
    CHECK(inner.isEmpty());
    CHECK(failureOf(std::move(promise), scope).description() == "outer");
  }
}

TEST_CASE_FIXTURE(LoopTest, "work that settles while it is cancelled does not undo the cancellation") {
  auto pair = newPromiseAndFulfiller<int>();
  PromiseFulfiller<int>* fulfiller = pair.fulfiller.get();
  Canceler canceler;
  Promise<int> promise = canceler.wrap(std::move(pair.promise).attach(OnExit([fulfiller] { fulfiller->fulfill(1); })));
  Promise<int> settled = canceler.wrap(Promise<int>(NEVER_DONE).attach(OnExit([] {})));
  canceler.cancel("stop");
  CHECK(failureOf(std::move(promise), scope).description() == "stop");
  CHECK(failureOf(std::move(settled), scope).description() == "stop");
}

TEST_CASE_FIXTURE(LoopTest, "destructors of cancelled work may drop other wrapped promises") {
  Canceler canceler;
  std::optional<Promise<void>> a;
  std::optional<Promise<void>> b;
  std::optional<Promise<void>> c;
  std::string log;
  a = canceler.wrap(Promise<void>(NEVER_DONE).attach(Noted(log, "a")));
  b = canceler.wrap(Promise<void>(NEVER_DONE).attach(Noted(log, "b"), OnExit([&] {
    a.reset();
    c.reset();
  })));
  c = canceler.wrap(Promise<void>(NEVER_DONE).attach(Noted(log, "c")));
  SUBCASE("at the end of the list") {}
  SUBCASE("before it") { Promise<void> later = canceler.wrap(Promise<void>(NEVER_DONE)); }
  SUBCASE("beside one that stays") { a = canceler.wrap(Promise<void>(NEVER_DONE).attach(Noted(log, "A"))); }
  canceler.cancel("stop");
  CHECK(contains(log, "c "));
  CHECK(contains(log, "b "));
  CHECK(log.size() >= 6);
  CHECK(canceler.isEmpty());
  CHECK(failureOf(std::move(*b), scope).description() == "stop");
}

TEST_CASE_FIXTURE(LoopTest, "what destructors wrap during cancel is not cancelled by that") {
  Canceler canceler;
  std::optional<Promise<int>> late;
  auto pair = newPromiseAndFulfiller<int>();
  Promise<void> a = canceler.wrap(Promise<void>(NEVER_DONE).attach(OnExit([&] { late = canceler.wrap(std::move(pair.promise)); })));
  Promise<void> b = canceler.wrap(Promise<void>(NEVER_DONE));
  canceler.cancel("stop");
  CHECK(failureOf(std::move(a), scope).description() == "stop");
  CHECK(failureOf(std::move(b), scope).description() == "stop");
  CHECK_FALSE(canceler.isEmpty());
  REQUIRE(late);
  CHECK(takeAfter(*late, scope, [&] { pair.fulfiller->fulfill(1); }) == 1);
}

TEST_CASE_FIXTURE(LoopTest, "a destructor of cancelled work may cancel again, or destroy the canceler: all but that work is gone then") {
  std::optional<Canceler> canceler(std::in_place);
  std::string log;
  std::string gone; // when it has done so
  std::function<void()> also;
  std::string_view why;
  SUBCASE("cancel") {
    also = [&] {
      CHECK_FALSE(canceler->isEmpty());
      canceler->cancel("again");
      CHECK(canceler->isEmpty());
    };
    why = "again";
  }
  SUBCASE("wrap more, and cancel") {
    also = [&] {
      Promise<void> late = canceler->wrap(Promise<void>(NEVER_DONE).attach(Noted(log, "late")));
      canceler->cancel("again");
      CHECK(contains(log, "late"));
    };
    why = "again";
  }
  SUBCASE("destroy") {
    also = [&] { canceler.reset(); };
    why = "operation canceled";
  }
  SUBCASE("cancel, and in that destroy") {
    canceler->cancel("nothing yet");
    also = [&] {
      Promise<void> late =
          canceler->wrap(Promise<void>(NEVER_DONE).attach(OnExit([&] { canceler.reset(); })));
      canceler->cancel("again");
      CHECK_FALSE(canceler.has_value());
    };
    why = "operation canceled";
  }
  Promise<void> a = canceler->wrap(Promise<void>(NEVER_DONE).attach(Noted(log, "a")));
  Promise<void> b = canceler->wrap(Promise<void>(NEVER_DONE).attach(OnExit([&] {
    also();
    gone = log;
  })));
  Promise<void> c = canceler->wrap(Promise<void>(NEVER_DONE).attach(Noted(log, "c")));
  canceler->cancel("stop");
  CHECK(contains(gone, "a "));
  CHECK(contains(gone, "c "));
  CHECK(failureOf(std::move(a), scope).description() == why);
  CHECK(failureOf(std::move(b), scope).description() == "stop");
  CHECK(failureOf(std::move(c), scope).description() == "stop");
}

TEST_CASE_FIXTURE(LoopTest, "a destructor of cancelled work may release what is not cancelled yet") {
  Canceler canceler;
  std::string log;
  Promise<void> a = canceler.wrap(Promise<void>(NEVER_DONE).attach(Noted(log, "a")));
  Promise<void> b = canceler.wrap(Promise<void>(NEVER_DONE).attach(OnExit([&] { canceler.release(); })));
  Promise<void> c = canceler.wrap(Promise<void>(NEVER_DONE).attach(Noted(log, "c")));
  canceler.cancel("stop");
  CHECK(canceler.isEmpty());
  CHECK(log == "c ");
  CHECK_FALSE(a.poll(scope));
  CHECK(failureOf(std::move(c), scope).description() == "stop");
}

TEST_CASE("what destructors wrap while the canceler is destroyed does not refer to it any more") {
  const ChildEnd end = runInChild([] {
    EventLoop loop;
    WaitScope scope(loop);
    auto canceler = std::make_unique<Canceler>();
    std::optional<Promise<int>> late;
    Promise<void> a = canceler->wrap(Promise<void>(NEVER_DONE).attach(
        OnExit([&late, raw = canceler.get()] { late = raw->wrap(Promise<int>(NEVER_DONE)); })));
    canceler.reset();
    late.reset();
    { Promise<void> b = std::move(a); }
    std::fprintf(stderr, "end\n");
  });
  CHECK_MESSAGE(end.finished, end.errors.substr(0, 400));
}

TEST_CASE("a destructor of cancelled work that drops the wrapping promise itself is legal, or aborts and says so") {
  const ChildEnd end = runInChild([] {
    EventLoop loop;
    WaitScope scope(loop);
    Canceler canceler;
    std::optional<Promise<void>> holder;
    holder = canceler.wrap(Promise<void>(NEVER_DONE).attach(OnExit([&] { holder.reset(); })));
    canceler.cancel("stop");
    if (holder || !canceler.isEmpty()) throw std::logic_error("it is still there");
    scope.poll();
  });
  CHECK_MESSAGE((end.finished || contains(end.errors, "troth: fatal")), end.errors.substr(0, 400));
}

TEST_CASE_FIXTURE(LoopTest, "the reason may live in what is cancelled") {
  Canceler canceler;
  auto holder = std::make_unique<Exception>(Kind::OVERLOADED, "a reason that is longer than a small string would be");
  const Exception& reason = *holder;
  Promise<void> b = canceler.wrap(Promise<void>(NEVER_DONE));
  Promise<void> a = canceler.wrap(Promise<void>(NEVER_DONE).attach(std::move(holder)));
  canceler.cancel(reason);
  CHECK(contains(failureOf(std::move(a), scope).description(), "longer than"));
  CHECK(contains(failureOf(std::move(b), scope).description(), "longer than"));
}

TEST_CASE("work that cancels itself, or what it is part of, aborts and says so") {
  for (const bool inner : {false, true}) {
    CAPTURE(inner);
    const ChildEnd end = runInChild([inner] {
      EventLoop loop;
      WaitScope scope(loop);
      Canceler canceler;
      Promise<void> work = evalLater([&] { canceler.cancel("myself"); });
      if (inner) work = std::move(work).eagerlyEvaluate(nullptr);
      Promise<void> promise = canceler.wrap(std::move(work));
      scope.poll();
    });
    CHECK(end.aborted);
    CHECK_MESSAGE(contains(end.errors, "destroyed by the code that it is running"), end.errors.substr(0, 400));
  }
}

TEST_CASE_FIXTURE(LoopTest, "work may cancel other work") {
  Canceler canceler;
  Promise<void> other = canceler.wrap(Promise<void>(NEVER_DONE));
  Promise<void> work = evalLater([&] { canceler.cancel("by a peer"); });
  std::move(work).wait(scope);
  CHECK(failureOf(std::move(other), scope).description() == "by a peer");
}

TEST_CASE_FIXTURE(LoopTest, "a coroutine that awaits wrapped work sees the reason at its co_await") {
  Canceler canceler;
  std::string seen;
  auto body = [&]() -> Promise<void> {
    try {
      co_await canceler.wrap(Promise<void>(NEVER_DONE));
    } catch (const Exception& e) {
      seen = e.description();
    }
  };
  Promise<void> coroutine = body();
  scope.poll();
  canceler.cancel("stop");
  CHECK(seen.empty());
  std::move(coroutine).wait(scope);
  CHECK(seen == "stop");
}

TEST_CASE_FIXTURE(LoopTest, "wrapping a consumed promise throws and names the caller") {
  Canceler canceler;
  Promise<int> promise = 1;
  std::move(promise).wait(scope);
  const Exception e = thrownBy([&] { (void)canceler.wrap(std::move(promise)); });
  CHECK(contains(e.description(), "consumed"));
  CHECK(fileOf(e) == "canceler_test.cc");
  CHECK(canceler.isEmpty());
}

TEST_CASE("wrapping on a thread without a loop throws and names the caller") {
  NothingLeft nothingLeft;
  Canceler canceler;
  const Exception e = thrownBy([&] { (void)canceler.wrap(Promise<void>(READY_NOW)); });
  CHECK(contains(e.description(), "no event loop"));
  CHECK(fileOf(e) == "canceler_test.cc");
  CHECK(canceler.isEmpty());
}

TEST_CASE("cancelling what is wrapped at every step leaves nothing (R5)") {
  const std::size_t steps = cancelSweep([](LoopTest&) -> Promise<void> {
    Canceler canceler;
    auto local = std::make_unique<int>(1);
    CHECK(co_await canceler.wrap(evalLater([] { return 3; })) == 3);
    Promise<void> pending = canceler.wrap(Promise<void>(NEVER_DONE).attach(std::make_unique<int>(2)));
    Promise<void> nested = canceler.wrap(canceler.wrap([](Promise<void> p) -> Promise<void> { co_await std::move(p); }(NEVER_DONE)));
    co_await evalLater([] {});
    canceler.cancel("stop");
    for (Promise<void>* promise : {&pending, &nested}) {
      bool failed = false;
      try {
        co_await std::move(*promise);
      } catch (const Exception&) {
        failed = true;
      }
      CHECK(failed);
    }
  });
  CHECK(steps >= 4);
}

TEST_CASE("cancelling by a canceler at every step destroys the work at once and tells the holder (R5)") {
  for (std::size_t k = 0;; ++k) {
    CAPTURE(k);
    NothingLeft nothingLeft;
    EventLoop loop;
    WaitScope scope(loop);
    std::string log;
    Canceler canceler;
    Promise<int> promise = canceler.wrap([](std::string& noted) -> Promise<int> {
      Noted frame(noted, "frame");
      for (int i = 0; i < 5; ++i) co_await evalLater([] {}).attach(std::make_unique<int>(i));
      co_return 7;
    }(log));
    std::size_t ran = 0;
    while (ran < k && loop.run(1) == 1) ++ran;
    const bool ended = canceler.isEmpty();
    canceler.cancel("stop");
    CHECK(log == "frame ");
    if (ended) {
      CHECK(std::move(promise).wait(scope) == 7);
      CHECK(k >= 5);
      break;
    }
    CHECK(failureOf(std::move(promise), scope).description() == "stop");
  }
}

TEST_CASE("100 000 wrappings around each other, and beside each other, are cancelled on a stack of 256 KiB (R2)") {
  onStackOf(256 * 1024, [] {
    NothingLeft nothingLeft;
    EventLoop loop;
    WaitScope scope(loop);
    constexpr int COUNT = 100'000;
    Canceler outer;
    Canceler inner;
    Promise<int> nested = NEVER_DONE;
    for (int i = 0; i < COUNT; ++i) nested = inner.wrap(std::move(nested));
    nested = outer.wrap(std::move(nested));
    CHECK_FALSE(nested.poll(scope));
    outer.cancel("stop");
    CHECK(inner.isEmpty());
    CHECK(failureOf(std::move(nested), scope).description() == "stop");
    std::vector<Promise<void>> beside;
    for (int i = 0; i < COUNT; ++i) beside.push_back(outer.wrap(Promise<void>(NEVER_DONE)));
    outer.cancel("stop");
    CHECK(outer.isEmpty());
    for (Promise<void>& promise : beside) CHECK(promise.poll(scope));
  });
}

TEST_CASE_FIXTURE(LoopTest, "work that owns its canceler may be destroyed with it") {
  int destroyed = 0;
  struct Client {
    int& destroyed;
    Canceler canceler;
    explicit Client(int& d) : destroyed(d) {}
    ~Client() { ++destroyed; }
  };
  auto client = std::make_unique<Client>(destroyed);
  Client& raw = *client;
  {
    Promise<void> promise =
        raw.canceler.wrap(Promise<void>(NEVER_DONE).attach(std::move(client))).then([text = std::string(100, 'a')] { CHECK(text.empty()); });
    CHECK_FALSE(promise.poll(scope));
  }
  CHECK(destroyed == 1);
}
