// SPDX-License-Identifier: MIT
// Tests of the tee: every branch gets every byte, within the limit, and may go at any time.
#include "peer.h"

#include <troth/io/pipe.h>
#include <troth/io/tee.h>
#include <troth/runtime/join.h>

#include <string>

using namespace troth;
using namespace troth::test;

namespace {

using Kind = Exception::Kind;

struct TeeTest : LoopTest {
  OneWayPipe pipe = newOneWayPipe();
  AsyncInputStream* source = pipe.input.get();
  Tee tee = newTee(std::move(pipe.input), 8);
  std::unique_ptr<AsyncInputStream>& a = tee.branches[0];
  std::unique_ptr<AsyncInputStream>& b = tee.branches[1];

  std::string readNow(AsyncInputStream& input, std::size_t count) {
    std::string buffer(count, '.');
    Promise<std::size_t> read = input.tryRead(bufferOf(buffer), count);
    REQUIRE(read.poll(scope));
    buffer.resize(std::move(read).wait(scope));
    return buffer;
  }
};

} // namespace

TEST_CASE_FIXTURE(TeeTest, "each branch reads all bytes, at its own pace") {
  Promise<void> write = pipe.output->write("abcdef");
  CHECK(readNow(*a, 4) == "abcd");
  CHECK(write.poll(scope)); // taken by the tee
  CHECK(readNow(*b, 1) == "a");
  CHECK(readNow(*b, 5) == "bcdef");
  CHECK(readNow(*a, 2) == "ef");
}

TEST_CASE_FIXTURE(TeeTest, "nothing is read from the source before a branch wants it") {
  Promise<void> write = pipe.output->write("a");
  CHECK(!write.poll(scope));
  {
    Promise<Chunk> read = b->tryReadChunk();
    CHECK(read.poll(scope));
  }
  std::move(write).wait(scope);
  CHECK(a->tryReadChunk().wait(scope).text() == "a");
  CHECK(b->tryReadChunk().wait(scope).text() == "a"); // given back
}

TEST_CASE_FIXTURE(TeeTest, "the faster branch waits when the slower one is behind by the limit") {
  Promise<void> write = pipe.output->write("0123456789");
  CHECK(readNow(*a, 8) == "01234567");
  Promise<Chunk> more = a->tryReadChunk();
  CHECK(!more.poll(scope));
  CHECK(!write.poll(scope));
  CHECK(readNow(*b, 7) == "0123456");
  CHECK(readNow(*b, 1) == "7");
  REQUIRE(more.poll(scope));
  CHECK(std::move(more).wait(scope).text() == "89");
  CHECK(write.poll(scope));
}

TEST_CASE_FIXTURE(TeeTest, "a read of more than the limit goes on as the other branch reads on") {
  Promise<void> write = pipe.output->write("0123456789abcdefghij");
  std::string buffer(20, '.');
  Promise<std::size_t> read = a->tryRead(bufferOf(buffer), 20);
  CHECK(!read.poll(scope));
  CHECK(readNow(*b, 11) == "0123456789a");
  CHECK(!read.poll(scope));
  CHECK(readNow(*b, 1) == "b");
  REQUIRE(read.poll(scope));
  CHECK(readNow(*b, 8) == "cdefghij");
  CHECK(std::move(read).wait(scope) == 20);
  CHECK(buffer == "0123456789abcdefghij");
}

TEST_CASE_FIXTURE(TeeTest, "only what one branch has read and the other has not counts towards the limit") {
  Promise<void> write = pipe.output->write("01234567");
  CHECK(readNow(*a, 8) == "01234567");
  CHECK(readNow(*b, 1) == "0"); // 7 are held: there is room for one more
  Promise<Chunk> more = a->tryReadChunk();
  CHECK(!more.poll(scope));
  write = pipe.output->write("89");
  REQUIRE(more.poll(scope));
  CHECK(std::move(more).wait(scope).text() == "8");
  CHECK(!write.poll(scope));
  more = a->tryReadChunk();
  CHECK(!more.poll(scope));
  CHECK(readNow(*b, 7) == "1234567");
  CHECK(readNow(*b, 2) == "89");
  CHECK(std::move(more).wait(scope).text() == "9");
}

