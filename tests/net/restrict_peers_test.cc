// SPDX-License-Identifier: MIT
// Tests of Network::restrictPeers(): what is refused, when, and that nothing gets round it.
#include "../io/temporary_directory.h"
#include "loopback.h"
#include "resolver.h"

#include <string>
#include <vector>

using namespace troth;
using namespace troth::test;

namespace {

using StreamPtr = std::unique_ptr<AsyncIoStream>;
using NetworkPtr = std::unique_ptr<Network>;

std::string withPort(std::string_view host, std::uint16_t port) { return std::string(host) + ":" + std::to_string(port); }

Exception connectFailure(IoTest& test, Network& network, std::string_view text) {
  return failureOf(network.parseAddress(text).wait(test.scope)->connect(), test.scope);
}

/// Whether a plain client of `receiver` is closed unheard; nobody else may have connected.
bool turnsAway(IoTest& test, ConnectionReceiver& receiver, Peer client) {
  Promise<StreamPtr> accept = receiver.accept();
  for (int i = 0; i < 10; ++i)
    if (accept.poll(test.scope)) return false;
  return client.isClosed();
}

} // namespace

TEST_CASE_FIXTURE(IoTest, "an address that is not allowed is not connected to, and named") {
  const auto receiver = listenOn(*this);
  const NetworkPtr network = newNetwork(io)->restrictPeers({"public"});
  const std::string text = receiver->toString();
  const Exception e = connectFailure(*this, *network, text);
  CHECK((e.kind() == Exception::Kind::FAILED));
  CHECK((e.code() == std::errc::permission_denied));
  CHECK(contains(e.description(), "cannot connect to " + text + ": " + text + ": restrictPeers() does not allow this address"));
  CHECK(madeIn(e, "restrict_peers_test.cc"));
  Promise<StreamPtr> accept = receiver->accept();
  for (int i = 0; i < 10; ++i) CHECK(!accept.poll(scope));
}

TEST_CASE_FIXTURE(IoTest, "an address that is allowed is connected to, also when the first network is gone") {
  const auto receiver = listenOn(*this);
  Promise<StreamPtr> accepted = receiver->accept();
  const NetworkPtr network = newNetwork(io)->restrictPeers({"local"})->restrictPeers({"127.0.0.0/8", "unix"});
  const StreamPtr client = network->parseAddress(receiver->toString()).wait(scope)->connect().wait(scope);
  CHECK(std::move(accepted).wait(scope) != nullptr);
}

TEST_CASE_FIXTURE(IoTest, "a name that resolves inside is refused, for the resolved address is judged (N2)") {
  const auto receiver = listenOn(*this);
  const NetworkPtr network = newNetwork(io)->restrictPeers({"public"});
  for (const std::string address : {"127.0.0.1", "::1", "::ffff:127.0.0.1", "0.0.0.0", "169.254.169.254", "64:ff9b::7f00:1"}) {
    CAPTURE(address);
    const FakeHost host("rebound.troth.test", {address});
    const Exception e = connectFailure(*this, *network, withPort("rebound.troth.test", receiver->getPort()));
    CHECK((e.code() == std::errc::permission_denied));
    CHECK(contains(e.description(), "cannot connect to " + withPort("rebound.troth.test", receiver->getPort())));
    CHECK(contains(e.description(), address));
  }
  Promise<StreamPtr> accept = receiver->accept();
  for (int i = 0; i < 10; ++i) CHECK(!accept.poll(scope));
}

TEST_CASE_FIXTURE(IoTest, "the address that was judged is the one that is connected to: no second look-up (N2)") {
  const auto receiver = listenOn(*this);
  Promise<StreamPtr> accepted = receiver->accept();
  const NetworkPtr network = newNetwork(io)->restrictPeers({"127.0.0.0/8"});
  std::unique_ptr<NetworkAddress> address;
  {
    const FakeHost host("rebinding.troth.test", {"127.0.0.1"});
    address = network->parseAddress(withPort("rebinding.troth.test", receiver->getPort())).wait(scope);
    CHECK(host.lookups() == 1);
  }
  // The name means something else by now.
  const FakeHost host("rebinding.troth.test", {"::1"});
  const StreamPtr client = address->connect().wait(scope);
  CHECK(host.lookups() == 0);
  CHECK(std::move(accepted).wait(scope) != nullptr);
}

