// SPDX-License-Identifier: MIT
// AsyncMutex, Semaphore and AsyncEvent: with what the coroutines of one loop wait for each other.
#pragma once

#include <troth/runtime/promise.h>
#include <troth/runtime/waiter_detail.h>

#include <cstddef>
#include <optional>
#include <source_location>
#include <utility>

namespace troth {
inline namespace v0 {

namespace detail {

class PermitPool;

/// Some permits of a pool, which go back when this is destroyed. It shares the ownership of the pool.
class HeldPermits {
public:
  HeldPermits() noexcept = default;
  /// Takes the ownership of `count` permits that were taken from the pool.
  HeldPermits(PermitPool& pool, std::size_t count) noexcept;
  HeldPermits(HeldPermits&& other) noexcept
      : pool_(std::exchange(other.pool_, nullptr)), count_(std::exchange(other.count_, 0)) {}
  HeldPermits& operator=(HeldPermits&& other) noexcept {
    HeldPermits old(std::move(other));
    std::swap(pool_, old.pool_);
    std::swap(count_, old.count_);
    return *this;
  }
  ~HeldPermits() { release(); }

  void release() noexcept {
    if (pool_ != nullptr) giveBack();
  }
  bool isHeld() const noexcept { return pool_ != nullptr; }
  std::size_t count() const noexcept { return count_; }

private:
  PermitPool* pool_ = nullptr;
  std::size_t count_ = 0;

  void giveBack() noexcept;
};

} // namespace detail

/// Lets at most `permits` of those who acquire one go on at a time: for limits such as connections to a database.
///
///     Semaphore::Permit permit = co_await slots.acquire();
///
/// Fair: first come, first served, also when they want different numbers. Who comes later waits even if there are
/// enough permits for it, as long as somebody in front of it waits for more; so a large request is served in the end.
///
/// Belongs to the loop on which it is first used; on another thread its functions throw FAILED, and releasing a permit
/// aborts. Destroying it rejects those who wait with DISCONNECTED; permits that are held stay valid and go nowhere.
/// Those who wait may destroy it when they go on. An operation costs no heap allocation.
class Semaphore {
public:
  /// What acquire() gives: the permits go back when it is destroyed. It may outlive the semaphore.
  class [[nodiscard("a permit goes back when it is destroyed")]] Permit {
  public:
    /// No permits.
    Permit() noexcept = default;
    /// The permits go back now.
    void release() noexcept { held_.release(); }
    /// The number of permits that are held.
    std::size_t count() const noexcept { return held_.count(); }

    explicit Permit(detail::HeldPermits held) noexcept : held_(std::move(held)) {}

  private:
    detail::HeldPermits held_;
  };

  explicit Semaphore(std::size_t permits);
  ~Semaphore();
  Semaphore(const Semaphore&) = delete;
  Semaphore& operator=(const Semaphore&) = delete;

  /// Takes `count` permits. Throws FAILED if the semaphore has not that many in all.
  ///
  /// Completes:    when nobody waits in front and the permits are there; it may be at once.
  /// Errors:       DISCONNECTED when the semaphore is destroyed.
  /// Cancellation: clean, even when it is ready: the permits go to the next.
  Promise<Permit> acquire(std::size_t count = 1, std::source_location where = std::source_location::current());

  /// Takes `count` permits if acquire() would have them at once.
  std::optional<Permit> tryAcquire(std::size_t count = 1, std::source_location where = std::source_location::current());

  /// The number of permits that nobody holds.
  std::size_t available() const noexcept;

private:
  detail::PermitPool* pool_;
};

/// Mutual exclusion between coroutines: for state that must not change between one co_await and the next.
///
///     AsyncMutex::Lock lock = co_await mutex.lock();
///
/// Fair: it is handed from each holder to the next in the order of lock(), and nobody gets in between. Not recursive:
/// who waits for it while holding it waits for ever. Code that does not await anything needs no mutex: no other code of
/// the loop runs meanwhile.
///
/// Belongs to the loop on which it is first used; on another thread its functions throw FAILED, and unlocking aborts.
/// Destroying it rejects those who wait with DISCONNECTED; a Lock that is held stays valid and protects nothing more.
/// Those who wait may destroy it when they go on. An operation costs no heap allocation.
class AsyncMutex {
public:
  /// What lock() gives: unlocks when it is destroyed. It may outlive the mutex.
  class [[nodiscard("a lock that is destroyed at once protects nothing")]] Lock {
  public:
    /// A lock on nothing.
    Lock() noexcept = default;
    /// Unlocks now.
    void unlock() noexcept { held_.release(); }
    /// Whether the mutex is locked by this.
    bool isHeld() const noexcept { return held_.isHeld(); }

    explicit Lock(detail::HeldPermits held) noexcept : held_(std::move(held)) {}

  private:
    detail::HeldPermits held_;
  };

  AsyncMutex();
  ~AsyncMutex();
  AsyncMutex(const AsyncMutex&) = delete;
  AsyncMutex& operator=(const AsyncMutex&) = delete;

  /// Locks the mutex.
  ///
  /// Completes:    when all who came before have unlocked it; at once if it is not locked.
  /// Errors:       DISCONNECTED when the mutex is destroyed.
  /// Cancellation: clean, even when it is ready: the lock goes to the next.
  Promise<Lock> lock(std::source_location where = std::source_location::current());

  /// Locks the mutex if it is not locked.
  std::optional<Lock> tryLock(std::source_location where = std::source_location::current());

  bool isLocked() const noexcept;

private:
  detail::PermitPool* pool_; // of one permit
};

/// A condition that many may wait for. It stays set until it is reset.
///
/// Belongs to the loop on which it is first used; on another thread set() and wait() throw FAILED. Destroying it
/// rejects those who wait with DISCONNECTED. Those who wait may destroy it when they go on.
class AsyncEvent {
public:
  AsyncEvent() = default;
  ~AsyncEvent();
  AsyncEvent(const AsyncEvent&) = delete;
  AsyncEvent& operator=(const AsyncEvent&) = delete;

  /// All who wait go on, in their order, and until reset() nobody has to wait.
  void set(std::source_location where = std::source_location::current());
  /// Who comes from now on waits for the next set(). Those who were let go on do.
  void reset() noexcept { set_ = false; }
  bool isSet() const noexcept { return set_; }

  /// Completes:    when the event is set; at once if it is.
  /// Errors:       DISCONNECTED when the event is destroyed.
  /// Cancellation: clean.
  Promise<void> wait(std::source_location where = std::source_location::current());

private:
  class Node;

  bool set_ = false;
  detail::HomeLoop home_;
  detail::WaiterList waiters_;
};

} // namespace v0
} // namespace troth
