// SPDX-License-Identifier: MIT
// Tests of child processes: their streams, descriptors, ends, and what becomes of them on cancellation.
#include "peer.h"
#include "raw_descriptors.h"
#include "temporary_directory.h"

#include <troth/io/process.h>
#include <troth/io/signal.h>
#include <troth/io/watch.h>
#include <troth/runtime/uv/uv_event_port.h>
#include <troth/timers/timer.h>

#include <dlfcn.h>
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <optional>
#include <string>
#include <thread>
#include <vector>

using namespace troth;
using namespace troth::test;

namespace {
bool processesAreShort = false;
}

// libuv's calls come here first: the system has no more processes if the test says so.
extern "C" pid_t fork() noexcept {
  if (processesAreShort) {
    errno = EAGAIN;
    return -1;
  }
  static const auto next = reinterpret_cast<pid_t (*)()>(::dlsym(RTLD_NEXT, "fork"));
  return next();
}

namespace {

/// A shell that runs `script`, with all three streams as pipes.
ProcessOptions shell(std::string script) {
  ProcessOptions options{"sh", {"-c", std::move(script)}};
  options.standardInput = options.standardOutput = options.standardError = ChildStdio::pipe();
  return options;
}

ProcessOptions shell(std::string script, WhenDestroyed whenDestroyed) {
  ProcessOptions options = shell(std::move(script));
  options.whenDestroyed = whenDestroyed;
  return options;
}

std::string readAll(AsyncInputStream& stream, WaitScope& scope) { return stream.readAllText(1 << 20).wait(scope); }

std::string readSome(AsyncInputStream& stream, WaitScope& scope) {
  return std::string(stream.tryReadChunk().wait(scope).text());
}

/// What `script` writes to its standard output.
std::string outputOf(IoTest& test, std::string script) {
  return runProcess(test.io, shell(std::move(script))).wait(test.scope).standardOutput;
}

/// Whether there is such a process, be it a zombie.
bool exists(int pid) { return ::kill(pid, 0) == 0; }

/// Runs the loop, which has something else to wait for, until there is no such process any more.
bool goes(IoTest& test, int pid) {
  Promise<void> other = test.io.timer().afterDelay(std::chrono::hours(1));
  REQUIRE(!other.poll(test.scope));
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (exists(pid)) {
    if (std::chrono::steady_clock::now() > end) return false;
    test.scope.poll();
    std::this_thread::yield();
  }
  return true;
}

/// While it lives, the standard descriptors are not open.
class NoStandardDescriptors {
public:
  NoStandardDescriptors() {
    for (int number = 0; number <= STDERR_FILENO; ++number) {
      kept_[number] = OwnedDescriptor(fcntl(number, F_DUPFD_CLOEXEC, 100));
      REQUIRE(kept_[number]);
    }
    for (int number = 0; number <= STDERR_FILENO; ++number) ::close(number);
  }
  NoStandardDescriptors(const NoStandardDescriptors&) = delete;
  NoStandardDescriptors& operator=(const NoStandardDescriptors&) = delete;
  ~NoStandardDescriptors() {
    for (int number = 0; number <= STDERR_FILENO; ++number) ::dup2(kept_[number].get(), number);
  }

private:
  OwnedDescriptor kept_[STDERR_FILENO + 1];
};

/// A pipe for POSIX calls. With `flags` 0 it is inherited over exec unless somebody prevents it.
struct PlainPipe {
  int ends[2];
  explicit PlainPipe(int flags = O_CLOEXEC) { REQUIRE(::pipe2(ends, flags) == 0); }
  ~PlainPipe() {
    for (const int end : ends)
      if (end >= 0) ::close(end);
  }
  PlainPipe(const PlainPipe&) = delete;
  PlainPipe& operator=(const PlainPipe&) = delete;
  void closeEnd(int which) { ::close(std::exchange(ends[which], -1)); }
};

} // namespace

// ------------------------------------------------------------------------------------------- the end

TEST_CASE_FIXTURE(IoTest, "the end of a process is told with its exit status, to all who ask, before and afterwards") {
  auto process = spawn(io, shell("read x; exit 3"));
  CHECK(process->pid() > 0);
  Promise<ExitStatus> one = process->onExit();
  Promise<ExitStatus> two = process->onExit();
  REQUIRE(!one.poll(scope));
  process->takeStandardInput().reset();
  CHECK(std::move(one).wait(scope).code == 3);
  const ExitStatus status = std::move(two).wait(scope);
  CHECK(status.code == 3);
  CHECK(status.signal == 0);
  CHECK(!status.isSuccess());
  CHECK(status.toString() == "exit status 3");
  CHECK(process->onExit().wait(scope).code == 3);
  CHECK(!exists(process->pid()));
}

