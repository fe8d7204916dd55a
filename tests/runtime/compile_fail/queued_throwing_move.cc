// SPDX-License-Identifier: MIT
// A queue of items whose move may throw half-way.
// EXPECT: moving or destroying an item must not throw: put it into a std::unique_ptr
#include <troth/runtime/queue.h>

using namespace troth;

struct Item {
  Item() = default;
#if WRONG
  Item(Item&&) {}
#else
  Item(Item&&) noexcept {}
#endif
};

void fill(ProducerConsumerQueue<Item>& queue) { queue.push(Item()); }
