// SPDX-License-Identifier: MIT
// Chunk: bytes that were read, in a pooled buffer.
#pragma once

#include <troth/runtime/pool_detail.h>

#include <cstddef>
#include <span>
#include <string_view>
#include <utility>

namespace troth {
inline namespace v0 {

/// Owns some bytes that a stream has read. The buffer comes from the thread's pool and goes back to it
/// with the chunk, so hold chunks no longer than the bytes are needed. Move-only.
class Chunk {
public:
  /// The most bytes that one chunk holds: 64 KiB, as many as libuv reads at a time.
  static constexpr std::size_t CAPACITY = detail::BUFFER_SIZE;

  /// An empty chunk: the end of a stream.
  Chunk() noexcept = default;
  Chunk(Chunk&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  Chunk& operator=(Chunk&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  ~Chunk() {
    if (data_ != nullptr) detail::deallocate(data_, CAPACITY);
  }

  /// For implementers of streams: a chunk with an unfilled buffer of CAPACITY bytes. Throws std::bad_alloc.
  static Chunk withBuffer() {
    Chunk chunk;
    chunk.data_ = static_cast<std::byte*>(detail::allocate(CAPACITY));
    return chunk;
  }
  /// For implementers of streams: the buffer, and how much of it is filled.
  std::byte* buffer() noexcept { return data_; }
  void setSize(std::size_t size) noexcept { size_ = size; }

  std::span<const std::byte> bytes() const noexcept { return {data_, size_}; }
  std::string_view text() const noexcept { return {reinterpret_cast<const char*>(data_), size_}; }
  std::size_t size() const noexcept { return size_; }
  bool empty() const noexcept { return size_ == 0; }

  operator std::span<const std::byte>() const noexcept { return bytes(); }

private:
  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

} // namespace v0
} // namespace troth
