// SPDX-License-Identifier: MIT
// A sweep of cancellations through one part of a program, whose state is checked after each.
#pragma once

#include "fixtures.h"

namespace troth::test {

/// Runs `State::cancelled()` for k steps of the loop, destroys that promise, and calls `State::check(scope)`; for each k
/// from 0 until the promise is done. Each run has a loop and a State of its own. Returns the number of steps.
template <typename State>
std::size_t cancelAndCheck() {
  for (std::size_t k = 0;; ++k) {
    REQUIRE(k < 100'000);
    CAPTURE(k);
    LoopTest test;
    State state;
    bool done = false;
    {
      Promise<void> promise = state.cancelled().then([&done] { done = true; }).eagerlyEvaluate(nullptr);
      for (std::size_t i = 0; i < k && !done; ++i) REQUIRE(test.loop.run(1) == 1);
    }
    state.check(test.scope);
    if (done) return k;
  }
}

} // namespace troth::test
