// SPDX-License-Identifier: MIT
// A co_await of a promise that has a name, and would be consumed without a word.
// EXPECT: co_await std::move(promise)
#include <troth/runtime/promise.h>

using namespace troth;

Promise<int> body(Promise<int> other) {
#if WRONG
  co_return co_await other;
#else
  co_return co_await std::move(other);
#endif
}
