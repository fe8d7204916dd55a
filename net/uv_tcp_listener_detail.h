// SPDX-License-Identifier: MIT
// The listening side of TCP.
#pragma once

#include <troth/net/network.h>
#include <troth/net/socket_address.h>

#include <uv.h>

#include <memory>
#include <source_location>
#include <string>

namespace troth {
inline namespace v0 {
namespace detail {

/// Binds and listens. Throws, with `name` in the text; the code tells why.
std::unique_ptr<ConnectionReceiver> newTcpListener(uv_loop_t* loop, const SocketAddress& address,
                                                   const std::string& name, std::source_location where);

} // namespace detail
} // namespace v0
} // namespace troth