TEST_CASE_FIXTURE(IoTest, "success is exit status 0 and no signal") {
  CHECK(spawn(io, {"true"})->onExit().wait(scope).isSuccess());
  CHECK(!spawn(io, {"false"})->onExit().wait(scope).isSuccess());
  CHECK(!ExitStatus{0, SIGKILL}.isSuccess());
}

TEST_CASE_FIXTURE(IoTest, "a process that a signal has ended says which") {
  auto process = spawn(io, shell("kill -TERM $$"));
  const ExitStatus status = process->onExit().wait(scope);
  CHECK(status.code == 0);
  CHECK(status.signal == SIGTERM);
  CHECK(!status.isSuccess());
  CHECK(status.toString() == "killed by SIGTERM (15)");
  CHECK(ExitStatus{0, 60}.toString() == "killed by signal 60");
}

TEST_CASE_FIXTURE(IoTest, "the end of a process and a watch for SIGCHLD do not disturb each other") {
  auto watch = newSignalWatch(io, SIGCHLD);
  CHECK(spawn(io, {"true"})->onExit().wait(scope).isSuccess());
  CHECK(watch->next().wait(scope) == SIGCHLD);
  auto process = spawn(io, {"false"});
  watch.reset();
  CHECK(process->onExit().wait(scope).code == 1);
}

TEST_CASE_FIXTURE(IoTest, "many processes at once end each for itself") {
  std::vector<std::unique_ptr<Process>> all;
  for (int i = 0; i < 20; ++i) all.push_back(spawn(io, shell("exit " + std::to_string(i))));
  for (int i = 19; i >= 0; --i) CHECK(all[static_cast<std::size_t>(i)]->onExit().wait(scope).code == i);
}

TEST_CASE_FIXTURE(IoTest, "a wait for the end that is cancelled does not concern the process, nor others who wait") {
  auto process = spawn(io, shell("read x; exit 4"));
  Promise<ExitStatus> kept = process->onExit();
  {
    Promise<ExitStatus> dropped = process->onExit();
    REQUIRE(!dropped.poll(scope));
  }
  process->takeStandardInput().reset();
  CHECK(std::move(kept).wait(scope).code == 4);
}

TEST_CASE_FIXTURE(IoTest, "a wait for the end fails when the Process is destroyed, with its own place, and may go after it") {
  auto process = spawn(io, shell("read x"));
  Promise<ExitStatus> end = process->onExit();
  Promise<ExitStatus> unheard = process->onExit();
  REQUIRE(!end.poll(scope));
  process.reset();
  const Exception e = failureOf(std::move(end), scope);
  CHECK((e.kind() == Exception::Kind::DISCONNECTED));
  CHECK(madeIn(e, "process_test.cc"));
}

TEST_CASE_FIXTURE(IoTest, "an end that was told may be taken when the Process has gone") {
  auto process = spawn(io, shell("exit 5"));
  Promise<ExitStatus> end = process->onExit();
  process->onExit().wait(scope);
  process.reset();
  CHECK(std::move(end).wait(scope).code == 5);
}

TEST_CASE("waiting for the end may be cancelled everywhere") {
  cancelSweep([](IoTest& test) -> Promise<void> {
    auto process = spawn(test.io, shell("exit 0"));
    co_await process->onExit();
  });
}

// --------------------------------------------------------------------------------------- the streams

TEST_CASE_FIXTURE(IoTest, "what is written to the input comes out of the output, and destroying the input ends it") {
  ProcessOptions options{"cat"};
  options.standardInput = options.standardOutput = ChildStdio::pipe();
  auto process = spawn(io, options);
  auto input = process->takeStandardInput();
  auto output = process->takeStandardOutput();
  input->write("hello").wait(scope);
  CHECK(readSome(*output, scope) == "hello");
  input->write("again").wait(scope);
  CHECK(readSome(*output, scope) == "again");
  Promise<Chunk> end = output->tryReadChunk();
  REQUIRE(!end.poll(scope));
  input.reset();
  CHECK(std::move(end).wait(scope).empty());
  CHECK(process->onExit().wait(scope).isSuccess());
}

TEST_CASE_FIXTURE(IoTest, "output and errors are two streams, and may be read after the end and without the Process") {
  auto process = spawn(io, shell("echo out; echo err >&2"));
  CHECK(process->onExit().wait(scope).isSuccess());
  auto output = process->takeStandardOutput();
  auto error = process->takeStandardError();
  process.reset();
  CHECK(readAll(*output, scope) == "out\n");
  CHECK(readAll(*error, scope) == "err\n");
}

TEST_CASE_FIXTURE(IoTest, "writing to a process that has ended is DISCONNECTED") {
  auto process = spawn(io, shell("exit 0"));
  auto input = process->takeStandardInput();
  process->onExit().wait(scope);
  const Exception e = failureOf(input->write("too late"), scope);
  CHECK((e.kind() == Exception::Kind::DISCONNECTED));
}

