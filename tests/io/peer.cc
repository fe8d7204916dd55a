// SPDX-License-Identifier: MIT
// The peers, pairs and limits of the tests of streams.
#include "peer.h"

#include <troth/io/uv_stream.h>
#include <troth/runtime/uv/uv_event_port.h>
#include <troth/timers/timer.h>

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <semaphore>
#include <vector>

namespace troth::test {

namespace {

constexpr int PATIENCE_MS = 10'000;

bool becomesReady(int fd, short events, int timeout) {
  pollfd poll{fd, events, 0};
  int ready;
  do ready = ::poll(&poll, 1, timeout);
  while (ready < 0 && errno == EINTR);
  return ready > 0;
}

void setBuffers(int writer, int reader, Buffers buffers) {
  if (buffers.send != 0) REQUIRE(setsockopt(writer, SOL_SOCKET, SO_SNDBUF, &buffers.send, sizeof buffers.send) == 0);
  if (buffers.receive != 0) REQUIRE(setsockopt(reader, SOL_SOCKET, SO_RCVBUF, &buffers.receive, sizeof buffers.receive) == 0);
}

std::unique_ptr<AsyncIoStream> pipeStream(AsyncIo& io, int fd) {
  uv_loop_t* loop = io.uvEventPort().uvLoop();
  UvHandle<uv_pipe_t> handle("uv_pipe_init", [loop](uv_pipe_t* pipe) { return uv_pipe_init(loop, pipe, 0); });
  REQUIRE(uv_pipe_open(handle.get(), fd) == 0);
  return newUvStream(std::move(handle).toStream());
}

void socketPair(int (&fds)[2], Buffers buffers) {
  REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) == 0);
  setBuffers(fds[0], fds[1], buffers);
}

} // namespace

void Peer::close() noexcept {
  if (fd_ >= 0) ::close(std::exchange(fd_, -1));
}

