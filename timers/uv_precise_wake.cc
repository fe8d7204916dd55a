// SPDX-License-Identifier: MIT
// The timerfd of a libuv loop.
//
// One system call plans a wake-up. Setting a timerfd also takes back that it is readable; it has to be read only when
// nothing else is planned.
#include <troth/timers/uv_precise_wake_detail.h>

#ifdef __linux__
#include <sys/timerfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#endif

namespace troth {
inline namespace v0 {
namespace detail {

#ifdef __linux__

namespace {

// The delay is relative, so that the clock of the descriptor and ours need not agree on what time it is.
itimerspec onceAfter(Duration delay) noexcept {
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(delay);
  itimerspec spec{};
  spec.it_value.tv_sec = static_cast<time_t>(seconds.count());
  spec.it_value.tv_nsec = static_cast<long>((delay - seconds).count());
  return spec;
}

// A timerfd stays readable until it is read, or set anew.
void takeExpiration(int fd) noexcept {
  std::uint64_t count;
  while (read(fd, &count, sizeof count) < 0 && errno == EINTR) {
  }
}

} // namespace

bool PreciseWake::plan(Duration delay) noexcept {
  planned_ = false;
  if (fd_ < 0 && !open()) return false;
  const itimerspec spec = onceAfter(delay);
  planned_ = timerfd_settime(fd_, 0, &spec, nullptr) == 0;
  return planned_;
}

bool PreciseWake::open() noexcept {
  fd_ = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
  if (fd_ < 0) return false;
  try {
    poll_ = UvHandle<uv_poll_t>("uv_poll_init", [&](uv_poll_t* handle) { return uv_poll_init(loop_, handle, fd_); });
    poll_.setData(this);
    uv_unref(poll_.base());
    uvCheck(uv_poll_start(poll_.get(), UV_READABLE,
                          [](uv_poll_t* handle, int status, int) {
                            if (auto* self = static_cast<PreciseWake*>(handle->data)) self->onReadable(status);
                          }),
            "uv_poll_start");
    return true;
  } catch (...) {
    close(); // milliseconds, then: a delay that is coarser is better than none
    return false;
  }
}

void PreciseWake::close() noexcept {
  planned_ = false;
  poll_.close();
  if (fd_ >= 0) ::close(std::exchange(fd_, -1)); // uv_close has taken it out of epoll already
}

void PreciseWake::onReadable(int status) noexcept {
  if (status < 0) close(); // libuv polls it no more; whoever waits is woken, and may plan on a new descriptor
  planned_ = false;
  wake_(context_);
  if (fd_ >= 0 && !planned_) takeExpiration(fd_);
}

#else

bool PreciseWake::plan(Duration) noexcept { return false; }
void PreciseWake::close() noexcept {}

#endif

} // namespace detail
} // namespace v0
} // namespace troth
