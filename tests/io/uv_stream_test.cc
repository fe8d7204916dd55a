// SPDX-License-Identifier: MIT
// Tests of ownership: streams, their operations and what these give go in any order.
#include "peer.h"

#include <troth/io/uv_stream.h>
#include <troth/runtime/uv/uv_event_port.h>

#include <string>

using namespace troth;
using namespace troth::test;

TEST_CASE_FIXTURE(IoTest, "a stream closes its socket when it goes") {
  Pair pair = newPair(io);
  CHECK(!pair.peer.isReadable());
  pair.stream.reset();
  CHECK(pair.peer.isAtEnd());
}

TEST_CASE_FIXTURE(IoTest, "a stream that is destroyed under a pending read rejects it (R9)") {
  Pair pair = newPair(io);
  auto buffer = std::make_unique<std::string>(8, '.');
  Promise<std::size_t> read = pair.stream->tryRead(bufferOf(*buffer));
  REQUIRE(!read.poll(scope));
  pair.stream.reset();
  REQUIRE(read.poll(scope));
  CHECK(*buffer == "........");
  buffer.reset(); // the read has ended: nobody comes here any more
  const Exception e = failureOf(std::move(read), scope);
  CHECK((e.kind() == Exception::Kind::DISCONNECTED));
  CHECK(contains(e.description(), "stream was destroyed"));
  CHECK(madeIn(e, "uv_stream_test.cc"));
}

TEST_CASE_FIXTURE(IoTest, "a stream that is destroyed under a read with a part of its bytes rejects it (R9)") {
  Pair pair = newPair(io);
  std::string buffer(8, '.');
  Promise<void> read = pair.stream->read(bufferOf(buffer));
  pair.peer.send("abc");
  REQUIRE(!read.poll(scope));
  pair.stream.reset();
  REQUIRE(read.poll(scope));
  CHECK((failureOf(std::move(read), scope).kind() == Exception::Kind::DISCONNECTED));
}

TEST_CASE_FIXTURE(IoTest, "a stream that is destroyed under a pending chunk read rejects it (R9)") {
  Pair pair = newPair(io);
  Promise<Chunk> read = pair.stream->tryReadChunk();
  REQUIRE(!read.poll(scope));
  pair.stream.reset();
  REQUIRE(read.poll(scope));
  const Exception e = failureOf(std::move(read), scope);
  CHECK((e.kind() == Exception::Kind::DISCONNECTED));
  CHECK(contains(e.description(), "stream was destroyed"));
}

TEST_CASE_FIXTURE(IoTest, "a stream that is destroyed under a pending write rejects it (R9)") {
  Pair pair = newPair(io, {4096, 4096});
  auto data = std::make_unique<std::string>(numberedBytes(1 << 20));
  Promise<void> write = pair.stream->write(*data);
  REQUIRE(!write.poll(scope));
  pair.stream.reset();
  REQUIRE(write.poll(scope));
  data.reset();
  const Exception e = failureOf(std::move(write), scope);
  CHECK((e.kind() == Exception::Kind::DISCONNECTED));
  CHECK(contains(e.description(), "stream was destroyed"));
  CHECK(madeIn(e, "uv_stream_test.cc"));
  CHECK(areNumbered(receiveWhileRunning(*this, pair.peer, 1 << 20)));
}

TEST_CASE_FIXTURE(IoTest, "a stream that is destroyed under a read and a write rejects both, and they may go in any order (R9)") {
  for (const bool readFirst : {false, true}) {
    CAPTURE(readFirst);
    Pair pair = newTcpPair(io, {4096, 4096});
    const std::string data = numberedBytes(4 << 20);
    std::optional<Promise<Chunk>> read = pair.stream->tryReadChunk();
    std::optional<Promise<void>> write = pair.stream->write(data);
    REQUIRE(!write->poll(scope));
    pair.stream.reset();
    if (readFirst) read.reset();
    if (!readFirst) write.reset();
    scope.poll();
    if (read) CHECK((failureOf(std::move(*read), scope).kind() == Exception::Kind::DISCONNECTED));
    if (write) CHECK((failureOf(std::move(*write), scope).kind() == Exception::Kind::DISCONNECTED));
  }
}

