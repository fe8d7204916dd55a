// SPDX-License-Identifier: MIT
// Tests of what only the network in memory has: latency, silence, resets at a byte, a table of hosts, and a time that
// the test moves. The contracts that it shares with all networks are in network_contract_test.cc.
#include "../io/peer.h"
#include "../runtime/helpers.h"

#include <troth/io/pipe.h>
#include <troth/net/peer_identity.h>
#include <troth/net/testing.h>
#include <troth/runtime/join.h>
#include <troth/timers/manual_timer.h>

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <optional>
#include <string>
#include <vector>

using namespace troth;
using namespace troth::test;
using namespace std::chrono_literals;

namespace {

using StreamPtr = std::unique_ptr<AsyncIoStream>;
using AddressPtr = std::unique_ptr<NetworkAddress>;
using ReceiverPtr = std::unique_ptr<ConnectionReceiver>;
using Direction = MemoryNetwork::Direction;
using Connections = MemoryNetwork::Connections;

/// A network on a loop without a world.
struct MemoryNetworkTest : LoopTest {
  ManualTimer timer;
  MemoryNetwork network{timer};
  TimePoint start = timer.now();

  AddressPtr parse(std::string_view text) { return network.parseAddress(text).wait(scope); }
  ReceiverPtr listen(std::string_view text, ListenOptions options = ListenOptions()) {
    return parse(text)->listen(options);
  }
  StreamPtr connect(std::string_view text) { return parse(text)->connect().wait(scope); }
  StreamPair connectedPair(ConnectionReceiver& receiver) {
    Promise<StreamPtr> accepted = receiver.accept();
    StreamPtr client = connect(receiver.toString());
    return {std::move(client), std::move(accepted).wait(scope)};
  }
  Duration elapsed() const { return timer.now() - start; }

  /// Lets time pass until `promise` is ready; returns how long that took.
  template <typename T>
  Duration passTime(Promise<T>& promise) {
    const TimePoint begin = timer.now();
    while (!promise.poll(scope)) {
      REQUIRE(timer.nextEvent());
      timer.advanceTo(*timer.nextEvent());
    }
    return timer.now() - begin;
  }
};

bool isReset(const Exception& e) {
  return e.kind() == Exception::Kind::DISCONNECTED && e.code() == std::errc::connection_reset;
}

std::string addressOf(const AuthenticatedStream& connection) {
  return dynamic_cast<const NetworkPeerIdentity&>(*connection.peerIdentity).address().toString();
}

} // namespace

// ------------------------------------------------------------------------------------------------ names

TEST_CASE_FIXTURE(MemoryNetworkTest, "names are those of the test, and localhost; others do not exist") {
  network.addHost("db.example", {"10.0.0.1"});
  const ReceiverPtr db = listen("10.0.0.1:5432");
  const ReceiverPtr local = listen("127.0.0.1:80");
  for (const std::string_view text : {"db.example:5432", "DB.Example:5432", "db.example.:5432"}) {
    CAPTURE(text);
    CHECK(connect(text) != nullptr);
    CHECK(db->accept().wait(scope) != nullptr);
  }
  CHECK(connect("localhost:80") != nullptr);
  CHECK(network.lookups() == 4);
  const Exception e = failureOf(network.parseAddress("web.example:80"), scope);
  CHECK(kindName(e) == "FAILED");
  CHECK((e.code() == LookupErrc::NOT_FOUND));
  CHECK(contains(e.description(), "looking up host \"web.example\""));
  CHECK(fileOf(e) == "testing_test.cc");
  network.addHost("web.example", {"10.0.0.2"});
  CHECK(parse("web.example:80")->toString() == "web.example:80");
  CHECK(network.lookups() == 6);
}

TEST_CASE_FIXTURE(MemoryNetworkTest,
                  "a name may mean something else later, but not for an address that was made before") {
  network.addHost("db.example", {"10.0.0.1"});
  const AddressPtr before = parse("db.example:80");
  network.addHost("db.example", {"10.0.0.2"});
  const ReceiverPtr second = listen("10.0.0.2:80");
  CHECK(connect("db.example:80") != nullptr);
  CHECK(contains(failureOf(before->connect(), scope).description(), "10.0.0.1:80: connection refused"));
  network.failHost("db.example", LookupErrc::SERVER_FAILED);
  CHECK((failureOf(network.parseAddress("db.example:80"), scope).code() == LookupErrc::SERVER_FAILED));
}

