// SPDX-License-Identifier: MIT
// Joins and races of many promises, in vectors and as arguments: values, failures, order, cancellation, depth.
#include "helpers.h"

#include <troth/runtime/join.h>
#include <troth/runtime/pool_detail.h>
#include <troth/runtime/task_set.h>

#include <array>
#include <stdexcept>
#include <vector>

using namespace troth;
using namespace troth::test;

namespace {

using Kind = Exception::Kind;

constexpr std::size_t SMALL_STACK = 256 * 1024;

/// Pairs, and their promises in a vector.
template <typename T>
struct Pairs {
  std::vector<std::unique_ptr<PromiseFulfiller<T>>> fulfillers;
  std::vector<Promise<T>> promises;

  explicit Pairs(std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) {
      auto pair = newPromiseAndFulfiller<T>();
      fulfillers.push_back(std::move(pair.fulfiller));
      promises.push_back(std::move(pair.promise));
    }
  }
  PromiseFulfiller<T>& operator[](std::size_t i) { return *fulfillers[i]; }
};

template <typename T, typename... Rest>
std::vector<Promise<T>> list(Promise<T> first, Rest... rest) {
  std::vector<Promise<T>> promises;
  promises.push_back(std::move(first));
  (promises.push_back(std::move(rest)), ...);
  return promises;
}

Exception failure(std::string_view description, Kind kind = Kind::FAILED) { return Exception(kind, description); }

struct FailOnError final : TaskSet::ErrorHandler {
  void taskFailed(Exception exception) override { FAIL_CHECK(exception.what()); }
};

struct ThrowsOnMove {
  bool* armed;
  explicit ThrowsOnMove(bool& a) : armed(&a) {}
  ThrowsOnMove(const ThrowsOnMove&) = default;
  ThrowsOnMove(ThrowsOnMove&& other) : armed(other.armed) {
    if (*armed) throw std::runtime_error("no move");
  }
  ThrowsOnMove& operator=(const ThrowsOnMove&) = default;
};

struct NoDefault {
  explicit NoDefault(int v) : value(v) {}
  int value;
};

} // namespace

// -------------------------------------------------------------------------------------- joinPromises

TEST_CASE_FIXTURE(LoopTest, "joinPromises gives all values in the order of the promises, whatever order they come in") {
  Pairs<int> pairs(3);
  Promise<std::vector<int>> all = joinPromises(std::move(pairs.promises));
  pairs[2].fulfill(3);
  pairs[0].fulfill(1);
  CHECK(takeAfter(all, scope, [&] { pairs[1].fulfill(2); }) == std::vector{1, 2, 3});
}

TEST_CASE_FIXTURE(LoopTest, "joinPromises of ready promises is ready, and of none is ready with nothing") {
  CHECK(joinPromises(list<int>(1, 2)).wait(scope) == std::vector{1, 2});
  CHECK(joinPromises(std::vector<Promise<int>>()).wait(scope).empty());
  Promise<void> nothing = joinPromises(std::vector<Promise<void>>());
  CHECK(nothing.poll(scope));
  std::move(nothing).wait(scope);
}

TEST_CASE_FIXTURE(LoopTest, "joinPromises of void promises gives a void promise") {
  Pairs<void> pairs(2);
  Promise<void> all = joinPromises(std::move(pairs.promises));
  pairs[1].fulfill();
  takeAfter(all, scope, [&] { pairs[0].fulfill(); });
}

TEST_CASE_FIXTURE(LoopTest, "joinPromises waits for all even if one has failed, and then fails with the first in order") {
  Pairs<int> pairs(4);
  Promise<std::vector<int>> all = joinPromises(std::move(pairs.promises));
  pairs[2].reject(failure("third", Kind::DISCONNECTED));
  CHECK_FALSE(all.poll(scope));
  pairs[1].reject(failure("second", Kind::OVERLOADED));
  CHECK_FALSE(all.poll(scope));
  pairs[0].fulfill(1);
  CHECK_FALSE(all.poll(scope));
  pairs[3].fulfill(4);
  REQUIRE(all.poll(scope));
  const Exception e = failureOf(std::move(all), scope);
  CHECK(e.description() == "second");
  CHECK(kindName(e) == "OVERLOADED");
}

