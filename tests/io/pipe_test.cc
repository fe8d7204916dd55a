// SPDX-License-Identifier: MIT
// Tests of the pipe in memory: everything that may meet in it, and everybody who may go in the middle.
#include "../runtime/helpers.h"
#include "peer.h"
#include "pump_all.h"

#include <troth/io/limited.h>
#include <troth/io/pipe.h>
#include <troth/io/testing.h>
#include <troth/runtime/join.h>

#include <array>
#include <functional>
#include <optional>
#include <string>
#include <vector>

using namespace troth;
using namespace troth::test;

namespace {

using Kind = Exception::Kind;

/// One direction, with what tests do to it again and again.
struct PipeTest : LoopTest {
  OneWayPipe pipe = newOneWayPipe();
  OneWayPipe second = newOneWayPipe();

  /// Reads exactly `text`, which must be there.
  void expectRead(AsyncInputStream& input, std::string_view text) {
    std::string buffer(text.size(), '.');
    Promise<void> read = input.read(bufferOf(buffer));
    REQUIRE(read.poll(scope));
    std::move(read).wait(scope);
    CHECK(buffer == text);
  }
  void expectEnd(AsyncInputStream& input) {
    std::array<std::byte, 4> buffer;
    Promise<std::size_t> read = input.tryRead(buffer);
    REQUIRE(read.poll(scope));
    CHECK(std::move(read).wait(scope) == 0);
  }
  template <typename T>
  void expectPending(Promise<T>& promise) {
    CHECK(!promise.poll(scope));
  }
  template <typename T>
  Exception expectFailed(Promise<T>& promise) {
    REQUIRE(promise.poll(scope));
    return failureOf(std::move(promise), scope);
  }
  void expectDone(Promise<void>& promise) {
    REQUIRE(promise.poll(scope));
    std::move(promise).wait(scope);
  }
  void expectCount(Promise<std::uint64_t>& promise, std::uint64_t count) {
    REQUIRE(promise.poll(scope));
    CHECK(std::move(promise).wait(scope) == count);
  }
};

std::vector<std::span<const std::byte>> pieces(std::initializer_list<std::string_view> texts) {
  std::vector<std::span<const std::byte>> list;
  for (const std::string_view text : texts) list.push_back(asBytes(text));
  return list;
}

bool isDisconnected(const Exception& e) { return e.kind() == Kind::DISCONNECTED; }

} // namespace

// ----------------------------------------------------------------------------------------- write and read

TEST_CASE_FIXTURE(PipeTest, "a write waits for the read that takes it") {
  Promise<void> write = pipe.output->write("hello");
  expectPending(write);
  expectRead(*pipe.input, "hello");
  expectDone(write);
}

TEST_CASE_FIXTURE(PipeTest, "a read waits for the write that fills it") {
  std::string buffer(5, '.');
  Promise<std::size_t> read = pipe.input->tryRead(bufferOf(buffer), 5);
  expectPending(read);
  Promise<void> first = pipe.output->write("he");
  expectDone(first);
  expectPending(read);
  Promise<void> rest = pipe.output->write("llo!!");
  REQUIRE(read.poll(scope));
  CHECK(std::move(read).wait(scope) == 5);
  CHECK(buffer == "hello");
  expectPending(rest);
  expectRead(*pipe.input, "!!");
  expectDone(rest);
}

TEST_CASE_FIXTURE(PipeTest, "a read takes more than its minimum where it is there") {
  Promise<void> write = pipe.output->write(pieces({"ab", "", "cdef", "gh"}));
  std::string buffer(7, '.');
  CHECK(pipe.input->tryRead(bufferOf(buffer), 1).wait(scope) == 7);
  CHECK(buffer == "abcdefg");
  expectPending(write);
  expectRead(*pipe.input, "h");
  expectDone(write);
}

TEST_CASE_FIXTURE(PipeTest, "the pieces of a write arrive in order, wherever the reads cut them") {
  const std::string whole = "abcdefgh";
  for (std::size_t cut = 1; cut < whole.size(); ++cut) {
    CAPTURE(cut);
    Promise<void> write = pipe.output->write(pieces({"abc", "d", "", "efgh"}));
    expectRead(*pipe.input, whole.substr(0, cut));
    expectRead(*pipe.input, whole.substr(cut));
    expectDone(write);
  }
}

TEST_CASE_FIXTURE(PipeTest, "chunks have what one piece has, and no more than was asked for") {
  Promise<void> write = pipe.output->write(pieces({"abc", "defg"}));
  CHECK(pipe.input->tryReadChunk().wait(scope).text() == "abc");
  CHECK(pipe.input->tryReadChunk(2).wait(scope).text() == "de");
  CHECK(pipe.input->tryReadChunk(2).wait(scope).text() == "fg");
  expectDone(write);
  Promise<Chunk> waits = pipe.input->tryReadChunk();
  expectPending(waits);
  pipe.output->write("late").wait(scope);
  CHECK(std::move(waits).wait(scope).text() == "late");
}

