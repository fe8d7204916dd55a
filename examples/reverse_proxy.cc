// SPDX-License-Identifier: MIT
// A reverse proxy: HTTP in front of another server. Bodies stream both ways as they come, with their trailers; interim
// responses such as 103 "Early Hints" and "100 Continue" pass, and so do WebSockets.
//
//   http_server --port 8080
//   reverse_proxy --port 8000 --to http://127.0.0.1:8080       then talk to port 8000 as you would to 8080
#include "forward.h"
#include "options.h"

#include <troth/io/async_io.h>
#include <troth/net/http/client.h>
#include <troth/net/http/http_error.h>
#include <troth/net/http/server.h>
#include <troth/net/network.h>
#include <troth/net/peer_identity.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <csignal>
#include <cstdio>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

using namespace troth;
using http::HeaderFields;
using http::HeaderId;
using http::HeaderMap;
using http::Method;
using http::Request;
using http::Response;
using std::chrono::seconds;

// --- Fields.

std::string lower(std::string_view text) {
  std::string result(text);
  std::transform(result.begin(), result.end(), result.begin(), [](unsigned char c) { return std::tolower(c); });
  return result;
}

// The fields that Connection says are for this connection only, in lower case and sorted.
std::vector<std::string> namedByConnection(const HeaderFields& fields) {
  std::vector<std::string> names;
  std::istringstream list(lower(fields.combined(HeaderId::CONNECTION)));
  for (std::string name; std::getline(list, name, ',');) {
    const std::size_t first = name.find_first_not_of(" \t");
    if (first != std::string::npos) names.push_back(name.substr(first, name.find_last_not_of(" \t") + 1 - first));
  }
  std::sort(names.begin(), names.end());
  return names;
}

// RFC 9110, section 7.6.1, and what says how a message is framed or whom it is for, which each side says for itself.
bool isForOneHop(HeaderId id) {
  switch (id) {
  case HeaderId::CONNECTION:
  case HeaderId::KEEP_ALIVE:
  case HeaderId::PROXY_AUTHENTICATE:
  case HeaderId::PROXY_AUTHORIZATION:
  case HeaderId::PROXY_CONNECTION:
  case HeaderId::TE:
  case HeaderId::TRAILER:
  case HeaderId::TRANSFER_ENCODING:
  case HeaderId::UPGRADE:
  case HeaderId::CONTENT_LENGTH:
  case HeaderId::EXPECT:
  case HeaderId::HOST:
    return true;
  default:
    return false;
  }
}

void copyFields(const HeaderFields& from, HeaderMap& to, unsigned minorVersion = 1) {
  const std::vector<std::string> named = namedByConnection(from);
  for (const http::HeaderField field : from)
    if (!isForOneHop(field.id) && !std::binary_search(named.begin(), named.end(), lower(field.name)))
      to.add(field.name, field.value);
  to.add("Via", minorVersion == 0 ? "1.0 reverse_proxy" : "1.1 reverse_proxy"); // RFC 9110, section 7.6.3
}

// What stands behind a content, but what must not stand there: who sends that tries to say one thing to whoever looks,
// and another to whoever does not (RFC 9110, section 6.5.1).
HeaderMap trailersOf(const HeaderFields& from) {
  HeaderMap trailers;
  for (const http::HeaderField field : from)
    if (http::mayBeTrailer(field.id) && !isForOneHop(field.id)) trailers.add(field.name, field.value);
  return trailers;
}

// RFC 9110, section 6.5.1: others drop them, or take them for fields of the head.
bool takesTrailers(const Request& request) { return request.headers().hasToken(HeaderId::TE, "trailers"); }

// Makes `value` the last element of a list, behind what others have said.
void append(HeaderMap& headers, std::string_view name, const std::string& value) {
  std::string all;
  for (const http::HeaderField field : headers.fields()) // they may have said it in several fields
    if (lower(field.name) == lower(name)) all.append(field.value).append(", ");
  headers.set(name, all + value);
}

// Who has asked, and for whom. Only what the last proxy says can be believed: that is what stands at the end.
void sayWhoAsked(const Request& request, HeaderMap& headers) {
  const auto identity = identifyPeer(request.connection());
  const auto* peer = dynamic_cast<const NetworkPeerIdentity*>(identity.get());
  std::string address = peer == nullptr ? "unknown" : peer->toString();
  if (peer != nullptr) address.resize(address.rfind(':'));
  const std::string host(request.authority());
  append(headers, "X-Forwarded-For", address.starts_with('[') ? address.substr(1, address.size() - 2) : address);
  headers.set("X-Forwarded-Proto", "http");
  if (!host.empty()) headers.set("X-Forwarded-Host", host);
  // RFC 7239, section 4. Authorities have no quotes in them.
  append(headers, "Forwarded",
         "for=\"" + address + "\"" + (host.empty() ? std::string() : ";host=\"" + host + "\"") + ";proto=http");
}

// --- Requests and responses.

