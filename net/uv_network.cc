// SPDX-License-Identifier: MIT
// The Network of this machine: look-ups by a Resolver, connections and listeners on uv_tcp_t and uv_pipe_t.
//
// The request of a connection attempt that is cancelled (ConnectRequest) outlives its promise, until libuv has closed
// the handle, and frees itself.
#include <troth/net/network.h>

#include <troth/net/uv_listener_detail.h>
#include <troth/net/uv_tcp_options_detail.h>
#include <troth/net/uv_unix_socket_detail.h>

#include <troth/io/async_io.h>
#include <troth/io/uv_stream.h>
#include <troth/net/address_detail.h>
#include <troth/net/happy_eyeballs_detail.h>
#include <troth/net/resolver.h>
#include <troth/runtime/quote_detail.h>
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
      uvCheck(status, address_.toString(), where_);
      detail::applyTcpOptions(*handle_.get(), options_);
      fulfiller_.fulfill(newUvStream(std::move(handle_).toStream()));
    });
  }
};

/// Connects to `address`, if it is allowed.
Promise<std::unique_ptr<AsyncIoStream>> connectTo(uv_loop_t* loop, const SocketAddress& address, const Filter& filter,
                                                  const TcpOptions& options, std::source_location where) {
  if (filter != nullptr && !filter->allows(address))
    throw Exception(Exception::Kind::FAILED,
                    fmt::format("{}: restrictPeers() does not allow this address", address.toString()),
                    std::make_error_code(std::errc::permission_denied), where);
  if (address.isUnix()) return detail::connectUnixSocket(loop, address, where);
  return newAdaptedPromise<std::unique_ptr<AsyncIoStream>, ConnectAdapter>(loop, address, options, where);
}

// ------------------------------------------------------------------------------------------ addresses

/// Throws if `filter` allows nobody who could connect to `address`, or no connection could wait.
void requireListening(const Filter& filter, const SocketAddress& address, const std::string& name,
                      const ListenOptions& options, std::source_location where) {
  if (options.backlog < 1)
    detail::throwMisuse(fmt::format("cannot listen on {}: the backlog is {}", name, options.backlog), where);
  if (filter == nullptr || filter->allowsListening(address)) return;
  throw Exception(Exception::Kind::FAILED,
                  fmt::format("cannot listen on {}: restrictPeers() allows no peer of such an address", name),
                  std::make_error_code(std::errc::permission_denied), where);
}

/// What an address and its clones are, and its connections while they are made.
struct Target {
  AsyncIo& io;
  std::vector<SocketAddress> addresses; // never empty; in the order in which they are tried
  Filter filter;
  std::string name;
  bool isWildcard;

  uv_loop_t* loop() const noexcept { return io.uvEventPort().uvLoop(); }
};

class UvNetworkAddress final : public NetworkAddress {
public:
  explicit UvNetworkAddress(Target target) : target_(std::make_shared<const Target>(std::move(target))) {}

  Promise<std::unique_ptr<AsyncIoStream>> connect(ConnectOptions options, std::source_location where) override {
    if (target_->isWildcard)
      detail::throwMisuse(fmt::format("cannot connect to {}: \"*\" is for listening; name one host", target_->name),
                          where);
    if (target_->addresses.front().port() == 0 && !target_->addresses.front().isUnix())
      detail::throwMisuse(fmt::format("cannot connect to {}: the address has no port", target_->name), where);
    return detail::connectToFirst(
               target_->addresses, target_->name,
               [&target = *target_, tcp = options.tcp, where](const SocketAddress& address) {
                 return connectTo(target.loop(), address, target.filter, tcp, where);
               },
               target_->io.timer(), options, where)
        .attach(target_);
  }

  std::unique_ptr<ConnectionReceiver> listen(ListenOptions options, std::source_location where) override {
    const Target& target = *target_;
    requireListening(target.filter, target.addresses.front(), target.name, options, where);
    for (std::size_t i = 0;; ++i) {
      try {
        return detail::newListener(target.loop(), target.addresses[i], target.name, target.filter, options, where);
      } catch (const Exception& e) {
        // An address family or address that this machine does not have: another one may do.
        const bool missing =
            e.code() == std::errc::address_family_not_supported || e.code() == std::errc::address_not_available;
        const bool isLast = i + 1 == target.addresses.size() || (target.isWildcard && options.ipv6Only);
        if (!missing || isLast) throw;
      }
    }
  }

  std::unique_ptr<NetworkAddress> clone() const override { return std::make_unique<UvNetworkAddress>(*this); }

  std::string toString() const override { return target_->name; }

private:
  std::shared_ptr<const Target> target_;
};

class UvNetwork final : public Network {
public:
  UvNetwork(AsyncIo& io, std::shared_ptr<Resolver> resolver, Filter filter) noexcept
      : io_(io), resolver_(std::move(resolver)), filter_(std::move(filter)) {}

  Promise<std::unique_ptr<NetworkAddress>> parseAddress(std::string_view text, std::uint16_t defaultPort,
                                                        std::source_location where) override {
    return evalNow([&]() -> Promise<std::unique_ptr<NetworkAddress>> {
      detail::ParsedAddress parsed = detail::parseAddressText(text, defaultPort, where);
      switch (parsed.kind) {
      case detail::ParsedAddress::Kind::SOCKET:
        return newAddress({*parsed.socket}, parsed.socket->toString(), false);
      case detail::ParsedAddress::Kind::ANY: // the IPv6 wildcard takes IPv4 connections too
        return newAddress({SocketAddress::any(SocketAddress::Family::IPV6, parsed.port),
                           SocketAddress::any(SocketAddress::Family::IPV4, parsed.port)},
                          detail::formatAddress("*", parsed.port), true);
      case detail::ParsedAddress::Kind::NAME:
        break;
      }
      return resolver_->lookUp(parsed.name, where)
          .then([&io = io_, filter = filter_, host = parsed.name, port = parsed.port,
                 where](std::vector<SocketAddress> found) -> std::unique_ptr<NetworkAddress> {
            if (found.empty()) // the system's resolver never gives that
              throw Exception(Exception::Kind::FAILED,
                              fmt::format("looking up host {}: the resolver has given no address", detail::quote(host)),
                              {}, where);
            for (SocketAddress& address : found) address = address.withPort(port);
            detail::interleaveFamilies(found);
            return std::make_unique<UvNetworkAddress>(
                Target{io, std::move(found), filter, detail::formatAddress(host, port), false});
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
    requireListening(filter_, address, address.toString(), options, where);
    return detail::newListener(io_.uvEventPort().uvLoop(), std::move(socket), address, filter_, options, where);
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

  std::unique_ptr<NetworkAddress> newAddress(std::vector<SocketAddress> addresses, std::string name,
                                             bool isWildcard) const {
    return std::make_unique<UvNetworkAddress>(Target{io_, std::move(addresses), filter_, std::move(name), isWildcard});
  }
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
