// SPDX-License-Identifier: MIT
// Tests of SocketAddress: each family, its bytes, its text, and what is none.
#include "loopback.h"

#include <troth/net/socket_address.h>

#include <algorithm>
#include <cstring>

#include <netinet/in.h>
#include <sys/un.h>

using namespace troth;
using namespace troth::test;
using namespace std::string_literals;

namespace {

SocketAddress taken(const void* address, std::size_t size) {
  sockaddr_storage storage{};
  std::memcpy(&storage, address, std::min(size, sizeof(sockaddr_un))); // the system may claim a byte more
  return SocketAddress::from(reinterpret_cast<const sockaddr&>(storage), size);
}

/// The address as the system would give it back.
SocketAddress again(const SocketAddress& address) { return taken(address.get(), address.size()); }

sockaddr_un localAddress(std::string_view name) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, name.data(), name.size());
  return address;
}

constexpr std::size_t NAME_OFFSET = offsetof(sockaddr_un, sun_path);

} // namespace

TEST_CASE("an IPv4 address has its text and port") {
  const SocketAddress address = SocketAddress::parse("127.0.0.1:7000");
  CHECK((address.family() == SocketAddress::Family::IPV4));
  CHECK(address.get()->sa_family == AF_INET);
  CHECK(address.size() == sizeof(sockaddr_in));
  CHECK(address.port() == 7000);
  CHECK(address.toString() == "127.0.0.1:7000");
  CHECK(!address.isUnix());
  CHECK(address.unixName().empty());
  CHECK((again(address) == address));
}

TEST_CASE("an IPv6 address has its text, in brackets, its zone and port") {
  const SocketAddress address = SocketAddress::parse("::1", 65535);
  CHECK((address.family() == SocketAddress::Family::IPV6));
  CHECK(address.get()->sa_family == AF_INET6);
  CHECK(address.size() == sizeof(sockaddr_in6));
  CHECK(address.port() == 65535);
  CHECK(address.toString() == "[::1]:65535");
  CHECK((again(address) == address));
  const SocketAddress zone = SocketAddress::parse("[fe80::1%lo]:7000");
  CHECK(zone.toString() == "[fe80::1%lo]:7000");
  CHECK((again(zone) == zone));
}

TEST_CASE("an IPv4 address inside an IPv6 one stays one, and is shown as one (N2)") {
  const SocketAddress mapped = SocketAddress::parse("[::ffff:127.0.0.1]:80");
  CHECK((mapped.family() == SocketAddress::Family::IPV6));
  CHECK(mapped.toString() == "[::ffff:127.0.0.1]:80");
  CHECK((mapped == SocketAddress::parse("[::ffff:7f00:1]:80")));
  CHECK_FALSE((mapped == SocketAddress::parse("127.0.0.1:80")));
}

TEST_CASE("a zone whose interface is gone is shown by its number") {
  sockaddr_in6 address{};
  address.sin6_family = AF_INET6;
  address.sin6_addr.s6_addr[0] = 0xfe;
  address.sin6_addr.s6_addr[1] = 0x80;
  address.sin6_scope_id = 4'000'000'000;
  CHECK(taken(&address, sizeof address).toString() == "[fe80::%4000000000]:0");
}

TEST_CASE("a Unix socket has its path or its abstract name, and no port") {
  const SocketAddress path = SocketAddress::unixPath("/run/x.sock");
  CHECK(path.isUnix());
  CHECK(!path.isAbstract());
  CHECK(path.unixName() == "/run/x.sock");
  CHECK(path.port() == 0);
  CHECK(path.size() == NAME_OFFSET + 12);
  CHECK(path.toString() == "unix:/run/x.sock");
  CHECK((SocketAddress::parse("unix:/run/x.sock", 80) == path));
  CHECK((path.withPort(80) == path));
  CHECK((again(path) == path));

  const SocketAddress abstract = SocketAddress::unixAbstract("name");
  CHECK(abstract.isUnix());
  CHECK(abstract.isAbstract());
  CHECK(abstract.unixName() == "name");
  CHECK(abstract.size() == NAME_OFFSET + 5);
  CHECK(abstract.toString() == "unix-abstract:name");
  CHECK((SocketAddress::parse("unix-abstract:name") == abstract));
  CHECK((again(abstract) == abstract));
  CHECK_FALSE((abstract == SocketAddress::unixPath("name")));
}

TEST_CASE("an abstract name may have any bytes, and its text shows those that are not printable (N1)") {
  const SocketAddress abstract = SocketAddress::unixAbstract("\0a\nb\x7f"s);
  CHECK(abstract.unixName() == "\0a\nb\x7f"s);
  CHECK(abstract.toString() == "unix-abstract:\\x00a\\x0ab\\x7f");
  CHECK_FALSE((abstract == SocketAddress::unixAbstract("\0a\nb\x7f\0"s)));
}

