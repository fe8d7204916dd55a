// SPDX-License-Identifier: MIT
// What instructions.py runs under callgrind: each of the named operations, between two marks.
#include "counting.h"
#include "operations.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string_view>

// What lies between calls of these two is what callgrind counts (--zero-before, --dump-before).
extern "C" {
[[gnu::noinline]] void countingBegins() { asm volatile("" ::: "memory"); }
[[gnu::noinline]] void countingEnds() { asm volatile("" ::: "memory"); }
}

namespace {

using troth::budget::Operation;
using troth::budget::World;

void nothing(World&) {}

// 1000 instructions and the return, to check the counting by.
void thousandInstructions(World&) {
#ifdef __x86_64__
  asm volatile("mov $499, %%ecx\n1: dec %%ecx\n jnz 1b\n nop" : : : "ecx", "cc");
#endif
}

constexpr Operation MARKS[] = {{"nothing", 0, nothing}, {"thousand_instructions", 0, thousandInstructions}};

const Operation* find(std::string_view name) {
  for (const Operation& mark : MARKS)
    if (mark.name == name) return &mark;
  const auto all = troth::budget::operations();
  const auto found = std::ranges::find(all, name, &Operation::name);
  return found == all.end() ? nullptr : &*found;
}

[[gnu::noinline]] void repeat(const Operation& operation, World& world, int times) {
  for (int i = 0; i < times; ++i) operation.run(world);
}

} // namespace

// count_operations TIMES NAME…
int main(int argc, char** argv) {
  const int times = argc > 1 ? std::atoi(argv[1]) : 0;
  if (times <= 0) {
    std::fputs("usage: count_operations TIMES NAME...\n", stderr);
    return 2;
  }
  for (int i = 2; i < argc; ++i) {
    const Operation* operation = find(argv[i]);
    if (operation == nullptr) {
      std::fprintf(stderr, "there is no operation named `%s`\n", argv[i]);
      return 2;
    }
    World world;
    repeat(*operation, world, troth::budget::WARM_UP);
    countingBegins();
    repeat(*operation, world, times);
    countingEnds();
  }
  return 0;
}
