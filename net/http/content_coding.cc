// SPDX-License-Identifier: MIT
// Streams that code and decode, over whatever library does the work.
#include <troth/net/http/content_coding.h>

#include <troth/io/operation_detail.h>
#include <troth/net/http/codec_detail.h>
#include <troth/net/http/filter_detail.h>
#include <troth/net/http/http_error.h>
#include <troth/net/http/text_detail.h>
#include <troth/runtime/exception.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

namespace troth {
inline namespace v0 {
namespace http {

using detail::Decoder;
using detail::Encoder;
using troth::detail::Busy;
using troth::detail::Direction;
using troth::detail::PieceList;
using Step = Encoder::Step;

namespace {

constexpr std::size_t SLICE = troth::detail::BUFFER_SIZE; // that is coded at a time
constexpr std::size_t SENT_AT_ONCE = 16 * 1024;
constexpr std::uint64_t FREE_BYTES = 1024 * 1024; // that come out before the ratio counts

constexpr std::string_view SUPPORTED[] = {
#ifdef TROTH_HAS_BROTLI
    "br",
#endif
#ifdef TROTH_HAS_ZLIB
    "gzip", "deflate",
#endif
    "identity"};

// Copies as much as fits.
void copy(std::span<const std::byte>& input, std::span<std::byte>& output) noexcept {
  const std::size_t size = std::min(input.size(), output.size());
  if (size > 0) std::memcpy(output.data(), input.data(), size);
  input = input.subspan(size);
  output = output.subspan(size);
}

class IdentityEncoder final : public Encoder {
public:
  bool encode(std::span<const std::byte>& input, std::span<std::byte>& output, Step) override {
    copy(input, output);
    return input.empty();
  }
};

// It has no end of its own: it ends with its input.
class IdentityDecoder final : public Decoder {
public:
  Status decode(std::span<const std::byte>& input, std::span<std::byte>& output) override {
    copy(input, output);
    return input.empty() ? Status::ENDED : Status::NEEDS_ROOM;
  }
  bool restart() override { return true; }
};

[[noreturn, gnu::cold]] void refuseCoding(ContentCoding coding, const std::source_location& where) {
  throw Exception(Exception::Kind::UNIMPLEMENTED,
                  "HTTP: this build has not got the content coding " + std::string(codingName(coding)), {}, where);
}

} // namespace

// ------------------------------------------------------------------------------------------- names

std::string_view codingName(ContentCoding coding) noexcept {
  switch (coding) {
  case ContentCoding::GZIP:
    return "gzip";
  case ContentCoding::DEFLATE:
    return "deflate";
  case ContentCoding::BROTLI:
    return "br";
  case ContentCoding::IDENTITY:
    break;
  }
  return "identity";
}

std::optional<ContentCoding> findCoding(std::string_view name) noexcept {
  for (const ContentCoding coding :
       {ContentCoding::IDENTITY, ContentCoding::GZIP, ContentCoding::DEFLATE, ContentCoding::BROTLI})
    if (detail::equalsIgnoringCase(name, codingName(coding))) return coding;
  if (detail::equalsIgnoringCase(name, "x-gzip")) return ContentCoding::GZIP; // RFC 9110, section 8.4.1.3
  return std::nullopt;
}

bool isSupported(ContentCoding coding) noexcept {
  return std::ranges::find(SUPPORTED, codingName(coding)) != std::ranges::end(SUPPORTED);
}

std::span<const std::string_view> supportedCodings() noexcept {
  return std::span(SUPPORTED).first(std::size(SUPPORTED) - 1);
}

int detail::requireLevel(CodingLevel level, int usual, int highest, const std::source_location& where) {
  if (level == DEFAULT_LEVEL) return usual;
  if (level < 0 || level > highest)
    troth::detail::throwMisuse("HTTP: the level of a content coding is 0 to " + std::to_string(highest) + ", not " +
                                   std::to_string(level),
                               where);
  return level;
}

std::unique_ptr<Encoder> detail::newEncoder(ContentCoding coding, [[maybe_unused]] CodingLevel level,
                                            const std::source_location& where) {
  switch (coding) {
#ifdef TROTH_HAS_ZLIB
  case ContentCoding::GZIP:
  case ContentCoding::DEFLATE:
    return newZlibEncoder(coding, level, where);
#endif
#ifdef TROTH_HAS_BROTLI
  case ContentCoding::BROTLI:
    return newBrotliEncoder(level, where);
#endif
  case ContentCoding::IDENTITY:
    return std::make_unique<IdentityEncoder>();
  default:
    refuseCoding(coding, where);
  }
}

std::unique_ptr<Decoder> detail::newDecoder(ContentCoding coding, const std::source_location& where) {
  switch (coding) {
#ifdef TROTH_HAS_ZLIB
  case ContentCoding::GZIP:
  case ContentCoding::DEFLATE:
    return newZlibDecoder(coding);
#endif
#ifdef TROTH_HAS_BROTLI
  case ContentCoding::BROTLI:
    return newBrotliDecoder();
#endif
  case ContentCoding::IDENTITY:
    return std::make_unique<IdentityDecoder>();
  default:
    refuseCoding(coding, where);
  }
}

// ------------------------------------------------------------------------------------------- decoding

namespace {

/// A decoder within its limits.
class BoundedDecoder {
public:
  BoundedDecoder(ContentCoding coding, const DecodingLimits& limits, const std::source_location& where)
      : decoder_(detail::newDecoder(coding, where)), limits_(limits), coding_(coding) {}

  /// Decodes from the front of `input` into `output`; returns how many bytes it put.
  std::size_t decode(std::span<const std::byte>& input, std::span<std::byte> output) {
    if (status_ == Decoder::Status::ENDED) {
      if (input.empty()) return 0;
      if (!decoder_->restart()) throw HttpError(400, "a body in " + name() + " has something behind its end");
    }
    const std::size_t inputSize = input.size(), room = output.size();
    status_ = decoder_->decode(input, output);
    taken_ += inputSize - input.size();
    put_ += room - output.size();
    if (put_ > limits_.maxBytes)
      throw HttpError(413, "a body in " + name() + " has more than " + std::to_string(limits_.maxBytes) + " bytes");
    if (put_ > FREE_BYTES && put_ / std::max(limits_.maxRatio, 1u) > taken_)
      throw HttpError(413, "a body in " + name() + " is more than " + std::to_string(limits_.maxRatio) +
                               " times as large as what it is coded in");
    return room - output.size();
  }

  /// Whether there may be more output without more input.
  bool hasMore() const noexcept { return status_ == Decoder::Status::NEEDS_ROOM; }

  /// There is no more input.
  void endInput() const {
    // There are senders that name a coding and then have nothing to code, not even its head and end: an empty body.
    if (status_ != Decoder::Status::ENDED && taken_ > 0)
      throw HttpError(400, "a body in " + name() + " ends before its end");
  }

private:
  std::unique_ptr<Decoder> decoder_;
  DecodingLimits limits_;
  ContentCoding coding_;
  Decoder::Status status_ = Decoder::Status::NEEDS_INPUT;
  std::uint64_t taken_ = 0;
  std::uint64_t put_ = 0;

  std::string name() const { return std::string(codingName(coding_)); }
};

class DecodingState final : public detail::FilterState {
public:
  DecodingState(ContentCoding coding, std::unique_ptr<AsyncInputStream> stream, const DecodingLimits& limits,
                const std::source_location& where)
      : inner(std::move(stream)), decoder_(coding, limits, where) {}

  std::unique_ptr<AsyncInputStream> inner; // null once the stream is gone

private:
  BoundedDecoder decoder_;
  Chunk chunk_;
  std::span<const std::byte> input_; // what is left of it
  detail::PoolVector<std::byte> output_;
  std::optional<Exception> error_; // for good

  Promise<void> produce(std::source_location where) override {
    while (ready.empty() && !ended) {
      if (error_) error_->rethrow();
      if (input_.empty() && !decoder_.hasMore()) {
        if (inner == nullptr) throw reading.disconnected(where);
        Chunk chunk = co_await inner->tryReadChunk(Chunk::CAPACITY, where);
        chunk_ = std::move(chunk);
        input_ = chunk_.bytes();
        ended = chunk_.empty();
      } else {
        co_await yieldToIo(); // no longer than for one slice at a time
      }
      step();
    }
  }

  void step() {
    try {
      if (ended) {
        ended = false; // unless that is in order
        decoder_.endInput();
        ended = true;
        return;
      }
      output_.resize(SLICE);
      ready = std::span(output_).first(decoder_.decode(input_, output_));
    } catch (...) {
      error_ = Exception::fromCurrent();
      throw;
    }
  }
};

class DecodingStream final : public AsyncInputStream {
public:
  explicit DecodingStream(std::shared_ptr<DecodingState> state) noexcept : state_(std::move(state)) {}
  ~DecodingStream() override {
    state_->reading.disconnect();
    state_->inner.reset();
  }

  Promise<std::size_t> tryRead(std::span<std::byte> buffer, std::size_t minBytes, std::source_location where) override {
    return detail::FilterState::tryRead(state_, buffer, minBytes, where);
  }
  Promise<Chunk> tryReadChunk(std::size_t maxBytes, std::source_location where) override {
    return detail::FilterState::tryReadChunk(state_, maxBytes, where);
  }

private:
  std::shared_ptr<DecodingState> state_;
};

} // namespace

std::unique_ptr<AsyncInputStream> newDecodingStream(ContentCoding coding, std::unique_ptr<AsyncInputStream> inner,
                                                    const DecodingLimits& limits, std::source_location where) {
  (void)troth::detail::requireStream(inner, "newDecodingStream", where);
  return std::make_unique<DecodingStream>(std::make_shared<DecodingState>(coding, std::move(inner), limits, where));
}

std::vector<std::byte> decode(ContentCoding coding, std::span<const std::byte> bytes, const DecodingLimits& limits,
                              std::source_location where) {
  BoundedDecoder decoder(coding, limits, where);
  std::vector<std::byte> result;
  detail::PoolVector<std::byte> slice(SLICE);
  while (!bytes.empty() || decoder.hasMore()) {
    const std::size_t count = decoder.decode(bytes, slice);
    result.insert(result.end(), slice.begin(), slice.begin() + static_cast<std::ptrdiff_t>(count));
  }
  decoder.endInput();
  return result;
}

// ------------------------------------------------------------------------------------------- coding

namespace {

struct EncodingState {
  EncodingState(AsyncOutputStream& stream, std::unique_ptr<Encoder> made) noexcept
      : inner(&stream), encoder(std::move(made)) {}

  AsyncOutputStream* inner;
  std::unique_ptr<Encoder> encoder;
  bool isGone = false;  // the stream
  bool isEnded = false; // by end()
  bool isBusy = false;  // stays if an operation is cancelled
  std::optional<Exception> error;
  detail::PoolVector<std::byte> output;
  std::size_t gathered = 0; // of it
  Direction writing{Direction::Kind::WRITE};

  static Promise<void> run(std::shared_ptr<EncodingState> state, Busy busy, PieceList pieces, Step step,
                           std::source_location where);
  Promise<void> runSteps(PieceList pieces, Step step, std::source_location where);
  Promise<void> encodeAll(std::span<const std::byte> bytes, Step step, std::source_location where);
  Promise<void> send(std::source_location where);
  /// With what every operation fails, if so.
  std::optional<Exception> failure(const std::source_location& where) const;
};

// The caller's frame keeps the state, and what is awaited goes before it.
Promise<void> EncodingState::run(std::shared_ptr<EncodingState> state, Busy busy, PieceList pieces, Step step,
                                 std::source_location where) {
  const Busy untilDone = std::move(busy);
  state->isBusy = true;
  try {
    co_await state->runSteps(std::move(pieces), step, where);
  } catch (...) {
    state->error = Exception::fromCurrent();
    throw;
  }
  state->isBusy = false;
}

Promise<void> EncodingState::runSteps(PieceList pieces, Step step, std::source_location where) {
  bool isFirst = true;
  for (std::span<const std::byte> piece : pieces) {
    while (!piece.empty()) {
      if (!std::exchange(isFirst, false)) co_await yieldToIo(); // no longer than for one slice at a time
      const std::span<const std::byte> slice = piece.first(std::min(piece.size(), SLICE));
      co_await encodeAll(slice, Step::GO_ON, where);
      piece = piece.subspan(slice.size());
    }
  }
  if (step == Step::GO_ON) co_return;
  co_await encodeAll({}, step, where);
  co_await send(where);
}

Promise<void> EncodingState::encodeAll(std::span<const std::byte> bytes, Step step, std::source_location where) {
  output.resize(SENT_AT_ONCE);
  for (bool isDone = false; !isDone;) {
    std::span<std::byte> room = std::span(output).subspan(gathered);
    isDone = encoder->encode(bytes, room, step);
    gathered = output.size() - room.size();
    if (gathered == output.size()) co_await send(where);
  }
}

Promise<void> EncodingState::send(std::source_location where) {
  if (gathered == 0) co_return;
  if (isGone) throw writing.disconnected(where);
  const std::span<const std::byte> bytes = std::span(output).first(gathered);
  co_await inner->write(bytes, where);
  gathered = 0;
}

std::optional<Exception> EncodingState::failure(const std::source_location& where) const {
  if (error || !isBusy) return error;
  return Exception(Exception::Kind::FAILED,
                   "write: an earlier write, flush or end was cancelled, so nobody knows what the peer has got", {},
                   where);
}

class EncodingStreamImpl final : public EncodingStream {
public:
  EncodingStreamImpl(AsyncOutputStream& output, std::unique_ptr<Encoder> encoder)
      : state_(std::make_shared<EncodingState>(output, std::move(encoder))) {}
  ~EncodingStreamImpl() override {
    state_->isGone = true;
    state_->writing.disconnect();
  }

  Promise<void> write(std::span<const std::byte> bytes, std::source_location where) override {
    return write(std::span(&bytes, 1), where);
  }
  Promise<void> write(std::span<const std::span<const std::byte>> pieces, std::source_location where) override {
    return start("write", troth::detail::copyPieces(pieces), Step::GO_ON, where);
  }
  Promise<void> flush(std::source_location where) override { return start("flush", {}, Step::FLUSH, where); }
  Promise<void> end(std::source_location where) override {
    Promise<void> ending = start("end", {}, Step::END, where);
    state_->isEnded = true;
    return ending;
  }
  Promise<void> whenWriteDisconnected(std::source_location where) override {
    return state_->inner->whenWriteDisconnected(where);
  }
  void abortWrite(std::source_location where) override {
    state_->error = troth::detail::writingGivenUp(where);
    state_->inner->abortWrite(where);
  }

private:
  std::shared_ptr<EncodingState> state_;

  Promise<void> start(const char* function, PieceList pieces, Step step, const std::source_location& where) {
    Busy busy(std::shared_ptr<Direction>(state_, &state_->writing), function, where);
    if (state_->isEnded) troth::detail::throwMisuse(std::string(function) + ": the body was ended by end()", where);
    if (const std::optional<Exception> failure = state_->failure(where)) return {*failure, where};
    return state_->writing.endWithStream(EncodingState::run(state_, std::move(busy), std::move(pieces), step, where),
                                         where);
  }
};

} // namespace

std::unique_ptr<EncodingStream> newEncodingStream(ContentCoding coding, AsyncOutputStream& output, CodingLevel level,
                                                  std::source_location where) {
  return std::make_unique<EncodingStreamImpl>(output, detail::newEncoder(coding, level, where));
}

std::vector<std::byte> encode(ContentCoding coding, std::span<const std::byte> bytes, CodingLevel level,
                              std::source_location where) {
  const std::unique_ptr<Encoder> encoder = detail::newEncoder(coding, level, where);
  std::vector<std::byte> result;
  detail::PoolVector<std::byte> slice(SLICE);
  for (bool isDone = false; !isDone;) {
    std::span<std::byte> room(slice);
    isDone = encoder->encode(bytes, room, Step::END);
    result.insert(result.end(), slice.begin(), slice.end() - static_cast<std::ptrdiff_t>(room.size()));
  }
  return result;
}

} // namespace http
} // namespace v0
} // namespace troth
