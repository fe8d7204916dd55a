// SPDX-License-Identifier: MIT
// Url: a URL by RFC 3986: parsed, checked, compared in its normal form, resolved.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <source_location>
#include <string>
#include <string_view>

namespace troth {
inline namespace v0 {
namespace http {

/// A URL with a scheme, such as "https://user@example.com:8443/a/b?x=1#top", by the grammar of RFC 3986: not by the
/// rules by which browsers repair what people type (WHATWG's). What the grammar does not allow is refused: spaces,
/// control characters, bytes from 0x80, "%" without two hexadecimal digits, "[" outside of an IPv6 address; encode it
/// first (percentEncode). URLs of http, https, ws and wss have a host that is not empty (RFC 9110, section 4.2).
///
/// A value that is what was parsed, byte by byte: nothing is decoded or normalised unless asked for. Views are valid as
/// long as the object, unchanged. 56 bytes and the text.
class Url {
public:
  /// The longest text, in bytes.
  static constexpr std::size_t MAX_LENGTH = 64 * 1024;

  /// Parses `text`. Throws FAILED that says what is wrong with it (without user and password).
  static Url parse(std::string_view text, std::source_location where = std::source_location::current());

  /// The same; nothing if `text` is no URL, and then what is wrong in `*reason`, unless that is null.
  static std::optional<Url> tryParse(std::string_view text, std::string* reason = nullptr);

  /// "https", as written.
  std::string_view scheme() const noexcept { return part(0, marks_.schemeEnd); }
  /// Whether the scheme is `lowerCase`, in any case.
  bool hasScheme(std::string_view lowerCase) const noexcept;

  /// Whether there is a "//" with a host (which may be empty, as in "file:///etc") behind the scheme.
  bool hasAuthority() const noexcept { return marks_.hostAt > marks_.schemeEnd + 1u; }

  /// User and password, as written; nothing if there is no "@". No program should act on it without having been asked
  /// to: it is a way to make a URL look like another one (RFC 3986, section 7.6), and in http it is deprecated (RFC
  /// 9110, section 4.2.4).
  std::optional<std::string_view> userInfo() const noexcept;

  /// The host as written, an IPv6 address in its brackets; empty without an authority.
  std::string_view host() const noexcept { return part(marks_.hostAt, marks_.hostEnd); }
  /// Whether the host is an IPv6 address in brackets.
  bool hasIpv6Host() const noexcept;

  /// The port that is written; nothing if there is none.
  std::optional<std::uint16_t> port() const noexcept;
  /// The port that is written, or else the default one of http, https, ws or wss.
  std::optional<std::uint16_t> portOrDefault() const noexcept;

  /// Host and port, as a Host field has them (RFC 9110, section 7.2): "example.com:8443". No user info, and no port
  /// that is the scheme's default one.
  std::string authority() const;

  /// The origin (RFC 6454, section 6.2), such as "https://example.com:8443", in lower case; "null" if the scheme is
  /// none of http, https, ws, wss.
  std::string origin() const;

  /// The path as written, which may be empty.
  std::string_view path() const noexcept { return part(marks_.pathAt, marks_.queryAt); }
  /// What is behind the "?"; nothing if there is none.
  std::optional<std::string_view> query() const noexcept;
  /// What is behind the "#"; nothing if there is none.
  std::optional<std::string_view> fragment() const noexcept;

  /// Path and query as a request has them (RFC 9112, section 3.2.1): "/a/b?x=1"; "/" for an empty path.
  std::string requestTarget() const;

  /// The whole, as parsed, with user and password.
  const std::string& toString() const noexcept { return text_; }

  /// The same URL in its normal form, in which equivalent ones are equal (RFC 3986, sections 6.2.2 and 6.2.3): scheme
  /// and host in lower case, percent-encodings in upper case and of unreserved characters decoded, no "." and ".."
  /// segments, no default or empty port, "/" for the empty path of the four schemes, IPv6 addresses by RFC 5952.
  Url normalized() const;

  /// What `reference`, such as the value of a Location field, means if this is its base (RFC 3986, section 5.2):
  /// another URL, or a part of one: "../x", "/x", "?y", "#z", "//host/x". Throws FAILED if it is malformed.
  Url resolve(std::string_view reference, std::source_location where = std::source_location::current()) const;
  /// The same; nothing if it is malformed, and then what is wrong in `*reason`, unless that is null.
  std::optional<Url> tryResolve(std::string_view reference, std::string* reason = nullptr) const;

  /// The same URL with another part, which is encoded already. Each throws FAILED if the result is no URL.
  Url withPath(std::string_view path, std::source_location where = std::source_location::current()) const;
  Url withQuery(std::string_view query, std::source_location where = std::source_location::current()) const;
  /// The same URL without a part.
  Url withoutQuery() const;
  Url withoutFragment() const;
  Url withoutUserInfo() const;

  /// Whether they are the same text. To compare what they mean, compare their normal forms.
  friend bool operator==(const Url& a, const Url& b) noexcept { return a.text_ == b.text_; }

private:
  // scheme ":" [ "//" [ userinfo "@" ] host [ ":" port ] ] path [ "?" query ] [ "#" fragment ]
  struct Marks {
    std::uint32_t schemeEnd = 0;
    std::uint32_t hostAt = 0; // schemeEnd + 1 without an authority; schemeEnd + 3 without user info
    std::uint32_t hostEnd = 0;
    std::uint32_t pathAt = 0;
    std::uint32_t queryAt = 0;    // of the "?"; fragmentAt if there is none
    std::uint32_t fragmentAt = 0; // of the "#"; the size if there is none
  };
  struct Parts;
  struct Parser;

  std::string text_;
  Marks marks_;

  Url() = default;
  std::string_view part(std::size_t from, std::size_t to) const noexcept {
    return std::string_view(text_).substr(from, to - from);
  }
  Parts parts() const noexcept;
  /// Of parts that are known to make a URL.
  static Url compose(const Parts& parts);
  static Url composeChecked(const Parts& parts, const char* function, const std::source_location& where);
  static std::string textOf(const Parts& parts);
};

/// The port of http and ws (80), https and wss (443); nothing for other schemes.
std::optional<std::uint16_t> defaultPort(std::string_view scheme) noexcept;

/// The absolute path of a request in its normal form (RFC 3986, section 6.2.2): percent-encodings of unreserved
/// characters are decoded, others in upper case, and "." and ".." segments taken out; none leads above "/". What looks
/// at paths, such as a router, looks at this, so that "/a/%2e%2e/secret" is what it means. Malformed encodings stay.
std::string normalizePath(std::string_view path);

} // namespace http
} // namespace v0
} // namespace troth