TEST_CASE_FIXTURE(LoopTest, "a branch that lags by many small chunks catches up, whatever the sizes of its reads") {
  for (const std::size_t step : {std::size_t(1), std::size_t(7), std::size_t(1000)}) {
    CAPTURE(step);
    OneWayPipe pipe = newOneWayPipe();
    Tee tee = newTee(std::move(pipe.input), 2000);
    const std::string text = numberedBytes(1000);
    for (std::size_t i = 0; i < text.size(); ++i) {
      Promise<Chunk> read = tee.branches[0]->tryReadChunk();
      pipe.output->write(std::string_view(text).substr(i, 1)).wait(scope);
      CHECK(areNumbered(std::move(read).wait(scope).text(), i));
    }
    std::string got;
    while (got.size() < text.size()) {
      std::string buffer(step, '.');
      got += buffer.substr(0, tee.branches[1]->tryRead(bufferOf(buffer)).wait(scope));
    }
    CHECK((got == text));
  }
}

TEST_CASE_FIXTURE(TeeTest, "nobody waits for a branch that has gone") {
  Promise<void> write = pipe.output->write("0123456789");
  CHECK(readNow(*a, 8) == "01234567");
  Promise<Chunk> more = a->tryReadChunk();
  CHECK(!more.poll(scope));
  b = nullptr;
  REQUIRE(more.poll(scope));
  CHECK(std::move(more).wait(scope).text() == "89");
}

TEST_CASE_FIXTURE(TeeTest, "the source goes with the last branch") {
  Promise<void> disconnected = pipe.output->whenWriteDisconnected();
  a = nullptr;
  CHECK(!disconnected.poll(scope));
  b = nullptr;
  CHECK(disconnected.poll(scope));
}

TEST_CASE_FIXTURE(TeeTest, "each branch sees the end after all bytes, again and again") {
  Promise<void> write = pipe.output->write("abc");
  CHECK(readNow(*a, 3) == "abc");
  std::move(write).wait(scope);
  pipe.output = nullptr;
  for (int i = 0; i < 2; ++i) CHECK(a->tryReadChunk().wait(scope).empty());
  CHECK(readNow(*b, 10) == "abc");
  for (int i = 0; i < 2; ++i) CHECK(b->tryReadChunk().wait(scope).empty());
}

TEST_CASE_FIXTURE(TeeTest, "each branch sees the error after all bytes, again and again") {
  Promise<void> write = pipe.output->write("abcde");
  CHECK(readNow(*a, 3) == "abc");
  write = pipe.output->write("cut off");
  pipe.output = nullptr;
  for (AsyncInputStream* branch : {b.get(), a.get()}) {
    CHECK(branch->tryReadChunk(5).wait(scope).size() > 0);
    CHECK((failureOf(branch->tryReadChunk(), scope).kind() == Kind::DISCONNECTED));
    CHECK((failureOf(branch->tryReadChunk(), scope).kind() == Kind::DISCONNECTED));
  }
}

TEST_CASE_FIXTURE(TeeTest, "the error of a source has the place of the read that met it") {
  const Promise<void> write = pipe.output->write("cut off");
  pipe.output = nullptr;
  const std::source_location here = std::source_location::current();
  CHECK(failureOf(b->tryReadChunk(Chunk::CAPACITY, here), scope).where().line() == here.line());
}

TEST_CASE_FIXTURE(TeeTest, "when no branch waits any more the source keeps its bytes (R5)") {
  {
    Promise<Chunk> read = a->tryReadChunk();
    CHECK(!read.poll(scope));
  }
  Promise<void> write = pipe.output->write("abc");
  CHECK(!write.poll(scope));
  {
    std::string buffer(5, '.');
    Promise<std::size_t> read = a->tryRead(bufferOf(buffer), 5);
    CHECK(!read.poll(scope));
  }
  CHECK(readNow(*b, 3) == "abc");
  CHECK(readNow(*a, 3) == "abc");
}

TEST_CASE_FIXTURE(TeeTest, "a branch that is destroyed rejects its read, pending or not yet taken, with its bytes kept") {
  Promise<Chunk> pending = a->tryReadChunk();
  a = nullptr;
  CHECK((failureOf(std::move(pending), scope).kind() == Kind::DISCONNECTED));
  Promise<Chunk> ready = b->tryReadChunk();
  pipe.output->write("abc").wait(scope);
  CHECK(ready.poll(scope));
  b = nullptr;
  CHECK(std::move(ready).wait(scope).text() == "abc");
}

