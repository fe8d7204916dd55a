// SPDX-License-Identifier: MIT
// A TCP proxy: two pumps for each client. Each direction ends on its own, and so many clients are served at once.
//
//   proxy --port 7001 --to 127.0.0.1:7000 --clients 100      then talk to port 7001 as you would to 7000
#include "forward.h"
#include "options.h"

#include <troth/io/async_io.h>
#include <troth/net/connection_server.h>
#include <troth/net/network.h>

#include <csignal>
#include <cstdio>

using namespace troth;

int main(int argc, char** argv) try {
  Options options(argc, argv, {{"address", "127.0.0.1"},
                               {"port", "7001"},
                               {"to", "127.0.0.1:7000"},
                               {"clients", "1000"},
                               {"grace", "5"}});
  const std::chrono::seconds grace(options.number("grace", 1'000'000));
  const std::size_t mostClients = options.number("clients", 1'000'000);
  AsyncIoContext io = setupAsyncIo();
  auto network = newNetwork(io);
  auto target = network->parseAddress(options.text("to")).wait(io.waitScope());
  auto receiver = network->parseAddress(options.text("address"), options.port("port")).wait(io.waitScope())->listen();
  Promise<int> stopped = io.onSignal(SIGINT, SIGTERM); // whoever reads the line may send one
  std::printf("listening on %s\n", receiver->toString().c_str());
  std::fflush(stdout);

  ForwardLog log("proxy");
  // Who comes when all places are taken waits in the system's queue.
  ConnectionServer server(
      [&](std::unique_ptr<AsyncIoStream> client) { return forwardTo(*target, std::move(client)); }, log, mostClients);
  server.serve(std::move(receiver)).exclusiveJoin(std::move(stopped).ignoreResult()).wait(io.waitScope());
  server.drain(io.timer(), grace).wait(io.waitScope());
} catch (...) {
  return failed("proxy");
}
