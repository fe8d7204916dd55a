// SPDX-License-Identifier: MIT
// A chat. Adds to the echo server: clients that know each other, and a bounded queue for each, so that one who does not
// read is dropped, and holds up nobody.
//
//   chat --port 7002        then, in several terminals:  nc 127.0.0.1 7002
#include "options.h"

#include <troth/io/async_io.h>
#include <troth/io/buffered.h>
#include <troth/net/connection_server.h>
#include <troth/runtime/channel.h>
#include <troth/runtime/defer.h>
#include <troth/runtime/join.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <utility>
#include <vector>

using namespace troth;
using std::chrono::seconds;

constexpr std::size_t LONGEST_LINE = 1000, LONGEST_NAME = 20; // bytes

// Clients that vanish are no news.
struct Log : TaskSet::ErrorHandler {
  void taskFailed(Exception e) override {
    if (e.kind() == Exception::Kind::FAILED) std::fprintf(stderr, "chat: %s\n", e.what());
  }
};

struct Settings {
  std::size_t queue; // lines that wait for a client to read them
  seconds idle;      // zero: a client may be silent for ever
  seconds grace;     // for a client that leaves to read what it has not read yet
};

struct Client {
  explicit Client(AsyncIoStream& connection, std::size_t queueSize)
      : stream(connection), input(connection), queue(queueSize) {}

  AsyncIoStream& stream;
  BufferedInputStream input;
  Channel<std::string> queue; // what the others say
  AsyncEvent leaving;
  std::string name, lastWords;

  // Nothing more is queued; what was is sent, and then `why`.
  void leave(std::string why) {
    if (leaving.isSet()) return;
    lastWords = "* " + std::move(why) + ", good-bye\n";
    queue.close();
    leaving.set();
  }
  void tell(const std::string& line) {
    if (!leaving.isSet() && !queue.trySend(line)) leave("you read too slowly");
  }
};

class Room {
public:
  Room(Timer& timer, Settings settings) : timer_(timer), settings_(settings) {}

  // Listens to a client and talks to it at the same time, until both have come to an end, or the grace is over.
  Promise<void> serve(std::unique_ptr<AsyncIoStream> stream, Promise<void> closing) {
    Client client(*stream, settings_.queue);
    co_await joinPromisesFailFast(listen(client, std::move(closing)), talk(client))
        .ignoreResult()
        .exclusiveJoin(client.leaving.wait().then([this] { return timer_.afterDelay(settings_.grace); }));
  }

private:
  Timer& timer_;
  Settings settings_;
  std::vector<Client*> members_; // those with a name

  Promise<void> listen(Client& client, Promise<void> closing) {
    try {
      co_await converse(client)
          .exclusiveJoin(client.leaving.wait())
          .exclusiveJoin(std::move(closing).then([&client] { client.leave("the chat ends here"); }));
    } catch (const Exception& e) {
      if (e.kind() != Exception::Kind::OVERLOADED) throw; // the time-out
      client.leave("you were silent for too long");
    }
    client.leave("you have left"); // unless there was another reason
  }

  // All at once, so that one write carries what has come during the last one.
  Promise<void> talk(Client& client) {
    co_await client.stream.write("* what is your name?\n");
    while (std::optional<std::string> lines = co_await client.queue.receive()) {
      while (std::optional<std::string> more = client.queue.tryReceive()) *lines += *more;
      co_await client.stream.write(*lines);
    }
    co_await client.stream.write(client.lastWords);
  }

  Promise<void> converse(Client& client) {
    TROTH_DEFER { part(client); };
    for (;;) {
      Promise<std::optional<std::string>> next = nextLine(client);
      if (settings_.idle > seconds(0)) next = timer_.timeoutAfter(settings_.idle, std::move(next));
      const std::optional<std::string> line = co_await std::move(next);
      if (!line) co_return;
      if (line->starts_with("/nick "))
        rename(client, line->substr(6));
      else if (client.name.empty())
        rename(client, *line);
      else if (!line->empty())
        tellOthers(client, client.name + ": " + *line + "\n");
    }
  }

