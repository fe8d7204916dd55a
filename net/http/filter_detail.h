// SPDX-License-Identifier: MIT
// FilterState: what streams have in common that make their bytes from those of another stream.
#pragma once

#include <troth/io/operation_detail.h>
#include <troth/io/stream.h>
#include <troth/net/http/pool_allocator_detail.h>

#include <cstddef>
#include <memory>
#include <source_location>
#include <span>

namespace troth {
inline namespace v0 {
namespace http {
namespace detail {

/// Shared by a stream and its operations, as troth/io/operation_detail.h has it. What was made waits here until
/// somebody takes it: a read first waits until there is enough, which takes nothing, and moves the bytes when its
/// result is taken. So a read that is destroyed in between loses none.
///
/// Bytes are seldom copied before: `ready` looks at where they were made. Only if a read wants more than that at once
/// (by its minBytes) they are kept aside while more are made.
class FilterState {
public:
  FilterState() noexcept = default;
  FilterState(const FilterState&) = delete;
  FilterState& operator=(const FilterState&) = delete;
  virtual ~FilterState() = default;

  troth::detail::Direction reading{troth::detail::Direction::Kind::READ};

  static Promise<std::size_t> tryRead(std::shared_ptr<FilterState> self, std::span<std::byte> buffer,
                                      std::size_t minBytes, std::source_location where);
  static Promise<Chunk> tryReadChunk(std::shared_ptr<FilterState> self, std::size_t maxBytes,
                                     std::source_location where);

protected:
  std::span<const std::byte> ready; // made and not taken: valid until the next produce()
  bool ended = false;               // nothing comes behind that

  /// Makes `ready` hold something, or sets `ended`. Called when `ready` is empty. Cancelling it loses nothing; the
  /// caller keeps this alive.
  virtual Promise<void> produce(std::source_location where) = 0;

  /// Throws away what was made.
  void dropMade() noexcept;

private:
  PoolVector<std::byte> kept_; // from keptFirst_ on: in front of `ready`
  std::size_t keptFirst_ = 0;

  std::size_t available() const noexcept { return kept_.size() - keptFirst_ + ready.size(); }
  void keepReady();
  std::size_t take(std::span<std::byte> buffer) noexcept;
  static Promise<void> whenHas(std::shared_ptr<FilterState> self, std::size_t count, std::source_location where);
  static Promise<void> waitFor(const std::shared_ptr<FilterState>& self, std::size_t count, std::source_location where);
};

} // namespace detail
} // namespace http
} // namespace v0
} // namespace troth
