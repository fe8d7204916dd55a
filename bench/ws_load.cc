// SPDX-License-Identifier: MIT
// The load generator of WebSocket messages: text there and back on many connections, with epoll.

// It is to WebSockets what echo_load.cc is to bytes: one thread, one message under way on each connection,
// edge-triggered events, and every echo is checked. All messages are slices of one text, from a place that depends on
// the connection and on the message's number. A message is one frame, masked with a key of its own (RFC 6455, 5.3); its
// echo may come in several.

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
#include <string>
#include <string_view>
#include <vector>

namespace {

constexpr int STALL_LIMIT_MS = 30'000;
constexpr std::size_t BUFFER_SIZE = 65'536;
constexpr std::size_t MOST_IN_MESSAGE = 65'535; // whose length takes two bytes
constexpr std::size_t MOST_IN_HEAD = 4096;      // of the answer to the handshake

// The key and what it is to be answered with: the RFC's example (1.3), so that nothing has to be hashed here.
constexpr std::string_view HANDSHAKE = "GET /ws HTTP/1.1\r\n"
                                       "Host: 127.0.0.1\r\n"
                                       "Upgrade: websocket\r\n"
                                       "Connection: Upgrade\r\n"
                                       "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                                       "Sec-WebSocket-Version: 13\r\n"
                                       "\r\n";
constexpr std::string_view ACCEPTED = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

struct Options {
  std::uint16_t port = 0;
  std::size_t connections = 64;
  std::size_t size = 64;
  std::optional<std::uint64_t> messages;
  std::optional<double> seconds;
  std::uint64_t warmup = 0;
  std::optional<std::size_t> idle;
  bool gate = false;
};

[[noreturn]] void usage() {
  std::fputs("usage: ws_load --port P [--connections C] [--size S] (--messages N | --seconds T)\n"
             "               [--warmup N] [--gate]\n"
             "       ws_load --port P --idle N [--size S]\n"
             "       ws_load --version\n"
             "\n"
             "  --size S    bytes of text in a message, 65535 at most\n"
             "  --warmup N  first exchange N messages that are not counted\n"
             "  --gate      print `ready` after the warm-up and wait for a byte on standard input;\n"
             "              after the result, keep the connections until standard input ends\n"
             "  --idle N    open N connections one after the other, exchange one message on each, print\n"
             "              `ready`, and keep them until standard input ends\n",
             stderr);
  std::exit(2);
}

[[noreturn]] void die(const char* step, const char* reason = std::strerror(errno)) {
  std::fprintf(stderr, "ws_load: %s: %s\n", step, reason);
  std::exit(1);
}

Options parseOptions(int argc, char** argv) {
  Options options;
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
  if (options.size == 0 || options.size > MOST_IN_MESSAGE) usage();
  return options;
}

// --- Frames (RFC 6455, 5.2) ---

constexpr std::uint8_t FIN = 0x80;
constexpr std::uint8_t CONTINUATION = 0x0;
constexpr std::uint8_t TEXT = 0x1;
constexpr std::uint8_t MASKED = 0x80;
constexpr std::uint8_t LENGTH_IN_TWO_BYTES = 126;

/// A client's frame: one whole message of text.
void makeFrame(std::string_view text, std::uint32_t seed, std::string& frame) {
  frame.clear();
  frame.push_back(static_cast<char>(FIN | TEXT));
  if (text.size() < LENGTH_IN_TWO_BYTES) {
    frame.push_back(static_cast<char>(MASKED | text.size()));
  } else {
    frame.push_back(static_cast<char>(MASKED | LENGTH_IN_TWO_BYTES));
    frame.push_back(static_cast<char>(text.size() >> 8));
    frame.push_back(static_cast<char>(text.size() & 0xff));
  }
  char key[4];
  std::memcpy(key, &seed, sizeof key);
  frame.append(key, sizeof key);
  const std::size_t start = frame.size();
  frame.append(text);
  for (std::size_t i = 0; i < text.size(); ++i) frame[start + i] = static_cast<char>(frame[start + i] ^ key[i % 4]);
}

/// Takes a server's frames apart and compares them with what is expected. Says what is wrong, or nothing.
class Echo {
public:
  void expect(std::string_view text) {
    expected = text;
    first = true;
    whole = false;
  }

