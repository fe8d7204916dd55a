// SPDX-License-Identifier: MIT
// Tests of DatagramSocket: what arrives, what is refused, what waits, and that cancelling loses no datagram.
#include "../runtime/helpers.h"
#include "loopback.h"

#include <troth/net/datagram.h>
#include <troth/net/network.h>
#include <troth/runtime/join.h>
#include <troth/runtime/uv/uv_event_port.h>
#include <troth/timers/timer.h>

#include <dlfcn.h>
#include <netinet/in.h>
#if defined(__linux__)
#include <sys/epoll.h>
#endif
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

using namespace troth;
using namespace troth::test;
using namespace std::chrono_literals;

namespace {
int failNextSend = 0; // an errno
int failNextWatch = 0;
} // namespace

// In the place of the C library's: what a kernel does only in an emergency.
extern "C" ssize_t sendmsg(int socket, const msghdr* message, int flags) {
  static const auto real = reinterpret_cast<ssize_t (*)(int, const msghdr*, int)>(dlsym(RTLD_NEXT, "sendmsg"));
  if (failNextSend == 0) return real(socket, message, flags);
  errno = std::exchange(failNextSend, 0);
  return -1;
}

#if defined(__linux__)
extern "C" int epoll_ctl(int epoll, int operation, int descriptor, epoll_event* event) noexcept {
  static const auto real = reinterpret_cast<int (*)(int, int, int, epoll_event*)>(dlsym(RTLD_NEXT, "epoll_ctl"));
  if (failNextWatch == 0) return real(epoll, operation, descriptor, event);
  errno = std::exchange(failNextWatch, 0);
  return -1;
}
#endif

namespace {

using SocketPtr = std::unique_ptr<DatagramSocket>;

SocketPtr bindTo(IoTest& test, std::string_view text = "127.0.0.1:0", DatagramOptions options = {}) {
  return parse(test, text)->bindDatagram(std::move(options));
}

/// A socket that is connected to `peer`.
SocketPtr connectedTo(IoTest& test, const DatagramSocket& peer) {
  return parse(test, peer.localAddress().toString())->connectDatagram();
}

/// A port of 127.0.0.1 at which nobody receives: it was free a moment ago.
std::string unusedAddress(IoTest& test) { return bindTo(test)->localAddress().toString(); }

std::span<const std::byte> bytesOf(std::string_view text) { return std::as_bytes(std::span(text)); }

/// The text of the next datagram.
std::string receiveText(IoTest& test, DatagramSocket& socket) {
  return std::string(socket.receive().wait(test.scope).bytes.text());
}

/// Turns of the loop in which nothing may happen to `promise`.
template <typename T>
bool staysPending(IoTest& test, Promise<T>& promise) {
  for (int i = 0; i < 10; ++i)
    if (promise.poll(test.scope)) return false;
  return true;
}

int optionOf(const DatagramSocket& socket, int level, int name) {
  int value = 0;
  socklen_t size = sizeof value;
  REQUIRE(getsockopt(*socket.descriptor(), level, name, &value, &size) == 0);
  return value;
}

void require(bool condition, const char* what) {
  if (!condition) throw Exception(Exception::Kind::FAILED, what);
}

/// A connected socket whose kernel queue is full when ten datagrams or so are in it, unlike that of UDP on the loopback:
/// a pair of Unix sockets, of which one takes the place of the UDP socket.
struct FullSocket {
  SocketPtr receiver;
  SocketPtr socket;
  Peer peer;
  std::size_t sent = 0;

  explicit FullSocket(IoTest& test) : receiver(bindTo(test)), socket(connectedTo(test, *receiver)) {
    int pair[2];
    REQUIRE(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) == 0);
    REQUIRE(dup2(pair[0], *socket->descriptor()) >= 0);
    ::close(pair[0]);
    peer = Peer(pair[1]);
  }

  /// Sends until the next would have to wait.
  void fill(IoTest& test) {
    for (;;) {
      Promise<void> send = socket->send(std::to_string(sent));
      if (!send.poll(test.scope)) break;
      std::move(send).wait(test.scope);
      ++sent;
    }
    REQUIRE(sent > 0);
  }
  /// Takes the datagrams that `fill` has sent out of the kernel.
  void empty() {
    for (std::size_t i = 0; i < sent; ++i) CHECK(peer.receiveSome() == std::to_string(i));
    sent = 0;
  }
};

} // namespace

// --------------------------------------------------------------------------------- sending, receiving

TEST_CASE_FIXTURE(IoTest, "a datagram arrives whole, with the address of its sender, who can be answered") {
  const SocketPtr server = bindTo(*this);
  const SocketPtr client = bindTo(*this);
  Promise<void> sent = client->send("question", server->localAddress());
  CHECK(sent.poll(scope));
  const Datagram question = server->receive().wait(scope);
  CHECK(question.bytes.text() == "question");
  CHECK(question.source == client->localAddress());
  CHECK(!question.truncated);
  server->send("answer", question.source).wait(scope);
  CHECK(receiveText(*this, *client) == "answer");
}

TEST_CASE_FIXTURE(IoTest, "a receive waits until a datagram comes, never inside its call") {
  const SocketPtr server = bindTo(*this);
  const SocketPtr client = connectedTo(*this, *server);
  Promise<Datagram> receive = server->receive();
  CHECK(takeAfter(receive, scope, [&] { client->send("now").wait(scope); }).bytes.text() == "now");
}

TEST_CASE_FIXTURE(IoTest, "datagrams are received in the caller's own memory, and the rest of it is not touched") {
  const SocketPtr server = bindTo(*this);
  const SocketPtr client = connectedTo(*this, *server);
  std::string buffer(16, '.');
  for (const std::string_view text : {"first", "the second", "3"}) client->send(text).wait(scope);
  for (const std::string_view text : {"first", "the second", "3"}) {
    buffer.assign(16, '.');
    const ReceivedDatagram received = server->receive(bufferOf(buffer)).wait(scope);
    CHECK(received.size == text.size());
    CHECK(received.source == client->localAddress());
    CHECK(!received.truncated);
    CHECK(buffer == std::string(text) + std::string(16 - text.size(), '.'));
  }
}

TEST_CASE_FIXTURE(IoTest, "a datagram of no bytes is a datagram, and no end (S7)") {
  const SocketPtr server = bindTo(*this);
  const SocketPtr client = connectedTo(*this, *server);
  std::string buffer(4, '.');
  for (int i = 0; i < 3; ++i) client->send(std::string_view()).wait(scope);
  client->send("x").wait(scope);
  const Datagram first = server->receive().wait(scope);
  CHECK(first.bytes.empty());
  CHECK(!first.truncated);
  CHECK(first.source == client->localAddress());
  CHECK(server->receive(bufferOf(buffer)).wait(scope).size == 0);
  CHECK(!server->receive(std::span<std::byte>()).wait(scope).truncated);
  CHECK(receiveText(*this, *server) == "x");
}

