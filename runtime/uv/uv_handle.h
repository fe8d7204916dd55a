// SPDX-License-Identifier: MIT
// UvHandle: owns a libuv handle, whose memory lives until libuv's close callback.
#pragma once

#include <troth/runtime/pool_detail.h>
#include <troth/runtime/uv/uv_error.h>

#include <uv.h>

#include <source_location>
#include <string_view>
#include <type_traits>
#include <utility>

namespace troth {
inline namespace v0 {

namespace detail {

/// Sees to it that the memory of a handle which somebody else has closed is freed once libuv has let go of it.
void releaseClosedHandle(uv_handle_t* handle) noexcept;

/// uv_poll_start, or uv_poll_stop if there are no events. On a handle that the host has closed, where libuv (1.44,
/// src/unix/poll.c) aborts, it does nothing and gives UV_ECANCELED.
int pollHandle(uv_poll_t* handle, int events, uv_poll_cb callback) noexcept;

} // namespace detail

/// Owns a `uv_tcp_t`, `uv_timer_t`, …: its destructor detaches the C++ object (`data` becomes null, so no
/// callback finds it), calls `uv_close`, and the close callback frees the memory. The handle outlives its
/// owner by as long as libuv needs it, never the other way round.
///
/// A host that closes all handles on its loop (by uv_walk and uv_close) closes this one too. That is a mistake of the
/// host's, but a safe one: the owner still goes at any time, and the memory with it; even after uv_loop_close(), if the
/// `uv_loop_t` itself is still there.
///
/// Belongs to the loop's thread. Callbacks see `data`, which setData() sets, and must stand its being null.
template <typename Handle>
class UvHandle {
public:
  UvHandle() noexcept = default;

  /// Allocates a handle and initialises it by `init(Handle*)`, which returns a libuv status. Throws what
  /// uvException makes of it, with `operation` and `where`.
  template <typename Init>
    requires std::is_invocable_r_v<int, Init, Handle*>
  UvHandle(std::string_view operation, Init&& init, std::source_location where = std::source_location::current()) {
    auto* handle = static_cast<Handle*>(detail::allocate(sizeof(Handle)));
    handle->data = nullptr;
    if (const int status = init(handle); status < 0) {
      detail::deallocate(handle, sizeof(Handle));
      throw uvException(status, operation, where);
    }
    handle_ = handle;
  }

  UvHandle(UvHandle&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  UvHandle& operator=(UvHandle&& other) noexcept {
    std::swap(handle_, other.handle_);
    return *this;
  }
  ~UvHandle() { close(); }

  /// A `UvHandle<uv_tcp_t>` becomes a `UvHandle<uv_stream_t>`, as in C.
  UvHandle<uv_stream_t> toStream() &&
      requires(!std::is_same_v<Handle, uv_stream_t>) {
        UvHandle<uv_stream_t> stream;
        stream.handle_ = reinterpret_cast<uv_stream_t*>(std::exchange(handle_, nullptr));
        return stream;
      }

      Handle* get() const noexcept {
    return handle_;
  }
  Handle* operator->() const noexcept { return handle_; }
  uv_handle_t* base() const noexcept { return reinterpret_cast<uv_handle_t*>(handle_); }
  explicit operator bool() const noexcept { return handle_ != nullptr; }

  void setData(void* data) noexcept { handle_->data = data; }

  /// Closes the handle now; this is empty afterwards.
  void close() noexcept {
    if (handle_ == nullptr) return;
    uv_handle_t* closing = reinterpret_cast<uv_handle_t*>(std::exchange(handle_, nullptr));
    closing->data = nullptr;
    if (uv_is_closing(closing) != 0) [[unlikely]]
      return detail::releaseClosedHandle(closing);
    uv_close(closing, [](uv_handle_t* closed) { detail::deallocate(closed, uv_handle_size(closed->type)); });
  }

private:
  template <typename>
  friend class UvHandle;

  Handle* handle_ = nullptr;
};

} // namespace v0
} // namespace troth
