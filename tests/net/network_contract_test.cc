// SPDX-License-Identifier: MIT
// The contracts of Network, NetworkAddress and ConnectionReceiver, each held by every kind of network: in memory, TCP
// and Unix sockets.
#include "../runtime/helpers.h"
#include "network_kinds.h"

#include <troth/net/connection_server.h>
#include <troth/net/peer_identity.h>
#include <troth/runtime/join.h>
#include <troth/runtime/uv/uv_event_port.h>
#include <troth/timers/manual_timer.h>

#include <fmt/format.h>

#include <limits>
#include <optional>
#include <string>
#include <vector>

#include <unistd.h>

using namespace troth;
using namespace troth::test;
using namespace std::chrono_literals;

namespace {

using StreamPtr = std::unique_ptr<AsyncIoStream>;
using AddressPtr = std::unique_ptr<NetworkAddress>;
using ReceiverPtr = std::unique_ptr<ConnectionReceiver>;

constexpr std::string_view HERE = "network_contract_test.cc";

/// Whether both ends hear each other. A write in memory is not done before it is read.
void talk(StreamPair& pair, WaitScope& scope) {
  for (int way = 0; way < 2; ++way) {
    Promise<void> said = pair.left->write("ping");
    CHECK(pair.right->tryReadChunk().wait(scope).text() == "ping");
    std::move(said).wait(scope);
    std::swap(pair.left, pair.right);
  }
}

/// Whether the other end has gone, in order or not.
bool isClosed(NetworkCase& on, AsyncIoStream& stream) {
  try {
    return on.test.io.timer().timeoutAfter(10s, stream.tryReadChunk()).wait(on.scope).empty();
  } catch (const Exception& e) {
    return e.kind() == Exception::Kind::DISCONNECTED;
  }
}

/// Whether nobody is accepted, though there was time for it.
bool staysPending(Promise<StreamPtr>& accept, WaitScope& scope) {
  for (int i = 0; i < 10; ++i)
    if (accept.poll(scope)) return false;
  return true;
}

void untilReady(Promise<StreamPtr>& accept, WaitScope& scope) {
  while (!accept.poll(scope)) {
  }
}

/// A client that says its name as soon as it is connected.
struct NamedClient {
  std::unique_ptr<const std::string> name;
  StreamPtr stream;
  Promise<void> said;

  NamedClient(NetworkCase& on, const ConnectionReceiver& receiver, std::string_view text)
      : name(std::make_unique<const std::string>(text)), stream(on.connectTo(receiver)), said(stream->write(*name)) {}
};

std::string nameOf(AsyncIoStream& stream, WaitScope& scope) {
  return std::string(stream.tryReadChunk().wait(scope).text());
}

std::string withPort(std::string_view host, std::uint16_t port) { return fmt::format("{}:{}", host, port); }

/// What connecting to where nobody listens any more is: the file of a Unix socket goes with its receiver.
void expectNobody(NetworkCase& on, const Exception& e) {
  if (on.kind == AddressKind::UNIX_PATH) {
    CHECK(kindName(e) == "FAILED");
    CHECK((e.code() == std::errc::no_such_file_or_directory));
  } else {
    CHECK(kindName(e) == "DISCONNECTED");
    CHECK((e.code() == std::errc::connection_refused));
  }
}

} // namespace

// ----------------------------------------------------------------------------------------- addresses

TEST_CASE("an address is told as it was given, with its port") {
  onEachNetwork([](NetworkCase& on) {
    on.tested.addHost("host.troth.test", {"127.0.0.1"});
    const struct {
      std::string_view text;
      std::uint16_t defaultPort;
      std::string_view told;
    } rows[] = {
        {"127.0.0.1:7000", 0, "127.0.0.1:7000"},
        {"127.0.0.1:7000", 80, "127.0.0.1:7000"},
        {"127.0.0.1", 0, "127.0.0.1:0"},
        {"[::1]:7000", 0, "[::1]:7000"},
        {"::1", 80, "[::1]:80"},
        {"*:7000", 0, "*:7000"},
        {"*", 80, "*:80"},
        {"host.troth.test:7000", 0, "host.troth.test:7000"},
        {"host.troth.test", 81, "host.troth.test:81"},
        {"unix:/run/x.sock", 80, "unix:/run/x.sock"},
        {"unix-abstract:name", 80, "unix-abstract:name"},
    };
    for (const auto& row : rows) {
      CAPTURE(row.text);
      const AddressPtr address = on.network.parseAddress(row.text, row.defaultPort).wait(on.scope);
      CHECK(address->toString() == row.told);
      CHECK(address->clone()->toString() == row.told);
    }
  });
}

TEST_CASE("text that is no address rejects the promise, not the call, before anybody is asked (N1)") {
  onEachNetwork([](NetworkCase& on) {
    on.tested.addHost("asked.troth.test", {"127.0.0.1"});
    for (const std::string& text :
         {std::string("host:x"), std::string("127.1"), std::string("asked.troth.test\0.x", 19),
          std::string("asked.troth.test:http:80"), std::string(), std::string("unix:")}) {
      CAPTURE(text);
      Promise<AddressPtr> address = on.network.parseAddress(text);
      REQUIRE(address.poll(on.scope));
      const Exception e = failureOf(std::move(address), on.scope);
      CHECK(kindName(e) == "FAILED");
      CHECK(contains(e.description(), "invalid address"));
      CHECK(fileOf(e) == HERE);
    }
    CHECK(on.tested.lookups() == 0);
  });
}

