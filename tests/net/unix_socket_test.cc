// SPDX-License-Identifier: MIT
// Tests of Unix sockets: connecting and listening by path and by abstract name, and the file that is made.
#include "../io/temporary_directory.h"
#include "loopback.h"

#include <troth/net/socket_address.h>

#include <string>
#include <vector>

#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

using namespace troth;
using namespace troth::test;

namespace {

using StreamPtr = std::unique_ptr<AsyncIoStream>;

void talk(StreamPair& pair, WaitScope& scope) {
  pair.left->write("ping").wait(scope);
  CHECK(pair.right->tryReadChunk().wait(scope).text() == "ping");
  pair.right->write("pong").wait(scope);
  CHECK(pair.left->tryReadChunk().wait(scope).text() == "pong");
  pair.left->shutdownWrite();
  CHECK(pair.right->tryReadChunk().wait(scope).empty());
}

/// An abstract name that no other process has.
std::string abstractName(std::string_view what) { return "troth-test-" + std::to_string(::getpid()) + "-" + std::string(what); }

/// A plain Unix socket, and its address as an argument for system calls.
Peer plainSocket() {
  Peer peer(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  REQUIRE(peer.fd() >= 0);
  return peer;
}

Peer plainUnixListener(const std::string& path, int backlog) {
  Peer peer = plainSocket();
  const SocketAddress address = SocketAddress::unixPath(path);
  REQUIRE(bind(peer.fd(), address.get(), address.size()) == 0);
  REQUIRE(listen(peer.fd(), backlog) == 0);
  return peer;
}

Peer connectToUnix(const SocketAddress& address) {
  Peer peer = plainSocket();
  REQUIRE(connect(peer.fd(), address.get(), address.size()) == 0);
  return peer;
}

} // namespace

TEST_CASE_FIXTURE(IoTest, "a Unix socket is listened on and connected to by its path, and its file goes with the receiver (S8)") {
  const TemporaryDirectory directory;
  const std::string text = "unix:" + directory.inside("socket");
  auto receiver = listenOn(*this, text);
  CHECK(receiver->toString() == text);
  CHECK(receiver->getPort() == 0);
  CHECK(directory.has("socket"));
  for (int i = 0; i < 3; ++i) {
    StreamPair pair = [&] {
      Promise<StreamPtr> accepted = receiver->accept();
      StreamPtr left = parse(*this, text)->connect().wait(scope);
      return StreamPair{std::move(left), std::move(accepted).wait(scope)};
    }();
    talk(pair, scope);
  }
  receiver.reset();
  CHECK(!directory.has("socket"));
}

TEST_CASE_FIXTURE(IoTest, "an abstract name makes no file, and may be as long as there is room (S8)") {
  const std::string name = abstractName("name");
  for (const std::string& full : {name, name + std::string(107 - name.size(), 'x')}) {
    CAPTURE(full);
    StreamPair pair = connectedPair(*this, "unix-abstract:" + full);
    talk(pair, scope);
  }
  const auto receiver = listenOn(*this, "unix-abstract:" + name);
  Peer client = connectToUnix(SocketAddress::unixAbstract(name));
  CHECK(receiver->accept().wait(scope) != nullptr);
  const Exception taken = thrownBy([&] { listenOn(*this, "unix-abstract:" + name); });
  CHECK((taken.code() == std::errc::address_in_use));
  CHECK(contains(taken.description(), "cannot listen on unix-abstract:" + name));
  // The name is the whole: one that begins with it is another.
  CHECK((failureOf(parse(*this, "unix-abstract:" + name + "x")->connect(), scope).kind() == Exception::Kind::DISCONNECTED));
}

TEST_CASE_FIXTURE(IoTest, "a path of 107 bytes is listened on as it is, and one byte more is refused (S8)") {
  const TemporaryDirectory directory;
  const std::string stem = directory.inside("x");
  REQUIRE(stem.size() < 107);
  const std::string path = stem + std::string(107 - stem.size(), 'x');
  {
    StreamPair pair = connectedPair(*this, "unix:" + path);
    talk(pair, scope);
  }
  CHECK(directory.count() == 0);
  const Exception e = failureOf(newNetwork(io)->parseAddress("unix:" + path + "x"), scope);
  CHECK((e.kind() == Exception::Kind::FAILED));
  CHECK(contains(e.description(), "longer than 107 bytes"));
}

TEST_CASE_FIXTURE(IoTest, "a path that exists is refused with a text that says so, and is left alone (S8)") {
  const TemporaryDirectory directory;
  directory.write("file", "contents");
  { const Peer left = plainUnixListener(directory.inside("stale"), 1); } // as a program that was killed leaves it
  const auto living = listenOn(*this, "unix:" + directory.inside("living"));
  for (const std::string name : {"file", "stale", "living"}) {
    CAPTURE(name);
    const std::string text = "unix:" + directory.inside(name);
    const Exception e = thrownBy([&] { listenOn(*this, text); });
    CHECK((e.kind() == Exception::Kind::FAILED));
    CHECK((e.code() == std::errc::address_in_use));
    CHECK(contains(e.description(), "cannot listen on " + text + ": there is a file of that name"));
    CHECK(madeIn(e, "loopback.cc"));
    CHECK(directory.has(name));
  }
  CHECK(directory.read("file") == "contents");
  Peer client = connectToUnix(SocketAddress::parse(living->toString()));
  CHECK(living->accept().wait(scope) != nullptr);
}

TEST_CASE_FIXTURE(IoTest, "a receiver removes only its own file (S8)") {
  const TemporaryDirectory directory;
  const std::string path = directory.inside("socket");
  auto first = listenOn(*this, "unix:" + path);
  REQUIRE(::unlink(path.c_str()) == 0);
  auto second = listenOn(*this, "unix:" + path);
  first.reset();
  REQUIRE(directory.has("socket"));
  Peer client = connectToUnix(SocketAddress::unixPath(path));
  CHECK(second->accept().wait(scope) != nullptr);
  REQUIRE(::unlink(path.c_str()) == 0);
  second.reset(); // has nothing to remove
  CHECK(directory.count() == 0);
}

TEST_CASE_FIXTURE(IoTest, "a receiver takes its socket and file along, even if its accept is still there (S8)") {
  const TemporaryDirectory directory;
  for (const std::string& text : {"unix:" + directory.inside("socket"), std::string("127.0.0.1:0")}) {
    CAPTURE(text);
    auto receiver = listenOn(*this, text);
    const auto address = parse(*this, receiver->toString());
    const Promise<StreamPtr> accept = receiver->accept();
    receiver.reset();
    CHECK(directory.count() == 0);
    CHECK_THROWS_AS((void)address->connect().wait(scope), Exception);
  }
}

TEST_CASE_FIXTURE(IoTest, "a Unix socket that cannot be listened on leaves no file, and is named") {
  const TemporaryDirectory directory;
  const std::string missing = "unix:" + directory.inside("no/such/directory");
  const Exception e = thrownBy([&] { listenOn(*this, missing); });
  CHECK((e.kind() == Exception::Kind::FAILED));
  CHECK((e.code() == std::errc::no_such_file_or_directory));
  CHECK(contains(e.description(), "cannot listen on " + missing));
  const std::string text = "unix:" + directory.inside("socket");
  const auto address = parse(*this, text);
  for (std::size_t spare = 0; spare < 2; ++spare) { // the socket, then its duplicate
    CAPTURE(spare);
    const Exception none = [&] {
      const DescriptorLimit limit(spare);
      return thrownBy([&] { address->listen(); });
    }();
    scope.poll();
    CHECK((none.kind() == Exception::Kind::OVERLOADED));
    CHECK(contains(none.description(), text));
    CHECK(directory.count() == 0);
  }
}

TEST_CASE_FIXTURE(IoTest, "connecting to a Unix socket that is not there, or that nobody listens on, fails and names it (S6, S8)") {
  const TemporaryDirectory directory;
  { const Peer left = plainUnixListener(directory.inside("stale"), 1); }
  const std::string stale = "unix:" + directory.inside("stale");
  const Exception refused = failureOf(parse(*this, stale)->connect(), scope);
  CHECK((refused.kind() == Exception::Kind::DISCONNECTED));
  CHECK((refused.code() == std::errc::connection_refused));
  CHECK(contains(refused.description(), "cannot connect to " + stale));
  CHECK(madeIn(refused, "unix_socket_test.cc"));
  const std::string missing = "unix:" + directory.inside("missing");
  const Exception absent = failureOf(parse(*this, missing)->connect(), scope);
  CHECK((absent.kind() == Exception::Kind::FAILED));
  CHECK((absent.code() == std::errc::no_such_file_or_directory));
  CHECK(contains(absent.description(), missing));
  const auto address = parse(*this, missing);
  const Exception none = [&] {
    const DescriptorLimit limit(0);
    return failureOf(address->connect(), scope);
  }();
  CHECK((none.kind() == Exception::Kind::OVERLOADED));
}

TEST_CASE_FIXTURE(IoTest, "a Unix socket whose queue is full is OVERLOADED, and nobody waits") {
  const TemporaryDirectory directory;
  const Peer listener = plainUnixListener(directory.inside("socket"), 0);
  const auto address = parse(*this, "unix:" + directory.inside("socket"));
  std::vector<StreamPtr> queued;
  for (;;) {
    REQUIRE(queued.size() < 10);
    try {
      queued.push_back(address->connect().wait(scope));
    } catch (const Exception& e) {
      CHECK((e.kind() == Exception::Kind::OVERLOADED));
      CHECK(!queued.empty());
      break;
    }
  }
}

TEST_CASE_FIXTURE(IoTest, "without a single descriptor a Unix receiver pauses and then goes on, the client kept (A1)") {
  const TemporaryDirectory directory;
  const auto receiver = listenOn(*this, "unix:" + directory.inside("socket"));
  Promise<StreamPtr> accept = receiver->accept();
  REQUIRE(!accept.poll(scope));
  Peer client = connectToUnix(SocketAddress::parse(receiver->toString()));
  {
    const DescriptorLimit limit = DescriptorLimit::none();
    for (int i = 0; i < 20; ++i) REQUIRE(!accept.poll(scope));
    CHECK(activeHandles(*this, "pipe") == 0);
    CHECK(activeHandles(*this, "timer") == 1);
  }
  const StreamPtr stream = std::move(accept).wait(scope);
  stream->write("hello").wait(scope);
  CHECK(client.receive(5) == "hello");
}
