// SPDX-License-Identifier: MIT
// An echo server: a coroutine for each client, idle time-outs, and a graceful end.
//
//   echo_server --port 7000        then, in another terminal:  nc 127.0.0.1 7000
//
// Started by systemd for a socket unit, it serves on its sockets.
#include "options.h"

#include <troth/io/async_io.h>
#include <troth/net/aggregate_receiver.h>
#include <troth/net/connection_server.h>
#include <troth/net/inherited_sockets.h>
#include <troth/net/network.h>
#include <troth/timers/timer.h>

#include <csignal>
#include <cstdio>

using namespace troth;
using std::chrono::seconds;

// What nobody else sees. Clients that leave, fall silent or do not read are no news.
struct Log : TaskSet::ErrorHandler {
  void taskFailed(Exception e) override {
    if (e.kind() == Exception::Kind::FAILED) std::fprintf(stderr, "echo_server: %s\n", e.what());
  }
};

Promise<void> echo(std::unique_ptr<AsyncIoStream> client, Timer& timer, seconds idleTimeout) {
  for (;;) {
    Promise<Chunk> next = client->tryReadChunk();
    if (idleTimeout > seconds(0)) next = timer.timeoutAfter(idleTimeout, std::move(next));
    const Chunk chunk = co_await std::move(next);
    if (chunk.empty()) co_return;
    Promise<void> sent = client->write(chunk);
    if (idleTimeout > seconds(0)) sent = timer.timeoutAfter(idleTimeout, std::move(sent));
    co_await std::move(sent);
  }
}

int main(int argc, char** argv) try {
  Options options(argc, argv, {{"address", "127.0.0.1"}, {"port", "7000"}, {"idle-timeout", "0"}, {"grace", "5"}});
  const seconds idleTimeout(options.number("idle-timeout", 1'000'000)), grace(options.number("grace", 1'000'000));
  std::vector<InheritedSocket> inherited = takeInheritedSockets();
  AsyncIoContext io = setupAsyncIo();
  auto network = newNetwork(io);
  std::vector<std::unique_ptr<ConnectionReceiver>> receivers;
  for (InheritedSocket& socket : inherited) receivers.push_back(network->adoptListener(std::move(socket.descriptor)));
  if (receivers.empty())
    receivers.push_back(
        network->parseAddress(options.text("address"), options.port("port")).wait(io.waitScope())->listen());
  auto receiver = newAggregateReceiver(std::move(receivers));
  Promise<int> stopped = io.onSignal(SIGINT, SIGTERM); // whoever reads the line may send one
  std::printf("listening on %s\n", receiver->toString().c_str());
  std::fflush(stdout);

  Log log;
  ConnectionServer server(
      [&](std::unique_ptr<AsyncIoStream> client) { return echo(std::move(client), io.timer(), idleTimeout); }, log);
  // Destroying a promise cancels its work: the signal closes the port.
  server.serve(std::move(receiver)).exclusiveJoin(std::move(stopped).ignoreResult()).wait(io.waitScope());
  server.drain(io.timer(), grace).wait(io.waitScope());
} catch (...) {
  return failed("echo_server");
}
