// SPDX-License-Identifier: MIT
// Every kind of network, and of address on it, for the tests that hold them all to one contract.
#pragma once

#include "../io/peer.h"

#include <troth/net/network.h>
#include <troth/net/resolver.h>

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace troth::test {

/// A network, and the names that the test gives it.
class TestedNetwork {
public:
  virtual ~TestedNetwork() = default;

  virtual Network& network() = 0;
  virtual void addHost(const std::string& name, const std::vector<std::string>& addresses) = 0;
  virtual void failHost(const std::string& name, LookupErrc error) = 0;
  /// How many look-ups of the last host that was added have begun.
  virtual std::size_t lookups() = 0;
};

enum class AddressKind { IPV4, IPV6, UNIX_PATH, UNIX_ABSTRACT };

/// What a case works with: a loop, a network, and one sort of address on it.
struct NetworkCase {
  IoTest& test;
  TestedNetwork& tested;
  AddressKind kind;
  std::string host; ///< "127.0.0.1", "[::1]" or "unix:/…/socket"

  WaitScope& scope = test.scope;
  Network& network = tested.network();

  bool isUnix() const { return kind == AddressKind::UNIX_PATH || kind == AddressKind::UNIX_ABSTRACT; }

  /// A text to listen on that is not taken.
  std::string freeText() const { return isUnix() ? host : host + ":0"; }
  std::unique_ptr<NetworkAddress> parse(std::string_view text) { return network.parseAddress(text).wait(scope); }
  std::unique_ptr<ConnectionReceiver> listen(ListenOptions options = ListenOptions()) {
    return parse(freeText())->listen(options);
  }
  std::unique_ptr<AsyncIoStream> connectTo(const ConnectionReceiver& receiver) {
    return parse(receiver.toString())->connect().wait(scope);
  }
  /// A client on the left, accepted on the right; nobody else may be waiting.
  StreamPair connectedTo(ConnectionReceiver& receiver) {
    Promise<std::unique_ptr<AsyncIoStream>> accepted = receiver.accept();
    std::unique_ptr<AsyncIoStream> client = connectTo(receiver);
    return {std::move(client), std::move(accepted).wait(scope)};
  }
};

/// Runs `body` on each network with each kind of address, with a loop of its own.
void onEachKind(const std::function<void(NetworkCase&)>& body);
/// The same without Unix sockets.
void onEachIpKind(const std::function<void(NetworkCase&)>& body);
/// Runs `body` on each network, with addresses of IPv4.
void onEachNetwork(const std::function<void(NetworkCase&)>& body);
/// Cancels `body` at every step, on each network with each kind of address; see cancelSweep().
void cancelOnEachKind(const std::function<Promise<void>(NetworkCase&)>& body);

} // namespace troth::test
