// SPDX-License-Identifier: MIT
// Tests of promised streams: operations wait for their stream, and go on as if it had been there.
#include "peer.h"

#include <troth/io/limited.h>
#include <troth/io/promised_stream.h>
#include <troth/io/testing.h>

#include <memory>
#include <string>
#include <vector>

using namespace troth;
using namespace troth::test;

namespace {

Promise<std::size_t> readInto(AsyncInputStream& stream, std::string& buffer, std::size_t minBytes = 1,
                              std::source_location where = std::source_location::current()) {
  return stream.tryRead(bufferOf(buffer), minBytes, where);
}

/// A promised stream and what decides its fate.
template <typename Stream>
struct Promised {
  PromiseFulfillerPair<std::unique_ptr<Stream>> pair = newPromiseAndFulfiller<std::unique_ptr<Stream>>();
  std::unique_ptr<Stream> stream = newPromisedStream(std::move(pair.promise));

  void settle(std::unique_ptr<Stream> result) { pair.fulfiller->fulfill(std::move(result)); }
  void fail(Exception::Kind kind) { pair.fulfiller->reject(Exception(kind, "no stream")); }
};

/// A stream that passes everything on to a script that the test keeps.
std::unique_ptr<AsyncIoStream> borrow(ScriptedStream& script) { return newShortIoStream(script, 1000); }

/// Tells what only some streams know.
class Knowing final : public AsyncInputStream {
public:
  Promise<std::size_t> tryRead(std::span<std::byte>, std::size_t, std::source_location) override { return NEVER_DONE; }
  std::optional<std::uint64_t> tryGetLength() const override { return 42; }
  std::unique_ptr<AsyncInputStream> tryTee(std::size_t) override { return std::make_unique<Knowing>(); }
};

} // namespace

TEST_CASE_FIXTURE(LoopTest, "operations wait for the promised stream, and are then done by it") {
  ScriptedStream script;
  script.expectWrite("hello").giveRead("world").expectShutdown().giveEnd();
  Promised<AsyncIoStream> promised;
  std::string buffer(8, '.');
  Promise<std::size_t> read = readInto(*promised.stream, buffer);
  Promise<void> write = promised.stream->write("hello");
  CHECK(!read.poll(scope));
  CHECK(!write.poll(scope));
  promised.settle(borrow(script));
  std::move(write).wait(scope);
  CHECK(std::move(read).wait(scope) == 5);
  CHECK(buffer == "world...");
  // From here on directly.
  promised.stream->shutdownWrite();
  CHECK(promised.stream->tryReadChunk().wait(scope).empty());
  script.checkFinished();
}

TEST_CASE_FIXTURE(LoopTest, "a promised stream whose promise is ready needs no more than a turn") {
  ScriptedStream script;
  script.giveRead("abc").giveEnd();
  const std::unique_ptr<AsyncInputStream> stream =
      newPromisedStream(Promise<std::unique_ptr<AsyncInputStream>>(newShortInputStream(script, 2)));
  CHECK(stream->readAllText(10).wait(scope) == "abc");
}

TEST_CASE_FIXTURE(LoopTest, "every kind of operation waits: chunks, pieces and pumps either way") {
  SUBCASE("a chunk") {
    ScriptedStream script;
    script.giveRead("abc");
    Promised<AsyncInputStream> promised;
    Promise<Chunk> read = promised.stream->tryReadChunk(2);
    CHECK(takeAfter(read, scope, [&] { promised.settle(borrow(script)); }).text() == "ab");
  }
  SUBCASE("pieces, whose array has gone") {
    ScriptedStream script;
    script.expectWrite("abcd");
    Promised<AsyncOutputStream> promised;
    auto pieces = std::make_unique<std::vector<std::span<const std::byte>>>();
    *pieces = {asBytes("ab"), asBytes(""), asBytes("cd")};
    Promise<void> write = promised.stream->write(*pieces);
    pieces.reset();
    takeAfter(write, scope, [&] { promised.settle(borrow(script)); });
    script.checkFinished();
    const std::vector<std::span<const std::byte>> more = {asBytes("e")};
    script.expectWrite("e");
    promised.stream->write(more).wait(scope);
  }
  SUBCASE("a pump from it") {
    ScriptedStream script;
    script.giveRead("abcdef");
    Promised<AsyncInputStream> promised;
    const std::unique_ptr<AsyncIoStream> output = newNullStream();
    Promise<std::uint64_t> pump = promised.stream->pumpTo(*output, 4);
    CHECK(takeAfter(pump, scope, [&] { promised.settle(borrow(script)); }) == 4);
    CHECK(promised.stream->pumpTo(*output, 2).wait(scope) == 2);
  }
  SUBCASE("a pump to it, which goes the way that its stream knows") {
    ScriptedStream input;
    input.giveRead("abcdef").giveEnd();
    Promised<AsyncOutputStream> promised;
    Promise<std::uint64_t> pump = input.pumpTo(*promised.stream, 4);
    CHECK(takeAfter(pump, scope, [&] { promised.settle(newNullStream()); }) == 4);
    CHECK(input.pumpTo(*promised.stream).wait(scope) == 2);
  }
}