TEST_CASE_FIXTURE(MemoryNetworkTest, "a look-up takes as long as the test says, and is cancelled with its promise") {
  network.addHost("db.example", {"10.0.0.1"}).setLookupDelay(40ms);
  Promise<AddressPtr> address = network.parseAddress("db.example:80");
  CHECK(passTime(address) == 40ms);
  Promise<AddressPtr> missing = network.parseAddress("web.example:80");
  CHECK(passTime(missing) == 40ms);
  CHECK((failureOf(std::move(missing), scope).code() == LookupErrc::NOT_FOUND));
  { const Promise<AddressPtr> dropped = network.parseAddress("db.example:80"); }
  CHECK(!timer.nextEvent());
  CHECK(network.lookups() == 3);
  CHECK(network.parseAddress("10.0.0.1:80").poll(scope)); // is not looked up
  const Exception late = failureOf(timer.timeoutAfter(0ms, network.parseAddress("db.example:80")), scope);
  CHECK(kindName(late) == "OVERLOADED");
}

// ---------------------------------------------------------------------------------------- destinations

TEST_CASE_FIXTURE(MemoryNetworkTest,
                  "every address can be listened on, free ports count up, and Unix sockets make no file") {
  CHECK(listen("203.0.113.77:80")->toString() == "203.0.113.77:80");
  CHECK(listen("203.0.113.77:0")->getPort() == 49152);
  const ReceiverPtr taken = listen("[2001:db8::7]:49153");
  CHECK(listen("[2001:db8::7]:0")->getPort() == 49154);
  CHECK(listen("[2001:db8::8]:0")->getPort() == 49155);
  const ReceiverPtr socket = listen("unix:/no/such/directory/socket");
  CHECK(connect("unix:/no/such/directory/socket") != nullptr);
}

TEST_CASE_FIXTURE(MemoryNetworkTest, "a receiver on one address is preferred to one on all, and gets nobody else") {
  const ReceiverPtr all = listen("0.0.0.0:80", {.reusePort = true});
  const ReceiverPtr one = listen("10.0.0.1:80", {.reusePort = true});
  Promise<StreamPtr> byAll = all->accept();
  Promise<StreamPtr> byOne = one->accept();
  const StreamPtr first = connect("10.0.0.1:80");
  CHECK(!byAll.poll(scope));
  CHECK(byOne.poll(scope));
  const StreamPtr second = connect("10.0.0.2:80");
  CHECK(byAll.poll(scope));
}

TEST_CASE_FIXTURE(MemoryNetworkTest, "those who share a port get the connections in turn") {
  const ReceiverPtr receivers[] = {listen("10.0.0.1:80", {.reusePort = true}),
                                   listen("10.0.0.1:80", {.reusePort = true}),
                                   listen("10.0.0.1:80", {.reusePort = true})};
  std::vector<StreamPtr> clients;
  for (int i = 0; i < 6; ++i) clients.push_back(connect("10.0.0.1:80"));
  for (int round = 0; round < 2; ++round)
    for (const ReceiverPtr& receiver : receivers) CHECK(receiver->accept().poll(scope));
  for (const ReceiverPtr& receiver : receivers)
    for (int i = 0; i < 2; ++i) CHECK(receiver->accept().wait(scope) != nullptr);
  for (const ReceiverPtr& receiver : receivers) CHECK(!receiver->accept().poll(scope));
}

TEST_CASE_FIXTURE(MemoryNetworkTest, "connecting takes the latency of its destination, also if it is refused") {
  network.setLatency("10.0.0.1", 30ms).setLatency("10.0.0.1:80", 50ms).setLatency("unix:/run/x.sock", 1ms);
  const ReceiverPtr web = listen("10.0.0.1:80");
  const ReceiverPtr other = listen("10.0.0.1:81");
  const ReceiverPtr near = listen("10.0.0.2:80");
  const ReceiverPtr local = listen("unix:/run/x.sock");
  const struct {
    std::string_view text;
    Duration latency;
  } rows[] = {{"10.0.0.1:80", 50ms}, {"10.0.0.1:81", 30ms}, {"10.0.0.2:80", 0ms}, {"unix:/run/x.sock", 1ms}};
  for (const auto& row : rows) {
    CAPTURE(row.text);
    Promise<StreamPtr> connecting = parse(row.text)->connect();
    CHECK(passTime(connecting) == row.latency);
    CHECK(std::move(connecting).wait(scope) != nullptr);
  }
  Promise<StreamPtr> refused = parse("10.0.0.1:82")->connect();
  CHECK(passTime(refused) == 30ms);
  CHECK((failureOf(std::move(refused), scope).code() == std::errc::connection_refused));
  { const Promise<StreamPtr> dropped = parse("10.0.0.1:80")->connect(); }
  CHECK(!timer.nextEvent());
}

TEST_CASE_FIXTURE(MemoryNetworkTest, "the server's side sees a connection when it is made, not before") {
  network.setLatency("10.0.0.1", 30ms);
  const ReceiverPtr receiver = listen("10.0.0.1:80");
  Promise<StreamPtr> accepted = receiver->accept();
  Promise<StreamPtr> connecting = parse("10.0.0.1:80")->connect();
  timer.advanceBy(29ms);
  CHECK(!accepted.poll(scope));
  timer.advanceBy(1ms);
  CHECK(accepted.poll(scope));
  CHECK(connecting.poll(scope));
}

