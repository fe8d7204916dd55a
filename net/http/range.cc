// SPDX-License-Identifier: MIT
// Parsing of ranges.
#include <troth/net/http/range.h>

#include <troth/net/http/boundary_detail.h>
#include <troth/net/http/pool_allocator_detail.h>
#include <troth/net/http/text_detail.h>
#include <troth/runtime/exception.h>
#include <troth/runtime/quote_detail.h>

#include <algorithm>
#include <limits>

namespace troth {
inline namespace v0 {
namespace http {

namespace {

constexpr std::uint64_t MOST = std::numeric_limits<std::uint64_t>::max();

// A number of any size, 2^64 - 1 if it is larger; nothing if it is none.
std::optional<std::uint64_t> parsePosition(std::string_view text) noexcept {
  if (text.empty() || !std::ranges::all_of(text, detail::isDigit)) return std::nullopt;
  return detail::parseDecimal(text).value_or(MOST);
}

struct Spec {
  std::optional<ByteRange> range; // nothing if it is behind the end
};

// One range-spec; nothing if it is malformed. `length` is not 0.
std::optional<Spec> parseSpec(std::string_view text, std::uint64_t length) noexcept {
  const std::size_t dash = text.find('-');
  if (dash == std::string_view::npos) return std::nullopt;
  const std::string_view firstText = text.substr(0, dash), lastText = text.substr(dash + 1);
  if (firstText.empty()) { // the last bytes
    const std::optional<std::uint64_t> count = parsePosition(lastText);
    if (!count) return std::nullopt;
    if (*count == 0) return Spec{};
    return Spec{ByteRange{length - std::min(*count, length), length - 1}};
  }
  const std::optional<std::uint64_t> first = parsePosition(firstText);
  const std::optional<std::uint64_t> last = lastText.empty() ? MOST : parsePosition(lastText);
  if (!first || !last || *last < *first) return std::nullopt;
  if (*first >= length) return Spec{};
  return Spec{ByteRange{*first, std::min(*last, length - 1)}};
}

bool overlap(const std::vector<ByteRange>& ranges) {
  detail::PoolVector<ByteRange> sorted(ranges.begin(), ranges.end());
  std::ranges::sort(sorted, {}, &ByteRange::first);
  return std::ranges::adjacent_find(sorted, [](const ByteRange& a, const ByteRange& b) { return b.first <= a.last; }) !=
         sorted.end();
}

// Takes "bytes" and what is behind it off the front.
bool takeUnit(std::string_view& value, char separator) noexcept {
  constexpr std::string_view UNIT = "bytes";
  if (value.size() <= UNIT.size() || !detail::equalsIgnoringCase(value.substr(0, UNIT.size()), UNIT) ||
      value[UNIT.size()] != separator)
    return false;
  value.remove_prefix(UNIT.size() + 1);
  return true;
}

void requireRangeBoundary(std::string_view boundary, const std::source_location& where) {
  if (!detail::isBoundary(boundary))
    troth::detail::throwMisuse("HTTP: " + troth::detail::quote(boundary) + " is no boundary of a multipart body",
                               where);
}

} // namespace

ByteRanges ByteRanges::of(std::string_view value, std::uint64_t length, std::size_t most) {
  // Of nothing there is no part that Content-Range could name.
  if (length == 0 || !takeUnit(value, '=')) return {};
  ByteRanges result;
  std::size_t count = 0;
  while (const std::optional<std::string_view> element = detail::nextElement(value)) {
    const std::optional<Spec> spec = parseSpec(*element, length);
    if (!spec || ++count > most) return {};
    if (spec->range) result.ranges.push_back(*spec->range);
  }
  if (count == 0 || overlap(result.ranges)) return {};
  result.kind = result.ranges.empty() ? Kind::UNSATISFIABLE : Kind::PARTIAL;
  return result;
}

std::string contentRange(const ByteRange& range, std::uint64_t length) {
  return "bytes " + std::to_string(range.first) + "-" + std::to_string(range.last) + "/" + std::to_string(length);
}

std::string contentRangeUnsatisfied(std::uint64_t length) { return "bytes */" + std::to_string(length); }

std::optional<ContentRange> ContentRange::tryParse(std::string_view value) {
  if (!takeUnit(value, ' ')) return std::nullopt;
  const std::size_t slash = value.find('/'), dash = value.find('-');
  if (slash == std::string_view::npos) return std::nullopt;
  ContentRange result;
  if (const std::string_view text = value.substr(slash + 1); text != "*") {
    result.length = detail::parseDecimal(text);
    if (!result.length) return std::nullopt;
  }
  if (value.substr(0, slash) == "*") return result.length ? std::optional(result) : std::nullopt;
  if (dash == std::string_view::npos || dash > slash) return std::nullopt;
  const std::optional<std::uint64_t> first = detail::parseDecimal(value.substr(0, dash));
  const std::optional<std::uint64_t> last = detail::parseDecimal(value.substr(dash + 1, slash - dash - 1));
  if (!first || !last || *last < *first || *last == MOST || (result.length && *last >= *result.length))
    return std::nullopt;
  result.range = ByteRange{*first, *last};
  return result;
}

std::string byteRangeHead(std::string_view boundary, std::string_view contentType, const ByteRange& range,
                          std::uint64_t length, std::source_location where) {
  requireRangeBoundary(boundary, where);
  if (!detail::isFieldValue(contentType))
    troth::detail::throwMisuse("HTTP: " + troth::detail::quote(contentType) + " is no media type", where);
  std::string head("\r\n--");
  head.append(boundary);
  if (!contentType.empty()) head.append("\r\nContent-Type: ").append(contentType);
  return head.append("\r\nContent-Range: ").append(contentRange(range, length)).append("\r\n\r\n");
}

std::string byteRangesEnd(std::string_view boundary, std::source_location where) {
  requireRangeBoundary(boundary, where);
  return std::string("\r\n--").append(boundary).append("--\r\n");
}

} // namespace http
} // namespace v0
} // namespace troth
