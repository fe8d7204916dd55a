// SPDX-License-Identifier: MIT
// Reading what was read too far, and writing behind a head that may still be on its way.
#include <troth/net/http/upgraded_stream_detail.h>

#include <troth/io/operation_detail.h>
#include <troth/net/http/pool_allocator_detail.h>
#include <troth/net/http/wire_detail.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <vector>

namespace troth {
inline namespace v0 {
namespace http {
namespace detail {

namespace {

using troth::detail::Busy;
using troth::detail::Direction;

struct UpgradedState {
  std::unique_ptr<AsyncIoStream> inner;
  Chunk rest;
  std::size_t taken = 0; // of the rest
  PoolString head;
  std::optional<Promise<void>> headWritten; // while that is pending
  Direction reading{Direction::Kind::READ};
  Direction writing{Direction::Kind::WRITE};

  std::string_view left() const noexcept { return rest.text().substr(taken); }
  void take(std::size_t count) noexcept {
    taken += count;
    if (taken == rest.size()) {
      rest = Chunk();
      taken = 0;
    }
  }
};

// What was held for a read that is pending has been thrown away.
[[noreturn]] void throwAborted(std::source_location where) {
  throw Exception(Exception::Kind::DISCONNECTED, "read: reading was given up, by abortRead()", {}, where);
}

class UpgradedStream final : public AsyncIoStream {
public:
  explicit UpgradedStream(std::shared_ptr<UpgradedState> state) noexcept : state_(std::move(state)) {}
  ~UpgradedStream() override {
    state_->headWritten.reset();
    state_->inner.reset();
    state_->reading.disconnect();
    state_->writing.disconnect();
  }

  Promise<std::size_t> tryRead(std::span<std::byte> buffer, std::size_t minBytes, std::source_location where) override {
    troth::detail::requireReadable(buffer, minBytes, where);
    if (state_->rest.empty() && !state_->reading.isBusy()) return state_->inner->tryRead(buffer, minBytes, where);
    Busy busy = beginRead("tryRead", where);
    const std::size_t held = std::min(state_->left().size(), buffer.size());
    Promise<std::size_t> more = held >= minBytes
                                    ? Promise<std::size_t>(std::size_t(0))
                                    : state_->reading.endWithStream(
                                          state_->inner->tryRead(buffer.subspan(held), minBytes - held, where), where);
    return std::move(more).then(
        [state = state_, busy = std::move(busy), front = buffer.first(held), where](std::size_t count) {
          if (state->left().size() < front.size()) throwAborted(where);
          std::memcpy(front.data(), state->left().data(), front.size());
          state->take(front.size());
          return front.size() + count;
        },
        troth::detail::PropagateException(), where);
  }

  Promise<Chunk> tryReadChunk(std::size_t maxBytes, std::source_location where) override {
    maxBytes = troth::detail::chunkSize(maxBytes, where);
    if (state_->rest.empty() && !state_->reading.isBusy()) return state_->inner->tryReadChunk(maxBytes, where);
    return Promise<void>(READY_NOW).then(
        [state = state_, busy = beginRead("tryReadChunk", where), maxBytes, where] {
          if (state->rest.empty()) throwAborted(where);
          Chunk chunk = Chunk::copyOf(asBytes(state->left().substr(0, maxBytes)));
          state->take(chunk.size());
          return chunk;
        },
        troth::detail::PropagateException(), where);
  }

  Promise<void> write(std::span<const std::byte> bytes, std::source_location where) override {
    const std::span<const std::byte> pieces[] = {bytes};
    return headIsWritten() ? state_->inner->write(bytes, where) : writeLater(pieces, where);
  }
  Promise<void> write(std::span<const std::span<const std::byte>> pieces, std::source_location where) override {
    return headIsWritten() ? state_->inner->write(pieces, where) : writeLater(pieces, where);
  }
  std::optional<Promise<std::uint64_t>> tryPumpFrom(AsyncInputStream& input, std::uint64_t amount,
                                                    std::source_location where) override {
    if (!headIsWritten()) return std::nullopt;
    return state_->inner->tryPumpFrom(input, amount, where);
  }
  Promise<void> whenWriteDisconnected(std::source_location where) override {
    return state_->inner->whenWriteDisconnected(where);
  }
  void shutdownWrite(std::source_location where) override {
    if (headIsWritten()) return state_->inner->shutdownWrite(where);
    troth::detail::requireNotBusy(state_->writing, "shutdownWrite", where);
    // Behind the head; the stream that is shut down is the state's, which outlives the promise in it.
    state_->headWritten = std::move(*state_->headWritten)
                              .then([state = state_.get(), where] { state->inner->shutdownWrite(where); })
                              .eagerlyEvaluate(nullptr, where);
  }
  void abortWrite(std::source_location where) override { state_->inner->abortWrite(where); }
  void abortRead(std::source_location where) override {
    state_->rest = Chunk();
    state_->taken = 0;
    state_->inner->abortRead(where);
  }
  std::optional<int> descriptor() const override { return state_->inner->descriptor(); }

private:
  std::shared_ptr<UpgradedState> state_;

  Busy beginRead(const char* function, std::source_location where) {
    return {std::shared_ptr<Direction>(state_, &state_->reading), function, where};
  }

  // Whether the head has gone; a failure is left to the next write to find.
  bool headIsWritten() {
    if (!state_->headWritten) return !state_->writing.isBusy();
    if (!isReady(*state_->headWritten)) return false;
    state_->headWritten.reset();
    return !state_->writing.isBusy();
  }

  Promise<void> writeLater(std::span<const std::span<const std::byte>> pieces, std::source_location where) {
    Busy busy(std::shared_ptr<Direction>(state_, &state_->writing), "write", where);
    return state_->writing.endWithStream(writeBehind(state_, std::move(busy), troth::detail::copyPieces(pieces), where),
                                         where);
  }

  static Promise<void> writeBehind(std::shared_ptr<UpgradedState> state, Busy busy, troth::detail::PieceList pieces,
                                   std::source_location where) {
    const Busy untilDone = std::move(busy);
    if (state->headWritten) {
      Promise<void> head = std::move(*state->headWritten);
      state->headWritten.reset();
      co_await std::move(head);
    }
    if (state->inner == nullptr) throw state->writing.disconnected(where);
    co_await state->inner->write(std::span<const std::span<const std::byte>>(pieces), where);
  }
};

} // namespace

std::unique_ptr<AsyncIoStream> newUpgradedStream(std::unique_ptr<AsyncIoStream> connection, Chunk rest,
                                                 std::string_view head, std::source_location where) {
  auto state = std::make_shared<UpgradedState>();
  state->inner = std::move(connection);
  state->rest = std::move(rest);
  state->head = head;
  Promise<void> written = state->inner->write(asBytes(state->head), where);
  if (!isReady(written)) state->headWritten = std::move(written).eagerlyEvaluate(nullptr, where);
  return std::make_unique<UpgradedStream>(std::move(state));
}

} // namespace detail
} // namespace http
} // namespace v0
} // namespace troth
