// SPDX-License-Identifier: MIT
// Tests of replacing a file: all of it or nothing, and nothing else is left.
#include "failing_call.h"
#include "file_fixture.h"

#include <troth/io/replace_file_detail.h>

#include <cerrno>
#include <csignal>
#include <string>

#include <sys/resource.h>

using namespace troth;
using namespace troth::test;

TEST_CASE_FIXTURE(FileTest, "a file is replaced as a whole, and nothing else is left") {
  directory->replaceFile(path("file"), "first").wait(scope);
  CHECK(disk.read("file") == "first");
  const std::string data = numberedBytes(300'000);
  directory->replaceFile(path("file"), data).wait(scope);
  CHECK((disk.read("file") == data));
  directory->replaceFile(path("file"), "").wait(scope);
  CHECK(disk.read("file").empty());
  CHECK(disk.count() == 1);
}

TEST_CASE_FIXTURE(FileTest, "who has the old file open goes on seeing the old contents") {
  disk.write("file", "old");
  const FilePtr old = file("file");
  directory->replaceFile(path("file"), "new").wait(scope);
  CHECK(readAt(*old, 0, 9) == "old");
  CHECK(readAt(*file("file"), 0, 9) == "new");
}

TEST_CASE_FIXTURE(FileTest, "a replaced file keeps its permissions") {
  disk.write("secret", "old");
  REQUIRE(::chmod(disk.inside("secret").c_str(), 0600) == 0);
  directory->replaceFile(path("secret"), "new").wait(scope);
  CHECK(modeOf(disk.inside("secret")) == 0600);
  CHECK(disk.read("secret") == "new");
}

TEST_CASE_FIXTURE(FileTest, "a link is replaced itself, and what it leads to is left alone") {
  disk.link("../secret", "link");
  directory->replaceFile(path("link"), "new").wait(scope);
  CHECK(disk.read("link") == "new");
  CHECK(disk.secret() == "secret");
}

TEST_CASE_FIXTURE(FileTest, "a replacement that fails leaves the old file and no other") {
  disk.makeDirectory("sub");
  CHECK(isError(failureOf(directory->replaceFile(path("sub"), "x"), scope), std::errc::is_a_directory, "replace \""));
  CHECK(isError(failureOf(directory->replaceFile(path("none/x"), "x"), scope), std::errc::no_such_file_or_directory, "replace \""));
  CHECK(disk.count() == 1);
}

TEST_CASE_FIXTURE(FileTest, "a replacement that the disk has no room for leaves the old file and no other") {
  disk.write("file", "old");
  const std::string data = numberedBytes(300'000);
  rlimit before{};
  REQUIRE(::getrlimit(RLIMIT_FSIZE, &before) == 0);
  const rlimit small{100'000, before.rlim_max};
  std::signal(SIGXFSZ, SIG_IGN);
  REQUIRE(::setrlimit(RLIMIT_FSIZE, &small) == 0);
  const Exception e = failureOf(directory->replaceFile(path("file"), data), scope);
  ::setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, SIG_DFL);
  CHECK(isError(e, std::errc::file_too_large, "replace \""));
  CHECK(disk.read("file") == "old");
  CHECK(disk.count() == 1);
}

TEST_CASE_FIXTURE(FileTest, "a replacement for which descriptors are short leaves the old file, however many there are") {
  disk.write("file", "old");
  struct stat before {};
  REQUIRE(::stat(disk.inside("file").c_str(), &before) == 0);
  // UBSan needs descriptors to look at a type for the first time.
  CHECK(directory->replaceFile(path("other"), "new").asResult().wait(scope));
  CHECK(!directory->replaceFile(path("none/other"), "new").asResult().wait(scope));
  bool done = false;
  for (std::size_t spare = 0; !done; ++spare) {
    CAPTURE(spare);
    REQUIRE(spare < 10);
    const DescriptorLimit limit(spare);
    const Result<void> result = directory->replaceFile(path("file"), "new").asResult().wait(scope);
    done = static_cast<bool>(result);
    if (!done) CHECK((result.error().code() == std::errc::too_many_files_open));
    struct stat now {};
    REQUIRE(::stat(disk.inside("file").c_str(), &now) == 0);
    CHECK((now.st_ino == before.st_ino) == !done);
  }
  CHECK(disk.read("file") == "new");
}

TEST_CASE_FIXTURE(FileTest, "a replaced file loses the right to be run as its owner") {
  disk.write("program", "old");
  REQUIRE(::chmod(disk.inside("program").c_str(), 06755) == 0);
  directory->replaceFile(path("program"), "new").wait(scope);
  CHECK(modeOf(disk.inside("program")) == 0755);
}

TEST_CASE_FIXTURE(FileTest, "a replacement that is cancelled in the queue does not happen") {
  disk.write("file", "old");
  {
    BusyThreadPool busy(io);
    { const Promise<void> cancelled = directory->replaceFile(path("file"), "new"); }
  }
  file("file"); // whatever was queued before is done
  CHECK(disk.read("file") == "old");
  CHECK(disk.count() == 1);
}

TEST_CASE("a replacement that is cancelled at any moment happens as a whole or not at all") {
  TemporaryDirectory disk;
  const std::string older = numberedBytes(100'000, 1);
  const std::string newer = numberedBytes(100'000, 2);
  for (int i = 0; i < 100; ++i) {
    disk.write("file", older);
    {
      IoTest test;
      const DirectoryPtr directory = openDirectory(test.io, disk.inside()).wait(test.scope);
      const Promise<void> cancelled = directory->replaceFile(path("file"), newer);
      for (int turns = i / 10; turns > 0; --turns) test.scope.poll();
    } // the context's end waits for what was begun
    const std::string contents = disk.read("file");
    CHECK((contents == older || contents == newer));
    CHECK(disk.count() == 1);
  }
}

#ifdef __linux__

TEST_CASE("whatever step of a replacement fails, the old file is untouched and no other is left") {
  const TemporaryDirectory disk;
  disk.write("file", "old");
  REQUIRE(::chmod(disk.inside("file").c_str(), 0640) == 0);
  const OwnedDescriptor directory(::open(disk.inside().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  for (const FailingCall& failing :
       {FailingCall{SYS_newfstatat, EIO}, FailingCall{SYS_openat, EACCES, O_DIRECTORY},
        FailingCall{SYS_openat, ENOSPC, O_CREAT}, FailingCall{SYS_fchmod, EPERM}, FailingCall{SYS_pwrite64, ENOSPC},
        FailingCall{SYS_fsync, EIO}, FailingCall{SYS_renameat, EIO}}) {
    CAPTURE(failing.number);
    withFailing(failing, [&] {
      const std::string contents = "new";
      CHECK(detail::replaceFile(directory.get(), "file", asBytes(contents)) == -static_cast<int>(failing.error));
    });
    CHECK(disk.read("file") == "old");
    CHECK(modeOf(disk.inside("file")) == 0640);
    CHECK(disk.count() == 1);
  }
}

TEST_CASE("where no file can be without a name, one is made with a name, and loses it") {
  const TemporaryDirectory disk;
  const OwnedDescriptor directory(::open(disk.inside().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  withFailing({SYS_openat, EOPNOTSUPP, O_TMPFILE & ~O_DIRECTORY}, [&] {
    OwnedDescriptor file;
    CHECK(detail::makeNameless(directory.get(), file) == 0);
    CHECK(::write(file.get(), "x", 1) == 1);
    struct stat info {};
    REQUIRE(::fstat(file.get(), &info) == 0);
    CHECK(info.st_nlink == 0);
    CHECK((info.st_mode & 07777) == 0600);
  });
  CHECK(disk.count() == 0);
}

#endif
