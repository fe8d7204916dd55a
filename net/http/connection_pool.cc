// SPDX-License-Identifier: MIT
// Who gets the next connection. An origin is in `next_` while somebody waits there whom only the total limit keeps
// waiting; with it, serve() needs to look at nobody who cannot be served. Who waits may go at any time, so an origin
// may be found there for nothing. As long as somebody waits there, there is neither room nor an idle connection: what
// makes room calls serve(). So nobody who comes later gets in front of him, and closing an idle one serves nobody.
#include <troth/net/http/connection_pool_detail.h>

#include <troth/runtime/exception.h>
#include <troth/timers/time_math_detail.h>

#include <algorithm>
#include <optional>

#include <poll.h>

namespace troth {
inline namespace v0 {
namespace http {
namespace detail {

// -------------------------------------------------------------------------------------------- origins and leases

ConnectionPool::OriginUse::OriginUse(Origin& origin) noexcept : origin_(&origin) { ++origin.uses; }

void ConnectionPool::OriginUse::drop() noexcept {
  if (--origin_->uses != 0) return;
  ConnectionPool& pool = origin_->pool;
  if (origin_->isNext) std::erase(pool.next_, origin_);
  pool.origins_.erase(origin_->place);
}

ConnectionPool::OriginUse ConnectionPool::use(std::string_view origin) {
  if (const auto found = origins_.find(origin); found != origins_.end()) return OriginUse(*found->second);
  const auto place = origins_.emplace(origin, nullptr).first;
  try {
    place->second = std::make_unique<Origin>(*this, place);
  } catch (...) {
    origins_.erase(place);
    throw;
  }
  return OriginUse(*place->second);
}

// For a connection that is to be made.
ConnectionPool::Lease ConnectionPool::newLease(Origin& origin) noexcept {
  ++origin.count;
  ++size_;
  return Lease(*this, origin, nullptr, KeepTerms());
}

void ConnectionPool::Lease::giveBack(std::unique_ptr<AsyncIoStream> stream, KeepTerms terms) noexcept {
  if (terms.requests > 0) stream_ = std::move(stream);
  terms_ = terms;
  release();
}

void ConnectionPool::Lease::release() noexcept {
  if (!pool_) return;
  const troth::detail::Ref<ConnectionPool> pool = std::move(pool_);
  const OriginUse origin = std::move(origin_);
  if (stream_ != nullptr && !pool->closed_) return pool->keep(*origin, std::move(stream_), terms_);
  stream_.reset();
  pool->uncount(*origin);
  pool->enqueue(*origin);
  pool->serve();
}

void ConnectionPool::uncount(Origin& origin) noexcept {
  --origin.count;
  --size_;
}

// -------------------------------------------------------------------------------------------- taking turns

ConnectionPool::~ConnectionPool() { close(); }

Promise<ConnectionPool::Lease> ConnectionPool::acquire(std::string_view name, std::source_location where) {
  if (closed_) return Exception(Exception::Kind::DISCONNECTED, "HTTP: the client was destroyed", {}, where);
  OriginUse origin = use(name);
  if (Lease idle = leaseIdle(*origin)) return idle;
  if (origin->count < limits_.perOrigin && hasRoom()) return newLease(*origin);
  struct Hold {
    troth::detail::Ref<ConnectionPool> pool;
    OriginUse origin;
  };
  auto* waiter = new Waiter(where);
  Promise<Lease> turn = troth::detail::PromiseAccess::wrap<Lease>(waiter);
  origin->waiters.add(*waiter);
  enqueue(*origin);
  serve();
  return std::move(turn).attach(Hold{troth::detail::Ref<ConnectionPool>(*this), std::move(origin)});
}

void ConnectionPool::enqueue(Origin& origin) noexcept {
  if (closed_ || origin.isNext || origin.waiters.isEmpty() || origin.count >= limits_.perOrigin) return;
  try {
    next_.push_back(&origin);
    origin.isNext = true;
  } catch (...) {
    // Without memory to note that somebody waits, nobody may wait.
    origin.waiters.failAll(Exception(Exception::Kind::OVERLOADED, "out of memory"));
  }
}

// Whether there may be one connection more: at the expense of one that nobody uses, if need be.
bool ConnectionPool::hasRoom() noexcept {
  if (size_ < limits_.total) return true;
  if (idleCount_ == 0) return false;
  close(firstToEnd());
  return true;
}

void ConnectionPool::serve() noexcept {
  while (!next_.empty()) {
    Origin& origin = *next_.front();
    const bool wants = !origin.waiters.isEmpty() && origin.count < limits_.perOrigin;
    if (wants && !hasRoom()) return;
    next_.erase(next_.begin());
    origin.isNext = false;
    if (!wants) continue;
    static_cast<Waiter&>(origin.waiters.front()).fulfill(newLease(origin));
    enqueue(origin); // behind the others
  }
}

// -------------------------------------------------------------------------------------------- idle connections

// Whether the system has bytes, or the end, that the loop has not come to reading: the next request may follow in the
// same turn as the response before.
static bool hasUnread(const AsyncIoStream& stream) noexcept {
  const std::optional<int> descriptor = stream.descriptor();
  if (!descriptor) return false;
  pollfd now{*descriptor, POLLIN, 0};
  return ::poll(&now, 1, 0) > 0;
}

ConnectionPool::Idle::Idle(ConnectionPool& pool, Origin& origin, std::unique_ptr<AsyncIoStream> stream, TimePoint end,
                           std::uint64_t requests)
    : Event(EventLoop::current()),
      pool_(pool),
      origin_(origin),
      stream_(std::move(stream)),
      end_(end),
      requests_(requests) {}

ConnectionPool::Idle::~Idle() {
  read_ = troth::detail::OwnNode();
  disarm(); // after: what goes may still have armed it
}

void ConnectionPool::Idle::watch() {
  Promise<Chunk> read = stream_->tryReadChunk(1);
  read_ = troth::detail::PromiseAccess::take(read, std::source_location::current());
  if (read_.listen(this)) armBreadthFirst();
}

std::unique_ptr<AsyncIoStream> ConnectionPool::Idle::takeStream() noexcept {
  if (hasUnread(*stream_)) return nullptr;
  read_ = troth::detail::OwnNode();
  return isArmed() ? nullptr : std::move(stream_);
}

void ConnectionPool::Idle::fire() noexcept {
  doneFiring();
  pool_.close(*this);
}

// Nothing if none is idle.
ConnectionPool::Lease ConnectionPool::leaseIdle(Origin& origin) noexcept {
  // The one that was used last is the least likely to be closed by the server.
  while (!origin.idle.empty()) {
    Idle& idle = *origin.idle.back();
    if (std::unique_ptr<AsyncIoStream> stream = idle.takeStream()) {
      const KeepTerms left{troth::detail::timeBetween(timer().now(), idle.end()), idle.requests()};
      unlink(idle);
      delete &idle;
      return Lease(*this, origin, std::move(stream), left);
    }
    close(idle);
  }
  return Lease();
}

// A connection that is counted has become idle: somebody who waits gets it, or it waits.
void ConnectionPool::keep(Origin& origin, std::unique_ptr<AsyncIoStream> stream, KeepTerms terms) noexcept {
  if (!origin.waiters.isEmpty()) {
    stream = listenedTo(origin, std::move(stream));
    if (stream != nullptr)
      return static_cast<Waiter&>(origin.waiters.front()).fulfill(Lease(*this, origin, std::move(stream), terms));
    uncount(origin);
    enqueue(origin);
    return serve();
  }
  serve(); // so that in `next_` there is only who waits
  terms.time = std::min(terms.time, limits_.idleTimeout);
  if (Idle* idle = next_.empty() && terms.time > Duration::zero() ? newIdle(origin, stream, terms) : nullptr) {
    link(*idle);
    try {
      setExpiry();
    } catch (...) {
      close(*idle); // it would never end
    }
    return;
  }
  stream.reset();
  uncount(origin);
  serve();
}

// Null if something has come on it behind the response, as of one that was idle.
std::unique_ptr<AsyncIoStream> ConnectionPool::listenedTo(Origin& origin,
                                                          std::unique_ptr<AsyncIoStream> stream) noexcept {
  try {
    Idle idle(*this, origin, std::move(stream), TimePoint(), 0);
    idle.watch();
    return idle.takeStream();
  } catch (...) {
    return nullptr;
  }
}

// Null without memory; then it is not kept.
ConnectionPool::Idle* ConnectionPool::newIdle(Origin& origin, std::unique_ptr<AsyncIoStream>& stream,
                                              KeepTerms terms) noexcept {
  try {
    if (origin.idle.size() == origin.idle.capacity()) origin.idle.reserve(2 * origin.idle.size() + 2);
    const bool isForever = terms.time == Duration::max();
    const TimePoint end = isForever ? TimePoint::max() : troth::detail::timeAfter(timer().now(), terms.time);
    auto idle = std::make_unique<Idle>(*this, origin, std::move(stream), end, terms.requests);
    idle->watch();
    return idle.release();
  } catch (...) {
    return nullptr;
  }
}

// As a rule all are kept for the same time, and each comes behind the others. Only where servers have said how long
// they keep a connection are there some to be passed.
void ConnectionPool::link(Idle& idle) noexcept {
  IdleLinks* before = idle_.earlier;
  while (before != &idle_ && static_cast<Idle*>(before)->end() > idle.end()) before = before->earlier;
  idle.earlier = before;
  idle.later = before->later;
  idle.later->earlier = &idle;
  before->later = &idle;
  ++idleCount_;
  idle.origin().idle.push_back(&idle);
}

void ConnectionPool::unlink(Idle& idle) noexcept {
  idle.earlier->later = idle.later;
  idle.later->earlier = idle.earlier;
  --idleCount_;
  std::erase(idle.origin().idle, &idle);
}

void ConnectionPool::close(Idle& idle) noexcept {
  const OriginUse origin(idle.origin());
  unlink(idle);
  delete &idle;
  uncount(*origin);
}

void ConnectionPool::close() noexcept {
  closed_ = true;
  stopAlarm();
  next_.clear();
  while (idleCount_ != 0) close(firstToEnd());
  for (auto& [name, origin] : origins_) origin->waiters.disconnectAll("HTTP: the client was destroyed");
}

void ConnectionPool::setExpiry() {
  if (idleCount_ != 0 && firstToEnd().end() != TimePoint::max())
    setAlarm(firstToEnd().end(), std::source_location::current());
}

void ConnectionPool::onAlarm(TimePoint now) noexcept {
  while (idleCount_ != 0 && firstToEnd().end() <= now) close(firstToEnd());
  try {
    setExpiry();
  } catch (...) {
    while (idleCount_ != 0) close(firstToEnd()); // nobody would do it later
  }
}

// Without a timer there is nobody who would close them.
void ConnectionPool::onAlarmFailed(const Exception&) noexcept {
  while (idleCount_ != 0) close(firstToEnd());
}

} // namespace detail
} // namespace http
} // namespace v0
} // namespace troth
