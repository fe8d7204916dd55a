// SPDX-License-Identifier: MIT
// Ticker, Debouncer, Throttler and RateLimiter: schedules, bursts, windows, fairness, and what cancelling leaves.
#include "../runtime/helpers.h"

#include <troth/timers/debounce.h>
#include <troth/timers/rate_limiter.h>
#include <troth/timers/simulated_loop.h>
#include <troth/timers/ticker.h>

#include <random>
#include <thread>
#include <vector>

using namespace troth;
using namespace troth::test;
using namespace std::chrono_literals;

namespace {

struct PacingTest : LoopTest {
  ManualTimer timer;
};

bool isAt(TimePoint time, Duration sinceBegin) { return time == TimePoint(sinceBegin); }

/// Lets time pass whenever nothing else is left to do.
Promise<void> passTime(ManualTimer& timer) {
  for (int rounds = 0; rounds < 10'000; ++rounds) {
    co_await yieldUntilQueueEmpty();
    if (const auto next = timer.nextEvent()) timer.advanceTo(std::max(*next, timer.now()));
  }
}

template <typename T>
void mustSay(Promise<T> promise, WaitScope& scope, std::string_view kind, std::string_view text) {
  REQUIRE(promise.poll(scope));
  const Exception e = failureOf(std::move(promise), scope);
  CHECK(kindName(e) == kind);
  CHECK_MESSAGE(contains(e.description(), text), e.description());
  CHECK(fileOf(e) == "pacing_test.cc");
}

template <typename Call>
void mustRefuse(Call&& call, std::string_view text) {
  const Exception e = thrownBy(call);
  CHECK(kindName(e) == "FAILED");
  CHECK_MESSAGE(contains(e.description(), text), e.description());
  CHECK(fileOf(e) == "pacing_test.cc");
}

} // namespace

// --- Ticker

TEST_CASE_FIXTURE(PacingTest, "a ticker ticks once in each period, never early, and the first time after one") {
  Ticker ticker(timer, 1s);
  for (int i = 1; i <= 5; ++i) {
    Promise<Tick> next = ticker.next();
    timer.advanceBy(1s - 1ns);
    CHECK_FALSE(next.poll(scope));
    const Tick tick = takeAfter(next, scope, [&] { timer.advanceBy(1ns); });
    CHECK(isAt(tick.due, i * 1s));
    CHECK(tick.missed == 0);
  }
  CHECK_FALSE(timer.nextEvent()); // nobody waits, so nothing is pending
}

TEST_CASE_FIXTURE(PacingTest, "what becomes of missed ticks is a matter of policy") {
  struct Case {
    MissedTicks policy;
    std::vector<std::pair<Duration, std::uint64_t>> atOnce; // when due, and missed
    Duration next;
  };
  const Case cases[] = {
      {MissedTicks::SKIP, {{1s, 2}}, 4s},
      {MissedTicks::BURST, {{1s, 2}, {2s, 1}, {3s, 0}}, 4s},
      {MissedTicks::DELAY, {{1s, 2}}, 4500ms},
  };
  for (const Case& c : cases) {
    CAPTURE(static_cast<int>(c.policy));
    ManualTimer own;
    Ticker ticker(own, 1s, {.missed = c.policy});
    own.advanceBy(3500ms);
    for (const auto& [due, missed] : c.atOnce) {
      Promise<Tick> next = ticker.next();
      REQUIRE(next.poll(scope));
      const Tick tick = std::move(next).wait(scope);
      CHECK(isAt(tick.due, due));
      CHECK(tick.missed == missed);
    }
    Promise<Tick> next = ticker.next();
    own.advanceTo(TimePoint(c.next) - 1ns);
    const Tick tick = takeAfter(next, scope, [&] { own.advanceBy(1ns); });
    CHECK(isAt(tick.due, c.next));
    CHECK(tick.missed == 0);
  }
}

TEST_CASE_FIXTURE(PacingTest, "a tick that is taken a little late moves nothing") {
  for (const MissedTicks policy : {MissedTicks::SKIP, MissedTicks::BURST, MissedTicks::DELAY}) {
    ManualTimer own;
    Ticker ticker(own, 1s, {.missed = policy});
    own.advanceBy(1900ms);
    CHECK(std::move(ticker.next()).wait(scope).missed == 0);
    Promise<Tick> next = ticker.next();
    CHECK_FALSE(next.poll(scope));
    CHECK(isAt(*own.nextEvent(), 2s));
  }
}

TEST_CASE_FIXTURE(PacingTest, "with a fixed delay the period begins when the work has ended") {
  Ticker ticker(timer, 1s, {.pace = TickerPace::FIXED_DELAY});
  timer.advanceBy(10s); // nobody has asked yet
  for (int i = 0; i < 3; ++i) {
    Promise<Tick> next = ticker.next();
    const TimePoint asked = timer.now();
    timer.advanceBy(1s - 1ns);
    const Tick tick = takeAfter(next, scope, [&] { timer.advanceBy(1ns); });
    CHECK((tick.due == asked + 1s));
    CHECK(tick.missed == 0);
    timer.advanceBy(7s); // work
  }
}

TEST_CASE_FIXTURE(PacingTest, "a cancelled next() loses no tick, whether it was ready or not") {
  for (const TickerPace pace : {TickerPace::FIXED_RATE, TickerPace::FIXED_DELAY}) {
    ManualTimer own;
    Ticker ticker(own, 1s, {.pace = pace});
    { Promise<Tick> cancelled = ticker.next(); }
    CHECK_FALSE(own.nextEvent());
    own.advanceBy(600ms);
    {
      Promise<Tick> cancelled = ticker.next(); // does not begin anew
      CHECK(isAt(*own.nextEvent(), 1s));
      own.advanceBy(400ms);
      REQUIRE(cancelled.poll(scope));
    }
    Promise<Tick> next = ticker.next();
    REQUIRE(next.poll(scope));
    CHECK(isAt(std::move(next).wait(scope).due, 1s));
  }
}

