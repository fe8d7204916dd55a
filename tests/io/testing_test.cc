// SPDX-License-Identifier: MIT
// Tests of the streams for tests: a script is played as written, and what differs from it is told.
#include "peer.h"

#include <troth/io/testing.h>
#include <troth/timers/manual_timer.h>

#include <chrono>
#include <memory>
#include <string>
#include <vector>

using namespace troth;
using namespace troth::test;
using namespace std::chrono_literals;

namespace {

Promise<std::size_t> readInto(AsyncInputStream& stream, std::string& buffer, std::size_t minBytes = 1,
                              std::source_location where = std::source_location::current()) {
  return stream.tryRead(bufferOf(buffer), minBytes, where);
}

/// Writes when the test says so.
class Manual final : public AsyncIoStream {
public:
  std::unique_ptr<PromiseFulfiller<void>> writing;

  Promise<std::size_t> tryRead(std::span<std::byte>, std::size_t, std::source_location) override { return NEVER_DONE; }
  Promise<void> write(std::span<const std::byte>, std::source_location) override {
    auto pair = newPromiseAndFulfiller<void>();
    writing = std::move(pair.fulfiller);
    return std::move(pair.promise);
  }
  Promise<void> write(std::span<const std::span<const std::byte>>, std::source_location) override { return NEVER_DONE; }
  void shutdownWrite(std::source_location) override {}
  void abortRead(std::source_location) override {}
};

} // namespace

// ------------------------------------------------------------------------------------------- the script

TEST_CASE_FIXTURE(LoopTest, "a conversation goes as the script says") {
  ScriptedStream stream;
  stream.giveRead("220 ready\r\n").expectWrite("QUIT\r\n").giveRead("221 bye\r\n").giveEnd().expectShutdown();
  CHECK(!stream.isFinished());
  CHECK(stream.tryReadChunk().wait(scope).text() == "220 ready\r\n");
  Promise<Chunk> answer = stream.tryReadChunk();
  CHECK(takeAfter(answer, scope, [&] { stream.write("QUIT\r\n").wait(scope); }).text() == "221 bye\r\n");
  CHECK(stream.tryReadChunk().wait(scope).empty());
  CHECK(stream.tryReadChunk().wait(scope).empty());
  CHECK(!stream.isFinished());
  stream.shutdownWrite();
  CHECK(stream.isFinished());
  stream.checkFinished();
}

TEST_CASE_FIXTURE(LoopTest, "writes match however they are cut, over several steps and in pieces") {
  ScriptedStream stream;
  stream.expectWrite("abc").expectWrite("").expectWrite("defgh");
  stream.write("a").wait(scope);
  stream.write("").wait(scope);
  stream.write("bcde").wait(scope);
  const std::vector<std::span<const std::byte>> pieces = {asBytes("f"), {}, asBytes("gh")};
  stream.write(pieces).wait(scope);
  CHECK(stream.isFinished());
}

TEST_CASE_FIXTURE(LoopTest, "what differs fails the write and each later one, and the error shows where and what") {
  ScriptedStream stream;
  stream.expectWrite("GET / HTTP/1.1\r\n");
  stream.write("GET ").wait(scope);
  const Exception e = failureOf(stream.write("/\x01 \"x\"\r\n"), scope);
  CHECK((e.kind() == Exception::Kind::FAILED));
  CHECK(e.description() == "write: after 5 bytes the script expects \" HTTP/1.1\\r\\n\", but got "
                           "\"\\x01 \\\"x\\\"\\r\\n\"");
  CHECK(madeIn(e, "testing_test.cc"));
  CHECK(failureOf(stream.write(" HTTP"), scope).description() == e.description());
}

TEST_CASE_FIXTURE(LoopTest, "a script may expect that writing is given up") {
  ScriptedStream stream;
  stream.expectWrite("half").expectAbort().giveRead("why?");
  stream.write("half").wait(scope);
  Promise<Chunk> read = stream.tryReadChunk();
  REQUIRE(!read.poll(scope));
  CHECK(contains(thrownBy([&] { stream.checkFinished(); }).description(), "abortWrite() is still expected"));
  stream.abortWrite();
  CHECK(std::move(read).wait(scope).text() == "why?");
  CHECK((failureOf(stream.write("more"), scope).kind() == Exception::Kind::DISCONNECTED));
  stream.checkFinished();
}

