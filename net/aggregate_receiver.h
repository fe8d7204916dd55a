// SPDX-License-Identifier: MIT
// newAggregateReceiver: several listening sockets as one.
#pragma once

#include <troth/net/network.h>

#include <memory>
#include <source_location>
#include <vector>

namespace troth {
inline namespace v0 {

/// Makes one receiver of several, so that what serves one port serves them all: an IPv4 and an IPv6 address, or TCP and
/// a Unix socket.
///
/// accept() gives the connections of each as they come; where several have one, they take turns. It fails when one of
/// them fails, and the next accept() asks all of them again: after one has failed for good, it fails at once whenever
/// the others have no connection, so do not go on then. getPort() is the port that they have in common, or 0;
/// toString() names them all, "127.0.0.1:7000, [::1]:7000"; descriptor() is that of a single one.
///
/// Throws FAILED if there is none, or one is null. (ConnectionServer serves several receivers without this.)
std::unique_ptr<ConnectionReceiver> newAggregateReceiver(std::vector<std::unique_ptr<ConnectionReceiver>> receivers,
                                                         std::source_location where = std::source_location::current());

} // namespace v0
} // namespace troth
