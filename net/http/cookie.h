// SPDX-License-Identifier: MIT
// Cookies: those that a client sends, and those that a server sets.
#pragma once

#include <troth/net/http/header_map.h>
#include <troth/net/http/pool_allocator_detail.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <source_location>
#include <string>
#include <string_view>

namespace troth {
inline namespace v0 {
namespace http {

/// How much a request's cookies may be.
struct CookieLimits {
  std::size_t maxBytes = 16 * 1024;
  std::size_t maxCookies = 200;
};

/// The cookies of a request (RFC 6265, section 4.2), to look at: views into the text that it was made from, valid as
/// long as that. Values are as the client sent them, quotes included; they are the client's word for it, so sign what
/// matters. What has no "=" or no name is passed over.
class Cookies {
public:
  struct Cookie {
    std::string_view name;
    std::string_view value;
  };

  Cookies() noexcept = default;

  /// Those of all Cookie fields of a request. Throws HttpError with 431 if they are beyond the limits.
  static Cookies of(const HeaderFields& request, const CookieLimits& limits = {},
                    std::source_location where = std::source_location::current());
  /// Those of one field's value. The same.
  static Cookies parse(std::string_view text, const CookieLimits& limits = {},
                       std::source_location where = std::source_location::current());

  /// The value of the first cookie of this name, whose case counts: browsers send the one with the longest path first.
  std::optional<std::string_view> get(std::string_view name) const noexcept;
  bool has(std::string_view name) const noexcept { return get(name).has_value(); }

  std::size_t size() const noexcept { return cookies_.size(); }
  bool empty() const noexcept { return cookies_.empty(); }
  /// In the order in which they were sent; `index` is less than size().
  const Cookie& operator[](std::size_t index) const noexcept { return cookies_[index]; }
  const Cookie* begin() const noexcept { return cookies_.data(); }
  const Cookie* end() const noexcept { return cookies_.data() + cookies_.size(); }

private:
  detail::PoolVector<Cookie> cookies_;

  void add(std::string_view text, const CookieLimits& limits, const std::source_location& where);
};

/// Whether a browser sends a cookie along with requests that other sites make.
enum class SameSite : std::uint8_t { UNSET, STRICT, LAX, NONE };

/// A cookie that a server sets, or tells a client to forget.
///
///     const SetCookie cookie{.name = "session", .value = id, .path = "/", .maxAge = 1h, .secure = true, .httpOnly =
///     true}; headers.add(HeaderId::SET_COOKIE, cookie.toString());
struct SetCookie {
  std::string name = {};
  std::string value = {};
  std::string path = {};                           // empty: that of the request's URL, up to its last slash
  std::string domain = {};                         // empty: the host alone; otherwise its subdomains too
  std::optional<std::chrono::seconds> maxAge = {}; // zero or less: forget it
  std::optional<std::chrono::sys_seconds> expires = {};
  bool secure = false;   // to be sent over https only
  bool httpOnly = false; // kept from scripts
  SameSite sameSite = SameSite::UNSET;
  bool partitioned = false; // kept apart for each site that it is embedded in

  /// The value of a Set-Cookie field. Throws FAILED, naming what is wrong, for what would not arrive as it is, so that
  /// nobody can put an attribute or a field into a value (RFC 6265, section 4.1.1): the name is a token; the value has
  /// neither spaces, quotes (but a pair around it), commas, semicolons, backslashes, nor bytes outside of ASCII (encode
  /// them); the path begins with "/" and has no semicolon; the domain is one; name and value have 4096 bytes at most.
  /// Refused is also what browsers would drop silently: SameSite=None or Partitioned without Secure, and names that
  /// begin with "__Secure-" or "__Host-" and do not keep what that promises.
  std::string toString(std::source_location where = std::source_location::current()) const;

  /// Reads the value of a Set-Cookie field as a client does (RFC 6265, section 5.2): what is odd about an attribute
  /// makes it count for nothing. Nothing if the cookie is to be ignored altogether: it has no name, or control
  /// characters.
  static std::optional<SetCookie> parse(std::string_view text);
};

} // namespace http
} // namespace v0
} // namespace troth
