// SPDX-License-Identifier: MIT
// A coroutine that gives a value whose destructor throws.
// EXPECT: the destructor of what a promise gives must not throw
#include <troth/runtime/promise.h>

using namespace troth;

struct Held {
  Held() = default;
  Held(Held&&) noexcept {}
#if WRONG
  ~Held() noexcept(false) {}
#else
  ~Held() {}
#endif
};
Promise<Held> make() { co_return Held(); }
