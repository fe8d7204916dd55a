// SPDX-License-Identifier: MIT
// Parsing and writing of WebSocket's frame headers, masking a word at a time, and UTF-8 by the range of its next byte.
#include <troth/net/http/websocket_frame_detail.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <random>
#include <utility>

namespace troth {
inline namespace v0 {
namespace http {
namespace detail {

namespace {

struct FaultText {
  std::uint16_t code;
  std::string_view text;
};

constexpr std::uint16_t PROTOCOL_ERROR = 1002;
constexpr std::uint16_t INVALID_DATA = 1007;
constexpr std::uint16_t TOO_BIG = 1009;

// In the order of WebSocketFault.
constexpr FaultText FAULTS[] = {
    {1000, ""},
    {PROTOCOL_ERROR, "a frame with reserved bits that no extension has defined"},
    {PROTOCOL_ERROR, "a frame with a reserved opcode"},
    {PROTOCOL_ERROR, "a control frame in fragments"},
    {PROTOCOL_ERROR, "a control frame of more than 125 bytes"},
    {PROTOCOL_ERROR, "a frame of a client that is not masked"},
    {PROTOCOL_ERROR, "a frame of a server that is masked"},
    {PROTOCOL_ERROR, "a length that is not in its shortest form"},
    {PROTOCOL_ERROR, "a length of 2^63 or more"},
    {PROTOCOL_ERROR, "a continuation of no message"},
    {PROTOCOL_ERROR, "a new message before the end of the last one"},
    {PROTOCOL_ERROR, "a continuation that is marked as compressed"},
    {PROTOCOL_ERROR, "a close frame of one byte"},
    {PROTOCOL_ERROR, "a close frame with a code that must not be sent"},
    {INVALID_DATA, "text that is not UTF-8"},
    {INVALID_DATA, "compressed data that cannot be decompressed"},
    {TOO_BIG, "a message that is too big"},
    {TOO_BIG, "a message of too many fragments"},
};

constexpr unsigned FINAL_BIT = 0x80;
constexpr unsigned COMPRESSED_BIT = 0x40;
constexpr unsigned OTHER_RESERVED_BITS = 0x30;
constexpr unsigned MASK_BIT = 0x80;
constexpr unsigned LENGTH_IN_16_BITS = 126;
constexpr unsigned LENGTH_IN_64_BITS = 127;

constexpr bool isKnown(unsigned opcode) noexcept { return opcode <= 2 || (opcode >= 8 && opcode <= 10); }

void putBigEndian(std::byte* out, std::uint64_t number, std::size_t bytes) noexcept {
  for (std::size_t i = bytes; i-- > 0; number >>= 8) out[i] = static_cast<std::byte>(number & 0xff);
}

std::uint64_t getBigEndian(const std::byte* in, std::size_t bytes) noexcept {
  std::uint64_t number = 0;
  for (std::size_t i = 0; i < bytes; ++i) number = number << 8 | std::to_integer<std::uint64_t>(in[i]);
  return number;
}

std::uint64_t load64(const std::byte* at) noexcept {
  std::uint64_t word;
  std::memcpy(&word, at, sizeof word);
  return word;
}

void xor64(std::byte* at, std::uint64_t key) noexcept {
  const std::uint64_t word = load64(at) ^ key;
  std::memcpy(at, &word, sizeof word);
}

constexpr std::uint64_t HIGH_BITS = 0x8080808080808080;

// How many of the 8 bytes in `word`, as they are in memory, are ASCII up to the first that is not.
std::size_t asciiIn(std::uint64_t word) noexcept {
  const std::uint64_t others = word & HIGH_BITS;
  const int zeros = std::endian::native == std::endian::little ? std::countr_zero(others) : std::countl_zero(others);
  return static_cast<std::size_t>(zeros) / 8;
}

// Whether all of at least 8 bytes are ASCII: of most messages, which are short, they are.
bool isAscii(std::span<const std::byte> bytes) noexcept {
  const std::byte* at = bytes.data();
  const std::byte* const last = at + bytes.size() - 8;
  std::uint64_t all = load64(last);
  for (; last - at >= 16; at += 16) all |= load64(at) | load64(at + 8);
  if (last > at) all |= load64(at);
  if (last - at > 8) all |= load64(at + 8);
  return (all & HIGH_BITS) == 0;
}

// How many bytes at the front are ASCII, less the last few if there are not 8 behind them.
std::size_t asciiLength(std::span<const std::byte> bytes) noexcept {
  std::size_t i = 0;
  for (; i + 32 <= bytes.size(); i += 32) {
    const std::byte* at = bytes.data() + i;
    if (((load64(at) | load64(at + 8) | load64(at + 16) | load64(at + 24)) & HIGH_BITS) != 0) break;
  }
  for (; i + 8 <= bytes.size(); i += 8)
    if (const std::uint64_t word = load64(bytes.data() + i); (word & HIGH_BITS) != 0) return i + asciiIn(word);
  return i;
}

/// What follows the first byte of a character (RFC 3629, section 4): how many bytes, and what the next one may be. That
/// excludes forms that are too long, surrogates, and what is beyond U+10FFFF; the others are 0x80 to 0xbf.
struct Continuation {
  std::uint8_t left = 0; // none, for a byte that is no first one of several
  std::uint8_t low = 0x80;
  std::uint8_t high = 0xbf;
};

constexpr std::array<Continuation, 256> makeContinuations() {
  std::array<Continuation, 256> table{};
  for (std::size_t byte = 0xc2; byte <= 0xf4; ++byte)
    table[byte].left = static_cast<std::uint8_t>(byte < 0xe0 ? 1 : byte < 0xf0 ? 2 : 3);
  table[0xe0].low = 0xa0;
  table[0xed].high = 0x9f;
  table[0xf0].low = 0x90;
  table[0xf4].high = 0x8f;
  return table;
}
constexpr std::array<Continuation, 256> CONTINUATIONS = makeContinuations();

bool isTail(std::byte byte) noexcept { return (byte & std::byte{0xc0}) == std::byte{0x80}; }

// The size of the character at `at`, which is not ASCII and of which 4 bytes can be read; 0 if it is
// none.
std::size_t characterSize(const std::byte* at) noexcept {
  const Continuation& next = CONTINUATIONS[std::to_integer<std::size_t>(at[0])];
  const auto second = std::to_integer<std::uint8_t>(at[1]);
  if (next.left == 0 || second < next.low || second > next.high) return 0;
  if (next.left > 1 && !isTail(at[2])) return 0;
  if (next.left > 2 && !isTail(at[3])) return 0;
  return next.left + std::size_t(1);
}

// How many bytes at the front are whole characters. Stops at what is none, and shortly before the end.
std::size_t charactersLength(std::span<const std::byte> bytes) noexcept {
  std::size_t i = asciiLength(bytes);
  while (i + 8 <= bytes.size()) {
    const std::uint64_t word = load64(bytes.data() + i);
    if ((word & HIGH_BITS) == 0) {
      i += asciiLength(bytes.subspan(i));
    } else if (const std::size_t ascii = asciiIn(word); ascii > 0) {
      i += ascii;
    } else if (const std::size_t size = characterSize(bytes.data() + i); size > 0) {
      i += size;
    } else {
      break;
    }
  }
  return i;
}

/// Numbers of std::random_device, which costs a few hundred cycles each, and 5 kB to have: so a supply at a time.
struct RandomSupply {
  std::array<std::uint32_t, 64> numbers;
  std::size_t left = 0;

  std::uint32_t next() {
    if (left == 0) refill();
    return numbers[--left];
  }
  [[gnu::noinline]] void refill() {
    std::random_device device;
    std::generate(numbers.begin(), numbers.end(), [&] { return static_cast<std::uint32_t>(device()); });
    left = numbers.size();
  }
};
constinit thread_local RandomSupply randomSupply{};

} // namespace

std::uint16_t closeCodeOf(WebSocketFault fault) noexcept { return FAULTS[static_cast<std::size_t>(fault)].code; }
std::string_view textOf(WebSocketFault fault) noexcept { return FAULTS[static_cast<std::size_t>(fault)].text; }

bool WebSocketHeaderParser::parse(std::span<const std::byte>& input) noexcept {
  while (have_ < 2) {
    if (input.empty() || fault_ != WebSocketFault::NONE) return false;
    const auto byte = std::to_integer<unsigned>(raw_[have_] = input.front());
    input = input.subspan(1);
    fault_ = have_++ == 0 ? checkFirst(byte) : checkSecond(byte);
  }
  // Now it is known how many bytes there are, and that nothing is wrong with them but perhaps the length.
  if (fault_ != WebSocketFault::NONE) return false;
  const std::size_t more = std::min<std::size_t>(need_ - have_, input.size());
  if (more == sizeof(WebSocketMask)) { // as a rule, without a call
    std::memcpy(raw_.data() + have_, input.data(), sizeof(WebSocketMask));
  } else if (more > 0) {
    std::memcpy(raw_.data() + have_, input.data(), more);
  }
  input = input.subspan(more);
  have_ = static_cast<std::uint8_t>(have_ + more);
  return have_ == need_ && complete();
}

bool WebSocketHeaderParser::complete() noexcept {
  const std::size_t size = std::exchange(need_, 2);
  have_ = 0;
  fault_ = checkLength();
  if (header_.mask) std::memcpy(header_.mask->data(), raw_.data() + size - 4, 4);
  return fault_ == WebSocketFault::NONE;
}

WebSocketFault WebSocketHeaderParser::checkFirst(unsigned byte) noexcept {
  const unsigned opcode = byte & 0x0f;
  if ((byte & OTHER_RESERVED_BITS) != 0) return WebSocketFault::RESERVED_BITS;
  if (!isKnown(opcode)) return WebSocketFault::RESERVED_OPCODE;
  header_.opcode = static_cast<WebSocketOpcode>(opcode);
  header_.final = (byte & FINAL_BIT) != 0;
  header_.compressed = (byte & COMPRESSED_BIT) != 0;
  if (header_.compressed) {
    if (compression_ == Compression::NOT_NEGOTIATED || isControl(header_.opcode)) return WebSocketFault::RESERVED_BITS;
    // RFC 7692, section 6.1: only the first frame of a message has the bit.
    if (header_.opcode == WebSocketOpcode::CONTINUATION) return WebSocketFault::COMPRESSED_CONTINUATION;
  }
  if (isControl(header_.opcode) && !header_.final) return WebSocketFault::FRAGMENTED_CONTROL;
  return WebSocketFault::NONE;
}

WebSocketFault WebSocketHeaderParser::checkSecond(unsigned byte) noexcept {
  const bool masked = (byte & MASK_BIT) != 0;
  if (masked != (masking_ == WebSocketMasking::REQUIRED))
    return masked ? WebSocketFault::MASKED : WebSocketFault::NOT_MASKED;
  const unsigned length = byte & 0x7f;
  if (isControl(header_.opcode) && length > LONGEST_CONTROL_PAYLOAD) return WebSocketFault::LONG_CONTROL;
  header_.length = length;
  if (length == LENGTH_IN_16_BITS) need_ = 4;
  if (length == LENGTH_IN_64_BITS) need_ = 10;
  if (masked) {
    header_.mask.emplace();
    need_ = static_cast<std::uint8_t>(need_ + 4);
  }
  return WebSocketFault::NONE;
}

// RFC 6455, section 5.2: the minimal number of bytes must be used, and the most significant bit must be 0.
WebSocketFault WebSocketHeaderParser::checkLength() noexcept {
  if (header_.length == LENGTH_IN_16_BITS) {
    header_.length = getBigEndian(raw_.data() + 2, 2);
    if (header_.length < LENGTH_IN_16_BITS) return WebSocketFault::LENGTH_NOT_MINIMAL;
  } else if (header_.length == LENGTH_IN_64_BITS) {
    header_.length = getBigEndian(raw_.data() + 2, 8);
    if (header_.length >> 63 != 0) return WebSocketFault::LENGTH_TOO_LARGE;
    if (header_.length <= 0xffff) return WebSocketFault::LENGTH_NOT_MINIMAL;
  }
  return WebSocketFault::NONE;
}

std::size_t writeFrameHeader(std::span<std::byte, LONGEST_FRAME_HEADER> out,
                             const WebSocketFrameHeader& header) noexcept {
  const unsigned maskBit = header.mask ? MASK_BIT : 0;
  out[0] = static_cast<std::byte>((header.final ? FINAL_BIT : 0) | (header.compressed ? COMPRESSED_BIT : 0) |
                                  static_cast<unsigned>(header.opcode));
  std::size_t size = 2;
  if (header.length < LENGTH_IN_16_BITS) {
    out[1] = static_cast<std::byte>(maskBit | static_cast<unsigned>(header.length));
  } else if (header.length <= 0xffff) {
    out[1] = static_cast<std::byte>(maskBit | LENGTH_IN_16_BITS);
    putBigEndian(out.data() + 2, header.length, 2);
    size += 2;
  } else {
    out[1] = static_cast<std::byte>(maskBit | LENGTH_IN_64_BITS);
    putBigEndian(out.data() + 2, header.length, 8);
    size += 8;
  }
  if (header.mask) {
    std::memcpy(out.data() + size, header.mask->data(), header.mask->size());
    size += header.mask->size();
  }
  return size;
}

void applyMask(std::span<std::byte> bytes, const WebSocketMask& mask, std::uint64_t offset) noexcept {
  // The mask twice, turned so that it begins with the byte that is the first one's.
  std::array<std::byte, 8> twice;
  std::memcpy(twice.data(), mask.data(), 4);
  std::memcpy(twice.data() + 4, mask.data(), 4);
  const int bits = 8 * static_cast<int>(offset % 4);
  auto key = std::bit_cast<std::uint64_t>(twice);
  key = std::endian::native == std::endian::little ? std::rotr(key, bits) : std::rotl(key, bits);
  const auto turned = std::bit_cast<std::array<std::byte, 8>>(key);
  std::byte* at = bytes.data();
  std::size_t left = bytes.size();
  for (; left >= 32; at += 32, left -= 32) { // four at a time: two or one instructions of a vector unit
    xor64(at, key);
    xor64(at + 8, key);
    xor64(at + 16, key);
    xor64(at + 24, key);
  }
  for (; left >= 8; at += 8, left -= 8) xor64(at, key);
  for (std::size_t i = 0; i < left; ++i) at[i] ^= turned[i];
}

void randomBytes(std::span<std::byte> bytes) {
  for (std::size_t i = 0; i < bytes.size(); i += 4) {
    const std::uint32_t number = randomSupply.next();
    std::memcpy(bytes.data() + i, &number, std::min<std::size_t>(4, bytes.size() - i));
  }
}

WebSocketMask randomMask() {
  WebSocketMask mask;
  randomBytes(mask);
  return mask;
}

// One byte, by hand.
bool Utf8Validator::step(std::uint8_t byte) noexcept {
  if (left_ > 0) {
    if (byte < low_ || byte > high_) return false;
    low_ = 0x80;
    high_ = 0xbf;
    --left_;
    return true;
  }
  if (byte < 0x80) return true;
  const Continuation& next = CONTINUATIONS[byte];
  left_ = next.left;
  low_ = next.low;
  high_ = next.high;
  return left_ > 0;
}

bool Utf8Validator::feed(std::span<const std::byte> bytes) noexcept {
  constexpr std::size_t SHORT = 256;
  if (left_ == 0 && bytes.size() >= 8 && bytes.size() <= SHORT && isAscii(bytes)) return true;
  return feedByCharacter(bytes);
}

bool Utf8Validator::feedByCharacter(std::span<const std::byte> bytes) noexcept {
  std::size_t i = 0;
  for (; left_ > 0 && i < bytes.size(); ++i)
    if (!step(std::to_integer<std::uint8_t>(bytes[i]))) return false;
  i += charactersLength(bytes.subspan(i));
  for (; i < bytes.size(); ++i)
    if (!step(std::to_integer<std::uint8_t>(bytes[i]))) return false;
  return true;
}

bool mayBeSent(std::uint16_t closeCode) noexcept {
  if (closeCode >= 3000) return closeCode <= 4999;
  return (closeCode >= 1000 && closeCode <= 1003) || (closeCode >= 1007 && closeCode <= 1014);
}

WebSocketCloseFrame parseClosePayload(std::string_view payload, WebSocketFault& fault) noexcept {
  constexpr std::uint16_t NO_CODE = 1005;
  fault = WebSocketFault::NONE;
  if (payload.empty()) return {NO_CODE, {}};
  if (payload.size() == 1) {
    fault = WebSocketFault::BAD_CLOSE_PAYLOAD;
    return {NO_CODE, {}};
  }
  const std::span<const std::byte> bytes = std::as_bytes(std::span(payload.data(), payload.size()));
  const WebSocketCloseFrame close{static_cast<std::uint16_t>(getBigEndian(bytes.data(), 2)), payload.substr(2)};
  Utf8Validator utf8;
  if (!mayBeSent(close.code)) {
    fault = WebSocketFault::BAD_CLOSE_CODE;
  } else if (!utf8.feed(bytes.subspan(2)) || !utf8.isComplete()) {
    fault = WebSocketFault::NOT_UTF8;
  }
  return close;
}

} // namespace detail
} // namespace http
} // namespace v0
} // namespace troth
