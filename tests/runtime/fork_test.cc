// SPDX-License-Identifier: MIT
// Forks and splits: who gets the result, in which order, when the work goes, misuse, depth.
#include "helpers.h"

#include <troth/runtime/canceler.h>
#include <troth/runtime/join.h>
#include <troth/runtime/pool_detail.h>
#include <troth/runtime/task_set.h>

#include <array>
#include <stdexcept>
#include <thread>
#include <vector>

using namespace troth;
using namespace troth::test;

namespace {

using Kind = Exception::Kind;

constexpr std::size_t SMALL_STACK = 256 * 1024;

Promise<int> awaitFork(const ForkedPromise<int>& fork) { co_return co_await fork; }

/// Counts its copies, and throws from the copy whose number is `throwAt`.
struct Copied {
  int* copies;
  int throwAt = -1;
  Copied(int& counter, int at) : copies(&counter), throwAt(at) {}
  Copied(const Copied& other) : copies(other.copies), throwAt(other.throwAt) {
    if (++*copies == throwAt) throw std::runtime_error("no copy");
  }
  Copied(Copied&&) noexcept = default;
  Copied& operator=(const Copied&) = default;
  Copied& operator=(Copied&&) noexcept = default;
};

/// Throws from every move once `armed`.
struct ThrowsOnMove {
  bool* armed;
  explicit ThrowsOnMove(bool& a) : armed(&a) {}
  ThrowsOnMove(const ThrowsOnMove&) = default;
  ThrowsOnMove(ThrowsOnMove&& other) : armed(other.armed) {
    if (*armed) throw std::runtime_error("no move");
  }
  ThrowsOnMove& operator=(const ThrowsOnMove&) = default;
};

} // namespace

// ------------------------------------------------------------------------------------------- values

TEST_CASE_FIXTURE(LoopTest, "each branch of a fork gets the value") {
  auto pair = newPromiseAndFulfiller<int>();
  ForkedPromise<int> fork = std::move(pair.promise).fork();
  Promise<int> a = fork.addBranch();
  Promise<int> b = fork.addBranch().then([](int x) { return x + 1; });
  CHECK_FALSE(a.poll(scope));
  CHECK(takeAfter(b, scope, [&] { pair.fulfiller->fulfill(10); }) == 11);
  CHECK(std::move(a).wait(scope) == 10);
}

TEST_CASE_FIXTURE(LoopTest, "a branch that is added after the result is there gets it, too") {
  ForkedPromise<int> fork = Promise<int>(3).fork();
  scope.poll();
  CHECK(fork.addBranch().wait(scope) == 3);
  Promise<int> second = fork.addBranch();
  CHECK(second.poll(scope));
  CHECK(std::move(second).wait(scope) == 3);
}

TEST_CASE_FIXTURE(LoopTest, "a fork of a void promise tells each branch") {
  auto pair = newPromiseAndFulfiller<void>();
  ForkedPromise<void> fork = std::move(pair.promise).fork();
  Promise<void> a = fork.addBranch();
  Promise<void> b = fork.addBranch();
  CHECK_FALSE(b.poll(scope));
  takeAfter(a, scope, [&] { pair.fulfiller->fulfill(); });
  CHECK(b.poll(scope));
}

TEST_CASE_FIXTURE(LoopTest, "the forked work runs once, and its value is copied once for each branch") {
  int ran = 0;
  int copies = 0;
  ForkedPromise<Copied> fork = evalLater([&] {
                                 ++ran;
                                 return Copied(copies, -1);
                               }).fork();
  auto a = fork.addBranch();
  auto b = fork.addBranch();
  (void)std::move(a).wait(scope);
  CHECK(copies == 1);
  (void)std::move(b).wait(scope);
  CHECK(copies == 2);
  CHECK(ran == 1);
}

TEST_CASE_FIXTURE(LoopTest, "branches may share what cannot be copied") {
  ForkedPromise<std::shared_ptr<std::unique_ptr<int>>> fork =
      evalLater([] { return std::make_shared<std::unique_ptr<int>>(std::make_unique<int>(4)); }).fork();
  auto a = fork.addBranch();
  auto b = fork.addBranch();
  CHECK(std::move(a).wait(scope) == std::move(b).wait(scope));
}

TEST_CASE_FIXTURE(LoopTest, "a value of tens of kilobytes is copied whole to each branch") {
  using Big = std::array<std::uint8_t, 60'000>;
  Big big;
  big.fill(0x5a);
  big.back() = 7;
  ForkedPromise<Big> fork = Promise<Big>(big).fork();
  Promise<Big> a = fork.addBranch();
  CHECK(fork.addBranch().wait(scope) == big);
  CHECK(std::move(a).wait(scope) == big);
}

