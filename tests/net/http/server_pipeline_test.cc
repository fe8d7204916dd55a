// SPDX-License-Identifier: MIT
// Requests that come together: what becomes of those before when one breaks off, upgrades, or leaves its content unread.
#include "server_fixture.h"

#include <troth/net/http/http_error.h>
#include <troth/net/network.h>

#include <optional>
#include <stdexcept>

using namespace troth;
using namespace troth::http;
using namespace troth::test;
using namespace std::chrono_literals;

namespace {

std::string get(std::string_view path) { return "GET " + std::string(path) + " HTTP/1.1\r\nHost: a\r\n\r\n"; }

const std::string UPGRADE = "GET /up HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: chat\r\n\r\n";
const std::string SWITCHED = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: chat\r\nConnection: Upgrade\r\n\r\n";

std::string ok(std::string_view body) {
  return "HTTP/1.1 200 OK\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + std::string(body);
}

// Asks a.host for two replies and a third thing, which begins while the client does not read.
class PipelineTest : public HttpTest {
public:
  std::function<Promise<void>(Request&, Response&)> third;
  const std::string large = std::string(100'000, 'x');

  PipelineTest() {
    handler = [this](Request& request, Response& response) -> Promise<void> {
      if (request.path() == "/first") return response.send(200, "one");
      if (request.path() == "/second") return response.send(200, "two");
      return third(request, response);
    };
  }
  std::unique_ptr<RawClient> ask(std::string_view request) {
    auto client = connect();
    client->stopReading();
    client->send(get("/first") + get("/second") + std::string(request));
    settle();
    return client;
  }
  // What the client gets when it reads after all.
  std::string read(RawClient& client) {
    client.goOnReading();
    settle();
    return withoutDate(client.take());
  }
};

TEST_CASE_FIXTURE(PipelineTest, "a connection is upgraded behind replies that are still on their way, and so is what is written then") {
  std::unique_ptr<AsyncIoStream> stream;
  third = [&](Request&, Response& response) -> Promise<void> {
    co_await timer.afterDelay(1s); // in which the connection begins to send the replies
    response.headers().set(HeaderId::UPGRADE, "chat");
    stream = response.upgrade();
  };
  auto client = ask(UPGRADE + "early");
  pass(1s);
  REQUIRE(stream != nullptr);
  CHECK(server().connections() == 0);
  SUBCASE("it is used") {
    Promise<void> written = stream->write("chat").eagerlyEvaluate(nullptr);
    // The next connection gets the memory of the first, but for what is still in use.
    for (int i = 0; i < 2; ++i) CHECK(talk(get("/first")) == ok("one"));
    pass(1h); // no time of the server's counts any more
    CHECK(!written.poll(scope));
    CHECK(stream->tryReadChunk().wait(scope).text() == "early");
    CHECK(read(*client) == ok("one") + ok("two") + SWITCHED + "chat");
    CHECK(written.poll(scope));
    stream->shutdownWrite();
    settle();
    CHECK(client->ended);
  }
  SUBCASE("its client goes") {
    client->close();
    CHECK(failureOf(stream->write("chat"), scope).kind() == Exception::Kind::DISCONNECTED);
  }
  SUBCASE("it is dropped with a write that waits") {
    Promise<void> written = stream->write("chat");
    stream.reset();
    CHECK(failureOf(std::move(written), scope).kind() == Exception::Kind::DISCONNECTED);
    settle();
    CHECK(read(*client).empty()); // the stream is all that there is of the connection
    CHECK(client->wasReset);
  }
  SUBCASE("it is dropped when the replies have gone, with a read and its end still to come") {
    stream->shutdownWrite();
    std::byte buffer[5];
    Promise<std::size_t> got = stream->tryRead(buffer, 5);
    client->goOnReading();
    for (int turns = 0; turns < 3; ++turns) loop.run(1);
    stream.reset();
    settle();
    CHECK(std::move(got).wait(scope) == 5);
  }
}

TEST_CASE_FIXTURE(PipelineTest, "an upgrade is refused while an informational response before it is on its way") {
  std::string refusal;
  bool wasUpgraded = false;
  third = [&](Request&, Response& response) -> Promise<void> {
    co_await timer.afterDelay(1s);
    response.headers().set(HeaderId::UPGRADE, "chat");
    {
      Promise<void> informing = response.sendInformational(103);
      refusal = thrownBy([&] { (void)response.upgrade(); }).description();
      co_await std::move(informing);
    }
    co_await response.upgrade()->write("chat");
    wasUpgraded = true;
  };
  auto client = ask(UPGRADE);
  pass(1s);
  CHECK(contains(refusal, "an informational response is still on its way"));
  CHECK(read(*client) == ok("one") + ok("two") + "HTTP/1.1 103 Early Hints\r\n\r\n" + SWITCHED + "chat");
  CHECK(wasUpgraded);
}

TEST_CASE_FIXTURE(PipelineTest, "a response that breaks off takes no reply before it along, and is reset when those were read") {
  const std::string post = "POST /third HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n";
  std::optional<Promise<void>> kept;
  const auto keep = [&](Promise<void> promise) { kept = std::move(promise).eagerlyEvaluate([](Exception) {}); };
  const auto giveUp = [this](Promise<void> promise) -> Promise<void> {
    const Promise<void> dropped = std::move(promise);
    co_await timer.afterDelay(1s);
  };
  struct Way {
    const char* name;
    std::function<Promise<void>(Request&, Response&)> handler;
    std::string request = get("/third") + get("/first");
    bool isCutShort = true;
  } ways[] = {
      {"failed before anything was written",
       [](Request&, Response& response) -> Promise<void> {
         response.start(200);
         throw std::runtime_error("late");
       }},
      {"failed behind what was written",
       [](Request&, Response& response) -> Promise<void> {
         co_await response.start(200).write("part");
         throw std::runtime_error("late");
       }},
      {"failed, having waited before",
       [&](Request&, Response& response) -> Promise<void> {
         co_await timer.afterDelay(1s);
         response.start(200, 10);
         throw std::runtime_error("late");
       }},
      {"too short",
       [&](Request&, Response& response) -> Promise<void> {
         response.start(200, 10);
         return READY_NOW;
       }},
      {"a small write given up",
       [&](Request&, Response& response) { return giveUp(response.start(200).write("part")); }},
      {"a small write given up that was begun later",
       [&](Request&, Response& response) -> Promise<void> {
         co_await timer.afterDelay(100ms);
         co_await giveUp(response.start(200).write("part"));
       }},
      {"a large write given up",
       [&](Request&, Response& response) { return giveUp(response.start(200, 200'000).write(large)); }},
      {"a write in pieces given up",
       [&](Request&, Response& response) {
         const std::span<const std::byte> pieces[] = {asBytes(large), asBytes("end")};
         return giveUp(response.start(200).write(pieces));
       }},
      {"a large response given up",
       [&](Request&, Response& response) { return giveUp(response.send(200, std::string_view(large))); }},
      {"a large response kept elsewhere",
       [&](Request&, Response& response) -> Promise<void> {
         keep(response.send(200, std::string_view(large)));
         return READY_NOW;
       }},
      {"a write kept elsewhere",
       [&](Request&, Response& response) -> Promise<void> {
         keep(response.start(200).write("part"));
         return READY_NOW;
       }},
      {"an informational response given up",
       [&](Request&, Response& response) -> Promise<void> {
         co_await giveUp(response.sendInformational(103)); // before it was begun, so it goes all the same
         co_await response.send(200, "three");
       },
       "GET /third HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", false},
      {"a read given up that had told its client to go on",
       [&](Request& request, Response& response) -> Promise<void> {
         co_await giveUp(request.body().tryReadChunk().ignoreResult());
         co_await response.send(200, "three");
       },
       post + "Expect: 100-continue\r\n\r\n", false},
      {"aborted",
       [&](Request&, Response& response) -> Promise<void> {
         co_await timer.afterDelay(1s);
         AsyncOutputStream& body = response.start(200);
         body.abortWrite();
         CHECK(thrownBy([&] { (void)body.write("x"); }).kind() == Exception::Kind::DISCONNECTED);
       }},
      {"its content too late",
       [&](Request& request, Response& response) -> Promise<void> {
         keep(response.start(200).write("part"));
         co_await request.body().readAllText(5);
       },
       post + "\r\n"},
      {"large, its content too late",
       [&](Request& request, Response& response) -> Promise<void> {
         Promise<void> sent = response.send(200, std::string_view(large));
         co_await request.body().readAllText(5);
       },
       post + "\r\n"},
      {"complete, its content too late",
       [&](Request& request, Response& response) -> Promise<void> {
         co_await response.send(200, "three");
         co_await request.body().readAllText(5);
       },
       post + "\r\n", false},
  };
  settings.bodyTimeout = 500ms;
  enum class End { READ, WRITE_TIME, DRAINED, LEAVES };
  for (const Way& way : ways) {
    CAPTURE(std::string(way.name));
    for (const End end : {End::READ, End::WRITE_TIME, End::DRAINED, End::LEAVES}) {
      CAPTURE(static_cast<int>(end));
      third = way.handler;
      auto client = ask(way.request);
      pass(1s);
      pass(1s);
      CHECK(server().connections() == 1);
      if (end == End::READ) {
        const std::string replies = ok("one") + ok("two"), reply = read(*client), last = reply.substr(replies.size());
        CHECK(reply.starts_with(replies));
        CHECK(client->wasReset == way.isCutShort);
        CHECK(last.ends_with("three") != way.isCutShort);
        CHECK(!contains(last, "one")); // nothing follows
        CHECK(!contains(last, "0\r\n\r\n"));
        if (!way.isCutShort) pass(500ms); // for the content
      } else if (end == End::LEAVES) {
        client->close();
        settle();
      } else {
        std::optional<Promise<std::size_t>> drained;
        if (end == End::DRAINED) drained = server().drain(1s).eagerlyEvaluate(nullptr);
        pass(end == End::DRAINED ? 1s : 30s);
        CHECK(read(*client).empty());
        CHECK(client->wasReset);
        if (drained) CHECK(std::move(*drained).wait(scope) == 1);
      }
      CHECK(server().connections() == 0);
      CHECK(server().requests() == 0);
      dropServer();
      settle();
      errors.texts.clear();
    }
  }
}

TEST_CASE_FIXTURE(HttpTest, "a reply that waits behind one that is not read is out of the next handler's reach") {
  std::size_t begun = 0;
  handler = [&](Request& request, Response& response) -> Promise<void> {
    ++begun;
    if (request.path() == "/later") co_await timer.afterDelay(1s); // in which the reply before is on its way
    if (request.path() != "/third") {
      co_await response.send(200, request.path().substr(1));
      co_return;
    }
    AsyncOutputStream& body = response.start(200);
    {
      Promise<void> dropped = body.write("part");
      co_await timer.afterDelay(1s);
    }
    throw std::runtime_error("late");
  };
  auto client = connect();
  client->stopReading();
  client->send(get("/first") + get("/later") + get("/third"));
  pass(1s);
  pass(1s);
  CHECK(begun == 2); // who does not read has no more replies made
  client->goOnReading();
  pass(1s);
  CHECK(withoutDate(client->take()).starts_with(ok("first") + ok("later")));
  CHECK(client->wasReset);
  CHECK(contains(errors.only(), "late"));
}

TEST_CASE_FIXTURE(HttpTest, "of replies that wait to be sent there are no more than 64 KiB") {
  const std::string body(8000, 'x');
  std::size_t begun = 0;
  handler = [&](Request&, Response& response) {
    ++begun;
    return response.send(200, body);
  };
  auto client = connect();
  client->stopReading();
  std::string requests;
  for (int i = 0; i < 100; ++i) requests += get("/");
  client->send(requests);
  pass(1s);
  CHECK(begun == 9);
  client->goOnReading();
  settle();
  CHECK(begun == 100);
  CHECK(withoutDate(client->take()).size() == 100 * ok(body).size());
}

TEST_CASE("a server may be destroyed at every step of what it does for requests that came together") {
  for (const bool upgrades : {false, true}) {
    CHECK(cancelSweep([upgrades](LoopTest&) -> Promise<void> {
            struct World {
              explicit World(bool u) : upgrades(u) {}
              bool upgrades;
              ManualTimer timer{TimePoint(std::chrono::hours(1))};
              ErrorLog errors;
              std::unique_ptr<AsyncIoStream> stream;
              std::unique_ptr<Service> service = newService([this](Request& request, Response& response) -> Promise<void> {
                if (request.path() == "/first") {
                  co_await response.send(200, "one");
                  co_return;
                }
                co_await yield();
                if (upgrades) {
                  response.headers().set(HeaderId::UPGRADE, "chat");
                  stream = response.upgrade();
                  co_await stream->write("chat");
                } else {
                  AsyncOutputStream& body = response.start(200, 10);
                  { Promise<void> dropped = body.write("part"); }
                }
              });
              Server server{*service, timer, errors};
            };
            auto world = std::make_unique<World>(upgrades);
            TwoWayPipe pipe = newTwoWayPipe();
            world->server.serveConnection(std::move(pipe.ends[0]));
            const std::string requests = get("/first") + UPGRADE;
            co_await pipe.ends[1]->write(requests);
            for (int i = 0; i < 4; ++i) co_await yield();
            std::string got;
            try {
              while (!contains(got, "chat")) {
                const Chunk chunk = co_await pipe.ends[1]->tryReadChunk(20);
                REQUIRE(!chunk.empty());
                got += chunk.text();
              }
            } catch (const Exception&) {
              CHECK(!upgrades);
            }
            CHECK(withoutDate(got).starts_with(ok("one")));
          }) > 8);
  }
}

TEST_CASE_FIXTURE(HttpTest, "what is sent goes on when what was sent before has been read, while its handler goes on") {
  handler = [&](Request& request, Response& response) -> Promise<void> {
    if (request.path() == "/slow") co_await timer.afterDelay(1s);
    co_await response.send(200, request.path() == "/slow" ? "hello" : "one");
    if (request.path() == "/slow") co_await timer.afterDelay(1h);
  };
  auto client = connect();
  client->stopReading();
  client->send(get("/first") + get("/slow"));
  pass(1s);
  client->goOnReading();
  settle();
  CHECK(withoutDate(client->take()) == ok("one") + ok("hello"));
  CHECK(server().requests() == 1);
  dropServer();
}

TEST_CASE_FIXTURE(HttpTest, "a read that outlives its handler is told so, and the connection goes on behind the content") {
  std::optional<Promise<std::size_t>> kept;
  std::byte buffer[64];
  int status = 200;
  bool isTaken = true;
  handler = [&](Request& request, Response& response) -> Promise<void> {
    if (request.path() == "/next") return response.send(200, "next");
    kept = request.body().tryRead(buffer, 5);
    if (isTaken) kept = std::move(*kept).eagerlyEvaluate(nullptr);
    if (status == 404) throw HttpError(404, "no such thing");
    if (status == 200) return response.send(200, "hello");
    return NEVER_DONE;
  };
  const auto told = [&] {
    REQUIRE(kept);
    const Exception e = failureOf(std::move(*kept), scope);
    kept.reset();
    CHECK(e.kind() == Exception::Kind::DISCONNECTED);
    CHECK(contains(std::string(e.where().file_name()), "server_pipeline_test.cc"));
    return std::string(e.description());
  };
  const std::string post = "POST / HTTP/1.1\r\nHost: a\r\n", length = post + "Content-Length: 10\r\n",
                    chunked = post + "Transfer-Encoding: chunked\r\n";
  const std::string ENDED = "HTTP: the request's handler has ended, before this read of its content was done";
  for (isTaken = true;; isTaken = false) {
    CAPTURE(isTaken);
    struct Case {
      std::string first, then;
      bool isReady = false; // before the handler ends
    } cases[] = {{length + "\r\n", "1234567890"},
                 {length + "\r\n123", "4567890"},
                 {chunked + "\r\n3\r\nabc\r\n", "4\r\ndefg\r\n0\r\n\r\n"},
                 {chunked + "\r\n6\r\nabc", "def\r\n0\r\n\r\n"},
                 {length + "Expect: 100-continue\r\n\r\n", "1234567890"},
                 {length + "\r\n123456", "7890", true},
                 {length + "\r\n1234567890", "", true},
                 {chunked + "\r\n6\r\nabcdef\r\n", "0\r\n\r\n", true}};
    for (const Case& each : cases) {
      CAPTURE(each.first);
      auto client = connect();
      client->send(each.first);
      settle();
      if (!(each.isReady && isTaken)) CHECK(told() == ENDED);
      client->send(each.then + get("/next"));
      settle();
      const std::string reply = withoutDate(client->take());
      CHECK(reply.ends_with(ok("hello") + ok("next")));
      CHECK(!client->ended);
      kept.reset();
    }
    if (!isTaken) break;
  }
  // Content that comes in the turn in which the handler ends belongs to the connection as well.
  auto client = connect();
  client->send(length + "\r\n" + "1234567890" + get("/next"));
  settle();
  CHECK(withoutDate(client->take()) == ok("hello") + ok("next"));
  kept.reset();

  status = 404; // which closes the connection, and lets the client read why
  client = connect();
  client->send(length + "\r\n123");
  settle();
  CHECK(contains(client->take(), "404 Not Found\n"));
  CHECK(client->ended);
  CHECK(told() == ENDED);
  client->send("4567890" + get("/next"));
  settle();
  CHECK(!client->writeFailed); // it is read, and thrown away
  pass(2s);
  CHECK(server().connections() == 0);

  status = 0; // the handler does not end, and its content does not come
  client = connect();
  client->send(length + "\r\n123");
  pass(15s);
  CHECK(contains(client->take(), "408 Request Timeout\n"));
  CHECK(told() == "HTTP: the request's content has not come in time");
  pass(2s);
  CHECK(server().connections() == 0);
}

TEST_CASE_FIXTURE(HttpTest, "a pump that outlives its handler fails, and has no part in another request") {
  OneWayPipe pipe = newOneWayPipe();
  std::optional<Promise<std::uint64_t>> kept;
  bool isFirst = true, isPumpedIn = false, isOther = false, isCancelled = false;
  SUBCASE("into a response") {}
  SUBCASE("into a response, and the next is another client's") { isOther = true; }
  SUBCASE("into a response whose handler was cancelled, and the next is another client's") { isOther = isCancelled = true; }
  SUBCASE("from content") { isPumpedIn = true; }
  SUBCASE("from content, and the next is another client's") { isPumpedIn = isOther = true; }
  // By a buffer, so that it waits for its other side without using the connection.
  handler = [&](Request& request, Response& response) -> Promise<void> {
    if (std::exchange(isFirst, false)) {
      kept = isPumpedIn ? pumpByBuffer(request.body(), *pipe.output, ALL_BYTES, std::source_location::current())
                        : pumpByBuffer(*pipe.input, response.start(200), ALL_BYTES, std::source_location::current());
      kept = std::move(*kept).eagerlyEvaluate(nullptr);
      co_await yield();
      if (isCancelled) co_await NEVER_DONE;
      if (isPumpedIn) co_await response.send(200, "one");
      co_return;
    }
    AsyncOutputStream& body = response.start(200);
    co_await timer.afterDelay(1s); // in which the pump of the first could go on
    co_await body.write(co_await request.body().readAllText(100));
  };
  const std::string head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", end = "0\r\n\r\n";
  const std::string first = head + "5\r\nfirst\r\n" + end, second = head + "6\r\nsecond\r\n";
  auto client = connect();
  client->send(isOther ? first : first + second);
  settle();
  if (isOther) {
    client->reset();
    settle();
    client = connect();
    client->send(second);
    settle();
  }
  std::string pumped(100, ' ');
  Promise<std::size_t> other = isPumpedIn ? pipe.input->tryRead(std::as_writable_bytes(std::span(pumped)), 6)
                                          : pipe.output->write("first").then([] { return std::size_t(0); });
  settle();
  REQUIRE(kept);
  CHECK(failureOf(std::move(*kept), scope).kind() == Exception::Kind::DISCONNECTED);
  client->send(end);
  pass(1s);
  const std::string reply = withoutDate(client->take());
  CHECK(reply.ends_with("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nsecond\r\n" + end));
  if (!isPumpedIn) CHECK(!contains(reply, "first"));
  if (isPumpedIn) CHECK(!other.poll(scope)); // there was no more than "first"
}

// Over a socket what was written waits in the system, which a reset would throw away.
TEST_CASE_FIXTURE(IoTest, "a response that breaks off is reset when the system has delivered what was before it") {
  enum class Client { READS, HALF_CLOSES, IS_DEAF, RESETS } kind = Client::READS;
  enum class Third { FAILS, GIVES_UP, ABORTS, HANGS, KEEPS } way = Third::FAILS;
  SUBCASE("and the client reads") {}
  SUBCASE("though a write was given up some time before") { way = Third::GIVES_UP; }
  SUBCASE("though it was aborted some time before") { way = Third::ABORTS; }
  SUBCASE("or the handler is cancelled because the client has ended its direction") {
    kind = Client::HALF_CLOSES;
    way = Third::HANGS;
  }
  SUBCASE("and a write that the handler has left behind fails at once") { way = Third::KEEPS; }
  SUBCASE("or the time for a write is up") { kind = Client::IS_DEAF; }
  SUBCASE("or the client resets the connection") { kind = Client::RESETS; }
  std::optional<Promise<void>> kept;
  const std::string larger(9'000'000, 'x'), large(300'000, 'x'); // which the system takes, and the client's side of it not at once
  auto late = newPromiseAndFulfiller<void>();
  auto service = newService([&](Request& request, Response& response) -> Promise<void> {
    if (request.path() == "/first") {
      co_await response.send(200, std::string_view(large));
      co_return;
    }
    AsyncOutputStream& body = response.start(200);
    if (way == Third::ABORTS) {
      body.abortWrite();
    } else if (way == Third::GIVES_UP) {
      Promise<void> dropped = body.write(larger);
    } else if (way == Third::KEEPS) {
      kept = body.write(larger).eagerlyEvaluate(nullptr);
    } else {
      co_await body.write("part");
    }
    struct Told {
      PromiseFulfiller<void>& fulfiller;
      ~Told() { fulfiller.fulfill(); }
    } told{*late.fulfiller};
    if (way == Third::HANGS) co_await NEVER_DONE;
    if (way == Third::GIVES_UP || way == Third::ABORTS) co_await io.timer().afterDelay(20ms);
    throw std::runtime_error("late");
  });
  ErrorLog errors;
  ServerSettings settings;
  settings.halfCloseGrace = 20ms;
  if (kind == Client::IS_DEAF) settings.writeTimeout = 100ms;
  Server server(*service, io.timer(), errors, settings);
  const auto network = newNetwork(io);
  auto port = network->parseAddress("127.0.0.1:0").wait(scope)->listen();
  const auto address = network->parseAddress(port->toString()).wait(scope);
  Promise<void> serving = server.serve(std::move(port)).eagerlyEvaluate(nullptr);
  auto client = address->connect().wait(scope);
  client->write(get("/first") + get("/second")).wait(scope);
  if (kind == Client::HALF_CLOSES) client->shutdownWrite();
  std::move(late.promise).wait(scope); // and the client has read nothing
  if (kind == Client::RESETS) {
    yieldUntilWouldSleep().wait(scope);
    CHECK(server.connections() == 1);
    client->abortWrite();
    client.reset();
  }
  if (kept) CHECK(failureOf(std::move(*kept), scope).kind() == Exception::Kind::DISCONNECTED);
  if (client == nullptr || kind == Client::IS_DEAF) { // nor will it
    CHECK(server.drain(10s).wait(scope) == 0);
    return;
  }
  std::string received;
  const Exception e = failureOf(evalNow([&]() -> Promise<void> {
                                  for (Chunk chunk; !(chunk = co_await client->tryReadChunk()).empty();)
                                    received += chunk.text();
                                }),
                                scope);
  CHECK(e.kind() == Exception::Kind::DISCONNECTED);
  CHECK(withoutDate(received).starts_with(ok(large)));
  CHECK(server.drain(10s).wait(scope) == 0);
}

} // namespace