// The request's body, which stays the request's. That it fails is the client's affair, not that of the server behind.
class LentBody final : public AsyncInputStream {
public:
  LentBody(AsyncInputStream& body, bool& hasFailed) : body_(body), hasFailed_(hasFailed) {}
  Promise<std::size_t> tryRead(std::span<std::byte> buffer, std::size_t minBytes, std::source_location where) override {
    return body_.tryRead(buffer, minBytes, where).catch_([this](Exception e) -> std::size_t { fail(e); });
  }
  Promise<Chunk> tryReadChunk(std::size_t maxBytes, std::source_location where) override {
    return body_.tryReadChunk(maxBytes, where).catch_([this](Exception e) -> Chunk { fail(e); });
  }
  std::optional<std::uint64_t> tryGetLength() const override { return body_.tryGetLength(); }

private:
  AsyncInputStream& body_;
  bool& hasFailed_;

  [[noreturn]] void fail(const Exception& e) {
    hasFailed_ = true;
    e.rethrow();
  }
};

// One request on its way.
struct Passing {
  Request& request;
  Response& response;
  http::Client& client;
  const http::RequestOptions& options;
  bool bodyFailed = false;
  std::vector<Promise<void>> interim; // responses that are being sent
};

// RFC 9110, section 15.2: they are for the client, too. ("100 Continue" says the server, when the body is asked for.)
void passInformational(Passing& passing, int status, const HeaderFields& fields) {
  HeaderMap headers;
  copyFields(fields, headers);
  passing.interim.push_back(passing.response.sendInformational(status, headers));
}

// What is asked of the server behind.
http::ClientRequest requestBehind(Passing& passing, const http::Url& target) {
  Request& request = passing.request;
  std::string url = std::string(target.scheme()) + "://" + target.authority() + std::string(request.path());
  if (!request.query().empty()) url.append("?").append(request.query());
  std::optional<http::Url> parsed = http::Url::tryParse(url);
  if (!parsed) throw http::HttpError(400, "the target " + std::string(request.target()) + " makes no URL");
  http::ClientRequest behind(request.methodText(), *std::move(parsed));
  copyFields(request.headers(), behind.headers, request.minorVersion());
  sayWhoAsked(request, behind.headers);
  if (takesTrailers(request)) behind.headers.set(HeaderId::TE, "trailers");
  behind.options = passing.options;
  behind.options->onInformational = [&passing](int status, const HeaderFields& fields) {
    passInformational(passing, status, fields);
  };
  const std::optional<std::uint64_t> length = request.body().tryGetLength();
  if (length == 0u) return behind;
  if (request.method() == Method::TRACE) throw http::HttpError(400, "TRACE has no body");
  behind.setBody(std::make_unique<LentBody>(request.body(), passing.bodyFailed));
  // Who asks first whether its body is wanted gets the answer of the server behind (RFC 9110, section 10.1.1).
  if (request.minorVersion() == 1 && request.headers().hasToken(HeaderId::EXPECT, "100-continue"))
    behind.options->expect = http::RequestOptions::Expect::CONTINUE;
  if (length) return behind;
  behind.setTrailers([&request] { return trailersOf(request.trailers()); });
  if (request.headers().has(HeaderId::TRAILER))
    behind.headers.set(HeaderId::TRAILER, request.headers().combined(HeaderId::TRAILER));
  return behind;
}

// A server behind that cannot be reached, or that answers nonsense, is 502; one that takes too long, 504 (RFC 9110,
// sections 15.6.3 and 15.6.5). What is wrong with the client's request passes.
template <typename T>
Promise<T> fromBehind(Promise<T> promise, const bool& bodyFailed) {
  try {
    co_return co_await std::move(promise);
  } catch (const Exception& e) {
    if (bodyFailed) throw;
    throw http::HttpError(e.kind() == Exception::Kind::OVERLOADED ? 504 : 502, e.description());
  }
}

// How long the content is; of a response to HEAD, how long it would be.
std::optional<std::uint64_t> lengthOf(http::ClientResponse& behind, Method method) {
  if (method != Method::HEAD) return behind.body().tryGetLength();
  const std::string_view text = behind.headers().valueOr(HeaderId::CONTENT_LENGTH, "");
  std::uint64_t length = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), length);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return length;
}

Promise<void> sendBack(Passing& passing, http::ClientResponse behind) {
  const Request& request = passing.request;
  Response& response = passing.response;
  for (Promise<void>& each : passing.interim) co_await std::move(each);
  // RFC 9110, section 15: there are no others.
  if (behind.status() > 599) throw http::HttpError(502, "the status " + std::to_string(behind.status()));
  copyFields(behind.headers(), response.headers());
  const std::optional<std::uint64_t> length = lengthOf(behind, request.method());
  const bool hasTrailers = !length && takesTrailers(request);
  if (hasTrailers && behind.headers().has(HeaderId::TRAILER))
    response.headers().set(HeaderId::TRAILER, behind.headers().combined(HeaderId::TRAILER));
  AsyncOutputStream& output = response.start(behind.status(), length);
  co_await behind.body().pumpTo(output);
  if (!hasTrailers || behind.trailers().empty()) co_return;
  const HeaderMap trailers = trailersOf(behind.trailers());
  co_await response.end(trailers);
}