TEST_CASE("a name that does not exist is FAILED and quoted, and a name server that does not answer is OVERLOADED") {
  onEachNetwork([](NetworkCase& on) {
    on.tested.failHost("nowhere.troth.test", LookupErrc::NOT_FOUND);
    const Exception none = failureOf(on.network.parseAddress("nowhere.troth.test:80"), on.scope);
    CHECK(kindName(none) == "FAILED");
    CHECK((none.code() == LookupErrc::NOT_FOUND));
    CHECK(contains(none.description(), "\"nowhere.troth.test\""));
    CHECK(fileOf(none) == HERE);
    on.tested.failHost("busy.troth.test", LookupErrc::UNAVAILABLE);
    const Exception busy = failureOf(on.network.parseAddress("busy.troth.test:80"), on.scope);
    CHECK(kindName(busy) == "OVERLOADED");
    CHECK((busy.code() == LookupErrc::UNAVAILABLE));
    on.tested.failHost("broken.troth.test", LookupErrc::SERVER_FAILED);
    const Exception broken = failureOf(on.network.parseAddress("broken.troth.test:80"), on.scope);
    CHECK(kindName(broken) == "FAILED");
    CHECK((broken.code() == LookupErrc::SERVER_FAILED));
  });
}

TEST_CASE(
    "a clone is as good as its address, when that and the receiver's address are gone, and is not looked up again") {
  onEachNetwork([](NetworkCase& on) {
    const ReceiverPtr receiver = on.listen();
    on.tested.addHost("one.troth.test", {"127.0.0.1"});
    AddressPtr address = on.parse(withPort("one.troth.test", receiver->getPort()));
    const AddressPtr clone = address->clone();
    address = nullptr;
    CHECK(clone->toString() == withPort("one.troth.test", receiver->getPort()));
    CHECK(clone->connect().wait(on.scope) != nullptr);
    CHECK(clone->clone()->connect().wait(on.scope) != nullptr);
    CHECK(on.tested.lookups() == 1);
  });
}

// ----------------------------------------------------------------------------------------- listening

TEST_CASE("a backlog in which nobody can wait is refused") {
  onEachKind([](NetworkCase& on) {
    for (const int backlog : {0, -1, std::numeric_limits<int>::min()}) {
      CAPTURE(backlog);
      const Exception e = thrownBy([&] { on.listen({.backlog = backlog}); });
      CHECK(kindName(e) == "FAILED");
      CHECK(contains(e.description(), fmt::format("cannot listen on {}: the backlog is {}", on.freeText(), backlog)));
    }
  });
}

TEST_CASE("a receiver tells where it listens, and connecting there gives a connection") {
  onEachKind([](NetworkCase& on) {
    const ReceiverPtr receiver = on.listen();
    CHECK((receiver->getPort() != 0) == !on.isUnix());
    CHECK(receiver->toString() == (on.isUnix() ? on.host : withPort(on.host, receiver->getPort())));
    for (int i = 0; i < 3; ++i) {
      StreamPair pair = on.connectedTo(*receiver);
      talk(pair, on.scope);
      pair.left->shutdownWrite();
      CHECK(pair.right->tryReadChunk().wait(on.scope).empty());
    }
  });
}

TEST_CASE("port 0 is each time another free port") {
  onEachIpKind([](NetworkCase& on) {
    const AddressPtr address = on.parse(on.freeText());
    const ReceiverPtr first = address->listen();
    const ReceiverPtr second = address->listen();
    CHECK(first->getPort() != second->getPort());
    StreamPair pair = on.connectedTo(*second);
    talk(pair, on.scope);
  });
}