  bool complete() const { return whole; }

  const char* take(std::string_view bytes) {
    while (!bytes.empty()) {
      if (whole) return "more came than was sent";
      const char* wrong = left > 0 ? takePayload(bytes) : takeHead(bytes);
      if (wrong != nullptr) return wrong;
    }
    return nullptr;
  }

private:
  const char* takePayload(std::string_view& bytes) {
    const std::size_t size = std::min(left, bytes.size());
    if (bytes.substr(0, size) != expected.substr(0, size)) return "the text that came is not the one that was sent";
    bytes.remove_prefix(size);
    expected.remove_prefix(size);
    left -= size;
    return left == 0 ? endFrame() : nullptr;
  }

  const char* takeHead(std::string_view& bytes) {
    head[headSize++] = static_cast<std::uint8_t>(bytes.front());
    bytes.remove_prefix(1);
    if (headSize < 2) return nullptr;
    if ((head[0] & ~FIN) != (first ? TEXT : CONTINUATION)) return "a frame came that is not an echo's";
    if (head[1] > LENGTH_IN_TWO_BYTES) return "a frame came that is masked or too long";
    if (head[1] == LENGTH_IN_TWO_BYTES) {
      if (headSize < 4) return nullptr;
      left = static_cast<std::size_t>(head[2] << 8 | head[3]);
    } else {
      left = head[1];
    }
    headSize = 0;
    first = false;
    if (left > expected.size()) return "more text came than was sent";
    return left == 0 ? endFrame() : nullptr;
  }

  const char* endFrame() {
    if ((head[0] & FIN) == 0) return nullptr;
    if (!expected.empty()) return "less text came than was sent";
    whole = true;
    return nullptr;
  }

  std::string_view expected; // what has not come yet
  std::size_t left = 0;      // of this frame's payload
  std::uint8_t head[4];
  std::uint8_t headSize = 0;
  bool first = true;
  bool whole = false;
};

// --- The load ---

struct Connection {
  int fd = -1;
  bool busy = false;
  std::string frame; // which is being sent
  std::size_t sent = 0;
  Echo echo;
  std::uint64_t number = 0; // of messages begun
  Clock::time_point begun;
};

class Load {
public:
  explicit Load(const Options& options)
      : port(options.port),
        size(options.size),
        text(options.size + OFFSETS, ' '),
        buffer(BUFFER_SIZE),
        epoll(epoll_create1(EPOLL_CLOEXEC)) {
    if (epoll < 0) die("epoll_create1");
    for (char& letter : text) letter = static_cast<char>(' ' + nextRandom() % 95);
  }

  ~Load() {
    for (Connection& connection : connections) {
      if (connection.fd >= 0) ::close(connection.fd);
    }
    ::close(epoll);
  }

  Load(const Load&) = delete;
  Load& operator=(const Load&) = delete;

  /// Opens all connections.
  void open(std::size_t count) {
    connections.resize(count);
    for (Connection& connection : connections) connect(connection);
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
      if (left > 0 && connection.fd >= 0) begin(connection, Clock::now());
    }
    drain(result, deadline);
    result.seconds = std::chrono::duration<double>(Clock::now() - start).count();
    return result;
  }

  std::uint64_t errorCount() const { return errors; }

private:
  static constexpr std::size_t OFFSETS = 256;

  std::size_t indexOf(const Connection& connection) const {
    return static_cast<std::size_t>(&connection - connections.data());
  }

  std::uint32_t nextRandom() {
    random ^= random << 13;
    random ^= random >> 17;
    random ^= random << 5;
    return random;
  }

