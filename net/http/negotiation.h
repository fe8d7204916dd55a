// SPDX-License-Identifier: MIT
// Content negotiation: the best of what a server has for what a client says it wants.
#pragma once

#include <troth/net/http/header_map.h>

#include <optional>
#include <source_location>
#include <span>
#include <string_view>

namespace troth {
inline namespace v0 {
namespace http {

// Each of these takes the value of a field (RFC 9110, section 12.5), or the fields of a request, and what the server
// offers, with what it likes best in front. The result is one of `offered`: the one with the greatest weight ("q"), of
// equal ones the first. Elements that are malformed are passed over, and so are those after the first 100: the work is
// bounded by 100 elements for each that is offered. A response that was chosen so has a Vary field.

/// The media type, such as "text/html" or "text/html; charset=utf-8", that Accept likes best; nothing if none is
/// acceptable. For each one the most specific range counts: "text/*;q=0.5, text/html". Without the field all are
/// acceptable. Throws FAILED if one of `offered` is no media type.
std::optional<std::string_view> negotiateMediaType(std::string_view accept, std::span<const std::string_view> offered,
                                                   std::source_location where = std::source_location::current());
std::optional<std::string_view> negotiateMediaType(const HeaderFields& request,
                                                   std::span<const std::string_view> offered,
                                                   std::source_location where = std::source_location::current());

/// The content coding, such as "gzip", that Accept-Encoding likes best, or "identity", which need not be offered;
/// nothing if not even that is acceptable. A coding is preferred to identity unless the client gives that a greater
/// weight of its own. Without the field it is "identity".
std::optional<std::string_view> negotiateCoding(std::string_view acceptEncoding,
                                                std::span<const std::string_view> offered);
std::optional<std::string_view> negotiateCoding(const HeaderFields& request, std::span<const std::string_view> offered);

/// The language, such as "en-GB", that Accept-Language likes best; nothing if none is acceptable, and then a default
/// one is better than an error. A range matches a language that it begins (RFC 4647, section 3.3.1: "en" is content
/// with "en-GB"), and one that begins it (section 3.4: for "en-GB" "en" will do); of equal weights the closer match
/// wins. Without the field all are acceptable.
std::optional<std::string_view> negotiateLanguage(std::string_view acceptLanguage,
                                                  std::span<const std::string_view> offered);
std::optional<std::string_view> negotiateLanguage(const HeaderFields& request,
                                                  std::span<const std::string_view> offered);

} // namespace http
} // namespace v0
} // namespace troth
