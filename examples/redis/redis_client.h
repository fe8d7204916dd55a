// SPDX-License-Identifier: MIT
// RedisClient: hiredis's asynchronous interface as promises. Made to be copied.
#pragma once

#include <troth/io/fd_observer.h>
#include <troth/net/socket_address.h>
#include <troth/runtime/promise.h>

#include <array>
#include <concepts>
#include <memory>
#include <source_location>
#include <span>
#include <string>
#include <string_view>
#include <vector>

struct redisAsyncContext;

/// What a server answers, as a value. An error as the whole answer fails the promise instead.
struct RedisReply {
  enum class Kind {
    NIL,
    INTEGER, ///< `integer`
    TEXT,    ///< `text`: any bytes
    STATUS,  ///< `text`: "OK"
    ERROR,   ///< `text`; only among the elements of an array, such as that of EXEC
    ARRAY    ///< `elements`
  };

  Kind kind = Kind::NIL;
  long long integer = 0;
  std::string text;
  std::vector<RedisReply> elements;
};

/// A connection to a Redis server. Any number of commands may be under way: they are sent together, and answered in
/// their order.
///
/// Belongs to one thread. Destroying it closes the connection, and rejects what is pending with DISCONNECTED.
class RedisClient {
public:
  /// Connects. There is no limit of time: use Timer::timeoutAfter().
  ///
  /// Completes:    when the connection is made, or has failed.
  /// Errors:       DISCONNECTED if it is refused, with the server's address in the text.
  /// Cancellation: clean.
  static troth::Promise<std::unique_ptr<RedisClient>> connect(troth::AsyncIo& io, troth::SocketAddress server);

  ~RedisClient();
  RedisClient(const RedisClient&) = delete;
  RedisClient& operator=(const RedisClient&) = delete;

  /// Sends a command, of which no word needs any quoting: `client.command("SET", "key", value)`.
  ///
  /// Completes:    when the answer has come.
  /// Errors:       FAILED if the answer is an error, with its text ("ERR unknown command …"); DISCONNECTED if the
  ///               connection is lost, or was before; UNIMPLEMENTED for subscriptions and MONITOR, which have many
  ///               answers.
  /// Cancellation: partial, lost: the server may or may not execute the command. The answer is thrown away when it
  ///               comes, and the connection goes on.
  /// Lifetime:     the words are needed only during the call.
  /// Overlap:      any number; how much waits to be sent is up to the caller.
  template <std::convertible_to<std::string_view>... Words>
  troth::Promise<RedisReply> command(std::string_view name, const Words&... words) {
    const std::array<std::string_view, sizeof...(Words) + 1> all = {name, words...};
    return commandOf(all);
  }
  /// The same with words in a range.
  troth::Promise<RedisReply> commandOf(std::span<const std::string_view> words);

  /// Whether the connection is there, as far as is known.
  bool isConnected() const noexcept { return context_ != nullptr; }

private:
  class Command;
  struct Hooks;

  // What hiredis wants to be called for, and the coroutine that does so as long as it does.
  struct Direction {
    bool wanted = false;
    bool runs = false;
    troth::Promise<void> loop = troth::READY_NOW;
  };

  std::string server_;
  std::string lost_ = "not connected"; // why, if context_ is null
  bool connected_ = false;
  redisAsyncContext* context_ = nullptr;
  std::unique_ptr<troth::FdObserver> observer_;
  std::unique_ptr<troth::PromiseFulfiller<void>> connecting_;
  Direction reads_, writes_; // destroyed first: the loops use all of the above

  explicit RedisClient(std::string server) noexcept : server_(std::move(server)) {}
  void open(troth::AsyncIo& io, const troth::SocketAddress& server);
  void want(Direction& direction, troth::Promise<void> (RedisClient::*loop)());
  troth::Promise<void> handleReads();
  troth::Promise<void> handleWrites();
  void loopFailed(const troth::Exception& exception) noexcept;
  void giveUp(std::string_view why);
  troth::Exception lost(std::string_view why) const;
};
