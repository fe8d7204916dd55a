// SPDX-License-Identifier: MIT
// How long things live: what a promise holds, in which order it goes, and what may be destroyed from where.
#include "helpers.h"

#include <troth/runtime/canceler.h>
#include <troth/runtime/defer.h>
#include <troth/runtime/join.h>
#include <troth/runtime/pool_detail.h>
#include <troth/runtime/task_set.h>

#include <cstdint>
#include <cstdio>
#include <stdexcept>
#include <tuple>
#include <vector>

using namespace troth;
using namespace troth::test;

namespace {

using Kind = Exception::Kind;

struct Throws {
  ~Throws() noexcept(false) { throw std::runtime_error("from a destructor"); }
};

struct Errors final : TaskSet::ErrorHandler {
  std::vector<std::string> seen;
  void taskFailed(Exception exception) override { seen.emplace_back(exception.description()); }
};

std::size_t linesOf(std::string_view text) {
  std::size_t count = 0;
  for (const char c : text) count += c == '\n' ? 1 : 0;
  return count;
}

/// An operation that calls `onExit` with its fulfiller when it goes.
class Operation {
public:
  using OnGoing = std::function<void(PromiseFulfiller<int>&)>;
  Operation(PromiseFulfiller<int>& fulfiller, OnGoing onGoing) : fulfiller_(fulfiller), onGoing_(std::move(onGoing)) {}
  Operation(const Operation&) = delete;
  Operation& operator=(const Operation&) = delete;
  ~Operation() { onGoing_(fulfiller_); }

private:
  PromiseFulfiller<int>& fulfiller_;
  OnGoing onGoing_;
};

} // namespace

// ------------------------------------------------------------------------------- what a promise holds, and how long

TEST_CASE_FIXTURE(LoopTest, "what a completed chain holds goes step by step, each before the next continuation runs") {
  std::string log;
  Promise<void> promise = Promise<int>(1)
                              .attach(Noted(log, "value"))
                              .then([&log, own = Noted(log, "first")](int) { log += "1 "; })
                              .attach(Noted(log, "between"))
                              .then([&log, own = Noted(log, "second")] { log += "2 "; })
                              .attach(Noted(log, "outer"));
  std::move(promise).then([&log] { log += "3 "; }).wait(scope);
  CHECK(log == "value 1 first between 2 second outer 3 ");
}

TEST_CASE_FIXTURE(LoopTest, "a failed chain lets go of what it skips in the same order") {
  std::string log;
  Promise<void> promise = evalLater([&]() -> int { throw 1; })
                              .attach(Noted(log, "work"))
                              .then([own = Noted(log, "skipped")](int) {})
                              .attach(Noted(log, "outer"));
  std::move(promise).catch_([&log](Exception) { log += "handled "; }).wait(scope);
  CHECK(log == "work skipped outer handled ");
}

TEST_CASE_FIXTURE(LoopTest, "attachments of one call go as a tuple does, those of later calls after them, on completion and on cancellation") {
  std::string log;
  const auto make = [&](Promise<void> promise) {
    return std::move(promise).attach(Noted(log, "a"), Noted(log, "b")).attach(Noted(log, "c"));
  };
  { std::tuple<Noted, Noted> tuple(Noted(log, "a"), Noted(log, "b")); }
  const std::string expected = std::exchange(log, {}) + "c ";
  { Promise<void> cancelled = make(NEVER_DONE); }
  CHECK(log == expected);
  log.clear();
  make(READY_NOW).wait(scope);
  CHECK(log == expected);
}

