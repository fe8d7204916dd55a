// SPDX-License-Identifier: MIT
// Heap allocations per operation, in the steady state of a program.
#include "counting.h"
#include "operations.h"

#include <doctest/doctest.h>

#include <string>

namespace troth::budget {
namespace {

TEST_CASE("in the steady state each operation allocates what its row says, and most allocate nothing") {
  for (const Operation& operation : operations()) {
    CAPTURE(std::string(operation.name));
    World world;
    CHECK(allocationsOf([&] { operation.run(world); }) == operation.allocations);
  }
}

TEST_CASE("operations that take turns allocate no more than each by itself") {
  World world;
  for (int i = 0; i < WARM_UP; ++i)
    for (const Operation& operation : operations()) operation.run(world);
  for (const Operation& operation : operations()) {
    CAPTURE(std::string(operation.name));
    const HeapUse use = heapUseOf([&] { operation.run(world); });
    CHECK(use.allocations == static_cast<std::uint64_t>(operation.allocations));
  }
}

} // namespace
} // namespace troth::budget
