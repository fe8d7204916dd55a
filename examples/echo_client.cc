// SPDX-License-Identifier: MIT
// An echo client: sends standard input and prints what comes back. Adds to the server: connecting, and
// reading and writing at the same time.
//
//   echo hello | echo_client --port 7000
#include "options.h"

#include <troth/io/async_io.h>
#include <troth/net/network.h>

#include <array>
#include <cstdio>
#include <unistd.h>

using namespace troth;

void print(std::span<const std::byte> bytes) { std::fwrite(bytes.data(), 1, bytes.size(), stdout); }

// Sends piece by piece and waits for each to come back, so standard input may be read in the plain,
// blocking way: there is nothing else to do meanwhile.
Promise<void> talk(AsyncIoStream& server) {
  std::array<std::byte, 65536> piece;
  std::array<std::byte, 65536> reply;
  for (;;) {
    const ssize_t size = ::read(STDIN_FILENO, piece.data(), piece.size());
    if (size <= 0) break;
    const auto count = static_cast<std::size_t>(size);
    Promise<void> sending = server.write(std::span<const std::byte>(piece).first(count));
    co_await server.read(std::span(reply).first(count));
    co_await std::move(sending);
    print(std::span<const std::byte>(reply).first(count));
    std::fflush(stdout);
  }
  server.shutdownWrite();
  for (;;) {
    const Chunk rest = co_await server.tryReadChunk();
    if (rest.empty()) co_return;
    print(rest);
  }
}

int main(int argc, char** argv) try {
  Options options(argc, argv, {{"address", "127.0.0.1"}, {"port", "7000"}});
  AsyncIoContext io = setupAsyncIo();
  auto network = newNetwork(io);
  auto server = network->parseAddress(options.text("address"), options.port("port"))
                    .then([](std::unique_ptr<NetworkAddress> address) { return address->connect(); })
                    .wait(io.waitScope());
  talk(*server).wait(io.waitScope());
} catch (...) {
  return failed("echo_client");
}
