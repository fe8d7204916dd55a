// SPDX-License-Identifier: MIT
// A coroutine that would hold a lock while others run.
// EXPECT: a coroutine must not take a lock: other code runs while it is suspended; use an AsyncMutex
#include <troth/runtime/promise.h>

#include <memory>
#include <mutex>
#include <shared_mutex>

using namespace troth;

#if WRONG
Promise<void> body(std::shared_lock<std::shared_mutex>) { co_await yield(); }
#else
Promise<void> body(std::unique_ptr<std::shared_mutex>) { co_await yield(); }
#endif
