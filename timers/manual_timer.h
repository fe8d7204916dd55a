// SPDX-License-Identifier: MIT
// ManualTimer: a timer whose time a test sets.
#pragma once

#include <troth/timers/timer.h>
#include <troth/timers/timer_queue_detail.h>

#include <optional>

namespace troth {
inline namespace v0 {

/// Time stands still until advanceTo() or advanceBy(). Promises that become due are made ready, in the
/// order of their deadlines; what waits for them runs when the loop runs.
class ManualTimer final : public Timer {
public:
  explicit ManualTimer(TimePoint start = TimePoint()) noexcept : now_(start) {}

  TimePoint now() const override { return now_; }
  Promise<void> atTime(TimePoint time, std::source_location where = std::source_location::current()) override;
  Promise<void> afterDelay(Duration delay, std::source_location where = std::source_location::current()) override;

  /// Throws FAILED if `time` is in the past.
  void advanceTo(TimePoint time, std::source_location where = std::source_location::current());
  void advanceBy(Duration delay, std::source_location where = std::source_location::current()) {
    advanceTo(now_ + delay, where);
  }

  /// The earliest deadline that somebody waits for.
  std::optional<TimePoint> nextEvent() const noexcept { return queue_.nextDeadline(); }

private:
  TimePoint now_;
  detail::TimerQueue queue_;
};

} // namespace v0
} // namespace troth
