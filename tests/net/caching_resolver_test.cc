// SPDX-License-Identifier: MIT
// Tests of the caching resolver on a scripted resolver and a timer by hand: what is kept, for how long and how much of
// it, what is shared, cancelling.
#include "../runtime/helpers.h"

#include <troth/net/resolver.h>
#include <troth/timers/manual_timer.h>

#include <map>
#include <string>
#include <vector>

using namespace troth;
using namespace troth::test;
using namespace std::chrono_literals;

namespace {

using Addresses = std::vector<SocketAddress>;

/// Answers when it is told to, and notes what it is asked and what is cancelled.
class ScriptedResolver final : public Resolver {
public:
  Promise<Addresses> lookUp(std::string_view host, std::source_location) override {
    log += "?" + std::string(host) + " ";
    auto pair = newPromiseAndFulfiller<Addresses>();
    asked[std::string(host)] = std::move(pair.fulfiller);
    return std::move(pair.promise).attach(OnExit([this, name = std::string(host)] {
      if (asked.contains(name)) log += "-" + name + " ";
      asked.erase(name);
    }));
  }

  Promise<std::string> lookUpName(const SocketAddress& address, std::source_location) override {
    log += "?" + address.toString() + " ";
    return std::string("name of " + address.toString());
  }

  void answer(const std::string& host, std::string_view address = "192.0.2.1") {
    const auto fulfiller = take(host);
    fulfiller->fulfill(Addresses{SocketAddress::parse(address)});
  }
  void fail(const std::string& host) {
    const auto fulfiller = take(host);
    fulfiller->reject(Exception(Exception::Kind::FAILED, "no host " + host, std::make_error_code(std::errc::host_unreachable)));
  }

  std::string log;
  std::map<std::string, std::unique_ptr<PromiseFulfiller<Addresses>>> asked;

private:
  std::unique_ptr<PromiseFulfiller<Addresses>> take(const std::string& host) {
    REQUIRE(asked.contains(host));
    auto fulfiller = std::move(asked[host]);
    asked.erase(host);
    return fulfiller;
  }
};

struct CacheTest : LoopTest {
  ScriptedResolver inner;
  ManualTimer timer;

  std::unique_ptr<Resolver> newCache(CachingResolverOptions options = CachingResolverOptions()) {
    return newCachingResolver(inner, timer, options);
  }

  /// Looks up a name that has to be asked for.
  void ask(Resolver& cache, const std::string& host) {
    Promise<Addresses> lookup = cache.lookUp(host);
    takeAfter(lookup, scope, [&] { inner.answer(host); });
  }
  /// Whether the name is known already.
  bool knows(Resolver& cache, const std::string& host) {
    Promise<Addresses> lookup = cache.lookUp(host);
    return lookup.poll(scope);
  }
};

} // namespace

// ------------------------------------------------------------------------------------------- keeping

