// SPDX-License-Identifier: MIT
// How files and directories work: what they have open, and promises of what threads of the pool do with it.
//
// Every operation is a job: a function that blocks, with all the memory that it works on. It outlives its promise if a
// thread has begun it, ends in the background, and what it has opened is closed again. So no thread ever sees memory of
// a caller: a read goes to a block of the job and is copied when its promise goes on, a write copies first, both 64 KiB
// at a time.
//
// Jobs call libuv's uv_fs_* without a callback, which makes them block: that is the same pool and the same system calls
// as uv_fs_* with one. But libuv has none of the *at() calls on which Directory stands, and a job may make several
// calls in one trip: find the parent and unlink, or write a file, sync it and rename it.
//
// An Opened is the descriptor, shared by a File or Directory, its streams and its jobs: it is closed, by one more job,
// when the last of them goes. So no job can meet a descriptor that has been closed and given to somebody else.
#pragma once

#include <troth/io/descriptor.h>
#include <troth/io/file.h>
#include <troth/io/uv_pool_job_detail.h>
#include <troth/runtime/canceler.h>
#include <troth/runtime/event_loop.h>
#include <troth/runtime/promise.h>

#include <memory>
#include <source_location>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

namespace troth {
inline namespace v0 {
namespace detail {

/// A file or directory that is open.
struct Opened {
  Opened(uv_loop_t* l, OwnedDescriptor d, std::string n, bool a = false) noexcept
      : loop(l), descriptor(std::move(d)), name(std::move(n)), appends(a) {}
  Opened(const Opened&) = delete;
  Opened& operator=(const Opened&) = delete;
  ~Opened();

  uv_loop_t* loop;
  OwnedDescriptor descriptor;
  std::string name; // for errors
  bool appends;     // each write goes to the end

  int fd() const noexcept { return descriptor.get(); }
  std::string nameOf(const Path& path) const;
};

using OpenedPtr = std::shared_ptr<Opened>;

template <typename Result>
class JobAdapter;

/// What a thread of the pool does for a promise.
template <typename Result>
class FileJob : public PoolJob {
public:
  FileJob(std::string what, OpenedPtr where, Path p, FixVoid<Result> r)
      : operation(std::move(what)), at(std::move(where)), path(std::move(p)), result(std::move(r)) {}

  std::string operation;
  OpenedPtr at;
  Path path;
  FixVoid<Result> result;                // filled by run()
  JobAdapter<Result>* adapter = nullptr; // null once nobody wants the result

private:
  void done(int status) noexcept override {
    if (adapter != nullptr) adapter->onDone(*this, status);
  }
};

/// "open "/x/y": no such file or directory (ENOENT)"
Exception jobException(int status, std::string_view operation, const Opened& at, const Path& path,
                       std::source_location where);

template <typename Result>
class JobAdapter {
public:
  JobAdapter(PromiseFulfiller<Result>& fulfiller, std::unique_ptr<FileJob<Result>> job, std::source_location where)
      : fulfiller_(fulfiller), where_(where), job_(job.get()) {
    job_->adapter = this;
    uv_loop_t* loop = job_->at->loop;
    PoolJob::submit(loop, std::move(job));
  }
  JobAdapter(const JobAdapter&) = delete;
  JobAdapter& operator=(const JobAdapter&) = delete;
  ~JobAdapter() {
    if (job_ == nullptr) return;
    job_->adapter = nullptr;
    job_->withdraw();
  }

  void onDone(FileJob<Result>& job, int status) noexcept {
    job_ = nullptr;
    if (EventLoop::currentOrNull() == nullptr) return; // the context is being destroyed: nobody can wait any more
    fulfiller_.rejectIfThrows([&] {
      if (status < 0) throw jobException(status, job.operation, *job.at, job.path, where_);
      if constexpr (std::is_void_v<Result>)
        fulfiller_.fulfill();
      else
        fulfiller_.fulfill(std::move(job.result));
    });
  }

private:
  PromiseFulfiller<Result>& fulfiller_;
  std::source_location where_;
  FileJob<Result>* job_;
};

/// Runs `work(at, path, result)`, or without a `result` if that is void, in a thread of the pool. It must own what it
/// works with, and gives a status. `operation` is for errors.
template <typename Result, typename Work>
Promise<Result> inPool(std::string operation, OpenedPtr at, Path path, std::source_location where, Work work,
                       FixVoid<Result> result = {}) {
  class WorkJob final : public FileJob<Result> {
  public:
    WorkJob(std::string what, OpenedPtr opened, Path p, FixVoid<Result> r, Work&& w)
        : FileJob<Result>(std::move(what), std::move(opened), std::move(p), std::move(r)), work_(std::move(w)) {}

  private:
    Work work_;

    int run() override {
      if constexpr (std::is_void_v<Result>)
        return work_(*this->at, this->path);
      else
        return work_(*this->at, this->path, this->result);
    }
  };
  return newAdaptedPromise<Result, JobAdapter<Result>>(
      std::unique_ptr<FileJob<Result>>(std::make_unique<WorkJob>(std::move(operation), std::move(at), std::move(path),
                                                                 std::move(result), std::move(work))),
      where);
}

/// The operations of a File or a Directory: when it goes, those that are pending fail with DISCONNECTED.
class Operations : public Pooled {
public:
  /// `kind`, a literal, is "file" or "directory".
  Operations(OpenedPtr opened, const char* kind) noexcept : opened_(std::move(opened)), kind_(kind) {}
  Operations(const Operations&) = delete;
  Operations& operator=(const Operations&) = delete;
  ~Operations();

  const OpenedPtr& opened() const noexcept { return opened_; }

  template <typename T>
  Promise<T> add(Promise<T> operation, std::source_location where) {
    return canceler_.wrap(std::move(operation), where);
  }

  /// inPool(), added.
  template <typename Result, typename Work>
  Promise<Result> run(std::string operation, Path path, std::source_location where, Work work) {
    return add(inPool<Result>(std::move(operation), opened_, std::move(path), where, std::move(work)), where);
  }

private:
  OpenedPtr opened_;
  const char* kind_;
  Canceler canceler_;
};

} // namespace detail

/// A File's own part: for what opens one, and for its streams.
struct File::Parts : detail::Operations {
  explicit Parts(detail::OpenedPtr opened) noexcept : Operations(std::move(opened), "file") {}
};

} // namespace v0
} // namespace troth
