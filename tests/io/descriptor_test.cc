// SPDX-License-Identifier: MIT
// Tests of streams on descriptors: what they are made of, who owns them, files by the thread pool, pipes, stdio.
#include "peer.h"
#include "raw_descriptors.h"

#include <troth/io/descriptor.h>
#include <troth/runtime/uv/uv_event_port.h>

#include <sys/eventfd.h>
#include <sys/stat.h>

#include <cstdio>
#include <string>
#include <thread>

using namespace troth;
using namespace troth::test;

namespace {

/// A file without a name that holds `content`, at its beginning.
OwnedDescriptor fileOf(std::string_view content, int extraFlags = 0) {
  std::FILE* file = std::tmpfile();
  REQUIRE(file != nullptr);
  const std::string path = "/proc/self/fd/" + std::to_string(fileno(file));
  OwnedDescriptor fd(open(path.c_str(), O_RDWR | O_CLOEXEC | extraFlags));
  std::fclose(file);
  REQUIRE(fd);
  REQUIRE(pwrite(fd.get(), content.data(), content.size(), 0) == static_cast<ssize_t>(content.size()));
  return fd;
}

std::string contentOf(int fd) {
  std::string content(1 << 20, '\0');
  const ssize_t count = pread(fd, content.data(), content.size(), 0);
  REQUIRE(count >= 0);
  content.resize(static_cast<std::size_t>(count));
  return content;
}

void writeAll(int fd, std::string_view text) {
  REQUIRE(::write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size()));
}

std::string readText(AsyncInputStream& stream, WaitScope& scope) { return std::string(stream.tryReadChunk().wait(scope).text()); }

} // namespace

// ------------------------------------------------------------------------------------------ ownership

TEST_CASE("an owned descriptor is closed when its owner goes, and not when it was given away") {
  RawPair pipe = rawPipe();
  const int out = pipe.out.get();
  { const OwnedDescriptor moved = std::move(pipe.out); }
  CHECK(!isOpen(out));
  CHECK(!pipe.out);
  const int in = pipe.in.release();
  CHECK(isOpen(in));
  pipe.in = OwnedDescriptor(in);
  pipe.in = OwnedDescriptor();
  CHECK(!isOpen(in));
}

TEST_CASE_FIXTURE(IoTest, "a descriptor that is taken is closed with the stream, and on exec (R15)") {
  for (const bool file : {false, true}) {
    CAPTURE(file);
    RawPair pipe = rawPipe();
    OwnedDescriptor taken = file ? fileOf("abc") : std::move(pipe.out);
    const int fd = taken.get();
    REQUIRE(fcntl(fd, F_SETFD, 0) == 0);
    auto stream = newInputStream(io, fd, Ownership::TAKE);
    taken.release();
    CHECK(isClosedOnExec(fd));
    stream.reset();
    CHECK(!isOpen(fd));
  }
}

TEST_CASE_FIXTURE(IoTest, "a descriptor that is borrowed stays open, and the stream does not need it") {
  RawPair pipe = rawPipe();
  auto input = newInputStream(io, pipe.out.get(), Ownership::BORROW);
  auto output = newOutputStream(io, pipe.in.get(), Ownership::BORROW);
  pipe.in.close();
  output->write("abc").wait(scope);
  CHECK(readText(*input, scope) == "abc");
  output.reset();
  CHECK(readText(*input, scope).empty());
  input.reset();
  CHECK(isOpen(pipe.out.get()));
}

TEST_CASE_FIXTURE(IoTest, "a pipe that is borrowed does not become non-blocking for the others who have it") {
  RawPair pipe = rawPipe();
  auto input = newInputStream(io, pipe.out.get(), Ownership::BORROW);
  auto output = newOutputStream(io, pipe.in.get(), Ownership::BORROW);
  CHECK(!isNonBlocking(pipe.out.get()));
  CHECK(!isNonBlocking(pipe.in.get()));
  writeAll(pipe.in.get(), "abc");
  CHECK(readText(*input, scope) == "abc");
}

TEST_CASE_FIXTURE(IoTest, "a pipe that gives a packet at a time is read to its end") {
  int ends[2];
  REQUIRE(pipe2(ends, O_CLOEXEC | O_DIRECT) == 0);
  const OwnedDescriptor out(ends[0]);
  OwnedDescriptor in(ends[1]);
  for (const std::string_view packet : {"one ", "two ", "three"}) writeAll(in.get(), packet);
  in.close();
  auto input = newInputStream(io, out.get(), Ownership::BORROW);
  CHECK(input->readAllText(100).wait(scope) == "one two three");
}

