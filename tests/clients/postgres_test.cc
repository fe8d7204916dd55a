// SPDX-License-Identifier: MIT
// Tests of examples/postgres against the server at TROTH_POSTGRES (what libpq calls a connection string), which listens
// on 127.0.0.1 and TROTH_POSTGRES_PORT too.
#include "pg_pool.h"

#include "fixtures.h"

#include <troth/net/network.h>
#include <troth/timers/timer.h>

#include <algorithm>
#include <cstdlib>

using namespace troth;
using namespace troth::test;
using namespace std::chrono_literals;

namespace {

using ConnectionPtr = std::unique_ptr<PgConnection>;
using Kind = Exception::Kind;

std::string server() { return std::getenv("TROTH_POSTGRES"); }

ConnectionPtr connect(IoTest& test) { return PgConnection::connect(test.io, server()).wait(test.scope); }

/// The single value of a query.
std::string valueOf(IoTest& test, Promise<PgResult> query) {
  const PgResult result = std::move(query).wait(test.scope);
  REQUIRE((result.rows() == 1 && result.columns() == 1));
  return std::string(result.value(0, 0).value_or("(null)"));
}

/// The SQLSTATE with which a query is refused.
std::string stateOf(IoTest& test, Promise<PgResult> query) {
  try {
    std::move(query).wait(test.scope);
  } catch (const PgError& e) {
    CHECK(contains(e.what(), e.sqlState()));
    return e.sqlState();
  }
  return "no error";
}

template <typename T>
void expectLost(IoTest& test, Promise<T> promise) {
  CHECK((failureOf(std::move(promise), test.scope).kind() == Kind::DISCONNECTED));
}

/// Waits until the server executes a query that has `mark` in its text, or executes none any more.
void waitForServer(IoTest& test, PgConnection& observer, const std::string& mark, std::string count) {
  const std::string sql = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE $1 AND pid <> pg_backend_pid()";
  for (int i = 0; valueOf(test, observer.query(sql, {"%" + mark + "%"})) != count; ++i) {
    REQUIRE_MESSAGE(i < 1000, "the server does not begin, or end, a query");
    test.io.timer().afterDelay(5ms).wait(test.scope);
  }
}

} // namespace

TEST_CASE_FIXTURE(IoTest, "a query gives rows, names, NULLs and counts") {
  const ConnectionPtr connection = connect(*this);
  const PgResult result = connection->query("SELECT n, NULL AS none, $1::text AS text FROM generate_series(1, 3) AS n", {"ä 'x'"}).wait(scope);
  REQUIRE(result.rows() == 3);
  REQUIRE(result.columns() == 3);
  CHECK(result.name(0) == "n");
  CHECK(result.name(2) == "text");
  CHECK(result.value(2, 0) == "3");
  CHECK(!result.value(0, 1));
  CHECK(result.value(1, 2) == "ä 'x'");
  CHECK_THROWS_AS(result.value(3, 0), std::out_of_range);
  CHECK_THROWS_AS(result.name(3), std::out_of_range);
  CHECK(connection->query("SELECT $1::text", {std::nullopt}).wait(scope).value(0, 0) == std::nullopt);
  CHECK(connection->query("").wait(scope).rows() == 0);
  CHECK(connection->query("CREATE TEMPORARY TABLE t AS SELECT generate_series(1, 5)").wait(scope).affected() == 5);
  CHECK(connection->query("DELETE FROM t").wait(scope).affected() == 5);
  CHECK_THROWS_AS(connection->query(std::string("SELECT 1\0", 9)).wait(scope), std::invalid_argument);
  CHECK_THROWS_AS(connection->query("SELECT $1", {std::string("\0", 1)}).wait(scope), std::invalid_argument);
}

TEST_CASE_FIXTURE(IoTest, "an error has its SQLSTATE and leaves the connection usable; COPY ends it") {
  const ConnectionPtr connection = connect(*this);
  CHECK(stateOf(*this, connection->query("SELECT * FROM nothing")) == "42P01");
  CHECK(stateOf(*this, connection->query("SELECT 1 / $1::int", {"0"})) == "22012");
  CHECK(stateOf(*this, connection->query("SELECT 1; SELECT 2")) == "42601");
  CHECK(valueOf(*this, connection->query("SELECT 'fine'")) == "fine");
  CHECK((failureOf(connection->query("COPY (SELECT 1) TO STDOUT"), scope).kind() == Kind::UNIMPLEMENTED));
  CHECK(!connection->isOpen());
  expectLost(*this, connection->query("SELECT 1"));
}

