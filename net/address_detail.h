// SPDX-License-Identifier: MIT
// The grammar of addresses: a host (a name, an IP address or "*") and a port, or the name of a Unix socket.
#pragma once

#include <troth/net/socket_address.h>

#include <cstdint>
#include <optional>
#include <source_location>
#include <string>
#include <string_view>

namespace troth {
inline namespace v0 {
namespace detail {

/// What the text of an address says, before any name is looked up.
struct ParsedAddress {
  enum class Kind : std::uint8_t {
    SOCKET, // an IP address with its port, or a Unix socket: it is in `socket`
    NAME,   // a host name: it is in `name`
    ANY     // "*"
  };

  Kind kind;
  std::uint16_t port; // 0 for a Unix socket
  std::optional<SocketAddress> socket;
  std::string name;
};

/// Parses `text` without asking any other machine: the port of a service is read in /etc/services, the zone of an IPv6
/// address is an interface of this machine. Throws FAILED, quoting `text` and saying what is wrong with it.
ParsedAddress parseAddressText(std::string_view text, std::uint16_t defaultPort, std::source_location where);

/// The same for what must be a SOCKET.
SocketAddress parseSocketAddress(std::string_view text, std::uint16_t defaultPort, std::source_location where);

/// "host:port", with brackets round an IPv6 host.
std::string formatAddress(std::string_view host, std::uint16_t port);

} // namespace detail
} // namespace v0
} // namespace troth
