// SPDX-License-Identifier: MIT
// What the benchmarks' programs share: numbers on the command line, and which compiler made them.
#pragma once

#include <charconv>
#include <cstdint>
#include <cstdio>
#include <optional>
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

/// The port that a server is told to listen on: `[--port N] | --version`, where `printVersion` says whose it is, upon
/// which there is nothing to serve. Calls `usage`, which does not return, for anything else.
inline std::optional<std::uint16_t> parsePort(int argc, char** argv, void (*usage)(), void (*printVersion)()) {
  std::uint16_t port = 0;
  for (int i = 1; i < argc; ++i) {
    const std::string_view name = argv[i];
    if (name == "--version") {
      printVersion();
      return std::nullopt;
    }
    if (name != "--port" || i + 1 == argc) usage();
    port = parseNumber<std::uint16_t>(argv[++i], usage);
  }
  return port;
}

/// The compiler that this build was made with; the benchmark states it.
inline void printCompiler() {
#ifdef __clang__
  std::printf("clang++ %d.%d.%d\n", __clang_major__, __clang_minor__, __clang_patchlevel__);
#else
  std::printf("g++ %d.%d.%d\n", __GNUC__, __GNUC_MINOR__, __GNUC_PATCHLEVEL__);
#endif
}
