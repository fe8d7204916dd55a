// SPDX-License-Identifier: MIT
// A Result whose failure nobody would see.
// EXPECT: nodiscard
#include <troth/runtime/promise.h>

using namespace troth;

void run(Promise<int> promise, WaitScope& scope) {
#if WRONG
  std::move(promise).asResult().wait(scope);
#else
  (void)std::move(promise).asResult().wait(scope).has_value();
#endif
}
