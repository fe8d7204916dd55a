// SPDX-License-Identifier: MIT
// permessage-deflate (RFC 7692) on zlib.
#include <troth/net/http/websocket_deflate_detail.h>

#include <troth/net/http/text_detail.h>
#include <troth/runtime/exception.h>
#include <troth/runtime/pool_detail.h>
#include <troth/runtime/quote_detail.h>

#include <fmt/format.h>

#ifdef TROTH_HAS_ZLIB
#include <zlib.h>
#endif

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <new>

namespace troth {
inline namespace v0 {
namespace http {
namespace detail {

namespace {

constexpr std::string_view NAME = "permessage-deflate";
constexpr int LEAST_BITS = 8; // RFC 7692, section 7.1.2
constexpr int MOST_BITS = 15;

/// What an offer, or its acceptance, says (RFC 7692, section 7.1). Of the windows: 0 if it is not there, and
/// WITHOUT_VALUE if it has no value.
struct Parameters {
  static constexpr int WITHOUT_VALUE = -1;

  bool serverNoContextTakeover = false;
  bool clientNoContextTakeover = false;
  int serverMaxWindowBits = 0;
  int clientMaxWindowBits = 0;
};

enum class Verdict : std::uint8_t {
  VALID,
  INVALID,  // a parameter that RFC 7692 does not know, twice, or with a wrong value: such an offer is declined
  OTHER,    // another extension
  MALFORMED // against the grammar
};

// RFC 7692, section 7.1.2: 8 to 15, without leading zeros.
int windowBits(std::string_view value) noexcept {
  const std::optional<std::uint64_t> bits = parseDecimal(value);
  if (!bits || *bits < LEAST_BITS || *bits > MOST_BITS || value.front() == '0') return 0;
  return static_cast<int>(*bits);
}

bool setFlag(bool& flag, const std::optional<std::string_view>& value) noexcept {
  return !value && !std::exchange(flag, true);
}

bool setBits(int& bits, const std::optional<std::string_view>& value) noexcept {
  if (bits != 0) return false;
  bits = value ? windowBits(*value) : Parameters::WITHOUT_VALUE;
  return bits != 0;
}

// Returns whether it is one that is known, new and has a fitting value.
bool setParameter(Parameters& parameters, std::string_view name,
                  const std::optional<std::string_view>& value) noexcept {
  if (equalsIgnoringCase(name, "server_no_context_takeover")) return setFlag(parameters.serverNoContextTakeover, value);
  if (equalsIgnoringCase(name, "client_no_context_takeover")) return setFlag(parameters.clientNoContextTakeover, value);
  if (equalsIgnoringCase(name, "server_max_window_bits"))
    return value && setBits(parameters.serverMaxWindowBits, value);
  if (equalsIgnoringCase(name, "client_max_window_bits")) return setBits(parameters.clientMaxWindowBits, value);
  return false;
}

std::string_view takeUpTo(std::string_view& text, char end) noexcept {
  const std::size_t at = std::min(text.find(end), text.size());
  const std::string_view part = trimmed(text.substr(0, at));
  text.remove_prefix(std::min(at + 1, text.size()));
  return part;
}

// RFC 6455, section 9.1: a value may be quoted, but must be a token all the same.
std::string_view unquoted(std::string_view value) noexcept {
  if (value.size() >= 2 && value.front() == '"' && value.back() == '"') return value.substr(1, value.size() - 2);
  return value;
}

/// Reads "permessage-deflate; name; name=value".
Verdict parseExtension(std::string_view element, Parameters& parameters) noexcept {
  bool more = element.find(';') != std::string_view::npos;
  const std::string_view name = takeUpTo(element, ';');
  if (!isToken(name)) return Verdict::MALFORMED;
  bool valid = true;
  while (more) {
    more = element.find(';') != std::string_view::npos;
    std::string_view parameter = takeUpTo(element, ';');
    const bool hasValue = parameter.find('=') != std::string_view::npos;
    const std::string_view parameterName = takeUpTo(parameter, '=');
    std::optional<std::string_view> value;
    if (hasValue) value = unquoted(trimmed(parameter));
    if (!isToken(parameterName) || (value && !isToken(*value))) return Verdict::MALFORMED;
    valid = setParameter(parameters, parameterName, value) && valid;
  }
  if (!equalsIgnoringCase(name, NAME)) return Verdict::OTHER;
  return valid ? Verdict::VALID : Verdict::INVALID;
}

int orAll(int bits) noexcept { return bits > 0 ? bits : MOST_BITS; }

AcceptedDeflate accept(const Parameters& offer, const WebSocketDeflateOptions& options) {
  AcceptedDeflate accepted;
  WebSocketDeflateTerms& terms = accepted.terms;
  terms.level = options.level;
  terms.smallest = options.smallest;
  terms.ownNoContextTakeover = options.ownNoContextTakeover || offer.serverNoContextTakeover;
  terms.peerNoContextTakeover = options.peerNoContextTakeover || offer.clientNoContextTakeover;
  terms.ownWindowBits = std::min(options.ownWindowBits, orAll(offer.serverMaxWindowBits));
  // RFC 7692, section 7.1.2.2: a client that has not said that it can is not asked to.
  if (offer.clientMaxWindowBits != 0)
    terms.peerWindowBits = std::min(options.peerWindowBits, orAll(offer.clientMaxWindowBits));
  accepted.response = NAME;
  if (terms.ownNoContextTakeover) accepted.response += "; server_no_context_takeover";
  if (terms.peerNoContextTakeover) accepted.response += "; client_no_context_takeover";
  if (offer.serverMaxWindowBits != 0 || terms.ownWindowBits < MOST_BITS)
    accepted.response += fmt::format("; server_max_window_bits={}", terms.ownWindowBits);
  if (terms.peerWindowBits < MOST_BITS)
    accepted.response += fmt::format("; client_max_window_bits={}", terms.peerWindowBits);
  return accepted;
}

[[noreturn]] void refuse(std::string_view what, std::string_view accepted, const std::source_location& where) {
  throw Exception(
      Exception::Kind::FAILED,
      fmt::format("WebSocket: the server's Sec-WebSocket-Extensions {} {}", troth::detail::quote(accepted), what), {},
      where);
}

// RFC 7692, sections 7.1.1 and 7.1.2: what a response must and must not say.
bool fits(const Parameters& response, const WebSocketDeflateOptions& options) noexcept {
  if (options.peerNoContextTakeover && !response.serverNoContextTakeover) return false;
  if (options.peerWindowBits < MOST_BITS && response.serverMaxWindowBits == 0) return false;
  return response.serverMaxWindowBits <= options.peerWindowBits &&
         response.clientMaxWindowBits <= options.ownWindowBits &&
         response.clientMaxWindowBits != Parameters::WITHOUT_VALUE;
}

void requireBits(int bits, const std::source_location& where) {
  if (bits <= LEAST_BITS || bits > MOST_BITS)
    troth::detail::throwMisuse(fmt::format("WebSocket: a window of {} bits: 9 to 15 are possible", bits), where);
}

} // namespace

bool canDeflate() noexcept {
#ifdef TROTH_HAS_ZLIB
  return true;
#else
  return false;
#endif
}

void requireDeflateOptions(const WebSocketDeflateOptions& options, const std::source_location& where) {
  if (!canDeflate())
    throw Exception(Exception::Kind::UNIMPLEMENTED, "WebSocket: this troth was built without zlib", {}, where);
  requireBits(options.ownWindowBits, where);
  requireBits(options.peerWindowBits, where);
  if (options.level < 0 || options.level > 9)
    troth::detail::throwMisuse(fmt::format("WebSocket: {} is no level of compression: 0 to 9 are", options.level),
                               where);
}

std::string deflateOffer(const WebSocketDeflateOptions& options) {
  std::string offer(NAME);
  if (options.peerNoContextTakeover) offer += "; server_no_context_takeover";
  if (options.ownNoContextTakeover) offer += "; client_no_context_takeover";
  if (options.peerWindowBits < MOST_BITS) offer += fmt::format("; server_max_window_bits={}", options.peerWindowBits);
  // Always: it says that a window which the server chooses is fine.
  offer += "; client_max_window_bits";
  if (options.ownWindowBits < MOST_BITS) offer += fmt::format("={}", options.ownWindowBits);
  return offer;
}

std::optional<AcceptedDeflate> acceptDeflate(std::string_view offers, const WebSocketDeflateOptions* options,
                                             bool& malformed) {
  std::optional<AcceptedDeflate> accepted;
  malformed = false;
  while (const std::optional<std::string_view> element = nextElement(offers)) {
    Parameters offer;
    const Verdict verdict = parseExtension(*element, offer);
    if (verdict == Verdict::MALFORMED) malformed = true;
    if (verdict == Verdict::VALID && options != nullptr && !accepted) accepted = accept(offer, *options);
  }
  if (malformed) accepted.reset();
  return accepted;
}

std::optional<WebSocketDeflateTerms> checkDeflate(std::string_view accepted, const WebSocketDeflateOptions* options,
                                                  const std::source_location& where) {
  std::string_view rest = accepted;
  const std::optional<std::string_view> element = nextElement(rest);
  if (!element) return std::nullopt;
  Parameters response;
  const Verdict verdict = parseExtension(*element, response);
  if (verdict == Verdict::MALFORMED) refuse("is malformed", accepted, where);
  if (options == nullptr || verdict == Verdict::OTHER) refuse("has what was not offered", accepted, where);
  if (nextElement(rest)) refuse("has more than was offered", accepted, where);
  if (verdict == Verdict::INVALID || !fits(response, *options)) refuse("does not fit the offer", accepted, where);
  WebSocketDeflateTerms terms;
  terms.level = options->level;
  terms.smallest = options->smallest;
  terms.ownNoContextTakeover = options->ownNoContextTakeover || response.clientNoContextTakeover;
  terms.peerNoContextTakeover = response.serverNoContextTakeover;
  terms.ownWindowBits = std::min(options->ownWindowBits, orAll(response.clientMaxWindowBits));
  terms.peerWindowBits = orAll(response.serverMaxWindowBits);
  return terms;
}

#ifdef TROTH_HAS_ZLIB

namespace {

// What a message's last block ends with, and is left out (RFC 7692, section 7.2.1).
constexpr std::array<std::byte, 4> TAIL{std::byte{0}, std::byte{0}, std::byte{0xff}, std::byte{0xff}};

// zlib frees without saying how much, so each block begins with its size.
constexpr std::size_t SIZE_SPACE = alignof(std::max_align_t);

voidpf takeBlock(voidpf, uInt items, uInt size) noexcept {
  const std::size_t total = std::size_t(items) * size + SIZE_SPACE;
  try {
    auto* block = static_cast<std::byte*>(troth::detail::allocate(total));
    std::memcpy(block, &total, sizeof total);
    return block + SIZE_SPACE;
  } catch (const std::bad_alloc&) {
    return Z_NULL;
  }
}

void giveBlock(voidpf, voidpf memory) noexcept {
  auto* block = static_cast<std::byte*>(memory) - SIZE_SPACE;
  std::size_t total;
  std::memcpy(&total, block, sizeof total);
  troth::detail::deallocate(block, total);
}

/// A stream that takes its memory from the pool, for `initialise` to complete.
template <typename Delete, typename Initialise>
std::unique_ptr<z_stream_s, Delete> makeStream(Initialise&& initialise) {
  auto raw = std::make_unique<z_stream>();
  *raw = {};
  raw->zalloc = takeBlock;
  raw->zfree = giveBlock;
  if (initialise(*raw) != Z_OK) throw std::bad_alloc();
  return std::unique_ptr<z_stream_s, Delete>(raw.release());
}

void setInput(z_stream& stream, std::span<const std::byte> input) noexcept {
  stream.next_in = reinterpret_cast<const Bytef*>(input.data());
  stream.avail_in = static_cast<uInt>(input.size());
}

std::span<std::byte> scratch() {
  std::byte* const buffer = troth::detail::makeScratch();
  if (buffer == nullptr) throw std::bad_alloc();
  return {buffer, troth::detail::BUFFER_SIZE};
}

void setOutput(z_stream& stream, std::span<std::byte> output) noexcept {
  stream.next_out = reinterpret_cast<Bytef*>(output.data());
  stream.avail_out = static_cast<uInt>(output.size());
}

} // namespace

void DeleteInflate::operator()(z_stream_s* stream) const noexcept {
  ::inflateEnd(stream);
  delete stream;
}

void DeleteDeflate::operator()(z_stream_s* stream) const noexcept {
  ::deflateEnd(stream);
  delete stream;
}

WebSocketFault WebSocketInflater::inflate(std::span<const std::byte>& input, std::size_t limit, Utf8Validator* utf8,
                                          PoolString& message) {
  // Not less than 9: older zlibs, told to use 8, used 9 without saying so.
  if (stream_ == nullptr)
    stream_ = makeStream<DeleteInflate>([&](z_stream& s) { return inflateInit2(&s, -std::max(windowBits_, 9)); });
  const std::span<std::byte> buffer = scratch();
  setInput(*stream_, input);
  setOutput(*stream_, buffer);
  const int result = ::inflate(stream_.get(), Z_NO_FLUSH);
  // A block that says it is the last one (RFC 7692, section 7.2.3.4). Who makes such blocks begins anew after them.
  if (result == Z_STREAM_END) ::inflateReset(stream_.get());
  if (result == Z_MEM_ERROR) throw std::bad_alloc();
  const std::span<const std::byte> output = buffer.first(buffer.size() - stream_->avail_out);
  // What is wrong is found in the order of the bytes, so that the pieces in which they come make no difference.
  const std::size_t room = limit - message.size();
  if (utf8 != nullptr && !utf8->feed(output.first(std::min(output.size(), room)))) return WebSocketFault::NOT_UTF8;
  if (output.size() > room) return WebSocketFault::MESSAGE_TOO_BIG;
  message.append(reinterpret_cast<const char*>(output.data()), output.size());
  if (result != Z_OK && result != Z_BUF_ERROR && result != Z_STREAM_END) return WebSocketFault::NOT_DEFLATED;
  input = input.last(stream_->avail_in);
  hasMore_ = stream_->avail_out == 0;
  return WebSocketFault::NONE;
}

WebSocketFault WebSocketInflater::finish(std::size_t limit, Utf8Validator* utf8, PoolString& message) {
  WebSocketFault fault = WebSocketFault::NONE;
  std::span<const std::byte> tail = TAIL;
  do fault = inflate(tail, limit, utf8, message);
  while (fault == WebSocketFault::NONE && (hasMore_ || !tail.empty()));
  if (forgets_) stream_.reset();
  return fault;
}

void WebSocketDeflater::deflate(std::span<const std::byte> bytes, Part part, PoolString& payload) {
  // zlib has no window of 8 bits for data without its own header. With one of 9, whose matches reach back by one byte
  // only, what comes out fits into any.
  if (stream_ == nullptr)
    stream_ = makeStream<DeleteDeflate>([&](z_stream& s) {
      constexpr int MEMORY_LEVEL = 8; // zlib's default
      return deflateInit2(&s, level_, Z_DEFLATED, -std::max(windowBits_, 9), MEMORY_LEVEL,
                          windowBits_ < 9 ? Z_RLE : Z_DEFAULT_STRATEGY);
    });
  const std::span<std::byte> buffer = scratch();
  const std::size_t before = payload.size();
  setInput(*stream_, bytes);
  do {
    setOutput(*stream_, buffer);
    ::deflate(stream_.get(), part == Part::LAST ? Z_SYNC_FLUSH : Z_NO_FLUSH);
    payload.append(reinterpret_cast<const char*>(buffer.data()), buffer.size() - stream_->avail_out);
  } while (stream_->avail_out == 0);
  if (part == Part::NOT_LAST) return;
  if (payload.size() > before) {
    payload.resize(payload.size() - TAIL.size()); // the flush has put it there whole
  } else {
    payload.push_back('\0'); // RFC 7692, section 7.2.3.6: the empty block, without its tail
  }
  if (forgets_) reset();
}

void WebSocketDeflater::reset() noexcept {
  if (forgets_) {
    stream_.reset();
  } else if (stream_ != nullptr) {
    ::deflateReset(stream_.get());
  }
}

#else // Nothing is negotiated, so nothing is compressed.

void DeleteInflate::operator()(z_stream_s*) const noexcept {}
void DeleteDeflate::operator()(z_stream_s*) const noexcept {}

WebSocketFault WebSocketInflater::inflate(std::span<const std::byte>&, std::size_t, Utf8Validator*, PoolString&) {
  return WebSocketFault::NOT_DEFLATED;
}

WebSocketFault WebSocketInflater::finish(std::size_t, Utf8Validator*, PoolString&) {
  return WebSocketFault::NOT_DEFLATED;
}

void WebSocketDeflater::deflate(std::span<const std::byte>, Part, PoolString&) {}

void WebSocketDeflater::reset() noexcept {}

#endif

} // namespace detail
} // namespace http
} // namespace v0
} // namespace troth
