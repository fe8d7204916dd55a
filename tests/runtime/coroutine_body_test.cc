// SPDX-License-Identifier: MIT
// What may stand in the body of a coroutine, what of it lives how long, and when it runs beside then().
#include "helpers.h"

#include <troth/runtime/join.h>
#include <troth/runtime/pool_detail.h>
#include <troth/runtime/task_set.h>

#include <array>
#include <cstdio>
#include <map>
#include <stdexcept>
#include <vector>

using namespace troth;
using namespace troth::test;

namespace {

using Kind = Exception::Kind;

Promise<int> soon(int x) {
  co_await yield();
  co_return x;
}

template <typename T>
Promise<std::decay_t<T>> same(T&& value) {
  co_return std::forward<T>(value);
}

template <typename T>
Promise<T> checked(Promise<T> promise, Promise<bool> condition) {
  // In a variable: g++ 12 miscompiles an await in a condition where the outermost block has no variables.
  const bool holds = co_await std::move(condition);
  if (!holds) throw Exception(Kind::FAILED, "the condition does not hold");
  co_return co_await std::move(promise);
}

} // namespace

// ------------------------------------------------------------------------------------------ when it runs

TEST_CASE_FIXTURE(LoopTest, "the first await suspends in a turn and outside, with other work queued and without") {
  std::string log;
  const auto body = [&](Promise<void> awaited) -> Promise<void> {
    log += "begun ";
    co_await std::move(awaited);
    log += "resumed ";
  };
  const auto check = [&](bool busy) {
    for (const bool constant : {true, false}) {
      CAPTURE(busy);
      CAPTURE(constant);
      log.clear();
      Promise<void> other = READY_NOW;
      auto pair = newPromiseAndFulfiller<void>();
      if (busy) {
        other = std::move(pair.promise).eagerlyEvaluate(nullptr);
        pair.fulfiller->fulfill();
      }
      bool ran = false;
      Promise<void> promise = body(constant ? Promise<void>(READY_NOW) : evalLater([&] { ran = true; }));
      CHECK(log == "begun ");
      CHECK_FALSE(ran);
    }
  };
  check(false);
  check(true);
  int checks = 0;
  evalLater([&] { check(false), ++checks; }).eagerlyEvaluate(nullptr).wait(scope);
  evalLater([&] { check(true), ++checks; }).eagerlyEvaluate(nullptr).wait(scope);
  CHECK(checks == 2);
}

TEST_CASE_FIXTURE(LoopTest, "a coroutine does unasked what a chain of then() does when it is asked") {
  bool byThen = false;
  bool byAwait = false;
  Promise<void> chain = yield().then([&] { byThen = true; });
  const auto body = [&]() -> Promise<void> {
    co_await yield();
    byAwait = true;
  };
  Promise<void> coroutine = body();
  scope.poll();
  CHECK_FALSE(byThen);
  CHECK(byAwait);
  std::move(chain).wait(scope);
  CHECK(byThen);
}

TEST_CASE_FIXTURE(LoopTest, "nothing of a coroutine runs on after its call until the loop does, whatever it calls first") {
  std::string log;
  const auto inner = [&]() -> Promise<void> {
    log += "inner ";
    co_return;
  };
  const auto outer = [&]() -> Promise<void> {
    log += "outer ";
    co_await inner(); // has ended, but that is not to be seen yet
    log += "on ";
  };
  Promise<void> promise = outer();
  CHECK(log == "outer inner ");
  scope.poll();
  CHECK(log == "outer inner on ");
}

TEST_CASE_FIXTURE(LoopTest, "a coroutine that awaits nothing has ended when its call returns") {
  std::string log;
  const auto body = [&]() -> Promise<int> {
    Noted local(log, "local");
    co_return 4;
  };
  Promise<int> promise = body();
  CHECK(log == "local ");
  CHECK(std::move(promise).wait(scope) == 4);
}

// -------------------------------------------------------------------------------------- values and failures

