// SPDX-License-Identifier: MIT
// What a WebSocket receives: from the stream's chunks to messages, and what the peer's control frames do.
#include <troth/net/http/websocket_state_detail.h>

#include <troth/runtime/event_detail.h>
#include <troth/runtime/node_detail.h>
#include <troth/runtime/quote_detail.h>

#include <fmt/format.h>

#include <cstring>
#include <utility>

namespace troth {
inline namespace v0 {
namespace http {
namespace {

using detail::WebSocketFault;
using detail::WebSocketOpcode;
using troth::detail::Event;
using troth::detail::OwnNode;
using troth::detail::PromiseAccess;
using troth::detail::Ref;
using troth::detail::ResultBase;
using troth::detail::SourceNode;

using Code = WebSocketCloseCode;

} // namespace

// A receive(), which waits until there is a message and takes it only when its own result is taken: so one that is
// destroyed in between has done nothing. It is the source of its promise and the event that waits for the stream, in
// one block of the pool.
class WebSocket::State::ReceiveNode final : public SourceNode, private Event, public troth::detail::Pooled {
public:
  ReceiveNode(State& state, const std::source_location& where) : ReceiveNode(state, where, EventLoop::current(where)) {}
  ReceiveNode(State& state, const std::source_location& where, EventLoop& loop) noexcept
      : SourceNode(where, &loop), Event(loop), state_(state) {
    state.receiver_ = this;
    state.isReceiving_ = true;
  }

  /// To be called once, when it has an owner.
  void start() noexcept {
    if (!goOn(Budget::NEXT_TURN)) return;
    endWait();
    state_->hasResult() ? setReady() : fail();
  }

  /// The decoder needs the place of the message that was found, if it has that still.
  void keepMessage() noexcept {
    if (!result_.value && state_->hasMessage_) result_.value.emplace(state_->takeResult());
  }

  ResultBase& get(ResultBase*) noexcept override {
    if (result_.exception || result_.value) return result_;
    try {
      result_.value.emplace(state_->takeResult());
    } catch (...) {
      result_.exception = troth::detail::failureFromCurrent();
    }
    return result_;
  }
  void destroy() noexcept override {
    Event::requireThreadToGo(where_);
    delete this;
  }
  const char* name() const noexcept override { return "WebSocket::receive"; }

private:
  enum class Budget : std::uint8_t { NEXT_TURN, THIS_TURN };

  Ref<State> state_;
  bool awaitsChunk_ = false; // and not a change
  troth::detail::Result<WebSocketMessage> result_;

  ~ReceiveNode() override {
    state_->receiver_ = nullptr;
    endWait();
  }

  // Whoever waits to read may.
  void endWait() noexcept {
    state_->isReceiving_ = false;
    state_->readChanged_.wake();
  }

  void fire() noexcept override {
    takeAwaited();
    if (!goOn(Budget::THIS_TURN)) return;
    endWait();
    state_->hasResult() ? setReadyAtEndOfTurn() : fail();
  }
  const PromiseNode* computes() const noexcept override { return this; }
  const PromiseNode* awaits() const noexcept override { return dependency_; }

  // Until something must be waited for; true if there is a result instead. As in a coroutine, what is ready may be
  // taken in place, but not before the first turn.
  bool goOn(Budget budget) noexcept {
    try {
      for (;;) {
        OwnNode awaited = next();
        if (!awaited) return true;
        dependency_ = awaited.release();
        if (!troth::detail::listenTo(dependency_, this)) return false;
        if (budget == Budget::NEXT_TURN || !takeInlineBudget()) {
          armDepthFirst();
          return false;
        }
        takeAwaited();
      }
    } catch (...) {
      state_->endReading(Exception::fromCurrent().withContext("WebSocket"));
      return true;
    }
  }

  // What has to be waited for; nothing if there is a result.
  OwnNode next() {
    State& s = *state_;
    awaitsChunk_ = false;
    if (s.isReadingToClose_ && !s.readEnd_) return take(s.readChanged_.sleep(where_));
    while (!s.hasResult() && !s.readEnd_) {
      switch (s.advance()) {
      case Progress::FOUND:
        break;
      case Progress::PAUSED:
        return take(yieldToIo());
      case Progress::NEEDS_INPUT:
        awaitsChunk_ = true;
        return take(s.stream_->tryReadChunk(Chunk::CAPACITY, where_));
      }
    }
    return OwnNode();
  }

  template <typename T>
  static OwnNode take(Promise<T> promise) {
    return PromiseAccess::take(promise, {});
  }

  void takeAwaited() noexcept {
    ResultBase& result = troth::detail::resolve(*dependency_);
    if (awaitsChunk_) takeChunk(result); // else next() looks what has changed
    troth::detail::destroyWaitedFor(*std::exchange(dependency_, nullptr));
  }

  void takeChunk(ResultBase& result) noexcept {
    State& s = *state_;
    if (result.exception) [[unlikely]]
      return s.endReading(Exception(std::move(result.exception)).withContext("WebSocket"));
    try {
      s.took(std::move(*static_cast<troth::detail::Result<Chunk>&>(result).value), where_);
    } catch (...) { // no memory to say that it was the end
      s.endReading(Exception::fromCurrent());
    }
  }

  void fail() noexcept { setFailed(result_, Exception(*state_->readEnd_)); }
};

Promise<WebSocketMessage> WebSocket::State::receive(State& state, std::source_location where) {
  if (state.receiver_ != nullptr)
    troth::detail::throwMisuse("WebSocket::receive: another one is pending, or its result has not been taken", where);
  auto* receiving = new ReceiveNode(state, where);
  Promise<WebSocketMessage> received = PromiseAccess::wrap<WebSocketMessage>(receiving);
  receiving->start();
  return received;
}

WebSocketMessage WebSocket::State::takeResult() {
  if (std::exchange(hasMessage_, false)) {
    const bool isText = decoder_.messageType() == WebSocketOpcode::TEXT;
    return {isText ? WebSocketMessage::Type::TEXT : WebSocketMessage::Type::BINARY, decoder_.takeMessage()};
  }
  const detail::WebSocketCloseFrame close = decoder_.closeFrame();
  detail::PoolString reason(close.reason);
  isCloseTaken_ = true;
  return {WebSocketMessage::Type::CLOSE, std::move(reason), static_cast<Code>(close.code)};
}

// A close() reads, and whoever has asked for a message has none yet, or keeps it.
void WebSocket::State::throwMessageAway() noexcept {
  if (receiver_ != nullptr && !isReceiving_) receiver_->keepMessage();
  if (std::exchange(hasMessage_, false)) decoder_.takeMessage();
}

// Of a close() that reads.
Promise<void> WebSocket::State::readMore(State& state, std::source_location where) {
  try {
    Promise<Chunk> chunk = state.stream_->tryReadChunk(Chunk::CAPACITY, where);
    state.took(co_await std::move(chunk), where);
  } catch (...) {
    state.endReading(Exception::fromCurrent().withContext("WebSocket"));
  }
}

void WebSocket::State::took(Chunk chunk, const std::source_location& where) {
  if (chunk.empty()) {
    endReading(detail::webSocketDisconnected(decoder_.isInside() ? "the connection ended in the middle of a message"
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
  while (!input_.empty()) {
    std::span<const std::byte> bytes = input_.bytes().subspan(inputAt_);
    const Event event = decoder_.next(bytes);
    inputAt_ = input_.size() - bytes.size();
    switch (event) {
    case Event::NEED_MORE:
      dropInput();
      break;
    case Event::PAUSE:
      return Progress::PAUSED;
    case Event::MESSAGE:
      hasMessage_ = true;
      if (bytes.empty()) dropInput(); // who waits for the next message holds nothing of this one
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
  return Progress::NEEDS_INPUT;
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
  const detail::WebSocketCloseFrame close = decoder_.closeFrame();
  const auto code = static_cast<Code>(close.code);
  hasPeerClosed_ = true;
  endReading(detail::webSocketDisconnected(
      fmt::format("the peer has closed it with code {} {}", close.code, troth::detail::quote(close.reason)),
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
  dropInput();
  readChanged_.wake();
  pongs_.wake();
}

} // namespace http
} // namespace v0
} // namespace troth
