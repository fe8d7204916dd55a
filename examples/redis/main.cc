// SPDX-License-Identifier: MIT
// A client of Redis. Shows a C library with sockets of its own (hiredis) on the loop: an FdObserver tells it when to
// read and write, and each of its callbacks is a promise, with a time-out around it if one likes.
//
//   redis SET greeting hello; redis GET greeting        against a server on 127.0.0.1:6379
//   redis --pipeline 10000                              so many commands at once, all answers in order
//   redis --server 127.0.0.1:6380 --timeout 1 PING      words behind the options are the command
#include "redis_client.h"

#include "../options.h"

#include <troth/io/async_io.h>
#include <troth/runtime/require.h>
#include <troth/timers/timer.h>

#include <chrono>
#include <cstdio>

using namespace troth;

void print(const RedisReply& reply, std::size_t depth = 0) {
  switch (reply.kind) {
  case RedisReply::Kind::NIL:
    std::printf("(nil)\n");
    break;
  case RedisReply::Kind::INTEGER:
    std::printf("(integer) %lld\n", reply.integer);
    break;
  case RedisReply::Kind::ERROR:
    std::printf("(error) %s\n", reply.text.c_str());
    break;
  case RedisReply::Kind::TEXT:
  case RedisReply::Kind::STATUS:
    std::fwrite(reply.text.data(), 1, reply.text.size(), stdout);
    std::printf("\n");
    break;
  case RedisReply::Kind::ARRAY:
    std::printf("(%zu elements)\n", reply.elements.size());
    for (const RedisReply& element : reply.elements) {
      std::printf("%*s- ", static_cast<int>(2 * depth), "");
      print(element, depth + 1);
    }
  }
}

/// Counts up a key so many times, without waiting for an answer in between, and checks that each answer is the next.
Promise<void> pipeline(RedisClient& client, unsigned count, Timer& timer) {
  co_await client.command("DEL", "troth:counter");
  const TimePoint begin = timer.now();
  std::vector<Promise<RedisReply>> replies;
  for (unsigned i = 0; i < count; ++i) replies.push_back(client.command("INCR", "troth:counter"));
  long long last = 0;
  for (Promise<RedisReply>& reply : replies) {
    const RedisReply next = co_await std::move(reply);
    TROTH_REQUIRE(next.integer == last + 1, "an answer is out of order");
    last = next.integer;
  }
  const double milliseconds = std::chrono::duration<double, std::milli>(timer.now() - begin).count();
  std::printf("%lld answers, all in order, in %.1f ms\n", last, milliseconds);
}

Promise<void> run(AsyncIo& io, SocketAddress server, unsigned count, std::vector<std::string_view> words) {
  const std::unique_ptr<RedisClient> client = co_await RedisClient::connect(io, server);
  if (count != 0) co_await pipeline(*client, count, io.timer());
  if (!words.empty()) print(co_await client->commandOf(words));
}

int main(int argc, char** argv) try {
  int first = 1; // of the command
  while (first < argc && std::string_view(argv[first]).starts_with("--")) first += 2;
  const Options options(std::min(first, argc), argv,
                        {{"server", "127.0.0.1:6379"}, {"timeout", "5"}, {"pipeline", "0"}});
  const std::vector<std::string_view> words(argv + std::min(first, argc), argv + argc);
  const unsigned count = options.number("pipeline", 10'000'000);
  if (words.empty() && count == 0) throw std::invalid_argument("say which command to send: redis COMMAND [WORD]…");
  const std::chrono::seconds limit(options.number("timeout", 1'000'000));
  AsyncIoContext io = setupAsyncIo();
  const SocketAddress server = SocketAddress::parse(options.text("server"), 6379);
  io.timer().timeoutAfter(limit, run(io, server, count, words)).wait(io.waitScope());
} catch (...) {
  return failed("redis");
}
