// SPDX-License-Identifier: MIT
// Deadlines that are handed on, pauses that grow, and work that is tried again.
#include "../runtime/helpers.h"

#include <troth/timers/retry.h>
#include <troth/timers/simulated_loop.h>

#include <algorithm>
#include <limits>
#include <stdexcept>
#include <vector>

using namespace troth;
using namespace troth::test;
using namespace std::chrono_literals;
using Kind = Exception::Kind;

namespace {

struct DeadlineTest : LoopTest {
  ManualTimer timer;
};

struct RetryTest {
  NothingLeft nothingLeft;
  SimulatedLoop simulated;
  WaitScope& scope = simulated.waitScope();
  Timer& timer = simulated.timer();

  std::int64_t milliseconds() const { return simulated.elapsed() / 1ms; }
};

/// Gives the least or the most that it is asked for, or a share in between.
class FixedRandom final : public RandomSource {
public:
  explicit FixedRandom(double share) : share_(share) {}
  std::uint64_t upTo(std::uint64_t most) override {
    return share_ == 1 ? most : static_cast<std::uint64_t>(static_cast<double>(most) * share_);
  }

private:
  double share_;
};

const BackoffOptions PLAIN{.initial = 100ms, .max = 1s, .jitter = Jitter::NONE};

/// Fails as often as it is told to, each time after a millisecond.
struct Flaky {
  Timer& timer;
  int failures;
  Kind kind = Kind::DISCONNECTED;
  int calls = 0;

  Promise<int> operator()() {
    ++calls;
    return timer.afterDelay(1ms).then([this]() -> int {
      if (calls <= failures) throw Exception(kind, "no luck", std::make_error_code(std::errc::connection_reset));
      return calls;
    });
  }
};

Promise<void> passTime(ManualTimer& timer) {
  for (int rounds = 0; rounds < 10'000; ++rounds) {
    co_await yieldUntilQueueEmpty();
    if (const auto next = timer.nextEvent()) timer.advanceTo(std::max(*next, timer.now()));
  }
}

Promise<std::string> readLine(Timer& timer, Deadline deadline) {
  Promise<void> line = timer.afterDelay(5s);
  co_await deadline.limit(std::move(line), "reading a line");
  co_return "line";
}

} // namespace

// --- Deadline

TEST_CASE_FIXTURE(DeadlineTest, "a deadline says how much time is left, and can only become earlier") {
  const Deadline deadline = Deadline::in(timer, 10s);
  timer.advanceBy(4s);
  CHECK((deadline.left() == 6s));
  CHECK((deadline.earlier(2s).left() == 2s));
  CHECK((deadline.earlier(1h).time() == deadline.time()));
  CHECK((deadline.earlier(Deadline::at(timer, TimePoint(5s))).left() == 1s));
  CHECK((Deadline::none(timer).earlier(deadline).time() == deadline.time()));
  CHECK(deadline.earlier(-1s).isOver());
  CHECK_FALSE(deadline.isOver());
  deadline.check();
  timer.advanceBy(6s);
  CHECK(deadline.isOver());
  CHECK((deadline.left() == 0s));
  CHECK((deadline.earlier(1s).time() == deadline.time())); // one that is over stays over
  const Exception e = thrownBy([&] { deadline.check("sorting"); });
  CHECK(kindName(e) == "OVERLOADED");
  CHECK(e.description() == "timed out after 10s: sorting");
  CHECK(fileOf(e) == "retry_test.cc");
  ManualTimer other;
  CHECK(contains(thrownBy([&] { (void)deadline.earlier(Deadline::none(other)); }).description(), "different timers"));
}

TEST_CASE_FIXTURE(DeadlineTest, "limit() cancels what is not done in time, and says what it was") {
  std::string log;
  const Deadline deadline = Deadline::in(timer, 1500ms);
  timer.advanceBy(500ms);
  Promise<void> named = deadline.limit(Promise<void>(NEVER_DONE).attach(Noted(log, "work")), "the handshake");
  Promise<int> bare = deadline.limit(Promise<int>(NEVER_DONE));
  Promise<int> inTime = deadline.limit(timer.afterDelay(999ms).then([] { return 1; }));
  timer.advanceBy(999ms);
  CHECK(std::move(inTime).wait(scope) == 1);
  CHECK_FALSE(named.poll(scope));
  timer.advanceBy(1ms);
  REQUIRE(named.poll(scope));
  CHECK(log == "work ");
  const Exception e = failureOf(std::move(named), scope);
  CHECK(kindName(e) == "OVERLOADED");
  CHECK(e.description() == "timed out after 1.5s: the handshake");
  CHECK(e.code() == std::errc::timed_out);
  CHECK(fileOf(e) == "retry_test.cc");
  CHECK(failureOf(std::move(bare), scope).description() == "timed out after 1.5s");
  CHECK(deadline.limit(Promise<int>(2)).wait(scope) == 2); // what is ready is in time
}

