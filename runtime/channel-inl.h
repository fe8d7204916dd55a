// SPDX-License-Identifier: MIT
// The bodies of channel.h's templates.
#pragma once

#ifndef TROTH_RUNTIME_CHANNEL_H
#error "include <troth/runtime/channel.h> instead"
#endif

// Invariants: a send waits only while there is no room, hence while no receive waits; once closed, no receive waits.
// Room comes with a receive (or a tryReceive) alone, one item's worth at a time, and is given to the first send then.

namespace troth {
inline namespace v0 {

/// A send that waits, with its item.
template <typename T>
class Channel<T>::Send final : public detail::ValueWaiter<detail::Void> {
public:
  Send(T&& value, std::source_location where) noexcept : ValueWaiter(where), item(std::move(value)) {}

  T item;

  const char* name() const noexcept override { return "Channel::send"; }
};

template <typename T>
Channel<T>::~Channel() {
  sends_.disconnectAll("the channel was destroyed before it accepted the item");
}

template <typename T>
Promise<void> Channel<T>::send(T item, std::source_location where) {
  items_.require("Channel::send was called", where);
  if (closed_) [[unlikely]]
    return Promise<void>(Exception(Exception::Kind::DISCONNECTED, "the channel is closed", {}, where), where);
  if (hasRoom()) {
    items_.push(std::move(item));
    return READY_NOW;
  }
  auto* send = new Send(std::move(item), where);
  sends_.add(*send);
  return detail::PromiseAccess::wrap<void>(send);
}

template <typename T>
template <typename U>
  requires std::constructible_from<T, U&&>
bool Channel<T>::trySend(U&& value, std::source_location where) {
  items_.require("Channel::trySend was called", where);
  if (closed_ || !hasRoom()) return false;
  items_.push(T(std::forward<U>(value)));
  return true;
}

template <typename T>
Promise<std::optional<T>> Channel<T>::receive(std::source_location where) {
  items_.require("Channel::receive was called", where);
  auto promise = detail::PromiseAccess::wrap<std::optional<T>>(items_.take(closed_ && sends_.isEmpty(), where));
  acceptNext();
  return promise;
}

template <typename T>
std::optional<T> Channel<T>::tryReceive(std::source_location where) {
  items_.require("Channel::tryReceive was called", where);
  std::optional<T> item = items_.tryTake();
  if (item) {
    acceptNext();
  } else if (!sends_.isEmpty()) { // only with a capacity of 0
    auto& send = static_cast<Send&>(sends_.front());
    item.emplace(std::move(send.item));
    send.fulfill({});
  }
  return item;
}

/// Lets the first send that waits go on, if there is room.
template <typename T>
void Channel<T>::acceptNext() {
  if (sends_.isEmpty() || !hasRoom()) return;
  auto& send = static_cast<Send&>(sends_.front());
  items_.push(std::move(send.item));
  send.fulfill({});
}

template <typename T>
void Channel<T>::close(std::source_location where) {
  items_.require("Channel::close was called", where);
  endSending();
}

template <typename T>
void Channel<T>::closeReceiver(std::source_location where) {
  items_.require("Channel::closeReceiver was called", where);
  endReceiving();
}

template <typename T>
void Channel<T>::endSending() noexcept {
  closed_ = true;
  items_.endWaiting();
}

template <typename T>
void Channel<T>::endReceiving() noexcept {
  closed_ = true;
  sends_.disconnectAll("the receiver of the channel has gone before it accepted the item");
  items_.endWaiting();
}

// --- The ends

template <typename T>
struct ChannelSender<T>::End {
  explicit End(std::shared_ptr<Channel<T>> of) noexcept : channel(std::move(of)) {}
  End(const End&) = delete;
  End& operator=(const End&) = delete;
  ~End() {
    channel->items_.requireOrAbort("the last sender of a channel was destroyed");
    channel->endSending();
  }

  std::shared_ptr<Channel<T>> channel;
};

template <typename T>
ChannelSender<T>::ChannelSender(std::shared_ptr<Channel<T>> channel)
    : end_(std::make_shared<End>(std::move(channel))) {}

template <typename T>
Channel<T>& ChannelSender<T>::channel(const std::source_location& where) const {
  if (end_ == nullptr) [[unlikely]]
    detail::throwMisuse("a ChannelSender that was moved from was used", where);
  return *end_->channel;
}

template <typename T>
struct ChannelReceiver<T>::End {
  explicit End(std::shared_ptr<Channel<T>> of) noexcept : channel(std::move(of)) {}
  End(const End&) = delete;
  End& operator=(const End&) = delete;
  ~End() {
    channel->items_.requireOrAbort("the receiver of a channel was destroyed");
    channel->endReceiving();
    channel->items_.clear();
  }

  std::shared_ptr<Channel<T>> channel;
};

template <typename T>
ChannelReceiver<T>::ChannelReceiver(std::shared_ptr<Channel<T>> channel)
    : end_(std::make_unique<End>(std::move(channel))) {}

template <typename T>
Channel<T>& ChannelReceiver<T>::channel(const std::source_location& where) const {
  if (end_ == nullptr) [[unlikely]]
    detail::throwMisuse("a ChannelReceiver that was moved from was used", where);
  return *end_->channel;
}

} // namespace v0
} // namespace troth
