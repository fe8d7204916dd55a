// SPDX-License-Identifier: MIT
// Tests of the options of listening and of TCP connections, and of sockets that were bound by somebody else.
#include "../io/raw_descriptors.h"
#include "../io/temporary_directory.h"
#include "loopback.h"

#include <troth/net/socket_address.h>
#include <troth/runtime/defer.h>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <fstream>
#include <limits>
#include <string>
#include <vector>

using namespace troth;
using namespace troth::test;
using namespace std::chrono_literals;

namespace {

using ReceiverPtr = std::unique_ptr<ConnectionReceiver>;
using StreamPtr = std::unique_ptr<AsyncIoStream>;

int option(int descriptor, int level, int name) {
  int value = -1;
  socklen_t size = sizeof value;
  REQUIRE(getsockopt(descriptor, level, name, &value, &size) == 0);
  return value;
}
int option(const AsyncIoStream& stream, int level, int name) { return option(*stream.descriptor(), level, name); }

/// As Linux tells it of a listening socket (tcp_get_info).
unsigned backlogOf(const ConnectionReceiver& receiver) {
  tcp_info info{};
  socklen_t size = sizeof info;
  REQUIRE(getsockopt(receiver.descriptor().value(), IPPROTO_TCP, TCP_INFO, &info, &size) == 0);
  return info.tcpi_sacked;
}

std::string withPort(std::string_view host, const ConnectionReceiver& receiver) {
  return std::string(host) + ":" + std::to_string(receiver.getPort());
}

/// A socket that is bound, not yet listening.
OwnedDescriptor boundSocket(int type = SOCK_STREAM) {
  OwnedDescriptor socket(::socket(AF_INET, type | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  REQUIRE(bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
  return socket;
}

void talkOver(IoTest& test, ConnectionReceiver& receiver) {
  Promise<StreamPtr> accepted = receiver.accept();
  const StreamPtr client = parse(test, receiver.toString())->connect().wait(test.scope);
  const StreamPtr server = std::move(accepted).wait(test.scope);
  client->write("hello").wait(test.scope);
  CHECK(server->tryReadChunk().wait(test.scope).text() == "hello");
}

std::atomic<bool> hasIpv6 = true;

} // namespace

/// The system's, on a machine that may have no IPv6.
extern "C" int socket(int domain, int type, int protocol) noexcept {
  if (domain != AF_INET6 || hasIpv6) return static_cast<int>(syscall(SYS_socket, domain, type, protocol));
  errno = EAFNOSUPPORT;
  return -1;
}

// ------------------------------------------------------------------------------------------- options

TEST_CASE_FIXTURE(IoTest, "the backlog is what was asked for, as far as the system allows it") {
  unsigned most = 0;
  std::ifstream("/proc/sys/net/core/somaxconn") >> most;
  for (const int backlog : {1, 7, 511, 1'000'000}) {
    CAPTURE(backlog);
    CHECK(backlogOf(*parse(*this, "127.0.0.1:0")->listen({.backlog = backlog})) == std::min(static_cast<unsigned>(backlog), most));
  }
  CHECK(backlogOf(*listenOn(*this)) == std::min(511U, most));
}

TEST_CASE_FIXTURE(IoTest, "the backlog is the same after a pause without descriptors (A1)") {
  const ReceiverPtr receiver = parse(*this, "127.0.0.1:0")->listen({.backlog = 9});
  Promise<StreamPtr> accept = receiver->accept();
  const Peer client = connectTo(receiver->getPort());
  {
    const DescriptorLimit limit = DescriptorLimit::none();
    REQUIRE(!accept.poll(scope));
    CHECK(activeHandles(*this, "timer") == 1);
  }
  CHECK(std::move(accept).wait(scope) != nullptr);
  CHECK(backlogOf(*receiver) == 9);
}

TEST_CASE_FIXTURE(IoTest, "a backlog in which nobody can wait is refused of a socket that is taken over, too") {
  const Exception e = thrownBy([&] { newNetwork(io)->adoptListener(boundSocket(), {.backlog = 0}); });
  CHECK((e.kind() == Exception::Kind::FAILED));
  CHECK(contains(e.description(), "the backlog is 0"));
}

TEST_CASE_FIXTURE(IoTest, "receivers with reusePort share the connections of one port") {
  const ReceiverPtr first = parse(*this, "127.0.0.1:0")->listen({.reusePort = true});
  const auto address = parse(*this, first->toString());
  const ReceiverPtr second = address->listen({.reusePort = true});
  CHECK(second->getPort() == first->getPort());
  int accepted[2] = {0, 0};
  std::vector<Peer> clients;
  // The kernel decides by a hash: that all go to one has the probability of 1 : 2^63.
  for (int i = 0; i < 64; ++i) clients.push_back(connectTo(first->getPort()));
  while (accepted[0] + accepted[1] < 64)
    first->accept().then([&](StreamPtr) { ++accepted[0]; })
        .exclusiveJoin(second->accept().then([&](StreamPtr) { ++accepted[1]; }))
        .wait(scope);
  CHECK(accepted[0] > 0);
  CHECK(accepted[1] > 0);
}

TEST_CASE_FIXTURE(IoTest, "a port is shared only if both ask for it") {
  for (const bool firstAsks : {false, true}) {
    CAPTURE(firstAsks);
    const ReceiverPtr first = parse(*this, "127.0.0.1:0")->listen({.reusePort = firstAsks});
    const auto address = parse(*this, first->toString());
    const Exception e = thrownBy([&] { address->listen({.reusePort = !firstAsks}); });
    CHECK((e.kind() == Exception::Kind::FAILED));
    CHECK((e.code() == std::errc::address_in_use));
    CHECK(contains(e.description(), "cannot listen on " + first->toString()));
  }
}

TEST_CASE_FIXTURE(IoTest, "a Unix socket has no port to share, and leaves no file") {
  const TemporaryDirectory directory;
  const auto address = parse(*this, "unix:" + directory.inside("socket"));
  const Exception e = thrownBy([&] { address->listen({.reusePort = true}); });
  CHECK((e.kind() == Exception::Kind::UNIMPLEMENTED));
  CHECK(contains(e.description(), directory.inside("socket")));
  CHECK(madeIn(e, "listen_options_test.cc"));
  CHECK(directory.count() == 0);
}

TEST_CASE_FIXTURE(IoTest, "an IPv6 socket takes IPv4 connections too, unless it is IPv6 only") {
  for (const std::string_view text : {"*:0", "[::]:0"}) {
    CAPTURE(text);
    const ReceiverPtr both = parse(*this, text)->listen();
    CHECK(parse(*this, withPort("127.0.0.1", *both))->connect().wait(scope) != nullptr);
    const auto sameIpv4 = parse(*this, withPort("0.0.0.0", *both));
    CHECK((thrownBy([&] { sameIpv4->listen(); }).code() == std::errc::address_in_use));

    ReceiverPtr one, other;
    for (int tries = 0; other == nullptr; ++tries) {
      one = parse(*this, text)->listen({.ipv6Only = true});
      const auto ipv4 = parse(*this, withPort("0.0.0.0", *one));
      try {
        other = ipv4->listen({.ipv6Only = true}); // no matter there
      } catch (const Exception&) {
        REQUIRE(tries < 20); // the port is somebody else's there
      }
    }
    CHECK(other->getPort() == one->getPort());
    other.reset();
    CHECK(parse(*this, withPort("[::1]", *one))->connect().wait(scope) != nullptr);
    CHECK((failureOf(parse(*this, withPort("127.0.0.1", *one))->connect(), scope).kind() == Exception::Kind::DISCONNECTED));
  }
}

TEST_CASE_FIXTURE(IoTest, "without IPv6 \"*\" is IPv4, but not if it is to be IPv6 only") {
  const auto address = parse(*this, "*:0");
  hasIpv6 = false;
  TROTH_DEFER { hasIpv6 = true; };
  CHECK(address->listen()->toString().starts_with("0.0.0.0:"));
  const Exception e = thrownBy([&] { address->listen({.ipv6Only = true}); });
  CHECK((e.code() == std::errc::address_family_not_supported));
}

TEST_CASE_FIXTURE(IoTest, "connections have the options that were asked for, on both sides") {
  const ReceiverPtr receiver = parse(*this, "127.0.0.1:0")->listen({.tcp = {.noDelay = false, .keepAlive = 90s}});
  Promise<StreamPtr> accepted = receiver->accept();
  const StreamPtr client = parse(*this, receiver->toString())->connect({.tcp = {.keepAlive = 1500ms}}).wait(scope);
  const StreamPtr server = std::move(accepted).wait(scope);
  CHECK(option(*server, IPPROTO_TCP, TCP_NODELAY) == 0);
  CHECK(option(*server, SOL_SOCKET, SO_KEEPALIVE) == 1);
  CHECK(option(*server, IPPROTO_TCP, TCP_KEEPIDLE) == 90);
  CHECK(option(*client, IPPROTO_TCP, TCP_NODELAY) == 1);
  CHECK(option(*client, SOL_SOCKET, SO_KEEPALIVE) == 1);
  CHECK(option(*client, IPPROTO_TCP, TCP_KEEPIDLE) == 2);
}

TEST_CASE_FIXTURE(IoTest, "keep-alive is off unless asked for, and bounded by what the system takes") {
  StreamPair pair = connectedPair(*this);
  CHECK(option(*pair.left, SOL_SOCKET, SO_KEEPALIVE) == 0);
  CHECK(option(*pair.right, SOL_SOCKET, SO_KEEPALIVE) == 0);
  const ReceiverPtr receiver = listenOn(*this);
  const StreamPtr client = parse(*this, receiver->toString())->connect({.tcp = {.keepAlive = Duration::max()}}).wait(scope);
  CHECK(option(*client, SOL_SOCKET, SO_KEEPALIVE) == 1);
  CHECK(option(*client, IPPROTO_TCP, TCP_KEEPIDLE) == 32767);
}

// --------------------------------------------------------------------------- sockets that are bound already

TEST_CASE_FIXTURE(IoTest, "a socket that somebody else has bound is listened on, and closed with the receiver") {
  for (const bool listensAlready : {false, true}) {
    CAPTURE(listensAlready);
    OwnedDescriptor socket = boundSocket();
    const int number = socket.get();
    if (listensAlready) REQUIRE(listen(number, 5) == 0);
    ReceiverPtr receiver = newNetwork(io)->adoptListener(std::move(socket), {.backlog = 9});
    CHECK(receiver->getPort() != 0);
    CHECK(backlogOf(*receiver) == 9);
    CHECK(isNonBlocking(number));
    talkOver(*this, *receiver);
    const auto address = parse(*this, receiver->toString());
    receiver.reset();
    CHECK((failureOf(address->connect(), scope).kind() == Exception::Kind::DISCONNECTED));
  }
}

TEST_CASE_FIXTURE(IoTest, "a socket that comes as standard input is closed with the receiver, too") {
  const Standard input(STDIN_FILENO, boundSocket().get());
  ReceiverPtr receiver = newNetwork(io)->adoptListener(OwnedDescriptor(STDIN_FILENO));
  CHECK(rawPipe().out.get() > STDERR_FILENO); // nothing else gets the number
  talkOver(*this, *receiver);
  const auto address = parse(*this, receiver->toString());
  receiver.reset();
  CHECK((failureOf(address->connect(), scope).kind() == Exception::Kind::DISCONNECTED));
}

TEST_CASE_FIXTURE(IoTest, "a socket that is taken over is closed on exec") {
  OwnedDescriptor socket = boundSocket();
  const int number = socket.get();
  REQUIRE(fcntl(number, F_SETFD, 0) == 0);
  const ReceiverPtr receiver = newNetwork(io)->adoptListener(std::move(socket));
  CHECK(isClosedOnExec(number));
  CHECK(isClosedOnExec(receiver->descriptor().value()));
}

TEST_CASE_FIXTURE(IoTest, "what a socket that is taken over is set to does not count against noDelay") {
  OwnedDescriptor socket = boundSocket();
  const int on = 1;
  REQUIRE(setsockopt(socket.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) == 0);
  const ReceiverPtr receiver = newNetwork(io)->adoptListener(std::move(socket), {.tcp = {.noDelay = false}});
  const Peer client = connectTo(receiver->getPort());
  CHECK(option(*receiver->accept().wait(scope), IPPROTO_TCP, TCP_NODELAY) == 0);
}

TEST_CASE_FIXTURE(IoTest, "of a Unix socket that is taken over the file stays") {
  const TemporaryDirectory directory;
  OwnedDescriptor socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const SocketAddress path = SocketAddress::unixPath(directory.inside("socket"));
  REQUIRE(bind(socket.get(), path.get(), path.size()) == 0);
  ReceiverPtr receiver = newNetwork(io)->adoptListener(std::move(socket));
  CHECK(receiver->toString() == path.toString());
  talkOver(*this, *receiver);
  receiver.reset();
  CHECK(directory.count() == 1);
}

TEST_CASE_FIXTURE(IoTest, "the rules for peers hold for a socket that is taken over") {
  const auto denying = newNetwork(io)->restrictPeers({"10.0.0.0/8"});
  const ReceiverPtr receiver = denying->adoptListener(boundSocket());
  Promise<StreamPtr> accept = receiver->accept();
  Peer client = connectTo(receiver->getPort());
  for (int i = 0; i < 20; ++i) CHECK(!accept.poll(scope));
  CHECK(client.isClosed());
  const auto unixes = newNetwork(io)->restrictPeers({"unix"});
  CHECK((thrownBy([&] { unixes->adoptListener(boundSocket()); }).code() == std::errc::permission_denied));
}

TEST_CASE_FIXTURE(IoTest, "what nobody can listen on is refused by its number, and closed") {
  const auto network = newNetwork(io);
  RawPair pipe = rawPipe();
  const int number = pipe.out.get();
  const Exception e = thrownBy([&] { network->adoptListener(std::move(pipe.out)); });
  CHECK((e.kind() == Exception::Kind::FAILED));
  CHECK(contains(e.description(), "descriptor " + std::to_string(number) + " "));
  CHECK(madeIn(e, "listen_options_test.cc"));
  CHECK(!isOpen(number));

  OwnedDescriptor datagrams = boundSocket(SOCK_DGRAM);
  CHECK((thrownBy([&] { network->adoptListener(std::move(datagrams)); }).kind() == Exception::Kind::FAILED));
  RawPair connected = rawSocketpair();
  CHECK((thrownBy([&] { network->adoptListener(std::move(connected.in)); }).kind() == Exception::Kind::FAILED));
  const Pair tcp = newTcpPair(io);
  OwnedDescriptor connection(dup(tcp.peer.fd()));
  CHECK((thrownBy([&] { network->adoptListener(std::move(connection)); }).kind() == Exception::Kind::FAILED));
  for (const int family : {AF_INET, AF_INET6, AF_UNIX}) { // the system would choose a port, and listen on all addresses
    const Exception unbound = thrownBy([&] { network->adoptListener(OwnedDescriptor(::socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0))); });
    CHECK((unbound.kind() == Exception::Kind::FAILED));
    CHECK(contains(unbound.description(), "is not bound"));
    CHECK(madeIn(unbound, "listen_options_test.cc"));
  }
  CHECK((thrownBy([&] { network->adoptListener(OwnedDescriptor(987'654)); }).kind() == Exception::Kind::FAILED));
  CHECK((thrownBy([&] { network->adoptListener(OwnedDescriptor()); }).kind() == Exception::Kind::FAILED));
}
