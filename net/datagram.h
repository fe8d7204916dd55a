// SPDX-License-Identifier: MIT
// DatagramSocket: sends and receives datagrams (UDP).
#pragma once

#include <troth/io/chunk.h>
#include <troth/net/socket_address.h>
#include <troth/runtime/promise.h>

#include <cstddef>
#include <optional>
#include <source_location>
#include <span>
#include <string_view>

namespace troth {
inline namespace v0 {

/// A datagram that has come.
struct Datagram {
  Chunk bytes;            // empty for a datagram of no bytes
  SocketAddress source;   // who has sent it
  bool truncated = false; // whether it was longer than what was asked for: the rest is lost
};

/// A datagram that has come to the receiver's own memory.
struct ReceivedDatagram {
  std::size_t size; // how many bytes have come to the buffer; 0 is a datagram of no bytes, and no end
  SocketAddress source;
  bool truncated = false; // whether it was longer than the buffer: the rest is lost
};

/// One of the datagrams that are sent together.
struct OutgoingDatagram {
  std::span<const std::byte> bytes;
  const SocketAddress* to = nullptr; // null on a connected socket, and only there
};

/// A socket for datagrams: NetworkAddress::bindDatagram() makes one that waits for them at an address,
/// NetworkAddress::connectDatagram() one that talks to a single peer.
///
/// A datagram comes as it was sent, whole, or not at all: none is promised to arrive, nor in which order, nor only
/// once. The longest has 65507 bytes over IPv4, and what is longer than the path's MTU (often 1500 less 28 or 48 bytes)
/// goes in fragments, which are lost together.
///
/// Destroying the socket closes it, and rejects what is pending with DISCONNECTED; socket and promises may go in any
/// order. It belongs to its loop's thread. A socket that nobody waits for does not keep a host's loop alive.
///
/// **Unreachable peers.** When nobody listens at the peer's port, its machine may say so (ICMP). A *connected* socket
/// reports that once, as DISCONNECTED, to the operation that comes next, or to the receive that waits: a send that is
/// told of it has not sent its own datagram, and may be tried again. The socket goes on as before. A socket that is
/// *not connected* does not hear of it. That a router cannot reach the peer's machine or network for the moment is told
/// to neither. (All this on Linux; other systems may differ.)
///
/// **What comes faster than it is asked for** waits in the kernel, in a buffer of bounded size
/// (DatagramOptions::receiveBuffer), and what does not fit is dropped there. To save system calls, a receive that has
/// to wait takes up to MOST_AHEAD datagrams more along, which the next receives give at once.
class DatagramSocket {
public:
  /// The most bytes that a datagram can have; over IPv4 a few less, 65507.
  static constexpr std::size_t MAX_SIZE = 65535;
  /// The most datagrams that a receive takes along for the next ones, beside its own.
  static constexpr std::size_t MOST_AHEAD = 15;

  virtual ~DatagramSocket() = default;

  /// Sends one datagram to `to`.
  ///
  /// Completes:    when the system has taken the datagram: nearly always inside this call, else when the socket has
  ///               room. That it arrives, nobody can say.
  /// Errors:       FAILED if it is too long (`std::errc::message_size`, and the text names its size), if
  ///               Network::restrictPeers() does not allow `to` or DatagramOptions::broadcast is missing
  ///               (`permission_denied`); OVERLOADED if the system has no room for it at all (ENOBUFS); DISCONNECTED if
  ///               there is no way to `to`, as to IPv4 with `ipv6Only`, and for a connected socket's unreachable peer,
  ///               as above; UNIMPLEMENTED if the socket is none for addresses like `to`.
  /// Cancellation: clean while pending: nothing is sent, neither whole nor in part.
  /// Lifetime:     `bytes` stays alive until the promise completes or is destroyed, which may be after this socket;
  ///               `to` is needed only during the call.
  /// Overlap:      any number of sends; those that wait go in the order in which they were begun.
  /// Misuse:       throws FAILED at once if the socket is connected.
  virtual Promise<void> send(std::span<const std::byte> bytes, const SocketAddress& to,
                             std::source_location where = std::source_location::current()) = 0;

  /// The same with a datagram that is made of several pieces, one behind the other.
  /// The span that `pieces` is need only live during the call; what the pieces point to, until the promise completes.
  virtual Promise<void> send(std::span<const std::span<const std::byte>> pieces, const SocketAddress& to,
                             std::source_location where = std::source_location::current()) = 0;

  /// The same on a connected socket, to its peer. Throws FAILED at once if the socket is not connected.
  virtual Promise<void> send(std::span<const std::byte> bytes,
                             std::source_location where = std::source_location::current()) = 0;
  virtual Promise<void> send(std::span<const std::span<const std::byte>> pieces,
                             std::source_location where = std::source_location::current()) = 0;

  Promise<void> send(std::string_view text, const SocketAddress& to,
                     std::source_location where = std::source_location::current()) {
    return send(std::as_bytes(std::span(text)), to, where);
  }
  Promise<void> send(std::string_view text, std::source_location where = std::source_location::current()) {
    return send(std::as_bytes(std::span(text)), where);
  }

  /// Sends several datagrams, in their order, with as few system calls as there may be (Linux: one for 32). Sends at
  /// least one, and as many as the socket takes, but so that others on the loop have their turn; call it again for the
  /// rest:
  ///
  ///     while (!rest.empty()) rest = rest.subspan(co_await socket.sendMany(rest));
  ///
  /// Completes:    when the first datagram, and with it as many as possible, was taken: nearly always inside this call.
  /// Result:       how many of `datagrams` were sent, from the first on; 0 only if there are none. Fewer than all if
  ///               there are very many, if the socket is full, or if the next one failed: the next call says why.
  /// Errors:       those of send(), for the first datagram. (Of a connected socket's unreachable peer, what is reported
  ///               in between may go unheard.)
  /// Cancellation: clean while pending: none is sent.
  /// Lifetime:     `datagrams`, their bytes and their addresses stay alive until the promise completes or is destroyed,
  ///               which may be after this socket.
  /// Overlap:      as send().
  /// Misuse:       throws FAILED at once for a `to` that is null, unless the socket is connected, where all must be; of
  ///               very many, only those are looked at that one call may send.
  virtual Promise<std::size_t> sendMany(std::span<const OutgoingDatagram> datagrams,
                                        std::source_location where = std::source_location::current()) = 0;

  /// Receives one datagram into memory of its own: at most `maxBytes` of it.
  ///
  /// Completes:    when a datagram has come; at once if it has come already with an earlier one.
  /// Result:       the datagram. The source is an IPv4 address if the sender's is, also if the socket is for both.
  /// Errors:       DISCONNECTED if the socket is destroyed, and for a connected socket's unreachable peer, as above;
  ///               OVERLOADED if there was no memory for a datagram. After an error the next receive goes on.
  /// Cancellation: clean: a datagram that had come is what the next receive gives, whole.
  /// Lifetime:     the promise may outlive this socket.
  /// Overlap:      one receive at a time (a second throws FAILED); sends may be pending.
  virtual Promise<Datagram> receive(std::size_t maxBytes = MAX_SIZE,
                                    std::source_location where = std::source_location::current()) = 0;

  /// Receives one datagram into `buffer`, as much of it as there is room for.
  ///
  /// Completes, Errors, Cancellation, Overlap: as above. A receive that is cancelled may have written to `buffer`.
  /// Result:       how much came and from whom; the bytes stand at the beginning of `buffer`.
  /// Lifetime:     `buffer` stays alive until the promise has been taken or is destroyed.
  virtual Promise<ReceivedDatagram> receive(std::span<std::byte> buffer,
                                            std::source_location where = std::source_location::current()) = 0;

  /// Settles on one peer: from now on send() takes no address, what others send is not received (but for what has come
  /// already), and unreachable peers are reported. Again, for another peer. Throws FAILED if Network::restrictPeers()
  /// does not allow `peer`, DISCONNECTED if there is no way to it; if it throws, the socket is as it was. Misuse:
  /// throws FAILED for port 0, and while sends wait, since they are not meant for the new peer.
  virtual void connect(const SocketAddress& peer, std::source_location where = std::source_location::current()) = 0;

  /// Receives what is sent to a multicast group, such as 239.1.2.3 or ff02::123 (the port does not count), and comes by
  /// the network interface of this name; empty: by the one that the group's zone names ("ff02::123%eth0"), or else by
  /// the one that the system chooses. Throws FAILED if `group` is none, if the interface does not exist, knows no
  /// multicast or is not the zone's, and if the socket is in the group (there) already.
  virtual void joinGroup(const SocketAddress& group, std::string_view interface = {},
                         std::source_location where = std::source_location::current()) = 0;
  /// No longer does. Throws FAILED if the socket was not in the group, there.
  virtual void leaveGroup(const SocketAddress& group, std::string_view interface = {},
                          std::source_location where = std::source_location::current()) = 0;

  /// The address that the socket is bound to, with the port that the system chose, if 0 was asked for.
  virtual SocketAddress localAddress() const = 0;

  /// The descriptor of the socket, for options that are not here; nothing if there is none. It stays the socket's. (Who
  /// asks the system for the socket's error queue, as by IP_RECVERR, must empty it: it makes the socket look ready.)
  virtual std::optional<int> descriptor() const { return std::nullopt; }
};

} // namespace v0
} // namespace troth
