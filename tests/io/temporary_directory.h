// SPDX-License-Identifier: MIT
// A directory on the disk for one test, with plain access to what is in it.
#pragma once

#include <doctest/doctest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>

namespace troth::test {

/// A new directory; what is outside(), beside it, is the secret that nobody may reach through it. All of it is removed
/// in the end.
class TemporaryDirectory {
public:
  TemporaryDirectory() {
    std::string name = (std::filesystem::temp_directory_path() / "troth-test-XXXXXX").string();
    REQUIRE(::mkdtemp(name.data()) != nullptr);
    top_ = name;
    std::filesystem::create_directory(top_ / "inside");
    std::ofstream(top_ / "secret") << "secret";
  }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
  ~TemporaryDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(top_, ignored);
  }

  std::string inside(std::string_view path = {}) const { return (top_ / "inside" / path).string(); }

  void write(std::string_view path, std::string_view contents) const {
    std::ofstream(inside(path), std::ios::binary) << contents;
  }
  std::string read(std::string_view path) const {
    std::ifstream file(inside(path), std::ios::binary);
    REQUIRE(file.is_open());
    return std::string(std::istreambuf_iterator<char>(file), {});
  }
  std::string secret() const {
    std::ifstream file(top_ / "secret");
    return std::string(std::istreambuf_iterator<char>(file), {});
  }
  bool has(std::string_view path) const {
    return std::filesystem::exists(std::filesystem::symlink_status(inside(path)));
  }
  void makeDirectory(std::string_view path) const { std::filesystem::create_directories(inside(path)); }
  void link(std::string_view target, std::string_view path) const {
    std::filesystem::create_symlink(target, inside(path));
  }
  /// The number of entries of the top directory.
  std::size_t count() const {
    return static_cast<std::size_t>(
        std::distance(std::filesystem::directory_iterator(inside()), std::filesystem::directory_iterator()));
  }

private:
  std::filesystem::path top_;
};

} // namespace troth::test
