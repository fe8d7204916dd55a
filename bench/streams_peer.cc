// SPDX-License-Identifier: MIT
// The other process of the streams benchmark: starts the program that is measured, feeds it, and checks what it sends.

// One thread does both, so that it never contends with itself: a piece to the one socket, a piece from the other, and
// it waits when neither goes. It must not be what is measured: the bytes come from a pattern that was made before, and
// are compared with it as they arrive.

#include "program.h"
#include "streams_common.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <optional>
#include <string_view>

namespace {

constexpr int STALL_LIMIT_MS = 30'000;

enum class Kind { UNIX, TCP };

struct Options {
  std::optional<Kind> input; // none: the program reads a file
  Kind output = Kind::UNIX;
  std::uint64_t bytes = 0;
  const char* file = nullptr;
  std::optional<int> sendBuffer;
  char** command = nullptr;
};

[[noreturn]] void usage() {
  std::fputs("usage: streams_peer [--input unix|tcp] --output unix|tcp --bytes N [--file PATH]\n"
             "                    [--send-buffer N] -- COMMAND...\n"
             "       streams_peer --version\n"
             "\n"
             "Runs a command that reads N bytes from descriptor 3 and writes them to descriptor 4.\n"
             "\n"
             "  --file PATH      the command takes its bytes from this file; it is made if it is not there\n"
             "  --send-buffer N  the SO_SNDBUF of what the command writes to\n",
             stderr);
  std::exit(2);
}

[[noreturn]] void die(const char* step) {
  std::fprintf(stderr, "streams_peer: %s: %s\n", step, std::strerror(errno));
  std::exit(1);
}

// Gives back what a system call returned, if it has not failed.
template <typename T>
T check(T result, const char* step) {
  if (result < 0) die(step);
  return result;
}

Kind parseKind(std::string_view text) {
  if (text == "unix") return Kind::UNIX;
  if (text == "tcp") return Kind::TCP;
  usage();
}

Options parseOptions(int argc, char** argv) {
  Options options;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string_view name = argv[i];
    const char* value = argv[i + 1];
    if (name == "--input") {
      options.input = parseKind(value);
    } else if (name == "--output") {
      options.output = parseKind(value);
    } else if (name == "--bytes") {
      options.bytes = parseNumber<std::uint64_t>(value, usage);
    } else if (name == "--file") {
      options.file = value;
    } else if (name == "--send-buffer") {
      options.sendBuffer = parseNumber<int>(value, usage);
    } else if (name == "--") {
      options.command = argv + i + 1;
      break;
    } else {
      usage();
    }
  }
  if (options.command == nullptr || options.bytes == 0 || options.input.has_value() == (options.file != nullptr))
    usage();
  return options;
}

// Two connected sockets: this process's, and the one of the program that is measured.
struct Pair {
  int ours = -1;
  int its = -1;
};

Pair connectTcp() {
  const int listener = check(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  auto* const where = reinterpret_cast<sockaddr*>(&address);
  socklen_t size = sizeof address;
  check(bind(listener, where, size), "bind");
  check(listen(listener, 1), "listen");
  check(getsockname(listener, where, &size), "getsockname");
  Pair pair;
  pair.ours = check(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");
  check(connect(pair.ours, where, size), "connect");
  pair.its = check(accept4(listener, nullptr, nullptr, SOCK_CLOEXEC), "accept4");
  close(listener);
  const int on = 1;
  for (const int fd : {pair.ours, pair.its})
    check(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on), "TCP_NODELAY");
  return pair;
}

Pair connectPair(Kind kind) {
  if (kind == Kind::TCP) return connectTcp();
  std::array<int, 2> fds;
  check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds.data()), "socketpair");
  return {fds[0], fds[1]};
}

void makeFile(const Options& options, const stream_pattern& pattern) {
  struct stat info {};
  if (stat(options.file, &info) == 0 && static_cast<std::uint64_t>(info.st_size) == options.bytes) return;
  const int fd = check(open(options.file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600), options.file);
  for (std::uint64_t done = 0; done < options.bytes;) {
    const auto size = static_cast<std::size_t>(std::min<std::uint64_t>(PIECE_SIZE, options.bytes - done));
    done += static_cast<std::uint64_t>(check(write(fd, piece_at(&pattern, done), size), options.file));
  }
  check(close(fd), options.file);
}

