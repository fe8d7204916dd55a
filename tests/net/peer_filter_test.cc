// SPDX-License-Identifier: MIT
// Tests of the rules of restrictPeers(): what the names stand for, which rule wins, and what is inside of addresses.
#include "fixtures.h"

#include <troth/net/peer_filter_detail.h>
#include <troth/runtime/exception.h>

#include <string>
#include <vector>

using namespace troth;
using namespace troth::test;
using detail::PeerFilter;
using namespace std::string_literals;

namespace {

using Items = std::vector<std::string>;

bool allows(const PeerFilter& filter, std::string_view address) { return filter.allows(SocketAddress::parse(address)); }

bool allows(const Items& allow, const Items& deny, std::string_view address) { return allows(PeerFilter(allow, deny), address); }

} // namespace

TEST_CASE("public, private, local and network are what the RFCs say (N2)") {
  const struct {
    std::string_view address;
    bool isLocal, isPrivate, isNetwork, isPublic;
  } rows[] = {
      {"127.0.0.1", true, true, false, false},
      {"127.255.255.255", true, true, false, false},
      {"0.0.0.0", true, true, false, false},
      {"0.1.2.3", true, true, false, false},
      {"::1", true, true, false, false},
      {"::", true, true, false, false},
      {"[::1%lo]:80", true, true, false, false},
      {"10.0.0.1", false, true, true, false},
      {"172.16.0.1", false, true, true, false},
      {"172.31.255.255", false, true, true, false},
      {"172.32.0.0", false, false, true, true},
      {"192.168.1.1", false, true, true, false},
      {"192.169.0.0", false, false, true, true},
      {"169.254.169.254", false, true, true, false}, // where clouds have their secrets
      {"100.64.0.1", false, true, true, false},
      {"100.127.255.255", false, true, true, false},
      {"100.128.0.0", false, false, true, true},
      {"fc00::1", false, true, true, false},
      {"fd12:3456::1", false, true, true, false},
      {"fe80::1", false, true, true, false},
      {"fe80::1%lo", false, true, true, false},
      {"febf::1", false, true, true, false},
      {"fec0::1", false, false, true, false},
      {"8.8.8.8", false, false, true, true},
      {"1.1.1.1:443", false, false, true, true},
      {"2606:4700::1111", false, false, true, true},
      {"192.0.0.1", false, false, false, false},
      {"224.0.0.1", false, false, false, false},
      {"239.255.255.255", false, false, false, false},
      {"240.0.0.1", false, false, false, false},
      {"255.255.255.255", false, false, false, false},
      {"ff02::1", false, false, false, false},
      {"2001::1", false, false, false, false}, // Teredo
      {"192.0.2.1", false, false, true, false},
      {"198.51.100.1", false, false, true, false},
      {"203.0.113.1", false, false, true, false},
      {"198.18.0.1", false, false, true, false},
      {"198.20.0.0", false, false, true, true},
      {"2001:db8::1", false, false, true, false},
      {"3fff:fff::1", false, false, true, false},
      {"100::1", false, false, true, false},
      {"64:ff9b:1::a00:1", false, false, true, false},
      {"5f00::1", false, false, true, false},
      // IPv4-mapped
      {"::ffff:127.0.0.1", true, true, false, false},
      {"::ffff:0.0.0.0", true, true, false, false},
      {"::ffff:10.0.0.1", false, true, true, false},
      {"::ffff:169.254.169.254", false, true, true, false},
      {"::ffff:8.8.8.8", false, false, true, true},
      {"::ffff:224.0.0.1", false, false, false, false},
      // Other forms that carry an IPv4 address: as public as it is, but neither local nor private themselves
      {"64:ff9b::8.8.8.8", false, false, true, true},
      {"64:ff9b::10.0.0.1", false, false, true, false},
      {"64:ff9b::169.254.169.254", false, false, true, false},
      {"64:ff9b::127.0.0.1", false, false, false, false},
      {"64:ff9b::0.0.0.0", false, false, false, false},
      {"2002:808:808::1", false, false, true, true},
      {"2002:a00:1::1", false, false, true, false},
      {"2002:7f00:1::1", false, false, false, false},
      {"::127.0.0.1", false, false, false, false},
      {"::10.0.0.1", false, false, true, false},
      {"::ffff:0:127.0.0.1", false, false, false, false},
      {"::ffff:0:10.0.0.1", false, false, true, false},
      // Unix sockets have rules of their own
      {"unix:/x", false, false, false, false},
      {"unix-abstract:x", false, false, false, false},
  };
  for (const auto& row : rows) {
    CAPTURE(row.address);
    CHECK(allows({"local"}, {}, row.address) == row.isLocal);
    CHECK(allows({"private"}, {}, row.address) == row.isPrivate);
    CHECK(allows({"network"}, {}, row.address) == row.isNetwork);
    CHECK(allows({"public"}, {}, row.address) == row.isPublic);
  }
}

