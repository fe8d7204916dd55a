// SPDX-License-Identifier: MIT
// What the load generators share: messages there and back on many connections, with epoll; how their durations are
// counted, and how the programs talk with the benchmark that runs them.
#pragma once

#include "program.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
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

using Clock = std::chrono::steady_clock;
using Nanoseconds = std::chrono::nanoseconds;

/// Counts durations in buckets whose width is at most 1/256 of the duration.
class Histogram {
public:
  void add(Nanoseconds duration) {
    ++counts[bucket(static_cast<std::uint64_t>(std::max<std::int64_t>(duration.count(), 0)))];
    ++total;
  }

  /// The duration in microseconds that the given share of all durations does not exceed.
  double quantileUs(double share) const {
    auto wanted = static_cast<std::uint64_t>(share * static_cast<double>(total));
    std::uint64_t seen = 0;
    for (std::size_t i = 0; i < counts.size(); ++i) {
      seen += counts[i];
      if (seen > wanted) return middle(i) / 1e3;
    }
    return 0;
  }

private:
  static constexpr std::size_t perDoubling = 256;

  // Below 256 ns every nanosecond has its own bucket; then each doubling is cut into 256.
  static std::size_t bucket(std::uint64_t ns) {
    if (ns < perDoubling) return ns;
    auto shift = static_cast<unsigned>(std::bit_width(ns)) - 9;
    return (shift + 1) * perDoubling + ((ns >> shift) - perDoubling);
  }

  static double middle(std::size_t index) {
    if (index < perDoubling) return static_cast<double>(index);
    auto width = static_cast<double>(std::uint64_t{1} << (index / perDoubling - 1));
    return (static_cast<double>(perDoubling + index % perDoubling) + 0.5) * width;
  }

  std::array<std::uint64_t, 57 * perDoubling> counts{};
  std::uint64_t total = 0;
};

/// What a load has done.
struct Result {
  std::uint64_t messages = 0;
  double seconds = 0;
  Histogram durations;
};

/// As many descriptors as the system lets this program have.
inline void raiseDescriptorLimit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

/// Tells the benchmark that all is warm.
inline void printReady() {
  std::puts("ready");
  std::fflush(stdout);
}

/// Waits until the benchmark says that it may go on.
inline void waitForByte() {
  char byte;
  while (read(STDIN_FILENO, &byte, 1) < 0 && errno == EINTR) {
  }
}

/// Waits until the benchmark closes this program's standard input.
inline void waitForEnd() {
  char bytes[64];
  for (;;) {
    ssize_t n = read(STDIN_FILENO, bytes, sizeof bytes);
    if (n == 0 || (n < 0 && errno != EINTR)) return;
  }
}

/// Prints a result as one line of JSON.
inline void printResult(const Result& result, std::uint64_t errors) {
  double rate = result.seconds > 0 ? static_cast<double>(result.messages) / result.seconds : 0;
  std::printf("{\"messages\": %llu, \"seconds\": %.6f, \"messages_per_second\": %.1f, "
              "\"p50_us\": %.2f, \"p99_us\": %.2f, \"errors\": %llu}\n",
              static_cast<unsigned long long>(result.messages), result.seconds, rate, result.durations.quantileUs(0.50),
              result.durations.quantileUs(0.99), static_cast<unsigned long long>(errors));
  std::fflush(stdout);
}

[[noreturn]] inline void die(const char* step, const char* reason = std::strerror(errno)) {
  std::fprintf(stderr, "%s: %s: %s\n", program_invocation_short_name, step, reason);
  std::exit(1);
}

/// The options that all load generators have.
struct LoadOptions {
  std::uint16_t port = 0;
  std::size_t connections = 64;
  std::size_t size = 64; // of a message
  std::optional<std::uint64_t> messages;
  std::optional<double> seconds;
  std::uint64_t warmup = 0;
  std::optional<std::size_t> idle;
  bool gate = false;
};

