// SPDX-License-Identifier: MIT
// The operations whose cost is pinned: what allocation_test.cc and instructions.py count.
#pragma once

#include "../../bench/operations.h"

#include <span>
#include <string_view>

namespace troth::budget {

using bench::expect;
using bench::keep;
using bench::World;

struct Operation {
  std::string_view name;
  int allocations; // from the heap, in the steady state
  void (*run)(World& world);
};

/// All operations. Those that tools/bench compares with peers have the names that they have there.
std::span<const Operation> operations() noexcept;

} // namespace troth::budget
