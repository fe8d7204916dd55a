// SPDX-License-Identifier: MIT
// A fuzz target (libFuzzer): pipes, pumps and a tee under a random schedule, against a simple model of the bytes.
//
// Bytes are written into the first of some pipes; pumps, begun and cancelled at random, carry them from each pipe to
// the next; the last one is read directly or by the branches of a tee. The input says what happens next: a write, a
// read, a pump, a cancellation, some turns of the loop, an end. The model says what may be read: all bytes in their
// order, but that of a write or a pump which was cancelled in the middle some may be missing. A cancelled read loses
// nothing.
#include <troth/io/pipe.h>
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

/// What was written, numbered from 0 on: the number is in the bytes, so that it is seen what is missing.
/// Each byte of the stream is one of a sequence of period 251; at most 200 bytes may go missing at a time.
class Writer {
public:
  std::string make(std::size_t count) {
    std::string bytes(count, '\0');
    for (char& byte : bytes) byte = static_cast<char>(next_++ % 251);
    return bytes;
  }
  std::uint64_t written() const { return next_; }

private:
  std::uint64_t next_ = 0;
};

/// Reads from one stream and follows the numbers.
class Reader {
public:
  Reader(std::unique_ptr<AsyncInputStream> stream, const bool& mayMiss)
      : stream_(std::move(stream)), mayMiss_(mayMiss) {}

  bool isThere() const { return stream_ != nullptr; }
  AsyncInputStream& stream() { return *stream_; }
  std::unique_ptr<AsyncInputStream> release() { return std::move(stream_); }
  bool isReading() const { return span_.has_value() || chunk_.has_value(); }
  bool hasEnded() const { return ended_; }
  std::uint64_t position() const { return position_; }

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

  void takeIfReady(WaitScope& scope, bool mayFail) {
    try {
      if (span_ && span_->poll(scope)) {
        Promise<std::size_t> promise = std::move(*span_);
        span_.reset();
        const std::size_t got = std::move(promise).wait(scope);
        require(got <= buffer_.size(), "more than fits");
        follow(std::string_view(buffer_).substr(0, got));
        if (got < minBytes_) ended_ = true;
      } else if (chunk_ && chunk_->poll(scope)) {
        Promise<Chunk> promise = std::move(*chunk_);
        chunk_.reset();
        const Chunk chunk = std::move(promise).wait(scope);
        follow(chunk.text());
        if (chunk.empty()) ended_ = true;
      }
    } catch (const Exception& e) {
      require(mayFail && e.kind() == Exception::Kind::DISCONNECTED, e.what());
      failed_ = true;
    }
  }
  bool hasFailed() const { return failed_; }

  void destroyStream() { stream_.reset(); }

private:
  std::unique_ptr<AsyncInputStream> stream_;
  const bool& mayMiss_;
  std::string buffer_;
  std::size_t minBytes_ = 0;
  std::optional<Promise<std::size_t>> span_;
  std::optional<Promise<Chunk>> chunk_;
  std::uint64_t position_ = 0;
  bool ended_ = false;
  bool failed_ = false;

  void follow(std::string_view bytes) {
    require(bytes.empty() || !ended_, "bytes after the end");
    for (const char byte : bytes) {
      if (mayMiss_)
        while (static_cast<char>(position_ % 251) != byte) ++position_;
      require(static_cast<char>(position_ % 251) == byte, "a wrong byte, or one is missing");
      ++position_;
    }
  }
};

constexpr std::size_t PIPES = 3;

struct Schedule {
  explicit Schedule(std::span<const std::uint8_t> bytes) : choices(bytes) {
    for (OneWayPipe& pipe : pipes) pipe = newOneWayPipe();
    // The last pipe is read directly, or by a tee.
    if (choices.next(2) == 0) {
      readers.emplace_back(std::move(pipes[PIPES - 1].input), mayMiss);
    } else {
      Tee tee = newTee(std::move(pipes[PIPES - 1].input), 1 + choices.next(20));
      readers.emplace_back(std::move(tee.branches[0]), mayMiss);
      readers.emplace_back(std::move(tee.branches[1]), mayMiss);
    }
  }

  EventLoop loop;
  WaitScope scope{loop};
  Choices choices;
  bool mayMiss = false; // something was cancelled that loses bytes
  bool mayFail = false; // an end was destroyed
  Writer writer;
  std::string writing; // the memory of the write
  OneWayPipe pipes[PIPES];
  std::optional<Promise<void>> write;
  std::optional<Promise<std::uint64_t>> pumps[PIPES - 1];
  std::deque<Reader> readers;

