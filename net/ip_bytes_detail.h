// SPDX-License-Identifier: MIT
// The bytes of IP addresses, in network order, for those who compare them.
#pragma once

#include <troth/net/socket_address.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <span>

#include <netinet/in.h>

namespace troth {
inline namespace v0 {
namespace detail {

inline std::array<std::uint8_t, 4> ipv4Bytes(const SocketAddress& address) noexcept {
  sockaddr_in v4;
  std::memcpy(&v4, address.get(), sizeof v4);
  std::array<std::uint8_t, 4> bytes;
  std::memcpy(bytes.data(), &v4.sin_addr, sizeof bytes);
  return bytes;
}

inline std::array<std::uint8_t, 16> ipv6Bytes(const SocketAddress& address) noexcept {
  sockaddr_in6 v6;
  std::memcpy(&v6, address.get(), sizeof v6);
  std::array<std::uint8_t, 16> bytes;
  std::memcpy(bytes.data(), &v6.sin6_addr, sizeof bytes);
  return bytes;
}

/// ::ffff:0:0/96 (RFC 4291 §2.5.5.2): the last four bytes are the IPv4 address that is meant.
inline bool isIpv4Mapped(std::span<const std::uint8_t, 16> ipv6) noexcept {
  constexpr std::uint8_t PREFIX[] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
  return std::ranges::equal(ipv6.first<12>(), PREFIX);
}

} // namespace detail
} // namespace v0
} // namespace troth
