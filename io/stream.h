// SPDX-License-Identifier: MIT
// Byte streams: the interfaces that every source and sink of bytes implements.
#pragma once

#include <troth/io/chunk.h>
#include <troth/runtime/promise.h>

#include <cstddef>
#include <source_location>
#include <span>
#include <string_view>

namespace troth {
inline namespace v0 {

/// The bytes of a text, without a copy.
inline std::span<const std::byte> asBytes(std::string_view text) noexcept {
  return std::as_bytes(std::span(text.data(), text.size()));
}

/// Something to read bytes from.
///
/// Belongs to one thread. Destroying a stream while a read is pending rejects the read with DISCONNECTED.
/// A read that is destroyed before its result was taken loses nothing: what had arrived for it is what the
/// next read begins with. The words after `Cancellation:` are defined in docs/cancellation.md.
class AsyncInputStream {
public:
  virtual ~AsyncInputStream() = default;

  /// Reads at least `minBytes` (1 or more) and at most `buffer.size()` bytes.
  ///
  /// Completes:    when so many bytes have arrived, at the end of the stream, or on error; never inside this call.
  /// Result:       the number of bytes read; less than `minBytes` only at the end of the stream, where it may be 0.
  /// Errors:       DISCONNECTED if the peer reset the connection.
  /// Cancellation: clean: nothing is consumed and `buffer` is not touched again.
  /// Lifetime:     `buffer` stays alive until the promise is taken or destroyed.
  /// Overlap:      one read at a time (a second throws FAILED); a write may be pending.
  virtual Promise<std::size_t> tryRead(std::span<std::byte> buffer, std::size_t minBytes = 1,
                                       std::source_location where = std::source_location::current()) = 0;

  /// Reads what there is, at most Chunk::CAPACITY bytes, into a pooled buffer that is borrowed only when bytes
  /// have arrived: a connection that waits holds no buffer.
  ///
  /// Completes:    when at least one byte has arrived, at the end of the stream, or on error; never inside this call.
  /// Result:       the bytes; an empty chunk only at the end of the stream.
  /// Errors:       DISCONNECTED if the peer reset the connection; OVERLOADED without memory for the buffer.
  /// Cancellation: clean: nothing is consumed.
  /// Lifetime:     the chunk owns its bytes and may outlive the stream; give it back (destroy it) soon.
  /// Overlap:      one read at a time (a second throws FAILED); a write may be pending.
  virtual Promise<Chunk> tryReadChunk(std::source_location where = std::source_location::current()) = 0;

  /// Fills `buffer`.
  ///
  /// Completes:    when `buffer` is full, or on error; never inside this call.
  /// Errors:       DISCONNECTED if the stream ends before, or the peer reset the connection.
  /// Cancellation: clean: nothing is consumed and `buffer` is not touched again.
  /// Lifetime:     `buffer` stays alive until the promise is taken or destroyed.
  /// Overlap:      one read at a time (a second throws FAILED); a write may be pending.
  Promise<void> read(std::span<std::byte> buffer, std::source_location where = std::source_location::current());
};

/// Something to write bytes to.
///
/// Belongs to one thread. Destroying a stream while a write is pending rejects the write with DISCONNECTED.
class AsyncOutputStream {
public:
  virtual ~AsyncOutputStream() = default;

  /// Writes all of `bytes`.
  ///
  /// Completes:    when the system has taken every byte (which is not to say that the peer has); often at once.
  /// Errors:       DISCONNECTED if the peer has gone; how much it got is not known.
  /// Cancellation: partial, lost: a part of `bytes` may have been sent, so the stream is good only for
  ///               closing. `bytes` is not touched again.
  /// Lifetime:     `bytes` stays alive until the promise is taken or destroyed.
  /// Overlap:      one write at a time (a second throws FAILED); a read may be pending.
  virtual Promise<void> write(std::span<const std::byte> bytes,
                              std::source_location where = std::source_location::current()) = 0;

  /// The same for a text. It is not copied: it stays alive until the promise is taken or destroyed.
  Promise<void> write(std::string_view text, std::source_location where = std::source_location::current()) {
    return write(asBytes(text), where);
  }

  /// Writes several pieces in order, as one: they are gathered into one system call if the system takes
  /// them. The contract is that of one piece; the array of pieces itself is needed only during the call.
  virtual Promise<void> write(std::span<const std::span<const std::byte>> pieces,
                              std::source_location where = std::source_location::current()) = 0;
};

/// A stream in both directions, such as a connection.
class AsyncIoStream : public AsyncInputStream, public AsyncOutputStream {
public:
  /// Ends the outgoing direction: the peer reads the end of the stream after what was written before.
  /// Reading goes on; if the system cannot tell the peer, it fails with the system's error. Throws FAILED while a write is pending; after this, writing throws FAILED.
  virtual void shutdownWrite(std::source_location where = std::source_location::current()) = 0;
};

} // namespace v0
} // namespace troth
