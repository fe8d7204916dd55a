// SPDX-License-Identifier: MIT
// How much a socket holds for its peer: Linux tells by SIOCOUTQ (tcp(7), unix(7)).
#include <troth/io/undelivered_detail.h>

#if __has_include(<linux/sockios.h>)
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#endif

namespace troth {
inline namespace v0 {
namespace detail {

#ifdef SIOCOUTQ
namespace {

// Then the number stays what it was, and nothing of it will ever be delivered.
bool hasBeenReset(int fd) noexcept {
  tcp_info info;
  socklen_t size = sizeof info;
  return ::getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) == 0 && info.tcpi_state == TCP_CLOSE;
}

} // namespace
#endif

std::uint64_t heldBySocket([[maybe_unused]] int fd) noexcept {
#ifdef SIOCOUTQ
  int held = 0;
  if (::ioctl(fd, SIOCOUTQ, &held) == 0 && held > 0 && !hasBeenReset(fd)) return static_cast<std::uint64_t>(held);
#endif
  return 0;
}

} // namespace detail
} // namespace v0
} // namespace troth
