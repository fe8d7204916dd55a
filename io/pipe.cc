// SPDX-License-Identifier: MIT
// The pipe in memory: who writes and who reads meet, and the bytes go straight from the one to the other.
//
// There are two ways to give bytes (a write, from memory; a pump from a stream) and two ways to take them (a read, into
// memory; a pump to a stream). Each end has at most one of its two pending, and whoever comes waits until there is
// one on the other end. Then
//
//   a write   and a read       are done on the spot, by memcpy;
//   a write   and a pump       by output.write(),
//   a pump    and a read       by input.tryRead(),
//   a pump    and a pump       by input.pumpTo(output): the pipe is no longer in the way.
//
// The last three take time: a coroutine (transfer) does them, one after the other, as long as both sides have somebody.
// It belongs to the state. Whoever is cancelled in the middle destroys it first, and so no stream works on memory, or
// for somebody, that has gone. Before all that it gives a pump what cancelled reads gave back: no writer waits for
// these bytes, and none that goes takes them along.
#include <troth/io/pipe.h>

#include <troth/io/given_back_detail.h>
#include <troth/io/limited.h>
#include <troth/io/operation_detail.h>
#include <troth/io/read_op_detail.h>
#include <troth/io/stream_watch_detail.h>
#include <troth/io/write_op_detail.h>
#include <troth/runtime/pool_detail.h>

#include <algorithm>
#include <array>
#include <vector>

