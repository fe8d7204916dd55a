// SPDX-License-Identifier: MIT
// A value too large for an arena.
// EXPECT: a value or continuation of 64 KiB belongs behind a pointer
#include <troth/runtime/promise.h>

using namespace troth;

struct Large {
#if WRONG
  char bytes[70'000] = {};
#else
  char bytes[60'000] = {};
#endif
};
Promise<Large> make() { return Large(); }