std::size_t Peer::sendSome(std::string_view text) {
  std::size_t sent = 0;
  while (sent < text.size()) {
    const ssize_t count = ::send(fd_, text.data() + sent, text.size() - sent, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (count < 0) {
      REQUIRE((errno == EAGAIN || errno == EWOULDBLOCK));
      break;
    }
    sent += static_cast<std::size_t>(count);
  }
  return sent;
}

void Peer::send(std::string_view text) { REQUIRE(sendSome(text) == text.size()); }

std::string Peer::receiveSome(std::size_t most) {
  std::string text(most, '\0');
  const ssize_t count = ::recv(fd_, text.data(), text.size(), MSG_DONTWAIT);
  REQUIRE((count >= 0 || errno == EAGAIN || errno == EWOULDBLOCK));
  text.resize(count < 0 ? 0 : static_cast<std::size_t>(count));
  return text;
}

void Peer::waitReadable() const { REQUIRE_MESSAGE(becomesReady(fd_, POLLIN, PATIENCE_MS), "nothing came"); }

std::string Peer::receive(std::size_t count) {
  std::string text;
  while (text.size() < count) {
    waitReadable();
    const std::string part = receiveSome(count - text.size());
    REQUIRE_MESSAGE(!part.empty(), "the stream ended early");
    text += part;
  }
  return text;
}

bool Peer::isAtEnd() {
  waitReadable();
  char byte;
  return ::recv(fd_, &byte, 1, MSG_DONTWAIT) == 0;
}

bool Peer::isClosed() {
  waitReadable();
  char byte;
  const ssize_t count = ::recv(fd_, &byte, 1, MSG_DONTWAIT);
  return count == 0 || (count < 0 && errno == ECONNRESET);
}

bool Peer::isReadable() const { return becomesReady(fd_, POLLIN, 0); }

void Peer::shutdownWrite() { REQUIRE(::shutdown(fd_, SHUT_WR) == 0); }

void Peer::reset() {
  const linger at_once{1, 0};
  REQUIRE(setsockopt(fd_, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once) == 0);
  close();
}

Pair newPair(AsyncIo& io, Buffers buffers) {
  int fds[2];
  socketPair(fds, buffers);
  Peer peer(fds[1]);
  return {pipeStream(io, fds[0]), std::move(peer)};
}

StreamPair newStreamPair(AsyncIo& io, Buffers buffers) {
  int fds[2];
  socketPair(fds, buffers);
  auto left = pipeStream(io, fds[0]);
  return {std::move(left), pipeStream(io, fds[1])};
}

namespace {
std::unique_ptr<AsyncIoStream> tcpStream(AsyncIo& io, int fd) {
  uv_loop_t* loop = io.uvEventPort().uvLoop();
  UvHandle<uv_tcp_t> handle("uv_tcp_init", [loop](uv_tcp_t* tcp) { return uv_tcp_init(loop, tcp); });
  REQUIRE(uv_tcp_open(handle.get(), fd) == 0);
  return newUvStream(std::move(handle).toStream());
}
} // namespace

Pair newTcpPair(AsyncIo& io, Buffers buffers) {
  Peer listener(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  REQUIRE(bind(listener.fd(), reinterpret_cast<sockaddr*>(&address), size) == 0);
  REQUIRE(listen(listener.fd(), 1) == 0);
  REQUIRE(getsockname(listener.fd(), reinterpret_cast<sockaddr*>(&address), &size) == 0);
  Peer peer(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (buffers.receive != 0) setBuffers(-1, peer.fd(), {0, buffers.receive}); // before the window is announced
  REQUIRE(connect(peer.fd(), reinterpret_cast<sockaddr*>(&address), size) == 0);
  Peer ours(accept4(listener.fd(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
  REQUIRE(ours.fd() >= 0);
  if (buffers.send != 0) setBuffers(ours.fd(), -1, {buffers.send, 0});
  const int on = 1;
  REQUIRE(setsockopt(peer.fd(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) == 0);
  REQUIRE(fcntl(peer.fd(), F_SETFL, O_NONBLOCK) == 0);
  return {tcpStream(io, ours.release()), std::move(peer)};
}

StreamPair newTcpStreamPair(AsyncIo& io) {
  Pair pair = newTcpPair(io);
  return {std::move(pair.stream), tcpStream(io, pair.peer.release())};
}

// The period is a prime, so that no buffer size divides it.
std::string numberedBytes(std::size_t count, std::size_t first) {
  std::string bytes(count, '\0');
  for (std::size_t i = 0; i < count; ++i) bytes[i] = static_cast<char>((first + i) % 251);
  return bytes;
}

bool areNumbered(std::string_view bytes, std::size_t first) { return bytes == numberedBytes(bytes.size(), first); }

std::string receiveWhileRunning(IoTest& test, Peer& peer, std::size_t most, std::size_t step) {
  Promise<void> later = test.io.timer().afterDelay(std::chrono::hours(1)); // libuv looks at I/O only if it has a reason to live
  std::string all;
  int quiet = 0;
  while (all.size() < most && quiet < 3) {
    const std::string part = peer.receiveSome(std::min(step, most - all.size()));
    all += part;
    test.scope.poll();
    if (!part.empty()) {
      quiet = 0;
      continue;
    }
    // TCP may need a moment to carry bytes over: both ends are waited for.
    pollfd fds[2] = {{peer.fd(), POLLIN, 0}, {uv_backend_fd(test.io.uvEventPort().uvLoop()), POLLIN, 0}};
    if (::poll(fds, 2, 50) == 0) ++quiet;
    if (quiet == 0 && peer.isReadable()) {
      char byte;
      if (::recv(peer.fd(), &byte, 1, MSG_DONTWAIT | MSG_PEEK) <= 0) break; // the end
    }
  }
  return all;
}

bool sleeps(IoTest& test) {
  Promise<void> later = test.io.timer().afterDelay(std::chrono::hours(1)); // something to sleep for
  for (int i = 0; i < 5; ++i) test.scope.poll();
  uv_loop_t* loop = test.io.uvEventPort().uvLoop();
  return !becomesReady(uv_backend_fd(loop), POLLIN, 0) && uv_backend_timeout(loop) != 0;
}

std::size_t activeHandles(IoTest& test, std::string_view type) {
  struct Search {
    std::string_view type;
    std::size_t count = 0;
  } search{type};
  uv_walk(
      test.io.uvEventPort().uvLoop(),
      [](uv_handle_t* handle, void* data) {
        auto* s = static_cast<Search*>(data);
        if (uv_handle_type_name(handle->type) == s->type && uv_is_active(handle) != 0) ++s->count;
      },
      &search);
  return search.count;
}

bool madeIn(const Exception& e, std::string_view file) { return std::string_view(e.where().file_name()).ends_with(file); }

namespace {

std::size_t softLimit() {
  rlimit limit;
  REQUIRE(getrlimit(RLIMIT_NOFILE, &limit) == 0);
  return limit.rlim_cur;
}

void setSoftLimit(std::size_t soft) {
  rlimit limit;
  REQUIRE(getrlimit(RLIMIT_NOFILE, &limit) == 0);
  limit.rlim_cur = soft;
  REQUIRE(setrlimit(RLIMIT_NOFILE, &limit) == 0);
}

std::size_t lowestFree() {
  const int fd = fcntl(0, F_DUPFD_CLOEXEC, 0);
  REQUIRE(fd >= 0);
  ::close(fd);
  return static_cast<std::size_t>(fd);
}

} // namespace

// UBSan checks the type of an object that it has not seen before with the help of a pipe, for which there are no
// descriptors then: it must have seen the category of libuv's errors.
DescriptorLimit::DescriptorLimit(Absolute limit) : before_(softLimit()) {
  REQUIRE((uvException(UV_EMFILE, "warming up").code() == std::errc::too_many_files_open));
  setSoftLimit(limit.limit);
}
DescriptorLimit::DescriptorLimit(std::size_t spare) : DescriptorLimit(Absolute{lowestFree() + spare}) {}
DescriptorLimit DescriptorLimit::none() { return DescriptorLimit(Absolute{1}); }

void DescriptorLimit::lift() {
  if (std::exchange(lifted_, true)) return;
  setSoftLimit(before_);
}

struct BusyThreadPool::Jobs {
  std::counting_semaphore<> begun{0};
  std::counting_semaphore<> go{0};
  std::ptrdiff_t threads = 4;

  struct Job {
    uv_work_t request;
    std::shared_ptr<Jobs> jobs;
  };
};

BusyThreadPool::BusyThreadPool(AsyncIo& io) : jobs_(std::make_shared<Jobs>()) {
  if (const char* size = std::getenv("UV_THREADPOOL_SIZE")) jobs_->threads = std::atoi(size);
  for (std::ptrdiff_t i = 0; i < jobs_->threads; ++i) {
    auto* job = new Jobs::Job{{}, jobs_};
    job->request.data = job;
    REQUIRE(uv_queue_work(
                io.uvEventPort().uvLoop(), &job->request,
                [](uv_work_t* request) {
                  Jobs& jobs = *static_cast<Jobs::Job*>(request->data)->jobs;
                  jobs.begun.release();
                  jobs.go.acquire();
                },
                [](uv_work_t* request, int) { delete static_cast<Jobs::Job*>(request->data); }) == 0);
  }
  for (std::ptrdiff_t i = 0; i < jobs_->threads; ++i) jobs_->begun.acquire();
}

void BusyThreadPool::release() { jobs_->go.release(std::exchange(jobs_->threads, 0)); }

BusyThreadPool::~BusyThreadPool() { release(); }

} // namespace troth::test
