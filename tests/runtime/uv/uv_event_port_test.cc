// SPDX-License-Identifier: MIT
// UvEventPort: driving a loop of its own, being driven by a host, fairness, handles, shutting down.
#include "../helpers.h"
#include "host.h"

#include <troth/runtime/task_set.h>
#include <troth/runtime/uv/uv_event_port.h>
#include <troth/timers/timer.h>

#include <uv.h>

#include <unistd.h>

#include <chrono>
#include <csignal>
#include <optional>
#include <thread>
#include <vector>

using namespace troth;
using namespace troth::test;
using namespace std::chrono_literals;

namespace {

/// Runs breadth-first for ever, or a long time.
Promise<void> flood(const bool& stop, std::size_t& laps) {
  return evalLater([&]() -> Promise<void> {
    if (stop || ++laps >= 3'000'000) return READY_NOW;
    return flood(stop, laps);
  });
}

Promise<void> spin(const bool& stop, std::size_t& laps) {
  while (!stop && ++laps < 100'000'000) co_await READY_NOW;
}

Promise<void> readyLoop(const bool& stop, std::size_t& laps) {
  return Promise<int>(1).then([&](int) -> Promise<void> {
    if (stop || ++laps >= 3'000'000) return READY_NOW;
    return readyLoop(stop, laps);
  });
}

class RestoreSigpipe {
public:
  RestoreSigpipe() { sigaction(SIGPIPE, nullptr, &before_); }
  ~RestoreSigpipe() { sigaction(SIGPIPE, &before_, nullptr); }

private:
  struct sigaction before_ {};
};

} // namespace

// -------------------------------------------------------------------------------------------- driving

TEST_CASE_FIXTURE(IoTest, "a driving loop waits for I/O") {
  Pipe p;
  Promise<void> readable = newAdaptedPromise<void, Readable>(io.uvEventPort().uvLoop(), p.ends[0]);
  takeAfter(readable, scope, [&] { p.put(); });
}

TEST_CASE_FIXTURE(IoTest, "a deadlock on libuv throws and names the caller") {
  const Exception e = thrownBy([&] { Promise<void>(NEVER_DONE).wait(scope); });
  CHECK(kindName(e) == "FAILED");
  CHECK(contains(e.description(), "deadlock"));
  CHECK(evalLater([] { return 1; }).wait(scope) == 1);
  CHECK(fileOf(e) == "uv_event_port_test.cc");
}

TEST_CASE_FIXTURE(IoTest, "a deadlock is noticed again, and not before I/O that is pending has happened") {
  CHECK(contains(thrownBy([&] { Promise<void>(NEVER_DONE).wait(scope); }).description(), "deadlock"));
  CHECK_NOTHROW(io.timer().afterDelay(1ms).wait(scope));
  bool fired = false;
  Promise<void> timer = io.timer().afterDelay(1ms).then([&] { fired = true; }).eagerlyEvaluate(nullptr);
  CHECK(contains(thrownBy([&] { Promise<void>(NEVER_DONE).wait(scope); }).description(), "deadlock"));
  CHECK(fired);
}

TEST_CASE_FIXTURE(IoTest, "wake from another thread makes wait return") {
  // Something is pending for an hour, so that only wake() ends the wait.
  Promise<void> hour = io.timer().afterDelay(1h);
  const UvEventPort& port = io.uvEventPort();
  for (int i = 0; i < 100; ++i) {
    std::thread waker([&] { port.wake(); });
    io.uvEventPort().wait();
    waker.join();
  }
  CHECK_FALSE(hour.poll(scope));
}

TEST_CASE_FIXTURE(IoTest, "wake before wait is not lost, and many are as good as one") {
  Promise<void> hour = io.timer().afterDelay(1h);
  for (int i = 0; i < 1000; ++i) io.uvEventPort().wake();
  io.uvEventPort().wait();
  io.uvEventPort().wake();
  io.uvEventPort().wait();
  CHECK_FALSE(hour.poll(scope));
}

TEST_CASE_FIXTURE(IoTest, "batch changes when the world was looked at, and not otherwise") {
  const auto before = io.uvEventPort().batch();
  evalLater([] {}).wait(scope);
  CHECK(io.uvEventPort().batch() == before);
  scope.poll();
  CHECK(io.uvEventPort().batch() != before);
}

