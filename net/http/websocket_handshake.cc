// SPDX-License-Identifier: MIT
// The opening handshake of WebSocket (RFC 6455, section 4), both sides.
#include <troth/net/http/websocket_handshake.h>

#include <troth/net/http/sha1_detail.h>
#include <troth/net/http/text_detail.h>
#include <troth/net/http/websocket_deflate_detail.h>
#include <troth/net/http/websocket_frame_detail.h>
#include <troth/runtime/exception.h>
#include <troth/runtime/quote_detail.h>

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace troth {
inline namespace v0 {
namespace http {

namespace {

using troth::detail::quote;

constexpr std::string_view GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"; // RFC 6455, section 1.3
constexpr std::string_view VERSION = "13";
constexpr std::size_t KEY_BYTES = 16;

constexpr int BAD_REQUEST = 400;
constexpr int FORBIDDEN = 403;
constexpr int METHOD_NOT_ALLOWED = 405;
constexpr int UPGRADE_REQUIRED = 426;

/// Why a request is refused; status 0 if it is not.
struct Refusal {
  int status = 0;
  std::string reason;
};

bool isOnly(const HeaderFields& headers, HeaderId id, std::string_view value) noexcept {
  return headers.count(id) == 1 && headers.get(id) == value;
}

// The request is over with its head: what came behind would be taken for frames.
bool hasBody(const HeaderFields& headers) noexcept {
  return headers.has(HeaderId::TRANSFER_ENCODING) ||
         (headers.has(HeaderId::CONTENT_LENGTH) && !isOnly(headers, HeaderId::CONTENT_LENGTH, "0"));
}

std::string givenValue(const HeaderFields& headers, HeaderId id) {
  if (!headers.has(id)) return "no " + std::string(headerName(id));
  return fmt::format("{} {}", headerName(id), quote(headers.combined(id)));
}

// RFC 6455, section 4.2.1.
Refusal findFault(const WebSocketRequest& request) {
  const HeaderFields& headers = request.headers;
  if (request.method != Method::GET) return {METHOD_NOT_ALLOWED, "a WebSocket is asked for with GET"};
  if (request.versionMajor != 1 || request.versionMinor < 1)
    return {BAD_REQUEST, fmt::format("HTTP/{}.{} has no WebSocket of this kind: HTTP/1.1 has", request.versionMajor,
                                     request.versionMinor)};
  if (!asksForWebSocket(headers))
    return {UPGRADE_REQUIRED, givenValue(headers, HeaderId::UPGRADE) + " where websocket was expected"};
  if (!headers.hasToken(HeaderId::CONNECTION, "upgrade"))
    return {BAD_REQUEST, givenValue(headers, HeaderId::CONNECTION) + " where Upgrade was expected"};
  if (!isOnly(headers, HeaderId::SEC_WEBSOCKET_VERSION, VERSION))
    return {UPGRADE_REQUIRED, givenValue(headers, HeaderId::SEC_WEBSOCKET_VERSION) + " where 13 was expected"};
  if (headers.count(HeaderId::SEC_WEBSOCKET_KEY) != 1 ||
      detail::base64DecodedSize(*headers.get(HeaderId::SEC_WEBSOCKET_KEY)) != KEY_BYTES)
    return {BAD_REQUEST,
            givenValue(headers, HeaderId::SEC_WEBSOCKET_KEY) + " where the base64 of 16 bytes was expected"};
  if (hasBody(headers)) return {BAD_REQUEST, "a request for a WebSocket has no body"};
  return {};
}

Refusal checkOrigin(const WebSocketRequest& request, const WebSocketServerOptions& options) {
  if (!options.allowOrigin) return {};
  const HeaderFields& headers = request.headers;
  if (headers.count(HeaderId::ORIGIN) > 1) return {BAD_REQUEST, "several fields Origin"};
  if (options.allowOrigin(headers.get(HeaderId::ORIGIN))) return {};
  return {FORBIDDEN, givenValue(headers, HeaderId::ORIGIN) + " is not allowed"};
}

// RFC 6455, section 4.1: tokens, each of them once.
bool isSubprotocolList(std::string_view list) {
  std::vector<std::string_view> seen;
  while (const std::optional<std::string_view> name = detail::nextElement(list)) {
    if (!detail::isToken(*name)) return false;
    seen.push_back(*name);
  }
  std::sort(seen.begin(), seen.end());
  return std::adjacent_find(seen.begin(), seen.end()) == seen.end();
}

bool hasElement(std::string_view list, std::string_view wanted) noexcept {
  while (const std::optional<std::string_view> element = detail::nextElement(list))
    if (*element == wanted) return true;
  return false;
}

Refusal chooseSubprotocol(const HeaderFields& headers, const WebSocketServerOptions& options, std::string& chosen) {
  const std::string offered = headers.combined(HeaderId::SEC_WEBSOCKET_PROTOCOL);
  if (!isSubprotocolList(offered))
    return {BAD_REQUEST, givenValue(headers, HeaderId::SEC_WEBSOCKET_PROTOCOL) + " is no list of different names"};
  const auto found = std::find_if(options.subprotocols.begin(), options.subprotocols.end(),
                                  [&](const std::string& name) { return hasElement(offered, name); });
  if (found != options.subprotocols.end()) chosen = *found;
  return {};
}

Refusal chooseDeflate(const HeaderFields& headers, const WebSocketServerOptions& options, WebSocketAnswer& answer) {
  bool malformed = false;
  std::optional<detail::AcceptedDeflate> accepted = detail::acceptDeflate(
      headers.combined(HeaderId::SEC_WEBSOCKET_EXTENSIONS), options.deflate ? &*options.deflate : nullptr, malformed);
  if (malformed) return {BAD_REQUEST, givenValue(headers, HeaderId::SEC_WEBSOCKET_EXTENSIONS) + " is malformed"};
  if (accepted) {
    answer.agreement.deflate = accepted->terms;
    answer.headers.set(HeaderId::SEC_WEBSOCKET_EXTENSIONS, accepted->response);
  }
  return {};
}

// Those of RFC 9110, sections 15.5.6 and 15.5.22, and RFC 6455, section 4.4.
WebSocketAnswer refuse(Refusal refusal) {
  WebSocketAnswer answer;
  answer.status = refusal.status;
  answer.reason = "WebSocket: " + std::move(refusal.reason);
  if (refusal.status == METHOD_NOT_ALLOWED) answer.headers.set(HeaderId::ALLOW, "GET");
  if (refusal.status == UPGRADE_REQUIRED) {
    answer.headers.set(HeaderId::UPGRADE, "websocket");
    answer.headers.set(HeaderId::CONNECTION, "Upgrade");
    answer.headers.set(HeaderId::SEC_WEBSOCKET_VERSION, VERSION);
  }
  return answer;
}

void requireSubprotocols(const std::vector<std::string>& names, const std::source_location& where) {
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (!detail::isToken(names[i]))
      troth::detail::throwMisuse("WebSocket: " + quote(names[i]) + " is no name of a subprotocol", where);
    if (std::find(names.begin(), names.begin() + static_cast<std::ptrdiff_t>(i), names[i]) !=
        names.begin() + static_cast<std::ptrdiff_t>(i))
      troth::detail::throwMisuse("WebSocket: the subprotocol " + quote(names[i]) + " is there twice", where);
  }
}

[[noreturn]] void refuseResponse(std::string_view what, const std::source_location& where) {
  throw Exception(Exception::Kind::FAILED, fmt::format("WebSocket: the server's response has {}", what), {}, where);
}

std::string joined(const std::vector<std::string>& names) {
  std::string list;
  for (const std::string& name : names) list += (list.empty() ? "" : ", ") + name;
  return list;
}

} // namespace

bool asksForWebSocket(const HeaderFields& headers) noexcept { return headers.hasToken(HeaderId::UPGRADE, "websocket"); }

std::string webSocketAcceptKey(std::string_view key) {
  return detail::base64(detail::sha1(std::string(key) + std::string(GUID)));
}

WebSocketAnswer answerWebSocket(const WebSocketRequest& request, const WebSocketServerOptions& options,
                                std::source_location where) {
  requireSubprotocols(options.subprotocols, where);
  if (options.deflate) detail::requireDeflateOptions(*options.deflate, where);
  WebSocketAnswer answer;
  Refusal refusal = findFault(request);
  if (refusal.status == 0) refusal = checkOrigin(request, options);
  if (refusal.status == 0) refusal = chooseSubprotocol(request.headers, options, answer.agreement.subprotocol);
  if (refusal.status == 0) refusal = chooseDeflate(request.headers, options, answer);
  if (refusal.status != 0) return refuse(std::move(refusal));
  answer.headers.set(HeaderId::UPGRADE, "websocket");
  answer.headers.set(HeaderId::CONNECTION, "Upgrade");
  answer.headers.set(HeaderId::SEC_WEBSOCKET_ACCEPT,
                     webSocketAcceptKey(*request.headers.get(HeaderId::SEC_WEBSOCKET_KEY)));
  if (!answer.agreement.subprotocol.empty())
    answer.headers.set(HeaderId::SEC_WEBSOCKET_PROTOCOL, answer.agreement.subprotocol);
  return answer;
}

WebSocketHandshake::WebSocketHandshake(WebSocketClientOptions options, std::source_location where)
    : options_(std::move(options)) {
  requireSubprotocols(options_.subprotocols, where);
  if (options_.deflate) detail::requireDeflateOptions(*options_.deflate, where);
  std::array<std::byte, KEY_BYTES> random;
  detail::randomBytes(random);
  const std::string key = detail::base64(random);
  accept_ = webSocketAcceptKey(key);
  headers_.set(HeaderId::UPGRADE, "websocket");
  headers_.set(HeaderId::CONNECTION, "Upgrade");
  headers_.set(HeaderId::SEC_WEBSOCKET_KEY, key);
  headers_.set(HeaderId::SEC_WEBSOCKET_VERSION, VERSION);
  if (!options_.subprotocols.empty())
    headers_.set(HeaderId::SEC_WEBSOCKET_PROTOCOL, joined(options_.subprotocols), where);
  if (options_.deflate)
    headers_.set(HeaderId::SEC_WEBSOCKET_EXTENSIONS, detail::deflateOffer(*options_.deflate), where);
}

WebSocketAgreement WebSocketHandshake::check(int status, const HeaderFields& response,
                                             std::source_location where) const {
  if (status != 101) refuseResponse(fmt::format("the status {}", status), where);
  const std::optional<std::string_view> upgrade = response.get(HeaderId::UPGRADE);
  if (response.count(HeaderId::UPGRADE) != 1 || !detail::equalsIgnoringCase(*upgrade, "websocket"))
    refuseResponse(givenValue(response, HeaderId::UPGRADE) + " where websocket was expected", where);
  if (!response.hasToken(HeaderId::CONNECTION, "upgrade"))
    refuseResponse(givenValue(response, HeaderId::CONNECTION) + " where Upgrade was expected", where);
  if (!isOnly(response, HeaderId::SEC_WEBSOCKET_ACCEPT, accept_))
    refuseResponse(givenValue(response, HeaderId::SEC_WEBSOCKET_ACCEPT) + " where " + quote(accept_) + " was expected",
                   where);
  WebSocketAgreement agreement;
  agreement.subprotocol = checkSubprotocol(response, where);
  agreement.deflate = detail::checkDeflate(response.combined(HeaderId::SEC_WEBSOCKET_EXTENSIONS),
                                           options_.deflate ? &*options_.deflate : nullptr, where);
  return agreement;
}

std::string WebSocketHandshake::checkSubprotocol(const HeaderFields& response,
                                                 const std::source_location& where) const {
  const std::optional<std::string_view> chosen = response.get(HeaderId::SEC_WEBSOCKET_PROTOCOL);
  if (!chosen) return {};
  if (response.count(HeaderId::SEC_WEBSOCKET_PROTOCOL) != 1 ||
      std::find(options_.subprotocols.begin(), options_.subprotocols.end(), *chosen) == options_.subprotocols.end())
    refuseResponse(givenValue(response, HeaderId::SEC_WEBSOCKET_PROTOCOL) + ", which was not offered", where);
  return std::string(*chosen);
}

} // namespace http
} // namespace v0
} // namespace troth
