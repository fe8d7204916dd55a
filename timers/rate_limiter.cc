// SPDX-License-Identifier: MIT
// The token bucket, in integers.
//
// In d nanoseconds come d * tokens / per tokens. What is left of that division stays in the bucket as a fraction, whose
// unit is one `per`th of a token; so a bucket that is looked at a million times has what one that is looked at once
// has. The products need up to 128 bits, which mulDiv() does without.
//
// Invariant: if somebody waits, the tokens that are there are not enough for the first, and the alarm is set for when
// they will be, or earlier.
#include <troth/timers/rate_limiter.h>

#include <troth/timers/time_math_detail.h>

#include <fmt/format.h>

#include <algorithm>

namespace troth {
inline namespace v0 {
namespace {

constexpr std::uint64_t MOST = INT64_MAX; // of what one is added to another, or doubled

std::uint64_t saturatedSum(std::uint64_t x, std::uint64_t y) noexcept {
  std::uint64_t sum;
  return __builtin_add_overflow(x, y, &sum) ? UINT64_MAX : sum;
}

std::uint64_t saturatedProduct(std::uint64_t x, std::uint64_t y) noexcept {
  std::uint64_t product;
  return __builtin_mul_overflow(x, y, &product) ? UINT64_MAX : product;
}

struct Division {
  std::uint64_t quotient; // at most UINT64_MAX
  std::uint64_t remainder;
};

// The same where the product has more than 64 bits: long multiplication, bit by bit, of which the remainder is kept.
// (The part of y that the divisor goes into needs no remainder.)
Division mulDivSlowly(std::uint64_t x, std::uint64_t y, std::uint64_t added, std::uint64_t divisor) noexcept {
  std::uint64_t quotient = 0;
  std::uint64_t remainder = 0;
  const auto add = [&](std::uint64_t value) {
    remainder += value;
    if (remainder < divisor) return;
    remainder -= divisor;
    quotient = saturatedSum(quotient, 1);
  };
  for (unsigned bit = 64; bit-- > 0;) {
    quotient = saturatedSum(quotient, quotient);
    add(remainder);
    if ((x >> bit & 1) != 0) add(y % divisor);
  }
  add(added);
  return {saturatedSum(quotient, saturatedProduct(x, y / divisor)), remainder};
}

// (x * y + added) / divisor, where added < divisor <= MOST.
Division mulDiv(std::uint64_t x, std::uint64_t y, std::uint64_t added, std::uint64_t divisor) noexcept {
  std::uint64_t product;
  std::uint64_t sum;
  if (__builtin_mul_overflow(x, y, &product) || __builtin_add_overflow(product, added, &sum)) [[unlikely]]
    return mulDivSlowly(x, y, added, divisor);
  return {sum / divisor, sum % divisor};
}

std::uint64_t nanoseconds(Duration duration) noexcept { return static_cast<std::uint64_t>(duration.count()); }

RateLimit checked(RateLimit limit, std::source_location where) {
  if (limit.burst == 0) limit.burst = limit.tokens;
  if (limit.tokens == 0) detail::throwMisuse("a RateLimiter without tokens would let nobody through", where);
  if (limit.tokens > MOST || limit.burst > MOST) detail::throwMisuse("a RateLimiter with too many tokens", where);
  if (limit.per <= Duration::zero()) detail::throwMisuse("the time of a RateLimiter must be positive", where);
  return limit;
}

} // namespace

class RateLimiter::Node final : public detail::Waiter {
public:
  Node(RateLimiter& limiter, std::uint64_t count, std::source_location where) noexcept
      : Waiter(where), limiter_(limiter), count_(count) {}

  std::uint64_t count() const noexcept { return count_; }

  /// It has its tokens, which were taken from the bucket.
  void serve() noexcept {
    value_.value.emplace();
    limiter_.served_.add(*this);
    setReady();
  }
  detail::ResultBase& get(detail::ResultBase*) noexcept override {
    if (isLinked()) {
      limiter_.home_.requireOrAbort("a promise's result was taken", where());
      unlink();
    }
    return value_;
  }
  void destroy() noexcept override {
    if (isLinked()) {
      limiter_.home_.requireOrAbort("a promise was destroyed", where());
      unlink();
      limiter_.giveBack(isReady() ? count_ : 0);
    }
    delete this;
  }
  const char* name() const noexcept override { return "RateLimiter::acquire"; }

private:
  RateLimiter& limiter_; // alive while this is linked
  std::uint64_t count_;
  detail::Result<detail::Void> value_;

  detail::ResultBase& result() noexcept override { return value_; }
};

RateLimiter::RateLimiter(Timer& timer, RateLimit limit, std::source_location where)
    : Alarm(timer), limit_(checked(limit, where)), bucket_{limit_.burst, 0, timer.now()} {}

RateLimiter::~RateLimiter() {
  stopAlarm();
  if (!served_.isEmpty()) home_.requireOrAbort("a rate limiter was destroyed", served_.front().where());
  while (!served_.isEmpty()) served_.front().unlink(); // they keep what they got
  line_.disconnectAll("the rate limiter was destroyed while an acquire waited");
}

Promise<void> RateLimiter::acquire(std::uint64_t count, std::source_location where) {
  home_.require("RateLimiter::acquire was called", where);
  requireCount(count, where);
  detail::OwnNode owner(new Node(*this, count, where));
  auto& node = static_cast<Node&>(*owner);
  if (tryTake(count)) {
    node.serve();
  } else {
    // Only the first needs the alarm; who comes later finds it set.
    if (line_.isEmpty()) setAlarm(fullEnoughAt(count), where);
    line_.add(node);
  }
  return detail::PromiseAccess::wrap<void>(std::move(owner));
}

bool RateLimiter::tryAcquire(std::uint64_t count, std::source_location where) {
  home_.require("RateLimiter::tryAcquire was called", where);
  requireCount(count, where);
  return tryTake(count);
}

std::uint64_t RateLimiter::available() const noexcept { return bucketAt(timer().now()).tokens; }

void RateLimiter::setLimit(RateLimit limit, std::source_location where) {
  home_.require("RateLimiter::setLimit was called", where);
  limit = checked(limit, where);
  bucket_ = bucketAt(timer().now());
  bucket_.fraction = mulDiv(bucket_.fraction, nanoseconds(limit.per), 0, nanoseconds(limit_.per)).quotient;
  if (bucket_.tokens >= limit.burst) {
    bucket_.tokens = limit.burst;
    bucket_.fraction = 0;
  }
  limit_ = limit;
  serve(bucket_.at);
}

void RateLimiter::requireCount(std::uint64_t count, const std::source_location& where) const {
  if (count > limit_.burst) [[unlikely]]
    detail::throwMisuse(fmt::format("a RateLimiter with a burst of {} was asked for {} tokens at once, which it will "
                                    "never have",
                                    limit_.burst, count),
                        where);
}

RateLimiter::Bucket RateLimiter::bucketAt(TimePoint now) const noexcept {
  if (now <= bucket_.at) return bucket_; // the alarm may have come before now() did
  const std::uint64_t room = limit_.burst - bucket_.tokens;
  const Division come =
      mulDiv(detail::nanosecondsBetween(bucket_.at, now), limit_.tokens, bucket_.fraction, nanoseconds(limit_.per));
  if (come.quotient >= room) return {limit_.burst, 0, now};
  return {bucket_.tokens + come.quotient, come.remainder, now};
}

// The first nanosecond in which bucketAt() has `count` tokens, of which some are missing now:
//
//     (missing * per - fraction) / tokens, rounded up
//   = (quotient * tokens + remainder - fraction) / tokens, and both of these are less than a whole
TimePoint RateLimiter::fullEnoughAt(std::uint64_t count) const noexcept {
  const Division whole = mulDiv(count - bucket_.tokens, nanoseconds(limit_.per), 0, limit_.tokens);
  const std::uint64_t saved = bucket_.fraction / limit_.tokens;
  const std::uint64_t roundUp = whole.remainder > bucket_.fraction % limit_.tokens ? 1 : 0;
  const std::uint64_t wait = std::min(whole.quotient, MOST) - saved + roundUp;
  return detail::timeAfter(bucket_.at, Duration(static_cast<Duration::rep>(std::min(wait, MOST))));
}

bool RateLimiter::tryTake(std::uint64_t count) noexcept {
  if (!line_.isEmpty()) return false;
  bucket_ = bucketAt(timer().now());
  if (count > bucket_.tokens) return false;
  bucket_.tokens -= count;
  return true;
}

// `count` tokens come back, or somebody has left the line.
void RateLimiter::giveBack(std::uint64_t count) noexcept {
  bucket_ = bucketAt(timer().now());
  bucket_.tokens = std::min(bucket_.tokens + count, limit_.burst);
  if (bucket_.tokens == limit_.burst) bucket_.fraction = 0;
  serve(bucket_.at);
}

void RateLimiter::serve(TimePoint now) noexcept {
  bucket_ = bucketAt(now);
  while (!line_.isEmpty()) {
    auto& first = static_cast<Node&>(line_.front());
    if (first.count() > limit_.burst) {
      first.fail(Exception(Exception::Kind::FAILED,
                           "the burst of the rate limiter became less than what was waited for", {}, first.where()));
      continue;
    }
    if (first.count() > bucket_.tokens) break;
    bucket_.tokens -= first.count();
    first.unlink();
    first.serve();
  }
  if (line_.isEmpty() || now == TimePoint::max()) return stopAlarm(); // at the end of time nothing more comes
  try {
    const auto& first = static_cast<Node&>(line_.front());
    setAlarm(fullEnoughAt(first.count()), first.where());
  } catch (...) {
    line_.failAll(Exception::fromCurrent());
  }
}

} // namespace v0
} // namespace troth