TEST_CASE("a driving loop ignores SIGPIPE exactly if it has its default action") {
  NothingLeft nothingLeft;
  RestoreSigpipe restore;
  struct sigaction now {};
  std::signal(SIGPIPE, SIG_DFL);
  { UvEventPort port; }
  sigaction(SIGPIPE, nullptr, &now);
  CHECK((now.sa_handler == SIG_IGN));
  const auto handler = +[](int) {};
  std::signal(SIGPIPE, handler);
  { UvEventPort port; }
  sigaction(SIGPIPE, nullptr, &now);
  CHECK((now.sa_handler == handler));
  const auto detailed = +[](int, siginfo_t*, void*) {};
  struct sigaction withInfo {};
  withInfo.sa_sigaction = detailed;
  withInfo.sa_flags = SA_SIGINFO;
  sigaction(SIGPIPE, &withInfo, nullptr);
  { UvEventPort port; }
  sigaction(SIGPIPE, nullptr, &now);
  CHECK((now.sa_sigaction == detailed));
}

TEST_CASE("a loop that is closed with open handles aborts and names them") {
  const ChildEnd end = runInChild([] {
    uv_timer_t timer;
    uv_idle_t idle;
    UvEventPort port;
    uv_timer_init(port.uvLoop(), &timer);
    uv_idle_init(port.uvLoop(), &idle);
  });
  CHECK(end.aborted);
  CHECK(contains(end.errors, "handles are still open"));
  CHECK(contains(end.errors, "timer"));
  CHECK(contains(end.errors, "idle"));
}

TEST_CASE("closing a driving loop lets requests in flight end (R13, R14)") {
  NothingLeft nothingLeft;
  bool done = false;
  uv_work_t work;
  work.data = &done;
  {
    AsyncIoContext io = setupAsyncIo();
    REQUIRE(uv_queue_work(
                io.uvEventPort().uvLoop(), &work, [](uv_work_t*) {}, [](uv_work_t* w, int) { *static_cast<bool*>(w->data) = true; }) == 0);
  }
  CHECK(done);
}

TEST_CASE_FIXTURE(IoTest, "a handle whose owner goes is closed, its memory lives until libuv's callback, and it calls nobody (R9)") {
  Pipe p;
  uv_loop_t* loop = io.uvEventPort().uvLoop();
  const std::size_t before = countHandles(loop);
  {
    Promise<void> readable = newAdaptedPromise<void, Readable>(loop, p.ends[0]);
    p.put();
    CHECK(countHandles(loop) == before + 1);
  }
  CHECK(countHandles(loop) == before + 1); // closing
  scope.poll();
  CHECK(countHandles(loop) == before);
}

TEST_CASE("cancelling I/O at every step leaves nothing (R5)") {
  const std::size_t steps = cancelSweep([](IoTest& test) -> Promise<void> {
    auto p = std::make_unique<Pipe>();
    uv_loop_t* loop = test.io.uvEventPort().uvLoop();
    for (int i = 0; i < 3; ++i) {
      Promise<void> readable = newAdaptedPromise<void, Readable>(loop, p->ends[0]);
      co_await test.io.timer().afterDelay(100us);
      p->put();
      co_await std::move(readable).exclusiveJoin(test.io.timer().afterDelay(1h));
      char c;
      CHECK(read(p->ends[0], &c, 1) == 1);
    }
  });
  CHECK(steps >= 6);
}

TEST_CASE("two threads each have a driving loop of their own") {
  std::vector<std::thread> threads;
  std::vector<int> sums(2);
  for (std::size_t t = 0; t < 2; ++t)
    threads.emplace_back([t, &sums] {
      AsyncIoContext io = setupAsyncIo(); // no fixture: it would count the other thread's descriptors
      auto body = [](Timer& timer) -> Promise<int> {
        int sum = 0;
        for (int i = 0; i < 20; ++i) {
          co_await timer.afterDelay(100us);
          ++sum;
        }
        co_return sum;
      };
      sums[t] = body(io.timer()).wait(io.waitScope());
    });
  for (std::thread& thread : threads) thread.join();
  CHECK(sums == std::vector<int>{20, 20});
}

