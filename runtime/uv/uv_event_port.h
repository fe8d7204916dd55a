// SPDX-License-Identifier: MIT
// UvEventPort: the event port on a libuv loop, its own or a host's.
#pragma once

#include <troth/runtime/event_loop.h>
#include <troth/runtime/uv/uv_handle.h>

#include <uv.h>

#include <chrono>
#include <cstdint>
#include <optional>

namespace troth {
inline namespace v0 {

/// Drives an EventLoop from libuv.
///
/// **Driving** (troth owns the thread): the port has a `uv_loop_t` of its own; `Promise::wait` runs turns
/// until the queue is empty and then `uv_run(UV_RUN_ONCE)`. SIGPIPE is ignored if it has its default
/// action, because libuv writes with `write()`.
///
/// **Driven** (a host calls `uv_run` on its own loop): turns run in a `uv_check_t`, after the I/O
/// callbacks, and in a `uv_prepare_t`, after timers and before libuv blocks. While the queue is not empty a
/// `uv_idle_t` keeps libuv from blocking and the host's loop alive; all other handles of the port are
/// unreferenced. The host's `data`, handles and signal dispositions are not touched, and `uv_run`,
/// `uv_stop` and `uv_loop_close` are not called: a host that writes to sockets through troth ignores
/// SIGPIPE itself (node.js and Python do).
///
/// A host that closes all handles on its loop (uv_walk, uv_close) while this lives has ended it: no turn runs any more,
/// which is said on standard error when the next event is queued, and whatever would begin something on the loop throws
/// FAILED. Destroying what is left is safe then as ever. (`uv_loop_close` alone is refused by libuv with UV_EBUSY.)
///
/// In both modes libuv's callbacks only arm events; turns never run inside them nor in setRunnable().
///
/// Destruction: in driving mode closes the loop, and aborts, naming them, if handles of others are still
/// open on it. In driven mode the handles are closed; libuv lets go of them when the host runs its loop.
class UvEventPort final : public EventPort {
public:
  /// Driving, with a loop of its own.
  UvEventPort();
  /// Driven by the host of `hostLoop`, which must outlive this and be run once more after it. Connect the
  /// event loop with serve().
  explicit UvEventPort(uv_loop_t* hostLoop);
  ~UvEventPort() override;

  UvEventPort(const UvEventPort&) = delete;
  UvEventPort& operator=(const UvEventPort&) = delete;

  /// Driven mode: from now on the turns of `loop`, which was made on this port, run inside the host's loop.
  /// Null disconnects; `loop` must be disconnected before it is destroyed.
  void serve(EventLoop* loop) noexcept;

  /// The loop, for adapters that begin something on it. Throws FAILED on another thread than the one on which this was
  /// made, and if the host has closed troth's handles there.
  uv_loop_t* uvLoop(std::source_location where = std::source_location::current()) const {
    const uv_thread_t here = uv_thread_self();
    if (uv_thread_equal(&here, &owner_) == 0 || isClosedByHost()) [[unlikely]]
      throwUnusable(where);
    return uvLoop_;
  }

  /// Driving mode in a program that polls by itself (AsyncIoContext::pollableFd() says how): the descriptor to poll, or
  /// -1 where libuv has none (Windows).
  int pollableFd() const noexcept { return uv_backend_fd(uvLoop_); }
  /// How long it may poll, unless an event is queued; nothing if no time is set. Looks at the clock.
  std::optional<std::chrono::milliseconds> nextTimeout() const noexcept;

  /// Changes whenever the outside world was looked at: what was read before, such as the time, is old.
  std::uint64_t batch() const noexcept { return batch_; }

  bool wait() override;
  void poll() override;
  void wake() const override;
  void setRunnable(bool runnable) noexcept override;

private:
  uv_thread_t owner_ = uv_thread_self();
  uv_loop_t own_;
  uv_loop_t* uvLoop_;
  EventLoop* served_ = nullptr;
  std::uint64_t batch_ = 0;
  bool observedWait_ = false; // what the loop's observer was told last
  bool waiting_ = false;      // inside of wait()
  bool toldOfClosing_ = false;
  bool exhausted_ = false; // the last uv_run said that nothing referenced is left

#ifdef __linux__
  int wakeFd_ = -1;
  UvHandle<uv_poll_t> wake_;
#else
  UvHandle<uv_async_t> wake_;
#endif
  UvHandle<uv_prepare_t> prepare_;
  UvHandle<uv_check_t> check_;
  UvHandle<uv_idle_t> idle_;

  bool isDriving() const noexcept { return uvLoop_ == &own_; }
  bool isClosedByHost() const noexcept { return prepare_ && uv_is_closing(prepare_.base()) != 0; }
  [[noreturn]] void throwUnusable(std::source_location where) const;
  void openWake();
  void closeWake() noexcept;
  void closeOwnLoop() noexcept;
  bool runTurns() noexcept;
  void noteWait(bool begins) noexcept;
  void tellOfClosing() noexcept;
};

} // namespace v0
} // namespace troth
