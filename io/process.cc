// SPDX-License-Identifier: MIT
// Processes on uv_process_t.
//
// libuv reaps a child, in its handler of SIGCHLD, only while the child's handle is open. So the handle belongs to the
// loop, among its Children, until the child has ended or the loop is destroyed; a Process refers to it.
//
// Pipes are made here and their far ends given to libuv as descriptors. libuv's own UV_CREATE_PIPE makes pairs of
// sockets, which a child cannot open by /dev/stdin.
#include <troth/io/process.h>

#include <troth/io/async_io.h>
#include <troth/io/descriptor.h>
#include <troth/io/uv_stream.h>
#include <troth/runtime/event_loop_local.h>
#include <troth/runtime/join.h>
#include <troth/runtime/uv/uv_event_port.h>
#include <troth/runtime/waiter_detail.h>

#include <fmt/format.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <fcntl.h>
#include <list>
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

namespace troth {
inline namespace v0 {
namespace {

// ------------------------------------------------------------------------------ descriptors of a child

#ifdef CLOSE_RANGE_CLOEXEC
thread_local bool insideSpawn = false;

// Runs in the child, between uv_spawn's fork and exec. (Not if libuv comes to use vfork: the tests of R15 would tell.)
void keepDescriptorsFromChild() noexcept {
  if (insideSpawn) ::close_range(3, ~0U, CLOSE_RANGE_CLOEXEC);
}
#endif

/// uv_spawn(), with a child that gets no descriptor but its standard streams.
int spawnWithoutDescriptors(uv_loop_t* loop, uv_process_t* process, const uv_process_options_t& options) {
#ifdef CLOSE_RANGE_CLOEXEC
  static const int installed = pthread_atfork(nullptr, nullptr, keepDescriptorsFromChild);
  if (installed != 0) return uv_translate_sys_error(installed);
  insideSpawn = true;
  const int status = uv_spawn(loop, process, &options);
  insideSpawn = false;
  return status;
#else
  return uv_spawn(loop, process, &options);
#endif
}

// ---------------------------------------------------------------------------------------------- starting

/// Throws FAILED if `text`, given to the system, would end in its middle.
void requireNoNul(const std::string& text, std::string_view what, std::source_location where) {
  if (text.find('\0') != std::string::npos)
    throw uvException(UV_EINVAL, fmt::format("{}: {:?} has a NUL character in it", what, text), where);
}

/// Throws FAILED if `entry` says nothing about a variable.
void requireVariable(const std::string& entry, std::string_view what, std::source_location where) {
  const std::size_t sign = entry.find('=');
  if (sign == 0 || sign == std::string::npos)
    throw uvException(UV_EINVAL, fmt::format("{}: {:?} in its environment is not NAME=value", what, entry), where);
}

/// Texts as C has them, for the time of a call.
std::vector<char*> asCArray(const std::vector<std::string>& texts, std::string_view what, std::source_location where) {
  std::vector<char*> pointers;
  for (const std::string& text : texts) {
    requireNoNul(text, what, where);
    pointers.push_back(const_cast<char*>(text.c_str())); // nobody writes through it
  }
  pointers.push_back(nullptr);
  return pointers;
}

/// While it lives, 0, 1 and 2 are open, if need be to /dev/null: no other descriptor gets such a number. libuv takes it
/// for a standard stream, which it does not close, and in the child the standard streams would replace it.
class StandardNumbers {
public:
  StandardNumbers(std::string_view what, std::source_location where) {
    for (int number = 0; number <= STDERR_FILENO; ++number) {
      if (fcntl(number, F_GETFD) >= 0 || errno != EBADF) continue;
      OwnedDescriptor& filler = fillers_[static_cast<std::size_t>(number)];
      filler = OwnedDescriptor(open("/dev/null", O_RDWR | O_CLOEXEC));
      if (!filler) throw uvException(uv_translate_sys_error(errno), what, where);
    }
  }

private:
  std::array<OwnedDescriptor, STDERR_FILENO + 1> fillers_;
};

/// One call of spawn().
class Spawning {
public:
  Spawning(uv_loop_t* loop, const ProcessOptions& options, std::source_location where)
      : loop_(loop), options_(options), what_(describe(options)), where_(where), standardNumbers_(what_, where) {}

  /// Says where the child's stream `number` leads. Returns the other end if that is a pipe, else null.
  std::unique_ptr<AsyncIoStream> connect(unsigned number, ChildStdio choice);

  /// Starts the process, with `data` for the callback.
  UvHandle<uv_process_t> run(void* data, uv_exit_cb onExit);

private:
  uv_loop_t* loop_;
  const ProcessOptions& options_;
  std::string what_;
  std::source_location where_;
  StandardNumbers standardNumbers_;
  std::array<uv_stdio_container_t, 3> stdio_{};
  std::array<OwnedDescriptor, 3> childsEnds_;

  static std::string describe(const ProcessOptions& options);
  std::unique_ptr<AsyncIoStream> connectPipe(unsigned number);
};

std::string Spawning::describe(const ProcessOptions& options) {
  const std::string program = fmt::format("spawn {:?}", options.program);
  if (options.workingDirectory.empty()) return program;
  return fmt::format("{} in {:?}", program, options.workingDirectory);
}

std::unique_ptr<AsyncIoStream> Spawning::connect(unsigned number, ChildStdio choice) {
  uv_stdio_container_t& container = stdio_[number];
  container.flags = UV_INHERIT_FD;
  switch (choice.kind()) {
  case ChildStdio::Kind::INHERIT:
    container.data.fd = static_cast<int>(number);
    break;
  case ChildStdio::Kind::NOTHING:
    container.flags = UV_IGNORE;
    break;
  case ChildStdio::Kind::PIPE:
    return connectPipe(number);
  case ChildStdio::Kind::DESCRIPTOR:
    if (fcntl(choice.fd(), F_GETFD) < 0)
      throw uvException(UV_EBADF, fmt::format("{}: descriptor {}", what_, choice.fd()), where_);
    container.data.fd = choice.fd();
  }
  return nullptr;
}

std::unique_ptr<AsyncIoStream> Spawning::connectPipe(unsigned number) {
  std::array<uv_file, 2> ends;
  uvCheck(uv_pipe(ends.data(), 0, 0), what_, where_); // uv_pipe_open makes our end non-blocking
  const bool childReads = number == STDIN_FILENO;
  childsEnds_[number] = OwnedDescriptor(ends[childReads ? 0 : 1]);
  OwnedDescriptor ours(ends[childReads ? 1 : 0]);
  stdio_[number].data.fd = childsEnds_[number].get();

  UvHandle<uv_pipe_t> handle(what_, [this](uv_pipe_t* pipe) { return uv_pipe_init(loop_, pipe, 0); });
  uvCheck(uv_pipe_open(handle.get(), ours.get()), what_, where_);
  ours.release();
  return newUvStream(std::move(handle).toStream());
}

UvHandle<uv_process_t> Spawning::run(void* data, uv_exit_cb onExit) {
  requireNoNul(options_.program, what_, where_);
  requireNoNul(options_.workingDirectory, what_, where_);
  std::vector<char*> arguments = asCArray(options_.arguments, what_, where_);
  arguments.insert(arguments.begin(), const_cast<char*>(options_.program.c_str()));
  std::vector<char*> environment;
  if (options_.environment) {
    environment = asCArray(*options_.environment, what_, where_);
    for (const std::string& entry : *options_.environment) requireVariable(entry, what_, where_);
  }

  uv_process_options_t request{};
  request.exit_cb = onExit;
  request.file = options_.program.c_str();
  request.args = arguments.data();
  if (options_.environment) request.env = environment.data();
  if (!options_.workingDirectory.empty()) request.cwd = options_.workingDirectory.c_str();
  request.stdio_count = static_cast<int>(stdio_.size());
  request.stdio = stdio_.data();

  int status = 0;
  // A handle that uv_spawn has refused is the loop's all the same, and must be closed.
  UvHandle<uv_process_t> handle(what_, [&](uv_process_t* process) {
    status = spawnWithoutDescriptors(loop_, process, request);
    return 0;
  });
  uvCheck(status, what_, where_);
  handle.setData(data);
  return handle;
}

// ---------------------------------------------------------------------------------------------- children

class UvProcess;
struct Child;
using ChildList = std::list<Child>;

/// A child that was not reaped yet; what libuv's callback finds.
struct Child {
  UvProcess* owner; // null once it has gone
  ChildList& home;  // the loop's
  ChildList::iterator place{};
  bool killed = false;
  UvHandle<uv_process_t> handle{};

  void onExit(ExitStatus status) noexcept;
};

/// The children of one loop.
struct Children {
  ChildList list;

  Children() = default;
  Children(const Children&) = delete;
  Children& operator=(const Children&) = delete;
  ~Children();
};

constexpr EventLoopLocal<Children> CHILDREN;

int signalChild(Child& child, int signal) noexcept { return uv_process_kill(child.handle.get(), signal); }

class ExitWaiter final : public detail::ValueWaiter<ExitStatus> {
public:
  using ValueWaiter::ValueWaiter;
  const char* name() const noexcept override { return "Process::onExit"; }
};

class UvProcess final : public Process, public detail::Pooled {
public:
  UvProcess(AsyncIo& io, const ProcessOptions& options, std::source_location where);
  ~UvProcess() override;

  /// The child was reaped.
  void ended(ExitStatus status) noexcept;
  /// Does to the child what was chosen for the end of this, and knows it no more.
  void abandonChild() noexcept;

  int pid() const noexcept override { return pid_; }
  std::unique_ptr<AsyncOutputStream> takeStandardInput(std::source_location where) override {
    return take(standardInput_, "takeStandardInput", where);
  }
  std::unique_ptr<AsyncInputStream> takeStandardOutput(std::source_location where) override {
    return take(standardOutput_, "takeStandardOutput", where);
  }
  std::unique_ptr<AsyncInputStream> takeStandardError(std::source_location where) override {
    return take(standardError_, "takeStandardError", where);
  }
  Promise<ExitStatus> onExit(std::source_location where) override {
    if (!isRunning()) return Promise<ExitStatus>(status_, where);
    auto* waiter = new ExitWaiter(where);
    waiters_.add(*waiter);
    return detail::PromiseAccess::wrap<ExitStatus>(waiter);
  }
  void kill(int signal, std::source_location where) override {
    if (isRunning())
      uvCheck(signalChild(*child_, signal), fmt::format("sending signal {} to process {}", signal, pid_), where);
  }

private:
  WhenDestroyed whenDestroyed_;
  std::unique_ptr<AsyncIoStream> standardInput_;
  std::unique_ptr<AsyncIoStream> standardOutput_;
  std::unique_ptr<AsyncIoStream> standardError_;
  detail::WaiterList waiters_;
  int pid_ = 0;
  ExitStatus status_;
  Child* child_ = nullptr; // null when it has ended

  bool isRunning() const noexcept { return child_ != nullptr; }
  static std::unique_ptr<AsyncIoStream> take(std::unique_ptr<AsyncIoStream>& stream, const char* operation,
                                             std::source_location where);
};

void Child::onExit(ExitStatus status) noexcept {
  if (owner != nullptr) owner->ended(status);
  home.erase(place);
}

Children::~Children() {
  for (Child& child : list) {
    if (child.owner != nullptr) child.owner->abandonChild(); // a Process that outlives its loop
    const int pid = child.handle->pid;
    child.handle.close(); // libuv forgets the child
    while (::waitpid(pid, nullptr, child.killed ? 0 : WNOHANG) < 0 && errno == EINTR) {
    }
  }
}

UvProcess::UvProcess(AsyncIo& io, const ProcessOptions& options, std::source_location where)
    : whenDestroyed_(options.whenDestroyed) {
  Spawning spawning(io.uvEventPort().uvLoop(where), options, where);
  standardInput_ = spawning.connect(0, options.standardInput);
  standardOutput_ = spawning.connect(1, options.standardOutput);
  standardError_ = spawning.connect(2, options.standardError);
  ChildList& home = CHILDREN.get(where).list;
  ChildList child; // of one, that nothing is left of if it cannot be started
  child_ = &child.emplace_back(Child{this, home});
  child_->place = child.begin();
  child_->handle = spawning.run(child_, [](uv_process_t* process, std::int64_t code, int signal) {
    if (auto* ended = static_cast<Child*>(process->data)) ended->onExit({static_cast<int>(code), signal});
  });
  pid_ = child_->handle->pid;
  home.splice(home.end(), child);
}

UvProcess::~UvProcess() {
  if (isRunning()) abandonChild();
  waiters_.disconnectAll("the Process was destroyed while its end was waited for");
}

void UvProcess::abandonChild() noexcept {
  Child& child = *std::exchange(child_, nullptr);
  child.owner = nullptr;
  if (whenDestroyed_ == WhenDestroyed::KILL) child.killed = signalChild(child, SIGKILL) == 0;
  if (whenDestroyed_ == WhenDestroyed::TERMINATE) signalChild(child, SIGTERM);
  if (whenDestroyed_ == WhenDestroyed::LEAVE) uv_unref(child.handle.base());
}

void UvProcess::ended(ExitStatus status) noexcept {
  status_ = status;
  child_ = nullptr;
  while (!waiters_.isEmpty()) static_cast<ExitWaiter&>(waiters_.front()).fulfill(status);
}

std::unique_ptr<AsyncIoStream> UvProcess::take(std::unique_ptr<AsyncIoStream>& stream, const char* operation,
                                               std::source_location where) {
  if (stream == nullptr)
    detail::throwMisuse(fmt::format("{}: it is no ChildStdio::pipe(), or was taken already", operation), where);
  return std::move(stream);
}

// ------------------------------------------------------------------------------------------- runProcess

Promise<void> feed(std::unique_ptr<AsyncOutputStream> stream, std::string input, std::source_location where) {
  try {
    co_await stream->write(std::string_view(input), where);
  } catch (const Exception& e) {
    if (e.kind() != Exception::Kind::DISCONNECTED) throw; // it did not want it all
  }
  stream.reset();
}

Promise<ProcessOutput> collect(Process& process, std::uint64_t limit, std::source_location where) {
  const std::unique_ptr<AsyncInputStream> output = process.takeStandardOutput(where);
  const std::unique_ptr<AsyncInputStream> error = process.takeStandardError(where);
  Promise<std::string> outputText = output->readAllText(limit, where);
  Promise<std::string> errorText = error->readAllText(limit, where);
  auto [out, err, status] =
      co_await joinPromisesFailFast(std::move(outputText), std::move(errorText), process.onExit(where));
  co_return ProcessOutput{status, std::move(out), std::move(err)};
}

Promise<ProcessOutput> talkTo(std::unique_ptr<Process> process, std::string input, std::uint64_t limit,
                              std::source_location where) {
  // Nobody waits for the input: a child of the process may hold its other end, and not read it.
  Promise<ProcessOutput> feeding = feed(process->takeStandardInput(where), std::move(input), where).then([] {
    return Promise<ProcessOutput>(NEVER_DONE);
  });
  return collect(*process, limit, where).exclusiveJoin(std::move(feeding), where).attach(std::move(process));
}

} // namespace

std::string ExitStatus::toString() const {
  if (signal == 0) return fmt::format("exit status {}", code);
#if defined(__GLIBC__) && __GLIBC_PREREQ(2, 32)
  if (const char* name = ::sigabbrev_np(signal)) return fmt::format("killed by SIG{} ({})", name, signal);
#endif
  return fmt::format("killed by signal {}", signal);
}

std::unique_ptr<Process> spawn(AsyncIo& io, const ProcessOptions& options, std::source_location where) {
  return std::make_unique<UvProcess>(io, options, where);
}

Promise<ProcessOutput> runProcess(AsyncIo& io, ProcessOptions options, std::string input, std::uint64_t limit,
                                  std::source_location where) {
  options.standardInput = options.standardOutput = options.standardError = ChildStdio::pipe();
  return evalNow([&] {
    std::unique_ptr<Process> process = spawn(io, options, where);
    return talkTo(std::move(process), std::move(input), limit, where)
        .catch_([program = std::move(options.program)](const Exception& e) -> ProcessOutput {
          throw e.withContext(fmt::format("running {:?}", program));
        });
  });
}

} // namespace v0
} // namespace troth
