// SPDX-License-Identifier: MIT
// What handlers do every day: read a request's text, form or parts, set a cookie, send somebody elsewhere.
#pragma once

#include <troth/net/http/cookie.h>
#include <troth/net/http/multipart.h>
#include <troth/net/http/query.h>
#include <troth/net/http/service.h>
#include <troth/runtime/promise.h>

#include <cstddef>
#include <source_location>
#include <string>
#include <string_view>

namespace troth {
inline namespace v0 {
namespace http {

// Of a body that comes with a content coding, such as gzip, the functions here make nothing: HttpError 415, which tells
// the client to send it as it is (RFC 9110, section 15.5.16). decodeContent() (troth/net/http/content_coding.h) takes
// it.

/// Reads the content of a request, of any type. (JSON, say, for a parser of yours: check mediaTypeOf() first.)
///
/// Completes:    at the end of the body, or on error.
/// Result:       its bytes.
/// Errors:       HttpError: 413 as soon as it is known that there are more than `limit` bytes; 415 as above. Those of
///               reading.
/// Cancellation: partial, lost: what was read before is gone.
/// Lifetime:     the request outlives the promise.
/// Overlap:      it is a read of the body: one at a time.
Promise<std::string> readText(Request& request, std::size_t limit,
                              std::source_location where = std::source_location::current());

/// Reads the content of a request as a form. Throws HttpError with 415 unless its Content-Type is
/// application/x-www-form-urlencoded.
///
/// Completes:    at the end of the body, or on error.
/// Result:       its names and values.
/// Errors:       HttpError: 413 and 400 as readForm() of a stream (troth/net/http/form.h) has them, 415. Those of
///               reading.
/// Cancellation: partial, lost: what was read before is gone.
/// Lifetime:     the request outlives the promise.
/// Overlap:      it is a read of the body: one at a time.
Promise<Query> readForm(Request& request, QueryLimits limits = {},
                        std::source_location where = std::source_location::current());

/// The parts of a request's content, such as those of a form with files, to be read one after the other. The reader is
/// outlived by the request. Throws HttpError: 415 unless its Content-Type is multipart/form-data or another multipart
/// type, 400 if that is malformed.
MultipartReader newMultipartReader(Request& request, const MultipartLimits& limits = {},
                                   std::source_location where = std::source_location::current());

/// Whether the request's Content-Type is `essence`, such as "application/json", whatever its parameters; in any case.
bool hasContentType(const Request& request, std::string_view essence);

/// Sets one more cookie. Throws FAILED as SetCookie::toString() does.
void setCookie(Response& response, const SetCookie& cookie,
               std::source_location where = std::source_location::current());

/// Sends the client to another URL, or a reference to one, such as "/login?from=here": with 303 it gets that by GET
/// (after a form), with 307 and 308 it sends the same request there (for now, and for good), with 301 and 302 nobody
/// knows whether a POST stays one. Throws FAILED for another status, and unless `location` is a URL or a reference: of
/// what comes from a request, make sure that it leads where you want (Url::resolve(), Url::origin()).
///
/// Completes, Errors, Cancellation: as Response::send().
Promise<void> sendRedirect(Response& response, int status, std::string_view location,
                           std::source_location where = std::source_location::current());

} // namespace http
} // namespace v0
} // namespace troth