TEST_CASE_FIXTURE(TeeTest, "a branch has branches of its own, which begin where it stands") {
  Promise<void> write = pipe.output->write("abcdef");
  CHECK(readNow(*a, 2) == "ab");
  {
    Promise<Chunk> read = a->tryReadChunk(1);
    CHECK(read.poll(scope));
  }
  Tee more = newTee(std::move(a), 100);
  CHECK(readNow(*more.branches[0], 4) == "cdef");
  CHECK(readNow(*more.branches[1], 3) == "cde");
  CHECK(readNow(*b, 6) == "abcdef");
  CHECK(readNow(*more.branches[1], 1) == "f");
}

TEST_CASE_FIXTURE(TeeTest, "a branch is added to the tee only by a tee of the same limit, and while nothing is read") {
  CHECK(a->tryTee(7) == nullptr);
  CHECK(a->tryTee(9) == nullptr);
  {
    Promise<Chunk> read = a->tryReadChunk();
    CHECK(a->tryTee(8) == nullptr);
  }
  Promise<void> write = pipe.output->write("0123456789abcdef");
  {
    Promise<Chunk> read = a->tryReadChunk(3);
    CHECK(read.poll(scope));
  }
  CHECK(readNow(*a, 1) == "0");
  const std::unique_ptr<AsyncInputStream> c = a->tryTee(8);
  REQUIRE(c != nullptr);
  CHECK(readNow(*c, 7) == "1234567"); // what was given back, too
  CHECK(readNow(*a, 7) == "1234567");
  Promise<Chunk> more = a->tryReadChunk();
  CHECK(!more.poll(scope));
  CHECK(readNow(*b, 8) == "01234567");
  CHECK(std::move(more).wait(scope).text() == "89abcdef");
  CHECK(readNow(*c, 8) == "89abcdef");
}

TEST_CASE_FIXTURE(TeeTest, "the limit of a tee of a branch is its own, be it smaller or larger") {
  Promise<void> write = pipe.output->write("0123456789");
  SUBCASE("smaller") {
    Tee inner = newTee(std::move(a), 3);
    CHECK(readNow(*inner.branches[0], 3) == "012");
    Promise<Chunk> more = inner.branches[0]->tryReadChunk();
    CHECK(!more.poll(scope));
    CHECK(readNow(*inner.branches[1], 1) == "0");
    CHECK(std::move(more).wait(scope).text() == "3");
  }
  SUBCASE("larger") {
    b = nullptr;
    Tee inner = newTee(std::move(a), 100);
    CHECK(readNow(*inner.branches[0], 10) == "0123456789");
    CHECK(readNow(*inner.branches[1], 10) == "0123456789");
  }
}

TEST_CASE_FIXTURE(TeeTest, "misuse of a branch is refused, and a limit of 0") {
  Promise<Chunk> read = a->tryReadChunk();
  CHECK((thrownBy([&] { (void)a->tryReadChunk(); }).kind() == Kind::FAILED));
  CHECK((thrownBy([&] { (void)b->tryReadChunk(0); }).kind() == Kind::FAILED));
  CHECK((thrownBy([&] { (void)b->tryRead({}); }).kind() == Kind::FAILED));
  const Exception e = thrownBy([&] { (void)newTee(std::move(b), 0); });
  CHECK((e.kind() == Kind::FAILED));
  CHECK(madeIn(e, "tee_test.cc"));
  const Exception null = thrownBy([&] { (void)newTee(nullptr, 5); });
  CHECK(contains(null.description(), "newTee: the stream is null"));
  CHECK(madeIn(null, "tee_test.cc"));
}

namespace {

Promise<void> readToEnd(std::unique_ptr<AsyncInputStream> input, std::size_t step, std::size_t count) {
  std::size_t received = 0;
  std::string buffer(step, '.');
  for (;;) {
    const std::size_t got = co_await input->tryRead(bufferOf(buffer), step);
    CHECK(areNumbered(std::string_view(buffer).substr(0, got), received));
    received += got;
    if (got < step) break;
  }
  CHECK(received == count);
}

Promise<void> writeAll(std::unique_ptr<AsyncOutputStream> output, std::size_t count) {
  const std::string text = numberedBytes(count);
  co_await output->write(text);
}

} // namespace

TEST_CASE("two branches of different pace, and their pumps, can be cancelled at every step (R5)") {
  const auto body = [](LoopTest&) {
    OneWayPipe pipe = newOneWayPipe();
    Tee tee = newTee(std::move(pipe.input), 8);
    return joinPromisesFailFast(writeAll(std::move(pipe.output), 50), readToEnd(std::move(tee.branches[0]), 3, 50),
                                readToEnd(std::move(tee.branches[1]), 11, 50))
        .ignoreResult();
  };
  CHECK(cancelSweep(body) > 10);
}