TEST_CASE_FIXTURE(LoopTest, "joinPromises fails with the original type") {
  CHECK_THROWS_AS(
      joinPromises(list<void>(READY_NOW, evalLater([] { throw std::out_of_range("far"); }))).wait(scope),
      std::out_of_range);
}

TEST_CASE_FIXTURE(LoopTest, "joinPromises runs trailing continuations in order when its result is asked for") {
  std::string log;
  Pairs<int> pairs(2);
  std::vector<Promise<int>> promises;
  for (const char* name : {"a", "b"})
    promises.push_back(std::move(pairs.promises[promises.size()]).then([&log, name](int x) {
      log += name;
      return x;
    }));
  Promise<std::vector<int>> all = joinPromises(std::move(promises));
  pairs[1].fulfill(2);
  pairs[0].fulfill(1);
  CHECK(all.poll(scope));
  CHECK(log.empty());
  CHECK(std::move(all).wait(scope) == std::vector{1, 2});
  CHECK(log == "ab");
}

TEST_CASE_FIXTURE(LoopTest, "joinPromises whose first part fails still runs the continuations of the others") {
  std::string log;
  std::vector<Promise<void>> promises;
  promises.push_back(failure("x"));
  promises.push_back(Promise<void>(READY_NOW).then([&] { log += "ran"; }));
  CHECK(failureOf(joinPromises(std::move(promises)), scope).description() == "x");
  CHECK(log == "ran");
}

// ------------------------------------------------------------------------------ joinPromisesFailFast

TEST_CASE_FIXTURE(LoopTest, "joinPromisesFailFast gives all values in the order of the promises") {
  Pairs<int> pairs(3);
  Promise<std::vector<int>> all = joinPromisesFailFast(std::move(pairs.promises));
  pairs[2].fulfill(3);
  pairs[0].fulfill(1);
  CHECK(takeAfter(all, scope, [&] { pairs[1].fulfill(2); }) == std::vector{1, 2, 3});
}

TEST_CASE_FIXTURE(LoopTest, "joinPromisesFailFast of no promises is ready") {
  CHECK(joinPromisesFailFast(std::vector<Promise<int>>()).wait(scope).empty());
  CHECK(joinPromisesFailFast(std::vector<Promise<void>>()).poll(scope));
}

TEST_CASE_FIXTURE(LoopTest, "joinPromisesFailFast fails as soon as one does, while others are pending") {
  Pairs<int> pairs(3);
  Promise<std::vector<int>> all = joinPromisesFailFast(std::move(pairs.promises));
  pairs[0].fulfill(1);
  CHECK_FALSE(all.poll(scope));
  pairs[2].reject(failure("third", Kind::DISCONNECTED));
  REQUIRE(all.poll(scope));
  CHECK(pairs[1].isWaiting());
  const Exception e = failureOf(std::move(all), scope);
  CHECK(e.description() == "third");
  CHECK(kindName(e) == "DISCONNECTED");
  CHECK_FALSE(pairs[1].isWaiting());
}

TEST_CASE_FIXTURE(LoopTest, "joinPromisesFailFast keeps its first failure when others fail or succeed later") {
  Pairs<int> pairs(3);
  Promise<std::vector<int>> all = joinPromisesFailFast(std::move(pairs.promises));
  pairs[1].reject(failure("first"));
  scope.poll();
  pairs[0].reject(failure("second"));
  pairs[2].fulfill(1);
  scope.poll();
  CHECK(failureOf(std::move(all), scope).description() == "first");
}

