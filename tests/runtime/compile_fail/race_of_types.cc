// SPDX-License-Identifier: MIT
// A race between promises of different types.
// EXPECT: raceSuccessful
#include <troth/runtime/join.h>

using namespace troth;

void run(Promise<int> a, Promise<long> b, Promise<int> c, WaitScope& scope) {
  (void)b;
#if WRONG
  (void)c;
  raceSuccessful(std::move(a), std::move(b)).wait(scope);
#else
  raceSuccessful(std::move(a), std::move(c)).wait(scope);
#endif
}
