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
#include <fstream>

#include <net/if.h>
#include <netinet/in.h>

namespace troth {
inline namespace v0 {
namespace detail {
namespace {

constexpr std::size_t MAX_NAME = 253; // RFC 1035 §2.3.4, as text without the final dot
constexpr std::size_t MAX_LABEL = 63;
constexpr std::string_view UNIX_PATH = "unix:";
constexpr std::string_view UNIX_ABSTRACT = "unix-abstract:";

/// Takes the next word off `line`; it is empty at the end.
std::string_view takeWord(std::string_view& line) {
  constexpr std::string_view BLANKS = " \t\r";
  line.remove_prefix(std::min(line.find_first_not_of(BLANKS), line.size()));
  const std::string_view word = line.substr(0, line.find_first_of(BLANKS));
  line.remove_prefix(word.size());
  return word;
}

/// The port of a service, by its name or another of its names, in /etc/services (services(5)). getservbyname(3) might
/// ask a directory service over the network, and keep the loop waiting.
std::optional<std::uint16_t> portOfService(std::string_view service) {
  std::ifstream file("/etc/services");
  for (std::string text; std::getline(file, text);) {
    std::string_view line = text;
    line = line.substr(0, line.find('#'));
    bool found = takeWord(line) == service;
    const std::string_view port = takeWord(line); // such as "80/tcp"
    for (std::string_view alias = takeWord(line); !alias.empty() && !found; alias = takeWord(line))
      found = alias == service;
    std::uint16_t number;
    if (found && std::from_chars(port.data(), port.data() + port.size(), number).ec == std::errc()) return number;
  }
  return std::nullopt;
}

class Parser {
public:
  Parser(std::string_view text, std::source_location where) : text_(text), where_(where) {}

  ParsedAddress parse(std::uint16_t defaultPort) const {
    if (text_.empty()) fail("it is empty");
    if (isBlank(text_.front()) || isBlank(text_.back())) fail("it begins or ends with a blank");
    if (text_.starts_with(UNIX_PATH))
      return socket(SocketAddress::unixPath(unixName(text_.substr(UNIX_PATH.size())), where_));
    if (text_.starts_with(UNIX_ABSTRACT))
      return socket(SocketAddress::unixAbstract(unixName(text_.substr(UNIX_ABSTRACT.size())), where_));
    if (text_.front() == '[') return parseBrackets(defaultPort);
    const std::size_t colon = text_.find(':');
    if (colon != std::string_view::npos && text_.find(':', colon + 1) != std::string_view::npos) {
      const std::optional<SocketAddress> address = ipv6(text_);
      if (!address) fail("it has several colons but is not an IPv6 address (with a port: \"[address]:port\")");
      return socket(address->withPort(defaultPort));
    }
    const std::string_view host = text_.substr(0, colon);
    const std::uint16_t port = colon == std::string_view::npos ? defaultPort : parsePort(text_.substr(colon + 1));
    if (host.empty()) fail("the host is missing (\"*\" means all addresses of this machine)");
    if (host == "*") return {ParsedAddress::Kind::ANY, port, {}, {}};
    if (looksNumeric(host)) {
      const std::optional<SocketAddress> address = ipv4(host);
      if (!address) fail("it looks like an IPv4 address but is not four numbers from 0 to 255");
      return socket(address->withPort(port));
    }
    if (host == "unix" || host == "unix-abstract") // with a port it would be taken for one
      fail("the host cannot be told from a Unix socket (a host of this name is \"unix.\" or \"unix-abstract.\")");
    checkName(host);
    return {ParsedAddress::Kind::NAME, port, {}, std::string(host)};
  }

  [[noreturn]] void fail(std::string_view reason) const {
    throw Exception(Exception::Kind::FAILED, fmt::format("invalid address {}: {}", quote(text_), reason),
                    std::make_error_code(std::errc::invalid_argument), where_);
  }

private:
  std::string_view text_;
  std::source_location where_;

  static ParsedAddress socket(const SocketAddress& address) {
    return {ParsedAddress::Kind::SOCKET, address.port(), address, {}};
  }

  ParsedAddress parseBrackets(std::uint16_t defaultPort) const {
    const std::size_t end = text_.find(']');
    if (end == std::string_view::npos) fail("the bracket is not closed");
    const std::string_view rest = text_.substr(end + 1);
    if (!rest.empty() && rest.front() != ':') fail("after the bracket only \":port\" may follow");
    const std::optional<SocketAddress> address = ipv6(text_.substr(1, end - 1));
    if (!address) fail("what is in the brackets is not an IPv6 address");
    return socket(address->withPort(rest.empty() ? defaultPort : parsePort(rest.substr(1))));
  }

  std::string_view unixName(std::string_view name) const {
    if (name.empty()) fail("the name of the socket is missing");
    if (name.size() > SocketAddress::MAX_UNIX_NAME) fail("the name of the socket is longer than 107 bytes");
    if (std::ranges::any_of(name, isControl)) fail("the name of the socket has a control character");
    return name;
  }

  std::uint16_t parsePort(std::string_view text) const {
    if (text.empty()) fail("there is no port after the colon");
    if (std::ranges::all_of(text, isDigit)) {
      std::uint16_t port;
      if (std::from_chars(text.data(), text.data() + text.size(), port).ec != std::errc())
        fail("the port is larger than 65535");
      return port;
    }
    const std::optional<std::uint16_t> port = portOfService(text);
    if (!port) fail("the port is neither a number nor a service that /etc/services names");
    return *port;
  }

  static std::optional<SocketAddress> ipv4(std::string_view host) {
    if (host.find('\0') != std::string_view::npos) return std::nullopt;
    sockaddr_in address{};
    address.sin_family = AF_INET;
    if (uv_inet_pton(AF_INET, std::string(host).c_str(), &address.sin_addr) != 0) return std::nullopt;
    return SocketAddress::from(reinterpret_cast<const sockaddr&>(address), sizeof address);
  }

  // libuv's uv_ip6_addr passes over zones that do not exist, and over what follows the longest address.
  std::optional<SocketAddress> ipv6(std::string_view host) const {
    if (host.find('\0') != std::string_view::npos) return std::nullopt;
    const std::size_t percent = host.find('%');
    sockaddr_in6 address{};
    address.sin6_family = AF_INET6;
    if (uv_inet_pton(AF_INET6, std::string(host.substr(0, percent)).c_str(), &address.sin6_addr) != 0)
      return std::nullopt;
    if (percent != std::string_view::npos) address.sin6_scope_id = zoneIndex(host.substr(percent + 1));
    return SocketAddress::from(reinterpret_cast<const sockaddr&>(address), sizeof address);
  }

  // A name or number (RFC 4007 §11.2).
  std::uint32_t zoneIndex(std::string_view zone) const {
    if (const unsigned index = if_nametoindex(std::string(zone).c_str()); index != 0) return index;
    std::uint32_t index = 0;
    const auto [end, error] = std::from_chars(zone.data(), zone.data() + zone.size(), index);
    char name[IF_NAMESIZE];
    if (error != std::errc() || end != zone.data() + zone.size() || if_indextoname(index, name) == nullptr)
      fail("the zone after '%' is not a network interface of this machine");
    return index;
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
  static bool isControl(char c) { return (c >= '\0' && c < ' ') || c == '\x7f'; }

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

SocketAddress parseSocketAddress(std::string_view text, std::uint16_t defaultPort, std::source_location where) {
  const Parser parser(text, where);
  const ParsedAddress parsed = parser.parse(defaultPort);
  if (parsed.kind == ParsedAddress::Kind::NAME) parser.fail("it is a host name, where only a numeric address will do");
  if (parsed.kind == ParsedAddress::Kind::ANY) parser.fail("\"*\" stands for several addresses, where one is wanted");
  return *parsed.socket;
}

std::string formatAddress(std::string_view host, std::uint16_t port) {
  if (host.find(':') != std::string_view::npos) return fmt::format("[{}]:{}", host, port);
  return fmt::format("{}:{}", host, port);
}

} // namespace detail
} // namespace v0
} // namespace troth
