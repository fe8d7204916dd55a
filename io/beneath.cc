// SPDX-License-Identifier: MIT
// openat2(), or a walk from component to component where the kernel has none.
#include <troth/io/beneath_detail.h>

#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#if defined(__linux__) && __has_include(<linux/openat2.h>)
#include <linux/openat2.h>
#include <sys/syscall.h>
#define TROTH_HAS_OPENAT2
#endif

namespace troth {
inline namespace v0 {
namespace detail {

#ifdef O_PATH
const int PLACE = O_PATH;
#else
const int PLACE = O_RDONLY | O_NONBLOCK;
#endif
const int PLACE_OF_DIRECTORY = PLACE | O_DIRECTORY;

namespace {

/// A name for the system: with a NUL, and not from the heap.
class Name {
public:
  explicit Name(std::string_view text) noexcept : fits_(text.size() < sizeof text_) {
    if (!fits_) return;
    std::memcpy(text_, text.data(), text.size());
    text_[text.size()] = '\0';
  }
  bool fits() const noexcept { return fits_; }
  const char* get() const noexcept { return text_; }

private:
  bool fits_;
  char text_[Path::MAX_SIZE + 1];
};

int openat(int directory, const char* name, int flags, unsigned mode) noexcept {
  for (;;) {
    const int fd = ::openat(directory, name, flags | O_CLOEXEC, mode);
    if (fd >= 0) return fd;
    if (errno != EINTR) return -errno;
  }
}

bool isSymlink(int directory, const char* name) noexcept {
  struct stat info {};
  return ::fstatat(directory, name, &info, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(info.st_mode);
}

bool isSymlink(int fd) noexcept {
  struct stat info {};
  return ::fstat(fd, &info) == 0 && S_ISLNK(info.st_mode);
}

int openComponent(int directory, std::string_view component, int flags, unsigned mode) noexcept {
  const Name name(component);
  if (!name.fits()) return -ENAMETOOLONG;
  OwnedDescriptor opened(openat(directory, name.get(), flags | O_NOFOLLOW, mode));
  // The place of a link can be opened, and where a directory is wanted, a link is only said to be none.
  const bool refused =
      opened.get() >= 0 ? isSymlink(opened.get()) : opened.get() == -ENOTDIR && isSymlink(directory, name.get());
  return refused ? -ELOOP : opened.release();
}

} // namespace

int openByWalking(int directory, std::string_view path, int flags, unsigned mode) noexcept {
  OwnedDescriptor reached;
  for (;;) {
    const int from = reached.get() >= 0 ? reached.get() : directory;
    const std::size_t slash = path.find('/');
    if (slash == std::string_view::npos) return openComponent(from, path, flags, mode);
    const int next = openComponent(from, path.substr(0, slash), PLACE_OF_DIRECTORY, 0);
    if (next < 0) return next;
    reached = OwnedDescriptor(next);
    path.remove_prefix(slash + 1);
  }
}

int openBeneath(int directory, std::string_view path, int flags, unsigned mode, Symlinks symlinks) noexcept {
#ifdef TROTH_HAS_OPENAT2
  // A rename near the path at the wrong moment gives EAGAIN (openat2(2)).
  constexpr int TRIES = 100;
  const Name name(path);
  if (!name.fits()) return -ENAMETOOLONG;
  open_how how{};
  how.flags = static_cast<unsigned>(flags | O_CLOEXEC);
  how.mode = (flags & O_CREAT) != 0 ? mode : 0;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS;
  if (symlinks == Symlinks::REFUSE) how.resolve |= RESOLVE_NO_SYMLINKS;
  for (int tries = 0; tries < TRIES; ++tries) {
    const long fd = ::syscall(SYS_openat2, directory, name.get(), &how, sizeof how);
    if (fd >= 0) return static_cast<int>(fd);
    if (errno == ENOSYS || errno == EPERM) return openByWalking(directory, path, flags, mode);
    if (errno != EINTR && errno != EAGAIN) return -errno;
  }
  return -EAGAIN;
#else
  static_cast<void>(symlinks);
  return openByWalking(directory, path, flags, mode);
#endif
}

} // namespace detail
} // namespace v0
} // namespace troth