TEST_CASE_FIXTURE(LoopTest, "a coroutine gives back what it is given: numbers, literals, move-only things, or it is dropped") {
  CHECK(same(123).wait(scope) == 123);
  CHECK(*same(std::make_unique<int>(456)).wait(scope) == 456);
  CHECK(std::string_view(same("text").wait(scope)) == "text");
  { Promise<const char*> dropped = same("unheard"); }
  CHECK(checked<int>(7, true).wait(scope) == 7);
  checked<void>(READY_NOW, true).wait(scope);
}

TEST_CASE_FIXTURE(LoopTest, "a failure goes through coroutines that wait for each other to the one who asks") {
  Promise<int> failing = checked<int>(NEVER_DONE, false);
  const Exception e = failureOf(checked<int>(std::move(failing), true), scope);
  CHECK(e.description() == "the condition does not hold");
  CHECK(fileOf(e) == "coroutine_body_test.cc");
}

TEST_CASE_FIXTURE(LoopTest, "a coroutine catches what it awaits, whether that has failed already or does later") {
  const auto body = [](Promise<void> awaited) -> Promise<std::string> {
    try {
      co_await std::move(awaited);
    } catch (const Exception& e) {
      co_return e.description();
    }
    co_return "nothing";
  };
  CHECK(body(Exception(Kind::FAILED, "at once")).wait(scope) == "at once");
  CHECK(body(evalLater([]() -> Promise<void> { return Exception(Kind::FAILED, "later"); })).wait(scope) == "later");
  CHECK(body(READY_NOW).wait(scope) == "nothing");
}

TEST_CASE_FIXTURE(LoopTest, "what is thrown in a try around an await is caught there, also by a local's destructor") {
  struct Throws {
    ~Throws() noexcept(false) { throw std::runtime_error("from a destructor"); }
  };
  std::string log;
  const auto body = [&](Promise<void> awaited) -> Promise<void> {
    try {
      Noted outer(log, "outer");
      Throws thrower;
      Noted inner(log, "inner");
      co_await std::move(awaited);
    } catch (const std::runtime_error& e) {
      log += e.what();
    }
    co_await yield();
    log += " on";
  };
  body(READY_NOW).wait(scope);
  CHECK(log == "inner outer from a destructor on");
}

TEST_CASE_FIXTURE(LoopTest, "an exception from a handler replaces the one that it handles, and may be the same") {
  const auto replaces = [](Promise<void> awaited) -> Promise<void> {
    try {
      co_await std::move(awaited);
    } catch (const Exception&) {
      throw std::out_of_range("another");
    }
  };
  const auto passes = [](Promise<void> awaited) -> Promise<void> {
    try {
      co_await std::move(awaited);
    } catch (...) {
      throw;
    }
  };
  CHECK_THROWS_AS(replaces(Exception(Kind::FAILED, "one")).wait(scope), std::out_of_range);
  CHECK(kindName(failureOf(passes(Exception(Kind::DISCONNECTED, "one")), scope)) == "DISCONNECTED");
}

TEST_CASE_FIXTURE(LoopTest, "the result of a coroutine is made before its locals go, and kept when a step is raced against it") {
  const auto body = []() -> Promise<std::string> {
    std::string local = "made of a local that is longer than a small string";
    co_await yield();
    co_return local;
  };
  CHECK(body().exclusiveJoin(NEVER_DONE).wait(scope) == "made of a local that is longer than a small string");
}

TEST_CASE_FIXTURE(LoopTest, "a result is converted to what the coroutine returns") {
  const auto text = [](bool early) -> Promise<std::string> {
    if (early) co_return "literal";
    co_await yield();
    co_return {'x', 'y'};
  };
  CHECK(text(true).wait(scope) == "literal");
  CHECK(text(false).wait(scope) == "xy");
  const auto pointer = []() -> Promise<std::shared_ptr<const int>> { co_return std::make_unique<int>(3); };
  CHECK(*pointer().wait(scope) == 3);
  const auto optional = []() -> Promise<std::optional<int>> { co_return std::nullopt; };
  CHECK_FALSE(optional().wait(scope).has_value());
}

// ------------------------------------------------------------------------------------- what stands in it

