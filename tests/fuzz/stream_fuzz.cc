// SPDX-License-Identifier: MIT
// A fuzz target (libFuzzer): pipes, pumps, tees and the streams that are made of others, under a random schedule,
// against a simple model of the bytes.
//
// Bytes are written into the first of some pipes; pumps, begun and cancelled at random, carry them from each pipe to
// the next; the last one is read directly or by the branches of a tee. Each end may be inside of another stream: a
// buffered, a promised, a limited one. The input says what happens next: a write, a read, a pump, a cancellation, some
// turns of the loop, an end; now or when a write completes, so from inside of the loop. The model says what may be
// read: all bytes in their order, but that of a write or a pump which was cancelled in the middle some may be missing,
// no more than there were. A cancelled read loses nothing.
#include <troth/io/buffered.h>
#include <troth/io/limited.h>
#include <troth/io/pipe.h>
#include <troth/io/promised_stream.h>
#include <troth/io/tee.h>
#include <troth/runtime/event_loop.h>
#include <troth/runtime/pool_detail.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

using namespace troth;

namespace {

void require(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "stream_fuzz: %s\n", what);
  std::abort();
}

/// The input, byte by byte; zeros after its end.
class Choices {
public:
  explicit Choices(std::span<const std::uint8_t> bytes) : bytes_(bytes) {}
  bool empty() const { return bytes_.empty(); }
  std::size_t next(std::size_t below) {
    if (bytes_.empty()) return 0;
    const std::size_t value = bytes_.front() % below;
    bytes_ = bytes_.subspan(1);
    return value;
  }

private:
  std::span<const std::uint8_t> bytes_;
};

constexpr std::size_t MOST_WRITTEN = 30; // in one write
constexpr std::size_t MOST_READ = 40;    // in one read
constexpr std::size_t MOST_CARRIED = 300; // by a pump: a write, and what was given back or buffered

/// What is known of the bytes. They are numbered from 0 on, and each tells its number, modulo 251.
struct Model {
  std::uint64_t written = 0;
  std::uint64_t mayMiss = 0;  // so many bytes may have been lost on the way
  bool mayFail = false;       // something was cancelled or destroyed that others notice
  bool mayEnd = false;        // the last pipe has been ended
  bool isBroken = false;      // an end has gone: not all has to arrive
  std::uint64_t limit = 0;    // after so many bytes the readers' stream ends; 0: with the last pipe

  /// Past the limit nobody reads, which whoever writes there is told.
  bool writersMayFail() const { return mayFail || (limit != 0 && written > limit); }

  static char at(std::uint64_t number) { return static_cast<char>(number % 251); }

  std::string make(std::size_t count) {
    std::string bytes(count, '\0');
    for (char& byte : bytes) byte = at(written++);
    return bytes;
  }
  /// A write of at most so many bytes, or what carries one, has been cut off.
  void miss(std::size_t count) {
    mayMiss += count;
    mayFail = true;
  }
};

/// Reads from one stream and follows the numbers.
class Reader {
public:
  Reader(std::unique_ptr<AsyncInputStream> stream, const Model& model) : stream_(std::move(stream)), model_(model) {}

  bool isThere() const { return stream_ != nullptr; }
  AsyncInputStream& stream() { return *stream_; }
  bool isReading() const { return span_.has_value() || chunk_.has_value(); }
  bool isOver() const { return ended_ || failed_; }
  bool hasFailed() const { return failed_; }
  std::uint64_t received() const { return received_; }

  void beginSpan(std::size_t size, std::size_t minBytes) {
    buffer_.assign(size, '\0');
    minBytes_ = minBytes;
    span_ = stream_->tryRead(std::as_writable_bytes(std::span(buffer_)), minBytes);
  }
  void beginChunk(std::size_t most) { chunk_ = stream_->tryReadChunk(most); }

  void cancel() {
    span_.reset();
    chunk_.reset();
    buffer_ = std::string(); // AddressSanitizer sees who still writes there
  }

