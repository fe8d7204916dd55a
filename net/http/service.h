// SPDX-License-Identifier: MIT
// Service, Request, Response: what a server does with a request.
#pragma once

#include <troth/io/stream.h>
#include <troth/net/http/header_map.h>
#include <troth/net/http/method.h>
#include <troth/net/http/pool_allocator_detail.h>
#include <troth/runtime/promise.h>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <source_location>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

namespace troth {
inline namespace v0 {
namespace http {

class Request;
class Response;

namespace detail {

/// What carries a response to its client: a connection.
class ResponseSink {
public:
  virtual Promise<void> sendResponse(int status, std::span<const std::byte> body, std::source_location where) = 0;
  virtual AsyncOutputStream& beginResponse(int status, std::optional<std::uint64_t> length,
                                           std::source_location where) = 0;
  virtual Promise<void> endResponse(const HeaderFields& trailers, std::source_location where) = 0;
  virtual Promise<void> sendInformational(int status, const HeaderFields& headers, std::source_location where) = 0;
  virtual std::unique_ptr<AsyncIoStream> upgrade(int status, std::source_location where) = 0;
  virtual const AsyncIoStream& connection(std::source_location where) const = 0;

protected:
  ~ResponseSink() = default;
};

class Exchange;

} // namespace detail

/// A request, as its handler sees it. Everything in it is a view, valid until the handler's promise is done or
/// destroyed; copy what must live longer. It belongs to its connection's thread.
class Request {
public:
  Request() noexcept = default;
  Request(const Request&) = delete;
  Request& operator=(const Request&) = delete;

  Method method() const noexcept { return method_; }
  /// The method as it was sent: what there is of a Method::OTHER.
  std::string_view methodText() const noexcept { return methodText_; }

  /// The target as it was sent: "/path?query", "http://host/path", "*", or, of CONNECT, "host:port" (RFC 9112, section
  /// 3.2). It holds no space, no control character and no byte outside of ASCII.
  std::string_view target() const noexcept { return target_; }
  /// The path of the target, as it was sent, with its percent-encoding; "/" if it has none, empty for "*" and CONNECT.
  std::string_view path() const noexcept;
  /// What follows the target's first '?'; empty if there is none.
  std::string_view query() const noexcept;
  /// Whom the request is for, "host" or "host:port": the target's authority if it has one, else the Host field (RFC
  /// 9112, section 3.3). Its characters were checked. Empty if an HTTP/1.0 client said nothing.
  std::string_view authority() const noexcept;

  /// 0 or 1: the client speaks HTTP/1.0 or HTTP/1.1.
  unsigned minorVersion() const noexcept { return minorVersion_; }

  /// The fields of the head.
  const HeaderFields& headers() const noexcept { return headers_; }

  /// The content, without its transfer coding. Its end is that of the stream; tryGetLength() is known unless it comes
  /// in chunks. Reading it tells a client that expects "100 Continue" to go on (RFC 9110, section 10.1.1). What nobody
  /// has read when the response is complete is skipped, or the connection closed.
  ///
  /// A read that is pending, or not taken, when the handler's promise is done fails with DISCONNECTED.
  ///
  /// Errors of reading: HttpError 413 if it is longer than the server's limit, 400 if its chunks are malformed;
  /// DISCONNECTED if the client leaves before its end. Let them pass, and the server answers. A client that is too slow
  /// cancels the handler (ServerSettings::bodyTimeout).
  AsyncInputStream& body() noexcept { return *body_; }
  /// The fields after a content in chunks (RFC 9110, section 6.5); empty before its end was read.
  HeaderFields trailers() const noexcept;

  /// The value that the router has found for the parameter of this name in the path (troth/net/http/router.h),
  /// decoded; empty if there is none.
  std::string_view parameter(std::string_view name) const noexcept;
  /// For routers: sets one. Both texts are copied.
  void setParameter(std::string_view name, std::string_view value);

  /// The connection that the request came on, to ask it for its peer (troth/net/peer_identity.h). Throws DISCONNECTED
  /// once it was upgraded.
  const AsyncIoStream& connection(std::source_location where = std::source_location::current()) const {
    return sink_->connection(where);
  }

private:
  friend class detail::Exchange;

  struct Parameter {
    detail::PoolString name, value;
  };

  std::string_view methodText_, target_;
  HeaderFields headers_;
  AsyncInputStream* body_ = nullptr;
  detail::ResponseSink* sink_ = nullptr;
  const HeaderFields* trailers_ = nullptr;
  Method method_ = Method::OTHER;
  std::uint8_t minorVersion_ = 1;
  detail::PoolVector<Parameter> parameters_;
};

/// The answer to a request, to be sent by its handler: once, by send(), or by start() and the stream that it gives.
///
///     response.headers().set(HeaderId::CONTENT_TYPE, "text/plain");
///     co_await response.send(200, "hello\n");
///
/// The server adds `Date`, `Content-Length` or `Transfer-Encoding`, and `Connection` where it must be said; it leaves
/// out content where there can be none (HEAD, 204, 304). A handler that ends without having sent a response is answered
/// for with 500.
///
/// It belongs to its connection's thread, and is valid until the handler's promise is done or destroyed.
class Response {
public:
  Response() noexcept = default;
  Response(const Response&) = delete;
  Response& operator=(const Response&) = delete;

  /// The fields to be sent with the head. Framing is not among them: setting Content-Length or Transfer-Encoding makes
  /// sending fail with FAILED; `Connection: close` closes the connection after this response. Trailer, which announces
  /// fields of end() (RFC 9110, section 6.6.2), is for start() without a length (else FAILED), and is left out where
  /// the content does not go in chunks: to HTTP/1.0, and with 204 and 304.
  HeaderMap& headers() noexcept { return headers_; }

  /// Sends a head, and `body` with its length. `status` is 200 to 599 (for 1xx see sendInformational()).
  ///
  /// Completes:    when the connection has taken it. A small response is at once in the connection's buffer, which is
  ///               sent when the handler waits for something or is done, so the replies to several requests that came
  ///               together go together.
  /// Errors:       DISCONNECTED if the client has gone (one that does not read cancels the handler). FAILED if a
  ///               response was begun before, or for a status or fields that it cannot have.
  /// Cancellation: partial, lost: the connection is reset when the handler ends, as it is if the handler ends before
  ///               the promise is done.
  /// Lifetime:     `body` stays alive until the promise is taken or destroyed.
  Promise<void> send(int status, std::string_view body = {},
                     std::source_location where = std::source_location::current()) {
    return sink_->sendResponse(status, asBytes(body), where);
  }
  Promise<void> send(int status, std::span<const std::byte> body,
                     std::source_location where = std::source_location::current()) {
    return sink_->sendResponse(status, body, where);
  }
  /// The same with a text that the promise owns.
  template <std::same_as<std::string> Text>
  Promise<void>
  send(int status, Text&& body,
       std::source_location where = std::source_location::current()) requires std::is_rvalue_reference_v<Text&&> {
    return sendOwned(status, std::move(body), where);
  }

  /// Sends a head, and gives a stream for the body, which is this response's and of which each write is sent at once.
  /// With a `length` exactly so many bytes must be written; without one they go in chunks (to a client of HTTP/1.0: to
  /// the end of the connection).
  ///
  /// The body is complete when the handler's promise is fulfilled, or by end(). Should the handler fail before, or be
  /// cancelled, or have written less than `length`, or have given up a write before its end, the connection is reset,
  /// so that the client does not take a part for the whole. (Complete responses before it that are still on their way
  /// to the client, which has not waited for them, are sent first.) Writing more than `length` throws FAILED. For HEAD
  /// what is written is dropped.
  AsyncOutputStream& start(int status, std::optional<std::uint64_t> length = std::nullopt,
                           std::source_location where = std::source_location::current()) {
    return sink_->beginResponse(status, length, where);
  }

  /// Ends the body of start(), with `trailers` if it goes in chunks (RFC 9110, section 6.5). Clients that say
  /// `TE: trailers` look at them; to others, they are best not sent.
  ///
  /// Completes:    when the connection has taken it.
  /// Errors:       as send(); FAILED if bytes of `length` are missing, or nothing was started, or for a field that can
  ///               be no trailer (mayBeTrailer()).
  /// Cancellation: partial, lost: the connection is closed.
  Promise<void> end(const HeaderFields& trailers = {}, std::source_location where = std::source_location::current()) {
    return sink_->endResponse(trailers, where);
  }

  /// Sends a head of its own before the response, such as 103 with Link fields (RFC 8297) or 102. Clients of HTTP/1.0
  /// get none (RFC 9110, section 15.2). `status` is 102 to 199.
  ///
  /// Completes, Errors, Cancellation: as send().
  Promise<void> sendInformational(int status, const HeaderFields& headers = {},
                                  std::source_location where = std::source_location::current()) {
    return sink_->sendInformational(status, headers, where);
  }

  /// Sends the head, with its headers(), and hands the connection over to another protocol: with 101 after the request
  /// asked to upgrade (RFC 9110, section 7.8), or with 2xx to CONNECT. What the client has sent already is read first;
  /// what is written goes behind the head, and that behind responses to earlier requests which are still on their way.
  /// The server is done with the connection: it lives as long as the stream, also after the handler has ended.
  ///
  /// Throws FAILED if the request did not ask for it, or a response was begun, or the body was not read to its end, or
  /// a sendInformational() is pending.
  std::unique_ptr<AsyncIoStream> upgrade(int status = 101,
                                         std::source_location where = std::source_location::current()) {
    return sink_->upgrade(status, where);
  }

  /// The status that was sent; 0 while none was.
  int status() const noexcept { return status_; }

private:
  friend class detail::Exchange;

  HeaderMap headers_;
  detail::ResponseSink* sink_ = nullptr;
  int status_ = 0;

  Promise<void> sendOwned(int status, std::string body, std::source_location where);
};

/// What a server does with the requests that it gets.
///
///     struct Hello : http::Service {
///       Promise<void> handle(http::Request& request, http::Response& response) override {
///         co_await response.send(200, "hello\n");
///       }
///     };
class Service {
public:
  virtual ~Service() = default;

  /// Answers `request` by `response`, both of which outlive the promise. A connection has one request at a time; of
  /// several connections there are many. A read or pump of the content, or a write or pump into the response, that was
  /// kept elsewhere and is not done with the promise fails with DISCONNECTED.
  ///
  /// What it fails with, before it has begun its response, becomes one: HttpError (troth/net/http/http_error.h) that
  /// with its status, OVERLOADED 503, UNIMPLEMENTED 501, everything else 500; the client learns no more than that. A
  /// client that leaves cancels it.
  virtual Promise<void> handle(Request& request, Response& response) = 0;
};

/// A service that is a function, `func(Request&, Response&)`, which returns a Promise<void>. A lambda that is a
/// coroutine keeps its captures as long as the service lives.
template <typename Func>
requires std::invocable<Func&, Request&, Response&> std::unique_ptr<Service> newService(Func func) {
  class FunctionService final : public Service {
  public:
    explicit FunctionService(Func&& func) : func_(std::move(func)) {}
    Promise<void> handle(Request& request, Response& response) override { return func_(request, response); }

  private:
    Func func_;
  };
  return std::make_unique<FunctionService>(std::move(func));
}

} // namespace http
} // namespace v0
} // namespace troth