  void step() {
    switch (choices.next(12)) {
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
      for (Reader& reader : readers) reader.takeIfReady(scope, mayFail);
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
    }
  }

  void beginWrite() {
    if (write || pipes[0].output == nullptr) return;
    writing = writer.make(1 + choices.next(30));
    const std::size_t cut = choices.next(writing.size() + 1);
    const std::span<const std::byte> bytes = asBytes(writing);
    const std::span<const std::byte> pieces[] = {bytes.first(cut), bytes.subspan(cut)};
    write = choices.next(2) == 0 ? pipes[0].output->write(bytes) : pipes[0].output->write(pieces);
  }

  void cancelWrite() {
    if (!write) return;
    write.reset();
    writing = std::string();
    mayMiss = true;
  }

  void beginRead(Reader& reader) {
    if (!reader.isThere() || reader.isReading()) return;
    const std::size_t size = 1 + choices.next(40);
    if (choices.next(2) == 0)
      reader.beginSpan(size, 1 + choices.next(size));
    else
      reader.beginChunk(size);
  }

  void beginPump(std::size_t i) {
    if (pumps[i] || pipes[i].input == nullptr || pipes[i + 1].output == nullptr) return;
    const std::uint64_t amount = choices.next(3) == 0 ? 1 + choices.next(50) : ALL_BYTES;
    switch (choices.next(3)) {
    case 0:
      pumps[i] = pipes[i].input->pumpTo(*pipes[i + 1].output, amount);
      break;
    case 1:
      pumps[i] = *pipes[i + 1].output->tryPumpFrom(*pipes[i].input, amount);
      break;
    case 2:
      pumps[i] = pumpByBuffer(*pipes[i].input, *pipes[i + 1].output, amount);
      break;
    }
  }

  void cancelPump(std::size_t i) {
    if (!pumps[i]) return;
    pumps[i].reset();
    mayMiss = mayFail = true; // a write that it carried fails
  }

  void destroySomething() {
    if (choices.next(4) != 0) return; // not too early
    mayFail = mayMiss = true;
    switch (choices.next(4)) {
    case 0:
      pipes[choices.next(PIPES)].output.reset();
      break;
    case 1:
      pipes[choices.next(PIPES - 1)].input.reset();
      break;
    case 2:
      readers[choices.next(readers.size())].destroyStream();
      break;
    case 3:
      if (const std::size_t i = choices.next(PIPES - 1); pumps[i]) pumps[i].reset();
      break;
    }
  }

  /// Takes what has ended.
  void settle() {
    try {
      if (write && write->poll(scope)) {
        Promise<void> done = std::move(*write);
        write.reset();
        std::move(done).wait(scope);
      }
    } catch (const Exception& e) {
      require(mayFail && e.kind() == Exception::Kind::DISCONNECTED, e.what());
    }
    for (auto& pump : pumps) {
      try {
        if (!pump || !pump->poll(scope)) continue;
        Promise<std::uint64_t> done = std::move(*pump);
        pump.reset();
        std::move(done).wait(scope);
      } catch (const Exception& e) {
        require(mayFail && e.kind() == Exception::Kind::DISCONNECTED, e.what());
      }
    }
  }

  /// If nothing was cancelled that loses bytes, all of them arrive in the end.
  void finish() {
    if (mayMiss || mayFail) return;
    for (int round = 0; round < 100'000; ++round) {
      settle();
      if (!write) pipes[0].output.reset();
      for (std::size_t i = 0; i + 1 < PIPES; ++i) {
        const bool over = i == 0 ? pipes[0].output == nullptr : pipes[i].output == nullptr;
        if (pumps[i]) continue;
        if (over && pumpedOut[i]) {
          pipes[i + 1].output.reset();
        } else {
          pumps[i] = pipes[i].input->pumpTo(*pipes[i + 1].output);
          pumpedOut[i] = true;
        }
      }
      bool all = true;
      for (Reader& reader : readers) {
        if (!reader.hasEnded() && !reader.isReading()) reader.beginChunk(7);
        reader.takeIfReady(scope, false);
        all = all && reader.hasEnded();
      }
      if (all) break;
    }
    for (const Reader& reader : readers) {
      require(reader.hasEnded(), "a reader has not come to the end");
      require(reader.position() == writer.written(), "not all bytes have arrived");
    }
  }
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
