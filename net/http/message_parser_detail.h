// SPDX-License-Identifier: MIT
// MessageParser: the heads of HTTP/1 messages, and bodies in chunks. The one place that knows llhttp.
#pragma once

#include <troth/net/http/byte_buffer_detail.h>
#include <troth/net/http/header_map.h>
#include <troth/net/http/method.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>

namespace troth {
inline namespace v0 {
namespace http {
namespace detail {

/// What a head may take.
struct HeadLimits {
  std::uint32_t headBytes = 64 * 1024; // everything to the empty line, that included
  std::uint32_t targetBytes = 8 * 1024;
  std::uint32_t fields = 128;
};

/// Why a message is refused: the status to answer with, and the rule that it breaks.
struct ParseFault {
  int status = 0; // 0: none
  const char* reason = "";
};

/// How the end of a message's body is found (RFC 9112, section 6.3).
enum class Framing : std::uint8_t { NONE, LENGTH, CHUNKED, UNTIL_CLOSE };

/// Parses one message after the other, of the connection's one direction. It holds no bytes: the caller keeps those of
/// a head together until it is complete.
///
/// llhttp does the syntax, in its strict mode. When it has let a head pass, the head is taken apart line by line, and
/// what RFC 9112 does not allow is refused: folded lines (section 5.2), a Host that is missing, repeated or malformed
/// (3.2), a Transfer-Encoding other than one "chunked" (6.1) or with HTTP/1.0, targets of no form (3.2), versions that
/// are not 1.0 or 1.1, and what is over a limit.
///
/// Clients send the same fields again and again. Those of a request that has neither content nor credentials and that
/// are, to the last byte, those of the request before are not parsed again.
class MessageParser {
public:
  enum class Kind : std::uint8_t { REQUEST, RESPONSE };
  enum class Outcome : std::uint8_t { NEEDS_MORE, COMPLETE, FAULT };

  MessageParser(Kind kind, HeadLimits limits) noexcept;
  MessageParser(const MessageParser&) = delete;
  MessageParser& operator=(const MessageParser&) = delete;
  ~MessageParser();

  /// Begins a new message.
  void reset() noexcept;

  /// No other head is expected soon: gives back what is kept to know the next one by. Views stay valid.
  void expectNothing() noexcept { known_ = ByteBuffer(); }

  /// Goes on with a head. `text` begins where it does, and holds all of it that there is: what earlier calls saw, and
  /// more. It may have moved in between.
  Outcome parseHead(std::string_view text);

  // --- Of the head, once it is COMPLETE; views are into its last `text`.

  /// Its length with the empty line. Bytes after it belong to the body.
  std::size_t headLength() const noexcept { return parsed_; }
  Method method() const noexcept { return method_; }
  std::string_view methodText() const noexcept { return view(methodAt_, methodLength_); }
  std::string_view target() const noexcept { return view(targetAt_, targetLength_); }
  int status() const noexcept { return status_; }
  std::string_view reason() const noexcept { return view(targetAt_, targetLength_); }
  /// 0 or 1: the version is HTTP/1.x.
  unsigned minorVersion() const noexcept { return minorVersion_; }
  HeaderFields fields() const noexcept { return {text_ + fieldsAt_, entries_.data(), entries_.size(), present_}; }
  /// A response's is as if a GET had been asked.
  Framing framing() const noexcept { return framing_; }
  /// For Framing::LENGTH.
  std::uint64_t contentLength() const noexcept { return contentLength_; }
  /// Whether the connection outlives the message, as far as the head says.
  bool keepsAlive() const noexcept;

  // --- Of a body with Framing::CHUNKED.

  struct Piece {
    Outcome outcome;       // COMPLETE: the body and its trailers are over
    std::size_t consumed;  // of the bytes that were given
    std::string_view data; // what of them is content; may be empty
  };
  /// Decodes what `bytes` begin with, up to and including one piece of content.
  Piece decodeChunked(std::string_view bytes);
  /// The trailers, once the body is COMPLETE.
  HeaderFields trailers() const noexcept;

  /// What was wrong, after FAULT. Nothing more of the connection is to be parsed then.
  const ParseFault& fault() const noexcept { return fault_; }

private:
  struct Llhttp; // the parser itself, in storage_, and its callbacks
  friend struct Llhttp;
  struct ChunkState;

  static constexpr std::size_t LLHTTP_SIZE = 128;

  alignas(8) std::byte storage_[LLHTTP_SIZE];
  const char* text_ = nullptr;
  const char* feedStart_ = nullptr; // what llhttp is fed at present: its first byte, …
  std::size_t feedAt_ = 0;          // … and where in the head that is
  std::size_t parsed_ = 0;
  std::size_t fieldsAt_ = 0; // where the first field's line begins, from where entries_ count
  PoolVector<HeaderEntry> entries_;
  std::uint64_t present_ = 0;
  std::uint64_t repeated_ = 0; // of those, the ones that came several times
  std::uint64_t contentLength_ = 0;
  ByteBuffer known_; // the text of entries_ and the empty line behind it, if they may be met again
  ParseFault fault_;
  const HeadLimits limits_;
  std::uint32_t methodAt_ = 0, methodLength_ = 0;
  std::uint32_t targetAt_ = 0, targetLength_ = 0; // a response's reason
  int status_ = 0;
  const Kind kind_;
  Method method_ = Method::OTHER;
  Framing framing_ = Framing::NONE;
  std::uint8_t minorVersion_ = 0;
  std::uint8_t flags_ = 0;             // what llhttp says of Connection
  bool hasStarted_ = false;            // llhttp has been fed
  std::unique_ptr<ChunkState> chunks_; // of a body in chunks, from its first byte on

  std::uint32_t offsetOf(const char* at) const noexcept {
    return static_cast<std::uint32_t>(feedAt_ + static_cast<std::size_t>(at - feedStart_));
  }
  template <typename Func>
  int orOutOfMemory(Func&& func) noexcept;
  std::string_view view(std::uint32_t at, std::uint32_t length) const noexcept { return {text_ + at, length}; }
  Outcome refuse(int status, const char* reason) noexcept;
  Outcome refuseAsLlhttp() noexcept;
  Outcome start(std::string_view text) noexcept;
  int feed(const char* bytes, std::size_t length, std::size_t at) noexcept;
  bool isTargetTooLong(std::string_view text) const noexcept;
  bool isKnown(std::string_view text) noexcept;
  void startLlhttp() noexcept;
  Outcome finishHead();
  std::size_t endOfRequestLine(std::string_view text) noexcept;
  std::size_t endOfStatusLine() noexcept;
  bool addFields();
  void remember() noexcept;
  bool checkVersion() noexcept;
  bool isRepeated(HeaderId id) const noexcept { return (repeated_ & headerBit(id)) != 0; }
  bool checkTransferEncoding() noexcept;
  bool checkTarget() noexcept;
  bool checkRequestFields() noexcept;
  Framing framingOf() const noexcept;
};

} // namespace detail
} // namespace http
} // namespace v0
} // namespace troth
