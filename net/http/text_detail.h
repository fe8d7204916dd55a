// SPDX-License-Identifier: MIT
// What RFC 9110 says of characters: tokens, field values, optional white space, and letters of either case.
#pragma once

#include <troth/net/http/byte_scan_detail.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace troth {
inline namespace v0 {
namespace http {
namespace detail {

constexpr char toLower(char c) noexcept {
  return static_cast<unsigned char>(c - 'A') < 26 ? static_cast<char>(c + ('a' - 'A')) : c;
}

constexpr bool isDigit(char c) noexcept { return static_cast<unsigned char>(c - '0') < 10; }

inline bool equalsIgnoringCase(std::string_view a, std::string_view b) noexcept {
  if (a.size() != b.size()) return false;
  const auto equal = [](Word x, Word y) { return x == y || lowerCased(x) == lowerCased(y); };
  std::size_t at = 0;
  for (; a.size() - at >= 8; at += 8)
    if (!equal(loadWord(a.data() + at), loadWord(b.data() + at))) return false;
  const std::size_t left = a.size() - at;
  return left == 0 || equal(loadPart(a.data() + at, left), loadPart(b.data() + at, left));
}

/// Whether each byte of `text` is marked in `table`. (Without an early end, which is rare: a loop without branches.)
constexpr bool allIn(const std::array<bool, 256>& table, std::string_view text) noexcept {
  bool all = true;
  for (const char c : text) all &= table[static_cast<unsigned char>(c)];
  return all;
}

/// tchar of RFC 9110, section 5.6.2.
constexpr std::array<bool, 256> makeTokenTable() {
  std::array<bool, 256> table{};
  for (unsigned c = '0'; c <= '9'; ++c) table[c] = true;
  for (unsigned c = 'a'; c <= 'z'; ++c) table[c] = table[c - 'a' + 'A'] = true;
  for (char c : std::string_view("!#$%&'*+-.^_`|~")) table[static_cast<unsigned char>(c)] = true;
  return table;
}
inline constexpr std::array<bool, 256> TOKEN_CHARACTERS = makeTokenTable();

constexpr bool isTokenCharacter(char c) noexcept { return TOKEN_CHARACTERS[static_cast<unsigned char>(c)]; }

/// One token character or more: what names of methods and fields consist of.
constexpr bool isToken(std::string_view text) noexcept { return !text.empty() && allIn(TOKEN_CHARACTERS, text); }

constexpr bool isValueCharacter(char c) noexcept {
  return (static_cast<unsigned char>(c) >= 0x20 && c != 0x7f) || c == '\t';
}

/// The first byte that a field's value may not hold, or the end: any but visible characters, space, tab, and bytes from
/// 0x80 (RFC 9110, section 5.5).
inline const char* endOfFieldValue(const char* at, const char* end) noexcept {
  for (;; ++at) {
    at = scan(at, end, ControlMarks());
    if (at == end || *at != '\t') return at;
  }
}

inline bool isFieldValue(std::string_view text) noexcept {
  constexpr ControlMarks marks;
  const char* const end = text.data() + text.size();
  Word found = 0;
  if (text.size() >= 8) [[likely]] {
    for (const char* at = text.data(); end - at > 8; at += 8) found |= marks(loadWord(at));
    found |= marks(loadWord(end - 8));
  } else if (!text.empty()) {
    found = marks(loadPart(text.data(), text.size()) | ' ' * EACH_BYTE << 8 * text.size());
  }
  return found == 0 || endOfFieldValue(text.data(), end) == end; // a tab is allowed
}

/// OWS of RFC 9110, section 5.6.3.
constexpr bool isBlank(char c) noexcept { return c == ' ' || c == '\t'; }

/// Without the spaces and tabs at both ends.
constexpr std::string_view trimmed(std::string_view text) noexcept {
  if (!text.empty() && !isBlank(text.front()) && !isBlank(text.back())) [[likely]]
    return text;
  while (!text.empty() && isBlank(text.front())) text.remove_prefix(1);
  while (!text.empty() && isBlank(text.back())) text.remove_suffix(1);
  return text;
}

/// Takes the next element, trimmed, off a comma-separated list (RFC 9110, section 5.6.1), whose quoted strings may hold
/// commas; empty elements are skipped. Nothing at the end of the list.
std::optional<std::string_view> nextElement(std::string_view& list) noexcept;

/// Digits only, and no more than 2^64 - 1; nothing otherwise.
std::optional<std::uint64_t> parseDecimal(std::string_view text) noexcept;

} // namespace detail
} // namespace http
} // namespace v0
} // namespace troth