TEST_CASE_FIXTURE(IoTest, "the streams of a process are ordinary pipes to it, which block and can be opened by their names") {
  const std::string all = outputOf(*this, "readlink /proc/$$/fd/0 /proc/$$/fd/1 /proc/$$/fd/2; grep flags /proc/$$/fdinfo/0");
  CHECK(all.starts_with("pipe:["));
  CHECK(contains(all, "\npipe:["));
  CHECK(!contains(all, "socket"));
  CHECK(contains(all, "flags:\t00\n")); // neither O_NONBLOCK nor O_CLOEXEC
  CHECK(runProcess(io, shell("cat /dev/stdin > /dev/stdout"), "by name").wait(scope).standardOutput == "by name");
}

TEST_CASE_FIXTURE(IoTest, "nothing() gives the child an input that has ended, and takes its output") {
  ProcessOptions options = shell("cat; echo lost; echo kept >&2");
  options.standardInput = options.standardOutput = ChildStdio::nothing();
  auto process = spawn(io, options);
  CHECK(readAll(*process->takeStandardError(), scope) == "kept\n");
  CHECK(process->onExit().wait(scope).isSuccess());
}

TEST_CASE_FIXTURE(IoTest, "inherit() leads to where our own streams lead") {
  char own[256] = "";
  REQUIRE(::readlink("/proc/self/fd/0", own, sizeof own - 1) > 0);
  ProcessOptions options = shell("readlink /proc/$$/fd/0; true");
  options.standardInput = ChildStdio::inherit();
  auto process = spawn(io, options);
  CHECK(readAll(*process->takeStandardOutput(), scope) == std::string(own) + "\n");
}

TEST_CASE_FIXTURE(IoTest, "descriptor() leads to where the descriptor leads, which stays the caller's") {
  PlainPipe pipe;
  ProcessOptions options = shell("echo here; echo there >&2");
  options.standardOutput = options.standardError = ChildStdio::descriptor(pipe.ends[1]);
  auto process = spawn(io, options);
  CHECK(process->onExit().wait(scope).isSuccess());
  REQUIRE(::write(pipe.ends[1], "mine\n", 5) == 5);
  char text[64];
  CHECK(std::string_view(text, static_cast<std::size_t>(::read(pipe.ends[0], text, sizeof text))) == "here\nthere\nmine\n");
}

TEST_CASE_FIXTURE(IoTest, "output and errors may change places") {
  const int out = fcntl(1, F_DUPFD_CLOEXEC, 0);
  const int err = fcntl(2, F_DUPFD_CLOEXEC, 0);
  PlainPipe one;
  PlainPipe two;
  REQUIRE(::dup2(one.ends[1], 1) == 1);
  REQUIRE(::dup2(two.ends[1], 2) == 2);
  ProcessOptions options{"sh", {"-c", "echo out; echo err >&2"}};
  options.standardOutput = ChildStdio::descriptor(2);
  options.standardError = ChildStdio::descriptor(1);
  const ExitStatus status = spawn(io, options)->onExit().wait(scope);
  ::dup2(out, 1);
  ::dup2(err, 2);
  ::close(out);
  ::close(err);
  CHECK(status.isSuccess());
  char text[64];
  CHECK(std::string_view(text, static_cast<std::size_t>(::read(one.ends[0], text, sizeof text))) == "err\n");
  CHECK(std::string_view(text, static_cast<std::size_t>(::read(two.ends[0], text, sizeof text))) == "out\n");
}

TEST_CASE_FIXTURE(IoTest, "pipes are pipes, and are closed in the end, also if the standard descriptors are free to be used") {
  ProcessOptions options{"cat"};
  options.standardInput = options.standardOutput = ChildStdio::pipe();
  std::unique_ptr<Process> process;
  {
    const NoStandardDescriptors none;
    process = spawn(io, options);
    for (int number = 0; number <= STDERR_FILENO; ++number)
      if (isOpen(number)) throw std::logic_error("a descriptor was left in the place of a standard one");
  }
  auto input = process->takeStandardInput();
  auto output = process->takeStandardOutput();
  input->write("text").wait(scope);
  input.reset();
  CHECK(readAll(*output, scope) == "text");
  CHECK(process->onExit().wait(scope).isSuccess());
}

TEST_CASE_FIXTURE(IoTest, "inherit() of what is not open leads to nothing") {
  ProcessOptions options{"readlink", {"/proc/self/fd/0", "/proc/self/fd/2"}};
  options.standardOutput = ChildStdio::pipe();
  std::unique_ptr<Process> process;
  {
    const NoStandardDescriptors none;
    process = spawn(io, options);
  }
  CHECK(readAll(*process->takeStandardOutput(), scope) == "/dev/null\n/dev/null\n");
}

