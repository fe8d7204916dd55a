// SPDX-License-Identifier: MIT
// The schedule of a Ticker: when the next tick is due, and how many were missed.
//
// A schedule is the time of its next tick and the period. Times are added to each other, never measured, so that a
// fixed rate does not drift: due(n) = first + n * period exactly, however late each tick is taken.
#include <troth/timers/ticker.h>

#include <troth/timers/time_math_detail.h>

#include <algorithm>

namespace troth {
inline namespace v0 {

Ticker::Ticker(Timer& timer, Duration period, TickerOptions options, std::source_location where)
    : TimedSource(timer, "Ticker::next"), period_(period), options_(options), due_(options.first) {
  if (period <= Duration::zero()) detail::throwMisuse("the period of a Ticker must be positive", where);
  if (!due_ && options.pace == TickerPace::FIXED_RATE) due_ = detail::timeAfter(timer.now(), period);
}

Promise<Tick> Ticker::next(std::source_location where) { return newPromise(where); }

void Ticker::reset(std::source_location where) {
  require("Ticker::reset was called", where);
  settle();
  due_ = detail::timeAfter(timer().now(), period_);
  changed();
}

std::optional<TimePoint> Ticker::dueAt() noexcept {
  if (!due_) due_ = detail::timeAfter(timer().now(), period_); // with a fixed delay: somebody has begun to wait
  return due_;
}

Tick Ticker::take() noexcept {
  const TimePoint due = *due_;
  const TimePoint now = std::max(timer().now(), due); // the deadline has passed, though now() may be older
  if (options_.pace == TickerPace::FIXED_DELAY) {
    due_.reset();
    return Tick{due};
  }
  const auto period = static_cast<std::uint64_t>(period_.count());
  const std::uint64_t late = detail::nanosecondsBetween(due, now);
  const Tick tick{due, late / period};
  due_ = dueAfter(tick, now, Duration(static_cast<Duration::rep>(late % period)));
  return tick;
}

// `over` is how much of a period has passed since the last tick that was due.
TimePoint Ticker::dueAfter(const Tick& tick, TimePoint now, Duration over) const noexcept {
  switch (options_.missed) {
  case MissedTicks::SKIP:
    break;
  case MissedTicks::BURST:
    return detail::timeAfter(tick.due, period_);
  case MissedTicks::DELAY:
    return detail::timeAfter(tick.missed > 0 ? now : tick.due, period_);
  }
  return detail::timeAfter(now, period_ - over);
}

} // namespace v0
} // namespace troth