TEST_CASE_FIXTURE(PacingTest, "a ticker may begin at a given time, past ones included") {
  Ticker later(timer, 1s, {.first = TimePoint(5s)});
  Promise<Tick> next = later.next();
  CHECK(isAt(*timer.nextEvent(), 5s));
  Ticker before(timer, 1s, {.first = TimePoint(-2s)});
  const Tick tick = before.next().wait(scope);
  CHECK(isAt(tick.due, -2s));
  CHECK(tick.missed == 2);
}

TEST_CASE_FIXTURE(PacingTest, "reset() begins a period now, also for who waits; a tick that is ready is kept") {
  Ticker ticker(timer, 1s);
  Promise<Tick> next = ticker.next();
  timer.advanceBy(900ms);
  ticker.reset();
  timer.advanceBy(100ms);
  CHECK_FALSE(next.poll(scope));
  timer.advanceBy(900ms);
  REQUIRE(next.poll(scope));
  ticker.reset();
  CHECK(isAt(std::move(next).wait(scope).due, 1900ms));
  next = ticker.next();
  CHECK(isAt(*timer.nextEvent(), 2900ms));
  Ticker distant(timer, 1s, {.first = TimePoint(1h)});
  Promise<Tick> sooner = distant.next();
  distant.reset();
  timer.advanceTo(TimePoint(2900ms - 1ns));
  CHECK_FALSE(sooner.poll(scope));
  CHECK(isAt(takeAfter(sooner, scope, [&] { timer.advanceBy(1ns); }).due, 2900ms));
}

TEST_CASE_FIXTURE(PacingTest, "ticks at the ends of time are no undefined behaviour, and as many as there are") {
  Ticker longest(timer, Duration::max());
  Promise<Tick> next = longest.next();
  timer.advanceTo(TimePoint::max());
  CHECK((std::move(next).wait(scope).due == TimePoint::max()));
  next = longest.next(); // the next one would be after the end
  CHECK((std::move(next).wait(scope).due == TimePoint::max()));
  Ticker allTime(timer, 1ns, {.first = TimePoint::min()});
  const Tick tick = allTime.next().wait(scope);
  CHECK((tick.due == TimePoint::min()));
  CHECK(tick.missed == UINT64_MAX);
  Ticker burst(timer, 1h, {.missed = MissedTicks::BURST, .first = TimePoint::max() - 1ns});
  CHECK((burst.next().wait(scope).due == TimePoint::max() - 1ns));
  CHECK((burst.next().wait(scope).due == TimePoint::max()));
}

TEST_CASE_FIXTURE(PacingTest, "misuse of a ticker is refused, with the caller's place") {
  mustRefuse([&] { Ticker ticker(timer, 0s); }, "period of a Ticker must be positive");
  mustRefuse([&] { Ticker ticker(timer, -1s); }, "period of a Ticker must be positive");
  Ticker ticker(timer, 1s);
  Promise<Tick> first = ticker.next();
  mustRefuse([&] { (void)ticker.next(); }, "one promise at a time");
  timer.advanceBy(1s);
  REQUIRE(first.poll(scope));
  mustRefuse([&] { (void)ticker.next(); }, "one promise at a time");
  CHECK(std::move(first).wait(scope).missed == 0);
}

TEST_CASE_FIXTURE(PacingTest, "what a next() is called in traces is known after its ticker has gone") {
  std::optional<Ticker> ticker(std::in_place, timer, 1s);
  Promise<Tick> next = ticker->next();
  CHECK(contains(next.trace(), "Ticker::next"));
  ticker.reset();
  CHECK(contains(next.trace(), "Ticker::next"));
}

TEST_CASE_FIXTURE(PacingTest, "destroying a ticker rejects who waits, and lets who is ready keep the tick") {
  std::optional<Ticker> ticker(std::in_place, timer, 1s);
  Promise<Tick> next = ticker->next();
  ticker.reset();
  mustSay(std::move(next), scope, "DISCONNECTED", "ticker was destroyed");
  CHECK_FALSE(timer.nextEvent());
  ticker.emplace(timer, 1s);
  next = ticker->next();
  timer.advanceBy(1s);
  REQUIRE(next.poll(scope));
  ticker.reset();
  CHECK(isAt(std::move(next).wait(scope).due, 1s));
}

TEST_CASE_FIXTURE(LoopTest, "a timer that is destroyed first rejects what is built on it") {
  std::optional<ManualTimer> timer(std::in_place);
  Ticker ticker(*timer, 1s);
  RateLimiter limiter(*timer, {.tokens = 1, .per = 1s});
  Promise<Tick> tick = ticker.next();
  limiter.acquire().wait(scope);
  Promise<void> first = limiter.acquire();
  Promise<void> second = limiter.acquire();
  timer.reset();
  // (To go on with them would be misuse.)
  CHECK(kindName(failureOf(std::move(tick), scope)) == "DISCONNECTED");
  CHECK(kindName(failureOf(std::move(first), scope)) == "DISCONNECTED");
  CHECK(kindName(failureOf(std::move(second), scope)) == "DISCONNECTED");
}

