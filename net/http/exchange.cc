// SPDX-License-Identifier: MIT
// Heads, handlers, responses, and what happens when one of them goes wrong.
#include <troth/net/http/exchange_detail.h>

#include <troth/net/http/http_error.h>
#include <troth/net/http/server_connection_detail.h>
#include <troth/net/http/server_core_detail.h>
#include <troth/net/http/status.h>
#include <troth/net/http/text_detail.h>
#include <troth/net/http/upgraded_stream_detail.h>

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <cstring>
#include <utility>

namespace troth {
inline namespace v0 {
namespace http {
namespace detail {

using troth::detail::ExceptionRef;
using troth::detail::OwnNode;
using troth::detail::PromiseAccess;
using troth::detail::Ref;
using troth::detail::ResultBase;
using troth::detail::throwMisuse;

namespace {

// Content of this size is copied behind its head; more is sent from where it is.
constexpr std::size_t COPIED = 8 * 1024;
// Replies to requests that came together are sent when they are so many bytes.
constexpr std::size_t MOST_OUTPUT = 64 * 1024;
// How far one reads on while a handler works.
constexpr std::size_t READ_AHEAD = 16 * 1024;

constexpr std::size_t LONGEST_NUMBER = 20;

void appendNumber(ByteBuffer& text, std::uint64_t number, int base = 10) {
  char* const room = text.room(LONGEST_NUMBER);
  text.added(static_cast<std::size_t>(std::to_chars(room, room + LONGEST_NUMBER, number, base).ptr - room));
}

char* put(char* at, std::string_view text) noexcept {
  if (!text.empty()) std::memcpy(at, text.data(), text.size());
  return at + text.size();
}
// Of a length that is known: a few instructions.
template <std::size_t SIZE>
char* put(char* at, const char (&text)[SIZE]) noexcept {
  std::memcpy(at, text, SIZE - 1);
  return at + SIZE - 1;
}

// Of three digits, and the longest reason that there is.
constexpr std::size_t LONGEST_STATUS_LINE = std::string_view("HTTP/1.1 511 Network Authentication Required\r\n").size();

char* putStatusLine(char* at, int status) noexcept {
  at = put(at, "HTTP/1.1 ");
  at = std::to_chars(at, at + LONGEST_NUMBER, status).ptr;
  at = put(at, " ");
  at = put(at, reasonPhrase(status));
  return put(at, "\r\n");
}

Next waitFor(OwnNode& waiting, Promise<Next> promise) {
  waiting = PromiseAccess::take(promise, {});
  return Next::PROMISE;
}

void appendField(ByteBuffer& text, const HeaderField& field) {
  for (const std::string_view piece : {field.name, std::string_view(": "), field.value, std::string_view("\r\n")})
    text.append(piece);
}

std::string_view textOf(std::span<const std::byte> bytes) noexcept {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// What a handler's failure is answered with.
int statusOf(const Exception& failure) noexcept {
  if (const std::optional<int> status = HttpError::statusOf(failure)) return *status;
  switch (failure.kind()) {
  case Exception::Kind::OVERLOADED:
    return 503;
  case Exception::Kind::UNIMPLEMENTED:
    return 501;
  default:
    return 500;
  }
}

} // namespace

// ------------------------------------------------------------------------------------------- waiting for the client

void Exchange::ReadWatcher::beginWait() noexcept {
  Exchange& x = exchange_;
  x.isWaiting_ = true;
  x.clientWatch_.stopReading();
  if (x.connection_ == nullptr) return;
  x.waitBegan_ = x.core_.timer().now();
  ConnectionTimeout& timeout = x.connection_->reading;
  if (timeout.isLinked() && timeout.kind == Timeout::BODY) return;
  x.waited_ = Duration::zero();
  x.waitedBytes_ = 0;
  x.core_.setTimeout(timeout, Timeout::BODY);
}

void Exchange::ReadWatcher::endWait(std::uint64_t bytes) noexcept {
  Exchange& x = exchange_;
  x.isWaiting_ = false;
  if (x.connection_ == nullptr) return;
  x.waited_ += x.core_.timer().now() - x.waitBegan_;
  x.waitedBytes_ += bytes;
  x.clientWatch_.lookLater();
}

void Exchange::WriteWatcher::beginWait() noexcept {
  if (exchange_.connection_ == nullptr) return;
  exchange_.wire_->startProgress();
  exchange_.core_.setTimeout(exchange_.connection_->writing, Timeout::WRITE);
}

void Exchange::WriteWatcher::endWait(std::uint64_t bytes) noexcept {
  exchange_.written_ += bytes;
  if (exchange_.connection_ != nullptr) exchange_.connection_->writing.unlink();
}

bool Exchange::keepsUp(Timeout kind) noexcept {
  if (kind == Timeout::WRITE) return wire_->makesProgress(Wire::WRITE_SIZE);
  // A client that has what is sent to it to be read has the time of a write, as any other.
  if (kind == Timeout::HALF_CLOSE)
    return std::exchange(written_, 0) > 0 || wire_->isWriting() || connection_->writing.isLinked();
  const TimePoint now = core_.timer().now();
  const Duration waited = std::exchange(waited_, Duration::zero()) + (isWaiting_ ? now - waitBegan_ : Duration::zero());
  const std::uint64_t bytes = std::exchange(waitedBytes_, 0);
  waitBegan_ = now;
  // The time in which the handler did not ask for more is not the client's fault.
  if (!isWaiting_ || waited < core_.settings().bodyTimeout / 2) return true;
  const double seconds = std::chrono::duration<double>(waited).count();
  return bytes > 0 && static_cast<double>(bytes) >= static_cast<double>(core_.settings().bodyRate) * seconds;
}

Exchange::ClientWatch::ClientWatch(Exchange& exchange) : Event(EventLoop::current()), exchange_(exchange) {}

Exchange::ClientWatch::~ClientWatch() { end(); }

void Exchange::ClientWatch::end() noexcept {
  isOn_ = false;
  read_ = OwnNode();
  flush_.reset();
  disarm();
}

void Exchange::ClientWatch::describe(troth::detail::Trace& trace) const noexcept {
  trace.add("HTTP connection, waiting for its client to leave", {});
}

// A write that is under way goes on. The next handler's watch meets the client's end again, so each has its while.
void Exchange::ClientWatch::stop() noexcept {
  isOn_ = hasEnded_ = false;
  read_ = OwnNode();
  if (!hasFailed_) disarm();
  // A client that has ended its direction has waited long enough; the response has all the time that a write has.
  if (ServerConnection* connection = exchange_.connection_;
      connection != nullptr && connection->reading.kind == Timeout::HALF_CLOSE)
    connection->reading.unlink();
}

void Exchange::ClientWatch::fire() noexcept {
  bool hasLeft = hasFailed_;
  try {
    if (!hasLeft) look();
  } catch (...) {
    hasLeft = true; // it has reset the connection, or cannot be written to
  }
  if (!hasLeft || !exchange_.clientLeaves(hasFailed_ || exchange_.wire_->isCutOff())) return;
  ServerConnection& connection = *exchange_.connection_;
  doneFiring();
  delete &connection;
}

void Exchange::ClientWatch::look() {
  Exchange& x = exchange_;
  if (read_ && read_.listen(this)) {
    ResultBase& result = troth::detail::resolve(*read_);
    ExceptionRef failure = std::move(result.exception);
    Chunk chunk;
    if (!failure) chunk = std::move(*static_cast<troth::detail::Result<Chunk>&>(result).value);
    read_ = OwnNode();
    if (failure) throw Exception(std::move(failure));
    if (!chunk.empty()) {
      x.body_.keepDecoded();
      x.wire_->give(std::move(chunk));
    } else {
      hasEnded_ = true;
      x.written_ = 0;
      x.core_.setTimeout(x.connection_->reading, Timeout::HALF_CLOSE);
    }
  }
  if (!x.wire_->output().empty() && (!flush_ || isReady(*flush_))) {
    flush_.reset();
    Promise<void> flushed = x.wire_->flush(std::source_location::current());
    if (isReady(flushed)) {
      if (std::optional<Exception> failure = takeFailure(flushed)) throw *failure;
    } else {
      flush_ = std::move(flushed).eagerlyEvaluate([this](Exception) {
        hasFailed_ = true;
        armLast();
      });
    }
  }
  // A handler that waits for its body notices for itself, and nobody else reads it then.
  const bool mayRead = x.isHandling_ && !read_ && !hasEnded_ && !x.isWaiting_ && x.wire_->isOpen() &&
                       x.wire_->rest().size() < READ_AHEAD;
  if (!mayRead) return;
  Promise<Chunk> more = x.wire_->stream(std::source_location::current()).tryReadChunk(READ_AHEAD);
  read_ = PromiseAccess::take(more, {});
  if (read_.listen(this)) armDepthFirst();
}

// Whether the connection is to be closed therefore. A handler that has sent its response may finish what it does.
bool Exchange::clientLeaves(bool writeFailed) noexcept {
  return connection_ != nullptr && (writeFailed || (isHandling_ && state_ != ResponseState::SENT));
}

// ------------------------------------------------------------------------------------------- from head to head

Exchange::Exchange(ServerCore& core)
    : core_(core),
      wire_(*new Wire(nullptr)),
      parser_(MessageParser::Kind::REQUEST,
              {core.settings().headBytes, core.settings().targetBytes, core.settings().headerFields}) {
  request_.body_ = &body_;
  request_.sink_ = this;
  request_.trailers_ = &trailers_;
  response_.sink_ = this;
}

void Exchange::enter(ServerConnection& connection, std::unique_ptr<AsyncIoStream> stream, Chunk first) {
  connection_ = &connection;
  if (!wire_.isOnly()) wire_ = Ref<Wire>(*new Wire(nullptr));
  wire_->reuse(std::move(stream));
  wire_->watch(&readWatcher_, &writeWatcher_);
  wire_->give(std::move(first));
  isReset_ = isWaiting_ = isSending_ = isWritingBody_ = false;
  clientWatch_.begin();
}

Exchange::~Exchange() = default;

void Exchange::leave() noexcept {
  // A response that is on its way, or was not even begun to be sent, has no end for its client.
  if ((isHandling_ && (state_ == ResponseState::STREAMING || isSending_)) || wire_->isCutOff() || wire_->isWriting() ||
      !wire_->output().empty())
    reset();
  if (isHandling_) log(true);
  if (isHandling_) core_.requestEnds();
  isHandling_ = false;
  connection_->reading.unlink();
  connection_->writing.unlink();
  connection_ = nullptr;
  clientWatch_.end();
  if (inRequest_) endRequest();
  wire_->watch(nullptr, nullptr);
  wire_->close();
}

void Exchange::reset() noexcept {
  isReset_ = true;
  if (wire_->isOpen()) wire_->stream({}).abortWrite();
}

Next Exchange::run(OwnNode& waiting) {
  if (wire_->output().size() >= MOST_OUTPUT) [[unlikely]]
    return waitFor(waiting, flushThen(wire_->flush(std::source_location::current()), Next::RUN));
  switch (parseHead()) {
  case Head::NOTHING:
    return nothingLeft(waiting);
  case Head::PARTIAL:
    return waitFor(waiting, readHead());
  case Head::FAULT:
    connection_->reading.unlink();
    return waitFor(waiting, refuse(parser_.fault().status, parser_.fault().reason, false));
  case Head::COMPLETE:
    break;
  }
  connection_->reading.unlink();
  if (const int status = beginRequest(); status != 0) [[unlikely]]
    return waitFor(waiting, refuse(status, {}, true));
  Promise<void> handler = callHandler();
  waiting = PromiseAccess::take(handler, {});
  return Next::HANDLER;
}

// The replies to all that came together go together.
Next Exchange::nothingLeft(OwnNode& waiting) {
  Promise<void> flushed = wire_->flush(std::source_location::current());
  if (!isReady(flushed)) return waitFor(waiting, flushThen(std::move(flushed), Next::IDLE));
  if (const std::optional<Exception> failure = takeFailure(flushed)) throw *failure;
  return Next::IDLE;
}

Promise<Next> Exchange::flushThen(Promise<void> flushed, Next next) {
  co_await std::move(flushed);
  co_return next;
}

Promise<Next> Exchange::readHead() {
  co_await wire_->flush(std::source_location::current());
  if (!connection_->reading.isLinked()) core_.setTimeout(connection_->reading, Timeout::HEAD);
  Chunk more = co_await wire_->stream(std::source_location::current()).tryReadChunk(HEAD_READ);
  if (more.empty()) co_return Next::CLOSE;
  wire_->give(std::move(more));
  co_return Next::RUN;
}

Next Exchange::handled(const Exception* failure, OwnNode& waiting) {
  clientWatch_.stop();
  if (failure != nullptr || state_ != ResponseState::SENT || isSending_ || !body_.hasEnded()) [[unlikely]]
    finishHandler(failure);
  if (state_ == ResponseState::UPGRADED) {
    endRequest();
    return Next::GONE;
  }
  if (isReset_ || wire_->isCutOff()) {
    reset();
    endRequest();
    return Next::CLOSE;
  }
  if (keepAlive_ && !body_.hasEnded()) return waitFor(waiting, skipBodyThenEnd());
  const bool isClean = hasReadAll();
  endRequest();
  return keepAlive_ ? Next::RUN : waitFor(waiting, closeAfter(isClean));
}

Promise<Next> Exchange::skipBodyThenEnd() {
  keepAlive_ = co_await skipBody();
  const bool isClean = hasReadAll();
  endRequest();
  if (keepAlive_) co_return Next::RUN;
  co_return co_await closeAfter(isClean);
}

Promise<Next> Exchange::closeAfter(bool isClean) {
  co_await wire_->flush(std::source_location::current());
  if (!isClean) co_await linger();
  co_return Next::CLOSE;
}

Promise<Next> Exchange::answerLate() {
  clientWatch_.stop();
  if (state_ != ResponseState::NONE) {
    const bool isOut = state_ == ResponseState::SENT && !isSending_ && !wire_->isWriting() && wire_->output().empty();
    if (!isOut) reset();
    endRequest();
    return Next::CLOSE;
  }
  body_.finish();
  const bool wasHandling = std::exchange(isHandling_, false);
  if (wasHandling) core_.requestEnds();
  return refuse(408, {}, wasHandling);
}

// A head that is there as a whole is read where it is.
Exchange::Head Exchange::parseHead() {
  if (!head_.empty()) [[unlikely]]
    return parseMore();
  const std::string_view rest = wire_->rest();
  if (rest.empty()) return Head::NOTHING;
  inRequest_ = true;
  const MessageParser::Outcome outcome = parser_.parseHead(rest);
  if (outcome == MessageParser::Outcome::COMPLETE) [[likely]] {
    wire_->hold();
    wire_->consume(parser_.headLength());
    return Head::COMPLETE;
  }
  if (outcome == MessageParser::Outcome::FAULT) return Head::FAULT;
  wire_->consume(rest.size());
  head_ = rest;
  return isEmptyLine() ? Head::NOTHING : Head::PARTIAL;
}

// The pieces of another one are put together.
Exchange::Head Exchange::parseMore() {
  const std::size_t before = head_.size();
  const std::string_view rest = wire_->rest();
  head_.append(rest);
  const MessageParser::Outcome outcome = parser_.parseHead(head_);
  if (outcome == MessageParser::Outcome::COMPLETE) {
    wire_->consume(parser_.headLength() - before);
    return Head::COMPLETE;
  }
  wire_->consume(rest.size());
  if (outcome == MessageParser::Outcome::FAULT) return Head::FAULT;
  return isEmptyLine() ? Head::NOTHING : Head::PARTIAL;
}

// One empty line after a request is a habit of old clients (RFC 9112, section 2.2), and no beginning.
bool Exchange::isEmptyLine() noexcept {
  if (head_ != "\r\n") return false;
  parser_.reset();
  head_.clear();
  return true;
}

// Returns the status to refuse the request with; 0 if it is handled.
int Exchange::beginRequest() {
  const ServerSettings& settings = core_.settings();
  request_.method_ = parser_.method();
  request_.methodText_ = parser_.methodText();
  request_.target_ = parser_.target();
  request_.headers_ = parser_.fields();
  request_.minorVersion_ = static_cast<std::uint8_t>(parser_.minorVersion());
  request_.parameters_.clear();
  response_.headers_.clear();
  response_.status_ = 0;
  state_ = ResponseState::NONE;
  sent_ = left_ = 0;
  if (core_.settings().accessLog != nullptr) began_ = core_.timer().now();
  // What a client sends behind a CONNECT is the tunnel's, whatever becomes of it, and no request (RFC 9110, section
  // 9.3.6).
  keepAlive_ = parser_.keepsAlive() && ++connection_->served() < settings.requestsPerConnection &&
               request_.method_ != Method::CONNECT;
  hasNoContent_ = false;
  if (!trailers_.empty()) trailers_ = HeaderFields();
  const Framing framing = request_.method_ == Method::CONNECT ? Framing::NONE : parser_.framing();
  expectsContinue_ = false;
  if (request_.headers_.has(HeaderId::EXPECT)) [[unlikely]] {
    for (const HeaderField field : request_.headers_)
      if (field.id == HeaderId::EXPECT && !equalsIgnoringCase(field.value, "100-continue")) return 417;
    expectsContinue_ = framing != Framing::NONE && request_.minorVersion_ == 1;
  }
  if (request_.method_ == Method::OTHER && settings.unknownMethods == ServerSettings::UnknownMethods::REFUSE)
    return 501;
  if (parser_.contentLength() > settings.bodyBytes) return 413;
  body_.begin(*wire_, parser_, framing, parser_.contentLength(), settings.bodyBytes, *this);
  isHandling_ = true;
  core_.requestBegins();
  return 0;
}

Promise<void> Exchange::callHandler() noexcept {
  try {
    return core_.service().handle(request_, response_);
  } catch (...) {
    return Exception::fromCurrent();
  }
}

// The handler has ended: its response is completed, or made.
void Exchange::finishHandler(const Exception* failure) {
  if (body_.isBroken()) keepAlive_ = false;
  if (failure != nullptr) return answerFailure(*failure);
  switch (state_) {
  case ResponseState::NONE:
    core_.report(
        Exception(Exception::Kind::FAILED, fmt::format("HTTP: the handler of {} {} has ended without a response",
                                                       request_.methodText(), request_.target())));
    return sendError(500, {});
  case ResponseState::STREAMING:
    if (isWritingBody_ || left_ > 0) {
      isReset_ = true;
      core_.report(Exception(Exception::Kind::FAILED,
                             isWritingBody_
                                 ? fmt::format("HTTP: the handler of {} {} has ended while a write was pending",
                                               request_.methodText(), request_.target())
                                 : fmt::format("HTTP: the handler of {} {} has ended before the last {} bytes of its "
                                               "response",
                                               request_.methodText(), request_.target(), left_)));
      return;
    }
    if (isChunked_ && !hasNoContent_) wire_->output().append("0\r\n\r\n");
    state_ = ResponseState::SENT;
    return;
  case ResponseState::SENT:
    if (!isSending_) return;
    isReset_ = true;
    core_.report(Exception(Exception::Kind::FAILED,
                           fmt::format("HTTP: the handler of {} {} has ended while its response was being sent",
                                       request_.methodText(), request_.target())));
    return;
  case ResponseState::UPGRADED:
    return;
  }
}

// As far as the connection knows.
bool Exchange::clientHasGone() const {
  if (!wire_->isOpen()) return true;
  Promise<void> gone = wire_->stream({}).whenWriteDisconnected();
  return isReady(gone);
}

void Exchange::answerFailure(const Exception& failure) {
  // A request that has no end is malformed (RFC 9112, section 8).
  const bool isCutShort = failure.kind() == Exception::Kind::DISCONNECTED && body_.isBroken();
  const int status = isCutShort ? 400 : statusOf(failure);
  const bool isClients = (status < 500 && HttpError::statusOf(failure)) || isCutShort ||
                         (failure.kind() == Exception::Kind::DISCONNECTED && clientHasGone());
  if (!isClients) core_.report(failure);
  if (state_ == ResponseState::NONE) {
    if (!body_.hasEnded()) keepAlive_ = false; // who knows how far it was read
    sendError(status, {});
  } else if (state_ == ResponseState::STREAMING || isSending_) {
    isReset_ = true;
  }
}

// Content that nobody wanted is read and dropped, up to a limit, so that the next request can be found.
Promise<bool> Exchange::skipBody() {
  if (expectsContinue_ || body_.isBroken()) co_return false;
  co_await wire_->flush(std::source_location::current());
  const std::uint64_t before = body_.received();
  const auto isTooMuch = [&] { return body_.received() - before > core_.settings().skippedBytes; };
  try {
    while (!body_.hasEnded() && !isTooMuch()) {
      const Chunk chunk = co_await body_.tryReadChunk();
      if (chunk.empty()) break;
    }
  } catch (const HttpError&) {
    co_return false; // malformed, or too long
  }
  co_return body_.hasEnded() && !isTooMuch();
}

void Exchange::endRequest() noexcept {
  if (std::exchange(isHandling_, false)) {
    if (core_.settings().accessLog != nullptr) log(true);
    core_.requestEnds();
  }
  inRequest_ = false;
  state_ = ResponseState::NONE;
  body_.finish();
  parser_.reset();
  if (!head_.empty()) head_ = PoolString();
  wire_->letGo();
}

void Exchange::log(bool isRequest) noexcept {
  const auto& hook = core_.settings().accessLog;
  if (hook == nullptr) return;
  const bool complete = state_ == ResponseState::SENT && !isReset_ && !isSending_;
  hook({isRequest ? &request_ : nullptr, wire_->isOpen() ? &wire_->stream({}) : nullptr, response_.status_,
        body_.received(), sent_, core_.timer().now() - began_, complete || state_ == ResponseState::UPGRADED});
}

// Answers what is no request, or none that is handled, and closes the connection.
Promise<Next> Exchange::refuse(int status, std::string_view reason, bool isRequest) {
  keepAlive_ = false;
  began_ = core_.timer().now();
  state_ = ResponseState::NONE;
  if (!isRequest) { // nor does it take after the request before it
    request_.method_ = Method::OTHER;
    request_.minorVersion_ = 1;
    sent_ = 0;
  }
  sendError(status, reason);
  log(isRequest);
  return closeAfter(false);
}

// Closing with bytes of the client unread would reset the connection, and the response might never reach it. So the
// client is given the time to read it (RFC 9112, section 9.6).
Promise<void> Exchange::linger() {
  AsyncIoStream& stream = wire_->stream(std::source_location::current());
  stream.shutdownWrite();
  core_.setTimeout(connection_->reading, Timeout::LINGER);
  for (;;) {
    const Chunk dropped = co_await stream.tryReadChunk();
    if (dropped.empty()) co_return;
  }
}

// ------------------------------------------------------------------------------------------- responses

void Exchange::throwSent(const char* function, const std::source_location& where) const {
  if (connection_ == nullptr || !wire_->isOpen())
    throw Exception(Exception::Kind::DISCONNECTED, fmt::format("{}: the client has gone", function), {}, where);
  throwMisuse(
      fmt::format("{}: the response to {} {} was begun before", function, request_.methodText(), request_.target()),
      where);
}

void Exchange::appendStatusLine(int status) {
  ByteBuffer& out = wire_->output();
  char* const room = out.room(LONGEST_STATUS_LINE);
  out.added(static_cast<std::size_t>(putStatusLine(room, status) - room));
}

// What a handler says of the connection it says to the server, which tells the client; other options stay.
void Exchange::takeConnectionOptions() {
  std::string others;
  const std::string all = response_.headers_.fields().combined(HeaderId::CONNECTION);
  std::string_view list = all;
  while (const std::optional<std::string_view> option = nextElement(list)) {
    if (equalsIgnoringCase(*option, "close")) keepAlive_ = false;
    if (equalsIgnoringCase(*option, "close") || equalsIgnoringCase(*option, "keep-alive")) continue;
    if (!others.empty()) others += ", ";
    others += *option;
  }
  response_.headers_.remove(HeaderId::CONNECTION);
  if (!others.empty()) response_.headers_.add(HeaderId::CONNECTION, others);
}

// `length` is that of the content as GET would have it; without one it is not known. `content` goes behind the head,
// in the same buffer.
void Exchange::appendHead(int status, std::optional<std::uint64_t> length, std::string_view content,
                          const char* function, const std::source_location& where) {
  for (const HeaderId id : {HeaderId::CONTENT_LENGTH, HeaderId::TRANSFER_ENCODING, HeaderId::TRAILER})
    if (response_.headers_.has(id)) [[unlikely]]
      throwMisuse(fmt::format("{}: {} is the server's to set", function, headerName(id)), where);
  if (response_.headers_.has(HeaderId::CONNECTION)) [[unlikely]]
    takeConnectionOptions();
  if (core_.isDraining()) keepAlive_ = false;
  const bool mayHaveContent = status != 204 && status != 304;
  hasNoContent_ = request_.method_ == Method::HEAD || !mayHaveContent;
  isChunked_ = !length && request_.minorVersion_ == 1 && mayHaveContent;
  if (!length && !isChunked_ && !hasNoContent_) keepAlive_ = false; // the content ends with the connection
  if (hasNoContent_) content = {};

  ByteBuffer& out = wire_->output();
  const std::string_view named = response_.headers_.text();
  const OkAndDate& okAndDate = core_.okAndDate();
  const bool addsDate = !response_.headers_.has(HeaderId::DATE);
  // In one piece, for which there is room at once: without memory nothing is sent.
  constexpr std::size_t OTHERS = 128;
  char* const room = out.room(okAndDate.size() + LONGEST_STATUS_LINE + named.size() + content.size() + OTHERS);
  char* at = room;
  if (status == 200 && addsDate) [[likely]] {
    std::memcpy(at, okAndDate.data(), okAndDate.size());
    at += okAndDate.size();
  } else {
    at = putStatusLine(at, status);
    if (addsDate) at = put(at, core_.date());
  }
  at = put(at, named);
  if (isChunked_) {
    at = put(at, "Transfer-Encoding: chunked\r\n");
  } else if (length && mayHaveContent) {
    at = put(at, "Content-Length: ");
    at = std::to_chars(at, at + LONGEST_NUMBER, *length).ptr;
    at = put(at, "\r\n");
  }
  if (!keepAlive_) {
    at = put(at, "Connection: close\r\n");
  } else if (request_.minorVersion_ == 0) {
    at = put(at, "Connection: keep-alive\r\n");
  }
  at = put(at, "\r\n");
  at = put(at, content);
  out.added(static_cast<std::size_t>(at - room));
  response_.status_ = status;
  clientWatch_.lookLater(); // which sends it if nobody else does
}

namespace {

void requireStatus(int status, int least, int most, const char* function, const std::source_location& where) {
  if (status < least || status > most) [[unlikely]]
    throwMisuse(fmt::format("{}: {} is not a status from {} to {}", function, status, least, most), where);
}

} // namespace

Promise<void> Exchange::sendResponse(int status, std::span<const std::byte> body, std::source_location where) {
  requireUnsent("Response::send", where);
  requireStatus(status, 200, 599, "Response::send", where);
  // Content that was not read when the response is complete is skipped; of too much the client is told in time.
  if (!body_.hasEnded() &&
      (expectsContinue_ || body_.isBroken() || body_.tryGetLength().value_or(0) > core_.settings().skippedBytes))
    keepAlive_ = false;
  const bool isCopied = body.size() <= COPIED;
  appendHead(status, body.size(), isCopied ? textOf(body) : std::string_view(), "Response::send", where);
  state_ = ResponseState::SENT;
  if (hasNoContent_) return READY_NOW;
  if (!isCopied) return sendLarge(body, where);
  sent_ = body.size();
  return READY_NOW;
}

Promise<void> Exchange::sendLarge(std::span<const std::byte> body, std::source_location where) {
  isSending_ = true;
  return wire_->write(body, {}, where).then([self = Ref<Exchange>(*this), size = body.size()] {
    self->isSending_ = false;
    self->sent_ = size;
    self->written_ += size;
  });
}

// For errors: a text that says no more than the status, and, of a request's syntax, the rule that it breaks.
void Exchange::sendError(int status, std::string_view reason) {
  std::string text = fmt::format("{} {}", status, reasonPhrase(status));
  if (!reason.empty()) text.append(": ").append(reason);
  text += '\n';
  response_.headers_.clear();
  response_.headers_.set(HeaderId::CONTENT_TYPE, "text/plain");
  appendHead(status, text.size(), text, "Response::send", {});
  state_ = ResponseState::SENT;
  if (!hasNoContent_) sent_ = text.size();
}

AsyncOutputStream& Exchange::beginResponse(int status, std::optional<std::uint64_t> length,
                                           std::source_location where) {
  requireUnsent("Response::start", where);
  requireStatus(status, 200, 599, "Response::start", where);
  if (expectsContinue_) {
    // Wanted, the content is asked for now: later it would be too late. The client of an error keeps it, and what comes
    // next on the connection might be either (RFC 9110, section 10.1.1).
    if (status < 300)
      appendContinue();
    else
      keepAlive_ = false;
  }
  appendHead(status, length, {}, "Response::start", where);
  state_ = ResponseState::STREAMING;
  hasLength_ = length.has_value() && !hasNoContent_;
  pumpsByBuffer_ = false;
  left_ = hasLength_ ? *length : 0;
  return responseBody_;
}

Promise<void> Exchange::endResponse(const HeaderFields& trailers, std::source_location where) {
  if (state_ != ResponseState::STREAMING) throwMisuse("Response::end: nothing was started", where);
  if (isWritingBody_) throwMisuse("Response::end: a write is pending", where);
  if (left_ > 0) throwMisuse(fmt::format("Response::end: {} bytes of the content are missing", left_), where);
  state_ = ResponseState::SENT;
  if (!isChunked_ || hasNoContent_) return READY_NOW;
  ByteBuffer& out = wire_->output();
  out.append("0\r\n");
  for (const HeaderField field : trailers) appendField(out, field);
  out.append("\r\n");
  clientWatch_.lookLater();
  return READY_NOW;
}

Promise<void> Exchange::sendInformational(int status, const HeaderFields& headers, std::source_location where) {
  requireUnsent("Response::sendInformational", where);
  requireStatus(status, 102, 199, "Response::sendInformational", where);
  if (request_.minorVersion() == 0) return READY_NOW;
  appendStatusLine(status);
  ByteBuffer& out = wire_->output();
  for (const HeaderField field : headers) appendField(out, field);
  out.append("\r\n");
  return wire_->flush(where);
}

std::unique_ptr<AsyncIoStream> Exchange::upgrade(int status, std::source_location where) {
  constexpr const char* FUNCTION = "Response::upgrade";
  requireUnsent(FUNCTION, where);
  const HeaderFields fields = response_.headers_;
  if (request_.method() == Method::CONNECT) {
    requireStatus(status, 200, 299, FUNCTION, where);
  } else {
    requireStatus(status, 101, 101, FUNCTION, where);
    if (request_.minorVersion() == 0 || !request_.headers().has(HeaderId::UPGRADE) ||
        !request_.headers().hasToken(HeaderId::CONNECTION, "upgrade"))
      throwMisuse(fmt::format("{}: the client did not ask for it (RFC 9110, section 7.8)", FUNCTION), where);
    if (!fields.has(HeaderId::UPGRADE))
      throwMisuse(fmt::format("{}: the Upgrade field, which names the protocol, is missing", FUNCTION), where);
  }
  if (!body_.hasEnded()) throwMisuse(fmt::format("{}: the request's content was not read to its end", FUNCTION), where);
  for (const HeaderId id : {HeaderId::CONTENT_LENGTH, HeaderId::TRANSFER_ENCODING, HeaderId::CONNECTION})
    if (fields.has(id)) throwMisuse(fmt::format("{}: {} is the server's to set", FUNCTION, headerName(id)), where);
  if (wire_->isWriting())
    throwMisuse(fmt::format("{}: an informational response is still on its way", FUNCTION), where);
  if (wire_->isCutOff())
    throw Exception(Exception::Kind::DISCONNECTED, fmt::format("{}: an earlier write was broken off", FUNCTION), {},
                    where);
  appendStatusLine(status);
  ByteBuffer& out = wire_->output();
  if (!fields.has(HeaderId::DATE)) out.append(core_.date());
  out.append(response_.headers_.text());
  if (status == 101) out.append("Connection: Upgrade\r\n");
  out.append("\r\n");
  response_.status_ = status;
  state_ = ResponseState::UPGRADED;
  clientWatch_.stop();
  connection_->reading.unlink();
  Chunk rest = wire_->takeRest();
  const ByteBuffer head = std::move(out);
  return newUpgradedStream(wire_->takeStream(), std::move(rest), head.text(), where);
}

const AsyncIoStream& Exchange::connection(std::source_location where) const { return wire_->stream(where); }

Promise<void> Exchange::beforeRead() {
  if (!expectsContinue_ || state_ != ResponseState::NONE) return READY_NOW;
  appendContinue();
  return wire_->flush(std::source_location::current());
}

void Exchange::appendContinue() {
  expectsContinue_ = false;
  wire_->output().append("HTTP/1.1 100 Continue\r\n\r\n");
}

void Exchange::bodyEnded() noexcept {
  trailers_ = parser_.trailers();
  expectsContinue_ = false;
  if (connection_ != nullptr && connection_->reading.kind == Timeout::BODY) connection_->reading.unlink();
  clientWatch_.lookLater(); // nobody else reads any more
}

// ------------------------------------------------------------------------------------------- the body of a response

// Held by the one write of the response's stream. After a write that failed, or was given up, nobody knows how much of
// the content is out: what followed would be taken for it, and the next response for what is missing.
class Exchange::WritingContent {
public:
  explicit WritingContent(Exchange& exchange) noexcept : exchange_(exchange) { exchange.isWritingBody_ = true; }
  WritingContent(const WritingContent&) = delete;
  WritingContent& operator=(const WritingContent&) = delete;
  ~WritingContent() {
    exchange_.isWritingBody_ = false;
    if (isDone_) return;
    exchange_.isReset_ = true;
    exchange_.wire_->cutOff();
  }
  void done() noexcept { isDone_ = true; }

private:
  Exchange& exchange_; // of which the write has a share
  bool isDone_ = false;
};

// Checks that `size` more bytes may be written, and counts them.
void Exchange::countContent(std::uint64_t size, const std::source_location& where) {
  if (connection_ == nullptr || !wire_->isOpen())
    throw Exception(Exception::Kind::DISCONNECTED, "write: the client has gone", {}, where);
  if (isReset_ || wire_->isCutOff())
    throw Exception(Exception::Kind::DISCONNECTED, "write: the response was broken off", {}, where);
  if (state_ != ResponseState::STREAMING) throwMisuse("write: the response is over", where);
  if (isWritingBody_) throwMisuse("write: another write to this stream is pending", where);
  if (hasNoContent_) return;
  if (hasLength_ && size > left_)
    throwMisuse(fmt::format("write: {} bytes where {} are left of the content's length", size, left_), where);
  if (hasLength_) left_ -= size;
  sent_ += size;
  written_ += size;
}

Promise<void> Exchange::writePieces(std::span<const std::span<const std::byte>> pieces, std::source_location where) {
  const std::size_t size = troth::detail::totalSize(pieces);
  countContent(size, where);
  if (hasNoContent_ || size == 0) return READY_NOW;
  try {
    return sendCounted(pieces, size, where);
  } catch (...) { // half of a chunk may be in the buffer
    wire_->cutOff();
    throw;
  }
}

Promise<void> Exchange::sendCounted(std::span<const std::span<const std::byte>> pieces, std::size_t size,
                                    std::source_location where) {
  ByteBuffer& out = wire_->output();
  if (isChunked_) {
    appendNumber(out, size, 16);
    out.append("\r\n");
  }
  const std::span<const std::byte> end = asBytes(isChunked_ ? "\r\n" : "");
  Promise<void> written = READY_NOW;
  if (size > COPIED) {
    written = wire_->write(pieces, end, where);
  } else {
    for (const std::span<const std::byte> piece : pieces) out.append(textOf(piece));
    out.append(textOf(end));
    written = wire_->flush(where);
  }
  if (isReady(written)) [[likely]]
    return written;
  return finishWrite(Ref<Exchange>(*this), std::move(written));
}

Promise<void> Exchange::finishWrite(Ref<Exchange> self, Promise<void> written) {
  WritingContent writing(*self);
  co_await std::move(written);
  writing.done();
}

// By the connection's own way, such as sendfile: for content without chunks. Where the connection knows no way of its
// own, the input's way goes through this stream, write by write: a wait for the input is none for the client.
Promise<std::uint64_t> Exchange::pumpContent(Ref<Exchange> self, AsyncInputStream& input, std::uint64_t amount,
                                             std::source_location where) {
  constexpr std::uint64_t MOST_PUMPED = 1 << 20; // so much may be missing in the access log
  std::uint64_t count = 0;
  {
    WritingContent writing(*self);
    co_await self->wire_->flush(where);
    const std::uint64_t most = self->wire_->tellsProgress(where) ? MOST_PUMPED : Wire::WRITE_SIZE;
    while (count < amount) {
      const std::uint64_t part = std::min(amount - count, most);
      std::optional<Promise<std::uint64_t>> pump = self->wire_->stream(where).tryPumpFrom(input, part, where);
      self->pumpsByBuffer_ = !pump;
      if (!pump) break;
      WireWait wait(*self->wire_, WireWait::For::WRITING);
      const std::uint64_t moved = co_await std::move(*pump);
      wait.end(moved);
      count += moved;
      self->left_ -= moved;
      self->sent_ += moved;
      if (moved < part) break;
    }
    writing.done();
  }
  if (self->pumpsByBuffer_) count += co_await input.pumpTo(self->responseBody_, amount - count, where);
  co_return count;
}

Promise<void> Exchange::ResponseBody::write(std::span<const std::byte> bytes, std::source_location where) {
  return exchange_.writePieces({&bytes, 1}, where);
}

Promise<void> Exchange::ResponseBody::write(std::span<const std::span<const std::byte>> pieces,
                                            std::source_location where) {
  return exchange_.writePieces(pieces, where);
}

std::optional<Promise<std::uint64_t>> Exchange::ResponseBody::tryPumpFrom(AsyncInputStream& input, std::uint64_t amount,
                                                                          std::source_location where) {
  if (!exchange_.hasLength_ || exchange_.pumpsByBuffer_) return std::nullopt;
  exchange_.countContent(0, where);
  // What is too much is found out by trying to write one byte more, as elsewhere.
  const std::uint64_t most = std::min(amount, exchange_.left_);
  if (most == 0 || amount > most) return std::nullopt;
  return pumpContent(Ref<Exchange>(exchange_), input, most, where);
}

Promise<void> Exchange::ResponseBody::whenWriteDisconnected(std::source_location where) {
  if (!exchange_.wire_->isOpen()) return READY_NOW;
  return exchange_.wire_->stream(where).whenWriteDisconnected(where);
}

void Exchange::ResponseBody::abortWrite(std::source_location) { exchange_.reset(); }

} // namespace detail
} // namespace http
} // namespace v0
} // namespace troth
