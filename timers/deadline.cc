// SPDX-License-Identifier: MIT
// Deadlines: how much is left, and what is said when nothing is.
#include <troth/timers/deadline.h>

#include <troth/timers/duration_text_detail.h>
#include <troth/timers/time_math_detail.h>

#include <fmt/format.h>

#include <algorithm>

namespace troth {
inline namespace v0 {

Deadline Deadline::in(Timer& timer, Duration delay) {
  const Duration given = std::max(delay, Duration::zero());
  return {timer, detail::timeAfter(timer.now(), given), given};
}

Deadline Deadline::at(Timer& timer, TimePoint time) { return {timer, time, detail::timeBetween(timer.now(), time)}; }

Deadline Deadline::none(Timer& timer) noexcept { return {timer, TimePoint::max(), Duration::max()}; }

Duration Deadline::left() const { return detail::timeBetween(timer_->now(), time_); }

Deadline Deadline::earlier(Duration delay) const {
  const Deadline other = in(*timer_, delay);
  return other.time_ < time_ ? other : *this;
}

Deadline Deadline::earlier(const Deadline& other, std::source_location where) const {
  if (timer_ != other.timer_) detail::throwMisuse("two deadlines of different timers cannot be compared", where);
  return other.time_ < time_ ? other : *this;
}

void Deadline::throwTimedOut(Duration given, const std::string& what, std::source_location where) {
  const std::string after = detail::durationText(given);
  throw Exception(Exception::Kind::OVERLOADED,
                  what.empty() ? fmt::format("timed out after {}", after)
                               : fmt::format("timed out after {}: {}", after, what),
                  std::make_error_code(std::errc::timed_out), where);
}

} // namespace v0
} // namespace troth
