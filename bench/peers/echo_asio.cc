// SPDX-License-Identifier: MIT
// A peer in the echo benchmark: standalone Asio, one C++20 coroutine for each connection.

#include <asio/awaitable.hpp>
#include <asio/buffer.hpp>
#include <asio/co_spawn.hpp>
#include <asio/detached.hpp>
#include <asio/io_context.hpp>
#include <asio/ip/tcp.hpp>
#include <asio/signal_set.hpp>
#include <asio/use_awaitable.hpp>
#include <asio/version.hpp>
#include <asio/write.hpp>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string_view>
#include <utility>

namespace {

using asio::ip::tcp;

// The buffer is part of the coroutine's frame, as in Asio's own examples, so an idle connection
// keeps it.
asio::awaitable<void> echo(tcp::socket socket) {
  char bytes[4096];
  try {
    for (;;) {
      auto size = co_await socket.async_read_some(asio::buffer(bytes), asio::use_awaitable);
      co_await asio::async_write(socket, asio::buffer(bytes, size), asio::use_awaitable);
    }
  } catch (const asio::system_error&) {
    // The end of the stream is an error like any other here: either way the socket is closed.
  }
}

asio::awaitable<void> serve(tcp::acceptor& acceptor) {
  for (;;) {
    auto socket = co_await acceptor.async_accept(asio::use_awaitable);
    socket.set_option(tcp::no_delay(true));
    asio::co_spawn(acceptor.get_executor(), echo(std::move(socket)), asio::detached);
  }
}

int run(const char* address, unsigned short port) {
  asio::io_context context(1);
  tcp::acceptor acceptor(context, {asio::ip::make_address(address), port});
  asio::signal_set signals(context, SIGTERM, SIGINT);
  signals.async_wait([&](asio::error_code, int) { context.stop(); });
  std::printf("listening on %s:%d\n", address, acceptor.local_endpoint().port());
  std::fflush(stdout);

  asio::co_spawn(context, serve(acceptor), [](std::exception_ptr failure) {
    if (failure) std::rethrow_exception(failure);
  });
  context.run();
  return 0;
}

} // namespace

int main(int argc, char** argv) {
  const char* address = "127.0.0.1";
  unsigned short port = 0;
  for (int i = 1; i < argc; ++i) {
    std::string_view name = argv[i];
    if (name == "--version") {
      std::printf("Asio %d.%d.%d\n", ASIO_VERSION / 100000, ASIO_VERSION / 100 % 1000, ASIO_VERSION % 100);
      return 0;
    }
    if (name == "--address" && i + 1 < argc) {
      address = argv[++i];
    } else if (name == "--port" && i + 1 < argc) {
      port = static_cast<unsigned short>(std::atoi(argv[++i]));
    } else {
      std::fputs("usage: echo_asio [--address ADDR] [--port N] | --version\n", stderr);
      return 2;
    }
  }
  try {
    return run(address, port);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "echo_asio: %s\n", error.what());
    return 1;
  }
}
