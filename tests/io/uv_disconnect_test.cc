// SPDX-License-Identifier: MIT
// Tests of whenWriteDisconnected() and abortRead() of libuv streams.
#include "peer.h"

#include <troth/runtime/uv/uv_event_port.h>

#include <sys/socket.h>

#include <string>
#include <vector>

using namespace troth;
using namespace troth::test;

// ------------------------------------------------------------------------------ whenWriteDisconnected

TEST_CASE_FIXTURE(IoTest, "a local peer that closes disconnects writing, whatever it has left unread (S5)") {
  for (const bool unread : {false, true}) {
    CAPTURE(unread);
    Pair pair = newPair(io);
    if (unread) pair.stream->write("unread").wait(scope);
    Promise<void> gone = pair.stream->whenWriteDisconnected();
    takeAfter(gone, scope, [&] { pair.peer.close(); });
  }
}

TEST_CASE_FIXTURE(IoTest, "a TCP peer that resets disconnects writing (S5)") {
  Pair pair = newTcpPair(io);
  Promise<void> gone = pair.stream->whenWriteDisconnected();
  REQUIRE(!gone.poll(scope));
  pair.peer.reset();
  std::move(gone).wait(scope);
}

TEST_CASE_FIXTURE(IoTest, "a half-close does not disconnect writing, nor makes it the loop turn for nothing (S4)") {
  for (const bool tcp : {false, true}) {
    CAPTURE(tcp);
    Pair pair = tcp ? newTcpPair(io) : newPair(io);
    Promise<void> gone = pair.stream->whenWriteDisconnected();
    pair.peer.shutdownWrite();
    CHECK(pair.stream->tryReadChunk().wait(scope).empty());
    REQUIRE(!gone.poll(scope));
    CHECK(sleeps(*this));
    pair.stream->write("still here").wait(scope);
    CHECK(pair.peer.receive(10) == "still here");
    if (tcp)
      pair.peer.reset();
    else
      pair.peer.close();
    std::move(gone).wait(scope);
  }
}

TEST_CASE_FIXTURE(IoTest, "when both directions have ended, writing is disconnected (S4)") {
  Pair pair = newTcpPair(io);
  Promise<void> gone = pair.stream->whenWriteDisconnected();
  pair.stream->shutdownWrite();
  REQUIRE(!gone.poll(scope));
  pair.peer.shutdownWrite();
  std::move(gone).wait(scope);
}

TEST_CASE_FIXTURE(IoTest, "a TCP peer that has merely closed is noticed by writing (S5)") {
  Pair pair = newTcpPair(io);
  Promise<void> gone = pair.stream->whenWriteDisconnected();
  pair.peer.close();
  CHECK(pair.stream->tryReadChunk().wait(scope).empty());
  REQUIRE(!gone.poll(scope));
  pair.stream->write("is anybody there?").wait(scope);
  std::move(gone).wait(scope);
}

TEST_CASE_FIXTURE(IoTest, "a write that fails disconnects writing, for those who ask before and after, also without a descriptor to spare") {
  Pair pair = newPair(io);
  DescriptorLimit limit;
  Promise<void> before = pair.stream->whenWriteDisconnected();
  pair.peer.close();
  REQUIRE(!before.poll(scope));
  limit.lift();
  CHECK((failureOf(pair.stream->write("x"), scope).kind() == Exception::Kind::DISCONNECTED));
  REQUIRE(before.poll(scope));
  std::move(before).wait(scope);
  pair.stream->whenWriteDisconnected().wait(scope);
}

