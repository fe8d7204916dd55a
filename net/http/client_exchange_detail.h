// SPDX-License-Identifier: MIT
// ClientExchange: one request and its response on one connection.
#pragma once

#include <troth/net/http/body_detail.h>
#include <troth/net/http/client.h>
#include <troth/net/http/connection_pool_detail.h>
#include <troth/net/http/message_parser_detail.h>
#include <troth/net/http/wire_detail.h>
#include <troth/timers/alarm_detail.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <source_location>
#include <string>
#include <string_view>

namespace troth {
inline namespace v0 {
namespace http {
namespace detail {

/// What a request sends behind its head.
struct OutgoingBody : troth::detail::Pooled {
  std::string bytes;                        // if there is no stream
  std::unique_ptr<AsyncInputStream> stream; // which has been read from if `begun`
  std::optional<std::uint64_t> length;      // of the stream; nothing: in chunks
  std::function<HeaderMap()> trailers;      // behind those; may be empty
  bool begun = false;

  /// Whether it can be sent, or sent once more.
  bool isFresh() const noexcept { return stream == nullptr || !begun; }
};

/// The head of a response, kept when its connection goes on to the next.
class KeptHead {
public:
  /// Copies `fields`, which are of `head`.
  void keep(std::string_view head, std::string_view reason, const HeaderFields& fields);

  std::string_view reason() const noexcept { return std::string_view(text_).substr(reasonAt_, reasonLength_); }
  HeaderFields fields() const noexcept { return {text_.data(), entries_.data(), entries_.size(), present_}; }

private:
  PoolString text_;
  PoolVector<HeaderEntry> entries_;
  std::uint64_t present_ = 0;
  std::size_t reasonAt_ = 0, reasonLength_ = 0;
};

/// How an exchange is carried out.
struct ExchangePlan {
  Method method;
  bool isReused;                 // the connection was used before
  bool wantsUpgrade;             // 101 is an answer
  bool expectsContinue;          // and `body` waits for it
  bool closes;                   // the request says so
  const RequestOptions& options; // until the head has come
  unsigned informational;        // the most of them
  HeadLimits limits;             // of the response
  TimePoint end;                 // of all; TimePoint::max() for none
  std::source_location where;
};

/// Sends a request and receives the response, both at the same time. It has the lease of its connection, which it gives
/// back, with the connection, when both are over, or alone.
///
/// Its operations fail when fail() is called; they may outlive it.
class ClientExchange final : public troth::detail::Pooled, private BodyOwner, private troth::detail::Alarm {
public:
  /// `clients` is the list of the client's exchanges.
  ClientExchange(ClientExchange*& clients, Timer& timer, ConnectionPool::Lease lease,
                 std::unique_ptr<AsyncIoStream> stream, const ExchangePlan& plan);
  ~ClientExchange() override;

  /// Where the head of the request is to be put, before run().
  ByteBuffer& head() noexcept { return wire_->output(); }

  /// Sends what head() has and `body`, and receives the response's head.
  ///
  /// Completes:    when the head has come.
  /// Errors:       see Client::request().
  /// Cancellation: partial, lost; the exchange is good only for being destroyed.
  Promise<void> run(std::unique_ptr<OutgoingBody> body, const ExchangePlan& plan);

  // --- When run() has failed.

  /// Whether the server, as far as can be seen, closed a connection that had been idle without having seen the request,
  /// which may be sent once more (RFC 9110, section 9.2.2; RFC 9112, section 9.3.1).
  bool mayRepeat(const Exception& failure) const noexcept;
  /// The body, if it can be sent again, and the lease; the connection is closed.
  std::unique_ptr<OutgoingBody> takeBody() noexcept;
  ConnectionPool::Lease takeLease() noexcept;

  // --- When it has not.

  int status() const noexcept { return parser_.status(); }
  const KeptHead& kept() const noexcept { return kept_; }
  HeaderFields trailers() const noexcept { return trailers_.fields(); }
  AsyncInputStream& body() noexcept { return decoded_ != nullptr ? *decoded_ : reader_; }
  /// Whether the server has answered with an error without asking for the body, which it had been offered.
  bool wasBodyDeclined() const noexcept { return expectsContinue_ && body_ != nullptr && !body_->begun; }
  /// The connection with what has been read too far in front; the exchange is over.
  std::unique_ptr<AsyncIoStream> takeConnection();

  /// Ends it: the connection is closed, and what is pending fails so.
  void fail(const Exception& reason) noexcept;
  /// The client is destroyed: fail(), and the timer is not touched any more.
  void abandon(const Exception& reason) noexcept;

private:
  /// The response's content as the user reads it: with a time-out, and errors that are a client's.
  class Reader final : public AsyncInputStream {
  public:
    explicit Reader(ClientExchange& exchange) noexcept : exchange_(exchange) {}
    Promise<std::size_t> tryRead(std::span<std::byte> buffer, std::size_t minBytes,
                                 std::source_location where) override;
    Promise<Chunk> tryReadChunk(std::size_t maxBytes, std::source_location where) override;
    std::optional<std::uint64_t> tryGetLength() const override { return exchange_.incoming_.tryGetLength(); }

  private:
    ClientExchange& exchange_;
  };

  /// The same as a decoder gets it: its end is an error, EmptyContent, if nothing came before.
  class NotEmpty final : public AsyncInputStream {
  public:
    explicit NotEmpty(std::unique_ptr<AsyncInputStream> inner)
        : inner_(std::move(inner)), hasBytes_(std::allocate_shared<bool>(PoolAllocator<bool>(), false)) {}
    Promise<std::size_t> tryRead(std::span<std::byte> buffer, std::size_t minBytes,
                                 std::source_location where) override;
    Promise<Chunk> tryReadChunk(std::size_t maxBytes, std::source_location where) override;

  private:
    std::unique_ptr<AsyncInputStream> inner_;
    std::shared_ptr<bool> hasBytes_; // reads have it, too: they may outlive the stream
  };

  /// The same, decoded.
  class Decoded final : public AsyncInputStream {
  public:
    explicit Decoded(std::unique_ptr<AsyncInputStream> inner) noexcept : inner_(std::move(inner)) {}
    Promise<std::size_t> tryRead(std::span<std::byte> buffer, std::size_t minBytes,
                                 std::source_location where) override;
    Promise<Chunk> tryReadChunk(std::size_t maxBytes, std::source_location where) override;

  private:
    std::unique_ptr<AsyncInputStream> inner_;
  };

  /// Waits for the server, in one direction.
  class Watch final : public WireWatcher {
  public:
    explicit Watch(ClientExchange& exchange) noexcept : exchange_(exchange) {}
    void beginWait() noexcept override;
    void endWait(std::uint64_t bytes) noexcept override;

  private:
    friend class ClientExchange;
    ClientExchange& exchange_;
    TimePoint end_ = TimePoint::max();
    bool isWaiting_ = false;
  };

  enum class Sending : std::uint8_t { UNDER_WAY, COMPLETE, FAILED };

  // The client's list.
  ClientExchange* next_ = nullptr;
  ClientExchange** link_ = nullptr; // what points to this; null when the client has gone

  ConnectionPool::Lease lease_; // until the connection is given back
  troth::detail::Ref<Wire> wire_;
  MessageParser parser_;
  KeptHead kept_;
  HeaderMap trailers_;
  MessageBody incoming_; // before what it reads from
  Reader reader_;
  std::unique_ptr<AsyncInputStream> decoded_; // of another reader; null if there is nothing to decode
  Watch reading_, writing_;
  TimePoint headEnd_ = TimePoint::max(); // by when the head must have come
  const TimePoint end_;
  const Duration idleTimeout_, responseTimeout_;
  const std::source_location where_;             // of the request
  std::optional<Exception> failure_;             // of fail()
  troth::detail::WaiterList waiters_;            // what is to fail then
  std::unique_ptr<PromiseFulfiller<void>> goOn_; // a body that waits for "100 Continue"
  std::unique_ptr<OutgoingBody> body_;
  const Method method_;
  Framing framing_ = Framing::NONE;
  const bool isReused_, expectsContinue_, closes_;
  bool hasBytes_ = false; // something of the response has come
  bool hasHead_ = false;
  bool isReusable_ = false; // the connection, as far as the response goes, …
  KeepTerms reusableFor_;   // … and for how long, as far as the server says
  bool readsBody_ = false;  // the request's stream: what fails is not the connection
  Sending sending_ = Sending::UNDER_WAY;
  Promise<void> sender_ = READY_NOW; // destroyed first: it uses the others

  template <typename T>
  Promise<T> untilFailure(Promise<T> promise, std::source_location where);
  template <typename T>
  Promise<T> guard(Promise<T> read, std::source_location where);

  void sendHead(std::source_location where);
  static Promise<void> send(ClientExchange& self, Promise<void> mayBegin, std::source_location where);
  static Promise<void> sendBody(ClientExchange& self, Promise<void> mayBegin, std::source_location where);
  static Promise<void> sendStream(ClientExchange& self, std::source_location where);
  static Promise<void> sendChunks(ClientExchange& self, std::source_location where);
  void appendTrailers(std::source_location where);
  void sendingEnded(Sending how) noexcept;
  static Promise<void> receiveHead(ClientExchange& self, const ExchangePlan& plan);
  [[noreturn]] void throwFault(const std::source_location& where) const;
  void takeInformational(const ExchangePlan& plan, unsigned& count);
  void beginContent(const ExchangePlan& plan);
  void decode(std::uint64_t limit);
  void stopSending() noexcept;
  void giveBack() noexcept;
  bool skipRest() noexcept;
  bool skipChunks() noexcept;

  Promise<void> beforeRead() override { return READY_NOW; }
  void bodyEnded() noexcept override;

  void setEnd(TimePoint& end, Duration delay) noexcept;
  void setNextAlarm() noexcept;
  void failLate(const char* what) noexcept;
  void onAlarm(TimePoint now) noexcept override;
  void onAlarmFailed(const Exception& exception) noexcept override;
};

} // namespace detail
} // namespace http
} // namespace v0
} // namespace troth
