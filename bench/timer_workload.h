// SPDX-License-Identifier: MIT
// What all programs of the timer benchmark do alike: which deadlines they set, and what counts as having fired.
#pragma once

#include "case_runner.h"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <thread>

namespace bench {

/// So many are pending, or fire together.
inline constexpr std::size_t TIMERS = 100'000;

/// Numbers that look random, the same ones in each program, for a few instructions (xorshift64).
class Random {
public:
  std::uint64_t next() {
    state_ ^= state_ << 13;
    state_ ^= state_ >> 7;
    return state_ ^= state_ << 17;
  }

private:
  std::uint64_t state_ = 88172645463325252;
};

/// A delay of one to two hours: for timers that are never to fire.
inline std::chrono::nanoseconds farOff(Random& random) {
  constexpr auto HOUR = std::chrono::nanoseconds(std::chrono::hours(1));
  return HOUR + std::chrono::nanoseconds(random.next() % static_cast<std::uint64_t>(HOUR.count()));
}

/// Within so long all timers fire that are to fire.
inline constexpr std::chrono::milliseconds SOON(50);

inline std::chrono::nanoseconds soon(Random& random) {
  return std::chrono::nanoseconds(random.next() % static_cast<std::uint64_t>(std::chrono::nanoseconds(SOON).count()));
}

/// Lets the time of SOON pass, counted from `start`, without using the processor.
inline void letPass(std::chrono::steady_clock::time_point start) {
  std::this_thread::sleep_until(start + SOON + std::chrono::milliseconds(2));
}

/// What the consumer of each timer that fires adds to: proof that all of them did, each once.
struct Fired {
  std::uint64_t count = 0;
  std::uint64_t sum = 0;

  void add(std::size_t number) {
    ++count;
    sum += number;
  }
  bool isAllOf(std::size_t n) const { return count == n && sum == n * (n - 1) / 2; }
};

/// A case of which TIMERS operations are done at once, by `OPERATION(world, count)`.
template <auto OPERATION, typename World>
Case manyAtOnce(std::string_view name, World& world) {
  return {.name = std::string(name),
          .repeat =
              [&world](std::size_t n) {
                for (std::size_t done = 0; done < n; done += TIMERS) OPERATION(world, std::min(n - done, TIMERS));
              },
          .batch = TIMERS};
}

} // namespace bench