TEST_CASE_FIXTURE(PipeTest, "a write of nothing is done at once, and a read does not see it") {
  std::string buffer(1, '.');
  Promise<std::size_t> read = pipe.input->tryRead(bufferOf(buffer));
  pipe.output->write("").wait(scope);
  pipe.output->write(pieces({"", ""})).wait(scope);
  expectPending(read);
}

TEST_CASE_FIXTURE(PipeTest, "the end of the stream comes after what was written, again and again") {
  Promise<void> write = pipe.output->write("last");
  expectRead(*pipe.input, "last");
  expectDone(write);
  std::string buffer(4, '.');
  Promise<std::size_t> read = pipe.input->tryRead(bufferOf(buffer), 4);
  expectPending(read);
  pipe.output = nullptr;
  REQUIRE(read.poll(scope));
  CHECK(std::move(read).wait(scope) == 0);
  expectEnd(*pipe.input);
  CHECK(pipe.input->tryReadChunk().wait(scope).empty());
}

TEST_CASE_FIXTURE(PipeTest, "a read that has some of its bytes gets them at the end of the stream") {
  std::string buffer(4, '.');
  Promise<std::size_t> read = pipe.input->tryRead(bufferOf(buffer), 4);
  pipe.output->write("ab").wait(scope);
  pipe.output = nullptr;
  CHECK(std::move(read).wait(scope) == 2);
  CHECK(buffer == "ab..");
}

TEST_CASE_FIXTURE(PipeTest, "a read that was cancelled, pending or ready, loses nothing (R5)") {
  std::string buffer(8, '.');
  {
    Promise<std::size_t> read = pipe.input->tryRead(bufferOf(buffer), 8);
    pipe.output->write("abc").wait(scope);
    expectPending(read);
  }
  {
    Promise<std::size_t> read = pipe.input->tryRead(bufferOf(buffer), 4);
    pipe.output->write("d").wait(scope);
    CHECK(read.poll(scope));
  }
  {
    Promise<Chunk> read = pipe.input->tryReadChunk();
    CHECK(read.poll(scope));
  }
  buffer.assign(8, '.');
  CHECK(pipe.input->tryReadChunk(3).wait(scope).text() == "abc");
  expectRead(*pipe.input, "d");
  CHECK(buffer == "........");
}

TEST_CASE_FIXTURE(PipeTest, "a write that was cancelled leaves the pipe usable, and its memory alone (R5)") {
  {
    std::string gone = "abcdef";
    Promise<void> write = pipe.output->write(gone);
    expectRead(*pipe.input, "ab");
    expectPending(write);
  }
  std::string buffer(3, '.');
  Promise<std::size_t> read = pipe.input->tryRead(bufferOf(buffer));
  expectPending(read);
  pipe.output->write("new").wait(scope);
  CHECK(std::move(read).wait(scope) == 3);
  CHECK(buffer == "new");
}

// ------------------------------------------------------------------------------------------------- pumps

TEST_CASE_FIXTURE(PipeTest, "a pump to a stream passes writes on as they come, and ends with the pipe") {
  Promise<std::uint64_t> pump = pipe.input->pumpTo(*second.output);
  expectPending(pump);
  Promise<void> write = pipe.output->write("hello");
  expectPending(write); // nobody has read it
  expectRead(*second.input, "hel");
  expectPending(write);
  expectRead(*second.input, "lo");
  expectDone(write);
  write = pipe.output->write(pieces({"wor", "ld"}));
  expectRead(*second.input, "world");
  expectDone(write);
  expectPending(pump);
  pipe.output = nullptr;
  expectCount(pump, 10);
}

TEST_CASE_FIXTURE(PipeTest, "a pump with an amount stops exactly there") {
  Promise<std::uint64_t> pump = pipe.input->pumpTo(*second.output, 4);
  Promise<void> write = pipe.output->write(pieces({"ab", "cdef"}));
  expectRead(*second.input, "abcd");
  expectCount(pump, 4);
  expectPending(write);
  expectRead(*pipe.input, "ef");
  expectDone(write);
  CHECK(pipe.input->pumpTo(*second.output, 0).wait(scope) == 0);
}

TEST_CASE_FIXTURE(PipeTest, "a pump takes a write that waited for it") {
  Promise<void> write = pipe.output->write("hello");
  Promise<std::uint64_t> pump = pipe.input->pumpTo(*second.output);
  expectRead(*second.input, "hello");
  expectDone(write);
  expectPending(pump);
}