TEST_CASE_FIXTURE(LoopTest, "the promise that a continuation returned goes before the continuation, on completion and on cancellation") {
  std::string log;
  const auto make = [&](Promise<void> inner) {
    return evalLater([&log, inner = std::move(inner), own = Noted(log, "functor")]() mutable {
             return std::move(inner).attach(Noted(log, "inner"));
           })
        .attach(Noted(log, "outer"));
  };
  SUBCASE("cancelled") {
    Promise<void> promise = make(NEVER_DONE);
    CHECK_FALSE(promise.poll(scope));
  }
  SUBCASE("completed") { make(READY_NOW).wait(scope); }
  CHECK(contains(log, "inner outer "));
  CHECK(contains(log, "functor "));
}

TEST_CASE_FIXTURE(LoopTest, "an error handler's captures go with its step, whether it was called or not") {
  std::string log;
  Promise<int>(1).then([](int) {}, [own = Noted(log, "handler")](Exception) {}).wait(scope);
  CHECK(log == "handler ");
  log.clear();
  Promise<int>(Exception(Kind::FAILED, "x"))
      .then([own = Noted(log, "continuation")](int) {}, [&log](Exception) { log += "handled "; })
      .wait(scope);
  CHECK(log == "handled continuation ");
}

TEST_CASE_FIXTURE(LoopTest, "the result of an eager promise is kept until it is taken or dropped, its work is not") {
  std::string log;
  {
    Promise<Noted> promise =
        evalLater([&] { return Noted(log, "result"); }).attach(Noted(log, "work")).eagerlyEvaluate(nullptr);
    scope.poll();
    CHECK(log == "work ");
  }
  CHECK(log == "work result ");
}

TEST_CASE_FIXTURE(LoopTest, "a value that nobody takes is destroyed with its promise, pending, polled or consumed by a step") {
  std::string log;
  auto pair = newPromiseAndFulfiller<std::unique_ptr<Noted>>();
  SUBCASE("never looked at") {
    pair.fulfiller->fulfill(std::make_unique<Noted>(log, "value"));
    Promise<std::unique_ptr<Noted>> dropped = std::move(pair.promise);
  }
  SUBCASE("polled") {
    pair.fulfiller->fulfill(std::make_unique<Noted>(log, "value"));
    Promise<std::unique_ptr<Noted>> dropped = std::move(pair.promise);
    CHECK(dropped.poll(scope));
    CHECK(log.empty());
  }
  SUBCASE("ignored") {
    pair.fulfiller->fulfill(std::make_unique<Noted>(log, "value"));
    std::move(pair.promise).ignoreResult().wait(scope);
  }
  SUBCASE("after the promise is gone") {
    { Promise<std::unique_ptr<Noted>> dropped = std::move(pair.promise); }
    pair.fulfiller->fulfill(std::make_unique<Noted>(log, "value"));
  }
  SUBCASE("as the second value of a fulfiller") {
    pair.fulfiller->fulfill(nullptr);
    pair.fulfiller->fulfill(std::make_unique<Noted>(log, "value"));
    CHECK(std::move(pair.promise).wait(scope) == nullptr);
  }
  CHECK(log == "value ");
}

TEST_CASE_FIXTURE(LoopTest, "captures and values keep the alignment of max_align_t") {
  struct alignas(std::max_align_t) Aligned {
    int i;
    explicit Aligned(int x) : i(x) { check(); }
    Aligned(const Aligned& other) : i(other.i) { check(); }
    Aligned& operator=(const Aligned&) = default;
    ~Aligned() { check(); }
    void check() const { CHECK(reinterpret_cast<std::uintptr_t>(this) % alignof(std::max_align_t) == 0); }
  };
  const Aligned a(123);
  const Aligned b(456);
  for (int shift = 0; shift < 4; ++shift) {
    CAPTURE(shift);
    Promise<Aligned> promise = Promise<void>(READY_NOW).then([a, b] { return Aligned(a.i + b.i); });
    for (int i = 0; i < shift; ++i)
      promise = std::move(promise).then([c = 'x', a](Aligned x) { return Aligned(x.i + (c - 'x') * a.i); }).attach('y', b);
    CHECK(std::move(promise).wait(scope).i == 579);
  }
}

