// SPDX-License-Identifier: MIT
// Datagrams: sent from the caller's memory, received a few ahead of demand, none lost by cancelling.
//
// The socket is the library's own, and a uv_poll_t tells when it is ready (udp_socket.cc says why). So nothing that is
// pending is ever in libuv's hands: an operation that is destroyed has only to be forgotten.
//
// Receiving. As with streams, the poll is not stopped by a receive's completion or cancellation: the first time that
// something has come and nobody has asked is only noted, the second in a row stops it, and the datagrams wait in the
// kernel. When a receive waits and something has come, one recvmmsg() takes up to SLOTS datagrams: the first goes to
// the receive, the others are kept (`ahead_`) for the next ones, and nothing is received before these are gone. So no
// more than MOST_AHEAD are kept, or one more when a receive that had one is cancelled.
//
// What a receive is ready for stays with the socket until the result is taken: a datagram in `ahead_`, an error in
// `error_`. Only a datagram that fits into the caller's buffer is received straight into it, and copied to `ahead_` if
// the receive is destroyed. (With a filter that is not done: nothing of who is not allowed reaches the caller.)
//
// Sending. The socket is tried first; the sends that it has no room for wait in a list until the poll says so.
//
// Ownership. DatagramState is counted: the socket holds it, and the receive does. A send that waits is in its list,
// from which close() takes all; after that a send needs it no more.
#include <troth/net/uv_datagram_detail.h>

#include <troth/io/operation_detail.h>
#include <troth/net/udp_socket_detail.h>
#include <troth/runtime/ref_detail.h>
#include <troth/runtime/uv/uv_handle.h>
#include <troth/runtime/waiter_detail.h>

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstring>
#include <optional>
#include <utility>

