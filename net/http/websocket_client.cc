// SPDX-License-Identifier: MIT
// The opening handshake on a client's request and response.
#include <troth/net/http/websocket_client.h>

#include <troth/runtime/exception.h>
#include <troth/runtime/quote_detail.h>

#include <string>
#include <utility>

namespace troth {
inline namespace v0 {
namespace http {

namespace {

// The URL of the handshake, which is one of http or https (RFC 6455, section 3).
Url handshakeUrl(std::string_view text, const std::source_location& where) {
  const Url url = Url::parse(text, where);
  const bool isSecure = url.hasScheme("wss");
  if ((!isSecure && !url.hasScheme("ws")) || url.fragment())
    troth::detail::throwMisuse(std::string("connectWebSocket: ")
                                   .append(troth::detail::quote(url.withoutUserInfo().toString()))
                                   .append(" is no URL of ws or wss without a fragment"),
                               where);
  std::string changed(isSecure ? "https" : "http");
  changed.append(url.toString(), url.scheme().size());
  return Url::parse(changed, where);
}

Promise<WebSocket> open(Client& client, ClientRequest request, WebSocketHandshake handshake, WebSocketOptions options,
                        std::source_location where) {
  Promise<Upgraded> answered = client.upgrade(std::move(request), where);
  Upgraded upgraded = co_await std::move(answered);
  WebSocketAgreement agreement = handshake.check(upgraded.response.status(), upgraded.response.headers(), where);
  co_return WebSocket(std::move(upgraded.stream), WebSocket::Role::CLIENT, std::move(agreement), options, where);
}

} // namespace

Promise<WebSocket> connectWebSocket(Client& client, std::string_view url, const WebSocketClientOptions& options,
                                    const WebSocketOptions& socketOptions, const HeaderFields& headers,
                                    std::source_location where) {
  ClientRequest request(Method::GET, handshakeUrl(url, where), where);
  WebSocketHandshake handshake(options, where);
  request.headers.addAll(headers).addAll(handshake.headers());
  request.headers.remove(HeaderId::CONNECTION); // the client says that itself
  return open(client, std::move(request), std::move(handshake), socketOptions, where);
}

} // namespace http
} // namespace v0
} // namespace troth