TEST_CASE_FIXTURE(DeadlineTest, "no deadline costs no timer and never comes, and the ends of time are no undefined behaviour") {
  const Deadline none = Deadline::none(timer);
  Promise<void> unlimited = none.limit(Promise<void>(NEVER_DONE));
  CHECK_FALSE(timer.nextEvent());
  CHECK(none.isNone());
  CHECK((none.left() == Duration::max()));
  CHECK(Deadline::in(timer, Duration::max()).isNone());
  CHECK(Deadline::in(timer, Duration::min()).isOver());
  CHECK(Deadline::at(timer, TimePoint::min()).isOver());
  ManualTimer past(TimePoint::min());
  CHECK(thrownBy([&] { Deadline::in(timer, -1s).check(); }).description() == "timed out after 0ns");
  CHECK((Deadline::at(past, TimePoint::max() - 1ns).left() == Duration::max()));
  CHECK((Deadline::in(past, 1s).left() == 1s));
}

TEST_CASE_FIXTURE(DeadlineTest, "withDeadline bounds all that its function does, whose parts see how much is left") {
  std::string log;
  auto body = [&, big = std::vector<int>(100, 7)](Deadline deadline) -> Promise<std::string> {
    const Noted noted(log, "body");
    co_await timer.afterDelay(1s);
    CHECK((deadline.left() == 1s));
    CHECK(big.at(99) == 7); // the captures live
    co_return co_await readLine(timer, deadline);
  };
  Promise<std::string> page = withDeadline(timer, 2s, body, "the page");
  CHECK_FALSE(page.poll(scope));
  timer.advanceBy(1s);
  CHECK_FALSE(page.poll(scope));
  timer.advanceBy(1s);
  REQUIRE(page.poll(scope));
  // The innermost limit was set last and so comes last: all is cancelled, and what is said is of the whole.
  CHECK(failureOf(std::move(page), scope).description() == "timed out after 2s: the page");
  CHECK(log == "body ");
  // What is thrown at once is a failure like others, and what is not a promise is one.
  CHECK_THROWS_AS(withDeadline(timer, 2s, [](Deadline) -> int { throw std::logic_error("x"); }).wait(scope), std::logic_error);
  CHECK(withDeadline(timer, 2s, [](Deadline d) { return d.left(); }).wait(scope) == 2s);
  CHECK_FALSE(timer.nextEvent());
}

TEST_CASE_FIXTURE(DeadlineTest, "a deadline within another one can only be shorter") {
  const Deadline outer = Deadline::in(timer, 2s);
  const auto wait = [](Deadline) -> Promise<void> { return NEVER_DONE; };
  Promise<void> shorter = withDeadline(outer, 1s, wait, "inner");
  Promise<void> longer = withDeadline(outer, 1h, wait, "inner");
  timer.advanceBy(1s);
  CHECK(failureOf(std::move(shorter), scope).description() == "timed out after 1s: inner");
  CHECK_FALSE(longer.poll(scope));
  timer.advanceBy(1s);
  CHECK(failureOf(std::move(longer), scope).description() == "timed out after 2s: inner");
}

// --- Random numbers and pauses

