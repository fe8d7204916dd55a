// SPDX-License-Identifier: MIT
// Small parts of responses.
#include <troth/net/http/answer_detail.h>

#include <troth/net/http/http_error.h>
#include <troth/net/http/status.h>
#include <troth/net/http/text_detail.h>
#include <troth/net/http/uri_text_detail.h>
#include <troth/runtime/quote_detail.h>

#include <optional>
#include <string>

namespace troth {
inline namespace v0 {
namespace http {
namespace detail {

Promise<void> sendStatus(Response& response, int status, std::source_location where) {
  response.headers().set(HeaderId::CONTENT_TYPE, "text/plain", where);
  return response.send(status, std::to_string(status) + " " + std::string(reasonPhrase(status)) + "\n", where);
}

void addVary(HeaderMap& headers, std::string_view fieldName) {
  if (headers.fields().hasToken(HeaderId::VARY, "*") || headers.fields().hasToken(HeaderId::VARY, fieldName)) return;
  headers.add(HeaderId::VARY, fieldName);
}

bool isPlain(const Request& request) {
  const std::string codings = request.headers().combined(HeaderId::CONTENT_ENCODING);
  std::string_view list = codings;
  while (const std::optional<std::string_view> coding = nextElement(list))
    if (!equalsIgnoringCase(*coding, "identity")) return false;
  return true;
}

void requireEncoded(std::string_view path, std::source_location where) {
  for (std::size_t i = path.find('%'); i != std::string_view::npos; i = path.find('%', i + 1))
    if (percentByte(path, i) < 0)
      throw HttpError(
          400, "the path " + troth::detail::quote(path) + " has a % without two hexadecimal digits behind it", where);
}

} // namespace detail
} // namespace http
} // namespace v0
} // namespace troth
