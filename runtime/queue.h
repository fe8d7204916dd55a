// SPDX-License-Identifier: MIT
// Queues between the coroutines of one loop: ProducerConsumerQueue, of items; WaiterQueue, of those who wait.
#pragma once
#define TROTH_RUNTIME_QUEUE_H

#include <troth/runtime/item_queue_detail.h>
#include <troth/runtime/promise.h>
#include <troth/runtime/waiter_detail.h>

#include <concepts>
#include <cstddef>
#include <source_location>
#include <type_traits>

namespace troth {
inline namespace v0 {

/// Promises that wait in a line until somebody fulfils them, one after the other: what locks and pools are built from.
///
/// A value goes to the waiter that it was given to, and is destroyed with that one's promise; where values must not be
/// lost, use a ProducerConsumerQueue.
///
/// Belongs to the loop on which it is first used; on another thread its functions throw FAILED. Destroying it rejects
/// those who wait with DISCONNECTED. Those who wait may destroy it when they go on.
template <typename T>
class WaiterQueue {
public:
  WaiterQueue() = default;
  ~WaiterQueue();
  WaiterQueue(const WaiterQueue&) = delete;
  WaiterQueue& operator=(const WaiterQueue&) = delete;

  /// Waits behind those who wait already.
  ///
  /// Completes:    when fulfill() or reject() reaches it.
  /// Errors:       what reject() was given; DISCONNECTED when the queue is destroyed.
  /// Cancellation: clean: it leaves the line.
  Promise<T> wait(std::source_location where = std::source_location::current());

  /// Gives `value` to the first who waits. Throws FAILED if nobody does.
  void fulfill(detail::FixVoid<T> value, std::source_location where = std::source_location::current());
  void fulfill(std::source_location where = std::source_location::current())
    requires std::is_void_v<T>;

  /// Makes the first promise fail. Throws FAILED if nobody waits.
  void reject(Exception exception, std::source_location where = std::source_location::current());

  /// Whether nobody waits.
  bool isEmpty() const noexcept { return waiters_.isEmpty(); }

private:
  class Node;

  detail::HomeLoop home_;
  detail::WaiterList waiters_;

  Node& first(const char* what, const std::source_location& where);
};

/// Items on their way from those who make them to those who use them, in order and without a bound: push() never
/// waits, so a slow consumer lets the queue grow. There is no back-pressure; a Channel (troth/runtime/channel.h) has
/// it.
///
/// Of several pops the oldest gets the oldest item. An item belongs to the queue until the result of a pop has been
/// *taken* (by `co_await`, `wait()` or a continuation; eagerlyEvaluate(), fork() and Canceler::wrap() take it as soon
/// as it is there): a pop that is destroyed before, though it was ready, loses nothing, and the order of the items
/// holds whatever is cancelled. `T` may be move-only; moving it must not throw.
///
/// Belongs to the loop on which it is first used; on another thread its functions throw FAILED, and destroying a
/// pending pop aborts. Destroying the queue rejects the pops that wait with DISCONNECTED; those that are ready keep
/// their items. Those who wait may destroy it when they go on. An operation costs no heap allocation once the queue
/// has been as long as it gets.
template <typename T>
class ProducerConsumerQueue {
public:
  ProducerConsumerQueue() = default;
  ProducerConsumerQueue(const ProducerConsumerQueue&) = delete;
  ProducerConsumerQueue& operator=(const ProducerConsumerQueue&) = delete;

  /// Puts `item` at the end.
  void push(T item, std::source_location where = std::source_location::current());

  /// Takes the oldest item.
  ///
  /// Completes:    when there is an item that no older pop has a claim to; it may be at once.
  /// Errors:       what rejectAll() was given; DISCONNECTED when the queue is destroyed.
  /// Cancellation: clean, even when it is ready: the item goes to the next pop.
  /// Overlap:      any number, served in their order.
  Promise<T> pop(std::source_location where = std::source_location::current());

  /// Makes all the pops fail that wait now. Later ones are not affected.
  void rejectAll(const Exception& exception, std::source_location where = std::source_location::current());

  /// The number of items that no pop has a claim to.
  std::size_t size() const noexcept { return items_.unclaimed(); }
  bool isEmpty() const noexcept { return size() == 0; }

private:
  detail::ItemQueue<T, false> items_;
};

} // namespace v0
} // namespace troth

#include <troth/runtime/queue-inl.h> // IWYU pragma: export