TEST_CASE_FIXTURE(PipeTest, "a pump from a stream fills reads straight from it") {
  Promise<std::uint64_t> pump = *second.output->tryPumpFrom(*pipe.input, ALL_BYTES);
  std::string buffer(6, '.');
  Promise<std::size_t> read = second.input->tryRead(bufferOf(buffer), 6);
  expectPending(read);
  Promise<void> write = pipe.output->write("abc");
  expectDone(write);
  expectPending(read);
  write = pipe.output->write("defg");
  REQUIRE(read.poll(scope));
  CHECK(std::move(read).wait(scope) == 6);
  CHECK(buffer == "abcdef");
  expectPending(write);
  CHECK(second.input->tryReadChunk().wait(scope).text() == "g");
  expectDone(write);
  Promise<Chunk> chunk = second.input->tryReadChunk();
  expectPending(chunk);
  pipe.output = nullptr;
  expectCount(pump, 7);
  expectPending(chunk); // the pump has ended, but not the pipe
  second.output->write("!").wait(scope);
  CHECK(std::move(chunk).wait(scope).text() == "!");
}

TEST_CASE_FIXTURE(PipeTest, "a pump from a stream with an amount stops exactly there") {
  std::optional<Promise<std::uint64_t>> pump = second.output->tryPumpFrom(*pipe.input, 3);
  Promise<void> write = pipe.output->write("abcde");
  std::string buffer(5, '.');
  CHECK(second.input->tryRead(bufferOf(buffer)).wait(scope) == 3);
  CHECK(buffer == "abc..");
  expectCount(*pump, 3);
  expectPending(write);
  expectRead(*pipe.input, "de");
}

TEST_CASE_FIXTURE(PipeTest, "a pump to and a pump from meet, and the pipe is no longer in the way") {
  OneWayPipe third = newOneWayPipe();
  Promise<std::uint64_t> from = *second.output->tryPumpFrom(*pipe.input, ALL_BYTES);
  Promise<std::uint64_t> to = second.input->pumpTo(*third.output, 8);
  Promise<void> write = pipe.output->write("hello");
  expectPending(write);
  expectRead(*third.input, "hello");
  expectDone(write);
  write = pipe.output->write("world");
  expectRead(*third.input, "wor");
  expectCount(to, 8);
  expectPending(write);
  expectPending(from);
  std::string buffer(2, '.');
  CHECK(second.input->tryRead(bufferOf(buffer), 2).wait(scope) == 2);
  CHECK(buffer == "ld");
  expectDone(write);
  pipe.output = nullptr;
  Promise<Chunk> more = second.input->tryReadChunk();
  expectCount(from, 10);
  expectPending(more);
}

TEST_CASE_FIXTURE(PipeTest, "what a cancelled read gave back comes first in a pump") {
  std::string buffer(8, '.');
  {
    Promise<std::size_t> read = pipe.input->tryRead(bufferOf(buffer), 8);
    pipe.output->write("abcde").wait(scope);
  }
  Promise<std::uint64_t> pump = pipe.input->pumpTo(*second.output, 7);
  expectRead(*second.input, "abc");
  Promise<void> write = pipe.output->write("fgh");
  expectRead(*second.input, "defg");
  expectCount(pump, 7);
  expectRead(*pipe.input, "h");
  expectDone(write);
}

TEST_CASE_FIXTURE(PipeTest, "a pump ends with the pipe also while it writes what was given back") {
  std::string buffer(8, '.');
  {
    Promise<std::size_t> read = pipe.input->tryRead(bufferOf(buffer), 8);
    pipe.output->write("abcde").wait(scope);
  }
  Promise<std::uint64_t> pump = pipe.input->pumpTo(*second.output);
  expectPending(pump);
  pipe.output = nullptr;
  expectPending(pump);
  expectRead(*second.input, "abcde");
  expectCount(pump, 5);
}

TEST_CASE_FIXTURE(PipeTest, "a write that is cancelled while it is pumped leaves the pump, and the next one goes on (R5)") {
  Promise<std::uint64_t> pump = pipe.input->pumpTo(*second.output);
  {
    Promise<void> write = pipe.output->write("foobar");
    expectRead(*second.input, "foo");
    expectPending(write);
  }
  std::string buffer(1, '.');
  {
    Promise<std::size_t> read = second.input->tryRead(bufferOf(buffer));
    expectPending(read);
  }
  Promise<void> write = pipe.output->write("baz");
  expectRead(*second.input, "baz");
  expectDone(write);
  expectPending(pump);
}

TEST_CASE_FIXTURE(PipeTest, "a pump that is cancelled fails the write that it was carrying (R5)") {
  Promise<void> write = NEVER_DONE;
  {
    Promise<std::uint64_t> pump = pipe.input->pumpTo(*second.output);
    write = pipe.output->write("foobar");
    expectRead(*second.input, "foo");
  }
  CHECK(isDisconnected(expectFailed(write)));
  write = pipe.output->write("baz");
  expectRead(*pipe.input, "baz");
  expectDone(write);
}

TEST_CASE_FIXTURE(PipeTest, "a pump that is cancelled while it waits leaves everything as it was (R5)") {
  { Promise<std::uint64_t> pump = pipe.input->pumpTo(*second.output); }
  { std::optional<Promise<std::uint64_t>> pump = pipe.output->tryPumpFrom(*second.input, ALL_BYTES); }
  Promise<void> write = pipe.output->write("abc");
  expectRead(*pipe.input, "abc");
  expectDone(write);
}

