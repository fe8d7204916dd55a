// SPDX-License-Identifier: MIT
// Signals as a stream: none is missed between two waits. (For one signal, once: AsyncIo::onSignal.)
#pragma once

#include <troth/runtime/promise.h>

#include <concepts>
#include <memory>
#include <source_location>
#include <span>

namespace troth {
inline namespace v0 {

class AsyncIo;

namespace detail {

/// A signal's number, and where it was written.
struct SignalNumber {
  int number;
  std::source_location where;

  // Not explicit: so `where` is the place of the call that has a number for an argument.
  SignalNumber(int n, std::source_location w = std::source_location::current()) noexcept : number(n), where(w) {}
};

} // namespace detail

/// Catches some signals for as long as it lives: SIGHUP to read the configuration again, SIGWINCH, SIGCHLD.
///
/// A signal that comes while nobody waits is remembered, each number once, as the kernel does. Several watches, and
/// onSignal(), may be for the same signal: each gets it. When nothing watches a signal any more it has its default
/// action, whatever it had before: so libuv leaves it.
///
/// Belongs to one thread; the signals are those of the whole process. Destroying it rejects a pending next() with
/// DISCONNECTED. A watch keeps a host's loop alive.
class SignalWatch {
public:
  virtual ~SignalWatch() = default;

  /// Takes the next signal.
  ///
  /// Completes:    when one of the signals has come that was not taken yet; it may be at once.
  /// Result:       its number; of several, the one that came first.
  /// Errors:       DISCONNECTED if the watch is destroyed.
  /// Cancellation: clean, even when it is ready: the signal is left for the next call.
  /// Overlap:      one at a time (a second throws FAILED).
  virtual Promise<int> next(std::source_location where = std::source_location::current()) = 0;
};

/// Watches `signals`, of which there must be one at least. From this call on none of them has its default action.
/// Throws FAILED, naming it, for a signal that cannot be caught, and for SIGBUS, SIGFPE, SIGILL and SIGSEGV, with which
/// a fault would come again and again; OVERLOADED without memory.
std::unique_ptr<SignalWatch> newSignalWatch(AsyncIo& io, std::span<const int> signals,
                                            std::source_location where = std::source_location::current());

/// The same for signals in a list: `newSignalWatch(io, SIGHUP, SIGWINCH)`.
template <std::same_as<int>... More>
std::unique_ptr<SignalWatch> newSignalWatch(AsyncIo& io, detail::SignalNumber signal, More... more) {
  const int signals[] = {signal.number, more...};
  return newSignalWatch(io, std::span<const int>(signals), signal.where);
}

} // namespace v0
} // namespace troth
