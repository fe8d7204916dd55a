// SPDX-License-Identifier: MIT
// The Network of this machine: look-ups by a Resolver, connections and listeners on uv_tcp_t and uv_pipe_t.
//
// The request of a connection attempt that is cancelled (ConnectRequest) outlives its promise, until libuv has closed
// the handle, and frees itself.
#include <troth/net/network.h>

#include <troth/net/uv_datagram_detail.h>
#include <troth/net/uv_listener_detail.h>
#include <troth/net/uv_tcp_options_detail.h>
#include <troth/net/uv_unix_socket_detail.h>

#include <troth/io/async_io.h>
#include <troth/io/uv_stream.h>
#include <troth/net/happy_eyeballs_detail.h>
#include <troth/net/resolver.h>
#include <troth/net/target_detail.h>
#include <troth/runtime/uv/uv_event_port.h>

#include <fmt/format.h>

#include <utility>
#include <vector>

#include <sys/socket.h>

namespace troth {
inline namespace v0 {
namespace {

using Filter = std::shared_ptr<const detail::PeerFilter>; // null allows all

// -------------------------------------------------------------------------------------- connections

class ConnectAdapter;

struct ConnectRequest : detail::Pooled {
  uv_connect_t request;
  ConnectAdapter* adapter; // null once the attempt was cancelled
};

/// Connects to one address. Destroying it closes the handle; libuv then ends the request.
class ConnectAdapter {
public:
  ConnectAdapter(PromiseFulfiller<std::unique_ptr<AsyncIoStream>>& fulfiller, uv_loop_t* loop,
                 const SocketAddress& address, const TcpOptions& options, std::source_location where)
      : fulfiller_(fulfiller),
        address_(address),
        options_(options),
        where_(where),
        handle_("connecting", [loop](uv_tcp_t* handle) { return uv_tcp_init(loop, handle); }) {
    auto request = std::make_unique<ConnectRequest>();
    request->adapter = this;
    request->request.data = request.get();
    const int status =
        uv_tcp_connect(&request->request, handle_.get(), address_.get(), [](uv_connect_t* r, int result) {
          std::unique_ptr<ConnectRequest> done(static_cast<ConnectRequest*>(r->data));
          if (done->adapter != nullptr) done->adapter->onConnected(result);
        });
    if (status < 0) throw uvException(status, address_.toString(), where_);
    request_ = request.release();
  }

  ~ConnectAdapter() {
    if (request_ != nullptr) request_->adapter = nullptr;
  }

private:
  PromiseFulfiller<std::unique_ptr<AsyncIoStream>>& fulfiller_;
  SocketAddress address_;
  TcpOptions options_;
  std::source_location where_;
  UvHandle<uv_tcp_t> handle_;
  ConnectRequest* request_ = nullptr;

  void onConnected(int status) noexcept {
    request_ = nullptr;
    fulfiller_.rejectIfThrows([&] {
      if (status < 0) throw uvException(status, address_.toString(), where_);
      detail::applyTcpOptions(*handle_.get(), options_);
      fulfiller_.fulfill(newUvStream(std::move(handle_).toStream()));
    });
  }
};

/// Connects to `address`, if it is allowed.
Promise<std::unique_ptr<AsyncIoStream>> connectTo(uv_loop_t* loop, const SocketAddress& address, const Filter& filter,
                                                  const TcpOptions& options, std::source_location where) {
  detail::requireAllowed(filter.get(), address, where);
  if (address.isUnix()) return detail::connectUnixSocket(loop, address, where);
  return newAdaptedPromise<std::unique_ptr<AsyncIoStream>, ConnectAdapter>(loop, address, options, where);
}

// ------------------------------------------------------------------------------------------ addresses

/// Whether `e` tells of an address family or an address that this machine does not have.
bool isMissing(const Exception& e) {
  return e.code() == std::errc::address_family_not_supported || e.code() == std::errc::address_not_available;
}

/// What an address and its clones are, and its connections while they are made.
struct UvTarget : detail::Target {
  AsyncIo& io;
  Filter filter;

  uv_loop_t* loop(std::source_location where) const { return io.uvEventPort().uvLoop(where); }

  /// `make()` of the first of the addresses for which it does not throw what `mayGoOn()` says that another may do for.
  template <typename Make, typename MayGoOn>
  auto first(Make make, MayGoOn mayGoOn) const {
    for (std::size_t i = 0;; ++i) {
      try {
        return make(addresses[i]);
      } catch (const Exception& e) {
        if (!mayGoOn(e) || i + 1 == addresses.size()) throw;
      }
    }
  }
};

class UvNetworkAddress final : public NetworkAddress {
public:
  UvNetworkAddress(AsyncIo& io, Filter filter, detail::Target target)
      : target_(std::make_shared<const UvTarget>(UvTarget{std::move(target), io, std::move(filter)})) {}

  Promise<std::unique_ptr<AsyncIoStream>> connect(ConnectOptions options, std::source_location where) override {
    detail::requireConnectable(*target_, where);
    return detail::connectToFirst(
               target_->addresses, target_->name,
               [&target = *target_, tcp = options.tcp, where](const SocketAddress& address) {
                 return connectTo(target.loop(where), address, target.filter, tcp, where);
               },
               target_->io.timer(), options, where)
        .attach(target_);
  }

  std::unique_ptr<ConnectionReceiver> listen(ListenOptions options, std::source_location where) override {
    const UvTarget& target = *target_;
    detail::requireListening(target.filter.get(), target.addresses.front(), "cannot listen on", target.name, where);
    detail::requireBacklog(options, target.name, where);
    const bool onlyFirst = target.isWildcard && options.ipv6Only; // the second is IPv4's
    return target.first(
        [&](const SocketAddress& address) {
          return detail::newListener(target.loop(where), address, target.name, target.filter, options, where);
        },
        [onlyFirst](const Exception& e) { return isMissing(e) && !onlyFirst; });
  }

  std::unique_ptr<DatagramSocket> bindDatagram(DatagramOptions options, std::source_location where) override {
    const UvTarget& target = *target_;
    detail::requireListening(target.filter.get(), target.addresses.front(), "cannot bind a datagram socket to",
                             target.name, where);
    return target.first(
        [&](const SocketAddress& address) {
          return detail::newBoundDatagramSocket(target.loop(where), address, target.name, target.filter, options,
                                                where);
        },
        isMissing);
  }

  std::unique_ptr<DatagramSocket> connectDatagram(DatagramOptions options, std::source_location where) override {
    const UvTarget& target = *target_;
    detail::requireConnectable(target, where);
    return target.first(
        [&](const SocketAddress& address) {
          return detail::newConnectedDatagramSocket(target.loop(where), address, target.name, target.filter, options,
                                                    where);
        },
        // No way, an address family that this machine does not have, or an address that is not allowed.
        [](const Exception& e) {
          return e.kind() == Exception::Kind::DISCONNECTED || isMissing(e) || e.code() == std::errc::permission_denied;
        });
  }

  std::unique_ptr<NetworkAddress> clone() const override { return std::make_unique<UvNetworkAddress>(*this); }

  std::string toString() const override { return target_->name; }

private:
  std::shared_ptr<const UvTarget> target_;
};

class UvNetwork final : public Network {
public:
  UvNetwork(AsyncIo& io, std::shared_ptr<Resolver> resolver, Filter filter) noexcept
      : io_(io), resolver_(std::move(resolver)), filter_(std::move(filter)) {}

  Promise<std::unique_ptr<NetworkAddress>> parseAddress(std::string_view text, std::uint16_t defaultPort,
                                                        std::source_location where) override {
    return evalNow([&]() -> Promise<std::unique_ptr<NetworkAddress>> {
      detail::ParsedAddress parsed = detail::parseAddressText(text, defaultPort, where);
      if (parsed.kind != detail::ParsedAddress::Kind::NAME)
        return std::make_unique<UvNetworkAddress>(io_, filter_, detail::targetOf(parsed));
      Promise<std::vector<SocketAddress>> found = resolver_->lookUp(parsed.name, where);
      return std::move(found)
          .then([&io = io_, filter = filter_, parsed = std::move(parsed),
                 where](std::vector<SocketAddress> addresses) -> std::unique_ptr<NetworkAddress> {
            return std::make_unique<UvNetworkAddress>(io, filter,
                                                      detail::targetOfHost(parsed, std::move(addresses), where));
          })
          .attach(resolver_);
    });
  }

  std::unique_ptr<ConnectionReceiver> adoptListener(OwnedDescriptor socket, ListenOptions options,
                                                    std::source_location where) override {
    int type = 0;
    socklen_t size = sizeof type;
    if (getsockopt(socket.get(), SOL_SOCKET, SO_TYPE, &type, &size) != 0 || type != SOCK_STREAM)
      throw Exception(Exception::Kind::FAILED,
                      fmt::format("adoptListener: descriptor {} is no stream socket, TCP or Unix", socket.get()),
                      std::make_error_code(std::errc::not_a_socket), where);
    const SocketAddress address = SocketAddress::ofSocket(socket.get(), where);
    if (address.isUnix() ? address.unixName().empty() : address.port() == 0)
      throw Exception(Exception::Kind::FAILED,
                      fmt::format("adoptListener: descriptor {} is not bound to an address", socket.get()), {}, where);
    detail::requireListening(filter_.get(), address, "cannot listen on", address.toString(), where);
    detail::requireBacklog(options, address.toString(), where);
    return detail::newListener(io_.uvEventPort().uvLoop(where), std::move(socket), address, filter_, options, where);
  }

  std::unique_ptr<Network> restrictPeers(const std::vector<std::string>& allow, const std::vector<std::string>& deny,
                                         std::source_location where) override {
    return std::make_unique<UvNetwork>(io_, resolver_,
                                       std::make_shared<const detail::PeerFilter>(allow, deny, filter_, where));
  }

private:
  AsyncIo& io_;
  std::shared_ptr<Resolver> resolver_; // shared with the look-ups that are pending
  Filter filter_;
};

} // namespace

std::unique_ptr<Network> newNetwork(AsyncIo& io) {
  return std::make_unique<UvNetwork>(io, newSystemResolver(io), nullptr);
}

std::unique_ptr<Network> newNetwork(AsyncIo& io, Resolver& resolver) {
  return std::make_unique<UvNetwork>(io, std::shared_ptr<Resolver>(std::shared_ptr<void>(), &resolver), nullptr);
}

} // namespace v0
} // namespace troth
