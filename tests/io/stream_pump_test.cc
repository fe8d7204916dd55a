// SPDX-License-Identifier: MIT
// Tests of pumps where they meet: pieces and amounts, full sockets, the branches of a tee.
#include "stream_kinds.h"

#include <troth/io/pipe.h>
#include <troth/io/tee.h>
#include <troth/io/testing.h>
#include <troth/runtime/join.h>

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <optional>
#include <string>
#include <utility>
#include <vector>

using namespace troth;
using namespace troth::test;

namespace {

using Kind = Exception::Kind;

/// Reads exactly `text`, which must be there.
void expectRead(LoopTest& test, AsyncInputStream& input, std::string_view text) {
  std::string buffer(text.size(), '.');
  Promise<void> read = input.read(bufferOf(buffer));
  REQUIRE(read.poll(test.scope));
  std::move(read).wait(test.scope);
  CHECK(buffer == text);
}

void expectCount(LoopTest& test, Promise<std::uint64_t>& pump, std::uint64_t count) {
  REQUIRE(pump.poll(test.scope));
  CHECK(std::move(pump).wait(test.scope) == count);
}

/// The two ways to pump.
enum class By { PUMP_TO, PUMP_FROM };

Promise<std::uint64_t> pumpBy(By by, AsyncInputStream& input, AsyncOutputStream& output,
                              std::uint64_t amount = ALL_BYTES) {
  return by == By::PUMP_TO ? input.pumpTo(output, amount) : *output.tryPumpFrom(input, amount);
}

} // namespace

// ---------------------------------------------------------------------------------------- pipes in memory

TEST_CASE_FIXTURE(LoopTest, "the pieces of a write are pumped in order, wherever reads or pumps cut them") {
  const std::string whole = "foobar";
  const std::span<const std::byte> pieces[] = {asBytes("foo"), asBytes("bar")};
  for (const By by : {By::PUMP_TO, By::PUMP_FROM}) {
    for (std::size_t cut = 1; cut < whole.size(); ++cut) {
      CAPTURE(static_cast<int>(by));
      CAPTURE(cut);
      { // by reads
        OneWayPipe pipe = newOneWayPipe();
        OneWayPipe second = newOneWayPipe();
        Promise<std::uint64_t> pump = pumpBy(by, *pipe.input, *second.output);
        Promise<void> write = pipe.output->write(pieces);
        CHECK(!write.poll(scope));
        expectRead(*this, *second.input, whole.substr(0, cut));
        expectRead(*this, *second.input, whole.substr(cut));
        CHECK(write.poll(scope));
        pipe.output = nullptr;
        Promise<Chunk> end = second.input->tryReadChunk();
        expectCount(*this, pump, 6);
        CHECK(!end.poll(scope));
        second.output = nullptr;
        CHECK(std::move(end).wait(scope).empty());
      }
      { // by pumps
        OneWayPipe pipe = newOneWayPipe();
        OneWayPipe second = newOneWayPipe();
        Promise<std::uint64_t> pump = pumpBy(by, *pipe.input, *second.output, cut).then([&](std::uint64_t count) {
          CHECK(count == cut);
          return pumpBy(by, *pipe.input, *second.output, 6 - cut);
        });
        Promise<void> write = pipe.output->write(pieces);
        CHECK(!write.poll(scope));
        CHECK(!pump.poll(scope));
        std::string buffer(6, '.');
        joinPromisesFailFast(second.input->read(bufferOf(buffer)), std::move(pump).then([&](std::uint64_t count) {
          CHECK(count == 6 - cut);
        })).wait(scope);
        CHECK(buffer == whole);
        CHECK(write.poll(scope));
      }
    }
  }
}