// -------------------------------------------------------------------------------------------- fairness

TEST_CASE_FIXTURE(IoTest, "events that are always ready do not starve timers and I/O of a driving loop (R12)") {
  bool stop = false;
  std::size_t laps = 0;
  std::optional<Promise<void>> noise;
  std::size_t most = 3'000'000;
  SUBCASE("an evalLater loop") { noise = flood(stop, laps); }
  SUBCASE("a ready promise loop") { noise = readyLoop(stop, laps); }
  SUBCASE("a coroutine that awaits READY_NOW") {
    noise = spin(stop, laps);
    most = 100'000'000;
  }
  Pipe p;
  Promise<void> readable = newAdaptedPromise<void, Readable>(io.uvEventPort().uvLoop(), p.ends[0]);
  io.timer().afterDelay(2ms).wait(scope);
  CHECK(laps < most);
  p.put();
  std::move(readable).wait(scope);
  CHECK(laps < most);
  stop = true;
  std::move(*noise).wait(scope);
}

TEST_CASE_FIXTURE(HostTest, "events that are always ready do not starve the host's timers and I/O (R12)") {
  bool stop = false;
  std::size_t laps = 0;
  std::optional<Promise<void>> noise;
  SUBCASE("an evalLater loop") { noise = flood(stop, laps); }
  SUBCASE("a ready promise loop") { noise = readyLoop(stop, laps); }
  SUBCASE("a coroutine that awaits READY_NOW") { noise = spin(stop, laps); }
  bool ended = false;
  Promise<void> running = std::move(*noise).then([&] { ended = true; }).eagerlyEvaluate(nullptr);

  Pipe p;
  struct Progress {
    int ticks = 0;
    int reads = 0;
    Pipe* p;
  } progress;
  progress.p = &p;
  uv_timer_t ticker;
  uv_poll_t poller;
  REQUIRE(uv_timer_init(&host, &ticker) == 0);
  REQUIRE(uv_poll_init(&host, &poller, p.ends[0]) == 0);
  ticker.data = poller.data = &progress;
  uv_timer_start(
      &ticker,
      [](uv_timer_t* h) {
        auto* at = static_cast<Progress*>(h->data);
        ++at->ticks;
        at->p->put();
      },
      1, 1);
  uv_poll_start(&poller, UV_READABLE, [](uv_poll_t* h, int, int) {
    auto* at = static_cast<Progress*>(h->data);
    char c;
    if (read(at->p->ends[0], &c, 1) == 1) ++at->reads;
  });
  Promise<void> own = io->timer().afterDelay(3ms).eagerlyEvaluate(nullptr);
  bool ownDone = false;
  Promise<void> ownSeen = std::move(own).then([&] { ownDone = true; }).eagerlyEvaluate(nullptr);
  const auto giveUp = std::chrono::steady_clock::now() + 20s;
  while ((progress.reads < 5 || !ownDone) && std::chrono::steady_clock::now() < giveUp) uv_run(&host, UV_RUN_ONCE);
  CHECK(progress.ticks >= 5);
  CHECK(progress.reads >= 5);
  CHECK(ownDone);
  CHECK_FALSE(ended); // or the host had only waited for the end of it
  stop = true;
  uv_close(reinterpret_cast<uv_handle_t*>(&ticker), nullptr);
  uv_close(reinterpret_cast<uv_handle_t*>(&poller), nullptr);
  uv_run(&host, UV_RUN_DEFAULT);
}

// ---------------------------------------------------------------------------------------------- driven

TEST_CASE_FIXTURE(IoTest, "yieldUntilWouldSleep lets a driving loop take what I/O is there, and no more") {
  Pipe pipe;
  std::string log;
  Promise<void> readable = newAdaptedPromise<void, Readable>(io.uvEventPort().uvLoop(), pipe.ends[0])
                               .then([&] { log += "readable "; })
                               .eagerlyEvaluate(nullptr);
  pipe.put();
  yieldUntilWouldSleep().then([&] { log += "slept "; }).wait(scope);
  CHECK(log == "readable slept ");
}

