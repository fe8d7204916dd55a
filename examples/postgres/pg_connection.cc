// SPDX-License-Identifier: MIT
// PgConnection on libpq's asynchronous functions.
//
// Connecting. PQconnectPoll() may close its socket and open another one, to try the next address or without encryption,
// and that may well have the same number: so PQsocket() is asked, and an observer made, after each step.
//
// Queries. A mutex lets one at a time use the connection. A query that is dropped while the server executes it hands
// its lock to recover(), which cancels it, and reads what comes until the connection is idle. The request to cancel
// goes over a connection of its own, by PQcancel(), which blocks, and so runs in libuv's thread pool. (libpq 17 has
// PQcancelStart(), which does not.) It is waited for before the next query: a cancel that comes late would hit that
// one. A server that takes the request's connection and never closes it holds up that thread, and the end of the
// context, for ever; the connection itself is given up after CANCEL_LIMIT.
//
// Ownership. Core is shared by the connection and its queries, so that these may go in any order; `conn_` is null when
// the connection has gone. recover() is owned by Core, and ends with it.
#include "pg_connection.h"

#include <troth/io/fd_observer.h>
#include <troth/io/thread_pool.h>
#include <troth/runtime/sync.h>
#include <troth/timers/timer.h>

#include <libpq-fe.h>
#include <poll.h>

#include <array>
#include <charconv>
#include <new>

using namespace troth;

namespace {

// A request to cancel that comes before its query, which is on its way, does nothing: so it is made again after a
// while. A connection that is not idle in the end is closed.
constexpr std::chrono::seconds CANCEL_AGAIN(1);
constexpr std::chrono::seconds CANCEL_LIMIT(10);

struct PgDeleter {
  void operator()(PGconn* conn) const noexcept { PQfinish(conn); }
  void operator()(PGcancel* cancel) const noexcept { PQfreeCancel(cancel); }
  void operator()(PGresult* result) const noexcept { PQclear(result); }
  void operator()(PGnotify* notification) const noexcept { PQfreemem(notification); }
};
using ConnPtr = std::unique_ptr<PGconn, PgDeleter>;
using CancelPtr = std::unique_ptr<PGcancel, PgDeleter>;
using ResultPtr = std::unique_ptr<PGresult, PgDeleter>;

/// libpq's message in one line.
std::string oneLine(const char* message) {
  std::string line;
  for (const char c : std::string_view(message != nullptr ? message : "")) {
    const bool blank = c == '\n' || c == '\t' || c == ' ';
    if (!blank || (!line.empty() && line.back() != ' ')) line += blank ? ' ' : c;
  }
  if (line.ends_with(' ')) line.pop_back();
  return line;
}

Exception lost(const PGconn* conn) { return Exception(Exception::Kind::DISCONNECTED, oneLine(PQerrorMessage(conn))); }

void requireText(const std::string& text) {
  if (text.find('\0') != std::string::npos)
    throw std::invalid_argument("a text for PostgreSQL must have no NUL character");
}

} // namespace

// -------------------------------------------------------------------------------------------- results

void PgResult::Deleter::operator()(pg_result* result) const noexcept { PQclear(result); }

std::size_t PgResult::rows() const noexcept { return static_cast<std::size_t>(PQntuples(result_.get())); }
std::size_t PgResult::columns() const noexcept { return static_cast<std::size_t>(PQnfields(result_.get())); }

std::string_view PgResult::name(std::size_t column) const {
  if (column >= columns()) throw std::out_of_range("PgResult::name: there is no such column");
  return PQfname(result_.get(), static_cast<int>(column));
}

std::optional<std::string_view> PgResult::value(std::size_t row, std::size_t column) const {
  if (row >= rows() || column >= columns()) throw std::out_of_range("PgResult::value: there is no such row or column");
  const int r = static_cast<int>(row);
  const int c = static_cast<int>(column);
  if (PQgetisnull(result_.get(), r, c) != 0) return std::nullopt;
  return std::string_view(PQgetvalue(result_.get(), r, c), static_cast<std::size_t>(PQgetlength(result_.get(), r, c)));
}

std::size_t PgResult::affected() const noexcept {
  const std::string_view text = PQcmdTuples(result_.get());
  std::size_t count = 0;
  std::from_chars(text.data(), text.data() + text.size(), count);
  return count;
}

// ----------------------------------------------------------------------------------------------- core

class PgConnection::Core {
public:
  Core(AsyncIo& io, ConnPtr conn) : io_(io), conn_(std::move(conn)) {}

  static Promise<PgResult> query(std::shared_ptr<Core> core, std::string sql, PgParameters parameters);
  static Promise<void> onIdle(std::shared_ptr<Core> core);
  Promise<void> connect();

  /// The connection is destroyed, or of no use any more.
  void close() noexcept {
    recovery_ = READY_NOW;
    abandon();
  }