TEST_CASE_FIXTURE(IoTest, "a datagram that is longer than the buffer is truncated and says so, the next one is whole (S7)") {
  const SocketPtr server = bindTo(*this);
  const SocketPtr client = connectedTo(*this, *server);
  std::string buffer(4, '.');
  // Of each pair the first is received in the kernel's order, the second has come along with it.
  for (int i = 0; i < 2; ++i) {
    for (const std::string_view text : {"longer", "four", "as long", "end"}) client->send(text).wait(scope);
    ReceivedDatagram received = server->receive(bufferOf(buffer)).wait(scope);
    CHECK(received.size == 4);
    CHECK(received.truncated);
    CHECK(buffer == "long");
    received = server->receive(bufferOf(buffer)).wait(scope);
    CHECK(!received.truncated);
    CHECK(buffer == "four");
    const Datagram datagram = server->receive(2).wait(scope);
    CHECK(datagram.bytes.text() == "as");
    CHECK(datagram.truncated);
    CHECK(datagram.source == client->localAddress());
    CHECK(receiveText(*this, *server) == "end");
  }
  client->send("x").wait(scope);
  CHECK(server->receive(std::span<std::byte>()).wait(scope).truncated);
  client->send("x").wait(scope);
  CHECK(server->receive(std::size_t(0)).wait(scope).truncated);
}

TEST_CASE_FIXTURE(IoTest, "the longest datagram of IPv4 has 65507 bytes, and one more is refused with its size") {
  const SocketPtr server = bindTo(*this, "127.0.0.1:0", {.receiveBuffer = 1 << 20});
  const SocketPtr client = bindTo(*this, "127.0.0.1:0", {.sendBuffer = 1 << 20});
  const std::string longest = numberedBytes(65507);
  std::string buffer(65507, '.');
  client->send(longest, server->localAddress()).wait(scope);
  client->send(longest, server->localAddress()).wait(scope);
  CHECK(server->receive(bufferOf(buffer)).wait(scope).size == longest.size());
  CHECK(areNumbered(buffer));
  CHECK(receiveText(*this, *server) == longest);

  const std::string longer = numberedBytes(65508);
  const Exception e = failureOf(client->send(longer, server->localAddress()), scope);
  CHECK(kindName(e) == "FAILED");
  CHECK((e.code() == std::errc::message_size));
  CHECK(contains(e.description(), "send to " + server->localAddress().toString()));
  CHECK(contains(e.description(), "a datagram of 65508 bytes is too long"));
  CHECK(madeIn(e, "datagram_test.cc"));
  client->send("goes on", server->localAddress()).wait(scope);
  CHECK(receiveText(*this, *server) == "goes on");
}

TEST_CASE_FIXTURE(IoTest, "pieces become one datagram, however many they are") {
  const SocketPtr server = bindTo(*this);
  const SocketPtr client = connectedTo(*this, *server);
  const std::array<std::span<const std::byte>, 3> three = {bytesOf("one "), bytesOf(""), bytesOf("datagram")};
  client->send(three).wait(scope);
  CHECK(receiveText(*this, *server) == "one datagram");
  const SocketPtr other = bindTo(*this);
  other->send(three, server->localAddress()).wait(scope);
  CHECK(receiveText(*this, *server) == "one datagram");

  const std::string text = numberedBytes(5000);
  std::vector<std::span<const std::byte>> many;
  for (std::size_t i = 0; i < text.size(); ++i) many.push_back(bytesOf(text).subspan(i, 1));
  client->send(many).wait(scope);
  CHECK(receiveText(*this, *server) == text);
  const std::vector<std::span<const std::byte>> tooMuch(70, bytesOf(text));
  const Exception e = failureOf(client->send(tooMuch), scope);
  CHECK((e.code() == std::errc::message_size));
  CHECK(contains(e.description(), "350000 bytes"));
  client->send(std::span<const std::span<const std::byte>>()).wait(scope);
  CHECK(server->receive().wait(scope).bytes.empty());
}

TEST_CASE_FIXTURE(IoTest, "many datagrams are sent together, in order, to several receivers") {
  const SocketPtr left = bindTo(*this);
  const SocketPtr right = bindTo(*this);
  const SocketPtr client = bindTo(*this);
  const SocketAddress toLeft = left->localAddress(), toRight = right->localAddress();
  std::vector<std::string> texts;
  for (int i = 0; i < 100; ++i) texts.push_back(std::to_string(i));
  std::vector<OutgoingDatagram> datagrams;
  for (std::size_t i = 0; i < texts.size(); ++i) datagrams.push_back({bytesOf(texts[i]), i % 2 == 0 ? &toLeft : &toRight});
  CHECK(client->sendMany(datagrams).wait(scope) == texts.size());
  for (std::size_t i = 0; i < texts.size(); ++i) CHECK(receiveText(*this, i % 2 == 0 ? *left : *right) == texts[i]);
  CHECK(client->sendMany({}).wait(scope) == 0);
}

