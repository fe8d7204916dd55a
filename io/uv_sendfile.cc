// SPDX-License-Identifier: MIT
// What a file is sent to a socket with: sendfile(2), without its signal, and waiting for room.
#include <troth/io/uv_sendfile_detail.h>

#include <troth/io/uv_file_job_detail.h>

#ifdef TROTH_HAS_SENDFILE

#include <cerrno>
#include <csignal>
#include <ctime>

#include <fcntl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#endif

namespace troth {
inline namespace v0 {
namespace detail {

bool SentPart::isDisconnection() const noexcept {
  return status == UV_EPIPE || status == UV_ECONNRESET || status == UV_ECONNABORTED || status == UV_ETIMEDOUT ||
         status == UV_EHOSTUNREACH || status == UV_ENETUNREACH;
}

void RoomWatch::wait(uv_loop_t* loop, int socket, void (*wake)(void*), void* object) {
  if (!handle_) {
    handle_ = UvHandle<uv_poll_t>("uv_poll_init", [&](uv_poll_t* poll) { return uv_poll_init(loop, poll, socket); });
    handle_.setData(this);
    wake_ = wake;
    object_ = object;
  }
  // An error comes as a status: sending tells what it is.
  uvCheck(pollHandle(handle_.get(), UV_WRITABLE,
                     [](uv_poll_t* poll, int, int) {
                       auto* watch = static_cast<RoomWatch*>(poll->data);
                       if (watch == nullptr) return;
                       uv_poll_stop(poll);
                       watch->wake_(watch->object_);
                     }),
          "uv_poll_start");
}

#ifdef TROTH_HAS_SENDFILE

namespace {

/// While it lives, this thread gets no SIGPIPE: sendfile(2) knows no MSG_NOSIGNAL.
class SigpipeBlocked {
public:
  SigpipeBlocked() noexcept {
    sigemptyset(&sigpipe_);
    sigaddset(&sigpipe_, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &sigpipe_, &before_);
  }
  SigpipeBlocked(const SigpipeBlocked&) = delete;
  SigpipeBlocked& operator=(const SigpipeBlocked&) = delete;
  ~SigpipeBlocked() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

  /// Takes the one that waits since a call has failed with EPIPE.
  void swallow() const noexcept {
    if (sigismember(&before_, SIGPIPE) == 1) return; // it stays blocked
    const timespec atOnce{};
    while (sigtimedwait(&sigpipe_, nullptr, &atOnce) < 0 && errno == EINTR) {
    }
  }

private:
  sigset_t sigpipe_;
  sigset_t before_;
};

} // namespace

SharedDescriptor duplicateForSendfile(int fd) {
  struct stat info {};
  if (fstat(fd, &info) != 0 || !S_ISSOCK(info.st_mode)) return nullptr;
  const int flags = fcntl(fd, F_GETFL);
  if (flags < 0 || (flags & O_NONBLOCK) == 0) return nullptr;
  OwnedDescriptor duplicate(fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1));
  if (!duplicate) return nullptr;
  return std::make_shared<const OwnedDescriptor>(std::move(duplicate));
}

SentPart sendPart(int socket, const Opened& file, std::uint64_t offset, std::size_t size) noexcept {
  const SigpipeBlocked blocked;
  SentPart part;
  while (part.size < size && part.status == 0) {
    auto from = static_cast<off_t>(offset + part.size);
    const ssize_t count = ::sendfile(socket, file.fd(), &from, size - part.size);
    if (count > 0)
      part.size += static_cast<std::size_t>(count);
    else if (count == 0)
      part.status = UV_EOF;
    else if (errno != EINTR)
      part.status = uv_translate_sys_error(errno);
  }
  if (part.status == UV_EPIPE) blocked.swallow();
  return part;
}

#else

SharedDescriptor duplicateForSendfile(int) { return nullptr; }

SentPart sendPart(int, const Opened&, std::uint64_t, std::size_t) noexcept { return {0, UV_ENOSYS}; }

#endif

} // namespace detail
} // namespace v0
} // namespace troth
