// SPDX-License-Identifier: MIT
// What is said of a read that asks for what it cannot have.
#include <troth/io/read_size_detail.h>

#include <troth/runtime/exception.h>

#include <fmt/format.h>

#include <algorithm>

namespace troth {
inline namespace v0 {
namespace detail {

void refuseRead(std::size_t size, std::size_t minBytes, std::source_location where) {
  if (size == 0 && minBytes <= 1)
    throwMisuse("tryRead: the buffer is empty, so a result of 0 would not mean the end of the stream", where);
  throwMisuse(fmt::format("tryRead: minBytes is {}, but must be between 1 and the buffer's size, {}", minBytes, size),
              where);
}

std::size_t chunkSize(std::size_t maxBytes, std::source_location where) {
  if (maxBytes == 0)
    throwMisuse("tryReadChunk: maxBytes is 0, so an empty chunk would not mean the end of the stream", where);
  return std::min(maxBytes, Chunk::CAPACITY);
}

} // namespace detail
} // namespace v0
} // namespace troth
