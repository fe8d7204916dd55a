// SPDX-License-Identifier: MIT
// SplitMix64: a counter with a large odd step, whose value is mixed until each bit depends on all others.
// (Steele, Lea, Flood: "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014; the constants are theirs.)
#include <troth/timers/random.h>

#include <random>

namespace troth {
inline namespace v0 {

SeededRandom SeededRandom::fromSystem() {
  std::random_device device;
  return SeededRandom(static_cast<std::uint64_t>(device()) << 32 | device());
}

std::uint64_t SeededRandom::next() noexcept {
  state_ += 0x9e3779b97f4a7c15;
  std::uint64_t x = state_;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

// The remainder of a number out of 2^64 favours small ones a little, unless the numbers of the last, incomplete round
// are thrown again.
std::uint64_t SeededRandom::upTo(std::uint64_t most) noexcept {
  if (most == UINT64_MAX) return next();
  const std::uint64_t count = most + 1;
  const std::uint64_t incomplete = (UINT64_MAX % count + 1) % count;
  for (;;) {
    const std::uint64_t number = next();
    if (number <= UINT64_MAX - incomplete) return number % count;
  }
}

} // namespace v0
} // namespace troth
