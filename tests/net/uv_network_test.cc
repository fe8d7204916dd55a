// SPDX-License-Identifier: MIT
// Tests of what is the system's own in its network: ports, silence, look-ups. What holds for all networks is in
// network_contract_test.cc.
#include "loopback.h"
#include "resolver.h"

#include <troth/net/resolver.h>
#include <troth/timers/timer.h>

#include <netdb.h>

#include <optional>
#include <string>
#include <vector>

using namespace troth;
using namespace troth::test;
using namespace std::chrono_literals;

namespace {

using StreamPtr = std::unique_ptr<AsyncIoStream>;
using AddressPtr = std::unique_ptr<NetworkAddress>;

std::string withPort(std::string_view host, std::uint16_t port) { return std::string(host) + ":" + std::to_string(port); }

/// Whether both ends hear each other.
void talk(StreamPair& pair, WaitScope& scope) {
  pair.left->write("ping").wait(scope);
  CHECK(pair.right->tryReadChunk().wait(scope).text() == "ping");
  pair.right->write("pong").wait(scope);
  CHECK(pair.left->tryReadChunk().wait(scope).text() == "pong");
}

/// A port on which new connections neither succeed nor fail: its queue is full.
struct SilentPort {
  std::uint16_t port;
  Peer listener;
  std::vector<Peer> queued;

  SilentPort() : listener(plainListener(port, 0)) {
    queued.push_back(connectTo(port)); // a queue of 0 has one place
  }
};

} // namespace

// ----------------------------------------------------------------------------------------- listening

TEST_CASE_FIXTURE(IoTest, "of a name whose first address is in use the next one is not taken instead") {
  const FakeHost host("two.troth.test", {"127.0.0.1", "127.0.0.2"});
  const auto receiver = listenOn(*this);
  const Exception e = thrownBy([&] { listenOn(*this, withPort("two.troth.test", receiver->getPort())); });
  CHECK((e.code() == std::errc::address_in_use));
}

TEST_CASE_FIXTURE(IoTest, "a port whose connections have just ended can be listened on again at once (A7)") {
  auto receiver = listenOn(*this);
  const std::string text = receiver->toString();
  for (int i = 0; i < 3; ++i) {
    Promise<StreamPtr> accepted = receiver->accept();
    Peer client = connectTo(receiver->getPort());
    StreamPtr server = std::move(accepted).wait(scope);
    server.reset(); // this side ends first, so that it keeps the address in TIME_WAIT
    scope.poll();
    CHECK(client.isAtEnd());
    client.close();
    receiver.reset();
    scope.poll();
    receiver = listenOn(*this, text);
    CHECK(receiver->toString() == text);
  }
}

TEST_CASE_FIXTURE(IoTest, "an address that this machine does not have cannot be listened on, and is named") {
  const Exception e = thrownBy([&] { listenOn(*this, "203.0.113.77:0"); }); // RFC 5737: for documentation alone
  CHECK((e.code() == std::errc::address_not_available));
  CHECK(contains(e.description(), "203.0.113.77:0"));
}

// ---------------------------------------------------------------------------------------- connecting

TEST_CASE_FIXTURE(IoTest, "a connection that is neither made nor refused can be cancelled, and timed out (R5, S6)") {
  SilentPort silent;
  const AddressPtr address = parse(*this, withPort("127.0.0.1", silent.port));
  {
    Promise<StreamPtr> connecting = address->connect();
    REQUIRE(!connecting.poll(scope));
  }
  scope.poll();
  CHECK(activeHandles(*this, "tcp") == 0);
  {
    Promise<StreamPtr> untouched = address->connect(); // dropped before the loop has run
  }
  const Exception e = failureOf(io.timer().timeoutAfter(5ms, address->connect()), scope);
  CHECK((e.kind() == Exception::Kind::OVERLOADED));
  CHECK(contains(e.description(), "timed out"));
  scope.poll();
  CHECK(activeHandles(*this, "tcp") == 0);
}

// ----------------------------------------------------------------------------------- several addresses

TEST_CASE_FIXTURE(IoTest, "an address that does not answer is not waited for: the next one is tried beside it (S6)") {
  const FakeHost host("dead.troth.test", {"127.0.0.1", "::1"});
  SilentPort silent; // IPv4
  const auto receiver = listenOn(*this, withPort("[::1]", silent.port));
  Promise<StreamPtr> accepted = receiver->accept();
  StreamPtr client = parse(*this, withPort("dead.troth.test", silent.port))->connect({.attemptDelay = 1ms}).wait(scope);
  scope.poll();
  CHECK(activeHandles(*this, "tcp") == 1); // the listener: the attempt that hung is closed
  StreamPair pair{std::move(client), std::move(accepted).wait(scope)};
  talk(pair, scope);
}

