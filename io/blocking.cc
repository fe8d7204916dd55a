// SPDX-License-Identifier: MIT
// Calls of the system on open files, by libuv's uv_fs_*, which block when they have no callback.
#include <troth/io/blocking_detail.h>

#include <uv.h>

#include <algorithm>
#include <cerrno>
#include <chrono>

#include <sys/stat.h>

namespace troth {
inline namespace v0 {
namespace detail {
namespace {

/// Lets `call(request)` call one of libuv's uv_fs_* without a callback, and gives the result.
template <typename Call>
int blocking(Call&& call) noexcept {
  uv_fs_t request;
  call(&request);
  const auto result = static_cast<int>(request.result);
  uv_fs_req_cleanup(&request);
  return result;
}

uv_buf_t asUvBuffer(std::span<const std::byte> bytes) noexcept {
  // libuv's sizes are ints in places. It does not write through the pointer; its buffer type serves both directions.
  constexpr std::size_t MOST = std::size_t(1) << 30;
  return uv_buf_init(reinterpret_cast<char*>(const_cast<std::byte*>(bytes.data())),
                     static_cast<unsigned>(std::min(bytes.size(), MOST)));
}

/// The nearest time that the clock has: files may be dated in the year 2300.
std::chrono::system_clock::time_point timeOf(const uv_timespec_t& time) noexcept {
  using Time = std::chrono::system_clock::time_point;
  using std::chrono::seconds;
  const seconds whole(time.tv_sec);
  if (whole <= std::chrono::ceil<seconds>(Time::min().time_since_epoch())) return Time::min();
  if (whole >= std::chrono::floor<seconds>(Time::max().time_since_epoch())) return Time::max();
  using std::chrono::duration_cast;
  return Time(duration_cast<Time::duration>(whole) +
              duration_cast<Time::duration>(std::chrono::nanoseconds(time.tv_nsec)));
}

} // namespace

int lastError() noexcept { return uv_translate_sys_error(errno); }
int statusOf(int result) noexcept { return result < 0 ? lastError() : 0; }

int readSome(int fd, std::int64_t offset, std::span<std::byte> buffer) noexcept {
  const uv_buf_t room = asUvBuffer(buffer);
  for (;;) {
    const int count = blocking([&](uv_fs_t* request) { uv_fs_read(nullptr, request, fd, &room, 1, offset, nullptr); });
    if (count != UV_EINTR) return count; // the one call that libuv does not repeat
  }
}

int writeAll(int fd, std::int64_t offset, std::span<const std::byte> bytes) noexcept {
  while (!bytes.empty()) {
    const uv_buf_t buffer = asUvBuffer(bytes);
    const int count =
        blocking([&](uv_fs_t* request) { uv_fs_write(nullptr, request, fd, &buffer, 1, offset, nullptr); });
    if (count < 0) return count;
    if (count == 0) return UV_EIO;
    bytes = bytes.subspan(static_cast<std::size_t>(count));
    if (offset != AT_POSITION) offset += count;
  }
  return 0;
}

int getInfo(int fd, FileInfo& info) noexcept {
  return blocking([&](uv_fs_t* request) {
    if (uv_fs_fstat(nullptr, request, fd, nullptr) < 0) return;
    const uv_stat_t& stat = request->statbuf;
    info.type = typeOf(stat.st_mode);
    info.size = stat.st_size;
    info.modified = timeOf(stat.st_mtim);
    info.mode = static_cast<unsigned>(stat.st_mode & 07777);
  });
}

int sync(int fd) noexcept {
  return blocking([&](uv_fs_t* request) { uv_fs_fsync(nullptr, request, fd, nullptr); });
}

int dataSync(int fd) noexcept {
  return blocking([&](uv_fs_t* request) { uv_fs_fdatasync(nullptr, request, fd, nullptr); });
}

int truncate(int fd, std::int64_t size) noexcept {
  return blocking([&](uv_fs_t* request) { uv_fs_ftruncate(nullptr, request, fd, size, nullptr); });
}

FileType typeOf(std::uint64_t mode) noexcept {
  switch (mode & S_IFMT) {
  case S_IFREG:
    return FileType::REGULAR;
  case S_IFDIR:
    return FileType::DIRECTORY;
  case S_IFLNK:
    return FileType::SYMLINK;
  default:
    return FileType::OTHER;
  }
}

} // namespace detail
} // namespace v0
} // namespace troth
