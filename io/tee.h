// SPDX-License-Identifier: MIT
// newTee: several readers of one stream, each of which gets all of its bytes.
#pragma once

#include <troth/io/stream.h>

#include <cstddef>
#include <memory>

namespace troth {
inline namespace v0 {

/// The two readers that newTee() gives.
struct Tee {
  std::unique_ptr<AsyncInputStream> branches[2];
};

/// Splits a stream: each branch reads all of its bytes, at its own pace, and sees its end or its error after them. A
/// tee of a branch, with the same `limit`, adds a branch to the same tee.
///
/// Bytes that one branch has read and another has not are held, at most `limit` (1 or more) of them: then the faster
/// branch waits until the slowest has read on. So all branches must be read at the same time, unless the stream is
/// known to be shorter than `limit`; a branch that is of no use any more is destroyed, and nobody waits for it. (The
/// memory comes in chunks as they were read, and is given back chunk by chunk: it is more than `limit`, many times if
/// the bytes come one by one.)
///
/// Nothing is read from `input` unless a branch wants it. If the stream has a better way (tryTee), it is taken. Throws
/// FAILED if `limit` is 0 or `input` is null.
Tee newTee(std::unique_ptr<AsyncInputStream> input, std::size_t limit,
           std::source_location where = std::source_location::current());

} // namespace v0
} // namespace troth
