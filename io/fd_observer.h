// SPDX-License-Identifier: MIT
// FdObserver: tells when a descriptor that somebody else reads and writes is ready. For libraries with sockets of their
// own.
#pragma once

#include <troth/io/descriptor.h>
#include <troth/runtime/promise.h>

#include <memory>
#include <source_location>

namespace troth {
inline namespace v0 {

class AsyncIo;

/// Watches a descriptor, and neither reads nor writes it: that is done by whoever waits, with calls that do not block.
/// This is how a C library that has its own sockets (hiredis, libcurl, libpq, ALSA, libssh2 …) lives on the loop; for
/// bytes there are streams (troth/io/descriptor.h).
///
///     for (;;) {
///       co_await observer->whenBecomesReadable();
///       library_handle_input(handle); // reads what is there
///     }
///
/// It is told how things are, not what has changed (level-triggered; KJ's is not): of a descriptor that is readable
/// already, or still, the promise completes as soon as the loop has looked for I/O. Ready means worth a try: somebody
/// else may have been faster, so the call that follows may still say EAGAIN.
///
/// **Errors and hang-ups** complete whatever waits: readers, writers and all others. They are no failure of the
/// promise, because the library wants to find them by its own calls (`getsockopt(SO_ERROR)`, `read`, `PQconnectPoll`
/// …), which then do not block. So a refused connection is noticed by those who wait for either direction.
///
/// **Several may wait**, also for the same: all of them go on. Waiting again and again costs no system call: the system
/// goes on watching after a wait, and is told to stop only once something has come that nobody waits for.
///
/// Belongs to one thread. Destroying it rejects what is pending with DISCONNECTED. It keeps a host's loop alive while
/// somebody waits. Destroy it before the library closes its descriptor: see Ownership::BORROW below.
class FdObserver {
public:
  virtual ~FdObserver() = default;

  /// Waits until reading would not block: there are bytes, connections to accept, the end, a hang-up or an error.
  ///
  /// Completes:    when it is so, which may be already; never inside this call.
  /// Errors:       DISCONNECTED if the observer is destroyed.
  /// Cancellation: clean.
  /// Overlap:      any number, of all kinds.
  virtual Promise<void> whenBecomesReadable(std::source_location where = std::source_location::current()) = 0;

  /// Waits until writing would not block: there is room, a connection is made or has failed, a hang-up or an error.
  ///
  /// Completes, Errors, Cancellation, Overlap: as above.
  virtual Promise<void> whenBecomesWritable(std::source_location where = std::source_location::current()) = 0;

  /// Waits until a socket's peer sends no more, because it has closed or ended its direction, whether or not there are
  /// bytes left to read; or until an error. Of a pipe, until there is nobody at the other end; while somebody waits for
  /// its bytes too, these come first.
  ///
  /// Completes, Errors, Cancellation, Overlap: as above.
  virtual Promise<void> whenHungUp(std::source_location where = std::source_location::current()) = 0;

  /// Waits until there is urgent data (of TCP; to be read with MSG_OOB), a hang-up or an error.
  ///
  /// Completes, Errors, Cancellation, Overlap: as above.
  virtual Promise<void> whenUrgentDataAvailable(std::source_location where = std::source_location::current()) = 0;

  /// What is watched: the descriptor that was given, or its duplicate.
  virtual int descriptor() const noexcept = 0;
};

/// Observes `descriptor`, which becomes non-blocking, for everybody who has it.
///
/// With Ownership::TAKE it is closed with the observer; it must be nobody else's on this loop. (If the observer cannot
/// be made, the descriptor is still the caller's.) With Ownership::BORROW it stays the caller's, and the observer has a
/// duplicate. So it does no harm if it is closed first, as libraries do behind one's back, or observed by several; but
/// the peer does not learn that it is closed while the observer is there, and the number may mean something else by
/// then.
///
/// Throws FAILED, naming the descriptor, if it is not open, cannot be waited for since it is always ready (a regular
/// file, a directory, /dev/null), or is watched by a stream of this loop (TAKE), and on another thread than that of
/// `io`; OVERLOADED if descriptors are short.
std::unique_ptr<FdObserver> newFdObserver(AsyncIo& io, int descriptor, Ownership ownership,
                                          std::source_location where = std::source_location::current());
/// The same with TAKE. The descriptor is taken in any case: of which no observer can be made, that is closed.
std::unique_ptr<FdObserver> newFdObserver(AsyncIo& io, OwnedDescriptor descriptor,
                                          std::source_location where = std::source_location::current());

} // namespace v0
} // namespace troth
