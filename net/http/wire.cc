// SPDX-License-Identifier: MIT
// Bytes in front of a connection, in both directions.
#include <troth/net/http/wire_detail.h>

#include <troth/runtime/exception.h>

#include <algorithm>
#include <array>

namespace troth {
inline namespace v0 {
namespace http {
namespace detail {

namespace {
constexpr std::size_t KEPT_OUTPUT = 8 * 1024;
} // namespace

std::optional<Exception> resolveFailure(Promise<void>& ready) {
  const troth::detail::OwnNode node = troth::detail::PromiseAccess::take(ready, {});
  troth::detail::ResultBase& result = troth::detail::resolve(*node);
  if (!result.exception) return std::nullopt;
  return Exception(std::move(result.exception));
}

void Wire::throwClosed(std::source_location where) {
  throw Exception(Exception::Kind::DISCONNECTED, "HTTP: the connection was closed", {}, where);
}

void Wire::reuse(std::unique_ptr<AsyncIoStream> stream) noexcept {
  stream_ = std::move(stream);
  chunk_ = Chunk();
  letGo();
  rest_ = {};
  isCutOff_ = false;
  // A large buffer was an exception.
  output_.clearTo(KEPT_OUTPUT);
  inFlight_.clearTo(KEPT_OUTPUT);
}

void Wire::give(Chunk chunk) {
  if (!rest_.empty()) {
    // What came later than it was wanted: both together, in a chunk of their own.
    PoolString both;
    both.reserve(rest_.size() + chunk.size());
    both.append(rest_).append(chunk.text());
    chunk = Chunk::copyOf(asBytes(both));
  }
  if (holds_ && held_.empty()) held_ = std::move(chunk_);
  chunk_ = std::move(chunk);
  rest_ = chunk_.text();
}

Chunk Wire::takeRest() {
  Chunk rest;
  if (chunk_.size() == rest_.size() && !rest_.empty() && !holds_)
    rest = std::move(chunk_);
  else
    rest = Chunk::copyOf(asBytes(rest_));
  rest_ = {};
  return rest;
}

Chunk Wire::takePiece(std::string_view piece) {
  const bool isHeld = holds_ && held_.empty();
  if (!isHeld && piece.data() == chunk_.text().data() && piece.size() == chunk_.size() && rest_.empty()) {
    rest_ = {};
    return std::move(chunk_);
  }
  return Chunk::copyOf(asBytes(piece));
}

// Held by the one write that is under way. Bytes of a write that was cancelled are not sent again, nor is anything
// else behind them.
class Wire::Writing {
public:
  explicit Writing(Wire& wire) noexcept : wire_(wire) {
    wire_.isWriting_ = true;
    wire_.isCutOff_ = false; // from now on this sees to it
  }
  Writing(const Writing&) = delete;
  Writing& operator=(const Writing&) = delete;
  ~Writing() {
    if (!isDone_) wire_.cutOff();
    wire_.inFlight_.clear();
    wire_.isWriting_ = false;
    wire_.writers_.wake();
  }
  void done() noexcept { isDone_ = true; }

private:
  Wire& wire_;
  bool isDone_ = false;
};

void Wire::requireNotCutOff(std::source_location where) const {
  if (isCutOff_) [[unlikely]]
    throw Exception(Exception::Kind::DISCONNECTED, "HTTP: an earlier write was broken off", {}, where);
}

Promise<void> Wire::flush(std::source_location where) {
  if (isWriting_) return flushLater(troth::detail::Ref<Wire>(*this), where);
  if (output_.empty()) return READY_NOW;
  requireNotCutOff(where);
  AsyncIoStream& to = stream(where);
  inFlight_.swap(output_);
  isCutOff_ = true; // until it has gone well: nobody knows how much of a write that fails is out
  return begun(to.write(asBytes(inFlight_.text()), where), inFlight_.size(), where);
}

// A write that the system has taken at once, as it does as a rule, needs no coroutine.
Promise<void> Wire::begun(Promise<void> written, std::uint64_t size, std::source_location where) {
  if (!isReady(written, where)) return finishFlush(troth::detail::Ref<Wire>(*this), std::move(written), size);
  inFlight_.clear();
  if (std::optional<Exception> failure = takeFailure(written)) [[unlikely]]
    return *std::move(failure);
  isCutOff_ = false;
  return READY_NOW;
}

Promise<void> Wire::finishFlush(troth::detail::Ref<Wire> self, Promise<void> written, std::uint64_t size) {
  Writing writing(*self);
  WireWait wait(*self, WireWait::For::WRITING);
  co_await std::move(written);
  wait.end(size);
  writing.done();
}

Promise<void> Wire::flushLater(troth::detail::Ref<Wire> self, std::source_location where) {
  while (self->isWriting_) co_await self->writers_.sleep(where);
  co_await self->flush(where);
}

void Wire::startProgress() noexcept {
  if (isOpen()) undelivered_ = stream_->tryGetUndelivered().value_or(0);
}

bool Wire::makesProgress(std::uint64_t least) noexcept {
  const std::optional<std::uint64_t> now = isOpen() ? stream_->tryGetUndelivered() : std::nullopt;
  if (!now) return false;
  const std::uint64_t before = std::exchange(undelivered_, *now);
  return *now == 0 || (*now <= before && before - *now >= least);
}

Promise<void> Wire::write(std::span<const std::span<const std::byte>> pieces, std::span<const std::byte> end,
                          std::source_location where) {
  const std::size_t size = output_.size() + troth::detail::totalSize(pieces) + end.size();
  if (isWriting_ || (size > WRITE_SIZE && !tellsProgress(where))) {
    PieceList all = troth::detail::copyPieces(pieces);
    all.push_back(end);
    return writeLater(troth::detail::Ref<Wire>(*this), std::move(all), where);
  }
  requireNotCutOff(where);
  AsyncIoStream& to = stream(where);
  constexpr std::size_t FEW = 8;
  std::array<std::span<const std::byte>, FEW> few;
  PieceList many;
  const std::size_t count = pieces.size() + 2;
  if (count > FEW) many.resize(count);
  const std::span<std::span<const std::byte>> all = count > FEW ? std::span(many) : std::span(few).first(count);
  std::copy(pieces.begin(), pieces.end(), all.begin() + 1);
  all.back() = end;
  inFlight_.swap(output_);
  isCutOff_ = true; // as in flush()
  all.front() = asBytes(inFlight_.text());
  return begun(to.write(std::span<const std::span<const std::byte>>(all), where), size, where);
}

Promise<void> Wire::writeLater(troth::detail::Ref<Wire> self, PieceList pieces, std::source_location where) {
  while (self->isWriting_) co_await self->writers_.sleep(where);
  if (self->tellsProgress(where)) {
    co_await self->write(pieces, {}, where);
  } else {
    co_await self->writeInParts(pieces, where);
  }
}

Promise<void> Wire::writeInParts(const PieceList& pieces, std::source_location where) {
  requireNotCutOff(where);
  Writing writing(*this);
  inFlight_.swap(output_);
  PieceList all = {asBytes(inFlight_.text())};
  all.insert(all.end(), pieces.begin(), pieces.end());
  for (troth::detail::Pieces rest(all); !rest.empty();) {
    const PieceList part = rest.first(WRITE_SIZE);
    const std::size_t size = troth::detail::totalSize(part);
    rest.drop(size);
    Promise<void> written = stream(where).write(part, where);
    WireWait wait(*this, WireWait::For::WRITING);
    co_await std::move(written);
    wait.end(size);
  }
  writing.done();
}

} // namespace detail
} // namespace http
} // namespace v0
} // namespace troth
