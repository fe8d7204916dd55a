// SPDX-License-Identifier: MIT
// Reading without churn and writing without copies, on a uv_stream_t.
//
// Reading. Once started, the handle is never stopped by a read's completion or cancellation, because stop and
// start cost two epoll_ctl calls. libuv asks for a buffer (onAlloc) only when the socket is readable: it gets
// the reader's own, or, when nobody reads, none, and then reports UV_ENOBUFS without having touched the
// socket. The first such miss is only noted, since the consumer usually asks again in the turns that follow;
// the second in a row stops the handle, and the bytes wait in the kernel: that is the back-pressure.
//
// A read that is destroyed with its result untaken, or with fewer bytes than it wanted, gives its bytes back
// (`givenBack_`), and the next read begins with them.
//
// Writing. uv_try_write takes what the socket has room for straight from the caller's memory. The rest is
// copied, at most one buffer of 64 KiB at a time, into a Spill that owns its bytes and its uv_write_t; when
// libuv has written it, the rest is tried again from the caller's memory. A cancelled write thus leaves
// libuv nothing but a Spill, which frees itself; there is never more than one of them per stream.
//
// Ownership. UvStreamState is counted: the stream holds it, each pending operation does, and a Spill does
// until its callback. The handle belongs to the stream alone: closing it (`close`) ends every operation.
#include <troth/io/uv_stream.h>

#include <troth/io/given_back_detail.h>
#include <troth/io/uv_disconnect_watch_detail.h>

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <vector>

#include <sys/socket.h>