TEST_CASE_FIXTURE(LoopTest, "joinPromisesFailFast evaluates each part as soon as it is ready, unasked, and frees its work") {
  std::string log;
  Pairs<int> pairs(2);
  std::vector<Promise<int>> promises;
  promises.push_back(std::move(pairs.promises[0]).attach(Noted(log, "work")).then([&log](int x) {
    log += "a ";
    return x;
  }));
  promises.push_back(std::move(pairs.promises[1]));
  Promise<std::vector<int>> all = joinPromisesFailFast(std::move(promises));
  pairs[0].fulfill(1);
  scope.poll();
  CHECK(log == "work a ");
  CHECK(takeAfter(all, scope, [&] { pairs[1].fulfill(2); }) == std::vector{1, 2});
}

TEST_CASE_FIXTURE(LoopTest, "joinPromisesFailFast fails at once with what a trailing continuation throws") {
  Promise<void> all = joinPromisesFailFast(list<void>(NEVER_DONE, Promise<void>(READY_NOW).then([] {
    throw std::out_of_range("far");
  })));
  REQUIRE(all.poll(scope));
  CHECK_THROWS_AS(std::move(all).wait(scope), std::out_of_range);
}

TEST_CASE_FIXTURE(LoopTest, "a value whose move throws fails joins and races of either sort (R8)") {
  bool armed = false;
  const auto make = [&] { return list<ThrowsOnMove>(ThrowsOnMove(armed), ThrowsOnMove(armed)); };
  Promise<std::vector<ThrowsOnMove>> all = joinPromises(make());
  Promise<std::vector<ThrowsOnMove>> fast = joinPromisesFailFast(make());
  Promise<ThrowsOnMove> race = raceSuccessful(make());
  auto tuple = joinPromises(Promise<int>(1), Promise<ThrowsOnMove>(ThrowsOnMove(armed)));
  armed = true;
  CHECK_THROWS_AS((void)std::move(all).wait(scope), std::runtime_error);
  CHECK_THROWS_AS((void)std::move(fast).wait(scope), std::runtime_error);
  CHECK_THROWS_AS((void)std::move(race).wait(scope), std::runtime_error);
  CHECK_THROWS_AS((void)std::move(tuple).wait(scope), std::runtime_error);
}

TEST_CASE_FIXTURE(LoopTest, "joins carry move-only, bool, non-default-constructible and large values") {
  using Part = std::unique_ptr<int>;
  auto moved = joinPromises(list<Part>(std::make_unique<int>(1), std::make_unique<int>(2))).wait(scope);
  CHECK(*moved.at(1) == 2);
  auto fast = joinPromisesFailFast(list<Part>(std::make_unique<int>(1), std::make_unique<int>(2))).wait(scope);
  CHECK(*fast.at(0) == 1);
  CHECK(*raceSuccessful(list<Part>(std::make_unique<int>(7))).wait(scope) == 7);
  CHECK(joinPromises(list<bool>(true, false)).wait(scope) == std::vector{true, false});
  CHECK(joinPromisesFailFast(list<bool>(true, false)).wait(scope) == std::vector{true, false});
  CHECK(joinPromisesFailFast(list<NoDefault>(NoDefault(1), NoDefault(2))).wait(scope).at(1).value == 2);
  using Big = std::array<std::uint8_t, 60'000>;
  Big big{};
  big.back() = 9;
  CHECK(joinPromises(list<Big>(big, big)).wait(scope).at(1) == big);
  CHECK(joinPromisesFailFast(list<Big>(big, big)).wait(scope).at(0) == big);
  CHECK(raceSuccessful(list<Big>(big, NEVER_DONE)).wait(scope) == big);
}

// ------------------------------------------------------------------------------------ raceSuccessful

TEST_CASE_FIXTURE(LoopTest, "raceSuccessful gives the first success and cancels the others before it is seen") {
  std::string log;
  Pairs<int> pairs(3);
  std::vector<Promise<int>> promises;
  for (std::size_t i = 0; i < 3; ++i)
    promises.push_back(std::move(pairs.promises[i]).attach(Noted(log, std::to_string(i))));
  Promise<int> race = raceSuccessful(std::move(promises)).then([&](int x) {
    log += "seen ";
    return x;
  });
  CHECK_FALSE(race.poll(scope));
  pairs[1].fulfill(11);
  CHECK(std::move(race).wait(scope) == 11);
  CHECK(log == "1 0 2 seen ");
  CHECK_FALSE(pairs[0].isWaiting());
}

