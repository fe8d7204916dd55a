// SPDX-License-Identifier: MIT
// whenClosed: for a guest in a libuv loop, to know when it has left.
#pragma once

#include <uv.h>

#include <functional>

/// Calls `then` from `loop` when every handle has gone that is being closed now. `loop` stays alive until then.
///
/// A handle's memory is libuv's until its close callback has run, in a later iteration of the loop. A host that must
/// not end its loop before (node, of a worker) or that unloads the guest's code (dlclose) wants to be told.
void whenClosed(uv_loop_t* loop, std::function<void()> then);
