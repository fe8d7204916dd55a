// SPDX-License-Identifier: MIT
// The contract of streams (io/stream.h), line by line, on every kind of stream that has two ends.
#include "peer.h"

#include <troth/io/pipe.h>
#include <troth/runtime/join.h>

#include <array>
#include <functional>
#include <random>
#include <string>
#include <vector>

using namespace troth;
using namespace troth::test;

namespace {

using Kind = Exception::Kind;

struct StreamKind {
  const char* name;
  StreamPair (*make)(IoTest& test);
};

constexpr StreamKind KINDS[] = {
    {"a pipe in memory",
     [](IoTest&) {
       TwoWayPipe pipe = newTwoWayPipe();
       return StreamPair{std::move(pipe.ends[0]), std::move(pipe.ends[1])};
     }},
    {"a Unix socket", [](IoTest& test) { return newStreamPair(test.io); }},
    {"TCP", [](IoTest& test) { return newTcpStreamPair(test.io); }},
};

/// Runs `body` on each kind of stream, with a loop of its own.
void onEachKind(const std::function<void(IoTest& test, StreamPair pair)>& body) {
  for (const StreamKind& kind : KINDS) {
    CAPTURE(kind.name);
    IoTest test;
    body(test, kind.make(test));
  }
}

/// The same for what can be cancelled: `cancelSweep` on each kind.
void sweepEachKind(const std::function<Promise<void>(IoTest& test, StreamPair pair)>& body) {
  for (const StreamKind& kind : KINDS) {
    CAPTURE(kind.name);
    CHECK(cancelSweep([&](IoTest& test) { return body(test, kind.make(test)); }) > 1);
  }
}

/// Writes numbered bytes in pieces of pseudo-random size, and ends the direction.
Promise<void> sendNumbered(AsyncIoStream& stream, std::size_t count, std::size_t most, unsigned seed) {
  std::minstd_rand random(seed);
  for (std::size_t sent = 0; sent < count;) {
    const std::size_t size = std::min<std::size_t>(1 + random() % most, count - sent);
    const std::string bytes = numberedBytes(size, sent);
    const std::size_t cut = random() % (size + 1);
    const std::span<const std::byte> both[] = {asBytes(bytes).first(cut), asBytes(bytes).subspan(cut)};
    if (random() % 2 == 0)
      co_await stream.write(bytes);
    else
      co_await stream.write(both);
    sent += size;
  }
  stream.shutdownWrite();
}

/// Reads numbered bytes to the end, by reads of all sorts.
Promise<void> receiveNumbered(AsyncIoStream& stream, std::size_t count, std::size_t most, unsigned seed) {
  std::minstd_rand random(seed);
  std::size_t received = 0;
  for (;;) {
    const std::size_t size = 1 + random() % most;
    if (random() % 2 == 0) {
      const Chunk chunk = co_await stream.tryReadChunk(size);
      CHECK(chunk.size() <= size);
      CHECK(areNumbered(chunk.text(), received));
      received += chunk.size();
      if (chunk.empty()) break;
    } else {
      std::string buffer(size, '.');
      const std::size_t minBytes = 1 + random() % size;
      const std::size_t got = co_await stream.tryRead(bufferOf(buffer), minBytes);
      CHECK(areNumbered(std::string_view(buffer).substr(0, got), received));
      received += got;
      if (got < minBytes) break;
    }
  }
  CHECK(received == count);
}

/// Reads until `count` bytes have come, giving up and asking again all the time: each read races a wait of some turns.
Promise<void> receiveImpatiently(AsyncIoStream& stream, std::size_t count, unsigned seed) {
  std::minstd_rand random(seed);
  const auto wait = [](int turns) -> Promise<std::size_t> {
    for (int i = 0; i < turns; ++i) co_await yieldUntilWouldSleep();
    co_return std::size_t(0);
  };
  std::size_t received = 0;
  std::size_t givenUp = 0;
  while (received < count) {
    const int turns = static_cast<int>(random() % 3);
    const std::size_t size = std::min<std::size_t>(1 + random() % 20, count - received);
    std::string buffer(size, '.');
    Promise<std::size_t> read = NEVER_DONE;
    if (random() % 2 == 0) {
      read = stream.tryRead(bufferOf(buffer), 1 + random() % size);
    } else {
      read = stream.tryReadChunk(size).then([&buffer](Chunk chunk) {
        buffer.replace(0, chunk.size(), chunk.text());
        return chunk.size();
      });
    }
    Promise<std::size_t> patience = wait(turns);
    const std::size_t got = random() % 2 == 0 ? co_await std::move(read).exclusiveJoin(std::move(patience))
                                              : co_await std::move(patience).exclusiveJoin(std::move(read));
    if (got == 0) ++givenUp;
    CHECK(areNumbered(std::string_view(buffer).substr(0, got), received));
    received += got;
  }
  CHECK(givenUp > 0);
}

} // namespace

