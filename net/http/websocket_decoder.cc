// SPDX-License-Identifier: MIT
// Putting frames together to messages. Every check is made as soon as the bytes are there that it needs.
#include <troth/net/http/websocket_decoder_detail.h>

#include <troth/net/http/websocket_deflate_detail.h>
#include <troth/runtime/pool_detail.h>

#include <algorithm>
#include <cstring>
#include <utility>

namespace troth {
inline namespace v0 {
namespace http {
namespace detail {

namespace {

// A header may promise anything: so much of it is believed at once.
constexpr std::size_t MOST_RESERVED = 64 * 1024;
// Once so much has come, all of it is believed, so that no more than that is ever copied to make room: a message that
// grew by doubling would hold everybody up for some milliseconds at 16 MiB.
constexpr std::size_t ENOUGH_TO_BELIEVE = 1024 * 1024;
// From so many decompressed bytes on others have their turn: a chunk of input can become a thousand times as large. The
// inflater gives no more than that at a time, so if it has more, a PAUSE is due.
constexpr std::size_t MOST_AT_ONCE = troth::detail::BUFFER_SIZE;

} // namespace

WebSocketDecoder::Event WebSocketDecoder::next(std::span<const std::byte>& input) {
  if (!inPayload_) control_.clearTo(0); // it has been looked at
  for (;;) {
    if (!inPayload_) {
      if (!parser_.parse(input)) {
        if (parser_.fault() != WebSocketFault::NONE) return fail(parser_.fault());
        return Event::NEED_MORE;
      }
      if (const WebSocketFault fault = beginFrame(); fault != WebSocketFault::NONE) return fail(fault);
    }
    if (const WebSocketFault fault = takePayload(input); fault != WebSocketFault::NONE) return fail(fault);
    if (inflated_ >= MOST_AT_ONCE) {
      inflated_ = 0;
      return Event::PAUSE;
    }
    if (at_ < parser_.header().length) return Event::NEED_MORE;
    inPayload_ = false;
    if (const Event event = endFrame(); event != Event::NEED_MORE) return event;
  }
}

WebSocketFault WebSocketDecoder::beginFrame() noexcept {
  inPayload_ = true;
  at_ = 0;
  return isControl(parser_.header().opcode) ? WebSocketFault::NONE : beginData();
}

// RFC 6455, section 5.4.
WebSocketFault WebSocketDecoder::beginData() noexcept {
  const WebSocketFrameHeader& header = parser_.header();
  if (header.opcode == WebSocketOpcode::CONTINUATION) {
    if (!insideMessage_) return WebSocketFault::NOTHING_TO_CONTINUE;
    if (++fragments_ > limits_.fragments) return WebSocketFault::TOO_MANY_FRAGMENTS;
  } else {
    if (insideMessage_) return WebSocketFault::NOT_CONTINUED;
    insideMessage_ = true;
    compressed_ = header.compressed;
    type_ = header.opcode;
    fragments_ = 1;
  }
  if (!compressed_ && header.length > limits_.messageSize - message_.size()) return WebSocketFault::MESSAGE_TOO_BIG;
  return WebSocketFault::NONE;
}

// Takes what has come of the frame's payload; of what is compressed, as much as is right for one step.
WebSocketFault WebSocketDecoder::takePayload(std::span<const std::byte>& input) {
  const WebSocketFrameHeader& header = parser_.header();
  const auto size = static_cast<std::size_t>(std::min<std::uint64_t>(header.length - at_, input.size()));
  std::span<const std::byte> part = input.first(size);
  WebSocketFault fault = WebSocketFault::NONE;
  if (isControl(header.opcode)) {
    takeControl(std::exchange(part, {}));
  } else if (compressed_) {
    fault = takeCompressed(part);
  } else {
    fault = takeData(std::exchange(part, {}));
  }
  at_ += size - part.size();
  input = input.subspan(size - part.size());
  return fault;
}

void WebSocketDecoder::takeControl(std::span<const std::byte> part) {
  if (part.empty()) return;
  const std::span<char> copy(control_.room(part.size()), part.size());
  std::memcpy(copy.data(), part.data(), part.size());
  if (const auto& mask = parser_.header().mask) applyMask(std::as_writable_bytes(copy), *mask, at_);
  control_.added(part.size());
}

// For the next bytes of a frame that has not come in one piece.
void WebSocketDecoder::makeRoom(std::size_t next) {
  const auto promised = static_cast<std::size_t>(parser_.header().length - at_); // it is no more than the limit
  const std::size_t have = message_.size();
  if (have == 0) message_.reserve(std::min(promised, MOST_RESERVED));
  if (have >= ENOUGH_TO_BELIEVE && message_.capacity() - have < next) message_.reserve(have + promised);
}

WebSocketFault WebSocketDecoder::takeData(std::span<const std::byte> part) {
  if (part.empty()) return WebSocketFault::NONE;
  const WebSocketFrameHeader& header = parser_.header();
  const std::size_t before = message_.size();
  if (part.size() < header.length) [[unlikely]]
    makeRoom(part.size());
  message_.append(reinterpret_cast<const char*>(part.data()), part.size());
  const auto added = std::as_writable_bytes(std::span(message_.data(), message_.size())).subspan(before);
  if (header.mask) applyMask(added, *header.mask, at_);
  if (type_ == WebSocketOpcode::TEXT && !utf8_.feed(added)) return WebSocketFault::NOT_UTF8;
  return WebSocketFault::NONE;
}

// Takes bytes off the front of `part`: all that there is to take, unless a PAUSE is due. What is left then of a piece
// that was unmasked is unmasked again after it.
WebSocketFault WebSocketDecoder::takeCompressed(std::span<const std::byte>& part) {
  Utf8Validator* utf8 = type_ == WebSocketOpcode::TEXT ? &utf8_ : nullptr;
  const auto& mask = parser_.header().mask;
  std::array<std::byte, 4096> unmasked;
  const std::size_t size = part.size();
  while (inflated_ < MOST_AT_ONCE && (hasMore() || !part.empty())) {
    std::span<const std::byte> piece = part;
    if (mask) {
      piece = part.first(std::min(unmasked.size(), part.size()));
      const std::span<std::byte> copy = std::span(unmasked).first(piece.size());
      std::copy(piece.begin(), piece.end(), copy.begin());
      applyMask(copy, *mask, at_ + (size - part.size()));
      piece = copy;
    }
    const std::size_t given = piece.size(), before = message_.size();
    const WebSocketFault fault = inflater_->inflate(piece, limits_.messageSize, utf8, message_);
    if (fault != WebSocketFault::NONE) return fault;
    part = part.subspan(given - piece.size());
    inflated_ += message_.size() - before;
  }
  return WebSocketFault::NONE;
}

bool WebSocketDecoder::hasMore() const noexcept { return inflater_ != nullptr && inflater_->hasMore(); }

WebSocketDecoder::Event WebSocketDecoder::endFrame() {
  const WebSocketFrameHeader& header = parser_.header();
  if (isControl(header.opcode)) return endControl();
  return header.final ? endMessage() : Event::NEED_MORE;
}

WebSocketDecoder::Event WebSocketDecoder::endMessage() {
  insideMessage_ = false;
  const bool isText = type_ == WebSocketOpcode::TEXT;
  if (compressed_) {
    const WebSocketFault fault = inflater_->finish(limits_.messageSize, isText ? &utf8_ : nullptr, message_);
    if (fault != WebSocketFault::NONE) return fail(fault);
  }
  if (isText && !utf8_.isComplete()) return fail(WebSocketFault::NOT_UTF8);
  return Event::MESSAGE;
}

WebSocketDecoder::Event WebSocketDecoder::endControl() noexcept {
  const WebSocketOpcode opcode = parser_.header().opcode;
  if (opcode == WebSocketOpcode::PING) return Event::PING;
  if (opcode == WebSocketOpcode::PONG) return Event::PONG;
  WebSocketFault fault = WebSocketFault::NONE;
  parseClosePayload(controlPayload(), fault);
  return fault == WebSocketFault::NONE ? Event::CLOSE : fail(fault);
}

} // namespace detail
} // namespace http
} // namespace v0
} // namespace troth
