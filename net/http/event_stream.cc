// SPDX-License-Identifier: MIT
// Server-sent events: the HTML Standard, section 9.2.6, in which each line is "field: value", and an empty one ends an
// event.
#include <troth/net/http/event_stream.h>

#include <troth/runtime/exception.h>
#include <troth/runtime/quote_detail.h>

#include <algorithm>
#include <string>
#include <utility>

namespace troth {
inline namespace v0 {
namespace http {

namespace {

using detail::PoolString;

void requireOneLine(const char* what, std::string_view text, const std::source_location& where) {
  if (text.find_first_of("\r\n") != std::string_view::npos)
    troth::detail::throwMisuse(
        "EventStream: the " + std::string(what) + " " + troth::detail::quote(text) + " has a line break", where);
}

void appendField(PoolString& to, std::string_view name, std::string_view value) {
  to.append(name).append(": ").append(value).append("\n");
}

// A field for each line; the last one may be empty.
void appendLines(PoolString& to, std::string_view name, std::string_view text) {
  for (;;) {
    const std::size_t end = std::min(text.find_first_of("\r\n"), text.size());
    appendField(to, name, text.substr(0, end));
    if (end == text.size()) return;
    text.remove_prefix(text.substr(end).starts_with("\r\n") ? end + 2 : end + 1);
  }
}

AsyncOutputStream& startEvents(Response& response, const std::source_location& where) {
  HeaderMap& headers = response.headers();
  headers.set(HeaderId::CONTENT_TYPE, "text/event-stream", where);
  if (!headers.has(HeaderId::CACHE_CONTROL)) headers.set(HeaderId::CACHE_CONTROL, "no-store", where);
  return response.start(200, std::nullopt, where);
}

} // namespace

EventStream::EventStream(Response& response, std::source_location where) : output_(startEvents(response, where)) {}

Promise<void> EventStream::send(const ServerEvent& event, std::source_location where) {
  requireOneLine("type", event.type, where);
  if (event.id) requireOneLine("id", *event.id, where);
  if (event.id && event.id->find('\0') != std::string_view::npos)
    troth::detail::throwMisuse("EventStream: the id " + troth::detail::quote(*event.id) + " has a NUL", where);
  if (event.retry && event.retry->count() < 0)
    troth::detail::throwMisuse("EventStream: " + std::to_string(event.retry->count()) + " ms is no time to wait",
                               where);
  PoolString text;
  text.reserve(event.data.size() + event.type.size() + 64);
  if (!event.type.empty()) appendField(text, "event", event.type);
  if (event.id) appendField(text, "id", *event.id);
  if (event.retry) appendField(text, "retry", std::to_string(event.retry->count()));
  if (!event.data.empty()) appendLines(text, "data", event.data);
  text += '\n';
  return write(std::move(text), where);
}

Promise<void> EventStream::sendComment(std::string_view text, std::source_location where) {
  PoolString comment;
  appendLines(comment, "", text);
  comment += '\n';
  return write(std::move(comment), where);
}

Promise<void> EventStream::keepAlive(Timer& timer, Duration interval, std::source_location where) {
  for (;;) {
    co_await sendComment({}, where);
    co_await timer.afterDelay(interval, where);
  }
}

Promise<void> EventStream::write(PoolString text, std::source_location where) {
  const AsyncMutex::Lock lock = co_await sending_.lock(where);
  co_await output_.write(asBytes(text), where);
}

std::string_view lastEventId(const Request& request) noexcept {
  return request.headers().get("Last-Event-ID").value_or(std::string_view());
}

} // namespace http
} // namespace v0
} // namespace troth
