// SPDX-License-Identifier: MIT
// Connections on the loopback addresses, made by the library and by plain sockets.
#pragma once

#include "../io/peer.h"

#include <troth/net/network.h>

#include <cstdint>
#include <memory>
#include <string_view>

namespace troth::test {

/// The address of a text that needs no look-up, or one that is quick.
std::unique_ptr<NetworkAddress> parse(IoTest& test, std::string_view text, std::uint16_t defaultPort = 0);

/// A receiver on `text`, such as "127.0.0.1:0".
std::unique_ptr<ConnectionReceiver> listenOn(IoTest& test, std::string_view text = "127.0.0.1:0");

enum class Family { IPV4, IPV6 };

/// A plain socket that is connected to `port`.
Peer connectTo(std::uint16_t port, Family family = Family::IPV4);
/// A plain listening socket that nobody accepts from, and its port.
Peer plainListener(std::uint16_t& port, int backlog = 16, Family family = Family::IPV4);
/// A port that nobody listens on: it was free a moment ago.
std::uint16_t unusedPort(Family family = Family::IPV4);

/// Accepts one connection; both ends are the library's.
StreamPair connectedPair(IoTest& test, std::string_view text = "127.0.0.1:0");

} // namespace troth::test
