// SPDX-License-Identifier: MIT
// From a request to a WebSocket, on the server and on a connection in memory; the stream between the two.
#include <fixtures.h>

#include <troth/io/pipe.h>
#include <troth/io/testing.h>
#include <troth/net/http/server.h>
#include <troth/net/http/upgraded_stream_detail.h>
#include <troth/net/http/websocket_frame_detail.h>
#include <troth/net/http/websocket_server.h>
#include <troth/timers/manual_timer.h>

#include <cstring>
#include <string>

using namespace troth;
using namespace troth::http;
using namespace troth::test;

namespace {

struct NoErrors : TaskSet::ErrorHandler {
  void taskFailed(Exception e) override { FAIL_CHECK(e.what()); }
};

Promise<void> echoOnce(Request& request, Response& response) {
  WebSocketServerOptions options;
  options.subprotocols = {"chat"};
  std::optional<WebSocket> socket = co_await acceptWebSocket(request, response, options);
  if (!socket) co_return;
  const WebSocketMessage message = co_await socket->receive();
  co_await socket->send(message.text());
  const WebSocketMessage end = co_await socket->receive();
  CHECK(end.isClose());
  CHECK(request.target() == "/chat"); // as long as the handler runs
  CHECK(request.headers().get(HeaderId::UPGRADE) == "websocket");
}

/// A server with one connection, whose other end is raw.
struct Served : LoopTest {
  ManualTimer timer;
  NoErrors errors;
  std::unique_ptr<Service> service = newService(echoOnce);
  Server server{*service, timer, errors};
  TwoWayPipe pipe = newTwoWayPipe();

  Served() { server.serveConnection(std::move(pipe.ends[0])); }