TEST_CASE_FIXTURE(LoopTest, "an await may stand in conditions, loops, initialisers, arguments and returns") {
  const auto body = []() -> Promise<int> {
    int sum = 0;
    if (co_await soon(1) == 1) sum += 1;
    for (int i = co_await soon(0); i < co_await soon(3); i += co_await soon(1)) sum += 10;
    for (const int x : std::array{co_await soon(100), co_await soon(200)}) sum += x;
    switch (co_await soon(2)) {
    case 2: sum += 1000; break;
    default: break;
    }
    while (co_await soon(sum) < 10'000) sum += co_await soon(9'000);
    const auto [a, b] = std::pair{co_await soon(20'000), co_await soon(30'000)};
    sum += std::max(a, b) + (co_await soon(1) != 0 ? co_await soon(100'000) : co_await soon(0));
    std::map<int, int> map;
    map[co_await soon(4)] = co_await soon(200'000);
    sum += map.at(4);
    const auto add = [&](int x) { sum += x; };
    add(co_await soon(1'000'000));
    co_return co_await soon(sum);
  };
  CHECK(body().wait(scope) == 1'340'331);
}

TEST_CASE_FIXTURE(LoopTest, "awaits of && and || are made as far as they decide") {
  std::string log;
  const auto ask = [&](std::string name, bool answer) -> Promise<bool> {
    log += name;
    co_await yield();
    co_return answer;
  };
  const auto body = [&]() -> Promise<void> {
    const bool yes = true; // a variable in the outermost block: see checked()
    if (co_await ask("a", false) && co_await ask("b", true)) log += "never";
    if (co_await ask("c", yes) || co_await ask("d", true)) log += "!";
  };
  body().wait(scope);
  CHECK(log == "ac!");
}

TEST_CASE_FIXTURE(LoopTest, "a temporary of an await's expression lives until the expression is done, or the coroutine is cancelled") {
  std::string log;
  const auto use = [&](const Noted&, Promise<void> awaited) -> Promise<void> {
    co_await std::move(awaited);
    log += "used ";
  };
  const auto body = [&](Promise<void> awaited) -> Promise<void> {
    co_await use(Noted(log, "temporary"), std::move(awaited));
    log += "on ";
  };
  body(yield()).wait(scope);
  CHECK(log == "used temporary on ");
  log.clear();
  {
    Promise<void> cancelled = body(NEVER_DONE);
    CHECK_FALSE(cancelled.poll(scope));
    CHECK(log.empty());
  }
  CHECK(log == "temporary ");
}

TEST_CASE_FIXTURE(LoopTest, "leaving a scope by break, continue, return or an exception destroys its locals, and awaits go on after it") {
  std::string log;
  const auto body = [&]() -> Promise<void> {
    for (int i = 0; i < 4; ++i) {
      Noted local(log, std::to_string(i));
      co_await yield();
      if (i == 0) continue;
      if (i == 1) {
        try {
          Noted inner(log, "inner");
          co_await Promise<void>(Exception(Kind::FAILED, "x"));
        } catch (const Exception&) {
          log += "caught ";
        }
        co_await yield();
        continue;
      }
      if (i == 2) break;
    }
    log += "after ";
    Noted last(log, "last");
    co_await yield();
    if (!log.empty()) co_return;
    log += "never ";
  };
  body().wait(scope);
  CHECK(log == "0 inner caught 1 2 after last ");
}

TEST_CASE_FIXTURE(LoopTest, "member functions, virtual ones, static ones and templates may be coroutines") {
  struct Base {
    virtual ~Base() = default;
    virtual Promise<int> ask() = 0;
  };
  struct Object final : Base {
    int member = 3;
    Promise<int> ask() override {
      co_await yield();
      co_return member;
    }
    Promise<int> constant() const {
      co_await yield();
      co_return member + 1;
    }
    static Promise<int> fixed() {
      co_await yield();
      co_return 5;
    }
  };
  Object object;
  Base& base = object;
  CHECK(base.ask().wait(scope) == 3);
  CHECK(object.constant().wait(scope) == 4);
  CHECK(Object::fixed().wait(scope) == 5);
  const auto generic = [](auto x) -> Promise<decltype(x)> {
    co_await yield();
    co_return x + x;
  };
  CHECK(generic(3).wait(scope) == 6);
  CHECK(generic(std::string("a")).wait(scope) == "aa");
}

TEST_CASE_FIXTURE(LoopTest, "a coroutine may hold promises, start several and await them in any order") {
  const auto body = []() -> Promise<int> {
    std::vector<Promise<int>> started;
    for (int i = 0; i < 5; ++i) started.push_back(soon(i));
    int digits = 0;
    for (std::size_t i = started.size(); i-- > 0;) digits = digits * 10 + co_await std::move(started[i]);
    co_return digits;
  };
  CHECK(body().wait(scope) == 43210);
}

TEST_CASE_FIXTURE(LoopTest, "a promise that a coroutine holds and does not await is cancelled when the coroutine ends or is cancelled") {
  std::string log;
  const auto body = [&](Promise<void> awaited) -> Promise<void> {
    Promise<void> held = Promise<void>(NEVER_DONE).attach(Noted(log, "held")).eagerlyEvaluate(nullptr);
    co_await std::move(awaited);
    log += "end ";
  };
  body(yield()).wait(scope);
  CHECK(log == "end held ");
  log.clear();
  {
    Promise<void> cancelled = body(NEVER_DONE);
    CHECK_FALSE(cancelled.poll(scope));
  }
  CHECK(log == "held ");
}

TEST_CASE_FIXTURE(LoopTest, "a coroutine may own the set of the tasks that work for it, which end with it") {
  struct Errors final : TaskSet::ErrorHandler {
    void taskFailed(Exception) override { FAIL_CHECK("no failure was expected"); }
  } errors;
  std::string log;
  const auto body = [&]() -> Promise<void> {
    std::string shared = "local ";
    TaskSet tasks(errors); // after what its tasks use
    const auto task = [&](Promise<void> awaited) -> Promise<void> {
      Noted own(log, "task");
      co_await std::move(awaited);
      log += shared;
    };
    tasks.add(task(READY_NOW));
    tasks.add(task(NEVER_DONE));
    co_await yieldUntilQueueEmpty();
    log += "end ";
  };
  body().wait(scope);
  CHECK(log == "local task end task ");
}

TEST_CASE_FIXTURE(LoopTest, "a parameter by value is the coroutine's own; one by reference is the caller's") {
  std::string log;
  const auto owns = [&](Noted, Promise<void> awaited) -> Promise<void> { co_await std::move(awaited); };
  {
    Noted mine(log, "mine");
    Promise<void> promise = owns(std::move(mine), NEVER_DONE);
    CHECK_FALSE(promise.poll(scope));
    CHECK(log.empty());
  }
  CHECK(log == "mine ");
  int count = 0;
  const auto borrows = [](int& x) -> Promise<void> {
    co_await yield();
    ++x;
  };
  borrows(count).wait(scope);
  CHECK(count == 1);
}

TEST_CASE("cancelling bodies of every shape at every step leaves nothing (R5)") {
  const std::size_t steps = cancelSweep([](LoopTest&) -> Promise<void> {
    return []() -> Promise<void> {
      std::vector<std::unique_ptr<int>> kept;
      for (int i = 0; i < 3; ++i) {
        auto owned = std::make_unique<int>(i);
        try {
          kept.push_back(std::make_unique<int>(co_await soon(*owned)));
          if (i == 1) co_await soon(0).then([](int) -> int { throw std::runtime_error("x"); });
        } catch (const std::runtime_error&) {
          continue;
        }
        const std::string text = co_await same(std::string(100, 'x')) + std::to_string(co_await soon(i));
        if (co_await soon(static_cast<int>(text.size())) < 0) co_return;
      }
      auto [a, b] = co_await joinPromisesFailFast(soon(1), soon(2).then([](int x) { return std::make_unique<int>(x); }));
      co_await soon(a + *b).ignoreResult();
    }();
  });
  CHECK(steps >= 15);
}
