// SPDX-License-Identifier: MIT
// GivenBack: bytes that arrived for reads which were cancelled.
#pragma once

#include <cstddef>
#include <cstring>
#include <span>
#include <utility>
#include <vector>

namespace troth {
inline namespace v0 {
namespace detail {

/// Bytes that cancelled reads have given back; the next reads begin with them.
class GivenBack {
public:
  bool empty() const noexcept { return taken_ == bytes_.size(); }
  std::span<const std::byte> bytes() const noexcept { return std::span(bytes_).subspan(taken_); }

  /// Puts `bytes` in front. Returns false if there is no memory for them: then bytes are missing, and the stream must
  /// not go on as if they were not.
  [[nodiscard]] bool putBack(std::span<const std::byte> bytes) noexcept {
    if (bytes.size() <= taken_) {
      taken_ -= bytes.size();
      std::memcpy(bytes_.data() + taken_, bytes.data(), bytes.size());
      return true;
    }
    try {
      bytes_.erase(bytes_.begin(), bytes_.begin() + static_cast<std::ptrdiff_t>(std::exchange(taken_, 0)));
      bytes_.insert(bytes_.begin(), bytes.begin(), bytes.end());
      return true;
    } catch (...) {
      return false;
    }
  }

  /// Puts `bytes` behind. Throws std::bad_alloc.
  void append(std::span<const std::byte> bytes) { bytes_.insert(bytes_.end(), bytes.begin(), bytes.end()); }

  /// Takes the first `count` bytes away.
  void drop(std::size_t count) noexcept {
    taken_ += count;
    if (empty()) clear();
  }

  void clear() noexcept {
    bytes_ = std::vector<std::byte>();
    taken_ = 0;
  }

private:
  std::vector<std::byte> bytes_;
  std::size_t taken_ = 0; // of bytes_, from its front
};

} // namespace detail
} // namespace v0
} // namespace troth
