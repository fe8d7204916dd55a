// SPDX-License-Identifier: MIT
// Accepting connections: a few ahead of demand, none lost, and without a busy loop when descriptors run out.
//
// libuv accepts on its own in a loop until the kernel has no more connections or until one is not taken from
// it. We take up to READY_LIMIT of them; the next one libuv keeps and stops listening, so the rest wait in
// the kernel's backlog until accept() is called again.
//
// On an error libuv's loop goes on at once, and for ever if the error stays (it has a trick for EMFILE, which
// drops the waiting connections, and none for ENOMEM and others). The only way out of that loop is to close
// the handle, so then the handle is closed while a duplicate of its descriptor keeps the socket listening;
// after a pause a new handle takes over. The duplicate is made at the start, when descriptors are at hand. (The
// descriptor in reserve that lets a server turn away who cannot be served is libuv's own, uv_loop_t's `emfile_fd`.)
#include <troth/net/uv_listener_detail.h>

#include <troth/io/descriptor.h>
#include <troth/io/uv_stream.h>
#include <troth/net/uv_tcp_options_detail.h>
#include <troth/net/uv_unix_socket_detail.h>
#include <troth/runtime/uv/standard_descriptors_detail.h>

#include <fmt/format.h>

#include <cerrno>
#include <deque>

#include <fcntl.h>
#include <unistd.h>