TEST_CASE_FIXTURE(IoTest, "queries of one connection are executed in their order, whatever their size") {
  const ConnectionPtr connection = connect(*this);
  const std::string large(8 << 20, 'x');
  CHECK(connection->isIdle());
  Promise<PgResult> created = connection->query("CREATE TEMPORARY TABLE t (n serial, text text)");
  std::vector<Promise<PgResult>> inserted;
  for (int i = 1; i <= 10; ++i)
    inserted.push_back(connection->query("INSERT INTO t (text) VALUES ($1) RETURNING n", {i == 5 ? large : "small"}));
  Promise<PgResult> selected = connection->query("SELECT text FROM t WHERE n = 5");
  CHECK(!connection->isIdle());
  CHECK((valueOf(*this, std::move(selected)) == large));
  for (std::size_t i = 0; i < inserted.size(); ++i)
    CHECK(valueOf(*this, std::move(inserted[i])) == std::to_string(i + 1));
  std::move(created).wait(scope);
  connection->onIdle().wait(scope);
  CHECK(connection->isIdle());
}

TEST_CASE_FIXTURE(IoTest, "a query that is dropped is cancelled on the server, and one in line never begins") {
  const ConnectionPtr observer = connect(*this);
  const ConnectionPtr connection = connect(*this);
  connection->query("CREATE TEMPORARY TABLE t (n int)").wait(scope);
  Promise<PgResult> next = connection->query("SELECT 1");
  {
    Promise<PgResult> dropped = connection->query("SELECT pg_sleep(600) AS dropped");
    const Promise<PgResult> inLine = connection->query("INSERT INTO t VALUES (1)");
    next = connection->query("SELECT count(*) FROM t");
    CHECK(!dropped.poll(scope));
    waitForServer(*this, *observer, "dropped", "1");
  }
  CHECK(valueOf(*this, std::move(next)) == "0");
  waitForServer(*this, *observer, "dropped", "0");

  for (int i = 0; i < 20; ++i) { // before the server has even begun, and later
    {
      Promise<PgResult> dropped = connection->query("SELECT pg_sleep(600)");
      for (int k = 0; k < i; ++k) dropped.poll(scope);
    }
    CHECK(valueOf(*this, connection->query("SELECT $1::text", {std::to_string(i)})) == std::to_string(i));
  }
  { // in the middle of its answer
    Promise<PgResult> dropped = connection->query("SELECT generate_series(1, 3000000)");
    CHECK(!dropped.poll(scope));
    observer->query("SELECT pg_sleep(0.02)").wait(scope);
  }
  CHECK(valueOf(*this, connection->query("SELECT 'whole'")) == "whole");
  { // in the middle of its text
    Promise<PgResult> dropped = connection->query("SELECT length($1), pg_sleep(600)", {std::string(8 << 20, 'x')});
    CHECK(!dropped.poll(scope));
  }
  CHECK(valueOf(*this, connection->query("SELECT 'whole'")) == "whole");
}

TEST_CASE_FIXTURE(IoTest, "a connection that is destroyed fails what it executes, cancels or has in line") {
  ConnectionPtr connection = connect(*this);
  Promise<PgResult> executed = connection->query("SELECT pg_sleep(1)");
  Promise<PgResult> inLine = connection->query("SELECT 1");
  const Promise<PgResult> neverRun = connection->query("SELECT 1");
  CHECK(!executed.poll(scope));
  connection.reset();
  expectLost(*this, std::move(executed));
  expectLost(*this, std::move(inLine));

  connection = connect(*this);
  executed = connection->query("SELECT 1");
  Promise<void> destroyed = std::move(executed).then([&](PgResult) { connection.reset(); }).eagerlyEvaluate(nullptr);
  inLine = connection->query("SELECT 2");
  std::move(destroyed).wait(scope);
  expectLost(*this, std::move(inLine));

  connection = connect(*this);
  { const Promise<PgResult> dropped = connection->query("SELECT pg_sleep(1)"); }
  inLine = connection->query("SELECT 1");
  connection.reset(); // while it cancels
  expectLost(*this, std::move(inLine));
}