TEST_CASE_FIXTURE(IoTest, "the writing end of a pipe without a reader can be borrowed, and writing fails") {
  RawPair pipe = rawPipe();
  pipe.out.close();
  auto output = newOutputStream(io, pipe.in.get(), Ownership::BORROW);
  CHECK((failureOf(output->write("abc"), scope).kind() == Exception::Kind::DISCONNECTED));
}

TEST_CASE_FIXTURE(IoTest, "a standard descriptor that is taken is closed, too, which libuv would not do, and nothing else gets its number") {
  RawPair pipe = rawPipe();
  const Standard standard(STDIN_FILENO, pipe.in.get());
  pipe.in.close();
  auto output = newOutputStream(io, STDIN_FILENO, Ownership::TAKE);
  CHECK(rawPipe().out.get() > STDERR_FILENO);
  output->write("abc").wait(scope);
  output.reset();
  auto input = newInputStream(io, pipe.out.get(), Ownership::BORROW);
  CHECK(readText(*input, scope) == "abc");
  CHECK(readText(*input, scope).empty());
}

TEST_CASE_FIXTURE(IoTest, "a socket can be taken and borrowed, of the Unix and the TCP kind") {
  for (const Ownership ownership : {Ownership::TAKE, Ownership::BORROW}) {
    RawPair sockets = rawSocketpair();
    auto stream = newIoStream(io, sockets.out.get(), ownership);
    if (ownership == Ownership::TAKE) CHECK(*stream->descriptor() == sockets.out.release());
    Peer peer(sockets.in.release());
    stream->write("abc").wait(scope);
    CHECK(peer.receive(3) == "abc");
    peer.send("def");
    CHECK(readText(*stream, scope) == "def");

    Pair tcp = newTcpPair(io);
    auto second = newIoStream(io, *tcp.stream->descriptor(), Ownership::BORROW);
    CHECK(activeHandles(*this, "tcp") == 0);
    Promise<Chunk> read = second->tryReadChunk();
    CHECK(activeHandles(*this, "tcp") == 1);
    CHECK(takeAfter(read, scope, [&] { tcp.peer.send("ghi"); tcp.peer.isReadable(); for (int i = 0; i < 100; ++i) scope.poll(); }).text() == "ghi");
  }
}

TEST_CASE_FIXTURE(IoTest, "a device that can be waited for is") {
  OwnedDescriptor event(eventfd(0, EFD_CLOEXEC));
  auto stream = newIoStream(io, event.get(), Ownership::BORROW);
  std::uint64_t count = 0;
  Promise<void> read = stream->read(std::as_writable_bytes(std::span(&count, 1)));
  takeAfter(read, scope, [&] {
    const std::uint64_t seven = 7;
    REQUIRE(::write(event.get(), &seven, sizeof seven) == sizeof seven);
  });
  CHECK(count == 7);
}

TEST_CASE_FIXTURE(IoTest, "an owned descriptor is taken, and closed if no stream can be made of it") {
  RawPair pipe = rawPipe();
  const int in = pipe.in.get();
  const int out = pipe.out.get();
  CHECK(contains(thrownBy([&] { (void)newIoStream(io, std::move(pipe.in)); }).description(), "one way"));
  CHECK(!isOpen(in));
  const auto input = newInputStream(io, std::move(pipe.out));
  CHECK(isOpen(out));
  CHECK(readText(*input, scope).empty());
  CHECK(contains(thrownBy([&] { (void)newOutputStream(io, OwnedDescriptor()); }).description(), "descriptor -1"));
}

// --------------------------------------------------------------------------------------------- errors

TEST_CASE_FIXTURE(IoTest, "a device of which no stream can be made does not become non-blocking") {
  OwnedDescriptor event(eventfd(0, EFD_CLOEXEC));
  {
    DescriptorLimit limit;
    const Exception e = thrownBy([&] { (void)newIoStream(io, event.get(), Ownership::BORROW); });
    CHECK((e.code() == std::errc::too_many_files_open));
  }
  CHECK(!isNonBlocking(event.get()));
}