TEST_CASE_FIXTURE(MemoryNetworkTest, "silence is neither a connection nor a refusal, until it is over") {
  network.setSilent("10.0.0.1");
  const ReceiverPtr receiver = listen("10.0.0.1:80");
  Promise<StreamPtr> accepted = receiver->accept();
  Promise<StreamPtr> connecting = parse("10.0.0.1:80")->connect();
  Promise<StreamPtr> toNobody = parse("10.0.0.1:81")->connect();
  CHECK(!connecting.poll(scope));
  CHECK(!accepted.poll(scope));
  network.setAnswering("10.0.0.1:81"); // one port of it
  CHECK(toNobody.poll(scope));
  CHECK((failureOf(std::move(toNobody), scope).code() == std::errc::connection_refused));
  CHECK(!connecting.poll(scope));
  network.setAnswering("10.0.0.1");
  CHECK(std::move(connecting).wait(scope) != nullptr);
  CHECK(std::move(accepted).wait(scope) != nullptr);
}

TEST_CASE_FIXTURE(MemoryNetworkTest, "a host that falls silent keeps the connections that it has") {
  const ReceiverPtr receiver = listen("10.0.0.1:80");
  StreamPair pair = connectedPair(*receiver);
  network.setSilent("10.0.0.1");
  Promise<void> said = pair.left->write("ping");
  CHECK(pair.right->tryReadChunk().wait(scope).text() == "ping");
  CHECK(!parse("10.0.0.1:80")->connect().poll(scope));
}

TEST_CASE_FIXTURE(MemoryNetworkTest, "a host that cannot be reached fails at once") {
  network.setUnreachable("10.0.0.1");
  const ReceiverPtr receiver = listen("10.0.0.1:80");
  const Exception e = failureOf(parse("10.0.0.1:80")->connect(), scope);
  CHECK(kindName(e) == "DISCONNECTED");
  CHECK((e.code() == std::errc::host_unreachable));
  CHECK(e.description() == "cannot connect to 10.0.0.1:80: 10.0.0.1:80: host is unreachable (EHOSTUNREACH)");
}

TEST_CASE_FIXTURE(MemoryNetworkTest, "there are no descriptors, and nothing to adopt") {
  const ReceiverPtr receiver = listen("10.0.0.1:80");
  StreamPair pair = connectedPair(*receiver);
  CHECK(!receiver->descriptor());
  CHECK(!pair.left->descriptor());
  CHECK(kindName(thrownBy([&] { network.adoptListener(OwnedDescriptor()); })) == "UNIMPLEMENTED");
}

TEST_CASE_FIXTURE(MemoryNetworkTest, "what is set up is checked, with the place of the caller") {
  const std::function<void()> mistakes[] = {
      [&] { network.setLatency("db.example", 1ms); },
      [&] { network.setSilent("*"); },
      [&] { network.setUnreachable(""); },
      [&] { network.resetAfter("10.0.0", Direction::TO_CLIENT, 1); },
      [&] { network.shortReads("10.0.0.1", 0); },
      [&] { network.addHost("db.example", {}); },
      [&] { network.addHost("db.example", {"10.0.0.1:80"}); },
      [&] { network.addHost("db.example", {"web.example"}); },
      [&] { network.setClientHost("unix:/run/x.sock"); },
  };
  for (const auto& mistake : mistakes) {
    const Exception e = thrownBy(mistake);
    CHECK(kindName(e) == "FAILED");
    CHECK(fileOf(e) == "testing_test.cc");
  }
}

// ---------------------------------------------------------------------------------------------- backlog

TEST_CASE_FIXTURE(MemoryNetworkTest, "beyond the backlog a connect waits until somebody is accepted") {
  for (const int backlog : {1, 3}) {
    CAPTURE(backlog);
    const ReceiverPtr receiver = listen("10.0.0.1:80", {.backlog = backlog});
    const AddressPtr address = parse("10.0.0.1:80");
    std::vector<StreamPtr> queued;
    for (int i = 0; i < backlog; ++i) queued.push_back(address->connect().wait(scope));
    Promise<StreamPtr> next = address->connect();
    Promise<StreamPtr> afterNext = address->connect();
    CHECK(!next.poll(scope));
    Promise<StreamPtr> accepted = receiver->accept();
    CHECK(next.poll(scope));
    CHECK(!afterNext.poll(scope));
    CHECK(std::move(accepted).wait(scope) != nullptr);
    CHECK(!afterNext.poll(scope)); // the place was taken already
    CHECK(receiver->accept().wait(scope) != nullptr);
    CHECK(afterNext.poll(scope));
  }
}

TEST_CASE_FIXTURE(MemoryNetworkTest, "an accept that waits is a place of its own") {
  const ReceiverPtr receiver = listen("10.0.0.1:80", {.backlog = 1});
  Promise<StreamPtr> accepted = receiver->accept();
  const StreamPtr first = connect("10.0.0.1:80");
  const StreamPtr second = connect("10.0.0.1:80");
  CHECK(!parse("10.0.0.1:80")->connect().poll(scope));
}

