// SPDX-License-Identifier: MIT
// A body is read in two steps, as all streams of streams are (troth/io/operation_detail.h): one waits and takes
// nothing, the other runs when the result is taken. In the first step the transfer coding comes off what is on the
// wire, which moves nothing that could be lost: what is decoded waits in the state.
#include <troth/net/http/body_detail.h>

#include <troth/net/http/http_error.h>
#include <troth/runtime/canceler.h>

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <optional>

namespace troth {
inline namespace v0 {
namespace http {
namespace detail {

using troth::detail::Busy;
using troth::detail::Direction;

namespace {
// Small pieces are put together until there are so many bytes, or nothing more on the wire.
constexpr std::size_t ENOUGH = 4096;
} // namespace

struct MessageBody::State {
  State(Wire& w, MessageParser& p, Framing f, std::uint64_t length, std::uint64_t most, BodyOwner& o) noexcept
      : wire(w), parser(&p), owner(&o), framing(f), left(length), limit(most) {}

  troth::detail::Ref<Wire> wire;
  MessageParser* parser; // null, as is the owner, once the body was left
  BodyOwner* owner;
  const Framing framing;
  std::uint64_t left;  // of a LENGTH
  std::uint64_t limit; // of the whole
  std::uint64_t received = 0;
  bool ended = false;
  bool broken = false;
  std::string_view piece;          // decoded and not taken, on the wire or in `last`
  Chunk last;                      // of the body
  PoolString gathered;             // the same, in front of it, where there are several pieces …
  std::size_t taken = 0;           // … and how much of that is gone already
  std::optional<HttpError> refuse; // once what was decoded before has been taken
  Direction reading{Direction::Kind::READ};
  const char* leftBecause = nullptr; // once the body was left
  Canceler waiting;                  // for the wire …
  std::source_location waitsAt;      // … by a read that was called here

  [[noreturn]] void failEarly(std::source_location where) {
    broken = true;
    throw Exception(Exception::Kind::DISCONNECTED,
                    fmt::format("HTTP: the connection ended after {} bytes of a body that is longer", received), {},
                    where);
  }

  // Whoever owns the wire may go on to the next message now: what has not been taken needs it no more.
  void end() {
    if (!piece.empty()) {
      last = wire->takePiece(piece);
      piece = last.text();
    }
    if (!std::exchange(ended, true) && owner != nullptr) owner->bodyEnded();
  }

  std::size_t decoded() const noexcept { return gathered.size() - taken + piece.size(); }

  std::string_view firstPart() const noexcept { return std::string_view(gathered).substr(taken); }
  void skipFirst(std::size_t count) noexcept {
    taken += count;
    if (taken < gathered.size()) return;
    gathered.clear();
    taken = 0;
  }

  // Decodes what there is until `least` bytes are at hand; returns whether they are, or the end is.
  bool decode(std::size_t least, std::source_location where) {
    while (!ended && !refuse && !wire->rest().empty() && (decoded() < least || decoded() < ENOUGH)) {
      keepDecoded();
      decodePiece(where);
    }
    if (refuse && decoded() < least) throw *refuse;
    return ended || decoded() >= least;
  }

  // Takes the next piece off the wire.
  void decodePiece(std::source_location where) {
    switch (framing) {
    case Framing::CHUNKED: {
      const MessageParser::Piece next = parser->decodeChunked(wire->rest());
      wire->consume(next.consumed);
      if (next.outcome == MessageParser::Outcome::FAULT) {
        broken = true;
        refuse.emplace(parser->fault().status, fmt::format("HTTP: in a body in chunks, {}", parser->fault().reason),
                       where);
        return;
      }
      piece = next.data;
      received += piece.size();
      if (received <= limit && next.outcome == MessageParser::Outcome::COMPLETE) end();
      break;
    }
    case Framing::LENGTH:
      piece = wire->rest().substr(0, static_cast<std::size_t>(std::min<std::uint64_t>(left, wire->rest().size())));
      wire->consume(piece.size());
      received += piece.size();
      left -= piece.size();
      if (left == 0) end();
      break;
    default: // UNTIL_CLOSE
      piece = wire->rest();
      wire->consume(piece.size());
      received += piece.size();
      break;
    }
    if (received <= limit) return;
    broken = true;
    piece = {};
    refuse.emplace(413, fmt::format("HTTP: the body has more than {} bytes", limit), where);
  }

  // What was decoded points into a chunk that is about to go.
  void keepDecoded() {
    if (piece.empty()) return;
    if (taken > gathered.size() / 2) gathered.erase(0, std::exchange(taken, 0));
    gathered.append(piece);
    piece = {};
  }

  // Reads until `least` bytes are decoded. The wait is over when bytes have come, whenever they are taken.
  static Promise<void> decodeMore(std::shared_ptr<State> state, std::size_t least, std::source_location where) {
    if (state->owner != nullptr) {
      Promise<void> before = state->owner->beforeRead();
      if (!isReady(before))
        co_await std::move(before);
      else if (const std::optional<Exception> failure = takeFailure(before))
        throw *failure;
    }
    while (!state->decode(least, where)) {
      WireWait wait(*state->wire, WireWait::For::READING);
      Chunk more = co_await state->wire->stream(where).tryReadChunk(Chunk::CAPACITY, where);
      wait.end(more.size());
      if (!more.empty()) {
        state->keepDecoded();
        state->wire->give(std::move(more));
      } else if (state->framing == Framing::UNTIL_CLOSE) {
        state->end();
      } else {
        state->failEarly(where);
      }
    }
  }

  // Completes when `least` bytes are decoded, or all there will be.
  static Promise<void> wait(const std::shared_ptr<State>& state, std::size_t least, std::source_location where) {
    if (state->broken && !state->refuse) state->failEarly(where);
    if (state->decode(least, where)) return READY_NOW;
    state->waitsAt = where;
    return state->waiting.wrap(decodeMore(state, least, where), where);
  }

  // Of a body that was left what was not taken is gone.
  void requireNotLeft(std::source_location where) const {
    if (leftBecause != nullptr) throw Exception(Exception::Kind::DISCONNECTED, leftBecause, {}, where);
  }

  std::size_t take(std::span<std::byte> buffer) noexcept {
    const std::size_t first = std::min(buffer.size(), firstPart().size());
    if (first > 0) std::memcpy(buffer.data(), firstPart().data(), first);
    skipFirst(first);
    const std::size_t second = std::min(buffer.size() - first, piece.size());
    if (second > 0) std::memcpy(buffer.data() + first, piece.data(), second);
    piece.remove_prefix(second);
    return first + second;
  }

  Chunk takeChunk(std::size_t most) {
    Chunk chunk;
    if (!gathered.empty()) {
      keepDecoded();
      chunk = Chunk::copyOf(asBytes(firstPart().substr(0, most)));
      skipFirst(chunk.size());
    } else if (piece.size() <= most) {
      chunk =
          piece.data() == last.text().data() && piece.size() == last.size() ? std::move(last) : wire->takePiece(piece);
      piece = {};
    } else {
      chunk = Chunk::copyOf(asBytes(piece.substr(0, most)));
      piece.remove_prefix(most);
    }
    return chunk;
  }
};

void MessageBody::beginContent(Wire& wire, MessageParser& parser, Framing framing, std::uint64_t length,
                               std::uint64_t limit, BodyOwner& owner) {
  state_ = std::allocate_shared<State>(PoolAllocator<State>(), wire, parser, framing, length, limit, owner);
}

void MessageBody::finishContent(const char* why) noexcept {
  const std::shared_ptr<State> left = std::move(state_);
  left->parser = nullptr;
  left->owner = nullptr;
  left->leftBecause = why;
  if (!left->waiting.isEmpty()) left->waiting.cancel(Exception(Exception::Kind::DISCONNECTED, why, {}, left->waitsAt));
}

void MessageBody::takeBack(const char* why) {
  const State& left = *state_;
  auto rest = std::allocate_shared<State>(PoolAllocator<State>(), *left.wire, *left.parser, left.framing, left.left,
                                          left.limit, *left.owner);
  rest->received = left.received;
  finishContent(why);
  state_ = std::move(rest);
}

bool MessageBody::hasContentEnded() const noexcept { return state_->ended; }
bool MessageBody::isBroken() const noexcept { return state_ != nullptr && state_->broken; }
bool MessageBody::isBusy() const noexcept { return state_ != nullptr && state_->reading.isBusy(); }
std::uint64_t MessageBody::toCome() const noexcept { return hasEnded() ? 0 : state_->left; }
std::uint64_t MessageBody::received() const noexcept { return state_ == nullptr ? 0 : state_->received; }

void MessageBody::keepDecoded() {
  if (state_ != nullptr) state_->keepDecoded();
}

Promise<std::size_t> MessageBody::tryRead(std::span<std::byte> buffer, std::size_t minBytes,
                                          std::source_location where) {
  troth::detail::requireReadable(buffer, minBytes, where);
  if (state_ == nullptr) return std::size_t(0);
  Busy busy(std::shared_ptr<Direction>(state_, &state_->reading), "tryRead", where);
  return evalNow([&] { return State::wait(state_, minBytes, where); })
      .then(
          [state = state_, busy = std::move(busy), buffer, where] {
            state->requireNotLeft(where);
            return state->take(buffer);
          },
          troth::detail::PropagateException(), where);
}

Promise<Chunk> MessageBody::tryReadChunk(std::size_t maxBytes, std::source_location where) {
  maxBytes = troth::detail::chunkSize(maxBytes, where);
  if (state_ == nullptr) return Chunk();
  Busy busy(std::shared_ptr<Direction>(state_, &state_->reading), "tryReadChunk", where);
  return evalNow([&] { return State::wait(state_, 1, where); })
      .then(
          [state = state_, busy = std::move(busy), maxBytes, where] {
            state->requireNotLeft(where);
            return state->takeChunk(maxBytes);
          },
          troth::detail::PropagateException(), where);
}

std::optional<std::uint64_t> MessageBody::tryGetLength() const {
  if (state_ == nullptr) return 0;
  if (state_->framing != Framing::LENGTH || state_->broken) return std::nullopt;
  return state_->left + state_->decoded();
}

} // namespace detail
} // namespace http
} // namespace v0
} // namespace troth
