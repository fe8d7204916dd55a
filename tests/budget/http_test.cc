// SPDX-License-Identifier: MIT
// Heap allocations of requests on a connection that is kept alive, and of messages on a WebSocket, on the loopback
// address.
#include "counting.h"

#include <troth/io/async_io.h>
#include <troth/net/http/client.h>
#include <troth/net/http/server.h>
#include <troth/net/http/websocket_client.h>
#include <troth/net/http/websocket_server.h>
#include <troth/net/network.h>

#include <doctest/doctest.h>

#include <array>
#include <optional>
#include <string>

namespace troth::budget {
namespace {

using namespace troth::http;

constexpr std::string_view GREETING = "Hello, world!";
const std::string GET = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

// What the benchmarks' server does.
struct Answers : Service {
  Promise<void> handle(Request& request, Response& response) override {
    const std::string_view path = request.path();
    if (path == "/") {
      response.headers().set(HeaderId::CONTENT_TYPE, "text/plain");
      co_await response.send(200, GREETING);
    } else if (path == "/echo") {
      AsyncOutputStream& out = response.start(200, request.body().tryGetLength());
      co_await request.body().pumpTo(out);
    } else {
      std::optional<WebSocket> socket = co_await acceptWebSocket(request, response);
      while (socket) {
        const WebSocketMessage message = co_await socket->receive();
        if (message.isClose()) co_return;
        co_await socket->send(message.text());
      }
    }
  }
};

struct Silent : TaskSet::ErrorHandler {
  void taskFailed(Exception) override {}
};

class Served {
public:
  Served() : io(setupAsyncIo()), scope(io.waitScope()), network(newNetwork(io)), server(service, io.timer(), errors) {
    auto receiver = network->parseAddress("127.0.0.1").wait(scope)->listen();
    address = receiver->toString();
    serving = server.serve(std::move(receiver)).eagerlyEvaluate(nullptr);
    stream = network->parseAddress(address).wait(scope)->connect().wait(scope);
  }

  // The allocations of requests that are sent together. The last of them is a GET of "/", whose content ends the answers.
  double allocationsOfTalk(const std::string& requests) {
    stream->write(asBytes(requests)).wait(scope);
    std::string answers;
    while (!answers.ends_with(GREETING)) answers += stream->tryReadChunk().wait(scope).text();
    return allocationsOf([&] {
      stream->write(asBytes(requests)).wait(scope);
      stream->tryRead(std::as_writable_bytes(std::span(buffer).first(answers.size())), answers.size()).wait(scope);
    });
  }

  AsyncIoContext io;
  WaitScope& scope;
  std::unique_ptr<Network> network;
  Silent errors;
  Answers service;
  Server server;
  Promise<void> serving = READY_NOW;
  std::string address;
  std::unique_ptr<AsyncIoStream> stream;
  std::array<char, 64 * 1024> buffer;
};

TEST_CASE("a request on a connection that is kept alive takes nothing from the heap") {
  Served served;
  CHECK(served.allocationsOfTalk(GET) == 0);
  std::string batch;
  for (int i = 0; i < 16; ++i) batch += GET;
  CHECK(served.allocationsOfTalk(batch) == 0);
}

TEST_CASE("nor does one with content, with a length or in chunks") {
  Served served;
  CHECK(served.allocationsOfTalk("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello" + GET) == 0);
  // Larger chunks take the buffer along that they were read into.
  CHECK(served.allocationsOfTalk("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 10000\r\n\r\n" + std::string(10'000, 'x') + GET) <= 1);
  CHECK(served.allocationsOfTalk("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n" + GET) == 0);
}

TEST_CASE("nor a message on a WebSocket") {
  Served served;
  Client client(*served.network, served.io.timer());
  WebSocket socket = connectWebSocket(client, "ws://" + served.address + "/ws").wait(served.scope);
  const std::string text(64, 'x');
  CHECK(allocationsOf([&] {
          socket.send(text).wait(served.scope);
          const WebSocketMessage message = socket.receive().wait(served.scope);
          CHECK(message.text().size() == 64);
        }) == 0);
}

TEST_CASE("a request of the client takes one block at most") {
  Served served;
  Client client(*served.network, served.io.timer());
  const std::string url = "http://" + served.address + "/";
  CHECK(allocationsOf([&] {
          ClientResponse response = client.get(url).wait(served.scope);
          CHECK(response.body().tryReadChunk().wait(served.scope).size() == GREETING.size());
        }) <= 1);
}

} // namespace
} // namespace troth::budget
