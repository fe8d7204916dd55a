// SPDX-License-Identifier: MIT
// EventStream: server-sent events, which browsers receive by EventSource.
#pragma once

#include <troth/net/http/service.h>
#include <troth/runtime/promise.h>
#include <troth/runtime/sync.h>
#include <troth/timers/timer.h>

#include <chrono>
#include <optional>
#include <source_location>
#include <string_view>

namespace troth {
inline namespace v0 {
namespace http {

/// One event, as text in UTF-8.
struct ServerEvent {
  /// What it says: lines, separated by LF, CR or CRLF, which all arrive as LF.
  std::string_view data = {};
  /// Its name, for addEventListener(); empty for "message".
  std::string_view type = {};
  /// What a client that connects again says as the last that it has got; an empty one makes it say nothing.
  std::optional<std::string_view> id = {};
  /// How long a client waits before it connects again, from now on; not negative.
  std::optional<std::chrono::milliseconds> retry = {};
};

/// The response to a request of an EventSource (the HTML Standard, section 9.2), which lasts as long as its handler.
///
///     Promise<void> news(Request& request, Response& response) {
///       EventStream events(response);
///       for (;;) {
///         const std::string line = co_await lines.receive();
///         co_await events.send(line);
///       }
///     }
///
/// To HEAD, which a Router passes to what is there for GET, nothing is sent but the head: end the handler after making
/// the stream. A client that leaves cancels the handler. Whether it is there is noticed by sending; and what lies
/// between, such as a proxy, may give up a connection that is silent for a minute: keepAlive() sees to both.
///
/// It is used by the handler, on its thread, and outlived by the response. It outlives what its functions return.
class EventStream {
public:
  /// Starts the response, with status 200, Content-Type and, unless one was set, `Cache-Control: no-store`. Throws what
  /// Response::start() throws.
  explicit EventStream(Response& response, std::source_location where = std::source_location::current());
  EventStream(const EventStream&) = delete;
  EventStream& operator=(const EventStream&) = delete;

  /// Sends an event. Throws FAILED for a type or id with a line break, an id with a NUL, which clients would ignore, or
  /// a retry that is negative. An event without data is not dispatched by clients; its id and retry count.
  /// (To await it, give the event a name: g++ 12 gets a braced list within a co_await wrong.)
  ///
  /// Completes:    when the connection has taken it.
  /// Errors:       those of writing: DISCONNECTED if the client has gone, OVERLOADED if it does not read.
  /// Cancellation: clean while others are being sent; after that partial, lost: the response is good for nothing more.
  /// Lifetime:     the event's texts are needed only during the call.
  /// Overlap:      any number: they are sent one after the other.
  Promise<void> send(const ServerEvent& event, std::source_location where = std::source_location::current());
  /// The same for an event that is nothing but data.
  Promise<void> send(std::string_view data, std::source_location where = std::source_location::current()) {
    return send(ServerEvent{.data = data}, where);
  }

  /// Sends a comment, which clients ignore; each line of `text` is one. The contract is that of send().
  Promise<void> sendComment(std::string_view text = {}, std::source_location where = std::source_location::current());

  /// Sends an empty comment every `interval`, and one at once, so that the client learns that it is connected:
  ///
  ///     co_await sendNews(events).exclusiveJoin(events.keepAlive(timer, 15s));
  ///
  /// Completes:    never.
  /// Errors:       those of writing; DISCONNECTED if `timer` is destroyed.
  /// Cancellation: as send().
  /// Lifetime:     this object and `timer` outlive the promise.
  /// Overlap:      as send().
  Promise<void> keepAlive(Timer& timer, Duration interval,
                          std::source_location where = std::source_location::current());

private:
  AsyncOutputStream& output_;
  AsyncMutex sending_;

  Promise<void> write(detail::PoolString text, std::source_location where);
};

/// The id of the last event that a client has got before it connected again; empty if it has said nothing (the HTML
/// Standard, section 9.2.4). It is the client's word. Valid as long as the request.
std::string_view lastEventId(const Request& request) noexcept;

} // namespace http
} // namespace v0
} // namespace troth