  bool isIdle() const noexcept { return !turn_.isLocked(); }
  bool isOpen() const noexcept;
  bool isInTransaction() const noexcept { return conn_ != nullptr && PQtransactionStatus(conn_.get()) != PQTRANS_IDLE; }

private:
  class Running;

  AsyncIo& io_;
  ConnPtr conn_;
  std::unique_ptr<FdObserver> observer_; // destroyed before the socket
  AsyncMutex turn_;
  bool executing_ = false; // the server has, or is getting, a query that it has not answered
  Promise<void> recovery_ = READY_NOW;

  void require() const;
  void send(const std::string& sql, const PgParameters& parameters);
  Promise<void> flush();
  void consume();
  Promise<ResultPtr> receive();
  PgResult settled(ResultPtr result) const;
  void startRecovery(AsyncMutex::Lock lock) noexcept;
  Promise<void> recover(AsyncMutex::Lock lock);
  Promise<void> cancelUntilIdle();

  void abandon() noexcept {
    observer_.reset();
    conn_.reset();
  }
};

/// A query that has its turn. If it goes before it is answered, it is cancelled.
class PgConnection::Core::Running {
public:
  Running(std::shared_ptr<Core> core, AsyncMutex::Lock lock) noexcept
      : core_(std::move(core)), lock_(std::move(lock)) {}
  Running(const Running&) = delete;
  Running& operator=(const Running&) = delete;
  ~Running() {
    if (core_->executing_) core_->startRecovery(std::move(lock_));
  }

private:
  std::shared_ptr<Core> core_;
  AsyncMutex::Lock lock_;
};

// ------------------------------------------------------------------------------------------ connecting

Promise<void> PgConnection::Core::connect() {
  PostgresPollingStatusType next =
      PQstatus(conn_.get()) == CONNECTION_BAD ? PGRES_POLLING_FAILED : PGRES_POLLING_WRITING;
  while (next != PGRES_POLLING_OK) {
    if (next == PGRES_POLLING_FAILED) throw lost(conn_.get());
    observer_ = newFdObserver(io_, PQsocket(conn_.get()), Ownership::BORROW);
    if (next == PGRES_POLLING_WRITING)
      co_await observer_->whenBecomesWritable();
    else
      co_await observer_->whenBecomesReadable();
    next = PQconnectPoll(conn_.get());
  }
  observer_ = newFdObserver(io_, PQsocket(conn_.get()), Ownership::BORROW);
  PQsetnonblocking(conn_.get(), 1);
}

Promise<std::unique_ptr<PgConnection>> PgConnection::connect(AsyncIo& io, std::string info) {
  requireText(info);
  ConnPtr conn(PQconnectStart(info.c_str()));
  if (conn == nullptr) throw std::bad_alloc();
  PQsetNoticeReceiver(
      conn.get(), [](void*, const PGresult*) {}, nullptr); // libpq would print them
  auto core = std::make_shared<Core>(io, std::move(conn));
  std::unique_ptr<PgConnection> connection(new PgConnection(core));
  co_await core->connect();
  co_return connection;
}

// --------------------------------------------------------------------------------------------- queries

void PgConnection::Core::require() const {
  if (conn_ == nullptr) throw Exception(Exception::Kind::DISCONNECTED, "the connection to the server was closed");
}

void PgConnection::Core::send(const std::string& sql, const PgParameters& parameters) {
  std::vector<const char*> values;
  for (const std::optional<std::string>& parameter : parameters)
    values.push_back(parameter ? parameter->c_str() : nullptr);
  executing_ = PQsendQueryParams(conn_.get(), sql.c_str(), static_cast<int>(values.size()), nullptr, values.data(),
                                 nullptr, nullptr, 0) != 0;
  if (executing_) return;
  if (PQstatus(conn_.get()) == CONNECTION_BAD) throw lost(conn_.get());
  throw Exception(Exception::Kind::FAILED, oneLine(PQerrorMessage(conn_.get())));
}

/// Takes in what has come.
void PgConnection::Core::consume() {
  require(); // it may have gone since the wait was over
  if (PQconsumeInput(conn_.get()) == 0) throw lost(conn_.get());
}

// The server may want its answers to be read before it reads more.
Promise<void> PgConnection::Core::flush() {
  while (const int left = PQflush(conn_.get())) {
    if (left < 0) throw lost(conn_.get());
    co_await observer_->whenBecomesWritable().exclusiveJoin(observer_->whenBecomesReadable());
    consume();
  }
}

