// SPDX-License-Identifier: MIT
// Arming the one uv_timer_t: absolute, rounded up, and only when an earlier deadline comes.
#include <troth/timers/uv_timer.h>

namespace troth {
inline namespace v0 {
namespace {

TimePoint readClock() noexcept { return TimePoint(std::chrono::nanoseconds(uv_hrtime())); }

} // namespace

UvTimer::UvTimer(UvEventPort& port)
    : port_(port), handle_("uv_timer_init", [&](uv_timer_t* handle) { return uv_timer_init(port.uvLoop(), handle); }) {
  handle_.setData(this);
}

TimePoint UvTimer::now() const {
  if (nowBatch_ != port_.batch()) {
    nowBatch_ = port_.batch();
    now_ = readClock();
  }
  return now_;
}

Promise<void> UvTimer::atTime(TimePoint time, std::source_location where) {
  Promise<void> promise = add(time, where);
  if (!armedFor_ || time < *armedFor_) arm();
  return promise;
}

Promise<void> UvTimer::afterDelay(Duration delay, std::source_location where) {
  return atTime(detail::saturatingAdd(readClock(), delay), where);
}

// libuv counts from its loop's cached time, in whole milliseconds of the same clock; counting from there to
// the deadline on the clock's own scale makes the age of the cache irrelevant.
void UvTimer::arm() noexcept {
  const std::optional<TimePoint> next = nextDeadline();
  armedFor_ = next;
  if (!next) {
    uv_timer_stop(handle_.get());
    return;
  }
  const auto due = std::chrono::ceil<std::chrono::milliseconds>(next->time_since_epoch()).count();
  const auto cached = static_cast<std::int64_t>(uv_now(handle_->loop));
  const auto timeout = due > cached ? static_cast<std::uint64_t>(due - cached) : 0;
  uv_timer_start(
      handle_.get(),
      [](uv_timer_t* handle) {
        if (auto* timer = static_cast<UvTimer*>(handle->data)) timer->onWake();
      },
      timeout, 0);
}

void UvTimer::onWake() noexcept {
  expire(readClock());
  arm();
}

// The earliest deadline's going leaves the timer armed: one early wake-up costs less than arming anew each
// time. With none left it is stopped, since it would keep the loop alive.
void UvTimer::onRemoved() noexcept {
  if (isEmpty()) arm();
}

} // namespace v0
} // namespace troth
