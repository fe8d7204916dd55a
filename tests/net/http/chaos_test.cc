// SPDX-License-Identifier: MIT
// Crowds of clients that are slow, rude, wrong or gone at random, by a seed: what must hold of the server all the same.
//
// Each client sends some requests, whose targets tell the handler what to do, and knows which replies belong to them.
// Whatever happens: no handler outlives its connection, each reply is right and complete or its connection is broken
// off, and in the end nothing is left. TROTH_CHAOS_RUNS=1000 tries so many seeds, in place of the few of every day.
#include "server_fixture.h"

#include <troth/net/testing.h>
#include <troth/runtime/quote_detail.h>
#include <troth/timers/random.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdlib>
#include <optional>
#include <stdexcept>

using namespace troth;
using namespace troth::http;
using namespace troth::test;
using namespace std::chrono_literals;

namespace {

class Dice {
public:
  explicit Dice(std::uint64_t seed) : random_(seed) {}
  std::size_t upTo(std::size_t most) { return static_cast<std::size_t>(random_.upTo(most)); }
  bool oneIn(std::size_t number) { return upTo(number - 1) == 0; }
  Duration delay(Duration most) { return Duration(static_cast<Duration::rep>(random_.upTo(static_cast<std::uint64_t>(most.count())))); }

private:
  SeededRandom random_;
};

struct Counts {
  std::size_t handled = 0, cancelled = 0, logged = 0, replies = 0, resets = 0;
};

struct World {
  World(std::uint64_t worldSeed, ManualTimer& worldTimer) : seed(worldSeed), dice(worldSeed), timer(worldTimer) {}

  const std::uint64_t seed;
  Dice dice;
  ManualTimer& timer;
  std::size_t handlers = 0; // at work
  Counts counts;

  void fail(const std::string& what) const { FAIL_CHECK("seed " << seed << ": " << what); }
};

// ------------------------------------------------------------------------------------------- the server's side

// The server's end of a connection, which knows how many handlers are at work on it.
class Watched final : public AsyncIoStream {
public:
  Watched(World& world, std::unique_ptr<AsyncIoStream> stream) : world_(world), stream_(std::move(stream)) {}
  ~Watched() override {
    if (handlers != 0) world_.fail("a handler outlives its connection");
  }

  using AsyncOutputStream::write;
  Promise<std::size_t> tryRead(std::span<std::byte> buffer, std::size_t minBytes, std::source_location where) override {
    return stream_->tryRead(buffer, minBytes, where);
  }
  Promise<Chunk> tryReadChunk(std::size_t maxBytes, std::source_location where) override {
    return stream_->tryReadChunk(maxBytes, where);
  }
  Promise<void> write(std::span<const std::byte> bytes, std::source_location where) override {
    return stream_->write(bytes, where);
  }
  Promise<void> write(std::span<const std::span<const std::byte>> pieces, std::source_location where) override {
    return stream_->write(pieces, where);
  }
  Promise<void> whenWriteDisconnected(std::source_location where) override {
    return stream_->whenWriteDisconnected(where);
  }
  void abortWrite(std::source_location where) override { stream_->abortWrite(where); }
  void shutdownWrite(std::source_location where) override { stream_->shutdownWrite(where); }
  void abortRead(std::source_location where) override { stream_->abortRead(where); }

  mutable int handlers = 0;

private:
  World& world_;
  std::unique_ptr<AsyncIoStream> stream_;
};

class WatchingReceiver final : public ConnectionReceiver {
public:
  WatchingReceiver(World& world, std::unique_ptr<ConnectionReceiver> port) : world_(world), port_(std::move(port)) {}
  Promise<std::unique_ptr<AsyncIoStream>> accept(std::source_location where) override {
    return port_->accept(where).then([this](std::unique_ptr<AsyncIoStream> stream) -> std::unique_ptr<AsyncIoStream> {
      return std::make_unique<Watched>(world_, std::move(stream));
    });
  }
  std::uint16_t getPort() const override { return port_->getPort(); }
  std::string toString() const override { return port_->toString(); }

private:
  World& world_;
  std::unique_ptr<ConnectionReceiver> port_;
};

// What a target tells its handler: "/action/name/size".
struct Order {
  std::string action, name;
  std::size_t size = 0;

