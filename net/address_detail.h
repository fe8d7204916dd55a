// SPDX-License-Identifier: MIT
// The grammar of addresses: a host (a name, an IP address or "*") and a port.
#pragma once

#include <cstdint>
#include <source_location>
#include <string>
#include <string_view>

namespace troth {
inline namespace v0 {
namespace detail {

struct ParsedAddress {
  enum class Host : std::uint8_t { IPV4, IPV6, NAME, ANY };

  Host kind;
  std::string host; // without brackets; empty for ANY
  std::uint16_t port;
};

/// Parses `text` without asking anybody. Throws FAILED, quoting `text` and saying what is wrong with it.
ParsedAddress parseAddressText(std::string_view text, std::uint16_t defaultPort, std::source_location where);

/// "host:port", with brackets round an IPv6 host.
std::string formatAddress(std::string_view host, std::uint16_t port);

} // namespace detail
} // namespace v0
} // namespace troth
