// SPDX-License-Identifier: MIT
// What the stream interfaces do in terms of each other.
#include <troth/io/stream.h>

#include <fmt/format.h>

namespace troth {
inline namespace v0 {

Promise<void> AsyncInputStream::read(std::span<std::byte> buffer, std::source_location where) {
  if (buffer.empty()) return READY_NOW;
  const std::size_t wanted = buffer.size();
  return tryRead(buffer, wanted, where)
      .then(
          [wanted, where](std::size_t got) {
            if (got < wanted)
              throw Exception(Exception::Kind::DISCONNECTED,
                              fmt::format("read: the stream ended after {} of {} bytes", got, wanted), {}, where);
          },
          detail::PropagateException(), where);
}

} // namespace v0
} // namespace troth
