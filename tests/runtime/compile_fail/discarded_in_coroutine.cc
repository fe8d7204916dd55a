// SPDX-License-Identifier: MIT
// A promise in a coroutine that is not awaited.
// EXPECT: destroying a promise cancels its work: await it, or hand it to a TaskSet
#include <troth/runtime/promise.h>

using namespace troth;

Promise<int> work();
Promise<void> body() {
#if WRONG
  work();
#else
  co_await work();
#endif
  co_return;
}
