// SPDX-License-Identifier: MIT
// A uv_poll_t on a duplicate of the descriptor: libuv admits one handle for each descriptor, and the stream has it.
//
// Hang-ups and errors are reported whatever one asks for. libuv wants to be asked for something, so it is the rarest
// thing, urgent data. A mere half-close (EPOLLRDHUP) is not asked for.
#include <troth/io/uv_disconnect_watch_detail.h>

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

namespace troth {
inline namespace v0 {
namespace detail {

class DisconnectWatch::Asker final : public Waiter {
public:
  Asker(DisconnectWatch& watch, std::source_location where) noexcept : Waiter(where), watch_(watch) {
    watch_.askers_.add(*this);
  }

  void complete() noexcept {
    unlink();
    result_.value.emplace();
    setReady();
  }
  ResultBase& get(ResultBase*) noexcept override { return result_; }
  void destroy() noexcept override {
    requireThreadToGo();
    if (isLinked()) {
      unlink();
      if (watch_.askers_.isEmpty()) watch_.stop();
    }
    delete this;
  }
  const char* name() const noexcept override { return "whenWriteDisconnected"; }

private:
  DisconnectWatch& watch_; // there while this is linked
  Result<Void> result_;

  ResultBase& result() noexcept override { return result_; }
};

Promise<void> DisconnectWatch::wait(uv_loop_t* loop, int fd, std::source_location where) {
  Promise<void> promise = PromiseAccess::wrap<void>(new Asker(*this, where));
  if (!handle_) start(loop, fd);
  return promise;
}

void DisconnectWatch::start(uv_loop_t* loop, int fd) noexcept {
  try {
    duplicate_ = OwnedDescriptor(fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1));
    if (!duplicate_) return;
    handle_ = UvHandle<uv_poll_t>("uv_poll_init",
                                  [&](uv_poll_t* poll) { return uv_poll_init(loop, poll, duplicate_.get()); });
    handle_.setData(this);
    uvCheck(uv_poll_start(handle_.get(), UV_PRIORITIZED,
                          [](uv_poll_t* poll, int, int) {
                            if (auto* watch = static_cast<DisconnectWatch*>(poll->data)) watch->onEvent();
                          }),
            "uv_poll_start");
  } catch (...) {
    stop();
  }
}

void DisconnectWatch::stop() noexcept {
  handle_.close();
  duplicate_ = OwnedDescriptor();
}

// libuv 1.44 reports a hang-up as if it were what was asked for, and an error as UV_EBADF: only poll() tells for sure.
void DisconnectWatch::onEvent() noexcept {
  pollfd now{duplicate_.get(), 0, 0};
  if (::poll(&now, 1, 0) > 0) return disconnected();
  // Urgent data, which no stream reads. It would be reported again and again.
  char urgent;
  if (::recv(duplicate_.get(), &urgent, 1, MSG_OOB | MSG_DONTWAIT) < 0) stop();
}

void DisconnectWatch::disconnected() noexcept {
  while (!askers_.isEmpty()) static_cast<Asker&>(askers_.front()).complete();
  stop();
}

} // namespace detail
} // namespace v0
} // namespace troth
