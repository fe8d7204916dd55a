// SPDX-License-Identifier: MIT
// Chunks that are large, or that come when the pool has no block of their size.
#include <troth/io/chunk.h>

namespace troth {
inline namespace v0 {

void Chunk::takeScratch(std::size_t size) noexcept {
  if (size <= detail::POOL_LARGEST) {
    try {
      *this = copyOf({detail::scratchBuffer(), size});
      return;
    } catch (...) {
      // Without memory for a block, the buffer that holds the bytes already does as well.
    }
  }
  data_ = detail::takeScratchBuffer();
  size_ = static_cast<std::uint32_t>(size);
  allocated_ = detail::BUFFER_SIZE;
}

} // namespace v0
} // namespace troth
