// SPDX-License-Identifier: MIT
// From a request to its response: which connection it goes on, what its head says, and where a redirect leads.
#include <troth/net/http/client.h>

#include <troth/net/http/client_exchange_detail.h>
#include <troth/net/http/connection_pool_detail.h>
#include <troth/net/http/content_coding.h>
#include <troth/net/http/date.h>
#include <troth/net/http/status.h>
#include <troth/net/http/text_detail.h>
#include <troth/runtime/canceler.h>
#include <troth/runtime/exception.h>
#include <troth/runtime/quote_detail.h>
#include <troth/timers/deadline.h>
#include <troth/timers/time_math_detail.h>

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <utility>

namespace troth {
inline namespace v0 {
namespace http {

using Kind = Exception::Kind;
using detail::ByteBuffer;
using detail::ClientExchange;
using detail::ConnectionPool;
using detail::ExchangePlan;
using detail::OutgoingBody;

// -------------------------------------------------------------------------------------------- requests

ClientRequest::ClientRequest(Method method, std::string_view text, std::source_location where)
    : ClientRequest(method, Url::parse(text, where), where) {}

ClientRequest::ClientRequest(Method method, Url u, std::source_location where) : url(std::move(u)), method_(method) {
  if (method == Method::OTHER) troth::detail::throwMisuse("ClientRequest: Method::OTHER has no name; pass it", where);
}

ClientRequest::ClientRequest(std::string_view method, Url u, std::source_location where)
    : url(std::move(u)), method_(findMethod(method)) {
  if (!detail::isToken(method))
    troth::detail::throwMisuse("ClientRequest: " + troth::detail::quote(method) + " is no method", where);
  if (method_ == Method::OTHER) methodText_ = method;
}

ClientRequest::ClientRequest(ClientRequest&&) noexcept = default;
ClientRequest& ClientRequest::operator=(ClientRequest&&) noexcept = default;
ClientRequest::~ClientRequest() = default;

ClientRequest& ClientRequest::setBody(std::string bytes) {
  body_ = std::make_unique<OutgoingBody>();
  body_->bytes = std::move(bytes);
  return *this;
}

ClientRequest& ClientRequest::setBody(std::unique_ptr<AsyncInputStream> stream, std::source_location where) {
  if (stream == nullptr) troth::detail::throwMisuse("ClientRequest::setBody: the stream is null", where);
  body_ = std::make_unique<OutgoingBody>();
  body_->length = stream->tryGetLength();
  body_->stream = std::move(stream);
  return *this;
}

ClientRequest& ClientRequest::setBody(std::unique_ptr<AsyncInputStream> stream, std::uint64_t length,
                                      std::source_location where) {
  setBody(std::move(stream), where);
  body_->length = length;
  return *this;
}

ClientRequest& ClientRequest::setTrailers(std::function<HeaderMap()> make, std::source_location where) {
  if (body_ == nullptr || body_->stream == nullptr || body_->length)
    troth::detail::throwMisuse("ClientRequest::setTrailers: the body is no stream that goes in chunks", where);
  body_->trailers = std::move(make);
  return *this;
}

namespace {

[[noreturn, gnu::cold]] void refuse(std::string_view what, const std::source_location& where) {
  troth::detail::throwMisuse(fmt::format("HTTP request: {}", what), where);
}

// What frames and routes messages is said by the client alone: two who say it may say different things.
void checkFields(const HeaderFields& fields, bool upgrades, const std::source_location& where) {
  constexpr HeaderId OURS[] = {HeaderId::HOST,
                               HeaderId::CONTENT_LENGTH,
                               HeaderId::TRANSFER_ENCODING,
                               HeaderId::PROXY_AUTHORIZATION,
                               HeaderId::PROXY_CONNECTION,
                               HeaderId::EXPECT,
                               HeaderId::KEEP_ALIVE};
  for (const HeaderId id : OURS)
    if (fields.has(id)) refuse(fmt::format("the field {} is set by the client alone", headerName(id)), where);
  if (upgrades != fields.has(HeaderId::UPGRADE))
    refuse(upgrades ? "there is no field Upgrade" : "Upgrade is for Client::upgrade()", where);
  if (!fields.has(HeaderId::CONNECTION)) return;
  const std::string connection = fields.combined(HeaderId::CONNECTION);
  if (upgrades || !detail::equalsIgnoringCase(connection, "close"))
    refuse(fmt::format("the field Connection can only be \"close\", not {}", troth::detail::quote(connection)), where);
}

void checkUrl(const Url& url, const std::source_location& where) {
  const bool isHttp = url.hasScheme("http");
  if (!isHttp && !url.hasScheme("https"))
    refuse(fmt::format("the URL's scheme is neither http nor https, but {}", troth::detail::quote(url.scheme())),
           where);
  if (url.portOrDefault() == 0) refuse("the URL's port is 0", where);
}

bool isAsked(Method method) noexcept {
  return method == Method::POST || method == Method::PUT || method == Method::PATCH;
}

// RFC 9110, section 15, and RFC 6585, section 4, say of each that it may pass. (500 may, too, but as a rule the request
// has met a bug.)
bool isTurnedAway(int status) noexcept {
  return status == 408 || status == 429 || status == 502 || status == 503 || status == 504;
}

void appendNumber(ByteBuffer& text, std::uint64_t number) {
  char digits[20];
  text.append({digits, std::to_chars(digits, digits + sizeof digits, number).ptr});
}

// Host and port as a Host field has them (RFC 9110, section 7.2).
void appendAuthority(ByteBuffer& text, const Url& url) {
  text.append(url.host());
  const std::optional<std::uint16_t> port = url.port();
  if (!port || port == defaultPort(url.scheme())) return;
  text.append(":");
  appendNumber(text, *port);
}

void appendTarget(ByteBuffer& text, const Url& url) {
  if (!url.path().starts_with('/')) text.append("/");
  text.append(url.path());
  const std::optional<std::string_view> query = url.query();
  if (!query) return;
  text.append("?");
  text.append(*query);
}

void appendField(ByteBuffer& text, std::string_view name, std::string_view value) {
  text.append(name);
  text.append(": ");
  text.append(value);
  text.append("\r\n");
}

void appendFraming(ByteBuffer& text, Method method, const OutgoingBody* body) {
  if (body == nullptr) {
    // The server would else wonder whether there is one (RFC 9110, section 8.6).
    if (isAsked(method)) text.append("Content-Length: 0\r\n");
  } else if (body->stream != nullptr && !body->length) {
    text.append("Transfer-Encoding: chunked\r\n");
  } else {
    text.append("Content-Length: ");
    appendNumber(text, body->stream == nullptr ? body->bytes.size() : *body->length);
    text.append("\r\n");
  }
}

// A part of a content (Range) could not be decoded.
void appendCodings(ByteBuffer& text, const HeaderMap& headers) {
  const std::span<const std::string_view> codings = supportedCodings();
  if (codings.empty() || headers.has(HeaderId::ACCEPT_ENCODING) || headers.has(HeaderId::RANGE)) return;
  text.append("Accept-Encoding: ");
  for (std::size_t i = 0; i < codings.size(); ++i) {
    if (i > 0) text.append(", ");
    text.append(codings[i]);
  }
  text.append("\r\n");
}

// The host without what may be written in several ways.
std::string normalHost(const Url& url) { return std::string(url.normalized().host()); }

bool isPlainHost(std::string_view host) noexcept { return host.find_first_of("%[") == std::string_view::npos; }

// What connections to the URL's server are found by.
void appendOrigin(ByteBuffer& text, const Url& url) {
  text.append(url.hasScheme("https") ? "https://" : "http://");
  if (const std::string_view host = url.host(); isPlainHost(host)) {
    std::transform(host.begin(), host.end(), text.room(host.size()), detail::toLower);
    text.added(host.size());
  } else {
    text.append(normalHost(url));
  }
  text.append(":");
  appendNumber(text, *url.portOrDefault());
}

bool hasSameOrigin(const Url& a, const Url& b) {
  ByteBuffer first, second;
  appendOrigin(first, a);
  appendOrigin(second, b);
  return first.text() == second.text();
}

} // namespace

// -------------------------------------------------------------------------------------------- the client

namespace detail {

// RFC 9110, section 10.2.3. The date is compared with the server's own clock, in case that it, or this one, is wrong.
static std::optional<Duration> retryAfterOf(const HeaderFields& fields) {
  constexpr std::uint64_t MOST = 1'000'000'000; // seconds; more would not fit a Duration
  const std::optional<std::string_view> value = fields.get(HeaderId::RETRY_AFTER);
  if (!value) return std::nullopt;
  if (std::all_of(value->begin(), value->end(), isDigit))
    return value->empty()
               ? std::nullopt
               : std::optional<Duration>(std::chrono::seconds(std::min(parseDecimal(*value).value_or(MOST), MOST)));
  using std::chrono::sys_seconds;
  const auto here = std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now());
  const std::optional<sys_seconds> date = parseHttpDate(*value, here);
  if (!date) return std::nullopt;
  const sys_seconds now = parseHttpDate(fields.valueOr(HeaderId::DATE, ""), here).value_or(here);
  return std::clamp(*date - now, std::chrono::seconds(0), std::chrono::seconds(MOST));
}

class ClientCore {
public:
  ClientCore(Network& network, Timer& timer, ClientSettings settings)
      : network_(network),
        timer_(timer),
        settings_(std::move(settings)),
        pool_(*new ConnectionPool(timer, {settings_.connectionsPerOrigin, settings_.connections, settings_.keepIdle})) {
  }
  ~ClientCore();

  const ClientSettings& settings() const noexcept { return settings_; }
  const ConnectionPool& pool() const noexcept { return *pool_; }

  Promise<ClientResponse> request(ClientRequest request, std::source_location where);
  Promise<Upgraded> upgrade(ClientRequest request, std::source_location where);
  Promise<std::unique_ptr<AsyncIoStream>> tunnel(std::string authority, std::source_location where);

private:
  enum class Mode : std::uint8_t { PLAIN, UPGRADE };

  Network& network_;
  Timer& timer_;
  const ClientSettings settings_;
  troth::detail::Ref<ConnectionPool> pool_;
  std::optional<SeededRandom> random_; // for pauses
  ClientExchange* exchanges_ = nullptr;
  Canceler requests_; // destroyed first

  const RequestOptions& optionsOf(const ClientRequest& request) const noexcept {
    return request.options ? *request.options : settings_.defaults;
  }
  // What becomes another protocol must reach the server itself: through a tunnel (RFC 6455, section 4.1).
  bool isByProxy(const Url& url, Mode mode) const noexcept {
    return settings_.proxy && mode == Mode::PLAIN && url.hasScheme("http");
  }
  void check(const ClientRequest& request, Mode mode, const std::source_location& where) const;
  void checkRetry(const ClientRequest& request, const std::source_location& where) const;
  template <typename T>
  Promise<T> limited(Promise<T> promise, Duration timeout, const std::source_location& where);

  Promise<ClientResponse> perform(ClientRequest request, Mode mode, TimePoint end, std::source_location where);
  Promise<Upgraded> performUpgrade(ClientRequest request, TimePoint end, std::source_location where);
  Promise<std::unique_ptr<ClientExchange>> exchange(ClientRequest& request, Mode mode, TimePoint end,
                                                    std::source_location where);
  Promise<std::unique_ptr<ClientExchange>> exchangeRepeatedly(ClientRequest& request, Mode mode, TimePoint end,
                                                              std::source_location where);
  bool mayRepeat(const ClientRequest& request) const noexcept;
  RandomSource& random();
  void writeHead(ByteBuffer& head, const ClientRequest& request, Mode mode, bool expectsContinue) const;
  bool redirect(ClientRequest& request, const ClientExchange& response, const std::source_location& where) const;
  Url locationOf(const ClientRequest& request, const ClientExchange& response, const std::source_location& where) const;
  void dropSensitive(HeaderMap& headers) const;

  Promise<std::unique_ptr<AsyncIoStream>> connect(const Url& url, Mode mode, std::source_location where);
  Promise<std::unique_ptr<AsyncIoStream>> connectSecurely(const Url& url, std::source_location where);
  Promise<std::unique_ptr<AsyncIoStream>> connectThrough(const Url& url, std::source_location where);
  Promise<std::unique_ptr<AsyncIoStream>> connectTo(std::string host, std::uint16_t port, std::source_location where);
  Promise<std::unique_ptr<AsyncIoStream>> openTunnel(std::string authority, std::source_location where);
};

ClientCore::~ClientCore() {
  const Exception reason(Kind::DISCONNECTED, "HTTP: the client was destroyed");
  requests_.cancel(reason);
  pool_->close();
  while (exchanges_ != nullptr) exchanges_->abandon(reason);
}

void ClientCore::check(const ClientRequest& request, Mode mode, const std::source_location& where) const {
  checkUrl(request.url, where);
  checkFields(request.headers, mode == Mode::UPGRADE, where);
  if (request.method() == Method::CONNECT) refuse("CONNECT is for Client::connectTunnel()", where);
  // RFC 9110, section 9.3.8.
  if (request.method() == Method::TRACE && request.body_ != nullptr) refuse("TRACE has no body", where);
  if (request.headers.has(HeaderId::TRAILER) && (request.body_ == nullptr || !request.body_->trailers))
    refuse("the field Trailer announces what ClientRequest::setTrailers() was not called for", where);
  if (request.url.hasScheme("https") && !settings_.secure)
    throw Exception(
        Kind::UNIMPLEMENTED,
        fmt::format("HTTP request to {}: there is no TLS; see ClientSettings::secure", request.url.authority()), {},
        where);
}

void ClientCore::checkRetry(const ClientRequest& request, const std::source_location& where) const {
  const RequestRetry& retry = optionsOf(request).retry;
  if (retry.attempts == 0) refuse("with no attempts it would never be sent", where);
  if (retry.attempts > 1) Backoff(retry.backoff, where);
}

template <typename T>
Promise<T> ClientCore::limited(Promise<T> promise, Duration timeout, const std::source_location& where) {
  if (timeout == Duration::max()) return promise;
  return timer_.timeoutAfter(timeout, std::move(promise), "an HTTP request", where);
}

Promise<ClientResponse> ClientCore::request(ClientRequest request, std::source_location where) {
  check(request, Mode::PLAIN, where);
  checkRetry(request, where);
  const Duration timeout = optionsOf(request).timeout;
  const TimePoint end = timeout == Duration::max() ? TimePoint::max() : troth::detail::timeAfter(timer_.now(), timeout);
  return requests_.wrap(limited(perform(std::move(request), Mode::PLAIN, end, where), timeout, where), where);
}

Promise<Upgraded> ClientCore::upgrade(ClientRequest request, std::source_location where) {
  check(request, Mode::UPGRADE, where);
  checkRetry(request, where);
  const Duration timeout = optionsOf(request).timeout;
  const TimePoint end = timeout == Duration::max() ? TimePoint::max() : troth::detail::timeAfter(timer_.now(), timeout);
  return requests_.wrap(limited(performUpgrade(std::move(request), end, where), timeout, where), where);
}

Promise<std::unique_ptr<AsyncIoStream>> ClientCore::tunnel(std::string authority, std::source_location where) {
  return requests_.wrap(limited(openTunnel(std::move(authority), where), settings_.connectTimeout, where), where);
}

Promise<ClientResponse> ClientCore::perform(ClientRequest request, Mode mode, TimePoint end,
                                            std::source_location where) {
  for (unsigned followed = 0;; ++followed) {
    Promise<std::unique_ptr<ClientExchange>> answer = optionsOf(request).retry.attempts == 1
                                                          ? exchange(request, mode, end, where)
                                                          : exchangeRepeatedly(request, mode, end, where);
    std::unique_ptr<ClientExchange> response = co_await std::move(answer);
    const unsigned most = mode == Mode::UPGRADE ? 0 : optionsOf(request).redirects;
    if (most == 0 || !redirect(request, *response, where))
      co_return ClientResponse(std::move(response), std::move(request.url));
    if (followed == most)
      throw Exception(Kind::FAILED,
                      fmt::format("HTTP: there are more than {} redirects; the last one leads to {}", most,
                                  troth::detail::quote(request.url.withoutUserInfo().toString())),
                      {}, where);
  }
}

Promise<Upgraded> ClientCore::performUpgrade(ClientRequest request, TimePoint end, std::source_location where) {
  ClientResponse response = co_await perform(std::move(request), Mode::UPGRADE, end, where);
  std::unique_ptr<AsyncIoStream> stream;
  if (response.status() == 101) stream = response.exchange_->takeConnection();
  co_return Upgraded{std::move(response), std::move(stream)};
}

// RFC 9110, sections 9.2.2 and 10.2.3.
Promise<std::unique_ptr<ClientExchange>> ClientCore::exchangeRepeatedly(ClientRequest& request, Mode mode,
                                                                        TimePoint end, std::source_location where) {
  const RequestRetry& retry = optionsOf(request).retry;
  Backoff backoff(retry.backoff, where);
  for (unsigned attempt = 1;; ++attempt) {
    Result<std::unique_ptr<ClientExchange>> result = co_await exchange(request, mode, end, where).asResult();
    if (result && !isTurnedAway((*result)->status())) co_return *std::move(result);
    const Duration told = (result ? retryAfterOf((*result)->kept().fields()) : std::nullopt).value_or(Duration::zero());
    const Duration pause = std::max(backoff.next(random()), told);
    const bool isLast = attempt == retry.attempts || !mayRepeat(request) || told > retry.longestPause ||
                        pause >= troth::detail::timeBetween(timer_.now(), end);
    if (!result && (isLast || !isWorthRetrying(result.error()))) {
      if (attempt == 1) result.error().rethrow();
      throw result.error().withContext(fmt::format("gave up after {} attempts", attempt));
    }
    if (isLast) co_return *std::move(result);
    if (result) result->reset(); // the connection is free meanwhile, if it is still good
    co_await timer_.afterDelay(pause, where);
  }
}

// Whether it may be carried out twice, and can be sent so.
bool ClientCore::mayRepeat(const ClientRequest& request) const noexcept {
  const bool isAllowed =
      isIdempotent(request.method()) || optionsOf(request).retry.methods == RequestRetry::Methods::ANY;
  return isAllowed && (request.body_ == nullptr || request.body_->isFresh());
}

RandomSource& ClientCore::random() {
  if (!random_) random_ = SeededRandom::fromSystem();
  return *random_;
}

// One request on one connection; on a second one if the first was found closed, or the server does not know Expect.
Promise<std::unique_ptr<ClientExchange>> ClientCore::exchange(ClientRequest& request, Mode mode, TimePoint end,
                                                              std::source_location where) {
  const RequestOptions& options = optionsOf(request);
  ByteBuffer origin;
  appendOrigin(origin, isByProxy(request.url, mode) ? *settings_.proxy : request.url);
  ConnectionPool::Lease lease = co_await pool_->acquire(origin.text(), where);
  bool expectsContinue = request.body_ != nullptr && options.expect == RequestOptions::Expect::CONTINUE;
  for (;;) {
    std::unique_ptr<AsyncIoStream> stream = lease.takeStream();
    const bool isReused = stream != nullptr;
    if (!isReused) stream = co_await connect(request.url, mode, where);
    const ExchangePlan plan = {.method = request.method(),
                               .isReused = isReused,
                               .wantsUpgrade = mode == Mode::UPGRADE,
                               .expectsContinue = expectsContinue,
                               .closes = request.headers.has(HeaderId::CONNECTION),
                               .options = options,
                               .informational = settings_.informational,
                               .limits = {.headBytes = settings_.headBytes, .fields = settings_.headerFields},
                               .end = end,
                               .where = where};
    auto exchange = std::make_unique<ClientExchange>(exchanges_, timer_, std::move(lease), std::move(stream), plan);
    writeHead(exchange->head(), request, mode, expectsContinue);
    // Whatever fails, the body must not be lost: the next attempt would be sent without it.
    Promise<void> answered = evalNow([&] { return exchange->run(std::move(request.body_), plan); });
    Result<void> outcome = co_await std::move(answered).asResult();
    const bool isRepeated = !outcome && exchange->mayRepeat(outcome.error());
    // RFC 9110, section 10.1.1: without the expectation, then.
    const bool isUnexpected = outcome && exchange->status() == 417 && exchange->wasBodyDeclined();
    if (!outcome || exchange->status() >= 300) request.body_ = exchange->takeBody(); // to be sent once more, perhaps
    if (!isRepeated && !isUnexpected) {
      outcome.value();
      co_return exchange;
    }
    if (isUnexpected) expectsContinue = false;
    lease = exchange->takeLease();
  }
}

// RFC 9112, section 3.
void ClientCore::writeHead(ByteBuffer& head, const ClientRequest& request, Mode mode, bool expectsContinue) const {
  const Url& url = request.url;
  const HeaderMap& headers = request.headers;
  head.room(url.toString().size() + headers.text().size() + 256);
  head.append(request.methodText());
  head.append(" ");
  if (isByProxy(url, mode)) {
    head.append("http://");
    appendAuthority(head, url);
  }
  appendTarget(head, url);
  head.append(" HTTP/1.1\r\nHost: ");
  appendAuthority(head, url);
  head.append("\r\n");
  if (!settings_.userAgent.empty() && !headers.has(HeaderId::USER_AGENT))
    appendField(head, "User-Agent", settings_.userAgent);
  if (isByProxy(url, mode) && !settings_.proxyAuthorization.empty())
    appendField(head, "Proxy-Authorization", settings_.proxyAuthorization);
  if (optionsOf(request).decoding == RequestOptions::Decoding::DECODE) appendCodings(head, headers);
  if (mode == Mode::UPGRADE) head.append("Connection: upgrade\r\n");
  if (headers.has(HeaderId::TE)) head.append("Connection: TE\r\n"); // RFC 9110, section 10.1.4
  if (expectsContinue) head.append("Expect: 100-continue\r\n");
  appendFraming(head, request.method(), request.body_.get());
  head.append(headers.text());
  head.append("\r\n");
}

// -------------------------------------------------------------------------------------------- redirects

// Makes `request` the one that the response asks for; returns false if that is the end of it (RFC 9110, section 15.4).
bool ClientCore::redirect(ClientRequest& request, const ClientExchange& response,
                          const std::source_location& where) const {
  const int status = response.status();
  const bool isAny = status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
  if (!isAny || !response.kept().fields().has(HeaderId::LOCATION)) return false;
  const Method method = request.method();
  const bool becomesGet = (status == 303 && method != Method::GET && method != Method::HEAD) ||
                          ((status == 301 || status == 302) && method == Method::POST);
  if (!becomesGet && request.body_ != nullptr && !request.body_->isFresh()) return false;
  Url target = locationOf(request, response, where);
  if (becomesGet) {
    request.method_ = Method::GET;
    request.body_.reset();
    for (const HeaderId id : {HeaderId::CONTENT_TYPE, HeaderId::CONTENT_ENCODING, HeaderId::CONTENT_LANGUAGE,
                              HeaderId::CONTENT_LOCATION, HeaderId::CONTENT_RANGE, HeaderId::TRAILER})
      request.headers.remove(id);
  }
  if (!hasSameOrigin(request.url, target)) dropSensitive(request.headers);
  request.url = std::move(target);
  check(request, Mode::PLAIN, where);
  return true;
}

Url ClientCore::locationOf(const ClientRequest& request, const ClientExchange& response,
                           const std::source_location& where) const {
  const HeaderFields fields = response.kept().fields();
  const std::string_view location = *fields.get(HeaderId::LOCATION);
  std::string reason;
  std::optional<Url> target = request.url.tryResolve(location, &reason);
  if (!target || fields.count(HeaderId::LOCATION) > 1 || (!target->hasScheme("http") && !target->hasScheme("https"))) {
    if (target)
      reason = fields.count(HeaderId::LOCATION) > 1 ? "there are several" : "its scheme is neither http nor https";
    throw Exception(Kind::FAILED,
                    fmt::format("HTTP: the server redirects to {}, where nobody can go: {}",
                                troth::detail::quote(location), reason),
                    {}, where);
  }
  // The fragment is kept, unless there is another (RFC 9110, section 10.2.2).
  const std::optional<std::string_view> fragment = request.url.fragment();
  if (!fragment || target->fragment()) return *std::move(target);
  return Url::parse(target->toString() + "#" + std::string(*fragment), where);
}

void ClientCore::dropSensitive(HeaderMap& headers) const {
  for (const HeaderId id : {HeaderId::AUTHORIZATION, HeaderId::COOKIE}) headers.remove(id);
  for (const std::string& name : settings_.sensitiveHeaders) headers.remove(name);
}

// -------------------------------------------------------------------------------------------- connections

Promise<std::unique_ptr<AsyncIoStream>> ClientCore::connect(const Url& url, Mode mode, std::source_location where) {
  const bool byProxy = isByProxy(url, mode);
  const Url& target = byProxy ? *settings_.proxy : url;
  Promise<std::unique_ptr<AsyncIoStream>> connection =
      byProxy                  ? connectTo(normalHost(target), *target.portOrDefault(), where)
      : url.hasScheme("https") ? connectSecurely(url, where)
                               : connectThrough(url, where);
  if (settings_.connectTimeout == Duration::max()) return connection;
  return timer_.timeoutAfter(settings_.connectTimeout, std::move(connection), "connecting to " + target.authority(),
                             where);
}

Promise<std::unique_ptr<AsyncIoStream>> ClientCore::connectSecurely(const Url& url, std::source_location where) {
  std::unique_ptr<AsyncIoStream> plain = co_await connectThrough(url, where);
  co_return co_await settings_.secure(std::move(plain), url);
}

// To the server itself, whatever is between.
Promise<std::unique_ptr<AsyncIoStream>> ClientCore::connectThrough(const Url& url, std::source_location where) {
  std::string host = normalHost(url);
  const std::uint16_t port = *url.portOrDefault();
  if (settings_.proxy) return openTunnel(fmt::format("{}:{}", host, port), where);
  return connectTo(std::move(host), port, where);
}

// The port is no part of the text, so that no host is taken for the beginning of another kind of address.
Promise<std::unique_ptr<AsyncIoStream>> ClientCore::connectTo(std::string host, std::uint16_t port,
                                                              std::source_location where) {
  const std::unique_ptr<NetworkAddress> address = co_await network_.parseAddress(host, port, where);
  ConnectOptions options;
  options.timeout = Duration::max();
  options.tcp = settings_.tcp;
  co_return co_await address->connect(options, where);
}

// RFC 9110, section 9.3.6.
Promise<std::unique_ptr<AsyncIoStream>> ClientCore::openTunnel(std::string authority, std::source_location where) {
  std::unique_ptr<AsyncIoStream> stream =
      co_await connectTo(normalHost(*settings_.proxy), *settings_.proxy->portOrDefault(), where);
  const ExchangePlan plan = {.method = Method::CONNECT,
                             .isReused = false,
                             .wantsUpgrade = false,
                             .expectsContinue = false,
                             .closes = true,
                             .options = settings_.defaults,
                             .informational = settings_.informational,
                             .limits = {.headBytes = settings_.headBytes, .fields = settings_.headerFields},
                             .end = TimePoint::max(),
                             .where = where};
  ClientExchange exchange(exchanges_, timer_, {}, std::move(stream), plan);
  ByteBuffer& head = exchange.head();
  head.append("CONNECT ");
  head.append(authority);
  head.append(" HTTP/1.1\r\n");
  appendField(head, "Host", authority);
  if (!settings_.userAgent.empty()) appendField(head, "User-Agent", settings_.userAgent);
  if (!settings_.proxyAuthorization.empty()) appendField(head, "Proxy-Authorization", settings_.proxyAuthorization);
  head.append("\r\n");
  co_await exchange.run(nullptr, plan);
  if (exchange.status() >= 300)
    throw Exception(isTurnedAway(exchange.status()) ? Kind::OVERLOADED : Kind::FAILED,
                    fmt::format("HTTP: the proxy refuses a connection to {}: {} {}", authority, exchange.status(),
                                reasonPhrase(exchange.status())),
                    {}, where);
  co_return exchange.takeConnection();
}

} // namespace detail

// -------------------------------------------------------------------------------------------- responses

ClientResponse::ClientResponse(std::unique_ptr<ClientExchange> exchange, Url url) noexcept
    : exchange_(std::move(exchange)), url_(std::move(url)) {}
ClientResponse::ClientResponse(ClientResponse&&) noexcept = default;
ClientResponse& ClientResponse::operator=(ClientResponse&&) noexcept = default;
ClientResponse::~ClientResponse() = default;

ClientExchange& ClientResponse::exchange() const {
  if (exchange_ == nullptr) troth::detail::throwMisuse("ClientResponse: it was moved from");
  return *exchange_;
}

int ClientResponse::status() const { return exchange().status(); }
std::string_view ClientResponse::reason() const { return exchange().kept().reason(); }
HeaderFields ClientResponse::headers() const { return exchange().kept().fields(); }
HeaderFields ClientResponse::trailers() const { return exchange().trailers(); }
const Url& ClientResponse::url() const noexcept { return url_; }
std::optional<Duration> ClientResponse::retryAfter() const { return detail::retryAfterOf(headers()); }
AsyncInputStream& ClientResponse::body() { return exchange().body(); }

Promise<std::string> ClientResponse::readText(std::uint64_t limit, std::source_location where) {
  return body().readAllText(limit, where);
}
Promise<std::vector<std::byte>> ClientResponse::readBytes(std::uint64_t limit, std::source_location where) {
  return body().readAllBytes(limit, where);
}

// -------------------------------------------------------------------------------------------- the interface

Client::Client(Network& network, Timer& timer, ClientSettings settings, std::source_location where) {
  const auto require = [&](bool right, const char* what) {
    if (!right) troth::detail::throwMisuse(fmt::format("http::Client: {}", what), where);
  };
  require(settings.connectionsPerOrigin > 0 && settings.connections > 0, "no connections are allowed");
  require(settings.connectTimeout > Duration::zero(), "connectTimeout is not positive");
  require(settings.headBytes > 0 && settings.headerFields > 0, "no head is short enough");
  require(!settings.proxy || settings.proxy->hasScheme("http"), "the proxy's URL is not one of http");
  require(detail::isFieldValue(settings.userAgent), "userAgent holds a control character");
  require(detail::isFieldValue(settings.proxyAuthorization), "proxyAuthorization holds a control character");
  core_ = std::make_unique<detail::ClientCore>(network, timer, std::move(settings));
}

Client::~Client() = default;

Promise<ClientResponse> Client::request(ClientRequest request, std::source_location where) {
  return core_->request(std::move(request), where);
}

Promise<ClientResponse> Client::get(std::string_view url, std::source_location where) {
  return request(ClientRequest(Method::GET, url, where), where);
}

Promise<ClientResponse> Client::head(std::string_view url, std::source_location where) {
  return request(ClientRequest(Method::HEAD, url, where), where);
}

Promise<ClientResponse> Client::del(std::string_view url, std::source_location where) {
  return request(ClientRequest(Method::DELETE_, url, where), where);
}

Promise<ClientResponse> Client::post(std::string_view url, std::string_view contentType, std::string body,
                                     std::source_location where) {
  ClientRequest made(Method::POST, url, where);
  made.headers.set(HeaderId::CONTENT_TYPE, contentType, where);
  made.setBody(std::move(body));
  return request(std::move(made), where);
}

Promise<ClientResponse> Client::put(std::string_view url, std::string_view contentType, std::string body,
                                    std::source_location where) {
  ClientRequest made(Method::PUT, url, where);
  made.headers.set(HeaderId::CONTENT_TYPE, contentType, where);
  made.setBody(std::move(body));
  return request(std::move(made), where);
}

Promise<Upgraded> Client::upgrade(ClientRequest request, std::source_location where) {
  return core_->upgrade(std::move(request), where);
}

Promise<std::unique_ptr<AsyncIoStream>> Client::connectTunnel(std::string_view host, std::uint16_t port,
                                                              std::source_location where) {
  if (!core_->settings().proxy) troth::detail::throwMisuse("Client::connectTunnel: the client has no proxy", where);
  const std::string text = fmt::format("http://{}:{}", host, port);
  const std::optional<Url> url = Url::tryParse(text);
  if (!url || url->host() != host || port == 0)
    troth::detail::throwMisuse(
        fmt::format("Client::connectTunnel: {} is no host and port", troth::detail::quote(text.substr(7))), where);
  return core_->tunnel(text.substr(7), where);
}

std::size_t Client::connections() const noexcept { return core_->pool().size(); }
std::size_t Client::idleConnections() const noexcept { return core_->pool().idle(); }

} // namespace http
} // namespace v0
} // namespace troth
