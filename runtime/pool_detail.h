// SPDX-License-Identifier: MIT
// The per-thread pool of size classes from which arenas, coroutine frames and operations are allocated.
#pragma once

#include <cstddef>
#include <cstdint>

namespace troth {
inline namespace v0 {
namespace detail {

// Freed blocks wait in a list per size class of the thread that frees them, so the steady state of a
// program takes nothing from the heap. Each list is bounded (POOL_BYTES_PER_CLASS), so a burst does not
// stay for ever. Buffers of BUFFER_SIZE, in which streams read, have a list of their own. A block freed on another
// thread simply changes owner. Under AddressSanitizer all limits are zero and every block comes from the heap, so that
// no error hides behind reuse.
//
// Blocks are 8 bytes short of a multiple of 32: glibc's malloc adds 8 to what it is asked for and rounds up to 16, so
// of these nothing is lost.
inline constexpr std::size_t POOL_GRAIN = 32;
inline constexpr std::size_t POOL_SHORT = 8;
inline constexpr std::size_t POOL_CLASSES = 129; // blocks of 24, 56, … 4120 bytes
inline constexpr std::size_t POOL_LARGEST = POOL_CLASSES * POOL_GRAIN - POOL_SHORT;
inline constexpr std::size_t POOL_BYTES_PER_CLASS = 128 * 1024;
inline constexpr std::size_t BUFFER_SIZE = 64 * 1024;
inline constexpr std::uint32_t POOL_BUFFERS = 16; // 1 MiB

struct PoolList {
  void* head = nullptr; // the first word of a free block points to the next
  std::uint32_t count = 0;
  std::uint32_t limit = 0; // 0 until the thread's first slow path has set the pool up, and after its end
};

struct PoolState {
  PoolList lists[POOL_CLASSES];
  PoolList buffers;
  std::byte* scratch = nullptr; // BUFFER_SIZE bytes into which this thread's streams read
  std::int64_t fromHeap = 0;    // blocks taken from the heap less those given back
};

extern constinit thread_local PoolState poolState;

void* allocateSlow(std::size_t size);
void deallocateSlow(void* block, std::size_t size) noexcept;

/// The class of blocks of at least `size` bytes; from POOL_CLASSES on there is none.
constexpr std::size_t poolClass(std::size_t size) noexcept { return (size + POOL_SHORT - 1) / POOL_GRAIN; }

/// A block that is at hand, or null: allocate() without its slow path.
[[gnu::always_inline]] inline void* allocateFromList(std::size_t size) noexcept {
  const std::size_t index = poolClass(size);
  if (index >= POOL_CLASSES) [[unlikely]]
    return nullptr;
  PoolList& list = poolState.lists[index];
  void* block = list.head;
  if (block != nullptr) [[likely]] {
    list.head = *static_cast<void**>(block);
    --list.count;
  }
  return block;
}

/// A block of at least `size` bytes, aligned for any scalar type. Throws std::bad_alloc.
[[gnu::always_inline]] inline void* allocate(std::size_t size) {
  void* block = allocateFromList(size);
  return block != nullptr ? block : allocateSlow(size);
}

/// Gives back what allocate(size) returned; `size` must be the same.
[[gnu::always_inline]] inline void deallocate(void* block, std::size_t size) noexcept {
  const std::size_t index = poolClass(size);
  if (index < POOL_CLASSES) [[likely]] {
    PoolList& list = poolState.lists[index];
    if (list.count < list.limit) [[likely]] {
      *static_cast<void**>(block) = list.head;
      list.head = block;
      ++list.count;
      return;
    }
  }
  deallocateSlow(block, size);
}

/// The thread's scratch buffer, made by makeScratch(): BUFFER_SIZE bytes for use within one call. Streams read
/// into it before they know how much there is. Null if it was not made, or was taken.
inline std::byte* scratchBuffer() noexcept { return poolState.scratch; }

/// Makes it, if need be. Null without memory.
std::byte* makeScratch() noexcept;

/// Keeps the scratch buffer, as a block of BUFFER_SIZE bytes; the thread will get another.
std::byte* takeScratchBuffer() noexcept;

/// Blocks in use: allocated on this thread, and not given back on it. For tests.
std::int64_t liveBlocks() noexcept;

/// Gives the free blocks of this thread back to the heap.
void trimPool() noexcept;

/// A base for classes whose objects come from the pool.
struct Pooled {
  static void* operator new(std::size_t size) { return allocate(size); }
  static void operator delete(void* object, std::size_t size) noexcept { deallocate(object, size); }
};

} // namespace detail
} // namespace v0
} // namespace troth
