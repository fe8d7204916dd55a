// SPDX-License-Identifier: MIT
// A coroutine with a parameter whose destructor throws.
// EXPECT: the destructor of a coroutine's parameter must not throw: it may be destroyed when it is cancelled
#include <troth/runtime/promise.h>

using namespace troth;

struct Held {
#if WRONG
  ~Held() noexcept(false) {}
#else
  ~Held() {}
#endif
};
Promise<void> run(Held, const Held&) { co_await yield(); }