/// Reads them. `takeFlag(name)` takes what a program has besides, and returns whether that is one. Calls `usage`, which
/// does not return, if they make no sense.
template <typename TakeFlag>
void parseLoadOptions(LoadOptions& options, int argc, char** argv, void (*usage)(), TakeFlag&& takeFlag) {
  for (int i = 1; i < argc; ++i) {
    const std::string_view name = argv[i];
    if (name == "--gate") {
      options.gate = true;
      continue;
    }
    if (name == "--version") {
      printCompiler();
      std::exit(0);
    }
    if (takeFlag(name)) continue;
    if (i + 1 == argc) usage();
    const std::string_view value = argv[++i];
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
  const int modes = options.messages.has_value() + options.seconds.has_value() + options.idle.has_value();
  if (options.port == 0 || options.connections == 0 || modes != 1) usage();
}

/// A sequence of 32-bit numbers that is the same in each run.
class PseudoRandom {
public:
  std::uint32_t next() {
    state ^= state << 13;
    state ^= state >> 17;
    state ^= state << 5;
    return state;
  }

private:
  std::uint32_t state = 2463534242;
};

/// Where message `number` of connection `index` begins in the text, or the bytes, of which all are slices; an echo that
/// went to the wrong connection, or came twice, does not pass for the right one.
inline constexpr std::size_t OFFSETS = 256;
inline std::size_t offsetOf(std::size_t index, std::uint64_t number) { return (index * 31 + number) % OFFSETS; }

/// A connection, with one message under way at most.
struct LoadConnection {
  int fd = -1;
  bool busy = false;
  bool ending = false;      // the message is over, and the end of the stream is all that may come
  std::size_t sent = 0;     // of the message
  std::uint64_t number = 0; // of messages begun
  Clock::time_point begun;
};

/// Messages there and back. Events are edge-triggered, and a connection is not read again once its whole echo has come:
/// a message costs two system calls and its share of an `epoll_wait`, for the load must not be what is measured.
///
/// Of `Connection`, a LoadConnection, a program knows the rest: what is sent, and what is expected.
template <typename Connection>
class Load {
public:
  /// If `eachAnew`, each message has a connection of its own, which is over when the server has closed its side, too.
  explicit Load(const LoadOptions& options, bool eachAnew = false)
      : port(options.port), size(options.size), reconnects(eachAnew), epoll(epoll_create1(EPOLL_CLOEXEC)) {
    if (epoll < 0) die("epoll_create1");
  }
  Load(const Load&) = delete;
  Load& operator=(const Load&) = delete;
  virtual ~Load() {
    for (Connection& connection : connections) {
      if (connection.fd >= 0) ::close(connection.fd);
    }
    ::close(epoll);
  }

  /// Opens all connections, or only makes room for them, then lets the caller `run`.
  void open(std::size_t count) {
    connections.resize(count);
    for (Connection& connection : connections) {
      if (!reconnects) connect(connection);
    }
  }

  /// Opens connections one by one, with one exchange on each before the next is opened.
  void openIdle(std::size_t count) {
    connections.resize(count);
    Result result;
    for (Connection& connection : connections) {
      connect(connection);
      left = 1;
      begin(connection, Clock::now());
      drain(result, Clock::time_point::max());
    }
  }

  /// Exchanges `messages` messages in all, or fewer if `duration` is over before.
  Result run(std::uint64_t messages, std::optional<double> duration) {
    Result result;
    const auto start = Clock::now();
    auto deadline = Clock::time_point::max();
    if (duration) {
      deadline = start + std::chrono::duration_cast<Nanoseconds>(std::chrono::duration<double>(*duration));
    }
    left = messages;
    for (Connection& connection : connections) {
      if (left > 0 && (reconnects || connection.fd >= 0)) begin(connection, Clock::now());
    }
    drain(result, deadline);
    result.seconds = std::chrono::duration<double>(Clock::now() - start).count();
    return result;
  }

  std::uint64_t errorCount() const { return errors; }

protected:
  /// A socket that is connected to the server, and still blocks.
  virtual int openSocket(std::size_t index) = 0;
  /// Makes the next message of connection `index`; `number` messages were begun before.
  virtual void makeMessage(Connection& connection, std::size_t index, std::uint64_t number) = 0;
  /// Its bytes.
  virtual std::string_view messageOf(const Connection& connection) const = 0;
  /// Compares what has come with what is expected. Says what is wrong, or nothing.
  virtual const char* check(Connection& connection, std::string_view bytes) = 0;
  /// Whether the whole echo has come.
  virtual bool isComplete(const Connection& connection) const = 0;

  /// A socket that is connected to the server.
  int connectSocket(int type, std::optional<in_addr_t> ownAddress = std::nullopt) const {
    const int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);
    if (fd < 0) die("socket");
    const int on = 1;
    if (ownAddress) { // the port is chosen by connect(), so that it need only differ for this server
      if (setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on) != 0) die("IP_BIND_ADDRESS_NO_PORT");
      const sockaddr_in own = makeAddress(*ownAddress, 0);
      if (bind(fd, reinterpret_cast<const sockaddr*>(&own), sizeof own) != 0) die("bind");
    }
    const sockaddr_in address = makeAddress(INADDR_LOOPBACK, port);
    if (::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) die("connect");
    if (type == SOCK_STREAM && setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0) die("TCP_NODELAY");
    return fd;
  }

  static constexpr int STALL_LIMIT_MS = 30'000;

