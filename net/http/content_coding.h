// SPDX-License-Identifier: MIT
// Content codings: gzip, deflate and brotli, as streams and in one piece.
#pragma once

#include <troth/io/stream.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <source_location>
#include <span>
#include <string_view>
#include <vector>

namespace troth {
inline namespace v0 {
namespace http {

/// How a body may be coded (RFC 9110, section 8.4.1). DEFLATE is zlib's format (RFC 1950).
enum class ContentCoding : std::uint8_t { IDENTITY, GZIP, DEFLATE, BROTLI };

/// "gzip", "deflate", "br", "identity".
std::string_view codingName(ContentCoding coding) noexcept;

/// The coding of that name, in any case, "x-gzip" among them; nothing for others.
std::optional<ContentCoding> findCoding(std::string_view name) noexcept;

/// Whether this build of the library has the coding: GZIP and DEFLATE are zlib's, BROTLI is brotli's.
bool isSupported(ContentCoding coding) noexcept;

/// The names of the codings that this build has, the best in front, for negotiateCoding(). Not "identity".
std::span<const std::string_view> supportedCodings() noexcept;

/// What decoding may cost: a few bytes can stand for very many.
struct DecodingLimits {
  std::uint64_t maxBytes = 64 * 1024 * 1024; // that come out
  /// How many may come out for each one that goes in, once 1 MiB has come out. Deflate reaches 1032, for zeroes; text
  /// seldom 20.
  std::uint32_t maxRatio = 250;
};

/// A stream of what `inner` holds in that coding.
///
/// Reading fails with HttpError: 400 for what is malformed, ends before its end, or has something behind it; 413 beyond
/// the limits. Several gzip members one after the other are one body (RFC 1952, section 2.2); deflate may be without
/// its header and checksum, as some send it; and where there is not a single byte the body is empty, whatever its
/// coding. Decoding goes 64 KiB at a time, and lets others run in between. It takes memory when there is something to
/// decode: 64 KiB and what the library needs (zlib: 40 KiB; brotli: as much as the sender says, up to 16 MiB).
///
/// Reads are clean: one that is dropped loses nothing. Destroying the stream destroys `inner`. Throws UNIMPLEMENTED if
/// the build has not got the coding, FAILED if `inner` is null.
std::unique_ptr<AsyncInputStream> newDecodingStream(ContentCoding coding, std::unique_ptr<AsyncInputStream> inner,
                                                    const DecodingLimits& limits = {},
                                                    std::source_location where = std::source_location::current());

/// How much effort goes into coding.
using CodingLevel = int;
/// The usual one: 6 of 9 for gzip and deflate, 5 of 11 for brotli.
inline constexpr CodingLevel DEFAULT_LEVEL = -1;

/// A stream that codes what is written to it, and writes that to another one.
///
/// What is written is gathered until there is something worth to be sent: 16 KiB after coding, flush() or end(). Coding
/// goes 64 KiB at a time, and lets others run in between. Once writing has failed or was cancelled each later operation
/// fails. Destroying the stream without end() leaves the body unfinished, which its reader sees. Belongs to one thread.
class EncodingStream : public AsyncOutputStream {
public:
  /// Sends everything that was written, so that its reader can decode it. It costs some bytes each time.
  ///
  /// Completes:    when the stream below has taken it.
  /// Errors:       those of writing, now or before.
  /// Cancellation: partial, lost: the stream is good only for closing.
  /// Lifetime:     the stream below stays alive until the promise completes or is destroyed.
  /// Overlap:      one write, flush or end at a time (a second throws FAILED).
  virtual Promise<void> flush(std::source_location where = std::source_location::current()) = 0;

  /// Sends what is left, and the end of the coding. The stream below is not ended. After this, writing throws FAILED.
  /// The contract is that of flush().
  virtual Promise<void> end(std::source_location where = std::source_location::current()) = 0;
};

/// Codes onto `output`, which outlives the stream. The level is DEFAULT_LEVEL, 0 to 9 for gzip and deflate, 0 to 11 for
/// brotli; otherwise this throws FAILED. Throws UNIMPLEMENTED if the build has not got the coding. Takes 256 KiB for
/// gzip and deflate, about 2 MiB for brotli.
std::unique_ptr<EncodingStream> newEncodingStream(ContentCoding coding, AsyncOutputStream& output,
                                                  CodingLevel level = DEFAULT_LEVEL,
                                                  std::source_location where = std::source_location::current());

/// Codes a body at once, for what is coded seldom and sent often. Throws as newEncodingStream() does.
std::vector<std::byte> encode(ContentCoding coding, std::span<const std::byte> bytes, CodingLevel level = DEFAULT_LEVEL,
                              std::source_location where = std::source_location::current());

/// Decodes a body at once. Throws what newDecodingStream() throws, and what reading it fails with.
std::vector<std::byte> decode(ContentCoding coding, std::span<const std::byte> bytes, const DecodingLimits& limits = {},
                              std::source_location where = std::source_location::current());

} // namespace http
} // namespace v0
} // namespace troth
