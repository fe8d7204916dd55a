// SPDX-License-Identifier: MIT
// Calls of the client, with a server in memory, that are cancelled wherever they are, or find no memory (R6): what is
// left can be used.
#include "../../runtime/helpers.h"

#include <troth/net/http/client.h>
#include <troth/net/http/compress.h>
#include <troth/net/http/server.h>
#include <troth/net/testing.h>
#include <troth/runtime/join.h>
#include <troth/timers/manual_timer.h>

#include <optional>
#include <string>
#include <vector>

using namespace troth;
using namespace troth::http;
using namespace troth::test;
using namespace std::chrono_literals;

namespace {

struct Ignored final : TaskSet::ErrorHandler {
  void taskFailed(Exception) override {}
};

// A client and a server, which is the proxy, too.
struct World {
  World(WaitScope& waitScope, ClientSettings settings)
      : scope(waitScope),
        service(newService([this](Request& request, Response& response) { return answer(*this, request, response); })),
        server(*service, timer, errors) {
    network.addHost("a", {"10.0.0.1"});
    network.setLookupDelay(1ms).setLatency("10.0.0.1", 1ms);
    serving = server.serve(network.parseAddress("10.0.0.1:80").wait(scope)->listen()).catch_([](const Exception&) {}).eagerlyEvaluate(nullptr);
    settings.connectionsPerOrigin = settings.connections = 1;
    settings.defaults.retry.attempts = 2;
    settings.defaults.redirects = 1;
    settings.secure = [](std::unique_ptr<AsyncIoStream> plain, const Url&) { return evalLater([plain = std::move(plain)]() mutable { return std::move(plain); }); };
    client = std::make_unique<Client>(network, timer, std::move(settings));
  }

  static Promise<void> answer(World& world, Request& request, Response& response) {
    if (request.method() == Method::CONNECT) {
      world.server.serveConnection(response.upgrade(200));
      co_return;
    }
    const std::string_view path = request.path();
    if (path == "/echo") {
      co_await request.body().pumpTo(response.start(200));
      co_await response.end(request.trailers());
    } else if (path == "/moved") {
      response.headers().set(HeaderId::LOCATION, "/echo");
      co_await response.send(307);
    } else if (path == "/busy" && !std::exchange(world.wasBusy, true)) {
      response.headers().set(HeaderId::RETRY_AFTER, "2");
      co_await response.send(503, "later");
    } else if (path == "/chat") {
      response.headers().set(HeaderId::UPGRADE, "chat");
      const std::unique_ptr<AsyncIoStream> stream = response.upgrade();
      co_await stream->pumpTo(*stream);
    } else if (path == "/coded") {
      response.headers().set(HeaderId::CONTENT_TYPE, "text/plain");
      co_await sendCompressed(request, response, 200, std::string(5000, 'x'));
    } else {
      co_await response.sendInformational(103, HeaderMap());
      co_await world.timer.afterDelay(1ms);
      co_await response.send(200, "hello");
    }
  }

  // Goes on until `isDone()`, or until nothing more happens within an hour; returns the steps. A step is one event, or,
  // where there is none, a while.
  template <typename Done>
  std::size_t run(EventLoop& loop, std::size_t most, Done&& isDone) {
    std::size_t steps = 0;
    for (int idle = 0; steps < most && idle < 60 && !isDone(); ++steps) {
      if (loop.run(1) == 1) {
        idle = 0;
        continue;
      }
      ++idle;
      timer.advanceBy(idle < 10 ? Duration(1ms) : Duration(1min));
    }
    return steps;
  }

