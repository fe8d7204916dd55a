// SPDX-License-Identifier: MIT
// Timer: promises that become ready at a time, and time-outs for other promises.
#pragma once

#include <troth/runtime/promise.h>
#include <troth/timers/clock.h>

#include <source_location>
#include <string>
#include <string_view>

namespace troth {
inline namespace v0 {

/// Says what time it is and waits for times to come. Take one as a parameter (`Timer&`) instead of asking
/// a clock, and tests can advance time by hand with a ManualTimer.
///
/// Deadlines that are equal fire in the order in which they were set. No deadline fires early.
class Timer : public Clock {
public:
  /// The time at which the loop last looked at the world: constant while one batch of events runs.
  TimePoint now() const override = 0;

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
  /// Errors:       its own, and OVERLOADED when `delay`, counted from this call, is over first: "timed out after
  ///               250ms" or, if `what` says what was waited for, "timed out after 250ms: reading the head". `promise`
  ///               has been destroyed, and so cancelled, by then.
  /// Cancellation: that of `promise`.
  template <typename T>
  Promise<T> timeoutAfter(Duration delay, Promise<T> promise, std::string what = {},
                          std::source_location where = std::source_location::current()) {
    return limited(afterDelay(delay, where), delay, std::move(promise), std::move(what), where);
  }

  /// The same with a fixed end; the error says how far off that was when this was called.
  template <typename T>
  Promise<T> timeoutAt(TimePoint time, Promise<T> promise, std::string what = {},
                       std::source_location where = std::source_location::current()) {
    return limited(atTime(time, where), untilFrom(now(), time), std::move(promise), std::move(what), where);
  }

private:
  // Without a `what` the continuation has nothing to destroy, which is cheaper.
  template <typename T>
  static Promise<T> limited(Promise<void>&& end, Duration delay, Promise<T>&& promise, std::string&& what,
                            std::source_location where) {
    Promise<T> timeOut =
        what.empty()
            ? std::move(end).then([delay, where]() -> T { throwTimedOut(delay, {}, where); })
            : std::move(end).then([delay, what = std::move(what), where]() -> T { throwTimedOut(delay, what, where); });
    return std::move(promise).exclusiveJoin(std::move(timeOut), where);
  }

  [[noreturn]] static void throwTimedOut(Duration delay, std::string_view what, std::source_location where);
  static Duration untilFrom(TimePoint now, TimePoint time) noexcept;
};

} // namespace v0
} // namespace troth
