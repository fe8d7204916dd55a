// SPDX-License-Identifier: MIT
// PgConnection: libpq without blocking, as promises. Made to be copied, with pg_pool.h or without.
#pragma once

#include <troth/io/async_io.h>

#include <cstddef>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

struct pg_conn;
struct pg_result;

/// What a query gave: rows of text.
class PgResult {
public:
  explicit PgResult(pg_result* owned) noexcept : result_(owned) {}

  std::size_t rows() const noexcept;
  std::size_t columns() const noexcept;
  /// The name of a column.
  std::string_view name(std::size_t column) const;
  /// A value, as PostgreSQL writes it; none if it is NULL. Throws std::out_of_range. Valid as long as this.
  std::optional<std::string_view> value(std::size_t row, std::size_t column) const;
  /// How many rows an INSERT, UPDATE, DELETE … has changed; 0 for commands that change none.
  std::size_t affected() const noexcept;

private:
  struct Deleter {
    void operator()(pg_result* result) const noexcept;
  };
  std::unique_ptr<pg_result, Deleter> result_;
};

/// The server refuses a query: `catch (const PgError& e)`. The connection goes on.
class PgError : public std::runtime_error {
public:
  PgError(std::string sqlState, const std::string& message)
      : std::runtime_error(sqlState + ": " + message), sqlState_(std::move(sqlState)) {}

  /// Five characters, such as "42P01" for a table that is not there (PostgreSQL's documentation, appendix A).
  const std::string& sqlState() const noexcept { return sqlState_; }

private:
  std::string sqlState_;
};

/// The values of $1, $2, … of a query, as text; none is NULL.
using PgParameters = std::vector<std::optional<std::string>>;

/// A connection to a PostgreSQL server. Queries are executed one after the other, in the order in which they are made.
///
/// Belongs to one thread. Destroying it closes the connection, and rejects what is pending with DISCONNECTED; the
/// server may still finish a query that it executes.
class PgConnection {
public:
  /// Connects. `info` is libpq's: "host=/run/postgresql dbname=test", "postgresql://me@10.0.0.1/test". There is no
  /// limit of time but the `connect_timeout` in there, which libpq does not heed here: use Timer::timeoutAfter().
  ///
  /// Completes:    when the server is ready for queries, or has refused. A host name is looked up by libpq, which
  ///               blocks this thread: give an address (`hostaddr`), or one that is in /etc/hosts.
  /// Errors:       DISCONNECTED in libpq's words, whatever the reason (it does not tell them apart).
  /// Cancellation: clean.
  static troth::Promise<std::unique_ptr<PgConnection>> connect(troth::AsyncIo& io, std::string info);

  ~PgConnection();
  PgConnection(const PgConnection&) = delete;
  PgConnection& operator=(const PgConnection&) = delete;

  /// Executes one command, in which $1, $2, … stand for `parameters`.
  ///
  /// Completes:    when the server has answered it, and all those before it.
  /// Result:       all rows, in memory.
  /// Errors:       PgError if the server refuses it; DISCONNECTED if the connection is lost, or was before;
  ///               UNIMPLEMENTED for COPY, which ends the connection.
  /// Cancellation: partial, lost: what had not begun never does. The server is asked to cancel what it executes,
  ///               which it may have finished by then, and later queries wait until that is settled. A transaction is
  ///               aborted by it. (By a thread of libuv's pool, for which the context's end waits.)
  /// Overlap:      any number; each waits for those before.
  troth::Promise<PgResult> query(std::string sql, PgParameters parameters = {});

  /// Completes:    when there is no query any more, not even one that is being cancelled.
  /// Errors:       DISCONNECTED if the connection is destroyed.
  /// Cancellation: clean.
  troth::Promise<void> onIdle();

  /// Whether no query is executed or cancelled at present.
  bool isIdle() const noexcept;
  /// Whether the server still holds the connection, as far as one can see without asking it.
  bool isOpen() const noexcept;
  /// Whether a transaction has been begun and not ended.
  bool isInTransaction() const noexcept;

private:
  class Core;

  std::shared_ptr<Core> core_; // shared with the queries

  explicit PgConnection(std::shared_ptr<Core> core) noexcept : core_(std::move(core)) {}
};
