// SPDX-License-Identifier: MIT
// The opening handshake of WebSocket: what a server refuses, what both choose, and how compression is negotiated.
#include <fixtures.h>

#include <troth/io/stream.h>
#include <troth/net/http/sha1_detail.h>
#include <troth/net/http/websocket_handshake.h>

#include <set>

using namespace troth;
using namespace troth::http;
using namespace troth::test;

namespace {

constexpr std::string_view KEY = "dGhlIHNhbXBsZSBub25jZQ=="; // that of RFC 6455, section 1.2

HeaderMap goodHead() {
  return HeaderMap{{"Host", "server.example.com"}, {"Upgrade", "WebSocket"}, {"Connection", "keep-alive, Upgrade"},
                   {"Sec-WebSocket-Key", KEY},     {"Sec-WebSocket-Version", "13"}};
}

WebSocketAnswer answer(const HeaderMap& head, const WebSocketServerOptions& options = {}) {
  return answerWebSocket({Method::GET, 1, 1, head}, options);
}

template <typename Change>
WebSocketAnswer answerWith(Change&& change, const WebSocketServerOptions& options = {}) {
  HeaderMap head = goodHead();
  change(head);
  return answer(head, options);
}

std::string hex(std::span<const std::byte> bytes) {
  std::string text;
  for (std::byte byte : bytes) {
    text += "0123456789abcdef"[std::to_integer<int>(byte) >> 4];
    text += "0123456789abcdef"[std::to_integer<int>(byte) & 15];
  }
  return text;
}

TEST_CASE("SHA-1 and base64 are those of their standards, at each size of the padding") {
  using http::detail::base64DecodedSize;
  CHECK(hex(http::detail::sha1("")) == "da39a3ee5e6b4b0d3255bfef95601890afd80709");
  CHECK(hex(http::detail::sha1("abc")) == "a9993e364706816aba3e25717850c26c9cd0d89d");
  CHECK(hex(http::detail::sha1("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq")) == "84983e441c3bd26ebaae4aa1f95129e5e54670f1");
  CHECK(hex(http::detail::sha1(std::string(1'000'000, 'a'))) == "34aa973cd4c4daa4f61eeb2bdbad27316534016f");
  CHECK(hex(http::detail::sha1(std::string(55, 'a'))) == "c1c8bbdc22796e28c0e15163d20899b65621d65a");
  CHECK(hex(http::detail::sha1(std::string(64, 'a'))) == "0098ba824b5c16427bd7a1122a5a442a25ec644d");
  const std::pair<std::string_view, std::string_view> vectors[] = { // RFC 4648, section 10
      {"", ""}, {"f", "Zg=="}, {"fo", "Zm8="}, {"foo", "Zm9v"}, {"foob", "Zm9vYg=="}, {"fooba", "Zm9vYmE="}, {"foobar", "Zm9vYmFy"}};
  for (auto [plain, coded] : vectors) {
    CHECK(http::detail::base64(asBytes(plain)) == coded);
    CHECK(base64DecodedSize(coded) == plain.size());
  }
  CHECK(http::detail::base64(asBytes("\xfb\xff\xfe")) == "+//+");
  for (std::string_view bad : {"A", "AA", "AAA", "====", "A===", "AA=A", "Zh==", "Zm9=", "Zm 9", "Zm9v\n", "-_-_"})
    CHECK_MESSAGE(base64DecodedSize(bad) == std::nullopt, bad);
}

TEST_CASE("a good request is answered as RFC 6455 shows") {
  CHECK(webSocketAcceptKey(KEY) == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
  const WebSocketAnswer good = answer(goodHead());
  CHECK(good.accepted());
  CHECK(good.headers.text() == "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n");
  CHECK(good.agreement.subprotocol.empty());
  CHECK(!good.agreement.deflate);
  CHECK(asksForWebSocket(goodHead()));
  CHECK(!asksForWebSocket(HeaderMap{{"Upgrade", "h2c"}}));
}

TEST_CASE("a bad request is refused with a status and a reason that names what was wrong") {
  auto refused = [](const WebSocketAnswer& answer, int status, std::string_view reason) {
    CHECK(answer.status == status);
    CHECK_MESSAGE(contains(answer.reason, reason), answer.reason);
    CHECK(!answer.headers.has(HeaderId::SEC_WEBSOCKET_ACCEPT));
  };
  auto set = [](HeaderId id, std::string_view value) { return answerWith([&](HeaderMap& head) { head.set(id, value); }); };
  auto add = [](HeaderId id, std::string_view value) { return answerWith([&](HeaderMap& head) { head.add(id, value); }); };
  auto without = [](HeaderId id) { return answerWith([&](HeaderMap& head) { head.remove(id); }); };

  const HeaderMap head = goodHead();
  refused(answerWebSocket({Method::POST, 1, 1, head}, {}), 405, "GET");
  CHECK(answerWebSocket({Method::POST, 1, 1, head}, {}).headers.get(HeaderId::ALLOW) == "GET");
  refused(answerWebSocket({Method::GET, 1, 0, head}, {}), 400, "HTTP/1.0");
  refused(answerWebSocket({Method::GET, 2, 0, head}, {}), 400, "HTTP/2.0");
  refused(without(HeaderId::UPGRADE), 426, "no Upgrade");
  refused(set(HeaderId::UPGRADE, "h2c"), 426, "\"h2c\"");
  CHECK(set(HeaderId::UPGRADE, "h2c").headers.get(HeaderId::UPGRADE) == "websocket");
  refused(without(HeaderId::CONNECTION), 400, "no Connection");
  refused(set(HeaderId::CONNECTION, "close"), 400, "\"close\"");
  refused(without(HeaderId::SEC_WEBSOCKET_KEY), 400, "no Sec-WebSocket-Key");
  refused(set(HeaderId::SEC_WEBSOCKET_KEY, "c2hvcnQ="), 400, "c2hvcnQ=");
  refused(set(HeaderId::SEC_WEBSOCKET_KEY, "dGhlIHNhbXBsZSBub25jZQ"), 400, "16 bytes");
  refused(set(HeaderId::SEC_WEBSOCKET_KEY, ""), 400, "16 bytes");
  refused(add(HeaderId::SEC_WEBSOCKET_KEY, KEY), 400, "16 bytes");
  for (const WebSocketAnswer& version : {without(HeaderId::SEC_WEBSOCKET_VERSION), set(HeaderId::SEC_WEBSOCKET_VERSION, "8"),
                                         set(HeaderId::SEC_WEBSOCKET_VERSION, "13, 8"), add(HeaderId::SEC_WEBSOCKET_VERSION, "13")}) {
    refused(version, 426, "where 13 was expected");
    CHECK(version.headers.get(HeaderId::SEC_WEBSOCKET_VERSION) == "13");
  }
  refused(set(HeaderId::TRANSFER_ENCODING, "chunked"), 400, "no body");
  refused(set(HeaderId::CONTENT_LENGTH, "5"), 400, "no body");
  CHECK(set(HeaderId::CONTENT_LENGTH, "0").accepted());
  refused(set(HeaderId::SEC_WEBSOCKET_PROTOCOL, "chat, a b"), 400, "\"chat, a b\"");
  refused(set(HeaderId::SEC_WEBSOCKET_PROTOCOL, "chat, chat"), 400, "different");
  refused(set(HeaderId::SEC_WEBSOCKET_EXTENSIONS, "permessage-deflate; =1"), 400, "malformed");
}

TEST_CASE("the origin is shown to whoever decides, and a refusal is 403") {
  std::vector<std::string> seen;
  WebSocketServerOptions options;
  options.allowOrigin = [&](std::optional<std::string_view> origin) {
    seen.emplace_back(origin.value_or("none"));
    return !origin || origin == "https://good.example";
  };
  CHECK(answer(goodHead(), options).accepted());
  CHECK(answerWith([](HeaderMap& head) { head.set(HeaderId::ORIGIN, "https://good.example"); }, options).accepted());
  const WebSocketAnswer evil = answerWith([](HeaderMap& head) { head.set(HeaderId::ORIGIN, "https://evil.example"); }, options);
  CHECK(evil.status == 403);
  CHECK(contains(evil.reason, "https://evil.example"));
  CHECK(answerWith([](HeaderMap& head) { head.add(HeaderId::ORIGIN, "https://good.example").add(HeaderId::ORIGIN, "x"); }, options).status == 400);
  CHECK(seen == std::vector<std::string>{"none", "https://good.example", "https://evil.example"});
}

TEST_CASE("of the subprotocols that both speak the server's first is chosen") {
  WebSocketServerOptions options;
  options.subprotocols = {"v2.chat", "v1.chat"};
  auto chosen = [&](std::string_view offer) {
    const WebSocketAnswer answer = answerWith([&](HeaderMap& head) { head.set(HeaderId::SEC_WEBSOCKET_PROTOCOL, offer); }, options);
    CHECK(answer.accepted());
    CHECK(answer.headers.fields().valueOr(HeaderId::SEC_WEBSOCKET_PROTOCOL, "") == answer.agreement.subprotocol);
    return answer.agreement.subprotocol;
  };
  CHECK(chosen("v1.chat, v2.chat") == "v2.chat");
  CHECK(chosen("v1.chat") == "v1.chat");
  CHECK(chosen("V2.CHAT, other") == "");
  options.subprotocols = {"a b"};
  CHECK(contains(thrownBy([&] { answer(goodHead(), options); }).description(), "\"a b\" is no name of a subprotocol"));
  options.subprotocols = {"a", "a"};
  CHECK_THROWS_AS(answer(goodHead(), options), Exception);
}

TEST_CASE("a client's handshake and a server's answer fit together, and each wrong response is named") {
  WebSocketClientOptions options;
  options.subprotocols = {"one", "two"};
  const WebSocketHandshake handshake(options);
  HeaderMap request;
  request.addAll(handshake.headers());
  WebSocketServerOptions server;
  server.subprotocols = {"two"};
  const WebSocketAnswer good = answer(request, server);
  REQUIRE(good.accepted());
  CHECK(handshake.check(good.status, good.headers).subprotocol == "two");

  auto refusal = [&](auto&& change) {
    HeaderMap response;
    response.addAll(good.headers);
    change(response);
    return std::string(thrownBy([&] { return handshake.check(101, response); }).description());
  };
  CHECK(contains(thrownBy([&] { return handshake.check(200, good.headers); }).description(), "the status 200"));
  CHECK(contains(refusal([](HeaderMap& r) { r.remove(HeaderId::UPGRADE); }), "no Upgrade"));
  CHECK(contains(refusal([](HeaderMap& r) { r.set(HeaderId::UPGRADE, "h2c"); }), "\"h2c\""));
  CHECK(contains(refusal([](HeaderMap& r) { r.add(HeaderId::UPGRADE, "websocket"); }), "where websocket was expected"));
  CHECK(contains(refusal([](HeaderMap& r) { r.set(HeaderId::CONNECTION, "close"); }), "\"close\""));
  CHECK(contains(refusal([](HeaderMap& r) { r.remove(HeaderId::SEC_WEBSOCKET_ACCEPT); }), "no Sec-WebSocket-Accept"));
  CHECK(contains(refusal([](HeaderMap& r) { r.set(HeaderId::SEC_WEBSOCKET_ACCEPT, KEY); }), KEY));
  CHECK(contains(refusal([](HeaderMap& r) { r.set(HeaderId::SEC_WEBSOCKET_PROTOCOL, "three"); }), "was not offered"));
  CHECK(contains(refusal([](HeaderMap& r) { r.add(HeaderId::SEC_WEBSOCKET_PROTOCOL, "two"); }), "was not offered"));
  CHECK(contains(refusal([](HeaderMap& r) { r.set(HeaderId::SEC_WEBSOCKET_EXTENSIONS, "permessage-deflate"); }), "not offered"));

  std::set<std::string> keys;
  for (int i = 0; i < 100; ++i) keys.emplace(*WebSocketHandshake().headers().get(HeaderId::SEC_WEBSOCKET_KEY));
  CHECK(keys.size() == 100);
}

#ifdef TROTH_HAS_ZLIB

struct Negotiated {
  std::string response;
  std::optional<WebSocketDeflateTerms> terms;
};

Negotiated negotiate(std::string_view offer, const WebSocketDeflateOptions& deflate = {}) {
  WebSocketServerOptions options;
  options.deflate = deflate;
  const WebSocketAnswer answer = answerWith([&](HeaderMap& head) { head.set(HeaderId::SEC_WEBSOCKET_EXTENSIONS, offer); }, options);
  CHECK(answer.accepted());
  return {std::string(answer.headers.fields().valueOr(HeaderId::SEC_WEBSOCKET_EXTENSIONS, "")), answer.agreement.deflate};
}

TEST_CASE("a server accepts the first offer that it can, and declines what RFC 7692 does not know") {
  CHECK(negotiate("permessage-deflate").response == "permessage-deflate");
  CHECK(negotiate("x-other; a=\"b\", Permessage-Deflate").response == "permessage-deflate");
  CHECK(negotiate("permessage-deflate; client_max_window_bits").response == "permessage-deflate");
  CHECK(negotiate("permessage-deflate; server_no_context_takeover; client_no_context_takeover").response ==
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover");
  CHECK(negotiate("permessage-deflate; server_max_window_bits=\"10\"; client_max_window_bits=9").response ==
        "permessage-deflate; server_max_window_bits=10; client_max_window_bits=9");
  CHECK(negotiate("permessage-deflate; server_max_window_bits=8").terms->ownWindowBits == 8);
  CHECK(negotiate("permessage-deflate; server_max_window_bits=15").response == "permessage-deflate; server_max_window_bits=15");
  CHECK(negotiate("permessage-deflate; server_max_window_bits=7, permessage-deflate; server_no_context_takeover").response ==
        "permessage-deflate; server_no_context_takeover");
  for (std::string_view declined :
       {"permessage-deflate; unknown", "permessage-deflate; server_no_context_takeover=1", "permessage-deflate; server_max_window_bits",
        "permessage-deflate; server_max_window_bits=16", "permessage-deflate; server_max_window_bits=08",
        "permessage-deflate; client_max_window_bits=0", "permessage-deflate; client_max_window_bits; client_max_window_bits",
        "permessage-deflate; client_no_context_takeover; client_no_context_takeover", "x-webkit-deflate-frame", ""})
    CHECK_MESSAGE(negotiate(declined).response.empty(), declined);
  for (std::string_view malformed : {"permessage-deflate;", "permessage-deflate; a=", "permessage-deflate; a=\"\"", "a b", "; a",
                                     "permessage-deflate; a=\"b;c\"", "permessage-deflate, x; ;"}) {
    WebSocketServerOptions options;
    options.deflate.emplace();
    CHECK_MESSAGE(answerWith([&](HeaderMap& head) { head.set(HeaderId::SEC_WEBSOCKET_EXTENSIONS, malformed); }, options).status == 400,
                  malformed);
  }
}

TEST_CASE("a server's wishes go into the answer, as far as the client can follow") {
  WebSocketDeflateOptions wishes;
  wishes.ownWindowBits = 11;
  wishes.peerWindowBits = 12;
  wishes.ownNoContextTakeover = wishes.peerNoContextTakeover = true;
  CHECK(negotiate("permessage-deflate", wishes).response ==
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=11");
  CHECK(negotiate("permessage-deflate", wishes).terms->peerWindowBits == 15);
  const Negotiated both = negotiate("permessage-deflate; client_max_window_bits=10; server_max_window_bits=13", wishes);
  CHECK(contains(both.response, "; server_max_window_bits=11; client_max_window_bits=10"));
  CHECK(both.terms->ownWindowBits == 11);
  CHECK(both.terms->peerWindowBits == 10);
  CHECK(both.terms->ownNoContextTakeover);
  for (int bits : {8, 16}) {
    wishes.peerWindowBits = bits;
    WebSocketServerOptions options;
    options.deflate = wishes;
    CHECK(contains(thrownBy([&] { answer(goodHead(), options); }).description(), "9 to 15"));
  }
}

TEST_CASE("a client offers what it wishes, and the wishes for its own messages are kept") {
  auto offer = [](const WebSocketDeflateOptions& wishes) {
    WebSocketClientOptions options;
    options.deflate = wishes;
    return std::string(*WebSocketHandshake(options).headers().get(HeaderId::SEC_WEBSOCKET_EXTENSIONS));
  };
  CHECK(offer({}) == "permessage-deflate; client_max_window_bits");
  CHECK(offer({.peerWindowBits = 10}) == "permessage-deflate; server_max_window_bits=10; client_max_window_bits");
  CHECK(offer({.ownWindowBits = 9, .ownNoContextTakeover = true, .peerNoContextTakeover = true}) ==
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover; client_max_window_bits=9");
  for (int level : {-1, 10}) CHECK(contains(thrownBy([&] { offer({.level = level}); }).description(), "0 to 9"));

  const WebSocketDeflateOptions wishes{.level = 3, .smallest = 77};
  const auto server = negotiate("permessage-deflate", wishes).terms;
  CHECK((server->level == 3 && server->smallest == 77));
  WebSocketClientOptions options;
  options.deflate = wishes;
  const WebSocketHandshake handshake(options);
  HeaderMap request;
  request.addAll(handshake.headers());
  WebSocketServerOptions serverOptions;
  serverOptions.deflate.emplace();
  const auto client = handshake.check(101, answer(request, serverOptions).headers).deflate;
  CHECK((client->level == 3 && client->smallest == 77));
}

TEST_CASE("a client takes what it offered and no more") {
  auto check = [](const WebSocketDeflateOptions& wishes, std::string_view accepted) {
    WebSocketClientOptions options;
    options.deflate = wishes;
    const WebSocketHandshake handshake(options);
    HeaderMap response{{"Upgrade", "websocket"}, {"Connection", "Upgrade"}};
    response.set(HeaderId::SEC_WEBSOCKET_ACCEPT, webSocketAcceptKey(*handshake.headers().get(HeaderId::SEC_WEBSOCKET_KEY)));
    if (!accepted.empty()) response.set(HeaderId::SEC_WEBSOCKET_EXTENSIONS, accepted);
    return handshake.check(101, response).deflate;
  };
  CHECK(!check({}, ""));
  CHECK(check({}, "permessage-deflate"));
  const auto terms = check({}, "permessage-deflate; server_no_context_takeover; client_max_window_bits=8; server_max_window_bits=9");
  CHECK(terms->peerNoContextTakeover);
  CHECK(!terms->ownNoContextTakeover);
  CHECK(check({}, "permessage-deflate; client_no_context_takeover")->ownNoContextTakeover);
  CHECK(terms->ownWindowBits == 8);
  CHECK(terms->peerWindowBits == 9);
  WebSocketDeflateOptions wishes;
  wishes.peerWindowBits = wishes.ownWindowBits = 12;
  wishes.peerNoContextTakeover = true;
  CHECK(check(wishes, "permessage-deflate; server_no_context_takeover; server_max_window_bits=11")->ownWindowBits == 12);
  for (std::string_view bad : {"permessage-deflate", "permessage-deflate; server_no_context_takeover",
                               "permessage-deflate; server_no_context_takeover; server_max_window_bits=13",
                               "permessage-deflate; server_no_context_takeover; server_max_window_bits=12; client_max_window_bits=13",
                               "permessage-deflate; server_no_context_takeover; server_max_window_bits=12; client_max_window_bits"})
    CHECK_MESSAGE(contains(thrownBy([&] { check(wishes, bad); }).description(), "does not fit the offer"), bad);
  CHECK(contains(thrownBy([&] { check({}, "permessage-deflate, permessage-deflate"); }).description(), "more than was offered"));
  CHECK(contains(thrownBy([&] { check({}, "x-other"); }).description(), "not offered"));
  CHECK(contains(thrownBy([&] { check({}, "permessage-deflate;;"); }).description(), "malformed"));
}

#endif

} // namespace
