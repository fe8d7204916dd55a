// SPDX-License-Identifier: MIT
// A client on troth that connects, exchanges one message and closes, over and over: what connect_libuv does.
#include "program.h"

#include <troth/io/async_io.h>
#include <troth/net/network.h>
#include <troth/runtime/join.h>

#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <exception>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

using namespace troth;

namespace {

struct Options {
  std::uint16_t port = 0;
  std::uint64_t count = 0;
  std::uint64_t warmup = 0;
  std::size_t parallel = 16;
  std::size_t size = 64;
};

[[noreturn]] void usage() {
  std::fputs("usage: connect_troth --port P --count N [--parallel N] [--warmup N] [--size S] | --version\n", stderr);
  std::exit(2);
}

Options parseOptions(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string_view name = argv[i];
    if (name == "--version") {
      printCompiler();
      std::exit(0);
    }
    if (++i == argc) usage();
    if (name == "--port")
      options.port = parseNumber<std::uint16_t>(argv[i], usage);
    else if (name == "--count")
      options.count = parseNumber<std::uint64_t>(argv[i], usage);
    else if (name == "--warmup")
      options.warmup = parseNumber<std::uint64_t>(argv[i], usage);
    else if (name == "--parallel")
      options.parallel = parseNumber<std::size_t>(argv[i], usage);
    else if (name == "--size")
      options.size = parseNumber<std::size_t>(argv[i], usage);
    else
      usage();
  }
  if (options.port == 0 || options.count == 0 || options.parallel == 0 || options.size == 0) usage();
  return options;
}

/// One of those that connect at the same time, as long as connections are left to be begun.
Promise<void> client(NetworkAddress& server, const std::vector<std::byte>& message, std::uint64_t& left) {
  std::vector<std::byte> answer(message.size());
  while (left > 0) {
    --left;
    const std::unique_ptr<AsyncIoStream> connection = co_await server.connect();
    co_await connection->write(message);
    co_await connection->read(answer);
    if (std::memcmp(answer.data(), message.data(), message.size()) != 0)
      throw std::runtime_error("the answer is not what was sent");
  }
}

void run(NetworkAddress& server, const Options& options, std::uint64_t count, WaitScope& scope) {
  const std::vector<std::byte> message(options.size, std::byte('x'));
  std::vector<Promise<void>> clients;
  for (std::size_t i = 0; i < options.parallel; ++i) clients.push_back(client(server, message, count));
  joinPromisesFailFast(std::move(clients)).wait(scope);
}

double seconds(clockid_t clock) {
  timespec now{};
  clock_gettime(clock, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) / 1e9;
}

} // namespace

int main(int argc, char** argv) try {
  const Options options = parseOptions(argc, argv);
  AsyncIoContext io = setupAsyncIo();
  const auto network = newNetwork(io);
  const auto server = network->parseAddress("127.0.0.1", options.port).wait(io.waitScope());

  run(*server, options, options.warmup, io.waitScope());
  const double start = seconds(CLOCK_MONOTONIC), cpu = seconds(CLOCK_PROCESS_CPUTIME_ID);
  run(*server, options, options.count, io.waitScope());
  std::printf("{\"connections\": %llu, \"seconds\": %.6f, \"cpu_seconds\": %.6f}\n",
              static_cast<unsigned long long>(options.count), seconds(CLOCK_MONOTONIC) - start,
              seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu);
} catch (const std::exception& e) {
  std::fprintf(stderr, "connect_troth: %s\n", e.what());
  return 1;
}
