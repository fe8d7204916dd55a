// SPDX-License-Identifier: MIT
// The load generator of the echo and connect benchmarks: request and response on many connections, with epoll.

// One thread, one message under way on each connection. It must not be what is measured, so a
// message costs it two system calls (`recv`, `send`) and its share of an `epoll_wait`: events are
// edge-triggered, and a connection is not read again once its whole echo has come.
//
// Bytes are checked. All messages are slices of one pseudo-random pattern, beginning at a place
// that depends on the connection and on the message's number, so that an echo that went to the
// wrong connection, or came twice, does not pass for the right one.
//
// Each message may have a connection of its own (--reconnect): it ends when the server, which was told the end of the
// stream, has closed its side, too. The ports of this side rest for a while then (TIME_WAIT), so that each place in the
// load has an address of its own: there are enough.

#include "load.h"
#include "program.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

namespace {

constexpr int stallLimitMs = 30'000;
constexpr std::size_t bufferSize = 65'536;
constexpr std::size_t mostInDatagram = 65'507; // over IPv4

struct Options {
  std::uint16_t port = 0;
  std::size_t connections = 64;
  std::size_t size = 64;
  std::optional<std::uint64_t> messages;
  std::optional<double> seconds;
  std::uint64_t warmup = 0;
  std::optional<std::size_t> idle;
  bool gate = false;
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

[[noreturn]] void die(const char* step) {
  std::fprintf(stderr, "echo_load: %s: %s\n", step, std::strerror(errno));
  std::exit(1);
}

Options parseOptions(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    std::string_view name = argv[i];
    if (name == "--gate") {
      options.gate = true;
      continue;
    }
    if (name == "--reconnect") {
      options.reconnect = true;
      continue;
    }
    if (name == "--datagrams") {
      options.datagrams = true;
      continue;
    }
    if (name == "--version") {
      printCompiler();
      std::exit(0);
    }
    if (i + 1 == argc) usage();
    std::string_view value = argv[++i];
    if (name == "--port") {
      options.port = parseNumber<std::uint16_t>(value, usage);
    } else if (name == "--connections") {
      options.connections = parseNumber<std::size_t>(value, usage);
    } else if (name == "--size") {
      options.size = parseNumber<std::size_t>(value, usage);
    } else if (name == "--messages") {
      options.messages = parseNumber<std::uint64_t>(value, usage);
    } else if (name == "--seconds") {
      options.seconds = parseNumber<double>(value, usage);
    } else if (name == "--warmup") {
      options.warmup = parseNumber<std::uint64_t>(value, usage);
    } else if (name == "--idle") {
      options.idle = parseNumber<std::size_t>(value, usage);
    } else {
      usage();
    }
  }
  int modes = options.messages.has_value() + options.seconds.has_value() + options.idle.has_value();
  if (options.port == 0 || options.connections == 0 || modes != 1) usage();
  if (options.reconnect ? options.idle.has_value() : options.size == 0) usage();
  if (options.datagrams && (options.reconnect || options.size > mostInDatagram)) usage();
  return options;
}

struct Connection {
  int fd = -1;
  bool busy = false;
  bool ending = false;    // the message is over, and the end of the stream is all that may come
  std::size_t offset = 0; // where the current message begins in the pattern
  std::size_t sent = 0;
  std::size_t received = 0;
  std::uint64_t number = 0; // of messages begun
  Clock::time_point begun;
};

class Load {
public:
  explicit Load(const Options& options)
      : port(options.port),
        size(options.size),
        reconnect(options.reconnect),
        socketType(options.datagrams ? SOCK_DGRAM : SOCK_STREAM),
        pattern(options.size + offsets),
        buffer(bufferSize),
        epoll(epoll_create1(EPOLL_CLOEXEC)) {
    if (epoll < 0) die("epoll_create1");
    std::uint32_t state = 2463534242;
    for (char& byte : pattern) {
      state ^= state << 13;
      state ^= state >> 17;
      state ^= state << 5;
      byte = static_cast<char>(state >> 24);
    }
  }

