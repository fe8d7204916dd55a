// SPDX-License-Identifier: MIT
// Heap allocations of connections and of what goes over them, on the loopback address.
#include "counting.h"
#include "operations.h"

#include <troth/io/async_io.h>
#include <troth/net/datagram.h>
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

struct Datagrams {
  Loopback loopback;
  std::unique_ptr<DatagramSocket> server = bind();
  std::unique_ptr<DatagramSocket> client = bind();
  const SocketAddress address = server->localAddress();

  std::unique_ptr<DatagramSocket> bind() {
    return loopback.network->parseAddress("127.0.0.1").wait(loopback.scope)->bindDatagram();
  }
};

Promise<void> echoDatagrams(DatagramSocket& socket) {
  for (;;) {
    const Datagram datagram = co_await socket.receive();
    co_await socket.send(datagram.bytes, datagram.source);
  }
}

Promise<void> echoDatagramsFromBuffer(DatagramSocket& socket) {
  Buffer buffer;
  for (;;) {
    const ReceivedDatagram datagram = co_await socket.receive(buffer);
    co_await socket.send(std::span<const std::byte>(buffer).first(datagram.size), datagram.source);
  }
}

TEST_CASE("a datagram and its echo allocate nothing") {
  Datagrams sockets;
  Promise<void> server = NEVER_DONE;
  SUBCASE("received as chunks") { server = echoDatagrams(*sockets.server); }
  SUBCASE("received in a buffer") { server = echoDatagramsFromBuffer(*sockets.server); }
  Buffer buffer;
  CHECK(allocationsOf([&] {
          sockets.client->send(MESSAGE, sockets.address).wait(sockets.loopback.scope);
          expect(sockets.client->receive(buffer).wait(sockets.loopback.scope).size == MESSAGE.size());
        }) == 0);
  CHECK(!server.poll(sockets.loopback.scope));
}

TEST_CASE("datagrams that come together allocate nothing") {
  Datagrams sockets;
  const auto bytes = std::as_bytes(std::span(MESSAGE));
  const std::array<OutgoingDatagram, 10> batch = [&] {
    std::array<OutgoingDatagram, 10> all;
    all.fill({bytes, &sockets.address});
    return all;
  }();
  CHECK(allocationsOf([&] {
          expect(sockets.client->sendMany(batch).wait(sockets.loopback.scope) == batch.size());
          for (std::size_t i = 0; i < batch.size(); ++i)
            expect(sockets.server->receive().wait(sockets.loopback.scope).bytes.size() == MESSAGE.size());
        }) == 0);
}

TEST_CASE("a receive that is cancelled allocates nothing") {
  Datagrams sockets;
  CHECK(allocationsOf([&] {
          Promise<Datagram> receive = sockets.server->receive();
          expect(!receive.poll(sockets.loopback.scope));
        }) == 0);
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
