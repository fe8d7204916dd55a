// SPDX-License-Identifier: MIT
// Parsing paths from outside, and putting them together.
#include <troth/io/path.h>

#include <troth/runtime/exception.h>
#include <troth/runtime/quote_detail.h>

#include <fmt/format.h>

#include <algorithm>

namespace troth {
inline namespace v0 {
namespace {

[[noreturn]] void refuse(std::string_view text, std::string_view reason, std::source_location where) {
  throw Exception(Exception::Kind::FAILED, fmt::format("invalid path {}: {}", detail::quote(text), reason), {}, where);
}

void requireSize(std::string_view text, std::source_location where) {
  if (text.size() > Path::MAX_SIZE) refuse(text, fmt::format("it has more than {} bytes", Path::MAX_SIZE), where);
}

} // namespace

Path Path::parse(std::string_view text, std::source_location where) {
  if (text.empty()) refuse(text, "it is empty", where);
  if (text.find('\0') != std::string_view::npos) refuse(text, "it has a NUL byte", where);
  if (text.front() == '/') refuse(text, "it is absolute", where);
  std::string kept;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find('/', begin), text.size());
    const std::string_view component = text.substr(begin, end - begin);
    begin = end + 1;
    if (component.empty() || component == ".") continue;
    if (component == "..") refuse(text, "\"..\" could leave the directory", where);
    if (component.size() > MAX_COMPONENT)
      refuse(text, fmt::format("a component has more than {} bytes", MAX_COMPONENT), where);
    if (!kept.empty()) kept += '/';
    kept += component;
  }
  requireSize(kept, where);
  return Path(std::move(kept));
}

Path Path::parent(std::source_location where) const {
  if (isSelf()) detail::throwMisuse("Path::parent: \".\" has no parent", where);
  const std::size_t slash = text_.rfind('/');
  return slash == std::string::npos ? Path() : Path(text_.substr(0, slash));
}

std::string_view Path::basename(std::source_location where) const {
  if (isSelf()) detail::throwMisuse("Path::basename: \".\" has no last component", where);
  return std::string_view(text_).substr(text_.rfind('/') + 1);
}

Path operator/(const Path& left, const Path& right) {
  if (left.isSelf()) return right;
  if (right.isSelf()) return left;
  std::string text = fmt::format("{}/{}", left.text_, right.text_);
  requireSize(text, std::source_location::current());
  return Path(std::move(text));
}

} // namespace v0
} // namespace troth