TEST_CASE_FIXTURE(PipeTest, "a read that is cancelled while a pump fills it gives the bytes back to the pump's input (R5)") {
  Promise<std::uint64_t> pump = *second.output->tryPumpFrom(*pipe.input, ALL_BYTES);
  std::string buffer(8, '.');
  {
    Promise<std::size_t> read = second.input->tryRead(bufferOf(buffer), 8);
    pipe.output->write("abc").wait(scope);
    expectPending(read);
  }
  pump = NEVER_DONE;
  expectRead(*pipe.input, "abc");
}

TEST_CASE_FIXTURE(PipeTest, "a pump from a stream that is cancelled leaves the read waiting, and its bytes with the input (R5)") {
  std::string buffer(8, '.');
  Promise<std::size_t> read = second.input->tryRead(bufferOf(buffer), 8);
  {
    Promise<std::uint64_t> pump = *second.output->tryPumpFrom(*pipe.input, ALL_BYTES);
    pipe.output->write("abc").wait(scope);
    expectPending(read);
  }
  expectRead(*pipe.input, "abc");
  second.output->write("12345678").wait(scope);
  CHECK(std::move(read).wait(scope) == 8);
  CHECK(buffer == "12345678");
}

TEST_CASE_FIXTURE(PipeTest, "of two pumps that have met, each fails if the other is cancelled (R5)") {
  for (const bool from : {true, false}) {
    CAPTURE(from);
    OneWayPipe a = newOneWayPipe();
    OneWayPipe b = newOneWayPipe();
    OneWayPipe c = newOneWayPipe();
    std::optional<Promise<std::uint64_t>> source = b.output->tryPumpFrom(*a.input, ALL_BYTES);
    std::optional<Promise<std::uint64_t>> sink = b.input->pumpTo(*c.output);
    scope.poll();
    (from ? source : sink).reset();
    CHECK(isDisconnected(expectFailed(*(from ? sink : source))));
    Promise<void> write = b.output->write("abc"); // the pipe between them goes on
    expectRead(*b.input, "abc");
    expectDone(write);
  }
}

namespace {

/// A pipe with bytes that a cancelled read gave back, and a pump that is passing them on to `second`, where nobody reads.
struct GivingBackTest : PipeTest {
  GivingBackTest() {
    std::string buffer(8, '.');
    {
      Promise<std::size_t> read = pipe.input->tryRead(bufferOf(buffer), 8);
      pipe.output->write("abcde").wait(scope);
    }
    pump = pipe.input->pumpTo(*second.output);
    expectPending(pump);
  }

  Promise<std::uint64_t> pump = NEVER_DONE;
};

} // namespace

TEST_CASE_FIXTURE(GivingBackTest, "a write that is cancelled takes nothing along of what was given back (R5)") {
  {
    Promise<void> write = pipe.output->write("gone");
    expectPending(write);
  }
  expectPending(pump);
  expectRead(*second.input, "abcde");
  pipe.output = nullptr;
  expectCount(pump, 5);
}

TEST_CASE_FIXTURE(GivingBackTest, "a pump to a pipe that is cancelled takes nothing along of what was given back (R5)") {
  OneWayPipe third = newOneWayPipe();
  {
    std::optional<Promise<std::uint64_t>> from = pipe.output->tryPumpFrom(*third.input, ALL_BYTES);
    expectPending(*from);
  }
  expectPending(pump);
  expectRead(*second.input, "abcde");
  Promise<void> write = third.output->write("kept");
  expectRead(*third.input, "kept");
  pipe.output = nullptr;
  expectCount(pump, 5);
}

TEST_CASE_FIXTURE(GivingBackTest, "a pump that is cancelled while it passes on what was given back fails no writer (R5)") {
  SUBCASE("a write") {
    Promise<void> write = pipe.output->write("fgh");
    expectPending(write);
    pump = NEVER_DONE;
    expectPending(write);
    expectRead(*pipe.input, "fgh");
    expectDone(write);
  }
  SUBCASE("a pump") {
    OneWayPipe third = newOneWayPipe();
    std::optional<Promise<std::uint64_t>> from = pipe.output->tryPumpFrom(*third.input, ALL_BYTES);
    pump = NEVER_DONE;
    expectPending(*from);
    Promise<void> write = third.output->write("fgh");
    expectRead(*pipe.input, "fgh");
    expectDone(write);
  }
}

TEST_CASE_FIXTURE(GivingBackTest, "an error of the output to which what was given back goes fails no writer") {
  Promise<void> write = pipe.output->write("fgh");
  expectPending(write);
  second.input = nullptr;
  CHECK(isDisconnected(expectFailed(pump)));
  expectPending(write);
  expectRead(*pipe.input, "fgh");
  expectDone(write);
}

