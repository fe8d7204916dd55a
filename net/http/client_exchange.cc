// SPDX-License-Identifier: MIT
// A request is sent by a coroutine of its own, beside the one that receives: a server may answer before it has read
// all, or any, of it. What goes wrong with the connection is noticed by receiving, for the answer may have come first;
// what the stream of the body fails with ends both.
#include <troth/net/http/client_exchange_detail.h>

#include <troth/net/http/content_coding.h>
#include <troth/net/http/http_error.h>
#include <troth/net/http/text_detail.h>
#include <troth/net/http/upgraded_stream_detail.h>
#include <troth/runtime/exception.h>
#include <troth/runtime/quote_detail.h>
#include <troth/timers/time_math_detail.h>

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>

namespace troth {
inline namespace v0 {
namespace http {
namespace detail {

using Kind = Exception::Kind;

static constexpr std::uint64_t MOST_SECONDS = 1'000'000'000; // of a server's; more would not fit a Duration

// -------------------------------------------------------------------------------------------- heads

void KeptHead::keep(std::string_view head, std::string_view reason, const HeaderFields& fields) {
  const auto offset = [&](std::string_view part) { return static_cast<std::uint32_t>(part.data() - head.data()); };
  text_.assign(head);
  reasonLength_ = reason.size();
  reasonAt_ = reason.empty() ? 0 : offset(reason);
  entries_.reserve(fields.size());
  for (const HeaderField field : fields) {
    entries_.push_back({offset(field.name), static_cast<std::uint32_t>(field.name.size()), offset(field.value),
                        static_cast<std::uint32_t>(field.value.size()) & 0xffffffu,
                        static_cast<std::uint8_t>(field.id)});
    if (field.id != HeaderId::OTHER) present_ |= std::uint64_t(1) << static_cast<unsigned>(field.id);
  }
}

// How long the server keeps the connection, if it says so ("timeout=5, max=100"; RFC 2068, section 19.7.1.1), less the
// time that the next request may be on its way: nginx, node and Apache close it right when the time is over. `max` is
// how many more requests there may be. (node sends the same each time, so it is not counted here, and says "close" when
// it has come to the last one, as Apache does.)
static Duration keptFor(const HeaderFields& fields) noexcept {
  Duration time = Duration::max();
  if (!fields.has(HeaderId::KEEP_ALIVE)) return time;
  for (const HeaderField field : fields) {
    if (field.id != HeaderId::KEEP_ALIVE) continue;
    std::string_view list = field.value;
    while (const std::optional<std::string_view> parameter = nextElement(list)) {
      const std::size_t equals = parameter->find('=');
      if (equals == std::string_view::npos) continue;
      const std::string_view name = trimmed(parameter->substr(0, equals));
      const std::optional<std::uint64_t> number = parseDecimal(trimmed(parameter->substr(equals + 1)));
      if (!number) continue;
      if (equalsIgnoringCase(name, "max") && *number == 0) return Duration::zero();
      if (!equalsIgnoringCase(name, "timeout")) continue;
      const Duration told = std::chrono::seconds(std::min<std::uint64_t>(*number, MOST_SECONDS));
      time = std::min(time, told - std::min<Duration>(std::chrono::seconds(1), told / 2));
    }
  }
  return time;
}

// Whether no content follows whatever the fields say (RFC 9112, section 6.3; of the status the parser knows).
static bool hasNoContent(Method method, int status) noexcept {
  return method == Method::HEAD || status == 101 || (method == Method::CONNECT && status >= 200 && status < 300);
}

// -------------------------------------------------------------------------------------------- life

ClientExchange::ClientExchange(ClientExchange*& clients, Timer& timer, ConnectionPool::Lease lease,
                               std::unique_ptr<AsyncIoStream> stream, const ExchangePlan& plan)
    : Alarm(timer),
      lease_(std::move(lease)),
      wire_(*new Wire(std::move(stream))),
      parser_(MessageParser::Kind::RESPONSE, plan.limits),
      reader_(*this),
      reading_(*this),
      writing_(*this),
      end_(plan.end),
      idleTimeout_(plan.options.idleTimeout),
      responseTimeout_(plan.options.responseTimeout),
      where_(plan.where),
      method_(plan.method),
      isReused_(plan.isReused),
      expectsContinue_(plan.expectsContinue),
      closes_(plan.closes) {
  wire_->watch(&reading_, &writing_);
  next_ = clients;
  link_ = &clients;
  if (next_ != nullptr) next_->link_ = &next_;
  clients = this;
}

ClientExchange::~ClientExchange() {
  stopSending();
  if (lease_) {
    isReusable_ = isReusable_ && skipRest();
    giveBack();
  }
  incoming_.finish();
  wire_->watch(nullptr, nullptr);
  waiters_.disconnectAll("HTTP: the response was destroyed");
  if (link_ == nullptr) return;
  *link_ = next_;
  if (next_ != nullptr) next_->link_ = link_;
}

void ClientExchange::fail(const Exception& reason) noexcept {
  if (failure_) return;
  failure_ = reason;
  waiters_.failAll(reason); // before the connection does it
  wire_->close();
}

void ClientExchange::abandon(const Exception& reason) noexcept {
  if (link_ != nullptr) {
    *link_ = next_;
    if (next_ != nullptr) next_->link_ = link_;
    link_ = nullptr;
  }
  stopAlarm();
  fail(reason);
}

void ClientExchange::giveBack() noexcept {
  if (!lease_) return;
  stopAlarm(); // it was for the server
  const bool isClean = isReusable_ && sending_ == Sending::COMPLETE && wire_->isOpen();
  // Bytes behind the response would be taken for the next one's answer.
  if (isClean && wire_->rest().empty()) {
    wire_->give(Chunk()); // the response may be kept for long, but not a buffer with it
    return lease_.giveBack(wire_->takeStream(), reusableFor_);
  }
  wire_->close();
  lease_.release();
}

// What of the content has not been read, if it has come already.
bool ClientExchange::skipRest() noexcept {
  if (incoming_.isBusy() || incoming_.isBroken()) return false;
  const bool hasCome = incoming_.hasEnded();
  const std::uint64_t left = incoming_.toCome();
  incoming_.finish();
  if (hasCome) return true;
  if (framing_ == Framing::CHUNKED) return skipChunks();
  if (framing_ != Framing::LENGTH || left > wire_->rest().size()) return false;
  wire_->consume(static_cast<std::size_t>(left));
  return true;
}

bool ClientExchange::skipChunks() noexcept {
  try {
    while (!wire_->rest().empty()) {
      const MessageParser::Piece piece = parser_.decodeChunked(wire_->rest());
      wire_->consume(piece.consumed);
      if (piece.outcome != MessageParser::Outcome::NEEDS_MORE) return piece.outcome == MessageParser::Outcome::COMPLETE;
    }
  } catch (...) { // there is no memory for trailers
  }
  return false;
}

bool ClientExchange::mayRepeat(const Exception& failure) const noexcept {
  return isReused_ && !hasBytes_ && !failure_ && failure.kind() == Kind::DISCONNECTED && isIdempotent(method_) &&
         (body_ == nullptr || body_->isFresh());
}

std::unique_ptr<OutgoingBody> ClientExchange::takeBody() noexcept {
  stopSending();
  return std::move(body_);
}

ConnectionPool::Lease ClientExchange::takeLease() noexcept {
  stopSending();
  wire_->close();
  return std::move(lease_);
}

std::unique_ptr<AsyncIoStream> ClientExchange::takeConnection() {
  Chunk rest = wire_->takeRest();
  std::unique_ptr<AsyncIoStream> stream = wire_->takeStream();
  lease_.release();
  return rest.empty() ? std::move(stream) : newUpgradedStream(std::move(stream), std::move(rest), {}, where_);
}

// -------------------------------------------------------------------------------------------- sending

Promise<void> ClientExchange::run(std::unique_ptr<OutgoingBody> body, const ExchangePlan& plan) {
  body_ = std::move(body);
  if (end_ != TimePoint::max()) setNextAlarm();
  if (body_ == nullptr) {
    sendHead(plan.where);
    return untilFailure(receiveHead(*this, plan), plan.where);
  }
  Promise<void> mayBegin = READY_NOW;
  if (expectsContinue_) {
    auto pair = newPromiseAndFulfiller<void>();
    goOn_ = std::move(pair.fulfiller);
    mayBegin = std::move(pair.promise);
    if (const Duration delay = plan.options.continueTimeout; delay != Duration::max())
      mayBegin = std::move(mayBegin).exclusiveJoin(timer().afterDelay(delay));
  }
  sender_ = send(*this, std::move(mayBegin), plan.where);
  return untilFailure(receiveHead(*this, plan), plan.where);
}

// As a rule the system takes it at once, and that was that.
void ClientExchange::sendHead(std::source_location where) {
  Promise<void> flushed = wire_->flush(where);
  if (!isReady(flushed)) {
    sender_ = send(*this, std::move(flushed), where);
    return;
  }
  const troth::detail::OwnNode node = troth::detail::PromiseAccess::take(flushed, where);
  sendingEnded(troth::detail::resolve(*node).exception ? Sending::FAILED : Sending::COMPLETE);
}

Promise<void> ClientExchange::send(ClientExchange& self, Promise<void> mayBegin, std::source_location where) {
  std::optional<Exception> failure;
  try {
    if (self.body_ == nullptr)
      co_await std::move(mayBegin);
    else
      co_await sendBody(self, std::move(mayBegin), where);
  } catch (...) {
    failure = Exception::fromCurrent();
  }
  if (failure && self.readsBody_) self.fail(*failure);
  self.sendingEnded(failure ? Sending::FAILED : Sending::COMPLETE);
}

Promise<void> ClientExchange::sendBody(ClientExchange& self, Promise<void> mayBegin, std::source_location where) {
  if (self.expectsContinue_) {
    co_await self.wire_->flush(where);
    self.setEnd(self.headEnd_, self.responseTimeout_); // in case that it may wait for ever
    co_await std::move(mayBegin);
    self.headEnd_ = TimePoint::max();
  }
  OutgoingBody& body = *self.body_;
  body.begun = true;
  if (body.stream == nullptr)
    co_await self.wire_->write(asBytes(body.bytes), {}, where);
  else if (body.length)
    co_await sendStream(self, where);
  else
    co_await sendChunks(self, where);
}

Promise<void> ClientExchange::sendStream(ClientExchange& self, std::source_location where) {
  OutgoingBody& body = *self.body_;
  std::uint64_t left = *body.length;
  while (left > 0) {
    self.readsBody_ = true;
    const std::uint64_t most = std::min<std::uint64_t>(left, Chunk::CAPACITY);
    Promise<Chunk> read = body.stream->tryReadChunk(static_cast<std::size_t>(most), where);
    if (!isReady(read)) { // the head need not wait for it
      self.readsBody_ = false;
      co_await self.wire_->flush(where);
      self.readsBody_ = true;
    }
    const Chunk chunk = co_await std::move(read);
    if (chunk.empty())
      throw Exception(
          Kind::FAILED,
          fmt::format("HTTP: the request's body ended after {} of {} bytes", *body.length - left, *body.length), {},
          where);
    self.readsBody_ = false;
    left -= chunk.size();
    co_await self.wire_->write(chunk, {}, where);
  }
  co_await self.wire_->flush(where);
}

// RFC 9112, section 7.1.
Promise<void> ClientExchange::sendChunks(ClientExchange& self, std::source_location where) {
  AsyncInputStream& stream = *self.body_->stream;
  for (;;) {
    self.readsBody_ = true;
    Promise<Chunk> read = stream.tryReadChunk(Chunk::CAPACITY, where);
    if (!isReady(read)) {
      self.readsBody_ = false;
      co_await self.wire_->flush(where);
      self.readsBody_ = true;
    }
    const Chunk chunk = co_await std::move(read);
    self.readsBody_ = false;
    std::array<char, 16> digits;
    const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), chunk.size(), 16).ptr;
    ByteBuffer& output = self.wire_->output();
    output.append({digits.data(), end});
    output.append("\r\n");
    if (chunk.empty()) break;
    co_await self.wire_->write(chunk, asBytes("\r\n"), where);
  }
  self.appendTrailers(where);
  self.wire_->output().append("\r\n");
  co_await self.wire_->flush(where);
}

// RFC 9110, section 6.5.1.
void ClientExchange::appendTrailers(std::source_location where) {
  if (!body_->trailers) return;
  readsBody_ = true; // what is wrong with them is no fault of the connection's
  const HeaderMap trailers = body_->trailers();
  for (const HeaderField field : trailers.fields())
    if (!mayBeTrailer(field.id))
      throw Exception(Kind::FAILED, fmt::format("HTTP: the request's field {} cannot be a trailer", field.name), {},
                      where);
  readsBody_ = false;
  wire_->output().append(trailers.text());
}

void ClientExchange::sendingEnded(Sending how) noexcept {
  sending_ = how;
  if (!hasHead_) setEnd(headEnd_, responseTimeout_);
  if (reading_.isWaiting_) setEnd(reading_.end_, idleTimeout_); // now it is the server's turn
}

// Never from inside of what is sent.
void ClientExchange::stopSending() noexcept {
  if (sending_ != Sending::UNDER_WAY) return;
  sending_ = Sending::FAILED;
  goOn_.reset();
  sender_ = READY_NOW;
}

// -------------------------------------------------------------------------------------------- receiving

Promise<void> ClientExchange::receiveHead(ClientExchange& self, const ExchangePlan& plan) {
  using Outcome = MessageParser::Outcome;
  Wire& wire = *self.wire_;
  unsigned informational = 0;
  for (;;) {
    const Outcome outcome = self.parser_.parseHead(wire.rest());
    if (outcome == Outcome::FAULT) self.throwFault(plan.where);
    if (outcome == Outcome::COMPLETE) {
      const int status = self.parser_.status();
      if (status >= 200 || (status == 101 && plan.wantsUpgrade)) break;
      self.takeInformational(plan, informational);
      wire.consume(self.parser_.headLength());
      self.parser_.reset();
      continue;
    }
    Chunk more = co_await wire.stream(plan.where).tryReadChunk(Chunk::CAPACITY, plan.where);
    if (more.empty())
      throw Exception(Kind::DISCONNECTED,
                      wire.rest().empty() ? "HTTP: the server closed the connection instead of answering"
                                          : "HTTP: the connection ended within the head of the response",
                      {}, plan.where);
    self.hasBytes_ = true;
    wire.give(std::move(more));
  }
  // The server may have read all of the request, and the sender not have heard of it yet.
  if (self.sending_ == Sending::UNDER_WAY) co_await evalLast([] {});
  self.beginContent(plan);
}

void ClientExchange::throwFault(const std::source_location& where) const {
  const ParseFault& fault = parser_.fault();
  if (fault.status == 503) throw Exception(Kind::OVERLOADED, fmt::format("HTTP: {}", fault.reason), {}, where);
  throw Exception(Kind::FAILED,
                  fmt::format("HTTP: the response {} breaks the rules: {}",
                              troth::detail::quote(wire_->rest().substr(0, 80)), fault.reason),
                  {}, where);
}

// RFC 9110, section 15.2: what is not known is passed over.
void ClientExchange::takeInformational(const ExchangePlan& plan, unsigned& count) {
  const int status = parser_.status();
  if (status < 100)
    throw Exception(Kind::FAILED, fmt::format("HTTP: the response has the status {}, which there is not", status), {},
                    plan.where);
  if (status == 101)
    throw Exception(Kind::FAILED, "HTTP: the server switched protocols without having been asked", {}, plan.where);
  if (++count > plan.informational)
    throw Exception(Kind::FAILED, fmt::format("HTTP: there are more than {} interim responses", plan.informational), {},
                    plan.where);
  if (status == 100) {
    if (goOn_ != nullptr) goOn_->fulfill();
  } else if (plan.options.onInformational) {
    plan.options.onInformational(status, parser_.fields());
  }
}

void ClientExchange::beginContent(const ExchangePlan& plan) {
  hasHead_ = true;
  headEnd_ = TimePoint::max();
  const int status = parser_.status();
  kept_.keep(wire_->rest().substr(0, parser_.headLength()), parser_.reason(), parser_.fields());
  wire_->consume(parser_.headLength());
  framing_ = hasNoContent(method_, status) ? Framing::NONE : parser_.framing();
  const std::uint64_t length = framing_ == Framing::LENGTH ? parser_.contentLength() : 0;
  if (length > plan.options.bodyBytes)
    throw Exception(Kind::FAILED,
                    fmt::format("HTTP: the response's content has {} bytes, and at most {} are wanted", length,
                                plan.options.bodyBytes),
                    {}, plan.where);
  // Who answers with an error does not want the rest; who answers with success, and has not asked for the body, has to
  // get it nevertheless (RFC 9110, section 10.1.1).
  if (status >= 300) stopSending();
  if (goOn_ != nullptr) goOn_->fulfill();
  if (status == 101 || (method_ == Method::CONNECT && status < 300)) return; // for takeConnection()
  reusableFor_ = keptFor(kept_.fields());
  isReusable_ = parser_.keepsAlive() && framing_ != Framing::UNTIL_CLOSE && !closes_ && reusableFor_ > Duration::zero();
  incoming_.begin(*wire_, parser_, framing_, length, plan.options.bodyBytes, *this);
  if (plan.options.decoding == RequestOptions::Decoding::DECODE && framing_ != Framing::NONE && status != 206)
    decode(plan.options.bodyBytes);
  if (framing_ == Framing::NONE) giveBack();
}

void ClientExchange::bodyEnded() noexcept {
  try {
    trailers_.addAll(parser_.trailers());
  } catch (...) {
    fail(Exception::fromCurrent());
  }
  giveBack();
}

template <typename T>
Promise<T> ClientExchange::untilFailure(Promise<T> promise, std::source_location where) {
  if (failure_) return Promise<T>(*failure_, where);
  auto* failure = new troth::detail::StreamEnd<T>(where);
  Promise<T> failed = troth::detail::PromiseAccess::wrap<T>(failure);
  waiters_.add(*failure);
  return std::move(promise).exclusiveJoin(std::move(failed), where);
}

// The codings are listed in the order in which they were applied (RFC 9110, section 8.4). Each costs memory, so there
// are not many.
void ClientExchange::decode(std::uint64_t limit) {
  constexpr std::size_t MOST = 3;
  const std::string all = kept_.fields().combined(HeaderId::CONTENT_ENCODING);
  std::array<ContentCoding, MOST> codings;
  std::size_t count = 0;
  std::string_view list = all;
  while (const std::optional<std::string_view> name = nextElement(list)) {
    const std::optional<ContentCoding> coding = findCoding(*name);
    if (coding == ContentCoding::IDENTITY) continue;
    if (!coding || !isSupported(*coding) || count == MOST) return;
    codings[count++] = *coding;
  }
  if (count == 0) return;
  std::unique_ptr<AsyncInputStream> stream = std::make_unique<NotEmpty>(std::make_unique<Reader>(*this));
  while (count > 0)
    stream = newDecodingStream(codings[--count], std::move(stream), DecodingLimits{.maxBytes = limit}, where_);
  decoded_ = std::make_unique<Decoded>(std::move(stream));
}

// What a server is told by a status is a failure like others to a client. (HttpError would make a server that is this
// client answer with it.)
template <typename T>
static Promise<T> translated(Promise<T> read, std::source_location where) {
  return std::move(read).catch_(
      [where](Exception e) -> T {
        const std::optional<int> status = HttpError::statusOf(e);
        if (!status) e.rethrow();
        std::string text(e.description());
        try {
          e.rethrow();
        } catch (const HttpError& error) {
          text = error.description();
        } catch (...) { // one that has got a context: its text will do
        }
        throw Exception(*status == 503 ? Kind::OVERLOADED : Kind::FAILED, text, {}, where); // 503: without memory
      },
      where);
}

// A content of no bytes is one in no coding at all, not even an empty one in gzip, which has 20 bytes. But servers send
// it, with the field: of an empty file, and in chunks, since they do not know beforehand that nothing will come. curl
// and the browsers take it for what it is.
struct EmptyContent : std::exception {};

template <typename T>
static Promise<T> unlessEmpty(Promise<T> decoded, std::source_location where) {
  return std::move(decoded).catch_(
      [](Exception e) -> T {
        try {
          e.rethrow();
        } catch (const EmptyContent&) {
          return T();
        }
      },
      where);
}

Promise<std::size_t> ClientExchange::NotEmpty::tryRead(std::span<std::byte> buffer, std::size_t minBytes,
                                                       std::source_location where) {
  return inner_->tryRead(buffer, minBytes, where).then([has = hasBytes_](std::size_t count) {
    if (count == 0 && !*has) throw EmptyContent();
    *has = true;
    return count;
  });
}

Promise<Chunk> ClientExchange::NotEmpty::tryReadChunk(std::size_t maxBytes, std::source_location where) {
  return inner_->tryReadChunk(maxBytes, where).then([has = hasBytes_](Chunk chunk) {
    if (chunk.empty() && !*has) throw EmptyContent();
    *has = true;
    return chunk;
  });
}

template <typename T>
Promise<T> ClientExchange::guard(Promise<T> read, std::source_location where) {
  if (!isReady(read)) read = untilFailure(std::move(read), where);
  return translated(std::move(read), where);
}

Promise<std::size_t> ClientExchange::Reader::tryRead(std::span<std::byte> buffer, std::size_t minBytes,
                                                     std::source_location where) {
  if (exchange_.failure_) return Promise<std::size_t>(*exchange_.failure_, where);
  return exchange_.guard(exchange_.incoming_.tryRead(buffer, minBytes, where), where);
}

Promise<Chunk> ClientExchange::Reader::tryReadChunk(std::size_t maxBytes, std::source_location where) {
  if (exchange_.failure_) return Promise<Chunk>(*exchange_.failure_, where);
  return exchange_.guard(exchange_.incoming_.tryReadChunk(maxBytes, where), where);
}

Promise<std::size_t> ClientExchange::Decoded::tryRead(std::span<std::byte> buffer, std::size_t minBytes,
                                                      std::source_location where) {
  return translated(unlessEmpty(inner_->tryRead(buffer, minBytes, where), where), where);
}

Promise<Chunk> ClientExchange::Decoded::tryReadChunk(std::size_t maxBytes, std::source_location where) {
  return translated(unlessEmpty(inner_->tryReadChunk(maxBytes, where), where), where);
}

// -------------------------------------------------------------------------------------------- time

void ClientExchange::Watch::beginWait() noexcept {
  isWaiting_ = true;
  ClientExchange& exchange = exchange_;
  // While the request is sent the server may wait for its rest.
  if (exchange.failure_ || (this == &exchange.reading_ && exchange.sending_ == Sending::UNDER_WAY)) return;
  if (this == &exchange.writing_) exchange.wire_->startProgress();
  exchange.setEnd(end_, exchange.idleTimeout_);
}

void ClientExchange::Watch::endWait(std::uint64_t) noexcept {
  isWaiting_ = false;
  end_ = TimePoint::max();
}

void ClientExchange::setEnd(TimePoint& end, Duration delay) noexcept {
  if (delay == Duration::max() || failure_) return;
  end = troth::detail::timeAfter(timer().now(), delay);
  setNextAlarm();
}

void ClientExchange::setNextAlarm() noexcept {
  const TimePoint next = std::min({end_, headEnd_, reading_.end_, writing_.end_});
  if (next == TimePoint::max() || failure_) return;
  try {
    setAlarm(next, where_);
  } catch (...) {
    fail(Exception::fromCurrent());
  }
}

void ClientExchange::onAlarm(TimePoint now) noexcept {
  if (now >= end_) return failLate("the time for the request is up");
  if (now >= headEnd_) return failLate("the server has not answered in time");
  if (now >= reading_.end_) return failLate("nothing of the response's content came for too long");
  if (now >= writing_.end_) {
    if (!wire_->makesProgress(1)) return failLate("the server has read nothing of the request for too long");
    writing_.end_ = troth::detail::timeAfter(now, idleTimeout_);
  }
  setNextAlarm();
}

void ClientExchange::failLate(const char* what) noexcept {
  fail(Exception(Kind::OVERLOADED, std::string("HTTP: timed out: ") + what, {}, where_));
}

void ClientExchange::onAlarmFailed(const Exception& exception) noexcept { fail(exception); }

} // namespace detail
} // namespace http
} // namespace v0
} // namespace troth
