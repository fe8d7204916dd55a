// SPDX-License-Identifier: MIT
// ByteBlock: bytes on their way between a file and its user.
#pragma once

#include <troth/io/chunk.h>
#include <troth/io/pieces_detail.h>

#include <cstddef>
#include <span>
#include <utility>

namespace troth {
inline namespace v0 {
namespace detail {

/// Memory of the pool, which is filled from its front. It becomes a Chunk without a copy.
class ByteBlock {
public:
  ByteBlock() noexcept = default;
  /// Throws std::bad_alloc. `size` is 1 to Chunk::CAPACITY.
  explicit ByteBlock(std::size_t size) : bytes_(static_cast<std::byte*>(allocate(size))), allocated_(size) {}
  ByteBlock(ByteBlock&& other) noexcept
      : bytes_(std::exchange(other.bytes_, nullptr)), allocated_(other.allocated_), size_(other.size_) {}
  ByteBlock& operator=(ByteBlock&&) = delete;
  ~ByteBlock() {
    if (bytes_ != nullptr) deallocate(bytes_, allocated_);
  }

  std::span<std::byte> room() const noexcept { return std::span(bytes_, allocated_).subspan(size_); }
  std::span<const std::byte> bytes() const noexcept { return {bytes_, size_}; }
  bool isFull() const noexcept { return size_ == allocated_; }
  void grow(std::size_t count) noexcept { size_ += count; }

  Chunk toChunk() && noexcept {
    return size_ == 0 ? Chunk() : Chunk::adopt(std::exchange(bytes_, nullptr), size_, allocated_);
  }

private:
  std::byte* bytes_ = nullptr;
  std::size_t allocated_ = 0;
  std::size_t size_ = 0;
};

/// Moves as many bytes as a block holds out of `pieces`, which are not empty. Throws std::bad_alloc.
ByteBlock takeBlock(Pieces& pieces);

} // namespace detail
} // namespace v0
} // namespace troth
