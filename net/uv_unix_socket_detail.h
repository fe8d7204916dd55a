// SPDX-License-Identifier: MIT
// Unix sockets by the system's own calls: libuv 1.44 cuts names that are too long, and knows no abstract ones.
#pragma once

#include <troth/io/descriptor.h>
#include <troth/io/stream.h>
#include <troth/net/socket_address.h>

#include <uv.h>

#include <memory>
#include <optional>
#include <source_location>
#include <string_view>
#include <utility>

#include <sys/types.h>

namespace troth {
inline namespace v0 {
namespace detail {

/// The file that binding a Unix socket has made. It is removed when this goes, unless another one has its place by
/// then.
class SocketFile {
public:
  SocketFile() noexcept = default;
  /// Of the path to which a socket has just been bound.
  explicit SocketFile(const SocketAddress& path) noexcept;
  SocketFile(SocketFile&& other) noexcept : path_(std::exchange(other.path_, {})), id_(other.id_) {}
  SocketFile& operator=(SocketFile&& other) noexcept {
    std::swap(path_, other.path_);
    std::swap(id_, other.id_);
    return *this;
  }
  ~SocketFile() { remove(); }

  void remove() noexcept;

private:
  struct Id {
    dev_t device;
    ino_t inode;
    bool operator==(const Id&) const noexcept = default;
  };
  std::optional<SocketAddress> path_;
  std::optional<Id> id_;

  static std::optional<Id> idOf(const SocketAddress& path) noexcept;
};

/// A socket that is bound to `address`. Throws, with `operation` in the text.
OwnedDescriptor bindUnixSocket(const SocketAddress& address, std::string_view operation, std::source_location where);

/// What it throws for a path that exists.
[[noreturn]] void throwUnixPathTaken(std::string_view operation, std::source_location where);

/// A stream that is connected to `address`: that takes no time. Throws, with the address in the text.
std::unique_ptr<AsyncIoStream> connectUnixSocket(uv_loop_t* loop, const SocketAddress& address,
                                                 std::source_location where);

} // namespace detail
} // namespace v0
} // namespace troth
