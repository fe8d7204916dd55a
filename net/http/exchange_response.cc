// SPDX-License-Identifier: MIT
// The response of an exchange: its head, its content, and what may come before it or in its place.
#include <troth/net/http/exchange_detail.h>

#include <troth/io/stream_watch_detail.h>
#include <troth/net/http/server_connection_detail.h>
#include <troth/net/http/server_core_detail.h>
#include <troth/net/http/status.h>
#include <troth/net/http/text_detail.h>
#include <troth/net/http/upgraded_stream_detail.h>

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <utility>

namespace troth {
inline namespace v0 {
namespace http {
namespace detail {

using troth::detail::Ref;
using troth::detail::throwMisuse;

namespace {

// Content of this size is copied behind its head; more is sent from where it is.
constexpr std::size_t COPIED = 8 * 1024;

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

void appendField(ByteBuffer& text, const HeaderField& field) {
  for (const std::string_view piece : {field.name, std::string_view(": "), field.value, std::string_view("\r\n")})
    text.append(piece);
}

std::string_view textOf(std::span<const std::byte> bytes) noexcept {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

} // namespace

void Exchange::throwSent(const char* function, const std::source_location& where) const {
  if (connection_ == nullptr || !wire_->isOpen())
    throw Exception(Exception::Kind::DISCONNECTED, fmt::format("{}: the client has gone", function), {}, where);
  throwMisuse(
      fmt::format("{}: the response to {} {} was begun before", function, request_.methodText(), request_.target()),
      where);
}

// Before what a handler sends may be on its way, so that a write that it gives up, or that is broken off with it, takes
// along nothing but its own response. (If the connection is sending already, it has taken those replies, and what waits
// is this response's; see run().)
void Exchange::sendEarlier() {
  if (!wire_->output().empty()) [[unlikely]]
    clientWatch_.flush();
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
  for (const HeaderId id : {HeaderId::CONTENT_LENGTH, HeaderId::TRANSFER_ENCODING})
    if (response_.headers_.has(id)) [[unlikely]]
      throwMisuse(fmt::format("{}: {} is the server's to set", function, headerName(id)), where);
  if (length && response_.headers_.has(HeaderId::TRAILER)) [[unlikely]]
    throwMisuse(fmt::format("{}: Trailer announces fields behind a content in chunks, which one with a length is not",
                            function),
                where);
  if (response_.headers_.has(HeaderId::CONNECTION)) [[unlikely]]
    takeConnectionOptions();
  if (core_.isDraining()) keepAlive_ = false;
  const bool mayHaveContent = status != 204 && status != 304;
  hasNoContent_ = request_.method_ == Method::HEAD || !mayHaveContent;
  isChunked_ = !length && request_.minorVersion_ == 1 && mayHaveContent;
  if (!length && !isChunked_ && !hasNoContent_) keepAlive_ = false; // the content ends with the connection
  if (hasNoContent_) content = {};
  // Announced in vain: HTTP/1.0 has no chunks, and 204 and 304 no content.
  if (!isChunked_ && response_.headers_.has(HeaderId::TRAILER)) [[unlikely]]
    response_.headers_.remove(HeaderId::TRAILER);

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
  if (!isCopied) sendEarlier();
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
  sendEarlier();
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
  for (const HeaderField field : trailers)
    if (!mayBeTrailer(field.id))
      throwMisuse(fmt::format("Response::end: the field {} cannot be a trailer", field.name), where);
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
  sendEarlier();
  appendStatusLine(status);
  ByteBuffer& out = wire_->output();
  for (const HeaderField field : headers) appendField(out, field);
  out.append("\r\n");
  Promise<void> written = wire_->flush(where);
  if (isReady(written)) return written;
  return finishInformational(Ref<Exchange>(*this), std::move(written));
}

Promise<void> Exchange::finishInformational(Ref<Exchange> self, Promise<void> written) {
  struct Count {
    explicit Count(std::uint32_t& c) noexcept : count(++c) {}
    ~Count() { --count; }
    std::uint32_t& count;
  } informing(self->informing_);
  co_await std::move(written);
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
  if (informing_ > 0) throwMisuse(fmt::format("{}: an informational response is still on its way", FUNCTION), where);
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
  connection_->writing.unlink();
  wire_->watch(nullptr, nullptr);
  Chunk rest = wire_->takeRest();
  // The handler may stay as long as the connection does, and its views of the request with it: but nothing else.
  parser_.expectNothing();
  const ByteBuffer head = wire_->takeOutput();
  return newUpgradedStream(wire_->takeStream(), std::move(rest), head.text(), where, clientWatch_.takeFlush());
}

const AsyncIoStream& Exchange::connection(std::source_location where) const { return wire_->stream(where); }

void Exchange::appendContinue() {
  expectsContinue_ = false;
  wire_->output().append("HTTP/1.1 100 Continue\r\n\r\n");
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
  const troth::detail::StreamWatch inputWatch(input);
  std::uint64_t count = 0;
  {
    WritingContent writing(*self);
    co_await self->wire_->flush(where);
    const std::uint64_t most = self->wire_->tellsProgress(where) ? MOST_PUMPED : Wire::WRITE_SIZE;
    while (count < amount) {
      inputWatch.require(where);
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

// As its handler wants it. Replies before it that are still being sent go first, as in breakOff().
void Exchange::abortResponse() noexcept {
  if (!clientWatch_.isFlushing()) return reset();
  isReset_ = true;
  wire_->cutOff();
}

void Exchange::ResponseBody::abortWrite(std::source_location) { exchange_.abortResponse(); }

} // namespace detail
} // namespace http
} // namespace v0
} // namespace troth
