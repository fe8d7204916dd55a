// SPDX-License-Identifier: MIT
// What is in a directory, and in those beneath it.
#pragma once

#include <troth/io/file.h>

#include <cstddef>
#include <memory>
#include <source_location>
#include <vector>

namespace troth {
inline namespace v0 {
namespace detail {

struct Opened;
using OpenedPtr = std::shared_ptr<Opened>;

/// What is in `path` beneath `at`, or `most` entries of it, sorted by name.
Promise<std::vector<DirectoryEntry>> list(OpenedPtr at, Path path, Symlinks symlinks, std::size_t most,
                                          std::source_location where);

/// See Directory::walk().
Promise<std::vector<WalkEntry>> walk(OpenedPtr at, Path top, Symlinks symlinks, std::size_t limit,
                                     std::source_location where);

} // namespace detail
} // namespace v0
} // namespace troth
