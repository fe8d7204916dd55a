// SPDX-License-Identifier: MIT
// Forwards a port to those who may use it. Adds to the proxy: rules for peers, Network::restrictPeers().
//
//   port_forward 0.0.0.0:7003 127.0.0.1:7000 --allow private --deny 10.0.0.0/8
//
// Without --allow everybody may, but those whom a --deny names; where rules contradict, the more specific one counts.
// Who may not is disconnected at once, and the target hears nothing of it.
#include "forward.h"
#include "options.h"

#include <troth/io/async_io.h>
#include <troth/net/connection_server.h>
#include <troth/net/network.h>

#include <csignal>
#include <cstdio>

using namespace troth;

std::vector<std::string> orEverybody(std::vector<std::string> allowed) {
  if (allowed.empty()) allowed = {"0.0.0.0/0", "::/0", "unix", "unix-abstract"};
  return allowed;
}

int main(int argc, char** argv) try {
  Options options(argc, argv, {{"clients", "1000"}, {"grace", "5"}}, {"LISTEN", "TARGET"}, {"allow", "deny"});
  const std::chrono::seconds grace(options.number("grace", 1'000'000));
  const std::size_t mostClients = options.number("clients", 1'000'000);
  AsyncIoContext io = setupAsyncIo();
  auto network = newNetwork(io);
  // Only the clients come under the rules: the target is reached by the network without them.
  auto restricted = network->restrictPeers(orEverybody(options.list("allow")), options.list("deny"));
  auto target = network->parseAddress(options.argument("TARGET")).wait(io.waitScope());
  auto receiver = restricted->parseAddress(options.argument("LISTEN")).wait(io.waitScope())->listen();
  Promise<int> stopped = io.onSignal(SIGINT, SIGTERM); // whoever reads the line may send one
  std::printf("listening on %s\n", receiver->toString().c_str());
  std::fflush(stdout);

  ForwardLog log("port_forward");
  ConnectionServer server(
      [&](std::unique_ptr<AsyncIoStream> client) { return forwardTo(*target, std::move(client)); }, log, mostClients);
  server.serve(std::move(receiver)).exclusiveJoin(std::move(stopped).ignoreResult()).wait(io.waitScope());
  server.drain(io.timer(), grace).wait(io.waitScope());
} catch (...) {
  return failed("port_forward");
}
