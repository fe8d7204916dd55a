// SPDX-License-Identifier: MIT
// A queue of over-aligned items.
// EXPECT: an over-aligned item belongs behind a pointer
#include <troth/runtime/queue.h>

using namespace troth;

#if WRONG
struct alignas(64) Item {
#else
struct Item {
#endif
  int value = 0;
};

void fill(ProducerConsumerQueue<Item>& queue) { queue.push(Item()); }
