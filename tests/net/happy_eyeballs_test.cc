// SPDX-License-Identifier: MIT
// Tests of the race of connection attempts, with scripted attempts and a timer by hand: what begins when, who wins, who
// is cancelled, and what a failure says.
#include "../runtime/helpers.h"

#include <troth/io/pipe.h>
#include <troth/net/happy_eyeballs_detail.h>
#include <troth/timers/manual_timer.h>

#include <fmt/format.h>

#include <map>
#include <string>
#include <vector>

using namespace troth;
using namespace troth::test;
using namespace std::chrono_literals;

namespace {

using StreamPtr = std::unique_ptr<AsyncIoStream>;

enum class End { CONNECTED, REFUSED, UNREACHABLE, NEVER };

/// What an attempt comes to, so many milliseconds after it was begun.
struct Step {
  End end;
  int after = 0;
};

/// The address of the attempt that is called `letter`: 'a' to 'z' are of IPv6, 'A' to 'Z' of IPv4.
SocketAddress addressOf(char letter) {
  return SocketAddress::parse(letter >= 'a' ? fmt::format("[2001:db8::{:x}]:80", letter - 'a' + 1) : fmt::format("192.0.2.{}:80", letter - 'A' + 1));
}

std::vector<SocketAddress> addressesOf(std::string_view letters) {
  std::vector<SocketAddress> addresses;
  for (const char letter : letters) addresses.push_back(addressOf(letter));
  return addresses;
}

std::string lettersOf(const std::vector<SocketAddress>& addresses) {
  std::string letters;
  for (const SocketAddress& address : addresses)
    for (const char letter : std::string_view("abcdefghijABCDEFGHIJ"))
      if (address == addressOf(letter)) letters += letter;
  return letters;
}

/// Attempts that go as the script says, and what they do: "+a@0" is begun, "=a@20" is connected, "!a@20" has failed,
/// "-a@20" is cancelled.
class ScriptedAttempts {
public:
  ScriptedAttempts(ManualTimer& timer, std::vector<Step> steps)
      : addresses(addressesOf(std::string_view("abcdefghij").substr(0, steps.size()))), timer_(timer), start_(timer.now()), steps_(std::move(steps)) {
    log_.reserve(1000); // taking notes needs no memory
  }

  Promise<StreamPtr> operator()(const SocketAddress& address) {
    const char letter = lettersOf({address})[0];
    return attempt(letter, steps_.at(static_cast<std::size_t>(letter - 'a')));
  }

  const std::string& log() const { return log_; }

  const std::vector<SocketAddress> addresses; // of 'a', 'b' and so on

private:
  ManualTimer& timer_;
  TimePoint start_;
  std::vector<Step> steps_;
  std::string log_;

  void note(char what, char letter) {
    log_ += fmt::format("{}{}{}@{}", log_.empty() ? "" : " ", what, letter, (timer_.now() - start_) / 1ms);
  }

  Promise<StreamPtr> attempt(char letter, Step step) {
    note('+', letter);
    bool ended = false;
    const OnExit cancelled([&] {
      if (!ended) note('-', letter);
    });
    if (step.end == End::NEVER) co_await Promise<void>(NEVER_DONE);
    co_await timer_.afterDelay(step.after * 1ms);
    ended = true;
    note(step.end == End::CONNECTED ? '=' : '!', letter);
    const std::string name = addressOf(letter).toString();
    if (step.end == End::REFUSED)
      throw Exception(Exception::Kind::DISCONNECTED, name + ": refused", std::make_error_code(std::errc::connection_refused));
    if (step.end == End::UNREACHABLE)
      throw Exception(Exception::Kind::DISCONNECTED, name + ": unreachable", std::make_error_code(std::errc::host_unreachable));
    co_return newTwoWayPipe().ends[0];
  }
};

/// Lets time pass until `connecting` is ready.
void passTime(Promise<StreamPtr>& connecting, ManualTimer& timer, WaitScope& scope) {
  while (!connecting.poll(scope)) {
    REQUIRE(timer.nextEvent());
    timer.advanceTo(*timer.nextEvent());
  }
}

Promise<StreamPtr> connectTo(ScriptedAttempts& attempts, ManualTimer& timer, ConnectOptions options = ConnectOptions()) {
  return detail::connectToFirst(
      attempts.addresses, "host.example:80", [&attempts](const SocketAddress& address) { return attempts(address); }, timer, options,
      std::source_location::current());
}

constexpr End CONNECTED = End::CONNECTED;
constexpr End REFUSED = End::REFUSED;
constexpr End UNREACHABLE = End::UNREACHABLE;
constexpr End NEVER = End::NEVER;

} // namespace

