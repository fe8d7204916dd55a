// SPDX-License-Identifier: MIT
// Tests of the length-limited stream, which counts exactly, and of the null stream.
#include "peer.h"

#include <troth/io/limited.h>
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

/// Knows its length and pumps by a way of its own: what was asked for is remembered.
class Pumpable final : public AsyncInputStream {
public:
  explicit Pumpable(Promise<std::uint64_t> result) : result_(std::move(result)) {}
  std::uint64_t amount = 0;

  Promise<std::size_t> tryRead(std::span<std::byte>, std::size_t, std::source_location) override { return NEVER_DONE; }
  Promise<std::uint64_t> pumpTo(AsyncOutputStream&, std::uint64_t most, std::source_location) override {
    amount = most;
    return std::move(result_);
  }

private:
  Promise<std::uint64_t> result_;
};

} // namespace

TEST_CASE_FIXTURE(LoopTest, "a limited stream ends after its bytes and leaves the rest") {
  ScriptedStream inner;
  inner.giveRead("abcdefgh").giveEnd();
  const std::unique_ptr<AsyncInputStream> stream = newLimitedInputStream(inner, 5);
  CHECK(stream->tryGetLength() == 5);
  std::string buffer(3, '.');
  CHECK(readInto(*stream, buffer).wait(scope) == 3);
  CHECK(buffer == "abc");
  CHECK(stream->tryGetLength() == 2);
  CHECK(readInto(*stream, buffer, 3).wait(scope) == 2);
  CHECK(buffer == "dec");
  CHECK(stream->tryGetLength() == 0);
  CHECK(readInto(*stream, buffer).wait(scope) == 0);
  CHECK(stream->tryReadChunk().wait(scope).empty());
  CHECK(inner.readAllText(10).wait(scope) == "fgh");
}

TEST_CASE_FIXTURE(LoopTest, "a limited stream of every length gives that many bytes, by chunks and one at a time") {
  const std::string text = "abcdefgh";
  for (std::size_t length = 0; length <= text.size(); ++length) {
    for (const std::size_t most : {std::size_t(1), std::size_t(3), std::size_t(100)}) {
      CAPTURE(length);
      auto script = std::make_unique<ScriptedStream>();
      script->giveRead(text).shortReads(most);
      const std::unique_ptr<AsyncInputStream> stream = newLimitedInputStream(std::move(script), length);
      CHECK(stream->readAllText(100).wait(scope) == text.substr(0, length));
    }
  }
}

TEST_CASE_FIXTURE(LoopTest, "a limited stream at its end does not touch the inner one") {
  ScriptedStream inner;
  inner.giveRead("abc").failReadAt(3);
  const std::unique_ptr<AsyncInputStream> stream = newLimitedInputStream(inner, 3);
  CHECK(stream->readAllText(100).wait(scope) == "abc");
  Promise<Chunk> other = inner.tryReadChunk(); // would be refused if a read of the limited stream were pending here
  std::string buffer(3, '.');
  CHECK(readInto(*stream, buffer).wait(scope) == 0);
  const std::unique_ptr<AsyncIoStream> output = newNullStream();
  CHECK(stream->pumpTo(*output).wait(scope) == 0);
  CHECK((failureOf(std::move(other), scope).kind() == Exception::Kind::DISCONNECTED));
}

TEST_CASE_FIXTURE(LoopTest, "an inner stream that ends before is DISCONNECTED, and the error counts the bytes") {
  const auto limited = [] {
    auto inner = std::make_unique<ScriptedStream>();
    inner->giveRead("abc").giveEnd();
    return newLimitedInputStream(std::move(inner), 10);
  };
  std::string buffer(10, '.');
  std::unique_ptr<AsyncInputStream> stream = limited();
  CHECK(readInto(*stream, buffer).wait(scope) == 3);
  for (int i = 0; i < 2; ++i) {
    const Exception e = failureOf(readInto(*stream, buffer), scope);
    CHECK((e.kind() == Exception::Kind::DISCONNECTED));
    CHECK(e.description() == "read: the stream ended after 3 of 10 bytes");
    CHECK(madeIn(e, "limited_test.cc"));
  }
  CHECK(contains(failureOf(stream->tryReadChunk(), scope).description(), "3 of 10 bytes"));
  stream = limited();
  CHECK(contains(failureOf(readInto(*stream, buffer, 10), scope).description(), "3 of 10 bytes"));
  stream = limited();
  const std::unique_ptr<AsyncIoStream> output = newNullStream();
  CHECK(contains(failureOf(stream->pumpTo(*output), scope).description(), "3 of 10 bytes"));
}

