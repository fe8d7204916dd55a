// SPDX-License-Identifier: MIT
// What the system knows of a peer. All that is not portable about it is here.
#include <troth/net/peer_identity.h>

#include <troth/runtime/require.h>

#include <fmt/format.h>

#include <cerrno>
#include <string_view>
#include <utility>

#include <sys/socket.h>
#include <unistd.h>

namespace troth {
inline namespace v0 {
namespace {

using AskForName = int (*)(int, sockaddr*, socklen_t*);

SocketAddress ask(const AsyncIoStream& stream, AskForName function, std::string_view operation,
                  std::source_location where) {
  const std::optional<int> fd = stream.descriptor();
  if (!fd) detail::throwMisuse(fmt::format("{}: the stream has no socket", operation), where);
  sockaddr_storage storage{};
  socklen_t size = sizeof storage;
  auto* address = reinterpret_cast<sockaddr*>(&storage);
  if (function(*fd, address, &size) != 0) throw systemException(errno, operation, where);
  return SocketAddress::from(*address, size, where);
}

/// Nothing if the system does not tell.
std::optional<LocalPeerIdentity::Credentials> credentialsOf(int fd) noexcept {
#if defined(__linux__)
  ucred credentials;
  socklen_t size = sizeof credentials;
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &size) != 0) return std::nullopt;
  return LocalPeerIdentity::Credentials{credentials.pid, credentials.uid, credentials.gid};
#elif defined(__APPLE__) || defined(__FreeBSD__) || defined(__OpenBSD__) || defined(__NetBSD__)
  LocalPeerIdentity::Credentials credentials{};
  if (getpeereid(fd, &credentials.user, &credentials.group) != 0) return std::nullopt;
  return credentials;
#else
  (void)fd;
  return std::nullopt;
#endif
}

} // namespace

std::string LocalPeerIdentity::toString() const {
  const std::string process = credentials_.process ? fmt::format(" {}", *credentials_.process) : "";
  return fmt::format("local process{}, user {}, group {}", process, credentials_.user, credentials_.group);
}

SocketAddress localAddressOf(const AsyncIoStream& stream, std::source_location where) {
  return ask(stream, getsockname, "localAddressOf", where);
}

SocketAddress peerAddressOf(const AsyncIoStream& stream, std::source_location where) {
  return ask(stream, getpeername, "peerAddressOf", where);
}

std::unique_ptr<PeerIdentity> identifyPeer(const AsyncIoStream& stream) {
  try {
    const SocketAddress peer = peerAddressOf(stream);
    if (!peer.isUnix()) return std::make_unique<NetworkPeerIdentity>(peer);
    if (const auto credentials = credentialsOf(*stream.descriptor()))
      return std::make_unique<LocalPeerIdentity>(*credentials);
  } catch (const Exception&) {
    // Not a socket, not of a family that is known, or not connected any more.
  }
  return std::make_unique<UnknownPeerIdentity>();
}

AuthenticatedStream authenticate(std::unique_ptr<AsyncIoStream> stream) {
  std::unique_ptr<PeerIdentity> identity = identifyPeer(*stream);
  return {std::move(stream), std::move(identity)};
}

} // namespace v0
} // namespace troth
