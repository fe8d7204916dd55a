// SPDX-License-Identifier: MIT
// The client against servers that say exactly what a test tells them to, in memory.
#include "client_fixture.h"
#include "random_reader.h"

#include <troth/io/pipe.h>
#include <troth/net/http/content_coding.h>
#include <troth/runtime/join.h>
#include <troth/runtime/pool_detail.h>

#include <optional>
#include <random>

using namespace troth;
using namespace troth::http;
using namespace troth::test;
using std::literals::operator""s;

TEST_CASE_FIXTURE(ClientTest, "a request is answered, and the next one goes over the same connection") {
  Responses first = client().get("http://a/x?y=1#z");
  Peer peer = accept();
  CHECK(peer.heard() == "GET /x?y=1 HTTP/1.1\r\nHost: a\r\n\r\n");
  CHECK(!first.poll(scope));
  peer.say("HTTP/1.1 200 Very well\r\nX-A: 1\r\nContent-Length: 5\r\nSet-Cookie: b\r\n\r\nhello");
  ClientResponse response = take(first);
  CHECK(response.status() == 200);
  CHECK(response.isSuccess());
  CHECK(response.reason() == "Very well");
  CHECK(response.url().toString() == "http://a/x?y=1#z");
  CHECK(response.body().tryGetLength() == 5u);
  CHECK(client().idleConnections() == 0);
  CHECK(text(response) == "hello");
  CHECK(client().connections() == 1);
  CHECK(client().idleConnections() == 1);

  Responses second = client().head("http://A:80");
  CHECK(peer.heard() == "HEAD / HTTP/1.1\r\nHost: A\r\n\r\n");
  peer.say("HTTP/1.1 204 \r\nContent-Length: 7\r\n\r\n");
  ClientResponse empty = take(second);
  CHECK(client().idleConnections() == 1);
  CHECK(empty.status() == 204);
  CHECK(empty.reason().empty());
  CHECK(text(empty).empty());
  // The first one keeps its head, though its connection has gone on.
  CHECK(response.headers().size() == 3);
  CHECK(response.headers().get("x-a") == "1");
  CHECK(response.headers().get(HeaderId::SET_COOKIE) == "b");
  CHECK(!response.headers().has(HeaderId::LOCATION));
  CHECK(text(response).empty());
}

TEST_CASE_FIXTURE(ClientTest, "what is sent is what RFC 9112 says") {
  settings.userAgent = "test/1";
  const auto sent = [&](ClientRequest request) {
    Responses promise = client().request(std::move(request));
    Peer peer = accept();
    return peer.heard();
  };
  const std::string from = "\r\nHost: a\r\nUser-Agent: test/1\r\n";
  CHECK(sent({Method::POST, "http://user:pass@a/"}) == "POST / HTTP/1.1" + from + "Content-Length: 0\r\n\r\n");
  CHECK(sent({Method::DELETE_, "HTTP://a?q"}) == "DELETE /?q HTTP/1.1" + from + "\r\n");
  CHECK(sent({"BREW", Url::parse("http://10.0.0.1:80/pot")}) ==
        "BREW /pot HTTP/1.1\r\nHost: 10.0.0.1\r\nUser-Agent: test/1\r\n\r\n");
  {
    ClientRequest request(Method::POST, "http://a/p");
    request.headers.add("X-Y", "z").add(HeaderId::USER_AGENT, "mine");
    request.setBody("12345");
    CHECK(sent(std::move(request)) ==
          "POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nX-Y: z\r\nUser-Agent: mine\r\n\r\n12345");
  }
  {
    ClientRequest request(Method::GET, "http://a/");
    request.setBody("");
    CHECK(sent(std::move(request)) == "GET / HTTP/1.1" + from + "Content-Length: 0\r\n\r\n");
  }
  {
    OneWayPipe pipe = newOneWayPipe();
    ClientRequest request(Method::PUT, "http://a/");
    request.setBody(std::move(pipe.input));
    Responses promise = client().request(std::move(request));
    Peer peer = accept();
    CHECK(peer.heard() == "PUT / HTTP/1.1" + from + "Transfer-Encoding: chunked\r\n\r\n");
    pipe.output->write("abc").wait(scope);
    CHECK(peer.heard() == "3\r\nabc\r\n");
    pipe.output->write("0123456789abcdef").wait(scope);
    CHECK(peer.heard() == "10\r\n0123456789abcdef\r\n");
    pipe.output.reset();
    CHECK(peer.heard() == "0\r\n\r\n");
    peer.say(OK);
    CHECK(take(promise).status() == 200);
  }
}

namespace {

// Counts the writes to a stream.
class CountedStream final : public AsyncIoStream {
public:
  CountedStream(StreamPtr inner, int& writes) : inner_(std::move(inner)), writes_(writes) {}
  using AsyncOutputStream::write;
  Promise<std::size_t> tryRead(std::span<std::byte> buffer, std::size_t minBytes, std::source_location where) override {
    return inner_->tryRead(buffer, minBytes, where);
  }
  Promise<void> write(std::span<const std::byte> bytes, std::source_location where) override {
    ++writes_;
    return inner_->write(bytes, where);
  }
  Promise<void> write(std::span<const std::span<const std::byte>> pieces, std::source_location where) override {
    ++writes_;
    return inner_->write(pieces, where);
  }
  void shutdownWrite(std::source_location where) override { inner_->shutdownWrite(where); }
  void abortRead(std::source_location where) override { inner_->abortRead(where); }

private:
  StreamPtr inner_;
  int& writes_;
};

} // namespace

TEST_CASE_FIXTURE(ClientTest, "a request with a body that is at hand is one write; TLS goes in between where there is any") {
  port = listen("10.0.0.1:443");
  int writes = 0;
  settings.secure = [&](StreamPtr plain, const Url& url) -> Promise<StreamPtr> {
    CHECK(url.host() == "a");
    return StreamPtr(std::make_unique<CountedStream>(std::move(plain), writes));
  };
  Responses promise = client().get("https://a/");
  Peer peer = accept();
  CHECK(exchange(peer, std::move(promise), OK) == "ok");
  CHECK(writes == 1);
  promise = client().post("https://A:443/", "text/plain", "12345");
  CHECK(peer.heard() == "POST / HTTP/1.1\r\nHost: A\r\nContent-Length: 5\r\nContent-Type: text/plain\r\n\r\n12345");
  CHECK(writes == 2);
  CHECK(exchange(peer, std::move(promise), OK) == "ok");
  OneWayPipe pipe = newOneWayPipe();
  ClientRequest request(Method::PUT, "https://a/");
  request.setBody(std::move(pipe.input), 3);
  Promise<void> write = pipe.output->write("abc");
  promise = client().request(std::move(request));
  CHECK(contains(peer.heard(), "\r\n\r\nabc"));
  CHECK(writes == 3); // what the stream has goes with the head
}

TEST_CASE_FIXTURE(ClientTest, "a connection is for one origin: scheme, host and port, however they are written") {
  settings.secure = [](StreamPtr plain, const Url&) -> Promise<StreamPtr> { return plain; };
  const auto other = listen("10.0.0.1:443");
  std::vector<Peer> peers;
  const auto ask = [&](const char* url, ConnectionReceiver& receiver, std::size_t connections) {
    Responses promise = client().get(url);
    Promise<StreamPtr> accepted = receiver.accept();
    if (accepted.poll(scope)) peers.emplace_back(std::move(accepted).wait(scope), scope);
    CHECK_MESSAGE(peers.size() == connections, url);
    for (Peer& peer : peers)
      if (!peer.heard().empty()) peer.say(OK);
    ClientResponse response = take(promise);
    CHECK(text(response) == "ok");
  };
  ask("http://a/", *port, 1);
  ask("http://a:443/", *other, 2);
  ask("https://a/", *other, 3);
  ask("http://10.0.0.1/", *port, 4);
  for (const char* same : {"HTTP://A:80/", "http://%61/", "http://a:443/", "https://A:443/", "http://10.0.0.1:80/", "http://u:p@a/"})
    ask(same, *port, 4);
  CHECK(client().idleConnections() == 4);
  Responses held = client().get("http://a/");
  peers[0].heard();
  peers[0].say("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n");
  const ClientResponse response = take(held);
  made.reset(); // what is idle goes with the client, whoever holds a response of it
  for (Peer& peer : peers) CHECK(peer.heard() == "(end)");
}