TEST_CASE_FIXTURE(GivingBackTest, "a write that is cut off fails the reader after what was given back") {
  Promise<void> write = pipe.output->write("fgh");
  expectPending(write);
  pipe.output = nullptr;
  CHECK(isDisconnected(expectFailed(write)));
  expectPending(pump);
  expectRead(*second.input, "abcde");
  CHECK(isDisconnected(expectFailed(pump)));
}

TEST_CASE_FIXTURE(GivingBackTest, "a pump that has not begun goes on to look for its end when the reading end goes") {
  OneWayPipe third = newOneWayPipe();
  std::optional<Promise<std::uint64_t>> from = pipe.output->tryPumpFrom(*third.input, ALL_BYTES);
  pipe.input = nullptr;
  CHECK(isDisconnected(expectFailed(pump)));
  expectPending(*from);
  third.output = nullptr;
  expectCount(*from, 0);
}

TEST_CASE_FIXTURE(GivingBackTest, "what was given back and more than a chunk is passed on whole") {
  pump = NEVER_DONE;
  second = newOneWayPipe();
  const std::string much = numberedBytes(200'000);
  std::string buffer(much.size() + 1, '.');
  {
    Promise<std::size_t> read = pipe.input->tryRead(bufferOf(buffer), buffer.size());
    pipe.output->write(much).wait(scope);
  }
  pump = pipe.input->pumpTo(*second.output, much.size());
  std::string got(much.size(), '.');
  second.input->read(bufferOf(got)).wait(scope);
  CHECK((got == much));
  expectCount(pump, much.size());
}

TEST_CASE_FIXTURE(PipeTest, "pumps in a circle, or of a pipe into itself, fail as soon as bytes come") {
  SUBCASE("into itself") {
    Promise<std::uint64_t> pump = pipe.input->pumpTo(*pipe.output);
    Promise<void> write = pipe.output->write("abc");
    CHECK((expectFailed(write).kind() == Kind::FAILED));
    CHECK((expectFailed(pump).kind() == Kind::FAILED));
  }
  SUBCASE("from itself") {
    Promise<std::uint64_t> pump = *pipe.output->tryPumpFrom(*pipe.input, ALL_BYTES);
    Promise<Chunk> read = pipe.input->tryReadChunk();
    CHECK((expectFailed(read).kind() == Kind::FAILED));
    CHECK((expectFailed(pump).kind() == Kind::FAILED));
  }
  SUBCASE("a circle") {
    Promise<std::uint64_t> there = pipe.input->pumpTo(*second.output);
    Promise<std::uint64_t> back = second.input->pumpTo(*pipe.output);
    Promise<void> write = pipe.output->write("abc");
    CHECK((expectFailed(write).kind() == Kind::FAILED));
    CHECK((expectFailed(there).kind() == Kind::FAILED));
    CHECK((expectFailed(back).kind() == Kind::FAILED));
  }
  Promise<void> write = pipe.output->write("def"); // the pipe goes on
  expectRead(*pipe.input, "def");
  expectDone(write);
}

TEST_CASE_FIXTURE(PipeTest, "an echo of an end to itself ends with the end, whichever side pumps") {
  TwoWayPipe echo = newTwoWayPipe();
  auto& [end, peer] = echo.ends;
  Promise<std::uint64_t> pump = NEVER_DONE;
  SUBCASE("to") { pump = end->pumpTo(*end); }
  SUBCASE("from") { pump = *end->tryPumpFrom(*end, ALL_BYTES); }
  Promise<void> write = peer->write("hello");
  expectRead(*peer, "hello");
  expectDone(write);
  write = peer->write("cut off");
  expectPending(write);
  end = nullptr;
  CHECK(isDisconnected(expectFailed(pump)));
  CHECK(isDisconnected(expectFailed(write)));
}

namespace {

/// Calls a function in the middle of each write.
class Calling final : public AsyncOutputStream {
public:
  std::function<void()> call;

  Promise<void> write(std::span<const std::byte> bytes, std::source_location where) override {
    return write(std::span(&bytes, 1), where);
  }
  Promise<void> write(std::span<const std::span<const std::byte>>, std::source_location) override {
    call();
    return READY_NOW;
  }
};

} // namespace

TEST_CASE("what a pump works for must not be destroyed by the stream that it writes to: that aborts, and says so") {
  const std::vector<std::function<void(PipeTest&, std::optional<Promise<std::uint64_t>>&)>> crimes = {
      [](PipeTest&, auto& pump) { pump.reset(); },
      [](PipeTest& test, auto&) { test.pipe.input.reset(); },
      [](PipeTest& test, auto&) { test.pipe.output.reset(); },
  };
  for (const auto& crime : crimes) {
    const ChildEnd end = runInChild([&] {
      PipeTest test;
      Calling output;
      std::optional<Promise<std::uint64_t>> pump = test.pipe.input->pumpTo(output);
      output.call = [&] { crime(test, pump); };
      Promise<void> write = test.pipe.output->write("abc");
    });
    CHECK(end.aborted);
    CHECK(contains(end.errors, "was destroyed by the stream that it is pumped to"));
  }
}

TEST_CASE_FIXTURE(PipeTest, "a stream that a pump writes to may use the pipe, and let go of what is not concerned") {
  Calling output;
  Promise<std::uint64_t> pump = pipe.input->pumpTo(output);
  Promise<void> disconnected = pipe.output->whenWriteDisconnected();
  output.call = [&] {
    CHECK((thrownBy([&] { (void)pipe.output->write("x"); }).kind() == Kind::FAILED));
    CHECK((thrownBy([&] { (void)pipe.input->tryReadChunk(); }).kind() == Kind::FAILED));
    disconnected = NEVER_DONE;
  };
  pipe.output->write("abc").wait(scope);
  expectPending(pump);
}

// ------------------------------------------------------------------------------------------ ends and errors

TEST_CASE_FIXTURE(PipeTest, "writes fail once the reading end is destroyed, the pending one and the later ones") {
  Promise<void> disconnected = pipe.output->whenWriteDisconnected();
  Promise<void> write = pipe.output->write("abc");
  expectPending(write);
  expectPending(disconnected);
  pipe.input = nullptr;
  CHECK(isDisconnected(expectFailed(write)));
  CHECK(isDisconnected(failureOf(pipe.output->write("def"), scope)));
  expectDone(disconnected);
  pipe.output->whenWriteDisconnected().wait(scope);
}

TEST_CASE("a pipe may outlive the loop that it was used on, and be made before there is one") {
  OneWayPipe pipe = newOneWayPipe();
  {
    LoopTest test;
    std::string buffer(3, '.');
    Promise<std::size_t> read = pipe.input->tryRead(bufferOf(buffer));
    CHECK(!read.poll(test.scope));
    Promise<void> disconnected = pipe.output->whenWriteDisconnected();
    CHECK(!disconnected.poll(test.scope));
    pipe.output->write("abc").wait(test.scope);
    CHECK(std::move(read).wait(test.scope) == 3);
  }
  pipe.input = nullptr;
}

TEST_CASE_FIXTURE(PipeTest, "a pump to a pipe whose reading end is destroyed fails if it has something to write, and only then") {
  Promise<std::uint64_t> pump = *pipe.output->tryPumpFrom(*second.input, ALL_BYTES);
  expectPending(pump);
  pipe.input = nullptr;
  expectPending(pump);
  SUBCASE("something") {
    Promise<void> write = second.output->write("a");
    CHECK(isDisconnected(expectFailed(pump)));
  }
  SUBCASE("nothing") {
    second.output = nullptr;
    expectCount(pump, 0);
  }
  SUBCASE("begun afterwards") {
    pump = NEVER_DONE;
    pump = *pipe.output->tryPumpFrom(*second.input, ALL_BYTES);
    expectPending(pump);
    second.output = nullptr;
    expectCount(pump, 0);
  }
  SUBCASE("cancelled") { pump = NEVER_DONE; }
  SUBCASE("destroyed") {
    pipe.output = nullptr;
    CHECK(isDisconnected(expectFailed(pump)));
  }
}

TEST_CASE_FIXTURE(PipeTest, "operations whose own end is destroyed are DISCONNECTED (R9)") {
  std::string buffer(4, '.');
  Promise<std::size_t> read = pipe.input->tryRead(bufferOf(buffer), 4);
  Promise<std::uint64_t> pump = second.input->pumpTo(*pipe.output);
  pipe.input = nullptr;
  second.input = nullptr;
  CHECK(isDisconnected(expectFailed(read)));
  CHECK(isDisconnected(expectFailed(pump)));
}

TEST_CASE_FIXTURE(PipeTest, "a write that was cut off by the end of its stream does not look complete to the reader") {
  Promise<void> write = pipe.output->write("abcdef");
  expectRead(*pipe.input, "abc");
  pipe.output = nullptr;
  CHECK(isDisconnected(expectFailed(write)));
  CHECK(isDisconnected(failureOf(pipe.input->tryReadChunk(), scope)));
}

TEST_CASE_FIXTURE(PipeTest, "an error of a pump's output is the pump's and the writer's") {
  Promise<std::uint64_t> pump = pipe.input->pumpTo(*second.output);
  Promise<void> write = pipe.output->write("abc");
  expectPending(write);
  second.input = nullptr;
  CHECK(isDisconnected(expectFailed(write)));
  CHECK(isDisconnected(expectFailed(pump)));
  write = pipe.output->write("abc");
  expectRead(*pipe.input, "abc");
}

TEST_CASE_FIXTURE(PipeTest, "an error of a pump's input is the pump's and the reader's, who keeps what had come") {
  TwoWayPipe source = newTwoWayPipe();
  std::string buffer(8, '.');
  Promise<std::size_t> read = pipe.input->tryRead(bufferOf(buffer), 8);
  pipe.output->write("ab").wait(scope);
  Promise<std::uint64_t> pump = *pipe.output->tryPumpFrom(*source.ends[0], ALL_BYTES);
  source.ends[1]->write("cdef").wait(scope);
  expectPending(read);
  source.ends[0]->abortRead();
  CHECK(isDisconnected(expectFailed(read)));
  CHECK(isDisconnected(expectFailed(pump)));
  expectRead(*pipe.input, "ab");
}

TEST_CASE_FIXTURE(PipeTest, "misuse is refused with the place, and what is pending goes on") {
  std::string buffer(4, '.');
  Promise<std::size_t> read = pipe.input->tryRead(bufferOf(buffer), 4);
  for (const auto& misuse : std::vector<std::function<void()>>{
           [&] { (void)pipe.input->tryRead(bufferOf(buffer)); },
           [&] { (void)pipe.input->tryReadChunk(); },
           [&] { (void)pipe.input->pumpTo(*second.output); },
           [&] { (void)second.input->tryRead({}, 1); },
           [&] { (void)second.input->tryRead(bufferOf(buffer), 5); },
           [&] { (void)second.input->tryReadChunk(0); },
       }) {
    const Exception e = thrownBy(misuse);
    CHECK((e.kind() == Kind::FAILED));
    CHECK(madeIn(e, "pipe_test.cc"));
  }
  Promise<void> write = pipe.output->write("12345");
  for (const auto& misuse : std::vector<std::function<void()>>{
           [&] { (void)pipe.output->write("x"); },
           [&] { (void)pipe.output->tryPumpFrom(*second.input, 1); },
       }) {
    const Exception e = thrownBy(misuse);
    CHECK((e.kind() == Kind::FAILED));
    CHECK(madeIn(e, "pipe_test.cc"));
  }
  CHECK(std::move(read).wait(scope) == 4);
  expectPending(write);
}

TEST_CASE_FIXTURE(PipeTest, "a pipe of a known length says what is left, ends there, and fails if it is cut off") {
  OneWayPipe known = newOneWayPipe(5);
  CHECK(known.input->tryGetLength() == 5);
  CHECK(pipe.input->tryGetLength() == std::nullopt);
  Promise<void> write = known.output->write("abcdefg");
  expectRead(*known.input, "abc");
  CHECK(known.input->tryGetLength() == 2);
  SUBCASE("complete") {
    CHECK(known.input->readAllText(100).wait(scope) == "de");
    expectEnd(*known.input);
  }
  SUBCASE("cut off") {
    write = NEVER_DONE;
    known.output = nullptr;
    CHECK(isDisconnected(failureOf(known.input->readAllText(100), scope)));
  }
}

// ----------------------------------------------------------------------------------------------- two ways

TEST_CASE_FIXTURE(LoopTest, "a two-way pipe carries bytes both ways at the same time") {
  TwoWayPipe pipe = newTwoWayPipe();
  auto& [left, right] = pipe.ends;
  std::string there(5, '.');
  std::string back(4, '.');
  joinPromisesFailFast(left->write("there"), right->write("back"), right->read(bufferOf(there)), left->read(bufferOf(back)))
      .wait(scope);
  CHECK(there == "there");
  CHECK(back == "back");
}

TEST_CASE_FIXTURE(LoopTest, "each direction of a two-way pipe ends on its own (S4)") {
  TwoWayPipe pipe = newTwoWayPipe();
  auto& [left, right] = pipe.ends;
  left->shutdownWrite();
  left->shutdownWrite(); // no effect
  CHECK(right->tryReadChunk().wait(scope).empty());
  CHECK(thrownBy([&] { (void)left->write("x"); }).kind() == Kind::FAILED);
  Promise<void> write = right->write("still");
  CHECK(left->tryReadChunk().wait(scope).text() == "still");
  std::move(write).wait(scope);
  Promise<void> pending = right->write("x");
  CHECK(thrownBy([&] { right->shutdownWrite(); }).kind() == Kind::FAILED);
  CHECK(left->tryReadChunk().wait(scope).text() == "x");
  std::move(pending).wait(scope);
  right->shutdownWrite();
  CHECK(left->tryReadChunk().wait(scope).empty());
}

TEST_CASE_FIXTURE(LoopTest, "abortRead disconnects the writer at the other end, and fails reading at this one") {
  TwoWayPipe pipe = newTwoWayPipe();
  auto& [left, right] = pipe.ends;
  Promise<Chunk> read = left->tryReadChunk();
  Promise<void> disconnected = right->whenWriteDisconnected();
  left->abortRead();
  CHECK(disconnected.poll(scope));
  CHECK(isDisconnected(failureOf(std::move(read), scope)));
  CHECK(isDisconnected(failureOf(left->tryReadChunk(), scope)));
  CHECK(isDisconnected(failureOf(right->write("x"), scope)));
  Promise<void> write = left->write("the other way goes on");
  CHECK(right->tryReadChunk().wait(scope).text() == "the other way goes on");
  std::move(write).wait(scope);
}

// ------------------------------------------------------------------------------------------- cancellation

namespace {

Promise<void> sendNumbered(std::unique_ptr<AsyncOutputStream> output, std::size_t count) {
  for (std::size_t sent = 0; sent < count; sent += 7) {
    const std::string bytes = numberedBytes(std::min<std::size_t>(7, count - sent), sent);
    const auto parts = pieces({std::string_view(bytes).substr(0, 3), std::string_view(bytes).substr(std::min<std::size_t>(3, bytes.size()))});
    co_await output->write(parts);
  }
}

Promise<void> receiveNumbered(std::unique_ptr<AsyncInputStream> input, std::size_t count) {
  std::size_t received = 0;
  std::string buffer(5, '.');
  for (;;) {
    const std::size_t got = co_await input->tryRead(bufferOf(buffer), 2);
    CHECK(areNumbered(std::string_view(buffer).substr(0, got), received));
    received += got;
    if (got < 2) break;
    const Chunk chunk = co_await input->tryReadChunk(4);
    CHECK(areNumbered(chunk.text(), received));
    received += chunk.size();
    if (chunk.empty()) break;
  }
  CHECK(received == count);
}

} // namespace

TEST_CASE_FIXTURE(PipeTest, "what is on its way waits for a reader, for a source, or for where it is pumped to, and tells which") {
  CHECK(pipe.output->tryGetUndelivered() == 0);
  SUBCASE("a write, for its reader") {
    const std::array<std::span<const std::byte>, 2> pieces = {asBytes("abc"), asBytes("defg")};
    Promise<void> write = pipe.output->write(pieces);
    CHECK(pipe.output->tryGetUndelivered() == 7);
    expectRead(*pipe.input, "abcd");
    CHECK(pipe.output->tryGetUndelivered() == 3);
  }
  SUBCASE("a pump from a stream, for its reader, and then for the stream") {
    const std::unique_ptr<AsyncInputStream> source = newShortInputStream(*second.input, 100);
    Promise<std::uint64_t> pump = source->pumpTo(*pipe.output, 10);
    CHECK(pipe.output->tryGetUndelivered() == 10);
    Promise<Chunk> read = pipe.input->tryReadChunk();
    CHECK(!read.poll(scope));
    CHECK(pipe.output->tryGetUndelivered() == 0);
    second.output->write("abc").wait(scope);
    std::move(read).wait(scope);
    CHECK(!pump.poll(scope));
    CHECK(pipe.output->tryGetUndelivered() == 7);
  }
  SUBCASE("a write that is pumped on, for the other pipe's reader") {
    Promise<std::uint64_t> pump = pipe.input->pumpTo(*second.output);
    Promise<void> write = pipe.output->write("abcde");
    CHECK(!write.poll(scope));
    expectRead(*second.input, "ab");
    CHECK(pipe.output->tryGetUndelivered() == 3);
    second.input.reset();
  }
}

TEST_CASE("writing, pumping through three pipes and reading can be cancelled at every step (R5)") {
  for (const int kinds : {0, 1, 2, 3}) {
    CAPTURE(kinds);
    const auto body = [kinds](LoopTest&) {
      OneWayPipe a = newOneWayPipe();
      OneWayPipe b = newOneWayPipe();
      OneWayPipe c = newOneWayPipe();
      Promise<void> first = pumpAll(std::move(a.input), std::move(b.output), (kinds & 1) != 0);
      Promise<void> second = pumpAll(std::move(b.input), std::move(c.output), (kinds & 2) != 0);
      return joinPromisesFailFast(sendNumbered(std::move(a.output), 60), std::move(first), std::move(second),
                                  receiveNumbered(std::move(c.input), 60))
          .ignoreResult();
    };
    CHECK(cancelSweep(body) > 10);
  }
}

TEST_CASE_FIXTURE(LoopTest, "who writes more than a pipe of a known length takes is told when it has been read") {
  for (const bool pumped : {false, true}) {
    CAPTURE(pumped);
    OneWayPipe pipe = newOneWayPipe(6);
    Promise<void> write = pipe.output->write("foobarbaz");
    if (pumped) {
      const std::unique_ptr<AsyncIoStream> nowhere = newNullStream();
      CHECK(pipe.input->pumpTo(*nowhere).wait(scope) == 6);
    } else {
      CHECK(pipe.input->readAllText(10).wait(scope) == "foobar");
    }
    CHECK((failureOf(std::move(write), scope).kind() == Exception::Kind::DISCONNECTED));
    CHECK(pipe.input->tryReadChunk().wait(scope).empty());
  }
}

TEST_CASE_FIXTURE(LoopTest, "nothing can be written to a pipe of length 0") {
  OneWayPipe pipe = newOneWayPipe(0);
  CHECK((failureOf(pipe.output->write("a"), scope).kind() == Exception::Kind::DISCONNECTED));
  CHECK(pipe.input->tryReadChunk().wait(scope).empty());
}
