// SPDX-License-Identifier: MIT
// From a request to a file in four steps: the path, the file or its compressed sibling, the conditions, the bytes.
#include <troth/net/http/file_service.h>

#include <troth/net/http/answer_detail.h>
#include <troth/net/http/conditional.h>
#include <troth/net/http/content_type.h>
#include <troth/net/http/date.h>
#include <troth/net/http/http_error.h>
#include <troth/net/http/negotiation.h>
#include <troth/net/http/percent.h>
#include <troth/net/http/router.h>
#include <troth/net/http/url.h>
#include <troth/runtime/exception.h>
#include <troth/runtime/quote_detail.h>

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <random>
#include <system_error>
#include <utility>
#include <vector>

namespace troth {
inline namespace v0 {
namespace http {

namespace {

// What is no larger is read at once, and sent together with its head by one system call.
constexpr std::uint64_t SMALL_FILE = Chunk::CAPACITY;

// --- The path.

/// The file that the path of a URL names; nothing if there can be none of that name.
std::optional<Path> pathOf(std::string_view urlPath, FileSettings::Hidden hidden) {
  detail::requireEncoded(urlPath);
  const std::string normal = normalizePath(urlPath);
  std::string text;
  for (std::size_t at = 0; at < normal.size();) {
    const std::size_t end = std::min(normal.find('/', at), normal.size());
    const std::string segment = percentDecode(std::string_view(normal).substr(at, end - at));
    at = end + 1;
    if (segment.empty()) continue;
    if (segment.find('/') != std::string::npos || segment.find('\0') != std::string::npos) return std::nullopt;
    if (segment == "." || segment == ".." || segment.size() > Path::MAX_COMPONENT) return std::nullopt;
    if (segment.front() == '.' && hidden == FileSettings::Hidden::REFUSE) return std::nullopt;
    text.append(text.empty() ? "" : "/").append(segment);
  }
  if (text.size() > Path::MAX_SIZE) return std::nullopt;
  return text.empty() ? Path() : Path::parse(text);
}

/// Where a directory without its slash is to be looked for. It is told by its path alone, so that whatever the Host
/// field was does not matter. No reference that begins with "//" or "/\" is a path (RFC 3986, section 4.2, and what
/// browsers make of it): it would lead to another host.
std::string directoryLocation(const Request& request) {
  const std::string path = normalizePath(request.path());
  std::string location = "/";
  for (const char c : std::string_view(path).substr(std::min(path.find_first_not_of('/'), path.size()))) {
    if (c == '\\')
      location += "%5C";
    else
      location += c;
  }
  location += '/';
  if (!request.query().empty()) location.append("?").append(request.query());
  return location;
}

// --- The file.

struct Opened {
  std::unique_ptr<File> file; // null if there is none
  bool isDirectory = false;
};

/// Whether it is about the path, and not the server: it names nothing that could be sent.
bool meansNothingThere(const std::error_code& code) {
  return code == std::errc::not_a_directory || code == std::errc::too_many_symbolic_link_levels ||
         code == std::errc::cross_device_link || code == std::errc::filename_too_long ||
         code == std::errc::invalid_seek || code == std::errc::no_such_device_or_address ||
         code == std::errc::no_such_device;
}

Promise<Opened> tryOpen(Directory& directory, Path path) {
  Opened opened;
  try {
    opened.file = co_await directory.tryOpenFile(std::move(path));
  } catch (const Exception& e) {
    if (e.code() == std::errc::permission_denied || e.code() == std::errc::operation_not_permitted)
      throw HttpError(403, e.description());
    opened.isDirectory = e.code() == std::errc::is_a_directory;
    if (!opened.isDirectory && !meansNothingThere(e.code())) throw;
  }
  co_return opened;
}

/// What is to be sent: a file or its compressed sibling.
struct Source {
  std::unique_ptr<File> file;
  FileInfo info;
  std::string_view coding = {}; // "br" or "gzip"; empty for the file itself
};

struct Coding {
  std::string_view name, suffix;
};
constexpr std::array<Coding, 2> CODINGS = {{{"br", ".br"}, {"gzip", ".gz"}}}; // the smaller one first

/// The sibling that the client likes best, or the file.
Promise<Source> chooseSource(Source plain, HeaderFields request, Directory& directory, Path path) {
  std::vector<std::string_view> offered;
  for (const Coding& coding : CODINGS) offered.push_back(coding.name);
  while (!offered.empty()) {
    const std::optional<std::string_view> best = negotiateCoding(request, offered);
    const auto coding = std::ranges::find(CODINGS, best.value_or("identity"), &Coding::name);
    if (coding == CODINGS.end()) break;
    std::erase(offered, coding->name);
    if (path.basename().size() + coding->suffix.size() > Path::MAX_COMPONENT ||
        path.toString().size() + coding->suffix.size() > Path::MAX_SIZE)
      break;
    Path sibling = Path::parse(path.toString() + std::string(coding->suffix));
    Opened opened;
    try {
      opened = co_await tryOpen(directory, std::move(sibling));
    } catch (const HttpError&) { // it may not be read; the file itself may
    }
    if (opened.file == nullptr) continue;
    const FileInfo info = co_await opened.file->stat();
    if (info.modified < plain.info.modified) continue; // made of what the file was
    co_return Source{std::move(opened.file), info, coding->name};
  }
  co_return plain;
}

// --- The conditions.

Validators validatorsOf(const Source& source) {
  const auto now = std::chrono::system_clock::now();
  // RFC 9110, section 8.8.2.1: no later than the response.
  const auto modified = std::chrono::floor<std::chrono::seconds>(std::min(source.info.modified, now));
  Validators validators;
  const std::string opaque = fmt::format("{:x}-{:x}{}{}", source.info.size,
                                         static_cast<std::uint64_t>(source.info.modified.time_since_epoch().count()),
                                         source.coding.empty() ? "" : "-", source.coding);
  // What was changed just now may be changed once more without another time (RFC 9110, section 8.8.1).
  const bool mayChange = now - source.info.modified < std::chrono::seconds(1);
  validators.etag = mayChange ? EntityTag::weak(opaque) : EntityTag::strong(opaque);
  if (modified >= std::chrono::sys_days(std::chrono::year(1970) / 1 / 1)) validators.lastModified = modified;
  return validators;
}

/// What may be compared byte by byte: of a file that may change again, nothing.
Validators strongOnly(const Validators& validators) {
  Validators strong = validators;
  if (strong.etag->isWeak()) strong.lastModified.reset();
  return strong;
}

// --- The bytes.

[[noreturn]] void failShrunk() {
  throw Exception(Exception::Kind::FAILED, "FileService: a file became shorter while it was sent");
}

Promise<void> pumpRange(File& file, ByteRange range, AsyncOutputStream& output) {
  const std::unique_ptr<AsyncInputStream> input = newFileInputStream(file, range.first);
  if (co_await input->pumpTo(output, range.length()) < range.length()) failShrunk();
}

Promise<void> sendWhole(Method method, Response& response, File& file, std::uint64_t size) {
  if (method == Method::HEAD || size == 0) {
    response.start(200, size);
    co_return;
  }
  if (size > SMALL_FILE) {
    const ByteRange all{0, size - 1};
    co_await pumpRange(file, all, response.start(200, size));
    co_return;
  }
  detail::PoolVector<std::byte> bytes(static_cast<std::size_t>(size));
  if (co_await file.read(0, bytes) < bytes.size()) failShrunk();
  co_await response.send(200, std::span<const std::byte>(bytes));
}

Promise<void> sendRange(Response& response, File& file, ByteRange range, std::uint64_t size) {
  response.headers().set(HeaderId::CONTENT_RANGE, contentRange(range, size));
  co_await pumpRange(file, range, response.start(206, range.length()));
}

/// What no file has in it but by an accident that does not happen.
std::string newBoundary() {
  std::random_device random;
  return fmt::format("{:08x}{:08x}{:08x}{:08x}", random(), random(), random(), random());
}

// RFC 9110, section 14.6.
Promise<void> sendRanges(Response& response, File& file, std::vector<ByteRange> ranges, std::uint64_t size) {
  const std::string boundary = newBoundary();
  const std::string type(response.headers().fields().valueOr(HeaderId::CONTENT_TYPE, ""));
  const std::string end = byteRangesEnd(boundary);
  std::vector<std::string> heads;
  std::uint64_t length = end.size();
  for (const ByteRange& range : ranges) {
    heads.push_back(byteRangeHead(boundary, type, range, size));
    length += heads.back().size() + range.length();
  }
  response.headers().set(HeaderId::CONTENT_TYPE, "multipart/byteranges; boundary=" + boundary);
  AsyncOutputStream& output = response.start(206, length);
  for (std::size_t i = 0; i < ranges.size(); ++i) {
    co_await output.write(heads[i]);
    co_await pumpRange(file, ranges[i], output);
  }
  co_await output.write(end);
}

Promise<void> sendUnsatisfiable(Response& response, std::uint64_t size) {
  HeaderMap& headers = response.headers();
  for (const HeaderId id : {HeaderId::CONTENT_ENCODING, HeaderId::ETAG, HeaderId::LAST_MODIFIED}) headers.remove(id);
  headers.set(HeaderId::CONTENT_RANGE, contentRangeUnsatisfied(size));
  return detail::sendStatus(response, 416);
}

// --- The whole.

void describe(HeaderMap& headers, const Source& source, const Validators& validators, std::string_view type,
              const FileSettings& settings) {
  headers.set(HeaderId::CONTENT_TYPE, type);
  headers.set(HeaderId::ACCEPT_RANGES, "bytes");
  headers.set(HeaderId::ETAG, validators.etag->toString());
  if (validators.lastModified) headers.set(HeaderId::LAST_MODIFIED, formatHttpDate(*validators.lastModified));
  if (!source.coding.empty()) headers.set(HeaderId::CONTENT_ENCODING, source.coding);
  if (!settings.cacheControl.empty()) headers.set(HeaderId::CACHE_CONTROL, settings.cacheControl);
}

Promise<void> sendOpened(Request& request, Response& response, Directory& directory, std::unique_ptr<File> file,
                         Path path, const FileSettings& settings) {
  const FileInfo info = co_await file->stat();
  Source source{std::move(file), info};
  const std::string_view name = path.basename();
  const std::string type(settings.contentType ? settings.contentType(name) : contentTypeOf(name));
  if (settings.precompressed == FileSettings::Precompressed::SEND && isCompressible(type)) {
    detail::addVary(response.headers(), "Accept-Encoding");
    source = co_await chooseSource(std::move(source), request.headers(), directory, path);
  }
  const Validators validators = validatorsOf(source);
  describe(response.headers(), source, validators, type, settings);

  switch (evaluatePreconditions(request.method(), request.headers(), validators)) {
  case Preconditions::NOT_MODIFIED:
    // RFC 9110, section 15.4.5: only what helps the client to find what it has.
    for (const HeaderId id : {HeaderId::CONTENT_TYPE, HeaderId::CONTENT_ENCODING, HeaderId::ACCEPT_RANGES})
      response.headers().remove(id);
    co_await response.send(304);
    co_return;
  case Preconditions::FAILED:
    throw HttpError(412, "the file " + troth::detail::quote(path.toString()) + " is not what the client takes it for");
  case Preconditions::HOLD:
    break;
  }
  const std::uint64_t size = source.info.size;
  // Several parts of what is coded would be decoded together with their heads, by who takes Content-Encoding for that
  // of the body.
  const std::size_t most = source.coding.empty() ? settings.ranges : std::min<std::size_t>(settings.ranges, 1);
  ByteRanges wanted;
  if (const auto range = applicableRange(request.method(), request.headers(), strongOnly(validators)))
    wanted = ByteRanges::of(*range, size, most);
  if (wanted.kind == ByteRanges::Kind::UNSATISFIABLE)
    co_await sendUnsatisfiable(response, size);
  else if (wanted.kind == ByteRanges::Kind::WHOLE)
    co_await sendWhole(request.method(), response, *source.file, size);
  else if (wanted.ranges.size() == 1)
    co_await sendRange(response, *source.file, wanted.ranges.front(), size);
  else
    co_await sendRanges(response, *source.file, std::move(wanted.ranges), size);
}

Promise<void> refuseMethod(Response& response) {
  response.headers().set(HeaderId::ALLOW, "GET, HEAD");
  return detail::sendStatus(response, 405);
}

bool isRead(const Request& request) { return request.method() == Method::GET || request.method() == Method::HEAD; }

[[noreturn]] void failMissing(const Request& request) {
  throw HttpError(404, "there is no file for " + troth::detail::quote(request.path()));
}

} // namespace

FileService::FileService(Directory& directory, FileSettings settings, std::source_location where)
    : directory_(directory), settings_(std::move(settings)) {
  if (!settings_.index.empty() && Path::parse(settings_.index, where).isSelf())
    troth::detail::throwMisuse("FileService: the index " + troth::detail::quote(settings_.index) + " names no file",
                               where);
}

Promise<void> FileService::handle(Request& request, Response& response) {
  if (!isRead(request)) return refuseMethod(response);
  std::optional<Path> path = pathOf(mountedPath(request), settings_.hidden);
  if (!path) failMissing(request);
  return serve(request, response, *std::move(path));
}

Promise<void> FileService::serve(Request& request, Response& response, Path path) {
  // The path that the client sees decides, as it does for the links of the page: "/static" is mounted as "/".
  const bool hasSlash = normalizePath(request.path()).ends_with('/');
  if (hasSlash) {
    const bool isTooLong = path.toString().size() + 1 + settings_.index.size() > Path::MAX_SIZE;
    if (settings_.index.empty() || isTooLong) failMissing(request);
    path = path / settings_.index;
  }
  Opened opened;
  if (!path.isSelf()) opened = co_await tryOpen(directory_, path);
  if (opened.file != nullptr) {
    co_await sendOpened(request, response, directory_, std::move(opened.file), std::move(path), settings_);
    co_return;
  }
  if (hasSlash || (!opened.isDirectory && !path.isSelf()) || settings_.index.empty()) failMissing(request);
  response.headers().set(HeaderId::LOCATION, directoryLocation(request));
  co_await response.send(308);
}

Promise<void> sendFile(Request& request, Response& response, Directory& directory, Path path, FileSettings settings) {
  if (!isRead(request)) {
    co_await refuseMethod(response);
    co_return;
  }
  Opened opened;
  if (!path.isSelf()) opened = co_await tryOpen(directory, path);
  if (opened.file == nullptr) failMissing(request);
  co_await sendOpened(request, response, directory, std::move(opened.file), std::move(path), settings);
}

} // namespace http
} // namespace v0
} // namespace troth
