// SPDX-License-Identifier: MIT
// Tests of ConnectionServer: whom it serves, how many at a time, and how it ends.
#include "fixtures.h"

#include <troth/io/pipe.h>
#include <troth/net/connection_server.h>
#include <troth/runtime/queue.h>
#include <troth/timers/manual_timer.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

using namespace troth;
using namespace troth::test;
using namespace std::chrono_literals;

namespace {

using StreamPtr = std::unique_ptr<AsyncIoStream>;

/// A port without a system: connections are put into its queue.
class QueuePort final : public ConnectionReceiver {
public:
  explicit QueuePort(ProducerConsumerQueue<StreamPtr>& queue, bool& closed) : queue_(queue), closed_(closed) {}
  ~QueuePort() override { closed_ = true; }
  Promise<StreamPtr> accept(std::source_location where) override { return queue_.pop(where); }
  std::uint16_t getPort() const override { return 7000; }
  std::string toString() const override { return "memory:7000"; }

private:
  ProducerConsumerQueue<StreamPtr>& queue_;
  bool& closed_;
};

struct Failures : TaskSet::ErrorHandler {
  std::vector<std::string> texts;
  void taskFailed(Exception e) override { texts.emplace_back(e.description()); }
};

Promise<void> echo(StreamPtr client) {
  for (;;) {
    const Chunk bytes = co_await client->tryReadChunk();
    if (bytes.empty()) co_return;
    co_await client->write(bytes);
  }
}

/// A server of echoes, and its clients.
struct ServerTest : LoopTest {
  ManualTimer timer;
  Failures failures;
  ProducerConsumerQueue<StreamPtr> arriving;
  bool closed = false;
  std::optional<ConnectionServer> server;
  Promise<void> serving = NEVER_DONE;

  void start(std::size_t mostConnections = ConnectionServer::NO_LIMIT) {
    server.emplace(echo, failures, mostConnections);
    serving = server->serve(port());
  }
  std::unique_ptr<ConnectionReceiver> port() { return std::make_unique<QueuePort>(arriving, closed); }
  StreamPtr connect() {
    TwoWayPipe pipe = newTwoWayPipe();
    arriving.push(std::move(pipe.ends[1]));
    return std::move(pipe.ends[0]);
  }
  /// Whether the stream's other end answers.
  bool answers(AsyncIoStream& stream) {
    std::byte answer[2];
    Promise<void> sent = stream.write("hi");
    Promise<void> got = stream.read(answer);
    if (!got.poll(scope)) return false;
    std::move(got).wait(scope); // what is not taken would be given back
    std::move(sent).wait(scope);
    return true;
  }
  bool isClosed(AsyncIoStream& stream) {
    std::byte byte[1];
    Promise<std::size_t> end = stream.tryRead(byte);
    return end.poll(scope);
  }
};

} // namespace

TEST_CASE_FIXTURE(ServerTest, "each connection is served, and goes when it ends") {
  start();
  const StreamPtr first = connect();
  const StreamPtr second = connect();
  CHECK(answers(*first));
  CHECK(answers(*second));
  CHECK(server->connections() == 2);
  first->shutdownWrite();
  CHECK(isClosed(*first));
  CHECK(server->connections() == 1);
  CHECK(answers(*second));
  CHECK(failures.texts.empty());
}

TEST_CASE_FIXTURE(ServerTest, "a connection that fails is reported, and concerns no other") {
  server.emplace(
      [](StreamPtr client) -> Promise<void> {
        Chunk bytes = co_await client->tryReadChunk();
        if (bytes.text() == "no") throw Exception(Exception::Kind::FAILED, "no is no answer");
        co_await client->write(bytes);
      },
      failures);
  serving = server->serve(port());
  const StreamPtr bad = connect();
  const StreamPtr good = connect();
  bad->write("no").wait(scope);
  CHECK(answers(*good));
  REQUIRE(failures.texts.size() == 1);
  CHECK(failures.texts[0] == "no is no answer");
}

