// SPDX-License-Identifier: MIT
// SimulatedLoop: an event loop for tests, without an operating system, whose time passes when there is nothing to do.
#pragma once

#include <troth/runtime/event_loop.h>
#include <troth/timers/manual_timer.h>
#include <troth/timers/time_math_detail.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <source_location>

namespace troth {
inline namespace v0 {

/// When a simulation begins, and what ends one that would not end by itself.
struct SimulatedLoopOptions {
  /// The time at the beginning.
  TimePoint start = TimePoint();
  /// How much time may pass in all. Beyond that wait() and the functions below throw FAILED, so that a task that never
  /// ends does not hang a test.
  Duration limit = std::chrono::hours(24);
  /// How many events may run at one and the same time, about. Beyond that the same happens: a task that never waits
  /// does not let time pass.
  std::size_t eventsAtOnce = 1'000'000;
};

/// A loop, its time and the right to wait on it. As soon as nothing is left to do at a time, it is the time of the next
/// deadline: an hour of heartbeats takes as long as the work that is done in it. Nothing depends on the clock or on the
/// system, so each run is like the one before.
///
///     SimulatedLoop simulated;
///     MemoryNetwork network(simulated.timer());
///     Client client(network, simulated.timer());
///     client.stayConnected().wait(simulated.waitScope());
///
/// `wait()` moves time as far as it takes; if no deadline is pending either, that is a deadlock, and it throws as on
/// any loop. `poll()` never moves time.
///
/// What happens outside, such as I/O or work on other threads, it does not wait for: time would pass meanwhile. Events
/// that another thread announces by `port().wake()` are noticed before time moves, if they have come by then.
///
/// Belongs to the thread on which it was made, as its current loop. What waits on it must be destroyed before it.
class SimulatedLoop {
public:
  /// Throws FAILED if the thread has a loop already, or if the limit is negative.
  explicit SimulatedLoop(SimulatedLoopOptions options = {},
                         std::source_location where = std::source_location::current());
  ~SimulatedLoop();
  SimulatedLoop(const SimulatedLoop&) = delete;
  SimulatedLoop& operator=(const SimulatedLoop&) = delete;

  /// What wait() and poll() take.
  WaitScope& waitScope() noexcept { return scope_; }
  EventLoop& loop() noexcept { return loop_; }
  /// For wake(), from any thread.
  EventPort& port() noexcept { return port_; }
  /// The simulated time: what the code under test takes.
  Timer& timer() noexcept { return timer_; }

  /// As timer().now().
  TimePoint now() const noexcept { return timer_.now(); }
  /// How much time has passed since the beginning.
  Duration elapsed() const noexcept { return detail::timeBetween(port_.start(), now()); }

  /// Runs all that happens in the next `duration`, and lets exactly that time pass. Throws FAILED if `duration` is
  /// negative or beyond the limit, and when called from inside an event.
  void runFor(Duration duration, std::source_location where = std::source_location::current());

  /// Runs until nothing is queued and no deadline is pending: until all that is left waits for something that cannot
  /// come by itself. Throws FAILED at the limit, and when called from inside an event.
  void runUntilIdle(std::source_location where = std::source_location::current());

private:
  class Port final : public EventPort {
  public:
    Port(ManualTimer& timer, const SimulatedLoopOptions& options) noexcept
        : timer_(timer), options_(options), end_(detail::timeAfter(options.start, options.limit)) {}

    bool wait() override;
    void poll() override;
    void wake() const override { woken_.store(true, std::memory_order_release); }

    void setScope(const WaitScope& scope) noexcept { scope_ = &scope; }
    TimePoint start() const noexcept { return options_.start; }
    TimePoint end() const noexcept { return end_; }
    /// Lets time pass until the next deadline if that is not after `end`; returns whether it was.
    bool advance(TimePoint end);
    /// Whether there is a deadline that may come some day.
    bool hasDeadline() const noexcept;
    [[noreturn]] void throwLimit(std::source_location where) const;

  private:
    ManualTimer& timer_;
    SimulatedLoopOptions options_;
    TimePoint end_;
    const WaitScope* scope_ = nullptr;
    std::size_t events_ = 0; // in a row, since time moved, about
    mutable std::atomic<bool> woken_ = false;
  };

  // In the order in which each needs the one before; the timer is in the loop while something is due, so it goes first.
  Port port_;
  EventLoop loop_;
  WaitScope scope_;
  ManualTimer timer_;
};

} // namespace v0
} // namespace troth