TEST_CASE_FIXTURE(LoopTest, "a promised stream knows nothing of its stream before it is there") {
  Promised<AsyncInputStream> promised;
  CHECK(!promised.stream->tryGetLength());
  CHECK(promised.stream->tryTee(10) == nullptr);
  promised.settle(std::make_unique<Knowing>());
  scope.poll();
  CHECK(promised.stream->tryGetLength() == 42);
  CHECK(promised.stream->tryTee(10) != nullptr);
  Promised<AsyncIoStream> io;
  CHECK(!io.stream->descriptor());
  io.settle(newNullStream());
  scope.poll();
  CHECK(!io.stream->descriptor());
}

TEST_CASE_FIXTURE(LoopTest, "a promise that fails fails every operation, before and after") {
  Promised<AsyncIoStream> promised;
  std::string buffer(8, '.');
  Promise<std::size_t> read = readInto(*promised.stream, buffer);
  Promise<void> write = promised.stream->write("x");
  Promise<void> disconnected = promised.stream->whenWriteDisconnected();
  CHECK(!disconnected.poll(scope));
  promised.fail(Exception::Kind::OVERLOADED);
  const auto isIt = [](const Exception& e) {
    return e.kind() == Exception::Kind::OVERLOADED && e.description() == "no stream";
  };
  CHECK(isIt(failureOf(std::move(read), scope)));
  CHECK(isIt(failureOf(std::move(write), scope)));
  CHECK(isIt(failureOf(promised.stream->tryReadChunk(), scope)));
  CHECK(isIt(failureOf(promised.stream->write("x"), scope)));
  const std::unique_ptr<AsyncIoStream> null = newNullStream();
  CHECK(isIt(failureOf(promised.stream->pumpTo(*null), scope)));
  ScriptedStream input;
  CHECK(isIt(failureOf(input.pumpTo(*promised.stream), scope)));
  std::move(disconnected).wait(scope);
  promised.stream->whenWriteDisconnected().wait(scope);
}

TEST_CASE_FIXTURE(LoopTest, "a promise that gives a null pointer is a failure that says so") {
  Promised<AsyncIoStream> promised;
  promised.settle(nullptr);
  const Exception e = failureOf(promised.stream->tryReadChunk(), scope);
  CHECK((e.kind() == Exception::Kind::FAILED));
  CHECK(contains(e.description(), "null pointer"));
}

TEST_CASE_FIXTURE(LoopTest, "whenWriteDisconnected waits for the stream, and then with it") {
  ScriptedStream script;
  script.expectWrite("a").failWriteAt(0);
  Promised<AsyncIoStream> promised;
  Promise<void> early = promised.stream->whenWriteDisconnected();
  Promise<void> second = promised.stream->whenWriteDisconnected();
  promised.settle(borrow(script));
  CHECK(!early.poll(scope));
  Promise<void> late = promised.stream->whenWriteDisconnected();
  CHECK(!late.poll(scope));
  CHECK((failureOf(promised.stream->write("a"), scope).kind() == Exception::Kind::DISCONNECTED));
  std::move(early).wait(scope);
  std::move(second).wait(scope);
  std::move(late).wait(scope);
}

TEST_CASE_FIXTURE(LoopTest, "shutdownWrite before there is a stream is done when there is one") {
  ScriptedStream script;
  script.expectShutdown();
  Promised<AsyncIoStream> promised;
  promised.stream->shutdownWrite();
  CHECK(contains(thrownBy([&] { static_cast<void>(promised.stream->write("x")); }).description(), "shut down"));
  promised.settle(borrow(script));
  CHECK(!script.isFinished());
  scope.poll();
  script.checkFinished();
  CHECK(contains(thrownBy([&] { static_cast<void>(promised.stream->write("x")); }).description(), "shut down"));
}