TEST_CASE("seeded numbers are the same everywhere, within their bounds, and spread over all of them") {
  SeededRandom random(42);
  // The reference values of SplitMix64 for this seed.
  CHECK(random.upTo(UINT64_MAX) == 13679457532755275413u);
  CHECK(random.upTo(UINT64_MAX) == 2949826092126892291u);
  CHECK(random.upTo(0) == 0);
  int counts[6] = {};
  for (int i = 0; i < 6000; ++i) ++counts[random.upTo(5)];
  for (const int count : counts) CHECK((count > 850 && count < 1150));
  // A plain remainder would give the lower third of these half of the time.
  const std::uint64_t third = UINT64_C(1) << 62;
  int low = 0;
  for (int i = 0; i < 3000; ++i) {
    const std::uint64_t number = random.upTo(3 * third - 1);
    REQUIRE(number < 3 * third);
    if (number < third) ++low;
  }
  CHECK((low > 900 && low < 1100));
  SeededRandom one = SeededRandom::fromSystem();
  SeededRandom other = SeededRandom::fromSystem();
  CHECK(one.upTo(UINT64_MAX) != other.upTo(UINT64_MAX));
}

TEST_CASE("pauses grow up to the longest, and jitter keeps them within its bounds") {
  const auto pauses = [](Jitter jitter, double share) {
    Backoff backoff({.initial = 100ms, .max = 1s, .multiplier = 3, .jitter = jitter});
    FixedRandom random(share);
    std::vector<std::int64_t> result;
    for (int i = 0; i < 5; ++i) result.push_back(backoff.next(random) / 1ms);
    backoff.reset();
    CHECK(backoff.next(random) / 1ms == result.at(0));
    return result;
  };
  using List = std::vector<std::int64_t>;
  CHECK(pauses(Jitter::NONE, 0.5) == List{100, 300, 900, 1000, 1000});
  CHECK(pauses(Jitter::FULL, 0) == List{0, 0, 0, 0, 0});
  CHECK(pauses(Jitter::FULL, 0.5) == List{50, 150, 450, 500, 500});
  CHECK(pauses(Jitter::FULL, 1) == List{100, 300, 900, 1000, 1000});
  CHECK(pauses(Jitter::EQUAL, 0) == List{50, 150, 450, 500, 500});
  CHECK(pauses(Jitter::EQUAL, 1) == List{100, 300, 900, 1000, 1000});
  CHECK(pauses(Jitter::DECORRELATED, 0) == List{100, 100, 100, 100, 100});
  CHECK(pauses(Jitter::DECORRELATED, 0.5) == List{200, 350, 550, 550, 550});
  CHECK(pauses(Jitter::DECORRELATED, 1) == List{300, 900, 1000, 1000, 1000});
  // The longest there are do not overflow, and chance does not lead beyond the bounds.
  for (const Jitter jitter : {Jitter::NONE, Jitter::FULL, Jitter::EQUAL, Jitter::DECORRELATED}) {
    Backoff longest({.initial = 1ns, .max = Duration::max(), .multiplier = 1e12, .jitter = jitter});
    SeededRandom random(7);
    for (int i = 0; i < 100; ++i) CHECK((longest.next(random) >= 0ns));
  }
  Backoff doubled({.initial = 1ns, .max = Duration::max(), .jitter = Jitter::NONE}); // 2^63, exactly, is too much
  FixedRandom none(0), tooMuch(2);
  for (int i = 0; i < 63; ++i) CHECK((doubled.next(none) == Duration(std::int64_t{1} << i)));
  CHECK((doubled.next(none) == Duration::max()));
  CHECK((Backoff({.initial = 1s, .max = 1s}).next(tooMuch) == 1s)); // nor a source that is not what it should be
  const auto refused = [](BackoffOptions options) { return std::string(thrownBy([&] { Backoff backoff(options); }).description()); };
  CHECK(contains(refused({.initial = 0ms}), "initial pause must be positive"));
  CHECK(contains(refused({.initial = 2s, .max = 1s}), "shorter than the initial"));
  CHECK(contains(refused({.multiplier = 0.5}), "multiplier"));
  CHECK(contains(refused({.multiplier = std::numeric_limits<double>::quiet_NaN()}), "multiplier"));
}

// --- retry

TEST_CASE_FIXTURE(RetryTest, "what fails is tried again after pauses that grow, until it succeeds") {
  FixedRandom random(0.5);
  Flaky flaky{timer, 3};
  CHECK(retry(timer, {.backoff = PLAIN}, random, std::ref(flaky)).wait(scope) == 4);
  CHECK(milliseconds() == 1 + 100 + 1 + 200 + 1 + 400 + 1);
  // Without pauses there is nothing to wait for, nor any randomness asked for.
  CHECK(retry(timer, {}, [] { return 5; }).wait(scope) == 5);
  int calls = 0;
  retry(timer, {}, [&] {
    if (++calls < 3) throw Exception(Kind::OVERLOADED, "busy"); // a throw is a failure like others
  }).wait(scope);
  CHECK(calls == 3);
}

