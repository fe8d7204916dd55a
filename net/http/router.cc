// SPDX-License-Identifier: MIT
// A trie of segments. Looking something up goes down it, at each node to the text, then to the parameter, then to the
// rest; the first way that ends at a route of the method wins. As a node has one parent, no node is visited twice, so
// whatever the path is, the work is bounded by the routes that look like it: with depth d by 2^d or by all nodes,
// whichever is less, and by d unless texts and parameters stand side by side.
#include <troth/net/http/router.h>

#include <troth/net/http/answer_detail.h>
#include <troth/net/http/http_error.h>
#include <troth/net/http/text_detail.h>
#include <troth/net/http/uri_text_detail.h>
#include <troth/net/http/url.h>
#include <troth/runtime/exception.h>
#include <troth/runtime/quote_detail.h>

#include <algorithm>
#include <array>
#include <map>
#include <string>
#include <vector>

namespace troth {
inline namespace v0 {
namespace http {

namespace {

constexpr std::size_t MOST_PARAMETERS = 16;
constexpr std::size_t MOST_SEGMENTS = 256; // the trie is as deep, and is gone down by recursion

// The name under which a request carries mountedPath(): no pattern can have it.
constexpr std::string_view MOUNTED = "/";

[[noreturn]] void refusePattern(std::string_view pattern, std::string_view reason, const std::source_location& where) {
  troth::detail::throwMisuse("Router: the pattern " + troth::detail::quote(pattern) + " " + std::string(reason), where);
}

bool isNameCharacter(char c) noexcept {
  return c != '.' && c != '~' && detail::isUriCharacter(c, detail::URI_UNRESERVED);
}

// What a segment of a path stands for: itself, or decoded in `scratch`. It was checked before.
std::string_view decoded(std::string_view segment, detail::PoolString& scratch) {
  if (segment.find('%') == std::string_view::npos) return segment;
  scratch.clear();
  for (std::size_t i = 0; i < segment.size(); ++i) {
    const int byte = detail::percentByte(segment, i);
    scratch += byte < 0 ? segment[i] : static_cast<char>(byte);
    if (byte >= 0) i += 2;
  }
  return scratch;
}

} // namespace

struct Router::Route {
  std::string pattern;
  std::vector<std::string> names; // of its parameters, in their order
  bool isAny;
  Method method;
  std::string methodText; // of a Method::OTHER
  RouteHandler handler;
  bool isMount;
  std::source_location where;

  bool isFor(Method wanted, std::string_view text) const noexcept {
    return !isAny && method == wanted && (method != Method::OTHER || methodText == text);
  }
  std::string shown() const {
    const std::string_view name = isAny ? "any method" : method == Method::OTHER ? methodText : methodName(method);
    return std::string(name) + " " + troth::detail::quote(pattern);
  }
};

/// The routes of one pattern.
struct Router::Endpoint {
  std::vector<std::unique_ptr<Route>> routes;

  const Route* find(Method method, std::string_view text) const noexcept {
    const Route* any = nullptr;
    for (const auto& route : routes) {
      if (route->isFor(method, text)) return route.get();
      if (route->isAny) any = route.get();
    }
    if (method == Method::HEAD)
      if (const Route* get = find(Method::GET, {}); get != nullptr) return get;
    return any;
  }
};

struct Router::Node {
  std::map<std::string, std::unique_ptr<Node>, std::less<>> texts;
  std::unique_ptr<Node> parameter;
  Endpoint here; // what ends here
  Endpoint rest; // what has "{name...}" behind this

  Node& childFor(std::string_view text, bool isParameter) {
    if (!isParameter) {
      const auto found = texts.find(text);
      return found != texts.end() ? *found->second
                                  : *texts.emplace(std::string(text), std::make_unique<Node>()).first->second;
    }
    if (parameter == nullptr) parameter = std::make_unique<Node>();
    return *parameter;
  }
};

/// A pattern, cut into segments and judged.
struct Router::Pattern {
  enum class Kind : std::uint8_t { TEXT, PARAMETER, REST };
  struct Segment {
    Kind kind;
    std::string_view text; // or the name
  };
  std::vector<Segment> segments;
  std::vector<std::string> names;

  Pattern(std::string_view pattern, const std::source_location& where) {
    if (!pattern.starts_with('/')) refusePattern(pattern, "does not begin with a slash", where);
    if (pattern.find_first_of("%?#") != std::string_view::npos)
      refusePattern(pattern, "has one of %, ? and #; it is a path in plain text", where);
    for (std::size_t at = 1; at <= pattern.size();) {
      const std::size_t end = std::min(pattern.find('/', at), pattern.size());
      add(pattern, pattern.substr(at, end - at), where);
      at = end + 1;
    }
  }

  bool hasRest() const noexcept { return segments.back().kind == Kind::REST; }

  /// The node that it leads to, with what is missing on the way; for a rest, the node before that.
  Node& nodeIn(Node& root) const {
    Node* node = &root;
    for (const Segment& segment : segments)
      if (segment.kind != Kind::REST) node = &node->childFor(segment.text, segment.kind == Kind::PARAMETER);
    return *node;
  }

private:
  void add(std::string_view pattern, std::string_view segment, const std::source_location& where) {
    if (segments.size() == MOST_SEGMENTS) refusePattern(pattern, "has more than 256 segments", where);
    if (!segments.empty() && hasRest()) refusePattern(pattern, "goes on behind what is all the rest", where);
    if (segment.find_first_of("{}") == std::string_view::npos) {
      // RFC 3986, section 6.2.2.3: a path in its normal form has none.
      if (segment == "." || segment == "..") refusePattern(pattern, "has a segment that no path has", where);
      segments.push_back({Kind::TEXT, segment});
      return;
    }
    if (!segment.starts_with('{') || !segment.ends_with('}'))
      refusePattern(pattern, "has a parameter that is not a whole segment", where);
    std::string_view name = segment.substr(1, segment.size() - 2);
    const bool isRest = name.ends_with("...");
    if (isRest) name.remove_suffix(3);
    if (name.empty() || !std::all_of(name.begin(), name.end(), isNameCharacter))
      refusePattern(pattern, "has a parameter whose name is not one", where);
    if (std::find(names.begin(), names.end(), name) != names.end())
      refusePattern(pattern, "has two parameters of the same name", where);
    if (names.size() == MOST_PARAMETERS) refusePattern(pattern, "has more than 16 parameters", where);
    names.emplace_back(name);
    segments.push_back({isRest ? Kind::REST : Kind::PARAMETER, name});
  }
};

/// One look-up.
struct Router::Matcher {
  Matcher(Method m, std::string_view text) noexcept : method(m), methodText(text) {}

  const Method method;
  const std::string_view methodText;
  std::array<std::string_view, MOST_PARAMETERS + 1> values; // as they are in the path; one more for a mount's rest
  std::size_t count = 0;
  std::vector<const Endpoint*> refusing; // match the path, but not the method
  detail::PoolString scratch;

  /// `path` is what follows a slash. Null if nothing matches.
  const Route* find(const Node& node, std::string_view path) {
    const std::size_t slash = path.find('/');
    const std::string_view segment = path.substr(0, slash);
    const bool isLast = slash == std::string_view::npos;
    const std::string_view left = isLast ? std::string_view() : path.substr(slash + 1);

    if (!node.texts.empty())
      if (const auto child = node.texts.find(decoded(segment, scratch)); child != node.texts.end())
        if (const Route* route = goOn(*child->second, isLast, left); route != nullptr) return route;
    if (node.parameter != nullptr && !segment.empty()) {
      values[count++] = segment;
      if (const Route* route = goOn(*node.parameter, isLast, left); route != nullptr) return route;
      --count;
    }
    values[count++] = path;
    if (const Route* route = at(node.rest); route != nullptr) return route;
    --count;
    return nullptr;
  }

private:
  const Route* goOn(const Node& node, bool isLast, std::string_view left) {
    return isLast ? at(node.here) : find(node, left);
  }

  const Route* at(const Endpoint& endpoint) {
    const Route* route = endpoint.find(method, methodText);
    if (route == nullptr && !endpoint.routes.empty()) refusing.push_back(&endpoint);
    return route;
  }
};

Router::Router(RouterSettings settings) : settings_(settings), root_(std::make_unique<Node>()) {}

Router::~Router() = default;

Router& Router::handle(Method method, std::string_view pattern, RouteHandler handler, std::source_location where) {
  return handle(methodName(method), pattern, std::move(handler), where);
}

Router& Router::handle(std::string_view method, std::string_view pattern, RouteHandler handler,
                       std::source_location where) {
  if (!detail::isToken(method))
    troth::detail::throwMisuse("Router: " + troth::detail::quote(method) + " is no method", where);
  Pattern parsed(pattern, where);
  Node& node = parsed.nodeIn(*root_);
  add(parsed.hasRest() ? node.rest : node.here,
      Route{std::string(pattern), std::move(parsed.names), false, findMethod(method), std::string(method),
            std::move(handler), false, where});
  return *this;
}

Router& Router::any(std::string_view pattern, RouteHandler handler, std::source_location where) {
  Pattern parsed(pattern, where);
  Node& node = parsed.nodeIn(*root_);
  add(parsed.hasRest() ? node.rest : node.here,
      Route{std::string(pattern), std::move(parsed.names), true, Method::OTHER, {}, std::move(handler), false, where});
  return *this;
}

Router& Router::mount(std::string_view prefix, RouteHandler handler, std::source_location where) {
  const std::string_view text = prefix.ends_with('/') ? prefix.substr(0, prefix.size() - 1) : prefix;
  Route route{std::string(prefix), {}, true, Method::OTHER, {}, std::move(handler), true, where};
  Node* node = root_.get();
  if (!text.empty()) {
    Pattern parsed(text, where);
    if (parsed.hasRest()) refusePattern(prefix, "has all the rest in it, which is what is mounted there", where);
    node = &parsed.nodeIn(*root_);
    route.names = std::move(parsed.names);
    add(node->here, route);
  }
  add(node->rest, std::move(route));
  return *this;
}

void Router::add(Endpoint& endpoint, Route route) {
  const std::source_location& where = route.where;
  if (route.handler.service() == nullptr)
    troth::detail::throwMisuse("Router: the handler of " + route.shown() + " is null", where);
  for (const auto& other : endpoint.routes)
    if (route.isAny ? other->isAny : other->isFor(route.method, route.methodText))
      troth::detail::throwMisuse("Router: " + route.shown() + " has a handler already, that of " + other->shown() +
                                     " from " + other->where.file_name() + ":" + std::to_string(other->where.line()),
                                 where);
  endpoint.routes.push_back(std::make_unique<Route>(std::move(route)));
}

Promise<void> Router::handle(Request& request, Response& response) {
  std::string_view path = mountedPath(request);
  Matcher matcher(request.method(), request.methodText());
  // "*" and CONNECT have none (RFC 9110, sections 9.3.6 and 9.3.7).
  if (path.empty()) return refuse(request, response, matcher);
  std::string kept;
  if (path.find('%') != std::string_view::npos || path.find("/.") != std::string_view::npos) {
    detail::requireEncoded(path);
    path = kept = normalizePath(path);
  } else if (path.data() != request.path().data()) {
    path = kept = std::string(path); // it is a parameter, which others to come may move
  }
  const Route* route = matcher.find(*root_, path.substr(1));
  if (route == nullptr) return refuse(request, response, matcher);
  for (std::size_t i = 0; i < route->names.size(); ++i)
    request.setParameter(route->names[i], decoded(matcher.values[i], matcher.scratch));
  if (route->isMount) {
    detail::PoolString rest("/");
    if (matcher.count > route->names.size()) rest += matcher.values[route->names.size()];
    request.setParameter(MOUNTED, rest);
  }
  return route->handler.service()->handle(request, response);
}

Promise<void> Router::refuse(const Request& request, Response& response, const Matcher& matcher) const {
  const bool isServerWide = request.target() == "*"; // RFC 9110, section 9.3.7: no more than a ping
  const bool answersOptions = settings_.options == RouterSettings::Options::ANSWER;
  if (request.method() == Method::OPTIONS && answersOptions && isServerWide) return response.send(204);
  // To a server that is no proxy; which is for nobody here to hear of.
  if (request.method() == Method::CONNECT) return detail::sendStatus(response, 501);
  if (matcher.refusing.empty()) throw HttpError(404, "there is no route for " + troth::detail::quote(request.target()));

  std::vector<std::string_view> allowed;
  const auto allow = [&allowed](std::string_view method) {
    if (std::find(allowed.begin(), allowed.end(), method) == allowed.end()) allowed.push_back(method);
  };
  for (const Endpoint* endpoint : matcher.refusing)
    for (const auto& route : endpoint->routes) {
      allow(route->methodText);
      if (route->method == Method::GET) allow(methodName(Method::HEAD));
    }
  if (answersOptions) allow(methodName(Method::OPTIONS));
  std::string list;
  for (const std::string_view method : allowed) list.append(list.empty() ? "" : ", ").append(method);
  response.headers().set(HeaderId::ALLOW, list);
  if (request.method() == Method::OPTIONS && answersOptions) return response.send(204);
  return detail::sendStatus(response, 405);
}

std::string_view mountedPath(const Request& request) noexcept {
  const std::string_view mounted = request.parameter(MOUNTED);
  return mounted.empty() ? request.path() : mounted;
}

} // namespace http
} // namespace v0
} // namespace troth
