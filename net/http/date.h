// SPDX-License-Identifier: MIT
// Dates as HTTP writes them: "Sun, 06 Nov 1994 08:49:37 GMT".
#pragma once

#include <chrono>
#include <cstddef>
#include <optional>
#include <source_location>
#include <span>
#include <string>
#include <string_view>

namespace troth {
inline namespace v0 {
namespace http {

/// The bytes of a date.
inline constexpr std::size_t HTTP_DATE_SIZE = 29;

/// Writes `time` into `buffer` in the one form that is sent (IMF-fixdate of RFC 9110, section 5.6.7). It allocates
/// nothing and knows no locale. Throws FAILED unless its year is 0 to 9999.
void formatHttpDate(std::chrono::sys_seconds time, std::span<char, HTTP_DATE_SIZE> buffer,
                    std::source_location where = std::source_location::current());

/// The same as a string.
std::string formatHttpDate(std::chrono::sys_seconds time, std::source_location where = std::source_location::current());

/// Reads a date in any of the three forms that a recipient must know (RFC 9110, section 5.6.7); nothing if it is
/// malformed, or no date, such as 30 Feb. That the day of the week is the right one is not asked for. `now` decides
/// which century is meant by a year of two digits: none is more than 50 years ahead.
std::optional<std::chrono::sys_seconds> parseHttpDate(std::string_view text, std::chrono::sys_seconds now) noexcept;
/// The same by the system's clock.
std::optional<std::chrono::sys_seconds> parseHttpDate(std::string_view text) noexcept;

} // namespace http
} // namespace v0
} // namespace troth