TEST_CASE_FIXTURE(IoTest, "any number may ask; the watch is there while one of them waits, and can come again") {
  Pair pair = newPair(io);
  const std::size_t handles = activeHandles(*this, "poll");
  const std::size_t descriptors = openDescriptors();
  for (int round = 0; round < 2; ++round) {
    std::vector<Promise<void>> askers;
    for (int i = 0; i < 3; ++i) askers.push_back(pair.stream->whenWriteDisconnected());
    CHECK(activeHandles(*this, "poll") == handles + 1);
    CHECK(openDescriptors() == descriptors + 1);
    askers.erase(askers.begin() + 1);
    REQUIRE(!askers[0].poll(scope));
    CHECK(activeHandles(*this, "poll") == handles + 1);
    askers.clear();
    CHECK(activeHandles(*this, "poll") == handles);
    CHECK(openDescriptors() == descriptors);
  }
  Promise<void> first = pair.stream->whenWriteDisconnected();
  Promise<void> second = pair.stream->whenWriteDisconnected();
  takeAfter(first, scope, [&] { pair.peer.close(); });
  REQUIRE(second.poll(scope));
  CHECK(activeHandles(*this, "poll") == handles);
  pair.stream->whenWriteDisconnected().wait(scope); // it still is
}

TEST_CASE_FIXTURE(IoTest, "urgent data is no disconnection, and does not make the loop turn for nothing") {
  Pair pair = newTcpPair(io);
  Promise<void> gone = pair.stream->whenWriteDisconnected();
  REQUIRE(!gone.poll(scope));
  REQUIRE(::send(pair.peer.fd(), "!", 1, MSG_OOB) == 1);
  pair.peer.send("abc");
  CHECK(pair.stream->tryReadChunk().wait(scope).text() == "abc");
  REQUIRE(!gone.poll(scope));
  CHECK(sleeps(*this));
  pair.peer.reset();
  std::move(gone).wait(scope);
}

TEST_CASE_FIXTURE(IoTest, "a stream that is destroyed is disconnected to those who ask; they may go before and after it (R9)") {
  Pair pair = newPair(io);
  Promise<void> gone = pair.stream->whenWriteDisconnected();
  {
    const Promise<void> dropped = pair.stream->whenWriteDisconnected();
  }
  Promise<void> neverRun = pair.stream->whenWriteDisconnected();
  takeAfter(gone, scope, [&] { pair.stream.reset(); });
}

TEST_CASE_FIXTURE(IoTest, "somebody may ask while a read and a write are pending") {
  Pair pair = newPair(io, {4096, 4096});
  const std::string data = numberedBytes(1 << 20);
  Promise<Chunk> read = pair.stream->tryReadChunk();
  Promise<void> write = pair.stream->write(data);
  Promise<void> gone = pair.stream->whenWriteDisconnected();
  REQUIRE(!gone.poll(scope));
  CHECK(sleeps(*this));
  pair.peer.close();
  std::move(gone).wait(scope);
  CHECK((failureOf(std::move(write), scope).kind() == Exception::Kind::DISCONNECTED));
}

// ------------------------------------------------------------------------------------------ abortRead

TEST_CASE_FIXTURE(IoTest, "abortRead fails the pending read and later ones, and says so; writing goes on") {
  for (const bool tcp : {false, true}) {
    CAPTURE(tcp);
    Pair pair = tcp ? newTcpPair(io) : newPair(io);
    std::string buffer(8, '.');
    Promise<std::size_t> read = pair.stream->tryRead(bufferOf(buffer), 8);
    REQUIRE(!read.poll(scope));
    pair.stream->abortRead();
    REQUIRE(read.poll(scope));
    for (const Exception& e : {failureOf(std::move(read), scope), failureOf(pair.stream->tryReadChunk(), scope),
                               failureOf(pair.stream->tryRead(bufferOf(buffer)), scope)}) {
      CHECK((e.kind() == Exception::Kind::DISCONNECTED));
      CHECK(contains(e.description(), "abortRead"));
      CHECK(madeIn(e, "uv_disconnect_test.cc"));
    }
    pair.stream->write("still here").wait(scope);
    CHECK(pair.peer.receive(10) == "still here");
    pair.stream->abortRead(); // once more does no harm
  }
}

