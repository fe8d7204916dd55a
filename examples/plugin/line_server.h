// SPDX-License-Identifier: MIT
// LineServer: what the three hosts get: a server that answers lines, on an AsyncIo that is driven by somebody else.
#pragma once

#include <troth/io/async_io.h>
#include <troth/net/connection_server.h>

#include <cstdint>
#include <functional>
#include <string>

/// Answers each line that a client sends with one line. Everything happens in turns of `io`'s loop; nothing here waits.
///
/// Belongs to the thread of `io`, which outlives it. Destroying it closes the port and all connections at once, with
/// whatever their answers were waiting for.
class LineServer final : private troth::TaskSet::ErrorHandler {
public:
  /// The answer to a line, in which line ends become spaces. If it fails, the client gets "error: " and why, and may go
  /// on.
  using Answer = std::function<troth::Promise<std::string>(std::string line)>;

  static constexpr std::size_t LONGEST_LINE = 4096; // bytes
  static constexpr std::size_t MOST_CONNECTIONS = 1000;

  struct Counters {
    std::uint64_t accepted = 0; // connections, since the beginning
    std::uint64_t answered = 0; // lines
    std::uint64_t failed = 0;   // lines whose answer failed
  };

  LineServer(troth::AsyncIo& io, Answer answer);

  /// Listens on `address` (see Network::parseAddress()), and serves until stop().
  ///
  /// Completes:    when clients can connect.
  /// Result:       the port.
  /// Errors:       as those of Network::parseAddress() and NetworkAddress::listen().
  /// Cancellation: clean; of a look-up, deferred.
  /// Overlap:      any number: a server may have several ports.
  troth::Promise<std::uint16_t> listen(std::string address);

  /// Closes the ports; lines that have been read are answered, silent clients are hung up on.
  ///
  /// Completes:    when no connection is left: at the latest after `grace`.
  /// Result:       how many connections were cut off.
  /// Cancellation: clean: nothing more is accepted, and connections go on to their next line.
  /// Overlap:      one at a time.
  troth::Promise<std::size_t> stop(troth::Duration grace);

  std::size_t connections() const noexcept { return server_.connections(); }
  const Counters& counters() const noexcept { return counters_; }

private:
  troth::AsyncIo& io_;
  Answer answer_;
  Counters counters_;
  std::unique_ptr<troth::Network> network_;
  troth::ConnectionServer server_;
  troth::TaskSet accepting_;

  troth::Promise<void> converse(std::unique_ptr<troth::AsyncIoStream> client);
  troth::Promise<std::string> answerTo(std::string line);
  void taskFailed(troth::Exception exception) override;
};
