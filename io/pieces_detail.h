// SPDX-License-Identifier: MIT
// Pieces: what is left of a write, in the caller's memory.
#pragma once

#include <troth/runtime/pool_allocator_detail.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace troth {
inline namespace v0 {
namespace detail {

/// An array of pieces of memory.
using PieceList = std::vector<std::span<const std::byte>, PoolAllocator<std::span<const std::byte>>>;

/// The pieces of the caller's memory that are still to be written. A single one needs no memory.
class Pieces {
public:
  Pieces() noexcept = default;
  /// `pieces` without their first `skip` bytes. Throws std::bad_alloc.
  explicit Pieces(std::span<const std::span<const std::byte>> pieces, std::uint64_t skip = 0);

  bool empty() const noexcept { return first_.empty(); }
  bool isOne() const noexcept { return more_.empty(); }
  /// How many bytes they are.
  std::uint64_t size() const noexcept;
  /// The next bytes; empty only if there are none.
  std::span<const std::byte> front() const noexcept { return first_; }

  /// Calls `visit(piece)` for each of the pieces in their order, until it returns false.
  template <typename Visit>
  void forEach(Visit&& visit) const {
    if (empty() || !visit(first_)) return;
    for (auto piece = more_.rbegin(); piece != more_.rend(); ++piece)
      if (!visit(*piece)) return;
  }

  /// The first `most` bytes, in their pieces. Throws std::bad_alloc.
  PieceList first(std::uint64_t most) const;

  /// Takes the first `count` bytes away, of which there are so many.
  void drop(std::uint64_t count) noexcept;

  /// Copies what `target` has room for, takes it away, and returns how many bytes that were.
  std::size_t moveTo(std::span<std::byte> target) noexcept;

private:
  std::span<const std::byte> first_; // never empty unless all is
  PieceList more_;                   // the others, the last one first; none is empty
};

} // namespace detail
} // namespace v0
} // namespace troth
