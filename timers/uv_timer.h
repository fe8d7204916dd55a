// SPDX-License-Identifier: MIT
// UvTimer: the timer of a libuv loop, one uv_timer_t under a queue of its own.
#pragma once

#include <troth/runtime/uv/uv_event_port.h>
#include <troth/timers/timer.h>
#include <troth/timers/timer_queue_detail.h>

namespace troth {
inline namespace v0 {

/// Any number of deadlines cost one `uv_timer_t`, which is active (and keeps the loop alive) exactly while
/// a deadline is pending. Its clock is uv_hrtime(), in nanoseconds; libuv wakes up in milliseconds, and
/// deadlines are rounded up to them.
class UvTimer final : public Timer, private detail::TimerQueue {
public:
  /// `port` must outlive the timer.
  explicit UvTimer(UvEventPort& port);
  ~UvTimer() override = default;

  TimePoint now() const override;
  Promise<void> atTime(TimePoint time, std::source_location where = std::source_location::current()) override;
  Promise<void> afterDelay(Duration delay, std::source_location where = std::source_location::current()) override;

private:
  UvEventPort& port_;
  UvHandle<uv_timer_t> handle_;
  std::optional<TimePoint> armedFor_;
  mutable TimePoint now_;
  mutable std::uint64_t nowBatch_ = UINT64_MAX;

  void arm() noexcept;
  void onWake() noexcept;
  void onRemoved() noexcept override;
};

} // namespace v0
} // namespace troth
