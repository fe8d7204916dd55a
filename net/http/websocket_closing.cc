// SPDX-License-Identifier: MIT
// How a WebSocket ends: pings that are not answered, close frames, and giving up.
#include <troth/net/http/websocket_state_detail.h>

#include <fmt/format.h>

#include <chrono>
#include <utility>

namespace troth {
inline namespace v0 {
namespace http {
namespace {

using troth::detail::Ref;

using Code = WebSocketCloseCode;

} // namespace

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
  if (timer_ != nullptr && pingInterval_ > Duration::zero()) keepAlive_ = keepingAlive(*this);
}

// Who cannot watch the time any more, for want of memory, does not let others wait for ever.
Promise<void> WebSocket::State::keepingAlive(State& state) {
  Timer& timer = *state.timer_;
  try {
    for (;;) {
      std::uint64_t seen = state.chunksRead_;
      co_await timer.afterDelay(state.pingInterval_);
      if (state.readEnd_ || state.writeEnd_ || state.closing_ != Closing::NOT) co_return;
      if (state.chunksRead_ != seen) continue;
      state.controls_.setPing(++state.lastPing_);
      state.flush();
      co_await timer.afterDelay(state.pingTimeout_);
      // Only who has been listened to is silent: what waits in the system is read before the loop would sleep.
      if (state.isReceiving_ || state.isReadingToClose_) co_await yieldUntilWouldSleep();
      const bool isListening = state.isReceiving_ || state.isReadingToClose_;
      if (!isListening || state.chunksRead_ != seen || state.readEnd_) continue;
      state.end(detail::webSocketDisconnected(
          fmt::format("the peer has not answered a ping within {} ms",
                      std::chrono::duration_cast<std::chrono::milliseconds>(state.pingTimeout_).count()),
          std::source_location::current(), Code::ABNORMAL));
      co_return;
    }
  } catch (...) {
    state.end(Exception::fromCurrent().withContext("WebSocket"));
  }
}

Promise<void> WebSocket::State::close(State& state, Code code, std::string_view reason, std::source_location where) {
  state.queueClose(code, reason);
  Promise<void> closed = untilClosed(Ref<State>(state), where);
  if (state.timer_ == nullptr) return closed;
  Promise<void> limited = state.timer_->timeoutAfter(state.closeTimeout_, std::move(closed),
                                                     "the close frame of a WebSocket's peer", where);
  return std::move(limited).catch_(
      [held = Ref<State>(state)](Exception e) {
        if (e.kind() == Exception::Kind::OVERLOADED) held->end(e);
        throw Exception(std::move(e));
      },
      where);
}

// A close() that reads. A part of a coroutine that holds the state.
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

// First reads, and then sees whether the own frame is written: a peer that waits for us to read may not read itself.
Promise<void> WebSocket::State::untilClosed(Ref<State> state, std::source_location where) {
  State& s = *state;
  while (!s.readEnd_) {
    if (s.cannotClose()) throw Exception(*s.writeEnd_);
    if (s.isReceiving_ || s.isReadingToClose_) {
      co_await s.readChanged_.sleep(where);
      continue;
    }
    if (s.receiver_ != nullptr) { // who has got a message may take it, and come back for the next
      co_await yieldUntilQueueEmpty();
      if (s.isReceiving_ || s.isReadingToClose_) continue;
    }
    const ReadingToClose reading(s);
    while (!s.readEnd_ && !s.cannotClose()) {
      s.throwMessageAway();
      if (s.advance() != Progress::NEEDS_INPUT) {
        co_await yieldToIo();
        continue;
      }
      // What ends writing ends this wait, too. A read that is destroyed has taken nothing.
      Promise<void> changed = s.writeChanged_.sleep(where);
      Promise<void> either = readMore(s, where).exclusiveJoin(std::move(changed), where);
      co_await std::move(either);
    }
  }
  while (s.closing_ == Closing::QUEUED && !s.writeEnd_) co_await s.writeChanged_.sleep(where);
  if (s.hasMetFault_ && !s.cannotClose()) co_await untilStreamEnds(s, where);
  if (!s.hasPeerClosed_) throw Exception(*s.readEnd_);
  if (s.closing_ != Closing::WRITTEN) throw Exception(*s.writeEnd_);
}

// Closing a connection with bytes that nobody has read resets it, and may take our frame from under the peer's eyes.
Promise<void> WebSocket::State::untilStreamEnds(State& state, std::source_location where) {
  while (state.isReadingToClose_) co_await state.readChanged_.sleep(where); // another close()
  const ReadingToClose reading(state);
  try {
    while (state.stream_ != nullptr) {
      Promise<Chunk> dropping = state.stream_->tryReadChunk(Chunk::CAPACITY, where);
      const Chunk dropped = co_await std::move(dropping);
      if (dropped.empty()) break;
    }
  } catch (...) {
    // It has ended this way.
  }
}

// RFC 6455, section 7.1.1: when both have said their last word, the server ends the connection first. Who has met a
// fault does not wait for the other.
void WebSocket::State::shutdownIfClosed() noexcept {
  if (closing_ != Closing::WRITTEN || !readEnd_ || writeEnd_ || (role_ == Role::CLIENT && hasPeerClosed_)) return;
  try {
    stream_->shutdownWrite();
  } catch (...) {
    // The peer is gone already.
  }
  endWriting(detail::webSocketDisconnected("it is closed", std::source_location::current()));
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
  stop(detail::webSocketDisconnected("abort() was called", where));
}

} // namespace http
} // namespace v0
} // namespace troth
