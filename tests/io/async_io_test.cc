// SPDX-License-Identifier: MIT
// Tests of contexts, driving and hosted, of their end, and of signals.
#include "peer.h"

#include <troth/io/async_io.h>
#include <troth/io/uv_stream.h>
#include <troth/net/network.h>
#include <troth/runtime/task_set.h>
#include <troth/runtime/uv/uv_event_port.h>
#include <troth/timers/timer.h>

#include <arpa/inet.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <csignal>
#include <optional>
#include <string>
#include <thread>

using namespace troth;
using namespace troth::test;
using namespace std::chrono_literals;

namespace {

struct sigaction currentAction(int signal) {
  struct sigaction action {};
  REQUIRE(sigaction(signal, nullptr, &action) == 0);
  return action;
}

/// A host's loop, which must be empty at its end.
class HostTest {
public:
  HostTest() { REQUIRE(uv_loop_init(&loop) == 0); }
  ~HostTest() {
    run(); // once more after a context has gone, as its documentation says
    CHECK(uv_loop_close(&loop) == 0);
  }

private:
  NothingLeft nothingLeft_;

public:
  uv_loop_t loop;
  void run() { CHECK(uv_run(&loop, UV_RUN_DEFAULT) == 0); }
};

/// Collects the failures of tasks.
struct Failures : TaskSet::ErrorHandler {
  std::vector<Exception> all;
  void taskFailed(Exception exception) override { all.push_back(std::move(exception)); }
};

Peer connectTo(std::uint16_t port) {
  Peer peer(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(port);
  REQUIRE(connect(peer.fd(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
  REQUIRE(fcntl(peer.fd(), F_SETFL, O_NONBLOCK) == 0);
  return peer;
}

} // namespace

// -------------------------------------------------------------------------------------- the contexts

TEST_CASE_FIXTURE(IoTest, "a second context on a thread is refused and leaves nothing, and the first goes on") {
  const std::size_t before = openDescriptors();
  const Exception e = thrownBy([] { const AsyncIoContext second = setupAsyncIo(); });
  CHECK((e.kind() == Exception::Kind::FAILED));
  CHECK(contains(e.description(), "already has an event loop"));
  CHECK(madeIn(e, "async_io_test.cc"));
  CHECK(openDescriptors() == before);
  CHECK(evalLater([] { return 7; }).wait(scope) == 7);
}

TEST_CASE("contexts may follow one another on a thread") {
  const NothingLeft nothingLeft;
  for (int i = 0; i < 3; ++i) {
    AsyncIoContext io = setupAsyncIo();
    CHECK(EventLoop::currentOrNull() == &io.eventLoop());
    CHECK(evalLater([i] { return i; }).wait(io.waitScope()) == i);
  }
  CHECK(EventLoop::currentOrNull() == nullptr);
}

TEST_CASE("a context that is moved goes on with what waits on it") {
  const NothingLeft nothingLeft;
  AsyncIoContext first = setupAsyncIo();
  Pair pair = newPair(first);
  Promise<Chunk> read = pair.stream->tryReadChunk();
  AsyncIoContext second = std::move(first);
  CHECK(takeAfter(read, second.waitScope(), [&] { pair.peer.send("abc"); }).text() == "abc");
  pair.stream.reset(); // before the context that it was made with
}

TEST_CASE("a context that cannot be made for want of descriptors is OVERLOADED and leaves nothing") {
  { const AsyncIoContext first = setupAsyncIo(); } // what libuv keeps for good
  const NothingLeft nothingLeft;
  bool made = false;
  for (std::size_t spare = 0; !made; ++spare) {
    REQUIRE(spare < 50);
    CAPTURE(spare);
    const std::size_t before = openDescriptors();
    std::optional<Exception> e;
    {
      DescriptorLimit limit(spare);
      try {
        const AsyncIoContext io = setupAsyncIo();
        made = true;
      } catch (const Exception& thrown) {
        e = thrown;
      }
    }
    CHECK(openDescriptors() == before);
    if (e) {
      CHECK((e->kind() == Exception::Kind::OVERLOADED));
      CHECK((e->code() == std::errc::too_many_files_open));
    }
  }
}

TEST_CASE_FIXTURE(IoTest, "the timer of a context is not early") {
  const TimePoint begin = std::chrono::steady_clock::now();
  io.timer().afterDelay(2ms).wait(scope);
  CHECK(std::chrono::steady_clock::now() - begin >= 2ms);
}

TEST_CASE("a context goes with all that libuv still has in hand: work of the pool, cancelled writes, closing handles (R13, R14)") {
  bool jobDone = false;
  uv_work_t job;
  job.data = &jobDone;
  {
    IoTest test;
    Pair pair = newPair(test.io, {4096, 4096});
    const std::string data = numberedBytes(1 << 20);
    {
      const Promise<void> write = pair.stream->write(data);
      const Promise<Chunk> read = pair.stream->tryReadChunk();
      const Promise<void> timer = test.io.timer().afterDelay(1h);
      const Promise<int> signal = test.io.onSignal(SIGUSR1, SIGUSR2);
      test.scope.poll();
    }
    REQUIRE(uv_queue_work(
                test.io.uvEventPort().uvLoop(), &job, [](uv_work_t*) {},
                [](uv_work_t* done, int) { *static_cast<bool*>(done->data) = true; }) == 0);
  }
  CHECK(jobDone);
}

TEST_CASE("a timer's promise must not outlive its timer, but operations of streams may be pending until just before the end (R13)") {
  const NothingLeft nothingLeft;
  std::optional<AsyncIoContext> io(setupAsyncIo());
  std::optional<Pair> pair(newPair(*io));
  std::optional<Promise<Chunk>> read(pair->stream->tryReadChunk());
  std::optional<Promise<void>> timer(io->timer().afterDelay(1h));
  CHECK(!read->poll(io->waitScope()));
  CHECK(!timer->poll(io->waitScope()));
  pair.reset();
  timer.reset();
  read.reset(); // after its stream
  io.reset();
  CHECK(EventLoop::currentOrNull() == nullptr);
}

// ------------------------------------------------------------------------------------------- hosted

TEST_CASE_FIXTURE(HostTest, "a hosted context without work does not keep the host's loop alive") {
  HostedAsyncIoContext io = setupAsyncIo(&loop);
  CHECK(uv_loop_alive(&loop) == 0);
  run();
}

TEST_CASE("a host whose loop has not run since lets go of everything in one more run") {
  HostTest test;
  { const HostedAsyncIoContext io = setupAsyncIo(&test.loop); }
  test.run();
}

TEST_CASE_FIXTURE(HostTest, "a hosted context works while the host's loop runs, and uv_run returns when it is done") {
  int count = 0;
  {
    HostedAsyncIoContext io = setupAsyncIo(&loop);
    Failures failures;
    TaskSet tasks(failures);
    tasks.add([](Timer& timer, int& counter) -> Promise<void> {
      for (; counter < 3; ++counter) co_await timer.afterDelay(1ms);
    }(io.timer(), count));
    CHECK(count == 0); // nothing runs but in the host's loop
    run();
    CHECK(tasks.isEmpty());
    CHECK(failures.all.empty());
  }
  CHECK(count == 3);
  run();
}

TEST_CASE_FIXTURE(HostTest, "promises that are ready run in the host's loop without any I/O") {
  int turns = 0;
  {
    HostedAsyncIoContext io = setupAsyncIo(&loop);
    Failures failures;
    TaskSet tasks(failures);
    tasks.add([](int& counter) -> Promise<void> {
      for (; counter < 5000; ++counter) co_await evalLater([] {});
    }(turns));
    run();
    CHECK(tasks.isEmpty());
  }
  CHECK(turns == 5000);
  run();
}

TEST_CASE_FIXTURE(HostTest, "a hosted echo server serves a client, and uv_run returns by itself when both are done") {
  Peer client;
  {
    HostedAsyncIoContext io = setupAsyncIo(&loop);
    Failures failures;
    TaskSet tasks(failures);
    auto network = newNetwork(io);
    std::unique_ptr<NetworkAddress> address;
    tasks.add(network->parseAddress("127.0.0.1:0").then([&](std::unique_ptr<NetworkAddress> parsed) { address = std::move(parsed); }));
    run();
    REQUIRE(address != nullptr);
    std::unique_ptr<ConnectionReceiver> receiver = address->listen();
    client = connectTo(receiver->getPort());
    client.send("hello from outside");
    client.shutdownWrite();
    tasks.add([](std::unique_ptr<ConnectionReceiver> listener) -> Promise<void> {
      const std::unique_ptr<AsyncIoStream> connection = co_await listener->accept();
      listener.reset();
      for (;;) {
        const Chunk chunk = co_await connection->tryReadChunk();
        if (chunk.empty()) co_return;
        co_await connection->write(chunk);
      }
    }(std::move(receiver)));
    run();
    CHECK(tasks.isEmpty());
    CHECK(failures.all.empty());
  }
  CHECK(client.receive(18) == "hello from outside");
  CHECK(client.isAtEnd());
  run();
}

TEST_CASE_FIXTURE(HostTest, "the failure of a hosted task reaches its error handler, not the host") {
  HostedAsyncIoContext io = setupAsyncIo(&loop);
  Failures failures;
  TaskSet tasks(failures);
  tasks.add(io.timer().afterDelay(1ms).then([] { throw std::runtime_error("of the task"); }));
  run();
  REQUIRE(failures.all.size() == 1);
  CHECK(contains(failures.all[0].description(), "of the task"));
}

TEST_CASE_FIXTURE(HostTest, "a hosted context may go with everything pending, and one more run closes it all (R13)") {
  HostTest& test = *this;
  std::optional<HostedAsyncIoContext> io(setupAsyncIo(&test.loop));
  std::optional<Pair> pair(newPair(*io, {4096, 4096}));
  const std::string data = numberedBytes(1 << 20);
  {
    Failures failures;
    TaskSet tasks(failures);
    tasks.add(pair->stream->write(data));
    tasks.add(pair->stream->tryReadChunk().ignoreResult());
    tasks.add(io->timer().afterDelay(1h));
    tasks.add(io->onSignal(SIGUSR1).ignoreResult());
    for (int i = 0; i < 3; ++i) uv_run(&test.loop, UV_RUN_NOWAIT);
    CHECK(tasks.size() == 4);
  }
  pair.reset();
  io.reset();
  test.run();
}

TEST_CASE_FIXTURE(HostTest, "a hosted context leaves the host's data, handles and dispositions alone") {
  int marker = 0;
  int ticks = 0;
  loop.data = &marker;
  uv_timer_t own;
  REQUIRE(uv_timer_init(&loop, &own) == 0);
  own.data = &ticks;
  REQUIRE(uv_timer_start(&own, [](uv_timer_t* timer) { ++*static_cast<int*>(timer->data); }, 1, 0) == 0);
  void (*const before)(int) = currentAction(SIGPIPE).sa_handler;
  std::signal(SIGPIPE, SIG_DFL);
  {
    const HostedAsyncIoContext io = setupAsyncIo(&loop);
    CHECK((currentAction(SIGPIPE).sa_handler == SIG_DFL));
    run();
    CHECK(ticks == 1);
  }
  std::signal(SIGPIPE, before);
  CHECK(loop.data == &marker);
  CHECK(uv_is_closing(reinterpret_cast<uv_handle_t*>(&own)) == 0);
  uv_close(reinterpret_cast<uv_handle_t*>(&own), nullptr);
  run();
}

TEST_CASE_FIXTURE(HostTest, "a second hosted context on a thread is refused, and the host's loop can be closed") {
  const HostedAsyncIoContext first = setupAsyncIo(&loop);
  uv_loop_t other;
  REQUIRE(uv_loop_init(&other) == 0);
  const Exception e = thrownBy([&] { const HostedAsyncIoContext second = setupAsyncIo(&other); });
  CHECK((e.kind() == Exception::Kind::FAILED));
  CHECK(contains(e.description(), "already has an event loop"));
  CHECK(madeIn(e, "async_io_test.cc"));
  CHECK(uv_run(&other, UV_RUN_DEFAULT) == 0);
  CHECK(uv_loop_close(&other) == 0);
}

TEST_CASE("a hosted context without a loop is refused") {
  const Exception e = thrownBy([] { const HostedAsyncIoContext io = setupAsyncIo(static_cast<uv_loop_s*>(nullptr)); });
  CHECK((e.kind() == Exception::Kind::FAILED));
  CHECK(contains(e.description(), "null"));
}

TEST_CASE("contexts on several threads do not disturb one another") {
  std::string answers[2];
  {
    std::thread threads[2];
    for (std::size_t i = 0; i < 2; ++i)
      threads[i] = std::thread([i, &answers] {
        AsyncIoContext io = setupAsyncIo();
        StreamPair pair = newStreamPair(io);
        for (int n = 0; n < 200; ++n) {
          pair.left->write(std::to_string(i)).wait(io.waitScope());
          answers[i] += pair.right->tryReadChunk().wait(io.waitScope()).text();
        }
      });
    for (std::thread& thread : threads) thread.join();
  }
  CHECK(answers[0] == std::string(200, '0'));
  CHECK(answers[1] == std::string(200, '1'));
}

// ------------------------------------------------------------------------------------------ signals

TEST_CASE_FIXTURE(IoTest, "a signal completes the promise, with its number") {
  Promise<int> signal = io.onSignal(SIGUSR1);
  CHECK(takeAfter(signal, scope, [] { std::raise(SIGUSR1); }) == SIGUSR1);
}

TEST_CASE_FIXTURE(IoTest, "the first of several signals completes the promise, and the others keep theirs from the process no more") {
  Promise<int> signal = io.onSignal(SIGUSR1, SIGUSR2);
  CHECK((currentAction(SIGUSR1).sa_handler != SIG_DFL));
  CHECK((currentAction(SIGUSR2).sa_handler != SIG_DFL));
  CHECK(takeAfter(signal, scope, [] { std::raise(SIGUSR2); }) == SIGUSR2);
  scope.poll();
  CHECK((currentAction(SIGUSR1).sa_handler == SIG_DFL));
  CHECK((currentAction(SIGUSR2).sa_handler == SIG_DFL));
}

TEST_CASE_FIXTURE(IoTest, "a signal that another process could have sent wakes a loop that sleeps") {
  Promise<int> signal = io.onSignal(SIGUSR1);
  std::thread sender([] { ::kill(::getpid(), SIGUSR1); });
  CHECK(std::move(signal).wait(scope) == SIGUSR1);
  sender.join();
}

TEST_CASE_FIXTURE(IoTest, "two promises for the same signal are both completed by one") {
  Promise<int> one = io.onSignal(SIGUSR1);
  Promise<int> two = io.onSignal(SIGUSR1, SIGUSR2);
  REQUIRE(!one.poll(scope));
  REQUIRE(!two.poll(scope));
  std::raise(SIGUSR1);
  REQUIRE(one.poll(scope));
  REQUIRE(two.poll(scope));
  CHECK(std::move(one).wait(scope) == SIGUSR1);
  CHECK(std::move(two).wait(scope) == SIGUSR1);
}

TEST_CASE_FIXTURE(IoTest, "a cancelled wait for a signal leaves the other one's alone (R5)") {
  Promise<int> kept = io.onSignal(SIGUSR1);
  {
    Promise<int> dropped = io.onSignal(SIGUSR1);
    REQUIRE(!dropped.poll(scope));
  }
  CHECK(takeAfter(kept, scope, [] { std::raise(SIGUSR1); }) == SIGUSR1);
}

TEST_CASE_FIXTURE(IoTest, "a signal that was caught for a promise which went at the same moment is heard by nobody (R5)") {
  {
    Promise<int> signal = io.onSignal(SIGUSR1);
    REQUIRE(!signal.poll(scope));
    std::raise(SIGUSR1); // it is in libuv's pipe now
  }
  scope.poll();
  CHECK(sleeps(*this));
}

TEST_CASE_FIXTURE(IoTest, "a second signal is caught by asking again") {
  for (int i = 0; i < 3; ++i) {
    Promise<int> signal = io.onSignal(SIGUSR1);
    CHECK(takeAfter(signal, scope, [] { std::raise(SIGUSR1); }) == SIGUSR1);
  }
}

TEST_CASE_FIXTURE(IoTest, "the default action of a signal is back when its promise has gone, fulfilled or cancelled") {
  REQUIRE((currentAction(SIGUSR1).sa_handler == SIG_DFL));
  {
    Promise<int> signal = io.onSignal(SIGUSR1);
    CHECK((currentAction(SIGUSR1).sa_handler != SIG_DFL));
    CHECK(takeAfter(signal, scope, [] { std::raise(SIGUSR1); }) == SIGUSR1);
  }
  CHECK((currentAction(SIGUSR1).sa_handler == SIG_DFL));
  { const Promise<int> signal = io.onSignal(SIGUSR1); }
  CHECK((currentAction(SIGUSR1).sa_handler == SIG_DFL));
}

TEST_CASE_FIXTURE(IoTest, "a signal that cannot be caught rejects the promise, with its number, and the others are let go") {
  for (const int number : {SIGKILL, SIGSTOP, 0, -1, 1000}) {
    CAPTURE(number);
    // As for every operation, the promise fails, not the call.
    Promise<int> signal = io.onSignal(SIGUSR1, number);
    const Exception e = failureOf(std::move(signal), scope);
    CHECK((e.kind() == Exception::Kind::FAILED));
    CHECK(contains(e.description(), "signal " + std::to_string(number)));
    CHECK((currentAction(SIGUSR1).sa_handler == SIG_DFL));
  }
}

TEST_CASE_FIXTURE(IoTest, "a coroutine awaits one of several signals") {
  auto body = [&]() -> Promise<int> { co_return co_await io.onSignal(SIGUSR1, SIGUSR2); };
  Promise<int> signal = body();
  CHECK(takeAfter(signal, scope, [] { std::raise(SIGUSR2); }) == SIGUSR2);
}

TEST_CASE_FIXTURE(HostTest, "a signal is caught in a host's loop too") {
  int got = 0;
  {
    HostedAsyncIoContext io = setupAsyncIo(&loop);
    Failures failures;
    TaskSet tasks(failures);
    tasks.add(io.onSignal(SIGUSR1).then([&](int number) { got = number; }));
    uv_run(&loop, UV_RUN_NOWAIT);
    CHECK(got == 0);
    std::raise(SIGUSR1);
    run();
  }
  CHECK(got == SIGUSR1);
  run();
}