TEST_CASE_FIXTURE(IoTest, "a stream that is no pipe, or was taken already, cannot be taken") {
  ProcessOptions options{"true"};
  options.standardOutput = ChildStdio::pipe();
  auto process = spawn(io, options);
  const Exception none = thrownBy([&] { process->takeStandardInput(); });
  CHECK((none.kind() == Exception::Kind::FAILED));
  CHECK(contains(none.description(), "takeStandardInput"));
  CHECK(madeIn(none, "process_test.cc"));
  CHECK(contains(thrownBy([&] { process->takeStandardError(); }).description(), "takeStandardError"));
  process->takeStandardOutput();
  CHECK(contains(thrownBy([&] { process->takeStandardOutput(); }).description(), "takeStandardOutput"));
}

// ------------------------------------------------------------------------------- what a child is given

TEST_CASE_FIXTURE(IoTest, "arguments arrive as they are: no shell sees them") {
  ProcessOptions options{"printf", {"[%s]", "two words", "", "$HOME", "*", "\"'\\"}};
  options.standardOutput = ChildStdio::pipe();
  auto process = spawn(io, options);
  CHECK(readAll(*process->takeStandardOutput(), scope) == "[two words][][$HOME][*][\"'\\]");
}

TEST_CASE_FIXTURE(IoTest, "the environment is inherited, or is exactly what is given") {
  REQUIRE(::setenv("TROTH_PROCESS_TEST", "inherited", 1) == 0);
  CHECK(outputOf(*this, "echo $TROTH_PROCESS_TEST") == "inherited\n");
  ProcessOptions options{"/usr/bin/env"};
  options.environment = {"A=1", "B=two words"};
  CHECK(runProcess(io, options).wait(scope).standardOutput == "A=1\nB=two words\n");
  options.environment.emplace();
  CHECK(runProcess(io, options).wait(scope).standardOutput.empty());
  ::unsetenv("TROTH_PROCESS_TEST");
}

TEST_CASE_FIXTURE(IoTest, "a program is looked up in the child's PATH, or is a path as seen from where the child runs") {
  const TemporaryDirectory directory;
  directory.write("troth-test-program", "#!/bin/sh\necho found\n");
  std::filesystem::permissions(directory.inside("troth-test-program"), std::filesystem::perms::owner_all);
  ProcessOptions options{"troth-test-program"};
  options.environment = {"PATH=/nowhere:" + directory.inside()};
  CHECK(runProcess(io, options).wait(scope).standardOutput == "found\n");
  options.environment.reset();
  CHECK((failureOf(runProcess(io, options), scope).code() == std::errc::no_such_file_or_directory));
  options.program = "./troth-test-program";
  options.workingDirectory = directory.inside();
  CHECK(runProcess(io, options).wait(scope).standardOutput == "found\n");
}

TEST_CASE_FIXTURE(IoTest, "the child runs in the directory that it is given, or in ours") {
  ProcessOptions options{"pwd"};
  CHECK(runProcess(io, options).wait(scope).standardOutput == std::filesystem::current_path().string() + "\n");
  options.workingDirectory = "/";
  CHECK(runProcess(io, options).wait(scope).standardOutput == "/\n");
}

TEST_CASE_FIXTURE(IoTest, "the child has default signal dispositions and an empty mask (SIGPIPE is ignored here)") {
  sigset_t usr1;
  sigset_t before;
  sigemptyset(&usr1);
  sigaddset(&usr1, SIGUSR1);
  REQUIRE(pthread_sigmask(SIG_BLOCK, &usr1, &before) == 0);
  const std::string all = outputOf(*this, "grep -E 'Sig(Blk|Ign)' /proc/self/status");
  CHECK(pthread_sigmask(SIG_SETMASK, &before, nullptr) == 0);
  CHECK(all == "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n");
}

TEST_CASE_FIXTURE(IoTest, "a child inherits no descriptor but its standard streams, whatever this process holds (R15)") {
  const PlainPipe careless(0); // without O_CLOEXEC, as these are:
  Peer event(::eventfd(0, 0));
  Peer socket(::socket(AF_INET, SOCK_STREAM, 0));
  Peer high(fcntl(careless.ends[0], F_DUPFD, 900));
  Pair pair = newPair(io);
  Pair tcp = newTcpPair(io);
  auto signals = newSignalWatch(io, SIGUSR1);
  auto watch = newFileWatch(io, "/tmp");
  auto other = spawn(io, shell("read x"));
  CHECK(outputOf(*this, "ls /proc/$$/fd; true") == "0\n1\n2\n");
  ProcessOptions options = shell("exec >&2; ls /proc/$$/fd; true");
  options.standardInput = ChildStdio::nothing();
  options.standardOutput = ChildStdio::descriptor(careless.ends[1]);
  auto process = spawn(io, options);
  CHECK(readAll(*process->takeStandardError(), scope) == "0\n1\n2\n");
  // The flags of our own are what they were.
  CHECK(fcntl(careless.ends[0], F_GETFD) == 0);
}

