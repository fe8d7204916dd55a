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

// The head is the state's to write, not the first write's: who cancels that does not cancel the answer to a request.
struct UpgradedState {
  std::unique_ptr<AsyncIoStream> inner;
  Chunk rest;
  std::size_t taken = 0; // of the rest
  PoolString head;
  bool isHeadPending = false;
  bool endsBehindHead = false;          // by shutdownWrite()
  std::optional<Exception> headFailure; // and then nothing can be written
  troth::detail::Sleepers headIsOver;
  Direction reading{Direction::Kind::READ};
  Direction writing{Direction::Kind::WRITE};
  Promise<void> headWriting = NEVER_DONE; // uses all of the above

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
    return isWritable() ? state_->inner->write(bytes, where) : writeLater(pieces, where);
  }
  Promise<void> write(std::span<const std::span<const std::byte>> pieces, std::source_location where) override {
    return isWritable() ? state_->inner->write(pieces, where) : writeLater(pieces, where);
  }
  std::optional<Promise<std::uint64_t>> tryPumpFrom(AsyncInputStream& input, std::uint64_t amount,
                                                    std::source_location where) override {
    if (!isWritable()) return std::nullopt;
    return state_->inner->tryPumpFrom(input, amount, where);
  }
  Promise<void> whenWriteDisconnected(std::source_location where) override {
    return state_->inner->whenWriteDisconnected(where);
  }
  void shutdownWrite(std::source_location where) override {
    troth::detail::requireNotBusy(state_->writing, "shutdownWrite", where);
    if (state_->isHeadPending) {
      state_->endsBehindHead = true;
    } else {
      state_->inner->shutdownWrite(where);
    }
  }
  void abortWrite(std::source_location where) override { state_->inner->abortWrite(where); }
  std::optional<std::uint64_t> tryGetUndelivered() const noexcept override { return state_->inner->tryGetUndelivered(); }
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

  bool isWritable() const noexcept {
    return !state_->isHeadPending && !state_->headFailure && !state_->writing.isBusy();
  }

  Promise<void> writeLater(std::span<const std::span<const std::byte>> pieces, std::source_location where) {
    Busy busy(std::shared_ptr<Direction>(state_, &state_->writing), "write", where);
    return state_->writing.endWithStream(writeBehind(state_, std::move(busy), troth::detail::copyPieces(pieces), where),
                                         where);
  }

  static Promise<void> writeBehind(std::shared_ptr<UpgradedState> state, Busy busy, troth::detail::PieceList pieces,
                                   std::source_location where) {
    const Busy untilDone = std::move(busy);
    while (state->isHeadPending) co_await state->headIsOver.sleep(where);
    if (state->headFailure) throw Exception(*state->headFailure);
    if (state->inner == nullptr) throw state->writing.disconnected(where);
    co_await state->inner->write(std::span<const std::span<const std::byte>>(pieces), where);
  }
};

Promise<void> untilHeadIsOver(UpgradedState& state, Promise<void> written, std::source_location where) {
  state.isHeadPending = true;
  try {
    co_await std::move(written);
    if (state.endsBehindHead) state.inner->shutdownWrite(where);
  } catch (...) {
    state.headFailure = Exception::fromCurrent();
  }
  state.isHeadPending = false;
  state.headIsOver.wake();
}

} // namespace

std::unique_ptr<AsyncIoStream> newUpgradedStream(std::unique_ptr<AsyncIoStream> connection, Chunk rest,
                                                 std::string_view head, std::source_location where) {
  auto state = std::make_shared<UpgradedState>();
  state->inner = std::move(connection);
  state->rest = std::move(rest);
  state->head = head;
  if (!head.empty()) {
    Promise<void> written = state->inner->write(asBytes(state->head), where);
    if (!isReady(written)) state->headWriting = untilHeadIsOver(*state, std::move(written), where);
  }
  return std::make_unique<UpgradedStream>(std::move(state));
}

} // namespace detail
} // namespace http
} // namespace v0
} // namespace troth
