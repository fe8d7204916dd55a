// SPDX-License-Identifier: MIT
// The errors that streams made of other streams share.
#include <troth/io/operation_detail.h>

#include <fmt/format.h>

namespace troth {
inline namespace v0 {
namespace detail {

const char* Direction::endOfLife() const noexcept {
  return kind_ == Kind::READ ? "read: the stream was destroyed while the read was pending"
                             : "write: the stream was destroyed while the write was pending";
}

void Direction::disconnect() noexcept { ends_.disconnectAll(endOfLife()); }

Exception Direction::disconnected(std::source_location where) const {
  return Exception(Exception::Kind::DISCONNECTED, endOfLife(), {}, where);
}

Busy::Busy(std::shared_ptr<Direction> direction, std::string_view function, std::source_location where) {
  requireNotBusy(*direction, function, where);
  direction_ = std::move(direction);
  direction_->busy_ = true;
}

void requireNotBusy(const Direction& direction, std::string_view function, std::source_location where) {
  if (!direction.isBusy()) return;
  throwMisuse(fmt::format("{}: another {}", function,
                          direction.kind() == Direction::Kind::READ
                              ? "read of this stream is pending, or its result has not been taken"
                              : "write to this stream is pending"),
              where);
}

namespace {

class Sleeper final : public ValueWaiter<Void> {
public:
  using ValueWaiter::ValueWaiter;
  const char* name() const noexcept override { return "stream"; }
};

} // namespace

Promise<void> Sleepers::sleep(std::source_location where) {
  auto* sleeper = new Sleeper(where);
  list_.add(*sleeper);
  return PromiseAccess::wrap<void>(sleeper);
}

void Sleepers::wake() noexcept {
  while (!list_.isEmpty()) static_cast<Sleeper&>(list_.front()).fulfill({});
}

Exception writingGivenUp(std::source_location where) {
  return Exception(Exception::Kind::DISCONNECTED, "write: writing was given up (abortWrite)", {}, where);
}

PieceList copyPieces(std::span<const std::span<const std::byte>> pieces) {
  PieceList copy;
  copy.reserve(pieces.size());
  for (const std::span<const std::byte> piece : pieces)
    if (!piece.empty()) copy.push_back(piece);
  return copy;
}

std::size_t totalSize(std::span<const std::span<const std::byte>> pieces) noexcept {
  std::size_t size = 0;
  for (const std::span<const std::byte> piece : pieces) size += piece.size();
  return size;
}

} // namespace detail
} // namespace v0
} // namespace troth
