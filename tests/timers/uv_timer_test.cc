// SPDX-License-Identifier: MIT
// UvTimer on the real clock: never early, one uv_timer_t, alive exactly while something is pending.
#include "../io/failing_call.h"
#include "../runtime/helpers.h"

#include <troth/runtime/uv/uv_event_port.h>
#include <troth/timers/uv_timer.h>

#include <uv.h>

#include <array>
#include <cerrno>
#include <random>
#include <set>
#include <vector>

#include <unistd.h>

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

/// Of the loop's uv_poll_t: the one that wakes it, and that of the timerfd.
std::size_t pollsOf(uv_loop_t* loop, bool referenced = false) {
  struct Count {
    bool referenced;
    std::size_t polls;
  } count{referenced, 0};
  uv_walk(
      loop,
      [](uv_handle_t* handle, void* into) {
        auto& c = *static_cast<Count*>(into);
        if (handle->type == UV_POLL && uv_is_closing(handle) == 0 && (!c.referenced || uv_has_ref(handle) != 0)) ++c.polls;
      },
      &count);
  return count.polls;
}

/// A pipe that has been written to, and a handle that sees so: I/O that is waiting to be noticed.
struct ReadablePipe {
  std::array<uv_file, 2> ends{-1, -1};
  UvHandle<uv_poll_t> poll;
  bool seen = false;

  explicit ReadablePipe(uv_loop_t* loop) {
    REQUIRE(uv_pipe(ends.data(), 0, 0) == 0);
    REQUIRE(write(ends[1], "x", 1) == 1);
    poll = UvHandle<uv_poll_t>("uv_poll_init", [&](uv_poll_t* handle) { return uv_poll_init(loop, handle, ends[0]); });
    poll.setData(this);
    uv_poll_start(poll.get(), UV_READABLE, [](uv_poll_t* handle, int, int) {
      static_cast<ReadablePipe*>(handle->data)->seen = true;
      uv_poll_stop(handle);
    });
  }
  ReadablePipe(const ReadablePipe&) = delete;
  ReadablePipe& operator=(const ReadablePipe&) = delete;
  ~ReadablePipe() {
    poll.close();
    for (const uv_file end : ends) ::close(end);
  }
};

/// A coroutine that does nothing but wait for no time at all, over and over.
Promise<void> spin(Timer& timer, const bool& stop, std::size_t& laps) {
  while (!stop && ++laps < 1'000'000) co_await timer.afterDelay(0ns);
}

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
  for (int i = 0; i < 12; ++i) {
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
  ReadablePipe pipe(uv);
  bool stop = false;
  std::size_t laps = 0;
  Promise<void> spinning = spin(timer, stop, laps);
  timer.afterDelay(2ms).wait(scope);
  CHECK(pipe.seen);
  CHECK(laps > 1);
  CHECK(laps < 1'000'000);
  stop = true;
  std::move(spinning).wait(scope);
}

