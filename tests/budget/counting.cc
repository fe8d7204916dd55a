// SPDX-License-Identifier: MIT
// The heap's functions, counted.
#include "counting.h"

#include <atomic>
#include <cstdlib>
#include <new>

namespace troth::budget {
namespace {

std::atomic<std::uint64_t> allocations{0};
std::atomic<std::uint64_t> bytes{0};

void count(std::size_t size) noexcept {
  allocations.fetch_add(1, std::memory_order_relaxed);
  bytes.fetch_add(size, std::memory_order_relaxed);
}

} // namespace

HeapUse heapUse() noexcept {
  return {allocations.load(std::memory_order_relaxed), bytes.load(std::memory_order_relaxed)};
}

} // namespace troth::budget

#ifdef __GLIBC__

// The dynamic linker finds these before glibc's, also for `operator new` and for libuv.
extern "C" {

void* __libc_malloc(std::size_t size);
void* __libc_calloc(std::size_t count, std::size_t size);
void* __libc_realloc(void* block, std::size_t size);
void* __libc_memalign(std::size_t alignment, std::size_t size);

void* malloc(std::size_t size) noexcept {
  troth::budget::count(size);
  return __libc_malloc(size);
}
void* calloc(std::size_t count, std::size_t size) noexcept {
  troth::budget::count(count * size);
  return __libc_calloc(count, size);
}
void* realloc(void* block, std::size_t size) noexcept {
  troth::budget::count(size);
  return __libc_realloc(block, size);
}
void* aligned_alloc(std::size_t alignment, std::size_t size) noexcept {
  troth::budget::count(size);
  return __libc_memalign(alignment, size);
}

} // extern "C"

#else

void* operator new(std::size_t size) {
  troth::budget::count(size);
  if (void* block = std::malloc(size == 0 ? 1 : size)) return block;
  throw std::bad_alloc();
}
void operator delete(void* block) noexcept { std::free(block); }
void operator delete(void* block, std::size_t) noexcept { std::free(block); }

#endif