  /// What is answered to `bytes`.
  std::string ask(const std::string& bytes) {
    Promise<void> writing = pipe.ends[1]->write(bytes);
    std::string all;
    for (;;) {
      Promise<Chunk> reading = pipe.ends[1]->tryReadChunk();
      if (!reading.poll(scope)) return all;
      const Chunk chunk = std::move(reading).wait(scope);
      if (chunk.empty()) return all;
      all += chunk.text();
    }
  }
};

std::string masked(http::detail::WebSocketOpcode opcode, std::string payload) {
  constexpr http::detail::WebSocketMask MASK{std::byte{1}, std::byte{2}, std::byte{3}, std::byte{4}};
  http::detail::applyMask(std::as_writable_bytes(std::span(payload)), MASK);
  std::array<std::byte, http::detail::LONGEST_FRAME_HEADER> header;
  const std::size_t size = http::detail::writeFrameHeader(header, {opcode, true, false, MASK, payload.size()});
  return std::string(reinterpret_cast<const char*>(header.data()), size) + payload;
}

constexpr std::string_view HEAD = "GET /chat HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                                  "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
                                  "Sec-WebSocket-Protocol: chat\r\n\r\n";

TEST_CASE_FIXTURE(Served, "a request becomes a WebSocket, whose first frame may come along with it") {
  const std::string answer = ask(std::string(HEAD) + masked(http::detail::WebSocketOpcode::TEXT, "too early"));
  CHECK(answer.starts_with("HTTP/1.1 101 "));
  CHECK(contains(answer, "\r\nUpgrade: websocket\r\n"));
  CHECK(contains(answer, "\r\nConnection: Upgrade\r\n"));
  CHECK(contains(answer, "\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"));
  CHECK(contains(answer, "\r\nSec-WebSocket-Protocol: chat\r\n"));
  CHECK(answer.ends_with("\r\n\r\n\x81\x09too early"));
  CHECK(ask(masked(http::detail::WebSocketOpcode::CLOSE, "\x03\xe8")) == "\x88\x02\x03\xe8");
}

TEST_CASE_FIXTURE(LoopTest, "who has spoken is not asked whether it is there, and whatever it says is an answer to a ping") {
  using namespace std::chrono_literals;
  ManualTimer timer;
  WebSocketOptions options;
  options.timer = &timer;
  options.pingInterval = 30s;
  options.pingTimeout = 10s;
  TwoWayPipe pipe = newTwoWayPipe();
  WebSocket socket(std::move(pipe.ends[0]), WebSocket::Role::SERVER, {}, options);
  AsyncIoStream& peer = *pipe.ends[1];
  const std::string text = masked(http::detail::WebSocketOpcode::TEXT, "here");
  Promise<WebSocketMessage> receiving = socket.receive();
  const auto speak = [&] {
    CHECK(!receiving.poll(scope));
    peer.write(text).wait(scope);
    CHECK(std::move(receiving).wait(scope).text() == "here");
    receiving = socket.receive();
  };
  Promise<Chunk> asked = peer.tryReadChunk();
  timer.advanceBy(29s);
  speak();
  timer.advanceBy(1s);
  CHECK(!asked.poll(scope)); // it has spoken
  timer.advanceBy(30s);
  REQUIRE(asked.poll(scope));
  CHECK(std::move(asked).wait(scope).text().substr(0, 2) == "\x89\x08");
  timer.advanceBy(9s);
  speak();
  timer.advanceBy(1s);
  CHECK(!receiving.poll(scope)); // no pong, but a sign of life
}

TEST_CASE_FIXTURE(Served, "a request that must not become one is answered, and the connection goes on with HTTP") {
  auto without = [](std::string_view line) {
    std::string head(HEAD);
    return head.erase(head.find(line), head.find("\r\n", head.find(line)) + 2 - head.find(line));
  };
  const std::string noKey = ask(without("Sec-WebSocket-Key"));
  CHECK(noKey.starts_with("HTTP/1.1 400 "));
  CHECK(noKey.ends_with("\r\n\r\nWebSocket: no Sec-WebSocket-Key where the base64 of 16 bytes was expected\n"));
  const std::string noVersion = ask(without("Sec-WebSocket-Version"));
  CHECK(noVersion.starts_with("HTTP/1.1 426 "));
  CHECK(contains(noVersion, "\r\nSec-WebSocket-Version: 13\r\n"));
  CHECK(contains(noVersion, "\r\nUpgrade: websocket\r\n"));
  std::string post(HEAD);
  post.replace(0, 3, "POST");
  CHECK(ask(post).starts_with("HTTP/1.1 405 "));
  std::string old(HEAD);
  old.replace(old.find("HTTP/1.1"), 8, "HTTP/1.0");
  CHECK(ask(old).starts_with("HTTP/1.1 400 "));
}

/// A stream behind a head that goes out three bytes a turn, and whose peer expects it, `behind` and the end.
struct Upgraded {
  ScriptedStream script;
  std::unique_ptr<AsyncIoStream> stream;

