// SPDX-License-Identifier: MIT
// What every network does in the same way.
#include <troth/net/network.h>

#include <troth/net/datagram.h>
#include <troth/net/peer_identity.h>

#include <utility>

namespace troth {
inline namespace v0 {

// The continuations run when somebody takes the result, so a connection that nobody takes stays with the receiver.
Promise<AuthenticatedStream> ConnectionReceiver::acceptAuthenticated(std::source_location where) {
  return accept(where).then([](std::unique_ptr<AsyncIoStream> stream) { return authenticate(std::move(stream)); });
}

Promise<AuthenticatedStream> NetworkAddress::connectAuthenticated(ConnectOptions options, std::source_location where) {
  return connect(options, where).then([](std::unique_ptr<AsyncIoStream> stream) {
    return authenticate(std::move(stream));
  });
}

std::unique_ptr<DatagramSocket> NetworkAddress::bindDatagram(DatagramOptions, std::source_location where) {
  throw Exception(Exception::Kind::UNIMPLEMENTED, "bindDatagram: this network has no datagrams", {}, where);
}

std::unique_ptr<DatagramSocket> NetworkAddress::connectDatagram(DatagramOptions, std::source_location where) {
  throw Exception(Exception::Kind::UNIMPLEMENTED, "connectDatagram: this network has no datagrams", {}, where);
}

std::unique_ptr<ConnectionReceiver> Network::adoptListener(OwnedDescriptor, ListenOptions, std::source_location where) {
  throw Exception(Exception::Kind::UNIMPLEMENTED, "adoptListener: this network has no descriptors", {}, where);
}

} // namespace v0
} // namespace troth