TEST_CASE_FIXTURE(MemoryNetworkTest,
                  "a connect that waits for a place can be cancelled, timed out, and refused when the receiver goes") {
  ReceiverPtr receiver = listen("10.0.0.1:80", {.backlog = 1});
  const AddressPtr address = parse("10.0.0.1:80");
  const StreamPtr first = address->connect().wait(scope);
  { CHECK(!address->connect().poll(scope)); }
  Promise<StreamPtr> impatient = address->connect({.timeout = 2s});
  CHECK(passTime(impatient) == 2s);
  CHECK(contains(failureOf(std::move(impatient), scope).description(), "timed out after 2s: 10.0.0.1:80: no answer"));
  Promise<StreamPtr> waiting = address->connect();
  CHECK(!waiting.poll(scope));
  receiver = nullptr;
  CHECK((failureOf(std::move(waiting), scope).code() == std::errc::connection_refused));
  CHECK(isReset(failureOf(first->tryReadChunk(), scope)));
}

TEST_CASE_FIXTURE(MemoryNetworkTest, "a Unix socket whose queue is full is OVERLOADED, and nobody waits") {
  const ReceiverPtr receiver = listen("unix:/run/x.sock", {.backlog = 2});
  const StreamPtr clients[] = {connect("unix:/run/x.sock"), connect("unix:/run/x.sock")};
  const Exception e = failureOf(parse("unix:/run/x.sock")->connect(), scope);
  CHECK(kindName(e) == "OVERLOADED");
  CHECK(contains(e.description(), "EAGAIN"));
}

// ------------------------------------------------------------------------------------ several addresses

TEST_CASE_FIXTURE(MemoryNetworkTest,
                  "when the first address is silent, the second one wins after exactly 250 ms (RFC 8305 section 5)") {
  network.addHost("db.example", {"2001:db8::1", "10.0.0.1"}).setSilent("2001:db8::1");
  const ReceiverPtr silent = listen("[2001:db8::1]:80");
  const ReceiverPtr second = listen("10.0.0.1:80");
  Promise<AuthenticatedStream> connecting = parse("db.example:80")->connectAuthenticated();
  REQUIRE(!connecting.poll(scope));
  timer.advanceBy(250ms - 1ns);
  REQUIRE(!connecting.poll(scope));
  timer.advanceBy(1ns);
  REQUIRE(connecting.poll(scope));
  CHECK(addressOf(std::move(connecting).wait(scope)) == "10.0.0.1:80");
  CHECK(!timer.nextEvent());
  network.setAnswering("2001:db8::1"); // the attempt that was given up comes no more
  CHECK(!silent->accept().poll(scope));
}

TEST_CASE_FIXTURE(MemoryNetworkTest,
                  "the families of a name take turns, and who is refused is not waited for (RFC 8305 section 4)") {
  network.addHost("db.example", {"2001:db8::1", "2001:db8::2", "10.0.0.1", "10.0.0.2"});
  network.setLatency("2001:db8::1", 10ms).setLatency("10.0.0.1", 20ms).setLatency("2001:db8::2", 40ms);
  const ReceiverPtr last = listen("10.0.0.2:80");
  Promise<StreamPtr> connecting = parse("db.example:80")->connect();
  CHECK(passTime(connecting) == 10ms + 20ms + 40ms);
  CHECK(last->accept().wait(scope) != nullptr);
}

TEST_CASE_FIXTURE(MemoryNetworkTest,
                  "a slow first address wins if it answers before the second, whose attempt is given up") {
  network.addHost("db.example", {"2001:db8::1", "10.0.0.1"});
  network.setLatency("2001:db8::1", 300ms).setLatency("10.0.0.1", 100ms);
  const ReceiverPtr first = listen("[2001:db8::1]:80");
  const ReceiverPtr second = listen("10.0.0.1:80");
  Promise<AuthenticatedStream> connecting = parse("db.example:80")->connectAuthenticated();
  CHECK(passTime(connecting) == 300ms);
  CHECK(addressOf(std::move(connecting).wait(scope)) == "[2001:db8::1]:80");
  CHECK(!timer.nextEvent());
  CHECK(!second->accept().poll(scope));
  Promise<AuthenticatedStream> hurried = parse("db.example:80")->connectAuthenticated({.attemptDelay = 150ms});
  CHECK(passTime(hurried) == 250ms);
  CHECK(addressOf(std::move(hurried).wait(scope)) == "10.0.0.1:80");
}

