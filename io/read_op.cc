// SPDX-License-Identifier: MIT
// What a read may ask for.
#include <troth/io/read_op_detail.h>

#include <fmt/format.h>

namespace troth {
inline namespace v0 {
namespace detail {

void requireReadable(std::span<std::byte> buffer, std::size_t minBytes, std::source_location where) {
  if (minBytes != 0 && minBytes <= buffer.size()) return;
  if (buffer.empty() && minBytes <= 1)
    throwMisuse("tryRead: the buffer is empty, so a result of 0 would not mean the end of the stream", where);
  throwMisuse(
      fmt::format("tryRead: minBytes is {}, but must be between 1 and the buffer's size, {}", minBytes, buffer.size()),
      where);
}

void requireReadable(std::size_t maxBytes, std::source_location where) {
  if (maxBytes == 0)
    throwMisuse("tryReadChunk: maxBytes is 0, so an empty chunk would not mean the end of the stream", where);
}

} // namespace detail
} // namespace v0
} // namespace troth