TEST_CASE_FIXTURE(LoopTest, "a fork of READY_NOW is ready and one of NEVER_DONE is not") {
  ForkedPromise<void> ready = Promise<void>(READY_NOW).fork();
  CHECK(ready.addBranch().poll(scope));
  ForkedPromise<int> never = Promise<int>(NEVER_DONE).fork();
  CHECK_FALSE(never.addBranch().poll(scope));
}

TEST_CASE_FIXTURE(LoopTest, "forks of branches of forks give the value at every level") {
  auto pair = newPromiseAndFulfiller<int>();
  ForkedPromise<int> outer = std::move(pair.promise).fork();
  ForkedPromise<int> inner = outer.addBranch().then([](int x) { return x * 2; }).fork();
  Promise<int> a = inner.addBranch();
  Promise<int> b = outer.addBranch();
  CHECK(takeAfter(a, scope, [&] { pair.fulfiller->fulfill(4); }) == 8);
  CHECK(std::move(b).wait(scope) == 4);
}

// -------------------------------------------------------------------------------------------- order

TEST_CASE_FIXTURE(LoopTest, "a fork runs its work unasked, without any branch") {
  bool ran = false;
  ForkedPromise<void> fork = evalLater([&] { ran = true; }).fork();
  CHECK_FALSE(ran);
  scope.poll();
  CHECK(ran);
}

TEST_CASE_FIXTURE(LoopTest, "a fork never runs its work inside the call") {
  bool ran = false;
  ForkedPromise<void> fork = Promise<void>(READY_NOW).then([&] { ran = true; }).fork();
  CHECK_FALSE(ran);
  Promise<void> branch = fork.addBranch();
  CHECK_FALSE(ran);
  std::move(branch).wait(scope);
  CHECK(ran);
}

TEST_CASE_FIXTURE(LoopTest, "branches hear in the order in which they were added") {
  FailOnError handler;
  TaskSet tasks(handler);
  std::string log;
  auto pair = newPromiseAndFulfiller<void>();
  ForkedPromise<void> fork = std::move(pair.promise).fork();
  for (const char* name : {"a", "b", "c"})
    tasks.add(fork.addBranch().then([&log, name] { log += name; }));
  scope.poll();
  CHECK(log.empty());
  pair.fulfiller->fulfill();
  scope.poll();
  CHECK(log == "abc");
}

TEST_CASE_FIXTURE(LoopTest, "branches of a pending fork run before what is queued, those of a ready one after it, as in KJ") {
  FailOnError handler;
  TaskSet tasks(handler);
  std::string log;
  const auto note = [&log](const char* name) { return [&log, name] { log += name; }; };
  auto pair = newPromiseAndFulfiller<void>();
  ForkedPromise<void> pending = std::move(pair.promise).fork();
  ForkedPromise<void> ready = Promise<void>(READY_NOW).fork();
  scope.poll();
  tasks.add(evalLater([&] {
    tasks.add(evalLater(note("3")));
    tasks.add(ready.addBranch().then(note("4")));
    tasks.add(evalLater(note("5")));
    tasks.add(pending.addBranch().then(note("1")));
    tasks.add(pending.addBranch().then(note("2")));
    pair.fulfiller->fulfill();
  }));
  scope.poll();
  CHECK(log == "12345");
}

TEST_CASE_FIXTURE(LoopTest, "a branch that was added from the continuation of another one hears after those before it") {
  FailOnError handler;
  TaskSet tasks(handler);
  std::string log;
  auto pair = newPromiseAndFulfiller<void>();
  ForkedPromise<void> fork = std::move(pair.promise).fork();
  tasks.add(fork.addBranch().then([&] {
    log += "a";
    tasks.add(fork.addBranch().then([&] { log += "c"; }));
  }));
  tasks.add(fork.addBranch().then([&] { log += "b"; }));
  pair.fulfiller->fulfill();
  scope.poll();
  CHECK(log == "abc");
}

TEST_CASE_FIXTURE(LoopTest, "the work is destroyed before a branch sees its result") {
  std::string log;
  ForkedPromise<int> fork = Promise<int>(1).attach(Noted(log, "work")).fork();
  Promise<void> branch = fork.addBranch().then([&](int) { log += "seen "; });
  std::move(branch).wait(scope);
  CHECK(log == "work seen ");
}