namespace troth {
inline namespace v0 {
namespace {

using detail::Pieces;
using detail::Ref;
using detail::ResultBase;

class PipeState;

/// A pump that waits for somebody on the other end: from `input`, or to `output`.
class PumpOp final : public detail::SourceNode {
public:
  PumpOp(PipeState& state, AsyncInputStream& from, std::uint64_t amount, std::source_location where) noexcept;
  PumpOp(PipeState& state, AsyncOutputStream& to, std::uint64_t amount, std::source_location where) noexcept;

  AsyncInputStream& input() const {
    watch_.require(where());
    return *input_;
  }
  AsyncOutputStream& output() const {
    watch_.require(where());
    return *output_;
  }

  std::uint64_t left() const noexcept { return amount_ - done_; }
  std::optional<std::uint64_t> undelivered() const noexcept {
    return watch_.isThere() ? output_->tryGetUndelivered() : std::nullopt;
  }
  void advance(std::uint64_t count) noexcept { done_ += count; }
  void complete() noexcept {
    result_.value.emplace(done_);
    setReady();
  }
  void fail(const Exception& exception) noexcept { setFailed(result_, exception); }
  ResultBase& get(ResultBase*) noexcept override { return result_; }
  void destroy() noexcept override;
  const char* name() const noexcept override { return "pump"; }

private:
  Ref<PipeState> state_;
  AsyncInputStream* input_ = nullptr;
  AsyncOutputStream* output_ = nullptr;
  detail::StreamWatch watch_;
  std::uint64_t amount_;
  std::uint64_t done_ = 0;
  detail::Result<std::uint64_t> result_;
};

Exception disconnected(const char* what, std::source_location where) noexcept {
  return Exception(Exception::Kind::DISCONNECTED, what, {}, where);
}

/// What both ends share. It goes with the last of them and of their operations.
class PipeState final : public detail::Counted, public detail::Pooled {
public:
  PipeState() noexcept : readOp_(*this) {}

  // For the end that reads.
  Promise<std::size_t> tryRead(std::span<std::byte> buffer, std::size_t minBytes, std::source_location where);
  Promise<Chunk> tryReadChunk(std::size_t maxBytes, std::source_location where);
  Promise<std::uint64_t> pumpTo(AsyncOutputStream& output, std::uint64_t amount, std::source_location where);
  void abortRead(const char* why) noexcept;

  // For the end that writes.
  Promise<void> write(std::span<const std::span<const std::byte>> pieces, std::source_location where);
  Promise<std::uint64_t> pumpFrom(AsyncInputStream& input, std::uint64_t amount, std::source_location where);
  void shutdownWrite(std::source_location where);
  void abortWrite() noexcept;
  void closeWrite() noexcept;
  std::optional<std::uint64_t> tryGetUndelivered() const noexcept;
  Promise<void> whenWriteDisconnected(std::source_location where) {
    if (aborted_ != nullptr) return READY_NOW;
    return disconnecting_.sleep(where);
  }

private:
  friend class detail::ReadOp<PipeState>;
  using WriteOp = detail::WriteOp<PipeState>;
  friend WriteOp;
  friend class PumpOp;

  bool writeEnded_ = false;         // nothing more will be written
  bool transferring_ = false;       // transfer_ is at work
  bool isStarting_ = false;         // … and has not suspended yet, so that transfer_ is not its promise
  bool isGivingBack_ = false;       // … on bytes that were given back, which no writer waits for
  const char* truncated_ = nullptr; // why nothing more will be written, if something was cut off
  const char* aborted_ = nullptr;   // why nothing will be read any more
  detail::GivenBack givenBack_;
  detail::ReadOp<PipeState> readOp_;
  WriteOp* writer_ = nullptr;
  PumpOp* source_ = nullptr; // a pump from a stream to this pipe
  PumpOp* sink_ = nullptr;   // a pump from this pipe to a stream
  detail::Sleepers disconnecting_;
  Promise<void> transfer_ = NEVER_DONE; // last, so it goes first

  void requireNoReader(const char* operation, std::source_location where) const;
  void requireNoWriter(const char* operation, std::source_location where) const;
  void startRead() noexcept;
  void endReaders() noexcept;
  void failReaders(const char* why) noexcept;
  void failWriters(const char* why) noexcept;
  void cutOff(const char* why, const char* writersWhy) noexcept;
  void failAll(const Exception& exception) noexcept;
  static void failPump(PumpOp*& pump, const Exception& exception) noexcept;

  bool mustTransfer() const noexcept;
  void meet() noexcept;
  void copy() noexcept;
  Promise<void> transfer();
  Promise<void> findEnd();
  void beginFindEnd() noexcept;
  bool stopTransfer() noexcept;
  bool stopTransferOfWriter() noexcept;

  void giveBack(std::span<const std::byte> bytes) noexcept {
    if (!givenBack_.putBack(bytes)) abortRead("there was no memory for the bytes that a cancelled read gave back");
  }
  void readCancelled() noexcept { stopTransfer(); }
  void writeCancelled(WriteOp& op) noexcept;
  void pumpCancelled(PumpOp* pump) noexcept;
};

// --------------------------------------------------------------------------------------------- operations

PumpOp::PumpOp(PipeState& state, AsyncInputStream& from, std::uint64_t amount, std::source_location where) noexcept
    : SourceNode(where), state_(state), input_(&from), watch_(from), amount_(amount) {}

PumpOp::PumpOp(PipeState& state, AsyncOutputStream& to, std::uint64_t amount, std::source_location where) noexcept
    : SourceNode(where), state_(state), output_(&to), watch_(to), amount_(amount) {}

void PumpOp::destroy() noexcept {
  requireThreadToGo();
  if (state_->source_ == this || state_->sink_ == this) state_->pumpCancelled(this);
  detail::NodeAccess::destroy(this);
}

// ------------------------------------------------------------------------------------------------ reading

void PipeState::requireNoReader(const char* operation, std::source_location where) const {
  if (readOp_.isFree() && sink_ == nullptr) return;
  detail::throwMisuse(std::string(operation) +
                          ": another read or pump of this stream is pending, or its result has not been taken",
                      where);
}

Promise<std::size_t> PipeState::tryRead(std::span<std::byte> buffer, std::size_t minBytes, std::source_location where) {
  requireNoReader("tryRead", where);
  detail::requireReadable(buffer, minBytes, where);
  readOp_.beginSpan(buffer, minBytes, where);
  Promise<std::size_t> promise = readOp_.promise<std::size_t>();
  startRead();
  return promise;
}

Promise<Chunk> PipeState::tryReadChunk(std::size_t maxBytes, std::source_location where) {
  requireNoReader("tryReadChunk", where);
  readOp_.beginChunk(detail::chunkSize(maxBytes, where), where);
  Promise<Chunk> promise = readOp_.promise<Chunk>();
  startRead();
  return promise;
}

void PipeState::startRead() noexcept {
  if (aborted_ != nullptr) return readOp_.failed(disconnected(aborted_, readOp_.where()));
  if (!givenBack_.empty()) {
    givenBack_.drop(readOp_.take(givenBack_.bytes()));
    if (readOp_.isReady()) return;
  }
  meet();
  if (writeEnded_) endReaders();
}

Promise<std::uint64_t> PipeState::pumpTo(AsyncOutputStream& output, std::uint64_t amount, std::source_location where) {
  requireNoReader("pumpTo", where);
  if (aborted_ != nullptr) return Promise<std::uint64_t>(disconnected(aborted_, where), where);
  if (amount == 0) return std::uint64_t(0);
  sink_ = detail::NodeAccess::makeAlone<PumpOp>(*this, output, amount, where);
  Promise<std::uint64_t> promise = detail::PromiseAccess::wrap<std::uint64_t>(sink_);
  meet();
  if (writeEnded_) endReaders();
  return promise;
}

// Nothing more will come.
void PipeState::endReaders() noexcept {
  if (transferring_) return; // it does so itself
  if (truncated_ != nullptr) return failReaders(truncated_);
  if (readOp_.isPending()) readOp_.ended();
  if (sink_ != nullptr) std::exchange(sink_, nullptr)->complete();
}

void PipeState::failReaders(const char* why) noexcept {
  if (readOp_.isPending()) readOp_.failed(disconnected(why, readOp_.where()));
  if (sink_ != nullptr) failPump(sink_, disconnected(why, sink_->where()));
}

void PipeState::abortRead(const char* why) noexcept {
  if (aborted_ != nullptr) return;
  aborted_ = why;
  givenBack_.clear();
  const bool wasPumpingThrough = stopTransferOfWriter() && sink_ != nullptr;
  stopTransfer();
  failReaders(why);
  if (source_ != nullptr && !wasPumpingThrough)
    beginFindEnd();
  else
    failWriters(why);
  disconnecting_.wake();
}

// ------------------------------------------------------------------------------------------------ writing

void PipeState::requireNoWriter(const char* operation, std::source_location where) const {
  if (writer_ != nullptr || source_ != nullptr)
    detail::throwMisuse(std::string(operation) + ": another write or pump to this stream is pending", where);
  if (writeEnded_ && truncated_ == nullptr)
    detail::throwMisuse(std::string(operation) + ": the stream was shut down for writing", where);
}

Promise<void> PipeState::write(std::span<const std::span<const std::byte>> pieces, std::source_location where) {
  requireNoWriter("write", where);
  if (truncated_ != nullptr) return Promise<void>(disconnected(truncated_, where), where);
  if (aborted_ != nullptr) return Promise<void>(disconnected(aborted_, where), where);
  Pieces bytes(pieces);
  if (bytes.empty()) return READY_NOW;
  writer_ = detail::NodeAccess::makeAlone<WriteOp>(*this, std::move(bytes), where);
  Promise<void> promise = detail::PromiseAccess::wrap<void>(writer_);
  meet();
  return promise;
}

Promise<std::uint64_t> PipeState::pumpFrom(AsyncInputStream& input, std::uint64_t amount, std::source_location where) {
  requireNoWriter("pumpTo", where);
  if (truncated_ != nullptr) return Promise<std::uint64_t>(disconnected(truncated_, where), where);
  if (amount == 0) return std::uint64_t(0);
  source_ = detail::NodeAccess::makeAlone<PumpOp>(*this, input, amount, where);
  Promise<std::uint64_t> promise = detail::PromiseAccess::wrap<std::uint64_t>(source_);
  if (aborted_ != nullptr)
    beginFindEnd();
  else
    meet();
  return promise;
}

void PipeState::shutdownWrite(std::source_location where) {
  if (writer_ != nullptr || source_ != nullptr)
    detail::throwMisuse("shutdownWrite: a write or pump to this stream is pending", where);
  writeEnded_ = true;
  endReaders();
}

void PipeState::abortWrite() noexcept {
  if (!writeEnded_) cutOff("writing was given up (abortWrite)", "writing was given up (abortWrite)");
}

// Where it is pumped on, it is for another stream to tell. A pump from a stream waits for that one, unless there is no
// reader.
std::optional<std::uint64_t> PipeState::tryGetUndelivered() const noexcept {
  if (writer_ == nullptr && source_ == nullptr) return 0;
  if (transferring_ && sink_ != nullptr) return sink_->undelivered();
  if (writer_ != nullptr) return writer_->pieces.size();
  return transferring_ ? 0 : source_->left();
}

void PipeState::closeWrite() noexcept {
  if (writer_ != nullptr || source_ != nullptr)
    return cutOff("the writing end was destroyed in the middle of a write",
                  "the stream was destroyed while a write was pending");
  writeEnded_ = true;
  endReaders();
}

void PipeState::cutOff(const char* why, const char* writersWhy) noexcept {
  truncated_ = why;
  stopTransferOfWriter();
  failWriters(writersWhy);
  writeEnded_ = true;
  endReaders();
}

void PipeState::failWriters(const char* why) noexcept {
  if (writer_ != nullptr) {
    const Exception e = disconnected(why, writer_->where());
    std::exchange(writer_, nullptr)->fail(e);
  }
  if (source_ != nullptr) failPump(source_, disconnected(why, source_->where()));
}

void PipeState::failPump(PumpOp*& pump, const Exception& exception) noexcept {
  std::exchange(pump, nullptr)->fail(exception);
}

// What failed between the two ends is told on both.
void PipeState::failAll(const Exception& exception) noexcept {
  if (readOp_.isPending()) readOp_.failed(exception);
  if (sink_ != nullptr) failPump(sink_, exception);
  if (writer_ != nullptr) std::exchange(writer_, nullptr)->fail(exception);
  if (source_ != nullptr) failPump(source_, exception);
}

// ------------------------------------------------------------------------------------------------ meeting

// Whether both sides have somebody, and it takes time.
bool PipeState::mustTransfer() const noexcept {
  if (sink_ != nullptr) return writer_ != nullptr || source_ != nullptr || !givenBack_.empty();
  return source_ != nullptr && readOp_.isPending();
}

void PipeState::meet() noexcept {
  if (transferring_) return;
  if (writer_ != nullptr && readOp_.isPending()) copy();
  if (!mustTransfer()) return;
  isStarting_ = true;
  try {
    transfer_ = transfer();
  } catch (...) { // there was no memory for it
    failAll(Exception::fromCurrent());
  }
  isStarting_ = false;
}

// From the writer's memory to the reader's.
void PipeState::copy() noexcept {
  Pieces& pieces = writer_->pieces;
  if (readOp_.wantsChunk()) {
    pieces.drop(readOp_.take(pieces.front()));
  } else {
    readOp_.received(pieces.moveTo(readOp_.space()));
  }
  if (pieces.empty()) std::exchange(writer_, nullptr)->complete();
}

Promise<void> PipeState::transfer() {
  struct AtWork {
    bool& flag;
    explicit AtWork(bool& f) noexcept : flag(f) { flag = true; }
    ~AtWork() { flag = false; }
  };
  {
    const AtWork atWork(transferring_);
    while (mustTransfer()) {
      isGivingBack_ = sink_ != nullptr && !givenBack_.empty();
      try {
        if (isGivingBack_) {
          // Taken before it is written: if the pump is cancelled then, they are on their way.
          const std::span<const std::byte> bytes = givenBack_.bytes();
          const Chunk chunk = Chunk::copyOf(bytes.first(static_cast<std::size_t>(
              std::min<std::uint64_t>(std::min(bytes.size(), Chunk::CAPACITY), sink_->left()))));
          givenBack_.drop(chunk.size());
          co_await sink_->output().write(chunk.bytes(), sink_->where());
          sink_->advance(chunk.size());
        } else if (writer_ != nullptr) {
          const Pieces& pieces = writer_->pieces;
          std::uint64_t count = 0;
          if (pieces.isOne()) {
            const std::span<const std::byte> piece = pieces.front();
            count = std::min<std::uint64_t>(piece.size(), sink_->left());
            co_await sink_->output().write(piece.first(static_cast<std::size_t>(count)), sink_->where());
          } else {
            const detail::PieceList some = pieces.first(sink_->left());
            for (const std::span<const std::byte>& piece : some) count += piece.size();
            co_await sink_->output().write(some, sink_->where());
          }
          sink_->advance(count);
          writer_->pieces.drop(count);
          if (writer_->pieces.empty()) std::exchange(writer_, nullptr)->complete();
        } else {
          std::uint64_t wanted = source_->left();
          std::uint64_t got = 0;
          if (sink_ != nullptr) {
            wanted = std::min(wanted, sink_->left());
            got = co_await source_->input().pumpTo(sink_->output(), wanted, source_->where());
            sink_->advance(got);
          } else if (readOp_.wantsChunk()) {
            const auto most = static_cast<std::size_t>(std::min<std::uint64_t>(wanted, readOp_.most()));
            Chunk chunk = co_await source_->input().tryReadChunk(most, source_->where());
            wanted = 1;
            got = chunk.size();
            if (got > 0) readOp_.received(std::move(chunk));
          } else {
            const std::span<std::byte> space = readOp_.space();
            const auto most = static_cast<std::size_t>(std::min<std::uint64_t>(wanted, space.size()));
            wanted = std::min(readOp_.missing(), most);
            got = co_await source_->input().tryRead(space.first(most), static_cast<std::size_t>(wanted),
                                                    source_->where());
            readOp_.received(static_cast<std::size_t>(got));
          }
          source_->advance(got);
          if (got < wanted || source_->left() == 0) std::exchange(source_, nullptr)->complete();
        }
        if (sink_ != nullptr && sink_->left() == 0) std::exchange(sink_, nullptr)->complete();
      } catch (...) {
        const Exception e = Exception::fromCurrent();
        if (isGivingBack_)
          failPump(sink_, e);
        else
          failAll(e);
      }
    }
  }
  if (writeEnded_) endReaders();
}

// Nobody reads any more, and a pump would have noticed when it had something to write: it is asked for a byte.
Promise<void> PipeState::findEnd() {
  std::array<std::byte, 1> byte;
  try {
    const std::size_t got = co_await source_->input().tryRead(byte, 1, source_->where());
    if (got != 0) throw disconnected(aborted_, source_->where());
    std::exchange(source_, nullptr)->complete();
  } catch (...) {
    std::exchange(source_, nullptr)->fail(Exception::fromCurrent());
  }
}

void PipeState::beginFindEnd() noexcept {
  try {
    transfer_ = findEnd();
  } catch (...) { // there was no memory for it
    failPump(source_, Exception::fromCurrent());
  }
}

// Stops what transfer() is waiting for, and returns whether there was something.
bool PipeState::stopTransfer() noexcept {
  if (isStarting_)
    detail::fatal("a pump, a write or an end of a pipe was destroyed by the stream that it is pumped to");
  const bool stopped = transferring_;
  transfer_ = NEVER_DONE;
  return stopped;
}

// The same, but if no writer is concerned it goes on.
bool PipeState::stopTransferOfWriter() noexcept { return !(transferring_ && isGivingBack_) && stopTransfer(); }

void PipeState::writeCancelled(WriteOp&) noexcept {
  writer_ = nullptr;
  stopTransferOfWriter();
}

// If it was a pump into a stream that was stopped, nobody knows how far it had come, so the other side fails with it.
void PipeState::pumpCancelled(PumpOp* pump) noexcept {
  const char* why = "the pump at the other end of the pipe was cancelled";
  const bool fails = stopTransferOfWriter() && sink_ != nullptr;
  if (pump == source_) {
    source_ = nullptr;
    if (fails) failReaders(why);
  } else {
    stopTransfer();
    sink_ = nullptr;
    if (fails) failWriters(why);
  }
}

// ---------------------------------------------------------------------------------------------- the ends

/// An end that reads: only the ownership of the state.
class ReadEnd final {
public:
  explicit ReadEnd(PipeState& state) noexcept : state_(state) {}
  ReadEnd(ReadEnd&&) noexcept = default;
  ~ReadEnd() {
    if (state_) state_->abortRead("the reading end was destroyed");
  }
  PipeState* operator->() const noexcept { return state_.operator->(); }

private:
  Ref<PipeState> state_;
};

/// An end that writes.
class WriteEnd final {
public:
  explicit WriteEnd(PipeState& state) noexcept : state_(state) {}
  WriteEnd(WriteEnd&&) noexcept = default;
  ~WriteEnd() {
    if (state_) state_->closeWrite();
  }
  PipeState* operator->() const noexcept { return state_.operator->(); }

private:
  Ref<PipeState> state_;
};

class PipeInput final : public AsyncInputStream, public detail::Pooled {
public:
  explicit PipeInput(PipeState& state) noexcept : end_(state) {}

  Promise<std::size_t> tryRead(std::span<std::byte> buffer, std::size_t minBytes, std::source_location where) override {
    return end_->tryRead(buffer, minBytes, where);
  }
  Promise<Chunk> tryReadChunk(std::size_t maxBytes, std::source_location where) override {
    return end_->tryReadChunk(maxBytes, where);
  }
  Promise<std::uint64_t> pumpTo(AsyncOutputStream& output, std::uint64_t amount, std::source_location where) override {
    return end_->pumpTo(output, amount, where);
  }

private:
  ReadEnd end_;
};

class PipeOutput final : public AsyncOutputStream, public detail::Pooled {
public:
  explicit PipeOutput(PipeState& state) noexcept : end_(state) {}

  Promise<void> write(std::span<const std::byte> bytes, std::source_location where) override {
    return end_->write({&bytes, 1}, where);
  }
  Promise<void> write(std::span<const std::span<const std::byte>> pieces, std::source_location where) override {
    return end_->write(pieces, where);
  }
  std::optional<Promise<std::uint64_t>> tryPumpFrom(AsyncInputStream& input, std::uint64_t amount,
                                                    std::source_location where) override {
    return end_->pumpFrom(input, amount, where);
  }
  Promise<void> whenWriteDisconnected(std::source_location where) override {
    return end_->whenWriteDisconnected(where);
  }
  void abortWrite(std::source_location) override { end_->abortWrite(); }
  std::optional<std::uint64_t> tryGetUndelivered() const noexcept override { return end_->tryGetUndelivered(); }

private:
  WriteEnd end_;
};

class TwoWayEnd final : public AsyncIoStream, public detail::Pooled {
public:
  TwoWayEnd(PipeState& in, PipeState& out) noexcept : in_(in), out_(out) {}

  Promise<std::size_t> tryRead(std::span<std::byte> buffer, std::size_t minBytes, std::source_location where) override {
    return in_->tryRead(buffer, minBytes, where);
  }
  Promise<Chunk> tryReadChunk(std::size_t maxBytes, std::source_location where) override {
    return in_->tryReadChunk(maxBytes, where);
  }
  Promise<std::uint64_t> pumpTo(AsyncOutputStream& output, std::uint64_t amount, std::source_location where) override {
    return in_->pumpTo(output, amount, where);
  }
  Promise<void> write(std::span<const std::byte> bytes, std::source_location where) override {
    return out_->write({&bytes, 1}, where);
  }
  Promise<void> write(std::span<const std::span<const std::byte>> pieces, std::source_location where) override {
    return out_->write(pieces, where);
  }
  std::optional<Promise<std::uint64_t>> tryPumpFrom(AsyncInputStream& input, std::uint64_t amount,
                                                    std::source_location where) override {
    return out_->pumpFrom(input, amount, where);
  }
  Promise<void> whenWriteDisconnected(std::source_location where) override {
    return out_->whenWriteDisconnected(where);
  }
  void shutdownWrite(std::source_location where) override { out_->shutdownWrite(where); }
  void abortWrite(std::source_location) override { out_->abortWrite(); }
  std::optional<std::uint64_t> tryGetUndelivered() const noexcept override { return out_->tryGetUndelivered(); }
  void abortRead(std::source_location) override { in_->abortRead("the reading end gave up reading"); }

private:
  ReadEnd in_;
  WriteEnd out_;
};

} // namespace

OneWayPipe newOneWayPipe(std::optional<std::uint64_t> expectedLength) {
  const Ref<PipeState> state(*new PipeState);
  OneWayPipe pipe{std::make_unique<PipeInput>(*state), std::make_unique<PipeOutput>(*state)};
  if (expectedLength) pipe.input = newLimitedInputStream(std::move(pipe.input), *expectedLength);
  return pipe;
}

TwoWayPipe newTwoWayPipe() {
  const Ref<PipeState> there(*new PipeState);
  const Ref<PipeState> back(*new PipeState);
  return {{std::make_unique<TwoWayEnd>(*back, *there), std::make_unique<TwoWayEnd>(*there, *back)}};
}

} // namespace v0
} // namespace troth
