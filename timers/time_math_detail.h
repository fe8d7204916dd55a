// SPDX-License-Identifier: MIT
// Sums and differences of times that end where time ends.
#pragma once

#include <troth/timers/clock.h>

#include <cstdint>

namespace troth {
inline namespace v0 {
namespace detail {

/// `time` + `delay`, at most the end of time; a negative delay is none.
inline TimePoint timeAfter(TimePoint time, Duration delay) noexcept {
  if (delay <= Duration::zero()) return time;
  // Before the epoch no delay leads beyond the end.
  if (time > TimePoint() && delay > TimePoint::max() - time) return TimePoint::max();
  return time + delay;
}

/// The nanoseconds from `begin` to `end`, which is not earlier. (There may be more of them than a Duration can say.)
inline std::uint64_t nanosecondsBetween(TimePoint begin, TimePoint end) noexcept {
  return static_cast<std::uint64_t>(end.time_since_epoch().count()) -
         static_cast<std::uint64_t>(begin.time_since_epoch().count());
}

/// The time from `begin` to `end`: zero if that is earlier, Duration::max() if it is more or `end` is the end of time.
inline Duration timeBetween(TimePoint begin, TimePoint end) noexcept {
  if (end <= begin) return Duration::zero();
  const std::uint64_t nanoseconds = nanosecondsBetween(begin, end);
  if (end == TimePoint::max() || nanoseconds > INT64_MAX) return Duration::max();
  return Duration(static_cast<Duration::rep>(nanoseconds));
}

} // namespace detail
} // namespace v0
} // namespace troth