TEST_CASE_FIXTURE(LoopTest, "a write is done when its last piece is read, and no earlier") {
  OneWayPipe pipe = newOneWayPipe();
  const std::span<const std::byte> pieces[] = {asBytes("foobar"), asBytes("baz")};
  std::string buffer(3, '.');
  Promise<void> read = pipe.input->read(bufferOf(buffer));
  Promise<void> write = pipe.output->write(pieces);
  CHECK(read.poll(scope));
  CHECK(buffer == "foo");
  std::move(read).wait(scope);
  for (const std::string_view next : {"bar", "baz"}) {
    CHECK(!write.poll(scope));
    expectRead(*this, *pipe.input, next);
  }
  CHECK(write.poll(scope));
}

TEST_CASE_FIXTURE(LoopTest, "a pump that ends without a byte leaves the read waiting for whoever writes next") {
  OneWayPipe pipe = newOneWayPipe();
  OneWayPipe second = newOneWayPipe();
  std::string buffer(4, '.');
  Promise<std::size_t> read = second.input->tryRead(bufferOf(buffer));
  Promise<std::uint64_t> pump = pipe.input->pumpTo(*second.output);
  CHECK(!pump.poll(scope));
  pipe.output = nullptr;
  expectCount(*this, pump, 0);
  CHECK(!read.poll(scope));
  second.output->write("foo").wait(scope);
  CHECK(std::move(read).wait(scope) == 3);
  CHECK(buffer == "foo.");
}

TEST_CASE_FIXTURE(LoopTest, "of two pumps in a row, each ends with its amount or with its own input") {
  OneWayPipe a = newOneWayPipe();
  OneWayPipe b = newOneWayPipe();
  OneWayPipe c = newOneWayPipe();
  { // the same amount: both at the same time
    Promise<std::uint64_t> first = a.input->pumpTo(*b.output, 6);
    Promise<std::uint64_t> second = b.input->pumpTo(*c.output, 6);
    Promise<void> write = a.output->write("foobar");
    CHECK(!write.poll(scope));
    expectRead(*this, *c.input, "foobar");
    expectCount(*this, first, 6);
    expectCount(*this, second, 6);
    CHECK(write.poll(scope));
  }
  Promise<std::uint64_t> first = a.input->pumpTo(*b.output);
  Promise<std::uint64_t> second = b.input->pumpTo(*c.output);
  Promise<void> write = a.output->write("foobar");
  CHECK(!second.poll(scope));
  expectRead(*this, *c.input, "foobar");
  CHECK(write.poll(scope));
  CHECK(!first.poll(scope));
  a.output = nullptr;
  expectCount(*this, first, 6);
  CHECK(!second.poll(scope));
  b.output = nullptr;
  expectCount(*this, second, 6);
}

TEST_CASE_FIXTURE(LoopTest, "a pump from a pipe of a known length ends with it, and leaves what follows") {
  OneWayPipe known = newOneWayPipe(6);
  OneWayPipe second = newOneWayPipe();
  Promise<std::uint64_t> pump = known.input->pumpTo(*second.output);
  Promise<void> write = known.output->write("foo");
  expectRead(*this, *second.input, "foo");
  CHECK(write.poll(scope));
  CHECK(!pump.poll(scope));
  write = known.output->write("barbaz");
  expectRead(*this, *second.input, "bar");
  expectCount(*this, pump, 6);
  CHECK(known.input->tryReadChunk().wait(scope).empty());
  known.input = nullptr;
  CHECK((failureOf(std::move(write), scope).kind() == Kind::DISCONNECTED));
}

TEST_CASE_FIXTURE(LoopTest, "a pump into a pipe of length 0 ends with its input, once the other end has gone") {
  OneWayPipe pipe = newOneWayPipe();
  OneWayPipe none = newOneWayPipe(0);
  Promise<std::uint64_t> pump = pipe.input->pumpTo(*none.output);
  CHECK(none.input->tryReadChunk().wait(scope).empty());
  CHECK(!pump.poll(scope));
  none.input = nullptr;
  SUBCASE("nothing to pump") {
    pipe.output = nullptr;
    expectCount(*this, pump, 0);
  }
  SUBCASE("something") {
    Promise<void> write = pipe.output->write("foo");
    CHECK((failureOf(std::move(pump), scope).kind() == Kind::DISCONNECTED));
  }
}

