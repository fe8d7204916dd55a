// SPDX-License-Identifier: MIT
// Pipes in memory: streams between two parts of one thread, for tests and for plumbing.
#pragma once

#include <troth/io/stream.h>

#include <cstdint>
#include <memory>
#include <optional>

namespace troth {
inline namespace v0 {

/// What is written to `output` is read from `input`.
struct OneWayPipe {
  std::unique_ptr<AsyncInputStream> input;
  std::unique_ptr<AsyncOutputStream> output;
};

/// What is written to one end is read from the other.
struct TwoWayPipe {
  std::unique_ptr<AsyncIoStream> ends[2];
};

/// A pipe without a buffer: a write completes when a read, or a pump, has taken all of it, so the writer is never ahead
/// of the reader, and bytes go straight from the writer's memory to the reader's. A pump from the input, or to the
/// output, passes what it meets on as it is: `write` on one end may write straight to the stream that the other end is
/// pumped to.
///
/// Destroying `output` ends the stream; if a write or a pump was pending there, reading fails with DISCONNECTED
/// instead, for what was cut off must not look complete. Destroying `input` fails what is written with DISCONNECTED.
///
/// A read that is destroyed before its result was taken loses nothing, though the write that it had taken the bytes
/// from is complete: the next read begins with them. Who cancels a write or a pump in the middle leaves the pipe
/// usable; what was on its way is lost, and if a pump to an output was carrying the bytes of a write, that write fails
/// too.
///
/// Both ends belong to one thread, and to each its own direction. Each may be destroyed first. An operation allocates
/// nothing from the heap; what a cancelled read gives back is kept there.
///
/// With `expectedLength` the reader knows what will come (tryGetLength): reading ends after so many bytes, and fails
/// with DISCONNECTED if the stream ends before; writing more fails with DISCONNECTED once these have been read.
OneWayPipe newOneWayPipe(std::optional<std::uint64_t> expectedLength = std::nullopt);

/// Two such pipes, one in each direction.
TwoWayPipe newTwoWayPipe();

} // namespace v0
} // namespace troth
