// SPDX-License-Identifier: MIT
// What a hostile client, or a careless handler, does to a server: framing that must not slip, handlers that must end.
#include "../../runtime/helpers.h"
#include "random_reader.h"
#include "server_fixture.h"

#include <troth/net/http/http_error.h>
#include <troth/io/testing.h>
#include <troth/runtime/task_set.h>

#include <optional>

using namespace troth;
using namespace troth::http;
using namespace troth::test;
using namespace std::chrono_literals;

namespace {

const std::string GET = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

std::string ok(std::string_view body) {
  return "HTTP/1.1 200 OK\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + std::string(body);
}

Promise<void> target(Request& request, Response& response) { return response.send(200, std::string(request.target())); }

TEST_CASE_FIXTURE(HttpTest, "an error for what is no request does not take after the request before it") {
  handler = target;
  for (const bool isSame : {true, false}) {
    for (const bool isLate : {true, false}) {
      CAPTURE(isSame);
      CAPTURE(isLate);
      auto client = connect();
      client->send("HEAD / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
      settle();
      client->take();
      if (!isSame) { // another one, which gets the memory of the first
        client->close();
        settle();
        client = connect();
      }
      client->send(isLate ? "GE" : "nonsense\r\n\r\n");
      if (isLate)
        pass(11s);
      else
        settle();
      const std::string expected =
          isLate ? "408 Request Timeout\n" : "400 Bad Request: the request does not begin with a method\n";
      const std::string reply = client->take();
      CHECK(contains(reply, "Content-Length: " + std::to_string(expected.size()) + "\r\n"));
      CHECK(reply.ends_with("\r\n\r\n" + expected));
    }
  }
}

TEST_CASE_FIXTURE(HttpTest, "a response of which a part was given up resets the connection, and nothing follows it") {
  const std::string large(1'000'000, 'x');
  Promise<void> kept = READY_NOW;
  bool caught = false;
  SUBCASE("sent, and dropped") {
    handler = [&](Request&, Response& response) -> Promise<void> {
      { Promise<void> dropped = response.send(200, std::string_view(large)); }
      return READY_NOW;
    };
  }
  SUBCASE("sent, and kept elsewhere") {
    handler = [&](Request&, Response& response) -> Promise<void> {
      kept = response.send(200, std::string_view(large));
      return READY_NOW;
    };
  }
  const auto giveUp = [&](bool withLength, std::size_t size) {
    handler = [&, withLength, size](Request&, Response& response) -> Promise<void> {
      AsyncOutputStream& out = withLength ? response.start(200, size + 5) : response.start(200);
      {
        Promise<void> write = out.write(std::string_view(large).substr(0, size));
        co_await timer.afterDelay(1s);
      }
      try {
        co_await out.write("hello");
      } catch (const Exception& e) {
        caught = e.kind() == Exception::Kind::DISCONNECTED;
      }
    };
  };
  SUBCASE("written in one large chunk, in part") { giveUp(false, large.size()); }
  SUBCASE("written in one small chunk, in part") { giveUp(false, 5000); }
  SUBCASE("written with a length, in part") { giveUp(true, large.size()); }
  auto client = connect();
  client->stopReading();
  client->send(GET + GET);
  pass(1s);
  client->goOnReading();
  settle();
  CHECK(client->wasReset);
  CHECK(!contains(client->received, "hello"));
  errors.texts.clear();
}

TEST_CASE_FIXTURE(HttpTest, "who has ended its direction has a while with each of its requests") {
  std::size_t begun = 0;
  handler = [&](Request& request, Response& response) -> Promise<void> {
    ++begun;
    co_await timer.afterDelay(request.path() == "/first" ? Duration(500ms) : Duration(1h));
    co_await response.send(200, "late");
  };
  auto client = connect();
  client->send("GET /first HTTP/1.1\r\nHost: a\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n");
  client->shutdown();
  pass(500ms);
  CHECK(begun == 2);
  CHECK(server().requests() == 1);
  pass(1001ms);
  CHECK(server().connections() == 0);
}

TEST_CASE_FIXTURE(HttpTest, "that a client leaves is noticed also when its content was there at once, and read in steps") {
  handler = [&](Request& request, Response&) -> Promise<void> {
    std::byte buffer[5];
    co_await request.body().tryRead(buffer, 5);
    co_await timer.afterDelay(1s);
    co_await request.body().readAllText(5);
    co_await timer.afterDelay(1h);
  };
  auto client = connect();
  SUBCASE("by length") { client->send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n1234567890"); }
  SUBCASE("in chunks") {
    client->send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n5\r\n67890\r\n0\r\n\r\n");
  }
  pass(1s);
  CHECK(server().connections() == 1);
  client->reset();
  pass(2s);
  CHECK(server().connections() == 0);
}

TEST_CASE_FIXTURE(HttpTest, "what is sent after a handler has waited once goes out when it waits again") {
  handler = [&](Request& request, Response& response) -> Promise<void> {
    co_await timer.afterDelay(1s);
    if (request.path() == "/send") co_await response.send(200, "hello");
    if (request.path() == "/end") {
      co_await response.start(200).write("hello");
      co_await response.end();
    }
    co_await timer.afterDelay(1h);
  };
  auto client = connect();
  std::string expected;
  SUBCASE("as a whole") {
    client->send("GET /send HTTP/1.1\r\nHost: a\r\n\r\n");
    expected = ok("hello");
  }
  SUBCASE("as the end of a stream") {
    client->send("GET /end HTTP/1.1\r\nHost: a\r\n\r\n");
    expected = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
  }
  pass(1s);
  CHECK(withoutDate(client->take()) == expected);
}

TEST_CASE_FIXTURE(HttpTest, "an upgraded connection whose reading is given up gives nothing that was read too far") {
  std::optional<std::string> failure;
  handler = [&](Request& request, Response& response) -> Promise<void> {
    response.headers().set(HeaderId::UPGRADE, "x");
    auto stream = response.upgrade();
    std::byte buffer[4];
    try {
      if (request.path() == "/chunk") {
        Promise<Chunk> read = stream->tryReadChunk();
        stream->abortRead();
        co_await std::move(read);
      } else {
        Promise<std::size_t> read = stream->tryRead(buffer, 4);
        stream->abortRead();
        co_await std::move(read);
      }
    } catch (const Exception& e) {
      failure = e.description();
    }
  };
  auto client = connect();
  std::string path;
  SUBCASE("a chunk") { path = "/chunk"; }
  SUBCASE("bytes") { path = "/bytes"; }
  client->send("GET " + path + " HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nearly");
  settle();
  CHECK(failure == "read: reading was given up, by abortRead()");
}

TEST_CASE_FIXTURE(HttpTest, "a request whose content comes too late is logged also when its response was begun") {
  std::vector<std::string> log;
  settings.accessLog = [&](const AccessRecord& record) {
    log.push_back(std::to_string(record.status) + (record.complete ? " complete" : " broken"));
  };
  handler = [&](Request& request, Response& response) -> Promise<void> {
    if (request.path() == "/stream") {
      co_await response.start(200).write("hello");
      co_await request.body().readAllText(100);
    } else {
      co_await response.send(403, "no");
    }
  };
  auto client = connect();
  std::string expected;
  SUBCASE("begun") {
    client->send("POST /stream HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n");
    expected = "200 broken";
  }
  SUBCASE("sent") {
    client->send("POST /send HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n");
    expected = "403 complete";
  }
  pass(16s);
  CHECK(server().connections() == 0);
  REQUIRE(log.size() == 1);
  CHECK(log[0] == expected);
}

TEST_CASE_FIXTURE(HttpTest, "nothing that follows a CONNECT is taken for a request") {
  handler = target;
  auto client = connect();
  std::string length;
  SUBCASE("with content") { length = "Content-Length: 35\r\n"; }
  SUBCASE("with what the tunnel should carry") {}
  client->send("CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n" + length + "\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n");
  settle();
  CHECK(!contains(client->received, "smuggled"));
  CHECK(contains(client->take(), "Connection: close\r\n"));
}

TEST_CASE_FIXTURE(HttpTest, "authorities that are none are refused") {
  handler = target;
  for (const std::string line : {"CONNECT a", "CONNECT a:", "CONNECT :1", "CONNECT a:0", "CONNECT a:65536",
                                 "CONNECT u@a:1", "CONNECT [::1]", "GET http://user@a/", "GET http://u:p@a/x",
                                 "GET http://[::1/", "GET http://a:b/", "GET http:///x", "GET http://?q",
                                 "GET http://a:999999/"}) {
    CAPTURE(line);
    CHECK(contains(talk(std::string(line) + " HTTP/1.1\r\nHost: a\r\n\r\n"), "400 Bad Request"));
  }
  for (const std::string line : {"GET http://a:/", "GET http://[::1]:80/", "GET http://a", "GET http://a?x@y",
                                 "GET /u@b", "CONNECT [::1]:443"}) {
    CAPTURE(line);
    CHECK(contains(talk(std::string(line) + " HTTP/1.1\r\nHost: a\r\n\r\n"), "200 OK"));
  }
}

TEST_CASE_FIXTURE(HttpTest, "framing that is not to the letter is refused") {
  handler = target;
  for (const std::string field :
       {"Content-Length:", "Content-Length: ", "Content-Length: 1 1", "Content-Length: 0x1", "Content-Length: 1,",
        "Content-Length: -0", "Content-Length: +1", "Transfer-Encoding:", "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: \"chunked\"", "Transfer-Encoding: chunked;q=1", "Transfer-Encoding: identity",
        "Expect: 100-continue\r\nExpect: other", "X: a\r\n b: c", "X : a", "X\t: a", ": a", "X: a\rb", "X: a\nY: b",
        "Host: b"}) {
    CAPTURE(field);
    const std::string reply = talk("POST / HTTP/1.1\r\nHost: a\r\n" + std::string(field) + "\r\n\r\n0\r\n\r\n");
    CHECK_MESSAGE((contains(reply, "HTTP/1.1 4") || contains(reply, "HTTP/1.1 501")), reply);
    CHECK(!contains(reply, "200 OK"));
  }
}

TEST_CASE_FIXTURE(HttpTest, "a source that is slow is not the client's fault") {
  OneWayPipe pipe = newOneWayPipe();
  auto input = newShortInputStream(*pipe.input, 5);
  handler = [&](Request&, Response& response) -> Promise<void> {
    co_await input->pumpTo(response.start(200, 10), 10);
  };
  TwoWayPipe connection = newTwoWayPipe();
  server().serveConnection(newShortIoStream(*connection.ends[0], 100));
  RawClient client(std::move(connection.ends[1]));
  client.send(GET);
  settle();
  auto writing = pipe.output->write("12345").eagerlyEvaluate(nullptr);
  settle();
  pass(31s);
  writing = pipe.output->write("67890").eagerlyEvaluate(nullptr);
  settle();
  CHECK(!client.wasReset);
  CHECK(client.received.ends_with("1234567890"));
  dropServer();
}

TEST_CASE_FIXTURE(HttpTest, "nothing follows an informational response that was given up") {
  bool isDone = false, isLogged = false;
  settings.accessLog = [&](const AccessRecord& record) {
    isLogged = true;
    CHECK(!record.complete);
  };
  handler = [&](Request&, Response& response) -> Promise<void> {
    { Promise<void> dropped = response.sendInformational(103); }
    co_await timer.afterDelay(1s);
    co_await response.send(200, "hello");
    co_await timer.afterDelay(1s);
    isDone = true;
  };
  auto client = connect();
  client->stopReading();
  client->send(GET);
  pass(1s);
  pass(1s);
  CHECK(isDone); // which its handler does not meet by being cancelled
  CHECK(isLogged);
  client->goOnReading();
  settle();
  CHECK(client->wasReset);
  CHECK(client->received == "");
}

TEST_CASE_FIXTURE(HttpTest, "a client that has ended its direction may read a response as slowly as any other") {
  const std::string large(1'000'000, 'x');
  handler = [&](Request&, Response& response) -> Promise<void> {
    co_await response.send(200, std::string_view(large));
  };
  auto client = connect();
  client->stopReading();
  client->send(GET);
  client->shutdown();
  pass(900ms);
  CHECK(server().connections() == 1);
  pass(200ms);
  client->goOnReading();
  settle();
  CHECK(client->received.ends_with("xxx"));
  CHECK(!client->wasReset);
  CHECK(client->received.size() > large.size());
}

TEST_CASE_FIXTURE(HttpTest, "a timer that fails once is asked again") {
  struct Flaky : Timer {
    explicit Flaky(Timer& t) : timer(t) {}
    TimePoint now() const override { return timer.now(); }
    Promise<void> atTime(TimePoint time, std::source_location where) override {
      if (failures > 0 && failures-- > 0) throw std::bad_alloc();
      return timer.atTime(time, where);
    }
    Promise<void> afterDelay(Duration delay, std::source_location where) override {
      return timer.afterDelay(delay, where);
    }
    Timer& timer;
    int failures = 1;
  } flaky(timer);
  const std::unique_ptr<Service> served = newService(target);
  Server flakyServer(*served, flaky, errors);
  TwoWayPipe first = newTwoWayPipe(), second = newTwoWayPipe();
  flakyServer.serveConnection(std::move(first.ends[0]));
  settle();
  errors.only();
  flakyServer.serveConnection(std::move(second.ends[0]));
  pass(10s);
  CHECK(flakyServer.connections() == 0);
}

TEST_CASE_FIXTURE(HttpTest, "a client that was not told to send its content is not waited for") {
  handler = [](Request&, Response& response) -> Promise<void> { co_await response.start(404, 2).write("no"); };
  auto client = connect();
  client->send("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 26\r\n\r\n");
  settle();
  CHECK(client->take().ends_with("no"));
  CHECK(client->ended);
  client->send(GET); // which might be its content
  settle();
  CHECK(client->received.empty());
}

// A stream of which the next write fails, as it would without memory for it; those after it go.
class FailingOnce final : public AsyncIoStream {
public:
  enum class How { AT_ONCE, THROWN, LATER };

  FailingOnce(std::unique_ptr<AsyncIoStream> inner, std::optional<How>& next) : inner_(std::move(inner)), next_(next) {}
  using AsyncOutputStream::write;
  Promise<std::size_t> tryRead(std::span<std::byte> buffer, std::size_t minBytes, std::source_location where) override {
    return inner_->tryRead(buffer, minBytes, where);
  }
  Promise<void> write(std::span<const std::byte> bytes, std::source_location where) override {
    return write(std::span(&bytes, 1), where);
  }
  Promise<void> write(std::span<const std::span<const std::byte>> pieces, std::source_location where) override {
    const std::optional<How> how = std::exchange(next_, std::nullopt);
    if (!how) return inner_->write(pieces, where);
    Exception failure(Exception::Kind::OVERLOADED, "no buffer space", {}, where);
    if (how == How::THROWN) throw failure;
    if (how == How::AT_ONCE) return failure;
    return yield().then([failure]() -> void { failure.rethrow(); });
  }
  std::optional<Promise<std::uint64_t>> tryPumpFrom(AsyncInputStream& input, std::uint64_t amount, std::source_location where) override {
    return inner_->tryPumpFrom(input, amount, where);
  }
  void shutdownWrite(std::source_location where) override { inner_->shutdownWrite(where); }
  void abortWrite(std::source_location where) override { inner_->abortWrite(where); }
  void abortRead(std::source_location where) override { inner_->abortRead(where); }

private:
  std::unique_ptr<AsyncIoStream> inner_;
  std::optional<How>& next_;
};

TEST_CASE_FIXTURE(HttpTest, "after a write that has failed once nothing is sent that could be taken for the rest") {
  using How = FailingOnce::How;
  std::optional<How> next;
  const std::string large(20'000, 'x');
  for (const How how : {How::AT_ONCE, How::THROWN, How::LATER}) {
    for (const char* what : {"chunk", "large chunk", "length", "pump", "informational", "upgrade", "sent", "send", "continue"}) {
      CAPTURE(static_cast<int>(how));
      CAPTURE(what);
      const std::string_view kind = what;
      bool wasUpgraded = false, hasFailed = false;
      handler = [&](Request& request, Response& response) -> Promise<void> {
        AsyncOutputStream* out = nullptr;
        if (kind == "chunk" || kind == "large chunk") out = &response.start(200);
        if (kind == "length") out = &response.start(200, 8);
        if (kind == "pump") out = &response.start(200, 13);
        if (out != nullptr) co_await out->write("one.");
        next = how;
        try {
          if (kind == "large chunk") {
            co_await out->write(std::string_view(large));
          } else if (out != nullptr) {
            co_await out->write("two.");
          } else if (kind == "send") {
            co_await response.send(200, std::string_view(large));
          } else if (kind == "sent") {
            co_await response.send(200, "answer");
            co_await timer.afterDelay(1h); // which is not waited for
          } else if (kind == "continue") {
            co_await request.body().readAllText(9);
          } else {
            co_await response.sendInformational(103, HeaderMap());
          }
        } catch (const Exception&) {
          hasFailed = true;
        }
        try {
          if (kind == "pump") { // which the connection could do by itself
            OneWayPipe pipe = newOneWayPipe();
            Promise<void> more = pipe.output->write("three").eagerlyEvaluate(nullptr);
            co_await newShortInputStream(*pipe.input, 5)->pumpTo(*out, 5);
          } else if (out != nullptr) {
            co_await out->write("three");
          } else if (kind == "upgrade") {
            response.headers().set(HeaderId::UPGRADE, "x");
            auto stream = response.upgrade();
            wasUpgraded = true;
          } else if (kind == "informational" || kind == "continue") {
            co_await response.send(200, "after");
          }
        } catch (const Exception&) {
        }
      };
      TwoWayPipe pipe = newTwoWayPipe();
      server().serveConnection(std::make_unique<FailingOnce>(std::move(pipe.ends[0]), next));
      RawClient client(std::move(pipe.ends[1]));
      std::string head = "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n";
      if (kind == "continue") head += "Expect: 100-continue\r\nContent-Length: 2\r\n";
      client.send(head + "\r\n");
      pass(1s);
      CHECK(!next);
      client.send(GET);
      pass(1s);
      CHECK(hasFailed == (kind != "sent"));
      CHECK(!wasUpgraded);
      CHECK(!contains(client.received, "0\r\n\r\n"));
      CHECK(!contains(client.received, "three"));
      CHECK(!contains(client.received, "after"));
      CHECK(!contains(client.received, "answer"));
      CHECK(client.wasReset);
      CHECK(server().connections() == 0);
      errors.texts.clear();
    }
  }
}

TEST_CASE_FIXTURE(HttpTest, "after a write for which there was no memory nothing is sent that could be taken for the rest") {
  if (SANITIZED) return; // NoMemory has no effect
  const std::string more(7000, 'x'); // too much for the buffer, as it is
  bool hasFailed = false, isOver = false;
  for (const bool hasLength : {false, true}) {
    handler = [&](Request&, Response& response) -> Promise<void> {
      AsyncOutputStream& body = hasLength ? response.start(200, 7009) : response.start(200);
      co_await body.write("one.");
      try {
        const NoMemory none;
        (void)body.write(more);
      } catch (const std::bad_alloc&) {
        hasFailed = true;
      }
      try {
        co_await body.write("three");
      } catch (const Exception& e) {
        isOver = e.kind() == Exception::Kind::DISCONNECTED;
      }
    };
    auto client = connect();
    client->send(GET);
    settle();
    CHECK(std::exchange(hasFailed, false));
    CHECK(std::exchange(isOver, false));
    CHECK(client->received.ends_with("one." + std::string(hasLength ? "" : "\r\n")));
    CHECK(client->wasReset);
    CHECK((!hasLength || contains(errors.only(), "before the last 5 bytes")));
  }
}

TEST_CASE_FIXTURE(HttpTest, "without a grace for clients that have ended their direction a slow one ends all the same") {
  settings.halfCloseGrace = Duration::zero();
  const std::string large(10'000'000, 'x');
  handler = [&](Request&, Response& response) -> Promise<void> { return response.send(200, std::string_view(large)); };
  auto client = connect();
  client->stopReading();
  client->send(GET);
  client->shutdown();
  pass(1s);
  CHECK(server().connections() == 1);
  client->goOnReading();
  settle();
  CHECK(client->received.size() > large.size());
  CHECK(server().connections() == 0);
}

TEST_CASE_FIXTURE(HttpTest, "a client that pipelines without end does not keep others from their turn") {
  std::size_t served = 0, most = 0;
  const std::string text = "hello";
  handler = [&](Request&, Response& response) -> Promise<void> {
    ++served;
    return response.send(200, text);
  };
  std::string many;
  for (int i = 0; i < 20'000; ++i) many += GET;
  auto client = connect();
  client->send(many);
  std::size_t before = 0;
  const auto watch = [&]() -> Promise<void> {
    for (;;) {
      most = std::max(most, served - before);
      before = served;
      if (served == 20'000) co_return;
      co_await yield();
    }
  };
  watch().wait(scope);
  CHECK(most < 2000); // what comes with one read
  settle();
}

TEST_CASE_FIXTURE(HttpTest, "however a content comes, and is read, nothing is lost or comes twice, and the next request is found") {
  std::mt19937 random(7);
  const auto below = [&](std::size_t n) { return static_cast<std::size_t>(random() % n); };
  std::string got;
  bool ended = false;
  std::size_t steps = 0, refused = 0;
  settings.bodyBytes = 30'000;
  settings.skippedBytes = ~std::uint64_t(0);
  handler = [&](Request& request, Response& response) -> Promise<void> {
    if (request.path() == "/next") {
      co_await response.send(200, "next");
      co_return;
    }
    ended = co_await RandomReader::read(RandomReader(random, got), request.body(), steps);
    co_await response.send(200, "done");
  };
  for (int run = 0; run < 150; ++run) {
    CAPTURE(run);
    const std::string content =
        randomContent(random, below(3) == 0 ? below(20) : below(2) == 0 ? below(33'000) : 30'000 - 1 + below(3));
    const std::string bytes = "POST / HTTP/1.1\r\nHost: a\r\n" + framed(random, content, below(2) == 0) +
                              "GET /next HTTP/1.1\r\nHost: a\r\n\r\n";
    steps = below(4) == 0 ? below(10) : 1'000'000;
    got.clear();
    ended = false;
    auto client = connect();
    const std::size_t part = below(3) == 0 ? bytes.size() : 1 + below(below(2) == 0 ? 100 : 9000);
    for (std::size_t at = 0; at < bytes.size(); at += part) {
      client->send(std::string_view(bytes).substr(at, part));
      if (below(2) == 0) settle();
    }
    settle();
    const std::string reply = withoutDate(client->take());
    const bool isTooLarge = content.size() > settings.bodyBytes;
    CHECK(got == content.substr(0, got.size()));
    if (isTooLarge) {
      CHECK(!ended);
      CHECK(!contains(reply, "next"));
      CHECK((contains(reply, "413 ") || contains(reply, "done")));
      ++refused;
    } else {
      if (ended) CHECK(got.size() == content.size());
      if (steps > 1000) CHECK(ended);
      CHECK(reply == ok("done") + ok("next"));
    }
  }
  CHECK(refused > 5);
}

TEST_CASE_FIXTURE(HttpTest, "a server that is told to drain by what it calls ends, whoever tells it") {
  std::optional<Promise<std::size_t>> drained;
  const auto drain = [&](Duration grace) {
    if (!drained) drained = server().drain(grace);
  };
  struct AtEnd {
    std::function<void()> act;
    ~AtEnd() {
      if (act) act();
    }
  };
  for (const Duration grace : {Duration::zero(), Duration(1s), Duration::max()}) {
    for (const char* where : {"handler", "log", "frame", "cancelled", "late", "error", "write"}) {
      CAPTURE(where);
      CAPTURE(grace.count());
      const std::string_view kind = where;
      dropServer();
      drained.reset();
      settings.accessLog = kind == "log" ? std::function<void(const AccessRecord&)>([&](const AccessRecord&) { drain(grace); }) : nullptr;
      handler = [&, kind, grace](Request& request, Response& response) -> Promise<void> {
        if (request.path() != "/") {
          if (kind == "handler") drain(grace);
          return response.send(200, "at once");
        }
        return coCapture([&, kind, grace]() -> Promise<void> {
          AtEnd end;
          if (kind == "frame" || kind == "cancelled" || kind == "late") end.act = [&, grace] { drain(grace); };
          if (kind == "cancelled") co_await NEVER_DONE;
          if (kind == "late") co_await request.body().readAllText(9);
          if (kind == "error") throw Exception(Exception::Kind::FAILED, "error");
          if (kind == "write") co_await response.start(200).write("x");
          co_await yield();
          if (kind == "write") drain(grace);
          if (kind != "write") co_await response.send(200, "later");
        })();
      };
      auto idle = connect(), half = connect(), client = connect();
      settle();
      half->send("GE");
      const std::string now = "GET /now HTTP/1.1\r\nHost: a\r\n\r\n";
      client->send(now + (kind == "late" ? "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n" : GET) + now + now);
      settle();
      if (kind == "cancelled") client->reset();
      if (kind == "late") pass(16s);
      settle();
      if (kind == "error") {
        CHECK(errors.texts.size() == 1);
        drain(grace);
      }
      REQUIRE(drained);
      for (const Duration time : {1s, 20s, 2s}) pass(time); // and what is late, and what lingers then
      CHECK(server().connections() == 0);
      CHECK(drained->poll(scope));
      errors.texts.clear();
    }
  }
  settings.accessLog = nullptr;
}

TEST_CASE_FIXTURE(HttpTest, "handlers that are ready at once, in whatever way, are as good as those that wait") {
  handler = [&](Request& request, Response& response) -> Promise<void> {
    const std::string_view path = request.path();
    if (path == "/throws") throw HttpError(403, "no");
    if (path == "/rejects") return Exception(Exception::Kind::OVERLOADED, "busy");
    if (path == "/nothing") return READY_NOW;
    if (path == "/sent-throws") {
      (void)response.send(200, "sent");
      throw Exception(Exception::Kind::FAILED, "behind");
    }
    if (path == "/started") {
      (void)response.start(200);
      return READY_NOW;
    }
    if (path == "/started-rejects") {
      (void)response.start(200);
      return Exception(Exception::Kind::FAILED, "broken off");
    }
    if (path == "/short") {
      (void)response.start(200, 5);
      return READY_NOW;
    }
    return response.send(200, "ok");
  };
  const auto get = [](std::string_view path) { return "GET " + std::string(path) + " HTTP/1.1\r\nHost: a\r\n\r\n"; };
  std::string many, expected;
  const auto error = [](std::string_view text) {
    return "HTTP/1.1 " + std::string(text) + "\r\nContent-Type: text/plain\r\nContent-Length: " + std::to_string(text.size() + 1) + "\r\n\r\n" +
           std::string(text) + "\n";
  };
  for (int i = 0; i < 300; ++i) {
    many += get("/throws") + get("/rejects") + get("/nothing") + get("/sent-throws") + get("/started") + get("/");
    expected += error("403 Forbidden") + error("503 Service Unavailable") + error("500 Internal Server Error") + ok("sent") +
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + ok("ok");
  }
  CHECK(talk(many) == expected);
  CHECK(errors.texts.size() == 900);
  errors.texts.clear();
  for (const char* path : {"/started-rejects", "/short"}) {
    auto client = connect();
    client->send(get("/") + get(path) + get("/"));
    settle();
    CHECK(client->wasReset);
    CHECK(!contains(client->received, "0\r\n\r\n"));
    errors.only();
  }
}

TEST_CASE_FIXTURE(HttpTest, "a connection on which nothing is left to read is closed with its last response, without lingering") {
  handler = target;
  auto client = connect();
  client->send("GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
  settle();
  CHECK(contains(client->received, "/last"));
  CHECK(client->ended);
  CHECK(server().connections() == 0);
}

} // namespace
