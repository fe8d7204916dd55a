// SPDX-License-Identifier: MIT
// PeerIdentity: who is at the other end of a connection, as far as the system vouches for it.
#pragma once

#include <troth/io/stream.h>
#include <troth/net/socket_address.h>

#include <memory>
#include <optional>
#include <source_location>
#include <string>

#include <sys/types.h>

namespace troth {
inline namespace v0 {

/// Who a peer is: one of the types below, which `dynamic_cast` tells.
class PeerIdentity {
public:
  virtual ~PeerIdentity() = default;

  /// For people, in logs.
  virtual std::string toString() const = 0;
};

/// A peer of which nothing is known but that it is there, or was.
class UnknownPeerIdentity final : public PeerIdentity {
public:
  std::string toString() const override { return "unknown peer"; }
};

/// A peer on the network, known by the address from which it connected, or at which it was connected to. Who is behind
/// that is another question.
class NetworkPeerIdentity final : public PeerIdentity {
public:
  explicit NetworkPeerIdentity(const SocketAddress& address) noexcept : address_(address) {}

  const SocketAddress& address() const noexcept { return address_; }
  /// The address: "192.0.2.7:49152".
  std::string toString() const override { return address_.toString(); }

private:
  SocketAddress address_;
};

/// A process of this machine, on the other end of a Unix socket, as the kernel has noted it: the one that called
/// connect(), or listen() if it was connected to. It may have handed the socket to another process since.
class LocalPeerIdentity final : public PeerIdentity {
public:
  struct Credentials {
    std::optional<pid_t> process; // none where the system does not tell; another process may have its number by now
    uid_t user;
    gid_t group;
  };

  explicit LocalPeerIdentity(Credentials credentials) noexcept : credentials_(credentials) {}

  const Credentials& credentials() const noexcept { return credentials_; }
  /// "local process 4711, user 1000, group 1000".
  std::string toString() const override;

private:
  Credentials credentials_;
};

/// A connection, and who is at its other end.
struct AuthenticatedStream {
  std::unique_ptr<AsyncIoStream> stream;
  std::unique_ptr<PeerIdentity> peerIdentity; // never null
};

/// The addresses of the two ends of a socket (getsockname(), getpeername()). Throw DISCONNECTED if it is not connected
/// any more, FAILED if the stream is no socket of the internet families or a Unix socket.
SocketAddress localAddressOf(const AsyncIoStream& stream, std::source_location where = std::source_location::current());
SocketAddress peerAddressOf(const AsyncIoStream& stream, std::source_location where = std::source_location::current());

/// Who is at the other end of a stream: a NetworkPeerIdentity for a TCP socket, a LocalPeerIdentity for a Unix socket,
/// and an UnknownPeerIdentity for what is neither, and for peers that have gone before they could be asked for.
std::unique_ptr<PeerIdentity> identifyPeer(const AsyncIoStream& stream);

/// The stream with the identity of its peer.
AuthenticatedStream authenticate(std::unique_ptr<AsyncIoStream> stream);

} // namespace v0
} // namespace troth
