// SPDX-License-Identifier: MIT
// Tests of streams of files, and of pumping them.
#include "file_fixture.h"

#include <troth/runtime/pool_detail.h>
#include <troth/timers/timer.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

using namespace troth;
using namespace troth::test;
using namespace std::chrono_literals;

TEST_CASE_FIXTURE(FileTest, "a stream reads a file from an offset to its end, and then the end again and again") {
  disk.write("file", "0123456789");
  const FilePtr opened = file("file");
  const std::unique_ptr<AsyncInputStream> stream = newFileInputStream(*opened, 2);
  CHECK(stream->tryGetLength() == 8);
  std::string buffer(4, '.');
  CHECK(stream->tryRead(bufferOf(buffer), 1).wait(scope) == 4);
  CHECK(buffer == "2345");
  CHECK(stream->tryGetLength() == 4);
  CHECK(stream->tryReadChunk(3).wait(scope).text() == "678");
  buffer.assign(4, '.');
  CHECK(stream->tryRead(bufferOf(buffer), 4).wait(scope) == 1);
  CHECK(buffer == "9...");
  for (int i = 0; i < 2; ++i) {
    CHECK(stream->tryRead(bufferOf(buffer)).wait(scope) == 0);
    CHECK(stream->tryReadChunk().wait(scope).empty());
    CHECK(stream->tryGetLength() == 0);
  }
  const Exception e = failureOf(stream->read(bufferOf(buffer)), scope);
  CHECK((e.kind() == Exception::Kind::DISCONNECTED));
  CHECK(newFileInputStream(*opened, 100)->tryGetLength() == 0);
  CHECK(newFileInputStream(*opened, 100)->tryReadChunk().wait(scope).empty());
}

TEST_CASE_FIXTURE(FileTest, "a stream sees what is appended after it had met the end") {
  disk.write("file", "one");
  const FilePtr log = file("file", FileMode::APPEND);
  const FilePtr opened = file("file");
  const std::unique_ptr<AsyncInputStream> stream = newFileInputStream(*opened);
  CHECK(stream->readAllText(100).wait(scope) == "one");
  log->write(0, "two").wait(scope);
  CHECK(stream->readAllText(100).wait(scope) == "two");
}

