// SPDX-License-Identifier: MIT
// The bodies of queue.h's templates.
#pragma once

#ifndef TROTH_RUNTIME_QUEUE_H
#error "include <troth/runtime/queue.h> instead"
#endif

namespace troth {
inline namespace v0 {

// --- WaiterQueue

template <typename T>
class WaiterQueue<T>::Node final : public detail::ValueWaiter<detail::FixVoid<T>> {
public:
  using detail::ValueWaiter<detail::FixVoid<T>>::ValueWaiter;
  const char* name() const noexcept override { return "WaiterQueue::wait"; }
};

template <typename T>
WaiterQueue<T>::~WaiterQueue() {
  waiters_.disconnectAll("the queue was destroyed while a promise waited in it");
}

template <typename T>
Promise<T> WaiterQueue<T>::wait(std::source_location where) {
  home_.require("WaiterQueue::wait was called", where);
  auto* node = new Node(where);
  waiters_.add(*node);
  return detail::PromiseAccess::wrap<T>(node);
}

template <typename T>
typename WaiterQueue<T>::Node& WaiterQueue<T>::first(const char* what, const std::source_location& where) {
  home_.require(what, where);
  if (isEmpty()) [[unlikely]]
    detail::throwMisuse("nobody waits in the WaiterQueue whose first waiter was to go on", where);
  return static_cast<Node&>(waiters_.front());
}

template <typename T>
void WaiterQueue<T>::fulfill(detail::FixVoid<T> value, std::source_location where) {
  first("WaiterQueue::fulfill was called", where).fulfill(std::move(value));
}

template <typename T>
void WaiterQueue<T>::fulfill(std::source_location where)
  requires std::is_void_v<T>
{
  first("WaiterQueue::fulfill was called", where).fulfill({});
}

template <typename T>
void WaiterQueue<T>::reject(Exception exception, std::source_location where) {
  first("WaiterQueue::reject was called", where).fail(std::move(exception));
}

// --- ProducerConsumerQueue

template <typename T>
void ProducerConsumerQueue<T>::push(T item, std::source_location where) {
  items_.require("ProducerConsumerQueue::push was called", where);
  items_.push(std::move(item));
}

template <typename T>
Promise<T> ProducerConsumerQueue<T>::pop(std::source_location where) {
  items_.require("ProducerConsumerQueue::pop was called", where);
  return detail::PromiseAccess::wrap<T>(items_.take(false, where));
}

template <typename T>
void ProducerConsumerQueue<T>::rejectAll(const Exception& exception, std::source_location where) {
  items_.require("ProducerConsumerQueue::rejectAll was called", where);
  items_.failWaiting(exception);
}

} // namespace v0
} // namespace troth