// --------------------------------------------------------------------------------------------- order

TEST_CASE("families take turns, beginning with that of the first address, in the resolver's order (RFC 8305 section 4)") {
  const struct {
    std::string_view found;
    std::string_view order;
  } rows[] = {
      {"", ""},
      {"a", "a"},
      {"A", "A"},
      {"abc", "abc"},
      {"CBA", "CBA"},
      {"abAB", "aAbB"},
      {"ABab", "AaBb"},
      {"aABC", "aABC"},
      {"abcA", "aAbc"},
      {"AaBbCc", "AaBbCc"},
      {"cbaCBA", "cCbBaA"},
      {"abcdeAB", "aAbBcde"},
      {"ABabcde", "AaBbcde"},
  };
  for (const auto& row : rows) {
    CAPTURE(row.found);
    std::vector<SocketAddress> addresses = addressesOf(row.found);
    detail::interleaveFamilies(addresses);
    CHECK(lettersOf(addresses) == row.order);
  }
}

// ------------------------------------------------------------------------------------------ the race

TEST_CASE_FIXTURE(LoopTest, "attempts begin 250 ms apart, or at once on a failure, and the first to connect cancels the others (RFC 8305 section 5)") {
  const struct {
    std::string_view name;
    std::vector<Step> steps;
    std::string_view log; // complete before the winner is taken
  } rows[] = {
      {"one address", {{CONNECTED, 20}}, "+a@0 =a@20"},
      {"at once", {{CONNECTED, 0}, {CONNECTED, 0}}, "+a@0 =a@0"},
      {"the first is quick", {{CONNECTED, 249}, {CONNECTED, 0}}, "+a@0 =a@249"},
      {"the first is slow", {{CONNECTED, 300}, {CONNECTED, 100}}, "+a@0 +b@250 =a@300 -b@300"},
      {"the first is dead", {{NEVER}, {CONNECTED, 30}}, "+a@0 +b@250 =b@280 -a@280"},
      {"the first is slower than the second", {{CONNECTED, 900}, {CONNECTED, 30}}, "+a@0 +b@250 =b@280 -a@280"},
      {"the first is refused", {{REFUSED, 10}, {CONNECTED, 30}}, "+a@0 !a@10 +b@10 =b@40"},
      {"refused at once", {{REFUSED, 0}, {REFUSED, 0}, {CONNECTED, 5}}, "+a@0 !a@0 +b@0 !b@0 +c@0 =c@5"},
      {"a failure begins the pause anew",
       {{NEVER}, {REFUSED, 50}, {NEVER}, {CONNECTED, 10}},
       "+a@0 +b@250 !b@300 +c@300 +d@550 =d@560 -a@560 -c@560"},
      {"an early one fails late", {{REFUSED, 300}, {NEVER}, {CONNECTED, 5}}, "+a@0 +b@250 !a@300 +c@300 =c@305 -b@305"},
      {"all but the last are dead",
       {{NEVER}, {NEVER}, {NEVER}, {CONNECTED, 7}},
       "+a@0 +b@250 +c@500 +d@750 =d@757 -a@757 -b@757 -c@757"},
      {"the last is refused while an early one goes on", {{CONNECTED, 400}, {REFUSED, 10}}, "+a@0 +b@250 !b@260 =a@400"},
  };
  for (const auto& row : rows) {
    CAPTURE(row.name);
    ManualTimer timer;
    ScriptedAttempts attempts(timer, row.steps);
    Promise<StreamPtr> connecting = connectTo(attempts, timer);
    passTime(connecting, timer, scope);
    CHECK(attempts.log() == row.log);
    CHECK(std::move(connecting).wait(scope) != nullptr);
    CHECK(!timer.nextEvent());
  }
}

TEST_CASE_FIXTURE(LoopTest, "the delay between attempts is an option") {
  ManualTimer timer;
  ScriptedAttempts attempts(timer, {{NEVER}, {NEVER}, {CONNECTED, 1}});
  Promise<StreamPtr> connecting = connectTo(attempts, timer, {.attemptDelay = 10ms});
  passTime(connecting, timer, scope);
  CHECK(attempts.log() == "+a@0 +b@10 +c@20 =c@21 -a@21 -b@21");
}

