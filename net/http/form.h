// SPDX-License-Identifier: MIT
// readForm: the body of a form of type application/x-www-form-urlencoded.
#pragma once

#include <troth/io/stream.h>
#include <troth/net/http/query.h>

#include <source_location>

namespace troth {
inline namespace v0 {
namespace http {

/// Reads a form, which is `body` to its end. (For multipart/form-data, in which files come, there is MultipartReader.)
///
/// Completes:    at the end of the body, or on error.
/// Result:       its names and values.
/// Errors:       HttpError: 413 as soon as there are more than `limits.maxBytes` bytes, 400 for what Query::parseForm()
///               refuses. Those of reading.
/// Cancellation: partial, lost: what was read before is gone.
/// Lifetime:     `body` stays alive until the promise completes or is destroyed.
/// Overlap:      it is a read of `body`: one at a time.
Promise<Query> readForm(AsyncInputStream& body, QueryLimits limits = {},
                        std::source_location where = std::source_location::current());

} // namespace http
} // namespace v0
} // namespace troth