// Another protocol, such as WebSocket, is none of the proxy's business: bytes both ways.
Promise<void> switchProtocols(Passing& passing, http::ClientRequest behind) {
  Response& response = passing.response;
  behind.headers.set(HeaderId::UPGRADE, passing.request.headers().combined(HeaderId::UPGRADE));
  http::Upgraded upgraded = co_await fromBehind(passing.client.upgrade(std::move(behind)), passing.bodyFailed);
  if (upgraded.stream == nullptr) {
    co_await sendBack(passing, std::move(upgraded.response));
    co_return;
  }
  for (Promise<void>& each : passing.interim) co_await std::move(each);
  if (!upgraded.response.headers().has(HeaderId::UPGRADE)) throw http::HttpError(502, "a switch to nobody knows what");
  copyFields(upgraded.response.headers(), response.headers());
  response.headers().set(HeaderId::UPGRADE, upgraded.response.headers().combined(HeaderId::UPGRADE));
  const std::unique_ptr<AsyncIoStream> front = response.upgrade();
  co_await joinPromisesFailFast(forward(*front, *upgraded.stream), forward(*upgraded.stream, *front));
}

// RFC 9110, section 7.6.2: TRACE and OPTIONS say how far they go. Returns whether this is the end.
bool isLastHop(const Request& request) {
  return (request.method() == Method::TRACE || request.method() == Method::OPTIONS) &&
         request.headers().get("Max-Forwards") == "0";
}

void countHop(http::ClientRequest& behind) {
  const std::string_view text = behind.headers.get("Max-Forwards").value_or("");
  unsigned left = 0;
  if (std::from_chars(text.data(), text.data() + text.size(), left).ec == std::errc() && left > 0)
    behind.headers.set("Max-Forwards", std::to_string(left - 1));
}

Promise<void> pass(Request& request, Response& response, http::Client& client, const http::RequestOptions& options,
                   const http::Url& target) {
  // A tunnel leads to wherever the client says, which is what this proxy is not for.
  if (request.method() == Method::CONNECT) throw http::HttpError(501, "CONNECT does not go through a reverse proxy");
  if (request.path().empty()) throw http::HttpError(501, "the target \"*\" does not go through a reverse proxy");
  if (isLastHop(request)) {
    co_await response.send(request.method() == Method::OPTIONS ? 204 : 501);
    co_return;
  }
  Passing passing{request, response, client, options, false, {}};
  http::ClientRequest behind = requestBehind(passing, target);
  countHop(behind);
  // RFC 9110, section 7.8: of HTTP/1.0 it means nothing.
  const bool upgrades = request.minorVersion() >= 1 && request.headers().hasToken(HeaderId::CONNECTION, "upgrade") &&
                        request.headers().has(HeaderId::UPGRADE) && request.body().tryGetLength() == 0u;
  if (upgrades) {
    co_await switchProtocols(passing, std::move(behind));
    co_return;
  }
  http::ClientResponse answer = co_await fromBehind(client.request(std::move(behind)), passing.bodyFailed);
  co_await sendBack(passing, std::move(answer));
}

int main(int argc, char** argv) try {
  Options options(
      argc, argv,
      {{"address", "127.0.0.1"}, {"port", "8000"}, {"to", "http://127.0.0.1:8080"}, {"timeout", "60"}, {"grace", "5"}});
  const seconds grace(options.number("grace", 1'000'000)), timeout(options.number("timeout", 1'000'000));
  const http::Url target = http::Url::parse(options.text("to"));
  if (!target.hasScheme("http") || target.requestTarget() != "/" || target.userInfo() || target.fragment() ||
      target.portOrDefault() == 0)
    throw std::invalid_argument("option '--to' is '" + options.text("to") + "', but must be like http://host:port");
  AsyncIoContext io = setupAsyncIo();
  auto network = newNetwork(io);

  http::ClientSettings settings;
  settings.userAgent = ""; // who asks says so itself
  settings.connectTimeout = std::min(timeout, seconds(10));
  http::RequestOptions requestOptions;
  requestOptions.responseTimeout = timeout;
  settings.connectionsPerOrigin = settings.connections = 1000;
  http::Client client(*network, io.timer(), std::move(settings));
  const auto service = http::newService(
      [&](Request& request, Response& response) { return pass(request, response, client, requestOptions, target); });
  ForwardLog log("reverse_proxy");
  http::Server server(*service, io.timer(), log);

  auto receiver = network->parseAddress(options.text("address"), options.port("port")).wait(io.waitScope())->listen();
  Promise<int> stopped = io.onSignal(SIGINT, SIGTERM); // whoever reads the line may send one
  std::printf("listening on http://%s\n", receiver->toString().c_str());
  std::fflush(stdout);
  server.serve(std::move(receiver)).exclusiveJoin(std::move(stopped).ignoreResult()).wait(io.waitScope());
  server.drain(grace).wait(io.waitScope());
} catch (...) {
  return failed("reverse_proxy");
}
