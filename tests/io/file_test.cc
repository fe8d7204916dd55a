// SPDX-License-Identifier: MIT
// Tests of directories, files and their streams: what they do, what they refuse, and that nothing is touched or left
// when promises, files and contexts go at any moment.
#include "peer.h"
#include "temporary_directory.h"

#include <troth/io/file.h>
#include <troth/runtime/pool_detail.h>
#include <troth/timers/timer.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <uv.h>

using namespace troth;
using namespace troth::test;
using namespace std::chrono_literals;

namespace {

using DirectoryPtr = std::unique_ptr<Directory>;
using FilePtr = std::unique_ptr<File>;

Path path(std::string_view text) { return Path::parse(text); }

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

bool isError(const Exception& e, std::errc code, std::string_view text) {
  INFO(e.description());
  CHECK((e.code() == code));
  CHECK(contains(e.description(), text));
  CHECK(madeIn(e, "file_test.cc"));
  return e.code() == code;
}

unsigned modeOf(const std::string& name) {
  struct stat info {};
  REQUIRE(::lstat(name.c_str(), &info) == 0);
  return info.st_mode & 07777;
}

} // namespace

// ------------------------------------------------------------------------------------------- opening

TEST_CASE_FIXTURE(FileTest, "a file is opened as its mode says") {
  const struct {
    FileMode mode;
    bool needs;
    bool keeps;
  } rows[] = {{FileMode::READ, true, true},        {FileMode::MODIFY, true, true},   {FileMode::CREATE, false, true},
              {FileMode::REPLACE, false, false}, {FileMode::APPEND, false, true}};
  for (const auto& row : rows) {
    CAPTURE(int(row.mode));
    disk.write("old", "contents");
    { const FilePtr opened = file("old", row.mode); }
    CHECK(disk.read("old") == (row.keeps ? "contents" : ""));
    const std::string name = "new" + std::to_string(int(row.mode));
    if (row.needs) {
      CHECK(isError(failureOf(directory->openFile(path(name), row.mode), scope), std::errc::no_such_file_or_directory,
                    "open \"" + disk.inside()));
    } else {
      { const FilePtr made = file(name, row.mode); }
      CHECK(disk.read(name).empty());
    }
  }
  { const FilePtr made = file("only-new", FileMode::CREATE_NEW); }
  CHECK(disk.read("only-new").empty());
  CHECK(isError(failureOf(directory->openFile(path("only-new"), FileMode::CREATE_NEW), scope), std::errc::file_exists, "EEXIST"));
}

TEST_CASE_FIXTURE(FileTest, "an error names the operation, the path and the reason") {
  const Exception e = failureOf(directory->openFile(path("sub/none")), scope);
  CHECK(isError(e, std::errc::no_such_file_or_directory, "open \""));
  CHECK(contains(e.description(), "inside/sub/none\": no such file or directory (ENOENT)"));
  const Exception top = failureOf(openDirectory(io, "/nowhere/at all"), scope);
  CHECK(isError(top, std::errc::no_such_file_or_directory, "open \"/nowhere/at all\": no such file or directory (ENOENT)"));
}

TEST_CASE_FIXTURE(FileTest, "a file is not opened as a directory, and texts with a NUL byte are refused") {
  disk.write("file", "");
  CHECK(isError(failureOf(openDirectory(io, disk.inside("file")), scope), std::errc::not_a_directory, "ENOTDIR"));
  const Exception e = thrownBy([&] { (void)openDirectory(io, std::string("a\0b", 3)); });
  const Exception linked = thrownBy([&] { (void)directory->symlink(std::string("a\0b", 3), path("link")); });
  for (const Exception& thrown : {e, linked}) {
    CHECK(contains(thrown.description(), "has a NUL byte"));
    CHECK(madeIn(thrown, "file_test.cc"));
  }
}

TEST_CASE_FIXTURE(FileTest, "new files and directories get the permissions that are asked for, less the umask") {
  const mode_t before = ::umask(027);
  directory->openFile(path("default"), FileMode::CREATE).wait(scope);
  directory->openFile(path("private"), FileMode::CREATE, 0600).wait(scope);
  directory->makeDirectory(path("sub")).wait(scope);
  directory->makeDirectory(path("closed"), 0700).wait(scope);
  ::umask(before);
  CHECK(modeOf(disk.inside("default")) == 0640);
  CHECK(modeOf(disk.inside("private")) == 0600);
  CHECK(modeOf(disk.inside("sub")) == 0750);
  CHECK(modeOf(disk.inside("closed")) == 0700);
}

