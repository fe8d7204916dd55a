// SPDX-License-Identifier: MIT
// What a host may rely on: a program that polls for itself, fresh stacks, handles closed under us, nothing left.
#include "../helpers.h"
#include "host.h"

#include <troth/io/descriptor.h>
#include <troth/net/datagram.h>
#include <troth/net/network.h>
#include <troth/timers/timer.h>

#include <poll.h>

#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <optional>
#include <span>
#include <sstream>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

using namespace troth;
using namespace troth::test;
using namespace std::chrono_literals;

namespace {

/// A program that polls a pipe of its own together with troth.
class ForeignPoll {
public:
  explicit ForeignPoll(AsyncIoContext& io) : io_(io) {}

  /// Until `done`, but not for ever.
  void runUntil(const bool& done) {
    for (; !done && polls < 10'000; ++polls) {
      io_.runOnce();
      if (done) break;
      std::array<pollfd, 2> watched{{{io_.pollableFd(), POLLIN, 0}, {own.ends[0], POLLIN, 0}}};
      const auto timeout = io_.nextTimeout();
      REQUIRE(poll(watched.data(), watched.size(), timeout ? static_cast<int>(timeout->count()) : 20'000) > -1);
      if (watched[1].revents == 0) continue;
      char c;
      REQUIRE(read(own.ends[0], &c, 1) == 1);
      if (onByte) onByte();
    }
    CHECK(done);
  }

  Pipe own;
  std::function<void()> onByte;
  int polls = 0;

private:
  AsyncIoContext& io_;
};

Promise<void> tick(Timer& timer, int count) {
  for (int i = 0; i < count; ++i) co_await timer.afterDelay(2ms);
}

Promise<void> lap(std::size_t left) {
  return evalLater([left]() -> Promise<void> {
    if (left == 0) return READY_NOW;
    return lap(left - 1);
  });
}

std::string handlesOf(uv_loop_t* loop) {
  char* text = nullptr;
  std::size_t size = 0;
  std::FILE* file = open_memstream(&text, &size);
  uv_print_all_handles(loop, file);
  std::fclose(file);
  std::string others; // than those of libuv itself, which it marks with an I
  std::istringstream lines(std::string(text, size));
  for (std::string line; std::getline(lines, line);)
    if (line.find('I') > line.find(']')) others += line + "\n";
  std::free(text);
  return others;
}

/// What C programs do at their end: it closes everything that is on the loop, whose ever it is.
void closeAll(uv_loop_t* loop, uv_close_cb callback = nullptr) {
  static uv_close_cb called;
  called = callback;
  uv_walk(
      loop,
      [](uv_handle_t* handle, void*) {
        if (uv_is_closing(handle) == 0) uv_close(handle, called);
      },
      nullptr);
}

/// A context with one of everything on it, all of it pending.
class BusyContext {
public:
  explicit BusyContext(uv_loop_t* host) : io(setupAsyncIo(host)) {
    network = newNetwork(io);
    // Numbers are parsed without asking anybody, so that no turn is needed before the host closes its loop.
    wait(network->parseAddress("127.0.0.1:0"), [this](std::unique_ptr<NetworkAddress> address) {
      listener = address->listen();
      datagrams = address->bindDatagram();
    });
    uv_run(host, UV_RUN_NOWAIT);
    REQUIRE(listener);
    wait(network->parseAddress(listener->toString()), [this](std::unique_ptr<NetworkAddress> address) {
      pending.push_back(address->connect().then([this](std::unique_ptr<AsyncIoStream> s) {
        client = std::move(s);
      }).eagerlyEvaluate(nullptr));
      target = std::move(address);
    });
    pending.push_back(listener->accept().then([this](std::unique_ptr<AsyncIoStream> s) {
      server = std::move(s);
    }).eagerlyEvaluate(nullptr));
    for (int i = 0; i < 1000 && !(client && server); ++i) uv_run(host, UV_RUN_NOWAIT);
    REQUIRE((client && server));
    pipe = newOsPipe(io);
    pending.clear();
    pending.push_back(listener->accept().ignoreResult());
    pending.push_back(client->tryReadChunk().ignoreResult());
    pending.push_back(server->write(std::as_bytes(std::span(much))));
    pending.push_back(datagrams->receive().ignoreResult());
    pending.push_back(io.onSignal(SIGUSR2).ignoreResult());
    pending.push_back(io.timer().afterDelay(1h));
    pending.push_back(pipe.input->tryReadChunk().ignoreResult());
    pending.push_back(std::move(yields.promise));
  }

  template <typename T, typename Func>
  void wait(Promise<T> promise, Func func) {
    pending.push_back(std::move(promise).then(std::move(func)).eagerlyEvaluate(nullptr));
  }

  HostedAsyncIoContext io;
  std::vector<char> much = std::vector<char>(8 << 20);
  std::unique_ptr<Network> network;
  std::unique_ptr<NetworkAddress> target;
  std::unique_ptr<ConnectionReceiver> listener;
  std::unique_ptr<DatagramSocket> datagrams;
  std::unique_ptr<AsyncIoStream> client;
  std::unique_ptr<AsyncIoStream> server;
  OsPipe pipe;
  PromiseFulfillerPair<void> yields = newPromiseAndFulfiller<void>();
  std::vector<Promise<void>> pending; // before what they work on
};

} // namespace

// ------------------------------------------------------------------------- a program that polls for itself

TEST_CASE_FIXTURE(IoTest, "driven by a foreign poll loop") {
  ForeignPoll program(io);
  bool done = false;
  Promise<void> work = NEVER_DONE;
  const auto begin = [&](Promise<void> promise) {
    work = std::move(promise).then([&] { done = true; }).eagerlyEvaluate(nullptr);
  };

  SUBCASE("timers") {
    begin(tick(io.timer(), 5));
    program.runUntil(done);
    CHECK(program.polls <= 20); // it slept in between
  }
  SUBCASE("a descriptor of troth's") {
    Pipe p;
    begin(newAdaptedPromise<void, Readable>(io.uvEventPort().uvLoop(), p.ends[0]));
    io.runOnce();
    CHECK_FALSE(done);
    CHECK_FALSE(io.nextTimeout()); // only the descriptor will tell
    p.put();
    program.runUntil(done);
    CHECK(program.polls <= 3);
  }
  SUBCASE("a descriptor that the last of very many events began to wait for") {
    // As many events as one runOnce() runs, one less, one more.
    for (std::size_t laps = 995; laps <= 1005; ++laps) {
      Pipe p;
      done = false;
      begin(lap(laps).then([&] { return newAdaptedPromise<void, Readable>(io.uvEventPort().uvLoop(), p.ends[0]); }));
      program.own.put(); // ends the first poll()
      program.onByte = [&] { p.put(); };
      program.polls = 0;
      program.runUntil(done);
      CHECK(program.polls <= 6);
    }
  }
  SUBCASE("a wake-up by another thread") {
    auto pair = newPromiseAndFulfiller<void>();
    begin(std::move(pair.promise));
    io.runOnce();
    std::thread other([&] { io.uvEventPort().wake(); });
    pollfd watched{io.pollableFd(), POLLIN, 0};
    CHECK(poll(&watched, 1, 20'000) == 1);
    other.join();
    io.runOnce();
    watched.revents = 0;
    CHECK(poll(&watched, 1, 0) == 0); // it has been taken notice of
    pair.fulfiller->fulfill();
    program.runUntil(done);
  }
  SUBCASE("what the program itself fulfils") {
    auto pair = newPromiseAndFulfiller<void>();
    begin(std::move(pair.promise));
    program.onByte = [&] { pair.fulfiller->fulfill(); };
    program.own.put();
    program.runUntil(done);
    CHECK(program.polls == 1);
  }
  SUBCASE("its own descriptor is served while events never end") {
    begin(lap(200'000));
    int bytes = 0;
    program.onByte = [&] {
      if (++bytes < 20) program.own.put();
    };
    program.own.put();
    program.runUntil(done);
    CHECK(bytes == 20);
  }
}

TEST_CASE_FIXTURE(IoTest, "a program that polls is told how long it may") {
  io.runOnce();
  CHECK_FALSE(io.nextTimeout());
  Promise<void> hour = io.timer().afterDelay(1h);
  std::this_thread::sleep_for(3ms); // so that libuv's idea of the time is old
  const auto timeout = io.nextTimeout();
  REQUIRE(timeout);
  CHECK(*timeout <= 1h - 2ms);
  CHECK(*timeout > 59min);
  Promise<void> queued = evalLater([] {}).eagerlyEvaluate(nullptr);
  CHECK(io.nextTimeout() == 0ms);
  CHECK(io.runOnce() == 1);
  CHECK(io.nextTimeout() > 59min);
  Promise<void> nested = evalLater([&] { io.runOnce(); }).eagerlyEvaluate([&](Exception e) {
    CHECK(contains(e.description(), "inside a continuation"));
  });
  io.runOnce();
}

// ------------------------------------------------------------------------------------------ fresh stacks

TEST_CASE_FIXTURE(HostTest, "callbacks run on a fresh stack") {
  struct Host {
    std::unique_ptr<PromiseFulfiller<void>> fulfiller;
    int depth = 0;
    int* ran = nullptr;
    void fulfil() { // in each callback of the host
      ++depth;
      fulfiller->fulfill();
      CHECK(*ran == 0);
      --depth;
    }
  } at;
  int ran = 0;
  at.ran = &ran;
  auto pair = newPromiseAndFulfiller<void>();
  at.fulfiller = std::move(pair.fulfiller);
  Promise<void> seen = std::move(pair.promise).then([&] {
    ++ran;
    CHECK(at.depth == 0);
    CHECK(io->eventLoop().isRunning());
  }).eagerlyEvaluate(nullptr);

  union {
    uv_handle_t base;
    uv_timer_t timer;
    uv_idle_t idle;
    uv_prepare_t prepare;
    uv_check_t check;
    uv_async_t async;
  } handle;
  const auto call = [](auto* h) {
    static_cast<Host*>(h->data)->fulfil();
    uv_close(reinterpret_cast<uv_handle_t*>(h), nullptr);
  };
  bool isHandle = true;
  uv_work_t work;
  SUBCASE("timer") {
    uv_timer_init(&host, &handle.timer);
    uv_timer_start(&handle.timer, call, 0, 0);
  }
  SUBCASE("idle") {
    uv_idle_init(&host, &handle.idle);
    uv_idle_start(&handle.idle, call);
  }
  SUBCASE("prepare") {
    uv_prepare_init(&host, &handle.prepare);
    uv_prepare_start(&handle.prepare, call);
  }
  SUBCASE("check") {
    uv_check_init(&host, &handle.check);
    uv_check_start(&handle.check, call);
  }
  SUBCASE("async") {
    uv_async_init(&host, &handle.async, call);
    uv_async_send(&handle.async);
  }
  SUBCASE("the end of work in the thread pool") {
    isHandle = false;
    work.data = &at;
    uv_queue_work(&host, &work, [](uv_work_t*) {}, [](uv_work_t* w, int) { static_cast<Host*>(w->data)->fulfil(); });
    while (uv_loop_alive(&host) != 0) uv_run(&host, UV_RUN_ONCE);
  }
  if (isHandle) {
    handle.base.data = &at;
    runSome();
  }
  CHECK(ran == 1);
}

// ------------------------------------------------------------------------- a host that closes everything

TEST_CASE_FIXTURE(HostTest, "host closes the loop under troth: a clear error, no crash") {
  std::optional<BusyContext> busy;
  io.reset();
  runSome();
  busy.emplace(&host);

  SUBCASE("uv_loop_close alone is refused, and all goes on") {
    CHECK(uv_loop_close(&host) == UV_EBUSY);
    bool ticked = false;
    busy->wait(busy->io.timer().afterDelay(1ms), [&] { ticked = true; });
    for (int i = 0; i < 1000 && !ticked; ++i) uv_run(&host, UV_RUN_ONCE);
    CHECK(ticked);
  }
  SUBCASE("all handles are closed") {
    static int closedByHost;
    closedByHost = 0;
    closeAll(&host, [](uv_handle_t*) { ++closedByHost; });
    bool run = false;
    SUBCASE("and the loop is run") {
      run = true;
      CHECK(uv_run(&host, UV_RUN_DEFAULT) == 0);
      CHECK(closedByHost >= 8);
    }
    SUBCASE("and the loop is not run until later") {}
    // Whatever begins something says so.
    const auto isClear = [](const Exception& e) {
      CHECK_MESSAGE(contains(e.description(), "the host has closed all handles"), e.what());
      CHECK(fileOf(e) == "embedding_test.cc");
    };
    isClear(thrownBy([&] { (void)busy->target->bindDatagram(); }));
    isClear(thrownBy([&] { (void)busy->target->listen(); }));
    isClear(thrownBy([&] { (void)busy->io.timer().afterDelay(1ms); }));
    isClear(thrownBy([&] { (void)busy->io.uvEventPort().uvLoop(); }));
    // What exists may be used, without effect, and destroyed.
    busy->pending.push_back(busy->client->write("x").catch_([](Exception) {}));
    busy->pending.push_back(busy->server->tryReadChunk().ignoreResult().catch_([](Exception) {}));
    busy->client->shutdownWrite();
    busy.reset();
    if (!run) CHECK(uv_run(&host, UV_RUN_DEFAULT) == 0);
    CHECK(closedByHost >= 8); // the host's callbacks all came
  }
}

TEST_CASE("promises that the host's closing has left behind are told of on standard error, once") {
  const ChildEnd end = runInChild([] {
    uv_loop_t host;
    uv_loop_init(&host);
    {
      HostedAsyncIoContext io = setupAsyncIo(&host);
      auto pair = newPromiseAndFulfiller<void>();
      Promise<void> waits = std::move(pair.promise).then([] {}).eagerlyEvaluate(nullptr);
      closeAll(&host);
      uv_run(&host, UV_RUN_DEFAULT);
      pair.fulfiller->fulfill();
      waits = evalLater([] {}).eagerlyEvaluate(nullptr);
    }
    if (uv_loop_close(&host) != 0) std::fputs("not closed", stderr);
  });
  CHECK(end.finished);
  CHECK_FALSE(contains(end.errors, "not closed"));
  const std::string_view told = "the host has closed all handles on its libuv loop";
  CHECK(contains(end.errors, told));
  CHECK(end.errors.find(told) == end.errors.rfind(told));
}

TEST_CASE("a host may close everything and then its loop, and troth's context goes after it") {
  const NothingLeft nothingLeft;
  uv_loop_t loop;
  REQUIRE(uv_loop_init(&loop) == 0);
  {
    BusyContext busy(&loop);
    closeAll(&loop);
    CHECK(uv_run(&loop, UV_RUN_DEFAULT) == 0);
    REQUIRE(uv_loop_close(&loop) == 0);
    thrownBy([&] { (void)busy.target->listen(); });
    thrownBy([&] { (void)busy.io.timer().afterDelay(1ms); });
    busy.pending.push_back(busy.client->write("x").catch_([](Exception) {}));
  }
}

TEST_CASE_FIXTURE(HostTest, "nothing of troth's is in uv_print_all_handles after its context has gone") {
  io.reset();
  runSome();
  CHECK(handlesOf(&host) == "");
  {
    BusyContext busy(&host);
    CHECK(contains(handlesOf(&host), "tcp"));
    CHECK(contains(handlesOf(&host), "prepare"));
  }
  CHECK(uv_run(&host, UV_RUN_DEFAULT) == 0);
  CHECK(handlesOf(&host) == "");
}
