// SPDX-License-Identifier: MIT
// Byte streams: the interfaces that every source and sink of bytes implements.
#pragma once

#include <troth/io/chunk.h>
#include <troth/runtime/promise.h>

#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <source_location>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace troth {
inline namespace v0 {

class AsyncOutputStream;

namespace detail {

class StreamWatch;

/// What a stream is watched by: operations that use it more than once, such as pumps.
class WatchedStream {
public:
  WatchedStream() noexcept = default;
  WatchedStream(const WatchedStream&) = delete;
  WatchedStream& operator=(const WatchedStream&) = delete;

protected:
  ~WatchedStream() {
    if (watches_ != nullptr) [[unlikely]]
      tellWatches();
  }

private:
  friend class StreamWatch;

  StreamWatch* watches_ = nullptr;

  void tellWatches() noexcept;
};

} // namespace detail

/// The bytes of a text, without a copy.
inline std::span<const std::byte> asBytes(std::string_view text) noexcept {
  return std::as_bytes(std::span(text.data(), text.size()));
}

/// As many bytes as there are: the amount of a pump that ends with the stream.
inline constexpr std::uint64_t ALL_BYTES = std::numeric_limits<std::uint64_t>::max();

/// Something to read bytes from.
///
/// Belongs to one thread. Destroying a stream while a read is pending rejects the read with DISCONNECTED.
/// A read that is destroyed before its result was taken loses nothing: what had arrived for it is what the
/// next read begins with. The words after `Cancellation:` are defined in docs/cancellation.md.
class AsyncInputStream : private detail::WatchedStream {
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

  /// Reads what there is, at most `maxBytes` bytes (1 or more; more than Chunk::CAPACITY are not read at once), into a
  /// pooled buffer that is borrowed only when bytes have arrived: a connection that waits holds no buffer. (A stream
  /// that has no way of its own borrows the buffer at once and reads by tryRead().)
  ///
  /// Completes:    when at least one byte has arrived, at the end of the stream, or on error; never inside this call.
  /// Result:       the bytes; an empty chunk only at the end of the stream.
  /// Errors:       DISCONNECTED if the peer reset the connection; OVERLOADED without memory for the buffer.
  /// Cancellation: clean: nothing is consumed.
  /// Lifetime:     the chunk owns its bytes and may outlive the stream; give it back (destroy it) soon.
  /// Overlap:      one read at a time (a second throws FAILED); a write may be pending.
  virtual Promise<Chunk> tryReadChunk(std::size_t maxBytes = Chunk::CAPACITY,
                                      std::source_location where = std::source_location::current());

  /// Fills `buffer`.
  ///
  /// Completes:    when `buffer` is full, or on error; never inside this call.
  /// Errors:       DISCONNECTED if the stream ends before, or the peer reset the connection.
  /// Cancellation: clean: nothing is consumed and `buffer` is not touched again.
  /// Lifetime:     `buffer` stays alive until the promise is taken or destroyed.
  /// Overlap:      one read at a time (a second throws FAILED); a write may be pending.
  Promise<void> read(std::span<std::byte> buffer, std::source_location where = std::source_location::current());

  /// Reads to the end of the stream, which must come after at most `limit` bytes.
  ///
  /// Completes:    at the end of the stream, or on error.
  /// Result:       all bytes, in one piece.
  /// Errors:       FAILED if there are more than `limit`, which is found out by reading one byte more; DISCONNECTED.
  /// Cancellation: partial, lost: what was read before is gone.
  /// Overlap:      it is a read: one at a time; a write may be pending.
  Promise<std::vector<std::byte>> readAllBytes(std::uint64_t limit,
                                               std::source_location where = std::source_location::current());
  /// The same as text, of any encoding.
  Promise<std::string> readAllText(std::uint64_t limit, std::source_location where = std::source_location::current());

  /// Copies bytes to `output` until `amount` have been written or this stream ends, by the best way that the two
  /// streams have: `output.tryPumpFrom(*this)` if it knows one, else pumpByBuffer().
  ///
  /// Completes:    when that is done, or on error of either stream.
  /// Result:       the number of bytes written; less than `amount` only if this stream has ended.
  /// Errors:       those of reading here and of writing there.
  /// Cancellation: partial, lost: bytes that were on their way may be gone.
  /// Lifetime:     a stream that is destroyed before fails the pump with DISCONNECTED.
  /// Overlap:      it is a read of this stream and a write to `output`: one of each at a time.
  virtual Promise<std::uint64_t> pumpTo(AsyncOutputStream& output, std::uint64_t amount = ALL_BYTES,
                                        std::source_location where = std::source_location::current());

  /// The number of bytes that are left to read, if the stream knows it: for a Content-Length, or to allocate at once.
  virtual std::optional<std::uint64_t> tryGetLength() const { return std::nullopt; }

  /// A second reader of the same bytes, from here on, if the stream has a better way to it than newTee(); null if not.
  /// The two hold no more than `limit` bytes that only one of them has read. See newTee() (troth/io/tee.h).
  virtual std::unique_ptr<AsyncInputStream> tryTee(std::size_t limit);

private:
  friend class detail::StreamWatch;
};

/// Something to write bytes to.
///
/// Belongs to one thread. Destroying a stream while a write is pending rejects the write with DISCONNECTED.
class AsyncOutputStream : private detail::WatchedStream {
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

  /// For implementers of streams: pumps from `input` by a way that only this stream knows, with the contract of
  /// pumpTo(); nothing if it knows none for this input. To pump, call `input.pumpTo()`.
  virtual std::optional<Promise<std::uint64_t>>
  tryPumpFrom(AsyncInputStream& input, std::uint64_t amount,
              std::source_location where = std::source_location::current());

  /// Tells that writing has become pointless.
  ///
  /// Completes:    when it is known that nobody will read what is written from now on, which may be never: many kinds
  ///               of streams notice it only by writing.
  /// Errors:       none: a stream that failed is disconnected.
  /// Cancellation: clean.
  /// Overlap:      any number.
  virtual Promise<void> whenWriteDisconnected(std::source_location where = std::source_location::current());

  /// Gives up writing in the middle: the reader, as far as the stream can tell it, meets DISCONNECTED where it would
  /// have found the end, so what was cut off does not look complete. A write that is pending, and each later one, fails
  /// with DISCONNECTED. After shutdownWrite() it is too late.
  ///
  /// A pipe in memory tells its reader at once. A TCP connection is reset when the stream is destroyed, which ends the
  /// peer's reading and writing alike. Other streams of the system cannot tell: these just end. A stream that has no
  /// way of its own, such as one to a file, ignores it.
  virtual void abortWrite(std::source_location where = std::source_location::current());

  /// How many bytes the peer has still to take before the write, or pump, that is pending can be forgotten: what the
  /// system has not got, and, as far as it tells, what it has got and not delivered. 0 if nothing is pending, or if it
  /// does not wait for the peer; of a pump of ALL_BYTES no real number, but one that falls as they are taken; nothing if
  /// the stream cannot tell. So a peer that is slow can be told from one that takes nothing, without cutting what is
  /// written into parts. Costs a system call where something is pending.
  virtual std::optional<std::uint64_t> tryGetUndelivered() const noexcept;

private:
  friend class detail::StreamWatch;
};

/// A stream in both directions, such as a connection.
class AsyncIoStream : public AsyncInputStream, public AsyncOutputStream {
public:
  /// Ends the outgoing direction: the peer reads the end of the stream after what was written before.
  /// Reading goes on; if the system cannot tell the peer, it fails with the system's error. Throws FAILED while a write
  /// is pending; after this, writing throws FAILED.
  virtual void shutdownWrite(std::source_location where = std::source_location::current()) = 0;

  /// Gives up reading: the peer, as far as the stream can tell it, is disconnected for writing. A read that is pending,
  /// and each later one, fails with DISCONNECTED. Writing goes on.
  virtual void abortRead(std::source_location where = std::source_location::current()) = 0;

  /// The descriptor under the stream, for socket options and the like; nothing if there is none. It stays the stream's.
  virtual std::optional<int> descriptor() const { return std::nullopt; }
};

/// Pumps by reading into a buffer (64 KiB at most, borrowed when bytes have arrived) and writing it: the way that all
/// streams have. For implementers of streams, with the contract of AsyncInputStream::pumpTo(), which calls it.
Promise<std::uint64_t> pumpByBuffer(AsyncInputStream& input, AsyncOutputStream& output,
                                    std::uint64_t amount = ALL_BYTES,
                                    std::source_location where = std::source_location::current());

} // namespace v0
} // namespace troth
