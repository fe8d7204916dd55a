// SPDX-License-Identifier: MIT
// The frames of WebSocket (RFC 6455, section 5) without any I/O: headers, masks, UTF-8, and what can be wrong with
// them.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace troth {
inline namespace v0 {
namespace http {
namespace detail {

/// RFC 6455, section 5.2. From CLOSE on they are control frames.
enum class WebSocketOpcode : std::uint8_t { CONTINUATION = 0, TEXT = 1, BINARY = 2, CLOSE = 8, PING = 9, PONG = 10 };

constexpr bool isControl(WebSocketOpcode opcode) noexcept { return opcode >= WebSocketOpcode::CLOSE; }

/// What a peer can do wrong. Each is a close code (RFC 6455, section 7.4.1) and a text for people.
enum class WebSocketFault : std::uint8_t {
  NONE,
  RESERVED_BITS,
  RESERVED_OPCODE,
  FRAGMENTED_CONTROL,
  LONG_CONTROL,
  NOT_MASKED,
  MASKED,
  LENGTH_NOT_MINIMAL,
  LENGTH_TOO_LARGE,
  NOTHING_TO_CONTINUE,
  NOT_CONTINUED,
  COMPRESSED_CONTINUATION,
  BAD_CLOSE_PAYLOAD,
  BAD_CLOSE_CODE,
  NOT_UTF8,
  NOT_DEFLATED,
  MESSAGE_TOO_BIG,
  TOO_MANY_FRAGMENTS,
};

std::uint16_t closeCodeOf(WebSocketFault fault) noexcept;
/// Such as "a frame of a client that is not masked": for exceptions, and as the reason in a close frame.
std::string_view textOf(WebSocketFault fault) noexcept;

using WebSocketMask = std::array<std::byte, 4>;

/// The header of a frame.
struct WebSocketFrameHeader {
  WebSocketOpcode opcode = WebSocketOpcode::CONTINUATION;
  bool final = false;
  bool compressed = false; // RSV1, which permessage-deflate defines (RFC 7692, section 6)
  std::optional<WebSocketMask> mask;
  std::uint64_t length = 0; // of the payload

  friend bool operator==(const WebSocketFrameHeader&, const WebSocketFrameHeader&) = default;
};

/// Which frames are to be expected: a server gets masked ones, a client unmasked ones (RFC 6455, section 5.1).
enum class WebSocketMasking : std::uint8_t { REQUIRED, FORBIDDEN };

/// The longest header: 2 bytes, 8 of the length, 4 of the mask.
inline constexpr std::size_t LONGEST_FRAME_HEADER = 14;
/// RFC 6455, section 5.5.
inline constexpr std::size_t LONGEST_CONTROL_PAYLOAD = 125;
inline constexpr std::size_t LONGEST_CONTROL_FRAME = 2 + 4 + LONGEST_CONTROL_PAYLOAD;

/// Reads the header of one frame after the other, however the bytes come. What is wrong is said with the first byte
/// that is.
class WebSocketHeaderParser {
public:
  enum class Compression : std::uint8_t { NOT_NEGOTIATED, NEGOTIATED };

  WebSocketHeaderParser(WebSocketMasking masking, Compression compression) noexcept
      : masking_(masking), compression_(compression) {}

  /// Takes bytes off the front of `input`. Returns whether the header is complete; if not, and nothing is wrong, all
  /// bytes are taken, and more are needed.
  bool parse(std::span<const std::byte>& input) noexcept;

  /// What is wrong with the bytes. Nothing is parsed after that.
  WebSocketFault fault() const noexcept { return fault_; }

  /// The header, once parse() has returned true; until parse() is called again.
  const WebSocketFrameHeader& header() const noexcept { return header_; }

  /// Whether a header has begun.
  bool isInside() const noexcept { return have_ > 0; }

private:
  std::array<std::byte, LONGEST_FRAME_HEADER> raw_;
  std::uint8_t have_ = 0;
  std::uint8_t need_ = 2;
  WebSocketMasking masking_;
  Compression compression_;
  WebSocketFault fault_ = WebSocketFault::NONE;
  WebSocketFrameHeader header_;

  bool complete() noexcept;
  WebSocketFault checkFirst(unsigned byte) noexcept;
  WebSocketFault checkSecond(unsigned byte) noexcept;
  WebSocketFault checkLength() noexcept;
};

/// Writes a header, with the shortest length that there is for it; returns how many bytes it has.
std::size_t writeFrameHeader(std::span<std::byte, LONGEST_FRAME_HEADER> out,
                             const WebSocketFrameHeader& header) noexcept;

/// Masks or unmasks a part of a payload, which begins `offset` bytes behind the payload's begin (RFC 6455, section
/// 5.3). Any alignment is fine.
void applyMask(std::span<std::byte> bytes, const WebSocketMask& mask, std::uint64_t offset = 0) noexcept;

/// A mask that a peer or a script in a page cannot foresee (RFC 6455, section 10.3), from the system's source. Throws
/// what that throws.
WebSocketMask randomMask();
/// As many such bytes as `bytes` has.
void randomBytes(std::span<std::byte> bytes);

/// Looks whether bytes are UTF-8 (RFC 3629), in as many pieces as there are.
class Utf8Validator {
public:
  /// Whether all bytes up to here can be the begin of some UTF-8. Says no with the first byte that cannot; do not go on
  /// then.
  bool feed(std::span<const std::byte> bytes) noexcept;
  /// Whether no character is left unfinished.
  bool isComplete() const noexcept { return left_ == 0; }

private:
  std::uint8_t left_ = 0; // bytes that the character still needs
  std::uint8_t low_ = 0;  // what the next one may be
  std::uint8_t high_ = 0;

  [[gnu::noinline]] bool feedByCharacter(std::span<const std::byte> bytes) noexcept;
  bool step(std::uint8_t byte) noexcept;
};

/// Whether a close frame may carry it: RFC 6455, section 7.4, with what IANA's registry has since (1012 to 1014). The
/// others are reserved, or stand for the lack of a frame.
bool mayBeSent(std::uint16_t closeCode) noexcept;

/// What a close frame says (RFC 6455, section 5.5.1).
struct WebSocketCloseFrame {
  std::uint16_t code;      // 1005 if there is none
  std::string_view reason; // in the payload
};
/// Reads the payload of a close frame; `fault` says what was wrong with it.
WebSocketCloseFrame parseClosePayload(std::string_view payload, WebSocketFault& fault) noexcept;

} // namespace detail
} // namespace http
} // namespace v0
} // namespace troth
