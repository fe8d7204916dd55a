// SPDX-License-Identifier: MIT
// Tests of writing to a libuv stream: pieces, back-pressure, shutting down, errors, misuse, cancellation.
#include "peer.h"

#include <troth/io/uv_stream.h>
#include <troth/runtime/uv/uv_event_port.h>

#include <array>
#include <csignal>
#include <random>
#include <string>
#include <vector>

using namespace troth;
using namespace troth::test;

namespace {

// Little room, so that a write does not complete at once.
constexpr Buffers SMALL{4096, 4096};

std::vector<std::span<const std::byte>> cut(std::string_view text, std::size_t size) {
  std::vector<std::span<const std::byte>> pieces;
  for (std::size_t at = 0; at < text.size(); at += size) pieces.push_back(asBytes(text.substr(at, size)));
  return pieces;
}

struct sigaction currentAction(int signal) {
  struct sigaction action {};
  REQUIRE(sigaction(signal, nullptr, &action) == 0);
  return action;
}

} // namespace

TEST_CASE_FIXTURE(IoTest, "a write that the system takes is ready at once, and the peer has the bytes") {
  Pair pair = newPair(io);
  Promise<void> write = pair.stream->write("hello");
  CHECK(pair.peer.receive(5) == "hello");
  REQUIRE(write.poll(scope));
  std::move(write).wait(scope);
}

TEST_CASE_FIXTURE(IoTest, "a write of nothing is ready at once, whether one piece, several empty ones or none") {
  Pair pair = newPair(io);
  pair.stream->write("").wait(scope);
  const std::vector<std::span<const std::byte>> none;
  pair.stream->write(none).wait(scope);
  const std::vector<std::span<const std::byte>> empty(40);
  pair.stream->write(empty).wait(scope);
  CHECK(!pair.peer.isReadable());
  pair.stream->write("x").wait(scope);
  CHECK(pair.peer.receive(1) == "x");
}

TEST_CASE_FIXTURE(IoTest, "several pieces arrive in order as one, empty ones left out") {
  Pair pair = newPair(io);
  const std::vector<std::span<const std::byte>> pieces = {asBytes(""), asBytes("ab"), asBytes(""), asBytes("c"), asBytes("defg"), asBytes("")};
  pair.stream->write(pieces).wait(scope);
  CHECK(pair.peer.receiveSome() == "abcdefg");
}

TEST_CASE_FIXTURE(IoTest, "any number of pieces arrives in order, also more than one system call takes") {
  for (const std::size_t count : {std::size_t(16), std::size_t(17), std::size_t(1024), std::size_t(1025), std::size_t(3000)}) {
    CAPTURE(count);
    Pair pair = newPair(io);
    const std::string data = numberedBytes(count * 3);
    std::vector<std::span<const std::byte>> pieces = cut(data, 3);
    pieces.insert(pieces.begin() + 7, std::span<const std::byte>());
    Promise<void> write = pair.stream->write(pieces);
    pieces.clear(); // the array is needed only during the call
    pieces.shrink_to_fit();
    REQUIRE(write.poll(scope));
    std::move(write).wait(scope);
    CHECK((pair.peer.receive(data.size()) == data));
  }
}

TEST_CASE_FIXTURE(IoTest, "any number of pieces that the system takes is with the peer at once") {
  for (const std::size_t count : {std::size_t(2), std::size_t(16), std::size_t(17), std::size_t(3000)}) {
    CAPTURE(count);
    Pair pair = newPair(io);
    const std::string data = numberedBytes(count * 3);
    Promise<void> write = pair.stream->write(cut(data, 3));
    CHECK((pair.peer.receive(data.size()) == data)); // the loop has not run
    std::move(write).wait(scope);
  }
}

TEST_CASE_FIXTURE(IoTest, "any number of pieces that the system takes needs no memory") {
  Pair pair = newPair(io);
  const std::string data = numberedBytes(3000);
  const std::vector<std::span<const std::byte>> pieces = cut(data, 3);
  const std::int64_t before = detail::liveBlocks();
  Promise<void> write = pair.stream->write(pieces);
  CHECK(detail::liveBlocks() == before);
  std::move(write).wait(scope);
  CHECK((pair.peer.receive(data.size()) == data));
}

