// SPDX-License-Identifier: MIT
// Streams on descriptors that one cannot wait for (files, /dev/null): read(2) and write(2) in libuv's thread pool.
//
// Of each stream at most one request is with the pool. It owns its memory and shares the ownership of the descriptor,
// so it can outlive the operation that made it, and the stream. Then
//
// - what it has read goes to `givenBack_`, with which the next read begins; and that read, if it comes before, waits
// for
//   the request instead of making another, so that all bytes come in order;
// - the next write waits for it in the same way.
//
// A request that no thread has begun when its operation is destroyed is withdrawn (UV_ECANCELED): nothing was done.
#include <troth/io/given_back_detail.h>
#include <troth/io/read_size_detail.h>
#include <troth/io/uv_descriptor_detail.h>
#include <troth/runtime/uv/uv_handle.h>

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <vector>

namespace troth {
inline namespace v0 {
namespace detail {
namespace {

/// One read(2) or write(2) of the thread pool. It frees itself when it is done.
template <typename State>
struct FileRequest : Pooled {
  FileRequest(std::shared_ptr<State> s, std::size_t n) : state(std::move(s)), size(n) {}
  ~FileRequest() { deallocate(bytes, size); }
  FileRequest(const FileRequest&) = delete;
  FileRequest& operator=(const FileRequest&) = delete;

  uv_fs_t request;
  std::shared_ptr<State> state;
  std::size_t size; // BUFFER_SIZE at most
  std::size_t written = 0;
  std::byte* bytes = static_cast<std::byte*>(allocate(size));

  uv_buf_t buffer() noexcept {
    return uv_buf_init(reinterpret_cast<char*>(bytes + written), static_cast<unsigned>(size - written));
  }

  /// Gives it to the pool by `start(uv_fs_t*, uv_buf_t, callback)`. The pool is done with it when State::onDone is
  /// called with its result and its ownership.
  template <typename Start>
  static void submit(std::unique_ptr<FileRequest> self, Start&& start) noexcept {
    self->request.data = self.get();
    const uv_buf_t buffer = self->buffer();
    const int status = start(&self->request, &buffer, [](uv_fs_t* done) {
      std::unique_ptr<FileRequest> owned(static_cast<FileRequest*>(done->data));
      const auto result = static_cast<int>(done->result);
      uv_fs_req_cleanup(done);
      const std::shared_ptr<State> kept = owned->state;
      kept->onDone(std::move(owned), result);
    });
    if (status < 0) {
      const std::shared_ptr<State> kept = self->state;
      return kept->onDone(std::move(self), status);
    }
    self->state->request_ = self.get();
    self.release();
  }
};

/// What both directions have: a descriptor, and whether the pool is using it.
template <typename State>
class FileState : public std::enable_shared_from_this<State> {
public:
  explicit FileState(uv_loop_t* loop) noexcept : loop_(loop) {}

  /// Takes the descriptor over: nothing of the stream can fail any more.
  void open(DescriptorClaim& claim) noexcept { descriptor_ = OwnedDescriptor(claim.settle()); }

protected:
  friend FileRequest<State>;

  uv_loop_t* loop_;
  OwnedDescriptor descriptor_;
  FileRequest<State>* request_ = nullptr; // the one that the pool has
  bool closed_ = false;
  int error_ = 0; // once it has failed, it fails always

  Exception exception(std::string_view operation, std::source_location where) const noexcept {
    fmt::memory_buffer text; // needs no memory
    fmt::format_to(std::back_inserter(text), "{} descriptor {}", operation, descriptor_.get());
    return uvException(error_, {text.data(), text.size()}, where);
  }

  /// Nobody waits for it any more. Works only while no thread of the pool has begun it.
  void withdrawRequest() noexcept {
    if (request_ != nullptr) uv_cancel(reinterpret_cast<uv_req_t*>(&request_->request));
  }

  /// The pool has done its request.
  void requestIsDone() noexcept {
    request_ = nullptr;
    if (closed_) descriptor_.close();
  }

  /// The stream goes.
  void close() noexcept {
    closed_ = true;
    if (request_ == nullptr)
      descriptor_.close();
    else
      withdrawRequest();
  }
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

class FileInputState final : public FileState<FileInputState> {
public:
  using FileState::FileState;

  Promise<std::size_t> tryRead(std::span<std::byte> buffer, std::size_t minBytes, std::source_location where);
  void close() noexcept;

private:
  friend FileRequest<FileInputState>;
  friend FileReadNode;

  GivenBack givenBack_;
  FileReadNode* reader_ = nullptr; // until its promise has gone

  bool hasPendingReader() const noexcept { return reader_ != nullptr && !reader_->isReady(); }
  void goOn() noexcept;
  void startRequest(std::size_t size) noexcept;
  void onDone(std::unique_ptr<FileRequest<FileInputState>> request, int result) noexcept;
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

void FileInputState::startRequest(std::size_t size) noexcept {
  std::unique_ptr<FileRequest<FileInputState>> request;
  try {
    request = std::make_unique<FileRequest<FileInputState>>(shared_from_this(), size);
  } catch (...) {
    return reader_->fail(uvException(UV_ENOMEM, "read", reader_->where()));
  }
  FileRequest<FileInputState>::submit(std::move(request),
                                      [this](uv_fs_t* fs, const uv_buf_t* buffer, uv_fs_cb callback) {
                                        return uv_fs_read(loop_, fs, descriptor_.get(), buffer, 1, -1, callback);
                                      });
}

void FileInputState::onDone(std::unique_ptr<FileRequest<FileInputState>> request, int result) noexcept {
  requestIsDone();
  if (result > 0) return arrived({request->bytes, static_cast<std::size_t>(result)});
  if (result == UV_ECANCELED || result == UV_EINTR) return goOn(); // libuv repeats all interrupted calls but read(2)
  if (result < 0) return fail(result);
  if (hasPendingReader()) reader_->complete(); // the end
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

class FileOutputState;

class FileWriteNode final : public SourceNode {
public:
  FileWriteNode(std::shared_ptr<FileOutputState> state, std::span<const std::span<const std::byte>> pieces,
                std::source_location where)
      : SourceNode(where), state_(std::move(state)) {
    for (const std::span<const std::byte> piece : pieces)
      if (!piece.empty()) rest_.push_back(piece);
  }

  /// How much the next request takes.
  std::size_t nextSize() const noexcept {
    std::size_t size = 0;
    for (auto piece = rest_.begin(); piece != rest_.end() && size < BUFFER_SIZE; ++piece) size += piece->size();
    return std::min(size, BUFFER_SIZE);
  }
  /// Copies what is next to `target`, which has nextSize() bytes.
  void moveTo(std::span<std::byte> target) noexcept;

  void complete() noexcept {
    result_.value.emplace();
    setReady();
  }
  void fail(const Exception& exception) noexcept { setFailed(result_, exception); }
  ResultBase& get(ResultBase*) noexcept override { return result_; }
  void destroy() noexcept override;
  const char* name() const noexcept override { return "write"; }

private:
  std::shared_ptr<FileOutputState> state_;
  std::vector<std::span<const std::byte>> rest_;
  Result<Void> result_;
};

class FileOutputState final : public FileState<FileOutputState> {
public:
  using FileState::FileState;

  Promise<void> write(std::span<const std::span<const std::byte>> pieces, std::source_location where);
  void close() noexcept;

private:
  friend FileRequest<FileOutputState>;
  friend FileWriteNode;

  FileWriteNode* writer_ = nullptr;    // the write that is pending
  FileWriteNode* requester_ = nullptr; // whose bytes the pool has, if its promise is still there

  FileWriteNode* endWriter() noexcept { return std::exchange(writer_, nullptr); }
  void goOn() noexcept;
  void submit(std::unique_ptr<FileRequest<FileOutputState>> request) noexcept;
  void onDone(std::unique_ptr<FileRequest<FileOutputState>> request, int result) noexcept;
  void fail(int status) noexcept;
};

void FileWriteNode::moveTo(std::span<std::byte> target) noexcept {
  auto piece = rest_.begin();
  while (!target.empty()) {
    const std::size_t count = std::min(target.size(), piece->size());
    std::memcpy(target.data(), piece->data(), count);
    target = target.subspan(count);
    *piece = piece->subspan(count);
    if (piece->empty()) ++piece;
  }
  rest_.erase(rest_.begin(), piece);
}

void FileWriteNode::destroy() noexcept {
  requireThreadToGo();
  if (state_->writer_ == this) {
    state_->endWriter();
    state_->requester_ = nullptr;
    state_->withdrawRequest();
  }
  NodeAccess::destroy(this);
}

Promise<void> FileOutputState::write(std::span<const std::span<const std::byte>> pieces, std::source_location where) {
  if (writer_ != nullptr) throwMisuse("write: another write to this stream is pending", where);
  if (error_ != 0) return Promise<void>(exception("write to", where), where);
  FileWriteNode* node = NodeAccess::makeAlone<FileWriteNode>(shared_from_this(), pieces, where);
  Promise<void> promise = PromiseAccess::wrap<void>(node);
  writer_ = node;
  goOn();
  return promise;
}

// Hands the next bytes of the pending write, if there is one, to the pool.
void FileOutputState::goOn() noexcept {
  if (writer_ == nullptr || request_ != nullptr) return;
  const std::size_t size = writer_->nextSize();
  if (size == 0) return endWriter()->complete();
  std::unique_ptr<FileRequest<FileOutputState>> request;
  try {
    request = std::make_unique<FileRequest<FileOutputState>>(shared_from_this(), size);
  } catch (...) {
    return fail(UV_ENOMEM);
  }
  writer_->moveTo({request->bytes, size});
  requester_ = writer_;
  submit(std::move(request));
}

void FileOutputState::submit(std::unique_ptr<FileRequest<FileOutputState>> request) noexcept {
  FileRequest<FileOutputState>::submit(std::move(request),
                                       [this](uv_fs_t* fs, const uv_buf_t* buffer, uv_fs_cb callback) {
                                         return uv_fs_write(loop_, fs, descriptor_.get(), buffer, 1, -1, callback);
                                       });
}

void FileOutputState::onDone(std::unique_ptr<FileRequest<FileOutputState>> request, int result) noexcept {
  requestIsDone();
  FileWriteNode* requester = std::exchange(requester_, nullptr);
  if (result == UV_ECANCELED) return goOn();
  if (result <= 0) return fail(result == 0 ? UV_EIO : result);
  request->written += static_cast<std::size_t>(result);
  if (request->written == request->size || requester == nullptr) return goOn();
  requester_ = requester;
  submit(std::move(request));
}

void FileOutputState::fail(int status) noexcept {
  error_ = status;
  if (FileWriteNode* writer = endWriter()) writer->fail(exception("write to", writer->where()));
}

void FileOutputState::close() noexcept {
  if (FileWriteNode* writer = endWriter())
    writer->fail(Exception(Exception::Kind::DISCONNECTED, "write: the stream was destroyed while the write was pending",
                           {}, writer->where()));
  requester_ = nullptr;
  FileState::close();
}

class FileOutput final : public AsyncOutputStream {
public:
  explicit FileOutput(std::shared_ptr<FileOutputState> state) noexcept : state_(std::move(state)) {}
  ~FileOutput() override { state_->close(); }

  Promise<void> write(std::span<const std::byte> bytes, std::source_location where) override {
    return state_->write({&bytes, 1}, where);
  }
  Promise<void> write(std::span<const std::span<const std::byte>> pieces, std::source_location where) override {
    return state_->write(pieces, where);
  }

private:
  std::shared_ptr<FileOutputState> state_;
};

} // namespace

std::unique_ptr<AsyncInputStream> newFileInput(uv_loop_t* loop, DescriptorClaim& claim) {
  auto state = std::make_shared<FileInputState>(loop);
  auto stream = std::make_unique<FileInput>(state);
  state->open(claim);
  return stream;
}

std::unique_ptr<AsyncOutputStream> newFileOutput(uv_loop_t* loop, DescriptorClaim& claim) {
  auto state = std::make_shared<FileOutputState>(loop);
  auto stream = std::make_unique<FileOutput>(state);
  state->open(claim);
  return stream;
}

} // namespace detail
} // namespace v0
} // namespace troth
