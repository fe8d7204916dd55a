// SPDX-License-Identifier: MIT
// An error handler that gives another type than the continuation.
// EXPECT: the error handler must return what the continuation returns (or nothing, if it always throws)
#include <troth/runtime/promise.h>

using namespace troth;

void handle(Promise<int> promise, WaitScope& scope) {
  struct Other {};
#if WRONG
  std::move(promise).then([](int x) { return x; }, [](Exception) { return Other(); }).wait(scope);
#else
  std::move(promise).then([](int x) { return x; }, [](Exception) { return 1; }).wait(scope);
#endif
}