TEST_CASE_FIXTURE(LoopTest, "raceSuccessful passes over failures while a success may still come") {
  Pairs<int> pairs(3);
  Promise<int> race = raceSuccessful(std::move(pairs.promises));
  pairs[0].reject(failure("a"));
  pairs[2].reject(failure("c"));
  CHECK(takeAfter(race, scope, [&] { pairs[1].fulfill(5); }) == 5);
}

TEST_CASE_FIXTURE(LoopTest, "raceSuccessful of promises that all fail gives the last failure in time") {
  Pairs<int> pairs(3);
  Promise<int> race = raceSuccessful(std::move(pairs.promises));
  pairs[2].reject(failure("c"));
  pairs[0].reject(failure("a"));
  CHECK_FALSE(race.poll(scope));
  pairs[1].reject(failure("b", Kind::OVERLOADED));
  const Exception e = failureOf(std::move(race), scope);
  CHECK(e.description() == "b");
  CHECK(kindName(e) == "OVERLOADED");
}

TEST_CASE_FIXTURE(LoopTest, "raceSuccessful of void promises is over with the first success") {
  Pairs<void> pairs(2);
  Promise<void> race = raceSuccessful(std::move(pairs.promises));
  takeAfter(race, scope, [&] { pairs[1].fulfill(); });
}

TEST_CASE_FIXTURE(LoopTest, "of promises that are ready the first in the vector wins the race") {
  CHECK(raceSuccessful(list<int>(1, 2, 3)).wait(scope) == 1);
  CHECK(raceSuccessful(list<int>(failure("x"), 2, 3)).wait(scope) == 2);
}

TEST_CASE_FIXTURE(LoopTest, "the continuations of those who lose a race do not run") {
  std::string log;
  std::vector<Promise<int>> promises;
  for (int i = 0; i < 3; ++i)
    promises.push_back(Promise<int>(i).then([&log](int x) {
      log += std::to_string(x);
      return x;
    }));
  CHECK(raceSuccessful(std::move(promises)).wait(scope) == 0);
  CHECK(log == "0");
}

TEST_CASE_FIXTURE(LoopTest, "a race of no promises throws and names the caller") {
  const Exception e = thrownBy([] { (void)raceSuccessful(std::vector<Promise<int>>()); });
  CHECK(kindName(e) == "FAILED");
  CHECK(contains(e.description(), "raceSuccessful"));
  CHECK(fileOf(e) == "join_test.cc");
}

TEST_CASE_FIXTURE(LoopTest, "a loser that settles while it is cancelled changes nothing") {
  auto late = newPromiseAndFulfiller<int>();
  struct OnExit {
    std::unique_ptr<PromiseFulfiller<int>> fulfiller;
    explicit OnExit(std::unique_ptr<PromiseFulfiller<int>> f) : fulfiller(std::move(f)) {}
    OnExit(OnExit&&) = default;
    ~OnExit() {
      if (fulfiller) fulfiller->fulfill(99);
    }
  };
  auto winner = newPromiseAndFulfiller<int>();
  Promise<int> race = raceSuccessful(std::move(winner.promise),
                                     Promise<int>(NEVER_DONE).attach(OnExit(std::move(late.fulfiller))),
                                     std::move(late.promise));
  CHECK(takeAfter(race, scope, [&] { winner.fulfiller->fulfill(1); }) == 1);
}

// ---------------------------------------------------------------------------------------- as arguments

