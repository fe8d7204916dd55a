// SPDX-License-Identifier: MIT
// MessageBody: the content of a message that is being received, as a stream.
#pragma once

#include <troth/io/operation_detail.h>
#include <troth/io/stream.h>
#include <troth/net/http/message_parser_detail.h>
#include <troth/net/http/wire_detail.h>

#include <cstdint>
#include <memory>

namespace troth {
inline namespace v0 {
namespace http {
namespace detail {

/// What happens to a body, for its connection. It outlives the body, or is told away by MessageBody::finish().
class BodyOwner {
public:
  /// A read has to wait: the peer may wait for a "100 Continue".
  ///
  /// Completes: when that has gone.
  virtual Promise<void> beforeRead() = 0;
  /// Its last byte, with its trailers, has been taken off the wire; it may still wait to be read.
  virtual void bodyEnded() noexcept = 0;

protected:
  ~BodyOwner() = default;
};

/// Reads the content of one message off a wire, by its framing. A stream with the contracts of AsyncInputStream: reads
/// that are cancelled lose nothing. Its errors: HttpError with 400 for malformed chunks and 413 beyond the limit;
/// DISCONNECTED if the connection ends before the body does, so that a part is not taken for the whole.
///
/// Pumps go by a buffer (pumpByBuffer()): so each byte that comes is seen, and a peer that is slow can be told from one
/// that is stuck.
///
/// It is made again for each message by begin(), and left by finish(), after which whoever still has a read of it meets
/// DISCONNECTED. Both cancel what is pending at once, so that nobody but the connection uses the wire from then on.
class MessageBody final : public AsyncInputStream {
public:
  MessageBody() noexcept = default;
  ~MessageBody() override { finish(); }
  MessageBody(const MessageBody&) = delete;
  MessageBody& operator=(const MessageBody&) = delete;

  /// `parser` has a complete head. With Framing::NONE nothing is allocated.
  void begin(Wire& wire, MessageParser& parser, Framing framing, std::uint64_t length, std::uint64_t limit,
             BodyOwner& owner) {
    finish();
    if (framing != Framing::NONE) beginContent(wire, parser, framing, length, limit, owner);
  }
  /// Rejects what is pending, because of `why`, which outlives it, and lets go of wire, parser and owner.
  void finish(const char* why = OVER) noexcept {
    if (state_ != nullptr) finishContent(why);
  }
  /// Rejects what is pending, or done and not taken, because of `why`; what has not been decoded can be read anew. Only
  /// while !hasEnded() and !isBroken().
  void takeBack(const char* why);

  /// Whether all of it has come.
  bool hasEnded() const noexcept { return state_ == nullptr || hasContentEnded(); }
  /// Whether it was found to be malformed, or ended too early: nothing that follows on the wire can be told apart.
  bool isBroken() const noexcept;
  /// Whether a read is pending, or done and not taken: the stream below may be in its hands.
  bool isBusy() const noexcept;
  /// With Framing::LENGTH: how many bytes have not come, or wait on the wire.
  std::uint64_t toCome() const noexcept;
  /// How many bytes of content have come.
  std::uint64_t received() const noexcept;
  /// To be called before somebody else gives the wire a chunk: what was decoded, and stands in the one before, is
  /// copied.
  void keepDecoded();

  Promise<std::size_t> tryRead(std::span<std::byte> buffer, std::size_t minBytes = 1,
                               std::source_location where = std::source_location::current()) override;
  Promise<Chunk> tryReadChunk(std::size_t maxBytes = Chunk::CAPACITY,
                              std::source_location where = std::source_location::current()) override;
  std::optional<std::uint64_t> tryGetLength() const override;

private:
  struct State;
  static constexpr const char* OVER = "HTTP: the message was over before this read of its content was";
  std::shared_ptr<State> state_; // null: no content

  void beginContent(Wire& wire, MessageParser& parser, Framing framing, std::uint64_t length, std::uint64_t limit,
                    BodyOwner& owner);
  void finishContent(const char* why) noexcept;
  bool hasContentEnded() const noexcept;
};

} // namespace detail
} // namespace http
} // namespace v0
} // namespace troth
