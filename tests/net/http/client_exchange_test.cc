// SPDX-License-Identifier: MIT
// One request and its response, of the client: what servers say in order and not, and what goes and comes besides.
#include "client_fixture.h"
#include "server_replies.h"

#include <troth/io/pipe.h>
#include <troth/net/http/connection_pool_detail.h>
#include <troth/net/http/content_coding.h>

using namespace troth;
using namespace troth::http;
using namespace troth::test;

namespace {

// What becomes of a request.
struct Outcome {
  std::string brief;   // as ServerReply has it
  std::string details; // the fields, or the error's description without what it quotes

  bool operator==(const Outcome&) const = default;
};

// Of what is quoted there may be less if less has come.
std::string unquoted(std::string_view text) {
  const std::size_t quoted = text.find('"');
  if (quoted == text.npos) return std::string(text);
  return std::string(text.substr(0, quoted)) + std::string(text.substr(text.rfind('"')));
}

// What becomes of a request if the server says this, each piece by itself, and then ends the connection.
Outcome outcomeOf(ClientTest& test, Method method, const std::vector<std::string>& pieces) {
  Client client(test.network, test.timer, test.settings);
  Outcome outcome;
  try {
    Responses promise = client.request({method, "http://a/"});
    Peer peer = test.accept();
    peer.heard();
    for (const std::string& piece : pieces) {
      peer.say(piece);
      promise.poll(test.scope);
    }
    // The end comes when all has been read, or is wanted no more.
    Promise<std::string> result = std::move(promise).then([&](ClientResponse response) {
      outcome.brief = std::to_string(response.status()) + " ";
      for (const HeaderField field : response.headers())
        outcome.details.append(field.name).append("|").append(field.value).append("|");
      auto held = std::make_unique<ClientResponse>(std::move(response));
      Promise<std::string> read = held->readText(1000);
      return std::move(read).attach(std::move(held));
    });
    for (int i = 0; i < 3 && !result.poll(test.scope); ++i) peer.heard();
    if (!result.poll(test.scope)) peer.take(); // closes it
    const std::string content = std::move(result).wait(test.scope);
    outcome.brief.append("{").append(content).append("}");
    if (client.idleConnections() == 1) outcome.brief.append(" kept");
    CHECK(client.connections() == client.idleConnections());
  } catch (const Exception& e) {
    outcome.brief.append(kindName(e.kind()));
    outcome.details = unquoted(e.description());
    CHECK_MESSAGE(e.description().starts_with("HTTP: "), e.description());
    CHECK(client.connections() == 0);
  }
  return outcome;
}

std::string shown(const Outcome& outcome) { return outcome.brief + " (" + outcome.details + ")"; }

} // namespace

TEST_CASE_FIXTURE(ClientTest, "whatever a server says has the outcome that it should, however it is split, and a part is never taken for "
                              "the whole") {
  for (const ServerReply& reply : serverReplies()) {
    const Outcome outcome = outcomeOf(*this, reply.method, {reply.bytes});
    CHECK_MESSAGE(outcome.brief == reply.outcome, shown(outcome) << " of " << reply.bytes);
    for (std::size_t split = 1; split < reply.bytes.size(); ++split) {
      const Outcome other = outcomeOf(*this, reply.method, {reply.bytes.substr(0, split), reply.bytes.substr(split)});
      CHECK_MESSAGE(other == outcome, shown(other) << ", not " << shown(outcome) << ", split at " << split << " of " << reply.bytes);
    }
    std::vector<std::string> bytes;
    for (const char c : reply.bytes) bytes.emplace_back(1, c);
    const Outcome dripped = outcomeOf(*this, reply.method, bytes);
    CHECK_MESSAGE(dripped == outcome, shown(dripped) << ", not " << shown(outcome) << ", byte by byte: " << reply.bytes);
  }
}