TEST_CASE_FIXTURE(LoopTest, "what the script does not expect is told, shortened") {
  ScriptedStream stream;
  stream.expectWrite("ab");
  const Exception e = failureOf(stream.write("ab" + std::string(1000, 'x')), scope);
  CHECK(e.description() == "write: after 2 bytes the script expects no more, but got \"" + std::string(24, 'x') +
                               "\"… (1000 bytes)");
  ScriptedStream other;
  other.expectShutdown();
  CHECK(contains(failureOf(other.write("ab"), scope).description(), "expects shutdownWrite(), but got \"ab\""));
  ScriptedStream third;
  third.expectAbort();
  CHECK(contains(failureOf(third.write("ab"), scope).description(), "expects abortWrite(), but got \"ab\""));
}

TEST_CASE_FIXTURE(LoopTest, "a script with which a write differed is not finished, even if nobody saw the error") {
  ScriptedStream stream;
  stream.expectWrite("ab");
  stream.write("ab").wait(scope);
  CHECK(stream.isFinished());
  { Promise<void> dropped = stream.write("more"); }
  CHECK(!stream.isFinished());
  CHECK(thrownBy([&] { stream.checkFinished(); }).description() ==
        "the script is not finished: after 2 bytes the script expects no more, but got \"more\"");
  ScriptedStream other;
  other.expectWrite("abc");
  { Promise<void> dropped = other.write("abx"); }
  CHECK(thrownBy([&] { other.checkFinished(); }).description() ==
        "the script is not finished: after 2 bytes the script expects \"c\", but got \"x\"; \"abc\" is still expected");
}

TEST_CASE("a scripted stream may outlive the loop that it was used on") {
  ScriptedStream stream;
  LoopTest test;
  stream.giveRead("abc").expectWrite("x");
  Promise<Chunk> read = stream.tryReadChunk();
  CHECK(std::move(read).wait(test.scope).text() == "abc");
  Promise<Chunk> waits = stream.tryReadChunk();
  CHECK(!waits.poll(test.scope));
  stream.write("x").wait(test.scope);
  stream.checkFinished();
}

TEST_CASE_FIXTURE(LoopTest, "checkFinished tells all that was not used") {
  ScriptedStream stream;
  stream.giveRead("one").giveRead("two").giveEnd().expectWrite("abc").expectShutdown().giveRead("three").giveEnd()
      .delayTurns(1).failReadAt(7).failWriteAt(3);
  CHECK(stream.tryReadChunk().wait(scope).text() == "one");
  stream.write("a").wait(scope);
  const Exception e = thrownBy([&] { stream.checkFinished(); });
  CHECK(e.description() ==
        "the script is not finished: \"two\" were given and not read; the end of the stream was given and not read; "
        "\"bc\" is still expected; shutdownWrite() is still expected; \"three\" is still to be given; the end of the "
        "stream is still to be given; a delay is not over; the error after byte 7 of reading was not met; the error "
        "after byte 3 of writing was not met");
  CHECK(madeIn(e, "testing_test.cc"));
}

TEST_CASE_FIXTURE(LoopTest, "a script can be written on while it is played") {
  ScriptedStream stream;
  std::string buffer(8, '.');
  Promise<std::size_t> read = readInto(stream, buffer, 4);
  CHECK(takeAfter(read, scope, [&] { stream.giveRead("ab").giveRead("cd"); }) == 4);
  CHECK(buffer == "abcd....");
}

TEST_CASE_FIXTURE(LoopTest, "a peer that is silent at the end of the script is waited for") {
  ScriptedStream stream;
  stream.giveRead("a");
  CHECK(stream.tryReadChunk().wait(scope).text() == "a");
  Promise<Chunk> read = stream.tryReadChunk();
  CHECK(!read.poll(scope));
}

