// SPDX-License-Identifier: MIT
// Path: where something is beneath a directory, for paths that come from outside.
#pragma once

#include <compare>
#include <cstddef>
#include <source_location>
#include <string>
#include <string_view>
#include <utility>

namespace troth {
inline namespace v0 {

/// A relative path that does not leave the directory it is used in: no "..", nothing absolute.
///
/// A value; any thread may use it. It knows nothing of the disk: that symbolic links do not lead out either is the
/// matter of Directory (troth/io/file.h). Bytes are not decoded: a percent sign is one, and "%2e%2e" is a name.
class Path {
public:
  /// The most bytes of one component, and of a whole path: as many as Linux takes.
  static constexpr std::size_t MAX_COMPONENT = 255;
  static constexpr std::size_t MAX_SIZE = 4095;

  /// The directory itself, ".".
  Path() noexcept = default;

  /// The path that `text` names. Components are separated by '/'; empty ones and "." are dropped, so that "a//b/./"
  /// is "a/b", and "." is the directory itself. Throws FAILED, quoting `text` and saying what is wrong, if it is empty,
  /// absolute, too long, or has a NUL byte, a component ".." or one that is too long.
  static Path parse(std::string_view text, std::source_location where = std::source_location::current());

  /// Whether this is the directory itself.
  bool isSelf() const noexcept { return text_.empty(); }

  /// The directory that the last component is in. Throws FAILED for the directory itself.
  Path parent(std::source_location where = std::source_location::current()) const;
  /// The last component. Throws FAILED for the directory itself. Valid as long as this path.
  std::string_view basename(std::source_location where = std::source_location::current()) const;

  /// "a/b/c", or ".".
  std::string toString() const { return isSelf() ? "." : text_; }

  /// What `right` names beneath `left`. Throws FAILED if that is too long.
  friend Path operator/(const Path& left, const Path& right);
  /// The same for a text, which is parsed.
  friend Path operator/(const Path& left, std::string_view right) { return left / parse(right); }

  /// As texts; so a directory comes before what is in it.
  friend bool operator==(const Path&, const Path&) noexcept = default;
  friend std::strong_ordering operator<=>(const Path&, const Path&) noexcept = default;

private:
  std::string text_; // components and '/' between them

  explicit Path(std::string text) noexcept : text_(std::move(text)) {}
};

} // namespace v0
} // namespace troth
