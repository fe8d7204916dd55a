// SPDX-License-Identifier: MIT
// A fork of what cannot be copied for each branch.
// EXPECT: each branch of a fork gets a copy: fork a promise for a std::shared_ptr, or split() a tuple
#include <troth/runtime/promise.h>

using namespace troth;

#if WRONG
using Part = std::unique_ptr<int>;
#else
using Part = std::shared_ptr<int>;
#endif
void share(Promise<Part> promise) { auto fork = std::move(promise).fork(); }
