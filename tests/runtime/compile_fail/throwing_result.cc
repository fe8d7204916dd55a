// SPDX-License-Identifier: MIT
// A continuation with a result whose destructor throws.
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
void make(Promise<int> promise, WaitScope& scope) {
  std::move(promise).then([](int) { return Held(); }).ignoreResult().wait(scope);
}
