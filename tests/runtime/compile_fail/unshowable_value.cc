// SPDX-License-Identifier: MIT
// A check that is to show a value of a type that has no text.
// EXPECT: troth cannot show a value of this type: give the type a toString(), or pass a part of it or a text
#include <troth/runtime/require.h>

using namespace troth;

struct Point {
  int x = 0;
};

void check(const Point& point) {
#if WRONG
  TROTH_REQUIRE(point.x == 0, point);
#else
  TROTH_REQUIRE(point.x == 0, point.x);
#endif
}