private:
  static sockaddr_in makeAddress(in_addr_t host, std::uint16_t hostPort) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(hostPort);
    address.sin_addr.s_addr = htonl(host);
    return address;
  }

  std::size_t indexOf(const Connection& connection) const {
    return static_cast<std::size_t>(&connection - connections.data());
  }

  void connect(Connection& connection) {
    const int fd = openSocket(indexOf(connection));
    if (fcntl(fd, F_SETFL, O_NONBLOCK) != 0) die("O_NONBLOCK");
    epoll_event event{};
    event.events = EPOLLIN | EPOLLOUT | EPOLLET;
    event.data.u64 = indexOf(connection);
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) != 0) die("epoll_ctl");
    connection.fd = fd;
  }

  void begin(Connection& connection, Clock::time_point now) {
    if (reconnects) connect(connection);
    makeMessage(connection, indexOf(connection), connection.number++);
    connection.ending = false;
    connection.sent = 0;
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
      const int count = epoll_wait(epoll, events.data(), static_cast<int>(events.size()), STALL_LIMIT_MS);
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
    if (connection.busy) send(connection);
    if (connection.fd < 0 || !receive(connection)) return;
    const auto now = Clock::now();
    connection.busy = false;
    --underWay;
    ++result.messages;
    result.durations.add(now - connection.begun);
    if (left > 0 && now < deadline) begin(connection, now);
  }

  void send(Connection& connection) {
    const std::string_view message = messageOf(connection);
    while (connection.sent < message.size()) {
      const std::string_view rest = message.substr(connection.sent);
      const ssize_t n = ::send(connection.fd, rest.data(), rest.size(), MSG_NOSIGNAL);
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
      const ssize_t n = recv(connection.fd, buffer.data(), buffer.size(), 0);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0 && errno == EAGAIN) return false;
      if (n < 0) return fail(connection, std::strerror(errno));
      if (n == 0 && connection.ending) return close(connection);
      if (n == 0) return fail(connection, "the server closed the connection");
      if (!connection.busy || connection.ending) return fail(connection, "more came than was sent");
      const char* wrong = check(connection, {buffer.data(), static_cast<std::size_t>(n)});
      if (wrong != nullptr) return fail(connection, wrong);
      if (!isComplete(connection)) continue;
      if (!reconnects) return true;
      endStream(connection);
    }
  }

  bool close(Connection& connection) {
    ::close(connection.fd);
    connection.fd = -1;
    return true;
  }

  bool fail(Connection& connection, const char* reason) {
    if (errors++ == 0) std::fprintf(stderr, "%s: %s\n", program_invocation_short_name, reason);
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
  bool reconnects;
  std::vector<char> buffer = std::vector<char>(65'536);
  int epoll;
  std::vector<Connection> connections;
  std::uint64_t left = 0;     // messages that may still be begun
  std::uint64_t underWay = 0; // messages begun whose echo is not complete
  std::uint64_t errors = 0;
};

/// What a load generator does once it knows its options; what `main` returns.
template <typename Connection>
int runLoad(Load<Connection>& load, const LoadOptions& options) {
  raiseDescriptorLimit();
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
  const auto unlimited = std::numeric_limits<std::uint64_t>::max();
  const Result result = load.run(options.messages.value_or(unlimited), options.seconds);
  printResult(result, load.errorCount());
  if (options.gate) waitForEnd();
  return load.errorCount() == 0 ? 0 : 1;
}