TEST_CASE_FIXTURE(ClientTest, "a stream of known length is sent as it comes, and must have that length") {
  for (const bool isShort : {false, true}) {
    OneWayPipe pipe = newOneWayPipe();
    ClientRequest request(Method::PUT, "http://a/");
    request.setBody(std::move(pipe.input), 6);
    Responses promise = client().request(std::move(request));
    Peer peer = accept();
    CHECK(peer.heard() == "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\n");
    pipe.output->write("abc").wait(scope);
    CHECK(peer.heard() == "abc");
    if (isShort) {
      pipe.output.reset();
      CHECK(contains(failureOf(std::move(promise), scope).description(), "the request's body ended after 3 of 6 bytes"));
      CHECK(peer.heard() == "(end)");
      CHECK(client().connections() == 0);
    } else {
      Promise<void> more = pipe.output->write("defgh");
      CHECK(peer.heard() == "def");
      peer.say("HTTP/1.1 200 \r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
      CHECK(take(promise).status() == 200);
      CHECK(client().connections() == 0);
    }
  }
}

TEST_CASE_FIXTURE(ClientTest, "a request that could be taken for another is not sent") {
  const auto refusal = [&](ClientRequest request) {
    const Exception e = thrownBy([&] { auto promise = client().request(std::move(request)); });
    CHECK(e.where().file_name() == std::string_view(__FILE__));
    return std::string(e.description());
  };
  for (const char* name : {"Host", "content-length", "Transfer-Encoding", "Expect", "Proxy-Authorization",
                           "Keep-Alive", "Proxy-Connection", "Upgrade", "Connection"}) {
    ClientRequest request(Method::GET, "http://a/");
    request.headers.add(name, "x");
    CHECK(contains(refusal(std::move(request)), findHeader(name) == HeaderId::CONNECTION ? "\"close\"" : "lient"));
  }
  CHECK(contains(refusal({Method::GET, "ftp://a/"}), "\"ftp\""));
  CHECK(contains(refusal({Method::GET, "http://a:0/"}), "port"));
  CHECK(contains(refusal({Method::CONNECT, "http://a/"}), "connectTunnel"));
  CHECK(contains(refusal({Method::GET, "https://a/"}), "TLS"));
  ClientRequest traced(Method::TRACE, "http://a/");
  traced.setBody("x");
  CHECK(contains(refusal(std::move(traced)), "TRACE"));
  CHECK_THROWS_AS(ClientRequest("G T", Url::parse("http://a/")), Exception);
  CHECK_THROWS_AS(ClientRequest("", Url::parse("http://a/")), Exception);
  CHECK_THROWS_AS(ClientRequest(Method::OTHER, "http://a/"), Exception);
  CHECK_THROWS_AS(ClientRequest(Method::GET, "http://a/ b"), Exception);
  CHECK_THROWS_AS(ClientRequest(Method::GET, "/b"), Exception);
  CHECK_THROWS_AS(ClientRequest(Method::GET, "http://a/").setBody(std::unique_ptr<AsyncInputStream>()), Exception);
  CHECK(network.lookups() == 0);
}

TEST_CASE_FIXTURE(ClientTest, "a connection that the server closed meanwhile costs a request nothing, if it may be repeated") {
  const auto warm = [&] {
    Responses promise = client().get("http://a/");
    Peer peer = accept();
    CHECK(exchange(peer, std::move(promise), OK) == "ok");
    return peer;
  };
  SUBCASE("a GET, and a PUT with its body, are sent again on a new one") {
    for (const Method method : {Method::GET, Method::PUT}) {
      Peer stale = warm();
      ClientRequest request(method, "http://a/2");
      if (method == Method::PUT) request.setBody("body");
      Responses promise = client().request(std::move(request));
      const std::string sent = stale.heard();
      stale.take(); // closes it
      Peer fresh = accept();
      CHECK(fresh.heard() == sent);
      CHECK(exchange(fresh, std::move(promise), OK) == "ok");
      CHECK(client().connections() == 1);
      made.reset();
    }
  }
  SUBCASE("a POST is not: it may have been carried out") {
    Peer stale = warm();
    Responses promise = client().post("http://a/", "text/plain", "x");
    stale.heard();
    stale.take();
    CHECK(failureOf(std::move(promise), scope).kind() == Kind::DISCONNECTED);
    CHECK(nobodyConnects());
    CHECK(client().connections() == 0);
  }
  SUBCASE("nor is one whose stream has been read") {
    Peer stale = warm();
    OneWayPipe pipe = newOneWayPipe();
    ClientRequest request(Method::PUT, "http://a/");
    request.setBody(std::move(pipe.input));
    Responses promise = client().request(std::move(request));
    stale.heard();
    stale.take();
    CHECK(failureOf(std::move(promise), scope).kind() == Kind::DISCONNECTED);
    CHECK(nobodyConnects());
  }
  SUBCASE("nor one of which a byte was answered, on however old a connection") {
    Peer stale = warm();
    Responses promise = client().get("http://a/");
    stale.heard();
    stale.say("H");
    stale.take();
    CHECK(failureOf(std::move(promise), scope).kind() == Kind::DISCONNECTED);
    CHECK(nobodyConnects());
  }
  SUBCASE("nor any on a new connection, the second included") {
    Peer stale = warm();
    Responses promise = client().get("http://a/");
    stale.heard();
    stale.take();
    accept();
    const Exception e = failureOf(std::move(promise), scope);
    CHECK(e.kind() == Kind::DISCONNECTED);
    CHECK(nobodyConnects());
  }
}

TEST_CASE_FIXTURE(ClientTest, "a request that fails for a while, or is turned away, is sent again if that is wanted") {
  using namespace std::chrono_literals;
  settings.defaults.retry = {.attempts = 3, .backoff = {.initial = 2s, .jitter = Jitter::NONE}, .longestPause = 20s};
  const auto turnedAway = [](int status, const std::string& fields = "") {
    return "HTTP/1.1 " + std::to_string(status) + " No\r\n" + fields + "Content-Length: 2\r\n\r\nno";
  };
  Responses promise = client().get("http://a/");
  Peer peer = accept();
  // Answers an attempt; the next one comes after `pause`, not earlier, on the same connection.
  const auto turnAway = [&](const std::string& reply, Duration pause) {
    CHECK(peer.heard() == "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    peer.say(reply);
    CHECK(!promise.poll(scope));
    CHECK(client().connections() <= 1);
    timer.advanceBy(pause - 1ns);
    CHECK(!promise.poll(scope));
    CHECK(peer.heard().empty());
    timer.advanceBy(1ns);
    CHECK(!promise.poll(scope));
  };
  SUBCASE("after pauses that grow, as often as it says") {
    settings.keepIdle = 1min;
    for (const int status : {408, 429, 502, 503, 504}) {
      made.reset();
      promise = client().get("http://a/");
      peer = accept();
      turnAway(turnedAway(status), 2s);
      turnAway(turnedAway(status), 4s);
      CHECK(exchange(peer, std::move(promise), turnedAway(status)) == "no");
      CHECK(client().idleConnections() == 1);
    }
  }
  SUBCASE("after what the server says, in seconds or as a date of its own clock, if that is longer") {
    settings.keepIdle = 1min;
    made.reset();
    promise = client().get("http://a/");
    peer = accept();
    turnAway(turnedAway(503, "Retry-After: 7\r\n"), 7s);
    turnAway(turnedAway(503, "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\nRetry-After: Sun, 06 Nov 1994 08:49:57 GMT\r\n"), 20s);
    CHECK(exchange(peer, std::move(promise), OK) == "ok");
    promise = client().get("http://a/");
    turnAway(turnedAway(429, "Retry-After: 1\r\n"), 2s);
    turnAway(turnedAway(429, "Retry-After: soon\r\n"), 4s);
    CHECK(exchange(peer, std::move(promise), OK) == "ok");
  }
  SUBCASE("not where the server wants more time than there is") {
    CHECK(exchange(peer, std::move(promise), turnedAway(503, "Retry-After: 21\r\n")) == "no");
    ClientRequest request(Method::GET, "http://a/");
    request.options = settings.defaults;
    request.options->timeout = 5s;
    promise = client().request(std::move(request));
    CHECK(exchange(peer, std::move(promise), turnedAway(503, "Retry-After: 5\r\n")) == "no");
  }
  SUBCASE("not after another status") {
    for (const int status : {200, 301, 400, 404, 500, 501}) {
      CHECK(exchange(peer, std::move(promise), turnedAway(status)) == "no");
      promise = client().get("http://a/");
    }
  }
  SUBCASE("after an error, and the last one says how often") {
    peer.take();
    CHECK(!promise.poll(scope));
    timer.advanceBy(2s);
    CHECK(!promise.poll(scope));
    accept().heard(); // and closes
    port.reset();
    CHECK(!promise.poll(scope));
    timer.advanceBy(4s);
    const Exception e = failureOf(std::move(promise), scope);
    CHECK_MESSAGE(e.description().starts_with("gave up after 3 attempts: "), e.description());
    CHECK(e.kind() == Kind::DISCONNECTED);
    CHECK(client().connections() == 0);
  }
  SUBCASE("not after one that would only come again") {
    peer.heard();
    peer.say("nonsense\r\n\r\n");
    CHECK(failureOf(std::move(promise), scope).description().starts_with("HTTP: the response"));
  }
  SUBCASE("with its body, unless that is a stream that was read, and only with a method that allows it") {
    peer.heard();
    const auto send = [&](Method method, bool isStream, RequestRetry::Methods methods) {
      ClientRequest request(method, "http://a/");
      request.options = settings.defaults;
      request.options->retry.methods = methods;
      if (isStream)
        request.setBody(newOneWayPipe().input);
      else
        request.setBody("body");
      promise = client().request(std::move(request));
      Peer first = accept();
      const std::string sent = first.heard();
      first.say(turnedAway(503));
      const bool isAnswered = promise.poll(scope);
      timer.advanceBy(2s);
      if (isAnswered || promise.poll(scope)) return false;
      CHECK(first.heard() == sent);
      return true;
    };
    using enum RequestRetry::Methods;
    CHECK(send(Method::PUT, false, IDEMPOTENT));
    CHECK(!send(Method::PUT, true, ANY));
    CHECK(!send(Method::POST, false, IDEMPOTENT));
    CHECK(send(Method::POST, false, ANY));
  }
  SUBCASE("behind a redirect, too, with the method that it has then") {
    settings.defaults.redirects = 1;
    settings.defaults.retry.attempts = 2;
    made.reset();
    promise = client().post("http://a/form", "text/plain", "x");
    peer = accept();
    peer.heard();
    peer.say("HTTP/1.1 303 See\r\nLocation: /\r\nContent-Length: 0\r\n\r\n");
    CHECK(!promise.poll(scope));
    turnAway(turnedAway(503), 2s);
    CHECK(exchange(peer, std::move(promise), OK) == "ok");
  }
  SUBCASE("the pause ends with the request, and with the client") {
    peer.heard();
    peer.say(turnedAway(503));
    CHECK(!promise.poll(scope));
    CHECK(client().idleConnections() == 1);
    SUBCASE("request") {
      promise = NEVER_DONE;
      timer.advanceBy(1min);
      CHECK(peer.heard() == "(end)");
    }
    SUBCASE("client") {
      made.reset();
      CHECK(failureOf(std::move(promise), scope).kind() == Kind::DISCONNECTED);
    }
  }
  SUBCASE("settings that make no sense are refused at once") {
    for (const RequestRetry& bad : {RequestRetry{.attempts = 0}, RequestRetry{.attempts = 2, .backoff = {.initial = 0s}}}) {
      ClientRequest request(Method::GET, "http://a/");
      request.options.emplace().retry = bad;
      const Exception e = thrownBy([&] { (void)client().request(std::move(request)); });
      CHECK(e.where().file_name() == std::string_view(__FILE__));
    }
  }
}

TEST_CASE_FIXTURE(ClientTest, "how long a server asks to wait is read from Retry-After") {
  using namespace std::chrono_literals;
  const auto told = [&](const std::string& fields) {
    Responses promise = client().get("http://a/");
    Peer peer = accept();
    peer.heard();
    peer.say("HTTP/1.1 503 No\r\nConnection: close\r\n" + fields + "Content-Length: 0\r\n\r\n");
    return take(promise).retryAfter();
  };
  CHECK(!told("").has_value());
  CHECK(told("Retry-After: 0\r\n") == 0s);
  CHECK(told("Retry-After: 120\r\n") == 120s);
  CHECK(told("Retry-After: 99999999999999999999999\r\n").value() > 24h * 365);
  for (const char* bad : {"", "-1", "1.5", "1 2", "x", "Sun, 99 Nov 1994 08:49:37 GMT"})
    CHECK(!told("Retry-After: " + std::string(bad) + "\r\n").has_value());
  const std::string date = "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
  CHECK(told(date + "Retry-After: Sun, 06 Nov 1994 08:50:37 GMT\r\n") == 60s);
  CHECK(told(date + "Retry-After: Sun Nov  6 08:49:38 1994\r\n") == 1s);
  CHECK(told(date + "Retry-After: Sun, 06 Nov 1994 08:49:36 GMT\r\n") == 0s);
  CHECK(told("Retry-After: Sun, 06 Nov 1994 08:49:37 GMT\r\n") == 0s);
  CHECK(told("Date: x\r\nRetry-After: Fri, 31 Dec 9999 23:59:59 GMT\r\n").value() > 24h * 365);
}

TEST_CASE_FIXTURE(ClientTest, "an idle connection ends with its time, and at once with a byte or the end") {
  const auto warm = [&](const std::string& reply) {
    Responses promise = client().get("http://a/");
    Peer peer = accept();
    exchange(peer, std::move(promise), reply);
    return peer;
  };
  SUBCASE("its time") {
    Peer peer = warm(OK);
    timer.advanceBy(std::chrono::milliseconds(3999));
    CHECK(peer.heard().empty());
    timer.advanceBy(std::chrono::milliseconds(1));
    CHECK(peer.heard() == "(end)");
  }
  SUBCASE("the end") {
    Peer peer = warm(OK);
    peer.finish();
    CHECK(peer.heard() == "(end)");
  }
  SUBCASE("a byte, which no request will take for its answer") {
    Peer peer = warm(OK);
    peer.say("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison");
    CHECK(peer.heard() == "(end)");
  }
  SUBCASE("a byte of which the loop has not heard yet") {
    Peer peer = warm(OK);
    Promise<void> poison = peer.stream().write("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison");
    Responses promise = client().get("http://a/");
    Peer fresh = accept();
    CHECK(exchange(fresh, std::move(promise), OK) == "ok");
  }
  SUBCASE("bytes behind the response") {
    Peer peer = warm(OK + "HTTP/1.1 200 OK");
    CHECK(peer.heard() == "(end)");
  }
  if (client().connections() == 0) {
    Responses promise = client().get("http://a/");
    Peer fresh = accept();
    CHECK(exchange(fresh, std::move(promise), OK) == "ok");
  }
  CHECK(client().idleConnections() == 1);
}

TEST_CASE_FIXTURE(ClientTest, "requests beyond a limit of connections wait, and are served in turn") {
  settings.connectionsPerOrigin = 2;
  settings.connections = 3;
  std::vector<Responses> waiting;
  for (int i = 0; i < 5; ++i) waiting.push_back(client().get("http://a/" + std::to_string(i)));
  Peer first = accept(), second = accept();
  CHECK(contains(first.heard(), "GET /0 "));
  CHECK(contains(second.heard(), "GET /1 "));
  CHECK(nobodyConnects());
  SUBCASE("of one origin, first come, first served, on the connections that there are") {
    CHECK(exchange(second, std::move(waiting[1]), OK) == "ok");
    CHECK(contains(second.heard(), "GET /2 "));
    CHECK(exchange(first, std::move(waiting[0]), OK) == "ok");
    CHECK(contains(first.heard(), "GET /3 "));
    CHECK(first.heard().empty());
    CHECK(nobodyConnects());
  }
  SUBCASE("who gives up waiting, or is cancelled, makes way") {
    waiting[2] = NEVER_DONE;
    waiting[0] = NEVER_DONE;
    CHECK(first.heard() == "(end)");
    Peer third = accept();
    CHECK(contains(third.heard(), "GET /3 "));
    CHECK(exchange(third, std::move(waiting[3]), "HTTP/1.1 200 \r\nConnection: close\r\nContent-Length: 0\r\n\r\n").empty());
    Peer fourth = accept();
    CHECK(contains(fourth.heard(), "GET /4 "));
  }
  SUBCASE("of several origins, by turns; an idle connection is closed for their sake") {
    Responses other = client().get("http://b/x"), another = client().get("http://b/y");
    Peer third = accept();
    CHECK(contains(third.heard(), "GET /x "));
    CHECK(nobodyConnects());
    for (int i = 2; i < 5; ++i) waiting[static_cast<std::size_t>(i)] = NEVER_DONE;
    CHECK(exchange(first, std::move(waiting[0]), OK) == "ok");
    CHECK(first.heard() == "(end)");
    Peer fourth = accept();
    CHECK(contains(fourth.heard(), "GET /y "));
    CHECK(client().connections() == 3);
    CHECK(exchange(third, std::move(other), OK) == "ok");
    CHECK(client().idleConnections() == 1);
    Responses third2 = client().get("http://10.0.0.1/");
    CHECK(third.heard() == "(end)");
    CHECK(contains(accept().heard(), "Host: 10.0.0.1"));
  }
  SUBCASE("the client goes while they wait") {
    made.reset();
    CHECK(first.heard() == "(end)");
    for (Responses& each : waiting) {
      const Exception e = failureOf(std::move(each), scope);
      CHECK(e.kind() == Kind::DISCONNECTED);
      CHECK(contains(e.description(), "the client was destroyed"));
    }
  }
}

TEST_CASE_FIXTURE(ClientTest, "several who wait for the limit of all are served one by one, each origin in turn, whoever has gone meanwhile") {
  settings.connectionsPerOrigin = 2;
  settings.connections = 2;
  const std::string close = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
  Responses first = client().get("http://a/first"), second = client().get("http://a/second");
  Peer one = accept(), two = accept();
  std::vector<Responses> waiting;
  for (const char* url : {"http://10.0.0.1/gone", "http://b/x", "http://b/y", "http://a/z"}) waiting.push_back(client().get(url));
  CHECK(nobodyConnects());
  waiting[0] = NEVER_DONE; // the only one of its origin
  std::string order;
  const auto next = [&](Peer& peer, Responses& promise) {
    CHECK(exchange(peer, std::move(promise), close).empty());
    Peer accepted = accept();
    const std::string sent = accepted.heard();
    order += sent.substr(0, sent.find(" HTTP/")) + ", ";
    CHECK(nobodyConnects());
    return accepted;
  };
  Peer three = next(one, first);
  Peer four = next(two, second);
  Peer five = next(four, waiting[3]);
  CHECK(order == "GET /x, GET /z, GET /y, ");
  CHECK(exchange(three, std::move(waiting[1]), close).empty());
  CHECK(exchange(five, std::move(waiting[2]), close).empty());
  CHECK(client().connections() == 0);
}

TEST_CASE_FIXTURE(ClientTest, "an origin that has no connection any more costs nothing") {
  network.addHost("c", {"10.0.0.1"});
  const auto ask = [&](const std::string& host) {
    Responses promise = client().get("http://" + host);
    Peer peer = accept();
    exchange(peer, std::move(promise), "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
  };
  ask("10.0.0.1");
  const std::int64_t before = troth::detail::liveBlocks();
  for (const char* host : {"a", "b", "c"}) ask(host);
  CHECK(troth::detail::liveBlocks() == before);
}

TEST_CASE_FIXTURE(ClientTest, "a connection is kept though somebody has waited for one, if he has given up") {
  settings.connections = 1;
  Responses first = client().get("http://a/"), second = client().get("http://a/"), third = client().get("http://b/");
  Peer peer = accept();
  second = NEVER_DONE;
  third = NEVER_DONE;
  CHECK(exchange(peer, std::move(first), OK) == "ok");
  CHECK(client().idleConnections() == 1);
}

TEST_CASE_FIXTURE(ClientTest, "what comes behind a response is nobody's answer, also if somebody waits for its connection") {
  settings.connectionsPerOrigin = 1;
  Responses first = client().get("http://a/first"), second = client().get("http://a/second");
  Peer peer = accept();
  peer.heard();
  peer.say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n");
  ClientResponse response = take(first);
  peer.say("okHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison");
  CHECK(text(response) == "ok");
  CHECK(peer.heard() == "(end)");
  Peer fresh = accept();
  CHECK(exchange(fresh, std::move(second), OK) == "ok");
}

TEST_CASE_FIXTURE(ClientTest, "a server may answer before it has the whole request") {
  OneWayPipe pipe = newOneWayPipe();
  ClientRequest request(Method::POST, "http://a/");
  request.setBody(std::move(pipe.input));
  Responses promise = client().request(std::move(request));
  Peer peer = accept();
  pipe.output->write("abc").wait(scope);
  peer.heard();
  SUBCASE("with an error: the rest is not sent") {
    peer.say("HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig");
    ClientResponse response = take(promise);
    CHECK(response.status() == 413);
    CHECK(text(response) == "big");
    CHECK(failureOf(pipe.output->write("d"), scope).kind() == Kind::DISCONNECTED);
    CHECK(peer.heard() == "(end)");
    CHECK(client().connections() == 0);
  }
  SUBCASE("with an error, of which it has closed the connection for reading") {
    peer.stream().abortRead();
    Promise<void> write = pipe.output->write("d");
    write.poll(scope);
    peer.say("HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig");
    ClientResponse response = take(promise);
    CHECK(text(response) == "big");
  }
  SUBCASE("with success: both go on side by side") {
    peer.say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n");
    ClientResponse response = take(promise);
    CHECK(response.body().tryReadChunk().wait(scope).text() == "x");
    pipe.output->write("def").wait(scope);
    CHECK(peer.heard() == "3\r\ndef\r\n");
    Promise<std::string> rest = response.readText(100);
    SUBCASE("to the end") {
      pipe.output.reset();
      CHECK(peer.heard() == "0\r\n\r\n");
      peer.say("1\r\ny\r\n0\r\nT: u\r\n\r\n");
      CHECK(std::move(rest).wait(scope) == "y");
      CHECK(response.trailers().get("t") == "u");
      CHECK(client().idleConnections() == 1);
    }
    SUBCASE("to the response's end: the rest is not wanted") {
      peer.say("1\r\ny\r\n0\r\n\r\n");
      CHECK(std::move(rest).wait(scope) == "y");
      CHECK(client().connections() == 0);
      CHECK(peer.heard() == "(end)");
    }
    SUBCASE("to a failure of the body's stream, which is everybody's") {
      pipe.output->abortWrite();
      CHECK(failureOf(std::move(rest), scope).kind() == Kind::DISCONNECTED);
      CHECK(peer.heard() == "(end)");
    }
  }
}

TEST_CASE_FIXTURE(ClientTest, "a body that waits for 100 Continue is sent when the server says so, in time, or not at all") {
  settings.defaults.expect = RequestOptions::Expect::CONTINUE;
  const std::string head = "PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n";
  ClientRequest request(Method::PUT, "http://a/");
  request.setBody("body");
  Responses promise = client().request(std::move(request));
  Peer peer = accept();
  CHECK(peer.heard() == head);
  SUBCASE("the server says so") {
    peer.say("HTTP/1.1 100 Continue\r\n\r\n");
    CHECK(peer.heard() == "body");
    CHECK(exchange(peer, std::move(promise), OK) == "ok");
    CHECK(client().idleConnections() == 1);
  }
  SUBCASE("the server says nothing") {
    timer.advanceBy(std::chrono::milliseconds(999));
    CHECK(peer.heard().empty());
    timer.advanceBy(std::chrono::milliseconds(1));
    CHECK(peer.heard() == "body");
    peer.say("HTTP/1.1 100 Continue\r\n\r\n");
    CHECK(exchange(peer, std::move(promise), OK) == "ok");
  }
  SUBCASE("the server answers at once") {
    CHECK(exchange(peer, std::move(promise), "HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n").empty());
    CHECK(peer.heard() == "(end)");
  }
  SUBCASE("the server does not know the expectation") {
    peer.say("HTTP/1.1 417 What\r\nContent-Length: 0\r\n\r\n");
    CHECK(peer.heard() == "(end)");
    Peer again = accept();
    CHECK(again.heard() == "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody");
    CHECK(exchange(again, std::move(promise), "HTTP/1.1 417 No\r\nContent-Length: 0\r\n\r\n").empty());
    CHECK(nobodyConnects());
  }
}

TEST_CASE_FIXTURE(ClientTest, "interim responses are told to who wants them") {
  ClientRequest request(Method::GET, "http://a/");
  std::string told;
  request.options.emplace().onInformational = [&](int status, const HeaderFields& headers) {
    told += std::to_string(status) + std::string(headers.valueOr(HeaderId::LINK, "-")) + " ";
    if (status == 199) throw std::runtime_error("enough");
  };
  Responses promise = client().request(std::move(request));
  Peer peer = accept();
  peer.heard();
  peer.say("HTTP/1.1 103 Hints\r\nLink: x\r\n\r\nHTTP/1.1 100 Go on\r\n\r\nHTTP/1.1 123 ?\r\nContent-Length: 3\r\n\r\n");
  CHECK(!promise.poll(scope));
  CHECK(told == "103x 123- ");
  peer.say("HTTP/1.1 199 \r\n\r\n");
  CHECK_THROWS_AS(std::move(promise).wait(scope), std::runtime_error);
  CHECK(peer.heard() == "(end)");
}

namespace {

// Follows redirects; each step is what is to be sent and the status and Location of the answer.
struct Hop {
  std::string sent;
  std::string reply;
};
std::string to(int status, std::string_view location) {
  return "HTTP/1.1 " + std::to_string(status) + " R\r\nLocation: " + std::string(location) + "\r\nContent-Length: 4\r\n\r\nmove";
}

} // namespace

TEST_CASE_FIXTURE(ClientTest, "redirects are followed as often as is wanted, by the rules of each status") {
  const auto make = [&](Method method, unsigned redirects) {
    ClientRequest request(method, "http://a/one?q#frag");
    request.options.emplace().redirects = redirects;
    request.headers.set(HeaderId::AUTHORIZATION, "secret").set(HeaderId::COOKIE, "c").set("X-Key", "k");
    request.headers.set(HeaderId::CONTENT_TYPE, "text/plain");
    if (method == Method::POST || method == Method::PUT) request.setBody("body");
    return request;
  };
  const std::string fields = "Authorization: secret\r\nCookie: c\r\nX-Key: k\r\n", type = "Content-Type: text/plain\r\n";
  const auto follow = [&](ClientRequest request, const std::vector<Hop>& hops) {
    Responses promise = client().request(std::move(request));
    std::unique_ptr<Peer> peer;
    for (const Hop& hop : hops) {
      Promise<StreamPtr> accepted = port->accept();
      if (accepted.poll(scope)) peer = std::make_unique<Peer>(std::move(accepted).wait(scope), scope);
      CHECK(peer->heard() == hop.sent);
      peer->say(hop.reply);
    }
    ClientResponse response = take(promise);
    return std::to_string(response.status()) + " " + response.url().toString();
  };
  const std::string first = "POST /one?q HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n" + fields + type + "\r\nbody";
  SUBCASE("not at all, unless asked to") {
    CHECK(follow(make(Method::POST, 0), {{first, to(302, "/two")}}) == "302 http://a/one?q#frag");
  }
  SUBCASE("a POST becomes a GET by 301, 302 and 303") {
    for (const int status : {301, 302, 303}) {
      CHECK(follow(make(Method::POST, 1), {{first, to(status, "../two")},
                                           {"GET /two HTTP/1.1\r\nHost: a\r\n" + fields + "\r\n", OK}}) == "200 http://a/two#frag");
      CHECK(client().connections() == 1); // the same one
      made.reset();
    }
  }
  SUBCASE("by 307 and 308 it stays what it is") {
    for (const int status : {307, 308}) {
      const std::string second = "POST /one?r HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n" + fields + type + "\r\nbody";
      CHECK(follow(make(Method::POST, 1), {{first, to(status, "?r#s")}, {second, OK}}) == "200 http://a/one?r#s");
      made.reset();
    }
  }
  SUBCASE("PUT stays by 302, and becomes a GET by 303; HEAD stays") {
    const std::string put = "PUT" + first.substr(4);
    CHECK(follow(make(Method::PUT, 5), {{put, to(302, "one?q")}, {put, to(303, "")}, {"GET /one?q HTTP/1.1\r\nHost: a\r\n" + fields + "\r\n", OK}}) ==
          "200 http://a/one?q#frag");
    made.reset();
    const std::string head = "HEAD /one?q HTTP/1.1\r\nHost: a\r\n" + fields + type + "\r\n";
    CHECK(follow(make(Method::HEAD, 1), {{head, "HTTP/1.1 303 R\r\nLocation: ?q\r\n\r\n"}, {head, "HTTP/1.1 200 OK\r\n\r\n"}}) == "200 http://a/one?q#frag");
  }
  SUBCASE("to another origin no credentials go along") {
    settings.sensitiveHeaders = {"x-key"};
    CHECK(follow(make(Method::POST, 2), {{first, to(307, "http://user:pw@b/")},
                                         {"POST / HTTP/1.1\r\nHost: b\r\nContent-Length: 4\r\n" + type + "\r\nbody", to(303, "//a/x")},
                                         {"GET /x HTTP/1.1\r\nHost: a\r\n\r\n", OK}}) == "200 http://a/x#frag");
  }
  SUBCASE("a body that cannot be sent twice ends it") {
    OneWayPipe pipe = newOneWayPipe();
    ClientRequest request(Method::POST, "http://a/");
    request.options.emplace().redirects = 5;
    request.setBody(std::move(pipe.input));
    pipe.output.reset();
    CHECK(follow(std::move(request), {{"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", to(308, "/x")}}) == "308 http://a/");
  }
  SUBCASE("what leads nowhere is an error") {
    const auto error = [&](unsigned most, const std::string& reply) {
      Client other(network, timer, settings);
      ClientRequest request(Method::GET, "http://a/");
      request.options.emplace().redirects = most;
      Responses promise = other.request(std::move(request));
      Peer peer = accept();
      for (unsigned i = 0; i < most && !promise.poll(scope); ++i) {
        CHECK(peer.heard() == "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        peer.say(reply);
      }
      peer.heard();
      peer.say(reply);
      const Exception e = failureOf(std::move(promise), scope);
      return std::string(kindName(e.kind())) + ": " + std::string(e.description());
    };
    CHECK(contains(error(3, to(302, "/")), "FAILED: HTTP: there are more than 3 redirects; the last one leads to \"http://a/\""));
    CHECK(contains(error(1, to(302, "ftp://a/")), "FAILED: HTTP: the server redirects to \"ftp://a/\""));
    CHECK(contains(error(1, to(302, "javascript:alert(1)")), "scheme"));
    CHECK(contains(error(1, to(302, "http://a b/")), "FAILED: HTTP: the server redirects to \"http://a b/\""));
    CHECK(contains(error(1, to(302, "http://")), "FAILED"));
    CHECK(contains(error(1, to(302, "https://a/")), "UNIMPLEMENTED"));
    CHECK(contains(error(1, "HTTP/1.1 302 R\r\nLocation: /a\r\nLocation: /b\r\n\r\n"), "several"));
  }
  SUBCASE("without a Location, and with another status, there is nothing to follow") {
    const std::string get = "GET /one?q HTTP/1.1\r\nHost: a\r\n" + fields + type + "\r\n";
    CHECK(follow(make(Method::GET, 5), {{get, "HTTP/1.1 302 R\r\nContent-Length: 0\r\n\r\n"}}) == "302 http://a/one?q#frag");
    made.reset();
    CHECK(follow(make(Method::GET, 5), {{get, to(300, "/x")}}) == "300 http://a/one?q#frag");
    made.reset();
    CHECK(follow(make(Method::GET, 5), {{get, to(201, "/x")}}) == "201 http://a/one?q#frag");
  }
}

TEST_CASE_FIXTURE(ClientTest, "every wait for the server has its time") {
  settings.connectTimeout = std::chrono::seconds(3);
  settings.defaults.responseTimeout = std::chrono::seconds(5);
  settings.defaults.idleTimeout = std::chrono::seconds(7);
  const auto expectLate = [&](auto promise, int seconds, std::string_view what) {
    CHECK(!promise.poll(scope));
    timer.advanceBy(std::chrono::seconds(seconds) - std::chrono::nanoseconds(1));
    CHECK(!promise.poll(scope));
    timer.advanceBy(std::chrono::nanoseconds(1));
    const Exception e = failureOf(std::move(promise), scope);
    CHECK(e.kind() == Kind::OVERLOADED);
    CHECK_MESSAGE(contains(e.description(), what), e.description());
  };
  SUBCASE("connecting") {
    network.setSilent("10.0.0.1");
    expectLate(client().get("http://a/"), 3, "connecting to a");
    CHECK(client().connections() == 0);
  }
  SUBCASE("connecting, also for longer than connecting takes by itself") {
    settings.connectTimeout = std::chrono::seconds(300);
    network.setSilent("10.0.0.1");
    expectLate(client().get("http://a/"), 300, "connecting to a");
  }
  SUBCASE("looking the name up") {
    network.setLookupDelay(std::chrono::seconds(9));
    expectLate(client().get("http://a/"), 3, "connecting to a");
  }
  SUBCASE("the answer, of which a part has come") {
    Responses promise = client().get("http://a/");
    Peer peer = accept();
    peer.heard();
    peer.say("HTTP/1.1 100 \r\n\r\nHTTP/1.1 200 OK\r\n");
    expectLate(std::move(promise), 5, "not answered");
    CHECK(peer.heard() == "(end)");
  }
  SUBCASE("permission to send a body, where that is all that counts") {
    settings.defaults.expect = RequestOptions::Expect::CONTINUE;
    settings.defaults.continueTimeout = Duration::max();
    Responses promise = client().put("http://a/", "text/plain", "x");
    Peer peer = accept();
    peer.heard();
    expectLate(std::move(promise), 5, "not answered");
  }
  SUBCASE("the content, between two pieces") {
    Responses promise = client().get("http://a/");
    Peer peer = accept();
    peer.heard();
    peer.say("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nab");
    ClientResponse response = take(promise);
    timer.advanceBy(std::chrono::seconds(60)); // nobody waits
    Promise<std::string> read = response.readText(100);
    CHECK(!read.poll(scope));
    timer.advanceBy(std::chrono::seconds(6));
    peer.say("cd");
    CHECK(!read.poll(scope));
    timer.advanceBy(std::chrono::seconds(6));
    peer.say("ef");
    expectLate(std::move(read), 7, "content");
    CHECK(failureOf(response.readText(100), scope).kind() == Kind::OVERLOADED);
    CHECK(peer.heard() == "(end)");
  }
  SUBCASE("sending, of which nothing is read") {
    ClientRequest request(Method::PUT, "http://a/");
    request.setBody(std::string(1'000'000, 'x'));
    Responses promise = client().request(std::move(request));
    Peer peer = accept();
    CHECK(!promise.poll(scope));
    expectLate(std::move(promise), 7, "read nothing");
  }
  SUBCASE("sending, of which something is read within each time, for ever") {
    ClientRequest request(Method::PUT, "http://a/");
    request.setBody(std::string(1'000'000, 'x'));
    Responses promise = client().request(std::move(request));
    Peer peer = accept();
    CHECK(!promise.poll(scope));
    for (int i = 0; i < 10; ++i) {
      timer.advanceBy(std::chrono::seconds(6));
      CHECK(!promise.poll(scope));
      peer.stream().tryReadChunk(1000).wait(scope);
      timer.advanceBy(std::chrono::seconds(1));
      CHECK(!promise.poll(scope));
    }
    expectLate(std::move(promise), 7, "read nothing");
  }
  SUBCASE("a body whose stream takes its time is no fault of the server's") {
    OneWayPipe pipe = newOneWayPipe();
    ClientRequest request(Method::PUT, "http://a/");
    request.setBody(std::move(pipe.input));
    Responses promise = client().request(std::move(request));
    Peer peer = accept();
    peer.heard();
    timer.advanceBy(std::chrono::hours(1));
    CHECK(!promise.poll(scope));
    pipe.output.reset();
    peer.heard();
    expectLate(std::move(promise), 5, "not answered");
  }
  SUBCASE("all of it: before the head, and after") {
    settings.defaults.timeout = std::chrono::seconds(2);
    expectLate(client().get("http://a/"), 2, "an HTTP request");
    CHECK(client().connections() == 0);
    accept();
    Responses promise = client().get("http://a/");
    Peer peer = accept();
    peer.heard();
    timer.advanceBy(std::chrono::seconds(1));
    peer.say("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nab");
    ClientResponse response = take(promise);
    expectLate(response.readText(100), 1, "the time for the request is up");
    Responses whole = client().get("http://a/");
    Peer other = accept();
    other.heard();
    other.say(OK);
    ClientResponse complete = take(whole);
    CHECK(text(complete) == "ok");
    timer.advanceBy(std::chrono::seconds(3));
    CHECK(text(complete).empty()); // it was in time
  }
}

TEST_CASE_FIXTURE(ClientTest, "a response, its reads, the client and what they are on may go in any order") {
  Responses promise = client().get("http://a/");
  Peer peer = accept();
  peer.heard();
  peer.say("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc");
  std::optional<ClientResponse> response = take(promise);
  SUBCASE("a response with a rest that has not come closes its connection") {
    response.reset();
    CHECK(peer.heard() == "(end)");
    CHECK(client().connections() == 0);
  }
  SUBCASE("a rest that has come is skipped") {
    peer.say("defghij");
    CHECK(response->body().tryReadChunk().wait(scope).text() == "abc");
    Promise<Chunk> more = response->body().tryReadChunk(1);
    CHECK(std::move(more).wait(scope).text() == "d");
    response.reset();
    CHECK(client().idleConnections() == 1); // the rest had come with what was read
    Responses next = client().get("http://a/");
    peer.heard();
    peer.say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n");
    CHECK(take(next).body().tryReadChunk(2).wait(scope).text() == "ab");
    CHECK(client().idleConnections() == 1);
  }
  SUBCASE("a read that is left fails") {
    std::string buffer(10, '.');
    Promise<std::size_t> read = response->body().tryRead(std::as_writable_bytes(std::span(buffer)), 10);
    CHECK(!read.poll(scope));
    response.reset();
    CHECK(failureOf(std::move(read), scope).kind() == Kind::DISCONNECTED);
    CHECK(peer.heard() == "(end)");
    CHECK(client().connections() == 0);
  }
  SUBCASE("a read that is cancelled loses nothing") {
    std::string buffer(10, '.');
    Promise<std::size_t> read = response->body().tryRead(std::as_writable_bytes(std::span(buffer)), 10);
    peer.say("defg");
    CHECK(!read.poll(scope));
    read = NEVER_DONE;
    Promise<Chunk> chunk = response->body().tryReadChunk();
    CHECK(chunk.poll(scope));
    chunk = NEVER_DONE;
    peer.say("hij");
    CHECK(text(*response) == "abcdefghij");
    CHECK(client().idleConnections() == 1);
  }
  SUBCASE("a response that is moved keeps its stream") {
    AsyncInputStream& body = response->body();
    ClientResponse moved = std::move(*response);
    response.reset();
    CHECK(&moved.body() == &body);
    ClientResponse twice = std::move(moved);
    CHECK_THROWS_AS(moved.status(), Exception);
    CHECK_THROWS_AS(moved.body(), Exception);
    CHECK(body.tryReadChunk().wait(scope).text() == "abc");
  }
  SUBCASE("the client goes: reading fails, what was read stays") {
    Promise<std::string> read = response->readText(100);
    CHECK(!read.poll(scope));
    made.reset();
    CHECK(failureOf(std::move(read), scope).kind() == Kind::DISCONNECTED);
    CHECK(response->headers().get(HeaderId::CONTENT_LENGTH) == "10");
    CHECK(contains(failureOf(response->readText(100), scope).description(), "the client was destroyed"));
    CHECK(peer.heard() == "(end)");
  }
  SUBCASE("the client goes with a response that nobody has taken") {
    Responses second = client().get("http://a/");
    Peer other = accept();
    other.heard();
    other.say("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc");
    CHECK(second.poll(scope));
    made.reset();
    response.reset();
    CHECK(other.heard() == "(end)");
    ClientResponse late = take(second);
    CHECK(late.status() == 200);
    CHECK(failureOf(late.readText(100), scope).kind() == Kind::DISCONNECTED);
  }
  SUBCASE("requests at every stage meet the end of the client") {
    settings.defaults.expect = RequestOptions::Expect::CONTINUE;
    Responses sent = client().get("http://a/");
    Peer other = accept();
    CHECK(other.heard() == "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    ClientRequest request(Method::PUT, "http://a/");
    request.setBody("x");
    Responses expecting = client().request(std::move(request));
    Peer third = accept();
    network.setSilent("10.0.0.1");
    Responses connecting = client().get("http://a/");
    network.setLookupDelay(std::chrono::seconds(1));
    Responses resolving = client().get("http://b/");
    CHECK(!resolving.poll(scope));
    made.reset();
    for (Responses* each : {&sent, &expecting, &connecting, &resolving})
      CHECK(failureOf(std::move(*each), scope).kind() == Kind::DISCONNECTED);
    CHECK(other.heard() == "(end)");
  }
}

TEST_CASE_FIXTURE(ClientTest, "a proxy gets requests in the absolute form, and makes tunnels") {
  port = listen("10.9.9.9:3128");
  settings.proxy = Url::parse("http://10.9.9.9:3128");
  settings.proxyAuthorization = "Basic eDp5";
  SUBCASE("for http, on the same connection for all origins") {
    Responses promise = client().get("http://u@one.example:8080?q");
    Peer peer = accept();
    CHECK(peer.heard() == "GET http://one.example:8080/?q HTTP/1.1\r\nHost: one.example:8080\r\nProxy-Authorization: Basic eDp5\r\n\r\n");
    CHECK(exchange(peer, std::move(promise), OK) == "ok");
    Responses next = client().get("http://two.example/");
    CHECK(peer.heard() == "GET http://two.example/ HTTP/1.1\r\nHost: two.example\r\nProxy-Authorization: Basic eDp5\r\n\r\n");
    CHECK(exchange(peer, std::move(next), OK) == "ok");
    CHECK(network.lookups() == 0);
  }
  SUBCASE("a tunnel, with what came too early") {
    Promise<StreamPtr> promise = client().connectTunnel("db.example", 5432);
    Peer peer = accept();
    CHECK(peer.heard() == "CONNECT db.example:5432 HTTP/1.1\r\nHost: db.example:5432\r\nProxy-Authorization: Basic eDp5\r\n\r\n");
    peer.say("HTTP/1.1 200 Established\r\nContent-Length: 5\r\n\r\nhello");
    StreamPtr tunnel = std::move(promise).wait(scope);
    made.reset(); // it is nothing of the client's
    Promise<Chunk> lost = tunnel->tryReadChunk(3);
    CHECK(lost.poll(scope));
    lost = NEVER_DONE;
    CHECK(tunnel->tryReadChunk(3).wait(scope).text() == "hel");
    std::string buffer(6, '.');
    Promise<std::size_t> read = tunnel->tryRead(std::as_writable_bytes(std::span(buffer)), 4);
    CHECK(!read.poll(scope));
    CHECK_THROWS_AS(tunnel->tryReadChunk().poll(scope), Exception);
    peer.say("!!!!");
    CHECK(std::move(read).wait(scope) == 6);
    CHECK(buffer == "lo!!!!");
    tunnel->write("bye").poll(scope);
    Promise<void> write = tunnel->write("bye");
    CHECK(contains(peer.heard(), "bye"));
  }
  SUBCASE("a tunnel that is refused, cut off or late") {
    for (const auto& [reply, error] : std::vector<std::pair<std::string, std::string>>{
             {"HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n", "FAILED: HTTP: the proxy refuses a connection to [::1]:22: 407 Proxy Authentication Required"},
             {"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n", "FAILED: HTTP: the proxy refuses a connection to [::1]:22: 302 Found"},
             {"HTTP/1.1 502 No\r\n\r\n", "OVERLOADED: HTTP: the proxy refuses a connection to [::1]:22: 502 Bad Gateway"},
             {"HTTP/1.1 200", "DISCONNECTED: HTTP: the connection ended within the head"},
             {"SSH-2.0\r\n", "FAILED: HTTP: the response \"SSH-2.0"},
             {"", "OVERLOADED: timed out after 30s"}}) {
      Promise<StreamPtr> promise = client().connectTunnel("[::1]", 22);
      Peer peer = accept();
      peer.heard();
      peer.say(reply);
      if (reply.empty()) timer.advanceBy(std::chrono::seconds(30));
      if (!promise.poll(scope)) peer.take();
      const Exception e = failureOf(std::move(promise), scope);
      CHECK_MESSAGE((std::string(kindName(e.kind())) + ": " + std::string(e.description())).starts_with(error), e.description());
    }
    for (const char* host : {"", "a b", "a/b", "a:1", "::1", "u@a", "a\r\nX: y", "a?", "a#"})
      CHECK_THROWS_AS(client().connectTunnel(host, 80).poll(scope), Exception);
    CHECK_THROWS_AS(client().connectTunnel("a", 0).poll(scope), Exception);
  }
  SUBCASE("for https, where there is TLS, inside of a tunnel of its own") {
    settings.secure = [](StreamPtr plain, const Url& url) -> Promise<StreamPtr> {
      Promise<void> hello = plain->write("(hello " + std::string(url.host()) + ")");
      return std::move(hello).then([plain = std::move(plain)]() mutable { return std::move(plain); });
    };
    Responses promise = client().get("https://one.example/x");
    Peer peer = accept();
    CHECK(peer.heard() == "CONNECT one.example:443 HTTP/1.1\r\nHost: one.example:443\r\nProxy-Authorization: Basic eDp5\r\n\r\n");
    peer.say("HTTP/1.1 200 OK\r\n\r\n");
    CHECK(peer.heard() == "(hello one.example)GET /x HTTP/1.1\r\nHost: one.example\r\n\r\n");
    CHECK(exchange(peer, std::move(promise), OK) == "ok");
    Responses next = client().get("https://one.example/y");
    CHECK(exchange(peer, std::move(next), OK) == "ok");
  }
}

TEST_CASE_FIXTURE(ClientTest, "a server that is asked to goes on in another protocol, or answers") {
  const auto make = [] {
    ClientRequest request(Method::GET, "http://a/chat");
    request.headers.set(HeaderId::UPGRADE, "chat");
    return request;
  };
  Promise<Upgraded> promise = client().upgrade(make());
  Peer peer = accept();
  CHECK(peer.heard() == "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: chat\r\n\r\n");
  SUBCASE("it does") {
    peer.say("HTTP/1.1 103 \r\n\r\nHTTP/1.1 101 Switching\r\nUpgrade: chat\r\nConnection: upgrade\r\n\r\nhi");
    REQUIRE(promise.poll(scope));
    Upgraded upgraded = std::move(promise).wait(scope);
    CHECK(upgraded.response.status() == 101);
    CHECK(upgraded.response.headers().get(HeaderId::UPGRADE) == "chat");
    CHECK(client().connections() == 0); // it counts no more
    REQUIRE(upgraded.stream != nullptr);
    CHECK(text(upgraded.response).empty());
    made.reset();
    CHECK(upgraded.stream->tryReadChunk().wait(scope).text() == "hi");
  }
  SUBCASE("it does not") {
    peer.say(OK);
    REQUIRE(promise.poll(scope));
    Upgraded upgraded = std::move(promise).wait(scope);
    CHECK(upgraded.stream == nullptr);
    CHECK(text(upgraded.response) == "ok");
    CHECK(client().idleConnections() == 1);
    CHECK_THROWS_AS(client().upgrade(ClientRequest(Method::GET, "http://a/")).poll(scope), Exception);
  }
}

TEST_CASE_FIXTURE(ClientTest, "a coded content is decoded where that is wanted") {
  settings.defaults.decoding = RequestOptions::Decoding::DECODE;
  settings.defaults.bodyBytes = 1000;
  const auto coded = [](ContentCoding coding, std::string_view plain) {
    const std::vector<std::byte> bytes = encode(coding, asBytes(plain));
    return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  };
  const auto get = [&](const std::string& fields, const std::string& content) {
    Responses promise = client().get("http://a/");
    Peer peer = accept();
    const std::string sent = peer.heard();
    CHECK_MESSAGE(contains(sent, "Accept-Encoding: "), sent);
    peer.say("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: " + std::to_string(content.size()) + "\r\n" + fields + "\r\n" + content);
    ClientResponse response = take(promise);
    return text(response);
  };
  if (!isSupported(ContentCoding::GZIP)) return;
  const std::string once = coded(ContentCoding::GZIP, "hello");
  CHECK(get("Content-Encoding: gzip\r\n", once) == "hello");
  CHECK(get("Content-Encoding: identity, x-gzip\r\nContent-Encoding: deflate\r\n", coded(ContentCoding::DEFLATE, once)) == "hello");
  CHECK(get("Content-Encoding: gzip, rot13\r\n", once) == once);
  CHECK(get("", once) == once);
  CHECK(get("Content-Encoding: gzip\r\n", "").empty());
  // More codings than anybody has a use for are left alone.
  const std::string thrice = coded(ContentCoding::GZIP, coded(ContentCoding::GZIP, once));
  CHECK(get("Content-Encoding: gzip, gzip, gzip\r\n", thrice) == "hello");
  const std::string often = coded(ContentCoding::GZIP, thrice);
  CHECK(get("Content-Encoding: gzip, gzip, gzip, gzip\r\n", often) == often);
  CHECK(contains(thrownBy([&] { get("Content-Encoding: gzip\r\n", "no gzip"); }).description(), "gzip"));
  CHECK(thrownBy([&] { get("Content-Encoding: gzip\r\n", once.substr(0, once.size() - 1)); }).kind() == Kind::FAILED);
  CHECK(contains(thrownBy([&] { get("Content-Encoding: gzip\r\n", coded(ContentCoding::GZIP, std::string(2000, 'x'))); }).description(), "1000"));
  ClientRequest chosen(Method::GET, "http://a/");
  chosen.headers.set(HeaderId::ACCEPT_ENCODING, "identity");
  Responses plain = client().request(std::move(chosen));
  CHECK(accept().heard() == "GET / HTTP/1.1\r\nHost: a\r\nAccept-Encoding: identity\r\n\r\n");
  ClientRequest part(Method::GET, "http://a/");
  part.headers.set(HeaderId::RANGE, "bytes=0-1");
  Responses promise = client().request(std::move(part));
  Peer peer = accept();
  CHECK(peer.heard() == "GET / HTTP/1.1\r\nHost: a\r\nRange: bytes=0-1\r\n\r\n");
  peer.say("HTTP/1.1 206 Partial Content\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n" + once.substr(0, 2));
  ClientResponse response = take(promise);
  CHECK(text(response) == once.substr(0, 2));
}

TEST_CASE_FIXTURE(ClientTest, "however a response comes, and is read, nothing is lost or comes twice, also if its connection has another") {
  std::mt19937 random(11);
  const auto below = [&](std::size_t n) { return static_cast<std::size_t>(random() % n); };
  std::size_t reused = 0, readBehind = 0;
  for (int run = 0; run < 120; ++run) {
    CAPTURE(run);
    Responses promise = client().get("http://a/");
    Peer peer = accept();
    peer.heard();
    const std::string content = randomContent(random, below(3) == 0 ? below(20) : below(2) == 0 ? below(4000) : below(40'000));
    const std::size_t framing = below(5);
    const std::string bytes = "HTTP/1.1 200 OK\r\n" + (framing == 0 ? "\r\n" + content : framed(random, content, framing < 3));
    const std::size_t part = below(3) == 0 ? bytes.size() : 1 + below(below(2) == 0 ? 100 : 9000);
    for (std::size_t at = 0; at < bytes.size(); at += part) peer.say(bytes.substr(at, part));
    std::optional<ClientResponse> response = take(promise);
    std::string got;
    const bool isShort = below(2) == 0;
    Promise<bool> reading = RandomReader::read(RandomReader(random, got), response->body(), isShort ? below(4) : 1'000'000);
    bool ended = false;
    if (framing == 0 && !isShort) {
      reading.poll(scope);
      peer.finish();
    }
    if (framing == 0 && isShort && !reading.poll(scope)) peer.finish();
    REQUIRE(reading.poll(scope));
    ended = std::move(reading).wait(scope);
    CHECK(got == content.substr(0, got.size()));
    if (!isShort) CHECK(ended);
    if (ended) CHECK(got.size() == content.size());
    // It may be left now, or go on being read behind the next one.
    const bool isKept = below(2) == 0;
    if (!isKept) response.reset();
    const bool isIdle = client().idleConnections() > 0;
    if (ended) CHECK(isIdle == (framing != 0));
    Responses next = client().get("http://a/next");
    if (isIdle) {
      ++reused;
      CHECK(exchange(peer, std::move(next), OK) == "ok");
    } else {
      Peer another = accept();
      CHECK(exchange(another, std::move(next), OK) == "ok");
    }
    if (isKept && !ended && isIdle) {
      ++readBehind;
      Promise<bool> rest = RandomReader::read(RandomReader(random, got), response->body(), 1'000'000);
      REQUIRE(rest.poll(scope));
      CHECK(std::move(rest).wait(scope));
      CHECK(got == content);
    }
    response.reset();
    made.reset();
  }
  CHECK(reused > 40);
  CHECK(readBehind > 2);
}