namespace troth {
inline namespace v0 {
namespace {

using detail::ResultBase;

class UvStreamState;

uv_buf_t asUvBuffer(std::span<const std::byte> bytes) noexcept {
  // libuv does not write through the pointer; its buffer type serves both directions.
  uv_buf_t buffer;
  buffer.base = reinterpret_cast<char*>(const_cast<std::byte*>(bytes.data()));
  buffer.len = static_cast<decltype(buffer.len)>(bytes.size());
  return buffer;
}

// Libuv's sizes and results are ints in places.
constexpr std::size_t MOST_AT_ONCE = 1U << 30;

/// Ownership of a state that counts.
class StateRef {
public:
  explicit StateRef(UvStreamState& state) noexcept;
  StateRef(StateRef&& other) noexcept : state_(std::exchange(other.state_, nullptr)) {}
  StateRef& operator=(StateRef&&) = delete;
  ~StateRef();
  UvStreamState* operator->() const noexcept { return state_; }
  UvStreamState& operator*() const noexcept { return *state_; }

private:
  UvStreamState* state_;
};

/// What has come of writing to a socket straight from the caller's memory.
struct Attempt {
  bool made = false;       // the socket was asked, and did not take it all
  int error = 0;           // its answer, if that was one
  std::size_t written = 0; // what it took

  /// Notes libuv's answer to a further part of `size` bytes. Returns whether the socket took all of it.
  bool note(int status, std::size_t size) noexcept {
    written += static_cast<std::size_t>(std::max(status, 0));
    made = status != static_cast<int>(size);
    if (status < 0 && status != UV_EAGAIN) error = status;
    return !made;
  }
};

/// The one read of a stream. It is embedded in the state, so a read allocates nothing.
class ReadOp final : public detail::SourceNode {
public:
  explicit ReadOp(UvStreamState& state) noexcept
      : SourceNode(std::source_location()), state_(state), loop_(EventLoop::currentOrNull()) {
    chunkResult_.value.emplace();
  }

  bool isFree() const noexcept { return mode_ == Mode::FREE; }
  bool isPending() const noexcept { return mode_ != Mode::FREE && !isReady(); }

  void beginSpan(std::span<std::byte> buffer, std::size_t minBytes, std::source_location where) noexcept;
  void beginChunk(std::size_t maxBytes, std::source_location where) noexcept {
    begin(Mode::CHUNK, where);
    most_ = std::min(maxBytes, Chunk::CAPACITY);
  }

  /// Serves the read from bytes that an earlier one gave back, and returns how many it took. Throws std::bad_alloc.
  std::size_t takeGivenBack(std::span<const std::byte> bytes);

  /// The usual case: says that the next bytes go to the thread's scratch buffer, if they can.
  bool giveScratch(uv_buf_t& buffer) const noexcept;
  /// Says where the next bytes of this pending read go: nowhere if there is no memory for them (it has failed then).
  void giveSpace(uv_buf_t& buffer) noexcept;
  /// `count` bytes have come there.
  void received(std::size_t count) noexcept;
  void ended() noexcept;
  void failed(const Exception& exception) noexcept;

  /// The caller moves the value or the exception out, so that nothing but an empty shell stays.
  ResultBase& get(ResultBase*) noexcept override {
    taken_ = true;
    return result();
  }
  void destroy() noexcept override;
  const char* name() const noexcept override { return "read"; }

private:
  enum class Mode : std::uint8_t { FREE, SPAN, CHUNK };

  UvStreamState& state_;
  EventLoop* loop_;
  Mode mode_ = Mode::FREE;
  bool taken_ = false;
  std::span<std::byte> buffer_; // of a SPAN read
  std::size_t minBytes_ = 0;    // of a SPAN read
  std::size_t most_ = 0;        // of a CHUNK read
  std::size_t filled_ = 0;
  detail::Result<std::size_t> sizeResult_; // the result of a SPAN read, empty otherwise
  detail::Result<Chunk> chunkResult_;      // the result of a CHUNK read; otherwise its chunk is empty

  ResultBase& result() noexcept { return mode_ == Mode::CHUNK ? static_cast<ResultBase&>(chunkResult_) : sizeResult_; }
  void begin(Mode mode, std::source_location where) noexcept;
  void giveBack() noexcept;
  [[gnu::noinline, gnu::cold]] void destroyUntaken() noexcept;
};

/// Bytes on their way that nobody else keeps alive.
struct Spill : detail::Pooled {
  explicit Spill(UvStreamState& s) : state(s) {}
  ~Spill() { detail::deallocate(bytes, detail::BUFFER_SIZE); }
  Spill(const Spill&) = delete;
  Spill& operator=(const Spill&) = delete;

  uv_write_t request;
  StateRef state;
  std::byte* bytes = static_cast<std::byte*>(detail::allocate(detail::BUFFER_SIZE));
};

/// A write that the socket did not take at once.
class WriteNode final : public detail::SourceNode {
public:
  WriteNode(UvStreamState& state, std::source_location where) : SourceNode(where), state_(state) {}

  /// What is still to be written, from the caller's memory.
  std::vector<uv_buf_t> rest;

  /// `rest` becomes `pieces` without their first `written` bytes.
  void setRest(std::span<const std::span<const std::byte>> pieces, std::size_t written);

  void complete() noexcept {
    result_.value.emplace();
    setReady();
  }
  void fail(const Exception& exception) noexcept { setFailed(result_, exception); }
  ResultBase& get(ResultBase*) noexcept override { return result_; }
  void destroy() noexcept override;
  const char* name() const noexcept override { return "write"; }

private:
  StateRef state_;
  detail::Result<detail::Void> result_;
};

class UvStreamState final : public detail::Pooled {
public:
  explicit UvStreamState(UvHandle<uv_stream_t> handle) : readOp_(*this), handle_(std::move(handle)) {
    handle_.setData(this);
  }

  Promise<std::size_t> tryRead(std::span<std::byte> buffer, std::size_t minBytes, std::source_location where);
  Promise<Chunk> tryReadChunk(std::size_t maxBytes, std::source_location where);
  Promise<void> write(std::span<const std::byte> bytes, std::source_location where);
  Promise<void> write(std::span<const std::span<const std::byte>> pieces, std::source_location where);
  Promise<void> whenWriteDisconnected(std::source_location where);
  void shutdownWrite(std::source_location where);
  void onShutdown(int status) noexcept;
  void abortRead() noexcept;
  std::optional<int> descriptor() const noexcept;

  /// The stream is destroyed: what is pending ends.
  void close() noexcept;

private:
  friend class ReadOp;
  friend class WriteNode;
  friend class StateRef;
  friend struct Spill;

  std::uint32_t references_ = 0;
  bool reading_ = false;    // libuv watches for input
  bool missed_ = false;     // input came and nobody had asked
  bool ended_ = false;      // the end of the stream was seen
  bool aborted_ = false;    // abortRead was called
  bool writeOpen_ = true;   // a write may go straight to the socket: none of the following stands against it
  bool writeEnded_ = false; // shutdownWrite was called
  bool spilling_ = false;   // a Spill is on its way
  int readError_ = 0;       // once a direction has failed, it fails always
  int writeError_ = 0;
  WriteNode* writer_ = nullptr; // the write that waits, if its promise is still there
  ReadOp readOp_;
  detail::GivenBack givenBack_;
  std::unique_ptr<detail::DisconnectWatch> watch_; // once somebody has asked
  UvHandle<uv_stream_t> handle_;

  void dropReference() noexcept {
    if (--references_ == 0) [[unlikely]]
      destroy();
  }
  [[gnu::noinline, gnu::cold]] void destroy() noexcept;
  template <typename T>
  Promise<T> startRead();
  template <typename T>
  [[gnu::noinline, gnu::cold]] Promise<T> startedSlowly();
  [[gnu::noinline, gnu::cold]] void startReadSlowly();
  [[gnu::noinline]] static void giveSpace(UvStreamState* state, uv_buf_t& buffer) noexcept;
  void onRead(ssize_t count) noexcept;
  [[gnu::noinline, gnu::cold]] void onNothingRead(int count) noexcept;
  void failRead(int status) noexcept;
  Exception readException() const noexcept;
  int hiddenReset() const noexcept;

  WriteNode* endWriter() noexcept;
  void failWrite(int status) noexcept;
  void openWrite() noexcept { writeOpen_ = writer_ == nullptr && !spilling_ && !writeEnded_ && writeError_ == 0; }
  [[gnu::noinline]] Promise<void> writeOneSlowly(uv_buf_t buffer, Attempt attempt, std::source_location where);
  [[gnu::noinline]] Promise<void> writeSlowly(std::span<const std::span<const std::byte>> pieces, Attempt attempt,
                                              std::source_location where);
  int tryWrite(std::vector<uv_buf_t>& rest) noexcept;
  void spill() noexcept;
  void onSpilled(int status) noexcept;
  void continueWrite() noexcept;
  Exception writeException(std::source_location where) const;
};

StateRef::StateRef(UvStreamState& state) noexcept : state_(&state) { ++state.references_; }
StateRef::~StateRef() {
  if (state_ != nullptr) state_->dropReference();
}

void UvStreamState::destroy() noexcept { delete this; }

// ------------------------------------------------------------------------------------------- reading

inline void ReadOp::begin(Mode mode, std::source_location where) noexcept {
  resetSource(loop_);
  ++state_.references_; // until destroy()
  mode_ = mode;
  taken_ = false;
  where_ = where;
}

void ReadOp::beginSpan(std::span<std::byte> buffer, std::size_t minBytes, std::source_location where) noexcept {
  begin(Mode::SPAN, where);
  buffer_ = buffer;
  minBytes_ = minBytes;
  filled_ = 0;
}

std::size_t ReadOp::takeGivenBack(std::span<const std::byte> bytes) {
  const std::size_t count = std::min(bytes.size(), mode_ == Mode::CHUNK ? most_ : buffer_.size());
  if (mode_ == Mode::CHUNK) {
    *chunkResult_.value = Chunk::copyOf(bytes.first(count));
    setReady();
  } else {
    std::memcpy(buffer_.data(), bytes.data(), count);
    received(count);
  }
  return count;
}

inline bool ReadOp::giveScratch(uv_buf_t& buffer) const noexcept {
  std::byte* scratch = detail::scratchBuffer();
  if (mode_ != Mode::CHUNK || isReady() || scratch == nullptr) [[unlikely]]
    return false;
  buffer.base = reinterpret_cast<char*>(scratch);
  buffer.len = static_cast<decltype(buffer.len)>(most_);
  return true;
}

void ReadOp::giveSpace(uv_buf_t& buffer) noexcept {
  if (mode_ == Mode::SPAN) {
    buffer = asUvBuffer(buffer_.subspan(filled_).first(std::min(buffer_.size() - filled_, MOST_AT_ONCE)));
  } else if (std::byte* scratch = detail::makeScratch()) {
    buffer = asUvBuffer({scratch, most_});
  } else {
    buffer = asUvBuffer({});
    failed(uvException(UV_ENOMEM, "read", where_));
  }
}

void UvStreamState::giveSpace(UvStreamState* state, uv_buf_t& buffer) noexcept {
  if (state != nullptr && state->readOp_.isPending())
    state->readOp_.giveSpace(buffer);
  else
    buffer = asUvBuffer({});
}

inline void ReadOp::received(std::size_t count) noexcept {
  if (mode_ == Mode::CHUNK) {
    chunkResult_.value->fillFromScratch(count);
    setReady();
    return;
  }
  filled_ += count;
  if (filled_ >= minBytes_) {
    sizeResult_.value.emplace(filled_);
    setReady();
  }
}

void ReadOp::ended() noexcept {
  if (mode_ == Mode::SPAN) sizeResult_.value.emplace(filled_);
  setReady();
}

void ReadOp::failed(const Exception& exception) noexcept {
  giveBack();
  setFailed(result(), exception);
}

// Puts what has arrived, and nobody has taken, in front of what the stream holds already.
void ReadOp::giveBack() noexcept {
  std::span<const std::byte> bytes;
  if (mode_ == Mode::SPAN)
    bytes = buffer_.first(std::exchange(filled_, 0));
  else
    bytes = chunkResult_.value->bytes();
  if (bytes.empty() || state_.aborted_) return;
  try {
    state_.givenBack_.putBack(bytes);
  } catch (...) {
    // Bytes would be lost without notice: the stream must not go on as if nothing were missing.
    state_.readError_ = UV_ENOMEM;
  }
}

void ReadOp::destroy() noexcept {
  if (!taken_) [[unlikely]]
    return destroyUntaken();
  mode_ = Mode::FREE;
  state_.dropReference();
}

void ReadOp::destroyUntaken() noexcept {
  requireThreadToGo();
  giveBack();
  sizeResult_.value.reset();
  sizeResult_.exception = {};
  *chunkResult_.value = Chunk();
  chunkResult_.exception = {};
  mode_ = Mode::FREE;
  state_.dropReference();
}

inline void UvStreamState::onRead(ssize_t count) noexcept {
  if (count > 0) [[likely]]
    readOp_.received(static_cast<std::size_t>(count));
  else
    onNothingRead(static_cast<int>(count));
}

void UvStreamState::onNothingRead(int count) noexcept {
  if (count == 0) return;                            // EAGAIN: there was nothing after all
  if (count == UV_ENOBUFS && !readOp_.isPending()) { // otherwise it is the system's
    if (std::exchange(missed_, true)) {
      uv_read_stop(handle_.get());
      reading_ = missed_ = false;
    }
    return;
  }
  // libuv has stopped watching after the end of the stream, but not after every error.
  uv_read_stop(handle_.get());
  reading_ = false;
  if (count == UV_EOF) count = hiddenReset();
  if (count == UV_EOF) {
    ended_ = true;
    if (readOp_.isPending()) readOp_.ended();
  } else {
    failRead(count);
  }
}

void UvStreamState::failRead(int status) noexcept {
  uv_read_stop(handle_.get());
  reading_ = false;
  readError_ = status;
  if (readOp_.isPending()) readOp_.failed(readException());
}

Exception UvStreamState::readException() const noexcept {
  if (aborted_)
    return Exception(Exception::Kind::DISCONNECTED, "read: reading was given up (abortRead)", uvErrorCode(readError_),
                     readOp_.where());
  return uvException(readError_, "read", readOp_.where());
}

// What libuv calls the end of the stream may be a reset. When bytes and a hang-up come together it reads the
// bytes and then reports the end without asking the socket (uv__stream_io, libuv 1.44); and when a write has met
// the reset, the socket has forgotten it. A truncated stream must not look complete, so the socket is asked here,
// once per connection. (EPIPE is no reset: it follows an end that was clean, tcp_reset in Linux.)
int UvStreamState::hiddenReset() const noexcept {
  if (writeError_ == UV_ECONNRESET) return UV_ECONNRESET;
  const std::optional<int> fd = descriptor();
  int error = 0;
  socklen_t size = sizeof error;
  if (!fd || getsockopt(*fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0) return UV_EOF;
  return error == 0 || error == EPIPE ? UV_EOF : uv_translate_sys_error(error);
}

void UvStreamState::startReadSlowly() {
  if (!givenBack_.empty()) {
    givenBack_.drop(readOp_.takeGivenBack(givenBack_.bytes()));
    if (readOp_.isReady()) return;
  }
  if (readError_ != 0) return readOp_.failed(readException());
  if (ended_) return readOp_.ended();
  if (reading_) return;
  const int status = uv_read_start(
      handle_.get(),
      [](uv_handle_t* handle, std::size_t, uv_buf_t* buffer) {
        auto* state = static_cast<UvStreamState*>(handle->data);
        if (state == nullptr || !state->readOp_.giveScratch(*buffer)) [[unlikely]]
          giveSpace(state, *buffer);
      },
      [](uv_stream_t* handle, ssize_t count, const uv_buf_t*) {
        if (auto* state = static_cast<UvStreamState*>(handle->data)) state->onRead(count);
      });
  if (status < 0) return readOp_.failed(uvException(status, "read", readOp_.where()));
  reading_ = true;
}

// The promise of a read that has begun.
template <typename T>
inline Promise<T> UvStreamState::startRead() {
  missed_ = false;
  if (reading_ && givenBack_.empty()) [[likely]]
    return detail::PromiseAccess::wrap<T>(&readOp_);
  return startedSlowly<T>();
}

template <typename T>
Promise<T> UvStreamState::startedSlowly() {
  Promise<T> promise = detail::PromiseAccess::wrap<T>(&readOp_);
  startReadSlowly();
  return promise;
}

Promise<std::size_t> UvStreamState::tryRead(std::span<std::byte> buffer, std::size_t minBytes,
                                            std::source_location where) {
  if (!readOp_.isFree()) [[unlikely]]
    detail::throwMisuse("tryRead: another read of this stream is pending, or its result has not been taken", where);
  if (minBytes == 0 || minBytes > buffer.size()) [[unlikely]] {
    if (buffer.empty() && minBytes <= 1)
      detail::throwMisuse("tryRead: the buffer is empty, so a result of 0 would not mean the end of the stream", where);
    detail::throwMisuse(fmt::format("tryRead: minBytes is {}, but must be between 1 and the buffer's size, {}",
                                    minBytes, buffer.size()),
                        where);
  }
  readOp_.beginSpan(buffer, minBytes, where);
  return startRead<std::size_t>();
}

Promise<Chunk> UvStreamState::tryReadChunk(std::size_t maxBytes, std::source_location where) {
  if (!readOp_.isFree()) [[unlikely]]
    detail::throwMisuse("tryReadChunk: another read of this stream is pending, or its result has not been taken",
                        where);
  if (maxBytes == 0) [[unlikely]]
    detail::throwMisuse("tryReadChunk: maxBytes is 0, so a result would not tell the end of the stream", where);
  readOp_.beginChunk(maxBytes, where);
  return startRead<Chunk>();
}

// ------------------------------------------------------------------------------------------- writing

Exception UvStreamState::writeException(std::source_location where) const {
  return uvException(writeError_, "write", where);
}

// Writes what the socket takes, and removes it from `rest`. Returns a negative status on error.
int UvStreamState::tryWrite(std::vector<uv_buf_t>& rest) noexcept {
  while (!rest.empty()) {
    const int status =
        uv_try_write(handle_.get(), rest.data(), static_cast<unsigned>(std::min<std::size_t>(rest.size(), 1024)));
    if (status == UV_EAGAIN) return 0;
    if (status < 0) return status;
    auto written = static_cast<std::size_t>(status);
    auto piece = rest.begin();
    while (piece != rest.end() && written >= piece->len) written -= (piece++)->len;
    const bool partial = piece != rest.end() && written > 0;
    if (partial) {
      piece->base += written;
      piece->len -= written;
    }
    rest.erase(rest.begin(), piece);
    if (partial) return 0; // the socket is full: asking again would only tell so
  }
  return 0;
}

// The usual case: the socket takes it all. Everything else is left to writeSlowly.
Promise<void> UvStreamState::write(std::span<const std::byte> bytes, std::source_location where) {
  Attempt attempt;
  const uv_buf_t buffer = asUvBuffer(bytes);
  if (writeOpen_ && !bytes.empty() && bytes.size() <= MOST_AT_ONCE) [[likely]] {
    const int status = uv_try_write(handle_.get(), &buffer, 1);
    if (status == static_cast<int>(buffer.len)) [[likely]]
      return READY_NOW;
    attempt.note(status, buffer.len);
  }
  return writeOneSlowly(buffer, attempt, where);
}

Promise<void> UvStreamState::writeOneSlowly(uv_buf_t buffer, Attempt attempt, std::source_location where) {
  const std::span piece(reinterpret_cast<const std::byte*>(buffer.base), buffer.len);
  return writeSlowly({&piece, 1}, attempt, where);
}

// In batches that fit on the stack, until the socket does not take one.
Promise<void> UvStreamState::write(std::span<const std::span<const std::byte>> pieces, std::source_location where) {
  std::array<uv_buf_t, 64> buffers;
  Attempt attempt;
  auto piece = pieces.begin();
  while (writeOpen_) {
    unsigned count = 0;
    std::size_t total = 0;
    for (; piece != pieces.end() && count < buffers.size() && piece->size() <= MOST_AT_ONCE - total; ++piece) {
      if (piece->empty()) continue;
      buffers[count++] = asUvBuffer(*piece);
      total += piece->size();
    }
    if (count == 0) break; // nothing is left, or a piece that is too large for libuv
    if (!attempt.note(uv_try_write(handle_.get(), buffers.data(), count), total)) break;
    if (piece == pieces.end()) return READY_NOW;
  }
  return writeSlowly(pieces, attempt, where);
}

void WriteNode::setRest(std::span<const std::span<const std::byte>> pieces, std::size_t written) {
  for (std::span<const std::byte> piece : pieces) {
    const std::size_t skip = std::min(written, piece.size());
    written -= skip;
    piece = piece.subspan(skip);
    while (!piece.empty()) {
      const std::size_t size = std::min(piece.size(), MOST_AT_ONCE);
      rest.push_back(asUvBuffer(piece.first(size)));
      piece = piece.subspan(size);
    }
  }
}

// Refuses a misuse, reports a failed direction, or waits for the socket to take what the attempt has left.
Promise<void> UvStreamState::writeSlowly(std::span<const std::span<const std::byte>> pieces, Attempt attempt,
                                         std::source_location where) {
  if (attempt.error != 0) failWrite(attempt.error);
  if (writer_ != nullptr) detail::throwMisuse("write: another write to this stream is pending", where);
  if (writeEnded_) detail::throwMisuse("write: the stream was shut down for writing", where);
  if (writeError_ != 0) return Promise<void>(writeException(where), where);

  WriteNode* node = nullptr;
  Promise<void> promise = NEVER_DONE;
  try {
    node = detail::NodeAccess::makeAlone<WriteNode>(*this, where);
    promise = detail::PromiseAccess::wrap<void>(node);
    node->setRest(pieces, attempt.written);
  } catch (...) {
    // Whoever writes on after a part of this must not think that it has arrived.
    if (attempt.written > 0) failWrite(UV_ENOMEM);
    throw;
  }
  if (node->rest.empty()) return READY_NOW;
  writer_ = node;
  writeOpen_ = false;
  if (spilling_) return promise;
  if (attempt.made)
    spill();
  else
    continueWrite();
  return promise;
}

// Hands the next bytes of the pending write to libuv, in a buffer of their own.
void UvStreamState::spill() noexcept {
  Spill* spill = nullptr;
  try {
    spill = new Spill(*this);
  } catch (...) {
    return failWrite(UV_ENOMEM);
  }
  std::vector<uv_buf_t>& rest = writer_->rest;
  std::size_t size = 0;
  auto piece = rest.begin();
  for (; piece != rest.end() && size < detail::BUFFER_SIZE; ++piece) {
    const std::size_t part = std::min<std::size_t>(piece->len, detail::BUFFER_SIZE - size);
    std::memcpy(spill->bytes + size, piece->base, part);
    size += part;
    if (part < piece->len) {
      piece->base += part;
      piece->len -= part;
      break;
    }
  }
  rest.erase(rest.begin(), piece);
  spill->request.data = spill;
  const uv_buf_t buffer = asUvBuffer({spill->bytes, size});
  const int status = uv_write(&spill->request, handle_.get(), &buffer, 1, [](uv_write_t* request, int result) {
    std::unique_ptr<Spill> done(static_cast<Spill*>(request->data));
    done->state->onSpilled(result);
  });
  if (status < 0) {
    delete spill;
    return failWrite(status);
  }
  spilling_ = true;
}

void UvStreamState::onSpilled(int status) noexcept {
  spilling_ = false;
  if (status < 0) return failWrite(status);
  if (writer_ != nullptr)
    continueWrite();
  else
    openWrite();
}

void UvStreamState::continueWrite() noexcept {
  const int status = tryWrite(writer_->rest);
  if (status < 0) return failWrite(status);
  if (writer_->rest.empty()) return endWriter()->complete();
  spill();
}

// The pending write is about to be settled, or was cancelled.
WriteNode* UvStreamState::endWriter() noexcept {
  WriteNode* writer = std::exchange(writer_, nullptr);
  openWrite();
  return writer;
}

// The outgoing direction has failed, and with it the pending write.
void UvStreamState::failWrite(int status) noexcept {
  writeError_ = status;
  if (WriteNode* writer = endWriter()) writer->fail(writeException(writer->where()));
  if (watch_) watch_->disconnected();
}

Promise<void> UvStreamState::whenWriteDisconnected(std::source_location where) {
  if (writeError_ != 0) return READY_NOW;
  const std::optional<int> fd = descriptor();
  if (!fd) return NEVER_DONE;
  if (!watch_) watch_ = std::make_unique<detail::DisconnectWatch>();
  return watch_->wait(handle_->loop, *fd, where);
}

void WriteNode::destroy() noexcept {
  requireThreadToGo();
  if (state_->writer_ == this) state_->endWriter();
  detail::NodeAccess::destroy(this);
}

void UvStreamState::shutdownWrite(std::source_location where) {
  if (writer_ != nullptr) detail::throwMisuse("shutdownWrite: a write to this stream is pending", where);
  if (writeEnded_) return;
  struct Shutdown : detail::Pooled {
    explicit Shutdown(UvStreamState& s) : state(s) {}
    uv_shutdown_t request;
    StateRef state;
  };
  auto shutdown = std::make_unique<Shutdown>(*this);
  shutdown->request.data = shutdown.get();
  const int status = uv_shutdown(&shutdown->request, handle_.get(), [](uv_shutdown_t* request, int result) {
    std::unique_ptr<Shutdown> done(static_cast<Shutdown*>(request->data));
    done->state->onShutdown(result);
  });
  // A peer that has gone needs no end of stream; reading reports it.
  if (status != UV_ENOTCONN) {
    uvCheck(status, "shutdownWrite", where);
    shutdown.release();
  }
  writeEnded_ = true;
  writeOpen_ = false;
}

// A peer that waits for the end of the stream would wait for ever, and so would we for its answer. (A terminal has none
// that would.)
void UvStreamState::onShutdown(int status) noexcept {
  if (status < 0 && status != UV_ECANCELED && status != UV_ENOTCONN && handle_->type != UV_TTY) failRead(status);
}

// A local peer's next write fails; a TCP peer is not told: what it sends is thrown away (shutdown(2), Linux).
void UvStreamState::abortRead() noexcept {
  if (const std::optional<int> fd = descriptor()) ::shutdown(*fd, SHUT_RD);
  aborted_ = true;
  givenBack_ = detail::GivenBack();
  failRead(UV_ECONNABORTED);
}

std::optional<int> UvStreamState::descriptor() const noexcept {
  uv_os_fd_t fd;
  if (uv_fileno(handle_.base(), &fd) < 0) return std::nullopt;
  return fd;
}

void UvStreamState::close() noexcept {
  if (readOp_.isPending())
    readOp_.failed(Exception(Exception::Kind::DISCONNECTED, "read: the stream was destroyed while the read was pending",
                             {}, readOp_.where()));
  if (WriteNode* writer = endWriter()) {
    writer->fail(Exception(Exception::Kind::DISCONNECTED, "write: the stream was destroyed while the write was pending",
                           {}, writer->where()));
  }
  handle_.close();
}

/// The stream itself: only the ownership of its state.
class UvStream final : public AsyncIoStream, public detail::Pooled {
public:
  explicit UvStream(UvHandle<uv_stream_t> handle) : state_(*new UvStreamState(std::move(handle))) {}
  ~UvStream() override { state_->close(); }

  Promise<std::size_t> tryRead(std::span<std::byte> buffer, std::size_t minBytes, std::source_location where) override {
    return state_->tryRead(buffer, minBytes, where);
  }
  Promise<Chunk> tryReadChunk(std::size_t maxBytes, std::source_location where) override {
    return state_->tryReadChunk(maxBytes, where);
  }
  Promise<void> write(std::span<const std::byte> bytes, std::source_location where) override {
    return state_->write(bytes, where);
  }
  Promise<void> write(std::span<const std::span<const std::byte>> pieces, std::source_location where) override {
    return state_->write(pieces, where);
  }
  Promise<void> whenWriteDisconnected(std::source_location where) override {
    return state_->whenWriteDisconnected(where);
  }
  void shutdownWrite(std::source_location where) override { state_->shutdownWrite(where); }
  void abortRead(std::source_location) override { state_->abortRead(); }
  std::optional<int> descriptor() const override { return state_->descriptor(); }

private:
  StateRef state_;
};

} // namespace

std::unique_ptr<AsyncIoStream> newUvStream(UvHandle<uv_stream_t> handle) {
  return std::make_unique<UvStream>(std::move(handle));
}

} // namespace v0
} // namespace troth
