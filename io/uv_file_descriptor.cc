// SPDX-License-Identifier: MIT
// Streams on descriptors that one cannot wait for (files, /dev/null): read(2) and write(2) in libuv's thread pool.
//
// Of each stream at most one request is with the pool. It owns its memory and shares the ownership of the descriptor,
// so it can outlive the operation that made it, and the stream. Then
//
// - what it has read goes to `givenBack_`, with which the next read begins; and that read, if it comes before, waits
//   for the request instead of making another, so that all bytes come in order;
// - the next write waits for it in the same way.
//
// A request that no thread has begun when its operation is destroyed is withdrawn: nothing was done.
#include <troth/io/blocking_detail.h>
#include <troth/io/byte_block_detail.h>
#include <troth/io/given_back_detail.h>
#include <troth/io/read_size_detail.h>
#include <troth/io/uv_descriptor_detail.h>
#include <troth/io/uv_pool_job_detail.h>
#include <troth/io/write_op_detail.h>
#include <troth/runtime/uv/uv_error.h>

#include <algorithm>
#include <cstring>

namespace troth {
inline namespace v0 {
namespace detail {
namespace {

/// What both directions have: a descriptor, and whether the pool is using it.
class FileState {
public:
  explicit FileState(uv_loop_t* loop) : descriptor_(std::make_shared<OwnedDescriptor>()), loop_(loop) {}

  /// Takes the descriptor over: nothing of the stream can fail any more.
  void open(DescriptorClaim& claim) noexcept { *descriptor_ = OwnedDescriptor(claim.settle()); }

protected:
  std::shared_ptr<OwnedDescriptor> descriptor_; // the stream's and its request's; null once the stream is gone
  PoolJob* request_ = nullptr;                  // the one that the pool has
  int error_ = 0;                               // once it has failed, it fails always

  Exception exception(std::string_view operation, std::source_location where) const noexcept {
    return uvDescriptorException(error_, operation, descriptor_->get(), where);
  }

  void submit(std::unique_ptr<PoolJob> request) noexcept {
    request_ = request.get();
    PoolJob::submit(loop_, std::move(request));
  }
  /// Nobody waits for it any more.
  void withdrawRequest() noexcept {
    if (request_ != nullptr) request_->withdraw();
  }

  /// The stream goes.
  void close() noexcept {
    withdrawRequest();
    descriptor_.reset();
  }

private:
  uv_loop_t* loop_;
};

// ------------------------------------------------------------------------------------------- reading

class FileInputState;

class FileReadNode final : public SourceNode {
public:
  FileReadNode(std::shared_ptr<FileInputState> state, std::span<std::byte> buffer, std::size_t minBytes,
               std::source_location where)
      : SourceNode(where), state_(std::move(state)), buffer_(buffer), minBytes_(minBytes) {}

  std::size_t room() const noexcept { return buffer_.size() - filled_; }
  bool hasEnough() const noexcept { return filled_ >= minBytes_; }
  /// Takes of `bytes` what there is room for, and returns how much that was.
  std::size_t take(std::span<const std::byte> bytes) noexcept {
    const std::size_t count = std::min(bytes.size(), room());
    if (count != 0) std::memcpy(buffer_.data() + filled_, bytes.data(), count);
    filled_ += count;
    return count;
  }
  void complete() noexcept {
    result_.value.emplace(filled_);
    setReady();
  }
  void fail(const Exception& exception) noexcept {
    giveBack();
    setFailed(result_, exception);
  }
  ResultBase& get(ResultBase*) noexcept override {
    taken_ = true;
    return result_;
  }
  void destroy() noexcept override;
  const char* name() const noexcept override { return "read"; }

private:
  std::shared_ptr<FileInputState> state_;
  std::span<std::byte> buffer_;
  std::size_t minBytes_;
  std::size_t filled_ = 0;
  bool taken_ = false;
  Result<std::size_t> result_;

  void giveBack() noexcept;
};

class FileInputState final : public FileState, public std::enable_shared_from_this<FileInputState> {
public:
  using FileState::FileState;

  Promise<std::size_t> tryRead(std::span<std::byte> buffer, std::size_t minBytes, std::source_location where);
  void close() noexcept;

  /// The pool has read `bytes`, or has met an error or, with 0, the end.
  void onRead(std::span<const std::byte> bytes, int result) noexcept;
  void onWithdrawn() noexcept;

private:
  friend FileReadNode;

  GivenBack givenBack_;
  FileReadNode* reader_ = nullptr; // until its promise has gone

  bool hasPendingReader() const noexcept { return reader_ != nullptr && !reader_->isReady(); }
  void goOn() noexcept;
  void startRequest(std::size_t size) noexcept;
  void arrived(std::span<const std::byte> bytes) noexcept;
  void keep(std::span<const std::byte> bytes) noexcept;
  void fail(int status) noexcept;
};

void FileReadNode::giveBack() noexcept {
  if (filled_ == 0) return;
  if (!state_->givenBack_.putBack(buffer_.first(std::exchange(filled_, 0)))) state_->error_ = UV_ENOMEM;
}

void FileReadNode::destroy() noexcept {
  requireThreadToGo();
  if (!taken_) giveBack();
  state_->reader_ = nullptr;
  state_->withdrawRequest();
  NodeAccess::destroy(this);
}

Promise<std::size_t> FileInputState::tryRead(std::span<std::byte> buffer, std::size_t minBytes,
                                             std::source_location where) {
  if (reader_ != nullptr)
    throwMisuse("tryRead: another read of this stream is pending, or its result has not been taken", where);
  requireReadable(buffer, minBytes, where);
  reader_ = NodeAccess::makeAlone<FileReadNode>(shared_from_this(), buffer, minBytes, where);
  Promise<std::size_t> promise = PromiseAccess::wrap<std::size_t>(reader_);
  goOn();
  return promise;
}

// Serves the pending read, if there is one, from what is there, or sees to it that something comes.
void FileInputState::goOn() noexcept {
  if (!hasPendingReader()) return;
  givenBack_.drop(reader_->take(givenBack_.bytes()));
  if (reader_->hasEnough()) return reader_->complete();
  if (error_ != 0) return fail(error_);
  if (request_ == nullptr) startRequest(std::min(reader_->room(), BUFFER_SIZE));
}

class ReadRequest final : public PoolJob {
public:
  ReadRequest(std::shared_ptr<FileInputState> state, std::shared_ptr<OwnedDescriptor> descriptor, std::size_t size)
      : state_(std::move(state)), descriptor_(std::move(descriptor)), block_(size) {}

private:
  std::shared_ptr<FileInputState> state_;
  std::shared_ptr<OwnedDescriptor> descriptor_;
  ByteBlock block_;

  int run() override {
    const int count = readSome(descriptor_->get(), AT_POSITION, block_.room());
    if (count > 0) block_.grow(static_cast<std::size_t>(count));
    return count;
  }
  void done(int result) noexcept override { state_->onRead(block_.bytes(), result); }
  void withdrawn() noexcept override { state_->onWithdrawn(); }
};

void FileInputState::startRequest(std::size_t size) noexcept {
  try {
    submit(std::make_unique<ReadRequest>(shared_from_this(), descriptor_, size));
  } catch (const std::bad_alloc&) {
    reader_->fail(uvException(UV_ENOMEM, "read", reader_->where()));
  }
}

void FileInputState::onRead(std::span<const std::byte> bytes, int result) noexcept {
  request_ = nullptr;
  if (result > 0) return arrived(bytes);
  if (result < 0) return fail(result);
  if (hasPendingReader()) reader_->complete(); // the end
}

void FileInputState::onWithdrawn() noexcept {
  request_ = nullptr;
  goOn();
}

void FileInputState::arrived(std::span<const std::byte> bytes) noexcept {
  // A pending read has taken all that was given back.
  if (hasPendingReader()) bytes = bytes.subspan(reader_->take(bytes));
  if (!bytes.empty()) keep(bytes);
  goOn();
}

void FileInputState::keep(std::span<const std::byte> bytes) noexcept {
  try {
    givenBack_.append(bytes);
  } catch (...) {
    error_ = UV_ENOMEM;
  }
}

void FileInputState::fail(int status) noexcept {
  error_ = status;
  if (hasPendingReader()) reader_->fail(exception("read from", reader_->where()));
}

void FileInputState::close() noexcept {
  if (hasPendingReader())
    reader_->fail(Exception(Exception::Kind::DISCONNECTED, "read: the stream was destroyed while the read was pending",
                            {}, reader_->where()));
  FileState::close();
}

class FileInput final : public AsyncInputStream {
public:
  explicit FileInput(std::shared_ptr<FileInputState> state) noexcept : state_(std::move(state)) {}
  ~FileInput() override { state_->close(); }

  Promise<std::size_t> tryRead(std::span<std::byte> buffer, std::size_t minBytes, std::source_location where) override {
    return state_->tryRead(buffer, minBytes, where);
  }

private:
  std::shared_ptr<FileInputState> state_;
};

// ------------------------------------------------------------------------------------------- writing

class FileOutputState final : public FileState, public Counted {
public:
  using FileState::FileState;

  Promise<void> write(std::span<const std::span<const std::byte>> pieces, std::source_location where);
  void close() noexcept;

  /// The pool has written all of a request, or has met an error.
  void onWritten(int status) noexcept;
  void onWithdrawn() noexcept;

private:
  using Op = WriteOp<FileOutputState>;
  friend Op;

  Op* writer_ = nullptr; // the write that is pending

  Op* endWriter() noexcept { return std::exchange(writer_, nullptr); }
  void writeCancelled(Op&) noexcept;
  void goOn() noexcept;
  void fail(int status) noexcept;
};

void FileOutputState::writeCancelled(Op&) noexcept {
  endWriter();
  withdrawRequest();
}

Promise<void> FileOutputState::write(std::span<const std::span<const std::byte>> pieces, std::source_location where) {
  if (writer_ != nullptr) throwMisuse("write: another write to this stream is pending", where);
  if (error_ != 0) return Promise<void>(exception("write to", where), where);
  writer_ = NodeAccess::makeAlone<Op>(*this, Pieces(pieces), where);
  Promise<void> promise = PromiseAccess::wrap<void>(writer_);
  goOn();
  return promise;
}

class WriteRequest final : public PoolJob {
public:
  WriteRequest(FileOutputState& state, std::shared_ptr<OwnedDescriptor> descriptor, ByteBlock block) noexcept
      : state_(state), descriptor_(std::move(descriptor)), block_(std::move(block)) {}

private:
  Ref<FileOutputState> state_;
  std::shared_ptr<OwnedDescriptor> descriptor_;
  ByteBlock block_;

  int run() override { return writeAll(descriptor_->get(), AT_POSITION, block_.bytes()); }
  void done(int result) noexcept override { state_->onWritten(result); }
  void withdrawn() noexcept override { state_->onWithdrawn(); }
};

// Hands the next bytes of the pending write, if there is one, to the pool.
void FileOutputState::goOn() noexcept {
  if (writer_ == nullptr || request_ != nullptr) return;
  if (writer_->pieces.empty()) return endWriter()->complete();
  try {
    submit(std::make_unique<WriteRequest>(*this, descriptor_, takeBlock(writer_->pieces)));
  } catch (const std::bad_alloc&) {
    fail(UV_ENOMEM);
  }
}

void FileOutputState::onWritten(int status) noexcept {
  request_ = nullptr;
  if (status < 0) return fail(status);
  goOn();
}

void FileOutputState::onWithdrawn() noexcept {
  request_ = nullptr;
  goOn();
}

void FileOutputState::fail(int status) noexcept {
  error_ = status;
  if (Op* writer = endWriter()) writer->fail(exception("write to", writer->where()));
}

void FileOutputState::close() noexcept {
  if (Op* writer = endWriter())
    writer->fail(Exception(Exception::Kind::DISCONNECTED, "write: the stream was destroyed while the write was pending",
                           {}, writer->where()));
  FileState::close();
}

class FileOutput final : public AsyncOutputStream {
public:
  explicit FileOutput(FileOutputState& state) noexcept : state_(state) {}
  ~FileOutput() override { state_->close(); }

  Promise<void> write(std::span<const std::byte> bytes, std::source_location where) override {
    return state_->write({&bytes, 1}, where);
  }
  Promise<void> write(std::span<const std::span<const std::byte>> pieces, std::source_location where) override {
    return state_->write(pieces, where);
  }

private:
  Ref<FileOutputState> state_;
};

} // namespace

std::unique_ptr<AsyncInputStream> newFileInput(uv_loop_t* loop, DescriptorClaim& claim) {
  auto state = std::make_shared<FileInputState>(loop);
  auto stream = std::make_unique<FileInput>(state);
  state->open(claim);
  return stream;
}

std::unique_ptr<AsyncOutputStream> newFileOutput(uv_loop_t* loop, DescriptorClaim& claim) {
  const Ref<FileOutputState> state(*new FileOutputState(loop));
  auto stream = std::make_unique<FileOutput>(*state);
  state->open(claim);
  return stream;
}

} // namespace detail
} // namespace v0
} // namespace troth
