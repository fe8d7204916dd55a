// SPDX-License-Identifier: MIT
// Moving bytes between memory and a file, of any number, for File and its streams.
#pragma once

#include <troth/io/chunk.h>
#include <troth/io/pieces_detail.h>
#include <troth/runtime/promise.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <source_location>
#include <span>
#include <string_view>

namespace troth {
inline namespace v0 {
namespace detail {

struct Opened;
using OpenedPtr = std::shared_ptr<Opened>;

/// Throws FAILED, naming the `function` and `what` it is, if no file can have it.
std::int64_t checkedOffset(std::uint64_t offset, std::string_view function, std::string_view what,
                           std::source_location where);

/// Reads at least `minBytes`, unless the file ends or an error comes before, and as much more as there is and fits.
Promise<std::size_t> readToBuffer(OpenedPtr file, std::uint64_t offset, std::span<std::byte> buffer,
                                  std::size_t minBytes, std::source_location where);

/// Reads `size` bytes (1 to Chunk::CAPACITY), or what there is before the end of the file or an error.
Promise<Chunk> readToChunk(OpenedPtr file, std::uint64_t offset, std::size_t size, std::source_location where);

/// Writes all of `pieces`.
Promise<void> writePieces(OpenedPtr file, std::uint64_t offset, Pieces pieces, std::source_location where);

} // namespace detail
} // namespace v0
} // namespace troth
