// SPDX-License-Identifier: MIT
// Unix sockets, which libuv gets when they are bound or connected.
#include <troth/net/uv_unix_socket_detail.h>

#include <troth/io/uv_stream.h>

#include <fmt/format.h>

#include <cerrno>

#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

namespace troth {
inline namespace v0 {
namespace detail {
namespace {

OwnedDescriptor newUnixSocket(std::string_view operation, std::source_location where) {
  OwnedDescriptor socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket) throw uvException(uv_translate_sys_error(errno), operation, where);
  return socket;
}

// The path has a NUL at its end, for it comes from SocketAddress::unixPath().
const char* nameOf(const SocketAddress& path) noexcept { return path.unixName().data(); }

} // namespace

SocketFile::SocketFile(const SocketAddress& path) noexcept : path_(path), id_(idOf(path)) {}

void SocketFile::remove() noexcept {
  if (path_ && id_ && idOf(*path_) == id_) ::unlink(nameOf(*path_));
  path_.reset();
}

std::optional<SocketFile::Id> SocketFile::idOf(const SocketAddress& path) noexcept {
  struct stat status;
  if (::lstat(nameOf(path), &status) != 0) return std::nullopt;
  return Id{status.st_dev, status.st_ino};
}

OwnedDescriptor bindUnixSocket(const SocketAddress& address, std::string_view operation, std::source_location where) {
  OwnedDescriptor socket = newUnixSocket(operation, where);
  if (::bind(socket.get(), address.get(), address.size()) == 0) return socket;
  const int status = uv_translate_sys_error(errno);
  if (status != UV_EADDRINUSE || address.isAbstract()) throw uvException(status, operation, where);
  throwUnixPathTaken(operation, where);
}

void throwUnixPathTaken(std::string_view operation, std::source_location where) {
  throw Exception(
      Exception::Kind::FAILED,
      fmt::format("{}: there is a file of that name (EADDRINUSE); remove it if nobody listens there any more",
                  operation),
      uvErrorCode(UV_EADDRINUSE), where);
}

std::unique_ptr<AsyncIoStream> connectUnixSocket(uv_loop_t* loop, const SocketAddress& address,
                                                 std::source_location where) {
  const std::string operation = address.toString();
  OwnedDescriptor socket = newUnixSocket(operation, where);
  int result;
  do result = ::connect(socket.get(), address.get(), address.size());
  while (result != 0 && errno == EINTR);
  if (result != 0) throw uvException(uv_translate_sys_error(errno), operation, where);
  UvHandle<uv_pipe_t> handle(operation, [loop](uv_pipe_t* pipe) { return uv_pipe_init(loop, pipe, 0); });
  uvCheck(uv_pipe_open(handle.get(), socket.get()), operation, where);
  socket.release();
  return newUvStream(std::move(handle).toStream());
}

} // namespace detail
} // namespace v0
} // namespace troth
