// SPDX-License-Identifier: MIT
// Scanning of parameters, each byte once.
#include <troth/net/http/parameters_detail.h>

#include <troth/net/http/text_detail.h>

#include <cstddef>

namespace troth {
inline namespace v0 {
namespace http {
namespace detail {

namespace {

std::size_t tokenLength(std::string_view text) noexcept {
  std::size_t length = 0;
  while (length < text.size() && isTokenCharacter(text[length])) ++length;
  return length;
}

// The length of the quoted string at the front of `text`, quotes included; npos if it has no end, or holds what it may
// not.
std::size_t quotedLength(std::string_view text) noexcept {
  for (std::size_t i = 1; i < text.size(); ++i) {
    if (text[i] == '"') return i + 1;
    if (!isValueCharacter(text[i])) break;
    if (text[i] == '\\' && ++i < text.size() && !isValueCharacter(text[i])) break;
  }
  return std::string_view::npos;
}

} // namespace

void ParameterScanner::skipBlanks() noexcept {
  while (!rest_.empty() && isBlank(rest_.front())) rest_.remove_prefix(1);
}

std::optional<Parameter> ParameterScanner::refuse() noexcept {
  malformed_ = true;
  rest_ = {};
  return std::nullopt;
}

std::optional<Parameter> ParameterScanner::next() noexcept {
  for (;;) {
    skipBlanks();
    if (rest_.empty()) return std::nullopt;
    if (rest_.front() != ';') return refuse();
    rest_.remove_prefix(1);
    skipBlanks();
    if (!rest_.empty() && rest_.front() != ';') break; // parameters may be empty
  }
  Parameter parameter;
  parameter.name = rest_.substr(0, tokenLength(rest_));
  rest_.remove_prefix(parameter.name.size());
  if (parameter.name.empty() || !rest_.starts_with('=')) return refuse();
  rest_.remove_prefix(1);
  parameter.isQuoted = rest_.starts_with('"');
  const std::size_t length = parameter.isQuoted ? quotedLength(rest_) : tokenLength(rest_);
  if (length == 0 || length == std::string_view::npos) return refuse();
  parameter.value = parameter.isQuoted ? rest_.substr(1, length - 2) : rest_.substr(0, length);
  rest_.remove_prefix(length);
  return parameter;
}

std::string unquoted(const Parameter& parameter, Escapes escapes) {
  if (!parameter.isQuoted) return std::string(parameter.value);
  std::string text;
  text.reserve(parameter.value.size());
  for (std::size_t i = 0; i < parameter.value.size(); ++i) {
    const char c = parameter.value[i];
    if (c == '\\' && i + 1 < parameter.value.size()) {
      const char escaped = parameter.value[i + 1];
      if (escapes == Escapes::ALL || escaped == '"' || escaped == '\\') ++i;
    }
    text += parameter.value[i];
  }
  return text;
}

std::string quotedIfNeeded(std::string_view value) {
  if (isToken(value)) return std::string(value);
  std::string text = "\"";
  for (char c : value) {
    if (c == '"' || c == '\\') text += '\\';
    text += c;
  }
  return text += '"';
}

} // namespace detail
} // namespace http
} // namespace v0
} // namespace troth
