// SPDX-License-Identifier: MIT
// Tests of cancelled reads, which lose nothing, and of cancellation at every step.
#include "peer.h"

#include <troth/io/uv_stream.h>
#include <troth/runtime/uv/uv_event_port.h>
#include <troth/timers/manual_timer.h>
#include <troth/timers/timer.h>

#include <array>
#include <random>
#include <string>

using namespace troth;
using namespace troth::test;
using namespace std::chrono_literals;

namespace {

Promise<std::size_t> readInto(AsyncInputStream& stream, std::string& buffer, std::size_t minBytes = 1) {
  return stream.tryRead(bufferOf(buffer), minBytes);
}

std::string readText(AsyncInputStream& stream, WaitScope& scope, std::size_t size, std::size_t minBytes = 1) {
  std::string buffer(size, '.');
  buffer.resize(readInto(stream, buffer, minBytes).wait(scope));
  return buffer;
}

} // namespace

TEST_CASE_FIXTURE(IoTest, "a cancelled read leaves its buffer alone, and the next read gets the bytes (R5, R9)") {
  Pair pair = newPair(io);
  std::string watched(8, '.');
  {
    Promise<std::size_t> read = readInto(*pair.stream, watched);
    REQUIRE(!read.poll(scope));
  }
  pair.peer.send("abc");
  scope.poll();
  CHECK(watched == "........");
  CHECK(readText(*pair.stream, scope, 8) == "abc");
  CHECK(watched == "........");
}

