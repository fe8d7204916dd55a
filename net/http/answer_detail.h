// SPDX-License-Identifier: MIT
// What the services of the library have in common in their responses.
#pragma once

#include <troth/net/http/service.h>

#include <source_location>
#include <string_view>

namespace troth {
inline namespace v0 {
namespace http {
namespace detail {

/// Answers with a status, and as content what it is called, for people: "405 Method Not Allowed".
Promise<void> sendStatus(Response& response, int status, std::source_location where = std::source_location::current());

/// Says that the response would be another one if the field of this name were (RFC 9110, section 12.5.5).
void addVary(HeaderMap& headers, std::string_view fieldName);

/// Whether the request's content comes without a content coding. "identity" is none (RFC 9110, section 12.5.3).
bool isPlain(const Request& request);

/// Throws HttpError with 400 if a "%" in a path is not followed by two hexadecimal digits: before normalizePath(),
/// which makes "%25" of it.
void requireEncoded(std::string_view path, std::source_location where = std::source_location::current());

} // namespace detail
} // namespace http
} // namespace v0
} // namespace troth
