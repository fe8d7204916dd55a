// SPDX-License-Identifier: MIT
// Durations as text, for messages.
#pragma once

#include <troth/timers/timer.h>

#include <string>

namespace troth {
inline namespace v0 {
namespace detail {

/// "250ms", "1.5s", "30s": the unit in which a person would say it.
std::string durationText(Duration duration);

} // namespace detail
} // namespace v0
} // namespace troth