TEST_CASE_FIXTURE(HostTest, "yieldUntilWouldSleep lets a host's loop take what I/O is there, and does not keep it from ending") {
  Pipe pipe;
  std::string log;
  Promise<void> readable =
      newAdaptedPromise<void, Readable>(&host, pipe.ends[0]).then([&] { log += "readable "; }).eagerlyEvaluate(nullptr);
  pipe.put();
  Promise<void> slept = yieldUntilWouldSleep().then([&] { log += "slept "; }).eagerlyEvaluate(nullptr);
  CHECK(uv_run(&host, UV_RUN_DEFAULT) == 0);
  CHECK(log == "readable slept ");
}

TEST_CASE_FIXTURE(HostTest, "the host's loop ends when troth is idle") {
  CHECK(uv_loop_alive(&host) == 0);
  CHECK(uv_run(&host, UV_RUN_DEFAULT) == 0);
}

TEST_CASE_FIXTURE(HostTest, "a host's loop goes on while troth has work and ends with it") {
  FailOnError handler;
  TaskSet tasks(handler);
  std::string log;
  tasks.add([](Timer& timer, std::string& l) -> Promise<void> {
    l += "a";
    co_await timer.afterDelay(1ms);
    l += "b";
    co_await evalLater([] {});
    co_await timer.afterDelay(1ms);
    l += "c";
  }(io->timer(), log));
  CHECK(uv_loop_alive(&host) != 0);
  CHECK(uv_run(&host, UV_RUN_DEFAULT) == 0);
  CHECK(log == "abc");
  CHECK(tasks.isEmpty());
}

TEST_CASE_FIXTURE(HostTest, "queued events alone keep the host's loop going until they have run") {
  int ran = 0;
  Promise<void> promise = evalLater([&] {
    ++ran;
    return evalLater([&] {
      ++ran;
      return evalLater([&]() -> Promise<void> {
        ++ran;
        return READY_NOW;
      });
    });
  });
  CHECK(uv_loop_alive(&host) != 0);
  CHECK(ran == 0); // making the queue non-empty runs nothing by itself
  CHECK(uv_run(&host, UV_RUN_DEFAULT) == 0);
  CHECK(ran == 3);
}

TEST_CASE_FIXTURE(HostTest, "what was queued and then cancelled does not keep the host's loop going") {
  { Promise<void> promise = evalLater([] {}).eagerlyEvaluate(nullptr); }
  runSome();
  CHECK(uv_loop_alive(&host) == 0);
  // Otherwise the fixture's uv_run would not end.
  Promise<void> settle = evalLater([] {}).eagerlyEvaluate(nullptr);
  runSome();
}

TEST_CASE_FIXTURE(HostTest, "a cancelled timer does not keep the host's loop going") {
  { Promise<void> hour = io->timer().afterDelay(1h); }
  CHECK(uv_loop_alive(&host) == 0);
  CHECK(uv_run(&host, UV_RUN_DEFAULT) == 0);
}

TEST_CASE_FIXTURE(HostTest, "a host's callback only arms events: turns run after it, in check or prepare") {
  struct Seen {
    std::string log;
    std::unique_ptr<PromiseFulfiller<void>> fulfiller;
  } seen;
  auto pair = newPromiseAndFulfiller<void>();
  seen.fulfiller = std::move(pair.fulfiller);
  Promise<void> waits = std::move(pair.promise).then([&] { seen.log += "turn "; }).eagerlyEvaluate(nullptr);
  uv_timer_t timer;
  REQUIRE(uv_timer_init(&host, &timer) == 0);
  timer.data = &seen;
  uv_timer_start(
      &timer,
      [](uv_timer_t* h) {
        auto* at = static_cast<Seen*>(h->data);
        at->log += "callback{ ";
        at->fulfiller->fulfill();
        at->log += "} ";
        uv_close(reinterpret_cast<uv_handle_t*>(h), nullptr);
      },
      0, 0);
  uv_run(&host, UV_RUN_DEFAULT);
  CHECK(seen.log == "callback{ } turn ");
}