// ----------------------------------------------------------------------------------------- failures

TEST_CASE_FIXTURE(LoopTest, "each branch gets the failure, in its original type") {
  ForkedPromise<int> fork = evalLater([]() -> int { throw std::out_of_range("far"); }).fork();
  Promise<int> a = fork.addBranch();
  Promise<int> b = fork.addBranch();
  CHECK_THROWS_AS(std::move(a).wait(scope), std::out_of_range);
  CHECK(std::move(b).catch_([](Exception e) { return e.description() == "far" ? 1 : 2; }).wait(scope) == 1);
  CHECK_THROWS_AS(fork.addBranch().wait(scope), std::out_of_range);
  CHECK_THROWS_AS(awaitFork(fork).wait(scope), std::out_of_range);
}

TEST_CASE_FIXTURE(LoopTest, "a copy that throws fails its branch and no other") {
  int copies = 0;
  ForkedPromise<Copied> fork = Promise<Copied>(Copied(copies, 2)).fork();
  auto a = fork.addBranch();
  auto b = fork.addBranch();
  auto c = fork.addBranch();
  CHECK(std::move(a).wait(scope).throwAt == 2);
  CHECK_THROWS_AS(std::move(b).wait(scope), std::runtime_error);
  CHECK(std::move(c).wait(scope).throwAt == 2);
}

TEST_CASE_FIXTURE(LoopTest, "a copy that throws is thrown from the co_await of the fork") {
  int copies = 0;
  ForkedPromise<Copied> fork = Promise<Copied>(Copied(copies, 1)).fork();
  auto body = [](const ForkedPromise<Copied>& forked) -> Promise<bool> {
    bool thrown = false;
    try {
      (void)co_await forked;
    } catch (const std::runtime_error&) {
      thrown = true;
    }
    (void)co_await forked;
    co_return thrown;
  };
  CHECK(body(fork).wait(scope));
}

TEST_CASE_FIXTURE(LoopTest, "a move into the fork that throws fails every branch") {
  bool armed = false;
  ForkedPromise<ThrowsOnMove> fork = Promise<ThrowsOnMove>(ThrowsOnMove(armed)).fork();
  auto a = fork.addBranch();
  auto b = fork.addBranch();
  armed = true;
  CHECK_THROWS_AS((void)std::move(a).wait(scope), std::runtime_error);
  CHECK_THROWS_AS((void)std::move(b).wait(scope), std::runtime_error);
}

// --------------------------------------------------------------------------------------- ownership

TEST_CASE_FIXTURE(LoopTest, "the work is cancelled with the last of the fork and its branches") {
  std::string log;
  std::optional<ForkedPromise<void>> fork = Promise<void>(NEVER_DONE).attach(Noted(log, "work")).fork();
  std::optional<Promise<void>> a = fork->addBranch().attach(Noted(log, "a"));
  std::optional<Promise<void>> b = fork->addBranch().attach(Noted(log, "b"));
  SUBCASE("the fork last") {
    a.reset();
    b.reset();
    CHECK(log == "a b ");
    fork.reset();
    CHECK(log == "a b work ");
  }
  SUBCASE("a branch last: the work goes before what the branch holds") {
    fork.reset();
    a.reset();
    CHECK(log == "a ");
    CHECK_FALSE(b->poll(scope));
    b.reset();
    CHECK(log == "a work b ");
  }
}

TEST_CASE_FIXTURE(LoopTest, "branches go on after the fork is gone, and after other branches are") {
  auto pair = newPromiseAndFulfiller<int>();
  std::optional<ForkedPromise<int>> fork = std::move(pair.promise).fork();
  std::vector<std::optional<Promise<int>>> branches;
  for (int i = 0; i < 5; ++i) branches.emplace_back(fork->addBranch());
  fork.reset();
  SUBCASE("the first is gone") { branches[0].reset(); }
  SUBCASE("one in the middle is gone") { branches[2].reset(); }
  SUBCASE("the last is gone") { branches[4].reset(); }
  SUBCASE("two neighbours are gone") {
    branches[3].reset();
    branches[2].reset();
  }
  CHECK(pair.fulfiller->isWaiting());
  pair.fulfiller->fulfill(6);
  for (auto& branch : branches)
    if (branch) CHECK(std::move(*branch).wait(scope) == 6);
}

TEST_CASE_FIXTURE(LoopTest, "a branch that is added after the last one was dropped hears") {
  auto pair = newPromiseAndFulfiller<int>();
  ForkedPromise<int> fork = std::move(pair.promise).fork();
  { Promise<int> dropped = fork.addBranch(); }
  Promise<int> kept = fork.addBranch();
  CHECK(takeAfter(kept, scope, [&] { pair.fulfiller->fulfill(2); }) == 2);
}