TEST_CASE_FIXTURE(LoopTest, "a stream that cannot be shut down as was asked fails everything") {
  ScriptedStream script;
  script.expectWrite("abc").shortWrites(1);
  Promise<void> busy = script.write("abc"); // shutdownWrite() throws while this is pending
  Promised<AsyncIoStream> promised;
  promised.stream->shutdownWrite();
  promised.settle(borrow(script));
  CHECK((failureOf(promised.stream->tryReadChunk(), scope).kind() == Exception::Kind::FAILED));
}

TEST_CASE_FIXTURE(LoopTest, "abortRead before there is a stream rejects reads, now and later, and aborts the stream") {
  ScriptedStream script;
  script.giveRead("abc").expectWrite("x");
  Promised<AsyncIoStream> promised;
  Promise<Chunk> read = promised.stream->tryReadChunk();
  Promise<void> write = promised.stream->write("x");
  promised.stream->abortRead();
  CHECK((failureOf(std::move(read), scope).kind() == Exception::Kind::DISCONNECTED));
  std::string buffer(8, '.');
  const std::unique_ptr<AsyncIoStream> null = newNullStream();
  CHECK((failureOf(promised.stream->tryReadChunk(), scope).kind() == Exception::Kind::DISCONNECTED));
  CHECK((failureOf(readInto(*promised.stream, buffer), scope).kind() == Exception::Kind::DISCONNECTED));
  CHECK((failureOf(promised.stream->pumpTo(*null), scope).kind() == Exception::Kind::DISCONNECTED));
  promised.settle(borrow(script));
  std::move(write).wait(scope);
  CHECK((failureOf(promised.stream->tryReadChunk(), scope).kind() == Exception::Kind::DISCONNECTED));
  CHECK((failureOf(script.tryReadChunk(), scope).kind() == Exception::Kind::DISCONNECTED));
  promised.stream->abortRead();
}

TEST_CASE_FIXTURE(LoopTest, "a read of a promised stream that is cancelled or dropped untaken loses nothing") {
  ScriptedStream script;
  script.giveRead("abc").giveEnd();
  Promised<AsyncIoStream> promised;
  { Promise<Chunk> cancelled = promised.stream->tryReadChunk(); }
  {
    Promise<Chunk> dropped = promised.stream->tryReadChunk();
    REQUIRE(!dropped.poll(scope));
    promised.settle(borrow(script));
    REQUIRE(dropped.poll(scope));
  }
  CHECK(promised.stream->readAllText(10).wait(scope) == "abc");
}

TEST_CASE_FIXTURE(LoopTest, "a pump that waits for its stream is DISCONNECTED if the other one goes meanwhile (R9)") {
  SUBCASE("its output") {
    Promised<AsyncInputStream> promised;
    std::unique_ptr<AsyncIoStream> output = newNullStream();
    Promise<std::uint64_t> pump = promised.stream->pumpTo(*output);
    CHECK(!pump.poll(scope));
    output.reset();
    promised.settle(newNullStream());
    CHECK((failureOf(std::move(pump), scope).kind() == Exception::Kind::DISCONNECTED));
  }
  SUBCASE("its input") {
    Promised<AsyncOutputStream> promised;
    auto input = std::make_unique<ScriptedStream>();
    Promise<std::uint64_t> pump = input->pumpTo(*promised.stream);
    CHECK(!pump.poll(scope));
    input.reset();
    promised.settle(newNullStream());
    CHECK((failureOf(std::move(pump), scope).kind() == Exception::Kind::DISCONNECTED));
  }
}

TEST_CASE_FIXTURE(LoopTest, "destroying a promised stream cancels the promise and rejects what waits") {
  bool isCancelled = false;
  auto stream = newPromisedStream(coCapture([&]() -> Promise<std::unique_ptr<AsyncIoStream>> {
    struct OnExit {
      bool& flag;
      ~OnExit() { flag = true; }
    } onExit{isCancelled};
    co_await Promise<void>(NEVER_DONE);
    co_return nullptr;
  })());
  std::string buffer(8, '.');
  Promise<std::size_t> read = readInto(*stream, buffer);
  Promise<void> write = stream->write("x");
  Promise<void> disconnected = stream->whenWriteDisconnected();
  REQUIRE(!read.poll(scope));
  CHECK(!isCancelled);
  stream.reset();
  CHECK(isCancelled);
  const Exception e = failureOf(std::move(read), scope);
  CHECK((e.kind() == Exception::Kind::DISCONNECTED));
  CHECK(contains(e.description(), "read: the stream was destroyed"));
  CHECK(madeIn(e, "promised_stream_test.cc"));
  CHECK(contains(failureOf(std::move(write), scope).description(), "write: the stream was destroyed"));
  std::move(disconnected).wait(scope);
}

