// SPDX-License-Identifier: MIT
// Queries a PostgreSQL server. Shows libpq on the loop, whose socket changes while it connects; a pool of connections;
// and that dropping the promise of a query, here by a time-out, cancels it on the server.
//
//   postgres --connect 'host=/run/postgresql dbname=postgres' 'SELECT $1::int + $2::int' 20 22
//   postgres --timeout 1 'SELECT pg_sleep(60)'; postgres 'SELECT query FROM pg_stat_activity'
//   postgres --times 1000 --connections 8 'SELECT 1'            so many queries at once over so many connections
#include "pg_pool.h"

#include "../options.h"

#include <troth/timers/timer.h>

#include <cstdio>
#include <cstdlib>

using namespace troth;

void print(const PgResult& result) {
  const auto printRow = [&](auto&& textOf) {
    for (std::size_t column = 0; column < result.columns(); ++column) {
      const std::string_view text = textOf(column);
      std::printf("%s%.*s", column == 0 ? "" : "\t", static_cast<int>(text.size()), text.data());
    }
    std::printf("\n");
  };
  if (result.columns() == 0) {
    std::printf("%zu rows changed\n", result.affected());
    return;
  }
  printRow([&](std::size_t column) { return result.name(column); });
  for (std::size_t row = 0; row < result.rows(); ++row)
    printRow([&](std::size_t column) { return result.value(row, column).value_or("(null)"); });
}

Promise<void> run(PgPool& pool, Timer& timer, std::string sql, PgParameters parameters, unsigned times) {
  const TimePoint begin = timer.now();
  std::vector<Promise<PgResult>> queries; // all at once: those that get no connection wait in line
  for (unsigned i = 0; i < times; ++i) queries.push_back(pool.query(sql, parameters));
  for (std::size_t i = 0; i < queries.size(); ++i) {
    const PgResult result = co_await std::move(queries[i]);
    if (i == 0) print(result);
  }
  const double milliseconds = std::chrono::duration<double, std::milli>(timer.now() - begin).count();
  if (times != 1) std::printf("%u queries in %.1f ms\n", times, milliseconds);
}

int main(int argc, char** argv) try {
  int first = 1; // of the query
  while (first < argc && std::string_view(argv[first]).starts_with("--")) first += 2;
  first = std::min(first, argc);
  const Options options(first, argv,
                        {{"connect", "dbname=postgres"}, {"connections", "4"}, {"timeout", "30"}, {"times", "1"}});
  if (first == argc) throw std::invalid_argument("say which query: postgres SQL [PARAMETER]…");
  PgPoolOptions each;
  each.maxConnections = options.number("connections", 1000);
  AsyncIoContext io = setupAsyncIo();
  PgPool pool(io, options.text("connect"), each);
  const std::chrono::seconds limit(options.number("timeout", 1'000'000));
  Promise<void> queries = run(pool, io.timer(), argv[first], PgParameters(argv + first + 1, argv + argc),
                              options.number("times", 1'000'000));
  try {
    io.timer().timeoutAfter(limit, std::move(queries)).wait(io.waitScope());
  } catch (...) {
    const int status = failed("postgres");
    // What was dropped is cancelled in the background, as long as we are there.
    try {
      io.timer().timeoutAfter(std::chrono::seconds(5), pool.onIdle()).wait(io.waitScope());
    } catch (...) { // the thread that asks for it may not come back, and the context would wait for it
      std::fflush(stdout);
      std::_Exit(status);
    }
    return status;
  }
} catch (...) {
  return failed("postgres");
}