TEST_CASE_FIXTURE(LoopTest, "hasBranches tells whether anybody waits or may") {
  auto pair = newPromiseAndFulfiller<int>();
  ForkedPromise<int> fork = std::move(pair.promise).fork();
  CHECK_FALSE(fork.hasBranches());
  {
    Promise<int> a = fork.addBranch();
    CHECK(fork.hasBranches());
    Promise<int> chained = std::move(a).then([](int x) { return x; });
    CHECK(fork.hasBranches());
  }
  CHECK_FALSE(fork.hasBranches());
  {
    Promise<int> coroutine = awaitFork(fork);
    CHECK(fork.hasBranches());
  }
  CHECK_FALSE(fork.hasBranches());
  Promise<int> last = fork.addBranch();
  pair.fulfiller->fulfill(1);
  scope.poll();
  CHECK(fork.hasBranches()); // it has not been read yet
  CHECK(std::move(last).wait(scope) == 1);
  CHECK_FALSE(fork.hasBranches());
}

TEST_CASE_FIXTURE(LoopTest, "a continuation of a branch may destroy the fork and the other branches") {
  auto pair = newPromiseAndFulfiller<void>();
  std::optional<ForkedPromise<void>> fork = std::move(pair.promise).fork();
  std::string log;
  std::optional<Promise<void>> second;
  Promise<void> first = fork->addBranch()
                            .then([&] {
                              second.reset();
                              fork.reset();
                              log += "first ";
                            })
                            .eagerlyEvaluate(nullptr);
  second = fork->addBranch().then([&] { log += "second "; }).eagerlyEvaluate(nullptr);
  pair.fulfiller->fulfill();
  scope.poll();
  CHECK(log == "first ");
}

TEST_CASE_FIXTURE(LoopTest, "moving a fork keeps its branches, and assigning to one cancels what it held") {
  std::string log;
  ForkedPromise<int> a = Promise<int>(1).fork();
  ForkedPromise<int> b = Promise<int>(NEVER_DONE).attach(Noted(log, "old")).fork();
  Promise<int> branch = a.addBranch();
  b = std::move(a);
  CHECK(log == "old ");
  CHECK(std::move(branch).wait(scope) == 1);
  ForkedPromise<int> c = std::move(b);
  CHECK(c.addBranch().wait(scope) == 1);
}

TEST_CASE_FIXTURE(LoopTest, "assigning a fork to itself changes nothing") {
  ForkedPromise<int> fork = Promise<int>(1).fork();
  ForkedPromise<int>& same = fork;
  fork = std::move(same);
  CHECK(fork.addBranch().wait(scope) == 1);
}

TEST_CASE("a fork whose own work destroys it and its branches aborts and says so") {
  const ChildEnd end = runInChild([] {
    EventLoop loop;
    WaitScope scope(loop);
    std::optional<ForkedPromise<void>> fork;
    fork = evalLater([&] { fork.reset(); }).fork();
    scope.poll();
  });
  CHECK(end.aborted);
  CHECK(contains(end.errors, "destroyed by the code that it is running"));
}

TEST_CASE_FIXTURE(LoopTest, "work may destroy its fork while a branch lives") {
  std::optional<ForkedPromise<int>> fork;
  fork = evalLater([&] {
           fork.reset();
           return 4;
         }).fork();
  Promise<int> branch = fork->addBranch();
  CHECK(std::move(branch).wait(scope) == 4);
  CHECK_FALSE(fork.has_value());
}

// --------------------------------------------------------------------------------------- coroutines

TEST_CASE_FIXTURE(LoopTest, "a coroutine awaits a fork without consuming it, again and again") {
  auto pair = newPromiseAndFulfiller<int>();
  ForkedPromise<int> fork = std::move(pair.promise).fork();
  auto twice = [](const ForkedPromise<int>& f) -> Promise<int> { co_return co_await f + co_await f; };
  Promise<int> a = twice(fork);
  Promise<int> b = awaitFork(fork);
  CHECK(takeAfter(a, scope, [&] { pair.fulfiller->fulfill(21); }) == 42);
  CHECK(std::move(b).wait(scope) == 21);
  CHECK(awaitFork(fork).wait(scope) == 21);
}

