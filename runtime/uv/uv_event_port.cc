// SPDX-License-Identifier: MIT
// Both modes of UvEventPort, waking from other threads, and closing a loop without leftovers.
#include <troth/runtime/uv/uv_event_port.h>

#include <troth/runtime/event_loop_observer.h>
#include <troth/runtime/uv/standard_descriptors_detail.h>

#include <fmt/format.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <string>
#include <utility>

#ifdef __unix__
#include <fcntl.h>
#include <unistd.h>
#endif
#ifdef __linux__
#include <sys/eventfd.h>
#endif

namespace troth {
inline namespace v0 {
namespace {

// Turns in one of the host's phases; what is left goes on in its next iteration, after its own I/O.
constexpr std::size_t TURNS_PER_PHASE = 1000;

void ignoreSigpipe() noexcept {
#ifdef SIGPIPE
  struct sigaction current {};
  if (sigaction(SIGPIPE, nullptr, &current) != 0 || (current.sa_flags & SA_SIGINFO) != 0) return;
  if (current.sa_handler == SIG_DFL) std::signal(SIGPIPE, SIG_IGN);
#endif
}

#ifdef __linux__
// Throws if there are no descriptors for two pipes. That is less than a loop needs in all, and more than libuv has
// taken when it makes the one without which it gives up.
bool requireDescriptors() {
  std::array<uv_file, 4> ends{-1, -1, -1, -1};
  int status = uv_pipe(ends.data(), 0, 0);
  if (status == 0) status = uv_pipe(ends.data() + 2, 0, 0);
  for (const uv_file end : ends)
    if (end >= 0) ::close(end);
  uvCheck(status, "making a libuv loop");
  return true;
}
#endif

} // namespace

// libuv aborts when it closes a descriptor that has the number of a standard one (1.44, uv__close in
// src/unix/core.c), and what a program prints would go into it. "a standard descriptor that is closed …" shows when
// this can go.
void detail::holdStandardDescriptors() noexcept {
#ifdef __unix__
  for (const int number : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (fcntl(number, F_GETFD) >= 0 || errno != EBADF) continue;
    // It gets the lowest number that is free, unless another thread was faster.
    const int held = open("/dev/null", number == STDIN_FILENO ? O_WRONLY : O_RDONLY);
    if (held > STDERR_FILENO) ::close(held);
  }
#endif
}

UvEventPort::UvEventPort() : uvLoop_(&own_) {
  detail::holdStandardDescriptors();
#ifdef __linux__
  // With the first loop of a process libuv (1.44, src/unix/signal.c) makes a pipe for good, and calls abort() if it
  // cannot.
  [[maybe_unused]] static const bool firstLoopCanBeMade = requireDescriptors();
#endif
  if (const int status = uv_loop_init(&own_); status < 0) {
#ifdef __linux__
    // libuv (1.44, src/unix/loop.c) forgets its epoll descriptor when a later step fails. Before that step
    // only memory can be short. "a context that cannot be made for want of descriptors … leaves nothing" fails by
    // a descriptor too few when this can go.
    if (status != UV_ENOMEM && uv_backend_fd(&own_) >= 0) ::close(uv_backend_fd(&own_));
#endif
    throw uvException(status, "making a libuv loop");
  }
  try {
    openWake();
  } catch (...) {
    closeOwnLoop();
    throw;
  }
  ignoreSigpipe();
}

UvEventPort::UvEventPort(uv_loop_t* hostLoop) : uvLoop_(hostLoop) {
  if (hostLoop == nullptr) detail::throwMisuse("UvEventPort: the host's loop is null");
  openWake();
  prepare_ = UvHandle<uv_prepare_t>("uv_prepare_init", [&](uv_prepare_t* h) { return uv_prepare_init(uvLoop_, h); });
  check_ = UvHandle<uv_check_t>("uv_check_init", [&](uv_check_t* h) { return uv_check_init(uvLoop_, h); });
  idle_ = UvHandle<uv_idle_t>("uv_idle_init", [&](uv_idle_t* h) { return uv_idle_init(uvLoop_, h); });
  prepare_.setData(this);
  check_.setData(this);
  uv_unref(prepare_.base());
  uv_unref(check_.base());
}

UvEventPort::~UvEventPort() {
  if (served_ != nullptr) detail::fatal("a UvEventPort was destroyed while it serves an EventLoop");
  closeWake();
  if (isDriving()) closeOwnLoop();
}

void UvEventPort::openWake() {
#ifdef __linux__
  // Not uv_async_t: when sender and receiver share a core, libuv 1.44's makes the receiver spin until the
  // sender is scheduled again (uv__async_spin; 68 µs a round trip against 8 with an eventfd).
  wakeFd_ = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  if (wakeFd_ < 0) throw uvException(uv_translate_sys_error(errno), "making an eventfd for wake-ups");
  try {
    wake_ = UvHandle<uv_poll_t>("uv_poll_init", [&](uv_poll_t* h) { return uv_poll_init(uvLoop_, h, wakeFd_); });
    wake_.setData(this);
    uvCheck(uv_poll_start(wake_.get(), UV_READABLE,
                          [](uv_poll_t* handle, int, int) {
                            if (auto* port = static_cast<UvEventPort*>(handle->data)) {
                              std::uint64_t count;
                              while (read(port->wakeFd_, &count, sizeof count) < 0 && errno == EINTR) {
                              }
                            }
                          }),
            "uv_poll_start");
  } catch (...) {
    closeWake();
    throw;
  }
#else
  wake_ = UvHandle<uv_async_t>("uv_async_init",
                               [&](uv_async_t* h) { return uv_async_init(uvLoop_, h, [](uv_async_t*) {}); });
#endif
  uv_unref(wake_.base());
}

void UvEventPort::closeWake() noexcept {
  wake_.close();
#ifdef __linux__
  if (wakeFd_ >= 0) ::close(std::exchange(wakeFd_, -1)); // uv_close has taken it out of epoll already
#endif
}

void UvEventPort::wake() const {
#ifdef __linux__
  const std::uint64_t one = 1;
  // EAGAIN means that the counter is full: a wake-up is pending then.
  while (write(wakeFd_, &one, sizeof one) < 0 && errno == EINTR) {
  }
#else
  uv_async_send(wake_.get());
#endif
}

// ------------------------------------------------------------------------------------------- driving

bool UvEventPort::wait() {
  if (!isDriving())
    detail::throwMisuse("wait() on a loop that is driven by its host: only the host may block, in uv_run()");
  if (exhausted_ && uv_loop_alive(uvLoop_) == 0) return false;
  waiting_ = true;
  exhausted_ = uv_run(uvLoop_, UV_RUN_ONCE) == 0;
  waiting_ = false;
  ++batch_;
  return true;
}

void UvEventPort::poll() {
  if (!isDriving()) detail::throwMisuse("poll() on a loop that is driven by its host");
  // uv_run does not look at anything, wake-ups among it, if nothing keeps the loop alive.
  const bool alive = uv_loop_alive(uvLoop_) != 0;
  if (!alive) uv_ref(wake_.base());
  uv_run(uvLoop_, UV_RUN_NOWAIT);
  if (!alive) uv_unref(wake_.base());
  exhausted_ = uv_loop_alive(uvLoop_) == 0;
  ++batch_;
}

std::optional<std::chrono::milliseconds> UvEventPort::nextTimeout() const noexcept {
  if (uv_loop_alive(uvLoop_) == 0) return std::nullopt; // libuv calls that 0: uv_run would return
  uv_update_time(uvLoop_);
  const int timeout = uv_backend_timeout(uvLoop_);
  if (timeout < 0) return std::nullopt;
  return std::chrono::milliseconds(timeout);
}

// Each handle is its owner's to close; here only close callbacks and detached requests (a write in
// flight, a name being resolved) are waited for.
void UvEventPort::closeOwnLoop() noexcept {
  std::string open;
  uv_walk(
      uvLoop_,
      [](uv_handle_t* handle, void* names) {
        if (uv_is_closing(handle) != 0) return;
        auto& list = *static_cast<std::string*>(names);
        if (!list.empty()) list += ", ";
        list += uv_handle_type_name(handle->type);
      },
      &open);
  if (!open.empty())
    detail::fatal(fmt::format(
        "a libuv loop was closed while handles are still open on it: {}; destroy their owners first", open));
  while (uv_loop_close(uvLoop_) == UV_EBUSY) uv_run(uvLoop_, UV_RUN_ONCE);
}

// -------------------------------------------------------------------------------------------- driven

void UvEventPort::throwUnusable(std::source_location where) const {
  const uv_thread_t here = uv_thread_self();
  if (uv_thread_equal(&here, &owner_) == 0)
    detail::throwMisuse("something was begun on a libuv loop by another thread than the one that runs it", where);
  detail::throwMisuse(
      "the host has closed all handles on its libuv loop, troth's among them: nothing can happen on it any "
      "more; destroy troth's context before the host closes its loop",
      where);
}

void UvEventPort::serve(EventLoop* loop) noexcept {
  served_ = loop;
  if (isClosedByHost()) return;
  if (loop != nullptr) {
    uv_prepare_start(prepare_.get(), [](uv_prepare_t* handle) {
      auto* port = static_cast<UvEventPort*>(handle->data);
      // libuv is about to compute how long to block, from a clock that these turns have made old.
      if (port == nullptr) return;
      if (port->runTurns()) uv_update_time(port->uvLoop_);
      port->noteWait(true);
    });
    uv_check_start(check_.get(), [](uv_check_t* handle) {
      auto* port = static_cast<UvEventPort*>(handle->data);
      if (port == nullptr) return;
      port->noteWait(false);
      // The host's loop does not block while promises wait for that very moment: this was a look, and found nothing.
      if (!port->runTurns() && !port->served_->isRunning()) port->served_->wakeSleepers();
    });
    if (loop->isRunnable()) setRunnable(true);
  } else {
    uv_prepare_stop(prepare_.get());
    uv_check_stop(check_.get());
    uv_idle_stop(idle_.get());
  }
}

// Returns whether any ran.
bool UvEventPort::runTurns() noexcept {
  ++batch_;
  // A continuation that runs the host's loop itself is not nested into.
  if (!served_->isRunnable() || served_->isRunning()) return false;
  return served_->run(TURNS_PER_PHASE) != 0;
}

void UvEventPort::noteWait(bool begins) noexcept {
  EventLoopObserver* observer = served_->observer();
  if (observer == nullptr || begins == observedWait_) return;
  observedWait_ = begins;
  if (begins)
    observer->onWaitStart();
  else
    observer->onWaitEnd();
}

void UvEventPort::setRunnable(bool runnable) noexcept {
  if (isDriving()) {
    // uv_run(UV_RUN_ONCE) runs timers and then blocks all the same, until libuv 1.45: it must not if one has armed an
    // event. (Outside of uv_run, uv_stop would spoil the next one.)
    if (runnable && waiting_) uv_stop(uvLoop_);
    return;
  }
  if (served_ == nullptr) return;
  if (isClosedByHost()) [[unlikely]]
    return tellOfClosing();
  if (runnable)
    uv_idle_start(idle_.get(), [](uv_idle_t*) {});
  else
    uv_idle_stop(idle_.get());
}

// Nobody is there to throw at: the event that was queued will not run.
void UvEventPort::tellOfClosing() noexcept {
  if (std::exchange(toldOfClosing_, true)) return;
  std::fputs("troth: the host has closed all handles on its libuv loop, troth's among them, while promises were still "
             "pending: they will not go on. Destroy troth's context before the host closes its loop.\n",
             stderr);
}

} // namespace v0
} // namespace troth