// ------------------------------------------------------------------------------------------------ reading

TEST_CASE("bytes arrive in their order, whatever the sizes of writes and reads, in both directions at once") {
  for (const std::size_t most : std::vector<std::size_t>{1, 7, 1000, 200'000}) {
    CAPTURE(most);
    onEachKind([most](IoTest& test, StreamPair pair) {
      const std::size_t count = std::min<std::size_t>(most * 50, 1'000'000);
      joinPromisesFailFast(sendNumbered(*pair.left, count, most, 1), receiveNumbered(*pair.right, count, most, 2),
                           sendNumbered(*pair.right, count, most, 3), receiveNumbered(*pair.left, count, most, 4))
          .wait(test.scope);
    });
  }
}

TEST_CASE("a read waits for its minimum, and takes no more than its buffer") {
  onEachKind([](IoTest& test, StreamPair pair) {
    std::string buffer(5, '.');
    Promise<std::size_t> read = pair.right->tryRead(bufferOf(buffer), 3);
    Promise<void> write = pair.left->write("ab");
    CHECK(!read.poll(test.scope));
    std::move(write).wait(test.scope);
    write = pair.left->write("cdefg");
    CHECK(std::move(read).wait(test.scope) == 5);
    CHECK(buffer == "abcde");
    CHECK(pair.right->tryReadChunk().wait(test.scope).text() == "fg");
    std::move(write).wait(test.scope);
  });
}

TEST_CASE("a read never goes on inside the call, even if its bytes are there") {
  onEachKind([](IoTest& test, StreamPair pair) {
    Promise<void> write = pair.left->write("abc");
    (void)write.poll(test.scope);
    bool wentOn = false;
    Promise<void> read = pair.right->tryReadChunk().then([&](Chunk) { wentOn = true; }).eagerlyEvaluate(nullptr);
    CHECK(!wentOn);
    std::move(read).wait(test.scope);
    CHECK(wentOn);
    std::move(write).wait(test.scope);
  });
}

TEST_CASE("the end of the stream gives what there is, and then the end again and again (S4)") {
  onEachKind([](IoTest& test, StreamPair pair) {
    Promise<void> write = pair.left->write("abc");
    std::string buffer(5, '.');
    Promise<std::size_t> read = pair.right->tryRead(bufferOf(buffer), 5);
    CHECK(!read.poll(test.scope));
    std::move(write).wait(test.scope);
    pair.left->shutdownWrite();
    CHECK(std::move(read).wait(test.scope) == 3);
    CHECK(buffer == "abc..");
    for (int i = 0; i < 2; ++i) {
      CHECK(pair.right->tryRead(bufferOf(buffer), 5).wait(test.scope) == 0);
      CHECK(pair.right->tryReadChunk().wait(test.scope).empty());
    }
    const Exception e = failureOf(pair.right->read(bufferOf(buffer)), test.scope);
    CHECK((e.kind() == Kind::DISCONNECTED));
  });
}

TEST_CASE("a read that is given up loses no byte, in whatever turn its bytes come (R5)") {
  for (unsigned seed = 1; seed <= 20; ++seed) {
    CAPTURE(seed);
    onEachKind([seed](IoTest& test, StreamPair pair) {
      joinPromisesFailFast(sendNumbered(*pair.left, 500, 30, seed), receiveImpatiently(*pair.right, 500, seed))
          .wait(test.scope);
    });
  }
}

TEST_CASE("a second read is refused while one is pending, or ready but not taken, and the first goes on") {
  onEachKind([](IoTest& test, StreamPair pair) {
    std::string buffer(3, '.');
    Promise<std::size_t> read = pair.right->tryRead(bufferOf(buffer), 3);
    CHECK((thrownBy([&] { (void)pair.right->tryReadChunk(); }).kind() == Kind::FAILED));
    Promise<void> write = pair.left->write("abc");
    CHECK(read.poll(test.scope));
    const Exception e = thrownBy([&] { (void)pair.right->tryRead(bufferOf(buffer)); });
    CHECK((e.kind() == Kind::FAILED));
    CHECK(madeIn(e, "stream_contract_test.cc"));
    CHECK(std::move(read).wait(test.scope) == 3);
    CHECK(buffer == "abc");
    std::move(write).wait(test.scope);
  });
}

TEST_CASE("reads that could not tell the end of the stream are refused") {
  onEachKind([](IoTest&, StreamPair pair) {
    std::string buffer(3, '.');
    for (const auto& misuse : std::vector<std::function<void()>>{
             [&] { (void)pair.left->tryRead({}); },
             [&] { (void)pair.left->tryRead(bufferOf(buffer), 0); },
             [&] { (void)pair.left->tryRead(bufferOf(buffer), 4); },
             [&] { (void)pair.left->tryReadChunk(0); },
         })
      CHECK((thrownBy(misuse).kind() == Kind::FAILED));
  });
}

TEST_CASE("readAllText and readAllBytes collect a stream, and refuse one byte more than allowed") {
  onEachKind([](IoTest& test, StreamPair pair) {
    const std::string text = numberedBytes(100'000);
    Promise<void> send = sendNumbered(*pair.left, text.size(), 30'000, 1).eagerlyEvaluate(nullptr);
    CHECK(pair.right->readAllText(text.size()).wait(test.scope) == text);
    std::move(send).wait(test.scope);

    send = sendNumbered(*pair.right, 101, 10, 1).eagerlyEvaluate(nullptr);
    const Exception e = failureOf(pair.left->readAllBytes(100), test.scope);
    CHECK((e.kind() == Kind::FAILED));
    CHECK(contains(e.description(), "100 bytes"));
    CHECK(madeIn(e, "stream_contract_test.cc"));
  });
  onEachKind([](IoTest& test, StreamPair pair) {
    pair.left->shutdownWrite();
    CHECK(pair.right->readAllBytes(0).wait(test.scope).empty());
    pair.right = nullptr;
  });
}

// ------------------------------------------------------------------------------------------------ writing

TEST_CASE("a write of nothing is done at once, and nobody sees it") {
  onEachKind([](IoTest& test, StreamPair pair) {
    std::string buffer(1, '.');
    Promise<std::size_t> read = pair.right->tryRead(bufferOf(buffer));
    pair.left->write("").wait(test.scope);
    pair.left->write(std::span<const std::span<const std::byte>>()).wait(test.scope);
    CHECK(!read.poll(test.scope));
  });
}

TEST_CASE("a write of many pieces arrives as one, in order") {
  onEachKind([](IoTest& test, StreamPair pair) {
    const std::string text = numberedBytes(3000);
    std::vector<std::span<const std::byte>> pieces;
    for (std::size_t i = 0; i < text.size(); i += 10) {
      pieces.push_back(asBytes(text).subspan(i, 10));
      pieces.push_back({});
    }
    Promise<void> write = pair.left->write(pieces);
    pieces.clear(); // needed only during the call
    std::string buffer(text.size(), '.');
    pair.right->read(bufferOf(buffer)).wait(test.scope);
    CHECK(buffer == text);
    std::move(write).wait(test.scope);
  });
}

TEST_CASE("a write that nobody reads waits (S3), and a second one is refused meanwhile") {
  onEachKind([](IoTest& test, StreamPair pair) {
    const std::string much = numberedBytes(8 << 20);
    Promise<void> write = pair.left->write(much);
    CHECK(!write.poll(test.scope));
    const Exception e = thrownBy([&] { (void)pair.left->write("x"); });
    CHECK((e.kind() == Kind::FAILED));
    CHECK(madeIn(e, "stream_contract_test.cc"));
    CHECK((thrownBy([&] { pair.left->shutdownWrite(); }).kind() == Kind::FAILED));
    std::string buffer(much.size(), '.');
    pair.right->read(bufferOf(buffer)).wait(test.scope);
    CHECK(buffer == much);
    std::move(write).wait(test.scope);
  });
}

TEST_CASE("each direction ends on its own (S4)") {
  onEachKind([](IoTest& test, StreamPair pair) {
    pair.left->shutdownWrite();
    pair.left->shutdownWrite(); // no effect
    CHECK((thrownBy([&] { (void)pair.left->write("x"); }).kind() == Kind::FAILED));
    CHECK(pair.right->tryReadChunk().wait(test.scope).empty());
    Promise<void> write = pair.right->write("the other way");
    CHECK(pair.left->readAllText(100).poll(test.scope) == false);
    std::move(write).wait(test.scope);
  });
  onEachKind([](IoTest& test, StreamPair pair) {
    pair.left->shutdownWrite();
    Promise<std::string> all = pair.left->readAllText(100);
    Promise<void> write = pair.right->write("answer");
    CHECK(!all.poll(test.scope));
    std::move(write).wait(test.scope);
    pair.right->shutdownWrite();
    CHECK(std::move(all).wait(test.scope) == "answer");
  });
}

// ------------------------------------------------------------------------------------------------ endings

TEST_CASE("a stream that is destroyed rejects its pending operations with DISCONNECTED (R9)") {
  onEachKind([](IoTest& test, StreamPair pair) {
    const std::string much(8 << 20, 'x');
    std::string buffer(3, '.');
    Promise<std::size_t> read = pair.left->tryRead(bufferOf(buffer));
    Promise<void> write = pair.left->write(much);
    CHECK(!read.poll(test.scope));
    CHECK(!write.poll(test.scope));
    pair.left = nullptr;
    CHECK((failureOf(std::move(read), test.scope).kind() == Kind::DISCONNECTED));
    CHECK((failureOf(std::move(write), test.scope).kind() == Kind::DISCONNECTED));
    CHECK(buffer == "...");
  });
}

TEST_CASE("operations may be destroyed after their stream, pending, ready or failed (R9)") {
  onEachKind([](IoTest& test, StreamPair pair) {
    const std::string much(8 << 20, 'x');
    Promise<Chunk> pending = pair.left->tryReadChunk();
    Promise<void> write = pair.left->write(much);
    Promise<Chunk> ready = pair.right->tryReadChunk();
    CHECK(ready.poll(test.scope));
    pair.left = nullptr;
    pair.right = nullptr;
    test.scope.poll();
  });
}

TEST_CASE("abortRead fails the pending read and all later ones, and leaves the other direction") {
  onEachKind([](IoTest& test, StreamPair pair) {
    Promise<Chunk> read = pair.left->tryReadChunk();
    CHECK(!read.poll(test.scope));
    pair.left->abortRead();
    CHECK((failureOf(std::move(read), test.scope).kind() == Kind::DISCONNECTED));
    CHECK((failureOf(pair.left->tryReadChunk(), test.scope).kind() == Kind::DISCONNECTED));
    Promise<void> write = pair.left->write("still");
    CHECK(pair.right->tryReadChunk().wait(test.scope).text() == "still");
    std::move(write).wait(test.scope);
  });
}

// ------------------------------------------------------------------------------------------------ pumping

TEST_CASE("a pump between any two kinds copies everything, and leaves off at its amount") {
  for (const StreamKind& from : KINDS) {
    for (const StreamKind& to : KINDS) {
      CAPTURE(from.name);
      CAPTURE(to.name);
      IoTest test;
      StreamPair source = from.make(test);
      StreamPair sink = to.make(test);
      constexpr std::size_t COUNT = 300'000;
      Promise<void> send = sendNumbered(*source.left, COUNT, 50'000, 1).eagerlyEvaluate(nullptr);
      Promise<void> receive = receiveNumbered(*sink.right, COUNT, 50'000, 2).eagerlyEvaluate(nullptr);
      CHECK(source.right->pumpTo(*sink.left, 0).wait(test.scope) == 0);
      CHECK(source.right->pumpTo(*sink.left, 12'345).wait(test.scope) == 12'345);
      CHECK(source.right->pumpTo(*sink.left).wait(test.scope) == COUNT - 12'345);
      sink.left->shutdownWrite();
      std::move(receive).wait(test.scope);
      std::move(send).wait(test.scope);
    }
  }
}

TEST_CASE("a pump whose streams are destroyed under it is DISCONNECTED, at whatever moment (R9)") {
  for (const bool input : {true, false}) {
    for (int turns = 0; turns < 12; ++turns) {
      CAPTURE(input);
      CAPTURE(turns);
      onEachKind([input, turns](IoTest& test, StreamPair pair) {
        TwoWayPipe other = newTwoWayPipe();
        Promise<void> send = sendNumbered(input ? *pair.left : *other.ends[0], 100, 7, 1).eagerlyEvaluate(nullptr);
        Promise<Chunk> receive = (input ? other.ends[0] : pair.left)->tryReadChunk();
        Promise<std::uint64_t> pump = input ? pair.right->pumpTo(*other.ends[1]) : other.ends[1]->pumpTo(*pair.right);
        test.io.eventLoop().run(static_cast<std::size_t>(turns));
        pair.right = nullptr;
        CHECK((failureOf(std::move(pump), test.scope).kind() == Kind::DISCONNECTED));
      });
    }
  }
}

TEST_CASE("readAllText of a stream that is destroyed under it is DISCONNECTED, at whatever moment (R9)") {
  for (int turns = 0; turns < 12; ++turns) {
    CAPTURE(turns);
    onEachKind([turns](IoTest& test, StreamPair pair) {
      Promise<void> send = sendNumbered(*pair.left, 100, 7, 1).eagerlyEvaluate(nullptr);
      Promise<std::string> all = pair.right->readAllText(1000);
      test.io.eventLoop().run(static_cast<std::size_t>(turns));
      pair.right = nullptr;
      CHECK((failureOf(std::move(all), test.scope).kind() == Kind::DISCONNECTED));
    });
  }
}

// ------------------------------------------------------------------------------------------- cancellation

TEST_CASE("a conversation can be cancelled at every step (R5)") {
  sweepEachKind([](IoTest&, StreamPair pair) {
    AsyncIoStream& left = *pair.left;
    AsyncIoStream& right = *pair.right;
    return joinPromisesFailFast(sendNumbered(left, 100, 30, 1), receiveNumbered(right, 100, 30, 2),
                                sendNumbered(right, 100, 30, 3), receiveNumbered(left, 100, 30, 4))
        .ignoreResult()
        .attach(std::move(pair.left), std::move(pair.right));
  });
}

TEST_CASE("a pump can be cancelled at every step (R5)") {
  sweepEachKind([](IoTest&, StreamPair pair) {
    TwoWayPipe sink = newTwoWayPipe();
    AsyncIoStream& left = *pair.left;
    AsyncIoStream& right = *pair.right;
    Promise<void> pump = right.pumpTo(*sink.ends[0]).then([&end = *sink.ends[0]](std::uint64_t count) {
      CHECK(count == 100);
      end.shutdownWrite();
    });
    return joinPromisesFailFast(sendNumbered(left, 100, 30, 1), std::move(pump), receiveNumbered(*sink.ends[1], 100, 30, 2))
        .ignoreResult()
        .attach(std::move(pair.left), std::move(pair.right), std::move(sink.ends[0]), std::move(sink.ends[1]));
  });
}
