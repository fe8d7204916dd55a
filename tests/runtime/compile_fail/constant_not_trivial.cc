// SPDX-License-Identifier: MIT
// A constant that a reader could change.
// EXPECT: who takes the value must leave it as it was
#include <troth/runtime/promise.h>

using namespace troth;

struct Constant {
  int value;
  constexpr explicit Constant(int v) : value(v) {}
#if WRONG
  constexpr Constant(const Constant& other) : value(other.value) {}
#else
  constexpr Constant(const Constant& other) = default;
#endif
};
Promise<Constant> make() { return constPromise<Constant, Constant(1)>(); }