TEST_CASE_FIXTURE(IoTest, "connecting ends when its time is up, and the text says what was tried (S6)") {
  const FakeHost host("dead.troth.test", {"127.0.0.1", "::1"});
  SilentPort silent;
  const AddressPtr address = parse(*this, withPort("dead.troth.test", silent.port));
  const Exception e = failureOf(address->connect({.timeout = 20ms, .attemptDelay = 1h}), scope);
  CHECK((e.kind() == Exception::Kind::OVERLOADED));
  CHECK((e.code() == std::errc::timed_out));
  const std::string port = std::to_string(silent.port);
  CHECK(e.description() == "cannot connect to dead.troth.test:" + port + ": timed out after 20ms: 127.0.0.1:" + port +
                               ": no answer; [::1]:" + port + ": not tried");
  CHECK(madeIn(e, "uv_network_test.cc"));
  scope.poll();
  CHECK(activeHandles(*this, "tcp") == 0);
}

TEST_CASE_FIXTURE(IoTest, "listening on a name takes the first of its addresses that this machine has") {
  const FakeHost host("elsewhere.troth.test", {"203.0.113.77", "127.0.0.1"});
  CHECK(listenOn(*this, "elsewhere.troth.test:0")->toString().starts_with("127.0.0.1:"));
  const FakeHost nowhere("nowhere.troth.test", {"203.0.113.77", "198.51.100.77"});
  const Exception e = thrownBy([&] { listenOn(*this, "nowhere.troth.test:0"); });
  CHECK((e.code() == std::errc::address_not_available));
  CHECK(contains(e.description(), "nowhere.troth.test:0"));
}

// ------------------------------------------------------------------------------------------- look-ups

TEST_CASE_FIXTURE(IoTest, "a look-up for which the system has no memory is OVERLOADED") {
  const FakeHost memory("memory.troth.test", EAI_MEMORY);
  CHECK((failureOf(newNetwork(io)->parseAddress("memory.troth.test"), scope).kind() == Exception::Kind::OVERLOADED));
}

TEST_CASE_FIXTURE(IoTest, "a name without any address is an error, not an empty address") {
  const FakeHost empty("empty.troth.test", std::vector<std::string>());
  const Exception e = failureOf(newNetwork(io)->parseAddress("empty.troth.test"), scope);
  CHECK(contains(e.description(), "\"empty.troth.test\""));
}

TEST_CASE_FIXTURE(IoTest, "the text and the network are needed only during the call") {
  FakeHost host("slow.troth.test", {"127.0.0.1"});
  host.hold();
  auto network = newNetwork(io);
  auto text = std::make_unique<std::string>("slow.troth.test:7000");
  Promise<AddressPtr> address = network->parseAddress(*text);
  text.reset();
  network.reset();
  host.awaitLookup();
  REQUIRE(!address.poll(scope));
  host.release();
  CHECK(std::move(address).wait(scope)->toString() == "slow.troth.test:7000");
}

TEST_CASE_FIXTURE(IoTest, "a look-up that runs when its promise is dropped ends in the background, unheard (R5, R14)") {
  FakeHost host("slow.troth.test", {"127.0.0.1"});
  host.hold();
  {
    Promise<AddressPtr> address = newNetwork(io)->parseAddress("slow.troth.test:7000");
    host.awaitLookup();
    REQUIRE(!address.poll(scope));
  }
  for (int i = 0; i < 10; ++i) scope.poll();
  CHECK(host.lookups() == 1);
  host.release();
  scope.poll();
}

TEST_CASE_FIXTURE(IoTest, "a look-up that is done when its promise is dropped leaves nothing (R14)") {
  FakeHost host("slow.troth.test", {"127.0.0.1", "::1"});
  Promise<AddressPtr> address = newNetwork(io)->parseAddress("slow.troth.test:7000");
  while (!address.poll(scope)) {}
}

TEST_CASE_FIXTURE(IoTest, "a look-up that waits for a thread never begins once its promise is dropped (R5, N3)") {
  const FakeHost host("queued.troth.test", {"127.0.0.1"});
  BusyThreadPool busy(io);
  {
    Promise<AddressPtr> address = newNetwork(io)->parseAddress("queued.troth.test:7000");
    REQUIRE(!address.poll(scope));
  }
  scope.poll();
  busy.release();
  // One that comes later runs, so the earlier one would have run too.
  const FakeHost later("later.troth.test", {"127.0.0.1"});
  CHECK(parse(*this, "later.troth.test:1")->toString() == "later.troth.test:1");
  CHECK(host.lookups() == 0);
}

TEST_CASE_FIXTURE(IoTest, "a thousand look-ups of one name at once, half of them cancelled, are one request that answers the other half (N3)") {
  const FakeHost host("many.troth.test", {"127.0.0.1"});
  std::vector<Promise<AddressPtr>> kept;
  const auto network = newNetwork(io);
  for (int i = 0; i < 500; ++i) {
    kept.push_back(network->parseAddress("many.troth.test", static_cast<std::uint16_t>(i + 1)));
    const Promise<AddressPtr> dropped = network->parseAddress("many.troth.test", 9999);
  }
  for (std::size_t i = 0; i < kept.size(); ++i)
    CHECK(std::move(kept[i]).wait(scope)->toString() == "many.troth.test:" + std::to_string(i + 1));
  CHECK(host.lookups() == 1);
}