TEST_CASE_FIXTURE(MemoryNetworkTest, "a failure of all lists each address with its own reason (S6)") {
  network.addHost("db.example", {"2001:db8::1", "10.0.0.1", "10.0.0.2"});
  network.setUnreachable("2001:db8::1");
  const auto restricted = network.restrictPeers({"::/0", "10.0.0.0/8"}, {"10.0.0.2"});
  const Exception e = failureOf(restricted->parseAddress("db.example:80").wait(scope)->connect(), scope);
  CHECK(e.description() == "cannot connect to db.example:80: "
                           "[2001:db8::1]:80: host is unreachable (EHOSTUNREACH); "
                           "10.0.0.1:80: connection refused (ECONNREFUSED); "
                           "10.0.0.2:80: restrictPeers() does not allow this address");
  CHECK((e.code() == std::errc::permission_denied)); // of the last
}

TEST_CASE_FIXTURE(
    MemoryNetworkTest,
    "connecting ends when its time is up, after 30 s or what is asked for, and tells what was tried (S6)") {
  network.addHost("db.example", {"2001:db8::1", "10.0.0.1", "10.0.0.2"});
  network.setSilent("2001:db8::1").setSilent("10.0.0.2");
  const AddressPtr address = parse("db.example:80");
  Promise<StreamPtr> patient = address->connect();
  CHECK(passTime(patient) == 30s);
  CHECK(contains(failureOf(std::move(patient), scope).description(), "timed out after 30s: "));
  Promise<StreamPtr> connecting = address->connect({.timeout = 1s, .attemptDelay = 1h});
  CHECK(passTime(connecting) == 1s);
  const Exception e = failureOf(std::move(connecting), scope);
  CHECK(kindName(e) == "OVERLOADED");
  CHECK((e.code() == std::errc::timed_out));
  CHECK(e.description() == "cannot connect to db.example:80: timed out after 1s: [2001:db8::1]:80: no answer; "
                           "10.0.0.1:80: not tried; 10.0.0.2:80: not tried");
  CHECK(!timer.nextEvent());
}

// --------------------------------------------------------------------------------------------- resets

namespace {

/// How many of numbered bytes `reader` gets, one read after the other, until it fails.
Promise<std::size_t> countUntilReset(AsyncInputStream& reader) {
  std::size_t got = 0;
  try {
    for (;;) {
      const Chunk bytes = co_await reader.tryReadChunk();
      if (bytes.empty()) co_return SIZE_MAX; // an end in order
      CHECK(areNumbered(bytes.text(), got));
      got += bytes.size();
    }
  } catch (const Exception& e) {
    CHECK(isReset(e));
  }
  co_return got;
}

/// Writes `text` in pieces of `size`; returns how many writes were done when one failed.
Promise<std::size_t> writeUntilReset(AsyncOutputStream& writer, std::string_view text, std::size_t size) {
  std::size_t done = 0;
  try {
    for (; !text.empty(); text.remove_prefix(std::min(size, text.size())), ++done)
      co_await writer.write(text.substr(0, size));
  } catch (const Exception& e) {
    CHECK(isReset(e));
  }
  co_return done;
}

} // namespace

TEST_CASE_FIXTURE(MemoryNetworkTest,
                  "a connection is reset after exactly so many bytes of one direction, whatever the writes") {
  const std::string text = numberedBytes(20);
  for (const Direction direction : {Direction::TO_SERVER, Direction::TO_CLIENT})
    for (const std::size_t size : {std::size_t(1), std::size_t(3), std::size_t(20)})
      for (std::size_t k = 0; k < text.size(); ++k) {
        CAPTURE(size);
        CAPTURE(k);
        const ReceiverPtr receiver = listen("10.0.0.1:80");
        network.resetAfter("10.0.0.1:80", direction, k);
        StreamPair pair = connectedPair(*receiver);
        if (direction == Direction::TO_CLIENT) std::swap(pair.left, pair.right);
        Promise<std::size_t> counted = countUntilReset(*pair.right);
        Promise<std::size_t> written = writeUntilReset(*pair.left, text, size);
        Promise<Chunk> answer = pair.left->tryReadChunk();
        Promise<void> gone = pair.right->whenWriteDisconnected();
        CHECK(std::move(counted).wait(scope) == k);
        CHECK(std::move(written).wait(scope) == k / size);
        CHECK(isReset(failureOf(std::move(answer), scope)));
        std::move(gone).wait(scope);
        CHECK(isReset(failureOf(pair.right->write("late"), scope)));
        CHECK(isReset(failureOf(pair.right->tryReadChunk(), scope)));
        const std::string more = "more";
        CHECK(isReset(failureOf(pair.left->write(more), scope)));
      }
}

TEST_CASE_FIXTURE(
    MemoryNetworkTest,
    "a reset after more than is ever sent does no harm, and neither does one of a connection that is gone") {
  const ReceiverPtr receiver = listen("10.0.0.1:80");
  network.resetAfter("10.0.0.1:80", Direction::TO_SERVER, 5);
  {
    StreamPair pair = connectedPair(*receiver);
    Promise<void> said = pair.left->write("four");
    CHECK(pair.right->tryReadChunk().wait(scope).text() == "four");
    std::move(said).wait(scope);
    pair.left = nullptr;
    CHECK(pair.right->tryReadChunk().wait(scope).empty());
  }
  network.resetAfter("10.0.0.1:80", Direction::TO_SERVER, 4);
  StreamPair pair = connectedPair(*receiver);
  Promise<void> said = pair.left->write("four");
  Promise<Chunk> heard = pair.right->tryReadChunk();
  pair.left = nullptr; // before its reset
  CHECK(heard.poll(scope));
  CHECK(said.poll(scope));
}

