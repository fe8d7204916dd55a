// SPDX-License-Identifier: MIT
// A chain that nobody takes.
// EXPECT: destroying a promise cancels its work: await it, or hand it to a TaskSet
#include <troth/runtime/promise.h>

using namespace troth;

Promise<int> work();
void start(WaitScope& scope) {
#if WRONG
  (void)scope;
  work().then([](int) {});
#else
  work().then([](int) {}).wait(scope);
#endif
}
