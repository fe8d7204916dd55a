// SPDX-License-Identifier: MIT
// Tests of accepting connections from the system: what is taken ahead, and life without descriptors. What holds for all
// receivers is in network_contract_test.cc.
#include "loopback.h"

#include <troth/runtime/uv/uv_event_port.h>

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <optional>
#include <set>
#include <string>
#include <vector>

using namespace troth;
using namespace troth::test;

namespace {

using StreamPtr = std::unique_ptr<AsyncIoStream>;

/// The first byte that came over a connection: which client it is.
char nameOf(AsyncIoStream& stream, WaitScope& scope) {
  std::byte name;
  stream.read(std::span(&name, 1)).wait(scope);
  return static_cast<char>(name);
}

Peer namedClient(std::uint16_t port, char name) {
  Peer peer = connectTo(port);
  peer.send(std::string_view(&name, 1));
  return peer;
}

} // namespace

TEST_CASE_FIXTURE(IoTest, "64 connections at once, more than are taken ahead, are all accepted in order") {
  const auto receiver = listenOn(*this);
  std::vector<Peer> clients;
  for (char i = 0; i < 64; ++i) clients.push_back(namedClient(receiver->getPort(), i));
  scope.poll(); // what is taken ahead of demand is taken
  CHECK(sleeps(*this));
  for (char i = 0; i < 64; ++i) {
    const StreamPtr stream = receiver->accept().wait(scope);
    CHECK(nameOf(*stream, scope) == i);
  }
  Promise<StreamPtr> accept = receiver->accept();
  CHECK(!accept.poll(scope));
  clients.push_back(namedClient(receiver->getPort(), 'z'));
  CHECK(nameOf(*std::move(accept).wait(scope), scope) == 'z');
}

TEST_CASE_FIXTURE(IoTest, "no more than 33 connections are taken from the system ahead of demand") {
  const auto receiver = listenOn(*this);
  const std::size_t before = openDescriptors();
  std::vector<Peer> clients;
  for (char i = 0; i < 64; ++i) clients.push_back(connectTo(receiver->getPort()));
  for (int i = 0; i < 100; ++i) scope.poll();
  const std::size_t ahead = openDescriptors() - before - clients.size();
  CHECK(ahead <= 33);
  CHECK(ahead > 0);
}

TEST_CASE_FIXTURE(IoTest, "connections that nobody has accepted are closed with the receiver") {
  auto receiver = listenOn(*this);
  std::vector<Peer> clients;
  for (int i = 0; i < 40; ++i) clients.push_back(connectTo(receiver->getPort())); // taken ahead, with libuv, in the kernel
  scope.poll();
  receiver.reset();
  scope.poll();
  for (Peer& client : clients) CHECK(client.isClosed());
}

TEST_CASE_FIXTURE(IoTest, "a client that has gone before it was accepted does not disturb the next (A2)") {
  const auto receiver = listenOn(*this);
  Peer gone = namedClient(receiver->getPort(), 'x');
  gone.reset();
  const Peer client = namedClient(receiver->getPort(), 'a');
  // The system may or may not hand the dead connection out.
  for (int i = 0; i < 2; ++i) {
    const StreamPtr stream = receiver->accept().wait(scope);
    std::string name(1, '.');
    try {
      if (stream->tryRead(bufferOf(name)).wait(scope) == 1 && name == "a") return;
    } catch (const Exception& e) {
      CHECK((e.kind() == Exception::Kind::DISCONNECTED));
    }
  }
  FAIL("the living client was not accepted");
}

TEST_CASE_FIXTURE(IoTest, "TCP_NODELAY is set on both sides, and no descriptor is inherited (R15)") {
  const auto receiver = listenOn(*this);
  Promise<StreamPtr> accept = receiver->accept();
  const StreamPtr client = parse(*this, receiver->toString())->connect().wait(scope);
  const StreamPtr server = std::move(accept).wait(scope);
  struct Found {
    int connections = 0;
    int withoutDelay = 0;
    int inherited = 0;
  } found;
  uv_walk(
      io.uvEventPort().uvLoop(),
      [](uv_handle_t* handle, void* data) {
        auto& result = *static_cast<Found*>(data);
        uv_os_fd_t fd;
        if (uv_is_closing(handle) != 0 || uv_fileno(handle, &fd) != 0) return;
        if ((fcntl(fd, F_GETFD) & FD_CLOEXEC) == 0) ++result.inherited;
        int listening = 0;
        int on = 0;
        socklen_t size = sizeof listening;
        if (handle->type != UV_TCP || getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size) != 0 || listening != 0) return;
        ++result.connections;
        size = sizeof on;
        if (getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, &size) == 0 && on != 0) ++result.withoutDelay;
      },
      &found);
  CHECK(found.connections == 2);
  CHECK(found.withoutDelay == 2);
  CHECK(found.inherited == 0);
}

// --------------------------------------------------------------------------- without descriptors (A1)

