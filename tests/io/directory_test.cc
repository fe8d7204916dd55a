// SPDX-License-Identifier: MIT
// Tests of directories: names in them, what is in them, and that no link leads out of them.
#include "file_fixture.h"

#include <algorithm>
#include <filesystem>
#include <functional>
#include <string>
#include <utility>
#include <vector>

using namespace troth;
using namespace troth::test;

// ----------------------------------------------------------------------------------------------- names

TEST_CASE_FIXTURE(FileTest, "directories and names are made, changed and removed") {
  directory->makeDirectory(path("a")).wait(scope);
  directory->makeDirectory(path("a/b")).wait(scope);
  const DirectoryPtr b = directory->openSubdir(path("a/b")).wait(scope);
  b->openFile(path("file"), FileMode::CREATE).wait(scope)->write(0, "contents").wait(scope);
  directory->rename(path("a/b/file"), path("a/moved")).wait(scope);
  CHECK(disk.read("a/moved") == "contents");
  CHECK(!disk.has("a/b/file"));
  directory->removeDirectory(path("a/b")).wait(scope);
  directory->unlink(path("a/moved")).wait(scope);
  directory->removeDirectory(path("a")).wait(scope);
  CHECK(disk.count() == 0);
}

TEST_CASE_FIXTURE(FileTest, "operations on names fail with what the system says") {
  disk.makeDirectory("full/sub");
  disk.write("file", "");
  CHECK(isError(failureOf(directory->makeDirectory(path("full")), scope), std::errc::file_exists, "make the directory \""));
  CHECK(isError(failureOf(directory->makeDirectory(path("none/sub")), scope), std::errc::no_such_file_or_directory, "none/sub\""));
  CHECK(isError(failureOf(directory->removeDirectory(path("full")), scope), std::errc::directory_not_empty, "remove the directory \""));
  CHECK(isError(failureOf(directory->removeDirectory(path("file")), scope), std::errc::not_a_directory, "file\""));
  CHECK(isError(failureOf(directory->unlink(path("none")), scope), std::errc::no_such_file_or_directory, "unlink \""));
  CHECK(isError(failureOf(directory->rename(path("none"), path("b")), scope), std::errc::no_such_file_or_directory, "rename to \""));
  CHECK(isError(failureOf(directory->rename(path("file"), path("none/b")), scope), std::errc::no_such_file_or_directory, "none/b\" from \""));
  CHECK(isError(failureOf(directory->readLink(path("file")), scope), std::errc::invalid_argument, "read the link \""));
  CHECK(isError(failureOf(directory->openSubdir(path("file")), scope), std::errc::not_a_directory, "open \""));
  CHECK(isError(failureOf(directory->list(path("file")), scope), std::errc::not_a_directory, "list \""));
  CHECK(isError(failureOf(directory->list(path("none")), scope), std::errc::no_such_file_or_directory, "list \""));
  CHECK(isError(failureOf(directory->walk(path("none"), 10), scope), std::errc::no_such_file_or_directory, "walk \""));
  CHECK(isError(failureOf(directory->stat(path("none")), scope), std::errc::no_such_file_or_directory, "stat \""));
}

TEST_CASE_FIXTURE(FileTest, "the directory itself is no name in it") {
  const std::function<void()> calls[] = {[&] { (void)directory->makeDirectory(Path()); },
                                         [&] { (void)directory->removeDirectory(Path()); },
                                         [&] { (void)directory->unlink(path("./.")); },
                                         [&] { (void)directory->rename(Path(), path("b")); },
                                         [&] { (void)directory->rename(path("a"), Path()); },
                                         [&] { (void)directory->symlink("x", Path()); },
                                         [&] { (void)directory->readLink(Path()); },
                                         [&] { (void)directory->replaceFile(Path(), "x"); }};
  for (const auto& call : calls) {
    const Exception e = thrownBy(call);
    CHECK((e.kind() == Exception::Kind::FAILED));
    CHECK(contains(e.description(), "the path is \".\""));
    CHECK(madeIn(e, "directory_test.cc"));
  }
}

TEST_CASE_FIXTURE(FileTest, "a list has every entry with its type, sorted by name") {
  disk.write("b-file", "");
  disk.makeDirectory("c-directory");
  disk.link("nowhere", "a-link");
  REQUIRE(::mkfifo(disk.inside("d-fifo").c_str(), 0600) == 0);
  disk.write(".hidden", "");
  const std::vector<DirectoryEntry> entries = directory->list().wait(scope);
  REQUIRE(entries.size() == 5);
  const std::pair<std::string_view, FileType> expected[] = {{".hidden", FileType::REGULAR},
                                                            {"a-link", FileType::SYMLINK},
                                                            {"b-file", FileType::REGULAR},
                                                            {"c-directory", FileType::DIRECTORY},
                                                            {"d-fifo", FileType::OTHER}};
  for (std::size_t i = 0; i < entries.size(); ++i) {
    CHECK(entries[i].name == expected[i].first);
    CHECK((entries[i].type == expected[i].second));
  }
  CHECK(directory->list(path("c-directory")).wait(scope).empty());
}

