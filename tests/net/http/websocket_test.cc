// SPDX-License-Identifier: MIT
// WebSocket on streams in memory: exchange, control frames, faults, closing, cancellation, time-outs.
#include "../../runtime/helpers.h"

#include <fixtures.h>

#include <troth/io/pipe.h>
#include <troth/io/testing.h>
#include <troth/net/http/websocket.h>
#include <troth/net/http/websocket_deflate_detail.h>
#include <troth/net/http/websocket_frame_detail.h>
#include <troth/runtime/join.h>
#include <troth/runtime/pool_detail.h>
#include <troth/timers/manual_timer.h>
#include <troth/timers/random.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

using namespace troth;
using namespace troth::http;
using namespace troth::test;
using namespace std::chrono_literals;
using http::detail::WebSocketMask;
using http::detail::WebSocketOpcode;
using Code = WebSocketCloseCode;
using Role = WebSocket::Role;

namespace {

constexpr WebSocketMask MASK{std::byte{1}, std::byte{2}, std::byte{3}, std::byte{4}};

/// A frame as a server sends it, or, with a mask, a client.
std::string frame(WebSocketOpcode opcode, std::string payload, std::optional<WebSocketMask> mask = std::nullopt, bool final = true) {
  if (mask) http::detail::applyMask(std::as_writable_bytes(std::span(payload)), *mask);
  std::array<std::byte, http::detail::LONGEST_FRAME_HEADER> header;
  const std::size_t size = http::detail::writeFrameHeader(header, {opcode, final, false, mask, payload.size()});
  return std::string(reinterpret_cast<const char*>(header.data()), size) + payload;
}

std::string closePayload(unsigned code, std::string_view reason = {}) {
  std::string payload{static_cast<char>(code >> 8), static_cast<char>(code & 0xff)};
  return payload.append(reason);
}

std::string closeFrame(unsigned code, std::string_view reason = {}, std::optional<WebSocketMask> mask = std::nullopt) {
  return frame(WebSocketOpcode::CLOSE, closePayload(code, reason), mask);
}

/// A message in a form to compare.
std::string shown(const WebSocketMessage& message) {
  if (message.isClose()) return "close " + std::to_string(static_cast<int>(message.closeCode())) + " " + std::string(message.text());
  return (message.isText() ? "text " : "binary ") + std::string(message.text());
}

/// A port that counts how often the loop has looked for I/O.
struct CountingPort final : EventPort {
  std::size_t polls = 0;
  bool wait() override { return false; }
  void poll() override { ++polls; }
  void wake() const override {}
};

struct Pair {
  WebSocket server;
  WebSocket client;
};

Pair makePair(const WebSocketAgreement& agreement = {}, const WebSocketOptions& options = {}) {
  TwoWayPipe pipe = newTwoWayPipe();
  return {WebSocket(std::move(pipe.ends[0]), Role::SERVER, agreement, options),
          WebSocket(std::move(pipe.ends[1]), Role::CLIENT, agreement, options)};
}

/// A WebSocket, and the other end as raw bytes.
struct Raw {
  WebSocket socket;
  std::unique_ptr<AsyncIoStream> peer;
};

Raw makeRaw(Role role = Role::CLIENT, const WebSocketOptions& options = {}) {
  TwoWayPipe pipe = newTwoWayPipe();
  return {WebSocket(std::move(pipe.ends[0]), role, {}, options), std::move(pipe.ends[1])};
}

/// The peer sends this.
Promise<void> tell(Raw& raw, std::string bytes) {
  auto kept = std::make_unique<std::string>(std::move(bytes));
  Promise<void> writing = raw.peer->write(*kept);
  return std::move(writing).attach(std::move(kept));
}

/// All that the peer has been sent.
std::string heard(Raw& raw, WaitScope& scope) {
  std::string all;
  for (;;) {
    Promise<Chunk> reading = raw.peer->tryReadChunk();
    if (!reading.poll(scope)) return all;
    const Chunk chunk = std::move(reading).wait(scope);
    if (chunk.empty()) return all;
    all += chunk.text();
  }
}

Promise<void> readInto(AsyncInputStream& stream, std::string& all) {
  for (;;) {
    const Chunk chunk = co_await stream.tryReadChunk();
    if (chunk.empty()) co_return;
    all += chunk.text();
  }
}

std::string readSome(AsyncIoStream& stream, WaitScope& scope) {
  Promise<Chunk> reading = stream.tryReadChunk();
  REQUIRE(reading.poll(scope));
  return std::string(std::move(reading).wait(scope).text());
}

/// Takes the mask off the first frame, whose payload has less than 126 bytes.
std::string unmasked(std::string bytes) {
  REQUIRE(bytes.size() >= 6);
  REQUIRE((static_cast<unsigned char>(bytes[1]) & 0x80) != 0);
  WebSocketMask mask;
  std::memcpy(mask.data(), bytes.data() + 2, 4);
  bytes[1] = static_cast<char>(bytes[1] & 0x7f);
  bytes.erase(2, 4);
  http::detail::applyMask(std::as_writable_bytes(std::span(bytes)).subspan(2), mask);
  return bytes;
}

Promise<void> echo(WebSocket& socket) {
  for (;;) {
    WebSocketMessage message = co_await socket.receive();
    if (message.isClose()) co_return;
    if (message.isText()) {
      co_await socket.send(message.text());
    } else {
      co_await socket.send(message.bytes());
    }
  }
}

/// Sends messages of many sizes and expects them back; then closes.
Promise<void> exchange(WebSocket& socket) {
  for (std::size_t size : {0u, 1u, 125u, 126u, 1000u, 65535u, 65536u, 70'000u, 200'000u}) {
    std::string payload;
    for (std::size_t i = 0; i < size; ++i) payload.push_back(static_cast<char>('a' + i * i % 23));
    co_await socket.send(payload);
    const WebSocketMessage text = co_await socket.receive();
    CHECK((text.isText() && text.text() == payload));
    payload.append("\xff");
    co_await socket.send(asBytes(payload));
    const WebSocketMessage binary = co_await socket.receive();
    CHECK((binary.isBinary() && binary.text() == payload));
  }
  co_await socket.close();
}

Promise<void> conversation(WebSocket& server, WebSocket& client) {
  Promise<void> echoing = echo(server);
  co_await exchange(client);
  co_await std::move(echoing);
}

TEST_CASE_FIXTURE(LoopTest, "messages of all sizes go both ways, plain, compressed, and a few bytes at a time") {
  SUBCASE("plain") {
    Pair pair = makePair();
    conversation(pair.server, pair.client).wait(scope);
    Pair turned = makePair();
    conversation(turned.client, turned.server).wait(scope);
  }
#ifdef TROTH_HAS_ZLIB
  SUBCASE("compressed") {
    WebSocketAgreement agreement;
    agreement.deflate.emplace();
    Pair pair = makePair(agreement);
    conversation(pair.server, pair.client).wait(scope);
  }
#endif
  SUBCASE("17 bytes at a time") {
    TwoWayPipe pipe = newTwoWayPipe();
    WebSocket server(newShortIoStream(*pipe.ends[0], 17), Role::SERVER);
    WebSocket client(newShortIoStream(*pipe.ends[1], 17), Role::CLIENT);
    conversation(server, client).wait(scope);
  }
}

TEST_CASE_FIXTURE(LoopTest, "a server sends a message as one unmasked frame in one write, and answers to pings in front") {
  ScriptedStream stream;
  WebSocket socket(newShortIoStream(stream, SIZE_MAX), Role::SERVER);
  stream.expectWrite(frame(WebSocketOpcode::TEXT, "hello")).giveRead(frame(WebSocketOpcode::PING, "a", MASK) + frame(WebSocketOpcode::PING, "b", MASK))
      .expectWrite(frame(WebSocketOpcode::PONG, "a") + frame(WebSocketOpcode::PONG, "b"))
      .giveRead(closeFrame(4000, "enough", MASK)).expectWrite(closeFrame(4000)).expectShutdown();
  socket.send("hello").wait(scope);
  const WebSocketMessage message = socket.receive().wait(scope);
  CHECK(shown(message) == "close 4000 enough");
  loop.run();
  stream.checkFinished();
}

TEST_CASE_FIXTURE(LoopTest, "a client masks each frame with another mask") {
  Raw raw = makeRaw();
  std::vector<std::string> masks;
  for (int i = 0; i < 3; ++i) {
    Promise<void> sending = raw.socket.send("hello");
    const std::string bytes = heard(raw, scope);
    CHECK(unmasked(bytes) == frame(WebSocketOpcode::TEXT, "hello"));
    masks.push_back(bytes.substr(2, 4));
    std::move(sending).wait(scope);
  }
  CHECK((masks[0] != masks[1] || masks[1] != masks[2]));
}

TEST_CASE_FIXTURE(LoopTest, "a receive that is destroyed loses nothing, whether it was pending or ready") {
  ScriptedStream stream;
  WebSocket socket(newShortIoStream(stream, 1), Role::CLIENT);
  for (std::string word : {"one", "two", "three"}) stream.giveRead(frame(WebSocketOpcode::TEXT, word));
  stream.giveRead(closeFrame(1000));
  for (std::string expected : {"text one", "text two", "text three", "close 1000 "}) {
    for (std::size_t turns = 1; turns < 6; ++turns) {
      Promise<WebSocketMessage> destroyed = socket.receive();
      for (std::size_t i = 0; i < turns; ++i) loop.run(1);
    }
    {
      Promise<WebSocketMessage> ready = socket.receive();
      REQUIRE(ready.poll(scope));
    }
    CHECK(shown(socket.receive().wait(scope)) == expected);
  }
  const Exception over = failureOf(socket.receive(), scope);
  CHECK(over.kind() == Exception::Kind::DISCONNECTED);
  CHECK(over.code() == Code::NORMAL);
}

TEST_CASE_FIXTURE(LoopTest, "a send that waits for its turn may be cancelled, and one that has begun says so later") {
  Raw raw = makeRaw(Role::SERVER);
  Promise<WebSocketMessage> receiving = raw.socket.receive();
  Promise<void> pinging = tell(raw, frame(WebSocketOpcode::PING, "x", MASK));
  CHECK(pinging.poll(scope)); // the answer waits for the peer to read
  {
    Promise<void> waiting = raw.socket.send("never");
    CHECK(!waiting.poll(scope));
  }
  CHECK(readSome(*raw.peer, scope) == frame(WebSocketOpcode::PONG, "x"));
  Promise<void> asking = raw.socket.ping();
  CHECK(readSome(*raw.peer, scope).size() == 10);
  {
    Promise<void> sending = raw.socket.send("a message");
    CHECK(!sending.poll(scope));
    std::byte first;
    CHECK(raw.peer->tryRead({&first, 1}).wait(scope) == 1);
    CHECK(!sending.poll(scope));
  }
  CHECK(contains(failureOf(std::move(asking), scope).description(), "partly written"));
  const Exception e = failureOf(raw.socket.send("another"), scope);
  CHECK(e.kind() == Exception::Kind::FAILED);
  CHECK(contains(e.description(), "ended while its message was partly written"));
  CHECK(contains(failureOf(raw.socket.ping(), scope).description(), "partly written"));
  Promise<void> speaking = tell(raw, frame(WebSocketOpcode::TEXT, "still heard", MASK));
  CHECK(shown(std::move(receiving).wait(scope)) == "text still heard");
  CHECK(contains(failureOf(raw.socket.close(), scope).description(), "partly written"));
  raw.socket.abort();
}

TEST_CASE_FIXTURE(LoopTest, "pings are answered in their order, and a flood of them by a bounded number of pongs") {
  Raw raw = makeRaw();
  Promise<WebSocketMessage> receiving = raw.socket.receive();
  std::string pings, pongs;
  for (char c = '0'; c <= '9'; ++c) pings += frame(WebSocketOpcode::PING, {c});
  tell(raw, pings).wait(scope);
  std::string answers = readSome(*raw.peer, scope);
  for (char c = '0'; c <= '9'; ++c) {
    CHECK(unmasked(answers.substr(0, 7)) == frame(WebSocketOpcode::PONG, {c}));
    answers.erase(0, 7);
  }
  CHECK(answers.empty());

  std::string flood;
  const std::string ping = frame(WebSocketOpcode::PING, "");
  for (int i = 0; i < 1'000'000; ++i) flood += ping;
  flood += frame(WebSocketOpcode::PING, "last") + frame(WebSocketOpcode::TEXT, "after the flood");
  Promise<void> flooding = tell(raw, flood);
  CHECK(shown(std::move(receiving).wait(scope)) == "text after the flood");
  std::move(flooding).wait(scope);
  Promise<void> closing = raw.socket.close();
  const std::string all = heard(raw, scope);
  CHECK(all.size() < 64 * 6 + 20);
  REQUIRE(all.size() > 18);
  CHECK(unmasked(all.substr(all.size() - 18, 10)) == frame(WebSocketOpcode::PONG, "last"));
  CHECK(unmasked(all.substr(all.size() - 8)) == closeFrame(1000));
}

TEST_CASE_FIXTURE(LoopTest, "so many answers to pings wait while the peer does not read, and the last one is to the last ping") {
  WebSocketOptions options;
  options.maxQueuedPongs = 2;
  Raw raw = makeRaw(Role::SERVER, options);
  Promise<WebSocketMessage> receiving = raw.socket.receive();
  auto ping = [](const char* payload) { return frame(WebSocketOpcode::PING, payload, MASK); };
  auto pong = [](const char* payload) { return frame(WebSocketOpcode::PONG, payload); };
  for (int round = 0; round < 3; ++round) { // the first is being written, and two wait
    for (const std::string& pings : {ping("1"), ping("22") + ping("333") + ping("4444"), ping("5")}) {
      tell(raw, pings).wait(scope);
      CHECK(!receiving.poll(scope));
    }
    CHECK(heard(raw, scope) == pong("1") + pong("22") + pong("5"));
  }
}

TEST_CASE_FIXTURE(LoopTest, "what the peer does wrong is answered by a close frame with its code, and is the error of each receive") {
  struct Case {
    std::string bytes;
    Code code;
    std::string_view text;
  };
  const Case cases[] = {
      {frame(WebSocketOpcode::TEXT, "not masked"), Code::PROTOCOL_ERROR, "not masked"},
      {"\xf1", Code::PROTOCOL_ERROR, "reserved bits"},
      {frame(WebSocketOpcode::TEXT, "\xff", MASK), Code::INVALID_DATA, "not UTF-8"},
      {frame(WebSocketOpcode::TEXT, "12345678901", MASK), Code::MESSAGE_TOO_BIG, "too big"},
      {closeFrame(1005, "", MASK), Code::PROTOCOL_ERROR, "must not be sent"},
  };
  WebSocketOptions options;
  options.maxMessageSize = 10;
  for (const Case& c : cases) {
    Raw raw = makeRaw(Role::SERVER, options);
    Promise<void> writing = tell(raw, frame(WebSocketOpcode::TEXT, "good", MASK) + c.bytes);
    CHECK(shown(raw.socket.receive().wait(scope)) == "text good");
    for (int i = 0; i < 2; ++i) {
      const Exception e = failureOf(raw.socket.receive(), scope);
      CHECK(e.kind() == Exception::Kind::FAILED);
      CHECK(e.code() == c.code);
      CHECK_MESSAGE(contains(e.description(), c.text), e.description());
    }
    CHECK(failureOf(raw.socket.send("more"), scope).kind() == Exception::Kind::DISCONNECTED);
    const std::string answer = readSome(*raw.peer, scope);
    CHECK(answer.substr(0, 1) == "\x88");
    CHECK(answer.substr(2, 2) == closePayload(static_cast<unsigned>(c.code)));
    CHECK(contains(answer, c.text));
    CHECK(readSome(*raw.peer, scope).empty()); // the end
    Promise<void> closing = raw.socket.close();
    CHECK(!closing.poll(scope));
    tell(raw, "what it said before it had read that").wait(scope);
    raw.peer->shutdownWrite();
    CHECK(failureOf(std::move(closing), scope).code() == c.code);
  }
}

TEST_CASE_FIXTURE(LoopTest, "a connection that ends without a close frame is ABNORMAL, in a message or between") {
  for (bool inside : {false, true}) {
    Raw raw = makeRaw();
    Promise<WebSocketMessage> receiving = raw.socket.receive();
    Promise<void> pinging = raw.socket.ping();
    raw.peer->tryReadChunk().wait(scope);
    if (inside) tell(raw, frame(WebSocketOpcode::TEXT, "half").substr(0, 3)).wait(scope);
    raw.peer->shutdownWrite();
    const Exception e = failureOf(std::move(receiving), scope);
    CHECK(e.kind() == Exception::Kind::DISCONNECTED);
    CHECK(e.code() == Code::ABNORMAL);
    CHECK(contains(e.description(), inside ? "in the middle of a message" : "without a close frame"));
    CHECK(failureOf(std::move(pinging), scope).code() == Code::ABNORMAL);
    CHECK(failureOf(raw.socket.receive(), scope).code() == Code::ABNORMAL);
  }
}

TEST_CASE_FIXTURE(LoopTest, "close sends a frame, throws away what comes before the peer's, and nothing is sent after it") {
  WebSocketOptions options;
  options.maxMessageSize = 10;
  Raw raw = makeRaw(Role::SERVER, options);
  Promise<void> closing = raw.socket.close(Code::GOING_AWAY, "bye");
  CHECK(!closing.poll(scope));
  CHECK(readSome(*raw.peer, scope) == closeFrame(1001, "bye"));
  CHECK(!raw.peer->tryReadChunk().poll(scope)); // not the end: the peer has not spoken
  CHECK(failureOf(raw.socket.send("late"), scope).kind() == Exception::Kind::DISCONNECTED);
  for (int i = 0; i < 2; ++i) tell(raw, frame(WebSocketOpcode::TEXT, "late too", MASK) + frame(WebSocketOpcode::PING, "?", MASK)).wait(scope);
  Promise<WebSocketMessage> receiving = raw.socket.receive(); // while close() reads
  CHECK(!receiving.poll(scope));
  CHECK(!closing.poll(scope));
  tell(raw, closeFrame(1001, "", MASK)).wait(scope);
  std::move(closing).wait(scope);
  CHECK(shown(std::move(receiving).wait(scope)) == "close 1001 ");
  CHECK(readSome(*raw.peer, scope).empty()); // the server ends the connection, without a pong
  raw.socket.close().wait(scope);            // it is done
  CHECK(failureOf(raw.socket.receive(), scope).code() == Code::GOING_AWAY);
}

TEST_CASE_FIXTURE(LoopTest, "a close is done when its own frame has gone, and fails if it cannot go") {
  for (bool goes : {true, false}) {
    Raw raw = makeRaw(Role::SERVER);
    Promise<void> telling = tell(raw, closeFrame(1000, "", MASK));
    CHECK(shown(raw.socket.receive().wait(scope)) == "close 1000 ");
    Promise<void> closing = raw.socket.close();
    CHECK(!closing.poll(scope)); // nobody reads
    if (goes) {
      CHECK(readSome(*raw.peer, scope) == closeFrame(1000));
      std::move(closing).wait(scope);
    } else {
      raw.peer.reset();
      CHECK(failureOf(std::move(closing), scope).kind() == Exception::Kind::DISCONNECTED);
    }
  }
}

TEST_CASE_FIXTURE(LoopTest, "a receive goes on with reading when the close that did so is cancelled") {
  Raw raw = makeRaw();
  std::optional<Promise<void>> closing = raw.socket.close();
  CHECK(!closing->poll(scope));
  Promise<WebSocketMessage> receiving = raw.socket.receive();
  CHECK(!receiving.poll(scope));
  closing.reset();
  Promise<void> telling = tell(raw, frame(WebSocketOpcode::TEXT, "still here") + closeFrame(1000));
  CHECK(shown(std::move(receiving).wait(scope)) == "text still here");
  CHECK(shown(raw.socket.receive().wait(scope)) == "close 1000 ");
  CHECK(unmasked(heard(raw, scope)) == closeFrame(1000));
}

TEST_CASE_FIXTURE(LoopTest, "a close reads itself once the receive is gone that did so") {
  Raw raw = makeRaw();
  std::optional<Promise<WebSocketMessage>> receiving = raw.socket.receive();
  Promise<void> closing = raw.socket.close();
  CHECK(!closing.poll(scope));
  receiving.reset();
  CHECK(unmasked(readSome(*raw.peer, scope)) == closeFrame(1000));
  tell(raw, frame(WebSocketOpcode::TEXT, "nobody wants it") + closeFrame(1000)).wait(scope);
  std::move(closing).wait(scope);
}

TEST_CASE_FIXTURE(LoopTest, "a close that finds a receive pending lets it have the peer's frame") {
  Raw raw = makeRaw();
  Promise<WebSocketMessage> receiving = raw.socket.receive();
  Promise<void> closing = raw.socket.close(static_cast<Code>(4999));
  CHECK(unmasked(readSome(*raw.peer, scope)) == closeFrame(4999));
  Promise<void> message = tell(raw, frame(WebSocketOpcode::TEXT, "one more"));
  CHECK(shown(std::move(receiving).wait(scope)) == "text one more");
  Promise<WebSocketMessage> second = raw.socket.receive();
  Promise<void> answering = tell(raw, frame(WebSocketOpcode::CLOSE, ""));
  CHECK(closing.poll(scope));
  CHECK(shown(std::move(second).wait(scope)) == "close 1005 ");
}

TEST_CASE_FIXTURE(LoopTest, "a close reads on though nobody takes the message that a receive has found, which is kept") {
  for (bool isTaken : {true, false}) {
    Raw raw = makeRaw(Role::SERVER);
    std::optional<Promise<WebSocketMessage>> found = raw.socket.receive();
    Promise<void> closing = raw.socket.close();
    Promise<void> telling = tell(raw, frame(WebSocketOpcode::TEXT, "found", MASK) + frame(WebSocketOpcode::TEXT, "late", MASK) + closeFrame(1001, "", MASK));
    CHECK(found->poll(scope));
    CHECK(readSome(*raw.peer, scope) == closeFrame(1000));
    std::move(closing).wait(scope);
    if (isTaken) CHECK(shown(std::move(*found).wait(scope)) == "text found");
    found.reset();
    CHECK(shown(raw.socket.receive().wait(scope)) == "close 1001 ");
  }
}

TEST_CASE_FIXTURE(LoopTest, "who takes each message at once gets them all, though a close waits") {
  Raw raw = makeRaw(Role::SERVER);
  const auto readAll = [](WebSocket& socket, std::string& all) -> Promise<void> {
    for (bool isOver = false; !isOver;) {
      const WebSocketMessage message = co_await socket.receive();
      all += shown(message) + "; ";
      isOver = message.isClose();
    }
  };
  std::string all;
  Promise<void> reading = readAll(raw.socket, all).eagerlyEvaluate(nullptr);
  Promise<void> closing = raw.socket.close();
  std::string bytes;
  for (const char* word : {"1", "2", "3"}) bytes += frame(WebSocketOpcode::TEXT, word, MASK);
  tell(raw, bytes).wait(scope);
  tell(raw, frame(WebSocketOpcode::TEXT, "4", MASK)).wait(scope);
  tell(raw, closeFrame(1000, "", MASK)).wait(scope);
  CHECK(readSome(*raw.peer, scope) == closeFrame(1000));
  std::move(closing).wait(scope);
  std::move(reading).wait(scope);
  CHECK(all == "text 1; text 2; text 3; text 4; close 1000 ; ");
}

TEST_CASE_FIXTURE(LoopTest, "after a fault each close waits until the peer has ended the connection") {
  Raw raw = makeRaw(Role::SERVER);
  Promise<void> telling = tell(raw, frame(WebSocketOpcode::TEXT, "not masked"));
  CHECK(failureOf(raw.socket.receive(), scope).code() == Code::PROTOCOL_ERROR);
  std::string all;
  Promise<void> reading = readInto(*raw.peer, all).eagerlyEvaluate(nullptr);
  std::optional<Promise<void>> first = raw.socket.close();
  Promise<void> second = raw.socket.close(), third = raw.socket.close();
  CHECK(!first->poll(scope));
  CHECK(!second.poll(scope));
  CHECK(failureOf(raw.socket.receive(), scope).code() == Code::PROTOCOL_ERROR);
  first.reset();
  CHECK(!second.poll(scope));
  CHECK(!third.poll(scope));
  raw.peer->shutdownWrite();
  for (Promise<void>* close : {&second, &third}) CHECK(failureOf(std::move(*close), scope).code() == Code::PROTOCOL_ERROR);
}

TEST_CASE_FIXTURE(LoopTest, "both sides may close at once, and each echoes the other's code if it has said nothing itself") {
  Pair pair = makePair();
  Promise<void> both = joinPromises(pair.server.close(Code::NORMAL, "s"), pair.client.close(Code::GOING_AWAY, "c")).ignoreResult();
  std::move(both).wait(scope);
  CHECK(shown(pair.server.receive().wait(scope)) == "close 1001 c");
  CHECK(shown(pair.client.receive().wait(scope)) == "close 1000 s");

  Pair second = makePair();
  Promise<void> closing = second.client.close(static_cast<Code>(3456));
  CHECK(shown(second.server.receive().wait(scope)) == "close 3456 ");
  std::move(closing).wait(scope);
  CHECK(shown(second.client.receive().wait(scope)) == "close 3456 ");
  CHECK(failureOf(second.server.send("late"), scope).kind() == Exception::Kind::DISCONNECTED);
}

TEST_CASE_FIXTURE(LoopTest, "a client that has answered a close frame leaves it to the server to end the connection") {
  Raw raw = makeRaw(Role::CLIENT);
  Promise<WebSocketMessage> receiving = raw.socket.receive();
  tell(raw, closeFrame(1000)).wait(scope);
  CHECK(shown(std::move(receiving).wait(scope)) == "close 1000 ");
  CHECK(unmasked(readSome(*raw.peer, scope)) == closeFrame(1000));
  Promise<Chunk> more = raw.peer->tryReadChunk();
  CHECK(!more.poll(scope)); // not its end either
}

TEST_CASE_FIXTURE(LoopTest, "a pong that answers no ping is no sign that one was answered") {
  Raw raw = makeRaw(Role::CLIENT);
  Promise<WebSocketMessage> receiving = raw.socket.receive();
  Promise<void> ping = raw.socket.ping();
  CHECK(!ping.poll(scope));
  CHECK(!receiving.poll(scope));
  const std::string asked = unmasked(readSome(*raw.peer, scope)).substr(2);
  tell(raw, frame(WebSocketOpcode::PONG, asked + "x")).wait(scope);
  tell(raw, frame(WebSocketOpcode::PONG, asked.substr(1))).wait(scope);
  tell(raw, frame(WebSocketOpcode::PONG, std::string(8, '\x7f'))).wait(scope);
  CHECK(!receiving.poll(scope));
  CHECK(!ping.poll(scope));
}

TEST_CASE_FIXTURE(LoopTest, "a close goes out behind the message that is waiting to be sent") {
  Raw raw = makeRaw(Role::SERVER);
  Promise<WebSocketMessage> receiving = raw.socket.receive();
  tell(raw, frame(WebSocketOpcode::PING, "", MASK)).wait(scope);
  CHECK(!receiving.poll(scope)); // the pong is being written
  Promise<void> sending = raw.socket.send("first");
  { Promise<void> cancelled = raw.socket.close(); } // only the waiting is cancelled
  std::string all;
  while (all.size() < 2 + 7 + 4) all += readSome(*raw.peer, scope);
  CHECK(all == frame(WebSocketOpcode::PONG, "") + frame(WebSocketOpcode::TEXT, "first") + closeFrame(1000));
  std::move(sending).wait(scope);
}

TEST_CASE_FIXTURE(LoopTest, "a peer that does not answer a close frame is left after a time") {
  ManualTimer timer;
  WebSocketOptions options;
  options.timer = &timer;
  options.closeTimeout = 5s;
  Raw raw = makeRaw(Role::CLIENT, options);
  Promise<WebSocketMessage> receiving = raw.socket.receive();
  Promise<void> closing = raw.socket.close();
  readSome(*raw.peer, scope);
  timer.advanceBy(4s);
  CHECK(!closing.poll(scope));
  timer.advanceBy(1s);
  const Exception e = failureOf(std::move(closing), scope);
  CHECK(e.kind() == Exception::Kind::OVERLOADED);
  CHECK(contains(e.description(), "close frame"));
  CHECK(contains(failureOf(std::move(receiving), scope).description(), "close frame"));
  CHECK(readSome(*raw.peer, scope).empty());
}

TEST_CASE_FIXTURE(LoopTest, "destroying a WebSocket, or aborting it, rejects what is pending, in any order") {
  for (bool abort : {false, true}) {
    std::optional<Raw> raw = makeRaw(Role::SERVER);
    Promise<WebSocketMessage> receiving = raw->socket.receive();
    Promise<void> sending = raw->socket.send("nobody reads this");
    Promise<void> pinging = raw->socket.ping();
    Promise<void> closing = raw->socket.close();
    CHECK(!receiving.poll(scope));
    if (abort) {
      raw->socket.abort();
      CHECK(sending.poll(scope));
      CHECK(contains(failureOf(raw->socket.send("more"), scope).description(), "abort()"));
      CHECK(contains(failureOf(raw->socket.close(), scope).description(), "abort()"));
      raw->socket.abort();
    } else {
      raw.reset();
    }
    CHECK(failureOf(std::move(receiving), scope).kind() == Exception::Kind::DISCONNECTED);
    CHECK(failureOf(std::move(sending), scope).kind() == Exception::Kind::DISCONNECTED);
    CHECK(failureOf(std::move(pinging), scope).kind() == Exception::Kind::DISCONNECTED);
    const Exception e = failureOf(std::move(closing), scope);
    CHECK(e.kind() == Exception::Kind::DISCONNECTED);
    CHECK(contains(e.description(), abort ? "abort()" : "destroyed"));
  }
}

TEST_CASE_FIXTURE(LoopTest, "abort() aborts the stream, which is more than letting it go") {
  ScriptedStream stream;
  WebSocket socket(newShortIoStream(stream, SIZE_MAX), Role::CLIENT);
  stream.expectAbort();
  socket.abort();
  stream.checkFinished();
}

Promise<void> shortConversation(WebSocketAgreement agreement) {
  Pair pair = makePair(agreement);
  Promise<void> echoing = echo(pair.server);
  Promise<void> pinging = pair.client.ping();
  Promise<WebSocketMessage> answer = pair.client.receive();
  co_await pair.client.send("a question");
  const WebSocketMessage first = co_await std::move(answer);
  CHECK(shown(first) == "text a question");
  co_await pair.client.send("again");
  const WebSocketMessage second = co_await pair.client.receive();
  CHECK(shown(second) == "text again");
  co_await std::move(pinging);
  co_await pair.client.close();
  co_await std::move(echoing);
}

TEST_CASE("an exchange may be cancelled at every step") {
  const std::function<Promise<void>(LoopTest&)> body = [](LoopTest&) {
    WebSocketAgreement agreement;
#ifdef TROTH_HAS_ZLIB
    agreement.deflate.emplace();
    agreement.deflate->smallest = 5;
#endif
    return shortConversation(agreement);
  };
  CHECK(cancelSweep(body) > 10);
}

#ifdef TROTH_HAS_ZLIB

WebSocketAgreement deflated(int level = 1) {
  WebSocketAgreement agreement;
  agreement.deflate.emplace().level = level;
  return agreement;
}

/// Bytes that do not get fewer by compression.
std::string noise(std::size_t size) {
  SeededRandom random(64);
  std::string block(std::min<std::size_t>(size, 256 * 1024), '\0'); // more than the window of the compression
  for (std::size_t i = 0; i + 8 <= block.size(); i += 8) {
    const std::uint64_t word = random.upTo(UINT64_MAX);
    std::memcpy(block.data() + i, &word, sizeof word);
  }
  std::string all;
  while (all.size() < size) all += block;
  return all;
}

/// A stream that remembers how large the largest write was.
struct MeteredStream final : AsyncIoStream {
  MeteredStream(std::unique_ptr<AsyncIoStream> stream, std::size_t& most) : inner(std::move(stream)), largest(most) {}
  Promise<std::size_t> tryRead(std::span<std::byte> buffer, std::size_t minBytes, std::source_location where) override {
    return inner->tryRead(buffer, minBytes, where);
  }
  Promise<void> write(std::span<const std::byte> bytes, std::source_location where) override { return write({&bytes, 1}, where); }
  Promise<void> write(std::span<const std::span<const std::byte>> pieces, std::source_location where) override {
    std::size_t size = 0;
    for (std::span<const std::byte> piece : pieces) size += piece.size();
    largest = std::max(largest, size);
    return inner->write(pieces, where);
  }
  void shutdownWrite(std::source_location where) override { inner->shutdownWrite(where); }
  void abortRead(std::source_location where) override { inner->abortRead(where); }
  std::unique_ptr<AsyncIoStream> inner;
  std::size_t& largest;
};

TEST_CASE("the loop looks for I/O all the while that a large message is compressed or decompressed, and never is it held twice") {
  constexpr std::size_t SIZE = 16 * 1024 * 1024;
  for (bool zeros : {false, true}) {
    CAPTURE(zeros);
    const std::string sent = zeros ? std::string(SIZE, '\0') : noise(SIZE); // zeros come in one chunk of input
    CountingPort port;
    EventLoop loop(port);
    WaitScope scope(loop);
    std::size_t largest = 0;
    TwoWayPipe pipe = newTwoWayPipe();
    const WebSocketAgreement agreement = deflated(zeros ? 6 : 1);
    WebSocket server(std::make_unique<MeteredStream>(std::move(pipe.ends[0]), largest), Role::SERVER, agreement);
    WebSocket client(std::make_unique<MeteredStream>(std::move(pipe.ends[1]), largest), Role::CLIENT, agreement);
    Promise<void> sending = (zeros ? client : server).send(asBytes(sent));
    CHECK(!sending.poll(scope)); // nobody reads yet
    if (zeros) CHECK(port.polls >= SIZE / (32 * 1024) - 1); // for a single frame
    const std::size_t before = port.polls;
    const WebSocketMessage received = (zeros ? server : client).receive().wait(scope);
    CHECK((received.text() == sent));
    CHECK(port.polls - before >= SIZE / (64 * 1024));
    CHECK(sending.poll(scope));
    CHECK(largest >= 1024);
    CHECK(largest <= 128 * 1024);
  }
}

struct SeenFrame {
  unsigned first; // its first byte
  std::string payload;
};

/// A server's frames in `bytes`, which may end in the middle of one.
std::vector<SeenFrame> framesIn(std::string_view bytes) {
  std::vector<SeenFrame> all;
  http::detail::WebSocketHeaderParser parser(http::detail::WebSocketMasking::FORBIDDEN,
                                             http::detail::WebSocketHeaderParser::Compression::NEGOTIATED);
  while (!bytes.empty()) {
    const auto first = static_cast<unsigned char>(bytes.front());
    std::span<const std::byte> rest = asBytes(bytes);
    if (!parser.parse(rest)) break;
    const auto size = static_cast<std::size_t>(std::min<std::uint64_t>(parser.header().length, rest.size()));
    all.push_back({first, std::string(bytes.substr(bytes.size() - rest.size(), size))});
    bytes = bytes.substr(bytes.size() - rest.size() + size);
  }
  return all;
}

TEST_CASE_FIXTURE(LoopTest, "between the frames of a compressed message pings are answered; a close waits for its end") {
  TwoWayPipe pipe = newTwoWayPipe();
  WebSocket socket(std::move(pipe.ends[0]), Role::SERVER, deflated());
  Raw raw{std::move(socket), std::move(pipe.ends[1])};
  const std::string payload = noise(200'000) + std::string(2'000'000, 'x'); // frames, and then steps without one
  Promise<WebSocketMessage> receiving = raw.socket.receive();
  Promise<void> sending = raw.socket.send(asBytes(payload));
  std::string all = readSome(*raw.peer, scope);
  tell(raw, frame(WebSocketOpcode::PING, "1", MASK)).wait(scope);
  for (int i = 0; i < 10; ++i) all += readSome(*raw.peer, scope);
  Promise<void> closing = raw.socket.close();
  tell(raw, frame(WebSocketOpcode::PING, "2", MASK)).wait(scope);
  CHECK(failureOf(raw.socket.ping(), scope).kind() == Exception::Kind::DISCONNECTED);
  all += heard(raw, scope);
  std::move(sending).wait(scope);

  std::string order;
  std::string compressed;
  for (const SeenFrame& seen : framesIn(all)) {
    order += seen.first == 0x42 ? 'B' : seen.first == 0x00 ? 'c' : seen.first == 0x80 ? 'F' : seen.first == 0x88 ? 'X' : 'P';
    if (order.back() == 'B' || order.back() == 'c' || order.back() == 'F') compressed += seen.payload;
    if (order.back() == 'P') CHECK(seen.first == 0x8a);
  }
  CHECK_MESSAGE((order.starts_with("B") && order.ends_with("FX")), order);
  CHECK(order.find('P') < order.find('F')); // and only the one before close()
  CHECK(std::count(order.begin(), order.end(), 'P') == 1);
  CHECK(std::count(order.begin(), order.end(), 'c') >= 4);
  CHECK(std::count(order.begin(), order.end(), 'c') <= 8);
  http::detail::WebSocketInflater inflater({});
  http::detail::PoolString again;
  std::span<const std::byte> rest = asBytes(compressed);
  do REQUIRE(inflater.inflate(rest, SIZE_MAX, nullptr, again) == http::detail::WebSocketFault::NONE);
  while (inflater.hasMore() || !rest.empty());
  REQUIRE(inflater.finish(SIZE_MAX, nullptr, again) == http::detail::WebSocketFault::NONE);
  CHECK((std::string_view(again) == payload));
}

TEST_CASE_FIXTURE(LoopTest, "messages are compressed from a size on") {
  WebSocketAgreement agreement = deflated();
  agreement.deflate->smallest = 5;
  TwoWayPipe pipe = newTwoWayPipe();
  Raw raw{WebSocket(std::move(pipe.ends[0]), Role::SERVER, agreement), std::move(pipe.ends[1])};
  for (const char* text : {"1234", "12345"}) {
    Promise<void> sending = raw.socket.send(text);
    CHECK(heard(raw, scope).front() == (std::strlen(text) < 5 ? '\x81' : '\xc1'));
    std::move(sending).wait(scope);
  }
}

TEST_CASE_FIXTURE(LoopTest, "pings are answered while a message is compressed of which no frame has come yet") {
  TwoWayPipe pipe = newTwoWayPipe();
  Raw raw{WebSocket(std::move(pipe.ends[0]), Role::SERVER, deflated()), std::move(pipe.ends[1])};
  const std::string zeros(2'000'000, '\0');
  Promise<WebSocketMessage> receiving = raw.socket.receive();
  Promise<void> telling = tell(raw, frame(WebSocketOpcode::PING, "?", MASK));
  Promise<void> sending = raw.socket.send(asBytes(zeros));
  const std::vector<SeenFrame> frames = framesIn(heard(raw, scope));
  REQUIRE(frames.size() == 2);
  CHECK((frames[0].first == 0x8a && frames[0].payload == "?"));
  CHECK(frames[1].first == 0xc2); // small enough for one
  std::move(sending).wait(scope);
}

TEST_CASE_FIXTURE(LoopTest, "a ping that came while a frame was written is answered before the next one is compressed; a close waits") {
  TwoWayPipe pipe = newTwoWayPipe();
  Raw raw{WebSocket(std::move(pipe.ends[0]), Role::SERVER, deflated()), std::move(pipe.ends[1])};
  const std::string payload = noise(64 * 1024) + std::string(4'000'000, 'x');
  Promise<WebSocketMessage> receiving = raw.socket.receive();
  Promise<void> sending = raw.socket.send(asBytes(payload));
  CHECK(!sending.poll(scope)); // nobody reads the first frame
  tell(raw, frame(WebSocketOpcode::PING, "?", MASK)).wait(scope);
  CHECK(!receiving.poll(scope));
  Promise<void> closing = raw.socket.close();
  std::string all;
  Promise<void> reading = readInto(*raw.peer, all).eagerlyEvaluate(nullptr);
  for (int turns = 0; turns < 30; ++turns) loop.run(1); // a quarter of the steps
  const std::vector<SeenFrame> frames = framesIn(all);
  CHECK(frames.front().first == 0x42);
  CHECK((frames.back().first == 0x8a && frames.back().payload == "?"));
  std::move(sending).wait(scope);
  CHECK(!closing.poll(scope));
  const std::vector<SeenFrame> more = framesIn(all);
  REQUIRE(more.size() > frames.size() + 1);
  CHECK(more[more.size() - 2].first == 0x80);
  CHECK(more.back().first == 0x88);
}

TEST_CASE("a compressed send that is cancelled was never begun, or says so later; what the peer gets is never wrong") {
  const std::string large = std::string(200'000, 'a') + noise(200'000); // the first frame takes some steps
  bool wasClean = false, wasLost = false;
  for (std::size_t turns = 0;; ++turns) {
    LoopTest test;
    Pair pair = makePair(deflated());
    Promise<void> first = pair.server.send(std::string(500, 'b'));
    CHECK(pair.client.receive().wait(test.scope).text().size() == 500);
    Promise<WebSocketMessage> receiving = pair.client.receive();
    bool isSent = false;
    {
      Promise<void> sending = pair.server.send(asBytes(large)).then([&] { isSent = true; }).eagerlyEvaluate(nullptr);
      for (std::size_t i = 0; i < turns; ++i) test.loop.run(1);
    }
    if (isSent) break;
    REQUIRE(turns < 1000);
    const std::string other = std::string(200, 'b') + std::string(400, 'a');
    Promise<void> after = pair.server.send(other);
    const bool isOver = after.poll(test.scope);
    if (receiving.poll(test.scope)) {
      const WebSocketMessage received = std::move(receiving).wait(test.scope);
      if (received.text() == large) continue; // its last byte had gone
      wasClean = true;
      CHECK((isOver && !wasLost));
      CHECK(received.text() == other);
    } else {
      wasLost = true;
      const Exception e = failureOf(std::move(after), test.scope);
      CHECK(e.kind() == Exception::Kind::FAILED);
      CHECK(contains(e.description(), "partly written"));
      Promise<void> speaking = pair.client.send("still heard");
      CHECK(shown(pair.server.receive().wait(test.scope)) == "text still heard");
    }
  }
  CHECK((wasClean && wasLost));
}

TEST_CASE("an exchange of large compressed messages may be cancelled at every step") {
  const std::function<Promise<void>(LoopTest&)> body = [](LoopTest&) {
    auto talk = coCapture([]() -> Promise<void> {
      Pair pair = makePair(deflated());
      Promise<void> echoing = echo(pair.server);
      const std::string payload = noise(70'000) + std::string(70'000, 'a');
      Promise<WebSocketMessage> answer = pair.client.receive();
      Promise<void> pinging = pair.client.ping();
      co_await pair.client.send(asBytes(payload));
      const WebSocketMessage message = co_await std::move(answer);
      CHECK((message.text() == payload));
      co_await std::move(pinging);
      co_await pair.client.close();
    });
    return talk();
  };
  CHECK(cancelSweep(body) > 20);
}

TEST_CASE_FIXTURE(LoopTest, "a WebSocket may go while it compresses and decompresses") {
  const std::string zeros(4'000'000, '\0');
  for (std::size_t turns = 1; turns < 160; turns += 9) {
    std::optional<Pair> pair = makePair(deflated());
    Promise<WebSocketMessage> receiving = pair->client.receive();
    Promise<void> sending = pair->server.send(asBytes(zeros));
    for (std::size_t i = 0; i < turns; ++i) loop.run(1);
    pair.reset();
    CHECK(sending.poll(scope));
    CHECK(failureOf(std::move(receiving), scope).kind() == Exception::Kind::DISCONNECTED);
  }
}

#endif

/// A connection whose system takes every write at once, or fails at once, or later.
struct TakingStream final : AsyncIoStream {
  enum class Mode { TAKES, FAILS, THROWS };
  explicit TakingStream(std::string& written, Mode what = Mode::TAKES) : all(written), mode(what) {}
  Promise<std::size_t> tryRead(std::span<std::byte>, std::size_t, std::source_location) override { return NEVER_DONE; }
  Promise<void> write(std::span<const std::byte> bytes, std::source_location) override {
    const Exception failure(Exception::Kind::OVERLOADED, "no room");
    if (mode == Mode::FAILS) return failure;
    if (mode == Mode::THROWS) throw failure;
    all.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    if (then) std::exchange(then, nullptr)();
    return READY_NOW;
  }
  Promise<void> write(std::span<const std::span<const std::byte>> pieces, std::source_location where) override {
    for (std::span<const std::byte> piece : pieces) (void)write(piece, where);
    return READY_NOW;
  }
  void shutdownWrite(std::source_location) override {}
  void abortRead(std::source_location) override {}
  std::string& all;
  Mode mode;
  std::function<void()> then; // in the midst of the next write
};

TEST_CASE_FIXTURE(LoopTest, "what the stream takes at once has been sent when send() returns, and costs no coroutine") {
  std::string written, expected;
  WebSocket socket(std::make_unique<TakingStream>(written), Role::SERVER);
  for (std::size_t size : {0u, 5u, 1024u, 1025u, 200'000u}) {
    const std::string payload(size, 'x');
    const auto blocks = troth::detail::liveBlocks();
    { Promise<void> nobodyWaits = socket.send(asBytes(payload)); CHECK(troth::detail::liveBlocks() == blocks); }
    expected += frame(WebSocketOpcode::BINARY, payload);
    CHECK((written == expected));
  }
  std::string masked;
  WebSocket client(std::make_unique<TakingStream>(masked), Role::CLIENT);
  { Promise<void> nobodyWaits = client.send("hello"); }
  CHECK(unmasked(masked) == frame(WebSocketOpcode::TEXT, "hello"));
}

TEST_CASE_FIXTURE(LoopTest, "what is asked for in the midst of a write follows it") {
  std::string written;
  auto stream = std::make_unique<TakingStream>(written);
  TakingStream& taking = *stream;
  WebSocket socket(std::move(stream), Role::SERVER);
  Promise<void> closing = READY_NOW;
  taking.then = [&] {
    CHECK(contains(thrownBy([&] { (void)socket.send("another"); }).description(), "another one is pending"));
    closing = socket.close();
  };
  socket.send("hello").wait(scope);
  CHECK(written == frame(WebSocketOpcode::TEXT, "hello") + closeFrame(1000));
  CHECK(!closing.poll(scope));
}

TEST_CASE_FIXTURE(LoopTest, "a write that fails at once is why nothing can be sent any more") {
  for (auto mode : {TakingStream::Mode::FAILS, TakingStream::Mode::THROWS}) {
    std::string written;
    WebSocket socket(std::make_unique<TakingStream>(written, mode), Role::SERVER);
    for (int i = 0; i < 2; ++i) {
      const Exception e = failureOf(socket.send("x"), scope);
      CHECK(e.kind() == Exception::Kind::OVERLOADED);
      CHECK(contains(e.description(), "no room"));
    }
    CHECK(contains(failureOf(socket.close(), scope).description(), "no room"));
  }
}

TEST_CASE_FIXTURE(LoopTest, "a receive() is a block, and a message that is there needs no turn") {
  Raw raw = makeRaw(Role::SERVER);
  Promise<void> telling = tell(raw, frame(WebSocketOpcode::BINARY, "1", MASK) + frame(WebSocketOpcode::BINARY, "2", MASK));
  CHECK(shown(raw.socket.receive().wait(scope)) == "binary 1");
  const auto blocks = troth::detail::liveBlocks();
  Promise<WebSocketMessage> second = raw.socket.receive();
  CHECK(troth::detail::liveBlocks() == blocks); // and the chunk goes with its last message
  CHECK(loop.run() == 0);
  CHECK(shown(std::move(second).wait(scope)) == "binary 2");
}

TEST_CASE_FIXTURE(LoopTest, "a close() that waits ends at once when the send before it is cut off, whoever reads") {
  for (bool isReceiving : {false, true}) {
    ManualTimer timer;
    WebSocketOptions options;
    options.timer = &timer; // which stands still
    Raw raw = makeRaw(Role::SERVER, options);
    std::optional<Promise<WebSocketMessage>> receiving;
    if (isReceiving) receiving = raw.socket.receive();
    std::optional<Promise<void>> sending = raw.socket.send("a message");
    CHECK(!sending->poll(scope));
    std::byte first;
    CHECK(raw.peer->tryRead({&first, 1}).wait(scope) == 1);
    Promise<void> closing = raw.socket.close();
    Promise<void> another = raw.socket.close();
    CHECK(!closing.poll(scope));
    sending.reset();
    for (Promise<void>* close : {&closing, &another}) {
      const Exception e = failureOf(std::move(*close), scope);
      CHECK(e.kind() == Exception::Kind::FAILED);
      CHECK(contains(e.description(), "partly written"));
    }
    if (!receiving) receiving = raw.socket.receive();
    Promise<void> speaking = tell(raw, frame(WebSocketOpcode::TEXT, "still heard", MASK));
    CHECK(shown(std::move(*receiving).wait(scope)) == "text still heard");
  }
}

TEST_CASE_FIXTURE(LoopTest, "a close() of which the peer hears nothing does not wait for the end after a fault") {
  Raw raw = makeRaw(Role::SERVER);
  {
    Promise<void> cut = raw.socket.send("a message");
    CHECK(!cut.poll(scope));
    std::byte first;
    CHECK(raw.peer->tryRead({&first, 1}).wait(scope) == 1);
  }
  Promise<void> speaking = tell(raw, frame(WebSocketOpcode::TEXT, "not masked"));
  CHECK(failureOf(raw.socket.receive(), scope).code() == Code::PROTOCOL_ERROR);
  CHECK(failureOf(raw.socket.close(), scope).code() == Code::PROTOCOL_ERROR);
}

TEST_CASE_FIXTURE(LoopTest, "answers to pings that the stream takes at once leave nothing behind") {
  TwoWayPipe pipe = newTwoWayPipe();
  /// Takes what is written, and reads from the pipe.
  struct Stream final : AsyncIoStream {
    explicit Stream(std::unique_ptr<AsyncIoStream> reads) : inner(std::move(reads)) {}
    Promise<std::size_t> tryRead(std::span<std::byte> buffer, std::size_t minBytes, std::source_location where) override {
      return inner->tryRead(buffer, minBytes, where);
    }
    Promise<void> write(std::span<const std::byte> bytes, std::source_location) override {
      written.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
      return READY_NOW;
    }
    Promise<void> write(std::span<const std::span<const std::byte>>, std::source_location) override { return NEVER_DONE; }
    void shutdownWrite(std::source_location) override {}
    void abortRead(std::source_location) override {}
    std::unique_ptr<AsyncIoStream> inner;
    std::string written;
  };
  auto stream = std::make_unique<Stream>(std::move(pipe.ends[0]));
  const std::string& written = stream->written;
  WebSocket socket(std::move(stream), Role::SERVER);
  Promise<WebSocketMessage> receiving = socket.receive();
  CHECK(!receiving.poll(scope));
  const auto blocks = troth::detail::liveBlocks();
  pipe.ends[1]->write(frame(WebSocketOpcode::PING, "1", MASK)).wait(scope);
  CHECK(!receiving.poll(scope));
  CHECK(written == frame(WebSocketOpcode::PONG, "1"));
  CHECK(troth::detail::liveBlocks() == blocks);
}

TEST_CASE("a large text is looked at in steps, and nothing of it is sent if it is not UTF-8") {
  constexpr std::size_t MANY = 11'000'000; // 33 MB
  CountingPort port;
  EventLoop loop(port);
  WaitScope scope(loop);
  std::string written, euros;
  for (std::size_t i = 0; i < MANY; ++i) euros += "\u20ac"; // which the steps cut
  WebSocket socket(std::make_unique<TakingStream>(written), Role::SERVER);
  socket.send(euros).wait(scope);
  CHECK(port.polls >= euros.size() / (64 * 1024) - 1);
  CHECK((std::string_view(written).substr(10) == euros));

  written.clear();
  euros.pop_back();
  const Exception unfinished = failureOf(socket.send(euros), scope);
  euros[euros.size() / 2] = '\xff';
  const Exception wrong = failureOf(socket.send(euros), scope);
  for (const Exception& e : {unfinished, wrong}) {
    CHECK(e.kind() == Exception::Kind::FAILED);
    CHECK(contains(e.description(), "not UTF-8"));
  }
  {
    Promise<void> cancelled = socket.send(euros);
    for (int i = 0; i < 20; ++i) CHECK(loop.run(1) == 1);
  }
  CHECK(written.empty());
  socket.send("small").wait(scope);
  CHECK(written == frame(WebSocketOpcode::TEXT, "small"));
}

TEST_CASE("each operation may be cancelled at every step, and leaves what it says it does") {
  const std::string large(200'000, 'x');
  // What is begun, and what holds if it is over or was cancelled.
  struct Operation {
    std::function<Promise<void>(Pair&)> begin;
    std::function<void(Pair&, WaitScope&)> check;
  };
  const auto checkSent = [&](Pair& pair, WaitScope& scope) {
    Promise<void> more = pair.client.send("more");
    (void)more.poll(scope);
    Promise<WebSocketMessage> receiving = pair.server.receive();
    if (receiving.poll(scope)) { // as a whole, or not at all
      const WebSocketMessage message = std::move(receiving).wait(scope);
      CHECK((message.text() == large || message.text() == "more"));
    } else {
      CHECK(contains(failureOf(std::move(more), scope).description(), "partly written"));
    }
    Promise<void> answer = pair.server.send("still heard");
    CHECK(shown(pair.client.receive().wait(scope)) == "text still heard");
  };
  const auto checkOpen = [](Pair& pair, WaitScope& scope) {
    Promise<WebSocketMessage> receiving = pair.server.receive(), listening = pair.client.receive();
    pair.client.ping().wait(scope);
    pair.client.send("still open").wait(scope);
    CHECK(shown(std::move(receiving).wait(scope)) == "text still open");
  };
  const auto checkClosing = [](Pair& pair, WaitScope& scope) {
    CHECK(shown(pair.server.receive().wait(scope)) == "close 4000 enough");
    CHECK(shown(pair.client.receive().wait(scope)) == "close 4000 ");
    CHECK(failureOf(pair.client.send("late"), scope).kind() == Exception::Kind::DISCONNECTED);
    pair.client.close().wait(scope);
  };
  const Operation operations[] = {
      {[&](Pair& pair) {
         Promise<void> taken = pair.server.receive().ignoreResult();
         return joinPromises(pair.client.send(asBytes(large)), std::move(taken)).ignoreResult();
       },
       [&](Pair& pair, WaitScope& scope) {
         if (pair.server.receive().poll(scope)) return; // it was not taken
         checkSent(pair, scope);
       }},
      {[&](Pair& pair) { return pair.client.send(large); }, checkSent}, // first it is looked at
      {[](Pair& pair) {
         Promise<void> answering = pair.server.receive().ignoreResult(), listening = pair.client.receive().ignoreResult();
         return pair.client.ping().exclusiveJoin(std::move(answering)).exclusiveJoin(std::move(listening));
       },
       checkOpen},
      {[](Pair& pair) { return pair.client.close(static_cast<Code>(4000), "enough"); }, checkClosing},
  };
  for (const Operation& operation : operations) {
    bool isOver = false;
    for (std::size_t turns = 0; !isOver; ++turns) {
      REQUIRE(turns < 1000);
      LoopTest test;
      Pair pair = makePair();
      {
        Promise<void> pending = operation.begin(pair).then([&] { isOver = true; }).eagerlyEvaluate(nullptr);
        for (std::size_t i = 0; i < turns; ++i)
          if (test.loop.run(1) == 0) isOver = true; // or as far as it comes without its peer
      }
      operation.check(pair, test.scope);
    }
  }
}

TEST_CASE_FIXTURE(LoopTest, "a ping is answered, and a later answer is as good") {
  Raw raw = makeRaw(Role::SERVER);
  Promise<void> first = raw.socket.ping();
  Promise<void> second = raw.socket.ping();
  Promise<WebSocketMessage> receiving = raw.socket.receive();
  CHECK(!first.poll(scope));
  const std::string one = readSome(*raw.peer, scope);
  CHECK(!first.poll(scope));
  const std::string two = readSome(*raw.peer, scope);
  CHECK(one.size() == 10);
  const std::string pongs = frame(WebSocketOpcode::PONG, "unasked!", MASK) + frame(WebSocketOpcode::PONG, two.substr(2), MASK);
  tell(raw, pongs + frame(WebSocketOpcode::PONG, one.substr(2), MASK)).wait(scope); // the older one too late
  std::move(first).wait(scope);
  std::move(second).wait(scope);
  CHECK(!receiving.poll(scope));
}

TEST_CASE_FIXTURE(LoopTest, "a silent peer gets a ping and is given up in time, but only if it was listened to") {
  ManualTimer timer;
  WebSocketOptions options;
  options.timer = &timer;
  options.pingInterval = 30s;
  options.pingTimeout = 10s;
  Raw raw = makeRaw(Role::SERVER, options);
  {
    Promise<WebSocketMessage> receiving = raw.socket.receive();
    timer.advanceBy(20s);
    CHECK(!receiving.poll(scope));
    tell(raw, frame(WebSocketOpcode::TEXT, "here", MASK)).wait(scope);
    CHECK(shown(std::move(receiving).wait(scope)) == "text here");
  }
  timer.advanceBy(10s); // nothing: it has spoken
  CHECK(heard(raw, scope).empty());
  timer.advanceBy(30s);
  CHECK(readSome(*raw.peer, scope).substr(0, 2) == "\x89\x08");
  timer.advanceBy(10s); // nobody listens
  scope.poll();
  Promise<WebSocketMessage> receiving = raw.socket.receive();
  timer.advanceBy(30s);
  CHECK(!receiving.poll(scope));
  CHECK(readSome(*raw.peer, scope).substr(0, 2) == "\x89\x08");
  timer.advanceBy(9s);
  CHECK(!receiving.poll(scope));
  timer.advanceBy(1s);
  const Exception e = failureOf(std::move(receiving), scope);
  CHECK(e.kind() == Exception::Kind::DISCONNECTED);
  CHECK(contains(e.description(), "has not answered a ping within 10000 ms"));
  CHECK(contains(failureOf(raw.socket.send("x"), scope).description(), "ping"));
}

TEST_CASE_FIXTURE(LoopTest, "a WebSocket that is gone wants nothing of its timer, though promises of it are left") {
  ManualTimer timer;
  WebSocketOptions options;
  options.timer = &timer;
  options.pingInterval = 30s;
  std::optional<Raw> raw = makeRaw(Role::SERVER, options);
  Promise<WebSocketMessage> receiving = raw->socket.receive();
  CHECK(!receiving.poll(scope));
  CHECK(timer.nextEvent());
  raw.reset();
  CHECK(!timer.nextEvent());
}

TEST_CASE_FIXTURE(LoopTest, "a peer that has said anything since the ping is not given up, nor one whose message waits to be taken") {
  ManualTimer timer;
  WebSocketOptions options;
  options.timer = &timer;
  options.pingInterval = 30s;
  options.pingTimeout = 10s;
  Raw raw = makeRaw(Role::SERVER, options);
  Promise<WebSocketMessage> receiving = raw.socket.receive();
  const auto untilPing = [&] {
    timer.advanceBy(30s);
    CHECK(heard(raw, scope).substr(0, 2) == "\x89\x08");
  };
  untilPing();
  tell(raw, frame(WebSocketOpcode::PONG, "any", MASK)).wait(scope);
  timer.advanceBy(10s);
  CHECK(!receiving.poll(scope));
  untilPing();
  timer.advanceBy(10s);
  Promise<void> atLast = tell(raw, frame(WebSocketOpcode::PONG, "at the same moment", MASK));
  CHECK(!receiving.poll(scope));
  untilPing();
  tell(raw, frame(WebSocketOpcode::TEXT, "taken late", MASK)).wait(scope);
  CHECK(receiving.poll(scope));
  timer.advanceBy(10s);
  CHECK(heard(raw, scope).empty());
  untilPing();
  timer.advanceBy(10s);
  CHECK(heard(raw, scope).empty());
  CHECK(shown(std::move(receiving).wait(scope)) == "text taken late");
  Promise<void> sending = raw.socket.send("still open");
  CHECK(heard(raw, scope) == frame(WebSocketOpcode::TEXT, "still open"));

  options.closeTimeout = 100s;
  Raw closed = makeRaw(Role::SERVER, options);
  Promise<void> closing = closed.socket.close();
  CHECK(heard(closed, scope) == closeFrame(1000));
  timer.advanceBy(30s);
  CHECK(heard(closed, scope).empty()); // no ping behind a close frame
}

TEST_CASE_FIXTURE(LoopTest, "nothing is read that nobody asked for") {
  Raw raw = makeRaw(Role::SERVER);
  Promise<void> first = tell(raw, frame(WebSocketOpcode::TEXT, "one", MASK));
  CHECK(!first.poll(scope));
  CHECK(shown(raw.socket.receive().wait(scope)) == "text one");
  Promise<void> second = tell(raw, frame(WebSocketOpcode::TEXT, "two", MASK));
  CHECK(!second.poll(scope));
}

TEST_CASE_FIXTURE(LoopTest, "a WebSocket may go in what a receive, a send, or a close lets run") {
  for (bool byReceive : {false, true}) {
    std::optional<Raw> raw = makeRaw(Role::SERVER);
    std::string what;
    Promise<void> receiving = raw->socket.receive().ignoreResult();
    Promise<void> sending = raw->socket.send("hello");
    Promise<void> pinging = raw->socket.ping();
    auto destroying = [&](Promise<void> promise) {
      return std::move(promise).then([&] { raw.reset(); }).eagerlyEvaluate(nullptr);
    };
    if (byReceive) {
      Promise<void> writing = tell(*raw, frame(WebSocketOpcode::TEXT, "x", MASK));
      receiving = destroying(std::move(receiving));
      std::move(receiving).wait(scope);
      CHECK(failureOf(std::move(sending), scope).kind() == Exception::Kind::DISCONNECTED);
      (void)writing.poll(scope);
    } else {
      sending = destroying(std::move(sending));
      CHECK(!sending.poll(scope));
      CHECK(readSome(*raw->peer, scope) == frame(WebSocketOpcode::TEXT, "hello"));
      std::move(sending).wait(scope);
      CHECK(failureOf(std::move(receiving), scope).kind() == Exception::Kind::DISCONNECTED);
    }
    CHECK(!raw);
    CHECK(failureOf(std::move(pinging), scope).kind() == Exception::Kind::DISCONNECTED);
  }
}

TEST_CASE_FIXTURE(LoopTest, "a WebSocket may be moved while operations are pending, and assigned to one that has some") {
  Raw first = makeRaw(Role::SERVER), second = makeRaw(Role::SERVER);
  Promise<WebSocketMessage> receiving = first.socket.receive();
  Promise<WebSocketMessage> rejected = second.socket.receive();
  Promise<void> rejectedSend = second.socket.send("x");
  second.socket = std::move(first.socket);
  CHECK(contains(failureOf(std::move(rejected), scope).description(), "destroyed"));
  CHECK(failureOf(std::move(rejectedSend), scope).kind() == Exception::Kind::DISCONNECTED);
  Promise<void> sending = second.socket.send("moved");
  CHECK(readSome(*first.peer, scope) == frame(WebSocketOpcode::TEXT, "moved"));
  std::move(sending).wait(scope);
  tell(first, frame(WebSocketOpcode::TEXT, "still there", MASK)).wait(scope);
  CHECK(shown(std::move(receiving).wait(scope)) == "text still there");
  WebSocket& same = second.socket;
  second.socket = std::move(same);
  CHECK(second.socket.subprotocol().empty());
}

TEST_CASE("a WebSocket closes, is aborted, and goes where there is no memory to say why (R6)") {
  for (bool isAborted : {false, true}) {
    bool failed = true;
    for (std::uint64_t after = 0; failed; ++after) {
      REQUIRE(after < 1000);
      LoopTest test;
      std::optional<Pair> pair = makePair();
      Promise<WebSocketMessage> listening = pair->server.receive(), answer = pair->client.receive();
      std::optional<Promise<void>> closing;
      test.scope.poll();
      troth::detail::trimPool();
      {
        const NoMemory none(after);
        try {
          closing = pair->client.close(Code::GOING_AWAY, "a reason that takes memory");
          test.scope.poll();
          if (isAborted) pair->server.abort();
        } catch (const std::bad_alloc&) {
        } catch (const Exception& e) {
          CHECK(e.kind() == Exception::Kind::OVERLOADED);
        }
        pair.reset();
        failed = NoMemory::hasFailed();
      }
      CHECK(listening.poll(test.scope));
      CHECK(answer.poll(test.scope));
      if (closing) CHECK(closing->poll(test.scope));
    }
  }
}

TEST_CASE("a silent peer is given up in time though there was no memory to ping it (R6)") {
  bool failed = true;
  for (std::uint64_t after = 0; failed; ++after) {
    REQUIRE(after < 1000);
    LoopTest test;
    ManualTimer timer;
    WebSocketOptions options;
    options.timer = &timer;
    options.pingInterval = 1s;
    options.pingTimeout = 2s;
    Raw raw = makeRaw(Role::SERVER, options);
    Promise<WebSocketMessage> listening = raw.socket.receive();
    test.scope.poll();
    troth::detail::trimPool();
    try {
      const NoMemory none(after);
      for (int i = 0; i < 4; ++i) {
        timer.advanceBy(1s);
        test.scope.poll();
      }
      failed = NoMemory::hasFailed();
    } catch (const std::bad_alloc&) {
    }
    for (int i = 0; i < 4; ++i) {
      timer.advanceBy(1s);
      test.scope.poll();
    }
    CHECK(listening.poll(test.scope));
  }
}

TEST_CASE_FIXTURE(LoopTest, "misuse is named") {
  auto text = [](auto&& call) { return std::string(thrownBy(call).description()); };
  CHECK(contains(text([&] { WebSocket(nullptr, Role::SERVER); }), "the stream is null"));
  WebSocketOptions options;
  options.pingInterval = 1s;
  CHECK(contains(text([&] { makeRaw(Role::SERVER, options); }), "needs a timer"));
  options = {};
  options.maxQueuedPongs = 0;
  CHECK(contains(text([&] { makeRaw(Role::SERVER, options); }), "a queue for 0 pongs"));
  for (Duration WebSocketOptions::*time : {&WebSocketOptions::closeTimeout, &WebSocketOptions::pingInterval, &WebSocketOptions::pingTimeout}) {
    options = {};
    options.*time = -1s;
    CHECK(contains(text([&] { makeRaw(Role::SERVER, options); }), "a time-out that is negative"));
  }
  Raw raw = makeRaw();
  Promise<WebSocketMessage> receiving = raw.socket.receive();
  CHECK(contains(text([&] { (void)raw.socket.receive(); }), "another one is pending"));
  Promise<void> sending = raw.socket.send("x");
  CHECK(contains(text([&] { (void)raw.socket.send("y"); }), "another one is pending"));
  CHECK(contains(text([&] { (void)raw.socket.send("\xff"); }), "not UTF-8"));
  CHECK(contains(text([&] { (void)raw.socket.close(Code::ABNORMAL); }), "1006 is no code to send"));
  CHECK(contains(text([&] { (void)raw.socket.close(Code::NORMAL, std::string(124, 'x')); }), "at most 123 bytes"));
  CHECK(contains(text([&] { (void)raw.socket.close(Code::NORMAL, "\xff"); }), "is not UTF-8"));
  WebSocket moved = std::move(raw.socket);
  CHECK(contains(text([&] { (void)raw.socket.send("x"); }), "moved from"));
  CHECK(moved.subprotocol().empty());
  CHECK(!sending.poll(scope));
}

} // namespace
