// SPDX-License-Identifier: MIT
// SocketAddress: where a socket is bound or connected, as a value.
#pragma once

#include <cstddef>
#include <cstdint>
#include <source_location>
#include <string>
#include <string_view>

#include <sys/socket.h>

namespace troth {
inline namespace v0 {

/// The address of a socket: an IPv4 or IPv6 address with a port, or the path or abstract name of a Unix socket.
///
/// 112 bytes, copied like a number; any thread may use it. A NetworkAddress is what one gets from a name, and may have
/// several of these.
class SocketAddress {
public:
  enum class Family : std::uint8_t { IPV4, IPV6, UNIX };

  /// The most bytes of a Unix socket's path or abstract name (unix(7)).
  static constexpr std::size_t MAX_UNIX_NAME = 107;

  /// Parses a numeric address with a port, "127.0.0.1:7000" or "[fe80::1%eth0]:7000", or "unix:/path" or
  /// "unix-abstract:name". Without a port, `defaultPort` holds. Throws FAILED, with `text` quoted, for anything else.
  static SocketAddress parse(std::string_view text, std::uint16_t defaultPort = 0,
                             std::source_location where = std::source_location::current());

  /// What the system gave: `size` bytes at `address`. (What is not of the address, such as the flow label of IPv6, is
  /// left out.) Throws FAILED for other families.
  static SocketAddress from(const sockaddr& address, std::size_t size,
                            std::source_location where = std::source_location::current());

  /// The address that the socket `descriptor` has, and that of its peer. They throw what getsockname(2) and
  /// getpeername(2) fail with: DISCONNECTED if there is no peer (any more).
  static SocketAddress ofSocket(int descriptor, std::source_location where = std::source_location::current());
  static SocketAddress ofPeer(int descriptor, std::source_location where = std::source_location::current());

  /// The address that stands for all of this machine's interfaces, "0.0.0.0" or "::". Throws FAILED for UNIX.
  static SocketAddress any(Family family, std::uint16_t port,
                           std::source_location where = std::source_location::current());

  /// The Unix socket of that path (1 to 107 bytes), or of that abstract name (1 to 107 bytes, of any value; Linux
  /// only). Throws FAILED if it is empty or too long, or a path has a NUL byte.
  static SocketAddress unixPath(std::string_view path, std::source_location where = std::source_location::current());
  static SocketAddress unixAbstract(std::string_view name,
                                    std::source_location where = std::source_location::current());

  Family family() const noexcept;
  bool isUnix() const noexcept { return family() == Family::UNIX; }
  /// Whether it is a Unix socket with an abstract name.
  bool isAbstract() const noexcept;
  /// The path or abstract name of a Unix socket; empty if it has none, as that of most clients, and for the other
  /// families. Valid as long as this address.
  std::string_view unixName() const noexcept;

  /// 0 for a Unix socket.
  std::uint16_t port() const noexcept;
  /// The same host with another port; itself for a Unix socket.
  SocketAddress withPort(std::uint16_t port) const noexcept;

  /// For system calls: `size()` bytes.
  const sockaddr* get() const noexcept { return reinterpret_cast<const sockaddr*>(storage_); }
  socklen_t size() const noexcept { return size_; }

  /// "127.0.0.1:7000", "[fe80::1%eth0]:7000", "unix:/path", "unix-abstract:name"; "unix:" for a socket without a name.
  /// parse() reads it again; but a Unix name that ends with a blank or has control characters, which are shown as \xNN.
  std::string toString() const;

  friend bool operator==(const SocketAddress& a, const SocketAddress& b) noexcept;

private:
  // The largest, sockaddr_un, has 110 bytes.
  alignas(8) std::byte storage_[110] = {};
  std::uint16_t size_ = 0;

  SocketAddress() noexcept = default;
  SocketAddress(const void* address, std::size_t size) noexcept;
};

} // namespace v0
} // namespace troth
