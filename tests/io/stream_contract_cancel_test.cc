// SPDX-License-Identifier: MIT
// What the contract of streams says of cancellation, on every kind of stream: nothing is lost, nothing is touched.
#include "stream_kinds.h"

#include <troth/io/limited.h>
#include <troth/io/pipe.h>
#include <troth/runtime/join.h>
#include <troth/runtime/uv/uv_event_port.h>
#include <troth/timers/manual_timer.h>

#include <chrono>
#include <memory>
#include <string>

using namespace troth;
using namespace troth::test;
using namespace std::chrono_literals;

namespace {

using Kind = Exception::Kind;

/// `cancelSweep` of a body on each kind of a table.
template <typename Table, typename Body>
void sweepEach(const Table& table, Body body) {
  for (const auto& kind : table) {
    CAPTURE(kind.name);
    CHECK(cancelSweep([&](IoTest& test) { return body(test, kind); }) > 1);
  }
}

} // namespace

// --------------------------------------------------------------------------------------- what had arrived

TEST_CASE("a cancelled read gives back what had arrived, whether it was enough or not (R5)") {
  onEachWay(
      [](IoTest& test, Way way, const Traits& traits) {
        std::string buffer(10, '.');
        {
          Promise<std::size_t> read = way.input->tryRead(bufferOf(buffer), 10); // gets a part
          way.write("abcd").wait(test.scope);
          CHECK(!read.poll(test.scope));
        }
        {
          Promise<std::size_t> read = way.input->tryRead(bufferOf(buffer).first(3), 3); // is ready
          untilReady(test, read);
        }
        {
          Promise<Chunk> read = way.input->tryReadChunk(2);
          untilReady(test, read);
        }
        {
          Promise<void> read = way.input->read(bufferOf(buffer).first(4));
          untilReady(test, read);
        }
        std::string one(1, '.');
        way.input->read(bufferOf(one)).wait(test.scope);
        CHECK(one == "a");
        Promise<void> write = way.write("efghij");
        std::string rest(9, '.');
        way.input->read(bufferOf(rest)).wait(test.scope);
        CHECK(rest == "bcdefghij");
        std::move(write).wait(test.scope);
        if (!traits.ends) return;
        way.output = nullptr;
        expectEnd(*way.input).wait(test.scope);
      },
      10);
}

TEST_CASE("what a cancelled read gave back is followed by the end, and comes first in a pump and in all else (R5)") {
  enum class Then { READ_ALL, PUMP, PART_OF_A_PUMP };
  for (const Then then : {Then::READ_ALL, Then::PUMP, Then::PART_OF_A_PUMP}) {
    CAPTURE(static_cast<int>(then));
    onEachSource("abcdef", [then](IoTest& test, Source source) {
      {
        Promise<Chunk> read = source.input->tryReadChunk(4);
        untilReady(test, read);
      }
      if (then == Then::READ_ALL) {
        CHECK(source.input->readAllText(6).wait(test.scope) == "abcdef");
        return;
      }
      OneWayPipe sink = newOneWayPipe();
      Promise<std::string> all = sink.input->readAllText(100).eagerlyEvaluate(nullptr);
      std::uint64_t count = then == Then::PUMP ? 0 : source.input->pumpTo(*sink.output, 2).wait(test.scope);
      count += source.input->pumpTo(*sink.output).wait(test.scope);
      CHECK(count == 6);
      sink.output = nullptr;
      CHECK(std::move(all).wait(test.scope) == "abcdef");
    });
  }
}

TEST_CASE("an end, or an error, whose read was cancelled is found by the next read (R5)") {
  onEachSource("", [](IoTest& test, Source source) {
    {
      Promise<Chunk> read = source.input->tryReadChunk();
      untilReady(test, read);
    }
    expectEnd(*source.input).wait(test.scope);
  });
  onEachWay([](IoTest& test, Way way, const Traits& traits) {
    if (traits.breakOff == nullptr) return;
    Promise<void> write = way.write("a"); // what is promised has come then
    std::string buffer(1, '.');
    way.input->read(bufferOf(buffer)).wait(test.scope);
    std::move(write).wait(test.scope);
    {
      Promise<Chunk> read = way.input->tryReadChunk();
      CHECK(!read.poll(test.scope));
      traits.breakOff(way);
      untilReady(test, read);
    }
    CHECK((failureOf(way.input->tryReadChunk(), test.scope).kind() == Kind::DISCONNECTED));
  });
}

// ----------------------------------------------------------------------------------------------- time-outs

