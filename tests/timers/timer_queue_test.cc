// SPDX-License-Identifier: MIT
// The timer queue by itself, driven by hand: a model, a million deadlines, clocks that leap, what it allocates.
#include "../runtime/helpers.h"

#include <troth/timers/timer_queue_detail.h>

#include <algorithm>
#include <map>
#include <random>
#include <vector>

using namespace troth;
using namespace troth::test;
using namespace std::chrono_literals;

namespace {

constexpr TimePoint at(Duration sinceStart) { return TimePoint(sinceStart); }

struct QueueTest : LoopTest {
  detail::TimerQueue queue;
  std::vector<int> fired; // the numbers of the deadlines that have come, in their order

  Promise<void> add(TimePoint deadline, int number) {
    return queue.add(deadline, std::source_location::current())
        .then([this, number] { fired.push_back(number); })
        .eagerlyEvaluate(nullptr);
  }

  std::vector<int> advanceTo(TimePoint now) {
    queue.advanceTo(now);
    scope.poll();
    return std::exchange(fired, {});
  }
};

using Numbers = std::vector<int>;

} // namespace

TEST_CASE_FIXTURE(QueueTest, "the queue makes ready what is due, a nanosecond before nothing, in order of deadline, then creation") {
  CHECK_FALSE(queue.nextEvent());
  CHECK(queue.isEmpty());
  Promise<void> late = add(at(30ns), 1);
  Promise<void> first = add(at(10ns), 2);
  Promise<void> second = add(at(10ns), 3);
  Promise<void> third = add(at(20ns), 4);
  CHECK((queue.nextEvent() == at(10ns)));
  CHECK(queue.size() == 4);
  CHECK(advanceTo(at(9ns)).empty());
  CHECK(advanceTo(at(20ns)) == Numbers{2, 3, 4});
  CHECK((queue.nextEvent() == at(30ns)));
  CHECK(advanceTo(at(30ns)) == Numbers{1});
  CHECK(queue.isEmpty());
}

TEST_CASE_FIXTURE(QueueTest, "a clock that leaps ahead or goes back breaks nothing, and nothing is early (S9)") {
  Promise<void> second = add(at(1s), 1);
  Promise<void> hour = add(at(1h), 2);
  Promise<void> year = add(at(8760h), 3);
  CHECK(advanceTo(at(-1h)).empty());
  CHECK(advanceTo(TimePoint::min()).empty());
  CHECK(advanceTo(at(5h)) == Numbers{1, 2});
  CHECK(advanceTo(at(10ms)).empty()); // back again
  Promise<void> past = add(at(1s), 4);
  CHECK((queue.nextEvent() == at(1s)));
  CHECK(advanceTo(at(999ms)).empty());
  CHECK(advanceTo(at(1s)) == Numbers{4});
  CHECK(advanceTo(TimePoint::max()) == Numbers{3});
}

TEST_CASE_FIXTURE(QueueTest, "the queue agrees with a multimap over 20 000 random insertions, cancellations and advances (S9)") {
  std::mt19937 random(20240607);
  const auto upTo = [&](int n) { return static_cast<int>(random() % static_cast<unsigned>(n)); };
  struct Pending {
    int number;
    Promise<void> promise;
  };
  std::multimap<TimePoint, Pending> model; // equal keys stay in the order of their insertion
  TimePoint now;
  std::size_t firedInAll = 0;
  for (int op = 0; op < 20'000; ++op) {
    const int what = upTo(20);
    if (what < 10) {
      // Few different ones, so that many are equal; some have passed.
      const TimePoint deadline = now + Duration(upTo(300) - 20);
      model.emplace(deadline, Pending{op, add(deadline, op)});
    } else if (what < 16 && !model.empty()) {
      model.erase(std::next(model.begin(), upTo(static_cast<int>(model.size()))));
    } else {
      // A little ahead as a rule; back; so far that many are due at once; a leap past them all.
      now += what == 16   ? Duration(-upTo(100))
             : what == 17 ? Duration(upTo(200))
             : what == 18 && upTo(50) == 0 ? Duration(5h)
                          : Duration(upTo(20));
      const auto end = model.upper_bound(now);
      Numbers expected;
      std::for_each(model.begin(), end, [&](const auto& entry) { expected.push_back(entry.second.number); });
      REQUIRE(advanceTo(now) == expected);
      firedInAll += expected.size();
      model.erase(model.begin(), end);
    }
    REQUIRE(queue.size() == model.size());
    REQUIRE(queue.nextEvent() == (model.empty() ? std::nullopt : std::optional(model.begin()->first)));
  }
  CHECK(firedInAll > 2000);
}

