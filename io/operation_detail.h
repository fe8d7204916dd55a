// SPDX-License-Identifier: MIT
// What the operations of streams that are made of other streams have in common: one at a time, ended with the stream.
#pragma once

#include <troth/io/pieces_detail.h>
#include <troth/io/read_size_detail.h>
#include <troth/runtime/promise.h>
#include <troth/runtime/waiter_detail.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <source_location>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace troth {
inline namespace v0 {
namespace detail {

// How these streams are built. A stream owns its state by a std::shared_ptr, and so does each operation, so the order
// in which they go is never a question of memory safety. The state knows the stream below by a pointer that is null
// once the stream above is gone.
//
// A read is made of two steps. The first waits until there is what was asked for, and takes nothing. The second is a
// `then` without a promise, which runs only when somebody takes the result: it moves the bytes and counts them. So a
// read that is destroyed in between has done nothing.

/// Fulfilled by nobody: fails with DISCONNECTED when the stream goes.
template <typename T>
class StreamEnd final : public ValueWaiter<FixVoid<T>> {
public:
  using ValueWaiter<FixVoid<T>>::ValueWaiter;
  const char* name() const noexcept override { return "end of the stream's life"; }
};

/// One direction of a stream.
class Direction {
public:
  enum class Kind : std::uint8_t { READ, WRITE };

  explicit Direction(Kind kind) noexcept : kind_(kind) {}

  Kind kind() const noexcept { return kind_; }
  bool isBusy() const noexcept { return busy_; }

  /// The same operation, until disconnect(): then it is cancelled, and fails with DISCONNECTED.
  template <typename T>
  Promise<T> endWithStream(Promise<T> operation, std::source_location where) {
    auto* end = new StreamEnd<T>(where);
    Promise<T> ended = PromiseAccess::wrap<T>(end);
    ends_.add(*end);
    return std::move(operation).exclusiveJoin(std::move(ended), where);
  }

  /// The stream is destroyed.
  void disconnect() noexcept;

  /// What an operation meets that goes on after that.
  Exception disconnected(std::source_location where) const;

private:
  friend class Busy;

  Kind kind_;
  bool busy_ = false;
  WaiterList ends_;

  const char* endOfLife() const noexcept;
};

/// Held by the one operation of a direction: a read's until its result is taken, a write's until it is done, or until
/// the operation is destroyed.
class Busy {
public:
  /// `direction` shares the ownership of the state that it is part of. Throws FAILED if another operation holds it;
  /// `function` is the name of the one that was called.
  Busy(std::shared_ptr<Direction> direction, std::string_view function, std::source_location where);
  Busy(Busy&&) noexcept = default;
  Busy& operator=(Busy&&) = delete;
  ~Busy() {
    if (direction_ != nullptr) direction_->busy_ = false;
  }

private:
  std::shared_ptr<Direction> direction_; // null after a move
};

/// Throws FAILED if the direction is busy.
void requireNotBusy(const Direction& direction, std::string_view function, std::source_location where);

/// What `stream` points to. Throws FAILED if that is nothing; `function` is the one that it was given to.
template <typename Stream>
Stream& requireStream(const std::unique_ptr<Stream>& stream, std::string_view function, std::source_location where) {
  if (stream == nullptr) throwMisuse(std::string(function) + ": the stream is null", where);
  return *stream;
}

/// Promises that wait until something happens to a stream, all for the same.
class Sleepers {
public:
  Promise<void> sleep(std::source_location where);
  /// It has happened: all go on, in their order.
  void wake() noexcept;
  /// It will not happen.
  void failAll(const Exception& exception) noexcept { list_.failAll(exception); }

private:
  WaiterList list_;
};

/// What writing meets after abortWrite().
Exception writingGivenUp(std::source_location where);

/// The pieces that are not empty, as an array that outlives the call.
PieceList copyPieces(std::span<const std::span<const std::byte>> pieces);
std::size_t totalSize(std::span<const std::span<const std::byte>> pieces) noexcept;

} // namespace detail
} // namespace v0
} // namespace troth
