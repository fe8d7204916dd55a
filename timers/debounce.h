// SPDX-License-Identifier: MIT
// Debouncer and Throttler: many triggers become few.
#pragma once

#include <troth/timers/timed_source_detail.h>
#include <troth/timers/timer.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <source_location>

namespace troth {
inline namespace v0 {

// Which one? Both take triggers, by the hundred if need be, and let a task of yours run once for many:
//
//   Debouncer   when the triggers have stopped for a while: save a document when its author pauses
//   Throttler   at most once in an interval, but soon: redraw while a value keeps changing
//
// Neither owns the work, nor calls it. The task that does it asks for the next time to run, does the work, handles its
// errors, and is cancelled by destroying its promise:
//
//     Promise<void> saveChanges(Debouncer& changes, Document& document) {
//       for (;;) {
//         co_await changes.next();
//         co_await document.save();
//       }
//     }
//
// Triggers that come while the work is done are not lost, and never make it run twice at a time.

/// At which end of a burst of triggers, or of an interval, a task may run.
enum class Edge : std::uint8_t {
  TRAILING, ///< At the end: it sees the last of the changes.
  LEADING,  ///< At the beginning: it runs at once, and what follows is left out.
  BOTH      ///< At the beginning, and at the end if there was a trigger after the first.
};

/// When a Debouncer reports.
struct DebounceOptions {
  /// At which end of a burst.
  Edge edge = Edge::TRAILING;
  /// A burst that goes on for longer than this is reported all the same, every so often. Not with LEADING.
  std::optional<Duration> maxWait = std::nullopt;
};

/// Waits until triggers have paused.
///
/// A burst begins with a trigger and is over when none has come for the time `quiet`. trigger() costs a look at the
/// clock: it sets no timer of its own. Bursts that end while nobody waits in next() become one.
///
/// Belongs to the loop on which it is first used; on another thread its functions throw FAILED. Destroying it rejects
/// the next() that waits with DISCONNECTED, and forgets the triggers.
class Debouncer final : private detail::TimedSource<std::size_t> {
public:
  /// `timer` must outlive it. Throws FAILED if `quiet` or maxWait is not positive, or for maxWait with LEADING.
  Debouncer(Timer& timer, Duration quiet, DebounceOptions options = {},
            std::source_location where = std::source_location::current());
  ~Debouncer() override { close("the debouncer was destroyed while a next() waited"); }

  /// Something has changed.
  void trigger(std::source_location where = std::source_location::current());

  /// Waits until it is time to act.
  ///
  /// Completes:    at the edge of a burst that was not reported yet; at once if that has passed.
  /// Result:       the number of triggers that it stands for, at least 1.
  /// Errors:       DISCONNECTED if the debouncer, or the timer, is destroyed.
  /// Cancellation: clean, even when it is ready: the next call reports the same triggers.
  /// Overlap:      one at a time; a second call throws FAILED.
  Promise<std::size_t> next(std::source_location where = std::source_location::current());

  /// Ends the burst now, if there is one, as if it had been quiet: for example before a program ends.
  void flush(std::source_location where = std::source_location::current());
  /// Forgets all triggers that were not reported. A next() that is ready keeps its own.
  void clear(std::source_location where = std::source_location::current());

  /// Whether there are triggers that were not reported, and will be.
  bool isPending() const noexcept { return reported_ + gathered_ > 0; }

private:
  Duration quiet_;
  DebounceOptions options_;
  // A burst, while there is one.
  bool inBurst_ = false;
  TimePoint lastTrigger_;
  TimePoint since_;          // its begin, or its last report because of maxWait
  std::size_t gathered_ = 0; // triggers for its end
  std::size_t reported_ = 0; // triggers for the next promise, which is due

  std::optional<TimePoint> dueAt() noexcept override;
  std::size_t take() noexcept override;
  TimePoint quietAt() const noexcept;
  TimePoint reportAt() const noexcept;
  void catchUp(TimePoint now) noexcept;
  void endBurst() noexcept;
};

/// Lets a task run at most once in an interval.
///
/// The interval begins when the result of a next() is taken. trigger() costs a look at the clock: it sets no timer of
/// its own.
///
/// Belongs to the loop on which it is first used; on another thread its functions throw FAILED. Destroying it rejects
/// the next() that waits with DISCONNECTED, and forgets the triggers.
class Throttler final : private detail::TimedSource<std::size_t> {
public:
  /// With LEADING, triggers in the interval are left out; with BOTH they let the task run again at its end; with
  /// TRAILING, a trigger outside of an interval begins one first. `timer` must outlive it. Throws FAILED if `interval`
  /// is not positive.
  Throttler(Timer& timer, Duration interval, Edge edge = Edge::BOTH,
            std::source_location where = std::source_location::current());
  ~Throttler() override { close("the throttler was destroyed while a next() waited"); }

  /// Something has changed.
  void trigger(std::source_location where = std::source_location::current());

  /// Waits until it is time to act.
  ///
  /// Completes:    when there was a trigger and the interval is over; at once if that is so already.
  /// Result:       the number of triggers that it stands for, at least 1.
  /// Errors:       DISCONNECTED if the throttler, or the timer, is destroyed.
  /// Cancellation: clean, even when it is ready: the next call reports the same triggers.
  /// Overlap:      one at a time; a second call throws FAILED.
  Promise<std::size_t> next(std::source_location where = std::source_location::current());

  /// Ends the interval now, if there is one: for example before a program ends.
  void flush(std::source_location where = std::source_location::current());
  /// Forgets all triggers that were not reported. A next() that is ready keeps its own.
  void clear(std::source_location where = std::source_location::current());

  /// Whether there are triggers that were not reported, and will be.
  bool isPending() const noexcept { return gathered_ > 0; }

private:
  Duration interval_;
  Edge edge_;
  std::size_t gathered_ = 0;
  TimePoint freeAt_ = TimePoint::min(); // the end of the interval

  std::optional<TimePoint> dueAt() noexcept override;
  std::size_t take() noexcept override;
};

} // namespace v0
} // namespace troth
