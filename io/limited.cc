// SPDX-License-Identifier: MIT
// Counting what is read from a stream, exactly, and throwing away what is written to one.
#include <troth/io/limited.h>

#include <troth/io/operation_detail.h>

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace troth {
inline namespace v0 {
namespace {

struct LimitedState {
  LimitedState(AsyncInputStream& stream, std::unique_ptr<AsyncInputStream> owner, std::uint64_t size) noexcept
      : inner(&stream), owned(std::move(owner)), length(size), left(size) {
    dropAtEnd();
  }

  AsyncInputStream* inner; // null once the stream is gone
  std::unique_ptr<AsyncInputStream> owned;
  std::uint64_t length;
  std::uint64_t left;
  bool isLost = false; // a pump was not finished: `left` is too much
  detail::Direction reading{detail::Direction::Kind::READ};

  /// `count` bytes were read, where the end of the inner stream would have given less than `least`.
  void count(std::uint64_t count, std::uint64_t least, std::source_location where) {
    left -= count;
    dropAtEnd();
    if (count < least)
      throw Exception(Exception::Kind::DISCONNECTED,
                      fmt::format("read: the stream ended after {} of {} bytes", length - left, length), {}, where);
  }
  /// Whoever writes more than there may be is told by its reader's end.
  void dropAtEnd() noexcept {
    if (left == 0) owned.reset();
  }
};

/// A pump that goes before it is counted loses the count.
class Pumping {
public:
  explicit Pumping(std::shared_ptr<LimitedState> state) noexcept : state_(std::move(state)) { state_->isLost = true; }
  Pumping(Pumping&&) noexcept = default;
  Pumping& operator=(Pumping&&) = delete;
  ~Pumping() = default;

  LimitedState& finish() noexcept {
    state_->isLost = false;
    return *state_;
  }

private:
  std::shared_ptr<LimitedState> state_;
};

class LimitedInputStream final : public AsyncInputStream {
public:
  LimitedInputStream(AsyncInputStream& inner, std::unique_ptr<AsyncInputStream> owned, std::uint64_t length)
      : state_(std::make_shared<LimitedState>(inner, std::move(owned), length)) {}
  ~LimitedInputStream() override {
    state_->inner = nullptr;
    state_->reading.disconnect();
    state_->owned.reset();
  }

  Promise<std::size_t> tryRead(std::span<std::byte> buffer, std::size_t minBytes, std::source_location where) override {
    detail::Busy busy = begin("tryRead", where);
    detail::requireReadable(buffer, minBytes, where);
    if (state_->left == 0) return std::size_t(0);
    const std::size_t most = atMost(buffer.size());
    const std::size_t least = std::min(minBytes, most);
    return reading(state_->inner->tryRead(buffer.first(most), least, where), where)
        .then(
            [state = state_, busy = std::move(busy), least, where](std::size_t count) {
              state->count(count, least, where);
              return count;
            },
            detail::PropagateException(), where);
  }

  Promise<Chunk> tryReadChunk(std::size_t maxBytes, std::source_location where) override {
    detail::Busy busy = begin("tryReadChunk", where);
    maxBytes = detail::chunkSize(maxBytes, where);
    if (state_->left == 0) return Chunk();
    return reading(state_->inner->tryReadChunk(atMost(maxBytes), where), where)
        .then(
            [state = state_, busy = std::move(busy), where](Chunk chunk) {
              state->count(chunk.size(), 1, where);
              return chunk;
            },
            detail::PropagateException(), where);
  }

  Promise<std::uint64_t> pumpTo(AsyncOutputStream& output, std::uint64_t amount, std::source_location where) override {
    detail::Busy busy = begin("pumpTo", where);
    const std::uint64_t least = std::min(amount, state_->left);
    if (least == 0) return std::uint64_t(0);
    Promise<std::uint64_t> pump = reading(state_->inner->pumpTo(output, least, where), where);
    return std::move(pump).then(
        [pumping = Pumping(state_), busy = std::move(busy), least, where](std::uint64_t count) mutable {
          pumping.finish().count(count, least, where);
          return count;
        },
        detail::PropagateException(), where);
  }

  std::optional<std::uint64_t> tryGetLength() const override {
    if (state_->isLost) return std::nullopt;
    return state_->left;
  }

private:
  std::shared_ptr<LimitedState> state_;

  detail::Busy begin(const char* function, std::source_location where) {
    detail::Busy busy(std::shared_ptr<detail::Direction>(state_, &state_->reading), function, where);
    if (state_->isLost)
      detail::throwMisuse(
          fmt::format("{}: a pump from this stream failed or was cancelled, so nobody knows how many of "
                      "its {} bytes are left",
                      function, state_->length),
          where);
    return busy;
  }
  std::size_t atMost(std::size_t size) const noexcept {
    return static_cast<std::size_t>(std::min<std::uint64_t>(size, state_->left));
  }
  template <typename T>
  Promise<T> reading(Promise<T> operation, std::source_location where) {
    return state_->reading.endWithStream(std::move(operation), where);
  }
};

class NullStream final : public AsyncIoStream {
public:
  Promise<std::size_t> tryRead(std::span<std::byte> buffer, std::size_t minBytes, std::source_location where) override {
    detail::requireReadable(buffer, minBytes, where);
    if (isAborted_) return Promise<std::size_t>(aborted(where), where);
    return std::size_t(0);
  }
  Promise<Chunk> tryReadChunk(std::size_t maxBytes, std::source_location where) override {
    (void)detail::chunkSize(maxBytes, where);
    if (isAborted_) return Promise<Chunk>(aborted(where), where);
    return Chunk();
  }
  std::optional<std::uint64_t> tryGetLength() const override { return 0; }
  void abortRead(std::source_location) override { isAborted_ = true; }

  Promise<void> write(std::span<const std::byte>, std::source_location where) override { return writeNothing(where); }
  Promise<void> write(std::span<const std::span<const std::byte>>, std::source_location where) override {
    return writeNothing(where);
  }
  std::optional<Promise<std::uint64_t>> tryPumpFrom(AsyncInputStream& input, std::uint64_t amount,
                                                    std::source_location where) override {
    requireOpen(where); // now, not when there is something to write
    return pumpByBuffer(input, *this, amount, where);
  }
  void shutdownWrite(std::source_location) override { isShutDown_ = true; }
  void abortWrite(std::source_location) override { isWriteAborted_ = !isShutDown_; }
  std::optional<std::uint64_t> tryGetUndelivered() const noexcept override { return 0; }

private:
  bool isAborted_ = false;
  bool isShutDown_ = false;
  bool isWriteAborted_ = false;

  static Exception aborted(std::source_location where) {
    return Exception(Exception::Kind::DISCONNECTED, "read: reading from the stream was given up by abortRead()", {},
                     where);
  }
  Promise<void> writeNothing(std::source_location where) const {
    requireOpen(where);
    if (!isWriteAborted_) return READY_NOW;
    return {detail::writingGivenUp(where), where};
  }
  void requireOpen(std::source_location where) const {
    if (isShutDown_) detail::throwMisuse("write: the stream was shut down for writing", where);
  }
};

} // namespace

std::unique_ptr<AsyncInputStream> newLimitedInputStream(std::unique_ptr<AsyncInputStream> inner, std::uint64_t length,
                                                        std::source_location where) {
  AsyncInputStream& stream = detail::requireStream(inner, "newLimitedInputStream", where);
  return std::make_unique<LimitedInputStream>(stream, std::move(inner), length);
}

std::unique_ptr<AsyncInputStream> newLimitedInputStream(AsyncInputStream& inner, std::uint64_t length) {
  return std::make_unique<LimitedInputStream>(inner, nullptr, length);
}

std::unique_ptr<AsyncIoStream> newNullStream() { return std::make_unique<NullStream>(); }

} // namespace v0
} // namespace troth