TEST_CASE_FIXTURE(HostTest, "turns after I/O run in the same iteration, and those after timers before libuv blocks") {
  Pipe p;
  p.put();
  bool ran = false;
  Promise<void> readable =
      newAdaptedPromise<void, Readable>(&host, p.ends[0]).then([&] { ran = true; }).eagerlyEvaluate(nullptr);
  uv_run(&host, UV_RUN_ONCE);
  CHECK(ran);
  bool timed = false;
  Promise<void> timer = io->timer().afterDelay(0ms).then([&] { timed = true; }).eagerlyEvaluate(nullptr);
  Promise<void> hour = io->timer().afterDelay(1h);
  for (int i = 0; i < 5 && !timed; ++i) uv_run(&host, UV_RUN_ONCE); // libuv counts whole milliseconds
  CHECK(timed);
}

TEST_CASE_FIXTURE(HostTest, "a continuation that runs the host's loop does not re-enter turns") {
  std::string log;
  Promise<void> outer = evalLater([&] {
    log += "outer{ ";
    for (int i = 0; i < 3; ++i) uv_run(&host, UV_RUN_NOWAIT);
    log += "} ";
  }).eagerlyEvaluate(nullptr);
  Promise<void> other = evalLater([&] { log += "other "; }).eagerlyEvaluate(nullptr);
  runSome();
  CHECK(log == "outer{ } other ");
}

TEST_CASE_FIXTURE(HostTest, "blocking is refused on a host's loop") {
  EventLoop& loop = io->eventLoop();
  CHECK(contains(thrownBy([&] { io->uvEventPort().wait(); }).description(), "driven by its host"));
  CHECK(contains(thrownBy([&] { io->uvEventPort().poll(); }).description(), "driven by its host"));
  CHECK_FALSE(loop.isRunning());
}

TEST_CASE_FIXTURE(HostTest, "wake from another thread ends the host's blocking poll") {
  Promise<void> hour = io->timer().afterDelay(1h);
  const UvEventPort& port = io->uvEventPort();
  for (int i = 0; i < 20; ++i) {
    std::thread waker([&] { port.wake(); });
    uv_run(&host, UV_RUN_ONCE);
    waker.join();
  }
  CHECK(host.data == &mark);
}

TEST_CASE_FIXTURE(HostTest, "the context may be destroyed inside a host's callback, and the loop closes after it") {
  struct Host {
    std::optional<HostedAsyncIoContext>* io;
    std::optional<Promise<void>> work;
    int ticks = 0;
  } at{&io, std::nullopt, 0};
  at.work = io->timer().afterDelay(1h).eagerlyEvaluate(nullptr);
  uv_timer_t timer;
  REQUIRE(uv_timer_init(&host, &timer) == 0);
  timer.data = &at;
  uv_timer_start(
      &timer,
      [](uv_timer_t* h) {
        auto* self = static_cast<Host*>(h->data);
        if (++self->ticks == 1) {
          self->work.reset();
          self->io->reset();
        } else {
          uv_close(reinterpret_cast<uv_handle_t*>(h), nullptr);
        }
      },
      1, 1);
  CHECK(uv_run(&host, UV_RUN_DEFAULT) == 0);
  CHECK(at.ticks == 2); // the host's own handle went on
  CHECK(countHandles(&host) == 0);
  CHECK(EventLoop::currentOrNull() == nullptr);
}

TEST_CASE_FIXTURE(HostTest, "the context may be destroyed inside the host's check, prepare and idle callbacks") {
  struct At {
    std::optional<HostedAsyncIoContext>* io;
    std::optional<Promise<void>> work;
  } at{&io, evalLater([] {}).eagerlyEvaluate(nullptr)};
  union {
    uv_handle_t base;
    uv_check_t check;
    uv_prepare_t prepare;
    uv_idle_t idle;
  } handle;
  const auto drop = [](uv_handle_t* h) {
    auto* self = static_cast<At*>(h->data);
    self->work.reset();
    self->io->reset();
    uv_close(h, nullptr);
  };
  static decltype(drop) dropIt = drop;
  SUBCASE("check") {
    uv_check_init(&host, &handle.check);
    uv_check_start(&handle.check, [](uv_check_t* h) { dropIt(reinterpret_cast<uv_handle_t*>(h)); });
  }
  SUBCASE("prepare") {
    uv_prepare_init(&host, &handle.prepare);
    uv_prepare_start(&handle.prepare, [](uv_prepare_t* h) { dropIt(reinterpret_cast<uv_handle_t*>(h)); });
  }
  SUBCASE("idle") {
    uv_idle_init(&host, &handle.idle);
    uv_idle_start(&handle.idle, [](uv_idle_t* h) { dropIt(reinterpret_cast<uv_handle_t*>(h)); });
  }
  handle.base.data = &at;
  runSome(); // a check handle alone would block for ever
  CHECK(uv_loop_alive(&host) == 0);
  CHECK_FALSE(io);
  CHECK(countHandles(&host) == 0);
}