TEST_CASE_FIXTURE(LoopTest, "a coroutine may await a fork that nobody else holds") {
  auto body = []() -> Promise<int> { co_return co_await evalLater([] { return 3; }).fork(); };
  CHECK(body().wait(scope) == 3);
}

TEST_CASE_FIXTURE(LoopTest, "awaiting a fork takes no block beyond the coroutine's frame") {
  ForkedPromise<int> fork = Promise<int>(NEVER_DONE).fork();
  const auto blocks = detail::liveBlocks();
  {
    Promise<int> coroutine = awaitFork(fork);
    CHECK(detail::liveBlocks() == blocks + 1);
  }
  CHECK(detail::liveBlocks() == blocks);
}

TEST_CASE_FIXTURE(LoopTest, "the first co_await of a ready fork suspends, later ones need not") {
  ForkedPromise<int> fork = Promise<int>(1).fork();
  scope.poll();
  std::string log;
  auto body = [&]() -> Promise<void> {
    log += "a";
    co_await fork;
    log += "b";
    co_await fork;
    log += "c";
  };
  Promise<void> coroutine = body();
  CHECK(log == "a");
  CHECK(loop.run(1) == 1);
  CHECK(log == "abc");
}

TEST_CASE_FIXTURE(LoopTest, "a fork outlives the fork object while a coroutine awaits it") {
  auto pair = newPromiseAndFulfiller<int>();
  std::optional<ForkedPromise<int>> fork = std::move(pair.promise).fork();
  Promise<int> coroutine = awaitFork(*fork);
  fork.reset();
  CHECK(takeAfter(coroutine, scope, [&] { pair.fulfiller->fulfill(5); }) == 5);
}

TEST_CASE("cancelling forks, branches and coroutines that await them at every step leaves nothing (R5)") {
  const std::size_t steps = cancelSweep([](LoopTest&) -> Promise<void> {
    auto value = std::make_unique<int>(1);
    ForkedPromise<int> fork = evalLater([] { return 7; }).fork();
    Promise<int> a = fork.addBranch();
    Promise<int> b = fork.addBranch().then([](int x) -> Promise<int> { return evalLater([x] { return x; }); });
    CHECK(co_await fork == 7);
    CHECK(co_await std::move(a) == 7);
    CHECK(co_await std::move(b) == 7);
    ForkedPromise<int> inner = fork.addBranch().then([](int x) { return x + 1; }).fork();
    Promise<int> first = awaitFork(inner);
    Promise<int> second = awaitFork(inner).exclusiveJoin(NEVER_DONE);
    CHECK(co_await std::move(second) == 8);
    CHECK(co_await std::move(first) == 8);
    ForkedPromise<void> failing = evalLater([] { throw std::runtime_error("x"); }).fork();
    bool failed = false;
    try {
      co_await failing;
    } catch (const std::runtime_error&) {
      failed = true;
    }
    CHECK(failed);
  });
  CHECK(steps >= 8);
}

TEST_CASE("cancelling chains on branches at every step leaves nothing (R5)") {
  const std::size_t steps = cancelSweep([](LoopTest&) {
    auto fork = std::make_shared<ForkedPromise<int>>(
        evalLater([] {}).then([]() -> Promise<int> { return evalLater([] { return 2; }); }).fork());
    Promise<int> other = fork->addBranch().eagerlyEvaluate(nullptr);
    return fork->addBranch()
        .then([fork](int) -> Promise<int> { return fork->addBranch(); })
        .attach(std::move(other))
        .then([](int x) { CHECK(x == 2); });
  });
  CHECK(steps >= 4);
}

// -------------------------------------------------------------------------------------------- misuse

TEST_CASE_FIXTURE(LoopTest, "forking or splitting a consumed promise throws and names the caller") {
  Promise<int> promise = 1;
  ForkedPromise<int> fork = std::move(promise).fork();
  const Exception e = thrownBy([&] { (void)std::move(promise).fork(); });
  CHECK(kindName(e) == "FAILED");
  CHECK(contains(e.description(), "consumed"));
  CHECK(fileOf(e) == "fork_test.cc");
  Promise<std::tuple<int>> tuple = std::tuple<int>(1);
  auto parts = std::move(tuple).split();
  const Exception f = thrownBy([&] { (void)std::move(tuple).split(); });
  CHECK(contains(f.description(), "consumed"));
  CHECK(fileOf(f) == "fork_test.cc");
}