TEST_CASE_FIXTURE(MemoryNetworkTest,
                  "a read that wants more than comes before the reset fails, and takes its bytes along") {
  const ReceiverPtr receiver = listen("10.0.0.1:80");
  network.resetAfter("10.0.0.1:80", Direction::TO_CLIENT, 3);
  StreamPair pair = connectedPair(*receiver);
  std::string buffer(8, '.');
  Promise<void> read = pair.left->read(bufferOf(buffer));
  Promise<void> written = pair.right->write("12345678");
  CHECK(isReset(failureOf(std::move(read), scope)));
  CHECK(isReset(failureOf(std::move(written), scope)));
}

TEST_CASE_FIXTURE(MemoryNetworkTest,
                  "resets are for the next connections, one each, or for every one; a port has the last word") {
  const ReceiverPtr web = listen("10.0.0.1:80");
  const ReceiverPtr other = listen("10.0.0.1:81");
  network.resetAfter("10.0.0.1:80", Direction::TO_SERVER, 2).resetAfter("10.0.0.1:80", Direction::TO_SERVER, 1);
  network.resetAfter("10.0.0.1", Direction::TO_SERVER, 7, Connections::EACH);
  const auto bytesOf = [&](ConnectionReceiver& receiver) {
    StreamPair pair = connectedPair(receiver);
    Promise<std::size_t> counted = countUntilReset(*pair.right);
    const std::string text = numberedBytes(10);
    Promise<void> written = pair.left->write(text);
    CHECK(isReset(failureOf(std::move(written), scope)));
    return std::move(counted).wait(scope);
  };
  CHECK(bytesOf(*other) == 7);
  CHECK(bytesOf(*web) == 2);
  CHECK(bytesOf(*web) == 1);
  CHECK(bytesOf(*web) == 7);
  CHECK(bytesOf(*other) == 7);
}

TEST_CASE_FIXTURE(MemoryNetworkTest, "what a cancelled write had to offer counts towards a reset") {
  const std::string text = numberedBytes(2);
  const ReceiverPtr receiver = listen("10.0.0.1:80");
  network.resetAfter("10.0.0.1:80", Direction::TO_SERVER, 3);
  StreamPair pair = connectedPair(*receiver);
  {
    Promise<void> unread = pair.left->write(text);
    CHECK(!unread.poll(scope));
  }
  Promise<std::size_t> counted = countUntilReset(*pair.right);
  CHECK(isReset(failureOf(pair.left->write(text), scope)));
  CHECK(std::move(counted).wait(scope) == 1);

  network.resetAfter("10.0.0.1:80", Direction::TO_SERVER, 2);
  StreamPair next = connectedPair(*receiver);
  {
    Promise<void> unread = next.left->write(text);
    CHECK(!unread.poll(scope));
  }
  Promise<Chunk> read = next.right->tryReadChunk();
  CHECK(!read.poll(scope));
  CHECK(isReset(failureOf(next.left->write("2"), scope)));
  CHECK(isReset(failureOf(std::move(read), scope)));
}

TEST_CASE_FIXTURE(MemoryNetworkTest, "an echo by a pump from a connection to itself is reset as well") {
  for (std::uint64_t k = 0; k < 12; ++k) {
    CAPTURE(k);
    const ReceiverPtr receiver = listen("10.0.0.1:80");
    network.resetAfter("10.0.0.1:80", Direction::TO_CLIENT, k);
    StreamPair pair = connectedPair(*receiver);
    Promise<std::uint64_t> echoing = pair.right->pumpTo(*pair.right);
    Promise<std::size_t> counted = countUntilReset(*pair.left);
    const std::string text = numberedBytes(20);
    Promise<std::size_t> written = writeUntilReset(*pair.left, text, 5);
    CHECK(std::move(counted).wait(scope) == k);
    CHECK(std::move(written).wait(scope) <= 4);
    CHECK(isReset(failureOf(std::move(echoing), scope)));
  }
}

TEST_CASE_FIXTURE(MemoryNetworkTest, "a pump through two connections ends when either is reset") {
  for (const std::string_view broken : {"10.0.0.1:80", "10.0.0.2:80"}) {
    CAPTURE(broken);
    const ReceiverPtr front = listen("10.0.0.1:80");
    const ReceiverPtr back = listen("10.0.0.2:80");
    network.resetAfter(broken, Direction::TO_SERVER, 6);
    StreamPair client = connectedPair(*front);
    StreamPair behind = connectedPair(*back);
    Promise<std::uint64_t> pump = client.right->pumpTo(*behind.left);
    const std::string text = numberedBytes(20);
    Promise<std::size_t> written = writeUntilReset(*client.left, text, 4);
    std::string got(6, '.');
    behind.right->read(bufferOf(got)).wait(scope);
    CHECK(areNumbered(got));
    CHECK(isReset(failureOf(std::move(pump), scope)));
    CHECK(written.poll(scope)); // a pipe tells both sides of what came between them
  }
}