TEST_CASE("listening on all addresses takes connections over IPv4 and IPv6, and by a name") {
  onEachNetwork([](NetworkCase& on) {
    on.tested.addHost("both.troth.test", {"127.0.0.1", "::1"});
    const ReceiverPtr receiver = on.parse("*:0")->listen();
    REQUIRE(receiver->getPort() != 0);
    CHECK(receiver->toString() == withPort("[::]", receiver->getPort()));
    for (const std::string_view host : {"127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "both.troth.test", "0.0.0.0"}) {
      CAPTURE(host);
      Promise<StreamPtr> accepted = receiver->accept();
      StreamPtr client = on.parse(withPort(host, receiver->getPort()))->connect().wait(on.scope);
      StreamPair pair{std::move(client), std::move(accepted).wait(on.scope)};
      talk(pair, on.scope);
    }
  });
}

TEST_CASE("who asks for IPv6 alone leaves the IPv4 port to another") {
  onEachNetwork([](NetworkCase& on) {
    const ReceiverPtr ipv6 = on.parse("*:0")->listen({.ipv6Only = true});
    const std::string port = std::to_string(ipv6->getPort());
    expectNobody(on, failureOf(on.parse("127.0.0.1:" + port)->connect(), on.scope));
    const ReceiverPtr ipv4 = on.parse("0.0.0.0:" + port)->listen();
    Promise<StreamPtr> onIpv6 = ipv6->accept();
    Promise<StreamPtr> onIpv4 = ipv4->accept();
    const StreamPtr client = on.parse("127.0.0.1:" + port)->connect().wait(on.scope);
    CHECK(std::move(onIpv4).wait(on.scope) != nullptr);
    CHECK(staysPending(onIpv6, on.scope));
  });
}

TEST_CASE("an address that is taken is FAILED, and named with the code (A7)") {
  onEachKind([](NetworkCase& on) {
    const ReceiverPtr receiver = on.listen();
    const std::string text = receiver->toString();
    const AddressPtr address = on.parse(text);
    const Exception e = thrownBy([&] { address->listen(); });
    CHECK(kindName(e) == "FAILED");
    CHECK((e.code() == std::errc::address_in_use));
    CHECK(contains(e.description(), "cannot listen on " + text));
    CHECK(contains(e.description(), "EADDRINUSE"));
    CHECK(fileOf(e) == HERE);
    StreamPair pair = on.connectedTo(*receiver); // which has suffered nothing
    talk(pair, on.scope);
  });
}

TEST_CASE("a port is taken under each name that it has (A7)") {
  onEachNetwork([](NetworkCase& on) {
    on.tested.addHost("taken.troth.test", {"127.0.0.1"});
    const ReceiverPtr receiver = on.listen();
    for (const std::string_view host : {"taken.troth.test", "*", "0.0.0.0"}) {
      CAPTURE(host);
      const std::string text = withPort(host, receiver->getPort());
      const Exception e = thrownBy([&] { on.parse(text)->listen(); });
      CHECK((e.code() == std::errc::address_in_use));
      CHECK(contains(e.description(), "cannot listen on " + text));
    }
    const ReceiverPtr all = on.parse("*:0")->listen();
    const AddressPtr one = on.parse(withPort("127.0.0.1", all->getPort()));
    CHECK((thrownBy([&] { one->listen(); }).code() == std::errc::address_in_use));
  });
}

TEST_CASE("who shares a port must say so, and so must the first (A7)") {
  onEachIpKind([](NetworkCase& on) {
    const ReceiverPtr first = on.listen({.reusePort = true});
    const AddressPtr address = on.parse(first->toString());
    CHECK((thrownBy([&] { address->listen(); }).code() == std::errc::address_in_use));
    const ReceiverPtr second = address->listen({.reusePort = true});
    CHECK(second->getPort() == first->getPort());
    std::size_t came[] = {0, 0};
    Promise<StreamPtr> accepts[] = {first->accept(), second->accept()};
    for (int i = 0; i < 50; ++i) { // either gets some, by whatever rule the system has
      const StreamPtr client = address->connect().wait(on.scope);
      while (!accepts[0].poll(on.scope) && !accepts[1].poll(on.scope)) {
      }
      const std::size_t who = accepts[0].poll(on.scope) ? 0 : 1;
      CHECK(std::move(accepts[who]).wait(on.scope) != nullptr);
      accepts[who] = (who == 0 ? first : second)->accept();
      ++came[who];
    }
    CHECK(came[0] + came[1] == 50);
    CHECK(came[0] > 0);
    CHECK(came[1] > 0);
    const ReceiverPtr alone = on.listen();
    const AddressPtr taken = on.parse(alone->toString());
    CHECK((thrownBy([&] { taken->listen({.reusePort = true}); }).code() == std::errc::address_in_use));
  });
}

TEST_CASE("Unix sockets are not shared") {
  onEachKind([](NetworkCase& on) {
    if (!on.isUnix()) return;
    const AddressPtr address = on.parse(on.host);
    CHECK(kindName(thrownBy([&] { address->listen({.reusePort = true}); })) == "UNIMPLEMENTED");
    CHECK(address->listen() != nullptr); // nothing was left
  });
}

TEST_CASE("an address whose receiver has gone can be listened on again at once (A7)") {
  onEachKind([](NetworkCase& on) {
    ReceiverPtr receiver = on.listen();
    const std::string text = receiver->toString();
    for (int i = 0; i < 3; ++i) {
      {
        StreamPair pair = on.connectedTo(*receiver);
        talk(pair, on.scope);
      }
      receiver = nullptr;
      expectNobody(on, failureOf(on.parse(text)->connect(), on.scope));
      receiver = on.parse(text)->listen();
      CHECK(receiver->toString() == text);
    }
  });
}

// ------------------------------------------------------------------------------------------- accepting

TEST_CASE("an accept completes when a client has connected") {
  onEachKind([](NetworkCase& on) {
    const ReceiverPtr receiver = on.listen();
    Promise<StreamPtr> accept = receiver->accept();
    REQUIRE(staysPending(accept, on.scope));
    const NamedClient client(on, *receiver, "a");
    CHECK(nameOf(*std::move(accept).wait(on.scope), on.scope) == "a");
  });
}

TEST_CASE("an accept never completes inside the call, even if a client waits") {
  onEachKind([](NetworkCase& on) {
    const ReceiverPtr receiver = on.listen();
    const StreamPtr client = on.connectTo(*receiver);
    on.scope.poll();
    bool taken = false;
    Promise<void> then = receiver->accept().then([&](StreamPtr) { taken = true; }).eagerlyEvaluate(nullptr);
    CHECK(!taken);
    std::move(then).wait(on.scope);
    CHECK(taken);
  });
}

TEST_CASE("clients that come before they are accepted are accepted in their order") {
  onEachKind([](NetworkCase& on) {
    const ReceiverPtr receiver = on.listen();
    std::vector<NamedClient> clients;
    for (int i = 0; i < 50; ++i) clients.emplace_back(on, *receiver, std::to_string(i));
    for (int i = 0; i < 50; ++i) CHECK(nameOf(*receiver->accept().wait(on.scope), on.scope) == std::to_string(i));
    Promise<StreamPtr> accept = receiver->accept();
    CHECK(staysPending(accept, on.scope));
  });
}

TEST_CASE("a cancelled accept consumes nothing: the next one gets the connection (R5)") {
  onEachKind([](NetworkCase& on) {
    const ReceiverPtr receiver = on.listen();
    {
      Promise<StreamPtr> accept = receiver->accept();
      REQUIRE(!accept.poll(on.scope));
    }
    const NamedClient client(on, *receiver, "a");
    on.scope.poll();
    CHECK(nameOf(*receiver->accept().wait(on.scope), on.scope) == "a");
  });
}

TEST_CASE("an accept that is cancelled when its connection is there loses nothing, and the order stays (R5)") {
  onEachKind([](NetworkCase& on) {
    const ReceiverPtr receiver = on.listen();
    std::vector<NamedClient> clients;
    for (const char* name : {"a", "b", "c"}) clients.emplace_back(on, *receiver, name);
    for (int i = 0; i < 5; ++i) {
      Promise<StreamPtr> accept = receiver->accept();
      untilReady(accept, on.scope);
    }
    {
      Promise<AuthenticatedStream> accept = receiver->acceptAuthenticated();
      while (!accept.poll(on.scope)) {
      }
    }
    for (const char* name : {"a", "b", "c"}) CHECK(nameOf(*receiver->accept().wait(on.scope), on.scope) == name);
  });
}

TEST_CASE("a time-out that fires in the same turn as a connection comes loses no connection (R5)") {
  onEachKind([](NetworkCase& on) {
    for (const bool timeIsFirst : {false, true}) {
      CAPTURE(timeIsFirst);
      ManualTimer timer;
      const ReceiverPtr receiver = on.listen();
      const AddressPtr address = on.parse(receiver->toString());
      Promise<StreamPtr> accept = timer.timeoutAfter(1s, receiver->accept());
      REQUIRE(!accept.poll(on.scope));
      if (timeIsFirst) timer.advanceBy(1s);
      Promise<StreamPtr> connecting = address->connect();
      for (int i = 0; i < 10; ++i) on.test.io.uvEventPort().poll(); // it comes; no turn of the loop meanwhile
      if (!timeIsFirst) timer.advanceBy(1s);
      int accepted = 0;
      try {
        CHECK(std::move(accept).wait(on.scope) != nullptr);
        ++accepted;
      } catch (const Exception& e) {
        CHECK(kindName(e) == "OVERLOADED");
        CHECK(receiver->accept().wait(on.scope) != nullptr);
        ++accepted;
      }
      CHECK(accepted == 1);
      CHECK(std::move(connecting).wait(on.scope) != nullptr);
    }
  });
}

TEST_CASE("an accept while another is pending, or not taken, is refused, and that one goes on") {
  onEachKind([](NetworkCase& on) {
    const ReceiverPtr receiver = on.listen();
    Promise<StreamPtr> accept = receiver->accept();
    const Exception e = thrownBy([&] { (void)receiver->accept(); });
    CHECK(kindName(e) == "FAILED");
    CHECK(contains(e.description(), "another accept"));
    CHECK(fileOf(e) == HERE);
    const NamedClient client(on, *receiver, "a");
    untilReady(accept, on.scope);
    CHECK(contains(thrownBy([&] { (void)receiver->accept(); }).description(), "not been taken"));
    CHECK(contains(thrownBy([&] { (void)receiver->acceptAuthenticated(); }).description(), "not been taken"));
    CHECK(nameOf(*std::move(accept).wait(on.scope), on.scope) == "a");
    Promise<StreamPtr> next = receiver->accept();
    CHECK(staysPending(next, on.scope));
  });
}

TEST_CASE("accepting may go on inside of what accepts, for ever") {
  onEachKind([](NetworkCase& on) {
    struct Loop {
      ConnectionReceiver& receiver;
      int left;
      Promise<void> run() {
        return receiver.accept().then([this](StreamPtr) -> Promise<void> {
          if (--left == 0) return READY_NOW;
          return run();
        });
      }
    };
    const ReceiverPtr receiver = on.listen();
    Loop loop{*receiver, 20};
    Promise<void> accepting = loop.run();
    for (int i = 0; i < 20; ++i) {
      CHECK(!accepting.poll(on.scope));
      CHECK(on.connectTo(*receiver) != nullptr);
    }
    std::move(accepting).wait(on.scope);
  });
}

TEST_CASE("a receiver that is destroyed under a pending accept rejects it (R9)") {
  onEachKind([](NetworkCase& on) {
    ReceiverPtr receiver = on.listen();
    const std::string name = on.isUnix() ? receiver->toString() : on.freeText();
    Promise<StreamPtr> accept = receiver->accept();
    REQUIRE(!accept.poll(on.scope));
    receiver = nullptr;
    REQUIRE(accept.poll(on.scope));
    const Exception e = failureOf(std::move(accept), on.scope);
    CHECK(kindName(e) == "DISCONNECTED");
    CHECK(contains(e.description(), "receiver was destroyed"));
    CHECK(contains(e.description(), "accepting on " + name));
    CHECK(fileOf(e) == HERE);
  });
}

TEST_CASE("an accept's promise may be dropped after its receiver, pending or ready (R9)") {
  onEachKind([](NetworkCase& on) {
    for (const bool ready : {false, true}) {
      CAPTURE(ready);
      ReceiverPtr receiver = on.listen();
      StreamPtr client;
      {
        Promise<StreamPtr> accept = receiver->accept();
        if (ready) {
          client = on.connectTo(*receiver);
          untilReady(accept, on.scope);
        }
        receiver = nullptr;
        on.scope.poll();
      }
      if (ready) CHECK(isClosed(on, *client));
    }
  });
}

TEST_CASE("a receiver that goes takes with it whom nobody has accepted, but not whom an accept has") {
  onEachKind([](NetworkCase& on) {
    ReceiverPtr receiver = on.listen();
    std::vector<NamedClient> clients;
    for (const char* name : {"a", "b", "c"}) clients.emplace_back(on, *receiver, name);
    Promise<StreamPtr> accept = receiver->accept();
    untilReady(accept, on.scope);
    receiver = nullptr;
    CHECK(isClosed(on, *clients[1].stream));
    CHECK(isClosed(on, *clients[2].stream));
    CHECK(nameOf(*std::move(accept).wait(on.scope), on.scope) == "a");
  });
}

TEST_CASE("a continuation of an accept may destroy the receiver, which connections outlive") {
  onEachKind([](NetworkCase& on) {
    ReceiverPtr receiver = on.listen();
    StreamPtr client = on.connectTo(*receiver);
    Promise<StreamPtr> accept = receiver->accept().then([&](StreamPtr stream) {
      receiver = nullptr;
      return stream;
    });
    StreamPair pair{std::move(client), std::move(accept).wait(on.scope)};
    CHECK(receiver == nullptr);
    on.scope.poll();
    talk(pair, on.scope);
  });
}

// ---------------------------------------------------------------------------------------- connecting

TEST_CASE("connecting to where nobody listens fails and names the address (S6)") {
  onEachKind([](NetworkCase& on) {
    const std::string text = on.listen()->toString(); // not any more
    const Exception e = failureOf(on.parse(text)->connect(), on.scope);
    expectNobody(on, e);
    CHECK(contains(e.description(), "cannot connect to " + text + ": " + text + ": "));
    CHECK(contains(e.description(), on.kind == AddressKind::UNIX_PATH ? "ENOENT" : "ECONNREFUSED"));
    CHECK(fileOf(e) == HERE);
  });
}

TEST_CASE("a connect never completes inside the call") {
  onEachKind([](NetworkCase& on) {
    const ReceiverPtr receiver = on.listen();
    const AddressPtr address = on.parse(receiver->toString());
    bool connected = false;
    Promise<void> then = address->connect().then([&](StreamPtr) { connected = true; }).eagerlyEvaluate(nullptr);
    CHECK(!connected);
    std::move(then).wait(on.scope);
    CHECK(connected);
  });
}

TEST_CASE("connecting to all addresses or to no port is refused as a misuse") {
  onEachNetwork([](NetworkCase& on) {
    const AddressPtr all = on.parse("*:7000");
    const Exception wildcard = thrownBy([&] { (void)all->connect(); });
    CHECK(kindName(wildcard) == "FAILED");
    CHECK(contains(wildcard.description(), "*:7000"));
    CHECK(contains(wildcard.description(), "for listening"));
    CHECK(fileOf(wildcard) == HERE);
    CHECK(contains(thrownBy([&] { (void)all->connectAuthenticated(); }).description(), "for listening"));
    const AddressPtr none = on.parse("127.0.0.1");
    const Exception portless = thrownBy([&] { (void)none->connect(); });
    CHECK(kindName(portless) == "FAILED");
    CHECK(contains(portless.description(), "no port"));
    CHECK(fileOf(portless) == HERE);
  });
}

TEST_CASE("the address may go while a connection is made") {
  onEachKind([](NetworkCase& on) {
    const ReceiverPtr receiver = on.listen();
    Promise<StreamPtr> accepted = receiver->accept();
    AddressPtr address = on.network.restrictPeers({"0.0.0.0/0", "::/0", "unix", "unix-abstract"})
                             ->parseAddress(receiver->toString())
                             .wait(on.scope); // of a network that has gone
    Promise<StreamPtr> connecting = address->connect();
    address = nullptr;
    StreamPair pair{std::move(connecting).wait(on.scope), std::move(accepted).wait(on.scope)};
    talk(pair, on.scope);
  });
}

TEST_CASE("one address makes many connections, also at the same time") {
  onEachKind([](NetworkCase& on) {
    const ReceiverPtr receiver = on.listen();
    const AddressPtr address = on.parse(receiver->toString());
    std::vector<Promise<StreamPtr>> connecting;
    for (int i = 0; i < 100; ++i) connecting.push_back(address->connect());
    std::vector<StreamPair> pairs;
    for (Promise<StreamPtr>& promise : connecting) pairs.push_back({std::move(promise).wait(on.scope), nullptr});
    std::vector<StreamPtr> servers;
    for (int i = 0; i < 100; ++i) servers.push_back(receiver->accept().wait(on.scope));
    // Who belongs to whom is found out by talking.
    std::vector<Promise<void>> said;
    std::vector<std::string> names;
    for (int i = 0; i < 100; ++i) names.push_back(std::to_string(i));
    for (std::size_t i = 0; i < 100; ++i) said.push_back(pairs[i].left->write(names[i]));
    for (StreamPtr& server : servers) {
      const auto number = static_cast<std::size_t>(std::stoi(nameOf(*server, on.scope)));
      REQUIRE(pairs.at(number).right == nullptr);
      pairs[number].right = std::move(server);
    }
    for (Promise<void>& promise : said) std::move(promise).wait(on.scope);
    for (StreamPair& pair : pairs) talk(pair, on.scope);
  });
}

TEST_CASE("a connection that is cancelled when it was made is closed, and the next one is accepted (R5)") {
  onEachKind([](NetworkCase& on) {
    const ReceiverPtr receiver = on.listen();
    Promise<StreamPtr> accepted = receiver->accept();
    {
      Promise<StreamPtr> connecting = on.parse(receiver->toString())->connect();
      untilReady(connecting, on.scope);
    }
    const StreamPtr server = std::move(accepted).wait(on.scope);
    CHECK(isClosed(on, *server));
    StreamPair pair = on.connectedTo(*receiver);
    talk(pair, on.scope);
  });
}

TEST_CASE("the addresses of a name are tried in turn until one accepts (S6)") {
  onEachNetwork([](NetworkCase& on) {
    on.tested.addHost("two.troth.test", {"::1", "127.0.0.1"});
    const ReceiverPtr receiver = on.listen(); // on the second alone
    Promise<StreamPtr> accepted = receiver->accept();
    StreamPtr client = on.parse(withPort("two.troth.test", receiver->getPort()))->connect().wait(on.scope);
    StreamPair pair{std::move(client), std::move(accepted).wait(on.scope)};
    talk(pair, on.scope);
  });
}

TEST_CASE("if all addresses of a name refuse, the text lists each with its reason (S6)") {
  onEachNetwork([](NetworkCase& on) {
    on.tested.addHost("two.troth.test", {"127.0.0.1", "::1"});
    const std::uint16_t port = on.listen()->getPort(); // not any more
    const std::string name = withPort("two.troth.test", port);
    const Exception e = failureOf(on.parse(name)->connect(), on.scope);
    CHECK(kindName(e) == "DISCONNECTED");
    CHECK((e.code() == std::errc::connection_refused));
    CHECK(e.description() == fmt::format("cannot connect to {}: 127.0.0.1:{}: connection refused (ECONNREFUSED); "
                                         "[::1]:{}: connection refused (ECONNREFUSED)",
                                         name, port, port));
  });
}

// -------------------------------------------------------------------------------------------- identity

TEST_CASE("both sides of a connection know who is at the other end") {
  onEachKind([](NetworkCase& on) {
    const ReceiverPtr receiver = on.listen();
    Promise<AuthenticatedStream> accepted = receiver->acceptAuthenticated();
    AuthenticatedStream client = on.parse(receiver->toString())->connectAuthenticated().wait(on.scope);
    AuthenticatedStream server = std::move(accepted).wait(on.scope);
    if (on.isUnix()) {
      for (const AuthenticatedStream* end : {&client, &server}) {
        const auto* process = dynamic_cast<const LocalPeerIdentity*>(end->peerIdentity.get());
        REQUIRE(process != nullptr);
        CHECK((process->credentials().process == ::getpid()));
        CHECK(process->credentials().user == ::getuid());
        CHECK(process->credentials().group == ::getgid());
      }
    } else {
      const auto* there = dynamic_cast<const NetworkPeerIdentity*>(client.peerIdentity.get());
      const auto* here = dynamic_cast<const NetworkPeerIdentity*>(server.peerIdentity.get());
      REQUIRE(there != nullptr);
      REQUIRE(here != nullptr);
      CHECK(there->toString() == receiver->toString());
      CHECK(here->toString() == withPort(on.host, here->address().port()));
      CHECK(here->address().port() >= 1024);
      CHECK(here->address().port() != receiver->getPort());
    }
    StreamPair pair{std::move(client.stream), std::move(server.stream)};
    talk(pair, on.scope);
  });
}

TEST_CASE("an IPv4 client of a receiver on all addresses is known by its IPv4 address inside of an IPv6 one") {
  onEachNetwork([](NetworkCase& on) {
    const ReceiverPtr receiver = on.parse("*:0")->listen();
    Promise<AuthenticatedStream> accepted = receiver->acceptAuthenticated();
    const StreamPtr client = on.parse(withPort("127.0.0.1", receiver->getPort()))->connect().wait(on.scope);
    CHECK(std::move(accepted).wait(on.scope).peerIdentity->toString().starts_with("[::ffff:127.0.0.1]:"));
  });
}

TEST_CASE("an authenticated accept fails as the other does") {
  onEachKind([](NetworkCase& on) {
    ReceiverPtr receiver = on.listen();
    Promise<AuthenticatedStream> accept = receiver->acceptAuthenticated();
    CHECK(contains(thrownBy([&] { (void)receiver->accept(); }).description(), "another accept"));
    const AddressPtr address = on.parse(receiver->toString());
    receiver = nullptr;
    CHECK(kindName(failureOf(std::move(accept), on.scope)) == "DISCONNECTED");
    expectNobody(on, failureOf(address->connectAuthenticated(), on.scope));
  });
}

// --------------------------------------------------------------------------------------- restrictPeers

TEST_CASE("an address that is not allowed is not connected to, and named") {
  onEachKind([](NetworkCase& on) {
    const ReceiverPtr receiver = on.listen();
    const std::string text = receiver->toString();
    const auto restricted = on.network.restrictPeers({"public"});
    const Exception e = failureOf(restricted->parseAddress(text).wait(on.scope)->connect(), on.scope);
    CHECK(kindName(e) == "FAILED");
    CHECK((e.code() == std::errc::permission_denied));
    CHECK(e.description() ==
          "cannot connect to " + text + ": " + text + ": restrictPeers() does not allow this address");
    CHECK(fileOf(e) == HERE);
    Promise<StreamPtr> accept = receiver->accept();
    CHECK(staysPending(accept, on.scope));
  });
}

TEST_CASE("a second restriction does not widen the first") {
  onEachKind([](NetworkCase& on) {
    const ReceiverPtr receiver = on.listen();
    const auto restricted =
        on.network.restrictPeers({"public"})->restrictPeers({"local", "unix", "unix-abstract", "0.0.0.0/0", "::/0"});
    const AddressPtr address = restricted->parseAddress(receiver->toString()).wait(on.scope);
    CHECK((failureOf(address->connect(), on.scope).code() == std::errc::permission_denied));
  });
}

TEST_CASE("a name that resolves inside is refused, for the resolved address is judged (N2)") {
  onEachNetwork([](NetworkCase& on) {
    const ReceiverPtr receiver = on.parse("*:0")->listen();
    const auto restricted = on.network.restrictPeers({"public"});
    const std::string name = withPort("rebound.troth.test", receiver->getPort());
    for (const std::string address :
         {"127.0.0.1", "::1", "::ffff:127.0.0.1", "0.0.0.0", "169.254.169.254", "64:ff9b::7f00:1"}) {
      CAPTURE(address);
      on.tested.addHost("rebound.troth.test", {address});
      const Exception e = failureOf(restricted->parseAddress(name).wait(on.scope)->connect(), on.scope);
      CHECK((e.code() == std::errc::permission_denied));
      CHECK(contains(e.description(), "cannot connect to " + name));
      CHECK(contains(e.description(), address));
    }
    Promise<StreamPtr> accept = receiver->accept();
    CHECK(staysPending(accept, on.scope));
  });
}

TEST_CASE("clients that are not allowed are closed at once, and accepting goes on") {
  onEachNetwork([](NetworkCase& on) {
    const auto restricted = on.network.restrictPeers({"::/0"}, {"127.0.0.0/8"});
    const ReceiverPtr receiver = restricted->parseAddress("*:0").wait(on.scope)->listen();
    Promise<StreamPtr> accept = receiver->accept();
    for (int i = 0; i < 50; ++i) { // comes as ::ffff:127.0.0.1
      const StreamPtr refused = on.parse(withPort("127.0.0.1", receiver->getPort()))->connect().wait(on.scope);
      REQUIRE(!accept.poll(on.scope));
      CHECK(isClosed(on, *refused));
    }
    StreamPtr allowed = on.parse(withPort("[::1]", receiver->getPort()))->connect().wait(on.scope);
    StreamPair pair{std::move(allowed), std::move(accept).wait(on.scope)};
    talk(pair, on.scope);
  });
}

TEST_CASE("listening is refused where no peer could be allowed") {
  onEachKind([](NetworkCase& on) {
    const std::vector<std::string> others =
        on.isUnix() ? std::vector<std::string>{"public", "local"} : std::vector<std::string>{"unix", "unix-abstract"};
    const auto restricted = on.network.restrictPeers(others);
    const AddressPtr address = restricted->parseAddress(on.freeText()).wait(on.scope);
    const Exception e = thrownBy([&] { address->listen(); });
    CHECK(kindName(e) == "FAILED");
    CHECK((e.code() == std::errc::permission_denied));
    CHECK(contains(e.description(), "cannot listen on " + on.freeText()));
    CHECK(fileOf(e) == HERE);
    const auto open = on.network.restrictPeers({"local", "unix", "unix-abstract"});
    const ReceiverPtr receiver = open->parseAddress(on.freeText()).wait(on.scope)->listen();
    StreamPair pair = on.connectedTo(*receiver);
    talk(pair, on.scope);
  });
}

TEST_CASE("an item that is no rule is refused and quoted, with the place of the caller") {
  onEachNetwork([](NetworkCase& on) {
    const Exception e = thrownBy([&] { on.network.restrictPeers({"public", "everyone"}); });
    CHECK(kindName(e) == "FAILED");
    CHECK(contains(e.description(), "\"everyone\""));
    CHECK(fileOf(e) == HERE);
    const auto restricted = on.network.restrictPeers({"public"});
    CHECK(contains(thrownBy([&] { restricted->restrictPeers({}, {"nobody"}); }).description(), "\"nobody\""));
  });
}

// ------------------------------------------------------------------------------------ ConnectionServer

namespace {

Promise<void> echo(StreamPtr client) {
  for (;;) {
    const Chunk bytes = co_await client->tryReadChunk();
    if (bytes.empty()) co_return;
    co_await client->write(bytes);
  }
}

/// Asks a server of echoes.
Promise<void> ask(AsyncIoStream& stream) {
  std::string answer(2, '.');
  Promise<void> sent = stream.write("hi");
  co_await stream.read(bufferOf(answer));
  co_await std::move(sent);
  CHECK(answer == "hi");
}

} // namespace

TEST_CASE("a server on any network serves so many at a time, the next one when a place is free, and drains (A5, A6)") {
  onEachKind([](NetworkCase& on) {
    ManualTimer timer;
    FailOnError failures;
    ConnectionServer server(echo, failures, 2);
    ReceiverPtr receiver = on.listen();
    const AddressPtr address = on.parse(receiver->toString());
    Promise<void> serving = server.serve(std::move(receiver));
    StreamPtr first = address->connect().wait(on.scope);
    const StreamPtr second = address->connect().wait(on.scope);
    ask(*first).wait(on.scope);
    ask(*second).wait(on.scope);
    const StreamPtr third = address->connect().wait(on.scope);
    Promise<void> answered = ask(*third);
    for (int i = 0; i < 10; ++i) REQUIRE(!answered.poll(on.scope));
    CHECK(server.connections() == 2);
    first = nullptr;
    std::move(answered).wait(on.scope);

    Promise<std::size_t> drained = server.drain(timer, 5s);
    CHECK(!drained.poll(on.scope));
    std::move(serving).wait(on.scope);
    expectNobody(on, failureOf(address->connect(), on.scope));
    ask(*second).wait(on.scope);
    second->shutdownWrite();
    CHECK(isClosed(on, *second));
    timer.advanceBy(4s);
    CHECK(!drained.poll(on.scope));
    timer.advanceBy(1s); // the grace period is over
    CHECK(std::move(drained).wait(on.scope) == 1);
    CHECK(isClosed(on, *third));
  });
}

TEST_CASE("a server that is destroyed takes its connections and its port with it") {
  onEachKind([](NetworkCase& on) {
    FailOnError failures;
    std::optional<ConnectionServer> server(std::in_place, echo, failures);
    ReceiverPtr receiver = on.listen();
    const AddressPtr address = on.parse(receiver->toString());
    Promise<void> serving = server->serve(std::move(receiver));
    const StreamPtr client = address->connect().wait(on.scope);
    ask(*client).wait(on.scope);
    server.reset();
    CHECK(isClosed(on, *client));
    CHECK(kindName(failureOf(std::move(serving), on.scope)) == "DISCONNECTED");
    expectNobody(on, failureOf(address->connect(), on.scope));
  });
}

// --------------------------------------------------------------------------------- at every step (R5)

namespace {

Promise<void> serveOne(ConnectionReceiver& receiver) { co_await echo(co_await receiver.accept()); }

Promise<void> conversation(NetworkCase& on) {
  const AddressPtr address = co_await on.network.parseAddress(on.freeText());
  const ReceiverPtr receiver = address->listen();
  Promise<void> server = serveOne(*receiver).eagerlyEvaluate(nullptr);
  const AddressPtr target = co_await on.network.parseAddress(receiver->toString());
  {
    const StreamPtr client = co_await on.test.io.timer().timeoutAfter(1h, target->connect());
    co_await ask(*client);
    client->shutdownWrite();
    const Chunk end = co_await client->tryReadChunk();
    CHECK(end.empty());
  }
  co_await std::move(server);
}

Promise<void> crowd(NetworkCase& on) {
  FailOnError failures;
  ConnectionServer server(echo, failures, 2);
  const AddressPtr address = co_await on.network.parseAddress(on.freeText());
  ReceiverPtr receiver = address->listen();
  const AddressPtr target = co_await on.network.parseAddress(receiver->toString());
  Promise<void> serving = server.serve(std::move(receiver));
  std::vector<Promise<void>> clients;
  for (int i = 0; i < 4; ++i)
    clients.push_back(target->connectAuthenticated().then([](AuthenticatedStream connection) {
      Promise<void> asked = ask(*connection.stream);
      return std::move(asked).attach(std::move(connection.stream));
    }));
  co_await joinPromisesFailFast(std::move(clients));
  co_await server.drain(on.test.io.timer(), 1h);
  co_await std::move(serving);
}

Promise<void> nobodyThere(NetworkCase& on) {
  const AddressPtr address = co_await on.network.parseAddress(on.freeText());
  ReceiverPtr receiver = address->listen();
  const AddressPtr target = co_await on.network.parseAddress(receiver->toString());
  receiver = nullptr;
  try {
    const StreamPtr stream = co_await target->connect();
    FAIL("connected");
  } catch (const Exception& e) {
    expectNobody(on, e);
  }
}

} // namespace

TEST_CASE("listening, connecting, an echo and closing can be cancelled at every step (R5)") {
  cancelOnEachKind(conversation);
}

TEST_CASE("a server with more clients than places can be cancelled at every step (R5)") { cancelOnEachKind(crowd); }

TEST_CASE("connecting to where nobody listens can be cancelled at every step (R5)") { cancelOnEachKind(nobodyThere); }