TEST_CASE_FIXTURE(LoopTest, "a limited read that is cancelled or dropped untaken counts for nothing") {
  ScriptedStream inner;
  inner.giveRead("abcdefgh");
  const std::unique_ptr<AsyncInputStream> stream = newLimitedInputStream(inner, 5);
  std::string buffer(4, '.');
  { Promise<std::size_t> cancelled = readInto(*stream, buffer); }
  {
    Promise<std::size_t> dropped = readInto(*stream, buffer);
    REQUIRE(dropped.poll(scope));
  }
  {
    Promise<Chunk> dropped = stream->tryReadChunk();
    REQUIRE(dropped.poll(scope));
  }
  CHECK(stream->tryGetLength() == 5);
  CHECK(stream->readAllText(10).wait(scope) == "abcde");
  CHECK(inner.tryReadChunk().wait(scope).text() == "fgh");
}

TEST_CASE_FIXTURE(LoopTest, "an error at byte k of the inner stream is passed on after k bytes") {
  for (std::size_t k = 0; k < 6; ++k) {
    CAPTURE(k);
    ScriptedStream inner;
    inner.giveRead("abcdef").failReadAt(k, Exception(Exception::Kind::OVERLOADED, "no more"));
    const std::unique_ptr<AsyncInputStream> stream = newLimitedInputStream(inner, 6);
    std::string got;
    while (got.size() < k) got += stream->tryReadChunk().wait(scope).text();
    CHECK(failureOf(stream->tryReadChunk(), scope).description() == "no more");
    CHECK(stream->tryGetLength() == 6 - k);
  }
}

TEST_CASE_FIXTURE(LoopTest, "a pump of a limited stream is one of the inner stream, for less") {
  Pumpable inner(std::uint64_t(7));
  const std::unique_ptr<AsyncIoStream> output = newNullStream();
  const std::unique_ptr<AsyncInputStream> stream = newLimitedInputStream(inner, 10);
  CHECK(stream->pumpTo(*output, 7).wait(scope) == 7);
  CHECK(inner.amount == 7);
  CHECK(stream->tryGetLength() == 3);
  Pumpable all(std::uint64_t(10));
  CHECK(newLimitedInputStream(all, 10)->pumpTo(*output).wait(scope) == 10);
  CHECK(all.amount == 10);
}

TEST_CASE_FIXTURE(LoopTest, "after a pump that was cancelled or failed, reading a limited stream throws FAILED") {
  const std::unique_ptr<AsyncIoStream> output = newNullStream();
  Promise<std::uint64_t> result = NEVER_DONE;
  SUBCASE("cancelled") {}
  SUBCASE("dropped untaken") { result = std::uint64_t(10); }
  SUBCASE("failed") { result = Exception(Exception::Kind::OVERLOADED, "no more"); }
  Pumpable inner(std::move(result));
  const std::unique_ptr<AsyncInputStream> stream = newLimitedInputStream(inner, 10);
  {
    Promise<std::uint64_t> pump = stream->pumpTo(*output);
    pump.poll(scope);
  }
  const Exception e = thrownBy([&] { static_cast<void>(stream->tryReadChunk()); });
  CHECK((e.kind() == Exception::Kind::FAILED));
  CHECK(contains(e.description(), "nobody knows how many of its 10 bytes are left"));
  CHECK(!stream->tryGetLength());
}

TEST_CASE_FIXTURE(LoopTest, "destroying a limited stream rejects the read that waits and leaves the inner stream") {
  ScriptedStream inner;
  std::string buffer(8, '.');
  std::unique_ptr<AsyncInputStream> stream = newLimitedInputStream(inner, 5);
  Promise<std::size_t> read = readInto(*stream, buffer);
  REQUIRE(!read.poll(scope));
  stream.reset();
  CHECK((failureOf(std::move(read), scope).kind() == Exception::Kind::DISCONNECTED));
  inner.giveRead("abc");
  CHECK(inner.tryReadChunk().wait(scope).text() == "abc");
}