TEST_CASE_FIXTURE(IoTest, "what is no stream is refused, with the descriptor's number and the reason") {
  RawPair pipe = rawPipe();
  RawPair datagrams = rawSocketpair(SOCK_DGRAM);
  OwnedDescriptor listener(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  REQUIRE(listen(listener.get(), 1) == 0);
  OwnedDescriptor directory(open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  OwnedDescriptor readOnly(open("/dev/null", O_RDONLY | O_CLOEXEC));
  OwnedDescriptor file = fileOf("");
  const int closed = [] { return rawPipe().out.get(); }();
  using Call = std::function<void(int)>;
  const Call input = [&](int fd) { (void)newInputStream(io, fd, Ownership::TAKE); };
  const Call output = [&](int fd) { (void)newOutputStream(io, fd, Ownership::TAKE); };
  const Call both = [&](int fd) { (void)newIoStream(io, fd, Ownership::TAKE); };
  struct Case {
    const Call& call;
    int fd;
    std::string_view reason;
  };
  for (const Case& c : {Case{input, closed, "bad file descriptor"}, Case{output, closed, "bad file descriptor"}, Case{both, closed, "bad file descriptor"},
                        Case{input, -1, "bad file descriptor"}, Case{input, directory.get(), "directory"}, Case{output, directory.get(), "reading only"},
                        Case{both, directory.get(), "directory"}, Case{input, pipe.in.get(), "writing only"}, Case{output, pipe.out.get(), "reading only"},
                        Case{both, pipe.out.get(), "one way"}, Case{both, file.get(), "one position"}, Case{output, readOnly.get(), "reading only"},
                        Case{both, datagrams.in.get(), "for messages"}, Case{input, listener.get(), "listens"}}) {
    CAPTURE(c.fd);
    CAPTURE(c.reason);
    const Exception e = thrownBy([&] { c.call(c.fd); });
    CAPTURE(std::string(e.description()));
    CHECK((e.kind() == Exception::Kind::FAILED));
    CHECK(contains(e.description(), "Stream: descriptor " + std::to_string(c.fd)));
    CHECK(contains(e.description(), c.reason));
    CHECK(madeIn(e, "descriptor_test.cc"));
    if (c.fd != closed && c.fd >= 0) CHECK(isOpen(c.fd)); // still the caller's
  }
}

TEST_CASE_FIXTURE(IoTest, "without descriptors borrowing, pipes and socketpairs are OVERLOADED, and nothing is left") {
  OwnedDescriptor file = fileOf("");
  RawPair sockets = rawSocketpair();
  DescriptorLimit limit;
  for (const Exception& e : {thrownBy([&] { (void)newInputStream(io, file.get(), Ownership::BORROW); }),
                             thrownBy([&] { (void)newIoStream(io, sockets.out.get(), Ownership::BORROW); }), thrownBy([&] { (void)newOsPipe(io); }),
                             thrownBy([&] { (void)newOsSocketpair(io); }), thrownBy([&] { (void)standardInput(io); })}) {
    CHECK((e.kind() == Exception::Kind::OVERLOADED));
    CHECK(madeIn(e, "descriptor_test.cc"));
  }
}

// ---------------------------------------------------------------------------------- pipes of the system

TEST_CASE_FIXTURE(IoTest, "a pipe of the system carries bytes, and ends with its output") {
  OsPipe pipe = newOsPipe(io);
  Promise<std::string> all = pipe.input->readAllText(1 << 20);
  const std::string data = numberedBytes(300'000);
  Promise<void> write = pipe.output->write(data);
  REQUIRE(!all.poll(scope));
  std::move(write).wait(scope);
  pipe.output.reset();
  CHECK((std::move(all).wait(scope) == data));
}

TEST_CASE_FIXTURE(IoTest, "a pipe whose input has gone is disconnected for writing") {
  OsPipe pipe = newOsPipe(io);
  Promise<void> gone = pipe.output->whenWriteDisconnected();
  takeAfter(gone, scope, [&] { pipe.input.reset(); });
  CHECK((failureOf(pipe.output->write("x"), scope).kind() == Exception::Kind::DISCONNECTED));
}

TEST_CASE_FIXTURE(IoTest, "the ends of a socketpair are connected, both ways") {
  OsSocketpair pair = newOsSocketpair(io);
  pair.left->write("to the right").wait(scope);
  pair.right->write("to the left").wait(scope);
  CHECK(readText(*pair.right, scope) == "to the right");
  CHECK(readText(*pair.left, scope) == "to the left");
  pair.left->shutdownWrite();
  CHECK(readText(*pair.right, scope).empty());
  pair.right->write("still").wait(scope);
  CHECK(readText(*pair.left, scope) == "still");
}

// ---------------------------------------------------------------------------------------------- files

TEST_CASE_FIXTURE(IoTest, "a file is read from its position to its end, however much at a time") {
  const std::string data = numberedBytes(200'000);
  OwnedDescriptor file = fileOf(data);
  REQUIRE(lseek(file.get(), 10, SEEK_SET) == 10);
  auto stream = newInputStream(io, file.get(), Ownership::BORROW);
  std::string got;
  for (const std::size_t size : {std::size_t(1), std::size_t(100), std::size_t(70'000), std::size_t(200'000)}) {
    std::string part(size, '.');
    part.resize(stream->tryRead(bufferOf(part), size).wait(scope));
    got += part;
  }
  CHECK((got == data.substr(10)));
  CHECK(readText(*stream, scope).empty());
  CHECK(readText(*stream, scope).empty());
  CHECK(lseek(file.get(), 0, SEEK_CUR) == 200'000); // the position is shared, and was read no further than asked
}

TEST_CASE_FIXTURE(IoTest, "a read of a file takes no more from the position that others share than was asked for") {
  OwnedDescriptor file = fileOf("abcdef");
  auto stream = newInputStream(io, file.get(), Ownership::BORROW);
  std::string buffer(2, '.');
  CHECK(stream->tryRead(bufferOf(buffer)).wait(scope) == 2);
  CHECK(lseek(file.get(), 0, SEEK_CUR) == 2);
}

TEST_CASE_FIXTURE(IoTest, "a file is written at its position, one piece or many") {
  OwnedDescriptor file = fileOf("");
  auto stream = newOutputStream(io, file.get(), Ownership::BORROW);
  const std::string data = numberedBytes(200'000);
  stream->write(data).wait(scope);
  const std::vector<std::span<const std::byte>> pieces = {asBytes("a"), asBytes(""), asBytes("bc"), asBytes(data)};
  stream->write(pieces).wait(scope);
  stream->write("").wait(scope);
  CHECK((contentOf(file.get()) == data + "abc" + data));
}

TEST_CASE_FIXTURE(IoTest, "a file in append mode gets what is written at its end") {
  OwnedDescriptor file = fileOf("begin", O_APPEND);
  auto stream = newOutputStream(io, file.get(), Ownership::BORROW);
  stream->write(" end").wait(scope);
  CHECK(contentOf(file.get()) == "begin end");
}

TEST_CASE_FIXTURE(IoTest, "/dev/null ends at once and takes everything") {
  OwnedDescriptor null(open("/dev/null", O_RDWR | O_CLOEXEC));
  auto input = newInputStream(io, null.get(), Ownership::BORROW);
  auto output = newOutputStream(io, null.get(), Ownership::BORROW);
  CHECK(readText(*input, scope).empty());
  output->write(numberedBytes(200'000)).wait(scope);
}

TEST_CASE_FIXTURE(IoTest, "a full device fails a write, and later ones, with the descriptor's number") {
  OwnedDescriptor full(open("/dev/full", O_WRONLY | O_CLOEXEC));
  const int fd = full.release();
  auto stream = newOutputStream(io, fd, Ownership::TAKE);
  for (int i = 0; i < 2; ++i) {
    const Exception e = failureOf(stream->write("abc"), scope);
    CHECK((e.kind() == Exception::Kind::OVERLOADED));
    CHECK((e.code() == std::errc::no_space_on_device));
    CHECK(contains(e.description(), "write to descriptor " + std::to_string(fd)));
    CHECK(madeIn(e, "descriptor_test.cc"));
  }
}

TEST_CASE_FIXTURE(IoTest, "a file that cannot be read fails, with the descriptor's number") {
  OwnedDescriptor file(open("/proc/self/mem", O_RDONLY | O_CLOEXEC)); // nothing is mapped at 0
  auto stream = newInputStream(io, file.get(), Ownership::BORROW);
  const Exception e = failureOf(stream->tryReadChunk(), scope);
  CHECK((e.kind() == Exception::Kind::FAILED));
  CHECK((e.code() == std::errc::io_error));
  CHECK(contains(e.description(), "read from descriptor"));
  CHECK((failureOf(stream->tryReadChunk(), scope).code() == std::errc::io_error));
}

TEST_CASE_FIXTURE(IoTest, "a second operation on a file in the same direction is refused, and a read of nothing") {
  OwnedDescriptor file = fileOf("abc");
  auto input = newInputStream(io, file.get(), Ownership::BORROW);
  auto output = newOutputStream(io, file.get(), Ownership::BORROW);
  std::string buffer(8, '.');
  CHECK(contains(thrownBy([&] { (void)input->tryRead({}); }).description(), "the buffer is empty"));
  CHECK(contains(thrownBy([&] { (void)input->tryRead(bufferOf(buffer), 9); }).description(), "minBytes is 9"));
  Promise<std::size_t> read = input->tryRead(bufferOf(buffer));
  CHECK(contains(thrownBy([&] { (void)input->tryRead(bufferOf(buffer)); }).description(), "another read"));
  CHECK(std::move(read).wait(scope) == 3);
  Promise<void> write = output->write("def");
  CHECK(contains(thrownBy([&] { (void)output->write("ghi"); }).description(), "another write"));
  std::move(write).wait(scope);
  CHECK(contentOf(file.get()) == "abcdef");
}

TEST_CASE_FIXTURE(IoTest, "a read of a file that is cancelled loses nothing, how far it may have come") {
  const std::string data = numberedBytes(500);
  for (int turns = 0; turns < 6; ++turns) {
    CAPTURE(turns);
    OwnedDescriptor file = fileOf(data);
    auto stream = newInputStream(io, file.get(), Ownership::BORROW);
    std::string watched(50, '.');
    {
      Promise<std::size_t> read = stream->tryRead(bufferOf(watched), 50);
      for (int i = 0; i < turns; ++i) step();
    }
    const std::string before = watched;
    std::string got(500, '.');
    CHECK(stream->tryRead(bufferOf(got), 500).wait(scope) == 500);
    CHECK((got == data));
    CHECK(watched == before);
    if (turns >= 3) break; // it was ready
  }
}

TEST_CASE_FIXTURE(IoTest, "a read that a thread has begun gives its bytes to the next one, also if that is smaller") {
  RawPair pipe = rawPipe();
  OwnedDescriptor file = fileOf("abcdef");
  auto stream = newInputStream(io, file.get(), Ownership::BORROW);
  std::string buffer(6, '.');
  {
    const Promise<std::size_t> read = stream->tryRead(bufferOf(buffer));
    while (lseek(file.get(), 0, SEEK_CUR) == 0) {} // a thread is at it
  }
  std::string two(2, '.');
  std::string four(4, '.');
  CHECK(stream->tryRead(bufferOf(two)).wait(scope) == 2);
  CHECK(stream->tryRead(bufferOf(four)).wait(scope) == 4);
  CHECK(two + four == "abcdef");
  CHECK(buffer == "......");
}

TEST_CASE_FIXTURE(IoTest, "a read that no thread has begun is withdrawn") {
  OwnedDescriptor file = fileOf("abc");
  auto stream = newInputStream(io, file.get(), Ownership::BORROW);
  {
    BusyThreadPool busy(io);
    const Promise<Chunk> read = stream->tryReadChunk();
  }
  { BusyThreadPool nothingIsQueued(io); }
  CHECK(lseek(file.get(), 0, SEEK_CUR) == 0);
  BusyThreadPool busy(io);
  { const Promise<Chunk> read = stream->tryReadChunk(); }
  Promise<Chunk> next = stream->tryReadChunk();
  REQUIRE(!next.poll(scope));
  busy.release();
  CHECK(std::move(next).wait(scope).text() == "abc");
}

TEST_CASE_FIXTURE(IoTest, "a write that no thread has begun is withdrawn, and the next one goes on") {
  OwnedDescriptor file = fileOf("");
  auto stream = newOutputStream(io, file.get(), Ownership::BORROW);
  {
    BusyThreadPool busy(io);
    const Promise<void> write = stream->write("never");
  }
  { BusyThreadPool nothingIsQueued(io); }
  CHECK(contentOf(file.get()).empty());
  BusyThreadPool busy(io);
  { const Promise<void> write = stream->write("never"); }
  Promise<void> next = stream->write("next");
  REQUIRE(!next.poll(scope));
  busy.release();
  std::move(next).wait(scope);
  CHECK(contentOf(file.get()) == "next");
}

TEST_CASE_FIXTURE(IoTest, "what no thread has begun when its stream is destroyed is withdrawn, too") {
  OwnedDescriptor source = fileOf("abc");
  OwnedDescriptor target = fileOf("");
  auto input = newInputStream(io, source.get(), Ownership::BORROW);
  auto output = newOutputStream(io, target.get(), Ownership::BORROW);
  {
    BusyThreadPool busy(io);
    const Promise<Chunk> read = input->tryReadChunk();
    const Promise<void> write = output->write("never");
    input.reset();
    output.reset();
    busy.release();
    { BusyThreadPool nothingIsQueued(io); }
  }
  CHECK(lseek(source.get(), 0, SEEK_CUR) == 0);
  CHECK(contentOf(target.get()).empty());
}

TEST_CASE_FIXTURE(IoTest, "a write that a thread has begun owns its bytes, and the next one comes after it") {
  OwnedDescriptor file = fileOf("");
  auto stream = newOutputStream(io, file.get(), Ownership::BORROW);
  auto data = std::make_unique<std::string>(numberedBytes(300'000));
  {
    const Promise<void> write = stream->write(*data);
    struct stat status {};
    while (status.st_size == 0) REQUIRE(fstat(file.get(), &status) == 0);
  }
  data.reset(); // AddressSanitizer sees whoever comes here now
  stream->write("next").wait(scope);
  const std::string content = contentOf(file.get());
  CHECK(content.size() == 65'536 + 4);
  CHECK(areNumbered(std::string_view(content).substr(0, 65'536)));
  CHECK(content.ends_with("next"));
}

TEST_CASE_FIXTURE(IoTest, "a file stream that is destroyed rejects what is pending, also with the thread pool busy (R9)") {
  OwnedDescriptor file = fileOf("abc");
  auto input = newInputStream(io, file.get(), Ownership::BORROW);
  auto output = newOutputStream(io, file.get(), Ownership::BORROW);
  BusyThreadPool busy(io);
  Promise<Chunk> read = input->tryReadChunk();
  Promise<void> write = output->write("def");
  REQUIRE(!read.poll(scope));
  input.reset();
  output.reset();
  for (const Exception& e : {failureOf(std::move(read), scope), failureOf(std::move(write), scope)}) {
    CHECK((e.kind() == Exception::Kind::DISCONNECTED));
    CHECK(contains(e.description(), "stream was destroyed"));
    CHECK(madeIn(e, "descriptor_test.cc"));
  }
  CHECK(contentOf(file.get()) == "abc");
}

TEST_CASE_FIXTURE(IoTest, "the descriptor of a file stream stays open as long as a thread works on it") {
  OwnedDescriptor file = fileOf("");
  const std::size_t before = openDescriptors();
  auto output = newOutputStream(io, file.get(), Ownership::BORROW);
  const std::string data = numberedBytes(60'000);
  Promise<void> write = output->write(data);
  output.reset();
  CHECK((failureOf(std::move(write), scope).kind() == Exception::Kind::DISCONNECTED));
  while (openDescriptors() != before) io.uvEventPort().wait();
}

TEST_CASE_FIXTURE(IoTest, "promises of a file may be destroyed after the stream without ever running (R9)") {
  OwnedDescriptor file = fileOf("abc");
  auto input = newInputStream(io, file.get(), Ownership::BORROW);
  auto output = newOutputStream(io, file.get(), Ownership::BORROW);
  std::string buffer(8, '.');
  {
    const Promise<std::size_t> read = input->tryRead(bufferOf(buffer));
    const Promise<void> write = output->write("def");
    input.reset();
    output.reset();
  }
  CHECK(buffer == "........");
}

TEST_CASE("a context may go while the thread pool has requests of streams (R13)") {
  IoTest test;
  OwnedDescriptor file = fileOf("abc");
  auto input = newInputStream(test.io, file.get(), Ownership::BORROW);
  { const Promise<Chunk> read = input->tryReadChunk(); }
}

// --------------------------------------------------------------------------------------------- stdio

TEST_CASE_FIXTURE(IoTest, "standard input and output may be pipes, which stay blocking for others") {
  RawPair in = rawPipe();
  RawPair out = rawPipe();
  const Standard standardIn(STDIN_FILENO, in.out.get());
  const Standard standardErr(STDERR_FILENO, out.in.get());
  auto input = standardInput(io);
  auto error = standardError(io);
  writeAll(in.in.get(), "typed");
  CHECK(readText(*input, scope) == "typed");
  error->write("said").wait(scope);
  char said[8];
  CHECK(::read(out.out.get(), said, sizeof said) == 4);
  CHECK(!isNonBlocking(STDIN_FILENO));
  CHECK(!isNonBlocking(STDERR_FILENO));
  input.reset();
  error.reset();
  CHECK(isOpen(STDIN_FILENO));
  CHECK(isOpen(STDERR_FILENO));
}

TEST_CASE("a standard descriptor that is closed is given to nothing else, and cannot be used") {
  for (const int number : {STDIN_FILENO, STDOUT_FILENO}) {
    CAPTURE(number);
    const RawPair pipe = rawPipe();
    const Standard standard(number, pipe.in.get());
    ::close(number);
    AsyncIoContext io = setupAsyncIo();
    const Exception e = thrownBy([&] {
      if (number == STDIN_FILENO)
        (void)standardInput(io);
      else
        (void)standardOutput(io);
    });
    CHECK((e.kind() == Exception::Kind::FAILED));
    CHECK(contains(e.description(), number == STDIN_FILENO ? "descriptor 0 is open for writing only"
                                                           : "descriptor 1 is open for reading only"));
  }
}

TEST_CASE_FIXTURE(IoTest, "standard input and output may be files, /dev/null and sockets") {
  OwnedDescriptor file = fileOf("content");
  OwnedDescriptor null(open("/dev/null", O_RDWR | O_CLOEXEC));
  RawPair sockets = rawSocketpair();
  {
    const Standard standard(STDIN_FILENO, file.get());
    CHECK(readText(*standardInput(io), scope) == "content");
  }
  {
    const Standard standardIn(STDIN_FILENO, null.get());
    const Standard standardOut(STDOUT_FILENO, null.get());
    CHECK(readText(*standardInput(io), scope).empty());
    standardOutput(io)->write("gone").wait(scope);
  }
  {
    const Standard standardOut(STDOUT_FILENO, sockets.out.get());
    standardOutput(io)->write("said").wait(scope);
    Peer peer(sockets.in.release());
    CHECK(peer.receive(4) == "said");
  }
}

TEST_CASE_FIXTURE(IoTest, "standard output that is a file shares its position with others") {
  OwnedDescriptor file = fileOf("");
  {
    const Standard standard(STDOUT_FILENO, file.get());
    writeAll(STDOUT_FILENO, "one ");
    standardOutput(io)->write("two ").wait(scope);
    writeAll(STDOUT_FILENO, "three");
  }
  CHECK(contentOf(file.get()) == "one two three");
}

// --------------------------------------------------------------------------------- at every step (R5)

namespace {

Promise<void> copyBody(IoTest& test) {
  OwnedDescriptor source = fileOf(numberedBytes(150'000));
  OwnedDescriptor target = fileOf("");
  auto input = newInputStream(test.io, source.get(), Ownership::BORROW);
  auto output = newOutputStream(test.io, target.get(), Ownership::BORROW);
  const std::uint64_t count = co_await input->pumpTo(*output);
  CHECK(count == 150'000);
  CHECK(areNumbered(contentOf(target.get())));
}

Promise<void> pipeBody(IoTest& test) {
  OsPipe pipe = newOsPipe(test.io);
  co_await pipe.output->write("hello");
  Promise<void> gone = pipe.output->whenWriteDisconnected();
  const Chunk chunk = co_await pipe.input->tryReadChunk();
  CHECK(chunk.text() == "hello");
  pipe.input.reset();
  co_await std::move(gone);
}

} // namespace

TEST_CASE("copying a file can be cancelled at every step (R5)") { CHECK(cancelSweep(copyBody) > 6); }

TEST_CASE("a pipe of the system can be cancelled at every step (R5)") { CHECK(cancelSweep(pipeBody) > 2); }

TEST_CASE_FIXTURE(IoTest, "a stream is made on the thread of its loop, and nowhere else") {
  std::thread([&] {
    const Exception alone = thrownBy([&] { (void)newOsPipe(io); });
    CHECK(contains(alone.description(), "another thread"));
    AsyncIoContext other = setupAsyncIo();
    OwnedDescriptor file = fileOf("x");
    CHECK(contains(thrownBy([&] { (void)newInputStream(io, std::move(file)); }).description(), "another thread"));
  }).join();
}
