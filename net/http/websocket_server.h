// SPDX-License-Identifier: MIT
// acceptWebSocket(): from a request to a WebSocket.
#pragma once

#include <troth/net/http/service.h>
#include <troth/net/http/websocket.h>
#include <troth/net/http/websocket_handshake.h>

#include <optional>
#include <source_location>

namespace troth {
inline namespace v0 {
namespace http {

/// Makes the connection of a request that asks for it (asksForWebSocket()) a WebSocket, or answers why it does not
/// become one.
///
///     Promise<void> handle(http::Request& request, http::Response& response) {
///       std::optional<http::WebSocket> socket = co_await http::acceptWebSocket(request, response);
///       if (!socket) co_return;
///       …
///     }
///
/// What is in `response.headers()` is sent along.
///
/// While the handler goes on, what belongs to the request stays, too: some 2 kB. Who has many WebSockets that are idle
/// gives them to a TaskSet and returns: then one costs as much as a connection, and some 900 bytes more.
///
/// Completes:    at once with a WebSocket; if the request is refused, when the answer is sent.
/// Result:       the WebSocket, which may outlive the handler; nothing if the request was refused: it was answered
///               with the status and reason of answerWebSocket().
/// Errors:       those of Response::send() and Response::upgrade(); FAILED if the options make no sense.
/// Cancellation: partial, lost: the connection is closed.
/// Lifetime:     the options are needed only during the call; `socketOptions.timer` as long as the WebSocket.
Promise<std::optional<WebSocket>> acceptWebSocket(Request& request, Response& response,
                                                  const WebSocketServerOptions& options,
                                                  const WebSocketOptions& socketOptions = {},
                                                  std::source_location where = std::source_location::current());

/// The same without options. (Those that a coroutine names in a co_await stay in its frame as long as that exists.)
Promise<std::optional<WebSocket>> acceptWebSocket(Request& request, Response& response,
                                                  std::source_location where = std::source_location::current());

} // namespace http
} // namespace v0
} // namespace troth
