// SPDX-License-Identifier: MIT
// What is left of a write, cut wherever it may be.
#include <troth/io/pieces_detail.h>

#include <algorithm>
#include <cstring>

namespace troth {
inline namespace v0 {
namespace detail {

Pieces::Pieces(std::span<const std::span<const std::byte>> pieces, std::uint64_t skip) {
  for (std::span<const std::byte> piece : pieces) {
    const auto skipped = static_cast<std::size_t>(std::min<std::uint64_t>(skip, piece.size()));
    skip -= skipped;
    piece = piece.subspan(skipped);
    if (piece.empty()) continue;
    if (first_.empty())
      first_ = piece;
    else
      more_.push_back(piece);
  }
  std::reverse(more_.begin(), more_.end());
}

std::uint64_t Pieces::size() const noexcept {
  std::uint64_t size = 0;
  forEach([&](std::span<const std::byte> piece) {
    size += piece.size();
    return true;
  });
  return size;
}

PieceList Pieces::first(std::uint64_t most) const {
  PieceList pieces;
  forEach([&](std::span<const std::byte> piece) {
    if (most == 0) return false;
    pieces.push_back(piece.first(static_cast<std::size_t>(std::min<std::uint64_t>(piece.size(), most))));
    most -= pieces.back().size();
    return true;
  });
  return pieces;
}

void Pieces::drop(std::uint64_t count) noexcept {
  while (count > 0 && count >= first_.size()) {
    count -= first_.size();
    first_ = {};
    if (more_.empty()) return;
    first_ = more_.back();
    more_.pop_back();
  }
  first_ = first_.subspan(static_cast<std::size_t>(count));
}

std::size_t Pieces::moveTo(std::span<std::byte> target) noexcept {
  std::size_t moved = 0;
  while (!empty() && moved < target.size()) {
    const std::size_t part = std::min(first_.size(), target.size() - moved);
    std::memcpy(target.data() + moved, first_.data(), part);
    drop(part);
    moved += part;
  }
  return moved;
}

} // namespace detail
} // namespace v0
} // namespace troth
