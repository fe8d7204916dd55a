// SPDX-License-Identifier: MIT
// The rules of Network::restrictPeers(): who may be a peer.
#pragma once

#include <troth/net/cidr.h>

#include <memory>
#include <optional>
#include <source_location>
#include <span>
#include <string>
#include <vector>

namespace troth {
inline namespace v0 {
namespace detail {

/// One list of rules: what is allowed, or what is denied.
class PeerRules {
public:
  /// Throws FAILED, quoting the item, for one that is no rule.
  PeerRules(std::span<const std::string> items, std::source_location where);

  /// The length in bits of the most specific rule that the IP address `address` meets, if it meets any.
  std::optional<unsigned> match(const SocketAddress& address) const noexcept;
  /// The same, where an IPv4 address that `address` carries meets a rule for it.
  std::optional<unsigned> matchCarried(const SocketAddress& address) const noexcept;

  /// Whether there is a rule for such Unix sockets as `address` is one.
  bool matchUnix(const SocketAddress& address) const noexcept;

  /// Whether there is a rule for IP addresses.
  bool hasIpRules() const noexcept { return public_ || network_ || !ranges_.empty(); }

private:
  std::vector<CidrRange> ranges_;
  bool public_ = false;
  bool network_ = false;
  bool unixPaths_ = false;
  bool unixAbstract_ = false;
};

/// Decides by Network::restrictPeers()'s rules. Immutable; any thread may use it.
class PeerFilter {
public:
  /// What it allows, `next` must allow as well, if there is one. Throws FAILED for an item that is no rule.
  PeerFilter(std::span<const std::string> allow, std::span<const std::string> deny,
             std::shared_ptr<const PeerFilter> next = nullptr,
             std::source_location where = std::source_location::current());

  bool allows(const SocketAddress& peer) const noexcept;

  /// Whether a socket that listens on `address` may have peers. (Those of a Unix socket, which have no address as a
  /// rule, are judged by it.)
  bool allowsListening(const SocketAddress& address) const noexcept;

private:
  PeerRules allow_;
  PeerRules deny_;
  std::shared_ptr<const PeerFilter> next_;

  bool allowsHere(const SocketAddress& peer) const noexcept;
};

} // namespace detail
} // namespace v0
} // namespace troth
