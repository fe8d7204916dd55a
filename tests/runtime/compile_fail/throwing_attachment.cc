// SPDX-License-Identifier: MIT
// An attachment whose destructor throws.
// EXPECT: the destructor of what is attached must not throw
#include <troth/runtime/promise.h>

using namespace troth;

struct Held {
  Held() = default;
  Held(Held&&) {}
#if WRONG
  ~Held() noexcept(false) {}
#else
  ~Held() {}
#endif
};
void hold(Promise<int> promise, WaitScope& scope) { std::move(promise).attach(Held()).wait(scope); }
