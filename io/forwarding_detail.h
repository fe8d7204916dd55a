// SPDX-License-Identifier: MIT
// ForwardingStream: a stream that hands every operation on, as it is.
#pragma once

#include <troth/io/stream.h>

#include <concepts>
#include <cstddef>
#include <optional>
#include <source_location>
#include <span>
#include <utility>

namespace troth {
inline namespace v0 {
namespace detail {

/// An `Interface` whose operations are those of `*target_`: of another stream, or of what a stream shares with its
/// operations.
template <std::derived_from<AsyncIoStream> Interface, typename Target>
class ForwardingStream : public Interface {
public:
  Promise<std::size_t> tryRead(std::span<std::byte> buffer, std::size_t minBytes, std::source_location where) final {
    return target_->tryRead(buffer, minBytes, where);
  }
  Promise<Chunk> tryReadChunk(std::size_t maxBytes, std::source_location where) final {
    return target_->tryReadChunk(maxBytes, where);
  }
  Promise<void> write(std::span<const std::byte> bytes, std::source_location where) final {
    return target_->write(bytes, where);
  }
  Promise<void> write(std::span<const std::span<const std::byte>> pieces, std::source_location where) final {
    return target_->write(pieces, where);
  }
  Promise<void> whenWriteDisconnected(std::source_location where) final {
    return target_->whenWriteDisconnected(where);
  }
  void shutdownWrite(std::source_location where) final { target_->shutdownWrite(where); }
  void abortWrite(std::source_location where) final { target_->abortWrite(where); }
  void abortRead(std::source_location where) final { target_->abortRead(where); }
  std::optional<std::uint64_t> tryGetUndelivered() const noexcept final { return target_->tryGetUndelivered(); }
  std::optional<int> descriptor() const final { return target_->descriptor(); }

protected:
  explicit ForwardingStream(Target target) noexcept : target_(std::move(target)) {}

  Target target_;
};

} // namespace detail
} // namespace v0
} // namespace troth