TEST_CASE("a time-out in the same turn as the bytes costs none of them, whichever came first (R5)") {
  enum class First { BYTES, TIME };
  for (const First first : {First::BYTES, First::TIME}) {
    CAPTURE(static_cast<int>(first));
    int timeouts = 0;
    onEachWay([&](IoTest& test, Way way, const Traits&) {
      ManualTimer timer;
      std::size_t received = 0;
      for (std::size_t minBytes = 1; minBytes <= 12; ++minBytes) {
        CAPTURE(minBytes);
        const std::string text = numberedBytes(12, received);
        std::string buffer(12, '.');
        std::size_t got = 0;
        Promise<std::size_t> read = timer.timeoutAfter(1s, way.input->tryRead(bufferOf(buffer), minBytes));
        CHECK(!read.poll(test.scope));
        if (first == First::TIME) timer.advanceBy(1s);
        Promise<void> write = way.write(text);
        test.io.uvEventPort().poll();
        if (first == First::BYTES) timer.advanceBy(1s);
        try {
          got = std::move(read).wait(test.scope);
          CHECK(got >= minBytes);
        } catch (const Exception& e) {
          CHECK((e.kind() == Kind::OVERLOADED));
          ++timeouts;
        }
        way.input->read(bufferOf(buffer).subspan(got)).wait(test.scope);
        CHECK(buffer == text);
        received += text.size();
        std::move(write).wait(test.scope);
      }
    });
    CHECK(timeouts > 0);
  }
}

TEST_CASE("a read that is given up loses no byte, in whatever turn its bytes come (R5)") {
  std::size_t givenUp = 0;
  for (unsigned seed = 1; seed <= 10; ++seed) {
    CAPTURE(seed);
    onEachWay([&](IoTest& test, Way way, const Traits&) {
      joinPromisesFailFast(sendNumbered(*way.output, 500, 30, seed),
                           receiveImpatiently(*way.input, 500, seed, givenUp))
          .wait(test.scope);
    });
    onEachSource(numberedBytes(500), [&](IoTest& test, Source source) {
      receiveImpatiently(*source.input, 500, seed, givenUp).wait(test.scope);
      expectEnd(*source.input).wait(test.scope);
    });
  }
  CHECK(givenUp > 1000);
}

// ---------------------------------------------------------------------------------------- memory of others

TEST_CASE("a cancelled read does not touch its buffer again, which may be freed at once (R5, R9)") {
  onEachWay([](IoTest& test, Way way, const Traits&) {
    for (const bool begun : {false, true}) {
      CAPTURE(begun);
      Promise<void> write = READY_NOW;
      {
        auto buffer = std::make_unique<std::string>(100, '.');
        Promise<std::size_t> read = way.input->tryRead(bufferOf(*buffer), 100);
        if (begun) {
          write = way.write("ab");
          CHECK(!read.poll(test.scope));
        }
      }
      test.scope.poll();
      std::move(write).wait(test.scope);
      write = way.write(begun ? "cd" : "abcd");
      std::string text(4, '.');
      way.input->read(bufferOf(text)).wait(test.scope);
      CHECK(text == "abcd");
      std::move(write).wait(test.scope);
    }
  });
}

TEST_CASE("a cancelled write does not touch its bytes again; what arrives of them is their beginning (R5, R9)") {
  onEachWay([](IoTest& test, Way way, const Traits& traits) {
    const std::string expected = numberedBytes(traits.much);
    {
      auto data = std::make_unique<std::string>(expected);
      Promise<void> write = way.output->write(*data);
      CHECK(!write.poll(test.scope));
      std::string some(10, '.');
      way.input->read(bufferOf(some)).wait(test.scope);
      CHECK(!write.poll(test.scope));
    }
    std::string got;
    { // what is under way; AddressSanitizer sees who reads the rest
      Promise<void> reading = [](AsyncInputStream& input, std::string& text) -> Promise<void> {
        for (;;) {
          const Chunk chunk = co_await input.tryReadChunk();
          if (chunk.empty()) co_return;
          text += chunk.text();
        }
      }(*way.input, got)
                                              .eagerlyEvaluate(nullptr);
      for (int i = 0; i < 100; ++i) test.scope.poll();
      way.output = nullptr;
      for (int i = 0; i < 100; ++i) test.scope.poll();
    }
    CHECK(got.size() < expected.size() - 10);
    CHECK(areNumbered(got, 10));
  });
  for (int steps = 0; steps < 4; ++steps) {
    CAPTURE(steps);
    onEachSink([steps](IoTest& test, Sink sink) {
      auto data = std::make_unique<std::string>(1 << 20, 'x');
      {
        Promise<void> write = sink.output->write(*data);
        for (int i = 0; i < steps; ++i) test.io.uvEventPort().poll();
      }
      data.reset();
      sink.output = nullptr;
      for (int i = 0; i < 100; ++i) test.scope.poll();
    });
  }
}

