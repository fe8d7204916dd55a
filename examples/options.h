// SPDX-License-Identifier: MIT
// For the examples: command line options (`--name VALUE`, each with a default), and the end of a failed program.
#pragma once

#include <troth/runtime/exception.h>

#include <charconv>
#include <cstdint>
#include <cstdio>
#include <map>
#include <stdexcept>
#include <string>
#include <string_view>

/// The options of a program. Throws std::invalid_argument, saying what is wrong, for anything unknown.
class Options {
public:
  Options(int argc, char** argv, std::map<std::string, std::string, std::less<>> defaults)
      : values_(std::move(defaults)) {
    for (int i = 1; i < argc; i += 2) {
      const std::string_view name = argv[i];
      const auto option = name.starts_with("--") ? values_.find(name.substr(2)) : values_.end();
      if (option == values_.end())
        throw std::invalid_argument("unknown option '" + std::string(name) + "'; there are:" + list());
      if (i + 1 == argc) throw std::invalid_argument("option '" + std::string(name) + "' needs a value");
      option->second = argv[i + 1];
    }
  }

  const std::string& text(std::string_view name) const { return values_.find(name)->second; }

  /// A whole number from 0 to `max`.
  unsigned number(std::string_view name, unsigned max) const {
    const std::string& value = text(name);
    unsigned parsed = 0;
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), parsed);
    if (error != std::errc() || end != value.data() + value.size() || parsed > max)
      throw std::invalid_argument("option '--" + std::string(name) + "' is '" + value +
                                  "', but must be a number from 0 to " + std::to_string(max));
    return parsed;
  }

  std::uint16_t port(std::string_view name) const { return static_cast<std::uint16_t>(number(name, 65535)); }

private:
  std::map<std::string, std::string, std::less<>> values_;

  std::string list() const {
    std::string all;
    for (const auto& [name, value] : values_) all += " --" + name;
    return all;
  }
};

/// In a `catch` block: says what went wrong and returns the exit status.
inline int failed(const char* program) {
  const troth::Exception e = troth::Exception::fromCurrent();
  std::fprintf(stderr, "%s: %.*s\n", program, static_cast<int>(e.description().size()), e.description().data());
  return 1;
}
