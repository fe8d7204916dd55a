// SPDX-License-Identifier: MIT
// From idle to active and back.
#include <troth/net/http/server_connection_detail.h>

#include <utility>

namespace troth {
inline namespace v0 {
namespace http {
namespace detail {

using troth::detail::OwnNode;
using troth::detail::PromiseAccess;
using troth::detail::Ref;
using troth::detail::ResultBase;

ServerConnection::ServerConnection(ServerCore& core, std::unique_ptr<AsyncIoStream> stream, Semaphore::Permit place)
    : Event(EventLoop::current()), core_(core), stream_(std::move(stream)), place_(std::move(place)) {}

ServerConnection::~ServerConnection() {
  requireThreadToGo({});
  stopWaiting();
  if (exchange_) {
    exchange_->leave();
    core_.giveBack(std::move(exchange_));
  }
  core_.remove(*this);
}

void ServerConnection::stopWaiting() noexcept {
  {
    const troth::detail::DestroyingChain destroying;
    waiting_ = OwnNode();
  }
  disarm();
}

void ServerConnection::describe(troth::detail::Trace& trace) const noexcept {
  trace.add(exchange_ ? "HTTP connection" : "idle HTTP connection", {});
}

void ServerConnection::start() { read(Timeout::HEAD); }

void ServerConnection::read(Timeout timeout) {
  Promise<Chunk> bytes = stream_->tryReadChunk();
  waiting_ = PromiseAccess::take(bytes, {});
  core_.setTimeout(reading, timeout);
  if (waiting_.listen(this)) armDepthFirst();
}

void ServerConnection::fire() noexcept {
  if (exchange_ ? ended() : received()) return;
  doneFiring();
  delete this;
}

// The steps tell whether the connection goes on. An exchange that is over within its first step is dealt with at once:
// many requests are answered without a second turn.

bool ServerConnection::received() noexcept {
  reading.unlink();
  ResultBase& result = troth::detail::resolve(*waiting_);
  Chunk chunk;
  if (!result.exception) chunk = std::move(*static_cast<troth::detail::Result<Chunk>&>(result).value);
  waiting_ = OwnNode();
  if (chunk.empty()) return false; // the client has gone, and owes us nothing
  try {
    exchange_ = core_.takeExchange();
    exchange_->enter(*this, std::move(stream_), std::move(chunk));
    return work(exchange_->run());
  } catch (...) {
    core_.report(Exception::fromCurrent());
    return false;
  }
}

bool ServerConnection::work(Promise<AfterExchange> promise) {
  waiting_ = PromiseAccess::take(promise, {});
  return waiting_.listen(this) ? ended() : true;
}

bool ServerConnection::ended() noexcept {
  ResultBase& result = troth::detail::resolve(*waiting_);
  if (result.exception) {
    const Exception failure(std::move(result.exception));
    waiting_ = OwnNode();
    // What fails here is the connection itself, which is no news.
    if (failure.kind() != Exception::Kind::DISCONNECTED) core_.report(failure);
    return false;
  }
  const AfterExchange after = *static_cast<troth::detail::Result<AfterExchange>&>(result).value;
  waiting_ = OwnNode();
  if (after != AfterExchange::IDLE || core_.isDraining()) return false;
  stream_ = exchange_->takeStream();
  exchange_->leave();
  core_.giveBack(std::exchange(exchange_, Ref<Exchange>()));
  try {
    read(Timeout::IDLE);
    return true;
  } catch (...) {
    core_.report(Exception::fromCurrent());
    return false;
  }
}

void ServerConnection::expired(ConnectionTimeout& timeout) {
  switch (timeout.kind) {
  case Timeout::BODY:
  case Timeout::HALF_CLOSE:
    if (exchange_->keepsUp(timeout.kind)) return core_.setTimeout(timeout, timeout.kind);
    break;
  case Timeout::WRITE:
    exchange_->reset();
    break;
  default:
    break;
  }
  // What was being done goes; what is still to be said to the client comes in its place.
  stopWaiting();
  bool goesOn = false;
  if (exchange_ && (timeout.kind == Timeout::HEAD || timeout.kind == Timeout::BODY)) {
    try {
      goesOn = work(exchange_->answerLate());
    } catch (...) {
      core_.report(Exception::fromCurrent());
    }
  }
  if (!goesOn) delete this;
}

void ServerConnection::reset() noexcept {
  if (exchange_) exchange_->reset();
}

} // namespace detail
} // namespace http
} // namespace v0
} // namespace troth