TEST_CASE_FIXTURE(HostTest, "the host's handles and signal dispositions are not touched") {
  RestoreSigpipe restore;
  std::signal(SIGPIPE, SIG_DFL);
  uv_timer_t timer;
  REQUIRE(uv_timer_init(&host, &timer) == 0);
  uv_timer_start(&timer, [](uv_timer_t*) {}, 3'600'000, 0);
  timer.data = &mark;
  io.reset();
  io.emplace(setupAsyncIo(&host));
  runSome();
  io.reset();
  runSome();
  struct sigaction now {};
  sigaction(SIGPIPE, nullptr, &now);
  CHECK((now.sa_handler == SIG_DFL));
  CHECK(uv_is_active(reinterpret_cast<uv_handle_t*>(&timer)) != 0);
  CHECK(uv_is_closing(reinterpret_cast<uv_handle_t*>(&timer)) == 0);
  CHECK(uv_has_ref(reinterpret_cast<uv_handle_t*>(&timer)) != 0);
  CHECK(timer.data == &mark);
  CHECK(countHandles(&host) == 1);
  uv_close(reinterpret_cast<uv_handle_t*>(&timer), nullptr);
  runSome(); // libuv lets go of it before it goes
}

TEST_CASE_FIXTURE(HostTest, "contexts may come and go on one host's loop") {
  for (int i = 0; i < 20; ++i) {
    io.reset();
    io.emplace(setupAsyncIo(&host));
    bool ran = false;
    Promise<void> promise = io->timer().afterDelay(100us).then([&] { ran = true; }).eagerlyEvaluate(nullptr);
    CHECK(uv_run(&host, UV_RUN_DEFAULT) == 0);
    CHECK(ran);
  }
}

TEST_CASE_FIXTURE(HostTest, "a second context on the thread is refused and leaves nothing on the loop") {
  const std::size_t before = countHandles(&host);
  const Exception e = thrownBy([&] { (void)setupAsyncIo(&host); });
  CHECK(contains(e.description(), "already has an event loop"));
  CHECK(fileOf(e) == "uv_event_port_test.cc");
  runSome();
  CHECK(countHandles(&host) == before);
}

TEST_CASE("two troth loops in two threads of one host") {
  std::vector<std::thread> threads;
  std::vector<int> sums(2);
  std::vector<int> closed(2, -1);
  for (std::size_t t = 0; t < 2; ++t)
    threads.emplace_back([t, &sums, &closed] {
      uv_loop_t host; // no fixture: it would count the other thread's descriptors
      uv_loop_init(&host);
      std::optional<HostedAsyncIoContext> io(setupAsyncIo(&host));
      std::optional<Promise<void>> work = [](Timer& timer, int& sum) -> Promise<void> {
        for (int i = 0; i < 20; ++i) {
          co_await timer.afterDelay(100us);
          ++sum;
        }
      }(io->timer(), sums[t]);
      uv_run(&host, UV_RUN_DEFAULT);
      work.reset();
      io.reset();
      uv_run(&host, UV_RUN_DEFAULT);
      closed[t] = uv_loop_close(&host);
    });
  for (std::thread& thread : threads) thread.join();
  CHECK(sums == std::vector<int>{20, 20});
  CHECK(closed == std::vector<int>{0, 0});
}

TEST_CASE("a port that is destroyed while it serves a loop aborts and says so") {
  const ChildEnd end = runInChild([] {
    uv_loop_t host;
    uv_loop_init(&host);
    std::optional<UvEventPort> port(std::in_place, &host);
    EventLoop loop(*port);
    port->serve(&loop);
    port.reset();
  });
  CHECK(end.aborted);
  CHECK(contains(end.errors, "while it serves an EventLoop"));
}
