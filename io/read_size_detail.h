// SPDX-License-Identifier: MIT
// How much a read may ask for.
#pragma once

#include <troth/io/chunk.h>

#include <cstddef>
#include <source_location>
#include <span>

namespace troth {
inline namespace v0 {
namespace detail {

[[noreturn]] void refuseRead(std::size_t size, std::size_t minBytes, std::source_location where);

/// Throws FAILED unless these are arguments that tryRead() can have.
inline void requireReadable(std::span<const std::byte> buffer, std::size_t minBytes, std::source_location where) {
  if (minBytes == 0 || minBytes > buffer.size()) [[unlikely]]
    refuseRead(buffer.size(), minBytes, where);
}

/// Whether a chunk can have so many bytes: 1 to Chunk::CAPACITY.
inline bool isChunkSize(std::size_t bytes) noexcept { return bytes - 1 < Chunk::CAPACITY; }

/// The most bytes that a chunk may have of which at most `maxBytes` are wanted. Throws FAILED if that is 0.
std::size_t chunkSize(std::size_t maxBytes, std::source_location where);

} // namespace detail
} // namespace v0
} // namespace troth
