// SPDX-License-Identifier: MIT
// A member function that is a coroutine and could block its own loop.
// EXPECT: a coroutine must not take a WaitScope: it cannot block; co_await instead
#include <troth/runtime/promise.h>

using namespace troth;

struct Server {
#if WRONG
  Promise<void> serve(const WaitScope&) const { co_await yield(); }
#else
  Promise<void> serve() const { co_await yield(); }
#endif
};