  std::string target() const { return "/" + action + "/" + name + "/" + std::to_string(size); }
  std::string text() const {
    std::string text;
    while (text.size() < size) text += name + ";";
    return text.substr(0, size);
  }

  // To fail, for targets that were changed on their way.
  static Order parse(std::string_view target) {
    Order failing;
    failing.action = "fails";
    std::array<std::string, 3> parts;
    for (std::string& part : parts) {
      if (!target.starts_with('/')) return failing;
      target.remove_prefix(1);
      part = target.substr(0, target.find('/'));
      target.remove_prefix(part.size());
    }
    const char* const end = parts[2].data() + parts[2].size();
    Order order{parts[0], parts[1], 0};
    const std::from_chars_result result = std::from_chars(parts[2].data(), end, order.size);
    if (!target.empty() || result.ec != std::errc() || result.ptr != end || order.size > 1'000'000) return failing;
    return order;
  }
};

// A handler at work.
class AtWork {
public:
  AtWork(World& world, const AsyncIoStream& connection)
      : world_(world), connection_(static_cast<const Watched&>(connection)) {
    ++world.handlers;
    ++world.counts.handled;
    ++connection_.handlers;
  }
  AtWork(const AtWork&) = delete;
  AtWork& operator=(const AtWork&) = delete;
  ~AtWork() {
    --world_.handlers;
    --connection_.handlers;
    if (!isDone) ++world_.counts.cancelled;
  }

  bool isDone = false;

private:
  World& world_;
  const Watched& connection_;
};

// Writes `text` in some pieces, with pauses.
Promise<void> writeSlowly(World& world, AsyncOutputStream& out, std::string text) {
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t size = 1 + world.dice.upTo(text.size() - at - 1);
    co_await out.write(std::string_view(text).substr(at, size));
    at += size;
    if (world.dice.oneIn(2)) co_await world.timer.afterDelay(world.dice.delay(2s));
  }
}

Promise<void> peek(World& world, AsyncInputStream& body) {
  std::vector<std::byte> buffer(100);
  (void)co_await body.tryRead(std::span(buffer), 1 + world.dice.upTo(99));
  {
    Promise<Chunk> dropped = body.tryReadChunk();
    co_await world.timer.afterDelay(world.dice.delay(1s));
  }
  if (world.dice.oneIn(2)) (void)co_await body.tryRead(std::span(buffer), 1);
}

Promise<void> obey(World& world, Order order, Request& request, Response& response) {
  Dice& dice = world.dice;
  const std::string text = order.text();
  if (dice.oneIn(2)) co_await world.timer.afterDelay(dice.delay(dice.oneIn(10) ? Duration(20s) : Duration(500ms)));
  if (order.action == "send") {
    co_await response.send(200, text);
  } else if (order.action == "echo") {
    const std::string body = co_await request.body().readAllText(1'000'000);
    co_await response.send(200, body);
  } else if (order.action == "pump") {
    AsyncOutputStream& out = response.start(200, request.body().tryGetLength());
    (void)co_await request.body().pumpTo(out);
  } else if (order.action == "peek") {
    co_await peek(world, request.body());
    co_await response.send(200, text);
  } else if (order.action == "stream") {
    co_await writeSlowly(world, response.start(200), text);
  } else if (order.action == "sized") {
    co_await writeSlowly(world, response.start(200, order.size), text);
  } else if (order.action == "breaks") {
    co_await writeSlowly(world, response.start(200), text);
    throw std::runtime_error("planned");
  } else if (order.action == "hints") {
    co_await response.sendInformational(103);
    co_await response.send(200, text);
  } else if (order.action == "pieces") {
    std::vector<std::span<const std::byte>> pieces;
    for (std::string_view left = text; !left.empty();) {
      pieces.push_back(asBytes(left.substr(0, 1 + dice.upTo(left.size() - 1))));
      left.remove_prefix(pieces.back().size());
    }
    co_await response.start(200, order.size).write(pieces);
  } else if (order.action == "aborts") {
    AsyncOutputStream& out = response.start(200);
    if (dice.oneIn(2)) co_await writeSlowly(world, out, text);
    out.abortWrite();
    co_await world.timer.afterDelay(dice.delay(1s));
  } else if (order.action == "short") {
    co_await writeSlowly(world, response.start(200, order.size + 1), text);
  } else {
    throw std::runtime_error("planned");
  }
}

