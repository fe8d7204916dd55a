// SPDX-License-Identifier: MIT
// A fuzz target (libFuzzer): texts as the values of a request's fields: queries, cookies, media types, preferences,
// ranges, conditions and dates. What is parsed and printed is parsed again to the same, and no result is beyond its
// limits.
#include <troth/net/http/conditional.h>
#include <troth/net/http/cookie.h>
#include <troth/net/http/date.h>
#include <troth/net/http/http_error.h>
#include <troth/net/http/media_type.h>
#include <troth/net/http/negotiation.h>
#include <troth/net/http/query.h>
#include <troth/net/http/range.h>
#include <troth/runtime/exception.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string>
#include <string_view>

using namespace troth;
using namespace troth::http;
using namespace std::chrono;

namespace {

void require(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "query_fuzz: %s\n", what);
  std::abort();
}

/// What `parse` makes of the text, or nothing if it refuses it, as it should.
template <typename Parse>
auto parsed(Parse&& parse) -> std::optional<decltype(parse())> {
  try {
    return parse();
  } catch (const HttpError& e) {
    require(e.status() >= 400 && e.status() < 500, "the client is wrong, not the server");
    for (const char c : e.description()) require(c >= ' ' || c < 0, "a control character in the text of an error");
    return std::nullopt;
  }
}

void tryQuery(std::string_view text) {
  const auto query = parsed([&] { return Query::parse(text, {.maxPairs = 10}); });
  if (!query) return;
  require(query->size() <= 10, "more pairs than allowed");
  const Query again = Query::parse(query->toString(), {.maxBytes = 1 << 30});
  require(std::ranges::equal(*query, again,
                             [](const Query::Pair& a, const Query::Pair& b) { return a.name == b.name && a.value == b.value; }),
          "what a query prints is another one");
}

void tryCookies(std::string_view text) {
  const auto cookies = parsed([&] { return Cookies::parse(text, {.maxCookies = 10}); });
  if (cookies) {
    require(cookies->size() <= 10, "more cookies than allowed");
    for (const Cookies::Cookie& cookie : *cookies) require(!cookie.name.empty(), "a cookie has no name");
  }
  const std::optional<SetCookie> cookie = SetCookie::parse(text);
  if (!cookie) return;
  try {
    const std::string printed = cookie->toString();
    for (const char c : printed) require(c >= ' ' && c <= '~', "a cookie has what a field cannot hold");
    const std::optional<SetCookie> again = SetCookie::parse(printed);
    require(again && again->toString() == printed, "what a cookie prints is another one");
  } catch (const Exception& e) {
    require(e.kind() == Exception::Kind::FAILED, "the wrong kind of refusal");
  }
}

void tryMediaType(std::string_view text) {
  const std::optional<MediaType> type = MediaType::tryParse(text);
  if (!type) return;
  const std::optional<MediaType> again = MediaType::tryParse(type->toString());
  require(again && again->essence() == type->essence() && again->parameters() == type->parameters(),
          "what a media type prints is another one");
}

void tryNegotiation(std::string_view text) {
  constexpr std::string_view TYPES[] = {"text/html", "text/plain;charset=utf-8", "application/json"};
  constexpr std::string_view NAMES[] = {"br", "gzip", "en", "en-US"};
  (void)negotiateMediaType(text, TYPES);
  const std::optional<std::string_view> coding = negotiateCoding(text, NAMES);
  require(!coding || *coding == "identity" || std::ranges::find(NAMES, *coding) != std::ranges::end(NAMES),
          "a coding that was not offered");
  (void)negotiateLanguage(text, NAMES);
}

void tryRange(std::string_view text) {
  constexpr std::uint64_t LENGTH = 1000;
  const ByteRanges ranges = ByteRanges::of(text, LENGTH, 5);
  require((ranges.kind == ByteRanges::Kind::PARTIAL) == !ranges.ranges.empty() && ranges.ranges.size() <= 5,
          "a wrong number of ranges");
  std::uint64_t total = 0;
  for (const ByteRange& range : ranges.ranges) {
    require(range.first <= range.last && range.last < LENGTH, "a range is not within the resource");
    total += range.length();
    const std::optional<ContentRange> read = ContentRange::tryParse(contentRange(range, LENGTH));
    require(read && read->range == range && read->length == LENGTH, "what a range prints is another one");
  }
  require(total <= LENGTH, "the ranges have more than the resource");
  (void)ContentRange::tryParse(text);
}

void tryConditions(std::string_view text) {
  if (const std::optional<EntityTag> tag = EntityTag::tryParse(text))
    require(tag->toString() == text, "what a tag prints is another one");
  HeaderMap request{{"Range", "bytes=0-1"}};
  try {
    request.set(HeaderId::IF_MATCH, text).set(HeaderId::IF_NONE_MATCH, text).set(HeaderId::IF_RANGE, text);
  } catch (const Exception&) {
    return; // not the value of a field
  }
  const Validators current{.etag = EntityTag::strong("a"), .lastModified = sys_seconds(seconds(784111777))};
  (void)evaluatePreconditions(Method::GET, request, current);
  (void)applicableRange(Method::GET, request, current);
}

void tryDate(std::string_view text) {
  const std::optional<sys_seconds> time = parseHttpDate(text, sys_days(2024y / 1 / 1));
  if (!time || *time >= sys_seconds(sys_days(10000y / 1 / 1))) return; // a leap second can lead there
  require(parseHttpDate(formatHttpDate(*time)) == time, "what a date prints is another one");
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  tryQuery(text);
  tryCookies(text);
  tryMediaType(text);
  tryNegotiation(text);
  tryRange(text);
  tryConditions(text);
  tryDate(text);
  return 0;
}
