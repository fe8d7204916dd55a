// SPDX-License-Identifier: MIT
// Tests of the buffered reader and writer: lines however they are cut, nothing lost, everything bounded.
#include "peer.h"

#include <troth/io/buffered.h>
#include <troth/io/limited.h>
#include <troth/io/pipe.h>
#include <troth/io/testing.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

using namespace troth;
using namespace troth::test;

namespace {

Promise<std::size_t> readInto(AsyncInputStream& stream, std::string& buffer, std::size_t minBytes = 1,
                              std::source_location where = std::source_location::current()) {
  return stream.tryRead(bufferOf(buffer), minBytes, where);
}

std::string_view asText(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::unique_ptr<ScriptedStream> given(std::string_view text, std::size_t most = 1000) {
  auto stream = std::make_unique<ScriptedStream>();
  stream->giveRead(text).giveEnd().shortReads(most);
  return stream;
}

/// All lines of a stream, each in brackets.
Promise<std::string> allLines(BufferedInputStream& stream) {
  std::string all;
  for (;;) {
    const std::optional<std::string> line = co_await stream.readLine();
    if (!line) co_return all;
    all += '[' + *line + ']';
  }
}

/// Counts the reads that pass through, and remembers the largest buffer.
class Counting final : public AsyncInputStream {
public:
  explicit Counting(AsyncInputStream& inner) : inner_(inner) {}
  std::size_t reads = 0;
  std::size_t largest = 0;

  Promise<std::size_t> tryRead(std::span<std::byte> buffer, std::size_t minBytes, std::source_location where) override {
    ++reads;
    largest = std::max(largest, buffer.size());
    return inner_.tryRead(buffer, minBytes, where);
  }
  std::optional<std::uint64_t> tryGetLength() const override { return 100; }

private:
  AsyncInputStream& inner_;
};

/// Gives one byte when the test says so.
class Manual final : public AsyncInputStream {
public:
  std::unique_ptr<PromiseFulfiller<std::size_t>> reading;

  Promise<std::size_t> tryRead(std::span<std::byte> buffer, std::size_t, std::source_location) override {
    buffer[0] = std::byte('x');
    auto pair = newPromiseAndFulfiller<std::size_t>();
    reading = std::move(pair.fulfiller);
    return std::move(pair.promise);
  }
};

} // namespace

// ------------------------------------------------------------------------------------------- lines

TEST_CASE_FIXTURE(LoopTest, "lines end with a line feed or both, and the last one with the stream") {
  struct Case {
    std::string_view text;
    std::string_view lines;
  };
  for (const Case& c : {Case{"a\nbc\r\n\n\r\nd", "[a][bc][][][d]"}, Case{"", ""}, Case{"a", "[a]"}, Case{"a\n", "[a]"},
                        Case{"\n", "[]"}, Case{"a\rb\r\r\n", "[a\rb\r]"}, Case{"a\r", "[a\r]"}, Case{"\r\n\r\n", "[][]"}}) {
    for (const std::size_t most : {std::size_t(1), std::size_t(2), std::size_t(3), std::size_t(1000)}) {
      for (const std::size_t capacity : {std::size_t(6), std::size_t(1000)}) {
        CAPTURE(c.text);
        CAPTURE(most);
        BufferedInputStream stream(given(c.text, most), capacity);
        CHECK(allLines(stream).wait(scope) == c.lines);
        CHECK(!stream.readLine().wait(scope));
      }
    }
  }
}

TEST_CASE_FIXTURE(LoopTest, "what is read ahead serves the next lines without the inner stream") {
  const std::unique_ptr<ScriptedStream> script = given("one\ntwo\nthree");
  Counting inner(*script);
  BufferedInputStream stream(inner);
  CHECK(*stream.readLine().wait(scope) == "one");
  CHECK(stream.buffered() == 9);
  CHECK(*stream.readLine().wait(scope) == "two");
  CHECK(inner.reads == 1);
  CHECK(stream.buffered() == 5);
  CHECK(stream.tryGetLength() == 105);
}

TEST_CASE_FIXTURE(LoopTest, "a line of the limit is read, a longer one is FAILED and stays") {
  for (const std::size_t most : {std::size_t(1), std::size_t(1000)}) {
    for (const std::string end : {"\n", "\r\n"}) {
      BufferedInputStream stream(given("abcd" + end + "abcde" + end, most));
      CHECK(*stream.readLine(4).wait(scope) == "abcd");
      for (int i = 0; i < 2; ++i) {
        const Exception e = failureOf(stream.readLine(4), scope);
        CHECK((e.kind() == Exception::Kind::FAILED));
        CHECK(contains(e.description(), "readLine: the line has more than 4 bytes"));
        CHECK(madeIn(e, "buffered_test.cc"));
      }
      CHECK(*stream.readLine(5).wait(scope) == "abcde");
    }
  }
  BufferedInputStream last(given("abcde"));
  CHECK(contains(failureOf(last.readLine(4), scope).description(), "more than 4 bytes"));
  CHECK(last.readAllText(10).wait(scope) == "abcde");
}

TEST_CASE_FIXTURE(LoopTest, "a line fits if the buffer has room for its end; if not it is FAILED, and stays") {
  BufferedInputStream stream(given("abc\nabcd\n"), 4);
  CHECK(*stream.readLine().wait(scope) == "abc");
  const Exception e = failureOf(stream.readLine(), scope);
  CHECK((e.kind() == Exception::Kind::FAILED));
  CHECK(contains(e.description(), "does not fit into the buffer of 4 bytes"));
  CHECK(stream.buffered() == 4);
  CHECK(stream.readAllText(10).wait(scope) == "abcd\n");
}

TEST_CASE_FIXTURE(LoopTest, "a line may be as long as the buffer has room for, and come a few bytes at a time") {
  const std::string line = numberedBytes(200'000);
  std::string text = line;
  for (char& c : text)
    if (c == '\n' || c == '\r') c = ' ';
  auto script = given(text + "\nnext", 7);
  BufferedInputStream stream(std::move(script), 300'000);
  CHECK((*stream.readLine().wait(scope) == text));
  CHECK(*stream.readLine().wait(scope) == "next");
}

// ------------------------------------------------------------------------------------------- delimiters and peeking

TEST_CASE_FIXTURE(LoopTest, "readUntil reads to a delimiter of several bytes, however they are cut") {
  for (const std::size_t most : {std::size_t(1), std::size_t(2), std::size_t(3), std::size_t(1000)}) {
    CAPTURE(most);
    BufferedInputStream stream(given("a--b---bc--bxy", most), 8);
    CHECK(*stream.readUntil("--b").wait(scope) == "a");
    CHECK(*stream.readUntil("--b").wait(scope) == "-");
    CHECK(*stream.readUntil("--b").wait(scope) == "c");
    const Exception e = failureOf(stream.readUntil("--b"), scope);
    CHECK((e.kind() == Exception::Kind::DISCONNECTED));
    CHECK(contains(e.description(), "ended after 2 bytes, without the delimiter"));
    CHECK(stream.readAllText(10).wait(scope) == "xy");
    CHECK(!stream.readUntil("--b").wait(scope));
  }
}

TEST_CASE_FIXTURE(LoopTest, "readUntil keeps to its limit, in front of the delimiter") {
  for (const std::size_t most : {std::size_t(1), std::size_t(1000)}) {
    BufferedInputStream stream(given("abc;;abcd;;", most));
    CHECK(*stream.readUntil(";;", 3).wait(scope) == "abc");
    CHECK(contains(failureOf(stream.readUntil(";;", 3), scope).description(), "more than 3 bytes"));
    CHECK(*stream.readUntil(";;", 4).wait(scope) == "abcd");
  }
  BufferedInputStream full(given("abcdef;;"), 4);
  CHECK(contains(failureOf(full.readUntil(";;"), scope).description(), "buffer of 4 bytes"));
}

TEST_CASE_FIXTURE(LoopTest, "readUntil owns its delimiter") {
  auto script = std::make_unique<ScriptedStream>();
  script->delayTurns(2).giveRead("ab;cd");
  BufferedInputStream stream(std::move(script));
  auto delimiter = std::make_unique<std::string>(";");
  Promise<std::optional<std::string>> read = stream.readUntil(*delimiter);
  delimiter.reset();
  CHECK(*std::move(read).wait(scope) == "ab");
}

TEST_CASE_FIXTURE(LoopTest, "peek shows bytes and consumes none") {
  BufferedInputStream stream(given("abcdef", 2), 4);
  CHECK(stream.peek(0).wait(scope).empty());
  CHECK(asText(stream.peek(1).wait(scope)) == "ab");
  CHECK(asText(stream.peek(3).wait(scope)) == "abcd");
  std::string buffer(3, '.');
  CHECK(readInto(stream, buffer).wait(scope) == 3);
  CHECK(asText(stream.peek(3).wait(scope)) == "def"); // moved to the front
  CHECK(asText(stream.peek(4).wait(scope)) == "def"); // all there is
  CHECK(stream.readAllText(10).wait(scope) == "def");
  CHECK(stream.peek(4).wait(scope).empty());
}

// ------------------------------------------------------------------------------------------- plain reading

TEST_CASE_FIXTURE(LoopTest, "plain reads take what is buffered first") {
  BufferedInputStream stream(given("line\nabcdef"));
  CHECK(*stream.readLine().wait(scope) == "line");
  std::string buffer(4, '.');
  Promise<std::size_t> read = readInto(stream, buffer, 2);
  CHECK(buffer == "....");
  CHECK(std::move(read).wait(scope) == 4);
  CHECK(buffer == "abcd");
  CHECK(stream.tryReadChunk(1).wait(scope).text() == "e");
  CHECK(stream.tryReadChunk().wait(scope).text() == "f");
  CHECK(stream.tryReadChunk().wait(scope).empty());
  CHECK(readInto(stream, buffer, 4).wait(scope) == 0);
}

TEST_CASE_FIXTURE(LoopTest, "large reads go past the buffer, small ones through it") {
  const std::unique_ptr<ScriptedStream> script = given("abcdefghijklmnopqrstuvwxyz");
  Counting inner(*script);
  BufferedInputStream stream(inner, 4);
  std::string small(2, '.');
  CHECK(readInto(stream, small).wait(scope) == 2);
  CHECK(inner.largest == 4);
  CHECK(stream.buffered() == 2);
  std::string large(10, '.');
  CHECK(readInto(stream, large, 7).wait(scope) == 10);
  CHECK(large == "cdefghijkl");
  CHECK(inner.largest == 8);
  CHECK(stream.buffered() == 0);
  std::string larger(100, '.');
  CHECK(readInto(stream, larger, 100).wait(scope) == 14);
  CHECK(larger.substr(0, 14) == "mnopqrstuvwxyz");
}

TEST_CASE_FIXTURE(LoopTest, "reads of every size and minimum give the bytes in order") {
  const std::string text = numberedBytes(60);
  for (const std::size_t most : {std::size_t(1), std::size_t(4), std::size_t(100)}) {
    for (std::size_t size = 1; size <= 12; ++size) {
      for (std::size_t minBytes = 1; minBytes <= size; ++minBytes) {
        CAPTURE(size);
        CAPTURE(minBytes);
        BufferedInputStream stream(given(text, most), 5);
        std::string got;
        for (;;) {
          std::string buffer(size, '.');
          const std::size_t count = readInto(stream, buffer, minBytes).wait(scope);
          got += buffer.substr(0, count);
          if (count < minBytes) break;
        }
        REQUIRE((got == text));
      }
    }
  }
}

TEST_CASE_FIXTURE(LoopTest, "a pump gives what is buffered first, and then the inner stream's own") {
  for (const std::uint64_t amount : {std::uint64_t(0), std::uint64_t(2), std::uint64_t(6), std::uint64_t(8), ALL_BYTES}) {
    CAPTURE(amount);
    const std::string text = "abcdefghij";
    const std::string expected = text.substr(0, static_cast<std::size_t>(std::min<std::uint64_t>(amount, 10)));
    auto script = std::make_unique<ScriptedStream>();
    script->giveRead("line\nabcdef").giveRead("ghij").giveEnd();
    BufferedInputStream stream(std::move(script));
    CHECK(*stream.readLine().wait(scope) == "line");
    ScriptedStream output;
    output.expectWrite(expected);
    CHECK(stream.pumpTo(output, amount).wait(scope) == expected.size());
    output.checkFinished();
    CHECK(stream.readAllText(10).wait(scope) == text.substr(expected.size()));
  }
}

// ------------------------------------------------------------------------------------------- failures and cancellation

TEST_CASE_FIXTURE(LoopTest, "an error at byte k fails every kind of read that needs more, and loses nothing before") {
  for (std::size_t k = 0; k < 6; ++k) {
    for (const std::size_t most : {std::size_t(1), std::size_t(100)}) {
      CAPTURE(k);
      ScriptedStream script;
      script.giveRead("abcdef\n").failReadAt(k, Exception(Exception::Kind::OVERLOADED, "no more")).shortReads(most);
      BufferedInputStream stream(script);
      CHECK(failureOf(stream.readLine(), scope).description() == "no more");
      CHECK(failureOf(stream.readUntil("f"), scope).description() == "no more");
      CHECK(failureOf(stream.peek(6), scope).description() == "no more");
      CHECK(stream.buffered() == k);
      if (k > 0) CHECK(asText(stream.peek(1).wait(scope)) == std::string("abcdef").substr(0, k));
    }
  }
}

TEST_CASE_FIXTURE(LoopTest, "buffered reads that are cancelled or dropped untaken lose nothing") {
  for (const std::size_t most : {std::size_t(1), std::size_t(3), std::size_t(100)}) {
    for (std::size_t turns = 0; turns < 12; ++turns) {
      CAPTURE(most);
      CAPTURE(turns);
      BufferedInputStream stream(given("abc\ndef;ghijkl", most), 6);
      std::string buffer(20, '.');
      const auto drop = [&](auto promise) {
        for (std::size_t i = 0; i < turns && !promise.poll(scope); ++i) {}
      };
      drop(stream.readLine());
      drop(stream.readUntil("abc\n"));
      drop(stream.peek(5));
      drop(readInto(stream, buffer, 2));
      drop(readInto(stream, buffer, 11));
      drop(stream.tryReadChunk());
      CHECK(*stream.readLine().wait(scope) == "abc");
      drop(stream.readUntil(";"));
      CHECK(*stream.readUntil(";").wait(scope) == "def");
      drop(readInto(stream, buffer, 4));
      drop(stream.tryReadChunk(2));
      CHECK(stream.readAllText(20).wait(scope) == "ghijkl");
    }
  }
}

TEST_CASE("buffered reads may be cancelled anywhere") {
  cancelSweep([](LoopTest&) -> Promise<void> {
    BufferedInputStream stream(given("line\nand more;and so on to the end", 3), 16);
    co_await stream.readLine();
    co_await stream.peek(5);
    co_await stream.readUntil(";");
    std::string buffer(3, '.');
    co_await stream.read(bufferOf(buffer));
    const std::unique_ptr<AsyncIoStream> output = newNullStream();
    co_await stream.pumpTo(*output);
  });
}

TEST_CASE_FIXTURE(LoopTest, "destroying a buffered stream rejects what waits, whoever owns the inner one") {
  for (const bool owns : {false, true}) {
    for (const std::size_t turns : {std::size_t(0), std::size_t(1), std::size_t(2), std::size_t(100)}) {
      for (int kind = 0; kind < 5; ++kind) {
        auto script = std::make_unique<ScriptedStream>();
        script->giveRead("ab").delayTurns(1).giveRead("cd").shortReads(1);
        std::unique_ptr<BufferedInputStream> stream;
        if (owns)
          stream = std::make_unique<BufferedInputStream>(std::move(script), 8);
        else
          stream = std::make_unique<BufferedInputStream>(*script, 8);
        std::string buffer(5, '.');
        const std::unique_ptr<AsyncIoStream> output = newNullStream();
        Promise<void> pending = kind == 0   ? stream->readLine().ignoreResult()
                                : kind == 1 ? stream->readUntil("xx").ignoreResult()
                                : kind == 2 ? stream->peek(5).ignoreResult()
                                : kind == 3 ? readInto(*stream, buffer, 5).ignoreResult()
                                            : stream->pumpTo(*output).ignoreResult();
        loop.run(static_cast<unsigned>(turns));
        stream.reset();
        if (kind != 4) script.reset();
        CHECK((failureOf(std::move(pending), scope).kind() == Exception::Kind::DISCONNECTED));
      }
    }
  }
}

TEST_CASE_FIXTURE(LoopTest, "both streams may go when a part of a line has just come") {
  auto inner = std::make_unique<Manual>();
  auto stream = std::make_unique<BufferedInputStream>(*inner);
  Promise<std::optional<std::string>> line = stream->readLine();
  REQUIRE(!line.poll(scope));
  inner->reading->fulfill(1);
  stream.reset();
  inner.reset();
  CHECK((failureOf(std::move(line), scope).kind() == Exception::Kind::DISCONNECTED));
}

TEST_CASE_FIXTURE(LoopTest, "the output of a pump may go when what was buffered has just been written (R9)") {
  /// Writes when the test says so.
  struct ManualOutput final : AsyncOutputStream {
    std::unique_ptr<PromiseFulfiller<void>> writing;
    Promise<void> write(std::span<const std::byte>, std::source_location) override {
      auto pair = newPromiseAndFulfiller<void>();
      writing = std::move(pair.fulfiller);
      return std::move(pair.promise);
    }
    Promise<void> write(std::span<const std::span<const std::byte>>, std::source_location) override { return NEVER_DONE; }
  };
  BufferedInputStream stream(given("line\nabc"));
  CHECK(*stream.readLine().wait(scope) == "line");
  auto output = std::make_unique<ManualOutput>();
  Promise<std::uint64_t> pump = stream.pumpTo(*output);
  REQUIRE(!pump.poll(scope));
  output->writing->fulfill();
  output.reset();
  CHECK((failureOf(std::move(pump), scope).kind() == Exception::Kind::DISCONNECTED));
}

TEST_CASE_FIXTURE(LoopTest, "what a cancelled pump had begun to write does not come a second time") {
  BufferedInputStream stream(given("line\nabcdef"));
  CHECK(*stream.readLine().wait(scope) == "line");
  OneWayPipe pipe = newOneWayPipe();
  std::optional<Promise<std::uint64_t>> pump = stream.pumpTo(*pipe.output);
  std::string got(3, '\0');
  CHECK(readInto(*pipe.input, got, 3).wait(scope) == 3);
  CHECK(got == "abc");
  pump.reset();
  CHECK(stream.readAllText(10).wait(scope).find("abc") == std::string::npos);
}

TEST_CASE_FIXTURE(LoopTest, "a pump that cannot begin to write leaves its bytes where they are") {
  BufferedInputStream stream(given("line\nabcdef"));
  CHECK(*stream.readLine().wait(scope) == "line");
  OneWayPipe pipe = newOneWayPipe();
  const Promise<void> other = pipe.output->write("x");
  CHECK((failureOf(stream.pumpTo(*pipe.output), scope).kind() == Exception::Kind::FAILED));
  CHECK(stream.readAllText(10).wait(scope) == "abcdef");
}

TEST_CASE_FIXTURE(LoopTest, "a line that is ready when the streams go is still there to be taken") {
  std::unique_ptr<ScriptedStream> script = given("abc\n");
  auto stream = std::make_unique<BufferedInputStream>(*script);
  Promise<std::optional<std::string>> line = stream->readLine();
  REQUIRE(line.poll(scope));
  stream.reset();
  script.reset();
  CHECK(*std::move(line).wait(scope) == "abc");
}

TEST_CASE_FIXTURE(LoopTest, "misuse of a buffered reader throws FAILED and says what was wrong") {
  ScriptedStream script;
  CHECK(contains(thrownBy([&] { BufferedInputStream none(script, 0); }).description(), "a buffer of 0 bytes"));
  const Exception null = thrownBy([] { BufferedInputStream none(nullptr); });
  CHECK(contains(null.description(), "BufferedInputStream: the stream is null"));
  CHECK(madeIn(null, "buffered_test.cc"));
  BufferedInputStream stream(script, 4);
  std::string buffer(8, '.');
  CHECK(contains(thrownBy([&] { static_cast<void>(stream.readUntil("")); }).description(), "the delimiter is empty"));
  CHECK(contains(thrownBy([&] { static_cast<void>(stream.peek(5)); }).description(), "5 bytes do not fit"));
  CHECK(contains(thrownBy([&] { static_cast<void>(stream.tryRead({})); }).description(), "the buffer is empty"));
  CHECK(contains(thrownBy([&] { static_cast<void>(readInto(stream, buffer, 9)); }).description(), "minBytes is 9"));
  CHECK(contains(thrownBy([&] { static_cast<void>(stream.tryReadChunk(0)); }).description(), "maxBytes is 0"));
  Promise<std::optional<std::string>> line = stream.readLine();
  const std::unique_ptr<AsyncIoStream> output = newNullStream();
  for (const std::string& description :
       {std::string(thrownBy([&] { static_cast<void>(stream.readLine()); }).description()),
        std::string(thrownBy([&] { static_cast<void>(stream.readUntil("x")); }).description()),
        std::string(thrownBy([&] { static_cast<void>(stream.peek(1)); }).description()),
        std::string(thrownBy([&] { static_cast<void>(readInto(stream, buffer)); }).description()),
        std::string(thrownBy([&] { static_cast<void>(stream.tryReadChunk()); }).description()),
        std::string(thrownBy([&] { static_cast<void>(stream.pumpTo(*output)); }).description())})
    CHECK(contains(description, "another read of this stream is pending"));
  script.giveRead("a\n");
  CHECK(*std::move(line).wait(scope) == "a");
}

// ------------------------------------------------------------------------------------------- writing

namespace {

/// Remembers each write, and fails or waits as the test says.
class Recording final : public AsyncOutputStream {
public:
  std::vector<std::string> writes;
  std::optional<Exception> error;
  bool isSlow = false;

  Promise<void> write(std::span<const std::byte> bytes, std::source_location where) override {
    return write(std::span(&bytes, 1), where);
  }
  Promise<void> write(std::span<const std::span<const std::byte>> pieces, std::source_location) override {
    std::string all;
    for (const std::span<const std::byte> piece : pieces) all += asText(piece);
    writes.push_back(all);
    if (error) return *error;
    if (isSlow) return NEVER_DONE;
    return yield();
  }
  Promise<void> whenWriteDisconnected(std::source_location) override { return READY_NOW; }
};

} // namespace

TEST_CASE_FIXTURE(LoopTest, "writes are gathered until they do not fit, and sent together in one write") {
  Recording inner;
  BufferedOutputStream stream(inner, 8);
  stream.write("abc").wait(scope);
  const std::vector<std::span<const std::byte>> pieces = {asBytes("de"), {}, asBytes("fgh")};
  stream.write(pieces).wait(scope);
  CHECK(inner.writes.empty());
  CHECK(stream.buffered() == 8);
  stream.write("ijkl").wait(scope);
  REQUIRE(inner.writes.size() == 1);
  CHECK(inner.writes[0] == "abcdefghijkl");
  CHECK(stream.buffered() == 0);
  stream.write("0123456789").wait(scope);
  REQUIRE(inner.writes.size() == 2);
  CHECK(inner.writes[1] == "0123456789");
  stream.whenWriteDisconnected().wait(scope);
}

TEST_CASE_FIXTURE(LoopTest, "flush sends what was gathered, and nothing if nothing was") {
  Recording inner;
  BufferedOutputStream stream(inner);
  stream.flush().wait(scope);
  CHECK(inner.writes.empty());
  stream.write("abc").wait(scope);
  stream.flush().wait(scope);
  stream.flush().wait(scope);
  stream.write("def").wait(scope);
  stream.flush().wait(scope);
  CHECK((inner.writes == std::vector<std::string>{"abc", "def"}));
}

TEST_CASE_FIXTURE(LoopTest, "a buffered writer that is destroyed does not flush") {
  Recording inner;
  {
    BufferedOutputStream stream(inner);
    stream.write("abc").wait(scope);
  }
  CHECK(inner.writes.empty());
}

TEST_CASE_FIXTURE(LoopTest, "an error of sending is that of each later operation, also if nobody saw it") {
  Recording inner;
  inner.error = Exception(Exception::Kind::OVERLOADED, "no room");
  BufferedOutputStream stream(inner, 4);
  stream.write("abc").wait(scope);
  SUBCASE("of a flush that is seen") { CHECK(failureOf(stream.flush(), scope).description() == "no room"); }
  SUBCASE("of a flush that is dropped") {
    Promise<void> flush = stream.flush();
    REQUIRE(flush.poll(scope));
  }
  SUBCASE("of a write") { CHECK(failureOf(stream.write("def"), scope).description() == "no room"); }
  CHECK(failureOf(stream.flush(), scope).description() == "no room");
  CHECK(failureOf(stream.write("x"), scope).description() == "no room");
  CHECK(inner.writes.size() == 1);
}

TEST_CASE_FIXTURE(LoopTest, "after sending was cancelled every operation is FAILED") {
  Recording inner;
  inner.isSlow = true;
  BufferedOutputStream stream(inner, 4);
  stream.write("abc").wait(scope);
  {
    Promise<void> flush = stream.flush();
    CHECK(!flush.poll(scope));
  }
  const Exception e = failureOf(stream.write("x"), scope);
  CHECK((e.kind() == Exception::Kind::FAILED));
  CHECK(contains(e.description(), "an earlier write or flush was cancelled"));
  CHECK((failureOf(stream.flush(), scope).kind() == Exception::Kind::FAILED));
}

TEST_CASE_FIXTURE(LoopTest, "an error at byte k of the peer is reported, however the bytes were written") {
  const std::string text = "abcdefghijklmnop";
  for (const std::size_t capacity : {std::size_t(1), std::size_t(5), std::size_t(100)}) {
    for (const std::size_t piece : {std::size_t(1), std::size_t(3), std::size_t(16)}) {
      for (std::size_t k = 0; k < text.size(); ++k) {
        CAPTURE(k);
        ScriptedStream script;
        script.expectWrite(text).failWriteAt(k).shortWrites(2);
        BufferedOutputStream stream(script, capacity);
        std::optional<Exception> failure;
        const auto attempt = [&](Promise<void> promise) {
          std::move(promise).catch_([&](Exception e) { failure = std::move(e); }).wait(scope);
        };
        for (std::size_t i = 0; i < text.size() && !failure; i += piece)
          attempt(stream.write(std::string_view(text).substr(i, piece)));
        if (!failure) attempt(stream.flush());
        REQUIRE(failure);
        CHECK((failure->kind() == Exception::Kind::DISCONNECTED));
      }
    }
  }
}

TEST_CASE("buffered writes may be cancelled anywhere") {
  cancelSweep([](LoopTest&) -> Promise<void> {
    auto script = std::make_unique<ScriptedStream>();
    script->expectWrite("abcdefghijklmnop").shortWrites(2);
    BufferedOutputStream stream(std::move(script), 4);
    for (const std::string_view part : {"a", "bcd", "efg", "hijklm", "n", "op"}) co_await stream.write(part);
    co_await stream.flush();
  });
}

TEST_CASE_FIXTURE(LoopTest, "destroying a buffered writer rejects the send that waits, whoever owns the inner stream") {
  for (const bool owns : {false, true}) {
    for (const bool flush : {false, true}) {
      auto script = std::make_unique<ScriptedStream>();
      script->expectWrite("abcdefgh").shortWrites(1);
      std::unique_ptr<BufferedOutputStream> stream;
      if (owns)
        stream = std::make_unique<BufferedOutputStream>(std::move(script), 4);
      else
        stream = std::make_unique<BufferedOutputStream>(*script, 4);
      stream->write("abcd").wait(scope);
      Promise<void> pending = flush ? stream->flush() : stream->write("efgh");
      loop.run(2);
      stream.reset();
      script.reset();
      CHECK((failureOf(std::move(pending), scope).kind() == Exception::Kind::DISCONNECTED));
    }
  }
}

TEST_CASE_FIXTURE(LoopTest, "misuse of a buffered writer throws FAILED and says what was wrong") {
  Recording inner;
  inner.isSlow = true;
  CHECK(contains(thrownBy([&] { BufferedOutputStream none(inner, 0); }).description(), "a buffer of 0 bytes"));
  CHECK(contains(thrownBy([] { BufferedOutputStream none(nullptr); }).description(), "the stream is null"));
  BufferedOutputStream stream(inner, 4);
  Promise<void> write = stream.write("abcde");
  CHECK(contains(thrownBy([&] { static_cast<void>(stream.write("x")); }).description(), "write: another write"));
  const Exception e = thrownBy([&] { static_cast<void>(stream.flush()); });
  CHECK(contains(e.description(), "flush: another write"));
  CHECK(madeIn(e, "buffered_test.cc"));
}