TEST_CASE_FIXTURE(ServerTest, "a handler that throws instead of giving a promise has failed") {
  server.emplace([](StreamPtr) -> Promise<void> { throw Exception(Exception::Kind::FAILED, "at once"); }, failures);
  serving = server->serve(port());
  const StreamPtr first = connect();
  const StreamPtr second = connect();
  CHECK(!serving.poll(scope));
  CHECK(failures.texts == std::vector<std::string>{"at once", "at once"});
}

TEST_CASE_FIXTURE(ServerTest, "beyond the limit nobody is accepted until a place is free (A5)") {
  start(2);
  StreamPtr first = connect();
  const StreamPtr second = connect();
  const StreamPtr third = connect();
  CHECK(answers(*first));
  CHECK(answers(*second));
  std::byte answer[2];
  Promise<void> sent = third->write("hi");
  Promise<void> got = third->read(answer);
  CHECK(!got.poll(scope));
  CHECK(server->connections() == 2);
  first.reset();
  CHECK(got.poll(scope));
  CHECK(server->connections() == 2);
}

TEST_CASE_FIXTURE(ServerTest, "the limit is that of all ports together") {
  start(1);
  ProducerConsumerQueue<StreamPtr> otherQueue;
  bool otherClosed = false;
  Promise<void> other = server->serve(std::make_unique<QueuePort>(otherQueue, otherClosed));
  const StreamPtr first = connect();
  CHECK(answers(*first));
  TwoWayPipe pipe = newTwoWayPipe();
  otherQueue.push(std::move(pipe.ends[1]));
  CHECK(!answers(*pipe.ends[0]));
  CHECK(server->connections() == 1);
}

TEST_CASE_FIXTURE(ServerTest, "a port that fails ends its serve() with that error, and connections go on") {
  start();
  const StreamPtr client = connect();
  CHECK(answers(*client));
  CHECK(!serving.poll(scope));
  arriving.rejectAll(Exception(Exception::Kind::FAILED, "the port is broken"));
  CHECK(failureOf(std::move(serving), scope).description() == "the port is broken");
  CHECK(closed);
  CHECK(answers(*client));
}

TEST_CASE_FIXTURE(ServerTest, "cancelling serve() closes the port, and connections go on") {
  start();
  const StreamPtr client = connect();
  CHECK(answers(*client));
  serving = NEVER_DONE;
  CHECK(closed);
  CHECK(answers(*client));
}

TEST_CASE_FIXTURE(ServerTest, "draining closes the ports and waits for the connections (A6)") {
  start();
  const StreamPtr client = connect();
  CHECK(answers(*client));
  Promise<std::size_t> drained = server->drain(timer, 5s);
  CHECK(!drained.poll(scope));
  CHECK(closed);
  CHECK(serving.poll(scope));
  CHECK(answers(*client));
  CHECK(server->isDraining());
  client->shutdownWrite();
  CHECK(std::move(drained).wait(scope) == 0);
}

TEST_CASE_FIXTURE(ServerTest, "what is left after the grace period is cancelled (A6)") {
  start();
  const StreamPtr one = connect();
  const StreamPtr two = connect();
  CHECK(answers(*one));
  CHECK(answers(*two));
  Promise<std::size_t> drained = server->drain(timer, 5s);
  timer.advanceBy(4s);
  CHECK(!drained.poll(scope));
  timer.advanceBy(1s);
  CHECK(std::move(drained).wait(scope) == 2);
  CHECK(isClosed(*one));
  CHECK(isClosed(*two));
}

TEST_CASE_FIXTURE(ServerTest, "without connections draining is done at once, and so is serving afterwards") {
  start();
  CHECK(server->drain(timer, 5s).wait(scope) == 0);
  CHECK(server->serve(port()).poll(scope));
  CHECK(server->onDrain().poll(scope));
}

