// SPDX-License-Identifier: MIT
// WebSocketDecoder: from bytes to messages and control frames (RFC 6455, section 5), without any I/O.
#pragma once

#include <troth/net/http/byte_buffer_detail.h>
#include <troth/net/http/pool_allocator_detail.h>
#include <troth/net/http/websocket_frame_detail.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <utility>

namespace troth {
inline namespace v0 {
namespace http {
namespace detail {

class WebSocketInflater;

/// How much a peer may send.
struct WebSocketLimits {
  std::size_t messageSize; // bytes, after decompression
  std::size_t fragments;   // frames of one message
};

/// Puts frames together. It stops at whatever its user has to look at, so nothing is kept but one message and one
/// control frame, however many of them have arrived.
class WebSocketDecoder {
public:
  enum class Event : std::uint8_t { NEED_MORE, PAUSE, MESSAGE, PING, PONG, CLOSE, FAULT };

  /// `inflater` is null if compression was not negotiated.
  WebSocketDecoder(WebSocketMasking masking, WebSocketLimits limits, WebSocketInflater* inflater) noexcept
      : parser_(masking, inflater == nullptr ? WebSocketHeaderParser::Compression::NOT_NEGOTIATED
                                             : WebSocketHeaderParser::Compression::NEGOTIATED),
        limits_(limits),
        inflater_(inflater) {}

  /// Takes bytes off the front of `input` up to the next event. After NEED_MORE all are taken. PAUSE says that a lot
  /// was decompressed: call it again, with what is left of `input`, once others have had their turn. After MESSAGE call
  /// takeMessage() first; after CLOSE and FAULT do not call it again. Throws std::bad_alloc.
  Event next(std::span<const std::byte>& input);

  /// Of MESSAGE: TEXT, which is UTF-8, or BINARY.
  WebSocketOpcode messageType() const noexcept { return type_; }
  PoolString takeMessage() noexcept {
    PoolString message = std::move(message_);
    message_.clear();
    return message;
  }

  /// Of PING and PONG; valid until next() is called again.
  std::string_view controlPayload() const noexcept { return control_.text(); }
  /// Of CLOSE; valid as long as this object.
  WebSocketCloseFrame closeFrame() const noexcept {
    WebSocketFault fault; // none, or it had not been a CLOSE
    return parseClosePayload(controlPayload(), fault);
  }
  WebSocketFault fault() const noexcept { return fault_; }

  /// Whether the peer has begun something that it has not ended.
  bool isInside() const noexcept { return inPayload_ || insideMessage_ || parser_.isInside(); }

private:
  WebSocketHeaderParser parser_;
  WebSocketLimits limits_;
  WebSocketInflater* inflater_;

  std::uint64_t at_ = 0; // how much has come of the frame whose header parser_ has
  std::size_t fragments_ = 0;
  PoolString message_;
  std::size_t inflated_ = 0; // bytes, since the last PAUSE
  ByteBuffer control_;       // no memory but for a control frame

  bool inPayload_ = false; // of that frame
  bool insideMessage_ = false;
  bool compressed_ = false;
  WebSocketOpcode type_ = WebSocketOpcode::TEXT;
  Utf8Validator utf8_; // complete between messages
  WebSocketFault fault_ = WebSocketFault::NONE;

  WebSocketFault beginFrame() noexcept;
  WebSocketFault beginData() noexcept;
  WebSocketFault takePayload(std::span<const std::byte>& input);
  void takeControl(std::span<const std::byte> part);
  void makeRoom(std::size_t next);
  WebSocketFault takeData(std::span<const std::byte> part);
  WebSocketFault takeCompressed(std::span<const std::byte>& part);
  bool hasMore() const noexcept;
  Event endFrame();
  Event endMessage();
  Event endControl() noexcept;
  Event fail(WebSocketFault fault) noexcept {
    fault_ = fault;
    return Event::FAULT;
  }
};

} // namespace detail
} // namespace http
} // namespace v0
} // namespace troth
