// SPDX-License-Identifier: MIT
// Parsing addresses. Strict: what is neither an IP address nor a host name (RFC 1123 §2.1) is refused here,
// before a resolver sees it, which might cut it at a NUL or read "0x7f.1" as an address.
#include <troth/net/address_detail.h>

#include <troth/runtime/exception.h>
#include <troth/runtime/quote_detail.h>

#include <fmt/format.h>
#include <uv.h>

#include <algorithm>
#include <charconv>

namespace troth {
inline namespace v0 {
namespace detail {
namespace {

constexpr std::size_t MAX_NAME = 253; // RFC 1035 §2.3.4, as text without the final dot
constexpr std::size_t MAX_LABEL = 63;

class Parser {
public:
  Parser(std::string_view text, std::source_location where) : text_(text), where_(where) {}

  ParsedAddress parse(std::uint16_t defaultPort) const {
    if (text_.empty()) fail("it is empty");
    if (isBlank(text_.front()) || isBlank(text_.back())) fail("it begins or ends with a blank");
    if (text_.starts_with("unix:")) fail("this network reaches IP addresses and host names only");
    std::string_view host;
    std::string_view port;
    bool hasPort = false;
    if (text_.front() == '[') {
      const std::size_t end = text_.find(']');
      if (end == std::string_view::npos) fail("the bracket is not closed");
      host = text_.substr(1, end - 1);
      const std::string_view rest = text_.substr(end + 1);
      if (!rest.empty() && rest.front() != ':') fail("after the bracket only \":port\" may follow");
      hasPort = !rest.empty();
      if (hasPort) port = rest.substr(1);
      if (!isIpv6(host)) fail("what is in the brackets is not an IPv6 address");
      return {ParsedAddress::Host::IPV6, std::string(host), hasPort ? parsePort(port) : defaultPort};
    }
    const std::size_t colon = text_.find(':');
    if (colon != std::string_view::npos && text_.find(':', colon + 1) != std::string_view::npos) {
      if (!isIpv6(text_)) fail("it has several colons but is not an IPv6 address (with a port: \"[address]:port\")");
      return {ParsedAddress::Host::IPV6, std::string(text_), defaultPort};
    }
    host = text_.substr(0, colon);
    const std::uint16_t number = colon == std::string_view::npos ? defaultPort : parsePort(text_.substr(colon + 1));
    if (host.empty()) fail("the host is missing (\"*\" means all addresses of this machine)");
    if (host == "*") return {ParsedAddress::Host::ANY, {}, number};
    if (looksNumeric(host)) {
      if (!isIpv4(host)) fail("it looks like an IPv4 address but is not four numbers from 0 to 255");
      return {ParsedAddress::Host::IPV4, std::string(host), number};
    }
    checkName(host);
    return {ParsedAddress::Host::NAME, std::string(host), number};
  }

private:
  std::string_view text_;
  std::source_location where_;

  [[noreturn]] void fail(std::string_view reason) const {
    throw Exception(Exception::Kind::FAILED, fmt::format("invalid address {}: {}", quote(text_), reason),
                    std::make_error_code(std::errc::invalid_argument), where_);
  }

  std::uint16_t parsePort(std::string_view digits) const {
    if (digits.empty()) fail("there is no port after the colon");
    unsigned long value = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    if (error == std::errc::result_out_of_range || (error == std::errc() && value > 65535))
      fail("the port is larger than 65535");
    if (error != std::errc() || end != digits.data() + digits.size()) fail("the port is not a number");
    return static_cast<std::uint16_t>(value);
  }

  static bool isIpv4(std::string_view host) {
    sockaddr_in address;
    return host.find('\0') == std::string_view::npos && uv_ip4_addr(std::string(host).c_str(), 0, &address) == 0;
  }

  // libuv's uv_ip6_addr passes over zones that do not exist, and over what follows the longest address.
  bool isIpv6(std::string_view host) const {
    const std::size_t percent = host.find('%');
    if (host.find('\0') != std::string_view::npos) return false;
    in6_addr bytes;
    if (uv_inet_pton(AF_INET6, std::string(host.substr(0, percent)).c_str(), &bytes) != 0) return false;
    if (percent == std::string_view::npos) return true;
    sockaddr_in6 address;
    if (uv_ip6_addr(std::string(host).c_str(), 0, &address) != 0 || address.sin6_scope_id == 0)
      fail("the zone after '%' is not the name of a network interface of this machine");
    return true;
  }

  // A name whose last label is a number would be taken for an IPv4 address in one of its older notations by
  // some resolvers ("127.1", "0x7f000001"); as in the URL standard's host parser, it must be a plain one.
  static bool looksNumeric(std::string_view host) {
    if (host.ends_with('.')) host.remove_suffix(1);
    std::string_view last = host.substr(host.rfind('.') + 1);
    if (last.empty()) return false;
    if (std::ranges::all_of(last, isDigit)) return true;
    if (!last.starts_with("0x") && !last.starts_with("0X")) return false;
    last.remove_prefix(2);
    return std::ranges::all_of(last,
                               [](char c) { return isDigit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'); });
  }

  static bool isBlank(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }
  static bool isDigit(char c) { return c >= '0' && c <= '9'; }

  static bool isNameCharacter(char c) {
    return isDigit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' || c == '_';
  }

  void checkName(std::string_view name) const {
    if (name.ends_with('.')) name.remove_suffix(1);
    if (name.size() > MAX_NAME) fail("the host name is longer than 253 bytes");
    while (true) {
      const std::size_t dot = name.find('.');
      const std::string_view label = name.substr(0, dot);
      if (label.empty()) fail("the host name has an empty part");
      if (label.size() > MAX_LABEL) fail("a part of the host name is longer than 63 bytes");
      if (!std::ranges::all_of(label, isNameCharacter))
        fail("the host name has a character other than letters, digits, '-', '_' and '.'");
      if (label.front() == '-' || label.back() == '-') fail("a part of the host name begins or ends with '-'");
      if (dot == std::string_view::npos) return;
      name.remove_prefix(dot + 1);
    }
  }
};

} // namespace

ParsedAddress parseAddressText(std::string_view text, std::uint16_t defaultPort, std::source_location where) {
  return Parser(text, where).parse(defaultPort);
}

std::string formatAddress(std::string_view host, std::uint16_t port) {
  if (host.find(':') != std::string_view::npos) return fmt::format("[{}]:{}", host, port);
  return fmt::format("{}:{}", host, port);
}

} // namespace detail
} // namespace v0
} // namespace troth
