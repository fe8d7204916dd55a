// SPDX-License-Identifier: MIT
// Which addresses are public, private or local, and which rule wins.
//
// A rule allows an address only by what the address is itself. (An IPv4-mapped one is the IPv4 address: that is where
// the packets go.) But what carries an IPv4 address to a translator or a tunnel is judged by that one as well: it meets
// the rules that deny it, and is neither public nor of the network if that one is not. So 64:ff9b::10.0.0.1 is no way
// to a 10.0.0.1 that is out of bounds.
//
// The rules are KJ's (NetworkFilter in kj/async-io.c++). There, however, "public" denies what it leaves out, even what
// "private" beside it allows; a filter on a filter may allow Unix sockets that the one beneath does not; "public" and
// "network" cannot be denied; documentation and benchmarks are public; and IPv4-mapped addresses are the only ones that
// are looked into.
#include <troth/net/peer_filter_detail.h>

#include <troth/net/ip_bytes_detail.h>
#include <troth/runtime/exception.h>

#include <algorithm>
#include <string_view>
#include <utility>

namespace troth {
inline namespace v0 {
namespace detail {
namespace {

using Ranges = std::span<const CidrRange>;

// (None of the tables takes memory: they are made when the first address is judged.)
CidrRange range(std::string_view text) { return CidrRange::parse(text); }

/// This machine. (KJ has of 0.0.0.0/8 the first one alone.)
Ranges localRanges() {
  static const CidrRange RANGES[] = {
      range("127.0.0.0/8"), // RFC 1122 §3.2.1.3: loopback
      range("0.0.0.0/8"),   // RFC 1122 §3.2.1.3: this host; connecting to 0.0.0.0 reaches it
      range("::1/128"),     // RFC 4291 §2.5.3: loopback
      range("::/128"),      // RFC 4291 §2.5.2: unspecified; as 0.0.0.0
  };
  return RANGES;
}

/// Networks of one's own.
Ranges privateRanges() {
  static const CidrRange RANGES[] = {
      range("10.0.0.0/8"),     // RFC 1918
      range("172.16.0.0/12"),  // RFC 1918
      range("192.168.0.0/16"), // RFC 1918
      range("100.64.0.0/10"),  // RFC 6598: shared behind a provider's address translation
      range("169.254.0.0/16"), // RFC 3927: link local
      range("fc00::/7"),       // RFC 4193: unique local
      range("fe80::/10"),      // RFC 4291 §2.5.6: link local
  };
  return RANGES;
}

/// What no host is reached by. (KJ does not allow these at all.)
Ranges reservedRanges() {
  static const CidrRange RANGES[] = {
      range("192.0.0.0/24"), // RFC 6890: protocol assignments
      range("224.0.0.0/4"),  // RFC 5771: multicast
      range("240.0.0.0/4"),  // RFC 1112 §4: reserved, and RFC 919: broadcast
      range("2001::/23"),    // RFC 2928: protocol assignments, among them Teredo, a tunnel (RFC 4380)
      range("ff00::/8"),     // RFC 4291 §2.7: multicast
  };
  return RANGES;
}

/// What else is not reached from everywhere (RFC 6890, and its registry of special-purpose addresses since).
Ranges notGlobalRanges() {
  static const CidrRange RANGES[] = {
      range("192.0.2.0/24"),    // RFC 5737: documentation
      range("198.51.100.0/24"), // RFC 5737
      range("203.0.113.0/24"),  // RFC 5737
      range("198.18.0.0/15"),   // RFC 2544: benchmarks
      range("64:ff9b:1::/48"),  // RFC 8215: translation to IPv4 within a network
      range("100::/64"),        // RFC 6666: thrown away
      range("2001:db8::/32"),   // RFC 3849: documentation
      range("3fff::/20"),       // RFC 9637: documentation
      range("5f00::/16"),       // RFC 9602: segment routing
      range("fec0::/10"),       // RFC 3879: site local, once
  };
  return RANGES;
}

bool isIn(Ranges ranges, const SocketAddress& address) noexcept {
  return std::ranges::any_of(ranges, [&](const CidrRange& r) { return r.matches(address); });
}

/// An IPv4 address inside of an IPv6 address.
struct Carried {
  SocketAddress address;
  unsigned bitsBefore;
};

std::optional<Carried> carriedBy(const SocketAddress& address) {
  struct Form {
    CidrRange prefix;
    std::size_t offset;
  };
  static const Form FORMS[] = {
      {range("64:ff9b::/96"), 12},    // RFC 6052 §2.1: translated by a NAT64
      {range("2002::/16"), 2},        // RFC 3056: 6to4, a tunnel
      {range("::ffff:0:0:0/96"), 12}, // RFC 2765 §2.1: IPv4-translated
      {range("::/96"), 12},           // RFC 4291 §2.5.5.1: IPv4-compatible, a tunnel once
  };
  if (address.family() != SocketAddress::Family::IPV6 || isIn(localRanges(), address)) return std::nullopt;
  const auto form = std::ranges::find_if(FORMS, [&](const Form& f) { return f.prefix.matches(address); });
  if (form == std::end(FORMS)) return std::nullopt;
  sockaddr_in v4{};
  v4.sin_family = AF_INET;
  std::memcpy(&v4.sin_addr, ipv6Bytes(address).data() + form->offset, sizeof v4.sin_addr);
  return Carried{SocketAddress::from(reinterpret_cast<const sockaddr&>(v4), sizeof v4), form->prefix.specificity()};
}

bool isOfNetwork(const SocketAddress& address) noexcept {
  return !isIn(localRanges(), address) && !isIn(reservedRanges(), address);
}

bool isPublic(const SocketAddress& address) noexcept {
  return isOfNetwork(address) && !isIn(privateRanges(), address) && !isIn(notGlobalRanges(), address);
}

/// Whether `is` holds for `address` and for what it carries.
bool holdsThroughout(bool (*is)(const SocketAddress&) noexcept, const SocketAddress& address) noexcept {
  if (!is(address)) return false;
  const std::optional<Carried> carried = carriedBy(address);
  return !carried || is(carried->address);
}

/// The greater one; none is less than 0.
std::optional<unsigned> moreSpecific(std::optional<unsigned> a, std::optional<unsigned> b) noexcept {
  return std::max(a, b);
}

std::optional<unsigned> matchRanges(Ranges ranges, const SocketAddress& address) noexcept {
  // An IPv4 range that an IPv6 address is in is one of IPv4-mapped addresses.
  const auto bitsOf = [&](const CidrRange& r) { return r.specificity() + (r.family() == address.family() ? 0 : 96); };
  std::optional<unsigned> best;
  for (const CidrRange& r : ranges)
    if (r.matches(address)) best = moreSpecific(best, bitsOf(r));
  return best;
}

CidrRange parseRange(const std::string& item, std::source_location where) {
  try {
    return CidrRange::parse(item, where);
  } catch (const Exception& e) {
    throw e.withContext("restrictPeers: an item is public, private, local, network, unix, unix-abstract or a range");
  }
}

} // namespace

PeerRules::PeerRules(std::span<const std::string> items, std::source_location where) {
  const auto add = [this](Ranges ranges) { ranges_.insert(ranges_.end(), ranges.begin(), ranges.end()); };
  for (const std::string& item : items) {
    if (item == "public") {
      public_ = true;
    } else if (item == "network") {
      network_ = true;
    } else if (item == "private") {
      add(privateRanges());
      add(localRanges());
    } else if (item == "local") {
      add(localRanges());
    } else if (item == "unix") {
      unixPaths_ = true;
    } else if (item == "unix-abstract") {
      unixAbstract_ = true;
    } else {
      ranges_.push_back(parseRange(item, where));
    }
  }
}

std::optional<unsigned> PeerRules::match(const SocketAddress& address) const noexcept {
  const bool byName =
      (public_ && holdsThroughout(isPublic, address)) || (network_ && holdsThroughout(isOfNetwork, address));
  return moreSpecific(byName ? std::optional(0U) : std::nullopt, matchRanges(ranges_, address));
}

std::optional<unsigned> PeerRules::matchCarried(const SocketAddress& address) const noexcept {
  const std::optional<Carried> carried = carriedBy(address);
  if (!carried) return std::nullopt;
  const std::optional<unsigned> bits = matchRanges(ranges_, carried->address);
  return bits ? std::optional(carried->bitsBefore + *bits) : std::nullopt;
}

bool PeerRules::matchUnix(const SocketAddress& address) const noexcept {
  return address.isAbstract() ? unixAbstract_ : unixPaths_;
}

PeerFilter::PeerFilter(std::span<const std::string> allow, std::span<const std::string> deny,
                       std::shared_ptr<const PeerFilter> next, std::source_location where)
    : allow_(allow, where), deny_(deny, where), next_(std::move(next)) {}

bool PeerFilter::allows(const SocketAddress& peer) const noexcept {
  return allowsHere(peer) && (next_ == nullptr || next_->allows(peer));
}

bool PeerFilter::allowsHere(const SocketAddress& peer) const noexcept {
  if (peer.isUnix()) return allow_.matchUnix(peer) && !deny_.matchUnix(peer);
  const std::optional<unsigned> allowed = allow_.match(peer);
  const std::optional<unsigned> denied = moreSpecific(deny_.match(peer), deny_.matchCarried(peer));
  return allowed > denied;
}

bool PeerFilter::allowsListening(const SocketAddress& address) const noexcept {
  if (address.isUnix()) return allows(address);
  return allow_.hasIpRules() && (next_ == nullptr || next_->allowsListening(address));
}

} // namespace detail
} // namespace v0
} // namespace troth
