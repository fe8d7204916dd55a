// SPDX-License-Identifier: MIT
// Tests of examples/redis: against a server that says what the test wants, and (those named "real") against Redis at
// TROTH_REDIS.
#include "redis_client.h"

#include "fixtures.h"

#include <troth/io/async_io.h>
#include <troth/net/network.h>
#include <troth/timers/timer.h>

#include <dlfcn.h>
#include <sys/epoll.h>

#include <cstdlib>

using namespace troth;
using namespace troth::test;
using namespace std::chrono_literals;
using namespace std::string_view_literals;

namespace {
int watchChanges = 0; // how often the system was told what to watch
}

// libuv's calls come here first.
extern "C" int epoll_ctl(int epoll, int operation, int descriptor, epoll_event* event) noexcept {
  static const auto real = reinterpret_cast<int (*)(int, int, int, epoll_event*)>(dlsym(RTLD_NEXT, "epoll_ctl"));
  ++watchChanges;
  return real(epoll, operation, descriptor, event);
}

namespace {

using ClientPtr = std::unique_ptr<RedisClient>;
using Kind = RedisReply::Kind;

/// A server on the test's loop, of which the test is the brain.
class Server {
public:
  explicit Server(IoTest& test)
      : receiver_(newNetwork(test.io)->parseAddress("127.0.0.1:0").wait(test.scope)->listen()),
        address_(SocketAddress::parse(receiver_->toString())) {}

  const SocketAddress& address() const { return address_; }
  Promise<void> accept() {
    return receiver_->accept().then([this](std::unique_ptr<AsyncIoStream> stream) { client = std::move(stream); });
  }
  /// Nobody listens there any more.
  void leave() { receiver_.reset(); }

  std::unique_ptr<AsyncIoStream> client;

private:
  std::unique_ptr<ConnectionReceiver> receiver_;
  SocketAddress address_;
};

/// A client of it that is connected.
ClientPtr connectTo(IoTest& test, Server& server) {
  ClientPtr client = RedisClient::connect(test.io, server.address()).wait(test.scope);
  server.accept().wait(test.scope);
  return client;
}

/// Reads what a client sent, as far as `text`, which it must be.
void expectSent(IoTest& test, Server& server, std::string_view text) {
  std::string got(text.size(), '\0');
  server.client->read(std::as_writable_bytes(std::span(got))).wait(test.scope);
  CHECK(got == text);
}

void answer(IoTest& test, Server& server, std::string_view text) { server.client->write(text).wait(test.scope); }

constexpr std::string_view PING = "*1\r\n$4\r\nPING\r\n";

SocketAddress realServer() { return SocketAddress::parse(std::getenv("TROTH_REDIS")); }

} // namespace

TEST_CASE_FIXTURE(IoTest, "a connection that is refused fails, and says where") {
  Server server(*this);
  server.leave();
  const Exception e = failureOf(RedisClient::connect(io, server.address()), scope);
  CHECK((e.kind() == Exception::Kind::DISCONNECTED));
  CHECK(contains(e.description(), "Connection refused"));
  CHECK(contains(e.description(), server.address().toString()));
  CHECK(contains(failureOf(RedisClient::connect(io, SocketAddress::unixPath("/none")), scope).description(), "No such file"));
}

TEST_CASE_FIXTURE(IoTest, "answers of all kinds become values, whatever pieces they come in") {
  Server server(*this);
  const ClientPtr client = connectTo(*this, server);
  Promise<RedisReply> reply = client->command("SET", "a\0b"sv, "");
  REQUIRE(!reply.poll(scope));
  expectSent(*this, server, "*3\r\n$3\r\nSET\r\n$3\r\na\0b\r\n$0\r\n\r\n"sv);
  for (const char byte : "*6\r\n:-7\r\n$3\r\nx\0y\r\n+OK\r\n-ERR no\r\n$-1\r\n*1\r\n*0\r\n"sv) {
    CHECK(!reply.poll(scope));
    answer(*this, server, {&byte, 1});
  }
  const RedisReply all = std::move(reply).wait(scope);
  REQUIRE((all.kind == Kind::ARRAY && all.elements.size() == 6));
  CHECK((all.elements[0].kind == Kind::INTEGER && all.elements[0].integer == -7));
  CHECK((all.elements[1].kind == Kind::TEXT && all.elements[1].text == "x\0y"sv));
  CHECK((all.elements[2].kind == Kind::STATUS && all.elements[2].text == "OK"));
  CHECK((all.elements[3].kind == Kind::ERROR && all.elements[3].text == "ERR no"));
  CHECK((all.elements[4].kind == Kind::NIL));
  CHECK((all.elements[5].kind == Kind::ARRAY && all.elements[5].elements.size() == 1));
  CHECK((all.elements[5].elements[0].kind == Kind::ARRAY && all.elements[5].elements[0].elements.empty()));
}

