// SPDX-License-Identifier: MIT
// Tests of passing descriptors and streams over Unix sockets, and of these as streams.
#include "peer.h"
#include "raw_descriptors.h"

#include <troth/io/capability_stream.h>
#include <troth/io/limited.h>
#include <troth/runtime/uv/uv_event_port.h>
#include <troth/timers/manual_timer.h>

#include <array>
#include <random>
#include <string>
#include <vector>

using namespace troth;
using namespace troth::test;
using namespace std::chrono_literals;

namespace {

/// Whether what is written to `in` comes out of `out`.
bool areConnected(int in, int out) {
  char byte = '?';
  return ::write(in, "!", 1) == 1 && ::read(out, &byte, 1) == 1 && byte == '!';
}

/// Whether nobody has the writing end of a pipe any more.
bool isAtEnd(int out) {
  char byte;
  return ::read(out, &byte, 1) == 0;
}

Promise<BytesAndDescriptors> readSome(AsyncCapabilityStream& stream, std::string& buffer, std::size_t maxDescriptors, std::size_t minBytes = 1) {
  return stream.tryReadWithDescriptors(bufferOf(buffer), minBytes, maxDescriptors);
}

/// A capability stream whose other end is a plain socket.
struct CapabilityPeer {
  std::unique_ptr<AsyncCapabilityStream> stream;
  Peer peer;
};

CapabilityPeer newCapabilityPeer(AsyncIo& io, int sendBuffer = 0) {
  RawPair sockets = rawSocketpair();
  if (sendBuffer != 0) REQUIRE(setsockopt(sockets.out.get(), SOL_SOCKET, SO_SNDBUF, &sendBuffer, sizeof sendBuffer) == 0);
  return {newCapabilityStream(io, sockets.out.release(), Ownership::TAKE), Peer(sockets.in.release())};
}

} // namespace

// ------------------------------------------------------------------------------------------ passing

TEST_CASE_FIXTURE(IoTest, "a descriptor that is sent arrives as a duplicate, closed on exec (R15)") {
  CapabilityPair pair = newCapabilityPair(io);
  RawPair pipe = rawPipe();
  pair.left->sendDescriptor(pipe.in.get()).wait(scope);
  OwnedDescriptor received = pair.right->receiveDescriptor().wait(scope);
  CHECK(received.get() != pipe.in.get());
  CHECK((fcntl(received.get(), F_GETFD) & FD_CLOEXEC) != 0);
  pipe.in.close();
  CHECK(areConnected(received.get(), pipe.out.get()));
  received.close();
  CHECK(isAtEnd(pipe.out.get()));
}

TEST_CASE_FIXTURE(IoTest, "a descriptor may be waited for before it is sent, and the end of the stream after") {
  CapabilityPair pair = newCapabilityPair(io);
  RawPair pipe = rawPipe();
  Promise<OwnedDescriptor> receive = pair.right->receiveDescriptor();
  const OwnedDescriptor received = takeAfter(receive, scope, [&] { pair.left->sendDescriptor(pipe.in.get()).wait(scope); });
  CHECK(areConnected(received.get(), pipe.out.get()));
  pair.left.reset();
  CHECK(!pair.right->tryReceiveDescriptor().wait(scope));
  CHECK((failureOf(pair.right->receiveDescriptor(), scope).kind() == Exception::Kind::DISCONNECTED));
}

TEST_CASE_FIXTURE(IoTest, "a byte that comes without a descriptor is FAILED where one is expected, and the next one is found") {
  CapabilityPair pair = newCapabilityPair(io);
  RawPair pipe = rawPipe();
  pair.left->write("x").wait(scope);
  pair.left->sendDescriptor(pipe.in.get()).wait(scope);
  const Exception e = failureOf(pair.right->receiveDescriptor(), scope);
  CHECK((e.kind() == Exception::Kind::FAILED));
  CHECK(contains(e.description(), "without a descriptor"));
  CHECK(madeIn(e, "capability_stream_test.cc"));
  CHECK(areConnected(pair.right->receiveDescriptor().wait(scope).get(), pipe.out.get()));
}

TEST_CASE_FIXTURE(IoTest, "several descriptors arrive in order with their bytes") {
  CapabilityPair pair = newCapabilityPair(io);
  std::vector<RawPair> pipes;
  std::vector<int> numbers;
  for (int i = 0; i < 5; ++i) numbers.push_back(pipes.emplace_back(rawPipe()).in.get());
  pair.left->writeWithDescriptors(asBytes("hello"), numbers).wait(scope);
  std::string buffer(16, '.');
  const BytesAndDescriptors got = readSome(*pair.right, buffer, 8).wait(scope);
  CHECK(buffer.substr(0, got.bytes) == "hello");
  REQUIRE(got.descriptors.size() == 5);
  for (std::size_t i = 0; i < 5; ++i) CHECK(areConnected(got.descriptors[i].get(), pipes[i].out.get()));
}

