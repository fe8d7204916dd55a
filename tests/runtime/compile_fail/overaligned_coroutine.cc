// SPDX-License-Identifier: MIT
// A coroutine that gives an over-aligned value.
// EXPECT: an over-aligned value cannot be held by a promise
#include <troth/runtime/promise.h>

using namespace troth;

#if WRONG
struct alignas(64) Block {
#else
struct Block {
#endif
  int value = 0;
};
Promise<Block> make() { co_return Block(); }
