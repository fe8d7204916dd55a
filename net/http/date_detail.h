// SPDX-License-Identifier: MIT
// A point in time from its fields, for those who read dates.
#pragma once

#include <chrono>
#include <optional>

namespace troth {
inline namespace v0 {
namespace http {
namespace detail {

struct TimeOfDay {
  unsigned hour = 0;
  unsigned minute = 0;
  unsigned second = 0;
};

/// Nothing if there is no such day or time.
std::optional<std::chrono::sys_seconds> composeTime(int fullYear, unsigned monthNumber, unsigned dayNumber,
                                                    TimeOfDay time) noexcept;

} // namespace detail
} // namespace http
} // namespace v0
} // namespace troth
