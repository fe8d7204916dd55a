// SPDX-License-Identifier: MIT
// Watching files and directories for changes.
#pragma once

#include <troth/runtime/promise.h>

#include <cstdint>
#include <memory>
#include <source_location>
#include <string>
#include <vector>

namespace troth {
inline namespace v0 {

class AsyncIo;

/// Something that happened to a file.
struct FileChange {
  enum class Kind : std::uint8_t {
    CHANGED, ///< The content or the attributes of the file are not what they were.
    RENAMED, ///< The name came, went, or means another file now: made, deleted, renamed.
    DROPPED  ///< More changes came than were kept, and the latest are not here: look for yourself.
  };

  Kind kind;
  /// The name in the directory that is watched; of a file that is watched, its own name without the directory. Empty
  /// if the system does not tell, and for DROPPED.
  std::string name;

  bool operator==(const FileChange&) const = default;
};

/// Tells what changes in a directory, but not in the directories below it, or what changes in one file.
///
/// What happens while nobody waits is kept: as many as MOST_KEPT changes, of which equal ones in a row count as one.
/// A change is a hint to look: the system merges them too, and how many it tells for one write is its own business.
///
/// It is the file or directory that is watched, not its path. If that is deleted or renamed, RENAMED with its own name
/// tells so; of a file that takes its place, which is how many editors save, this watch knows nothing: watch the
/// directory instead.
///
/// The system keeps so many changes for a loop that does not run (Linux: `fs.inotify.max_queued_events`, 16384); of
/// those beyond that libuv tells nothing.
///
/// Belongs to one thread. Destroying it rejects a pending nextChanges() with DISCONNECTED. A watch keeps a host's loop
/// alive.
class FileWatch {
public:
  static constexpr std::size_t MOST_KEPT = 1024;

  virtual ~FileWatch() = default;

  /// Takes the changes that have come since the last call.
  ///
  /// Completes:    when there is a change; at once if there is one already.
  /// Result:       all of them, in their order, at least one. If some were dropped, DROPPED is the last.
  /// Errors:       DISCONNECTED if the watch is destroyed.
  /// Cancellation: clean, even when it is ready: the changes are left for the next call.
  /// Overlap:      one at a time (a second throws FAILED).
  virtual Promise<std::vector<FileChange>>
  nextChanges(std::source_location where = std::source_location::current()) = 0;
};

/// Watches `path` from this call on. Throws FAILED, with `path` quoted, if there is no such file or directory;
/// OVERLOADED if the user has no watches left (Linux: `fs.inotify.max_user_watches`), or no descriptors.
std::unique_ptr<FileWatch> newFileWatch(AsyncIo& io, const std::string& path,
                                        std::source_location where = std::source_location::current());

} // namespace v0
} // namespace troth