  void connect(Connection& connection) {
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) die("socket");
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) die("connect");
    const int on = 1;
    if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0) die("TCP_NODELAY");
    shakeHands(fd);
    if (fcntl(fd, F_SETFL, O_NONBLOCK) != 0) die("O_NONBLOCK");

    epoll_event event{};
    event.events = EPOLLIN | EPOLLOUT | EPOLLET;
    event.data.u64 = indexOf(connection);
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) != 0) die("epoll_ctl");
    connection.fd = fd;
  }

  // While the socket still blocks. The server sends nothing after its head until a message has come.
  static void shakeHands(int fd) {
    const timeval limit{STALL_LIMIT_MS / 1000, 0};
    if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) != 0) die("SO_RCVTIMEO");
    if (::send(fd, HANDSHAKE.data(), HANDSHAKE.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(HANDSHAKE.size())) {
      die("handshake");
    }
    std::string head;
    while (head.find("\r\n\r\n") == std::string::npos) {
      char bytes[MOST_IN_HEAD];
      const ssize_t n = recv(fd, bytes, sizeof bytes, 0);
      if (n < 0) die("handshake");
      if (n == 0 || head.size() + static_cast<std::size_t>(n) > MOST_IN_HEAD) die("handshake", "no answer came");
      head.append(bytes, static_cast<std::size_t>(n));
    }
    if (!head.starts_with("HTTP/1.1 101 ")) die("handshake", "the server answered with something else than 101");
    if (head.find(ACCEPTED) == std::string::npos) die("handshake", "the server's Sec-WebSocket-Accept is wrong");
  }

  void begin(Connection& connection, Clock::time_point now) {
    const std::string_view all = text;
    const std::string_view message = all.substr((indexOf(connection) * 31 + connection.number) % OFFSETS, size);
    ++connection.number;
    makeFrame(message, nextRandom(), connection.frame);
    connection.echo.expect(message);
    connection.sent = 0;
    connection.begun = now;
    connection.busy = true;
    --left;
    ++underWay;
    send(connection);
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

  // Sends and receives what it can, and goes on to the next message when the echo is complete.
  void advance(Connection& connection, Result& result, Clock::time_point deadline) {
    if (connection.fd < 0) return;
    if (connection.busy && connection.sent < connection.frame.size()) send(connection);
    if (connection.fd < 0 || !receive(connection)) return;
    const auto now = Clock::now();
    connection.busy = false;
    --underWay;
    ++result.messages;
    result.durations.add(now - connection.begun);
    if (left > 0 && now < deadline) begin(connection, now);
  }

  void send(Connection& connection) {
    while (connection.sent < connection.frame.size()) {
      const char* from = connection.frame.data() + connection.sent;
      const ssize_t n = ::send(connection.fd, from, connection.frame.size() - connection.sent, MSG_NOSIGNAL);
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

  // True when the last byte of the current message's echo has come.
  bool receive(Connection& connection) {
    for (;;) {
      const ssize_t n = recv(connection.fd, buffer.data(), buffer.size(), 0);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0 && errno == EAGAIN) return false;
      if (n < 0) return fail(connection, std::strerror(errno));
      if (n == 0) return fail(connection, "the server closed the connection");
      if (!connection.busy) return fail(connection, "more came than was sent");
      const char* wrong = connection.echo.take({buffer.data(), static_cast<std::size_t>(n)});
      if (wrong != nullptr) return fail(connection, wrong);
      if (connection.echo.complete()) return true;
    }
  }

  bool fail(Connection& connection, const char* reason) {
    if (errors++ == 0) std::fprintf(stderr, "ws_load: %s\n", reason);
    ::close(connection.fd);
    connection.fd = -1;
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
  std::uint32_t random = 2463534242;
  std::string text;
  std::vector<char> buffer;
  int epoll;
  std::vector<Connection> connections;
  std::uint64_t left = 0;     // messages that may still be begun
  std::uint64_t underWay = 0; // messages begun whose echo is not complete
  std::uint64_t errors = 0;
};

} // namespace

int main(int argc, char** argv) {
  const Options options = parseOptions(argc, argv);
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
  const auto unlimited = std::numeric_limits<std::uint64_t>::max();
  const Result result = load.run(options.messages.value_or(unlimited), options.seconds);
  printResult(result, load.errorCount());
  if (options.gate) waitForEnd();
  return load.errorCount() == 0 ? 0 : 1;
}
