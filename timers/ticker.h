// SPDX-License-Identifier: MIT
// Ticker: something to do every so often.
#pragma once

#include <troth/timers/timed_source_detail.h>
#include <troth/timers/timer.h>

#include <cstdint>
#include <optional>
#include <source_location>

namespace troth {
inline namespace v0 {

/// What becomes of ticks that nobody was there to take.
enum class MissedTicks : std::uint8_t {
  SKIP,  ///< They are left out, and the schedule holds: the next tick is at the next multiple of the period.
  BURST, ///< None is left out: they come one after the other, at once, until the schedule is caught up with.
  DELAY  ///< They are left out, and the schedule moves: the next tick is one period after the late one was taken.
};

/// From when on a period counts.
enum class TickerPace : std::uint8_t {
  FIXED_RATE, ///< From tick to tick, whatever the work in between takes. Nothing accumulates: no drift.
  FIXED_DELAY ///< From the end of the work, which is timer.now() at the next call of Ticker::next(). None is missed.
};

/// How a Ticker ticks.
struct TickerOptions {
  /// From when on a period counts.
  TickerPace pace = TickerPace::FIXED_RATE;
  /// What becomes of ticks that are missed; with a fixed rate.
  MissedTicks missed = MissedTicks::SKIP;
  /// The time of the first tick; by default it is one period after the ticker was made, or with a fixed delay after
  /// the first next(). One that has passed counts as well.
  std::optional<TimePoint> first = std::nullopt;
};

/// A tick as it was taken.
struct Tick {
  /// The time for which it was planned; it was taken then or later.
  TimePoint due;
  /// How many further ticks had become due by the time at which it was taken. With BURST these are still to come;
  /// otherwise they are left out.
  std::uint64_t missed = 0;
};

/// Ticks in a fixed rhythm.
///
///     Ticker ticker(timer, 1s);
///     for (;;) {
///       co_await ticker.next();
///       co_await sendPing(connection);
///     }
///
/// It does nothing by itself: while nobody waits in next() no deadline is pending, and what was due meanwhile is found
/// out by counting. So it costs nothing to keep, and no tick is held in memory.
///
/// Belongs to the loop on which it is first used; on another thread its functions throw FAILED. Destroying it rejects
/// the next() that waits with DISCONNECTED.
class Ticker final : private detail::TimedSource<Tick> {
public:
  /// `timer` must outlive the ticker. Throws FAILED if `period` is not positive.
  Ticker(Timer& timer, Duration period, TickerOptions options = {},
         std::source_location where = std::source_location::current());
  ~Ticker() override { close("the ticker was destroyed while a next() waited"); }

  /// Waits for the next tick.
  ///
  /// Completes:    when the tick is due, never before; at once if it was due already.
  /// Errors:       DISCONNECTED if the ticker, or the timer, is destroyed.
  /// Cancellation: clean, even when it is ready: the next call gives the same tick.
  /// Overlap:      one at a time; a second call throws FAILED.
  Promise<Tick> next(std::source_location where = std::source_location::current());

  /// Begins anew: the next tick is one period from now. For what is to happen only after a time of silence. A next()
  /// that is pending waits for the new time; one that is ready keeps its tick.
  void reset(std::source_location where = std::source_location::current());

  Duration period() const noexcept { return period_; }

private:
  Duration period_;
  TickerOptions options_;
  std::optional<TimePoint> due_; // of the next tick; nothing after a tick with a fixed delay, until next()

  std::optional<TimePoint> dueAt() noexcept override;
  Tick take() noexcept override;
  TimePoint dueAfter(const Tick& tick, TimePoint now, Duration over) const noexcept;
};

} // namespace v0
} // namespace troth
