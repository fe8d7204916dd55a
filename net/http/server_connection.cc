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
  Promise<Chunk> bytes = stream_->tryReadChunk(Exchange::HEAD_READ);
  waiting_ = PromiseAccess::take(bytes, {});
  core_.setTimeout(reading, timeout);
  if (waiting_.listen(this)) armDepthFirst();
}

void ServerConnection::fire() noexcept {
  bool goesOn = false;
  try {
    goesOn = exchange_ ? goOn(ready()) : received();
  } catch (...) {
    failed(Exception::fromCurrent());
  }
  if (goesOn) return;
  doneFiring();
  delete this;
}

// What fails here is the connection itself, which is no news.
void ServerConnection::failed(const Exception& failure) {
  if (failure.kind() != Exception::Kind::DISCONNECTED) core_.report(failure);
}

// The steps tell whether the connection goes on.

bool ServerConnection::received() {
  reading.unlink();
  ResultBase& result = troth::detail::resolve(*waiting_);
  Chunk chunk;
  if (!result.exception) chunk = std::move(*static_cast<troth::detail::Result<Chunk>&>(result).value);
  waiting_ = OwnNode();
  if (chunk.empty()) return false; // the client has gone, and owes us nothing
  exchange_ = core_.takeExchange();
  exchange_->enter(*this, std::move(stream_), std::move(chunk));
  return goOn(Next::RUN);
}

// What the exchange waited for is ready.
Next ServerConnection::ready() {
  ResultBase& result = troth::detail::resolve(*waiting_);
  if (result.exception) [[unlikely]] {
    const Exception failure(std::move(result.exception));
    waiting_ = OwnNode();
    if (!awaitsHandler_) throw failure; // NOLINT: it is one of ours
    return exchange_->handled(&failure, waiting_);
  }
  if (awaitsHandler_) {
    waiting_ = OwnNode();
    return exchange_->handled(nullptr, waiting_);
  }
  const Next step = *static_cast<troth::detail::Result<Next>&>(result).value;
  waiting_ = OwnNode();
  return step;
}

bool ServerConnection::goOn(Next step) {
  for (;;) {
    switch (step) {
    case Next::RUN:
      step = exchange_->run(waiting_);
      break;
    case Next::HANDLER:
    case Next::PROMISE:
      awaitsHandler_ = step == Next::HANDLER;
      if (!waiting_.listen(this)) {
        if (awaitsHandler_) exchange_->handlerWaits();
        return true;
      }
      step = ready();
      break;
    case Next::IDLE:
      if (core_.isDraining()) return false;
      stream_ = exchange_->takeStream();
      exchange_->leave();
      core_.giveBack(std::exchange(exchange_, Ref<Exchange>()));
      read(Timeout::IDLE);
      return true;
    case Next::CLOSE:
    case Next::GONE:
      return false;
    }
  }
}

void ServerConnection::expired(ConnectionTimeout& timeout) {
  switch (timeout.kind) {
  case Timeout::BODY:
  case Timeout::HALF_CLOSE:
  case Timeout::WRITE:
    if (exchange_->keepsUp(timeout.kind)) return core_.setTimeout(timeout, timeout.kind);
    if (timeout.kind == Timeout::WRITE) exchange_->reset();
    break;
  default:
    break;
  }
  // What was being done goes; what is still to be said to the client comes in its place.
  stopWaiting();
  bool goesOn = false;
  const bool answers = timeout.kind == Timeout::HEAD || timeout.kind == Timeout::BODY ||
                       (timeout.kind == Timeout::HALF_CLOSE && exchange_->isInResponse());
  if (exchange_ && answers) {
    try {
      Promise<Next> answered = exchange_->answerLate();
      waiting_ = PromiseAccess::take(answered, {});
      goesOn = goOn(Next::PROMISE);
    } catch (...) {
      failed(Exception::fromCurrent());
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
