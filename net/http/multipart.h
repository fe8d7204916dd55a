// SPDX-License-Identifier: MIT
// MultipartReader: the parts of a multipart body, such as a form with files, one after the other as they come.
#pragma once

#include <troth/io/stream.h>
#include <troth/net/http/header_map.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <source_location>
#include <string>
#include <string_view>

namespace troth {
inline namespace v0 {
namespace http {

/// How much a multipart body may have.
struct MultipartLimits {
  std::size_t maxParts = 1000;
  std::size_t maxHeaderBytes = 8 * 1024;     // of one part's head
  std::uint64_t maxBytes = 64 * 1024 * 1024; // of the whole, boundaries included
};

/// One part of a multipart body.
struct MultipartPart {
  HeaderMap headers;
  /// Of a form: the field's name, by Content-Disposition (RFC 7578, section 4.2).
  std::optional<std::string> name;
  /// Of a form: what the file is called where it comes from. It may be anything, such as "../../etc/passwd" or empty:
  /// never a path to write to.
  std::optional<std::string> fileName;
  /// The bytes, never null. They are there until MultipartReader::next() is called: reading then throws FAILED. What is
  /// not read is skipped by next(), so a part that nobody wants is just destroyed. Destroying it while a read is
  /// pending rejects that with DISCONNECTED.
  std::unique_ptr<AsyncInputStream> body;
};

/// The boundary that a Content-Type field of a multipart type names. Throws HttpError: 415 if it is another type, 400
/// if it is malformed or has no valid boundary (RFC 2046, section 5.1.1).
std::string multipartBoundary(std::string_view contentType,
                              std::source_location where = std::source_location::current());

/// Reads multipart/form-data (RFC 7578), and every other multipart type (RFC 2046, section 5.1), in bounded memory:
///
///     MultipartReader form(body, multipartBoundary(contentType));
///     while (std::optional<MultipartPart> part = co_await form.next())
///       if (part->name == "avatar") co_await part->body->pumpTo(file);
///
/// Everything that is malformed is an HttpError with 400, too much of it one with 413 or 431; they come out of next(),
/// or of reading the body in which they are met, and stay. A body that ends before its last boundary is malformed, so
/// no part is taken for complete that is not.
///
/// Destroying the reader rejects what is pending, here and on a part's body, with DISCONNECTED. Belongs to one thread.
class MultipartReader {
public:
  /// `body` outlives this. Throws HttpError with 400 if `boundary` is none.
  MultipartReader(AsyncInputStream& body, std::string_view boundary, const MultipartLimits& limits = {},
                  std::source_location where = std::source_location::current());
  /// Owns `body`, which is not null.
  MultipartReader(std::unique_ptr<AsyncInputStream> body, std::string_view boundary, const MultipartLimits& limits = {},
                  std::source_location where = std::source_location::current());
  ~MultipartReader();
  MultipartReader(const MultipartReader&) = delete;
  MultipartReader& operator=(const MultipartReader&) = delete;

  /// Goes on to the next part. What is left of the one before is skipped.
  ///
  /// Completes:    when the next part's head has come, at the end of the body, or on error.
  /// Result:       the part; nothing at the end, to which the body has then been read.
  /// Errors:       HttpError as above; those of reading.
  /// Cancellation: clean, but for the rest of the part before, which is gone: call it again.
  /// Lifetime:     the body stays alive until the promise completes or is destroyed.
  /// Overlap:      one at a time, and none while a read of a part's body is pending (it throws FAILED).
  Promise<std::optional<MultipartPart>> next(std::source_location where = std::source_location::current());

private:
  class State;
  class PartStream;
  std::unique_ptr<AsyncInputStream> owned_;
  std::shared_ptr<State> state_;
};

} // namespace http
} // namespace v0
} // namespace troth
