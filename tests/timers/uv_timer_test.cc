// SPDX-License-Identifier: MIT
// UvTimer on the real clock: never early, one uv_timer_t, alive exactly while something is pending.
#include "../runtime/helpers.h"

#include <troth/runtime/uv/uv_event_port.h>
#include <troth/timers/uv_timer.h>

#include <uv.h>

#include <random>
#include <vector>

using namespace troth;
using namespace troth::test;
using namespace std::chrono_literals;
using std::chrono::steady_clock;

namespace {

/// Uses the processor, as work does, for `time`.
void busy(Duration time) {
  const auto end = steady_clock::now() + time;
  while (steady_clock::now() < end) {}
}

struct Timers {
  std::size_t count = 0;
  uv_timer_t* one = nullptr;
};

Timers timersOf(uv_loop_t* loop) {
  Timers timers;
  uv_walk(
      loop,
      [](uv_handle_t* handle, void* into) {
        if (handle->type != UV_TIMER || uv_is_closing(handle) != 0) return;
        auto& t = *static_cast<Timers*>(into);
        ++t.count;
        t.one = reinterpret_cast<uv_timer_t*>(handle);
      },
      &timers);
  return timers;
}

bool active(uv_loop_t* loop) { return uv_is_active(reinterpret_cast<uv_handle_t*>(timersOf(loop).one)) != 0; }

struct TimerTest : IoTest {
  Timer& timer = io.timer();
  uv_loop_t* uv = io.uvEventPort().uvLoop();
};

/// A host's loop with a port and timer on it.
struct HostTest {
  uv_loop_t host;
  std::optional<HostedAsyncIoContext> io;
  HostTest() {
    REQUIRE(uv_loop_init(&host) == 0);
    io.emplace(setupAsyncIo(&host));
  }
  HostTest(const HostTest&) = delete;
  HostTest& operator=(const HostTest&) = delete;
  ~HostTest() {
    io.reset();
    uv_run(&host, UV_RUN_DEFAULT);
    CHECK(uv_loop_close(&host) == 0);
  }
};

} // namespace

TEST_CASE_FIXTURE(TimerTest, "a delay is never early (S9)") {
  std::mt19937 random(1);
  int early = 0;
  int fired = 0;
  std::vector<Promise<void>> promises;
  for (int i = 0; i < 100; ++i) {
    const Duration delay = std::chrono::microseconds(random() % 5000);
    const auto start = steady_clock::now();
    promises.push_back(timer.afterDelay(delay).then([&, start, delay] {
      ++fired;
      if (steady_clock::now() - start < delay) ++early;
    }).eagerlyEvaluate(nullptr));
  }
  for (Promise<void>& promise : promises) std::move(promise).wait(scope);
  CHECK(fired == 100);
  CHECK(early == 0);
}

TEST_CASE_FIXTURE(TimerTest, "a delay that begins after work is not early, whatever the loop's cached time says") {
  auto body = [&]() -> Promise<int> {
    int early = 0;
    for (int i = 0; i < 10; ++i) {
      busy(5ms);
      const auto start = steady_clock::now();
      co_await timer.afterDelay(3ms);
      if (steady_clock::now() - start < 3ms) ++early;
    }
    co_return early;
  };
  CHECK(body().wait(scope) == 0);
}

TEST_CASE_FIXTURE(TimerTest, "atTime is never early, and times that have passed are over at once") {
  for (int i = 0; i < 10; ++i) {
    const TimePoint time = steady_clock::now() + std::chrono::microseconds(300 * i);
    timer.atTime(time).wait(scope);
    CHECK((steady_clock::now() >= time));
  }
  Promise<void> past = timer.atTime(timer.now() - 1h);
  std::move(past).wait(scope);
  timer.atTime(TimePoint::min()).wait(scope);
}

TEST_CASE_FIXTURE(TimerTest, "delays that are zero or negative are over at once, but never inside the call") {
  for (const Duration delay : {Duration(0), Duration(-1), Duration::min()}) {
    CAPTURE(delay.count());
    bool ran = false;
    Promise<void> promise = timer.afterDelay(delay).then([&] { ran = true; }).eagerlyEvaluate(nullptr);
    CHECK_FALSE(ran);
    std::move(promise).wait(scope);
    CHECK(ran);
  }
}

TEST_CASE_FIXTURE(TimerTest, "a loop of zero delays lets other timers and I/O through (S9)") {
  bool stop = false;
  std::size_t laps = 0;
  auto spin = [&]() -> Promise<void> {
    while (!stop && ++laps < 1'000'000) co_await timer.afterDelay(0ns);
  };
  Promise<void> spinning = spin();
  timer.afterDelay(2ms).wait(scope);
  CHECK(laps < 1'000'000);
  stop = true;
  std::move(spinning).wait(scope);
}