TEST_CASE("a fulfiller and its promise need no loop until somebody waits") {
  NothingLeft nothingLeft;
  {
    auto pair = newPromiseAndFulfiller<void>();
    CHECK(pair.fulfiller->isWaiting());
    { Promise<void> dropped = std::move(pair.promise); }
    CHECK_FALSE(pair.fulfiller->isWaiting());
    pair.fulfiller->fulfill();
  }
  {
    auto pair = newPromiseAndFulfiller<int>();
    pair.fulfiller->fulfill(1);
  }
  {
    auto pair = newPromiseAndFulfiller<int>();
    pair.fulfiller.reset();
  }
  auto pair = newPromiseAndFulfiller<int>();
  pair.fulfiller->fulfill(7);
  EventLoop loop;
  WaitScope scope(loop);
  CHECK(std::move(pair.promise).wait(scope) == 7);
}

TEST_CASE("promises that were made before the loop, or under an earlier one, may be awaited on it") {
  NothingLeft nothingLeft;
  Promise<int> made = Promise<int>(1).then([](int x) { return x + 1; });
  {
    EventLoop first;
    WaitScope scope(first);
    made = std::move(made).then([](int x) { return x + 1; });
  }
  EventLoop second;
  WaitScope scope(second);
  CHECK(std::move(made).wait(scope) == 3);
}

// ---------------------------------------------------------------------------------------- chains stay short

TEST_CASE_FIXTURE(LoopTest, "a chain of promises that return promises is as short as its last, however it was made") {
  constexpr int DEPTH = 1000;
  constexpr std::size_t FEW = 5;
  struct Chain {
    static Promise<void> down(int depth, Promise<void> end) {
      if (depth == 0) return end;
      return evalLater([depth, end = std::move(end)]() mutable { return down(depth - 1, std::move(end)); });
    }
    static Promise<void> up(int depth, Promise<void> end) {
      for (int i = 0; i < depth; ++i) end = evalLater([end = std::move(end)]() mutable { return std::move(end); });
      return end;
    }
  };
  for (const auto make : {&Chain::down, &Chain::up}) {
    {
      Promise<void> pending = make(DEPTH, NEVER_DONE);
      CHECK_FALSE(pending.poll(scope));
      CHECK(linesOf(pending.trace()) < FEW);
    }
    // Seen from inside of its last step, too.
    std::optional<Promise<void>> running;
    std::size_t lines = 0;
    running = make(DEPTH, evalLater([&] { lines = linesOf(running->trace()); }));
    CHECK(running->poll(scope));
    running = std::move(*running).eagerlyEvaluate(nullptr);
    scope.poll();
    CHECK(lines > 0);
    CHECK(lines < FEW);
  }
}

TEST_CASE_FIXTURE(LoopTest, "the trace of a set of branches of which one has failed is short, and has the others") {
  Errors errors;
  TaskSet tasks(errors);
  ForkedPromise<void> fork = evalLater([] {}).fork();
  tasks.add(fork.addBranch().then([] { throw std::runtime_error("one branch"); }));
  tasks.add(fork.addBranch().then([]() -> Promise<void> { return NEVER_DONE; }));
  for (int turn = 0; errors.seen.empty(); ++turn) {
    REQUIRE(turn < 10);
    REQUIRE(loop.run(1) == 1);
    const std::string trace = tasks.trace();
    CHECK_FALSE(trace.empty());
    CHECK(linesOf(trace) < 10);
  }
  scope.poll();
  CHECK(tasks.size() == 1);
  CHECK(contains(tasks.trace(), "lifetime_test.cc"));
}

// ------------------------------------------------------------------------------------ destroying from callbacks

