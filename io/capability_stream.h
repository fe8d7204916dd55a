// SPDX-License-Identifier: MIT
// AsyncCapabilityStream: a Unix socket, over which descriptors and streams can be passed along with bytes.
#pragma once

#include <troth/io/descriptor.h>

#include <memory>
#include <optional>
#include <source_location>
#include <span>
#include <vector>

namespace troth {
inline namespace v0 {

/// What a read that wants descriptors gives.
struct BytesAndDescriptors {
  /// The number of bytes that were read.
  std::size_t bytes = 0;
  /// The descriptors that came along, in the order in which they were sent; they are closed on exec.
  std::vector<OwnedDescriptor> descriptors;
};

/// What a read that wants streams gives.
struct BytesAndStreams {
  /// The number of bytes that were read.
  std::size_t bytes = 0;
  /// The streams that came along, in the order in which they were sent.
  std::vector<std::unique_ptr<AsyncIoStream>> streams;
};

/// A stream that passes descriptors to another process, or within this one.
///
/// Descriptors travel with bytes, at least one. They arrive with the read that gets the first of these bytes, and one
/// read does not go on behind them unless it must for its `minBytes`. What a read has no use for is closed: all
/// descriptors beyond its `maxDescriptors`, and all with a plain tryRead(). A read that is destroyed before its result
/// was taken gives bytes and descriptors back.
class AsyncCapabilityStream : public AsyncIoStream {
public:
  /// The most descriptors that can be sent with one write, as Linux has it.
  static constexpr std::size_t MOST_DESCRIPTORS = 253;

  /// Writes all of `bytes`, one or more, and sends `descriptors`, MOST_DESCRIPTORS at most, with them.
  ///
  /// Completes:    when the system has taken every byte (which is not to say that the peer has); often at once.
  /// Errors:       DISCONNECTED if the peer has gone; OVERLOADED if the peer leaves too many descriptors unread. If
  ///               the system refuses the descriptors nothing was sent, and the stream can be used further.
  /// Cancellation: partial, lost: a part of `bytes` may have been sent, so the stream is good only for
  ///               closing. `bytes` is not touched again.
  /// Lifetime:     `bytes` stays alive, and the descriptors open, until the promise is taken or destroyed. The receiver
  ///               gets duplicates.
  /// Overlap:      one write at a time (a second throws FAILED); a read may be pending.
  virtual Promise<void> writeWithDescriptors(std::span<const std::byte> bytes, std::span<const int> descriptors,
                                             std::source_location where = std::source_location::current()) = 0;

  /// Reads at least `minBytes` (1 or more) and at most `buffer.size()` bytes, and at most `maxDescriptors` of the
  /// descriptors that come along.
  ///
  /// Completes:    when so many bytes have arrived, at the end of the stream, or on error; never inside this call.
  /// Result:       the number of bytes, less than `minBytes` only at the end of the stream, and the descriptors. Those
  ///               of a read that was cancelled come again with the last of the bytes that came with them.
  /// Errors:       DISCONNECTED if the peer has gone with bytes of ours unread; OVERLOADED if the process had no room
  ///               for descriptors that came: these are lost, while the bytes are what the next read begins with.
  /// Cancellation: clean: nothing is consumed and `buffer` is not touched again.
  /// Lifetime:     `buffer` stays alive until the promise is taken or destroyed.
  /// Overlap:      one read at a time (a second throws FAILED); a write may be pending.
  virtual Promise<BytesAndDescriptors>
  tryReadWithDescriptors(std::span<std::byte> buffer, std::size_t minBytes, std::size_t maxDescriptors,
                         std::source_location where = std::source_location::current()) = 0;

  /// Sends one descriptor, with one byte. Contract: writeWithDescriptors().
  Promise<void> sendDescriptor(int descriptor, std::source_location where = std::source_location::current());

  /// Receives what sendDescriptor() sends; nothing at the end of the stream.
  ///
  /// Completes:    when a byte has arrived, at the end of the stream, or on error; never inside this call.
  /// Result:       the descriptor; nothing only at the end of the stream.
  /// Errors:       FAILED if the byte came without a descriptor; else as tryReadWithDescriptors().
  /// Cancellation: clean: nothing is consumed.
  /// Lifetime:     this stream stays alive until the promise completes or is destroyed.
  /// Overlap:      one read at a time (a second throws FAILED); a write may be pending.
  Promise<std::optional<OwnedDescriptor>>
  tryReceiveDescriptor(std::source_location where = std::source_location::current());
  /// The same, but the end of the stream is DISCONNECTED.
  Promise<OwnedDescriptor> receiveDescriptor(std::source_location where = std::source_location::current());

  /// Writes all of `bytes`, one or more, and sends with them the descriptors under `streams`, MOST_DESCRIPTORS at most,
  /// which are destroyed when that is done. On none of them anything may be pending, and bytes that one holds already
  /// (of a read that was cancelled) are lost. FAILED if there is no descriptor under one of them. Contract:
  /// writeWithDescriptors().
  Promise<void> writeWithStreams(std::span<const std::byte> bytes, std::vector<std::unique_ptr<AsyncIoStream>> streams,
                                 std::source_location where = std::source_location::current());

  /// Reads as tryReadWithDescriptors(), and makes streams of the descriptors, as newIoStream(). If that cannot be done
  /// with one of them it fails with FAILED, or OVERLOADED: all that came are closed then, and the bytes are lost.
  virtual Promise<BytesAndStreams> tryReadWithStreams(std::span<std::byte> buffer, std::size_t minBytes,
                                                      std::size_t maxStreams,
                                                      std::source_location where = std::source_location::current()) = 0;

  /// Sends one stream, with one byte. Contract: writeWithStreams().
  Promise<void> sendStream(std::unique_ptr<AsyncIoStream> stream,
                           std::source_location where = std::source_location::current());

  /// Receives what sendStream() sends; null at the end of the stream.
  ///
  /// Completes:    when a byte has arrived, at the end of the stream, or on error; never inside this call.
  /// Result:       the stream; null only at the end of this one.
  /// Errors:       FAILED if the byte came without a descriptor, or with one of which no stream can be made; else as
  ///               tryReadWithStreams().
  /// Cancellation: clean: nothing is consumed.
  /// Lifetime:     this stream stays alive until the promise completes or is destroyed.
  /// Overlap:      one read at a time (a second throws FAILED); a write may be pending.
  Promise<std::unique_ptr<AsyncIoStream>>
  tryReceiveStream(std::source_location where = std::source_location::current());
  /// The same, but the end of the stream is DISCONNECTED.
  Promise<std::unique_ptr<AsyncIoStream>> receiveStream(std::source_location where = std::source_location::current());
};

/// Makes a stream of a connected Unix socket. `ownership` is as for newIoStream(). Throws FAILED if it is none.
std::unique_ptr<AsyncCapabilityStream>
newCapabilityStream(AsyncIo& io, int descriptor, Ownership ownership,
                    std::source_location where = std::source_location::current());

/// Two connected streams. There is no pair in memory: what travels are descriptors, which the system has.
struct CapabilityPair {
  std::unique_ptr<AsyncCapabilityStream> left;
  std::unique_ptr<AsyncCapabilityStream> right;
};

/// Makes a pair of Unix sockets. Throws OVERLOADED if descriptors are short.
CapabilityPair newCapabilityPair(AsyncIo& io, std::source_location where = std::source_location::current());

} // namespace v0
} // namespace troth
