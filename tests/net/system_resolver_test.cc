// SPDX-License-Identifier: MIT
// Tests of the system's resolver: answers and errors, shared requests, the line before the thread pool, cancelling.
#include "../io/peer.h"
#include "../runtime/helpers.h"
#include "resolver.h"

#include <troth/io/file.h>
#include <troth/net/resolver.h>

#include <netdb.h>

#include <deque>
#include <string>
#include <vector>

using namespace troth;
using namespace troth::test;
using namespace std::chrono_literals;

namespace {

using Addresses = std::vector<SocketAddress>;

std::vector<std::string> textsOf(const Addresses& addresses) {
  std::vector<std::string> texts;
  for (const SocketAddress& address : addresses) texts.push_back(address.toString());
  return texts;
}

using Texts = std::vector<std::string>;

} // namespace

// -------------------------------------------------------------------------------------------- answers

TEST_CASE_FIXTURE(IoTest, "a name gives its addresses in the system's order, none twice, with port 0") {
  const FakeHost host("many.troth.test", {"192.0.2.7", "2001:db8::7", "192.0.2.7", "192.0.2.1"});
  const auto resolver = newSystemResolver(io);
  Promise<Addresses> lookup = resolver->lookUp("many.troth.test");
  CHECK((textsOf(std::move(lookup).wait(scope)) == Texts{"192.0.2.7:0", "[2001:db8::7]:0", "192.0.2.1:0"}));
}

TEST_CASE_FIXTURE(IoTest, "an IP address is its own answer, and nobody is asked (N2)") {
  const auto resolver = newSystemResolver(io);
  for (const auto& [host, address] : {std::pair("192.0.2.7", "192.0.2.7:0"), std::pair("::1", "[::1]:0"), std::pair("[::1]", "[::1]:0")}) {
    CAPTURE(host);
    Promise<Addresses> lookup = resolver->lookUp(host);
    REQUIRE(lookup.poll(scope));
    CHECK((textsOf(std::move(lookup).wait(scope)) == Texts{address}));
  }
}

