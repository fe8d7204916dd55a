// SPDX-License-Identifier: MIT
// Tests of pumping a file to a socket by sendfile(2): amounts, full sockets, refusals of the system, cancellation.
#include "../runtime/helpers.h"
#include "file_fixture.h"

#include <troth/runtime/pool_detail.h>

#ifdef __linux__

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <functional>
#include <memory>
#include <mutex>
#include <semaphore>
#include <string>
#include <vector>

#include <sys/sendfile.h>
#include <sys/syscall.h>
#include <uv.h>

using namespace troth;
using namespace troth::test;

namespace {

// Little room, so that a pump has to wait for the peer.
constexpr Buffers SMALL{4096, 4096};
constexpr std::size_t MIB = 1 << 20;

/// What is done in place of a call of sendfile(2): `real(most)` makes it, for at most so many bytes.
using Real = std::function<ssize_t(std::size_t)>;
using Instead = std::function<ssize_t(const Real& real, std::size_t size)>;

std::atomic<int> calls{0};
std::mutex insteadMutex;
std::shared_ptr<const Instead> instead;

/// Counts the calls of sendfile(2) while it lives, and may do something else.
class Sendfile {
public:
  explicit Sendfile(Instead something = nullptr) {
    calls = 0;
    const std::lock_guard lock(insteadMutex);
    instead = something ? std::make_shared<const Instead>(std::move(something)) : nullptr;
  }
  Sendfile(const Sendfile&) = delete;
  Sendfile& operator=(const Sendfile&) = delete;
  ~Sendfile() {
    const std::lock_guard lock(insteadMutex);
    instead = nullptr;
  }
  static int count() { return calls; }
};

/// Keeps the first call waiting in its thread until go(). Then it is made.
class HeldSendfile {
public:
  HeldSendfile()
      : sendfile_([gate = gate_](const Real& real, std::size_t size) {
          if (!gate->first.exchange(false)) return real(size);
          gate->begun.release();
          gate->go.acquire();
          return real(size);
        }) {}
  void waitUntilBegun() { gate_->begun.acquire(); }
  void go() { gate_->go.release(); }

private:
  struct Gate {
    std::atomic<bool> first{true};
    std::binary_semaphore begun{0};
    std::binary_semaphore go{0};
  };

  std::shared_ptr<Gate> gate_ = std::make_shared<Gate>(); // the thread's, too: it may leave after us
  Sendfile sendfile_;
};

ssize_t fails(int error) {
  errno = error;
  return -1;
}

} // namespace

// In place of the system's for this program.
extern "C" ssize_t sendfile(int to, int from, off_t* offset, std::size_t size) noexcept {
  ++calls;
  std::shared_ptr<const Instead> now;
  {
    const std::lock_guard lock(insteadMutex);
    now = instead;
  }
  const auto real = [&](std::size_t most) {
    return static_cast<ssize_t>(::syscall(SYS_sendfile, to, from, offset, std::min(most, size)));
  };
  return now ? (*now)(real, size) : real(size);
}

namespace {

/// A file of numbered bytes, a stream of it, and a socket.
struct Pumping {
  Pumping(FileTest& test, std::size_t size, Pair p, std::uint64_t offset = 0) : data(numberedBytes(size)), pair(std::move(p)) {
    test.disk.write("file", data);
    opened = test.file("file", FileMode::MODIFY);
    input = newFileInputStream(*opened, offset);
  }
  Promise<std::uint64_t> pump(std::uint64_t amount = ALL_BYTES) {
    return input->pumpTo(*pair.stream, amount).eagerlyEvaluate(nullptr);
  }