TEST_CASE_FIXTURE(IoTest, "commands are sent together and answered in order; an error is a failure of its command alone") {
  Server server(*this);
  const ClientPtr client = connectTo(*this, server);
  Promise<RedisReply> one = client->command("PING");
  Promise<RedisReply> two = client->command("PING");
  Promise<RedisReply> three = client->command("PING");
  scope.poll();
  expectSent(*this, server, std::string(PING) + std::string(PING) + std::string(PING));
  answer(*this, server, ":1\r\n-ERR not you\r\n:3\r\n");
  CHECK(std::move(one).wait(scope).integer == 1);
  const Exception e = failureOf(std::move(two), scope);
  CHECK((e.kind() == Exception::Kind::FAILED));
  CHECK(e.description() == "redis: ERR not you");
  CHECK(std::move(three).wait(scope).integer == 3);
}

TEST_CASE_FIXTURE(IoTest, "a command that nobody waits for any more does no harm when its answer comes") {
  Server server(*this);
  const ClientPtr client = connectTo(*this, server);
  {
    const Promise<RedisReply> unsent = client->command("PING");
    Promise<RedisReply> sent = client->command("PING");
    CHECK(!sent.poll(scope));
  }
  Promise<RedisReply> kept = client->command("PING");
  REQUIRE(!kept.poll(scope));
  expectSent(*this, server, std::string(PING) + std::string(PING) + std::string(PING));
  answer(*this, server, ":1\r\n-ERR 2\r\n:3\r\n");
  CHECK(std::move(kept).wait(scope).integer == 3);
  Promise<RedisReply> late = client->command("PING");
  Promise<RedisReply> limited = io.timer().timeoutAfter(1ms, std::move(late));
  CHECK((failureOf(std::move(limited), scope).kind() == Exception::Kind::OVERLOADED));
  answer(*this, server, ":4\r\n");
  scope.poll();
  CHECK(client->isConnected());
}

TEST_CASE_FIXTURE(IoTest, "a server that goes away fails what is pending and what comes later, after what it had answered") {
  for (const bool garbage : {false, true}) {
    CAPTURE(garbage);
    Server server(*this);
    const ClientPtr client = connectTo(*this, server);
    Promise<RedisReply> answered = client->command("PING");
    Promise<RedisReply> pending = client->command("PING");
    const Promise<RedisReply> neverRun = client->command("PING");
    scope.poll();
    expectSent(*this, server, std::string(PING) + std::string(PING) + std::string(PING));
    answer(*this, server, garbage ? ":1\r\n!what?\r\n" : ":1\r\n");
    if (!garbage) server.client.reset();
    CHECK(std::move(answered).wait(scope).integer == 1);
    const char* const reason = garbage ? "Protocol error" : "Server closed the connection";
    Promise<RedisReply> failing[] = {std::move(pending), client->command("PING")};
    for (Promise<RedisReply>& one : failing) {
      const Exception e = failureOf(std::move(one), scope);
      CHECK((e.kind() == Exception::Kind::DISCONNECTED));
      CHECK(contains(e.description(), reason));
    }
    CHECK(!client->isConnected());
  }
}

TEST_CASE_FIXTURE(IoTest, "a server that goes away is noticed by a client that has nothing to do") {
  Server server(*this);
  const ClientPtr client = connectTo(*this, server);
  scope.poll();
  CHECK(client->isConnected());
  server.client.reset();
  scope.poll();
  CHECK(!client->isConnected());
  CHECK(contains(failureOf(client->command("PING"), scope).description(), "Server closed the connection"));
}

TEST_CASE_FIXTURE(IoTest, "a server that says what nobody has asked for is given up, at whatever moment it comes") {
  const auto lost = [&](Promise<RedisReply> reply, std::string_view why) {
    const Exception e = failureOf(std::move(reply), scope);
    CHECK((e.kind() == Exception::Kind::DISCONNECTED));
    CHECK_MESSAGE(contains(e.description(), why), e.what());
  };
  const std::string_view unasked = "nobody has asked for";
  Server server(*this);
  ClientPtr client = connectTo(*this, server);
  Promise<RedisReply> reply = client->command("PING");
  SUBCASE("together with an answer") { answer(*this, server, ":1\r\n:2\r\n"); }
  SUBCASE("in part") { answer(*this, server, ":1\r\n+"); }
  SUBCASE("after an answer that nobody waits for any more") {
    Promise<RedisReply> dropped = client->command("PING");
    scope.poll();
    { const Promise<RedisReply> gone = std::move(dropped); }
    answer(*this, server, ":1\r\n:2\r\n:3\r\n");
  }
  SUBCASE("later") {
    answer(*this, server, ":1\r\n");
    CHECK(std::move(reply).wait(scope).integer == 1);
    answer(*this, server, ":2\r\n");
    while (client->isConnected()) step();
    reply = client->command("PING");
    lost(std::move(reply), unasked);
    return;
  }
  SUBCASE("an error says why it closes") {
    answer(*this, server, ":1\r\n-ERR go away\r\n");
    CHECK(std::move(reply).wait(scope).integer == 1);
    while (client->isConnected()) step();
    lost(client->command("PING"), "ERR go away");
    return;
  }
  CHECK(std::move(reply).wait(scope).integer == 1); // what was asked for counts
  CHECK(!client->isConnected());
  lost(client->command("PING"), unasked);
}