TEST_CASE_FIXTURE(IoTest, "as many descriptors as the system allows can be sent at once, and one more is refused") {
  CapabilityPair pair = newCapabilityPair(io);
  RawPair pipe = rawPipe();
  std::vector<int> numbers(AsyncCapabilityStream::MOST_DESCRIPTORS, pipe.in.get());
  pair.left->writeWithDescriptors(asBytes("x"), numbers).wait(scope);
  std::string buffer(16, '.');
  CHECK(readSome(*pair.right, buffer, 1000).wait(scope).descriptors.size() == 253);
  numbers.push_back(pipe.in.get());
  const Exception tooMany = thrownBy([&] { (void)pair.left->writeWithDescriptors(asBytes("x"), numbers); });
  CHECK((tooMany.kind() == Exception::Kind::FAILED));
  CHECK(contains(tooMany.description(), "254 descriptors, but at most 253"));
  CHECK(contains(thrownBy([&] { (void)pair.left->writeWithDescriptors({}, std::span(numbers).first(1)); }).description(), "no bytes"));
  pair.left->writeWithDescriptors(asBytes("x"), {}).wait(scope); // of none it is a plain write
  CHECK(readSome(*pair.right, buffer, 1).wait(scope).descriptors.empty());
}

TEST_CASE_FIXTURE(IoTest, "descriptors beyond those that a read wants are closed") {
  CapabilityPair pair = newCapabilityPair(io);
  RawPair first = rawPipe();
  RawPair second = rawPipe();
  const std::array<int, 2> numbers{first.in.get(), second.in.get()};
  pair.left->writeWithDescriptors(asBytes("x"), numbers).wait(scope);
  first.in.close();
  second.in.close();
  std::string buffer(16, '.');
  const BytesAndDescriptors got = readSome(*pair.right, buffer, 1).wait(scope);
  REQUIRE(got.descriptors.size() == 1);
  CHECK(areConnected(got.descriptors[0].get(), first.out.get()));
  CHECK(isAtEnd(second.out.get()));
}

TEST_CASE_FIXTURE(IoTest, "a plain read closes what comes along") {
  CapabilityPair pair = newCapabilityPair(io);
  for (const bool chunk : {false, true}) {
    CAPTURE(chunk);
    RawPair pipe = rawPipe();
    pair.left->writeWithDescriptors(asBytes("abc"), std::array{pipe.in.get()}).wait(scope);
    pipe.in.close();
    std::string buffer(3, '.');
    if (chunk)
      CHECK(pair.right->tryReadChunk().wait(scope).text() == "abc");
    else
      CHECK(pair.right->tryRead(bufferOf(buffer)).wait(scope) == 3);
    CHECK(isAtEnd(pipe.out.get()));
  }
}

TEST_CASE_FIXTURE(IoTest, "a read does not go on behind descriptors, unless it must for its minBytes") {
  CapabilityPair pair = newCapabilityPair(io);
  RawPair pipe = rawPipe();
  const std::array number{pipe.in.get()};
  pair.left->writeWithDescriptors(asBytes("abc"), number).wait(scope);
  pair.left->writeWithDescriptors(asBytes("def"), number).wait(scope);
  pair.left->writeWithDescriptors(asBytes("ghi"), number).wait(scope);
  std::string buffer(16, '.');
  BytesAndDescriptors got = readSome(*pair.right, buffer, 8).wait(scope);
  CHECK(got.bytes == 3);
  CHECK(got.descriptors.size() == 1);
  got = readSome(*pair.right, buffer, 8, 6).wait(scope);
  CHECK(buffer.substr(0, got.bytes) == "defghi");
  CHECK(got.descriptors.size() == 2);
}

TEST_CASE_FIXTURE(IoTest, "descriptors that nobody has received are closed with the stream") {
  RawPair unread = rawPipe();
  RawPair givenBack = rawPipe();
  {
    CapabilityPair pair = newCapabilityPair(io);
    pair.left->sendDescriptor(givenBack.in.get()).wait(scope);
    {
      Promise<OwnedDescriptor> receive = pair.right->receiveDescriptor();
      REQUIRE(receive.poll(scope));
    }
    pair.left->sendDescriptor(unread.in.get()).wait(scope);
  }
  unread.in.close();
  givenBack.in.close();
  CHECK(isAtEnd(unread.out.get()));
  CHECK(isAtEnd(givenBack.out.get()));
}