TEST_CASE_FIXTURE(LoopTest, "an error handler may destroy other promises, queued or waiting") {
  std::string log;
  std::vector<Promise<void>> others;
  Promise<void> failing = evalLater([] { throw 1; }).eagerlyEvaluate([&](Exception) {
    others.clear();
    log += "cleared ";
  });
  others.push_back(evalLater([&] { log += "never "; }).attach(Noted(log, "queued")).eagerlyEvaluate(nullptr));
  others.push_back(Promise<void>(NEVER_DONE).attach(Noted(log, "waiting")).eagerlyEvaluate(nullptr));
  scope.poll();
  CHECK(contains(log, "queued "));
  CHECK(contains(log, "waiting "));
  CHECK_FALSE(contains(log, "never "));
  CHECK(contains(log, "cleared "));
  std::move(failing).wait(scope);
}

TEST_CASE_FIXTURE(LoopTest, "whoever hears of a fulfiller first may destroy the others who were resolved with it") {
  std::string log;
  std::vector<PromiseFulfillerPair<void>> pairs;
  std::vector<Promise<void>> waiting;
  for (int i = 0; i < 3; ++i) {
    pairs.push_back(newPromiseAndFulfiller<void>());
    waiting.push_back(std::move(pairs.back().promise)
                          .then([&, i] {
                            log += std::to_string(i);
                            if (i == 0) {
                              waiting.pop_back();
                              waiting.pop_back();
                            }
                          })
                          .eagerlyEvaluate(nullptr));
  }
  for (auto& pair : pairs) pair.fulfiller->fulfill();
  scope.poll();
  CHECK(log == "0");
}

TEST_CASE_FIXTURE(LoopTest, "a coroutine may destroy another one that was resumed in the same turn") {
  std::string log;
  auto pair = newPromiseAndFulfiller<void>();
  ForkedPromise<void> fork = std::move(pair.promise).fork();
  std::optional<Promise<void>> victim;
  const auto body = [&](std::string name) -> Promise<void> {
    Noted local(log, name + "'s local");
    co_await fork;
    log += name + " ";
    victim.reset();
  };
  Promise<void> killer = body("killer");
  victim = body("victim");
  CHECK_FALSE(killer.poll(scope));
  pair.fulfiller->fulfill();
  scope.poll();
  CHECK(log == "killer victim's local killer's local ");
}

TEST_CASE_FIXTURE(LoopTest, "an attachment's destructor may destroy, make and await other promises") {
  std::string log;
  std::optional<Promise<void>> other = Promise<void>(NEVER_DONE).attach(Noted(log, "other")).eagerlyEvaluate(nullptr);
  std::optional<Promise<void>> made;
  {
    Promise<void> promise = Promise<void>(NEVER_DONE)
                                .attach(OnExit([&] {
                                  other.reset();
                                  made = evalLater([&] { log += "made "; }).eagerlyEvaluate(nullptr);
                                }))
                                .attach(Noted(log, "outer"));
  }
  CHECK(log == "other outer ");
  scope.poll();
  CHECK(log == "other outer made ");
}

TEST_CASE_FIXTURE(LoopTest, "a chain of promises that destroy each other by their attachments ends") {
  constexpr int COUNT = 1000;
  std::vector<std::optional<Promise<void>>> promises(COUNT);
  int gone = 0;
  for (std::size_t i = 0; i < COUNT; ++i) {
    promises[i] = Promise<void>(NEVER_DONE).attach(OnExit([&, i] {
      ++gone;
      if (i + 1 < COUNT) promises[i + 1].reset();
    }));
  }
  promises[0].reset();
  CHECK(gone == COUNT);
}

