// SPDX-License-Identifier: MIT
// Texts and arrays whose memory comes from the thread's pool.
#pragma once

#include <troth/runtime/pool_allocator_detail.h>

#include <string>
#include <vector>

namespace troth {
inline namespace v0 {
namespace http {
namespace detail {

using troth::detail::PoolAllocator;

using PoolString = std::basic_string<char, std::char_traits<char>, PoolAllocator<char>>;
template <typename T>
using PoolVector = std::vector<T, PoolAllocator<T>>;

} // namespace detail
} // namespace http
} // namespace v0
} // namespace troth
