// SPDX-License-Identifier: MIT
// The opening handshake of WebSocket (RFC 6455, section 4): heads to look at and heads to send, without any I/O.
#pragma once

#include <troth/net/http/header_map.h>
#include <troth/net/http/method.h>
#include <troth/net/http/websocket_deflate.h>

#include <functional>
#include <optional>
#include <source_location>
#include <string>
#include <string_view>
#include <vector>

namespace troth {
inline namespace v0 {
namespace http {

/// What the two sides have agreed on.
struct WebSocketAgreement {
  /// The subprotocol; empty if there is none.
  std::string subprotocol;
  /// How messages are compressed; nothing if they are not.
  std::optional<WebSocketDeflateTerms> deflate;
};

// --- A server's side.

/// The head of the request, as the server's parser has it. The fields are a view.
struct WebSocketRequest {
  Method method = Method::GET;
  int versionMajor = 1;
  int versionMinor = 1;
  HeaderFields headers;
};

/// What a server has to offer.
struct WebSocketServerOptions {
  /// The subprotocols that it speaks, the best first. Of those that the client names, this order decides.
  std::vector<std::string> subprotocols;
  /// Whether messages may be compressed, if the client offers it, and how.
  std::optional<WebSocketDeflateOptions> deflate;
  /// Whether a page from this origin may connect (RFC 6455, section 10.2): gets the value of the field Origin, such as
  /// "https://example.org", or nothing if there is none: only browsers send it. Without this function, all may.
  ///
  /// A server that knows its users by cookies must check it: a browser sends them along whichever page it is that
  /// connects.
  std::function<bool(std::optional<std::string_view> origin)> allowOrigin;
};

/// What a server has to answer.
struct WebSocketAnswer {
  /// 101, or why not: 400, 403, 405 or 426.
  int status = 101;
  /// If not 101: a sentence that names what was wrong.
  std::string reason;
  /// The fields of the response, besides those that each response has.
  HeaderMap headers;
  /// If 101: for the WebSocket.
  WebSocketAgreement agreement;

  bool accepted() const noexcept { return status == 101; }
};

/// Whether a request asks for WebSocket: whether its Upgrade field has the token "websocket". A server asks that first,
/// and treats every other request as it always does.
bool asksForWebSocket(const HeaderFields& headers) noexcept;

/// Checks a request (RFC 6455, section 4.2) and makes the response. What is wrong with the request becomes a status;
/// what is wrong with the options throws FAILED. What `allowOrigin` throws goes through.
WebSocketAnswer answerWebSocket(const WebSocketRequest& request, const WebSocketServerOptions& options,
                                std::source_location where = std::source_location::current());

// --- A client's side.

/// What a client wishes.
struct WebSocketClientOptions {
  /// The subprotocols that it speaks, the best first; each one a token (RFC 9110, section 5.6.2) and there once.
  std::vector<std::string> subprotocols;
  /// Whether compression is offered, and with which wishes.
  std::optional<WebSocketDeflateOptions> deflate;
};

/// One handshake of a client.
///
///     WebSocketHandshake handshake(options);
///     … send GET with handshake.headers(), and read the head of the response …
///     WebSocket socket(std::move(connection), WebSocket::Role::CLIENT, handshake.check(status, fields));
class WebSocketHandshake {
public:
  /// With a key that nobody can foresee. Throws FAILED if the options make no sense.
  explicit WebSocketHandshake(WebSocketClientOptions options = {},
                              std::source_location where = std::source_location::current());

  /// The fields of the request, besides Host and those that are the caller's own, such as Origin. The request is a GET
  /// of HTTP/1.1 without a body.
  const HeaderMap& headers() const noexcept { return headers_; }

  /// Checks the response (RFC 6455, section 4.1). Throws FAILED, naming what is wrong with it; a status that is not 101
  /// is among that.
  WebSocketAgreement check(int status, const HeaderFields& response,
                           std::source_location where = std::source_location::current()) const;

private:
  WebSocketClientOptions options_;
  std::string accept_; // what the server has to make of the key
  HeaderMap headers_;

  std::string checkSubprotocol(const HeaderFields& response, const std::source_location& where) const;
};

/// For implementers: what a server makes of a client's key (RFC 6455, section 4.2.2).
std::string webSocketAcceptKey(std::string_view key);

} // namespace http
} // namespace v0
} // namespace troth
