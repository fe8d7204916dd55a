// SPDX-License-Identifier: MIT
// What queues, channels and locks are made of: promises that wait in a list, and the loop that they belong to.
#pragma once

#include <troth/runtime/node_detail.h>

#include <cstddef>
#include <source_location>
#include <string_view>

namespace troth {
inline namespace v0 {
namespace detail {

/// The loop that an object belongs to: the one on which it is first used. (Not where it is made, so that it may be a
/// member of what is made before the loop.)
class HomeLoop {
public:
  /// Throws FAILED if this thread runs another loop, or none.
  void require(const char* what, const std::source_location& where) {
    if (EventLoop* current = EventLoop::currentOrNull(); current != loop_) [[unlikely]]
      settle(current, what, where);
  }
  /// The same where nothing can be thrown: aborts. A thread without a loop may do it while no thread has entered this
  /// one.
  void requireOrAbort(const char* what, const std::source_location& where) const noexcept {
    if (EventLoop::currentOrNull() != loop_ && loop_ != nullptr) [[unlikely]]
      abortIfElsewhere(what, where);
  }

private:
  EventLoop* loop_ = nullptr;

  void settle(EventLoop* current, const char* what, const std::source_location& where);
  void abortIfElsewhere(const char* what, const std::source_location& where) const noexcept;
};

/// The ends of a list's element; null while it is in no list.
struct WaiterLinks {
  WaiterLinks* next = nullptr;
  WaiterLinks* prev = nullptr;
};

/// A promise that waits in a list until somebody fulfils it, or until it is destroyed. Nobody chains much to it, so it
/// has a block of its own, made by `new`. A destroy() takes it out of its list and deletes it.
class Waiter : public SourceNode, public Pooled, private WaiterLinks {
public:
  bool isLinked() const noexcept { return next != nullptr; }
  void unlink() noexcept {
    next->prev = prev;
    prev->next = next;
    next = prev = nullptr;
  }

  /// Leaves the list with an exception as result.
  void fail(Exception exception) noexcept {
    unlink();
    setFailed(result(), std::move(exception));
  }

protected:
  using SourceNode::SourceNode;

  virtual ResultBase& result() noexcept = 0;

private:
  friend class WaiterList;
};

/// A Waiter for a value that somebody gives it.
template <typename T>
class ValueWaiter : public Waiter {
public:
  explicit ValueWaiter(std::source_location where) noexcept : Waiter(where) {}

  /// Leaves the list with `value`.
  void fulfill(T value) {
    result_.value.emplace(std::move(value));
    unlink();
    setReady();
  }
  ResultBase& get(ResultBase*) noexcept final { return result_; }
  void destroy() noexcept final {
    requireThreadToGo();
    if (isLinked()) unlink();
    delete this;
  }

private:
  Result<T> result_;

  ResultBase& result() noexcept final { return result_; }
};

/// The waiters of one object, first come, first served. It does not own them: their promises do.
class WaiterList {
public:
  WaiterList() noexcept { ring_.next = ring_.prev = &ring_; }
  WaiterList(const WaiterList&) = delete;
  WaiterList& operator=(const WaiterList&) = delete;

  bool isEmpty() const noexcept { return ring_.next == &ring_; }
  Waiter& front() const noexcept { return static_cast<Waiter&>(*ring_.next); }
  bool isFront(const Waiter& waiter) const noexcept { return ring_.next == &waiter; }

  void add(Waiter& waiter) noexcept {
    WaiterLinks& links = waiter;
    links.prev = ring_.prev;
    links.next = &ring_;
    ring_.prev->next = &links;
    ring_.prev = &links;
  }

  /// How many of the list's `size` waiters are in front of this one. Takes as many steps as it is away from the nearer
  /// end.
  std::size_t countBefore(const Waiter& waiter, std::size_t size) const noexcept;

  void failAll(const Exception& exception) noexcept;

  /// Fails all with DISCONNECTED, each with the place where it began to wait; for destructors. Aborts if they wait on
  /// another loop than this thread's.
  void disconnectAll(const char* why) noexcept;

private:
  WaiterLinks ring_;
};

} // namespace detail
} // namespace v0
} // namespace troth
