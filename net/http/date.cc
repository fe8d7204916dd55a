// SPDX-License-Identifier: MIT
// Dates of HTTP, written and read field by field.
#include <troth/net/http/date.h>

#include <troth/net/http/date_detail.h>
#include <troth/net/http/text_detail.h>
#include <troth/runtime/exception.h>

#include <algorithm>

namespace troth {
inline namespace v0 {
namespace http {

using namespace std::chrono;

namespace {

constexpr std::string_view DAYS[] = {"Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"};
constexpr std::string_view MONTHS[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                       "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};

/// Takes what is expected off the front of a text. Once something else came, it has failed for good.
class Scanner {
public:
  explicit Scanner(std::string_view text) noexcept : rest_(text) {}

  bool isDone() const noexcept { return ok_ && rest_.empty(); }
  bool startsWith(std::string_view text) const noexcept { return rest_.starts_with(text); }

  void expect(std::string_view text) noexcept {
    ok_ = ok_ && rest_.starts_with(text);
    if (ok_) rest_.remove_prefix(text.size());
  }
  unsigned number(std::size_t digits) noexcept {
    const std::optional<std::uint64_t> value = detail::parseDecimal(rest_.substr(0, digits));
    ok_ = ok_ && rest_.size() >= digits && value.has_value();
    if (!ok_) return 0;
    rest_.remove_prefix(digits);
    return static_cast<unsigned>(*value);
  }
  /// The day of asctime(), whose first digit may be a space.
  unsigned paddedDay() noexcept {
    if (!startsWith(" ")) return number(2);
    expect(" ");
    return number(1);
  }
  unsigned month() noexcept {
    for (unsigned i = 0; i < 12; ++i) {
      if (!startsWith(MONTHS[i])) continue;
      expect(MONTHS[i]);
      return i + 1;
    }
    ok_ = false;
    return 0;
  }
  detail::TimeOfDay time() noexcept {
    detail::TimeOfDay time;
    time.hour = number(2);
    expect(":");
    time.minute = number(2);
    expect(":");
    time.second = number(2);
    return time;
  }

private:
  std::string_view rest_;
  bool ok_ = true;
};

// The length of the name of a day at the front of `text`, as a whole or its first three letters; 0 if there is none.
std::size_t dayNameLength(std::string_view text) noexcept {
  for (std::string_view day : DAYS) {
    if (text.starts_with(day)) return day.size();
    if (text.starts_with(day.substr(0, 3))) return 3;
  }
  return 0;
}

// RFC 9110, section 5.6.7: a date that seems to be more than 50 years ahead is of the past.
int fullYear(unsigned twoDigits, sys_seconds now) noexcept {
  const int thisYear = static_cast<int>(year_month_day(floor<days>(now)).year());
  int full = thisYear - thisYear % 100 + static_cast<int>(twoDigits);
  if (full > thisYear + 50) full -= 100;
  if (full <= thisYear - 50) full += 100;
  return full;
}

} // namespace

std::optional<sys_seconds> detail::composeTime(int fullYear, unsigned monthNumber, unsigned dayNumber,
                                               TimeOfDay time) noexcept {
  const year_month_day date = year(fullYear) / static_cast<int>(monthNumber) / static_cast<int>(dayNumber);
  // A second of 60 is a leap second: the next minute's first one, as POSIX counts.
  if (!date.ok() || time.hour > 23 || time.minute > 59 || time.second > 60) return std::nullopt;
  return sys_seconds(sys_days(date)) + hours(time.hour) + minutes(time.minute) + seconds(time.second);
}

void formatHttpDate(sys_seconds time, std::span<char, HTTP_DATE_SIZE> buffer, std::source_location where) {
  // Compared before they are taken apart: the calendar's years have 16 bits.
  constexpr sys_seconds FIRST = sys_days(year(0) / 1 / 1), LAST = sys_days(year(10000) / 1 / 1) - seconds(1);
  if (time < FIRST || time > LAST) troth::detail::throwMisuse("formatHttpDate: the year is not 0 to 9999", where);
  const sys_days date = floor<days>(time);
  const year_month_day calendar(date);
  const hh_mm_ss clock(time - date);
  char* at = buffer.data();
  const auto text = [&](std::string_view part) { at = std::ranges::copy(part, at).out; };
  const auto digits = [&](unsigned value, unsigned scale) {
    for (; scale > 0; scale /= 10) *at++ = static_cast<char>('0' + value / scale % 10);
  };
  text(DAYS[weekday(date).c_encoding()].substr(0, 3));
  text(", ");
  digits(static_cast<unsigned>(calendar.day()), 10);
  text(" ");
  text(MONTHS[static_cast<unsigned>(calendar.month()) - 1]);
  text(" ");
  digits(static_cast<unsigned>(static_cast<int>(calendar.year())), 1000);
  text(" ");
  digits(static_cast<unsigned>(clock.hours().count()), 10);
  text(":");
  digits(static_cast<unsigned>(clock.minutes().count()), 10);
  text(":");
  digits(static_cast<unsigned>(clock.seconds().count()), 10);
  text(" GMT");
}

std::string formatHttpDate(sys_seconds time, std::source_location where) {
  std::string text(HTTP_DATE_SIZE, ' ');
  formatHttpDate(time, std::span<char, HTTP_DATE_SIZE>(text.data(), HTTP_DATE_SIZE), where);
  return text;
}

std::optional<sys_seconds> parseHttpDate(std::string_view text, sys_seconds now) noexcept {
  const std::size_t nameLength = dayNameLength(text);
  if (nameLength == 0) return std::nullopt;
  Scanner scanner(text.substr(nameLength));
  unsigned dayNumber = 0, monthNumber = 0;
  int yearNumber = 0;
  detail::TimeOfDay time;
  if (nameLength == 3 && scanner.startsWith(" ")) { // asctime: "Sun Nov  6 08:49:37 1994"
    scanner.expect(" ");
    monthNumber = scanner.month();
    scanner.expect(" ");
    dayNumber = scanner.paddedDay();
    scanner.expect(" ");
    time = scanner.time();
    scanner.expect(" ");
    yearNumber = static_cast<int>(scanner.number(4));
  } else { // "Sun, 06 Nov 1994 08:49:37 GMT" or, by RFC 850, "Sunday, 06-Nov-94 08:49:37 GMT"
    scanner.expect(", ");
    dayNumber = scanner.number(2);
    const std::string_view separator = scanner.startsWith("-") ? "-" : " ";
    scanner.expect(separator);
    monthNumber = scanner.month();
    scanner.expect(separator);
    yearNumber = separator == "-" ? fullYear(scanner.number(2), now) : static_cast<int>(scanner.number(4));
    scanner.expect(" ");
    time = scanner.time();
    scanner.expect(" GMT");
  }
  if (!scanner.isDone()) return std::nullopt;
  return detail::composeTime(yearNumber, monthNumber, dayNumber, time);
}

std::optional<sys_seconds> parseHttpDate(std::string_view text) noexcept {
  return parseHttpDate(text, floor<seconds>(system_clock::now()));
}

} // namespace http
} // namespace v0
} // namespace troth
