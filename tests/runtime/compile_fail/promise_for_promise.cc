// SPDX-License-Identifier: MIT
// A promise for a promise.
// EXPECT: a promise for a promise is just a promise
#include <troth/runtime/promise.h>

using namespace troth;

#if WRONG
void take(Promise<Promise<int>> promise) { (void)promise; }
#else
void take(Promise<int> promise) { (void)promise; }
#endif