TEST_CASE_FIXTURE(ClientTest, "heads, interim responses and contents have limits") {
  settings.headBytes = 100;
  settings.headerFields = 3;
  settings.informational = 2;
  settings.defaults.bodyBytes = 10;
  const auto get = [&](const std::string& reply) { return shown(outcomeOf(*this, Method::GET, {reply})); };
  CHECK(get("HTTP/1.1 200 " + std::string(83, 'x') + "\r\n\r\n").starts_with("200 {}"));
  CHECK(get("HTTP/1.1 200 " + std::string(84, 'x') + "\r\n\r\n").starts_with("FAILED (HTTP: the response"));
  CHECK(get("HTTP/1.1 200 " + std::string(100, 'x')).starts_with("FAILED (HTTP: the response"));
  CHECK(get("HTTP/1.1 200 OK\r\nA: b\r\nA: b\r\n" + OK.substr(17)).starts_with("200 {ok} kept"));
  CHECK(contains(get("HTTP/1.1 200 OK\r\nA: b\r\nA: b\r\nA: b\r\n" + OK.substr(17)), "too many header fields"));
  CHECK(get("HTTP/1.1 102 \r\n\r\nHTTP/1.1 102 \r\n\r\n" + OK).starts_with("200 {ok} kept"));
  CHECK(contains(get("HTTP/1.1 102 \r\n\r\nHTTP/1.1 102 \r\n\r\nHTTP/1.1 100 \r\n\r\n"), "more than 2 interim responses"));
  CHECK(contains(get("HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n"), "has 11 bytes, and at most 10"));
  CHECK(get("HTTP/1.1 200 OK\r\n\r\n01234567890") == "200 FAILED (HTTP: the body has more than 10 bytes)");
  CHECK(get("HTTP/1.1 200 OK\r\n\r\n0123456789").starts_with("200 {0123456789}"));
  const std::string chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
  CHECK(get(chunked + "b\r\n01234567890\r\n0\r\n\r\n") == "200 FAILED (HTTP: the body has more than 10 bytes)");
  CHECK(get(chunked + "8\r\n01234567\r\n2\r\n89\r\n0\r\n\r\n").starts_with("200 {0123456789} kept"));
  CHECK(get("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123456789").starts_with("200 {0123456789} kept"));
}