TEST_CASE_FIXTURE(IoTest, "a process without room for descriptors fails the read that wants them, and keeps the bytes") {
  CapabilityPair pair = newCapabilityPair(io);
  RawPair pipe = rawPipe();
  std::string buffer(16, '.');
  pair.left->writeWithDescriptors(asBytes("abc"), std::array{pipe.in.get()}).wait(scope);
  {
    DescriptorLimit limit;
    const Exception e = failureOf(readSome(*pair.right, buffer, 1), scope);
    CHECK((e.kind() == Exception::Kind::OVERLOADED));
    CHECK(contains(e.description(), "lost"));
    CHECK(madeIn(e, "capability_stream_test.cc"));
  }
  CHECK(readSome(*pair.right, buffer, 1).wait(scope).bytes == 3);
  CHECK(buffer.starts_with("abc."));
  pair.left->writeWithDescriptors(asBytes("def"), std::array{pipe.in.get()}).wait(scope);
  DescriptorLimit limit;
  CHECK(pair.right->tryReadChunk().wait(scope).text() == "def"); // wants none
}

TEST_CASE_FIXTURE(IoTest, "a descriptor that cannot be sent fails its write alone") {
  CapabilityPair pair = newCapabilityPair(io);
  const int closed = [] { return rawPipe().in.get(); }();
  const Exception e = failureOf(pair.left->sendDescriptor(closed), scope);
  CHECK((e.code() == std::errc::bad_file_descriptor));
  CHECK(madeIn(e, "capability_stream_test.cc"));
  pair.left->write("goes on").wait(scope);
  CHECK(pair.right->tryReadChunk().wait(scope).text() == "goes on");
}

TEST_CASE_FIXTURE(IoTest, "a stream that is sent goes on at the other end") {
  CapabilityPair pair = newCapabilityPair(io);
  OsSocketpair sockets = newOsSocketpair(io);
  pair.left->sendStream(std::move(sockets.right)).wait(scope);
  std::unique_ptr<AsyncIoStream> received = pair.right->receiveStream().wait(scope);
  sockets.left->write("hello").wait(scope);
  CHECK(received->tryReadChunk().wait(scope).text() == "hello");
  received.reset();
  CHECK(sockets.left->tryReadChunk().wait(scope).empty()); // nobody else had it

  Pair tcp = newTcpPair(io);
  pair.left->sendStream(std::move(tcp.stream)).wait(scope);
  received = pair.right->receiveStream().wait(scope);
  received->write("hello").wait(scope);
  CHECK(tcp.peer.receive(5) == "hello");

  CapabilityPair inner = newCapabilityPair(io); // capability streams, too
  pair.left->sendStream(std::move(inner.right)).wait(scope);
  received = pair.right->receiveStream().wait(scope);
  inner.left->write("hello").wait(scope);
  CHECK(received->tryReadChunk().wait(scope).text() == "hello");
}

TEST_CASE_FIXTURE(IoTest, "several streams come along with bytes, in their order, and those beyond what is wanted are closed") {
  CapabilityPair pair = newCapabilityPair(io);
  OsSocketpair sockets[3] = {newOsSocketpair(io), newOsSocketpair(io), newOsSocketpair(io)};
  std::vector<std::unique_ptr<AsyncIoStream>> sent;
  for (OsSocketpair& each : sockets) sent.push_back(std::move(each.right));
  pair.left->writeWithStreams(asBytes("three"), std::move(sent)).wait(scope);
  std::string buffer(16, '.');
  BytesAndStreams got = pair.right->tryReadWithStreams(bufferOf(buffer), 5, 2).wait(scope);
  CHECK(got.bytes == 5);
  CHECK(buffer.starts_with("three."));
  REQUIRE(got.streams.size() == 2);
  for (std::size_t i = 0; i < 2; ++i) {
    sockets[i].left->write(std::to_string(i)).wait(scope);
    CHECK(got.streams[i]->tryReadChunk().wait(scope).text() == std::to_string(i));
  }
  CHECK(sockets[2].left->tryReadChunk().wait(scope).empty());
}

