// SPDX-License-Identifier: MIT
// A peer in the HTTP benchmark: Boost.Beast, driven by callbacks, with a WebSocket that echoes at `/ws`.

// Beast is a toolbox, so this is one way to use it: the one of its "fast" example. A connection keeps its objects,
// bodies that are constants are not copied, and there are no timers.

#include "../program.h"

#include <boost/asio/buffer.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <boost/beast/version.hpp>
#include <boost/beast/websocket.hpp>
#include <boost/version.hpp>

#include <algorithm>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace {

namespace beast = boost::beast;
namespace http = beast::http;
namespace websocket = beast::websocket;
using boost::asio::ip::tcp;
using boost::system::error_code;

constexpr std::size_t BODY_LIMIT = std::size_t{16} << 20;
constexpr std::size_t FIRST_BUFFER_SIZE = 4096;

const std::string GREETING = "Hello, world!";
const std::string LARGE(std::size_t{1} << 20, 'x');

/// Echoes messages until the peer closes.
class WebSocketConnection : public std::enable_shared_from_this<WebSocketConnection> {
public:
  explicit WebSocketConnection(tcp::socket&& socket) : stream(std::move(socket)) {}

  void run(const http::request<http::string_body>& request) {
    stream.async_accept(request, [self = shared_from_this()](error_code error) {
      if (!error) self->read();
    });
  }

private:
  void read() {
    stream.async_read(buffer, [self = shared_from_this()](error_code error, std::size_t) {
      if (!error) self->write();
    });
  }

  void write() {
    stream.text(stream.got_text());
    stream.async_write(buffer.data(), [self = shared_from_this()](error_code error, std::size_t) {
      if (error) return;
      self->buffer.clear();
      self->read();
    });
  }

  websocket::stream<tcp::socket> stream;
  beast::flat_buffer buffer;
};

/// Answers requests one after the other.
class Connection : public std::enable_shared_from_this<Connection> {
public:
  explicit Connection(tcp::socket&& accepted) : socket(std::move(accepted)) { buffer.reserve(FIRST_BUFFER_SIZE); }

  void read() {
    parser.emplace();
    parser->body_limit(BODY_LIMIT);
    http::async_read(socket, buffer, *parser, [self = shared_from_this()](error_code error, std::size_t) {
      if (error) {
        self->end(error);
      } else {
        self->answer();
      }
    });
  }

private:
  void answer() {
    auto& request = parser->get();
    const auto target = request.target();
    if (target == "/ws" && websocket::is_upgrade(request)) {
      std::make_shared<WebSocketConnection>(std::move(socket))->run(parser->release());
    } else if (target == "/echo" && request.method() == http::verb::post) {
      writeOwned(std::move(request.body()));
    } else if (target == "/" || target == "/large") {
      writeConstant(target == "/" ? GREETING : LARGE);
    } else {
      writeConstant("not found", http::status::not_found);
    }
  }

  template <typename Response>
  void complete(Response& response, http::status status, const char* type) {
    const auto& request = parser->get();
    response.result(status);
    response.version(request.version());
    response.keep_alive(request.keep_alive());
    response.set(http::field::content_type, type);
    response.prepare_payload();
  }

  void writeConstant(std::string_view body, http::status status = http::status::ok) {
    auto& response = constant.emplace();
    response.body() = {body.data(), body.size()};
    complete(response, status, "text/plain");
    write(response);
  }

  void writeOwned(std::string&& body) {
    auto& response = owned.emplace();
    response.body() = std::move(body);
    complete(response, http::status::ok, "application/octet-stream");
    write(response);
  }

  template <typename Response>
  void write(Response& response) {
    http::async_write(socket, response, [self = shared_from_this(), &response](error_code error, std::size_t) {
      const bool last = response.need_eof();
      self->constant.reset();
      self->owned.reset();
      if (error || last) {
        self->end(error);
      } else {
        self->read();
      }
    });
  }

  // The socket closes with the last callback, which has been the caller.
  void end(error_code) {
    error_code ignored;
    socket.shutdown(tcp::socket::shutdown_send, ignored);
  }

  tcp::socket socket;
  beast::flat_buffer buffer;
  std::optional<http::request_parser<http::string_body>> parser;
  std::optional<http::response<http::span_body<const char>>> constant;
  std::optional<http::response<http::string_body>> owned;
};

void accept(tcp::acceptor& acceptor) {
  acceptor.async_accept([&acceptor](error_code error, tcp::socket socket) {
    if (!error) {
      socket.set_option(tcp::no_delay(true));
      std::make_shared<Connection>(std::move(socket))->read();
    }
    if (acceptor.is_open()) accept(acceptor);
  });
}

int run(std::uint16_t port) {
  boost::asio::io_context context(1);
  tcp::acceptor acceptor(context, {boost::asio::ip::make_address("127.0.0.1"), port});
  boost::asio::signal_set signals(context, SIGTERM, SIGINT);
  signals.async_wait([&](error_code, int) { context.stop(); });
  std::printf("listening on http://127.0.0.1:%d\n", acceptor.local_endpoint().port());
  std::fflush(stdout);
  accept(acceptor);
  context.run();
  return 0;
}

[[noreturn]] void usage() {
  std::fputs("usage: http_beast [--port N] | --version\n", stderr);
  std::exit(2);
}

void printVersion() {
  std::printf("Boost.Beast %d of Boost %d.%d.%d\n", BOOST_BEAST_VERSION, BOOST_VERSION / 100000,
              BOOST_VERSION / 100 % 1000, BOOST_VERSION % 100);
}

} // namespace

int main(int argc, char** argv) {
  const std::optional<std::uint16_t> port = parsePort(argc, argv, usage, printVersion);
  if (!port) return 0;
  try {
    return run(*port);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "http_beast: %s\n", error.what());
    return 1;
  }
}