  WaitScope& scope;
  Ignored errors;
  ManualTimer timer;
  MemoryNetwork network{timer};
  bool wasBusy = false;
  std::unique_ptr<Service> service;
  Server server;
  Promise<void> serving = READY_NOW;
  std::unique_ptr<Client> client;
};

using Call = Promise<std::string> (*)(World&);

Promise<std::string> textOf(Promise<ClientResponse> promise) {
  ClientResponse response = co_await std::move(promise);
  std::string text = co_await response.readText(1 << 20);
  co_return std::to_string(response.status()) + " " + text;
}

Promise<std::string> get(World& world) { return textOf(world.client->get("http://a/")); }

// The connection is used again, by one that has waited for it.
Promise<std::string> getTwice(World& world) {
  Promise<std::string> first = get(world), second = get(world);
  const std::string text = co_await std::move(first);
  co_return text + " " + co_await std::move(second);
}

// It is kept, and reset when ten bytes of the next request have come, of which each has 46.
Promise<std::string> getOnStale(World& world) {
  world.network.resetAfter("10.0.0.1", MemoryNetwork::Direction::TO_SERVER, 56);
  const std::string text = co_await get(world);
  co_return text + " " + co_await get(world);
}

struct Drips final : AsyncInputStream {
  explicit Drips(Timer& t) : timer(t) {}
  Promise<std::size_t> tryRead(std::span<std::byte> buffer, std::size_t, std::source_location) override {
    return timer.afterDelay(1ms).then([this, buffer]() -> std::size_t {
      if (left == 0) return 0;
      buffer[0] = std::byte('a' + --left);
      return 1;
    });
  }
  Timer& timer;
  int left = 3;
};

Promise<std::string> putStream(World& world) {
  ClientRequest request(Method::PUT, "http://a/echo");
  request.options.emplace().expect = RequestOptions::Expect::CONTINUE;
  request.setBody(std::make_unique<Drips>(world.timer)).setTrailers([] { return HeaderMap({{"X-Sum", "3"}}); });
  ClientResponse response = co_await world.client->request(std::move(request));
  const std::string text = co_await response.readText(100);
  co_return text + std::string(response.trailers().get("x-sum").value_or("none"));
}

Promise<std::string> follow(World& world) { return textOf(world.client->put("http://a/moved", "text/plain", "moved")); }
Promise<std::string> retried(World& world) { return textOf(world.client->get("http://a/busy")); }

Promise<std::string> decoded(World& world) {
  ClientRequest request(Method::GET, "http://a/coded");
  request.options.emplace().decoding = RequestOptions::Decoding::DECODE;
  const std::string text = co_await textOf(world.client->request(std::move(request)));
  co_return text.substr(0, 4) + std::to_string(text.size());
}

Promise<std::string> upgraded(World& world) {
  ClientRequest request(Method::GET, "http://a/chat");
  request.headers.set(HeaderId::UPGRADE, "chat");
  Upgraded upgraded = co_await world.client->upgrade(std::move(request));
  if (upgraded.stream == nullptr) co_return "refused";
  Promise<void> write = upgraded.stream->write("hello");
  const Chunk chunk = co_await upgraded.stream->tryReadChunk();
  co_await std::move(write);
  co_return std::string(chunk.text());
}

Promise<std::string> byTunnel(World& world) { return textOf(world.client->get("https://a/")); }

struct Scenario {
  const char* name;
  Call call;
  std::string outcome;
  bool isByProxy = false;
};

std::vector<Scenario> scenarios() {
  return {{"get", get, "200 hello"},
          {"get twice", getTwice, "200 hello 200 hello"},
          {"get on a stale connection", getOnStale, "200 hello 200 hello"},
          {"put a stream", putStream, "cba3"},
          {"follow a redirect with a body", follow, "200 moved"},
          {"get once more", retried, "200 hello"},
          {"decode", decoded, "200 5004"},
          {"upgrade", upgraded, "hello"},
          {"get by a proxy", get, "200 hello", true},
          {"get by a tunnel", byTunnel, "200 hello", true}};
}

ClientSettings settingsOf(const Scenario& scenario) {
  ClientSettings settings;
  if (scenario.isByProxy) settings.proxy = Url::parse("http://10.0.0.1");
  return settings;
}

// Whether the client has its only connection, or the right to one, and what comes on it is an answer.
void requireSound(World& world, EventLoop& loop) {
  world.scope.poll();
  REQUIRE(world.client->connections() == world.client->idleConnections());
  REQUIRE(world.client->connections() <= 1);
  std::optional<std::string> text;
  Promise<void> next = get(world).then([&](std::string got) { text = std::move(got); }).eagerlyEvaluate(nullptr);
  world.run(loop, 1000, [&] { return text.has_value(); });
  REQUIRE(text == "200 hello");
  REQUIRE(world.client->idleConnections() == 1);
}

// Runs the scenario for `most` steps, cancels it, and looks at what is left; returns whether it had come to its end.
bool cancelAfter(const Scenario& scenario, std::size_t most) {
  CAPTURE(most);
  LoopTest test;
  World world(test.scope, settingsOf(scenario));
  std::optional<std::string> outcome;
  {
    Promise<void> call = scenario.call(world).then([&](std::string text) { outcome = std::move(text); }).eagerlyEvaluate(nullptr);
    world.run(test.loop, most, [&] { return outcome.has_value(); });
  }
  if (outcome) CHECK(*outcome == scenario.outcome);
  requireSound(world, test.loop);
  return outcome.has_value();
}

} // namespace

TEST_CASE("a call that is cancelled, wherever it is, leaves a client that can be used: no connection is lost, or taken "
          "in the middle of a message") {
  for (const Scenario& scenario : scenarios()) {
    CAPTURE(std::string(scenario.name));
    std::size_t most = 0;
    while (!cancelAfter(scenario, most)) REQUIRE(++most < 2000);
    CHECK(most > 10);
  }
}

TEST_CASE("when an allocation of a call, or of its server, fails, that is reported, nothing is lost and the loop goes on (R6)") {
  for (const Scenario& scenario : scenarios()) {
    CAPTURE(std::string(scenario.name));
    const std::size_t allocations = starveSweep([&](LoopTest& test) {
      World world(test.scope, settingsOf(scenario));
      std::optional<Result<std::string>> outcome;
      Promise<void> call = scenario.call(world).asResult().then([&](Result<std::string> result) { outcome.emplace(std::move(result)); }).eagerlyEvaluate(nullptr);
      world.run(test.loop, 10'000, [&] { return outcome.has_value(); });
      if (!outcome) throw Exception(Exception::Kind::FAILED, "it waits for ever");
      // A server that runs out of memory within a head puts its 503 behind the half of it. Nobody takes that for an answer.
      if (!*outcome && contains(outcome->error().description(), "503 Service Unavailable")) return;
      const std::string text = std::move(*outcome).value();
      // What the server has no memory for is answered with 500 or 503.
      if (text != scenario.outcome && !contains(text, "50")) throw Exception(Exception::Kind::FAILED, text);
    });
    CHECK((allocations > 10 || SANITIZED));
  }
}
