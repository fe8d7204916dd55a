// SPDX-License-Identifier: MIT
// EventLoopObserver: hears when an event loop waits, and which of its turns are slow.
#pragma once

#include <chrono>
#include <string_view>

namespace troth {
inline namespace v0 {

/// Hears when a loop waits for the world and when it goes on: the time in between is idle time, the rest is work. Set
/// with EventLoop::setObserver(). Called on the loop's thread; must not throw, and must not touch the loop.
class EventLoopObserver {
public:
  virtual ~EventLoopObserver() = default;

  virtual void onWaitStart() noexcept {}
  virtual void onWaitEnd() noexcept {}

  /// A turn, which ran one continuation or coroutine until it waited or ended, took longer than slowTurnLimit(): so
  /// long, nothing else could happen on this thread. `trace` says what ran, and what waited for it, one step a line.
  /// (Told when the turn has ended; of one that never does, a debugger tells. The last step of the promise that a
  /// wait() is for, if nobody else has asked for it, is run by that wait(), and is no turn.)
  virtual void onSlowTurn(std::chrono::nanoseconds duration, std::string_view trace) noexcept {
    (void)duration;
    (void)trace;
  }

  /// Asked once, by setObserver(). Unless it is the default, turns are timed, which costs each about as much again
  /// as the loop itself: a tool for development and for finding out.
  virtual std::chrono::nanoseconds slowTurnLimit() const noexcept { return std::chrono::nanoseconds::max(); }
};

} // namespace v0
} // namespace troth
