// SPDX-License-Identifier: MIT
// GivenBack: bytes that arrived for reads which were cancelled.
#pragma once

#include <cstddef>
#include <cstring>
#include <memory>
#include <new>
#include <span>
#include <utility>
#include <vector>

namespace troth {
inline namespace v0 {
namespace detail {

/// Bytes that cancelled reads have given back; the next reads begin with them. Small while there are none.
class GivenBack {
public:
  GivenBack() noexcept = default;
  /// Throws std::bad_alloc.
  GivenBack(const GivenBack& other) : kept_(other.empty() ? nullptr : std::make_unique<Kept>(*other.kept_)) {}
  GivenBack& operator=(GivenBack other) noexcept {
    kept_.swap(other.kept_);
    return *this;
  }

  bool empty() const noexcept { return kept_ == nullptr; }
  std::span<const std::byte> bytes() const noexcept {
    return empty() ? std::span<const std::byte>() : std::span<const std::byte>(kept_->bytes).subspan(kept_->taken);
  }

  /// Puts `bytes` in front. Returns false if there is no memory for them: then bytes are missing, and the stream must
  /// not go on as if they were not.
  [[nodiscard]] bool putBack(std::span<const std::byte> bytes) noexcept {
    try {
      if (!empty() && bytes.size() <= kept_->taken) {
        kept_->taken -= bytes.size();
        std::memcpy(kept_->bytes.data() + kept_->taken, bytes.data(), bytes.size());
      } else if (!bytes.empty()) {
        auto kept = std::make_unique<Kept>();
        kept->bytes.reserve(bytes.size() + this->bytes().size());
        for (const std::span<const std::byte> part : {bytes, this->bytes()})
          kept->bytes.insert(kept->bytes.end(), part.begin(), part.end());
        kept_ = std::move(kept);
      }
      return true;
    } catch (...) {
      return false;
    }
  }

  /// Puts `bytes` behind. Throws std::bad_alloc.
  void append(std::span<const std::byte> bytes) {
    if (empty()) {
      if (!putBack(bytes)) throw std::bad_alloc();
    } else {
      kept_->bytes.insert(kept_->bytes.end(), bytes.begin(), bytes.end());
    }
  }

  /// Takes the first `count` bytes away, of which there are so many.
  void drop(std::size_t count) noexcept {
    if (empty()) return;
    kept_->taken += count;
    if (kept_->taken == kept_->bytes.size()) clear();
  }

  void clear() noexcept { kept_.reset(); }

private:
  struct Kept {
    std::vector<std::byte> bytes;
    std::size_t taken = 0; // of bytes, from their front
  };

  std::unique_ptr<Kept> kept_; // null: none
};

} // namespace detail
} // namespace v0
} // namespace troth
