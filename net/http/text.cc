// SPDX-License-Identifier: MIT
// Lists and numbers in header fields.
#include <troth/net/http/text_detail.h>

#include <charconv>

namespace troth {
inline namespace v0 {
namespace http {
namespace detail {

namespace {

// Where the element at the front of `list` ends: at the first comma outside of a quoted string.
std::size_t elementLength(std::string_view list) noexcept {
  bool quoted = false;
  for (std::size_t i = 0; i < list.size(); ++i) {
    if (quoted && list[i] == '\\') {
      ++i;
    } else if (list[i] == '"') {
      quoted = !quoted;
    } else if (list[i] == ',' && !quoted) {
      return i;
    }
  }
  return list.size();
}

} // namespace

std::optional<std::string_view> nextElement(std::string_view& list) noexcept {
  while (!list.empty()) {
    const std::size_t length = elementLength(list);
    const std::string_view element = trimmed(list.substr(0, length));
    list.remove_prefix(length < list.size() ? length + 1 : length);
    if (!element.empty()) return element;
  }
  return std::nullopt;
}

std::optional<std::uint64_t> parseDecimal(std::string_view text) noexcept {
  std::uint64_t number = 0;
  const char* const end = text.data() + text.size();
  if (text.empty() || !isDigit(text.front())) return std::nullopt;
  const auto [stopped, error] = std::from_chars(text.data(), end, number);
  if (error != std::errc() || stopped != end) return std::nullopt;
  return number;
}

} // namespace detail
} // namespace http
} // namespace v0
} // namespace troth
