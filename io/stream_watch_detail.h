// SPDX-License-Identifier: MIT
// StreamWatch: knows whether a stream that an operation goes on with is still there.
#pragma once

#include <troth/io/stream.h>

#include <source_location>

namespace troth {
inline namespace v0 {
namespace detail {

/// Watches a stream as long as it lives itself. For operations that use a stream again after having waited.
class StreamWatch {
public:
  explicit StreamWatch(AsyncInputStream& stream) noexcept : StreamWatch(static_cast<WatchedStream&>(stream)) {}
  explicit StreamWatch(AsyncOutputStream& stream) noexcept : StreamWatch(static_cast<WatchedStream&>(stream)) {}
  StreamWatch(const StreamWatch&) = delete;
  StreamWatch& operator=(const StreamWatch&) = delete;
  ~StreamWatch();

  bool isThere() const noexcept { return stream_ != nullptr; }
  /// Throws DISCONNECTED if the stream has been destroyed.
  void require(std::source_location where) const;

  /// Whoever watches `stream` finds it gone, as if it had been destroyed. For one that is used again for something
  /// else.
  static void end(AsyncInputStream& stream) noexcept { end(static_cast<WatchedStream&>(stream)); }
  static void end(AsyncOutputStream& stream) noexcept { end(static_cast<WatchedStream&>(stream)); }

private:
  friend class WatchedStream;

  WatchedStream* stream_; // null once it has gone
  StreamWatch* next_;     // of those that watch the same stream

  explicit StreamWatch(WatchedStream& stream) noexcept;
  static void end(WatchedStream& stream) noexcept {
    if (stream.watches_ == nullptr) [[likely]]
      return;
    stream.tellWatches();
    stream.watches_ = nullptr;
  }
};

} // namespace detail
} // namespace v0
} // namespace troth