TEST_CASE_FIXTURE(LoopTest, "a fork that was moved from refuses branches and awaits, and has no branches") {
  ForkedPromise<int> fork = Promise<int>(1).fork();
  ForkedPromise<int> taken = std::move(fork);
  CHECK_FALSE(fork.hasBranches());
  const Exception e = thrownBy([&] { (void)fork.addBranch(); });
  CHECK(contains(e.description(), "consumed"));
  CHECK(fileOf(e) == "fork_test.cc");
  const Exception f = failureOf(awaitFork(fork), scope);
  CHECK(contains(f.description(), "consumed"));
  CHECK(fileOf(f) == "fork_test.cc");
}

TEST_CASE("forking on a thread without a loop throws and names the caller") {
  NothingLeft nothingLeft;
  const Exception e = thrownBy([] { (void)Promise<void>(READY_NOW).fork(); });
  CHECK(contains(e.description(), "no event loop"));
  CHECK(fileOf(e) == "fork_test.cc");
  const Exception f = thrownBy([] { (void)Promise<std::tuple<int, int>>(std::tuple(1, 2)).split(); });
  CHECK(contains(f.description(), "no event loop"));
}

TEST_CASE("forking, splitting, joining, wrapping or evaluating another thread's promise throws, and touches it no more") {
  // In a child, because the promise is let go of: here it could not be destroyed.
  using Pair = std::tuple<int, int>;
  using Use = void (*)(Promise<Pair>);
  const std::pair<std::string, Use> uses[] = {
      {"fork", [](Promise<Pair> p) { (void)std::move(p).fork(); }},
      {"split", [](Promise<Pair> p) { (void)std::move(p).split(); }},
      {"eagerlyEvaluate", [](Promise<Pair> p) { (void)std::move(p).eagerlyEvaluate(nullptr); }},
      {"exclusiveJoin", [](Promise<Pair> p) { (void)std::move(p).exclusiveJoin(NEVER_DONE); }},
      {"exclusiveJoin, right", [](Promise<Pair> p) { (void)Promise<Pair>(NEVER_DONE).exclusiveJoin(std::move(p)); }},
      {"then, for a promise", [](Promise<Pair> p) { (void)std::move(p).then([](Pair) -> Promise<int> { return 1; }); }},
      {"wrap", [](Promise<Pair> p) { (void)Canceler().wrap(std::move(p)); }},
      {"detach", [](Promise<Pair> p) { std::move(p).detach([](Exception) {}); }},
      {"joinPromises", [](Promise<Pair> p) { (void)joinPromises(std::move(p), Promise<int>(1)); }},
      {"joinPromisesFailFast", [](Promise<Pair> p) { (void)joinPromisesFailFast(Promise<int>(1), std::move(p)); }},
      {"raceSuccessful", [](Promise<Pair> p) { (void)raceSuccessful(std::move(p), Promise<Pair>(NEVER_DONE)); }},
  };
  for (const auto& [name, use] : uses) {
    CAPTURE(name);
    const ChildEnd end = runInChild([used = use] {
      EventLoop loop;
      WaitScope scope(loop);
      auto pair = newPromiseAndFulfiller<Pair>();
      std::string seen;
      std::thread([&] {
        EventLoop other;
        WaitScope otherScope(other);
        try {
          used(std::move(pair.promise));
        } catch (const Exception& e) {
          seen = e.what();
        }
        if (other.liveEvents() != 0) seen += " events are left";
      }).join();
      if (!contains(seen, "another thread") || !contains(seen, "fork_test.cc") || contains(seen, "left"))
        throw std::logic_error("not the expected exception: " + seen);
      if (!pair.fulfiller->isWaiting()) throw std::logic_error("the promise was touched");
      pair.fulfiller->fulfill({3, 4});
      scope.poll();
    });
    CHECK_MESSAGE(end.finished, end.errors.substr(0, 600));
  }
}

TEST_CASE("a branch on another thread throws at once, and the fork goes on as if nothing had been") {
  const ChildEnd end = runInChild([] {
    EventLoop loop;
    WaitScope scope(loop);
    auto pair = newPromiseAndFulfiller<int>();
    ForkedPromise<int> fork = std::move(pair.promise).fork();
    std::string seen;
    std::thread([&] {
      EventLoop other;
      WaitScope otherScope(other);
      try {
        (void)fork.addBranch().wait(otherScope);
      } catch (const Exception& e) {
        seen = e.what();
      }
    }).join();
    if (!contains(seen, "another thread")) throw std::logic_error("no exception: " + seen);
    if (!contains(seen, "fork_test.cc")) throw std::logic_error("no place: " + seen);
    if (fork.hasBranches()) throw std::logic_error("a branch was left");
    pair.fulfiller->fulfill(3);
    if (fork.addBranch().wait(scope) != 3) throw std::logic_error("the fork is broken");
  });
  CHECK_MESSAGE(end.finished, end.errors.substr(0, 600));
}

