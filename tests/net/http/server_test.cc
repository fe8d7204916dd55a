// SPDX-License-Identifier: MIT
// The server in memory: responses, bodies, errors, limits, time, coming to an end, cancellation.
#include "malformed_requests.h"
#include "well_formed_messages.h"
#include "server_fixture.h"

#include <troth/io/pipe.h>
#include <troth/io/testing.h>
#include <troth/net/http/http_error.h>
#include <troth/net/testing.h>
#include <troth/runtime/quote_detail.h>
#include <troth/runtime/task_set.h>

#include <array>
#include <optional>
#include <stdexcept>

using namespace troth;
using namespace troth::http;
using namespace troth::test;
using namespace std::chrono_literals;

namespace {

const std::string GET = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

std::string ok(std::string_view body) {
  return "HTTP/1.1 200 OK\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + std::string(body);
}

Promise<void> hello(Request&, Response& response) { co_await response.send(200, "hello"); }

Promise<void> target(Request& request, Response& response) { return response.send(200, std::string(request.target())); }

// Sends back what it is sent.
Promise<void> echo(Request& request, Response& response) {
  const std::string body = co_await request.body().readAllText(1'000'000);
  for (const HeaderField field : request.trailers())
    response.headers().add("X-Trailer-" + std::string(field.name), field.value);
  co_await response.send(200, body);
}

TEST_CASE_FIXTURE(HttpTest, "a response has its length, its date, and its fields") {
  handler = [](Request& request, Response& response) -> Promise<void> {
    CHECK(request.method() == Method::GET);
    CHECK(request.path() == "/x");
    CHECK(request.query() == "y=z");
    CHECK(request.authority() == "a:80");
    CHECK(request.headers().get("accept") == "b");
    response.headers().set(HeaderId::CONTENT_TYPE, "text/plain");
    return response.send(200, "hello");
  };
  auto client = connect();
  client->send("GET /x?y=z HTTP/1.1\r\nHost: a:80\r\nAccept: b\r\n\r\n");
  settle();
  CHECK(contains(client->received, "\r\nDate: "));
  CHECK(withoutDate(client->take()) == "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello");
  CHECK(!client->ended);
  CHECK(server().connections() == 1);
  client->close();
  settle();
  CHECK(server().connections() == 0);
}

TEST_CASE_FIXTURE(HttpTest, "targets of all forms have their parts") {
  handler = [](Request& request, Response& response) -> Promise<void> {
    return response.send(200, std::string(request.path()) + "|" + std::string(request.query()) + "|" +
                                  std::string(request.authority()));
  };
  const auto parts = [&](std::string_view line) {
    const std::string reply = talk(std::string(line) + " HTTP/1.1\r\nHost: h\r\n\r\n");
    return reply.substr(reply.find("\r\n\r\n") + 4);
  };
  CHECK(parts("GET /a/b?c?d=e") == "/a/b|c?d=e|h");
  CHECK(parts("GET http://other:81/a?b") == "/a|b|other:81");
  CHECK(parts("GET http://other") == "/||other");
  CHECK(parts("GET http://other?q") == "/|q|other");
  CHECK(parts("OPTIONS *") == "||h");
}

TEST_CASE_FIXTURE(HttpTest, "a connection serves one request after the other, and says when it is closed") {
  handler = hello;
  settings.requestsPerConnection = 3;
  auto client = connect();
  for (int i = 0; i < 2; ++i) {
    client->send(GET);
    settle();
    CHECK(withoutDate(client->take()) == ok("hello"));
  }
  client->send(GET);
  settle();
  CHECK(withoutDate(client->take()) == "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello");
  CHECK(client->ended);
  CHECK(talk("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n") ==
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello");
}

TEST_CASE_FIXTURE(HttpTest, "requests that come together are answered in order, in one piece") {
  SUBCASE("by functions") { handler = target; }
  SUBCASE("by coroutines") {
    handler = [](Request& request, Response& response) -> Promise<void> {
      co_await response.send(200, std::string(request.target()));
    };
  }
  auto client = connect();
  std::string all, expected;
  for (int i = 0; i < 100; ++i) {
    all += "GET /" + std::to_string(i) + " HTTP/1.1\r\nHost: a\r\n\r\n";
    expected += ok("/" + std::to_string(i));
  }
  client->send(all + "GET /par");
  settle();
  CHECK(client->pieces == 1);
  CHECK(withoutDate(client->take()) == expected);
  client->send("tial HTTP/1.1\r\nHost: a\r\n\r\n");
  settle();
  CHECK(withoutDate(client->take()) == ok("/partial"));
}

TEST_CASE_FIXTURE(HttpTest, "HTTP/1.0 closes unless it is asked not to, and gets no chunks") {
  handler = hello;
  CHECK(talk("GET / HTTP/1.0\r\n\r\n") == "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello");
  CHECK(talk("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n") ==
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\nhello");
  handler = [](Request&, Response& response) -> Promise<void> { co_await response.start(200).write("streamed"); };
  auto client = connect();
  client->send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
  settle();
  CHECK(withoutDate(client->take()) == "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nstreamed");
  CHECK(client->ended);
}

TEST_CASE_FIXTURE(HttpTest, "HEAD, 204 and 304 have no content, whatever the handler sends") {
  handler = [](Request& request, Response& response) -> Promise<void> {
    if (request.path() == "/stream") {
      co_await response.start(200).write("streamed");
      co_return;
    }
    if (request.path() == "/sized") {
      co_await response.start(200, 8).write("streamed");
      co_return;
    }
    co_await response.send(std::stoi(std::string(request.path().substr(1))), "content");
  };
  auto client = connect();
  const auto ask = [&](std::string_view line) {
    client->send(std::string(line) + " HTTP/1.1\r\nHost: a\r\n\r\n");
    settle();
    return withoutDate(client->take());
  };
  CHECK(ask("HEAD /200") == "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n");
  CHECK(ask("HEAD /stream") == "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
  CHECK(ask("HEAD /sized") == "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n");
  CHECK(ask("GET /204") == "HTTP/1.1 204 No Content\r\n\r\n");
  CHECK(ask("GET /304") == "HTTP/1.1 304 Not Modified\r\n\r\n");
  CHECK(ask("GET /299") == "HTTP/1.1 299 \r\nContent-Length: 7\r\n\r\ncontent");
}

TEST_CASE_FIXTURE(HttpTest, "bodies arrive as they were sent, however they are framed and split") {
  handler = echo;
  const std::string body = "0123456789";
  const std::string framed[] = {
      "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n" + body,
      "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n0123\r\n6;x=y\r\n456789\r\n0\r\n\r\n",
  };
  for (const std::string& request : framed) {
    for (std::size_t split = 0; split <= request.size(); ++split) {
      auto client = connect();
      client->send(request.substr(0, split));
      settle();
      client->send(request.substr(split) + GET.substr(0, 3));
      settle();
      CHECK_MESSAGE(withoutDate(client->take()) == ok(body), "split at " << split);
      client->send(GET.substr(3));
      settle();
      CHECK(withoutDate(client->take()) == ok(""));
    }
    auto client = connect();
    for (const char c : request) {
      client->send({&c, 1});
      settle();
    }
    CHECK(withoutDate(client->take()) == ok(body));
  }
  CHECK(talk("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nA: b\r\n\r\n") ==
        "HTTP/1.1 200 OK\r\nX-Trailer-A: b\r\nContent-Length: 1\r\n\r\nx");
}

TEST_CASE_FIXTURE(HttpTest, "all ways of reading a body give the same, and a read that is dropped loses nothing") {
  std::string got;
  int way = 0;
  handler = [&](Request& request, Response& response) -> Promise<void> {
    AsyncInputStream& body = request.body();
    std::vector<std::byte> buffer(7);
    got.clear();
    for (;;) {
      if (way == 0) {
        const std::size_t count = co_await body.tryRead(std::span(buffer), 3);
        got.append(reinterpret_cast<const char*>(buffer.data()), count);
        if (count < 3) break;
      } else if (way == 1) {
        const Chunk chunk = co_await body.tryReadChunk(5);
        if (chunk.empty()) break;
        got += chunk.text();
      } else {
        {
          Promise<std::size_t> dropped = body.tryRead(std::span(buffer), 2);
          co_await yield();
        }
        {
          Promise<Chunk> dropped = body.tryReadChunk();
          co_await yield();
        }
        const std::size_t count = co_await body.tryRead(std::span(buffer), 1);
        if (count == 0) break;
        got.append(reinterpret_cast<const char*>(buffer.data()), count);
      }
    }
    co_await response.send(200);
  };
  std::string body, chunked;
  for (int i = 0; i < 50; ++i) body += std::to_string(i);
  for (std::size_t i = 0; i < body.size(); i += 4) {
    const std::string part = body.substr(i, 4);
    chunked += std::to_string(part.size()) + "\r\n" + part + "\r\n";
  }
  for (way = 0; way < 3; ++way) {
    for (const std::string& request :
         {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body,
          "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked + "0\r\n\r\n"}) {
      for (std::size_t piece : {std::size_t(1), std::size_t(3), std::size_t(40), std::size_t(10'000)}) {
        auto client = connect();
        for (std::size_t at = 0; at < request.size(); at += piece) {
          client->send(request.substr(at, piece));
          settle();
        }
        CHECK(withoutDate(client->take()) == ok(""));
        CHECK_MESSAGE(got == body, "way " << way << ", pieces of " << piece);
      }
    }
  }
}

TEST_CASE_FIXTURE(HttpTest, "what was decoded of a body and not read yet stays, whatever comes meanwhile") {
  std::string got;
  handler = [&](Request& request, Response& response) -> Promise<void> {
    co_await timer.afterDelay(1s); // the client is watched
    std::vector<std::byte> buffer(4);
    co_await request.body().read(buffer);
    got.assign(reinterpret_cast<const char*>(buffer.data()), buffer.size());
    co_await timer.afterDelay(1s);
    got += co_await request.body().readAllText(100);
    co_await response.send(200, got);
  };
  const std::string head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", begin = "a\r\n0123456789\r\n";
  for (const std::string end : {"0\r\n\r\n", "1\r\nx\r\n0\r\n\r\n"}) {
    for (const bool together : {false, true}) {
      auto client = connect();
      client->send(head);
      settle();
      client->send(begin + (together ? end : ""));
      pass(1s);
      client->send((together ? "" : end) + GET.substr(0, 3));
      pass(1s);
      CHECK(withoutDate(client->take()) == ok(end.size() > 5 ? "0123456789x" : "0123456789"));
    }
  }
}

TEST_CASE_FIXTURE(HttpTest, "a client that expects to be told to go on is told when its body is wanted") {
  handler = echo;
  auto client = connect();
  client->send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n");
  settle();
  CHECK(client->take() == "HTTP/1.1 100 Continue\r\n\r\n");
  client->send("abc");
  settle();
  CHECK(withoutDate(client->take()) == ok("abc"));

  // One whose body nobody wants is not, and cannot be taken at its word afterwards.
  handler = hello;
  client->send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n");
  settle();
  CHECK(withoutDate(client->take()) == "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello");
  CHECK(client->ended);

  CHECK(contains(talk("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: x\r\n\r\n"), "HTTP/1.1 417 "));
  handler = echo;
  CHECK(talk("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\nabc") == ok("abc"));
  CHECK(talk("GET / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n") == ok(""));
}

TEST_CASE_FIXTURE(HttpTest, "what a handler fails with becomes a status, and its text stays here") {
  struct Case {
    std::function<void()> fail;
    int status;
    const char* reported; // null: not reported
  };
  const Case cases[] = {
      {[] { throw std::runtime_error("secret"); }, 500, "secret"},
      {[] { throw 7; }, 500, ""},
      {[] { throw Exception(Exception::Kind::FAILED, "secret"); }, 500, "secret"},
      {[] { throw Exception(Exception::Kind::OVERLOADED, "secret"); }, 503, "secret"},
      {[] { throw Exception(Exception::Kind::UNIMPLEMENTED, "secret"); }, 501, "secret"},
      {[] { throw Exception(Exception::Kind::DISCONNECTED, "secret"); }, 500, "secret"},
      {[] { throw HttpError(404, "secret"); }, 404, nullptr},
      {[] { throw HttpError(502, "secret"); }, 502, "secret"},
      {[] {}, 500, "has ended without a response"},
  };
  for (const Case& c : cases) {
    for (int when = 0; when < 3; ++when) {
      handler = [&](Request&, Response& response) -> Promise<void> {
        response.headers().set("X-Half-Made", "response");
        if (when == 0) {
          c.fail();
          return READY_NOW;
        }
        return evalLater([&] { c.fail(); }).then([when] { return when == 1 ? yield() : Promise<void>(READY_NOW); });
      };
      auto client = connect();
      client->send(GET);
      settle();
      const std::string reply = withoutDate(client->take());
      CHECK(contains(reply, "HTTP/1.1 " + std::to_string(c.status) + " "));
      CHECK(!contains(reply, "secret"));
      CHECK(!contains(reply, "X-Half-Made"));
      if (c.reported != nullptr) CHECK(contains(errors.only(), c.reported));
      // The connection is as good as before.
      handler = hello;
      client->send(GET);
      settle();
      CHECK(withoutDate(client->take()) == ok("hello"));
    }
  }
}

TEST_CASE_FIXTURE(HttpTest, "a streamed response goes in chunks, each write at once") {
  auto gate = newPromiseAndFulfiller<void>();
  handler = [&](Request&, Response& response) -> Promise<void> {
    AsyncOutputStream& body = response.start(200);
    co_await body.write("one");
    co_await std::move(gate.promise);
    const std::string_view parts[] = {"tw", "", "o"};
    const std::span<const std::byte> pieces[] = {asBytes(parts[0]), asBytes(parts[1]), asBytes(parts[2])};
    co_await body.write(std::span<const std::span<const std::byte>>(pieces));
    co_await body.write(std::string_view());
    HeaderMap trailers;
    trailers.set("X-Sum", "5");
    co_await response.end(trailers);
  };
  auto client = connect();
  client->send(GET);
  settle();
  CHECK(withoutDate(client->take()) == "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n");
  gate.fulfiller->fulfill();
  settle();
  CHECK(client->take() == "3\r\ntwo\r\n0\r\nX-Sum: 5\r\n\r\n");
  handler = hello;
  client->send(GET);
  settle();
  CHECK(withoutDate(client->take()) == ok("hello"));
}

TEST_CASE_FIXTURE(HttpTest, "a body may go back while it comes, and the connection is kept") {
  handler = [](Request& request, Response& response) -> Promise<void> {
    AsyncOutputStream& out = response.start(200, request.body().tryGetLength());
    co_await request.body().pumpTo(out);
  };
  const std::string large(1'000'000, 'x');
  const std::string reply = talk("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n" + large +
                                 "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc");
  CHECK(reply == ok(large) + ok("abc"));
  auto client = connect();
  client->send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n");
  settle();
  CHECK(withoutDate(client->take()) == "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n");
  client->send("abc");
  settle();
  CHECK(client->take() == "abc");
}

TEST_CASE_FIXTURE(HttpTest, "large content arrives whole, whichever way it goes") {
  const std::string large(1'000'000, 'x');
  for (const std::string_view way : {"send", "owned", "sized", "chunked"}) {
    handler = [&](Request&, Response& response) -> Promise<void> {
      if (way == "send") {
        co_await response.send(200, large);
      } else if (way == "owned") {
        co_await response.send(200, std::string(large));
      } else if (way == "sized") {
        co_await response.start(200, large.size()).write(large);
      } else {
        co_await response.start(200).write(large);
      }
    };
    const std::string reply = talk(GET + GET);
    CHECK(std::count(reply.begin(), reply.end(), 'x') == 2'000'000);
    CHECK(contains(reply, way == "chunked" ? "\r\nf4240\r\nx" : "Content-Length: 1000000\r\n\r\nx"));
  }
}

TEST_CASE_FIXTURE(HttpTest, "a response that breaks off after its head resets the connection") {
  const std::string_view ways[] = {"throws", "short", "abandoned", "cancelled", "aborted"};
  for (const std::string_view way : ways) {
    std::optional<Promise<void>> kept;
    handler = [&](Request&, Response& response) -> Promise<void> {
      AsyncOutputStream& body = way == "short" ? response.start(200, 10) : response.start(200);
      co_await body.write("part");
      if (way == "throws") throw std::runtime_error("late");
      if (way == "abandoned") {
        kept = body.write(std::string_view("more that nobody reads"));
        co_return;
      }
      if (way == "aborted") {
        body.abortWrite();
        CHECK(failureOf(body.write("x"), scope).kind() == Exception::Kind::DISCONNECTED);
      }
      if (way == "cancelled") co_await NEVER_DONE;
    };
    if (way == "aborted") continue; // it would wait inside of the loop: see below
    auto client = connect();
    client->send(GET);
    if (way == "abandoned") client->stopReading();
    settle();
    if (way == "abandoned") continue;
    if (way == "cancelled") dropServer();
    settle();
    CHECK(contains(client->received, "part"));
    CHECK(!contains(client->received, "\r\n0\r\n\r\n"));
    CHECK_MESSAGE(client->wasReset, way);
    if (way != "cancelled") {
      CHECK(contains(errors.only(), way == "throws" ? "late" : "before the last 6 bytes"));
    }
  }
  dropServer();
  errors.texts.clear();
}

TEST_CASE_FIXTURE(HttpTest, "after a write that was given up in the middle nothing is sent, and the connection is reset") {
  const std::string large(300'000, 'x'), small(3000, 'x');
  std::string_view way;
  Exception::Kind later = Exception::Kind::FAILED;
  handler = [&](Request&, Response& response) -> Promise<void> {
    if (way == "sent") {
      Promise<void> dropped = response.send(200, large);
      co_return;
    }
    AsyncOutputStream& body = response.start(200);
    {
      Promise<void> dropped = body.write(way == "large" ? large : small);
      co_await timer.afterDelay(1s);
    }
    try {
      co_await body.write("more");
    } catch (const Exception& e) {
      later = e.kind();
    }
  };
  for (way = "sent"; !way.empty(); way = way == "sent" ? "large" : way == "large" ? "small" : "") {
    auto client = connect();
    client->stopReading();
    client->send(GET);
    pass(1s);
    client->goOnReading();
    settle();
    CHECK_MESSAGE(client->wasReset, way);
    CHECK(!contains(client->received, "more"));
    if (way == "sent")
      CHECK(contains(errors.only(), "while its response was being sent"));
    else
      CHECK(std::exchange(later, Exception::Kind::FAILED) == Exception::Kind::DISCONNECTED);
  }
}

TEST_CASE_FIXTURE(HttpTest, "a response that is complete is sent to a client that has ended its direction, however slowly it reads") {
  const std::string body(1000, 'x');
  handler = [&](Request&, Response& response) -> Promise<void> {
    co_await timer.afterDelay(500ms);
    co_await response.send(200, body);
  };
  auto client = connect();
  client->stopReading();
  client->send(GET);
  client->shutdown();
  pass(500ms);
  pass(20s);
  client->goOnReading();
  settle();
  CHECK(withoutDate(client->take()) == ok(body));
  CHECK(client->ended);
}

TEST_CASE_FIXTURE(HttpTest, "what cannot be sent is refused with its place, and the handler may do better") {
  std::vector<std::string> refusals;
  const auto refused = [&](auto&& call) {
    const Exception e = thrownBy(call);
    CHECK(contains(std::string(e.where().file_name()), "server_test.cc"));
    refusals.push_back(std::string(e.description()));
  };
  handler = [&](Request&, Response& response) -> Promise<void> {
    refused([&] { (void)response.send(99); });
    refused([&] { (void)response.send(199); });
    refused([&] { (void)response.send(600); });
    refused([&] { (void)response.start(101); });
    refused([&] { (void)response.sendInformational(101); });
    refused([&] { (void)response.sendInformational(200); });
    refused([&] { (void)response.end(); });
    refused([&] { (void)response.upgrade(); });
    for (const HeaderId id : {HeaderId::CONTENT_LENGTH, HeaderId::TRANSFER_ENCODING, HeaderId::TRAILER}) {
      response.headers().set(id, "1");
      refused([&] { (void)response.send(200); });
      refused([&] { (void)response.start(204, 1); });
      response.headers().remove(id);
    }
    refused([&] { response.headers().set(HeaderId::LOCATION, "/\r\nSet-Cookie: a=b"); });
    AsyncOutputStream& body = response.start(200, 3);
    refused([&] { (void)response.send(200); });
    refused([&] { (void)response.start(200); });
    refused([&] { (void)body.write("four"); });
    refused([&] { (void)response.end(); });
    co_await body.write("abc");
    refused([&] { (void)body.write("d"); });
    co_await response.end();
    refused([&] { (void)body.write("d"); });
    refused([&] { (void)response.end(); });
  };
  CHECK(talk(GET) == ok("abc"));
  CHECK(refusals.size() == 22);
}

TEST_CASE_FIXTURE(HttpTest, "trailers may be announced where they can come, and only fields that can be one do") {
  std::vector<std::string> refusals;
  handler = [&](Request& request, Response& response) -> Promise<void> {
    response.headers().set(HeaderId::TRAILER, "X-Sum");
    const std::string status(request.path().substr(1));
    AsyncOutputStream& body = response.start(std::stoi(status));
    co_await body.write("abc");
    for (const char* name : {"Content-Length", "host", "Trailer", "Set-Cookie"})
      refusals.push_back(std::string(thrownBy([&] { (void)response.end(HeaderMap({{name, "1"}})); }).description()));
    const HeaderMap sum({{"X-Sum", "3"}});
    co_await response.end(sum);
  };
  const auto ask = [&](const std::string& what) { return talk(what + "\r\nHost: a\r\n\r\n"); };
  CHECK(ask("GET /200 HTTP/1.1") == "HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n"
                                    "3\r\nabc\r\n0\r\nX-Sum: 3\r\n\r\n");
  CHECK(refusals == std::vector<std::string>{"Response::end: the field Content-Length cannot be a trailer",
                                             "Response::end: the field host cannot be a trailer",
                                             "Response::end: the field Trailer cannot be a trailer",
                                             "Response::end: the field Set-Cookie cannot be a trailer"});
  CHECK(ask("HEAD /200 HTTP/1.1") == "HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n");
  CHECK(ask("GET /200 HTTP/1.0") == "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nabc");
  CHECK(ask("GET /204 HTTP/1.1") == "HTTP/1.1 204 No Content\r\n\r\n");
  CHECK(ask("GET /304 HTTP/1.1") == "HTTP/1.1 304 Not Modified\r\n\r\n");
}

TEST_CASE_FIXTURE(HttpTest, "informational responses come before the response, but not to HTTP/1.0") {
  handler = [](Request&, Response& response) -> Promise<void> {
    HeaderMap hints;
    hints.add(HeaderId::LINK, "</style.css>; rel=preload");
    co_await response.sendInformational(103, hints);
    co_await response.send(200, "hello");
  };
  CHECK(talk(GET) == "HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n" + ok("hello"));
  CHECK(!contains(talk("GET / HTTP/1.0\r\n\r\n"), "103"));
}

TEST_CASE_FIXTURE(HttpTest, "what is malformed is answered, nothing behind it is, and the client can read the answer") {
  int calls = 0;
  handler = [&](Request&, Response& response) -> Promise<void> {
    ++calls;
    return response.send(200);
  };
  auto client = connect();
  client->send("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n" + GET + GET);
  settle();
  CHECK(withoutDate(client->take()) == "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: 71\r\n"
                                       "Connection: close\r\n\r\n400 Bad Request: there are several Host fields (RFC "
                                       "9112, section 3.2)\n");
  CHECK(client->ended);
  client->send(std::string(100'000, 'x')); // is read, and dropped
  settle();
  CHECK(!client->writeFailed);
  CHECK(server().connections() == 1);
  pass(2s);
  CHECK(server().connections() == 0);
  CHECK(calls == 0);
  settings.headBytes = 200;
  settings.targetBytes = 50;
  settings.headerFields = 4;
  settings.bodyBytes = 100;
  dropServer();
  CHECK(contains(talk("GET /" + std::string(50, 'x') + " HTTP/1.1\r\nHost: a\r\n\r\n"), " 414 "));
  CHECK(contains(talk("GET / HTTP/1.1\r\nHost: a\r\nA: " + std::string(200, 'x')), " 431 "));
  CHECK(contains(talk("GET / HTTP/1.1\r\nHost: a\r\nA: b\r\nA: b\r\nA: b\r\nA: b\r\n\r\n"), " 431 "));
  CHECK(contains(talk("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 101\r\n\r\n"), " 413 "));
  CHECK(contains(talk("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9223372036854775807\r\n\r\n"), " 413 "));
  CHECK(contains(talk("BREW / HTTP/1.1\r\nHost: a\r\n\r\n"), " 501 "));
  CHECK(contains(talk("GET / HTTP/2.0\r\nHost: a\r\n\r\n"), " 505 "));
  CHECK(calls == 0);
  settings.unknownMethods = ServerSettings::UnknownMethods::PASS;
  dropServer();
  handler = [](Request& request, Response& response) -> Promise<void> {
    CHECK(request.method() == Method::OTHER);
    return response.send(200, std::string(request.methodText()));
  };
  CHECK(talk("BREW / HTTP/1.1\r\nHost: a\r\n\r\n") == ok("BREW"));
}

TEST_CASE_FIXTURE(HttpTest, "each breach of the rules is answered with its status, and nothing behind it is") {
  bool readsBody = true;
  std::string handled;
  handler = [&](Request& request, Response& response) -> Promise<void> {
    handled += request.target();
    return readsBody ? echo(request, response) : hello(request, response);
  };
  const std::string behind = "GET /behind HTTP/1.1\r\nHost: a\r\n\r\n";
  const auto check = [&](const MalformedRequest& bad, std::size_t piece) {
    CAPTURE(troth::detail::quote(bad.bytes));
    CAPTURE(piece);
    handled.clear();
    auto client = connect();
    const std::string bytes = "GET /before HTTP/1.1\r\nHost: a\r\n\r\n" + bad.bytes + behind + behind;
    for (std::size_t at = 0; at < bytes.size(); at += piece) {
      client->send(std::string_view(bytes).substr(at, piece));
      settle();
    }
    const std::string reply = withoutDate(client->take());
    const std::string first = ok(readsBody ? "" : "hello");
    CHECK(reply.starts_with(first));
    const std::string second = reply.substr(std::min(first.size(), reply.size()));
    // Content that nobody reads may turn out to be malformed when the response has been sent.
    if (readsBody || !contains(handled, "/before/"))
      CHECK(second.starts_with("HTTP/1.1 " + std::to_string(bad.status) + " "));
    CHECK(second.find("Content-Length: ") == second.rfind("Content-Length: ")); // that is all
    CHECK(!contains(handled, "/behind"));
    CHECK(client->ended);
    CHECK(!client->writeFailed);
  };
  for (readsBody = true;; readsBody = false) {
    for (const MalformedRequest& bad : malformedRequests()) {
      check(bad, 10'000);
      check(bad, 1);
    }
    if (!readsBody) break;
  }
}

TEST_CASE_FIXTURE(HttpTest, "what is odd and in order is handled as it was meant, and the connection kept or not") {
  settings.unknownMethods = ServerSettings::UnknownMethods::PASS;
  handler = [](Request& request, Response& response) -> Promise<void> {
    const std::string content = co_await request.body().readAllText(100);
    std::string text = std::string(request.methodText()) + "(" + std::string(request.target()) + "){" + content + "}";
    for (const HeaderField field : request.trailers()) text += "[" + std::string(field.name) + "|" + std::string(field.value) + "]";
    co_await response.send(200, std::move(text));
  };
  for (const Message& message : wellFormedRequests())
    for (const std::size_t piece : {std::size_t(1000), std::size_t(1)}) {
      CAPTURE(troth::detail::quote(message.bytes));
      CAPTURE(piece);
      const std::string& all = message.understood;
      const std::size_t open = all.find(')') + 1, content = all.find('{'), behind = all.rfind('+');
      const std::string_view bytes(message.bytes.data(), message.bytes.size() - (all.size() - behind - 1));
      auto client = connect();
      for (std::size_t at = 0; at < bytes.size(); at += piece) {
        client->send(bytes.substr(at, piece));
        settle();
      }
      CHECK(client->take().ends_with("\r\n\r\n" + all.substr(0, open) + all.substr(content, behind - content)));
      CHECK(client->ended == (all.substr(open, 4).ends_with('c')));
      client->send(GET);
      settle();
      CHECK(client->take().ends_with(client->ended ? "" : "GET(/){}"));
      CHECK(!client->wasReset);
    }
}

TEST_CASE_FIXTURE(HttpTest, "content beyond the limit, or malformed, ends the request with its status") {
  settings.bodyBytes = 10;
  handler = echo;
  const std::string head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
  CHECK(talk(head + "a\r\n0123456789\r\n0\r\n\r\n") == ok("0123456789"));
  for (const std::string& reply : {talk(head + "b\r\n0123456789a\r\n0\r\n\r\n" + GET), talk(head + "6\r\nabcdef\r\n6\r\nabcdef\r\n" + GET)}) {
    CHECK(contains(reply, "HTTP/1.1 413 "));
    CHECK(contains(reply, "Connection: close"));
    CHECK(!contains(reply, "200 OK"));
  }
  const std::string reply = talk(head + "1\r\nxy\r\n" + GET);
  CHECK(contains(reply, "HTTP/1.1 400 "));
  CHECK(!contains(reply, "200 OK"));
}

TEST_CASE_FIXTURE(HttpTest, "content that nobody reads is skipped, up to a limit, and never taken for a request") {
  settings.skippedBytes = 1000;
  handler = hello;
  const std::string small = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: " + std::to_string(GET.size()) + "\r\n\r\n" + GET;
  CHECK(talk(small + GET) == ok("hello") + ok("hello"));
  CHECK(talk("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n" + GET) ==
        ok("hello") + ok("hello"));
  const std::string large(1001, 'x');
  CHECK(talk("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1001\r\n\r\n" + large + GET) ==
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello");
  // To the byte, however it is framed, and wherever it is found out.
  const std::string chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", most(1000, 'x');
  CHECK(talk("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n" + most + GET) == ok("hello") + ok("hello"));
  CHECK(talk(chunked + "3e8\r\n" + most + "\r\n0\r\n\r\n" + GET) == ok("hello") + ok("hello"));
  CHECK(talk(chunked + "3e9\r\n" + large + "\r\n0\r\n\r\n" + GET) == ok("hello"));
  std::string chunks = chunked;
  for (int i = 0; i < 300; ++i) chunks += "8\r\n01234567\r\n";
  auto client = connect();
  client->send(chunks + "0\r\n\r\n" + GET);
  settle();
  CHECK(withoutDate(client->take()) == ok("hello"));
  CHECK(client->ended);
}

TEST_CASE_FIXTURE(HttpTest, "what a handler says of the connection is the server's to say") {
  handler = [](Request&, Response& response) -> Promise<void> {
    response.headers().set(HeaderId::CONNECTION, "keep-alive, X-Hop");
    response.headers().add(HeaderId::CONNECTION, "Y-Hop");
    co_await response.send(200, "hello");
  };
  CHECK(talk(GET) == "HTTP/1.1 200 OK\r\nConnection: X-Hop, Y-Hop\r\nContent-Length: 5\r\n\r\nhello");
  CHECK(talk("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n") ==
        "HTTP/1.1 200 OK\r\nConnection: X-Hop, Y-Hop\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello");
  handler = [](Request&, Response& response) -> Promise<void> {
    response.headers().set(HeaderId::CONNECTION, "keep-alive, Close");
    co_await response.send(200, "hello");
  };
  CHECK(talk(GET + GET) == "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello");
}

TEST_CASE_FIXTURE(HttpTest, "after an error that is streamed to a client that waits to send nothing is taken for a request") {
  handler = [](Request&, Response& response) -> Promise<void> { co_await response.start(403, 2).write(asBytes("no")); };
  CHECK(talk("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 27\r\nExpect: 100-continue\r\n\r\n" + GET) ==
        "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno");
}

TEST_CASE_FIXTURE(HttpTest, "small chunks that came together are read together, and an error behind them comes after them") {
  std::vector<std::string> pieces;
  handler = [&](Request& request, Response& response) -> Promise<void> {
    for (;;) {
      const Chunk chunk = co_await request.body().tryReadChunk();
      pieces.emplace_back(chunk.text());
      if (chunk.empty()) break;
    }
    co_await response.send(200);
  };
  std::string chunks, whole;
  for (int i = 0; i < 500; ++i) chunks += "1\r\n" + std::string(1, static_cast<char>('a' + i % 26)) + "\r\n", whole += static_cast<char>('a' + i % 26);
  const std::string head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
  CHECK(talk(head + chunks + "0\r\n\r\n") == "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
  CHECK(pieces == std::vector<std::string>{whole, ""});
  pieces.clear();
  CHECK(contains(talk(head + chunks + "x"), "400 "));
  CHECK(pieces == std::vector<std::string>{whole});
  pieces.clear();
  settings.bodyBytes = 300;
  dropServer();
  CHECK(contains(talk(head + chunks), "413 "));
  CHECK(pieces == std::vector<std::string>{whole.substr(0, 300)});
}

TEST_CASE_FIXTURE(HttpTest, "content that has come is not waited for, and a handler that waits for more learns that its client leaves") {
  Promise<std::size_t> read = NEVER_DONE;
  std::string buffer(3, '.');
  bool gone = false;
  struct Leaving {
    bool& flag;
    ~Leaving() { flag = true; }
  };
  SUBCASE("the read is complete, and not taken") {
    handler = [&](Request& request, Response& response) -> Promise<void> {
      read = request.body().tryRead(std::as_writable_bytes(std::span(buffer)), 3);
      co_await timer.afterDelay(settings.bodyTimeout * 5);
      co_await response.send(200, std::to_string(co_await std::move(read)));
    };
    auto client = connect();
    client->send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n");
    settle();
    client->send("abc");
    settle();
    for (int i = 0; i < 5; ++i) pass(settings.bodyTimeout);
    CHECK(withoutDate(client->take()) == ok("3"));
    CHECK(buffer == "abc");
  }
  SUBCASE("a part was read, and the handler waits for something else") {
    handler = [&](Request& request, Response&) -> Promise<void> {
      const Leaving leaving{gone};
      co_await request.body().tryRead(std::as_writable_bytes(std::span(buffer)), 3);
      co_await Promise<void>(NEVER_DONE);
    };
    auto client = connect();
    client->send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabcd");
    settle();
    CHECK(!gone);
    client->reset();
    settle();
    CHECK(gone);
    CHECK(server().connections() == 0);
  }
  SUBCASE("a read that its handler has left behind fails") {
    handler = [&](Request& request, Response& response) -> Promise<void> {
      if (request.method() == Method::POST) read = request.body().tryRead(std::as_writable_bytes(std::span(buffer)), 3);
      co_await response.send(200);
    };
    CHECK(talk("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc" + GET) == "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    CHECK(failureOf(std::move(read), scope).kind() == Exception::Kind::DISCONNECTED);
  }
}

TEST_CASE_FIXTURE(HttpTest, "slow clients are ended by the times that they have") {
  handler = hello;
  SUBCASE("who says nothing") {
    auto client = connect();
    pass(10s - 1ns);
    CHECK(server().connections() == 1);
    pass(1ns);
    CHECK(client->ended);
    CHECK(client->received.empty());
  }
  SUBCASE("who sends a head line by line") {
    auto client = connect();
    client->send("GET / HTTP/1.1\r\nHost: a\r\n");
    for (int i = 0; i < 10; ++i) {
      CHECK(client->received.empty());
      pass(1s);
      client->send("A: b\r\n");
    }
    settle();
    CHECK(contains(client->take(), "HTTP/1.1 408 Request Timeout\r\n"));
    CHECK(client->ended);
    pass(2s);
    CHECK(server().connections() == 0);
  }
  SUBCASE("who stops in a second head") {
    auto client = connect();
    client->send(GET + "GET / HTTP");
    pass(10s);
    CHECK(contains(client->take(), "hello" "HTTP/1.1 408 "));
  }
  SUBCASE("who stops in a head after HEAD") {
    auto client = connect();
    client->send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP");
    pass(10s);
    CHECK(contains(client->take(), "Content-Length: 20\r\nConnection: close\r\n\r\n408 Request Timeout\n"));
  }
  SUBCASE("who has no more requests") {
    auto client = connect();
    client->send(GET);
    pass(15s - 1ns);
    CHECK(server().connections() == 1);
    pass(1ns);
    CHECK(server().connections() == 0);
    CHECK(withoutDate(client->take()) == ok("hello"));
    CHECK(client->ended);
  }
  SUBCASE("who sends an empty line behind its request") {
    auto client = connect();
    client->send(GET + "\r");
    settle();
    client->send("\n");
    pass(14s);
    client->send("\r\n");
    pass(14s);
    CHECK(withoutDate(client->take()) == ok("hello"));
    CHECK(server().connections() == 1);
    pass(1s);
    CHECK(client->ended);
    CHECK(client->received.empty());
  }
  SUBCASE("who stops in its body") {
    handler = echo;
    auto client = connect();
    client->send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10000\r\n\r\nabc");
    pass(15s);
    CHECK(contains(client->take(), "HTTP/1.1 408 "));
    CHECK(client->ended);
    CHECK(server().requests() == 0);
  }
  SUBCASE("who sends its body by the byte") {
    handler = echo;
    auto client = connect();
    client->send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10000\r\n\r\n");
    for (int i = 0; i < 15; ++i) {
      CHECK(client->received.empty());
      client->send("x");
      pass(1s);
    }
    CHECK(contains(client->take(), "HTTP/1.1 408 "));
  }
  SUBCASE("but not who sends it at the least rate") {
    handler = echo;
    auto client = connect();
    client->send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10000\r\n\r\n");
    for (int i = 0; i < 100; ++i) {
      CHECK(client->received.empty());
      client->send(std::string(100, 'x'));
      pass(1s);
    }
    CHECK(contains(client->take(), "200 OK"));
  }
  SUBCASE("nor who waits for a handler that is slow to read") {
    handler = [this](Request& request, Response& response) -> Promise<void> {
      co_await timer.afterDelay(100s);
      co_await echo(request, response);
    };
    auto client = connect();
    client->send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n");
    pass(99s);
    client->send("abc");
    pass(1s);
    CHECK(withoutDate(client->take()) == ok("abc"));
  }
  SUBCASE("who does not read") {
    const std::string large(1'000'000, 'x');
    handler = [&](Request&, Response& response) -> Promise<void> { co_await response.send(200, large); };
    auto client = connect();
    client->stopReading();
    client->send(GET);
    pass(30s - 1ns);
    CHECK(server().requests() == 1);
    pass(1ns);
    CHECK(server().connections() == 0);
    client->goOnReading();
    settle();
    CHECK(client->wasReset);
  }
}

TEST_CASE_FIXTURE(HttpTest, "who takes 128 KiB of a response in each time of a write is slow, and who takes less is ended") {
  const std::string large(1'000'000, 'x');
  SUBCASE("of one in one piece") {
    handler = [&](Request&, Response& response) -> Promise<void> { co_await response.send(200, large); };
  }
  SUBCASE("of one that is written") {
    handler = [&](Request&, Response& response) -> Promise<void> { co_await response.start(200).write(large); };
  }
  SUBCASE("of one that is pumped") {
    handler = [&](Request&, Response& response) -> Promise<void> {
      OneWayPipe pipe = newOneWayPipe();
      const std::unique_ptr<AsyncInputStream> source = newShortInputStream(*pipe.input, SIZE_MAX);
      Promise<void> written = pipe.output->write(large);
      co_await source->pumpTo(response.start(200, large.size()), large.size());
      co_await std::move(written);
    };
  }
  auto client = connect();
  client->stopReading();
  client->send(GET);
  settle();
  client->read(81); // the head, if there is no more than a Date and a length
  settle();
  client->take();
  constexpr std::size_t LEAST = 128 * 1024;
  for (std::size_t i = 0; i < 5; ++i) {
    pass(15s);
    client->read(LEAST);
    pass(15s);
    CHECK(client->received.size() == (i + 1) * LEAST);
    CHECK(server().connections() == 1);
  }
  pass(30s - 1ns);
  client->read(LEAST - 1);
  settle();
  CHECK(server().connections() == 1);
  pass(1ns);
  CHECK(server().connections() == 0);
}

TEST_CASE_FIXTURE(HttpTest, "on a connection that does not tell of its progress each 128 KiB of a response have their time") {
  const std::string large(1'000'000, 'x');
  handler = [&](Request&, Response& response) -> Promise<void> {
    const std::array<std::span<const std::byte>, 3> pieces = {asBytes("ab"), asBytes(large), asBytes("cd")};
    co_await response.start(200, large.size() + 4).write(std::span<const std::span<const std::byte>>(pieces));
  };
  TwoWayPipe pipe = newTwoWayPipe();
  const std::unique_ptr<AsyncIoStream> inner = std::move(pipe.ends[0]);
  server().serveConnection(newShortIoStream(*inner, SIZE_MAX));
  auto client = std::make_unique<RawClient>(std::move(pipe.ends[1]));
  client->stopReading();
  client->send(GET);
  for (int i = 0; i < 7; ++i) {
    pass(30s - 1ns);
    client->read(128 * 1024);
  }
  pass(30s - 1ns);
  client->goOnReading();
  settle();
  CHECK(withoutDate(client->take()) == "HTTP/1.1 200 OK\r\nContent-Length: 1000004\r\n\r\nab" + large + "cd");
  client->stopReading();
  client->send(GET);
  pass(1s);
  client->read(128 * 1024);
  pass(30s - 1ns);
  CHECK(server().connections() == 1);
  client->read(128 * 1024 - 1);
  pass(1ns);
  CHECK(server().connections() == 0);
}

TEST_CASE_FIXTURE(HttpTest, "large content in many pieces is one write, with the head") {
  std::vector<std::string> parts;
  std::vector<std::span<const std::byte>> pieces;
  std::string whole;
  for (std::size_t i = 0; i < 20; ++i) parts.emplace_back(i == 3 ? 0 : 1000 + i, static_cast<char>('a' + i));
  for (const std::string& part : parts) {
    pieces.push_back(asBytes(part));
    whole += part;
  }
  handler = [&](Request&, Response& response) -> Promise<void> {
    co_await response.start(200, whole.size()).write(std::span<const std::span<const std::byte>>(pieces));
  };
  TwoWayPipe pipe = newTwoWayPipe();
  server().serveConnection(std::move(pipe.ends[0]));
  pipe.ends[1]->write(GET).wait(scope);
  std::string got(100'000, '.');
  Promise<std::size_t> read = pipe.ends[1]->tryRead(std::as_writable_bytes(std::span(got))); // of one write
  got.resize(std::move(read).wait(scope));
  CHECK(withoutDate(got) == "HTTP/1.1 200 OK\r\nContent-Length: " + std::to_string(whole.size()) + "\r\n\r\n" + whole);
}

TEST_CASE_FIXTURE(HttpTest, "a pump into a response waits for its source as long as that takes") {
  OneWayPipe pipe = newOneWayPipe();
  std::uint64_t amount = ALL_BYTES;
  SUBCASE("by a buffer") {}
  SUBCASE("by the connection's own way") { amount = 6; }
  handler = [&](Request&, Response& response) -> Promise<void> {
    const std::unique_ptr<AsyncInputStream> source = newShortInputStream(*pipe.input, 100);
    co_await source->pumpTo(response.start(200, 6), amount);
  };
  auto client = connect();
  client->send(GET);
  for (const std::string_view part : {"abc", "def"}) {
    pass(1000s);
    CHECK(server().requests() == 1);
    pipe.output->write(part).wait(scope);
  }
  pipe.output.reset();
  settle();
  CHECK(withoutDate(client->take()) == ok("abcdef"));
}

TEST_CASE_FIXTURE(HttpTest, "a pump into a response whose source goes while the head is on its way fails") {
  OneWayPipe pipe = newOneWayPipe();
  Exception::Kind kind = Exception::Kind::FAILED;
  handler = [&](Request&, Response& response) -> Promise<void> {
    std::unique_ptr<AsyncInputStream> source = newShortInputStream(*pipe.input, 100);
    Promise<std::uint64_t> pump = source->pumpTo(response.start(200, 6), 6);
    co_await timer.afterDelay(1s);
    source.reset();
    try {
      co_await std::move(pump);
    } catch (const Exception& e) {
      kind = e.kind();
      throw;
    }
  };
  auto client = connect();
  client->stopReading();
  client->send(GET);
  pass(1s);
  client->goOnReading();
  settle();
  CHECK(kind == Exception::Kind::DISCONNECTED);
  CHECK(client->wasReset);
  CHECK(contains(errors.only(), "destroyed"));
}

TEST_CASE_FIXTURE(HttpTest, "a handler that meets a client's leaving by writing to it is no failure of the server's") {
  handler = [&](Request&, Response& response) -> Promise<void> {
    AsyncOutputStream& body = response.start(200);
    for (;;) {
      co_await timer.afterDelay(1ms);
      co_await body.write("more");
    }
  };
  auto client = connect();
  client->send(GET);
  pass(1ms);
  CHECK(contains(client->take(), "more"));
  client->close();
  pass(1ms); // the write comes before the end of the client's direction is long enough ago
  CHECK(server().connections() == 0);
  CHECK(errors.texts.empty());
}

TEST_CASE_FIXTURE(HttpTest, "a client that leaves cancels its handler, and one that has only ended its direction has a while") {
  bool cancelled = false;
  struct Notice {
    bool& flag;
    ~Notice() { flag = true; }
  };
  handler = [&](Request&, Response&) -> Promise<void> {
    const Notice notice{cancelled};
    co_await NEVER_DONE;
  };
  auto client = connect();
  client->send(GET);
  settle();
  CHECK(server().requests() == 1);
  SUBCASE("by a reset") {
    client->reset();
    settle();
    CHECK(cancelled);
    CHECK(server().connections() == 0);
  }
  SUBCASE("by the end of its direction") {
    client->shutdown();
    settle();
    CHECK(!cancelled);
    pass(1s);
    CHECK(cancelled);
    CHECK(server().connections() == 0);
  }
  SUBCASE("with more requests on the way") {
    client->send(GET + GET);
    settle();
    client->reset();
    settle();
    CHECK(cancelled);
  }
}

TEST_CASE_FIXTURE(HttpTest, "who has ended its direction gets a response that is made in time, or is on its way") {
  handler = [this](Request&, Response& response) -> Promise<void> {
    AsyncOutputStream& body = response.start(200);
    for (int i = 0; i < 10; ++i) {
      co_await timer.afterDelay(900ms);
      co_await body.write("x");
    }
  };
  auto client = connect();
  client->send(GET);
  client->shutdown();
  for (int i = 0; i < 11; ++i) pass(900ms);
  CHECK(contains(client->received, "0\r\n\r\n"));
  CHECK(client->ended);
}

TEST_CASE_FIXTURE(HttpTest, "who has ended its direction gets what is pumped to it, also if nobody watches the time of a write") {
  settings.writeTimeout = Duration::max();
  const std::string content(1000, 'x');
  OneWayPipe source = newOneWayPipe();
  handler = [&](Request&, Response& response) -> Promise<void> {
    const std::unique_ptr<AsyncInputStream> input = newShortInputStream(*source.input, 1000);
    co_await input->pumpTo(response.start(200, content.size()), content.size()); // by the connection's own way
  };
  auto client = connect();
  client->stopReading();
  client->send(GET);
  client->shutdown();
  Promise<void> writing = source.output->write(content).eagerlyEvaluate(nullptr);
  client->read(150); // the head, and some of the content
  for (int i = 0; i < 5; ++i) pass(900ms);
  client->goOnReading();
  settle();
  CHECK(client->received.ends_with(content));
}

TEST_CASE_FIXTURE(HttpTest, "a body that breaks off is an error for the handler, and no response") {
  Exception::Kind kind = Exception::Kind::FAILED;
  handler = [&](Request& request, Response& response) -> Promise<void> {
    try {
      co_await echo(request, response);
    } catch (const Exception& e) {
      kind = e.kind();
      throw;
    }
  };
  for (const char* request : {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc",
                              "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"}) {
    kind = Exception::Kind::FAILED;
    auto client = connect();
    client->send(request);
    client->shutdown();
    settle();
    CHECK(kind == Exception::Kind::DISCONNECTED);
    CHECK(contains(client->received, "HTTP/1.1 400 "));
    pass(10s);
    CHECK(server().connections() == 0);
  }
}

TEST_CASE_FIXTURE(HttpTest, "a response that was sent goes out while its handler goes on") {
  auto gate = newPromiseAndFulfiller<void>();
  handler = [&](Request&, Response& response) -> Promise<void> {
    co_await response.send(200, "hello");
    co_await std::move(gate.promise);
  };
  auto client = connect();
  client->send(GET);
  settle();
  CHECK(withoutDate(client->take()) == ok("hello"));
  CHECK(server().requests() == 1);
  client->close(); // it has what it wanted, and the handler what it has to do
  settle();
  CHECK(server().requests() == 1);
  gate.fulfiller->fulfill();
  settle();
  CHECK(server().connections() == 0);
}

TEST_CASE_FIXTURE(HttpTest, "draining closes what is idle, lets requests end, and cancels what is late") {
  auto gate = newPromiseAndFulfiller<void>();
  handler = [&](Request& request, Response& response) -> Promise<void> {
    if (request.path() == "/slow") co_await std::move(gate.promise);
    if (request.path() == "/never") co_await NEVER_DONE;
    co_await response.send(200, "hello");
  };
  auto idle = connect(), fresh = connect(), slow = connect(), never = connect();
  idle->send(GET);
  slow->send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n" + GET);
  never->send("GET /never HTTP/1.1\r\nHost: a\r\n\r\n");
  settle();
  Promise<std::size_t> drained = server().drain(5s).eagerlyEvaluate(nullptr);
  CHECK(contains(thrownBy([&] { (void)server().drain(1s); }).description(), "another drain() is pending"));
  settle();
  CHECK(idle->ended);
  CHECK(fresh->ended);
  CHECK(server().connections() == 2);
  gate.fulfiller->fulfill();
  settle();
  CHECK(withoutDate(slow->take()) == "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello");
  CHECK(slow->ended);
  pass(5s);
  CHECK(never->wasReset);
  CHECK(std::move(drained).wait(scope) == 1);
  CHECK(server().connections() == 0);
  CHECK(server().drain(0s).wait(scope) == 0);
}

TEST_CASE_FIXTURE(HttpTest, "a connection that is upgraded is the handler's, with what came too early") {
  std::unique_ptr<AsyncIoStream> stream;
  handler = [&](Request& request, Response& response) -> Promise<void> {
    if (request.method() != Method::CONNECT) response.headers().set(HeaderId::UPGRADE, "chat");
    stream = response.upgrade(request.method() == Method::CONNECT ? 200 : 101);
    CHECK(contains(thrownBy([&] { (void)request.connection(); }).description(), "closed"));
    CHECK(thrownBy([&] { (void)response.send(200); }).kind() == Exception::Kind::DISCONNECTED);
    return READY_NOW;
  };
  auto client = connect();
  client->send("GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: chat\r\n\r\nearly");
  settle();
  CHECK(withoutDate(client->take()) == "HTTP/1.1 101 Switching Protocols\r\nUpgrade: chat\r\nConnection: Upgrade\r\n\r\n");
  CHECK(server().connections() == 0);
  REQUIRE(stream != nullptr);
  std::byte buffer[16];
  CHECK(stream->tryRead(buffer, 5).wait(scope) == 5);
  CHECK(std::memcmp(buffer, "early", 5) == 0);
  client->send("late");
  CHECK(stream->tryReadChunk().wait(scope).text() == "late");
  stream->write("answer").wait(scope);
  CHECK(client->take() == "answer");
  stream.reset();
  settle();
  CHECK(client->ended);

  client = connect();
  client->send("CONNECT b:1 HTTP/1.1\r\nHost: b:1\r\n\r\n");
  settle();
  CHECK(withoutDate(client->take()) == "HTTP/1.1 200 OK\r\n\r\n");
  stream.reset();

  // Before the head has gone: what is written waits for it.
  client = connect();
  client->stopReading();
  client->send("CONNECT b:1 HTTP/1.1\r\nHost: b:1\r\n\r\n");
  settle();
  Promise<void> written = stream->write("first").eagerlyEvaluate(nullptr);
  client->goOnReading();
  settle();
  CHECK(withoutDate(client->take()) == "HTTP/1.1 200 OK\r\n\r\nfirst");
  stream.reset();
}

TEST_CASE_FIXTURE(HttpTest, "what is left of a request may go after it, in any order") {
  TaskSet kept(errors);
  std::optional<Promise<std::size_t>> read;
  std::optional<Promise<Chunk>> chunk;
  std::optional<Promise<void>> written;
  std::vector<std::byte> buffer(10);
  int way = 0;
  handler = [&](Request& request, Response& response) -> Promise<void> {
    if (way == 0) read = request.body().tryRead(std::span(buffer), 5).eagerlyEvaluate(nullptr);
    if (way == 1) chunk = request.body().tryReadChunk().eagerlyEvaluate(nullptr);
    if (way == 2) written = response.start(200).write(std::string_view("nobody reads it")).eagerlyEvaluate(nullptr);
    if (way == 3) read = request.body().tryRead(std::span(buffer), 5); // not even begun to be waited for
    return NEVER_DONE;
  };
  for (way = 0; way < 4; ++way) {
    for (const char* framing : {"Content-Length: 100", "Transfer-Encoding: chunked"}) {
      auto client = connect();
      client->stopReading();
      client->send("POST / HTTP/1.1\r\nHost: a\r\n" + std::string(framing) + "\r\n\r\n");
      settle();
      dropServer();
      settle();
      if (read) CHECK(failureOf(std::move(*read), scope).kind() == Exception::Kind::DISCONNECTED);
      if (chunk) CHECK(failureOf(std::move(*chunk), scope).kind() == Exception::Kind::DISCONNECTED);
      if (written) CHECK(failureOf(std::move(*written), scope).kind() == Exception::Kind::DISCONNECTED);
      read.reset();
      chunk.reset();
      written.reset();
    }
  }
}

TEST_CASE_FIXTURE(HttpTest, "each request is logged once, with what became of it") {
  std::vector<std::string> log;
  settings.accessLog = [&](const AccessRecord& record) {
    log.push_back((record.request == nullptr ? std::string("-") : std::string(record.request->target())) + " " +
                  std::to_string(record.status) + " " + std::to_string(record.received) + "/" +
                  std::to_string(record.sent) + (record.complete ? "" : " incomplete"));
  };
  handler = [](Request& request, Response& response) -> Promise<void> {
    if (request.path() == "/fails") throw HttpError(404, "x");
    if (request.path() == "/never") co_await NEVER_DONE;
    if (request.path() == "/breaks") {
      co_await response.start(200, 10).write("abc");
      co_return;
    }
    co_await echo(request, response);
  };
  (void)talk("POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET /fails HTTP/1.1\r\nHost: a\r\n\r\nnonsense\r\n\r\n");
  (void)talk("GET /refused HTTP/1.1\r\nHost: a\r\nExpect: x\r\n\r\n");
  (void)talk("GET /breaks HTTP/1.1\r\nHost: a\r\n\r\n");
  (void)talk("GET /never HTTP/1.1\r\nHost: a\r\n\r\n");
  dropServer();
  settle();
  std::string lines;
  for (const std::string& line : log) lines += line + "\n";
  CHECK(lines == "/a 200 3/3\n/fails 404 0/14\n- 400 0/58\n/refused 417 0/23\n/breaks 200 0/3 incomplete\n"
                 "/never 0 0/0 incomplete\n");
  errors.texts.clear();
}

TEST_CASE_FIXTURE(HttpTest, "it accepts as many connections as it may, and the next when one goes") {
  MemoryNetwork network(timer);
  settings.connections = 2;
  handler = hello;
  Promise<void> serving = server().serve(network.parseAddress("10.0.0.1:80").wait(scope)->listen()).eagerlyEvaluate(nullptr);
  std::vector<std::unique_ptr<RawClient>> clients;
  auto address = network.parseAddress("10.0.0.1:80").wait(scope);
  for (int i = 0; i < 3; ++i) {
    clients.push_back(std::make_unique<RawClient>(address->connect().wait(scope)));
    clients.back()->send(GET);
  }
  settle();
  CHECK(server().connections() == 2);
  CHECK(clients[2]->received.empty());
  clients[0]->close();
  settle();
  CHECK(withoutDate(clients[2]->take()) == ok("hello"));
  CHECK(server().drain(1s).wait(scope) == 0);
  std::move(serving).wait(scope);
}

TEST_CASE("a server may be destroyed at every step of what it does") {
  const auto run = [](auto&& conversation) {
    return [conversation](LoopTest&) -> Promise<void> {
      struct World {
        ManualTimer timer{TimePoint(std::chrono::hours(1))};
        ErrorLog errors;
        std::unique_ptr<Service> service = newService([this](Request& request, Response& response) -> Promise<void> {
          if (request.path() == "/stream") {
            AsyncOutputStream& out = response.start(200);
            co_await request.body().pumpTo(out);
          } else if (request.path() == "/later") {
            co_await timer.afterDelay(1s);
            co_await response.send(200, std::string(20'000, 'x'));
          } else {
            co_await echo(request, response);
          }
        });
        Server server{*service, timer, errors};
      };
      auto world = std::make_unique<World>();
      TwoWayPipe pipe = newTwoWayPipe();
      world->server.serveConnection(std::move(pipe.ends[0]));
      co_await conversation(*world, *pipe.ends[1]);
    };
  };
  const auto talk = [](AsyncIoStream& client, std::string request, std::string_view end) -> Promise<void> {
    co_await client.write(request);
    std::string got;
    while (!contains(got, end)) {
      const Chunk chunk = co_await client.tryReadChunk();
      REQUIRE(!chunk.empty());
      got += chunk.text();
    }
  };
  CHECK(cancelSweep(run([&](auto&, AsyncIoStream& client) -> Promise<void> {
          co_await talk(client, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n", "100 Continue");
          co_await talk(client, "abc", "\r\n\r\nabc");
          co_await talk(client, GET + GET, "200 OK");
        })) > 10);
  CHECK(cancelSweep(run([&](auto&, AsyncIoStream& client) -> Promise<void> {
          co_await talk(client, "POST /stream HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", "abc\r\n");
          co_await talk(client, "3\r\ndef\r\n0\r\n\r\n", "0\r\n\r\n");
        })) > 10);
  CHECK(cancelSweep(run([&](auto& world, AsyncIoStream& client) -> Promise<void> {
          Promise<void> asked = talk(client, "GET /later HTTP/1.1\r\nHost: a\r\n\r\n", "xxx").eagerlyEvaluate(nullptr);
          co_await yield();
          co_await yield();
          co_await yield();
          world.timer.advanceBy(1s);
          co_await std::move(asked);
          co_await world.server.drain(1s);
        })) > 10);
  CHECK(cancelSweep(run([&](auto&, AsyncIoStream& client) -> Promise<void> {
          co_await talk(client, "nonsense\r\n", "400 Bad");
          co_await client.write("more");
        })) > 5);
}

TEST_CASE_FIXTURE(HttpTest, "settings that make no sense are refused") {
  const auto refusal = [&](auto&& change) {
    ServerSettings wrong;
    change(wrong);
    struct None : Service {
      Promise<void> handle(Request&, Response&) override { return READY_NOW; }
    } none;
    return std::string(thrownBy([&] { Server(none, timer, errors, wrong); }).description());
  };
  CHECK(contains(refusal([](ServerSettings& s) { s.headBytes = 10; }), "no request passes"));
  CHECK(contains(refusal([](ServerSettings& s) { s.headBytes = 1u << 30; }), "headBytes"));
  CHECK(contains(refusal([](ServerSettings& s) { s.connections = 0; }), "limit of 0"));
  CHECK(contains(refusal([](ServerSettings& s) { s.idleTimeout = 0s; }), "not positive"));
  CHECK(contains(refusal([](ServerSettings& s) { s.halfCloseGrace = -1s; }), "negative"));
}

TEST_CASE_FIXTURE(HttpTest, "times that are switched off never come") {
  settings.headTimeout = settings.idleTimeout = settings.bodyTimeout = settings.writeTimeout = Duration::max();
  settings.halfCloseGrace = Duration::max();
  handler = hello;
  auto client = connect();
  pass(std::chrono::hours(100));
  client->send(GET);
  pass(std::chrono::hours(100));
  CHECK(withoutDate(client->take()) == ok("hello"));
  CHECK(!timer.nextEvent());
}

} // namespace
