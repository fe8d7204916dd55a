// SPDX-License-Identifier: MIT
// Channel: items on their way between the coroutines of one loop, with a bound that senders wait at.
#pragma once
#define TROTH_RUNTIME_CHANNEL_H

#include <troth/runtime/item_queue_detail.h>
#include <troth/runtime/promise.h>
#include <troth/runtime/waiter_detail.h>

#include <concepts>
#include <cstddef>
#include <memory>
#include <optional>
#include <source_location>

namespace troth {
inline namespace v0 {

/// A queue of at most `capacity` items: who sends too fast waits, so that a slow receiver slows the senders down
/// (back-pressure). With a capacity of 0 a send waits for its receive.
///
///     while (std::optional<Job> job = co_await jobs.receive()) co_await work(*job);
///
/// Items come out in the order in which they were sent, and of several receives the oldest gets the oldest item. An
/// item belongs to the channel until the result of a receive has been *taken*: a receive that is destroyed before,
/// though it was ready, loses nothing. (Then the channel may hold more than `capacity` items for a while.) `T` may be
/// move-only; moving it must not throw.
///
/// Where the two sides are objects of their own, newChannel() gives each an end that closes its side when it goes.
///
/// Belongs to the loop on which it is first used; on another thread its functions throw FAILED, and destroying a
/// pending operation aborts. Destroying the channel rejects the sends and receives that wait with DISCONNECTED;
/// receives that are ready keep their items. Those who wait may destroy it when they go on. An operation costs no
/// heap allocation once the channel has been as full as it gets.
template <typename T>
class Channel {
public:
  explicit Channel(std::size_t capacity) noexcept : capacity_(capacity) {}
  ~Channel();
  Channel(const Channel&) = delete;
  Channel& operator=(const Channel&) = delete;

  /// Sends `item`.
  ///
  /// Completes:    when the channel has accepted the item: there is room, or a receive waits; it may be at once.
  /// Errors:       DISCONNECTED if the channel is closed, or if the receiver's side closes before there is room.
  /// Cancellation: clean while pending: the item is withdrawn and nobody will see it. An accepted one stays.
  /// Overlap:      any number, accepted in their order.
  Promise<void> send(T item, std::source_location where = std::source_location::current());

  /// Sends an item made from `value` if the channel accepts it at once. Otherwise, that is if it is full or closed,
  /// returns false and leaves `value` alone.
  template <typename U = T>
    requires std::constructible_from<T, U&&>
  bool trySend(U&& value, std::source_location where = std::source_location::current());

  /// Takes the oldest item.
  ///
  /// Completes:    when there is an item that no older receive has a claim to, or never will be one.
  /// Result:       the item; nothing if the channel is closed and all items have been received.
  /// Errors:       DISCONNECTED when the channel is destroyed.
  /// Cancellation: clean, even when it is ready: the item goes to the next receive.
  /// Overlap:      any number, served in their order.
  Promise<std::optional<T>> receive(std::source_location where = std::source_location::current());

  /// Takes the oldest item that no receive has a claim to, if there is one.
  std::optional<T> tryReceive(std::source_location where = std::source_location::current());

  /// Of the senders' side: nothing more will be sent. What was sent is received before the end, and so is what waits
  /// in a send() now. No effect if closed already.
  void close(std::source_location where = std::source_location::current());

  /// Of the receiver's side: nothing more will be accepted. Sends that wait fail with DISCONNECTED; what was accepted
  /// can still be received.
  void closeReceiver(std::source_location where = std::source_location::current());

  /// Whether one of the sides has closed, and a send must fail.
  bool isClosed() const noexcept { return closed_; }
  /// The number of accepted items that no receive has a claim to.
  std::size_t size() const noexcept { return items_.unclaimed(); }
  std::size_t capacity() const noexcept { return capacity_; }

private:
  class Send;
  template <typename U>
  friend class ChannelSender;
  template <typename U>
  friend class ChannelReceiver;

  std::size_t capacity_;
  bool closed_ = false;
  detail::WaiterList sends_; // those that wait
  detail::ItemQueue<T, true> items_;

  bool hasRoom() const noexcept { return items_.isAwaited() || items_.unclaimed() < capacity_; }
  void acceptNext();
  void endSending() noexcept;
  void endReceiving() noexcept;
};

/// The sending end of a channel made by newChannel(). Copies send into the same channel; when the last of them is
/// destroyed, that side is closed. (A coroutine's parameters live as long as its promise: a sender that was passed to
/// one that has ended closes with the promise.) An end that was moved from can only be destroyed or assigned to.
template <typename T>
class ChannelSender {
public:
  /// As Channel::send(). The promise does not need this end.
  Promise<void> send(T item, std::source_location where = std::source_location::current()) {
    return channel(where).send(std::move(item), where);
  }
  /// As Channel::trySend().
  template <typename U = T>
    requires std::constructible_from<T, U&&>
  bool trySend(U&& value, std::source_location where = std::source_location::current()) {
    return channel(where).trySend(std::forward<U>(value), where);
  }
  /// Closes the channel for all senders, as Channel::close().
  void close(std::source_location where = std::source_location::current()) { channel(where).close(where); }
  /// Whether a send must fail: false means that somebody may still receive.
  bool isClosed(std::source_location where = std::source_location::current()) const {
    return channel(where).isClosed();
  }

private:
  struct End;
  template <typename U>
  friend struct ChannelEnds;

  std::shared_ptr<End> end_; // of all the copies

  explicit ChannelSender(std::shared_ptr<Channel<T>> channel);
  Channel<T>& channel(const std::source_location& where) const;
};

/// The receiving end of a channel made by newChannel(). Destroying it closes that side, and destroys the items that no
/// receive has a claim to. An end that was moved from can only be destroyed or assigned to.
template <typename T>
class ChannelReceiver {
public:
  /// As Channel::receive(). The promise outlives this end: it is ready then, with its item or with nothing.
  Promise<std::optional<T>> receive(std::source_location where = std::source_location::current()) {
    return channel(where).receive(where);
  }
  /// As Channel::tryReceive().
  std::optional<T> tryReceive(std::source_location where = std::source_location::current()) {
    return channel(where).tryReceive(where);
  }
  /// As Channel::closeReceiver(): what was accepted can still be received.
  void close(std::source_location where = std::source_location::current()) { channel(where).closeReceiver(where); }
  /// As Channel::size().
  std::size_t size(std::source_location where = std::source_location::current()) const { return channel(where).size(); }

private:
  struct End;
  template <typename U>
  friend struct ChannelEnds;

  std::unique_ptr<End> end_;

  explicit ChannelReceiver(std::shared_ptr<Channel<T>> channel);
  Channel<T>& channel(const std::source_location& where) const;
};

/// What newChannel() gives: `auto [sender, receiver] = newChannel<Job>(16);`
template <typename T>
struct ChannelEnds {
  ChannelSender<T> sender;
  ChannelReceiver<T> receiver;

  explicit ChannelEnds(std::shared_ptr<Channel<T>> channel) : sender(channel), receiver(std::move(channel)) {}
};

/// A channel that lives as long as one of its ends.
template <typename T>
ChannelEnds<T> newChannel(std::size_t capacity) {
  return ChannelEnds<T>(std::make_shared<Channel<T>>(capacity));
}

} // namespace v0
} // namespace troth

#include <troth/runtime/channel-inl.h> // IWYU pragma: export
