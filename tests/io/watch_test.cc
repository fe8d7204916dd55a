// SPDX-License-Identifier: MIT
// Tests of watching files and directories.
#include "peer.h"
#include "temporary_directory.h"

#include <troth/io/watch.h>

#include <sys/inotify.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <uv.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

using namespace troth;
using namespace troth::test;

using Kind = FileChange::Kind;
using Changes = std::vector<FileChange>;

namespace {
bool watchesAreShort = false;
}

// libuv's calls come here first: the system has no more watches if the test says so.
extern "C" int inotify_add_watch(int fd, const char* name, std::uint32_t mask) noexcept {
  if (watchesAreShort) {
    errno = ENOSPC;
    return -1;
  }
  return static_cast<int>(::syscall(SYS_inotify_add_watch, fd, name, mask));
}

namespace {

/// An empty directory that goes with the test, to be watched.
class Folder {
public:
  std::string path() const { return directory_.inside(); }
  std::string operator/(std::string_view name) const { return directory_.inside(name); }
  void write(std::string_view name, std::string_view text = "text") const { std::ofstream(*this / name, std::ios::app) << text; }

private:
  TemporaryDirectory directory_;
};

/// All changes until `last` has come.
Changes changesUntil(FileWatch& watch, const FileChange& last, WaitScope& scope) {
  Changes all;
  do {
    const Changes some = watch.nextChanges().wait(scope);
    REQUIRE(!some.empty());
    all.insert(all.end(), some.begin(), some.end());
  } while (std::find(all.begin(), all.end(), last) == all.end());
  return all;
}

/// The number of changes of `name`.
std::ptrdiff_t countOf(const Changes& changes, std::string_view name) {
  return std::count_if(changes.begin(), changes.end(), [&](const FileChange& change) { return change.name == name; });
}

} // namespace

TEST_CASE_FIXTURE(IoTest, "what is made, written, renamed and deleted in a directory is told by name, in order") {
  const Folder folder;
  auto watch = newFileWatch(io, folder.path());
  Promise<Changes> next = watch->nextChanges();
  CHECK(takeAfter(next, scope, [&] { folder.write("a"); }) == Changes{{Kind::RENAMED, "a"}, {Kind::CHANGED, "a"}});
  next = watch->nextChanges();
  CHECK(takeAfter(next, scope, [&] { folder.write("a"); }) == Changes{{Kind::CHANGED, "a"}});
  next = watch->nextChanges();
  CHECK(takeAfter(next, scope, [&] { std::filesystem::rename(folder / "a", folder / "b"); }) ==
        Changes{{Kind::RENAMED, "a"}, {Kind::RENAMED, "b"}});
  next = watch->nextChanges();
  CHECK(takeAfter(next, scope, [&] { std::filesystem::remove(folder / "b"); }) == Changes{{Kind::RENAMED, "b"}});
  next = watch->nextChanges();
  CHECK(!next.poll(scope));
}

TEST_CASE_FIXTURE(IoTest, "a file is watched by itself, under its name without the directory") {
  const Folder folder;
  folder.write("file");
  folder.write("other");
  auto watch = newFileWatch(io, folder / "file");
  Promise<Changes> next = watch->nextChanges();
  REQUIRE(!next.poll(scope));
  folder.write("other");
  CHECK(takeAfter(next, scope, [&] { folder.write("file"); }) == Changes{{Kind::CHANGED, "file"}});
  std::filesystem::remove(folder / "file");
  const Changes end = changesUntil(*watch, {Kind::RENAMED, "file"}, scope);
  CHECK(countOf(end, "file") == static_cast<std::ptrdiff_t>(end.size()));
}

TEST_CASE_FIXTURE(IoTest, "a file that two watches know by different names has for each of them its own") {
  const Folder folder;
  folder.write("file");
  std::filesystem::create_hard_link(folder / "file", folder / "same");
  auto one = newFileWatch(io, folder / "file");
  auto two = newFileWatch(io, folder / "same");
  folder.write("file");
  CHECK(one->nextChanges().wait(scope) == Changes{{Kind::CHANGED, "file"}});
  CHECK(two->nextChanges().wait(scope) == Changes{{Kind::CHANGED, "same"}});
}

TEST_CASE_FIXTURE(IoTest, "a file that is replaced is watched no more, in its directory its name is") {
  const Folder folder;
  folder.write("file");
  folder.write("new");
  auto file = newFileWatch(io, folder / "file");
  auto directory = newFileWatch(io, folder.path());
  std::filesystem::rename(folder / "new", folder / "file");
  changesUntil(*file, {Kind::RENAMED, "file"}, scope);
  CHECK(directory->nextChanges().wait(scope) == Changes{{Kind::RENAMED, "new"}, {Kind::RENAMED, "file"}});
  scope.poll();
  Promise<Changes> ofFile = file->nextChanges();
  Promise<Changes> ofDirectory = directory->nextChanges();
  CHECK(takeAfter(ofDirectory, scope, [&] { folder.write("file"); }) == Changes{{Kind::CHANGED, "file"}});
  CHECK(!ofFile.poll(scope));
}

