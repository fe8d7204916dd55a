// SPDX-License-Identifier: MIT
// What may be a boundary of a multipart body.
#pragma once

#include <troth/net/http/text_detail.h>

#include <string_view>

namespace troth {
inline namespace v0 {
namespace http {
namespace detail {

/// boundary of RFC 2046, section 5.1.1: 1 to 70 of these characters, of which the last is no space. There is no CR.
constexpr bool isBoundary(std::string_view text) noexcept {
  if (text.empty() || text.size() > 70 || text.back() == ' ') return false;
  for (char c : text) {
    const char lower = toLower(c);
    if (!isDigit(c) && (lower < 'a' || lower > 'z') &&
        std::string_view("'()+_,-./:=? ").find(c) == std::string_view::npos)
      return false;
  }
  return true;
}

} // namespace detail
} // namespace http
} // namespace v0
} // namespace troth