TEST_CASE_FIXTURE(IoTest, "after abortRead a local peer's writes fail") {
  StreamPair pair = newStreamPair(io);
  pair.left->abortRead();
  CHECK((failureOf(pair.right->write("x"), scope).kind() == Exception::Kind::DISCONNECTED));
  pair.left->write("still here").wait(scope);
  CHECK(pair.right->tryReadChunk().wait(scope).text() == "still here");
}

TEST_CASE_FIXTURE(IoTest, "after abortRead no read gives the bytes that were there, or that a read gives back") {
  Pair pair = newPair(io);
  std::string buffer(8, '.');
  pair.peer.send("abc");
  { // given back before
    Promise<std::size_t> read = pair.stream->tryRead(bufferOf(buffer));
    REQUIRE(read.poll(scope));
  }
  Promise<std::size_t> partial = pair.stream->tryRead(bufferOf(buffer), 8);
  REQUIRE(!partial.poll(scope));
  pair.stream->abortRead();
  CHECK((failureOf(std::move(partial), scope).kind() == Exception::Kind::DISCONNECTED));
  CHECK((failureOf(pair.stream->tryReadChunk(), scope).kind() == Exception::Kind::DISCONNECTED));

  Pair other = newPair(io);
  other.peer.send("abc");
  {
    Promise<Chunk> ready = other.stream->tryReadChunk();
    REQUIRE(ready.poll(scope));
    other.stream->abortRead();
  } // given back after
  CHECK((failureOf(other.stream->tryReadChunk(), scope).kind() == Exception::Kind::DISCONNECTED));
}

TEST_CASE_FIXTURE(IoTest, "a read that is ready when reading is given up may still be taken") {
  Pair pair = newPair(io);
  pair.peer.send("abc");
  Promise<Chunk> ready = pair.stream->tryReadChunk();
  REQUIRE(ready.poll(scope));
  pair.stream->abortRead();
  CHECK(std::move(ready).wait(scope).text() == "abc");
}

// ------------------------------------------------------------------------------------ half-close (S4)

TEST_CASE_FIXTURE(IoTest, "after the end of the stream each read gives the end again (S4)") {
  for (const bool tcp : {false, true}) {
    CAPTURE(tcp);
    Pair pair = tcp ? newTcpPair(io) : newPair(io);
    pair.peer.send("abc");
    pair.peer.shutdownWrite();
    std::string buffer(8, '.');
    CHECK(pair.stream->tryRead(bufferOf(buffer), 8).wait(scope) == 3);
    CHECK(pair.stream->tryRead(bufferOf(buffer), 8).wait(scope) == 0);
    CHECK(pair.stream->tryReadChunk().wait(scope).empty());
    CHECK(pair.stream->tryReadChunk().wait(scope).empty());
  }
}

TEST_CASE_FIXTURE(IoTest, "shutdownWrite before anything was written ends the stream (S4)") {
  for (const bool tcp : {false, true}) {
    CAPTURE(tcp);
    Pair pair = tcp ? newTcpPair(io) : newPair(io);
    pair.stream->shutdownWrite();
    scope.poll();
    CHECK(pair.peer.isAtEnd());
    pair.peer.send("answer");
    CHECK(pair.stream->tryReadChunk().wait(scope).text() == "answer");
  }
}

TEST_CASE("waiting for a disconnection can be cancelled at every step (R5)") {
  const auto body = [](IoTest& test) -> Promise<void> {
    Pair pair = newPair(test.io);
    Promise<void> gone = pair.stream->whenWriteDisconnected();
    Promise<void> other = pair.stream->whenWriteDisconnected();
    co_await pair.stream->write("x");
    pair.peer.close();
    co_await std::move(gone);
    co_await std::move(other);
  };
  CHECK(cancelSweep(std::function<Promise<void>(IoTest&)>(body)) > 1);
}
