// SPDX-License-Identifier: MIT
// The port that has nothing to wait for but time.
//
// The loop asks its port to wait() when nothing is queued. All that can happen then is the next deadline, so the port
// sets the time to that one and returns. poll() is asked when nothing is queued and, if that does not happen, after
// each thousand events, and when one of them wants it: that is how events without end, in which no time passes, are
// noticed.
#include <troth/timers/simulated_loop.h>

#include <troth/timers/duration_text_detail.h>

#include <fmt/format.h>

namespace troth {
inline namespace v0 {

bool SimulatedLoop::Port::hasDeadline() const noexcept {
  const std::optional<TimePoint> next = timer_.nextEvent();
  return next && *next != TimePoint::max();
}

bool SimulatedLoop::Port::advance(TimePoint end) {
  if (!hasDeadline()) return false;
  const TimePoint next = *timer_.nextEvent();
  if (next > end) return false;
  events_ = 0;
  timer_.advanceTo(std::max(next, timer_.now()));
  return true;
}

bool SimulatedLoop::Port::wait() {
  if (woken_.exchange(false, std::memory_order_acquire) || advance(end_)) return true;
  if (hasDeadline()) throwLimit(std::source_location::current());
  return false;
}

void SimulatedLoop::Port::poll() {
  if (!scope_->isIdle())
    events_ += scope_->loop().eventsInBatch();
  else if (scope_->loop().isRunnable())
    ++events_; // what waits until the loop would sleep
  else
    events_ = 0;
  if (events_ <= options_.eventsAtOnce) return;
  events_ = 0;
  detail::throwMisuse(
      fmt::format("the simulation does not get on: after {} events no time has passed yet, and more are "
                  "queued (SimulatedLoopOptions::eventsAtOnce)",
                  options_.eventsAtOnce));
}

void SimulatedLoop::Port::throwLimit(std::source_location where) const {
  detail::throwMisuse(fmt::format("the simulation has come to its limit of {}, and is not done "
                                  "(SimulatedLoopOptions::limit)",
                                  detail::durationText(options_.limit)),
                      where);
}

SimulatedLoop::SimulatedLoop(SimulatedLoopOptions options, std::source_location where)
    : port_(timer_, options), loop_(port_), scope_(loop_, where), timer_(options.start) {
  if (options.limit < Duration::zero()) detail::throwMisuse("the limit of a simulation is negative", where);
  port_.setScope(scope_);
}

SimulatedLoop::~SimulatedLoop() { loop_.cancelAllDetached(); }

void SimulatedLoop::runFor(Duration duration, std::source_location where) {
  if (duration < Duration::zero()) detail::throwMisuse("time cannot go back", where);
  const TimePoint end = detail::timeAfter(now(), duration);
  if (end > port_.end()) port_.throwLimit(where);
  scope_.poll(SIZE_MAX, where);
  while (port_.advance(end)) scope_.poll(SIZE_MAX, where);
  timer_.advanceTo(end);
}

void SimulatedLoop::runUntilIdle(std::source_location where) {
  scope_.poll(SIZE_MAX, where);
  while (port_.advance(port_.end())) scope_.poll(SIZE_MAX, where);
  if (port_.hasDeadline()) port_.throwLimit(where);
}

} // namespace v0
} // namespace troth
