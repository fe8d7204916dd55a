// SPDX-License-Identifier: MIT
// Collecting pieces in a block.
#include <troth/io/byte_block_detail.h>

#include <algorithm>

namespace troth {
inline namespace v0 {
namespace detail {

ByteBlock takeBlock(Pieces& pieces) {
  std::size_t size = 0;
  pieces.forEach([&](std::span<const std::byte> piece) {
    size += std::min(piece.size(), Chunk::CAPACITY - size);
    return size < Chunk::CAPACITY;
  });
  ByteBlock block(size);
  block.grow(pieces.moveTo(block.room()));
  return block;
}

} // namespace detail
} // namespace v0
} // namespace troth
