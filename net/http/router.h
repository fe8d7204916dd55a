// SPDX-License-Identifier: MIT
// Router: finds the handler of a request by its method and path.
#pragma once

#include <troth/net/http/method.h>
#include <troth/net/http/service.h>

#include <concepts>
#include <cstdint>
#include <memory>
#include <source_location>
#include <string_view>
#include <utility>

namespace troth {
inline namespace v0 {
namespace http {

/// What a route leads to: a function, `func(Request&, Response&)` that returns a promise, or a Service, which is lent
/// or given away. A lambda that is a coroutine keeps its captures as long as the router lives.
class RouteHandler {
public:
  template <typename Func>
  requires std::invocable<Func&, Request&, Response&> &&(!std::derived_from<Func, Service>)RouteHandler(Func func)
      : RouteHandler(newService(std::move(func))) {} // NOLINT: handlers are written as functions
  /// `service` outlives the router.
  RouteHandler(Service& service) noexcept : service_(&service) {} // NOLINT
  template <std::derived_from<Service> Owned>
  RouteHandler(std::unique_ptr<Owned> service) // NOLINT
      : owned_(std::move(service)), service_(owned_.get()) {}

  /// Null if a null pointer was given.
  Service* service() const noexcept { return service_; }

private:
  std::shared_ptr<Service> owned_; // null for what was lent
  Service* service_;
};

struct RouterSettings {
  /// OPTIONS for a path that has routes, but none for OPTIONS: 405, as with every other method, or 204 with the methods
  /// that there are in `Allow`.
  enum class Options : std::uint8_t { AS_OTHERS, ANSWER };
  Options options = Options::AS_OTHERS;
};

/// A service that hands each request to the handler that was registered for its method and path.
///
///     http::Router router;
///     router.get("/", showIndex);
///     router.get("/users/{id}", [&](Request& request, Response& response) -> Promise<void> {
///       co_await response.send(200, co_await users.describe(request.parameter("id")));
///     });
///     router.mount("/static", files);
///
/// A pattern begins with "/" and is plain text, without percent-encoding. Each segment is a text, a parameter "{name}",
/// which is one segment that is not empty, or, at the end, "{name...}", which is all that is left and may be empty.
/// "/users" and "/users/" are two paths.
///
/// Where several patterns match a path, the text goes before the parameter, and that before the rest, from the left to
/// the right; a route that does not have the method counts for nothing. HEAD is what GET is, unless it has a route of
/// its own (the server leaves out the content). A path that matches nothing is answered with 404; one that has routes
/// but not for this method with 405 and `Allow` (RFC 9110, section 15.5.6); one whose percent-encoding is broken, with
/// 400. CONNECT, which has no path, is 501.
///
/// Paths are compared in their normal form (RFC 3986, section 6.2.2): "/a/./b/../c" and "/a/%2e/c" are "/a/c", so
/// nobody gets around a route by writing its path in another way. Segments are cut before they are decoded: "%2F" is a
/// slash within a segment, and no separator. (In the value of "{name...}", which is decoded as a whole, the two look
/// the same.) A value may hold any byte, NUL among them.
///
/// The patterns form a trie, of which no node is visited twice for a request; a route without parameters, whose path is
/// in its normal form and has no percent-encoding, allocates nothing.
///
/// Belongs to one thread, and outlives the requests that it handles. Routes may be added at any time, and stay.
class Router final : public Service {
public:
  explicit Router(RouterSettings settings = RouterSettings());
  ~Router() override;
  Router(const Router&) = delete;
  Router& operator=(const Router&) = delete;

  /// Registers a handler. Throws FAILED, naming what is wrong, for a pattern that is none, has the same name twice,
  /// more than 16 parameters or more than 256 segments; for a null pointer; and if the same method and pattern,
  /// whatever the names of its parameters, has a handler already. Returns the router itself.
  Router& handle(Method method, std::string_view pattern, RouteHandler handler,
                 std::source_location where = std::source_location::current());
  /// The same for a method by its name, which is case-sensitive and may be none of Method's, such as "PROPFIND". (The
  /// server passes on such requests if ServerSettings::unknownMethods says so.)
  Router& handle(std::string_view method, std::string_view pattern, RouteHandler handler,
                 std::source_location where = std::source_location::current());

  Router& get(std::string_view pattern, RouteHandler handler,
              std::source_location where = std::source_location::current()) {
    return handle(Method::GET, pattern, std::move(handler), where);
  }
  Router& post(std::string_view pattern, RouteHandler handler,
               std::source_location where = std::source_location::current()) {
    return handle(Method::POST, pattern, std::move(handler), where);
  }
  Router& put(std::string_view pattern, RouteHandler handler,
              std::source_location where = std::source_location::current()) {
    return handle(Method::PUT, pattern, std::move(handler), where);
  }
  Router& patch(std::string_view pattern, RouteHandler handler,
                std::source_location where = std::source_location::current()) {
    return handle(Method::PATCH, pattern, std::move(handler), where);
  }
  Router& delete_(std::string_view pattern, RouteHandler handler,
                  std::source_location where = std::source_location::current()) {
    return handle(Method::DELETE_, pattern, std::move(handler), where);
  }
  /// For all methods that have no route of their own for this pattern. `any("/{path...}", …)` is for all that nothing
  /// else is for.
  Router& any(std::string_view pattern, RouteHandler handler,
              std::source_location where = std::source_location::current());

  /// Hands over all that is beneath `prefix`, itself included, which is a pattern without a "{name...}": a service that
  /// asks mountedPath(), such as another Router or a FileService, sees the rest of the path. What `prefix` matches is
  /// seen by its names. Throws as handle() does.
  Router& mount(std::string_view prefix, RouteHandler handler,
                std::source_location where = std::source_location::current());

  Promise<void> handle(Request& request, Response& response) override;

private:
  struct Route;
  struct Endpoint;
  struct Node;
  struct Matcher;
  struct Pattern;

  const RouterSettings settings_;
  const std::unique_ptr<Node> root_;

  void add(Endpoint& endpoint, Route route);
  Promise<void> refuse(const Request& request, Response& response, const Matcher& matcher) const;
};

/// For services that may be mounted: the path beneath where it is mounted, which begins with "/". In normal form, and
/// percent-encoded. If nothing was mounted it is that of the request as it was sent. Valid as long as the request's
/// parameters are left as they are.
std::string_view mountedPath(const Request& request) noexcept;

} // namespace http
} // namespace v0
} // namespace troth