TEST_CASE_FIXTURE(LoopTest, "of two that connect in the same turn one is the winner, and the other is closed") {
  ManualTimer timer;
  const std::vector<SocketAddress> addresses = addressesOf("ab");
  TwoWayPipe pipes[] = {newTwoWayPipe(), newTwoWayPipe()};
  std::vector<std::unique_ptr<PromiseFulfiller<StreamPtr>>> fulfillers;
  Promise<StreamPtr> connecting = detail::connectToFirst(
      addresses, "host.example:80",
      [&](const SocketAddress&) {
        auto pair = newPromiseAndFulfiller<StreamPtr>();
        fulfillers.push_back(std::move(pair.fulfiller));
        return std::move(pair.promise);
      },
      timer, ConnectOptions(), std::source_location::current());
  REQUIRE(!connecting.poll(scope));
  timer.advanceBy(250ms);
  REQUIRE(!connecting.poll(scope));
  REQUIRE(fulfillers.size() == 2);
  fulfillers[1]->fulfill(std::move(pipes[1].ends[0]));
  fulfillers[0]->fulfill(std::move(pipes[0].ends[0]));
  REQUIRE(connecting.poll(scope));
  const StreamPtr winner = std::move(connecting).wait(scope);
  Promise<Chunk> first = pipes[0].ends[1]->tryReadChunk();
  Promise<Chunk> second = pipes[1].ends[1]->tryReadChunk();
  CHECK(first.poll(scope));   // it is at its end
  CHECK(!second.poll(scope)); // connected first
}

TEST_CASE_FIXTURE(LoopTest, "a race that is cancelled cancels its attempts, also when it is won already") {
  ManualTimer timer;
  ScriptedAttempts attempts(timer, {{NEVER}, {NEVER}, {CONNECTED, 1}});
  {
    Promise<StreamPtr> connecting = connectTo(attempts, timer);
    REQUIRE(!connecting.poll(scope));
    timer.advanceBy(250ms);
    REQUIRE(!connecting.poll(scope));
  }
  CHECK(attempts.log() == "+a@0 +b@250 -a@250 -b@250");
  CHECK(!timer.nextEvent());
  Promise<StreamPtr> connecting = connectTo(attempts, timer);
  passTime(connecting, timer, scope);
}

// ------------------------------------------------------------------------------------------- failures

TEST_CASE_FIXTURE(LoopTest, "if all fail, the text lists each address with its reason, in their order; kind and code are the last one's (S6)") {
  ManualTimer timer;
  ScriptedAttempts attempts(timer, {{UNREACHABLE, 400}, {REFUSED, 20}, {REFUSED, 10}});
  Promise<StreamPtr> connecting = connectTo(attempts, timer);
  passTime(connecting, timer, scope);
  CHECK(attempts.log() == "+a@0 +b@250 !b@270 +c@270 !c@280 !a@400");
  const Exception e = failureOf(std::move(connecting), scope);
  CHECK(e.description() == "cannot connect to host.example:80: [2001:db8::1]:80: unreachable; [2001:db8::2]:80: refused; [2001:db8::3]:80: refused");
  CHECK(kindName(e) == "DISCONNECTED");
  CHECK((e.code() == std::errc::host_unreachable));
  CHECK(fileOf(e) == "happy_eyeballs_test.cc");
  CHECK(!timer.nextEvent());
}

TEST_CASE_FIXTURE(LoopTest, "an attempt that cannot even be begun is one that has failed") {
  ManualTimer timer;
  const std::vector<SocketAddress> addresses = addressesOf("ab");
  Promise<StreamPtr> connecting = detail::connectToFirst(
      addresses, "host.example:80",
      [&](const SocketAddress& address) -> Promise<StreamPtr> { throw Exception(Exception::Kind::OVERLOADED, address.toString() + ": no descriptors"); },
      timer, ConnectOptions(), std::source_location::current());
  const Exception e = failureOf(std::move(connecting), scope);
  CHECK(e.description() == "cannot connect to host.example:80: [2001:db8::1]:80: no descriptors; [2001:db8::2]:80: no descriptors");
  CHECK(kindName(e) == "OVERLOADED");
}

TEST_CASE_FIXTURE(LoopTest, "when the time is up all attempts are cancelled, and the text says what became of each address (S6)") {
  ManualTimer timer;
  ScriptedAttempts attempts(timer, {{NEVER}, {REFUSED, 10}, {NEVER}, {CONNECTED, 1}});
  Promise<StreamPtr> connecting = connectTo(attempts, timer, {.timeout = 1s, .attemptDelay = 600ms});
  passTime(connecting, timer, scope);
  CHECK(attempts.log() == "+a@0 +b@600 !b@610 +c@610 -a@1000 -c@1000");
  const Exception e = failureOf(std::move(connecting), scope);
  CHECK(e.description() == "cannot connect to host.example:80: timed out after 1s: [2001:db8::1]:80: no answer; [2001:db8::2]:80: refused; "
                           "[2001:db8::3]:80: no answer; [2001:db8::4]:80: not tried");
  CHECK(kindName(e) == "OVERLOADED");
  CHECK((e.code() == std::errc::timed_out));
  CHECK(fileOf(e) == "happy_eyeballs_test.cc");
  CHECK(!timer.nextEvent());
}