TEST_CASE_FIXTURE(IoTest, "promises may be destroyed after the stream without ever running (R9)") {
  Pair pair = newPair(io, {4096, 4096});
  const std::string data = numberedBytes(1 << 20);
  std::string buffer(8, '.');
  {
    const Promise<void> write = pair.stream->write(data);
    const Promise<std::size_t> read = pair.stream->tryRead(bufferOf(buffer));
    pair.stream.reset();
  }
  {
    Pair other = newPair(io, {4096, 4096});
    Promise<void> write = other.stream->write(data);
    Promise<Chunk> read = other.stream->tryReadChunk();
    REQUIRE(!read.poll(scope));
    other.stream.reset();
    scope.poll();
  }
  CHECK(buffer == "........");
}

TEST_CASE_FIXTURE(IoTest, "a read that is ready gives its bytes also after the stream has gone") {
  Pair pair = newPair(io);
  std::string buffer(8, '.');
  Promise<std::size_t> read = pair.stream->tryRead(bufferOf(buffer));
  pair.peer.send("abc");
  REQUIRE(read.poll(scope));
  pair.stream.reset();
  scope.poll();
  CHECK(std::move(read).wait(scope) == 3);
  CHECK(buffer == "abc.....");
}

TEST_CASE_FIXTURE(IoTest, "a chunk read that is ready gives its chunk also after the stream has gone, and the chunk outlives both") {
  Pair pair = newPair(io);
  pair.peer.send(numberedBytes(5000));
  Promise<Chunk> read = pair.stream->tryReadChunk();
  REQUIRE(read.poll(scope));
  pair.stream.reset();
  scope.poll();
  const Chunk chunk = std::move(read).wait(scope);
  CHECK(chunk.size() == 5000);
  CHECK(areNumbered(chunk.text()));
}

TEST_CASE_FIXTURE(IoTest, "a ready read that is dropped after its stream leaves nothing") {
  Pair pair = newPair(io);
  pair.peer.send(numberedBytes(5000));
  {
    Promise<Chunk> read = pair.stream->tryReadChunk();
    REQUIRE(read.poll(scope));
    pair.stream.reset();
  }
  CHECK(pair.peer.isClosed());
}

TEST_CASE_FIXTURE(IoTest, "a continuation of a read may destroy the stream") {
  Pair pair = newPair(io);
  Promise<void> read = pair.stream->tryReadChunk().then([&](Chunk chunk) {
    pair.stream.reset();
    CHECK(chunk.text() == "abc");
  });
  pair.peer.send("abc");
  REQUIRE(read.poll(scope));
  std::move(read).wait(scope);
  CHECK(pair.peer.isAtEnd());
}

TEST_CASE_FIXTURE(IoTest, "a read's continuation may begin the next read") {
  Pair pair = newPair(io);
  Promise<std::string> both = pair.stream->tryReadChunk().then([&](Chunk first) {
    return pair.stream->tryReadChunk().then([text = std::string(first.text())](Chunk second) { return text + std::string(second.text()); });
  });
  pair.peer.send("abc");
  CHECK(takeAfter(both, scope, [&] { pair.peer.send("def"); }) == "abcdef");
}

TEST_CASE_FIXTURE(IoTest, "a hundred streams are read in one batch, each its own bytes") {
  std::vector<Pair> pairs;
  std::vector<Promise<Chunk>> reads;
  for (int i = 0; i < 100; ++i) {
    pairs.push_back(newPair(io));
    reads.push_back(pairs.back().stream->tryReadChunk());
  }
  scope.poll();
  for (std::size_t i = 0; i < 100; ++i) pairs[i].peer.send("stream " + std::to_string(i));
  scope.poll();
  for (std::size_t i = 0; i < 100; ++i) {
    REQUIRE(reads[i].poll(scope));
    CHECK(std::move(reads[i]).wait(scope).text() == "stream " + std::to_string(i));
  }
}

TEST_CASE("a context may go while libuv still has a cancelled write's bytes (R13)") {
  IoTest test;
  Pair pair = newPair(test.io, {4096, 4096});
  const std::string data = numberedBytes(1 << 20);
  {
    Promise<void> write = pair.stream->write(data);
    REQUIRE(!write.poll(test.scope));
  }
  pair.stream->shutdownWrite();
  pair.stream.reset();
  // No turn of the loop between this and the end of the context: its destructor sees to it all.
}