TEST_CASE("a coroutine that awaits another thread's fork fails, and the fork goes on as if nothing had been") {
  const ChildEnd end = runInChild([] {
    EventLoop loop;
    WaitScope scope(loop);
    auto pair = newPromiseAndFulfiller<int>();
    ForkedPromise<int> fork = std::move(pair.promise).fork();
    std::string seen;
    std::thread([&] {
      EventLoop other;
      WaitScope otherScope(other);
      try {
        (void)awaitFork(fork).wait(otherScope);
      } catch (const Exception& e) {
        seen = e.description();
      }
    }).join();
    if (!contains(seen, "another thread")) throw std::logic_error("no exception: " + seen);
    Promise<int> branch = fork.addBranch();
    pair.fulfiller->fulfill(3);
    if (std::move(branch).wait(scope) != 3) throw std::logic_error("the fork is broken");
  });
  CHECK_MESSAGE(end.finished, end.errors.substr(0, 600));
}

// --------------------------------------------------------------------------------------------- split

TEST_CASE_FIXTURE(LoopTest, "split gives a promise for each element of a tuple or pair") {
  auto pair = newPromiseAndFulfiller<std::tuple<int, std::string, double>>();
  auto [number, text, real] = std::move(pair.promise).split();
  static_assert(std::is_same_v<decltype(text), Promise<std::string>>);
  CHECK_FALSE(number.poll(scope));
  CHECK(takeAfter(text, scope, [&] { pair.fulfiller->fulfill({1, "one", 1.5}); }) == "one");
  CHECK(std::move(number).wait(scope) == 1);
  CHECK(std::move(real).wait(scope) == 1.5);
  auto [first, second] = Promise<std::pair<int, char>>(std::pair(2, 'c')).split();
  CHECK(std::move(second).wait(scope) == 'c');
  CHECK(std::move(first).wait(scope) == 2);
}

TEST_CASE_FIXTURE(LoopTest, "split moves its elements, which need not be copyable") {
  using Part = std::unique_ptr<int>;
  auto parts = evalLater([] { return std::tuple<Part, Part>(std::make_unique<int>(1), std::make_unique<int>(2)); }).split();
  CHECK(*std::get<1>(std::move(parts)).wait(scope) == 2);
  CHECK(*std::get<0>(std::move(parts)).wait(scope) == 1);
}

TEST_CASE_FIXTURE(LoopTest, "each part of a split gets the failure") {
  auto parts = evalLater([]() -> std::tuple<int, int> { throw std::out_of_range("far"); }).split();
  CHECK_THROWS_AS(std::get<0>(std::move(parts)).wait(scope), std::out_of_range);
  CHECK_THROWS_AS(std::get<1>(std::move(parts)).wait(scope), std::out_of_range);
}

TEST_CASE_FIXTURE(LoopTest, "the work of a split is cancelled with the last part, before what that holds") {
  std::string log;
  std::optional<Promise<int>> kept;
  {
    auto [a, b] = Promise<std::tuple<int, int>>(NEVER_DONE).attach(Noted(log, "work")).split();
    kept = std::move(b).attach(Noted(log, "b"));
  }
  CHECK(log.empty());
  kept.reset();
  CHECK(log == "work b ");
}

TEST_CASE_FIXTURE(LoopTest, "a part that nobody takes is destroyed with the last part") {
  std::string log;
  auto parts = Promise<std::tuple<Noted, int>>(std::tuple<Noted, int>(Noted(log, "part"), 1)).split();
  {
    Promise<Noted> dropped = std::get<0>(std::move(parts));
    scope.poll();
  }
  CHECK(log.empty());
  CHECK(std::get<1>(std::move(parts)).wait(scope) == 1);
  CHECK(log == "part ");
}

TEST_CASE_FIXTURE(LoopTest, "a part whose move throws fails alone") {
  bool armed = false;
  auto parts = Promise<std::tuple<ThrowsOnMove, int>>(std::tuple<ThrowsOnMove, int>(ThrowsOnMove(armed), 5)).split();
  scope.poll();
  armed = true;
  CHECK_THROWS_AS((void)std::get<0>(std::move(parts)).wait(scope), std::runtime_error);
  CHECK(std::get<1>(std::move(parts)).wait(scope) == 5);
}

