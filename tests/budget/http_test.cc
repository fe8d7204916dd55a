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
#include <vector>

#ifdef __GLIBC__
#include <malloc.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>
#endif

namespace troth::budget {
namespace {

using namespace troth::http;

constexpr std::string_view GREETING = "Hello, world!";
const std::string GET = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

struct Silent : TaskSet::ErrorHandler {
  void taskFailed(Exception) override {}
};

// What the benchmarks' server does; at /left a WebSocket outlives its handler.
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
      if (!socket) co_return;
      if (path == "/ws") co_await echo(*std::move(socket));
      else left.add(echo(*std::move(socket)));
    }
  }

  static Promise<void> echo(WebSocket given) {
    WebSocket socket = std::move(given);
    for (;;) {
      const WebSocketMessage message = co_await socket.receive();
      if (message.isClose()) co_return;
      co_await socket.send(message.text());
    }
  }

  Silent errors;
  TaskSet left{errors};
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

#ifdef __GLIBC__

std::string webSocketRequest(std::string_view path) {
  return "GET " + std::string(path) + " HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
         "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
}
// "Hello", masked with 0, as a text.
constexpr std::string_view HELLO("\x81\x85\0\0\0\0Hello", 11);

// Clients that are descriptors of the system and hold no heap: what is in use is the server's.
class Crowd {
public:
  explicit Crowd(Served& server) : served(server) {}
  ~Crowd() {
    for (int fd : sockets) ::close(fd);
  }

  // Each says this and is answered.
  void join(std::initializer_list<std::string_view> says, int count) {
    for (int i = 0; i < count; ++i) {
      const int fd = connect();
      for (std::string_view text : says) {
        REQUIRE(::send(fd, text.data(), text.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(text.size()));
        const std::string_view end = text == HELLO ? "Hello" : text == GET ? GREETING : "\r\n\r\n";
        std::string got;
        for (int turns = 0; !got.ends_with(end) && turns < 1000; ++turns) {
          served.scope.poll();
          char bytes[1024];
          if (const ssize_t size = ::recv(fd, bytes, sizeof bytes, MSG_DONTWAIT); size > 0) got.append(bytes, static_cast<std::size_t>(size));
        }
        REQUIRE(got.ends_with(end));
      }
    }
  }

  // What the server holds for each of many more.
  double bytesEach(std::initializer_list<std::string_view> says) {
    constexpr int FEW = 40, MANY = 200;
    join(says, FEW); // tables and pools are as they will stay
    troth::detail::trimPool();
    const std::size_t before = ::mallinfo2().uordblks;
    join(says, MANY);
    troth::detail::trimPool();
    return (static_cast<double>(::mallinfo2().uordblks) - static_cast<double>(before)) / MANY;
  }

private:
  Served& served;
  std::vector<int> sockets;

  int connect() {
    const std::string port = served.address.substr(served.address.rfind(':') + 1);
    const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    REQUIRE(fd >= 0);
    sockets.push_back(fd);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<std::uint16_t>(std::stoi(port)));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    REQUIRE(::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
    return fd;
  }
};

TEST_CASE("an idle connection holds little: after a request, as a WebSocket, and as one whose handler stays, whatever came before") {
  Served served;
  Crowd crowd(served);
  const double http = crowd.bytesEach({GET});
  CHECK_MESSAGE(http <= 1050, http);
  const double left = crowd.bytesEach({webSocketRequest("/left"), HELLO});
  CHECK_MESSAGE(left <= 2048, left);
  const double handled = crowd.bytesEach({webSocketRequest("/ws"), HELLO});
  CHECK_MESSAGE(handled <= 3700, handled);
  const double later = crowd.bytesEach({GET, webSocketRequest("/ws"), HELLO});
  CHECK_MESSAGE(later <= 3700, later);
}

#endif

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