TEST_CASE_FIXTURE(MemoryNetworkTest, "when both directions come to their last byte at once, both writers are told") {
  const ReceiverPtr receiver = listen("10.0.0.1:80");
  network.resetAfter("10.0.0.1", Direction::TO_SERVER, 3).resetAfter("10.0.0.1", Direction::TO_CLIENT, 3);
  StreamPair pair = connectedPair(*receiver);
  Promise<void> there = pair.left->write("12345");
  Promise<void> back = pair.right->write("12345");
  Promise<Chunk> heard = pair.right->tryReadChunk();
  Promise<Chunk> answered = pair.left->tryReadChunk();
  CHECK(std::move(heard).wait(scope).text() == "123");
  CHECK(std::move(answered).wait(scope).text() == "123");
  CHECK(isReset(failureOf(std::move(there), scope)));
  CHECK(isReset(failureOf(std::move(back), scope)));
}

TEST_CASE_FIXTURE(MemoryNetworkTest, "a read gets no more than the test lets it, unless it must") {
  network.shortReads("10.0.0.1", 3);
  const ReceiverPtr receiver = listen("10.0.0.1:80");
  StreamPair pair = connectedPair(*receiver);
  const std::string text = numberedBytes(20);
  for (int way = 0; way < 2; ++way) {
    Promise<void> written = pair.left->write(text);
    CHECK(pair.right->tryReadChunk().wait(scope).size() == 3);
    CHECK(pair.right->tryReadChunk(2).wait(scope).size() == 2);
    std::string buffer(15, '.');
    CHECK(pair.right->tryRead(bufferOf(buffer)).wait(scope) == 3);
    CHECK(pair.right->tryRead(bufferOf(buffer), 5).wait(scope) == 5);
    OneWayPipe pipe = newOneWayPipe();
    Promise<std::uint64_t> pump = pair.right->pumpTo(*pipe.output, 7);
    CHECK(pipe.input->tryReadChunk().wait(scope).size() == 3);
    std::string rest(4, '.');
    pipe.input->read(bufferOf(rest)).wait(scope);
    CHECK(areNumbered(rest, 16));
    CHECK(std::move(pump).wait(scope) == 7);
    std::move(written).wait(scope);
    std::swap(pair.left, pair.right);
  }
}

// --------------------------------------------------------------------------------------------- clients

TEST_CASE_FIXTURE(MemoryNetworkTest,
                  "clients come from where they connect to, or from where the test says, each with a port of its own") {
  const ReceiverPtr web = listen("10.0.0.1:80");
  const ReceiverPtr web6 = listen("[2001:db8::1]:80");
  const auto clientOf = [&](ConnectionReceiver& receiver) {
    const StreamPtr client = connect(receiver.toString());
    return addressOf(receiver.acceptAuthenticated().wait(scope));
  };
  CHECK(clientOf(*web) == "10.0.0.1:32768");
  CHECK(clientOf(*web6) == "[2001:db8::1]:32769");
  network.setClientHost("203.0.113.9").setClientHost("2001:db8::99");
  CHECK(clientOf(*web) == "203.0.113.9:32770");
  CHECK(clientOf(*web6) == "[2001:db8::99]:32771");
}

TEST_CASE_FIXTURE(MemoryNetworkTest, "a receiver with rules for its peers judges where they come from") {
  const auto restricted = network.restrictPeers({"10.0.0.0/8"});
  const ReceiverPtr receiver = restricted->parseAddress("10.0.0.1:80").wait(scope)->listen();
  Promise<StreamPtr> accept = receiver->accept();
  network.setClientHost("203.0.113.9");
  const StreamPtr stranger = connect("10.0.0.1:80");
  CHECK(stranger->tryReadChunk().wait(scope).empty());
  CHECK(!accept.poll(scope));
  network.setClientHost("10.9.9.9");
  const StreamPtr friendly = connect("10.0.0.1:80");
  CHECK(accept.poll(scope));
}

// ------------------------------------------------------------------------------------------ everywhere

