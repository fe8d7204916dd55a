// SPDX-License-Identifier: MIT
// A peer in the echo benchmark: KJ (Cap'n Proto's runtime), with promises chained by `then`.

// KJ 0.9, the version in Debian 12, is older than KJ's support for coroutines in g++, so this is
// written the way its users wrote it. KJ sets TCP_NODELAY on every connection by itself.

#include <kj/array.h>
#include <kj/async-io.h>
#include <kj/async-unix.h>
#include <kj/common.h>
#include <kj/debug.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <string_view>

#ifndef KJ_VERSION
#define KJ_VERSION "(unknown version)"
#endif

namespace {

class Connection {
public:
  explicit Connection(kj::Own<kj::AsyncIoStream> accepted) : stream(kj::mv(accepted)) {}

  kj::Promise<void> run() {
    return stream->tryRead(bytes, 1, sizeof bytes).then([this](size_t size) -> kj::Promise<void> {
      if (size == 0) return kj::READY_NOW;
      return stream->write(bytes, size).then([this] { return run(); });
    });
  }

private:
  kj::Own<kj::AsyncIoStream> stream;
  kj::byte bytes[4096];
};

class Server final : private kj::TaskSet::ErrorHandler {
public:
  explicit Server(kj::ConnectionReceiver& bound) : receiver(bound), connections(*this) {}

  kj::Promise<void> run() {
    return receiver.accept().then([this](kj::Own<kj::AsyncIoStream> stream) {
      auto connection = kj::heap<Connection>(kj::mv(stream));
      auto done = connection->run();
      connections.add(done.attach(kj::mv(connection)));
      return run();
    });
  }

private:
  void taskFailed(kj::Exception&& failure) override {
    // A peer that resets its connection ends it, as one that closes it does.
    if (failure.getType() != kj::Exception::Type::DISCONNECTED) KJ_LOG(ERROR, failure);
  }

  kj::ConnectionReceiver& receiver;
  kj::TaskSet connections;
};

void run(const char* address, unsigned port) {
  kj::UnixEventPort::captureSignal(SIGTERM);
  kj::UnixEventPort::captureSignal(SIGINT);
  auto io = kj::setupAsyncIo();
  auto bound = io.provider->getNetwork().parseAddress(address, port).wait(io.waitScope);
  auto receiver = bound->listen();
  std::printf("listening on %s:%u\n", address, receiver->getPort());
  std::fflush(stdout);

  Server server(*receiver);
  auto ended =
      io.unixEventPort.onSignal(SIGTERM).ignoreResult().exclusiveJoin(io.unixEventPort.onSignal(SIGINT).ignoreResult());
  server.run().exclusiveJoin(kj::mv(ended)).wait(io.waitScope);
}

} // namespace

int main(int argc, char** argv) {
  const char* address = "127.0.0.1";
  unsigned port = 0;
  for (int i = 1; i < argc; ++i) {
    std::string_view name = argv[i];
    if (name == "--version") {
      std::puts("KJ " KJ_VERSION);
      return 0;
    }
    if (name == "--address" && i + 1 < argc) {
      address = argv[++i];
    } else if (name == "--port" && i + 1 < argc) {
      port = static_cast<unsigned>(std::atoi(argv[++i]));
    } else {
      std::fputs("usage: echo_kj [--address ADDR] [--port N] | --version\n", stderr);
      return 2;
    }
  }
  run(address, port);
  return 0;
}