TEST_CASE_FIXTURE(FileTest, "what is no regular file is not opened as one, and nothing blocks") {
  disk.makeDirectory("sub");
  REQUIRE(::mkfifo(disk.inside("fifo").c_str(), 0600) == 0);
  CHECK(isError(failureOf(directory->openFile(path("sub")), scope), std::errc::is_a_directory, "EISDIR"));
  CHECK(isError(failureOf(directory->openFile(path("fifo")), scope), std::errc::invalid_seek, "ESPIPE"));
  CHECK(isError(failureOf(directory->openFile(path("fifo"), FileMode::MODIFY), scope), std::errc::invalid_seek, "ESPIPE"));
  CHECK(isError(failureOf(directory->openFile(path("fifo"), FileMode::APPEND), scope), std::errc::no_such_device_or_address, "ENXIO"));
  CHECK(isError(failureOf(directory->openFile(Path()), scope), std::errc::is_a_directory, "EISDIR"));
  DirectoryPtr devices = openDirectory(io, "/dev").wait(scope);
  CHECK(isError(failureOf(devices->openFile(path("null")), scope), std::errc::invalid_seek, "open \"/dev/null\""));
}

TEST_CASE_FIXTURE(FileTest, "tryOpenFile gives null for what does not exist, and other errors as they are") {
  CHECK(directory->tryOpenFile(path("none")).wait(scope) == nullptr);
  CHECK(directory->tryOpenFile(path("none/of/this")).wait(scope) == nullptr);
  disk.write("file", "x");
  CHECK(directory->tryOpenFile(path("file")).wait(scope) != nullptr);
  CHECK(directory->tryOpenFile(path("new"), FileMode::CREATE).wait(scope) != nullptr);
  CHECK(isError(failureOf(directory->tryOpenFile(path("file/x")), scope), std::errc::not_a_directory, "ENOTDIR"));
}

TEST_CASE_FIXTURE(FileTest, "without descriptors an open is OVERLOADED, and works again when there are some") {
  disk.write("file", "x");
  const FilePtr other = file("file"); // whatever is opened once for all is there; nothing is being closed
  {
    DescriptorLimit limit;
    const Exception e = failureOf(directory->openFile(path("file")), scope);
    CHECK((e.kind() == Exception::Kind::OVERLOADED));
    CHECK((e.code() == std::errc::too_many_files_open));
  }
  CHECK(readAt(*file("file"), 0, 9) == "x");
}

// ------------------------------------------------------------------------------- reading and writing

TEST_CASE_FIXTURE(FileTest, "a read gets what is at its offset, fewer bytes at the end, and 0 beyond it") {
  disk.write("file", "0123456789");
  const FilePtr opened = file("file");
  CHECK(readAt(*opened, 0, 4) == "0123");
  CHECK(readAt(*opened, 4, 4) == "4567");
  CHECK(readAt(*opened, 8, 4) == "89");
  CHECK(readAt(*opened, 10, 4).empty());
  CHECK(readAt(*opened, 1'000'000, 4).empty());
  CHECK(readAt(*opened, 0, 10) == "0123456789");
}

TEST_CASE_FIXTURE(FileTest, "sizes round a chunk are read and written whole") {
  for (const std::size_t size : {std::size_t(1), Chunk::CAPACITY - 1, Chunk::CAPACITY, Chunk::CAPACITY + 1, 3 * Chunk::CAPACITY + 7}) {
    CAPTURE(size);
    const std::string data = numberedBytes(size);
    const FilePtr opened = file("file", FileMode::REPLACE);
    opened->write(0, data).wait(scope);
    CHECK((disk.read("file") == data));
    CHECK((readAt(*opened, 0, size) == data));
    CHECK((readAt(*opened, 0, size + 100) == data));
  }
}

TEST_CASE_FIXTURE(FileTest, "a write goes to its offset, and what is before it becomes zeros") {
  const FilePtr opened = file("file", FileMode::CREATE);
  opened->write(3, "abc").wait(scope);
  opened->write(4, "X").wait(scope);
  opened->write(0, "").wait(scope);
  CHECK(disk.read("file") == std::string("\0\0\0aXc", 6));
}

TEST_CASE_FIXTURE(FileTest, "writes to a file opened with APPEND go to its end, whatever the offset") {
  disk.write("log", "first\n");
  const FilePtr one = file("log", FileMode::APPEND);
  const FilePtr two = file("log", FileMode::APPEND);
  one->write(0, "second\n").wait(scope);
  two->write(0, "third\n").wait(scope);
  newFileOutputStream(*one)->write("fourth\n").wait(scope);
  CHECK(disk.read("log") == "first\nsecond\nthird\nfourth\n");
}

