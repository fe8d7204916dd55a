// SPDX-License-Identifier: MIT
// A loop's local that cannot be made without arguments.
// EXPECT: constraint
#include <troth/runtime/event_loop_local.h>

using namespace troth;

struct Cache {
#if WRONG
  explicit Cache(int size) : size_(size) {}
#else
  explicit Cache(int size = 16) : size_(size) {}
#endif
  int size_;
};
EventLoopLocal<Cache> cache;
