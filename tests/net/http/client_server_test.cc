// SPDX-License-Identifier: MIT
// The client and the server talk to each other: in memory, and over sockets.
#include <fixtures.h>

#include <troth/io/pipe.h>
#include <troth/net/http/client.h>
#include <troth/net/http/server.h>
#include <troth/net/http/websocket_client.h>
#include <troth/net/http/websocket_server.h>
#include <troth/net/testing.h>
#include <troth/runtime/join.h>
#include <troth/timers/manual_timer.h>

#include <array>
#include <string>
#include <vector>

using namespace troth;
using namespace troth::http;
using namespace troth::test;

namespace {

struct Log : TaskSet::ErrorHandler {
  void taskFailed(Exception e) override { FAIL_CHECK(e.what()); }
};

Promise<void> sendNumbers(AsyncOutputStream& output, std::size_t count) {
  std::string piece;
  for (std::size_t i = 0; i < count; ++i) {
    piece.append(std::to_string(i)).append(" ");
    if (piece.size() < 10'000 && i + 1 < count) continue;
    co_await output.write(piece);
    piece.clear();
  }
}

// The same to the end of a body.
Promise<void> sendNumbersAndEnd(std::unique_ptr<AsyncOutputStream> output, std::size_t count) {
  co_await sendNumbers(*output, count);
  output.reset();
}

std::string numbers(std::size_t count) {
  std::string all;
  for (std::size_t i = 0; i < count; ++i) all.append(std::to_string(i)).append(" ");
  return all;
}

constexpr std::size_t MANY = 30'000; // numbers, more than the buffers between the two hold

Promise<void> answer(Request& request, Response& response) {
  const std::string path(request.target());
  if (path == "/echo") {
    // Side by side: what comes goes back.
    co_await request.body().pumpTo(response.start(200));
  } else if (path == "/numbers") {
    co_await response.sendInformational(103, HeaderMap());
    AsyncOutputStream& output = response.start(200);
    co_await sendNumbers(output, MANY);
    HeaderMap trailers;
    trailers.set("Count", std::to_string(MANY));
    co_await response.end(trailers);
  } else if (path == "/moved") {
    response.headers().set(HeaderId::LOCATION, "/echo");
    co_await response.send(307);
  } else if (path == "/no") {
    co_await response.send(403, "no");
  } else if (path == "/socket") {
    WebSocketServerOptions options;
    options.subprotocols = {"echo"};
    std::optional<WebSocket> socket = co_await acceptWebSocket(request, response, options);
    REQUIRE(socket);
    const WebSocketMessage message = co_await socket->receive();
    co_await socket->send(message.text());
    co_await socket->close();
  } else if (path == "/chat") {
    response.headers().set(HeaderId::UPGRADE, "chat");
    const std::unique_ptr<AsyncIoStream> stream = response.upgrade();
    co_await stream->write("welcome ");
    for (;;) {
      const Chunk chunk = co_await stream->tryReadChunk();
      if (chunk.empty()) break;
      co_await stream->write(chunk);
    }
  } else {
    co_await response.send(200, std::string(request.method() == Method::HEAD ? "" : "hello"));
  }
}

Promise<std::string> textOf(Promise<ClientResponse> promise) {
  ClientResponse response = co_await std::move(promise);
  std::string text = co_await response.readText(1 << 20);
  co_return std::to_string(response.status()) + " " + text;
}

Promise<void> chat(Client& client, std::string url) {
  ClientRequest request(Method::GET, url + "/chat");
  request.headers.set(HeaderId::UPGRADE, "chat");
  Upgraded upgraded = co_await client.upgrade(std::move(request));
  REQUIRE(upgraded.stream != nullptr);
  std::array<std::byte, 8> welcome;
  co_await upgraded.stream->read(welcome);
  Promise<void> write = upgraded.stream->write("hi");
  const Chunk chunk = co_await upgraded.stream->tryReadChunk();
  REQUIRE(chunk.text() == "hi");
  co_await std::move(write);
  upgraded.stream->shutdownWrite();
  const Chunk end = co_await upgraded.stream->tryReadChunk();
  REQUIRE(end.empty());
}

Promise<void> echoBySocket(Client& client, std::string url) {
  WebSocketClientOptions options;
  options.subprotocols = {"other", "echo"};
  WebSocket socket = co_await connectWebSocket(client, "ws" + url.substr(4) + "/socket", options);
  REQUIRE(socket.subprotocol() == "echo");
  Promise<void> sending = socket.send("hello");
  const WebSocketMessage message = co_await socket.receive();
  REQUIRE(message.text() == "hello");
  co_await std::move(sending);
  co_await socket.close();
  Promise<Result<WebSocket>> refused = connectWebSocket(client, "ws" + url.substr(4) + "/no").asResult();
  const Result<WebSocket> result = co_await std::move(refused);
  REQUIRE(!result);
  REQUIRE(result.error().kind() == Exception::Kind::FAILED);
  for (const char* bad : {"http://a/", "ws://a/#b", "a"}) CHECK_THROWS_AS((void)connectWebSocket(client, bad), Exception);
}

Promise<void> converse(Client& client, std::string url, std::size_t most) {
  for (int i = 0; i < 3; ++i) {
    const std::string text = co_await textOf(client.get(url));
    REQUIRE(text == "200 hello");
  }
  const std::string head = co_await textOf(client.head(url));
  REQUIRE(head == "200 ");
  REQUIRE(client.connections() == 1);

  const std::string small = co_await textOf(client.post(url + "/echo", "text/plain", "small"));
  REQUIRE(small == "200 small");
  const std::string large(500'000, 'x');
  const std::string echo = co_await textOf(client.put(url + "/echo", "text/plain", large));
  REQUIRE(echo == "200 " + large);
  {
    ClientResponse response = co_await client.get(url + "/numbers");
    const std::string text = co_await response.readText(1 << 20);
    REQUIRE(text == numbers(MANY));
    REQUIRE(response.trailers().get("count") == std::to_string(MANY));
  }
  {
    // A stream, side by side with what comes back.
    OneWayPipe pipe = newOneWayPipe();
    ClientRequest request(Method::POST, url + "/echo");
    request.options.emplace().expect = RequestOptions::Expect::CONTINUE;
    request.setBody(std::move(pipe.input));
    Promise<void> sending = sendNumbersAndEnd(std::move(pipe.output), MANY);
    const std::string text = co_await textOf(client.request(std::move(request)));
    REQUIRE(text == "200 " + numbers(MANY));
    co_await std::move(sending);
  }
  REQUIRE(client.connections() == 1);
  {
    ClientRequest request(Method::POST, url + "/moved");
    request.options.emplace().redirects = 1;
    request.setBody("moved");
    const std::string text = co_await textOf(client.request(std::move(request)));
    REQUIRE(text == "200 moved");
  }
  {
    ClientRequest request(Method::PUT, url + "/no");
    request.options.emplace().expect = RequestOptions::Expect::CONTINUE;
    request.setBody(large);
    const std::string text = co_await textOf(client.request(std::move(request)));
    REQUIRE(text == "403 no");
  }
  co_await chat(client, url);
  co_await echoBySocket(client, url);
  std::vector<Promise<std::string>> together;
  for (int i = 0; i < 40; ++i) together.push_back(textOf(client.get(url + "/" + std::to_string(i))));
  const std::vector<std::string> all = co_await joinPromises(std::move(together));
  for (const std::string& each : all) REQUIRE(each == "200 hello");
  REQUIRE(client.connections() == most);
  REQUIRE(client.idleConnections() == most);
}

void run(Network& network, Timer& timer, WaitScope& scope, std::string_view address) {
  Log log;
  const std::unique_ptr<Service> service = newService(answer);
  Server server(*service, timer, log);
  std::unique_ptr<ConnectionReceiver> port = network.parseAddress(address).wait(scope)->listen();
  const std::string url = "http://" + port->toString();
  Promise<void> serving = server.serve(std::move(port));
  ClientSettings settings;
  settings.connectionsPerOrigin = 4;
  Client client(network, timer, settings);
  converse(client, url, 4).wait(scope);
  // The server closes what is idle, and the client hears of it.
  CHECK(server.drain(std::chrono::seconds(1)).wait(scope) == 0);
  for (int i = 0; i < 10'000 && client.connections() > 0; ++i) scope.poll();
  CHECK(client.connections() == 0);
}

// What one side does not wait for any more must not hold the other up.
Promise<void> shakeHandsAndTalk() {
  ManualTimer timer;
  MemoryNetwork network(timer);
  struct : TaskSet::ErrorHandler {
    void taskFailed(Exception) override {}
  } errors;
  const std::unique_ptr<Service> service = newService(answer);
  Server server(*service, timer, errors);
  std::unique_ptr<NetworkAddress> address = co_await network.parseAddress("10.0.0.1:80");
  Promise<void> serving = server.serve(address->listen()).eagerlyEvaluate(nullptr);
  Client client(network, timer);
  {
    WebSocketClientOptions options;
    options.subprotocols = {"echo"};
    WebSocket socket = co_await connectWebSocket(client, "ws://10.0.0.1/socket", options);
    co_await socket.send("hello");
    const WebSocketMessage message = co_await socket.receive();
    CHECK(message.text() == "hello");
    const WebSocketMessage end = co_await socket.receive();
    CHECK(end.isClose());
    co_await socket.close();
  }
  Promise<Result<WebSocket>> refused = connectWebSocket(client, "ws://10.0.0.1/no").asResult();
  const Result<WebSocket> result = co_await std::move(refused);
  CHECK(!result);
}

TEST_CASE("the handshake of a WebSocket, and what follows it, may be cancelled at every step, on both sides") {
  const std::function<Promise<void>(LoopTest&)> body = [](LoopTest&) { return shakeHandsAndTalk(); };
  CHECK(cancelSweep(body) > 20);
}

} // namespace

TEST_CASE_FIXTURE(LoopTest, "client and server understand each other in memory") {
  ManualTimer timer;
  MemoryNetwork network(timer);
  SUBCASE("whole") {}
  SUBCASE("a few bytes at a time") { network.shortReads("10.0.0.1:80", 1000); }
  run(network, timer, scope, "10.0.0.1:80");
}

TEST_CASE_FIXTURE(IoTest, "client and server understand each other over sockets") {
  const auto network = newNetwork(io);
  run(*network, io.timer(), scope, "127.0.0.1:0");
}

// A server whose first response is longer than it says: what is too much looks like the next one.
static Promise<void> sayTooMuch(ConnectionReceiver& port, int& connections) {
  std::vector<std::unique_ptr<AsyncIoStream>> all;
  for (;; ++connections) {
    all.push_back(co_await port.accept());
    std::string head = co_await all.back()->readAllText(0).catch_([](const Exception&) { return std::string(); });
    if (connections == 0) {
      co_await all.back()->write("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n");
      co_await all.back()->write(std::string(100'000, 'x') + "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison");
    } else {
      co_await all.back()->write("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nright");
    }
  }
}

TEST_CASE_FIXTURE(IoTest, "what a server says behind its response is no answer to the request that follows at once") {
  const auto network = newNetwork(io);
  const std::unique_ptr<ConnectionReceiver> port = network->parseAddress("127.0.0.1:0").wait(scope)->listen();
  int connections = 0;
  Promise<void> serving = sayTooMuch(*port, connections).eagerlyEvaluate(nullptr);
  Client client(*network, io.timer());
  const std::string url = "http://" + port->toString();
  const std::string first = textOf(client.get(url)).wait(scope);
  CHECK(first.size() == 100'004);
  CHECK(textOf(client.get(url)).wait(scope) == "200 right");
}