TEST_CASE("however late its ticks are taken, a ticker is never early and does not drift") {
  for (unsigned seed = 0; seed < 30; ++seed) {
    CAPTURE(seed);
    std::mt19937 random(seed);
    SimulatedLoop simulated;
    const Duration period(1 + random() % 1000);
    Ticker ticker(simulated.timer(), period, {.missed = seed % 2 == 0 ? MissedTicks::SKIP : MissedTicks::BURST});
    std::uint64_t ticks = 0; // that are over, those that were left out included
    for (int i = 0; i < 200; ++i) {
      simulated.runFor(Duration(random() % 3000));
      const Tick tick = ticker.next().wait(simulated.waitScope());
      ++ticks;
      REQUIRE((tick.due == TimePoint(ticks * period)));
      REQUIRE((tick.due <= simulated.now()));
      REQUIRE(tick.missed == static_cast<std::uint64_t>((simulated.now() - tick.due) / period));
      if (seed % 2 == 0) ticks += tick.missed;
    }
  }
}

// --- Debouncer

TEST_CASE_FIXTURE(PacingTest, "a burst is reported once, when the triggers have stopped for the quiet time") {
  Debouncer changes(timer, 100ms);
  Promise<std::size_t> next = changes.next();
  timer.advanceBy(1h);
  CHECK_FALSE(next.poll(scope)); // nothing has happened
  for (int i = 0; i < 10; ++i) {
    changes.trigger();
    timer.advanceBy(99ms);
    CHECK_FALSE(next.poll(scope));
  }
  CHECK(changes.isPending());
  CHECK(takeAfter(next, scope, [&] { timer.advanceBy(1ms); }) == 10);
  CHECK_FALSE(changes.isPending());
  next = changes.next();
  timer.advanceBy(1h);
  CHECK_FALSE(next.poll(scope));
}

TEST_CASE_FIXTURE(PacingTest, "the leading edge reports at once and leaves the rest out, or gathers it for the end") {
  for (const Edge edge : {Edge::LEADING, Edge::BOTH}) {
    CAPTURE(static_cast<int>(edge));
    Debouncer changes(timer, 100ms, {.edge = edge});
    Promise<std::size_t> next = changes.next();
    CHECK(takeAfter(next, scope, [&] { changes.trigger(); }) == 1);
    next = changes.next();
    for (int i = 0; i < 3; ++i) {
      timer.advanceBy(99ms);
      changes.trigger();
    }
    CHECK_FALSE(next.poll(scope));
    timer.advanceBy(99ms);
    CHECK_FALSE(next.poll(scope));
    timer.advanceBy(1ms);
    REQUIRE(next.poll(scope) == (edge == Edge::BOTH));
    if (edge == Edge::BOTH) {
      CHECK(std::move(next).wait(scope) == 3);
      next = changes.next();
    }
    CHECK(takeAfter(next, scope, [&] { changes.trigger(); }) == 1); // the next burst
    // One that has nothing after its beginning has no end to report.
    timer.advanceBy(1h);
    CHECK_FALSE(changes.isPending());
  }
}

TEST_CASE_FIXTURE(LoopTest, "a burst without an end is reported every maxWait") {
  using Reports = std::vector<std::pair<std::int64_t, std::size_t>>;
  const std::pair<Edge, Reports> cases[] = {
      {Edge::TRAILING, {{250, 25}, {500, 25}, {750, 25}, {1000, 25}}},
      {Edge::BOTH, {{0, 1}, {250, 24}, {500, 25}, {750, 25}, {1000, 25}}}};
  for (const auto& [edge, expected] : cases) {
    CAPTURE(static_cast<int>(edge));
    ManualTimer timer;
    Debouncer changes(timer, 100ms, {.edge = edge, .maxWait = 250ms});
    Reports reports;
    Promise<std::size_t> next = changes.next();
    for (int time = 0; time <= 2000; time += 10) {
      if (time < 1000) changes.trigger();
      if (next.poll(scope)) {
        reports.emplace_back(time, std::move(next).wait(scope));
        next = changes.next();
      }
      timer.advanceBy(10ms);
    }
    CHECK(reports == expected);
  }
}

TEST_CASE_FIXTURE(PacingTest, "bursts that end while nobody waits become one, and one that goes on is not part of it") {
  Debouncer changes(timer, 100ms);
  changes.trigger();
  timer.advanceBy(500ms);
  changes.trigger();
  changes.trigger();
  timer.advanceBy(500ms);
  changes.trigger();
  timer.advanceBy(50ms);
  Promise<std::size_t> next = changes.next();
  REQUIRE(next.poll(scope));
  CHECK(std::move(next).wait(scope) == 3);
  next = changes.next();
  CHECK(takeAfter(next, scope, [&] { timer.advanceBy(50ms); }) == 1);
}

TEST_CASE_FIXTURE(PacingTest, "flush() ends a burst now, clear() forgets it, and a cancelled next() loses no trigger") {
  Debouncer changes(timer, 100ms);
  Promise<std::size_t> next = changes.next();
  changes.trigger();
  changes.flush();
  CHECK_FALSE(timer.nextEvent()); // it is ready, so no deadline is pending
  REQUIRE(next.poll(scope));
  CHECK(std::move(next).wait(scope) == 1);
  changes.trigger();
  next = changes.next();
  changes.clear();
  CHECK_FALSE(changes.isPending());
  timer.advanceBy(1h);
  CHECK_FALSE(next.poll(scope));
  changes.trigger();
  timer.advanceBy(100ms);
  REQUIRE(next.poll(scope));
  { Promise<std::size_t> cancelled = std::move(next); }
  next = changes.next();
  REQUIRE(next.poll(scope));
  changes.clear(); // it has what it has
  CHECK(std::move(next).wait(scope) == 1);
}