  void takeIfReady(WaitScope& scope) {
    try {
      if (span_ && span_->poll(scope)) {
        Promise<std::size_t> promise = std::move(*span_);
        span_.reset();
        const std::size_t got = std::move(promise).wait(scope);
        require(got <= buffer_.size(), "more than fits");
        follow(std::string_view(buffer_).substr(0, got));
        if (got < minBytes_) end();
      } else if (chunk_ && chunk_->poll(scope)) {
        Promise<Chunk> promise = std::move(*chunk_);
        chunk_.reset();
        const Chunk chunk = std::move(promise).wait(scope);
        follow(chunk.text());
        if (chunk.empty()) end();
      }
    } catch (const Exception& e) {
      require(model_.mayFail && e.kind() == Exception::Kind::DISCONNECTED, e.what());
      failed_ = true;
    }
  }

  void destroyStream() { stream_.reset(); }

private:
  std::unique_ptr<AsyncInputStream> stream_;
  const Model& model_;
  std::string buffer_;
  std::size_t minBytes_ = 0;
  std::optional<Promise<std::size_t>> span_;
  std::optional<Promise<Chunk>> chunk_;
  std::uint64_t position_ = 0;
  std::uint64_t received_ = 0;
  std::uint64_t missed_ = 0;
  bool ended_ = false;
  bool failed_ = false;

  void follow(std::string_view bytes) {
    require(bytes.empty() || !ended_, "bytes after the end");
    received_ += bytes.size();
    require(model_.limit == 0 || received_ <= model_.limit, "bytes after the limit");
    for (const char byte : bytes) {
      for (; Model::at(position_) != byte; ++position_)
        require(missed_++ < model_.mayMiss, "a wrong byte, or one is missing");
      require(position_ < model_.written, "a byte that was not written");
      ++position_;
    }
  }
  void end() {
    require(model_.limit == 0 ? model_.mayEnd : received_ == model_.limit, "an end that nobody made");
    ended_ = true;
  }
};

constexpr std::size_t PIPES = 3;

struct Schedule {
  explicit Schedule(std::span<const std::uint8_t> bytes) : choices(bytes) {
    for (std::size_t i = 0; i < PIPES; ++i) {
      TwoWayPipe pipe = newTwoWayPipe();
      outputs[i] = wrapOutput(std::move(pipe.ends[0]));
      inputs[i] = wrapInput(std::move(pipe.ends[1]));
    }
    std::unique_ptr<AsyncInputStream> last = std::move(inputs[PIPES - 1]);
    if (choices.next(4) == 0) {
      model.limit = 1 + choices.next(100);
      last = newLimitedInputStream(std::move(last), model.limit);
    }
    // The last pipe is read directly, or by a tee, one branch of which may be split again.
    const std::size_t kind = choices.next(3);
    if (kind == 0) {
      readers.emplace_back(std::move(last), model);
      return;
    }
    const std::size_t limit = 1 + choices.next(20);
    Tee tee = newTee(std::move(last), limit);
    readers.emplace_back(std::move(tee.branches[0]), model);
    if (kind == 2) {
      tee = newTee(std::move(tee.branches[1]), choices.next(2) == 0 ? limit : 1 + choices.next(20));
      readers.emplace_back(std::move(tee.branches[0]), model);
    }
    readers.emplace_back(std::move(tee.branches[1]), model);
  }

  EventLoop loop;
  WaitScope scope{loop};
  Choices choices;
  Model model;
  std::string writing; // the memory of the write
  bool isPolling = false;
  std::vector<std::unique_ptr<PromiseFulfiller<void>>> gates; // that promised streams wait for
  std::unique_ptr<AsyncIoStream> outputs[PIPES];
  std::unique_ptr<AsyncInputStream> inputs[PIPES];
  std::optional<Promise<void>> write;
  std::optional<Promise<std::uint64_t>> pumps[PIPES - 1];
  std::deque<Reader> readers;
  /// Reads between the pumps, of which nobody takes the result: all that they get is given back.
  struct Nibble {
    std::string buffer;
    Promise<std::size_t> read;
  };
  std::optional<Nibble> nibbles[PIPES - 1];

  Promise<void> gate() {
    auto pair = newPromiseAndFulfiller<void>();
    gates.push_back(std::move(pair.fulfiller));
    return std::move(pair.promise);
  }

  std::unique_ptr<AsyncIoStream> wrapOutput(std::unique_ptr<AsyncIoStream> stream) {
    if (choices.next(4) != 0) return stream;
    return newPromisedStream(gate().then([stream = std::move(stream)]() mutable { return std::move(stream); }));
  }

