// SPDX-License-Identifier: MIT
// Tests of several receivers as one: each gets its turn, and nothing is lost.
#include "../io/temporary_directory.h"
#include "../runtime/helpers.h"
#include "loopback.h"

#include <troth/net/aggregate_receiver.h>
#include <troth/net/peer_identity.h>
#include <troth/runtime/uv/uv_event_port.h>

#include <algorithm>
#include <string>
#include <vector>

using namespace troth;
using namespace troth::test;

namespace {

using ReceiverPtr = std::unique_ptr<ConnectionReceiver>;
using StreamPtr = std::unique_ptr<AsyncIoStream>;

ReceiverPtr aggregate(IoTest& test, std::vector<std::string> texts) {
  std::vector<ReceiverPtr> receivers;
  for (const std::string& text : texts) receivers.push_back(listenOn(test, text));
  return newAggregateReceiver(std::move(receivers));
}

/// Where the `index`th receiver of "a, b" listens.
std::string addressAt(const ConnectionReceiver& receiver, std::size_t index) {
  std::string text = receiver.toString();
  for (; index > 0; --index) text = text.substr(text.find(", ") + 2);
  return text.substr(0, text.find(','));
}

StreamPtr client(IoTest& test, const ConnectionReceiver& receiver, std::size_t index, char name) {
  StreamPtr stream = parse(test, addressAt(receiver, index))->connect().wait(test.scope);
  stream->write(std::string_view(&name, 1)).wait(test.scope);
  return stream;
}

char nameOf(AsyncIoStream& stream, WaitScope& scope) {
  std::byte name;
  stream.read(std::span(&name, 1)).wait(scope);
  return static_cast<char>(name);
}

std::size_t tcpHandles(IoTest& test) {
  std::size_t count = 0;
  const auto add = [](uv_handle_t* handle, void* counted) {
    if (handle->type == UV_TCP && uv_is_closing(handle) == 0) ++*static_cast<std::size_t*>(counted);
  };
  uv_walk(test.io.uvEventPort().uvLoop(), add, &count);
  return count;
}

} // namespace

TEST_CASE_FIXTURE(IoTest, "connections to each of the receivers are accepted, TCP and Unix alike") {
  const TemporaryDirectory directory;
  const ReceiverPtr receiver = aggregate(*this, {"127.0.0.1:0", "[::1]:0", "unix:" + directory.inside("socket")});
  for (const std::size_t index : {2U, 0U, 1U}) {
    CAPTURE(index);
    Promise<StreamPtr> accept = receiver->accept();
    REQUIRE(!accept.poll(scope));
    const StreamPtr stream = client(*this, *receiver, index, 'x');
    CHECK(nameOf(*std::move(accept).wait(scope), scope) == 'x');
  }
}

TEST_CASE_FIXTURE(IoTest, "receivers that have connections at the same time take turns") {
  const ReceiverPtr receiver = aggregate(*this, {"127.0.0.1:0", "127.0.0.1:0"});
  std::vector<StreamPtr> clients;
  for (int i = 0; i < 10; ++i) {
    clients.push_back(client(*this, *receiver, 0, 'a'));
    clients.push_back(client(*this, *receiver, 1, 'b'));
  }
  std::string order;
  for (int i = 0; i < 20; ++i) {
    order += nameOf(*receiver->accept().wait(scope), scope);
    scope.poll();
  }
  CHECK(std::ranges::count(order, 'a') == 10);
  CHECK(order.substr(0, 6).find("aaa") == std::string::npos);
  CHECK(order.substr(0, 6).find("bbb") == std::string::npos);
}