TEST_CASE_FIXTURE(RetryTest, "when attempts are exhausted the last error says how many there were, and keeps the rest") {
  Flaky flaky{timer, 100};
  SeededRandom random(1);
  const Exception e = failureOf(retry(timer, {.attempts = 3}, random, std::ref(flaky)), scope);
  CHECK(flaky.calls == 3);
  CHECK(e.description() == "gave up after 3 attempts: no luck");
  CHECK(kindName(e) == "DISCONNECTED");
  CHECK(e.code() == std::errc::connection_reset);
  CHECK(fileOf(e) == "retry_test.cc");
  flaky.calls = 0;
  CHECK(failureOf(retry(timer, {.attempts = 1}, random, std::ref(flaky)), scope).description() == "no luck");
  CHECK(flaky.calls == 1);
}

TEST_CASE_FIXTURE(RetryTest, "only what may help is tried again, unless the caller knows better") {
  SeededRandom random(1);
  for (const auto& [kind, calls] : {std::pair(Kind::FAILED, 1), {Kind::UNIMPLEMENTED, 1}, {Kind::OVERLOADED, 3}, {Kind::DISCONNECTED, 3}}) {
    Flaky flaky{timer, 100, kind};
    (void)failureOf(retry(timer, {.attempts = 3, .shouldRetry = nullptr}, random, std::ref(flaky)), scope);
    CHECK(flaky.calls == calls);
    flaky.calls = 0;
    (void)failureOf(retry(timer, {.attempts = 3}, random, std::ref(flaky)), scope);
    CHECK(flaky.calls == calls);
  }
  // What is not tried again is thrown as it was.
  CHECK_THROWS_AS(retry(timer, {}, random, []() -> Promise<int> { throw std::out_of_range("bug"); }).wait(scope), std::out_of_range);
  Flaky flaky{timer, 3, Kind::FAILED};
  CHECK(retry(timer, {.shouldRetry = [](const Exception& e) { return e.description() == "no luck"; }}, random, std::ref(flaky)).wait(scope) == 4);
  int calls = 0;
  const Exception e = failureOf(retry(timer, {}, random, [&]() -> Promise<void> {
    return Exception(++calls < 3 ? Kind::OVERLOADED : Kind::FAILED, "worse");
  }), scope);
  CHECK(e.description() == "gave up after 3 attempts: worse");
  CHECK(kindName(e) == "FAILED");
}

TEST_CASE_FIXTURE(RetryTest, "a deadline ends the attempt that is under way, and no pause is begun that would outlast it") {
  SeededRandom random(1);
  Flaky flaky{timer, 100};
  const RetryOptions options{.attempts = RetryOptions::UNLIMITED, .backoff = PLAIN, .deadline = Deadline::in(timer, 1s)};
  Exception e = failureOf(retry(timer, options, random, std::ref(flaky)), scope);
  CHECK(e.description() == "gave up after 4 attempts, since there is no time for another one: no luck");
  CHECK(milliseconds() == 1 + 100 + 1 + 200 + 1 + 400 + 1); // and not 800 more
  flaky.calls = 0; // a pause up to the very end leaves no time, either
  e = failureOf(retry(timer, {.backoff = PLAIN, .deadline = Deadline::in(timer, 101ms)}, random, std::ref(flaky)), scope);
  CHECK(flaky.calls == 1);
  CHECK(e.description() == "no luck");
  CHECK(milliseconds() == 705);
  int calls = 0;
  e = failureOf(retry(timer, options, random, [&]() -> Promise<int> {
    if (++calls == 1) return Exception(Kind::DISCONNECTED, "no luck");
    return NEVER_DONE;
  }), scope);
  CHECK(e.description() == "gave up after 2 attempts, since there is no time for another one: timed out after 1s");
  CHECK(kindName(e) == "OVERLOADED");
  CHECK(milliseconds() == 1000);
}