TEST_CASE_FIXTURE(LoopTest, "a limited stream that owns the inner one destroys it, with what waits") {
  std::unique_ptr<AsyncInputStream> stream = newLimitedInputStream(std::make_unique<ScriptedStream>(), 5);
  Promise<Chunk> read = stream->tryReadChunk();
  SUBCASE("at once") {}
  SUBCASE("later") { REQUIRE(!read.poll(scope)); }
  stream.reset();
  CHECK((failureOf(std::move(read), scope).kind() == Exception::Kind::DISCONNECTED));
}

TEST_CASE_FIXTURE(LoopTest, "a limited read that is ready when the streams go keeps its bytes") {
  auto inner = std::make_unique<ScriptedStream>();
  inner->giveRead("abc");
  std::unique_ptr<AsyncInputStream> stream = newLimitedInputStream(*inner, 5);
  Promise<Chunk> read = stream->tryReadChunk();
  REQUIRE(read.poll(scope));
  stream.reset();
  inner.reset();
  CHECK(std::move(read).wait(scope).text() == "abc");
}

TEST_CASE_FIXTURE(LoopTest, "misuse of a limited stream throws FAILED and says what was wrong") {
  ScriptedStream inner;
  const std::unique_ptr<AsyncInputStream> stream = newLimitedInputStream(inner, 5);
  std::string buffer(8, '.');
  CHECK(contains(thrownBy([&] { static_cast<void>(stream->tryRead({})); }).description(), "the buffer is empty"));
  CHECK(contains(thrownBy([&] { static_cast<void>(readInto(*stream, buffer, 9)); }).description(), "minBytes is 9"));
  CHECK(contains(thrownBy([&] { static_cast<void>(stream->tryReadChunk(0)); }).description(), "maxBytes is 0"));
  Promise<std::size_t> read = readInto(*stream, buffer);
  const Exception e = thrownBy([&] { static_cast<void>(stream->tryReadChunk()); });
  CHECK(contains(e.description(), "tryReadChunk: another read of this stream is pending"));
  CHECK(madeIn(e, "limited_test.cc"));
  const std::unique_ptr<AsyncIoStream> output = newNullStream();
  CHECK(contains(thrownBy([&] { static_cast<void>(stream->pumpTo(*output)); }).description(), "another read"));
  inner.giveRead("abc");
  CHECK(std::move(read).wait(scope) == 3);
  const Exception null = thrownBy([] { static_cast<void>(newLimitedInputStream(nullptr, 5)); });
  CHECK(contains(null.description(), "newLimitedInputStream: the stream is null"));
  CHECK(madeIn(null, "limited_test.cc"));
}

TEST_CASE("a limited stream may be cancelled anywhere") {
  cancelSweep([](LoopTest&) -> Promise<void> {
    auto inner = std::make_unique<ScriptedStream>();
    inner->giveRead("abcdefghij").shortReads(2);
    const std::unique_ptr<AsyncInputStream> stream = newLimitedInputStream(std::move(inner), 8);
    std::string buffer(3, '.');
    co_await stream->read(bufferOf(buffer));
    co_await stream->tryReadChunk();
    const std::unique_ptr<AsyncIoStream> output = newNullStream();
    co_await stream->pumpTo(*output);
  });
}

// ------------------------------------------------------------------------------------------- the null stream

TEST_CASE_FIXTURE(LoopTest, "the null stream is at its end, and swallows what is written") {
  const std::unique_ptr<AsyncIoStream> stream = newNullStream();
  std::string buffer(3, '.');
  CHECK(stream->tryGetLength() == 0);
  CHECK(readInto(*stream, buffer, 3).wait(scope) == 0);
  CHECK(stream->tryReadChunk().wait(scope).empty());
  CHECK((failureOf(stream->read(bufferOf(buffer)), scope).kind() == Exception::Kind::DISCONNECTED));
  stream->write("abc").wait(scope);
  const std::vector<std::span<const std::byte>> pieces = {asBytes("a"), asBytes("b")};
  stream->write(pieces).wait(scope);
  CHECK(!stream->descriptor());
}

