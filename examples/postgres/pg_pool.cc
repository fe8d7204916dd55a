// SPDX-License-Identifier: MIT
// PgPool: a semaphore with a place for each connection, and those that are idle.
//
// Who has a place has the right to one connection: an idle one, or a new one. The place is held until the connection is
// clean again, so the next in line finds it idle.
#include "pg_pool.h"

#include <troth/runtime/canceler.h>
#include <troth/runtime/sync.h>
#include <troth/runtime/task_set.h>
#include <troth/timers/timer.h>

#include <optional>

using namespace troth;

class PgPool::Core : TaskSet::ErrorHandler {
public:
  Core(AsyncIo& io, std::string info, PgPoolOptions options)
      : io_(io),
        info_(std::move(info)),
        options_(std::move(options)),
        places_(std::in_place, options_.maxConnections) {}

  static Promise<Lease> acquire(std::shared_ptr<Core> core);
  static Promise<PgResult> query(std::shared_ptr<Core> core, std::string sql, PgParameters parameters);

  void giveBack(std::unique_ptr<PgConnection> connection, Semaphore::Permit place) noexcept;

  Promise<void> onIdle() { return places_->acquire(options_.maxConnections).ignoreResult(); }

  /// The pool is destroyed.
  void close() noexcept {
    connecting_.cancel(gone());
    cleaning_.clear();
    idle_.clear();
    places_.reset();
  }

private:
  AsyncIo& io_;
  std::string info_;
  PgPoolOptions options_;
  std::optional<Semaphore> places_; // none when closed
  std::vector<std::unique_ptr<PgConnection>> idle_;
  Canceler connecting_;
  TaskSet cleaning_{*this};

  Promise<void> clean(std::unique_ptr<PgConnection> connection, Semaphore::Permit place);
  Promise<void> makeClean(PgConnection& connection);
  std::unique_ptr<PgConnection> takeIdle() noexcept;
  Promise<std::unique_ptr<PgConnection>> connect();
  void taskFailed(Exception) override {} // that connection has been closed

  static Exception gone() { return Exception(Exception::Kind::DISCONNECTED, "the pool of connections was destroyed"); }
};

struct PgPool::Lease::State {
  std::shared_ptr<Core> core;
  Semaphore::Permit place;
  std::unique_ptr<PgConnection> connection;
};

Promise<std::unique_ptr<PgConnection>> PgPool::Core::connect() {
  return connecting_.wrap(io_.timer().timeoutAfter(options_.connectTimeout, PgConnection::connect(io_, info_)));
}

// The one that was used last is the most likely to be alive still.
std::unique_ptr<PgConnection> PgPool::Core::takeIdle() noexcept {
  while (!idle_.empty()) {
    std::unique_ptr<PgConnection> connection = std::move(idle_.back());
    idle_.pop_back();
    if (connection->isOpen()) return connection;
  }
  return nullptr;
}

Promise<PgPool::Lease> PgPool::Core::acquire(std::shared_ptr<Core> core) {
  Semaphore::Permit place = co_await core->places_->acquire();
  if (!core->places_) throw gone();
  std::unique_ptr<PgConnection> connection = core->takeIdle();
  if (connection == nullptr) connection = co_await core->connect();
  std::unique_ptr<Lease::State> state(new Lease::State{core, std::move(place), std::move(connection)});
  co_return Lease(std::move(state));
}

Promise<PgResult> PgPool::Core::query(std::shared_ptr<Core> core, std::string sql, PgParameters parameters) {
  const Lease lease = co_await acquire(core);
  co_return co_await lease->query(std::move(sql), std::move(parameters));
}

// Called from a destructor. Should there be no memory, the connection is closed.
void PgPool::Core::giveBack(std::unique_ptr<PgConnection> connection, Semaphore::Permit place) noexcept {
  if (!places_ || !connection->isOpen()) return;
  try {
    cleaning_.add(clean(std::move(connection), std::move(place)));
  } catch (...) {
  }
}

Promise<void> PgPool::Core::clean(std::unique_ptr<PgConnection> connection, [[maybe_unused]] Semaphore::Permit place) {
  co_await io_.timer().timeoutAfter(options_.connectTimeout, makeClean(*connection));
  if (connection->isOpen()) idle_.push_back(std::move(connection));
}

Promise<void> PgPool::Core::makeClean(PgConnection& connection) {
  co_await connection.onIdle();
  if (connection.isInTransaction()) co_await connection.query("ROLLBACK");
  if (!options_.reset.empty()) co_await connection.query(options_.reset);
}

PgPool::Lease::Lease(std::unique_ptr<State> state) noexcept : state_(std::move(state)) {}
PgPool::Lease::Lease(Lease&&) noexcept = default;
PgPool::Lease::~Lease() {
  if (state_ != nullptr) state_->core->giveBack(std::move(state_->connection), std::move(state_->place));
}
PgConnection& PgPool::Lease::operator*() const noexcept { return *state_->connection; }

PgPool::PgPool(AsyncIo& io, std::string info, PgPoolOptions options) {
  if (options.maxConnections == 0) throw std::invalid_argument("PgPool: at least one connection must be allowed");
  core_ = std::make_shared<Core>(io, std::move(info), std::move(options));
}
PgPool::~PgPool() { core_->close(); }
Promise<void> PgPool::onIdle() { return core_->onIdle(); }

Promise<PgPool::Lease> PgPool::acquire() { return Core::acquire(core_); }
Promise<PgResult> PgPool::query(std::string sql, PgParameters parameters) {
  return Core::query(core_, std::move(sql), std::move(parameters));
}
