// SPDX-License-Identifier: MIT
// How an exchange waits for its client: the time that it takes, and what it does while a handler works.
#include <troth/net/http/exchange_detail.h>

#include <troth/net/http/server_connection_detail.h>
#include <troth/net/http/server_core_detail.h>

#include <chrono>
#include <utility>

namespace troth {
inline namespace v0 {
namespace http {
namespace detail {

using troth::detail::ExceptionRef;
using troth::detail::OwnNode;
using troth::detail::PromiseAccess;
using troth::detail::ResultBase;

namespace {
// How far one reads on while a handler works.
constexpr std::size_t READ_AHEAD = 16 * 1024;
} // namespace

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
  exchange_.isWaitingToWrite_ = true;
  if (exchange_.connection_ == nullptr) return;
  exchange_.wire_->startProgress();
  exchange_.core_.setTimeout(exchange_.connection_->writing, Timeout::WRITE);
}

void Exchange::WriteWatcher::endWait(std::uint64_t bytes) noexcept {
  exchange_.isWaitingToWrite_ = false;
  exchange_.written_ += bytes;
  if (exchange_.connection_ != nullptr) exchange_.connection_->writing.unlink();
}

bool Exchange::keepsUp(Timeout kind) noexcept {
  if (kind == Timeout::WRITE) return wire_->makesProgress(Wire::WRITE_SIZE);
  // A client that has what is sent to it to be read has the time of a write, as any other, if that has one.
  if (kind == Timeout::HALF_CLOSE) return std::exchange(written_, 0) > 0 || isWaitingToWrite_;
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
  flush_ = OwnNode();
  disarm();
}

void Exchange::ClientWatch::describe(troth::detail::Trace& trace) const noexcept {
  trace.add("HTTP connection, waiting for its client to leave", {});
}

// A write that is under way goes on; should it have failed, the wire tells. The next handler's watch meets the client's
// end again, so each has its while.
void Exchange::ClientWatch::stop() noexcept {
  isOn_ = hasEnded_ = false;
  read_ = OwnNode();
  disarm();
  // A client that has ended its direction has waited long enough; the response has all the time that a write has.
  if (ServerConnection* connection = exchange_.connection_;
      connection != nullptr && connection->reading.kind == Timeout::HALF_CLOSE)
    connection->reading.unlink();
}

void Exchange::ClientWatch::fire() noexcept {
  try {
    finishFlush();
    if (isOn_) look();
    return;
  } catch (...) { // the client has reset the connection, or cannot be written to
  }
  if (!exchange_.clientLeaves(exchange_.wire_->isCutOff())) return;
  ServerConnection& connection = *exchange_.connection_;
  doneFiring();
  delete &connection;
}

void Exchange::ClientWatch::look() {
  Exchange& x = exchange_;
  if (read_ && read_.listen(this)) takeRead();
  // Of a response that was broken off no more is sent. It is for its handler to end, and then for breakOff(), which
  // lets the replies before it arrive.
  if (x.isReset_ || x.wire_->isCutOff()) {
    finishFlush();
  } else {
    flush();
  }
  // A handler that waits for its body notices for itself, and nobody else reads it then.
  const bool mayRead = x.isHandling_ && !read_ && !hasEnded_ && !x.isWaiting_ && x.wire_->isOpen() &&
                       x.wire_->rest().size() < READ_AHEAD;
  if (!mayRead) return;
  Promise<Chunk> more = x.wire_->stream(std::source_location::current()).tryReadChunk(READ_AHEAD);
  read_ = PromiseAccess::take(more, {});
  if (read_.listen(this)) armDepthFirst();
}

void Exchange::ClientWatch::takeRead() {
  Exchange& x = exchange_;
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

void Exchange::ClientWatch::flush() {
  finishFlush();
  if (flush_ || exchange_.wire_->output().empty()) return;
  Promise<void> flushed = exchange_.wire_->flush(std::source_location::current());
  flush_ = PromiseAccess::take(flushed, {});
  finishFlush();
}

// Throws what it has failed with, if it is ready.
void Exchange::ClientWatch::finishFlush() {
  if (!flush_ || !flush_.listen(this)) return;
  Promise<void> flushed = takeFlush();
  if (const std::optional<Exception> failure = takeFailure(flushed)) throw *failure;
}

Promise<void> Exchange::ClientWatch::takeFlush() {
  return flush_ ? PromiseAccess::wrap<void>(std::move(flush_)) : Promise<void>(READY_NOW);
}

// Whether the connection is to be closed therefore. A handler that has sent its response may finish what it does.
bool Exchange::clientLeaves(bool writeFailed) noexcept {
  return connection_ != nullptr && (writeFailed || (isHandling_ && state_ != ResponseState::SENT));
}

} // namespace detail
} // namespace http
} // namespace v0
} // namespace troth