TEST_CASE_FIXTURE(LoopTest, "a pump to the null stream consumes the input, and one from it is done at once") {
  ScriptedStream input;
  input.giveRead("abc").giveRead("defgh").giveEnd();
  const std::unique_ptr<AsyncIoStream> stream = newNullStream();
  CHECK(input.pumpTo(*stream, 4).wait(scope) == 4);
  CHECK(input.pumpTo(*stream).wait(scope) == 4);
  CHECK(input.isFinished());
  CHECK(stream->pumpTo(input).wait(scope) == 0);
  CHECK(stream->pumpTo(*stream).wait(scope) == 0);
}

TEST_CASE_FIXTURE(LoopTest, "a pump to the null stream whose streams are destroyed under it is DISCONNECTED (R9)") {
  for (const bool input : {true, false}) {
    for (unsigned turns = 0; turns < 6; ++turns) {
      CAPTURE(input);
      CAPTURE(turns);
      auto script = std::make_unique<ScriptedStream>();
      script->giveRead("abc").delayTurns(2).giveRead("def");
      std::unique_ptr<AsyncIoStream> stream = newNullStream();
      Promise<std::uint64_t> pump = script->pumpTo(*stream);
      loop.run(turns);
      if (input) {
        script.reset();
      } else {
        stream.reset();
        script->giveRead("ghi");
      }
      CHECK((failureOf(std::move(pump), scope).kind() == Exception::Kind::DISCONNECTED));
    }
  }
}

TEST_CASE_FIXTURE(LoopTest, "an input may go when bytes for the null stream have just come") {
  /// Gives one byte when the test says so.
  struct Manual final : AsyncInputStream {
    std::unique_ptr<PromiseFulfiller<std::size_t>> reading;
    Promise<std::size_t> tryRead(std::span<std::byte>, std::size_t, std::source_location) override {
      auto pair = newPromiseAndFulfiller<std::size_t>();
      reading = std::move(pair.fulfiller);
      return std::move(pair.promise);
    }
  };
  auto input = std::make_unique<Manual>();
  const std::unique_ptr<AsyncIoStream> stream = newNullStream();
  Promise<std::uint64_t> pump = input->pumpTo(*stream);
  REQUIRE(!pump.poll(scope));
  input->reading->fulfill(1);
  input.reset();
  CHECK((failureOf(std::move(pump), scope).kind() == Exception::Kind::DISCONNECTED));
}

TEST_CASE_FIXTURE(LoopTest, "a null stream takes nothing more once writing to it was given up") {
  const std::unique_ptr<AsyncIoStream> output = newNullStream();
  output->abortWrite();
  const Exception e = failureOf(output->write("more"), scope);
  CHECK((e.kind() == Exception::Kind::DISCONNECTED));
  CHECK(contains(e.description(), "abortWrite"));
}

TEST_CASE_FIXTURE(LoopTest, "the null stream keeps to the contract of streams") {
  const std::unique_ptr<AsyncIoStream> stream = newNullStream();
  CHECK(contains(thrownBy([&] { static_cast<void>(stream->tryRead({})); }).description(), "the buffer is empty"));
  CHECK(contains(thrownBy([&] { static_cast<void>(stream->tryReadChunk(0)); }).description(), "maxBytes is 0"));
  Promise<void> disconnected = stream->whenWriteDisconnected();
  CHECK(!disconnected.poll(scope));
  stream->shutdownWrite();
  stream->shutdownWrite();
  CHECK(contains(thrownBy([&] { static_cast<void>(stream->write("x")); }).description(), "shut down for writing"));
  ScriptedStream input;
  CHECK(contains(thrownBy([&] { static_cast<void>(input.pumpTo(*stream)); }).description(), "shut down for writing"));
  stream->abortRead();
  CHECK((failureOf(stream->tryReadChunk(), scope).kind() == Exception::Kind::DISCONNECTED));
}
