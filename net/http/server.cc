// SPDX-License-Identifier: MIT
// Accepting connections, watching the time for them, and coming to an end.
#include <troth/net/http/server.h>

#include <troth/net/http/date.h>
#include <troth/net/http/server_connection_detail.h>
#include <troth/net/http/server_core_detail.h>

#include <algorithm>
#include <chrono>

namespace troth {
inline namespace v0 {
namespace http {
namespace detail {

namespace {

void requireSensible(const ServerSettings& settings, std::source_location where) {
  const auto require = [&](bool holds, const char* what) {
    if (!holds) troth::detail::throwMisuse(std::string("http::Server: ") + what, where);
  };
  require(settings.headBytes >= 64 && settings.targetBytes >= 1 && settings.headerFields >= 1,
          "with limits as small as these no request passes");
  require(settings.headBytes < (1u << 24), "headBytes is 16 MiB or more");
  require(settings.connections > 0 && settings.requestsPerConnection > 0, "with a limit of 0 nobody is served");
  for (const Duration time : {settings.headTimeout, settings.idleTimeout, settings.bodyTimeout, settings.writeTimeout,
                              settings.lingerTimeout})
    require(time > Duration::zero(), "a time-out is not positive");
  require(settings.halfCloseGrace >= Duration::zero(), "halfCloseGrace is negative");
}

} // namespace

ServerCore::ServerCore(Service& service, Timer& timer, TaskSet::ErrorHandler& errors, ServerSettings settings,
                       std::source_location where)
    : service_(service),
      timer_(timer),
      errors_(errors),
      settings_(std::move(settings)),
      // In the order of the enumeration. A deadline that is set again, since the client is slow but reads, must lie
      // ahead.
      timeouts_{TimeoutList(settings_.headTimeout),
                TimeoutList(settings_.idleTimeout),
                TimeoutList(settings_.bodyTimeout),
                TimeoutList(settings_.writeTimeout),
                TimeoutList(std::max<Duration>(settings_.halfCloseGrace, std::chrono::milliseconds(1))),
                TimeoutList(settings_.lingerTimeout)},
      watch_(READY_NOW) {
  requireSensible(settings_, where);
  if (settings_.connections != std::numeric_limits<std::size_t>::max())
    places_ = std::make_unique<Semaphore>(settings_.connections);
}

ServerCore::~ServerCore() {
  isClosing_ = true;
  while (first_ != nullptr) delete first_;
}

Promise<void> ServerCore::serve(std::unique_ptr<ConnectionReceiver> port, std::source_location where) {
  if (port == nullptr) troth::detail::throwMisuse("http::Server::serve: the receiver is null", where);
  if (isDraining()) return READY_NOW;
  return operations_.wrap(acceptAll(std::move(port)).exclusiveJoin(draining_.wait(where), where), where);
}

Promise<void> ServerCore::acceptAll(std::unique_ptr<ConnectionReceiver> port) {
  for (;;) {
    Semaphore::Permit place;
    if (places_ != nullptr) place = co_await places_->acquire();
    std::unique_ptr<AsyncIoStream> connection = co_await port->accept();
    // A connection for which there is no memory is one connection, and no reason to accept no more.
    try {
      add(std::move(connection), std::move(place));
    } catch (...) {
      report(Exception::fromCurrent());
    }
  }
}

void ServerCore::add(std::unique_ptr<AsyncIoStream> stream, Semaphore::Permit place) {
  auto* connection = new ServerConnection(*this, std::move(stream), std::move(place));
  connection->next_ = first_;
  connection->link_ = &first_;
  if (first_ != nullptr) first_->link_ = &connection->next_;
  first_ = connection;
  ++count_;
  try {
    connection->start();
  } catch (...) {
    delete connection;
    throw;
  }
}

troth::detail::Ref<Exchange> ServerCore::takeExchange() {
  if (spares_ == 0) return troth::detail::Ref<Exchange>(*new Exchange(*this));
  return std::move(spare_[--spares_]);
}

void ServerCore::giveBack(troth::detail::Ref<Exchange> exchange) noexcept {
  if (spares_ < MOST_SPARE && exchange.isOnly()) spare_[spares_++] = std::move(exchange);
}

void ServerCore::remove(ServerConnection& connection) noexcept {
  *connection.link_ = connection.next_;
  if (connection.next_ != nullptr) connection.next_->link_ = connection.link_;
  if (--count_ > 0 || isClosing_) return;
  if (whenEmpty_ != nullptr) whenEmpty_->fulfill();
  if (isExpiring_) return;
  // Without a deadline the host's loop may end.
  watch_ = READY_NOW;
  watchedUntil_ = TimePoint::max();
}

Promise<std::size_t> ServerCore::drain(Duration grace, std::source_location where) {
  if (whenEmpty_ != nullptr && whenEmpty_->isWaiting())
    troth::detail::throwMisuse("http::Server::drain: another drain() is pending", where);
  draining_.set(where);
  return operations_.wrap(drainAll(grace), where);
}

Promise<std::size_t> ServerCore::drainAll(Duration grace) {
  for (ServerConnection *connection = first_, *next = nullptr; connection != nullptr; connection = next) {
    next = connection->next_;
    if (connection->isIdle()) delete connection;
  }
  std::size_t cancelled = 0;
  if (count_ > 0) {
    auto empty = newPromiseAndFulfiller<void>();
    whenEmpty_ = std::move(empty.fulfiller);
    if (grace == Duration::max())
      co_await std::move(empty.promise);
    else
      co_await std::move(empty.promise).exclusiveJoin(timer_.afterDelay(grace));
    cancelled = count_;
    while (first_ != nullptr) {
      first_->reset();
      delete first_;
    }
    whenEmpty_.reset();
  }
  co_return cancelled;
}

void ServerCore::setTimeout(ConnectionTimeout& timeout, Timeout kind) noexcept {
  timeout.unlink();
  TimeoutList& list = timeouts_[static_cast<std::size_t>(kind)];
  if (!list.isOn()) return;
  timeout.kind = kind;
  list.add(timeout, timer_.now());
  if (timeout.deadline() >= watchedUntil_ || isExpiring_) [[likely]]
    return;
  watchedUntil_ = timeout.deadline();
  try {
    watch_ = watchTimeouts().eagerlyEvaluate([this](Exception e) {
      report(std::move(e));
      watchedUntil_ = TimePoint::max(); // so that the next deadline tries again
    });
  } catch (...) {
    // There is no memory. A wait for a client, which this is a part of, must not fail therefore.
    watchedUntil_ = TimePoint::max();
  }
}

TimePoint ServerCore::earliest() const noexcept {
  TimePoint earliest = TimePoint::max();
  for (const TimeoutList& list : timeouts_)
    if (const TimeoutLink* front = list.front(); front != nullptr) earliest = std::min(earliest, front->deadline());
  return earliest;
}

// Deadlines that are cleared leave it waiting for them all the same: looking once too often costs less than setting a
// timer anew with each request.
Promise<void> ServerCore::watchTimeouts() {
  while (watchedUntil_ != TimePoint::max()) {
    co_await timer_.atTime(watchedUntil_);
    expire(timer_.now());
    watchedUntil_ = count_ > 0 ? earliest() : TimePoint::max();
  }
}

void ServerCore::expire(TimePoint now) {
  isExpiring_ = true;
  for (TimeoutList& list : timeouts_) {
    while (list.front() != nullptr && list.front()->deadline() <= now) {
      auto& timeout = static_cast<ConnectionTimeout&>(*list.front());
      timeout.unlink();
      timeout.connection.expired(timeout);
    }
  }
  isExpiring_ = false;
}

void ServerCore::renewDate(TimePoint now) {
  const auto wall = std::chrono::system_clock::now();
  const auto second = std::chrono::floor<std::chrono::seconds>(wall);
  char* at = std::copy(OK_LINE.begin(), OK_LINE.end(), okAndDate_.data());
  at = std::copy(DATE_NAME.begin(), DATE_NAME.end(), at);
  formatHttpDate(second, std::span<char, HTTP_DATE_SIZE>(at, HTTP_DATE_SIZE));
  at[HTTP_DATE_SIZE] = '\r';
  at[HTTP_DATE_SIZE + 1] = '\n';
  dateUntil_ = now + std::chrono::duration_cast<Duration>(second + std::chrono::seconds(1) - wall);
}

} // namespace detail

Server::Server(Service& service, Timer& timer, TaskSet::ErrorHandler& errors, ServerSettings settings,
               std::source_location where)
    : core_(std::make_unique<detail::ServerCore>(service, timer, errors, std::move(settings), where)) {}

Server::~Server() = default;

Promise<void> Server::serve(std::unique_ptr<ConnectionReceiver> port, std::source_location where) {
  return core_->serve(std::move(port), where);
}

void Server::serveConnection(std::unique_ptr<AsyncIoStream> connection, std::source_location where) {
  if (connection == nullptr) troth::detail::throwMisuse("http::Server::serveConnection: the stream is null", where);
  if (core_->isDraining()) return;
  core_->add(std::move(connection), Semaphore::Permit());
}

Promise<std::size_t> Server::drain(Duration grace, std::source_location where) { return core_->drain(grace, where); }

std::size_t Server::connections() const noexcept { return core_->connections(); }
std::size_t Server::requests() const noexcept { return core_->requests(); }

} // namespace http
} // namespace v0
} // namespace troth
