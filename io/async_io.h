// SPDX-License-Identifier: MIT
// setupAsyncIo: everything a thread needs to do asynchronous I/O, on a loop of its own or a host's.
#pragma once

#include <troth/runtime/event_loop.h>
#include <troth/runtime/promise.h>
#include <troth/timers/clock.h>

#include <chrono>
#include <concepts>
#include <cstddef>
#include <memory>
#include <optional>
#include <source_location>
#include <span>

struct uv_loop_s; // libuv's uv_loop_t

namespace troth {
inline namespace v0 {

class Timer;
class UvEventPort;

/// A thread's asynchronous I/O: its event loop on libuv, its timer, its signals. `newNetwork(AsyncIo&)`
/// (troth/net/network.h) adds the network.
///
/// Declare it first: everything that is made with it must be destroyed before it (an EventLoop with
/// promises still waiting on it aborts).
class AsyncIo {
public:
  Timer& timer() noexcept;

  /// Allows the timer to be late by as much as `slack`, so that deadlines that lie close together share one wake-up of
  /// the loop; none is early. Zero in the beginning. A server with many connections, each with a time-out of seconds,
  /// wakes up a few times a second with a slack of 100 ms, not once for each. It holds for pending deadlines, too.
  /// Throws FAILED if it is negative.
  void setTimerSlack(Duration slack, std::source_location where = std::source_location::current());

  /// Waits for one of some signals: `onSignal(SIGINT, SIGTERM)`.
  ///
  /// Completes:    when the process gets one of them; never inside this call.
  /// Result:       the signal's number.
  /// Errors:       FAILED for a signal that cannot be caught.
  /// Cancellation: clean. When no promise waits for a signal any more it has its default action (SIGINT ends the
  ///               process), whatever it had before: so libuv leaves it. To catch a second one, ask again.
  template <std::same_as<int>... More>
  Promise<int> onSignal(int signal, More... more) {
    // Not a list in braces: g++ 12 refuses one inside of a co_await ("array used as initializer").
    const int signals[] = {signal, more...};
    return onSignals(signals);
  }

  EventLoop& eventLoop() noexcept;
  /// The port, for adapters to libuv. `uvEventPort().uvLoop()` is the loop.
  UvEventPort& uvEventPort() noexcept;

protected:
  struct Parts;
  explicit AsyncIo(std::unique_ptr<Parts> parts) noexcept;
  AsyncIo(AsyncIo&&) noexcept;
  AsyncIo& operator=(AsyncIo&&) = delete;
  ~AsyncIo();

  std::unique_ptr<Parts> parts_;

  Promise<int> onSignals(std::span<const int> signals);

  friend class AsyncIoContext setupAsyncIo(std::source_location where);
  friend class HostedAsyncIoContext setupAsyncIo(uv_loop_s* hostLoop, std::source_location where);
};

/// For a program of troth's own: `waitScope()` lets `main` block on promises.
class AsyncIoContext : public AsyncIo {
public:
  WaitScope& waitScope() noexcept;

  /// For a program that polls for itself, such as one on select() or on another event loop, which runs troth between
  /// its own work instead of waiting in Promise::wait():
  ///
  ///     io.runOnce();
  ///     poll what is your own and io.pollableFd() (for reading), for io.nextTimeout() at most
  ///
  /// and again. The descriptor belongs to the loop; it is -1 where libuv has none (Windows).
  int pollableFd() const noexcept;
  /// How long the program may poll: zero while events are queued, nothing if only the descriptor can tell of news. Ask
  /// after runOnce() and after whatever may have begun something on this loop.
  std::optional<std::chrono::milliseconds> nextTimeout() const noexcept;
  /// Does what can be done without blocking, for a bounded number of events. Returns how many ran. Throws FAILED if
  /// it is called from inside of one.
  std::size_t runOnce(std::source_location where = std::source_location::current());

private:
  using AsyncIo::AsyncIo;
  friend AsyncIoContext setupAsyncIo(std::source_location where);
};

/// Inside a host that runs a libuv loop: there is nothing to wait with, since the host's `uv_run` makes
/// everything go. Promises are handed to a TaskSet. Destroy it on the loop's thread while the loop still
/// runs, or run it once more afterwards, so that libuv can let go of the handles.
class HostedAsyncIoContext : public AsyncIo {
  using AsyncIo::AsyncIo;
  friend HostedAsyncIoContext setupAsyncIo(uv_loop_s* hostLoop, std::source_location where);
};

/// Sets up this thread with a libuv loop of its own. Ignores SIGPIPE if it has its default action. A standard
/// descriptor that is closed is opened, as one that can be used in the wrong direction only, so that nothing else gets
/// its number. Throws FAILED if the thread has a loop already, OVERLOADED if descriptors are short.
AsyncIoContext setupAsyncIo(std::source_location where = std::source_location::current());

/// Sets up this thread inside `hostLoop` (a `uv_loop_t*`), which the host goes on running, and which must
/// outlive the context. The host's loop stays alive exactly while troth has work on it; an open stream that has been
/// read from, and an open receiver that has accepted, are such work, as open sockets are in libuv. Signal dispositions
/// are the host's: it must ignore SIGPIPE if troth writes to sockets.
HostedAsyncIoContext setupAsyncIo(uv_loop_s* hostLoop, std::source_location where = std::source_location::current());

} // namespace v0
} // namespace troth
