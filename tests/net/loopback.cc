// SPDX-License-Identifier: MIT
// Connections for the tests of the network.
#include "loopback.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>

namespace troth::test {

namespace {

struct Address {
  sockaddr_storage storage{};
  socklen_t size;

  Address(Family family, std::uint16_t port) {
    if (family == Family::IPV4) {
      auto& v4 = reinterpret_cast<sockaddr_in&>(storage);
      v4.sin_family = AF_INET;
      v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
      v4.sin_port = htons(port);
      size = sizeof v4;
    } else {
      auto& v6 = reinterpret_cast<sockaddr_in6&>(storage);
      v6.sin6_family = AF_INET6;
      v6.sin6_addr = in6addr_loopback;
      v6.sin6_port = htons(port);
      size = sizeof v6;
    }
  }
  sockaddr* get() { return reinterpret_cast<sockaddr*>(&storage); }
  std::uint16_t port() const { return ntohs(reinterpret_cast<const sockaddr_in&>(storage).sin_port); } // at the same place in both
};

Peer newSocket(Family family) {
  Peer peer(socket(family == Family::IPV4 ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
  REQUIRE(peer.fd() >= 0);
  return peer;
}

} // namespace

std::unique_ptr<NetworkAddress> parse(IoTest& test, std::string_view text, std::uint16_t defaultPort) {
  return newNetwork(test.io)->parseAddress(text, defaultPort).wait(test.scope);
}

std::unique_ptr<ConnectionReceiver> listenOn(IoTest& test, std::string_view text) { return parse(test, text)->listen(); }

Peer connectTo(std::uint16_t port, Family family) {
  Peer peer = newSocket(family);
  Address address(family, port);
  REQUIRE(connect(peer.fd(), address.get(), address.size) == 0);
  REQUIRE(fcntl(peer.fd(), F_SETFL, O_NONBLOCK) == 0);
  return peer;
}

Peer plainListener(std::uint16_t& port, int backlog, Family family) {
  Peer listener = newSocket(family);
  Address address(family, 0);
  REQUIRE(bind(listener.fd(), address.get(), address.size) == 0);
  REQUIRE(listen(listener.fd(), backlog) == 0);
  REQUIRE(getsockname(listener.fd(), address.get(), &address.size) == 0);
  port = address.port();
  return listener;
}

std::uint16_t unusedPort(Family family) {
  std::uint16_t port;
  plainListener(port, 1, family);
  return port;
}

StreamPair connectedPair(IoTest& test, std::string_view text) {
  const auto receiver = listenOn(test, text);
  Promise<std::unique_ptr<AsyncIoStream>> accepted = receiver->accept();
  auto left = parse(test, receiver->toString())->connect().wait(test.scope);
  return {std::move(left), std::move(accepted).wait(test.scope)};
}

} // namespace troth::test
