// SPDX-License-Identifier: MIT
// From head to head: requests are read, handled and ended, and what happens when one of them goes wrong.
#include <troth/net/http/exchange_detail.h>

#include <troth/io/stream_watch_detail.h>
#include <troth/io/undelivered_detail.h>
#include <troth/net/http/http_error.h>
#include <troth/net/http/server_connection_detail.h>
#include <troth/net/http/server_core_detail.h>
#include <troth/net/http/text_detail.h>
#include <troth/timers/time_math_detail.h>

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <utility>

namespace troth {
inline namespace v0 {
namespace http {
namespace detail {

using troth::detail::OwnNode;
using troth::detail::PromiseAccess;
using troth::detail::Ref;

namespace {

// Replies to requests that came together are sent when they are so many bytes.
constexpr std::size_t MOST_OUTPUT = 64 * 1024;

// What a read of a request's content is told that is pending when the request is over.
constexpr const char* READ_TOO_LONG = "HTTP: the request's handler has ended, before this read of its content was done";

Next waitFor(OwnNode& waiting, Promise<Next> promise) {
  waiting = PromiseAccess::take(promise, {});
  return Next::PROMISE;
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
  isReset_ = isWaiting_ = isWaitingToWrite_ = isSending_ = isWritingBody_ = false;
  clientWatch_.begin();
}

Exchange::~Exchange() = default;

void Exchange::leave() noexcept {
  // A response that is on its way, or was not even begun to be sent, has no end for its client.
  if (isInResponse() || wire_->isCutOff() || wire_->isWriting() || !wire_->output().empty()) reset();
  if (isHandling_) log(true);
  if (isHandling_) core_.requestEnds();
  isHandling_ = false;
  connection_->reading.unlink();
  connection_->writing.unlink();
  handlerIsOver();
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

// A client that does not read its replies gets no more of them made; and what a handler sends has none of those before
// it to wait for but those in the buffer (see sendEarlier()).
Next Exchange::run(OwnNode& waiting) {
  if (wire_->output().size() >= MOST_OUTPUT || wire_->isWriting()) [[unlikely]]
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
  handlerIsOver();
  if (failure != nullptr || state_ != ResponseState::SENT || isSending_ || !body_.hasEnded()) [[unlikely]]
    finishHandler(failure);
  if (state_ == ResponseState::UPGRADED) {
    endRequest();
    return Next::GONE;
  }
  if (isReset_ || wire_->isCutOff()) [[unlikely]]
    return waitFor(waiting, breakOff());
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

// Of a response that has no end no more is sent, and the client is not to take it for one that has. But replies to
// requests before it, which came together with this one (RFC 9112, section 9.3.2), are complete, and those requests may
// have done what cannot be done again: they go first.
Promise<Next> Exchange::breakOff() {
  isReset_ = true;
  wire_->cutOff();
  connection_->reading.unlink();
  endRequest();
  co_await clientWatch_.takeFlush();
  reset(); // the handler's writes end now; a client on a socket meets it when the stream goes
  co_await untilDelivered();
  co_return Next::CLOSE;
}

// A reset throws away what the system has taken and not delivered. Nobody tells when it has, so it is asked, less and
// less often, as long as a write may take.
Promise<void> Exchange::untilDelivered() {
  using std::chrono::milliseconds;
  const std::optional<int> socket = wire_->stream({}).descriptor();
  if (!socket) co_return;
  const TimePoint end = troth::detail::timeAfter(core_.timer().now(), core_.settings().writeTimeout);
  for (Duration pause = milliseconds(1); troth::detail::heldBySocket(*socket) > 0 && core_.timer().now() < end;
       pause = std::min<Duration>(2 * pause, milliseconds(100)))
    co_await core_.timer().afterDelay(pause);
}

Promise<Next> Exchange::answerLate() {
  handlerIsOver();
  if (state_ == ResponseState::SENT && !isSending_ && !wire_->isCutOff()) {
    endRequest();
    return flushThen(wire_->flush(std::source_location::current()), Next::CLOSE);
  }
  if (state_ != ResponseState::NONE) return breakOff();
  body_.finish("HTTP: the request's content has not come in time");
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

// What it has left behind, such as a pump that waits for its other side, is not to go on with the content of another
// request, or in another response.
void Exchange::handlerIsOver() noexcept {
  clientWatch_.stop();
  troth::detail::StreamWatch::end(body_);
  troth::detail::StreamWatch::end(responseBody_);
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
  if (body_.isBusy()) body_.takeBack(READ_TOO_LONG);
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

Promise<void> Exchange::beforeRead() {
  if (!expectsContinue_ || state_ != ResponseState::NONE) return READY_NOW;
  sendEarlier();
  appendContinue();
  return wire_->flush(std::source_location::current());
}

void Exchange::bodyEnded() noexcept {
  trailers_ = parser_.trailers();
  expectsContinue_ = false;
  if (connection_ != nullptr && connection_->reading.kind == Timeout::BODY) connection_->reading.unlink();
  clientWatch_.lookLater(); // nobody else reads any more
}

void Exchange::endRequest() noexcept {
  if (std::exchange(isHandling_, false)) {
    if (core_.settings().accessLog != nullptr) log(true);
    core_.requestEnds();
  }
  inRequest_ = false;
  state_ = ResponseState::NONE;
  body_.finish(READ_TOO_LONG);
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

} // namespace detail
} // namespace http
} // namespace v0
} // namespace troth
