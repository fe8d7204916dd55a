// SPDX-License-Identifier: MIT
// What tests of files and directories stand on: a directory on the disk, and the test's way to it.
#pragma once

#include "peer.h"
#include "temporary_directory.h"

#include <troth/io/descriptor.h>
#include <troth/io/file.h>

#include <cstdint>
#include <memory>
#include <source_location>
#include <string>
#include <string_view>
#include <system_error>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

namespace troth::test {

using DirectoryPtr = std::unique_ptr<Directory>;
using FilePtr = std::unique_ptr<File>;

inline Path path(std::string_view text) { return Path::parse(text); }

/// A directory on the disk, and the test's way to it.
class FileTest : public IoTest {
public:
  FileTest() : directory(open()) {}

  TemporaryDirectory disk;
  DirectoryPtr directory;

  DirectoryPtr open(Symlinks symlinks = Symlinks::FOLLOW_INSIDE) {
    return openDirectory(io, disk.inside(), symlinks).wait(scope);
  }
  FilePtr file(std::string_view name, FileMode mode = FileMode::READ) {
    return directory->openFile(path(name), mode).wait(scope);
  }
  std::string readAt(File& from, std::uint64_t offset, std::size_t most) {
    std::string buffer(most, '.');
    const std::size_t size = from.read(offset, bufferOf(buffer)).wait(scope);
    CHECK(buffer.substr(size) == std::string(most - size, '.'));
    return buffer.substr(0, size);
  }
};

/// Checks that `e` has this code and text, and was made where this is called.
inline bool isError(const Exception& e, std::errc code, std::string_view text,
                    std::source_location here = std::source_location::current()) {
  INFO(e.description());
  CHECK((e.code() == code));
  CHECK(contains(e.description(), text));
  CHECK(madeIn(e, here.file_name()));
  return e.code() == code;
}

inline unsigned modeOf(const std::string& name) {
  struct stat info {};
  REQUIRE(::lstat(name.c_str(), &info) == 0);
  return info.st_mode & 07777;
}

/// One page that can be read, and behind it one that cannot, as parts of the file /proc/self/mem.
class HalfReadable {
public:
  explicit HalfReadable(const TemporaryDirectory& disk) {
    disk.write("page", std::string(size, 'x'));
    const OwnedDescriptor fd(::open(disk.inside("page").c_str(), O_RDONLY | O_CLOEXEC));
    pages_ = ::mmap(nullptr, 2 * size, PROT_READ, MAP_SHARED, fd.get(), 0);
    REQUIRE(pages_ != MAP_FAILED);
  }
  HalfReadable(const HalfReadable&) = delete;
  HalfReadable& operator=(const HalfReadable&) = delete;
  ~HalfReadable() { ::munmap(pages_, 2 * size); }

  std::uint64_t offset() const { return reinterpret_cast<std::uintptr_t>(pages_); }
  const std::size_t size = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));

private:
  void* pages_;
};

} // namespace troth::test
