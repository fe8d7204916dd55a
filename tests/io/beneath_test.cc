// SPDX-License-Identifier: MIT
// Tests of opening beneath a directory, in both ways: by the kernel's openat2 and by walking.
#include "failing_call.h"
#include "temporary_directory.h"

#include <troth/io/beneath_detail.h>
#include <troth/io/file.h>

#include <algorithm>
#include <cerrno>
#include <string>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

using namespace troth;
using namespace troth::test;

namespace {

/// What an open gives: 0, or the negative errno.
int opens(const TemporaryDirectory& directory, std::string_view path, int flags, Symlinks symlinks) {
  const OwnedDescriptor top(::open(directory.inside().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  REQUIRE(top.get() >= 0);
  const OwnedDescriptor opened(detail::openBeneath(top.get(), path, flags, 0666, symlinks));
  if (opened.get() >= 0) CHECK((::fcntl(opened.get(), F_GETFD) & FD_CLOEXEC) != 0);
  return std::min(opened.get(), 0);
}

int walks(const TemporaryDirectory& directory, std::string_view path, int flags) {
  const OwnedDescriptor top(::open(directory.inside().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  REQUIRE(top.get() >= 0);
  const OwnedDescriptor opened(detail::openByWalking(top.get(), path, flags, 0666));
  if (opened.get() >= 0) CHECK((::fcntl(opened.get(), F_GETFD) & FD_CLOEXEC) != 0);
  return std::min(opened.get(), 0);
}

/// A tree with a secret outside, and links to what is inside and to what is not.
void plantLinks(TemporaryDirectory& directory) {
  directory.makeDirectory("sub");
  directory.write("sub/file", "inside");
  directory.link("sub", "link-to-sub");
  directory.link("sub/file", "link-to-file");
  directory.link("../sub/file", "sub/up-and-down");
  directory.link("../secret", "link-out");
  directory.link("..", "link-to-parent");
  directory.link("/etc/passwd", "link-absolute");
  directory.link("loop", "loop");
  directory.link("/proc/self/root", "link-magic");
}

} // namespace

TEST_CASE("what is inside is opened, by the kernel and by walking") {
  TemporaryDirectory directory;
  plantLinks(directory);
  for (const std::string_view path : {".", "sub", "sub/file"}) {
    CAPTURE(path);
    CHECK(opens(directory, path, O_RDONLY, Symlinks::FOLLOW_INSIDE) == 0);
    CHECK(opens(directory, path, O_RDONLY, Symlinks::REFUSE) == 0);
    CHECK(opens(directory, path, detail::PLACE, Symlinks::REFUSE) == 0);
    CHECK(walks(directory, path, O_RDONLY) == 0);
    CHECK(walks(directory, path, detail::PLACE) == 0);
  }
  CHECK(opens(directory, "none", O_RDONLY, Symlinks::REFUSE) == -ENOENT);
  CHECK(walks(directory, "none", O_RDONLY) == -ENOENT);
  CHECK(walks(directory, "none/file", O_RDONLY) == -ENOENT);
  CHECK(walks(directory, "sub/file/x", O_RDONLY) == -ENOTDIR);
  CHECK(walks(directory, std::string(5000, 'x'), O_RDONLY) == -ENAMETOOLONG);
  CHECK(opens(directory, std::string(5000, 'x'), O_RDONLY, Symlinks::REFUSE) == -ENAMETOOLONG);
}

TEST_CASE("the walk makes files as openat does") {
  TemporaryDirectory directory;
  directory.makeDirectory("sub");
  CHECK(walks(directory, "sub/new", O_WRONLY | O_CREAT | O_EXCL) == 0);
  CHECK(walks(directory, "sub/new", O_WRONLY | O_CREAT | O_EXCL) == -EEXIST);
  CHECK(directory.read("sub/new").empty());
}

TEST_CASE("links are refused on the way and at the end, by the kernel when asked, and always by walking") {
  TemporaryDirectory directory;
  plantLinks(directory);
  for (const std::string_view path : {"link-to-sub", "link-to-sub/file", "link-to-file", "sub/up-and-down", "link-out",
                                      "link-to-parent", "link-to-parent/secret", "link-absolute", "loop", "link-magic"}) {
    CAPTURE(path);
    for (const int flags : {int(O_RDONLY), O_RDONLY | O_DIRECTORY, O_RDWR | O_CREAT, detail::PLACE, detail::PLACE_OF_DIRECTORY}) {
      CAPTURE(flags);
      CHECK(opens(directory, path, flags, Symlinks::REFUSE) == -ELOOP);
      CHECK(walks(directory, path, flags) == -ELOOP);
    }
  }
}

TEST_CASE("where the kernel can refuse links, it and the walk give the same, whatever is opened and how") {
  TemporaryDirectory directory;
  plantLinks(directory);
  directory.link("nowhere", "dangling");
  REQUIRE(::mkfifo(directory.inside("fifo").c_str(), 0600) == 0);
  std::string longest; // of "." again and again
  while (longest.size() < Path::MAX_SIZE) longest += longest.empty() ? "." : "/.";
  for (const std::string& path :
       {std::string("."), std::string("sub"), std::string("sub/file"), std::string("sub/file/x"), std::string("sub/none"),
        std::string("none/file"), std::string("fifo"), std::string("fifo/x"), std::string("dangling"),
        std::string("dangling/x"), std::string("link-to-file/x"), std::string("link-to-sub"), std::string("loop/x"),
        std::string("link-absolute"), std::string(255, 'n'), std::string(256, 'n'), "sub/" + std::string(256, 'n'),
        longest, std::string(Path::MAX_SIZE + 1, 'x')}) {
    for (const int flags : {O_RDONLY | O_NONBLOCK, O_RDWR | O_NONBLOCK, O_RDONLY | O_DIRECTORY,
                            O_WRONLY | O_APPEND | O_NONBLOCK, O_RDWR | O_CREAT | O_NONBLOCK,
                            O_RDWR | O_CREAT | O_EXCL | O_NONBLOCK, O_RDWR | O_CREAT | O_TRUNC | O_NONBLOCK,
                            detail::PLACE, detail::PLACE_OF_DIRECTORY}) {
      CAPTURE(path);
      CAPTURE(flags);
      const auto removeMade = [&] {
        ::unlink(directory.inside("sub/none").c_str());
        ::unlink(directory.inside(std::string(255, 'n')).c_str());
      };
      const int byKernel = opens(directory, path, flags, Symlinks::REFUSE);
      removeMade();
      const int byWalking = walks(directory, path, flags);
      removeMade();
      CHECK(byKernel == byWalking);
    }
  }
}

#ifdef __linux__

TEST_CASE("where openat2 is missing or not allowed, the walk takes its place") {
  TemporaryDirectory directory;
  plantLinks(directory);
  for (const unsigned error : {unsigned(ENOSYS), unsigned(EPERM)}) {
    CAPTURE(error);
    withFailing({SYS_openat2, error}, [&] {
      CHECK(opens(directory, "sub/file", O_RDONLY, Symlinks::FOLLOW_INSIDE) == 0);
      CHECK(opens(directory, "link-to-sub/file", O_RDONLY, Symlinks::FOLLOW_INSIDE) == -ELOOP); // all are refused
      CHECK(opens(directory, "link-out", O_RDONLY, Symlinks::FOLLOW_INSIDE) == -ELOOP);
      CHECK(opens(directory, "link-to-parent/secret", O_RDONLY, Symlinks::REFUSE) == -ELOOP);
    });
  }
}

TEST_CASE("magic links of the kernel are refused, wherever they lead") {
  const OwnedDescriptor top(::open("/proc/self", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  for (const std::string& path : {"fd/" + std::to_string(top.get()), std::string("cwd"), std::string("root/etc"),
                                  std::string("exe")}) {
    CAPTURE(path);
    const OwnedDescriptor opened(detail::openBeneath(top.get(), path, O_RDONLY, 0, Symlinks::FOLLOW_INSIDE));
    CHECK(opened.get() == -ELOOP);
    const OwnedDescriptor walked(detail::openByWalking(top.get(), path, O_RDONLY, 0));
    CHECK(walked.get() == -ELOOP);
  }
}

TEST_CASE("links to what is inside are followed, and others lead nowhere") {
  TemporaryDirectory directory;
  plantLinks(directory);
  for (const std::string_view path : {"link-to-sub/file", "link-to-file", "sub/up-and-down"}) {
    CAPTURE(path);
    const int status = opens(directory, path, O_RDONLY, Symlinks::FOLLOW_INSIDE);
    if (::syscall(SYS_openat2, -1, nullptr, nullptr, 0) < 0 && errno != EINVAL) {
      MESSAGE("this system has no openat2: links are not followed at all");
      return;
    }
    CHECK(status == 0);
  }
  for (const std::string_view path : {"link-out", "link-to-parent", "link-to-parent/secret", "link-absolute", "link-magic"}) {
    CAPTURE(path);
    for (const int flags : {int(O_RDONLY), O_RDWR | O_CREAT, detail::PLACE}) {
      CAPTURE(flags);
      CHECK(opens(directory, path, flags, Symlinks::FOLLOW_INSIDE) == -EXDEV);
    }
  }
  CHECK(opens(directory, "loop", O_RDONLY, Symlinks::FOLLOW_INSIDE) == -ELOOP);
}

#endif