TEST_CASE_FIXTURE(IoTest, "streams that wait to be sent stay open until then, and are destroyed") {
  CapabilityPeer pair = newCapabilityPeer(io, 4096);
  const std::string data = numberedBytes(1 << 20);
  {
    Promise<void> fill = pair.stream->write(data);
    REQUIRE(!fill.poll(scope));
  }
  OsSocketpair sockets = newOsSocketpair(io);
  std::vector<std::unique_ptr<AsyncIoStream>> sent;
  sent.push_back(std::move(sockets.right));
  Promise<void> write = pair.stream->writeWithStreams(asBytes("x"), std::move(sent));
  REQUIRE(!write.poll(scope));
  auto receiver = newCapabilityStream(io, pair.peer.fd(), Ownership::BORROW);
  std::vector<std::unique_ptr<AsyncIoStream>> received;
  while (received.empty()) {
    std::string buffer(3000, '.');
    BytesAndStreams got = receiver->tryReadWithStreams(bufferOf(buffer), 1, 1).wait(scope);
    REQUIRE(got.bytes > 0);
    received = std::move(got.streams);
  }
  std::move(write).wait(scope);
  sockets.left->write("hello").wait(scope);
  CHECK(received[0]->tryReadChunk().wait(scope).text() == "hello");
  received.clear();
  CHECK(sockets.left->tryReadChunk().wait(scope).empty()); // nobody else has it
}

TEST_CASE_FIXTURE(IoTest, "streams that came for a cancelled read come again") {
  for (const bool ready : {false, true}) {
    CAPTURE(ready);
    CapabilityPair pair = newCapabilityPair(io);
    OsSocketpair sockets = newOsSocketpair(io);
    std::string buffer(16, '.');
    {
      Promise<BytesAndStreams> cancelled = pair.right->tryReadWithStreams(bufferOf(buffer), ready ? 1 : 2, 1);
      pair.left->sendStream(std::move(sockets.right)).wait(scope);
      REQUIRE(cancelled.poll(scope) == ready);
    }
    const std::unique_ptr<AsyncIoStream> received = pair.right->receiveStream().wait(scope);
    sockets.left->write("hello").wait(scope);
    CHECK(received->tryReadChunk().wait(scope).text() == "hello");
  }
}

TEST_CASE_FIXTURE(IoTest, "the end instead of a stream is null, or DISCONNECTED, and a byte without one is FAILED") {
  CapabilityPair pair = newCapabilityPair(io);
  pair.left->writeWithStreams(asBytes("x"), {}).wait(scope);
  const Exception none = failureOf(pair.right->tryReceiveStream(), scope);
  CHECK((none.kind() == Exception::Kind::FAILED));
  CHECK(contains(none.description(), "without a descriptor"));
  CHECK(madeIn(none, "capability_stream_test.cc"));
  pair.left->shutdownWrite();
  CHECK(pair.right->tryReceiveStream().wait(scope) == nullptr);
  const Exception end = failureOf(pair.right->receiveStream(), scope);
  CHECK((end.kind() == Exception::Kind::DISCONNECTED));
  CHECK(contains(end.description(), "receiveStream: the stream has ended"));
}

TEST_CASE_FIXTURE(IoTest, "one descriptor of which no stream can be made closes all that came with it") {
  CapabilityPair pair = newCapabilityPair(io);
  OsSocketpair first = newOsSocketpair(io);
  RawPair pipe = rawPipe();
  const int descriptors[] = {*first.right->descriptor(), pipe.in.get()};
  pair.left->writeWithDescriptors(asBytes("two"), descriptors).wait(scope);
  first.right.reset();
  pipe.in.close();
  std::string buffer(3, '.');
  CHECK((failureOf(pair.right->tryReadWithStreams(bufferOf(buffer), 3, 2), scope).kind() == Exception::Kind::FAILED));
  CHECK(first.left->tryReadChunk().wait(scope).empty());
  CHECK(isAtEnd(pipe.out.get()));
}

TEST_CASE_FIXTURE(IoTest, "what is received but is no stream in both directions is FAILED, and closed") {
  CapabilityPair pair = newCapabilityPair(io);
  RawPair pipe = rawPipe();
  pair.left->sendDescriptor(pipe.in.get()).wait(scope);
  pipe.in.close();
  const Exception e = failureOf(pair.right->receiveStream(), scope);
  CHECK((e.kind() == Exception::Kind::FAILED));
  CHECK(contains(e.description(), "tryReadWithStreams: descriptor"));
  CHECK(contains(e.description(), "one way"));
  CHECK(isAtEnd(pipe.out.get()));
}

// ------------------------------------------------------------------------------------- cancellation