TEST_CASE_FIXTURE(IoTest, "a command larger than the socket's buffers is sent as the server reads it") {
  Server server(*this);
  const ClientPtr client = connectTo(*this, server);
  const std::string value(16 << 20, 'x');
  Promise<RedisReply> reply = client->command("SET", "key", value);
  CHECK(!reply.poll(scope));
  const std::string beginning = "*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$16777216\r\n";
  expectSent(*this, server, beginning + value + "\r\n");
  answer(*this, server, "+OK\r\n");
  CHECK(std::move(reply).wait(scope).text == "OK");
}

TEST_CASE_FIXTURE(IoTest, "a client that is destroyed rejects its commands, also by one of their continuations") {
  Server server(*this);
  ClientPtr client = connectTo(*this, server);
  Promise<void> first = client->command("PING").then([&](const RedisReply&) { client.reset(); }).eagerlyEvaluate(nullptr);
  Promise<RedisReply> second = client->command("PING");
  scope.poll();
  answer(*this, server, ":1\r\n");
  std::move(first).wait(scope);
  const Exception e = failureOf(std::move(second), scope);
  CHECK((e.kind() == Exception::Kind::DISCONNECTED));
  CHECK(contains(e.description(), "the client was destroyed"));
  expectSent(*this, server, std::string(PING) + std::string(PING));
  CHECK(server.client->tryReadChunk().wait(scope).empty()); // its connection is closed
}

TEST_CASE_FIXTURE(IoTest, "what has many answers is refused") {
  Server server(*this);
  const ClientPtr client = connectTo(*this, server);
  for (const char* const name : {"SUBSCRIBE", "psubscribe", "Monitor", "unsubscribe"})
    CHECK((failureOf(client->command(name, "x"), scope).kind() == Exception::Kind::UNIMPLEMENTED));
}

TEST_CASE("connecting and commands can be cancelled at every step") {
  const auto body = [](IoTest& test) -> Promise<void> {
    const std::unique_ptr<NetworkAddress> address = co_await newNetwork(test.io)->parseAddress("127.0.0.1:0");
    const std::unique_ptr<ConnectionReceiver> receiver = address->listen();
    const ClientPtr client = co_await RedisClient::connect(test.io, SocketAddress::parse(receiver->toString()));
    const std::unique_ptr<AsyncIoStream> server = co_await receiver->accept();
    Promise<RedisReply> one = client->command("PING");
    Promise<RedisReply> two = client->command("PING");
    co_await server->write(":1\r\n");
    co_await std::move(one);
    server->shutdownWrite();
    co_await std::move(two).catch_([](const Exception&) { return RedisReply(); });
  };
  CHECK(cancelSweep(std::function<Promise<void>(IoTest&)>(body)) > 5);
}

TEST_CASE_FIXTURE(IoTest, "real: ten thousand commands at once are answered in their order") {
  const ClientPtr client = RedisClient::connect(io, realServer()).wait(scope);
  client->command("DEL", "counter").wait(scope);
  std::vector<Promise<RedisReply>> replies;
  for (int i = 0; i < 10'000; ++i) {
    replies.push_back(client->command("INCR", "counter"));
    const Promise<RedisReply> dropped = client->command("ECHO", "unheard");
  }
  for (int i = 0; i < 10'000; ++i) REQUIRE(std::move(replies[static_cast<std::size_t>(i)]).wait(scope).integer == i + 1);
}

TEST_CASE_FIXTURE(IoTest, "real: one command after the other costs no epoll_ctl") {
  const ClientPtr client = RedisClient::connect(io, realServer()).wait(scope);
  client->command("SET", "key", "value").wait(scope);
  client->command("GET", "key").wait(scope);
  const int before = watchChanges;
  for (int i = 0; i < 100; ++i) REQUIRE(client->command("GET", "key").wait(scope).text == "value");
  CHECK(watchChanges == before);
}

TEST_CASE_FIXTURE(IoTest, "real: transactions, errors, and a client that another one kills") {
  const ClientPtr client = RedisClient::connect(io, realServer()).wait(scope);
  const ClientPtr killer = RedisClient::connect(io, realServer()).wait(scope);
  client->command("MULTI").wait(scope);
  client->command("SET", "text", "x").wait(scope);
  client->command("INCR", "text").wait(scope);
  const RedisReply done = client->command("EXEC").wait(scope);
  REQUIRE(done.elements.size() == 2);
  CHECK(done.elements[0].text == "OK");
  CHECK((done.elements[1].kind == Kind::ERROR && contains(done.elements[1].text, "not an integer")));
  CHECK(contains(failureOf(client->command("LPUSH", "text", "y"), scope).description(), "WRONGTYPE"));

  const std::string id = std::to_string(client->command("CLIENT", "ID").wait(scope).integer);
  Promise<RedisReply> blocked = client->command("BLPOP", "nothing", "0");
  CHECK(!blocked.poll(scope));
  CHECK(killer->command("CLIENT", "KILL", "ID", id).wait(scope).integer == 1);
  CHECK((failureOf(std::move(blocked), scope).kind() == Exception::Kind::DISCONNECTED));
  CHECK(!client->isConnected());
}
