// SPDX-License-Identifier: MIT
// Runs a command and prints what it writes, line by line, with the time and the stream that it came from; ends with
// the command's exit status. Shows child processes, several streams at once, and that Ctrl-C needs no more than the
// destruction of a promise: the child is killed with it.
//
//   spawn sh -c 'echo one; sleep 1; echo two >&2; exit 3'; echo "status $?"
//   spawn ping localhost                                     and Ctrl-C
#include "options.h"

#include <troth/io/async_io.h>
#include <troth/io/process.h>
#include <troth/runtime/join.h>
#include <troth/runtime/require.h>
#include <troth/timers/timer.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>

using namespace troth;

constexpr std::size_t LONGEST_LINE = 64 * 1024; // a longer one is printed in parts

/// Prints lines as "[+0.123s out] text".
class Printer {
public:
  explicit Printer(Timer& timer) : timer_(timer), begin_(timer.now()) {}

  void print(const char* stream, std::string_view line) {
    const double seconds = std::chrono::duration<double>(timer_.now() - begin_).count();
    std::printf("[+%.3fs %s] ", seconds, stream);
    std::fwrite(line.data(), 1, line.size(), stdout);
    std::putchar('\n');
    if (std::fflush(stdout) != 0 || std::ferror(stdout)) throw systemException(errno, "writing to standard output");
  }

private:
  Timer& timer_;
  TimePoint begin_;
};

Promise<void> printLines(Printer& printer, const char* name, std::unique_ptr<AsyncInputStream> stream) {
  std::string line;
  for (;;) {
    const Chunk chunk = co_await stream->tryReadChunk();
    if (chunk.empty()) break;
    for (const char c : chunk.text()) {
      if (c != '\n') line += c;
      if (c != '\n' && line.size() < LONGEST_LINE) continue;
      printer.print(name, line);
      line.clear();
    }
  }
  if (!line.empty()) printer.print(name, line);
}

/// Gives the status with which a shell would end.
Promise<int> supervise(AsyncIo& io, ProcessOptions options) {
  options.standardOutput = options.standardError = ChildStdio::pipe();
  Printer printer(io.timer());
  const std::unique_ptr<Process> child = spawn(io, options);
  Promise<void> output = printLines(printer, "out", child->takeStandardOutput());
  Promise<void> errors = printLines(printer, "err", child->takeStandardError());
  co_await joinPromisesFailFast(std::move(output), std::move(errors));
  const ExitStatus status = co_await child->onExit();
  if (status.signal != 0)
    std::fprintf(stderr, "spawn: %s was %s\n", options.program.c_str(), status.toString().c_str());
  co_return status.signal != 0 ? 128 + status.signal : status.code;
}

int main(int argc, char** argv) try {
  if (argc < 2) throw std::invalid_argument("say which command to run: spawn COMMAND [ARGUMENT]…");
  ProcessOptions options{argv[1], {argv + 2, argv + argc}};
  AsyncIoContext io = setupAsyncIo();
  Promise<int> interrupted = io.onSignal(SIGINT, SIGTERM).then([](int signal) { return 128 + signal; });
  // Whichever is first cancels the other one: after a signal the child is killed before we end.
  return supervise(io, std::move(options)).exclusiveJoin(std::move(interrupted)).wait(io.waitScope());
} catch (...) {
  return failed("spawn");
}
