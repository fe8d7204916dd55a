// SPDX-License-Identifier: MIT
// Text from outside as error messages show it.
#include <troth/runtime/quote_detail.h>

#include <fmt/format.h>

namespace troth {
inline namespace v0 {
namespace detail {

std::string quote(std::string_view text) {
  constexpr std::size_t MAX_SHOWN = 100;
  std::string out = "\"";
  for (const char c : text.substr(0, MAX_SHOWN)) {
    if (c == '"' || c == '\\')
      out += {'\\', c};
    else if (c < ' ' || c > '~')
      out += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    else
      out += c;
  }
  out += text.size() > MAX_SHOWN ? "…\"" : "\"";
  return out;
}

} // namespace detail
} // namespace v0
} // namespace troth