TEST_CASE("what no rule allows is not allowed") {
  for (const std::string_view address : {"127.0.0.1", "8.8.8.8", "::1", "2606:4700::1111", "unix:/x", "unix-abstract:x"}) {
    CHECK_FALSE(allows({}, {}, address));
    CHECK_FALSE(allows({}, {"10.0.0.0/8"}, address));
  }
  CHECK(allows({"10.0.0.0/8"}, {}, "10.1.2.3"));
  CHECK_FALSE(allows({"10.0.0.0/8"}, {}, "11.1.2.3"));
}

TEST_CASE("the most specific rule wins, and what denies wins a tie") {
  const Items tenButOne = {"10.0.0.0/8", "10.1.2.3/32"};
  CHECK(allows(tenButOne, {"10.1.2.0/24"}, "10.1.3.1"));
  CHECK_FALSE(allows(tenButOne, {"10.1.2.0/24"}, "10.1.2.1"));
  CHECK(allows(tenButOne, {"10.1.2.0/24"}, "10.1.2.3"));
  CHECK_FALSE(allows({"10.0.0.0/8"}, {"10.0.0.0/8"}, "10.1.2.3"));
  CHECK_FALSE(allows({"10.1.2.3"}, {"10.1.2.3"}, "10.1.2.3"));
  CHECK_FALSE(allows({"192.0.2.0/24"}, {"192.0.2.3/32"}, "192.0.2.3"));
  CHECK(allows({"192.0.2.0/24"}, {"192.0.2.3/32"}, "192.0.2.4"));
  CHECK_FALSE(allows({"0.0.0.0/0", "::/0"}, {"private"}, "10.0.0.1"));
  CHECK(allows({"0.0.0.0/0", "::/0"}, {"private"}, "8.8.8.8"));
  CHECK(allows({"10.1.0.0/16"}, {"private"}, "10.1.2.3"));
  CHECK(allows({"::/0", "fd00:1::/32"}, {"private"}, "fd00:1::1"));
  CHECK_FALSE(allows({"::/0", "fd00:1::/32"}, {"private"}, "fd00:2::1"));
  // The names that have no prefix count as one of 0.
  CHECK(allows({"public", "private"}, {}, "10.1.2.3"));
  CHECK(allows({"public", "private"}, {}, "8.8.8.8"));
  CHECK(allows({"public", "10.1.0.0/16"}, {}, "10.1.2.3"));
  CHECK_FALSE(allows({"public", "10.1.0.0/16"}, {}, "10.2.2.3"));
  CHECK(allows({"network"}, {"public"}, "10.1.2.3"));
  CHECK_FALSE(allows({"network"}, {"public"}, "8.8.8.8"));
  CHECK(allows({"network", "8.0.0.0/8"}, {"public"}, "8.8.8.8"));
  CHECK_FALSE(allows({"network"}, {"network"}, "8.8.8.8"));
  CHECK_FALSE(allows({"private"}, {"local"}, "127.0.0.1"));
  CHECK(allows({"private"}, {"local"}, "10.1.2.3"));
}

TEST_CASE("an IPv4 address inside an IPv6 one does not get round what denies it (N2)") {
  const Items all = {"0.0.0.0/0", "::/0"};
  for (const std::string_view address : {"10.0.0.1", "::ffff:10.0.0.1", "64:ff9b::10.0.0.1", "2002:a00:1::", "2002:a00:1:2:3:4:5:6", "::10.0.0.1", "::ffff:0:a00:1"}) {
    CAPTURE(address);
    CHECK(allows(all, {}, address));
    CHECK_FALSE(allows(all, {"10.0.0.0/8"}, address));
    CHECK_FALSE(allows(all, {"10.0.0.1"}, address));
    CHECK_FALSE(allows(all, {"private"}, address));
    CHECK_FALSE(allows(all, {"::ffff:10.0.0.0/104"}, address));
    CHECK(allows(all, {"11.0.0.0/8"}, address));
    // nor by a rule that allows the form
    CHECK_FALSE(allows({"10.0.0.0/7", "64:ff9b::/96", "2002::/16", "::/96", "::ffff:0:0:0/96", "::/64"}, {"10.0.0.0/8"}, address));
  }
  // Only the mapped form is the IPv4 address: the others go to a translator or tunnel.
  CHECK(allows({"10.0.0.0/8"}, {}, "::ffff:10.0.0.1"));
  CHECK_FALSE(allows({"10.0.0.0/8"}, {}, "64:ff9b::10.0.0.1"));
  CHECK_FALSE(allows({"10.0.0.0/8"}, {}, "2002:a00:1::"));
  CHECK(allows({"64:ff9b::/96"}, {}, "64:ff9b::10.0.0.1"));
  CHECK(allows({"10.0.0.0/8"}, {"::/0"}, "::ffff:10.0.0.1"));
  // What begins with the bits of 0.0.0.1 is no IPv4 address.
  CHECK(allows({"::1"}, {"0.0.0.0/8"}, "::1"));
}

