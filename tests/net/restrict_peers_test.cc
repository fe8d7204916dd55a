// SPDX-License-Identifier: MIT
// Tests of Network::restrictPeers() with the system: that nothing gets round it. What holds for all networks is in
// network_contract_test.cc.
#include "loopback.h"
#include "resolver.h"

#include <string>
#include <vector>

using namespace troth;
using namespace troth::test;

namespace {

using StreamPtr = std::unique_ptr<AsyncIoStream>;
using NetworkPtr = std::unique_ptr<Network>;

std::string withPort(std::string_view host, std::uint16_t port) { return std::string(host) + ":" + std::to_string(port); }

Exception connectFailure(IoTest& test, Network& network, std::string_view text) {
  return failureOf(network.parseAddress(text).wait(test.scope)->connect(), test.scope);
}

} // namespace

TEST_CASE_FIXTURE(IoTest, "the address that was judged is the one that is connected to: no second look-up (N2)") {
  const auto receiver = listenOn(*this);
  Promise<StreamPtr> accepted = receiver->accept();
  const NetworkPtr network = newNetwork(io)->restrictPeers({"127.0.0.0/8"});
  std::unique_ptr<NetworkAddress> address;
  {
    const FakeHost host("rebinding.troth.test", {"127.0.0.1"});
    address = network->parseAddress(withPort("rebinding.troth.test", receiver->getPort())).wait(scope);
    CHECK(host.lookups() == 1);
  }
  // The name means something else by now.
  const FakeHost host("rebinding.troth.test", {"::1"});
  const StreamPtr client = address->connect().wait(scope);
  CHECK(host.lookups() == 0);
  CHECK(std::move(accepted).wait(scope) != nullptr);
}

TEST_CASE_FIXTURE(IoTest, "of the addresses of a name only those that are allowed are tried") {
  const FakeHost host("both.troth.test", {"::1", "127.0.0.1"});
  std::uint16_t port;
  Peer onIpv6 = plainListener(port, 16, Family::IPV6);
  const auto receiver = listenOn(*this, withPort("127.0.0.1", port));
  Promise<StreamPtr> accepted = receiver->accept();
  const NetworkPtr network = newNetwork(io)->restrictPeers({"local"}, {"::1"});
  const StreamPtr client = network->parseAddress(withPort("both.troth.test", port)).wait(scope)->connect().wait(scope);
  CHECK(std::move(accepted).wait(scope) != nullptr);
  CHECK(!onIpv6.isReadable()); // nobody has come
  const NetworkPtr none = newNetwork(io)->restrictPeers({"public"});
  const Exception e = connectFailure(*this, *none, withPort("both.troth.test", port));
  CHECK(contains(e.description(), withPort("127.0.0.1", port) + ": restrictPeers()"));
  CHECK(contains(e.description(), withPort("[::1]", port) + ": restrictPeers()"));
}

TEST_CASE_FIXTURE(IoTest, "of a hundred peers that are not allowed none is accepted, however many come ahead of demand") {
  const NetworkPtr network = newNetwork(io)->restrictPeers({"public"});
  const auto receiver = network->parseAddress("127.0.0.1:0").wait(scope)->listen();
  std::vector<Peer> clients;
  for (int i = 0; i < 100; ++i) clients.push_back(connectTo(receiver->getPort()));
  Promise<StreamPtr> accept = receiver->accept();
  for (int i = 0; i < 20; ++i) CHECK(!accept.poll(scope));
  for (Peer& client : clients) CHECK(client.isClosed());
}
