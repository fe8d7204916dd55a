// SPDX-License-Identifier: MIT
// Parameters of a field's value: "; name=value; other=\"quoted\"" (RFC 9110, section 5.6.6).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace troth {
inline namespace v0 {
namespace http {
namespace detail {

struct Parameter {
  std::string_view name;
  std::string_view value; // of a quoted string, what is within the quotes, escapes and all
  bool isQuoted = false;
};

/// Goes over the parameters of a text, which begins with the first one's semicolon, or is empty.
class ParameterScanner {
public:
  explicit ParameterScanner(std::string_view text) noexcept : rest_(text) {}

  /// The next parameter; nothing at the end, and when what follows is malformed.
  std::optional<Parameter> next() noexcept;
  /// Whether the end was not reached because the text is malformed.
  bool isMalformed() const noexcept { return malformed_; }

private:
  std::string_view rest_;
  bool malformed_ = false;

  void skipBlanks() noexcept;
  std::optional<Parameter> refuse() noexcept;
};

enum class Escapes : std::uint8_t {
  ALL,        ///< a backslash stands for the character behind it (RFC 9110, section 5.6.4)
  QUOTES_ONLY ///< before a quote or a backslash only: for names of files, in which it may be one of the name's own
};

/// What the parameter's value stands for.
std::string unquoted(const Parameter& parameter, Escapes escapes = Escapes::ALL);

/// `value` as a parameter has it: as it is if it is a token, else as a quoted string. It has no control characters.
std::string quotedIfNeeded(std::string_view value);

} // namespace detail
} // namespace http
} // namespace v0
} // namespace troth
