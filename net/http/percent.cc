// SPDX-License-Identifier: MIT
// Percent-encoding.
#include <troth/net/http/percent.h>

#include <troth/net/http/uri_text_detail.h>
#include <troth/runtime/exception.h>
#include <troth/runtime/quote_detail.h>

namespace troth {
inline namespace v0 {
namespace http {

namespace {

std::uint8_t allowedIn(UrlPart part) noexcept {
  switch (part) {
  case UrlPart::USER_INFO:
    return detail::URI_USER_INFO;
  case UrlPart::PATH_SEGMENT:
    return detail::URI_SEGMENT;
  case UrlPart::PATH:
    return detail::URI_PATH;
  case UrlPart::QUERY:
  case UrlPart::FRAGMENT:
    return detail::URI_QUERY;
  case UrlPart::VALUE:
    break;
  }
  return detail::URI_UNRESERVED;
}

} // namespace

std::string percentEncode(std::string_view bytes, UrlPart part) {
  const std::uint8_t allowed = allowedIn(part);
  std::string text;
  text.reserve(bytes.size());
  for (char byte : bytes) {
    if (detail::isUriCharacter(byte, allowed)) {
      text += byte;
    } else {
      detail::appendPercent(text, byte);
    }
  }
  return text;
}

std::optional<std::string> tryPercentDecode(std::string_view text) {
  std::string bytes;
  bytes.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      bytes += text[i];
      continue;
    }
    const int byte = detail::percentByte(text, i);
    if (byte < 0) return std::nullopt;
    bytes += static_cast<char>(byte);
    i += 2;
  }
  return bytes;
}

std::string percentDecode(std::string_view text, std::source_location where) {
  std::optional<std::string> bytes = tryPercentDecode(text);
  if (!bytes)
    troth::detail::throwMisuse(
        "percentDecode: " + troth::detail::quote(text) + " has a % without two hexadecimal digits behind it", where);
  return *std::move(bytes);
}

} // namespace http
} // namespace v0
} // namespace troth
