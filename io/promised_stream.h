// SPDX-License-Identifier: MIT
// Streams that can be used before they are there.
#pragma once

#include <troth/io/stream.h>
#include <troth/runtime/promise.h>

#include <memory>
#include <source_location>

namespace troth {
inline namespace v0 {

/// A stream that stands for one that a promise will give, such as a connection that is being made. It owns the promise,
/// and then the stream.
///
/// Until the promise is ready, operations wait for it, and go on in the order in which they were begun; the contracts
/// are those of the stream's interface. shutdownWrite() and abortRead() are done as soon as there is a stream (should
/// that fail, so does everything that waits); a read that waits is rejected by abortRead() at once. tryGetLength(),
/// descriptor() and tryTee() know nothing yet. From then on every call is passed on to the stream directly.
///
/// If the promise fails, every operation fails with its exception, and whenWriteDisconnected() is done.
///
/// Destroying the promised stream cancels the promise or destroys the stream. What is pending is rejected with
/// DISCONNECTED; whenWriteDisconnected() is done, if there was no stream yet.
std::unique_ptr<AsyncInputStream> newPromisedStream(Promise<std::unique_ptr<AsyncInputStream>> promise,
                                                    std::source_location where = std::source_location::current());
std::unique_ptr<AsyncOutputStream> newPromisedStream(Promise<std::unique_ptr<AsyncOutputStream>> promise,
                                                     std::source_location where = std::source_location::current());
std::unique_ptr<AsyncIoStream> newPromisedStream(Promise<std::unique_ptr<AsyncIoStream>> promise,
                                                 std::source_location where = std::source_location::current());

} // namespace v0
} // namespace troth
