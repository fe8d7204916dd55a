// SPDX-License-Identifier: MIT
// PgPool: connections to a PostgreSQL server that are kept and shared. Made to be copied.
#pragma once

#include "pg_connection.h"

#include <chrono>
#include <memory>
#include <string>

struct PgPoolOptions {
  std::size_t maxConnections = 10;                                     ///< At least 1.
  std::chrono::milliseconds connectTimeout = std::chrono::seconds(10); ///< For making one, and for cleaning it.
  /// What is executed before a connection goes to the next: it takes back settings, temporary tables, advisory locks.
  /// With an empty one these stay.
  std::string reset = "DISCARD ALL";
};

/// Lends connections: first come, first served. They are made when they are needed, at most so many, and kept.
///
/// A connection that comes back is lent again only when it is clean: what it executed is cancelled, a transaction that
/// was left open is rolled back, and PgPoolOptions::reset is executed. One that was lost, or cannot be cleaned, is
/// replaced by another.
///
/// Belongs to one thread. Destroying it rejects those who wait with DISCONNECTED; who has a connection may go on with
/// it.
class PgPool {
public:
  class Lease;

  /// `info` is as for PgConnection::connect().
  PgPool(troth::AsyncIo& io, std::string info, PgPoolOptions options = {});
  ~PgPool();
  PgPool(const PgPool&) = delete;
  PgPool& operator=(const PgPool&) = delete;

  /// Lends a connection: for a transaction, or whatever else needs the same one for several queries.
  ///
  /// Completes:    when one is free, or has been made.
  /// Errors:       those of PgConnection::connect(), and OVERLOADED if that takes too long; DISCONNECTED if the pool is
  ///               destroyed.
  /// Cancellation: clean: the connection goes to the next in line.
  troth::Promise<Lease> acquire();

  /// Executes one command on any connection, as PgConnection::query() does.
  ///
  /// Completes, Result, Errors, Cancellation: as acquire(), and then as PgConnection::query().
  troth::Promise<PgResult> query(std::string sql, PgParameters parameters = {});

  /// Completes:    when no connection is lent, nor one being cleaned, and nobody waits for one.
  /// Errors:       DISCONNECTED if the pool is destroyed.
  /// Cancellation: clean.
  troth::Promise<void> onIdle();

private:
  class Core;

  std::shared_ptr<Core> core_; // shared with the leases and those who wait for one
};

/// A connection that is lent; it goes back when this is destroyed.
class PgPool::Lease {
public:
  Lease(Lease&&) noexcept;
  Lease& operator=(Lease&&) = delete;
  ~Lease();

  PgConnection& operator*() const noexcept;
  PgConnection* operator->() const noexcept { return &**this; }

private:
  friend class PgPool;
  struct State;

  std::unique_ptr<State> state_;

  explicit Lease(std::unique_ptr<State> state) noexcept;
};
