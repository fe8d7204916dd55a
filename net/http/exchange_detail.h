// SPDX-License-Identifier: MIT
// Exchange: the requests that a connection is busy with, one after the other, and their responses.
#pragma once

#include <troth/net/http/body_detail.h>
#include <troth/net/http/message_parser_detail.h>
#include <troth/net/http/service.h>
#include <troth/net/http/wire_detail.h>
#include <troth/runtime/event_detail.h>
#include <troth/runtime/node_detail.h>
#include <troth/runtime/ref_detail.h>
#include <troth/timers/clock.h>

#include <cstdint>
#include <memory>
#include <optional>

namespace troth {
inline namespace v0 {
namespace http {
namespace detail {

class ServerConnection;
class ServerCore;
enum class Timeout : std::uint8_t;

/// How a connection with an exchange goes on.
enum class Next : std::uint8_t {
  HANDLER, // when the handler's promise is ready: by Exchange::handled()
  PROMISE, // when a Promise<Next> is ready: as that says
  RUN,     // at once: by Exchange::run()
  IDLE,    // without an exchange, until bytes come
  CLOSE,   // to its end
  GONE,    // its stream belongs to somebody else
};

/// A connection has one from its first bytes on until there are none left; so what a request needs costs memory only
/// while there is one. Those that are left are used again, with their buffers. Operations of its streams share its
/// ownership, so a handler's streams may be left in any order; when the connection goes they find the wire closed.
///
/// One request at a time:
///
///     HEAD ──► HANDLING ──► (skip what is left of the body) ──► HEAD …
///       └─ malformed ─► error response ─► CLOSE
///
/// and of its response: NONE ──► SENT, or NONE ──► STREAMING ──► SENT, or NONE ──► UPGRADED.
class Exchange final : public troth::detail::Counted,
                       public troth::detail::Pooled,
                       public ResponseSink,
                       private BodyOwner {
public:
  /// How many bytes are read at a time where a head is expected: what follows it is content, which is better read into
  /// a buffer of its own.
  static constexpr std::size_t HEAD_READ = 16 * 1024;

  explicit Exchange(ServerCore& core);
  ~Exchange();

  /// Begins, as new, for a connection that has got its `first` bytes.
  void enter(ServerConnection& connection, std::unique_ptr<AsyncIoStream> stream, Chunk first);

  // The steps of dealing with what comes. What must be waited for after one they put into `waiting`, which is the
  // connection's; most requests need nothing but their handlers. They throw what the connection fails with.

  /// From one request to the next, until something must be waited for.
  Next run(troth::detail::OwnNode& waiting);
  /// The handler's promise is not ready yet.
  void handlerWaits() noexcept { clientWatch_.start(); }
  /// The handler's promise was ready, and is gone; `failure` is null if it was fulfilled.
  Next handled(const Exception* failure, troth::detail::OwnNode& waiting);
  /// What was waited for has been destroyed: what the client had to send did not come in time.
  Promise<Next> answerLate();
  /// Whether a handler has begun a response that it has not ended: without it that breaks off.
  bool isInResponse() const noexcept { return isHandling_ && (state_ == ResponseState::STREAMING || isSending_); }

  /// Whether a client that has had a deadline of this kind is doing what it should after all.
  bool keepsUp(Timeout kind) noexcept;

  /// The connection takes its stream back.
  std::unique_ptr<AsyncIoStream> takeStream() noexcept { return wire_->takeStream(); }
  /// The connection goes, or has taken its stream: nothing of it is touched any more.
  void leave() noexcept;
  /// The client is not to take what it has got for the whole.
  void reset() noexcept;

private:
  enum class ResponseState : std::uint8_t { NONE, SENT, STREAMING, UPGRADED };

  class ReadWatcher final : public WireWatcher {
  public:
    explicit ReadWatcher(Exchange& exchange) noexcept : exchange_(exchange) {}
    void beginWait() noexcept override;
    void endWait(std::uint64_t bytes) noexcept override;

  private:
    Exchange& exchange_;
  };
  class WriteWatcher final : public WireWatcher {
  public:
    explicit WriteWatcher(Exchange& exchange) noexcept : exchange_(exchange) {}
    void beginWait() noexcept override;
    void endWait(std::uint64_t bytes) noexcept override;

  private:
    Exchange& exchange_;
  };

  /// While a handler works: sends what it has left in the buffer, and notices that the client leaves, by reading on.
  /// What is sent so is the connection's, and goes on whatever becomes of the handler.
  class ClientWatch final : public troth::detail::Event {
  public:
    explicit ClientWatch(Exchange& exchange);
    ~ClientWatch() override;
    void begin() noexcept { isOn_ = hasEnded_ = false; }
    void end() noexcept;
    /// The handler has begun to wait.
    void start() noexcept {
      isOn_ = true;
      armLast();
    }
    /// Looks, when nothing else is to be done in this turn, what is to be sent and whether somebody else reads.
    void lookLater() noexcept {
      if (isOn_) armLast();
    }
    /// Somebody else is going to read.
    void stopReading() noexcept { read_ = troth::detail::OwnNode(); }
    /// Sends what waits, if it is not sending already. Throws what that fails with at once.
    void flush();
    bool isFlushing() noexcept { return flush_ && !flush_.listen(this); }
    /// What is being sent, for somebody else to wait for; ready if that is nothing.
    Promise<void> takeFlush();
    /// The handler is done.
    void stop() noexcept;

  private:
    Exchange& exchange_;
    troth::detail::OwnNode read_, flush_;
    bool isOn_ = false;     // from start() to stop()
    bool hasEnded_ = false; // the client's direction, as far as this handler's watch has seen

    void fire() noexcept override;
    void look();
    void takeRead();
    void finishFlush();
    void describe(troth::detail::Trace& trace) const noexcept override;
  };

  /// The stream that Response::start() gives.
  class WritingContent;
  class ResponseBody final : public AsyncOutputStream {
  public:
    explicit ResponseBody(Exchange& exchange) noexcept : exchange_(exchange) {}
    using AsyncOutputStream::write;
    Promise<void> write(std::span<const std::byte> bytes, std::source_location where) override;
    Promise<void> write(std::span<const std::span<const std::byte>> pieces, std::source_location where) override;
    std::optional<Promise<std::uint64_t>> tryPumpFrom(AsyncInputStream& input, std::uint64_t amount,
                                                      std::source_location where) override;
    Promise<void> whenWriteDisconnected(std::source_location where) override;
    void abortWrite(std::source_location where) override;

  private:
    Exchange& exchange_;
  };

  ServerConnection* connection_ = nullptr; // null before enter() and after leave()
  ServerCore& core_;                       // not used without a connection
  troth::detail::Ref<Wire> wire_;
  ReadWatcher readWatcher_{*this};
  WriteWatcher writeWatcher_{*this};
  MessageParser parser_;
  PoolString head_; // of a head that came in several pieces
  MessageBody body_;
  Request request_;
  Response response_;
  ResponseBody responseBody_{*this};
  HeaderFields trailers_;
  ClientWatch clientWatch_{*this};

  TimePoint began_{};         // when the request's head was complete
  std::uint64_t left_ = 0;    // of a STREAMING response with a length
  std::uint64_t sent_ = 0;    // bytes of content
  std::uint64_t written_ = 0; // bytes that have gone while somebody waited for it, since a deadline was set
  // Of content that is waited for, since the deadline was set.
  TimePoint waitBegan_{};
  Duration waited_{};
  std::uint64_t waitedBytes_ = 0;

  ResponseState state_ = ResponseState::NONE;
  bool keepAlive_ = true;
  bool inRequest_ = false; // from the first byte of its head on
  bool isHandling_ = false;
  bool isWaiting_ = false;        // for content
  bool isWaitingToWrite_ = false; // for the client to take what is written, or pumped
  bool isSending_ = false;        // a fixed body is on its way
  bool isWritingBody_ = false;    // a write of the response's stream is pending
  bool expectsContinue_ = false;  // and has not been told to go on
  bool hasNoContent_ = false;     // of the response: HEAD, 204, 304
  bool isChunked_ = false;        // the response is
  bool hasLength_ = false;        // of a STREAMING response
  bool pumpsByBuffer_ = false;    // the connection has no way of its own for what is pumped
  bool isReset_ = false;
  std::uint32_t informing_ = 0; // sendInformational()s that are pending

  enum class Head : std::uint8_t { COMPLETE, NOTHING, PARTIAL, FAULT };
  Head parseHead();
  Head parseMore();
  bool isEmptyLine() noexcept;
  int beginRequest();
  Promise<void> callHandler() noexcept;
  void handlerIsOver() noexcept;
  void finishHandler(const Exception* failure);
  Next nothingLeft(troth::detail::OwnNode& waiting);
  Promise<Next> readHead();
  Promise<Next> skipBodyThenEnd();
  bool hasReadAll() const noexcept { return body_.hasEnded() && wire_->rest().empty(); }
  static Promise<Next> flushThen(Promise<void> flushed, Next next);
  Promise<Next> closeAfter(bool isClean);
  Promise<Next> breakOff();
  Promise<void> untilDelivered();
  bool clientHasGone() const;
  void answerFailure(const Exception& failure);
  Promise<bool> skipBody();
  Promise<Next> refuse(int status, std::string_view reason, bool isRequest);
  Promise<void> linger();
  void endRequest() noexcept;
  void log(bool isRequest) noexcept;
  bool clientLeaves(bool writeFailed) noexcept;

  void requireUnsent(const char* function, const std::source_location& where) const {
    if (connection_ == nullptr || !wire_->isOpen() || state_ != ResponseState::NONE) [[unlikely]]
      throwSent(function, where);
  }
  [[noreturn, gnu::cold]] void throwSent(const char* function, const std::source_location& where) const;
  void sendEarlier();
  void abortResponse() noexcept;
  void appendStatusLine(int status);
  void appendContinue();
  void takeConnectionOptions();
  void appendHead(int status, std::optional<std::uint64_t> length, std::string_view content, const char* function,
                  const std::source_location& where);
  void sendError(int status, std::string_view reason);
  Promise<void> sendLarge(std::span<const std::byte> body, std::source_location where);
  void countContent(std::uint64_t size, const std::source_location& where);
  static Promise<void> finishInformational(troth::detail::Ref<Exchange> self, Promise<void> written);
  static Promise<void> finishWrite(troth::detail::Ref<Exchange> self, Promise<void> written);
  Promise<void> writePieces(std::span<const std::span<const std::byte>> pieces, std::source_location where);
  Promise<void> sendCounted(std::span<const std::span<const std::byte>> pieces, std::size_t size,
                            std::source_location where);
  static Promise<std::uint64_t> pumpContent(troth::detail::Ref<Exchange> self, AsyncInputStream& input,
                                            std::uint64_t amount, std::source_location where);

  // ResponseSink.
  Promise<void> sendResponse(int status, std::span<const std::byte> body, std::source_location where) override;
  AsyncOutputStream& beginResponse(int status, std::optional<std::uint64_t> length,
                                   std::source_location where) override;
  Promise<void> endResponse(const HeaderFields& trailers, std::source_location where) override;
  Promise<void> sendInformational(int status, const HeaderFields& headers, std::source_location where) override;
  std::unique_ptr<AsyncIoStream> upgrade(int status, std::source_location where) override;
  const AsyncIoStream& connection(std::source_location where) const override;

  // BodyOwner.
  Promise<void> beforeRead() override;
  void bodyEnded() noexcept override;
};

} // namespace detail
} // namespace http
} // namespace v0
} // namespace troth
