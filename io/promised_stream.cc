// SPDX-License-Identifier: MIT
// Operations that wait for their stream.
#include <troth/io/promised_stream.h>

#include <troth/io/operation_detail.h>
#include <troth/io/stream_watch_detail.h>

#include <optional>
#include <type_traits>
#include <utility>
#include <vector>

namespace troth {
inline namespace v0 {
namespace {

// Operations wait in two lists, one for each direction, because abortRead() ends the one and not the other. When the
// promise is ready, all are woken, in their order, and look what there is: a stream, a failure, or neither any more,
// because the promised stream was destroyed.
template <typename Stream>
struct PromisedState {
  std::unique_ptr<Stream> stream;
  std::optional<Exception> failure;
  bool isShutDown = false;     // before there was a stream
  bool isAborted = false;      // the same, of reading
  bool isWriteAborted = false; // the same
  detail::Direction reading{detail::Direction::Kind::READ};
  detail::Direction writing{detail::Direction::Kind::WRITE};
  detail::Sleepers readers;
  detail::Sleepers writers;
  Promise<void> task = NEVER_DONE;

  void start(Promise<std::unique_ptr<Stream>> promise, std::source_location where) {
    task = std::move(promise)
               .then([this, where](std::unique_ptr<Stream> result) { settle(std::move(result), where); },
                     detail::PropagateException(), where)
               .catch_([this](Exception e) { failure = std::move(e); }, where)
               .then([this] { wake(); }, detail::PropagateException(), where)
               .eagerlyEvaluate(nullptr, where);
  }

  void close() noexcept {
    task = NEVER_DONE;
    stream = nullptr;
    wake();
  }

  /// The stream, for an operation that has waited. Throws if there is none.
  Stream& get(const detail::Direction& direction, std::source_location where) const {
    if (failure) throw Exception(*failure);
    if (stream == nullptr) throw direction.disconnected(where);
    return *stream;
  }

  static Exception aborted(std::source_location where) {
    return Exception(Exception::Kind::DISCONNECTED, "read: reading from the stream was given up by abortRead()", {},
                     where);
  }

private:
  void settle(std::unique_ptr<Stream> result, std::source_location where) {
    if (result == nullptr) detail::throwMisuse("the promise of a promised stream gave a null pointer", where);
    if constexpr (std::is_same_v<Stream, AsyncIoStream>) {
      if (isAborted) result->abortRead(where);
      if (isShutDown) result->shutdownWrite(where);
    }
    if constexpr (std::is_base_of_v<AsyncOutputStream, Stream>) {
      if (isWriteAborted) result->abortWrite(where);
    }
    stream = std::move(result);
  }
  void wake() noexcept {
    readers.wake();
    writers.wake();
  }
};

/// The state and the way of every operation: to the stream, or into a list.
template <typename Stream>
class PromisedBase : public Stream {
public:
  PromisedBase(Promise<std::unique_ptr<Stream>> promise, std::source_location where)
      : state_(std::make_shared<State>()) {
    state_->start(std::move(promise), where);
  }
  ~PromisedBase() override { state_->close(); }

protected:
  using State = PromisedState<Stream>;
  std::shared_ptr<State> state_;

  /// `operation(stream)`, now or when there is one.
  template <typename Operation>
  auto passRead(const char* function, std::source_location where, Operation operation) {
    return pass(state_->reading, state_->readers, function, where, std::move(operation));
  }
  template <typename Operation>
  auto passWrite(const char* function, std::source_location where, Operation operation) {
    return pass(state_->writing, state_->writers, function, where, std::move(operation));
  }

  /// A watch of the other stream of a pump, if the pump has to wait.
  template <typename Other>
  std::unique_ptr<detail::StreamWatch> watched(Other& other) const {
    if (state_->stream != nullptr) return nullptr;
    return std::make_unique<detail::StreamWatch>(other);
  }

private:
  template <typename Operation>
  std::invoke_result_t<Operation, Stream&> pass(detail::Direction& direction, detail::Sleepers& list,
                                                const char* function, std::source_location where, Operation operation) {
    detail::Busy busy(std::shared_ptr<detail::Direction>(state_, &direction), function, where);
    if (state_->stream != nullptr) return operation(*state_->stream);
    if (state_->failure) return {Exception(*state_->failure), where};
    return list.sleep(where).then(
        [state = state_, busy = std::move(busy), &direction, where, operation = std::move(operation)] {
          return operation(state->get(direction, where));
        },
        detail::PropagateException(), where);
  }
};

/// The functions of AsyncInputStream.
template <typename Base>
class PromisedInput : public Base {
public:
  using Base::Base;

  Promise<std::size_t> tryRead(std::span<std::byte> buffer, std::size_t minBytes, std::source_location where) override {
    detail::requireReadable(buffer, minBytes, where);
    if (isGivenUp()) return {state_->aborted(where), where};
    return this->passRead("tryRead", where,
                          [=](AsyncInputStream& stream) { return stream.tryRead(buffer, minBytes, where); });
  }
  Promise<Chunk> tryReadChunk(std::size_t maxBytes, std::source_location where) override {
    maxBytes = detail::chunkSize(maxBytes, where);
    if (isGivenUp()) return {state_->aborted(where), where};
    return this->passRead("tryReadChunk", where,
                          [=](AsyncInputStream& stream) { return stream.tryReadChunk(maxBytes, where); });
  }
  Promise<std::uint64_t> pumpTo(AsyncOutputStream& output, std::uint64_t amount, std::source_location where) override {
    if (isGivenUp()) return {state_->aborted(where), where};
    return this->passRead("pumpTo", where,
                          [&output, watch = this->watched(output), amount, where](AsyncInputStream& stream) {
                            if (watch != nullptr) watch->require(where);
                            return stream.pumpTo(output, amount, where);
                          });
  }
  std::optional<std::uint64_t> tryGetLength() const override {
    if (state_->stream == nullptr) return std::nullopt;
    return state_->stream->tryGetLength();
  }
  std::unique_ptr<AsyncInputStream> tryTee(std::size_t limit) override {
    return state_->stream == nullptr ? nullptr : state_->stream->tryTee(limit);
  }

protected:
  using Base::state_;

private:
  bool isGivenUp() const noexcept { return state_->isAborted && state_->stream == nullptr; }
};

/// The functions of AsyncOutputStream.
template <typename Base>
class PromisedOutput : public Base {
public:
  using Base::Base;

  Promise<void> write(std::span<const std::byte> bytes, std::source_location where) override {
    requireOpen(where);
    return this->passWrite("write", where, [=](AsyncOutputStream& stream) { return stream.write(bytes, where); });
  }
  Promise<void> write(std::span<const std::span<const std::byte>> pieces, std::source_location where) override {
    requireOpen(where);
    if (state_->stream != nullptr)
      return this->passWrite("write", where, [=](AsyncOutputStream& stream) { return stream.write(pieces, where); });
    return this->passWrite("write", where, [copy = detail::copyPieces(pieces), where](AsyncOutputStream& stream) {
      return stream.write(copy, where);
    });
  }
  std::optional<Promise<std::uint64_t>> tryPumpFrom(AsyncInputStream& input, std::uint64_t amount,
                                                    std::source_location where) override {
    requireOpen(where);
    return this->passWrite("tryPumpFrom", where,
                           [&input, watch = this->watched(input), amount, where](AsyncOutputStream& stream) {
                             if (watch != nullptr) watch->require(where);
                             return input.pumpTo(stream, amount, where);
                           });
  }
  void abortWrite(std::source_location where) override {
    if (state_->stream != nullptr) return state_->stream->abortWrite(where);
    state_->isWriteAborted = !state_->isShutDown; // writes that wait for the stream meet that there
  }
  std::optional<std::uint64_t> tryGetUndelivered() const noexcept override {
    return state_->stream != nullptr ? state_->stream->tryGetUndelivered() : std::nullopt;
  }
  Promise<void> whenWriteDisconnected(std::source_location where) override {
    if (state_->stream != nullptr) return state_->stream->whenWriteDisconnected(where);
    if (state_->failure) return READY_NOW;
    return state_->writers.sleep(where).then(
        [state = state_, where]() -> Promise<void> {
          if (state->stream == nullptr) return READY_NOW;
          return state->stream->whenWriteDisconnected(where);
        },
        detail::PropagateException(), where);
  }

protected:
  using Base::state_;

private:
  void requireOpen(std::source_location where) const {
    if (state_->isShutDown) detail::throwMisuse("write: the stream was shut down for writing", where);
  }
};

class PromisedIo final : public PromisedOutput<PromisedInput<PromisedBase<AsyncIoStream>>> {
public:
  using PromisedOutput::PromisedOutput;

  void shutdownWrite(std::source_location where) override {
    detail::requireNotBusy(state_->writing, "shutdownWrite", where);
    if (state_->stream != nullptr) return state_->stream->shutdownWrite(where);
    state_->isShutDown = true;
  }
  void abortRead(std::source_location where) override {
    if (state_->stream != nullptr) return state_->stream->abortRead(where);
    state_->isAborted = true;
    state_->readers.failAll(PromisedState<AsyncIoStream>::aborted(where));
  }
  std::optional<int> descriptor() const override {
    if (state_->stream == nullptr) return std::nullopt;
    return state_->stream->descriptor();
  }
};

} // namespace

std::unique_ptr<AsyncInputStream> newPromisedStream(Promise<std::unique_ptr<AsyncInputStream>> promise,
                                                    std::source_location where) {
  return std::make_unique<PromisedInput<PromisedBase<AsyncInputStream>>>(std::move(promise), where);
}

std::unique_ptr<AsyncOutputStream> newPromisedStream(Promise<std::unique_ptr<AsyncOutputStream>> promise,
                                                     std::source_location where) {
  return std::make_unique<PromisedOutput<PromisedBase<AsyncOutputStream>>>(std::move(promise), where);
}

std::unique_ptr<AsyncIoStream> newPromisedStream(Promise<std::unique_ptr<AsyncIoStream>> promise,
                                                 std::source_location where) {
  return std::make_unique<PromisedIo>(std::move(promise), where);
}

} // namespace v0
} // namespace troth
