// SPDX-License-Identifier: MIT
// MediaType: what a body is, such as "text/html; charset=utf-8".
#pragma once

#include <optional>
#include <source_location>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace troth {
inline namespace v0 {
namespace http {

/// A media type with its parameters (RFC 9110, section 8.3.1). Types and names of parameters are in lower case, values
/// as they were sent, without quotes.
class MediaType {
public:
  /// Parses the value of a Content-Type field. Throws FAILED with `text` quoted if it is malformed or has more than 32
  /// parameters.
  static MediaType parse(std::string_view text, std::source_location where = std::source_location::current());
  /// The same; nothing if it is malformed.
  static std::optional<MediaType> tryParse(std::string_view text);

  /// "text/html".
  const std::string& essence() const noexcept { return essence_; }
  /// "text".
  std::string_view type() const noexcept { return std::string_view(essence_).substr(0, slash_); }
  /// "html".
  std::string_view subtype() const noexcept { return std::string_view(essence_).substr(slash_ + 1); }
  /// Whether it is `essence`, such as "application/json", whatever the parameters.
  bool is(std::string_view essence) const noexcept;

  /// The value of the first parameter of this name, in any case; nothing if there is none.
  std::optional<std::string_view> get(std::string_view name) const noexcept;
  /// The parameters in their order.
  const std::vector<std::pair<std::string, std::string>>& parameters() const noexcept { return parameters_; }

  /// "text/html; charset=utf-8", with quotes where they are needed.
  std::string toString() const;

private:
  std::string essence_;
  std::size_t slash_ = 0;
  std::vector<std::pair<std::string, std::string>> parameters_;
};

} // namespace http
} // namespace v0
} // namespace troth
