// SPDX-License-Identifier: MIT
// Network: turns the text of an address into something to connect to or to listen on.
#pragma once

#include <troth/io/descriptor.h>
#include <troth/io/stream.h>
#include <troth/runtime/promise.h>
#include <troth/timers/timer.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <source_location>
#include <string>
#include <string_view>
#include <vector>

namespace troth {
inline namespace v0 {

class AsyncIo;
class DatagramSocket; // troth/net/datagram.h
class Resolver;
struct AuthenticatedStream; // troth/net/peer_identity.h

/// A listening socket: the source of incoming connections.
///
/// Destroying it closes the socket, and connections that nobody has accepted yet; a pending accept() is
/// rejected with DISCONNECTED. The file of a Unix socket is removed.
class ConnectionReceiver {
public:
  virtual ~ConnectionReceiver() = default;

  /// Accepts one connection. Errors of single connections (a client that went away before it was
  /// accepted) are passed over, and so are peers that Network::restrictPeers() does not allow: their connections are
  /// closed at once. When descriptors or memory are short, the receiver waits a tenth of a second and goes on.
  ///
  /// Completes:    when a client has connected; never inside this call.
  /// Errors:       DISCONNECTED if the receiver is destroyed; FAILED if the socket itself has failed.
  /// Cancellation: clean: a connection that had come already is what the next accept() gives.
  /// Overlap:      one accept at a time (a second throws FAILED).
  virtual Promise<std::unique_ptr<AsyncIoStream>>
  accept(std::source_location where = std::source_location::current()) = 0;

  /// The same, with the identity of the client (troth/net/peer_identity.h); of one that has gone already that is an
  /// UnknownPeerIdentity.
  virtual Promise<AuthenticatedStream>
  acceptAuthenticated(std::source_location where = std::source_location::current());

  /// The port that is listened on: the one that the system chose, if 0 was asked for. 0 for a Unix socket.
  virtual std::uint16_t getPort() const = 0;

  /// The address that is listened on, such as "127.0.0.1:7000", "[::1]:7000" or "unix:/run/x.sock".
  virtual std::string toString() const = 0;

  /// The descriptor of the listening socket, for socket options and the like; nothing if there is none, or not one. It
  /// stays the receiver's.
  virtual std::optional<int> descriptor() const { return std::nullopt; }
};

/// How TCP connections behave; of no meaning for others.
struct TcpOptions {
  /// Whether small writes are sent at once, instead of waiting for the answer to the ones before (TCP_NODELAY).
  bool noDelay = true;
  /// After how long a silence the peer is asked whether it is still there (SO_KEEPALIVE, TCP_KEEPIDLE), in whole
  /// seconds, rounded up. A peer that has vanished is noticed some minutes later, as the system has it (tcp(7)): reads
  /// and writes fail with ETIMEDOUT, OVERLOADED. Zero or less: never, unless an adopted socket is set up for it.
  Duration keepAlive = Duration::zero();
};

struct ListenOptions {
  /// How many connections may wait to be accepted, 1 or more; the system has a limit of its own (net.core.somaxconn).
  int backlog = 511;
  /// Whether others may listen on the same port, each of this user and each with this option; the system shares the
  /// connections out among them (SO_REUSEPORT): one loop a thread, all on one port. UNIMPLEMENTED where the system has
  /// no such thing, as for Unix sockets.
  bool reusePort = false;
  /// Whether an IPv6 socket refuses IPv4 connections: "*" and "[::]" take both otherwise (IPV6_V6ONLY). With it, "*" is
  /// IPv6 alone, and the IPv4 port is left to another receiver.
  bool ipv6Only = false;
  /// Of the connections that are accepted.
  TcpOptions tcp = TcpOptions();
};

struct ConnectOptions {
  /// How long connecting may take in all. Of itself, Linux gives up a dead address after two minutes.
  Duration timeout = std::chrono::seconds(30);
  /// How long an attempt stays the only one before the next address is tried beside it (RFC 8305 §8).
  Duration attemptDelay = std::chrono::milliseconds(250);
  TcpOptions tcp = TcpOptions();
};

/// How a datagram socket behaves (troth/net/datagram.h). What is left empty is the system's choice.
struct DatagramOptions {
  /// Whether others may bind the same address, if they want it, too (SO_REUSEADDR): each gets what is sent to a group
  /// or broadcast, and of the rest, on Linux, the last one gets all.
  bool reuseAddress = false;
  /// Whether others of this user may bind the same address, each with this option; the system shares the datagrams out
  /// among them by their senders (SO_REUSEPORT). UNIMPLEMENTED where the system has no such thing.
  bool reusePort = false;
  /// As ListenOptions::ipv6Only.
  bool ipv6Only = false;
  /// Whether it may send to broadcast addresses (SO_BROADCAST).
  bool broadcast = false;
  /// Whether this machine gets what the socket sends to groups that sockets of this machine have joined.
  bool multicastLoop = true;
  /// How many routers what it sends may pass, 1 to 255: to one receiver, and to a group, where 0 is this machine and 1,
  /// the system's choice, this network.
  std::optional<unsigned> ttl = std::nullopt;
  std::optional<unsigned> multicastTtl = std::nullopt;
  /// The name of the network interface by which it sends to groups.
  std::string multicastInterface = {};
  /// How many bytes, with what the system adds to each datagram, may wait in the kernel (SO_RCVBUF, SO_SNDBUF). The
  /// system has limits of its own, and keeps to them silently (Linux: net.core.rmem_max, net.core.wmem_max).
  std::optional<std::size_t> receiveBuffer = std::nullopt;
  std::optional<std::size_t> sendBuffer = std::nullopt;
};

/// Where to connect or listen: one address or, behind a name, several.
class NetworkAddress {
public:
  virtual ~NetworkAddress() = default;

  /// Connects to one of the addresses. IPv6 and IPv4 addresses take turns; if one has not answered after
  /// `options.attemptDelay`, or as soon as it has failed, the next one is tried as well. The first connection counts,
  /// and the other attempts are cancelled ("Happy Eyeballs", RFC 8305).
  ///
  /// Completes:    when a connection is made, all addresses have failed, or the time is up; never inside this call.
  /// Errors:       OVERLOADED when the time is up; else of the kind of the last failure: DISCONNECTED if it was refused
  ///               or cannot be reached, OVERLOADED if the system gave up waiting, or if a Unix socket has too many
  ///               connections waiting, FAILED if a Unix socket's file does not exist, or if
  ///               Network::restrictPeers() does not allow the address. The text says of each address what became of
  ///               it.
  /// Cancellation: clean for this side: the attempts are closed. The peer may see a connection come and go.
  /// Lifetime:     the address may be destroyed at any time.
  /// Misuse:       throws FAILED at once for "*", which is no address to connect to, and for port 0.
  virtual Promise<std::unique_ptr<AsyncIoStream>>
  connect(ConnectOptions options = ConnectOptions(), std::source_location where = std::source_location::current()) = 0;

  /// The same, with the identity of the server (troth/net/peer_identity.h).
  virtual Promise<AuthenticatedStream>
  connectAuthenticated(ConnectOptions options = ConnectOptions(),
                       std::source_location where = std::source_location::current());

  /// Listens on the first of the addresses that exists on this machine. A port that was used a moment ago
  /// can be listened on again (SO_REUSEADDR). Throws FAILED, with the address in its text, if the port is in use, or
  /// if Network::restrictPeers() allows no peers of this kind.
  ///
  /// A Unix socket makes a file, which is removed with the receiver, unless another one has taken its place. A file
  /// that exists is never removed to make room, since somebody may be listening there: that is FAILED, and the text
  /// says so. A program that was killed leaves its file behind; remove it before listening if nobody else can have made
  /// it.
  virtual std::unique_ptr<ConnectionReceiver> listen(ListenOptions options = ListenOptions(),
                                                     std::source_location where = std::source_location::current()) = 0;

  /// Makes a socket for datagrams (UDP) at the first of the addresses that exists on this machine: for a server, or
  /// with port 0, which is any, for a client of several peers. "*" takes IPv6 and IPv4 in one socket, unless told
  /// otherwise.
  ///
  /// Throws FAILED, with the address in its text, if the port is in use, for options out of range, or if
  /// Network::restrictPeers() allows no peers of this kind; UNIMPLEMENTED for a Unix socket, and on a network without
  /// datagrams.
  virtual std::unique_ptr<DatagramSocket> bindDatagram(DatagramOptions options = DatagramOptions(),
                                                       std::source_location where = std::source_location::current());

  /// Makes a socket for datagrams to the first of the addresses to which there is a way; no peer is asked. Its own
  /// address is of the system's choice.
  ///
  /// Throws as bindDatagram() does; FAILED if Network::restrictPeers() does not allow the addresses, for "*", and for
  /// port 0; DISCONNECTED if there is no way.
  virtual std::unique_ptr<DatagramSocket> connectDatagram(DatagramOptions options = DatagramOptions(),
                                                          std::source_location where = std::source_location::current());

  /// The same address once more: without another look-up.
  virtual std::unique_ptr<NetworkAddress> clone() const = 0;

  /// The text of the address: "127.0.0.1:7000", "[::1]:7000", "unix:/run/x.sock", "*:7000", or of the name:
  /// "localhost:7000".
  virtual std::string toString() const = 0;
};

/// A way to reach others. Take it as a parameter (`Network&`), and tests can stand in another.
class Network {
public:
  virtual ~Network() = default;

  /// Makes an address of a text. Without a port, `defaultPort` holds.
  ///
  /// - "127.0.0.1:7000", "[::1]:7000", "::1", "[fe80::1%eth0]:7000": an IP address. IPv4 is four numbers; older
  ///   notations ("127.1", "0x7f000001", "2130706433") are refused. The zone after '%' is the name or number of an
  ///   interface. "[::ffff:127.0.0.1]:7000" is an IPv6 address by which 127.0.0.1 is reached.
  /// - "*:7000": all addresses of this machine, to listen on.
  /// - "localhost:7000": a host name, looked up in the background. What is no name by RFC 1123 is refused before
  ///   anybody is asked.
  /// - "example.com:http": a port by the name of its service in /etc/services. That file is read during the call; no
  ///   other machine is asked.
  /// - "unix:/run/x.sock": a Unix socket by its path of at most 107 bytes; "unix-abstract:name": one without a file
  ///   (Linux).
  ///
  /// Completes:    at once for numeric addresses, otherwise when the name is resolved.
  /// Errors:       FAILED, with `text` quoted, for text that is no address and for names that do not
  ///               exist; OVERLOADED if the name server could not be asked.
  /// Cancellation: deferred: a look-up that has begun ends in the background, unheard.
  /// Lifetime:     `text` is needed only during the call.
  virtual Promise<std::unique_ptr<NetworkAddress>>
  parseAddress(std::string_view text, std::uint16_t defaultPort = 0,
               std::source_location where = std::source_location::current()) = 0;

  /// Listens on a socket that is bound already, such as one that was inherited (troth/net/inherited_sockets.h): a
  /// stream socket, TCP or Unix. It is the receiver's from then on, non-blocking and closed on exec, but its file, if
  /// it has one, is not removed. Of `options`, `reusePort` and `ipv6Only` were decided by whoever has bound it, and
  /// have no effect.
  ///
  /// Throws FAILED for what is no such socket; it is closed then. UNIMPLEMENTED on a network without descriptors.
  virtual std::unique_ptr<ConnectionReceiver>
  adoptListener(OwnedDescriptor socket, ListenOptions options = ListenOptions(),
                std::source_location where = std::source_location::current());

  /// Makes a network on which only certain peers may be connected to, or be accepted. What this network does not
  /// allow, that one does not either; it may outlive this one.
  ///
  /// A peer is allowed if it meets one of the rules in `allow`, and none in `deny` that is as specific or more: the
  /// longest prefix wins. A rule is
  ///
  /// - a range such as "10.0.0.0/8" or "2001:db8::/32", or one address (CidrRange::parse());
  /// - "local": this machine, 127.0.0.0/8, 0.0.0.0/8, ::1 and ::;
  /// - "private": "local" and the networks that do not belong to the Internet, 10.0.0.0/8, 172.16.0.0/12,
  ///   192.168.0.0/16, 100.64.0.0/10, 169.254.0.0/16, fc00::/7, fe80::/10;
  /// - "network" (prefix 0): every address that is neither "local" nor reserved, as multicast is;
  /// - "public" (prefix 0): what of "network" is reached from everywhere: it is neither "private" nor for
  /// documentation,
  ///   benchmarks and the like (RFC 6890);
  /// - "unix": Unix sockets with a path; "unix-abstract": those with an abstract name.
  ///
  /// An IPv4 address inside of an IPv6 one counts: "::ffff:10.0.0.1" is 10.0.0.1, and "64:ff9b::10.0.0.1" (NAT64), 6to4
  /// and the like are denied by what denies 10.0.0.1, and public only if it is.
  ///
  /// Addresses are judged after names are resolved, each before it is connected to, and it is this very one that is
  /// connected to; parseAddress() itself refuses nothing. Listening is refused only where no peer could be allowed: on
  /// a Unix socket without a rule for it (its peers are not judged one by one), on an IP address without a rule for
  /// any. A datagram is judged by its sender, and dropped unseen, or by its receiver, and refused. Throws FAILED,
  /// quoting it, for an item that is no rule.
  virtual std::unique_ptr<Network> restrictPeers(const std::vector<std::string>& allow,
                                                 const std::vector<std::string>& deny = {},
                                                 std::source_location where = std::source_location::current()) = 0;
};

/// The network of this machine, with the system's resolver (newSystemResolver(), troth/net/resolver.h). `io` must
/// outlive it, and what it makes.
std::unique_ptr<Network> newNetwork(AsyncIo& io);

/// The same with another resolver, which must outlive the look-ups, too.
std::unique_ptr<Network> newNetwork(AsyncIo& io, Resolver& resolver);

} // namespace v0
} // namespace troth
