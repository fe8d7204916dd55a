// SPDX-License-Identifier: MIT
// Conversions of SocketAddress, all by libuv.
#include <troth/net/uv_socket_address_detail.h>

#include <troth/net/address_detail.h>
#include <troth/runtime/uv/uv_error.h>

#include <cstring>

namespace troth {
inline namespace v0 {
namespace detail {

SocketAddress SocketAddress::ipv4(const std::string& host, std::uint16_t port) {
  SocketAddress address;
  uvCheck(uv_ip4_addr(host.c_str(), port, &address.storage_.v4), host);
  return address;
}

SocketAddress SocketAddress::ipv6(const std::string& host, std::uint16_t port) {
  SocketAddress address;
  uvCheck(uv_ip6_addr(host.c_str(), port, &address.storage_.v6), host);
  return address;
}

SocketAddress SocketAddress::from(const sockaddr& address, std::uint16_t port) noexcept {
  SocketAddress copy;
  if (address.sa_family == AF_INET6) {
    std::memcpy(&copy.storage_.v6, &address, sizeof copy.storage_.v6);
    copy.storage_.v6.sin6_port = htons(port);
  } else {
    std::memcpy(&copy.storage_.v4, &address, sizeof copy.storage_.v4);
    copy.storage_.v4.sin_port = htons(port);
  }
  return copy;
}

SocketAddress SocketAddress::ofSocket(const uv_tcp_t& socket) {
  SocketAddress address;
  int size = sizeof address.storage_;
  uvCheck(uv_tcp_getsockname(&socket, &address.storage_.any, &size), "asking a socket for its address");
  return address;
}

std::uint16_t SocketAddress::port() const noexcept {
  return ntohs(storage_.any.sa_family == AF_INET6 ? storage_.v6.sin6_port : storage_.v4.sin_port);
}

std::string SocketAddress::toString() const {
  char host[INET6_ADDRSTRLEN] = "?";
  if (storage_.any.sa_family == AF_INET6)
    uv_ip6_name(&storage_.v6, host, sizeof host);
  else
    uv_ip4_name(&storage_.v4, host, sizeof host);
  return formatAddress(host, port());
}

} // namespace detail
} // namespace v0
} // namespace troth