Promise<void> handle(World& world, Request& request, Response& response) {
  AtWork atWork(world, request.connection());
  Order order = Order::parse(request.target());
  std::exception_ptr failure;
  try {
    co_await obey(world, std::move(order), request, response);
  } catch (...) {
    failure = std::current_exception();
  }
  atWork.isDone = true;
  if (failure) std::rethrow_exception(failure);
}

// ------------------------------------------------------------------------------------------- the clients

struct Ask {
  Order order;
  std::string method, body, bytes;

  bool neverCompletes() const { return order.action == "breaks" || order.action == "short" || order.action == "aborts"; }
  std::string expected() const { return order.action == "echo" || order.action == "pump" ? body : order.text(); }
};

enum class Kind : std::uint8_t { PATIENT, VANISHES, RESETS, HALF_CLOSES, STALLS, DEAF, MUTANT };

struct Client {
  std::size_t number = 0;
  Kind kind = Kind::PATIENT;
  Duration begins{}, leaves{};
  std::vector<Ask> asks;
  std::string bytes;        // all that it sends
  std::string received;
  bool isConnected = false; // once
  bool hasLeft = false;     // before the server ended
  bool hasEnded = false;    // the server has ended its direction
  bool wasReset = false;    // or broken it off
};

std::string inChunks(Dice& dice, std::string_view body) {
  std::string chunks;
  while (!body.empty()) {
    const std::size_t size = 1 + dice.upTo(std::min<std::size_t>(body.size(), dice.oneIn(10) ? 10 : 10'000) - 1);
    std::array<char, 16> digits;
    chunks.append(digits.data(), std::to_chars(digits.data(), digits.data() + digits.size(), size, 16).ptr);
    if (dice.oneIn(10)) chunks += ";extension=\"x\"";
    chunks.append("\r\n").append(body.substr(0, size)).append("\r\n");
    body.remove_prefix(size);
  }
  chunks += "0\r\n";
  if (dice.oneIn(4)) chunks += "X-Trailer: x\r\n";
  return chunks + "\r\n";
}

Ask makeAsk(Dice& dice, std::string name, bool isLast) {
  constexpr std::array<const char*, 11> ACTIONS = {"send",   "send",  "echo",  "echo",  "pump", "peek",
                                                  "stream", "sized", "hints", "pieces", "fails"};
  constexpr std::array<const char*, 3> BREAKING = {"breaks", "short", "aborts"};
  Ask ask;
  const std::size_t most = dice.oneIn(8) ? 20'000 : 500;
  ask.order = {ACTIONS[dice.upTo(ACTIONS.size() - 1)], std::move(name), dice.upTo(most)};
  if (dice.oneIn(30)) ask.order.action = BREAKING[dice.upTo(BREAKING.size() - 1)];
  const bool hasBody = dice.oneIn(2);
  ask.method = hasBody ? "POST" : dice.oneIn(6) ? "HEAD" : "GET";
  const bool isOld = isLast && dice.oneIn(8);
  std::string head = ask.method + " " + ask.order.target() + (isOld ? " HTTP/1.0\r\n" : " HTTP/1.1\r\n") + "Host: a\r\n";
  if (isLast && dice.oneIn(3)) head += "Connection: close\r\n";
  if (!hasBody) {
    ask.bytes = head + "\r\n";
    return ask;
  }
  ask.body = Order{{}, "body of " + ask.order.name, dice.upTo(most)}.text();
  if (isLast && dice.oneIn(4)) head += "Expect: 100-continue\r\n"; // and does not wait for it
  if (isOld || dice.oneIn(2))
    ask.bytes = head + "Content-Length: " + std::to_string(ask.body.size()) + "\r\n\r\n" + ask.body;
  else
    ask.bytes = head + "Transfer-Encoding: chunked\r\n\r\n" + inChunks(dice, ask.body);
  return ask;
}

Client makeClient(Dice& dice, std::size_t number) {
  constexpr std::array<Kind, 10> KINDS = {Kind::PATIENT,     Kind::PATIENT, Kind::PATIENT, Kind::PATIENT, Kind::VANISHES, Kind::RESETS,
                                          Kind::HALF_CLOSES, Kind::STALLS,  Kind::DEAF,    Kind::MUTANT};
  Client client;
  client.number = number;
  client.kind = KINDS[dice.upTo(KINDS.size() - 1)];
  client.begins = dice.delay(60s);
  client.leaves = client.kind == Kind::DEAF ? Duration(100s) : dice.delay(dice.oneIn(2) ? Duration(100ms) : Duration(5s));
  const std::size_t count = 1 + dice.upTo(dice.oneIn(3) ? 9 : 2);
  for (std::size_t i = 0; i < count; ++i) {
    client.asks.push_back(makeAsk(dice, std::to_string(number) + "-" + std::to_string(i), i + 1 == count));
    client.bytes += client.asks.back().bytes;
  }
  if (client.kind == Kind::HALF_CLOSES || client.kind == Kind::STALLS)
    client.bytes.resize(dice.oneIn(2) ? client.bytes.size() : dice.upTo(client.bytes.size()));
  if (client.kind == Kind::MUTANT) client.bytes[dice.upTo(std::min<std::size_t>(client.bytes.size(), 300) - 1)] = static_cast<char>(dice.upTo(255));
  return client;
}

Promise<void> readReplies(World& world, Client& client, AsyncIoStream& stream) {
  Dice& dice = world.dice;
  const std::size_t most = dice.oneIn(4) ? 100 : 20'000;
  int pauses = 100; // who takes much longer for a reply is taken for one that does not read
  try {
    for (;;) {
      const Chunk chunk = co_await stream.tryReadChunk(1 + dice.upTo(most - 1));
      if (chunk.empty()) break;
      client.received += chunk.text();
      if (pauses > 0 && dice.oneIn(10)) {
        --pauses;
        co_await world.timer.afterDelay(dice.delay(100ms));
      }
    }
    client.hasEnded = true;
  } catch (const Exception&) {
    client.wasReset = true;
  }
}

Promise<void> writeRequests(World& world, Client& client, AsyncIoStream& stream) {
  Dice& dice = world.dice;
  const std::string_view bytes = client.bytes;
  const std::size_t most = dice.oneIn(2) ? bytes.size() : bytes.size() / 5;
  try {
    for (std::size_t at = 0; at < bytes.size();) {
      const std::size_t size = dice.oneIn(4) ? 1 : std::min(bytes.size() - at, 1 + dice.upTo(most));
      co_await stream.write(bytes.substr(at, size));
      at += size;
      if (dice.oneIn(2)) co_await world.timer.afterDelay(dice.delay(200ms));
    }
    if (client.kind == Kind::HALF_CLOSES) stream.shutdownWrite();
  } catch (const Exception&) {
    // The server has had enough; what it says is read.
  }
}

Promise<void> converse(World& world, Client& client, AsyncIoStream& stream) {
  Promise<void> writing = writeRequests(world, client, stream).eagerlyEvaluate(nullptr);
  if (client.kind == Kind::DEAF) co_await NEVER_DONE;
  co_await readReplies(world, client, stream);
}

Promise<void> live(World& world, Client& client, Promise<std::unique_ptr<NetworkAddress>> server) {
  std::unique_ptr<AsyncIoStream> stream;
  try {
    co_await world.timer.afterDelay(client.begins);
    const std::unique_ptr<NetworkAddress> address = co_await std::move(server);
    stream = co_await address->connect();
  } catch (const Exception&) {
    co_return; // the server was not there any more
  }
  client.isConnected = true;
  const bool leaves = client.kind == Kind::VANISHES || client.kind == Kind::RESETS || client.kind == Kind::DEAF;
  if (!leaves) {
    co_await converse(world, client, *stream);
    co_return;
  }
  co_await converse(world, client, *stream).exclusiveJoin(world.timer.afterDelay(client.leaves));
  client.hasLeft = !client.hasEnded && !client.wasReset;
  if (client.kind == Kind::RESETS) stream->abortWrite();
}

// ------------------------------------------------------------------------------------------- what they have seen

struct Reply {
  int status = 0;
  std::string body;
  bool isComplete = false;
};

// Takes the body of `reply` off `text`; the last one that there is may end with the connection.
void takeBody(Reply& reply, std::string_view head, std::string_view& text, bool hasEnded) {
  if (const std::size_t at = head.find("\r\nContent-Length: "); at != std::string_view::npos) {
    const std::size_t length = std::stoul(std::string(head.substr(at + 18)));
    reply.body = text.substr(0, length);
    reply.isComplete = reply.body.size() == length;
    text.remove_prefix(reply.body.size());
  } else if (contains(head, "\r\nTransfer-Encoding: chunked\r\n")) {
    for (;;) {
      const std::size_t line = text.find("\r\n");
      if (line == std::string_view::npos) break;
      const std::size_t size = std::stoul(std::string(text.substr(0, line)), nullptr, 16);
      reply.body += text.substr(line + 2, size);
      if (text.size() < line + 2 + size + 2) break;
      text.remove_prefix(line + 2 + size + 2);
      if (size == 0) {
        reply.isComplete = true;
        return;
      }
    }
    text = {};
  } else {
    reply.body = text;
    reply.isComplete = hasEnded;
    text = {};
  }
}

std::vector<Reply> repliesOf(const Client& client) {
  std::vector<Reply> replies;
  std::string_view text = client.received;
  while (!text.empty()) {
    Reply& reply = replies.emplace_back();
    const std::size_t end = text.find("\r\n\r\n");
    if (end == std::string_view::npos) break;
    const std::string_view head = text.substr(0, end + 2);
    text.remove_prefix(end + 4);
    if (!head.starts_with("HTTP/1.1 ")) break;
    reply.status = std::stoi(std::string(head.substr(9, 3)));
    if (reply.status == 100 || reply.status == 103) {
      replies.pop_back();
    } else if (replies.size() <= client.asks.size() && client.asks[replies.size() - 1].method == "HEAD" && reply.status != 408) {
      reply.isComplete = true;
    } else {
      takeBody(reply, head, text, client.hasEnded);
    }
  }
  return replies;
}

// Why `replies` are not what `client` should have got; empty if they are.
std::string wrongIn(const Client& client, const std::vector<Reply>& replies, bool serverStays) {
  for (std::size_t i = 0; i < replies.size(); ++i) {
    const Reply& reply = replies[i];
    const bool isLast = i + 1 == replies.size();
    if (!reply.isComplete && (client.hasEnded || !isLast)) return "a part of a reply looks complete";
    if (reply.status == 0) continue; // cut off in its head
    if (reply.status == 408 && client.kind != Kind::PATIENT && isLast) continue;
    if (reply.status == 400 && client.kind == Kind::HALF_CLOSES && isLast) continue; // in the middle of a body
    if (i == client.asks.size()) return "a reply too many";
    const Ask& ask = client.asks[i];
    const bool fails = ask.order.action == "fails";
    if (reply.status != (fails ? 500 : 200)) return "status " + std::to_string(reply.status);
    if (ask.method == "HEAD") continue;
    if (reply.isComplete && ask.neverCompletes()) return "a reply that broke off looks complete";
    const std::string expected = fails ? "500 Internal Server Error\n" : ask.expected();
    if (reply.isComplete ? reply.body != expected : !expected.starts_with(reply.body)) return "another content";
  }
  if (client.kind != Kind::PATIENT || !serverStays) return {};
  for (std::size_t i = 0; i < client.asks.size(); ++i) {
    if (client.asks[i].neverCompletes()) return {}; // but those before it were complete
    if (i == replies.size() || !replies[i].isComplete) return "a reply is missing";
    if (client.asks[i].order.action == "fails" && client.asks[i].method == "POST") return {}; // which closes the connection
  }
  return {};
}

void check(World& world, const Client& client, bool serverStays) {
  const auto fail = [&](const std::string& what) {
    std::string story = "client " + std::to_string(client.number) + " of kind " + std::to_string(static_cast<int>(client.kind)) +
                        (client.hasEnded ? ", ended" : client.wasReset ? ", reset" : "") + ": " + what;
    for (const Ask& ask : client.asks) story += "\n  " + troth::detail::quote(ask.bytes.substr(0, 200));
    for (const Reply& reply : repliesOf(client))
      story += "\n  " + std::to_string(reply.status) + (reply.isComplete ? ", complete: " : ", broken: ") +
               std::to_string(reply.body.size()) + " bytes, " + troth::detail::quote(reply.body.substr(0, 60));
    world.fail(story + "\n  ends with " + troth::detail::quote(std::string_view(client.received).substr(std::max<std::size_t>(client.received.size(), 60) - 60)));
  };
  if (!client.isConnected) {
    if (serverStays) fail("not connected");
    return;
  }
  if (client.wasReset) ++world.counts.resets;
  if (client.kind == Kind::DEAF) return;
  if (!client.hasEnded && !client.wasReset && !client.hasLeft) return fail("it was not served to the end");
  if (client.kind == Kind::MUTANT) {
    // Nobody knows what it has asked for.
    if (!std::string_view("HTTP/1.1 ").starts_with(client.received.substr(0, 9))) fail("no reply");
    return;
  }
  const std::vector<Reply> replies = repliesOf(client);
  world.counts.replies += replies.size();
  if (const std::string wrong = wrongIn(client, replies, serverStays); !wrong.empty()) fail(wrong);
}

// ------------------------------------------------------------------------------------------- a run

enum class End : std::uint8_t { STAYS, DRAINS, IS_DESTROYED };

struct Clients : TaskSet::ErrorHandler {
  Clients(World& clientsWorld) : world(clientsWorld), tasks(*this) {}
  void taskFailed(Exception e) override { world.fail("a client: " + std::string(e.description())); }
  World& world;
  std::vector<std::unique_ptr<Client>> all;
  std::size_t running = 0;
  TaskSet tasks;

  void add(Promise<std::unique_ptr<NetworkAddress>> server) {
    Client& client = *all.emplace_back(std::make_unique<Client>(makeClient(world.dice, all.size())));
    ++running;
    tasks.add(live(world, client, std::move(server)).then([this] { --running; }));
  }
};

class ChaosTest : public HttpTest {
public:
  Counts run(std::uint64_t seed, std::size_t count, End end);

private:
  void checkCounters(const World& world) {
    if (world.handlers > server().requests()) world.fail("a handler that the server does not know of");
    if (server().requests() > server().connections()) world.fail("more requests than connections");
  }
  void checkErrors(const World& world) {
    for (const std::string& text : errors.texts)
      if (!contains(text, "planned") && !contains(text, "of its response")) world.fail("reported: " + text);
    errors.texts.clear();
  }
};

Counts ChaosTest::run(std::uint64_t seed, std::size_t count, End end) {
  World world(seed, timer);
  MemoryNetwork network(timer);
  network.shortReads("10.0.0.1:81", 1 + world.dice.upTo(20)).shortReads("10.0.0.1:82", 1 + world.dice.upTo(3000));
  settings = ServerSettings();
  if (world.dice.oneIn(3)) settings.connections = 100;
  settings.accessLog = [&](const AccessRecord& record) { world.counts.logged += record.request != nullptr ? 1 : 0; };
  handler = [&](Request& request, Response& response) { return handle(world, request, response); };
  std::vector<Promise<void>> serving;
  for (const std::string address : {"10.0.0.1:80", "10.0.0.1:81", "10.0.0.1:82"}) {
    auto port = network.parseAddress(address).wait(scope)->listen();
    serving.push_back(server().serve(std::make_unique<WatchingReceiver>(world, std::move(port))).eagerlyEvaluate([](Exception) {}));
  }
  Clients clients(world);
  for (std::size_t i = 0; i < count; ++i)
    clients.add(network.parseAddress("10.0.0.1:" + std::to_string(80 + world.dice.upTo(9) % 5 % 3)));

  const TimePoint began = timer.now(), endsAt = began + 30s;
  std::optional<Promise<std::size_t>> drained;
  bool isThere = true;
  for (;;) {
    settle();
    if (isThere) checkCounters(world);
    if (clients.running == 0 && (!isThere || server().connections() == 0)) break;
    if (end != End::STAYS && isThere && !drained && timer.now() >= endsAt) {
      if (end == End::DRAINS) {
        drained = server().drain(2s).eagerlyEvaluate(nullptr);
      } else {
        dropServer();
        isThere = false;
      }
      continue;
    }
    const std::optional<TimePoint> next = timer.nextEvent();
    if (!next || timer.now() > began + 1h) {
      world.fail(next ? "it has no end" : "somebody waits for ever");
      break;
    }
    timer.advanceTo(*next);
  }
  for (const std::unique_ptr<Client>& client : clients.all) check(world, *client, end == End::STAYS);
  checkErrors(world);
  if (drained && !drained->poll(scope)) world.fail("draining has no end");
  if (isThere && server().requests() != 0) world.fail("a request is left");
  dropServer();
  if (world.handlers != 0) world.fail("a handler is left");
  if (world.counts.logged < world.counts.handled) world.fail("a request was not logged");
  return world.counts;
}

TEST_CASE_FIXTURE(ChaosTest, "whatever crowds of clients do, replies are right or broken off, and nothing is left") {
  const char* const asked = std::getenv("TROTH_CHAOS_RUNS");
  const std::uint64_t runs = asked != nullptr ? std::strtoull(asked, nullptr, 10) : 6;
  Counts all;
  for (std::uint64_t seed = 1; seed <= runs; ++seed) {
    const Counts counts = run(seed, 500, seed % 3 == 1 ? End::STAYS : seed % 3 == 2 ? End::DRAINS : End::IS_DESTROYED);
    all.handled += counts.handled;
    all.cancelled += counts.cancelled;
    all.replies += counts.replies;
    all.resets += counts.resets;
  }
  if (asked != nullptr) MESSAGE(all.handled << " requests, " << all.cancelled << " cancelled, " << all.replies << " replies, " << all.resets << " resets");
  // It was chaos indeed, and most went well.
  CHECK(all.handled > runs * 500);
  CHECK(all.cancelled > runs * 20);
  CHECK(all.resets > runs * 10);
  CHECK(all.replies > all.handled / 2);
}

} // namespace
