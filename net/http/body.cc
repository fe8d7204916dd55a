// SPDX-License-Identifier: MIT
// A body is read in two steps, as all streams of streams are (troth/io/operation_detail.h): one waits and takes
// nothing, the other runs when the result is taken. Of a body in chunks the first step decodes, which moves nothing
// that could be lost: what it decodes waits in the state.
#include <troth/net/http/body_detail.h>

#include <troth/net/http/http_error.h>

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

namespace troth {
inline namespace v0 {
namespace http {
namespace detail {

using troth::detail::Busy;
using troth::detail::Direction;

struct MessageBody::State {
  State(Wire& w, MessageParser& p, Framing f, std::uint64_t length, std::uint64_t most, BodyOwner& o) noexcept
      : wire(w), parser(&p), owner(&o), framing(f), left(length), limit(most) {}

  troth::detail::Ref<Wire> wire;
  MessageParser* parser; // null, as is the owner, once the message is over
  BodyOwner* owner;
  const Framing framing;
  std::uint64_t left;  // of a LENGTH
  std::uint64_t limit; // of the whole
  std::uint64_t received = 0;
  bool ended = false;
  bool broken = false;
  bool askedFor = false;
  std::string_view piece; // of CHUNKED: decoded and not taken, on the wire
  PoolString gathered;    // of CHUNKED: the same, in front of it, when a read wants more than one piece
  Direction reading{Direction::Kind::READ};

  [[noreturn]] void failEarly(std::source_location where) {
    broken = true;
    throw Exception(Exception::Kind::DISCONNECTED,
                    fmt::format("HTTP: the connection ended after {} bytes of a body that is longer", received), {},
                    where);
  }

  // Without chunks: `count` bytes were read, where the end of the connection would have given less than `least`.
  void count(std::size_t count, std::size_t least, std::source_location where) {
    received += count;
    if (framing == Framing::UNTIL_CLOSE) {
      if (received > limit) failTooLarge(where);
      if (count < least) end();
      return;
    }
    left -= count;
    if (left == 0)
      end();
    else if (count < least)
      failEarly(where);
  }

  [[noreturn]] void failTooLarge(std::source_location where) {
    broken = true;
    throw HttpError(413, fmt::format("HTTP: the body has more than {} bytes", limit), where);
  }

  void end() noexcept {
    if (std::exchange(ended, true) || owner == nullptr) return;
    owner->bodyEnded();
  }

  // Of CHUNKED: decodes what there is until `least` bytes are at hand; returns whether they are, or the end is.
  bool decode(std::size_t least, std::source_location where) {
    for (;;) {
      if (gathered.size() + piece.size() >= least || ended) return true;
      if (wire->rest().empty()) return false;
      if (parser == nullptr) throw reading.disconnected(where);
      keepDecoded();
      const MessageParser::Piece decoded = parser->decodeChunked(wire->rest());
      wire->consume(decoded.consumed);
      if (decoded.outcome == MessageParser::Outcome::FAULT) {
        broken = true;
        throw HttpError(parser->fault().status, fmt::format("HTTP: in a body in chunks, {}", parser->fault().reason),
                        where);
      }
      piece = decoded.data;
      received += piece.size();
      if (received > limit) failTooLarge(where);
      if (decoded.outcome == MessageParser::Outcome::COMPLETE) end();
    }
  }

  // What was decoded points into a chunk that is about to go.
  void keepDecoded() { gathered.append(std::exchange(piece, {})); }

  static Promise<void> decodeMore(std::shared_ptr<State> state, std::size_t least, std::source_location where) {
    while (!state->decode(least, where)) {
      WireWait wait(*state->wire, WireWait::For::READING);
      Chunk more = co_await state->wire->stream(where).tryReadChunk(Chunk::CAPACITY, where);
      wait.end(more.size());
      if (more.empty()) state->failEarly(where);
      state->keepDecoded();
      state->wire->give(std::move(more));
    }
  }

  std::size_t decoded() const noexcept { return gathered.size() + piece.size(); }

  // Moves decoded bytes to `buffer`.
  std::size_t takeDecoded(std::span<std::byte> buffer) noexcept {
    const std::size_t first = std::min(buffer.size(), gathered.size());
    if (first > 0) {
      std::memcpy(buffer.data(), gathered.data(), first);
      gathered.erase(0, first);
    }
    const std::size_t second = std::min(buffer.size() - first, piece.size());
    if (second > 0) std::memcpy(buffer.data() + first, piece.data(), second);
    piece.remove_prefix(second);
    return first + second;
  }

  std::size_t takeRest(std::span<std::byte> buffer) noexcept {
    const std::size_t count = std::min(buffer.size(), wire->rest().size());
    if (count > 0) std::memcpy(buffer.data(), wire->rest().data(), count);
    wire->consume(count);
    return count;
  }

  std::size_t atMost(std::size_t size) const noexcept {
    return framing == Framing::LENGTH ? static_cast<std::size_t>(std::min<std::uint64_t>(size, left)) : size;
  }

  // `start` once the peer knows that the body is wanted.
  template <typename Start>
  static auto afterContinue(const std::shared_ptr<State>& state, Start start) -> std::invoke_result_t<Start> {
    if (!std::exchange(state->askedFor, true) && state->owner != nullptr && state->wire->rest().empty()) {
      Promise<void> before = state->owner->beforeFirstRead();
      if (!isReady(before)) return std::move(before).then(std::move(start));
    }
    return start();
  }

  static Promise<std::size_t> readPlain(const std::shared_ptr<State>& state, std::shared_ptr<Busy> busy,
                                        std::span<std::byte> buffer, std::size_t minBytes, std::source_location where);
};

void MessageBody::beginContent(Wire& wire, MessageParser& parser, Framing framing, std::uint64_t length,
                               std::uint64_t limit, BodyOwner& owner) {
  state_ = std::allocate_shared<State>(PoolAllocator<State>(), wire, parser, framing, length, limit, owner);
}

void MessageBody::finishContent() noexcept {
  state_->parser = nullptr;
  state_->owner = nullptr;
  if (!state_->ended) state_->broken = true;
  state_->reading.disconnect();
  state_.reset();
}

bool MessageBody::hasContentEnded() const noexcept { return state_->ended; }
bool MessageBody::isBroken() const noexcept { return state_ != nullptr && state_->broken; }
bool MessageBody::isBusy() const noexcept { return state_ != nullptr && state_->reading.isBusy(); }
bool MessageBody::wasAskedFor() const noexcept { return state_ != nullptr && state_->askedFor; }
std::uint64_t MessageBody::received() const noexcept { return state_ == nullptr ? 0 : state_->received; }

void MessageBody::keepDecoded() {
  if (state_ != nullptr) state_->keepDecoded();
}

Promise<std::size_t> MessageBody::tryRead(std::span<std::byte> buffer, std::size_t minBytes,
                                          std::source_location where) {
  troth::detail::requireReadable(buffer, minBytes, where);
  if (state_ == nullptr) return std::size_t(0);
  Busy busy(std::shared_ptr<Direction>(state_, &state_->reading), "tryRead", where);
  if (state_->broken) return Promise<std::size_t>(state_->reading.disconnected(where), where);
  if (state_->framing == Framing::CHUNKED) {
    auto wait = [state = state_, minBytes, where]() -> Promise<void> {
      if (state->decode(minBytes, where)) return READY_NOW;
      return state->reading.endWithStream(State::decodeMore(state, minBytes, where), where);
    };
    return evalNow([&] { return State::afterContinue(state_, std::move(wait)); })
        .then([state = state_, busy = std::move(busy), buffer] { return state->takeDecoded(buffer); },
              troth::detail::PropagateException(), where);
  }
  if (state_->ended) return std::size_t(0);
  auto shared = std::allocate_shared<Busy>(PoolAllocator<Busy>(), std::move(busy));
  auto read = [state = state_, shared = std::move(shared), buffer, minBytes, where] {
    return State::readPlain(state, shared, buffer, minBytes, where);
  };
  return evalNow([&] { return State::afterContinue(state_, std::move(read)); });
}

// From the wire's rest first, then straight into the caller's memory.
Promise<std::size_t> MessageBody::State::readPlain(const std::shared_ptr<State>& state, std::shared_ptr<Busy> busy,
                                                   std::span<std::byte> buffer, std::size_t minBytes,
                                                   std::source_location where) {
  const std::size_t most = state->atMost(buffer.size()), least = std::min(minBytes, most);
  const std::size_t held = std::min(state->wire->rest().size(), most);
  if (held >= least)
    return Promise<void>(READY_NOW).then([state, busy = std::move(busy), buffer = buffer.first(most), where] {
      const std::size_t count = state->takeRest(buffer);
      state->count(count, 1, where);
      return count;
    });
  WireWait wait(*state->wire, WireWait::For::READING);
  Promise<std::size_t> read = state->wire->stream(where).tryRead(buffer.first(most).subspan(held), least - held, where);
  return state->reading.endWithStream(std::move(read), where)
      .then(
          [state, busy = std::move(busy), wait = std::move(wait), front = buffer.first(held), least,
           where](std::size_t count) mutable {
            wait.end(count);
            const std::size_t all = state->takeRest(front) + count;
            state->count(all, least, where);
            return all;
          },
          troth::detail::PropagateException(), where);
}

Promise<Chunk> MessageBody::tryReadChunk(std::size_t maxBytes, std::source_location where) {
  maxBytes = troth::detail::chunkSize(maxBytes, where);
  if (state_ == nullptr) return Chunk();
  Busy busy(std::shared_ptr<Direction>(state_, &state_->reading), "tryReadChunk", where);
  if (state_->broken) return Promise<Chunk>(state_->reading.disconnected(where), where);
  if (state_->framing != Framing::CHUNKED && state_->ended) return Chunk();
  // Waits until there is something on the wire, or decoded, from where it is copied when it is taken.
  auto wait = [state = state_, maxBytes, where]() -> Promise<Chunk> {
    if (state->framing == Framing::CHUNKED) {
      if (state->decode(1, where)) return Chunk();
      return state->reading.endWithStream(State::decodeMore(state, 1, where), where).then([] { return Chunk(); });
    }
    if (!state->wire->rest().empty()) return Chunk();
    WireWait waiting(*state->wire, WireWait::For::READING);
    return state->reading.endWithStream(state->wire->stream(where).tryReadChunk(state->atMost(maxBytes), where), where)
        .then([waiting = std::move(waiting)](Chunk chunk) mutable {
          waiting.end(chunk.size());
          return chunk;
        });
  };
  return evalNow([&] { return State::afterContinue(state_, std::move(wait)); })
      .then(
          [state = state_, busy = std::move(busy), maxBytes, where](Chunk chunk) {
            if (state->framing == Framing::CHUNKED) {
              const std::size_t size = std::min(maxBytes, state->decoded());
              if (size == 0) return chunk;
              if (state->gathered.empty()) {
                chunk = Chunk::copyOf(asBytes(state->piece.substr(0, size)));
                state->piece.remove_prefix(size);
                return chunk;
              }
              chunk = Chunk::copyOf(asBytes(std::string_view(state->gathered).substr(0, maxBytes)));
              state->gathered.erase(0, chunk.size());
              return chunk;
            }
            if (chunk.empty() && !state->wire->rest().empty()) {
              chunk = Chunk::copyOf(asBytes(state->wire->rest().substr(0, state->atMost(maxBytes))));
              state->wire->consume(chunk.size());
            }
            state->count(chunk.size(), 1, where);
            return chunk;
          },
          troth::detail::PropagateException(), where);
}

std::optional<std::uint64_t> MessageBody::tryGetLength() const {
  if (state_ == nullptr) return 0;
  if (state_->framing != Framing::LENGTH || state_->broken) return std::nullopt;
  return state_->left;
}

} // namespace detail
} // namespace http
} // namespace v0
} // namespace troth
