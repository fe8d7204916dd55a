// SPDX-License-Identifier: MIT
// How much a socket holds for its peer.
#pragma once

#include <cstdint>

namespace troth {
inline namespace v0 {
namespace detail {

/// How many bytes the system has taken for the peer of the socket `fd`, and not delivered: 0 if it does not tell, if
/// `fd` is no socket, or if the peer has reset the connection. A full socket is ready for more only when a good part of
/// them has gone, which may be megabytes; so these tell of a slow peer much sooner.
std::uint64_t heldBySocket(int fd) noexcept;

} // namespace detail
} // namespace v0
} // namespace troth