  explicit Upgraded(std::string_view behind) {
    script.shortWrites(3).expectWrite("the head, ").expectWrite(behind).expectShutdown();
    stream = http::detail::newUpgradedStream(newShortIoStream(script, SIZE_MAX), Chunk::copyOf(asBytes("early")), "the head, ",
                                             std::source_location::current());
  }
};

TEST_CASE_FIXTURE(LoopTest, "the head of an upgraded connection goes out whoever is cancelled that was to write behind it") {
  for (std::size_t turns = 0; turns < 4; ++turns) { // the head takes four
    CAPTURE(turns);
    Upgraded upgraded("second");
    {
      Promise<void> cancelled = upgraded.stream->write("first").eagerlyEvaluate(nullptr);
      CHECK(contains(thrownBy([&] { (void)upgraded.stream->write("another"); }).description(), "write"));
      for (std::size_t i = 0; i < turns; ++i) loop.run(1);
    }
    SUBCASE("by another write") {
      upgraded.stream->write("second").wait(scope);
      upgraded.stream->shutdownWrite();
    }
    SUBCASE("by a pump") {
      TwoWayPipe pipe = newTwoWayPipe();
      Promise<std::uint64_t> pumping = pipe.ends[0]->pumpTo(*upgraded.stream, 6);
      pipe.ends[1]->write("second").wait(scope);
      CHECK(std::move(pumping).wait(scope) == 6);
      upgraded.stream->shutdownWrite();
    }
    SUBCASE("by a write that the end follows at once") {
      Promise<void> second = upgraded.stream->write("second").eagerlyEvaluate(nullptr);
      CHECK(contains(thrownBy([&] { upgraded.stream->shutdownWrite(); }).description(), "shutdownWrite"));
      std::move(second).wait(scope);
      upgraded.stream->shutdownWrite();
    }
    CHECK(upgraded.stream->tryReadChunk().wait(scope).text() == "early");
    upgraded.script.checkFinished();
  }
  Upgraded silent("");
  silent.stream->shutdownWrite(); // behind the head as well
  { Promise<void> cancelled = silent.stream->tryReadChunk().ignoreResult(); }
  loop.run();
  CHECK(contains(failureOf(silent.stream->write("late"), scope).description(), "shut down"));
  silent.script.checkFinished();
}

/// A stream that takes each write but the first.
struct FirstFails final : AsyncIoStream {
  explicit FirstFails(std::size_t& count, bool failsAtOnce = false) : writes(count), atOnce(failsAtOnce) {}
  Promise<std::size_t> tryRead(std::span<std::byte>, std::size_t, std::source_location) override { return NEVER_DONE; }
  Promise<void> write(std::span<const std::byte>, std::source_location) override {
    if (++writes > 1) return READY_NOW;
    const Exception failure(Exception::Kind::OVERLOADED, "no memory for the head");
    if (atOnce) return failure;
    return evalLater([failure] { throw Exception(failure); });
  }
  Promise<void> write(std::span<const std::span<const std::byte>>, std::source_location where) override {
    return write(std::span<const std::byte>(), where);
  }
  void shutdownWrite(std::source_location) override {}
  void abortRead(std::source_location) override {}
  std::size_t& writes;
  bool atOnce;
};

TEST_CASE_FIXTURE(LoopTest, "when the head cannot be written, each write behind it says why") {
  for (bool atOnce : {false, true}) {
    std::size_t writes = 0;
    auto headless = http::detail::newUpgradedStream(std::make_unique<FirstFails>(writes, atOnce), Chunk(), "the head", std::source_location::current());
    for (int i = 0; i < 3; ++i) CHECK(contains(failureOf(headless->write("first"), scope).description(), "no memory for the head"));
    CHECK(writes == 1);
  }

  ScriptedStream script;
  script.shortWrites(3).failWriteAt(4, Exception(Exception::Kind::DISCONNECTED, "the peer went")).expectWrite("the head");
  auto stream = http::detail::newUpgradedStream(newShortIoStream(script, SIZE_MAX), Chunk(), "the head", std::source_location::current());
  Promise<void> waiting = stream->write("first");
  { Promise<void> cancelled = std::move(waiting); }
  for (int i = 0; i < 2; ++i) CHECK(contains(failureOf(stream->write("second"), scope).description(), "the peer went"));
  Upgraded gone("");
  Promise<void> pending = gone.stream->write("first");
  gone.stream.reset();
  CHECK(failureOf(std::move(pending), scope).kind() == Exception::Kind::DISCONNECTED);
}

TEST_CASE_FIXTURE(LoopTest, "a connection whose head has gone at once, and of which nothing was read too far, is as it was") {
  std::size_t writes = 1;
  auto connection = std::make_unique<FirstFails>(writes);
  const AsyncIoStream* const before = connection.get();
  const auto after = http::detail::newUpgradedStream(std::move(connection), Chunk(), "the head", std::source_location::current());
  CHECK(after.get() == before);
  CHECK(writes == 2);
}

TEST_CASE("writing behind the head of an upgraded connection may be cancelled at every step") {
  const std::function<Promise<void>(LoopTest&)> body = [](LoopTest&) {
    auto talk = coCapture([]() -> Promise<void> {
      Upgraded upgraded("first, second");
      co_await upgraded.stream->write("first, ");
      co_await upgraded.stream->write("second");
      upgraded.stream->shutdownWrite();
      const Chunk chunk = co_await upgraded.stream->tryReadChunk();
      CHECK(chunk.text() == "early");
      upgraded.script.checkFinished();
    });
    return talk();
  };
  CHECK(cancelSweep(body) > 8);
}

} // namespace
