// SPDX-License-Identifier: MIT
// Chunk: bytes that were read, in a pooled buffer.
#pragma once

#include <troth/runtime/pool_detail.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <utility>

namespace troth {
inline namespace v0 {

/// Owns some bytes that a stream has read. The memory comes from the thread's pool and goes back to it
/// with the chunk, so hold chunks no longer than the bytes are needed. Move-only. 16 bytes.
class Chunk {
public:
  /// The most bytes that one chunk holds: 64 KiB, as many as libuv reads at a time.
  static constexpr std::size_t CAPACITY = detail::BUFFER_SIZE;

  /// An empty chunk: the end of a stream.
  Chunk() noexcept = default;
  Chunk(Chunk&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)),
        size_(std::exchange(other.size_, 0)),
        allocated_(other.allocated_) {}
  Chunk& operator=(Chunk&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    std::swap(allocated_, other.allocated_);
    return *this;
  }
  ~Chunk() {
    if (data_ != nullptr) detail::deallocate(data_, allocated_);
  }

  /// For implementers of streams: a copy of `bytes`, at most CAPACITY. Throws std::bad_alloc.
  static Chunk copyOf(std::span<const std::byte> bytes) {
    if (bytes.empty()) return Chunk();
    auto* block = static_cast<std::byte*>(detail::allocate(bytes.size()));
    std::memcpy(block, bytes.data(), bytes.size());
    return Chunk(block, bytes.size(), bytes.size());
  }

  /// For implementers of streams: takes over `block`, which detail::allocate(allocated) gave, and whose first `size`
  /// bytes (1 to CAPACITY) are the chunk's.
  static Chunk adopt(std::byte* block, std::size_t size, std::size_t allocated) noexcept {
    return Chunk(block, size, allocated);
  }

  /// For implementers of streams: the first `size` bytes (1 to CAPACITY) of detail::scratchBuffer(), which the
  /// caller has just filled. A few are copied into a block of their size, so that chunks that wait are small
  /// and the next read finds the scratch buffer in the cache; many take the buffer along.
  /// The chunk must be empty.
  void fillFromScratch(std::size_t size) noexcept {
    void* block = detail::allocateFromList(size);
    if (block == nullptr) [[unlikely]]
      return takeScratch(size);
    data_ = static_cast<std::byte*>(std::memcpy(block, detail::scratchBuffer(), size));
    size_ = allocated_ = static_cast<std::uint32_t>(size);
  }

  std::span<const std::byte> bytes() const noexcept { return {data_, size_}; }
  std::string_view text() const noexcept { return {reinterpret_cast<const char*>(data_), size_}; }
  std::size_t size() const noexcept { return size_; }
  bool empty() const noexcept { return size_ == 0; }

  operator std::span<const std::byte>() const noexcept { return bytes(); }

private:
  std::byte* data_ = nullptr;
  std::uint32_t size_ = 0;
  std::uint32_t allocated_ = 0;

  void takeScratch(std::size_t size) noexcept;

  Chunk(std::byte* data, std::size_t size, std::size_t allocated) noexcept
      : data_(data), size_(static_cast<std::uint32_t>(size)), allocated_(static_cast<std::uint32_t>(allocated)) {}
};

} // namespace v0
} // namespace troth
