// SPDX-License-Identifier: MIT
// Lists of entity tags, compared without a copy, and the order of the conditions.
#include <troth/net/http/conditional.h>

#include <troth/net/http/date.h>
#include <troth/net/http/text_detail.h>
#include <troth/runtime/exception.h>
#include <troth/runtime/quote_detail.h>

#include <algorithm>

namespace troth {
inline namespace v0 {
namespace http {

namespace {

struct TagView {
  std::string_view opaque;
  bool isWeak;
};

// etagc of RFC 9110, section 8.8.3. A backslash is an ordinary character, a comma too: so it is no quoted string.
bool isTagCharacter(char c) noexcept {
  const auto byte = static_cast<unsigned char>(c);
  return byte > 0x20 && byte != '"' && byte != 0x7f;
}

// Takes the tag at the front of `text` off; nothing, and nothing taken, if there is none.
std::optional<TagView> takeTag(std::string_view& text) noexcept {
  const bool isWeak = text.starts_with("W/");
  const std::string_view quoted = text.substr(isWeak ? 2 : 0);
  if (!quoted.starts_with('"')) return std::nullopt;
  std::size_t end = 1;
  while (end < quoted.size() && isTagCharacter(quoted[end])) ++end;
  if (end == quoted.size() || quoted[end] != '"') return std::nullopt;
  text = quoted.substr(end + 1);
  return TagView{quoted.substr(1, end - 1), isWeak};
}

// Calls `matches` for each tag of a list until it says true; what is malformed is passed over, up to the next comma.
template <typename Matches>
bool anyTag(std::string_view list, Matches&& matches) {
  while (!list.empty()) {
    if (detail::isBlank(list.front()) || list.front() == ',') {
      list.remove_prefix(1);
    } else if (const std::optional<TagView> tag = takeTag(list)) {
      if (matches(*tag)) return true;
    } else {
      list.remove_prefix(std::min(list.find(','), list.size()));
    }
  }
  return false;
}

enum class Comparison : std::uint8_t { STRONG, WEAK };

// Whether the lists of all fields of this name have the current version (RFC 9110, sections 13.1.1 and 13.1.2).
bool anyFieldMatches(const HeaderFields& request, HeaderId id, const Validators& current, Comparison comparison) {
  if (!current.exists) return false;
  for (const HeaderField field : request) {
    if (field.id != id) continue;
    if (field.value == "*") return true;
    if (!current.etag || (comparison == Comparison::STRONG && current.etag->isWeak())) continue;
    if (anyTag(field.value, [&](const TagView& tag) {
          return tag.opaque == current.etag->opaque() && (comparison == Comparison::WEAK || !tag.isWeak);
        }))
      return true;
  }
  return false;
}

// Whether the current version is not newer than the date of that field; nothing if that is to be ignored.
std::optional<bool> isUnmodifiedSince(const HeaderFields& request, HeaderId id, const Validators& current) {
  const std::optional<std::string_view> text = request.get(id);
  if (!text || !current.exists || !current.lastModified) return std::nullopt;
  const std::optional<std::chrono::sys_seconds> date = parseHttpDate(*text);
  if (!date) return std::nullopt;
  return *current.lastModified <= *date;
}

// RFC 9110, section 13.1.5.
bool ifRangeHolds(std::string_view value, const Validators& current) {
  if (!current.exists) return false;
  if (const std::optional<EntityTag> tag = EntityTag::tryParse(value))
    return current.etag && tag->strongEquals(*current.etag);
  const std::optional<std::chrono::sys_seconds> date = parseHttpDate(value);
  return date && current.lastModified == date;
}

void requireOpaque(std::string_view opaque, const std::source_location& where) {
  if (!std::ranges::all_of(opaque, isTagCharacter))
    troth::detail::throwMisuse("EntityTag: " + troth::detail::quote(opaque) + " has what a tag cannot hold", where);
}

} // namespace

EntityTag EntityTag::strong(std::string_view opaque, std::source_location where) {
  requireOpaque(opaque, where);
  return {opaque, false};
}

EntityTag EntityTag::weak(std::string_view opaque, std::source_location where) {
  requireOpaque(opaque, where);
  return {opaque, true};
}

std::optional<EntityTag> EntityTag::tryParse(std::string_view text) {
  const std::optional<TagView> tag = takeTag(text);
  if (!tag || !text.empty()) return std::nullopt;
  return EntityTag(tag->opaque, tag->isWeak);
}

std::string EntityTag::toString() const { return std::string(isWeak_ ? "W/\"" : "\"").append(opaque_).append("\""); }

Preconditions evaluatePreconditions(Method method, const HeaderFields& request, const Validators& current) {
  if (request.has(HeaderId::IF_MATCH)) {
    if (!anyFieldMatches(request, HeaderId::IF_MATCH, current, Comparison::STRONG)) return Preconditions::FAILED;
  } else if (isUnmodifiedSince(request, HeaderId::IF_UNMODIFIED_SINCE, current) == false) {
    return Preconditions::FAILED;
  }
  const bool isRead = method == Method::GET || method == Method::HEAD;
  if (request.has(HeaderId::IF_NONE_MATCH)) {
    if (anyFieldMatches(request, HeaderId::IF_NONE_MATCH, current, Comparison::WEAK))
      return isRead ? Preconditions::NOT_MODIFIED : Preconditions::FAILED;
  } else if (isRead && isUnmodifiedSince(request, HeaderId::IF_MODIFIED_SINCE, current) == true) {
    return Preconditions::NOT_MODIFIED;
  }
  return Preconditions::HOLD;
}

std::optional<std::string_view> applicableRange(Method method, const HeaderFields& request, const Validators& current) {
  if (method != Method::GET || request.count(HeaderId::RANGE) != 1) return std::nullopt;
  const std::optional<std::string_view> condition = request.get(HeaderId::IF_RANGE);
  if (condition && !ifRangeHolds(*condition, current)) return std::nullopt;
  return request.get(HeaderId::RANGE);
}

} // namespace http
} // namespace v0
} // namespace troth