TEST_CASE("Unix sockets are allowed by their own rules alone") {
  CHECK(allows({"unix"}, {}, "unix:/x"));
  CHECK_FALSE(allows({"unix"}, {}, "unix-abstract:x"));
  CHECK(allows({"unix-abstract"}, {}, "unix-abstract:x"));
  CHECK_FALSE(allows({"unix-abstract"}, {}, "unix:/x"));
  CHECK_FALSE(allows({"unix", "unix-abstract"}, {"unix"}, "unix:/x"));
  CHECK(allows({"unix", "unix-abstract"}, {"unix"}, "unix-abstract:x"));
  CHECK_FALSE(allows({"unix", "unix-abstract"}, {"unix-abstract"}, "unix-abstract:x"));
  CHECK_FALSE(allows({"unix"}, {}, "127.0.0.1"));
}

TEST_CASE("a filter on a filter allows what both allow") {
  const auto privates = std::make_shared<PeerFilter>(Items{"private"}, Items{});
  const PeerFilter both(Items{"0.0.0.0/0", "unix"}, Items{"10.0.0.0/8"}, privates);
  CHECK(allows(both, "192.168.0.1"));
  CHECK(allows(both, "127.0.0.1"));
  CHECK_FALSE(allows(both, "10.0.0.1"));
  CHECK_FALSE(allows(both, "8.8.8.8"));
  CHECK_FALSE(allows(both, "::1"));
  CHECK_FALSE(allows(both, "unix:/x"));
}

TEST_CASE("listening is allowed where there may be a peer") {
  const auto listening = [](const PeerFilter& filter, std::string_view address) { return filter.allowsListening(SocketAddress::parse(address)); };
  const PeerFilter publics(Items{"public"}, Items{});
  CHECK(listening(publics, "127.0.0.1:80"));
  CHECK(listening(publics, "[::]:80"));
  CHECK_FALSE(listening(publics, "unix:/x"));
  const auto unixes = std::make_shared<PeerFilter>(Items{"unix"}, Items{});
  CHECK_FALSE(listening(*unixes, "127.0.0.1:80"));
  CHECK(listening(*unixes, "unix:/x"));
  CHECK_FALSE(listening(*unixes, "unix-abstract:x"));
  CHECK_FALSE(listening(PeerFilter(Items{"public", "unix-abstract"}, Items{}, unixes), "127.0.0.1:80"));
  CHECK_FALSE(listening(PeerFilter(Items{"public", "unix-abstract"}, Items{}, unixes), "unix-abstract:x"));
  CHECK_FALSE(listening(PeerFilter(Items{"unix"}, Items{"unix"}), "unix:/x"));
}

TEST_CASE("an item that is no rule is refused and quoted") {
  for (const std::string& item : {"Public"s, "loopback"s, ""s, "10.0.0.0/33"s, "example.com"s, "unix:/x"s, "public "s, "a\nb"s}) {
    CAPTURE(item);
    const std::string quoted = item == "a\nb" ? "\"a\\x0ab\"" : "\"" + item + "\"";
    for (const bool inAllow : {true, false}) {
      const Items items = {"private", item};
      const Exception e = thrownBy([&] { PeerFilter(inAllow ? items : Items{}, inAllow ? Items{} : items); });
      CHECK((e.kind() == Exception::Kind::FAILED));
      CHECK(contains(e.description(), "restrictPeers"));
      CHECK(contains(e.description(), quoted));
      CHECK(std::string_view(e.where().file_name()).ends_with("peer_filter_test.cc"));
    }
  }
}