// A program that has this process's standard streams and, as its descriptors 3 and 4, `input` and `output`.
pid_t startProgram(char** command, int input, int output) {
  const pid_t pid = check(fork(), "fork");
  if (pid != 0) return pid;
  // Out of the way first: either may have the other's number.
  const int in = input < 0 ? -1 : fcntl(input, F_DUPFD_CLOEXEC, 10);
  const int out = fcntl(output, F_DUPFD_CLOEXEC, 10);
  if (in >= 0) dup2(in, INPUT_DESCRIPTOR);
  dup2(out, OUTPUT_DESCRIPTOR);
  execvp(command[0], command);
  std::fprintf(stderr, "streams_peer: %s: %s\n", command[0], std::strerror(errno));
  _exit(127);
}

// What send or recv has done: a number of bytes, or nothing since it would have waited.
std::optional<std::size_t> transferred(ssize_t result, const char* step) {
  if (result < 0 && (errno == EAGAIN || errno == EINTR)) return std::nullopt;
  return static_cast<std::size_t>(check(result, step));
}

// Sends all bytes to `input`, if there is one, and receives as many, followed by the end, from `output`. Returns
// whether they were the right ones.
bool exchange(int input, int output, std::uint64_t bytes, const stream_pattern& pattern) {
  std::array<char, PIECE_SIZE> buffer;
  std::uint64_t sent = input < 0 ? bytes : 0;
  std::uint64_t received = 0;
  for (;;) {
    bool went = false;
    if (sent < bytes) {
      const auto size = static_cast<std::size_t>(std::min<std::uint64_t>(PIECE_SIZE, bytes - sent));
      const auto n = transferred(send(input, piece_at(&pattern, sent), size, MSG_NOSIGNAL | MSG_DONTWAIT), "send");
      went = n.has_value();
      sent += n.value_or(0);
    }
    if (const auto n = transferred(recv(output, buffer.data(), buffer.size(), MSG_DONTWAIT), "recv")) {
      if (*n == 0) break;
      if (std::memcmp(buffer.data(), piece_at(&pattern, received), *n) != 0) {
        std::fprintf(stderr, "streams_peer: wrong bytes came behind %" PRIu64 "\n", received);
        return false;
      }
      went = true;
      received += *n;
    }
    if (went) continue;
    std::array<pollfd, 2> fds{{{output, POLLIN, 0}, {sent < bytes ? input : -1, POLLOUT, 0}}};
    if (check(poll(fds.data(), fds.size(), STALL_LIMIT_MS), "poll") == 0) {
      std::fprintf(stderr, "streams_peer: nothing came for 30 seconds, behind %" PRIu64 " bytes\n", received);
      return false;
    }
  }
  if (received == bytes) return true;
  std::fprintf(stderr, "streams_peer: %" PRIu64 " bytes came instead of %" PRIu64 "\n", received, bytes);
  return false;
}

} // namespace

int main(int argc, char** argv) {
  if (argc == 2 && std::string_view(argv[1]) == "--version") {
    printCompiler();
    return 0;
  }
  const Options options = parseOptions(argc, argv);
  const auto pattern = std::make_unique<stream_pattern>();
  make_pattern(pattern.get());
  if (options.file != nullptr) makeFile(options, *pattern);

  const Pair input = options.input ? connectPair(*options.input) : Pair();
  const Pair output = connectPair(options.output);
  if (options.sendBuffer)
    check(setsockopt(output.its, SOL_SOCKET, SO_SNDBUF, &*options.sendBuffer, sizeof(int)), "SO_SNDBUF");
  const pid_t program = startProgram(options.command, input.its, output.its);
  if (options.input) close(input.its);
  close(output.its);

  const bool right = exchange(input.ours, output.ours, options.bytes, *pattern);
  if (!right) kill(program, SIGTERM);
  int status = 0;
  while (waitpid(program, &status, 0) < 0 && errno == EINTR) {
  }
  if (status != 0) std::fprintf(stderr, "streams_peer: the program ended with wait status %d\n", status);
  return right && status == 0 ? 0 : 1;
}
