// SPDX-License-Identifier: MIT
// Compressed responses, for clients that take them.
#pragma once

#include <troth/net/http/content_coding.h>
#include <troth/net/http/service.h>

#include <cstddef>
#include <memory>
#include <optional>
#include <source_location>
#include <string>

namespace troth {
inline namespace v0 {
namespace http {

// When a response is compressed: its Content-Type, which is set before, is worth it (isCompressible()); the client's
// Accept-Encoding takes a coding that this build has; and it has no Content-Encoding or Content-Range yet, nor
// `Cache-Control: no-transform` (RFC 9111, section 5.2.2.6). The functions here set Content-Encoding then, and make a
// strong ETag a weak one, as the bytes are other ones (RFC 9110, section 8.8.1). Vary is set whenever it depends on the
// client.
//
// Do not compress a page that has both a secret, such as a token, and something that others can put in: from the size
// of it the secret can be guessed (BREACH).

struct CompressionSettings {
  CodingLevel level = DEFAULT_LEVEL;
  /// What is shorter is sent as it is: it fits into a packet anyway.
  std::size_t least = 1024;
};

/// The same as Response::send(), compressed where that is to be. Up to 64 KiB are compressed at once; more becomes a
/// stream, between whose parts others run.
///
/// Completes:    when the connection has taken it.
/// Errors:       as Response::send().
/// Cancellation: partial, lost: the connection is closed.
/// Lifetime:     `response` outlives the promise, which owns `body`.
Promise<void> sendCompressed(const Request& request, Response& response, int status, std::string body,
                             CompressionSettings settings = {},
                             std::source_location where = std::source_location::current());

/// The same as Response::start(), without a length: a stream whose bytes are compressed where that is to be, and pass
/// as they are otherwise. Its flush() makes what was written arrive, and its end() must be called: without it the
/// client sees a body that is broken off, if it is compressed. `response` outlives the stream. Throws what
/// Response::start() throws, and FAILED for a level that there is not.
std::unique_ptr<EncodingStream> startCompressed(const Request& request, Response& response, int status,
                                                CodingLevel level = DEFAULT_LEVEL,
                                                std::source_location where = std::source_location::current());

} // namespace http
} // namespace v0
} // namespace troth
