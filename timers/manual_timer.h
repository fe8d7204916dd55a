// SPDX-License-Identifier: MIT
// ManualTimer: a timer whose time a test sets.
#pragma once

#include <troth/timers/timer.h>
#include <troth/timers/timer_queue_detail.h>

#include <optional>

namespace troth {
inline namespace v0 {

/// Time stands still until advanceTo() or advanceBy(). Promises that become due are made ready, in the
/// order of their deadlines; what waits for them runs when the loop runs. Belongs to one thread, and is
/// destroyed before its loop.
class ManualTimer final : public Timer {
public:
  explicit ManualTimer(TimePoint start = TimePoint()) noexcept : now_(start) {}

  TimePoint now() const override { return now_; }
  Promise<void> atTime(TimePoint time, std::source_location where = std::source_location::current()) override;
  Promise<void> afterDelay(Duration delay, std::source_location where = std::source_location::current()) override;

  /// Throws FAILED if `time` is in the past.
  void advanceTo(TimePoint time, std::source_location where = std::source_location::current());
  /// Throws FAILED if `delay` is negative.
  void advanceBy(Duration delay, std::source_location where = std::source_location::current());

  /// The earliest deadline that somebody waits for.
  std::optional<TimePoint> nextEvent() const noexcept { return queue_.nextEvent(); }

private:
  /// Fires what is due already, from the loop: in order, and never inside the call that asks for it.
  class Due final : public detail::Event {
  public:
    explicit Due(ManualTimer& timer) : Event(EventLoop::current()), timer_(timer) {}

  private:
    ManualTimer& timer_;
    void fire() noexcept override { timer_.queue_.advanceTo(timer_.now_); }
  };

  TimePoint now_;
  detail::TimerQueue queue_;
  std::optional<Due> due_; // made when first needed, on the loop of that moment
};

} // namespace v0
} // namespace troth
