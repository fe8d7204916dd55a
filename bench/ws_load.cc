// SPDX-License-Identifier: MIT
// The load generator of WebSocket messages: text there and back on many connections, with epoll.

// It is to WebSockets what echo_load.cc is to bytes: one thread, one message under way on each connection (load.h), and
// every echo is checked. All messages are slices of one text, from a place that depends on the connection and on the
// message's number. A message is one frame, masked with a key of its own (RFC 6455, 5.3); its echo may come in several.

#include "load.h"

#include <sys/time.h>

#include <string>

namespace {

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

LoadOptions parseOptions(int argc, char** argv) {
  LoadOptions options;
  parseLoadOptions(options, argc, argv, usage, [](std::string_view) { return false; });
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

struct Connection : LoadConnection {
  std::string frame; // which is being sent
  Echo echo;
};

class TextLoad final : public Load<Connection> {
public:
  explicit TextLoad(const LoadOptions& options) : Load(options), size(options.size), text(options.size + OFFSETS, ' ') {
    for (char& letter : text) letter = static_cast<char>(' ' + random.next() % 95);
  }

private:
  int openSocket(std::size_t) override {
    const int fd = connectSocket(SOCK_STREAM);
    shakeHands(fd);
    return fd;
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

  void makeMessage(Connection& connection, std::size_t index, std::uint64_t number) override {
    const std::string_view message = std::string_view(text).substr(offsetOf(index, number), size);
    makeFrame(message, random.next(), connection.frame);
    connection.echo.expect(message);
  }

  std::string_view messageOf(const Connection& connection) const override { return connection.frame; }

  const char* check(Connection& connection, std::string_view bytes) override { return connection.echo.take(bytes); }

  bool isComplete(const Connection& connection) const override { return connection.echo.complete(); }

  std::size_t size;
  PseudoRandom random;
  std::string text;
};

} // namespace

int main(int argc, char** argv) {
  const LoadOptions options = parseOptions(argc, argv);
  TextLoad load(options);
  return runLoad(load, options);
}
