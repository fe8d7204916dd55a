// SPDX-License-Identifier: MIT
// Timer: promises that become ready at a time, and time-outs for other promises.
#pragma once

#include <troth/runtime/promise.h>

#include <chrono>
#include <source_location>

namespace troth {
inline namespace v0 {

/// A point on the monotonic clock, in nanoseconds. Only differences mean anything.
using TimePoint = std::chrono::steady_clock::time_point;
/// Nanoseconds. Any `std::chrono` duration of integers converts.
using Duration = std::chrono::nanoseconds;

/// Says what time it is and waits for times to come. Take one as a parameter (`Timer&`) instead of asking
/// a clock, and tests can advance time by hand with a ManualTimer.
///
/// Deadlines that are equal fire in the order in which they were set. No deadline fires early.
class Timer {
public:
  virtual ~Timer() = default;

  /// The time at which the loop last looked at the world: constant while one batch of events runs.
  virtual TimePoint now() const = 0;

  /// Completes:    at `time` or later, never before and never inside this call.
  /// Errors:       DISCONNECTED if the timer is destroyed first.
  /// Cancellation: clean.
  virtual Promise<void> atTime(TimePoint time, std::source_location where = std::source_location::current()) = 0;

  /// Completes:    when `delay`, counted from this call (not from now(), which work may have made old), is
  ///               over; a delay that is not positive is over at once. Never inside this call.
  /// Errors:       DISCONNECTED if the timer is destroyed first.
  /// Cancellation: clean.
  virtual Promise<void> afterDelay(Duration delay, std::source_location where = std::source_location::current()) = 0;

  /// Completes:    as `promise` does, if it is ready in time.
  /// Errors:       its own, and OVERLOADED ("timed out after 250ms") when `delay` is over first; `promise`
  ///               has been destroyed, and so cancelled, by then.
  /// Cancellation: that of `promise`.
  template <typename T>
  Promise<T> timeoutAfter(Duration delay, Promise<T> promise,
                          std::source_location where = std::source_location::current()) {
    return std::move(promise).exclusiveJoin(
        afterDelay(delay, where).then([delay, where]() -> T { throwTimedOut(delay, where); }), where);
  }

  /// The same with a fixed end.
  template <typename T>
  Promise<T> timeoutAt(TimePoint time, Promise<T> promise,
                       std::source_location where = std::source_location::current()) {
    const Duration delay = untilFrom(now(), time);
    return std::move(promise).exclusiveJoin(
        atTime(time, where).then([delay, where]() -> T { throwTimedOut(delay, where); }), where);
  }

private:
  [[noreturn]] static void throwTimedOut(Duration delay, std::source_location where);
  static Duration untilFrom(TimePoint now, TimePoint time) noexcept;
};

} // namespace v0
} // namespace troth
