// SPDX-License-Identifier: MIT
// Files and directories by jobs in libuv's thread pool.
//
// Every operation is one Job: a function that blocks, run by a thread of the pool, with all the memory that it works
// on. libuv can take back a job that no thread has begun; any other outlives its promise, ends in the background and
// frees itself, and what it has opened is closed again. So no thread ever sees memory of a caller: a read goes to a
// block of the job and is copied when its promise goes on, a write copies first, both 64 KiB at a time.
//
// Jobs are uv_queue_work's, and call libuv's uv_fs_* without a callback, which makes them block: that is the same pool
// and the same system calls as uv_fs_* with one. But libuv has none of the *at() calls on which Directory stands, and a
// job may make several calls in one trip: find the parent and unlink, or write a file, sync it and rename it.
//
// An Opened is the descriptor, shared by a File or Directory, its streams and its jobs: it is closed, by one more job,
// when the last of them goes. So no job can meet a descriptor that has been closed and given to somebody else.
#include <troth/io/file.h>

#include <troth/io/async_io.h>
#include <troth/io/beneath_detail.h>
#include <troth/runtime/canceler.h>
#include <troth/runtime/pool_detail.h>
#include <troth/runtime/quote_detail.h>
#include <troth/runtime/uv/uv_error.h>
#include <troth/runtime/uv/uv_event_port.h>

