// SPDX-License-Identifier: MIT
// SimulatedLoop: time that passes by itself, its bounds, and an hour of a protocol in no time.
#include "../runtime/helpers.h"

#include <troth/net/testing.h>
#include <troth/timers/retry.h>
#include <troth/timers/simulated_loop.h>
#include <troth/timers/ticker.h>

#include <thread>
#include <vector>

using namespace troth;
using namespace troth::test;
using namespace std::chrono_literals;

namespace {

struct SimulatedTest {
  NothingLeft nothingLeft;
  SimulatedLoop simulated;
  WaitScope& scope = simulated.waitScope();
  Timer& timer = simulated.timer();
};

/// Asks for its next turn for ever, without a pause.
Promise<void> spin() {
  for (;;) co_await yield();
}
Promise<void> spinWhenIdle() {
  for (;;) co_await yieldUntilWouldSleep();
}

Promise<void> lookForIo(std::size_t times) {
  for (; times > 0; --times) co_await yieldToIo();
}

Promise<void> spinToIo() { return lookForIo(SIZE_MAX); }

std::string textOf(const std::function<void()>& call) { return std::string(thrownBy(call).description()); }

} // namespace

TEST_CASE_FIXTURE(SimulatedTest, "waiting lets time pass up to the deadline that matters, and polling does not") {
  Promise<void> late = timer.afterDelay(1h);
  Promise<void> early = timer.afterDelay(10s);
  CHECK_FALSE(early.poll(scope));
  scope.poll();
  CHECK((simulated.elapsed() == 0s));
  std::move(early).wait(scope);
  CHECK((simulated.elapsed() == 10s));
  CHECK_FALSE(late.poll(scope));
  std::move(late).wait(scope);
  CHECK((simulated.elapsed() == 1h));
  evalLast([] {}).wait(scope); // what needs no time takes none
  yieldUntilWouldSleep().wait(scope);
  timer.afterDelay(0s).wait(scope);
  timer.atTime(TimePoint::min()).wait(scope);
  CHECK((simulated.elapsed() == 1h));
}

TEST_CASE_FIXTURE(SimulatedTest, "runFor() runs all that happens within a time, in order, and lets exactly that time pass") {
  std::string log;
  auto note = [&](const char* name) { log += name + std::to_string(simulated.elapsed() / 1s) + " "; };
  auto chain = coCapture([&]() -> Promise<void> {
    for (int i = 0; i < 3; ++i) {
      co_await timer.afterDelay(2s);
      note("a");
    }
  });
  Promise<void> a = chain().eagerlyEvaluate(nullptr);
  Promise<void> b = timer.afterDelay(5s).then([&] { note("b"); }).eagerlyEvaluate(nullptr);
  simulated.runFor(0s);
  CHECK(log == "");
  simulated.runFor(5s);
  CHECK(log == "a2 a4 b5 ");
  simulated.runFor(500ms);
  CHECK((simulated.elapsed() == 5500ms));
  simulated.runUntilIdle();
  CHECK(log == "a2 a4 b5 a6 ");
  CHECK((simulated.elapsed() == 6s));
  CHECK(contains(textOf([&] { simulated.runFor(-1ns); }), "time cannot go back"));
}

TEST_CASE("a simulation that does not end is ended by its limit, wherever it is run") {
  const NothingLeft nothingLeft;
  const auto limited = [](const std::function<void(SimulatedLoop&)>& run) {
    SimulatedLoop simulated({.start = TimePoint(5s), .limit = 10min});
    Ticker ticker(simulated.timer(), 1s);
    int ticks = 0;
    auto forEver = coCapture([&]() -> Promise<void> {
      for (;; ++ticks) co_await ticker.next();
    });
    Promise<void> task = forEver().eagerlyEvaluate(nullptr);
    const Exception e = thrownBy([&] { run(simulated); });
    CHECK_MESSAGE(contains(e.description(), "limit of 600s"), e.description());
    CHECK(ticks == 600);
    CHECK((simulated.elapsed() == 10min));
    // What waits is whole: it might go on, had it time.
    CHECK_FALSE(task.poll(simulated.waitScope()));
  };
  limited([](SimulatedLoop& s) { Promise<void>(NEVER_DONE).wait(s.waitScope()); });
  limited([](SimulatedLoop& s) { s.timer().afterDelay(10min + 1ns).wait(s.waitScope()); });
  limited([](SimulatedLoop& s) { s.runUntilIdle(); });
  limited([](SimulatedLoop& s) {
    s.runFor(10min);
    s.runFor(1ns);
  });
}

