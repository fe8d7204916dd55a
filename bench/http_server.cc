// SPDX-License-Identifier: MIT
// The server of the HTTP benchmarks: 13 bytes at /, 1 MiB at /large, /echo, which sends back what it is sent, and /ws,
// which does so with WebSocket messages.
//
//   http_server --port 8080
#include <troth/io/async_io.h>
#include <troth/net/http/server.h>
#include <troth/net/http/websocket_server.h>
#include <troth/net/network.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <string>

using namespace troth;
using namespace troth::http;

namespace {

struct Log : TaskSet::ErrorHandler {
  void taskFailed(Exception e) override { std::fprintf(stderr, "http_server: %s\n", e.what()); }
};

class Bench : public Service {
public:
  Promise<void> handle(Request& request, Response& response) override {
    const std::string_view path = request.path();
    if (path == "/") {
      response.headers().set(HeaderId::CONTENT_TYPE, "text/plain");
      co_await response.send(200, "Hello, world!");
    } else if (path == "/large") {
      co_await response.send(200, large_);
    } else if (path == "/echo") {
      AsyncOutputStream& out = response.start(200, request.body().tryGetLength());
      co_await request.body().pumpTo(out);
    } else if (path == "/ws") {
      std::optional<WebSocket> socket = co_await acceptWebSocket(request, response);
      if (socket) co_await echo(*socket);
    } else {
      co_await response.send(404);
    }
  }

private:
  static Promise<void> echo(WebSocket& socket) {
    for (;;) {
      const WebSocketMessage message = co_await socket.receive();
      if (message.isClose()) co_return;
      if (message.isText()) {
        co_await socket.send(message.text());
      } else {
        co_await socket.send(message.bytes());
      }
    }
  }

  const std::string large_ = std::string(1024 * 1024, 'x');
};

} // namespace

int main(int argc, char** argv) {
  const char* port = "8080";
  for (int i = 1; i + 1 < argc; ++i)
    if (std::strcmp(argv[i], "--port") == 0) port = argv[i + 1];
  AsyncIoContext io = setupAsyncIo();
  auto receiver = newNetwork(io)->parseAddress("127.0.0.1:" + std::string(port)).wait(io.waitScope())->listen();
  Promise<int> stopped = io.onSignal(SIGINT, SIGTERM);
  std::printf("listening on http://%s\n", receiver->toString().c_str());
  std::fflush(stdout);
  Log log;
  Bench service;
  Server server(service, io.timer(), log);
  server.serve(std::move(receiver)).exclusiveJoin(std::move(stopped).ignoreResult()).wait(io.waitScope());
}
