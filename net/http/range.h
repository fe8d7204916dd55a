// SPDX-License-Identifier: MIT
// Range requests: which bytes of a resource a client wants, and how they are sent.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <source_location>
#include <string>
#include <string_view>
#include <vector>

namespace troth {
inline namespace v0 {
namespace http {

/// Bytes of a resource, counted from 0, both ends included.
struct ByteRange {
  std::uint64_t first;
  std::uint64_t last; // not less than `first`

  std::uint64_t length() const noexcept { return last - first + 1; }
  friend bool operator==(const ByteRange&, const ByteRange&) noexcept = default;
};

/// What the Range field of a request asks for, of a resource of a known length.
struct ByteRanges {
  enum class Kind : std::uint8_t {
    WHOLE,        ///< answer as if there were no such field
    PARTIAL,      ///< answer 206 with these ranges: one of them by itself, or several as multipart/byteranges
    UNSATISFIABLE ///< answer 416: all of them are behind the end
  };
  static constexpr std::size_t DEFAULT_MOST = 16;

  Kind kind = Kind::WHOLE;
  std::vector<ByteRange> ranges = {}; // in the order of the request, within the resource; for PARTIAL

  /// Parses the field's value (RFC 9110, section 14.1.2). A server need not do as it is told, so nobody gets more out
  /// of it than the resource has: more than `most` ranges, or ranges that overlap, are ignored (WHOLE), as is what is
  /// malformed or in other units than bytes. Ranges behind the end are left out, if others are not.
  static ByteRanges of(std::string_view value, std::uint64_t length, std::size_t most = DEFAULT_MOST);
};

/// The value of a Content-Range field for 206 (RFC 9110, section 14.4): "bytes 0-99/1234".
std::string contentRange(const ByteRange& range, std::uint64_t length);
/// The value of a Content-Range field for 416: "bytes */1234".
std::string contentRangeUnsatisfied(std::uint64_t length);

/// A Content-Range field, read by a client.
struct ContentRange {
  std::optional<ByteRange> range = {};      // nothing: "*"
  std::optional<std::uint64_t> length = {}; // nothing: "*"

  /// Nothing if it is malformed, or not of bytes.
  static std::optional<ContentRange> tryParse(std::string_view value);
};

/// What stands in front of a range's bytes in a multipart/byteranges body (RFC 9110, section 14.6), and what stands
/// behind the last one's. `boundary` is one by RFC 2046, section 5.1.1, which the resource does not have; the type is
/// the resource's, left out if empty. Throws FAILED if these could break the body.
std::string byteRangeHead(std::string_view boundary, std::string_view contentType, const ByteRange& range,
                          std::uint64_t length, std::source_location where = std::source_location::current());
std::string byteRangesEnd(std::string_view boundary, std::source_location where = std::source_location::current());

} // namespace http
} // namespace v0
} // namespace troth