namespace troth {
inline namespace v0 {
namespace detail {
namespace {

class DatagramState;

// -------------------------------------------------------------------------------- datagrams received

/// A datagram that waits to be asked for.
struct StoredDatagram : Pooled {
  StoredDatagram(Chunk chunk, const SocketAddress& from, bool isTruncated) noexcept
      : bytes(std::move(chunk)), source(from), truncated(isTruncated) {}

  Chunk bytes;
  SocketAddress source;
  bool truncated;
  std::unique_ptr<StoredDatagram> next;
};

/// Those that wait, in their order.
class StoredDatagrams {
public:
  StoredDatagrams() noexcept = default;
  StoredDatagrams(const StoredDatagrams&) = delete;
  StoredDatagrams& operator=(const StoredDatagrams&) = delete;

  bool isEmpty() const noexcept { return first_ == nullptr; }

  void append(std::unique_ptr<StoredDatagram> datagram) noexcept {
    std::unique_ptr<StoredDatagram>& end = isEmpty() ? first_ : last_->next;
    last_ = datagram.get();
    end = std::move(datagram);
  }
  void prepend(std::unique_ptr<StoredDatagram> datagram) noexcept {
    if (isEmpty()) last_ = datagram.get();
    datagram->next = std::move(first_);
    first_ = std::move(datagram);
  }
  StoredDatagram& first() noexcept { return *first_; }
  void dropFirst() noexcept {
    std::unique_ptr<StoredDatagram> next = std::move(first_->next);
    first_ = std::move(next);
  }

private:
  std::unique_ptr<StoredDatagram> first_;
  StoredDatagram* last_ = nullptr; // valid unless empty
};

/// The bytes of two places, one behind the other. A chunk that waits takes a buffer of the pool. Throws std::bad_alloc.
Chunk joined(std::span<const std::byte> front, std::span<const std::byte> back) {
  const std::size_t size = front.size() + back.size();
  if (size == 0) return Chunk();
  const std::size_t allocated = size > POOL_LARGEST ? BUFFER_SIZE : size;
  auto* block = static_cast<std::byte*>(allocate(allocated));
  if (!front.empty()) std::memcpy(block, front.data(), front.size());
  if (!back.empty()) std::memcpy(block + front.size(), back.data(), back.size());
  return Chunk::adopt(block, size, allocated);
}

// ----------------------------------------------------------------------------------------- operations

/// The one receive of a socket, embedded in its state.
class ReceiveOp final : public SourceNode {
public:
  explicit ReceiveOp(DatagramState& state) noexcept
      : SourceNode(std::source_location()), state_(state), loop_(EventLoop::currentOrNull()) {}

  bool isFree() const noexcept { return mode_ == Mode::FREE; }
  bool isPending() const noexcept { return mode_ != Mode::FREE && !isReady(); }
  bool isForSpan() const noexcept { return mode_ == Mode::SPAN; }
  /// Where a datagram goes to in the end: nowhere, if the receive is for a chunk.
  std::span<std::byte> space() const noexcept { return space_; }

  Promise<Datagram> beginChunk(std::size_t maxBytes, std::source_location where) noexcept {
    begin(Mode::CHUNK, where);
    maxBytes_ = maxBytes;
    return PromiseAccess::wrap<Datagram>(this);
  }
  Promise<ReceivedDatagram> beginSpan(std::span<std::byte> buffer, std::source_location where) noexcept {
    begin(Mode::SPAN, where);
    space_ = buffer;
    return PromiseAccess::wrap<ReceivedDatagram>(this);
  }

  /// The state has a datagram or an error for it.
  void becomeReady() noexcept { setReady(); }
  /// A datagram of `size` bytes has come to space().
  void received(std::size_t size, const SocketAddress& source) noexcept {
    spanResult_.value.emplace(ReceivedDatagram{size, source, false});
    setReady();
  }
  void fail(const Exception& exception) noexcept { setFailed(result(), exception); }

  ResultBase& get(ResultBase*) noexcept override;
  void destroy() noexcept override;
  const char* name() const noexcept override { return "receive"; }

private:
  enum class Mode : std::uint8_t { FREE, CHUNK, SPAN };

  DatagramState& state_;
  EventLoop* loop_;
  Mode mode_ = Mode::FREE;
  bool taken_ = false;
  std::size_t maxBytes_ = 0;
  std::span<std::byte> space_;
  Result<Datagram> chunkResult_;
  Result<ReceivedDatagram> spanResult_;

  ResultBase& result() noexcept { return mode_ == Mode::CHUNK ? static_cast<ResultBase&>(chunkResult_) : spanResult_; }
  void begin(Mode mode, std::source_location where) noexcept;
  void takeStored();
};

/// A send that waits until the socket has room.
class SendOp : public Waiter {
public:
  /// Tries again. Returns whether it is done, in either way; then it has left the list.
  virtual bool retry() noexcept = 0;

  void destroy() noexcept final;
  const char* name() const noexcept final { return "send"; }

protected:
  SendOp(DatagramState& state, std::source_location where) noexcept : Waiter(where), state_(state) {}

  DatagramState& state_; // there while this is linked
};

class SendOneOp final : public SendOp {
public:
  SendOneOp(DatagramState& state, std::span<const std::span<const std::byte>> pieces, const SocketAddress* to,
            std::source_location where)
      : SendOp(state, where), pieces_(pieces.begin(), pieces.end()) {
    if (to != nullptr) to_ = *to;
  }
  bool retry() noexcept override;
  ResultBase& get(ResultBase*) noexcept override { return result_; }

private:
  PieceList pieces_;
  std::optional<SocketAddress> to_;
  Result<Void> result_;

  ResultBase& result() noexcept override { return result_; }
};

class SendManyOp final : public SendOp {
public:
  SendManyOp(DatagramState& state, std::span<const OutgoingDatagram> datagrams, std::source_location where) noexcept
      : SendOp(state, where), datagrams_(datagrams) {}
  bool retry() noexcept override;
  ResultBase& get(ResultBase*) noexcept override { return result_; }

private:
  std::span<const OutgoingDatagram> datagrams_;
  Result<std::size_t> result_;

  ResultBase& result() noexcept override { return result_; }
};

// ---------------------------------------------------------------------------------------------- state

class DatagramState final : public Counted, public Pooled {
public:
  DatagramState(uv_loop_t* loop, OwnedDescriptor socket, SocketAddress::Family family,
                std::shared_ptr<const PeerFilter> filter, std::string_view operation, std::source_location where);

  Promise<void> send(std::span<const std::span<const std::byte>> pieces, const SocketAddress* to,
                     std::source_location where);
  Promise<std::size_t> sendMany(std::span<const OutgoingDatagram> datagrams, std::source_location where);
  Promise<Datagram> receive(std::size_t maxBytes, std::source_location where);
  Promise<ReceivedDatagram> receive(std::span<std::byte> buffer, std::source_location where);

  void connect(const SocketAddress& peer, std::string_view operation, std::source_location where);
  void changeMembership(Membership membership, const SocketAddress& group, std::string_view interface,
                        std::source_location where);
  SocketAddress localAddress() const { return SocketAddress::ofSocket(socket_.get()); }
  int descriptor() const noexcept { return socket_.get(); }

  /// The socket is destroyed: what is pending ends.
  void close() noexcept;

private:
  friend class ReceiveOp;
  friend class SendOneOp;
  friend class SendManyOp;
  friend class SendOp;

  bool connected_ = false;
  bool missed_ = false; // something came and nobody had asked
  SocketAddress::Family family_;
  int watched_ = 0; // what libuv watches for: UV_READABLE, UV_WRITABLE
  int error_ = 0;   // for the next receive, after what is ahead
  OwnedDescriptor socket_;
  std::shared_ptr<const PeerFilter> filter_;
  StoredDatagrams ahead_;
  WaiterList senders_;
  ReceiveOp receiveOp_;
  UvHandle<uv_poll_t> poll_;

  int watch(int events) noexcept;
  void keepLoopAliveIfNeeded() noexcept;
  void onEvent(int status, int events) noexcept;

  void startReceive() noexcept;
  void onReadable() noexcept;
  bool receivesDirectly() const noexcept { return receiveOp_.isForSpan() && filter_ == nullptr; }
  void takeFirstIn(const DatagramInbox& inbox, const SocketAddress& source);
  void takeIn(const DatagramInbox& inbox, std::size_t count) noexcept;
  bool hasSomething() const noexcept { return !ahead_.isEmpty() || error_ != 0; }
  void giveBack(std::span<const std::byte> bytes, const SocketAddress& source) noexcept;

  bool isAllowed(const SocketAddress& peer) const noexcept { return filter_ == nullptr || filter_->allows(peer); }
  int checkDestination(const SocketAddress* to) const noexcept;
  int trySend(std::span<const std::span<const std::byte>> pieces, const SocketAddress* to) const noexcept;
  int trySendMany(std::span<const OutgoingDatagram> datagrams) const noexcept;
  void wait(SendOp& op) noexcept;
  void onWritable() noexcept;
  void sendEnded() noexcept;
  void requireDestination(std::string_view function, const SocketAddress* to, std::source_location where) const;
};

// --------------------------------------------------------------------------------------- error texts

/// A status that no system gives: restrictPeers() has refused it.
constexpr int NOT_ALLOWED = INT_MIN;

Exception notAllowed(std::string_view operation, const SocketAddress& peer, std::source_location where) {
  return Exception(Exception::Kind::FAILED,
                   fmt::format("{}: restrictPeers() does not allow {}", operation, peer.toString()),
                   std::make_error_code(std::errc::permission_denied), where);
}

std::string sendingTo(const SocketAddress* to) {
  return to != nullptr ? fmt::format("send to {}", to->toString()) : std::string("send");
}

/// What a send of `size` bytes fails with.
Exception sendException(int status, const SocketAddress* to, std::size_t size, std::source_location where) noexcept {
  try {
    if (status == NOT_ALLOWED) return notAllowed(sendingTo(to), *to, where);
    if (status != UV_EMSGSIZE) return uvException(status, sendingTo(to), where);
    return Exception(Exception::Kind::FAILED,
                     fmt::format("{}: a datagram of {} bytes is too long (EMSGSIZE)", sendingTo(to), size),
                     uvErrorCode(status), where);
  } catch (...) {
    return Exception::fromCurrent();
  }
}

// ------------------------------------------------------------------------------------------ watching

DatagramState::DatagramState(uv_loop_t* loop, OwnedDescriptor socket, SocketAddress::Family family,
                             std::shared_ptr<const PeerFilter> filter, std::string_view operation,
                             std::source_location where)
    : family_(family),
      socket_(std::move(socket)),
      filter_(std::move(filter)),
      receiveOp_(*this),
      poll_(
          operation, [&](uv_poll_t* poll) { return uv_poll_init(loop, poll, socket_.get()); }, where) {
  poll_.setData(this);
  uv_unref(poll_.base());
}

/// Watches for `events`, and for nothing else. Returns a negative status on error.
int DatagramState::watch(int events) noexcept {
  if (watched_ == events) return 0;
  watched_ = events;
  const int status = pollHandle(poll_.get(), events, [](uv_poll_t* poll, int result, int found) {
    if (auto* state = static_cast<DatagramState*>(poll->data)) state->onEvent(result, found);
  });
  if (status < 0) watched_ = 0;
  return status;
}

// A poll goes on after what it was started for; a host's loop need not.
void DatagramState::keepLoopAliveIfNeeded() noexcept {
  if (!poll_) return;
  if (receiveOp_.isPending() || !senders_.isEmpty())
    uv_ref(poll_.base());
  else
    uv_unref(poll_.base());
}

// libuv 1.44 stops a poll when the socket has an error to report, as an unreachable peer is, and calls that UV_EBADF.
// Receiving and sending tell what it is, and take it from the socket.
void DatagramState::onEvent(int status, int events) noexcept {
  if (status < 0) {
    watched_ = 0;
    events = UV_READABLE | UV_WRITABLE;
  }
  if ((events & UV_READABLE) != 0) onReadable();
  if ((events & UV_WRITABLE) != 0) onWritable();
  if (status >= 0) return;
  watch((receiveOp_.isPending() ? UV_READABLE : 0) | (senders_.isEmpty() ? 0 : UV_WRITABLE));
}

void DatagramState::close() noexcept {
  if (receiveOp_.isPending())
    receiveOp_.fail(Exception(Exception::Kind::DISCONNECTED,
                              "receive: the socket was destroyed while the receive was pending", {},
                              receiveOp_.where()));
  senders_.disconnectAll("send: the socket was destroyed while the send was pending");
  poll_.close();
  socket_.close();
}

// ----------------------------------------------------------------------------------------- receiving

void ReceiveOp::begin(Mode mode, std::source_location where) noexcept {
  resetSource(loop_);
  Ref<DatagramState>::add(state_); // until destroy()
  mode_ = mode;
  taken_ = false;
  where_ = where;
}

ResultBase& ReceiveOp::get(ResultBase*) noexcept {
  taken_ = true;
  ResultBase& taken = result();
  if (taken.exception || spanResult_.value) return taken;
  try {
    if (!state_.ahead_.isEmpty())
      takeStored();
    else
      taken.exception = uvException(std::exchange(state_.error_, 0), "receive", where_).ref();
  } catch (...) {
    taken.exception = Exception::fromCurrent().ref();
  }
  return taken;
}

// If it throws for want of memory, the datagram is still there.
void ReceiveOp::takeStored() {
  StoredDatagram& first = state_.ahead_.first();
  const std::size_t most = mode_ == Mode::CHUNK ? maxBytes_ : space_.size();
  const std::size_t size = std::min(first.bytes.size(), most);
  const bool truncated = first.truncated || size < first.bytes.size();
  if (mode_ == Mode::CHUNK) {
    Chunk bytes = truncated ? Chunk::copyOf(first.bytes.bytes().first(size)) : std::move(first.bytes);
    chunkResult_.value.emplace(Datagram{std::move(bytes), first.source, truncated});
  } else {
    if (size != 0) std::memcpy(space_.data(), first.bytes.bytes().data(), size);
    spanResult_.value.emplace(ReceivedDatagram{size, first.source, truncated});
  }
  state_.ahead_.dropFirst();
}

void ReceiveOp::destroy() noexcept {
  requireThreadToGo();
  const bool wasPending = !isReady();
  if (!taken_ && spanResult_.value) state_.giveBack(space_.first(spanResult_.value->size), spanResult_.value->source);
  chunkResult_.value.reset();
  chunkResult_.exception = ExceptionRef();
  spanResult_.value.reset();
  spanResult_.exception = ExceptionRef();
  space_ = {};
  mode_ = Mode::FREE;
  if (wasPending) state_.keepLoopAliveIfNeeded();
  Ref<DatagramState>::drop(state_);
}

Promise<Datagram> DatagramState::receive(std::size_t maxBytes, std::source_location where) {
  if (!receiveOp_.isFree())
    throwMisuse("receive: another receive on this socket is pending, or its result has not been taken", where);
  Promise<Datagram> promise = receiveOp_.beginChunk(maxBytes, where);
  startReceive();
  return promise;
}

Promise<ReceivedDatagram> DatagramState::receive(std::span<std::byte> buffer, std::source_location where) {
  if (!receiveOp_.isFree())
    throwMisuse("receive: another receive on this socket is pending, or its result has not been taken", where);
  Promise<ReceivedDatagram> promise = receiveOp_.beginSpan(buffer, where);
  startReceive();
  return promise;
}

void DatagramState::startReceive() noexcept {
  missed_ = false;
  if (hasSomething()) return receiveOp_.becomeReady();
  if (const int status = watch(watched_ | UV_READABLE); status < 0)
    return receiveOp_.fail(uvException(status, "receive", receiveOp_.where()));
  keepLoopAliveIfNeeded();
}

void DatagramState::onReadable() noexcept {
  if (!receiveOp_.isPending()) {
    if (std::exchange(missed_, true)) watch(watched_ & ~UV_READABLE);
    return;
  }
  DatagramInbox* const inbox = DatagramInbox::ofThread();
  const auto space = receivesDirectly() ? receiveOp_.space() : std::span<std::byte>();
  const int count = inbox != nullptr ? inbox->receive(socket_.get(), space) : UV_ENOMEM;
  if (count == UV_EAGAIN) return; // there was nothing after all
  if (count < 0)
    error_ = count;
  else
    takeIn(*inbox, static_cast<std::size_t>(count));
  if (receiveOp_.isPending() && hasSomething()) receiveOp_.becomeReady();
  keepLoopAliveIfNeeded();
}

// Without memory the rest is lost, and the receive after those that were kept says so.
void DatagramState::takeIn(const DatagramInbox& inbox, std::size_t count) noexcept {
  try {
    for (std::size_t i = 0; i < count; ++i) {
      const std::optional<SocketAddress> source = inbox.source(i);
      if (!source || !isAllowed(*source)) continue;
      if (i == 0)
        takeFirstIn(inbox, *source);
      else
        ahead_.append(std::make_unique<StoredDatagram>(joined({}, inbox.bytes(i)), *source, inbox.isTruncated(i)));
    }
  } catch (...) {
    error_ = UV_ENOMEM;
  }
}

// Of a datagram that is too long for the receive, the rest is kept as well, until the receive is taken.
void DatagramState::takeFirstIn(const DatagramInbox& inbox, const SocketAddress& source) {
  const auto space = receivesDirectly() ? receiveOp_.space() : std::span<std::byte>();
  if (receivesDirectly() && inbox.size(0) <= space.size()) return receiveOp_.received(inbox.size(0), source);
  const auto front = space.first(std::min(space.size(), inbox.size(0)));
  ahead_.append(std::make_unique<StoredDatagram>(joined(front, inbox.bytes(0)), source, inbox.isTruncated(0)));
}

void DatagramState::giveBack(std::span<const std::byte> bytes, const SocketAddress& source) noexcept {
  try {
    ahead_.prepend(std::make_unique<StoredDatagram>(joined({}, bytes), source, false));
  } catch (...) {
    error_ = UV_ENOMEM;
  }
}

// ------------------------------------------------------------------------------------------- sending

void SendOp::destroy() noexcept {
  requireThreadToGo();
  if (isLinked()) {
    unlink();
    state_.sendEnded();
  }
  delete this;
}

bool SendOneOp::retry() noexcept {
  const SocketAddress* const to = to_ ? &*to_ : nullptr;
  const int status = state_.trySend(pieces_, to);
  if (status == UV_EAGAIN) return false;
  if (status < 0) {
    fail(sendException(status, to, totalSize(pieces_), where_));
    return true;
  }
  unlink();
  result_.value.emplace();
  setReady();
  return true;
}

bool SendManyOp::retry() noexcept {
  const int status = state_.trySendMany(datagrams_);
  if (status == UV_EAGAIN) return false;
  if (status < 0) {
    fail(sendException(status, datagrams_.front().to, datagrams_.front().bytes.size(), where_));
    return true;
  }
  unlink();
  result_.value.emplace(static_cast<std::size_t>(status));
  setReady();
  return true;
}

void DatagramState::requireDestination(std::string_view function, const SocketAddress* to,
                                       std::source_location where) const {
  if (connected_ == (to == nullptr)) [[likely]]
    return;
  throwMisuse(fmt::format("{}: {}", function,
                          connected_ ? "the socket is connected: send without an address"
                                     : "the socket is not connected: say where to send to"),
              where);
}

/// What is wrong with `to` before the system is asked, as a status; 0 if nothing is.
int DatagramState::checkDestination(const SocketAddress* to) const noexcept {
  if (to == nullptr) return 0;
  if (!isAllowed(*to)) return NOT_ALLOWED;
  return to->isUnix() ? UV_EAFNOSUPPORT : 0;
}

int DatagramState::trySend(std::span<const std::span<const std::byte>> pieces, const SocketAddress* to) const noexcept {
  if (const int status = checkDestination(to); status < 0) return status;
  return sendDatagram(socket_.get(), pieces, UdpTarget(family_, to));
}

// Those up to the first that may not be sent.
int DatagramState::trySendMany(std::span<const OutgoingDatagram> datagrams) const noexcept {
  for (std::size_t i = 0; i < datagrams.size(); ++i) {
    const int status = checkDestination(datagrams[i].to);
    if (status == 0) continue;
    if (i == 0) return status;
    datagrams = datagrams.first(i);
  }
  return sendDatagrams(socket_.get(), family_, datagrams);
}

Promise<void> DatagramState::send(std::span<const std::span<const std::byte>> pieces, const SocketAddress* to,
                                  std::source_location where) {
  requireDestination("send", to, where);
  if (senders_.isEmpty()) [[likely]] {
    const int status = trySend(pieces, to);
    if (status == 0) [[likely]]
      return READY_NOW;
    if (status != UV_EAGAIN) return Promise<void>(sendException(status, to, totalSize(pieces), where), where);
  }
  auto* op = new SendOneOp(*this, pieces, to, where);
  Promise<void> promise = PromiseAccess::wrap<void>(op);
  wait(*op);
  return promise;
}

Promise<std::size_t> DatagramState::sendMany(std::span<const OutgoingDatagram> datagrams, std::source_location where) {
  // Or else each call of many for one long batch would look at all that is left of it.
  datagrams = datagrams.first(std::min(datagrams.size(), MOST_SENT_AT_ONCE));
  for (const OutgoingDatagram& datagram : datagrams) requireDestination("sendMany", datagram.to, where);
  if (datagrams.empty()) return std::size_t(0);
  if (senders_.isEmpty()) [[likely]] {
    const int status = trySendMany(datagrams);
    if (status >= 0) [[likely]]
      return static_cast<std::size_t>(status);
    if (status != UV_EAGAIN) {
      const OutgoingDatagram& first = datagrams.front();
      return Promise<std::size_t>(sendException(status, first.to, first.bytes.size(), where), where);
    }
  }
  auto* op = new SendManyOp(*this, datagrams, where);
  Promise<std::size_t> promise = PromiseAccess::wrap<std::size_t>(op);
  wait(*op);
  return promise;
}

void DatagramState::wait(SendOp& op) noexcept {
  senders_.add(op);
  if (const int status = watch(watched_ | UV_WRITABLE); status < 0) op.fail(uvException(status, "send", op.where()));
  keepLoopAliveIfNeeded();
}

void DatagramState::onWritable() noexcept {
  while (!senders_.isEmpty() && static_cast<SendOp&>(senders_.front()).retry()) {
  }
  sendEnded();
}

/// A send has left the list.
void DatagramState::sendEnded() noexcept {
  if (!senders_.isEmpty() || !poll_) return;
  watch(watched_ & ~UV_WRITABLE);
  keepLoopAliveIfNeeded();
}

// --------------------------------------------------------------------------------- peers and groups

void DatagramState::connect(const SocketAddress& peer, std::string_view operation, std::source_location where) {
  if (!isAllowed(peer)) throw notAllowed(operation, peer, where);
  if (peer.isUnix()) throw uvException(UV_EAFNOSUPPORT, operation, where);
  if (peer.port() == 0) throwMisuse(fmt::format("{}: the address has no port", operation), where);
  if (!senders_.isEmpty()) throwMisuse(fmt::format("{}: sends are waiting", operation), where);
  const UdpTarget target(family_, &peer);
  if (::connect(socket_.get(), target.get(), target.size()) != 0)
    throw uvException(uv_translate_sys_error(errno), operation, where);
  connected_ = true;
}

void DatagramState::changeMembership(Membership membership, const SocketAddress& group, std::string_view interface,
                                     std::source_location where) {
  const char* function = membership == Membership::JOIN ? "joinGroup" : "leaveGroup";
  detail::changeMembership(socket_.get(), membership, group, interface,
                           fmt::format("{} {}", function, group.toString()), where);
}

/// The socket itself: only the ownership of its state.
class UvDatagramSocket final : public DatagramSocket {
public:
  explicit UvDatagramSocket(Ref<DatagramState> state) noexcept : state_(std::move(state)) {}
  ~UvDatagramSocket() override { state_->close(); }

  Promise<void> send(std::span<const std::byte> bytes, const SocketAddress& to, std::source_location where) override {
    return state_->send({&bytes, 1}, &to, where);
  }
  Promise<void> send(std::span<const std::span<const std::byte>> pieces, const SocketAddress& to,
                     std::source_location where) override {
    return state_->send(pieces, &to, where);
  }
  Promise<void> send(std::span<const std::byte> bytes, std::source_location where) override {
    return state_->send({&bytes, 1}, nullptr, where);
  }
  Promise<void> send(std::span<const std::span<const std::byte>> pieces, std::source_location where) override {
    return state_->send(pieces, nullptr, where);
  }
  Promise<std::size_t> sendMany(std::span<const OutgoingDatagram> datagrams, std::source_location where) override {
    return state_->sendMany(datagrams, where);
  }
  Promise<Datagram> receive(std::size_t maxBytes, std::source_location where) override {
    return state_->receive(maxBytes, where);
  }
  Promise<ReceivedDatagram> receive(std::span<std::byte> buffer, std::source_location where) override {
    return state_->receive(buffer, where);
  }
  void connect(const SocketAddress& peer, std::source_location where) override {
    connectAs(peer, fmt::format("connect to {}", peer.toString()), where);
  }
  /// `operation` is for errors.
  void connectAs(const SocketAddress& peer, std::string_view operation, std::source_location where) {
    state_->connect(peer, operation, where);
  }
  void joinGroup(const SocketAddress& group, std::string_view interface, std::source_location where) override {
    state_->changeMembership(Membership::JOIN, group, interface, where);
  }
  void leaveGroup(const SocketAddress& group, std::string_view interface, std::source_location where) override {
    state_->changeMembership(Membership::LEAVE, group, interface, where);
  }
  SocketAddress localAddress() const override { return state_->localAddress(); }
  std::optional<int> descriptor() const override { return state_->descriptor(); }

private:
  Ref<DatagramState> state_;
};

Ref<DatagramState> newState(uv_loop_t* loop, OwnedDescriptor socket, const SocketAddress& address,
                            std::shared_ptr<const PeerFilter> filter, std::string_view operation,
                            std::source_location where) {
  return Ref<DatagramState>(
      *new DatagramState(loop, std::move(socket), address.family(), std::move(filter), operation, where));
}

void requireIp(const SocketAddress& address, std::string_view operation, std::source_location where) {
  if (!address.isUnix()) return;
  throw Exception(Exception::Kind::UNIMPLEMENTED,
                  fmt::format("{}: there are no datagrams over Unix sockets", operation),
                  std::make_error_code(std::errc::address_family_not_supported), where);
}

} // namespace

std::unique_ptr<DatagramSocket> newBoundDatagramSocket(uv_loop_t* loop, const SocketAddress& address,
                                                       const std::string& name,
                                                       std::shared_ptr<const PeerFilter> filter,
                                                       const DatagramOptions& options, std::source_location where) {
  const std::string operation = fmt::format("cannot bind a datagram socket to {}", name);
  requireIp(address, operation, where);
  OwnedDescriptor socket = newUdpSocket(address.family(), options, operation, where);
  if (::bind(socket.get(), address.get(), address.size()) != 0)
    throw uvException(uv_translate_sys_error(errno), operation, where);
  return std::make_unique<UvDatagramSocket>(
      newState(loop, std::move(socket), address, std::move(filter), operation, where));
}

std::unique_ptr<DatagramSocket> newConnectedDatagramSocket(uv_loop_t* loop, const SocketAddress& address,
                                                           const std::string& name,
                                                           std::shared_ptr<const PeerFilter> filter,
                                                           const DatagramOptions& options, std::source_location where) {
  const std::string operation = fmt::format("cannot connect a datagram socket to {}", name);
  requireIp(address, operation, where);
  OwnedDescriptor socket = newUdpSocket(address.family(), options, operation, where);
  auto made = std::make_unique<UvDatagramSocket>(
      newState(loop, std::move(socket), address, std::move(filter), operation, where));
  made->connectAs(address, operation, where);
  return made;
}

} // namespace detail
} // namespace v0
} // namespace troth
