// SPDX-License-Identifier: MIT
// A peer in the HTTP benchmark: KJ's HTTP server, with a WebSocket that echoes at `/ws`.

// Written for KJ 0.9, the version in Debian 12, as its users wrote for it: promises chained by `then`.

#include "../program.h"

#include <kj/array.h>
#include <kj/async-io.h>
#include <kj/async-unix.h>
#include <kj/common.h>
#include <kj/compat/http.h>
#include <kj/string.h>

#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <optional>

#ifndef KJ_VERSION
#define KJ_VERSION "(unknown version)"
#endif

namespace {

constexpr size_t LARGE_SIZE = size_t{1} << 20;

// KJ's interfaces have no virtual destructor: what is owned is destroyed through what made it.
#pragma GCC diagnostic ignored "-Wnon-virtual-dtor"

class Service final : public kj::HttpService {
public:
  explicit Service(const kj::HttpHeaderTable& known) : table(known), large(kj::heapArray<kj::byte>(LARGE_SIZE)) {
    for (kj::byte& byte : large) byte = 'x';
  }

  kj::Promise<void> request(kj::HttpMethod method, kj::StringPtr url, const kj::HttpHeaders& headers,
                            kj::AsyncInputStream& body, Response& response) override {
    if (url == "/") return answer(response, kj::StringPtr("Hello, world!").asBytes());
    if (url == "/large") return answer(response, large);
    if (url == "/echo" && method == kj::HttpMethod::POST) return echo(body, response);
    if (url == "/ws" && headers.isWebSocket()) return echoMessages(response);
    return response.sendError(404, "Not Found", table);
  }

private:
  kj::Promise<void> answer(Response& response, kj::ArrayPtr<const kj::byte> bytes) {
    kj::HttpHeaders headers(table);
    headers.set(kj::HttpHeaderId::CONTENT_TYPE, "text/plain");
    auto stream = response.send(200, "OK", headers, bytes.size());
    auto written = stream->write(bytes.begin(), bytes.size());
    return written.attach(kj::mv(stream));
  }

  kj::Promise<void> echo(kj::AsyncInputStream& body, Response& response) {
    kj::HttpHeaders headers(table);
    headers.set(kj::HttpHeaderId::CONTENT_TYPE, "application/octet-stream");
    auto stream = response.send(200, "OK", headers, body.tryGetLength());
    auto pumped = body.pumpTo(*stream).ignoreResult();
    return pumped.attach(kj::mv(stream));
  }

  kj::Promise<void> echoMessages(Response& response) {
    auto socket = response.acceptWebSocket(kj::HttpHeaders(table));
    auto echoed = echoNext(*socket);
    return echoed.attach(kj::mv(socket));
  }

  kj::Promise<void> echoNext(kj::WebSocket& socket) {
    return socket.receive().then([this, &socket](kj::WebSocket::Message&& message) -> kj::Promise<void> {
      KJ_SWITCH_ONEOF(message) {
        KJ_CASE_ONEOF(text, kj::String) {
          auto sent = socket.send(text);
          return sent.attach(kj::mv(text)).then([this, &socket] { return echoNext(socket); });
        }
        KJ_CASE_ONEOF(bytes, kj::Array<kj::byte>) {
          auto sent = socket.send(bytes);
          return sent.attach(kj::mv(bytes)).then([this, &socket] { return echoNext(socket); });
        }
        KJ_CASE_ONEOF(close, kj::WebSocket::Close) {
          auto sent = socket.close(close.code, close.reason);
          return sent.attach(kj::mv(close));
        }
      }
      KJ_UNREACHABLE;
    });
  }

  const kj::HttpHeaderTable& table;
  kj::Array<kj::byte> large;
};

void run(unsigned port) {
  kj::UnixEventPort::captureSignal(SIGTERM);
  kj::UnixEventPort::captureSignal(SIGINT);
  auto io = kj::setupAsyncIo();
  auto bound = io.provider->getNetwork().parseAddress("127.0.0.1", port).wait(io.waitScope);
  auto receiver = bound->listen();

  kj::HttpHeaderTable::Builder builder;
  auto table = builder.build();
  Service service(*table);
  kj::HttpServerSettings settings;
  settings.pipelineTimeout = 1 * kj::HOURS; // idle connections are part of what is measured
  kj::HttpServer server(io.provider->getTimer(), *table, service, settings);
  std::printf("listening on http://127.0.0.1:%u\n", receiver->getPort());
  std::fflush(stdout);

  auto ended =
      io.unixEventPort.onSignal(SIGTERM).ignoreResult().exclusiveJoin(io.unixEventPort.onSignal(SIGINT).ignoreResult());
  server.listenHttp(*receiver).exclusiveJoin(kj::mv(ended)).wait(io.waitScope);
}

[[noreturn]] void usage() {
  std::fputs("usage: http_kj [--port N] | --version\n", stderr);
  std::exit(2);
}

void printVersion() { std::puts("KJ " KJ_VERSION); }

} // namespace

int main(int argc, char** argv) {
  const std::optional<std::uint16_t> port = parsePort(argc, argv, usage, printVersion);
  if (!port) return 0;
  run(*port);
  return 0;
}
