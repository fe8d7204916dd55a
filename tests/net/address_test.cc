// SPDX-License-Identifier: MIT
// Tests of the grammar of addresses: what is one, what is not and why, and that nothing crashes it.
#include "fixtures.h"

#include <troth/net/address_detail.h>
#include <troth/runtime/exception.h>
#include <troth/runtime/quote_detail.h>

#include <filesystem>
#include <random>
#include <string>
#include <vector>

using namespace troth;
using namespace troth::test;
using detail::ParsedAddress;

namespace {

constexpr std::uint16_t DEFAULT_PORT = 4242;

ParsedAddress parse(std::string_view text) {
  return detail::parseAddressText(text, DEFAULT_PORT, std::source_location::current());
}

using Kind = ParsedAddress::Kind;
using namespace std::string_view_literals;
using namespace std::string_literals;

} // namespace

TEST_CASE("addresses are taken apart into kind, host and port (N2)") {
  const std::string label63(63, 'x');
  const std::string name253 = label63 + "." + label63 + "." + label63 + "." + std::string(61, 'y');
  REQUIRE(name253.size() == 253);
  const struct {
    std::string text;
    Kind kind;
    std::string host; // as it is told
    std::uint16_t port;
  } rows[] = {
      {"127.0.0.1:7000", Kind::SOCKET, "127.0.0.1", 7000},
      {"127.0.0.1", Kind::SOCKET, "127.0.0.1", DEFAULT_PORT},
      {"0.0.0.0:0", Kind::SOCKET, "0.0.0.0", 0},
      {"255.255.255.255:65535", Kind::SOCKET, "255.255.255.255", 65535},
      {"[::1]:7000", Kind::SOCKET, "::1", 7000},
      {"[::1]", Kind::SOCKET, "::1", DEFAULT_PORT},
      {"::1", Kind::SOCKET, "::1", DEFAULT_PORT},
      {"::", Kind::SOCKET, "::", DEFAULT_PORT},
      {"[2001:db8::ff:1]:0", Kind::SOCKET, "2001:db8::ff:1", 0},
      {"1:2:3:4:5:6:7:8", Kind::SOCKET, "1:2:3:4:5:6:7:8", DEFAULT_PORT},
      {"::ffff:127.0.0.1", Kind::SOCKET, "::ffff:127.0.0.1", DEFAULT_PORT},
      {"[::ffff:127.0.0.1]:80", Kind::SOCKET, "::ffff:127.0.0.1", 80},
      {"[::1%lo]:80", Kind::SOCKET, "::1%lo", 80},
      {"fe80::1%1", Kind::SOCKET, "fe80::1%lo", DEFAULT_PORT},
      {"[2001:DB8:0:0::1]:80", Kind::SOCKET, "2001:db8::1", 80},
      {"*:7000", Kind::ANY, "", 7000},
      {"*", Kind::ANY, "", DEFAULT_PORT},
      {"*:0", Kind::ANY, "", 0},
      {"localhost:7000", Kind::NAME, "localhost", 7000},
      {"localhost", Kind::NAME, "localhost", DEFAULT_PORT},
      {"localhost:65535", Kind::NAME, "localhost", 65535},
      {"a-b_c.example.com:80", Kind::NAME, "a-b_c.example.com", 80},
      {"_service._tcp.example", Kind::NAME, "_service._tcp.example", DEFAULT_PORT},
      {"example.com.", Kind::NAME, "example.com.", DEFAULT_PORT},
      {"example.com.:80", Kind::NAME, "example.com.", 80},
      {"unix.:80", Kind::NAME, "unix.", 80},
      {"A", Kind::NAME, "A", DEFAULT_PORT},
      {"7up.example", Kind::NAME, "7up.example", DEFAULT_PORT},
      {"1.2.3.4.example", Kind::NAME, "1.2.3.4.example", DEFAULT_PORT},
      {"0xyz", Kind::NAME, "0xyz", DEFAULT_PORT},
      {label63 + ".example", Kind::NAME, label63 + ".example", DEFAULT_PORT},
      {name253, Kind::NAME, name253, DEFAULT_PORT},
      {name253 + ".", Kind::NAME, name253 + ".", DEFAULT_PORT},
  };
  for (const auto& row : rows) {
    CAPTURE(row.text);
    const ParsedAddress parsed = parse(row.text);
    CHECK((parsed.kind == row.kind));
    CHECK(parsed.port == row.port);
    CHECK(parsed.socket.has_value() == (row.kind == Kind::SOCKET));
    if (parsed.socket)
      CHECK(parsed.socket->toString() == detail::formatAddress(row.host, row.port));
    else
      CHECK(parsed.name == row.host);
  }
}