TEST_CASE_FIXTURE(IoTest, "connecting goes on to the next address when one refuses, and fails when all do") {
  const std::unique_ptr<NetworkAddress> address = newNetwork(io)->parseAddress("127.0.0.1:0").wait(scope);
  const std::string used = address->listen()->toString(); // and given up at once
  const std::string refusing = used.substr(used.rfind(':') + 1);
  const std::string hosts = " host=127.0.0.1,127.0.0.1 port=" + refusing + ",";
  const ConnectionPtr connection = PgConnection::connect(io, server() + hosts + std::getenv("TROTH_POSTGRES_PORT")).wait(scope);
  CHECK(valueOf(*this, connection->query("SELECT 'here'")) == "here");
  expectLost(*this, PgConnection::connect(io, server() + hosts + refusing));
  // The socket that refused stays ready: who watched it on, instead of the next, which says nothing, would never sleep.
  const std::unique_ptr<ConnectionReceiver> silent = address->listen();
  const std::string itsName = silent->toString();
  Promise<ConnectionPtr> waiting = PgConnection::connect(io, server() + hosts + itsName.substr(itsName.rfind(':') + 1));
  io.timer().afterDelay(50ms).wait(scope);
  REQUIRE(scope.poll(1000) < 1000);
  CHECK(!waiting.poll(scope));
  expectLost(*this, PgConnection::connect(io, "host=/nonexistent"));
  expectLost(*this, PgConnection::connect(io, "no such thing"));
}

TEST_CASE_FIXTURE(IoTest, "a connection that the server ends is lost, whether it is busy or idle") {
  const ConnectionPtr killer = connect(*this);
  const auto kill = [&](const std::string& pid) {
    CHECK(valueOf(*this, killer->query("SELECT pg_terminate_backend($1::int, 5000)", {pid})) == "t");
  };
  const ConnectionPtr busy = connect(*this);
  const std::string pid = valueOf(*this, busy->query("SELECT pg_backend_pid()"));
  Promise<PgResult> query = busy->query("SELECT pg_sleep(600) AS victim");
  CHECK(!query.poll(scope));
  waitForServer(*this, *killer, "victim", "1");
  kill(pid);
  expectLost(*this, std::move(query));
  CHECK(!busy->isOpen());
  expectLost(*this, busy->query("SELECT 1"));

  const ConnectionPtr idle = connect(*this);
  kill(valueOf(*this, idle->query("SELECT pg_backend_pid()")));
  CHECK(!idle->isOpen());
  expectLost(*this, idle->query("SELECT 1"));
}

TEST_CASE_FIXTURE(IoTest, "a pool lends so many connections, first come, first served, and keeps them") {
  PgPoolOptions options;
  options.maxConnections = 1;
  std::string order;
  {
    PgPool pool(io, server(), options);
    std::vector<Promise<void>> users;
    for (const char name : {'a', 'b', 'c', 'd', 'e', 'f'})
      users.push_back(pool.acquire().then([&order, name](PgPool::Lease) { order += name; }).eagerlyEvaluate(nullptr));
    users.erase(users.begin() + 3);
    for (Promise<void>& user : users) std::move(user).wait(scope);
  }
  CHECK(order == "abcef");

  options.maxConnections = 2;
  PgPool pool(io, server(), options);
  std::vector<Promise<PgResult>> queries;
  for (int i = 0; i < 50; ++i) queries.push_back(pool.query("SELECT pg_backend_pid()"));
  std::vector<std::string> pids;
  for (Promise<PgResult>& query : queries) {
    const std::string pid = valueOf(*this, std::move(query));
    if (std::find(pids.begin(), pids.end(), pid) == pids.end()) pids.push_back(pid);
  }
  CHECK(pids.size() <= 2);
  CHECK_THROWS_AS(PgPool(io, server(), PgPoolOptions{0, 1s, ""}), std::invalid_argument);
}

