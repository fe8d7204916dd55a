// SPDX-License-Identifier: MIT
// When a burst is over, and when an interval is.
//
// Nothing happens at the end of a burst: what would have happened is made up for when somebody looks (catchUp). So
// triggers need no timer, and a promise that waits for the end sets its alarm for the end as it is known then, looks
// again at that time, and finds that the burst is over or how long it goes on.
#include <troth/timers/debounce.h>

#include <troth/timers/time_math_detail.h>

#include <algorithm>
#include <utility>

namespace troth {
inline namespace v0 {

// --- Debouncer

Debouncer::Debouncer(Timer& timer, Duration quiet, DebounceOptions options, std::source_location where)
    : TimedSource(timer, "Debouncer::next"), quiet_(quiet), options_(options) {
  if (quiet <= Duration::zero()) detail::throwMisuse("the quiet time of a Debouncer must be positive", where);
  if (!options.maxWait) return;
  if (*options.maxWait <= Duration::zero()) detail::throwMisuse("the maxWait of a Debouncer must be positive", where);
  if (options.edge == Edge::LEADING)
    detail::throwMisuse("a Debouncer that reports the beginning of a burst alone has no use for maxWait", where);
}

void Debouncer::trigger(std::source_location where) {
  require("Debouncer::trigger was called", where);
  const TimePoint now = timer().now();
  catchUp(now);
  lastTrigger_ = now;
  if (inBurst_) {
    if (options_.edge != Edge::LEADING) ++gathered_;
  } else {
    inBurst_ = true;
    since_ = now;
    ++(options_.edge == Edge::TRAILING ? gathered_ : reported_);
  }
  changed();
}

Promise<std::size_t> Debouncer::next(std::source_location where) { return newPromise(where); }

void Debouncer::flush(std::source_location where) {
  require("Debouncer::flush was called", where);
  endBurst();
  changed();
}

void Debouncer::clear(std::source_location where) {
  require("Debouncer::clear was called", where);
  settle();
  inBurst_ = false;
  gathered_ = reported_ = 0;
}

std::optional<TimePoint> Debouncer::dueAt() noexcept {
  catchUp(timer().now());
  if (reported_ > 0) return TimePoint::min();
  if (gathered_ > 0) return reportAt();
  return std::nullopt;
}

std::size_t Debouncer::take() noexcept {
  catchUp(timer().now());
  if (reported_ == 0) endBurst(); // it was due, though now() may be older
  return std::exchange(reported_, 0);
}

TimePoint Debouncer::quietAt() const noexcept { return detail::timeAfter(lastTrigger_, quiet_); }

TimePoint Debouncer::reportAt() const noexcept {
  if (!options_.maxWait) return quietAt();
  return std::min(quietAt(), detail::timeAfter(since_, *options_.maxWait));
}

void Debouncer::catchUp(TimePoint now) noexcept {
  if (!inBurst_) return;
  if (quietAt() <= now) return endBurst();
  if (gathered_ == 0 || reportAt() > now) return;
  // The burst goes on, but has to be reported.
  since_ = now;
  reported_ += std::exchange(gathered_, 0);
}

void Debouncer::endBurst() noexcept {
  inBurst_ = false;
  reported_ += std::exchange(gathered_, 0);
}

// --- Throttler

Throttler::Throttler(Timer& timer, Duration interval, Edge edge, std::source_location where)
    : TimedSource(timer, "Throttler::next"), interval_(interval), edge_(edge) {
  if (interval <= Duration::zero()) detail::throwMisuse("the interval of a Throttler must be positive", where);
}

void Throttler::trigger(std::source_location where) {
  require("Throttler::trigger was called", where);
  const TimePoint now = timer().now();
  const bool inInterval = now < freeAt_;
  if (inInterval && edge_ == Edge::LEADING) return;
  if (!inInterval && edge_ == Edge::TRAILING && gathered_ == 0) freeAt_ = detail::timeAfter(now, interval_);
  ++gathered_;
  changed();
}

Promise<std::size_t> Throttler::next(std::source_location where) { return newPromise(where); }

void Throttler::flush(std::source_location where) {
  require("Throttler::flush was called", where);
  freeAt_ = TimePoint::min();
  changed();
}

void Throttler::clear(std::source_location where) {
  require("Throttler::clear was called", where);
  settle();
  gathered_ = 0;
}

std::optional<TimePoint> Throttler::dueAt() noexcept {
  if (gathered_ == 0) return std::nullopt;
  return freeAt_;
}

std::size_t Throttler::take() noexcept {
  freeAt_ = detail::timeAfter(std::max(timer().now(), freeAt_), interval_);
  return std::exchange(gathered_, 0);
}

} // namespace v0
} // namespace troth