TEST_CASE_FIXTURE(ServerTest, "handlers that listen to onDrain() can say good-bye") {
  server.emplace(
      [this](StreamPtr client) -> Promise<void> {
        co_await server->onDrain();
        co_await client->write("bye");
      },
      failures);
  serving = server->serve(port());
  const StreamPtr client = connect();
  Promise<std::string> said = client->readAllText(10);
  CHECK(!said.poll(scope));
  Promise<std::size_t> drained = server->drain(timer, 5s);
  CHECK(std::move(said).wait(scope) == "bye");
  CHECK(std::move(drained).wait(scope) == 0);
}

TEST_CASE_FIXTURE(ServerTest, "cancelling a drain leaves the connections") {
  start();
  const StreamPtr client = connect();
  CHECK(answers(*client));
  {
    const Promise<std::size_t> drained = server->drain(timer, 5s);
  }
  timer.advanceBy(6s);
  CHECK(answers(*client));
  Promise<std::size_t> again = server->drain(timer, 1s);
  timer.advanceBy(1s);
  CHECK(std::move(again).wait(scope) == 1);
}

TEST_CASE_FIXTURE(ServerTest, "a second drain while one is pending is refused") {
  start();
  const StreamPtr client = connect();
  CHECK(answers(*client));
  Promise<std::size_t> drained = server->drain(timer, 5s);
  CHECK(!drained.poll(scope));
  const Exception refused = failureOf(server->drain(timer, 5s), scope);
  CHECK(refused.kind() == Exception::Kind::FAILED);
}

TEST_CASE_FIXTURE(ServerTest, "destroying the server cancels the connections and fails what is pending") {
  start();
  const StreamPtr client = connect();
  CHECK(answers(*client));
  Promise<std::size_t> drained = server->drain(timer, 5s);
  Promise<void> more = server->onDrain();
  server.reset();
  CHECK(isClosed(*client));
  CHECK(failureOf(std::move(drained), scope).kind() == Exception::Kind::DISCONNECTED);
  ConnectionServer another(echo, failures);
  Promise<void> ended = another.serve(port());
  CHECK(!ended.poll(scope));
}

TEST_CASE_FIXTURE(ServerTest, "a serve() that outlives its server fails with DISCONNECTED") {
  start();
  CHECK(!serving.poll(scope));
  server.reset();
  CHECK(closed);
  CHECK(failureOf(std::move(serving), scope).kind() == Exception::Kind::DISCONNECTED);
}

TEST_CASE_FIXTURE(LoopTest, "a server of nobody is refused") {
  Failures failures;
  CHECK(contains(thrownBy([&] { ConnectionServer(echo, failures, 0); }).description(), "mostConnections is 0"));
  CHECK(contains(thrownBy([&] { ConnectionServer(nullptr, failures); }).description(), "handler is empty"));
}

TEST_CASE("serving and draining can be cancelled at every step (R5)") {
  const auto body = [](LoopTest&) -> Promise<void> {
    struct State {
      ManualTimer timer;
      Failures failures;
      ProducerConsumerQueue<StreamPtr> arriving;
      bool closed = false;
      ConnectionServer server{echo, failures, 1};
    };
    auto state = std::make_unique<State>();
    Promise<void> serving = state->server.serve(std::make_unique<QueuePort>(state->arriving, state->closed));
    TwoWayPipe pipe = newTwoWayPipe();
    state->arriving.push(std::move(pipe.ends[1]));
    std::byte answer[2];
    Promise<void> sent = pipe.ends[0]->write("hi");
    co_await pipe.ends[0]->read(answer);
    co_await std::move(sent);
    Promise<std::size_t> drained = state->server.drain(state->timer, 5s);
    pipe.ends[0]->shutdownWrite();
    co_await std::move(drained);
    co_await std::move(serving);
  };
  CHECK(cancelSweep(std::function<Promise<void>(LoopTest&)>(body)) > 5);
}