TEST_CASE_FIXTURE(IoTest, "a process that the program forks by itself keeps its descriptors, also after a spawn") {
  const PlainPipe careless(0);
  CHECK(spawn(io, {"true"})->onExit().wait(scope).isSuccess());
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) ::_exit(fcntl(careless.ends[0], F_GETFD) == 0 ? 0 : 1);
  int status = -1;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK(status == 0);
}

TEST_CASE_FIXTURE(IoTest, "the end of a pipe is seen although other children were started while it was open (R15)") {
  auto first = spawn(io, {"cat", {}, {}, {}, ChildStdio::pipe()});
  auto second = spawn(io, {"cat", {}, {}, {}, ChildStdio::pipe()});
  first->takeStandardInput().reset(); // were it inherited, `first` would never end
  CHECK(first->onExit().wait(scope).isSuccess());
}

// -------------------------------------------------------------------------------------- what is refused

TEST_CASE_FIXTURE(IoTest, "a program that cannot be run is FAILED at once, with its name and the caller's place") {
  for (const auto& [program, code] : {std::pair("no-such-program", std::errc::no_such_file_or_directory),
                                      std::pair("/no/such/program", std::errc::no_such_file_or_directory),
                                      std::pair("/etc/passwd", std::errc::permission_denied),
                                      std::pair("/", std::errc::permission_denied),
                                      std::pair("", std::errc::no_such_file_or_directory)}) {
    CAPTURE(program);
    ProcessOptions options = shell("");
    options.program = program;
    const Exception e = thrownBy([&] { spawn(io, options); });
    CHECK((e.kind() == Exception::Kind::FAILED));
    CHECK((e.code() == code));
    CHECK(contains(e.description(), "spawn \"" + std::string(program) + "\""));
    CHECK(madeIn(e, "process_test.cc"));
    scope.poll();
  }
  CHECK(activeHandles(*this, "process") == 0);
}

TEST_CASE_FIXTURE(IoTest, "a directory that does not exist is told apart from a program that does not") {
  ProcessOptions options{"true"};
  options.workingDirectory = "/no/such/directory";
  const Exception e = thrownBy([&] { spawn(io, options); });
  CHECK((e.code() == std::errc::no_such_file_or_directory));
  CHECK(contains(e.description(), "spawn \"true\" in \"/no/such/directory\""));
}

TEST_CASE_FIXTURE(IoTest, "texts with a NUL character in them are refused, since the child would get half of them") {
  const std::string bad("a\0b", 3);
  std::vector<ProcessOptions> all(4, ProcessOptions{"true"});
  all[0].program = bad;
  all[1].arguments = {"x", bad};
  all[2].environment = {bad};
  all[3].workingDirectory = bad;
  for (const ProcessOptions& options : all) {
    const Exception e = thrownBy([&] { spawn(io, options); });
    CHECK((e.kind() == Exception::Kind::FAILED));
    CHECK(contains(e.description(), "NUL"));
    CHECK(contains(e.description(), "a\\0b") != contains(e.description(), "a\\x00b"));
  }
}

TEST_CASE_FIXTURE(IoTest, "a descriptor that is none is refused, and named") {
  for (const int fd : {999, -1, -2}) {
    ProcessOptions options{"true"};
    options.standardOutput = ChildStdio::descriptor(fd);
    const Exception e = thrownBy([&] { spawn(io, options); });
    CHECK((e.kind() == Exception::Kind::FAILED));
    CHECK((e.code() == std::errc::bad_file_descriptor));
    CHECK(contains(e.description(), "spawn \"true\": descriptor " + std::to_string(fd)));
    CHECK(madeIn(e, "process_test.cc"));
  }
}

TEST_CASE_FIXTURE(IoTest, "an environment that has anything but variables in it is refused") {
  for (const std::string entry : {"", "NAME", "=value"}) {
    ProcessOptions options{"true"};
    options.environment = {"A=", entry};
    const Exception e = thrownBy([&] { spawn(io, options); });
    CHECK((e.kind() == Exception::Kind::FAILED));
    CHECK(contains(e.description(), "spawn \"true\": \"" + entry + "\" in its environment"));
    CHECK(madeIn(e, "process_test.cc"));
  }
}

TEST_CASE_FIXTURE(IoTest, "arguments that are too long for the system are refused") {
  const Exception e = thrownBy([&] { spawn(io, {"true", {std::string(1 << 20, 'x')}}); });
  CHECK((e.kind() == Exception::Kind::FAILED));
  CHECK((e.code() == std::errc::argument_list_too_long));
  CHECK(contains(e.description(), "spawn \"true\""));
}

