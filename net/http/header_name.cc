// SPDX-License-Identifier: MIT
// The names of the common fields, and the way from a name to its number: by length, then by comparing.
#include <troth/net/http/header_name.h>

#include <troth/net/http/text_detail.h>

#include <array>

namespace troth {
inline namespace v0 {
namespace http {

namespace {

// In the order of the enumeration.
// clang-format off
constexpr std::array<std::string_view, HEADER_IDS> NAMES = {
    "Accept", "Accept-Charset", "Accept-Encoding", "Accept-Language", "Accept-Ranges",
    "Access-Control-Allow-Credentials", "Access-Control-Allow-Headers", "Access-Control-Allow-Methods",
    "Access-Control-Allow-Origin", "Access-Control-Expose-Headers", "Access-Control-Max-Age",
    "Access-Control-Request-Headers", "Access-Control-Request-Method", "Age", "Allow", "Authorization",
    "Cache-Control", "Connection", "Content-Disposition", "Content-Encoding", "Content-Language", "Content-Length",
    "Content-Location", "Content-Range", "Content-Security-Policy", "Content-Type", "Cookie", "Date", "ETag",
    "Expect", "Expires", "Forwarded", "From", "Host", "If-Match", "If-Modified-Since", "If-None-Match", "If-Range",
    "If-Unmodified-Since", "Keep-Alive", "Last-Modified", "Link", "Location", "Origin", "Proxy-Authenticate",
    "Proxy-Authorization", "Proxy-Connection", "Range", "Referer", "Retry-After", "Sec-WebSocket-Accept",
    "Sec-WebSocket-Extensions", "Sec-WebSocket-Key", "Sec-WebSocket-Protocol", "Sec-WebSocket-Version", "Server",
    "Set-Cookie", "Strict-Transport-Security", "TE", "Trailer", "Transfer-Encoding", "Upgrade", "User-Agent", "Vary"};
// clang-format on

constexpr std::size_t longestName() {
  std::size_t longest = 0;
  for (std::string_view name : NAMES) longest = name.size() > longest ? name.size() : longest;
  return longest;
}
constexpr std::size_t LONGEST = longestName();

constexpr detail::Word beginningOf(std::string_view name) {
  detail::Word word = 0;
  for (std::size_t i = 0; i < name.size() && i < 8; ++i)
    word |= static_cast<detail::Word>(static_cast<unsigned char>(detail::toLower(name[i]))) << 8 * i;
  return word;
}

// The numbers ordered by the lengths of their names; those of length n stand from first[n] on, before first[n + 1].
struct ByLength {
  std::array<detail::Word, HEADER_IDS> beginnings{}; // the first eight letters of the names, in lower case
  std::array<HeaderId, HEADER_IDS> ids{};
  std::array<std::uint8_t, LONGEST + 2> first{};
};

constexpr ByLength orderByLength() {
  ByLength order;
  std::uint8_t at = 0;
  for (std::size_t length = 0; length <= LONGEST; ++length) {
    order.first[length] = at;
    for (std::size_t id = 0; id < HEADER_IDS; ++id)
      if (NAMES[id].size() == length) {
        order.beginnings[at] = beginningOf(NAMES[id]);
        order.ids[at++] = static_cast<HeaderId>(id);
      }
  }
  order.first[LONGEST + 1] = at;
  return order;
}
constexpr ByLength BY_LENGTH = orderByLength();

} // namespace

std::string_view headerName(HeaderId id) noexcept {
  return id == HeaderId::OTHER ? std::string_view() : NAMES[static_cast<std::size_t>(id)];
}

namespace {
// Apart, so that the loop below has the registers to itself.
[[gnu::noinline]] bool endsAs(std::string_view name, HeaderId id) noexcept {
  return detail::equalsIgnoringCase(name.substr(8), NAMES[static_cast<std::size_t>(id)].substr(8));
}
} // namespace

HeaderId findHeader(std::string_view name) noexcept {
  const std::size_t size = name.size();
  if (size - 1 >= LONGEST) return HeaderId::OTHER;
  const detail::Word beginning =
      detail::lowerCased(size >= 8 ? detail::loadWord(name.data()) : detail::loadPart(name.data(), size));
  const std::size_t end = BY_LENGTH.first[size + 1];
  for (std::size_t i = BY_LENGTH.first[size]; i < end; ++i)
    if (BY_LENGTH.beginnings[i] == beginning && (size <= 8 || endsAs(name, BY_LENGTH.ids[i]))) return BY_LENGTH.ids[i];
  return HeaderId::OTHER;
}

bool mayBeTrailer(HeaderId id) noexcept {
  using enum HeaderId;
  constexpr HeaderId HEAD_ONLY[] = {ACCEPT,
                                    ACCEPT_CHARSET,
                                    ACCEPT_ENCODING,
                                    ACCEPT_LANGUAGE,
                                    AGE,
                                    AUTHORIZATION,
                                    CACHE_CONTROL,
                                    CONNECTION,
                                    CONTENT_ENCODING,
                                    CONTENT_LENGTH,
                                    CONTENT_RANGE,
                                    CONTENT_TYPE,
                                    COOKIE,
                                    DATE,
                                    EXPECT,
                                    EXPIRES,
                                    HOST,
                                    IF_MATCH,
                                    IF_MODIFIED_SINCE,
                                    IF_NONE_MATCH,
                                    IF_RANGE,
                                    IF_UNMODIFIED_SINCE,
                                    KEEP_ALIVE,
                                    LOCATION,
                                    PROXY_AUTHENTICATE,
                                    PROXY_CONNECTION,
                                    PROXY_AUTHORIZATION,
                                    RANGE,
                                    RETRY_AFTER,
                                    SET_COOKIE,
                                    TE,
                                    TRAILER,
                                    TRANSFER_ENCODING,
                                    UPGRADE,
                                    VARY};
  for (const HeaderId each : HEAD_ONLY)
    if (each == id) return false;
  return true;
}

} // namespace http
} // namespace v0
} // namespace troth
