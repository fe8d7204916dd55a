// SPDX-License-Identifier: MIT
// Chunks that are large, or that come when the pool has no block of their size.
#include <troth/io/chunk.h>

namespace troth {
inline namespace v0 {

void Chunk::takeScratchSlowly() noexcept {
  if (size_ <= detail::POOL_CLASSES * detail::POOL_GRAIN) {
    try {
      data_ = static_cast<std::byte*>(detail::allocate(size_));
      std::memcpy(data_, detail::scratchBuffer(), size_);
      return;
    } catch (...) {
      // Without memory for a block, the buffer that holds the bytes already does as well.
    }
  }
  data_ = detail::takeScratchBuffer();
  allocated_ = detail::BUFFER_SIZE;
}

} // namespace v0
} // namespace troth
