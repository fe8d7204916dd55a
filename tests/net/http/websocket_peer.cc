// SPDX-License-Identifier: MIT
// WebSocket's end here, for the scripts whose other end is another implementation, or none.
//
//   websocket_peer server             echoes; prints its port; ends with its standard input
//   websocket_peer client PORT        sends messages, expects each back, and closes with 4321
//   websocket_peer echo PORT COUNT    connects so often, one after the other, and sends back what comes
#include <troth/io/async_io.h>
#include <troth/io/buffered.h>
#include <troth/io/descriptor.h>
#include <troth/net/http/server.h>
#include <troth/net/http/upgraded_stream_detail.h>
#include <troth/net/http/websocket_client.h>
#include <troth/net/http/websocket_server.h>
#include <troth/net/network.h>

#include <cstdio>
#include <cstdlib>
#include <string>

using namespace troth;
using namespace troth::http;

namespace {

struct Log : TaskSet::ErrorHandler {
  void taskFailed(Exception e) override { std::fprintf(stderr, "server: %s\n", e.what()); }
};

Promise<void> echo(WebSocket socket) {
  for (;;) {
    Result<WebSocketMessage> result = co_await socket.receive().asResult();
    if (!result) {
      // The peer learns by the close frame what was wrong; it has to have the time to read it.
      (void)co_await socket.close().asResult();
      co_return;
    }
    if (result->isClose()) co_return;
    if (result->isBinary()) {
      co_await socket.send(result->bytes());
    } else if (result->text() == "close with 4001") {
      co_await socket.close(static_cast<WebSocketCloseCode>(4001), "as you wish");
      co_return;
    } else {
      co_await socket.send(result->text());
    }
  }
}

Promise<void> handle(Timer& timer, Request& request, Response& response) {
  WebSocketServerOptions options;
  options.subprotocols = {"second", "echo"};
  if (request.path() == "/deflate") options.deflate.emplace();
  options.allowOrigin = [](std::optional<std::string_view> origin) { return origin != "https://evil.example"; };
  WebSocketOptions socketOptions;
  socketOptions.maxMessageSize = 1024 * 1024;
  socketOptions.timer = &timer;
  std::optional<WebSocket> socket = co_await acceptWebSocket(request, response, options, socketOptions);
  if (socket) co_await echo(std::move(*socket));
}

int serve() {
  AsyncIoContext io = setupAsyncIo();
  auto network = newNetwork(io);
  auto port = network->parseAddress("127.0.0.1:0").wait(io.waitScope())->listen();
  std::printf("%s\n", port->toString().c_str());
  std::fflush(stdout);
  Log log;
  auto service = newService([&](Request& request, Response& response) { return handle(io.timer(), request, response); });
  Server server(*service, io.timer(), log);
  auto input = standardInput(io);
  server.serve(std::move(port)).exclusiveJoin(input->readAllText(1).ignoreResult()).wait(io.waitScope());
  return 0;
}

/// The head of the response, without the line of its status, which is given back.
std::string parseHead(std::string_view head, HeaderMap& fields) {
  const std::string status(head.substr(0, head.find("\r\n")));
  for (std::size_t at = status.size() + 2; at < head.size();) {
    const std::size_t end = std::min(head.find("\r\n", at), head.size());
    const std::string_view line = head.substr(at, end - at);
    const std::size_t colon = line.find(':');
    fields.add(line.substr(0, colon), line.substr(colon + 1));
    at = end + 2;
  }
  return status;
}

Promise<WebSocket> open(std::unique_ptr<AsyncIoStream> stream, WebSocketOptions options) {
  WebSocketClientOptions wishes;
  wishes.subprotocols = {"echo"};
  wishes.deflate.emplace();
  const WebSocketHandshake handshake(wishes);
  const std::string request = "GET / HTTP/1.1\r\nHost: localhost\r\n" + std::string(handshake.headers().text()) + "\r\n";
  co_await stream->write(request);
  BufferedInputStream buffered(*stream);
  const std::optional<std::string> head = co_await buffered.readUntil("\r\n\r\n");
  HeaderMap fields;
  const std::string status = parseHead(head.value(), fields);
  WebSocketAgreement agreement = handshake.check(std::atoi(status.substr(9, 3).c_str()), fields);
  Chunk rest;
  if (buffered.buffered() > 0) rest = co_await buffered.tryReadChunk();
  std::printf("subprotocol %s, deflate %d\n", agreement.subprotocol.c_str(), agreement.deflate.has_value());
  auto connection = http::detail::newUpgradedStream(std::move(stream), std::move(rest), {}, std::source_location::current());
  co_return WebSocket(std::move(connection), WebSocket::Role::CLIENT, std::move(agreement), options);
}

Promise<void> converse(WebSocket socket) {
  for (std::size_t size : {0u, 1u, 125u, 126u, 65535u, 65536u, 500'000u}) {
    std::string text;
    for (std::size_t i = 0; i < size; ++i) text.push_back(static_cast<char>('a' + i * i % 23));
    co_await socket.send(text);
    const WebSocketMessage back = co_await socket.receive();
    if (!back.isText() || back.text() != text) throw Exception(Exception::Kind::FAILED, "another text came back");
    text.push_back('\xff');
    co_await socket.send(asBytes(text));
    const WebSocketMessage binary = co_await socket.receive();
    if (!binary.isBinary() || binary.text() != text) throw Exception(Exception::Kind::FAILED, "other bytes came back");
  }
  Promise<void> ping = socket.ping();
  co_await socket.send("to be received while the ping waits");
  (void)co_await socket.receive();
  Promise<WebSocketMessage> last = socket.receive();
  co_await std::move(ping);
  co_await socket.close(static_cast<WebSocketCloseCode>(4321), "done");
  const WebSocketMessage end = co_await std::move(last);
  std::printf("closed with %d\n", static_cast<int>(end.closeCode()));
}

int connect(const char* port) {
  AsyncIoContext io = setupAsyncIo();
  auto network = newNetwork(io);
  auto address = network->parseAddress(std::string("127.0.0.1:") + port).wait(io.waitScope());
  WebSocketOptions options;
  options.timer = &io.timer();
  converse(open(address->connect().wait(io.waitScope()), options).wait(io.waitScope())).wait(io.waitScope());
  return 0;
}

Promise<void> echoTo(Client& client, Timer& timer, std::string url) {
  WebSocketClientOptions wishes;
  wishes.deflate.emplace();
  WebSocketOptions options;
  options.timer = &timer;
  co_await echo(co_await connectWebSocket(client, url, wishes, options));
}

int echoOften(const char* port, int count) {
  AsyncIoContext io = setupAsyncIo();
  auto network = newNetwork(io);
  Client client(*network, io.timer());
  const std::string url = std::string("ws://127.0.0.1:") + port + "/";
  // What a server does wrong ends its connection; the next one may do better.
  for (int i = 0; i < count; ++i) (void)echoTo(client, io.timer(), url).asResult().wait(io.waitScope());
  return 0;
}

} // namespace

int main(int argc, char** argv) try {
  if (argc == 2 && std::string_view(argv[1]) == "server") return serve();
  if (argc == 3 && std::string_view(argv[1]) == "client") return connect(argv[2]);
  if (argc == 4 && std::string_view(argv[1]) == "echo") return echoOften(argv[2], std::atoi(argv[3]));
  std::fprintf(stderr, "websocket_peer server | client PORT | echo PORT COUNT\n");
  return 2;
} catch (const std::exception& e) {
  std::fprintf(stderr, "websocket_peer: %s\n", e.what());
  return 1;
}
