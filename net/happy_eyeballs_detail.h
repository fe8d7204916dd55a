// SPDX-License-Identifier: MIT
// Happy Eyeballs version 2 (RFC 8305): connects to one of several addresses without waiting long for dead ones.
#pragma once

#include <troth/io/stream.h>
#include <troth/net/network.h>
#include <troth/net/socket_address.h>
#include <troth/timers/timer.h>

#include <functional>
#include <memory>
#include <source_location>
#include <span>
#include <string_view>
#include <vector>

namespace troth {
inline namespace v0 {
namespace detail {

/// Changes the order so that the families take turns, beginning with that of the first address; within a family it
/// stays (RFC 8305 §4, which leaves the order to begin with to RFC 6724, that is to the resolver).
void interleaveFamilies(std::vector<SocketAddress>& addresses);

/// Begins a connection. Its errors name the address.
using ConnectionAttempt = std::function<Promise<std::unique_ptr<AsyncIoStream>>(const SocketAddress&)>;

/// Tries `addresses`, of which there is at least one, in this order. The next attempt begins `options.attemptDelay`
/// after the one before, or at once when one has failed; those before go on (RFC 8305 §5).
///
/// Completes:    when the first attempt has succeeded and the others are cancelled, when all have failed, or when
///               `options.timeout` is over.
/// Errors:       "cannot connect to `name`: " and what became of each address; of the kind and with the code of the
///               attempt that failed last, or OVERLOADED with std::errc::timed_out.
/// Cancellation: cancels all attempts.
/// Lifetime:     `addresses`, `name` and `timer` stay alive until the promise completes or is destroyed.
Promise<std::unique_ptr<AsyncIoStream>> connectToFirst(std::span<const SocketAddress> addresses, std::string_view name,
                                                       ConnectionAttempt attempt, Timer& timer, ConnectOptions options,
                                                       std::source_location where);

} // namespace detail
} // namespace v0
} // namespace troth
