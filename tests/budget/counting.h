// SPDX-License-Identifier: MIT
// What a body of code takes from the heap: calls of malloc and its relatives, and the bytes they were asked for.
#pragma once

#include <cstddef>
#include <cstdint>

namespace troth::budget {

struct HeapUse {
  std::uint64_t allocations = 0;
  std::uint64_t bytes = 0;

  friend HeapUse operator-(HeapUse a, HeapUse b) noexcept { return {a.allocations - b.allocations, a.bytes - b.bytes}; }
};

/// What this process has taken from the heap so far, on all threads; what it gave back does not count. With glibc every
/// allocation is seen, also those of libuv and of thrown exceptions; elsewhere those of `operator new`.
HeapUse heapUse() noexcept;

/// What `body` takes.
template <typename Body>
HeapUse heapUseOf(Body&& body) {
  const HeapUse before = heapUse();
  body();
  return heapUse() - before;
}

/// Enough for pools, malloc's caches and lazily bound symbols to be as they will stay.
inline constexpr int WARM_UP = 200;
/// The operations that are counted after it.
inline constexpr int COUNTED = 100;

/// The allocations of an operation in the steady state; a fraction if not each operation has as many.
template <typename Body>
double allocationsOf(Body&& body) {
  for (int i = 0; i < WARM_UP; ++i) body();
  const HeapUse use = heapUseOf([&] {
    for (int i = 0; i < COUNTED; ++i) body();
  });
  return static_cast<double>(use.allocations) / COUNTED;
}

} // namespace troth::budget
