// SPDX-License-Identifier: MIT
// sendmsg and recvmsg on a Unix socket that a uv_poll_t watches. (libuv's own way passes nothing but its handles.)
//
// Writing tries the socket at once, and waits for it only if it is full. Reading waits; the socket stays watched for
// input after a read, and is so no longer when input comes and nobody has asked: the bytes stay in the kernel.
//
// What came for a read that was cancelled is kept in `arrivals_`, with the bounds that the kernel gave it: the bytes of
// one recvmsg(), and the descriptors that came along. The kernel may put plain bytes in front of a message that has
// descriptors, but none behind it (unix_stream_read_generic, Linux). So it is the last byte with which they are sure to
// have come, and with which they are given to a later read.
#include <troth/io/capability_stream.h>

#include <troth/io/async_io.h>
#include <troth/io/read_size_detail.h>
#include <troth/io/undelivered_detail.h>
#include <troth/io/uv_descriptor_detail.h>
#include <troth/io/uv_disconnect_watch_detail.h>
#include <troth/io/write_op_detail.h>
#include <troth/runtime/uv/uv_event_port.h>

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <deque>

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/uio.h>

namespace troth {
inline namespace v0 {
namespace {

using detail::NodeAccess;
using detail::Pieces;
using detail::Ref;

class CapabilityState;

constexpr std::size_t CONTROL_SIZE = CMSG_SPACE(AsyncCapabilityStream::MOST_DESCRIPTORS * sizeof(int));

int systemError() noexcept { return uv_translate_sys_error(errno); }

/// Bytes, and the descriptors that go with the last of them.
struct Arrival {
  std::vector<std::byte> bytes;
  std::size_t taken = 0; // of the bytes
  std::vector<OwnedDescriptor> descriptors;
};

// ------------------------------------------------------------------------------------------- reading

class CapabilityReadNode final : public detail::SourceNode {
public:
  CapabilityReadNode(CapabilityState& state, std::span<std::byte> buffer, std::size_t minBytes,
                     std::size_t maxDescriptors, std::source_location where)
      : SourceNode(where), state_(state), buffer_(buffer), minBytes_(minBytes), maxDescriptors_(maxDescriptors) {}

  std::span<std::byte> space() const noexcept { return buffer_.subspan(filled_); }
  bool hasEnough() const noexcept { return filled_ >= minBytes_; }
  bool wantsDescriptors() const noexcept { return maxDescriptors_ != 0; }

  /// `count` bytes have come to space().
  void addBytes(std::size_t count) noexcept { filled_ += count; }
  /// `descriptors` have come with the last of `count` bytes more. Throws std::bad_alloc; nothing was added then.
  void add(std::size_t count, std::vector<OwnedDescriptor> descriptors) {
    if (!descriptors.empty()) {
      marks_.reserve(marks_.size() + 1);
      descriptors_.reserve(descriptors_.size() + descriptors.size());
      marks_.push_back({filled_ + count - 1, descriptors.size()});
      std::move(descriptors.begin(), descriptors.end(), std::back_inserter(descriptors_));
    }
    addBytes(count);
  }

  void complete() noexcept {
    result_.value.emplace();
    setReady();
  }
  void fail(const Exception& exception) noexcept {
    giveBack();
    setFailed(result_, exception);
  }
  detail::ResultBase& get(detail::ResultBase*) noexcept override {
    taken_ = true;
    if (result_.value) {
      if (descriptors_.size() > maxDescriptors_) descriptors_.resize(maxDescriptors_);
      result_.value->bytes = filled_;
      result_.value->descriptors = std::move(descriptors_);
    }
    return result_;
  }
  void destroy() noexcept override;
  const char* name() const noexcept override { return "read"; }

private:
  /// So many descriptors came with the byte at this place.
  struct Mark {
    std::size_t at;
    std::size_t count;
  };

  Ref<CapabilityState> state_;
  std::span<std::byte> buffer_;
  std::size_t minBytes_;
  std::size_t maxDescriptors_;
  std::size_t filled_ = 0;
  std::vector<OwnedDescriptor> descriptors_;
  std::vector<Mark> marks_; // into descriptors_
  bool taken_ = false;
  detail::Result<BytesAndDescriptors> result_;

  void giveBack() noexcept;
  Arrival takeLast(std::size_t from, std::size_t descriptors);
};

// --------------------------------------------------------------------------------------------- state

class CapabilityState final : public detail::Counted {
public:
  explicit CapabilityState(uv_loop_t* loop) noexcept : loop_(loop) {}

  /// Takes the socket over, or throws.
  void open(detail::DescriptorClaim& claim, const detail::DescriptorRequest& request);
  /// The stream goes.
  void close() noexcept;

  Promise<BytesAndDescriptors> tryRead(std::span<std::byte> buffer, std::size_t minBytes, std::size_t maxDescriptors,
                                       std::source_location where);
  Promise<void> write(std::span<const std::span<const std::byte>> pieces, std::span<const int> descriptors,
                      std::source_location where);
  Promise<void> whenWriteDisconnected(std::source_location where);
  void shutdownWrite(std::source_location where);
  void abortWrite() noexcept;
  std::optional<std::uint64_t> tryGetUndelivered() const noexcept;
  void abortRead() noexcept;
  int descriptor() const noexcept { return descriptor_.get(); }
  uv_loop_t* loop() const noexcept { return loop_; }

private:
  friend CapabilityReadNode;
  using WriteOp = detail::WriteOp<CapabilityState>;
  friend WriteOp;

  uv_loop_t* loop_;
  OwnedDescriptor descriptor_; // destroyed after the handle that watches it
  UvHandle<uv_poll_t> handle_;
  int watched_ = 0;                      // what libuv watches for: UV_READABLE, UV_WRITABLE
  CapabilityReadNode* reader_ = nullptr; // until its promise has gone
  WriteOp* writer_ = nullptr;            // the write that waits
  std::vector<int> passing_;             // the descriptors that go with its first byte
  std::deque<Arrival> arrivals_;         // what cancelled reads have given back
  detail::DisconnectWatch watch_;
  bool ended_ = false;      // the end of the stream was seen
  bool aborted_ = false;    // abortRead was called
  bool writeEnded_ = false; // shutdownWrite was called
  int readError_ = 0;       // once a direction has failed, it fails always
  int writeError_ = 0;

  bool hasPendingReader() const noexcept { return reader_ != nullptr && !reader_->isReady(); }
  void watch() noexcept;
  void watchFor(int events) noexcept;
  void onEvent(int status, int events) noexcept;

  void beginRead() noexcept;
  bool takeArrivals();
  void receive() noexcept;
  bool takeMessage(const msghdr& message, std::size_t count);
  void failRead(int status) noexcept;

  int send(Pieces& pieces, std::span<const int>& descriptors) const noexcept;
  void continueWrite() noexcept;
  Exception failWrite(int status, std::span<const int> passing, std::source_location where) noexcept;
  WriteOp* endWriter() noexcept { return std::exchange(writer_, nullptr); }
  void writeCancelled(WriteOp&) noexcept { endWriter(); }
};

void CapabilityState::open(detail::DescriptorClaim& claim, const detail::DescriptorRequest& request) {
  handle_ = UvHandle<uv_poll_t>(
      request.subject(), [&](uv_poll_t* poll) { return uv_poll_init(loop_, poll, claim.get()); }, request.where);
  handle_.setData(this);
  descriptor_ = OwnedDescriptor(claim.settle());
}

void CapabilityState::close() noexcept {
  if (hasPendingReader())
    reader_->fail(Exception(Exception::Kind::DISCONNECTED, "read: the stream was destroyed while the read was pending",
                            {}, reader_->where()));
  if (WriteOp* writer = endWriter())
    writer->fail(Exception(Exception::Kind::DISCONNECTED, "write: the stream was destroyed while the write was pending",
                           {}, writer->where()));
  watch_.disconnected();
  handle_.close();
  descriptor_.close();
}

// ---------------------------------------------------------------------------------------- watching

/// Sees to it that what is pending goes on.
void CapabilityState::watch() noexcept {
  const int wanted = (hasPendingReader() ? UV_READABLE : 0) | (writer_ != nullptr ? UV_WRITABLE : 0);
  if ((wanted & ~watched_) != 0) watchFor(watched_ | wanted);
}

void CapabilityState::watchFor(int events) noexcept {
  watched_ = events;
  detail::pollHandle(handle_.get(), events, [](uv_poll_t* poll, int status, int happened) {
    if (auto* state = static_cast<CapabilityState*>(poll->data)) state->onEvent(status, happened);
  });
}

void CapabilityState::onEvent(int status, int events) noexcept {
  if (status < 0) { // an error, which the socket tells whoever asks; libuv 1.44 has stopped watching
    watched_ = 0;
    events = UV_READABLE | UV_WRITABLE;
  }
  int idle = 0;
  if ((events & UV_READABLE) != 0) {
    if (hasPendingReader())
      receive();
    else
      idle |= UV_READABLE;
  }
  if ((events & UV_WRITABLE) != 0) {
    if (writer_ != nullptr) continueWrite();
    if (writer_ == nullptr) idle |= UV_WRITABLE;
  }
  if ((watched_ & idle) != 0) watchFor(watched_ & ~idle);
  watch();
}

// ------------------------------------------------------------------------------------------- reading

// The bytes from `from` on, with the last `count` descriptors.
Arrival CapabilityReadNode::takeLast(std::size_t from, std::size_t count) {
  Arrival arrival;
  const std::span<const std::byte> bytes = buffer_.subspan(from, filled_ - from);
  arrival.bytes.assign(bytes.begin(), bytes.end());
  const auto first = descriptors_.end() - static_cast<std::ptrdiff_t>(count);
  arrival.descriptors.assign(std::move_iterator(first), std::move_iterator(descriptors_.end()));
  descriptors_.erase(first, descriptors_.end());
  filled_ = from;
  return arrival;
}

// Puts what has arrived, and nobody has taken, in front of what the stream holds already, from its end on.
void CapabilityReadNode::giveBack() noexcept {
  if (state_->aborted_) return;
  try {
    while (filled_ != 0) {
      std::size_t descriptors = 0;
      if (!marks_.empty() && marks_.back().at == filled_ - 1) {
        descriptors = marks_.back().count;
        marks_.pop_back();
      }
      state_->arrivals_.push_front(takeLast(marks_.empty() ? 0 : marks_.back().at + 1, descriptors));
    }
  } catch (...) {
    // Something would be lost without notice: the stream must not go on as if nothing were missing.
    state_->readError_ = UV_ENOMEM;
  }
}

void CapabilityReadNode::destroy() noexcept {
  requireThreadToGo();
  if (!taken_) giveBack();
  state_->reader_ = nullptr;
  NodeAccess::destroy(this);
}

Promise<BytesAndDescriptors> CapabilityState::tryRead(std::span<std::byte> buffer, std::size_t minBytes,
                                                      std::size_t maxDescriptors, std::source_location where) {
  if (reader_ != nullptr)
    detail::throwMisuse("tryRead: another read of this stream is pending, or its result has not been taken", where);
  detail::requireReadable(buffer, minBytes, where);
  reader_ = NodeAccess::makeAlone<CapabilityReadNode>(*this, buffer, minBytes, maxDescriptors, where);
  Promise<BytesAndDescriptors> promise = detail::PromiseAccess::wrap<BytesAndDescriptors>(reader_);
  beginRead();
  return promise;
}

void CapabilityState::beginRead() noexcept {
  try {
    if (takeArrivals()) return reader_->complete();
  } catch (...) {
    return failRead(UV_ENOMEM);
  }
  if (readError_ != 0) return failRead(readError_);
  if (ended_) return reader_->complete();
  watch();
}

// Serves the reader from what was given back; returns whether that is enough. Throws std::bad_alloc.
bool CapabilityState::takeArrivals() {
  while (!arrivals_.empty() && !reader_->hasEnough()) {
    Arrival& arrival = arrivals_.front();
    const std::span<std::byte> space = reader_->space();
    const std::size_t left = arrival.bytes.size() - arrival.taken;
    const std::size_t count = std::min(space.size(), left);
    std::memcpy(space.data(), arrival.bytes.data() + arrival.taken, count);
    if (count == left) {
      reader_->add(count, std::move(arrival.descriptors));
      arrivals_.pop_front();
    } else {
      reader_->addBytes(count);
      arrival.taken += count;
    }
  }
  return reader_->hasEnough();
}

// One message at a time: the loop comes back if there is more.
void CapabilityState::receive() noexcept {
  const std::span<std::byte> space = reader_->space();
  iovec target{space.data(), space.size()};
  alignas(cmsghdr) std::array<std::byte, CONTROL_SIZE> control;
  msghdr message{};
  message.msg_iov = &target;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  ssize_t count;
  do count = ::recvmsg(descriptor_.get(), &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
  while (count < 0 && errno == EINTR);
  if (count < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return;
  if (count < 0) return failRead(systemError());
  if (count == 0) {
    ended_ = true;
    return reader_->complete();
  }
  try {
    if (takeMessage(message, static_cast<std::size_t>(count))) reader_->complete();
  } catch (...) {
    failRead(UV_ENOMEM);
  }
}

// Makes the descriptors of `message` ours. Throws std::bad_alloc; they are closed then.
std::vector<OwnedDescriptor> descriptorsOf(const msghdr& message) {
  std::vector<OwnedDescriptor> owned;
  for (cmsghdr* part = CMSG_FIRSTHDR(&message); part != nullptr;
       part = CMSG_NXTHDR(const_cast<msghdr*>(&message), part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
    std::array<int, AsyncCapabilityStream::MOST_DESCRIPTORS> numbers;
    const std::size_t count = std::min((part->cmsg_len - CMSG_LEN(0)) / sizeof(int), numbers.size());
    std::memcpy(numbers.data(), CMSG_DATA(part), count * sizeof(int));
    try {
      owned.reserve(owned.size() + count);
    } catch (...) {
      for (const int number : std::span(numbers).first(count)) OwnedDescriptor(number).close();
      throw;
    }
    for (const int number : std::span(numbers).first(count)) owned.emplace_back(number);
  }
  return owned;
}

// Returns whether the reader has enough. Throws std::bad_alloc.
bool CapabilityState::takeMessage(const msghdr& message, std::size_t count) {
  reader_->add(count, descriptorsOf(message));
  if ((message.msg_flags & MSG_CTRUNC) == 0 || !reader_->wantsDescriptors()) return reader_->hasEnough();
  reader_->fail(uvException(UV_EMFILE, "read: descriptors that came are lost", reader_->where()));
  return false;
}

void CapabilityState::failRead(int status) noexcept {
  readError_ = status;
  if (!hasPendingReader()) return;
  if (aborted_)
    reader_->fail(Exception(Exception::Kind::DISCONNECTED, "read: reading was given up (abortRead)",
                            uvErrorCode(status), reader_->where()));
  else
    reader_->fail(uvException(status, "read", reader_->where()));
}

// A Unix socket tells the peer: its next write fails.
void CapabilityState::abortRead() noexcept {
  ::shutdown(descriptor_.get(), SHUT_RD);
  aborted_ = true;
  arrivals_.clear();
  failRead(UV_ECONNABORTED);
}

// ------------------------------------------------------------------------------------------- writing

Promise<void> CapabilityState::write(std::span<const std::span<const std::byte>> pieces,
                                     std::span<const int> descriptors, std::source_location where) {
  if (writer_ != nullptr) detail::throwMisuse("write: another write to this stream is pending", where);
  if (writeEnded_) detail::throwMisuse("write: the stream was shut down for writing", where);
  if (writeError_ != 0) return Promise<void>(uvException(writeError_, "write", where), where);
  Pieces rest(pieces);
  if (const int status = send(rest, descriptors); status < 0)
    return Promise<void>(failWrite(status, descriptors, where), where);
  if (rest.empty()) return READY_NOW;
  try {
    passing_.assign(descriptors.begin(), descriptors.end());
    writer_ = NodeAccess::makeAlone<WriteOp>(*this, std::move(rest), where);
  } catch (...) {
    writeError_ = UV_ENOMEM; // whoever writes on must not think that this has arrived
    throw;
  }
  Promise<void> promise = detail::PromiseAccess::wrap<void>(writer_);
  watch();
  return promise;
}

// Sends what the socket takes, and takes it away from `pieces`; `descriptors` go with the first byte. Returns a
// negative status on error.
int CapabilityState::send(Pieces& pieces, std::span<const int>& descriptors) const noexcept {
  while (!pieces.empty()) {
    std::array<iovec, 64> parts;
    msghdr message{};
    message.msg_iov = parts.data();
    pieces.forEach([&](std::span<const std::byte> piece) {
      parts[message.msg_iovlen++] = {const_cast<std::byte*>(piece.data()), piece.size()};
      return message.msg_iovlen < parts.size();
    });
    alignas(cmsghdr) std::array<std::byte, CONTROL_SIZE> control;
    if (const std::size_t size = descriptors.size_bytes(); size != 0) {
      std::memset(control.data(), 0, CMSG_SPACE(size));
      message.msg_control = control.data();
      message.msg_controllen = CMSG_SPACE(size);
      cmsghdr* part = CMSG_FIRSTHDR(&message);
      part->cmsg_level = SOL_SOCKET;
      part->cmsg_type = SCM_RIGHTS;
      part->cmsg_len = CMSG_LEN(size);
      std::memcpy(CMSG_DATA(part), descriptors.data(), size);
    }
    ssize_t count;
    do count = ::sendmsg(descriptor_.get(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    while (count < 0 && errno == EINTR);
    if (count < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return 0;
    if (count < 0) return systemError();
    descriptors = {};
    pieces.drop(static_cast<std::uint64_t>(count));
  }
  return 0;
}

void CapabilityState::continueWrite() noexcept {
  std::span<const int> descriptors = passing_;
  const int status = send(writer_->pieces, descriptors);
  if (descriptors.empty()) passing_.clear();
  if (status < 0) {
    const Exception exception = failWrite(status, descriptors, writer_->where());
    return endWriter()->fail(exception);
  }
  if (writer_->pieces.empty()) endWriter()->complete();
}

// What a write fails with. The stream has failed too, unless it is only the descriptors that the system refuses.
Exception CapabilityState::failWrite(int status, std::span<const int> passing, std::source_location where) noexcept {
  if (status == uv_translate_sys_error(ETOOMANYREFS)) // libuv does not know it
    return Exception(Exception::Kind::OVERLOADED, "write: the peer has left too many descriptors unread",
                     uvErrorCode(status), where);
  if (status == UV_EBADF) {
    for (const int number : passing) {
      if (fcntl(number, F_GETFD) >= 0) continue;
      return uvDescriptorException(status, "writeWithDescriptors:", number, where);
    }
  }
  Exception exception = uvException(status, "write", where);
  if (passing.empty() || exception.kind() == Exception::Kind::DISCONNECTED) {
    writeError_ = status;
    watch_.disconnected();
  }
  return exception;
}

Promise<void> CapabilityState::whenWriteDisconnected(std::source_location where) {
  if (writeError_ != 0) return READY_NOW;
  return watch_.wait(loop_, descriptor_.get(), where);
}

void CapabilityState::shutdownWrite(std::source_location where) {
  if (writer_ != nullptr) detail::throwMisuse("shutdownWrite: a write to this stream is pending", where);
  if (::shutdown(descriptor_.get(), SHUT_WR) != 0 && errno != ENOTCONN)
    throw uvException(systemError(), "shutdownWrite", where);
  writeEnded_ = true;
}

// A Unix socket cannot tell its peer.
void CapabilityState::abortWrite() noexcept {
  if (writeEnded_ || writeError_ != 0) return;
  writeError_ = UV_ECONNABORTED;
  if (WriteOp* writer = endWriter()) writer->fail(uvException(writeError_, "write", writer->where()));
  watch_.disconnected();
}

std::optional<std::uint64_t> CapabilityState::tryGetUndelivered() const noexcept {
  if (writer_ == nullptr) return 0;
  return writer_->pieces.size() + detail::heldBySocket(descriptor_.get());
}

// -------------------------------------------------------------------------------------------- stream

class UvCapabilityStream final : public AsyncCapabilityStream {
public:
  explicit UvCapabilityStream(CapabilityState& state) noexcept : state_(state) {}
  ~UvCapabilityStream() override { state_->close(); }

  Promise<std::size_t> tryRead(std::span<std::byte> buffer, std::size_t minBytes, std::source_location where) override {
    return state_->tryRead(buffer, minBytes, 0, where)
        .then([](BytesAndDescriptors got) { return got.bytes; }, detail::PropagateException(), where);
  }
  Promise<BytesAndDescriptors> tryReadWithDescriptors(std::span<std::byte> buffer, std::size_t minBytes,
                                                      std::size_t maxDescriptors, std::source_location where) override {
    return state_->tryRead(buffer, minBytes, maxDescriptors, where);
  }
  Promise<void> write(std::span<const std::byte> bytes, std::source_location where) override {
    return state_->write({&bytes, 1}, {}, where);
  }
  Promise<void> write(std::span<const std::span<const std::byte>> pieces, std::source_location where) override {
    return state_->write(pieces, {}, where);
  }
  Promise<void> writeWithDescriptors(std::span<const std::byte> bytes, std::span<const int> descriptors,
                                     std::source_location where) override {
    if (bytes.empty())
      detail::throwMisuse("writeWithDescriptors: there are no bytes, and descriptors travel only with some", where);
    if (descriptors.size() > MOST_DESCRIPTORS)
      detail::throwMisuse(fmt::format("writeWithDescriptors: {} descriptors, but at most {} can be sent at once",
                                      descriptors.size(), MOST_DESCRIPTORS),
                          where);
    return state_->write({&bytes, 1}, descriptors, where);
  }
  Promise<BytesAndStreams> tryReadWithStreams(std::span<std::byte> buffer, std::size_t minBytes, std::size_t maxStreams,
                                              std::source_location where) override {
    return state_->tryRead(buffer, minBytes, maxStreams, where)
        .then(
            [loop = state_->loop(), where](BytesAndDescriptors got) { return streamsOf(loop, std::move(got), where); },
            detail::PropagateException(), where);
  }
  Promise<void> whenWriteDisconnected(std::source_location where) override {
    return state_->whenWriteDisconnected(where);
  }
  void shutdownWrite(std::source_location where) override { state_->shutdownWrite(where); }
  void abortWrite(std::source_location) override { state_->abortWrite(); }
  std::optional<std::uint64_t> tryGetUndelivered() const noexcept override { return state_->tryGetUndelivered(); }
  void abortRead(std::source_location) override { state_->abortRead(); }
  std::optional<int> descriptor() const override { return state_->descriptor(); }

private:
  Ref<CapabilityState> state_;

  static BytesAndStreams streamsOf(uv_loop_t* loop, BytesAndDescriptors got, std::source_location where) {
    BytesAndStreams result{.bytes = got.bytes, .streams = {}};
    for (OwnedDescriptor& descriptor : got.descriptors)
      result.streams.push_back(detail::handOver(std::move(descriptor), [&](int taken) {
        return detail::newIoStream(loop, {"tryReadWithStreams", taken, Ownership::TAKE, where});
      }));
    return result;
  }
};

constexpr std::byte CARRIER{0}; // the byte with which a single descriptor travels

} // namespace

Promise<void> AsyncCapabilityStream::sendDescriptor(int descriptor, std::source_location where) {
  return writeWithDescriptors({&CARRIER, 1}, {&descriptor, 1}, where);
}

Promise<std::optional<OwnedDescriptor>> AsyncCapabilityStream::tryReceiveDescriptor(std::source_location where) {
  auto carrier = std::make_unique<std::byte>();
  const std::span<std::byte> buffer(carrier.get(), 1);
  // The continuation runs when the descriptor is taken: until then it is tryReadWithDescriptors' to give back.
  return tryReadWithDescriptors(buffer, 1, 1, where)
      .then(
          [carrier = std::move(carrier), where](BytesAndDescriptors got) -> std::optional<OwnedDescriptor> {
            if (got.bytes == 0) return std::nullopt;
            if (got.descriptors.empty())
              throw Exception(Exception::Kind::FAILED, "receiveDescriptor: a byte came without a descriptor", {},
                              where);
            return std::move(got.descriptors.front());
          },
          detail::PropagateException(), where);
}

Promise<OwnedDescriptor> AsyncCapabilityStream::receiveDescriptor(std::source_location where) {
  return tryReceiveDescriptor(where).then(
      [where](std::optional<OwnedDescriptor> received) {
        if (!received)
          throw Exception(Exception::Kind::DISCONNECTED, "receiveDescriptor: the stream has ended", {}, where);
        return *std::move(received);
      },
      detail::PropagateException(), where);
}

Promise<void> AsyncCapabilityStream::writeWithStreams(std::span<const std::byte> bytes,
                                                      std::vector<std::unique_ptr<AsyncIoStream>> streams,
                                                      std::source_location where) {
  std::vector<int> descriptors;
  descriptors.reserve(streams.size());
  for (const std::unique_ptr<AsyncIoStream>& stream : streams) {
    if (stream == nullptr) detail::throwMisuse("writeWithStreams: a stream is null", where);
    const std::optional<int> descriptor = stream->descriptor();
    if (!descriptor) detail::throwMisuse("writeWithStreams: there is no descriptor under a stream", where);
    descriptors.push_back(*descriptor);
  }
  Promise<void> written = writeWithDescriptors(bytes, descriptors, where);
  return std::move(written).attach(std::move(streams));
}

Promise<void> AsyncCapabilityStream::sendStream(std::unique_ptr<AsyncIoStream> stream, std::source_location where) {
  std::vector<std::unique_ptr<AsyncIoStream>> streams;
  streams.push_back(std::move(stream));
  return writeWithStreams({&CARRIER, 1}, std::move(streams), where);
}

Promise<std::unique_ptr<AsyncIoStream>> AsyncCapabilityStream::tryReceiveStream(std::source_location where) {
  auto carrier = std::make_unique<std::byte>();
  const std::span<std::byte> buffer(carrier.get(), 1);
  return tryReadWithStreams(buffer, 1, 1, where)
      .then(
          [carrier = std::move(carrier), where](BytesAndStreams got) -> std::unique_ptr<AsyncIoStream> {
            if (got.bytes == 0) return nullptr;
            if (got.streams.empty())
              throw Exception(Exception::Kind::FAILED, "receiveStream: a byte came without a descriptor", {}, where);
            return std::move(got.streams.front());
          },
          detail::PropagateException(), where);
}

Promise<std::unique_ptr<AsyncIoStream>> AsyncCapabilityStream::receiveStream(std::source_location where) {
  return tryReceiveStream(where).then(
      [where](std::unique_ptr<AsyncIoStream> received) {
        if (received == nullptr)
          throw Exception(Exception::Kind::DISCONNECTED, "receiveStream: the stream has ended", {}, where);
        return received;
      },
      detail::PropagateException(), where);
}

std::unique_ptr<AsyncCapabilityStream> newCapabilityStream(AsyncIo& io, int descriptor, Ownership ownership,
                                                           std::source_location where) {
  uv_loop_t* loop = io.uvEventPort().uvLoop(where);
  const detail::DescriptorRequest request{"newCapabilityStream", descriptor, ownership, where};
  const detail::DescriptorKind kind = detail::kindOfDescriptor(loop, request);
  sockaddr name{};
  socklen_t size = sizeof name;
  if (kind != detail::DescriptorKind::SOCKET || getsockname(descriptor, &name, &size) != 0 || name.sa_family != AF_UNIX)
    request.refuse("is not a Unix socket");
  const Ref<CapabilityState> state(*new CapabilityState(loop));
  auto stream = std::make_unique<UvCapabilityStream>(*state);
  detail::DescriptorClaim claim(request, kind);
  state->open(claim, request);
  return stream;
}

CapabilityPair newCapabilityPair(AsyncIo& io, std::source_location where) {
  detail::SocketPair sockets = detail::newSocketPair("newCapabilityPair", where);
  const auto make = [&](int taken) { return newCapabilityStream(io, taken, Ownership::TAKE, where); };
  CapabilityPair pair;
  pair.left = detail::handOver(std::move(sockets.left), make);
  pair.right = detail::handOver(std::move(sockets.right), make);
  return pair;
}

} // namespace v0
} // namespace troth
