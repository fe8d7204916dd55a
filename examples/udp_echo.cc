// SPDX-License-Identifier: MIT
// An echo of datagrams. Adds to `dns`: UDP, which has no connections, and may lose what is sent; so the client asks
// again.
//
//   udp_echo                                       listens on 127.0.0.1:7000, until Ctrl-C
//   udp_echo 127.0.0.1:7007                        or there
//   udp_echo --send 127.0.0.1:7000 "some text"     in another terminal
#include "options.h"

#include <troth/io/async_io.h>
#include <troth/net/datagram.h>
#include <troth/net/network.h>
#include <troth/timers/timer.h>

#include <csignal>
#include <cstdio>
#include <cstring>

using namespace troth;
using namespace std::chrono_literals;

// What cannot be received or sent is no reason to stop: the next datagram may be from somebody else.
Promise<void> echo(DatagramSocket& socket) {
  for (;;) {
    try {
      const Datagram datagram = co_await socket.receive();
      co_await socket.send(datagram.bytes, datagram.source);
    } catch (const Exception& e) {
      std::fprintf(stderr, "udp_echo: %s\n", std::string(e.description()).c_str());
    }
  }
}

void serve(AsyncIoContext& io, Network& network, const char* address) {
  auto socket = network.parseAddress(address, 7000).wait(io.waitScope())->bindDatagram();
  Promise<int> stopped = io.onSignal(SIGINT, SIGTERM); // whoever reads the line may send one
  std::printf("listening on %s\n", socket->localAddress().toString().c_str());
  std::fflush(stdout);
  // Destroying a promise cancels its work: the signal ends the echo.
  echo(*socket).exclusiveJoin(std::move(stopped).ignoreResult()).wait(io.waitScope());
}

// A datagram may be lost on either way: if nothing comes back, it is sent once more. A connected socket hears of a port
// that nobody listens on, and of nobody but its peer.
Promise<Datagram> ask(DatagramSocket& socket, std::string_view text, Timer& timer) {
  for (int attempt = 1;; ++attempt) {
    co_await socket.send(text);
    try {
      co_return co_await timer.timeoutAfter(500ms, socket.receive());
    } catch (const Exception& e) {
      if (e.kind() != Exception::Kind::OVERLOADED || attempt == 3) throw;
    }
  }
}

void send(AsyncIoContext& io, Network& network, const char* address, const char* text) {
  auto socket = network.parseAddress(address, 7000).wait(io.waitScope())->connectDatagram();
  const Datagram answer = ask(*socket, text, io.timer()).wait(io.waitScope());
  std::printf("%s: %.*s\n", answer.source.toString().c_str(), static_cast<int>(answer.bytes.size()),
              answer.bytes.text().data());
}

int main(int argc, char** argv) try {
  const bool sends = argc > 1 && std::strcmp(argv[1], "--send") == 0;
  if (sends ? argc != 4 : argc > 2)
    throw std::invalid_argument("usage: udp_echo [ADDRESS], or udp_echo --send ADDRESS TEXT");
  AsyncIoContext io = setupAsyncIo();
  auto network = newNetwork(io);
  if (sends)
    send(io, *network, argv[2], argv[3]);
  else
    serve(io, *network, argc > 1 ? argv[1] : "127.0.0.1:7000");
} catch (...) {
  return failed("udp_echo");
}
