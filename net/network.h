// SPDX-License-Identifier: MIT
// Network: turns the text of an address into something to connect to or to listen on.
#pragma once

#include <troth/io/stream.h>
#include <troth/runtime/promise.h>

#include <cstdint>
#include <memory>
#include <source_location>
#include <string>
#include <string_view>

namespace troth {
inline namespace v0 {

class AsyncIo;

/// A listening socket: the source of incoming connections.
///
/// Destroying it closes the socket, and connections that nobody has accepted yet; a pending accept() is
/// rejected with DISCONNECTED.
class ConnectionReceiver {
public:
  virtual ~ConnectionReceiver() = default;

  /// Accepts one connection. Errors of single connections (a client that went away before it was
  /// accepted) are passed over; when descriptors or memory are short, the receiver waits a tenth of a
  /// second and goes on.
  ///
  /// Completes:    when a client has connected; never inside this call.
  /// Errors:       DISCONNECTED if the receiver is destroyed; FAILED if the socket itself has failed.
  /// Cancellation: clean: a connection that had come already is what the next accept() gives.
  /// Overlap:      one accept at a time (a second throws FAILED).
  virtual Promise<std::unique_ptr<AsyncIoStream>>
  accept(std::source_location where = std::source_location::current()) = 0;

  /// The port that is listened on: the one that the system chose, if 0 was asked for.
  virtual std::uint16_t getPort() const = 0;

  /// The address that is listened on, such as "127.0.0.1:7000" or "[::1]:7000".
  virtual std::string toString() const = 0;
};

/// Where to connect or listen: one address or, behind a name, several.
class NetworkAddress {
public:
  virtual ~NetworkAddress() = default;

  /// Connects to the first of the addresses that accepts, trying one after the other. TCP_NODELAY is set.
  ///
  /// Completes:    when a connection is made, or all addresses have failed; never inside this call.
  /// Errors:       the text names each address with its reason; of the kind of the last one: DISCONNECTED
  ///               if it was refused or cannot be reached, OVERLOADED if it did not answer in time.
  /// Cancellation: clean for this side: the attempt is closed. The peer may see a connection come and go.
  /// Lifetime:     the address may be destroyed at any time.
  /// Misuse:       throws FAILED at once for "*", which is no address to connect to, and for port 0.
  virtual Promise<std::unique_ptr<AsyncIoStream>>
  connect(std::source_location where = std::source_location::current()) = 0;

  /// Listens on the first of the addresses that exists on this machine. A port that was used a moment ago
  /// can be listened on again (SO_REUSEADDR). Throws FAILED, with the address in its text, if the port is in use.
  virtual std::unique_ptr<ConnectionReceiver> listen(std::source_location where = std::source_location::current()) = 0;

  /// The text of the address: "127.0.0.1:7000", "[::1]:7000", "*:7000", or of the name: "localhost:7000".
  virtual std::string toString() const = 0;
};

/// A way to reach others. Take it as a parameter (`Network&`), and tests can stand in another.
class Network {
public:
  virtual ~Network() = default;

  /// Makes an address of "127.0.0.1:7000", "[::1]:7000", "::1", "*:7000" (all addresses of this machine),
  /// or "localhost:7000". Without a port, `defaultPort` holds. Names are looked up in the background.
  ///
  /// Completes:    at once for numeric addresses, otherwise when the name is resolved.
  /// Errors:       FAILED, with `text` quoted, for text that is no address and for names that do not
  ///               exist; OVERLOADED if the name server could not be asked.
  /// Cancellation: deferred: a look-up that has begun ends in the background, unheard.
  /// Lifetime:     `text` is needed only during the call.
  virtual Promise<std::unique_ptr<NetworkAddress>>
  parseAddress(std::string_view text, std::uint16_t defaultPort = 0,
               std::source_location where = std::source_location::current()) = 0;
};

/// The network of this machine. `io` must outlive it, and what it makes.
std::unique_ptr<Network> newNetwork(AsyncIo& io);

} // namespace v0
} // namespace troth