TEST_CASE_FIXTURE(TimerTest, "deadlines fire in their order and equal ones in the order in which they were set") {
  std::string log;
  std::vector<Promise<void>> promises;
  const TimePoint base = steady_clock::now() + 2ms;
  const std::pair<int, const char*> entries[] = {{300, "e"}, {100, "a"}, {200, "c"}, {100, "b"}, {300, "f"}, {200, "d"}};
  for (const auto& [delay, name] : entries)
    promises.push_back(
        timer.atTime(base + std::chrono::microseconds(delay)).then([&log, n = name] { log += n; }).eagerlyEvaluate(nullptr));
  for (Promise<void>& promise : promises) std::move(promise).wait(scope);
  CHECK(log == "abcdef");
}

TEST_CASE_FIXTURE(TimerTest, "now() is constant within a turn and goes on between batches") {
  TimePoint first;
  TimePoint second;
  TimePoint nextEvent;
  evalLater([&] {
    first = timer.now();
    busy(1ms);
    second = timer.now();
    return evalLater([&] { nextEvent = timer.now(); });
  }).wait(scope);
  CHECK((first == second));
  CHECK((first == nextEvent)); // the same batch
  timer.afterDelay(1ms).wait(scope);
  CHECK((timer.now() >= first + 1ms));
  CHECK((timer.now() <= steady_clock::now()));
}

TEST_CASE_FIXTURE(TimerTest, "100 000 pending timers are one uv_timer_t") {
  std::vector<Promise<void>> promises;
  for (int i = 0; i < 100'000; ++i) promises.push_back(timer.afterDelay(1h + std::chrono::microseconds((i * 7919) % 100'000)));
  CHECK(timersOf(uv).count == 1);
  CHECK(active(uv));
  promises.clear();
  CHECK(timersOf(uv).count == 1);
  CHECK_FALSE(active(uv));
}

TEST_CASE_FIXTURE(TimerTest, "the uv_timer_t is active exactly while a deadline is pending") {
  CHECK_FALSE(active(uv));
  {
    Promise<void> a = timer.afterDelay(1h);
    CHECK(active(uv));
    { Promise<void> b = timer.afterDelay(1min); }
    CHECK(active(uv));
  }
  CHECK_FALSE(active(uv));
  timer.afterDelay(1ms).wait(scope);
  CHECK_FALSE(active(uv));
}

TEST_CASE_FIXTURE(TimerTest, "a delay of max() is pending like any other") {
  Promise<void> promise = timer.afterDelay(Duration::max());
  CHECK_FALSE(promise.poll(scope));
  timer.afterDelay(1ms).wait(scope);
  CHECK_FALSE(promise.poll(scope));
  { Promise<void> gone = std::move(promise); }
  Promise<void> alone = timer.afterDelay(Duration::max());
  CHECK(active(uv));
  { Promise<void> gone = std::move(alone); }
  CHECK_FALSE(active(uv));
}

TEST_CASE_FIXTURE(TimerTest, "an earlier deadline that comes later is not missed") {
  Promise<void> hour = timer.afterDelay(1h);
  Promise<void> minute = timer.afterDelay(1min);
  timer.afterDelay(1ms).wait(scope);
  CHECK_FALSE(minute.poll(scope));
  CHECK_FALSE(hour.poll(scope));
}

TEST_CASE_FIXTURE(TimerTest, "cancelling the earliest deadline does not lose the others") {
  bool ran = false;
  Promise<void> later = timer.afterDelay(2ms).then([&] { ran = true; }).eagerlyEvaluate(nullptr);
  { Promise<void> first = timer.afterDelay(1ms); }
  std::move(later).wait(scope);
  CHECK(ran);
}

TEST_CASE_FIXTURE(TimerTest, "cancelling a pending timer does not touch libuv while others are pending") {
  Promise<void> first = timer.afterDelay(1h);
  std::optional<Promise<void>> second = timer.afterDelay(2h);
  const uv_timer_t* handle = timersOf(uv).one;
  const auto due = uv_timer_get_due_in(handle);
  CHECK(due > 0);
  second.reset();
  CHECK(uv_timer_get_due_in(handle) == due);
  second = timer.afterDelay(3h);
  CHECK(uv_timer_get_due_in(handle) == due);
  { Promise<void> gone = std::move(first); }
  CHECK(uv_timer_get_due_in(handle) == due); // one wake-up too many is cheaper than arming anew
  CHECK(active(uv));
}

