// SPDX-License-Identifier: MIT
// Conversions of SocketAddress from and to what the system has, and to text.
//
// Equal addresses have equal bytes: what is taken over is the family, host, zone and port, and of a Unix socket the
// name with its length as bind(2) wants it; everything else is zero.
#include <troth/net/socket_address.h>

#include <troth/net/address_detail.h>
#include <troth/runtime/exception.h>
#include <troth/runtime/quote_detail.h>
#include <troth/runtime/uv/uv_error.h>

#include <fmt/format.h>
#include <uv.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include <netinet/in.h>
#include <sys/un.h>

namespace troth {
inline namespace v0 {
namespace {

constexpr std::size_t NAME_OFFSET = offsetof(sockaddr_un, sun_path);
static_assert(SocketAddress::MAX_UNIX_NAME == sizeof(sockaddr_un::sun_path) - 1);

template <typename Address>
Address as(const sockaddr* address) noexcept {
  Address copy;
  std::memcpy(&copy, address, sizeof copy);
  return copy;
}

SocketAddress fromSystem(int (*call)(int, sockaddr*, socklen_t*), const char* operation, int descriptor,
                         std::source_location where) {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  if (call(descriptor, reinterpret_cast<sockaddr*>(&address), &size) != 0)
    throw uvException(uv_translate_sys_error(errno), operation, where);
  return SocketAddress::from(reinterpret_cast<const sockaddr&>(address), size, where);
}

[[noreturn]] void failUnixName(std::string_view what, std::string_view name, std::string_view reason,
                               std::source_location where) {
  throw Exception(Exception::Kind::FAILED,
                  fmt::format("invalid {} of a Unix socket, {}: {}", what, detail::quote(name), reason),
                  std::make_error_code(std::errc::invalid_argument), where);
}

void checkUnixName(std::string_view what, std::string_view name, std::source_location where) {
  if (name.empty()) failUnixName(what, name, "it is empty", where);
  if (name.size() > SocketAddress::MAX_UNIX_NAME) failUnixName(what, name, "it is longer than 107 bytes", where);
}

std::string zoneName(std::uint32_t index) {
  char name[UV_IF_NAMESIZE];
  std::size_t size = sizeof name;
  return uv_if_indextoname(index, name, &size) == 0 ? std::string(name, size) : fmt::format("{}", index);
}

std::string withoutControlCharacters(std::string_view name) {
  std::string out;
  for (const char c : name) {
    if (static_cast<unsigned char>(c) < ' ' || c == '\x7f')
      out += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    else
      out += c;
  }
  return out;
}

} // namespace

SocketAddress::SocketAddress(const void* address, std::size_t size) noexcept : size_(static_cast<std::uint16_t>(size)) {
  static_assert(sizeof(sockaddr_un) <= sizeof storage_ && sizeof(sockaddr_in6) <= sizeof storage_);
  std::memcpy(storage_, address, size);
}

SocketAddress SocketAddress::parse(std::string_view text, std::uint16_t defaultPort, std::source_location where) {
  return detail::parseSocketAddress(text, defaultPort, where);
}

SocketAddress SocketAddress::from(const sockaddr& address, std::size_t size, std::source_location where) {
  if (address.sa_family == AF_INET && size >= sizeof(sockaddr_in)) {
    const auto given = as<sockaddr_in>(&address);
    sockaddr_in v4{};
    v4.sin_family = AF_INET;
    v4.sin_port = given.sin_port;
    v4.sin_addr = given.sin_addr;
    return {&v4, sizeof v4};
  }
  if (address.sa_family == AF_INET6 && size >= sizeof(sockaddr_in6)) {
    const auto given = as<sockaddr_in6>(&address);
    sockaddr_in6 v6{};
    v6.sin6_family = AF_INET6;
    v6.sin6_port = given.sin6_port;
    v6.sin6_addr = given.sin6_addr;
    v6.sin6_scope_id = given.sin6_scope_id;
    return {&v6, sizeof v6};
  }
  if (address.sa_family == AF_UNIX && size >= NAME_OFFSET) {
    sockaddr_un local{};
    size = std::min(size, sizeof local);
    std::memcpy(&local, &address, size);
    const std::size_t most = size - NAME_OFFSET;
    const bool isPath = most > 0 && local.sun_path[0] != '\0';
    if (!isPath) return {&local, size};
    const std::size_t length = ::strnlen(local.sun_path, most);
    std::memset(local.sun_path + length, 0, sizeof local.sun_path - length);
    return {&local, std::min(NAME_OFFSET + length + 1, sizeof local)}; // with the NUL, if there is room
  }
  throw Exception(Exception::Kind::FAILED,
                  fmt::format("an address of family {} and {} bytes is neither IPv4, IPv6 nor that of a Unix socket",
                              address.sa_family, size),
                  std::make_error_code(std::errc::address_family_not_supported), where);
}

SocketAddress SocketAddress::ofSocket(int descriptor, std::source_location where) {
  return fromSystem(::getsockname, "asking a socket for its address", descriptor, where);
}

SocketAddress SocketAddress::ofPeer(int descriptor, std::source_location where) {
  return fromSystem(::getpeername, "asking a socket for its peer's address", descriptor, where);
}

SocketAddress SocketAddress::any(Family family, std::uint16_t port, std::source_location where) {
  if (family == Family::UNIX) detail::throwMisuse("SocketAddress::any: no Unix socket stands for all", where);
  if (family == Family::IPV6) {
    sockaddr_in6 v6{};
    v6.sin6_family = AF_INET6;
    v6.sin6_port = htons(port);
    return {&v6, sizeof v6};
  }
  sockaddr_in v4{};
  v4.sin_family = AF_INET;
  v4.sin_port = htons(port);
  return {&v4, sizeof v4};
}

SocketAddress SocketAddress::unixPath(std::string_view path, std::source_location where) {
  checkUnixName("path", path, where);
  if (path.find('\0') != std::string_view::npos) failUnixName("path", path, "it has a NUL byte", where);
  sockaddr_un local{};
  local.sun_family = AF_UNIX;
  std::memcpy(local.sun_path, path.data(), path.size());
  return {&local, NAME_OFFSET + path.size() + 1};
}

SocketAddress SocketAddress::unixAbstract(std::string_view name, std::source_location where) {
  checkUnixName("abstract name", name, where);
  sockaddr_un local{};
  local.sun_family = AF_UNIX;
  std::memcpy(local.sun_path + 1, name.data(), name.size());
  return {&local, NAME_OFFSET + 1 + name.size()};
}

SocketAddress::Family SocketAddress::family() const noexcept {
  switch (get()->sa_family) {
  case AF_INET:
    return Family::IPV4;
  case AF_INET6:
    return Family::IPV6;
  default:
    return Family::UNIX;
  }
}

bool SocketAddress::isAbstract() const noexcept {
  return isUnix() && size_ > NAME_OFFSET && storage_[NAME_OFFSET] == std::byte(0);
}

std::string_view SocketAddress::unixName() const noexcept {
  if (!isUnix() || size_ == NAME_OFFSET) return {};
  const std::string_view name(reinterpret_cast<const char*>(storage_) + NAME_OFFSET, size_ - NAME_OFFSET);
  return isAbstract() ? name.substr(1) : name.substr(0, name.find('\0'));
}

std::uint16_t SocketAddress::port() const noexcept {
  switch (family()) {
  case Family::IPV4:
    return ntohs(as<sockaddr_in>(get()).sin_port);
  case Family::IPV6:
    return ntohs(as<sockaddr_in6>(get()).sin6_port);
  default:
    return 0;
  }
}

SocketAddress SocketAddress::withPort(std::uint16_t port) const noexcept {
  static_assert(offsetof(sockaddr_in, sin_port) == offsetof(sockaddr_in6, sin6_port));
  SocketAddress copy = *this;
  const in_port_t number = htons(port);
  if (!isUnix()) std::memcpy(copy.storage_ + offsetof(sockaddr_in, sin_port), &number, sizeof number);
  return copy;
}

std::string SocketAddress::toString() const {
  char host[INET6_ADDRSTRLEN] = "?";
  if (family() == Family::IPV4) {
    const auto v4 = as<sockaddr_in>(get());
    uv_ip4_name(&v4, host, sizeof host);
    return detail::formatAddress(host, port());
  }
  if (family() == Family::IPV6) {
    const auto v6 = as<sockaddr_in6>(get());
    uv_ip6_name(&v6, host, sizeof host);
    if (v6.sin6_scope_id == 0) return detail::formatAddress(host, port());
    return detail::formatAddress(fmt::format("{}%{}", host, zoneName(v6.sin6_scope_id)), port());
  }
  return (isAbstract() ? "unix-abstract:" : "unix:") + withoutControlCharacters(unixName());
}

bool operator==(const SocketAddress& a, const SocketAddress& b) noexcept {
  return a.size_ == b.size_ && std::memcmp(a.storage_, b.storage_, a.size_) == 0;
}

} // namespace v0
} // namespace troth
