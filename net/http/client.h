// SPDX-License-Identifier: MIT
// Client: HTTP/1.1 requests to whichever servers, over connections that are kept.
#pragma once

#include <troth/io/stream.h>
#include <troth/net/http/header_map.h>
#include <troth/net/http/method.h>
#include <troth/net/http/url.h>
#include <troth/net/network.h>
#include <troth/runtime/promise.h>
#include <troth/timers/retry.h>
#include <troth/timers/timer.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <source_location>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace troth {
inline namespace v0 {
namespace http {

namespace detail {
class ClientCore;
class ClientExchange;
struct OutgoingBody;
} // namespace detail

/// Whether, and how, a request is sent again that failed for a reason that may pass, or was turned away for the time
/// being. See RequestOptions::retry.
struct RequestRetry {
  /// How often it is sent at most; 1 for once.
  unsigned attempts = 1;
  /// The pauses in between. They are longer where the server says so (Retry-After; RFC 9110, section 10.2.3) …
  BackoffOptions backoff = {};
  /// … but no longer than this for its sake: where it wants more, its response is the result.
  Duration longestPause = std::chrono::seconds(30);
  /// IDEMPOTENT: only a request that may be carried out twice by its method (RFC 9110, section 9.2.2). ANY: each, such
  /// as a POST with an Idempotency-Key.
  enum class Methods : std::uint8_t { IDEMPOTENT, ANY };
  Methods methods = Methods::IDEMPOTENT;
};

/// How one request is carried out. Durations: Duration::max() for no limit.
struct RequestOptions {
  /// How many redirects are followed (RFC 9110, section 15.4); with 0 the response is what the server sent, whatever it
  /// is. One more than so many makes the request fail.
  ///
  /// 301 and 302 make a POST a GET, 303 everything but HEAD; 307 and 308 repeat the request. A request whose body is a
  /// stream cannot be repeated: its 307 is the response. Authorization and Cookie, and what `sensitiveHeaders` of the
  /// settings names, do not go to another origin.
  unsigned redirects = 0;
  /// Whether it is sent again after DISCONNECTED and OVERLOADED (no connection, no answer, or none in time), and after
  /// the statuses 408, 429, 502, 503 and 504. If that does not help the last response, or error, is the result; "gave
  /// up after 3 attempts: " stands in front of the error. A request is sent once whose body is a stream that has been
  /// read from; no pause is begun that would last longer than `timeout`. Each redirect has attempts of its own. Once
  /// the head of a response is there nothing is repeated: reading its content may fail.
  RequestRetry retry;
  /// From the call to the last byte of the response, redirects, attempts and all.
  Duration timeout = Duration::max();
  /// From when the request has been sent to the end of the response's head.
  Duration responseTimeout = std::chrono::seconds(60);
  /// How long reading the response's content, or sending the request, may stand still for the server's sake.
  Duration idleTimeout = std::chrono::seconds(60);
  /// Whether a request with a body asks first (RFC 9110, section 10.1.1): the body is sent when the server says so, or
  /// after `continueTimeout`, for there are servers that say nothing; and not at all if the server answers at once.
  enum class Expect : std::uint8_t { NOTHING, CONTINUE };
  Expect expect = Expect::NOTHING;
  Duration continueTimeout = std::chrono::seconds(1);
  /// The most content that is taken, before and after decoding; more fails the reading.
  std::uint64_t bodyBytes = std::numeric_limits<std::uint64_t>::max();
  /// Whether the response may be coded (RFC 9110, section 8.4) and is decoded: then Accept-Encoding says which codings
  /// this build has, unless the request says something itself. A content whose coding is none of these, and a part of
  /// one (206), stay as they are; so does the response's head. For how far decoding goes see DecodingLimits::maxRatio
  /// (troth/net/http/content_coding.h).
  enum class Decoding : std::uint8_t { NONE, DECODE };
  Decoding decoding = Decoding::NONE;
  /// Called for each interim response (1xx) but 100 "Continue" and 101, such as 103 "Early Hints" (RFC 8297). The
  /// fields are views, valid during the call. It must not destroy the client, nor the request's promise; what it throws
  /// fails the request.
  std::function<void(int status, const HeaderFields& headers)> onInformational;
};

struct ClientSettings {
  // --- Connections.

  /// To one origin (scheme, host and port), or to the proxy; further requests wait, first come, first served.
  std::size_t connectionsPerOrigin = 16;
  /// To all of them.
  std::size_t connections = 256;
  /// How long a connection without a request is kept: less than the 5 seconds after which many a server closes it.
  /// Where the server says how long it waits itself (Keep-Alive: timeout=…), less than that.
  Duration keepIdle = std::chrono::seconds(4);
  /// For the look-up of the name, the connection, and a proxy's consent.
  Duration connectTimeout = std::chrono::seconds(30);
  /// Of the connections.
  TcpOptions tcp = TcpOptions();

  /// By way of this proxy ("http://host:port"; its path, and user and password, mean nothing): requests for http go to
  /// it in the absolute form (RFC 9112, section 3.2.2), those for https, and upgrade(), through a tunnel (RFC 9110,
  /// section 9.3.6).
  std::optional<Url> proxy = std::nullopt;
  /// The value of Proxy-Authorization, which only the proxy sees, such as "Basic dXNlcjpwYXNz".
  std::string proxyAuthorization = {};

  /// Makes a secure connection for the URL's host out of one to its port: TLS. Without it https is UNIMPLEMENTED.
  std::function<Promise<std::unique_ptr<AsyncIoStream>>(std::unique_ptr<AsyncIoStream> plain, const Url& url)> secure;

  // --- What is sent and taken.

  /// Sent as User-Agent, unless the request has one; empty for none.
  std::string userAgent = "troth";
  /// Names of further fields that a redirect must not carry to another origin.
  std::vector<std::string> sensitiveHeaders = {};
  /// A response's head from its version to its empty line, and its fields; larger ones are FAILED.
  std::uint32_t headBytes = 64 * 1024;
  std::uint32_t headerFields = 256;
  /// Interim responses before the response.
  unsigned informational = 16;

  /// For requests that have no options of their own.
  RequestOptions defaults = RequestOptions();
};

/// A request that is to be sent, once.
///
///     http::ClientRequest request(http::Method::PUT, "http://example.com/a");
///     request.headers.set(http::HeaderId::CONTENT_TYPE, "text/plain");
///     request.setBody("hello");
///     http::ClientResponse response = co_await client.request(std::move(request));
///
/// User and password in the URL are not sent; set Authorization to have them. The fragment is not either.
class ClientRequest {
public:
  /// Throws FAILED if `text` is no URL (see Url::parse()).
  ClientRequest(Method method, std::string_view text, std::source_location where = std::source_location::current());
  ClientRequest(Method method, Url target, std::source_location where = std::source_location::current());
  /// Any method. Throws FAILED if it is no token (RFC 9110, section 9.1).
  ClientRequest(std::string_view method, Url target, std::source_location where = std::source_location::current());
  ClientRequest(ClientRequest&&) noexcept;
  ClientRequest& operator=(ClientRequest&&) noexcept;
  ~ClientRequest();

  Url url;
  /// What is to be sent besides. Host, Content-Length, Transfer-Encoding and the like, by which messages are told
  /// apart, are the client's: sending fails with FAILED if they are set, or if Connection is anything but "close". With
  /// TE, such as "trailers", goes what Connection must say of it (RFC 9110, section 10.1.4).
  HeaderMap headers;
  /// The client's defaults, if there are none.
  std::optional<RequestOptions> options;

  Method method() const noexcept { return method_; }
  std::string_view methodText() const noexcept { return method_ == Method::OTHER ? methodText_ : methodName(method_); }

  /// Sends these bytes, which are the request's.
  ClientRequest& setBody(std::string bytes);
  /// Sends what `stream`, which is the request's, gives to its end: in chunks, unless it knows its length
  /// (tryGetLength()).
  ClientRequest& setBody(std::unique_ptr<AsyncInputStream> stream,
                         std::source_location where = std::source_location::current());
  /// Sends the next `length` bytes of `stream`. If it has fewer, the request fails.
  ClientRequest& setBody(std::unique_ptr<AsyncInputStream> stream, std::uint64_t length,
                         std::source_location where = std::source_location::current());

  /// Sends the fields that `make` returns behind the body (RFC 9110, section 6.5). It is called when the body's stream
  /// has ended; what it throws fails the request, as a field does that cannot be a trailer (mayBeTrailer()). Names that
  /// are known before may be announced in the field Trailer.
  ///
  /// Throws FAILED unless the body is a stream that goes in chunks.
  ClientRequest& setTrailers(std::function<HeaderMap()> make,
                             std::source_location where = std::source_location::current());

private:
  friend class detail::ClientCore;

  Method method_;
  std::string methodText_; // of Method::OTHER
  std::unique_ptr<detail::OutgoingBody> body_;
};

/// What a server answered: the head, and the content as it comes.
///
/// It holds its connection until its content has been read to the end; then that waits for the next request. Destroying
/// the response before closes the connection, unless the rest of the content has come already. Whether the status is
/// one of success is the caller's to look at.
///
/// Destroying the client ends it: what was read stays, reading fails with DISCONNECTED. Belongs to one thread. What
/// was moved from, throws FAILED.
class ClientResponse {
public:
  ClientResponse(ClientResponse&&) noexcept;
  ClientResponse& operator=(ClientResponse&&) noexcept;
  ~ClientResponse();

  /// 200 to 599, as a rule; up to 999.
  int status() const;
  /// The words after the status, which mean nothing (RFC 9112, section 4), as sent; often empty.
  std::string_view reason() const;
  /// Whether the status says that the request was carried out: 200 to 299.
  bool isSuccess() const { return status() >= 200 && status() < 300; }
  /// Valid as long as the response, also when it is moved.
  HeaderFields headers() const;
  /// The URL that was asked last: another than the request's if a redirect was followed.
  const Url& url() const noexcept;
  /// How long the server asks to wait before the request is sent again, or a redirect followed (Retry-After; RFC 9110,
  /// section 10.2.3): seconds, or the time until a date, by the server's clock if the response has a Date. Nothing if
  /// it does not say, or nonsense.
  std::optional<Duration> retryAfter() const;

  /// The content. A stream with the contracts of AsyncInputStream, valid as long as the response, also when it is
  /// moved; tryGetLength() is what is left, unless it comes in chunks or to the end of the connection, or is decoded.
  ///
  /// Errors of reading: DISCONNECTED if the connection, or the client, ends before the content does, so that a part is
  /// not taken for the whole; OVERLOADED if it does not come in time; FAILED if it is malformed or larger than
  /// RequestOptions::bodyBytes; what the stream of the request's body failed with, should that still be sent.
  AsyncInputStream& body();

  /// Reads the content to its end.
  ///
  /// Completes:    at its end, or on error.
  /// Result:       all of it that was not read before.
  /// Errors:       those of body(); FAILED if there are more than `limit` bytes.
  /// Cancellation: partial, lost: what was read before is gone.
  /// Lifetime:     the response stays alive until the promise completes or is destroyed.
  /// Overlap:      it is a read: one at a time.
  Promise<std::string> readText(std::uint64_t limit, std::source_location where = std::source_location::current());
  Promise<std::vector<std::byte>> readBytes(std::uint64_t limit,
                                            std::source_location where = std::source_location::current());

  /// The fields after a content in chunks (RFC 9110, section 6.5); empty before its end was read.
  HeaderFields trailers() const;

private:
  friend class detail::ClientCore;
  ClientResponse(std::unique_ptr<detail::ClientExchange> exchange, Url url) noexcept;

  std::unique_ptr<detail::ClientExchange> exchange_;
  Url url_;

  detail::ClientExchange& exchange() const;
};

/// What came of asking a server to go on in another protocol.
struct Upgraded {
  ClientResponse response;
  /// The connection, if the server agreed (101 "Switching Protocols"): bytes that came with the head are read first. It
  /// is its holder's, and nothing of the client's any more. Otherwise null.
  std::unique_ptr<AsyncIoStream> stream;
};

/// Sends requests and gets responses (HTTP/1.1 by RFC 9110 and 9112).
///
///     http::Client client(*network, io.timer());
///     http::ClientResponse response = co_await client.get("http://example.com/");
///     std::string text = co_await response.readText(1024 * 1024);
///
/// Connections are kept for the next request to the same origin. A server may close such a connection just when the
/// next request goes out: a request with an idempotent method that has got no byte of an answer on a connection that
/// was used before is sent once more, on a new one, if its body can be (RFC 9110, section 9.2.2; RFC 9112,
/// section 9.3.1). Others fail with DISCONNECTED: whether the server has carried them out, nobody knows. Nothing else
/// is tried again unless RequestOptions::retry says so:
///
///     http::ClientSettings settings;
///     settings.defaults.retry.attempts = 4;
///
/// (What is more than a request, such as one and the reading of its content, is repeated by retry() of
/// troth/timers/retry.h.)
///
/// Several requests at a time take as many connections, within the limits; a connection has one at a time. A server
/// that answers with an error before it has the whole request is not sent the rest.
///
/// Belongs to one thread. Destroying it cancels everything at once: requests and reading of responses fail with
/// DISCONNECTED. What it calls, such as RequestOptions::onInformational or a body's stream, must not destroy it.
class Client {
public:
  /// `network` and `timer` outlive the client. Throws FAILED for settings that make no sense.
  Client(Network& network, Timer& timer, ClientSettings settings = ClientSettings(),
         std::source_location where = std::source_location::current());
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;
  ~Client();

  /// Sends `request`.
  ///
  /// Completes:    when the head of its response has come. The content is read from the response. (The rest of the
  ///               request's body is still sent meanwhile, if the status is one of success.)
  /// Result:       the response, whatever its status.
  /// Errors:       DISCONNECTED if the server cannot be reached, closes the connection before it answers, or the client
  ///               is destroyed; OVERLOADED if a time is up; FAILED for a request that cannot be sent, a response that
  ///               breaks the rules, and too many redirects; UNIMPLEMENTED for https without ClientSettings::secure;
  ///               what the stream of its body fails with.
  /// Cancellation: partial, lost: the server may have carried it out. Its connection is closed.
  /// Overlap:      any number.
  /// Misuse:       throws at once, with the caller's place, for a request that cannot be sent.
  Promise<ClientResponse> request(ClientRequest request, std::source_location where = std::source_location::current());

  /// request() with the most common ones. `url` is needed only during the call.
  Promise<ClientResponse> get(std::string_view url, std::source_location where = std::source_location::current());
  Promise<ClientResponse> head(std::string_view url, std::source_location where = std::source_location::current());
  Promise<ClientResponse> post(std::string_view url, std::string_view contentType, std::string body,
                               std::source_location where = std::source_location::current());
  Promise<ClientResponse> put(std::string_view url, std::string_view contentType, std::string body,
                              std::source_location where = std::source_location::current());
  Promise<ClientResponse> del(std::string_view url, std::source_location where = std::source_location::current());

  /// Asks to go on in another protocol (RFC 9110, section 7.8): `request` has an Upgrade field, to which
  /// `Connection: upgrade` is added. Redirects are not followed.
  ///
  /// Completes:    when the head of the response has come.
  /// Errors:       as request().
  /// Cancellation: as request().
  /// Overlap:      any number.
  Promise<Upgraded> upgrade(ClientRequest request, std::source_location where = std::source_location::current());

  /// Makes a connection to `host` by way of the proxy (CONNECT; RFC 9110, section 9.3.6). `host` is a name or an
  /// address, of IPv6 in brackets. It does not count for the limits.
  ///
  /// Completes:    when the proxy has agreed.
  /// Result:       the connection, which is its holder's.
  /// Errors:       those of connecting to the proxy; FAILED with its status if it refuses, OVERLOADED if that may pass
  ///               (408, 429, 502, 503, 504); OVERLOADED after ClientSettings::connectTimeout. Throws FAILED if the
  ///               client has no proxy, or `host` is none.
  /// Cancellation: clean for this side: the connection is closed.
  /// Overlap:      any number.
  Promise<std::unique_ptr<AsyncIoStream>> connectTunnel(std::string_view host, std::uint16_t port,
                                                        std::source_location where = std::source_location::current());

  /// How many connections there are, and how many of them wait for a request.
  std::size_t connections() const noexcept;
  std::size_t idleConnections() const noexcept;

private:
  std::unique_ptr<detail::ClientCore> core_;
};

} // namespace http
} // namespace v0
} // namespace troth
