// SPDX-License-Identifier: MIT
// Planning the wake-ups of a libuv loop: absolute, rounded up, and only when an earlier deadline comes.
//
// The uv_timer_t is always armed for the earliest deadline, or for one that was earlier and is gone. Where its whole
// milliseconds would be too coarse, a PreciseWake comes before it.
#include <troth/timers/uv_timer.h>

#include <troth/timers/time_math_detail.h>

#include <algorithm>

namespace troth {
inline namespace v0 {
namespace {

using std::chrono::milliseconds;

TimePoint readClock() noexcept { return TimePoint(std::chrono::nanoseconds(uv_hrtime())); }

} // namespace

UvTimer::UvTimer(UvEventPort& port)
    : port_(port),
      handle_("uv_timer_init", [&](uv_timer_t* handle) { return uv_timer_init(port.uvLoop(), handle); }),
      precise_(
          port.uvLoop(), [](void* timer) noexcept { static_cast<UvTimer*>(timer)->onWake(); }, this) {
  handle_.setData(this);
}

TimePoint UvTimer::now() const {
  if (nowBatch_ != port_.batch()) {
    nowBatch_ = port_.batch();
    now_ = std::max(now_, readClock()); // never back, whatever a virtual machine's clock does
  }
  return now_;
}

Promise<void> UvTimer::atTime(TimePoint time, std::source_location where) {
  const bool isNext = !armedFor_ || time < *armedFor_;
  if (isNext) port_.uvLoop(where);
  Promise<void> promise = TimerQueue::add(time, where);
  if (isNext) arm(readClock());
  return promise;
}

Promise<void> UvTimer::afterDelay(Duration delay, std::source_location where) {
  const TimePoint now = readClock();
  const TimePoint time = detail::timeAfter(now, delay);
  const bool isNext = !armedFor_ || time < *armedFor_;
  if (isNext) port_.uvLoop(where);
  Promise<void> promise = TimerQueue::add(time, where);
  if (isNext) arm(now);
  return promise;
}

void UvTimer::setSlack(Duration slack, std::source_location where) {
  if (slack < Duration::zero()) detail::throwMisuse("the slack of a timer cannot be negative", where);
  slack_ = slack;
  if (!isEmpty()) arm(readClock());
}

// libuv counts from its loop's cached time, in whole milliseconds of the same clock; counting from there to
// the deadline on the clock's own scale makes the age of the cache irrelevant.
void UvTimer::arm(TimePoint now) noexcept {
  armedFor_ = nextEvent();
  if (!armedFor_) {
    uv_timer_stop(handle_.get());
    return;
  }
  if (*armedFor_ <= now) { // not rounded up: a delay of zero is over in the loop's next round
    startHandle(0);
    return;
  }
  const TimePoint latest = detail::timeAfter(*armedFor_, slack_);
  const auto first = std::chrono::ceil<milliseconds>(armedFor_->time_since_epoch());
  const auto last = std::chrono::floor<milliseconds>(latest.time_since_epoch());
  const auto due = std::max(first, last).count();
  const auto cached = static_cast<std::int64_t>(uv_now(handle_->loop));
  startHandle(due > cached ? static_cast<std::uint64_t>(due - cached) : 0);
  if (last < first) armPrecisely(latest, now);
}

void UvTimer::startHandle(std::uint64_t timeout) noexcept {
  uv_timer_start(
      handle_.get(),
      [](uv_timer_t* handle) {
        if (auto* timer = static_cast<UvTimer*>(handle->data)) timer->onWake();
      },
      timeout, 0);
}

// A wake-up that is planned already and comes earlier is left: when it comes, the next one is planned.
void UvTimer::armPrecisely(TimePoint latest, TimePoint now) noexcept {
  if (latest - now >= milliseconds(1)) return;
  if (precise_.isPlanned() && preciseFor_ <= latest) return;
  precise_.plan(latest - now);
  preciseFor_ = latest;
}

void UvTimer::onWake() noexcept {
  const TimePoint now = readClock();
  advanceTo(now);
  arm(now);
}

// The earliest deadline's going leaves the timer armed: one early wake-up costs less than arming anew each
// time. With none left it is stopped, since it would keep the loop alive.
void UvTimer::onRemoved() noexcept {
  if (isEmpty()) arm(TimePoint());
}

} // namespace v0
} // namespace troth
