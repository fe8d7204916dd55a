// SPDX-License-Identifier: MIT
// The contract of streams (io/stream.h), line by line, on every kind of stream: reading, writing, pumping, endings.
#include "stream_kinds.h"

#include <troth/io/limited.h>
#include <troth/io/pipe.h>
#include <troth/runtime/join.h>
#include <troth/runtime/pool_detail.h>

#include <fcntl.h>
#include <sys/socket.h>

#include <csignal>
#include <cstring>
#include <filesystem>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <vector>

using namespace troth;
using namespace troth::test;

namespace {

using Kind = Exception::Kind;

/// That `e` is of this kind and has the place of the call in the test.
void check(const Exception& e, Kind kind) {
  INFO(e.what());
  CHECK((e.kind() == kind));
  CHECK(madeIn(e, "stream_contract_test.cc"));
}

void checkMisuse(const std::function<void()>& call) { check(thrownBy(call), Kind::FAILED); }

} // namespace

// ------------------------------------------------------------------------------------------------ reading

TEST_CASE("bytes arrive in their order, whatever the sizes of writes and reads (S1)") {
  for (const std::size_t most : std::vector<std::size_t>{1, 7, 1000, 100'000}) {
    CAPTURE(most);
    const std::size_t count = std::min<std::size_t>(most * 50, 500'000);
    onEachWay(
        [&](IoTest& test, Way way, const Traits& traits) {
          joinPromisesFailFast(sendNumbered(*way.output, count, most, 1), receiveNumbered(*way.input, count, most, 2))
              .wait(test.scope);
          if (!traits.ends) return;
          way.output = nullptr;
          expectEnd(*way.input).wait(test.scope);
        },
        count);
  }
}

TEST_CASE("bytes arrive in both directions at once, and each direction ends on its own (S4)") {
  for (const std::size_t most : std::vector<std::size_t>{1, 7, 1000, 100'000}) {
    CAPTURE(most);
    onEachPair([most](IoTest& test, StreamPair pair, const Traits& traits) {
      const std::size_t count = std::min<std::size_t>(most * 50, 500'000);
      joinPromisesFailFast(sendNumbered(*pair.left, count, most, 1), receiveNumbered(*pair.right, count, most, 2),
                           sendNumbered(*pair.right, count, most, 3), receiveNumbered(*pair.left, count, most, 4))
          .wait(test.scope);
      if (!traits.ends) return;
      pair.left->shutdownWrite();
      expectEnd(*pair.right).wait(test.scope);
      joinPromisesFailFast(sendNumbered(*pair.right, 10, 3, 3), receiveNumbered(*pair.left, 10, 3, 4)).wait(test.scope);
      pair.right->shutdownWrite();
      expectEnd(*pair.left).wait(test.scope);
    });
  }
}

TEST_CASE("what is there already is read by any sizes, a byte at a time or all at once, and then comes the end") {
  const std::string text = numberedBytes(1000);
  for (const std::size_t most : std::vector<std::size_t>{1, 7, 1000}) {
    CAPTURE(most);
    onEachSource(text, [&](IoTest& test, Source source) {
      receiveNumbered(*source.input, text.size(), most, 1).wait(test.scope);
      expectEnd(*source.input).wait(test.scope);
      std::move(source.sending).wait(test.scope);
    });
  }
  onEachSource("", [&](IoTest& test, Source source) { expectEnd(*source.input).wait(test.scope); });
}

TEST_CASE("a read waits for its minimum, and takes no more than its buffer") {
  onEachWay([](IoTest& test, Way way, const Traits&) {
    std::string buffer(5, '.');
    Promise<std::size_t> read = way.input->tryRead(bufferOf(buffer), 3);
    Promise<void> write = way.write("ab");
    CHECK(!read.poll(test.scope));
    std::move(write).wait(test.scope);
    CHECK(!read.poll(test.scope));
    write = way.write("cdefg");
    const std::size_t got = std::move(read).wait(test.scope);
    REQUIRE((got >= 3 && got <= 5));
    std::string rest(7 - got, '.');
    way.input->read(bufferOf(rest)).wait(test.scope);
    CHECK(buffer.substr(0, got) + rest == "abcdefg");
    std::move(write).wait(test.scope);
  });
}

TEST_CASE("a chunk has at most what was asked for, and outlives its stream") {
  onEachWay([](IoTest& test, Way way, const Traits&) {
    const std::string text = numberedBytes(10);
    Promise<void> write = way.write(text);
    const Chunk first = way.input->tryReadChunk(3).wait(test.scope);
    CHECK((first.size() >= 1 && first.size() <= 3));
    const Chunk second = way.input->tryReadChunk().wait(test.scope);
    CHECK((second.size() >= 1 && second.size() <= 10 - first.size()));
    way.input = nullptr;
    CHECK(areNumbered(first.text()));
    CHECK(areNumbered(second.text(), first.size()));
  });
}

TEST_CASE("a read never goes on inside the call, whether there are bytes, an end or an error") {
  const auto goesOnLater = [](IoTest& test, AsyncInputStream& input) {
    bool wentOn = false;
    Promise<void> read = input.tryReadChunk()
                             .then([&](Chunk) { wentOn = true; }, [&](Exception) { wentOn = true; })
                             .eagerlyEvaluate(nullptr);
    CHECK(!wentOn);
    std::move(read).wait(test.scope);
    CHECK(wentOn);
  };
  onEachSource("abc", [&](IoTest& test, Source source) {
    test.scope.poll();
    for (int i = 0; i < 3; ++i) goesOnLater(test, *source.input);
  });
  onEachPair([&](IoTest& test, StreamPair pair, const Traits&) {
    pair.left->abortRead();
    goesOnLater(test, *pair.left);
  });
}

TEST_CASE("the end of the stream gives what there is, and then the end again and again (S4)") {
  onEachSource("abc", [](IoTest& test, Source source) {
    std::string buffer(5, '.');
    CHECK(source.input->tryRead(bufferOf(buffer), 5).wait(test.scope) == 3);
    CHECK(buffer == "abc..");
    expectEnd(*source.input).wait(test.scope);
    check(failureOf(source.input->read(bufferOf(buffer)), test.scope), Kind::DISCONNECTED);
  });
}

TEST_CASE("a read that waits is ended by the end of the stream (S4)") {
  onEachWay(
      [](IoTest& test, Way way, const Traits& traits) {
        if (!traits.ends) return;
        Promise<void> write = way.write("a"); // what is promised has come then
        way.input->tryReadChunk(1).wait(test.scope);
        std::move(write).wait(test.scope);
        std::string buffer(5, '.');
        Promise<std::size_t> read = way.input->tryRead(bufferOf(buffer), 5);
        (void)read.poll(test.scope); // a stream of a known length knows
        way.output = nullptr;
        CHECK(std::move(read).wait(test.scope) == 0);
      },
      1);
}

TEST_CASE("a stream that was broken off is DISCONNECTED after what came before, again and again (S5)") {
  for (const bool waits : {false, true}) {
    CAPTURE(waits);
    onEachWay([waits](IoTest& test, Way way, const Traits& traits) {
      if (traits.breakOff == nullptr) return;
      Promise<void> write = way.write("abc");
      std::string buffer(3, '.');
      way.input->read(bufferOf(buffer)).wait(test.scope);
      CHECK(buffer == "abc");
      std::move(write).wait(test.scope);
      Promise<std::size_t> read = NEVER_DONE;
      if (waits) {
        read = way.input->tryRead(bufferOf(buffer));
        CHECK(!read.poll(test.scope));
      }
      traits.breakOff(way);
      if (!waits) read = way.input->tryRead(bufferOf(buffer));
      CHECK((failureOf(std::move(read), test.scope).kind() == Kind::DISCONNECTED));
      CHECK((failureOf(way.input->tryReadChunk(), test.scope).kind() == Kind::DISCONNECTED));
      CHECK((failureOf(way.input->readAllText(100), test.scope).kind() == Kind::DISCONNECTED));
    });
  }
}

TEST_CASE("a second read is refused while one is pending, or ready but not taken, and the first goes on") {
  onEachWay([](IoTest& test, Way way, const Traits&) {
    std::string buffer(3, '.');
    Promise<std::size_t> read = way.input->tryRead(bufferOf(buffer), 3);
    checkMisuse([&] { (void)way.input->tryReadChunk(); });
    Promise<void> write = way.write("abc");
    untilReady(test, read);
    checkMisuse([&] { (void)way.input->tryRead(bufferOf(buffer)); });
    CHECK(std::move(read).wait(test.scope) == 3);
    CHECK(buffer == "abc");
    std::move(write).wait(test.scope);
  });
  onEachSource("abc", [](IoTest& test, Source source) {
    std::string buffer(3, '.');
    Promise<std::size_t> read = source.input->tryRead(bufferOf(buffer), 3);
    checkMisuse([&] { (void)source.input->tryRead(bufferOf(buffer)); });
    checkMisuse([&] { (void)source.input->tryReadChunk(); });
    CHECK(std::move(read).wait(test.scope) == 3);
  });
}

TEST_CASE("reads that could not tell the end of the stream are refused") {
  const auto refuses = [](AsyncInputStream& input) {
    std::string buffer(3, '.');
    checkMisuse([&] { (void)input.tryRead({}); });
    checkMisuse([&] { (void)input.tryRead(bufferOf(buffer), 0); });
    checkMisuse([&] { (void)input.tryRead(bufferOf(buffer), 4); });
    checkMisuse([&] { (void)input.tryReadChunk(0); });
  };
  onEachWay([&](IoTest&, Way way, const Traits&) { refuses(*way.input); });
  onEachSource("abc", [&](IoTest& test, Source source) {
    test.scope.poll();
    refuses(*source.input);
    CHECK(source.input->readAllText(3).wait(test.scope) == "abc");
  });
  refuses(*newNullStream());
}

TEST_CASE("readAllText and readAllBytes collect a stream, and refuse one byte more than allowed") {
  const std::string text = numberedBytes(100'000);
  onEachSource(text, [&](IoTest& test, Source source) {
    CHECK((source.input->readAllText(text.size()).wait(test.scope) == text));
    CHECK(source.input->readAllBytes(0).wait(test.scope).empty());
  });
  onEachSource(text, [&](IoTest& test, Source source) {
    const Exception e = failureOf(source.input->readAllBytes(text.size() - 1), test.scope);
    check(e, Kind::FAILED);
    CHECK(contains(e.description(), "99999 bytes"));
  });
}

TEST_CASE("what a stream says of its length is true, from its beginning to its end") {
  onEachSource("abcdef", [](IoTest& test, Source source) {
    std::string buffer(1, '.');
    for (std::size_t left = 6;; --left) {
      CAPTURE(left);
      const std::optional<std::uint64_t> length = source.input->tryGetLength();
      CHECK((!length || *length == left));
      if (left == 0) break;
      {
        Promise<Chunk> dropped = source.input->tryReadChunk();
        untilReady(test, dropped);
      }
      source.input->read(bufferOf(buffer)).wait(test.scope);
    }
  });
}

// ------------------------------------------------------------------------------------------------ writing

TEST_CASE("what is written arrives, in pieces of any size, in order") {
  for (const std::size_t most : std::vector<std::size_t>{7, 100'000}) {
    CAPTURE(most);
    onEachSink([most](IoTest& test, Sink sink) {
      const std::size_t count = std::min<std::size_t>(most * 50, 300'000);
      sendNumbered(*sink.output, count, most, 1).wait(test.scope);
      sink.output = nullptr;
      const std::string got = sink.contents().wait(test.scope);
      CHECK(got.size() == count);
      CHECK(areNumbered(got));
    });
  }
}

TEST_CASE("a write of nothing is done, and nobody sees it") {
  onEachWay([](IoTest& test, Way way, const Traits&) {
    std::string buffer(1, '.');
    Promise<std::size_t> read = way.input->tryRead(bufferOf(buffer));
    way.write("").wait(test.scope);
    way.output->write(std::span<const std::span<const std::byte>>()).wait(test.scope);
    const std::vector<std::span<const std::byte>> empty(3);
    way.output->write(empty).wait(test.scope);
    CHECK(!read.poll(test.scope));
  });
}

TEST_CASE("a write of many pieces arrives as one, in order; their array is needed only during the call") {
  onEachWay([](IoTest& test, Way way, const Traits&) {
    const std::string text = numberedBytes(3000);
    std::vector<std::span<const std::byte>> pieces;
    for (std::size_t i = 0; i < text.size(); i += 10) {
      pieces.push_back(asBytes(text).subspan(i, 10));
      pieces.push_back({});
    }
    Promise<void> write = way.output->write(pieces);
    std::vector<std::span<const std::byte>>().swap(pieces);
    std::string buffer(text.size(), '.');
    way.input->read(bufferOf(buffer)).wait(test.scope);
    CHECK(buffer == text);
    std::move(write).wait(test.scope);
  });
}

TEST_CASE("a write that nobody reads waits and holds little memory (S3), and a second one is refused meanwhile") {
  onEachWay([](IoTest& test, Way way, const Traits& traits) {
    const std::string much = numberedBytes(traits.much);
    const std::int64_t blocks = detail::liveBlocks();
    Promise<void> write = way.output->write(much);
    CHECK(!write.poll(test.scope));
    CHECK(detail::liveBlocks() - blocks < 20);
    checkMisuse([&] { (void)way.output->write("x"); });
    checkMisuse([&] { (void)way.output->write(std::span<const std::span<const std::byte>>()); });
    if (auto* stream = dynamic_cast<AsyncIoStream*>(way.output.get())) checkMisuse([&] { stream->shutdownWrite(); });
    std::string buffer(much.size(), '.');
    way.input->read(bufferOf(buffer)).wait(test.scope);
    CHECK(areNumbered(buffer));
    std::move(write).wait(test.scope);
  });
}

TEST_CASE("a read may be pending while something is written on the same stream, and the other way round") {
  onEachPair([](IoTest& test, StreamPair pair, const Traits& traits) {
    Promise<Chunk> read = pair.left->tryReadChunk();
    const std::string much = numberedBytes(traits.much);
    Promise<void> write = pair.left->write(much);
    CHECK(!write.poll(test.scope));
    pair.right->write("back").wait(test.scope);
    std::string back(std::move(read).wait(test.scope).text());
    while (back.size() < 4) back += pair.left->tryReadChunk().wait(test.scope).text();
    CHECK(back == "back");
    CHECK(!write.poll(test.scope));
    std::string buffer(much.size(), '.');
    pair.right->read(bufferOf(buffer)).wait(test.scope);
    std::move(write).wait(test.scope);
  });
}

TEST_CASE("after shutdownWrite, before or after anything was written, writing is refused and the other way goes on (S4)") {
  for (const bool written : {false, true}) {
    CAPTURE(written);
    onEachPair([written](IoTest& test, StreamPair pair, const Traits& traits) {
      if (!traits.ends) return;
      Promise<void> write = READY_NOW;
      if (written) {
        write = pair.left->write("abc");
        CHECK(pair.right->tryReadChunk().wait(test.scope).text() == "abc");
        std::move(write).wait(test.scope);
      }
      pair.left->shutdownWrite();
      pair.left->shutdownWrite(); // no effect
      checkMisuse([&] { (void)pair.left->write("x"); });
      expectEnd(*pair.right).wait(test.scope);
      Promise<std::string> all = pair.left->readAllText(100);
      write = pair.right->write("answer");
      CHECK(!all.poll(test.scope));
      std::move(write).wait(test.scope);
      pair.right->shutdownWrite();
      CHECK(std::move(all).wait(test.scope) == "answer");
    });
  }
}

// ----------------------------------------------------------------------------------------------- disconnecting

TEST_CASE("a writer whose reader has gone is told, and fails with DISCONNECTED, without a signal (A3, S5)") {
  void (*const before)(int) = std::signal(SIGPIPE, SIG_DFL); // of which the process would die
  onEachWay([](IoTest& test, Way way, const Traits& traits) {
    if (traits.learns == Learns::NEVER) return;
    Promise<void> write = way.write("abc"); // what is promised has come then
    std::string buffer(3, '.');
    way.input->read(bufferOf(buffer)).wait(test.scope);
    std::move(write).wait(test.scope);
    Promise<void> told = way.output->whenWriteDisconnected();
    Promise<void> second = way.output->whenWriteDisconnected();
    { Promise<void> cancelled = way.output->whenWriteDisconnected(); }
    CHECK(!told.poll(test.scope));
    way.input = nullptr;
    way.others.clear();
    if (traits.learns == Learns::BY_WAITING) untilReady(test, told);
    std::optional<Exception> failure;
    for (int i = 0; i < 1000 && !failure; ++i) {
      try {
        way.write("into the void").wait(test.scope);
      } catch (const Exception& e) {
        failure = e;
      }
    }
    REQUIRE(failure);
    CHECK((failure->kind() == Kind::DISCONNECTED));
    std::move(told).wait(test.scope);
    std::move(second).wait(test.scope);
    way.output->whenWriteDisconnected().wait(test.scope);
  });
  std::signal(SIGPIPE, before);
}

TEST_CASE("a write that waits fails with DISCONNECTED when its reader goes (S5)") {
  onEachWay([](IoTest& test, Way way, const Traits& traits) {
    if (traits.learns == Learns::NEVER) return;
    const std::string much(traits.much, 'x');
    Promise<void> write = way.output->write(much);
    CHECK(!write.poll(test.scope));
    way.input = nullptr;
    way.others.clear();
    check(failureOf(std::move(write), test.scope), Kind::DISCONNECTED);
  });
}

TEST_CASE("while a write waits, its stream tells how much its reader has still to take") {
  int telling = 0;
  onEachWay([&](IoTest& test, Way way, const Traits& traits) {
    const std::string much(traits.much, 'x');
    Promise<void> write = way.output->write(much);
    CHECK(!write.poll(test.scope));
    const std::optional<std::uint64_t> all = way.output->tryGetUndelivered();
    if (!all) return; // it cannot tell
    ++telling;
    way.others.clear();
    CHECK(*all > 0);
    std::string buffer(much.size() / 4, '.');
    way.input->read(bufferOf(buffer)).wait(test.scope);
    const std::optional<std::uint64_t> less = way.output->tryGetUndelivered();
    REQUIRE(less);
    CHECK(*less > 0);
    CHECK(*less + buffer.size() / 2 <= *all); // of which a layer may hold some
    buffer.resize(much.size() - buffer.size());
    way.input->read(bufferOf(buffer)).wait(test.scope);
    untilReady(test, write);
    CHECK(way.output->tryGetUndelivered() == 0);
  });
  CHECK(telling >= 15);
}

TEST_CASE("abortRead fails the pending read and all later ones, and leaves the other direction") {
  onEachPair([](IoTest& test, StreamPair pair, const Traits&) {
    Promise<Chunk> read = pair.left->tryReadChunk();
    CHECK(!read.poll(test.scope));
    pair.left->abortRead();
    pair.left->abortRead(); // no effect
    check(failureOf(std::move(read), test.scope), Kind::DISCONNECTED);
    check(failureOf(pair.left->tryReadChunk(), test.scope), Kind::DISCONNECTED);
    check(failureOf(pair.left->readAllText(10), test.scope), Kind::DISCONNECTED);
    Promise<void> write = pair.left->write("still");
    std::string buffer(5, '.');
    pair.right->read(bufferOf(buffer)).wait(test.scope);
    CHECK(buffer == "still");
    std::move(write).wait(test.scope);
  });
}

TEST_CASE("abortWrite fails the pending write and all later ones, and its reader does not take it for the end") {
  onEachWay([](IoTest& test, Way way, const Traits& traits) {
    const std::string much(traits.much, 'x');
    Promise<void> write = way.output->write(much);
    CHECK(!write.poll(test.scope));
    way.output->abortWrite();
    way.output->abortWrite(); // no effect
    check(failureOf(std::move(write), test.scope), Kind::DISCONNECTED);
    check(failureOf(way.output->write("more"), test.scope), Kind::DISCONNECTED);
    if (!traits.tellsAbort) return;
    way.output = nullptr;
    way.others.clear();
    check(failureOf(way.input->readAllText(ALL_BYTES), test.scope), Kind::DISCONNECTED);
  });
}

TEST_CASE("abortWrite between two writes leaves what was written, and no end behind it") {
  onEachWay([](IoTest& test, Way way, const Traits& traits) {
    if (!traits.tellsAbort) return;
    way.others.clear();
    Promise<void> write = way.write("hello");
    std::string buffer(5, '.');
    way.input->read(bufferOf(buffer)).wait(test.scope);
    CHECK(buffer == "hello");
    std::move(write).wait(test.scope);
    Promise<Chunk> read = way.input->tryReadChunk();
    CHECK(!read.poll(test.scope));
    way.output->abortWrite();
    way.output = nullptr;
    check(failureOf(std::move(read), test.scope), Kind::DISCONNECTED);
    check(failureOf(way.input->tryReadChunk(), test.scope), Kind::DISCONNECTED);
  });
}

TEST_CASE("abortWrite leaves the other direction, until the stream is destroyed") {
  onEachPair([](IoTest& test, StreamPair pair, const Traits&) {
    pair.left->abortWrite();
    Promise<void> write = pair.right->write("still");
    std::string buffer(5, '.');
    pair.left->read(bufferOf(buffer)).wait(test.scope);
    CHECK(buffer == "still");
    std::move(write).wait(test.scope);
  });
}

TEST_CASE("after shutdownWrite it is too late for abortWrite: the end is an end") {
  onEachPair([](IoTest& test, StreamPair pair, const Traits& traits) {
    if (!traits.ends) return;
    pair.left->shutdownWrite();
    pair.left->abortWrite();
    CHECK(pair.right->tryReadChunk().wait(test.scope).empty());
    pair.left = nullptr;
    CHECK(pair.right->tryReadChunk().wait(test.scope).empty());
  });
}

TEST_CASE("a socket's options and names are reached by the descriptor of its stream; in memory there is none") {
  const TwoWayPipe pipe = newTwoWayPipe();
  CHECK(!pipe.ends[0]->descriptor());
  IoTest test;
  const StreamPair tcp = newTcpStreamPair(test.io);
  sockaddr_storage left{};
  sockaddr_storage right{};
  socklen_t size = sizeof left;
  CHECK(getsockname(tcp.left->descriptor().value(), reinterpret_cast<sockaddr*>(&left), &size) == 0);
  CHECK(getpeername(tcp.right->descriptor().value(), reinterpret_cast<sockaddr*>(&right), &size) == 0);
  CHECK(std::memcmp(&left, &right, size) == 0);
  const int on = 1;
  CHECK(setsockopt(tcp.left->descriptor().value(), SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on) == 0);
}

TEST_CASE("the descriptors of a stream, and of what it does, are closed on exec (R15)") {
  const auto descriptors = [] {
    std::set<int> all;
    for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd"))
      all.insert(std::stoi(entry.path().filename().string()));
    return all;
  };
  const std::set<int> before = descriptors();
  const auto check = [&] {
    for (const int fd : descriptors()) {
      if (before.contains(fd)) continue;
      const int flags = fcntl(fd, F_GETFD);
      if (flags < 0) continue; // the one that listed them
      CAPTURE(fd);
      CHECK((flags & FD_CLOEXEC) != 0);
    }
  };
  onEachWay([&](IoTest& test, Way way, const Traits& traits) {
    const std::string much(traits.much, 'x');
    Promise<void> write = way.output->write(much);
    Promise<void> told = way.output->whenWriteDisconnected();
    Promise<Chunk> read = way.input->tryReadChunk();
    test.scope.poll();
    check();
  });
  onEachSource("abc", [&](IoTest&, Source source) {
    Promise<Chunk> read = source.input->tryReadChunk();
    check();
  });
}

// ------------------------------------------------------------------------------------------------ endings

TEST_CASE("a stream that is destroyed rejects its pending operations with DISCONNECTED, and touches nothing (R9)") {
  onEachWay([](IoTest& test, Way way, const Traits&) {
    std::string buffer(3, '.');
    Promise<std::size_t> read = way.input->tryRead(bufferOf(buffer));
    CHECK(!read.poll(test.scope));
    way.input = nullptr;
    check(failureOf(std::move(read), test.scope), Kind::DISCONNECTED);
    CHECK(buffer == "...");
  });
  onEachWay([](IoTest& test, Way way, const Traits& traits) {
    const std::string much(traits.much, 'x');
    Promise<void> write = way.output->write(much);
    CHECK(!write.poll(test.scope));
    way.output = nullptr;
    check(failureOf(std::move(write), test.scope), Kind::DISCONNECTED);
  });
  onEachPair([](IoTest& test, StreamPair pair, const Traits& traits) {
    const std::string much(traits.much, 'x');
    std::string buffer(3, '.');
    Promise<std::size_t> read = pair.left->tryRead(bufferOf(buffer));
    Promise<void> write = pair.left->write(much);
    Promise<void> told = pair.left->whenWriteDisconnected();
    CHECK(!write.poll(test.scope));
    pair.left = nullptr;
    check(failureOf(std::move(read), test.scope), Kind::DISCONNECTED);
    check(failureOf(std::move(write), test.scope), Kind::DISCONNECTED);
    CHECK(buffer == "...");
    pair.right = nullptr;
    std::move(told).wait(test.scope); // it has no error
  });
}

TEST_CASE("operations may be destroyed after their stream, pending, ready or failed (R9)") {
  for (const bool outputFirst : {true, false}) {
    CAPTURE(outputFirst);
    onEachWay([outputFirst](IoTest& test, Way way, const Traits& traits) {
      const std::string much(traits.much, 'x');
      Promise<void> write = way.output->write(much);
      Promise<void> told = way.output->whenWriteDisconnected();
      Promise<Chunk> read = way.input->tryReadChunk();
      untilReady(test, read);
      if (outputFirst) way.output = nullptr;
      way.input = nullptr;
      way.output = nullptr;
      test.scope.poll();
    });
  }
}

TEST_CASE("a read that is ready when its stream goes still has its bytes") {
  onEachSource("abc", [](IoTest& test, Source source) {
    Promise<Chunk> read = source.input->tryReadChunk();
    untilReady(test, read);
    source.input = nullptr;
    CHECK(std::move(read).wait(test.scope).text() == "abc");
  });
}

// ------------------------------------------------------------------------------------------------ pumping

namespace {

/// A pump from one stream to another, a part of it and then the rest.
void checkPump(IoTest& test, AsyncInputStream& input, AsyncOutputStream& output, std::size_t count) {
  CHECK(input.pumpTo(output, 0).wait(test.scope) == 0);
  CHECK(input.pumpTo(output, 12'345).wait(test.scope) == 12'345);
  CHECK(input.pumpTo(output).wait(test.scope) == count - 12'345);
}

} // namespace

TEST_CASE("a pump from any kind to any of the main ones copies everything, and leaves off at its amount") {
  constexpr std::size_t COUNT = 100'000;
  for (const std::size_t to : std::vector<std::size_t>{0, 1}) { // memory, and a socket
    const PairKind& sinkKind = pairKinds()[to];
    CAPTURE(sinkKind.name);
    onEachSource(numberedBytes(COUNT), [&](IoTest& test, Source source) {
      StreamPair sink = sinkKind.make(test);
      Promise<std::string> receive = sink.right->readAllText(COUNT).eagerlyEvaluate(nullptr);
      checkPump(test, *source.input, *sink.left, COUNT);
      sink.left->shutdownWrite();
      const std::string got = std::move(receive).wait(test.scope);
      CHECK(got.size() == COUNT);
      CHECK(areNumbered(got));
    });
  }
}

TEST_CASE("a pump from any of the main kinds to any one copies everything, and leaves off at its amount") {
  constexpr std::size_t COUNT = 100'000;
  for (const std::size_t from : std::vector<std::size_t>{0, 1}) {
    const PairKind& sourceKind = pairKinds()[from];
    CAPTURE(sourceKind.name);
    onEachSink([&](IoTest& test, Sink sink) {
      StreamPair source = sourceKind.make(test);
      Promise<void> send = sendNumbered(*source.left, COUNT, 50'000, 1)
                               .then([&] { source.left->shutdownWrite(); })
                               .eagerlyEvaluate(nullptr);
      checkPump(test, *source.right, *sink.output, COUNT);
      sendNumbered(*sink.output, 0, 1, 1).wait(test.scope); // sends what was gathered
      sink.output = nullptr;
      const std::string got = sink.contents().wait(test.scope);
      CHECK(got.size() == COUNT);
      CHECK(areNumbered(got));
    });
  }
}

TEST_CASE("while a pump waits for its input, another read there is refused, and the pump goes on") {
  onEachWay([](IoTest& test, Way way, const Traits&) {
    StreamPair sink = newStreamPair(test.io); // one that takes what comes, whether somebody reads or not
    std::string buffer(3, '.');
    Promise<std::uint64_t> pump = way.input->pumpTo(*sink.left, 3);
    checkMisuse([&] { (void)way.input->tryReadChunk(); });
    checkMisuse([&] { (void)way.input->tryRead(bufferOf(buffer)); });
    Promise<void> write = way.write("abcd");
    CHECK(std::move(pump).wait(test.scope) == 3);
    sink.right->read(bufferOf(buffer)).wait(test.scope);
    CHECK(buffer == "abc");
    CHECK(way.input->tryReadChunk().wait(test.scope).text() == "d");
    std::move(write).wait(test.scope);
  });
}

namespace {

/// Reads `count` bytes, if so many come.
Promise<void> take(AsyncInputStream& input, std::size_t count) {
  std::string buffer(count, '.');
  co_await input.tryRead(bufferOf(buffer), count);
}

} // namespace

TEST_CASE("a pump whose streams are destroyed under it is DISCONNECTED, at whatever moment (R9)") {
  enum class Goes { INPUT, OUTPUT };
  for (const Goes goes : {Goes::INPUT, Goes::OUTPUT}) {
    for (std::size_t turns = 0; turns < 12; ++turns) {
      CAPTURE(static_cast<int>(goes));
      CAPTURE(turns);
      onEachWay([&](IoTest& test, Way way, const Traits&) { // from the kind
        OneWayPipe sink = newOneWayPipe();
        Promise<void> send = sendNumbered(*way.output, 200, 7, 1).eagerlyEvaluate(nullptr);
        Promise<void> receive = take(*sink.input, 150).eagerlyEvaluate(nullptr);
        Promise<std::uint64_t> pump = way.input->pumpTo(*sink.output);
        test.io.eventLoop().run(turns);
        goes == Goes::INPUT ? way.input.reset() : sink.output.reset();
        CHECK((failureOf(std::move(pump), test.scope).kind() == Kind::DISCONNECTED));
      });
      onEachWay([&](IoTest& test, Way way, const Traits&) { // to the kind
        OneWayPipe source = newOneWayPipe();
        Promise<void> send = sendNumbered(*source.output, 200, 7, 1).eagerlyEvaluate(nullptr);
        Promise<void> receive = take(*way.input, 150).eagerlyEvaluate(nullptr);
        Promise<std::uint64_t> pump = source.input->pumpTo(*way.output);
        test.io.eventLoop().run(turns);
        goes == Goes::INPUT ? source.input.reset() : way.output.reset();
        CHECK((failureOf(std::move(pump), test.scope).kind() == Kind::DISCONNECTED));
      });
    }
  }
}

TEST_CASE("a pump of what is there already is DISCONNECTED when its output is destroyed, at whatever moment (R9)") {
  for (const std::size_t number : std::vector<std::size_t>{0, 1}) { // memory, and a socket
    const PairKind& sinkKind = pairKinds()[number];
    CAPTURE(sinkKind.name);
    for (const bool begun : {false, true}) { // a part may be in a buffer
      CAPTURE(begun);
      for (std::size_t turns = 0; turns < 12; ++turns) {
        CAPTURE(turns);
        onEachSource(numberedBytes(1 << 20), [&](IoTest& test, Source source) {
          StreamPair sink = sinkKind.make(test);
          std::string first(1, '.');
          if (begun) source.input->read(bufferOf(first)).wait(test.scope);
          Promise<void> receive = take(*sink.right, 150).eagerlyEvaluate(nullptr);
          Promise<std::uint64_t> pump = source.input->pumpTo(*sink.left);
          test.io.eventLoop().run(turns);
          sink.left = nullptr;
          CHECK((failureOf(std::move(pump), test.scope).kind() == Kind::DISCONNECTED));
        });
      }
    }
  }
}

TEST_CASE("a pump to the null stream whose input is destroyed under it is DISCONNECTED, at whatever moment (R9)") {
  for (std::size_t turns = 0; turns < 12; ++turns) {
    CAPTURE(turns);
    onEachWay([&](IoTest& test, Way way, const Traits&) {
      const std::unique_ptr<AsyncIoStream> sink = newNullStream();
      Promise<void> send = sendNumbered(*way.output, 200, 7, 1).eagerlyEvaluate(nullptr);
      Promise<std::uint64_t> pump = way.input->pumpTo(*sink);
      test.io.eventLoop().run(turns);
      way.input = nullptr;
      CHECK((failureOf(std::move(pump), test.scope).kind() == Kind::DISCONNECTED));
    });
  }
}

TEST_CASE("readAllText of a stream that is destroyed under it is DISCONNECTED, at whatever moment (R9)") {
  for (std::size_t turns = 0; turns < 12; ++turns) {
    CAPTURE(turns);
    onEachWay([turns](IoTest& test, Way way, const Traits&) {
      Promise<void> send = sendNumbered(*way.output, 100, 7, 1).eagerlyEvaluate(nullptr);
      Promise<std::string> all = way.input->readAllText(1000);
      test.io.eventLoop().run(turns);
      way.input = nullptr;
      check(failureOf(std::move(all), test.scope), Kind::DISCONNECTED);
    });
  }
}
