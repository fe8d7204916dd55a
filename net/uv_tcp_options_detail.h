// SPDX-License-Identifier: MIT
// The options of TCP sockets, on libuv's handles.
#pragma once

#include <troth/net/network.h>

#include <uv.h>

#include <source_location>
#include <string_view>

namespace troth {
inline namespace v0 {
namespace detail {

/// Sets up a connection. What the system refuses is left as it is: the connection may have ended already.
void applyTcpOptions(uv_tcp_t& connection, const TcpOptions& options) noexcept;

/// Lets others bind their sockets to the address that `socket`, which has a descriptor, is going to be bound to.
/// Throws, with `operation` in the text; UNIMPLEMENTED where the system has no SO_REUSEPORT that shares connections
/// out.
void setReusePort(const uv_tcp_t& socket, std::string_view operation, std::source_location where);
[[noreturn]] void throwNoReusePort(std::string_view operation, std::source_location where);

} // namespace detail
} // namespace v0
} // namespace troth
