// SPDX-License-Identifier: MIT
// Tests of opening files, of what they do and refuse, and that nothing is touched or left when promises, files and
// contexts go at any moment.
#include "file_fixture.h"

#include <chrono>
#include <csignal>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include <sys/resource.h>
#include <uv.h>

using namespace troth;
using namespace troth::test;
using namespace std::chrono_literals;

// --------------------------------------------------------------------------------------------- opening

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

TEST_CASE_FIXTURE(FileTest, "permissions that are none are refused, with the number") {
  const std::pair<std::string_view, std::function<void()>> calls[] = {
      {"Directory::openFile: the permissions are 0100644",
       [&] { (void)directory->openFile(path("file"), FileMode::CREATE, 0100644); }},
      {"Directory::makeDirectory: the permissions are 010000", [&] { (void)directory->makeDirectory(path("sub"), 010000); }}};
  for (const auto& [reason, call] : calls) {
    const Exception e = thrownBy(call);
    CHECK(contains(e.description(), reason));
    CHECK(madeIn(e, "file_test.cc"));
  }
  directory->makeDirectory(path("sub"), 07777).wait(scope);
  CHECK(disk.count() == 1);
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

// --------------------------------------------------------------------------------- reading and writing

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

TEST_CASE_FIXTURE(FileTest, "an error behind what can be read is an error, not the end of the file") {
  const HalfReadable half(disk);
  const FilePtr memory = openDirectory(io, "/proc/self").wait(scope)->openFile(path("mem")).wait(scope);
  std::string buffer(2 * half.size, '.');
  CHECK(isError(failureOf(memory->read(half.offset(), bufferOf(buffer)), scope), std::errc::io_error, "read \""));
  CHECK((readAt(*memory, half.offset(), half.size) == std::string(half.size, 'x')));
}

TEST_CASE_FIXTURE(FileTest, "offsets and sizes may be beyond 4 GiB") {
  const std::uint64_t far = std::uint64_t(5) << 30;
  const FilePtr opened = file("file", FileMode::CREATE);
  opened->write(far, "abc").wait(scope);
  CHECK(opened->size().wait(scope) == far + 3);
  CHECK(readAt(*opened, far, 9) == "abc");
  CHECK(readAt(*opened, far - 2, 3) == std::string("\0\0a", 3));
  const std::unique_ptr<AsyncInputStream> input = newFileInputStream(*opened, far + 1);
  CHECK(input->tryGetLength() == 2);
  CHECK(input->tryReadChunk().wait(scope).text() == "bc");
  newFileOutputStream(*opened, far + 3)->write("def").wait(scope);
  CHECK(directory->stat(path("file")).wait(scope).size == far + 6);
  opened->truncate(far + 1).wait(scope);
  CHECK(readAt(*opened, far, 9) == "a");
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

TEST_CASE_FIXTURE(FileTest, "a file may be dated beyond what the clock has") {
  using Time = std::chrono::system_clock::time_point;
  disk.write("file", "");
  const FilePtr opened = file("file");
  for (const auto& [seconds, expected] : {std::pair(std::int64_t(10'000'000'000), Time::max()), // in the year 2286
                                          std::pair(std::int64_t(-1), Time(-500ms))}) {
    const timespec times[] = {{0, 0}, {static_cast<time_t>(seconds), 500'000'000}};
    REQUIRE(::utimensat(AT_FDCWD, disk.inside("file").c_str(), times, 0) == 0);
    struct stat stored {};
    REQUIRE(::stat(disk.inside("file").c_str(), &stored) == 0);
    if (stored.st_mtim.tv_sec != seconds) {
      MESSAGE("this file system does not keep such a time");
      continue;
    }
    CHECK((opened->stat().wait(scope).modified == expected));
  }
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
  const std::pair<std::string_view, std::function<void()>> calls[] = {
      {"File::read: the buffer is empty", [&] { (void)opened->read(0, {}); }},
      {"File::read: the offset is 9223372036854775808", [&] { (void)opened->read(beyond, bufferOf(buffer)); }},
      {"File::read: the offset is 18446744073709551615", [&] { (void)opened->read(UINT64_MAX, bufferOf(buffer)); }},
      {"File::write: the offset is 9223372036854775808", [&] { (void)opened->write(beyond, "x"); }},
      {"File::truncate: the size is 18446744073709551615", [&] { (void)opened->truncate(UINT64_MAX); }},
      {"read: the offset is 9223372036854775808", [&] { (void)newFileInputStream(*opened, beyond)->tryReadChunk(); }}};
  for (const auto& [reason, call] : calls) {
    const Exception e = thrownBy(call);
    CHECK((e.kind() == Exception::Kind::FAILED));
    CHECK(contains(e.description(), reason));
    CHECK(madeIn(e, "file_test.cc"));
  }
  CHECK(disk.read("file") == "12345");
}

// ------------------------------------------------------------------------------------- ends and orders

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
  { BusyThreadPool nothingIsQueued(io); }
  scope.poll(); // here they are closed
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
