// SPDX-License-Identifier: MIT
// The tee: a window of the stream's bytes, from where the slowest branch stands to where the fastest does.
//
// Bytes have numbers, from 0 on. `pieces_` holds those to `end_`, from where the slowest branch stands or a little
// before, since chunks go as a whole; each branch has the number of the byte that it reads next. While a branch waits
// at `end_` and the window is below its limit, a coroutine (pull) reads from the input; if nobody waits any more it is
// cancelled, and the input keeps its bytes.
#include <troth/io/tee.h>

#include <troth/io/given_back_detail.h>
#include <troth/io/operation_detail.h>
#include <troth/io/read_op_detail.h>
#include <troth/runtime/pool_detail.h>

#include <algorithm>
#include <deque>
#include <vector>

namespace troth {
inline namespace v0 {
namespace {

using detail::Ref;

class Branch;

/// What the branches share. It goes with the last of them.
class TeeState final : public detail::Counted, public detail::Pooled {
public:
  TeeState(std::unique_ptr<AsyncInputStream> input, std::size_t limit) : input_(std::move(input)), limit_(limit) {}

  void add(Branch& branch) { branches_.push_back(&branch); }
  void remove(Branch& branch) noexcept;
  /// A branch has begun to wait, has read on, or has stopped waiting.
  void changed() noexcept;

  /// The bytes from number `position` on that are at hand: those of one chunk.
  std::span<const std::byte> bytesFrom(std::uint64_t position) const noexcept;
  std::uint64_t end() const noexcept { return end_; }
  std::size_t limit() const noexcept { return limit_; }
  bool isOver() const noexcept { return over_; }
  const std::optional<Exception>& error() const noexcept { return error_; }
  std::optional<std::uint64_t> inputLength() const { return over_ ? 0 : input_->tryGetLength(); }

private:
  struct Piece {
    Chunk chunk;
    std::uint64_t end; // the number of the byte behind it
  };

  std::unique_ptr<AsyncInputStream> input_;
  std::size_t limit_;
  std::vector<Branch*> branches_;
  std::deque<Piece, detail::PoolAllocator<Piece>> pieces_;
  std::uint64_t slowest_ = 0; // where the slowest branch stands
  std::uint64_t end_ = 0;
  bool over_ = false; // the input has ended, or failed
  bool pulling_ = false;
  std::optional<Exception> error_;
  Promise<void> pull_ = NEVER_DONE; // last, so it goes first

  std::size_t room() const noexcept { return limit_ - static_cast<std::size_t>(end_ - slowest_); }
  bool isWanted() const noexcept;
  std::source_location whereWanted() const noexcept;
  void serveAll() noexcept;
  void dropRead() noexcept;
  void failed() noexcept;
  Promise<void> pull();
};

/// A branch's reading, shared by the branch and its read.
class Branch final : public detail::Counted, public detail::Pooled {
public:
  Branch(TeeState& tee, std::uint64_t position) : position_(position), readOp_(*this), tee_(tee) { tee.add(*this); }
  ~Branch() { tee_->remove(*this); }

  Promise<std::size_t> tryRead(std::span<std::byte> buffer, std::size_t minBytes, std::source_location where) {
    requireFree("tryRead", where);
    detail::requireReadable(buffer, minBytes, where);
    readOp_.beginSpan(buffer, minBytes, where);
    Promise<std::size_t> promise = readOp_.promise<std::size_t>();
    startRead();
    return promise;
  }
  Promise<Chunk> tryReadChunk(std::size_t maxBytes, std::source_location where) {
    requireFree("tryReadChunk", where);
    readOp_.beginChunk(detail::chunkSize(maxBytes, where), where);
    Promise<Chunk> promise = readOp_.promise<Chunk>();
    startRead();
    return promise;
  }
  std::optional<std::uint64_t> length() const {
    std::optional<std::uint64_t> length = tee_->inputLength();
    if (length) *length += tee_->end() - position_ + givenBack_.bytes().size();
    return length;
  }
  /// Whether another branch can stand where this one does: a read that has begun may have got further.
  bool canFork(std::size_t limit) const noexcept { return readOp_.isFree() && limit == tee_->limit(); }
  Ref<Branch> fork() const {
    Ref<Branch> branch(*new Branch(*tee_, position_));
    branch->givenBack_ = givenBack_;
    branch->lost_ = lost_;
    return branch;
  }
  void close() noexcept;

  std::uint64_t position() const noexcept { return position_; }
  bool isWaiting() const noexcept { return readOp_.isPending(); }
  std::source_location whereWaiting() const noexcept { return readOp_.where(); }
  /// Gives the read that waits what is at hand, or the end.
  void serve() noexcept;

private:
  friend class detail::ReadOp<Branch>;

  std::uint64_t position_; // the number of the byte that comes next
  detail::GivenBack givenBack_;
  detail::ReadOp<Branch> readOp_;
  std::optional<Exception> lost_; // why nothing can be read any more
  Ref<TeeState> tee_;

  void requireFree(const char* operation, std::source_location where) const {
    if (!readOp_.isFree())
      detail::throwMisuse(
          std::string(operation) + ": another read of this stream is pending, or its result has not been taken", where);
  }
  void startRead() noexcept;
  void giveBack(std::span<const std::byte> bytes) noexcept {
    if (givenBack_.putBack(bytes)) return;
    lost_ = Exception(Exception::Kind::OVERLOADED, "there was no memory for the bytes that a cancelled read gave back");
  }
  void readCancelled() noexcept { tee_->changed(); }
};

void Branch::startRead() noexcept {
  if (lost_) return readOp_.failed(*lost_);
  if (!givenBack_.empty()) {
    givenBack_.drop(readOp_.take(givenBack_.bytes()));
    if (readOp_.isReady()) return;
  }
  serve();
  tee_->changed();
}

void Branch::serve() noexcept {
  while (readOp_.isPending() && position_ != tee_->end()) {
    // A read that has its minimum is ready: so all there is goes into it at once.
    if (readOp_.wantsChunk()) {
      position_ += readOp_.take(tee_->bytesFrom(position_));
      continue;
    }
    const std::span<std::byte> space = readOp_.space();
    std::size_t count = 0;
    while (count < space.size() && position_ != tee_->end()) {
      const std::span<const std::byte> bytes = tee_->bytesFrom(position_);
      const std::size_t part = std::min(bytes.size(), space.size() - count);
      std::memcpy(space.data() + count, bytes.data(), part);
      count += part;
      position_ += part;
    }
    readOp_.received(count);
  }
  if (!readOp_.isPending() || !tee_->isOver()) return;
  if (tee_->error())
    readOp_.failed(*tee_->error());
  else
    readOp_.ended();
}

void Branch::close() noexcept {
  lost_ = Exception(Exception::Kind::DISCONNECTED, "the stream was destroyed while a read was pending", {},
                    readOp_.where());
  if (readOp_.isPending()) readOp_.failed(*lost_);
  tee_->remove(*this);
}

void TeeState::remove(Branch& branch) noexcept {
  if (std::erase(branches_, &branch) != 0) changed();
}

std::span<const std::byte> TeeState::bytesFrom(std::uint64_t position) const noexcept {
  const Piece& piece = *std::ranges::upper_bound(pieces_, position, {}, &Piece::end);
  return piece.chunk.bytes().last(static_cast<std::size_t>(piece.end - position));
}

// Whether a branch waits, and there may be more in the window.
bool TeeState::isWanted() const noexcept {
  return !over_ && room() > 0 && std::ranges::any_of(branches_, &Branch::isWaiting);
}

// The place of the read for which there is one more of the input, if it isWanted().
std::source_location TeeState::whereWanted() const noexcept {
  return (*std::ranges::find_if(branches_, &Branch::isWaiting))->whereWaiting();
}

void TeeState::serveAll() noexcept {
  for (Branch* branch : branches_) branch->serve();
}

void TeeState::dropRead() noexcept {
  slowest_ = end_;
  for (const Branch* branch : branches_) slowest_ = std::min(slowest_, branch->position());
  while (!pieces_.empty() && pieces_.front().end <= slowest_) pieces_.pop_front();
}

// By the exception that is being handled.
void TeeState::failed() noexcept {
  over_ = true;
  error_ = Exception::fromCurrent();
}

void TeeState::changed() noexcept {
  dropRead();
  if (isWanted() == pulling_) return;
  if (pulling_) {
    pull_ = NEVER_DONE;
    return;
  }
  try {
    pull_ = pull();
  } catch (...) { // there was no memory for it
    failed();
    serveAll();
  }
}

Promise<void> TeeState::pull() {
  struct Pulling {
    bool& flag;
    explicit Pulling(bool& f) noexcept : flag(f) { flag = true; }
    ~Pulling() { flag = false; }
  };
  const Pulling pulling(pulling_);
  while (isWanted()) {
    try {
      Chunk chunk = co_await input_->tryReadChunk(std::min(room(), Chunk::CAPACITY), whereWanted());
      if (chunk.empty()) {
        over_ = true;
      } else {
        const std::uint64_t end = end_ + chunk.size();
        pieces_.push_back({std::move(chunk), end});
        end_ = end;
      }
    } catch (...) {
      failed();
    }
    serveAll();
    dropRead();
  }
}

/// The stream itself: only the ownership of its branch.
class BranchStream final : public AsyncInputStream, public detail::Pooled {
public:
  explicit BranchStream(Ref<Branch> branch) noexcept : branch_(std::move(branch)) {}
  ~BranchStream() override { branch_->close(); }

  Promise<std::size_t> tryRead(std::span<std::byte> buffer, std::size_t minBytes, std::source_location where) override {
    return branch_->tryRead(buffer, minBytes, where);
  }
  Promise<Chunk> tryReadChunk(std::size_t maxBytes, std::source_location where) override {
    return branch_->tryReadChunk(maxBytes, where);
  }
  std::optional<std::uint64_t> tryGetLength() const override { return branch_->length(); }
  std::unique_ptr<AsyncInputStream> tryTee(std::size_t limit) override {
    if (!branch_->canFork(limit)) return nullptr;
    return std::make_unique<BranchStream>(branch_->fork());
  }

private:
  Ref<Branch> branch_;
};

} // namespace

Tee newTee(std::unique_ptr<AsyncInputStream> input, std::size_t limit, std::source_location where) {
  if (limit == 0) detail::throwMisuse("newTee: the limit is 0, so no branch could ever read", where);
  AsyncInputStream& first = detail::requireStream(input, "newTee", where);
  if (std::unique_ptr<AsyncInputStream> second = first.tryTee(limit)) return {{std::move(input), std::move(second)}};
  const Ref<TeeState> tee(*new TeeState(std::move(input), limit));
  const auto newBranch = [&] { return std::make_unique<BranchStream>(Ref<Branch>(*new Branch(*tee, 0))); };
  return {{newBranch(), newBranch()}};
}

} // namespace v0
} // namespace troth
