// SPDX-License-Identifier: MIT
// Tests of CidrRange: what is one, what is not and why, and which addresses are in it.
#include "fixtures.h"

#include <troth/net/cidr.h>
#include <troth/runtime/exception.h>
#include <troth/runtime/quote_detail.h>

#include <string>

using namespace troth;
using namespace troth::test;
using namespace std::string_literals;

namespace {

bool matches(std::string_view range, std::string_view address) { return CidrRange::parse(range).matches(SocketAddress::parse(address)); }

} // namespace

TEST_CASE("a range has a family, the length of its prefix and a text, and bits after the prefix are cleared") {
  const struct {
    std::string_view text, canonical;
    unsigned specificity;
    SocketAddress::Family family;
  } rows[] = {
      {"10.0.0.0/8", "10.0.0.0/8", 8, SocketAddress::Family::IPV4},
      {"10.1.2.3/8", "10.0.0.0/8", 8, SocketAddress::Family::IPV4},
      {"255.255.255.255/12", "255.240.0.0/12", 12, SocketAddress::Family::IPV4},
      {"1.2.3.4/0", "0.0.0.0/0", 0, SocketAddress::Family::IPV4},
      {"1.2.3.4/32", "1.2.3.4/32", 32, SocketAddress::Family::IPV4},
      {"127.0.0.1", "127.0.0.1/32", 32, SocketAddress::Family::IPV4},
      {"::/0", "::/0", 0, SocketAddress::Family::IPV6},
      {"::1", "::1/128", 128, SocketAddress::Family::IPV6},
      {"2001:DB8:1::/32", "2001:db8::/32", 32, SocketAddress::Family::IPV6},
      {"fdff::/7", "fc00::/7", 7, SocketAddress::Family::IPV6},
      {"::ffff:10.1.2.3/104", "10.0.0.0/8", 8, SocketAddress::Family::IPV4},
      {"::ffff:10.1.2.3", "10.1.2.3/32", 32, SocketAddress::Family::IPV4},
      {"::ffff:0:0/96", "0.0.0.0/0", 0, SocketAddress::Family::IPV4},
      {"::ffff:0:0/95", "::fffe:0:0/95", 95, SocketAddress::Family::IPV6},
  };
  for (const auto& row : rows) {
    CAPTURE(row.text);
    const CidrRange range = CidrRange::parse(row.text);
    CHECK(range.toString() == row.canonical);
    CHECK(range.specificity() == row.specificity);
    CHECK((range.family() == row.family));
    CHECK((CidrRange::parse(range.toString()) == range));
  }
  CHECK_FALSE((CidrRange::parse("0.0.0.0/0") == CidrRange::parse("::/0")));
  CHECK_FALSE((CidrRange::parse("10.0.0.0/8") == CidrRange::parse("10.0.0.0/9")));
  CHECK(sizeof(CidrRange) <= 20);
}

TEST_CASE("an address is in a range if it begins with the range's bits") {
  const struct {
    std::string_view range, address;
    bool in;
  } rows[] = {
      {"10.0.0.0/8", "10.0.0.0", true},
      {"10.0.0.0/8", "10.255.255.255:80", true},
      {"10.0.0.0/8", "11.0.0.0", false},
      {"10.0.0.0/8", "9.255.255.255", false},
      {"100.64.0.0/10", "100.127.255.255", true},
      {"100.64.0.0/10", "100.128.0.0", false},
      {"100.64.0.0/10", "100.63.255.255", false},
      {"1.2.3.4/31", "1.2.3.5", true},
      {"1.2.3.4/31", "1.2.3.6", false},
      {"1.2.3.4", "1.2.3.4", true},
      {"1.2.3.4", "1.2.3.5", false},
      {"0.0.0.0/0", "255.255.255.255", true},
      {"0.0.0.0/0", "::1", false},
      {"::/0", "1.2.3.4", false},
      {"::/0", "ffff::1", true},
      {"fc00::/7", "fdff::1", true},
      {"fc00::/7", "fe00::1", false},
      {"::1", "[::1%lo]:80", true},
      {"::1", "::2", false},
      {"2001:db8::/33", "2001:db8:8000::", false},
      // An IPv4 address in the form of an IPv6 one (N2)
      {"127.0.0.0/8", "::ffff:127.0.0.1", true},
      {"127.0.0.0/8", "::ffff:128.0.0.1", false},
      {"0.0.0.0/0", "::ffff:127.0.0.1", true},
      {"::ffff:127.0.0.0/104", "::ffff:127.0.0.1", true},
      {"::ffff:127.0.0.0/104", "127.0.0.1", true},
      {"::/0", "::ffff:127.0.0.1", true},
      {"::/64", "::ffff:127.0.0.1", true},
      {"127.0.0.0/8", "::127.0.0.1", false},
      {"127.0.0.0/8", "64:ff9b::127.0.0.1", false},
      {"0.0.0.0/0", "unix:/x", false},
      {"::/0", "unix-abstract:x", false},
  };
  for (const auto& row : rows) {
    CAPTURE(row.range);
    CAPTURE(row.address);
    CHECK(matches(row.range, row.address) == row.in);
  }
}

