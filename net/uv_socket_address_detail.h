// SPDX-License-Identifier: MIT
// SocketAddress: a sockaddr of the internet families, as a value.
#pragma once

#include <uv.h>

#include <cstdint>
#include <string>

namespace troth {
inline namespace v0 {
namespace detail {

/// An IPv4 or IPv6 address with a port. 28 bytes.
class SocketAddress {
public:
  /// `host` must be a valid numeric address: parseAddressText has seen to that.
  static SocketAddress ipv4(const std::string& host, std::uint16_t port);
  static SocketAddress ipv6(const std::string& host, std::uint16_t port);
  /// `address` is of AF_INET or AF_INET6; its port is replaced.
  static SocketAddress from(const sockaddr& address, std::uint16_t port) noexcept;
  /// The local address of a bound socket. Throws.
  static SocketAddress ofSocket(const uv_tcp_t& socket);

  const sockaddr* get() const noexcept { return reinterpret_cast<const sockaddr*>(&storage_); }
  std::uint16_t port() const noexcept;
  /// "127.0.0.1:7000", "[::1]:7000".
  std::string toString() const;

private:
  union {
    sockaddr any;
    sockaddr_in v4;
    sockaddr_in6 v6;
  } storage_{};
};

} // namespace detail
} // namespace v0
} // namespace troth
