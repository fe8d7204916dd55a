// SPDX-License-Identifier: MIT
// How much a socket holds for its peer: Linux tells by SIOCOUTQ (tcp(7), unix(7)).
#include <troth/io/undelivered_detail.h>

#if __has_include(<linux/sockios.h>)
#include <linux/sockios.h>
#include <sys/ioctl.h>
#endif

namespace troth {
inline namespace v0 {
namespace detail {

std::uint64_t heldBySocket([[maybe_unused]] int fd) noexcept {
#ifdef SIOCOUTQ
  int held = 0;
  if (::ioctl(fd, SIOCOUTQ, &held) == 0 && held > 0) return static_cast<std::uint64_t>(held);
#endif
  return 0;
}

} // namespace detail
} // namespace v0
} // namespace troth
