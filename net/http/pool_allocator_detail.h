// SPDX-License-Identifier: MIT
// PoolAllocator: lets the standard containers take their memory from the thread's pool.
#pragma once

#include <troth/runtime/pool_detail.h>

#include <cstddef>
#include <string>
#include <vector>

namespace troth {
inline namespace v0 {
namespace http {
namespace detail {

/// Stateless. Blocks that are larger than the pool's classes come from the heap.
template <typename T>
struct PoolAllocator {
  using value_type = T;
  static_assert(alignof(T) <= alignof(std::max_align_t));

  PoolAllocator() noexcept = default;
  template <typename U>
  PoolAllocator(const PoolAllocator<U>&) noexcept {} // NOLINT: allocators convert

  T* allocate(std::size_t count) { return static_cast<T*>(troth::detail::allocate(count * sizeof(T))); }
  void deallocate(T* block, std::size_t count) noexcept { troth::detail::deallocate(block, count * sizeof(T)); }

  friend bool operator==(PoolAllocator, PoolAllocator) noexcept { return true; }
};

using PoolString = std::basic_string<char, std::char_traits<char>, PoolAllocator<char>>;
template <typename T>
using PoolVector = std::vector<T, PoolAllocator<T>>;

} // namespace detail
} // namespace http
} // namespace v0
} // namespace troth