TEST_CASE_FIXTURE(LoopTest, "promises of different types are joined to a tuple, in which a monostate stands for void") {
  auto number = newPromiseAndFulfiller<int>();
  auto text = newPromiseAndFulfiller<std::string>();
  Promise<std::tuple<int, std::monostate, std::string>> all =
      joinPromises(std::move(number.promise), Promise<void>(READY_NOW), std::move(text.promise));
  text.fulfiller->fulfill("one");
  const auto [n, none, t] = takeAfter(all, scope, [&] { number.fulfiller->fulfill(1); });
  CHECK(n == 1);
  CHECK(t == "one");
  (void)none;
  const auto fast = joinPromisesFailFast(Promise<int>(2), evalLater([] {}), evalLater([] { return 'c'; })).wait(scope);
  CHECK(std::get<0>(fast) == 2);
  CHECK(std::get<2>(fast) == 'c');
  CHECK(std::get<0>(joinPromises(Promise<int>(5)).wait(scope)) == 5);
}

TEST_CASE_FIXTURE(LoopTest, "a join of arguments fails with the first failure in order, a fail-fast one with the first in time") {
  SUBCASE("joinPromises") {
    Pairs<int> pairs(2);
    auto all = joinPromises(std::move(pairs.promises[0]), std::move(pairs.promises[1]));
    pairs[1].reject(failure("second"));
    CHECK_FALSE(all.poll(scope));
    pairs[0].reject(failure("first"));
    CHECK(failureOf(std::move(all), scope).description() == "first");
  }
  SUBCASE("joinPromisesFailFast") {
    Pairs<int> pairs(2);
    auto all = joinPromisesFailFast(std::move(pairs.promises[0]), std::move(pairs.promises[1]));
    pairs[1].reject(failure("second"));
    REQUIRE(all.poll(scope));
    CHECK(pairs[0].isWaiting());
    CHECK(failureOf(std::move(all), scope).description() == "second");
    CHECK_FALSE(pairs[0].isWaiting());
  }
}

TEST_CASE_FIXTURE(LoopTest, "a join of arguments runs their continuations in order; a fail-fast one in the order of readiness") {
  std::string log;
  Pairs<void> pairs(2);
  auto first = std::move(pairs.promises[0]).then([&] { log += "a"; });
  auto second = std::move(pairs.promises[1]).then([&] { log += "b"; });
  SUBCASE("joinPromises") {
    auto all = joinPromises(std::move(first), std::move(second));
    pairs[1].fulfill();
    pairs[0].fulfill();
    (void)std::move(all).wait(scope);
    CHECK(log == "ab");
  }
  SUBCASE("joinPromisesFailFast") {
    auto all = joinPromisesFailFast(std::move(first), std::move(second));
    pairs[1].fulfill();
    pairs[0].fulfill();
    (void)std::move(all).wait(scope);
    CHECK(log == "ba");
  }
}

TEST_CASE_FIXTURE(LoopTest, "a race of arguments gives the first success") {
  auto slow = newPromiseAndFulfiller<int>();
  CHECK(raceSuccessful(std::move(slow.promise), Promise<int>(failure("x")), Promise<int>(3)).wait(scope) == 3);
  CHECK_FALSE(slow.fulfiller->isWaiting());
}

TEST_CASE_FIXTURE(LoopTest, "joins may be awaited, chained, forked and raced") {
  auto body = []() -> Promise<int> {
    auto [a, b] = co_await joinPromisesFailFast(evalLater([] { return 1; }), Promise<int>(2));
    std::vector<int> more = co_await joinPromises(list<int>(a, b));
    co_return more.at(0) + more.at(1);
  };
  CHECK(body().wait(scope) == 3);
  ForkedPromise<std::vector<int>> fork = joinPromises(list<int>(1, 2)).fork();
  CHECK(fork.addBranch().wait(scope) == std::vector{1, 2});
  CHECK(joinPromises(list<int>(4)).exclusiveJoin(NEVER_DONE).wait(scope) == std::vector{4});
  CHECK(joinPromisesFailFast(list<int>(4)).exclusiveJoin(NEVER_DONE).eagerlyEvaluate(nullptr).wait(scope) == std::vector{4});
}

