// SPDX-License-Identifier: MIT
// FileService: the files of a directory, for browsers and caches.
#pragma once

#include <troth/io/file.h>
#include <troth/net/http/range.h>
#include <troth/net/http/service.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <source_location>
#include <string>
#include <string_view>

namespace troth {
inline namespace v0 {
namespace http {

struct FileSettings {
  /// The file that a path ending with "/" stands for; empty: there is none, and such a path is 404.
  std::string index = "index.html";
  /// The Cache-Control field, such as "public, max-age=3600"; empty for none: clients ask again as they like.
  std::string cacheControl = {};
  /// Files and directories whose names begin with a dot, such as ".git" and ".htpasswd", exist for nobody, or do.
  enum class Hidden : std::uint8_t { REFUSE, SERVE };
  Hidden hidden = Hidden::REFUSE;
  /// Whether "x.css.br" or "x.css.gz" is sent for "x.css" to clients that take it. It must not be older than "x.css",
  /// and one that may not be read counts for nothing. Only for types that are worth it (isCompressible()).
  enum class Precompressed : std::uint8_t { SEND, IGNORE };
  Precompressed precompressed = Precompressed::SEND;
  /// A request for more ranges than these gets the whole.
  std::size_t ranges = ByteRanges::DEFAULT_MOST;
  /// The media type of a file of this name, which has no directory in front; contentTypeOf() unless set.
  std::function<std::string_view(std::string_view fileName)> contentType = {};
};

/// Answers GET and HEAD with the files of a directory. Mounted in a Router it sees the path beneath that.
///
///     auto directory = openDirectory(io, "public").wait(scope);
///     http::FileService files(*directory);
///     router.mount("/static", files);
///
/// It sends Last-Modified, an ETag made of the file's size and time (a weak one while the file is younger than a second
/// and might change again in the same), and `Accept-Ranges`; it evaluates conditions (304, 412) and ranges (206, 416),
/// of which several come as multipart/byteranges, and never more of them than the file has bytes; several of what is
/// compressed are the whole. What is large goes from the file to the connection by pumpTo(): no faster than the client
/// reads, and without passing through the program where the system can (sendfile(2)).
///
/// A path is cut into segments before it is decoded, so "%2F" is no separator; and nothing leads out of the directory,
/// whatever the path says and wherever symbolic links lead (see Directory). What does not exist, cannot be a name (with
/// a slash or NUL in it), is hidden, a device, or beyond a link that is refused, is 404; what may not be read, 403; a
/// directory without its "/" is sent there by 308. Other methods are 405.
///
/// A file that becomes shorter while it is sent breaks the connection. To change a file that is served, replace it
/// (Directory::replaceFile()).
///
/// Belongs to one thread, and outlives the requests that it handles.
class FileService final : public Service {
public:
  /// `directory` outlives the service. Throws FAILED if `settings.index` is no path.
  explicit FileService(Directory& directory, FileSettings settings = FileSettings(),
                       std::source_location where = std::source_location::current());

  Promise<void> handle(Request& request, Response& response) override;

private:
  Directory& directory_;
  const FileSettings settings_;

  Promise<void> serve(Request& request, Response& response, Path path);
};

/// Answers a GET or HEAD with one file, as FileService does; fields that were set before stay.
///
/// Completes:    when the connection has taken it.
/// Errors:       HttpError: 404, 403; those of reading the file, and those of writing.
/// Cancellation: partial, lost: the connection is closed, if the response was begun.
/// Lifetime:     `directory` outlives the promise.
Promise<void> sendFile(Request& request, Response& response, Directory& directory, Path path,
                       FileSettings settings = FileSettings());

} // namespace http
} // namespace v0
} // namespace troth
