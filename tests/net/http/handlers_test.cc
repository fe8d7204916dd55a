// SPDX-License-Identifier: MIT
// What handlers are helped with: content, cookies, redirects, compression, server-sent events, the access log.
#include "serving.h"

#include <troth/io/testing.h>
#include <troth/net/http/access_log.h>
#include <troth/net/http/compress.h>
#include <troth/net/http/event_stream.h>
#include <troth/net/http/handlers.h>
#include <troth/net/http/http_error.h>
#include <troth/net/http/router.h>
#include <troth/net/network.h>
#include <troth/runtime/defer.h>

using namespace troth;
using namespace troth::http;
using namespace troth::test;
using namespace std::chrono_literals;

namespace {

std::string plain(ContentCoding coding, std::string_view body) {
  const std::vector<std::byte> bytes = decode(coding, asBytes(body));
  return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

std::string refusal(EventStream& events, const ServerEvent& event) {
  return std::string(thrownBy([&] { (void)events.send(event); }).description());
}

constexpr std::string_view CHUNKED = "Transfer-Encoding: chunked\r\n";

Promise<void> echoParts(Request& request, Response& response) {
  MultipartReader reader = newMultipartReader(request);
  std::string all;
  while (std::optional<MultipartPart> part = co_await reader.next())
    all.append(*part->name).append("=").append(co_await part->body->readAllText(100)).append(";");
  co_await response.send(200, all);
}

} // namespace

TEST_CASE_FIXTURE(LoopTest, "texts, forms and parts are read within limits, and only of their types") {
  Router router;
  router.post("/text", [](Request& request, Response& response) -> Promise<void> {
    co_await response.send(200, co_await readText(request, 10));
  });
  router.post("/form", [](Request& request, Response& response) -> Promise<void> {
    QueryLimits limits;
    limits.maxBytes = 20;
    const Query query = co_await readForm(request, limits);
    co_await response.send(200, std::string(query.valueOr("a", "none")));
  });
  router.post("/parts", echoParts);
  Serving serving(router, scope);
  CHECK(serving.send("POST", "/text", "", "0123456789").body == "0123456789");
  CHECK(serving.send("POST", "/text").body == "");
  CHECK(serving.send("POST", "/text", "", "0123456789a").status == 413);
  // What is said to be too long is not waited for.
  CHECK(contains(serving.exchange("POST /text HTTP/1.1\r\nHost: x\r\nContent-Length: 11\r\n\r\n"), " 413 "));
  const auto chunked = [&](std::string_view chunks) {
    return Reply::parse(serving.exchange("POST /text HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" +
                                         std::string(CHUNKED) + "\r\n" + std::string(chunks) + "0\r\n\r\n"));
  };
  CHECK(chunked("5\r\n01234\r\n5\r\n56789\r\n").body == "0123456789");
  CHECK(chunked("5\r\n01234\r\n6\r\n56789a\r\n").status == 413);
  CHECK(serving.send("POST", "/text", "Content-Encoding: gzip\r\n", "x").status == 415);
  CHECK(serving.send("POST", "/text", "Content-Encoding: identity\r\nContent-Encoding: gzip\r\n", "x").status == 415);
  CHECK(serving.send("POST", "/text", "Content-Encoding: identity, gzip\r\n", "x").status == 415);
  CHECK(serving.send("POST", "/text", "Content-Encoding: identity\r\nContent-Encoding: , Identity\r\n", "x").status == 200);
  CHECK(serving.send("POST", "/text", "Content-Encoding: Identity\r\n", "x").status == 200);

  constexpr std::string_view FORM = "Content-Type: application/x-www-form-urlencoded; charset=utf-8\r\n";
  CHECK(serving.send("POST", "/form", FORM, "a=b+%26").body == "b &");
  CHECK(serving.send("POST", "/form", FORM, "a=%").status == 400);
  CHECK(serving.send("POST", "/form", FORM, "a=bbbbbbbbbbbbbbbbbbbbbbbb").status == 413);
  CHECK(serving.send("POST", "/form", "Content-Type: text/plain\r\n", "a=b").status == 415);
  CHECK(serving.send("POST", "/form", "", "a=b").status == 415);
  CHECK(serving.send("POST", "/form", "Content-Type: ;\r\n", "a=b").status == 415);

  const std::string parts = "--b\r\nContent-Disposition: form-data; name=x\r\n\r\n1\r\n--b\r\n"
                            "Content-Disposition: form-data; name=\"y z\"\r\n\r\n2\r\n--b--\r\n";
  CHECK(serving.send("POST", "/parts", "Content-Type: multipart/form-data; boundary=b\r\n", parts).body == "x=1;y z=2;");
  CHECK(serving.send("POST", "/parts", "Content-Type: multipart/form-data\r\n", parts).status == 400);
  CHECK(serving.send("POST", "/parts", "Content-Type: multipart/form-data; boundary=c\r\n", parts).status == 400);
  CHECK(serving.send("POST", "/parts", FORM, parts).status == 415);
}

TEST_CASE_FIXTURE(LoopTest, "cookies are set one beside the other, and redirects lead only to URLs") {
  Router router;
  router.get("/", [](Request&, Response& response) {
    SetCookie cookie;
    cookie.name = "a";
    cookie.value = "1";
    setCookie(response, cookie);
    cookie.name = "b";
    setCookie(response, cookie);
    cookie.value = "x; Domain=evil";
    CHECK_THROWS_AS(setCookie(response, cookie), Exception);
    for (std::string_view bad : {"/a b", "/a\r\nX: y", "http://[", "//"})
      CHECK(contains(thrownBy([&] { (void)sendRedirect(response, 303, bad); }).description(), "is no reference to a URL"));
    CHECK(contains(thrownBy([&] { (void)sendRedirect(response, 304, "/"); }).description(), "304 is no status"));
    return sendRedirect(response, 303, "/next?a=b#c");
  });
  Serving serving(router, scope);
  const Reply reply = serving.get("/");
  CHECK(reply.status == 303);
  CHECK(reply.field("Location") == "/next?a=b#c");
  CHECK(contains(reply.head, "\r\nSet-Cookie: a=1\r\nSet-Cookie: b=1\r\n"));
}

TEST_CASE_FIXTURE(LoopTest, "what is worth it is compressed for those who take it") {
  std::string text;
  while (text.size() < 5'000) text += "all work and no play ";
  std::string large;
  for (int i = 0; large.size() < 200'000; ++i) large += std::to_string(i) + " bottles of beer on the wall\n";
  Router router;
  const auto sends = [&router](std::string_view path, std::string_view type, const std::string& body, auto prepare) {
    router.get(path, [type, &body, prepare](Request& request, Response& response) {
      response.headers().set(HeaderId::CONTENT_TYPE, type).set(HeaderId::ETAG, "\"1\"");
      prepare(response.headers());
      return sendCompressed(request, response, 200, body);
    });
  };
  const std::string small = "small";
  const auto nothing = [](HeaderMap&) {};
  sends("/text", "text/plain", text, nothing);
  sends("/large", "text/plain", large, nothing);
  sends("/small", "text/plain", small, nothing);
  sends("/image", "image/png", text, nothing);
  sends("/coded", "text/plain", text, [](HeaderMap& headers) { headers.set(HeaderId::CONTENT_ENCODING, "x"); });
  sends("/asis", "text/plain", text, [](HeaderMap& headers) { headers.set(HeaderId::CACHE_CONTROL, "a, no-transform"); });
  sends("/vary", "text/plain", text, [](HeaderMap& headers) { headers.set(HeaderId::VARY, "Accept, accept-encoding"); });
  sends("/any", "text/plain", text, [](HeaderMap& headers) { headers.set(HeaderId::VARY, "*"); });
  sends("/part", "text/plain", text, [](HeaderMap& headers) { headers.set(HeaderId::CONTENT_RANGE, "bytes 0-1/9"); });
  const std::string least(CompressionSettings().least, 'x'), less = least.substr(1);
  sends("/least", "text/plain", least, nothing);
  sends("/less", "text/plain", less, nothing);
  router.get("/stream", [&](Request& request, Response& response) -> Promise<void> {
    response.headers().set(HeaderId::CONTENT_TYPE, "text/plain");
    const std::unique_ptr<EncodingStream> stream = startCompressed(request, response, 200);
    for (int i = 0; i < 3; ++i) {
      co_await stream->write("again and ");
      co_await stream->flush();
    }
    co_await stream->end();
  });
  Serving serving(router, scope);
  for (const ContentCoding coding : {ContentCoding::GZIP, ContentCoding::DEFLATE, ContentCoding::BROTLI}) {
    if (!isSupported(coding)) continue;
    const std::string accept = "Accept-Encoding: " + std::string(codingName(coding)) + "\r\n";
    CAPTURE(accept);
    const Reply reply = serving.get("/text", accept);
    CHECK(reply.field("Content-Encoding") == codingName(coding));
    CHECK(reply.field("Vary") == "Accept-Encoding");
    CHECK(reply.field("ETag") == "W/\"1\"");
    CHECK(reply.body.size() < 500);
    CHECK(reply.field("Content-Length") == std::to_string(reply.body.size()));
    CHECK(plain(coding, reply.body) == text);
    const Reply streamed = serving.get("/large", accept);
    CHECK(streamed.field("Content-Encoding") == codingName(coding));
    CHECK(streamed.body.size() < large.size() / 3);
    CHECK((plain(coding, streamed.body) == large));
    CHECK(plain(coding, serving.get("/stream", accept).body) == "again and again and again and ");
    const Reply head = serving.send("HEAD", "/text", accept);
    CHECK(head.field("Content-Encoding") == codingName(coding));
    CHECK(head.field("Content-Length") == reply.field("Content-Length"));
    CHECK(serving.get("/small", accept).body == small);
    CHECK(serving.get("/image", accept).body == text);
    CHECK(serving.get("/image", accept).field("Vary") == "");
    CHECK(serving.get("/coded", accept).body == text);
    CHECK(serving.get("/asis", accept).body == text);
    CHECK(serving.get("/vary", accept).field("Vary") == "Accept, accept-encoding");
    CHECK(serving.get("/any", accept).field("Vary") == "*");
    CHECK(serving.get("/part", accept).body == text);
    CHECK(serving.get("/least", accept).field("Content-Encoding") == codingName(coding));
    CHECK(serving.get("/less", accept).field("Content-Encoding") == "");
  }
  const Reply unasked = serving.get("/text");
  CHECK(unasked.body == text);
  CHECK(unasked.field("Vary") == "Accept-Encoding");
  CHECK(unasked.field("ETag") == "\"1\"");
  CHECK(serving.get("/text", "Accept-Encoding: *;q=0\r\n").body == text);
  CHECK(serving.get("/stream").body == "again and again and again and ");
  CHECK((serving.get("/large").body == large));
}

TEST_CASE_FIXTURE(LoopTest, "events are written line by line, and nothing can be put between them") {
  std::string last;
  Router router;
  router.get("/", [&](Request& request, Response& response) -> Promise<void> {
    last = lastEventId(request);
    EventStream events(response);
    co_await events.send("one");
    ServerEvent event;
    event.data = "a\nb\r\nc\rd\n";
    event.type = "news";
    event.id = "7";
    event.retry = 1500ms;
    co_await events.send(event);
    event = ServerEvent();
    event.id = "";
    co_await events.send(event);
    co_await events.sendComment();
    co_await events.sendComment("two\nlines");
    for (std::string_view bad : {"a\nb", "a\rb"}) {
      ServerEvent type, id;
      type.type = bad;
      id.id = bad;
      CHECK(contains(refusal(events, type), "the type \"a\\x0"));
      CHECK(contains(refusal(events, id), "has a line break"));
    }
    event.id = std::string_view("a\0b", 3);
    CHECK(contains(refusal(events, event), "has a NUL"));
    event = ServerEvent();
    event.retry = -1ms;
    CHECK(contains(refusal(events, event), "-1 ms is no time to wait"));
    Promise<void> first = events.send("first"), second = events.send("second"); // one after the other
    co_await std::move(second);
    co_await std::move(first);
  });
  Serving serving(router, scope);
  const Reply reply = serving.get("/", "Last-Event-ID: 6\r\n");
  CHECK(last == "6");
  CHECK(reply.field("Content-Type") == "text/event-stream");
  CHECK(reply.field("Cache-Control") == "no-store");
  CHECK(reply.body == "data: one\n\n"
                      "event: news\nid: 7\nretry: 1500\ndata: a\ndata: b\ndata: c\ndata: d\ndata: \n\n"
                      "id: \n\n"
                      ": \n\n"
                      ": two\n: lines\n\n"
                      "data: first\n\ndata: second\n\n");
  CHECK(serving.get("/").status == 200);
  CHECK(last.empty());
  const std::string large(300'000, 'x');
  router.get("/both", [&](Request&, Response& response) -> Promise<void> {
    response.headers().set(HeaderId::CACHE_CONTROL, "no-cache");
    EventStream events(response);
    Promise<void> first = events.send(large), second = events.send("second");
    co_await std::move(second);
    co_await std::move(first);
  });
  const Reply both = serving.get("/both");
  CHECK(both.field("Cache-Control") == "no-cache");
  CHECK((both.body == "data: " + large + "\n\ndata: second\n\n"));
}

TEST_CASE_FIXTURE(LoopTest, "a stream of events is kept alive, and ends with its client") {
  Router router;
  ManualTimer timer;
  bool ended = false;
  router.get("/", [&](Request&, Response& response) -> Promise<void> {
    TROTH_DEFER { ended = true; };
    EventStream events(response);
    co_await events.keepAlive(timer, 10s);
  });
  Serving serving(router, scope);
  std::unique_ptr<AsyncIoStream> client = serving.connect();
  client->write("GET / HTTP/1.1\r\nHost: x\r\n\r\n").wait(scope);
  const std::string head(client->tryReadChunk().wait(scope).text());
  CHECK(head.ends_with("\r\n\r\n4\r\n: \n\n\r\n"));
  for (int i = 0; i < 3; ++i) {
    Promise<Chunk> next = client->tryReadChunk();
    CHECK(takeAfter(next, scope, [&] { timer.advanceBy(10s); }).text() == "4\r\n: \n\n\r\n");
  }
  client.reset();
  CHECK(!ended);
  timer.advanceBy(10s);
  scope.poll();
  CHECK(ended);
}

TEST_CASE_FIXTURE(IoTest, "a line of the access log has what was asked and what came of it, and is one line") {
  Router router;
  router.get("/{x}", [](Request&, Response& response) { return response.send(200, "content"); });
  const auto now = std::chrono::sys_days(std::chrono::year(2024) / 2 / 29) + 13h + 5min + 9s + 999ms;
  std::vector<std::string> lines;
  ServerSettings settings;
  settings.accessLog = [&](const AccessRecord& record) {
    lines.push_back(formatAccess(record, now));
    lines.push_back(formatAccess(record, now, AccessFormat::COMBINED));
  };
  {
    Serving serving(router, scope, settings);
    serving.get("/a?b", "Referer: http://x/\"y\\\r\nUser-Agent: A\tB\xff\r\n");
    serving.exchange("nonsense\r\n\r\n");
    serving.send("HEAD", "/a");
  }
  REQUIRE(lines.size() == 6);
  CHECK(lines[0] == "- - - [29/Feb/2024:13:05:09 +0000] \"GET /a?b HTTP/1.1\" 200 7");
  CHECK(lines[1] == lines[0] + " \"http://x/\\x22y\\x5C\" \"A\\x09B\\xFF\"");
  CHECK(lines[2].starts_with("- - - [29/Feb/2024:13:05:09 +0000] \"-\" 400 "));
  CHECK(lines[3] == lines[2] + " \"-\" \"-\"");
  CHECK(lines[4].ends_with("\"HEAD /a HTTP/1.1\" 200 -"));

  // Over sockets there is a host.
  lines.clear();
  struct Silent : TaskSet::ErrorHandler {
    void taskFailed(Exception) override {}
  } silent;
  const auto network = newNetwork(io);
  Server server(router, io.timer(), silent, settings);
  for (std::string_view host : {"127.0.0.1", "::1"}) {
    auto port = network->parseAddress(host, 0).wait(scope)->listen();
    const auto client = network->parseAddress(port->toString()).wait(scope)->connect().wait(scope);
    server.serveConnection(port->accept().wait(scope));
    client->write("GET /a HTTP/1.0\r\n\r\n").wait(scope);
    client->readAllText(1000).wait(scope);
    REQUIRE(!lines.empty());
    CHECK(lines[lines.size() - 2].starts_with(std::string(host) + " - - ["));
    CHECK(contains(lines.back(), "\"GET /a HTTP/1.0\" 200 7"));
  }
}

TEST_CASE("sweep: a form, a compressed response and events can be cancelled anywhere") {
  // A handler that uses all of it, and a client that takes what comes a few bytes at a time.
  const auto steps = cancelSweep(std::function<Promise<void>(LoopTest&)>([](LoopTest&) -> Promise<void> {
    struct World : TaskSet::ErrorHandler {
      ManualTimer timer;
      Router router;
      Server server{router, timer, *this};
      std::unique_ptr<AsyncIoStream> end;
      void taskFailed(Exception) override {}
    };
    auto world = std::make_unique<World>();
    world->router.post("/form", [](Request& request, Response& response) -> Promise<void> {
      const Query form = co_await readForm(request);
      response.headers().set(HeaderId::CONTENT_TYPE, "text/plain");
      co_await sendCompressed(request, response, 200, std::string(100'000, form.valueOr("a", "?").front()));
    });
    world->router.get("/events", [](Request&, Response& response) -> Promise<void> {
      EventStream events(response);
      for (int i = 0; i < 3; ++i) co_await events.send("event");
    });
    TwoWayPipe pipe = newTwoWayPipe();
    world->server.serveConnection(std::move(pipe.ends[0]));
    world->end = std::move(pipe.ends[1]);
    co_await world->end->write("POST /form HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip\r\nContent-Length: 3\r\n"
                               "Content-Type: application/x-www-form-urlencoded\r\n\r\na");
    co_await world->end->write("=b");
    co_await world->end->write("GET /events HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    const auto client = newShortIoStream(*world->end, 100);
    const std::string replies = co_await client->readAllText(1'000'000);
    CHECK(replies.starts_with("HTTP/1.1 200 "));
    CHECK(replies.ends_with("data: event\n\n\r\n0\r\n\r\n"));
  }));
  CHECK(steps > 10);
}
