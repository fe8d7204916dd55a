// SPDX-License-Identifier: MIT
// Conditional requests: entity tags, and whether a request's conditions hold.
#pragma once

#include <troth/net/http/header_map.h>
#include <troth/net/http/method.h>

#include <chrono>
#include <cstdint>
#include <optional>
#include <source_location>
#include <string>
#include <string_view>

namespace troth {
inline namespace v0 {
namespace http {

/// The name of a version of a resource (RFC 9110, section 8.8.3), such as "\"a1\"" or, if it is the same only for most
/// purposes, "W/\"a1\"".
class EntityTag {
public:
  /// A tag of that text, without quotes; versions with the same one are the same byte by byte. Throws FAILED if it has
  /// quotes, spaces or control characters.
  static EntityTag strong(std::string_view opaque, std::source_location where = std::source_location::current());
  /// A tag of that text; versions with the same one mean the same.
  static EntityTag weak(std::string_view opaque, std::source_location where = std::source_location::current());
  /// Reads the value of an ETag field; nothing if it is malformed.
  static std::optional<EntityTag> tryParse(std::string_view text);

  bool isWeak() const noexcept { return isWeak_; }
  /// What is within the quotes.
  const std::string& opaque() const noexcept { return opaque_; }
  /// The value of an ETag field.
  std::string toString() const;

  /// Whether they are the same and both strong (RFC 9110, section 8.8.3.2).
  bool strongEquals(const EntityTag& other) const noexcept {
    return !isWeak_ && !other.isWeak_ && opaque_ == other.opaque_;
  }
  /// Whether they are the same, strong or weak.
  bool weakEquals(const EntityTag& other) const noexcept { return opaque_ == other.opaque_; }

private:
  std::string opaque_;
  bool isWeak_;

  EntityTag(std::string_view opaque, bool isWeak) : opaque_(opaque), isWeak_(isWeak) {}
};

/// What is known of the version of a resource that a server has now.
struct Validators {
  std::optional<EntityTag> etag = {};
  std::optional<std::chrono::sys_seconds> lastModified = {};
  bool exists = true; // false: there is nothing under this URL (yet)
};

/// What a request's conditions say.
enum class Preconditions : std::uint8_t {
  HOLD,         ///< go on with the method
  NOT_MODIFIED, ///< answer 304, with the fields that 200 would have but no body: the client has this version
  FAILED        ///< answer 412: the client's idea of the resource is out of date, so nothing is to be done
};

/// Evaluates If-Match, If-Unmodified-Since, If-None-Match and If-Modified-Since, in the order of RFC 9110, section
/// 13.2.2. Ask when the request would otherwise succeed, before the method does anything. Dates that are malformed, and
/// those that there is nothing to compare with, are ignored; so are malformed tags of a list.
Preconditions evaluatePreconditions(Method method, const HeaderFields& request, const Validators& current);

/// The value of the Range field if it is to be looked at (by ByteRanges::of()): the method is GET, there is one such
/// field, and If-Range, if there is one, holds (RFC 9110, sections 13.1.5 and 14.2). A date in If-Range must be that of
/// the last modification to the second; leave `current.lastModified` out if the resource may change twice in one.
/// Otherwise nothing: the whole is to be sent.
std::optional<std::string_view> applicableRange(Method method, const HeaderFields& request, const Validators& current);

} // namespace http
} // namespace v0
} // namespace troth