namespace troth {
inline namespace v0 {
namespace detail {
namespace {

constexpr std::size_t READY_LIMIT = 32; // connections accepted ahead of demand
constexpr unsigned ERRORS_IN_A_ROW = 16;
constexpr std::uint64_t PAUSE_MS = 100;

/// None of the standard ones: libuv would not close it.
OwnedDescriptor duplicate(int descriptor, std::string_view operation, std::source_location where) {
  OwnedDescriptor copy(fcntl(descriptor, F_DUPFD_CLOEXEC, STDERR_FILENO + 1));
  if (!copy) throw uvException(uv_translate_sys_error(errno), operation, where);
  return copy;
}

bool isShortage(int status) noexcept {
  return status == UV_EMFILE || status == UV_ENFILE || status == UV_ENOBUFS || status == UV_ENOMEM;
}

bool isBroken(int status) noexcept {
  return status == UV_EBADF || status == UV_EINVAL || status == UV_ENOTSOCK || status == UV_EFAULT;
}

using StreamPtr = std::unique_ptr<AsyncIoStream>;

class ListenerState;

/// The one accept of a listener. Its result is made when it is taken; until then the connection is the
/// listener's, so cancelling loses nothing.
class AcceptOp final : public SourceNode {
public:
  explicit AcceptOp(ListenerState& state) noexcept : SourceNode(std::source_location()), state_(state) {}

  bool isFree() const noexcept { return free_; }
  bool isPending() const noexcept { return !free_ && !isReady(); }
  bool hasConnection() const noexcept { return !free_ && isReady() && !result_.exception && !result_.value; }

  void begin(std::source_location where) noexcept {
    resetSource(EventLoop::currentOrNull());
    free_ = false;
    where_ = where;
  }
  void connectionIsReady() noexcept { setReady(); }
  void fail(const Exception& exception) noexcept { setFailed(result_, exception); }

  ResultBase& get(ResultBase*) noexcept override;
  void destroy() noexcept override;
  const char* name() const noexcept override { return "accept"; }

private:
  ListenerState& state_;
  Result<StreamPtr> result_;
  bool free_ = true;
};

/// Shared by the receiver and its pending accept: it goes with the last of them.
class ListenerState {
public:
  ListenerState(uv_loop_t* loop, const SocketAddress& address, std::string_view name,
                std::shared_ptr<const PeerFilter> filter, const ListenOptions& options);

  /// One of these, once: binds a socket of its own, or takes one that is bound. `operation` is for errors.
  void bind(std::string_view operation, std::source_location where);
  void adopt(OwnedDescriptor socket, std::string_view operation, std::source_location where);

  Promise<StreamPtr> accept(std::source_location where);
  SocketAddress address() const noexcept { return address_; }
  int descriptor() const noexcept { return socket_.get(); }
  void close() noexcept;

  void addReference() noexcept { ++references_; }
  void dropReference() noexcept {
    if (--references_ == 0) delete this;
  }

  std::deque<UvHandle<uv_stream_t>> ready;

private:
  uv_loop_t* loop_;
  SocketAddress address_;
  std::string operation_; // what an accept does, for the text of its failures
  std::shared_ptr<const PeerFilter> filter_;
  ListenOptions options_;
  unsigned references_ = 0;
  unsigned errorsInARow_ = 0;
  int brokenBy_ = 0;
  bool waiting_ = false; // libuv holds an accepted connection for us
  AcceptOp acceptOp_;
  SocketFile file_;
  OwnedDescriptor socket_; // a duplicate: keeps the socket listening during a pause
  UvHandle<uv_stream_t> handle_;
  UvHandle<uv_timer_t> pause_;

  UvHandle<uv_stream_t> newHandle(std::string_view operation) const;
  void start(std::string_view operation, std::source_location where);
  int open(int descriptor) noexcept;
  int startListening() noexcept;
  void onConnection(int status) noexcept;
  void take() noexcept;
  bool takeFromLibuv() noexcept;
  bool isAllowed(const UvHandle<uv_stream_t>& connection) const noexcept;
  void failed(int status) noexcept;
  void breakOff() noexcept;
  void pause() noexcept;
  void resume() noexcept;
};

ResultBase& AcceptOp::get(ResultBase*) noexcept {
  if (result_.exception) return result_;
  UvHandle<uv_stream_t> handle = std::move(state_.ready.front());
  state_.ready.pop_front();
  try {
    result_.value.emplace(newUvStream(std::move(handle)));
  } catch (...) {
    result_.exception = Exception::fromCurrent().ref();
  }
  return result_;
}

void AcceptOp::destroy() noexcept {
  requireThreadToGo();
  free_ = true;
  result_ = {};
  state_.dropReference();
}

ListenerState::ListenerState(uv_loop_t* loop, const SocketAddress& address, std::string_view name,
                             std::shared_ptr<const PeerFilter> filter, const ListenOptions& options)
    : loop_(loop),
      address_(address),
      operation_(fmt::format("accepting on {}", name)),
      filter_(std::move(filter)),
      options_(options),
      acceptOp_(*this) {}

/// For the listening socket, or for a connection.
UvHandle<uv_stream_t> ListenerState::newHandle(std::string_view operation) const {
  if (address_.isUnix())
    return UvHandle<uv_pipe_t>(operation, [this](uv_pipe_t* pipe) { return uv_pipe_init(loop_, pipe, 0); }).toStream();
  return UvHandle<uv_tcp_t>(operation, [this](uv_tcp_t* tcp) { return uv_tcp_init(loop_, tcp); }).toStream();
}

void ListenerState::bind(std::string_view operation, std::source_location where) {
  if (address_.isUnix()) {
    if (options_.reusePort) throwNoReusePort(operation, where);
    OwnedDescriptor socket = bindUnixSocket(address_, operation, where);
    if (!address_.isAbstract()) file_ = SocketFile(address_);
    return adopt(std::move(socket), operation, where);
  }
  const bool isIpv6 = address_.family() == SocketAddress::Family::IPV6;
  UvHandle<uv_tcp_t> handle(
      operation,
      [&](uv_tcp_t* tcp) { return uv_tcp_init_ex(loop_, tcp, static_cast<unsigned>(isIpv6 ? AF_INET6 : AF_INET)); },
      where);
  if (options_.reusePort) setReusePort(*handle.get(), operation, where);
  const unsigned flags = isIpv6 && options_.ipv6Only ? UV_TCP_IPV6ONLY : 0;
  uvCheck(uv_tcp_bind(handle.get(), address_.get(), flags), operation, where);
  handle_ = std::move(handle).toStream();
  start(operation, where);
}

void ListenerState::adopt(OwnedDescriptor socket, std::string_view operation, std::source_location where) {
  if (socket.get() <= STDERR_FILENO) {
    socket = duplicate(socket.get(), operation, where);
    holdStandardDescriptors();
  }
  fcntl(socket.get(), F_SETFD, FD_CLOEXEC);
  handle_ = newHandle(operation);
  uvCheck(open(socket.get()), operation, where);
  socket.release();
  start(operation, where);
}

/// Listens on what handle_ is bound to.
void ListenerState::start(std::string_view operation, std::source_location where) {
  handle_.setData(this);
  uvCheck(startListening(), operation, where);
  uv_os_fd_t fd;
  uvCheck(uv_fileno(handle_.base(), &fd), operation, where);
  address_ = SocketAddress::ofSocket(fd, where);
  socket_ = duplicate(fd, operation, where);
  pause_ = UvHandle<uv_timer_t>(operation, [this](uv_timer_t* handle) { return uv_timer_init(loop_, handle); });
  pause_.setData(this);
}

int ListenerState::open(int descriptor) noexcept {
  if (address_.isUnix()) return uv_pipe_open(reinterpret_cast<uv_pipe_t*>(handle_.get()), descriptor);
  return uv_tcp_open(reinterpret_cast<uv_tcp_t*>(handle_.get()), descriptor);
}

int ListenerState::startListening() noexcept {
  return uv_listen(handle_.get(), options_.backlog, [](uv_stream_t* handle, int status) {
    if (auto* state = static_cast<ListenerState*>(handle->data)) state->onConnection(status);
  });
}

Promise<StreamPtr> ListenerState::accept(std::source_location where) {
  if (!acceptOp_.isFree())
    throwMisuse("accept: another accept on this receiver is pending, or its result has not been taken", where);
  acceptOp_.begin(where);
  addReference();
  Promise<StreamPtr> promise = PromiseAccess::wrap<StreamPtr>(&acceptOp_);
  if (!ready.empty())
    acceptOp_.connectionIsReady();
  else if (waiting_)
    take();
  else if (brokenBy_ != 0)
    acceptOp_.fail(uvException(brokenBy_, operation_, where));
  return promise;
}

void ListenerState::onConnection(int status) noexcept {
  if (status < 0) return failed(status);
  errorsInARow_ = 0;
  waiting_ = true;
  if (ready.size() < READY_LIMIT) take();
}

/// Takes the connection that libuv holds, for an accept if one is pending. Without memory it stays with libuv until
/// the pause is over.
void ListenerState::take() noexcept {
  if (!takeFromLibuv()) return pause();
  if (!ready.empty() && acceptOp_.isPending()) acceptOp_.connectionIsReady();
}

/// Returns false if there was no memory.
bool ListenerState::takeFromLibuv() noexcept {
  try {
    const UvHandle<uv_stream_t>& connection = ready.emplace_back(newHandle("accepting"));
    waiting_ = false;
    if (uv_accept(handle_.get(), connection.get()) < 0 || !isAllowed(connection))
      ready.pop_back();
    else if (connection->type == UV_TCP)
      applyTcpOptions(*reinterpret_cast<uv_tcp_t*>(connection.get()), options_.tcp);
    return true;
  } catch (...) {
    return false;
  }
}

/// Whether the peer may stay. One that has gone meanwhile has no address.
bool ListenerState::isAllowed(const UvHandle<uv_stream_t>& connection) const noexcept {
  if (filter_ == nullptr || address_.isUnix()) return true;
  try {
    uv_os_fd_t fd;
    uvCheck(uv_fileno(connection.base(), &fd), "accepting");
    return filter_->allows(SocketAddress::ofPeer(fd));
  } catch (...) {
    return false;
  }
}

void ListenerState::failed(int status) noexcept {
  if (isBroken(status)) {
    brokenBy_ = status;
    handle_.close();
    if (acceptOp_.isPending()) acceptOp_.fail(uvException(status, operation_, acceptOp_.where()));
    return;
  }
  // Other errors concern one connection (accept(2): treat network errors like EAGAIN), unless they persist.
  if (isShortage(status) || ++errorsInARow_ >= ERRORS_IN_A_ROW) breakOff();
}

void ListenerState::breakOff() noexcept {
  errorsInARow_ = 0;
  handle_.close();
  pause();
}

void ListenerState::pause() noexcept {
  uv_timer_start(
      pause_.get(),
      [](uv_timer_t* timer) {
        if (auto* state = static_cast<ListenerState*>(timer->data)) state->resume();
      },
      PAUSE_MS, 0);
}

void ListenerState::resume() noexcept {
  if (waiting_) return take();
  try {
    OwnedDescriptor descriptor = duplicate(socket_.get(), "accepting", std::source_location());
    handle_ = newHandle("accepting");
    handle_.setData(this);
    if (open(descriptor.get()) < 0) return breakOff();
    descriptor.release();
    if (startListening() < 0) breakOff();
  } catch (...) {
    breakOff();
  }
}

void ListenerState::close() noexcept {
  if (acceptOp_.isPending())
    acceptOp_.fail(Exception(Exception::Kind::DISCONNECTED, "the receiver was destroyed", {}, acceptOp_.where())
                       .withContext(operation_));
  file_.remove(); // first, so that nobody finds it without a listener
  handle_.close();
  pause_.close();
  socket_.close();
  // The first belongs to an accept that has it already; the others are nobody's.
  while (ready.size() > (acceptOp_.hasConnection() ? 1U : 0U)) ready.pop_back();
}

class Listener final : public ConnectionReceiver {
public:
  explicit Listener(ListenerState& state) noexcept : state_(state) { state_.addReference(); }
  ~Listener() override {
    state_.close();
    state_.dropReference();
  }
  Promise<StreamPtr> accept(std::source_location where) override { return state_.accept(where); }
  std::uint16_t getPort() const override { return state_.address().port(); }
  std::string toString() const override { return state_.address().toString(); }
  std::optional<int> descriptor() const override { return state_.descriptor(); }

private:
  ListenerState& state_;
};

std::unique_ptr<ConnectionReceiver> wrap(std::unique_ptr<ListenerState> state) {
  auto listener = std::make_unique<Listener>(*state);
  state.release();
  return listener;
}

} // namespace

std::unique_ptr<ConnectionReceiver> newListener(uv_loop_t* loop, const SocketAddress& address, const std::string& name,
                                                std::shared_ptr<const PeerFilter> filter, const ListenOptions& options,
                                                std::source_location where) {
  auto state = std::make_unique<ListenerState>(loop, address, name, std::move(filter), options);
  state->bind(fmt::format("cannot listen on {}", name), where);
  return wrap(std::move(state));
}

std::unique_ptr<ConnectionReceiver> newListener(uv_loop_t* loop, OwnedDescriptor socket, const SocketAddress& address,
                                                std::shared_ptr<const PeerFilter> filter, const ListenOptions& options,
                                                std::source_location where) {
  const std::string name = address.toString();
  auto state = std::make_unique<ListenerState>(loop, address, name, std::move(filter), options);
  state->adopt(std::move(socket), fmt::format("cannot listen on {}", name), where);
  return wrap(std::move(state));
}

} // namespace detail
} // namespace v0
} // namespace troth
