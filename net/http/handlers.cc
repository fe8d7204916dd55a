// SPDX-License-Identifier: MIT
// Reading what a request brings, and small responses.
#include <troth/net/http/handlers.h>

#include <troth/net/http/answer_detail.h>
#include <troth/net/http/form.h>
#include <troth/net/http/http_error.h>
#include <troth/net/http/media_type.h>
#include <troth/net/http/url.h>
#include <troth/runtime/exception.h>
#include <troth/runtime/quote_detail.h>

namespace troth {
inline namespace v0 {
namespace http {

namespace {

std::string_view typeOf(const Request& request) { return request.headers().valueOr(HeaderId::CONTENT_TYPE, ""); }

void requirePlain(const Request& request, const std::source_location& where) {
  if (!detail::isPlain(request))
    throw HttpError(
        415, "content with the coding " + troth::detail::quote(request.headers().combined(HeaderId::CONTENT_ENCODING)),
        where);
}

[[noreturn]] void failTooLong(std::size_t limit, const std::source_location& where) {
  throw HttpError(413, "the content has more than " + std::to_string(limit) + " bytes", where);
}

Promise<std::string> readAll(AsyncInputStream& body, std::size_t limit, std::source_location where) {
  std::string text;
  for (;;) {
    const Chunk chunk = co_await body.tryReadChunk(Chunk::CAPACITY, where);
    if (chunk.empty()) co_return text;
    if (chunk.size() > limit - text.size()) failTooLong(limit, where);
    text += chunk.text();
  }
}

} // namespace

Promise<std::string> readText(Request& request, std::size_t limit, std::source_location where) {
  requirePlain(request, where);
  if (request.body().tryGetLength().value_or(0) > limit) failTooLong(limit, where);
  return readAll(request.body(), limit, where);
}

Promise<Query> readForm(Request& request, QueryLimits limits, std::source_location where) {
  requirePlain(request, where);
  if (!hasContentType(request, "application/x-www-form-urlencoded"))
    throw HttpError(415, troth::detail::quote(typeOf(request)) + " is not the type of a form", where);
  if (request.body().tryGetLength().value_or(0) > limits.maxBytes) failTooLong(limits.maxBytes, where);
  return readForm(request.body(), limits, where);
}

MultipartReader newMultipartReader(Request& request, const MultipartLimits& limits, std::source_location where) {
  requirePlain(request, where);
  return MultipartReader(request.body(), multipartBoundary(typeOf(request), where), limits, where);
}

bool hasContentType(const Request& request, std::string_view essence) {
  const std::optional<MediaType> type = MediaType::tryParse(typeOf(request));
  return type && type->is(essence);
}

void setCookie(Response& response, const SetCookie& cookie, std::source_location where) {
  response.headers().add(HeaderId::SET_COOKIE, cookie.toString(where), where);
}

Promise<void> sendRedirect(Response& response, int status, std::string_view location, std::source_location where) {
  if (status != 301 && status != 302 && status != 303 && status != 307 && status != 308)
    troth::detail::throwMisuse(
        "sendRedirect: " + std::to_string(status) + " is no status that sends somebody elsewhere", where);
  static const Url base = Url::parse("http://base/");
  if (std::string reason; !base.tryResolve(location, &reason))
    troth::detail::throwMisuse(
        "sendRedirect: " + troth::detail::quote(location) + " is no reference to a URL: " + reason, where);
  response.headers().set(HeaderId::LOCATION, location, where);
  return detail::sendStatus(response, status, where);
}

} // namespace http
} // namespace v0
} // namespace troth
