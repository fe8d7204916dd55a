// SPDX-License-Identifier: MIT
// retry: tries again what failed, after pauses that grow; Backoff, the pauses alone.
#pragma once

#include <troth/runtime/promise.h>
#include <troth/timers/deadline.h>
#include <troth/timers/random.h>
#include <troth/timers/timer.h>

#include <chrono>
#include <climits>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <source_location>
#include <type_traits>
#include <utility>

namespace troth {
inline namespace v0 {

/// How chance changes a pause, so that those who failed together do not all come back together.
enum class Jitter : std::uint8_t {
  FULL,         ///< Anything between nothing and the whole pause: spreads best.
  EQUAL,        ///< Half of the pause, and anything up to the other half: never less than half.
  DECORRELATED, ///< Anything between `initial` and three times the pause before. `multiplier` means nothing.
  NONE          ///< The pause as it is: when there is only one who tries.
};

/// How long pauses are.
struct BackoffOptions {
  /// The first one, before the jitter.
  Duration initial = std::chrono::milliseconds(100);
  /// No pause is longer.
  Duration max = std::chrono::seconds(10);
  /// Each pause is so many times as long as the one before.
  double multiplier = 2;
  Jitter jitter = Jitter::FULL;
};

/// Pauses that grow: initial, initial * multiplier, … up to max, with jitter. For loops of your own, such as one that
/// keeps a connection up and begins anew after each that lasted.
class Backoff {
public:
  /// Throws FAILED if `initial` is not positive, `max` is less, or `multiplier` is less than 1.
  explicit Backoff(BackoffOptions options = {}, std::source_location where = std::source_location::current());

  /// The length of the next pause.
  Duration next(RandomSource& random);
  /// The next pause is the first again.
  void reset() noexcept { previous_ = Duration::zero(); }

private:
  BackoffOptions options_;
  Duration previous_ = Duration::zero(); // with DECORRELATED as it was; otherwise before the jitter

  Duration grown() const noexcept;
};

/// Whether trying again may help: true for DISCONNECTED (the next connection may hold) and OVERLOADED (there may be
/// room later), false for FAILED and UNIMPLEMENTED, which would only come again.
bool isWorthRetrying(const Exception& exception) noexcept;

/// An attempt that failed and will be followed by another.
struct FailedAttempt {
  /// 1 for the first.
  unsigned number;
  /// How long the pause before the next one will be.
  Duration pause;
  const Exception& error;
};

/// How often, for how long and after which errors something is tried again.
struct RetryOptions {
  /// For as long as it takes.
  static constexpr unsigned UNLIMITED = UINT_MAX;

  /// How many attempts there are in all, the first included.
  unsigned attempts = 5;
  /// How long the pauses in between are.
  BackoffOptions backoff = {};
  /// By when all must be done. It ends an attempt that takes too long; no pause is begun that would last longer.
  std::optional<Deadline> deadline = std::nullopt;
  /// Whether an attempt that failed so is followed by another. What it throws is what retry() fails with.
  std::function<bool(const Exception&)> shouldRetry = isWorthRetrying;
  /// Called before each pause: for logs and counters. What it throws is what retry() fails with.
  std::function<void(const FailedAttempt&)> onRetry = nullptr;
};

/// Calls `func()`, and again after a pause each time that what it returns fails, as long as `options` allow.
///
///     Connection connection = co_await retry(timer, {.attempts = 8}, random, [&] { return connect(address); });
///
/// `func` returns a promise or a value, and is called at once the first time; what it throws counts as a failure. A
/// time-out of each attempt goes inside: `[&] { return timer.timeoutAfter(2s, connect(address)); }`. It may be a lambda
/// that is a coroutine: its captures live as long as the promise.
///
/// (For one more try, at once, on a connection that may have been closed while it was idle: retryOnDisconnect().)
///
/// Throws FAILED if `options` make no sense: no attempts, or as Backoff().
///
/// Completes:    when an attempt succeeds.
/// Errors:       the error of the last attempt. If that was not the first, it begins with "gave up after 3 attempts: ",
///               and is a troth::Exception; otherwise it is as it was thrown.
/// Cancellation: that of the attempt that is under way; clean in a pause.
/// Lifetime:     `timer` and `random` stay alive until the promise completes or is destroyed.
template <typename Func>
auto retry(Timer& timer, RetryOptions options, RandomSource& random, Func func,
           std::source_location where = std::source_location::current())
    -> detail::PromiseOf<std::invoke_result_t<Func&>>;

/// The same with random numbers of its own, seeded from the system when the first pause comes.
template <typename Func>
auto retry(Timer& timer, RetryOptions options, Func func, std::source_location where = std::source_location::current())
    -> detail::PromiseOf<std::invoke_result_t<Func&>>;

// --- Implementation.

namespace detail {

/// What a retry() knows, whatever it is for.
class Retrying : public Pooled {
public:
  /// `random` may be null.
  Retrying(Timer& timer, RetryOptions options, RandomSource* random, std::source_location where);

  template <typename T>
  Promise<T> limit(Promise<T> attempt) const {
    return options_.deadline ? options_.deadline->limit(std::move(attempt), {}, where_) : std::move(attempt);
  }

  /// Of a catch block: throws if there will be no further attempt.
  void attemptFailed();
  /// Waits until it is time for the next attempt.
  Promise<void> pause() { return timer_.afterDelay(pause_, where_); }

private:
  Timer& timer_;
  RetryOptions options_;
  RandomSource* random_;
  std::optional<SeededRandom> ownRandom_;
  Backoff backoff_;
  std::source_location where_;
  unsigned failed_ = 0; // attempts
  Duration pause_ = Duration::zero();

  RandomSource& random();
  [[noreturn]] void giveUp(const Exception& error, const char* why) const;
};

template <typename T, typename Func>
Promise<T> retryLoop(std::unique_ptr<Retrying> retrying, Func func) {
  for (;;) {
    try {
      co_return co_await retrying->limit(evalNow(func));
    } catch (...) {
      retrying->attemptFailed();
    }
    co_await retrying->pause();
  }
}

template <typename Func>
auto startRetrying(Timer& timer, RetryOptions&& options, RandomSource* random, Func&& func,
                   const std::source_location& where) -> PromiseOf<std::invoke_result_t<Func&>> {
  using T = typename PromiseOf<std::invoke_result_t<Func&>>::ValueType;
  return retryLoop<T, Func>(std::make_unique<Retrying>(timer, std::move(options), random, where), std::move(func));
}

} // namespace detail

template <typename Func>
auto retry(Timer& timer, RetryOptions options, RandomSource& random, Func func, std::source_location where)
    -> detail::PromiseOf<std::invoke_result_t<Func&>> {
  return detail::startRetrying(timer, std::move(options), &random, std::move(func), where);
}

template <typename Func>
auto retry(Timer& timer, RetryOptions options, Func func, std::source_location where)
    -> detail::PromiseOf<std::invoke_result_t<Func&>> {
  return detail::startRetrying(timer, std::move(options), nullptr, std::move(func), where);
}

} // namespace v0
} // namespace troth