TEST_CASE_FIXTURE(IoTest, "what is no host is refused before anybody is asked (N1, N2)") {
  const auto resolver = newSystemResolver(io);
  const std::string long253 = std::string(63, 'x') + "." + std::string(63, 'x') + "." + std::string(63, 'x') + "." + std::string(62, 'y');
  for (const std::string& text : {std::string(), std::string("localhost\0.evil.example", 23), std::string("b\xc3\xbc"
                                                                                                      "cher.example"),
                                  std::string("ho st"), std::string("ho\nst"), long253, std::string("0x7f000001"), std::string("127.1"),
                                  std::string("2130706433"), std::string("localhost:80"), std::string("127.0.0.1:80"), std::string("[::1]:80"),
                                  std::string("*"), std::string("unix:/run/x"), std::string(100'000, 'a')}) {
    CAPTURE(text.substr(0, 300));
    Promise<Addresses> lookup = resolver->lookUp(text);
    REQUIRE(lookup.poll(scope));
    const Exception e = failureOf(std::move(lookup), scope);
    CHECK(kindName(e) == "FAILED");
    CHECK((e.code() == std::errc::invalid_argument));
    CHECK(fileOf(e) == "system_resolver_test.cc");
  }
}

TEST_CASE_FIXTURE(IoTest, "an address gives its name, whatever its port") {
  const FakeName v4("192.0.2.7", "seven.troth.test");
  const FakeName v6("2001:db8::7", "six.troth.test");
  const auto resolver = newSystemResolver(io);
  CHECK(resolver->lookUpName(SocketAddress::parse("192.0.2.7:80")).wait(scope) == "seven.troth.test");
  CHECK(resolver->lookUpName(SocketAddress::parse("[2001:db8::7]:0")).wait(scope) == "six.troth.test");
}

TEST_CASE_FIXTURE(IoTest, "errors have a kind, the subject in their text, a code that compares, and the caller's place") {
  const struct {
    int error;
    std::string_view kind;
    LookupErrc code;
  } rows[] = {
      {EAI_NONAME, "FAILED", LookupErrc::NOT_FOUND},
      {EAI_AGAIN, "OVERLOADED", LookupErrc::UNAVAILABLE},
      {EAI_FAIL, "FAILED", LookupErrc::SERVER_FAILED},
  };
  const auto resolver = newSystemResolver(io);
  for (const auto& row : rows) {
    CAPTURE(row.error);
    const FakeHost host("bad.troth.test", row.error);
    const FakeName name("192.0.2.7", row.error);
    const Exception byName = failureOf(resolver->lookUp("bad.troth.test"), scope);
    CHECK(contains(byName.description(), "looking up host \"bad.troth.test\": "));
    const Exception byAddress = failureOf(resolver->lookUpName(SocketAddress::parse("192.0.2.7:80")), scope);
    CHECK(contains(byAddress.description(), "looking up the name of 192.0.2.7: "));
    for (const Exception& e : {byName, byAddress}) {
      CHECK(kindName(e) == row.kind);
      CHECK(fileOf(e) == "system_resolver_test.cc");
      for (const LookupErrc code : {LookupErrc::NOT_FOUND, LookupErrc::UNAVAILABLE, LookupErrc::SERVER_FAILED})
        CHECK((e.code() == code) == (code == row.code));
    }
  }
  const FakeHost memory("bad.troth.test", EAI_MEMORY);
  const Exception e = failureOf(resolver->lookUp("bad.troth.test"), scope);
  CHECK(kindName(e) == "OVERLOADED");
  CHECK((e.code() == std::errc::not_enough_memory));
}

TEST_CASE_FIXTURE(IoTest, "an answer without an address is an error: not found") {
  const FakeHost host("empty.troth.test", Texts());
  const FakeName name("192.0.2.7", std::string());
  const auto resolver = newSystemResolver(io);
  CHECK((failureOf(resolver->lookUp("empty.troth.test"), scope).code() == LookupErrc::NOT_FOUND));
  CHECK((failureOf(resolver->lookUpName(SocketAddress::parse("192.0.2.7:80")), scope).code() == LookupErrc::NOT_FOUND));
}

TEST_CASE("the conditions of look-ups have texts of their own, and no code of something else equals them") {
  CHECK(make_error_condition(LookupErrc::NOT_FOUND).message() == "there is no such host");
  CHECK(make_error_condition(LookupErrc::UNAVAILABLE).message() != make_error_condition(LookupErrc::SERVER_FAILED).message());
  CHECK((std::make_error_code(std::errc::operation_not_permitted) != LookupErrc::NOT_FOUND)); // its value is 1, too
}

TEST_CASE_FIXTURE(IoTest, "the address of a Unix socket has no name, and a resolver without threads none at all: misuse") {
  const auto resolver = newSystemResolver(io);
  const Exception e = thrownBy([&] { (void)resolver->lookUpName(SocketAddress::unixPath("/run/x")); });
  CHECK(contains(e.description(), "unix:/run/x"));
  CHECK(fileOf(e) == "system_resolver_test.cc");
  CHECK(fileOf(thrownBy([&] { newSystemResolver(io, {.parallel = 0}); })) == "system_resolver_test.cc");
}

// -------------------------------------------------------------------------------------------- sharing

TEST_CASE_FIXTURE(IoTest, "those who ask the same at the same time share one request, each with an answer of its own") {
  FakeHost host("one.troth.test", {"192.0.2.7"});
  host.hold();
  const auto resolver = newSystemResolver(io);
  std::vector<Promise<Addresses>> lookups;
  for (int i = 0; i < 100; ++i) lookups.push_back(resolver->lookUp("one.troth.test"));
  host.awaitLookup();
  REQUIRE(!lookups[0].poll(scope));
  lookups.push_back(resolver->lookUp("one.troth.test")); // while it runs
  lookups.erase(lookups.begin(), lookups.begin() + 50);  // also the one who asked first
  host.release();
  for (Promise<Addresses>& lookup : lookups) CHECK((textsOf(std::move(lookup).wait(scope)) == Texts{"192.0.2.7:0"}));
  CHECK(host.lookups() == 1);
  CHECK(resolver->lookUp("one.troth.test").wait(scope).size() == 1);
  CHECK(host.lookups() == 2); // an answer is not kept
}

TEST_CASE_FIXTURE(IoTest, "those who share an error each have their own place in it") {
  FakeHost host("bad.troth.test", EAI_NONAME);
  host.hold();
  const auto resolver = newSystemResolver(io);
  Promise<Addresses> first = resolver->lookUp("bad.troth.test");
  Promise<Addresses> second = resolver->lookUp("bad.troth.test");
  host.release();
  const Exception e = failureOf(std::move(first), scope);
  const Exception other = failureOf(std::move(second), scope);
  CHECK(e.where().line() + 1 == other.where().line());
  CHECK(host.lookups() == 1);
}

TEST_CASE_FIXTURE(IoTest, "look-ups of names are shared, whatever the port") {
  const FakeName name("192.0.2.7", "seven.troth.test");
  const auto resolver = newSystemResolver(io);
  Promise<std::string> first = resolver->lookUpName(SocketAddress::parse("192.0.2.7:1"));
  Promise<std::string> second = resolver->lookUpName(SocketAddress::parse("192.0.2.7:2"));
  CHECK(std::move(first).wait(scope) == "seven.troth.test");
  CHECK(std::move(second).wait(scope) == "seven.troth.test");
  CHECK(name.lookups() == 1);
}

TEST_CASE_FIXTURE(IoTest, "a request that nobody waits for any more can still be joined while it runs") {
  FakeHost host("slow.troth.test", {"192.0.2.7"});
  host.hold();
  const auto resolver = newSystemResolver(io);
  {
    Promise<Addresses> dropped = resolver->lookUp("slow.troth.test");
    host.awaitLookup();
    REQUIRE(!dropped.poll(scope));
  }
  scope.poll();
  Promise<Addresses> again = resolver->lookUp("slow.troth.test");
  REQUIRE(!again.poll(scope));
  host.release();
  CHECK(std::move(again).wait(scope).size() == 1);
  CHECK(host.lookups() == 1);
}

TEST_CASE_FIXTURE(IoTest, "a request that was withdrawn before it began cannot be joined: another begins (R5, N3)") {
  const FakeHost host("queued.troth.test", {"192.0.2.7"});
  const auto resolver = newSystemResolver(io);
  BusyThreadPool busy(io);
  {
    Promise<Addresses> dropped = resolver->lookUp("queued.troth.test");
    REQUIRE(!dropped.poll(scope));
  }
  Promise<Addresses> again = resolver->lookUp("queued.troth.test");
  busy.release();
  CHECK(std::move(again).wait(scope).size() == 1);
  CHECK(host.lookups() == 1);
}

// ------------------------------------------------------------------------------------------- the line

TEST_CASE_FIXTURE(IoTest, "no more look-ups than the option says are with the thread pool; the others wait in line, and can leave it (N3)") {
  std::deque<FakeHost> hosts;
  const auto resolver = newSystemResolver(io);
  std::vector<Promise<Addresses>> lookups;
  for (int i = 0; i < 6; ++i) {
    const std::string name = "host" + std::to_string(i) + ".troth.test";
    hosts.emplace_back(name, Texts{"192.0.2." + std::to_string(i + 1)}).hold();
    lookups.push_back(resolver->lookUp(name));
  }
  hosts[0].awaitLookup();
  hosts[1].awaitLookup();
  for (Promise<Addresses>& lookup : lookups) REQUIRE(!lookup.poll(scope));
  for (std::size_t i = 2; i < 6; ++i) CHECK(hosts[i].lookups() == 0);
  lookups.erase(lookups.begin() + 3); // in line: it never begins
  for (FakeHost& host : hosts) host.release();
  CHECK((textsOf(std::move(lookups[4]).wait(scope)) == Texts{"192.0.2.6:0"}));
  CHECK((textsOf(std::move(lookups[2]).wait(scope)) == Texts{"192.0.2.3:0"}));
  CHECK(hosts[3].lookups() == 0);
  CHECK(hosts[4].lookups() == 1);
}

TEST_CASE_FIXTURE(IoTest, "one look-up at a time, if that is the option, answers all") {
  std::deque<FakeHost> hosts;
  const auto resolver = newSystemResolver(io, {.parallel = 1});
  std::vector<Promise<Addresses>> lookups;
  for (int i = 0; i < 5; ++i) {
    const std::string name = "host" + std::to_string(i) + ".troth.test";
    hosts.emplace_back(name, Texts{"192.0.2.1"});
    lookups.push_back(resolver->lookUp(name));
  }
  hosts[0].hold();
  hosts[0].release();
  for (Promise<Addresses>& lookup : lookups) CHECK(std::move(lookup).wait(scope).size() == 1);
}

TEST_CASE_FIXTURE(IoTest, "a thousand look-ups whose name servers do not answer hold up no file work (N3)") {
  std::deque<FakeHost> hosts;
  const auto resolver = newSystemResolver(io);
  std::vector<Promise<Addresses>> lookups;
  for (int i = 0; i < 1000; ++i) {
    const std::string name = "host" + std::to_string(i) + ".troth.test";
    hosts.emplace_back(name, Texts{"192.0.2.1"}).hold();
    lookups.push_back(resolver->lookUp(name));
    Promise<Addresses> dropped = resolver->lookUp(name);
  }
  hosts[0].awaitLookup();
  hosts[1].awaitLookup();
  CHECK(openDirectory(io, "/").wait(scope) != nullptr); // goes by the same threads
  CHECK(!lookups[0].poll(scope));
  for (FakeHost& host : hosts) host.release();
  for (Promise<Addresses>& lookup : lookups) CHECK(std::move(lookup).wait(scope).size() == 1);
  for (const FakeHost& host : hosts) REQUIRE(host.lookups() == 1);
}

// ----------------------------------------------------------------------------------------- cancelling

TEST_CASE_FIXTURE(IoTest, "a name server that does not answer is bounded by the caller's deadline, in line or not (N4)") {
  FakeHost silent("silent.troth.test", {"192.0.2.1"});
  const FakeHost other("other.troth.test", {"192.0.2.2"});
  silent.hold();
  const auto resolver = newSystemResolver(io, {.parallel = 1});
  Promise<Addresses> first = io.timer().timeoutAfter(2ms, resolver->lookUp("silent.troth.test"));
  Promise<Addresses> second = io.timer().timeoutAfter(2ms, resolver->lookUp("other.troth.test"));
  silent.awaitLookup();
  CHECK(kindName(failureOf(std::move(first), scope)) == "OVERLOADED");
  CHECK(kindName(failureOf(std::move(second), scope)) == "OVERLOADED");
  silent.release();
  CHECK(resolver->lookUp("other.troth.test").wait(scope).size() == 1);
  CHECK(other.lookups() == 1);
}

TEST_CASE_FIXTURE(IoTest, "a resolver that is destroyed rejects what is pending, in line or not, and what runs ends unheard (R14)") {
  FakeHost slow("slow.troth.test", {"192.0.2.1"});
  FakeHost queued("queued.troth.test", {"192.0.2.2"});
  slow.hold();
  auto resolver = newSystemResolver(io, {.parallel = 1});
  Promise<Addresses> running = resolver->lookUp("slow.troth.test");
  Promise<Addresses> waiting = resolver->lookUp("queued.troth.test");
  Promise<Addresses> dropped = resolver->lookUp("queued.troth.test");
  slow.awaitLookup();
  REQUIRE(!running.poll(scope));
  resolver.reset();
  for (Promise<Addresses>* lookup : {&running, &waiting}) {
    REQUIRE(lookup->poll(scope));
    const Exception e = failureOf(std::move(*lookup), scope);
    CHECK(kindName(e) == "DISCONNECTED");
    CHECK(contains(e.description(), "looking up host"));
    CHECK(contains(e.description(), "the resolver was destroyed"));
    CHECK(fileOf(e) == "system_resolver_test.cc");
  }
  slow.release();
  scope.poll();
  CHECK(queued.lookups() == 0);
}

TEST_CASE_FIXTURE(IoTest, "an answer that nobody has taken may go after the resolver, and before its result") {
  const FakeHost host("one.troth.test", {"192.0.2.1"});
  auto resolver = newSystemResolver(io);
  Promise<Addresses> taken = resolver->lookUp("one.troth.test");
  Promise<Addresses> dropped = resolver->lookUp("one.troth.test");
  while (!taken.poll(scope)) {}
  resolver.reset();
  CHECK(std::move(taken).wait(scope).size() == 1);
}

TEST_CASE("a context may go while look-ups run whose promises were dropped (R13, R14)") {
  FakeHost host("slow.troth.test", {"192.0.2.1"});
  FakeHost other("other.troth.test", {"192.0.2.1"});
  host.hold();
  IoTest test;
  {
    const auto resolver = newSystemResolver(test.io, {.parallel = 1});
    Promise<Addresses> running = resolver->lookUp("slow.troth.test");
    Promise<Addresses> queued = resolver->lookUp("other.troth.test");
    host.awaitLookup();
    test.scope.poll();
  }
  host.release();
}

namespace {

struct FakeHosts {
  FakeHost one{"one.troth.test", {"192.0.2.1", "2001:db8::1"}};
  FakeHost two{"two.troth.test", {"192.0.2.2"}};
  FakeHost bad{"bad.troth.test", EAI_NONAME};
  FakeName name{"192.0.2.1", "one.troth.test"};
};

Promise<void> lookUpAll(IoTest& test) {
  const auto resolver = newSystemResolver(test.io, {.parallel = 1});
  Promise<Addresses> second = resolver->lookUp("two.troth.test").eagerlyEvaluate(nullptr);
  const Promise<Addresses> failing = resolver->lookUp("bad.troth.test").eagerlyEvaluate(nullptr);
  const Promise<Addresses> twin = resolver->lookUp("two.troth.test").eagerlyEvaluate(nullptr);
  const Addresses found = co_await resolver->lookUp("one.troth.test");
  CHECK(found.size() == 2);
  const std::string back = co_await resolver->lookUpName(found.front());
  CHECK(back == "one.troth.test");
  const Addresses others = co_await std::move(second);
  CHECK(others.size() == 1);
}

} // namespace

TEST_CASE("look-ups can be cancelled at every step (R5, N3)") {
  const FakeHosts hosts;
  CHECK(cancelSweep(lookUpAll) > 3);
}

TEST_CASE("when an allocation of a resolver's look-up fails, that is reported, nothing is lost and the loop goes on (R6)") {
  const FakeHosts hosts;
  CHECK((starveSweep([](IoTest& test) { lookUpAll(test).wait(test.scope); }) > 3 || SANITIZED));
}
