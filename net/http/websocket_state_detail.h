// SPDX-License-Identifier: MIT
// WebSocket::State: who reads, who writes, and how the two sides part.
#pragma once

#include <troth/io/operation_detail.h>
#include <troth/net/http/websocket.h>
#include <troth/net/http/websocket_decoder_detail.h>
#include <troth/net/http/websocket_deflate_detail.h>
#include <troth/net/http/websocket_outgoing_detail.h>
#include <troth/runtime/pool_detail.h>
#include <troth/runtime/ref_detail.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <source_location>
#include <span>
#include <string>
#include <string_view>

namespace troth {
inline namespace v0 {
namespace http {

// How it works. The state is shared by the WebSocket and its operations; the stream is there until it ends.
//
// Reading (websocket_reading.cc): a receive() reads the stream and feeds the decoder until that has a message, which
// stays there until the result is taken. close() does the same if no receive() is pending, and throws the messages
// away; one that a receive() has found, and nobody has taken yet, moves from the decoder into that.
//
// Writing (websocket_writing.cc): `isWriting_` is set while a frame is written to the stream: by a send(), or by the
// flusher, a task of the state that writes control frames. Whoever ends a write looks for control frames that have come
// to wait, and starts the flusher. Control frames wait in a bounded queue, and go out in front of the next frame of a
// message if that is first.
//
// Compressing, decompressing and looking whether a text is UTF-8 take long, and a message may be large: all is done in
// steps, between which the loop looks for I/O. A message goes out as the frames that come of these steps, and control
// frames between them.
//
// Ending (websocket_closing.cc): an end is an exception that is set once. `readEnd_` is what receive() fails with once
// all that came before has been taken, and `writeEnd_` what send() fails with. Those who wait are woken and look.
//
// What is small and can be done at once needs no coroutine: a receive() is a node of its own, and a send() whose frame
// the stream takes at once is over before it returns.
class WebSocket::State final : public troth::detail::Counted, public troth::detail::Pooled {
public:
  State(std::unique_ptr<AsyncIoStream> stream, Role role, WebSocketAgreement agreement,
        const WebSocketOptions& options);

  const std::string& subprotocol() const noexcept { return subprotocol_; }

  void start();
  /// The connection is over, for this reason. A stream that is destroyed rejects what is pending on it.
  void end(const Exception& reason) noexcept;
  /// The WebSocket goes, or gives up: nothing of the state runs any more.
  void stop(const Exception& reason) noexcept;
  void abort(const std::source_location& where);

  /// Whether a text of at most so many bytes is UTF-8 is found out at once: at worst, in a quarter of a millisecond.
  static constexpr std::size_t CHECKED_AT_ONCE = 64 * 1024;
  [[noreturn]] static void throwNotUtf8(const std::source_location& where);

  static Promise<WebSocketMessage> receive(State& state, std::source_location where);
  /// A text of more than CHECKED_AT_ONCE bytes is still to be looked at.
  static Promise<void> send(State& state, detail::WebSocketOpcode opcode, std::span<const std::byte> payload,
                            std::source_location where);
  static Promise<void> ping(State& state, std::source_location where);
  static Promise<void> close(State& state, WebSocketCloseCode code, std::string_view reason,
                             std::source_location where);

private:
  struct Codecs : troth::detail::Pooled {
    explicit Codecs(const WebSocketDeflateTerms& terms) noexcept : inflater(terms), deflater(terms) {}
    detail::WebSocketInflater inflater;
    detail::WebSocketDeflater deflater;
  };
  // An exception, once there is one.
  class End {
  public:
    void operator=(const Exception& reason) noexcept { exception_ = reason.ref(); }
    explicit operator bool() const noexcept { return static_cast<bool>(exception_); }
    Exception operator*() const noexcept { return Exception(exception_); }

  private:
    troth::detail::ExceptionRef exception_;
  };
  class ReceiveNode;
  class ReadingToClose;
  class Sending;
  class Writing;
  struct Begun;
  enum class Progress : std::uint8_t { NEEDS_INPUT, PAUSED, FOUND };
  enum class Closing : std::uint8_t { NOT, QUEUED, WRITTEN };

  // --- What both directions need.
  std::unique_ptr<AsyncIoStream> stream_; // null once it is over
  std::string subprotocol_;
  std::unique_ptr<Codecs> codecs_; // null if messages are not compressed
  Role role_;

  // --- Reading.
  bool hasMessage_ = false;       // the decoder has one
  bool isReceiving_ = false;      // a receive() is pending
  bool isReadingToClose_ = false; // a close() reads
  bool hasPeerClosed_ = false;    // its close frame is in the decoder
  bool isCloseTaken_ = false;
  bool hasMetFault_ = false; // of the peer
  detail::WebSocketDecoder decoder_;
  ReceiveNode* receiver_ = nullptr; // of a receive() that is pending, or whose result has not been taken
  Chunk input_;
  std::size_t inputAt_ = 0;      // what the decoder has had of it
  std::uint64_t chunksRead_ = 0; // signs of life
  End readEnd_;
  troth::detail::Sleepers readChanged_; // wait for one of the above

  // --- Writing.
  bool isWriting_ = false;
  bool isSending_ = false; // a send() is pending, be it to wait for its turn
  Closing closing_ = Closing::NOT;
  detail::ControlQueue controls_;
  detail::ByteBuffer flushed_; // what the flusher writes
  End writeEnd_;
  troth::detail::Sleepers writeChanged_;

  // --- Pings, and the end.
  Timer* timer_; // may be null
  Duration closeTimeout_, pingInterval_, pingTimeout_;
  std::uint64_t lastPing_ = 0;
  std::uint64_t answered_ = 0;
  troth::detail::Sleepers pongs_;

  Promise<void> flusher_ = NEVER_DONE; // these two use all of the above
  Promise<void> keepAlive_ = NEVER_DONE;

  bool hasResult() const noexcept { return hasMessage_ || (hasPeerClosed_ && !isCloseTaken_); }
  WebSocketMessage takeResult();
  void throwMessageAway() noexcept;
  Progress advance() noexcept;
  Progress decode();
  void dropInput() noexcept {
    input_ = Chunk();
    inputAt_ = 0;
  }
  void took(Chunk chunk, const std::source_location& where);
  static Promise<void> readMore(State& state, std::source_location where);
  void handlePong(std::string_view payload) noexcept;
  void handleClose();
  void handleFault(detail::WebSocketFault fault);
  void endReading(const Exception& reason) noexcept;

  static Promise<void> sendAtOnce(State& state, detail::WebSocketOpcode opcode, std::span<const std::byte> payload,
                                  std::source_location where);
  static Promise<void> sendRest(Sending sending, Promise<void> frameWritten);
  static Promise<void> sendInTurn(Sending sending, detail::WebSocketOpcode opcode, std::span<const std::byte> payload,
                                  std::source_location where);
  static Promise<void> checkText(std::span<const std::byte> text, std::source_location where);
  Promise<void> write(std::span<const std::byte> bytes, std::source_location where) noexcept;
  Promise<void> write(std::span<const std::span<const std::byte>> pieces, std::source_location where) noexcept;
  static Promise<void> writeRest(Begun given, std::source_location where);
  bool isOpen() const noexcept { return !writeEnd_ && closing_ == Closing::NOT; }
  void requireOpen(const std::source_location& where) const;
  /// What is to compress so many bytes; null if they are sent as they are.
  detail::WebSocketDeflater* deflaterFor(std::size_t size) const noexcept {
    return codecs_ != nullptr && size >= codecs_->deflater.smallest() ? &codecs_->deflater : nullptr;
  }
  void queueClose(WebSocketCloseCode code, std::string_view reason);
  // A close frame lets the message go first that somebody is waiting to send. Behind it nothing is queued.
  bool hasControls() const noexcept { return !controls_.isEmpty() || (controls_.hasClose() && !isSending_); }
  bool mustFlush() const noexcept { return !isWriting_ && !writeEnd_ && hasControls(); }
  void flush() noexcept {
    if (mustFlush()) [[unlikely]]
      startFlushing();
  }
  void startFlushing() noexcept;
  static Promise<void> flushing(State& state, Promise<void> written, bool closes);
  Promise<void> beginFlush(bool& closes);
  void endFlush(const std::optional<Exception>& failure, bool closes) noexcept;
  void hasFlushed() noexcept;
  void endWriting(const Exception& reason) noexcept;
  void shutdownIfClosed() noexcept;

  static Promise<void> awaitPong(troth::detail::Ref<State> state, std::uint64_t number, std::source_location where);
  static Promise<void> keepingAlive(State& state);
  /// Whether a close frame that was to be sent never will be: so the peer does not know that it is to answer.
  bool cannotClose() const noexcept { return writeEnd_ && closing_ != Closing::WRITTEN; }
  static Promise<void> untilClosed(troth::detail::Ref<State> state, std::source_location where);
  static Promise<void> untilStreamEnds(State& state, std::source_location where);
};

namespace detail {
/// How a WebSocket fails whose connection has ended.
Exception webSocketDisconnected(std::string_view what, const std::source_location& where,
                                std::error_code code = {}) noexcept;
} // namespace detail

} // namespace http
} // namespace v0
} // namespace troth