TEST_CASE_FIXTURE(LoopTest, "an operation that settles while it is cancelled is not heard, whatever waited for it") {
  int heard = 0;
  const auto make = [&](bool fulfil) {
    return newAdaptedPromise<int, Operation>([fulfil](PromiseFulfiller<int>& fulfiller) {
      if (fulfil)
        fulfiller.fulfill(1);
      else
        fulfiller.reject(Exception(Kind::FAILED, "late"));
    });
  };
  const auto hear = [&](int x) { return ++heard, x; };
  const auto hearFailure = [&](Exception) { return ++heard; };
  for (const bool fulfil : {true, false}) {
    { Promise<int> plain = make(fulfil); }
    { Promise<int> chain = make(fulfil).then(hear, hearFailure).eagerlyEvaluate(nullptr); }
    { auto fork = make(fulfil).fork(); }
    {
      std::vector<Promise<int>> parts;
      parts.push_back(make(fulfil));
      parts.push_back(make(fulfil));
      auto join = joinPromisesFailFast(std::move(parts));
    }
    {
      const auto body = [&]() -> Promise<void> { hear(co_await make(fulfil)); };
      Promise<void> coroutine = body();
    }
    scope.poll();
  }
  CHECK(heard == 0);
}

TEST_CASE_FIXTURE(LoopTest, "an operation's destructor may drop the fulfiller of another promise, which fails then") {
  auto pair = newPromiseAndFulfiller<int>();
  std::optional<Promise<int>> cancelled = newAdaptedPromise<int, Operation>(
      [f = std::make_shared<std::unique_ptr<PromiseFulfiller<int>>>(std::move(pair.fulfiller))](PromiseFulfiller<int>&) {
        f->reset();
      });
  CHECK_FALSE(pair.promise.poll(scope));
  cancelled.reset();
  CHECK(kindName(failureOf(std::move(pair.promise), scope)) == "FAILED");
}

TEST_CASE_FIXTURE(LoopTest, "a fulfiller may be dropped by the continuation of its own promise") {
  auto pair = newPromiseAndFulfiller<int>();
  Promise<int> promise = std::move(pair.promise).then([&](int x) {
    pair.fulfiller.reset();
    return x;
  });
  pair.fulfiller->fulfill(5);
  CHECK(std::move(promise).wait(scope) == 5);
}

TEST_CASE_FIXTURE(LoopTest, "a promise may own the fulfiller of another that waits for it: a circle of two is cancelled by either") {
  std::string log;
  auto first = newPromiseAndFulfiller<void>();
  auto second = newPromiseAndFulfiller<void>();
  std::optional<Promise<void>> a =
      std::move(first.promise).attach(std::move(second.fulfiller), Noted(log, "a")).eagerlyEvaluate(nullptr);
  std::optional<Promise<void>> b =
      std::move(second.promise).attach(std::move(first.fulfiller), Noted(log, "b")).eagerlyEvaluate(nullptr);
  scope.poll();
  CHECK(log.empty());
  a.reset(); // drops the second fulfiller, whose promise fails and lets go of its work
  CHECK(log == "a ");
  CHECK_THROWS_AS(std::move(*b).wait(scope), Exception);
  CHECK(log == "a b ");
}

