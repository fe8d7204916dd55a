// SPDX-License-Identifier: MIT
// Promises: chains, errors, order, size.
#include "fixtures.h"

using namespace troth;
using namespace troth::test;

TEST_CASE_FIXTURE(LoopTest, "a continuation gets the value") {
  CHECK(Promise<int>(20).then([](int x) { return x + 1; }).wait(scope) == 21);
}

TEST_CASE("cancelling a chain at every step leaves nothing (R5)") {
  const std::size_t steps = cancelSweep([](LoopTest&) -> Promise<void> {
    return evalLater([] { return evalLater([] { return 1; }); }).ignoreResult();
  });
  CHECK(steps >= 2);
}
