// SPDX-License-Identifier: MIT
// Finds out what a descriptor is, and makes the stream of it that fits.
#include <troth/io/descriptor.h>

#include <troth/io/async_io.h>
#include <troth/io/uv_descriptor_detail.h>
#include <troth/io/uv_stream.h>
#include <troth/runtime/defer.h>
#include <troth/runtime/uv/standard_descriptors_detail.h>
#include <troth/runtime/uv/uv_event_port.h>

#include <fmt/format.h>

#include <cerrno>

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

namespace troth {
inline namespace v0 {

void OwnedDescriptor::close() noexcept {
  if (descriptor_ >= 0) ::close(release());
}

namespace detail {
namespace {

int systemError() noexcept { return uv_translate_sys_error(errno); }

int socketOption(const DescriptorRequest& request, int option) {
  int value = 0;
  socklen_t size = sizeof value;
  if (getsockopt(request.descriptor, SOL_SOCKET, option, &value, &size) != 0) request.fail(systemError());
  return value;
}

DescriptorKind kindOfSocket(const DescriptorRequest& request) {
  if (socketOption(request, SO_TYPE) != SOCK_STREAM) request.refuse("is a socket for messages, not for a stream");
  if (socketOption(request, SO_ACCEPTCONN) != 0) request.refuse("is a socket that listens, not a connection");
  sockaddr_storage name{};
  socklen_t size = sizeof name;
  if (getsockname(request.descriptor, reinterpret_cast<sockaddr*>(&name), &size) != 0) request.fail(systemError());
  return name.ss_family == AF_INET || name.ss_family == AF_INET6 ? DescriptorKind::TCP : DescriptorKind::SOCKET;
}

// The side of a pseudo-terminal that a terminal emulator has is a terminal to isatty(), but it has no mode, and cannot
// be opened anew.
bool isTerminal(int descriptor) noexcept {
#ifdef TIOCGPTN
  int number;
  if (ioctl(descriptor, TIOCGPTN, &number) == 0) return false;
#endif
  return isatty(descriptor) != 0;
}

// epoll refuses what is always ready.
bool canBeWaitedFor(uv_loop_t* loop, const DescriptorRequest& request) {
  // uv_poll_init makes it non-blocking, for everybody who has it.
  const int flags = fcntl(request.descriptor, F_GETFL);
  TROTH_DEFER { fcntl(request.descriptor, F_SETFL, flags); };
  try {
    const UvHandle<uv_poll_t> probe(request.subject(),
                                    [&](uv_poll_t* poll) { return uv_poll_init(loop, poll, request.descriptor); });
    return true;
  } catch (const Exception& e) {
    if (e.code() == uvErrorCode(UV_EPERM)) return false;
    throw;
  }
}

// What may be done with the descriptor: O_RDONLY, O_WRONLY or O_RDWR.
int accessMode(const DescriptorRequest& request) {
  const int flags = fcntl(request.descriptor, F_GETFL);
  if (flags < 0) request.fail(systemError());
  return flags & O_ACCMODE;
}

// A pipe that is opened anew is non-blocking for nobody else. -1 if the system does not allow it.
int openPipeAnew(const DescriptorRequest& request) {
  const std::string path = fmt::format("/proc/self/fd/{}", request.descriptor);
  return open(path.c_str(), accessMode(request) | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
}

OwnedDescriptor claimed(const DescriptorRequest& request, DescriptorKind kind) {
  if (request.ownership == Ownership::TAKE && request.descriptor > STDERR_FILENO)
    return OwnedDescriptor(request.descriptor);
  if (request.ownership == Ownership::BORROW && kind == DescriptorKind::PIPE)
    if (OwnedDescriptor pipe(openPipeAnew(request)); pipe.get() > STDERR_FILENO) return pipe;
  return duplicateDescriptor(request);
}

// The stream is made first, so that nothing can fail once libuv has the descriptor.
template <typename Handle, typename Init, typename Open>
std::unique_ptr<AsyncIoStream> newHandleStream(const DescriptorRequest& request, DescriptorKind kind, Init&& init,
                                               Open&& open) {
  DescriptorClaim claim(request, kind);
  UvHandle<Handle> handle(request.subject(), init);
  Handle* opened = handle.get();
  std::unique_ptr<AsyncIoStream> stream = newUvStream(std::move(handle).toStream());
  if (const int status = open(opened, claim.get()); status < 0) request.fail(status);
  claim.settle();
  return stream;
}

// A stream of anything but a FILE or a TERMINAL.
std::unique_ptr<AsyncIoStream> newPolledStream(uv_loop_t* loop, const DescriptorRequest& request, DescriptorKind kind) {
  if (kind == DescriptorKind::TCP)
    return newHandleStream<uv_tcp_t>(
        request, kind, [loop](uv_tcp_t* tcp) { return uv_tcp_init(loop, tcp); }, uv_tcp_open);
  return newHandleStream<uv_pipe_t>(
      request, kind, [loop](uv_pipe_t* pipe) { return uv_pipe_init(loop, pipe, 0); }, uv_pipe_open);
}

std::unique_ptr<AsyncInputStream> newInputStream(uv_loop_t* loop, const DescriptorRequest& request) {
  if (accessMode(request) == O_WRONLY) request.refuse("is open for writing only");
  const DescriptorKind kind = kindOfDescriptor(loop, request);
  if (kind == DescriptorKind::TERMINAL) return openTty(loop, request);
  if (kind != DescriptorKind::FILE) return newPolledStream(loop, request, kind);
  DescriptorClaim claim(request, kind);
  return newFileInput(loop, claim);
}

std::unique_ptr<AsyncOutputStream> newOutputStream(uv_loop_t* loop, const DescriptorRequest& request) {
  if (accessMode(request) == O_RDONLY) request.refuse("is open for reading only");
  const DescriptorKind kind = kindOfDescriptor(loop, request);
  if (kind == DescriptorKind::TERMINAL) return openTty(loop, request);
  if (kind != DescriptorKind::FILE) return newPolledStream(loop, request, kind);
  DescriptorClaim claim(request, kind);
  return newFileOutput(loop, claim);
}

} // namespace

std::string DescriptorRequest::subject() const { return fmt::format("{}: descriptor {}", function, descriptor); }

void DescriptorRequest::refuse(std::string_view why) const {
  throw Exception(Exception::Kind::FAILED, fmt::format("{} {}", subject(), why), {}, where);
}

void DescriptorRequest::fail(int status) const { throw uvException(status, subject(), where); }

DescriptorKind kindOfDescriptor(uv_loop_t* loop, const DescriptorRequest& request) {
  struct stat status;
  if (fstat(request.descriptor, &status) != 0) request.fail(systemError());
  if (S_ISDIR(status.st_mode)) request.refuse("is a directory, which has no bytes to stream");
  if (S_ISSOCK(status.st_mode)) return kindOfSocket(request);
  if (S_ISFIFO(status.st_mode)) return DescriptorKind::PIPE;
  if (S_ISREG(status.st_mode) || S_ISBLK(status.st_mode)) return DescriptorKind::FILE;
  if (isTerminal(request.descriptor)) return DescriptorKind::TERMINAL;
  return canBeWaitedFor(loop, request) ? DescriptorKind::DEVICE : DescriptorKind::FILE;
}

OwnedDescriptor duplicateDescriptor(const DescriptorRequest& request) {
  const int duplicate = fcntl(request.descriptor, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
  if (duplicate < 0) request.fail(systemError());
  return OwnedDescriptor(duplicate);
}

void closeTaken(const DescriptorRequest& request) noexcept {
  OwnedDescriptor(request.descriptor).close();
  holdStandardDescriptors();
}

SocketPair newSocketPair(std::string_view function, std::source_location where) {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) != 0)
    throw uvException(systemError(), function, where);
  return {OwnedDescriptor(ends[0]), OwnedDescriptor(ends[1])};
}

DescriptorClaim::DescriptorClaim(const DescriptorRequest& request, DescriptorKind kind)
    : request_(request), ours_(claimed(request, kind)) {}

DescriptorClaim::~DescriptorClaim() {
  if (ours_.get() == request_.descriptor) ours_.release();
}

int DescriptorClaim::settle() noexcept {
  if (ours_.get() == request_.descriptor)
    fcntl(ours_.get(), F_SETFD, FD_CLOEXEC);
  else if (request_.ownership == Ownership::TAKE)
    closeTaken(request_);
  return ours_.release();
}

std::unique_ptr<AsyncIoStream> newIoStream(uv_loop_t* loop, const DescriptorRequest& request) {
  const DescriptorKind kind = kindOfDescriptor(loop, request);
  if (kind == DescriptorKind::PIPE) request.refuse("is a pipe, which goes one way only");
  if (kind == DescriptorKind::FILE) request.refuse("is a file, which has but one position for both directions");
  if (accessMode(request) != O_RDWR) request.refuse("is open in one direction only");
  if (kind == DescriptorKind::TERMINAL) return openTty(loop, request);
  return newPolledStream(loop, request, kind);
}

} // namespace detail

namespace {

uv_loop_t* loopOf(AsyncIo& io, std::source_location where) { return io.uvEventPort().uvLoop(where); }

} // namespace

std::unique_ptr<AsyncInputStream> newInputStream(AsyncIo& io, int descriptor, Ownership ownership,
                                                 std::source_location where) {
  return detail::newInputStream(loopOf(io, where), {"newInputStream", descriptor, ownership, where});
}

std::unique_ptr<AsyncOutputStream> newOutputStream(AsyncIo& io, int descriptor, Ownership ownership,
                                                   std::source_location where) {
  return detail::newOutputStream(loopOf(io, where), {"newOutputStream", descriptor, ownership, where});
}

std::unique_ptr<AsyncIoStream> newIoStream(AsyncIo& io, int descriptor, Ownership ownership,
                                           std::source_location where) {
  return detail::newIoStream(loopOf(io, where), {"newIoStream", descriptor, ownership, where});
}

std::unique_ptr<AsyncInputStream> newInputStream(AsyncIo& io, OwnedDescriptor descriptor, std::source_location where) {
  return detail::handOver(std::move(descriptor),
                          [&](int taken) { return newInputStream(io, taken, Ownership::TAKE, where); });
}

std::unique_ptr<AsyncOutputStream> newOutputStream(AsyncIo& io, OwnedDescriptor descriptor,
                                                   std::source_location where) {
  return detail::handOver(std::move(descriptor),
                          [&](int taken) { return newOutputStream(io, taken, Ownership::TAKE, where); });
}

std::unique_ptr<AsyncIoStream> newIoStream(AsyncIo& io, OwnedDescriptor descriptor, std::source_location where) {
  return detail::handOver(std::move(descriptor),
                          [&](int taken) { return newIoStream(io, taken, Ownership::TAKE, where); });
}

OsPipe newOsPipe(AsyncIo& io, std::source_location where) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) throw uvException(detail::systemError(), "newOsPipe", where);
  OwnedDescriptor out(ends[0]);
  OwnedDescriptor in(ends[1]);
  OsPipe pipe;
  pipe.input = newInputStream(io, std::move(out), where);
  pipe.output = newOutputStream(io, std::move(in), where);
  return pipe;
}

OsSocketpair newOsSocketpair(AsyncIo& io, std::source_location where) {
  detail::SocketPair sockets = detail::newSocketPair("newOsSocketpair", where);
  OsSocketpair pair;
  pair.left = newIoStream(io, std::move(sockets.left), where);
  pair.right = newIoStream(io, std::move(sockets.right), where);
  return pair;
}

std::unique_ptr<AsyncInputStream> standardInput(AsyncIo& io, std::source_location where) {
  return detail::newInputStream(loopOf(io, where), {"standardInput", STDIN_FILENO, Ownership::BORROW, where});
}

std::unique_ptr<AsyncOutputStream> standardOutput(AsyncIo& io, std::source_location where) {
  return detail::newOutputStream(loopOf(io, where), {"standardOutput", STDOUT_FILENO, Ownership::BORROW, where});
}

std::unique_ptr<AsyncOutputStream> standardError(AsyncIo& io, std::source_location where) {
  return detail::newOutputStream(loopOf(io, where), {"standardError", STDERR_FILENO, Ownership::BORROW, where});
}

} // namespace v0
} // namespace troth
