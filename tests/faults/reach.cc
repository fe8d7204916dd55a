// SPDX-License-Identifier: MIT
// A client whose network fails: it says what it gets to see, and after how long, in its own time.
//
//   reach connect ADDRESS TIMEOUT_MS      connects
//   reach exchange ADDRESS TIMEOUT_MS     says `ready` after a first echo, and gives each echo so much time
//   reach listen ADDRESS SECONDS          says `ready` and reads; asks after so much silence whether the peer is there
//
// The last line is `connected to ADDRESS after N ms` or `KIND after N ms: TEXT`: since the start, or the last good echo.
#include <troth/io/async_io.h>
#include <troth/net/network.h>
#include <troth/net/peer_identity.h>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string_view>

using namespace troth;
using std::chrono::milliseconds;
using std::chrono::seconds;

namespace {

using MonotonicClock = std::chrono::steady_clock;
MonotonicClock::time_point since;

long long elapsed() { return std::chrono::duration_cast<milliseconds>(MonotonicClock::now() - since).count(); }

const char* nameOf(Exception::Kind kind) {
  switch (kind) {
  case Exception::Kind::FAILED: return "FAILED";
  case Exception::Kind::OVERLOADED: return "OVERLOADED";
  case Exception::Kind::DISCONNECTED: return "DISCONNECTED";
  case Exception::Kind::UNIMPLEMENTED: return "UNIMPLEMENTED";
  }
  return "?";
}

void sayReady() {
  std::puts("ready");
  std::fflush(stdout);
}

Promise<void> exchange(AsyncIoStream& server, Timer& timer, milliseconds timeout) {
  constexpr std::string_view question = "is anybody there?";
  std::array<char, question.size()> answer;
  for (bool first = true;; first = false) {
    co_await server.write(question);
    co_await timer.timeoutAfter(timeout, server.read(std::as_writable_bytes(std::span(answer))));
    since = MonotonicClock::now();
    if (first) sayReady();
  }
}

/// Two probes, a second apart, where the system's default is nine in eleven minutes.
void shortenProbes(const AsyncIoStream& stream) {
  const int interval = 1, count = 2;
  setsockopt(*stream.descriptor(), IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof interval);
  setsockopt(*stream.descriptor(), IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof count);
}

Promise<void> run(std::string_view what, std::string_view text, int number, AsyncIo& io, Network& network) {
  ConnectOptions options;
  if (what == "connect") options.timeout = milliseconds(number);
  if (what == "listen") options.tcp.keepAlive = seconds(number);
  const auto address = co_await network.parseAddress(text);
  const auto server = co_await address->connect(options);
  if (what == "connect") {
    const long long after = elapsed();
    std::printf("connected to %s after %lld ms\n", peerAddressOf(*server).toString().c_str(), after);
  } else if (what == "exchange") {
    co_await exchange(*server, io.timer(), milliseconds(number));
  } else {
    shortenProbes(*server);
    since = MonotonicClock::now();
    sayReady();
    std::array<std::byte, 1> byte;
    co_await server->read(byte);
  }
}

} // namespace

int main(int argc, char** argv) {
  if (argc != 4) {
    std::fputs("usage: reach connect|exchange|listen ADDRESS NUMBER\n", stderr);
    return 2;
  }
  AsyncIoContext io = setupAsyncIo();
  const auto network = newNetwork(io);
  since = MonotonicClock::now();
  try {
    run(argv[1], argv[2], std::atoi(argv[3]), io, *network).wait(io.waitScope());
  } catch (const Exception& e) {
    std::printf("%s after %lld ms: %s\n", nameOf(e.kind()), elapsed(), e.what());
  }
}