TEST_CASE("every length of prefix is compared to the bit") {
  for (unsigned bits = 1; bits <= 32; ++bits) {
    CAPTURE(bits);
    const CidrRange range = CidrRange::parse("255.255.255.255/" + std::to_string(bits));
    for (unsigned flipped = 0; flipped < 32; ++flipped) {
      const std::uint32_t address = ~(0x80000000U >> flipped);
      const std::string text = std::to_string(address >> 24) + "." + std::to_string(address >> 16 & 255) + "." + std::to_string(address >> 8 & 255) + "." +
                               std::to_string(address & 255);
      CHECK(range.matches(SocketAddress::parse(text)) == (flipped >= bits));
    }
  }
}

TEST_CASE("text that is no range is refused, quoted, with what is wrong with it (N1)") {
  const struct {
    std::string text;
    std::string_view reason;
  } rows[] = {
      {"", "does not begin with an IPv4 or IPv6 address"},
      {"/8", "does not begin with"},
      {"foo", "does not begin with"},
      {"localhost/8", "does not begin with"},
      {"10/8", "does not begin with"},
      {"10.0.0/8", "does not begin with"},
      {"0x0a.0.0.0/8", "does not begin with"},
      {"256.0.0.0/8", "does not begin with"},
      {"[::1]/128", "does not begin with"},
      {"10.0.0.0:80", "does not begin with"},
      {" 10.0.0.0/8", "does not begin with"},
      {"10.0.0.0\0/8"s, "does not begin with"},
      {"10.0.0.0 /8", "does not begin with"},
      {"unix:/x", "does not begin with"},
      {"fe80::1%lo", "has no zone"},
      {"fe80::%lo/10", "has no zone"},
      {"10.0.0.0/", "number of bits from 0 to 32"},
      {"10.0.0.0/33", "number of bits from 0 to 32"},
      {"10.0.0.0/-1", "number of bits from 0 to 32"},
      {"10.0.0.0/+8", "number of bits from 0 to 32"},
      {"10.0.0.0/08", "number of bits from 0 to 32"},
      {"10.0.0.0/8 ", "number of bits from 0 to 32"},
      {"10.0.0.0/8/8", "number of bits from 0 to 32"},
      {"10.0.0.0/255.0.0.0", "number of bits from 0 to 32"},
      {"10.0.0.0/99999999999999999999", "number of bits from 0 to 32"},
      {"10.0.0.0/8\0"s, "number of bits from 0 to 32"},
      {"::/129", "number of bits from 0 to 128"},
  };
  for (const auto& row : rows) {
    CAPTURE(row.text);
    const Exception e = thrownBy([&] { CidrRange::parse(row.text); });
    CHECK((e.kind() == Exception::Kind::FAILED));
    CHECK((e.code() == std::errc::invalid_argument));
    CHECK(contains(e.description(), row.reason));
    CHECK(contains(e.description(), detail::quote(row.text)));
    CHECK(std::string_view(e.where().file_name()).ends_with("cidr_test.cc"));
  }
}
