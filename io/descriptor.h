// SPDX-License-Identifier: MIT
// Streams on file descriptors: those that exist already, pipes of the system, standard input and output.
#pragma once

#include <troth/io/stream.h>

#include <memory>
#include <source_location>
#include <utility>

namespace troth {
inline namespace v0 {

class AsyncIo;

/// Owns a file descriptor, and closes it when it goes.
class OwnedDescriptor {
public:
  OwnedDescriptor() noexcept = default;
  /// Takes the ownership of `descriptor`; a negative one is none.
  explicit OwnedDescriptor(int descriptor) noexcept : descriptor_(descriptor) {}
  OwnedDescriptor(OwnedDescriptor&& other) noexcept : descriptor_(other.release()) {}
  OwnedDescriptor& operator=(OwnedDescriptor&& other) noexcept {
    std::swap(descriptor_, other.descriptor_);
    other.close();
    return *this;
  }
  ~OwnedDescriptor() { close(); }

  int get() const noexcept { return descriptor_; }
  explicit operator bool() const noexcept { return descriptor_ >= 0; }
  /// Gives the ownership away.
  int release() noexcept { return std::exchange(descriptor_, -1); }
  /// Closes it now; this is empty afterwards.
  void close() noexcept;

private:
  int descriptor_ = -1;
};

/// What becomes of a descriptor of which a stream is made.
enum class Ownership {
  /// The stream owns it from now on. (If the stream cannot be made, the descriptor is still the caller's.)
  TAKE,
  /// It stays the caller's, who may close it at any time: the stream works on a duplicate.
  BORROW
};

// Streams on a descriptor that exists already. It may be
//
// - a connected stream socket, a pipe or FIFO, a terminal, or a device that can be waited for. It becomes non-blocking,
//   and since that is a property of what was opened, not of the descriptor, everybody sees it who has a duplicate, in
//   other processes too. Not so with a terminal, and with a pipe that is borrowed: where the system allows it these are
//   opened anew.
// - a regular file, or a device that cannot be waited for, such as /dev/null. It is read and written, from its current
//   position on, by the threads of libuv's pool, one operation at a time. What a thread has begun cannot be withdrawn:
//   it ends in the background (deferred), in memory of its own. The bytes of a read that was cancelled so late are what
//   the next read of the same stream begins with. A device that keeps a thread waiting keeps it from other work, and
//   the program from ending.
//
// What a stream works on is closed on exec. All of these functions throw FAILED, naming the descriptor, if it is not
// open, not of such a kind, or not open in the direction that is wanted; OVERLOADED if descriptors are short. An
// OwnedDescriptor is taken in any case: of which no stream can be made, that is closed.

/// Makes a stream that reads from `descriptor`.
std::unique_ptr<AsyncInputStream> newInputStream(AsyncIo& io, int descriptor, Ownership ownership,
                                                 std::source_location where = std::source_location::current());
std::unique_ptr<AsyncInputStream> newInputStream(AsyncIo& io, OwnedDescriptor descriptor,
                                                 std::source_location where = std::source_location::current());

/// Makes a stream that writes to `descriptor`.
std::unique_ptr<AsyncOutputStream> newOutputStream(AsyncIo& io, int descriptor, Ownership ownership,
                                                   std::source_location where = std::source_location::current());
std::unique_ptr<AsyncOutputStream> newOutputStream(AsyncIo& io, OwnedDescriptor descriptor,
                                                   std::source_location where = std::source_location::current());

/// Makes a stream in both directions: of a socket, a terminal, or a device that can be waited for. A pipe goes one way
/// only, and a file has but one position for both.
std::unique_ptr<AsyncIoStream> newIoStream(AsyncIo& io, int descriptor, Ownership ownership,
                                           std::source_location where = std::source_location::current());
std::unique_ptr<AsyncIoStream> newIoStream(AsyncIo& io, OwnedDescriptor descriptor,
                                           std::source_location where = std::source_location::current());

/// The two ends of a pipe of the system.
struct OsPipe {
  std::unique_ptr<AsyncInputStream> input;
  std::unique_ptr<AsyncOutputStream> output;
};

/// Makes a pipe of the system, as pipe(2) does. Destroying `output` ends the stream. Throws OVERLOADED if descriptors
/// are short. (In memory: newOneWayPipe().)
OsPipe newOsPipe(AsyncIo& io, std::source_location where = std::source_location::current());

/// Two connected sockets.
struct OsSocketpair {
  std::unique_ptr<AsyncIoStream> left;
  std::unique_ptr<AsyncIoStream> right;
};

/// Makes a pair of Unix sockets, as socketpair(2) does. Throws OVERLOADED if descriptors are short. (In memory:
/// newTwoWayPipe().)
OsSocketpair newOsSocketpair(AsyncIo& io, std::source_location where = std::source_location::current());

/// The process's standard input, output and error, borrowed: whatever they are, as above. The shell finds its terminal
/// as it was. Only a socket, and a pipe on a system without /proc, is left non-blocking for the others who have it.
std::unique_ptr<AsyncInputStream> standardInput(AsyncIo& io,
                                                std::source_location where = std::source_location::current());
std::unique_ptr<AsyncOutputStream> standardOutput(AsyncIo& io,
                                                  std::source_location where = std::source_location::current());
std::unique_ptr<AsyncOutputStream> standardError(AsyncIo& io,
                                                 std::source_location where = std::source_location::current());

} // namespace v0
} // namespace troth
