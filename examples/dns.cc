// SPDX-License-Identifier: MIT
// Looks up host names. Adds to `timers`: a resolver, and many things at the same time, each of which may fail.
//
//   dns localhost example.com
#include "options.h"

#include <troth/io/async_io.h>
#include <troth/net/resolver.h>

#include <cstdio>
#include <string>
#include <vector>

using namespace troth;
using namespace std::chrono_literals;

using Addresses = std::vector<SocketAddress>;

void print(const char* name, const Addresses& addresses) {
  std::printf("%s", name);
  const char* separator = " → ";
  for (const SocketAddress& address : addresses) {
    std::string text = address.toString();
    text.resize(text.rfind(':')); // the port: a name has none
    std::printf("%s%s", separator, text.c_str());
    separator = ", ";
  }
  std::printf("\n");
}

int main(int argc, char** argv) try {
  if (argc < 2) throw std::invalid_argument("say which names to look up");
  AsyncIoContext io = setupAsyncIo();
  auto resolver = newSystemResolver(io);

  // All begin at once (the resolver keeps its threads few, and lets the rest wait in line), and none waits for ever.
  std::vector<Promise<Addresses>> lookups;
  for (int i = 1; i < argc; ++i) lookups.push_back(io.timer().timeoutAfter(10s, resolver->lookUp(argv[i])));

  int status = 0;
  for (int i = 1; i < argc; ++i) {
    try {
      print(argv[i], std::move(lookups[static_cast<std::size_t>(i - 1)]).wait(io.waitScope()));
    } catch (const Exception& e) {
      std::fprintf(stderr, "dns: %s: %s\n", argv[i], std::string(e.description()).c_str());
      status = 1;
    }
  }
  return status;
} catch (...) {
  return failed("dns");
}
