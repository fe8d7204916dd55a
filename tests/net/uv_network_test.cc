// SPDX-License-Identifier: MIT
// Tests of the network: addresses, listening, connecting, names, and cancelling each of them.
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

// ----------------------------------------------------------------------------------------- addresses

TEST_CASE_FIXTURE(IoTest, "an address is told as it was given, with its port") {
  CHECK(parse(*this, "127.0.0.1:7000")->toString() == "127.0.0.1:7000");
  CHECK(parse(*this, "[::1]:7000")->toString() == "[::1]:7000");
  CHECK(parse(*this, "::1", 80)->toString() == "[::1]:80");
  CHECK(parse(*this, "*:7000")->toString() == "*:7000");
  CHECK(parse(*this, "*", 80)->toString() == "*:80");
  CHECK(parse(*this, "localhost:7000")->toString() == "localhost:7000");
  CHECK(parse(*this, "localhost", 81)->toString() == "localhost:81");
  CHECK(parse(*this, "127.0.0.1")->toString() == "127.0.0.1:0");
}

TEST_CASE_FIXTURE(IoTest, "text that is no address rejects the promise, not the call, before anybody is asked (N1)") {
  const auto network = newNetwork(io);
  for (const std::string& text : {std::string("host:x"), std::string("127.1"), std::string("localhost\0.evil.example", 23), std::string()}) {
    CAPTURE(text);
    Promise<AddressPtr> address = network->parseAddress(text);
    REQUIRE(address.poll(scope));
    const Exception e = failureOf(std::move(address), scope);
    CHECK((e.kind() == Exception::Kind::FAILED));
    CHECK(contains(e.description(), "invalid address"));
    CHECK(madeIn(e, "uv_network_test.cc"));
  }
}

// ----------------------------------------------------------------------------------------- listening

TEST_CASE_FIXTURE(IoTest, "listening on each kind of address gives a port, and connecting to it a connection") {
  for (const std::string_view text : {"127.0.0.1:0", "[::1]:0", "localhost:0", "127.0.0.1", "::1"}) {
    CAPTURE(text);
    const auto receiver = listenOn(*this, text);
    CHECK(receiver->getPort() != 0);
    CHECK(receiver->toString().ends_with(":" + std::to_string(receiver->getPort())));
    CHECK((receiver->toString().starts_with("127.0.0.1:") || receiver->toString().starts_with("[::1]:")));
    Promise<StreamPtr> accepted = receiver->accept();
    StreamPtr client = parse(*this, receiver->toString())->connect().wait(scope);
    StreamPair pair{std::move(client), std::move(accepted).wait(scope)};
    talk(pair, scope);
  }
}

TEST_CASE_FIXTURE(IoTest, "listening on all addresses takes connections over IPv4 and IPv6") {
  const auto receiver = listenOn(*this, "*:0");
  REQUIRE(receiver->getPort() != 0);
  CHECK((receiver->toString() == "[::]:" + std::to_string(receiver->getPort()) || receiver->toString() == withPort("0.0.0.0", receiver->getPort())));
  for (const std::string_view host : {"127.0.0.1", "[::1]", "localhost"}) {
    CAPTURE(host);
    Promise<StreamPtr> accepted = receiver->accept();
    StreamPtr client = parse(*this, withPort(host, receiver->getPort()))->connect().wait(scope);
    StreamPair pair{std::move(client), std::move(accepted).wait(scope)};
    talk(pair, scope);
  }
}

TEST_CASE_FIXTURE(IoTest, "a port that is in use is FAILED and names the address (A7)") {
  const auto receiver = listenOn(*this);
  const std::string text = receiver->toString();
  const Exception e = thrownBy([&] { listenOn(*this, text); });
  CHECK((e.kind() == Exception::Kind::FAILED));
  CHECK((e.code() == std::errc::address_in_use));
  CHECK(contains(e.description(), "cannot listen on " + text));
  CHECK(contains(e.description(), "EADDRINUSE"));
  const Exception byName = thrownBy([&] { listenOn(*this, withPort("localhost", receiver->getPort())); });
  CHECK((byName.kind() == Exception::Kind::FAILED));
  CHECK(contains(byName.description(), withPort("localhost", receiver->getPort())));
  const Exception wildcard = thrownBy([&] { listenOn(*this, withPort("*", receiver->getPort())); });
  CHECK((wildcard.kind() == Exception::Kind::FAILED));
  CHECK(contains(wildcard.description(), withPort("*", receiver->getPort())));
}

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

