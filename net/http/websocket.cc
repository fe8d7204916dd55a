// SPDX-License-Identifier: MIT
// WebSocket on a stream: who reads, who writes, and how the two sides part.
#include <troth/net/http/websocket.h>

#include <troth/io/operation_detail.h>
#include <troth/net/http/websocket_decoder_detail.h>
#include <troth/net/http/websocket_deflate_detail.h>
#include <troth/runtime/pool_detail.h>
#include <troth/runtime/quote_detail.h>

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>
#include <utility>

namespace troth {
inline namespace v0 {
namespace http {

// How it works. The state is shared by the WebSocket and its operations; the stream is there until it ends.
//
// Reading: a receive() reads the stream and feeds the decoder until that has a message, which stays there until the
// result is taken. close() does the same if no receive() is pending, and throws the messages away.
//
// Writing: `isWriting_` is set while a frame is written to the stream: by a send(), or by the flusher, a task of the
// state that writes control frames. Whoever ends a write looks for control frames that have come to wait, and starts
// the flusher. Control frames wait in a bounded queue, and go out in front of the next frame of a message if that is
// first.
//
// Compressing and decompressing take long, and a message may be large: both are done in steps of some tens of
// kilobytes, between which the loop looks for I/O. A message goes out as the frames that come of these steps, and
// control frames between them. What was compressed and was not sent is forgotten by the deflater, or the peer would
// miss it.
//
// An end is an exception that is set once: `readEnd_` is what receive() fails with once all that came before has been
// taken, and `writeEnd_` what send() fails with. Those who wait are woken and look.

namespace {

using detail::PoolString;
using detail::WebSocketFault;
using detail::WebSocketFrameHeader;
using detail::WebSocketMasking;
using detail::WebSocketOpcode;
using troth::detail::Ref;

using Code = WebSocketCloseCode;

// RFC 6455, section 5.5: the payload of a control frame has 125 bytes, and the code takes two.
constexpr std::size_t LONGEST_REASON = detail::LONGEST_CONTROL_PAYLOAD - 2;

class CloseCodes final : public std::error_category {
public:
  const char* name() const noexcept override { return "WebSocket"; }
  std::string message(int code) const override { return fmt::format("closed with code {}", code); }
};

bool isUtf8(std::string_view text) noexcept {
  detail::Utf8Validator utf8;
  return utf8.feed(asBytes(text)) && utf8.isComplete();
}

Exception disconnected(std::string_view what, const std::source_location& where, std::error_code code = {}) {
  return Exception(Exception::Kind::DISCONNECTED, fmt::format("WebSocket: {}", what), code, where);
}

/// A frame on its way to the stream, one part after the other.
class OutgoingFrame {
public:
  /// `header` is complete but for mask and length. `payload` stays alive.
  OutgoingFrame(WebSocketFrameHeader header, std::span<const std::byte> payload, WebSocket::Role role)
      : rest_(payload) {
    if (role == WebSocket::Role::CLIENT) header.mask = mask_ = detail::randomMask();
    header.length = rest_.size();
    std::array<std::byte, detail::LONGEST_FRAME_HEADER> bytes;
    const std::size_t size = detail::writeFrameHeader(bytes, header);
    const bool isBuffered = mask_ || rest_.size() <= MOST_COPIED;
    if (isBuffered) buffer_.reserve(size + std::min(rest_.size(), MOST_MASKED));
    buffer_.append(reinterpret_cast<const char*>(bytes.data()), size);
    if (isBuffered) takePart();
  }
  OutgoingFrame(const OutgoingFrame&) = delete;
  OutgoingFrame& operator=(const OutgoingFrame&) = delete;

  /// The first bytes to write: all of them, unless they have to be masked.
  std::array<std::span<const std::byte>, 2> first() noexcept {
    return {asBytes(buffer_), mask_ ? std::span<const std::byte>() : std::exchange(rest_, {})};
  }

  bool isDone() const noexcept { return rest_.empty(); }

  /// More bytes to write, valid until it is called again.
  std::span<const std::byte> next() {
    buffer_.clear();
    takePart();
    return asBytes(buffer_);
  }

private:
  // Up to here a copy costs the system less than a second piece.
  static constexpr std::size_t MOST_COPIED = 1024;
  // The first part fits into a buffer of the pool together with its header.
  static constexpr std::size_t MOST_MASKED = troth::detail::BUFFER_SIZE - 2 * detail::LONGEST_FRAME_HEADER;

  PoolString buffer_; // the header, and what goes along with it; later, what is masked
  std::optional<detail::WebSocketMask> mask_;
  std::span<const std::byte> rest_;
  std::uint64_t at_ = 0;

  void takePart() {
    const std::span<const std::byte> part = rest_.first(std::min(rest_.size(), MOST_MASKED));
    const std::size_t before = buffer_.size();
    buffer_.append(reinterpret_cast<const char*>(part.data()), part.size());
    if (mask_)
      detail::applyMask(std::as_writable_bytes(std::span(buffer_.data(), buffer_.size())).subspan(before), *mask_, at_);
    rest_ = rest_.subspan(part.size());
    at_ += part.size();
  }
};

/// A message that is made into frames: into one or, if it is compressed, into as many as come of the steps.
class OutgoingMessage {
public:
  /// `deflater` may be null. `payload` stays alive.
  OutgoingMessage(WebSocketOpcode opcode, std::span<const std::byte> payload,
                  detail::WebSocketDeflater* deflater) noexcept
      : opcode_(opcode), rest_(payload), deflater_(deflater) {}
  OutgoingMessage(const OutgoingMessage&) = delete;
  OutgoingMessage& operator=(const OutgoingMessage&) = delete;
  ~OutgoingMessage() {
    if (deflater_ != nullptr && !isSent_) deflater_->reset();
  }

  /// Does a step towards the next frame. Returns whether it is complete.
  bool prepareFrame() {
    if (deflater_ == nullptr) return true;
    if (std::exchange(hasFrame_, false)) compressed_.clear();
    const std::span<const std::byte> part = rest_.first(std::min(rest_.size(), MOST_COMPRESSED_AT_ONCE));
    rest_ = rest_.subspan(part.size());
    using Part = detail::WebSocketDeflater::Part;
    deflater_->deflate(part, rest_.empty() ? Part::LAST : Part::NOT_LAST, compressed_);
    hasFrame_ = rest_.empty() || compressed_.size() >= ENOUGH_FOR_A_FRAME;
    return hasFrame_;
  }

  /// That frame, but for mask and length (RFC 6455, section 5.4; RFC 7692, section 6.1).
  WebSocketFrameHeader takeHeader() noexcept {
    const WebSocketOpcode opcode = std::exchange(opcode_, WebSocketOpcode::CONTINUATION);
    const bool isCompressed = deflater_ != nullptr && opcode != WebSocketOpcode::CONTINUATION;
    return {opcode, isLast(), isCompressed, std::nullopt, 0};
  }
  std::span<const std::byte> payload() const noexcept { return deflater_ == nullptr ? rest_ : asBytes(compressed_); }

  /// The stream has taken that frame.
  void frameSent() noexcept { isSent_ = isLast(); }
  bool isSent() const noexcept { return isSent_; }

private:
  // At zlib's usual level they take about a millisecond.
  static constexpr std::size_t MOST_COMPRESSED_AT_ONCE = 32 * 1024;
  // From so many on, a frame's header, and what it costs to write one more, are nothing beside the bytes.
  static constexpr std::size_t ENOUGH_FOR_A_FRAME = 32 * 1024;

  WebSocketOpcode opcode_; // of the next frame
  std::span<const std::byte> rest_;
  detail::WebSocketDeflater* deflater_;
  PoolString compressed_;
  bool hasFrame_ = false; // in compressed_
  bool isSent_ = false;

  bool isLast() const noexcept { return deflater_ == nullptr || rest_.empty(); }
};

/// The control frames that wait to be written.
class ControlQueue {
public:
  ControlQueue(WebSocket::Role role, std::size_t mostPongs) noexcept : role_(role), mostPongs_(mostPongs) {}

  /// Answers a ping. If too many answers wait, the last one is not sent.
  void addPong(std::string_view payload) {
    if (pongs_ == mostPongs_) {
      frames_.resize(lastPong_);
      --pongs_;
    }
    lastPong_ = frames_.size();
    append(frames_, WebSocketOpcode::PONG, payload);
    ++pongs_;
  }

  /// A ping with this number, instead of one that waits.
  void setPing(std::uint64_t number) noexcept { ping_ = number; }

  void setClose(Code code, std::string_view reason) {
    close_.emplace();
    if (code == Code::NO_CODE) return;
    close_->push_back(static_cast<char>(static_cast<unsigned>(code) >> 8));
    close_->push_back(static_cast<char>(static_cast<unsigned>(code) & 0xff));
    close_->append(reason);
  }

  bool hasClose() const noexcept { return close_.has_value(); }
  bool isEmpty() const noexcept { return frames_.empty() && !ping_; }

  /// All of them, as bytes; a close frame, which is the last there is, only `withClose`.
  PoolString take(bool withClose) {
    PoolString frames = std::exchange(frames_, {});
    pongs_ = 0;
    if (const auto number = std::exchange(ping_, std::nullopt))
      append(frames, WebSocketOpcode::PING, std::string_view(reinterpret_cast<const char*>(&*number), sizeof *number));
    if (withClose && close_) append(frames, WebSocketOpcode::CLOSE, *std::exchange(close_, std::nullopt));
    return frames;
  }

private:
  PoolString frames_; // pongs
  std::size_t pongs_ = 0;
  std::size_t lastPong_ = 0; // where it begins
  std::optional<std::uint64_t> ping_;
  std::optional<PoolString> close_; // its payload
  WebSocket::Role role_;
  std::size_t mostPongs_;

  void append(PoolString& frames, WebSocketOpcode opcode, std::string_view payload) const {
    OutgoingFrame frame({opcode, true, false, std::nullopt, 0}, asBytes(payload), role_);
    for (std::span<const std::byte> part : frame.first())
      frames.append(reinterpret_cast<const char*>(part.data()), part.size());
  }
};

} // namespace

std::error_code make_error_code(WebSocketCloseCode code) noexcept {
  static const CloseCodes category;
  return {static_cast<int>(code), category};
}

class WebSocket::State final : public troth::detail::Counted, public troth::detail::Pooled {
public:
  State(std::unique_ptr<AsyncIoStream> stream, Role role, WebSocketAgreement agreement, const WebSocketOptions& options)
      : stream_(std::move(stream)),
        role_(role),
        agreement_(std::move(agreement)),
        options_(options),
        decoder_(role == Role::SERVER ? WebSocketMasking::REQUIRED : WebSocketMasking::FORBIDDEN,
                 {options.maxMessageSize, options.maxFragments}, makeCodecs()),
        controls_(role, options.maxQueuedPongs) {}

  const std::string& subprotocol() const noexcept { return agreement_.subprotocol; }

  void start();
  /// The connection is over, for this reason. A stream that is destroyed rejects what is pending on it.
  void end(const Exception& reason) noexcept;
  /// The WebSocket goes, or gives up: nothing of the state runs any more.
  void stop(const Exception& reason) noexcept;
  void abort(const std::source_location& where);

  static Promise<WebSocketMessage> receive(State& state, std::source_location where);
  static Promise<void> send(State& state, WebSocketOpcode opcode, std::span<const std::byte> payload,
                            std::source_location where);
  static Promise<void> ping(State& state, std::source_location where);
  static Promise<void> close(State& state, Code code, std::string_view reason, std::source_location where);

private:
  class Receiving;
  class ReadingToClose;
  class Sending;
  class Writing;
  enum class Progress : std::uint8_t { NEEDS_INPUT, PAUSED, FOUND };

  // --- What both directions need.
  std::unique_ptr<AsyncIoStream> stream_; // null once it is over
  Role role_;
  WebSocketAgreement agreement_;
  WebSocketOptions options_;
  std::optional<detail::WebSocketInflater> inflater_;
  std::optional<detail::WebSocketDeflater> deflater_;

  // --- Reading.
  detail::WebSocketDecoder decoder_;
  Chunk input_;
  std::size_t inputAt_ = 0;                              // what the decoder has had of it
  std::uint64_t chunksRead_ = 0;                         // signs of life
  bool hasMessage_ = false;                              // the decoder has one
  bool isReceiving_ = false;                             // a receive() is pending, or its result has not been taken
  bool isReadingToClose_ = false;                        // a close() reads
  std::optional<detail::WebSocketCloseFrame> peerClose_; // in the decoder
  bool isCloseTaken_ = false;
  bool hasMetFault_ = false; // of the peer
  std::optional<Exception> readEnd_;
  troth::detail::Sleepers readChanged_; // wait for one of the above

  // --- Writing.
  enum class Closing : std::uint8_t { NOT, QUEUED, WRITTEN };
  ControlQueue controls_;
  PoolString flushed_; // what the flusher writes
  bool isWriting_ = false;
  bool isSending_ = false; // a send() is pending, be it to wait for its turn
  Closing closing_ = Closing::NOT;
  std::optional<Exception> writeEnd_;
  troth::detail::Sleepers writeChanged_;

  // --- Pings.
  std::uint64_t lastPing_ = 0;
  std::uint64_t answered_ = 0;
  troth::detail::Sleepers pongs_;

  Promise<void> flusher_ = NEVER_DONE; // these two use all of the above
  Promise<void> keepAlive_ = NEVER_DONE;

  detail::WebSocketInflater* makeCodecs();

  bool hasResult() const noexcept { return hasMessage_ || (peerClose_ && !isCloseTaken_); }
  WebSocketMessage takeResult() noexcept;
  static Promise<void> untilResult(Ref<State> state, std::source_location where);
  Promise<Chunk> readChunk(std::source_location where);
  void took(Chunk chunk, const std::source_location& where);
  Progress advance() noexcept;
  Progress decode();
  void handlePong(std::string_view payload) noexcept;
  void handleClose();
  void handleFault(WebSocketFault fault);
  void endReading(const Exception& reason) noexcept;

  static Promise<void> sendInTurn(Ref<State> state, WebSocketOpcode opcode, std::span<const std::byte> payload,
                                  std::source_location where);
  void requireOpen(const std::source_location& where) const;
  Promise<Result<void>> write(std::span<const std::span<const std::byte>> pieces, std::source_location where);
  bool isWorthCompressing(std::size_t size) const noexcept { return deflater_ && size >= agreement_.deflate->smallest; }
  void queueClose(Code code, std::string_view reason);
  bool hasControls() const noexcept;
  void flush() noexcept;
  static Promise<void> flushing(State& state);
  void endWriting(const Exception& reason) noexcept;
  void shutdownIfClosed() noexcept;

  static Promise<void> awaitPong(Ref<State> state, std::uint64_t number, std::source_location where);
  static Promise<void> keepingAlive(State& state);
  static Promise<void> untilClosed(Ref<State> state, std::source_location where);
};

// ------------------------------------------------------------------------------------- marks of what is pending

/// A receive(), until its result is taken or it is destroyed.
class WebSocket::State::Receiving {
public:
  explicit Receiving(State& state) noexcept : state_(state) { state.isReceiving_ = true; }
  Receiving(Receiving&&) noexcept = default;
  Receiving& operator=(Receiving&&) = delete;
  ~Receiving() {
    if (!state_) return;
    state_->isReceiving_ = false;
    state_->readChanged_.wake();
  }
  State& state() const noexcept { return *state_; }

private:
  Ref<State> state_;
};

/// A close() that reads. A part of a coroutine that holds the state.
class WebSocket::State::ReadingToClose {
public:
  explicit ReadingToClose(State& state) noexcept : state_(state) { state.isReadingToClose_ = true; }
  ReadingToClose(const ReadingToClose&) = delete;
  ReadingToClose& operator=(const ReadingToClose&) = delete;
  ~ReadingToClose() {
    state_.isReadingToClose_ = false;
    state_.readChanged_.wake();
  }

private:
  State& state_;
};

/// A send(). The same. If it ends in the middle of its message, that was the last one.
class WebSocket::State::Sending {
public:
  Sending(State& state, const std::source_location& where) noexcept : state_(state), where_(where) {
    state.isSending_ = true;
  }
  Sending(const Sending&) = delete;
  Sending& operator=(const Sending&) = delete;
  ~Sending() {
    state_.isSending_ = false;
    if (isInside_)
      state_.endWriting(Exception(Exception::Kind::FAILED,
                                  "WebSocket: a send() ended while its message was partly written, so nothing can be "
                                  "sent any more: abort() it",
                                  {}, where_));
    state_.flush(); // a close frame may have waited
  }
  void begin() noexcept { isInside_ = true; }
  void done() noexcept { isInside_ = false; }

private:
  State& state_;
  std::source_location where_;
  bool isInside_ = false;
};

/// A frame that is being written by a send(). The same.
class WebSocket::State::Writing {
public:
  explicit Writing(State& state) noexcept : state_(state) { state.isWriting_ = true; }
  Writing(const Writing&) = delete;
  Writing& operator=(const Writing&) = delete;
  ~Writing() { state_.isWriting_ = false; }

private:
  State& state_;
};

// ------------------------------------------------------------------------------------------------------- reading

detail::WebSocketInflater* WebSocket::State::makeCodecs() {
  if (!agreement_.deflate) return nullptr;
  deflater_.emplace(*agreement_.deflate);
  return &inflater_.emplace(*agreement_.deflate);
}

// The first step waits and takes nothing; the second runs only when the result is taken. So a receive() that is
// destroyed in between has done nothing.
Promise<WebSocketMessage> WebSocket::State::receive(State& state, std::source_location where) {
  if (state.isReceiving_)
    troth::detail::throwMisuse("WebSocket::receive: another one is pending, or its result has not been taken", where);
  Receiving receiving(state);
  return untilResult(Ref<State>(state), where)
      .then([receiving = std::move(receiving)] { return receiving.state().takeResult(); },
            troth::detail::PropagateException(), where);
}

WebSocketMessage WebSocket::State::takeResult() noexcept {
  if (std::exchange(hasMessage_, false)) {
    const bool isText = decoder_.messageType() == WebSocketOpcode::TEXT;
    return {isText ? WebSocketMessage::Type::TEXT : WebSocketMessage::Type::BINARY, decoder_.takeMessage()};
  }
  isCloseTaken_ = true;
  return {WebSocketMessage::Type::CLOSE, PoolString(peerClose_->reason), static_cast<Code>(peerClose_->code)};
}

Promise<void> WebSocket::State::untilResult(Ref<State> state, std::source_location where) {
  while (state->isReadingToClose_) co_await state->readChanged_.sleep(where);
  while (!state->hasResult()) {
    if (state->readEnd_) throw Exception(*state->readEnd_);
    const Progress progress = state->advance();
    if (progress == Progress::PAUSED) co_await yieldToIo();
    if (progress != Progress::NEEDS_INPUT) continue;
    Promise<Chunk> reading = state->readChunk(where);
    try {
      state->took(co_await std::move(reading), where);
    } catch (...) {
      state->endReading(Exception::fromCurrent().withContext("WebSocket"));
    }
  }
}

Promise<Chunk> WebSocket::State::readChunk(std::source_location where) {
  return evalNow([&] { return stream_->tryReadChunk(Chunk::CAPACITY, where); });
}

void WebSocket::State::took(Chunk chunk, const std::source_location& where) {
  if (chunk.empty()) {
    endReading(disconnected(decoder_.isInside() ? "the connection ended in the middle of a message"
                                                : "the connection ended without a close frame",
                            where, Code::ABNORMAL));
    return;
  }
  input_ = std::move(chunk);
  inputAt_ = 0;
  ++chunksRead_;
}

// Decodes what was read, no longer than for a step. What is found is a message, or the end.
WebSocket::State::Progress WebSocket::State::advance() noexcept {
  try {
    const Progress progress = decode();
    flush();
    return progress;
  } catch (...) { // no memory; the decoder has lost its place
    endReading(Exception::fromCurrent());
    return Progress::FOUND;
  }
}

WebSocket::State::Progress WebSocket::State::decode() {
  using Event = detail::WebSocketDecoder::Event;
  for (;;) {
    std::span<const std::byte> bytes = input_.bytes().subspan(inputAt_);
    const Event event = decoder_.next(bytes);
    inputAt_ = input_.size() - bytes.size();
    switch (event) {
    case Event::NEED_MORE:
      input_ = Chunk();
      inputAt_ = 0;
      return Progress::NEEDS_INPUT;
    case Event::PAUSE:
      return Progress::PAUSED;
    case Event::MESSAGE:
      hasMessage_ = true;
      return Progress::FOUND;
    case Event::PING:
      if (closing_ == Closing::NOT) controls_.addPong(decoder_.controlPayload());
      break;
    case Event::PONG:
      handlePong(decoder_.controlPayload());
      break;
    case Event::CLOSE:
      handleClose();
      return Progress::FOUND;
    case Event::FAULT:
      handleFault(decoder_.fault());
      return Progress::FOUND;
    }
  }
}

// The payload is that of one of our pings, or it came unasked for (RFC 6455, section 5.5.3).
void WebSocket::State::handlePong(std::string_view payload) noexcept {
  std::uint64_t number;
  if (payload.size() != sizeof number) return;
  std::memcpy(&number, payload.data(), sizeof number);
  if (number <= answered_ || number > lastPing_) return;
  answered_ = number;
  pongs_.wake();
}

// RFC 6455, section 5.5.1: it is answered with the same code. Nothing comes after it.
void WebSocket::State::handleClose() {
  peerClose_ = decoder_.closeFrame();
  const auto code = static_cast<Code>(peerClose_->code);
  endReading(disconnected(
      fmt::format("the peer has closed it with code {} {}", peerClose_->code, troth::detail::quote(peerClose_->reason)),
      std::source_location::current(), code));
  if (closing_ == Closing::NOT) queueClose(code, {});
  shutdownIfClosed();
}

// RFC 6455, section 7.1.7.
void WebSocket::State::handleFault(WebSocketFault fault) {
  const auto code = static_cast<Code>(closeCodeOf(fault));
  hasMetFault_ = true;
  endReading(Exception(Exception::Kind::FAILED, fmt::format("WebSocket: the peer sent {}", textOf(fault)), code));
  if (closing_ == Closing::NOT) queueClose(code, textOf(fault));
  shutdownIfClosed();
}

void WebSocket::State::endReading(const Exception& reason) noexcept {
  if (readEnd_) return;
  readEnd_ = reason;
  input_ = Chunk();
  inputAt_ = 0;
  readChanged_.wake();
  pongs_.wake();
}

// ------------------------------------------------------------------------------------------------------- writing

Promise<void> WebSocket::State::send(State& state, WebSocketOpcode opcode, std::span<const std::byte> payload,
                                     std::source_location where) {
  if (state.isSending_) troth::detail::throwMisuse("WebSocket::send: another one is pending", where);
  return sendInTurn(Ref<State>(state), opcode, payload, where);
}

Promise<void> WebSocket::State::sendInTurn(Ref<State> state, WebSocketOpcode opcode, std::span<const std::byte> payload,
                                           std::source_location where) {
  State& s = *state;
  s.requireOpen(where);
  Sending sending(s, where);
  OutgoingMessage message(opcode, payload, s.isWorthCompressing(payload.size()) ? &*s.deflater_ : nullptr);
  for (bool isFirst = true; !message.isSent(); isFirst = false) {
    if (!isFirst) { // that was a step
      s.flush();
      co_await yieldToIo();
    }
    if (!s.writeEnd_ && !message.prepareFrame()) continue;
    while (s.isWriting_ && !s.writeEnd_) co_await s.writeChanged_.sleep(where);
    if (s.writeEnd_) throw Exception(*s.writeEnd_);

    const Writing writing(s);
    OutgoingFrame frame(message.takeHeader(), message.payload(), s.role_);
    const PoolString controls = s.controls_.take(false);
    const std::array<std::span<const std::byte>, 2> parts = frame.first();
    const std::array<std::span<const std::byte>, 3> pieces{asBytes(controls), parts[0], parts[1]};
    sending.begin();
    Promise<Result<void>> first = s.write(pieces, where);
    Result<void> result = co_await std::move(first);
    while (result && !frame.isDone() && !s.writeEnd_) {
      const std::span<const std::byte> part = frame.next();
      Promise<Result<void>> more = s.write({&part, 1}, where);
      result = co_await std::move(more);
    }
    if (!result) s.endWriting(result.error().withContext("WebSocket"));
    if (s.writeEnd_) throw Exception(*s.writeEnd_);
    message.frameSent();
  }
  sending.done();
}

void WebSocket::State::requireOpen(const std::source_location& where) const {
  if (writeEnd_) throw Exception(*writeEnd_);
  if (closing_ != Closing::NOT) throw disconnected("it is being closed, and nothing can be sent any more", where);
}

Promise<Result<void>> WebSocket::State::write(std::span<const std::span<const std::byte>> pieces,
                                              std::source_location where) {
  return evalNow([&] { return stream_->write(pieces, where); }).asResult();
}

void WebSocket::State::queueClose(Code code, std::string_view reason) {
  if (closing_ != Closing::NOT || writeEnd_) return;
  controls_.setClose(code, reason);
  closing_ = Closing::QUEUED;
  flush();
}

// A close frame lets the message go first that somebody is waiting to send. Behind it nothing is queued.
bool WebSocket::State::hasControls() const noexcept {
  return !controls_.isEmpty() || (controls_.hasClose() && !isSending_);
}

void WebSocket::State::flush() noexcept {
  if (isWriting_ || writeEnd_ || !hasControls()) return;
  try {
    flusher_ = flushing(*this);
  } catch (...) { // no memory
    isWriting_ = false;
    endWriting(Exception::fromCurrent());
  }
}

// Begins to write before it returns.
Promise<void> WebSocket::State::flushing(State& state) {
  while (!state.writeEnd_ && state.hasControls()) {
    state.isWriting_ = true;
    const bool closes = state.controls_.hasClose() && !state.isSending_;
    state.flushed_ = state.controls_.take(closes);
    const std::span<const std::byte> frames = asBytes(state.flushed_);
    Promise<Result<void>> write = state.write({&frames, 1}, std::source_location::current());
    const Result<void> result = co_await std::move(write);
    state.isWriting_ = false;
    if (!result) {
      state.endWriting(result.error().withContext("WebSocket"));
    } else if (closes) {
      state.closing_ = Closing::WRITTEN;
    }
  }
  state.shutdownIfClosed();
  state.writeChanged_.wake();
}

void WebSocket::State::endWriting(const Exception& reason) noexcept {
  if (writeEnd_) return;
  writeEnd_ = reason;
  writeChanged_.wake();
  pongs_.wake();
}

// RFC 6455, section 7.1.1: when both have said their last word, the server ends the connection first. Who has met a
// fault does not wait for the other.
void WebSocket::State::shutdownIfClosed() noexcept {
  if (closing_ != Closing::WRITTEN || !readEnd_ || writeEnd_ || (role_ == Role::CLIENT && peerClose_)) return;
  try {
    stream_->shutdownWrite();
  } catch (...) {
    // The peer is gone already.
  }
  endWriting(disconnected("it is closed", std::source_location::current()));
}

// --------------------------------------------------------------------------------------------- pings, and the end

Promise<void> WebSocket::State::ping(State& state, std::source_location where) {
  return awaitPong(Ref<State>(state), state.lastPing_ + 1, where);
}

Promise<void> WebSocket::State::awaitPong(Ref<State> state, std::uint64_t number, std::source_location where) {
  State& s = *state;
  s.requireOpen(where);
  s.lastPing_ = number;
  s.controls_.setPing(number);
  s.flush();
  while (s.answered_ < number) {
    if (s.readEnd_) throw Exception(*s.readEnd_);
    if (s.writeEnd_) throw Exception(*s.writeEnd_);
    co_await s.pongs_.sleep(where);
  }
}

void WebSocket::State::start() {
  if (options_.timer != nullptr && options_.pingInterval > Duration::zero()) keepAlive_ = keepingAlive(*this);
}

Promise<void> WebSocket::State::keepingAlive(State& state) {
  Timer& timer = *state.options_.timer;
  for (;;) {
    std::uint64_t seen = state.chunksRead_;
    co_await timer.afterDelay(state.options_.pingInterval);
    if (state.readEnd_ || state.writeEnd_ || state.closing_ != Closing::NOT) co_return;
    if (state.chunksRead_ != seen) continue;
    state.controls_.setPing(++state.lastPing_);
    state.flush();
    co_await timer.afterDelay(state.options_.pingTimeout);
    // Only who has been listened to is silent: what waits in the system is read before the loop would sleep.
    if (state.isReceiving_ || state.isReadingToClose_) co_await yieldUntilWouldSleep();
    const bool isListening = (state.isReceiving_ && !state.hasMessage_) || state.isReadingToClose_;
    if (!isListening || state.chunksRead_ != seen || state.readEnd_) continue;
    state.end(disconnected(
        fmt::format("the peer has not answered a ping within {} ms",
                    std::chrono::duration_cast<std::chrono::milliseconds>(state.options_.pingTimeout).count()),
        std::source_location::current(), Code::ABNORMAL));
    co_return;
  }
}

Promise<void> WebSocket::State::close(State& state, Code code, std::string_view reason, std::source_location where) {
  state.queueClose(code, reason);
  Promise<void> closed = untilClosed(Ref<State>(state), where);
  if (state.options_.timer == nullptr) return closed;
  Promise<void> limited = state.options_.timer->timeoutAfter(state.options_.closeTimeout, std::move(closed),
                                                             "the close frame of a WebSocket's peer", where);
  return std::move(limited).catch_(
      [held = Ref<State>(state)](Exception e) {
        if (e.kind() == Exception::Kind::OVERLOADED) held->end(e);
        throw Exception(std::move(e));
      },
      where);
}

// First reads, and then sees whether the own frame is written: a peer that waits for us to read may not read itself.
Promise<void> WebSocket::State::untilClosed(Ref<State> state, std::source_location where) {
  State& s = *state;
  while (!s.readEnd_) {
    // The peer does not know that it is to answer.
    if (s.writeEnd_ && s.closing_ != Closing::WRITTEN) throw Exception(*s.writeEnd_);
    if (s.isReceiving_ || s.isReadingToClose_) {
      co_await s.readChanged_.sleep(where);
      continue;
    }
    const ReadingToClose reading(s);
    while (!s.readEnd_) {
      if (std::exchange(s.hasMessage_, false)) s.decoder_.takeMessage();
      if (s.advance() != Progress::NEEDS_INPUT) {
        co_await yieldToIo();
        continue;
      }
      Promise<Chunk> chunk = s.readChunk(where);
      try {
        s.took(co_await std::move(chunk), where);
      } catch (...) {
        s.endReading(Exception::fromCurrent().withContext("WebSocket"));
      }
    }
  }
  while (s.closing_ == Closing::QUEUED && !s.writeEnd_) co_await s.writeChanged_.sleep(where);
  // Closing a connection with bytes that nobody has read resets it, and may take our frame from under the peer's eyes.
  while (s.hasMetFault_ && s.stream_ != nullptr) {
    Promise<Chunk> dropping = s.readChunk(where);
    try {
      const Chunk dropped = co_await std::move(dropping);
      if (dropped.empty()) break;
    } catch (...) {
      break; // it has ended this way
    }
  }
  if (!s.peerClose_) throw Exception(*s.readEnd_);
  if (s.closing_ != Closing::WRITTEN) throw Exception(*s.writeEnd_);
}

void WebSocket::State::end(const Exception& reason) noexcept {
  endReading(reason);
  endWriting(reason);
  flusher_ = NEVER_DONE;
  stream_ = nullptr;
}

void WebSocket::State::stop(const Exception& reason) noexcept {
  keepAlive_ = NEVER_DONE;
  end(reason);
}

void WebSocket::State::abort(const std::source_location& where) {
  if (stream_ != nullptr) stream_->abortWrite(where);
  stop(disconnected("abort() was called", where));
}

// ------------------------------------------------------------------------------------------------- the public part

WebSocket::WebSocket(std::unique_ptr<AsyncIoStream> stream, Role role, WebSocketAgreement agreement,
                     const WebSocketOptions& options, std::source_location where) {
  troth::detail::requireStream(stream, "WebSocket", where);
  if (options.maxQueuedPongs == 0) troth::detail::throwMisuse("WebSocket: a queue for 0 pongs", where);
  if (options.pingInterval > Duration::zero() && options.timer == nullptr)
    troth::detail::throwMisuse("WebSocket: a pingInterval needs a timer", where);
  if (agreement.deflate && !detail::canDeflate())
    troth::detail::throwMisuse("WebSocket: this troth was built without zlib, and has not agreed on it", where);
  state_ = Ref<State>(*new State(std::move(stream), role, std::move(agreement), options));
  state_->start();
}

WebSocket::WebSocket(WebSocket&& other) noexcept = default;

WebSocket& WebSocket::operator=(WebSocket&& other) noexcept {
  WebSocket old(std::move(*this));
  state_ = std::move(other.state_);
  return *this;
}

WebSocket::~WebSocket() {
  if (state_) state_->stop(disconnected("it was destroyed", std::source_location::current()));
}

WebSocket::State& WebSocket::state(const std::source_location& where) const {
  if (!state_) troth::detail::throwMisuse("WebSocket: it was moved from", where);
  return *state_;
}

Promise<WebSocketMessage> WebSocket::receive(std::source_location where) { return State::receive(state(where), where); }

Promise<void> WebSocket::send(std::string_view text, std::source_location where) {
  if (!isUtf8(text)) troth::detail::throwMisuse("WebSocket::send: a text that is not UTF-8: send it as bytes", where);
  return State::send(state(where), WebSocketOpcode::TEXT, asBytes(text), where);
}

Promise<void> WebSocket::send(std::span<const std::byte> bytes, std::source_location where) {
  return State::send(state(where), WebSocketOpcode::BINARY, bytes, where);
}

Promise<void> WebSocket::ping(std::source_location where) { return State::ping(state(where), where); }

Promise<void> WebSocket::close(WebSocketCloseCode code, std::string_view reason, std::source_location where) {
  if (!detail::mayBeSent(static_cast<std::uint16_t>(code)))
    troth::detail::throwMisuse(fmt::format("WebSocket::close: {} is no code to send", static_cast<unsigned>(code)),
                               where);
  if (reason.size() > LONGEST_REASON || !isUtf8(reason))
    troth::detail::throwMisuse(
        "WebSocket::close: the reason " + troth::detail::quote(reason) + " is not UTF-8 of at most 123 bytes", where);
  return State::close(state(where), code, reason, where);
}

void WebSocket::abort(std::source_location where) { state(where).abort(where); }

const std::string& WebSocket::subprotocol() const noexcept {
  static const std::string NONE;
  return state_ ? state_->subprotocol() : NONE;
}

} // namespace http
} // namespace v0
} // namespace troth
