// SPDX-License-Identifier: MIT
// Wire: a connection while a message goes over it: bytes that were read too far, and bytes that are to be written.
#pragma once

#include <troth/io/operation_detail.h>
#include <troth/io/pieces_detail.h>
#include <troth/io/stream.h>
#include <troth/net/http/byte_buffer_detail.h>
#include <troth/net/http/pool_allocator_detail.h>
#include <troth/runtime/node_detail.h>
#include <troth/runtime/ref_detail.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <source_location>
#include <span>
#include <string_view>
#include <utility>

namespace troth {
inline namespace v0 {
namespace http {
namespace detail {

/// Whether the result of `promise` is there already. (A `then` that has not run counts as ready when what it waits for
/// is.)
template <typename T>
bool isReady(Promise<T>& promise, std::source_location where = std::source_location::current()) {
  return troth::detail::listen(*troth::detail::PromiseAccess::peek(promise, where), nullptr);
}

/// The failure of a promise that is ready; nothing if it has none. It may be consumed.
std::optional<Exception> resolveFailure(Promise<void>& ready);
inline std::optional<Exception> takeFailure(Promise<void>& ready,
                                            std::source_location where = std::source_location::current()) {
  if (&*troth::detail::PromiseAccess::peek(ready, where) == &troth::detail::readyNode) [[likely]] // READY_NOW
    return std::nullopt;
  return resolveFailure(ready);
}

/// What a wire tells whoever watches the time: a wait for the peer begins and ends. Waits of one sort do not overlap.
class WireWatcher {
public:
  virtual void beginWait() noexcept = 0;
  /// `bytes` have come, or gone, meanwhile; 0 if the wait was given up.
  virtual void endWait(std::uint64_t bytes) noexcept = 0;

protected:
  ~WireWatcher() = default;
};

/// Shared by a connection and the operations on its streams, so that they may go in any order: an operation that is
/// left finds no stream any more, and fails. It exists while there is something to do; an idle connection has none.
class Wire final : public troth::detail::Counted, public troth::detail::Pooled {
public:
  explicit Wire(std::unique_ptr<AsyncIoStream> stream) noexcept : stream_(std::move(stream)) {}

  /// Throws DISCONNECTED after close() and takeStream().
  AsyncIoStream& stream(std::source_location where) const {
    if (stream_ == nullptr) [[unlikely]]
      throwClosed(where);
    return *stream_;
  }
  bool isOpen() const noexcept { return stream_ != nullptr; }
  /// Destroys the stream, which rejects what is pending.
  void close() noexcept { stream_.reset(); }
  std::unique_ptr<AsyncIoStream> takeStream() noexcept { return std::move(stream_); }
  /// For a wire that nobody else has: as new, with another stream.
  void reuse(std::unique_ptr<AsyncIoStream> stream) noexcept;

  /// Both may be null; they outlive the stream.
  void watch(WireWatcher* reading, WireWatcher* writing) noexcept {
    reading_ = reading;
    writing_ = writing;
  }
  WireWatcher* reading() const noexcept { return reading_; }
  WireWatcher* writing() const noexcept { return writing_; }

  // --- Input: what has been read and not consumed is one piece.

  std::string_view rest() const noexcept { return rest_; }
  void consume(std::size_t count) noexcept { rest_.remove_prefix(count); }
  /// More has been read. What is held stays where it is.
  void give(Chunk chunk);
  /// From now on the bytes of the present chunk stay where they are, whatever is read, until letGo(): views into a
  /// head may point to them.
  void hold() noexcept { holds_ = true; }
  void letGo() noexcept {
    holds_ = false;
    held_ = Chunk();
  }
  /// All that was read and not consumed, as a chunk of its own.
  Chunk takeRest();
  /// A piece that was consumed, as a chunk of its own: without being copied, if it is all that was read at a time.
  Chunk takePiece(std::string_view piece);

  // --- Output: what is appended waits in a buffer for the next flush() or write().

  ByteBuffer& output() noexcept { return output_; }
  /// Takes what waits, and keeps no buffer but that of a write that is under way.
  ByteBuffer takeOutput() noexcept {
    if (!isWriting_) inFlight_ = ByteBuffer();
    return std::move(output_);
  }
  bool isWriting() const noexcept { return isWriting_; }
  /// Whether a write ended in the middle, failed or cancelled: what has been sent has no end, and nothing can follow.
  bool isCutOff() const noexcept { return isCutOff_; }
  void cutOff() noexcept { isCutOff_ = true; }

  /// Sends what waits. The promise keeps the wire alive.
  ///
  /// Completes:    when the system has taken all of it; at once if there is nothing, and often else.
  /// Errors:       those of writing; DISCONNECTED once isCutOff().
  /// Cancellation: partial, lost.
  /// Overlap:      any number: they go one after the other. More may be appended meanwhile.
  Promise<void> flush(std::source_location where);

  /// Sends what waits, then the pieces and `end`, gathered. The bytes stay alive until the promise is done; the array
  /// of pieces is needed only during the call. The contract is that of flush().
  Promise<void> write(std::span<const std::span<const std::byte>> pieces, std::span<const std::byte> end,
                      std::source_location where);
  Promise<void> write(std::span<const std::byte> bytes, std::span<const std::byte> end, std::source_location where) {
    return write({&bytes, 1}, end, where);
  }

  // How far the peer is with what is being written, for whoever watches the time. A stream that cannot tell is given
  // WRITE_SIZE bytes at a time, each with a wait of its own; then there is no progress within one.

  static constexpr std::size_t WRITE_SIZE = 128 * 1024;
  /// Whether the stream can tell. Throws DISCONNECTED if it has gone.
  bool tellsProgress(std::source_location where) const { return stream(where).tryGetUndelivered().has_value(); }
  /// A wait begins.
  void startProgress() noexcept;
  /// Whether the peer has taken `least` bytes since this was asked last, or since the wait began; or has none to take.
  bool makesProgress(std::uint64_t least) noexcept;

private:
  std::unique_ptr<AsyncIoStream> stream_;
  WireWatcher* reading_ = nullptr;
  WireWatcher* writing_ = nullptr;
  Chunk chunk_, held_;
  std::string_view rest_;         // of chunk_, or of held_
  std::uint64_t undelivered_ = 0; // when progress was asked for last
  ByteBuffer output_, inFlight_;
  troth::detail::Sleepers writers_; // that wait for another write to end
  bool isWriting_ = false;
  bool isCutOff_ = false;
  bool holds_ = false;

  class Writing;
  using PieceList = troth::detail::PieceList;

  Promise<void> begun(Promise<void> written, std::uint64_t size, std::source_location where);
  static Promise<void> finishFlush(troth::detail::Ref<Wire> self, Promise<void> written, std::uint64_t size);
  static Promise<void> flushLater(troth::detail::Ref<Wire> self, std::source_location where);
  static Promise<void> writeLater(troth::detail::Ref<Wire> self, PieceList pieces, std::source_location where);
  Promise<void> writeInParts(const PieceList& pieces, std::source_location where);
  [[noreturn]] static void throwClosed(std::source_location where);
  void requireNotCutOff(std::source_location where) const;
};

/// One wait, as long as it lives; for what has been begun. Once the wire is watched no more nobody is told.
class WireWait {
public:
  enum class For : std::uint8_t { READING, WRITING };

  WireWait(Wire& wire, For what) noexcept : wire_(wire), what_(what) {
    if (WireWatcher* watcher = this->watcher(); watcher != nullptr) watcher->beginWait();
  }
  WireWait(WireWait&&) noexcept = default;
  WireWait& operator=(WireWait&&) = delete;
  ~WireWait() { end(0); }
  void end(std::uint64_t bytes) noexcept {
    if (!wire_) return;
    if (WireWatcher* watcher = this->watcher(); watcher != nullptr) watcher->endWait(bytes);
    wire_ = troth::detail::Ref<Wire>();
  }

private:
  troth::detail::Ref<Wire> wire_;
  For what_;

  WireWatcher* watcher() const noexcept { return what_ == For::READING ? wire_->reading() : wire_->writing(); }
};

} // namespace detail
} // namespace http
} // namespace v0
} // namespace troth
