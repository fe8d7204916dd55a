// SPDX-License-Identifier: MIT
// What a time-out says.
#include <troth/timers/duration_text_detail.h>
#include <troth/timers/time_math_detail.h>

#include <fmt/format.h>

namespace troth {
inline namespace v0 {

std::string detail::durationText(Duration duration) {
  using namespace std::chrono;
  const auto count = duration.count();
  if (count >= 1'000'000'000) return fmt::format("{:g}s", static_cast<double>(count) / 1e9);
  if (count >= 1'000'000) return fmt::format("{:g}ms", static_cast<double>(count) / 1e6);
  if (count >= 1'000) return fmt::format("{:g}us", static_cast<double>(count) / 1e3);
  return fmt::format("{}ns", count);
}

Duration Timer::untilFrom(TimePoint now, TimePoint time) noexcept { return detail::timeBetween(now, time); }

void Timer::throwTimedOut(Duration delay, std::string_view what, std::source_location where) {
  std::string text = "timed out after " + detail::durationText(delay);
  if (!what.empty()) text.append(": ").append(what);
  throw Exception(Exception::Kind::OVERLOADED, text, std::make_error_code(std::errc::timed_out), where);
}

} // namespace v0
} // namespace troth
