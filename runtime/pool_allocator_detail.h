// SPDX-License-Identifier: MIT
// PoolAllocator: lets the standard containers take their memory from the thread's pool.
#pragma once

#include <troth/runtime/pool_detail.h>

#include <cstddef>

namespace troth {
inline namespace v0 {
namespace detail {

/// For containers whose memory comes from the pool.
template <typename T>
struct PoolAllocator {
  using value_type = T;

  PoolAllocator() noexcept = default;
  template <typename U>
  PoolAllocator(const PoolAllocator<U>&) noexcept {}

  static T* allocate(std::size_t count) { return static_cast<T*>(detail::allocate(count * sizeof(T))); }
  static void deallocate(T* memory, std::size_t count) noexcept { detail::deallocate(memory, count * sizeof(T)); }

  friend bool operator==(PoolAllocator, PoolAllocator) noexcept { return true; }
};

} // namespace detail
} // namespace v0
} // namespace troth