TEST_CASE_FIXTURE(LoopTest, "a promised stream may go in any turn after its stream has come") {
  for (unsigned turns = 0; turns < 12; ++turns) {
    CAPTURE(turns);
    Promised<AsyncIoStream> promised;
    std::string buffer(8, '.');
    Promise<std::size_t> read = readInto(*promised.stream, buffer);
    auto script = std::make_unique<ScriptedStream>();
    script->expectWrite("xyz").shortWrites(1);
    Promise<void> write = promised.stream->write("xyzzz");
    promised.settle(std::move(script));
    for (unsigned i = 0; i < turns && i < 3; ++i) loop.run(1);
    promised.stream.reset();
    CHECK((failureOf(std::move(read), scope).kind() == Exception::Kind::DISCONNECTED));
    CHECK((failureOf(std::move(write), scope).kind() == Exception::Kind::DISCONNECTED));
  }
}

TEST_CASE_FIXTURE(LoopTest, "the operations of a promised stream may be destroyed after it") {
  Promised<AsyncIoStream> promised;
  std::string buffer(8, '.');
  Promise<std::size_t> read = readInto(*promised.stream, buffer);
  Promise<void> write = promised.stream->write("x");
  promised.settle(newNullStream());
  SUBCASE("before a turn") {}
  SUBCASE("after one") { loop.run(1); }
  SUBCASE("after all") { scope.poll(); }
  promised.stream.reset();
}

TEST_CASE_FIXTURE(LoopTest, "an operation overtakes none that has waited") {
  ScriptedStream script;
  script.expectWrite("abc");
  Promised<AsyncIoStream> promised;
  Promise<void> write = promised.stream->write("a");
  CHECK(contains(thrownBy([&] { static_cast<void>(promised.stream->write("b")); }).description(), "another write"));
  CHECK(contains(thrownBy([&] { promised.stream->shutdownWrite(); }).description(), "another write"));
  promised.settle(borrow(script));
  std::string seen;
  for (int i = 0; i < 10 && seen.empty(); ++i) {
    try {
      promised.stream->write("b").wait(scope);
      seen = "written";
    } catch (const Exception& e) {
      CHECK(contains(e.description(), "another write"));
      loop.run(1);
    }
  }
  CHECK(seen == "written");
  std::move(write).wait(scope);
  promised.stream->write("c").wait(scope);
  script.checkFinished();
}

TEST_CASE_FIXTURE(LoopTest, "misuse of a promised stream throws FAILED, before there is a stream and after") {
  ScriptedStream script;
  Promised<AsyncIoStream> promised;
  std::string buffer(8, '.');
  for (int i = 0; i < 2; ++i) {
    AsyncIoStream& stream = *promised.stream;
    CHECK(contains(thrownBy([&] { static_cast<void>(stream.tryRead({})); }).description(), "the buffer is empty"));
    CHECK(contains(thrownBy([&] { static_cast<void>(readInto(stream, buffer, 9)); }).description(), "minBytes is 9"));
    CHECK(contains(thrownBy([&] { static_cast<void>(stream.tryReadChunk(0)); }).description(), "maxBytes is 0"));
    Promise<Chunk> read = stream.tryReadChunk();
    const Exception e = thrownBy([&] { static_cast<void>(readInto(stream, buffer)); });
    CHECK(contains(e.description(), "tryRead: another read of this stream is pending"));
    CHECK(madeIn(e, "promised_stream_test.cc"));
    if (i == 0) promised.settle(borrow(script));
    scope.poll();
  }
}

TEST_CASE("a promised stream may be cancelled anywhere") {
  cancelSweep([](LoopTest&) -> Promise<void> {
    auto script = std::make_unique<ScriptedStream>();
    script->giveRead("abcdef").expectWrite("xyz").giveEnd().expectShutdown().shortReads(2).shortWrites(1);
    const std::unique_ptr<AsyncIoStream> stream = newPromisedStream(
        evalLater([script = std::move(script)]() mutable -> std::unique_ptr<AsyncIoStream> { return std::move(script); }));
    std::string buffer(3, '.');
    Promise<void> write = stream->write("xyz");
    co_await stream->read(bufferOf(buffer));
    co_await std::move(write);
    stream->shutdownWrite();
    co_await stream->readAllText(10);
  });
}