  ~Load() {
    for (Connection& connection : connections) {
      if (connection.fd >= 0) close(connection);
    }
    ::close(epoll);
  }

  Load(const Load&) = delete;
  Load& operator=(const Load&) = delete;

  // Opens all connections, or only makes room for them, then lets the caller `run`.
  void open(std::size_t count) {
    connections.reserve(count);
    while (connections.size() < count) {
      connections.emplace_back();
      if (!reconnect) connect(connections.back());
    }
  }

  // Opens connections one by one, with one exchange on each before the next is opened.
  void openIdle(std::size_t count) {
    connections.reserve(count);
    Result result;
    while (connections.size() < count) {
      connections.emplace_back();
      connect(connections.back());
      left = 1;
      begin(connections.back(), Clock::now());
      drain(result, Clock::time_point::max());
    }
  }

  // Exchanges `messages` messages in all, or fewer if `duration` is over before.
  Result run(std::uint64_t messages, std::optional<double> duration) {
    Result result;
    auto start = Clock::now();
    auto deadline = Clock::time_point::max();
    if (duration) {
      deadline = start + std::chrono::duration_cast<Nanoseconds>(std::chrono::duration<double>(*duration));
    }
    left = messages;
    for (Connection& connection : connections) {
      if (left > 0 && (reconnect || connection.fd >= 0)) begin(connection, Clock::now());
    }
    drain(result, deadline);
    result.seconds = std::chrono::duration<double>(Clock::now() - start).count();
    return result;
  }

  std::uint64_t errorCount() const { return errors; }

private:
  static constexpr std::size_t offsets = 256;

  std::size_t indexOf(const Connection& connection) const {
    return static_cast<std::size_t>(&connection - connections.data());
  }

