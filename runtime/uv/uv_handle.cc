// SPDX-License-Identifier: MIT
// Handles that the host of a loop has closed under their owners.
//
// libuv calls the host's close callback, or none, and nobody tells the owner. When the owner goes there are two cases,
// which the public interface tells apart by uv_walk: libuv still has the handle (the host has not run its loop since),
// or has let go of it. A loop that is closed has none, and must not be walked.
#include <troth/runtime/uv/uv_handle.h>

namespace troth {
inline namespace v0 {
namespace {

struct Search {
  uv_handle_t* wanted;
  bool found = false;
};

// uv_loop_close() succeeds only if libuv has let go of all handles. It takes the descriptor away, and overwrites the
// rest of the loop unless libuv was compiled with NDEBUG. (On Windows no loop has a descriptor.)
bool isClosed([[maybe_unused]] const uv_loop_t* loop) noexcept {
#ifdef _WIN32
  return false;
#else
  return uv_backend_fd(loop) < 0;
#endif
}

bool isOnItsLoop(uv_handle_t* handle) noexcept {
  if (isClosed(handle->loop)) return false;
  Search search{handle};
  uv_walk(
      handle->loop,
      [](uv_handle_t* each, void* context) {
        auto& looking = *static_cast<Search*>(context);
        if (each == looking.wanted) looking.found = true;
      },
      &search);
  return search.found;
}

void freeHandle(uv_handle_t* handle) noexcept { detail::deallocate(handle, uv_handle_size(handle->type)); }

} // namespace

void detail::releaseClosedHandle(uv_handle_t* handle) noexcept {
  if (!isOnItsLoop(handle)) return freeHandle(handle);
  // The memory may go only after the host's callback. `data` is free to keep that, since the owner is gone.
  static_assert(sizeof(uv_close_cb) == sizeof(void*));
  handle->data = reinterpret_cast<void*>(handle->close_cb);
  handle->close_cb = [](uv_handle_t* closed) {
    const auto hosts = reinterpret_cast<uv_close_cb>(closed->data);
    closed->data = nullptr;
    if (hosts != nullptr) hosts(closed);
    freeHandle(closed);
  };
}

int detail::pollHandle(uv_poll_t* handle, int events, uv_poll_cb callback) noexcept {
  if (uv_is_closing(reinterpret_cast<uv_handle_t*>(handle)) != 0) return UV_ECANCELED;
  return events == 0 ? uv_poll_stop(handle) : uv_poll_start(handle, events, callback);
}

} // namespace v0
} // namespace troth
