// SPDX-License-Identifier: MIT
// A small table of media types: those that browsers ask web servers for.
#include <troth/net/http/content_type.h>

#include <troth/net/http/text_detail.h>

#include <algorithm>
#include <array>
#include <utility>

namespace troth {
inline namespace v0 {
namespace http {

namespace {

using Row = std::pair<std::string_view, std::string_view>;

// Sorted by extension. The types are those that IANA has registered.
constexpr auto TYPES = std::to_array<Row>({
    {"7z", "application/x-7z-compressed"},
    {"aac", "audio/aac"},
    {"apng", "image/apng"},
    {"atom", "application/atom+xml"},
    {"avif", "image/avif"},
    {"bmp", "image/bmp"},
    {"br", "application/octet-stream"},
    {"bz2", "application/x-bzip2"},
    {"css", "text/css; charset=utf-8"},
    {"csv", "text/csv; charset=utf-8"},
    {"flac", "audio/flac"},
    {"gif", "image/gif"},
    {"gz", "application/gzip"},
    {"htm", "text/html; charset=utf-8"},
    {"html", "text/html; charset=utf-8"},
    {"ico", "image/vnd.microsoft.icon"},
    {"ics", "text/calendar; charset=utf-8"},
    {"jpeg", "image/jpeg"},
    {"jpg", "image/jpeg"},
    {"js", "text/javascript; charset=utf-8"},
    {"json", "application/json"},
    {"jsonld", "application/ld+json"},
    {"m4a", "audio/mp4"},
    {"map", "application/json"},
    {"md", "text/markdown; charset=utf-8"},
    {"mjs", "text/javascript; charset=utf-8"},
    {"mp3", "audio/mpeg"},
    {"mp4", "video/mp4"},
    {"mpeg", "video/mpeg"},
    {"oga", "audio/ogg"},
    {"ogg", "audio/ogg"},
    {"ogv", "video/ogg"},
    {"opus", "audio/ogg"},
    {"otf", "font/otf"},
    {"pdf", "application/pdf"},
    {"png", "image/png"},
    {"rss", "application/rss+xml"},
    {"rtf", "application/rtf"},
    {"svg", "image/svg+xml"},
    {"tar", "application/x-tar"},
    {"tif", "image/tiff"},
    {"tiff", "image/tiff"},
    {"ttf", "font/ttf"},
    {"txt", "text/plain; charset=utf-8"},
    {"wasm", "application/wasm"},
    {"wav", "audio/wav"},
    {"weba", "audio/webm"},
    {"webm", "video/webm"},
    {"webmanifest", "application/manifest+json"},
    {"webp", "image/webp"},
    {"woff", "font/woff"},
    {"woff2", "font/woff2"},
    {"xhtml", "application/xhtml+xml"},
    {"xml", "application/xml"},
    {"zip", "application/zip"},
});
static_assert(std::ranges::is_sorted(TYPES, {}, &Row::first));

constexpr std::size_t LONGEST_EXTENSION = 11;

// What is not text and is nevertheless not compressed.
constexpr auto COMPRESSIBLE = std::to_array<std::string_view>(
    {"application/javascript", "application/json", "application/rtf", "application/wasm", "application/x-tar",
     "application/xml", "font/otf", "font/ttf", "image/bmp", "image/vnd.microsoft.icon"});

bool beginsWith(std::string_view text, std::string_view lower) noexcept {
  return text.size() >= lower.size() && detail::equalsIgnoringCase(text.substr(0, lower.size()), lower);
}

bool endsWith(std::string_view text, std::string_view lower) noexcept {
  return text.size() >= lower.size() && detail::equalsIgnoringCase(text.substr(text.size() - lower.size()), lower);
}

} // namespace

std::string_view contentTypeOf(std::string_view fileName) noexcept {
  constexpr std::string_view UNKNOWN = "application/octet-stream";
  const std::size_t dot = fileName.rfind('.');
  if (dot == std::string_view::npos || fileName.size() - dot - 1 > LONGEST_EXTENSION) return UNKNOWN;
  std::array<char, LONGEST_EXTENSION> lower{};
  std::transform(fileName.begin() + static_cast<std::ptrdiff_t>(dot) + 1, fileName.end(), lower.begin(),
                 detail::toLower);
  const std::string_view extension(lower.data(), fileName.size() - dot - 1);
  const auto* row = std::ranges::lower_bound(TYPES, extension, {}, &Row::first);
  return row != TYPES.end() && row->first == extension ? row->second : UNKNOWN;
}

bool isCompressible(std::string_view contentType) noexcept {
  const std::string_view essence = detail::trimmed(contentType.substr(0, contentType.find(';')));
  // An event stream is to arrive event by event.
  if (detail::equalsIgnoringCase(essence, "text/event-stream")) return false;
  if (beginsWith(essence, "text/") || endsWith(essence, "+xml") || endsWith(essence, "+json")) return true;
  return std::ranges::any_of(COMPRESSIBLE,
                             [&](std::string_view type) { return detail::equalsIgnoringCase(essence, type); });
}

} // namespace http
} // namespace v0
} // namespace troth
