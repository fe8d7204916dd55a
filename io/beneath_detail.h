// SPDX-License-Identifier: MIT
// Opening what a relative path names without ever leaving the directory. Blocks: for threads of the pool.
#pragma once

#include <string_view>
#include <utility>

namespace troth {
inline namespace v0 {

enum class Symlinks : unsigned char;

namespace detail {

/// Owns a descriptor and closes it where it is destroyed.
class Descriptor {
public:
  Descriptor() noexcept = default;
  explicit Descriptor(int fd) noexcept : fd_(fd) {}
  Descriptor(Descriptor&& other) noexcept : fd_(other.release()) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Descriptor();

  int get() const noexcept { return fd_; }
  int release() noexcept { return std::exchange(fd_, -1); }

private:
  int fd_ = -1;
};

/// Flags of open() for a directory of which only the place is needed: no right to read it is.
extern const int PLACE_OF_DIRECTORY;
/// The same for anything.
extern const int PLACE;

/// As openat(), with O_CLOEXEC, but what `path`, and what symbolic links on the way, if they are followed, lead to is
/// beneath `directory`; else it fails with EXDEV. `path` is "." or as in a Path. Where a link is refused it fails with
/// ELOOP. Gives the descriptor, or a negative errno.
///
/// On Linux the kernel sees to it (openat2). Where there is no such call, or it is not allowed, as in some containers,
/// it is openByWalking().
int openBeneath(int directory, std::string_view path, int flags, unsigned mode, Symlinks symlinks) noexcept;

/// The same, a component at a time; refuses every symbolic link.
int openByWalking(int directory, std::string_view path, int flags, unsigned mode) noexcept;

} // namespace detail
} // namespace v0
} // namespace troth