TEST_CASE("the parts of a network may go in any order (R9)") {
  std::vector<int> order{0, 1, 2, 3, 4, 5};
  do {
    CAPTURE(fmt::format("{}", fmt::join(order, " ")));
    LoopTest test;
    ManualTimer timer;
    auto network = std::make_unique<MemoryNetwork>(timer);
    AddressPtr address = network->parseAddress("10.0.0.1:80").wait(test.scope);
    ReceiverPtr receiver = address->listen();
    StreamPtr client = address->connect().wait(test.scope);
    StreamPtr server = receiver->accept().wait(test.scope);
    struct Pending {
      Promise<StreamPtr> accept;
      Promise<StreamPtr> connecting;
      Promise<Chunk> read;
    };
    std::optional<Pending> pending(
        Pending{receiver->accept(), address->connect(), server->tryReadChunk()}); // of which two are ready
    const std::function<void()> ends[] = {[&] { network = nullptr; },  [&] { address = nullptr; },
                                          [&] { receiver = nullptr; }, [&] { client = nullptr; },
                                          [&] { server = nullptr; },   [&] { pending.reset(); }};
    for (const int who : order) {
      ends[static_cast<std::size_t>(who)]();
      if (who % 2 == 0) test.scope.poll();
    }
  } while (std::ranges::next_permutation(order).found);
}

namespace {

Promise<void> echo(StreamPtr client) {
  for (;;) {
    const Chunk bytes = co_await client->tryReadChunk();
    if (bytes.empty()) co_return;
    co_await client->write(bytes);
  }
}

/// A name with three addresses: one is silent, one refuses, and the last one is far away.
Promise<void> call(MemoryNetwork& network, std::string_view question) {
  const AddressPtr address = co_await network.parseAddress("far.example:7");
  const StreamPtr stream = co_await address->connect({.timeout = 2s});
  std::string answer(question.size(), '.');
  Promise<void> sent = stream->write(question);
  co_await stream->read(bufferOf(answer));
  co_await std::move(sent);
  CHECK(answer == question);
}

Promise<void> acceptOne(ConnectionReceiver& receiver) { co_await echo(co_await receiver.accept()); }

Promise<void> farAway(LoopTest&) {
  ManualTimer timer;
  MemoryNetwork network(timer);
  network.addHost("far.example", {"2001:db8::1", "10.0.0.1", "10.0.0.2"}).setLookupDelay(20ms);
  network.setSilent("2001:db8::1").setLatency("10.0.0.2", 80ms);
  const AddressPtr there = co_await network.parseAddress("10.0.0.2:7");
  const ReceiverPtr receiver = there->listen();
  std::vector<Promise<void>> both;
  both.push_back(acceptOne(*receiver));
  both.push_back(call(network, "is anybody there?"));
  Promise<void> done = joinPromisesFailFast(std::move(both)).eagerlyEvaluate(nullptr);
  for (int i = 0; i < 25; ++i) { // longer than it takes if the last attempt cannot even be begun
    co_await yieldUntilQueueEmpty();
    timer.advanceBy(100ms);
  }
  co_await std::move(done);
}

/// Cuts a conversation off at its fifth byte.
Promise<void> cutOff(LoopTest&) {
  ManualTimer timer;
  MemoryNetwork network(timer);
  network.resetAfter("10.0.0.1", Direction::TO_CLIENT, 5);
  network.addHost("far.example", {"10.0.0.1"});
  const AddressPtr there = co_await network.parseAddress("10.0.0.1:7");
  const ReceiverPtr receiver = there->listen();
  std::vector<Promise<void>> both;
  both.push_back(acceptOne(*receiver).catch_([](const Exception& e) {
    if (!isReset(e)) e.rethrow(); // no memory
  }));
  both.push_back(call(network, "is anybody there?"));
  bool failed = false;
  try {
    co_await joinPromisesFailFast(std::move(both));
  } catch (const Exception& e) {
    if (!isReset(e)) throw;
    failed = true;
  }
  CHECK(failed);
}

} // namespace

TEST_CASE("a conversation that begins with silence, a refusal and latency can be cancelled at every step (R5)") {
  CHECK(cancelSweep(farAway) > 20);
}

TEST_CASE("a conversation that is cut off can be cancelled at every step (R5)") { CHECK(cancelSweep(cutOff) > 8); }

TEST_CASE_FIXTURE(MemoryNetworkTest, "a receiver for which there is no memory does not take the port (R6)") {
  const AddressPtr address = parse("10.0.0.1:80");
  ReceiverPtr receiver;
  for (std::uint64_t after = 0; receiver == nullptr && after < 100; ++after) {
    try {
      const NoMemory none(after, NoMemory::ONE);
      receiver = address->listen();
    } catch (const std::bad_alloc&) {
      const Exception e = failureOf(address->connect(), scope);
      CHECK((e.code() == std::errc::connection_refused));
    }
  }
  REQUIRE(receiver != nullptr);
  CHECK(receiver->getPort() == 80);
  (void)connectedPair(*receiver);
}

TEST_CASE("when an allocation of the network in memory fails, that is reported, and nothing is lost (R6)") {
  CHECK((starveSweep([](LoopTest& test) { farAway(test).wait(test.scope); }) > 10 || SANITIZED));
  CHECK((starveSweep([](LoopTest& test) { cutOff(test).wait(test.scope); }) > 10 || SANITIZED));
}