TEST_CASE_FIXTURE(LoopTest, "a join that was polled may be polled again, and awaited") {
  Pairs<int> pairs(2);
  Promise<std::vector<int>> all = joinPromises(std::move(pairs.promises));
  CHECK_FALSE(all.poll(scope));
  CHECK_FALSE(all.poll(scope));
  pairs[0].fulfill(1);
  pairs[1].fulfill(2);
  CHECK(all.poll(scope));
  CHECK(all.poll(scope));
  CHECK(std::move(all).wait(scope) == std::vector{1, 2});
}

// -------------------------------------------------------------------------------------------- order

TEST_CASE_FIXTURE(LoopTest, "a join that the last part completes is heard of before what is queued, as in KJ") {
  FailOnError handler;
  TaskSet tasks(handler);
  std::string log;
  const auto note = [&log](const char* name) { return [&log, name] { log += name; }; };
  Pairs<void> pairs(2);
  tasks.add(joinPromises(std::move(pairs.promises)).then(note("1")));
  scope.poll();
  tasks.add(evalLater([&] {
    tasks.add(evalLater(note("2")));
    pairs[0].fulfill();
    pairs[1].fulfill();
  }));
  scope.poll();
  CHECK(log == "12");
}

TEST_CASE_FIXTURE(LoopTest, "a join of ready promises waits for its turn, as in KJ") {
  FailOnError handler;
  TaskSet tasks(handler);
  std::string log;
  const auto note = [&log](const char* name) { return [&log, name] { log += name; }; };
  tasks.add(evalLater([&] {
    tasks.add(evalLater(note("1")));
    tasks.add(joinPromises(list<void>(READY_NOW, READY_NOW)).then(note("3")));
    tasks.add(evalLater(note("2")));
  }));
  scope.poll();
  // The join's parts are heard of in their turn, between 1 and 2, and whoever waits for the join next after that.
  CHECK(log == "132");
}

// --------------------------------------------------------------------------------------- ownership

TEST_CASE_FIXTURE(LoopTest, "destroying a join cancels all its parts, in their order, before what holds them") {
  std::string log;
  const auto make = [&] {
    return list<int>(Promise<int>(NEVER_DONE).attach(Noted(log, "a")), Promise<int>(NEVER_DONE).attach(Noted(log, "b")));
  };
  SUBCASE("joinPromises") { Promise<std::vector<int>> p = joinPromises(make()).attach(Noted(log, "outer")); }
  SUBCASE("joinPromisesFailFast") { Promise<std::vector<int>> p = joinPromisesFailFast(make()).attach(Noted(log, "outer")); }
  SUBCASE("raceSuccessful") { Promise<int> p = raceSuccessful(make()).attach(Noted(log, "outer")); }
  SUBCASE("of arguments") {
    auto p = joinPromises(Promise<void>(NEVER_DONE).attach(Noted(log, "a")), Promise<int>(NEVER_DONE).attach(Noted(log, "b")))
                 .attach(Noted(log, "outer"));
  }
  CHECK(log == "a b outer ");
}

TEST_CASE("a part that destroys its own join aborts and says so") {
  enum Sort { ALL, FAST, RACE };
  for (const Sort sort : {ALL, FAST, RACE}) {
    CAPTURE(sort);
    const ChildEnd end = runInChild([sort] {
      EventLoop loop;
      WaitScope scope(loop);
      std::optional<Promise<void>> join;
      auto parts = list<void>(evalLater([&] { join.reset(); }), NEVER_DONE);
      if (sort == ALL)
        join = joinPromises(list<void>(evalLater([&] { join.reset(); }))).eagerlyEvaluate(nullptr);
      else if (sort == FAST)
        join = joinPromisesFailFast(std::move(parts));
      else
        join = raceSuccessful(std::move(parts));
      scope.poll();
    });
    CHECK(end.aborted);
    CHECK_MESSAGE(contains(end.errors, "destroyed by the code that it is running"), end.errors.substr(0, 400));
  }
}

