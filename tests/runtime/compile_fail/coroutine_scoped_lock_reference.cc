// SPDX-License-Identifier: MIT
// A coroutine that would hold a lock while others run.
// EXPECT: a coroutine must not take a lock: other code runs while it is suspended; use an AsyncMutex
#include <troth/runtime/promise.h>

#include <memory>
#include <mutex>

using namespace troth;

#if WRONG
Promise<void> body(std::scoped_lock<std::mutex, std::mutex>&) { co_await yield(); }
#else
Promise<void> body(std::mutex&) { co_await yield(); }
#endif
