// SPDX-License-Identifier: MIT
// What TCP sockets are set to, by libuv where it can.
#include <troth/net/uv_tcp_options_detail.h>

#include <troth/runtime/uv/uv_error.h>

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <chrono>

#include <sys/socket.h>

namespace troth {
inline namespace v0 {
namespace detail {

void applyTcpOptions(uv_tcp_t& connection, const TcpOptions& options) noexcept {
  uv_tcp_nodelay(&connection, options.noDelay); // off, too: a connection has it from its listening socket
  if (options.keepAlive <= Duration::zero()) return;
  constexpr std::chrono::seconds MOST(32767); // Linux's MAX_TCP_KEEPIDLE
  const std::chrono::seconds idle = std::min(std::chrono::ceil<std::chrono::seconds>(options.keepAlive), MOST);
  uv_tcp_keepalive(&connection, 1, static_cast<unsigned>(idle.count()));
}

// The BSDs' and macOS's SO_REUSEPORT lets several bind, but gives all connections to one of them.
void setReusePort(const uv_tcp_t& socket, std::string_view operation, std::source_location where) {
#if defined(__linux__) && defined(SO_REUSEPORT)
  uv_os_fd_t fd;
  uvCheck(uv_fileno(reinterpret_cast<const uv_handle_t*>(&socket), &fd), operation, where);
  const int on = 1;
  if (setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) != 0)
    throw uvException(uv_translate_sys_error(errno), operation, where);
#else
  (void)socket;
  throwNoReusePort(operation, where);
#endif
}

void throwNoReusePort(std::string_view operation, std::source_location where) {
  throw Exception(Exception::Kind::UNIMPLEMENTED,
                  fmt::format("{}: reusePort: the system has no such thing for this kind of socket", operation), {},
                  where);
}

} // namespace detail
} // namespace v0
} // namespace troth
