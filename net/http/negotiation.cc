// SPDX-License-Identifier: MIT
// A field's elements are parsed once; then each thing that is offered is weighed against all of them.
#include <troth/net/http/negotiation.h>

#include <troth/net/http/parameters_detail.h>
#include <troth/net/http/pool_allocator_detail.h>
#include <troth/net/http/text_detail.h>
#include <troth/runtime/exception.h>
#include <troth/runtime/quote_detail.h>

#include <algorithm>

namespace troth {
inline namespace v0 {
namespace http {

using detail::equalsIgnoringCase;

namespace {

constexpr std::size_t MAX_ELEMENTS = 100;
constexpr std::string_view IDENTITY = "identity";

struct Preference {
  std::string_view name;       // "text/html", "gzip", "en-GB", "*"
  std::string_view parameters; // those in front of the weight, from the first semicolon on
  int weight;                  // thousandths
};
using Preferences = detail::PoolVector<Preference>;

// qvalue of RFC 9110, section 12.4.2, in thousandths; nothing if it is malformed.
std::optional<int> parseWeight(std::string_view text) noexcept {
  if (text.empty() || text.size() > 5 || (text[0] != '0' && text[0] != '1')) return std::nullopt;
  int weight = (text[0] - '0') * 1000;
  if (text.size() > 1 && text[1] != '.') return std::nullopt;
  int scale = 100;
  for (char digit : text.substr(std::min<std::size_t>(2, text.size()))) {
    if (!detail::isDigit(digit)) return std::nullopt;
    weight += (digit - '0') * scale;
    scale /= 10;
  }
  return weight <= 1000 ? std::optional(weight) : std::nullopt;
}

std::optional<Preference> parsePreference(std::string_view element) noexcept {
  const std::size_t end = std::min(element.find(';'), element.size());
  Preference preference{detail::trimmed(element.substr(0, end)), element.substr(end), 1000};
  detail::ParameterScanner scanner(element.substr(end));
  while (const std::optional<detail::Parameter> parameter = scanner.next()) {
    if (!equalsIgnoringCase(parameter->name, "q")) continue;
    const std::optional<int> weight = parameter->isQuoted ? std::nullopt : parseWeight(parameter->value);
    if (!weight) return std::nullopt;
    preference.weight = *weight;
    const auto before = static_cast<std::size_t>(parameter->name.data() - preference.parameters.data());
    preference.parameters = preference.parameters.substr(0, preference.parameters.rfind(';', before));
    return preference; // what comes behind the weight is of the field, not of the type (RFC 7231, section 5.3.2)
  }
  if (scanner.isMalformed() || preference.name.empty()) return std::nullopt;
  return preference;
}

Preferences parsePreferences(std::string_view list) {
  Preferences preferences;
  for (std::size_t count = 0; count < MAX_ELEMENTS; ++count) {
    const std::optional<std::string_view> element = detail::nextElement(list);
    if (!element) break;
    if (const std::optional<Preference> preference = parsePreference(*element)) preferences.push_back(*preference);
  }
  return preferences;
}

/// How well something that is offered fits.
struct Fit {
  int weight = 0;
  int closeness = -1; // of the match that decided
};

// The one of `offered` with the greatest weight, and of these the greatest closeness, if that counts.
template <typename Judge>
std::optional<std::string_view> best(std::span<const std::string_view> offered, Judge&& judge) {
  std::optional<std::string_view> winner;
  Fit most;
  for (std::string_view candidate : offered) {
    const Fit fit = judge(candidate);
    if (fit.weight == 0) continue;
    if (winner && (fit.weight < most.weight || (fit.weight == most.weight && fit.closeness <= most.closeness)))
      continue;
    winner = candidate;
    most = fit;
  }
  return winner;
}

std::optional<std::string_view> firstOf(std::span<const std::string_view> offered) noexcept {
  return offered.empty() ? std::nullopt : std::optional(offered.front());
}

// ------------------------------------------------------------------------------------------- media types

struct TypeView {
  std::string_view type;
  std::string_view subtype;
  std::string_view parameters;
};

std::optional<TypeView> viewType(std::string_view essence, std::string_view parameters) noexcept {
  const std::size_t slash = essence.find('/');
  if (slash == std::string_view::npos) return std::nullopt;
  const TypeView view{essence.substr(0, slash), essence.substr(slash + 1), parameters};
  if (!detail::isToken(view.type) || !detail::isToken(view.subtype)) return std::nullopt;
  return view;
}

TypeView viewOffered(std::string_view text, const std::source_location& where) {
  const std::size_t end = std::min(text.find(';'), text.size());
  const std::optional<TypeView> view = viewType(detail::trimmed(text.substr(0, end)), text.substr(end));
  if (!view) troth::detail::throwMisuse("HTTP: " + troth::detail::quote(text) + " is no media type", where);
  return *view;
}

bool hasParameter(std::string_view parameters, const detail::Parameter& wanted) {
  detail::ParameterScanner scanner(parameters);
  while (const std::optional<detail::Parameter> parameter = scanner.next())
    if (equalsIgnoringCase(parameter->name, wanted.name) &&
        equalsIgnoringCase(detail::unquoted(*parameter), detail::unquoted(wanted)))
      return true;
  return false;
}

// How specific the range is if it matches (RFC 9110, section 12.5.1); -1 if it does not.
int closenessOf(const TypeView& range, const TypeView& offered) {
  if (range.type == "*") return range.subtype == "*" ? 0 : -1;
  if (!equalsIgnoringCase(range.type, offered.type)) return -1;
  if (range.subtype == "*") return 1;
  if (!equalsIgnoringCase(range.subtype, offered.subtype)) return -1;
  int closeness = 2;
  detail::ParameterScanner scanner(range.parameters);
  while (const std::optional<detail::Parameter> wanted = scanner.next()) {
    if (!hasParameter(offered.parameters, *wanted)) return -1;
    ++closeness;
  }
  return closeness;
}

// ------------------------------------------------------------------------------------------- codings

// "x-gzip" is "gzip" (RFC 9110, section 8.4.1.3).
std::string_view plainCoding(std::string_view coding) noexcept {
  return equalsIgnoringCase(coding, "x-gzip") ? std::string_view("gzip") : coding;
}

std::optional<int> weightOf(const Preferences& preferences, std::string_view coding) noexcept {
  for (const Preference& preference : preferences)
    if (equalsIgnoringCase(plainCoding(preference.name), plainCoding(coding))) return preference.weight;
  return std::nullopt;
}

// ------------------------------------------------------------------------------------------- languages

bool beginsWithTag(std::string_view language, std::string_view prefix) noexcept {
  return language.size() > prefix.size() && language[prefix.size()] == '-' &&
         equalsIgnoringCase(language.substr(0, prefix.size()), prefix);
}

// How close the match is: the length of what is common, so that "en-GB" is closer than "en", and what was asked for
// closer than less.
int closenessOf(const Preference& range, std::string_view language) noexcept {
  if (range.name == "*") return 0;
  if (equalsIgnoringCase(range.name, language)) return 1'000'000;
  if (beginsWithTag(language, range.name))
    return 1000 + static_cast<int>(std::min<std::size_t>(range.name.size(), 999));
  // That "en-GB" is not wanted says nothing of "en".
  if (range.weight > 0 && beginsWithTag(range.name, language))
    return 1 + static_cast<int>(std::min<std::size_t>(language.size(), 998));
  return -1;
}

} // namespace

std::optional<std::string_view> negotiateMediaType(std::string_view accept, std::span<const std::string_view> offered,
                                                   std::source_location where) {
  const Preferences preferences = parsePreferences(accept);
  return best(offered, [&](std::string_view candidate) {
    const TypeView type = viewOffered(candidate, where);
    Fit fit;
    for (const Preference& preference : preferences) {
      const std::optional<TypeView> range = viewType(preference.name, preference.parameters);
      if (!range) continue;
      if (const int closeness = closenessOf(*range, type); closeness > fit.closeness)
        fit = {preference.weight, closeness};
    }
    return Fit{fit.weight, 0}; // of equal weights the server's order decides
  });
}

std::optional<std::string_view>
negotiateMediaType(const HeaderFields& request, std::span<const std::string_view> offered, std::source_location where) {
  if (!request.has(HeaderId::ACCEPT)) return firstOf(offered);
  return negotiateMediaType(request.combined(HeaderId::ACCEPT), offered, where);
}

std::optional<std::string_view> negotiateCoding(std::string_view acceptEncoding,
                                                std::span<const std::string_view> offered) {
  const Preferences preferences = parsePreferences(acceptEncoding);
  const std::optional<int> others = weightOf(preferences, "*");
  const auto weigh = [&](std::string_view coding) {
    const std::optional<int> own = weightOf(preferences, coding);
    return own ? own : others;
  };
  const std::optional<std::string_view> coding = best(offered, [&](std::string_view candidate) {
    return Fit{equalsIgnoringCase(candidate, IDENTITY) ? 0 : weigh(candidate).value_or(0), 0};
  });
  const std::optional<int> identity = weightOf(preferences, IDENTITY);
  if (coding && identity.value_or(0) <= *weigh(*coding)) return coding;
  return weigh(IDENTITY).value_or(1) > 0 ? std::optional(IDENTITY) : std::nullopt;
}

std::optional<std::string_view> negotiateCoding(const HeaderFields& request,
                                                std::span<const std::string_view> offered) {
  if (!request.has(HeaderId::ACCEPT_ENCODING)) return IDENTITY;
  return negotiateCoding(request.combined(HeaderId::ACCEPT_ENCODING), offered);
}

std::optional<std::string_view> negotiateLanguage(std::string_view acceptLanguage,
                                                  std::span<const std::string_view> offered) {
  const Preferences preferences = parsePreferences(acceptLanguage);
  return best(offered, [&](std::string_view language) {
    Fit fit;
    for (const Preference& preference : preferences)
      if (const int closeness = closenessOf(preference, language); closeness > fit.closeness)
        fit = {preference.weight, closeness};
    return fit;
  });
}

std::optional<std::string_view> negotiateLanguage(const HeaderFields& request,
                                                  std::span<const std::string_view> offered) {
  if (!request.has(HeaderId::ACCEPT_LANGUAGE)) return firstOf(offered);
  return negotiateLanguage(request.combined(HeaderId::ACCEPT_LANGUAGE), offered);
}

} // namespace http
} // namespace v0
} // namespace troth
