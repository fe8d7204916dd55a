// SPDX-License-Identifier: MIT
// RandomSource: random numbers that a test can choose.
#pragma once

#include <cstdint>

namespace troth {
inline namespace v0 {

/// Where jitter comes from. Take one as a parameter, as a Timer: a test gives one that it knows.
class RandomSource {
public:
  virtual ~RandomSource() = default;

  /// A number from 0 to `most`, both included, each as likely as any other.
  virtual std::uint64_t upTo(std::uint64_t most) = 0;
};

/// Numbers that follow from a seed: the same seed gives the same numbers, on every platform and in every version. Fast,
/// and good enough to spread things out; not for secrets.
class SeededRandom final : public RandomSource {
public:
  explicit SeededRandom(std::uint64_t seed) noexcept : state_(seed) {}
  /// With a seed from the system: different in every process, and each time.
  static SeededRandom fromSystem();

  std::uint64_t upTo(std::uint64_t most) noexcept override;

private:
  std::uint64_t state_;

  std::uint64_t next() noexcept;
};

} // namespace v0
} // namespace troth
