// SPDX-License-Identifier: MIT
// The system calls of UDP sockets.
#pragma once

#include <troth/io/descriptor.h>
#include <troth/net/datagram.h>
#include <troth/net/network.h>

#include <array>
#include <cstddef>
#include <memory>
#include <optional>
#include <source_location>
#include <span>
#include <string_view>

#include <netinet/in.h>
#include <sys/socket.h>

namespace troth {
inline namespace v0 {
namespace detail {

/// A non-blocking UDP socket of `family`, which is not bound. Throws, with `operation` in the text.
OwnedDescriptor newUdpSocket(SocketAddress::Family family, const DatagramOptions& options, std::string_view operation,
                             std::source_location where);

/// Whether a socket joins a group or leaves it.
enum class Membership { JOIN, LEAVE };
void changeMembership(int socket, Membership membership, const SocketAddress& group, std::string_view interface,
                      std::string_view operation, std::source_location where);

/// An address as a socket of one family wants it: sockets for IPv6 reach IPv4 addresses as ::ffff:0:0/96.
class UdpTarget {
public:
  /// `address`, which may be null for the peer that the socket is connected to, must outlive this.
  UdpTarget(SocketAddress::Family socket, const SocketAddress* address) noexcept;
  UdpTarget(const UdpTarget&) = delete;
  UdpTarget& operator=(const UdpTarget&) = delete;

  const sockaddr* get() const noexcept { return address_; }
  socklen_t size() const noexcept { return size_; }

private:
  const sockaddr* address_;
  socklen_t size_;
  sockaddr_in6 mapped_;
};

/// `address` as IPv4, if it is an IPv6 address that stands for one.
SocketAddress unmapped(const SocketAddress& address) noexcept;

/// Sends one datagram. Returns 0 or a negative status, UV_EAGAIN if the socket is full.
int sendDatagram(int socket, std::span<const std::span<const std::byte>> pieces, const UdpTarget& to) noexcept;

/// As many datagrams go by one call of sendDatagrams() at most: others on the loop want their turn.
inline constexpr std::size_t MOST_SENT_AT_ONCE = 512;

/// Sends `datagrams`, from one to MOST_SENT_AT_ONCE, until one is not taken. Returns how many were, or why not the
/// first.
int sendDatagrams(int socket, SocketAddress::Family family, std::span<const OutgoingDatagram> datagrams) noexcept;

/// Where datagrams come to before anybody knows how long they are: one for each thread, of a good MiB, of which the
/// system gives only the pages that are touched. What is in it lasts until the next receive() on the thread.
class DatagramInbox {
public:
  /// The thread's. Null without memory.
  static DatagramInbox* ofThread() noexcept;

  DatagramInbox() noexcept;
  DatagramInbox(const DatagramInbox&) = delete;
  DatagramInbox& operator=(const DatagramInbox&) = delete;

  /// Receives what has come, in one system call. Of the first datagram what fits goes to `space`, the rest of it and
  /// the others to the inbox. Returns how many have come, or a negative status.
  int receive(int socket, std::span<std::byte> space) noexcept;

  /// How many bytes have come of a datagram, those in `space` included.
  std::size_t size(std::size_t index) const noexcept { return headers_[index].size; }
  /// Those that are in the inbox.
  std::span<const std::byte> bytes(std::size_t index) const noexcept;
  /// Who has sent it; nobody if the system does not say.
  std::optional<SocketAddress> source(std::size_t index) const noexcept;
  /// Whether it was longer.
  bool isTruncated(std::size_t index) const noexcept;

private:
  static constexpr std::size_t SLOT = DatagramSocket::MAX_SIZE + 1;
  // Not a power of two: the first bytes of all would compete for the same lines of the cache.
  static constexpr std::size_t STRIDE = SLOT + 192;
#if defined(__linux__)
  static constexpr std::size_t SLOTS = 1 + DatagramSocket::MOST_AHEAD;
#else
  static constexpr std::size_t SLOTS = 1;
#endif

  struct Header { // has the layout of Linux's mmsghdr
    msghdr header;
    unsigned size;
  };

  std::array<Header, SLOTS> headers_;
  std::array<iovec, SLOTS + 1> buffers_; // the first two are the first datagram's
  std::array<sockaddr_in6, SLOTS> sources_;
  std::size_t direct_ = 0; // the room in the caller's memory
  std::array<std::byte, SLOTS * STRIDE> bytes_;
};

} // namespace detail
} // namespace v0
} // namespace troth