  std::unique_ptr<AsyncInputStream> wrapInput(std::unique_ptr<AsyncIoStream> stream) {
    switch (choices.next(4)) {
    case 0:
      return std::make_unique<BufferedInputStream>(std::move(stream), 1 + choices.next(50));
    case 1:
      return newPromisedStream(gate().then(
          [stream = std::move(stream)]() mutable -> std::unique_ptr<AsyncInputStream> { return std::move(stream); }));
    default:
      return stream;
    }
  }

  void step() {
    switch (choices.next(15)) {
    case 0:
    case 1:
      return beginWrite();
    case 2:
      return cancelWrite();
    case 3:
    case 4:
      return beginRead(readers[choices.next(readers.size())]);
    case 5:
      return readers[choices.next(readers.size())].cancel();
    case 6:
      return settle();
    case 7:
    case 8:
      loop.run(1 + choices.next(4));
      return settle();
    case 9:
      return beginPump(choices.next(PIPES - 1));
    case 10:
      return cancelPump(choices.next(PIPES - 1));
    case 11:
      return destroySomething();
    case 12:
      if (!gates.empty()) openGate();
      return;
    case 13:
      return endWriting(choices.next(PIPES));
    case 14:
      return nibble(choices.next(PIPES - 1));
    }
  }

  void openGate() {
    gates.back()->fulfill();
    gates.pop_back();
  }

  void beginWrite() {
    if (write || outputs[0] == nullptr || hasEnded[0]) return;
    writing = model.make(1 + choices.next(MOST_WRITTEN));
    const std::size_t cut = choices.next(writing.size() + 1);
    const std::span<const std::byte> bytes = asBytes(writing);
    const std::span<const std::byte> pieces[] = {bytes.first(cut), bytes.subspan(cut)};
    Promise<void> promise = choices.next(2) == 0 ? outputs[0]->write(bytes) : outputs[0]->write(pieces);
    if (choices.next(4) == 0) {
      // Something happens as soon as the write is done, in the middle of the loop's turns.
      const std::size_t kind = choices.next(5);
      const std::size_t which = choices.next(6);
      promise = std::move(promise).then([this, kind, which] { actInside(kind, which); }).eagerlyEvaluate(nullptr);
    }
    write = std::move(promise);
  }

  void actInside(std::size_t kind, std::size_t which) {
    if (isPolling) return; // it might be for what this would destroy
    switch (kind) {
    case 0:
      return readers[which % readers.size()].cancel();
    case 1:
      return cancelPump(which % (PIPES - 1));
    case 2:
      return destroyOutput(1 + which % (PIPES - 1));
    case 3:
      return destroyInput(which % (PIPES - 1));
    case 4:
      model.mayFail = model.isBroken = true;
      return readers[which % readers.size()].destroyStream();
    }
  }

  void nibble(std::size_t i) {
    if (nibbles[i]) return nibbles[i].reset();
    if (pumps[i] || inputs[i] == nullptr) return;
    std::string buffer(3 * MOST_READ, '.');
    const std::span<std::byte> space = std::as_writable_bytes(std::span(buffer));
    Promise<std::size_t> read = inputs[i]->tryRead(space, 1 + choices.next(space.size()));
    nibbles[i].emplace(Nibble{std::move(buffer), std::move(read)});
  }

  void cancelWrite() {
    if (!write) return;
    write.reset();
    model.miss(writing.size());
    writing = std::string();
  }

  void beginRead(Reader& reader) {
    if (!reader.isThere() || reader.isReading()) return;
    const std::size_t size = 1 + choices.next(MOST_READ);
    if (choices.next(2) == 0)
      reader.beginSpan(size, 1 + choices.next(size));
    else
      reader.beginChunk(size);
  }

  void beginPump(std::size_t i) {
    nibbles[i].reset();
    if (pumps[i] || inputs[i] == nullptr || outputs[i + 1] == nullptr || hasEnded[i + 1]) return;
    const std::uint64_t amount = choices.next(3) == 0 ? 1 + choices.next(50) : ALL_BYTES;
    switch (choices.next(3)) {
    case 0:
      pumps[i] = inputs[i]->pumpTo(*outputs[i + 1], amount);
      break;
    case 1:
      pumps[i] = *outputs[i + 1]->tryPumpFrom(*inputs[i], amount);
      break;
    case 2:
      pumps[i] = pumpByBuffer(*inputs[i], *outputs[i + 1], amount);
      break;
    }
  }

