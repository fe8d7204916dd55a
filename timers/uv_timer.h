// SPDX-License-Identifier: MIT
// UvTimer: the timer of a libuv loop, one uv_timer_t under a queue of its own.
#pragma once

#include <troth/runtime/uv/uv_event_port.h>
#include <troth/timers/timer.h>
#include <troth/timers/timer_queue_detail.h>
#include <troth/timers/uv_precise_wake_detail.h>

namespace troth {
inline namespace v0 {

/// Any number of deadlines cost one `uv_timer_t`, which is active (and keeps the loop alive) exactly while
/// a deadline is pending. Its clock is uv_hrtime(), in nanoseconds, which counts on while the loop is busy and which
/// setting the system's date does not change.
///
/// How late a deadline may be, if the loop is idle: libuv wakes up in milliseconds, to which deadlines are rounded up,
/// and counts them from the last one that began, so up to two. A deadline that is less than a millisecond away when its
/// turn comes is met to some microseconds on Linux, by a `timerfd` that is made when first needed; without a free
/// descriptor, and on other systems, it is rounded up like the others.
class UvTimer final : public Timer, private detail::TimerQueue {
public:
  /// `port` must outlive the timer.
  explicit UvTimer(UvEventPort& port);
  ~UvTimer() override = default;

  TimePoint now() const override;
  Promise<void> atTime(TimePoint time, std::source_location where = std::source_location::current()) override;
  Promise<void> afterDelay(Duration delay, std::source_location where = std::source_location::current()) override;

  /// Allows deadlines to be met late by as much as `slack` (and what libuv's milliseconds add), so that those that lie
  /// close together share one wake-up: the loop is woken `slack` after the earliest deadline, and meets all that are
  /// due by then, in their order. None is early. Zero, as in the beginning, wakes for each. It holds for pending
  /// deadlines, too. Throws FAILED if it is negative.
  void setSlack(Duration slack, std::source_location where = std::source_location::current());

private:
  UvEventPort& port_;
  UvHandle<uv_timer_t> handle_;
  detail::PreciseWake precise_;
  Duration slack_ = Duration::zero();
  std::optional<TimePoint> armedFor_; // the deadline for which the next wake-up is planned
  TimePoint preciseFor_;              // when precise_ comes, if it is planned
  mutable TimePoint now_ = TimePoint::min();
  mutable std::uint64_t nowBatch_ = UINT64_MAX;

  void arm(TimePoint now) noexcept;
  void startHandle(std::uint64_t timeout) noexcept;
  void armPrecisely(TimePoint latest, TimePoint now) noexcept;
  void onWake() noexcept;
  void onRemoved() noexcept override;
};

} // namespace v0
} // namespace troth
