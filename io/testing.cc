// SPDX-License-Identifier: MIT
// How a ScriptedStream plays its script, and how short streams cut what passes through them.
#include <troth/io/testing.h>

#include <troth/io/operation_detail.h>
#include <troth/runtime/task_set.h>

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <deque>
#include <optional>
#include <utility>
#include <vector>

namespace troth {
inline namespace v0 {
namespace {

constexpr std::size_t MOST_SHOWN = 24; // bytes of an excerpt

/// The beginning of `text` in double quotes, on one line and in ASCII.
std::string excerpt(std::string_view text) {
  std::string quoted = "\"";
  for (const char c : text.substr(0, MOST_SHOWN)) {
    if (c == '"' || c == '\\')
      quoted += {'\\', c};
    else if (c == '\n')
      quoted += "\\n";
    else if (c == '\r')
      quoted += "\\r";
    else if (c >= ' ' && c <= '~')
      quoted += c;
    else
      quoted += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
  }
  quoted += '"';
  if (text.size() > MOST_SHOWN) quoted += fmt::format("… ({} bytes)", text.size());
  return quoted;
}

std::string_view asText(std::span<const std::byte> bytes) noexcept {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// Bytes that are used up from the front.
struct Bytes {
  std::string text;
  std::size_t used = 0;

  std::string_view rest() const noexcept { return std::string_view(text).substr(used); }
  bool isEmpty() const noexcept { return used == text.size(); }
};

void requirePositive(std::size_t most, const char* function, std::source_location where) {
  if (most == 0) detail::throwMisuse(fmt::format("{}: 0 bytes at a time would never come to an end", function), where);
}

} // namespace

// ------------------------------------------------------------------------------------------- the script

// The script is at the first of `steps_`. Steps that need nothing are done at once (`play`): what they give goes to
// `incoming_`. An operation that has to wait does so in `waiting_`, which is woken whenever something has happened,
// and then looks again.
struct ScriptedStream::State final : private TaskSet::ErrorHandler {
  struct Step {
    enum class Kind : std::uint8_t {
      EXPECT_WRITE,
      GIVE_READ,
      GIVE_END,
      EXPECT_SHUTDOWN,
      EXPECT_ABORT,
      DELAY,
      DELAY_TURNS
    };
    Kind kind;
    Bytes bytes = {};       // to be given, or still expected
    Timer* timer = nullptr; // of a DELAY
    Duration duration = {}; // of a DELAY
    std::size_t turns = 0;  // of DELAY_TURNS
    bool hasBegun = false;  // of both
  };
  /// An error that one direction meets after some bytes.
  struct Failure {
    std::uint64_t offset;
    Exception error;
    bool wasMet = false;
  };

  State() = default;
  State(const State&) = delete;
  State& operator=(const State&) = delete;

  detail::Direction reading{detail::Direction::Kind::READ};
  detail::Direction writing{detail::Direction::Kind::WRITE};
  std::size_t mostRead = SIZE_MAX;
  std::size_t mostWritten = 0; // 0: all at once
  std::optional<Failure> readFailure;
  std::optional<Failure> writeFailure;

  void add(Step step) {
    steps_.push_back(std::move(step));
    if (hasBegun_) play();
  }
  void begin() {
    hasBegun_ = true;
    play();
  }
  void shutdown() {
    isShutDown_ = true;
    begin();
  }
  void abortRead();
  void abortWrite(std::source_location where);
  void close();
  /// The operations that wait look again.
  void change() noexcept { waiting_.wake(); }

  bool isShutDown() const noexcept { return isShutDown_; }
  std::string unused() const;

  static Promise<void> untilReadable(std::shared_ptr<State> state, std::size_t minBytes, std::source_location where);
  std::size_t take(std::span<std::byte> buffer, std::size_t minBytes, std::source_location where);

  static Promise<void> writeAll(std::shared_ptr<State> state, detail::Busy busy, detail::PieceList pieces,
                                std::source_location where);
  static Promise<void> untilWriteFailed(std::shared_ptr<State> state, std::source_location where);

private:
  std::deque<Step> steps_;
  std::deque<Bytes> incoming_; // what was given and not read, by giveRead()
  std::size_t incomingSize_ = 0;
  std::uint64_t readBytes_ = 0;
  std::uint64_t writtenBytes_ = 0;
  bool hasBegun_ = false;
  bool isEndGiven_ = false;
  bool isEndRead_ = false;
  bool isShutDown_ = false;
  bool isAborted_ = false;
  bool isWriteAborted_ = false;
  bool isClosed_ = false;
  std::optional<Exception> writeError_;  // every write fails with it
  std::optional<Exception> scriptError_; // a timer has gone
  std::string difference_;               // how a write differed from the script, if one did
  detail::Sleepers waiting_;
  TaskSet delays_{*this};

  void play();
  bool isDone(Step& step);
  void startDelay(Step& step);
  static Promise<void> passTurns(std::size_t turns);
  void taskFailed(Exception exception) override {
    scriptError_ = std::move(exception);
    change();
  }

  std::size_t available() const noexcept;
  bool isReadable(std::size_t minBytes, std::source_location where);
  bool isWritable(std::source_location where);
  std::size_t accept(std::span<const std::byte> bytes, std::source_location where);
  std::string_view expectedInstead() const noexcept;
  [[noreturn]] void failWrite(Exception error);
  [[noreturn]] void refuse(std::uint64_t offset, std::string_view expected, std::string_view got,
                           std::source_location where);
};

void ScriptedStream::State::play() {
  while (!steps_.empty() && isDone(steps_.front())) steps_.pop_front();
  change();
}

// Does what the first step says, as far as it can be done now.
bool ScriptedStream::State::isDone(Step& step) {
  switch (step.kind) {
  case Step::Kind::EXPECT_WRITE:
    return step.bytes.isEmpty();
  case Step::Kind::EXPECT_SHUTDOWN:
    return isShutDown_;
  case Step::Kind::EXPECT_ABORT:
    return isWriteAborted_;
  case Step::Kind::GIVE_READ:
    incomingSize_ += step.bytes.text.size();
    if (!step.bytes.isEmpty()) incoming_.push_back(std::move(step.bytes));
    return true;
  case Step::Kind::GIVE_END:
    return isEndGiven_ = true;
  case Step::Kind::DELAY:
  case Step::Kind::DELAY_TURNS:
    if (!step.hasBegun) startDelay(step);
    return false;
  }
  detail::fatal("a step of an unknown kind");
}

void ScriptedStream::State::startDelay(Step& step) {
  Promise<void> wait = step.kind == Step::Kind::DELAY ? step.timer->afterDelay(step.duration) : passTurns(step.turns);
  delays_.add(std::move(wait).then([this] {
    steps_.pop_front();
    play();
  }));
  step.hasBegun = true;
}

Promise<void> ScriptedStream::State::passTurns(std::size_t turns) {
  for (; turns > 0; --turns) co_await yield();
}

void ScriptedStream::State::abortRead() {
  isAborted_ = true;
  change();
}

void ScriptedStream::State::abortWrite(std::source_location where) {
  if (isShutDown_ || isWriteAborted_) return;
  isWriteAborted_ = true;
  if (!writeError_) writeError_ = detail::writingGivenUp(where);
  begin();
}

void ScriptedStream::State::close() {
  isClosed_ = true;
  delays_.clear();
  change();
}

std::string ScriptedStream::State::unused() const {
  std::string text;
  const auto line = [&text](std::string what) { text += (text.empty() ? "" : "; ") + std::move(what); };
  if (!difference_.empty()) line(difference_);
  for (const Bytes& bytes : incoming_) line(fmt::format("{} were given and not read", excerpt(bytes.rest())));
  if (isEndGiven_ && !isEndRead_) line("the end of the stream was given and not read");
  for (const Step& step : steps_) {
    switch (step.kind) {
    case Step::Kind::EXPECT_WRITE:
      line(fmt::format("{} is still expected", excerpt(step.bytes.rest())));
      break;
    case Step::Kind::EXPECT_SHUTDOWN:
      line("shutdownWrite() is still expected");
      break;
    case Step::Kind::EXPECT_ABORT:
      line("abortWrite() is still expected");
      break;
    case Step::Kind::GIVE_READ:
      line(fmt::format("{} is still to be given", excerpt(step.bytes.rest())));
      break;
    case Step::Kind::GIVE_END:
      line("the end of the stream is still to be given");
      break;
    case Step::Kind::DELAY:
    case Step::Kind::DELAY_TURNS:
      line("a delay is not over");
      break;
    }
  }
  for (const auto& [failure, direction] : {std::pair(&readFailure, "reading"), std::pair(&writeFailure, "writing")})
    if (*failure && !(*failure)->wasMet)
      line(fmt::format("the error after byte {} of {} was not met", (*failure)->offset, direction));
  return text;
}

// ------------------------------------------------------------------------------------------- reading

// How many bytes may be read before the error, if one was asked for.
std::size_t ScriptedStream::State::available() const noexcept {
  if (!readFailure) return incomingSize_;
  const std::uint64_t left = readFailure->offset - std::min(readFailure->offset, readBytes_);
  return static_cast<std::size_t>(std::min<std::uint64_t>(incomingSize_, left));
}

// Whether a read of `minBytes` can be served, be it by the end of the stream. Throws what it fails with.
bool ScriptedStream::State::isReadable(std::size_t minBytes, std::source_location where) {
  if (isAborted_)
    throw Exception(Exception::Kind::DISCONNECTED, "read: reading from the stream was given up by abortRead()", {},
                    where);
  if (available() >= minBytes) return true;
  if (readFailure && readBytes_ + incomingSize_ >= readFailure->offset) {
    readFailure->wasMet = true;
    throw Exception(readFailure->error);
  }
  if (scriptError_) throw Exception(*scriptError_);
  return isEndGiven_;
}

Promise<void> ScriptedStream::State::untilReadable(std::shared_ptr<State> state, std::size_t minBytes,
                                                   std::source_location where) {
  for (co_await yield();; co_await state->waiting_.sleep(where)) {
    if (state->isClosed_) throw state->reading.disconnected(where);
    if (state->isReadable(minBytes, where)) co_return;
  }
}

// Called when the result is taken. In between, abortRead() may have been called.
std::size_t ScriptedStream::State::take(std::span<std::byte> buffer, std::size_t minBytes, std::source_location where) {
  isReadable(minBytes, where);
  const std::size_t most = std::min({buffer.size(), available(), std::max(minBytes, mostRead)});
  std::size_t taken = 0;
  while (taken < most && (taken == 0 || taken < minBytes)) {
    Bytes& piece = incoming_.front();
    const std::size_t part = std::min(piece.rest().size(), most - taken);
    std::memcpy(buffer.data() + taken, piece.rest().data(), part);
    taken += part;
    piece.used += part;
    if (piece.isEmpty()) incoming_.pop_front();
  }
  incomingSize_ -= taken;
  readBytes_ += taken;
  if (taken < minBytes) isEndRead_ = true;
  return taken;
}

Promise<std::size_t> ScriptedStream::tryRead(std::span<std::byte> buffer, std::size_t minBytes,
                                             std::source_location where) {
  detail::Busy busy(std::shared_ptr<detail::Direction>(state_, &state_->reading), "tryRead", where);
  detail::requireReadable(buffer, minBytes, where);
  state_->begin();
  return State::untilReadable(state_, minBytes, where)
      .then([state = state_, busy = std::move(busy), buffer, minBytes,
             where] { return state->take(buffer, minBytes, where); },
            detail::PropagateException(), where);
}

void ScriptedStream::abortRead(std::source_location) { state_->abortRead(); }

// ------------------------------------------------------------------------------------------- writing

void ScriptedStream::State::failWrite(Exception error) {
  writeError_ = error;
  change();
  throw Exception(std::move(error));
}

// Whether a write can go on. Throws what it fails with.
bool ScriptedStream::State::isWritable(std::source_location where) {
  if (isClosed_) throw writing.disconnected(where);
  if (writeError_) throw Exception(*writeError_);
  if (scriptError_) throw Exception(*scriptError_);
  if (writeFailure && writtenBytes_ >= writeFailure->offset) {
    writeFailure->wasMet = true;
    failWrite(writeFailure->error);
  }
  return steps_.empty() || !steps_.front().hasBegun; // a delay is going on
}

// Fails the write, which differs from the script, and each later one.
void ScriptedStream::State::refuse(std::uint64_t offset, std::string_view expected, std::string_view got,
                                   std::source_location where) {
  difference_ = fmt::format("after {} bytes the script expects {}, but got {}", offset, expected, excerpt(got));
  failWrite(Exception(Exception::Kind::FAILED, "write: " + difference_, {}, where));
}

// What the script expects that is no write.
std::string_view ScriptedStream::State::expectedInstead() const noexcept {
  if (steps_.empty()) return "no more";
  return steps_.front().kind == Step::Kind::EXPECT_ABORT ? "abortWrite()" : "shutdownWrite()";
}

// Compares what is written with what the step expects. Returns how much of it the step takes.
std::size_t ScriptedStream::State::accept(std::span<const std::byte> bytes, std::source_location where) {
  if (mostWritten != 0) bytes = bytes.first(std::min(bytes.size(), mostWritten));
  if (writeFailure)
    bytes = bytes.first(
        static_cast<std::size_t>(std::min<std::uint64_t>(bytes.size(), writeFailure->offset - writtenBytes_)));
  const std::string_view got = asText(bytes);
  if (steps_.empty() || steps_.front().kind != Step::Kind::EXPECT_WRITE)
    refuse(writtenBytes_, expectedInstead(), got, where);
  const std::string_view expected = steps_.front().bytes.rest();
  const std::size_t size = std::min(expected.size(), got.size());
  const auto same = static_cast<std::size_t>(
      std::mismatch(got.begin(), got.begin() + static_cast<std::ptrdiff_t>(size), expected.begin()).first -
      got.begin());
  if (same < size) refuse(writtenBytes_ + same, excerpt(expected.substr(same)), got.substr(same), where);
  writtenBytes_ += size;
  steps_.front().bytes.used += size;
  play();
  return size;
}

Promise<void> ScriptedStream::State::writeAll(std::shared_ptr<State> state, detail::Busy busy, detail::PieceList pieces,
                                              std::source_location where) {
  const detail::Busy untilDone = std::move(busy);
  for (std::span<const std::byte> piece : pieces) {
    while (!piece.empty()) {
      if (state->mostWritten != 0) co_await yield();
      while (!state->isWritable(where)) co_await state->waiting_.sleep(where);
      piece = piece.subspan(state->accept(piece, where));
    }
  }
}

Promise<void> ScriptedStream::write(std::span<const std::byte> bytes, std::source_location where) {
  return write(std::span(&bytes, 1), where);
}

Promise<void> ScriptedStream::write(std::span<const std::span<const std::byte>> pieces, std::source_location where) {
  detail::Busy busy(std::shared_ptr<detail::Direction>(state_, &state_->writing), "write", where);
  if (state_->isShutDown()) detail::throwMisuse("write: the stream was shut down for writing", where);
  state_->begin();
  return State::writeAll(state_, std::move(busy), detail::copyPieces(pieces), where);
}

void ScriptedStream::shutdownWrite(std::source_location where) {
  detail::requireNotBusy(state_->writing, "shutdownWrite", where);
  state_->shutdown();
}

void ScriptedStream::abortWrite(std::source_location where) { state_->abortWrite(where); }

Promise<void> ScriptedStream::State::untilWriteFailed(std::shared_ptr<State> state, std::source_location where) {
  while (!state->writeError_ && !state->isClosed_) co_await state->waiting_.sleep(where);
}

Promise<void> ScriptedStream::whenWriteDisconnected(std::source_location where) {
  state_->begin();
  return State::untilWriteFailed(state_, where);
}

// ------------------------------------------------------------------------------------------- building the script

ScriptedStream::ScriptedStream() : state_(std::make_shared<State>()) {}
ScriptedStream::~ScriptedStream() { state_->close(); }

ScriptedStream& ScriptedStream::expectWrite(std::string_view bytes) {
  if (!bytes.empty()) state_->add({.kind = State::Step::Kind::EXPECT_WRITE, .bytes = {std::string(bytes)}});
  return *this;
}

ScriptedStream& ScriptedStream::giveRead(std::string_view bytes) {
  state_->add({.kind = State::Step::Kind::GIVE_READ, .bytes = {std::string(bytes)}});
  return *this;
}

ScriptedStream& ScriptedStream::giveEnd() {
  state_->add({.kind = State::Step::Kind::GIVE_END});
  return *this;
}

ScriptedStream& ScriptedStream::expectShutdown() {
  state_->add({.kind = State::Step::Kind::EXPECT_SHUTDOWN});
  return *this;
}

ScriptedStream& ScriptedStream::expectAbort() {
  state_->add({.kind = State::Step::Kind::EXPECT_ABORT});
  return *this;
}

ScriptedStream& ScriptedStream::delay(Timer& timer, Duration duration) {
  state_->add({.kind = State::Step::Kind::DELAY, .timer = &timer, .duration = duration});
  return *this;
}

ScriptedStream& ScriptedStream::delayTurns(std::size_t turns) {
  state_->add({.kind = State::Step::Kind::DELAY_TURNS, .turns = turns});
  return *this;
}

ScriptedStream& ScriptedStream::failReadAt(std::uint64_t offset, Exception error) {
  state_->readFailure = State::Failure{offset, std::move(error)};
  state_->change();
  return *this;
}

ScriptedStream& ScriptedStream::failWriteAt(std::uint64_t offset, Exception error) {
  state_->writeFailure = State::Failure{offset, std::move(error)};
  state_->change();
  return *this;
}

ScriptedStream& ScriptedStream::shortReads(std::size_t most, std::source_location where) {
  requirePositive(most, "shortReads", where);
  state_->mostRead = most;
  return *this;
}

ScriptedStream& ScriptedStream::shortWrites(std::size_t most, std::source_location where) {
  requirePositive(most, "shortWrites", where);
  state_->mostWritten = most;
  return *this;
}

bool ScriptedStream::isFinished() const { return state_->unused().empty(); }

void ScriptedStream::checkFinished(std::source_location where) const {
  const std::string unused = state_->unused();
  if (!unused.empty())
    throw Exception(Exception::Kind::FAILED, fmt::format("the script is not finished: {}", unused), {}, where);
}

// ------------------------------------------------------------------------------------------- short streams

namespace {

// What a short stream of either kind shares with its operations.
template <typename Stream>
struct ShortState {
  ShortState(Stream& stream, std::size_t n) noexcept : inner(&stream), most(n) {}

  Stream* inner; // null once the short stream is gone
  std::size_t most;
  detail::Direction reading{detail::Direction::Kind::READ};
  detail::Direction writing{detail::Direction::Kind::WRITE};

  void close() noexcept {
    inner = nullptr;
    reading.disconnect();
    writing.disconnect();
  }

  Promise<std::size_t> tryRead(std::span<std::byte> buffer, std::size_t minBytes, std::source_location where) {
    detail::requireReadable(buffer, minBytes, where);
    const std::size_t size = std::min(buffer.size(), std::max(most, minBytes));
    return reading.endWithStream(inner->tryRead(buffer.first(size), minBytes, where), where);
  }
  Promise<Chunk> tryReadChunk(std::size_t maxBytes, std::source_location where) {
    return reading.endWithStream(inner->tryReadChunk(std::min(maxBytes, most), where), where);
  }
};

class ShortInputStream final : public AsyncInputStream {
public:
  ShortInputStream(AsyncInputStream& stream, std::size_t most)
      : state_(std::make_shared<ShortState<AsyncInputStream>>(stream, most)) {}
  ~ShortInputStream() override { state_->close(); }

  Promise<std::size_t> tryRead(std::span<std::byte> buffer, std::size_t minBytes, std::source_location where) override {
    return state_->tryRead(buffer, minBytes, where);
  }
  Promise<Chunk> tryReadChunk(std::size_t maxBytes, std::source_location where) override {
    return state_->tryReadChunk(maxBytes, where);
  }
  std::optional<std::uint64_t> tryGetLength() const override { return state_->inner->tryGetLength(); }

private:
  std::shared_ptr<ShortState<AsyncInputStream>> state_;
};

class ShortIoStream final : public AsyncIoStream {
public:
  ShortIoStream(AsyncIoStream& stream, std::size_t most) : state_(std::make_shared<State>(stream, most)) {}
  ~ShortIoStream() override { state_->close(); }

  Promise<std::size_t> tryRead(std::span<std::byte> buffer, std::size_t minBytes, std::source_location where) override {
    return state_->tryRead(buffer, minBytes, where);
  }
  Promise<Chunk> tryReadChunk(std::size_t maxBytes, std::source_location where) override {
    return state_->tryReadChunk(maxBytes, where);
  }
  std::optional<std::uint64_t> tryGetLength() const override { return state_->inner->tryGetLength(); }

  Promise<void> write(std::span<const std::byte> bytes, std::source_location where) override {
    return write(std::span(&bytes, 1), where);
  }
  Promise<void> write(std::span<const std::span<const std::byte>> pieces, std::source_location where) override {
    detail::Busy busy(std::shared_ptr<detail::Direction>(state_, &state_->writing), "write", where);
    return state_->writing.endWithStream(writeAll(state_, std::move(busy), detail::copyPieces(pieces), where), where);
  }
  Promise<void> whenWriteDisconnected(std::source_location where) override {
    return state_->inner->whenWriteDisconnected(where);
  }
  void shutdownWrite(std::source_location where) override {
    detail::requireNotBusy(state_->writing, "shutdownWrite", where);
    state_->inner->shutdownWrite(where);
  }
  void abortWrite(std::source_location where) override { state_->inner->abortWrite(where); }
  void abortRead(std::source_location where) override { state_->inner->abortRead(where); }
  std::optional<int> descriptor() const override { return state_->inner->descriptor(); }

private:
  using State = ShortState<AsyncIoStream>;
  std::shared_ptr<State> state_;

  static Promise<void> writeAll(std::shared_ptr<State> state, detail::Busy busy, detail::PieceList pieces,
                                std::source_location where) {
    const detail::Busy untilDone = std::move(busy);
    for (std::span<const std::byte> piece : pieces) {
      while (!piece.empty()) {
        if (state->inner == nullptr) throw state->writing.disconnected(where);
        const std::size_t size = std::min(piece.size(), state->most);
        co_await state->inner->write(piece.first(size), where);
        piece = piece.subspan(size);
      }
    }
  }
};

} // namespace

std::unique_ptr<AsyncIoStream> newShortIoStream(AsyncIoStream& stream, std::size_t most, std::source_location where) {
  requirePositive(most, "newShortIoStream", where);
  return std::make_unique<ShortIoStream>(stream, most);
}

std::unique_ptr<AsyncInputStream> newShortInputStream(AsyncInputStream& stream, std::size_t most,
                                                      std::source_location where) {
  requirePositive(most, "newShortInputStream", where);
  return std::make_unique<ShortInputStream>(stream, most);
}

} // namespace v0
} // namespace troth
