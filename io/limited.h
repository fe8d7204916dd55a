// SPDX-License-Identifier: MIT
// A part of a stream as a stream, and a stream without bytes.
#pragma once

#include <troth/io/stream.h>

#include <cstdint>
#include <memory>
#include <source_location>

namespace troth {
inline namespace v0 {

/// The next `length` bytes of `inner` as a stream of their own, such as a body with a Content-Length.
///
/// It ends after these bytes, and does not touch `inner` from then on. Should `inner` end before, a read that meets
/// that end fails with DISCONNECTED ("the stream ended after 3 of 10 bytes"), so that a part is not taken for the
/// whole. tryGetLength() is what is left. A read that is cancelled, or dropped before its result was taken, counts for
/// nothing. After a pump that failed or was cancelled nobody knows how much is left: reading throws FAILED.
///
/// `inner` is destroyed when these bytes have been taken: whoever writes more to it is told. Throws FAILED if it is
/// null.
std::unique_ptr<AsyncInputStream> newLimitedInputStream(std::unique_ptr<AsyncInputStream> inner, std::uint64_t length,
                                                        std::source_location where = std::source_location::current());

/// The same for a stream that somebody else owns. `inner` outlives the new stream; destroying that rejects what is
/// pending and leaves `inner` where it is, so that its owner can read on: as soon as the promise that was rejected has
/// gone, or the loop has turned.
std::unique_ptr<AsyncInputStream> newLimitedInputStream(AsyncInputStream& inner, std::uint64_t length);

/// A stream with nothing in it: reads are at the end at once, and what is written is thrown away. What is pumped to it
/// is read to the end.
std::unique_ptr<AsyncIoStream> newNullStream();

} // namespace v0
} // namespace troth