TEST_CASE_FIXTURE(PacingTest, "a debouncer's triggers need no timer, and one deadline while somebody waits") {
  Debouncer changes(timer, 100ms);
  for (int i = 0; i < 1000; ++i) changes.trigger();
  CHECK_FALSE(timer.nextEvent());
  Promise<std::size_t> next = changes.next();
  CHECK(isAt(*timer.nextEvent(), 100ms));
  const std::uint64_t before = heapAllocations();
  for (int i = 0; i < 100; ++i) {
    timer.advanceBy(1ms);
    changes.trigger();
  }
  CHECK_FALSE(next.poll(scope));
  CHECK(heapAllocations() == before);
  CHECK(isAt(*timer.nextEvent(), 200ms));
}

// --- Throttler

TEST_CASE_FIXTURE(PacingTest, "a throttler lets a task run at most once in an interval, whichever edges it has") {
  struct Case {
    Edge edge;
    std::vector<std::pair<std::int64_t, std::size_t>> reports;
  };
  // Triggers at 0, 30, 60, … 210, and one at 1000.
  const Case cases[] = {
      {Edge::BOTH, {{0, 1}, {100, 3}, {200, 3}, {300, 1}, {1000, 1}}},
      {Edge::LEADING, {{0, 1}, {120, 1}, {1000, 1}}},
      {Edge::TRAILING, {{100, 4}, {200, 3}, {300, 1}, {1100, 1}}},
  };
  for (const Case& c : cases) {
    CAPTURE(static_cast<int>(c.edge));
    ManualTimer own;
    Throttler redraws(own, 100ms, c.edge);
    std::vector<std::pair<std::int64_t, std::size_t>> reports;
    Promise<std::size_t> next = redraws.next();
    for (int time = 0; time < 1200; time += 10) {
      if ((time <= 210 && time % 30 == 0) || time == 1000) redraws.trigger();
      if (next.poll(scope)) {
        reports.emplace_back(time, std::move(next).wait(scope));
        next = redraws.next();
      }
      own.advanceBy(10ms);
    }
    CHECK(reports == c.reports);
  }
}

TEST_CASE_FIXTURE(PacingTest, "a throttler's interval begins when a slow task takes what it was given") {
  Throttler redraws(timer, 100ms);
  redraws.trigger();
  timer.advanceBy(1s);
  CHECK(redraws.next().wait(scope) == 1);
  redraws.trigger();
  Promise<std::size_t> next = redraws.next();
  timer.advanceBy(99ms);
  CHECK_FALSE(next.poll(scope));
  redraws.trigger();
  CHECK(takeAfter(next, scope, [&] { redraws.flush(); }) == 2);
  redraws.trigger();
  CHECK(redraws.isPending());
  redraws.clear();
  CHECK_FALSE(redraws.isPending());
  // An interval that has ended does not begin again while nobody takes what it gathered.
  Throttler trailing(timer, 100ms, Edge::TRAILING);
  trailing.trigger();
  timer.advanceBy(150ms);
  trailing.trigger();
  Promise<std::size_t> gathered = trailing.next();
  REQUIRE(gathered.poll(scope));
  CHECK(std::move(gathered).wait(scope) == 2);
  // A trigger at the very end of an interval is not in it.
  Throttler leading(timer, 100ms, Edge::LEADING);
  for (int i = 0; i < 3; ++i, timer.advanceBy(100ms)) {
    leading.trigger();
    CHECK(leading.next().wait(scope) == 1);
  }
}

TEST_CASE_FIXTURE(PacingTest, "misuse of debouncers and throttlers is refused, and their end rejects who waits") {
  mustRefuse([&] { Debouncer changes(timer, 0ms); }, "quiet time");
  mustRefuse([&] { Debouncer changes(timer, 1ms, {.maxWait = 0ms}); }, "maxWait");
  mustRefuse([&] { Debouncer changes(timer, 1ms, {.edge = Edge::LEADING, .maxWait = 1s}); }, "no use for maxWait");
  mustRefuse([&] { Throttler redraws(timer, 0ms); }, "interval");
  std::optional<Debouncer> changes(std::in_place, timer, 1s);
  std::optional<Throttler> redraws(std::in_place, timer, 1s);
  Promise<std::size_t> change = changes->next();
  Promise<std::size_t> redraw = redraws->next();
  mustRefuse([&] { (void)changes->next(); }, "one promise at a time");
  mustRefuse([&] { (void)redraws->next(); }, "one promise at a time");
  changes->trigger();
  changes.reset();
  redraws.reset();
  mustSay(std::move(change), scope, "DISCONNECTED", "debouncer was destroyed");
  mustSay(std::move(redraw), scope, "DISCONNECTED", "throttler was destroyed");
  CHECK_FALSE(timer.nextEvent());
}

// --- RateLimiter

TEST_CASE_FIXTURE(PacingTest, "a full bucket lets a burst through, and then one after the other") {
  RateLimiter limiter(timer, {.tokens = 10, .per = 1s, .burst = 3});
  CHECK(limiter.available() == 3);
  for (int i = 0; i < 3; ++i) limiter.acquire().wait(scope);
  for (int i = 0; i < 3; ++i) {
    Promise<void> next = limiter.acquire();
    timer.advanceBy(100ms - 1ns);
    takeAfter(next, scope, [&] { timer.advanceBy(1ns); });
  }
  CHECK_FALSE(limiter.tryAcquire());
  timer.advanceBy(200ms);
  CHECK(limiter.available() == 2);
  CHECK(limiter.tryAcquire(2));
  CHECK_FALSE(limiter.tryAcquire());
  timer.advanceBy(24h);
  CHECK(limiter.available() == 3); // no more than the burst
}