TEST_CASE_FIXTURE(IoTest, "pieces of all sizes, empty ones among them, arrive in order, however little the socket takes") {
  std::mt19937 random(20'26);
  for (int round = 0; round < 20; ++round) {
    CAPTURE(round);
    Pair pair = newPair(io, SMALL);
    const std::string data = numberedBytes(200'000);
    std::vector<std::span<const std::byte>> pieces;
    for (std::size_t at = 0; at < data.size();) {
      const std::size_t most = std::array<std::size_t, 3>{3, 300, 20'000}[random() % 3];
      const std::size_t size = std::min(random() % most, data.size() - at);
      pieces.push_back(asBytes(std::string_view(data).substr(at, size)));
      at += size;
    }
    Promise<void> write = pair.stream->write(pieces);
    CHECK((receiveWhileRunning(*this, pair.peer, data.size(), 5000) == data));
    std::move(write).wait(scope);
  }
}

TEST_CASE_FIXTURE(IoTest, "a peer that has gone fails a write of many pieces") {
  Pair pair = newPair(io);
  pair.peer.close();
  const std::string data = numberedBytes(1000);
  const std::vector<std::span<const std::byte>> pieces = cut(data, 1);
  CHECK((failureOf(pair.stream->write(pieces), scope).kind() == Exception::Kind::DISCONNECTED));
}

TEST_CASE_FIXTURE(IoTest, "pieces that the socket takes only in parts arrive in order") {
  for (const std::size_t size : {std::size_t(100), std::size_t(5000), std::size_t(70'000), std::size_t(300'000)}) {
    CAPTURE(size);
    Pair pair = newPair(io, SMALL);
    const std::string data = numberedBytes(300'000);
    std::vector<std::span<const std::byte>> pieces = cut(data, size);
    Promise<void> write = pair.stream->write(pieces);
    pieces.clear();
    pieces.shrink_to_fit();
    REQUIRE(!write.poll(scope));
    CHECK((receiveWhileRunning(*this, pair.peer, data.size(), 3000) == data));
    REQUIRE(write.poll(scope));
    std::move(write).wait(scope);
  }
}

TEST_CASE_FIXTURE(IoTest, "8 MiB through a small buffer to a slow reader arrive intact (S1)") {
  Pair pair = newPair(io, SMALL);
  const std::string data = numberedBytes(8 << 20);
  Promise<void> write = pair.stream->write(data);
  REQUIRE(!write.poll(scope));
  const std::string got = receiveWhileRunning(*this, pair.peer, data.size(), 16'384);
  CHECK((got == data));
  REQUIRE(write.poll(scope));
  std::move(write).wait(scope);
}

TEST_CASE_FIXTURE(IoTest, "a big write over TCP with a small send buffer arrives intact (S1)") {
  Pair pair = newTcpPair(io, {8192, 0});
  const std::string data = numberedBytes(2 << 20);
  Promise<void> write = pair.stream->write(data);
  const std::string got = receiveWhileRunning(*this, pair.peer, data.size());
  CHECK((got == data));
  std::move(write).wait(scope);
}

TEST_CASE_FIXTURE(IoTest, "writes one after the other arrive in order, whatever of them had to wait") {
  Pair pair = newPair(io, SMALL);
  std::string sent;
  std::string got;
  for (std::size_t i = 0; i < 200; ++i) {
    const std::string data = numberedBytes(1 + i * 37 % 9000, sent.size());
    sent += data;
    Promise<void> write = pair.stream->write(data);
    while (!write.poll(scope)) got += pair.peer.receiveSome(2000);
    std::move(write).wait(scope);
  }
  got += receiveWhileRunning(*this, pair.peer, sent.size() - got.size());
  CHECK((got == sent));
}

TEST_CASE_FIXTURE(IoTest, "a write to a peer that does not read stays pending, with bounded memory, and the loop sleeps (S3)") {
  Pair pair = newPair(io, SMALL);
  const std::int64_t before = detail::liveBlocks();
  const std::string data = numberedBytes(8 << 20);
  Promise<void> write = pair.stream->write(data);
  for (int i = 0; i < 100; ++i) REQUIRE(!write.poll(scope));
  // The operation and one buffer on its way, however much is to be written.
  CHECK(detail::liveBlocks() - before <= 4);
  CHECK(sleeps(*this));
  CHECK(detail::liveBlocks() - before <= 4);
}

TEST_CASE_FIXTURE(IoTest, "a read and a write may be pending at the same time") {
  Pair pair = newPair(io, SMALL);
  const std::string data = numberedBytes(100'000);
  Promise<Chunk> read = pair.stream->tryReadChunk();
  Promise<void> write = pair.stream->write(data);
  REQUIRE(!write.poll(scope));
  CHECK(takeAfter(read, scope, [&] { pair.peer.send("meanwhile"); }).text() == "meanwhile");
  REQUIRE(!write.poll(scope));
  CHECK((receiveWhileRunning(*this, pair.peer, data.size()) == data));
  std::move(write).wait(scope);
}

// ------------------------------------------------------------------------------------------- misuse

TEST_CASE_FIXTURE(IoTest, "a write while another is pending is refused, and the pending one goes on") {
  Pair pair = newPair(io, SMALL);
  const std::string data = numberedBytes(200'000);
  const std::vector<std::span<const std::byte>> pieces = {asBytes("a"), asBytes("b")};
  Promise<void> write = pair.stream->write(data);
  REQUIRE(!write.poll(scope));
  for (const Exception& e : {thrownBy([&] { (void)pair.stream->write("other"); }), thrownBy([&] { (void)pair.stream->write(pieces); }),
                             thrownBy([&] { (void)pair.stream->write(""); })}) {
    CHECK((e.kind() == Exception::Kind::FAILED));
    CHECK(contains(e.description(), "another write"));
    CHECK(madeIn(e, "uv_stream_write_test.cc"));
  }
  CHECK((receiveWhileRunning(*this, pair.peer, data.size()) == data));
  std::move(write).wait(scope);
}

TEST_CASE_FIXTURE(IoTest, "writing after shutdownWrite is refused, of something or of nothing") {
  Pair pair = newPair(io);
  pair.stream->shutdownWrite();
  const std::vector<std::span<const std::byte>> pieces = {asBytes("a"), asBytes("b")};
  for (const Exception& e : {thrownBy([&] { (void)pair.stream->write("late"); }), thrownBy([&] { (void)pair.stream->write(pieces); }),
                             thrownBy([&] { (void)pair.stream->write(""); })}) {
    CHECK((e.kind() == Exception::Kind::FAILED));
    CHECK(contains(e.description(), "shut down"));
    CHECK(madeIn(e, "uv_stream_write_test.cc"));
  }
  CHECK((scope.poll(), pair.peer.isAtEnd()));
}

TEST_CASE_FIXTURE(IoTest, "shutdownWrite while a write is pending is refused, and the write goes on") {
  Pair pair = newPair(io, SMALL);
  const std::string data = numberedBytes(100'000);
  Promise<void> write = pair.stream->write(data);
  REQUIRE(!write.poll(scope));
  const Exception e = thrownBy([&] { pair.stream->shutdownWrite(); });
  CHECK((e.kind() == Exception::Kind::FAILED));
  CHECK(contains(e.description(), "write to this stream is pending"));
  CHECK(madeIn(e, "uv_stream_write_test.cc"));
  CHECK((receiveWhileRunning(*this, pair.peer, data.size()) == data));
  std::move(write).wait(scope);
  pair.stream->shutdownWrite();
  scope.poll();
  CHECK(pair.peer.isAtEnd());
}

// ------------------------------------------------------------------------------- shutting down (S4)

TEST_CASE_FIXTURE(IoTest, "after shutdownWrite the peer reads all bytes and then the end, and reading goes on (S4)") {
  for (const bool tcp : {false, true}) {
    CAPTURE(tcp);
    Pair pair = tcp ? newTcpPair(io) : newPair(io);
    pair.stream->write("last words").wait(scope);
    pair.stream->shutdownWrite();
    pair.stream->shutdownWrite(); // once more does no harm
    scope.poll();
    CHECK(pair.peer.receive(10) == "last words");
    CHECK(pair.peer.isAtEnd());
    pair.peer.send("answer");
    CHECK(pair.stream->tryReadChunk().wait(scope).text() == "answer");
    pair.peer.close();
    CHECK(pair.stream->tryReadChunk().wait(scope).empty());
  }
}

TEST_CASE_FIXTURE(IoTest, "after the peer's half-close writing goes on (S4)") {
  for (const bool tcp : {false, true}) {
    CAPTURE(tcp);
    Pair pair = tcp ? newTcpPair(io) : newPair(io);
    pair.peer.shutdownWrite();
    CHECK(pair.stream->tryReadChunk().wait(scope).empty());
    pair.stream->write("still here").wait(scope);
    CHECK(pair.peer.receive(10) == "still here");
    CHECK(pair.stream->tryReadChunk().wait(scope).empty());
    pair.stream->shutdownWrite();
    scope.poll();
    CHECK(pair.peer.isAtEnd());
  }
}

TEST_CASE_FIXTURE(IoTest, "shutdownWrite ends the stream also if a read is pending, which goes on (S4)") {
  Pair pair = newTcpPair(io);
  Promise<Chunk> read = pair.stream->tryReadChunk();
  REQUIRE(!read.poll(scope));
  pair.stream->shutdownWrite();
  scope.poll();
  CHECK(pair.peer.isAtEnd());
  pair.peer.send("answer");
  CHECK(std::move(read).wait(scope).text() == "answer");
}

TEST_CASE_FIXTURE(IoTest, "a stream that is destroyed right after shutdownWrite still sends what was written (S4)") {
  Pair pair = newTcpPair(io);
  pair.stream->write("last words").wait(scope);
  pair.stream->shutdownWrite();
  pair.stream.reset();
  CHECK(pair.peer.receive(10) == "last words");
  CHECK(pair.peer.isAtEnd());
}

TEST_CASE_FIXTURE(IoTest, "shutdownWrite towards a peer that has gone does no harm (S4, S5)") {
  Pair pair = newTcpPair(io);
  pair.peer.reset();
  CHECK((failureOf(pair.stream->tryReadChunk(), scope).kind() == Exception::Kind::DISCONNECTED));
  pair.stream->shutdownWrite();
  scope.poll();
  CHECK((failureOf(pair.stream->tryReadChunk(), scope).kind() == Exception::Kind::DISCONNECTED));
}

TEST_CASE_FIXTURE(IoTest, "shutdownWrite while the remainder of a cancelled write is on its way ends the stream after it (S4)") {
  Pair pair = newPair(io, SMALL);
  std::string data = numberedBytes(500'000);
  {
    Promise<void> write = pair.stream->write(data);
    REQUIRE(!write.poll(scope));
  }
  pair.stream->shutdownWrite();
  const std::string got = receiveWhileRunning(*this, pair.peer, data.size());
  CHECK(got.size() > 0);
  CHECK(got.size() < data.size());
  CHECK(areNumbered(got));
  CHECK(pair.peer.isAtEnd());
}

// ------------------------------------------------------------------------------------------- errors

TEST_CASE_FIXTURE(IoTest, "a reset by the peer rejects the pending write, and later ones the same way, without a signal (A3, S5)") {
  CHECK((currentAction(SIGPIPE).sa_handler == SIG_IGN));
  Pair pair = newTcpPair(io, SMALL);
  const std::string data = numberedBytes(4 << 20);
  Promise<void> write = pair.stream->write(data);
  REQUIRE(!write.poll(scope));
  pair.peer.reset();
  const Exception first = failureOf(std::move(write), scope);
  CHECK((first.kind() == Exception::Kind::DISCONNECTED));
  CHECK((first.code() == std::errc::connection_reset || first.code() == std::errc::broken_pipe));
  const std::vector<std::span<const std::byte>> pieces = {asBytes("a"), asBytes("b")};
  const Exception second = failureOf(pair.stream->write("more"), scope);
  const Exception third = failureOf(pair.stream->write(pieces), scope);
  for (const Exception& e : {first, second, third}) {
    CHECK((e.kind() == Exception::Kind::DISCONNECTED));
    CHECK((e.code() == first.code()));
    CHECK(madeIn(e, "uv_stream_write_test.cc"));
  }
}

TEST_CASE_FIXTURE(IoTest, "writing to a peer that has closed is DISCONNECTED in the end, without a signal (A3)") {
  for (const bool tcp : {false, true}) {
    CAPTURE(tcp);
    Pair pair = tcp ? newTcpPair(io) : newPair(io);
    pair.peer.close();
    std::optional<Exception> e;
    // TCP tells only with the answer to the first bytes that the peer has gone.
    for (int i = 0; i < 1000 && !e; ++i) {
      try {
        pair.stream->write("x").wait(scope);
      } catch (const Exception& thrown) {
        e = thrown;
      }
    }
    REQUIRE(e.has_value());
    CHECK((e->kind() == Exception::Kind::DISCONNECTED));
    CHECK((e->code() == std::errc::broken_pipe || e->code() == std::errc::connection_reset));
    CHECK(contains(e->description(), "write"));
    const Exception again = failureOf(pair.stream->write("x"), scope);
    CHECK((again.code() == e->code()));
  }
}

TEST_CASE_FIXTURE(IoTest, "a peer that closes while a write waits rejects it") {
  Pair pair = newPair(io, SMALL);
  const std::string data = numberedBytes(1 << 20);
  Promise<void> write = pair.stream->write(data);
  REQUIRE(!write.poll(scope));
  pair.peer.close();
  REQUIRE(write.poll(scope));
  CHECK((failureOf(std::move(write), scope).kind() == Exception::Kind::DISCONNECTED));
}

TEST_CASE_FIXTURE(IoTest, "a loop of the library's own ignores SIGPIPE if it has its default action, and nothing else (A3)") {
  void (*const before)(int) = currentAction(SIGPIPE).sa_handler;
  std::signal(SIGPIPE, SIG_DFL);
  { const UvEventPort port; }
  CHECK((currentAction(SIGPIPE).sa_handler == SIG_IGN));
  const auto own = [](int) {};
  std::signal(SIGPIPE, own);
  { const UvEventPort port; }
  CHECK((currentAction(SIGPIPE).sa_handler == +own));
  std::signal(SIGPIPE, before);
}

// ------------------------------------------------------------------------------------- cancellation

TEST_CASE_FIXTURE(IoTest, "a cancelled write does not touch its memory again, and the stream can be closed (R5, R9)") {
  Pair pair = newPair(io, SMALL);
  const std::string expected = numberedBytes(1 << 20);
  auto data = std::make_unique<std::string>(expected);
  {
    Promise<void> write = pair.stream->write(*data);
    REQUIRE(!write.poll(scope));
  }
  data.reset(); // AddressSanitizer sees whoever comes here now
  const std::string got = receiveWhileRunning(*this, pair.peer, expected.size());
  CHECK(got.size() > 0);
  CHECK(got.size() < expected.size());
  CHECK(areNumbered(got));
  pair.stream.reset();
  CHECK(pair.peer.isAtEnd());
}

TEST_CASE_FIXTURE(IoTest, "a stream can be closed while the remainder of a cancelled write is on its way (R9)") {
  for (const bool tcp : {false, true}) {
    CAPTURE(tcp);
    Pair pair = tcp ? newTcpPair(io, SMALL) : newPair(io, SMALL);
    auto data = std::make_unique<std::string>(numberedBytes(4 << 20));
    {
      Promise<void> write = pair.stream->write(*data);
      REQUIRE(!write.poll(scope));
    }
    data.reset();
    pair.stream.reset();
    const std::string got = receiveWhileRunning(*this, pair.peer, 4 << 20);
    CHECK(areNumbered(got));
    CHECK(pair.peer.isClosed());
  }
}

TEST_CASE_FIXTURE(IoTest, "a write after a cancelled one waits for its remainder, and nothing comes in between") {
  Pair pair = newPair(io, SMALL);
  {
    const std::string data = numberedBytes(300'000);
    Promise<void> cancelled = pair.stream->write(data);
    REQUIRE(!cancelled.poll(scope));
  }
  Promise<void> next = pair.stream->write("<END>");
  REQUIRE(!next.poll(scope));
  const std::string got = receiveWhileRunning(*this, pair.peer, 300'005);
  std::move(next).wait(scope);
  REQUIRE(got.size() > 5);
  CHECK(got.ends_with("<END>"));
  CHECK(areNumbered(std::string_view(got).substr(0, got.size() - 5)));
}

TEST_CASE_FIXTURE(IoTest, "a reset while the remainder of a cancelled write is on its way is what the next write reports (S5)") {
  Pair pair = newTcpPair(io, SMALL);
  {
    const std::string data = numberedBytes(4 << 20);
    Promise<void> cancelled = pair.stream->write(data);
    REQUIRE(!cancelled.poll(scope));
  }
  Promise<void> next = pair.stream->write("next");
  REQUIRE(!next.poll(scope));
  pair.peer.reset();
  CHECK((failureOf(std::move(next), scope).kind() == Exception::Kind::DISCONNECTED));
}

TEST_CASE_FIXTURE(IoTest, "a completed write whose result nobody took may be dropped") {
  Pair pair = newPair(io, SMALL);
  const std::string data = numberedBytes(100'000);
  {
    Promise<void> write = pair.stream->write(data);
    REQUIRE(!write.poll(scope));
    CHECK((receiveWhileRunning(*this, pair.peer, data.size()) == data));
    REQUIRE(write.poll(scope));
  }
  pair.stream->write("next").wait(scope);
  CHECK(pair.peer.receive(4) == "next");
}