TEST_CASE_FIXTURE(LoopTest, "the time is up after 30 s, unless the options say otherwise or never") {
  ManualTimer timer;
  ScriptedAttempts dead(timer, {{NEVER}});
  Promise<StreamPtr> connecting = connectTo(dead, timer);
  passTime(connecting, timer, scope);
  CHECK(dead.log() == "+a@0 -a@30000");
  CHECK(contains(failureOf(std::move(connecting), scope).description(), "timed out after 30s"));
  ScriptedAttempts slow(timer, {{CONNECTED, 3'600'000}});
  Promise<StreamPtr> patient = connectTo(slow, timer, {.timeout = Duration::max()});
  passTime(patient, timer, scope);
  CHECK(slow.log() == "+a@0 =a@3600000");
}

TEST_CASE_FIXTURE(LoopTest, "one address, for which there is no race, fails in the same words as several, and can be cancelled (S6)") {
  ManualTimer timer;
  const auto failureAfter = [&](Step step, std::string_view log) {
    ScriptedAttempts attempts(timer, {step});
    Promise<StreamPtr> connecting = connectTo(attempts, timer, {.timeout = 1s});
    passTime(connecting, timer, scope);
    CHECK(attempts.log() == log);
    Exception e = failureOf(std::move(connecting), scope);
    CHECK(fileOf(e) == "happy_eyeballs_test.cc");
    CHECK(!timer.nextEvent());
    return e;
  };
  const Exception refused = failureAfter({UNREACHABLE, 20}, "+a@0 !a@20");
  CHECK(refused.description() == "cannot connect to host.example:80: [2001:db8::1]:80: unreachable");
  CHECK(kindName(refused) == "DISCONNECTED");
  CHECK((refused.code() == std::errc::host_unreachable));
  const Exception silent = failureAfter({NEVER}, "+a@0 -a@1000");
  CHECK(silent.description() == "cannot connect to host.example:80: timed out after 1s: [2001:db8::1]:80: no answer");
  CHECK(kindName(silent) == "OVERLOADED");
  CHECK((silent.code() == std::errc::timed_out));

  const std::vector<SocketAddress> addresses = addressesOf("a");
  const Exception notBegun = failureOf(
      detail::connectToFirst(
          addresses, "host.example:80", [](const SocketAddress&) -> Promise<StreamPtr> { throw Exception(Exception::Kind::OVERLOADED, "no descriptors"); },
          timer, ConnectOptions(), std::source_location::current()),
      scope);
  CHECK(notBegun.description() == "cannot connect to host.example:80: no descriptors");
  CHECK(kindName(notBegun) == "OVERLOADED");

  ScriptedAttempts attempts(timer, {{NEVER}});
  {
    Promise<StreamPtr> connecting = connectTo(attempts, timer);
    REQUIRE(!connecting.poll(scope));
  }
  CHECK(attempts.log() == "+a@0 -a@0");
  CHECK(!timer.nextEvent());
}

// ---------------------------------------------------------------------------------------- everywhere

namespace {

Promise<void> playTime(Promise<StreamPtr> connecting, ManualTimer& timer) {
  Promise<void> done = std::move(connecting).then([](StreamPtr stream) { CHECK(stream != nullptr); }).eagerlyEvaluate(nullptr);
  for (int i = 0; i < 30; ++i) { // longer than it takes if any one attempt cannot even be begun
    co_await yieldUntilQueueEmpty();
    timer.advanceBy(100ms);
  }
  co_await std::move(done);
}

Promise<void> raceWithFailures(LoopTest&) {
  ManualTimer timer;
  ScriptedAttempts attempts(timer, {{REFUSED, 100}, {NEVER}, {REFUSED, 200}, {CONNECTED, 300}, {CONNECTED, 400}});
  co_await playTime(connectTo(attempts, timer), timer);
}

} // namespace

TEST_CASE("a race can be cancelled at every step (R5)") { CHECK(cancelSweep(raceWithFailures) > 10); }

TEST_CASE("when an allocation of a race fails, that is reported, and nothing is lost (R6)") {
  CHECK((starveSweep([](LoopTest& test) { raceWithFailures(test).wait(test.scope); }) > 3 || SANITIZED));
}
