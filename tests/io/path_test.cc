// SPDX-License-Identifier: MIT
// Tests of Path: what is one, what is refused and why, and that no text leads out of the directory.
#include "fixtures.h"

#include <troth/io/path.h>
#include <troth/runtime/quote_detail.h>

#include <algorithm>
#include <random>
#include <string>
#include <vector>

using namespace troth;
using namespace troth::test;
using namespace std::literals;

TEST_CASE("a path is its components, without the empty ones and \".\"") {
  const struct {
    std::string_view text;
    std::string_view path;
  } rows[] = {
      {"a", "a"},       {"a/b/c", "a/b/c"}, {"a//b", "a/b"},    {"a/", "a"},
      {"./a", "a"},     {"a/./b/.", "a/b"}, {".", "."},         {"./", "."},
      {".//./.", "."},  {"...", "..."},     {"..a/b..", "..a/b.."}, {"%2e%2e/x", "%2e%2e/x"},
      {"a\\..\\b", "a\\..\\b"}, {"\xff\n", "\xff\n"}, {" ", " "},
  };
  for (const auto& row : rows) {
    CAPTURE(row.text);
    CHECK(Path::parse(row.text).toString() == row.path);
  }
}

TEST_CASE("a text that could leave the directory, or is no path, is refused, quoted, with what is wrong with it") {
  const std::string longest(Path::MAX_COMPONENT, 'x');
  std::string full;
  while (full.size() <= Path::MAX_SIZE) full += "y/";
  const struct {
    std::string text;
    std::string_view reason;
  } rows[] = {
      {"", "is empty"},
      {"/", "is absolute"},
      {"/etc/passwd", "is absolute"},
      {"//a", "is absolute"},
      {"..", "could leave the directory"},
      {"../a", "could leave the directory"},
      {"a/..", "could leave the directory"},
      {"a/../b", "could leave the directory"},
      {"./..//", "could leave the directory"},
      {"a\0b"s, "has a NUL byte"},
      {"\0"s, "has a NUL byte"},
      {longest + "x", "a component has more than 255 bytes"},
      {"a/" + longest + "x/b", "a component has more than 255 bytes"},
      {full + "y", "has more than 4095 bytes"},
  };
  for (const auto& row : rows) {
    CAPTURE(row.text);
    const Exception e = thrownBy([&] { Path::parse(row.text); });
    CHECK((e.kind() == Exception::Kind::FAILED));
    CHECK(contains(e.description(), row.reason));
    CHECK(contains(e.description(), detail::quote(row.text)));
    CHECK(contains(e.where().file_name(), "path_test.cc"));
  }
  CHECK(Path::parse("a/" + longest + "/b").toString().size() == 259);
  CHECK(Path::parse(full).toString().size() == Path::MAX_SIZE);
  CHECK(Path::parse("a" + std::string(5000, '/') + "b").toString() == "a/b"); // what is dropped does not count
}

TEST_CASE("whatever the text, a path that is accepted stays in its directory") {
  std::mt19937 random(4711);
  const std::string_view pieces[] = {"..", ".", "/", "a", "\\", "\0"sv, "...", " "};
  std::size_t accepted = 0;
  for (int i = 0; i < 20'000; ++i) {
    std::string text;
    for (std::size_t n = random() % 6; n > 0; --n) text += pieces[random() % std::size(pieces)];
    try {
      const std::string path = Path::parse(text).toString();
      ++accepted;
      CAPTURE(text);
      REQUIRE(path.front() != '/');
      REQUIRE(path.find('\0') == std::string::npos);
      REQUIRE(!contains("/" + path + "/", "/../"));
      REQUIRE(Path::parse(path).toString() == path);
    } catch (const Exception& e) {
      REQUIRE((e.kind() == Exception::Kind::FAILED));
    }
  }
  CHECK(accepted > 1000);
}

TEST_CASE("a path knows its parent and its last component") {
  const Path path = Path::parse("a/bc/d");
  CHECK(path.parent().toString() == "a/bc");
  CHECK(path.basename() == "d");
  CHECK(path.parent().basename() == "bc");
  CHECK(path.parent().parent().toString() == "a");
  CHECK(path.parent().parent().parent().isSelf());
  CHECK(!path.isSelf());
}

TEST_CASE("the directory itself has neither parent nor last component") {
  for (const auto& call : std::vector<std::function<void()>>{[] { (void)Path().parent(); }, [] { (void)Path().basename(); }}) {
    const Exception e = thrownBy(call);
    CHECK((e.kind() == Exception::Kind::FAILED));
    CHECK(contains(e.where().file_name(), "path_test.cc"));
  }
  CHECK(Path().isSelf());
  CHECK(Path() == Path::parse("."));
}

TEST_CASE("paths are put together, and what that gives is checked") {
  const Path a = Path::parse("a");
  CHECK((a / Path::parse("b/c")).toString() == "a/b/c");
  CHECK((a / "b").toString() == "a/b");
  CHECK((a / ".").toString() == "a");
  CHECK((Path() / a).toString() == "a");
  CHECK((Path() / Path()).isSelf());
  CHECK(contains(thrownBy([&] { (void)(a / ".."); }).description(), "could leave"));
  CHECK(contains(thrownBy([&] { (void)(a / "/b"); }).description(), "absolute"));
  std::string half;
  while (half.size() < Path::MAX_SIZE / 2) half += "y/";
  const Path long_path = Path::parse(half + "z");
  CHECK(contains(thrownBy([&] { (void)(long_path / long_path); }).description(), "more than 4095 bytes"));
}

TEST_CASE("paths are compared as texts") {
  std::vector<Path> paths{Path::parse("b"), Path::parse("a/b"), Path(), Path::parse("a")};
  std::sort(paths.begin(), paths.end());
  CHECK(paths[0].isSelf());
  CHECK(paths[1].toString() == "a");
  CHECK(paths[2].toString() == "a/b");
  CHECK(paths[3].toString() == "b");
  CHECK(Path::parse("a//b") == Path::parse("a/b/"));
}