TEST_CASE_FIXTURE(IoTest, "without a single descriptor accepting pauses without a busy loop and then goes on, the client kept (A1)") {
  const auto receiver = listenOn(*this);
  Promise<StreamPtr> accept = receiver->accept();
  REQUIRE(!accept.poll(scope));
  const Peer client = namedClient(receiver->getPort(), 'a');
  {
    DescriptorLimit limit = DescriptorLimit::none();
    for (int i = 0; i < 20; ++i) REQUIRE(!accept.poll(scope));
    CHECK(activeHandles(*this, "tcp") == 0); // nobody watches the socket: the loop sleeps until the pause is over
    CHECK(activeHandles(*this, "timer") == 1);
  }
  CHECK(nameOf(*std::move(accept).wait(scope), scope) == 'a');
}

TEST_CASE_FIXTURE(IoTest, "a pause that ends without descriptors is followed by another (A1)") {
  const auto receiver = listenOn(*this);
  Promise<StreamPtr> accept = receiver->accept();
  REQUIRE(!accept.poll(scope));
  const Peer client = namedClient(receiver->getPort(), 'a');
  {
    DescriptorLimit limit = DescriptorLimit::none();
    REQUIRE(!accept.poll(scope));
    for (int pauses = 0; pauses < 3; ++pauses) {
      io.uvEventPort().wait(); // until libuv has something to report: the end of the pause
      REQUIRE(!accept.poll(scope));
      CHECK(activeHandles(*this, "timer") == 1);
      CHECK(activeHandles(*this, "tcp") == 0);
    }
  }
  CHECK(nameOf(*std::move(accept).wait(scope), scope) == 'a');
}

TEST_CASE_FIXTURE(IoTest, "at the limit of descriptors clients may be turned away, but accepting goes on afterwards (A1)") {
  const auto receiver = listenOn(*this);
  Promise<StreamPtr> accept = receiver->accept();
  REQUIRE(!accept.poll(scope));
  Peer first = connectTo(receiver->getPort());
  {
    DescriptorLimit limit(0);
    for (int i = 0; i < 20; ++i) REQUIRE(!accept.poll(scope));
    CHECK(sleeps(*this));
  }
  first.close();
  const Peer client = namedClient(receiver->getPort(), 'a');
  for (;;) {
    const StreamPtr stream = std::move(accept).wait(scope);
    std::string name(1, '.');
    if (stream->tryRead(bufferOf(name)).wait(scope) == 1) {
      CHECK(name == "a");
      break;
    }
    accept = receiver->accept(); // the first one, which had been kept
  }
}

TEST_CASE_FIXTURE(IoTest, "a receiver may be destroyed during its pause (A1, R13)") {
  auto receiver = listenOn(*this);
  Promise<StreamPtr> accept = receiver->accept();
  REQUIRE(!accept.poll(scope));
  Peer client = connectTo(receiver->getPort());
  {
    DescriptorLimit limit = DescriptorLimit::none();
    REQUIRE(!accept.poll(scope));
    receiver.reset();
    CHECK((failureOf(std::move(accept), scope).kind() == Exception::Kind::DISCONNECTED));
  }
  CHECK(client.isClosed());
}

TEST_CASE_FIXTURE(IoTest, "an accept may be cancelled and asked for again during a pause (A1, R5)") {
  const auto receiver = listenOn(*this);
  std::optional<Promise<StreamPtr>> accept(receiver->accept());
  REQUIRE(!accept->poll(scope));
  const Peer client = namedClient(receiver->getPort(), 'a');
  {
    DescriptorLimit limit = DescriptorLimit::none();
    REQUIRE(!accept->poll(scope));
    accept.reset();
    accept.emplace(receiver->accept());
    REQUIRE(!accept->poll(scope));
  }
  CHECK(nameOf(*std::move(*accept).wait(scope), scope) == 'a');
}

TEST_CASE_FIXTURE(IoTest, "listening and connecting without descriptors are OVERLOADED, and leave nothing") {
  const auto address = parse(*this, "127.0.0.1:0");
  const auto receiver = listenOn(*this);
  const auto other = parse(*this, receiver->toString());
  for (std::size_t spare = 0; spare < 2; ++spare) {
    CAPTURE(spare);
    DescriptorLimit limit(spare);
    std::optional<Exception> listening;
    try {
      const auto second = address->listen();
    } catch (const Exception& e) {
      listening = e;
    }
    scope.poll();
    REQUIRE(listening.has_value());
    CHECK((listening->kind() == Exception::Kind::OVERLOADED));
    CHECK(contains(listening->description(), "127.0.0.1:0"));
    CHECK(madeIn(*listening, "uv_listener_test.cc"));
    if (spare == 0) {
      const Exception connecting = failureOf(other->connect(), scope);
      CHECK((connecting.kind() == Exception::Kind::OVERLOADED));
      CHECK(contains(connecting.description(), receiver->toString()));
    }
  }
}