TEST_CASE_FIXTURE(IoTest, "a connection goes to the next one clean: cancelled, rolled back and reset") {
  const ConnectionPtr observer = connect(*this);
  observer->query("CREATE TABLE IF NOT EXISTS shared (n int)").wait(scope);
  observer->query("DELETE FROM shared").wait(scope);
  PgPoolOptions options;
  options.maxConnections = 1;
  PgPool pool(io, server(), options);
  const std::string pid = valueOf(*this, pool.query("SELECT pg_backend_pid()"));
  {
    const PgPool::Lease lease = pool.acquire().wait(scope);
    lease->query("SET search_path TO nowhere").wait(scope);
    lease->query("CREATE TEMPORARY TABLE mine (n int)").wait(scope);
    lease->query("BEGIN").wait(scope);
    lease->query("INSERT INTO public.shared VALUES (1)").wait(scope);
    CHECK(lease->isInTransaction());
    Promise<PgResult> dropped = lease->query("SELECT pg_sleep(600) AS left_behind");
    CHECK(!dropped.poll(scope));
    waitForServer(*this, *observer, "left_behind", "1");
  }
  CHECK(valueOf(*this, pool.query("SELECT pg_backend_pid()")) == pid);
  CHECK(valueOf(*this, pool.query("SELECT count(*) FROM shared")) == "0");
  CHECK(stateOf(*this, pool.query("SELECT * FROM mine")) == "42P01");
  {
    Promise<PgResult> dropped = io.timer().timeoutAfter(20ms, pool.query("SELECT pg_sleep(600)"));
    CHECK((failureOf(std::move(dropped), scope).kind() == Kind::OVERLOADED));
  }
  CHECK(valueOf(*this, pool.query("SELECT pg_backend_pid()")) == pid);

  // A lost one is replaced, at once or when it is wanted.
  Promise<PgResult> victim = pool.query("SELECT pg_sleep(600) AS lost");
  CHECK(!victim.poll(scope));
  waitForServer(*this, *observer, "AS lost", "1"); // before, the connection is being cleaned: another would be made
  observer->query("SELECT pg_terminate_backend($1::int, 5000)", {pid}).wait(scope);
  expectLost(*this, std::move(victim));
  const std::string second = valueOf(*this, pool.query("SELECT pg_backend_pid()"));
  CHECK(second != pid);
  pool.onIdle().wait(scope);
  observer->query("SELECT pg_terminate_backend($1::int, 5000)", {second}).wait(scope);
  CHECK(valueOf(*this, pool.query("SELECT pg_backend_pid()")) != second);
}

TEST_CASE_FIXTURE(IoTest, "a pool that is destroyed fails who waits or connects; who has a connection goes on") {
  PgPoolOptions options;
  options.maxConnections = 2;
  auto pool = std::make_unique<PgPool>(io, server(), options);
  const PgPool::Lease lease = pool->acquire().wait(scope);
  Promise<PgPool::Lease> connecting = pool->acquire();
  Promise<PgPool::Lease> waiting = pool->acquire();
  Promise<void> idle = pool->onIdle();
  CHECK(!waiting.poll(scope));
  pool.reset();
  CHECK(valueOf(*this, lease->query("SELECT 'mine'")) == "mine");
  expectLost(*this, std::move(waiting));
  expectLost(*this, std::move(idle));
  if (!connecting.poll(scope)) FAIL("neither connected nor failed");
}

TEST_CASE("connecting, queries and pools can be cancelled at every step") {
  const auto direct = [](IoTest& test) -> Promise<void> {
    const ConnectionPtr connection = co_await PgConnection::connect(test.io, server());
    Promise<PgResult> first = connection->query("SELECT 1");
    Promise<PgResult> second = connection->query("SELECT pg_sleep(0.01)");
    co_await std::move(first);
    co_await std::move(second);
  };
  CHECK(cancelSweep(std::function<Promise<void>(IoTest&)>(direct)) > 5);
  const auto pooled = [](IoTest& test) -> Promise<void> {
    PgPoolOptions options;
    options.maxConnections = 1;
    PgPool pool(test.io, server(), options);
    Promise<PgResult> first = pool.query("SELECT 1");
    Promise<PgResult> second = pool.query("BEGIN");
    co_await std::move(first);
    co_await std::move(second);
    co_await pool.onIdle();
  };
  CHECK(cancelSweep(std::function<Promise<void>(IoTest&)>(pooled)) > 5);
}