TEST_CASE_FIXTURE(IoTest, "a cancelled read gives bytes and descriptors back, wherever they were (R5)") {
  for (const bool ready : {false, true}) {
    CAPTURE(ready);
    CapabilityPair pair = newCapabilityPair(io);
    RawPair first = rawPipe();
    RawPair second = rawPipe();
    std::string buffer(16, '.');
    pair.left->write("0").wait(scope);
    {
      Promise<BytesAndDescriptors> read = readSome(*pair.right, buffer, 8, ready ? 9 : 16);
      REQUIRE(!read.poll(scope));
      pair.left->writeWithDescriptors(asBytes("abcd"), std::array{first.in.get()}).wait(scope);
      REQUIRE(!read.poll(scope));
      pair.left->writeWithDescriptors(asBytes("efgh"), std::array{second.in.get()}).wait(scope);
      REQUIRE(read.poll(scope) == ready);
    }
    { // a part of a part, given back again
      std::string three(3, '.');
      Promise<BytesAndDescriptors> read = readSome(*pair.right, three, 8, 3);
      REQUIRE(read.poll(scope));
      REQUIRE(three == "0ab");
    }
    std::string byte(1, '.');
    CHECK(readSome(*pair.right, byte, 8).wait(scope).descriptors.empty());
    CHECK(byte == "0");
    std::string three(3, '.');
    CHECK(readSome(*pair.right, three, 8, 3).wait(scope).descriptors.empty());
    CHECK(three == "abc");
    BytesAndDescriptors got = readSome(*pair.right, byte, 8).wait(scope);
    CHECK(byte == "d");
    REQUIRE(got.descriptors.size() == 1);
    CHECK(areConnected(got.descriptors[0].get(), first.out.get()));
    std::string rest(4, '.');
    got = readSome(*pair.right, rest, 8, 4).wait(scope);
    CHECK(rest == "efgh");
    REQUIRE(got.descriptors.size() == 1);
    CHECK(areConnected(got.descriptors[0].get(), second.out.get()));
  }
}

TEST_CASE_FIXTURE(IoTest, "a plain read that is cancelled gives descriptors back for one that wants them") {
  CapabilityPair pair = newCapabilityPair(io);
  RawPair pipe = rawPipe();
  pair.left->writeWithDescriptors(asBytes("abc"), std::array{pipe.in.get()}).wait(scope);
  {
    Promise<Chunk> read = pair.right->tryReadChunk();
    REQUIRE(read.poll(scope));
  }
  std::string buffer(3, '.');
  const BytesAndDescriptors got = readSome(*pair.right, buffer, 1).wait(scope);
  CHECK(buffer == "abc");
  REQUIRE(got.descriptors.size() == 1);
  CHECK(areConnected(got.descriptors[0].get(), pipe.out.get()));
}

TEST_CASE_FIXTURE(IoTest, "a time-out in the same turn as a descriptor does not lose it") {
  CapabilityPair pair = newCapabilityPair(io);
  RawPair pipe = rawPipe();
  ManualTimer timer;
  Promise<OwnedDescriptor> receive = timer.timeoutAfter(1s, pair.right->receiveDescriptor());
  REQUIRE(!receive.poll(scope));
  pair.left->sendDescriptor(pipe.in.get()).wait(scope);
  timer.advanceBy(1s);
  io.uvEventPort().poll();
  REQUIRE(receive.poll(scope));
  CHECK((failureOf(std::move(receive), scope).kind() == Exception::Kind::OVERLOADED));
  CHECK(areConnected(pair.right->receiveDescriptor().wait(scope).get(), pipe.out.get()));
}

TEST_CASE_FIXTURE(IoTest, "a stream that is destroyed rejects what is pending; promises may go after it (R9)") {
  CapabilityPeer pair = newCapabilityPeer(io, 4096);
  const std::string data = numberedBytes(1 << 20);
  std::string buffer(16, '.');
  Promise<BytesAndDescriptors> read = readSome(*pair.stream, buffer, 1);
  Promise<void> write = pair.stream->write(data);
  Promise<void> gone = pair.stream->whenWriteDisconnected();
  REQUIRE(!write.poll(scope));
  pair.stream.reset();
  REQUIRE(gone.poll(scope));
  for (const Exception& e : {failureOf(std::move(read), scope), failureOf(std::move(write), scope)}) {
    CHECK((e.kind() == Exception::Kind::DISCONNECTED));
    CHECK(contains(e.description(), "stream was destroyed"));
    CHECK(madeIn(e, "capability_stream_test.cc"));
  }
  {
    CapabilityPeer other = newCapabilityPeer(io, 4096);
    const Promise<BytesAndDescriptors> neverRead = readSome(*other.stream, buffer, 1);
    const Promise<void> neverWritten = other.stream->write(data);
    other.stream.reset();
  }
}