TEST_CASE_FIXTURE(PacingTest, "who comes first is served first, also if others want less") {
  RateLimiter limiter(timer, {.tokens = 1, .per = 1s, .burst = 5});
  CHECK(limiter.tryAcquire(4));
  std::string log;
  const auto acquire = [&](std::uint64_t count, const char* name) {
    return limiter.acquire(count).then([&log, name] { log += name; }).eagerlyEvaluate(nullptr);
  };
  Promise<void> a = acquire(3, "a");
  Promise<void> b = acquire(1, "b");
  Promise<void> c = acquire(5, "c");
  Promise<void> d = acquire(1, "d");
  CHECK_FALSE(limiter.tryAcquire(1)); // one is there, but not for who comes last
  const char* const after[] = {"", "a", "ab", "ab", "ab", "ab", "ab", "abc", "abcd"};
  for (int second = 1; second <= 9; ++second) {
    CAPTURE(second);
    timer.advanceBy(1s);
    scope.poll();
    CHECK(log == after[second - 1]);
  }
}

TEST_CASE_FIXTURE(PacingTest, "a cancelled acquire gives its place and its tokens to those behind") {
  RateLimiter limiter(timer, {.tokens = 1, .per = 1s, .burst = 5});
  CHECK(limiter.tryAcquire(4));
  std::optional<Promise<void>> large = limiter.acquire(5);
  Promise<void> small = limiter.acquire(1);
  std::optional<Promise<void>> other = limiter.acquire(2);
  CHECK_FALSE(small.poll(scope));
  takeAfter(small, scope, [&] { large.reset(); });
  CHECK(isAt(*timer.nextEvent(), 2s));
  // One that is ready gives its tokens back.
  timer.advanceBy(2s);
  REQUIRE(other->poll(scope));
  Promise<void> next = limiter.acquire(2);
  CHECK_FALSE(next.poll(scope));
  takeAfter(next, scope, [&] { other.reset(); });
  CHECK(limiter.available() == 0);
  large = limiter.acquire(5);
  large.reset();
  CHECK_FALSE(timer.nextEvent()); // nobody waits
}

TEST_CASE_FIXTURE(PacingTest, "tokens that come back do not overfill the bucket") {
  RateLimiter limiter(timer, {.tokens = 1, .per = 1s, .burst = 2});
  std::optional<Promise<void>> both = limiter.acquire(2);
  REQUIRE(both->poll(scope));
  timer.advanceBy(1500ms);
  both.reset();
  CHECK(limiter.available() == 2);
  CHECK(limiter.tryAcquire(2));
  timer.advanceBy(999ms);
  CHECK_FALSE(limiter.tryAcquire()); // what was over when the bucket was full is not kept
  limiter.setLimit({.tokens = 1, .per = 1s, .burst = 1}); // nor when it became full by becoming smaller
  timer.advanceBy(1ms);
  CHECK(limiter.tryAcquire());
  limiter.setLimit({.tokens = 1, .per = 1s, .burst = 2});
  timer.advanceBy(1500ms);
  limiter.setLimit({.tokens = 1, .per = 1s, .burst = 1});
  CHECK(limiter.tryAcquire());
  timer.advanceBy(1s - 1ns);
  CHECK_FALSE(limiter.tryAcquire());
  RateLimiter odd(timer, {.tokens = 2, .per = 3ns, .burst = 1}); // nor when a token and a third had come
  CHECK(odd.tryAcquire());
  timer.advanceBy(2ns);
  CHECK(odd.tryAcquire());
  timer.advanceBy(1ns);
  CHECK_FALSE(odd.tryAcquire());
}

TEST_CASE_FIXTURE(PacingTest, "the limit may change while others wait") {
  RateLimiter limiter(timer, {.tokens = 1, .per = 10s});
  CHECK(limiter.limit().burst == 1);
  CHECK(limiter.tryAcquire());
  timer.advanceBy(5s); // half a token
  Promise<void> next = limiter.acquire();
  CHECK(isAt(*timer.nextEvent(), 10s));
  limiter.setLimit({.tokens = 1, .per = 1s, .burst = 4});
  CHECK(isAt(*timer.nextEvent(), 5500ms));
  takeAfter(next, scope, [&] { timer.advanceBy(500ms); });
  next = limiter.acquire(4);
  limiter.setLimit({.tokens = 1, .per = 1h, .burst = 4}); // slower: the alarm comes early and is set again
  timer.advanceBy(4h - 1ns);
  takeAfter(next, scope, [&] { timer.advanceBy(1ns); });
  next = limiter.acquire(4);
  Promise<void> small = limiter.acquire(1);
  timer.advanceBy(1h);
  limiter.setLimit({.tokens = 1, .per = 1h, .burst = 2});
  mustSay(std::move(next), scope, "FAILED", "became less");
  REQUIRE(small.poll(scope));
  timer.advanceBy(100h);
  limiter.setLimit({.tokens = 1, .per = 1s});
  CHECK(limiter.available() == 1);
}

