// SPDX-License-Identifier: MIT
// PreciseWake: wakes a libuv loop at times finer than its milliseconds, by a timerfd, where there is such a thing.
#pragma once

#include <troth/runtime/uv/uv_handle.h>
#include <troth/timers/clock.h>

namespace troth {
inline namespace v0 {
namespace detail {

/// One wake-up at a time, for delays shorter than a millisecond. It is an addition to a `uv_timer_t`, never a
/// replacement: its handle is unreferenced, so that it keeps no loop alive, and what it cannot do (for want of a
/// descriptor, or on another system than Linux) the `uv_timer_t` does, later.
///
/// The descriptor and its handle are made when first needed, and kept until the destructor closes them.
class PreciseWake {
public:
  using Callback = void (*)(void* context) noexcept;

  /// `wake(context)` is called in the loop's I/O phase when the time has come. It must not destroy this.
  PreciseWake(uv_loop_t* loop, Callback wake, void* context) noexcept : loop_(loop), wake_(wake), context_(context) {}
  PreciseWake(const PreciseWake&) = delete;
  PreciseWake& operator=(const PreciseWake&) = delete;
  ~PreciseWake() { close(); }

  /// Plans the wake-up for `delay` from now, which is positive, in place of the one that may be planned. Returns
  /// whether it will come; if not, none is planned.
  bool plan(Duration delay) noexcept;

  /// Whether a wake-up is planned that has not come yet.
  bool isPlanned() const noexcept { return planned_; }

private:
  uv_loop_t* loop_;
  Callback wake_;
  void* context_;
  bool planned_ = false;
  int fd_ = -1;
  UvHandle<uv_poll_t> poll_;

  bool open() noexcept;
  void close() noexcept;
  void onReadable(int status) noexcept;
};

} // namespace detail
} // namespace v0
} // namespace troth
