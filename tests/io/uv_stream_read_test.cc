// SPDX-License-Identifier: MIT
// Tests of reading from a libuv stream: what completes a read, the end, errors, misuse, and back-pressure.
#include "peer.h"

#include <troth/io/uv_stream.h>
#include <troth/runtime/uv/uv_event_port.h>

#include <sys/socket.h>

#include <string>
#include <vector>

using namespace troth;
using namespace troth::test;

namespace {

Promise<std::size_t> readInto(AsyncInputStream& stream, std::string& buffer, std::size_t minBytes = 1,
                              std::source_location where = std::source_location::current()) {
  return stream.tryRead(bufferOf(buffer), minBytes, where);
}

} // namespace

TEST_CASE_FIXTURE(IoTest, "a read completes when bytes arrive, and gets what there is") {
  Pair pair = newPair(io);
  std::string buffer(8, '.');
  Promise<std::size_t> read = readInto(*pair.stream, buffer);
  CHECK(takeAfter(read, scope, [&] { pair.peer.send("abc"); }) == 3);
  CHECK(buffer == "abc.....");
}

TEST_CASE_FIXTURE(IoTest, "a read never completes inside the call, even if the bytes are there already") {
  Pair pair = newPair(io);
  pair.peer.send("abc");
  std::string buffer(3, '.');
  Promise<std::size_t> read = readInto(*pair.stream, buffer);
  CHECK(buffer == "...");
  REQUIRE(read.poll(scope));
  CHECK(std::move(read).wait(scope) == 3);
  CHECK(buffer == "abc");
}

TEST_CASE_FIXTURE(IoTest, "a read takes no more than its buffer holds and leaves the rest for the next") {
  Pair pair = newPair(io);
  pair.peer.send("abcdefgh");
  std::string buffer(5, '.');
  CHECK(readInto(*pair.stream, buffer).wait(scope) == 5);
  CHECK(buffer == "abcde");
  buffer.assign(5, '.');
  CHECK(readInto(*pair.stream, buffer).wait(scope) == 3);
  CHECK(buffer == "fgh..");
}

TEST_CASE_FIXTURE(IoTest, "a read waits for minBytes, and takes more if more is there") {
  Pair pair = newPair(io);
  std::string buffer(10, '.');
  Promise<std::size_t> read = readInto(*pair.stream, buffer, 5);
  REQUIRE(!read.poll(scope));
  pair.peer.send("abc");
  CHECK(takeAfter(read, scope, [&] { pair.peer.send("defg"); }) == 7);
  CHECK(buffer == "abcdefg...");
}

TEST_CASE_FIXTURE(IoTest, "a read of minBytes gets the bytes one at a time and is ready with the last") {
  Pair pair = newPair(io);
  std::string buffer(10, '.');
  Promise<std::size_t> read = readInto(*pair.stream, buffer, 10);
  for (char c = '0'; c < '9'; ++c) {
    REQUIRE(!read.poll(scope));
    pair.peer.send(std::string_view(&c, 1));
  }
  CHECK(takeAfter(read, scope, [&] { pair.peer.send("9"); }) == 10);
  CHECK(buffer == "0123456789");
}

TEST_CASE_FIXTURE(IoTest, "chunk reads get the bytes one at a time as they come") {
  Pair pair = newPair(io);
  for (const char c : std::string("chunk")) {
    Promise<Chunk> read = pair.stream->tryReadChunk();
    const Chunk chunk = takeAfter(read, scope, [&] { pair.peer.send(std::string_view(&c, 1)); });
    CHECK(chunk.text() == std::string_view(&c, 1));
  }
}

TEST_CASE_FIXTURE(IoTest, "a read gets fewer than minBytes at the end of the stream, and then 0 again and again") {
  Pair pair = newPair(io);
  std::string buffer(10, '.');
  Promise<std::size_t> read = readInto(*pair.stream, buffer, 10);
  REQUIRE(!read.poll(scope));
  pair.peer.send("abc");
  CHECK(takeAfter(read, scope, [&] { pair.peer.shutdownWrite(); }) == 3);
  CHECK(buffer == "abc.......");
  for (int i = 0; i < 3; ++i) {
    CHECK(readInto(*pair.stream, buffer, 10).wait(scope) == 0);
    CHECK(pair.stream->tryReadChunk().wait(scope).empty());
  }
  CHECK(buffer == "abc.......");
}

