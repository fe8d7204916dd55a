// SPDX-License-Identifier: MIT
// What a WebSocket has to send, as bytes for its stream: frames, messages that become frames, and control frames.
#pragma once

#include <troth/net/http/byte_buffer_detail.h>
#include <troth/net/http/websocket.h>
#include <troth/net/http/websocket_deflate_detail.h>
#include <troth/net/http/websocket_frame_detail.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <utility>

namespace troth {
inline namespace v0 {
namespace http {
namespace detail {

/// A frame on its way to the stream, one part after the other.
class OutgoingFrame {
public:
  /// `header` is complete but for mask and length; `before`, whole frames, goes in front of it. `payload` stays alive.
  OutgoingFrame(WebSocketFrameHeader header, std::span<const std::byte> payload, WebSocket::Role role,
                ByteBuffer before = {});
  OutgoingFrame(OutgoingFrame&&) noexcept = default;
  OutgoingFrame& operator=(OutgoingFrame&&) = delete;

  /// The first bytes to write: all of them, unless they have to be masked. What they are in is the frame's, and stays
  /// where it is when the frame is moved.
  std::array<std::span<const std::byte>, 2> first() noexcept {
    return {asBytes(buffer_.text()), mask_ ? std::span<const std::byte>() : std::exchange(rest_, {})};
  }

  bool isDone() const noexcept { return rest_.empty(); }

  /// More bytes to write, valid until it is called again.
  std::span<const std::byte> next() {
    buffer_.clear();
    takePart(buffer_.room(partSize()));
    return asBytes(buffer_.text());
  }

private:
  ByteBuffer buffer_; // the header, and what goes along with it; later, what is masked
  std::optional<WebSocketMask> mask_;
  std::span<const std::byte> rest_;
  std::uint64_t at_ = 0;

  std::size_t partSize() const noexcept;
  void takePart(char* to) noexcept;
};

/// A message that is made into frames: into one or, if it is compressed, into as many as come of the steps.
class OutgoingMessage {
public:
  /// `deflater` may be null. `payload` stays alive.
  OutgoingMessage(WebSocketOpcode opcode, std::span<const std::byte> payload, WebSocketDeflater* deflater) noexcept
      : opcode_(opcode), rest_(payload), deflater_(deflater) {}
  OutgoingMessage(const OutgoingMessage&) = delete;
  OutgoingMessage& operator=(const OutgoingMessage&) = delete;
  /// What was compressed and not sent is forgotten by the deflater, or the peer would miss it.
  ~OutgoingMessage() {
    if (deflater_ != nullptr && !isSent_) deflater_->reset();
  }

  /// Does a step towards the next frame. Returns whether it is complete.
  bool prepareFrame();

  /// That frame, but for mask and length (RFC 6455, section 5.4; RFC 7692, section 6.1).
  WebSocketFrameHeader takeHeader() noexcept;
  std::span<const std::byte> payload() const noexcept { return deflater_ == nullptr ? rest_ : asBytes(compressed_); }

  /// The stream has taken that frame.
  void frameSent() noexcept { isSent_ = isLast(); }
  bool isSent() const noexcept { return isSent_; }

private:
  WebSocketOpcode opcode_; // of the next frame
  std::span<const std::byte> rest_;
  WebSocketDeflater* deflater_;
  PoolString compressed_;
  bool hasFrame_ = false; // in compressed_
  bool isSent_ = false;

  bool isLast() const noexcept { return deflater_ == nullptr || rest_.empty(); }
};

/// The control frames that wait to be written.
class ControlQueue {
public:
  ControlQueue(WebSocket::Role role, std::size_t mostPongs) noexcept : mostPongs_(mostPongs), role_(role) {}

  /// Answers a ping. If too many answers wait, the last one is not sent.
  void addPong(std::string_view payload);
  /// A ping with this number, from 1 on, instead of one that waits.
  void setPing(std::uint64_t number) noexcept { ping_ = number; }
  /// Throws std::bad_alloc, and has done nothing then.
  void setClose(WebSocketCloseCode code, std::string_view reason);

  bool hasClose() const noexcept { return close_.has_value(); }
  bool isEmpty() const noexcept { return frames_.empty() && ping_ == 0; }

  /// All of them, as bytes; a close frame, which is the last there is, only `withClose`.
  ByteBuffer take(bool withClose);

private:
  ByteBuffer frames_; // pongs
  std::size_t pongs_ = 0;
  std::size_t lastPong_ = 0;        // where it begins
  std::uint64_t ping_ = 0;          // 0: none
  std::optional<ByteBuffer> close_; // its payload
  std::size_t mostPongs_;
  WebSocket::Role role_;

  void append(ByteBuffer& frames, WebSocketOpcode opcode, std::string_view payload) const;
};

} // namespace detail
} // namespace http
} // namespace v0
} // namespace troth
