// SPDX-License-Identifier: MIT
// Every kind of stream that there is, for the tests that hold them all to one contract.
#pragma once

#include "peer.h"

#include <troth/io/stream.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace troth::test {

/// One direction: what is written to `output` is read from `input`.
struct Way {
  std::unique_ptr<AsyncInputStream> input;
  std::unique_ptr<AsyncOutputStream> output;
  std::vector<std::unique_ptr<AsyncInputStream>> others; ///< further readers that the kind has, which nobody reads

  /// Writes `text`, and sends what the stream would gather otherwise.
  Promise<void> write(std::string_view text);
};

/// How a writer learns that its reader has gone.
enum class Learns { BY_WAITING, BY_WRITING, NEVER };

/// What is not the same for all kinds.
struct Traits {
  bool ends = true;                     ///< destroying one end ends the stream for the other one, in order
  Learns learns = Learns::BY_WAITING;
  std::size_t much = 1 << 20;           ///< so many bytes are not under way without a reader
  void (*breakOff)(Way& way) = nullptr; ///< destroys the output in a way that the reader must not take for an end
  bool tellsAbort = false;              ///< the reader is told of abortWrite(), when the output is destroyed or before
};

struct PairKind {
  const char* name;
  StreamPair (*make)(IoTest& test);
  Traits traits;
};

struct WayKind {
  std::string name;
  /// No more than `length` bytes are going to be written.
  std::function<Way(IoTest& test, std::uint64_t length)> make;
  Traits traits;
};

/// A stream that begins with a text that is there already, and ends after it.
struct Source {
  std::unique_ptr<AsyncInputStream> input;
  Promise<void> sending = READY_NOW; ///< where somebody has to send it
};

struct SourceKind {
  std::string name;
  std::function<Source(IoTest& test, std::string_view text)> make;
};

/// A stream to write to, and where that has gone.
struct Sink {
  std::unique_ptr<AsyncOutputStream> output;
  std::function<Promise<std::string>()> contents; ///< to be called once, when the output has gone
};

struct SinkKind {
  std::string name;
  std::function<Sink(IoTest& test)> make;
};

/// A stream of the library that works on another one: makes `way.input`, or `way.output`, one that works on what was
/// there. No more than `length` bytes are going to be read.
struct Layer {
  const char* name;
  void (*put)(Way& way, std::uint64_t length);
};

const std::vector<Layer>& inputLayers();
const std::vector<Layer>& outputLayers();
const std::vector<PairKind>& pairKinds();       ///< all with two ends that read and write
const std::vector<WayKind>& wayKinds();         ///< these, and all that go one way
const std::vector<SourceKind>& sourceKinds();   ///< all that can be read to an end: ways, files, a script
const std::vector<SinkKind>& sinkKinds();       ///< all that can be written: ways, files

/// Runs `body` on each kind, with a loop of its own.
void onEachPair(const std::function<void(IoTest& test, StreamPair pair, const Traits& traits)>& body);
void onEachWay(const std::function<void(IoTest& test, Way way, const Traits& traits)>& body,
               std::uint64_t length = ALL_BYTES);
void onEachSource(std::string_view text, const std::function<void(IoTest& test, Source source)>& body);
void onEachSink(const std::function<void(IoTest& test, Sink sink)>& body);

/// Runs the loop until `promise` is ready, which it must become.
template <typename T>
void untilReady(IoTest& test, Promise<T>& promise) {
  for (int i = 0; !promise.poll(test.scope); ++i) {
    REQUIRE_MESSAGE(i < 10'000, "the promise does not become ready");
    test.step();
  }
}

/// Writes numbered bytes in pieces of pseudo-random size, and sends what was gathered.
Promise<void> sendNumbered(AsyncOutputStream& output, std::size_t count, std::size_t most, unsigned seed);
/// Reads `count` numbered bytes, by reads of all sorts.
Promise<void> receiveNumbered(AsyncInputStream& input, std::size_t count, std::size_t most, unsigned seed);
/// Reads `count` numbered bytes, giving up and asking again all the time: each read races a wait of some turns.
Promise<void> receiveImpatiently(AsyncInputStream& input, std::size_t count, unsigned seed, std::size_t& givenUp);
/// Checks that the stream is at its end.
Promise<void> expectEnd(AsyncInputStream& input);

} // namespace troth::test