TEST_CASE_FIXTURE(IoTest, "a directory that is renamed or deleted tells so under its own name, and is watched on") {
  const Folder folder;
  std::filesystem::create_directory(folder / "directory");
  auto watch = newFileWatch(io, folder / "directory");
  Promise<Changes> next = watch->nextChanges();
  CHECK(takeAfter(next, scope, [&] { std::filesystem::rename(folder / "directory", folder / "moved"); }) ==
        Changes{{Kind::RENAMED, "directory"}});
  next = watch->nextChanges();
  CHECK(takeAfter(next, scope, [&] { folder.write("moved/file", ""); }) == Changes{{Kind::RENAMED, "file"}});
  std::filesystem::remove_all(folder / "moved");
  changesUntil(*watch, {Kind::RENAMED, "directory"}, scope);
}

TEST_CASE("a watch keeps a host's loop alive, until it goes") {
  const NothingLeft nothingLeft;
  const Folder folder;
  uv_loop_t loop;
  REQUIRE(uv_loop_init(&loop) == 0);
  {
    HostedAsyncIoContext hosted = setupAsyncIo(&loop);
    auto watch = newFileWatch(hosted, folder.path());
    CHECK(uv_run(&loop, UV_RUN_NOWAIT) != 0);
    watch.reset();
    CHECK(uv_run(&loop, UV_RUN_DEFAULT) == 0);
  }
  CHECK(uv_run(&loop, UV_RUN_DEFAULT) == 0);
  CHECK(uv_loop_close(&loop) == 0);
}

TEST_CASE_FIXTURE(IoTest, "directories below are not watched, but that they change is told") {
  const Folder folder;
  std::filesystem::create_directory(folder / "below");
  auto watch = newFileWatch(io, folder.path());
  Promise<Changes> next = watch->nextChanges();
  REQUIRE(!next.poll(scope));
  folder.write("below/file");
  CHECK(!next.poll(scope));
  CHECK(takeAfter(next, scope, [&] { std::filesystem::remove_all(folder / "below"); }) == Changes{{Kind::RENAMED, "below"}});
}

TEST_CASE_FIXTURE(IoTest, "changes that come while nobody waits are collected, equal ones in a row as one") {
  const Folder folder;
  auto watch = newFileWatch(io, folder.path());
  folder.write("a");
  for (int i = 0; i < 10; ++i) {
    scope.poll(); // so that the system does not merge them
    folder.write("a");
  }
  folder.write("b");
  scope.poll();
  CHECK(watch->nextChanges().wait(scope) ==
        Changes{{Kind::RENAMED, "a"}, {Kind::CHANGED, "a"}, {Kind::RENAMED, "b"}, {Kind::CHANGED, "b"}});
}

TEST_CASE_FIXTURE(IoTest, "more changes than are kept are dropped, which is told, and later ones come again") {
  const Folder folder;
  auto watch = newFileWatch(io, folder.path());
  for (std::size_t i = 0; i < FileWatch::MOST_KEPT; ++i) {
    folder.write(std::to_string(i), ""); // made, and nothing written: one change
    if (i % 64 == 0) scope.poll();
  }
  scope.poll();
  Changes changes = watch->nextChanges().wait(scope);
  CHECK(changes.size() == FileWatch::MOST_KEPT);
  CHECK(changes.back() == FileChange{Kind::RENAMED, std::to_string(FileWatch::MOST_KEPT - 1)});

  for (std::size_t i = 0; i < FileWatch::MOST_KEPT + 5; ++i) std::filesystem::remove(folder / std::to_string(i));
  for (std::size_t i = 0; i < 5; ++i) folder.write(std::to_string(i), "");
  scope.poll();
  changes = watch->nextChanges().wait(scope);
  CHECK(changes.size() == FileWatch::MOST_KEPT + 1);
  CHECK(changes[FileWatch::MOST_KEPT - 1] == FileChange{Kind::RENAMED, std::to_string(FileWatch::MOST_KEPT - 1)});
  CHECK(changes.back() == FileChange{Kind::DROPPED, ""});

  folder.write("later", "");
  CHECK(watch->nextChanges().wait(scope) == Changes{{Kind::RENAMED, "later"}});
}

TEST_CASE_FIXTURE(IoTest, "two watches of one directory both hear of a change, and one may go without the other") {
  const Folder folder;
  auto one = newFileWatch(io, folder.path());
  auto two = newFileWatch(io, folder.path());
  folder.write("a", "");
  CHECK(one->nextChanges().wait(scope) == Changes{{Kind::RENAMED, "a"}});
  CHECK(two->nextChanges().wait(scope) == Changes{{Kind::RENAMED, "a"}});
  one.reset();
  folder.write("b", "");
  CHECK(two->nextChanges().wait(scope) == Changes{{Kind::RENAMED, "b"}});
}

