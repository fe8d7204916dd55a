// SPDX-License-Identifier: MIT
// Clock: what says what time it is, and the types of times and durations.
#pragma once

#include <chrono>

namespace troth {
inline namespace v0 {

/// A point on the monotonic clock, in nanoseconds. Only differences mean anything.
using TimePoint = std::chrono::steady_clock::time_point;
/// Nanoseconds. Any `std::chrono` duration of integers converts.
using Duration = std::chrono::nanoseconds;

/// Says what time it is. It is monotonic: it never goes back, and nobody sets it, so that differences are times that
/// have passed. Code that only measures takes a `const Clock&`; code that waits takes a Timer, which is a Clock, too.
class Clock {
public:
  virtual ~Clock() = default;

  /// The present time; for how long it stands still is each clock's own affair.
  virtual TimePoint now() const = 0;
};

/// The machine's monotonic clock, read anew each time. Has no state: may be used on any thread, without a loop.
class SteadyClock final : public Clock {
public:
  TimePoint now() const override { return std::chrono::steady_clock::now(); }
};

} // namespace v0
} // namespace troth