TEST_CASE_FIXTURE(IoTest, "without descriptors a process is OVERLOADED, and nothing is left of it") {
  { const Pair first = newPair(io); } // with the first stream of a loop libuv opens a descriptor that it keeps
  bool made = false;
  for (std::size_t spare = 0; !made; ++spare) {
    REQUIRE(spare < 50);
    CAPTURE(spare);
    const std::size_t before = openDescriptors();
    std::optional<Exception> e;
    {
      DescriptorLimit limit(spare);
      try {
        auto process = spawn(io, shell("exit 0"));
        made = true;
      } catch (const Exception& thrown) {
        e = thrown;
      }
    }
    scope.poll();
    CHECK(openDescriptors() == before);
    if (!e) continue;
    CHECK((e->kind() == Exception::Kind::OVERLOADED));
    CHECK(contains(e->description(), "spawn \"sh\""));
  }
}

TEST_CASE_FIXTURE(IoTest, "without processes another one is OVERLOADED, and nothing is left of it") {
  processesAreShort = true;
  const Exception e = thrownBy([&] { spawn(io, shell("exit 0")); });
  processesAreShort = false;
  CHECK((e.kind() == Exception::Kind::OVERLOADED));
  CHECK(contains(e.description(), "spawn \"sh\""));
  CHECK(spawn(io, shell("exit 0"))->onExit().wait(scope).isSuccess());
}

// ---------------------------------------------------------------------------------------------- kill

TEST_CASE_FIXTURE(IoTest, "kill sends a signal") {
  auto process = spawn(io, shell("read x"));
  Promise<ExitStatus> end = process->onExit();
  REQUIRE(!end.poll(scope));
  process->kill(SIGUSR1);
  CHECK(std::move(end).wait(scope).signal == SIGUSR1);
}

TEST_CASE_FIXTURE(IoTest, "kill does nothing once the process has ended") {
  auto process = spawn(io, {"true"});
  process->onExit().wait(scope);
  process->kill(SIGKILL);
  process->kill(1000); // nothing at all
}

TEST_CASE_FIXTURE(IoTest, "kill with a number that is no signal is FAILED and names it") {
  auto process = spawn(io, shell("read x"));
  const Exception e = thrownBy([&] { process->kill(1000); });
  CHECK((e.kind() == Exception::Kind::FAILED));
  CHECK(contains(e.description(), "signal 1000"));
  CHECK(madeIn(e, "process_test.cc"));
}

// -------------------------------------------------------------------------------------- when destroyed

TEST_CASE_FIXTURE(IoTest, "a Process that is destroyed kills its child, unless told otherwise, and leaves no zombie") {
  auto process = spawn(io, shell("trap '' TERM INT; echo ready; read x"));
  auto input = process->takeStandardInput();
  auto output = process->takeStandardOutput();
  CHECK(readSome(*output, scope) == "ready\n");
  const int pid = process->pid();
  process.reset();
  CHECK(readAll(*output, scope).empty());
  CHECK(goes(*this, pid));
}

TEST_CASE_FIXTURE(IoTest, "TERMINATE lets the child catch its end") {
  auto process = spawn(io, shell("trap 'echo bye; exit' TERM; echo ready; read x", WhenDestroyed::TERMINATE));
  auto input = process->takeStandardInput();
  auto output = process->takeStandardOutput();
  CHECK(readSome(*output, scope) == "ready\n");
  const int pid = process->pid();
  process.reset();
  input.reset(); // the shell may get the signal just before it begins to read, and would tell afterwards only
  CHECK(readAll(*output, scope) == "bye\n");
  CHECK(goes(*this, pid));
}

TEST_CASE_FIXTURE(IoTest, "LEAVE lets the child run on, and it leaves no zombie either") {
  auto process = spawn(io, shell("read x; echo got $x", WhenDestroyed::LEAVE));
  auto input = process->takeStandardInput();
  auto output = process->takeStandardOutput();
  const int pid = process->pid();
  process.reset();
  scope.poll();
  CHECK(exists(pid));
  input->write("it\n").wait(scope);
  CHECK(readAll(*output, scope) == "got it\n");
  CHECK(goes(*this, pid));
}

TEST_CASE_FIXTURE(IoTest, "the streams that were not taken are closed with the Process") {
  auto process = spawn(io, shell("cat; echo the end > /dev/null", WhenDestroyed::LEAVE));
  const int pid = process->pid();
  process.reset();
  CHECK(goes(*this, pid));
}

TEST_CASE_FIXTURE(IoTest, "a Process whose child has ended, but was not reaped yet, may be destroyed") {
  for (const WhenDestroyed what : {WhenDestroyed::KILL, WhenDestroyed::TERMINATE, WhenDestroyed::LEAVE}) {
    auto process = spawn(io, shell("exit 0", what));
    const int pid = process->pid();
    siginfo_t info{};
    REQUIRE(::waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOWAIT) == 0);
    process.reset();
    CHECK(goes(*this, pid));
  }
}

TEST_CASE("a context that goes reaps the children that it has killed") {
  int pid = 0;
  {
    IoTest test;
    pid = spawn(test.io, shell("trap '' TERM; read x"))->pid();
  }
  CHECK(!exists(pid));
}

