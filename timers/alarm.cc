// SPDX-License-Identifier: MIT
// Waiting for a timer's promise without a continuation, so that the callback may begin the next wait.
#include <troth/timers/alarm_detail.h>

#include <algorithm>
#include <utility>

namespace troth {
inline namespace v0 {
namespace detail {

void Alarm::setAlarm(TimePoint time, std::source_location where) {
  if (ring_ && ring_->isSetUntil(time)) return;
  Promise<void> promise = timer_.atTime(time, where);
  OwnNode node = PromiseAccess::take(promise, where);
  requireOwnLoop(node);
  if (!ring_) ring_.emplace(*this, where);
  ring_->set(std::move(node), time);
}

void Alarm::Ring::set(OwnNode promise, TimePoint time) {
  clear();
  promise_ = std::move(promise);
  time_ = time;
  if (promise_.listen(this)) armBreadthFirst();
}

void Alarm::Ring::fire() noexcept {
  Alarm& alarm = alarm_;
  const TimePoint time = time_;
  ExceptionRef failure;
  {
    const OwnNode promise = std::move(promise_);
    failure = resolve(*promise).exception; // a copy: the promise may be one that all threads share
  }
  doneFiring();
  alarm.ring_.reset(); // this event; the callback may make another
  if (failure)
    alarm.onAlarmFailed(Exception(std::move(failure)));
  else
    alarm.onAlarm(std::max(time, alarm.timer_.now()));
}

} // namespace detail
} // namespace v0
} // namespace troth
