// SPDX-License-Identifier: MIT
// ConnectionPool: the connections of a client, those that are used and those that wait for the next request.
#pragma once

#include <troth/io/stream.h>
#include <troth/net/http/pool_allocator_detail.h>
#include <troth/runtime/ref_detail.h>
#include <troth/runtime/waiter_detail.h>
#include <troth/timers/alarm_detail.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <source_location>
#include <string_view>
#include <utility>

namespace troth {
inline namespace v0 {
namespace http {
namespace detail {

struct PoolLimits {
  std::size_t perOrigin;
  std::size_t total;
  Duration idleTimeout;
};

/// How long a connection is good for, as far as its server has said.
struct KeepTerms {
  Duration time = Duration::max();                                    // that it may be idle
  std::uint64_t requests = std::numeric_limits<std::uint64_t>::max(); // that it still takes
};

/// Connections by their origin, a text that says what they lead to. The pool makes none: it gives out the right to have
/// one, a Lease, and with it one that is idle, if there is.
///
/// Who cannot have one waits. Of one origin, first come, first served; origins that wait for the total limit take
/// turns, and an idle connection of another origin is closed for their sake. None is kept that takes no more requests.
/// An idle connection is closed when its time is over (that of the limits, or less if its server has said so), or as
/// soon as a byte, or the end, comes on it: the byte would be taken for the answer to the next request.
///
/// Shared by its owner and its leases, so that they may go in any order; close() is for the owner to call.
class ConnectionPool final : public troth::detail::Counted, public troth::detail::Pooled, private troth::detail::Alarm {
  struct Origin;
  class Idle;

  /// Keeps an origin in the map.
  class OriginUse {
  public:
    OriginUse() noexcept = default;
    explicit OriginUse(Origin& origin) noexcept;
    OriginUse(OriginUse&& other) noexcept : origin_(std::exchange(other.origin_, nullptr)) {}
    OriginUse& operator=(OriginUse&& other) noexcept {
      std::swap(origin_, other.origin_);
      return *this;
    }
    ~OriginUse() {
      if (origin_ != nullptr) drop();
    }
    Origin* operator->() const noexcept { return origin_; }
    Origin& operator*() const noexcept { return *origin_; }

  private:
    Origin* origin_ = nullptr;
    void drop() noexcept;
  };

public:
  /// The right to one connection to an origin. Destroying it gives the right back, and an idle connection that came
  /// with it and was not taken.
  class Lease {
  public:
    Lease() noexcept = default;
    Lease(Lease&& other) noexcept = default;
    Lease& operator=(Lease&& other) noexcept {
      Lease old(std::move(other));
      swap(old);
      return *this;
    }
    ~Lease() { release(); }

    explicit operator bool() const noexcept { return static_cast<bool>(pool_); }
    /// The idle connection that came with it; null if one is to be made, or after the first call.
    std::unique_ptr<AsyncIoStream> takeStream() noexcept { return std::move(stream_); }
    /// How many requests that one takes.
    std::uint64_t requests() const noexcept { return terms_.requests; }
    /// Ends the lease; the connection waits for the next request, if `terms` allow one.
    void giveBack(std::unique_ptr<AsyncIoStream> stream, KeepTerms terms) noexcept;
    void release() noexcept;

  private:
    friend class ConnectionPool;
    Lease(ConnectionPool& pool, Origin& origin, std::unique_ptr<AsyncIoStream> stream, KeepTerms terms) noexcept
        : pool_(pool), origin_(origin), stream_(std::move(stream)), terms_(terms) {}
    void swap(Lease& other) noexcept {
      std::swap(pool_, other.pool_);
      std::swap(origin_, other.origin_);
      std::swap(stream_, other.stream_);
      std::swap(terms_, other.terms_);
    }

    troth::detail::Ref<ConnectionPool> pool_; // outlives the use of the origin
    OriginUse origin_;
    std::unique_ptr<AsyncIoStream> stream_;
    KeepTerms terms_; // of the stream
  };

  ConnectionPool(Timer& timer, PoolLimits limits) noexcept : Alarm(timer), limits_(limits) {}
  ~ConnectionPool() override;

  /// Completes:    when there is room for a connection to `origin`, or an idle one; it may be at once.
  /// Errors:       DISCONNECTED if the pool is closed.
  /// Cancellation: clean: the place goes to the next.
  Promise<Lease> acquire(std::string_view origin, std::source_location where);

  /// Closes what is idle, and keeps no connection from now on.
  void close() noexcept;

  /// How many connections there are, in use and idle.
  std::size_t size() const noexcept { return size_; }
  std::size_t idle() const noexcept { return idleCount_; }

private:
  class Waiter final : public troth::detail::ValueWaiter<Lease> {
  public:
    using ValueWaiter::ValueWaiter;
    const char* name() const noexcept override { return "waiting for an HTTP connection"; }
  };
  struct IdleLinks {
    IdleLinks* later = this; // of the pool's ring, which is empty at first
    IdleLinks* earlier = this;
  };
  using OwnOrigin = std::unique_ptr<Origin>;
  using Origins = std::map<PoolString, OwnOrigin, std::less<>, PoolAllocator<std::pair<const PoolString, OwnOrigin>>>;

  /// A connection that nobody uses. It listens: whatever comes ends it.
  class Idle final : public troth::detail::Event, public troth::detail::Pooled, public IdleLinks {
  public:
    Idle(ConnectionPool& pool, Origin& origin, std::unique_ptr<AsyncIoStream> stream, TimePoint end,
         std::uint64_t requests);
    ~Idle() override;

    Origin& origin() const noexcept { return *origin_; }
    /// When its time is over.
    TimePoint end() const noexcept { return end_; }
    /// How many it takes.
    std::uint64_t requests() const noexcept { return requests_; }
    /// Begins to listen.
    void watch();
    /// Null if something has come.
    std::unique_ptr<AsyncIoStream> takeStream() noexcept;

  private:
    ConnectionPool& pool_;
    OriginUse origin_;
    std::unique_ptr<AsyncIoStream> stream_;
    troth::detail::OwnNode read_; // destroyed before the stream
    TimePoint end_;
    std::uint64_t requests_;

    void fire() noexcept override;
  };

  struct Origin : troth::detail::Pooled {
    Origin(ConnectionPool& p, Origins::iterator at) noexcept : pool(p), place(at) {}
    Origin(const Origin&) = delete;
    Origin& operator=(const Origin&) = delete;

    ConnectionPool& pool;
    Origins::iterator place;
    std::size_t uses = 0;  // OriginUses
    std::size_t count = 0; // connections, in use and idle
    bool isNext = false;   // among those that wait for the total limit alone
    PoolVector<Idle*> idle;
    troth::detail::WaiterList waiters;
  };

  const PoolLimits limits_;
  Origins origins_;
  std::size_t size_ = 0;
  std::size_t idleCount_ = 0;
  IdleLinks idle_; // a ring, by when they end
  PoolVector<Origin*> next_;
  bool closed_ = false;

  OriginUse use(std::string_view origin);
  Lease newLease(Origin& origin) noexcept;
  Lease leaseIdle(Origin& origin) noexcept;
  void keep(Origin& origin, std::unique_ptr<AsyncIoStream> stream, KeepTerms terms) noexcept;
  std::unique_ptr<AsyncIoStream> listenedTo(Origin& origin, std::unique_ptr<AsyncIoStream> stream) noexcept;
  Idle* newIdle(Origin& origin, std::unique_ptr<AsyncIoStream>& stream, KeepTerms terms) noexcept;
  void link(Idle& idle) noexcept;
  void unlink(Idle& idle) noexcept;
  Idle& firstToEnd() const noexcept { return static_cast<Idle&>(*idle_.later); }
  void close(Idle& idle) noexcept;
  void uncount(Origin& origin) noexcept;
  void enqueue(Origin& origin) noexcept;
  bool hasRoom() noexcept;
  void serve() noexcept;
  void setExpiry();
  void onAlarm(TimePoint now) noexcept override;
  void onAlarmFailed(const Exception& exception) noexcept override;
};

} // namespace detail
} // namespace http
} // namespace v0
} // namespace troth
