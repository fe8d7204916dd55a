// SPDX-License-Identifier: MIT
// What addresses stand for, and what must not be connected to or listened on.
#include <troth/net/target_detail.h>

#include <troth/net/happy_eyeballs_detail.h>
#include <troth/runtime/quote_detail.h>

#include <fmt/format.h>

#include <system_error>
#include <utility>

namespace troth {
inline namespace v0 {
namespace detail {

Target targetOf(const ParsedAddress& parsed) {
  if (parsed.kind == ParsedAddress::Kind::SOCKET) return {{*parsed.socket}, parsed.socket->toString(), false};
  // The IPv6 wildcard takes IPv4 connections too.
  return {{SocketAddress::any(SocketAddress::Family::IPV6, parsed.port),
           SocketAddress::any(SocketAddress::Family::IPV4, parsed.port)},
          formatAddress("*", parsed.port),
          true};
}

Target targetOfHost(const ParsedAddress& parsed, std::vector<SocketAddress> found, std::source_location where) {
  if (found.empty()) // the system's resolver never gives that
    throw Exception(Exception::Kind::FAILED,
                    fmt::format("looking up host {}: the resolver has given no address", quote(parsed.name)), {},
                    where);
  for (SocketAddress& address : found) address = address.withPort(parsed.port);
  interleaveFamilies(found);
  return {std::move(found), formatAddress(parsed.name, parsed.port), false};
}

void requireConnectable(const Target& target, std::source_location where) {
  if (target.isWildcard)
    throwMisuse(fmt::format("cannot connect to {}: \"*\" is for listening; name one host", target.name), where);
  if (target.addresses.front().port() == 0 && !target.addresses.front().isUnix())
    throwMisuse(fmt::format("cannot connect to {}: the address has no port", target.name), where);
}

void requireAllowed(const PeerFilter* filter, const SocketAddress& address, std::source_location where) {
  if (filter == nullptr || filter->allows(address)) return;
  throw Exception(Exception::Kind::FAILED,
                  fmt::format("{}: restrictPeers() does not allow this address", address.toString()),
                  std::make_error_code(std::errc::permission_denied), where);
}

void requireListening(const PeerFilter* filter, const SocketAddress& address, std::string_view operation,
                      std::string_view name, std::source_location where) {
  if (filter == nullptr || filter->allowsListening(address)) return;
  throw Exception(Exception::Kind::FAILED,
                  fmt::format("{} {}: restrictPeers() allows no peer of such an address", operation, name),
                  std::make_error_code(std::errc::permission_denied), where);
}

void requireBacklog(const ListenOptions& options, std::string_view name, std::source_location where) {
  if (options.backlog < 1)
    throwMisuse(fmt::format("cannot listen on {}: the backlog is {}", name, options.backlog), where);
}

} // namespace detail
} // namespace v0
} // namespace troth
