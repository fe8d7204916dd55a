// SPDX-License-Identifier: MIT
// Parts as streams: all share the parser and the chunk that it works on.
#include <troth/net/http/multipart.h>

#include <troth/net/http/boundary_detail.h>
#include <troth/net/http/filter_detail.h>
#include <troth/net/http/http_error.h>
#include <troth/net/http/media_type.h>
#include <troth/net/http/multipart_parser_detail.h>
#include <troth/net/http/parameters_detail.h>
#include <troth/runtime/exception.h>
#include <troth/runtime/quote_detail.h>

#include <algorithm>
#include <utility>

namespace troth {
inline namespace v0 {
namespace http {

using detail::MultipartParser;
using troth::detail::Busy;
using troth::detail::Direction;
using Event = MultipartParser::Event;

namespace {

std::string requireBoundary(std::string_view boundary, const std::source_location& where) {
  if (!detail::isBoundary(boundary))
    throw HttpError(400, troth::detail::quote(boundary) + " is no boundary of a multipart body", where);
  return std::string(boundary);
}

// RFC 7578, section 4.2.
void readDisposition(MultipartPart& part) {
  const std::optional<std::string_view> value = part.headers.get(HeaderId::CONTENT_DISPOSITION);
  if (!value) return;
  detail::ParameterScanner scanner(value->substr(std::min(value->find(';'), value->size())));
  while (const std::optional<detail::Parameter> parameter = scanner.next()) {
    const bool isName = detail::equalsIgnoringCase(parameter->name, "name");
    if (!isName && !detail::equalsIgnoringCase(parameter->name, "filename")) continue;
    std::optional<std::string>& to = isName ? part.name : part.fileName;
    if (!to) to = detail::unquoted(*parameter, detail::Escapes::QUOTES_ONLY);
  }
  if (scanner.isMalformed())
    throw HttpError(400, "multipart: a part has the Content-Disposition " + troth::detail::quote(*value));
}

} // namespace

std::string multipartBoundary(std::string_view contentType, std::source_location where) {
  const std::optional<MediaType> type = MediaType::tryParse(contentType);
  if (!type) throw HttpError(400, troth::detail::quote(contentType) + " is no media type", where);
  if (type->type() != "multipart")
    throw HttpError(415, "a multipart body is expected, not " + troth::detail::quote(type->essence()), where);
  const std::optional<std::string_view> boundary = type->get("boundary");
  if (!boundary) throw HttpError(400, troth::detail::quote(contentType) + " has no boundary", where);
  return requireBoundary(*boundary, where);
}

// What was made, of FilterState, is of the body of the part `number`, until the next one is asked for.
class MultipartReader::State final : public detail::FilterState {
public:
  State(AsyncInputStream& stream, std::string_view boundary, const MultipartLimits& limits)
      : inner(&stream), parser_(boundary, limits) {}

  AsyncInputStream* inner;  // null once the reader is gone
  std::uint64_t number = 0; // of the part whose body can be read

  /// Waits until takePart() has something to take.
  static Promise<void> toNextPart(std::shared_ptr<State> self, std::source_location where);
  std::optional<MultipartPart> takePart(const std::shared_ptr<State>& self);

private:
  MultipartParser parser_;
  Chunk chunk_;
  std::string_view input_; // what is left of it
  std::optional<MultipartPart> found_;
  std::optional<Exception> error_; // for good
  bool isDone_ = false;

  Event parse();
  Promise<void> readMore(std::source_location where);
  Promise<void> produce(std::source_location where) override;
};

Event MultipartReader::State::parse() {
  if (error_) error_->rethrow();
  try {
    std::string_view bytes;
    const Event event = parser_.next(input_, bytes);
    if (event == Event::BODY) ready = troth::asBytes(bytes);
    if (event == Event::HEADERS) {
      found_.emplace();
      found_->headers = parser_.takeHeaders();
      readDisposition(*found_);
    }
    return event;
  } catch (...) {
    error_ = Exception::fromCurrent();
    found_.reset();
    throw;
  }
}

// The input has been used up. Sets isDone_ at its end.
Promise<void> MultipartReader::State::readMore(std::source_location where) {
  if (inner == nullptr) throw reading.disconnected(where);
  Chunk chunk = co_await inner->tryReadChunk(Chunk::CAPACITY, where);
  chunk_ = std::move(chunk);
  input_ = chunk_.text();
  if (!chunk_.empty()) co_return;
  try {
    parser_.endInput();
  } catch (...) {
    error_ = Exception::fromCurrent();
    throw;
  }
  isDone_ = true;
}

Promise<void> MultipartReader::State::produce(std::source_location where) {
  for (;;) {
    const Event event = parse();
    if (event == Event::BODY) co_return;
    if (event == Event::PART_END) {
      ended = true;
      co_return;
    }
    co_await readMore(where);
  }
}

Promise<void> MultipartReader::State::toNextPart(std::shared_ptr<State> self, std::source_location where) {
  while (!self->found_ && !self->isDone_) {
    const Event event = self->parse();
    self->ready = {}; // of the part before
    if (event == Event::NEED_INPUT) co_await self->readMore(where);
  }
}

Promise<std::optional<MultipartPart>> MultipartReader::next(std::source_location where) {
  Busy busy(std::shared_ptr<Direction>(state_, &state_->reading), "next", where);
  ++state_->number; // the part before is over
  return state_->reading.endWithStream(State::toNextPart(state_, where), where)
      .then([state = state_, busy = std::move(busy)] { return state->takePart(state); },
            troth::detail::PropagateException(), where);
}

/// The body of one part.
class MultipartReader::PartStream final : public AsyncInputStream {
public:
  explicit PartStream(std::shared_ptr<State> state) noexcept : state_(std::move(state)), number_(state_->number) {}
  ~PartStream() override {
    if (state_->number == number_) state_->reading.disconnect();
  }

  Promise<std::size_t> tryRead(std::span<std::byte> buffer, std::size_t minBytes, std::source_location where) override {
    requireCurrent("tryRead", where);
    return detail::FilterState::tryRead(state_, buffer, minBytes, where);
  }
  Promise<Chunk> tryReadChunk(std::size_t maxBytes, std::source_location where) override {
    requireCurrent("tryReadChunk", where);
    return detail::FilterState::tryReadChunk(state_, maxBytes, where);
  }

private:
  std::shared_ptr<State> state_;
  std::uint64_t number_;

  void requireCurrent(const char* function, const std::source_location& where) const {
    if (state_->number != number_)
      troth::detail::throwMisuse(std::string(function) + ": the part is over, for the next one has been asked for",
                                 where);
  }
};

std::optional<MultipartPart> MultipartReader::State::takePart(const std::shared_ptr<State>& self) {
  if (!found_) return std::nullopt;
  std::optional<MultipartPart> part = std::exchange(found_, std::nullopt);
  dropMade();
  ended = false;
  part->body = std::make_unique<PartStream>(self);
  return part;
}

MultipartReader::MultipartReader(AsyncInputStream& body, std::string_view boundary, const MultipartLimits& limits,
                                 std::source_location where)
    : state_(std::make_shared<State>(body, requireBoundary(boundary, where), limits)) {}

MultipartReader::MultipartReader(std::unique_ptr<AsyncInputStream> body, std::string_view boundary,
                                 const MultipartLimits& limits, std::source_location where)
    : MultipartReader(troth::detail::requireStream(body, "MultipartReader", where), boundary, limits, where) {
  owned_ = std::move(body);
}

MultipartReader::~MultipartReader() {
  state_->inner = nullptr;
  state_->reading.disconnect();
}

} // namespace http
} // namespace v0
} // namespace troth
