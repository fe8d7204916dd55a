// SPDX-License-Identifier: MIT
// Percent-encoding (RFC 3986, section 2.1) of the parts of a URL.
#pragma once

#include <cstdint>
#include <optional>
#include <source_location>
#include <string>
#include <string_view>

namespace troth {
inline namespace v0 {
namespace http {

/// What a text is to become a part of, which decides on the characters that may stand in it as they are.
enum class UrlPart : std::uint8_t {
  VALUE,        ///< anything: only letters, digits and "-._~" stay, so that nothing in it separates anything
  USER_INFO,    ///< user and password, with the colon between them
  PATH_SEGMENT, ///< what is between two slashes of a path
  PATH,         ///< a path: slashes stay
  QUERY,        ///< a query as a whole: "&", "=" and "+" stay. For its names and values there is Query.
  FRAGMENT
};

/// `bytes`, with each one that `part` may not hold as "%XX". A "%" becomes "%25": what is encoded already is encoded
/// again.
std::string percentEncode(std::string_view bytes, UrlPart part = UrlPart::VALUE);

/// The bytes that `text` stands for. "+" stays what it is (in forms and queries it is a space: see Query). They may be
/// any: NUL, a slash or a half of a UTF-8 sequence. Throws FAILED if a "%" is not followed by two hexadecimal digits.
std::string percentDecode(std::string_view text, std::source_location where = std::source_location::current());

/// The same; nothing if `text` is malformed.
std::optional<std::string> tryPercentDecode(std::string_view text);

} // namespace http
} // namespace v0
} // namespace troth