TEST_CASE_FIXTURE(LoopTest, "whoever hears of a join may destroy what its parts held") {
  Pairs<void> pairs(2);
  auto held = std::make_unique<Pairs<void>>(1);
  std::vector<Promise<void>> parts = std::move(pairs.promises);
  Promise<void> all = joinPromisesFailFast(std::move(parts)).then([&] { held.reset(); }).eagerlyEvaluate(nullptr);
  pairs[0].fulfill();
  pairs[1].fulfill();
  scope.poll();
  CHECK(held == nullptr);
}

TEST_CASE("cancelling joins and races at every step leaves nothing (R5)") {
  const std::size_t steps = cancelSweep([](LoopTest&) -> Promise<void> {
    const auto part = [](int laps) -> Promise<int> {
      auto local = std::make_unique<int>(laps);
      for (int i = 0; i < laps; ++i) co_await evalLater([] {});
      if (laps == 3) throw std::runtime_error("x");
      co_return *local;
    };
    const std::vector<int> all = co_await joinPromises(list<int>(part(2), part(0), part(1)));
    CHECK(all.at(0) == 2);
    CHECK(all.at(2) == 1);
    const std::vector<int> fast = co_await joinPromisesFailFast(list<int>(part(2), part(0), part(1)));
    CHECK(fast.at(0) == 2);
    CHECK(co_await raceSuccessful(list<int>(part(4), part(3), part(5))) == 4);
    const auto [a, b] = co_await joinPromisesFailFast(part(1), part(2));
    CHECK(a + b == 3);
    for (int i = 0; i < 3; ++i) {
      bool failed = false;
      try {
        if (i == 0) (void)co_await joinPromises(list<int>(part(1), part(3), part(5)));
        if (i == 1) (void)co_await joinPromisesFailFast(list<int>(part(1), part(3), part(5)));
        if (i == 2) co_await raceSuccessful(evalLater([] { throw std::runtime_error("y"); }), Promise<void>(failure("z")));
      } catch (const std::exception&) {
        failed = true;
      }
      CHECK(failed);
    }
  });
  CHECK(steps >= 20);
}

TEST_CASE("cancelling nested joins of chains at every step leaves nothing (R5)") {
  const std::size_t steps = cancelSweep([](LoopTest&) {
    const auto leaf = [](int x) {
      return evalLater([x]() -> Promise<int> { return evalLater([x] { return x; }).attach(std::make_unique<int>(x)); });
    };
    return joinPromises(joinPromisesFailFast(leaf(1), leaf(2)), raceSuccessful(leaf(3), leaf(4)),
                        joinPromises(list<int>(leaf(5), leaf(6))))
        .then([](std::tuple<std::tuple<int, int>, int, std::vector<int>> all) {
          CHECK(std::get<0>(all) == std::tuple(1, 2));
          CHECK((std::get<1>(all) == 3 || std::get<1>(all) == 4)); // the compiler chooses which leaf is made first
          CHECK(std::get<2>(all) == std::vector{5, 6});
        });
  });
  CHECK(steps >= 8);
}

// -------------------------------------------------------------------------------------------- misuse

TEST_CASE_FIXTURE(LoopTest, "a consumed promise in a join throws, names the caller, and cancels the others") {
  std::string log;
  Promise<int> consumed = 1;
  std::move(consumed).wait(scope);
  const auto make = [&] {
    std::vector<Promise<int>> promises;
    promises.push_back(Promise<int>(NEVER_DONE).attach(Noted(log, "a")));
    promises.push_back(std::move(consumed));
    promises.push_back(Promise<int>(NEVER_DONE).attach(Noted(log, "b")));
    return promises;
  };
  std::optional<Exception> e;
  SUBCASE("joinPromises") { e = thrownBy([&] { (void)joinPromises(make()); }); }
  SUBCASE("joinPromisesFailFast") { e = thrownBy([&] { (void)joinPromisesFailFast(make()); }); }
  SUBCASE("raceSuccessful") { e = thrownBy([&] { (void)raceSuccessful(make()); }); }
  SUBCASE("of arguments, made here") {
    e = thrownBy([&] {
      (void)joinPromises(evalLater([] {}).attach(Noted(log, "a")), std::move(consumed), Promise<void>(NEVER_DONE).attach(Noted(log, "b")));
    });
  }
  CHECK(contains(e->description(), "consumed"));
  CHECK(fileOf(*e) == "join_test.cc");
  CHECK(log.size() == 4);
}