// --------------------------------------------------------------------------------------------- full sockets

namespace {

/// Fills what the descriptor has room for with numbered bytes; returns how many.
std::size_t fill(int fd) {
  std::size_t count = 0;
  for (;;) {
    const std::string bytes = numberedBytes(100'000, count);
    const ssize_t written = ::write(fd, bytes.data(), bytes.size());
    if (written < 0) {
      REQUIRE((errno == EAGAIN || errno == EWOULDBLOCK));
      return count;
    }
    count += static_cast<std::size_t>(written);
  }
}

} // namespace

TEST_CASE("a pump to a socket that is full waits, and then ends with its input, at its amount, or goes on") {
  struct Case {
    const char* name;
    std::size_t given;
    std::uint64_t amount;
    bool ends;
  };
  for (const Case& c : {Case{"the input ends", 3, ALL_BYTES, true}, Case{"the amount", 3, 3, false},
                        Case{"much", 500'000, ALL_BYTES, true}, Case{"much, but not all", 500'000, 400'000, false}}) {
    CAPTURE(c.name);
    onEachPair([&](IoTest& test, StreamPair pair, const Traits&) {
      const std::optional<int> fd = pair.left->descriptor();
      if (!fd) return;
      const std::size_t filled = fill(*fd);
      StreamPair source = newStreamPair(test.io);
      Promise<void> send = sendNumbered(*source.left, c.given, c.given, 1)
                               .then([&] {
                                 if (c.ends) source.left->shutdownWrite();
                               })
                               .eagerlyEvaluate(nullptr);
      Promise<std::uint64_t> pump = source.right->pumpTo(*pair.left, c.amount);
      if (c.given > 3) CHECK(!pump.poll(test.scope)); // TCP might find room for a few
      receiveNumbered(*pair.right, filled, 100'000, 1).wait(test.scope);
      const auto count = static_cast<std::size_t>(std::min<std::uint64_t>(c.amount, c.given));
      receiveNumbered(*pair.right, count, 100'000, 1).wait(test.scope);
      CHECK(std::move(pump).wait(test.scope) == count);
      if (c.given > count) {
        std::string rest(c.given - count, '.');
        source.right->read(bufferOf(rest)).wait(test.scope);
        CHECK(areNumbered(rest, count));
      }
      std::move(send).wait(test.scope);
    });
  }
}

// ------------------------------------------------------------------------------------------------------ tees

namespace {

/// A tee of a script, and pipes that its branches can be pumped into.
struct TeePumpTest : LoopTest {
  ScriptedStream script;
  Tee tee = newTee(newShortInputStream(script, 100'000), 8);
  std::unique_ptr<AsyncInputStream>& a = tee.branches[0];
  std::unique_ptr<AsyncInputStream>& b = tee.branches[1];
  OneWayPipe intoA = newOneWayPipe();
  OneWayPipe intoB = newOneWayPipe();

  /// Reads what there is, at most `most` bytes.
  std::string readNow(AsyncInputStream& input, std::size_t most) {
    std::string all;
    while (all.size() < most) {
      Promise<Chunk> read = input.tryReadChunk(most - all.size());
      if (!read.poll(scope)) break;
      all += std::move(read).wait(scope).text();
    }
    return all;
  }
  /// A pump into a pipe finds its end when somebody reads there.
  void expectEndOfPump(Promise<std::uint64_t>& pump, OneWayPipe& into, std::uint64_t count) {
    Promise<Chunk> more = into.input->tryReadChunk();
    expectCount(*this, pump, count);
    CHECK(!more.poll(scope));
  }
};

} // namespace

TEST_CASE_FIXTURE(TeePumpTest, "two branches read at the same time, each as much as it wants") {
  std::string left(3, '.');
  std::string right(6, '.');
  Promise<std::size_t> readA = a->tryRead(bufferOf(left), 2);
  Promise<std::size_t> readB = b->tryRead(bufferOf(right), 6);
  CHECK(!readA.poll(scope));
  script.giveRead("foobar");
  CHECK(std::move(readA).wait(scope) == 3);
  CHECK(std::move(readB).wait(scope) == 6);
  CHECK(left == "foo");
  CHECK(right == "foobar");
  CHECK(readNow(*a, 3) == "bar");
}

TEST_CASE_FIXTURE(TeePumpTest, "a branch whose read was cancelled may go, and the other one has every byte") {
  script.giveRead("foobar");
  std::string buffer(6, '.');
  for (const int turns : {0, 1, 100}) {
    Promise<std::size_t> read = a->tryRead(bufferOf(buffer), 6);
    loop.run(static_cast<std::size_t>(turns));
  }
  a = nullptr;
  CHECK(readNow(*b, 6) == "foobar");
}

TEST_CASE_FIXTURE(TeePumpTest, "of two branches that are pumped the slower one holds the other back") {
  const std::string text = numberedBytes(60);
  script.giveRead(text).giveEnd();
  Promise<std::uint64_t> pumpA = a->pumpTo(*intoA.output);
  Promise<std::uint64_t> pumpB = b->pumpTo(*intoB.output);
  CHECK(!pumpA.poll(scope));
  std::string gotA = readNow(*intoA.input, 60);
  CHECK(gotA.size() == 8);
  std::string gotB = readNow(*intoB.input, 60);
  CHECK(gotB.size() == 16); // as far ahead of the other one now
  while (gotA.size() < 60 || gotB.size() < 60) {
    gotA += readNow(*intoA.input, 60 - gotA.size());
    gotB += readNow(*intoB.input, 60 - gotB.size());
  }
  CHECK(areNumbered(gotA));
  CHECK(areNumbered(gotB));
  expectEndOfPump(pumpA, intoA, 60);
  expectEndOfPump(pumpB, intoB, 60);
}

TEST_CASE_FIXTURE(TeePumpTest, "a branch may be ahead by the limit, wherever the other one stands") {
  script.giveRead(numberedBytes(100));
  std::size_t ahead = 0;
  for (std::size_t behind = 0; behind < 40; ++behind) {
    CAPTURE(behind);
    ahead += readNow(*b, 100).size();
    CHECK(ahead == behind + 8);
    CHECK(readNow(*a, 1) == numberedBytes(1, behind));
  }
}

TEST_CASE_FIXTURE(TeePumpTest, "a branch is pumped in part, read in part, and dropped; the other is pumped to its end") {
  const std::string text = numberedBytes(60);
  script.giveRead(text).giveEnd();
  Promise<std::uint64_t> pumpA = a->pumpTo(*intoA.output, 7);
  Promise<std::uint64_t> pumpB = b->pumpTo(*intoB.output);
  expectRead(*this, *intoA.input, text.substr(0, 7));
  expectCount(*this, pumpA, 7);
  expectRead(*this, *intoB.input, text.substr(0, 10));
  CHECK(readNow(*a, 5) == text.substr(7, 5));
  a = nullptr;
  CHECK(readNow(*intoB.input, 50) == text.substr(10));
  expectEndOfPump(pumpB, intoB, 60);
}

TEST_CASE_FIXTURE(TeePumpTest, "the end reaches pumps and reads of both branches, also where it is at the limit") {
  for (const std::size_t size : std::vector<std::size_t>{0, 1, 7, 8, 9, 16}) {
    CAPTURE(size);
    ScriptedStream source;
    source.giveRead(numberedBytes(size)).giveEnd();
    Tee two = newTee(newShortInputStream(source, 1000), 8);
    OneWayPipe into = newOneWayPipe();
    Promise<std::uint64_t> pump = two.branches[0]->pumpTo(*into.output);
    Promise<std::string> all = two.branches[1]->readAllText(100);
    CHECK((readNow(*into.input, size) == numberedBytes(size)));
    expectEndOfPump(pump, into, size);
    CHECK((std::move(all).wait(scope) == numberedBytes(size)));
  }
  const std::string chunk = numberedBytes(Chunk::CAPACITY); // and at that of a chunk
  ScriptedStream source;
  source.giveRead(chunk).giveEnd();
  Tee two = newTee(newShortInputStream(source, 1 << 20), 1 << 20);
  CHECK((two.branches[0]->readAllText(1 << 20).wait(scope) == chunk));
  CHECK((two.branches[1]->readAllText(1 << 20).wait(scope) == chunk));
}

TEST_CASE_FIXTURE(TeePumpTest, "an error of the source reaches the pumps of both branches, after its bytes") {
  script.giveRead("foo bar").failReadAt(7);
  Promise<std::uint64_t> pumpA = a->pumpTo(*intoA.output);
  Promise<std::uint64_t> pumpB = b->pumpTo(*intoB.output);
  CHECK(!pumpA.poll(scope));
  for (const auto& [pump, into] : {std::pair(&pumpA, &intoA), std::pair(&pumpB, &intoB)}) {
    expectRead(*this, *into->input, "foo bar");
    CHECK(!pump->poll(scope));
    CHECK((failureOf(into->input->tryReadChunk(), scope).kind() == Kind::DISCONNECTED));
    CHECK((failureOf(std::move(*pump), scope).kind() == Kind::DISCONNECTED));
  }
}

TEST_CASE_FIXTURE(TeePumpTest, "an error of the output of one branch's pump is no business of the other branch") {
  const std::string text = numberedBytes(60);
  script.giveRead(text).giveEnd();
  Promise<std::uint64_t> pumpA = a->pumpTo(*intoA.output);
  Promise<std::uint64_t> pumpB = b->pumpTo(*intoB.output);
  CHECK(!pumpB.poll(scope));
  intoB.input = nullptr;
  CHECK(readNow(*intoA.input, 8) == text.substr(0, 8));
  CHECK((failureOf(std::move(pumpB), scope).kind() == Kind::DISCONNECTED));
  CHECK(!pumpA.poll(scope));
  b = nullptr; // whoever does not read on has to go
  CHECK((readNow(*intoA.input, 52) == text.substr(8)));
  expectEndOfPump(pumpA, intoA, 60);
}

TEST_CASE_FIXTURE(TeePumpTest, "a pump of a branch that is cancelled lets go of its output") {
  script.giveRead("foo bar");
  {
    Promise<std::uint64_t> pumpA = a->pumpTo(*intoA.output);
    CHECK(readNow(*b, 4) == "foo ");
    CHECK(!pumpA.poll(scope));
  }
  intoA.output = nullptr;
  CHECK(readNow(*b, 3) == "bar");
  CHECK(intoA.input->tryReadChunk().wait(scope).empty());
}

TEST_CASE_FIXTURE(LoopTest, "the branches of a tee of known length know what each of them has left") {
  OneWayPipe pipe = newOneWayPipe(7);
  Promise<void> write = pipe.output->write("foobar");
  Tee tee = newTee(std::move(pipe.input), 100);
  const auto lengths = [&] {
    return std::pair(tee.branches[0]->tryGetLength().value(), tee.branches[1]->tryGetLength().value());
  };
  CHECK((lengths() == std::pair<std::uint64_t, std::uint64_t>(7, 7)));
  expectRead(*this, *tee.branches[0], "foob");
  CHECK((lengths() == std::pair<std::uint64_t, std::uint64_t>(3, 7)));
  {
    Promise<Chunk> dropped = tee.branches[0]->tryReadChunk();
    CHECK(dropped.poll(scope));
  }
  CHECK((lengths() == std::pair<std::uint64_t, std::uint64_t>(3, 7)));
  expectRead(*this, *tee.branches[0], "ar");
  expectRead(*this, *tee.branches[1], "foobar");
  CHECK((lengths() == std::pair<std::uint64_t, std::uint64_t>(1, 1)));
  write.poll(scope);
  pipe.output = nullptr;
  for (const auto& branch : tee.branches)
    CHECK((failureOf(branch->tryReadChunk(), scope).kind() == Kind::DISCONNECTED));
}