TEST_CASE_FIXTURE(LoopTest, "a delay by a timer holds what comes after it, reads and writes") {
  ManualTimer timer;
  ScriptedStream stream;
  stream.giveRead("a").delay(timer, 10s).giveRead("b").expectWrite("x").delay(timer, 1s).expectWrite("y").giveEnd();
  CHECK(stream.tryReadChunk().wait(scope).text() == "a");
  Promise<Chunk> read = stream.tryReadChunk();
  Promise<void> write = stream.write("xy");
  CHECK(!write.poll(scope));
  CHECK(takeAfter(read, scope, [&] { timer.advanceBy(10s); }).text() == "b");
  takeAfter(write, scope, [&] { timer.advanceBy(1s); });
  CHECK(stream.tryReadChunk().wait(scope).empty());
  CHECK(stream.isFinished());
}

TEST_CASE_FIXTURE(LoopTest, "a delay by turns is over by itself, also when the read that met it was cancelled") {
  ScriptedStream stream;
  stream.delayTurns(5).delayTurns(5).giveRead("a");
  { Promise<Chunk> cancelled = stream.tryReadChunk(); }
  CHECK(stream.tryReadChunk().wait(scope).text() == "a");
}

TEST_CASE_FIXTURE(LoopTest, "a timer that goes fails the operations that its delay holds up") {
  ScriptedStream stream;
  auto timer = std::make_unique<ManualTimer>();
  stream.delay(*timer, 1s).giveRead("a");
  Promise<Chunk> read = stream.tryReadChunk();
  Promise<void> write = stream.write("x");
  REQUIRE(!read.poll(scope));
  timer.reset();
  CHECK((failureOf(std::move(read), scope).kind() == Exception::Kind::DISCONNECTED));
  CHECK((failureOf(std::move(write), scope).kind() == Exception::Kind::DISCONNECTED));
}

// ------------------------------------------------------------------------------------------- reading

TEST_CASE_FIXTURE(LoopTest, "a scripted read is never ready inside the call, nor before a turn of the loop") {
  ScriptedStream stream;
  stream.giveRead("abc");
  std::string buffer(3, '.');
  Promise<std::size_t> read = readInto(stream, buffer);
  CHECK(buffer == "...");
  CHECK(std::move(read).wait(scope) == 3);
  CHECK(buffer == "abc");
}

TEST_CASE_FIXTURE(LoopTest, "a scripted read gets one piece, more only for minBytes, and leaves what has no room") {
  ScriptedStream stream;
  stream.giveRead("abc").giveRead("").giveRead("def").giveRead("ghi").giveRead("jkl").giveEnd();
  std::string buffer(8, '.');
  CHECK(readInto(stream, buffer).wait(scope) == 3);
  CHECK(readInto(stream, buffer, 5).wait(scope) == 6);
  CHECK(buffer.substr(0, 6) == "defghi");
  CHECK(stream.tryReadChunk(2).wait(scope).text() == "jk");
  CHECK(readInto(stream, buffer, 4).wait(scope) == 1);
  CHECK(buffer[0] == 'l');
  CHECK(stream.isFinished());
}

TEST_CASE_FIXTURE(LoopTest, "short reads cut what is given, and minBytes is kept to") {
  ScriptedStream stream;
  stream.giveRead("abcdefgh").giveEnd().shortReads(2);
  std::string buffer(8, '.');
  CHECK(readInto(stream, buffer).wait(scope) == 2);
  CHECK(stream.tryReadChunk().wait(scope).text() == "cd");
  CHECK(readInto(stream, buffer, 3).wait(scope) == 3);
  CHECK(stream.readAllText(10).wait(scope) == "h");
}

TEST_CASE_FIXTURE(LoopTest, "an error at byte k of reading comes after k bytes, and stays") {
  const std::string text = "abcdefgh";
  for (std::size_t k = 0; k <= text.size(); ++k) {
    CAPTURE(k);
    ScriptedStream stream;
    stream.giveRead("abc").giveRead("defgh").giveEnd().failReadAt(k, Exception(Exception::Kind::OVERLOADED, "no more"));
    std::string got;
    while (got.size() < k) got += stream.tryReadChunk().wait(scope).text();
    CHECK(got == text.substr(0, k));
    for (int i = 0; i < 2; ++i) {
      const Exception e = failureOf(stream.tryReadChunk(), scope);
      CHECK((e.kind() == Exception::Kind::OVERLOADED));
      CHECK(e.description() == "no more");
    }
  }
}

