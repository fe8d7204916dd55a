// SPDX-License-Identifier: MIT
// UpgradedStream: a connection that has left HTTP, with the bytes that were read and written before.
#pragma once

#include <troth/io/stream.h>
#include <troth/runtime/promise.h>

#include <memory>
#include <string_view>

namespace troth {
inline namespace v0 {
namespace http {
namespace detail {

/// `connection`, of which `rest` has been read already and is read first, and to which `head` (a copy is made) goes
/// before anything else: at once, whoever does what with the stream, or when `earlier` is done, which is a write to the
/// connection that is under way. Should that fail, nothing is written.
std::unique_ptr<AsyncIoStream> newUpgradedStream(std::unique_ptr<AsyncIoStream> connection, Chunk rest,
                                                 std::string_view head, std::source_location where,
                                                 Promise<void> earlier = READY_NOW);

} // namespace detail
} // namespace http
} // namespace v0
} // namespace troth
