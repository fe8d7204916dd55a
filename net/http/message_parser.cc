// SPDX-License-Identifier: MIT
// llhttp says whether a head is well-formed; when it is complete its lines are taken apart, and checked once more.
#include <troth/net/http/message_parser_detail.h>

#include <troth/net/http/byte_scan_detail.h>
#include <troth/net/http/text_detail.h>
#include <troth/runtime/exception.h>

#include <llhttp.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <new>

#ifdef TROTH_HAS_LLHTTP_SSE42
extern "C" int llhttp__internal_execute_sse42(llhttp__internal_t* parser, const char* begin, const char* end);
#endif

namespace troth {
inline namespace v0 {
namespace http {
namespace detail {

namespace {

using Execute = int (*)(llhttp__internal_t*, const char*, const char*);

// The copy of llhttp for this processor.
Execute chooseExecute() noexcept {
#ifdef TROTH_HAS_LLHTTP_SSE42
  __builtin_cpu_init();
  if (__builtin_cpu_supports("sse4.2")) return &llhttp__internal_execute_sse42;
#endif
  return [](llhttp__internal_t* parser, const char* begin, const char* end) {
    return static_cast<int>(llhttp_execute(parser, begin, static_cast<std::size_t>(end - begin)));
  };
}
const Execute execute = chooseExecute();

// The longest name of a method that is looked at. (Those that are registered have at most 17 bytes.)
constexpr std::size_t LONGEST_METHOD = 32;
// Sizes of chunks, extensions and line ends: what is beyond the least that is needed.
constexpr std::uint64_t MOST_EXCESS = 16 * 1024;
// Fields that are kept to be known again.
constexpr std::size_t MOST_KNOWN = 2048;

constexpr std::uint64_t FRAMING_FIELDS = headerBit(HeaderId::TRANSFER_ENCODING) | headerBit(HeaderId::CONTENT_LENGTH);
// With these a head's fields are not kept: the parser may go on to another client's connection, and nobody is to learn
// from the time that it takes what that one has sent.
constexpr std::uint64_t SECRET_FIELDS =
    headerBit(HeaderId::AUTHORIZATION) | headerBit(HeaderId::PROXY_AUTHORIZATION) | headerBit(HeaderId::COOKIE);

// With which the target does not go on: all but visible ASCII, and '#' (RFC 9112, section 3.2).
constexpr Word endsTarget(Word word) noexcept {
  return marksBelow(word, 0x21) | marksOf(word, '#') | marksFrom0x7f(word);
}

// unreserved, sub-delims and '%' of RFC 3986, section 3.2.2.
constexpr std::array<bool, 256> makeHostTable() {
  std::array<bool, 256> table{};
  for (unsigned c = '0'; c <= '9'; ++c) table[c] = true;
  for (unsigned c = 'a'; c <= 'z'; ++c) table[c] = table[c - 'a' + 'A'] = true;
  for (const char c : std::string_view("-._~!$&'()*+,;=%")) table[static_cast<unsigned char>(c)] = true;
  return table;
}
constexpr std::array<bool, 256> HOST_CHARACTERS = makeHostTable();

constexpr bool isHostCharacter(char c) noexcept { return HOST_CHARACTERS[static_cast<unsigned char>(c)]; }

constexpr bool isAddressCharacter(char c) noexcept {
  return isDigit(c) || (toLower(c) >= 'a' && toLower(c) <= 'f') || c == ':' || c == '.';
}

// uri-host [ ":" port ] of RFC 9110, section 7.2.
bool isHost(std::string_view host) noexcept {
  std::size_t end = 0;
  if (!host.empty() && host.front() == '[') {
    end = host.find(']');
    if (end == std::string_view::npos || end < 3) return false;
    const std::string_view address = host.substr(1, end - 1);
    if (!std::all_of(address.begin(), address.end(), isAddressCharacter)) return false;
    ++end;
  } else {
    while (end < host.size() && isHostCharacter(host[end])) ++end;
  }
  if (end == host.size()) return true;
  if (host[end] != ':') return false;
  const std::string_view port = host.substr(end + 1);
  return port.empty() || parseDecimal(port).value_or(65'536) <= 65'535;
}

// Whether a host is named, too: an empty one is for fields alone (RFC 9110, section 4.2.1).
bool isAuthority(std::string_view text) noexcept { return !text.empty() && text.front() != ':' && isHost(text); }

// Of CONNECT: with a port, which a server must check (RFC 9110, section 9.3.6).
bool isTunnelEnd(std::string_view text) noexcept {
  if (!isAuthority(text)) return false;
  const std::size_t colon = text.rfind(':');
  if (colon == std::string_view::npos || text.back() == ']') return false;
  unsigned port = 0;
  for (const char digit : text.substr(colon + 1)) port = 10 * port + static_cast<unsigned>(digit - '0');
  return port > 0 && port <= 65535;
}

// The four forms of RFC 9112, section 3.2. Of the absolute form llhttp has checked the scheme; user information is an
// error there (RFC 9110, section 4.2.4).
bool isTargetForm(Method method, std::string_view target) noexcept {
  if (method == Method::CONNECT) return isTunnelEnd(target);
  if (target.empty()) return false;
  if (target.front() == '/') return true;
  if (target == "*") return method == Method::OPTIONS;
  const std::size_t colon = target.find("://");
  if (colon == std::string_view::npos || colon == 0) return false;
  const std::string_view rest = target.substr(colon + 3);
  return isAuthority(rest.substr(0, rest.find_first_of("/?")));
}

// What frames and routes messages has no business behind them, and is left out (RFC 9110, section 6.5.1).
constexpr bool mayTrail(HeaderId id) noexcept {
  return id != HeaderId::CONTENT_LENGTH && id != HeaderId::TRANSFER_ENCODING && id != HeaderId::HOST &&
         id != HeaderId::CONNECTION && id != HeaderId::TRAILER && id != HeaderId::UPGRADE && id != HeaderId::TE &&
         id != HeaderId::CONTENT_ENCODING && id != HeaderId::CONTENT_TYPE && id != HeaderId::AUTHORIZATION;
}

} // namespace

// What a body in chunks needs besides: few bodies are sent so.
struct MessageParser::ChunkState : troth::detail::Pooled {
  std::string_view piece;
  std::uint64_t excess = 0;    // bytes that are neither content nor the least that it takes to frame it
  std::uint64_t allowance = 0; // how many of the next such bytes are free
  bool done = false;
  std::size_t trailerBytes = 0;
  std::uint64_t position = 0; // of what was fed last, in the body
  char last = 0;              // the byte in front of what is fed next
  std::uint64_t valueEnd = 0; // of the trailer that is being read; 0 before its value
  PoolString name, value;
  HeaderMap trailers;
};

// Exceptions stop here: what calls is C.
template <typename Func>
int MessageParser::orOutOfMemory(Func&& func) noexcept {
  try {
    func();
    return HPE_OK;
  } catch (const std::bad_alloc&) {
    refuse(503, "there is no memory for the head");
  } catch (const Exception&) {
    refuse(400, "a header field is malformed");
  }
  return HPE_USER;
}

// The parser in its storage, and its callbacks, which C calls.
struct MessageParser::Llhttp {
  static llhttp_t& of(MessageParser& parser) noexcept {
    return *std::launder(reinterpret_cast<llhttp_t*>(parser.storage_));
  }
  static MessageParser& from(llhttp_t* raw) noexcept { return *static_cast<MessageParser*>(raw->data); }

  // Of heads.

  static int onHeadEnd(llhttp_t*) noexcept { return HPE_PAUSED; }

  static llhttp_settings_t makeHeadSettings() noexcept {
    llhttp_settings_t settings;
    llhttp_settings_init(&settings);
    settings.on_headers_complete = onHeadEnd;
    return settings;
  }

  // Of bodies in chunks.

  static ChunkState& chunksOf(llhttp_t* raw) noexcept { return *from(raw).chunks_; }

  static int onChunk(llhttp_t* raw) noexcept {
    // A size of sixteen digits with its line ends is free, and larger chunks may be wordier.
    chunksOf(raw).allowance = 24 + std::min<std::uint64_t>(raw->content_length, 1024);
    return HPE_OK;
  }
  static int onContent(llhttp_t* raw, const char* at, std::size_t length) noexcept {
    chunksOf(raw).piece = {at, length};
    return HPE_PAUSED;
  }
  static int onTrailerName(llhttp_t* raw, const char* at, std::size_t length) noexcept {
    return addToTrailer(raw, chunksOf(raw).name, at, length);
  }
  static int onTrailerValue(llhttp_t* raw, const char* at, std::size_t length) noexcept {
    MessageParser& parser = from(raw);
    ChunkState& chunks = *parser.chunks_;
    const std::uint64_t position = chunks.position + parser.offsetOf(at);
    if (chunks.valueEnd != 0 && chunks.valueEnd != position) {
      parser.refuse(400, "a trailer goes on in the next line (RFC 9112, section 5.2)");
      return HPE_USER;
    }
    chunks.valueEnd = position + length;
    return addToTrailer(raw, chunks.value, at, length);
  }
  static int addToTrailer(llhttp_t* raw, PoolString& text, const char* at, std::size_t length) noexcept {
    MessageParser& parser = from(raw);
    ChunkState& chunks = *parser.chunks_;
    chunks.trailerBytes += length + 2;
    if (chunks.trailerBytes > parser.limits_.headBytes || chunks.trailers.size() >= parser.limits_.fields) {
      parser.refuse(431, "the trailers are too large");
      return HPE_USER;
    }
    return parser.orOutOfMemory([&] { text.append(at, length); });
  }
  static int onTrailerEnd(llhttp_t* raw) noexcept {
    MessageParser& parser = from(raw);
    ChunkState& chunks = *parser.chunks_;
    return parser.orOutOfMemory([&] {
      if (mayTrail(findHeader(chunks.name))) chunks.trailers.add(chunks.name, chunks.value);
      chunks.name.clear();
      chunks.value.clear();
      chunks.valueEnd = 0;
    });
  }
  static int onMessageEnd(llhttp_t* raw) noexcept {
    chunksOf(raw).done = true;
    return HPE_PAUSED;
  }

  static llhttp_settings_t makeBodySettings() noexcept {
    llhttp_settings_t settings;
    llhttp_settings_init(&settings);
    settings.on_chunk_header = onChunk;
    settings.on_body = onContent;
    settings.on_header_field = onTrailerName;
    settings.on_header_value = onTrailerValue;
    settings.on_header_value_complete = onTrailerEnd;
    settings.on_message_complete = onMessageEnd;
    return settings;
  }

  // llhttp as it begins a message of a kind: a copy costs less than beginning.
  static llhttp_t makeFresh(Kind kind) noexcept {
    llhttp_t raw;
    llhttp_init(&raw, kind == Kind::REQUEST ? HTTP_REQUEST : HTTP_RESPONSE, &headSettings);
    return raw;
  }

  static const llhttp_settings_t headSettings, bodySettings;
  static const llhttp_t freshRequest, freshResponse;
};
const llhttp_settings_t MessageParser::Llhttp::headSettings = makeHeadSettings();
const llhttp_settings_t MessageParser::Llhttp::bodySettings = makeBodySettings();
const llhttp_t MessageParser::Llhttp::freshRequest = makeFresh(Kind::REQUEST);
const llhttp_t MessageParser::Llhttp::freshResponse = makeFresh(Kind::RESPONSE);

MessageParser::MessageParser(Kind kind, HeadLimits limits) noexcept : limits_(limits), kind_(kind) {
  static_assert(sizeof(llhttp_t) <= LLHTTP_SIZE && alignof(llhttp_t) <= 8);
  new (storage_) llhttp_t;
  reset();
}

MessageParser::~MessageParser() = default;

void MessageParser::reset() noexcept {
  parsed_ = fieldsAt_ = 0;
  fault_ = ParseFault();
  methodLength_ = targetLength_ = 0;
  hasStarted_ = false;
  if (chunks_ != nullptr) chunks_.reset();
}

MessageParser::Outcome MessageParser::refuse(int status, const char* reason) noexcept {
  if (fault_.status == 0) fault_ = {status, reason};
  return Outcome::FAULT;
}

// Sees to it that llhttp knows the method: it refuses those that it does not, and has the names of other protocols'
// ones. One that is not ours goes as GET, from which it differs in nothing that concerns the syntax.
void MessageParser::startLlhttp() noexcept {
  llhttp_t& raw = Llhttp::of(*this);
  raw = kind_ == Kind::REQUEST ? Llhttp::freshRequest : Llhttp::freshResponse;
  raw.data = this;
  if (kind_ == Kind::RESPONSE) return;
  parsed_ = methodAt_;
  if (method_ != Method::OTHER) return;
  feed("GET ", 4, methodAt_);
  parsed_ = methodAt_ + methodLength_ + 1;
}

int MessageParser::feed(const char* bytes, std::size_t length, std::size_t at) noexcept {
  feedStart_ = bytes;
  feedAt_ = at;
  return execute(&Llhttp::of(*this), bytes, bytes + length);
}

MessageParser::Outcome MessageParser::parseHead(std::string_view text) {
  text_ = text.data();
  if (!hasStarted_) {
    if (const Outcome outcome = start(text); !hasStarted_) return outcome;
    if (!known_.empty() && isKnown(text)) return Outcome::COMPLETE;
    startLlhttp();
  }
  const std::size_t most = std::min<std::size_t>(text.size(), limits_.headBytes);
  const int error = feed(text.data() + parsed_, most - parsed_, parsed_);
  if (error == HPE_PAUSED) {
    parsed_ = static_cast<std::size_t>(llhttp_get_error_pos(&Llhttp::of(*this)) - text.data());
    return finishHead();
  }
  if (isTargetTooLong(text.substr(0, most))) return refuse(414, "the target is too long");
  if (error != HPE_OK) return refuseAsLlhttp();
  parsed_ = most;
  return most < limits_.headBytes ? Outcome::NEEDS_MORE : refuse(431, "the head is too large");
}

// Whether the head is a request line with a path, and the fields that are known. Then nothing is left for llhttp to
// find out: the method is a token, and the path consists of what a path may.
bool MessageParser::isKnown(std::string_view text) noexcept {
  fieldsAt_ = endOfRequestLine(text);
  const std::size_t end = fieldsAt_ + known_.size();
  if (fieldsAt_ == 0 || text.size() < end || end > limits_.headBytes || targetLength_ > limits_.targetBytes ||
      text[targetAt_] != '/' || method_ == Method::CONNECT || text[fieldsAt_ - 3] != '0' + minorVersion_ ||
      std::memcmp(text.data() + fieldsAt_, known_.data(), known_.size()) != 0)
    return false;
  parsed_ = end;
  return true;
}

bool MessageParser::isTargetTooLong(std::string_view text) const noexcept {
  if (kind_ == Kind::RESPONSE) return false;
  const std::size_t start = std::size_t(methodAt_) + methodLength_ + 1;
  if (text.size() - std::min(text.size(), start) <= limits_.targetBytes) return false;
  const std::string_view target = text.substr(start, limits_.targetBytes + 1);
  return scan(target.data(), target.data() + target.size(), endsTarget) == target.data() + target.size();
}

// Finds the method.
MessageParser::Outcome MessageParser::start(std::string_view text) noexcept {
  if (kind_ == Kind::RESPONSE) {
    hasStarted_ = !text.empty();
    return Outcome::NEEDS_MORE;
  }
  if (text.size() >= 4 && loadPart(text.data(), 4) == loadPart("GET ", 4)) [[likely]] {
    methodAt_ = 0;
    methodLength_ = 3;
    method_ = Method::GET;
    hasStarted_ = true;
    return Outcome::NEEDS_MORE;
  }
  // Empty lines before a request are ignored (RFC 9112, section 2.2).
  std::size_t at = 0;
  while (at + 1 < text.size() && text[at] == '\r' && text[at + 1] == '\n') at += 2;
  if (at >= limits_.headBytes) return refuse(400, "there are empty lines without end");
  if (at < text.size() && text[at] == '\r' && at + 1 == text.size()) return Outcome::NEEDS_MORE;
  std::size_t end = at;
  while (end < text.size() && isTokenCharacter(text[end])) ++end;
  if (end - at > LONGEST_METHOD) return refuse(501, "the method is unknown");
  if (end == text.size()) return Outcome::NEEDS_MORE;
  if (end == at || text[end] != ' ') return refuse(400, "the request does not begin with a method");
  methodAt_ = static_cast<std::uint32_t>(at);
  methodLength_ = static_cast<std::uint32_t>(end - at);
  method_ = findMethod(text.substr(at, end - at));
  hasStarted_ = true;
  return Outcome::NEEDS_MORE;
}

MessageParser::Outcome MessageParser::refuseAsLlhttp() noexcept {
  switch (Llhttp::of(*this).error) {
  case HPE_INVALID_VERSION:
    return refuse(505, "the version is not HTTP/1.0 or HTTP/1.1");
  case HPE_INVALID_TRANSFER_ENCODING:
    return refuse(400, "the Transfer-Encoding does not end in chunked");
  default:
    return refuse(400, llhttp_get_error_reason(&Llhttp::of(*this)));
  }
}

bool MessageParser::checkVersion() noexcept {
  const llhttp_t& raw = Llhttp::of(*this);
  if (raw.http_major == 1 && raw.http_minor <= 1) return true;
  refuse(505, "the version is not HTTP/1.0 or HTTP/1.1");
  return false;
}

MessageParser::Outcome MessageParser::finishHead() {
  const llhttp_t& raw = Llhttp::of(*this);
  entries_.clear();
  known_.clear();
  present_ = repeated_ = 0;
  if (!checkVersion()) return Outcome::FAULT;
  minorVersion_ = raw.http_minor;
  if (kind_ == Kind::REQUEST) {
    fieldsAt_ = endOfRequestLine({text_, parsed_});
    if (fieldsAt_ == 0) return refuse(400, "the request line is malformed (RFC 9112, section 3)");
    if (targetLength_ > limits_.targetBytes) return refuse(414, "the target is too long");
  } else {
    fieldsAt_ = endOfStatusLine();
    if (fieldsAt_ == 0) return refuse(400, "the status line is malformed (RFC 9112, section 4)");
  }
  if (!addFields()) return Outcome::FAULT;
  flags_ = static_cast<std::uint8_t>(raw.flags & (F_CONNECTION_CLOSE | F_CONNECTION_KEEP_ALIVE));
  contentLength_ = (raw.flags & F_CONTENT_LENGTH) != 0 ? raw.content_length : 0;
  status_ = raw.status_code;
  if ((present_ & headerBit(HeaderId::TRANSFER_ENCODING)) != 0 && !checkTransferEncoding()) return Outcome::FAULT;
  framing_ = framingOf();
  if (kind_ == Kind::REQUEST) {
    if (!checkTarget() || !checkRequestFields()) return Outcome::FAULT;
    remember();
  }
  return Outcome::COMPLETE;
}

bool MessageParser::keepsAlive() const noexcept {
  return minorVersion_ == 1 ? (flags_ & F_CONNECTION_CLOSE) == 0 : flags_ == F_CONNECTION_KEEP_ALIVE;
}

void MessageParser::remember() noexcept {
  const std::string_view fields(text_ + fieldsAt_, parsed_ - fieldsAt_);
  if ((present_ & (FRAMING_FIELDS | SECRET_FIELDS)) != 0 || fields.size() > MOST_KNOWN) return;
  try {
    known_.append(fields);
  } catch (const std::bad_alloc&) {
    // The next ones are parsed, too.
  }
}

// method SP target SP HTTP/1.x CRLF, to the letter (RFC 9112, section 3): llhttp lets more space pass. Returns where
// the next line begins; 0 if it is not so.
std::size_t MessageParser::endOfRequestLine(std::string_view text) noexcept {
  constexpr std::size_t TAIL = std::string_view(" HTTP/1.x\r\n").size();
  targetAt_ = methodAt_ + methodLength_ + 1;
  const char* const limit = text.data() + text.size();
  if (text.size() < targetAt_ + TAIL) return 0;
  const char* const end = scan(text.data() + targetAt_, limit, endsTarget);
  targetLength_ = static_cast<std::uint32_t>(end - text.data()) - targetAt_;
  const bool matches = limit - end >= std::ptrdiff_t(TAIL) && loadWord(end) == loadWord(" HTTP/1.") &&
                       isDigit(end[8]) && end[9] == '\r' && end[10] == '\n';
  return matches ? targetAt_ + targetLength_ + TAIL : 0;
}

// HTTP/1.x SP status [ SP reason ] CRLF; of servers that leave the space out where there is no reason there are many.
std::size_t MessageParser::endOfStatusLine() noexcept {
  constexpr std::size_t STATUS_END = std::string_view("HTTP/1.x 000").size();
  const char* const limit = text_ + parsed_;
  std::size_t at = 0;
  while (at < parsed_ && (text_[at] == '\r' || text_[at] == '\n')) ++at; // as llhttp has
  at += STATUS_END;
  if (at >= parsed_ || !isDigit(text_[at - 3]) || !isDigit(text_[at - 2]) || !isDigit(text_[at - 1])) return 0;
  if (text_[at] == ' ') ++at;
  const char* const end = scanValue(text_ + at, limit);
  targetAt_ = static_cast<std::uint32_t>(at);
  targetLength_ = static_cast<std::uint32_t>(end - text_) - targetAt_;
  return limit - end >= 2 && end[0] == '\r' && end[1] == '\n' ? at + targetLength_ + 2 : 0;
}

namespace {

// Where a field is in its line.
struct FieldLine {
  const char *name, *colon, *value, *valueEnd;
  const char* next; // the line behind it; null if it is malformed
};

// name ":" OWS value OWS CRLF. A line that goes on with the one before begins with space, and has no name.
FieldLine splitField(const char* at, const char* end) noexcept {
  FieldLine line;
  line.next = nullptr;
  line.name = at;
  line.colon = scanBehind(at, end, NameEndMarks());
  if (line.colon == end || *line.colon != ':' || line.colon == at) return line;
  line.value = line.colon + 1;
  while (line.value < end && isBlank(*line.value)) ++line.value;
  at = scanValue(line.value, end);
  if (end - at < 2 || at[0] != '\r' || at[1] != '\n') return line;
  line.next = at + 2;
  while (at > line.value && isBlank(at[-1])) --at;
  line.valueEnd = at;
  return line;
}

} // namespace

// The lines of fields, to the empty one that ends the head. Returns whether they are as they should be.
bool MessageParser::addFields() {
  const char* const first = text_ + fieldsAt_;
  const char* const end = text_ + parsed_;
  const char* at = first;
  while (at < end && *at != '\r') {
    const FieldLine line = splitField(at, end);
    if (line.next == nullptr) {
      refuse(400, "a header field is malformed, or goes on in the next line (RFC 9112, section 5)");
      return false;
    }
    if (entries_.size() >= limits_.fields) {
      refuse(431, "there are too many header fields");
      return false;
    }
    if (entries_.size() == entries_.capacity() &&
        orOutOfMemory([this] { entries_.reserve(2 * entries_.size() + 8); }) != HPE_OK)
      return false;
    const auto nameLength = static_cast<std::uint32_t>(line.colon - line.name);
    const HeaderId id = findHeader({line.name, nameLength});
    repeated_ |= present_ & headerBit(id);
    present_ |= headerBit(id);
    entries_.push_back(
        {static_cast<std::uint32_t>(line.name - first), nameLength, static_cast<std::uint32_t>(line.value - first),
         static_cast<std::uint32_t>(line.valueEnd - line.value) & 0xffffffu, static_cast<std::uint8_t>(id)});
    at = line.next;
  }
  if (end - at == 2 && at[1] == '\n') return true;
  refuse(400, "the empty line after the head is malformed");
  return false;
}

// "chunked", once, alone, and not by a client or server of HTTP/1.0 (RFC 9112, sections 6.1 and 6.3).
bool MessageParser::checkTransferEncoding() noexcept {
  const HeaderFields all = fields();
  const std::string_view coding = *all.get(HeaderId::TRANSFER_ENCODING);
  if (all.has(HeaderId::CONTENT_LENGTH)) {
    refuse(400, "there are both a Content-Length and a Transfer-Encoding");
  } else if (minorVersion_ == 0) {
    refuse(400, "a Transfer-Encoding came with HTTP/1.0");
  } else if (isRepeated(HeaderId::TRANSFER_ENCODING)) {
    refuse(400, "there are several Transfer-Encoding fields");
  } else if (!equalsIgnoringCase(coding, "chunked")) {
    const std::size_t comma = coding.rfind(',');
    const bool endsChunked =
        comma != std::string_view::npos && equalsIgnoringCase(trimmed(coding.substr(comma + 1)), "chunked");
    if (endsChunked)
      refuse(501, "the Transfer-Encoding has a coding other than chunked");
    else
      refuse(400, "the Transfer-Encoding does not end in chunked");
  } else {
    return true;
  }
  return false;
}

bool MessageParser::checkTarget() noexcept {
  if (isTargetForm(method_, target())) return true;
  refuse(400, "the target is malformed (RFC 9112, section 3.2)");
  return false;
}

bool MessageParser::checkRequestFields() noexcept {
  const HeaderFields all = fields();
  const bool hasHost = all.has(HeaderId::HOST);
  if (isRepeated(HeaderId::HOST)) {
    refuse(400, "there are several Host fields (RFC 9112, section 3.2)");
  } else if (!hasHost && minorVersion_ == 1) {
    refuse(400, "the Host field is missing (RFC 9112, section 3.2)");
  } else if (hasHost && !isHost(*all.get(HeaderId::HOST))) {
    refuse(400, "the Host field is malformed (RFC 9112, section 3.2)");
  } else if (isRepeated(HeaderId::CONTENT_LENGTH)) {
    refuse(400, "there are several Content-Length fields (RFC 9112, section 6.3)");
  } else {
    return true;
  }
  return false;
}

Framing MessageParser::framingOf() const noexcept {
  if (kind_ == Kind::RESPONSE && (status_ < 200 || status_ == 204 || status_ == 304)) return Framing::NONE;
  if ((present_ & FRAMING_FIELDS) == 0) return kind_ == Kind::RESPONSE ? Framing::UNTIL_CLOSE : Framing::NONE;
  if ((present_ & headerBit(HeaderId::TRANSFER_ENCODING)) != 0) return Framing::CHUNKED;
  return contentLength_ > 0 ? Framing::LENGTH : Framing::NONE;
}

MessageParser::Piece MessageParser::decodeChunked(std::string_view bytes) {
  llhttp_t& raw = Llhttp::of(*this);
  if (chunks_ == nullptr) {
    chunks_ = std::make_unique<ChunkState>();
    raw.settings = const_cast<llhttp_settings_t*>(&Llhttp::bodySettings); // which it only reads
  }
  chunks_->piece = {};
  llhttp_resume(&raw);
  const int error = feed(bytes.data(), bytes.size(), 0);
  if (error != HPE_OK && error != HPE_PAUSED && error != HPE_PAUSED_UPGRADE)
    return {refuseAsLlhttp(), bytes.size(), {}};
  const std::size_t consumed =
      error == HPE_OK ? bytes.size() : static_cast<std::size_t>(llhttp_get_error_pos(&raw) - bytes.data());
  if (chunks_->done) {
    const char before = consumed > 1 ? bytes[consumed - 2] : chunks_->last;
    if (before != '\r') return {refuse(400, "the empty line after the chunks is malformed"), consumed, {}};
  } else if (consumed > 0) {
    chunks_->last = bytes[consumed - 1];
  }
  chunks_->position += consumed;
  const std::uint64_t framing = consumed - chunks_->piece.size();
  const std::uint64_t free = std::min(framing, chunks_->allowance);
  chunks_->allowance -= free;
  chunks_->excess += framing - free;
  if (chunks_->excess > MOST_EXCESS + chunks_->trailerBytes)
    return {refuse(413, "the chunks' extensions are too large"), consumed, {}};
  return {chunks_->done ? Outcome::COMPLETE : Outcome::NEEDS_MORE, consumed, chunks_->piece};
}

HeaderFields MessageParser::trailers() const noexcept {
  return chunks_ == nullptr ? HeaderFields() : chunks_->trailers.fields();
}

} // namespace detail
} // namespace http
} // namespace v0
} // namespace troth
