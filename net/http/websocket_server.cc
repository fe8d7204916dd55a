// SPDX-License-Identifier: MIT
// The opening handshake on a server's request and response.
#include <troth/net/http/websocket_server.h>

#include <memory>
#include <string>
#include <utility>

namespace troth {
inline namespace v0 {
namespace http {

namespace {

std::optional<WebSocket> noSocket() { return std::nullopt; }

Promise<std::optional<WebSocket>> refuse(Response& response, const WebSocketAnswer& answer,
                                         std::source_location where) {
  response.headers().addAll(answer.headers).set(HeaderId::CONTENT_TYPE, "text/plain; charset=utf-8");
  return response.send(answer.status, answer.reason + "\n", where)
      .then(noSocket, troth::detail::PropagateException(), where);
}

} // namespace

Promise<std::optional<WebSocket>> acceptWebSocket(Request& request, Response& response,
                                                  const WebSocketServerOptions& options,
                                                  const WebSocketOptions& socketOptions, std::source_location where) {
  WebSocketAnswer answer = answerWebSocket(
      {request.method(), 1, static_cast<int>(request.minorVersion()), request.headers()}, options, where);
  if (!answer.accepted()) return refuse(response, answer, where);
  answer.headers.remove(HeaderId::CONNECTION); // the server says that itself
  response.headers().addAll(answer.headers);
  std::unique_ptr<AsyncIoStream> stream = response.upgrade(answer.status, where);
  response.headers() = HeaderMap(); // which have gone, while the handler may stay long
  return std::optional<WebSocket>(std::in_place, std::move(stream), WebSocket::Role::SERVER,
                                  std::move(answer.agreement), socketOptions, where);
}

Promise<std::optional<WebSocket>> acceptWebSocket(Request& request, Response& response, std::source_location where) {
  return acceptWebSocket(request, response, {}, {}, where);
}

} // namespace http
} // namespace v0
} // namespace troth
