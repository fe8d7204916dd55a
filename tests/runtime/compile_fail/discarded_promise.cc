// SPDX-License-Identifier: MIT
// A promise that a call gives and nobody takes.
// EXPECT: destroying a promise cancels its work: await it, or hand it to a TaskSet
#include <troth/runtime/promise.h>

using namespace troth;

Promise<int> work();
void start() {
#if WRONG
  work();
#else
  Promise<int> kept = work();
#endif
}