TEST_CASE_FIXTURE(FileTest, "operations on one file may overlap") {
  const std::string data = numberedBytes(10'000);
  disk.write("file", data);
  const FilePtr opened = file("file");
  std::vector<std::string> buffers(10, std::string(1000, '.'));
  std::vector<Promise<std::size_t>> reads;
  for (std::size_t i = 0; i < buffers.size(); ++i) reads.push_back(opened->read(i * 1000, bufferOf(buffers[i])));
  Promise<FileInfo> info = opened->stat();
  for (std::size_t i = buffers.size(); i-- > 0;) {
    CHECK(std::move(reads[i]).wait(scope) == 1000);
    CHECK((buffers[i] == data.substr(i * 1000, 1000)));
  }
  CHECK(std::move(info).wait(scope).size == 10'000);
}

TEST_CASE_FIXTURE(FileTest, "a file tells its size, type, permissions and age") {
  disk.write("file", "12345");
  REQUIRE(::chmod(disk.inside("file").c_str(), 0640) == 0);
  const timespec times[] = {{0, 0}, {1'600'000'000, 250'000'000}};
  REQUIRE(::utimensat(AT_FDCWD, disk.inside("file").c_str(), times, 0) == 0);
  const FilePtr opened = file("file");
  for (const FileInfo& info : {opened->stat().wait(scope), directory->stat(path("file")).wait(scope)}) {
    CHECK((info.type == FileType::REGULAR));
    CHECK(info.size == 5);
    CHECK(info.mode == 0640);
    CHECK((info.modified.time_since_epoch() == 1'600'000'000s + 250ms));
  }
  CHECK(opened->size().wait(scope) == 5);
}

TEST_CASE_FIXTURE(FileTest, "a file is cut, filled up and synced") {
  disk.write("file", "12345");
  const FilePtr opened = file("file", FileMode::MODIFY);
  opened->truncate(3).wait(scope);
  CHECK(disk.read("file") == "123");
  opened->truncate(5).wait(scope);
  CHECK(disk.read("file") == std::string("123\0\0", 5));
  opened->sync().wait(scope);
  opened->dataSync().wait(scope);
}

TEST_CASE_FIXTURE(FileTest, "what the system refuses is an error that names the file") {
  disk.write("file", "12345");
  const FilePtr opened = file("file");
  CHECK(isError(failureOf(opened->write(0, "x"), scope), std::errc::bad_file_descriptor, "write \"" + disk.inside()));
  CHECK(isError(failureOf(opened->truncate(0), scope), std::errc::invalid_argument, "truncate \""));
  const FilePtr append = file("file", FileMode::APPEND);
  std::string buffer(4, '.');
  CHECK(isError(failureOf(append->read(0, bufferOf(buffer)), scope), std::errc::bad_file_descriptor, "read \""));
  CHECK(disk.read("file") == "12345");
  CHECK(buffer == "....");
}

TEST_CASE_FIXTURE(FileTest, "a disk that is full is an error, not a loop") {
  rlimit before{};
  REQUIRE(::getrlimit(RLIMIT_FSIZE, &before) == 0);
  const FilePtr opened = file("file", FileMode::CREATE);
  const rlimit small{100'000, before.rlim_max};
  std::signal(SIGXFSZ, SIG_IGN);
  REQUIRE(::setrlimit(RLIMIT_FSIZE, &small) == 0);
  const std::string data = numberedBytes(300'000);
  const Exception e = failureOf(opened->write(0, data), scope);
  ::setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, SIG_DFL);
  CHECK(isError(e, std::errc::file_too_large, "write \""));
}

TEST_CASE_FIXTURE(FileTest, "reading into nothing, and offsets that no file has, are refused") {
  disk.write("file", "12345");
  const FilePtr opened = file("file", FileMode::MODIFY);
  std::string buffer(4, '.');
  const std::uint64_t beyond = std::uint64_t(1) << 63;
  const std::function<void()> calls[] = {[&] { (void)opened->read(0, {}); },
                                         [&] { (void)opened->read(beyond, bufferOf(buffer)); },
                                         [&] { (void)opened->read(UINT64_MAX, bufferOf(buffer)); },
                                         [&] { (void)opened->write(beyond, "x"); },
                                         [&] { (void)opened->truncate(UINT64_MAX); }};
  for (const auto& call : calls) {
    const Exception e = thrownBy(call);
    CHECK((e.kind() == Exception::Kind::FAILED));
    CHECK(madeIn(e, "file_test.cc"));
  }
  CHECK(disk.read("file") == "12345");
}

// ---------------------------------------------------------------------------------------- directories

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
  CHECK(isError(failureOf(directory->walk(path("none"), 10), scope), std::errc::no_such_file_or_directory, "list \""));
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
    CHECK(madeIn(e, "file_test.cc"));
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

TEST_CASE_FIXTURE(FileTest, "a temporary file has no name, and is gone when it is closed") {
  const FilePtr temporary = directory->temporaryFile().wait(scope);
  CHECK(disk.count() == 0);
  temporary->write(0, "abc").wait(scope);
  CHECK(readAt(*temporary, 0, 9) == "abc");
  CHECK(temporary->stat().wait(scope).mode == 0600);
}

// ---------------------------------------------------------------------------------------- replacing

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

// ---------------------------------------------------------------------------------- symbolic links

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

// --------------------------------------------------------------------------------- ends and orders

TEST_CASE_FIXTURE(FileTest, "destroying a file rejects its pending operations with DISCONNECTED, at once") {
  disk.write("file", "12345");
  FilePtr opened = file("file", FileMode::MODIFY);
  std::string buffer(4, '.');
  BusyThreadPool busy(io);
  Promise<std::size_t> read = opened->read(0, bufferOf(buffer));
  Promise<void> write = opened->write(0, "x");
  Promise<std::uint64_t> size = opened->size();
  Promise<void> sync = opened->sync();
  REQUIRE(!read.poll(scope));
  opened.reset();
  for (const Exception& e : {failureOf(std::move(read), scope), failureOf(std::move(write), scope),
                             failureOf(std::move(size), scope), failureOf(std::move(sync), scope)}) {
    CHECK((e.kind() == Exception::Kind::DISCONNECTED));
    CHECK(contains(e.description(), "was destroyed"));
    CHECK(contains(e.description(), "the file \"" + disk.inside()));
  }
  CHECK(buffer == "....");
}

TEST_CASE_FIXTURE(FileTest, "destroying a directory rejects its pending operations; what it opened lives on") {
  disk.write("file", "12345");
  const FilePtr opened = file("file");
  disk.makeDirectory("sub");
  const DirectoryPtr sub = directory->openSubdir(path("sub")).wait(scope);
  {
    BusyThreadPool busy(io);
    Promise<FilePtr> opening = directory->openFile(path("file"));
    Promise<std::vector<WalkEntry>> walk = directory->walk(Path(), 10);
    REQUIRE(!opening.poll(scope));
    directory.reset();
    for (const Exception& e : {failureOf(std::move(opening), scope), failureOf(std::move(walk), scope)}) {
      CHECK((e.kind() == Exception::Kind::DISCONNECTED));
      CHECK(contains(e.description(), "the directory \""));
    }
  }
  CHECK(readAt(*opened, 0, 9) == "12345");
  CHECK(sub->list().wait(scope).empty());
}

TEST_CASE_FIXTURE(FileTest, "a result that is there outlives the directory and the file") {
  disk.write("file", "12345");
  Promise<FilePtr> opening = directory->openFile(path("file"));
  while (!opening.poll(scope)) step();
  directory.reset();
  FilePtr opened = std::move(opening).wait(scope);
  std::string buffer(4, '.');
  Promise<std::size_t> read = opened->read(1, bufferOf(buffer));
  while (!read.poll(scope)) step();
  opened.reset();
  CHECK(std::move(read).wait(scope) == 4);
  CHECK(buffer == "2345");
}

TEST_CASE_FIXTURE(FileTest, "a cancelled read leaves its buffer alone, whenever it is cancelled") {
  disk.write("file", numberedBytes(200'000));
  const FilePtr opened = file("file");
  for (int i = 0; i < 50; ++i) {
    auto buffer = std::make_unique<std::string>(200'000, '.');
    {
      const Promise<std::size_t> cancelled = opened->read(0, bufferOf(*buffer));
      if (i % 2 == 1) scope.poll();
    }
    buffer.reset(); // AddressSanitizer watches what a thread would do with it
  }
  CHECK((readAt(*opened, 0, 200'000) == numberedBytes(200'000)));
}

TEST_CASE_FIXTURE(FileTest, "a cancelled write reads its bytes no more, whenever it is cancelled") {
  const FilePtr opened = file("file", FileMode::CREATE);
  for (int i = 0; i < 50; ++i) {
    auto data = std::make_unique<std::string>(numberedBytes(200'000));
    {
      const Promise<void> cancelled = opened->write(0, *data);
      if (i % 2 == 1) scope.poll();
    }
    data.reset();
  }
  opened->sync().wait(scope);
  CHECK(areNumbered(disk.read("file")));
}

TEST_CASE_FIXTURE(FileTest, "files that were opened for nobody are closed again, whenever it was cancelled") {
  disk.write("file", "x");
  const std::size_t before = openDescriptors();
  for (int i = 0; i < 50; ++i) {
    const Promise<FilePtr> opening = directory->openFile(path("file"));
    const Promise<DirectoryPtr> sub = directory->openSubdir(Path());
    const Promise<FilePtr> temporary = directory->temporaryFile();
    if (i % 2 == 1) step();
  }
  for (int i = 0; i < 1000 && openDescriptors() != before; ++i) step(); // the pool closes in the background
  CHECK(openDescriptors() == before);
  CHECK(disk.count() == 1);
}

TEST_CASE("a context may go while operations run whose promises were dropped, and while others are queued") {
  TemporaryDirectory disk;
  const std::string data = numberedBytes(100'000);
  disk.write("file", data);
  for (int i = 0; i < 20; ++i) {
    IoTest test;
    const DirectoryPtr directory = openDirectory(test.io, disk.inside()).wait(test.scope);
    const FilePtr file = directory->openFile(path("file"), FileMode::MODIFY).wait(test.scope);
    std::string buffer(100'000, '.');
    for (int k = 0; k < 8; ++k) {
      const Promise<std::size_t> read = file->read(0, bufferOf(buffer));
      const Promise<void> write = file->write(0, data);
      const Promise<FilePtr> opening = directory->openFile(path("file"));
      const Promise<FilePtr> temporary = directory->temporaryFile();
      const Promise<std::vector<DirectoryEntry>> list = directory->list();
      if (i % 2 == 1) test.scope.poll();
    }
  }
  CHECK((disk.read("file") == data));
}

namespace {

Promise<void> everything(IoTest& test, std::string where) {
  const DirectoryPtr top = co_await openDirectory(test.io, where);
  co_await top->makeDirectory(path("sub")).catch_([](const Exception&) {}); // it may be there from the run before
  const DirectoryPtr sub = co_await top->openSubdir(path("sub"));
  const FilePtr file = co_await sub->openFile(path("file"), FileMode::REPLACE);
  const std::string data = numberedBytes(70'000);
  co_await file->write(0, data);
  std::string buffer(80'000, '.');
  const std::size_t size = co_await file->read(0, bufferOf(buffer));
  REQUIRE(size == 70'000);
  co_await file->sync();
  co_await file->truncate(10);
  const std::uint64_t cut = co_await file->size();
  REQUIRE(cut == 10);
  co_await sub->replaceFile(path("replaced"), "text");
  co_await sub->rename(path("replaced"), path("renamed"));
  const std::vector<DirectoryEntry> list = co_await sub->list();
  REQUIRE(list.size() == 2);
  const std::vector<WalkEntry> walk = co_await top->walk(Path(), 10);
  REQUIRE(walk.size() == 3);
  const FilePtr temporary = co_await sub->temporaryFile();
  const std::unique_ptr<AsyncOutputStream> output = newFileOutputStream(*temporary);
  const std::unique_ptr<AsyncInputStream> input = newFileInputStream(*temporary);
  co_await output->write(data);
  const std::string text = co_await input->readAllText(100'000);
  REQUIRE(text == data);
  const FilePtr copy = co_await sub->temporaryFile();
  const std::unique_ptr<AsyncInputStream> again = newFileInputStream(*temporary);
  const std::unique_ptr<AsyncOutputStream> to = newFileOutputStream(*copy);
  const std::uint64_t pumped = co_await again->pumpTo(*to);
  REQUIRE(pumped == 70'000);
  co_await sub->unlink(path("renamed"));
  co_await sub->unlink(path("file"));
  co_await top->removeDirectory(path("sub"));
}

} // namespace

TEST_CASE("every operation on files and directories can be cancelled at every step, and leaves nothing") {
  TemporaryDirectory disk;
  int run = 0;
  // A directory for each run: what a cancelled one had begun may still be done in the background.
  const std::size_t steps = cancelSweep([&](IoTest& test) {
    const std::string name = std::to_string(run++);
    disk.makeDirectory(name);
    return everything(test, disk.inside(name));
  });
  CHECK(steps > 20);
}

TEST_CASE("on a host's loop, what was begun ends after the context has gone, and everything is closed") {
  TemporaryDirectory disk;
  disk.write("file", numberedBytes(100'000));
  const NothingLeft nothingLeft;
  uv_loop_t loop;
  REQUIRE(uv_loop_init(&loop) == 0);
  {
    HostedAsyncIoContext io = setupAsyncIo(&loop);
    FilePtr file;
    std::string buffer(100'000, '.');
    Promise<void> opening = openDirectory(io, disk.inside())
                                .then([](DirectoryPtr top) { return top->openFile(path("file")).attach(std::move(top)); })
                                .then([&](FilePtr opened) { file = std::move(opened); })
                                .eagerlyEvaluate(nullptr);
    uv_run(&loop, UV_RUN_DEFAULT);
    REQUIRE(file != nullptr);
    const Promise<std::size_t> read = file->read(0, bufferOf(buffer));
    const Promise<void> sync = file->sync();
  }
  uv_run(&loop, UV_RUN_DEFAULT);
  CHECK(uv_loop_close(&loop) == 0);
}

// -------------------------------------------------------------------------------------------- streams

TEST_CASE_FIXTURE(FileTest, "a stream reads a file from an offset to its end, and then the end again and again") {
  disk.write("file", "0123456789");
  const FilePtr opened = file("file");
  const std::unique_ptr<AsyncInputStream> stream = newFileInputStream(*opened, 2);
  CHECK(stream->tryGetLength() == 8);
  std::string buffer(4, '.');
  CHECK(stream->tryRead(bufferOf(buffer), 1).wait(scope) == 4);
  CHECK(buffer == "2345");
  CHECK(stream->tryGetLength() == 4);
  CHECK(stream->tryReadChunk(3).wait(scope).text() == "678");
  buffer.assign(4, '.');
  CHECK(stream->tryRead(bufferOf(buffer), 4).wait(scope) == 1);
  CHECK(buffer == "9...");
  for (int i = 0; i < 2; ++i) {
    CHECK(stream->tryRead(bufferOf(buffer)).wait(scope) == 0);
    CHECK(stream->tryReadChunk().wait(scope).empty());
    CHECK(stream->tryGetLength() == 0);
  }
  const Exception e = failureOf(stream->read(bufferOf(buffer)), scope);
  CHECK((e.kind() == Exception::Kind::DISCONNECTED));
  CHECK(newFileInputStream(*opened, 100)->tryGetLength() == 0);
  CHECK(newFileInputStream(*opened, 100)->tryReadChunk().wait(scope).empty());
}

TEST_CASE_FIXTURE(FileTest, "a stream sees what is appended after it had met the end") {
  disk.write("file", "one");
  const FilePtr log = file("file", FileMode::APPEND);
  const FilePtr opened = file("file");
  const std::unique_ptr<AsyncInputStream> stream = newFileInputStream(*opened);
  CHECK(stream->readAllText(100).wait(scope) == "one");
  log->write(0, "two").wait(scope);
  CHECK(stream->readAllText(100).wait(scope) == "two");
}

TEST_CASE_FIXTURE(FileTest, "chunks have every byte in order, and at most their capacity") {
  const std::string data = numberedBytes(200'000);
  disk.write("file", data);
  const FilePtr opened = file("file");
  const std::unique_ptr<AsyncInputStream> stream = newFileInputStream(*opened);
  std::string got;
  std::vector<Chunk> kept;
  for (;;) {
    kept.push_back(stream->tryReadChunk().wait(scope));
    if (kept.back().empty()) break;
    CHECK(kept.back().size() <= Chunk::CAPACITY);
    got += kept.back().text();
  }
  CHECK((got == data));
  CHECK(kept.size() == 5);
}

TEST_CASE_FIXTURE(FileTest, "a read whose result nobody took has read nothing") {
  const std::string data = numberedBytes(100'000);
  disk.write("file", data);
  const FilePtr opened = file("file");
  const std::unique_ptr<AsyncInputStream> stream = newFileInputStream(*opened);
  std::string buffer(1000, '.');
  std::string got;
  for (int i = 0; got.size() < data.size(); ++i) {
    Promise<Chunk> untaken = stream->tryReadChunk(5000);
    if (i % 3 != 0)
      while (!untaken.poll(scope)) step(); // its result is there
    { const Promise<Chunk> gone = std::move(untaken); }
    {
      Promise<std::size_t> span = stream->tryRead(bufferOf(buffer), 1000);
      if (i % 3 != 1)
        while (!span.poll(scope)) step();
    }
    got += stream->tryReadChunk(5000).wait(scope).text();
  }
  CHECK((got == data));
}

TEST_CASE_FIXTURE(FileTest, "a time-out that races a read of a file costs no byte") {
  const std::string data = numberedBytes(300'000);
  disk.write("file", data);
  const FilePtr opened = file("file");
  const std::unique_ptr<AsyncInputStream> stream = newFileInputStream(*opened);
  std::string got;
  for (int i = 0;; ++i) {
    const Result<Chunk> chunk =
        io.timer().timeoutAfter(i % 2 == 0 ? 1us : 10ms, stream->tryReadChunk(3000)).asResult().wait(scope);
    if (!chunk) continue;
    if (chunk->empty()) break;
    got += chunk->text();
  }
  CHECK((got == data));
}

TEST_CASE_FIXTURE(FileTest, "one read, and one write, of a stream at a time") {
  disk.write("file", "0123456789");
  const FilePtr opened = file("file", FileMode::MODIFY);
  const std::unique_ptr<AsyncInputStream> input = newFileInputStream(*opened);
  const std::unique_ptr<AsyncOutputStream> output = newFileOutputStream(*opened);
  Promise<Chunk> read = input->tryReadChunk(3);
  Promise<void> write = output->write("abc");
  std::string buffer(4, '.');
  for (const std::function<void()>& call :
       {std::function<void()>([&] { (void)input->tryReadChunk(); }), std::function<void()>([&] { (void)input->tryRead(bufferOf(buffer)); }),
        std::function<void()>([&] { (void)input->pumpTo(*output); }), std::function<void()>([&] { (void)output->write("x"); })}) {
    const Exception e = thrownBy(call);
    CHECK((e.kind() == Exception::Kind::FAILED));
    CHECK(contains(e.description(), "pending"));
    CHECK(madeIn(e, "file_test.cc"));
  }
  std::move(write).wait(scope);
  std::move(read).wait(scope);
  output->write("def").wait(scope);
  CHECK(disk.read("file") == "abcdef6789");
}

TEST_CASE_FIXTURE(FileTest, "reads that make no sense are refused, with the numbers") {
  disk.write("file", "0123456789");
  const std::unique_ptr<AsyncInputStream> stream = newFileInputStream(*file("file"));
  std::string buffer(4, '.');
  CHECK(contains(thrownBy([&] { (void)stream->tryRead({}); }).description(), "buffer is empty"));
  CHECK(contains(thrownBy([&] { (void)stream->tryRead(bufferOf(buffer), 5); }).description(), "minBytes is 5"));
  CHECK(contains(thrownBy([&] { (void)stream->tryRead(bufferOf(buffer), 0); }).description(), "minBytes is 0"));
  CHECK(contains(thrownBy([&] { (void)stream->tryReadChunk(0); }).description(), "maxBytes is 0"));
  CHECK(stream->tryReadChunk().wait(scope).text() == "0123456789");
}

TEST_CASE_FIXTURE(FileTest, "a stream outlives its file, and each has its own position") {
  disk.write("file", "0123456789");
  FilePtr opened = file("file", FileMode::MODIFY);
  const std::unique_ptr<AsyncInputStream> one = newFileInputStream(*opened);
  const std::unique_ptr<AsyncInputStream> two = newFileInputStream(*opened, 5);
  const std::unique_ptr<AsyncOutputStream> out = newFileOutputStream(*opened, 1);
  opened.reset();
  CHECK(one->tryReadChunk(3).wait(scope).text() == "012");
  CHECK(two->tryReadChunk(3).wait(scope).text() == "567");
  out->write("ab").wait(scope);
  out->write("c").wait(scope);
  CHECK(one->tryReadChunk(3).wait(scope).text() == "c45");
  CHECK(disk.read("file") == "0abc456789");
}

TEST_CASE_FIXTURE(FileTest, "destroying a stream rejects what is pending on it, and a result that is there is kept") {
  disk.write("file", "0123456789");
  const FilePtr opened = file("file", FileMode::MODIFY);
  std::unique_ptr<AsyncInputStream> input = newFileInputStream(*opened);
  std::unique_ptr<AsyncOutputStream> output = newFileOutputStream(*opened);
  std::unique_ptr<AsyncInputStream> pumped = newFileInputStream(*opened);
  std::unique_ptr<AsyncInputStream> ready = newFileInputStream(*opened);
  const std::unique_ptr<AsyncOutputStream> sink = newFileOutputStream(*opened);
  Promise<Chunk> there = ready->tryReadChunk();
  while (!there.poll(scope)) step();
  ready.reset();
  CHECK(std::move(there).wait(scope).text() == "0123456789");
  BusyThreadPool busy(io);
  Promise<Chunk> read = input->tryReadChunk();
  Promise<void> write = output->write("x");
  Promise<std::uint64_t> pump = pumped->pumpTo(*sink);
  REQUIRE(!read.poll(scope));
  input.reset();
  output.reset();
  pumped.reset();
  for (const Exception& e : {failureOf(std::move(read), scope), failureOf(std::move(write), scope), failureOf(std::move(pump), scope)}) {
    CHECK((e.kind() == Exception::Kind::DISCONNECTED));
    CHECK(contains(e.description(), "was destroyed"));
  }
}

TEST_CASE_FIXTURE(FileTest, "a stream writes pieces of every size in order") {
  const FilePtr opened = file("file", FileMode::CREATE);
  const std::unique_ptr<AsyncOutputStream> stream = newFileOutputStream(*opened);
  std::string expected;
  for (const std::vector<std::size_t>& sizes : std::vector<std::vector<std::size_t>>{
           {}, {0, 0}, {1}, {3, 0, 5}, {65'535, 1}, {65'536, 1}, {65'535, 2, 0, 7}, {200'000, 1, 70'000}}) {
    std::vector<std::string> texts;
    for (const std::size_t size : sizes) {
      texts.push_back(numberedBytes(size, expected.size()));
      expected += texts.back();
    }
    std::vector<std::span<const std::byte>> pieces;
    for (const std::string& text : texts) pieces.push_back(asBytes(text));
    stream->write(pieces).wait(scope);
  }
  CHECK((disk.read("file") == expected));
}

// -------------------------------------------------------------------------------------------- pumping

TEST_CASE_FIXTURE(FileTest, "a file is pumped to a socket, whole or in part, and the stream goes on behind") {
  const std::string data = numberedBytes(500'000);
  disk.write("file", data);
  const FilePtr opened = file("file");
  const std::unique_ptr<AsyncInputStream> stream = newFileInputStream(*opened, 7);
  Pair pair = newPair(io);
  std::string expected = data.substr(7);
  for (const std::uint64_t amount : {std::uint64_t(0), std::uint64_t(1), std::uint64_t(65'536), std::uint64_t(65'537), ALL_BYTES}) {
    CAPTURE(amount);
    const std::size_t size = static_cast<std::size_t>(std::min<std::uint64_t>(amount, expected.size()));
    Promise<std::uint64_t> pump = stream->pumpTo(*pair.stream, amount).eagerlyEvaluate(nullptr);
    std::string got;
    while (got.size() < size) {
      step();
      got += pair.peer.receiveSome();
    }
    CHECK(std::move(pump).wait(scope) == size);
    CHECK((got == expected.substr(0, size)));
    expected.erase(0, size);
  }
  CHECK(expected.empty());
}

TEST_CASE_FIXTURE(FileTest, "an empty file, and no bytes of a file, pump nothing") {
  disk.write("empty", "");
  disk.write("file", "x");
  Pair pair = newPair(io);
  const FilePtr empty = file("empty");
  const FilePtr full = file("file");
  CHECK(newFileInputStream(*empty)->pumpTo(*pair.stream).wait(scope) == 0);
  CHECK(newFileInputStream(*full)->pumpTo(*pair.stream, 0).wait(scope) == 0);
  CHECK(!pair.peer.isReadable());
}

TEST_CASE_FIXTURE(FileTest, "a peer that goes ends the pump with its error") {
  disk.write("file", numberedBytes(4'000'000));
  const FilePtr opened = file("file");
  const std::unique_ptr<AsyncInputStream> stream = newFileInputStream(*opened);
  Pair pair = newTcpPair(io);
  Promise<std::uint64_t> pump = stream->pumpTo(*pair.stream);
  REQUIRE(!pump.poll(scope));
  pair.peer.reset();
  CHECK((failureOf(std::move(pump), scope).kind() == Exception::Kind::DISCONNECTED));
}

TEST_CASE_FIXTURE(FileTest, "a pump holds two chunks, however large the file and slow the peer") {
  disk.write("file", numberedBytes(8'000'000));
  const FilePtr opened = file("file");
  const std::unique_ptr<AsyncInputStream> stream = newFileInputStream(*opened);
  Pair pair = newPair(io);
  const std::int64_t before = detail::liveBlocks();
  const Promise<std::uint64_t> pump = stream->pumpTo(*pair.stream);
  for (int i = 0; i < 200; ++i) opened->size().wait(scope); // the pool has time enough for what is wrong
  CHECK(detail::liveBlocks() - before < 20);
}

TEST_CASE_FIXTURE(FileTest, "a socket is pumped to a file") {
  const FilePtr opened = file("file", FileMode::CREATE);
  const std::unique_ptr<AsyncOutputStream> output = newFileOutputStream(*opened);
  StreamPair pair = newStreamPair(io);
  const std::string data = numberedBytes(300'000);
  Promise<void> sender = pair.left->write(data).then([&] { pair.left->shutdownWrite(); }).eagerlyEvaluate(nullptr);
  CHECK(pair.right->pumpTo(*output).wait(scope) == data.size());
  CHECK((disk.read("file") == data));
}

TEST_CASE("a pump of a file can be cancelled at every step") {
  TemporaryDirectory disk;
  disk.write("file", numberedBytes(300'000));
  cancelSweep([&](IoTest& test) {
    return coCapture([&]() -> Promise<void> {
      const DirectoryPtr directory = co_await openDirectory(test.io, disk.inside());
      const FilePtr file = co_await directory->openFile(path("file"));
      const std::unique_ptr<AsyncInputStream> stream = newFileInputStream(*file);
      const StreamPair pair = newStreamPair(test.io);
      Promise<std::string> received = pair.right->readAllText(1'000'000).eagerlyEvaluate(nullptr);
      const std::uint64_t size = co_await stream->pumpTo(*pair.left);
      pair.left->shutdownWrite();
      const std::string text = co_await std::move(received);
      REQUIRE(size == 300'000);
      REQUIRE(areNumbered(text));
    })();
  });
}