TEST_CASE_FIXTURE(IoTest, "of the addresses of a name only those that are allowed are tried") {
  const FakeHost host("both.troth.test", {"::1", "127.0.0.1"});
  std::uint16_t port;
  Peer onIpv6 = plainListener(port, 16, Family::IPV6);
  const auto receiver = listenOn(*this, withPort("127.0.0.1", port));
  Promise<StreamPtr> accepted = receiver->accept();
  const NetworkPtr network = newNetwork(io)->restrictPeers({"local"}, {"::1"});
  const StreamPtr client = network->parseAddress(withPort("both.troth.test", port)).wait(scope)->connect().wait(scope);
  CHECK(std::move(accepted).wait(scope) != nullptr);
  CHECK(!onIpv6.isReadable()); // nobody has come
  const NetworkPtr none = newNetwork(io)->restrictPeers({"public"});
  const Exception e = connectFailure(*this, *none, withPort("both.troth.test", port));
  CHECK(contains(e.description(), withPort("127.0.0.1", port) + ": restrictPeers()"));
  CHECK(contains(e.description(), withPort("[::1]", port) + ": restrictPeers()"));
}

TEST_CASE_FIXTURE(IoTest, "a second restriction does not widen the first") {
  const TemporaryDirectory directory;
  const auto receiver = listenOn(*this, "unix:" + directory.inside("socket"));
  const NetworkPtr network = newNetwork(io)->restrictPeers({"public"})->restrictPeers({"unix", "local"});
  CHECK((connectFailure(*this, *network, receiver->toString()).code() == std::errc::permission_denied));
  CHECK((connectFailure(*this, *network, "127.0.0.1:1").code() == std::errc::permission_denied));
}

TEST_CASE_FIXTURE(IoTest, "peers that are not allowed are closed at once, and accepting goes on") {
  const NetworkPtr network = newNetwork(io)->restrictPeers({"::1", "::/0"}, {"127.0.0.0/8"});
  const auto receiver = network->parseAddress("*:0").wait(scope)->listen();
  if (!receiver->toString().starts_with("[::]")) return; // a machine without IPv6
  CHECK(turnsAway(*this, *receiver, connectTo(receiver->getPort()))); // comes as ::ffff:127.0.0.1
  Promise<StreamPtr> accept = receiver->accept();
  Peer refused = connectTo(receiver->getPort());
  Peer allowed = connectTo(receiver->getPort(), Family::IPV6);
  allowed.send("hello");
  const StreamPtr stream = std::move(accept).wait(scope);
  CHECK(stream->tryReadChunk().wait(scope).text() == "hello");
  CHECK(refused.isClosed());
}

TEST_CASE_FIXTURE(IoTest, "of a hundred peers that are not allowed none is accepted, however many come ahead of demand") {
  const NetworkPtr network = newNetwork(io)->restrictPeers({"public"});
  const auto receiver = network->parseAddress("127.0.0.1:0").wait(scope)->listen();
  std::vector<Peer> clients;
  for (int i = 0; i < 100; ++i) clients.push_back(connectTo(receiver->getPort()));
  Promise<StreamPtr> accept = receiver->accept();
  for (int i = 0; i < 20; ++i) CHECK(!accept.poll(scope));
  for (Peer& client : clients) CHECK(client.isClosed());
}

TEST_CASE_FIXTURE(IoTest, "listening is refused where no peer could be allowed") {
  const TemporaryDirectory directory;
  const std::string text = "unix:" + directory.inside("socket");
  const NetworkPtr publics = newNetwork(io)->restrictPeers({"public"});
  const auto onUnix = publics->parseAddress(text).wait(scope);
  const Exception e = thrownBy([&] { onUnix->listen(); });
  CHECK((e.kind() == Exception::Kind::FAILED));
  CHECK((e.code() == std::errc::permission_denied));
  CHECK(contains(e.description(), "cannot listen on " + text));
  CHECK(madeIn(e, "restrict_peers_test.cc"));
  CHECK(directory.count() == 0);
  const NetworkPtr unixes = newNetwork(io)->restrictPeers({"unix"});
  const auto onTcp = unixes->parseAddress("127.0.0.1:0").wait(scope);
  CHECK((thrownBy([&] { onTcp->listen(); }).code() == std::errc::permission_denied));
  const auto receiver = unixes->parseAddress(text).wait(scope)->listen();
  Promise<StreamPtr> accepted = receiver->accept();
  const StreamPtr client = unixes->parseAddress(text).wait(scope)->connect().wait(scope);
  CHECK(std::move(accepted).wait(scope) != nullptr);
}

TEST_CASE_FIXTURE(IoTest, "an item that is no rule is refused and quoted, with the place of the caller") {
  const NetworkPtr network = newNetwork(io);
  const Exception e = thrownBy([&] { network->restrictPeers({"public", "everyone"}); });
  CHECK((e.kind() == Exception::Kind::FAILED));
  CHECK(contains(e.description(), "\"everyone\""));
  CHECK(madeIn(e, "restrict_peers_test.cc"));
}
