// SPDX-License-Identifier: MIT
// CidrRange: a block of IP addresses, such as "10.0.0.0/8".
#pragma once

#include <troth/net/socket_address.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <source_location>
#include <string>
#include <string_view>

namespace troth {
inline namespace v0 {

/// The IP addresses that begin with the same bits (RFC 4632, RFC 4291 §2.3).
///
/// A value of 20 bytes; any thread may use it.
class CidrRange {
public:
  /// Parses "10.0.0.0/8" or "2001:db8::/32". An address alone, "127.0.0.1" or "::1", is the range of this one. Bits
  /// after the prefix are cleared, as in KJ: "10.1.2.3/8" is "10.0.0.0/8". A range of IPv4-mapped addresses,
  /// "::ffff:10.0.0.0/104", is that of the IPv4 addresses, "10.0.0.0/8". Throws FAILED, quoting `text` and saying what
  /// is wrong with it, for anything else.
  static CidrRange parse(std::string_view text, std::source_location where = std::source_location::current());

  /// Whether `address` is in the range, whatever its port and zone. An IPv4-mapped IPv6 address (RFC 4291 §2.5.5.2)
  /// reaches an IPv4 host: it is in the IPv4 ranges that the host is in, and in the IPv6 ranges that it is in itself.
  /// Unix sockets are in none.
  bool matches(const SocketAddress& address) const noexcept;

  /// The length of the prefix in bits. Of two ranges of one family that match an address, the greater one is within the
  /// other.
  unsigned specificity() const noexcept { return bits_; }

  SocketAddress::Family family() const noexcept { return family_; }

  /// "10.0.0.0/8", "2001:db8::/32", "127.0.0.1/32"; parse() reads it.
  std::string toString() const;

  friend bool operator==(const CidrRange& a, const CidrRange& b) noexcept = default;

private:
  SocketAddress::Family family_;
  std::uint8_t bits_;
  std::array<std::uint8_t, 16> prefix_; // of IPv4 the first 4

  CidrRange(SocketAddress::Family family, unsigned bits, const std::array<std::uint8_t, 16>& address) noexcept;
};

} // namespace v0
} // namespace troth
