// SPDX-License-Identifier: MIT
// WebSocket: messages in both directions over a stream (RFC 6455), for servers and clients.
#pragma once

#include <troth/io/stream.h>
#include <troth/net/http/pool_allocator_detail.h>
#include <troth/net/http/websocket_handshake.h>
#include <troth/runtime/promise.h>
#include <troth/runtime/ref_detail.h>
#include <troth/timers/timer.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <source_location>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <utility>

namespace troth {
inline namespace v0 {
namespace http {

/// Why a WebSocket is closed (RFC 6455, section 7.4.1, and IANA's registry). Numbers from 3000 to 3999 may be
/// registered, and those from 4000 to 4999 are an application's own: `static_cast<WebSocketCloseCode>(4001)`.
enum class WebSocketCloseCode : std::uint16_t {
  NORMAL = 1000,
  GOING_AWAY = 1001,
  PROTOCOL_ERROR = 1002,
  UNSUPPORTED_DATA = 1003,
  NO_CODE = 1005,  ///< Never sent: the close frame had no code.
  ABNORMAL = 1006, ///< Never sent: there was no close frame.
  INVALID_DATA = 1007,
  POLICY_VIOLATION = 1008,
  MESSAGE_TOO_BIG = 1009,
  EXTENSION_MISSING = 1010,
  INTERNAL_ERROR = 1011,
  SERVICE_RESTART = 1012,
  TRY_AGAIN_LATER = 1013,
  BAD_GATEWAY = 1014,
};

/// So that `e.code() == WebSocketCloseCode::MESSAGE_TOO_BIG` tells with what receive() has failed.
std::error_code make_error_code(WebSocketCloseCode code) noexcept; // NOLINT: the standard library's name

/// What receive() gives: a text, bytes, or the peer's wish to close. Owns its bytes, whose memory comes from the
/// thread's pool. Move-only.
class WebSocketMessage {
public:
  enum class Type : std::uint8_t { TEXT, BINARY, CLOSE };

  WebSocketMessage(WebSocketMessage&&) noexcept = default;
  WebSocketMessage& operator=(WebSocketMessage&&) noexcept = default;

  Type type() const noexcept { return type_; }
  bool isText() const noexcept { return type_ == Type::TEXT; }
  bool isBinary() const noexcept { return type_ == Type::BINARY; }
  bool isClose() const noexcept { return type_ == Type::CLOSE; }

  /// The bytes of the message; of a TEXT they are UTF-8. Of a CLOSE it is the reason, for people.
  std::string_view text() const noexcept { return payload_; }
  std::span<const std::byte> bytes() const noexcept { return asBytes(text()); }

  /// Of a CLOSE: NO_CODE if the peer gave none.
  WebSocketCloseCode closeCode() const noexcept { return closeCode_; }

  /// For the implementation.
  WebSocketMessage(Type type, detail::PoolString payload,
                   WebSocketCloseCode closeCode = WebSocketCloseCode::NO_CODE) noexcept
      : payload_(std::move(payload)), closeCode_(closeCode), type_(type) {}

private:
  detail::PoolString payload_;
  WebSocketCloseCode closeCode_;
  Type type_;
};

/// Limits and times of a WebSocket.
struct WebSocketOptions {
  /// The most bytes that a message may have, after decompression. A longer one ends the connection with 1009.
  std::size_t maxMessageSize = std::size_t(16) * 1024 * 1024;
  /// The most frames that a message may come in. More end the connection with 1009.
  std::size_t maxFragments = 131'072;
  /// How many answers to pings wait while the peer does not read. Of more pings only the last is answered, which RFC
  /// 6455, section 5.5.3 allows. 1 or more.
  std::size_t maxQueuedPongs = 16;
  /// What the times below are counted by; it must outlive the WebSocket. Without one there are no time-outs.
  Timer* timer = nullptr;
  /// How long close() waits for the peer.
  Duration closeTimeout = std::chrono::seconds(10);
  /// When nothing has come for so long, the peer gets a ping. 0: no pings.
  Duration pingInterval = Duration::zero();
  /// When then nothing comes for so long, though a receive() is pending, the connection is given up.
  Duration pingTimeout = std::chrono::seconds(20);
};

/// A WebSocket after its opening handshake (websocket_handshake.h), on the stream on which that was made.
///
///     Promise<void> echo(WebSocket socket) {
///       for (;;) {
///         WebSocketMessage message = co_await socket.receive();
///         if (message.isClose()) co_return;
///         if (message.isText()) co_await socket.send(message.text());
///       }
///     }
///
/// It answers pings and the peer's close frame by itself, whenever a receive() looks at what has come: so have one
/// pending, or come back to it soon. It reads from the stream only then, and keeps nothing but the message that is
/// being put together: a peer that sends faster than it is listened to is slowed down by its connection.
///
/// A message goes out as one frame. One that the stream takes at once has gone when send() returns. A server writes it
/// from the caller's memory (1 KiB or less is copied), in one write with its header and the answers to pings that wait;
/// a client has to mask it, which it does in a buffer of at most 64 KiB. Answers to pings that come meanwhile wait for
/// the frame's end.
///
/// A large text is looked at 64 KiB at a time, whether it is UTF-8, before any of it is sent; what comes, as it comes.
///
/// A message that is compressed, and large, goes out as several frames: at most 32 KiB of it are compressed at a time,
/// what has come of that is sent, and the loop looks after others in between. So it is never held whole in its
/// compressed form, and pings are answered between its frames. A compressed message that comes is decompressed in such
/// steps, too, however it was sent.
///
/// What the peer does wrong ends the connection: it gets a close frame with the fitting code, receive() fails with
/// FAILED and this code, and so does each later one. Then destroy the WebSocket; or await close() first, to let the
/// peer read the frame.
///
/// Destroying it ends the connection and rejects what is pending with DISCONNECTED; no close frame is sent. It may be
/// destroyed before or after its promises. Belongs to one thread. A small message costs no heap allocation.
class WebSocket {
public:
  /// Which side this is: clients mask what they send (RFC 6455, section 5.1).
  enum class Role : std::uint8_t { SERVER, CLIENT };

  /// Throws FAILED if the stream is null or the options make no sense.
  WebSocket(std::unique_ptr<AsyncIoStream> stream, Role role, WebSocketAgreement agreement = {},
            const WebSocketOptions& options = {}, std::source_location where = std::source_location::current());
  WebSocket(WebSocket&& other) noexcept;
  WebSocket& operator=(WebSocket&& other) noexcept;
  ~WebSocket();

  /// Waits for the next message.
  ///
  /// Completes:    when a message is there whole, when the peer has sent its close frame, or on error; at once if it
  ///               has come already.
  /// Result:       the message. After a CLOSE there is none: receive() fails with DISCONNECTED and the peer's code.
  /// Errors:       FAILED if the peer breaks the protocol or a limit (`code()` is the WebSocketCloseCode that it was
  ///               told); DISCONNECTED if the connection ends without a close frame (ABNORMAL), the peer does not
  ///               answer pings, or abort() is called; OVERLOADED without memory.
  /// Cancellation: clean: what had come is kept for the next receive(), but not while a close() reads on.
  /// Lifetime:     the promise may outlive the WebSocket.
  /// Overlap:      one at a time (a second throws FAILED until the first one's result was taken); a send() and close()
  ///               may be pending. While close() waits for the peer, messages are thrown away and a receive() gets the
  ///               CLOSE.
  Promise<WebSocketMessage> receive(std::source_location where = std::source_location::current());

  /// Sends a text. Throws FAILED if that is no UTF-8 and has at most 64 KiB; that a longer one is none, the promise
  /// says, and nothing of it is sent.
  ///
  /// Completes:    when the stream has taken every byte, often at once; not before it has taken what was to be sent
  ///               before.
  /// Errors:       DISCONNECTED if the connection is gone, or one of the two sides has begun to close it; FAILED after
  ///               a send() that was cancelled in the middle, and for a long text that is no UTF-8.
  /// Cancellation: clean while it waits for an earlier frame, looks at a long text, or compresses what is to be its
  ///               first frame; what has gone at once has gone. In between partial, lost: the WebSocket can still
  ///               receive, but is good only for abort(), and each later send() says so.
  /// Lifetime:     `text` stays alive until the promise is taken or destroyed.
  /// Overlap:      one at a time (a second throws FAILED); a receive() may be pending.
  Promise<void> send(std::string_view text, std::source_location where = std::source_location::current());
  /// The same for bytes of any kind.
  Promise<void> send(std::span<const std::byte> bytes, std::source_location where = std::source_location::current());

  /// Asks the peer for a sign of life.
  ///
  /// Completes:    when its answer has come, to this ping or a later one, which a pending receive() or close() notices.
  /// Errors:       DISCONNECTED if the connection ends before, or is being closed.
  /// Cancellation: deferred: the ping is sent all the same.
  /// Overlap:      any number. Of pings that wait to be sent only the last one is.
  Promise<void> ping(std::source_location where = std::source_location::current());

  /// Closes the connection in good order (RFC 6455, section 7.1.2): sends a close frame, behind the send() that may be
  /// pending, and waits for the peer's. What a later close() says of code and reason is not sent. Throws FAILED if the
  /// code cannot be sent, or the reason, of at most 123 bytes, is no UTF-8.
  ///
  /// Completes:    when both close frames have gone their way. If no receive() is pending, or one whose result nobody
  ///               takes, it reads until then, and throws away the messages that come. After a fault of the peer:
  ///               when that has ended the connection.
  /// Errors:       DISCONNECTED if the connection ends before; FAILED if the peer breaks the protocol, or as soon as a
  ///               send() is cancelled in the middle, since no frame can follow; OVERLOADED when
  ///               WebSocketOptions::closeTimeout is over, and then it is as after abort().
  /// Cancellation: deferred: the close frame is sent all the same; only the waiting ends.
  /// Lifetime:     `reason` is copied.
  /// Overlap:      any number, and with everything else.
  Promise<void> close(WebSocketCloseCode code = WebSocketCloseCode::NORMAL, std::string_view reason = {},
                      std::source_location where = std::source_location::current());

  /// Gives the connection up at once (AsyncOutputStream::abortWrite()). What is pending fails with DISCONNECTED, and so
  /// does everything later.
  void abort(std::source_location where = std::source_location::current());

  /// The subprotocol that was agreed on; empty if there is none.
  const std::string& subprotocol() const noexcept;

private:
  class State;
  troth::detail::Ref<State> state_; // null after a move

  State& state(const std::source_location& where) const;
};

} // namespace http
} // namespace v0
} // namespace troth

template <>
struct std::is_error_code_enum<troth::http::WebSocketCloseCode> : std::true_type {};