/// All that the server answers: the last result, or the first error. Then it is idle.
Promise<ResultPtr> PgConnection::Core::receive() {
  ResultPtr answer;
  for (;;) {
    while (PQisBusy(conn_.get()) != 0) {
      co_await observer_->whenBecomesReadable();
      consume();
    }
    ResultPtr next(PQgetResult(conn_.get()));
    if (next == nullptr) break;
    const ExecStatusType status = PQresultStatus(next.get());
    if (status == PGRES_COPY_IN || status == PGRES_COPY_OUT || status == PGRES_COPY_BOTH) {
      executing_ = false;
      abandon();
      throw Exception(Exception::Kind::UNIMPLEMENTED, "COPY is not supported here");
    }
    if (answer == nullptr || PQresultStatus(answer.get()) != PGRES_FATAL_ERROR) answer = std::move(next);
  }
  executing_ = false;
  while (std::unique_ptr<PGnotify, PgDeleter>(PQnotifies(conn_.get())) != nullptr) { // nobody listens
  }
  co_return answer;
}

PgResult PgConnection::Core::settled(ResultPtr result) const {
  if (PQstatus(conn_.get()) == CONNECTION_BAD) throw lost(conn_.get());
  switch (PQresultStatus(result.get())) {
  case PGRES_COMMAND_OK:
  case PGRES_TUPLES_OK:
  case PGRES_EMPTY_QUERY:
    return PgResult(result.release());
  default:
    break;
  }
  const char* const state = PQresultErrorField(result.get(), PG_DIAG_SQLSTATE);
  const char* const message = PQresultErrorField(result.get(), PG_DIAG_MESSAGE_PRIMARY);
  throw PgError(state != nullptr ? state : "XX000",
                oneLine(message != nullptr ? message : PQresultErrorMessage(result.get())));
}

Promise<PgResult> PgConnection::Core::query(std::shared_ptr<Core> core, std::string sql, PgParameters parameters) {
  AsyncMutex::Lock lock = co_await core->turn_.lock();
  core->require();
  const Running running(core, std::move(lock));
  core->send(sql, parameters);
  co_await core->flush();
  ResultPtr result = co_await core->receive();
  co_return core->settled(std::move(result));
}

Promise<void> PgConnection::Core::onIdle(std::shared_ptr<Core> core) {
  const AsyncMutex::Lock turn = co_await core->turn_.lock();
  core->require();
}

// An idle server sends nothing but notices and its farewell, behind which is the end: so it is read on.
bool PgConnection::Core::isOpen() const noexcept {
  if (conn_ == nullptr) return false;
  pollfd socket{PQsocket(conn_.get()), POLLIN, 0};
  while (isIdle() && ::poll(&socket, 1, 0) > 0 && PQconsumeInput(conn_.get()) != 0) {
  }
  return PQstatus(conn_.get()) == CONNECTION_OK;
}

// ------------------------------------------------------------------------------------------ cancelling

// Called from a destructor.
void PgConnection::Core::startRecovery(AsyncMutex::Lock lock) noexcept {
  if (conn_ == nullptr) return;
  if (PQstatus(conn_.get()) == CONNECTION_BAD) return abandon();
  try {
    recovery_ = recover(std::move(lock)).eagerlyEvaluate(nullptr);
  } catch (...) { // there is no memory
    abandon();
  }
}

Promise<void> PgConnection::Core::recover(AsyncMutex::Lock lock) {
  try {
    co_await io_.timer().timeoutAfter(CANCEL_LIMIT, cancelUntilIdle());
  } catch (...) { // what libpq reports, or no memory: the connection is of no use any more
  }
  if (executing_) abandon();
  lock.unlock();
}

// The query must be with the server as a whole, or it would wait for the rest.
Promise<void> PgConnection::Core::cancelUntilIdle() {
  co_await flush();
  while (executing_) {
    CancelPtr cancel(PQgetCancel(conn_.get()));
    if (cancel == nullptr) throw std::bad_alloc();
    // It blocks, and may fail: then it is asked for again.
    Promise<void> asked = runInThreadPool(io_, [cancel = std::move(cancel)] {
      std::array<char, 256> error;
      PQcancel(cancel.get(), error.data(), static_cast<int>(error.size()));
    });
    co_await std::move(asked);
    co_await receive().ignoreResult().exclusiveJoin(io_.timer().afterDelay(CANCEL_AGAIN));
  }
}

// ------------------------------------------------------------------------------------------ connection

PgConnection::~PgConnection() { core_->close(); }

Promise<PgResult> PgConnection::query(std::string sql, PgParameters parameters) {
  requireText(sql);
  for (const std::optional<std::string>& parameter : parameters)
    if (parameter) requireText(*parameter);
  return Core::query(core_, std::move(sql), std::move(parameters));
}

Promise<void> PgConnection::onIdle() { return Core::onIdle(core_); }
bool PgConnection::isIdle() const noexcept { return core_->isIdle(); }
bool PgConnection::isOpen() const noexcept { return core_->isOpen(); }
bool PgConnection::isInTransaction() const noexcept { return core_->isInTransaction(); }
