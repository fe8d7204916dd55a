// SPDX-License-Identifier: MIT
// TimeoutList: deadlines that are all the same time away when they are set.
#pragma once

#include <troth/timers/clock.h>

namespace troth {
inline namespace v0 {
namespace http {
namespace detail {

/// A deadline's place in a list. It leaves the list when it is destroyed.
class TimeoutLink {
public:
  TimeoutLink() noexcept = default;
  TimeoutLink(const TimeoutLink&) = delete;
  TimeoutLink& operator=(const TimeoutLink&) = delete;
  ~TimeoutLink() { unlink(); }

  bool isLinked() const noexcept { return next_ != nullptr; }
  TimePoint deadline() const noexcept { return deadline_; }
  void unlink() noexcept {
    if (next_ == nullptr) return;
    next_->prev_ = prev_;
    prev_->next_ = next_;
    next_ = nullptr;
  }

private:
  friend class TimeoutList;

  TimeoutLink* next_ = nullptr;
  TimeoutLink* prev_ = nullptr;
  TimePoint deadline_;
};

/// Since every deadline is set for the same delay, each comes behind those before it: setting and clearing one costs a
/// few instructions, however many there are, where a heap would cost their logarithm.
class TimeoutList {
public:
  explicit TimeoutList(Duration delay) noexcept : delay_(delay) { ring_.next_ = ring_.prev_ = &ring_; }
  ~TimeoutList() { ring_.next_ = nullptr; }
  TimeoutList(const TimeoutList&) = delete;
  TimeoutList& operator=(const TimeoutList&) = delete;

  Duration delay() const noexcept { return delay_; }
  /// Whether deadlines are kept at all: Duration::max() is none.
  bool isOn() const noexcept { return delay_ != Duration::max(); }

  /// Sets `link`, which is in no list, and stays where it is meanwhile. `now` does not go back.
  void add(TimeoutLink& link, TimePoint now) noexcept {
    link.deadline_ = now + delay_;
    link.next_ = &ring_;
    link.prev_ = ring_.prev_;
    ring_.prev_->next_ = &link;
    ring_.prev_ = &link;
  }

  /// The one that comes first; null if there is none.
  TimeoutLink* front() const noexcept { return ring_.next_ == &ring_ ? nullptr : ring_.next_; }

private:
  const Duration delay_;
  TimeoutLink ring_;
};

} // namespace detail
} // namespace http
} // namespace v0
} // namespace troth
