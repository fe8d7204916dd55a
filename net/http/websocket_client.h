// SPDX-License-Identifier: MIT
// connectWebSocket: a WebSocket by an HTTP client.
#pragma once

#include <troth/net/http/client.h>
#include <troth/net/http/websocket.h>
#include <troth/net/http/websocket_handshake.h>
#include <troth/runtime/promise.h>

#include <source_location>
#include <string_view>

namespace troth {
inline namespace v0 {
namespace http {

/// Opens a WebSocket at `url`, of ws or, where the client has TLS, wss (RFC 6455, section 4.1).
///
///     http::WebSocket socket = co_await http::connectWebSocket(client, "ws://example.com/chat");
///
/// `headers` are sent along, such as Origin or Authorization. The client's defaults hold for the request (time-outs,
/// proxy); redirects are not followed.
///
/// Completes:    when the server has agreed.
/// Result:       the WebSocket, which is nothing of the client's any more and may outlive it.
/// Errors:       those of Client::request(); FAILED if the server does not agree, or what it agrees to was not offered.
///               Throws FAILED for a URL that is none of these, or has a fragment, and for options that make no sense.
/// Cancellation: clean for this side: the connection is closed.
/// Lifetime:     what is passed is needed only during the call, but for the client; `socketOptions.timer` as long as
/// the
///               WebSocket.
/// Overlap:      any number.
Promise<WebSocket> connectWebSocket(Client& client, std::string_view url, const WebSocketClientOptions& options = {},
                                    const WebSocketOptions& socketOptions = {}, const HeaderFields& headers = {},
                                    std::source_location where = std::source_location::current());

} // namespace http
} // namespace v0
} // namespace troth