TEST_CASE_FIXTURE(IoTest, "a network asks the resolver that it is given, and no other, for names alone") {
  struct OneHost final : Resolver {
    Promise<std::vector<SocketAddress>> lookUp(std::string_view host, std::source_location) override {
      asked += std::string(host) + " ";
      return std::vector{SocketAddress::parse("127.0.0.1:0")};
    }
    Promise<std::string> lookUpName(const SocketAddress&, std::source_location) override { return NEVER_DONE; }
    std::string asked;
  } resolver;
  const auto network = newNetwork(io, resolver);
  const auto receiver = network->parseAddress("127.0.0.1:0").wait(scope)->listen();
  const AddressPtr address = network->parseAddress("any.troth.test", receiver->getPort()).wait(scope);
  CHECK(resolver.asked == "any.troth.test ");
  const StreamPtr stream = address->connect().wait(scope);
  CHECK(receiver->accept().wait(scope) != nullptr);
  CHECK(failureOf(network->parseAddress("no host"), scope).kind() == Exception::Kind::FAILED);
  CHECK(resolver.asked == "any.troth.test ");
}

TEST_CASE_FIXTURE(IoTest, "a resolver that finds no address at all, and no error, makes an error") {
  struct NoHost final : Resolver {
    Promise<std::vector<SocketAddress>> lookUp(std::string_view, std::source_location) override { return std::vector<SocketAddress>(); }
    Promise<std::string> lookUpName(const SocketAddress&, std::source_location) override { return NEVER_DONE; }
  } resolver;
  const Exception e = failureOf(newNetwork(io, resolver)->parseAddress("any.troth.test:1"), scope);
  CHECK((e.kind() == Exception::Kind::FAILED));
  CHECK(contains(e.description(), "looking up host \"any.troth.test\""));
  CHECK(madeIn(e, "uv_network_test.cc"));
}

TEST_CASE_FIXTURE(IoTest, "a resolver that does not answer is bounded by the caller's deadline (N4)") {
  FakeHost host("silent.troth.test", {"127.0.0.1"});
  host.hold();
  const Exception e = failureOf(io.timer().timeoutAfter(2ms, newNetwork(io)->parseAddress("silent.troth.test:1")), scope);
  CHECK((e.kind() == Exception::Kind::OVERLOADED));
  host.release();
}

TEST_CASE("a context may go while a look-up runs whose promise was dropped, and while one is queued (R13, R14)") {
  FakeHost host("slow.troth.test", {"127.0.0.1"});
  host.hold();
  IoTest test;
  {
    std::vector<Promise<AddressPtr>> lookups; // libuv gives look-ups half of its threads
    for (int i = 0; i < 8; ++i) lookups.push_back(newNetwork(test.io)->parseAddress("slow.troth.test:7000"));
    const auto receiver = listenOn(test);
    const Promise<StreamPtr> accept = receiver->accept();
    const Promise<StreamPtr> connecting = parse(test, receiver->toString())->connect();
    const Promise<void> timer = test.io.timer().afterDelay(1h);
    host.awaitLookup();
    test.scope.poll();
  }
  host.release();
  // No turn of the loop between this and the end of the context: its destructor sees to it all.
}

// -------------------------------------------------------------------------------- at every step (R5)

namespace {

Promise<void> serveOne(ConnectionReceiver& receiver) {
  const StreamPtr connection = co_await receiver.accept();
  for (;;) {
    const Chunk chunk = co_await connection->tryReadChunk();
    if (chunk.empty()) co_return;
    co_await connection->write(chunk);
  }
}

Promise<void> conversation(IoTest& test, std::string host) {
  const auto network = newNetwork(test.io);
  const AddressPtr address = co_await network->parseAddress(host + ":0");
  const auto receiver = address->listen();
  Promise<void> server = serveOne(*receiver).eagerlyEvaluate(nullptr);
  const AddressPtr target = co_await network->parseAddress(host, receiver->getPort());
  {
    const StreamPtr client = co_await test.io.timer().timeoutAfter(1h, target->connect());
    co_await client->write("hello");
    std::string reply(5, '.');
    co_await client->read(bufferOf(reply));
    CHECK(reply == "hello");
    client->shutdownWrite();
    const Chunk end = co_await client->tryReadChunk();
    CHECK(end.empty());
  }
  co_await std::move(server);
}

Promise<void> overName(IoTest& test) { return conversation(test, "localhost"); }

} // namespace

TEST_CASE("a look-up, listening, connecting, an echo and closing can be cancelled at every step (R5, R14)") { CHECK(cancelSweep(overName) > 10); }
