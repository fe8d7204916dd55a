// SPDX-License-Identifier: MIT
// Which coding a response gets, and its body in it.
#include <troth/net/http/compress.h>

#include <troth/net/http/answer_detail.h>
#include <troth/net/http/conditional.h>
#include <troth/net/http/content_type.h>
#include <troth/net/http/negotiation.h>

#include <optional>
#include <utility>
#include <vector>

namespace troth {
inline namespace v0 {
namespace http {

namespace {

constexpr std::size_t MOST_AT_ONCE = 64 * 1024;

bool mayBeCompressed(const HeaderMap& headers) {
  if (headers.has(HeaderId::CONTENT_ENCODING) || headers.has(HeaderId::CONTENT_RANGE)) return false;
  if (headers.fields().hasToken(HeaderId::CACHE_CONTROL, "no-transform")) return false;
  return isCompressible(headers.get(HeaderId::CONTENT_TYPE).value_or(""));
}

void weakenTag(HeaderMap& headers) {
  const std::optional<EntityTag> tag = EntityTag::tryParse(headers.get(HeaderId::ETAG).value_or(""));
  if (tag && !tag->isWeak()) headers.set(HeaderId::ETAG, EntityTag::weak(tag->opaque()).toString());
}

// Sets the fields that go with it.
ContentCoding chooseCoding(const Request& request, HeaderMap& headers) {
  if (!mayBeCompressed(headers)) return ContentCoding::IDENTITY;
  detail::addVary(headers, "Accept-Encoding");
  // If not even "identity" is acceptable it is sent all the same: better than nothing (RFC 9110, section 12.5.3).
  const std::optional<std::string_view> name = negotiateCoding(request.headers(), supportedCodings());
  const ContentCoding coding = findCoding(name.value_or("identity")).value_or(ContentCoding::IDENTITY);
  if (coding == ContentCoding::IDENTITY) return coding;
  headers.set(HeaderId::CONTENT_ENCODING, codingName(coding));
  weakenTag(headers);
  return coding;
}

// What is written passes as it is.
class PlainStream final : public EncodingStream {
public:
  explicit PlainStream(AsyncOutputStream& output) noexcept : output_(output) {}

  using AsyncOutputStream::write;
  Promise<void> write(std::span<const std::byte> bytes, std::source_location where) override {
    return output_.write(bytes, where);
  }
  Promise<void> write(std::span<const std::span<const std::byte>> pieces, std::source_location where) override {
    return output_.write(pieces, where);
  }
  std::optional<Promise<std::uint64_t>> tryPumpFrom(AsyncInputStream& input, std::uint64_t amount,
                                                    std::source_location where) override {
    return input.pumpTo(output_, amount, where);
  }
  Promise<void> whenWriteDisconnected(std::source_location where) override {
    return output_.whenWriteDisconnected(where);
  }
  void abortWrite(std::source_location where) override { output_.abortWrite(where); }
  Promise<void> flush(std::source_location) override { return READY_NOW; }
  Promise<void> end(std::source_location) override { return READY_NOW; }

private:
  AsyncOutputStream& output_;
};

std::unique_ptr<EncodingStream> newStream(ContentCoding coding, AsyncOutputStream& output, CodingLevel level,
                                          const std::source_location& where) {
  if (coding == ContentCoding::IDENTITY) return std::make_unique<PlainStream>(output);
  return newEncodingStream(coding, output, level, where);
}

Promise<void> sendStreamed(Response& response, int status, std::string body, ContentCoding coding, CodingLevel level,
                           std::source_location where) {
  AsyncOutputStream& output = response.start(status, std::nullopt, where);
  const std::unique_ptr<EncodingStream> stream = newStream(coding, output, level, where);
  co_await stream->write(body, where);
  co_await stream->end(where);
}

Promise<void> sendBytes(Response& response, int status, std::vector<std::byte> bytes, std::source_location where) {
  co_await response.send(status, std::span<const std::byte>(bytes), where);
}

} // namespace

Promise<void> sendCompressed(const Request& request, Response& response, int status, std::string body,
                             CompressionSettings settings, std::source_location where) {
  if (body.size() < settings.least) return response.send(status, std::move(body), where);
  const ContentCoding coding = chooseCoding(request, response.headers());
  if (coding == ContentCoding::IDENTITY) return response.send(status, std::move(body), where);
  if (body.size() > MOST_AT_ONCE) return sendStreamed(response, status, std::move(body), coding, settings.level, where);
  return sendBytes(response, status, encode(coding, asBytes(body), settings.level, where), where);
}

std::unique_ptr<EncodingStream> startCompressed(const Request& request, Response& response, int status,
                                                CodingLevel level, std::source_location where) {
  const ContentCoding coding = chooseCoding(request, response.headers());
  return newStream(coding, response.start(status, std::nullopt, where), level, where);
}

} // namespace http
} // namespace v0
} // namespace troth
