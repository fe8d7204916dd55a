// SPDX-License-Identifier: MIT
// Pumping a file to a socket by sendfile(2): what the streams of the two need for it.
//
// Bytes do not pass through the program: a thread of libuv's pool sends 1 MiB at most with each trip, straight from the
// system's cache of the file. The socket does not block; when it is full, the loop waits for room.
//
// The thread, and the waiting, use a duplicate of the socket's descriptor. So a job that a thread has begun when its
// pump, or a stream, is destroyed ends in the background, with a descriptor that nobody else can be given; and libuv
// admits one handle for each descriptor, which the stream has.
#pragma once

#include <troth/io/descriptor.h>
#include <troth/io/uv_pool_job_detail.h>
#include <troth/runtime/node_detail.h>
#include <troth/runtime/promise.h>
#include <troth/runtime/ref_detail.h>
#include <troth/runtime/uv/uv_handle.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <source_location>
#include <utility>

namespace troth {
inline namespace v0 {

class AsyncOutputStream;

namespace detail {

struct Opened;
using OpenedPtr = std::shared_ptr<Opened>;

/// A file and the position of a stream in it, both shared with the stream.
struct FilePosition {
  OpenedPtr file;
  std::shared_ptr<std::uint64_t> offset;
};

/// What has come of sending a file.
struct Sent {
  std::uint64_t size = 0; // by so much the position has advanced
  bool finished = false;  // if not, the rest is to be pumped as to any other stream
};

/// An output stream that may be able to send files.
class FileSink {
public:
  /// Sends `amount` bytes, or what there is to the end of the file. The contract is that of AsyncInputStream::pumpTo().
  virtual Promise<Sent> sendFile(FilePosition from, std::uint64_t amount, std::source_location where) = 0;

protected:
  ~FileSink() = default;
};

/// An input stream of a file.
class FileSource {
public:
  /// The same as pumpTo() to `output`, which is `sink`, by sendFile() as far as that goes.
  virtual Promise<std::uint64_t> pumpToSink(FileSink& sink, AsyncOutputStream& output, std::uint64_t amount,
                                            std::source_location where) = 0;

protected:
  ~FileSource() = default;
};

/// How one trip to the pool went.
struct SentPart {
  std::size_t size = 0;
  int status = 0; // why it is no more, if it is not all: UV_EOF (of the file), UV_EAGAIN (the socket is full), an error

  /// Whether the connection has failed. (The system does not tell what an error is one of. Any other is met again by
  /// who reads the file and writes to the socket instead.)
  bool isDisconnection() const noexcept;
};

using SharedDescriptor = std::shared_ptr<const OwnedDescriptor>;

/// A duplicate to send files to; nothing if that is not possible: without sendfile(2) or a descriptor to spare, or if
/// `fd` is no socket, or one that blocks. Throws std::bad_alloc.
SharedDescriptor duplicateForSendfile(int fd);

/// In a thread of the pool: sends `size` bytes from `offset` on, as far as the socket takes them at once.
SentPart sendPart(int socket, const Opened& file, std::uint64_t offset, std::size_t size) noexcept;

/// Waits for a socket to have room, or to fail.
class RoomWatch {
public:
  /// Calls `wake(object)` once. Throws what libuv has against it.
  void wait(uv_loop_t* loop, int socket, void (*wake)(void*), void* object);
  /// Lets the socket go.
  void close() noexcept { handle_.close(); }

private:
  UvHandle<uv_poll_t> handle_;
  void (*wake_)(void*) = nullptr;
  void* object_ = nullptr;
};

/// A pump from a file to a socket, in the place of a write. It holds a reference to the stream's `State`, which
/// inherits Counted, knows it by a pointer until it is done, and has
///
///     void sendBegins() noexcept;                                    // nothing else may be written, until …
///     void partSent(SendfileOp<State>* op, SentPart part) noexcept;  // … this. `op` is null if it is done with
///     void endSender() noexcept;                                     // the op is done
///     void failWrite(int status) noexcept;                           // fails the op, and all writes
template <typename State>
class SendfileOp final : public SourceNode {
public:
  SendfileOp(State& state, uv_loop_t* loop, SharedDescriptor socket, FilePosition from, std::uint64_t amount,
             std::source_location where) noexcept
      : SourceNode(where),
        state_(state),
        loop_(loop),
        from_(std::move(from)),
        left_(amount),
        socket_(std::move(socket)) {}

  /// How many bytes are still to be sent, if the file has so many. (None has more than an off_t can tell.)
  std::uint64_t left() const noexcept { return std::min(left_ + sent_, std::uint64_t(1) << 62) - sent_; }

  /// Nothing else is being written: sends on.
  void start() noexcept {
    try {
      auto job = std::make_unique<Job>(*this);
      job_ = job.get();
      state_->sendBegins();
      PoolJob::submit(loop_, std::move(job));
    } catch (const std::bad_alloc&) {
      end(false);
    }
  }

  void onSent(SentPart part) noexcept {
    job_ = nullptr;
    sent_ += part.size;
    left_ -= part.size;
    *from_.offset += part.size;
    if (left_ == 0 || part.status == UV_EOF) return end(true);
    if (part.status == 0) return start();
    if (part.status == UV_EAGAIN) return waitForRoom();
    if (part.isDisconnection()) return state_->failWrite(part.status);
    end(false);
  }

  void fail(const Exception& exception) noexcept {
    letGo();
    setFailed(result_, exception);
  }

  ResultBase& get(ResultBase*) noexcept override { return result_; }
  void destroy() noexcept override {
    requireThreadToGo();
    if (!isReady()) {
      letGo();
      state_->endSender();
    }
    NodeAccess::destroy(this);
  }
  const char* name() const noexcept override { return "pumpTo (sendfile)"; }

private:
  static constexpr std::uint64_t MOST_AT_ONCE = 1 << 20; // for a thread that others wait for

  class Job final : public PoolJob {
  public:
    explicit Job(SendfileOp& op)
        : state_(*op.state_),
          op_(&op),
          file_(op.from_.file),
          socket_(op.socket_),
          offset_(*op.from_.offset),
          size_(static_cast<std::size_t>(std::min(op.left_, MOST_AT_ONCE))) {}

    /// The op is done with it.
    void abandon() noexcept {
      op_ = nullptr;
      withdraw();
    }

  private:
    Ref<State> state_;
    SendfileOp* op_;
    OpenedPtr file_;
    SharedDescriptor socket_;
    std::uint64_t offset_;
    std::size_t size_;
    SentPart sent_;

    int run() override {
      sent_ = sendPart(socket_->get(), *file_, offset_, size_);
      return 0;
    }
    void done(int) noexcept override { state_->partSent(op_, sent_); }
    void withdrawn() noexcept override { state_->partSent(op_, {}); }
  };

  Ref<State> state_;
  uv_loop_t* loop_;
  FilePosition from_;
  std::uint64_t left_;
  std::uint64_t sent_ = 0;
  Job* job_ = nullptr;      // the one that the pool has
  SharedDescriptor socket_; // destroyed after what watches it
  RoomWatch room_;
  Result<Sent> result_;

  void waitForRoom() noexcept {
    try {
      room_.wait(
          loop_, socket_->get(), [](void* op) { static_cast<SendfileOp*>(op)->start(); }, this);
    } catch (...) { // the stream's own handle can wait
      end(false);
    }
  }

  void end(bool finished) noexcept {
    letGo();
    state_->endSender();
    result_.value.emplace(Sent{sent_, finished});
    setReady();
  }

  void letGo() noexcept {
    if (job_ != nullptr) std::exchange(job_, nullptr)->abandon();
    room_.close();
    socket_.reset();
    from_ = {};
  }
};

} // namespace detail
} // namespace v0
} // namespace troth