TEST_CASE_FIXTURE(FileTest, "a list may be long, and be asked for again and again") {
  for (int i = 0; i < 1000; ++i) disk.write("file" + std::to_string(i), "");
  for (int i = 0; i < 3; ++i) {
    const std::vector<DirectoryEntry> entries = directory->list().wait(scope);
    CHECK(entries.size() == 1000);
    CHECK(std::is_sorted(entries.begin(), entries.end(), [](const auto& a, const auto& b) { return a.name < b.name; }));
  }
}

TEST_CASE_FIXTURE(FileTest, "a walk goes depth first, in order, and does not follow links") {
  disk.makeDirectory("b/empty");
  disk.makeDirectory("b/z");
  disk.write("a", "");
  disk.write("b/z/deep", "");
  disk.write("b/file", "");
  disk.write("c", "");
  disk.link(".", "b/loop");
  std::string seen;
  for (const WalkEntry& entry : directory->walk(Path(), 100).wait(scope)) seen += entry.path.toString() + " ";
  CHECK(seen == "a b b/empty b/file b/loop b/z b/z/deep c ");
  seen.clear();
  for (const WalkEntry& entry : directory->walk(path("b"), 100).wait(scope)) seen += entry.path.toString() + " ";
  CHECK(seen == "b/empty b/file b/loop b/z b/z/deep ");
}

TEST_CASE_FIXTURE(FileTest, "a walk has a limit, wherever the entries are") {
  disk.makeDirectory("a/b/c");
  for (int i = 0; i < 3; ++i) disk.write("a/b/c/file" + std::to_string(i), "");
  CHECK(directory->walk(Path(), 6).wait(scope).size() == 6);
  CHECK(directory->walk(Path(), SIZE_MAX).wait(scope).size() == 6);
  for (std::size_t limit = 0; limit < 6; ++limit) {
    CAPTURE(limit);
    const Exception e = failureOf(directory->walk(Path(), limit), scope);
    CHECK((e.kind() == Exception::Kind::FAILED));
    CHECK(contains(e.description(), "more than the " + std::to_string(limit) + " entries"));
  }
  CHECK(directory->walk(path("a/b/c"), 3).wait(scope).size() == 3);
}

TEST_CASE_FIXTURE(FileTest, "a walk does not follow a link that takes the place of a directory meanwhile") {
  disk.write("file", "");
  for (const std::string_view target : {".", "..", "file", "nowhere"}) {
    CAPTURE(target);
    disk.makeDirectory("sub");
    disk.write("sub/inside", "");
    Promise<std::vector<WalkEntry>> walk = directory->walk(Path(), 10);
    {
      BusyThreadPool opened(io);
      REQUIRE(!walk.poll(scope));
    }
    BusyThreadPool listed(io);
    REQUIRE(!walk.poll(scope));
    std::filesystem::remove_all(disk.inside("sub"));
    disk.link(target, "sub");
    listed.release();
    std::string seen;
    for (const WalkEntry& entry : std::move(walk).wait(scope)) seen += entry.path.toString() + " ";
    CHECK(seen == "file sub ");
    std::filesystem::remove(disk.inside("sub"));
  }
}

TEST_CASE_FIXTURE(FileTest, "a walk goes on in the directory where it began, and tells paths as it was asked") {
  disk.makeDirectory("a/b");
  disk.write("a/b/file", "");
  Promise<std::vector<WalkEntry>> walk = directory->walk(path("a"), 10);
  {
    BusyThreadPool busy(io);
    REQUIRE(!walk.poll(scope));
    std::filesystem::rename(disk.inside("a"), disk.inside("renamed"));
  }
  std::string seen;
  for (const WalkEntry& entry : std::move(walk).wait(scope)) seen += entry.path.toString() + " ";
  CHECK(seen == "a/b a/b/file ");
}

TEST_CASE_FIXTURE(FileTest, "a temporary file has no name, and is gone when it is closed") {
  const FilePtr temporary = directory->temporaryFile().wait(scope);
  CHECK(disk.count() == 0);
  temporary->write(0, "abc").wait(scope);
  CHECK(readAt(*temporary, 0, 9) == "abc");
  CHECK(temporary->stat().wait(scope).mode == 0600);
}