TEST_CASE_FIXTURE(IoTest, "a batch ends at the datagram that fails, says how many were sent, and why the next time") {
  const SocketPtr server = bindTo(*this);
  const SocketPtr client = connectedTo(*this, *server);
  const std::string tooLong(70'000, '.');
  const std::array<OutgoingDatagram, 4> datagrams = {OutgoingDatagram{bytesOf("1")}, OutgoingDatagram{bytesOf("2")},
                                                     OutgoingDatagram{bytesOf(tooLong)}, OutgoingDatagram{bytesOf("4")}};
  const std::span<const OutgoingDatagram> all(datagrams);
  CHECK(client->sendMany(all).wait(scope) == 2);
  const Exception e = failureOf(client->sendMany(all.subspan(2)), scope);
  CHECK((e.code() == std::errc::message_size));
  CHECK(contains(e.description(), "a datagram of 70000 bytes"));
  CHECK(client->sendMany(all.subspan(3)).wait(scope) == 1);
  for (const char* text : {"1", "2", "4"}) CHECK(receiveText(*this, *server) == text);
}

TEST_CASE_FIXTURE(IoTest, "a very large batch is sent in parts") {
  const SocketPtr server = bindTo(*this);
  const SocketPtr client = connectedTo(*this, *server);
  const std::vector<OutgoingDatagram> datagrams(2000, OutgoingDatagram{bytesOf("x")});
  std::span<const OutgoingDatagram> rest(datagrams);
  std::size_t calls = 0;
  for (; !rest.empty(); ++calls) rest = rest.subspan(client->sendMany(rest).wait(scope));
  CHECK(calls > 1);
  CHECK(calls < 50);
}

TEST_CASE("a million datagrams for a reader that is always ready do not recurse (R4)") {
  const std::size_t total = SANITIZED ? 100'000 : 1'000'000;
  std::size_t received = 0;
  onStackOf(512 * 1024, [&] {
    IoTest test;
    const SocketPtr server = bindTo(test);
    const SocketPtr client = connectedTo(test, *server);
    const std::vector<OutgoingDatagram> batch(15, OutgoingDatagram{bytesOf("x")});
    std::string buffer(8, '.');
    // A batch is all there when the first of it is asked for: the others are ready.
    auto read = coCapture([&]() -> Promise<void> {
      while (received < total) {
        const std::size_t sent = co_await client->sendMany(batch);
        for (std::size_t i = 0; i < sent; ++i) received += (co_await server->receive(bufferOf(buffer))).size;
      }
    });
    read().wait(test.scope);
  });
  CHECK(received >= total);
}

// --------------------------------------------------------------------------------- one at a time, misuse

TEST_CASE_FIXTURE(IoTest, "a second receive is refused until the first one's result is taken") {
  const SocketPtr server = bindTo(*this);
  const SocketPtr client = connectedTo(*this, *server);
  std::string buffer(8, '.');
  Promise<Datagram> first = server->receive();
  for (const Exception& e : {thrownBy([&] { (void)server->receive(); }),
                             thrownBy([&] { (void)server->receive(bufferOf(buffer)); })}) {
    CHECK(kindName(e) == "FAILED");
    CHECK(contains(e.description(), "receive: another receive on this socket is pending"));
    CHECK(madeIn(e, "datagram_test.cc"));
  }
  client->send("one").wait(scope);
  client->send("two").wait(scope);
  while (!first.poll(scope)) {}
  CHECK(kindName(thrownBy([&] { (void)server->receive(); })) == "FAILED");
  CHECK(std::move(first).wait(scope).bytes.text() == "one");
  CHECK(receiveText(*this, *server) == "two");
}

TEST_CASE_FIXTURE(IoTest, "a send with an address on a connected socket is refused, and without one on another") {
  const SocketPtr server = bindTo(*this);
  const SocketPtr client = connectedTo(*this, *server);
  const SocketAddress address = server->localAddress();
  const OutgoingDatagram with{bytesOf("x"), &address}, without{bytesOf("x")};
  CHECK(contains(thrownBy([&] { (void)client->send("x", address); }).description(), "send: the socket is connected"));
  CHECK(contains(thrownBy([&] { (void)server->send("x"); }).description(), "send: the socket is not connected"));
  CHECK(contains(thrownBy([&] { (void)client->sendMany({&with, 1}); }).description(), "sendMany: the socket is connected"));
  const Exception e = thrownBy([&] { (void)server->sendMany({&without, 1}); });
  CHECK(contains(e.description(), "sendMany: the socket is not connected"));
  CHECK(kindName(e) == "FAILED");
  CHECK(madeIn(e, "datagram_test.cc"));
}

TEST_CASE_FIXTURE(IoTest, "an address that the socket is none for is refused") {
  const SocketPtr socket = bindTo(*this);
  CHECK(kindName(failureOf(socket->send("x", SocketAddress::parse("[::1]:9")), scope)) == "UNIMPLEMENTED");
  CHECK(kindName(failureOf(socket->send("x", SocketAddress::parse("unix:/x")), scope)) == "UNIMPLEMENTED");
  CHECK(kindName(failureOf(socket->send("x", SocketAddress::parse("127.0.0.1:0")), scope)) == "FAILED");
  const SocketPtr ipv6 = bindTo(*this, "[::1]:0", {.ipv6Only = true});
  CHECK(kindName(failureOf(ipv6->send("x", SocketAddress::parse("127.0.0.1:9")), scope)) == "DISCONNECTED");
}

TEST_CASE_FIXTURE(IoTest, "a batch refuses an address that the socket is none for as a single send does") {
  const SocketAddress local = SocketAddress::parse("unix:/x"), ipv6 = SocketAddress::parse("[::1]:9");
  for (const std::string bound : {"127.0.0.1:0", "*:0"}) {
    CAPTURE(bound);
    const SocketPtr socket = bindTo(*this, bound);
    const SocketAddress self = SocketAddress::parse("127.0.0.1", socket->localAddress().port());
    const std::array<OutgoingDatagram, 3> batch = {OutgoingDatagram{bytesOf("1"), &self}, OutgoingDatagram{bytesOf("2"), &local},
                                                   OutgoingDatagram{bytesOf("3"), &self}};
    CHECK(socket->sendMany(batch).wait(scope) == 1);
    const Exception e = failureOf(socket->sendMany(std::span(batch).subspan(1)), scope);
    CHECK(kindName(e) == "UNIMPLEMENTED");
    CHECK(contains(e.description(), "send to unix:/x"));
    CHECK(receiveText(*this, *socket) == "1");
  }
  const OutgoingDatagram other{bytesOf("x"), &ipv6};
  CHECK(kindName(failureOf(bindTo(*this)->sendMany({&other, 1}), scope)) == "UNIMPLEMENTED");
}

// ------------------------------------------------------------------------------------ connected sockets

TEST_CASE_FIXTURE(IoTest, "a connected socket hears its peer only") {
  const SocketPtr server = bindTo(*this);
  const SocketPtr stranger = bindTo(*this);
  const SocketPtr client = connectedTo(*this, *server);
  stranger->send("from elsewhere", client->localAddress()).wait(scope);
  server->send("from the peer", client->localAddress()).wait(scope);
  CHECK(receiveText(*this, *client) == "from the peer");
}

TEST_CASE_FIXTURE(IoTest, "a bound socket may be connected later, and to another peer again") {
  const SocketPtr first = bindTo(*this);
  const SocketPtr second = bindTo(*this);
  const SocketPtr client = bindTo(*this);
  for (const SocketPtr* peer : {&first, &second}) {
    client->connect((*peer)->localAddress());
    client->send("hello").wait(scope);
    const Datagram datagram = (*peer)->receive().wait(scope);
    CHECK(datagram.bytes.text() == "hello");
    CHECK(datagram.source == client->localAddress());
  }
}

TEST_CASE_FIXTURE(IoTest, "a connected socket's peer that nobody is at is reported once to a receive that waits (S7)") {
  const SocketPtr client = parse(*this, unusedAddress(*this))->connectDatagram();
  Promise<Datagram> receive = client->receive();
  CHECK(!receive.poll(scope));
  client->send("anybody?").wait(scope);
  const Exception e = failureOf(std::move(receive), scope);
  CHECK(kindName(e) == "DISCONNECTED");
  CHECK((e.code() == std::errc::connection_refused));
  CHECK(contains(e.description(), "receive: connection refused"));
  CHECK(madeIn(e, "datagram_test.cc"));
  Promise<Datagram> next = client->receive();
  CHECK(staysPending(*this, next));
}

TEST_CASE_FIXTURE(IoTest, "a connected socket's peer that nobody is at is reported to the next send, which may be repeated (S7)") {
  const std::string address = unusedAddress(*this);
  const SocketPtr client = parse(*this, address)->connectDatagram();
  client->send("anybody?").wait(scope);
  const Exception e = failureOf(client->send("anybody now?"), scope);
  CHECK(kindName(e) == "DISCONNECTED");
  CHECK((e.code() == std::errc::connection_refused));
  const SocketPtr server = bindTo(*this, address);
  client->send("and now?").wait(scope);
  CHECK(receiveText(*this, *server) == "and now?"); // nothing else was sent
  server->send("yes", client->localAddress()).wait(scope);
  CHECK(receiveText(*this, *client) == "yes");
}

TEST_CASE_FIXTURE(IoTest, "an unreachable peer that is reported while nobody waits is told to the next receive") {
  SocketPtr server = bindTo(*this);
  const SocketPtr client = connectedTo(*this, *server);
  server->send("before", client->localAddress()).wait(scope);
  CHECK(receiveText(*this, *client) == "before"); // from here on libuv watches
  const std::string address = server->localAddress().toString();
  server.reset();
  client->send("lost").wait(scope);
  CHECK(sleeps(*this));
  CHECK((failureOf(client->receive(), scope).code() == std::errc::connection_refused));
  const SocketPtr again = bindTo(*this, address);
  again->send("after", client->localAddress()).wait(scope);
  CHECK(receiveText(*this, *client) == "after");
}

TEST_CASE_FIXTURE(IoTest, "a receive that is destroyed with its error leaves the error to the next one") {
  const SocketPtr client = parse(*this, unusedAddress(*this))->connectDatagram();
  {
    Promise<Datagram> receive = client->receive();
    CHECK(!receive.poll(scope));
    client->send("anybody?").wait(scope);
    while (!receive.poll(scope)) {}
  }
  CHECK((failureOf(client->receive(), scope).code() == std::errc::connection_refused));
}

#ifdef IP_RECVERR
TEST_CASE_FIXTURE(IoTest, "a receive goes on waiting when the socket looks failed and is not") {
  const std::string address = unusedAddress(*this);
  const SocketPtr client = parse(*this, address)->connectDatagram();
  const int on = 1;
  REQUIRE(setsockopt(*client->descriptor(), IPPROTO_IP, IP_RECVERR, &on, sizeof on) == 0);
  client->send("anybody?").wait(scope);
  CHECK((failureOf(client->receive(), scope).code() == std::errc::connection_refused));
  Promise<Datagram> receive = client->receive(); // the error is still in the queue of errors
  CHECK(staysPending(*this, receive));
  char bytes[64];
  REQUIRE(recv(*client->descriptor(), bytes, sizeof bytes, MSG_ERRQUEUE | MSG_DONTWAIT) >= 0);
  const SocketPtr server = bindTo(*this, address);
  server->send("now", client->localAddress()).wait(scope);
  CHECK(std::move(receive).wait(scope).bytes.text() == "now");
}
#endif

TEST_CASE_FIXTURE(IoTest, "a socket that is not connected does not hear of peers that nobody is at (S7)") {
  const SocketPtr client = bindTo(*this);
  const SocketAddress nobody = SocketAddress::parse(unusedAddress(*this));
  Promise<Datagram> receive = client->receive();
  for (int i = 0; i < 3; ++i) client->send("anybody?", nobody).wait(scope);
  CHECK(staysPending(*this, receive));
  client->send("myself", client->localAddress()).wait(scope);
  CHECK(std::move(receive).wait(scope).bytes.text() == "myself");
}

TEST_CASE_FIXTURE(IoTest, "connecting needs one host and a port") {
  CHECK(contains(thrownBy([&] { (void)parse(*this, "*:9")->connectDatagram(); }).description(), "name one host"));
  CHECK(contains(thrownBy([&] { (void)parse(*this, "127.0.0.1")->connectDatagram(); }).description(), "no port"));
  const Exception e = thrownBy([&] { (void)parse(*this, "unix:/run/x.sock")->connectDatagram(); });
  CHECK(kindName(e) == "UNIMPLEMENTED");
  CHECK(contains(e.description(), "cannot connect a datagram socket to unix:/run/x.sock"));
  const SocketPtr socket = bindTo(*this);
  CHECK(kindName(thrownBy([&] { socket->connect(SocketAddress::parse("unix:/run/x.sock")); })) == "UNIMPLEMENTED");
  const Exception port = thrownBy([&] { socket->connect(SocketAddress::parse("127.0.0.1:0")); });
  CHECK(kindName(port) == "FAILED");
  CHECK(contains(port.description(), "the address has no port"));
}

// --------------------------------------------------------------------------------- addresses, options

TEST_CASE_FIXTURE(IoTest, "a port that is taken is refused with the address, unless both want to share it") {
  const SocketPtr first = bindTo(*this);
  const std::string address = first->localAddress().toString();
  const Exception e = thrownBy([&] { (void)bindTo(*this, address); });
  CHECK(kindName(e) == "FAILED");
  CHECK((e.code() == std::errc::address_in_use));
  CHECK(contains(e.description(), "cannot bind a datagram socket to " + address));
  CHECK(madeIn(e, "datagram_test.cc"));
  CHECK(kindName(thrownBy([&] { (void)bindTo(*this, "unix:/run/x.sock"); })) == "UNIMPLEMENTED");

  const SocketPtr shared = bindTo(*this, "127.0.0.1:0", {.reuseAddress = true});
  CHECK(bindTo(*this, shared->localAddress().toString(), {.reuseAddress = true})->localAddress() == shared->localAddress());
#ifdef __linux__
  const SocketPtr port = bindTo(*this, "127.0.0.1:0", {.reusePort = true});
  CHECK(bindTo(*this, port->localAddress().toString(), {.reusePort = true})->localAddress() == port->localAddress());
#endif
}

TEST_CASE_FIXTURE(IoTest, "\"*\" takes IPv6 and IPv4 in one socket, and an IPv4 peer has an IPv4 address") {
  const SocketPtr server = bindTo(*this, "*:0");
  const std::uint16_t port = server->localAddress().port();
  for (const std::string host : {"127.0.0.1", "[::1]"}) {
    if (host == "[::1]" && server->localAddress().family() == SocketAddress::Family::IPV4) continue; // no IPv6 here
    CAPTURE(host);
    const SocketPtr client = bindTo(*this, host + ":0");
    client->send("question", SocketAddress::parse(host, port)).wait(scope);
    const Datagram question = server->receive().wait(scope);
    CHECK(question.source == client->localAddress());
    server->send("answer", question.source).wait(scope);
    CHECK(receiveText(*this, *client) == "answer");
    const OutgoingDatagram batch{bytesOf("more"), &question.source};
    CHECK(server->sendMany({&batch, 1}).wait(scope) == 1);
    CHECK(receiveText(*this, *client) == "more");
  }
}

TEST_CASE_FIXTURE(IoTest, "a dual-stack socket may be connected to an IPv4 peer") {
  const SocketPtr socket = bindTo(*this, "*:0");
  const SocketPtr peer = bindTo(*this);
  socket->connect(peer->localAddress());
  socket->send("hello").wait(scope);
  const Datagram datagram = peer->receive().wait(scope);
  CHECK(datagram.bytes.text() == "hello");
  peer->send("back", datagram.source).wait(scope);
  CHECK(socket->receive().wait(scope).source == peer->localAddress());
}

TEST_CASE_FIXTURE(IoTest, "an IPv6 socket that is for IPv6 only leaves the IPv4 port to another") {
  SocketPtr server;
  try {
    server = bindTo(*this, "[::]:0", {.ipv6Only = true});
  } catch (const Exception&) {
    MESSAGE("skipped: no IPv6 here");
    return;
  }
  const SocketPtr other = bindTo(*this, "127.0.0.1:" + std::to_string(server->localAddress().port()));
  CHECK(kindName(failureOf(server->send("x", other->localAddress()), scope)) == "DISCONNECTED");
}

TEST_CASE_FIXTURE(IoTest, "options are set as they are asked for, and refused out of range") {
  const SocketPtr plain = bindTo(*this);
  const SocketPtr socket = bindTo(*this, "127.0.0.1:0",
                                  {.broadcast = true, .multicastLoop = false, .ttl = 7, .multicastTtl = 3,
                                   .receiveBuffer = 100'000, .sendBuffer = 90'000});
  CHECK(optionOf(*plain, SOL_SOCKET, SO_BROADCAST) == 0);
  CHECK(optionOf(*socket, SOL_SOCKET, SO_BROADCAST) == 1);
  CHECK(optionOf(*plain, IPPROTO_IP, IP_MULTICAST_LOOP) == 1);
  CHECK(optionOf(*socket, IPPROTO_IP, IP_MULTICAST_LOOP) == 0);
  CHECK(optionOf(*socket, IPPROTO_IP, IP_TTL) == 7);
  CHECK(optionOf(*socket, IPPROTO_IP, IP_MULTICAST_TTL) == 3);
  CHECK(optionOf(*socket, SOL_SOCKET, SO_RCVBUF) >= 100'000);
  CHECK(optionOf(*socket, SOL_SOCKET, SO_SNDBUF) >= 90'000);

  const SocketPtr dual = bindTo(*this, "*:0", {.multicastLoop = false, .ttl = 7, .multicastTtl = 0});
  if (dual->localAddress().family() == SocketAddress::Family::IPV6) {
    CHECK(optionOf(*dual, IPPROTO_IPV6, IPV6_UNICAST_HOPS) == 7);
    CHECK(optionOf(*dual, IPPROTO_IPV6, IPV6_MULTICAST_HOPS) == 0);
    CHECK(optionOf(*dual, IPPROTO_IPV6, IPV6_MULTICAST_LOOP) == 0);
    CHECK(optionOf(*dual, IPPROTO_IP, IP_TTL) == 7);
  }
  CHECK(contains(thrownBy([&] { (void)bindTo(*this, "127.0.0.1:0", {.ttl = 0}); }).description(), "ttl is 0"));
  CHECK(contains(thrownBy([&] { (void)bindTo(*this, "127.0.0.1:0", {.multicastTtl = 256}); }).description(),
                 "multicastTtl is 256, but must be from 0 to 255"));
  const Exception e = thrownBy([&] { (void)bindTo(*this, "127.0.0.1:0", {.multicastInterface = "troth-none"}); });
  CHECK(kindName(e) == "FAILED");
  CHECK(contains(e.description(), "network interface \"troth-none\""));
}

TEST_CASE_FIXTURE(IoTest, "sending to a broadcast address needs the option") {
  const SocketPtr plain = bindTo(*this);
  const SocketAddress broadcast = SocketAddress::parse("127.255.255.255:9");
  const Exception e = failureOf(plain->send("x", broadcast), scope);
  CHECK((e.code() == std::errc::permission_denied));
  const SocketPtr allowed = bindTo(*this, "127.0.0.1:0", {.broadcast = true});
  allowed->send("x", broadcast).wait(scope);
}

TEST_CASE_FIXTURE(IoTest, "what is sent to a group comes to those who have joined it, until they leave") {
  const SocketAddress group = SocketAddress::parse("239.255.77.77", 0);
  SocketPtr receiver, sender;
  try {
    receiver = bindTo(*this, "0.0.0.0:0", {.reuseAddress = true});
    sender = bindTo(*this, "127.0.0.1:0", {.multicastTtl = 0, .multicastInterface = "lo"});
    receiver->joinGroup(group, "lo");
    sender->send("first", group.withPort(receiver->localAddress().port())).wait(scope);
  } catch (const Exception& e) {
    MESSAGE("skipped: no multicast on the loopback here: ", std::string(e.description()));
    return;
  }
  const SocketAddress to = group.withPort(receiver->localAddress().port());
  CHECK(receiveText(*this, *receiver) == "first");
  const Exception twice = thrownBy([&] { receiver->joinGroup(group, "lo"); });
  CHECK(kindName(twice) == "FAILED");
  CHECK(contains(twice.description(), "joinGroup 239.255.77.77"));
  CHECK(madeIn(twice, "datagram_test.cc"));
  receiver->leaveGroup(group, "lo");
  sender->send("unheard", to).wait(scope);
  Promise<Datagram> receive = receiver->receive();
  CHECK(staysPending(*this, receive));
  CHECK(kindName(thrownBy([&] { receiver->leaveGroup(group, "lo"); })) == "FAILED");
}

TEST_CASE_FIXTURE(IoTest, "a dual-stack socket joins groups of IPv6 and of IPv4") {
  for (const std::string group : {"239.255.77.78", "ff02::4d4d%lo"}) {
    CAPTURE(group);
    SocketPtr receiver;
    try {
      receiver = bindTo(*this, "*:0", {.multicastTtl = 0, .multicastInterface = "lo"});
      receiver->joinGroup(SocketAddress::parse(group), "lo");
      receiver->send("to all", SocketAddress::parse(group, receiver->localAddress().port())).wait(scope);
    } catch (const Exception& e) {
      MESSAGE("skipped: no such multicast on the loopback here: ", std::string(e.description()));
      continue;
    }
    CHECK(receiveText(*this, *receiver) == "to all");
    receiver->leaveGroup(SocketAddress::parse(group), "lo");
  }
}

TEST_CASE_FIXTURE(IoTest, "a group's zone says by which interface it is joined") {
  const SocketAddress group = SocketAddress::parse("ff02::4d4e%lo");
  SocketPtr socket;
  try {
    socket = bindTo(*this, "[::]:0");
    socket->joinGroup(group);
  } catch (const Exception& e) {
    MESSAGE("skipped: no such multicast on the loopback here: ", std::string(e.description()));
    return;
  }
  socket->leaveGroup(group, "lo"); // which fails if the socket was in the group elsewhere
  socket->joinGroup(group.withPort(9), "lo");
  CHECK(kindName(thrownBy([&] { socket->joinGroup(group); })) == "FAILED"); // it is already
  socket->leaveGroup(group);
  sockaddr_in6 ipv6;
  std::memcpy(&ipv6, group.get(), sizeof ipv6);
  ipv6.sin6_scope_id = 47110; // no interface
  const SocketAddress elsewhere = SocketAddress::from(reinterpret_cast<const sockaddr&>(ipv6), sizeof ipv6);
  CHECK(kindName(thrownBy([&] { socket->joinGroup(elsewhere); })) == "FAILED");
  const Exception e = thrownBy([&] { socket->joinGroup(elsewhere, "lo"); });
  CHECK(contains(e.description(), "another network interface than \"lo\""));
  CHECK(madeIn(e, "datagram_test.cc"));
}

TEST_CASE_FIXTURE(IoTest, "what is no group, and an interface that does not exist, cannot be joined") {
  const SocketPtr socket = bindTo(*this);
  CHECK(kindName(thrownBy([&] { socket->joinGroup(SocketAddress::parse("127.0.0.1")); })) == "FAILED");
  const Exception e = thrownBy([&] { socket->joinGroup(SocketAddress::parse("239.1.2.3"), "troth-none"); });
  CHECK(contains(e.description(), "network interface \"troth-none\""));
  CHECK(kindName(thrownBy([&] { socket->joinGroup(SocketAddress::parse("unix:/x")); })) == "UNIMPLEMENTED");
}

// -------------------------------------------------------------------------------------- restricted peers

TEST_CASE_FIXTURE(IoTest, "what may not be sent to is refused, and named") {
  const SocketPtr server = bindTo(*this);
  const auto network = newNetwork(io)->restrictPeers({"127.0.0.0/8"}, {"127.0.0.2"});
  const SocketPtr client = network->parseAddress("127.0.0.1:0").wait(scope)->bindDatagram();
  const SocketAddress good = server->localAddress(), bad = SocketAddress::parse("127.0.0.2", good.port());
  client->send("hello", good).wait(scope);
  CHECK(receiveText(*this, *server) == "hello");
  const Exception e = failureOf(client->send("x", bad), scope);
  CHECK(kindName(e) == "FAILED");
  CHECK((e.code() == std::errc::permission_denied));
  CHECK(contains(e.description(), "restrictPeers() does not allow " + bad.toString()));
  CHECK(madeIn(e, "datagram_test.cc"));

  const std::array<OutgoingDatagram, 3> batch = {OutgoingDatagram{bytesOf("1"), &good}, OutgoingDatagram{bytesOf("2"), &bad},
                                                 OutgoingDatagram{bytesOf("3"), &good}};
  CHECK(client->sendMany(batch).wait(scope) == 1);
  CHECK((failureOf(client->sendMany(std::span(batch).subspan(1)), scope).code() == std::errc::permission_denied));
  CHECK(receiveText(*this, *server) == "1");
  CHECK((thrownBy([&] { client->connect(bad); }).code() == std::errc::permission_denied));
  const auto address = network->parseAddress("127.0.0.2:9").wait(scope);
  CHECK((thrownBy([&] { (void)address->connectDatagram(); }).code() == std::errc::permission_denied));
}

TEST_CASE_FIXTURE(IoTest, "datagrams of peers that are not allowed are dropped unseen, among others too") {
  const auto network = newNetwork(io)->restrictPeers({"127.0.0.0/8"}, {"127.0.0.2"});
  const SocketPtr good = bindTo(*this), bad = bindTo(*this, "127.0.0.2:0");
  for (const std::string bound : {"127.0.0.1:0", "*:0"}) {
    CAPTURE(bound);
    const SocketPtr server = network->parseAddress(bound).wait(scope)->bindDatagram();
    const SocketAddress to = SocketAddress::parse("127.0.0.1", server->localAddress().port());
    std::string buffer(8, '.');
    Promise<ReceivedDatagram> receive = server->receive(bufferOf(buffer));
    for (int i = 0; i < 20; ++i) bad->send("bad", to).wait(scope);
    CHECK(staysPending(*this, receive));
    CHECK(buffer == "........");
    for (const char* text : {"1", "2"}) {
      bad->send("bad", to).wait(scope);
      good->send(text, to).wait(scope);
    }
    CHECK(std::move(receive).wait(scope).source == good->localAddress());
    CHECK(buffer == "1.......");
    CHECK(receiveText(*this, *server) == "2");
  }
}

TEST_CASE_FIXTURE(IoTest, "a socket that could have no peers is not made") {
  const auto network = newNetwork(io)->restrictPeers({"unix"});
  const auto address = network->parseAddress("127.0.0.1:0").wait(scope);
  const Exception e = thrownBy([&] { (void)address->bindDatagram(); });
  CHECK((e.code() == std::errc::permission_denied));
  CHECK(contains(e.description(), "cannot bind a datagram socket to 127.0.0.1:0: restrictPeers() allows no peer"));
}

TEST_CASE_FIXTURE(IoTest, "a network without datagrams says so") {
  struct Plain final : NetworkAddress {
    Promise<std::unique_ptr<AsyncIoStream>> connect(ConnectOptions, std::source_location) override { return NEVER_DONE; }
    std::unique_ptr<ConnectionReceiver> listen(ListenOptions, std::source_location) override { return nullptr; }
    std::unique_ptr<NetworkAddress> clone() const override { return nullptr; }
    std::string toString() const override { return ""; }
  } address;
  CHECK(kindName(thrownBy([&] { (void)address.bindDatagram(); })) == "UNIMPLEMENTED");
  CHECK(kindName(thrownBy([&] { (void)address.connectDatagram(); })) == "UNIMPLEMENTED");
}

// ------------------------------------------------------------------------------------------ full sockets

TEST_CASE_FIXTURE(IoTest, "a send to a full socket waits until there is room, and others wait behind it in their order") {
  FullSocket full(*this);
  full.fill(*this);
  const std::array<std::span<const std::byte>, 2> pieces = {bytesOf("se"), bytesOf("cond")};
  const std::array<OutgoingDatagram, 2> batch = {OutgoingDatagram{bytesOf("third")}, OutgoingDatagram{bytesOf("fourth")}};
  Promise<void> first = full.socket->send("first");
  Promise<void> second = full.socket->send(pieces);
  Promise<std::size_t> third = full.socket->sendMany(batch);
  CHECK(staysPending(*this, first));
  CHECK(sleeps(*this));
  full.empty();
  std::move(first).wait(scope);
  std::move(second).wait(scope);
  CHECK(std::move(third).wait(scope) == 2);
  for (const char* text : {"first", "second", "third", "fourth"}) CHECK(full.peer.receiveSome() == text);
  CHECK(sleeps(*this)); // nobody watches for room any more
  CHECK(activeHandles(*this, "poll") <= 1); // the loop's own
}

TEST_CASE_FIXTURE(IoTest, "a send does not overtake one that waits, even if there is room again") {
  FullSocket full(*this);
  full.fill(*this);
  Promise<void> first = full.socket->send("first");
  CHECK(!first.poll(scope));
  full.empty();
  Promise<void> second = full.socket->send("second");
  const OutgoingDatagram datagram{bytesOf("third")};
  Promise<std::size_t> third = full.socket->sendMany({&datagram, 1});
  std::move(third).wait(scope);
  std::move(second).wait(scope);
  std::move(first).wait(scope);
  for (const char* text : {"first", "second", "third"}) CHECK(full.peer.receiveSome() == text);
}

TEST_CASE_FIXTURE(IoTest, "a socket is not connected to another peer while sends to the old one wait") {
  FullSocket full(*this);
  full.fill(*this);
  Promise<void> send = full.socket->send("for the old peer");
  const SocketPtr other = bindTo(*this);
  const Exception e = thrownBy([&] { full.socket->connect(other->localAddress()); });
  CHECK(kindName(e) == "FAILED");
  CHECK(contains(e.description(), "sends are waiting"));
  CHECK(madeIn(e, "datagram_test.cc"));
  full.empty();
  std::move(send).wait(scope);
  CHECK(full.peer.receiveSome() == "for the old peer");
}

TEST_CASE_FIXTURE(IoTest, "a send that is cancelled while it waits is never sent, and its memory is left alone (R9)") {
  FullSocket full(*this);
  full.fill(*this);
  auto bytes = std::make_unique<std::string>("cancelled");
  auto batch = std::make_unique<OutgoingDatagram>(OutgoingDatagram{bytesOf(*bytes)});
  std::optional<Promise<void>> first(full.socket->send(*bytes));
  std::optional<Promise<void>> second(full.socket->send("second"));
  std::optional<Promise<std::size_t>> third(full.socket->sendMany({batch.get(), 1}));
  CHECK(!first->poll(scope));
  first.reset();
  third.reset();
  batch.reset();
  bytes.reset();
  full.empty();
  std::move(*second).wait(scope);
  CHECK(full.peer.receiveSome() == "second");
  CHECK(full.peer.receiveSome().empty());
  full.fill(*this);
  second.emplace(full.socket->send("last"));
  CHECK(!second->poll(scope));
  second.reset();
  CHECK(activeHandles(*this, "poll") <= 1);
}

TEST_CASE_FIXTURE(IoTest, "a send that waits fails when the peer has gone") {
  FullSocket full(*this);
  full.fill(*this);
  Promise<void> send = full.socket->send("waits");
  Promise<void> next = full.socket->send("waits, too");
  CHECK(!send.poll(scope));
  full.peer.close();
  CHECK(kindName(failureOf(std::move(send), scope)) == "DISCONNECTED");
  CHECK(kindName(failureOf(std::move(next), scope)) == "DISCONNECTED");
}

TEST_CASE_FIXTURE(IoTest, "a send for which the system has no room at all is OVERLOADED, and one that is interrupted goes on") {
  const SocketPtr server = bindTo(*this);
  const SocketPtr client = connectedTo(*this, *server);
  failNextSend = ENOBUFS;
  const Exception e = failureOf(client->send("dropped"), scope);
  CHECK(kindName(e) == "OVERLOADED");
  CHECK((e.code() == std::errc::no_buffer_space));
  failNextSend = EINTR;
  client->send("goes on").wait(scope);
  failNextSend = EAGAIN;
  client->send("waits a moment").wait(scope);
  CHECK(receiveText(*this, *server) == "goes on");
  CHECK(receiveText(*this, *server) == "waits a moment");
}

// ---------------------------------------------------------------------------------- cancelling, the end

TEST_CASE_FIXTURE(IoTest, "a receive that is destroyed with its result leaves the datagram to the next one, whole") {
  const SocketPtr server = bindTo(*this);
  const SocketPtr client = connectedTo(*this, *server);
  std::string buffer(4, '.');
  for (const std::string_view text : {"ok", "too long", "", "last"}) {
    CAPTURE(text);
    for (int kind = 0; kind < 2; ++kind) {
      client->send(text).wait(scope);
      client->send("behind").wait(scope);
      if (kind == 0) {
        Promise<ReceivedDatagram> receive = server->receive(bufferOf(buffer));
        while (!receive.poll(scope)) {}
      } else {
        Promise<Datagram> receive = server->receive(1);
        while (!receive.poll(scope)) {}
      }
      const Datagram datagram = server->receive().wait(scope);
      CHECK(datagram.bytes.text() == text);
      CHECK(datagram.source == client->localAddress());
      CHECK(!datagram.truncated);
      CHECK(receiveText(*this, *server) == "behind");
    }
  }
}

TEST_CASE_FIXTURE(IoTest, "a pending receive that is destroyed leaves its buffer alone and loses nothing") {
  const SocketPtr server = bindTo(*this);
  const SocketPtr client = connectedTo(*this, *server);
  std::string buffer(8, '.');
  {
    Promise<ReceivedDatagram> receive = server->receive(bufferOf(buffer));
    CHECK(!receive.poll(scope));
  }
  client->send("kept").wait(scope);
  for (int i = 0; i < 5; ++i) scope.poll();
  CHECK(buffer == "........");
  CHECK(receiveText(*this, *server) == "kept");
}

TEST_CASE_FIXTURE(IoTest, "time-outs that strike in the turn in which datagrams come lose none") {
  const SocketPtr server = bindTo(*this);
  const SocketPtr client = connectedTo(*this, *server);
  constexpr int TOTAL = 200;
  int timeouts = 0;
  auto receiveAll = coCapture([&]() -> Promise<void> {
    for (int next = 0; next < TOTAL;) {
      try {
        const Datagram datagram = co_await io.timer().timeoutAfter(next % 2 == 0 ? 0ns : 50us, server->receive());
        require(datagram.bytes.text() == std::to_string(next), "a datagram is missing");
        ++next;
      } catch (const Exception& e) {
        if (e.kind() != Exception::Kind::OVERLOADED) throw;
        ++timeouts;
      }
    }
  });
  auto sendAll = coCapture([&]() -> Promise<void> {
    for (int i = 0; i < TOTAL; ++i) {
      co_await io.timer().afterDelay(50us);
      co_await client->send(std::to_string(i));
    }
  });
  joinPromisesFailFast(receiveAll(), sendAll()).wait(scope);
  CHECK(timeouts > 0);
}

TEST_CASE_FIXTURE(IoTest, "destroying the socket rejects what is pending, and its promises may outlive it") {
  FullSocket full(*this);
  full.fill(*this);
  Promise<Datagram> receive = full.socket->receive();
  Promise<void> send = full.socket->send("waits");
  const OutgoingDatagram datagram{bytesOf("waits")};
  Promise<std::size_t> batch = full.socket->sendMany({&datagram, 1});
  CHECK(!receive.poll(scope));
  full.socket.reset();
  const Exception e = failureOf(std::move(receive), scope);
  CHECK(kindName(e) == "DISCONNECTED");
  CHECK(contains(e.description(), "receive: the socket was destroyed"));
  CHECK(madeIn(e, "datagram_test.cc"));
  CHECK(contains(failureOf(std::move(send), scope).description(), "send: the socket was destroyed"));
  CHECK(kindName(failureOf(std::move(batch), scope)) == "DISCONNECTED");
}

TEST_CASE_FIXTURE(IoTest, "a datagram that has come for a receive is still taken when the socket has gone") {
  SocketPtr server = bindTo(*this);
  const SocketPtr client = connectedTo(*this, *server);
  for (const bool span : {false, true}) {
    std::string buffer(8, '.');
    if (server == nullptr) server = bindTo(*this);
    const SocketAddress to = server->localAddress();
    const SocketPtr sender = bindTo(*this);
    sender->send("one", to).wait(scope);
    sender->send("two", to).wait(scope);
    if (span) {
      Promise<ReceivedDatagram> receive = server->receive(bufferOf(buffer));
      while (!receive.poll(scope)) {}
      server.reset();
      CHECK(std::move(receive).wait(scope).size == 3);
    } else {
      Promise<Datagram> receive = server->receive();
      while (!receive.poll(scope)) {}
      server.reset();
      CHECK(std::move(receive).wait(scope).bytes.text() == "one");
    }
  }
}

TEST_CASE_FIXTURE(IoTest, "socket and operations may go in any order") {
  for (int order = 0; order < 4; ++order) {
    std::optional<FullSocket> full(std::in_place, *this);
    full->fill(*this);
    std::string buffer(8, '.');
    std::optional<Promise<ReceivedDatagram>> receive(full->socket->receive(bufferOf(buffer)));
    std::optional<Promise<void>> send(full->socket->send("waits"));
    CHECK(!receive->poll(scope));
    if (order == 0) full->socket.reset();
    if (order != 1) receive.reset();
    if (order == 2) full->socket.reset();
    send.reset();
    full->socket.reset();
    receive.reset();
  }
}

TEST_CASE("cancelling at any step of a talk leaves nothing behind (R5)") {
  const std::size_t steps = cancelSweep([](IoTest& test) -> Promise<void> {
    return coCapture([&test]() -> Promise<void> {
      const auto network = newNetwork(test.io);
      const auto address = co_await network->parseAddress("127.0.0.1:0");
      const SocketPtr server = address->bindDatagram();
      const auto target = co_await network->parseAddress(server->localAddress().toString());
      const SocketPtr client = target->connectDatagram();
      std::string buffer(4, '.');
      for (int i = 0; i < 3; ++i) {
        const std::array<OutgoingDatagram, 2> batch = {OutgoingDatagram{bytesOf("one")}, OutgoingDatagram{bytesOf("two and more")}};
        require(co_await client->sendMany(batch) == 2, "the batch was not sent");
        const Datagram first = co_await server->receive();
        require(first.bytes.text() == "one", "the first is wrong");
        require((co_await server->receive(bufferOf(buffer))).truncated, "the second is wrong");
        Promise<Datagram> answer = client->receive();
        co_await server->send("answer", first.source);
        require((co_await std::move(answer)).bytes.text() == "answer", "the answer is wrong");
        co_await evalLater([] {});
      }
    })();
  });
  CHECK(steps > 3);
}

TEST_CASE("when an allocation of a talk fails, that is reported, nothing is lost and the loop goes on (R6)") {
  const std::size_t failures = starveSweep([](IoTest& test) {
    const SocketPtr server = bindTo(test);
    const SocketPtr client = connectedTo(test, *server);
    const std::array<OutgoingDatagram, 3> batch = {OutgoingDatagram{bytesOf("one")}, OutgoingDatagram{bytesOf("two")},
                                                   OutgoingDatagram{bytesOf("three")}};
    require(client->sendMany(batch).wait(test.scope) == 3, "the batch was not sent");
    std::string buffer(4, '.');
    require(server->receive().wait(test.scope).bytes.text() == "one", "the first is wrong");
    {
      Promise<ReceivedDatagram> given = server->receive(bufferOf(buffer));
      while (!given.poll(test.scope)) {}
    }
    require(server->receive(bufferOf(buffer)).wait(test.scope).size == 3, "the second is wrong");
    const Datagram third = server->receive(4).wait(test.scope);
    require(third.bytes.text() == "thre" && third.truncated, "the third is wrong");
    server->send("answer", third.source).wait(test.scope);
    require(client->receive().wait(test.scope).bytes.text() == "answer", "the answer is wrong");
  });
  CHECK((failures > 5 || SANITIZED));
}

TEST_CASE_FIXTURE(IoTest, "a socket that nobody reads does not make the loop turn round for nothing") {
  const SocketPtr server = bindTo(*this);
  const SocketPtr client = connectedTo(*this, *server);
  client->send("first").wait(scope);
  CHECK(receiveText(*this, *server) == "first");
  for (int i = 0; i < 100; ++i) client->send("more").wait(scope);
  CHECK(sleeps(*this));
  for (int i = 0; i < 100; ++i) CHECK(receiveText(*this, *server) == "more");
}

TEST_CASE("a host's loop is kept alive by what is pending, not by sockets") {
  uv_loop_t loop;
  REQUIRE(uv_loop_init(&loop) == 0);
  std::string received;
  {
    HostedAsyncIoContext io = setupAsyncIo(&loop);
    const auto network = newNetwork(io);
    std::unique_ptr<NetworkAddress> address;
    FailOnError failures;
    TaskSet tasks(failures);
    tasks.add(network->parseAddress("127.0.0.1:0").then([&](std::unique_ptr<NetworkAddress> a) { address = std::move(a); }));
    CHECK(uv_run(&loop, UV_RUN_DEFAULT) == 0);
    REQUIRE(address != nullptr);
    const SocketPtr server = address->bindDatagram();
    const SocketPtr client = address->bindDatagram();
    CHECK(uv_loop_alive(&loop) == 0); // nobody has asked for anything
    {
      Promise<Datagram> cancelled = server->receive();
      CHECK(uv_loop_alive(&loop) != 0);
    }
    CHECK(uv_loop_alive(&loop) == 0);
    tasks.add(server->receive().then([&](Datagram datagram) { received = datagram.bytes.text(); }));
    tasks.add(client->send("hello", server->localAddress()));
    CHECK(uv_run(&loop, UV_RUN_DEFAULT) == 0); // ends although libuv still watches the socket
    CHECK(received == "hello");
    CHECK(tasks.isEmpty());
  }
  CHECK(uv_run(&loop, UV_RUN_DEFAULT) == 0);
  CHECK(uv_loop_close(&loop) == 0);
}

#if defined(__linux__)
TEST_CASE_FIXTURE(IoTest, "a socket that cannot be watched is not made, and the place of the caller is told") {
  const auto address = parse(*this, "127.0.0.1:0");
  failNextWatch = ENOSPC;
  const Exception e = thrownBy([&] { (void)address->bindDatagram(); });
  CHECK(std::exchange(failNextWatch, 0) == 0);
  CHECK(kindName(e) == "OVERLOADED");
  CHECK(contains(e.description(), "cannot bind a datagram socket to 127.0.0.1:0"));
  CHECK(madeIn(e, "datagram_test.cc"));
}
#endif

TEST_CASE_FIXTURE(IoTest, "without descriptors no socket is made, and that is OVERLOADED") {
  const auto address = parse(*this, "127.0.0.1:0");
  const DescriptorLimit limit;
  CHECK(kindName(thrownBy([&] { (void)address->bindDatagram(); })) == "OVERLOADED");
}
