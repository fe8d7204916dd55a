// SPDX-License-Identifier: MIT
// Result<T>, and asResult: failures as values.
#include "helpers.h"

#include <troth/runtime/pool_detail.h>
#include <troth/runtime/result.h>

#include <array>
#include <stdexcept>
#include <thread>

using namespace troth;
using namespace troth::test;

namespace {

using Kind = Exception::Kind;

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

TEST_CASE("a result has a value or an exception") {
  const Result<int> good = 5;
  CHECK(good.has_value());
  CHECK(static_cast<bool>(good));
  CHECK(*good == 5);
  CHECK(good.value() == 5);
  CHECK(good.value_or(1) == 5);
  const Result<int> bad = Exception(Kind::OVERLOADED, "full");
  CHECK_FALSE(bad.has_value());
  CHECK_FALSE(static_cast<bool>(bad));
  CHECK(bad.value_or(1) == 1);
  CHECK(bad.error().description() == "full");
  CHECK(kindName(bad.error()) == "OVERLOADED");
  CHECK(thrownBy([&] { (void)bad.value(); }).description() == "full");
}

TEST_CASE("a void result has succeeded or has an exception") {
  const Result<void> good;
  CHECK(good.has_value());
  good.value();
  const Result<void> bad = Exception(Kind::FAILED, "no");
  CHECK_FALSE(static_cast<bool>(bad));
  CHECK(bad.error().description() == "no");
  CHECK(thrownBy([&] { bad.value(); }).description() == "no");
}

TEST_CASE("asking a result that has a value for its error throws FAILED") {
  const Result<int> number = 1;
  CHECK(kindName(thrownBy([&] { (void)number.error(); })) == "FAILED");
  const Result<void> nothing;
  CHECK(kindName(thrownBy([&] { (void)nothing.error(); })) == "FAILED");
}

TEST_CASE("value throws the original type") {
  const Result<int> number = Exception::from(std::make_exception_ptr(std::out_of_range("far")));
  CHECK_THROWS_AS((void)number.value(), std::out_of_range);
  const Result<void> nothing = Exception::from(std::make_exception_ptr(std::out_of_range("far")));
  CHECK_THROWS_AS(nothing.value(), std::out_of_range);
}

TEST_CASE("a result may be read, changed, moved out of, copied and assigned") {
  Result<std::string> text = std::string("a");
  text->push_back('b');
  *text += 'c';
  text.value() += 'd';
  CHECK(text->size() == 4);
  const Result<std::string> copy = text;
  CHECK(*copy == "abcd");
  CHECK(copy->size() == 4);
  const std::string moved = std::move(text).value();
  CHECK(moved == "abcd");
  text = Exception(Kind::FAILED, "gone");
  CHECK_FALSE(text.has_value());
  CHECK(std::move(text).value_or("else") == "else");
  text = copy;
  CHECK(*std::move(text) == "abcd");
  Result<std::unique_ptr<int>> owner = std::make_unique<int>(3);
  CHECK(*std::move(owner).value_or(nullptr) == 3);
}

TEST_CASE_FIXTURE(LoopTest, "asResult of a promise that succeeds has its value") {
  CHECK(*Promise<int>(4).asResult().wait(scope) == 4);
  CHECK(evalLater([] {}).asResult().wait(scope).has_value());
  CHECK(Promise<void>(READY_NOW).asResult().wait(scope).has_value());
  CHECK(**Promise<std::unique_ptr<int>>(std::make_unique<int>(6)).asResult().wait(scope) == 6);
  using Big = std::array<std::uint8_t, 30'000>;
  Big big{};
  big.back() = 3;
  CHECK(*Promise<Big>(big).asResult().wait(scope) == big);
}

TEST_CASE_FIXTURE(LoopTest, "asResult of a promise that fails has its exception, and does not throw") {
  const Result<int> result = evalLater([]() -> int { throw std::out_of_range("far"); }).asResult().wait(scope);
  REQUIRE_FALSE(result.has_value());
  CHECK(result.error().description() == "far");
  CHECK_THROWS_AS((void)result.value(), std::out_of_range);
  const Result<void> nothing = Promise<void>(Exception(Kind::DISCONNECTED, "gone")).asResult().wait(scope);
  CHECK(kindName(nothing.error()) == "DISCONNECTED");
}

TEST_CASE_FIXTURE(LoopTest, "a value whose move throws is a result without one (R8)") {
  bool armed = false;
  auto promise = Promise<ThrowsOnMove>(ThrowsOnMove(armed)).asResult().then([&](const Result<ThrowsOnMove>& result) {
    armed = false;
    return result.has_value() ? std::string("a value") : std::string(result.error().description());
  });
  armed = true;
  CHECK(std::move(promise).wait(scope) == "no move");
}

TEST_CASE_FIXTURE(LoopTest, "asResult waits, and cancels what it waits for when it goes") {
  std::string log;
  auto pair = newPromiseAndFulfiller<int>();
  Promise<Result<int>> promise = std::move(pair.promise).asResult();
  CHECK(*takeAfter(promise, scope, [&] { pair.fulfiller->fulfill(9); }) == 9);
  { Promise<Result<int>> dropped = Promise<int>(NEVER_DONE).attach(Noted(log, "work")).asResult(); }
  CHECK(log == "work ");
}

TEST_CASE_FIXTURE(LoopTest, "a coroutine may await after a failure that it got as a value") {
  auto body = []() -> Promise<std::string> {
    Result<int> first = co_await evalLater([]() -> int { throw std::runtime_error("x"); }).asResult();
    if (first) co_return "no failure";
    Result<int> second = co_await evalLater([] { return 2; }).asResult();
    co_return std::string(first.error().description()) + std::to_string(*second);
  };
  CHECK(body().wait(scope) == "x2");
}

TEST_CASE_FIXTURE(LoopTest, "asResult of a consumed promise throws") {
  Promise<int> promise = 1;
  std::move(promise).wait(scope);
  CHECK(contains(thrownBy([&] { (void)std::move(promise).asResult(); }).description(), "consumed"));
}

TEST_CASE("cancelling what waits for results at every step leaves nothing (R5)") {
  const std::size_t steps = cancelSweep([](LoopTest&) -> Promise<void> {
    for (int i = 0; i < 3; ++i) {
      Result<std::unique_ptr<int>> result = co_await evalLater([i]() -> Promise<std::unique_ptr<int>> {
                                              if (i == 1) throw std::runtime_error("x");
                                              return evalLater([i] { return std::make_unique<int>(i); });
                                            }).asResult();
      CHECK(result.has_value() == (i != 1));
      CHECK((co_await evalLater([] {}).asResult()).has_value());
    }
  });
  CHECK(steps >= 6);
}

TEST_CASE("READY_NOW and constants may be used on many threads at once") {
  std::vector<std::thread> threads;
  std::array<int, 4> sums{};
  for (std::size_t t = 0; t < sums.size(); ++t)
    threads.emplace_back([&sum = sums[t]] {
      EventLoop loop;
      WaitScope scope(loop);
      for (int i = 0; i < 200; ++i) {
        sum += Promise<void>(READY_NOW).asResult().wait(scope).has_value() ? 1 : 0;
        sum += *constPromise<int, 2>().asResult().wait(scope);
        sum += constPromise<int, 3>().fork().addBranch().wait(scope);
        sum += constPromise<int, 4>().then([](int x) { return x; }).eagerlyEvaluate(nullptr).wait(scope);
        yield().exclusiveJoin(NEVER_DONE).wait(scope);
      }
    });
  for (std::thread& thread : threads) thread.join();
  for (const int sum : sums) CHECK(sum == 2000);
}
