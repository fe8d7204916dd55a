// SPDX-License-Identifier: MIT
// A pool of permits with a line in front of it: what Semaphore and AsyncMutex are.
//
// Invariant: if somebody waits, the permits that are there are not enough for the first. So whoever comes when nobody
// waits may look at `available_` alone, and whenever permits come back or the first leaves, the line is served from its
// front until the permits are not enough. A waiter that is served gets its permits into its result, where they go back
// by themselves if nobody takes them.
#include <troth/runtime/sync.h>

#include <type_traits>

namespace troth {
inline namespace v0 {
namespace detail {

class PermitWaiter : public Waiter {
public:
  PermitWaiter(PermitPool& pool, std::size_t count, std::source_location where) noexcept
      : Waiter(where), pool_(pool), count_(count) {}

  std::size_t count() const noexcept { return count_; }
  /// The permits were taken for it.
  virtual void serve() noexcept = 0;

protected:
  /// To be called before it is destroyed.
  void leaveLine() noexcept;

  PermitPool& pool_; // alive while this is linked

private:
  std::size_t count_;
};

class PermitPool final : public Pooled {
public:
  explicit PermitPool(std::size_t permits) noexcept : total_(permits), available_(permits) {}
  PermitPool(const PermitPool&) = delete;
  PermitPool& operator=(const PermitPool&) = delete;

  std::size_t available() const noexcept { return available_; }
  void require(const char* what, const std::source_location& where) { home_.require(what, where); }

  /// Throws FAILED if there are not so many permits in all.
  void requireTotal(std::size_t count, const std::source_location& where) const {
    if (count > total_) [[unlikely]]
      throwMisuse("a Semaphore was asked for more permits than it has in all", where);
  }

  /// Takes permits if nobody is in front and they are there.
  bool tryTake(std::size_t count) noexcept {
    if (count > available_ || !line_.isEmpty()) return false;
    available_ -= count;
    return true;
  }

  template <typename Handle>
  Promise<Handle> take(std::size_t count, const std::source_location& where);

  void giveBack(std::size_t count) noexcept {
    home_.requireOrAbort("a lock or a permit was released", std::source_location());
    available_ += count;
    serveLine();
  }

  void leaveLine(PermitWaiter& waiter) noexcept {
    home_.requireOrAbort("a promise was destroyed", waiter.where());
    waiter.unlink();
    serveLine();
  }

  /// The owner is destroyed.
  void close(const char* why) noexcept {
    if (references_ > 1) home_.requireOrAbort("a lock or a semaphore of which something is held was destroyed", {});
    line_.disconnectAll(why);
    dropReference();
  }

  void addReference() noexcept { ++references_; }
  void dropReference() noexcept {
    if (--references_ == 0) delete this;
  }

private:
  std::size_t references_ = 1;
  std::size_t total_;
  std::size_t available_;
  WaiterList line_;
  HomeLoop home_;

  void serveLine() noexcept {
    while (!line_.isEmpty()) {
      auto& first = static_cast<PermitWaiter&>(line_.front());
      if (first.count() > available_) return;
      available_ -= first.count();
      first.unlink();
      first.serve();
    }
  }
};

inline void PermitWaiter::leaveLine() noexcept {
  if (isLinked()) pool_.leaveLine(*this);
}

namespace {

/// `Handle` is a Permit or a Lock.
template <typename Handle>
class AcquireNode final : public PermitWaiter {
public:
  using PermitWaiter::PermitWaiter;

  void serve() noexcept override {
    value_.value.emplace(HeldPermits(pool_, count()));
    setReady();
  }
  ResultBase& get(ResultBase*) noexcept override { return value_; }
  void destroy() noexcept override {
    leaveLine();
    delete this;
  }
  const char* name() const noexcept override {
    return std::is_same_v<Handle, AsyncMutex::Lock> ? "AsyncMutex::lock" : "Semaphore::acquire";
  }

private:
  Result<Handle> value_;

  ResultBase& result() noexcept override { return value_; }
};

} // namespace

template <typename Handle>
Promise<Handle> PermitPool::take(std::size_t count, const std::source_location& where) {
  auto* node = new AcquireNode<Handle>(*this, count, where);
  if (tryTake(count))
    node->serve();
  else
    line_.add(*node);
  return PromiseAccess::wrap<Handle>(node);
}

HeldPermits::HeldPermits(PermitPool& pool, std::size_t count) noexcept : pool_(&pool), count_(count) {
  pool.addReference();
}

void HeldPermits::giveBack() noexcept {
  PermitPool* pool = std::exchange(pool_, nullptr);
  pool->giveBack(std::exchange(count_, 0));
  pool->dropReference();
}

} // namespace detail

// --- Semaphore

Semaphore::Semaphore(std::size_t permits) : pool_(new detail::PermitPool(permits)) {}

Semaphore::~Semaphore() { pool_->close("the semaphore was destroyed while an acquire waited"); }

Promise<Semaphore::Permit> Semaphore::acquire(std::size_t count, std::source_location where) {
  pool_->require("Semaphore::acquire was called", where);
  pool_->requireTotal(count, where);
  return pool_->take<Permit>(count, where);
}

std::optional<Semaphore::Permit> Semaphore::tryAcquire(std::size_t count, std::source_location where) {
  pool_->require("Semaphore::tryAcquire was called", where);
  pool_->requireTotal(count, where);
  if (!pool_->tryTake(count)) return std::nullopt;
  return Permit(detail::HeldPermits(*pool_, count));
}

std::size_t Semaphore::available() const noexcept { return pool_->available(); }

// --- AsyncMutex

AsyncMutex::AsyncMutex() : pool_(new detail::PermitPool(1)) {}

AsyncMutex::~AsyncMutex() { pool_->close("the mutex was destroyed while a lock waited for it"); }

Promise<AsyncMutex::Lock> AsyncMutex::lock(std::source_location where) {
  pool_->require("AsyncMutex::lock was called", where);
  return pool_->take<Lock>(1, where);
}

std::optional<AsyncMutex::Lock> AsyncMutex::tryLock(std::source_location where) {
  pool_->require("AsyncMutex::tryLock was called", where);
  if (!pool_->tryTake(1)) return std::nullopt;
  return Lock(detail::HeldPermits(*pool_, 1));
}

bool AsyncMutex::isLocked() const noexcept { return pool_->available() == 0; }

// --- AsyncEvent

class AsyncEvent::Node final : public detail::ValueWaiter<detail::Void> {
public:
  using ValueWaiter::ValueWaiter;
  const char* name() const noexcept override { return "AsyncEvent::wait"; }
};

AsyncEvent::~AsyncEvent() { waiters_.disconnectAll("the event was destroyed before it was set"); }

void AsyncEvent::set(std::source_location where) {
  home_.require("AsyncEvent::set was called", where);
  set_ = true;
  while (!waiters_.isEmpty()) static_cast<Node&>(waiters_.front()).fulfill({});
}

Promise<void> AsyncEvent::wait(std::source_location where) {
  home_.require("AsyncEvent::wait was called", where);
  if (set_) return READY_NOW;
  auto* node = new Node(where);
  waiters_.add(*node);
  return detail::PromiseAccess::wrap<void>(node);
}

} // namespace v0
} // namespace troth
