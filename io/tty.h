// SPDX-License-Identifier: MIT
// Tty: a terminal as a stream, its mode and its size.
#pragma once

#include <troth/io/descriptor.h>

#include <memory>
#include <source_location>

namespace troth {
inline namespace v0 {

/// A terminal. Reading gives what is typed, by lines or, in raw mode, by keys; writing shows it. If the terminal was
/// opened for one direction only, the other one fails. When it is hung up reading ends, and writing is DISCONNECTED.
///
/// shutdownWrite() only refuses further writes: a terminal has nobody to tell.
class Tty : public AsyncIoStream {
public:
  enum class Mode {
    /// As the terminal was before this stream set RAW: usually whole lines, with echo, and Ctrl-C interrupts.
    NORMAL,
    /// Every key at once, without echo, and without signals from keys.
    RAW
  };

  struct WindowSize {
    int columns;
    int rows;
  };

  /// Sets the mode, after what was written has been shown. The destructor sets it back to NORMAL; whoever leaves by
  /// exit(), or is killed by a signal, leaves the terminal as it is. Throws the system's error.
  virtual void setMode(Mode mode, std::source_location where = std::source_location::current()) = 0;

  /// How large the terminal is at present, in characters; 0 if it does not know. SIGWINCH tells of changes. Throws the
  /// system's error.
  virtual WindowSize windowSize(std::source_location where = std::source_location::current()) const = 0;
};

/// Makes a stream of a terminal. It is opened anew if possible, so that being non-blocking does not concern others who
/// have it; otherwise (it belongs to another user, say) writing blocks. Throws FAILED if `descriptor` is not a
/// terminal.
std::unique_ptr<Tty> newTty(AsyncIo& io, int descriptor, Ownership ownership,
                            std::source_location where = std::source_location::current());

} // namespace v0
} // namespace troth