TEST_CASE_FIXTURE(PacingTest, "misuse of a rate limiter is refused, and its end rejects who waits") {
  mustRefuse([&] { RateLimiter limiter(timer, {.tokens = 0}); }, "without tokens");
  mustRefuse([&] { RateLimiter limiter(timer, {.tokens = 1, .per = 0s}); }, "time of a RateLimiter");
  mustRefuse([&] { RateLimiter limiter(timer, {.tokens = UINT64_MAX}); }, "too many");
  mustRefuse([&] { RateLimiter limiter(timer, {.tokens = 1, .burst = UINT64_MAX}); }, "too many");
  auto limiter = std::make_unique<RateLimiter>(timer, RateLimit{.tokens = 2, .per = 1s});
  mustRefuse([&] { (void)limiter->acquire(3); }, "burst of 2 was asked for 3 tokens");
  mustRefuse([&] { (void)limiter->tryAcquire(3); }, "burst of 2 was asked for 3 tokens");
  mustRefuse([&] { limiter->setLimit({.tokens = 0}); }, "without tokens");
  limiter->acquire(0).wait(scope);
  Promise<void> ready = limiter->acquire(2);
  Promise<void> first = limiter->acquire();
  Promise<void> second = limiter->acquire();
  limiter.reset();
  CHECK_FALSE(timer.nextEvent());
  std::move(ready).wait(scope);
  mustSay(std::move(first), scope, "DISCONNECTED", "rate limiter was destroyed");
  mustSay(std::move(second), scope, "DISCONNECTED", "rate limiter was destroyed");
}

