// SPDX-License-Identifier: MIT
// From messages and answers to bytes: how much is copied, masked, or compressed at a time.
#include <troth/net/http/websocket_outgoing_detail.h>

#include <algorithm>
#include <cstring>

namespace troth {
inline namespace v0 {
namespace http {
namespace detail {

namespace {

// Up to here a copy costs the system less than a second piece.
constexpr std::size_t MOST_COPIED = 1024;
// The first part fits into a buffer of the pool together with its header.
constexpr std::size_t MOST_MASKED = troth::detail::BUFFER_SIZE - 2 * LONGEST_FRAME_HEADER;

// At zlib's usual level they take about a millisecond.
constexpr std::size_t MOST_COMPRESSED_AT_ONCE = 32 * 1024;
// From so many on, a frame's header, and what it costs to write one more, are nothing beside the bytes.
constexpr std::size_t ENOUGH_FOR_A_FRAME = 32 * 1024;

} // namespace

OutgoingFrame::OutgoingFrame(WebSocketFrameHeader header, std::span<const std::byte> payload, WebSocket::Role role,
                             ByteBuffer before)
    : buffer_(std::move(before)), rest_(payload) {
  if (role == WebSocket::Role::CLIENT) header.mask = mask_ = randomMask();
  header.length = rest_.size();
  std::array<std::byte, LONGEST_FRAME_HEADER> bytes;
  const std::size_t size = writeFrameHeader(bytes, header);
  const bool isBuffered = mask_ || rest_.size() <= MOST_COPIED;
  char* const to = buffer_.room(size + (isBuffered ? partSize() : 0));
  std::memcpy(to, bytes.data(), size);
  buffer_.added(size);
  if (isBuffered) takePart(to + size);
}

std::size_t OutgoingFrame::partSize() const noexcept { return std::min(rest_.size(), MOST_MASKED); }

void OutgoingFrame::takePart(char* to) noexcept {
  const std::span<const std::byte> part = rest_.first(partSize());
  if (part.empty()) return;
  std::memcpy(to, part.data(), part.size());
  if (mask_) applyMask(std::as_writable_bytes(std::span(to, part.size())), *mask_, at_);
  buffer_.added(part.size());
  rest_ = rest_.subspan(part.size());
  at_ += part.size();
}

bool OutgoingMessage::prepareFrame() {
  if (deflater_ == nullptr) return true;
  if (std::exchange(hasFrame_, false)) compressed_.clear();
  const std::span<const std::byte> part = rest_.first(std::min(rest_.size(), MOST_COMPRESSED_AT_ONCE));
  rest_ = rest_.subspan(part.size());
  using Part = WebSocketDeflater::Part;
  deflater_->deflate(part, rest_.empty() ? Part::LAST : Part::NOT_LAST, compressed_);
  hasFrame_ = rest_.empty() || compressed_.size() >= ENOUGH_FOR_A_FRAME;
  return hasFrame_;
}

WebSocketFrameHeader OutgoingMessage::takeHeader() noexcept {
  const WebSocketOpcode opcode = std::exchange(opcode_, WebSocketOpcode::CONTINUATION);
  const bool isCompressed = deflater_ != nullptr && opcode != WebSocketOpcode::CONTINUATION;
  return {opcode, isLast(), isCompressed, std::nullopt, 0};
}

void ControlQueue::addPong(std::string_view payload) {
  if (pongs_ == mostPongs_) {
    frames_.erase(lastPong_, frames_.size() - lastPong_);
    --pongs_;
  }
  lastPong_ = frames_.size();
  append(frames_, WebSocketOpcode::PONG, payload);
  ++pongs_;
}

void ControlQueue::setClose(WebSocketCloseCode code, std::string_view reason) {
  ByteBuffer payload;
  if (code != WebSocketCloseCode::NO_CODE) {
    const auto number = static_cast<unsigned>(code);
    const char bytes[] = {static_cast<char>(number >> 8), static_cast<char>(number & 0xff)};
    payload.append({bytes, sizeof bytes});
    payload.append(reason);
  }
  close_ = std::move(payload);
}

ByteBuffer ControlQueue::take(bool withClose) {
  ByteBuffer frames;
  frames.swap(frames_);
  pongs_ = 0;
  if (const std::uint64_t number = std::exchange(ping_, 0); number != 0)
    append(frames, WebSocketOpcode::PING, std::string_view(reinterpret_cast<const char*>(&number), sizeof number));
  if (withClose && close_) append(frames, WebSocketOpcode::CLOSE, std::exchange(close_, std::nullopt)->text());
  return frames;
}

void ControlQueue::append(ByteBuffer& frames, WebSocketOpcode opcode, std::string_view payload) const {
  OutgoingFrame frame({opcode, true, false, std::nullopt, 0}, asBytes(payload), role_);
  for (std::span<const std::byte> part : frame.first())
    frames.append({reinterpret_cast<const char*>(part.data()), part.size()});
}

} // namespace detail
} // namespace http
} // namespace v0
} // namespace troth
