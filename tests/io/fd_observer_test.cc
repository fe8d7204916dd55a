// SPDX-License-Identifier: MIT
// Tests of FdObserver: what wakes whom, what it costs, and who owns the descriptor.
#include "peer.h"
#include "raw_descriptors.h"
#include "temporary_directory.h"

#include <troth/io/fd_observer.h>

#include <dlfcn.h>
#include <netinet/in.h>
#if defined(__linux__)
#include <sys/epoll.h>
#endif
#include <uv.h>

#include <array>
#include <cerrno>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

using namespace troth;
using namespace troth::test;

namespace {
int watchChanges = 0; // how often the system was told what to watch
}

#if defined(__linux__)
// libuv's calls come here first.
extern "C" int epoll_ctl(int epoll, int operation, int descriptor, epoll_event* event) noexcept {
  static const auto real = reinterpret_cast<int (*)(int, int, int, epoll_event*)>(dlsym(RTLD_NEXT, "epoll_ctl"));
  ++watchChanges;
  return real(epoll, operation, descriptor, event);
}
#endif

namespace {

using ObserverPtr = std::unique_ptr<FdObserver>;

/// Two connected sockets, of which one is observed.
struct Observed {
  explicit Observed(IoTest& test) : Observed(test, rawSocketpair()) {}