TEST_CASE("the arithmetic of a rate limiter is exact for odd rates and huge numbers, and ends with the time") {
  __extension__ using Wide = unsigned __int128;
  struct Case {
    std::uint64_t tokens;
    Duration per;
    Duration wait;
  };
  const Case cases[] = {
      {7, 1'000'003ns, 999'999'937ns}, {1'000'003, 24h, 24h - 1ns},  {1, Duration::max(), Duration::max() - 1ns},
      {INT64_MAX, Duration::max() - 2ns, 1'000'000'007ns}, {INT64_MAX, 1ns, 1ns}, {3, 365 * 24h, 100 * 365 * 24h},
      {6'000'000'000'000'000'001, Duration::max(), 10'007ns}};
  for (const Case& c : cases) {
    CAPTURE(c.tokens);
    for (const int looks : {1, 1000}) { // looking at it changes nothing
      ManualTimer timer;
      EventLoop loop;
      WaitScope scope(loop);
      RateLimiter limiter(timer, {.tokens = c.tokens, .per = c.per, .burst = INT64_MAX});
      CHECK(limiter.tryAcquire(INT64_MAX));
      for (int i = 1; i <= looks; ++i) {
        timer.advanceTo(TimePoint(i == looks ? c.wait : c.wait / looks * i));
        CHECK(limiter.tryAcquire(0));
      }
      const Wide come = Wide(c.tokens) * Wide(c.wait.count()) / Wide(c.per.count());
      CHECK(limiter.available() == static_cast<std::uint64_t>(std::min<Wide>(come, INT64_MAX)));
    }
  }
  // From the first to the last moment of time, and a wait that would be longer than that.
  ManualTimer timer(TimePoint::min());
  EventLoop loop;
  WaitScope scope(loop);
  RateLimiter limiter(timer, {.tokens = 1, .per = Duration::max(), .burst = 3});
  CHECK(limiter.tryAcquire(3));
  Promise<void> never = limiter.acquire(3);
  timer.advanceTo(TimePoint::max());
  CHECK_FALSE(never.poll(scope));
  CHECK(limiter.available() == 2);
  // A wait that is longer than a Duration by a part of a nanosecond.
  ManualTimer other;
  const std::uint64_t third = UINT64_MAX / 3;
  RateLimiter slow(other, {.tokens = 2, .per = 3ns, .burst = third});
  CHECK(slow.tryAcquire(third));
  Promise<void> tooLong = slow.acquire(third);
  CHECK((other.nextEvent() == TimePoint::max()));
  CHECK_FALSE(tooLong.poll(scope));
}

TEST_CASE("in no window does a rate limiter let more through than burst and rate allow, nor less than it could") {
  for (unsigned seed = 0; seed < 40; ++seed) {
    CAPTURE(seed);
    std::mt19937 random(seed);
    SimulatedLoop simulated;
    const RateLimit limit{.tokens = 1 + random() % 20, .per = Duration(1 + random() % 1000), .burst = 1 + random() % 10};
    RateLimiter limiter(simulated.timer(), limit);
    std::vector<std::pair<std::int64_t, std::uint64_t>> log; // when, and the sum until then
    std::uint64_t sum = 0;
    const auto got = [&](std::uint64_t count) { log.emplace_back(simulated.elapsed().count(), sum += count); };
    std::vector<Promise<void>> waiting;
    for (int i = 0; i < 150; ++i) {
      const std::uint64_t count = 1 + random() % limit.burst;
      switch (random() % 4) {
      case 0:
        if (limiter.tryAcquire(count)) got(count);
        break;
      case 1:
        if (!waiting.empty()) waiting.erase(waiting.begin() + static_cast<std::ptrdiff_t>(random() % waiting.size()));
        break;
      default:
        waiting.push_back(limiter.acquire(count).then([&got, count] { got(count); }).eagerlyEvaluate(nullptr));
      }
      simulated.runFor(Duration(random() % 200));
    }
    for (Promise<void>& promise : waiting) std::move(promise).wait(simulated.waitScope());
    // A window from just before one to just after another: of all pairs.
    for (std::size_t from = 0; from < log.size(); ++from) {
      const std::uint64_t before = from == 0 ? 0 : log[from - 1].second;
      for (std::size_t to = from; to < log.size(); ++to) {
        const auto time = static_cast<std::uint64_t>(log[to].first - log[from].first);
        const auto tokens = static_cast<std::uint64_t>(limit.tokens);
        const auto per = static_cast<std::uint64_t>(limit.per.count());
        REQUIRE((log[to].second - before) * per <= limit.burst * per + tokens * time + per - 1);
      }
    }
  }
  // One after the other, each comes in the first nanosecond in which it may.
  SimulatedLoop simulated;
  RateLimiter limiter(simulated.timer(), {.tokens = 7, .per = 1'000'003ns, .burst = 3});
  for (std::int64_t i = 1; i <= 2000; ++i) {
    limiter.acquire().wait(simulated.waitScope());
    const std::int64_t product = std::max<std::int64_t>(i - 3, 0) * 1'000'003;
    REQUIRE(simulated.elapsed().count() == (product + 6) / 7);
  }
}

// --- All of them

namespace {

/// Its time is older than what it has let pass, as that of a timer may be that looks at its clock once in a while.
class LaggingTimer final : public Timer {
public:
  bool isBroken = false;

  explicit LaggingTimer(ManualTimer& ahead) : ahead_(ahead) {}
  TimePoint now() const override { return ahead_.now() - 1ms; }
  Promise<void> atTime(TimePoint time, std::source_location where) override {
    if (isBroken) throw Exception(Exception::Kind::OVERLOADED, "no more deadlines", {}, where);
    return ahead_.atTime(time, where);
  }
  Promise<void> afterDelay(Duration delay, std::source_location where) override { return ahead_.afterDelay(delay, where); }

private:
  ManualTimer& ahead_;
};

} // namespace

TEST_CASE_FIXTURE(PacingTest, "a deadline that has passed has passed, though the timer's now() is older") {
  timer.advanceTo(TimePoint(1ms));
  LaggingTimer lagging(timer);
  Ticker ticker(lagging, 100ms);
  Debouncer changes(lagging, 100ms);
  Throttler redraws(lagging, 100ms, Edge::TRAILING);
  RateLimiter limiter(lagging, {.tokens = 1, .per = 100ms});
  changes.trigger();
  redraws.trigger();
  CHECK(limiter.tryAcquire());
  Promise<Tick> tick = ticker.next();
  Promise<std::size_t> change = changes.next(), redraw = redraws.next();
  Promise<void> token = limiter.acquire();
  timer.advanceTo(TimePoint(100ms - 1ns));
  CHECK_FALSE(tick.poll(scope));
  timer.advanceBy(1ns);
  REQUIRE(tick.poll(scope));
  const Tick taken = std::move(tick).wait(scope);
  CHECK(isAt(taken.due, 100ms));
  CHECK(taken.missed == 0);
  REQUIRE(change.poll(scope));
  CHECK(std::move(change).wait(scope) == 1);
  CHECK_FALSE(changes.isPending());
  REQUIRE(redraw.poll(scope));
  CHECK(std::move(redraw).wait(scope) == 1);
  redraws.trigger();
  redraw = redraws.next();
  REQUIRE(token.poll(scope));
  std::move(token).wait(scope);
  CHECK(limiter.available() == 0);
  token = limiter.acquire();
  CHECK(isAt(*timer.nextEvent(), 200ms)); // of both: one interval after the other
  timer.advanceTo(TimePoint(200ms - 1ns));
  CHECK_FALSE(redraw.poll(scope));
  CHECK_FALSE(token.poll(scope));
}

TEST_CASE_FIXTURE(PacingTest, "a timer that refuses a further deadline fails those who wait for it, with its reason") {
  LaggingTimer breaking(timer);
  Debouncer changes(breaking, 100ms);
  RateLimiter limiter(breaking, {.tokens = 1, .per = 100ms});
  changes.trigger();
  CHECK(limiter.tryAcquire());
  Promise<std::size_t> change = changes.next();
  Promise<void> first = limiter.acquire(), second = limiter.acquire(), third = limiter.acquire();
  timer.advanceBy(50ms);
  changes.trigger();
  breaking.isBroken = true;
  timer.advanceBy(50ms);
  REQUIRE(first.poll(scope));
  mustSay(std::move(change), scope, "OVERLOADED", "no more deadlines");
  mustSay(std::move(second), scope, "OVERLOADED", "no more deadlines");
  mustSay(std::move(third), scope, "OVERLOADED", "no more deadlines");
  mustSay(evalNow([&] { return limiter.acquire(); }), scope, "OVERLOADED", "no more deadlines");
  mustSay(evalNow([&] { return changes.next(); }), scope, "OVERLOADED", "no more deadlines");
  breaking.isBroken = false; // and nothing of them is in the way
  std::move(first).wait(scope);
  first = limiter.acquire();
  change = changes.next();
  timer.advanceBy(100ms);
  CHECK(first.poll(scope));
  CHECK(std::move(change).wait(scope) == 2);
}

TEST_CASE("cancelling tickers, debouncers, throttlers and rate limiters at every step leaves nothing") {
  const std::size_t steps = cancelSweep([](LoopTest&) -> Promise<void> {
    ManualTimer timer;
    Ticker ticker(timer, 10ms);
    Debouncer changes(timer, 10ms, {.edge = Edge::BOTH});
    Throttler redraws(timer, 10ms);
    RateLimiter limiter(timer, {.tokens = 1, .per = 10ms});
    auto work = coCapture([&]() -> Promise<void> {
      for (int i = 0; i < 3; ++i) {
        Promise<Tick> tick = ticker.next();
        changes.trigger();
        redraws.trigger();
        Promise<void> first = limiter.acquire();
        Promise<void> second = limiter.acquire();
        co_await timer.timeoutAfter(1s, changes.next());
        co_await redraws.next();
        co_await std::move(tick);
        co_await std::move(second);
        changes.trigger();
        co_await changes.next();
      }
    });
    co_await work().exclusiveJoin(passTime(timer));
  });
  CHECK(steps >= 12);
}

TEST_CASE_FIXTURE(PacingTest, "who goes on may destroy what it waited for, whoever else waits there") {
  std::optional<RateLimiter> limiter(std::in_place, timer, RateLimit{.tokens = 1, .per = 1s, .burst = 2});
  CHECK(limiter->tryAcquire(2));
  Promise<void> first = limiter->acquire().then([&] { limiter.reset(); }).eagerlyEvaluate(nullptr);
  Promise<void> second = limiter->acquire();
  Promise<void> third = limiter->acquire();
  timer.advanceBy(2s);
  scope.poll();
  CHECK_FALSE(limiter);
  std::move(first).wait(scope);
  std::move(second).wait(scope); // its token was there
  mustSay(std::move(third), scope, "DISCONNECTED", "rate limiter was destroyed");
  std::optional<Ticker> ticker(std::in_place, timer, 1s);
  Promise<void> tick = ticker->next().then([&](Tick) { ticker.reset(); }).eagerlyEvaluate(nullptr);
  timer.advanceBy(1s);
  std::move(tick).wait(scope);
  CHECK_FALSE(ticker);
}

TEST_CASE_FIXTURE(PacingTest, "they belong to the thread on which they are used first") {
  Ticker ticker(timer, 1s);
  Debouncer changes(timer, 1s);
  Throttler redraws(timer, 1s);
  RateLimiter limiter(timer, {.tokens = 5});
  changes.trigger();
  redraws.trigger();
  CHECK(limiter.tryAcquire());
  { Promise<Tick> next = ticker.next(); }
  std::thread([&] {
    EventLoop other;
    const WaitScope otherScope(other);
    mustRefuse([&] { (void)ticker.next(); }, "on another thread");
    mustRefuse([&] { ticker.reset(); }, "on another thread");
    mustRefuse([&] { changes.trigger(); }, "on another thread");
    mustRefuse([&] { (void)changes.next(); }, "on another thread");
    mustRefuse([&] { changes.flush(); }, "on another thread");
    mustRefuse([&] { redraws.trigger(); }, "on another thread");
    mustRefuse([&] { redraws.clear(); }, "on another thread");
    mustRefuse([&] { (void)limiter.acquire(); }, "on another thread");
    mustRefuse([&] { (void)limiter.tryAcquire(); }, "on another thread");
    mustRefuse([&] { limiter.setLimit({.tokens = 5}); }, "on another thread");
  }).join();
}

TEST_CASE("without memory they fail, and go on when there is some") {
  starveSweep([](LoopTest& test) {
    ManualTimer timer;
    Ticker ticker(timer, 1s);
    Debouncer changes(timer, 1s, {.edge = Edge::BOTH});
    RateLimiter limiter(timer, {.tokens = 1, .per = 1s});
    for (int i = 0; i < 3; ++i) {
      Promise<Tick> tick = ticker.next();
      Promise<std::size_t> change = changes.next();
      changes.trigger();
      Promise<void> first = limiter.acquire();
      Promise<void> second = limiter.acquire();
      timer.advanceBy(2s);
      std::move(tick).wait(test.scope);
      std::move(change).wait(test.scope);
      { Promise<void> gone = std::move(first); }
      std::move(second).wait(test.scope);
    }
  });
}

TEST_CASE_FIXTURE(IoTest, "on the real clock none of them is early, and none keeps the loop alive when nobody waits") {
  Timer& timer = io.timer();
  const auto begin = std::chrono::steady_clock::now();
  const auto passed = [&] { return std::chrono::steady_clock::now() - begin; };
  Ticker ticker(timer, 1ms, {.missed = MissedTicks::BURST, .first = begin + 1ms});
  RateLimiter limiter(timer, {.tokens = 1, .per = 1ms});
  Debouncer changes(timer, 1ms);
  for (int i = 1; i <= 5; ++i) {
    ticker.next().wait(scope);
    CHECK((passed() >= i * 1ms));
  }
  for (int i = 0; i <= 5; ++i) limiter.acquire().wait(scope);
  CHECK((passed() >= 10ms));
  changes.trigger();
  const auto triggered = timer.now();
  changes.next().wait(scope);
  CHECK((std::chrono::steady_clock::now() - triggered >= 1ms));
  Throttler redraws(timer, 1h);
  redraws.trigger();
  redraws.next().wait(scope);
  redraws.trigger();
  { Promise<std::size_t> cancelled = redraws.next(); }
  // With a deadline pending this would wait for an hour.
  CHECK(contains(thrownBy([&] { Promise<void>(NEVER_DONE).wait(scope); }).description(), "deadlock"));
}

TEST_CASE_FIXTURE(PacingTest, "in a steady state none of them allocates") {
  Ticker ticker(timer, 1s);
  Debouncer changes(timer, 500ms);
  RateLimiter limiter(timer, {.tokens = 1, .per = 1s});
  std::uint64_t before = 0;
  for (int i = 0; i < 20; ++i) {
    if (i == 5) before = heapAllocations();
    changes.trigger();
    Promise<Tick> tick = ticker.next();
    Promise<std::size_t> change = changes.next();
    Promise<void> token = limiter.acquire();
    timer.advanceBy(1s);
    std::move(tick).wait(scope);
    CHECK(std::move(change).wait(scope) == 1);
    std::move(token).wait(scope);
  }
  CHECK(heapAllocations() == before);
}
