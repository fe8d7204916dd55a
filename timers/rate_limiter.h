// SPDX-License-Identifier: MIT
// RateLimiter: so many in a time, and no more; a token bucket.
#pragma once

#include <troth/runtime/promise.h>
#include <troth/runtime/waiter_detail.h>
#include <troth/timers/alarm_detail.h>
#include <troth/timers/timer.h>

#include <chrono>
#include <cstdint>
#include <source_location>

namespace troth {
inline namespace v0 {

/// How much is allowed: `tokens` in each `per`, and up to `burst` at once after a time of rest.
struct RateLimit {
  std::uint64_t tokens = 1;
  Duration per = std::chrono::seconds(1);
  /// 0: as many as `tokens`.
  std::uint64_t burst = 0;
};

/// Lets those who acquire tokens go on at a limited rate: requests to a service that counts them, bytes of a slow line.
///
///     RateLimiter limiter(timer, {.tokens = 100, .per = 1s, .burst = 20});
///     …
///     co_await limiter.acquire();
///     co_await sendRequest(connection);
///
/// A bucket that holds `burst` tokens and is full at first. Tokens come into it one by one, evenly, while it is not
/// full; no more than `burst + tokens * t / per` can be acquired in any time t. The arithmetic is exact, by integers:
/// no rounding adds up, however long it runs and however odd the rate.
///
/// Fair: first come, first served, also when they want different numbers. Who comes later waits even if there are
/// enough tokens for it, as long as somebody in front of it waits for more.
///
/// Belongs to the loop on which it is first used; on another thread its functions throw FAILED. Destroying it rejects
/// those who wait with DISCONNECTED. Those who wait may destroy it when they go on. Any number of them cost one
/// deadline of the timer, and an operation costs no heap allocation.
class RateLimiter final : private detail::Alarm {
public:
  /// `timer` must outlive it. Throws FAILED if `limit` has no tokens, more than 2^63 - 1 of them or such a burst, or a
  /// time that is not positive.
  RateLimiter(Timer& timer, RateLimit limit, std::source_location where = std::source_location::current());
  ~RateLimiter() override;

  /// Takes `count` tokens. Throws FAILED if that is more than the burst: they would never be there at once.
  ///
  /// Completes:    when nobody waits in front and the tokens are there; it may be at once.
  /// Errors:       DISCONNECTED if the limiter, or the timer, is destroyed; FAILED if the burst becomes less than that.
  /// Cancellation: clean, even when it is ready: the tokens go back and the next in line moves up.
  Promise<void> acquire(std::uint64_t count = 1, std::source_location where = std::source_location::current());

  /// Takes `count` tokens if acquire() would have them at once.
  bool tryAcquire(std::uint64_t count = 1, std::source_location where = std::source_location::current());

  /// The number of tokens in the bucket.
  std::uint64_t available() const noexcept;

  /// From now on another limit. Tokens that came before stay, up to the new burst. Throws as the constructor does.
  void setLimit(RateLimit limit, std::source_location where = std::source_location::current());
  /// The limit that holds; its burst is not 0.
  const RateLimit& limit() const noexcept { return limit_; }

private:
  class Node;

  /// What is in the bucket at a time.
  struct Bucket {
    std::uint64_t tokens;
    std::uint64_t fraction; // of a token, in parts of limit_.per nanoseconds
    TimePoint at;
  };

  RateLimit limit_;
  Bucket bucket_;
  detail::HomeLoop home_;
  detail::WaiterList line_;   // if there is one, the tokens are not enough for the first
  detail::WaiterList served_; // got theirs, but nobody has taken the result

  Bucket bucketAt(TimePoint now) const noexcept;
  TimePoint fullEnoughAt(std::uint64_t count) const noexcept;
  bool tryTake(std::uint64_t count) noexcept;
  void giveBack(std::uint64_t count) noexcept;
  void serve(TimePoint now) noexcept;
  void onAlarm(TimePoint now) noexcept override { serve(now); }
  void onAlarmFailed(const Exception& exception) noexcept override { line_.failAll(exception); }
  void requireCount(std::uint64_t count, const std::source_location& where) const;
};

} // namespace v0
} // namespace troth