TEST_CASE("a context may go while children run that were left, or do not obey") {
  for (const WhenDestroyed what : {WhenDestroyed::LEAVE, WhenDestroyed::TERMINATE}) {
    PlainPipe pipe;
    int pid = 0;
    {
      IoTest test;
      ProcessOptions options = shell("trap '' TERM; echo ready; read x", what);
      options.standardInput = ChildStdio::descriptor(pipe.ends[0]);
      auto process = spawn(test.io, options);
      CHECK(readSome(*process->takeStandardOutput(), test.scope) == "ready\n");
      pid = process->pid();
    }
    CHECK(exists(pid));
    pipe.closeEnd(0);
    pipe.closeEnd(1);
    CHECK(::waitpid(pid, nullptr, 0) == pid);
  }
}

TEST_CASE("a Process that outlives its context has lost its child, as if it had gone before") {
  const NothingLeft nothingLeft;
  uv_loop_t loop;
  REQUIRE(uv_loop_init(&loop) == 0);
  std::unique_ptr<Process> process;
  {
    HostedAsyncIoContext hosted = setupAsyncIo(&loop);
    process = spawn(hosted, {"tail", {"-f", "/dev/null"}});
  }
  CHECK(!exists(process->pid()));
  process->kill(SIGTERM); // does nothing
  process.reset();
  CHECK(uv_run(&loop, UV_RUN_DEFAULT) == 0);
  CHECK(uv_loop_close(&loop) == 0);
}

TEST_CASE("a host's own processes are its own: both are told of theirs, and of no other") {
  const NothingLeft nothingLeft;
  uv_loop_t loop;
  REQUIRE(uv_loop_init(&loop) == 0);
  std::int64_t hostsStatus = -1;
  char name[] = "false";
  char* arguments[] = {name, nullptr};
  uv_process_options_t request{};
  request.file = name;
  request.args = arguments;
  request.exit_cb = [](uv_process_t* process, std::int64_t status, int) {
    *static_cast<std::int64_t*>(process->data) = status;
    uv_close(reinterpret_cast<uv_handle_t*>(process), nullptr);
  };
  uv_process_t hosts;
  hosts.data = &hostsStatus;
  {
    HostedAsyncIoContext hosted = setupAsyncIo(&loop);
    auto process = spawn(hosted, {"true"});
    REQUIRE(uv_spawn(&loop, &hosts, &request) == 0);
    bool succeeded = false;
    Promise<void> end =
        process->onExit().then([&](ExitStatus status) { succeeded = status.isSuccess(); }).eagerlyEvaluate(nullptr);
    CHECK(uv_run(&loop, UV_RUN_DEFAULT) == 0);
    CHECK(succeeded);
    CHECK(hostsStatus == 1);
  }
  CHECK(uv_run(&loop, UV_RUN_DEFAULT) == 0);
  CHECK(uv_loop_close(&loop) == 0);
}

TEST_CASE("a promise that was given to the loop kills its process with the loop") {
  int pid = 0;
  {
    IoTest test;
    auto process = spawn(test.io, shell("read x"));
    pid = process->pid();
    Promise<ExitStatus> end = process->onExit();
    std::move(end).ignoreResult().attach(std::move(process)).detach([](const Exception&) {});
    test.scope.poll();
  }
  CHECK(!exists(pid));
}

TEST_CASE("a process keeps a host's loop alive, but not if it was left running") {
  const NothingLeft nothingLeft;
  uv_loop_t loop;
  REQUIRE(uv_loop_init(&loop) == 0);
  PlainPipe pipe;
  int pid = 0;
  {
    HostedAsyncIoContext hosted = setupAsyncIo(&loop);
    auto process = spawn(hosted, {"true"});
    bool ended = false;
    Promise<void> end = process->onExit().then([&](ExitStatus status) { ended = status.isSuccess(); }).eagerlyEvaluate(nullptr);
    CHECK(uv_run(&loop, UV_RUN_DEFAULT) == 0);
    CHECK(ended);
    pid = spawn(hosted, shell("read x"))->pid(); // killed at once, and reaped
    CHECK(uv_run(&loop, UV_RUN_DEFAULT) == 0);
    CHECK(!exists(pid));
    ProcessOptions options{"cat"};
    options.standardInput = ChildStdio::descriptor(pipe.ends[0]);
    options.whenDestroyed = WhenDestroyed::LEAVE;
    pid = spawn(hosted, options)->pid();
    CHECK(uv_run(&loop, UV_RUN_DEFAULT) == 0);
    CHECK(exists(pid));
  }
  CHECK(uv_run(&loop, UV_RUN_DEFAULT) == 0);
  CHECK(uv_loop_close(&loop) == 0);
  pipe.closeEnd(0);
  pipe.closeEnd(1);
  CHECK(::waitpid(pid, nullptr, 0) == pid);
}

