// SPDX-License-Identifier: MIT
// A continuation with an over-aligned result.
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
Promise<Block> make(Promise<int> promise) {
  return std::move(promise).then([](int) { return Block(); });
}
