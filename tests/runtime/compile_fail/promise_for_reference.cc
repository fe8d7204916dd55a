// SPDX-License-Identifier: MIT
// A promise for a reference.
// EXPECT: a promise carries a value; use a pointer or std::reference_wrapper
#include <troth/runtime/promise.h>

using namespace troth;

#if WRONG
void take(Promise<int&> promise) { (void)promise; }
#else
void take(Promise<std::reference_wrapper<int>> promise) { (void)promise; }
#endif