TEST_CASE_FIXTURE(IoTest, "the end of the stream completes a read that waits, with 0 bytes") {
  Pair pair = newPair(io);
  std::string buffer(10, '.');
  Promise<std::size_t> read = readInto(*pair.stream, buffer);
  CHECK(takeAfter(read, scope, [&] { pair.peer.close(); }) == 0);
  Pair other = newPair(io);
  Promise<Chunk> chunk = other.stream->tryReadChunk();
  CHECK(takeAfter(chunk, scope, [&] { other.peer.close(); }).empty());
}

TEST_CASE_FIXTURE(IoTest, "the end of the stream comes after all bytes that were sent before it") {
  Pair pair = newPair(io);
  pair.peer.send("abcdef");
  pair.peer.close();
  scope.poll(); // nobody reads: neither bytes nor end may get lost
  std::string buffer(4, '.');
  CHECK(readInto(*pair.stream, buffer).wait(scope) == 4);
  CHECK(buffer == "abcd");
  CHECK(pair.stream->tryReadChunk().wait(scope).text() == "ef");
  CHECK(readInto(*pair.stream, buffer).wait(scope) == 0);
}

TEST_CASE_FIXTURE(IoTest, "read at the end of a stream is DISCONNECTED and counts the bytes") {
  Pair pair = newPair(io);
  std::string buffer(10, '.');
  Promise<void> read = pair.stream->read(bufferOf(buffer));
  REQUIRE(!read.poll(scope));
  pair.peer.send("abc");
  REQUIRE(!read.poll(scope));
  pair.peer.close();
  REQUIRE(read.poll(scope));
  const Exception e = failureOf(std::move(read), scope);
  CHECK((e.kind() == Exception::Kind::DISCONNECTED));
  CHECK(contains(e.description(), "3 of 10 bytes"));
  CHECK(madeIn(e, "uv_stream_read_test.cc"));
}

