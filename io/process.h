// SPDX-License-Identifier: MIT
// Child processes: starting them, their standard streams, their end, and what becomes of them on cancellation.
#pragma once

#include <troth/io/stream.h>
#include <troth/runtime/promise.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <source_location>
#include <string>
#include <vector>

namespace troth {
inline namespace v0 {

class AsyncIo;

/// Where one of the three standard streams of a child leads.
class ChildStdio {
public:
  enum class Kind : std::uint8_t { INHERIT, NOTHING, PIPE, DESCRIPTOR };

  /// To where this process's own leads; if that is closed, as nothing().
  static constexpr ChildStdio inherit() noexcept { return {Kind::INHERIT, -1}; }
  /// To /dev/null: nothing to read, and what is written is gone.
  static constexpr ChildStdio nothing() noexcept { return {Kind::NOTHING, -1}; }
  /// Through a pipe to a stream that the Process has. It is a pipe, not a pair of sockets (libuv's way), because that
  /// is what programs expect: they may open /dev/stdin, which fails for a socket.
  static constexpr ChildStdio pipe() noexcept { return {Kind::PIPE, -1}; }
  /// To where descriptor `fd` leads, which stays the caller's and is needed during spawn() only. spawn() throws FAILED,
  /// naming it, if it is not open.
  static constexpr ChildStdio descriptor(int fd) noexcept { return {Kind::DESCRIPTOR, fd}; }

  constexpr Kind kind() const noexcept { return kind_; }
  constexpr int fd() const noexcept { return fd_; }

private:
  constexpr ChildStdio(Kind kind, int fd) noexcept : kind_(kind), fd_(fd) {}

  Kind kind_;
  int fd_;
};

/// What becomes of a child that still runs when its Process is destroyed.
enum class WhenDestroyed : std::uint8_t {
  KILL,      ///< It gets SIGKILL, at once.
  TERMINATE, ///< It gets SIGTERM, which it may catch or ignore.
  LEAVE      ///< It runs on.
};

/// What to run, and how.
struct ProcessOptions {
  /// The program: a path if it has a slash in it, as seen from `workingDirectory`; else looked up in the PATH of the
  /// child's environment.
  std::string program;
  /// The arguments, without the program's own name. No shell sees them.
  std::vector<std::string> arguments{};
  /// The whole environment, each entry being "NAME=value" (else spawn() throws FAILED, quoting it); if not given, this
  /// process's own.
  std::optional<std::vector<std::string>> environment{};
  /// Where the child runs; if empty, where this process does.
  std::string workingDirectory{};

  ChildStdio standardInput = ChildStdio::inherit();
  ChildStdio standardOutput = ChildStdio::inherit();
  ChildStdio standardError = ChildStdio::inherit();

  /// KILL, because destroying the promise or object that owns some work cancels it.
  WhenDestroyed whenDestroyed = WhenDestroyed::KILL;
};

/// How a process has ended.
struct ExitStatus {
  int code = 0;   ///< What it gave to exit(); 0 if a signal ended it.
  int signal = 0; ///< The signal that ended it, or 0.

  bool isSuccess() const noexcept { return code == 0 && signal == 0; }
  /// "exit status 3", "killed by SIGTERM (15)".
  std::string toString() const;
};

/// A child process, from spawn().
///
/// Destroying it while the child runs does what ProcessOptions::whenDestroyed says, closes the streams that were not
/// taken, and rejects pending onExit() promises with DISCONNECTED. It does not wait: the child is reaped in the
/// background, when it ends while the loop runs, so it does not stay a zombie. When the context is destroyed, it waits
/// for children that got SIGKILL, which is short; others that still run are nobody's from then on. A host's loop is
/// kept alive by a child until that has been reaped, except by one that was left.
///
/// Only the child itself is signalled, not what it has started in turn.
///
/// Belongs to one thread. libuv catches SIGCHLD while a child runs, and gives it its default action afterwards; some
/// thread must let it through, and nobody else in the program may wait for the child (waitpid).
class Process {
public:
  virtual ~Process() = default;

  /// The child's number. It may belong to another process once the child has ended: for signals there is kill().
  virtual int pid() const noexcept = 0;

  /// Gives the stream at our end of a pipe(), which may outlive this. Destroying it closes the pipe: so the child reads
  /// the end of its input. A child that writes more than a pipe holds (64 KiB) waits until it is read. Throws FAILED if
  /// it is no pipe(), or was taken already.
  virtual std::unique_ptr<AsyncOutputStream>
  takeStandardInput(std::source_location where = std::source_location::current()) = 0;
  virtual std::unique_ptr<AsyncInputStream>
  takeStandardOutput(std::source_location where = std::source_location::current()) = 0;
  virtual std::unique_ptr<AsyncInputStream>
  takeStandardError(std::source_location where = std::source_location::current()) = 0;

  /// Waits for the child's end.
  ///
  /// Completes:    when the child has ended; at once if it has before. Its output may still be unread.
  /// Result:       how it has ended.
  /// Errors:       DISCONNECTED if this is destroyed before.
  /// Cancellation: clean: the child is not concerned.
  /// Overlap:      any number.
  virtual Promise<ExitStatus> onExit(std::source_location where = std::source_location::current()) = 0;

  /// Sends the child a signal. Does nothing if it has ended, so no other process is ever hit. Throws FAILED for a
  /// number that is no signal (but 0, with which nothing is sent), and if the system does not allow it.
  virtual void kill(int signal, std::source_location where = std::source_location::current()) = 0;
};

/// Starts a process. It runs when this returns: the program was found and could be executed.
///
/// The child has default signal dispositions (but a real-time signal that is ignored stays so) and an empty mask, and
/// of descriptors nothing but 0, 1 and 2: on Linux (from 5.11) also those of the program are closed that were opened
/// without O_CLOEXEC; elsewhere they are inherited.
/// inherit() and descriptor() make what they lead to blocking (O_NONBLOCK is shared with the parent).
///
/// Throws FAILED, with the program quoted, if it cannot be run; OVERLOADED without descriptors, memory or processes.
std::unique_ptr<Process> spawn(AsyncIo& io, const ProcessOptions& options,
                               std::source_location where = std::source_location::current());

/// What a process has left.
struct ProcessOutput {
  ExitStatus status;
  std::string standardOutput;
  std::string standardError;
};

/// Runs a process to its end: gives it `input`, and collects at most `limit` bytes of each output. The three standard
/// streams are pipes, whatever `options` says.
///
/// Completes:    when it has ended, and both outputs, which it may have handed on to others; or on error. What nobody
///               has read of `input` by then is dropped.
/// Result:       its status, of whatever kind, and what it wrote. That it did not read all of `input` is no error.
/// Errors:       those of spawn(); FAILED if it writes more than `limit`.
/// Cancellation: partial, lost: the process is killed (or what `options.whenDestroyed` says), and so it is on error.
/// Lifetime:     `io` outlives the promise.
Promise<ProcessOutput> runProcess(AsyncIo& io, ProcessOptions options, std::string input = {},
                                  std::uint64_t limit = ALL_BYTES,
                                  std::source_location where = std::source_location::current());

} // namespace v0
} // namespace troth
