// SPDX-License-Identifier: MIT
// A TCP proxy: two pumps for each client. Each direction ends on its own, and at most so many clients are served at once.
//
//   proxy --port 7001 --to 127.0.0.1:7000 --clients 100      then talk to port 7001 as you would to 7000
#include "options.h"

#include <troth/io/async_io.h>
#include <troth/net/network.h>
#include <troth/runtime/join.h>
#include <troth/runtime/sync.h>
#include <troth/runtime/task_set.h>

#include <csignal>
#include <cstdio>

using namespace troth;

struct Log : TaskSet::ErrorHandler {
  void taskFailed(Exception e) override {
    if (e.kind() != Exception::Kind::DISCONNECTED || e.description().starts_with("cannot connect"))
      std::fprintf(stderr, "proxy: %s\n", e.what());
  }
};

// The end of the stream is passed on, too: a client that has sent everything still gets its answer.
Promise<void> forward(AsyncIoStream& from, AsyncIoStream& to) {
  co_await from.pumpTo(to);
  to.shutdownWrite();
}

Promise<void> serve(std::unique_ptr<AsyncIoStream> client, NetworkAddress& target, Semaphore::Permit) {
  const std::unique_ptr<AsyncIoStream> server = co_await target.connect();
  // If one direction fails the other is cancelled, and both connections are closed.
  co_await joinPromisesFailFast(forward(*client, *server), forward(*server, *client));
}

// Who comes when all places are taken waits in the system's queue.
Promise<void> acceptAll(ConnectionReceiver& receiver, NetworkAddress& target, Semaphore& places, TaskSet& clients) {
  for (;;) {
    Semaphore::Permit place = co_await places.acquire();
    clients.add(serve(co_await receiver.accept(), target, std::move(place)));
  }
}

int main(int argc, char** argv) try {
  Options options(argc, argv, {{"address", "127.0.0.1"}, {"port", "7001"}, {"to", "127.0.0.1:7000"}, {"clients", "1000"}});
  AsyncIoContext io = setupAsyncIo();
  auto network = newNetwork(io);
  auto target = network->parseAddress(options.text("to")).wait(io.waitScope());
  auto receiver = network->parseAddress(options.text("address"), options.port("port")).wait(io.waitScope())->listen();
  Promise<int> stopped = io.onSignal(SIGINT, SIGTERM); // whoever reads the line may send one
  std::printf("listening on %s\n", receiver->toString().c_str());
  std::fflush(stdout);

  Semaphore places(options.number("clients", 1'000'000));
  Log log;
  TaskSet clients(log);
  acceptAll(*receiver, *target, places, clients)
      .exclusiveJoin(std::move(stopped).ignoreResult())
      .wait(io.waitScope());
} catch (...) {
  return failed("proxy");
}
