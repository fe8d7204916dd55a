// SPDX-License-Identifier: MIT
// A split of what has no parts.
// EXPECT: split() is for a promise for a std::tuple or std::pair
#include <troth/runtime/promise.h>

using namespace troth;

#if WRONG
using Parts = int;
#else
using Parts = std::tuple<int, int>;
#endif
void take(Promise<Parts> promise) { auto parts = std::move(promise).split(); }
