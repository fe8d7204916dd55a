// SPDX-License-Identifier: MIT
// Cookies: lenient in what is read, strict in what is written.
#include <troth/net/http/cookie.h>

#include <troth/net/http/date.h>
#include <troth/net/http/date_detail.h>
#include <troth/net/http/http_error.h>
#include <troth/net/http/text_detail.h>
#include <troth/runtime/exception.h>
#include <troth/runtime/quote_detail.h>

#include <algorithm>
#include <limits>

namespace troth {
inline namespace v0 {
namespace http {

using namespace std::chrono;
using detail::equalsIgnoringCase;

namespace {

// Takes what is in front of the next semicolon off `text`, and trims it.
std::string_view nextPiece(std::string_view& text) noexcept {
  const std::size_t length = std::min(text.find(';'), text.size());
  const std::string_view piece = detail::trimmed(text.substr(0, length));
  text.remove_prefix(std::min(length + 1, text.size()));
  return piece;
}

struct NameAndValue {
  std::string_view name;
  std::string_view value;
  bool hasEquals;
};

NameAndValue cutPair(std::string_view piece) noexcept {
  const std::size_t equals = piece.find('=');
  if (equals == std::string_view::npos) return {piece, {}, false};
  return {detail::trimmed(piece.substr(0, equals)), detail::trimmed(piece.substr(equals + 1)), true};
}

} // namespace

// ------------------------------------------------------------------------------------------- of a request

Cookies Cookies::of(const HeaderFields& request, const CookieLimits& limits, std::source_location where) {
  Cookies cookies;
  std::size_t bytes = 0;
  for (const HeaderField field : request) {
    if (field.id != HeaderId::COOKIE) continue;
    if (field.value.size() > limits.maxBytes - bytes)
      throw HttpError(431, "the cookies have more than " + std::to_string(limits.maxBytes) + " bytes", where);
    bytes += field.value.size();
    cookies.add(field.value, limits, where);
  }
  return cookies;
}

Cookies Cookies::parse(std::string_view text, const CookieLimits& limits, std::source_location where) {
  if (text.size() > limits.maxBytes)
    throw HttpError(431, "the cookies have more than " + std::to_string(limits.maxBytes) + " bytes", where);
  Cookies cookies;
  cookies.add(text, limits, where);
  return cookies;
}

void Cookies::add(std::string_view text, const CookieLimits& limits, const std::source_location& where) {
  while (!text.empty()) {
    const NameAndValue pair = cutPair(nextPiece(text));
    if (!pair.hasEquals || pair.name.empty()) continue;
    if (cookies_.size() == limits.maxCookies)
      throw HttpError(431, "there are more than " + std::to_string(limits.maxCookies) + " cookies", where);
    cookies_.push_back({pair.name, pair.value});
  }
}

std::optional<std::string_view> Cookies::get(std::string_view name) const noexcept {
  for (const Cookie& cookie : cookies_)
    if (cookie.name == name) return cookie.value;
  return std::nullopt;
}

// ------------------------------------------------------------------------------------------- to be set

namespace {

constexpr std::size_t MAX_NAME_AND_VALUE = 4096; // what browsers take (RFC 6265bis, section 5.6)

// cookie-octet of RFC 6265, section 4.1.1.
bool isCookieOctet(char c) noexcept { return c > ' ' && c <= '~' && c != '"' && c != ',' && c != ';' && c != '\\'; }

bool isCookieValue(std::string_view value) noexcept {
  if (value.size() >= 2 && value.front() == '"' && value.back() == '"') value = value.substr(1, value.size() - 2);
  return std::ranges::all_of(value, isCookieOctet);
}

bool isCookiePath(std::string_view path) noexcept {
  return path.starts_with('/') && std::ranges::all_of(path, [](char c) { return c >= ' ' && c <= '~' && c != ';'; });
}

// Letters, digits and hyphens between dots (RFC 1034, section 3.5, with RFC 1123's digits in front).
bool isCookieDomain(std::string_view domain) noexcept {
  if (domain.size() > 253) return false;
  char before = '.';
  for (char c : domain) {
    const char lower = detail::toLower(c);
    if (c == '.' ? before == '.' : !detail::isDigit(c) && c != '-' && (lower < 'a' || lower > 'z')) return false;
    before = c;
  }
  return before != '.';
}

bool beginsIgnoringCase(std::string_view text, std::string_view prefix) noexcept {
  return equalsIgnoringCase(text.substr(0, prefix.size()), prefix);
}

std::string check(const SetCookie& cookie) {
  using troth::detail::quote;
  if (!detail::isToken(cookie.name)) return "its name is no token";
  if (!isCookieValue(cookie.value)) return "its value " + quote(cookie.value) + " has what a cookie cannot hold";
  if (cookie.name.size() + cookie.value.size() > MAX_NAME_AND_VALUE) return "name and value have more than 4096 bytes";
  if (!cookie.path.empty() && !isCookiePath(cookie.path)) return "its path " + quote(cookie.path) + " is none";
  if (!cookie.domain.empty() && !isCookieDomain(cookie.domain))
    return "its domain " + quote(cookie.domain) + " is none";
  if (cookie.sameSite == SameSite::NONE && !cookie.secure) return "it has SameSite=None without Secure";
  if (cookie.partitioned && !cookie.secure) return "it is Partitioned without Secure";
  // RFC 6265bis, section 4.1.3.
  if (beginsIgnoringCase(cookie.name, "__Secure-") && !cookie.secure) return "__Secure- needs Secure";
  if (beginsIgnoringCase(cookie.name, "__Host-") && (!cookie.secure || cookie.path != "/" || !cookie.domain.empty()))
    return "__Host- needs Secure, the path / and no domain";
  return {};
}

std::string_view sameSiteName(SameSite sameSite) noexcept {
  switch (sameSite) {
  case SameSite::STRICT:
    return "Strict";
  case SameSite::LAX:
    return "Lax";
  case SameSite::NONE:
    return "None";
  case SameSite::UNSET:
    break;
  }
  return {};
}

} // namespace

std::string SetCookie::toString(std::source_location where) const {
  if (const std::string reason = check(*this); !reason.empty())
    troth::detail::throwMisuse("SetCookie: the cookie " + troth::detail::quote(name) + " cannot be set: " + reason,
                               where);
  std::string text = name + "=" + value;
  if (!path.empty()) text.append("; Path=").append(path);
  if (!domain.empty()) text.append("; Domain=").append(domain);
  if (maxAge) text.append("; Max-Age=").append(std::to_string(std::max<seconds::rep>(maxAge->count(), 0)));
  if (expires) text.append("; Expires=").append(formatHttpDate(*expires, where));
  if (secure) text += "; Secure";
  if (httpOnly) text += "; HttpOnly";
  if (sameSite != SameSite::UNSET) text.append("; SameSite=").append(sameSiteName(sameSite));
  if (partitioned) text += "; Partitioned";
  return text;
}

// ------------------------------------------------------------------------------------------- read by a client

namespace {

// RFC 6265, section 5.1.1: an algorithm that makes something of nearly every date.
class CookieDate {
public:
  std::optional<sys_seconds> parse(std::string_view text) noexcept {
    while (!text.empty()) {
      std::size_t length = 0;
      while (length < text.size() && !isDelimiter(text[length])) ++length;
      if (length > 0) take(text.substr(0, length));
      text.remove_prefix(std::min(length + 1, text.size()));
    }
    if (!hasTime_ || day_ == 0 || month_ == 0 || year_ < 0) return std::nullopt;
    if (year_ >= 70 && year_ <= 99) year_ += 1900;
    if (year_ <= 69) year_ += 2000;
    if (year_ < 1601 || time_.second > 59) return std::nullopt;
    return detail::composeTime(year_, month_, day_, time_);
  }

private:
  bool hasTime_ = false;
  detail::TimeOfDay time_;
  unsigned day_ = 0;
  unsigned month_ = 0;
  int year_ = -1;

  static bool isDelimiter(char c) noexcept {
    return c == '\t' || (c >= ' ' && c <= '/') || (c >= ';' && c <= '@') || (c >= '[' && c <= '`') ||
           (c >= '{' && c <= '~');
  }

  // The number of `least` to `most` digits at the front of `text`, which no digit follows; it is taken off.
  static std::optional<unsigned> digits(std::string_view& text, std::size_t least, std::size_t most) noexcept {
    std::size_t count = 0;
    while (count < text.size() && count <= most && detail::isDigit(text[count])) ++count;
    if (count < least || count > most) return std::nullopt;
    const std::optional<std::uint64_t> number = detail::parseDecimal(text.substr(0, count));
    text.remove_prefix(count);
    return static_cast<unsigned>(*number);
  }

  static bool takeColon(std::string_view& text) noexcept {
    if (!text.starts_with(':')) return false;
    text.remove_prefix(1);
    return true;
  }

  void take(std::string_view token) noexcept {
    if (!hasTime_ && takeTime(token)) return;
    if (day_ == 0) {
      std::string_view rest = token;
      if (const std::optional<unsigned> number = digits(rest, 1, 2)) {
        day_ = *number;
        return;
      }
    }
    if (month_ == 0 && takeMonth(token)) return;
    if (year_ < 0)
      if (const std::optional<unsigned> number = digits(token, 2, 4)) year_ = static_cast<int>(*number);
  }

  bool takeTime(std::string_view token) noexcept {
    const std::optional<unsigned> hour = digits(token, 1, 2);
    if (!hour || !takeColon(token)) return false;
    const std::optional<unsigned> minute = digits(token, 1, 2);
    if (!minute || !takeColon(token)) return false;
    const std::optional<unsigned> second = digits(token, 1, 2);
    if (!second) return false;
    time_ = {*hour, *minute, *second};
    return hasTime_ = true;
  }

  bool takeMonth(std::string_view token) noexcept {
    constexpr std::string_view MONTHS[] = {"jan", "feb", "mar", "apr", "may", "jun",
                                           "jul", "aug", "sep", "oct", "nov", "dec"};
    for (unsigned i = 0; i < 12; ++i) {
      if (!equalsIgnoringCase(token.substr(0, 3), MONTHS[i])) continue;
      month_ = i + 1;
      return true;
    }
    return false;
  }
};

// RFC 6265, section 5.2.2. What is too large for a number is as long as there is.
std::optional<seconds> parseMaxAge(std::string_view text) noexcept {
  const bool isNegative = text.starts_with('-');
  if (isNegative) text.remove_prefix(1);
  if (text.empty() || !std::ranges::all_of(text, detail::isDigit)) return std::nullopt;
  if (isNegative) return seconds(0);
  constexpr std::uint64_t MOST = std::numeric_limits<std::int32_t>::max();
  return seconds(static_cast<seconds::rep>(std::min(detail::parseDecimal(text).value_or(MOST), MOST)));
}

std::string parseDomain(std::string_view text) {
  if (text.starts_with('.')) text.remove_prefix(1);
  std::string domain(text);
  for (char& c : domain) c = detail::toLower(c);
  return domain;
}

SameSite parseSameSite(std::string_view text) noexcept {
  for (const SameSite sameSite : {SameSite::STRICT, SameSite::LAX, SameSite::NONE})
    if (equalsIgnoringCase(text, sameSiteName(sameSite))) return sameSite;
  return SameSite::UNSET;
}

void takeAttribute(SetCookie& cookie, const NameAndValue& attribute) {
  const auto is = [&](std::string_view name) { return equalsIgnoringCase(attribute.name, name); };
  if (is("Expires")) {
    if (const std::optional<sys_seconds> time = CookieDate().parse(attribute.value)) cookie.expires = time;
  } else if (is("Max-Age")) {
    if (const std::optional<seconds> age = parseMaxAge(attribute.value)) cookie.maxAge = age;
  } else if (is("Domain")) {
    if (!attribute.value.empty()) cookie.domain = parseDomain(attribute.value);
  } else if (is("Path")) {
    cookie.path = attribute.value.starts_with('/') ? attribute.value : std::string_view();
  } else if (is("Secure")) {
    cookie.secure = true;
  } else if (is("HttpOnly")) {
    cookie.httpOnly = true;
  } else if (is("SameSite")) {
    cookie.sameSite = parseSameSite(attribute.value);
  } else if (is("Partitioned")) {
    cookie.partitioned = true;
  }
}

} // namespace

std::optional<SetCookie> SetCookie::parse(std::string_view text) {
  // RFC 6265bis, section 5.6: control characters are reason enough.
  if (!detail::isFieldValue(text)) return std::nullopt;
  const NameAndValue pair = cutPair(nextPiece(text));
  if (!pair.hasEquals || pair.name.empty()) return std::nullopt;
  SetCookie cookie;
  cookie.name = pair.name;
  cookie.value = pair.value;
  while (!text.empty()) takeAttribute(cookie, cutPair(nextPiece(text)));
  return cookie;
}

} // namespace http
} // namespace v0
} // namespace troth
