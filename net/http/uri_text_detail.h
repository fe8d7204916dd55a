// SPDX-License-Identifier: MIT
// What RFC 3986 says of characters: which part of a URI may hold which, and percent-encoded ones.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace troth {
inline namespace v0 {
namespace http {
namespace detail {

/// The kinds of characters, as bits.
enum UriCharacter : std::uint8_t {
  URI_UNRESERVED = 1, // RFC 3986, section 2.3
  URI_SUB_DELIM = 2,  // section 2.2
  URI_COLON = 4,
  URI_AT = 8,
  URI_SLASH = 16,
  URI_QUESTION = 32,
  URI_HEX_DIGIT = 64,

  // What the parts consist of, besides percent-encoded bytes (section 3).
  URI_REG_NAME = URI_UNRESERVED | URI_SUB_DELIM,
  URI_USER_INFO = URI_REG_NAME | URI_COLON,
  URI_SEGMENT = URI_USER_INFO | URI_AT,
  URI_PATH = URI_SEGMENT | URI_SLASH,
  URI_QUERY = URI_PATH | URI_QUESTION
};

constexpr std::array<std::uint8_t, 256> makeUriTable() {
  std::array<std::uint8_t, 256> table{};
  const auto mark = [&](std::string_view characters, std::uint8_t kind) {
    for (char c : characters) table[static_cast<unsigned char>(c)] |= kind;
  };
  mark("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~", URI_UNRESERVED);
  mark("!$&'()*+,;=", URI_SUB_DELIM);
  mark(":", URI_COLON);
  mark("@", URI_AT);
  mark("/", URI_SLASH);
  mark("?", URI_QUESTION);
  mark("0123456789abcdefABCDEF", URI_HEX_DIGIT);
  return table;
}
inline constexpr std::array<std::uint8_t, 256> URI_CHARACTERS = makeUriTable();

constexpr bool isUriCharacter(char c, std::uint8_t kinds) noexcept {
  return (URI_CHARACTERS[static_cast<unsigned char>(c)] & kinds) != 0;
}

/// The value of a hexadecimal digit; -1 if it is none.
constexpr int hexValue(char c) noexcept {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

/// The byte that the percent-encoding at `text[at]` stands for; -1 if there is none.
constexpr int percentByte(std::string_view text, std::size_t at) noexcept {
  if (text.size() < 3 || at > text.size() - 3 || text[at] != '%') return -1;
  const int high = hexValue(text[at + 1]), low = hexValue(text[at + 2]);
  return high < 0 || low < 0 ? -1 : high * 16 + low;
}

/// Appends "%XX" to a string of whatever kind.
template <typename String>
void appendPercent(String& to, char byte) {
  constexpr char DIGITS[] = "0123456789ABCDEF";
  const auto value = static_cast<unsigned char>(byte);
  to += '%';
  to += DIGITS[value >> 4];
  to += DIGITS[value & 15];
}

/// Where the first character stands that is neither of these kinds nor part of a percent-encoding; the size if all are.
constexpr std::size_t findBadUriCharacter(std::string_view text, std::uint8_t kinds) noexcept {
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (isUriCharacter(text[i], kinds)) continue;
    if (percentByte(text, i) < 0) return i;
    i += 2;
  }
  return text.size();
}

} // namespace detail
} // namespace http
} // namespace v0
} // namespace troth
