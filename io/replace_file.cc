// SPDX-License-Identifier: MIT
// Replacing a file: another is written beside it, synced, given its name, and the directory is synced.
#include <troth/io/replace_file_detail.h>

#include <troth/io/blocking_detail.h>

#include <fmt/format.h>
#include <uv.h>

#include <cerrno>
#include <cstdint>
#include <string>

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

namespace troth {
inline namespace v0 {
namespace detail {
namespace {

/// Makes a file with a name that nothing has yet.
int makeTemporary(int directory, unsigned permissions, std::string& name, OwnedDescriptor& result) {
  constexpr int TRIES = 100;
  for (int tries = 0; tries < TRIES; ++tries) {
    std::uint64_t number = 0;
    if (const int status = uv_random(nullptr, nullptr, &number, sizeof number, 0, nullptr); status < 0) return status;
    name = fmt::format(".troth-{:016x}", number);
    result = OwnedDescriptor(
        ::openat(directory, name.c_str(), O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, permissions));
    if (result) return 0;
    if (errno != EEXIST && errno != EINTR) return lastError();
  }
  return UV_EEXIST;
}

/// What the new file is to have of the old one.
struct Old {
  bool keepsPermissions = false;
  mode_t permissions = 0;
};

int lookAtOld(int directory, const char* name, Old& old) noexcept {
  struct stat info {};
  const int status = statusOf(::fstatat(directory, name, &info, AT_SYMLINK_NOFOLLOW));
  if (status == UV_ENOENT) return 0;
  // Not the right to be run as its owner: that may be another one now.
  old = {S_ISREG(info.st_mode), info.st_mode & 0777};
  return status;
}

int fill(int fd, const Old& old, std::span<const std::byte> contents) noexcept {
  if (old.keepsPermissions)
    if (const int status = statusOf(::fchmod(fd, old.permissions)); status < 0) return status;
  const int status = writeAll(fd, 0, contents);
  return status < 0 ? status : sync(fd);
}

int syncDirectory(int fd) noexcept {
  const int status = sync(fd);
  return status == UV_EINVAL ? 0 : status; // there are file systems that cannot
}

} // namespace

int replaceFile(int directory, const char* name, std::span<const std::byte> contents) {
  Old old;
  if (const int status = lookAtOld(directory, name, old); status < 0) return status;
  // Before anything is changed: what can be refused, or be short.
  const OwnedDescriptor toSync(::openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!toSync) return lastError();
  std::string temporary;
  OwnedDescriptor fd;
  if (const int status = makeTemporary(directory, old.keepsPermissions ? 0600 : 0666, temporary, fd); status < 0)
    return status;
  int status = fill(fd.get(), old, contents);
  if (status == 0) status = statusOf(::renameat(directory, temporary.c_str(), directory, name));
  if (status == 0) return syncDirectory(toSync.get());
  ::unlinkat(directory, temporary.c_str(), 0);
  return status;
}

int makeNameless(int directory, OwnedDescriptor& result) {
#ifdef O_TMPFILE
  result = OwnedDescriptor(::openat(directory, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  if (result) return 0;
#endif
  // A file system that cannot do it says so in one of several ways; any other error comes again here.
  std::string name;
  if (const int status = makeTemporary(directory, 0600, name, result); status < 0) return status;
  return statusOf(::unlinkat(directory, name.c_str(), 0));
}

} // namespace detail
} // namespace v0
} // namespace troth