TEST_CASE("the names of Unix sockets have up to 107 bytes; others are refused, quoted (S8)") {
  const std::string longest(107, 'x');
  CHECK(SocketAddress::unixPath(longest).unixName() == longest);
  CHECK((again(SocketAddress::unixPath(longest)) == SocketAddress::unixPath(longest)));
  CHECK(SocketAddress::unixAbstract(longest).unixName() == longest);
  CHECK((again(SocketAddress::unixAbstract(longest)) == SocketAddress::unixAbstract(longest)));
  const struct {
    Exception e;
    std::string_view subject, reason;
  } rows[] = {
      {thrownBy([&] { SocketAddress::unixPath(longest + "x"); }), "path of a Unix socket, \"xxx", "longer than 107"},
      {thrownBy([&] { SocketAddress::unixPath(""); }), "path of a Unix socket, \"\"", "empty"},
      {thrownBy([&] { SocketAddress::unixPath("/a\0b"s); }), "path of a Unix socket, \"/a\\x00b\"", "NUL"},
      {thrownBy([&] { SocketAddress::unixAbstract(longest + "x"); }), "abstract name of a Unix socket, \"xxx", "longer than 107"},
      {thrownBy([&] { SocketAddress::unixAbstract(""); }), "abstract name of a Unix socket, \"\"", "empty"},
  };
  for (const auto& row : rows) {
    CAPTURE(row.e.description());
    CHECK((row.e.kind() == Exception::Kind::FAILED));
    CHECK((row.e.code() == std::errc::invalid_argument));
    CHECK(contains(row.e.description(), row.subject));
    CHECK(contains(row.e.description(), row.reason));
    CHECK(madeIn(row.e, "socket_address_test.cc"));
  }
}

TEST_CASE("what the system gives for a Unix socket is taken with and without its NUL, and without a name") {
  const sockaddr_un x = localAddress("/x");
  CHECK((taken(&x, NAME_OFFSET + 2) == SocketAddress::unixPath("/x")));
  CHECK((taken(&x, NAME_OFFSET + 3) == SocketAddress::unixPath("/x")));
  CHECK((taken(&x, sizeof x) == SocketAddress::unixPath("/x")));
  const sockaddr_un full = localAddress(std::string(108, 'x')); // Linux allows a path that fills it (unix(7))
  CHECK(taken(&full, sizeof full).unixName() == std::string(108, 'x'));
  CHECK(taken(&full, sizeof full + 1).unixName() == std::string(108, 'x'));
  const SocketAddress unnamed = taken(&x, NAME_OFFSET);
  CHECK(unnamed.isUnix());
  CHECK(!unnamed.isAbstract());
  CHECK(unnamed.unixName().empty());
  CHECK(unnamed.toString() == "unix:");
}

TEST_CASE("addresses are equal if family, host, zone and port are") {
  const SocketAddress address = SocketAddress::parse("10.1.2.3:80");
  CHECK((SocketAddress::parse("10.1.2.3:81").withPort(80) == address));
  CHECK_FALSE((SocketAddress::parse("10.1.2.3:81") == address));
  CHECK_FALSE((SocketAddress::parse("10.1.2.4:80") == address));
  sockaddr_in6 labelled{};
  labelled.sin6_family = AF_INET6;
  labelled.sin6_flowinfo = 7;
  CHECK((taken(&labelled, sizeof labelled) == SocketAddress::any(SocketAddress::Family::IPV6, 0)));
}

TEST_CASE("the addresses that stand for all interfaces") {
  CHECK(SocketAddress::any(SocketAddress::Family::IPV4, 80).toString() == "0.0.0.0:80");
  CHECK(SocketAddress::any(SocketAddress::Family::IPV6, 80).toString() == "[::]:80");
  CHECK(madeIn(thrownBy([] { SocketAddress::any(SocketAddress::Family::UNIX, 80); }), "socket_address_test.cc"));
}

TEST_CASE("what is no numeric address is an Exception that quotes it") {
  for (const std::string& text : {"localhost:80"s, "*:80"s, ""s, "127.1"s, "10.0.0.0/8"s, "unix:"s}) {
    CAPTURE(text);
    const Exception e = thrownBy([&] { SocketAddress::parse(text); });
    CHECK((e.kind() == Exception::Kind::FAILED));
    CHECK(contains(e.description(), "\"" + text + "\""));
    CHECK(madeIn(e, "socket_address_test.cc"));
  }
  sockaddr_storage other{};
  other.ss_family = AF_APPLETALK;
  CHECK(contains(thrownBy([&] { taken(&other, sizeof other); }).description(), "neither IPv4, IPv6 nor"));
  other.ss_family = AF_INET6;
  CHECK(contains(thrownBy([&] { taken(&other, sizeof(sockaddr_in)); }).description(), "16 bytes"));
}

TEST_CASE("a socket tells its own address and its peer's") {
  std::uint16_t port;
  const Peer listener = plainListener(port);
  const Peer client = connectTo(port);
  CHECK(SocketAddress::ofSocket(listener.fd()).toString() == "127.0.0.1:" + std::to_string(port));
  CHECK((SocketAddress::ofPeer(client.fd()) == SocketAddress::ofSocket(listener.fd())));
  const Exception e = thrownBy([&] { SocketAddress::ofPeer(listener.fd()); });
  CHECK((e.kind() == Exception::Kind::DISCONNECTED));
  CHECK((e.code() == std::errc::not_connected));
  CHECK(madeIn(e, "socket_address_test.cc"));
}

TEST_CASE("it takes 112 bytes") { CHECK(sizeof(SocketAddress) == 112); }
