// SPDX-License-Identifier: MIT
// Reading a form within its limit.
#include <troth/net/http/form.h>

#include <troth/io/stream_watch_detail.h>
#include <troth/net/http/http_error.h>

#include <string>

namespace troth {
inline namespace v0 {
namespace http {

Promise<Query> readForm(AsyncInputStream& body, QueryLimits limits, std::source_location where) {
  const troth::detail::StreamWatch watch(body);
  detail::PoolString text;
  for (;;) {
    watch.require(where);
    const Chunk chunk = co_await body.tryReadChunk(Chunk::CAPACITY, where);
    if (chunk.empty()) break;
    if (chunk.size() > limits.maxBytes - text.size())
      throw HttpError(413, "the form has more than " + std::to_string(limits.maxBytes) + " bytes", where);
    text += chunk.text();
  }
  co_return Query::parseForm(text, limits, where);
}

} // namespace http
} // namespace v0
} // namespace troth
