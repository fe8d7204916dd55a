// SPDX-License-Identifier: MIT
// The pool's slow paths: what comes from the heap, what goes back to it, and the end of a thread.
#include <troth/runtime/pool_detail.h>

#include <new>
#include <utility>

#if defined(__SANITIZE_ADDRESS__)
#define TROTH_POOL_KEEPS 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define TROTH_POOL_KEEPS 0
#endif
#endif
#ifndef TROTH_POOL_KEEPS
#define TROTH_POOL_KEEPS 1
#endif

namespace troth {
inline namespace v0 {
namespace detail {

constinit thread_local PoolState poolState;

namespace {

/// How large the blocks of a class are.
constexpr std::size_t blockOf(std::size_t index) noexcept { return (index + 1) * POOL_GRAIN - POOL_SHORT; }

/// How large a block for `size` bytes is.
std::size_t blockSize(std::size_t size) noexcept {
  if (TROTH_POOL_KEEPS == 0) return size; // exact, so that AddressSanitizer sees the first byte too far
  return size > POOL_LARGEST ? size : blockOf(poolClass(size));
}

// Opens the lists on a thread's first slow path and empties them at its end. Thread-local objects that
// are destroyed later find the limits at zero and so free straight to the heap.
struct Reaper {
  bool open = true;

  Reaper() noexcept {
    poolState.buffers.limit = TROTH_POOL_KEEPS * POOL_BUFFERS;
    for (std::size_t i = 0; i < POOL_CLASSES; ++i)
      poolState.lists[i].limit =
          TROTH_POOL_KEEPS * static_cast<std::uint32_t>(POOL_BYTES_PER_CLASS / blockOf(i));
  }
  ~Reaper() {
    for (PoolList& list : poolState.lists) list.limit = 0;
    poolState.buffers.limit = 0;
    trimPool();
    open = false;
  }
};

thread_local Reaper reaper;

void* pop(PoolList& list) noexcept {
  void* block = list.head;
  list.head = *static_cast<void**>(block);
  --list.count;
  return block;
}

void trim(PoolList& list) noexcept {
  while (list.head != nullptr) {
    --poolState.fromHeap;
    ::operator delete(pop(list));
  }
}

} // namespace

void* allocateSlow(std::size_t size) {
  [[maybe_unused]] const volatile bool& touch = reaper.open; // constructs it on first use
  if (size == BUFFER_SIZE && poolState.buffers.head != nullptr) return pop(poolState.buffers);
  void* block = ::operator new(blockSize(size));
  ++poolState.fromHeap;
  return block;
}

void deallocateSlow(void* block, std::size_t size) noexcept {
  PoolList& buffers = poolState.buffers;
  if (size == BUFFER_SIZE && buffers.count < buffers.limit) {
    *static_cast<void**>(block) = buffers.head;
    buffers.head = block;
    ++buffers.count;
    return;
  }
  --poolState.fromHeap;
  ::operator delete(block);
}

std::byte* makeScratch() noexcept {
  if (poolState.scratch != nullptr) return poolState.scratch;
  try {
    poolState.scratch = static_cast<std::byte*>(allocateSlow(BUFFER_SIZE));
  } catch (...) {
    return nullptr;
  }
  return poolState.scratch;
}

std::byte* takeScratchBuffer() noexcept { return std::exchange(poolState.scratch, nullptr); }

std::int64_t liveBlocks() noexcept {
  std::int64_t live = poolState.fromHeap - poolState.buffers.count - (poolState.scratch != nullptr ? 1 : 0);
  for (const PoolList& list : poolState.lists) live -= list.count;
  return live;
}

void trimPool() noexcept {
  if (std::byte* scratch = takeScratchBuffer()) deallocateSlow(scratch, BUFFER_SIZE);
  for (PoolList& list : poolState.lists) trim(list);
  trim(poolState.buffers);
}

} // namespace detail
} // namespace v0
} // namespace troth