  void connect(Connection& connection) {
    int fd = socket(AF_INET, socketType | SOCK_CLOEXEC, 0);
    if (fd < 0) die("socket");
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (reconnect) bindToOwnAddress(fd, indexOf(connection));
    if (::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) die("connect");
    int on = 1;
    if (socketType == SOCK_STREAM && setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0) die("TCP_NODELAY");
    if (fcntl(fd, F_SETFL, O_NONBLOCK) != 0) die("O_NONBLOCK");

    epoll_event event{};
    event.events = EPOLLIN | EPOLLOUT | EPOLLET;
    event.data.u64 = indexOf(connection);
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) != 0) die("epoll_ctl");
    connection.fd = fd;
  }

  // 127.0.0.2 and so on; the port is chosen by connect(), so that it need only differ for this server.
  static void bindToOwnAddress(int fd, std::size_t index) {
    int on = 1;
    if (setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on) != 0) die("IP_BIND_ADDRESS_NO_PORT");
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1 + static_cast<std::uint32_t>(index % 200));
    if (bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) die("bind");
  }

  void begin(Connection& connection, Clock::time_point now) {
    if (reconnect) connect(connection);
    connection.ending = false;
    connection.offset = (indexOf(connection) * 31 + connection.number) % offsets;
    ++connection.number;
    connection.sent = connection.received = 0;
    connection.begun = now;
    connection.busy = true;
    --left;
    ++underWay;
    send(connection);
    if (size == 0) endStream(connection);
  }

  void endStream(Connection& connection) {
    if (shutdown(connection.fd, SHUT_WR) != 0) die("shutdown");
    connection.ending = true;
  }

  // Handles events until no message is under way; begins none after the deadline.
  void drain(Result& result, Clock::time_point deadline) {
    std::array<epoll_event, 256> events;
    while (underWay > 0) {
      int count = epoll_wait(epoll, events.data(), static_cast<int>(events.size()), stallLimitMs);
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) die("epoll_wait");
      if (count == 0) {
        abandon();
        return;
      }
      for (const epoll_event& event : std::span(events).first(static_cast<std::size_t>(count))) {
        advance(connections[event.data.u64], result, deadline);
      }
    }
  }

  // Sends and receives what it can, and goes on to the next message when the echo, or the connection, is complete.
  void advance(Connection& connection, Result& result, Clock::time_point deadline) {
    if (connection.fd < 0) return;
    if (connection.busy && connection.sent < size) send(connection);
    if (connection.fd < 0 || !receive(connection)) return;
    auto now = Clock::now();
    connection.busy = false;
    --underWay;
    ++result.messages;
    result.durations.add(now - connection.begun);
    if (left > 0 && now < deadline) begin(connection, now);
  }

  void send(Connection& connection) {
    while (connection.sent < size) {
      const char* from = pattern.data() + connection.offset + connection.sent;
      ssize_t n = ::send(connection.fd, from, size - connection.sent, MSG_NOSIGNAL);
      if (n >= 0) {
        connection.sent += static_cast<std::size_t>(n);
      } else if (errno == EAGAIN) {
        return;
      } else if (errno != EINTR) {
        fail(connection, std::strerror(errno));
        return;
      }
    }
  }

  // True when the last byte of the current message's echo has come, and the end of the stream if that is wanted.
  bool receive(Connection& connection) {
    for (;;) {
      ssize_t n = recv(connection.fd, buffer.data(), buffer.size(), 0);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0 && errno == EAGAIN) return false;
      if (n < 0) return fail(connection, std::strerror(errno));
      if (n == 0 && connection.ending) return close(connection);
      if (n == 0) return fail(connection, "the server closed the connection");
      auto count = static_cast<std::size_t>(n);
      if (!connection.busy || count > connection.sent - connection.received) {
        return fail(connection, "more bytes came than were sent");
      }
      const char* expected = pattern.data() + connection.offset + connection.received;
      if (std::memcmp(buffer.data(), expected, count) != 0) {
        return fail(connection, "the bytes that came are not those that were sent");
      }
      connection.received += count;
      if (connection.received < size) continue;
      if (!reconnect) return true;
      endStream(connection);
    }
  }

  bool close(Connection& connection) {
    ::close(connection.fd);
    connection.fd = -1;
    return true;
  }

  bool fail(Connection& connection, const char* reason) {
    if (errors++ == 0) std::fprintf(stderr, "echo_load: %s\n", reason);
    close(connection);
    if (connection.busy) --underWay;
    connection.busy = false;
    return false;
  }

  void abandon() {
    for (Connection& connection : connections) {
      if (connection.busy) fail(connection, "no echo came for 30 seconds");
    }
  }

  std::uint16_t port;
  std::size_t size;
  bool reconnect; // for each message
  int socketType;
  std::vector<char> pattern;
  std::vector<char> buffer;
  int epoll;
  std::vector<Connection> connections;
  std::uint64_t left = 0;     // messages that may still be begun
  std::uint64_t underWay = 0; // messages begun whose echo is not complete
  std::uint64_t errors = 0;
};

} // namespace

int main(int argc, char** argv) {
  Options options = parseOptions(argc, argv);
  raiseDescriptorLimit();
  Load load(options);

  if (options.idle) {
    load.openIdle(*options.idle);
    if (load.errorCount() > 0) return 1;
    printReady();
    waitForEnd();
    return 0;
  }

  load.open(options.connections);
  if (options.warmup > 0) load.run(options.warmup, std::nullopt);
  if (options.gate) {
    printReady();
    waitForByte();
  }
  auto unlimited = std::numeric_limits<std::uint64_t>::max();
  Result result = load.run(options.messages.value_or(unlimited), options.seconds);
  printResult(result, load.errorCount());
  if (options.gate) waitForEnd();
  return load.errorCount() == 0 ? 0 : 1;
}
