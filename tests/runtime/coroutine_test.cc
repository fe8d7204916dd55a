// SPDX-License-Identifier: MIT
// Coroutines: when they run, what they hold and for how long, errors, cancellation, depth, memory.
#include "helpers.h"

#include <troth/runtime/pool_detail.h>

#include <array>
#include <cstdio>
#include <stdexcept>
#include <thread>
#include <vector>

using namespace troth;
using namespace troth::test;

namespace {

Promise<int> give(int x) { co_return x; }

Promise<int> addOne(Promise<int> promise) { co_return co_await std::move(promise) + 1; }

Promise<void> awaitIt(Promise<void> promise) { co_await std::move(promise); }

struct ThrowsOnExit {
  std::string& log;
  explicit ThrowsOnExit(std::string& l) : log(l) {}
  ~ThrowsOnExit() noexcept(false) {
    log += "throws ";
    throw std::out_of_range("from a destructor");
  }
};

} // namespace

TEST_CASE_FIXTURE(LoopTest, "a coroutine starts at once") {
  std::string log;
  auto body = [&]() -> Promise<void> {
    log += "start ";
    co_await READY_NOW;
    log += "on ";
  };
  Promise<void> promise = body();
  CHECK(log == "start ");
  std::move(promise).wait(scope);
  CHECK(log == "start on ");
}

TEST_CASE_FIXTURE(LoopTest, "a coroutine goes on unasked") {
  int ran = 0;
  auto body = [&]() -> Promise<void> {
    co_await READY_NOW;
    ++ran;
  };
  Promise<void> promise = body();
  scope.poll();
  CHECK(ran == 1);
}

TEST_CASE_FIXTURE(LoopTest, "the first co_await suspends even when its promise is ready") {
  std::string log;
  auto body = [&](int way) -> Promise<void> {
    if (way == 0) co_await READY_NOW;
    if (way == 1) co_await Promise<int>(1);
    if (way == 2) co_await Promise<int>(1).then([](int x) { return x; });
    if (way == 3) co_await give(1);
    log += "resumed ";
  };
  for (int way = 0; way < 4; ++way) {
    CAPTURE(way);
    log.clear();
    Promise<void> promise = body(way);
    CHECK(log.empty());
    scope.poll();
    CHECK(log == "resumed ");
  }
}

TEST_CASE_FIXTURE(LoopTest, "later awaits of ready promises go on in place") {
  int laps = 0;
  auto body = [&]() -> Promise<void> {
    co_await READY_NOW; // the first always suspends
    for (; laps < 30;) {
      co_await READY_NOW;
      laps += co_await Promise<int>(1);
      laps += co_await Promise<int>(1).then([](int x) { return x; });
    }
  };
  Promise<void> promise = body();
  CHECK(loop.run(1) == 1);
  CHECK(laps == 30);
  CHECK(promise.poll(scope));
}

TEST_CASE_FIXTURE(LoopTest, "an await of a join that is decided goes on in place") {
  Promise<int> decided = Promise<int>(1).exclusiveJoin(NEVER_DONE);
  scope.poll();
  int got = 0;
  auto body = [&]() -> Promise<void> {
    co_await yield();
    got = co_await std::move(decided);
  };
  Promise<void> promise = body();
  CHECK(loop.run(1) == 1);
  CHECK(got == 1);
  CHECK(promise.poll(scope));
}

TEST_CASE_FIXTURE(LoopTest, "a trace names the place of an await of READY_NOW") {
  auto body = []() -> Promise<void> { co_await READY_NOW; };
  Promise<void> promise = body();
  CHECK_MESSAGE(contains(promise.trace(), "coroutine at"), promise.trace());
  CHECK(contains(promise.trace(), "coroutine_test.cc"));
}

