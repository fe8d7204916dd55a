// SPDX-License-Identifier: MIT
// What a NetworkAddress stands for, and the checks that all networks make before they connect and listen.
#pragma once

#include <troth/net/address_detail.h>
#include <troth/net/network.h>
#include <troth/net/peer_filter_detail.h>
#include <troth/net/socket_address.h>

#include <source_location>
#include <string>
#include <string_view>
#include <vector>

namespace troth {
inline namespace v0 {
namespace detail {

struct Target {
  std::vector<SocketAddress> addresses; // never empty; in the order in which they are tried
  std::string name;                     // for people: the text of the address
  bool isWildcard = false;
};

/// Of what is no host name.
Target targetOf(const ParsedAddress& parsed);

/// Of a host name, which stands for the addresses that were found. Throws FAILED if there is none.
Target targetOfHost(const ParsedAddress& parsed, std::vector<SocketAddress> found, std::source_location where);

/// Throws FAILED for "*", and for an address without a port.
void requireConnectable(const Target& target, std::source_location where);

/// Throws FAILED if `filter` does not allow to connect to `address`; null allows all.
void requireAllowed(const PeerFilter* filter, const SocketAddress& address, std::source_location where);

/// Throws FAILED if `filter` allows nobody who could reach a socket on `address`; null allows all. The text is of
/// `operation`, such as "cannot listen on", and `name`.
void requireListening(const PeerFilter* filter, const SocketAddress& address, std::string_view operation,
                      std::string_view name, std::source_location where);

/// Throws FAILED if no connection could wait to be accepted. `name` is for the text.
void requireBacklog(const ListenOptions& options, std::string_view name, std::source_location where);

} // namespace detail
} // namespace v0
} // namespace troth
