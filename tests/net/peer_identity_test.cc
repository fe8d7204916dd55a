// SPDX-License-Identifier: MIT
// Tests of who the peers of connections are, and of the addresses of a connection's ends.
#include "../io/temporary_directory.h"
#include "../runtime/helpers.h"
#include "loopback.h"

#include <troth/io/pipe.h>
#include <troth/net/peer_identity.h>

#include <fmt/format.h>

#include <string>

#include <unistd.h>

using namespace troth;
using namespace troth::test;

namespace {

using StreamPtr = std::unique_ptr<AsyncIoStream>;

/// Both ends of a connection to `text`, with their peers.
struct Acquainted {
  AuthenticatedStream client;
  AuthenticatedStream server;

  Acquainted(IoTest& test, std::string_view text) {
    const auto receiver = listenOn(test, text);
    Promise<AuthenticatedStream> accepted = receiver->acceptAuthenticated();
    client = parse(test, receiver->toString())->connectAuthenticated().wait(test.scope);
    server = std::move(accepted).wait(test.scope);
  }
};

} // namespace

TEST_CASE_FIXTURE(IoTest, "the peer of a TCP connection is the address at its other end") {
  for (const std::string_view text : {"127.0.0.1:0", "[::1]:0"}) {
    CAPTURE(text);
    const Acquainted pair(*this, text);
    const auto* server = dynamic_cast<const NetworkPeerIdentity*>(pair.client.peerIdentity.get());
    const auto* client = dynamic_cast<const NetworkPeerIdentity*>(pair.server.peerIdentity.get());
    REQUIRE(server != nullptr);
    REQUIRE(client != nullptr);
    CHECK(server->address() == localAddressOf(*pair.server.stream));
    CHECK(client->address() == localAddressOf(*pair.client.stream));
    CHECK(server->address() == peerAddressOf(*pair.client.stream));
    CHECK(server->toString() == server->address().toString());
    CHECK(server->address().port() != client->address().port());
  }
}

TEST_CASE_FIXTURE(IoTest, "the peer of a Unix socket is a process, with its user and group") {
  const TemporaryDirectory directory;
  for (const std::string& text : {"unix:" + directory.inside("socket"), fmt::format("unix-abstract:troth-test-{}", getpid())}) {
    CAPTURE(text);
    const Acquainted pair(*this, text);
    for (const PeerIdentity* identity : {pair.client.peerIdentity.get(), pair.server.peerIdentity.get()}) {
      const auto* local = dynamic_cast<const LocalPeerIdentity*>(identity);
      REQUIRE(local != nullptr);
      CHECK((local->credentials().process == getpid()));
      CHECK(local->credentials().user == getuid());
      CHECK(local->credentials().group == getgid());
      CHECK(local->toString() == fmt::format("local process {}, user {}, group {}", getpid(), getuid(), getgid()));
    }
    CHECK(peerAddressOf(*pair.client.stream).toString() == text);
  }
}

TEST_CASE("a process that the system does not tell is left out") {
  CHECK(LocalPeerIdentity({std::nullopt, 1, 2}).toString() == "local process, user 1, group 2");
}

TEST_CASE_FIXTURE(IoTest, "a stream without a socket has no addresses, and its peer is unknown") {
  const TwoWayPipe pipe = newTwoWayPipe();
  const auto identity = identifyPeer(*pipe.ends[0]);
  CHECK(dynamic_cast<const UnknownPeerIdentity*>(identity.get()) != nullptr);
  CHECK(identity->toString() == "unknown peer");
  const Exception local = thrownBy([&] { localAddressOf(*pipe.ends[0]); });
  CHECK(kindName(local) == "FAILED");
  CHECK(contains(local.description(), "localAddressOf"));
  CHECK(fileOf(local) == "peer_identity_test.cc");
  CHECK(contains(thrownBy([&] { peerAddressOf(*pipe.ends[0]); }).description(), "peerAddressOf"));
}

TEST_CASE_FIXTURE(IoTest, "a client that has reset its connection before it is accepted is unknown, and no failure") {
  const auto receiver = listenOn(*this);
  Promise<AuthenticatedStream> accepted = receiver->acceptAuthenticated();
  connectTo(receiver->getPort()).reset();
  const AuthenticatedStream connection = std::move(accepted).wait(scope);
  CHECK(dynamic_cast<const UnknownPeerIdentity*>(connection.peerIdentity.get()) != nullptr);
  CHECK(kindName(thrownBy([&] { peerAddressOf(*connection.stream); })) == "DISCONNECTED");
}
