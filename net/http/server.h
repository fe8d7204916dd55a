// SPDX-License-Identifier: MIT
// Server: HTTP/1 on connections that are accepted, with limits, time-outs and a graceful end.
#pragma once

#include <troth/net/http/service.h>
#include <troth/net/network.h>
#include <troth/runtime/task_set.h>
#include <troth/timers/timer.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <source_location>
#include <string_view>

namespace troth {
inline namespace v0 {
namespace http {

/// How a request ended, for the access log: views, valid during the call.
struct AccessRecord {
  const Request* request;          // null if what came was no request
  const AsyncIoStream* connection; // null if it has gone
  int status;                      // 0 if there was no response
  std::uint64_t received;          // bytes of the request's content that were read
  std::uint64_t sent;              // bytes of the response's content
  Duration time;                   // from the end of the head to the end of the response
  bool complete;                   // whether the response was sent as a whole
};

struct ServerSettings {
  // --- Limits.

  /// The head from its method to its empty line; beyond that 431.
  std::uint32_t headBytes = 64 * 1024;
  /// The target; beyond that 414.
  std::uint32_t targetBytes = 8 * 1024;
  /// The fields of a head, and of trailers; beyond that 431.
  std::uint32_t headerFields = 128;
  /// The content of a request; beyond that 413, as soon as it is known.
  std::uint64_t bodyBytes = 64 * 1024 * 1024;
  /// How much of a content that nobody has read is skipped for the connection's sake.
  std::uint64_t skippedBytes = 256 * 1024;
  /// After so many requests a connection is closed; the last response says so.
  std::uint64_t requestsPerConnection = std::numeric_limits<std::uint64_t>::max();
  /// So many connections are served at a time; others wait in the system's queue.
  std::size_t connections = std::numeric_limits<std::size_t>::max();

  // --- Times; Duration::max() for none.

  /// From the first byte of a head, or the beginning of a connection, to the head's end; then 408.
  Duration headTimeout = std::chrono::seconds(10);
  /// How long a connection is kept that has no request.
  Duration idleTimeout = std::chrono::seconds(15);
  /// How long content is waited for of which nothing comes; then the handler is cancelled, and the client gets 408.
  Duration bodyTimeout = std::chrono::seconds(15);
  /// The least that must come of a content, in bytes a second, counted over each bodyTimeout in which it is waited for.
  std::uint64_t bodyRate = 100;
  /// How long a client may take for 128 KiB of what is written to it, or for the last of it; then its handler is
  /// cancelled and the connection reset.
  Duration writeTimeout = std::chrono::seconds(30);
  /// After an error that closes the connection: how long bytes of the client are still read, and thrown away, so that
  /// it can read the response (RFC 9112, section 9.6).
  Duration lingerTimeout = std::chrono::seconds(2);

  // --- Behaviour.

  /// A client that has ended its direction may have gone, or may wait for its response: nobody can tell before
  /// something is sent to it. So a handler has this long to go on; it is cancelled if nothing was sent meanwhile, nor
  /// waits to be read by the client. (A client that has reset the connection has gone: its handler is cancelled at
  /// once.)
  Duration halfCloseGrace = std::chrono::seconds(1);
  /// Methods that are none of Method's: answered with 501, or passed to the service as Method::OTHER.
  enum class UnknownMethods : std::uint8_t { REFUSE, PASS };
  UnknownMethods unknownMethods = UnknownMethods::REFUSE;
  /// Called after each request, and for what was no request. Must not throw.
  std::function<void(const AccessRecord&)> accessLog;
};

namespace detail {
class ServerCore;
}

/// Serves HTTP/1.0 and HTTP/1.1 by a Service (RFC 9110, 9112).
///
///     http::Server server(service, io.timer(), log);
///     server.serve(std::move(port)).exclusiveJoin(io.onSignal(SIGINT, SIGTERM).ignoreResult()).wait(scope);
///     server.drain(5s).wait(scope);
///
/// Requests on one connection are handled one after the other, in order. What is malformed is answered by the server,
/// and the connection closed. A failure of one connection concerns no other; failures that are the server's own, such
/// as a handler's, go to the error handler, those of clients do not.
///
/// Belongs to one thread. Destroying it cancels everything at once: handlers, connections, and the promises of serve()
/// and drain(), which fail with DISCONNECTED. Nothing that it calls (a handler, the access log, the error handler) may
/// destroy it.
class Server {
public:
  /// `service`, `timer` and `errors` outlive the server. Throws FAILED for settings that make no sense.
  Server(Service& service, Timer& timer, TaskSet::ErrorHandler& errors, ServerSettings settings = ServerSettings(),
         std::source_location where = std::source_location::current());
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;
  ~Server();

  /// Accepts from `port`, which it owns, and serves what comes. Several may be served at the same time.
  ///
  /// Completes:    when drain() is called; at once after that.
  /// Errors:       what `port` fails with for good; DISCONNECTED if the server is destroyed.
  /// Cancellation: clean: `port` is closed, and connections go on.
  /// Overlap:      any number.
  Promise<void> serve(std::unique_ptr<ConnectionReceiver> port,
                      std::source_location where = std::source_location::current());

  /// Serves one connection. The server owns it from now on; it counts, but is not refused for the limit's sake.
  void serveConnection(std::unique_ptr<AsyncIoStream> connection,
                       std::source_location where = std::source_location::current());

  /// Ends gracefully: accepts no more, closes idle connections, lets each busy one answer the request that it is at,
  /// with `Connection: close`, and cancels what is left after `grace`.
  ///
  /// Completes:    when no connection is left.
  /// Result:       how many were cancelled.
  /// Errors:       DISCONNECTED if the server, or its timer, is destroyed.
  /// Cancellation: clean: nothing more is accepted, and connections end when they are done.
  /// Overlap:      one at a time (a second throws FAILED).
  Promise<std::size_t> drain(Duration grace, std::source_location where = std::source_location::current());

  /// How many connections there are.
  std::size_t connections() const noexcept;
  /// How many of them have a request that is being handled.
  std::size_t requests() const noexcept;

private:
  std::unique_ptr<detail::ServerCore> core_;
};

} // namespace http
} // namespace v0
} // namespace troth