TEST_CASE("a Unix socket is named by its path or abstract name, and has no port") {
  const std::string path107 = "/" + std::string(106, 'x');
  for (const std::string& text : {"unix:/run/x.sock"s, "unix:relative"s, "unix:/b\xc3\xbc cher:80"s, "unix:" + path107, "unix-abstract:name"s,
                                  "unix-abstract:" + path107, "unix:@"s, "unix-abstract:/a\\x00"s}) {
    CAPTURE(text);
    const ParsedAddress parsed = parse(text);
    CHECK((parsed.kind == Kind::SOCKET));
    CHECK(parsed.port == 0);
    REQUIRE(parsed.socket.has_value());
    CHECK(parsed.socket->isUnix());
    CHECK(parsed.socket->isAbstract() == text.starts_with("unix-abstract:"));
    CHECK(parsed.socket->unixName() == text.substr(text.find(':') + 1));
    CHECK(parsed.socket->toString() == text);
  }
}

TEST_CASE("a port may be the name of a service, which is looked up in /etc/services alone") {
  if (!std::filesystem::exists("/etc/services")) {
    MESSAGE("skipped: this system has no /etc/services");
    return;
  }
  CHECK(parse("example.com:http").port == 80);
  CHECK(parse("127.0.0.1:https").socket->toString() == "127.0.0.1:443");
  CHECK(parse("[::1]:domain").socket->toString() == "[::1]:53");
  CHECK(parse("*:www").port == 80); // another name of http
  for (const std::string& text : {"host:HTTP"s, "host:htt"s, "host:80/tcp"s, "host:#"s, "host: "s, "host:\0"s, "host:http\0"s}) {
    CAPTURE(text);
    CHECK((thrownBy([&] { parse(text); }).kind() == Exception::Kind::FAILED));
  }
}

