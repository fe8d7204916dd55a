// SPDX-License-Identifier: MIT
// The Network of this machine: look-ups by uv_getaddrinfo, connections and listeners on uv_tcp_t and uv_pipe_t.
//
// What libuv cannot withdraw outlives its promise and frees itself: a look-up that the thread pool has begun
// (Lookup), and the request of a connection attempt whose handle is being closed (ConnectRequest).
#include <troth/net/network.h>

#include <troth/net/uv_listener_detail.h>
#include <troth/net/uv_unix_socket_detail.h>

#include <troth/io/async_io.h>
#include <troth/io/uv_stream.h>
#include <troth/net/address_detail.h>
#include <troth/runtime/quote_detail.h>
#include <troth/runtime/uv/uv_event_port.h>

#include <fmt/format.h>

#include <utility>
#include <vector>

namespace troth {
inline namespace v0 {
namespace {

using Filter = std::shared_ptr<const detail::PeerFilter>; // null allows all

// ----------------------------------------------------------------------------------------- look-ups

class LookupAdapter;

struct Lookup : detail::Pooled {
  uv_getaddrinfo_t request;
  LookupAdapter* adapter; // null once nobody wants the answer
};

/// Resolves one name into stream addresses.
class LookupAdapter {
public:
  LookupAdapter(PromiseFulfiller<std::vector<SocketAddress>>& fulfiller, uv_loop_t* loop, const std::string& host,
                std::uint16_t port, std::source_location where)
      : fulfiller_(fulfiller), host_(host), port_(port), where_(where) {
    auto lookup = std::make_unique<Lookup>();
    lookup->adapter = this;
    lookup->request.data = lookup.get();
    addrinfo hints{};
    hints.ai_family = AF_UNSPEC;
    hints.ai_socktype = SOCK_STREAM;
    const int status = uv_getaddrinfo(
        loop, &lookup->request,
        [](uv_getaddrinfo_t* request, int result, addrinfo* answer) {
          std::unique_ptr<Lookup> done(static_cast<Lookup*>(request->data));
          if (done->adapter != nullptr) done->adapter->onAnswer(result, answer);
          uv_freeaddrinfo(answer);
        },
        host_.c_str(), nullptr, &hints);
    if (status < 0) throw exceptionFor(status);
    lookup_ = lookup.release();
  }

  ~LookupAdapter() {
    if (lookup_ == nullptr) return;
    lookup_->adapter = nullptr;
    // Works only while no thread of the pool has begun it; otherwise it ends in the background. The
    // callback comes in both cases.
    uv_cancel(reinterpret_cast<uv_req_t*>(&lookup_->request));
  }

private:
  PromiseFulfiller<std::vector<SocketAddress>>& fulfiller_;
  std::string host_;
  std::uint16_t port_;
  std::source_location where_;
  Lookup* lookup_ = nullptr;

  Exception exceptionFor(int status) const {
    return uvException(status, fmt::format("looking up host {}", detail::quote(host_)), where_);
  }

  void onAnswer(int status, const addrinfo* answer) noexcept {
    lookup_ = nullptr;
    if (EventLoop::currentOrNull() == nullptr) return; // the context is being destroyed: nobody can wait any more
    fulfiller_.rejectIfThrows([&] {
      if (status < 0) throw exceptionFor(status);
      std::vector<SocketAddress> addresses;
      for (; answer != nullptr; answer = answer->ai_next)
        if (answer->ai_family == AF_INET || answer->ai_family == AF_INET6)
          addresses.push_back(SocketAddress::from(*answer->ai_addr, answer->ai_addrlen).withPort(port_));
      if (addresses.empty()) throw exceptionFor(UV_EAI_NODATA);
      fulfiller_.fulfill(std::move(addresses));
    });
  }
};

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
                 const SocketAddress& address, std::source_location where)
      : fulfiller_(fulfiller),
        address_(address),
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
  std::source_location where_;
  UvHandle<uv_tcp_t> handle_;
  ConnectRequest* request_ = nullptr;

  void onConnected(int status) noexcept {
    request_ = nullptr;
    fulfiller_.rejectIfThrows([&] {
      uvCheck(status, address_.toString(), where_);
      uv_tcp_nodelay(handle_.get(), 1);
      fulfiller_.fulfill(newUvStream(std::move(handle_).toStream()));
    });
  }
};

/// Connects to `address`, if it is allowed.
Promise<std::unique_ptr<AsyncIoStream>> connectTo(uv_loop_t* loop, const SocketAddress& address, const Filter& filter,
                                                  std::source_location where) {
  if (filter != nullptr && !filter->allows(address))
    throw Exception(Exception::Kind::FAILED,
                    fmt::format("{}: restrictPeers() does not allow this address", address.toString()),
                    std::make_error_code(std::errc::permission_denied), where);
  if (address.isUnix()) return detail::connectUnixSocket(loop, address, where);
  return newAdaptedPromise<std::unique_ptr<AsyncIoStream>, ConnectAdapter>(loop, address, where);
}

/// Tries one address after the other. Everything it needs it holds itself.
Promise<std::unique_ptr<AsyncIoStream>> connectToOne(uv_loop_t* loop, std::vector<SocketAddress> addresses,
                                                     Filter filter, std::string name, std::source_location where) {
  std::string reasons;
  Exception::Kind kind = Exception::Kind::FAILED;
  std::error_code code;
  for (const SocketAddress& address : addresses) {
    try {
      co_return co_await connectTo(loop, address, filter, where);
    } catch (const Exception& e) {
      kind = e.kind();
      code = e.code();
      if (!reasons.empty()) reasons += "; ";
      reasons += e.description();
    }
  }
  throw Exception(kind, fmt::format("cannot connect to {}: {}", name, reasons), code, where);
}

// ------------------------------------------------------------------------------------------ addresses

class UvNetworkAddress final : public NetworkAddress {
public:
  UvNetworkAddress(uv_loop_t* loop, std::vector<SocketAddress> addresses, Filter filter, std::string name,
                   bool isWildcard)
      : loop_(loop),
        addresses_(std::move(addresses)),
        filter_(std::move(filter)),
        name_(std::move(name)),
        isWildcard_(isWildcard) {}

