// SPDX-License-Identifier: MIT
// The command line of the promise and timer benchmarks' programs, and the counting of their heap allocations.
#include "case_runner.h"

#include <benchmark/benchmark.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <span>

// Every allocation is counted, also those of `operator new` and of thrown exceptions: the dynamic linker finds these
// before glibc's. It costs two instructions for an allocation, and nothing for anything else.
namespace {
std::uint64_t allocations = 0;
}

extern "C" {
void* __libc_malloc(std::size_t size);
void* __libc_calloc(std::size_t count, std::size_t size);
void* __libc_realloc(void* block, std::size_t size);
void* __libc_memalign(std::size_t alignment, std::size_t size);

void* malloc(std::size_t size) noexcept {
  ++allocations;
  return __libc_malloc(size);
}
void* calloc(std::size_t count, std::size_t size) noexcept {
  ++allocations;
  return __libc_calloc(count, size);
}
void* realloc(void* block, std::size_t size) noexcept {
  ++allocations;
  return __libc_realloc(block, size);
}
void* aligned_alloc(std::size_t alignment, std::size_t size) noexcept {
  ++allocations;
  return __libc_memalign(alignment, size);
}

// What lies between calls of these two is what callgrind counts (--zero-before, --dump-before).
[[gnu::noinline]] void countingBegins() { asm volatile("" ::: "memory"); }
[[gnu::noinline]] void countingEnds() { asm volatile("" ::: "memory"); }
}

namespace bench {
namespace {

#ifdef __clang__
constexpr const char* COMPILER = "clang " __clang_version__;
#else
constexpr const char* COMPILER = "g++ " __VERSION__;
#endif

void count(const Case& counted, std::size_t operations) {
  counted.repeat(2 * counted.batch);
  std::uint64_t before = allocations;
  countingBegins();
  counted.repeat(operations);
  countingEnds();
  double perOperation = static_cast<double>(allocations - before) / static_cast<double>(operations);
  std::printf("%s\t%.6g\n", counted.name.c_str(), perOperation);
}

int countCases(std::span<char*> arguments, const std::vector<Case>& cases) {
  char* end = nullptr;
  errno = 0;
  std::size_t operations = arguments.empty() ? 0 : std::strtoull(arguments.back(), &end, 10);
  if (operations == 0 || *end != '\0' || errno != 0) {
    std::fputs("usage: --count [CASE...] N\n", stderr);
    return 2;
  }
  std::span<char*> names = arguments.first(arguments.size() - 1);
  for (std::string_view name : names) {
    if (std::ranges::find(cases, name, &Case::name) == cases.end()) {
      std::fprintf(stderr, "there is no case named `%s`\n", name.data());
      return 2;
    }
  }
  for (const Case& counted : cases) {
    if (names.empty() || std::ranges::find(names, counted.name) != names.end()) count(counted, operations);
  }
  return 0;
}

int timeCases(int argc, char** argv, const std::vector<Case>& cases) {
  for (const Case& timed : cases) {
    benchmark::RegisterBenchmark(timed.name.c_str(), [&timed](benchmark::State& state) {
      timed.repeat(2 * timed.batch);
      while (state.KeepRunningBatch(static_cast<benchmark::IterationCount>(timed.batch))) timed.repeat(timed.batch);
    });
  }
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}

} // namespace

void wrongResult(const char* condition, const char* file, int line) {
  std::fprintf(stderr, "%s:%d: wrong result: %s\n", file, line, condition);
  std::abort();
}

int runCases(int argc, char** argv, std::string_view version, const std::vector<Case>& cases) {
  std::string_view mode = argc > 1 ? argv[1] : "";
  if (mode == "--list") {
    for (const Case& listed : cases) std::puts(listed.name.c_str());
    return 0;
  }
  if (mode == "--version") {
    std::printf("%.*s\n%s\n", static_cast<int>(version.size()), version.data(), COMPILER);
    return 0;
  }
  if (mode == "--count") return countCases(std::span(argv, static_cast<std::size_t>(argc)).subspan(2), cases);
  return timeCases(argc, argv, cases);
}

} // namespace bench
