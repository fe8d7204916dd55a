// SPDX-License-Identifier: MIT
// ByteBuffer: text that is put together, in memory of the thread's pool.
#pragma once

#include <troth/runtime/pool_detail.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <utility>

namespace troth {
inline namespace v0 {
namespace http {
namespace detail {

/// What a std::string would do, but that appending short pieces costs little more than copying them. At most 4 GiB.
class ByteBuffer {
public:
  ByteBuffer() noexcept = default;
  ByteBuffer(const ByteBuffer& other) { append(other.text()); }
  ByteBuffer(ByteBuffer&& other) noexcept { swap(other); }
  ByteBuffer& operator=(ByteBuffer other) noexcept {
    swap(other);
    return *this;
  }
  ~ByteBuffer() {
    if (data_ != nullptr) troth::detail::deallocate(data_, capacity_);
  }

  void swap(ByteBuffer& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    std::swap(capacity_, other.capacity_);
  }

  bool empty() const noexcept { return size_ == 0; }
  std::size_t size() const noexcept { return size_; }
  const char* data() const noexcept { return data_; }
  std::string_view text() const noexcept { return {data_, size_}; }
  void clear() noexcept { size_ = 0; }
  /// The same, and gives back memory of more than `most` bytes.
  void clearTo(std::size_t most) noexcept {
    size_ = 0;
    if (capacity_ > most) [[unlikely]]
      *this = ByteBuffer();
  }
  std::size_t capacityLeft() const noexcept { return capacity_ - size_; }

  /// Makes room for `count` more bytes, and gives it; what is written there is added by added(). Throws std::bad_alloc.
  char* room(std::size_t count) {
    if (capacity_ - size_ < count) [[unlikely]]
      grow(count);
    return data_ + size_;
  }
  void added(std::size_t count) noexcept { size_ += static_cast<std::uint32_t>(count); }

  /// `piece` may be a part of this buffer. Throws std::bad_alloc, and has done nothing then.
  void append(std::string_view piece) {
    if (capacity_ - size_ < piece.size()) [[unlikely]]
      return appendGrowing(piece);
    if (!piece.empty()) std::memcpy(data_ + size_, piece.data(), piece.size());
    size_ += static_cast<std::uint32_t>(piece.size());
  }

  /// Takes `count` bytes out, of which there are so many from `at` on.
  void erase(std::size_t at, std::size_t count) noexcept {
    if (at + count < size_) std::memmove(data_ + at, data_ + at + count, size_ - at - count);
    size_ -= static_cast<std::uint32_t>(count);
  }

private:
  char* data_ = nullptr;
  std::uint32_t size_ = 0;
  std::uint32_t capacity_ = 0;

  void grow(std::size_t count);
  void appendGrowing(std::string_view piece);
};

} // namespace detail
} // namespace http
} // namespace v0
} // namespace troth
