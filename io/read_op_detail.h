// SPDX-License-Identifier: MIT
// ReadOp: the one read of a stream, whatever feeds it.
#pragma once

#include <troth/io/read_size_detail.h>
#include <troth/runtime/node_detail.h>
#include <troth/runtime/promise.h>
#include <troth/runtime/ref_detail.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <source_location>
#include <span>
#include <utility>

namespace troth {
inline namespace v0 {
namespace detail {

/// The one read of a stream: into a span or into a chunk. It is embedded in the stream's `State`, so a read allocates
/// nothing, and holds a reference to it while its promise lives. `State` inherits Counted and has
///
///     void giveBack(std::span<const std::byte> bytes) noexcept; // what a read had that nobody has taken
///     void readCancelled() noexcept;                            // the read has been destroyed while it was pending
template <typename State>
class ReadOp final : public SourceNode {
public:
  explicit ReadOp(State& state) noexcept
      : SourceNode(std::source_location()), state_(state), loop_(EventLoop::currentOrNull()) {
    chunkResult_.value.emplace();
  }

  bool isFree() const noexcept { return mode_ == Mode::FREE; }
  bool isPending() const noexcept { return mode_ != Mode::FREE && !isReady(); }
  bool wantsChunk() const noexcept { return mode_ == Mode::CHUNK; }

  void beginSpan(std::span<std::byte> buffer, std::size_t minBytes, std::source_location where) noexcept {
    begin(Mode::SPAN, where);
    space_ = buffer;
    wanted_ = minBytes;
    filled_ = 0;
  }
  /// `maxBytes` is chunkSize() of what the caller wants.
  void beginChunk(std::size_t maxBytes, std::source_location where) noexcept {
    begin(Mode::CHUNK, where);
    wanted_ = maxBytes;
  }
  /// The promise of the read that has begun: of a std::size_t, or of a Chunk.
  template <typename T>
  Promise<T> promise() noexcept {
    return PromiseAccess::wrap<T>(this);
  }

  /// Of a span: where the next bytes go, and how many of them it still needs.
  std::span<std::byte> space() const noexcept { return space_.subspan(filled_); }
  std::size_t missing() const noexcept { return wanted_ - filled_; }
  /// Of a chunk: the most bytes that it may have.
  std::size_t most() const noexcept { return wanted_; }

  /// Takes what it has room for of `bytes`, which are not empty, and returns how many that were. Without memory for
  /// them it fails and takes none.
  std::size_t take(std::span<const std::byte> bytes) noexcept {
    if (mode_ == Mode::CHUNK) return takeChunk(bytes.first(std::min(bytes.size(), wanted_)));
    const std::size_t count = std::min(bytes.size(), space().size());
    std::memcpy(space().data(), bytes.data(), count);
    received(count);
    return count;
  }
  /// `count` bytes have come to space().
  void received(std::size_t count) noexcept {
    filled_ += count;
    if (filled_ < wanted_) return;
    sizeResult_.value.emplace(filled_);
    setReady();
  }
  /// The read for a chunk has its bytes.
  void received(Chunk chunk) noexcept {
    *chunkResult_.value = std::move(chunk);
    setReady();
  }
  /// The same with the first `count` bytes of the thread's scratch buffer.
  void receivedScratch(std::size_t count) noexcept {
    chunkResult_.value->fillFromScratch(count);
    setReady();
  }
  void ended() noexcept {
    if (mode_ == Mode::SPAN) sizeResult_.value.emplace(filled_);
    setReady();
  }
  void failed(const Exception& exception) noexcept {
    giveBack();
    setFailed(result(), exception);
  }

  /// The caller moves the value or the exception out, so that nothing but an empty shell stays.
  ResultBase& get(ResultBase*) noexcept override {
    taken_ = true;
    return result();
  }
  void destroy() noexcept override {
    if (!taken_) [[unlikely]]
      return destroyUntaken();
    mode_ = Mode::FREE;
    Ref<State>::drop(state_);
  }
  const char* name() const noexcept override { return "read"; }

private:
  enum class Mode : std::uint8_t { FREE, SPAN, CHUNK };

  State& state_;
  EventLoop* loop_;
  Mode mode_ = Mode::FREE;
  bool taken_ = false;
  std::span<std::byte> space_;     // of a SPAN read
  std::size_t filled_ = 0;         // of space_
  std::size_t wanted_ = 0;         // bytes: of a SPAN read at least so many, of a CHUNK read at most
  Result<std::size_t> sizeResult_; // the result of a SPAN read, empty otherwise
  Result<Chunk> chunkResult_;      // the result of a CHUNK read; otherwise its chunk is empty

  ResultBase& result() noexcept { return mode_ == Mode::CHUNK ? static_cast<ResultBase&>(chunkResult_) : sizeResult_; }

  void begin(Mode mode, std::source_location where) noexcept {
    resetSource(loop_);
    Ref<State>::add(state_); // until destroy()
    mode_ = mode;
    taken_ = false;
    where_ = where;
  }

  std::size_t takeChunk(std::span<const std::byte> bytes) noexcept {
    try {
      received(Chunk::copyOf(bytes));
      return bytes.size();
    } catch (...) {
      failed(Exception::fromCurrent());
      return 0;
    }
  }

  void giveBack() noexcept {
    const std::span<const std::byte> bytes = mode_ == Mode::SPAN
                                                 ? std::span<const std::byte>(space_.first(std::exchange(filled_, 0)))
                                                 : chunkResult_.value->bytes();
    if (!bytes.empty()) state_.giveBack(bytes);
  }

  [[gnu::noinline, gnu::cold]] void destroyUntaken() noexcept {
    requireThreadToGo();
    const bool wasPending = !isReady();
    giveBack();
    sizeResult_.value.reset();
    sizeResult_.exception = ExceptionRef(); // not {}: what a braced list makes in a template clang 16 never destroys
    *chunkResult_.value = Chunk();
    chunkResult_.exception = ExceptionRef();
    mode_ = Mode::FREE;
    if (wasPending) state_.readCancelled();
    Ref<State>::drop(state_);
  }
};

} // namespace detail
} // namespace v0
} // namespace troth