TEST_CASE_FIXTURE(IoTest, "a refused connection is DISCONNECTED and names the address (S6)") {
  for (const Family family : {Family::IPV4, Family::IPV6}) {
    const std::string text = withPort(family == Family::IPV4 ? "127.0.0.1" : "[::1]", unusedPort(family));
    CAPTURE(text);
    const Exception e = failureOf(parse(*this, text)->connect(), scope);
    CHECK((e.kind() == Exception::Kind::DISCONNECTED));
    CHECK((e.code() == std::errc::connection_refused));
    CHECK(contains(e.description(), "cannot connect to " + text));
    CHECK(contains(e.description(), "ECONNREFUSED"));
    CHECK(madeIn(e, "uv_network_test.cc"));
  }
}

TEST_CASE_FIXTURE(IoTest, "connecting to all addresses or to no port is refused as a misuse") {
  const Exception wildcard = thrownBy([&] { (void)parse(*this, "*:7000")->connect(); });
  CHECK((wildcard.kind() == Exception::Kind::FAILED));
  CHECK(contains(wildcard.description(), "*:7000"));
  CHECK(contains(wildcard.description(), "for listening"));
  CHECK(madeIn(wildcard, "uv_network_test.cc"));
  const Exception portless = thrownBy([&] { (void)parse(*this, "127.0.0.1")->connect(); });
  CHECK((portless.kind() == Exception::Kind::FAILED));
  CHECK(contains(portless.description(), "no port"));
  CHECK(madeIn(portless, "uv_network_test.cc"));
}

TEST_CASE_FIXTURE(IoTest, "the address and the network may go while a connection is made") {
  const auto receiver = listenOn(*this);
  Promise<StreamPtr> accepted = receiver->accept();
  auto network = newNetwork(io);
  AddressPtr address = network->parseAddress(receiver->toString()).wait(scope);
  Promise<StreamPtr> connecting = address->connect();
  address.reset();
  network.reset();
  StreamPair pair{std::move(connecting).wait(scope), std::move(accepted).wait(scope)};
  talk(pair, scope);
}

TEST_CASE_FIXTURE(IoTest, "one address makes many connections, also at the same time") {
  const auto receiver = listenOn(*this);
  const AddressPtr address = parse(*this, receiver->toString());
  std::vector<Promise<StreamPtr>> connecting;
  for (int i = 0; i < 20; ++i) connecting.push_back(address->connect());
  for (Promise<StreamPtr>& promise : connecting) {
    const StreamPtr stream = std::move(promise).wait(scope);
    CHECK(stream != nullptr);
  }
  for (int i = 0; i < 20; ++i) CHECK(receiver->accept().wait(scope) != nullptr);
}

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

TEST_CASE_FIXTURE(IoTest, "a connection that is cancelled when it was made is closed (R5)") {
  const auto receiver = listenOn(*this);
  Promise<StreamPtr> accepted = receiver->accept();
  {
    Promise<StreamPtr> connecting = parse(*this, receiver->toString())->connect();
    while (!connecting.poll(scope)) {}
  }
  const StreamPtr server = std::move(accepted).wait(scope);
  CHECK(server->tryReadChunk().wait(scope).empty());
}

// ----------------------------------------------------------------------------------- several addresses

TEST_CASE_FIXTURE(IoTest, "the addresses of a name are tried in turn until one accepts (S6)") {
  const FakeHost host("two.troth.test", {"::1", "127.0.0.1"});
  const auto receiver = listenOn(*this, "127.0.0.1:0"); // on the second alone
  Promise<StreamPtr> accepted = receiver->accept();
  StreamPtr client = parse(*this, withPort("two.troth.test", receiver->getPort()))->connect().wait(scope);
  StreamPair pair{std::move(client), std::move(accepted).wait(scope)};
  talk(pair, scope);
}

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

