// SPDX-License-Identifier: MIT
// What the programs of the promise and timer benchmarks share: a list of cases, timed or counted from the command line.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace bench {

/// Operations that are timed between two looks at the clock, unless a case says otherwise.
inline constexpr std::size_t BATCH = 100;

/// One operation to be measured. `repeat(n)` does it n times and checks each result. What is measured for many at once
/// is timed in batches of as many; before all else two batches are done, so that pools, malloc's caches and lazily
/// bound symbols are as they will stay.
struct Case {
  std::string name;
  std::function<void(std::size_t)> repeat;
  std::size_t batch = BATCH;
};

/// A case that calls `OPERATION` on `world`: what outlives a single operation (a loop, a task set). The call is
/// inlined into the loop, so that the case `empty`, which does nothing but a check, shows what the loop costs.
template <auto OPERATION, typename World>
Case makeCase(std::string_view name, World& world) {
  return {.name = std::string(name), .repeat = [&world](std::size_t n) {
            for (std::size_t i = 0; i < n; ++i) OPERATION(world);
          }};
}

/// Makes the optimizer believe that `object` is looked at and changed here, so that it must exist.
template <typename T>
void keep(T& object) {
  asm volatile("" : : "r"(&object) : "memory");
}

[[noreturn]] void wrongResult(const char* condition, const char* file, int line);

/// The command line of a benchmark program. `version` says what is measured. Returns the exit status.
///
///   --list               prints the names of the cases
///   --version            prints `version` and the compiler
///   --count [CASE…] N    runs each case (all, if none is named): a warm-up, then N operations between calls of
///                        countingBegins() and countingEnds(), where callgrind is told to begin and end; prints
///                        the name and the heap allocations per operation
///   anything else        goes to Google Benchmark, which times the cases
int runCases(int argc, char** argv, std::string_view version, const std::vector<Case>& cases);

} // namespace bench

/// Aborts unless the result of an operation is right: a benchmark of something that does not work is of no use.
#define BENCH_CHECK(condition) ((condition) ? void() : ::bench::wrongResult(#condition, __FILE__, __LINE__))