TEST_CASE_FIXTURE(ClientTest, "a connection is kept no longer than its server says, and a bit less") {
  settings.keepIdle = std::chrono::seconds(10);
  const auto get = [&](const std::string& fields) {
    Responses promise = client().get("http://a/");
    Peer peer = accept();
    exchange(peer, std::move(promise), "HTTP/1.1 200 OK\r\n" + fields + "Content-Length: 0\r\n\r\n");
    return peer;
  };
  const auto lasts = [&](const std::string& fields, std::chrono::milliseconds time) {
    Peer peer = get(fields);
    timer.advanceBy(time - std::chrono::nanoseconds(1));
    CHECK_MESSAGE(client().idleConnections() == 1, fields);
    CHECK(peer.heard().empty());
    timer.advanceBy(std::chrono::nanoseconds(1));
    CHECK_MESSAGE(peer.heard() == "(end)", fields);
    CHECK(client().connections() == 0);
  };
  using std::chrono::milliseconds;
  lasts("", milliseconds(10'000));
  lasts("Keep-Alive: timeout=5\r\n", milliseconds(4000));
  lasts("Keep-Alive: timeout=60, max=99\r\n", milliseconds(10'000));
  lasts("Keep-Alive: max=1 , Timeout = 1\r\n", milliseconds(500));
  lasts("Keep-Alive: timeout=9\r\nKeep-Alive: timeout=3\r\n", milliseconds(2000));
  lasts("Keep-Alive: timeout=18446744073709551615\r\n", milliseconds(10'000));
  settings.keepIdle = Duration::max();
  made.reset();
  lasts("Keep-Alive: timeout=100\r\n", milliseconds(99'000));

  // Each has its own time, in whichever order they have come.
  network.addHost("c", {"10.0.0.1"});
  std::vector<Responses> all;
  std::vector<Peer> peers;
  const std::vector<std::pair<std::string, int>> times = {{"http://a/", 9}, {"http://b/", 3}, {"http://c/", 0}, {"http://10.0.0.1/", 6}};
  for (const auto& [url, time] : times) {
    all.push_back(client().get(url));
    peers.push_back(accept());
  }
  for (std::size_t i = 0; i < all.size(); ++i) {
    const int time = times[i].second;
    const std::string field = time == 0 ? "" : "Keep-Alive: timeout=" + std::to_string(time) + "\r\n";
    exchange(peers[i], std::move(all[i]), "HTTP/1.1 200 OK\r\n" + field + "Content-Length: 0\r\n\r\n");
  }
  const TimePoint begin = timer.now();
  std::size_t left = 4;
  for (const int second : {2, 5, 8}) {
    timer.advanceTo(begin + std::chrono::seconds(second) - std::chrono::nanoseconds(1));
    scope.poll();
    CHECK(client().idleConnections() == left);
    timer.advanceTo(begin + std::chrono::seconds(second));
    scope.poll();
    CHECK(client().idleConnections() == --left);
  }
  timer.advanceBy(std::chrono::hours(1));
  scope.poll();
  CHECK(client().idleConnections() == 1);
  CHECK(peers[2].heard().empty());
}

TEST_CASE_FIXTURE(ClientTest, "a connection is used for no more requests than its server says") {
  // The `max` of each response on one connection, which is the last one there; 0 for none.
  const std::vector<std::vector<std::string>> cases = {
      {"0"},
      {"timeout=5, max=0"},
      {"1", "100"},           // the same connection once more, whatever that says then
      {"3", "2", "1", "0"},   // as Apache counts
      {"2", "2", "2"},        // as node says it
      {"100", "", "1", "9"},  // fewer than before, and silence in between
      {"100", "3", "0"},
      {"x", "-1", "18446744073709551616", "1", ""}, // nonsense is passed over
  };
  for (const std::vector<std::string>& all : cases) {
    made.reset();
    std::optional<Peer> peer;
    for (std::size_t i = 0; i < all.size(); ++i) {
      CAPTURE(all[i]);
      Responses promise = client().get("http://a/");
      if (i == 0) peer.emplace(accept());
      const std::string field = all[i].empty() ? "" : "Keep-Alive: " + std::string(contains(all[i], "=") ? "" : "max=") + all[i] + "\r\n";
      exchange(*peer, std::move(promise), "HTTP/1.1 200 OK\r\n" + field + "Content-Length: 0\r\n\r\n");
      const bool isLast = i + 1 == all.size();
      CHECK(client().idleConnections() == (isLast ? 0 : 1));
      CHECK(peer->heard() == (isLast ? "(end)" : ""));
    }
    CHECK(client().connections() == 0);
  }
}

TEST_CASE_FIXTURE(ClientTest, "a connection that is given back unused has the time that it had left") {
  Responses promise = client().get("http://a/");
  Peer peer = accept();
  exchange(peer, std::move(promise), "HTTP/1.1 200 OK\r\nKeep-Alive: timeout=3\r\nContent-Length: 2\r\n\r\nok");
  timer.advanceBy(std::chrono::milliseconds(1999));
  // It takes the connection at once, and is cancelled before it does anything with it.
  settings.defaults.timeout = std::chrono::hours(1);
  promise = client().get("http://a/");
  promise = NEVER_DONE;
  CHECK(client().idleConnections() == 1);
  timer.advanceBy(std::chrono::milliseconds(1));
  CHECK(peer.heard() == "(end)");
}

TEST_CASE_FIXTURE(ClientTest, "a response that is dropped leaves its connection to the next one only if all of it has come, and nothing else") {
  const std::string length = "Content-Length: 5\r\n\r\n", chunked = "Transfer-Encoding: chunked\r\n\r\n";
  const std::vector<std::pair<std::string, std::size_t>> cases = {
      {length + "hello", 1},           {length + "hell", 0},          {length + "hello!", 0},
      {chunked + "1\r\nx\r\n0\r\n\r\n", 1}, {chunked + "1\r\nx\r\n0\r\n", 0}, {chunked + "1\r\nx\r\n0\r\n\r\nx", 0},
      {chunked + "1\r\nx\r\ng\r\n", 0}, {chunked + "g", 0},         {chunked + "0\r\nA: b\r\n\r\n", 1},
      {"\r\nhello", 0}};
  for (const auto& [reply, kept] : cases)
    for (const bool readsFirst : {false, true}) {
      made.reset();
      Responses promise = client().get("http://a/");
      Peer peer = accept();
      peer.heard();
      peer.say("HTTP/1.1 200 OK\r\n" + reply);
      {
        ClientResponse response = take(promise);
        Promise<Chunk> read = response.body().tryReadChunk(1);
        if (readsFirst && read.poll(scope) && !contains(reply, "\r\n\r\ng")) (void)std::move(read).wait(scope);
      }
      CHECK_MESSAGE(client().idleConnections() == kept, reply << (readsFirst ? ", begun" : ""));
      CHECK(client().connections() == kept);
    }
}

TEST_CASE_FIXTURE(ClientTest, "what has been read to its end stays so when the time for it is up") {
  ClientRequest request(Method::GET, "http://a/");
  request.options.emplace().timeout = std::chrono::seconds(5);
  Responses promise = client().request(std::move(request));
  Peer peer = accept();
  peer.heard();
  peer.say(OK);
  ClientResponse response = take(promise);
  CHECK(text(response) == "ok");
  timer.advanceBy(std::chrono::seconds(6));
  scope.poll();
  CHECK(text(response).empty());
  CHECK(response.status() == 200);
}

TEST_CASE_FIXTURE(ClientTest, "a request on a connection that was used before is not sent again for being late") {
  settings.defaults.responseTimeout = std::chrono::seconds(1);
  Responses first = client().get("http://a/");
  Peer peer = accept();
  CHECK(exchange(peer, std::move(first), OK) == "ok");
  Responses second = client().get("http://a/");
  CHECK(peer.heard() == "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
  CHECK(!second.poll(scope));
  timer.advanceBy(std::chrono::seconds(1));
  CHECK(failureOf(std::move(second), scope).kind() == Kind::OVERLOADED);
  CHECK(nobodyConnects());
}

TEST_CASE_FIXTURE(ClientTest, "the time for the answer counts while it is waited for, and not while a body is on its way") {
  using namespace std::chrono_literals;
  settings.defaults.responseTimeout = 5s;
  settings.defaults.idleTimeout = Duration::max();
  OneWayPipe pipe = newOneWayPipe();
  ClientRequest request(Method::PUT, "http://a/");
  request.options = settings.defaults;
  SUBCASE("after 100 Continue") {
    request.options->expect = RequestOptions::Expect::CONTINUE;
    request.setBody(std::move(pipe.input));
    Responses promise = client().request(std::move(request));
    Peer peer = accept();
    peer.heard();
    peer.say("HTTP/1.1 100 Continue\r\n\r\n");
    CHECK(!promise.poll(scope));
    timer.advanceBy(10s);
    CHECK(!promise.poll(scope));
    pipe.output.reset();
    CHECK(peer.heard() == "0\r\n\r\n");
    timer.advanceBy(4s);
    CHECK(exchange(peer, std::move(promise), OK) == "ok");
  }
  SUBCASE("an answer that has come before the end of the body") {
    request.setBody(std::move(pipe.input));
    Responses promise = client().request(std::move(request));
    Peer peer = accept();
    peer.heard();
    peer.say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n");
    ClientResponse response = take(promise);
    pipe.output.reset();
    CHECK(peer.heard() == "0\r\n\r\n");
    timer.advanceBy(1h);
    Promise<std::string> read = response.readText(10);
    CHECK(!read.poll(scope));
    peer.say("ok");
    CHECK(std::move(read).wait(scope) == "ok");
    CHECK(client().idleConnections() == 1);
  }
  SUBCASE("content that may not come before the server has the rest of the body") {
    request.options->idleTimeout = 7s;
    request.setBody(std::move(pipe.input));
    Responses promise = client().request(std::move(request));
    Peer peer = accept();
    peer.heard();
    peer.say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n");
    ClientResponse response = take(promise);
    Promise<std::string> read = response.readText(10);
    CHECK(!read.poll(scope));
    timer.advanceBy(1h);
    CHECK(!read.poll(scope));
    pipe.output.reset();
    CHECK(peer.heard() == "0\r\n\r\n");
    timer.advanceBy(7s - 1ns);
    CHECK(!read.poll(scope));
    timer.advanceBy(1ns);
    CHECK(contains(failureOf(std::move(read), scope).description(), "content came for too long"));
  }
  SUBCASE("who answers with success without having asked for the body gets it") {
    request.options->expect = RequestOptions::Expect::CONTINUE;
    request.setBody("body");
    Responses promise = client().request(std::move(request));
    Peer peer = accept();
    CHECK(!contains(peer.heard(), "body"));
    peer.say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n");
    ClientResponse response = take(promise);
    CHECK(peer.heard() == "body");
    peer.say("ok");
    CHECK(text(response) == "ok");
    CHECK(client().idleConnections() == 1);
  }
}

namespace {

// Answers as soon as the last byte is there, before the one who has sent it can know that it was read.
Promise<void> answerAtOnce(AsyncIoStream& stream, std::string end, std::string answer) {
  std::string heard;
  while (!heard.ends_with(end)) {
    const Chunk chunk = co_await stream.tryReadChunk();
    heard += chunk.text();
  }
  co_await stream.write(answer);
}

} // namespace

TEST_CASE_FIXTURE(ClientTest, "a server that is quick to answer does not lose its connection") {
  OneWayPipe pipe = newOneWayPipe();
  ClientRequest request(Method::PUT, "http://a/");
  request.setBody(std::move(pipe.input));
  Responses promise = client().request(std::move(request));
  Peer peer = accept();
  Promise<void> answering = answerAtOnce(peer.stream(), "0\r\n\r\n", "HTTP/1.1 204 \r\n\r\n").eagerlyEvaluate(nullptr);
  pipe.output->write("abc").wait(scope);
  pipe.output.reset();
  CHECK(take(promise).status() == 204);
  CHECK(client().idleConnections() == 1);
}

TEST_CASE_FIXTURE(LoopTest, "a pool hands on what is given back, with its time, until it is closed") {
  using http::detail::ConnectionPool;
  using std::chrono::seconds;
  const std::source_location here = std::source_location::current();
  ManualTimer timer;
  const troth::detail::Ref<ConnectionPool> pool(*new ConnectionPool(timer, {1, 1, seconds(10)}));
  TwoWayPipe pipe = newTwoWayPipe();
  ConnectionPool::Lease first = pool->acquire("a", here).wait(scope);
  CHECK(first.takeStream() == nullptr);
  {
    Promise<ConnectionPool::Lease> second = pool->acquire("a", here);
    CHECK(!second.poll(scope));
    first.giveBack(std::move(pipe.ends[0]), {seconds(3), 7});
    const ConnectionPool::Lease unused = std::move(second).wait(scope);
    CHECK(unused.requests() == 7);
    CHECK(pool->idle() == 0);
  }
  timer.advanceBy(seconds(3) - std::chrono::nanoseconds(1));
  scope.poll();
  CHECK(pool->idle() == 1);
  timer.advanceBy(std::chrono::nanoseconds(1));
  scope.poll();
  CHECK(pool->size() == 0);

  first = pool->acquire("a", here).wait(scope);
  Promise<ConnectionPool::Lease> second = pool->acquire("b", here);
  CHECK(!second.poll(scope));
  pool->close();
  CHECK(failureOf(std::move(second), scope).kind() == Kind::DISCONNECTED);
  first.giveBack(std::move(pipe.ends[1]), {seconds(3), 7});
  CHECK(pool->size() == 0);
  CHECK(failureOf(pool->acquire("a", here), scope).kind() == Kind::DISCONNECTED);
}

TEST_CASE_FIXTURE(ClientTest, "of idle connections the one that was used last is used first, and none is kept for no time") {
  Responses first = client().get("http://a/"), second = client().get("http://a/");
  Peer one = accept(), two = accept();
  CHECK(exchange(one, std::move(first), OK) == "ok");
  CHECK(exchange(two, std::move(second), OK) == "ok");
  Responses third = client().get("http://a/");
  CHECK(one.heard().empty());
  CHECK(exchange(two, std::move(third), OK) == "ok");
  settings.keepIdle = Duration::zero();
  made.reset();
  Responses fourth = client().get("http://a/");
  Peer three = accept();
  CHECK(exchange(three, std::move(fourth), OK) == "ok");
  CHECK(client().connections() == 0);
}

TEST_CASE_FIXTURE(ClientTest, "trailers go behind a body in chunks, and TE says that they are welcome") {
  const auto put = [&](std::function<HeaderMap()> make) {
    ClientRequest request(Method::PUT, "http://a/");
    request.setBody(newOneWayPipe().input).setTrailers(std::move(make)); // a stream that has ended
    return request;
  };
  SUBCASE("when the body has ended") {
    OneWayPipe pipe = newOneWayPipe();
    std::string sum;
    ClientRequest request(Method::PUT, "http://a/");
    request.headers.set(HeaderId::TRAILER, "X-Sum");
    request.setBody(std::move(pipe.input)).setTrailers([&] { return HeaderMap({{"X-Sum", sum}, {"X-More", "1"}}); });
    Responses promise = client().request(std::move(request));
    Peer peer = accept();
    CHECK(peer.heard() == "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n");
    pipe.output->write("abc").wait(scope);
    CHECK(peer.heard() == "3\r\nabc\r\n");
    sum = "abc";
    pipe.output.reset();
    CHECK(peer.heard() == "0\r\nX-Sum: abc\r\nX-More: 1\r\n\r\n");
    CHECK(exchange(peer, std::move(promise), OK) == "ok");
    CHECK(client().idleConnections() == 1);
  
  }
  SUBCASE("what is no trailer fails the request, and so does what making them throws") {
    for (const char* name : {"Content-Length", "Host", "Transfer-Encoding", "authorization", "Trailer", "Content-Type"}) {
      Responses promise = client().request(put([name] { return HeaderMap({{name, "1"}}); }));
      Peer peer = accept();
      const Exception e = failureOf(std::move(promise), scope);
      CHECK_MESSAGE(contains(e.description(), std::string("field ") + name + " cannot be a trailer"), e.description());
      CHECK(!contains(peer.heard(), name + std::string(": 1")));
    }
    Responses promise = client().request(put([]() -> HeaderMap { throw std::out_of_range("none"); }));
    Peer peer = accept();
    CHECK_THROWS_AS(std::move(promise).wait(scope), std::out_of_range);
    CHECK(client().connections() == 0);
  }
  SUBCASE("they are refused where there is no place for them") {
    const auto make = [] { return HeaderMap(); };
    CHECK_THROWS_AS(ClientRequest(Method::PUT, "http://a/").setTrailers(make), Exception);
    CHECK_THROWS_AS(ClientRequest(Method::PUT, "http://a/").setBody("x").setTrailers(make), Exception);
    CHECK_THROWS_AS(ClientRequest(Method::PUT, "http://a/").setBody(newOneWayPipe().input, 0).setTrailers(make), Exception);
    ClientRequest request = put(nullptr);
    request.headers.set(HeaderId::TRAILER, "X-Sum");
    CHECK(contains(thrownBy([&] { (void)client().request(std::move(request)); }).description(), "setTrailers"));
  }
  SUBCASE("they go with the body when a redirect takes that away") {
    ClientRequest request = put([] { return HeaderMap({{"X-Sum", "0"}}); });
    request.headers.set(HeaderId::TRAILER, "X-Sum");
    request.options.emplace().redirects = 1;
    Responses promise = client().request(std::move(request));
    Peer peer = accept();
    CHECK(peer.heard().ends_with("\r\n\r\n0\r\nX-Sum: 0\r\n\r\n"));
    peer.say("HTTP/1.1 303 See\r\nLocation: /b\r\nContent-Length: 0\r\n\r\n");
    CHECK(peer.heard() == "GET /b HTTP/1.1\r\nHost: a\r\n\r\n");
    CHECK(exchange(peer, std::move(promise), OK) == "ok");
  }
  SUBCASE("TE stands in Connection, too") {
    ClientRequest request(Method::GET, "http://a/");
    request.headers.set(HeaderId::TE, "trailers").set(HeaderId::CONNECTION, "close");
    Responses promise = client().request(std::move(request));
    Peer peer = accept();
    CHECK(peer.heard() == "GET / HTTP/1.1\r\nHost: a\r\nConnection: TE\r\nTE: trailers\r\nConnection: close\r\n\r\n");
    CHECK(exchange(peer, std::move(promise), OK) == "ok");
    CHECK(client().connections() == 0);
  }
}

TEST_CASE_FIXTURE(ClientTest, "a content that is said to be coded, and is empty, is empty") {
  if (!isSupported(ContentCoding::GZIP)) return;
  settings.defaults.decoding = RequestOptions::Decoding::DECODE;
  const auto get = [&](const std::string& codings, const std::string& rest, std::size_t readSize) -> std::string {
    Responses promise = client().get("http://a/");
    Peer peer = accept();
    peer.heard();
    peer.say("HTTP/1.1 200 OK\r\nContent-Encoding: " + codings + "\r\n" + rest);
    ClientResponse response = take(promise);
    std::string buffer(readSize, '.');
    Promise<std::size_t> read = response.body().tryRead(std::as_writable_bytes(std::span(buffer)), readSize);
    if (!read.poll(scope)) peer.finish();
    buffer.resize(std::move(read).wait(scope));
    return buffer + text(response); // which is empty again
  };
  const std::string chunked = "Transfer-Encoding: chunked\r\n\r\n";
  for (const char* codings : {"gzip", "deflate", "gzip, deflate", "gzip\r\nContent-Encoding: gzip", "br"}) {
    CHECK(get(codings, chunked + "0\r\n\r\n", 10).empty());
    CHECK(client().idleConnections() == 1);
    made.reset();
    CHECK(get(codings, "\r\n", 1).empty()); // to the end of the connection
    if (std::string_view(codings) != "br" || isSupported(ContentCoding::BROTLI))
      CHECK(thrownBy([&] { get(codings, chunked + "1\r\n\x1f\r\n0\r\n\r\n", 1); }).kind() == Kind::FAILED);
    CHECK(thrownBy([&] { get(codings, chunked + "1", 1); }).kind() == Kind::DISCONNECTED);
  }
}
