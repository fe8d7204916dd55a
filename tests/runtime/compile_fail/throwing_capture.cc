// SPDX-License-Identifier: MIT
// A continuation with a capture whose destructor throws.
// EXPECT: the destructors of a continuation's captures and of its result must not throw
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
void hold(Promise<int> promise, WaitScope& scope) {
  std::move(promise).then([held = Held()](int x) { return x; }).wait(scope);
}