TEST_CASE_FIXTURE(LoopTest, "splitting a promise for an empty tuple leaves nothing, and cancels the work") {
  std::string log;
  std::tuple<> nothing = Promise<std::tuple<>>(NEVER_DONE).attach(Noted(log, "work")).split();
  (void)nothing;
  CHECK(log == "work ");
}

TEST_CASE("cancelling the parts of a split at every step leaves nothing (R5)") {
  const std::size_t steps = cancelSweep([](LoopTest&) -> Promise<void> {
    auto [a, b] = evalLater([] { return std::tuple(std::make_unique<int>(1), 2); }).split();
    Promise<int> later = std::move(b).then([](int x) -> Promise<int> { return evalLater([x] { return x; }); });
    CHECK(*co_await std::move(a) == 1);
    CHECK(co_await std::move(later) == 2);
  });
  CHECK(steps >= 3);
}

// --------------------------------------------------------------------------------------------- depth

TEST_CASE("100 000 forks of branches of forks complete, fail and are cancelled on a stack of 256 KiB (R1, R2)") {
  const ChildEnd end = runInChild([] {
    onStackOf(SMALL_STACK, [] {
      EventLoop loop;
      WaitScope scope(loop);
      const auto blocks = detail::liveBlocks();
      constexpr int DEPTH = 100'000;
      const auto tower = [](Promise<int> promise) {
        for (int i = 0; i < DEPTH; ++i) promise = std::move(promise).fork().addBranch();
        return promise;
      };
      { Promise<int> dropped = tower(NEVER_DONE); }
      if (tower(NEVER_DONE).poll(scope)) throw std::logic_error("ready");
      if (tower(5).wait(scope) != 5) throw std::logic_error("the value is wrong");
      if (kindName(failureOf(tower(Exception(Kind::OVERLOADED, "x")), scope)) != "OVERLOADED")
        throw std::logic_error("the failure is wrong");
      {
        Promise<int> half = tower(5);
        loop.run(DEPTH / 2);
      }
      if (detail::liveBlocks() != blocks) throw std::logic_error("blocks are left");
    });
  });
  CHECK_MESSAGE(end.finished, end.errors.substr(0, 600));
}

TEST_CASE("a tower of 1 000 000 forks (200 000 under a sanitizer) whose forks are all held is destroyed") {
  constexpr std::size_t DEPTH = SANITIZED ? 200'000 : 1'000'000;
  onStackOf(SMALL_STACK, [] {
    NothingLeft nothingLeft;
    EventLoop loop;
    WaitScope scope(loop);
    std::vector<ForkedPromise<void>> forks;
    forks.reserve(DEPTH);
    forks.push_back(Promise<void>(NEVER_DONE).fork());
    while (forks.size() < DEPTH) forks.push_back(forks.back().addBranch().fork());
    SUBCASE("from the newest on") {
      while (!forks.empty()) forks.pop_back();
    }
    SUBCASE("from the oldest on, so that all go with the last") {
      for (ForkedPromise<void>& fork : forks) ForkedPromise<void> gone = std::move(fork);
    }
    CHECK(loop.liveEvents() == 0);
  });
}

TEST_CASE_FIXTURE(LoopTest, "a fork with 100 000 branches tells all, and drops those that go") {
  constexpr int COUNT = 100'000;
  auto pair = newPromiseAndFulfiller<int>();
  ForkedPromise<int> fork = std::move(pair.promise).fork();
  std::vector<Promise<int>> branches;
  branches.reserve(COUNT);
  for (int i = 0; i < COUNT; ++i) branches.push_back(fork.addBranch());
  for (int i = 0; i < COUNT; i += 2) Promise<int> gone = std::move(branches[static_cast<std::size_t>(i)]);
  pair.fulfiller->fulfill(1);
  int sum = 0;
  for (int i = 1; i < COUNT; i += 2) sum += std::move(branches[static_cast<std::size_t>(i)]).wait(scope);
  CHECK(sum == COUNT / 2);
}

TEST_CASE_FIXTURE(LoopTest, "split of a tuple with a promise in it gives what that comes to") {
  auto pair = newPromiseAndFulfiller<int>();
  std::tuple<int, Promise<int>> both(1, std::move(pair.promise));
  auto [first, second] = Promise<std::tuple<int, Promise<int>>>(std::move(both)).split();
  static_assert(std::is_same_v<decltype(second), Promise<int>>);
  CHECK(std::move(first).wait(scope) == 1);
  CHECK_FALSE(second.poll(scope));
  pair.fulfiller->fulfill(2);
  CHECK(std::move(second).wait(scope) == 2);
}