// -------------------------------------------------------------------------------------- symbolic links

TEST_CASE_FIXTURE(FileTest, "a link says any text, and is read and removed itself") {
  directory->symlink("../secret", path("link")).wait(scope);
  CHECK(directory->readLink(path("link")).wait(scope) == "../secret");
  directory->rename(path("link"), path("other")).wait(scope);
  CHECK(directory->readLink(path("other")).wait(scope) == "../secret");
  directory->unlink(path("other")).wait(scope);
  CHECK(disk.count() == 0);
  CHECK(disk.secret() == "secret");
  CHECK(isError(failureOf(directory->readLink(path("none")), scope), std::errc::no_such_file_or_directory, "ENOENT"));
}

TEST_CASE_FIXTURE(FileTest, "no operation leaves the directory through a link, whatever the policy") {
  disk.link("..", "up");
  disk.link("../secret", "out");
  const std::errc followed = directory->openFile(path("out")).asResult().wait(scope).error().code() == std::errc::cross_device_link
                                 ? std::errc::cross_device_link
                                 : std::errc::too_many_symbolic_link_levels; // without openat2
  for (const Symlinks policy : {Symlinks::FOLLOW_INSIDE, Symlinks::REFUSE}) {
    const DirectoryPtr opened = open(policy);
    const std::errc code = policy == Symlinks::REFUSE ? std::errc::too_many_symbolic_link_levels : followed;
    const auto fails = [&](auto promise) { return isError(failureOf(std::move(promise), scope), code, "inside/"); };
    CHECK(fails(opened->openFile(path("out"))));
    CHECK(fails(opened->openFile(path("out"), FileMode::REPLACE)));
    CHECK(fails(opened->openFile(path("up/secret"))));
    CHECK(fails(opened->openFile(path("up/new"), FileMode::CREATE)));
    CHECK(fails(opened->tryOpenFile(path("up/none"))));
    CHECK(fails(opened->openSubdir(path("up"))));
    CHECK(fails(opened->list(path("up"))));
    CHECK(fails(opened->walk(path("up"), 10)));
    CHECK(fails(opened->stat(path("out"))));
    CHECK(fails(opened->stat(path("up/secret"))));
    CHECK(fails(opened->readLink(path("up/inside/out"))));
    CHECK(fails(opened->makeDirectory(path("up/new"))));
    CHECK(fails(opened->unlink(path("up/secret"))));
    CHECK(fails(opened->removeDirectory(path("up/inside"))));
    CHECK(fails(opened->rename(path("up/secret"), path("stolen"))));
    CHECK(fails(opened->rename(path("out"), path("up/planted"))));
    CHECK(fails(opened->symlink("x", path("up/planted"))));
    CHECK(fails(opened->replaceFile(path("up/secret"), "x")));
  }
  CHECK(disk.secret() == "secret");
  CHECK(disk.count() == 2);
}

TEST_CASE_FIXTURE(FileTest, "links inside are followed, or refused when asked, also by subdirectories") {
  disk.makeDirectory("sub");
  disk.write("sub/file", "inside");
  disk.link("file", "sub/link");
  const DirectoryPtr strict = open(Symlinks::REFUSE);
  const DirectoryPtr strictSub = strict->openSubdir(path("sub")).wait(scope);
  CHECK(isError(failureOf(strict->openFile(path("sub/link")), scope), std::errc::too_many_symbolic_link_levels, "ELOOP"));
  CHECK(isError(failureOf(strictSub->openFile(path("link")), scope), std::errc::too_many_symbolic_link_levels, "ELOOP"));
  CHECK(isError(failureOf(strictSub->stat(path("link")), scope), std::errc::too_many_symbolic_link_levels, "ELOOP"));
  const Result<FilePtr> followed = directory->openFile(path("sub/link")).asResult().wait(scope);
  if (!followed) {
    MESSAGE("this system has no openat2: links are not followed at all");
    return;
  }
  CHECK(readAt(**followed, 0, 9) == "inside");
  CHECK(directory->stat(path("sub/link")).wait(scope).size == 6);
}

TEST_CASE_FIXTURE(FileTest, "a directory goes on as itself when it is renamed") {
  disk.makeDirectory("sub");
  const DirectoryPtr sub = directory->openSubdir(path("sub")).wait(scope);
  directory->rename(path("sub"), path("renamed")).wait(scope);
  sub->replaceFile(path("file"), "x").wait(scope);
  CHECK(disk.read("renamed/file") == "x");
}
