// SPDX-License-Identifier: MIT
// Opening what a relative path names without ever leaving the directory. Blocks: for threads of the pool.
#pragma once

#include <troth/io/descriptor.h>
#include <troth/io/file.h>

#include <algorithm>
#include <string_view>

namespace troth {
inline namespace v0 {
namespace detail {

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

/// openBeneath() into `result`. Gives 0 or the negative errno.
inline int openBeneath(int directory, const Path& path, int flags, unsigned mode, Symlinks symlinks,
                       OwnedDescriptor& result) {
  result = OwnedDescriptor(openBeneath(directory, path.toString(), flags, mode, symlinks));
  return std::min(result.get(), 0);
}

} // namespace detail
} // namespace v0
} // namespace troth