TEST_CASE("text that is no address is refused, quoted, with what is wrong with it (N1, N2)") {
  const std::string label64(64, 'x');
  const std::string label63(63, 'x');
  const std::string name254 = label63 + "." + label63 + "." + label63 + "." + std::string(62, 'y');
  REQUIRE(name254.size() == 254);
  const struct {
    std::string text;
    std::string_view reason;
  } rows[] = {
      {"", "empty"},
      {":7000", "host is missing"},
      {":", "port"},
      {"host:", "no port after the colon"},
      {"host:x", "neither a number nor a service"},
      {"host:7000x", "neither a number nor a service"},
      {"host: 80", "neither a number nor a service"},
      {"host:80 ", "begins or ends with a blank"},
      {" 127.0.0.1:80", "begins or ends with a blank"},
      {"\thost", "begins or ends with a blank"},
      {"host\n", "begins or ends with a blank"},
      {"127.0.0.1:", "there is no port after the colon"},
      {"*:", "there is no port after the colon"},
      {"unix:", "name of the socket is missing"},
      {"unix-abstract:", "name of the socket is missing"},
      {"unix:" + std::string(108, 'x'), "longer than 107 bytes"},
      {"unix-abstract:" + std::string(108, 'x'), "longer than 107 bytes"},
      {"unix:" + std::string(100'000, 'x'), "longer than 107 bytes"},
      {"unix:/a\nb", "control character"},
      {"unix-abstract:a\x7f", "control character"},
      {"unix:/run/x.sock "s, "begins or ends with a blank"},
      {"unix:/a\0b"s, "control character"},
      {"unix-abstract:\0"s, "control character"},
      {"unix", "cannot be told from a Unix socket"},
      {"unix-abstract", "cannot be told from a Unix socket"},
      {"UNIX:/run/x.sock", "neither a number nor a service"},
      {"host:+80", "neither a number nor a service"},
      {"host:0x50", "neither a number nor a service"},
      {"host:-1", "neither a number nor a service"},
      {"host:65536", "larger than 65535"},
      {"host:99999999999999999999999", "larger than 65535"},
      {"127.0.0.1:65536", "larger than 65535"},
      {"*:65536", "larger than 65535"},
      {"[::1]:65536", "larger than 65535"},
      {"[::1]:", "there is no port after the colon"},
      {"[::1", "bracket is not closed"},
      {"[", "bracket is not closed"},
      {"[::1]7000", "after the bracket"},
      {"[::1]x:7000", "after the bracket"},
      {"[zz]:1", "not an IPv6 address"},
      {"[]:1", "not an IPv6 address"},
      {"[127.0.0.1]:1", "not an IPv6 address"},
      {"[*]:1", "not an IPv6 address"},
      {"[::1::2]:1", "not an IPv6 address"},
      {"[12345::]:1", "not an IPv6 address"},
      {"1:2:3:4:5:6:7:8:9", "several colons"},
      {"host:1:2", "several colons"},
      {"::1:7000:x", "several colons"},
      {"127.0.0.1:7000:", "several colons"},
      {"1.2.3", "looks like an IPv4 address"},
      {"1.2.3.4.5", "looks like an IPv4 address"},
      {"1.2.3.4.", "looks like an IPv4 address"},
      {"256.1.1.1", "looks like an IPv4 address"},
      {"127.0.0.01", "looks like an IPv4 address"},
      {"0x7f000001", "looks like an IPv4 address"},
      {"0X7F.1", "looks like an IPv4 address"},
      {"0x7f.0.0.0x1", "looks like an IPv4 address"},
      {"2130706433", "looks like an IPv4 address"},
      {"127.1", "looks like an IPv4 address"},
      {"127.1:80", "looks like an IPv4 address"},
      {"host.1", "looks like an IPv4 address"},
      {"host.0x1", "looks like an IPv4 address"},
      {"..1", "looks like an IPv4 address"},
      {"ho\nst", "character other than"},
      {"host\r\n:80", "character other than"},
      {"ho\tst:80", "character other than"},
      {"host\x7f", "character other than"},
      {std::string("localhost\0.evil.example"sv), "character other than"},
      {std::string("127.0.0.1\0"sv), "character other than"},
      {std::string("[::1\0]:80"sv), "not an IPv6 address"},
      {std::string("1.2.3.4\0.1"sv), "looks like an IPv4 address"},
      {std::string("\0"sv), "character other than"},
      {std::string("host:80\0"sv), "neither a number nor a service"},
      {" localhost", "begins or ends with a blank"},
      {"localhost ", "begins or ends with a blank"},
      {"local host", "character other than"},
      {" ", "begins or ends with a blank"},
      {"b\xc3\xbc"
       "cher.example",
       "character other than"},
      {"\xff", "character other than"},
      {"http://localhost", "neither a number nor a service"},
      {"user@host", "character other than"},
      {"host/path", "character other than"},
      {"*.example", "character other than"},
      {"**", "character other than"},
      {"a..b", "empty part"},
      {".a", "empty part"},
      {".", "empty part"},
      {"a..", "empty part"},
      {"-a", "begins or ends with '-'"},
      {"a-", "begins or ends with '-'"},
      {"a.-b.c", "begins or ends with '-'"},
      {"a.b-.c", "begins or ends with '-'"},
      {label64, "longer than 63 bytes"},
      {"a." + label64 + ".b", "longer than 63 bytes"},
      {name254, "longer than 253 bytes"},
      {name254 + ":80", "longer than 253 bytes"},
      {std::string(100'000, 'a'), "longer than 253 bytes"},
  };
  for (const auto& row : rows) {
    CAPTURE(row.text.substr(0, 300));
    const Exception e = thrownBy([&] { parse(row.text); });
    CHECK((e.kind() == Exception::Kind::FAILED));
    CHECK((e.code() == std::errc::invalid_argument));
    CHECK(contains(e.description(), row.reason));
    CHECK(contains(e.description(), detail::quote(row.text)));
    CHECK(std::string_view(e.where().file_name()).ends_with("address_test.cc"));
  }
}

TEST_CASE("an IPv6 zone is that of an interface of this machine, or the address is refused (N2)") {
  CHECK(parse("[fe80::1%lo]:80").socket->toString() == "[fe80::1%lo]:80");
  CHECK((*parse("[fe80::1%1]:80").socket == *parse("[fe80::1%lo]:80").socket));
  CHECK_FALSE((*parse("[fe80::1]:80").socket == *parse("[fe80::1%lo]:80").socket));
  for (const std::string& text : {"[::1%]:80"s, "[fe80::1%no-such-interface]:80"s, "[fe80::1%0]:80"s, "[fe80::1%4294967295]:80"s,
                                  "[fe80::1%99999999999999999999]:80"s, "[fe80::1%-1]:80"s, "[fe80::1%1x]:80"s, "[::1% ]:80"s, "[::1%\n]:80"s,
                                  "::1%\xff"s, "[::1%lo\t]:80"s, "[::1%lo%lo]:80"s}) {
    CAPTURE(text);
    const Exception e = thrownBy([&] { parse(text); });
    CHECK((e.kind() == Exception::Kind::FAILED));
    CHECK(contains(e.description(), detail::quote(text)));
    CHECK(contains(e.description(), "the zone after '%' is not a network interface"));
  }
  CHECK(contains(thrownBy([] { parse("0000:0000:0000:0000:0000:ffff:255.255.255.255.junk%lo"); }).description(), "not an IPv6 address"));
}

TEST_CASE("an address is formatted with brackets where it needs them") {
  CHECK(detail::formatAddress("127.0.0.1", 80) == "127.0.0.1:80");
  CHECK(detail::formatAddress("::1", 0) == "[::1]:0");
  CHECK(detail::formatAddress("localhost", 65535) == "localhost:65535");
}

TEST_CASE("random text is an address that means the same when formatted again, or an Exception, and nothing else (N1)") {
  std::mt19937 random(1);
  const auto below = [&](std::size_t limit) { return std::uniform_int_distribution<std::size_t>(0, limit - 1)(random); };
  // Most of what is drawn is made of what addresses are made of.
  constexpr std::string_view USUAL = "0123456789abcdefx:.[]*-_%";
  std::size_t parsed = 0;
  std::size_t refused = 0;
  for (int i = 0; i < 20'000; ++i) {
    std::string text(below(24), '\0');
    for (char& c : text) c = below(20) == 0 ? static_cast<char>(below(256)) : USUAL[below(USUAL.size())];
    try {
      const ParsedAddress first = parse(text);
      ++parsed;
      const std::string again =
          first.socket ? first.socket->toString() : detail::formatAddress(first.kind == Kind::ANY ? "*" : first.name, first.port);
      const ParsedAddress second = parse(again);
      if (second.kind != first.kind || second.socket != first.socket || second.name != first.name || second.port != first.port) FAIL(text);
    } catch (const Exception& e) {
      ++refused;
      if (e.kind() != Exception::Kind::FAILED) FAIL(text);
    }
  }
  CHECK(parsed > 200);
  CHECK(refused > 500);
}