TEST_CASE("misuse: code that destroys the work that it is part of aborts and says so, wherever it stands") {
  const auto check = [](const std::function<void(WaitScope&)>& body) {
    const ChildEnd end = runInChild([&] {
      EventLoop loop;
      WaitScope scope(loop);
      body(scope);
    });
    CHECK(end.aborted);
    CHECK_MESSAGE(contains(end.errors, "destroyed by the code that it is running"), end.errors);
  };
  SUBCASE("an error handler of eagerlyEvaluate") {
    check([](WaitScope& scope) {
      std::optional<Promise<void>> self;
      self = evalLater([] { throw 1; }).eagerlyEvaluate([&](Exception) { self.reset(); });
      scope.poll();
    });
  }
  SUBCASE("an error handler of catch_, in eager work") {
    check([](WaitScope& scope) {
      std::optional<Promise<void>> self;
      self = evalLater([] { throw 1; }).catch_([&](Exception) { self.reset(); }).eagerlyEvaluate(nullptr);
      scope.poll();
    });
  }
  SUBCASE("a coroutine that destroys one that waits for it") {
    check([](WaitScope& scope) {
      std::optional<Promise<void>> outer;
      const auto inner = [&]() -> Promise<void> {
        co_await yield();
        outer.reset();
      };
      const auto body = [&]() -> Promise<void> { co_await inner(); };
      outer = body();
      scope.poll();
    });
  }
  SUBCASE("an attachment of the work, when that ends") {
    check([](WaitScope& scope) {
      std::optional<Promise<void>> self;
      self = evalLater([] {}).attach(OnExit([&] { self.reset(); })).eagerlyEvaluate(nullptr);
      scope.poll();
    });
  }
  SUBCASE("destructors on the way ask for traces") {
    check([](WaitScope& scope) {
      std::optional<Promise<void>> self;
      std::string seen;
      self = evalLater([&, ask = OnExit([&] { seen += getAsyncTrace(); })] { self.reset(); })
                 .attach(OnExit([&] { seen += getAsyncTrace(); }))
                 .then([ask = OnExit([&] { seen += getAsyncTrace(); })] {})
                 .attach(OnExit([&] { seen += Exception(Exception::Kind::FAILED, "x").trace(); }))
                 .eagerlyEvaluate(nullptr);
      scope.poll();
    });
    check([](WaitScope& scope) {
      FailOnError errors;
      std::optional<TaskSet> tasks(errors);
      std::string seen;
      tasks->add(evalLater([&, ask = OnExit([&] { seen += getAsyncTrace(); })] { tasks.reset(); })
                     .attach(OnExit([&] { seen += getAsyncTrace(); })));
      scope.poll();
    });
  }
  SUBCASE("a local of a coroutine, when that ends") {
    check([](WaitScope& scope) {
      std::optional<Promise<void>> self;
      const auto body = [&]() -> Promise<void> {
        OnExit local([&] { self.reset(); });
        co_await yield();
      };
      self = body();
      scope.poll();
    });
  }
}

TEST_CASE_FIXTURE(LoopTest, "a destructor of work that a continuation cancels may ask for the continuation's trace") {
  std::string seen;
  std::optional<Promise<void>> other =
      Promise<void>(NEVER_DONE).attach(OnExit([&] { seen = getAsyncTrace(); })).then([] {}).eagerlyEvaluate(nullptr);
  evalLater([&] { other.reset(); }).wait(scope);
  CHECK(contains(seen, "wait at"));
}

TEST_CASE_FIXTURE(LoopTest, "a destructor cannot run the loop while the work that it is a part of is being destroyed") {
  struct Runs {
    PromiseFulfiller<void>& fulfiller;
    std::function<void()>& run;
    Runs(PromiseFulfiller<void>& f, std::function<void()>& r) : fulfiller(f), run(r) {}
    ~Runs() {
      fulfiller.fulfill();
      try {
        run();
      } catch (const Exception& e) {
        if (contains(e.description(), "destroyed")) ++refused;
      }
    }
    int& refused = count();
    static int& count() {
      static int c = 0;
      return c;
    }
  };
  Runs::count() = 0;
  std::function<void()> run;
  SUBCASE("run") { run = [&] { loop.run(); }; }
  SUBCASE("poll") { run = [&] { scope.poll(); }; }
  SUBCASE("poll of a promise") { run = [&] { (void)Promise<void>(NEVER_DONE).poll(scope); }; }
  SUBCASE("wait") { run = [&] { evalLater([] {}).wait(scope); }; }
  const auto work = [&] { return newAdaptedPromise<void, Runs>(run); };
  { Promise<void> promise = work().eagerlyEvaluate(nullptr); }
  { ForkedPromise<void> fork = work().fork(); }
  {
    FailOnError errors;
    TaskSet tasks(errors);
    tasks.add(work());
  }
  {
    Canceler canceler;
    Promise<void> wrapped = canceler.wrap(work());
    canceler.cancel("stop");
  }
  { Promise<void> joined = joinPromisesFailFast(work(), work()).ignoreResult(); }
  {
    auto pair = newPromiseAndFulfiller<void>();
    Promise<void> joined = work().exclusiveJoin(std::move(pair.promise));
    pair.fulfiller->fulfill();
    std::move(joined).wait(scope);
  }
  CHECK(Runs::count() >= 5);
}

