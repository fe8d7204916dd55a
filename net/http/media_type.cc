// SPDX-License-Identifier: MIT
// Parsing of media types.
#include <troth/net/http/media_type.h>

#include <troth/net/http/parameters_detail.h>
#include <troth/net/http/text_detail.h>
#include <troth/runtime/exception.h>
#include <troth/runtime/quote_detail.h>

#include <algorithm>

namespace troth {
inline namespace v0 {
namespace http {

namespace {

constexpr std::size_t MAX_PARAMETERS = 32;

std::string lowered(std::string_view text) {
  std::string lower(text);
  for (char& c : lower) c = detail::toLower(c);
  return lower;
}

} // namespace

std::optional<MediaType> MediaType::tryParse(std::string_view text) {
  text = detail::trimmed(text);
  const std::size_t end = std::min(text.find(';'), text.size());
  const std::string_view essence = detail::trimmed(text.substr(0, end));
  const std::size_t slash = essence.find('/');
  if (slash == std::string_view::npos || !detail::isToken(essence.substr(0, slash)) ||
      !detail::isToken(essence.substr(slash + 1)))
    return std::nullopt;
  MediaType type;
  type.essence_ = lowered(essence);
  type.slash_ = slash;
  detail::ParameterScanner scanner(text.substr(end));
  while (const std::optional<detail::Parameter> parameter = scanner.next()) {
    if (type.parameters_.size() == MAX_PARAMETERS) return std::nullopt;
    type.parameters_.emplace_back(lowered(parameter->name), detail::unquoted(*parameter));
  }
  if (scanner.isMalformed()) return std::nullopt;
  return type;
}

MediaType MediaType::parse(std::string_view text, std::source_location where) {
  std::optional<MediaType> type = tryParse(text);
  if (!type) troth::detail::throwMisuse("HTTP: " + troth::detail::quote(text) + " is no media type", where);
  return *std::move(type);
}

bool MediaType::is(std::string_view essence) const noexcept { return detail::equalsIgnoringCase(essence_, essence); }

std::optional<std::string_view> MediaType::get(std::string_view name) const noexcept {
  for (const auto& [parameter, value] : parameters_)
    if (detail::equalsIgnoringCase(parameter, name)) return value;
  return std::nullopt;
}

std::string MediaType::toString() const {
  std::string text = essence_;
  for (const auto& [name, value] : parameters_)
    text.append("; ").append(name).append("=").append(detail::quotedIfNeeded(value));
  return text;
}

} // namespace http
} // namespace v0
} // namespace troth
