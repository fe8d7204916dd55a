// SPDX-License-Identifier: MIT
// Listing a directory in one job, and walking a tree in one for each directory.
#include <troth/io/directory_list_detail.h>

#include <troth/io/beneath_detail.h>
#include <troth/io/blocking_detail.h>
#include <troth/io/uv_file_job_detail.h>
#include <troth/runtime/quote_detail.h>

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

namespace troth {
inline namespace v0 {
namespace detail {
namespace {

struct CloseDir {
  void operator()(DIR* directory) const noexcept { ::closedir(directory); }
};

FileType typeOfEntry(int directory, const dirent& entry) noexcept {
#ifdef DT_UNKNOWN
  if (entry.d_type != DT_UNKNOWN) return typeOf(std::uint64_t(entry.d_type) << 12); // as DTTOIF does
#endif
  struct stat info {};
  if (::fstatat(directory, entry.d_name, &info, AT_SYMLINK_NOFOLLOW) != 0) return FileType::OTHER; // it has vanished
  return typeOf(info.st_mode);
}

int listBlocking(const Opened& at, const Path& path, Symlinks symlinks, std::size_t most,
                 std::vector<DirectoryEntry>& result) {
  OwnedDescriptor descriptor;
  const int status = openBeneath(at.fd(), path, O_RDONLY | O_DIRECTORY, 0, symlinks, descriptor);
  if (status < 0) return status;
  const std::unique_ptr<DIR, CloseDir> directory(::fdopendir(descriptor.get()));
  if (directory == nullptr) return lastError();
  const int fd = descriptor.release();
  while (result.size() < most) {
    errno = 0;
    const dirent* entry = ::readdir(directory.get());
    if (entry == nullptr && errno != 0) return lastError();
    if (entry == nullptr) break;
    const std::string_view name = entry->d_name;
    if (name != "." && name != "..") result.push_back({std::string(name), typeOfEntry(fd, *entry)});
  }
  std::sort(result.begin(), result.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  return 0;
}

/// Whether a directory that was there a moment ago is gone, or something else is in its place.
bool hasVanished(const Exception& e) {
  return e.code() == std::errc::no_such_file_or_directory || e.code() == std::errc::not_a_directory ||
         e.code() == std::errc::too_many_symbolic_link_levels;
}

Promise<OwnedDescriptor> openTop(OpenedPtr at, Path top, Symlinks symlinks, std::source_location where) {
  auto work = [symlinks](const Opened& opened, const Path& path, OwnedDescriptor& result) {
    return openBeneath(opened.fd(), path, PLACE_OF_DIRECTORY, 0, symlinks, result);
  };
  return inPool<OwnedDescriptor>("walk", std::move(at), std::move(top), where, work);
}

Exception tooMany(const Opened& at, const Path& top, std::size_t limit, std::source_location where) {
  return Exception(
      Exception::Kind::FAILED,
      fmt::format("walk {}: there are more than the {} entries that are allowed", quote(at.nameOf(top)), limit), {},
      where);
}

} // namespace

Promise<std::vector<DirectoryEntry>> list(OpenedPtr at, Path path, Symlinks symlinks, std::size_t most,
                                          std::source_location where) {
  return inPool<std::vector<DirectoryEntry>>(
      "list", std::move(at), std::move(path), where,
      [symlinks, most](const Opened& opened, const Path& directory, std::vector<DirectoryEntry>& result) {
        return listBlocking(opened, directory, symlinks, most, result);
      });
}

Promise<std::vector<WalkEntry>> walk(OpenedPtr at, Path top, Symlinks symlinks, std::size_t limit,
                                     std::source_location where) {
  OwnedDescriptor descriptor = co_await openTop(at, top, symlinks, where);
  // From here on every link is refused: one that takes the place of a directory meanwhile is not followed, either.
  const auto from = std::make_shared<Opened>(at->loop, std::move(descriptor), at->nameOf(top));
  std::vector<WalkEntry> done;
  std::vector<WalkEntry> ahead; // the next one last
  ahead.push_back({Path(), FileType::DIRECTORY});
  while (!ahead.empty()) {
    const WalkEntry entry = std::move(ahead.back());
    ahead.pop_back();
    if (!entry.path.isSelf()) done.push_back({top / entry.path, entry.type});
    if (entry.type != FileType::DIRECTORY) continue;
    const std::size_t left = limit - done.size() - ahead.size();
    std::vector<DirectoryEntry> inside;
    try {
      // One more than there may be shows that there are too many.
      inside = co_await list(from, entry.path, Symlinks::REFUSE, left == SIZE_MAX ? left : left + 1, where);
    } catch (const Exception& e) {
      if (entry.path.isSelf() || !hasVanished(e)) throw;
    }
    if (inside.size() > left) throw tooMany(*at, top, limit, where);
    for (auto i = inside.rbegin(); i != inside.rend(); ++i) ahead.push_back({entry.path / i->name, i->type});
  }
  co_return done;
}

} // namespace detail
} // namespace v0
} // namespace troth
