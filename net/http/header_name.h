// SPDX-License-Identifier: MIT
// HeaderId: the common header fields, each by a number of its own.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace troth {
inline namespace v0 {
namespace http {

/// The fields that a server or client meets every day. Looking for one of them in a head compares numbers, not names.
/// Every other field is OTHER, and looked for by its name.
// clang-format off
enum class HeaderId : std::uint8_t {
  ACCEPT, ACCEPT_CHARSET, ACCEPT_ENCODING, ACCEPT_LANGUAGE, ACCEPT_RANGES, ACCESS_CONTROL_ALLOW_CREDENTIALS,
  ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
  ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
  ACCESS_CONTROL_REQUEST_METHOD, AGE, ALLOW, AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_DISPOSITION,
  CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_LOCATION, CONTENT_RANGE, CONTENT_SECURITY_POLICY,
  CONTENT_TYPE, COOKIE, DATE, ETAG, EXPECT, EXPIRES, FORWARDED, FROM, HOST, IF_MATCH, IF_MODIFIED_SINCE,
  IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, KEEP_ALIVE, LAST_MODIFIED, LINK, LOCATION, ORIGIN, PROXY_AUTHENTICATE,
  PROXY_AUTHORIZATION, PROXY_CONNECTION, RANGE, REFERER, RETRY_AFTER, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS,
  SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, SERVER, SET_COOKIE, STRICT_TRANSPORT_SECURITY, TE,
  TRAILER, TRANSFER_ENCODING, UPGRADE, USER_AGENT, VARY,
  OTHER
};
// clang-format on

/// How many there are without OTHER: few enough for one bit each in 64.
inline constexpr std::size_t HEADER_IDS = static_cast<std::size_t>(HeaderId::OTHER);
static_assert(HEADER_IDS <= 64);

/// The field's name as it is usually written, such as "Content-Type"; empty for OTHER.
std::string_view headerName(HeaderId id) noexcept;

/// The number of the field of this name, in any case; OTHER if it has none. Costs a look at the few names of the same
/// length; there is no hash.
HeaderId findHeader(std::string_view name) noexcept;

/// Whether the field may stand behind a content in chunks, as a trailer: not if it says how a message is framed, whom
/// it is for, how it is to be answered or what its content means, all of which must be known before, nor if it tells
/// who somebody is (RFC 9110, section 6.5.1). What is not known may.
bool mayBeTrailer(HeaderId id) noexcept;

} // namespace http
} // namespace v0
} // namespace troth
