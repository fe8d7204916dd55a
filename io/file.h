// SPDX-License-Identifier: MIT
// Directories as capabilities, files with positioned reading and writing, and files as streams.
#pragma once

#include <troth/io/path.h>
#include <troth/io/stream.h>
#include <troth/runtime/promise.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <source_location>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace troth {
inline namespace v0 {

class AsyncIo;

/// What a directory does with symbolic links in the paths that it is given. Neither lets a path lead out of it.
enum class Symlinks : std::uint8_t {
  FOLLOW_INSIDE, ///< Follows those that lead to something inside, and refuses others (EXDEV). Where the system has no
                 ///< safe way to follow them (it is Linux' openat2), all are refused (ELOOP).
  REFUSE         ///< Refuses each with ELOOP.
};

/// How a file is opened.
enum class FileMode : std::uint8_t {
  READ,       ///< To read; it must exist.
  MODIFY,     ///< To read and write; it must exist.
  CREATE,     ///< To read and write; it is made if it does not exist.
  CREATE_NEW, ///< To read and write; it must not exist.
  REPLACE,    ///< To read and write; it is made or emptied. See also Directory::replaceFile().
  APPEND      ///< To write; it is made if it does not exist. Every write goes to its end, whatever the offset.
};

enum class FileType : std::uint8_t { REGULAR, DIRECTORY, SYMLINK, OTHER };

struct FileInfo {
  FileType type;
  std::uint64_t size;                             ///< In bytes.
  std::chrono::system_clock::time_point modified; ///< The nearest time that the clock has.
  unsigned mode;                                  ///< The permissions: the lower twelve bits of Unix' st_mode.
};

struct DirectoryEntry {
  std::string name;
  FileType type; ///< Of the entry itself: a symbolic link is SYMLINK.
};

struct WalkEntry {
  Path path; ///< From the directory that was walked.
  FileType type;
};

/// An open file, which is closed, in the background, when this is destroyed.
///
/// Operations run in libuv's thread pool and so never block the loop. They may overlap as they like; whoever writes
/// and reads the same bytes at the same time sees some of each. Belongs to one thread. Destroying a file while an
/// operation is pending rejects it with DISCONNECTED. Errors name the file, and have the system's code:
/// `open "/x/y": no such file or directory (ENOENT)`.
///
/// Cancelling is deferred: what a thread of the pool has begun ends in the background, in memory of its own; what none
/// has begun is not done.
class File {
public:
  ~File();
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  /// Reads what is at `offset`, until `buffer` is full or the file ends.
  ///
  /// Completes:    when that is done, or on error; never inside this call.
  /// Result:       the number of bytes read; less than `buffer.size()` only at the end of the file, where it may be 0.
  /// Errors:       those of the system, whatever had been read before.
  /// Cancellation: deferred; `buffer` is not touched again.
  /// Lifetime:     `buffer` stays alive until the promise is taken or destroyed.
  /// Overlap:      any number.
  Promise<std::size_t> read(std::uint64_t offset, std::span<std::byte> buffer,
                            std::source_location where = std::source_location::current());

  /// Writes all of `bytes` to `offset`; what is between the end of the file and there becomes zeros. At most 64 KiB at
  /// a time are copied.
  ///
  /// Completes:    when the system has taken every byte, or on error; to have them on the disk, sync().
  /// Errors:       those of the system, such as ENOSPC; how much was written is not known.
  /// Cancellation: deferred: a part may have been written, and 64 KiB more may still be. `bytes` is not touched again.
  /// Lifetime:     `bytes` stays alive until the promise is taken or destroyed.
  /// Overlap:      any number.
  Promise<void> write(std::uint64_t offset, std::span<const std::byte> bytes,
                      std::source_location where = std::source_location::current());
  /// The same for a text. It is not copied as a whole: it stays alive until the promise is taken or destroyed.
  Promise<void> write(std::uint64_t offset, std::string_view text,
                      std::source_location where = std::source_location::current()) {
    return write(offset, asBytes(text), where);
  }

  /// What the system knows of the file.
  ///
  /// Completes:    when that is there; never inside this call.
  /// Errors:       those of the system.
  /// Cancellation: deferred.
  /// Overlap:      any number.
  Promise<FileInfo> stat(std::source_location where = std::source_location::current());
  /// The same for its size alone, in bytes.
  Promise<std::uint64_t> size(std::source_location where = std::source_location::current());

  /// Makes what was written, and the file's size and times, outlive a crash of the machine.
  ///
  /// Completes:    when the disk says so; never inside this call.
  /// Errors:       those of the system; some of what was written before may be lost then.
  /// Cancellation: deferred.
  /// Overlap:      any number; what is being written may be left out.
  Promise<void> sync(std::source_location where = std::source_location::current());
  /// The same without the times, which may be faster.
  Promise<void> dataSync(std::source_location where = std::source_location::current());

  /// Cuts the file to `size` bytes, or fills it with zeros up to there.
  ///
  /// Completes:    when that is done; never inside this call.
  /// Errors:       those of the system.
  /// Cancellation: deferred.
  /// Overlap:      any number.
  Promise<void> truncate(std::uint64_t size, std::source_location where = std::source_location::current());

private:
  struct Parts;
  std::unique_ptr<Parts> parts_;

  explicit File(std::unique_ptr<Parts> parts) noexcept;
  friend class Directory;
  friend std::unique_ptr<AsyncInputStream> newFileInputStream(File& file, std::uint64_t offset);
  friend std::unique_ptr<AsyncOutputStream> newFileOutputStream(File& file, std::uint64_t offset);
};

/// An open directory: the right to what is beneath it, and to nothing else. Whatever a Path says, and wherever symbolic
/// links lead, no operation leaves it.
///
/// Operations run in libuv's thread pool and so never block the loop. What a thread of the pool has begun when its
/// promise is destroyed is done to its end in the background, in memory of its own; what none has begun is not done.
/// Errors name the path, and have the system's code: `open "/x/y": no such file or directory (ENOENT)`. Belongs to one
/// thread. Destroying a directory while an operation is pending rejects it with DISCONNECTED; files and directories
/// that were opened here live on.
class Directory {
public:
  ~Directory();
  Directory(const Directory&) = delete;
  Directory& operator=(const Directory&) = delete;

  /// Opens a regular file. Anything else is refused, and does not block: a directory with EISDIR, a device, a FIFO or
  /// a terminal with ESPIPE, a socket with ENXIO. One that is made gets `permissions` (at most 07777) less the
  /// process's umask.
  ///
  /// Completes:    when it is open, or on error; never inside this call.
  /// Result:       the file, which may outlive this directory.
  /// Errors:       those of the system; EXDEV or ELOOP for a symbolic link that is refused.
  /// Cancellation: deferred: a file that does not exist may still be made, or be emptied.
  /// Overlap:      any number.
  Promise<std::unique_ptr<File>> openFile(Path path, FileMode mode = FileMode::READ, unsigned permissions = 0666,
                                          std::source_location where = std::source_location::current());
  /// The same, but the result is null if the file, or a directory on the way, does not exist.
  Promise<std::unique_ptr<File>> tryOpenFile(Path path, FileMode mode = FileMode::READ,
                                             std::source_location where = std::source_location::current());

  /// Opens a file without a name, to read and write, which is gone when it is closed. Nobody else can open it.
  ///
  /// Completes:    when it is open, or on error; never inside this call.
  /// Result:       the file, which may outlive this directory.
  /// Errors:       those of the system.
  /// Cancellation: deferred: it is closed again.
  /// Overlap:      any number.
  Promise<std::unique_ptr<File>> temporaryFile(std::source_location where = std::source_location::current());

  /// Opens a directory beneath this one, which treats symbolic links in the same way.
  ///
  /// Completes:    when it is open, or on error; never inside this call.
  /// Result:       the directory, which may outlive this one.
  /// Errors:       those of the system; EXDEV or ELOOP for a symbolic link that is refused.
  /// Cancellation: deferred: it is closed again.
  /// Overlap:      any number.
  Promise<std::unique_ptr<Directory>> openSubdir(Path path,
                                                 std::source_location where = std::source_location::current());

  /// Makes a file have `contents`, which are copied: others see all of the old ones or all of the new. They are written
  /// to a file beside it with a name of its own (".troth-…"), synced, given the name, and the directory is synced.
  /// The permissions to read, write and execute are those of the file that was there, or 0666 less the umask; its
  /// owner, links and the like are those of a new file. A symbolic link is replaced itself.
  ///
  /// Completes:    when the new contents would outlive a crash of the machine, or on error; never inside this call.
  /// Errors:       those of the system; the old file is untouched then, unless it was the sync of the directory.
  /// Cancellation: deferred: nothing happens, or all of it. The other file is removed in any case, short of a crash.
  /// Overlap:      any number; the last one wins.
  Promise<void> replaceFile(Path path, std::span<const std::byte> contents,
                            std::source_location where = std::source_location::current());
  /// The same for a text.
  Promise<void> replaceFile(Path path, std::string_view contents,
                            std::source_location where = std::source_location::current()) {
    return replaceFile(std::move(path), asBytes(contents), where);
  }

  /// What is in a directory, without "." and "..".
  ///
  /// Completes:    when all is there, or on error; never inside this call.
  /// Result:       the entries, sorted by name: as many as there are. Where others may make more than there is memory
  ///               for, use walk().
  /// Errors:       those of the system; EXDEV or ELOOP for a symbolic link that is refused.
  /// Cancellation: deferred.
  /// Overlap:      any number.
  Promise<std::vector<DirectoryEntry>> list(Path path = {},
                                            std::source_location where = std::source_location::current());

  /// What is in a directory and in all those beneath it. Symbolic links beneath it are listed and not followed, also
  /// should they take the place of a directory meanwhile. Directories that vanish are taken for empty.
  ///
  /// Completes:    when all is there, or on error; never inside this call.
  /// Result:       the entries, at most `limit`, depth first: each directory before what is in it, neighbours sorted by
  ///               name.
  /// Errors:       those of the system; FAILED if there are more than `limit` entries, or a path is too long.
  /// Cancellation: deferred: one directory may still be read.
  /// Overlap:      any number.
  Promise<std::vector<WalkEntry>> walk(Path path, std::size_t limit,
                                       std::source_location where = std::source_location::current());

  /// What the system knows of whatever is there. A symbolic link is followed, if this directory does so.
  ///
  /// Completes:    when that is there; never inside this call.
  /// Errors:       those of the system; EXDEV or ELOOP for a symbolic link that is refused.
  /// Cancellation: deferred.
  /// Overlap:      any number.
  Promise<FileInfo> stat(Path path, std::source_location where = std::source_location::current());

  // The following work on the entry that a path names: a symbolic link there is not followed. They throw FAILED for
  // ".", which is no entry.

  /// What a symbolic link says, which is any text.
  ///
  /// Completes:    when that is there; never inside this call.
  /// Errors:       those of the system; EINVAL if it is no link.
  /// Cancellation: deferred.
  /// Overlap:      any number.
  Promise<std::string> readLink(Path path, std::source_location where = std::source_location::current());

  /// Makes a directory, with `permissions` (at most 07777) less the process's umask. The one that it is in must exist.
  ///
  /// Completes:    when that is done, or on error; never inside this call.
  /// Errors:       those of the system; EXDEV or ELOOP for a symbolic link on the way that is refused.
  /// Cancellation: deferred: it may still be done.
  /// Overlap:      any number.
  Promise<void> makeDirectory(Path path, unsigned permissions = 0777,
                              std::source_location where = std::source_location::current());
  /// Gives `from` the name `to`, in place of what may have that. The contract is that of makeDirectory().
  Promise<void> rename(Path from, Path to, std::source_location where = std::source_location::current());
  /// Removes the name of a file; who has it open keeps it. The contract is that of makeDirectory().
  Promise<void> unlink(Path path, std::source_location where = std::source_location::current());
  /// Removes an empty directory. The contract is that of makeDirectory().
  Promise<void> removeDirectory(Path path, std::source_location where = std::source_location::current());
  /// Makes a symbolic link that says `target`, which is any text without a NUL byte (that throws FAILED): where it
  /// leads to is judged when it is followed. The contract is that of makeDirectory().
  Promise<void> symlink(std::string target, Path path, std::source_location where = std::source_location::current());

private:
  struct Parts;
  std::unique_ptr<Parts> parts_;

  explicit Directory(std::unique_ptr<Parts> parts) noexcept;
  friend Promise<std::unique_ptr<Directory>> openDirectory(AsyncIo& io, std::string path, Symlinks symlinks,
                                                           std::source_location where);
};

/// Opens a directory by any path: the program's own, not one that comes from outside.
///
/// Completes:    when it is open, or on error; never inside this call.
/// Errors:       those of the system.
/// Cancellation: deferred: it is closed again.
/// Lifetime:     the directory, and what is opened through it, are destroyed before `io`'s context.
/// Overlap:      any number.
Promise<std::unique_ptr<Directory>> openDirectory(AsyncIo& io, std::string path,
                                                  Symlinks symlinks = Symlinks::FOLLOW_INSIDE,
                                                  std::source_location where = std::source_location::current());

/// A stream of what is in `file` from `offset` on, to its end as it is when it is read. It has its own position, and
/// keeps the file open: `file` may be destroyed. What was appended after the end was read is there for the next read.
///
/// tryGetLength() asks the system for the file's size on the spot, which needs no access to a local disk. The
/// cancellation of a read is clean for the stream; in the background it is that of File::read().
///
/// pumpTo() a socket hands the file to it inside the kernel where the system can (sendfile(2) on Linux): what is
/// changed in the file meanwhile may be sent instead of what was there, even after the pump has completed. What a
/// thread is sending when the pump is cancelled, at most 1 MiB, is sent in the background; a later write waits for
/// that. To other streams the next chunk is read while one is written, so the pump holds two of 64 KiB.
std::unique_ptr<AsyncInputStream> newFileInputStream(File& file, std::uint64_t offset = 0);

/// A stream that writes to `file` from `offset` on, or to its end if it was opened with APPEND. It has its own
/// position, and keeps the file open: `file` may be destroyed. Bytes are copied, at most 64 KiB at a time. Each write
/// is a trip through the thread pool: collect small ones. Cancellation is that of File::write(). After it, or after an
/// error, the stream is good only for closing.
std::unique_ptr<AsyncOutputStream> newFileOutputStream(File& file, std::uint64_t offset = 0);

} // namespace v0
} // namespace troth