TEST_CASE_FIXTURE(IoTest, "a wait that is cancelled, even when it is ready, leaves the changes for the next") {
  const Folder folder;
  auto watch = newFileWatch(io, folder.path());
  {
    Promise<Changes> pending = watch->nextChanges();
    REQUIRE(!pending.poll(scope));
  }
  {
    Promise<Changes> ready = watch->nextChanges();
    REQUIRE(!ready.poll(scope));
    folder.write("a", "");
    REQUIRE(ready.poll(scope));
  }
  folder.write("b", "");
  scope.poll();
  CHECK(watch->nextChanges().wait(scope) == Changes{{Kind::RENAMED, "a"}, {Kind::RENAMED, "b"}});
}

TEST_CASE_FIXTURE(IoTest, "a watch that is destroyed rejects the wait that is pending, with its place") {
  const Folder folder;
  auto watch = newFileWatch(io, folder.path());
  Promise<Changes> next = watch->nextChanges();
  REQUIRE(!next.poll(scope));
  watch.reset();
  CHECK(activeHandles(*this, "fs_event") == 0); // whoever still has the promise
  const Exception e = failureOf(std::move(next), scope);
  CHECK((e.kind() == Exception::Kind::DISCONNECTED));
  CHECK(contains(e.description(), "FileWatch::nextChanges"));
  CHECK(madeIn(e, "watch_test.cc"));
}

TEST_CASE_FIXTURE(IoTest, "a wait that is ready keeps its changes when the watch goes, and may go after it unheard") {
  const Folder folder;
  auto watch = newFileWatch(io, folder.path());
  Promise<Changes> next = watch->nextChanges();
  REQUIRE(!next.poll(scope));
  folder.write("a", "");
  REQUIRE(next.poll(scope));
  watch.reset();
  CHECK(std::move(next).wait(scope) == Changes{{Kind::RENAMED, "a"}});
  watch = newFileWatch(io, folder.path());
  Promise<Changes> unheard = watch->nextChanges();
  REQUIRE(!unheard.poll(scope));
  folder.write("b", "");
  REQUIRE(unheard.poll(scope));
  watch.reset();
}

TEST_CASE_FIXTURE(IoTest, "a watch that goes with a change on its way to it is heard by nobody") {
  const Folder folder;
  auto watch = newFileWatch(io, folder.path());
  folder.write("a");
  watch.reset();
  scope.poll();
  CHECK(sleeps(*this));
}

TEST_CASE_FIXTURE(IoTest, "a second wait is refused while one is pending or not taken") {
  const Folder folder;
  auto watch = newFileWatch(io, folder.path());
  Promise<Changes> next = watch->nextChanges();
  for (int i = 0; i < 2; ++i) {
    const Exception e = thrownBy([&] { watch->nextChanges().poll(scope); });
    CHECK((e.kind() == Exception::Kind::FAILED));
    CHECK(contains(e.description(), "FileWatch::nextChanges"));
    CHECK(madeIn(e, "watch_test.cc"));
    folder.write("a", "");
    REQUIRE(next.poll(scope));
  }
}

TEST_CASE_FIXTURE(IoTest, "a path that does not exist is FAILED, quoted, with the caller's place") {
  for (const std::string path : {"/no/such/path", ""}) {
    const Exception e = thrownBy([&] { newFileWatch(io, path); });
    CHECK((e.kind() == Exception::Kind::FAILED));
    CHECK((e.code() == std::errc::no_such_file_or_directory));
    CHECK(contains(e.description(), "watch \"" + path + "\""));
    CHECK(madeIn(e, "watch_test.cc"));
  }
  const Exception e = thrownBy([&] { newFileWatch(io, std::string("/tmp\0/x", 7)); });
  CHECK((e.kind() == Exception::Kind::FAILED));
  CHECK(contains(e.description(), "NUL"));
}

TEST_CASE_FIXTURE(IoTest, "without watches or descriptors a watch is OVERLOADED") {
  const Folder folder;
  watchesAreShort = true;
  const Exception short_ = thrownBy([&] { newFileWatch(io, folder.path()); });
  watchesAreShort = false;
  CHECK((short_.kind() == Exception::Kind::OVERLOADED));
  CHECK((short_.code() == std::errc::no_space_on_device));
  CHECK(contains(short_.description(), folder.path()));

  auto watch = newFileWatch(io, folder.path());
  folder.write("a", "");
  CHECK(watch->nextChanges().wait(scope) == Changes{{Kind::RENAMED, "a"}});
}

TEST_CASE_FIXTURE(IoTest, "the first watch of a loop needs a descriptor, without which it is OVERLOADED") {
  const Folder folder;
  const std::string path = folder.path();
  DescriptorLimit limit(0);
  const Exception e = thrownBy([&] { newFileWatch(io, path); });
  limit.lift();
  CHECK((e.kind() == Exception::Kind::OVERLOADED));
  CHECK((e.code() == std::errc::too_many_files_open));
}

TEST_CASE("waiting for changes may be cancelled everywhere") {
  cancelSweep([](IoTest& test) -> Promise<void> {
    const Folder folder;
    auto watch = newFileWatch(test.io, folder.path());
    folder.write("a", "");
    Changes changes = co_await watch->nextChanges();
    CHECK(changes.size() == 1);
    Promise<Changes> next = watch->nextChanges();
    folder.write("b", "");
    changes = co_await std::move(next);
    CHECK(changes.size() == 1);
  });
}