TEST_CASE_FIXTURE(FileTest, "chunks have every byte in order, and at most their capacity") {
  const std::string data = numberedBytes(200'000);
  disk.write("file", data);
  const FilePtr opened = file("file");
  const std::unique_ptr<AsyncInputStream> stream = newFileInputStream(*opened);
  std::string got;
  std::vector<Chunk> kept;
  for (;;) {
    kept.push_back(stream->tryReadChunk().wait(scope));
    if (kept.back().empty()) break;
    CHECK(kept.back().size() <= Chunk::CAPACITY);
    got += kept.back().text();
  }
  CHECK((got == data));
  CHECK(kept.size() == 5);
}

TEST_CASE_FIXTURE(FileTest, "a read whose result nobody took has read nothing") {
  const std::string data = numberedBytes(100'000);
  disk.write("file", data);
  const FilePtr opened = file("file");
  const std::unique_ptr<AsyncInputStream> stream = newFileInputStream(*opened);
  std::string buffer(1000, '.');
  std::string got;
  for (int i = 0; got.size() < data.size(); ++i) {
    Promise<Chunk> untaken = stream->tryReadChunk(5000);
    if (i % 3 != 0)
      while (!untaken.poll(scope)) step(); // its result is there
    { const Promise<Chunk> gone = std::move(untaken); }
    {
      Promise<std::size_t> span = stream->tryRead(bufferOf(buffer), 1000);
      if (i % 3 != 1)
        while (!span.poll(scope)) step();
    }
    got += stream->tryReadChunk(5000).wait(scope).text();
  }
  CHECK((got == data));
}

TEST_CASE_FIXTURE(FileTest, "a time-out that races a read of a file costs no byte") {
  const std::string data = numberedBytes(300'000);
  disk.write("file", data);
  const FilePtr opened = file("file");
  const std::unique_ptr<AsyncInputStream> stream = newFileInputStream(*opened);
  std::string got;
  for (int i = 0;; ++i) {
    const Result<Chunk> chunk =
        io.timer().timeoutAfter(i % 2 == 0 ? 1us : 10ms, stream->tryReadChunk(3000)).asResult().wait(scope);
    if (!chunk) continue;
    if (chunk->empty()) break;
    got += chunk->text();
  }
  CHECK((got == data));
}

TEST_CASE_FIXTURE(FileTest, "one read, and one write, of a stream at a time") {
  disk.write("file", "0123456789");
  const FilePtr opened = file("file", FileMode::MODIFY);
  const std::unique_ptr<AsyncInputStream> input = newFileInputStream(*opened);
  const std::unique_ptr<AsyncOutputStream> output = newFileOutputStream(*opened);
  Promise<Chunk> read = input->tryReadChunk(3);
  Promise<void> write = output->write("abc");
  std::string buffer(4, '.');
  for (const std::function<void()>& call :
       {std::function<void()>([&] { (void)input->tryReadChunk(); }), std::function<void()>([&] { (void)input->tryRead(bufferOf(buffer)); }),
        std::function<void()>([&] { (void)input->pumpTo(*output); }), std::function<void()>([&] { (void)output->write("x"); })}) {
    const Exception e = thrownBy(call);
    CHECK((e.kind() == Exception::Kind::FAILED));
    CHECK(contains(e.description(), "pending"));
    CHECK(madeIn(e, "file_stream_test.cc"));
  }
  std::move(write).wait(scope);
  std::move(read).wait(scope);
  output->write("def").wait(scope);
  CHECK(disk.read("file") == "abcdef6789");
}

TEST_CASE_FIXTURE(FileTest, "reads that make no sense are refused, with the numbers") {
  disk.write("file", "0123456789");
  const std::unique_ptr<AsyncInputStream> stream = newFileInputStream(*file("file"));
  std::string buffer(4, '.');
  CHECK(contains(thrownBy([&] { (void)stream->tryRead({}); }).description(), "buffer is empty"));
  CHECK(contains(thrownBy([&] { (void)stream->tryRead(bufferOf(buffer), 5); }).description(), "minBytes is 5"));
  CHECK(contains(thrownBy([&] { (void)stream->tryRead(bufferOf(buffer), 0); }).description(), "minBytes is 0"));
  CHECK(contains(thrownBy([&] { (void)stream->tryReadChunk(0); }).description(), "maxBytes is 0"));
  CHECK(stream->tryReadChunk().wait(scope).text() == "0123456789");
}

TEST_CASE_FIXTURE(FileTest, "a stream outlives its file, and each has its own position") {
  disk.write("file", "0123456789");
  FilePtr opened = file("file", FileMode::MODIFY);
  const std::unique_ptr<AsyncInputStream> one = newFileInputStream(*opened);
  const std::unique_ptr<AsyncInputStream> two = newFileInputStream(*opened, 5);
  const std::unique_ptr<AsyncOutputStream> out = newFileOutputStream(*opened, 1);
  opened.reset();
  CHECK(one->tryReadChunk(3).wait(scope).text() == "012");
  CHECK(two->tryReadChunk(3).wait(scope).text() == "567");
  out->write("ab").wait(scope);
  out->write("c").wait(scope);
  CHECK(one->tryReadChunk(3).wait(scope).text() == "c45");
  CHECK(disk.read("file") == "0abc456789");
}

TEST_CASE_FIXTURE(FileTest, "destroying a stream rejects what is pending on it, and a result that is there is kept") {
  disk.write("file", "0123456789");
  const FilePtr opened = file("file", FileMode::MODIFY);
  std::unique_ptr<AsyncInputStream> input = newFileInputStream(*opened);
  std::unique_ptr<AsyncOutputStream> output = newFileOutputStream(*opened);
  std::unique_ptr<AsyncInputStream> pumped = newFileInputStream(*opened);
  std::unique_ptr<AsyncInputStream> ready = newFileInputStream(*opened);
  const std::unique_ptr<AsyncOutputStream> sink = newFileOutputStream(*opened);
  Promise<Chunk> there = ready->tryReadChunk();
  while (!there.poll(scope)) step();
  ready.reset();
  CHECK(std::move(there).wait(scope).text() == "0123456789");
  BusyThreadPool busy(io);
  Promise<Chunk> read = input->tryReadChunk();
  Promise<void> write = output->write("x");
  Promise<std::uint64_t> pump = pumped->pumpTo(*sink);
  REQUIRE(!read.poll(scope));
  input.reset();
  output.reset();
  pumped.reset();
  for (const Exception& e : {failureOf(std::move(read), scope), failureOf(std::move(write), scope), failureOf(std::move(pump), scope)}) {
    CHECK((e.kind() == Exception::Kind::DISCONNECTED));
    CHECK(contains(e.description(), "was destroyed"));
  }
}

TEST_CASE_FIXTURE(FileTest, "a stream writes pieces of every size in order") {
  const FilePtr opened = file("file", FileMode::CREATE);
  const std::unique_ptr<AsyncOutputStream> stream = newFileOutputStream(*opened);
  std::string expected;
  for (const std::vector<std::size_t>& sizes : std::vector<std::vector<std::size_t>>{
           {}, {0, 0}, {1}, {3, 0, 5}, {65'535, 1}, {65'536, 1}, {65'535, 2, 0, 7}, {200'000, 1, 70'000}}) {
    std::vector<std::string> texts;
    for (const std::size_t size : sizes) {
      texts.push_back(numberedBytes(size, expected.size()));
      expected += texts.back();
    }
    std::vector<std::span<const std::byte>> pieces;
    for (const std::string& text : texts) pieces.push_back(asBytes(text));
    stream->write(pieces).wait(scope);
  }
  CHECK((disk.read("file") == expected));
}

TEST_CASE_FIXTURE(FileTest, "a stream gives what comes before an error, and then the error") {
  const HalfReadable half(disk);
  const FilePtr memory = openDirectory(io, "/proc/self").wait(scope)->openFile(path("mem")).wait(scope);
  const std::unique_ptr<AsyncInputStream> bytes = newFileInputStream(*memory, half.offset());
  const std::unique_ptr<AsyncInputStream> chunks = newFileInputStream(*memory, half.offset());
  std::string buffer(2 * half.size, '.');
  CHECK((failureOf(bytes->tryRead(bufferOf(buffer), half.size + 1), scope).code() == std::errc::io_error));
  CHECK(bytes->tryRead(bufferOf(buffer)).wait(scope) == half.size);
  CHECK((failureOf(bytes->tryRead(bufferOf(buffer)), scope).code() == std::errc::io_error));
  CHECK(chunks->tryReadChunk().wait(scope).size() == half.size);
  CHECK((failureOf(chunks->tryReadChunk(), scope).code() == std::errc::io_error));
}

// --------------------------------------------------------------------------------------------- pumping

TEST_CASE_FIXTURE(FileTest, "a file is pumped to a socket, whole or in part, and the stream goes on behind") {
  const std::string data = numberedBytes(500'000);
  disk.write("file", data);
  const FilePtr opened = file("file");
  const std::unique_ptr<AsyncInputStream> stream = newFileInputStream(*opened, 7);
  Pair pair = newPair(io);
  std::string expected = data.substr(7);
  for (const std::uint64_t amount : {std::uint64_t(0), std::uint64_t(1), std::uint64_t(65'536), std::uint64_t(65'537), ALL_BYTES}) {
    CAPTURE(amount);
    const std::size_t size = static_cast<std::size_t>(std::min<std::uint64_t>(amount, expected.size()));
    Promise<std::uint64_t> pump = stream->pumpTo(*pair.stream, amount).eagerlyEvaluate(nullptr);
    std::string got;
    while (got.size() < size) {
      scope.poll();
      got += pair.peer.receiveSome();
    }
    CHECK(std::move(pump).wait(scope) == size);
    CHECK((got == expected.substr(0, size)));
    expected.erase(0, size);
  }
  CHECK(expected.empty());
}

TEST_CASE_FIXTURE(FileTest, "an empty file, and no bytes of a file, pump nothing") {
  disk.write("empty", "");
  disk.write("file", "x");
  Pair pair = newPair(io);
  const FilePtr empty = file("empty");
  const FilePtr full = file("file");
  CHECK(newFileInputStream(*empty)->pumpTo(*pair.stream).wait(scope) == 0);
  CHECK(newFileInputStream(*full)->pumpTo(*pair.stream, 0).wait(scope) == 0);
  CHECK(!pair.peer.isReadable());
}

TEST_CASE_FIXTURE(FileTest, "a peer that goes ends the pump with its error") {
  disk.write("file", numberedBytes(4'000'000));
  const FilePtr opened = file("file");
  const std::unique_ptr<AsyncInputStream> stream = newFileInputStream(*opened);
  Pair pair = newTcpPair(io);
  Promise<std::uint64_t> pump = stream->pumpTo(*pair.stream);
  REQUIRE(!pump.poll(scope));
  pair.peer.reset();
  CHECK((failureOf(std::move(pump), scope).kind() == Exception::Kind::DISCONNECTED));
}

TEST_CASE_FIXTURE(FileTest, "a pump whose output is destroyed while it reads fails, and touches it no more") {
  disk.write("file", numberedBytes(300'000));
  const FilePtr opened = file("file");
  const std::unique_ptr<AsyncInputStream> stream = newFileInputStream(*opened);
  std::unique_ptr<AsyncOutputStream> output = newFileOutputStream(*file("copy", FileMode::CREATE));
  BusyThreadPool busy(io);
  Promise<std::uint64_t> pump = stream->pumpTo(*output);
  REQUIRE(!pump.poll(scope));
  output.reset();
  busy.release();
  CHECK((failureOf(std::move(pump), scope).kind() == Exception::Kind::DISCONNECTED));
  CHECK(stream->tryReadChunk(10).wait(scope).text() == numberedBytes(10)); // it is as it was
}

TEST_CASE_FIXTURE(FileTest, "a file may grow or shrink while it is pumped: its end is where it is met") {
  for (const std::uint64_t size : {std::uint64_t(4'500'000), std::uint64_t(1'000'000)}) {
    CAPTURE(size);
    disk.write("file", numberedBytes(4'000'000));
    const FilePtr opened = file("file", FileMode::MODIFY);
    const std::unique_ptr<AsyncInputStream> stream = newFileInputStream(*opened);
    Pair pair = newPair(io);
    Promise<std::uint64_t> pump = stream->pumpTo(*pair.stream);
    REQUIRE(!pump.poll(scope));
    opened->truncate(size).wait(scope); // the socket is full long before
    pump = std::move(pump).eagerlyEvaluate(nullptr);
    CHECK(receiveWhileRunning(*this, pair.peer, 5'000'000).size() == size);
    CHECK(std::move(pump).wait(scope) == size);
  }
}

TEST_CASE_FIXTURE(FileTest, "a pump holds two chunks, however large the file and slow the peer") {
  disk.write("file", numberedBytes(8'000'000));
  const FilePtr opened = file("file");
  const std::unique_ptr<AsyncInputStream> stream = newFileInputStream(*opened);
  Pair pair = newPair(io);
  const std::int64_t before = detail::liveBlocks();
  const Promise<std::uint64_t> pump = stream->pumpTo(*pair.stream);
  for (int i = 0; i < 200; ++i) opened->size().wait(scope); // the pool has time enough for what is wrong
  CHECK(detail::liveBlocks() - before < 20);
}

TEST_CASE_FIXTURE(FileTest, "a socket is pumped to a file") {
  const FilePtr opened = file("file", FileMode::CREATE);
  const std::unique_ptr<AsyncOutputStream> output = newFileOutputStream(*opened);
  StreamPair pair = newStreamPair(io);
  const std::string data = numberedBytes(300'000);
  Promise<void> sender = pair.left->write(data).then([&] { pair.left->shutdownWrite(); }).eagerlyEvaluate(nullptr);
  CHECK(pair.right->pumpTo(*output).wait(scope) == data.size());
  CHECK((disk.read("file") == data));
}

TEST_CASE("a pump of a file can be cancelled at every step") {
  TemporaryDirectory disk;
  disk.write("file", numberedBytes(300'000));
  cancelSweep([&](IoTest& test) {
    return coCapture([&]() -> Promise<void> {
      const DirectoryPtr directory = co_await openDirectory(test.io, disk.inside());
      const FilePtr file = co_await directory->openFile(path("file"));
      const std::unique_ptr<AsyncInputStream> stream = newFileInputStream(*file);
      const StreamPair pair = newStreamPair(test.io);
      Promise<std::string> received = pair.right->readAllText(1'000'000).eagerlyEvaluate(nullptr);
      const std::uint64_t size = co_await stream->pumpTo(*pair.left);
      pair.left->shutdownWrite();
      const std::string text = co_await std::move(received);
      REQUIRE(size == 300'000);
      REQUIRE(areNumbered(text));
    })();
  });
}
