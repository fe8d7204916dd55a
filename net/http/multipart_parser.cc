// SPDX-License-Identifier: MIT
// The grammar of RFC 2046, section 5.1.1.
//
// The only CR in a delimiter is its first byte, for boundaries have none. So where a match breaks off, no other one has
// begun within it, and looking for the delimiter takes linear time without a table.
#include <troth/net/http/multipart_parser_detail.h>

#include <troth/net/http/http_error.h>
#include <troth/net/http/text_detail.h>
#include <troth/runtime/quote_detail.h>

#include <algorithm>
#include <utility>

namespace troth {
inline namespace v0 {
namespace http {
namespace detail {

namespace {

[[noreturn, gnu::cold]] void refuse(const std::string& why) { throw HttpError(400, "multipart: " + why); }

} // namespace

MultipartParser::MultipartParser(std::string_view boundary, const MultipartLimits& limits)
    : delimiter_(std::string("\r\n--").append(boundary)), limits_(limits) {}

MultipartParser::Event MultipartParser::next(std::string_view& input, std::string_view& bytes) {
  for (;;) {
    if (state_ == State::EPILOGUE && !std::exchange(isEndTold_, true)) return Event::END;
    if (input.empty()) return Event::NEED_INPUT;
    const std::size_t before = input.size();
    const Event event = step(input, bytes);
    bytes_ += before - input.size();
    if (bytes_ > limits_.maxBytes)
      throw HttpError(413, "multipart: the body has more than " + std::to_string(limits_.maxBytes) + " bytes");
    if (event != Event::NEED_INPUT) return event;
  }
}

void MultipartParser::endInput() const {
  if (state_ != State::EPILOGUE) refuse("the body ends before its last boundary");
}

MultipartParser::Event MultipartParser::step(std::string_view& input, std::string_view& bytes) {
  switch (state_) {
  case State::PREAMBLE: {
    std::string_view ignored;
    return findDelimiter(input, ignored) == Event::END ? delimiterFound() : Event::NEED_INPUT;
  }
  case State::BODY: {
    const Event event = findDelimiter(input, bytes);
    return event == Event::END ? delimiterFound() : event;
  }
  case State::TAIL:
    return parseTail(input);
  case State::HEADERS:
    return parseHead(input);
  case State::EPILOGUE:
    input = {};
    break;
  }
  return Event::NEED_INPUT;
}

// BODY with what is not of a delimiter; END if a whole one has come.
MultipartParser::Event MultipartParser::findDelimiter(std::string_view& input, std::string_view& bytes) {
  if (matched_ > 0) return matchOn(input, bytes);
  std::size_t at = input.find(delimiter_);
  if (at == std::string_view::npos) {
    // It may begin at the end, by the last CR there is.
    const std::size_t tail = input.size() - std::min(input.size(), delimiter_.size() - 1);
    at = tail + std::min(input.substr(tail).rfind('\r'), input.size() - tail);
    if (!delimiter_.starts_with(input.substr(at))) at = input.size();
  }
  bytes = input.substr(0, at);
  input.remove_prefix(at);
  if (!bytes.empty()) return Event::BODY;
  return matchOn(input, bytes);
}

MultipartParser::Event MultipartParser::matchOn(std::string_view& input, std::string_view& bytes) {
  while (matched_ < delimiter_.size() && !input.empty() && input.front() == delimiter_[matched_]) {
    ++matched_;
    input.remove_prefix(1);
  }
  if (matched_ == delimiter_.size()) return Event::END;
  if (input.empty()) return Event::NEED_INPUT;
  bytes = std::string_view(delimiter_).substr(assumed_, matched_ - assumed_);
  matched_ = assumed_ = 0;
  return bytes.empty() ? Event::NEED_INPUT : Event::BODY;
}

MultipartParser::Event MultipartParser::delimiterFound() noexcept {
  matched_ = assumed_ = 0;
  state_ = State::TAIL;
  tail_ = Tail::BEGIN;
  return Event::NEED_INPUT;
}

// What stands behind the boundary: "--" if it is the last one, else white space and CRLF. Anything else means that the
// line is no boundary, though it begins like one: RFC 2046 forbids to make such bodies, and readers disagree on them.
MultipartParser::Event MultipartParser::parseTail(std::string_view& input) {
  const char c = input.front();
  input.remove_prefix(1);
  switch (tail_) {
  case Tail::BEGIN:
    if (c == '-') {
      tail_ = Tail::DASH;
      return Event::NEED_INPUT;
    }
    [[fallthrough]];
  case Tail::PADDING:
    if (c == '\r') {
      tail_ = Tail::CR;
    } else if (isBlank(c)) {
      tail_ = Tail::PADDING;
    } else {
      refuse("a boundary has " + troth::detail::quote({&c, 1}) + " behind it");
    }
    return Event::NEED_INPUT;
  case Tail::DASH:
    if (c != '-') refuse("a boundary has a single - behind it");
    return endPart(State::EPILOGUE);
  case Tail::CR:
    if (c != '\n') refuse("the line of a boundary ends with CR alone");
    return endPart(State::HEADERS);
  }
  return Event::NEED_INPUT;
}

MultipartParser::Event MultipartParser::endPart(State next) {
  state_ = next;
  head_.clear();
  lineStart_ = 0;
  return std::exchange(isInPart_, false) ? Event::PART_END : Event::NEED_INPUT;
}

MultipartParser::Event MultipartParser::parseHead(std::string_view& input) {
  if (parts_ == limits_.maxParts)
    throw HttpError(413, "multipart: the body has more than " + std::to_string(limits_.maxParts) + " parts");
  while (!input.empty()) {
    const std::size_t newline = input.find('\n');
    const std::size_t length = newline == std::string_view::npos ? input.size() : newline + 1;
    if (length > limits_.maxHeaderBytes - head_.size())
      throw HttpError(431, "multipart: the head of a part has more than " + std::to_string(limits_.maxHeaderBytes) +
                               " bytes");
    head_ += input.substr(0, length);
    input.remove_prefix(length);
    if (newline == std::string_view::npos) break;
    const std::string_view line = std::string_view(head_).substr(lineStart_);
    if (!line.ends_with("\r\n")) refuse("a line of a part's head ends with LF alone");
    if (line.size() == 2) {
      parseFields();
      ++parts_;
      isInPart_ = true;
      state_ = State::BODY;
      // A part need not have a body: then the end of the empty line is the delimiter's.
      matched_ = assumed_ = 2;
      return Event::HEADERS;
    }
    lineStart_ = head_.size();
  }
  return Event::NEED_INPUT;
}

void MultipartParser::parseFields() {
  headers_.clear();
  std::string_view text = head_;
  while (text.size() > 2) {
    const std::size_t length = text.find("\r\n");
    parseField(text.substr(0, length));
    text.remove_prefix(length + 2);
  }
}

void MultipartParser::parseField(std::string_view line) {
  if (isBlank(line.front())) refuse("a field of a part's head is folded");
  const std::size_t colon = line.find(':');
  if (colon == std::string_view::npos || !isToken(line.substr(0, colon)))
    refuse(troth::detail::quote(line) + " is no field of a part's head");
  const std::string_view value = trimmed(line.substr(colon + 1));
  if (!isFieldValue(value)) refuse("a field of a part's head has the value " + troth::detail::quote(value));
  headers_.add(line.substr(0, colon), value);
}

} // namespace detail
} // namespace http
} // namespace v0
} // namespace troth
