// SPDX-License-Identifier: MIT
// The listening side of TCP and of Unix sockets.
#pragma once

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

/// Binds and listens. `filter`, which may be null, decides who is accepted. Throws, with `name` in the text; the code
/// tells why.
std::unique_ptr<ConnectionReceiver> newListener(uv_loop_t* loop, const SocketAddress& address, const std::string& name,
                                                std::shared_ptr<const PeerFilter> filter, const ListenOptions& options,
                                                std::source_location where);

/// Listens on `socket`, which is bound to `address`.
std::unique_ptr<ConnectionReceiver> newListener(uv_loop_t* loop, OwnedDescriptor socket, const SocketAddress& address,
                                                std::shared_ptr<const PeerFilter> filter, const ListenOptions& options,
                                                std::source_location where);

} // namespace detail
} // namespace v0
} // namespace troth