  // What could play tricks with a terminal: ASCII's control characters, and U+0080 to U+009F.
  static void removeControls(std::string& line) {
    std::erase_if(line, [](unsigned char c) { return c < ' ' || c == 127; });
    for (std::size_t i = 0; (i = line.find('\xc2', i)) != line.npos && i + 1 < line.size();) {
      if (static_cast<unsigned char>(line[i + 1]) < 0xa0)
        line.erase(i, 2);
      else
        ++i;
    }
  }

  // The next line that is not too long, without control characters.
  static Promise<std::optional<std::string>> nextLine(Client& client) {
    for (;;) {
      try {
        std::optional<std::string> line = co_await client.input.readLine(LONGEST_LINE);
        if (line) removeControls(*line);
        co_return line;
      } catch (const Exception& e) {
        if (e.kind() != Exception::Kind::FAILED) throw;
      }
      client.tell("* please, no more than " + std::to_string(LONGEST_LINE) + " bytes in a line\n");
      std::array<std::byte, 1> skipped; // out of the buffer, so this costs no system call a byte
      while (co_await client.input.tryRead(skipped) == 1 && skipped[0] != std::byte('\n')) continue;
    }
  }

  void rename(Client& client, const std::string& name) {
    if (name.empty() || name.size() > LONGEST_NAME || name.find_first_of(" /") != name.npos)
      return client.tell("* a name has 1 to " + std::to_string(LONGEST_NAME) + " bytes, without spaces; try again\n");
    if (std::ranges::any_of(members_, [&name](Client* other) { return other->name == name; }))
      return client.tell("* somebody has that name; try another one\n");
    const std::string before = std::exchange(client.name, name);
    if (before.empty()) members_.push_back(&client);
    client.tell("* welcome, " + name + "; here are " + std::to_string(members_.size()) + "\n");
    tellOthers(client, before.empty() ? "* " + name + " is here\n" : "* " + before + " is now " + name + "\n");
  }

  void part(Client& client) {
    if (std::erase(members_, &client) > 0) tellOthers(client, "* " + client.name + " has left\n");
  }

  void tellOthers(const Client& speaker, const std::string& line) {
    for (Client* member : members_)
      if (member != &speaker) member->tell(line);
  }
};

int main(int argc, char** argv) try {
  Options options(argc, argv, {{"address", "127.0.0.1"},
                               {"port", "7002"},
                               {"queue", "100"},
                               {"idle-timeout", "0"},
                               {"grace", "5"}});
  const Settings settings{.queue = std::max(1U, options.number("queue", 1'000'000)),
                          .idle = seconds(options.number("idle-timeout", 1'000'000)),
                          .grace = seconds(options.number("grace", 1'000'000))};
  AsyncIoContext io = setupAsyncIo();
  auto network = newNetwork(io);
  ListenOptions listening;
  listening.tcp.keepAlive = seconds(60); // who has vanished without a word does not stay for ever
  auto receiver =
      network->parseAddress(options.text("address"), options.port("port")).wait(io.waitScope())->listen(listening);
  Promise<int> stopped = io.onSignal(SIGINT, SIGTERM); // whoever reads the line may send one
  std::printf("listening on %s\n", receiver->toString().c_str());
  std::fflush(stdout);

  Log log;
  Room room(io.timer(), settings); // outlives the clients in it
  ConnectionServer server(
      [&](std::unique_ptr<AsyncIoStream> client) { return room.serve(std::move(client), server.onDrain()); }, log);
  server.serve(std::move(receiver)).exclusiveJoin(std::move(stopped).ignoreResult()).wait(io.waitScope());
  server.drain(io.timer(), settings.grace).wait(io.waitScope());
} catch (...) {
  return failed("chat");
}
