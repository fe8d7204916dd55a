// SPDX-License-Identifier: MIT
// What UDP sockets ask of the system, beside libuv: options, and many datagrams by one call, which Linux has.
//
// libuv's own uv_udp_t is not used. It sends a batch by one call only from its queue, for which each datagram must be
// copied, its first goes alone and the loop turns before the others; a send that waits cannot be withdrawn from it; it
// takes ENOBUFS for a full socket; and its recvmmsg() needs a buffer of 64 KiB for each datagram from every reader.
#include <troth/net/udp_socket_detail.h>

#include <troth/net/ip_bytes_detail.h>
#include <troth/net/uv_tcp_options_detail.h>
#include <troth/runtime/pool_detail.h>
#include <troth/runtime/quote_detail.h>
#include <troth/runtime/uv/uv_error.h>

#include <fmt/format.h>
#include <uv.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstring>
#include <string>

#include <fcntl.h>
#include <net/if.h>

namespace troth {
inline namespace v0 {
namespace detail {
namespace {

#ifdef MSG_NOSIGNAL
constexpr int SEND_FLAGS = MSG_NOSIGNAL;
#else
constexpr int SEND_FLAGS = 0;
#endif

int lastStatus() noexcept { return uv_translate_sys_error(errno); }

// ------------------------------------------------------------------------------------------- options

/// Sets options, and says what was being done if that fails.
class OptionSetter {
public:
  OptionSetter(int socket, std::string_view operation, std::source_location where) noexcept
      : socket_(socket), operation_(operation), where_(where) {}

  template <typename T>
  void set(int level, int option, const T& value) const {
    if (!trySet(level, option, value)) throw uvException(lastStatus(), operation_, where_);
  }
  template <typename T>
  bool trySet(int level, int option, const T& value) const noexcept {
    return ::setsockopt(socket_, level, option, &value, sizeof value) == 0;
  }

  /// `value`, which must be in its range.
  int requireRange(std::string_view name, unsigned value, unsigned least, unsigned most) const {
    if (value < least || value > most)
      throwMisuse(fmt::format("{}: {} is {}, but must be from {} to {}", operation_, name, value, least, most), where_);
    return static_cast<int>(value);
  }

  unsigned requireInterface(std::string_view name) const {
    const unsigned index = ::if_nametoindex(std::string(name).c_str());
    if (index == 0)
      throw uvException(lastStatus(), fmt::format("{}: network interface {}", operation_, quote(name)), where_);
    return index;
  }

private:
  int socket_;
  std::string_view operation_;
  std::source_location where_;
};

/// An option that IPv6 and IPv4 have each for itself: a socket for both takes both.
void setForFamily(const OptionSetter& socket, SocketAddress::Family family, int ipv6Option, int ipv4Option, int value) {
  if (family == SocketAddress::Family::IPV4) return socket.set(IPPROTO_IP, ipv4Option, value);
  socket.set(IPPROTO_IPV6, ipv6Option, value);
  socket.trySet(IPPROTO_IP, ipv4Option, value); // not every system has that
}

void setMulticastInterface(const OptionSetter& socket, SocketAddress::Family family, std::string_view name) {
  const unsigned index = socket.requireInterface(name);
  ip_mreqn ipv4{};
  ipv4.imr_ifindex = static_cast<int>(index);
  if (family == SocketAddress::Family::IPV4) return socket.set(IPPROTO_IP, IP_MULTICAST_IF, ipv4);
  socket.set(IPPROTO_IPV6, IPV6_MULTICAST_IF, index);
  socket.trySet(IPPROTO_IP, IP_MULTICAST_IF, ipv4);
}

void setReusePortOn([[maybe_unused]] const OptionSetter& socket, std::string_view operation, std::source_location where) {
#if defined(__linux__) && defined(SO_REUSEPORT)
  (void)operation, (void)where;
  socket.set(SOL_SOCKET, SO_REUSEPORT, 1);
#else
  throwNoReusePort(operation, where);
#endif
}

int bufferSize(std::size_t size) noexcept { return static_cast<int>(std::min<std::size_t>(size, INT_MAX)); }

void setOptions(const OptionSetter& socket, SocketAddress::Family family, const DatagramOptions& options,
                std::string_view operation, std::source_location where) {
  if (family == SocketAddress::Family::IPV6) socket.set(IPPROTO_IPV6, IPV6_V6ONLY, options.ipv6Only ? 1 : 0);
  if (options.reuseAddress) socket.set(SOL_SOCKET, SO_REUSEADDR, 1);
  if (options.reusePort) setReusePortOn(socket, operation, where);
  if (options.broadcast) socket.set(SOL_SOCKET, SO_BROADCAST, 1);
  if (options.receiveBuffer) socket.set(SOL_SOCKET, SO_RCVBUF, bufferSize(*options.receiveBuffer));
  if (options.sendBuffer) socket.set(SOL_SOCKET, SO_SNDBUF, bufferSize(*options.sendBuffer));
  if (options.ttl)
    setForFamily(socket, family, IPV6_UNICAST_HOPS, IP_TTL, socket.requireRange("ttl", *options.ttl, 1, 255));
  if (options.multicastTtl)
    setForFamily(socket, family, IPV6_MULTICAST_HOPS, IP_MULTICAST_TTL,
                 socket.requireRange("multicastTtl", *options.multicastTtl, 0, 255));
  if (!options.multicastLoop) setForFamily(socket, family, IPV6_MULTICAST_LOOP, IP_MULTICAST_LOOP, 0);
  if (!options.multicastInterface.empty()) setMulticastInterface(socket, family, options.multicastInterface);
}

/// The index of the interface that an IPv6 address is valid at; 0 if that is not said.
unsigned zoneOf(const SocketAddress& address) noexcept {
  if (address.family() != SocketAddress::Family::IPV6) return 0;
  sockaddr_in6 ipv6;
  std::memcpy(&ipv6, address.get(), sizeof ipv6);
  return ipv6.sin6_scope_id;
}

OwnedDescriptor openUdpSocket(int family) noexcept {
#ifdef SOCK_NONBLOCK
  return OwnedDescriptor(::socket(family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
#else
  OwnedDescriptor socket(::socket(family, SOCK_DGRAM, 0));
  if (socket) ::fcntl(socket.get(), F_SETFD, FD_CLOEXEC); // uv_poll_init() makes it non-blocking
  return socket;
#endif
}

// ------------------------------------------------------------------------------------------- sending

constexpr std::size_t MOST_PIECES = 64; // of a datagram that is sent without being put together first
constexpr std::size_t MOST_TOGETHER = 32;

iovec asBuffer(std::span<const std::byte> bytes) noexcept {
  // Nobody writes through the pointer; the type serves both directions.
  return iovec{const_cast<std::byte*>(bytes.data()), bytes.size()};
}

msghdr messageTo(const UdpTarget& to, iovec* buffers, std::size_t count) noexcept {
  msghdr message{};
  message.msg_name = const_cast<sockaddr*>(to.get());
  message.msg_namelen = to.size();
  message.msg_iov = buffers;
  message.msg_iovlen = static_cast<decltype(message.msg_iovlen)>(count);
  return message;
}

int sendMessage(int socket, const msghdr& message) noexcept {
  ssize_t sent;
  do sent = ::sendmsg(socket, &message, SEND_FLAGS);
  while (sent < 0 && errno == EINTR);
  if (sent >= 0) return 0;
  return errno == EWOULDBLOCK ? UV_EAGAIN : lastStatus();
}

/// Sends pieces of which there are too many for a call, as one.
int sendJoined(int socket, std::span<const std::span<const std::byte>> pieces, const UdpTarget& to) noexcept {
  std::byte* const joined = makeScratch();
  if (joined == nullptr) return UV_ENOMEM;
  std::size_t size = 0;
  for (const std::span<const std::byte> piece : pieces) {
    if (piece.size() > BUFFER_SIZE - size) return UV_EMSGSIZE;
    if (!piece.empty()) std::memcpy(joined + size, piece.data(), piece.size());
    size += piece.size();
  }
  iovec buffer = asBuffer({joined, size});
  return sendMessage(socket, messageTo(to, &buffer, 1));
}

#if defined(__linux__)
/// At most MOST_TOGETHER. Returns as sendDatagrams().
int sendTogether(int socket, SocketAddress::Family family, std::span<const OutgoingDatagram> datagrams) noexcept {
  std::array<std::optional<UdpTarget>, MOST_TOGETHER> targets;
  std::array<iovec, MOST_TOGETHER> buffers;
  std::array<mmsghdr, MOST_TOGETHER> messages;
  for (std::size_t i = 0; i < datagrams.size(); ++i) {
    targets[i].emplace(family, datagrams[i].to);
    buffers[i] = asBuffer(datagrams[i].bytes);
    messages[i].msg_hdr = messageTo(*targets[i], &buffers[i], 1);
  }
  int sent;
  do sent = ::sendmmsg(socket, messages.data(), static_cast<unsigned>(datagrams.size()), SEND_FLAGS);
  while (sent < 0 && errno == EINTR);
  if (sent >= 0) return sent;
  return errno == EWOULDBLOCK ? UV_EAGAIN : lastStatus();
}
#else
int sendTogether(int socket, SocketAddress::Family family, std::span<const OutgoingDatagram> datagrams) noexcept {
  for (std::size_t i = 0; i < datagrams.size(); ++i)
    if (const int status = sendDatagram(socket, {&datagrams[i].bytes, 1}, UdpTarget(family, datagrams[i].to));
        status < 0)
      return i > 0 ? static_cast<int>(i) : status;
  return static_cast<int>(datagrams.size());
}
#endif

} // namespace

OwnedDescriptor newUdpSocket(SocketAddress::Family family, const DatagramOptions& options, std::string_view operation,
                             std::source_location where) {
  OwnedDescriptor socket = openUdpSocket(family == SocketAddress::Family::IPV6 ? AF_INET6 : AF_INET);
  if (!socket) throw uvException(lastStatus(), operation, where);
  setOptions(OptionSetter(socket.get(), operation, where), family, options, operation, where);
  return socket;
}

// By the calls that are the same for IPv4 and IPv6 (RFC 3678 §5.1).
void changeMembership(int socket, Membership membership, const SocketAddress& group, std::string_view interface,
                      std::string_view operation, std::source_location where) {
  if (group.isUnix()) throw uvException(UV_EAFNOSUPPORT, operation, where);
  const OptionSetter setter(socket, operation, where);
  group_req request{};
  const unsigned zone = zoneOf(group); // the system does not look at it
  request.gr_interface = interface.empty() ? zone : setter.requireInterface(interface);
  if (zone != 0 && zone != request.gr_interface)
    throwMisuse(fmt::format("{}: the group is of another network interface than {}", operation, quote(interface)),
                where);
  std::memcpy(&request.gr_group, group.get(), group.size());
  const int level = group.family() == SocketAddress::Family::IPV4 ? IPPROTO_IP : IPPROTO_IPV6;
  setter.set(level, membership == Membership::JOIN ? MCAST_JOIN_GROUP : MCAST_LEAVE_GROUP, request);
}

UdpTarget::UdpTarget(SocketAddress::Family socket, const SocketAddress* address) noexcept
    : address_(address != nullptr ? address->get() : nullptr), size_(address != nullptr ? address->size() : 0) {
  if (address == nullptr || socket != SocketAddress::Family::IPV6 || address->family() != SocketAddress::Family::IPV4)
    return;
  sockaddr_in ipv4;
  std::memcpy(&ipv4, address->get(), sizeof ipv4);
  mapped_ = sockaddr_in6{};
  mapped_.sin6_family = AF_INET6;
  mapped_.sin6_port = ipv4.sin_port;
  auto* const bytes = reinterpret_cast<std::byte*>(&mapped_.sin6_addr);
  bytes[10] = bytes[11] = std::byte{0xff};
  std::memcpy(bytes + 12, &ipv4.sin_addr, sizeof ipv4.sin_addr);
  address_ = reinterpret_cast<const sockaddr*>(&mapped_);
  size_ = sizeof mapped_;
}

SocketAddress unmapped(const SocketAddress& address) noexcept {
  if (address.family() != SocketAddress::Family::IPV6) return address;
  const std::array<std::uint8_t, 16> bytes = ipv6Bytes(address);
  if (!isIpv4Mapped(bytes)) return address;
  sockaddr_in ipv4{};
  ipv4.sin_family = AF_INET;
  ipv4.sin_port = htons(address.port());
  std::memcpy(&ipv4.sin_addr, bytes.data() + 12, sizeof ipv4.sin_addr);
  return SocketAddress::from(reinterpret_cast<const sockaddr&>(ipv4), sizeof ipv4);
}

int sendDatagram(int socket, std::span<const std::span<const std::byte>> pieces, const UdpTarget& to) noexcept {
  if (pieces.size() > MOST_PIECES) return sendJoined(socket, pieces, to);
  std::array<iovec, MOST_PIECES> buffers;
  std::transform(pieces.begin(), pieces.end(), buffers.begin(), asBuffer);
  return sendMessage(socket, messageTo(to, buffers.data(), pieces.size()));
}

int sendDatagrams(int socket, SocketAddress::Family family, std::span<const OutgoingDatagram> datagrams) noexcept {
  std::size_t sent = 0;
  while (sent < datagrams.size()) {
    const auto next = datagrams.subspan(sent, std::min(datagrams.size() - sent, MOST_TOGETHER));
    const int status = sendTogether(socket, family, next);
    if (status < 0) return sent > 0 ? static_cast<int>(sent) : status;
    sent += static_cast<std::size_t>(status);
    if (static_cast<std::size_t>(status) < next.size()) break; // asking why would cost a call, and the caller asks
  }
  return static_cast<int>(sent);
}

// ----------------------------------------------------------------------------------------- receiving

DatagramInbox* DatagramInbox::ofThread() noexcept {
  static thread_local std::unique_ptr<DatagramInbox> inbox;
  if (inbox == nullptr) inbox.reset(new (std::nothrow) DatagramInbox);
  return inbox.get();
}

// `bytes_` is left as it is: nobody touches its pages before a datagram does.
DatagramInbox::DatagramInbox() noexcept {
  for (std::size_t i = 0; i < SLOTS; ++i) {
    buffers_[i + 1] = iovec{bytes_.data() + i * STRIDE, SLOT};
    headers_[i].header = msghdr{};
    headers_[i].header.msg_name = &sources_[i];
    headers_[i].header.msg_iov = &buffers_[i + 1];
    headers_[i].header.msg_iovlen = 1;
  }
  headers_[0].header.msg_iov = buffers_.data();
  headers_[0].header.msg_iovlen = 2;
}

int DatagramInbox::receive(int socket, std::span<std::byte> space) noexcept {
  buffers_[0] = iovec{space.data(), space.size()};
  direct_ = space.size();
  for (Header& header : headers_) header.header.msg_namelen = sizeof(sockaddr_in6);
#if defined(__linux__)
  static_assert(sizeof(Header) == sizeof(mmsghdr) && offsetof(Header, size) == offsetof(mmsghdr, msg_len));
  int count;
  do count = ::recvmmsg(socket, reinterpret_cast<mmsghdr*>(headers_.data()), SLOTS, MSG_DONTWAIT, nullptr);
  while (count < 0 && errno == EINTR);
#else
  ssize_t size;
  do size = ::recvmsg(socket, &headers_[0].header, 0);
  while (size < 0 && errno == EINTR);
  const int count = size < 0 ? -1 : 1;
  if (size >= 0) headers_[0].size = static_cast<unsigned>(size);
#endif
  if (count >= 0) return count;
  return errno == EWOULDBLOCK ? UV_EAGAIN : lastStatus();
}

std::span<const std::byte> DatagramInbox::bytes(std::size_t index) const noexcept {
  const std::size_t direct = index == 0 ? std::min(direct_, size(0)) : 0;
  return {bytes_.data() + index * STRIDE, size(index) - direct};
}

std::optional<SocketAddress> DatagramInbox::source(std::size_t index) const noexcept {
  try {
    const auto& address = reinterpret_cast<const sockaddr&>(sources_[index]);
    const std::size_t size = headers_[index].header.msg_namelen; // of the address itself, also if it was cut off
    return unmapped(SocketAddress::from(address, std::min(size, sizeof sources_[index])));
  } catch (...) {
    return std::nullopt;
  }
}

bool DatagramInbox::isTruncated(std::size_t index) const noexcept {
  return (headers_[index].header.msg_flags & MSG_TRUNC) != 0;
}

} // namespace detail
} // namespace v0
} // namespace troth