TEST_CASE_FIXTURE(IoTest, "a chunk has at most its capacity, and chunks give every size of data in order") {
  for (const std::size_t size : {std::size_t(1), std::size_t(4096), std::size_t(4097), std::size_t(65536), std::size_t(65537),
                                 std::size_t(200'000)}) {
    CAPTURE(size);
    Pair pair = newPair(io);
    const std::string data = numberedBytes(size);
    std::size_t sent = 0;
    std::string got;
    while (got.size() < size) {
      sent += pair.peer.sendSome(std::string_view(data).substr(sent));
      const std::size_t under_way = sent - got.size();
      const Chunk chunk = pair.stream->tryReadChunk().wait(scope);
      REQUIRE(chunk.size() == std::min(under_way, Chunk::CAPACITY));
      got += chunk.text();
    }
    CHECK((got == data));
  }
}

TEST_CASE_FIXTURE(IoTest, "chunks that are kept stay as they are while others are read, by any stream") {
  Pair one = newPair(io);
  Pair two = newPair(io);
  std::vector<Chunk> kept;
  for (const std::size_t size : {std::size_t(5), std::size_t(5000), std::size_t(60'000)}) {
    one.peer.send(numberedBytes(size, 1));
    two.peer.send(numberedBytes(size, 2));
    kept.push_back(one.stream->tryReadChunk().wait(scope));
    kept.push_back(two.stream->tryReadChunk().wait(scope));
  }
  for (std::size_t i = 0; i < kept.size(); ++i) CHECK(areNumbered(kept[i].text(), 1 + i % 2));
}

TEST_CASE_FIXTURE(IoTest, "a stream that waits for a chunk holds no buffer") {
  Pair pair = newPair(io);
  const std::int64_t before = detail::liveBlocks();
  Promise<Chunk> idle = pair.stream->tryReadChunk();
  scope.poll();
  CHECK(detail::liveBlocks() == before);
  {
    const Chunk chunk = takeAfter(idle, scope, [&] { pair.peer.send("abc"); });
    CHECK(detail::liveBlocks() == before + 1); // the chunk's own
  }
  CHECK(detail::liveBlocks() == before);
}

TEST_CASE_FIXTURE(IoTest, "span and chunk reads take turns on one stream") {
  Pair pair = newPair(io);
  std::string all;
  pair.peer.send(numberedBytes(3000));
  while (all.size() < 3000) {
    std::string buffer(700, '.');
    const std::size_t got = readInto(*pair.stream, buffer).wait(scope);
    all += buffer.substr(0, got);
    if (all.size() < 3000) all += pair.stream->tryReadChunk().wait(scope).text();
  }
  CHECK(areNumbered(all));
}

// ------------------------------------------------------------------------------------------- misuse

TEST_CASE_FIXTURE(IoTest, "a read while another is pending is refused, and the pending one goes on") {
  Pair pair = newPair(io);
  std::string buffer(4, '.');
  std::string other(4, '.');
  Promise<std::size_t> read = readInto(*pair.stream, buffer);
  for (const Exception& e : {thrownBy([&] { (void)pair.stream->tryRead(bufferOf(other)); }),
                             thrownBy([&] { (void)pair.stream->tryReadChunk(); }),
                             thrownBy([&] { (void)pair.stream->read(bufferOf(other)); })}) {
    CHECK((e.kind() == Exception::Kind::FAILED));
    CHECK(contains(e.description(), "another read"));
    CHECK(madeIn(e, "uv_stream_read_test.cc"));
  }
  CHECK(takeAfter(read, scope, [&] { pair.peer.send("abc"); }) == 3);
  CHECK(buffer == "abc.");
  CHECK(other == "....");
}

TEST_CASE_FIXTURE(IoTest, "a read while a chunk read is pending is refused, and the pending one goes on") {
  Pair pair = newPair(io);
  std::string buffer(4, '.');
  Promise<Chunk> read = pair.stream->tryReadChunk();
  CHECK((thrownBy([&] { (void)pair.stream->tryReadChunk(); }).kind() == Exception::Kind::FAILED));
  CHECK((thrownBy([&] { (void)readInto(*pair.stream, buffer); }).kind() == Exception::Kind::FAILED));
  CHECK(takeAfter(read, scope, [&] { pair.peer.send("abc"); }).text() == "abc");
}

TEST_CASE_FIXTURE(IoTest, "a read is refused while the result of the last has not been taken") {
  Pair pair = newPair(io);
  std::string buffer(4, '.');
  std::string other(4, '.');
  Promise<std::size_t> read = readInto(*pair.stream, buffer);
  pair.peer.send("abc");
  REQUIRE(read.poll(scope));
  const Exception e = thrownBy([&] { (void)readInto(*pair.stream, other); });
  CHECK((e.kind() == Exception::Kind::FAILED));
  CHECK(contains(e.description(), "not been taken"));
  CHECK(madeIn(e, "uv_stream_read_test.cc"));
  CHECK(std::move(read).wait(scope) == 3);
  CHECK(buffer == "abc.");
}

TEST_CASE_FIXTURE(IoTest, "minBytes of 0 or above the buffer's size is refused, with the numbers") {
  Pair pair = newPair(io);
  std::string buffer(4, '.');
  for (const std::size_t minBytes : {std::size_t(0), std::size_t(5), SIZE_MAX}) {
    CAPTURE(minBytes);
    const Exception e = thrownBy([&] { (void)pair.stream->tryRead(bufferOf(buffer), minBytes); });
    CHECK((e.kind() == Exception::Kind::FAILED));
    CHECK(contains(e.description(), "minBytes is " + std::to_string(minBytes)));
    CHECK(contains(e.description(), "size, 4"));
    CHECK(madeIn(e, "uv_stream_read_test.cc"));
  }
  pair.peer.send("abcd");
  CHECK(readInto(*pair.stream, buffer, 4).wait(scope) == 4); // the stream is as usable as before
}

TEST_CASE_FIXTURE(IoTest, "reading into an empty buffer is refused, since 0 would look like the end") {
  Pair pair = newPair(io);
  for (const std::size_t minBytes : {std::size_t(0), std::size_t(1)}) {
    const Exception e = thrownBy([&] { (void)pair.stream->tryRead({}, minBytes); });
    CHECK((e.kind() == Exception::Kind::FAILED));
    CHECK(contains(e.description(), "buffer is empty"));
    CHECK(madeIn(e, "uv_stream_read_test.cc"));
  }
}

// ------------------------------------------------------------------------------------------- errors

TEST_CASE_FIXTURE(IoTest, "a reset by the peer rejects the pending read, and every later one the same way (S5)") {
  Pair pair = newTcpPair(io);
  std::string buffer(4, '.');
  Promise<std::size_t> read = readInto(*pair.stream, buffer);
  REQUIRE(!read.poll(scope));
  pair.peer.reset();
  const Exception first = failureOf(std::move(read), scope);
  const Exception second = failureOf(readInto(*pair.stream, buffer), scope);
  const Exception third = failureOf(pair.stream->tryReadChunk(), scope);
  const Exception fourth = failureOf(pair.stream->read(bufferOf(buffer)), scope);
  for (const Exception& e : {first, second, third, fourth}) {
    CHECK((e.kind() == Exception::Kind::DISCONNECTED));
    CHECK((e.code() == std::errc::connection_reset));
    CHECK(contains(e.description(), "ECONNRESET"));
    CHECK(madeIn(e, "uv_stream_read_test.cc"));
  }
  CHECK(buffer == "....");
}

TEST_CASE_FIXTURE(IoTest, "a reset by the peer rejects the pending chunk read (S5)") {
  Pair pair = newTcpPair(io);
  Promise<Chunk> read = pair.stream->tryReadChunk();
  REQUIRE(!read.poll(scope));
  pair.peer.reset();
  const Exception e = failureOf(std::move(read), scope);
  CHECK((e.kind() == Exception::Kind::DISCONNECTED));
  CHECK((e.code() == std::errc::connection_reset));
}

TEST_CASE_FIXTURE(IoTest, "a reset that comes when nobody reads is what the next read reports (S5)") {
  Pair pair = newTcpPair(io);
  { // reading has begun, so the handle is watched
    const Promise<Chunk> read = pair.stream->tryReadChunk();
    scope.poll();
  }
  pair.peer.reset();
  CHECK(sleeps(*this));
  const Exception e = failureOf(pair.stream->tryReadChunk(), scope);
  CHECK((e.kind() == Exception::Kind::DISCONNECTED));
  CHECK((e.code() == std::errc::connection_reset));
}

TEST_CASE_FIXTURE(IoTest, "what is behind urgent data is read, too, when both directions have ended") {
  Pair pair = newTcpPair(io);
  pair.stream->shutdownWrite();
  REQUIRE(sleeps(*this)); // the peer has been told
  pair.peer.send("before ");
  REQUIRE(::send(pair.peer.fd(), "!", 1, MSG_OOB) == 1); // where each read of the system stops
  pair.peer.send("behind");
  pair.peer.close();
  CHECK(pair.stream->readAllText(100).wait(scope) == "before behind");
}

TEST_CASE_FIXTURE(IoTest, "bytes that arrived before a reset can still be read, and are not followed by a clean end (S5)") {
  Pair pair = newTcpPair(io);
  std::string buffer(10, '.');
  Promise<std::size_t> read = readInto(*pair.stream, buffer, 10);
  REQUIRE(!read.poll(scope));
  pair.peer.send("abc");
  for (int i = 0; i < 100; ++i) scope.poll(); // the bytes are collected before the reset comes
  pair.peer.reset();
  const Exception e = failureOf(std::move(read), scope);
  CHECK((e.kind() == Exception::Kind::DISCONNECTED));
  CHECK(readInto(*pair.stream, buffer, 3).wait(scope) == 3); // given back
  CHECK(buffer.substr(0, 3) == "abc");
  CHECK((failureOf(readInto(*pair.stream, buffer), scope).kind() == Exception::Kind::DISCONNECTED));
}

TEST_CASE_FIXTURE(IoTest, "bytes and a reset that are noticed together are no clean end of the stream (S5)") {
  Pair pair = newTcpPair(io);
  pair.peer.send("abc");
  pair.peer.reset();
  std::string buffer(10, '.');
  CHECK(readInto(*pair.stream, buffer).wait(scope) == 3);
  CHECK(buffer.substr(0, 3) == "abc");
  const Exception e = failureOf(pair.stream->tryReadChunk(), scope);
  CHECK((e.kind() == Exception::Kind::DISCONNECTED));
}

TEST_CASE_FIXTURE(IoTest, "a reset that a write has noticed is no clean end for reads (S5)") {
  Pair pair = newTcpPair(io);
  pair.peer.reset();
  const Exception written = failureOf(pair.stream->write("x"), scope);
  REQUIRE((written.kind() == Exception::Kind::DISCONNECTED));
  const Exception e = failureOf(pair.stream->tryReadChunk(), scope);
  CHECK((e.kind() == Exception::Kind::DISCONNECTED));
}

// ------------------------------------------------------------------------------------ back-pressure

TEST_CASE_FIXTURE(IoTest, "without a reader the bytes stay in the kernel, the peer's buffer fills, and the loop sleeps (S3)") {
  Pair pair = newPair(io);
  const std::int64_t before = detail::liveBlocks();
  { // reading has begun once
    const Promise<Chunk> read = pair.stream->tryReadChunk();
    scope.poll();
  }
  const std::string data = numberedBytes(4 << 20);
  std::size_t sent = 0;
  for (int i = 0; i < 20; ++i) {
    sent += pair.peer.sendSome(std::string_view(data).substr(sent));
    scope.poll();
  }
  CHECK(sent < data.size());                                             // nobody took what the kernel has no room for
  CHECK(pair.peer.sendSome(std::string_view(data).substr(sent)) == 0);
  CHECK(detail::liveBlocks() == before);
  CHECK(sleeps(*this));
  CHECK(activeHandles(*this, "pipe") == 0);

  std::string got;
  while (got.size() < data.size()) {
    got += pair.stream->tryReadChunk().wait(scope).text();
    sent += pair.peer.sendSome(std::string_view(data).substr(sent));
  }
  CHECK((got == data));
}

TEST_CASE_FIXTURE(IoTest, "a reader that asks again in time finds the handle still started") {
  Pair pair = newPair(io);
  for (int i = 0; i < 5; ++i) {
    Promise<Chunk> read = pair.stream->tryReadChunk();
    CHECK(takeAfter(read, scope, [&] { pair.peer.send("abc"); }).text() == "abc");
    CHECK(activeHandles(*this, "pipe") == 1);
  }
}

TEST_CASE_FIXTURE(IoTest, "a reader that comes back after a long absence gets the bytes that waited") {
  Pair pair = newPair(io);
  std::string all;
  for (std::size_t i = 0; i < 10; ++i) {
    pair.peer.send(numberedBytes(1000, i * 1000));
    CHECK(sleeps(*this));
    all += pair.stream->tryReadChunk().wait(scope).text();
  }
  CHECK(areNumbered(all));
  CHECK(all.size() == 10'000);
}

TEST_CASE_FIXTURE(IoTest, "the end of a stream that nobody reads does not keep the loop busy") {
  Pair pair = newTcpPair(io);
  {
    const Promise<Chunk> read = pair.stream->tryReadChunk();
    scope.poll();
  }
  pair.peer.close();
  CHECK(sleeps(*this));
  CHECK(pair.stream->tryReadChunk().wait(scope).empty());
  CHECK(sleeps(*this));
}
