// SPDX-License-Identifier: MIT
// Alarm: a callback at a time, for what serves promises of its own when the time has come.
#pragma once

#include <troth/timers/timer.h>

#include <optional>
#include <source_location>

namespace troth {
inline namespace v0 {
namespace detail {

/// To be inherited. It costs one deadline of the timer while it is set, and nothing else: what it needs of a loop
/// exists only then, so the object may be made before the loop and outlive it. The callbacks run in an event of their
/// own, may set the alarm again, and must run no code of the user.
class Alarm {
public:
  Alarm(const Alarm&) = delete;
  Alarm& operator=(const Alarm&) = delete;

protected:
  /// `timer` must outlive the alarm.
  explicit Alarm(Timer& timer) noexcept : timer_(timer) {}
  virtual ~Alarm() = default;

  Timer& timer() const noexcept { return timer_; }

  /// From now on onAlarm() will be called at `time`, or earlier if the alarm is set for an earlier time: putting it off
  /// would cost more than a call too many. Throws what the timer throws, and has done nothing then.
  void setAlarm(TimePoint time, std::source_location where);
  void stopAlarm() noexcept { ring_.reset(); }

  /// The time for which the alarm was set has come. `now` is the timer's, or that time if it is later.
  virtual void onAlarm(TimePoint now) noexcept = 0;
  /// The timer failed: it was destroyed.
  virtual void onAlarmFailed(const Exception& exception) noexcept = 0;

private:
  class Ring final : public Event {
  public:
    Ring(Alarm& alarm, std::source_location where) : Event(EventLoop::current(where)), alarm_(alarm) {}
    ~Ring() override { clear(); }

    bool isSetUntil(TimePoint time) const noexcept { return static_cast<bool>(promise_) && time_ <= time; }
    void set(OwnNode promise, TimePoint time);

  private:
    Alarm& alarm_;
    OwnNode promise_;
    TimePoint time_;

    void clear() noexcept {
      promise_ = OwnNode();
      disarm(); // after: what goes may still have armed it
    }
    void fire() noexcept override;
  };

  Timer& timer_;
  std::optional<Ring> ring_; // while the alarm is set
};

} // namespace detail
} // namespace v0
} // namespace troth