TEST_CASE("joining on a thread without a loop throws, names the caller, and destroys the promises") {
  NothingLeft nothingLeft;
  std::string log;
  const Exception e = thrownBy([&] { (void)joinPromises(list<void>(Promise<void>(NEVER_DONE).attach(Noted(log, "a")))); });
  CHECK(contains(e.description(), "no event loop"));
  CHECK(fileOf(e) == "join_test.cc");
  CHECK(log == "a ");
}

// --------------------------------------------------------------------------------------------- depth

TEST_CASE("joins of joins, 100 000 deep (20 000 under a sanitizer), complete, fail and are cancelled on a stack of 256 KiB (R1, R2)") {
  enum Sort { ALL, FAST, RACE, TUPLE };
  for (const Sort sort : {ALL, FAST, RACE, TUPLE}) {
    CAPTURE(sort);
    const ChildEnd end = runInChild([sort] {
      onStackOf(SMALL_STACK, [sort] {
        EventLoop loop;
        WaitScope scope(loop);
        constexpr int DEPTH = SANITIZED ? 20'000 : 100'000;
        const auto blocks = detail::liveBlocks();
        const auto tower = [sort](Promise<void> promise) {
          for (int i = 0; i < DEPTH; ++i) {
            std::vector<Promise<void>> one = list<void>(std::move(promise), READY_NOW);
            if (sort == ALL) promise = joinPromises(std::move(one));
            if (sort == FAST) promise = joinPromisesFailFast(std::move(one));
            if (sort == RACE) {
              one.pop_back();
              promise = raceSuccessful(std::move(one));
            }
            if (sort == TUPLE) promise = joinPromises(std::move(one[0]), std::move(one[1])).ignoreResult();
          }
          return promise;
        };
        { Promise<void> dropped = tower(NEVER_DONE); }
        if (tower(NEVER_DONE).poll(scope)) throw std::logic_error("ready");
        tower(READY_NOW).wait(scope);
        if (kindName(failureOf(tower(failure("x", Kind::OVERLOADED)), scope)) != "OVERLOADED") throw std::logic_error("the failure is wrong");
        {
          Promise<void> half = tower(READY_NOW);
          loop.run(DEPTH / 2);
        }
        { Promise<void> ready = tower(READY_NOW); scope.poll(); }
        if (detail::liveBlocks() != blocks) throw std::logic_error("blocks are left");
      });
    });
    CHECK_MESSAGE(end.finished, end.errors.substr(0, 600));
  }
}

TEST_CASE_FIXTURE(LoopTest, "a join of 100 000 promises completes, fails fast and is cancelled") {
  constexpr std::size_t COUNT = 100'000;
  Pairs<int> pairs(COUNT);
  const auto blocks = detail::liveBlocks();
  Promise<std::vector<int>> all = joinPromisesFailFast(std::move(pairs.promises));
  for (std::size_t i = COUNT; i-- > 0;) pairs[i].fulfill(static_cast<int>(i));
  const std::vector<int> values = std::move(all).wait(scope);
  REQUIRE(values.size() == COUNT);
  CHECK(values.front() == 0);
  CHECK(values.back() == static_cast<int>(COUNT) - 1);
  std::vector<Promise<int>> more;
  for (std::size_t i = 0; i < COUNT; ++i) more.push_back(NEVER_DONE);
  more.push_back(failure("x"));
  CHECK(failureOf(joinPromisesFailFast(std::move(more)), scope).description() == "x");
  std::vector<Promise<int>> dropped;
  for (std::size_t i = 0; i < COUNT; ++i) dropped.push_back(NEVER_DONE);
  { Promise<int> race = raceSuccessful(std::move(dropped)); }
  CHECK(loop.liveEvents() == 0);
  CHECK(detail::liveBlocks() <= blocks);
}
