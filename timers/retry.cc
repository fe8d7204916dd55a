// SPDX-License-Identifier: MIT
// How long to pause, and when to give up.
#include <troth/timers/retry.h>

#include <fmt/format.h>

#include <algorithm>
#include <string>

namespace troth {
inline namespace v0 {
namespace {

// `duration` * `factor`, at most `max`.
Duration scaled(Duration duration, double factor, Duration max) noexcept {
  const double product = static_cast<double>(duration.count()) * factor;
  if (product >= static_cast<double>(max.count())) return max;
  return Duration(static_cast<Duration::rep>(product));
}

// A duration between the two.
Duration between(Duration least, Duration most, RandomSource& random) {
  const auto room = static_cast<std::uint64_t>((most - least).count());
  return least + Duration(static_cast<Duration::rep>(std::min(random.upTo(room), room)));
}

} // namespace

Backoff::Backoff(BackoffOptions options, std::source_location where) : options_(options) {
  if (options.initial <= Duration::zero()) detail::throwMisuse("the initial pause must be positive", where);
  if (options.max < options.initial) detail::throwMisuse("the longest pause is shorter than the initial one", where);
  if (!(options.multiplier >= 1)) detail::throwMisuse("a multiplier less than 1 would shorten the pauses", where);
}

Duration Backoff::grown() const noexcept {
  if (previous_ == Duration::zero()) return options_.initial;
  return scaled(previous_, options_.multiplier, options_.max);
}

Duration Backoff::next(RandomSource& random) {
  if (options_.jitter == Jitter::DECORRELATED) {
    const Duration most = scaled(std::max(previous_, options_.initial), 3, options_.max);
    return previous_ = between(options_.initial, most, random);
  }
  previous_ = grown();
  switch (options_.jitter) {
  case Jitter::FULL:
    return between(Duration::zero(), previous_, random);
  case Jitter::EQUAL:
    return between(previous_ / 2, previous_, random);
  default:
    return previous_;
  }
}

bool isWorthRetrying(const Exception& exception) noexcept {
  return exception.kind() == Exception::Kind::DISCONNECTED || exception.kind() == Exception::Kind::OVERLOADED;
}

namespace detail {

Retrying::Retrying(Timer& timer, RetryOptions options, RandomSource* random, std::source_location where)
    : timer_(timer), options_(std::move(options)), random_(random), backoff_(options_.backoff, where), where_(where) {
  if (options_.attempts == 0) throwMisuse("retry() with no attempts would never call its function", where);
  if (!options_.shouldRetry) options_.shouldRetry = isWorthRetrying;
}

void Retrying::attemptFailed() {
  const Exception error = Exception::fromCurrent();
  if (failed_ < UINT_MAX) ++failed_;
  const bool isLast = failed_ >= options_.attempts && options_.attempts != RetryOptions::UNLIMITED;
  if (isLast || !options_.shouldRetry(error)) giveUp(error, "");
  pause_ = backoff_.next(random());
  if (options_.deadline && options_.deadline->left() <= pause_)
    giveUp(error, ", since there is no time for another one");
  if (options_.onRetry) options_.onRetry(FailedAttempt{failed_, pause_, error});
}

void Retrying::giveUp(const Exception& error, const char* why) const {
  if (failed_ == 1) error.rethrow();
  throw error.withContext(fmt::format("gave up after {} attempts{}", failed_, why));
}

RandomSource& Retrying::random() {
  if (random_ == nullptr) random_ = &ownRandom_.emplace(SeededRandom::fromSystem());
  return *random_;
}

} // namespace detail
} // namespace v0
} // namespace troth
