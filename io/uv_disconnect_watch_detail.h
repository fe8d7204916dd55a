// SPDX-License-Identifier: MIT
// DisconnectWatch: what whenWriteDisconnected() is made of, for streams on a descriptor.
#pragma once

#include <troth/io/descriptor.h>
#include <troth/runtime/promise.h>
#include <troth/runtime/uv/uv_handle.h>
#include <troth/runtime/waiter_detail.h>

#include <source_location>

namespace troth {
inline namespace v0 {
namespace detail {

/// Tells when a descriptor is hung up (EPOLLHUP) or has an error (EPOLLERR). Belongs to a stream. Watches only while
/// somebody waits, all of whom share one watch; the loop stays alive that long.
class DisconnectWatch : public Pooled {
public:
  DisconnectWatch() noexcept = default;
  DisconnectWatch(const DisconnectWatch&) = delete;
  DisconnectWatch& operator=(const DisconnectWatch&) = delete;
  /// The stream goes: to those who wait it is disconnected.
  ~DisconnectWatch() { disconnected(); }

  /// A promise for that of `fd`, which is the stream's. Without memory or a descriptor to spare only disconnected()
  /// completes it.
  Promise<void> wait(uv_loop_t* loop, int fd, std::source_location where);

  /// The stream has found out by itself: completes those who wait.
  void disconnected() noexcept;

private:
  class Asker;

  WaiterList askers_;
  OwnedDescriptor duplicate_; // destroyed after the handle that watches it
  UvHandle<uv_poll_t> handle_;

  void start(uv_loop_t* loop, int fd) noexcept;
  void stop() noexcept;
  void onEvent() noexcept;
};

} // namespace detail
} // namespace v0
} // namespace troth