  std::string data;
  Pair pair;
  FilePtr opened;
  std::unique_ptr<AsyncInputStream> input;
};

Pair pairOf(AsyncIo& io, bool tcp, Buffers buffers = SMALL) { return tcp ? newTcpPair(io, buffers) : newPair(io, buffers); }

/// Runs the loop, without waiting, until the peer has all `size` bytes.
std::string receiveAll(IoTest& test, Peer& peer, std::size_t size) {
  std::string got;
  while (got.size() < size) {
    test.scope.poll();
    got += peer.receiveSome(std::min(std::size_t(65'536), size - got.size()));
  }
  return got;
}

void waitUntilReadable(IoTest& test, const Peer& peer) {
  while (!peer.isReadable()) test.scope.poll();
}

/// Runs the loop until the pump, which has just begun, has filled the socket and waits for it.
void fill(IoTest& test, const Pumping& p) {
  const std::optional<std::uint64_t> before = p.input->tryGetLength();
  while (p.input->tryGetLength() == before) test.step();
}

} // namespace

TEST_CASE_FIXTURE(FileTest, "every byte of a file of any size comes to a slow reader, in order, and none through the program") {
  for (const bool tcp : {false, true}) {
    for (const std::size_t size : {std::size_t(0), std::size_t(1), std::size_t(4096), std::size_t(65'535), std::size_t(65'536),
                                   std::size_t(65'537), 5 * MIB}) {
      CAPTURE(tcp);
      CAPTURE(size);
      Pumping p(*this, size, pairOf(io, tcp));
      const std::int64_t before = detail::liveBlocks();
      const Sendfile sendfile;
      Promise<std::uint64_t> pump = p.pump();
      std::string got;
      std::int64_t most = 0;
      while (got.size() < size) {
        scope.poll();
        got += p.pair.peer.receiveSome(10'000);
        most = std::max(most, detail::liveBlocks() - before);
      }
      CHECK(std::move(pump).wait(scope) == size);
      CHECK((got == p.data));
      CHECK(sendfile.count() > 0);
      CHECK(most < 20);
      CHECK(p.input->tryGetLength() == 0);
      CHECK(!p.pair.peer.isReadable());
    }
  }
}

TEST_CASE_FIXTURE(FileTest, "amounts, offsets and ends: the position advances by what was sent, and the stream goes on behind") {
  Pumping p(*this, 3 * MIB, newTcpPair(io), 7);
  std::size_t at = 7;
  for (const std::uint64_t amount : {std::uint64_t(0), std::uint64_t(1), std::uint64_t(MIB - 1), std::uint64_t(MIB), std::uint64_t(MIB + 1), ALL_BYTES}) {
    CAPTURE(amount);
    const std::size_t size = static_cast<std::size_t>(std::min<std::uint64_t>(amount, p.data.size() - at));
    Promise<std::uint64_t> pump = p.pump(amount);
    CHECK((receiveAll(*this, p.pair.peer, size) == p.data.substr(at, size)));
    CHECK(std::move(pump).wait(scope) == size);
    at += size;
    CHECK(p.input->tryGetLength() == p.data.size() - at);
  }
  CHECK(p.pump().wait(scope) == 0);
  p.opened->write(p.data.size(), "more").wait(scope); // the file has grown
  CHECK(p.pump().wait(scope) == 4);
  CHECK(p.pair.peer.receive(4) == "more");
  p.opened->truncate(10).wait(scope);
  CHECK(p.pump().wait(scope) == 0);
  CHECK(newFileInputStream(*p.opened, 1000)->pumpTo(*p.pair.stream).wait(scope) == 0);
  CHECK(newFileInputStream(*p.opened, 8)->pumpTo(*p.pair.stream, 1).wait(scope) == 1);
  CHECK(p.pair.peer.receive(1) == p.data.substr(8, 1));
}

TEST_CASE_FIXTURE(FileTest, "while a file is sent it has the places of a write and of a read, which come back") {
  Pumping p(*this, MIB, newPair(io, SMALL));
  disk.write("other", "other");
  const std::unique_ptr<AsyncInputStream> other = newFileInputStream(*file("other"));
  Promise<std::uint64_t> pump = p.pump();
  for (const bool full : {false, true}) {
    if (full) fill(*this, p);
    for (const std::function<void()>& call :
         {std::function<void()>([&] { (void)p.pair.stream->write("x"); }), std::function<void()>([&] { p.pair.stream->shutdownWrite(); }),
          std::function<void()>([&] { (void)other->pumpTo(*p.pair.stream); }), std::function<void()>([&] { (void)p.input->tryReadChunk(); }),
          std::function<void()>([&] { (void)p.input->pumpTo(*p.pair.stream); })}) {
      const Exception e = thrownBy(call);
      CHECK((e.kind() == Exception::Kind::FAILED));
      CHECK(contains(e.description(), "pending"));
      CHECK(madeIn(e, "sendfile_test.cc"));
    }
  }
  CHECK((receiveAll(*this, p.pair.peer, MIB) == p.data));
  CHECK(std::move(pump).wait(scope) == MIB);
  CHECK(other->pumpTo(*p.pair.stream).wait(scope) == 5); // what was refused has lost nothing
  p.pair.stream->write("behind").wait(scope);
  p.pair.stream->shutdownWrite();
  CHECK(p.pair.peer.receive(11) == "otherbehind");
  waitUntilReadable(*this, p.pair.peer);
  CHECK(p.pair.peer.isAtEnd());
  CHECK(p.input->pumpTo(*p.pair.stream, 0).wait(scope) == 0);
}

TEST_CASE_FIXTURE(FileTest, "a pump waits for what a cancelled write has left on its way") {
  Pumping p(*this, 100'000, newPair(io, SMALL));
  const std::string before = numberedBytes(1 * MIB, 5);
  { const Promise<void> write = p.pair.stream->write(before); }
  Promise<std::uint64_t> pump = p.pump();
  const std::string got = receiveWhileRunning(*this, p.pair.peer, 10 * MIB);
  REQUIRE(got.size() > p.data.size());
  const std::size_t left = got.size() - p.data.size();
  CHECK((got.substr(0, left) == before.substr(0, left)));
  CHECK((got.substr(left) == p.data));
  CHECK(std::move(pump).wait(scope) == p.data.size());
}

TEST_CASE_FIXTURE(FileTest, "a pipe, which is no socket, is written to as ever") {
  Pumping p(*this, 200'000, newPair(io));
  const OsPipe pipe = newOsPipe(io);
  const Sendfile sendfile;
  Promise<std::string> got = pipe.input->readAllText(MIB).eagerlyEvaluate(nullptr);
  CHECK(p.input->pumpTo(*pipe.output, 150'000).wait(scope) == 150'000);
  CHECK(sendfile.count() == 0);
  CHECK(!got.poll(scope));
}

// -------------------------------------------------------------------------------- what the system refuses

TEST_CASE_FIXTURE(FileTest, "where sendfile(2) refuses, at once or later, the rest is read and written, and no byte is lost or doubled") {
  for (const int error : {EINVAL, ENOSYS, EOPNOTSUPP, EOVERFLOW, EPERM, EIO, ENOMEM}) {
    for (const std::size_t good : {std::size_t(0), std::size_t(1), std::size_t(100'000), MIB, MIB + 5}) {
      CAPTURE(error);
      CAPTURE(good);
      Pumping p(*this, 2 * MIB, newPair(io));
      std::size_t left = good;
      const Sendfile sendfile([&left, error](const Real& real, std::size_t) {
        const ssize_t count = left == 0 ? fails(error) : real(left);
        if (count > 0) left -= static_cast<std::size_t>(count);
        return count;
      });
      Promise<std::uint64_t> pump = p.pump(2 * MIB - 10);
      CHECK((receiveAll(*this, p.pair.peer, 2 * MIB - 10) == p.data.substr(0, 2 * MIB - 10)));
      CHECK(std::move(pump).wait(scope) == 2 * MIB - 10);
      CHECK(p.input->tryGetLength() == 10);
      p.pair.stream->write("behind").wait(scope);
      CHECK(p.pair.peer.receive(6) == "behind");
    }
  }
}

TEST_CASE_FIXTURE(FileTest, "calls that are interrupted, or send less than they could, are repeated") {
  Pumping p(*this, 300'000, newTcpPair(io));
  int turn = 0;
  const Sendfile sendfile([&turn](const Real& real, std::size_t) { return ++turn % 2 == 0 ? fails(EINTR) : real(7001); });
  Promise<std::uint64_t> pump = p.pump();
  CHECK((receiveAll(*this, p.pair.peer, p.data.size()) == p.data));
  CHECK(std::move(pump).wait(scope) == p.data.size());
}

TEST_CASE_FIXTURE(FileTest, "an error of the file is the pump's, and the socket goes on") {
  const HalfReadable half(disk);
  const FilePtr memory = openDirectory(io, "/proc/self").wait(scope)->openFile(path("mem")).wait(scope);
  const std::unique_ptr<AsyncInputStream> input = newFileInputStream(*memory, half.offset());
  Pair pair = newPair(io);
  const Sendfile sendfile;
  CHECK((failureOf(input->pumpTo(*pair.stream), scope).code() == std::errc::io_error));
  CHECK(sendfile.count() == 1);
  pair.stream->write("behind").wait(scope);
  CHECK(pair.peer.receive(half.size + 6) == std::string(half.size, 'x') + "behind");
}

TEST_CASE_FIXTURE(FileTest, "without a descriptor to spare a file is pumped nevertheless") {
  Pumping p(*this, MIB, newPair(io, SMALL));
  const Sendfile sendfile;
  DescriptorLimit limit;
  Promise<std::uint64_t> pump = p.pump();
  CHECK((receiveAll(*this, p.pair.peer, MIB) == p.data));
  CHECK(std::move(pump).wait(scope) == MIB);
  limit.lift();
  CHECK(sendfile.count() == 0);
}

// -------------------------------------------------------------------------------------------- the peer goes

TEST_CASE_FIXTURE(FileTest, "a peer that goes fails the pump and all writes, wakes who waits for room, and raises no signal (A3)") {
  struct sigaction before {};
  REQUIRE(sigaction(SIGPIPE, nullptr, &before) == 0);
  std::signal(SIGPIPE, SIG_DFL);
  for (const bool tcp : {false, true}) {
    for (const bool full : {false, true}) {
      CAPTURE(tcp);
      CAPTURE(full);
      Pumping p(*this, 5 * MIB, pairOf(io, tcp));
      std::atomic<std::uint64_t> sent{0};
      const Sendfile sendfile([&sent](const Real& real, std::size_t size) {
        const ssize_t count = real(size);
        if (count > 0) sent += static_cast<std::uint64_t>(count);
        return count;
      });
      Promise<void> disconnected = p.pair.stream->whenWriteDisconnected();
      if (!full) p.pair.peer.reset();
      Promise<std::uint64_t> pump = p.pump();
      if (full) {
        fill(*this, p);
        p.pair.peer.reset();
      }
      const Exception e = failureOf(std::move(pump), scope);
      CHECK((e.kind() == Exception::Kind::DISCONNECTED));
      CHECK((e.code() == std::errc::broken_pipe || e.code() == std::errc::connection_reset));
      CHECK(madeIn(e, "sendfile_test.cc"));
      CHECK((failureOf(p.pair.stream->write("more"), scope).code() == e.code()));
      CHECK((failureOf(p.pump(), scope).code() == e.code()));
      CHECK(p.input->tryGetLength() == p.data.size() - sent);
      std::move(disconnected).wait(scope);
    }
  }
  sigset_t pending;
  REQUIRE(sigpending(&pending) == 0);
  CHECK(sigismember(&pending, SIGPIPE) == 0);
  sigaction(SIGPIPE, &before, nullptr);
}

// -------------------------------------------------------------------------- destruction and cancellation

TEST_CASE_FIXTURE(FileTest, "a pump that waits for room can be cancelled: nothing watches the socket, and what follows is written") {
  for (const bool tcp : {false, true}) {
    CAPTURE(tcp);
    Pumping p(*this, 5 * MIB, pairOf(io, tcp));
    const std::size_t descriptors = openDescriptors();
    const std::size_t watches = activeHandles(*this, "poll");
    {
      const Promise<std::uint64_t> pump = p.pump();
      fill(*this, p);
      CHECK(openDescriptors() == descriptors + 1);
      CHECK(sleeps(*this));
      CHECK(p.pair.stream->tryGetUndelivered().value_or(0) > *p.input->tryGetLength()); // what the socket holds, too
    }
    CHECK(p.pair.stream->tryGetUndelivered() == 0);
    CHECK(openDescriptors() == descriptors);
    CHECK(sleeps(*this));
    CHECK(activeHandles(*this, "poll") == watches);
    const std::size_t sent = p.data.size() - static_cast<std::size_t>(*p.input->tryGetLength());
    Promise<void> write = p.pair.stream->write("behind").eagerlyEvaluate(nullptr);
    CHECK((receiveAll(*this, p.pair.peer, sent + 6) == p.data.substr(0, sent) + "behind"));
    std::move(write).wait(scope);
  }
}

TEST_CASE_FIXTURE(FileTest, "a pump that no thread has begun can be cancelled, and nothing was sent") {
  Pumping p(*this, 1000, newPair(io));
  {
    BusyThreadPool busy(io);
    { const Promise<std::uint64_t> pump = p.pump(); }
    Promise<void> write = p.pair.stream->write("behind").eagerlyEvaluate(nullptr);
    std::move(write).wait(scope); // the job has been taken back
  }
  CHECK(p.pair.peer.receiveSome() == "behind");
  CHECK(p.input->tryGetLength() == 1000);
}

TEST_CASE_FIXTURE(FileTest, "what a thread has begun when the pump is cancelled comes before what is written next") {
  Pumping p(*this, 50'000, newPair(io));
  HeldSendfile held;
  {
    const Promise<std::uint64_t> pump = p.pump();
    held.waitUntilBegun();
  }
  Promise<void> write = p.pair.stream->write("behind");
  Promise<Chunk> read = p.input->tryReadChunk(10); // the file stream is free
  CHECK(!write.poll(scope));
  held.go();
  std::move(write).wait(scope);
  CHECK((p.pair.peer.receive(50'006) == p.data + "behind"));
  CHECK(std::move(read).wait(scope).text() == p.data.substr(0, 10));
}

TEST_CASE_FIXTURE(FileTest, "a second pump waits for what a thread has begun for a cancelled one, and is cancelled in turn") {
  Pumping p(*this, 50'000, newPair(io));
  HeldSendfile held;
  {
    const Promise<std::uint64_t> pump = p.pump();
    held.waitUntilBegun();
  }
  { const Promise<std::uint64_t> pump = p.pump(); }
  Promise<std::uint64_t> pump = p.pump(10);
  CHECK(!pump.poll(scope));
  held.go();
  CHECK(std::move(pump).wait(scope) == 10);
  CHECK((p.pair.peer.receive(50'010) == p.data + p.data.substr(0, 10)));
}

TEST_CASE_FIXTURE(FileTest, "a connection that fails under a cancelled pump fails what comes after, unless it was shut down") {
  for (const bool shut : {false, true}) {
    CAPTURE(shut);
    Pumping p(*this, 50'000, newPair(io));
    HeldSendfile held;
    {
      const Promise<std::uint64_t> pump = p.pump();
      held.waitUntilBegun();
    }
    if (shut) {
      p.pair.stream->shutdownWrite();
      waitUntilReadable(*this, p.pair.peer);
      CHECK(p.pair.peer.isAtEnd());
    } else {
      p.pair.peer.close();
    }
    held.go();
    if (shut) {
      Promise<void> disconnected = p.pair.stream->whenWriteDisconnected();
      CHECK(p.input->tryReadChunk(10).wait(scope).size() == 10);
      CHECK(!disconnected.poll(scope));
    } else {
      CHECK((failureOf(p.pair.stream->write("x"), scope).kind() == Exception::Kind::DISCONNECTED));
    }
  }
}

TEST_CASE_FIXTURE(FileTest, "a stream that is destroyed before the pump fails it, whatever the pump waits for") {
  for (const bool socket : {true, false}) {
    for (const int state : {0, 1, 2}) { // queued; in a thread; waiting for room
      CAPTURE(socket);
      CAPTURE(state);
      Pumping p(*this, 5 * MIB, newPair(io, SMALL));
      std::optional<BusyThreadPool> busy;
      std::optional<HeldSendfile> held;
      if (state == 0) busy.emplace(io);
      if (state == 1) held.emplace();
      Promise<std::uint64_t> pump = p.pump();
      if (state == 1) held->waitUntilBegun();
      if (state == 2) fill(*this, p);
      if (socket)
        p.pair.stream.reset();
      else
        p.input.reset();
      const Exception e = failureOf(std::move(pump), scope);
      CHECK((e.kind() == Exception::Kind::DISCONNECTED));
      CHECK(contains(e.description(), "was destroyed"));
      CHECK(madeIn(e, "sendfile_test.cc"));
      if (held) held->go();
      if (busy) busy.reset();
      if (socket) {
        for (waitUntilReadable(*this, p.pair.peer); !p.pair.peer.isClosed(); waitUntilReadable(*this, p.pair.peer))
          p.pair.peer.receiveSome();
      } else {
        Promise<void> write = p.pair.stream->write("x").eagerlyEvaluate(nullptr);
        while (!write.poll(scope)) p.pair.peer.receiveSome();
      }
    }
  }
}

TEST_CASE("a context may go while a thread still sends for a pump that was dropped") {
  for (const bool byPromise : {true, false}) {
    HeldSendfile held;
    FileTest test;
    Pumping p(test, 3 * MIB, newPair(test.io));
    std::optional<Promise<std::uint64_t>> pump = p.pump();
    held.waitUntilBegun();
    if (byPromise) pump.reset();
    p.pair.stream.reset();
    held.go();
  }
}

TEST_CASE("on a host's loop, what a thread has begun to send ends after the context has gone, and everything is closed") {
  TemporaryDirectory disk;
  disk.write("file", numberedBytes(100'000));
  const NothingLeft nothingLeft;
  HeldSendfile held;
  uv_loop_t loop;
  REQUIRE(uv_loop_init(&loop) == 0);
  {
    HostedAsyncIoContext io = setupAsyncIo(&loop);
    FilePtr file;
    Promise<void> opening = openDirectory(io, disk.inside())
                                .then([](DirectoryPtr top) { return top->openFile(path("file")).attach(std::move(top)); })
                                .then([&](FilePtr opened) { file = std::move(opened); })
                                .eagerlyEvaluate(nullptr);
    uv_run(&loop, UV_RUN_DEFAULT);
    REQUIRE(file != nullptr);
    const OsSocketpair pair = newOsSocketpair(io);
    const std::unique_ptr<AsyncInputStream> input = newFileInputStream(*file);
    const Promise<std::uint64_t> pump = input->pumpTo(*pair.left);
    held.waitUntilBegun();
  }
  held.go();
  uv_run(&loop, UV_RUN_DEFAULT);
  CHECK(uv_loop_close(&loop) == 0);
}

namespace {

Promise<void> pumpOver(IoTest& test, const TemporaryDirectory& disk, std::size_t size, StreamPair pair) {
  const DirectoryPtr directory = co_await openDirectory(test.io, disk.inside());
  const FilePtr file = co_await directory->openFile(path("file"));
  const std::unique_ptr<AsyncInputStream> stream = newFileInputStream(*file);
  Promise<std::string> received = pair.right->readAllText(10 * MIB).eagerlyEvaluate(nullptr);
  const std::uint64_t pumped = co_await stream->pumpTo(*pair.left);
  pair.left->shutdownWrite();
  const std::string text = co_await std::move(received);
  const bool isRight = pumped == size && text.size() == size && areNumbered(text); // asked outside: it may throw
  REQUIRE(isRight);
}

} // namespace

TEST_CASE("a pump of a file to a socket can be cancelled at every step") {
  TemporaryDirectory disk;
  disk.write("file", numberedBytes(60'000));
  const Sendfile sendfile;
  CHECK(cancelSweep([&](IoTest& test) { return pumpOver(test, disk, 60'000, newStreamPair(test.io, SMALL)); }) > 10);
  CHECK(sendfile.count() > 0);
}

TEST_CASE("a pump of a file to a socket that finds no memory fails, or goes on without, and leaves nothing (R6)") {
  TemporaryDirectory disk;
  disk.write("file", numberedBytes(20'000));
  const auto body = [&](IoTest& test) {
    OsSocketpair pair = newOsSocketpair(test.io);
    pumpOver(test, disk, 20'000, {std::move(pair.left), std::move(pair.right)}).wait(test.scope);
  };
  CHECK((starveSweep(body) > 10 || SANITIZED));
}

#endif
