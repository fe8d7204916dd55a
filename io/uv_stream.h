// SPDX-License-Identifier: MIT
// An AsyncIoStream on any libuv stream handle: TCP, a pipe, a terminal.
#pragma once

#include <troth/io/stream.h>
#include <troth/runtime/uv/uv_handle.h>

#include <memory>

namespace troth {
inline namespace v0 {

/// Makes a stream of `handle`, which is connected and not being read from. The stream owns the handle, uses
/// its `data`, and closes it when it is destroyed. Operations share the ownership of what they work on, so
/// stream and operations may be destroyed in any order.
///
/// Its whenWriteDisconnected() completes when the peer has reset the connection or closed a local one, when both
/// directions have ended, or when a write has failed. A TCP peer that closes says no more than that it has ended its
/// own direction: that is noticed when something is written, and it answers with a reset. Waiting takes a descriptor;
/// if there is none to spare, only a write that fails tells.
std::unique_ptr<AsyncIoStream> newUvStream(UvHandle<uv_stream_t> handle);

} // namespace v0
} // namespace troth
