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
// A pump from a file is sent by the thread pool (uv_sendfile_detail.h), in the writer's place. What a thread is sending
// counts as a Spill: if the pump is cancelled, the next write waits for it.
//
// Ownership. UvStreamState is counted: the stream holds it, each pending operation does, and a Spill does
// until its callback. The handle belongs to the stream alone: closing it (`close`) ends every operation.
#include <troth/io/uv_stream.h>

#include <troth/io/forwarding_detail.h>
#include <troth/io/given_back_detail.h>
#include <troth/io/read_op_detail.h>
#include <troth/io/undelivered_detail.h>
#include <troth/io/uv_disconnect_watch_detail.h>
#include <troth/io/uv_sendfile_detail.h>
#include <troth/io/write_op_detail.h>

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <cstring>

#include <sys/socket.h>

namespace troth {
inline namespace v0 {
namespace {

using detail::Pieces;
using detail::Ref;

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

/// As many pieces as libuv is asked to write at once.
struct Batch {
  std::array<uv_buf_t, 64> buffers;
  unsigned count = 0;
  std::size_t size = 0;

  /// Adds what it has room for of `piece`; returns whether that was all of it.
  bool add(std::span<const std::byte> piece) noexcept {
    if (piece.empty()) return true;
    if (count == buffers.size()) return false;
    const std::size_t part = std::min(piece.size(), MOST_AT_ONCE - size);
    if (part != 0) buffers[count++] = asUvBuffer(piece.first(part));
    size += part;
    return part == piece.size();
  }
};

/// Bytes on their way that nobody else keeps alive.
struct Spill : detail::Pooled {
  explicit Spill(UvStreamState& s) : state(s) {}
  ~Spill() { detail::deallocate(bytes, detail::BUFFER_SIZE); }
  Spill(const Spill&) = delete;
  Spill& operator=(const Spill&) = delete;

  uv_write_t request;
  Ref<UvStreamState> state;
  std::byte* bytes = static_cast<std::byte*>(detail::allocate(detail::BUFFER_SIZE));
};

class UvStreamState final : public detail::Counted, public detail::Pooled {
public:
  explicit UvStreamState(UvHandle<uv_stream_t> handle) : readOp_(*this), handle_(std::move(handle)) {
    handle_.setData(this);
  }

  Promise<std::size_t> tryRead(std::span<std::byte> buffer, std::size_t minBytes, std::source_location where);
  Promise<Chunk> tryReadChunk(std::size_t maxBytes, std::source_location where);
  Promise<void> write(std::span<const std::byte> bytes, std::source_location where);
  Promise<void> write(std::span<const std::span<const std::byte>> pieces, std::source_location where);
  Promise<detail::Sent> sendFile(detail::FilePosition from, std::uint64_t amount, std::source_location where);
  Promise<void> whenWriteDisconnected(std::source_location where);
  void shutdownWrite(std::source_location where);
  void onShutdown(int status) noexcept;
  void abortWrite(std::source_location) noexcept;
  void abortRead(std::source_location) noexcept;
  std::optional<std::uint64_t> tryGetUndelivered() const noexcept;
  std::optional<int> descriptor() const noexcept;

  /// The stream is destroyed: what is pending ends.
  void close() noexcept;

private:
  friend class detail::ReadOp<UvStreamState>;
  using WriteOp = detail::WriteOp<UvStreamState>;
  friend WriteOp;
  using SendfileOp = detail::SendfileOp<UvStreamState>;
  friend SendfileOp;

  bool readOpen_ = false;     // a read has only to wait: libuv watches, and nothing was given back
  bool reading_ = false;      // libuv watches for input
  bool missed_ = false;       // input came and nobody had asked
  bool ended_ = false;        // the end of the stream was seen
  bool aborted_ = false;      // abortRead was called
  bool writeOpen_ = true;     // a write may go straight to the socket: none of the following stands against it
  bool writeEnded_ = false;   // shutdownWrite was called
  bool writeAborted_ = false; // abortWrite was called
  bool spilling_ = false;     // a Spill, or a part of a file, is on its way
  int readError_ = 0;         // once a direction has failed, it fails always
  int writeError_ = 0;
  WriteOp* writer_ = nullptr;    // the write that waits, if its promise is still there
  SendfileOp* sender_ = nullptr; // or the pump from a file
  detail::GivenBack givenBack_;
  detail::ReadOp<UvStreamState> readOp_;
  std::unique_ptr<detail::DisconnectWatch> watch_; // once somebody has asked
  UvHandle<uv_stream_t> handle_;

  template <typename T>
  Promise<T> startRead() noexcept;
  template <typename T>
  [[gnu::noinline, gnu::cold]] Promise<T> startedSlowly() noexcept;
  [[gnu::noinline, gnu::cold]] void startReadSlowly() noexcept;
  [[gnu::noinline, gnu::cold]] Promise<Chunk> tryReadUnusualChunk(std::size_t maxBytes, std::source_location where);
  bool giveScratch(uv_buf_t& buffer) const noexcept;
  [[gnu::noinline]] static void giveSpace(UvStreamState* state, uv_buf_t& buffer) noexcept;
  void onRead(ssize_t count, const uv_buf_t& buffer) noexcept;
  [[gnu::noinline, gnu::cold]] void onNothingRead(int count, const uv_buf_t& buffer) noexcept;
  void onHangUp() noexcept;
  void stopReading() noexcept;
  void failRead(int status) noexcept;
  Exception readException() const noexcept;
  int hiddenReset() const noexcept;

  void giveBack(std::span<const std::byte> bytes) noexcept;
  void readCancelled() noexcept {} // libuv goes on watching

  bool hasWriter() const noexcept { return writer_ != nullptr || sender_ != nullptr; }
  WriteOp* endWriter() noexcept;
  void writeCancelled(WriteOp& op) noexcept;
  void failWrite(int status) noexcept;
  void openWrite() noexcept { writeOpen_ = !hasWriter() && !spilling_ && !writeEnded_ && writeError_ == 0; }
  static constexpr int NOT_TRIED = INT_MIN; // no status of libuv
  [[gnu::noinline]] Promise<void> writeOneSlowly(uv_buf_t buffer, int status, std::source_location where);
  [[gnu::noinline]] Promise<void> writeSlowly(std::span<const std::span<const std::byte>> pieces, Attempt attempt,
                                              std::source_location where);
  int tryWrite(Pieces& pieces) noexcept;
  void spill() noexcept;
  void onSpilled(int status) noexcept;
  void continueWrite() noexcept;
  void sendBegins() noexcept { spilling_ = true; }
  void partSent(SendfileOp* op, detail::SentPart part) noexcept;
  SendfileOp* endSender() noexcept;
  Exception writeException(std::source_location where) const;
};

// ------------------------------------------------------------------------------------------- reading

// The usual case: the next bytes go to the thread's scratch buffer, if they can.
inline bool UvStreamState::giveScratch(uv_buf_t& buffer) const noexcept {
  std::byte* scratch = detail::scratchBuffer();
  if (!readOp_.wantsChunk() || readOp_.isReady() || scratch == nullptr) [[unlikely]]
    return false;
  buffer.base = reinterpret_cast<char*>(scratch);
  buffer.len = static_cast<decltype(buffer.len)>(readOp_.most());
  return true;
}

// Nowhere if nobody reads, or if there is no memory for them (the read has failed then).
void UvStreamState::giveSpace(UvStreamState* state, uv_buf_t& buffer) noexcept {
  buffer = asUvBuffer({});
  if (state == nullptr || !state->readOp_.isPending()) return;
  auto& read = state->readOp_;
  if (!read.wantsChunk())
    buffer = asUvBuffer(read.space().first(std::min(read.space().size(), MOST_AT_ONCE)));
  else if (std::byte* scratch = detail::makeScratch())
    buffer = asUvBuffer({scratch, read.most()});
  else
    read.failed(uvException(UV_ENOMEM, "read", read.where()));
}

inline void UvStreamState::onRead(ssize_t count, const uv_buf_t& buffer) noexcept {
  if (count <= 0) [[unlikely]]
    return onNothingRead(static_cast<int>(count), buffer);
  if (readOp_.wantsChunk())
    readOp_.receivedScratch(static_cast<std::size_t>(count));
  else
    readOp_.received(static_cast<std::size_t>(count));
}

void UvStreamState::onNothingRead(int count, const uv_buf_t& buffer) noexcept {
  if (count == 0) return;                            // EAGAIN: there was nothing after all
  if (count == UV_ENOBUFS && !readOp_.isPending()) { // otherwise it is the system's
    if (std::exchange(missed_, true)) stopReading();
    return;
  }
  if (count == UV_EOF && buffer.base == nullptr) return onHangUp();
  if (count == UV_EOF) count = hiddenReset();
  if (count == UV_EOF) {
    stopReading();
    ended_ = true;
    if (readOp_.isPending()) readOp_.ended();
  } else {
    failRead(count);
  }
}

// With a hang-up libuv (1.44, uv__stream_io) takes a read that brought less than was asked for, for the last one, and
// reports the end without having met it. But there may be more behind urgent data, or where a read brings no more than
// a packet (a pipe with O_DIRECT) or a page (a pseudo-terminal). Only read(2) knows.
void UvStreamState::onHangUp() noexcept {
  stopReading();
  if (readOp_.isPending()) startReadSlowly();
}

void UvStreamState::stopReading() noexcept {
  uv_read_stop(handle_.get());
  reading_ = readOpen_ = missed_ = false;
}

// libuv itself has stopped watching after the end of the stream, but not after every error.
void UvStreamState::failRead(int status) noexcept {
  stopReading();
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

void UvStreamState::startReadSlowly() noexcept {
  if (!givenBack_.empty() && !aborted_) {
    givenBack_.drop(readOp_.take(givenBack_.bytes()));
    if (readOp_.isReady()) return;
  }
  if (readError_ != 0) return readOp_.failed(readException());
  if (ended_) return readOp_.ended();
  readOpen_ = true; // nothing is given back any more
  if (reading_) return;
  const int status = uv_read_start(
      handle_.get(),
      [](uv_handle_t* handle, std::size_t, uv_buf_t* buffer) {
        auto* state = static_cast<UvStreamState*>(handle->data);
        if (state == nullptr || !state->giveScratch(*buffer)) [[unlikely]]
          giveSpace(state, *buffer);
      },
      [](uv_stream_t* handle, ssize_t count, const uv_buf_t* buffer) {
        if (auto* state = static_cast<UvStreamState*>(handle->data)) state->onRead(count, *buffer);
      });
  reading_ = true;
  if (status < 0) failRead(status);
}

// The promise of a read that has begun.
template <typename T>
inline Promise<T> UvStreamState::startRead() noexcept {
  missed_ = false;
  if (readOpen_) [[likely]]
    return readOp_.promise<T>();
  return startedSlowly<T>();
}

template <typename T>
Promise<T> UvStreamState::startedSlowly() noexcept {
  Promise<T> promise = readOp_.promise<T>();
  startReadSlowly();
  return promise;
}

void UvStreamState::giveBack(std::span<const std::byte> bytes) noexcept {
  readOpen_ = false;
  if (!givenBack_.putBack(bytes)) readError_ = UV_ENOMEM;
}

Promise<std::size_t> UvStreamState::tryRead(std::span<std::byte> buffer, std::size_t minBytes,
                                            std::source_location where) {
  if (!readOp_.isFree()) [[unlikely]]
    detail::throwMisuse("tryRead: another read of this stream is pending, or its result has not been taken", where);
  detail::requireReadable(buffer, minBytes, where);
  readOp_.beginSpan(buffer, minBytes, where);
  return startRead<std::size_t>();
}

Promise<Chunk> UvStreamState::tryReadChunk(std::size_t maxBytes, std::source_location where) {
  if (!readOp_.isFree() || !detail::isChunkSize(maxBytes)) [[unlikely]]
    return tryReadUnusualChunk(maxBytes, where);
  readOp_.beginChunk(maxBytes, where);
  return startRead<Chunk>();
}

Promise<Chunk> UvStreamState::tryReadUnusualChunk(std::size_t maxBytes, std::source_location where) {
  if (!readOp_.isFree())
    detail::throwMisuse("tryReadChunk: another read of this stream is pending, or its result has not been taken",
                        where);
  return tryReadChunk(detail::chunkSize(maxBytes, where), where);
}

// ------------------------------------------------------------------------------------------- writing

Exception UvStreamState::writeException(std::source_location where) const {
  if (writeAborted_)
    return Exception(Exception::Kind::DISCONNECTED, "write: writing was given up (abortWrite)",
                     uvErrorCode(writeError_), where);
  if (writeError_ == UV_EIO && handle_->type == UV_TTY)
    return Exception(Exception::Kind::DISCONNECTED, "write: the terminal was hung up", uvErrorCode(UV_EIO), where);
  return uvException(writeError_, "write", where);
}

// Writes what the socket takes, and takes it away from `pieces`. Returns a negative status on error.
int UvStreamState::tryWrite(Pieces& pieces) noexcept {
  while (!pieces.empty()) {
    Batch batch;
    pieces.forEach([&](std::span<const std::byte> piece) { return batch.add(piece); });
    const int status = uv_try_write(handle_.get(), batch.buffers.data(), batch.count);
    if (status == UV_EAGAIN) return 0;
    if (status < 0) return status;
    pieces.drop(static_cast<std::size_t>(status));
    if (static_cast<std::size_t>(status) < batch.size) return 0; // the socket is full: asking again would only tell so
  }
  return 0;
}

// The usual case: the socket takes it all. Everything else is left to writeSlowly.
Promise<void> UvStreamState::write(std::span<const std::byte> bytes, std::source_location where) {
  const uv_buf_t buffer = asUvBuffer(bytes);
  if (!writeOpen_ || bytes.size() - 1 >= MOST_AT_ONCE) [[unlikely]]
    return writeOneSlowly(buffer, NOT_TRIED, where);
  const int status = uv_try_write(handle_.get(), &buffer, 1);
  if (status == static_cast<int>(buffer.len)) [[likely]]
    return READY_NOW;
  return writeOneSlowly(buffer, status, where);
}

Promise<void> UvStreamState::writeOneSlowly(uv_buf_t buffer, int status, std::source_location where) {
  Attempt attempt;
  if (status != NOT_TRIED) attempt.note(status, buffer.len);
  const std::span piece(reinterpret_cast<const std::byte*>(buffer.base), buffer.len);
  return writeSlowly({&piece, 1}, attempt, where);
}

// In batches, until the socket does not take one.
Promise<void> UvStreamState::write(std::span<const std::span<const std::byte>> pieces, std::source_location where) {
  Attempt attempt;
  auto piece = pieces.begin();
  while (writeOpen_) {
    Batch batch;
    while (piece != pieces.end() && piece->size() <= MOST_AT_ONCE - batch.size && batch.add(*piece)) ++piece;
    if (batch.count == 0) break; // nothing is left, or a piece that is too large for libuv
    if (!attempt.note(uv_try_write(handle_.get(), batch.buffers.data(), batch.count), batch.size)) break;
    if (piece == pieces.end()) return READY_NOW;
  }
  return writeSlowly(pieces, attempt, where);
}

// Refuses a misuse, reports a failed direction, or waits for the socket to take what the attempt has left.
Promise<void> UvStreamState::writeSlowly(std::span<const std::span<const std::byte>> pieces, Attempt attempt,
                                         std::source_location where) {
  if (attempt.error != 0) failWrite(attempt.error);
  if (hasWriter()) detail::throwMisuse("write: another write to this stream is pending", where);
  if (writeEnded_) detail::throwMisuse("write: the stream was shut down for writing", where);
  if (writeError_ != 0) return Promise<void>(writeException(where), where);

  Promise<void> promise = NEVER_DONE;
  WriteOp* op = nullptr;
  try {
    Pieces rest(pieces, attempt.written);
    if (rest.empty()) return READY_NOW;
    op = detail::NodeAccess::makeAlone<WriteOp>(*this, std::move(rest), where);
    promise = detail::PromiseAccess::wrap<void>(op);
  } catch (...) {
    // Whoever writes on after a part of this must not think that it has arrived.
    if (attempt.written > 0) failWrite(UV_ENOMEM);
    throw;
  }
  writer_ = op;
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
  const std::size_t size = writer_->pieces.moveTo({spill->bytes, detail::BUFFER_SIZE});
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
  else if (sender_ != nullptr)
    sender_->start();
  else
    openWrite();
}

void UvStreamState::continueWrite() noexcept {
  const int status = tryWrite(writer_->pieces);
  if (status < 0) return failWrite(status);
  if (writer_->pieces.empty()) return endWriter()->complete();
  spill();
}

// The pending write is about to be settled, or was cancelled.
UvStreamState::WriteOp* UvStreamState::endWriter() noexcept {
  WriteOp* writer = std::exchange(writer_, nullptr);
  openWrite();
  return writer;
}

void UvStreamState::writeCancelled(WriteOp& op) noexcept {
  if (writer_ == &op) endWriter();
}

// The outgoing direction has failed, and with it the pending write.
void UvStreamState::failWrite(int status) noexcept {
  writeError_ = status;
  if (WriteOp* writer = endWriter()) writer->fail(writeException(writer->where()));
  if (SendfileOp* sender = endSender()) sender->fail(writeException(sender->where()));
  if (watch_) watch_->disconnected();
}

Promise<detail::Sent> UvStreamState::sendFile(detail::FilePosition from, std::uint64_t amount,
                                              std::source_location where) {
  if (hasWriter()) detail::throwMisuse("pumpTo: another write to this stream is pending", where);
  const std::optional<int> fd = descriptor();
  if (amount == 0 || writeEnded_ || writeError_ != 0 || !fd) return detail::Sent();
  detail::SharedDescriptor socket = detail::duplicateForSendfile(*fd);
  if (socket == nullptr) return detail::Sent();
  sender_ = detail::NodeAccess::makeAlone<SendfileOp>(*this, handle_->loop, std::move(socket), std::move(from), amount,
                                                      where);
  Promise<detail::Sent> promise = detail::PromiseAccess::wrap<detail::Sent>(sender_);
  writeOpen_ = false;
  if (!spilling_) sender_->start();
  return promise;
}

// If nobody waits for it any more, only a failure of the connection matters; and who has shut it down knows of that.
void UvStreamState::partSent(SendfileOp* op, detail::SentPart part) noexcept {
  if (op == nullptr) return onSpilled(part.isDisconnection() && !writeEnded_ ? part.status : 0);
  spilling_ = false;
  op->onSent(part);
}

// As endWriter().
UvStreamState::SendfileOp* UvStreamState::endSender() noexcept {
  SendfileOp* sender = std::exchange(sender_, nullptr);
  openWrite();
  return sender;
}

Promise<void> UvStreamState::whenWriteDisconnected(std::source_location where) {
  if (writeError_ != 0) return READY_NOW;
  const std::optional<int> fd = descriptor();
  if (!fd) return NEVER_DONE;
  if (!watch_) watch_ = std::make_unique<detail::DisconnectWatch>();
  return watch_->wait(handle_->loop, *fd, where);
}

void UvStreamState::shutdownWrite(std::source_location where) {
  if (hasWriter()) detail::throwMisuse("shutdownWrite: a write to this stream is pending", where);
  if (writeEnded_) return;
  struct Shutdown : detail::Pooled {
    explicit Shutdown(UvStreamState& s) : state(s) {}
    uv_shutdown_t request;
    Ref<UvStreamState> state;
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

// The kernel resets a TCP connection that is closed and may not linger (tcp_close, Linux; so does uv_tcp_close_reset(),
// which would close it now, and libuv's own closing does as well).
void UvStreamState::abortWrite(std::source_location) noexcept {
  if (writeEnded_ || writeAborted_) return;
  const linger none{.l_onoff = 1, .l_linger = 0};
  if (const std::optional<int> fd = descriptor(); fd && handle_->type == UV_TCP)
    ::setsockopt(*fd, SOL_SOCKET, SO_LINGER, &none, sizeof none);
  writeAborted_ = true;
  failWrite(UV_ECONNABORTED);
}

// A local peer's next write fails; a TCP peer is not told: what it sends is thrown away (shutdown(2), Linux).
void UvStreamState::abortRead(std::source_location) noexcept {
  if (const std::optional<int> fd = descriptor()) ::shutdown(*fd, SHUT_RD);
  aborted_ = true;
  givenBack_.clear();
  failRead(UV_ECONNABORTED);
}

std::optional<std::uint64_t> UvStreamState::tryGetUndelivered() const noexcept {
  if (!hasWriter()) return 0;
  std::uint64_t size = uv_stream_get_write_queue_size(handle_.get());
  size += writer_ != nullptr ? writer_->pieces.size() : sender_->left();
  if (const std::optional<int> fd = descriptor()) size += detail::heldBySocket(*fd);
  return size;
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
  if (WriteOp* writer = endWriter()) {
    writer->fail(Exception(Exception::Kind::DISCONNECTED, "write: the stream was destroyed while the write was pending",
                           {}, writer->where()));
  }
  if (SendfileOp* sender = endSender()) {
    sender->fail(Exception(Exception::Kind::DISCONNECTED,
                           "pumpTo: the stream was destroyed while the pump to it was pending", {}, sender->where()));
  }
  handle_.close();
}

/// The stream itself: only the ownership of its state.
class UvStream final : public detail::ForwardingStream<AsyncIoStream, Ref<UvStreamState>>,
                       public detail::FileSink,
                       public detail::Pooled {
public:
  explicit UvStream(UvHandle<uv_stream_t> handle)
      : ForwardingStream(Ref<UvStreamState>(*new UvStreamState(std::move(handle)))) {}
  ~UvStream() override { target_->close(); }

  std::optional<Promise<std::uint64_t>> tryPumpFrom(AsyncInputStream& input, std::uint64_t amount,
                                                    std::source_location where) override {
    auto* file = dynamic_cast<detail::FileSource*>(&input);
    if (file == nullptr) return std::nullopt;
    return file->pumpToSink(*this, *this, amount, where);
  }
  Promise<detail::Sent> sendFile(detail::FilePosition from, std::uint64_t amount, std::source_location where) override {
    return target_->sendFile(std::move(from), amount, where);
  }
};

} // namespace

std::unique_ptr<AsyncIoStream> newUvStream(UvHandle<uv_stream_t> handle) {
  return std::make_unique<UvStream>(std::move(handle));
}

} // namespace v0
} // namespace troth
