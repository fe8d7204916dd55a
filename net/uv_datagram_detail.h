// SPDX-License-Identifier: MIT
// DatagramSocket on a UDP socket that libuv watches.
#pragma once

#include <troth/net/datagram.h>
#include <troth/net/network.h>
#include <troth/net/peer_filter_detail.h>
#include <troth/net/socket_address.h>

#include <uv.h>

#include <memory>
#include <source_location>
#include <string>

namespace troth {
inline namespace v0 {
namespace detail {

/// Binds a socket to `address`. `filter`, which may be null, decides who is talked to. Throws, with `name` in the text;
/// the code tells why.
std::unique_ptr<DatagramSocket> newBoundDatagramSocket(uv_loop_t* loop, const SocketAddress& address,
                                                       const std::string& name,
                                                       std::shared_ptr<const PeerFilter> filter,
                                                       const DatagramOptions& options, std::source_location where);

/// Connects a socket to `address`.
std::unique_ptr<DatagramSocket> newConnectedDatagramSocket(uv_loop_t* loop, const SocketAddress& address,
                                                           const std::string& name,
                                                           std::shared_ptr<const PeerFilter> filter,
                                                           const DatagramOptions& options, std::source_location where);

} // namespace detail
} // namespace v0
} // namespace troth