TEST_CASE_FIXTURE(LoopTest, "a continuation that wants an end of its own work can hand it to somebody else") {
  std::string log;
  std::optional<Promise<void>> self;
  std::optional<Promise<void>> janitor;
  self = evalLater([&] {
           log += "asked ";
           janitor = evalLater([&] { self.reset(); }).eagerlyEvaluate(nullptr);
         })
             .then([]() -> Promise<void> { return NEVER_DONE; })
             .attach(Noted(log, "gone"));
  scope.poll();
  CHECK(log == "asked gone ");
  CHECK_FALSE(self.has_value());
}

// --------------------------------------------------------------------------------------- destructors that throw

TEST_CASE("what locals throw while a set of coroutines is cancelled is swallowed, for each of them (R8)") {
  for (const bool clear : {true, false}) {
    const ChildEnd end = runInChild([clear] {
      onStackOf(256 * 1024, [clear] {
        NothingLeft nothingLeft;
        EventLoop loop;
        WaitScope scope(loop);
        std::size_t unwound = 0;
        Errors errors;
        {
          TaskSet tasks(errors);
          const auto body = [&]() -> Promise<void> {
            OnExit outer([&] { ++unwound; });
            Throws thrower;
            co_await NEVER_DONE;
          };
          for (int i = 0; i < 2000; ++i) tasks.add(body());
          scope.poll();
          if (clear) tasks.clear();
        }
        std::fprintf(stderr, "unwound %zu\n", unwound);
        if (unwound != 2000 || !errors.seen.empty()) throw std::logic_error("not all were unwound in silence");
      });
    });
    CHECK_MESSAGE(end.finished, end.errors);
    CHECK(contains(end.errors, "unwound 2000"));
  }
}

TEST_CASE("a coroutine that is queued when it is cancelled leaves the queue, though a local throws (R8)") {
  const ChildEnd end = runInChild([] {
    EventLoop loop;
    WaitScope scope(loop);
    auto pair = newPromiseAndFulfiller<void>();
    const auto body = [](Promise<void> awaited) -> Promise<void> {
      Throws thrower;
      co_await std::move(awaited);
    };
    {
      Promise<void> promise = body(std::move(pair.promise));
      pair.fulfiller->fulfill();
    }
    if (loop.isRunnable() || loop.liveEvents() != 0) throw std::logic_error("it is still queued");
    scope.poll();
  });
  CHECK_MESSAGE(end.finished, end.errors);
}

TEST_CASE("an exception in flight wins over what a local throws in a coroutine that it cancels (R8)") {
  const ChildEnd end = runInChild([] {
    EventLoop loop;
    WaitScope scope(loop);
    const auto body = []() -> Promise<void> {
      Throws thrower;
      co_await NEVER_DONE;
    };
    try {
      Promise<void> promise = body();
      throw std::out_of_range("the cause");
    } catch (const std::out_of_range& e) {
      std::fprintf(stderr, "caught %s\n", e.what());
    }
  });
  CHECK_MESSAGE(end.finished, end.errors);
  CHECK(contains(end.errors, "caught the cause"));
}

TEST_CASE_FIXTURE(LoopTest, "what a local throws when its coroutine ends is seen by who takes the result, not by who polls (R8)") {
  const auto body = [](Promise<void> awaited) -> Promise<void> {
    Throws thrower;
    co_await std::move(awaited);
  };
  Promise<void> promise = body(READY_NOW);
  CHECK(promise.poll(scope));
  CHECK_THROWS_WITH_AS(std::move(promise).wait(scope), "from a destructor", std::runtime_error);
}