#include <fmt/format.h>
#include <uv.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <limits>
#include <utility>

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace troth {
inline namespace v0 {
namespace {

using detail::Descriptor;
using detail::openBeneath;

// ---------------------------------------------------------------------------------------- descriptors

enum class Writing : std::uint8_t { AT_OFFSET, AT_END };

/// Closes a descriptor in the pool, since that may wait for a disk or a server.
void closeInBackground(uv_loop_t* loop, Descriptor fd) noexcept {
  struct Closing : detail::Pooled {
    uv_work_t request;
    Descriptor fd;
  };
  try {
    auto closing = std::make_unique<Closing>();
    closing->request.data = closing.get();
    closing->fd = std::move(fd);
    const int status = uv_queue_work(
        loop, &closing->request, [](uv_work_t* request) { static_cast<Closing*>(request->data)->fd = Descriptor(); },
        [](uv_work_t* request, int) { delete static_cast<Closing*>(request->data); });
    if (status == 0) closing.release();
  } catch (const std::bad_alloc&) {
    // `fd` closes it here.
  }
}

struct Opened {
  Opened(uv_loop_t* l, Descriptor d, std::string n, Writing w = Writing::AT_OFFSET)
      : loop(l), fd(std::move(d)), name(std::move(n)), writing(w) {}
  Opened(const Opened&) = delete;
  Opened& operator=(const Opened&) = delete;
  ~Opened() {
    if (fd.get() >= 0) closeInBackground(loop, std::move(fd));
  }

  uv_loop_t* loop;
  Descriptor fd;
  std::string name; // for errors
  Writing writing;

  std::string nameOf(const Path& path) const {
    return path.isSelf() ? name : fmt::format("{}{}{}", name, name.ends_with('/') ? "" : "/", path.toString());
  }
};

using OpenedPtr = std::shared_ptr<Opened>;

// ----------------------------------------------------------------------------------------------- jobs

template <typename Result>
class JobAdapter;

/// What a thread of the pool does for a promise.
template <typename Result>
struct Job : detail::Pooled {
  Job(std::string what, OpenedPtr where, Path p, detail::FixVoid<Result> r)
      : operation(std::move(what)), at(std::move(where)), path(std::move(p)), result(std::move(r)) {}
  virtual ~Job() = default;

  /// Fills `result`, and gives a status of libuv. In a thread of the pool.
  virtual int run() = 0;

  uv_work_t request;
  std::string operation;
  OpenedPtr at;
  Path path;
  detail::FixVoid<Result> result;
  int status = 0;
  JobAdapter<Result>* adapter = nullptr; // null once nobody wants the result
};

template <typename Result>
class JobAdapter {
public:
  JobAdapter(PromiseFulfiller<Result>& fulfiller, std::unique_ptr<Job<Result>> job, std::source_location where)
      : fulfiller_(fulfiller), where_(where) {
    job->adapter = this;
    job->request.data = job.get();
    const int status = uv_queue_work(job->at->loop, &job->request, &JobAdapter::run, &JobAdapter::finish);
    if (status < 0) throw exceptionFor(*job, status);
    job_ = job.release();
  }

  ~JobAdapter() {
    if (job_ == nullptr) return;
    job_->adapter = nullptr;
    // Works only while no thread has begun it; the callback comes in both cases.
    uv_cancel(reinterpret_cast<uv_req_t*>(&job_->request));
  }

private:
  PromiseFulfiller<Result>& fulfiller_;
  std::source_location where_;
  Job<Result>* job_ = nullptr;

  static void run(uv_work_t* request) noexcept {
    auto& job = *static_cast<Job<Result>*>(request->data);
    try {
      job.status = job.run();
    } catch (...) { // std::bad_alloc: nothing else is thrown there
      job.status = UV_ENOMEM;
    }
  }

  static void finish(uv_work_t* request, int status) noexcept {
    const std::unique_ptr<Job<Result>> job(static_cast<Job<Result>*>(request->data));
    if (status == 0) status = job->status;
    if (job->adapter != nullptr) job->adapter->onFinished(*job, status);
  }

  Exception exceptionFor(const Job<Result>& job, int status) const {
    return uvException(status, fmt::format("{} {}", job.operation, detail::quote(job.at->nameOf(job.path))), where_);
  }

  void onFinished(Job<Result>& job, int status) noexcept {
    job_ = nullptr;
    if (EventLoop::currentOrNull() == nullptr) return; // the context is being destroyed: nobody can wait any more
    fulfiller_.rejectIfThrows([&] {
      if (status < 0) throw exceptionFor(job, status);
      if constexpr (std::is_void_v<Result>)
        fulfiller_.fulfill();
      else
        fulfiller_.fulfill(std::move(job.result));
    });
  }
};

/// Runs `work(at, path, result)`, or without a `result` if that is void, in a thread of the pool. It must own what it
/// works with. `operation` is for errors.
template <typename Result, typename Work>
Promise<Result> inPool(std::string operation, OpenedPtr at, Path path, std::source_location where, Work work,
                       detail::FixVoid<Result> result = {}) {
  struct WorkJob final : Job<Result> {
    WorkJob(std::string what, OpenedPtr opened, Path p, detail::FixVoid<Result> r, Work&& w)
        : Job<Result>(std::move(what), std::move(opened), std::move(p), std::move(r)), work(std::move(w)) {}
    int run() override {
      if constexpr (std::is_void_v<Result>)
        return work(*this->at, this->path);
      else
        return work(*this->at, this->path, this->result);
    }
    Work work;
  };
  return newAdaptedPromise<Result, JobAdapter<Result>>(
      std::unique_ptr<Job<Result>>(std::make_unique<WorkJob>(std::move(operation), std::move(at), std::move(path),
                                                             std::move(result), std::move(work))),
      where);
}

// ------------------------------------------------------------------------------------ in the pool
//
// A status is 0 or more, or one of libuv's codes, which on Unix are negated errnos.

int lastError() noexcept { return uv_translate_sys_error(errno); }
int statusOf(int result) noexcept { return result < 0 ? lastError() : 0; }

/// Lets `call(request)` call one of libuv's uv_fs_* without a callback, and gives the result.
template <typename Call>
ssize_t blocking(Call&& call) {
  uv_fs_t request;
  call(&request);
  const ssize_t result = request.result;
  uv_fs_req_cleanup(&request);
  return result;
}

FileType typeOf(std::uint64_t mode) noexcept {
  switch (mode & S_IFMT) {
  case S_IFREG:
    return FileType::REGULAR;
  case S_IFDIR:
    return FileType::DIRECTORY;
  case S_IFLNK:
    return FileType::SYMLINK;
  default:
    return FileType::OTHER;
  }
}

int getInfo(int fd, FileInfo& info) {
  return static_cast<int>(blocking([&](uv_fs_t* request) {
    if (uv_fs_fstat(nullptr, request, fd, nullptr) < 0) return;
    const uv_stat_t& stat = request->statbuf;
    using std::chrono::system_clock;
    const auto sinceEpoch = std::chrono::seconds(stat.st_mtim.tv_sec) + std::chrono::nanoseconds(stat.st_mtim.tv_nsec);
    info.type = typeOf(stat.st_mode);
    info.size = stat.st_size;
    info.modified = system_clock::time_point(std::chrono::duration_cast<system_clock::duration>(sinceEpoch));
    info.mode = static_cast<unsigned>(stat.st_mode & 07777);
  }));
}

int sync(int fd) {
  return static_cast<int>(blocking([&](uv_fs_t* request) { uv_fs_fsync(nullptr, request, fd, nullptr); }));
}

uv_buf_t asUvBuffer(std::span<const std::byte> bytes) noexcept {
  // libuv does not write through the pointer; its buffer type serves both directions.
  return uv_buf_init(reinterpret_cast<char*>(const_cast<std::byte*>(bytes.data())),
                     static_cast<unsigned>(bytes.size()));
}

/// Fills `buffer` from `offset` on as far as the file goes. Gives the number of bytes, or a status.
ssize_t readBlocking(int fd, std::int64_t offset, std::span<std::byte> buffer) {
  std::size_t filled = 0;
  while (filled < buffer.size()) {
    const uv_buf_t rest = asUvBuffer(buffer.subspan(filled));
    const ssize_t count = blocking([&](uv_fs_t* request) {
      uv_fs_read(nullptr, request, fd, &rest, 1, offset + static_cast<std::int64_t>(filled), nullptr);
    });
    if (count == UV_EINTR) continue; // the one call that libuv does not repeat
    if (count < 0 && filled == 0) return count;
    if (count <= 0) break; // what was read counts; should it be an error, the next read meets it again
    filled += static_cast<std::size_t>(count);
  }
  return static_cast<ssize_t>(filled);
}

/// Writes all of `bytes`. Gives a status.
int writeBlocking(int fd, Writing writing, std::int64_t offset, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const std::size_t size = std::min(bytes.size(), std::size_t(1) << 30); // libuv's sizes are ints in places
    const uv_buf_t buffer = asUvBuffer(bytes.first(size));
    const ssize_t count = blocking([&](uv_fs_t* request) {
      uv_fs_write(nullptr, request, fd, &buffer, 1, writing == Writing::AT_END ? -1 : offset, nullptr);
    });
    if (count < 0) return static_cast<int>(count);
    if (count == 0) return UV_EIO;
    bytes = bytes.subspan(static_cast<std::size_t>(count));
    offset += count;
  }
  return 0;
}

int flagsOf(FileMode mode) noexcept {
  switch (mode) {
  case FileMode::READ:
    return O_RDONLY;
  case FileMode::MODIFY:
    return O_RDWR;
  case FileMode::CREATE:
    return O_RDWR | O_CREAT;
  case FileMode::CREATE_NEW:
    return O_RDWR | O_CREAT | O_EXCL;
  case FileMode::REPLACE:
    return O_RDWR | O_CREAT | O_TRUNC;
  case FileMode::APPEND:
    return O_WRONLY | O_CREAT | O_APPEND;
  }
  detail::fatal("a FileMode that is none");
}

int openRegular(int directory, const Path& path, int flags, unsigned permissions, Symlinks symlinks,
                Descriptor& result) {
  // Without O_NONBLOCK a FIFO would block the thread until somebody opens its other end.
  Descriptor opened(openBeneath(directory, path.toString(), flags | O_NONBLOCK | O_NOCTTY, permissions, symlinks));
  if (opened.get() < 0) return opened.get();
  FileInfo info{};
  if (const int status = getInfo(opened.get(), info); status < 0) return status;
  if (info.type == FileType::DIRECTORY) return UV_EISDIR;
  if (info.type != FileType::REGULAR) return UV_ESPIPE;
  result = std::move(opened);
  return 0;
}

/// Opens what is only a place: to ask or to go on from.
int openPlace(int directory, const Path& path, int flags, Symlinks symlinks, Descriptor& result) {
  result = Descriptor(openBeneath(directory, path.toString(), flags, 0, symlinks));
  return std::min(result.get(), 0);
}

/// Calls `call(parent, name)`, which gives a status, for the directory and the name of an entry.
template <typename Call>
int atParent(const Opened& at, const Path& path, Symlinks symlinks, Call&& call) {
  Descriptor parent;
  const int status = openPlace(at.fd.get(), path.parent(), detail::PLACE_OF_DIRECTORY, symlinks, parent);
  return status < 0 ? status : call(parent.get(), std::string(path.basename()).c_str());
}

struct CloseDir {
  void operator()(DIR* directory) const noexcept { ::closedir(directory); }
};

FileType typeOf(int directory, const dirent& entry) noexcept {
#ifdef DT_UNKNOWN
  if (entry.d_type != DT_UNKNOWN) return typeOf(std::uint64_t(entry.d_type) << 12); // as DTTOIF does
#endif
  struct stat info {};
  if (::fstatat(directory, entry.d_name, &info, AT_SYMLINK_NOFOLLOW) != 0) return FileType::OTHER; // it has vanished
  return typeOf(info.st_mode);
}

/// Lists a directory, or `most` entries of it, sorted by name.
int listBlocking(const Opened& at, const Path& path, Symlinks symlinks, std::size_t most,
                 std::vector<DirectoryEntry>& result) {
  Descriptor fd;
  const int status = openPlace(at.fd.get(), path, O_RDONLY | O_DIRECTORY, symlinks, fd);
  if (status < 0) return status;
  const std::unique_ptr<DIR, CloseDir> directory(::fdopendir(fd.get()));
  if (directory == nullptr) return lastError();
  const int listed = fd.release();
  while (result.size() < most) {
    errno = 0;
    const dirent* entry = ::readdir(directory.get());
    if (entry == nullptr && errno != 0) return lastError();
    if (entry == nullptr) break;
    const std::string_view name = entry->d_name;
    if (name != "." && name != "..") result.push_back({std::string(name), typeOf(listed, *entry)});
  }
  std::sort(result.begin(), result.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  return 0;
}

/// Makes a file with a name that nothing has yet.
int makeTemporary(int directory, unsigned permissions, std::string& name, Descriptor& result) {
  constexpr int TRIES = 100;
  for (int tries = 0; tries < TRIES; ++tries) {
    std::uint64_t number = 0;
    if (const int status = uv_random(nullptr, nullptr, &number, sizeof number, 0, nullptr); status < 0) return status;
    name = fmt::format(".troth-{:016x}", number);
    result =
        Descriptor(::openat(directory, name.c_str(), O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, permissions));
    if (result.get() >= 0) return 0;
    if (errno != EEXIST && errno != EINTR) return lastError();
  }
  return UV_EEXIST;
}

int makeAnonymous(int directory, Descriptor& result) {
#ifdef O_TMPFILE
  result = Descriptor(::openat(directory, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  if (result.get() >= 0) return 0;
#endif
  // A file system that cannot do it says so in one of several ways; any other error comes again here.
  std::string name;
  if (const int status = makeTemporary(directory, 0600, name, result); status < 0) return status;
  return statusOf(::unlinkat(directory, name.c_str(), 0));
}

int syncDirectory(int directory) {
  const Descriptor readable(::openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (readable.get() < 0) return lastError();
  const int status = sync(readable.get());
  return status == UV_EINVAL ? 0 : status; // there are file systems that cannot
}

int writeReplacement(int directory, int fd, const char* from, const char* to, std::span<const std::byte> contents) {
  if (const int status = writeBlocking(fd, Writing::AT_OFFSET, 0, contents); status < 0) return status;
  if (const int status = sync(fd); status < 0) return status;
  return statusOf(::renameat(directory, from, directory, to));
}

int replaceBlocking(int directory, const char* name, std::span<const std::byte> contents) {
  struct stat old {};
  const bool exists = ::fstatat(directory, name, &old, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(old.st_mode);
  std::string temporary;
  Descriptor fd;
  if (const int made = makeTemporary(directory, exists ? 0600 : 0666, temporary, fd); made < 0) return made;
  int status = exists ? statusOf(::fchmod(fd.get(), old.st_mode & 0777)) : 0;
  if (status == 0) status = writeReplacement(directory, fd.get(), temporary.c_str(), name, contents);
  if (status == 0) return syncDirectory(directory);
  ::unlinkat(directory, temporary.c_str(), 0);
  return status;
}

// ------------------------------------------------------------------------------- reading and writing

/// A block of the pool, for bytes on their way.
class Block {
public:
  Block() noexcept = default;
  explicit Block(std::size_t size) : bytes_(static_cast<std::byte*>(detail::allocate(size))), allocated_(size) {}
  Block(Block&& other) noexcept
      : bytes_(std::exchange(other.bytes_, nullptr)), allocated_(other.allocated_), size_(other.size_) {}
  Block& operator=(Block&&) = delete;
  ~Block() {
    if (bytes_ != nullptr) detail::deallocate(bytes_, allocated_);
  }

  std::span<std::byte> room() const noexcept { return std::span(bytes_, allocated_).subspan(size_); }
  std::span<const std::byte> bytes() const noexcept { return {bytes_, size_}; }
  void grow(std::size_t count) noexcept { size_ += count; }

  Chunk toChunk() && noexcept {
    return size_ == 0 ? Chunk() : Chunk::adopt(std::exchange(bytes_, nullptr), size_, allocated_);
  }

private:
  std::byte* bytes_ = nullptr;
  std::size_t allocated_ = 0;
  std::size_t size_ = 0;
};

// A negative offset would be the descriptor's own position.
std::int64_t checkedOffset(std::uint64_t offset, std::source_location where) {
  if (offset > std::uint64_t(std::numeric_limits<std::int64_t>::max()))
    detail::throwMisuse(fmt::format("the offset {} is beyond what a file can have", offset), where);
  return static_cast<std::int64_t>(offset);
}

/// Reads at most `size` bytes (1 to CAPACITY); fewer only at the end of the file.
Promise<Block> readBlock(OpenedPtr file, std::uint64_t offset, std::size_t size, std::source_location where) {
  auto work = [from = checkedOffset(offset, where)](const Opened& at, const Path&, Block& block) {
    const ssize_t count = readBlocking(at.fd.get(), from, block.room());
    if (count > 0) block.grow(static_cast<std::size_t>(count));
    return static_cast<int>(count);
  };
  return inPool<Block>("read", std::move(file), {}, where, work, Block(size));
}

Promise<Chunk> readChunk(OpenedPtr file, std::uint64_t offset, std::size_t maxBytes, std::source_location where) {
  return readBlock(std::move(file), offset, std::min(maxBytes, Chunk::CAPACITY), where).then([](Block block) {
    return std::move(block).toChunk();
  });
}

Promise<std::size_t> readFully(OpenedPtr file, std::uint64_t offset, std::span<std::byte> buffer,
                               std::source_location where) {
  std::size_t filled = 0;
  while (filled < buffer.size()) {
    const std::size_t size = std::min(buffer.size() - filled, Chunk::CAPACITY);
    const Block block = co_await readBlock(file, offset + filled, size, where);
    if (!block.bytes().empty()) std::memcpy(buffer.data() + filled, block.bytes().data(), block.bytes().size());
    filled += block.bytes().size();
    if (block.bytes().size() < size) break;
  }
  co_return filled;
}

/// Moves as much as fits from the front of `pieces`, of which none is left empty, to a block.
Block takeBlock(std::vector<std::span<const std::byte>>& pieces) {
  std::size_t total = 0;
  for (const auto& piece : pieces) total += std::min(piece.size(), Chunk::CAPACITY - total);
  Block block(total);
  auto piece = pieces.begin();
  while (!block.room().empty()) {
    const std::size_t size = std::min(piece->size(), block.room().size());
    std::memcpy(block.room().data(), piece->data(), size);
    block.grow(size);
    *piece = piece->subspan(size);
    if (piece->empty()) ++piece;
  }
  pieces.erase(pieces.begin(), piece);
  return block;
}

Promise<void> writeFully(OpenedPtr file, std::uint64_t offset, std::vector<std::span<const std::byte>> pieces,
                         std::source_location where) {
  std::erase_if(pieces, [](const auto& piece) { return piece.empty(); });
  while (!pieces.empty()) {
    Block block = takeBlock(pieces);
    const std::int64_t to = checkedOffset(offset, where);
    offset += block.bytes().size();
    auto work = [to, block = std::move(block)](const Opened& at, const Path&) {
      return writeBlocking(at.fd.get(), at.writing, to, block.bytes());
    };
    co_await inPool<void>("write", file, Path(), where, std::move(work));
  }
}

// The system would take what is before it.
void requireNoNul(std::string_view operation, std::string_view text, std::source_location where) {
  if (text.find('\0') != std::string_view::npos)
    detail::throwMisuse(fmt::format("{}: {} has a NUL byte", operation, detail::quote(text)), where);
}

Exception destroyed(std::string_view what, const Opened& opened) {
  return Exception(
      Exception::Kind::DISCONNECTED,
      fmt::format("the {} {} was destroyed while an operation on it was pending", what, detail::quote(opened.name)));
}

} // namespace

// ----------------------------------------------------------------------------------------------- File

struct File::Parts : detail::Pooled {
  explicit Parts(OpenedPtr o) noexcept : opened(std::move(o)) {}
  ~Parts() {
    if (!canceler.isEmpty()) canceler.cancel(destroyed("file", *opened));
  }

  OpenedPtr opened;
  Canceler canceler;

  template <typename Result, typename Work>
  Promise<Result> run(const char* operation, std::source_location where, Work work) {
    return canceler.wrap(inPool<Result>(operation, opened, {}, where, std::move(work)), where);
  }
};

File::File(std::unique_ptr<Parts> parts) noexcept : parts_(std::move(parts)) {}
File::~File() = default;

Promise<std::size_t> File::read(std::uint64_t offset, std::span<std::byte> buffer, std::source_location where) {
  if (buffer.empty())
    detail::throwMisuse("File::read: the buffer is empty, so a result of 0 would not mean the end of the file", where);
  checkedOffset(offset, where);
  return parts_->canceler.wrap(readFully(parts_->opened, offset, buffer, where), where);
}

Promise<void> File::write(std::uint64_t offset, std::span<const std::byte> bytes, std::source_location where) {
  checkedOffset(offset, where);
  return parts_->canceler.wrap(writeFully(parts_->opened, offset, {bytes}, where), where);
}

Promise<FileInfo> File::stat(std::source_location where) {
  return parts_->run<FileInfo>(
      "stat", where, [](const Opened& at, const Path&, FileInfo& info) { return getInfo(at.fd.get(), info); });
}

Promise<std::uint64_t> File::size(std::source_location where) {
  return stat(where).then([](const FileInfo& info) { return info.size; });
}

Promise<void> File::sync(std::source_location where) {
  return parts_->run<void>("sync", where, [](const Opened& at, const Path&) { return v0::sync(at.fd.get()); });
}

Promise<void> File::dataSync(std::source_location where) {
  return parts_->run<void>("sync", where, [](const Opened& at, const Path&) {
    return static_cast<int>(blocking([&](uv_fs_t* r) { uv_fs_fdatasync(nullptr, r, at.fd.get(), nullptr); }));
  });
}

Promise<void> File::truncate(std::uint64_t size, std::source_location where) {
  return parts_->run<void>("truncate", where, [to = checkedOffset(size, where)](const Opened& at, const Path&) {
    return static_cast<int>(blocking([&](uv_fs_t* r) { uv_fs_ftruncate(nullptr, r, at.fd.get(), to, nullptr); }));
  });
}

// ------------------------------------------------------------------------------------------ Directory

struct Directory::Parts : detail::Pooled {
  Parts(OpenedPtr o, Symlinks s) noexcept : opened(std::move(o)), symlinks(s) {}
  ~Parts() {
    if (!canceler.isEmpty()) canceler.cancel(destroyed("directory", *opened));
  }

  OpenedPtr opened;
  Symlinks symlinks;
  Canceler canceler;

  template <typename Result, typename Work>
  Promise<Result> run(std::string operation, Path path, std::source_location where, Work work) {
    return canceler.wrap(inPool<Result>(std::move(operation), opened, std::move(path), where, std::move(work)), where);
  }

  /// The same for work(parent, name) on an entry.
  template <typename Work>
  Promise<void> runAtParent(std::string operation, Path path, std::source_location where, Work work) {
    requireEntry(operation, path, where);
    return run<void>(std::move(operation), std::move(path), where,
                     [symlinks = symlinks, work = std::move(work)](const Opened& at, const Path& entry) {
                       return atParent(at, entry, symlinks, work);
                     });
  }

  static void requireEntry(std::string_view operation, const Path& path, std::source_location where) {
    if (path.isSelf())
      detail::throwMisuse(fmt::format("{}: the path is \".\", but must name something in the directory", operation),
                          where);
  }
};

Directory::Directory(std::unique_ptr<Parts> parts) noexcept : parts_(std::move(parts)) {}
Directory::~Directory() = default;

Promise<std::unique_ptr<File>> Directory::openFile(Path path, FileMode mode, unsigned permissions,
                                                   std::source_location where) {
  auto work = [flags = flagsOf(mode), permissions, symlinks = parts_->symlinks](const Opened& at, const Path& file,
                                                                                Descriptor& result) {
    return openRegular(at.fd.get(), file, flags, permissions, symlinks, result);
  };
  const Writing writing = mode == FileMode::APPEND ? Writing::AT_END : Writing::AT_OFFSET;
  std::string name = parts_->opened->nameOf(path);
  return parts_->run<Descriptor>("open", std::move(path), where, work)
      .then([loop = parts_->opened->loop, writing, name = std::move(name)](Descriptor fd) {
        auto opened = std::make_shared<Opened>(loop, std::move(fd), name, writing);
        return std::unique_ptr<File>(new File(std::make_unique<File::Parts>(std::move(opened))));
      });
}

Promise<std::unique_ptr<File>> Directory::tryOpenFile(Path path, FileMode mode, std::source_location where) {
  return openFile(std::move(path), mode, 0666, where).catch_([](const Exception& e) -> std::unique_ptr<File> {
    if (e.code() == std::errc::no_such_file_or_directory) return nullptr;
    e.rethrow();
  });
}

Promise<std::unique_ptr<File>> Directory::temporaryFile(std::source_location where) {
  auto work = [](const Opened& at, const Path&, Descriptor& result) { return makeAnonymous(at.fd.get(), result); };
  return parts_->run<Descriptor>("make a temporary file in", {}, where, work)
      .then([loop = parts_->opened->loop, name = parts_->opened->name](Descriptor fd) {
        auto opened = std::make_shared<Opened>(loop, std::move(fd), fmt::format("a temporary file in {}", name));
        return std::unique_ptr<File>(new File(std::make_unique<File::Parts>(std::move(opened))));
      });
}

Promise<std::unique_ptr<Directory>> Directory::openSubdir(Path path, std::source_location where) {
  auto work = [symlinks = parts_->symlinks](const Opened& at, const Path& subdir, Descriptor& result) {
    return openPlace(at.fd.get(), subdir, detail::PLACE_OF_DIRECTORY, symlinks, result);
  };
  std::string name = parts_->opened->nameOf(path);
  return parts_->run<Descriptor>("open", std::move(path), where, work)
      .then([loop = parts_->opened->loop, symlinks = parts_->symlinks, name = std::move(name)](Descriptor fd) {
        auto opened = std::make_shared<Opened>(loop, std::move(fd), name);
        return std::unique_ptr<Directory>(new Directory(std::make_unique<Parts>(std::move(opened), symlinks)));
      });
}

Promise<void> Directory::replaceFile(Path path, std::span<const std::byte> contents, std::source_location where) {
  return parts_->runAtParent("replace", std::move(path), where,
                             [copy = std::vector(contents.begin(), contents.end())](int parent, const char* name) {
                               return replaceBlocking(parent, name, copy);
                             });
}

namespace {

Promise<std::vector<DirectoryEntry>> listAtMost(OpenedPtr at, Path path, Symlinks symlinks, std::size_t most,
                                                std::source_location where) {
  return inPool<std::vector<DirectoryEntry>>(
      "list", std::move(at), std::move(path), where,
      [symlinks, most](const Opened& opened, const Path& directory, std::vector<DirectoryEntry>& result) {
        return listBlocking(opened, directory, symlinks, most, result);
      });
}

/// Whether a directory that was there a moment ago is gone, or something else is in its place.
bool hasVanished(const Exception& e) {
  return e.code() == std::errc::no_such_file_or_directory || e.code() == std::errc::not_a_directory ||
         e.code() == std::errc::too_many_symbolic_link_levels;
}

Promise<std::vector<WalkEntry>> walkAll(OpenedPtr at, Path top, Symlinks symlinks, std::size_t limit,
                                        std::source_location where) {
  std::vector<WalkEntry> done;
  std::vector<WalkEntry> ahead; // the next one last
  ahead.push_back({top, FileType::DIRECTORY});
  bool isTop = true;
  while (!ahead.empty()) {
    const WalkEntry entry = std::move(ahead.back());
    ahead.pop_back();
    if (!isTop) done.push_back(entry);
    if (entry.type == FileType::DIRECTORY) {
      const std::size_t left = limit - done.size() - ahead.size();
      std::vector<DirectoryEntry> inside;
      try {
        // One more than there may be shows that there are too many.
        inside = co_await listAtMost(at, entry.path, symlinks, left == SIZE_MAX ? left : left + 1, where);
      } catch (const Exception& e) {
        if (isTop || !hasVanished(e)) throw;
      }
      if (inside.size() > left)
        throw Exception(Exception::Kind::FAILED,
                        fmt::format("walk {}: there are more than the {} entries that are allowed",
                                    detail::quote(at->nameOf(top)), limit),
                        {}, where);
      for (auto i = inside.rbegin(); i != inside.rend(); ++i) ahead.push_back({entry.path / i->name, i->type});
    }
    isTop = false;
  }
  co_return done;
}

} // namespace

Promise<std::vector<DirectoryEntry>> Directory::list(Path path, std::source_location where) {
  return parts_->canceler.wrap(listAtMost(parts_->opened, std::move(path), parts_->symlinks, SIZE_MAX, where), where);
}

Promise<std::vector<WalkEntry>> Directory::walk(Path path, std::size_t limit, std::source_location where) {
  return parts_->canceler.wrap(walkAll(parts_->opened, std::move(path), parts_->symlinks, limit, where), where);
}

Promise<FileInfo> Directory::stat(Path path, std::source_location where) {
  return parts_->run<FileInfo>("stat", std::move(path), where,
                               [symlinks = parts_->symlinks](const Opened& at, const Path& entry, FileInfo& info) {
                                 Descriptor place;
                                 const int status = openPlace(at.fd.get(), entry, detail::PLACE, symlinks, place);
                                 return status < 0 ? status : getInfo(place.get(), info);
                               });
}

Promise<std::string> Directory::readLink(Path path, std::source_location where) {
  Parts::requireEntry("read the link", path, where);
  return parts_->run<std::string>(
      "read the link", std::move(path), where,
      [symlinks = parts_->symlinks](const Opened& at, const Path& entry, std::string& result) {
        return atParent(at, entry, symlinks, [&](int parent, const char* name) {
          result.resize(Path::MAX_SIZE);
          const ssize_t size = ::readlinkat(parent, name, result.data(), result.size());
          if (size < 0) return lastError();
          result.resize(static_cast<std::size_t>(size));
          return 0;
        });
      });
}

Promise<void> Directory::makeDirectory(Path path, unsigned permissions, std::source_location where) {
  return parts_->runAtParent("make the directory", std::move(path), where, [permissions](int parent, const char* name) {
    return statusOf(::mkdirat(parent, name, permissions));
  });
}

Promise<void> Directory::rename(Path from, Path to, std::source_location where) {
  Parts::requireEntry("rename", to, where);
  std::string operation = fmt::format("rename to {} from", detail::quote(parts_->opened->nameOf(to)));
  return parts_->runAtParent(
      std::move(operation), std::move(from), where,
      [top = parts_->opened, symlinks = parts_->symlinks, to = std::move(to)](int fromParent, const char* fromName) {
        return atParent(*top, to, symlinks, [&](int toParent, const char* toName) {
          return statusOf(::renameat(fromParent, fromName, toParent, toName));
        });
      });
}

Promise<void> Directory::unlink(Path path, std::source_location where) {
  return parts_->runAtParent("unlink", std::move(path), where,
                             [](int parent, const char* name) { return statusOf(::unlinkat(parent, name, 0)); });
}

Promise<void> Directory::removeDirectory(Path path, std::source_location where) {
  return parts_->runAtParent("remove the directory", std::move(path), where, [](int parent, const char* name) {
    return statusOf(::unlinkat(parent, name, AT_REMOVEDIR));
  });
}

Promise<void> Directory::symlink(std::string target, Path path, std::source_location where) {
  requireNoNul("Directory::symlink", target, where);
  return parts_->runAtParent("make the link", std::move(path), where,
                             [target = std::move(target)](int parent, const char* name) {
                               return statusOf(::symlinkat(target.c_str(), parent, name));
                             });
}

Promise<std::unique_ptr<Directory>> openDirectory(AsyncIo& io, std::string path, Symlinks symlinks,
                                                  std::source_location where) {
  requireNoNul("openDirectory", path, where);
  auto opened = std::make_shared<Opened>(io.uvEventPort().uvLoop(), Descriptor(), std::move(path));
  auto work = [](const Opened& at, const Path&, Descriptor& result) {
    result = Descriptor(::open(at.name.c_str(), detail::PLACE_OF_DIRECTORY | O_CLOEXEC));
    return statusOf(result.get());
  };
  return inPool<Descriptor>("open", opened, {}, where, work).then([opened, symlinks](Descriptor fd) {
    opened->fd = std::move(fd);
    return std::unique_ptr<Directory>(new Directory(std::make_unique<Directory::Parts>(opened, symlinks)));
  });
}

// -------------------------------------------------------------------------------------------- streams

namespace {

/// What a stream and its operations share.
struct StreamState {
  OpenedPtr file;
  std::uint64_t position;
  bool busy = false;
};

/// The right to be the one operation of a stream.
class Turn {
public:
  Turn(std::shared_ptr<StreamState> state, std::string_view operation, std::source_location where)
      : state_(std::move(state)) {
    if (state_->busy)
      detail::throwMisuse(
          fmt::format("{}: another one on this stream is pending, or its result has not been taken", operation), where);
    state_->busy = true;
  }
  Turn(Turn&&) noexcept = default;
  Turn& operator=(Turn&&) = delete;
  ~Turn() {
    if (state_ != nullptr) state_->busy = false;
  }
  StreamState& operator*() const noexcept { return *state_; }
  StreamState* operator->() const noexcept { return state_.get(); }

private:
  std::shared_ptr<StreamState> state_;
};

/// Reads the next chunk while one is written: a third faster to a local socket than one after the other, and within a
/// tenth of uv_fs_sendfile, which would need a way of its own to wait for the socket.
Promise<std::uint64_t> pumpAhead(Turn turn, AsyncOutputStream& output, std::uint64_t amount,
                                 std::source_location where) {
  const auto read = [&turn, where](std::uint64_t offset, std::uint64_t most) {
    return readChunk(turn->file, offset, static_cast<std::size_t>(std::min<std::uint64_t>(most, Chunk::CAPACITY)),
                     where);
  };
  std::uint64_t done = 0;
  Promise<Chunk> next = amount == 0 ? Promise<Chunk>(Chunk()) : read(turn->position, amount);
  for (;;) {
    const Chunk chunk = co_await std::move(next);
    if (chunk.empty()) co_return done;
    const std::uint64_t left = amount - done - chunk.size();
    next = left == 0 ? Promise<Chunk>(Chunk()) : read(turn->position + chunk.size(), left);
    co_await output.write(chunk.bytes(), where);
    turn->position += chunk.size();
    done += chunk.size();
  }
}

class FileInputStream final : public AsyncInputStream, public detail::Pooled {
public:
  FileInputStream(OpenedPtr file, std::uint64_t offset)
      : state_(std::make_shared<StreamState>(StreamState{std::move(file), offset})) {}
  ~FileInputStream() override {
    if (!canceler_.isEmpty()) canceler_.cancel(destroyed("stream of", *state_->file));
  }

  // The position advances when the result is taken: until then nothing has been read.
  Promise<std::size_t> tryRead(std::span<std::byte> buffer, std::size_t minBytes, std::source_location where) override {
    if (buffer.empty() && minBytes <= 1)
      detail::throwMisuse("tryRead: the buffer is empty, so a result of 0 would not mean the end of the stream", where);
    if (minBytes == 0 || minBytes > buffer.size())
      detail::throwMisuse(fmt::format("tryRead: minBytes is {}, but must be between 1 and the buffer's size, {}",
                                      minBytes, buffer.size()),
                          where);
    Turn turn(state_, "tryRead", where);
    return canceler_.wrap(readFully(state_->file, state_->position, buffer, where), where)
        .then([turn = std::move(turn)](std::size_t size) {
          turn->position += size;
          return size;
        });
  }

  Promise<Chunk> tryReadChunk(std::size_t maxBytes, std::source_location where) override {
    if (maxBytes == 0)
      detail::throwMisuse("tryReadChunk: maxBytes is 0, so a result would not tell the end of the stream", where);
    Turn turn(state_, "tryReadChunk", where);
    return canceler_.wrap(readChunk(state_->file, state_->position, maxBytes, where), where)
        .then([turn = std::move(turn)](Chunk chunk) {
          turn->position += chunk.size();
          return chunk;
        });
  }

  Promise<std::uint64_t> pumpTo(AsyncOutputStream& output, std::uint64_t amount, std::source_location where) override {
    if (std::optional<Promise<std::uint64_t>> pump = output.tryPumpFrom(*this, amount, where)) return std::move(*pump);
    return canceler_.wrap(pumpAhead(Turn(state_, "pumpTo", where), output, amount, where), where);
  }

  std::optional<std::uint64_t> tryGetLength() const override {
    FileInfo info{};
    if (getInfo(state_->file->fd.get(), info) < 0) return std::nullopt;
    return info.size - std::min(info.size, state_->position);
  }

private:
  std::shared_ptr<StreamState> state_;
  Canceler canceler_;
};

class FileOutputStream final : public AsyncOutputStream, public detail::Pooled {
public:
  FileOutputStream(OpenedPtr file, std::uint64_t offset)
      : state_(std::make_shared<StreamState>(StreamState{std::move(file), offset})) {}
  ~FileOutputStream() override {
    if (!canceler_.isEmpty()) canceler_.cancel(destroyed("stream to", *state_->file));
  }

  using AsyncOutputStream::write;
  Promise<void> write(std::span<const std::byte> bytes, std::source_location where) override {
    return write(std::span(&bytes, 1), where);
  }
  Promise<void> write(std::span<const std::span<const std::byte>> pieces, std::source_location where) override {
    Turn turn(state_, "write", where);
    const std::uint64_t offset = state_->position;
    for (const auto& piece : pieces) state_->position += piece.size();
    return canceler_.wrap(writeFully(state_->file, offset, {pieces.begin(), pieces.end()}, where), where)
        .attach(std::move(turn));
  }

private:
  std::shared_ptr<StreamState> state_;
  Canceler canceler_;
};

} // namespace

std::unique_ptr<AsyncInputStream> newFileInputStream(File& file, std::uint64_t offset) {
  return std::make_unique<FileInputStream>(file.parts_->opened, offset);
}

std::unique_ptr<AsyncOutputStream> newFileOutputStream(File& file, std::uint64_t offset) {
  return std::make_unique<FileOutputStream>(file.parts_->opened, offset);
}

} // namespace v0
} // namespace troth