  /// What a pump that goes may have been carrying: a write, or what was given back, or what was buffered.
  void cancelPump(std::size_t i) {
    if (!pumps[i]) return;
    pumps[i].reset();
    model.miss(MOST_CARRIED);
  }

  void endWriting(std::size_t i) {
    if (outputs[i] == nullptr || hasEnded[i] || choices.next(4) != 0) return;
    if (i == 0 ? write.has_value() : pumps[i - 1].has_value()) return;
    outputs[i]->shutdownWrite();
    hasEnded[i] = true;
    model.mayFail = model.isBroken = true; // to what is limited it is too early
    if (i == PIPES - 1) model.mayEnd = true;
  }

  void destroyOutput(std::size_t i) {
    model.isBroken = true;
    model.miss(MOST_CARRIED);
    if (i == PIPES - 1) model.mayEnd = true;
    outputs[i].reset();
  }
  void destroyInput(std::size_t i) {
    model.isBroken = true;
    model.miss(MOST_CARRIED);
    inputs[i].reset();
  }

  void destroySomething() {
    if (choices.next(4) != 0) return; // not too early
    switch (choices.next(4)) {
    case 0:
      return destroyOutput(choices.next(PIPES));
    case 1:
      return destroyInput(choices.next(PIPES - 1));
    case 2:
      model.mayFail = model.isBroken = true;
      return readers[choices.next(readers.size())].destroyStream();
    case 3:
      // The direction that nobody uses: without effect on the other.
      if (const std::size_t i = choices.next(PIPES); outputs[i] != nullptr) outputs[i]->abortRead();
      return;
    }
  }

  /// Takes what has ended.
  void settle() {
    const bool wasPolling = std::exchange(isPolling, true);
    for (Reader& reader : readers) reader.takeIfReady(scope);
    settleWriters();
    isPolling = wasPolling;
  }
  void settleWriters() {
    try {
      if (write && write->poll(scope)) {
        Promise<void> done = std::move(*write);
        write.reset();
        std::move(done).wait(scope);
      }
    } catch (const Exception& e) {
      require(model.writersMayFail() && e.kind() == Exception::Kind::DISCONNECTED, e.what());
      model.miss(writing.size());
    }
    for (auto& pump : pumps) {
      try {
        if (!pump || !pump->poll(scope)) continue;
        Promise<std::uint64_t> done = std::move(*pump);
        pump.reset();
        std::move(done).wait(scope);
      } catch (const Exception& e) {
        require(model.writersMayFail() && e.kind() == Exception::Kind::DISCONNECTED, e.what());
      }
    }
  }

  /// What was not lost arrives in the end.
  void finish() {
    while (!gates.empty()) openGate();
    for (auto& nibble : nibbles) nibble.reset();
    isPolling = true; // nothing more happens by itself
    if (model.isBroken || model.limit != 0) return;
    for (int round = 0; round < 100'000; ++round) {
      settle();
      if (!write) outputs[0].reset();
      for (std::size_t i = 0; i + 1 < PIPES; ++i) {
        if (pumps[i]) continue;
        if (outputs[i] == nullptr && pumpedOut[i]) {
          if (i + 1 == PIPES - 1) model.mayEnd = true;
          outputs[i + 1].reset();
        } else {
          pumps[i] = inputs[i]->pumpTo(*outputs[i + 1]);
          pumpedOut[i] = true;
        }
      }
      bool all = true;
      for (Reader& reader : readers) {
        if (!reader.isOver() && !reader.isReading()) reader.beginChunk(7);
        all = all && reader.isOver();
      }
      if (all) break;
    }
    for (const Reader& reader : readers) {
      if (reader.hasFailed()) continue;
      require(reader.isOver(), "a reader has not come to the end");
      require(reader.received() + model.mayMiss >= model.written, "not all bytes have arrived");
    }
  }
  bool hasEnded[PIPES] = {};
  bool pumpedOut[PIPES - 1] = {};
};

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::int64_t blocks = detail::liveBlocks();
  {
    Schedule schedule({data, size});
    for (int steps = 0; !schedule.choices.empty() && steps < 2000; ++steps) schedule.step();
    schedule.finish();
  }
  require(detail::liveBlocks() == blocks, "something was left alive");
  return 0;
}
