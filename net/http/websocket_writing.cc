// SPDX-License-Identifier: MIT
// What a WebSocket sends: messages, in their turn, and the control frames that wait.
#include <troth/net/http/websocket_state_detail.h>

#include <troth/net/http/wire_detail.h>

#include <algorithm>
#include <array>
#include <utility>

namespace troth {
inline namespace v0 {
namespace http {
namespace {

using detail::OutgoingFrame;
using detail::OutgoingMessage;
using detail::WebSocketOpcode;
using troth::detail::Ref;

using Code = WebSocketCloseCode;

} // namespace

// A send(). If it ends in the middle of its message, that was the last one.
class WebSocket::State::Sending {
public:
  Sending(State& state, const std::source_location& where) noexcept : state_(state), where_(where) {
    state.isSending_ = true;
  }
  Sending(Sending&&) noexcept = default;
  Sending& operator=(Sending&&) = delete;
  ~Sending() {
    if (!state_) return;
    state_->isSending_ = false;
    if (isInside_) [[unlikely]]
      state_->endWriting(Exception(Exception::Kind::FAILED,
                                   "WebSocket: a send() ended while its message was partly written, so nothing can be "
                                   "sent any more: abort() it",
                                   {}, where_));
    state_->flush(); // a close frame may have waited
  }
  State& state() const noexcept { return *state_; }
  void begin() noexcept { isInside_ = true; }
  void done() noexcept { isInside_ = false; }

private:
  Ref<State> state_;
  std::source_location where_;
  bool isInside_ = false;
};

// A frame that is being written by a send().
class WebSocket::State::Writing {
public:
  explicit Writing(State& state) noexcept : state_(state) { state.isWriting_ = true; }
  Writing(Writing&&) noexcept = default;
  Writing& operator=(Writing&&) = delete;
  ~Writing() {
    if (state_) state_->isWriting_ = false;
  }
  State& state() const noexcept { return *state_; }

private:
  Ref<State> state_;
};

// The same, with what the stream is writing. In this order: the write goes before its bytes.
struct WebSocket::State::Begun {
  Writing writing;
  OutgoingFrame frame;
  Promise<void> written;
};

Promise<void> WebSocket::State::send(State& state, WebSocketOpcode opcode, std::span<const std::byte> payload,
                                     std::source_location where) {
  if (state.isSending_) troth::detail::throwMisuse("WebSocket::send: another one is pending", where);
  const bool needsSteps = (opcode == WebSocketOpcode::TEXT && payload.size() > CHECKED_AT_ONCE) ||
                          state.deflaterFor(payload.size()) != nullptr;
  const bool hasToWait = state.isWriting_ || !state.isOpen();
  try {
    if (!needsSteps && !hasToWait) [[likely]]
      return sendAtOnce(state, opcode, payload, where);
    return sendInTurn(Sending(state, where), opcode, payload, where);
  } catch (...) { // no memory
    return Exception::fromCurrent();
  }
}

// A frame that the stream has taken at once, as it does as a rule, needs no coroutine, nor what keeps the state alive.
Promise<void> WebSocket::State::sendAtOnce(State& state, WebSocketOpcode opcode, std::span<const std::byte> payload,
                                           std::source_location where) {
  OutgoingFrame frame({opcode, true, false, std::nullopt, 0}, payload, state.role_);
  const std::array<std::span<const std::byte>, 2> parts = frame.first();
  state.isSending_ = state.isWriting_ = true;
  Promise<void> written = parts[1].empty() ? state.write(parts[0], where) : state.write(parts, where);
  if (!frame.isDone() || !detail::isReady(written, where)) {
    Sending sending(state, where);
    sending.begin();
    Promise<void> rest = writeRest({Writing(state), std::move(frame), std::move(written)}, where);
    return sendRest(std::move(sending), std::move(rest));
  }
  state.isSending_ = state.isWriting_ = false;
  if (const std::optional<Exception> failure = detail::takeFailure(written, where)) {
    state.endWriting(failure->withContext("WebSocket"));
    return Exception(*state.writeEnd_);
  }
  state.flush();
  return READY_NOW;
}

// (What a coroutine is given lives as long as its promise; what it has moved into itself, until it is done.)
Promise<void> WebSocket::State::sendRest(Sending given, Promise<void> frameWritten) {
  Sending sending = std::move(given);
  co_await std::move(frameWritten);
  sending.done();
}

Promise<void> WebSocket::State::writeRest(Begun given, std::source_location where) {
  Begun begun = std::move(given);
  State& s = begun.writing.state();
  try {
    co_await std::move(begun.written);
    while (!begun.frame.isDone() && !s.writeEnd_) {
      Promise<void> more = s.write(begun.frame.next(), where);
      co_await std::move(more);
    }
  } catch (...) {
    s.endWriting(Exception::fromCurrent().withContext("WebSocket"));
  }
  if (s.writeEnd_) throw Exception(*s.writeEnd_);
}

Promise<void> WebSocket::State::sendInTurn(Sending given, WebSocketOpcode opcode, std::span<const std::byte> payload,
                                           std::source_location where) {
  Sending sending = std::move(given);
  State& s = sending.state();
  s.requireOpen(where);
  if (opcode == WebSocketOpcode::TEXT && payload.size() > CHECKED_AT_ONCE) co_await checkText(payload, where);
  OutgoingMessage message(opcode, payload, s.deflaterFor(payload.size()));
  for (bool isFirst = true; !message.isSent(); isFirst = false) {
    if (!isFirst) { // that was a step
      s.flush();
      co_await yieldToIo();
    }
    if (!s.writeEnd_ && !message.prepareFrame()) continue;
    while (s.isWriting_ && !s.writeEnd_) co_await s.writeChanged_.sleep(where);
    if (s.writeEnd_) throw Exception(*s.writeEnd_);

    if (!s.controls_.isEmpty()) sending.begin(); // who waits for what is taken out hears of it if it does not go
    OutgoingFrame frame(message.takeHeader(), message.payload(), s.role_, s.controls_.take(false));
    const std::array<std::span<const std::byte>, 2> parts = frame.first();
    Writing writing(s);
    sending.begin();
    Promise<void> written = s.write(parts, where);
    Promise<void> rest = writeRest({std::move(writing), std::move(frame), std::move(written)}, where);
    co_await std::move(rest);
    message.frameSent();
  }
  sending.done();
}

Promise<void> WebSocket::State::checkText(std::span<const std::byte> text, std::source_location where) {
  detail::Utf8Validator utf8;
  for (;;) {
    const std::span<const std::byte> part = text.first(std::min(text.size(), CHECKED_AT_ONCE));
    if (!utf8.feed(part)) throwNotUtf8(where);
    text = text.subspan(part.size());
    if (text.empty()) break;
    co_await yieldToIo();
  }
  if (!utf8.isComplete()) throwNotUtf8(where);
}

void WebSocket::State::throwNotUtf8(const std::source_location& where) {
  troth::detail::throwMisuse("WebSocket::send: a text that is not UTF-8: send it as bytes", where);
}

void WebSocket::State::requireOpen(const std::source_location& where) const {
  if (writeEnd_) throw Exception(*writeEnd_);
  if (closing_ != Closing::NOT)
    throw detail::webSocketDisconnected("it is being closed, and nothing can be sent any more", where);
}

Promise<void> WebSocket::State::write(std::span<const std::byte> bytes, std::source_location where) noexcept {
  return evalNow([&] { return stream_->write(bytes, where); });
}

Promise<void> WebSocket::State::write(std::span<const std::span<const std::byte>> pieces,
                                      std::source_location where) noexcept {
  return evalNow([&] { return stream_->write(pieces, where); });
}

void WebSocket::State::queueClose(Code code, std::string_view reason) {
  if (closing_ != Closing::NOT || writeEnd_) return;
  controls_.setClose(code, reason);
  closing_ = Closing::QUEUED;
  flush();
}

// As a send(), it needs no coroutine if the stream takes everything at once. So who is idle after pings holds none.
void WebSocket::State::startFlushing() noexcept {
  try {
    while (mustFlush()) {
      bool closes = false;
      Promise<void> written = beginFlush(closes);
      if (!detail::isReady(written)) {
        flusher_ = flushing(*this, std::move(written), closes);
        return;
      }
      endFlush(detail::takeFailure(written), closes);
    }
    hasFlushed();
  } catch (...) { // no memory
    endFlush(Exception::fromCurrent(), false);
  }
}

Promise<void> WebSocket::State::flushing(State& state, Promise<void> written, bool closes) {
  for (;;) {
    try {
      co_await std::move(written);
      state.endFlush(std::nullopt, closes);
      if (!state.mustFlush()) break;
      written = state.beginFlush(closes);
    } catch (...) {
      state.endFlush(Exception::fromCurrent(), closes);
      break;
    }
  }
  state.hasFlushed();
}

Promise<void> WebSocket::State::beginFlush(bool& closes) {
  closes = controls_.hasClose() && !isSending_;
  flushed_ = controls_.take(closes);
  isWriting_ = true;
  return write(asBytes(flushed_.text()), std::source_location::current());
}

void WebSocket::State::endFlush(const std::optional<Exception>& failure, bool closes) noexcept {
  isWriting_ = false;
  flushed_ = detail::ByteBuffer();
  if (failure) {
    endWriting(failure->withContext("WebSocket"));
  } else if (closes) {
    closing_ = Closing::WRITTEN;
  }
}

void WebSocket::State::hasFlushed() noexcept {
  shutdownIfClosed();
  writeChanged_.wake();
}

// A close() may be waiting for the peer, whose frame is not there to be answered any more.
void WebSocket::State::endWriting(const Exception& reason) noexcept {
  if (writeEnd_) return;
  writeEnd_ = reason;
  writeChanged_.wake();
  readChanged_.wake();
  pongs_.wake();
}

} // namespace http
} // namespace v0
} // namespace troth
