// SPDX-License-Identifier: MIT
// A catch_ that gives another type than its promise.
// EXPECT: the error handler must return what the continuation returns (or nothing, if it always throws)
#include <troth/runtime/promise.h>

using namespace troth;

void handle(Promise<int> promise, WaitScope& scope) {
#if WRONG
  std::move(promise).catch_([](Exception) { return "no number"; }).wait(scope);
#else
  std::move(promise).catch_([](Exception) -> Promise<int> { return 1; }).wait(scope);
#endif
}