TEST_CASE_FIXTURE(LoopTest, "a read that wants more than comes before the error fails, and leaves those bytes") {
  ScriptedStream stream;
  stream.giveRead("abcdef").failReadAt(3);
  std::string buffer(8, '.');
  CHECK((failureOf(readInto(stream, buffer, 4), scope).kind() == Exception::Kind::DISCONNECTED));
  CHECK(buffer == "........");
  CHECK(readInto(stream, buffer, 3).wait(scope) == 3);
}

TEST_CASE_FIXTURE(LoopTest, "a scripted read that is cancelled or dropped untaken loses nothing") {
  ScriptedStream stream;
  stream.giveRead("abc").delayTurns(1).giveRead("def").giveEnd();
  std::string buffer(8, '.');
  { Promise<std::size_t> cancelled = readInto(stream, buffer, 6); }
  {
    Promise<std::size_t> dropped = readInto(stream, buffer, 6);
    REQUIRE(dropped.poll(scope));
  }
  CHECK(buffer == "........");
  CHECK(stream.readAllText(100).wait(scope) == "abcdef");
}

// ------------------------------------------------------------------------------------------- writing

TEST_CASE_FIXTURE(LoopTest, "short writes go on by so many bytes a turn") {
  ScriptedStream stream;
  stream.shortWrites(2).expectWrite("abc").giveRead("x").expectWrite("de").giveRead("y");
  Promise<void> write = stream.write("abcde");
  std::string seen;
  Promise<void> reader = coCapture([&]() -> Promise<void> {
    seen += (co_await stream.tryReadChunk()).text();
    seen += stream.isFinished() ? '!' : '.';
    seen += (co_await stream.tryReadChunk()).text();
  })();
  std::move(write).wait(scope);
  std::move(reader).wait(scope);
  CHECK(seen == "x.y");
}

TEST_CASE_FIXTURE(LoopTest, "a short write that is cancelled stops where it is") {
  ScriptedStream stream;
  stream.shortWrites(1).expectWrite("abc");
  {
    Promise<void> write = stream.write("abc");
    loop.run(1);
  }
  scope.poll();
  CHECK(contains(thrownBy([&] { stream.checkFinished(); }).description(), "\"bc\" is still expected"));
}

TEST_CASE_FIXTURE(LoopTest, "an error at byte k of writing comes after k bytes, and stays") {
  const std::string text = "abcdefgh";
  for (const bool isShort : {false, true}) {
    for (std::size_t k = 0; k < text.size(); ++k) {
      CAPTURE(k);
      ScriptedStream stream;
      stream.expectWrite(text).failWriteAt(k);
      if (isShort) stream.shortWrites(1);
      Promise<void> disconnected = stream.whenWriteDisconnected();
      if (k > 0) stream.write(text.substr(0, k)).wait(scope);
      CHECK(!disconnected.poll(scope));
      CHECK((failureOf(stream.write(text.substr(k)), scope).kind() == Exception::Kind::DISCONNECTED));
      CHECK((failureOf(stream.write(text.substr(k)), scope).kind() == Exception::Kind::DISCONNECTED));
      CHECK(disconnected.poll(scope));
    }
  }
}

// ------------------------------------------------------------------------------------------- ends and misuse

TEST_CASE_FIXTURE(LoopTest, "abortRead fails the scripted read that waits, and each later one") {
  ScriptedStream stream;
  std::string buffer(8, '.');
  Promise<std::size_t> read = readInto(stream, buffer);
  REQUIRE(!read.poll(scope));
  stream.abortRead();
  CHECK((failureOf(std::move(read), scope).kind() == Exception::Kind::DISCONNECTED));
  stream.giveRead("a");
  CHECK((failureOf(readInto(stream, buffer), scope).kind() == Exception::Kind::DISCONNECTED));
}

