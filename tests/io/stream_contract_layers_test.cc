// SPDX-License-Identifier: MIT
// Streams that work on other streams, and what uses streams (pumps, readAllText): a byte at a time, with an error at
// byte k, and on streams that throw.
#include "stream_kinds.h"

#include <troth/io/pipe.h>
#include <troth/io/tee.h>
#include <troth/io/testing.h>
#include <troth/runtime/join.h>

#include <string>
#include <vector>

using namespace troth;
using namespace troth::test;

namespace {

using Kind = Exception::Kind;

Exception noMore() { return Exception(Kind::OVERLOADED, "no more"); }

bool isNoMore(const Exception& e) { return e.kind() == Kind::OVERLOADED && e.description() == "no more"; }

/// Something to read that is made of a script which stays the test's.
std::unique_ptr<AsyncInputStream> reading(ScriptedStream& script) { return newShortInputStream(script, 1000); }
std::unique_ptr<AsyncOutputStream> writing(ScriptedStream& script) { return newShortIoStream(script, 1000); }

/// Runs `body` on each layer that reads, on top of `script`, which `prepare` writes.
void onEachInputLayer(const std::function<void(ScriptedStream& script)>& prepare,
                      const std::function<void(LoopTest& test, AsyncInputStream& input)>& body) {
  for (const Layer& layer : inputLayers()) {
    CAPTURE(layer.name);
    LoopTest test;
    ScriptedStream script;
    prepare(script);
    Way way{reading(script), nullptr, {}};
    layer.put(way, 1000);
    body(test, *way.input);
  }
}

void onEachOutputLayer(const std::function<void(ScriptedStream& script)>& prepare,
                       const std::function<void(LoopTest& test, AsyncOutputStream& output)>& body) {
  for (const Layer& layer : outputLayers()) {
    CAPTURE(layer.name);
    LoopTest test;
    ScriptedStream script;
    prepare(script);
    Way way{nullptr, writing(script), {}};
    layer.put(way, 1000);
    body(test, *way.output);
  }
}

/// Reads what there is to `text`, until it fails.
Promise<void> readUntilError(AsyncInputStream& input, std::string& text) {
  std::string buffer(5, '.');
  for (;;) {
    const std::size_t got = co_await input.tryRead(bufferOf(buffer));
    REQUIRE(got > 0);
    text.append(buffer, 0, got);
  }
}

constexpr std::size_t COUNT = 40;

} // namespace

// ----------------------------------------------------------------------------------------- a byte at a time

TEST_CASE("what comes a few bytes at a time is read in order, by any sizes, through every layer") {
  for (const std::size_t step : std::vector<std::size_t>{1, 3, 17}) {
    CAPTURE(step);
    for (const std::size_t most : std::vector<std::size_t>{1, 10, 40}) {
      CAPTURE(most);
      onEachInputLayer([&](ScriptedStream& script) { script.giveRead(numberedBytes(COUNT)).shortReads(step); },
                       [&](LoopTest& test, AsyncInputStream& input) {
                         receiveNumbered(input, COUNT, most, 1).wait(test.scope);
                       });
    }
  }
}

TEST_CASE("what is taken a few bytes at a time is written in order, in pieces of any size, through every layer") {
  for (const std::size_t step : std::vector<std::size_t>{1, 3, 17}) {
    CAPTURE(step);
    for (const std::size_t most : std::vector<std::size_t>{1, 10, 40}) {
      CAPTURE(most);
      onEachOutputLayer([&](ScriptedStream& script) { script.expectWrite(numberedBytes(COUNT)).shortWrites(step); },
                        [&](LoopTest& test, AsyncOutputStream& output) {
                          sendNumbered(output, COUNT, most, 1).wait(test.scope);
                        });
    }
  }
}

