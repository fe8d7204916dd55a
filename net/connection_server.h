// SPDX-License-Identifier: MIT
// ConnectionServer: accepts connections, serves each by a promise of its own, and ends gracefully.
#pragma once

#include <troth/net/network.h>
#include <troth/runtime/canceler.h>
#include <troth/runtime/promise.h>
#include <troth/runtime/sync.h>
#include <troth/runtime/task_set.h>
#include <troth/timers/timer.h>

#include <cstddef>
#include <functional>
#include <limits>
#include <memory>
#include <source_location>

namespace troth {
inline namespace v0 {

/// Serves the connections of one or more receivers: what is around a protocol in every server.
///
///     ConnectionServer server([](std::unique_ptr<AsyncIoStream> client) { return echo(std::move(client)); }, log);
///     server.serve(std::move(port)).exclusiveJoin(io.onSignal(SIGINT, SIGTERM).ignoreResult()).wait(scope);
///     server.drain(io.timer(), 5s).wait(scope);
///
/// Each connection is served by the promise that the handler returns for it. A failure of one goes to the error
/// handler and concerns no other. At most `mostConnections` are served at a time: beyond that none is accepted, and
/// clients wait in the system's queue.
///
/// Belongs to one thread. Destroying it cancels everything at once: connections, and the promises of serve() and
/// drain(), which fail with DISCONNECTED. The handler must not destroy the server before it has returned.
class ConnectionServer {
public:
  /// Serves one connection, which it owns. What it throws is taken for a promise that has failed.
  using Handler = std::function<Promise<void>(std::unique_ptr<AsyncIoStream>)>;

  static constexpr std::size_t NO_LIMIT = std::numeric_limits<std::size_t>::max();

  /// `errors` must outlive the server. `mostConnections` is 1 or more.
  ConnectionServer(Handler handler, TaskSet::ErrorHandler& errors, std::size_t mostConnections = NO_LIMIT,
                   std::source_location where = std::source_location::current());
  ConnectionServer(const ConnectionServer&) = delete;
  ConnectionServer& operator=(const ConnectionServer&) = delete;

  /// Accepts from `port`, which it owns, and serves what comes. Several may be served at the same time; the limit is
  /// that of all together.
  ///
  /// Completes:    when drain() is called; at once after that.
  /// Errors:       what `port` fails with for good; DISCONNECTED if the server is destroyed.
  /// Cancellation: clean: `port` is closed, and connections go on. (Clients that nobody has accepted yet are refused.)
  /// Overlap:      any number.
  Promise<void> serve(std::unique_ptr<ConnectionReceiver> port,
                      std::source_location where = std::source_location::current());

  /// Ends gracefully: accepts no more, tells the connections by onDrain(), and gives them `grace` to come to their end.
  ///
  /// Completes:    when no connection is left: at the latest when `grace` is over, and the rest has been cancelled.
  /// Result:       how many were cancelled.
  /// Errors:       DISCONNECTED if the server, or `timer`, is destroyed.
  /// Cancellation: clean: nothing more is accepted, and connections go on.
  /// Lifetime:     `timer` outlives the promise.
  /// Overlap:      one at a time (a second throws FAILED).
  Promise<std::size_t> drain(Timer& timer, Duration grace,
                             std::source_location where = std::source_location::current());

  /// For handlers whose protocol has a way to say good-bye, and for connections that are idle.
  ///
  /// Completes:    when drain() is called; at once after that.
  /// Errors:       DISCONNECTED if the server is destroyed.
  /// Cancellation: clean.
  /// Overlap:      any number.
  Promise<void> onDrain(std::source_location where = std::source_location::current()) { return draining_.wait(where); }
  bool isDraining() const noexcept { return draining_.isSet(); }

  /// The number of connections that are being served.
  std::size_t connections() const noexcept { return connections_.size(); }

private:
  Handler handler_;
  std::unique_ptr<Semaphore> places_; // null: no limit
  AsyncEvent draining_;
  TaskSet connections_;
  Canceler operations_; // of serve() and drain(), which use all of this

  Promise<void> acceptAll(std::unique_ptr<ConnectionReceiver> port);
  Promise<void> handle(std::unique_ptr<AsyncIoStream> connection, Semaphore::Permit place);
  Promise<std::size_t> drainAll(Timer& timer, Duration grace);
};

} // namespace v0
} // namespace troth
