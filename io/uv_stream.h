// SPDX-License-Identifier: MIT
// An AsyncIoStream on any libuv stream handle: TCP, and later pipes and terminals.
#pragma once

#include <troth/io/stream.h>
#include <troth/runtime/uv/uv_handle.h>

#include <memory>

namespace troth {
inline namespace v0 {

/// Makes a stream of `handle`, which is connected and not being read from. The stream owns the handle, uses
/// its `data`, and closes it when it is destroyed. Operations share the ownership of what they work on, so
/// stream and operations may be destroyed in any order.
std::unique_ptr<AsyncIoStream> newUvStream(UvHandle<uv_stream_t> handle);

} // namespace v0
} // namespace troth