// ------------------------------------------------------------------------------------------ at every step

TEST_CASE("a conversation can be cancelled at every step (R5)") {
  sweepEach(pairKinds(), [](IoTest& test, const PairKind& kind) {
    StreamPair pair = kind.make(test);
    AsyncIoStream& left = *pair.left;
    AsyncIoStream& right = *pair.right;
    return joinPromisesFailFast(sendNumbered(left, 100, 30, 1), receiveNumbered(right, 100, 30, 2),
                                sendNumbered(right, 100, 30, 3), receiveNumbered(left, 100, 30, 4))
        .ignoreResult()
        .attach(std::move(pair.left), std::move(pair.right));
  });
}

TEST_CASE("writing much, little by little, and reading to the end can be cancelled at every step (R5)") {
  sweepEach(wayKinds(), [](IoTest& test, const WayKind& kind) {
    return coCapture([way = kind.make(test, 100'000), ends = kind.traits.ends]() mutable -> Promise<void> {
      co_await joinPromisesFailFast(sendNumbered(*way.output, 100'000, 100'000, 1),
                                    receiveNumbered(*way.input, 100'000, 100'000, 2));
      way.output = nullptr;
      if (ends) co_await expectEnd(*way.input);
    })();
  });
}

TEST_CASE("a pump from each kind can be cancelled at every step (R5)") {
  sweepEach(wayKinds(), [](IoTest& test, const WayKind& kind) {
    return coCapture([way = kind.make(test, 100), sink = newOneWayPipe()]() mutable -> Promise<void> {
      co_await joinPromisesFailFast(sendNumbered(*way.output, 100, 30, 1),
                                    way.input->pumpTo(*sink.output, 100).ignoreResult(),
                                    receiveNumbered(*sink.input, 100, 30, 2));
    })();
  });
}

TEST_CASE("a pump to each kind can be cancelled at every step (R5)") {
  sweepEach(wayKinds(), [](IoTest& test, const WayKind& kind) {
    return coCapture([way = kind.make(test, 100), source = newOneWayPipe()]() mutable -> Promise<void> {
      Promise<void> pump = source.input->pumpTo(*way.output, 100).then([&](std::uint64_t) {
        return sendNumbered(*way.output, 0, 1, 1); // sends what was gathered
      });
      co_await joinPromisesFailFast(sendNumbered(*source.output, 100, 30, 1), std::move(pump),
                                    receiveNumbered(*way.input, 100, 30, 2));
    })();
  });
}

TEST_CASE("reading all of each kind, impatiently or at once, can be cancelled at every step (R5)") {
  static const std::string text = numberedBytes(100);
  sweepEach(sourceKinds(), [](IoTest& test, const SourceKind& kind) {
    return coCapture([source = kind.make(test, text)]() -> Promise<void> {
      std::size_t givenUp = 0;
      co_await receiveImpatiently(*source.input, 40, 1, givenUp);
      const std::string rest = co_await source.input->readAllText(60);
      CHECK(rest == text.substr(40));
    })();
  });
}

TEST_CASE("writing to each kind and closing it can be cancelled at every step (R5)") {
  sweepEach(sinkKinds(), [](IoTest& test, const SinkKind& kind) {
    return coCapture([sink = kind.make(test)]() mutable -> Promise<void> {
      co_await sendNumbered(*sink.output, 70'000, 70'000, 1);
      sink.output = nullptr;
      const std::string got = co_await sink.contents();
      CHECK(got.size() == 70'000);
    })();
  });
}

TEST_CASE("waiting for a reader to go can be cancelled at every step (R5)") {
  sweepEach(wayKinds(), [](IoTest& test, const WayKind& kind) {
    if (kind.traits.learns != Learns::BY_WAITING) return yield().then([] { return yield(); });
    return coCapture([way = kind.make(test, ALL_BYTES)]() mutable -> Promise<void> {
      Promise<void> told = way.output->whenWriteDisconnected().eagerlyEvaluate(nullptr);
      Promise<void> second = way.output->whenWriteDisconnected();
      for (int i = 0; i < 5; ++i) co_await yield();
      way.others.clear();
      way.input = nullptr;
      co_await std::move(told);
      co_await std::move(second);
    })();
  });
}