TEST_CASE_FIXTURE(LoopTest, "destroying a scripted stream rejects what waits with DISCONNECTED") {
  ManualTimer timer;
  auto stream = std::make_unique<ScriptedStream>();
  stream->delay(timer, 1s);
  std::string buffer(8, '.');
  Promise<std::size_t> read = readInto(*stream, buffer);
  Promise<void> write = stream->write("abc");
  Promise<void> disconnected = stream->whenWriteDisconnected();
  REQUIRE(!read.poll(scope));
  REQUIRE(!write.poll(scope));
  stream.reset();
  CHECK(!timer.nextEvent());
  const Exception e = failureOf(std::move(read), scope);
  CHECK((e.kind() == Exception::Kind::DISCONNECTED));
  CHECK(madeIn(e, "testing_test.cc"));
  CHECK((failureOf(std::move(write), scope).kind() == Exception::Kind::DISCONNECTED));
  std::move(disconnected).wait(scope);
}

TEST_CASE_FIXTURE(LoopTest, "a scripted read that is ready when the stream goes keeps its bytes") {
  auto stream = std::make_unique<ScriptedStream>();
  stream->giveRead("abc");
  Promise<Chunk> read = stream->tryReadChunk();
  REQUIRE(read.poll(scope));
  stream.reset();
  CHECK(std::move(read).wait(scope).text() == "abc");
}

TEST_CASE_FIXTURE(LoopTest, "misuse of a scripted stream throws FAILED and says what was wrong") {
  ManualTimer timer;
  ScriptedStream stream;
  stream.delay(timer, 1s);
  std::string buffer(8, '.');
  Promise<std::size_t> read = readInto(stream, buffer);
  Promise<void> write = stream.write("abc");
  CHECK(contains(thrownBy([&] { static_cast<void>(readInto(stream, buffer)); }).description(), "another read"));
  CHECK(contains(thrownBy([&] { static_cast<void>(stream.tryReadChunk()); }).description(), "another read"));
  CHECK(contains(thrownBy([&] { static_cast<void>(stream.write("x")); }).description(), "another write"));
  CHECK(contains(thrownBy([&] { stream.shutdownWrite(); }).description(), "another write"));
  ScriptedStream other;
  CHECK(contains(thrownBy([&] { static_cast<void>(other.tryRead({})); }).description(), "the buffer is empty"));
  CHECK(contains(thrownBy([&] { static_cast<void>(readInto(other, buffer, 9)); }).description(), "minBytes is 9"));
  CHECK(contains(thrownBy([&] { static_cast<void>(readInto(other, buffer, 0)); }).description(), "minBytes is 0"));
  CHECK(contains(thrownBy([&] { static_cast<void>(other.tryReadChunk(0)); }).description(), "maxBytes is 0"));
  CHECK(contains(thrownBy([&] { other.shortReads(0); }).description(), "0 bytes at a time"));
  CHECK(contains(thrownBy([&] { other.shortWrites(0); }).description(), "0 bytes at a time"));
  other.shutdownWrite();
  other.shutdownWrite();
  CHECK(contains(thrownBy([&] { static_cast<void>(other.write("x")); }).description(), "shut down for writing"));
}

TEST_CASE("a scripted conversation may be cancelled anywhere") {
  const std::size_t steps = cancelSweep([](LoopTest&) -> Promise<void> {
    ScriptedStream stream;
    stream.delayTurns(2).giveRead("abcdef").expectWrite("xyz").delayTurns(1).giveEnd().shortReads(2).shortWrites(1);
    std::string buffer(4, '.');
    co_await stream.read(bufferOf(buffer));
    co_await stream.write("xyz");
    co_await stream.readAllText(10);
    stream.checkFinished();
  });
  CHECK(steps > 8);
}

// ------------------------------------------------------------------------------------------- short streams

TEST_CASE_FIXTURE(LoopTest, "a short stream passes a few bytes at a time, both ways") {
  ScriptedStream script;
  script.giveRead("abcdef").expectWrite("uvwxyz").giveEnd().expectShutdown();
  const std::unique_ptr<AsyncIoStream> stream = newShortIoStream(script, 2);
  std::string buffer(8, '.');
  CHECK(readInto(*stream, buffer).wait(scope) == 2);
  CHECK(stream->tryReadChunk().wait(scope).text() == "cd");
  stream->write("uvwxyz").wait(scope);
  const std::vector<std::span<const std::byte>> nothing = {asBytes(""), asBytes("")};
  stream->write(nothing).wait(scope);
  CHECK(readInto(*stream, buffer, 2).wait(scope) == 2);
  stream->shutdownWrite();
  CHECK(stream->tryReadChunk().wait(scope).empty());
  CHECK(!stream->descriptor());
  CHECK(!stream->tryGetLength());
  script.checkFinished();
}