TEST_CASE_FIXTURE(IoTest, "if all addresses of a name refuse, the text lists each with its reason (S6)") {
  const FakeHost host("two.troth.test", {"127.0.0.1", "::1"});
  std::uint16_t port = unusedPort();
  const Exception e = failureOf(parse(*this, withPort("two.troth.test", port))->connect(), scope);
  CHECK((e.kind() == Exception::Kind::DISCONNECTED));
  CHECK((e.code() == std::errc::connection_refused));
  CHECK(contains(e.description(), "cannot connect to " + withPort("two.troth.test", port) + ": "));
  const std::size_t first = e.description().find(withPort("127.0.0.1", port) + ": connection refused");
  const std::size_t second = e.description().find(withPort("[::1]", port) + ": connection refused");
  REQUIRE(first != std::string_view::npos);
  REQUIRE(second != std::string_view::npos);
  CHECK(first < second);
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

TEST_CASE_FIXTURE(IoTest, "a name that does not exist is FAILED and quoted") {
  const FakeHost host("no-such-host.invalid", EAI_NONAME);
  const Exception e = failureOf(newNetwork(io)->parseAddress("no-such-host.invalid:80"), scope);
  CHECK((e.kind() == Exception::Kind::FAILED));
  CHECK(contains(e.description(), "\"no-such-host.invalid\""));
  CHECK(contains(e.description(), "ENOTFOUND") + contains(e.description(), "EAI_NONAME") == 1);
  CHECK(madeIn(e, "uv_network_test.cc"));
}

TEST_CASE_FIXTURE(IoTest, "a name server that cannot be asked is OVERLOADED, and other failures are FAILED") {
  const FakeHost busy("busy.troth.test", EAI_AGAIN);
  CHECK((failureOf(newNetwork(io)->parseAddress("busy.troth.test"), scope).kind() == Exception::Kind::OVERLOADED));
  const FakeHost memory("memory.troth.test", EAI_MEMORY);
  CHECK((failureOf(newNetwork(io)->parseAddress("memory.troth.test"), scope).kind() == Exception::Kind::OVERLOADED));
  const FakeHost broken("broken.troth.test", EAI_FAIL);
  CHECK((failureOf(newNetwork(io)->parseAddress("broken.troth.test"), scope).kind() == Exception::Kind::FAILED));
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

TEST_CASE_FIXTURE(IoTest, "an address that was cloned is as good, when the first and the network are gone, and is not looked up again") {
  const FakeHost host("one.troth.test", {"127.0.0.1"});
  const auto receiver = listenOn(*this);
  AddressPtr address = parse(*this, withPort("one.troth.test", receiver->getPort()));
  const AddressPtr clone = address->clone();
  address.reset();
  CHECK(clone->toString() == withPort("one.troth.test", receiver->getPort()));
  CHECK(clone->connect().wait(scope) != nullptr);
  CHECK(host.lookups() == 1);
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

Promise<void> overNumericAddress(IoTest& test) { return conversation(test, "127.0.0.1"); }
Promise<void> overName(IoTest& test) { return conversation(test, "localhost"); }

Promise<void> refused(IoTest& test) {
  const AddressPtr address = co_await newNetwork(test.io)->parseAddress(withPort("127.0.0.1", unusedPort()));
  try {
    const StreamPtr stream = co_await address->connect();
    FAIL("connected");
  } catch (const Exception& e) {
    CHECK((e.kind() == Exception::Kind::DISCONNECTED));
  }
}

} // namespace

TEST_CASE("listening, connecting, an echo and closing can be cancelled at every step (R5)") { CHECK(cancelSweep(overNumericAddress) > 10); }

TEST_CASE("the same over a name, with its look-ups, can be cancelled at every step (R5, R14)") { CHECK(cancelSweep(overName) > 10); }

TEST_CASE("a refused connection can be cancelled at every step (R5)") { CHECK(cancelSweep(refused) > 1); }