TEST_CASE("processes of several threads do not disturb one another") {
  int right[2] = {0, 0};
  std::thread threads[2];
  for (std::size_t i = 0; i < 2; ++i)
    threads[i] = std::thread([i, &right] {
      AsyncIoContext io = setupAsyncIo();
      for (int n = 0; n < 20; ++n) {
        const ProcessOutput output = runProcess(io, shell("cat; exit " + std::to_string(n)), "text").wait(io.waitScope());
        if (output.status.code == n && output.standardOutput == "text") ++right[i];
      }
    });
  for (std::thread& thread : threads) thread.join();
  CHECK(right[0] == 20);
  CHECK(right[1] == 20);
}

// ---------------------------------------------------------------------------------------- runProcess

TEST_CASE_FIXTURE(IoTest, "a run gives input, output, errors and status") {
  const ProcessOutput output = runProcess(io, shell("cat; echo warning >&2; exit 7"), "some text").wait(scope);
  CHECK(output.standardOutput == "some text");
  CHECK(output.standardError == "warning\n");
  CHECK(output.status.code == 7);
}

TEST_CASE_FIXTURE(IoTest, "a run moves much in all three directions at the same time") {
  const std::string input = numberedBytes(1 << 20);
  const ProcessOutput output = runProcess(io, shell("tee /dev/stderr"), input).wait(scope);
  CHECK(output.status.isSuccess());
  CHECK((output.standardOutput == input));
  CHECK((output.standardError == input));
}

TEST_CASE_FIXTURE(IoTest, "a run of a process that does not read its input succeeds") {
  CHECK(runProcess(io, shell("exit 0"), numberedBytes(1 << 20)).wait(scope).status.isSuccess());
}

TEST_CASE_FIXTURE(IoTest, "a run ends with its process although another one holds its input, and reads nothing") {
  PlainPipe pipe;
  const std::string ours = "/proc/" + std::to_string(::getpid()) + "/fd/" + std::to_string(pipe.ends[0]);
  // What runs on has the input as descriptor 3, and ends with our pipe.
  const std::string script = "exec 3<&0 4<" + ours + "; { read x <&4; } >&- 2>&- & exit 6";
  const ProcessOutput output = runProcess(io, shell(script), numberedBytes(1 << 20)).wait(scope);
  CHECK(output.status.code == 6);
}

TEST_CASE_FIXTURE(IoTest, "a run ends when those have closed the outputs to whom the process has handed them on") {
  const ProcessOutput output = runProcess(io, shell("exec 3<&0; { read x <&3; echo $x; } & exit 2"), "late\n").wait(scope);
  CHECK(output.status.code == 2);
  CHECK(output.standardOutput == "late\n");
}

TEST_CASE_FIXTURE(IoTest, "a run that writes more than the limit fails, naming the program, and is killed") {
  for (const char* script : {"echo $$; exec yes", "echo $$; exec yes >&2"}) {
    const Exception e = failureOf(runProcess(io, shell(script), {}, 1000), scope);
    CHECK((e.kind() == Exception::Kind::FAILED));
    CHECK(contains(e.description(), "running \"sh\""));
    CHECK(contains(e.description(), "1000 bytes"));
  }
  CHECK(runProcess(io, shell("printf 1234"), {}, 4).wait(scope).standardOutput == "1234");
  CHECK((failureOf(runProcess(io, shell("printf 12345"), {}, 4), scope).kind() == Exception::Kind::FAILED));
}

TEST_CASE_FIXTURE(IoTest, "a run of what cannot be run fails with the error of spawn") {
  const Exception e = failureOf(runProcess(io, {"no-such-program"}), scope);
  CHECK((e.code() == std::errc::no_such_file_or_directory));
  CHECK(e.description().starts_with("spawn \"no-such-program\""));
}

TEST_CASE_FIXTURE(IoTest, "a run that is cancelled kills the process") {
  PlainPipe pipe;
  int pid = 0;
  {
    const std::string us = std::to_string(::getpid());
    // The input of a run ends at once, so this waits for another end.
    Promise<ProcessOutput> run =
        runProcess(io, shell("echo $$ > /proc/" + us + "/fd/" + std::to_string(pipe.ends[1]) + "; exec tail -f /dev/null"));
    char text[64];
    const ssize_t size = ::read(pipe.ends[0], text, sizeof text - 1);
    REQUIRE(size > 0);
    text[size] = '\0';
    pid = std::atoi(text);
    REQUIRE(!run.poll(scope));
    CHECK(exists(pid));
  }
  CHECK(goes(*this, pid));
}

TEST_CASE("a run may be cancelled everywhere") {
  cancelSweep([](IoTest& test) -> Promise<void> {
    ProcessOptions options = shell("cat; echo b >&2; exit 1");
    const ProcessOutput output = co_await runProcess(test.io, std::move(options), "a");
    CHECK(output.standardOutput == "a");
    CHECK(output.status.code == 1);
  });
}