TEST_CASE_FIXTURE(IoTest, "ten thousand reads, many of them cancelled, see each descriptor with its byte") {
  std::mt19937 random(20'26);
  const auto below = [&](std::size_t limit) { return std::uniform_int_distribution<std::size_t>(0, limit - 1)(random); };
  CapabilityPair pair = newCapabilityPair(io);
  RawPair pipe = rawPipe();
  const std::array number{pipe.in.get()};
  std::size_t sent = 0;
  std::size_t seen = 0;
  std::size_t withDescriptor = 0;
  std::size_t descriptors = 0;
  std::size_t received = 0;
  while (seen < 10'000) {
    if (sent - seen < 300) {
      const std::string data = numberedBytes(1 + below(30), sent);
      sent += data.size();
      if (below(2) == 0) {
        ++withDescriptor;
        pair.left->writeWithDescriptors(asBytes(data), number).wait(scope);
      } else {
        pair.left->write(data).wait(scope);
      }
    }
    std::string buffer(1 + below(40), '.');
    const std::size_t minBytes = std::min(1 + below(buffer.size()), sent - seen);
    Promise<BytesAndDescriptors> read = readSome(*pair.right, buffer, 100, minBytes);
    const std::size_t patience = below(4);
    if (patience == 1) io.uvEventPort().poll();
    if (patience < 2 || (read.poll(scope), patience == 2)) continue;
    const BytesAndDescriptors got = std::move(read).wait(scope);
    REQUIRE(areNumbered(std::string_view(buffer).substr(0, got.bytes), seen));
    seen += got.bytes;
    descriptors += got.descriptors.size();
    ++received;
  }
  pair.left->shutdownWrite();
  for (;;) {
    std::string buffer(100, '.');
    const BytesAndDescriptors got = readSome(*pair.right, buffer, 100).wait(scope);
    seen += got.bytes;
    descriptors += got.descriptors.size();
    if (got.bytes == 0) break;
  }
  CHECK(seen == sent);
  CHECK(descriptors == withDescriptor);
  CHECK(received > 300);
}

// ------------------------------------------------------------------------------------- as a stream

TEST_CASE_FIXTURE(IoTest, "a capability stream carries much data both ways") {
  CapabilityPair pair = newCapabilityPair(io);
  const std::string data = numberedBytes(2 << 20);
  Promise<std::string> left = pair.left->readAllText(4 << 20);
  Promise<std::string> right = pair.right->readAllText(4 << 20);
  Promise<void> toRight = pair.left->write(data);
  const std::vector<std::span<const std::byte>> pieces(200, asBytes("0123456789"));
  pair.right->write(pieces).wait(scope);
  Promise<void> ends = std::move(toRight).then([&] { pair.left->shutdownWrite(); }).eagerlyEvaluate(nullptr);
  CHECK((std::move(right).wait(scope) == data));
  std::move(ends).wait(scope);
  pair.right->shutdownWrite();
  CHECK(std::move(left).wait(scope).size() == 2000);
  CHECK(pair.left->tryReadChunk().wait(scope).empty());
}

TEST_CASE_FIXTURE(IoTest, "a write with descriptors to a full socket waits, and then they come with its first byte") {
  CapabilityPeer pair = newCapabilityPeer(io, 4096);
  RawPair pipe = rawPipe();
  auto data = std::make_unique<std::string>(numberedBytes(1 << 20));
  {
    Promise<void> fill = pair.stream->write(*data);
    REQUIRE(!fill.poll(scope));
  }
  data.reset(); // AddressSanitizer sees whoever comes here now
  Promise<void> write = pair.stream->writeWithDescriptors(asBytes("<END>"), std::array{pipe.in.get()});
  REQUIRE(!write.poll(scope));
  auto receiver = newCapabilityStream(io, pair.peer.fd(), Ownership::BORROW);
  std::string all;
  std::vector<OwnedDescriptor> got;
  while (!all.ends_with("<END>")) {
    std::string buffer(3000, '.');
    BytesAndDescriptors part = readSome(*receiver, buffer, 8).wait(scope);
    all += buffer.substr(0, part.bytes);
    for (OwnedDescriptor& descriptor : part.descriptors) got.push_back(std::move(descriptor));
  }
  std::move(write).wait(scope);
  CHECK(areNumbered(std::string_view(all).substr(0, all.size() - 5)));
  REQUIRE(got.size() == 1);
  CHECK(areConnected(got[0].get(), pipe.out.get()));
}

TEST_CASE_FIXTURE(IoTest, "the loop sleeps while a capability stream has input that nobody wants, or room that nobody needs") {
  CapabilityPeer pair = newCapabilityPeer(io, 4096);
  const std::string data = numberedBytes(100'000);
  { // the stream is watched for both from now on
    Promise<Chunk> read = pair.stream->tryReadChunk();
    Promise<void> write = pair.stream->write(data);
    REQUIRE(!write.poll(scope));
    receiveWhileRunning(*this, pair.peer, data.size());
    std::move(write).wait(scope);
  }
  pair.peer.send("abc");
  CHECK(sleeps(*this));
  CHECK(pair.stream->tryReadChunk().wait(scope).text() == "abc");
}

TEST_CASE_FIXTURE(IoTest, "a peer that closes ends a capability stream, disconnects writing, and resets if it left bytes unread (S5)") {
  for (const bool unread : {false, true}) {
    CAPTURE(unread);
    CapabilityPeer pair = newCapabilityPeer(io);
    if (unread) pair.stream->write("unread").wait(scope);
    Promise<void> gone = pair.stream->whenWriteDisconnected();
    Promise<Chunk> read = pair.stream->tryReadChunk();
    takeAfter(gone, scope, [&] { pair.peer.close(); });
    if (unread)
      CHECK((failureOf(std::move(read), scope).code() == std::errc::connection_reset));
    else
      CHECK(std::move(read).wait(scope).empty());
    CHECK((failureOf(pair.stream->write("x"), scope).code() == std::errc::broken_pipe));
    CHECK((failureOf(pair.stream->sendDescriptor(0), scope).code() == std::errc::broken_pipe));
    pair.stream->whenWriteDisconnected().wait(scope);
    CHECK(sleeps(*this));
  }
}

TEST_CASE_FIXTURE(IoTest, "a peer that closes while a write waits rejects it") {
  CapabilityPeer pair = newCapabilityPeer(io, 4096);
  const std::string data = numberedBytes(1 << 20);
  Promise<void> write = pair.stream->write(data);
  Promise<void> gone = pair.stream->whenWriteDisconnected();
  REQUIRE(!write.poll(scope));
  pair.peer.close();
  CHECK((failureOf(std::move(write), scope).kind() == Exception::Kind::DISCONNECTED));
  std::move(gone).wait(scope);
}

TEST_CASE_FIXTURE(IoTest, "abortRead of a capability stream fails reads, closes what was kept, and writing goes on") {
  CapabilityPair pair = newCapabilityPair(io);
  RawPair pipe = rawPipe();
  pair.left->sendDescriptor(pipe.in.get()).wait(scope);
  pipe.in.close();
  {
    Promise<OwnedDescriptor> receive = pair.right->receiveDescriptor();
    REQUIRE(receive.poll(scope));
  }
  std::string buffer(16, '.');
  Promise<BytesAndDescriptors> read = readSome(*pair.right, buffer, 1, 2);
  REQUIRE(!read.poll(scope));
  pair.right->abortRead();
  for (const Exception& e : {failureOf(std::move(read), scope), failureOf(pair.right->tryReadChunk(), scope)}) {
    CHECK((e.kind() == Exception::Kind::DISCONNECTED));
    CHECK(contains(e.description(), "abortRead"));
  }
  CHECK(isAtEnd(pipe.out.get()));
  CHECK((failureOf(pair.left->write("x"), scope).kind() == Exception::Kind::DISCONNECTED));
  pair.right->write("still here").wait(scope);
  CHECK(pair.left->tryReadChunk().wait(scope).text() == "still here");
}

TEST_CASE_FIXTURE(IoTest, "what a capability stream does not allow is refused") {
  CapabilityPeer pair = newCapabilityPeer(io, 4096);
  const std::string data = numberedBytes(100'000);
  std::string buffer(8, '.');
  CHECK(contains(thrownBy([&] { (void)pair.stream->tryRead({}); }).description(), "the buffer is empty"));
  CHECK(contains(thrownBy([&] { (void)readSome(*pair.stream, buffer, 0, 9); }).description(), "minBytes is 9"));
  {
    Promise<Chunk> read = pair.stream->tryReadChunk();
    CHECK(contains(thrownBy([&] { (void)readSome(*pair.stream, buffer, 1); }).description(), "another read"));
    Promise<void> write = pair.stream->write(data);
    REQUIRE(!write.poll(scope));
    CHECK(contains(thrownBy([&] { (void)pair.stream->sendDescriptor(0); }).description(), "another write"));
    CHECK(contains(thrownBy([&] { pair.stream->shutdownWrite(); }).description(), "write to this stream is pending"));
  }
  pair.stream->shutdownWrite();
  pair.stream->shutdownWrite();
  CHECK(contains(thrownBy([&] { (void)pair.stream->sendDescriptor(0); }).description(), "shut down"));

  Pair tcp = newTcpPair(io);
  RawPair pipe = rawPipe();
  for (const int fd : {*tcp.stream->descriptor(), pipe.in.get()}) {
    const Exception e = thrownBy([&] { (void)newCapabilityStream(io, fd, Ownership::BORROW); });
    CHECK((e.kind() == Exception::Kind::FAILED));
    CHECK(contains(e.description(), "newCapabilityStream: descriptor " + std::to_string(fd) + " is not a Unix socket"));
  }
  const Exception watched = thrownBy([&] { (void)newCapabilityStream(io, *pair.stream->descriptor(), Ownership::TAKE); });
  CHECK((watched.code() == std::errc::file_exists));
  CHECK(madeIn(watched, "capability_stream_test.cc"));
  DescriptorLimit limit;
  CHECK((thrownBy([&] { (void)newCapabilityPair(io); }).kind() == Exception::Kind::OVERLOADED));
}

// --------------------------------------------------------------------------------- at every step (R5)

namespace {

Promise<void> passBody(IoTest& test) {
  CapabilityPair pair = newCapabilityPair(test.io);
  RawPair pipe = rawPipe();
  Promise<OwnedDescriptor> receive = pair.right->receiveDescriptor();
  co_await pair.left->sendDescriptor(pipe.in.get());
  const OwnedDescriptor received = co_await std::move(receive);
  CHECK(areConnected(received.get(), pipe.out.get()));
  OsSocketpair sockets = newOsSocketpair(test.io);
  co_await pair.left->sendStream(std::move(sockets.right));
  std::unique_ptr<AsyncIoStream> stream = co_await pair.right->receiveStream();
  co_await stream->write("hello");
  const Chunk chunk = co_await sockets.left->tryReadChunk();
  CHECK(chunk.text() == "hello");
  std::vector<std::unique_ptr<AsyncIoStream>> both;
  both.push_back(std::move(stream));
  both.push_back(std::move(sockets.left));
  std::string buffer(2, '.');
  Promise<BytesAndStreams> read = pair.left->tryReadWithStreams(bufferOf(buffer), 2, 2);
  co_await pair.right->writeWithStreams(asBytes("ab"), std::move(both));
  const BytesAndStreams got = co_await std::move(read);
  CHECK(got.streams.size() == 2);
}

Promise<void> bigWriteBody(IoTest& test) {
  CapabilityPeer pair = newCapabilityPeer(test.io, 4096);
  const std::string data = numberedBytes(30'000);
  auto receiver = newCapabilityStream(test.io, pair.peer.fd(), Ownership::BORROW);
  Promise<void> write = pair.stream->write(data).eagerlyEvaluate(nullptr);
  std::string got(30'000, '.');
  co_await receiver->read(bufferOf(got));
  co_await std::move(write);
  CHECK(areNumbered(got));
}

} // namespace

TEST_CASE("passing descriptors and streams can be cancelled at every step (R5)") { CHECK(cancelSweep(passBody) > 2); }

TEST_CASE("a big write of a capability stream can be cancelled at every step (R5)") { CHECK(cancelSweep(bigWriteBody) > 5); }

TEST_CASE_FIXTURE(IoTest, "bytes that come before a descriptor are not given back as if it had come with them") {
  CapabilityPair pair = newCapabilityPair(io);
  RawPair pipe = rawPipe();
  pair.left->write("abc").wait(scope);
  pair.left->sendDescriptor(pipe.in.get()).wait(scope);
  std::string buffer(16, '.');
  {
    Promise<BytesAndDescriptors> read = readSome(*pair.right, buffer, 8);
    REQUIRE(read.poll(scope)); // the kernel gives it all at once
  }
  std::string three(3, '.');
  CHECK(pair.right->tryRead(bufferOf(three)).wait(scope) == 3);
  CHECK(three == "abc");
  CHECK(areConnected(pair.right->receiveDescriptor().wait(scope).get(), pipe.out.get()));
}

TEST_CASE_FIXTURE(IoTest, "a descriptor that is not open is refused by its number, and the stream goes on") {
  CapabilityPair pair = newCapabilityPair(io);
  const Exception refused = failureOf(pair.left->sendDescriptor(987'654), scope);
  CHECK(contains(refused.description(), "descriptor 987654"));
  CHECK(refused.code() == std::errc::bad_file_descriptor);
  pair.left->write("on").wait(scope);
  std::string two(2, '.');
  CHECK(pair.right->tryRead(bufferOf(two)).wait(scope) == 2);
}

TEST_CASE_FIXTURE(IoTest, "no stream cannot be sent") {
  CapabilityPair pair = newCapabilityPair(io);
  CHECK(contains(thrownBy([&] { (void)pair.left->sendStream(nullptr); }).description(), "a stream is null"));
  CHECK(contains(thrownBy([&] { (void)pair.left->sendStream(newNullStream()); }).description(),
                 "there is no descriptor under a stream"));
}
