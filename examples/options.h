// SPDX-License-Identifier: MIT
// For the examples: the command line (`--name VALUE`, each with a default), and the end of a failed program.
#pragma once

#include <troth/runtime/exception.h>

#include <charconv>
#include <cstdint>
#include <cstdio>
#include <map>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

/// The command line of a program: what must be there, in order, and options. Throws std::invalid_argument, saying what
/// is wrong, for anything unknown.
class Options {
public:
  using Defaults = std::map<std::string, std::string, std::less<>>;

  /// `required` are the arguments without a name, `lists` the options that may be given several times.
  Options(int argc, char** argv, Defaults defaults, const std::vector<std::string>& required = {},
          const std::vector<std::string>& lists = {})
      : values_(std::move(defaults)) {
    for (const std::string& name : lists) lists_[name];
    auto next = required.begin();
    for (int i = 1; i < argc; ++i) {
      const std::string_view argument = argv[i];
      if (!argument.starts_with("--") && next != required.end())
        arguments_[*next++] = argument;
      else
        set(argument, ++i < argc ? argv[i] : nullptr);
    }
    if (next != required.end()) throw std::invalid_argument("say what " + *next + " is; options are:" + names());
  }

  const std::string& text(std::string_view name) const { return values_.find(name)->second; }

  /// One of the required ones.
  const std::string& argument(std::string_view name) const { return arguments_.find(name)->second; }

  /// All that was given for one of the lists.
  const std::vector<std::string>& list(std::string_view name) const { return lists_.find(name)->second; }

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
  Defaults values_, arguments_;
  std::map<std::string, std::vector<std::string>, std::less<>> lists_;

  /// `value` is null behind the last argument.
  void set(std::string_view argument, const char* value) {
    const std::string_view name = argument.starts_with("--") ? argument.substr(2) : std::string_view();
    const auto option = values_.find(name);
    const auto several = lists_.find(name);
    if (option == values_.end() && several == lists_.end())
      throw std::invalid_argument("unknown option '" + std::string(argument) + "'; there are:" + names());
    if (value == nullptr) throw std::invalid_argument("option '" + std::string(argument) + "' needs a value");
    if (option != values_.end())
      option->second = value;
    else
      several->second.emplace_back(value);
  }

  std::string names() const {
    std::string all;
    for (const auto& [name, value] : values_) all += " --" + name;
    for (const auto& [name, values] : lists_) all += " --" + name;
    return all;
  }
};

/// In a `catch` block: says what went wrong and returns the exit status.
inline int failed(const char* program) {
  const troth::Exception e = troth::Exception::fromCurrent();
  std::fprintf(stderr, "%s: %.*s\n", program, static_cast<int>(e.description().size()), e.description().data());
  return 1;
}