  Promise<std::unique_ptr<AsyncIoStream>> connect(std::source_location where) override {
    if (isWildcard_)
      detail::throwMisuse(fmt::format("cannot connect to {}: \"*\" is for listening; name one host", name_), where);
    if (addresses_.front().port() == 0 && !addresses_.front().isUnix())
      detail::throwMisuse(fmt::format("cannot connect to {}: the address has no port", name_), where);
    return connectToOne(loop_, addresses_, filter_, name_, where);
  }

  std::unique_ptr<ConnectionReceiver> listen(std::source_location where) override {
    if (filter_ != nullptr && !filter_->allowsListening(addresses_.front()))
      throw Exception(Exception::Kind::FAILED,
                      fmt::format("cannot listen on {}: restrictPeers() allows no peer of such an address", name_),
                      std::make_error_code(std::errc::permission_denied), where);
    for (std::size_t i = 0;; ++i) {
      try {
        return detail::newListener(loop_, addresses_[i], name_, filter_, where);
      } catch (const Exception& e) {
        // An address family or address that this machine does not have: another one may do.
        const bool missing =
            e.code() == std::errc::address_family_not_supported || e.code() == std::errc::address_not_available;
        if (!missing || i + 1 == addresses_.size()) throw;
      }
    }
  }

  std::string toString() const override { return name_; }

private:
  uv_loop_t* loop_;
  std::vector<SocketAddress> addresses_; // never empty
  Filter filter_;
  std::string name_;
  bool isWildcard_;
};

class UvNetwork final : public Network {
public:
  UvNetwork(uv_loop_t* loop, Filter filter) noexcept : loop_(loop), filter_(std::move(filter)) {}

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
      return newAdaptedPromise<std::vector<SocketAddress>, LookupAdapter>(loop_, parsed.name, parsed.port, where)
          .then([loop = loop_, filter = filter_, name = detail::formatAddress(parsed.name, parsed.port)](
                    std::vector<SocketAddress> found) -> std::unique_ptr<NetworkAddress> {
            return std::make_unique<UvNetworkAddress>(loop, std::move(found), filter, name, false);
          });
    });
  }

  std::unique_ptr<Network> restrictPeers(const std::vector<std::string>& allow, const std::vector<std::string>& deny,
                                         std::source_location where) override {
    return std::make_unique<UvNetwork>(loop_, std::make_shared<const detail::PeerFilter>(allow, deny, filter_, where));
  }

private:
  uv_loop_t* loop_;
  Filter filter_;

  std::unique_ptr<NetworkAddress> newAddress(std::vector<SocketAddress> addresses, std::string name,
                                             bool isWildcard) const {
    return std::make_unique<UvNetworkAddress>(loop_, std::move(addresses), filter_, std::move(name), isWildcard);
  }
};

} // namespace

std::unique_ptr<Network> newNetwork(AsyncIo& io) {
  return std::make_unique<UvNetwork>(io.uvEventPort().uvLoop(), nullptr);
}

} // namespace v0
} // namespace troth
