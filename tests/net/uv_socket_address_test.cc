// SPDX-License-Identifier: MIT
// Tests of SocketAddress: both families, their ports and their text.
#include "loopback.h"

#include <troth/net/uv_socket_address_detail.h>

using namespace troth;
using namespace troth::test;
using detail::SocketAddress;

TEST_CASE("an IPv4 address has its text and port") {
  const SocketAddress address = SocketAddress::ipv4("127.0.0.1", 7000);
  CHECK(address.get()->sa_family == AF_INET);
  CHECK(address.port() == 7000);
  CHECK(address.toString() == "127.0.0.1:7000");
}

TEST_CASE("an IPv6 address has its text, in brackets, and port") {
  const SocketAddress address = SocketAddress::ipv6("::1", 65535);
  CHECK(address.get()->sa_family == AF_INET6);
  CHECK(address.port() == 65535);
  CHECK(address.toString() == "[::1]:65535");
}

TEST_CASE("an address of the resolver gets the port that is asked for") {
  CHECK(SocketAddress::from(*SocketAddress::ipv4("10.1.2.3", 1).get(), 80).toString() == "10.1.2.3:80");
  CHECK(SocketAddress::from(*SocketAddress::ipv6("2001:db8::1", 1).get(), 80).toString() == "[2001:db8::1]:80");
}

TEST_CASE("what is no numeric address is an Exception") {
  CHECK((thrownBy([] { SocketAddress::ipv4("::1", 0); }).kind() == Exception::Kind::FAILED));
  CHECK((thrownBy([] { SocketAddress::ipv6("127.0.0.1", 0); }).kind() == Exception::Kind::FAILED));
}

TEST_CASE("it takes the place of one sockaddr_in6") { CHECK(sizeof(SocketAddress) == 28); }
