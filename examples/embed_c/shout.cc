// SPDX-License-Identifier: MIT
// The C++ that adds a troth server to the C program of host.c: what to answer to a line, and the call that starts it.
#include "../plugin/plugin.h"

#include <algorithm>
#include <cctype>

static troth::Promise<std::string> shout(std::string line) {
  std::ranges::transform(line, line.begin(), [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  return line;
}

plugin* shout_start(uv_loop_t* loop, const char* address, plugin_events events, char* error, std::size_t errorSize) {
  return startPlugin(loop, address, shout, events, error, errorSize);
}