TEST_CASE_FIXTURE(IoTest, "the buffer of a cancelled read may be freed at once (R9)") {
  Pair pair = newPair(io);
  auto buffer = std::make_unique<std::string>(100'000, '.');
  {
    Promise<std::size_t> read = readInto(*pair.stream, *buffer);
    REQUIRE(!read.poll(scope));
  }
  buffer.reset(); // AddressSanitizer sees whoever comes here now
  pair.peer.send("abc");
  scope.poll();
  CHECK(pair.stream->tryReadChunk().wait(scope).text() == "abc");
}

TEST_CASE_FIXTURE(IoTest, "a cancelled chunk read consumes nothing (R5)") {
  Pair pair = newPair(io);
  {
    Promise<Chunk> read = pair.stream->tryReadChunk();
    REQUIRE(!read.poll(scope));
  }
  pair.peer.send("abc");
  scope.poll();
  CHECK(pair.stream->tryReadChunk().wait(scope).text() == "abc");
}

TEST_CASE_FIXTURE(IoTest, "a read that is cancelled before the loop has run at all consumes nothing (R5)") {
  Pair pair = newPair(io);
  pair.peer.send("abc");
  {
    std::string buffer(8, '.');
    const Promise<std::size_t> read = readInto(*pair.stream, buffer);
  }
  { const Promise<Chunk> read = pair.stream->tryReadChunk(); }
  CHECK(readText(*pair.stream, scope, 8) == "abc");
}

TEST_CASE_FIXTURE(IoTest, "a read that is cancelled when its bytes are there loses none of them") {
  Pair pair = newPair(io);
  std::string buffer(8, '.');
  {
    Promise<std::size_t> read = readInto(*pair.stream, buffer);
    pair.peer.send("abc");
    REQUIRE(read.poll(scope));
  }
  CHECK(readText(*pair.stream, scope, 8) == "abc");
}

TEST_CASE_FIXTURE(IoTest, "a chunk read that is cancelled when its chunk is there loses nothing, whatever its size") {
  for (const std::size_t size : {std::size_t(1), std::size_t(4096), std::size_t(4097), std::size_t(65536)}) {
    CAPTURE(size);
    Pair pair = newPair(io);
    pair.peer.send(numberedBytes(size));
    {
      Promise<Chunk> read = pair.stream->tryReadChunk();
      REQUIRE(read.poll(scope));
    }
    const Chunk chunk = pair.stream->tryReadChunk().wait(scope);
    CHECK(chunk.size() == size);
    CHECK(areNumbered(chunk.text()));
  }
}

TEST_CASE_FIXTURE(IoTest, "a read that is cancelled with a part of its minBytes loses none of them") {
  Pair pair = newPair(io);
  {
    std::string buffer(10, '.');
    Promise<std::size_t> read = readInto(*pair.stream, buffer, 10);
    pair.peer.send("abc");
    REQUIRE(!read.poll(scope));
    pair.peer.send("de");
    REQUIRE(!read.poll(scope));
    REQUIRE(buffer == "abcde....."); // they had come
  }
  std::string buffer(8, '.');
  Promise<std::size_t> next = readInto(*pair.stream, buffer, 8);
  CHECK(takeAfter(next, scope, [&] { pair.peer.send("fgh"); }) == 8);
  CHECK(buffer == "abcdefgh");
}

TEST_CASE_FIXTURE(IoTest, "read() that is cancelled loses nothing either, half full or full") {
  Pair pair = newPair(io);
  for (const std::string_view part : {"abc", "defghi"}) {
    std::string buffer(6, '.');
    Promise<void> read = pair.stream->read(bufferOf(buffer));
    pair.peer.send(part);
    CHECK(read.poll(scope) == (part != "abc"));
  }
  CHECK(readText(*pair.stream, scope, 9, 9) == "abcdefghi");
}

TEST_CASE_FIXTURE(IoTest, "bytes that were given back several times come in their order") {
  Pair pair = newPair(io);
  {
    std::string buffer(20, '.');
    Promise<std::size_t> read = readInto(*pair.stream, buffer, 20);
    pair.peer.send("0123456789");
    REQUIRE(!read.poll(scope));
  }
  // Each takes a part of what was given back and gives it back in turn.
  for (const std::size_t size : {std::size_t(4), std::size_t(1), std::size_t(10), std::size_t(7)}) {
    std::string buffer(size, '.');
    Promise<std::size_t> read = readInto(*pair.stream, buffer, size);
    REQUIRE(read.poll(scope));
    REQUIRE(buffer == std::string("0123456789").substr(0, size));
  }
  {
    Promise<Chunk> read = pair.stream->tryReadChunk();
    REQUIRE(read.poll(scope));
  }
  { // one that takes all of it and new bytes
    std::string buffer(30, '.');
    Promise<std::size_t> read = readInto(*pair.stream, buffer, 30);
    pair.peer.send("abcde");
    REQUIRE(!read.poll(scope));
    REQUIRE(buffer.starts_with("0123456789abcde."));
  }
  pair.peer.send("fg");
  CHECK(readText(*pair.stream, scope, 3) == "012");
  CHECK(pair.stream->tryReadChunk().wait(scope).text() == "3456789abcde");
  CHECK(readText(*pair.stream, scope, 8) == "fg");
}

TEST_CASE_FIXTURE(IoTest, "more bytes than a chunk holds, given back, come in several chunks") {
  Pair pair = newPair(io);
  const std::string data = numberedBytes(150'000);
  {
    std::string buffer(150'001, '.');
    Promise<std::size_t> read = readInto(*pair.stream, buffer, buffer.size());
    std::size_t sent = 0;
    while (sent < data.size()) {
      sent += pair.peer.sendSome(std::string_view(data).substr(sent));
      REQUIRE(!read.poll(scope));
    }
  }
  std::string got;
  while (got.size() < data.size()) {
    const Chunk chunk = pair.stream->tryReadChunk().wait(scope);
    REQUIRE(!chunk.empty());
    REQUIRE(chunk.size() <= Chunk::CAPACITY);
    got += chunk.text();
  }
  CHECK((got == data));
}

TEST_CASE_FIXTURE(IoTest, "bytes that were given back, taken one by one and given back in between, come in their order") {
  Pair pair = newPair(io);
  const std::string data = numberedBytes(3000);
  pair.peer.send(data);
  {
    std::array<std::byte, 3000> all;
    Promise<std::size_t> read = pair.stream->tryRead(all, all.size());
    REQUIRE(read.poll(scope));
  }
  std::string got;
  while (got.size() < data.size()) {
    std::array<std::byte, 7> some;
    if (got.size() % 3 == 0) {
      Promise<std::size_t> cancelled = pair.stream->tryRead(some, 1);
      REQUIRE(cancelled.poll(scope));
    }
    const std::size_t size = pair.stream->tryRead(some, 1).wait(scope);
    got.append(reinterpret_cast<const char*>(some.data()), size);
  }
  CHECK((got == data));
}

TEST_CASE_FIXTURE(IoTest, "the end of the stream comes after bytes that were given back") {
  for (const bool takeEnd : {false, true}) {
    CAPTURE(takeEnd);
    Pair pair = newPair(io);
    {
      std::string buffer(10, '.');
      Promise<std::size_t> read = readInto(*pair.stream, buffer, 10);
      pair.peer.send("abc");
      REQUIRE(!read.poll(scope));
      pair.peer.close();
      if (takeEnd) REQUIRE(read.poll(scope)); // 3 bytes and the end, which nobody takes
    }
    CHECK(readText(*pair.stream, scope, 10, 10) == "abc");
    CHECK(readText(*pair.stream, scope, 10) == "");
  }
}

TEST_CASE_FIXTURE(IoTest, "an end of the stream whose read was cancelled is found by the next read") {
  Pair pair = newPair(io);
  pair.peer.close();
  {
    Promise<Chunk> read = pair.stream->tryReadChunk();
    REQUIRE(read.poll(scope));
  }
  CHECK(pair.stream->tryReadChunk().wait(scope).empty());
}

TEST_CASE_FIXTURE(IoTest, "a time-out in the same turn as the bytes costs none of them, whichever came first") {
  enum class Order { BYTES_FIRST, TIMEOUT_FIRST };
  enum class Kind { SPAN, CHUNK };
  for (const Order order : {Order::BYTES_FIRST, Order::TIMEOUT_FIRST}) {
    for (const Kind kind : {Kind::SPAN, Kind::CHUNK}) {
      CAPTURE(static_cast<int>(order));
      CAPTURE(static_cast<int>(kind));
      Pair pair = newPair(io);
      ManualTimer timer;
      std::string buffer(8, '.');
      Promise<std::string> read =
          kind == Kind::SPAN
              ? timer.timeoutAfter(1s, readInto(*pair.stream, buffer)).then([&](std::size_t got) { return buffer.substr(0, got); })
              : timer.timeoutAfter(1s, pair.stream->tryReadChunk()).then([](Chunk chunk) { return std::string(chunk.text()); });
      REQUIRE(!read.poll(scope));
      pair.peer.send("abc");
      // Both happen before any turn is run.
      if (order == Order::BYTES_FIRST) io.uvEventPort().poll();
      timer.advanceBy(1s);
      if (order == Order::TIMEOUT_FIRST) io.uvEventPort().poll();
      REQUIRE(read.poll(scope));
      if (order == Order::BYTES_FIRST) {
        CHECK(std::move(read).wait(scope) == "abc");
        pair.peer.send("def");
        CHECK(readText(*pair.stream, scope, 8) == "def");
      } else {
        const Exception e = failureOf(std::move(read), scope);
        CHECK((e.kind() == Exception::Kind::OVERLOADED));
        CHECK(readText(*pair.stream, scope, 8) == "abc");
      }
    }
  }
}

TEST_CASE_FIXTURE(IoTest, "bytes that won against a time-out, in a join that nobody took, are not lost") {
  Pair pair = newPair(io);
  ManualTimer timer;
  {
    std::string buffer(8, '.');
    Promise<std::size_t> read = timer.timeoutAfter(1s, readInto(*pair.stream, buffer));
    pair.peer.send("abc");
    REQUIRE(read.poll(scope));
  }
  CHECK(readText(*pair.stream, scope, 8) == "abc");
}

TEST_CASE_FIXTURE(IoTest, "a time-out with a part of minBytes there costs none of them") {
  Pair pair = newPair(io);
  ManualTimer timer;
  std::string buffer(8, '.');
  Promise<std::size_t> read = timer.timeoutAfter(1s, readInto(*pair.stream, buffer, 8));
  pair.peer.send("abc");
  REQUIRE(!read.poll(scope));
  timer.advanceBy(1s);
  REQUIRE(read.poll(scope));
  CHECK((failureOf(std::move(read), scope).kind() == Exception::Kind::OVERLOADED));
  CHECK(readText(*pair.stream, scope, 8) == "abc");
}

TEST_CASE_FIXTURE(IoTest, "ten thousand reads, many of them cancelled at random, see every byte once and in order") {
  std::mt19937 random(20'26);
  const auto below = [&](std::size_t limit) { return std::uniform_int_distribution<std::size_t>(0, limit - 1)(random); };
  Pair pair = newPair(io);
  std::size_t sent = 0;
  std::size_t seen = 0;
  std::size_t cancelledWithBytes = 0;
  const auto check = [&](std::string_view bytes) {
    REQUIRE(areNumbered(bytes, seen));
    seen += bytes.size();
  };
  for (int i = 0; i < 10'000; ++i) {
    if (sent - seen < 60'000 && below(3) != 0) {
      const std::string data = numberedBytes(1 + below(below(8) == 0 ? 20'000 : 50), sent);
      sent += pair.peer.sendSome(data);
    }
    // How far a read gets before it is cancelled.
    const std::size_t patience = below(4);
    const auto wait = [&](auto& promise) {
      if (patience == 0) return false;
      if (patience == 1) {
        io.uvEventPort().poll();
        return false;
      }
      return promise.poll(scope) && patience == 3;
    };
    if (below(3) == 0) {
      Promise<Chunk> read = pair.stream->tryReadChunk();
      if (wait(read)) check(std::move(read).wait(scope).text());
    } else {
      std::string buffer(1 + below(200), '.');
      const std::size_t minBytes = 1 + below(buffer.size());
      {
        Promise<std::size_t> read = readInto(*pair.stream, buffer, minBytes);
        if (wait(read)) {
          const std::size_t got = std::move(read).wait(scope);
          REQUIRE(got >= minBytes);
          check(std::string_view(buffer).substr(0, got));
          continue;
        }
      }
      if (buffer != std::string(buffer.size(), '.')) ++cancelledWithBytes;
    }
  }
  pair.peer.close();
  for (;;) {
    const Chunk chunk = pair.stream->tryReadChunk().wait(scope);
    if (chunk.empty()) break;
    check(chunk.text());
  }
  CHECK(seen == sent);
  CHECK(seen > 100'000);
  CHECK(cancelledWithBytes > 500); // the case that this is about
}

// -------------------------------------------------------------------------------- at every step (R5)

namespace {

Promise<void> echoOnce(AsyncIoStream& stream) {
  const Chunk chunk = co_await stream.tryReadChunk();
  co_await stream.write(chunk);
  stream.shutdownWrite();
}

Promise<void> readWriteBody(IoTest& test) {
  StreamPair pair = newStreamPair(test.io);
  Promise<void> echo = echoOnce(*pair.right).eagerlyEvaluate(nullptr);
  co_await pair.left->write("hello, world");
  std::array<std::byte, 12> buffer;
  co_await pair.left->read(buffer);
  const std::size_t end = co_await pair.left->tryRead(buffer);
  CHECK(end == 0);
  co_await std::move(echo);
}

Promise<void> slowReader(AsyncIoStream& stream, std::size_t wanted) {
  std::string buffer(10'000, '.');
  std::size_t got = 0;
  while (got < wanted) {
    const std::size_t count = co_await stream.tryRead(bufferOf(buffer));
    CHECK(areNumbered(std::string_view(buffer).substr(0, count), got));
    got += count;
    co_await evalLater([] {});
  }
}

Promise<void> bigWriteBody(IoTest& test) {
  const std::string data = numberedBytes(80'000);
  StreamPair pair = newStreamPair(test.io, {4096, 4096});
  Promise<void> reader = slowReader(*pair.right, data.size()).eagerlyEvaluate(nullptr);
  co_await pair.left->write(data);
  co_await std::move(reader);
}

Promise<void> timeoutBody(IoTest& test) {
  StreamPair pair = newStreamPair(test.io);
  for (int i = 0; i < 3; ++i) {
    Promise<Chunk> read = test.io.timer().timeoutAfter(1h, pair.right->tryReadChunk());
    co_await test.io.timer().timeoutAfter(1h, pair.left->write("tick"));
    const Chunk chunk = co_await std::move(read);
    CHECK(chunk.text() == "tick");
  }
}

} // namespace

TEST_CASE("an echo between two streams can be cancelled at every step (R5)") { CHECK(cancelSweep(readWriteBody) > 3); }

TEST_CASE("a big write to a slow reader can be cancelled at every step (R5)") { CHECK(cancelSweep(bigWriteBody) > 20); }

TEST_CASE("reads and writes under time-outs can be cancelled at every step (R5)") { CHECK(cancelSweep(timeoutBody) > 5); }