TEST_CASE("events without end, in which no time passes, are noticed wherever they run") {
  const NothingLeft nothingLeft;
  const std::function<void(SimulatedLoop&)> runs[] = {
      [](SimulatedLoop& s) { Promise<void>(NEVER_DONE).wait(s.waitScope()); },
      [](SimulatedLoop& s) { (void)Promise<void>(NEVER_DONE).poll(s.waitScope()); },
      [](SimulatedLoop& s) { s.waitScope().poll(); }, [](SimulatedLoop& s) { s.runFor(1s); },
      [](SimulatedLoop& s) { s.runUntilIdle(); }};
  for (std::size_t i = 0; i < 3 * std::size(runs); ++i) {
    CAPTURE(i);
    const auto& run = runs[i / 3];
    SimulatedLoop simulated({.eventsAtOnce = 10'000});
    Promise<void> spinning = i % 3 == 0 ? spin() : i % 3 == 1 ? spinWhenIdle() : spinToIo();
    CHECK(contains(textOf([&] { run(simulated); }), "does not get on: after 10000 events"));
    { Promise<void> gone = std::move(spinning); }
    CHECK((simulated.elapsed() == 0s));
    // As many, with time in between, are fine.
    for (int lap = 0; lap < 20; ++lap) {
      simulated.runFor(1ms);
      for (int j = 0; j < 500; ++j) yieldUntilWouldSleep().wait(simulated.waitScope());
      lookForIo(500).wait(simulated.waitScope());
    }
  }
}

TEST_CASE_FIXTURE(SimulatedTest, "a deadlock is reported as usual, and a delay without end does not hide it") {
  CHECK(contains(textOf([&] { Promise<void>(NEVER_DONE).wait(scope); }), "deadlock"));
  Promise<void> never = timer.afterDelay(Duration::max());
  CHECK(contains(textOf([&] { Promise<void>(NEVER_DONE).wait(scope); }), "deadlock"));
  simulated.runUntilIdle();
  simulated.runFor(1h);
  CHECK_FALSE(never.poll(scope));
  CHECK((simulated.elapsed() == 1h));
}

TEST_CASE_FIXTURE(SimulatedTest, "a wake() from another thread is noticed before time moves, and nothing waits for it") {
  Promise<void> delay = timer.afterDelay(1s);
  std::thread([&] { simulated.port().wake(); }).join();
  CHECK(simulated.port().wait());
  CHECK((simulated.elapsed() == 0s));
  CHECK(simulated.port().wait());
  CHECK((simulated.elapsed() == 1s));
  CHECK_FALSE(simulated.port().wait());
  std::thread([&] { simulated.port().wake(); }).join();
  CHECK(contains(textOf([&] { Promise<void>(NEVER_DONE).wait(scope); }), "deadlock"));
  std::move(delay).wait(scope);
}

TEST_CASE_FIXTURE(SimulatedTest, "a simulation is run from outside of its events, and is its thread's only loop") {
  CHECK(contains(textOf([&] { evalLater([&] { simulated.runFor(1s); }).wait(scope); }), "from inside"));
  CHECK(contains(textOf([&] { evalLater([&] { simulated.runUntilIdle(); }).wait(scope); }), "from inside"));
  const Exception e = thrownBy([] { SimulatedLoop second; });
  CHECK(contains(e.description(), "already has an event loop"));
  CHECK(fileOf(e) == "simulated_loop_test.cc");
}

TEST_CASE("a simulation may be given no time at all, and not less") {
  CHECK(contains(textOf([] { SimulatedLoop simulated({.limit = -1ns}); }), "limit of a simulation is negative"));
  SimulatedLoop simulated({.limit = 0s});
  simulated.timer().afterDelay(0s).wait(simulated.waitScope());
  simulated.runFor(0s);
  CHECK(contains(textOf([&] { simulated.timer().afterDelay(1ns).wait(simulated.waitScope()); }), "limit of 0ns"));
}

TEST_CASE("what was detached is cancelled while the simulation's timer still lives") {
  std::string log;
  {
    SimulatedLoop simulated;
    Timer& timer = simulated.timer();
    timer.afterDelay(1h).attach(OnExit([&] { log += std::to_string(timer.now().time_since_epoch() / 1s); })).detach([](const Exception&) {});
    simulated.runFor(7s);
  }
  CHECK(log == "7");
}

// --- A protocol: a client that pings each second, and connects again when there is no answer.

namespace {

/// Answers each line after a while. Now and then it is slow, and now and then it hangs up.
class PongServer final : private TaskSet::ErrorHandler {
public:
  PongServer(Timer& timer, std::uint64_t seed, ConnectionReceiver& port)
      : timer_(timer), random_(seed), port_(port), clients_(*this), accepting_(accept().eagerlyEvaluate(nullptr)) {}

  int hangUps = 0;

private:
  Timer& timer_;
  SeededRandom random_;
  ConnectionReceiver& port_;
  TaskSet clients_;
  Promise<void> accepting_;

  Promise<void> accept() {
    for (;;) clients_.add(serve(co_await port_.accept()));
  }
  Promise<void> serve(std::unique_ptr<AsyncIoStream> client) {
    for (;;) {
      Chunk line = co_await client->tryReadChunk();
      if (line.empty()) co_return;
      if (random_.upTo(199) == 0) {
        ++hangUps;
        co_return;
      }
      const bool isSlow = random_.upTo(99) == 0;
      co_await timer_.afterDelay(isSlow ? 2s : 10ms + Duration(random_.upTo(20'000'000)));
      co_await client->write(line);
    }
  }
  void taskFailed(Exception) override {} // the client is gone
};

class Heart {
public:
  Heart(Timer& timer, NetworkAddress& server, std::uint64_t seed)
      : timer_(timer), server_(server), random_(seed), start_(timer.now()) {}

  std::string log;
  int pings = 0;
  int reconnects = -1;

  /// Never ends.
  Promise<void> beat() {
    Ticker ticker(timer_, 1s);
    std::unique_ptr<AsyncIoStream> server;
    for (;;) {
      if (server == nullptr) {
        server = co_await retry(timer_, {.attempts = RetryOptions::UNLIMITED}, random_, [this] { return server_.connect(); });
        ++reconnects;
        note("connected");
      }
      co_await ticker.next();
      if (!co_await ping(*server)) server.reset();
    }
  }

private:
  Timer& timer_;
  NetworkAddress& server_;
  SeededRandom random_;
  TimePoint start_;

  Promise<bool> ping(AsyncIoStream& server) {
    try {
      ++pings;
      auto exchange = [&server](Deadline) -> Promise<Chunk> {
        co_await server.write("ping");
        co_return co_await server.tryReadChunk();
      };
      const Chunk answer = co_await withDeadline(timer_, 500ms, exchange, "ping");
      note(answer.empty() ? "hung up" : answer.text());
      co_return !answer.empty();
    } catch (const Exception& e) {
      note(e.description());
      co_return false;
    }
  }
  void note(std::string_view what) {
    log += std::to_string((timer_.now() - start_) / 1us) + " " + std::string(what) + "\n";
  }
};

struct HourOfHeartbeats {
  std::string log;
  int pings;
  int reconnects;
  int hangUps;
};

HourOfHeartbeats anHour(std::uint64_t seed) {
  const NothingLeft nothingLeft;
  SimulatedLoop simulated;
  MemoryNetwork network(simulated.timer());
  network.addHost("heart.example", {"10.0.0.1"}).setLatency("10.0.0.1", 40ms);
  network.resetAfter("10.0.0.1", MemoryNetwork::Direction::TO_CLIENT, 42); // in the middle of an answer
  WaitScope& scope = simulated.waitScope();
  const auto address = network.parseAddress("heart.example:7").wait(scope);
  const auto port = network.parseAddress("10.0.0.1:7").wait(scope)->listen();
  PongServer server(simulated.timer(), seed, *port);
  Heart heart(simulated.timer(), *address, seed);
  Promise<void> beating = heart.beat();
  simulated.runFor(20min);
  network.setSilent("10.0.0.1"); // whoever has to connect now waits, and tries again
  simulated.runFor(5min);
  network.setAnswering("10.0.0.1");
  simulated.runFor(35min);
  CHECK((simulated.elapsed() == 1h));
  CHECK_FALSE(beating.poll(scope));
  return {heart.log, heart.pings, heart.reconnects, server.hangUps};
}

} // namespace

TEST_CASE("an hour of heartbeats with time-outs and reconnects takes no time, and is the same each time") {
  const auto begin = std::chrono::steady_clock::now();
  const HourOfHeartbeats hour = anHour(1);
  const auto taken = std::chrono::steady_clock::now() - begin;
  CHECK((taken < 30s)); // some milliseconds; a loop that waited would take an hour
  CHECK(hour.pings > 3200);
  CHECK(hour.pings < 3600);
  CHECK(hour.reconnects > 10);
  CHECK(hour.hangUps > 5);
  CHECK(contains(hour.log, "timed out after 500ms: ping"));
  CHECK(contains(hour.log, "hung up"));
  CHECK(hour.log.starts_with("40000 connected\n10"));
  CHECK(contains(hour.log, "reset"));
  const HourOfHeartbeats again = anHour(1);
  CHECK((again.log == hour.log));
  CHECK(anHour(2).log != hour.log);
}
