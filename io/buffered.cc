// SPDX-License-Identifier: MIT
// Looking for the end of a line in a buffer that fills, and gathering writes.
#include <troth/io/buffered.h>

#include <troth/io/operation_detail.h>
#include <troth/io/stream_watch_detail.h>

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

namespace troth {
inline namespace v0 {
namespace {

void requireCapacity(std::size_t capacity, const char* type, std::source_location where) {
  if (capacity == 0) detail::throwMisuse(fmt::format("{}: a buffer of 0 bytes", type), where);
}

std::size_t plus(std::size_t a, std::size_t b) noexcept { return a > SIZE_MAX - b ? SIZE_MAX : a + b; }

} // namespace

// ------------------------------------------------------------------------------------------- reading

// The bytes are memory[first, last). A search remembers how far it has come (relative to `first`, since bytes are moved
// to the front when the buffer is full at its end), so every byte is looked at once, however the bytes come.
struct BufferedInputStream::State {
  State(AsyncInputStream& stream, std::size_t size) noexcept : inner(&stream), capacity(size) {}

  static constexpr std::size_t NOT_FOUND = std::string_view::npos;
  static constexpr std::size_t TOO_FAR = NOT_FOUND - 1;

  AsyncInputStream* inner; // null once the stream is gone
  const std::size_t capacity;
  std::unique_ptr<std::byte[]> memory;
  std::size_t first = 0;
  std::size_t last = 0;
  detail::Direction reading{detail::Direction::Kind::READ};

  std::size_t size() const noexcept { return last - first; }
  std::span<const std::byte> bytes() const noexcept { return {memory.get() + first, size()}; }
  std::string_view text() const noexcept { return {reinterpret_cast<const char*>(bytes().data()), size()}; }

  void drop(std::size_t count) noexcept {
    first += count;
    if (first == last) first = last = 0;
  }

  std::size_t take(std::span<std::byte> buffer) noexcept {
    const std::size_t count = std::min(buffer.size(), size());
    if (count > 0) std::memcpy(buffer.data(), bytes().data(), count);
    drop(count);
    return count;
  }

  /// What the next `count` bytes or more are to be read into.
  std::span<std::byte> space(std::size_t count) {
    if (memory == nullptr) memory = std::make_unique_for_overwrite<std::byte[]>(capacity);
    if (capacity - last < count) {
      std::memmove(memory.get(), bytes().data(), size());
      last -= std::exchange(first, 0);
    }
    return {memory.get() + last, capacity - last};
  }

  /// Reads `count` bytes or more into the buffer, which has room for them. Returns whether they have come; if not, the
  /// stream has ended.
  static Promise<bool> readMore(std::shared_ptr<State> state, std::size_t count, std::source_location where) {
    if (state->inner == nullptr) throw state->reading.disconnected(where);
    const std::size_t got = co_await state->inner->tryRead(state->space(count), count, where);
    state->last += got;
    co_return got >= count;
  }

  /// Completes when the buffer has `count` bytes, or the stream has ended.
  Promise<void> whenHas(const std::shared_ptr<State>& self, std::size_t count, std::source_location where) {
    if (size() >= count) return READY_NOW;
    return reading.endWithStream(readMore(self, count - size(), where), where).ignoreResult(where);
  }

  static Promise<std::size_t> find(std::shared_ptr<State> state, std::string delimiter, std::size_t limit,
                                   std::source_location where);
  std::size_t lineLength(std::size_t end, std::size_t limit, std::source_location where) const;
  static Promise<std::uint64_t> pump(std::shared_ptr<State> state, detail::Busy busy, AsyncOutputStream& output,
                                     std::uint64_t amount, std::source_location where);
};

// Completes with the place of the delimiter, with TOO_FAR if that is more than `limit`, or with NOT_FOUND at the end of
// the stream.
Promise<std::size_t> BufferedInputStream::State::find(std::shared_ptr<State> state, std::string delimiter,
                                                      std::size_t limit, std::source_location where) {
  for (std::size_t searched = 0;;) { // no delimiter begins before
    const std::size_t size = state->size();
    const std::size_t found = state->text().find(delimiter, searched);
    if (found != NOT_FOUND) co_return found <= limit ? found : TOO_FAR;
    if (size >= delimiter.size()) searched = size - delimiter.size() + 1;
    if (searched > limit) co_return TOO_FAR;
    if (size == state->capacity)
      throw Exception(Exception::Kind::FAILED,
                      fmt::format("read: what comes before the delimiter does not fit into the buffer of {} bytes",
                                  state->capacity),
                      {}, where);
    if (!co_await readMore(state, 1, where)) co_return NOT_FOUND;
  }
}

// The length, without its end, of the line whose '\n' find() has looked for.
std::size_t BufferedInputStream::State::lineLength(std::size_t end, std::size_t limit,
                                                   std::source_location where) const {
  std::size_t length = end == NOT_FOUND ? size() : end;
  if (end < TOO_FAR && length > 0 && text()[length - 1] == '\r') --length;
  if (length > limit)
    throw Exception(Exception::Kind::FAILED, fmt::format("readLine: the line has more than {} bytes", limit), {},
                    where);
  return length;
}

BufferedInputStream::BufferedInputStream(AsyncInputStream& inner, std::size_t capacity, std::source_location where)
    : state_(std::make_shared<State>(inner, capacity)) {
  requireCapacity(capacity, "BufferedInputStream", where);
}

BufferedInputStream::BufferedInputStream(std::unique_ptr<AsyncInputStream> inner, std::size_t capacity,
                                         std::source_location where)
    : BufferedInputStream(detail::requireStream(inner, "BufferedInputStream", where), capacity, where) {
  owned_ = std::move(inner);
}

BufferedInputStream::~BufferedInputStream() {
  state_->inner = nullptr;
  state_->reading.disconnect();
}

std::size_t BufferedInputStream::buffered() const noexcept { return state_->size(); }

detail::Busy BufferedInputStream::begin(const char* function, std::source_location where) {
  return {std::shared_ptr<detail::Direction>(state_, &state_->reading), function, where};
}

Promise<std::optional<std::string>> BufferedInputStream::readLine(std::size_t limit, std::source_location where) {
  detail::Busy busy = begin("readLine", where);
  return state_->reading.endWithStream(State::find(state_, "\n", plus(limit, 1), where), where)
      .then(
          [state = state_, busy = std::move(busy), limit, where](std::size_t end) -> std::optional<std::string> {
            if (end == State::NOT_FOUND && state->size() == 0) return std::nullopt;
            const std::size_t length = state->lineLength(end, limit, where);
            std::string line(state->text().substr(0, length));
            state->drop(end == State::NOT_FOUND ? length : end + 1);
            return line;
          },
          detail::PropagateException(), where);
}

Promise<std::optional<std::string>> BufferedInputStream::readUntil(std::string_view delimiter, std::size_t limit,
                                                                   std::source_location where) {
  detail::Busy busy = begin("readUntil", where);
  if (delimiter.empty()) detail::throwMisuse("readUntil: the delimiter is empty", where);
  return state_->reading.endWithStream(State::find(state_, std::string(delimiter), limit, where), where)
      .then(
          [state = state_, busy = std::move(busy), delimiterSize = delimiter.size(), limit,
           where](std::size_t end) -> std::optional<std::string> {
            if (end == State::TOO_FAR)
              throw Exception(Exception::Kind::FAILED,
                              fmt::format("readUntil: more than {} bytes come before the delimiter", limit), {}, where);
            if (end != State::NOT_FOUND) {
              std::string text(state->text().substr(0, end));
              state->drop(end + delimiterSize);
              return text;
            }
            if (state->size() == 0) return std::nullopt;
            throw Exception(
                Exception::Kind::DISCONNECTED,
                fmt::format("readUntil: the stream ended after {} bytes, without the delimiter", state->size()), {},
                where);
          },
          detail::PropagateException(), where);
}

Promise<std::span<const std::byte>> BufferedInputStream::peek(std::size_t count, std::source_location where) {
  detail::Busy busy = begin("peek", where);
  if (count > state_->capacity)
    detail::throwMisuse(fmt::format("peek: {} bytes do not fit into the buffer of {}", count, state_->capacity), where);
  return state_->whenHas(state_, count, where)
      .then([state = state_, busy = std::move(busy)] { return state->bytes(); }, detail::PropagateException(), where);
}

Promise<std::size_t> BufferedInputStream::tryRead(std::span<std::byte> buffer, std::size_t minBytes,
                                                  std::source_location where) {
  detail::Busy busy = begin("tryRead", where);
  detail::requireReadable(buffer, minBytes, where);
  const std::size_t held = state_->size();
  const bool goesPast = held < minBytes && (buffer.size() - held >= state_->capacity || minBytes > state_->capacity);
  if (!goesPast)
    return state_->whenHas(state_, minBytes, where)
        .then([state = state_, busy = std::move(busy), buffer] { return state->take(buffer); },
              detail::PropagateException(), where);
  return state_->reading.endWithStream(state_->inner->tryRead(buffer.subspan(held), minBytes - held, where), where)
      .then([state = state_, busy = std::move(busy),
             front = buffer.first(held)](std::size_t count) { return state->take(front) + count; },
            detail::PropagateException(), where);
}

Promise<Chunk> BufferedInputStream::tryReadChunk(std::size_t maxBytes, std::source_location where) {
  detail::Busy busy = begin("tryReadChunk", where);
  maxBytes = detail::chunkSize(maxBytes, where);
  if (state_->size() == 0)
    return state_->reading.endWithStream(state_->inner->tryReadChunk(maxBytes, where), where)
        .then([busy = std::move(busy)](Chunk chunk) { return chunk; }, detail::PropagateException(), where);
  return Promise<void>(READY_NOW).then(
      [state = state_, busy = std::move(busy), maxBytes] {
        Chunk chunk = Chunk::copyOf(state->bytes().first(std::min(maxBytes, state->size())));
        state->drop(chunk.size());
        return chunk;
      },
      detail::PropagateException(), where);
}

Promise<std::uint64_t> BufferedInputStream::State::pump(std::shared_ptr<State> state, detail::Busy busy,
                                                        AsyncOutputStream& output, std::uint64_t amount,
                                                        std::source_location where) {
  const detail::Busy untilDone = std::move(busy);
  const detail::StreamWatch outputWatch(output);
  const auto held = static_cast<std::size_t>(std::min<std::uint64_t>(state->size(), amount));
  if (held > 0) {
    // They go once the write has begun: who cancels the pump does not know how many were written, and none may come
    // twice. Their memory stays as it is, for nobody else reads meanwhile.
    Promise<void> written = output.write(state->bytes().first(held), where);
    state->drop(held);
    co_await std::move(written);
  }
  if (held == amount) co_return amount;
  if (state->inner == nullptr) throw state->reading.disconnected(where);
  outputWatch.require(where);
  co_return held + co_await state->inner->pumpTo(output, amount - held, where);
}

Promise<std::uint64_t> BufferedInputStream::pumpTo(AsyncOutputStream& output, std::uint64_t amount,
                                                   std::source_location where) {
  detail::Busy busy = begin("pumpTo", where);
  return state_->reading.endWithStream(State::pump(state_, std::move(busy), output, amount, where), where);
}

std::optional<std::uint64_t> BufferedInputStream::tryGetLength() const {
  const std::optional<std::uint64_t> length = state_->inner->tryGetLength();
  if (!length) return std::nullopt;
  return *length + state_->size();
}

// ------------------------------------------------------------------------------------------- writing

struct BufferedOutputStream::State {
  State(AsyncOutputStream& stream, std::size_t size) noexcept : inner(&stream), capacity(size) {}

  AsyncOutputStream* inner; // not used once the stream is gone
  const std::size_t capacity;
  std::vector<std::byte> gathered;
  std::optional<Exception> error; // of sending
  bool isSending = false;         // stays if sending is cancelled
  detail::Direction writing{detail::Direction::Kind::WRITE};

  /// Sends what was gathered, and then the pieces.
  static Promise<void> send(std::shared_ptr<State> state, detail::Busy busy, detail::PieceList pieces,
                            std::source_location where);
  /// With what every operation fails, if so.
  std::optional<Exception> failure(std::source_location where) const;
};

Promise<void> BufferedOutputStream::State::send(std::shared_ptr<State> state, detail::Busy busy,
                                                detail::PieceList pieces, std::source_location where) {
  const detail::Busy untilDone = std::move(busy);
  if (!state->gathered.empty()) pieces.insert(pieces.begin(), state->gathered);
  state->isSending = true;
  try {
    co_await state->inner->write(pieces, where);
  } catch (...) {
    state->error = Exception::fromCurrent();
    throw;
  }
  state->isSending = false;
  state->gathered.clear();
}

std::optional<Exception> BufferedOutputStream::State::failure(std::source_location where) const {
  if (error || !isSending) return error;
  return Exception(Exception::Kind::FAILED,
                   "write: an earlier write or flush was cancelled, so nobody knows what the peer has got", {}, where);
}

BufferedOutputStream::BufferedOutputStream(AsyncOutputStream& inner, std::size_t capacity, std::source_location where)
    : state_(std::make_shared<State>(inner, capacity)) {
  requireCapacity(capacity, "BufferedOutputStream", where);
}

BufferedOutputStream::BufferedOutputStream(std::unique_ptr<AsyncOutputStream> inner, std::size_t capacity,
                                           std::source_location where)
    : BufferedOutputStream(detail::requireStream(inner, "BufferedOutputStream", where), capacity, where) {
  owned_ = std::move(inner);
}

BufferedOutputStream::~BufferedOutputStream() { state_->writing.disconnect(); }

std::size_t BufferedOutputStream::buffered() const noexcept { return state_->gathered.size(); }

detail::Busy BufferedOutputStream::begin(const char* function, std::source_location where) {
  return {std::shared_ptr<detail::Direction>(state_, &state_->writing), function, where};
}

Promise<void> BufferedOutputStream::write(std::span<const std::byte> bytes, std::source_location where) {
  return write(std::span(&bytes, 1), where);
}

Promise<void> BufferedOutputStream::write(std::span<const std::span<const std::byte>> pieces,
                                          std::source_location where) {
  detail::Busy busy = begin("write", where);
  if (const std::optional<Exception> failure = state_->failure(where)) return {*failure, where};
  std::vector<std::byte>& gathered = state_->gathered;
  if (detail::totalSize(pieces) > state_->capacity - gathered.size())
    return state_->writing.endWithStream(State::send(state_, std::move(busy), detail::copyPieces(pieces), where),
                                         where);
  gathered.reserve(state_->capacity);
  for (const std::span<const std::byte> piece : pieces) gathered.insert(gathered.end(), piece.begin(), piece.end());
  return READY_NOW;
}

Promise<void> BufferedOutputStream::flush(std::source_location where) {
  detail::Busy busy = begin("flush", where);
  if (const std::optional<Exception> failure = state_->failure(where)) return {*failure, where};
  if (state_->gathered.empty()) return READY_NOW;
  return state_->writing.endWithStream(State::send(state_, std::move(busy), {}, where), where);
}

Promise<void> BufferedOutputStream::whenWriteDisconnected(std::source_location where) {
  return state_->inner->whenWriteDisconnected(where);
}

void BufferedOutputStream::abortWrite(std::source_location where) {
  state_->error = detail::writingGivenUp(where);
  state_->inner->abortWrite(where);
}

std::optional<std::uint64_t> BufferedOutputStream::tryGetUndelivered() const noexcept {
  return state_->inner->tryGetUndelivered();
}

} // namespace v0
} // namespace troth