  Peer ours;
  Peer peer;
  ObserverPtr observer;

private:
  Observed(IoTest& test, RawPair pair)
      : ours(pair.out.release()), peer(pair.in.release()), observer(newFdObserver(test.io, ours.fd(), Ownership::BORROW)) {}
};

using Waits = std::vector<Promise<void>>;

/// Promises for everything that an observer tells.
Waits waitForAll(FdObserver& observer) {
  Waits all;
  all.push_back(observer.whenBecomesReadable());
  all.push_back(observer.whenBecomesWritable());
  all.push_back(observer.whenHungUp());
  all.push_back(observer.whenUrgentDataAvailable());
  return all;
}

void waitUntilWoken(Waits all, WaitScope& scope) {
  for (Promise<void>& wait : all) std::move(wait).wait(scope);
}

int takeError(int socket) {
  int error = 0;
  socklen_t size = sizeof error;
  REQUIRE(getsockopt(socket, SOL_SOCKET, SO_ERROR, &error, &size) == 0);
  return error;
}

/// A port of 127.0.0.1 and the socket that has it; nobody listens yet.
struct Port {
  Peer socket{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  sockaddr_in address{};

  Port() {
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    REQUIRE(bind(socket.fd(), reinterpret_cast<sockaddr*>(&address), size) == 0);
    REQUIRE(getsockname(socket.fd(), reinterpret_cast<sockaddr*>(&address), &size) == 0);
  }

  /// A socket that is connecting.
  Peer connecting() const {
    Peer client(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    REQUIRE(connect(client.fd(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == -1);
    REQUIRE(errno == EINPROGRESS);
    return client;
  }
};

} // namespace

TEST_CASE_FIXTURE(IoTest, "a descriptor becomes readable when bytes come, and is so until they have been read") {
  Observed pair(*this);
  Promise<void> wait = pair.observer->whenBecomesReadable();
  takeAfter(wait, scope, [&] { pair.peer.send("abc"); });
  for (int i = 0; i < 3; ++i) pair.observer->whenBecomesReadable().wait(scope);
  CHECK(pair.ours.receive(3) == "abc");
  wait = pair.observer->whenBecomesReadable();
  takeAfter(wait, scope, [&] { pair.peer.shutdownWrite(); });
  CHECK(pair.ours.isAtEnd());
  pair.observer->whenBecomesReadable().wait(scope); // an end stays
}

TEST_CASE_FIXTURE(IoTest, "a descriptor becomes writable when there is room") {
  Observed pair(*this);
  pair.observer->whenBecomesWritable().wait(scope);
  const std::string block(1 << 16, 'x');
  std::size_t sent = 0;
  for (std::size_t some; (some = pair.ours.sendSome(block)) != 0;) sent += some;
  Promise<void> wait = pair.observer->whenBecomesWritable();
  takeAfter(wait, scope, [&] { CHECK(pair.peer.receive(sent).size() == sent); });
  CHECK(pair.ours.sendSome("x") == 1);
}

TEST_CASE_FIXTURE(IoTest, "each direction is waited for on its own, by several, all of whom go on in their order") {
  Observed pair(*this);
  std::string order;
  std::vector<Promise<void>> readers;
  for (const char name : {'a', 'b', 'c', 'd'})
    readers.push_back(
        pair.observer->whenBecomesReadable().then([&order, name] { order += name; }).eagerlyEvaluate(nullptr));
  pair.observer->whenBecomesWritable().wait(scope);
  readers.erase(readers.begin() + 1); // who goes does not disturb the others
  for (Promise<void>& reader : readers) CHECK(!reader.poll(scope));
  pair.peer.send("x");
  for (Promise<void>& reader : readers) std::move(reader).wait(scope);
  CHECK(order == "acd");
}

TEST_CASE_FIXTURE(IoTest, "a refused connection wakes all who wait, and then tells its error") {
  const Port port;
  const Peer client = port.connecting();
  const ObserverPtr observer = newFdObserver(io, client.fd(), Ownership::BORROW);
  waitUntilWoken(waitForAll(*observer), scope);
  CHECK(takeError(client.fd()) == ECONNREFUSED);
}

TEST_CASE_FIXTURE(IoTest, "a refused connection wakes each who waits alone") {
  const Port port;
  for (std::size_t kind = 0; kind < 4; ++kind) {
    CAPTURE(kind);
    const Peer client = port.connecting();
    const ObserverPtr observer = newFdObserver(io, client.fd(), Ownership::BORROW);
    Waits all = waitForAll(*observer);
    Promise<void> one = std::move(all[kind]);
    all.clear();
    std::move(one).wait(scope);
    CHECK(takeError(client.fd()) == ECONNREFUSED);
  }
}

TEST_CASE_FIXTURE(IoTest, "a connection that is made is writable, and not readable before bytes come") {
  const Port port;
  REQUIRE(listen(port.socket.fd(), 1) == 0);
  const ObserverPtr listener = newFdObserver(io, port.socket.fd(), Ownership::BORROW);
  Promise<void> incoming = listener->whenBecomesReadable();
  REQUIRE(!incoming.poll(scope));
  const Peer client = port.connecting();
  const ObserverPtr observer = newFdObserver(io, client.fd(), Ownership::BORROW);
  Promise<void> readable = observer->whenBecomesReadable();
  observer->whenBecomesWritable().wait(scope);
  std::move(incoming).wait(scope);
  CHECK(takeError(client.fd()) == 0);
  Peer server(accept(port.socket.fd(), nullptr, nullptr));
  takeAfter(readable, scope, [&] { server.send("x"); });

  Waits all = waitForAll(*observer); // and a reset wakes all, bytes or not
  server.reset();
  waitUntilWoken(std::move(all), scope);
  CHECK(takeError(client.fd()) == ECONNRESET);
}

TEST_CASE_FIXTURE(IoTest, "a pipe whose reader goes wakes its writer, one whose writer goes its reader") {
  RawPair pipe = rawPipe();
  ObserverPtr in = newFdObserver(io, pipe.in.get(), Ownership::BORROW);
  while (::write(pipe.in.get(), "x", 1) == 1) {} // full: it is non-blocking by now
  Waits all = waitForAll(*in);
  REQUIRE(!all[1].poll(scope));
  pipe.out.close();
  waitUntilWoken(std::move(all), scope);
  CHECK(::write(pipe.in.get(), "x", 1) == -1);
  CHECK(errno == EPIPE);
  CHECK(sleeps(*this)); // though the error stays
  in->whenBecomesWritable().wait(scope);
  in.reset();
  in = newFdObserver(io, pipe.in.get(), Ownership::BORROW); // libuv stops watching with an error, if only this is awaited
  for (int i = 0; i < 3; ++i) in->whenBecomesWritable().wait(scope);

  RawPair other = rawPipe();
  ObserverPtr out = newFdObserver(io, std::move(other.out));
  all = waitForAll(*out);
  REQUIRE(!all[2].poll(scope));
  other.in.close();
  waitUntilWoken(std::move(all), scope);
  CHECK(sleeps(*this));

  RawPair last = rawPipe(); // with bytes left in it
  out = newFdObserver(io, std::move(last.out));
  Promise<void> gone = out->whenHungUp();
  REQUIRE(::write(last.in.get(), "x", 1) == 1);
  takeAfter(gone, scope, [&] { last.in.close(); });
}

TEST_CASE_FIXTURE(IoTest, "a peer that sends no more has hung up, though there are bytes to read and writing goes on") {
  Observed pair(*this);
  Promise<void> gone = pair.observer->whenHungUp();
  pair.peer.send("last words");
  REQUIRE(!gone.poll(scope));
  takeAfter(gone, scope, [&] { pair.peer.shutdownWrite(); });
  CHECK(pair.ours.receive(10) == "last words");
  pair.ours.send("still here");
  CHECK(pair.peer.receive(10) == "still here");
  CHECK(sleeps(*this)); // nobody waits for what is still so
  pair.observer->whenHungUp().wait(scope);
}

TEST_CASE_FIXTURE(IoTest, "urgent data is told apart from other bytes") {
  Pair pair = newTcpPair(io);
  Peer reader(fcntl(pair.peer.fd(), F_DUPFD_CLOEXEC, 3));
  const ObserverPtr observer = newFdObserver(io, reader.fd(), Ownership::BORROW);
  const int writer = *pair.stream->descriptor();
  Promise<void> urgent = observer->whenUrgentDataAvailable();
  REQUIRE(::send(writer, "abc", 3, 0) == 3);
  observer->whenBecomesReadable().wait(scope);
  CHECK(!urgent.poll(scope));
  REQUIRE(::send(writer, "!", 1, MSG_OOB) == 1);
  std::move(urgent).wait(scope);
  char byte = 0;
  CHECK(::recv(reader.fd(), &byte, 1, MSG_OOB) == 1);
  CHECK(byte == '!');
}

#if defined(__linux__)
TEST_CASE_FIXTURE(IoTest, "waiting again and again costs no epoll_ctl, nor does the end of a wait") {
  Observed pair(*this);
  pair.observer->whenBecomesReadable().poll(scope);
  const int before = watchChanges;
  for (int i = 0; i < 100; ++i) {
    Promise<void> wait = pair.observer->whenBecomesReadable();
    takeAfter(wait, scope, [&] { pair.peer.send("x"); });
    CHECK(pair.ours.receive(1) == "x");
    const Promise<void> cancelled = pair.observer->whenBecomesReadable();
  }
  CHECK(watchChanges == before);

  // Both directions in turn: the system is told of the second one once.
  pair.observer->whenBecomesWritable().wait(scope);
  const int both = watchChanges;
  CHECK(both - before <= 2);
  pair.peer.send("x");
  for (int i = 0; i < 100; ++i) {
    Promise<void> readable = pair.observer->whenBecomesReadable();
    Promise<void> writable = pair.observer->whenBecomesWritable();
    std::move(readable).wait(scope);
    std::move(writable).wait(scope);
  }
  CHECK(watchChanges == both);
}

TEST_CASE_FIXTURE(IoTest, "what nobody waits for is watched no more once it has come, and the other direction is") {
  Observed pair(*this);
  Promise<void> readable = pair.observer->whenBecomesReadable();
  pair.observer->whenBecomesWritable().wait(scope);
  CHECK(sleeps(*this)); // though there is room all the time
  const int before = watchChanges;
  CHECK(sleeps(*this));
  takeAfter(readable, scope, [&] { pair.peer.send("x"); });
  CHECK(watchChanges == before);
  CHECK(sleeps(*this)); // though there is something to read
  CHECK(activeHandles(*this, "poll") == 1); // the loop's own
}
#endif

TEST_CASE_FIXTURE(IoTest, "an observer that is destroyed rejects those who wait, who may go before and after it") {
  Observed pair(*this);
  Waits all = waitForAll(*pair.observer);
  all.push_back(pair.observer->whenBecomesReadable());
  const Promise<void> neverRun = pair.observer->whenBecomesReadable();
  pair.peer.send("x");
  all.pop_back();
  all.erase(all.begin() + 1); // there is room
  pair.observer.reset();
  for (Promise<void>& wait : all) {
    const Exception e = failureOf(std::move(wait), scope);
    CHECK((e.kind() == Exception::Kind::DISCONNECTED));
    CHECK(contains(e.description(), "observer was destroyed"));
    CHECK(madeIn(e, "fd_observer_test.cc"));
  }
  CHECK(pair.ours.receive(1) == "x"); // the descriptor is still the caller's
}

TEST_CASE_FIXTURE(IoTest, "a borrowed descriptor may be closed first, and have several observers, beside a stream") {
  Observed pair(*this);
  const ObserverPtr second = newFdObserver(io, pair.ours.fd(), Ownership::BORROW);
  const std::unique_ptr<AsyncIoStream> stream = newIoStream(io, pair.ours.fd(), Ownership::BORROW);
  Promise<void> one = pair.observer->whenBecomesReadable();
  Promise<void> two = second->whenBecomesReadable();
  pair.peer.send("x");
  std::move(one).wait(scope);
  std::move(two).wait(scope);
  CHECK(stream->tryReadChunk().wait(scope).text() == "x");

  Promise<void> waiting = pair.observer->whenBecomesReadable();
  Promise<void> later = second->whenBecomesReadable();
  const int number = pair.ours.fd();
  pair.ours.close();
  REQUIRE(!waiting.poll(scope));
  const RawPair reused = rawSocketpair(); // with its number
  REQUIRE((reused.out.get() == number || reused.in.get() == number));
  const ObserverPtr third = newFdObserver(io, number, Ownership::BORROW);
  Promise<void> other = third->whenBecomesReadable();
  pair.peer.send("y");
  std::move(waiting).wait(scope);
  std::move(later).wait(scope);
  CHECK(!other.poll(scope));
}

TEST_CASE_FIXTURE(IoTest, "a descriptor that is taken is closed with its observer, and with one that cannot be made") {
  RawPair pair = rawSocketpair();
  const int number = pair.out.get();
  ObserverPtr observer = newFdObserver(io, number, Ownership::TAKE);
  CHECK(observer->descriptor() == pair.out.release());
  CHECK(isNonBlocking(number));
  CHECK(isClosedOnExec(number));
  observer.reset();
  CHECK(!isOpen(number));

  OwnedDescriptor directory(open("/", O_RDONLY | O_CLOEXEC));
  const int taken = directory.get();
  thrownBy([&] { newFdObserver(io, taken, Ownership::TAKE); });
  CHECK(isOpen(taken)); // still the caller's
  thrownBy([&] { newFdObserver(io, std::move(directory)); });
  CHECK(!isOpen(taken));
}

TEST_CASE_FIXTURE(IoTest, "what cannot be observed is refused with its number and the reason") {
  const TemporaryDirectory folder;
  const std::string name = folder.inside("file");
  std::ofstream(name) << "text";
  const OwnedDescriptor file(open(name.c_str(), O_RDONLY | O_CLOEXEC));
  const OwnedDescriptor null(open("/dev/null", O_RDWR | O_CLOEXEC));
  const std::size_t before = openDescriptors();
  const auto refusal = [&](int descriptor, Ownership ownership) {
    const Exception e = thrownBy([&] { newFdObserver(io, descriptor, ownership); });
    CHECK((e.kind() == Exception::Kind::FAILED));
    CHECK(madeIn(e, "fd_observer_test.cc"));
    CHECK(contains(e.description(), "newFdObserver: descriptor " + std::to_string(descriptor)));
    CHECK(openDescriptors() == before);
    return std::string(e.description());
  };
  for (const Ownership ownership : {Ownership::TAKE, Ownership::BORROW}) {
    CHECK(contains(refusal(file.get(), ownership), "is always ready"));
    CHECK(contains(refusal(null.get(), ownership), "is always ready"));
    CHECK(contains(refusal(-1, ownership), "EBADF"));
    CHECK(contains(refusal(1'000'000, ownership), "EBADF"));
  }
}

TEST_CASE_FIXTURE(IoTest, "a descriptor that a stream works on is not taken, and no descriptor to spare is an overload") {
  Pair pair = newPair(io);
  Promise<Chunk> read = pair.stream->tryReadChunk();
  const int descriptor = *pair.stream->descriptor();
  CHECK(contains(thrownBy([&] { newFdObserver(io, descriptor, Ownership::TAKE); }).description(), "is watched"));
  {
    const DescriptorLimit limit;
    const Exception e = thrownBy([&] { newFdObserver(io, descriptor, Ownership::BORROW); });
    CHECK((e.kind() == Exception::Kind::OVERLOADED));
  }
  pair.peer.send("x");
  CHECK(std::move(read).wait(scope).text() == "x");
}

TEST_CASE_FIXTURE(IoTest, "an observer belongs to its thread") {
  Observed pair(*this);
  std::thread([&] {
    const AsyncIoContext other = setupAsyncIo();
    CHECK(contains(thrownBy([&] { (void)pair.observer->whenBecomesReadable(); }).description(), "another thread"));
    const Exception e = thrownBy([&] { (void)newFdObserver(io, pair.ours.fd(), Ownership::BORROW); });
    CHECK(contains(e.description(), "another thread"));
    CHECK(madeIn(e, "fd_observer_test.cc"));
  }).join();
}

TEST_CASE("an observer keeps a host's loop alive while somebody waits, and no longer") {
  const NothingLeft nothingLeft;
  uv_loop_t loop;
  REQUIRE(uv_loop_init(&loop) == 0);
  {
    HostedAsyncIoContext hosted = setupAsyncIo(&loop);
    RawPair pair = rawSocketpair();
    ObserverPtr observer = newFdObserver(hosted, std::move(pair.out));
    CHECK(uv_run(&loop, UV_RUN_DEFAULT) == 0);
    bool woken = false;
    {
      const Promise<void> cancelled = observer->whenBecomesReadable();
      CHECK(uv_run(&loop, UV_RUN_NOWAIT) != 0);
    }
    CHECK(uv_run(&loop, UV_RUN_DEFAULT) == 0);
    Promise<void> wait = observer->whenBecomesReadable().then([&] {
      char byte; // nothing is left that could wake anybody
      woken = ::read(observer->descriptor(), &byte, 1) == 1;
    }).eagerlyEvaluate(nullptr);
    CHECK(uv_run(&loop, UV_RUN_NOWAIT) != 0);
    REQUIRE(::write(pair.in.get(), "x", 1) == 1);
    CHECK(uv_run(&loop, UV_RUN_DEFAULT) == 0);
    CHECK(woken);
    wait = observer->whenBecomesReadable();
    observer.reset();
    CHECK(uv_run(&loop, UV_RUN_DEFAULT) == 0);
  }
  CHECK(uv_run(&loop, UV_RUN_DEFAULT) == 0);
  CHECK(uv_loop_close(&loop) == 0);
}

TEST_CASE("an observer whose handle the host has closed fails those who ask, and goes") {
  const NothingLeft nothingLeft;
  uv_loop_t loop;
  REQUIRE(uv_loop_init(&loop) == 0);
  {
    HostedAsyncIoContext hosted = setupAsyncIo(&loop);
    RawPair pair = rawSocketpair();
    const ObserverPtr observer = newFdObserver(hosted, std::move(pair.out));
    const Promise<void> waits = observer->whenBecomesReadable();
    uv_walk(&loop, [](uv_handle_t* handle, void*) { uv_close(handle, nullptr); }, nullptr);
    const Promise<void> before = observer->whenBecomesWritable();
    CHECK(uv_run(&loop, UV_RUN_DEFAULT) == 0);
    const Promise<void> after = observer->whenHungUp();
  }
  CHECK(uv_run(&loop, UV_RUN_DEFAULT) == 0);
  CHECK(uv_loop_close(&loop) == 0);
}

TEST_CASE("waiting for a descriptor can be cancelled at every step (R5)") {
  const auto body = [](IoTest& test) -> Promise<void> {
    Observed pair(test);
    Promise<void> readable = pair.observer->whenBecomesReadable();
    Promise<void> gone = pair.observer->whenHungUp();
    co_await pair.observer->whenBecomesWritable();
    pair.peer.send("x");
    co_await std::move(readable);
    Promise<void> again = pair.observer->whenBecomesReadable();
    pair.peer.close();
    co_await std::move(gone);
    co_await std::move(again);
    Waits all = waitForAll(*pair.observer);
    co_await std::move(all[1]);
    co_await std::move(all[0]);
  };
  CHECK(cancelSweep(std::function<Promise<void>(IoTest&)>(body)) > 3);
}