TEST_CASE_FIXTURE(HostTest, "a loop of zero delays leaves a host's loop its timers and I/O, and each of its rounds (S9)") {
  struct Ticks {
    int left = 3;
    bool done = false;
  } ticks;
  UvHandle<uv_timer_t> ticker("uv_timer_init", [&](uv_timer_t* handle) { return uv_timer_init(&host, handle); });
  ticker.setData(&ticks);
  uv_timer_start(
      ticker.get(),
      [](uv_timer_t* handle) {
        auto& t = *static_cast<Ticks*>(handle->data);
        if (--t.left > 0) return;
        t.done = true;
        uv_timer_stop(handle);
      },
      1, 1);
  ReadablePipe pipe(&host);
  std::size_t laps = 0;
  Promise<void> spinning = spin(io->timer(), ticks.done, laps);
  for (int round = 0; round < 5; ++round) {
    const std::size_t before = laps;
    uv_run(&host, UV_RUN_NOWAIT);
    CHECK(laps <= before + 2); // it does not go round inside of libuv's timers
  }
  uv_run(&host, UV_RUN_DEFAULT); // ends, since the last tick ends the spinning
  CHECK(ticks.done);
  CHECK(pipe.seen);
  CHECK(laps > 5);
  CHECK(laps < 1'000'000);
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

TEST_CASE_FIXTURE(TimerTest, "slack lets deadlines that lie close together share one wake-up, and none is early") {
  io.setTimerSlack(50ms);
  std::set<std::uint64_t> batches;
  int early = 0;
  const TimePoint base = steady_clock::now();
  std::vector<Promise<void>> promises;
  for (int i = 1; i <= 10; ++i) {
    const TimePoint deadline = base + i * 3ms;
    promises.push_back(timer.atTime(deadline).then([&, deadline] {
      batches.insert(io.uvEventPort().batch());
      if (steady_clock::now() < deadline) ++early;
    }).eagerlyEvaluate(nullptr));
  }
  for (Promise<void>& promise : promises) std::move(promise).wait(scope);
  CHECK(batches.size() == 1);
  CHECK(early == 0);
  CHECK((steady_clock::now() >= base + 3ms + 49ms)); // the last whole millisecond within the slack
}

TEST_CASE_FIXTURE(TimerTest, "slack counts from the earliest deadline, holds for pending ones, and can be taken back") {
  const auto dueIn = [&] { return std::chrono::milliseconds(uv_timer_get_due_in(timersOf(uv).one)); };
  Promise<void> hour = timer.afterDelay(1h);
  CHECK(dueIn() <= 1h + 2ms);
  io.setTimerSlack(10min);
  CHECK(dueIn() > 1h + 9min);
  CHECK(dueIn() <= 1h + 10min + 2ms);
  Promise<void> between = timer.afterDelay(1h + 5min);
  CHECK(dueIn() <= 1h + 10min + 2ms);
  Promise<void> earlier = timer.afterDelay(55min);
  CHECK(dueIn() > 1h + 4min);
  CHECK(dueIn() <= 1h + 5min + 2ms);
  io.setTimerSlack(0ns);
  CHECK(dueIn() <= 55min + 2ms);
  io.setTimerSlack(Duration::max()); // no end of time is exceeded
  CHECK(dueIn() > 10'000h);
  const Exception e = thrownBy([&] { io.setTimerSlack(-1ns); });
  CHECK(kindName(e) == "FAILED");
  CHECK(contains(e.description(), "negative"));
  CHECK(fileOf(e) == "uv_timer_test.cc");
}

#ifdef __linux__
TEST_CASE_FIXTURE(TimerTest, "a delay of less than a millisecond takes less than one on Linux, and is not early (S9)") {
  const auto body = [&]() -> Promise<Duration> {
    Duration shortest = 1h;
    for (int i = 0; i < 200; ++i) {
      const auto start = steady_clock::now();
      co_await timer.afterDelay(200us);
      shortest = std::min<Duration>(shortest, steady_clock::now() - start);
    }
    co_return shortest;
  };
  const Duration shortest = body().wait(scope);
  CHECK((shortest >= 200us));
  CHECK((shortest < 1ms)); // whole milliseconds of a clock that has begun one take longer, each time
}

TEST_CASE_FIXTURE(TimerTest, "the timerfd is made when such a delay is next, and is not what keeps the loop alive") {
  timer.afterDelay(3ms).wait(scope);
  timer.afterDelay(0ns).wait(scope);
  Promise<void> hour = timer.afterDelay(1h);
  CHECK(pollsOf(uv) == 1);
  std::optional<Promise<void>> soon = timer.afterDelay(900us);
  CHECK(pollsOf(uv) == 2);
  CHECK(pollsOf(uv, true) == 0);
  const std::size_t descriptors = openDescriptors();
  soon.reset();
  { const Promise<void> gone = std::move(hour); }
  CHECK(uv_loop_alive(uv) == 0);
  for (int i = 0; i < 5; ++i) timer.afterDelay(100us).wait(scope);
  CHECK(openDescriptors() == descriptors); // the same one each time
}

TEST_CASE_FIXTURE(TimerTest, "short delays, cancelled ones too, do not keep waking the loop") {
  const auto wakeUps = [&](auto&& body) {
    const std::uint64_t before = io.uvEventPort().batch();
    body();
    return io.uvEventPort().batch() - before;
  };
  Promise<void> hour = timer.afterDelay(1h); // so that something is next when the short ones are over
  CHECK(wakeUps([&] { timer.afterDelay(100us).wait(scope); }) <= 10);
  CHECK(wakeUps([&] { timer.afterDelay(20ms).wait(scope); }) <= 10);
  for (int i = 0; i < 10; ++i) { const Promise<void> gone = timer.afterDelay(500us); }
  CHECK(wakeUps([&] { timer.afterDelay(20ms).wait(scope); }) <= 10);
}

TEST_CASE_FIXTURE(TimerTest, "short delays that are set and cancelled in any order neither lose nor hasten others") {
  std::mt19937 random(3);
  int early = 0;
  int fired = 0;
  int kept = 0;
  std::vector<std::optional<Promise<void>>> promises;
  for (int i = 0; i < 300; ++i) {
    const Duration delay = std::chrono::microseconds(random() % 1500);
    const auto start = steady_clock::now();
    promises.emplace_back(timer.afterDelay(delay).then([&, start, delay] {
      ++fired;
      if (steady_clock::now() - start < delay) ++early;
    }).eagerlyEvaluate(nullptr));
    if (random() % 3 == 0) promises.back().reset(); // at once; the wake-up that was planned for it may come
    if (random() % 8 == 0) scope.poll();
  }
  const int before = fired;
  for (std::optional<Promise<void>>& promise : promises) {
    if (!promise) continue;
    ++kept;
    std::move(*promise).wait(scope);
  }
  CHECK(fired == kept);
  CHECK(before <= kept);
  CHECK(early == 0);
}

TEST_CASE("short delays are rounded up to milliseconds where no timerfd can be had") {
  for (const FailingCall& failing :
       {FailingCall{SYS_timerfd_create, EMFILE}, FailingCall{SYS_timerfd_create, ENOSYS}})
    withFailing(failing, [] {
      TimerTest test;
      const auto start = steady_clock::now();
      for (int i = 0; i < 3; ++i) test.timer.afterDelay(300us).wait(test.scope);
      CHECK((steady_clock::now() - start >= 900us));
      CHECK(pollsOf(test.uv) == 1);
    });
  withFailing({SYS_timerfd_settime, EINVAL}, [] {
    TimerTest test;
    test.timer.afterDelay(300us).wait(test.scope);
  });
}

TEST_CASE_FIXTURE(HostTest, "a short delay keeps a host's loop alive until it is over or cancelled, and no longer") {
  bool ran = false;
  Promise<void> delay = io->timer().afterDelay(300us).then([&] { ran = true; }).eagerlyEvaluate(nullptr);
  CHECK(uv_loop_alive(&host) != 0);
  CHECK(uv_run(&host, UV_RUN_DEFAULT) == 0);
  CHECK(ran);
  CHECK(pollsOf(&host) == 2);
  CHECK(pollsOf(&host, true) == 0);
  std::optional<Promise<void>> gone = io->timer().afterDelay(900us);
  CHECK(uv_loop_alive(&host) != 0);
  gone.reset();
  CHECK(uv_loop_alive(&host) == 0);
  CHECK(uv_run(&host, UV_RUN_DEFAULT) == 0);
}
#endif

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