TEST_CASE_FIXTURE(LoopTest, "a short stream makes one write of each few bytes") {
  ScriptedStream script;
  script.expectWrite("abcd").failWriteAt(3);
  const std::unique_ptr<AsyncIoStream> stream = newShortIoStream(script, 2);
  Promise<void> disconnected = stream->whenWriteDisconnected();
  CHECK((failureOf(stream->write("abcd"), scope).kind() == Exception::Kind::DISCONNECTED));
  CHECK(disconnected.poll(scope));
}

TEST_CASE_FIXTURE(LoopTest, "a read of a short stream that is dropped loses nothing, in either kind") {
  ScriptedStream script;
  script.giveRead("abc").giveEnd();
  const std::unique_ptr<AsyncInputStream> input = newShortInputStream(script, 1);
  std::string buffer(8, '.');
  {
    Promise<std::size_t> dropped = readInto(*input, buffer, 2);
    REQUIRE(dropped.poll(scope));
  }
  {
    Promise<Chunk> dropped = input->tryReadChunk();
    REQUIRE(dropped.poll(scope));
  }
  CHECK(input->readAllText(10).wait(scope) == "abc");
  CHECK(!input->tryGetLength());
}

TEST_CASE_FIXTURE(LoopTest, "destroying a short stream rejects what waits and leaves the stream under it") {
  ManualTimer timer;
  ScriptedStream script;
  script.delay(timer, 1s).giveRead("abc").expectWrite("xyz");
  std::unique_ptr<AsyncIoStream> stream = newShortIoStream(script, 1);
  Promise<Chunk> read = stream->tryReadChunk();
  Promise<void> write = stream->write("xyz");
  CHECK(contains(thrownBy([&] { stream->shutdownWrite(); }).description(), "another write"));
  REQUIRE(!read.poll(scope));
  stream.reset();
  CHECK((failureOf(std::move(read), scope).kind() == Exception::Kind::DISCONNECTED));
  CHECK((failureOf(std::move(write), scope).kind() == Exception::Kind::DISCONNECTED));
  timer.advanceBy(1s);
  CHECK(script.tryReadChunk().wait(scope).text() == "abc");
  script.write("xyz").wait(scope);
}

TEST_CASE_FIXTURE(LoopTest, "both streams may go when a part of a short write has just been done") {
  auto inner = std::make_unique<Manual>();
  std::unique_ptr<AsyncIoStream> stream = newShortIoStream(*inner, 1);
  Promise<void> write = stream->write("xyz");
  REQUIRE(!write.poll(scope));
  inner->writing->fulfill();
  stream.reset();
  inner.reset();
  CHECK((failureOf(std::move(write), scope).kind() == Exception::Kind::DISCONNECTED));
}

TEST_CASE_FIXTURE(LoopTest, "abortRead of a short stream aborts the stream under it") {
  ScriptedStream script;
  const std::unique_ptr<AsyncIoStream> stream = newShortIoStream(script, 1);
  stream->abortRead();
  CHECK((failureOf(stream->tryReadChunk(), scope).kind() == Exception::Kind::DISCONNECTED));
  CHECK(contains(thrownBy([&] { newShortIoStream(script, 0); }).description(), "newShortIoStream: 0 bytes"));
  CHECK(contains(thrownBy([&] { newShortInputStream(script, 0); }).description(), "newShortInputStream: 0 bytes"));
}

TEST_CASE("a short stream may be cancelled anywhere") {
  cancelSweep([](LoopTest&) -> Promise<void> {
    ScriptedStream script;
    script.giveRead("abcdef").expectWrite("xyz").giveEnd().shortWrites(1);
    const std::unique_ptr<AsyncIoStream> stream = newShortIoStream(script, 1);
    std::string buffer(4, '.');
    co_await stream->read(bufferOf(buffer));
    co_await stream->write("xyz");
    co_await stream->readAllText(10);
    script.checkFinished();
  });
}
