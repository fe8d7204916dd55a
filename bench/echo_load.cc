// SPDX-License-Identifier: MIT
// The load generator of the echo and connect benchmarks: request and response on many connections, with epoll.

// One thread, one message under way on each connection (load.h). Bytes are checked: all messages are slices of one
// pseudo-random pattern, beginning at a place that depends on the connection and on the message's number.
//
// Each message may have a connection of its own (--reconnect): it ends when the server, which was told the end of the
// stream, has closed its side, too. The ports of this side rest for a while then (TIME_WAIT), so that each place in the
// load has an address of its own: there are enough.

#include "load.h"

namespace {

constexpr std::size_t mostInDatagram = 65'507; // over IPv4

struct Options : LoadOptions {
  bool reconnect = false;
  bool datagrams = false;
};

[[noreturn]] void usage() {
  std::fputs("usage: echo_load --port P [--connections C] [--size S] (--messages N | --seconds T)\n"
             "                 [--warmup N] [--gate] [--reconnect | --datagrams]\n"
             "       echo_load --port P --idle N [--size S]\n"
             "       echo_load --version\n"
             "\n"
             "  --warmup N  first exchange N messages that are not counted\n"
             "  --gate      print `ready` after the warm-up and wait for a byte on standard input;\n"
             "              after the result, keep the connections until standard input ends\n"
             "  --reconnect for each message a connection; with a size of 0, connections without a message\n"
             "  --datagrams by UDP, where a connection is no more than a socket, and a message one datagram\n"
             "  --idle N    open N connections one after the other, exchange one message on each, print\n"
             "              `ready`, and keep them until standard input ends\n",
             stderr);
  std::exit(2);
}

Options parseOptions(int argc, char** argv) {
  Options options;
  parseLoadOptions(options, argc, argv, usage, [&](std::string_view name) {
    if (name == "--reconnect") return options.reconnect = true;
    if (name == "--datagrams") return options.datagrams = true;
    return false;
  });
  if (options.reconnect ? options.idle.has_value() : options.size == 0) usage();
  if (options.datagrams && (options.reconnect || options.size > mostInDatagram)) usage();
  return options;
}

struct Connection : LoadConnection {
  std::size_t offset = 0; // where the current message begins in the pattern
  std::size_t received = 0;
};

class BytesLoad final : public Load<Connection> {
public:
  explicit BytesLoad(const Options& options)
      : Load(options, options.reconnect),
        size(options.size),
        reconnect(options.reconnect),
        socketType(options.datagrams ? SOCK_DGRAM : SOCK_STREAM),
        pattern(options.size + OFFSETS) {
    PseudoRandom random;
    for (char& byte : pattern) byte = static_cast<char>(random.next() >> 24);
  }

private:
  // With --reconnect from 127.0.0.2 and so on.
  int openSocket(std::size_t index) override {
    if (!reconnect) return connectSocket(socketType);
    return connectSocket(socketType, INADDR_LOOPBACK + 1 + static_cast<in_addr_t>(index % 200));
  }

  void makeMessage(Connection& connection, std::size_t index, std::uint64_t number) override {
    connection.offset = offsetOf(index, number);
    connection.received = 0;
  }

  std::string_view messageOf(const Connection& connection) const override {
    return {pattern.data() + connection.offset, size};
  }

  const char* check(Connection& connection, std::string_view bytes) override {
    if (bytes.size() > connection.sent - connection.received) return "more bytes came than were sent";
    if (bytes != messageOf(connection).substr(connection.received, bytes.size()))
      return "the bytes that came are not those that were sent";
    connection.received += bytes.size();
    return nullptr;
  }

  bool isComplete(const Connection& connection) const override { return connection.received == size; }

  std::size_t size;
  bool reconnect; // for each message
  int socketType;
  std::vector<char> pattern;
};

} // namespace

int main(int argc, char** argv) {
  const Options options = parseOptions(argc, argv);
  BytesLoad load(options);
  return runLoad(load, options);
}
