// SPDX-License-Identifier: MIT
// Reads of streams that make their bytes from those of another stream.
#include <troth/net/http/filter_detail.h>

#include <algorithm>
#include <cstring>
#include <utility>

namespace troth {
inline namespace v0 {
namespace http {
namespace detail {

using troth::detail::Busy;
using troth::detail::Direction;

void FilterState::keepReady() {
  if (ready.empty()) return;
  kept_.erase(kept_.begin(), kept_.begin() + static_cast<std::ptrdiff_t>(std::exchange(keptFirst_, 0)));
  kept_.insert(kept_.end(), ready.begin(), ready.end());
  ready = {};
}

void FilterState::dropMade() noexcept {
  kept_.clear();
  keptFirst_ = 0;
  ready = {};
}

std::size_t FilterState::take(std::span<std::byte> buffer) noexcept {
  const std::size_t fromKept = std::min(buffer.size(), kept_.size() - keptFirst_);
  if (fromKept > 0) std::memcpy(buffer.data(), kept_.data() + keptFirst_, fromKept);
  keptFirst_ += fromKept;
  if (keptFirst_ == kept_.size()) {
    kept_ = {}; // seldom needed, so not held
    keptFirst_ = 0;
  }
  const std::size_t fromReady = std::min(buffer.size() - fromKept, ready.size());
  if (fromReady > 0) std::memcpy(buffer.data() + fromKept, ready.data(), fromReady);
  ready = ready.subspan(fromReady);
  return fromKept + fromReady;
}

Promise<void> FilterState::whenHas(std::shared_ptr<FilterState> self, std::size_t count, std::source_location where) {
  while (self->available() < count && !self->ended) {
    self->keepReady();
    co_await self->produce(where);
  }
}

Promise<void> FilterState::waitFor(const std::shared_ptr<FilterState>& self, std::size_t count,
                                   std::source_location where) {
  if (self->available() >= count || self->ended) return READY_NOW;
  return self->reading.endWithStream(whenHas(self, count, where), where);
}

Promise<std::size_t> FilterState::tryRead(std::shared_ptr<FilterState> self, std::span<std::byte> buffer,
                                          std::size_t minBytes, std::source_location where) {
  Busy busy(std::shared_ptr<Direction>(self, &self->reading), "tryRead", where);
  troth::detail::requireReadable(buffer, minBytes, where);
  return waitFor(self, minBytes, where)
      .then([self, busy = std::move(busy), buffer] { return self->take(buffer); }, troth::detail::PropagateException(),
            where);
}

Promise<Chunk> FilterState::tryReadChunk(std::shared_ptr<FilterState> self, std::size_t maxBytes,
                                         std::source_location where) {
  Busy busy(std::shared_ptr<Direction>(self, &self->reading), "tryReadChunk", where);
  maxBytes = troth::detail::chunkSize(maxBytes, where);
  return waitFor(self, 1, where)
      .then(
          [self, busy = std::move(busy), maxBytes] {
            const std::size_t size = std::min(maxBytes, self->available());
            if (size == 0) return Chunk();
            auto* block = static_cast<std::byte*>(troth::detail::allocate(size));
            self->take({block, size});
            return Chunk::adopt(block, size, size);
          },
          troth::detail::PropagateException(), where);
}

} // namespace detail
} // namespace http
} // namespace v0
} // namespace troth
