// SPDX-License-Identifier: MIT
// ManualTimer on the timer queue.
#include <troth/timers/manual_timer.h>

#include <troth/timers/time_math_detail.h>

namespace troth {
inline namespace v0 {

Promise<void> ManualTimer::atTime(TimePoint time, std::source_location where) {
  if (time <= now_) {
    if (!due_) due_.emplace(*this);
    due_->armLast(); // what is ready already comes first
  }
  return queue_.add(time, where);
}

Promise<void> ManualTimer::afterDelay(Duration delay, std::source_location where) {
  return atTime(detail::timeAfter(now_, delay), where);
}

namespace {

[[noreturn]] void throwBackwards(std::source_location where) {
  detail::throwMisuse("ManualTimer: time cannot go back", where);
}

} // namespace

void ManualTimer::advanceBy(Duration delay, std::source_location where) {
  if (delay < Duration::zero()) throwBackwards(where);
  advanceTo(detail::timeAfter(now_, delay), where);
}

void ManualTimer::advanceTo(TimePoint time, std::source_location where) {
  if (time < now_) throwBackwards(where);
  now_ = time;
  queue_.advanceTo(now_);
}

} // namespace v0
} // namespace troth
