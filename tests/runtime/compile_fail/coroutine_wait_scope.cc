// SPDX-License-Identifier: MIT
// A coroutine that could block its own loop.
// EXPECT: a coroutine must not take a WaitScope: it cannot block; co_await instead
#include <troth/runtime/promise.h>

using namespace troth;

#if WRONG
Promise<void> body(WaitScope&) { co_await yield(); }
#else
Promise<void> body(int) { co_await yield(); }
#endif
