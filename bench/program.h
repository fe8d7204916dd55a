// SPDX-License-Identifier: MIT
// What the programs that make load share: numbers on the command line, and which compiler made them.
#pragma once

#include <charconv>
#include <cstdio>
#include <string_view>
#include <system_error>

/// The number that `text` is, which is not negative. Calls `usage`, which does not return, if it is none.
template <typename T>
T parseNumber(std::string_view text, void (*usage)()) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || value < T{}) usage();
  return value;
}

/// The compiler that this build was made with; the benchmark states it.
inline void printCompiler() {
#ifdef __clang__
  std::printf("clang++ %d.%d.%d\n", __clang_major__, __clang_minor__, __clang_patchlevel__);
#else
  std::printf("g++ %d.%d.%d\n", __GNUC__, __GNUC_MINOR__, __GNUC_PATCHLEVEL__);
#endif
}