TEST_CASE_FIXTURE(IoTest, "of many receivers none has to wait for more than one turn of each of the others") {
  const ReceiverPtr receiver = aggregate(*this, {"127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"});
  std::vector<StreamPtr> clients;
  for (int i = 0; i < 5; ++i)
    for (const char name : {'a', 'b', 'c', 'd'}) clients.push_back(client(*this, *receiver, static_cast<std::size_t>(name - 'a'), name));
  for (int i = 0; i < 10'000 && tcpHandles(*this) < 4 + 2 * clients.size(); ++i) scope.poll(); // until libuv has all
  for (int i = 0; i < 5; ++i) {
    std::string turns;
    for (int j = 0; j < 4; ++j) turns += nameOf(*receiver->accept().wait(scope), scope);
    std::ranges::sort(turns);
    CHECK(turns == "abcd");
  }
}

TEST_CASE_FIXTURE(IoTest, "a receiver that fails is told, and costs the others no connection") {
  struct Broken final : ConnectionReceiver {
    Promise<StreamPtr> accept(std::source_location where) override {
      return Exception(Exception::Kind::FAILED, "broken", {}, where);
    }
    std::uint16_t getPort() const override { return 0; }
    std::string toString() const override { return "broken"; }
  };
  std::vector<ReceiverPtr> receivers;
  receivers.push_back(std::make_unique<Broken>());
  receivers.push_back(listenOn(*this));
  const ReceiverPtr receiver = newAggregateReceiver(std::move(receivers));
  const StreamPtr stream = client(*this, *receiver, 1, 'x');
  CHECK(failureOf(receiver->accept(), scope).description() == "broken");
  StreamPtr accepted;
  for (int i = 0; i < 100 && accepted == nullptr; ++i) {
    scope.poll();
    Promise<StreamPtr> accept = receiver->accept();
    REQUIRE(accept.poll(scope));
    try {
      accepted = std::move(accept).wait(scope);
    } catch (const Exception&) {
    }
  }
  REQUIRE(accepted != nullptr);
  CHECK(nameOf(*accepted, scope) == 'x');
}

TEST_CASE_FIXTURE(IoTest, "an accept that is cancelled, ready or not, loses no connection") {
  const ReceiverPtr receiver = aggregate(*this, {"127.0.0.1:0", "127.0.0.1:0"});
  { const Promise<StreamPtr> pending = receiver->accept(); }
  const StreamPtr a = client(*this, *receiver, 0, 'a');
  const StreamPtr b = client(*this, *receiver, 1, 'b');
  for (int i = 0; i < 4; ++i) {
    Promise<StreamPtr> ready = receiver->accept();
    REQUIRE(ready.poll(scope));
  }
  std::string names;
  for (int i = 0; i < 2; ++i) names += nameOf(*receiver->accept().wait(scope), scope);
  CHECK((names == "ab" || names == "ba"));
}

TEST_CASE_FIXTURE(IoTest, "the identity of the client comes along, and cancelling loses none") {
  const TemporaryDirectory directory;
  const ReceiverPtr receiver = aggregate(*this, {"127.0.0.1:0", "unix:" + directory.inside("socket")});
  for (const std::size_t index : {0U, 1U}) {
    Promise<AuthenticatedStream> accept = receiver->acceptAuthenticated();
    const StreamPtr stream = client(*this, *receiver, index, 'x');
    const AuthenticatedStream accepted = std::move(accept).wait(scope);
    CHECK((dynamic_cast<NetworkPeerIdentity*>(accepted.peerIdentity.get()) != nullptr) == (index == 0));
  }
  const StreamPtr stream = client(*this, *receiver, 1, 'y');
  for (int i = 0; i < 4; ++i) {
    Promise<AuthenticatedStream> ready = receiver->acceptAuthenticated();
    REQUIRE(ready.poll(scope));
  }
  CHECK(nameOf(*receiver->accept().wait(scope), scope) == 'y');
}

TEST_CASE_FIXTURE(IoTest, "a receiver of several tells all addresses, and a port if it is the same") {
  const ReceiverPtr both = aggregate(*this, {"127.0.0.1:0", "[::1]:0"});
  CHECK(both->getPort() == 0);
  CHECK(!both->descriptor());
  CHECK(both->toString().starts_with("127.0.0.1:"));
  CHECK(contains(both->toString(), ", [::1]:"));
  std::vector<ReceiverPtr> receivers;
  receivers.push_back(parse(*this, "127.0.0.1:0")->listen({.reusePort = true}));
  const std::uint16_t port = receivers[0]->getPort();
  const std::string text = receivers[0]->toString();
  receivers.push_back(parse(*this, text)->listen({.reusePort = true}));
  const ReceiverPtr same = newAggregateReceiver(std::move(receivers));
  CHECK(same->getPort() == port);
  CHECK(same->toString() == text + ", " + text);
  CHECK(aggregate(*this, {"127.0.0.1:0"})->descriptor().has_value());
}

TEST_CASE_FIXTURE(IoTest, "a second accept is refused, and destroying the receiver rejects the first") {
  ReceiverPtr receiver = aggregate(*this, {"127.0.0.1:0", "127.0.0.1:0"});
  Promise<StreamPtr> accept = receiver->accept();
  const Exception misuse = thrownBy([&] { (void)receiver->accept(); });
  CHECK((misuse.kind() == Exception::Kind::FAILED));
  CHECK(madeIn(misuse, "aggregate_receiver_test.cc"));
  REQUIRE(!accept.poll(scope));
  receiver.reset();
  CHECK((failureOf(std::move(accept), scope).kind() == Exception::Kind::DISCONNECTED));
}

TEST_CASE("a receiver of none, or of a null pointer, is refused") {
  CHECK(contains(thrownBy([] { newAggregateReceiver({}); }).description(), "there are no receivers"));
  CHECK(contains(thrownBy([] { newAggregateReceiver(std::vector<ReceiverPtr>(1)); }).description(), "a receiver is null"));
}

namespace {

Promise<void> acceptBoth(IoTest& test) {
  std::vector<ReceiverPtr> receivers;
  for (int i = 0; i < 2; ++i) receivers.push_back((co_await newNetwork(test.io)->parseAddress("127.0.0.1:0"))->listen());
  const ReceiverPtr receiver = newAggregateReceiver(std::move(receivers));
  for (const std::size_t index : {0U, 1U}) {
    const std::string text = addressAt(*receiver, index);
    const auto address = co_await newNetwork(test.io)->parseAddress(text);
    const StreamPtr stream = co_await address->connect();
    const StreamPtr accepted = co_await receiver->accept();
    co_await accepted->write("x");
    const Chunk chunk = co_await stream->tryReadChunk();
    CHECK(chunk.text() == "x");
  }
}

} // namespace

TEST_CASE("accepting from several receivers can be cancelled at every step (R5)") { CHECK(cancelSweep(acceptBoth) > 3); }
