// SPDX-License-Identifier: MIT
// A buffer in front of a stream: to read by lines, and to gather small writes.
#pragma once

#include <troth/io/stream.h>

#include <cstddef>
#include <limits>
#include <memory>
#include <optional>
#include <source_location>
#include <span>
#include <string>
#include <string_view>

namespace troth {
inline namespace v0 {

namespace detail {
class Busy;
}

/// Reads a stream by lines and the like, through a buffer of a fixed size.
///
///     BufferedInputStream lines(*connection);
///     while (std::optional<std::string> line = co_await lines.readLine()) …
///
/// What was read of the inner stream and is not wanted yet stays in the buffer, for the next operation here; the inner
/// stream has lost it, so it should not be read directly any more. The buffer is made by the first read that
/// needs it, and stays: `capacity` bytes.
///
/// One operation at a time; a second throws FAILED until the first one's result was taken. Destroying the stream
/// rejects what is pending with DISCONNECTED. Belongs to one thread.
class BufferedInputStream final : public AsyncInputStream {
public:
  static constexpr std::size_t DEFAULT_CAPACITY = 8192;
  static constexpr std::size_t NO_LIMIT = std::numeric_limits<std::size_t>::max();

  /// `capacity` is 1 or more. `inner` outlives this.
  explicit BufferedInputStream(AsyncInputStream& inner, std::size_t capacity = DEFAULT_CAPACITY,
                               std::source_location where = std::source_location::current());
  /// Owns `inner`, which is not null.
  explicit BufferedInputStream(std::unique_ptr<AsyncInputStream> inner, std::size_t capacity = DEFAULT_CAPACITY,
                               std::source_location where = std::source_location::current());
  ~BufferedInputStream() override;
  BufferedInputStream(const BufferedInputStream&) = delete;
  BufferedInputStream& operator=(const BufferedInputStream&) = delete;

  /// Reads a line, of at most `limit` bytes without its end, which is "\n" or "\r\n". What comes after the last line's
  /// end is a line too, unless it is empty.
  ///
  /// Completes:    when there is a line, at the end of the stream, or on error.
  /// Result:       the line without its end; nothing at the end of the stream.
  /// Errors:       FAILED if the line is longer than `limit`, or does not fit into the buffer together with its end:
  ///               its bytes stay, and can be read otherwise. Those of reading.
  /// Cancellation: clean: nothing is consumed.
  /// Lifetime:     the inner stream stays alive until the promise completes or is destroyed.
  /// Overlap:      one read at a time (a second throws FAILED).
  Promise<std::optional<std::string>> readLine(std::size_t limit = NO_LIMIT,
                                               std::source_location where = std::source_location::current());

  /// Reads to the next `delimiter` (1 byte or more, which are copied), before which there are at most `limit` bytes.
  ///
  /// Completes:    when the delimiter has come, at the end of the stream, or on error.
  /// Result:       what was in front of the delimiter, which is consumed too; nothing at the end of the stream.
  /// Errors:       DISCONNECTED if the stream ends with bytes that no delimiter follows; FAILED if more than `limit`
  ///               bytes come before it, or they do not fit into the buffer together with it. The bytes stay, and can
  ///               be read otherwise. Those of reading.
  /// Cancellation: clean: nothing is consumed.
  /// Lifetime:     the inner stream stays alive until the promise completes or is destroyed.
  /// Overlap:      one read at a time (a second throws FAILED).
  Promise<std::optional<std::string>> readUntil(std::string_view delimiter, std::size_t limit = NO_LIMIT,
                                                std::source_location where = std::source_location::current());

  /// Shows the next bytes, at least `count` of them (at most the capacity), and all that the buffer holds, without
  /// consuming them.
  ///
  /// Completes:    when there are so many, at the end of the stream, or on error.
  /// Result:       the bytes, in the buffer: valid until the next operation of this stream. Less than `count` only if
  ///               the stream ends after them.
  /// Errors:       those of reading.
  /// Cancellation: clean: nothing is consumed.
  /// Lifetime:     the inner stream stays alive until the promise completes or is destroyed.
  /// Overlap:      one read at a time (a second throws FAILED).
  Promise<std::span<const std::byte>> peek(std::size_t count,
                                           std::source_location where = std::source_location::current());

  /// How many bytes the buffer holds.
  std::size_t buffered() const noexcept;

  // --- For the contracts see AsyncInputStream. A read that is as large as the buffer goes past it.

  Promise<std::size_t> tryRead(std::span<std::byte> buffer, std::size_t minBytes = 1,
                               std::source_location where = std::source_location::current()) override;
  Promise<Chunk> tryReadChunk(std::size_t maxBytes = Chunk::CAPACITY,
                              std::source_location where = std::source_location::current()) override;
  Promise<std::uint64_t> pumpTo(AsyncOutputStream& output, std::uint64_t amount = ALL_BYTES,
                                std::source_location where = std::source_location::current()) override;
  std::optional<std::uint64_t> tryGetLength() const override;

private:
  struct State;
  std::unique_ptr<AsyncInputStream> owned_;
  std::shared_ptr<State> state_;

  detail::Busy begin(const char* function, std::source_location where);
};

/// Gathers small writes in a buffer, and sends them together.
///
/// What does not fit into the buffer any more is sent at once, together with what was gathered, in one write of several
/// pieces. What was gathered is sent by flush(), and by nothing else: destroying the stream throws it away, since a
/// destructor cannot wait. The buffer is made by the first write that needs it, and stays: `capacity` bytes.
///
/// Once sending has failed, or was cancelled, what the peer has got is not known: each later write() and flush() fails
/// with that error, also if nobody has seen it. Destroying the stream rejects what is pending with DISCONNECTED.
/// Belongs to one thread.
class BufferedOutputStream final : public AsyncOutputStream {
public:
  static constexpr std::size_t DEFAULT_CAPACITY = 8192;

  /// `capacity` is 1 or more. `inner` outlives this.
  explicit BufferedOutputStream(AsyncOutputStream& inner, std::size_t capacity = DEFAULT_CAPACITY,
                                std::source_location where = std::source_location::current());
  /// Owns `inner`, which is not null.
  explicit BufferedOutputStream(std::unique_ptr<AsyncOutputStream> inner, std::size_t capacity = DEFAULT_CAPACITY,
                                std::source_location where = std::source_location::current());
  ~BufferedOutputStream() override;
  BufferedOutputStream(const BufferedOutputStream&) = delete;
  BufferedOutputStream& operator=(const BufferedOutputStream&) = delete;

  using AsyncOutputStream::write;

  /// Gathers `bytes`, or sends them with what was gathered.
  ///
  /// Completes:    at once if they fit into the buffer; otherwise when the inner stream has taken everything.
  /// Errors:       those of writing, now or before.
  /// Cancellation: partial, lost, if they did not fit: the stream is good only for closing. `bytes` is not touched
  ///               again.
  /// Lifetime:     `bytes` stays alive until the promise is taken or destroyed.
  /// Overlap:      one write or flush at a time (a second throws FAILED).
  Promise<void> write(std::span<const std::byte> bytes,
                      std::source_location where = std::source_location::current()) override;
  /// The same for several pieces, as one.
  Promise<void> write(std::span<const std::span<const std::byte>> pieces,
                      std::source_location where = std::source_location::current()) override;

  /// Sends what was gathered.
  ///
  /// Completes:    when the inner stream has taken it; at once if there is nothing.
  /// Errors:       those of writing, now or before.
  /// Cancellation: partial, lost: the stream is good only for closing.
  /// Lifetime:     the inner stream stays alive until the promise completes or is destroyed.
  /// Overlap:      one write or flush at a time (a second throws FAILED).
  Promise<void> flush(std::source_location where = std::source_location::current());

  /// How many bytes wait to be sent.
  std::size_t buffered() const noexcept;

  Promise<void> whenWriteDisconnected(std::source_location where = std::source_location::current()) override;
  void abortWrite(std::source_location where = std::source_location::current()) override;
  std::optional<std::uint64_t> tryGetUndelivered() const noexcept override;

private:
  struct State;
  std::unique_ptr<AsyncOutputStream> owned_;
  std::shared_ptr<State> state_;

  detail::Busy begin(const char* function, std::source_location where);
};

} // namespace v0
} // namespace troth