TEST_CASE_FIXTURE(RetryTest, "onRetry hears of each attempt that is followed by another, and may end it all") {
  FixedRandom random(1);
  Flaky flaky{timer, 2};
  std::string log;
  RetryOptions options{.backoff = PLAIN, .onRetry = [&](const FailedAttempt& attempt) {
    log += std::to_string(attempt.number) + " " + std::to_string(attempt.pause / 1ms) + " " + std::string(attempt.error.description()) + "; ";
  }};
  CHECK(retry(timer, options, random, std::ref(flaky)).wait(scope) == 3);
  CHECK(log == "1 100 no luck; 2 200 no luck; ");
  options.onRetry = [](const FailedAttempt&) { throw std::runtime_error("enough"); };
  flaky.calls = 0;
  CHECK_THROWS_AS(retry(timer, options, random, std::ref(flaky)).wait(scope), std::runtime_error);
  CHECK(flaky.calls == 1);
}

TEST_CASE_FIXTURE(RetryTest, "what the caller's functions and random source throw is what a retry fails with, and the last thing that it does") {
  struct NoRandom final : RandomSource {
    std::uint64_t upTo(std::uint64_t) override { throw std::out_of_range("no entropy"); }
  } noRandom;
  Flaky flaky{timer, 100};
  CHECK_THROWS_AS(retry(timer, {}, noRandom, std::ref(flaky)).wait(scope), std::out_of_range);
  const RetryOptions options{.shouldRetry = [](const Exception&) -> bool { throw std::domain_error("do not ask me"); }};
  CHECK_THROWS_AS(retry(timer, options, noRandom, std::ref(flaky)).wait(scope), std::domain_error);
  CHECK(flaky.calls == 2);
  simulated.runUntilIdle();
  CHECK(milliseconds() == 2);
}

TEST_CASE_FIXTURE(RetryTest, "retries with random numbers of their own do not come back together") {
  std::vector<Duration> pauses;
  const RetryOptions options{.attempts = 2, .onRetry = [&](const FailedAttempt& attempt) { pauses.push_back(attempt.pause); }};
  for (int i = 0; i < 4; ++i) {
    Flaky flaky{timer, 100};
    (void)failureOf(retry(timer, options, std::ref(flaky)), scope);
  }
  CHECK((pauses.size() == 4 && std::ranges::count(pauses, pauses[0]) < 4)); // of 100 million possible ones
}

TEST_CASE_FIXTURE(RetryTest, "options that make no sense are refused, with the caller's place") {
  SeededRandom random(1);
  const auto refused = [&](const RetryOptions& options) {
    const Exception e = thrownBy([&] { (void)retry(timer, options, random, [] { return 1; }); });
    CHECK(fileOf(e) == "retry_test.cc");
    return std::string(e.description());
  };
  CHECK(contains(refused({.attempts = 0}), "no attempts"));
  CHECK(contains(refused({.backoff = {.initial = 0ms}}), "initial pause"));
}

TEST_CASE_FIXTURE(DeadlineTest, "a retry that is cancelled stops at once, in an attempt and in a pause") {
  SeededRandom random(1);
  Flaky flaky{timer, 100};
  for (const Duration until : {Duration(500us), Duration(50ms)}) {
    flaky.calls = 0;
    {
      Promise<int> cancelled = retry(timer, {.backoff = PLAIN}, random, std::ref(flaky));
      timer.advanceBy(until);
      CHECK_FALSE(cancelled.poll(scope));
      timer.advanceBy(1ms);
      CHECK_FALSE(cancelled.poll(scope));
    }
    CHECK_FALSE(timer.nextEvent());
    CHECK(flaky.calls == 1);
  }
}

TEST_CASE("cancelling deadlines and retries at every step leaves nothing") {
  const std::size_t steps = cancelSweep([](LoopTest&) -> Promise<void> {
    ManualTimer timer;
    SeededRandom random(3);
    Flaky flaky{timer, 2};
    auto work = coCapture([&]() -> Promise<void> {
      auto attempt = [&, owned = std::make_unique<int>(1)](Deadline deadline) -> Promise<int> {
        const int result = co_await retry(timer, {.backoff = PLAIN, .deadline = deadline}, random, std::ref(flaky));
        co_await withDeadline(deadline, 10ms, [](Deadline) -> Promise<void> { return NEVER_DONE; }).catch_([](const Exception&) {});
        co_return result + *owned;
      };
      CHECK(co_await withDeadline(timer, 1h, std::move(attempt), "all") == 4);
    });
    co_await work().exclusiveJoin(passTime(timer));
  });
  CHECK(steps >= 10);
}
