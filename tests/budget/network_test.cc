// SPDX-License-Identifier: MIT
// Heap allocations of connections and of what goes over them, on the loopback address.
#include "counting.h"
#include "operations.h"

#include <troth/io/async_io.h>
#include <troth/net/network.h>
#include <troth/timers/timer.h>

#include <doctest/doctest.h>

#include <array>
#include <chrono>
#include <memory>
#include <string_view>
#include <utility>

namespace troth::budget {
namespace {

using namespace std::chrono_literals;

using StreamPtr = std::unique_ptr<AsyncIoStream>;

struct Connection {
  StreamPtr client;
  StreamPtr server;
};

class Loopback {
public:
  Loopback()
      : io(setupAsyncIo()),
        scope(io.waitScope()),
        network(newNetwork(io)),
        receiver(network->parseAddress("127.0.0.1").wait(scope)->listen()),
        address(network->parseAddress(receiver->toString()).wait(scope)) {}

  Connection connect() {
    Promise<StreamPtr> accepted = receiver->accept();
    Connection connection;
    connection.client = address->connect().wait(scope);
    connection.server = std::move(accepted).wait(scope);
    return connection;
  }

  AsyncIoContext io;
  WaitScope& scope;
  std::unique_ptr<Network> network;
  std::unique_ptr<ConnectionReceiver> receiver;
  std::unique_ptr<NetworkAddress> address;
};

constexpr std::string_view MESSAGE = "sixty-four bytes that are sent there, and that are sent back ...";
using Buffer = std::array<std::byte, 256>;

// Answers with what it reads, until the stream ends.
Promise<void> echo(AsyncIoStream& stream) {
  for (;;) {
    Chunk chunk = co_await stream.tryReadChunk();
    if (chunk.bytes().empty()) co_return;
    co_await stream.write(chunk.bytes());
  }
}

Promise<void> echoFromBuffer(AsyncIoStream& stream) {
  Buffer buffer;
  while (std::size_t count = co_await stream.tryRead(buffer))
    co_await stream.write(std::span<const std::byte>(buffer).first(count));
}

Promise<void> askOnce(AsyncIoStream& stream) {
  co_await stream.write(MESSAGE);
  Buffer buffer;
  const auto answer = std::span(buffer).first(MESSAGE.size());
  co_await stream.read(answer);
  expect(std::string_view(reinterpret_cast<const char*>(answer.data()), answer.size()) == MESSAGE);
}

TEST_CASE("a message and its echo allocate nothing") {
  Loopback loopback;
  Connection connection = loopback.connect();
  Promise<void> server = NEVER_DONE;
  SUBCASE("read as chunks") { server = echo(*connection.server); }
  SUBCASE("read into a buffer") { server = echoFromBuffer(*connection.server); }
  CHECK(allocationsOf([&] { askOnce(*connection.client).wait(loopback.scope); }) == 0);
  CHECK(!server.poll(loopback.scope));
}

TEST_CASE("messages without coroutines allocate nothing") {
  Loopback loopback;
  Connection connection = loopback.connect();
  Buffer buffer;
  CHECK(allocationsOf([&] {
          connection.client->write(MESSAGE).wait(loopback.scope);
          expect(connection.server->tryRead(buffer).wait(loopback.scope) == MESSAGE.size());
        }) == 0);
}

TEST_CASE("a read that is cancelled allocates nothing") {
  Loopback loopback;
  Connection connection = loopback.connect();
  Buffer buffer;
  CHECK(allocationsOf([&] {
          Promise<std::size_t> read = connection.server->tryRead(buffer);
          expect(!read.poll(loopback.scope));
        }) == 0);
}

TEST_CASE("a timer that is set and cancelled allocates nothing") {
  Loopback loopback;
  Timer& timer = loopback.io.timer();
  CHECK(allocationsOf([&] {
          Promise<void> later = timer.afterDelay(1h);
          keep(later);
        }) == 0);
  CHECK(allocationsOf([&] { expect(timer.timeoutAfter(1h, Promise<int>(42)).wait(loopback.scope) == 42); }) == 0);
}

TEST_CASE("making and ending a connection takes few allocations, for both of its ends") {
  Loopback loopback;
  const double allocations = allocationsOf([&] {
    Connection connection = loopback.connect();
    connection.client.reset();
    expect(connection.server->tryReadChunk().wait(loopback.scope).bytes().empty());
  });
  CHECK(allocations < 1.5);
}

} // namespace
} // namespace troth::budget