TEST_CASE_FIXTURE(QueueTest, "1 000 000 deadlines, half of them cancelled, fire in order (S9; 100 000 under a sanitizer)") {
  constexpr int COUNT = SANITIZED ? 100'000 : 1'000'000;
  constexpr int RANGE = COUNT / 10; // each deadline about ten times
  std::mt19937 random(7);
  std::vector<std::pair<TimePoint, int>> kept; // and in the order of their creation
  std::vector<std::optional<Promise<void>>> promises(COUNT);
  for (int i = 0; i < COUNT; ++i) {
    const TimePoint deadline = at(Duration(random() % RANGE));
    promises[static_cast<std::size_t>(i)] = add(deadline, i);
    if (i % 2 == 1) kept.emplace_back(deadline, i);
  }
  for (std::size_t i = 0; i < promises.size(); i += 2) promises[i].reset();
  CHECK(queue.size() == COUNT / 2);
  std::stable_sort(kept.begin(), kept.end(), [](const auto& a, const auto& b) { return a.first < b.first; });

  Numbers order;
  for (const Duration now : {Duration(9), Duration(RANGE / 3), Duration(RANGE / 2), Duration(RANGE)}) {
    const Numbers due = advanceTo(at(now));
    order.insert(order.end(), due.begin(), due.end());
    CHECK((queue.isEmpty() || *queue.nextEvent() > at(now)));
  }
  REQUIRE(order.size() == kept.size());
  CHECK(std::equal(order.begin(), order.end(), kept.begin(), [](int number, const auto& k) { return number == k.second; }));
  CHECK(queue.isEmpty());
}

TEST_CASE_FIXTURE(QueueTest, "what is cancelled after it has come, by another that has come, does not run") {
  std::optional<Promise<void>> victim;
  Promise<void> killer = queue.add(at(1ns), std::source_location::current()).then([&] { victim.reset(); }).eagerlyEvaluate(nullptr);
  victim = add(at(1ns), 2);
  Promise<void> third = add(at(1ns), 3);
  CHECK(advanceTo(at(1ns)) == Numbers{3});
}

TEST_CASE_FIXTURE(QueueTest, "a queue whose size goes up and down allocates nothing, and one that was large gives memory back") {
  std::vector<std::optional<Promise<void>>> promises(20'000);
  const auto fill = [&](std::size_t from, std::size_t to) {
    for (std::size_t i = from; i < to; ++i)
      promises[i] = queue.add(at(Duration(i * 7919 % 20'011)), std::source_location::current());
  };
  fill(0, promises.size());
  const std::size_t most = queue.capacity();
  CHECK(most >= promises.size());
  for (int round = 0; round < 3; ++round) {
    for (std::size_t i = 10'000; i < promises.size(); ++i) promises[i].reset();
    CHECK(queue.capacity() == most);
    fill(10'000, promises.size());
    CHECK(queue.capacity() == most);
  }
  std::size_t shrunk = 0;
  for (std::size_t i = promises.size(); i-- > 100;) {
    const std::size_t before = queue.capacity();
    promises[i].reset();
    shrunk += queue.capacity() != before;
  }
  CHECK(queue.capacity() <= most / 8);
  CHECK(shrunk <= 10); // each time by half
  queue.advanceTo(TimePoint::max());
  for (std::size_t i = 0; i < 100; ++i) std::move(*promises[i]).wait(scope);
}

TEST_CASE_FIXTURE(LoopTest, "without memory for a deadline the call fails, and the queue is as before") {
  detail::TimerQueue queue;
  std::vector<Promise<void>> promises;
  for (int i = 0; i < 64; ++i) promises.push_back(queue.add(at(Duration(i)), std::source_location::current()));
  promises.reserve(65);
  std::size_t failures = 0;
  for (std::uint64_t after = 0; after < 3; ++after) {
    const NoMemory starved(after, NoMemory::ONE);
    try {
      promises.push_back(queue.add(at(1s), std::source_location::current()));
      break;
    } catch (const std::bad_alloc&) {
      ++failures;
    } catch (const Exception&) {
      ++failures;
    }
    CHECK(queue.size() == 64);
  }
  CHECK((SANITIZED || failures > 0 || promises.size() == 65));
  queue.advanceTo(at(2s));
  for (Promise<void>& promise : promises) std::move(promise).wait(scope);
}
