// SPDX-License-Identifier: MIT
// What the load generators share: how durations are counted, and how they talk with the benchmark that runs them.
#pragma once

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdio>

using Clock = std::chrono::steady_clock;
using Nanoseconds = std::chrono::nanoseconds;

/// Counts durations in buckets whose width is at most 1/256 of the duration.
class Histogram {
public:
  void add(Nanoseconds duration) {
    ++counts[bucket(static_cast<std::uint64_t>(std::max<std::int64_t>(duration.count(), 0)))];
    ++total;
  }

  /// The duration in microseconds that the given share of all durations does not exceed.
  double quantileUs(double share) const {
    auto wanted = static_cast<std::uint64_t>(share * static_cast<double>(total));
    std::uint64_t seen = 0;
    for (std::size_t i = 0; i < counts.size(); ++i) {
      seen += counts[i];
      if (seen > wanted) return middle(i) / 1e3;
    }
    return 0;
  }

private:
  static constexpr std::size_t perDoubling = 256;

  // Below 256 ns every nanosecond has its own bucket; then each doubling is cut into 256.
  static std::size_t bucket(std::uint64_t ns) {
    if (ns < perDoubling) return ns;
    auto shift = static_cast<unsigned>(std::bit_width(ns)) - 9;
    return (shift + 1) * perDoubling + ((ns >> shift) - perDoubling);
  }

  static double middle(std::size_t index) {
    if (index < perDoubling) return static_cast<double>(index);
    auto width = static_cast<double>(std::uint64_t{1} << (index / perDoubling - 1));
    return (static_cast<double>(perDoubling + index % perDoubling) + 0.5) * width;
  }

  std::array<std::uint64_t, 57 * perDoubling> counts{};
  std::uint64_t total = 0;
};

/// What a load has done.
struct Result {
  std::uint64_t messages = 0;
  double seconds = 0;
  Histogram durations;
};

/// As many descriptors as the system lets this program have.
inline void raiseDescriptorLimit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

/// Tells the benchmark that all is warm.
inline void printReady() {
  std::puts("ready");
  std::fflush(stdout);
}

/// Waits until the benchmark says that it may go on.
inline void waitForByte() {
  char byte;
  while (read(STDIN_FILENO, &byte, 1) < 0 && errno == EINTR) {
  }
}

/// Waits until the benchmark closes this program's standard input.
inline void waitForEnd() {
  char bytes[64];
  for (;;) {
    ssize_t n = read(STDIN_FILENO, bytes, sizeof bytes);
    if (n == 0 || (n < 0 && errno != EINTR)) return;
  }
}

/// Prints a result as one line of JSON.
inline void printResult(const Result& result, std::uint64_t errors) {
  double rate = result.seconds > 0 ? static_cast<double>(result.messages) / result.seconds : 0;
  std::printf("{\"messages\": %llu, \"seconds\": %.6f, \"messages_per_second\": %.1f, "
              "\"p50_us\": %.2f, \"p99_us\": %.2f, \"errors\": %llu}\n",
              static_cast<unsigned long long>(result.messages), result.seconds, rate, result.durations.quantileUs(0.50),
              result.durations.quantileUs(0.99), static_cast<unsigned long long>(errors));
  std::fflush(stdout);
}