TEST_CASE("readAllText has everything within its limit, however large it is and however it comes") {
  struct Size {
    std::size_t size;
    std::size_t step;
  };
  for (const Size& size : {Size{0, 1}, Size{1, 1}, Size{256, 1}, Size{256, 7}, Size{65'535, 4096}, Size{65'536, 65'536},
                           Size{65'537, 65'536}, Size{100'000, 999}}) {
    for (const std::uint64_t limit :
         {std::uint64_t(0), std::uint64_t(1), std::uint64_t(size.size / 2), std::uint64_t(size.size - 1),
          std::uint64_t(size.size), std::uint64_t(size.size + 1), ALL_BYTES}) {
      CAPTURE(size.size);
      CAPTURE(size.step);
      CAPTURE(limit);
      LoopTest test;
      ScriptedStream script;
      script.giveRead(numberedBytes(size.size)).giveEnd().shortReads(size.step);
      Promise<std::string> all = script.readAllText(limit);
      if (limit >= size.size)
        CHECK((std::move(all).wait(test.scope) == numberedBytes(size.size)));
      else
        CHECK((failureOf(std::move(all), test.scope).kind() == Kind::FAILED));
    }
  }
}

// -------------------------------------------------------------------------------------- an error at byte k

TEST_CASE("an error at byte k of what is read comes after k bytes, and again, through every layer") {
  for (std::size_t k = 0; k <= COUNT; ++k) {
    CAPTURE(k);
    const auto prepare = [&](ScriptedStream& script) {
      script.giveRead(numberedBytes(COUNT)).failReadAt(k, noMore()).shortReads(k % 3 + 1);
    };
    onEachInputLayer(prepare, [&](LoopTest& test, AsyncInputStream& input) {
      std::string got;
      CHECK(isNoMore(failureOf(readUntilError(input, got), test.scope)));
      CHECK((got == numberedBytes(k)));
      CHECK(isNoMore(failureOf(input.tryReadChunk(), test.scope)));
      CHECK(isNoMore(failureOf(input.readAllText(100), test.scope)));
    });
  }
}

TEST_CASE("a read that wants more than comes before an error fails, and leaves those bytes, in every layer") {
  for (const std::size_t k : std::vector<std::size_t>{0, 1, 5, 20, 39}) {
    CAPTURE(k);
    onEachInputLayer([&](ScriptedStream& script) { script.giveRead(numberedBytes(COUNT)).failReadAt(k, noMore()); },
                     [&](LoopTest& test, AsyncInputStream& input) {
                       std::string buffer(COUNT, '.');
                       CHECK(isNoMore(failureOf(input.read(bufferOf(buffer)), test.scope)));
                       std::string got;
                       CHECK(isNoMore(failureOf(readUntilError(input, got), test.scope)));
                       CHECK((got == numberedBytes(k)));
                     });
  }
}

TEST_CASE("an error at byte k of what is written is that of the write, and of later ones, through every layer") {
  for (std::size_t k = 0; k < COUNT; ++k) {
    CAPTURE(k);
    const auto prepare = [&](ScriptedStream& script) {
      script.expectWrite(numberedBytes(COUNT)).failWriteAt(k, noMore()).shortWrites(k % 3 + 1);
    };
    onEachOutputLayer(prepare, [&](LoopTest& test, AsyncOutputStream& output) {
      Promise<void> told = output.whenWriteDisconnected();
      CHECK(isNoMore(failureOf(sendNumbered(output, COUNT, 30, 1), test.scope)));
      CHECK(isNoMore(failureOf(output.write("and more than what is gathered"), test.scope)));
      std::move(told).wait(test.scope);
      output.whenWriteDisconnected().wait(test.scope);
    });
  }
}

TEST_CASE("a pump fails with the error at byte k of its input, when it has written k bytes") {
  for (std::size_t k = 0; k <= COUNT; k += 8) {
    CAPTURE(k);
    onEachInputLayer([&](ScriptedStream& script) { script.giveRead(numberedBytes(COUNT)).failReadAt(k, noMore()); },
                     [&](LoopTest& test, AsyncInputStream& input) {
                       ScriptedStream target;
                       target.expectWrite(numberedBytes(k));
                       CHECK(isNoMore(failureOf(input.pumpTo(target), test.scope)));
                       target.checkFinished();
                     });
  }
}

TEST_CASE("a pump fails with the error at byte k of its output") {
  for (std::size_t k = 0; k < COUNT; k += 8) {
    CAPTURE(k);
    onEachOutputLayer([&](ScriptedStream& script) { script.expectWrite(numberedBytes(COUNT)).failWriteAt(k, noMore()); },
                      [&](LoopTest& test, AsyncOutputStream& output) {
                        ScriptedStream source;
                        source.giveRead(numberedBytes(COUNT)).giveEnd();
                        CHECK(isNoMore(failureOf(source.pumpTo(output), test.scope)));
                      });
  }
}

TEST_CASE("a pump into memory passes an error at byte k on to whoever reads there, after k bytes") {
  for (std::size_t k = 0; k <= COUNT; k += 8) {
    CAPTURE(k);
    LoopTest test;
    ScriptedStream source;
    source.giveRead(numberedBytes(COUNT)).failReadAt(k, noMore());
    OneWayPipe pipe = newOneWayPipe();
    Promise<std::uint64_t> pump = source.pumpTo(*pipe.output);
    std::string got;
    CHECK(isNoMore(failureOf(readUntilError(*pipe.input, got), test.scope)));
    CHECK((got == numberedBytes(k)));
    CHECK(isNoMore(failureOf(std::move(pump), test.scope)));
  }
}

// ------------------------------------------------------------------------------------------ what throws (R8)

namespace {

/// Throws from within every call.
class Throwing final : public AsyncIoStream {
public:
  Promise<std::size_t> tryRead(std::span<std::byte>, std::size_t, std::source_location) override { throw noMore(); }
  Promise<void> write(std::span<const std::byte>, std::source_location) override { throw noMore(); }
  Promise<void> write(std::span<const std::span<const std::byte>>, std::source_location) override { throw noMore(); }
  void shutdownWrite(std::source_location) override {}
  void abortRead(std::source_location) override {}
};

} // namespace

TEST_CASE("a stream that throws in the call fails the pumps from it and to it (R8)") {
  onEachWay([](IoTest& test, Way way, const Traits&) { // to the stream
    Throwing throwing;
    Promise<std::uint64_t> pump = way.input->pumpTo(throwing);
    Promise<void> write = way.write("abc");
    CHECK(isNoMore(failureOf(std::move(pump), test.scope)));
    test.scope.poll();
  });
  onEachWay([](IoTest& test, Way way, const Traits&) { // from it
    Throwing throwing;
    Promise<Chunk> read = way.input->tryReadChunk(); // who reads there may hear of it
    CHECK(!read.poll(test.scope));
    CHECK(isNoMore(failureOf(throwing.pumpTo(*way.output), test.scope)));
    test.scope.poll();
  });
}

TEST_CASE_FIXTURE(LoopTest, "a tee of a stream that throws in the call fails in both branches (R8)") {
  Tee tee = newTee(std::make_unique<Throwing>(), 10);
  for (const auto& branch : tee.branches) {
    CHECK(isNoMore(failureOf(branch->tryReadChunk(), scope)));
    CHECK(isNoMore(failureOf(branch->readAllText(10), scope)));
  }
}

TEST_CASE_FIXTURE(LoopTest, "what uses a stream that throws in the call fails with a promise (R8)") {
  Throwing throwing;
  ScriptedStream script;
  script.giveRead("abc");
  CHECK(isNoMore(failureOf(throwing.readAllText(10), scope)));
  CHECK(isNoMore(failureOf(throwing.pumpTo(script), scope)));
  CHECK(isNoMore(failureOf(script.pumpTo(throwing), scope)));
}

TEST_CASE("what the continuation of a read or a write throws rejects its promise, and the stream goes on (R8)") {
  onEachWay([](IoTest& test, Way way, const Traits&) {
    Promise<void> read = way.input->tryReadChunk(1).then([](Chunk) { throw noMore(); }).eagerlyEvaluate(nullptr);
    CHECK(!read.poll(test.scope));
    Promise<void> write = way.write("ab").then([] { throw noMore(); }).eagerlyEvaluate(nullptr);
    CHECK(isNoMore(failureOf(std::move(read), test.scope)));
    CHECK(way.input->tryReadChunk().wait(test.scope).text() == "b");
    CHECK(isNoMore(failureOf(std::move(write), test.scope)));
    write = way.write("c");
    CHECK(way.input->tryReadChunk().wait(test.scope).text() == "c");
    std::move(write).wait(test.scope);
  });
}
