// SPDX-License-Identifier: MIT
// Tests of the counting itself: an allocation that sneaks in is seen, wherever it comes from.
#include "counting.h"
#include "operations.h"

#include <doctest/doctest.h>

#include <cstdlib>
#include <memory>
#include <utility>

namespace troth::budget {
namespace {

TEST_CASE("nothing is counted where nothing is allocated") {
  int kept = 0;
  CHECK(allocationsOf([&] { keep(kept); }) == 0);
}

TEST_CASE("an allocation is counted that sneaks into a continuation") {
  World world;
  const double allocations = allocationsOf([&] {
    Promise<int>(1)
        .then([](int value) {
          auto sneaked = std::make_unique<int>(value);
          keep(sneaked);
        })
        .wait(world.scope);
  });
  CHECK(allocations == 1);
}

TEST_CASE("an allocation is counted that one operation in four makes") {
  int number = 0;
  const double allocations = allocationsOf([&] {
    if (++number % 4 != 0) return;
    auto rare = std::make_unique<int>(number);
    keep(rare);
  });
  CHECK(allocations == 0.25);
}

TEST_CASE("a promise that is too large for the pool counts as an allocation") {
  World world;
  struct Large {
    char bytes[8192] = {};
  };
  CHECK(allocationsOf([&] {
          Large value = Promise<Large>(Large()).wait(world.scope);
          keep(value);
        }) == 1);
}

#ifdef __GLIBC__
TEST_CASE("memory that C code and thrown exceptions take is counted") {
  CHECK(allocationsOf([] {
          void* block = std::malloc(10);
          keep(block);
          block = std::realloc(block, 20);
          keep(block);
          std::free(block);
        }) == 2);
  CHECK(allocationsOf([] {
          try {
            throw 1;
          } catch (int thrown) {
            keep(thrown);
          }
        }) == 1);
}
#endif

TEST_CASE("bytes are counted as they were asked for") {
  const HeapUse use = heapUseOf([] {
    auto bytes = std::make_unique<char[]>(1000);
    keep(bytes);
  });
  CHECK(use.allocations == 1);
  CHECK(use.bytes == 1000);
}

} // namespace
} // namespace troth::budget
