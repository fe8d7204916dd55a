// SPDX-License-Identifier: MIT
// Growing.
#include <troth/net/http/byte_buffer_detail.h>

#include <algorithm>
#include <limits>
#include <new>

namespace troth {
inline namespace v0 {
namespace http {
namespace detail {

namespace {
// The first block is one of the pool's classes to the last byte.
constexpr std::size_t FIRST = 8 * troth::detail::POOL_GRAIN - troth::detail::POOL_SHORT;
} // namespace

void ByteBuffer::grow(std::size_t count) {
  const std::size_t wanted = std::max({size_ + count, 2 * std::size_t(capacity_), FIRST});
  if (wanted > std::numeric_limits<std::uint32_t>::max()) throw std::bad_alloc();
  auto* data = static_cast<char*>(troth::detail::allocate(wanted));
  if (data_ != nullptr) {
    std::memcpy(data, data_, size_);
    troth::detail::deallocate(data_, capacity_);
  }
  data_ = data;
  capacity_ = static_cast<std::uint32_t>(wanted);
}

void ByteBuffer::appendGrowing(std::string_view piece) {
  ByteBuffer grown;
  grown.grow(std::max(size_ + piece.size(), 2 * std::size_t(capacity_)));
  grown.append(text());
  grown.append(piece);
  swap(grown);
}

} // namespace detail
} // namespace http
} // namespace v0
} // namespace troth