TEST_CASE("a timer that is destroyed first disconnects who waits") {
  NothingLeft nothingLeft;
  UvEventPort port;
  EventLoop loop(port);
  WaitScope scope(loop);
  std::optional<UvTimer> timer(std::in_place, port);
  Promise<void> a = timer->afterDelay(1h);
  Promise<void> gone = timer->afterDelay(2h);
  CHECK_FALSE(a.poll(scope));
  timer.reset();
  CHECK(a.poll(scope));
  CHECK(kindName(failureOf(std::move(a), scope)) == "DISCONNECTED");
}

TEST_CASE_FIXTURE(TimerTest, "time-outs work on the real clock, and at the ends of time") {
  CHECK(timer.timeoutAfter(1h, Promise<int>(1)).wait(scope) == 1);
  const auto start = steady_clock::now();
  const Exception e = failureOf(timer.timeoutAfter(2ms, Promise<int>(NEVER_DONE)), scope);
  CHECK((steady_clock::now() - start >= 2ms));
  CHECK(e.description() == "timed out after 2ms");
  CHECK(timer.timeoutAfter(Duration::max(), Promise<int>(1)).wait(scope) == 1);
  CHECK(timer.timeoutAt(TimePoint::max(), Promise<int>(1)).wait(scope) == 1);
  CHECK_FALSE(active(uv));
}

TEST_CASE("cancelling delays and time-outs at every step leaves nothing (R5)") {
  const std::size_t steps = cancelSweep([](IoTest& test) -> Promise<void> {
    Timer& timer = test.io.timer();
    for (int i = 0; i < 3; ++i) {
      Promise<void> background = timer.afterDelay(300us).attach(std::make_unique<int>(i)).eagerlyEvaluate(nullptr);
      co_await timer.afterDelay(0ns);
      co_await timer.timeoutAfter(200us, Promise<void>(NEVER_DONE)).catch_([](Exception) {});
      co_await timer.timeoutAfter(1h, std::move(background));
    }
  });
  CHECK(steps >= 9);
}

TEST_CASE_FIXTURE(HostTest, "a host's loop ends when all timers are cancelled, and goes on while one is pending") {
  std::optional<Promise<void>> a = io->timer().afterDelay(1h);
  std::optional<Promise<void>> b = io->timer().afterDelay(2h);
  CHECK(uv_loop_alive(&host) != 0);
  a.reset();
  CHECK(uv_loop_alive(&host) != 0);
  b.reset();
  CHECK(uv_loop_alive(&host) == 0);
  CHECK(uv_run(&host, UV_RUN_DEFAULT) == 0);
  bool ran = false;
  Promise<void> c = io->timer().afterDelay(1ms).then([&] { ran = true; }).eagerlyEvaluate(nullptr);
  CHECK(uv_run(&host, UV_RUN_DEFAULT) == 0);
  CHECK(ran);
}

TEST_CASE_FIXTURE(HostTest, "delays under a host whose callbacks work long are not early") {
  struct At {
    Timer* timer;
    std::optional<Promise<void>> promise;
    bool early = false;
    bool fired = false;
  } at{&io->timer(), std::nullopt};
  uv_timer_t handle;
  uv_timer_init(&host, &handle);
  handle.data = &at;
  uv_timer_start(
      &handle,
      [](uv_timer_t* h) {
        auto* self = static_cast<At*>(h->data);
        busy(5ms);
        const auto start = steady_clock::now();
        self->promise = self->timer->afterDelay(3ms).then([self, start] {
          self->fired = true;
          self->early = steady_clock::now() - start < 3ms;
        }).eagerlyEvaluate(nullptr);
        uv_close(reinterpret_cast<uv_handle_t*>(h), nullptr);
      },
      0, 0);
  uv_run(&host, UV_RUN_DEFAULT);
  CHECK(at.fired);
  CHECK_FALSE(at.early);
}

TEST_CASE_FIXTURE(TimerTest, "a timer that is due when the loop begins to wait wakes it, though something else is pending") {
  uv_prepare_t other; // something that keeps the loop waiting for as long as need be
  REQUIRE(uv_prepare_init(uv, &other) == 0);
  REQUIRE(uv_prepare_start(&other, [](uv_prepare_t*) {}) == 0);
  Promise<void> delay = timer.afterDelay(1ms);
  busy(5ms);
  std::move(delay).wait(scope);
  uv_close(reinterpret_cast<uv_handle_t*>(&other), nullptr);
  scope.poll();
}
