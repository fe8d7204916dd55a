// SPDX-License-Identifier: MIT
// Accepting, counting, and coming to an end.
#include <troth/net/connection_server.h>

#include <utility>

namespace troth {
inline namespace v0 {

ConnectionServer::ConnectionServer(Handler handler, TaskSet::ErrorHandler& errors, std::size_t mostConnections,
                                   std::source_location where)
    : handler_(std::move(handler)), connections_(errors) {
  if (handler_ == nullptr) detail::throwMisuse("ConnectionServer: the handler is empty", where);
  if (mostConnections == 0) detail::throwMisuse("ConnectionServer: mostConnections is 0, so nobody is served", where);
  if (mostConnections != NO_LIMIT) places_ = std::make_unique<Semaphore>(mostConnections);
}

Promise<void> ConnectionServer::serve(std::unique_ptr<ConnectionReceiver> port, std::source_location where) {
  if (isDraining()) return READY_NOW;
  return operations_.wrap(acceptAll(std::move(port)).exclusiveJoin(draining_.wait(where), where), where);
}

Promise<void> ConnectionServer::acceptAll(std::unique_ptr<ConnectionReceiver> port) {
  for (;;) {
    Semaphore::Permit place;
    if (places_ != nullptr) place = co_await places_->acquire();
    std::unique_ptr<AsyncIoStream> connection = co_await port->accept();
    connections_.add(handle(std::move(connection), std::move(place)));
  }
}

// The place is free again when the promise, and with it the connection, has gone.
Promise<void> ConnectionServer::handle(std::unique_ptr<AsyncIoStream> connection, Semaphore::Permit place) {
  Promise<void> served = evalNow([&] { return handler_(std::move(connection)); });
  return places_ == nullptr ? std::move(served) : std::move(served).attach(std::move(place));
}

Promise<std::size_t> ConnectionServer::drain(Timer& timer, Duration grace, std::source_location where) {
  draining_.set(where);
  return operations_.wrap(drainAll(timer, grace), where);
}

Promise<std::size_t> ConnectionServer::drainAll(Timer& timer, Duration grace) {
  co_await connections_.onEmpty().exclusiveJoin(timer.afterDelay(grace));
  const std::size_t cancelled = connections_.size();
  connections_.clear();
  co_return cancelled;
}

} // namespace v0
} // namespace troth
