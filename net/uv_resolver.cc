// SPDX-License-Identifier: MIT
// The system's resolver on uv_getaddrinfo and uv_getnameinfo.
//
// A Request is one question to the thread pool, with all the memory that it needs. Those who ask the same wait in its
// list; each of them is a node of its promise. The Desk knows all requests by their keys. It owns those that wait in
// line; those that libuv has been given belong to libuv's callback, which comes in any case.
//
// Whoever leaves a request as the last either ends it, if it is in line or no thread has begun it, or leaves it alone:
// then it goes on, and is still there to be joined. Requests share the ownership of the desk with the resolver, so that
// it outlives them.
#include <troth/net/resolver.h>

#include <troth/io/async_io.h>
#include <troth/net/address_detail.h>
#include <troth/runtime/quote_detail.h>
#include <troth/runtime/uv/uv_error.h>
#include <troth/runtime/uv/uv_event_port.h>
#include <troth/runtime/waiter_detail.h>

#include <fmt/format.h>
#include <uv.h>

#include <algorithm>
#include <list>
#include <map>
#include <optional>
#include <utility>

#include <netdb.h>

namespace troth {
inline namespace v0 {
namespace {

using Addresses = std::vector<SocketAddress>;

class Desk;

class Request : public detail::Pooled {
public:
  Request(std::shared_ptr<Desk> desk, std::string key, std::string operation)
      : desk_(std::move(desk)), key_(std::move(key)), operation_(std::move(operation)) {}
  Request(const Request&) = delete;
  Request& operator=(const Request&) = delete;
  virtual ~Request() = default;

  /// Hands it to libuv, whose callback owns it if this gives 0.
  virtual int begin(uv_loop_t* loop) noexcept = 0;
  /// Takes it back from libuv, if no thread has begun it; the callback comes all the same.
  virtual bool withdraw() noexcept = 0;

  void join(detail::Waiter& waiter) noexcept { waiters_.add(waiter); }
  /// A waiter has gone that was not answered.
  void onWaiterGone() noexcept;

  void failAll(int status) noexcept {
    while (!waiters_.isEmpty()) fail(uvException(status, operation_, waiters_.front().where()));
  }
  void disconnectAll() noexcept {
    while (!waiters_.isEmpty())
      fail(Exception(Exception::Kind::DISCONNECTED, "the resolver was destroyed", {}, waiters_.front().where())
               .withContext(operation_));
  }

  const std::string& key() const noexcept { return key_; }

protected:
  detail::WaiterList waiters_;

  Desk& desk() const noexcept { return *desk_; }

private:
  friend class Desk;

  std::shared_ptr<Desk> desk_;
  std::string key_;
  std::string operation_;                               // for errors
  std::list<std::unique_ptr<Request>>::iterator place_; // in the line; the end of it for a request that libuv has

  void fail(Exception exception) noexcept { waiters_.front().fail(std::move(exception)); }
};

/// Belongs to a promise. It is in the list of its request until that is answered.
template <typename T>
class LookupWaiter final : public detail::Waiter {
public:
  explicit LookupWaiter(std::source_location where) noexcept : Waiter(where) {}

  void join(Request& request) noexcept {
    request_ = &request;
    request.join(*this);
  }

  void fulfill(const T& answer) noexcept {
    try {
      result_.value.emplace(answer);
    } catch (...) {
      return fail(Exception::fromCurrent());
    }
    unlink();
    setReady();
  }

  detail::ResultBase& get(detail::ResultBase*) noexcept override { return result_; }
  void destroy() noexcept override {
    requireThreadToGo();
    if (isLinked()) {
      unlink();
      request_->onWaiterGone();
    }
    delete this;
  }
  const char* name() const noexcept override { return "look-up"; }

private:
  Request* request_ = nullptr;
  detail::Result<T> result_;

  detail::ResultBase& result() noexcept override { return result_; }
};

/// All requests of one resolver.
class Desk : public std::enable_shared_from_this<Desk> {
public:
  Desk(uv_loop_t* loop, std::size_t limit) noexcept : loop_(loop), limit_(limit) {}

  /// Joins the request that has this key, which must be one of the type `R`, or makes it by `R(desk, key, args…)`.
  template <typename R, typename... Args>
  Promise<typename R::Answer> ask(const std::string& key, std::source_location where, Args&&... args) {
    home_.require("a Resolver", where);
    auto* waiter = new LookupWaiter<typename R::Answer>(where);
    Promise<typename R::Answer> promise = detail::PromiseAccess::wrap<typename R::Answer>(waiter);
    if (const auto known = requests_.find(key); known != requests_.end()) {
      waiter->join(*known->second);
    } else {
      Request& request = add(std::make_unique<R>(shared_from_this(), key, std::forward<Args>(args)...));
      waiter->join(request);
      beginNext();
    }
    return promise;
  }

  void leftAlone(Request& request) noexcept {
    if (request.place_ != line_.end())
      drop(request);
    else if (request.withdraw())
      forget(request);
  }

  /// libuv is done with the request.
  void finished(Request& request) noexcept {
    forget(request);
    --running_;
  }

  void beginNext() noexcept {
    while (running_ < limit_ && !line_.empty()) {
      Request& request = *line_.front();
      const int status = request.begin(loop_);
      if (status < 0) {
        request.failAll(status);
        drop(request);
      } else {
        line_.front().release();
        line_.pop_front();
        request.place_ = line_.end();
        ++running_;
      }
    }
  }

  /// The resolver is destroyed. What libuv has ends in the background.
  void close() noexcept {
    for (const auto& [key, request] : requests_) request->disconnectAll();
    while (!line_.empty()) drop(*line_.front());
    while (!requests_.empty()) {
      Request& request = *requests_.begin()->second;
      request.withdraw();
      forget(request);
    }
  }

private:
  uv_loop_t* loop_;
  std::size_t limit_;
  std::size_t running_ = 0;
  detail::HomeLoop home_;
  std::map<std::string_view, Request*> requests_; // those that can be joined; the keys are the requests' own
  std::list<std::unique_ptr<Request>> line_;

  Request& add(std::unique_ptr<Request> request) {
    line_.push_back(std::move(request));
    Request& added = *line_.back();
    added.place_ = std::prev(line_.end());
    try {
      requests_.emplace(added.key(), &added);
    } catch (...) {
      line_.pop_back();
      throw;
    }
    return added;
  }

  /// It can no longer be joined. (Another one may have its key already.)
  void forget(const Request& request) noexcept {
    const auto known = requests_.find(request.key());
    if (known != requests_.end() && known->second == &request) requests_.erase(known);
  }

  void drop(Request& waiting) noexcept {
    forget(waiting);
    line_.erase(waiting.place_);
  }
};

void Request::onWaiterGone() noexcept {
  if (waiters_.isEmpty()) desk_->leftAlone(*this);
}

/// What the requests have in common that ask for a T.
template <typename T, typename UvRequest>
class RequestFor : public Request {
public:
  using Answer = T;
  using Request::Request;

  bool withdraw() noexcept override { return uv_cancel(reinterpret_cast<uv_req_t*>(&request_)) == 0; }

protected:
  UvRequest request_;

  /// The body of libuv's callback: tells all who wait. If `status` is 0, `read(result)` makes the answer, and gives a
  /// status of its own. The request ends here.
  template <typename Read>
  static void answer(const UvRequest& uvRequest, int status, Read&& read) noexcept {
    const std::unique_ptr<RequestFor> request(static_cast<RequestFor*>(uvRequest.data));
    request->desk().finished(*request);
    T result;
    try {
      if (status == 0) status = read(result);
    } catch (...) {
      status = UV_ENOMEM;
    }
    if (status < 0)
      request->failAll(status);
    else
      request->fulfillAll(result);
    // Without a loop the context is being destroyed: then nothing new begins.
    if (EventLoop::currentOrNull() != nullptr) request->desk().beginNext();
  }

private:
  void fulfillAll(const T& answer) noexcept {
    while (!waiters_.isEmpty()) static_cast<LookupWaiter<T>&>(waiters_.front()).fulfill(answer);
  }
};

class AddressRequest final : public RequestFor<Addresses, uv_getaddrinfo_t> {
public:
  AddressRequest(std::shared_ptr<Desk> desk, const std::string& host)
      : RequestFor(std::move(desk), host, fmt::format("looking up host {}", detail::quote(host))) {}

  int begin(uv_loop_t* loop) noexcept override {
    addrinfo hints{};
    hints.ai_family = AF_UNSPEC;
    hints.ai_socktype = SOCK_STREAM;
    request_.data = static_cast<RequestFor*>(this);
    return uv_getaddrinfo(loop, &request_, &AddressRequest::onAnswer, key().c_str(), nullptr, &hints);
  }

private:
  static void onAnswer(uv_getaddrinfo_t* request, int status, addrinfo* found) noexcept {
    const std::unique_ptr<addrinfo, decltype(&uv_freeaddrinfo)> owned(found, uv_freeaddrinfo);
    answer(*request, status, [&](Addresses& addresses) {
      for (const addrinfo* info = found; info != nullptr; info = info->ai_next) add(addresses, *info);
      return addresses.empty() ? UV_EAI_NODATA : 0;
    });
  }

  static void add(Addresses& addresses, const addrinfo& info) {
    if (info.ai_family != AF_INET && info.ai_family != AF_INET6) return;
    const SocketAddress address = SocketAddress::from(*info.ai_addr, info.ai_addrlen);
    if (std::ranges::find(addresses, address) == addresses.end()) addresses.push_back(address);
  }
};

/// The host without the port.
std::string hostOf(const SocketAddress& address) {
  std::string text = address.toString();
  text.resize(text.rfind(':'));
  return text;
}

class NameRequest final : public RequestFor<std::string, uv_getnameinfo_t> {
public:
  NameRequest(std::shared_ptr<Desk> desk, const std::string& key, const SocketAddress& address)
      : RequestFor(std::move(desk), key, fmt::format("looking up the name of {}", hostOf(address))),
        address_(address) {}

  int begin(uv_loop_t* loop) noexcept override {
    request_.data = static_cast<RequestFor*>(this);
    return uv_getnameinfo(loop, &request_, &NameRequest::onAnswer, address_.get(), NI_NAMEREQD | NI_NUMERICSERV);
  }

private:
  SocketAddress address_;

  static void onAnswer(uv_getnameinfo_t* request, int status, const char* host, const char*) noexcept {
    answer(*request, status, [host](std::string& name) {
      name = host;
      return name.empty() ? UV_EAI_NODATA : 0;
    });
  }
};

/// The address that `host` is itself, or nothing if it is a name. Throws FAILED for what is neither.
std::optional<SocketAddress> requireHost(std::string_view host, std::source_location where) {
  using Kind = detail::ParsedAddress::Kind;
  const detail::ParsedAddress parsed = detail::parseAddressText(host, 0, where);
  if (parsed.kind == Kind::NAME && parsed.name == host) return std::nullopt;
  if (parsed.kind == Kind::SOCKET && hostOf(*parsed.socket) == host) return parsed.socket;
  if (parsed.kind == Kind::SOCKET && parsed.socket->family() == SocketAddress::Family::IPV6 && !host.starts_with('['))
    return parsed.socket;
  throw Exception(Exception::Kind::FAILED,
                  fmt::format("invalid host {}: it must be a name or an IP address, and no more", detail::quote(host)),
                  std::make_error_code(std::errc::invalid_argument), where);
}

class SystemResolver final : public Resolver {
public:
  SystemResolver(uv_loop_t* loop, std::size_t limit) : desk_(std::make_shared<Desk>(loop, limit)) {}
  ~SystemResolver() override { desk_->close(); }

  // The keys of the two sorts differ: the text of an address has a colon, a host name has none.
  Promise<Addresses> lookUp(std::string_view host, std::source_location where) override {
    return evalNow([&]() -> Promise<Addresses> {
      if (const std::optional<SocketAddress> address = requireHost(host, where)) return Addresses{*address};
      return desk_->ask<AddressRequest>(std::string(host), where);
    });
  }

  Promise<std::string> lookUpName(const SocketAddress& address, std::source_location where) override {
    if (address.isUnix())
      detail::throwMisuse(fmt::format("lookUpName: {} is no address of the internet", address.toString()), where);
    const SocketAddress withoutPort = address.withPort(0);
    return evalNow([&] { return desk_->ask<NameRequest>(withoutPort.toString(), where, withoutPort); });
  }

private:
  std::shared_ptr<Desk> desk_;
};

} // namespace

std::unique_ptr<Resolver> newSystemResolver(AsyncIo& io, SystemResolverOptions options, std::source_location where) {
  if (options.parallel == 0) detail::throwMisuse("newSystemResolver: `parallel` must be at least 1", where);
  return std::make_unique<SystemResolver>(io.uvEventPort().uvLoop(), options.parallel);
}

} // namespace v0
} // namespace troth