TEST_CASE_FIXTURE(LoopTest, "awaits in place are bounded, so that a coroutine that never waits lets others run (R12)") {
  bool stop = false;
  std::size_t laps = 0;
  auto spin = [&](bool values) -> Promise<void> {
    while (!stop && laps < 1'000'000) {
      if (values)
        co_await Promise<int>(1);
      else
        co_await READY_NOW;
      ++laps;
    }
  };
  for (const bool values : {false, true}) {
    CAPTURE(values);
    stop = false;
    laps = 0;
    Promise<void> spinning = spin(values);
    for (int i = 0; i < 10; ++i) {
      const std::size_t before = laps;
      CHECK(loop.run(1) == 1);
      CHECK(laps > before);
      CHECK(laps - before <= 256);
    }
    evalLater([&] { stop = true; }).wait(scope);
    CHECK(laps < 10'000);
    std::move(spinning).wait(scope);
  }
}

TEST_CASE_FIXTURE(LoopTest, "a coroutine returns values, move-only values and nothing") {
  CHECK(give(3).wait(scope) == 3);
  auto moveOnly = []() -> Promise<std::unique_ptr<int>> {
    auto p = std::make_unique<int>(1);
    co_await READY_NOW;
    co_return p;
  };
  CHECK(*moveOnly().wait(scope) == 1);
  auto converts = []() -> Promise<std::string> { co_return "text"; };
  CHECK(converts().wait(scope) == "text");
  CHECK_NOTHROW(awaitIt(READY_NOW).wait(scope));
  auto awaits = [&]() -> Promise<int> { co_return *co_await moveOnly() + 1; };
  CHECK(awaits().wait(scope) == 2);
}

TEST_CASE_FIXTURE(LoopTest, "a coroutine waits for what it awaits") {
  auto pair = newPromiseAndFulfiller<int>();
  Promise<int> promise = addOne(addOne(std::move(pair.promise)));
  CHECK(takeAfter(promise, scope, [&] { pair.fulfiller->fulfill(5); }) == 7);
}

TEST_CASE_FIXTURE(LoopTest, "chains and coroutines mix") {
  auto pair = newPromiseAndFulfiller<int>();
  Promise<int> promise = addOne(std::move(pair.promise).then([](int x) { return addOne(x); }))
                             .then([](int x) { return x * 10; })
                             .exclusiveJoin(addOne(NEVER_DONE))
                             .eagerlyEvaluate(nullptr);
  CHECK(takeAfter(promise, scope, [&] { pair.fulfiller->fulfill(1); }) == 30);
}

TEST_CASE_FIXTURE(LoopTest, "parameters are kept until the coroutine's promise goes") {
  std::string log;
  auto body = [](Noted, std::unique_ptr<int> p, Promise<void> first) -> Promise<int> {
    co_await std::move(first);
    co_return *p;
  };
  auto pair = newPromiseAndFulfiller<void>();
  {
    Promise<int> promise = body(Noted(log, "parameter"), std::make_unique<int>(4), std::move(pair.promise));
    CHECK(log.empty());
    CHECK_FALSE(promise.poll(scope));
    pair.fulfiller->fulfill();
    CHECK(std::move(promise).wait(scope) == 4);
  }
  CHECK(log == "parameter ");
}

// -------------------------------------------------------------------------------------------- errors

TEST_CASE_FIXTURE(LoopTest, "co_await throws the original type") {
  auto body = []() -> Promise<std::string> {
    try {
      co_await evalLater([]() -> int { throw std::out_of_range("x"); });
    } catch (const std::out_of_range& e) {
      co_return e.what();
    }
    co_return "nothing was thrown";
  };
  CHECK(body().wait(scope) == "x");
}

TEST_CASE_FIXTURE(LoopTest, "what a coroutine throws rejects its promise, before and after its first await (R8)") {
  auto body = [](bool early) -> Promise<int> {
    if (early) throw std::out_of_range("early");
    co_await READY_NOW;
    throw std::length_error("late");
  };
  Promise<int> early = NEVER_DONE;
  CHECK_NOTHROW(early = body(true));
  CHECK_THROWS_AS(std::move(early).wait(scope), std::out_of_range);
  CHECK_THROWS_AS(body(false).wait(scope), std::length_error);
}

TEST_CASE_FIXTURE(LoopTest, "a failure passes through coroutines that do not catch it, unwinding their locals") {
  std::string log;
  struct Nest {
    static Promise<void> run(std::string& l, int depth) {
      Noted local(l, std::to_string(depth));
      co_await READY_NOW;
      if (depth == 3) throw std::out_of_range("deep");
      co_await run(l, depth + 1);
      l += "never ";
    }
  };
  CHECK_THROWS_AS(Nest::run(log, 0).wait(scope), std::out_of_range);
  CHECK(log == "3 2 1 0 ");
}

TEST_CASE_FIXTURE(LoopTest, "a coroutine may await after it has caught") {
  auto body = []() -> Promise<int> {
    int sum = 0;
    for (int i = 0; i < 3; ++i) {
      bool caught = false;
      try {
        co_await Promise<int>(Exception(Exception::Kind::DISCONNECTED, "x"));
      } catch (const Exception&) {
        caught = true;
      }
      if (caught) sum += co_await evalLater([i] { return i; });
    }
    co_return sum;
  };
  CHECK(body().wait(scope) == 3);
}

TEST_CASE_FIXTURE(LoopTest, "the awaited work is destroyed before its failure or value is seen") {
  std::string log;
  auto body = [&](bool fail) -> Promise<void> {
    try {
      co_await evalLater([fail] {
        if (fail) throw 1;
      }).attach(Noted(log, "awaited"));
      log += "value ";
    } catch (int) {
      log += "caught ";
    }
  };
  body(true).wait(scope);
  body(false).wait(scope);
  CHECK(log == "awaited caught awaited value ");
}

TEST_CASE_FIXTURE(LoopTest, "a destructor that throws during normal unwinding rejects (R8)") {
  std::string log;
  auto body = [&](bool value) -> Promise<int> {
    Noted outer(log, "outer");
    ThrowsOnExit thrower(log);
    co_await READY_NOW;
    if (value) co_return 1;
    co_return 2;
  };
  CHECK_THROWS_AS(body(true).wait(scope), std::out_of_range);
  CHECK(log == "throws outer ");
}

TEST_CASE("a local's destructor that throws while its coroutine is cancelled is swallowed, and the rest is destroyed (R8)") {
  const ChildEnd end = runInChild([] {
    NothingLeft nothingLeft;
    std::string log;
    const auto blocks = detail::liveBlocks();
    {
      EventLoop loop;
      WaitScope scope(loop);
      auto body = [&](Promise<void> awaited) -> Promise<void> {
        Noted outer(log, "outer");
        ThrowsOnExit thrower(log);
        Noted inner(log, "inner");
        co_await std::move(awaited);
      };
      { Promise<void> promise = body(Promise<void>(NEVER_DONE).attach(Noted(log, "awaited"))); }
      std::fprintf(stderr, "destroyed: %s\n", log.c_str());
      if (log != "awaited inner throws outer ") throw std::logic_error(log);
    }
    if (detail::liveBlocks() != blocks) throw std::logic_error("the frame was not freed");
  });
  CHECK_MESSAGE(end.finished, end.errors);
}

// ---------------------------------------------------------------------------------------- cancellation

TEST_CASE_FIXTURE(LoopTest, "cancelling a coroutine destroys what it awaits, then its locals in reverse, then its parameters") {
  std::string log;
  auto body = [&](Noted, Promise<void> first) -> Promise<void> {
    Noted a(log, "a");
    Noted b(log, "b");
    co_await std::move(first);
    log += "never ";
  };
  {
    Promise<void> promise = body(Noted(log, "parameter"), Promise<void>(NEVER_DONE).attach(Noted(log, "awaited"))).attach(Noted(log, "attached"));
    CHECK_FALSE(promise.poll(scope));
  }
  CHECK(log == "awaited b a parameter attached ");
}

TEST_CASE_FIXTURE(LoopTest, "cancelling nested coroutines destroys the innermost first") {
  std::string log;
  struct Nest {
    static Promise<void> run(std::string& l, int depth) {
      Noted local(l, std::to_string(depth));
      if (depth < 3)
        co_await run(l, depth + 1);
      else
        co_await NEVER_DONE;
    }
  };
  {
    Promise<void> promise = Nest::run(log, 0);
    CHECK_FALSE(promise.poll(scope));
  }
  CHECK(log == "3 2 1 0 ");
}

TEST_CASE_FIXTURE(LoopTest, "a coroutine that was fulfilled but not resumed is cancelled without running on") {
  std::string log;
  auto pair = newPromiseAndFulfiller<void>();
  auto body = [&](Promise<void> first) -> Promise<void> {
    Noted local(log, "local");
    co_await std::move(first);
    log += "never ";
  };
  {
    Promise<void> promise = body(std::move(pair.promise));
    pair.fulfiller->fulfill();
  }
  scope.poll();
  CHECK(log == "local ");
}

TEST_CASE_FIXTURE(LoopTest, "a finished coroutine's locals are gone before its result is taken") {
  std::string log;
  auto body = [&]() -> Promise<int> {
    Noted local(log, "local");
    co_await READY_NOW;
    co_return 1;
  };
  Promise<int> promise = body();
  CHECK(promise.poll(scope));
  CHECK(log == "local ");
  CHECK(std::move(promise).wait(scope) == 1);
}

TEST_CASE("a coroutine that destroys its own promise aborts and says so") {
  const ChildEnd end = runInChild([] {
    EventLoop loop;
    WaitScope scope(loop);
    std::optional<Promise<void>> self;
    auto body = [&]() -> Promise<void> {
      co_await READY_NOW;
      self.reset();
    };
    self = body();
    scope.poll();
  });
  CHECK(end.aborted);
  CHECK(contains(end.errors, "destroyed by the code that it is running"));
}

TEST_CASE("cancelling a tree of coroutines at every step leaves nothing (R5)") {
  struct Tree {
    static Promise<std::unique_ptr<int>> leaf(int x) {
      auto held = std::make_unique<int>(x);
      co_await READY_NOW;
      co_await evalLater([] {});
      *held += co_await evalLast([x] { return x; });
      co_return held;
    }
    static Promise<int> node(int depth) {
      if (depth == 0) co_return *co_await leaf(1);
      const std::string local(50, 'x');
      Promise<int> left = node(depth - 1);
      Promise<int> right = node(depth - 1).eagerlyEvaluate(nullptr);
      int sum = co_await std::move(left);
      try {
        co_await evalLater([]() -> Promise<void> { throw std::runtime_error("x"); });
      } catch (const std::runtime_error&) {
        ++sum;
      }
      sum += co_await std::move(right).exclusiveJoin(NEVER_DONE);
      co_return sum + static_cast<int>(local.size());
    }
  };
  CHECK(cancelSweep([](LoopTest&) -> Promise<void> { return Tree::node(2).ignoreResult(); }) >= 15);
}

TEST_CASE("cancelling a coroutine with a producer and an adapter at every step leaves nothing (R5)") {
  const std::size_t steps = cancelSweep([](LoopTest&) -> Promise<void> {
    struct Later {
      Promise<void> work;
      Later(PromiseFulfiller<int>& f, int x) : work(evalLater([&f, x] { f.fulfill(int(x)); }).eagerlyEvaluate(nullptr)) {}
    };
    for (int i = 0; i < 5; ++i) {
      auto pair = newPromiseAndFulfiller<int>();
      Promise<void> producer = [](std::unique_ptr<PromiseFulfiller<int>> f, int x) -> Promise<void> {
        const int got = co_await newAdaptedPromise<int, Later>(x);
        f->fulfill(int(got));
      }(std::move(pair.fulfiller), i);
      CHECK(co_await std::move(pair.promise) == i);
      co_await std::move(producer);
    }
  });
  CHECK(steps >= 10);
}

// -------------------------------------------------------------------------------------------- misuse

TEST_CASE_FIXTURE(LoopTest, "awaiting a consumed promise throws inside the coroutine and names its file") {
  auto body = []() -> Promise<void> {
    Promise<int> promise = 1;
    co_await std::move(promise);
    co_await std::move(promise);
  };
  const Exception e = failureOf(body(), scope);
  CHECK(kindName(e) == "FAILED");
  CHECK(contains(e.description(), "consumed"));
  CHECK(fileOf(e) == "coroutine_test.cc");
}

TEST_CASE_FIXTURE(LoopTest, "wait and poll inside a coroutine throw and name the caller") {
  auto body = [](WaitScope* s, bool poll) -> Promise<void> {
    co_await READY_NOW;
    if (poll)
      (void)Promise<void>(READY_NOW).then([] {}).poll(*s);
    else
      evalLater([] {}).wait(*s);
  };
  for (const bool poll : {false, true}) {
    const Exception e = failureOf(body(&scope, poll), scope);
    CHECK(kindName(e) == "FAILED");
    CHECK(contains(e.description(), "inside a continuation or coroutine"));
    CHECK(fileOf(e) == "coroutine_test.cc");
  }
}

TEST_CASE("a coroutine on a thread without a loop throws from its call and leaves nothing") {
  NothingLeft nothingLeft;
  auto held = std::make_shared<int>(1);
  auto body = [](std::shared_ptr<int> p) -> Promise<int> { co_return *p; };
  const Exception e = thrownBy([&] { (void)body(held); });
  CHECK(kindName(e) == "FAILED");
  CHECK(contains(e.description(), "no event loop on this thread"));
  CHECK(held.use_count() == 1);
}

TEST_CASE("a coroutine that awaits another thread's promise fails and says so") {
  const ChildEnd end = runInChild([] { // the promise is let go of, since only its own thread could destroy it
    EventLoop loop;
    WaitScope scope(loop);
    auto pair = newPromiseAndFulfiller<void>();
    std::string problem;
    std::thread([&] {
      EventLoop other;
      WaitScope otherScope(other);
      try {
        awaitIt(std::move(pair.promise)).wait(otherScope);
        problem = "nothing was thrown";
      } catch (const Exception& e) {
        if (!contains(e.description(), "another thread") || fileOf(e) != "coroutine_test.cc") problem = e.what();
      }
    }).join();
    if (!problem.empty()) throw std::logic_error(problem);
    pair.fulfiller->fulfill();
    scope.poll();
  });
  CHECK_MESSAGE(end.finished, end.errors);
}

TEST_CASE("a fulfiller that resumes a coroutine refuses to do so on another thread") {
  LoopTest test;
  auto pair = newPromiseAndFulfiller<void>();
  Promise<void> promise = awaitIt(std::move(pair.promise));
  std::optional<Exception> seen;
  std::thread([&] { seen = thrownBy([&] { pair.fulfiller->fulfill(); }); }).join();
  REQUIRE(seen);
  CHECK(contains(seen->description(), "another thread"));
  takeAfter(promise, test.scope, [&] { pair.fulfiller->fulfill(); });
}

// ------------------------------------------------------------------------------ depth, length, memory

namespace {

/// `depth` coroutines, each of which awaits the one before.
Promise<int> tower(int depth, Promise<int> promise) {
  for (int i = 0; i < depth; ++i) promise = addOne(std::move(promise));
  return promise;
}

/// Coroutines that make each other from inside, one loop turn apart.
Promise<int> descend(int depth) {
  co_await READY_NOW;
  if (depth == 0) co_return 0;
  co_return co_await descend(depth - 1) + 1;
}

constexpr std::size_t SMALL_STACK = 256 * 1024;

} // namespace

TEST_CASE("100 000 coroutines that await each other complete, fail and are cancelled on a stack of 256 KiB (R1, R2)") {
  onStackOf(SMALL_STACK, [] {
    NothingLeft nothingLeft;
    EventLoop loop;
    WaitScope scope(loop);
    constexpr int DEPTH = 100'000;
    {
      auto pair = newPromiseAndFulfiller<int>();
      Promise<int> promise = tower(DEPTH, std::move(pair.promise));
      CHECK(takeAfter(promise, scope, [&] { pair.fulfiller->fulfill(0); }) == DEPTH);
    }
    CHECK(descend(DEPTH).wait(scope) == DEPTH);
    CHECK_THROWS_AS(tower(DEPTH / 10, Exception(Exception::Kind::FAILED, "x")).wait(scope), Exception);
    { CHECK_FALSE(tower(DEPTH, NEVER_DONE).poll(scope)); }
    {
      Promise<int> half = descend(DEPTH);
      loop.run(DEPTH / 2);
    }
    CHECK(tower(DEPTH, Promise<int>(0)).wait(scope) == DEPTH);
  });
}

TEST_CASE_FIXTURE(LoopTest, "1 000 000 awaits of ready promises in a loop take constant memory (R3)") {
  enum Way { READY, VALUE, COROUTINE, LATER };
  struct Loop {
    static Promise<void> run(Way way, std::size_t steps, std::vector<std::int64_t>& blocks) {
      for (std::size_t i = 0; i < steps; ++i) {
        if (way == READY) co_await READY_NOW;
        if (way == VALUE) co_await Promise<int>(1);
        if (way == COROUTINE) co_await give(1);
        if (way == LATER) co_await evalLater([] {});
        if (i % (steps / 20) == 0) blocks.push_back(detail::liveBlocks());
      }
    }
  };
  Way way = READY;
  std::size_t steps = 1'000'000;
  SUBCASE("READY_NOW") {}
  SUBCASE("a value (200 000 under a sanitizer)") {
    way = VALUE;
    if (SANITIZED) steps = 200'000;
  }
  SUBCASE("a coroutine that has finished (200 000 under a sanitizer)") {
    way = COROUTINE;
    if (SANITIZED) steps = 200'000;
  }
  SUBCASE("evalLater (200 000 under a sanitizer)") {
    way = LATER;
    if (SANITIZED) steps = 200'000;
  }
  std::vector<std::int64_t> blocks;
  blocks.reserve(32);
  Promise<void> promise = Loop::run(way, steps, blocks);
  loop.run(10);
  const std::size_t before = residentBytes();
  std::move(promise).wait(scope);
  const std::size_t after = residentBytes();
  REQUIRE(blocks.size() == 20);
  for (const auto b : blocks) CHECK(b == blocks[0]);
  if (!SANITIZED) CHECK(after < before + 1024 * 1024);
}

TEST_CASE_FIXTURE(LoopTest, "frames come from the pool: a steady state of coroutines takes nothing from the heap") {
  struct Work {
    static Promise<int> inner(Promise<int> promise) {
      const std::array<char, 200> local{1};
      co_await READY_NOW;
      co_return co_await std::move(promise) + local[0];
    }
    static Promise<int> outer() {
      auto pair = newPromiseAndFulfiller<int>();
      Promise<int> promise = inner(std::move(pair.promise));
      co_await evalLater([] {});
      pair.fulfiller->fulfill(1);
      co_return co_await std::move(promise);
    }
  };
  for (int i = 0; i < 10; ++i) Work::outer().wait(scope);
  const auto fromHeap = detail::poolState.fromHeap;
  const auto allocations = heapAllocations();
  int sum = 0;
  for (int i = 0; i < 1000; ++i) sum += Work::outer().wait(scope);
  CHECK(heapAllocations() == allocations);
  CHECK(detail::poolState.fromHeap == fromHeap);
  CHECK(sum == 2000);
}

TEST_CASE_FIXTURE(LoopTest, "an idle coroutine is one block and one event") {
  const auto blocks = detail::liveBlocks();
  const auto events = loop.liveEvents();
  Promise<void> promise = awaitIt(NEVER_DONE);
  CHECK(detail::liveBlocks() == blocks + 1);
  CHECK(loop.liveEvents() == events + 1);
  Promise<void> gone = std::move(promise);
  gone = READY_NOW;
  CHECK(loop.liveEvents() == events);
}