TEST_CASE_FIXTURE(CacheTest, "an answer is known until its time is over") {
  const auto cache = newCache({.timeToLive = 10s});
  Promise<Addresses> lookup = cache->lookUp("a");
  CHECK(takeAfter(lookup, scope, [&] { inner.answer("a", "192.0.2.7"); })[0].toString() == "192.0.2.7:0");
  timer.advanceBy(9'999'999'999ns);
  Promise<Addresses> known = cache->lookUp("a");
  REQUIRE(known.poll(scope));
  CHECK(std::move(known).wait(scope)[0].toString() == "192.0.2.7:0");
  CHECK(inner.log == "?a ");
  timer.advanceBy(1ns);
  Promise<Addresses> again = cache->lookUp("a");
  CHECK(takeAfter(again, scope, [&] { inner.answer("a", "192.0.2.8"); })[0].toString() == "192.0.2.8:0");
  CHECK(inner.log == "?a ?a ");
  CHECK(knows(*cache, "a"));
  CHECK(!timer.nextEvent()); // a cache alone keeps no loop alive
}

TEST_CASE_FIXTURE(CacheTest, "the time begins with the answer, not with the question") {
  const auto cache = newCache({.timeToLive = 10s});
  Promise<Addresses> lookup = cache->lookUp("a");
  timer.advanceBy(1h);
  takeAfter(lookup, scope, [&] { inner.answer("a"); });
  timer.advanceBy(9s);
  CHECK(knows(*cache, "a"));
}

TEST_CASE_FIXTURE(CacheTest, "of too many answers the one that was not asked for the longest is forgotten") {
  const auto cache = newCache({.capacity = 3});
  for (const char* host : {"a", "b", "c"}) ask(*cache, host);
  CHECK(knows(*cache, "a"));
  ask(*cache, "d"); // in place of b
  for (const char* host : {"a", "c", "d"}) CHECK(knows(*cache, host));
  CHECK(!knows(*cache, "b"));
  CHECK(inner.log == "?a ?b ?c ?d ?b -b ");
}

TEST_CASE_FIXTURE(CacheTest, "a cache of a million names has no more than its capacity") {
  const auto cache = newCache({.capacity = 2});
  for (int i = 0; i < 1000; ++i) ask(*cache, "host" + std::to_string(i));
  CHECK(knows(*cache, "host999"));
  CHECK(knows(*cache, "host998"));
  CHECK(!knows(*cache, "host997"));
}

TEST_CASE_FIXTURE(CacheTest, "without capacity, or without time, nothing is kept") {
  for (const CachingResolverOptions& options : {CachingResolverOptions{.capacity = 0}, CachingResolverOptions{.timeToLive = 0s}}) {
    const auto cache = newCache(options);
    ask(*cache, "a");
    CHECK(!knows(*cache, "a"));
  }
}

TEST_CASE_FIXTURE(CacheTest, "errors are not kept, unless the options give them a time") {
  const auto plain = newCache();
  Promise<Addresses> lookup = plain->lookUp("a");
  inner.fail("a");
  CHECK(contains(failureOf(std::move(lookup), scope).description(), "no host a"));
  CHECK(!knows(*plain, "a"));
  const auto cache = newCache({.errorTimeToLive = 1s});
  Promise<Addresses> failing = cache->lookUp("b");
  inner.fail("b");
  (void)failureOf(std::move(failing), scope);
  Promise<Addresses> known = cache->lookUp("b");
  REQUIRE(known.poll(scope));
  const Exception e = failureOf(std::move(known), scope);
  CHECK(e.description() == "no host b");
  CHECK(kindName(e) == "FAILED");
  CHECK((e.code() == std::errc::host_unreachable));
  CHECK(fileOf(e) == "caching_resolver_test.cc");
  timer.advanceBy(1s);
  CHECK(!knows(*cache, "b"));
}

TEST_CASE_FIXTURE(CacheTest, "names of addresses are kept too, whatever the port") {
  const auto cache = newCache();
  CHECK(cache->lookUpName(SocketAddress::parse("192.0.2.1:80")).wait(scope) == "name of 192.0.2.1:0");
  CHECK(cache->lookUpName(SocketAddress::parse("192.0.2.1:443")).wait(scope) == "name of 192.0.2.1:0");
  CHECK(inner.log == "?192.0.2.1:0 ");
}

// ------------------------------------------------------------------------------------------- sharing

TEST_CASE_FIXTURE(CacheTest, "those who ask the same at the same time share one look-up, and its answer or error") {
  const auto cache = newCache();
  Promise<Addresses> first = cache->lookUp("a");
  Promise<Addresses> second = cache->lookUp("a");
  Promise<Addresses> other = cache->lookUp("b");
  Promise<Addresses> twin = cache->lookUp("b");
  CHECK(inner.log == "?a ?b ");
  inner.answer("a");
  inner.fail("b");
  CHECK(std::move(second).wait(scope).size() == 1);
  CHECK(std::move(first).wait(scope).size() == 1);
  (void)failureOf(std::move(other), scope);
  (void)failureOf(std::move(twin), scope);
}

TEST_CASE_FIXTURE(CacheTest, "a look-up is cancelled with the last who waits for it, and then begun anew") {
  const auto cache = newCache();
  {
    Promise<Addresses> last = cache->lookUp("a");
    { Promise<Addresses> first = cache->lookUp("a"); }
    REQUIRE(!last.poll(scope));
    CHECK(inner.log == "?a ");
  }
  CHECK(inner.log == "?a -a ");
  ask(*cache, "a");
  CHECK(inner.log == "?a -a ?a ");
}

TEST_CASE_FIXTURE(CacheTest, "who asks again while the answer has not been taken gets it from the cache") {
  const auto cache = newCache();
  Promise<Addresses> lookup = cache->lookUp("a");
  inner.answer("a");
  REQUIRE(lookup.poll(scope));
  CHECK(knows(*cache, "a"));
  CHECK(inner.log == "?a ");
}

TEST_CASE_FIXTURE(CacheTest, "an answer that is not kept is not for those who ask after it has come") {
  const auto cache = newCache({.capacity = 0});
  Promise<Addresses> lookup = cache->lookUp("a");
  inner.answer("a");
  REQUIRE(lookup.poll(scope));
  CHECK(!knows(*cache, "a"));
  CHECK(inner.log == "?a ?a -a ");
}

// ---------------------------------------------------------------------------------------- destruction

TEST_CASE_FIXTURE(CacheTest, "a cache that is destroyed rejects what is pending, and cancels the look-ups") {
  auto cache = newCache();
  Promise<Addresses> first = cache->lookUp("a");
  Promise<Addresses> second = cache->lookUp("a");
  REQUIRE(!first.poll(scope));
  cache.reset();
  CHECK(inner.log == "?a -a ");
  for (Promise<Addresses>* lookup : {&first, &second}) {
    REQUIRE(lookup->poll(scope));
    const Exception e = failureOf(std::move(*lookup), scope);
    CHECK(kindName(e) == "DISCONNECTED");
    CHECK(contains(e.description(), "the resolver was destroyed"));
  }
}

TEST_CASE_FIXTURE(CacheTest, "an answer that nobody has taken may go after the cache") {
  auto cache = newCache();
  Promise<Addresses> taken = cache->lookUp("a");
  Promise<Addresses> dropped = cache->lookUp("a");
  inner.answer("a");
  REQUIRE(taken.poll(scope));
  cache.reset();
  CHECK(std::move(taken).wait(scope).size() == 1);
}

namespace {

/// Answers after two turns.
class SlowResolver final : public Resolver {
public:
  Promise<Addresses> lookUp(std::string_view host, std::source_location) override { return answer(std::string(host)); }
  Promise<std::string> lookUpName(const SocketAddress&, std::source_location) override { return std::string("name"); }

private:
  static Promise<Addresses> answer(std::string host) {
    co_await yield();
    co_await yield();
    if (host == "bad") throw Exception(Exception::Kind::FAILED, "no host bad");
    co_return Addresses{SocketAddress::parse("192.0.2.1:0")};
  }
};

Promise<void> lookUpAll(LoopTest&) {
  ManualTimer timer;
  SlowResolver inner;
  const auto cache = newCachingResolver(inner, timer, {.capacity = 1, .errorTimeToLive = 1s});
  Promise<Addresses> first = cache->lookUp("a").eagerlyEvaluate(nullptr);
  const Promise<Addresses> twin = cache->lookUp("a").eagerlyEvaluate(nullptr);
  const Promise<Addresses> bad = cache->lookUp("bad").eagerlyEvaluate(nullptr);
  const Promise<std::string> name = cache->lookUpName(SocketAddress::parse("192.0.2.1:0")).eagerlyEvaluate(nullptr);
  const Addresses found = co_await std::move(first);
  CHECK(found.size() == 1);
  const Addresses other = co_await cache->lookUp("b");
  CHECK(other.size() == 1);
  const Addresses again = co_await cache->lookUp("a");
  CHECK(again.size() == 1);
}

} // namespace

TEST_CASE("cached look-ups can be cancelled at every step (R5)") { CHECK(cancelSweep(lookUpAll) > 3); }

TEST_CASE("when an allocation of a cached look-up fails, that is reported, and nothing is lost (R6)") {
  CHECK((starveSweep([](LoopTest& test) { lookUpAll(test).wait(test.scope); }) > 3 || SANITIZED));
}
