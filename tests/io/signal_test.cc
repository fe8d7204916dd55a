// SPDX-License-Identifier: MIT
// Tests of signals as a stream.
#include "peer.h"

#include <troth/io/signal.h>

#include <uv.h>

#include <unistd.h>

#include <csignal>
#include <thread>

using namespace troth;
using namespace troth::test;

namespace {

bool hasDefaultAction(int signal) {
  struct sigaction action {};
  REQUIRE(sigaction(signal, nullptr, &action) == 0);
  return action.sa_handler == SIG_DFL;
}

} // namespace

TEST_CASE_FIXTURE(IoTest, "a watch gives each signal that comes, with its number") {
  auto watch = newSignalWatch(io, SIGUSR1, SIGUSR2);
  for (const int number : {SIGUSR1, SIGUSR2, SIGUSR2, SIGUSR1}) {
    Promise<int> next = watch->next();
    CHECK(takeAfter(next, scope, [&] { std::raise(number); }) == number);
  }
}

TEST_CASE_FIXTURE(IoTest, "signals that come while nobody waits are remembered in their order, each number once") {
  auto watch = newSignalWatch(io, SIGUSR1, SIGUSR2, SIGWINCH);
  for (const int number : {SIGUSR2, SIGUSR1, SIGUSR2, SIGUSR2, SIGUSR1}) {
    std::raise(number);
    scope.poll();
  }
  CHECK(watch->next().wait(scope) == SIGUSR2);
  CHECK(watch->next().wait(scope) == SIGUSR1);
  Promise<int> next = watch->next();
  CHECK(takeAfter(next, scope, [] { std::raise(SIGUSR2); }) == SIGUSR2);
}

TEST_CASE_FIXTURE(IoTest, "no signal is missed between two waits") {
  auto watch = newSignalWatch(io, SIGUSR1);
  for (int i = 0; i < 100; ++i) {
    std::raise(SIGUSR1); // nobody waits, and the loop does not run
    CHECK(watch->next().wait(scope) == SIGUSR1);
  }
  Promise<int> next = watch->next();
  CHECK(!next.poll(scope));
}

TEST_CASE_FIXTURE(IoTest, "a signal from outside wakes a loop that sleeps") {
  auto watch = newSignalWatch(io, SIGUSR1);
  Promise<int> next = watch->next();
  std::thread sender([] { ::kill(::getpid(), SIGUSR1); });
  CHECK(std::move(next).wait(scope) == SIGUSR1);
  sender.join();
}

TEST_CASE_FIXTURE(IoTest, "two watches for the same signal both get it, and one may go without the other (R5)") {
  auto one = newSignalWatch(io, SIGUSR1);
  auto two = newSignalWatch(io, SIGUSR1, SIGUSR2);
  std::raise(SIGUSR1);
  CHECK(one->next().wait(scope) == SIGUSR1);
  CHECK(two->next().wait(scope) == SIGUSR1);
  one.reset();
  Promise<int> next = two->next();
  CHECK(takeAfter(next, scope, [] { std::raise(SIGUSR1); }) == SIGUSR1);
}

TEST_CASE_FIXTURE(IoTest, "a watch and onSignal both get a signal, in either order of beginning, and the watch goes on") {
  Promise<int> before = io.onSignal(SIGUSR1);
  auto watch = newSignalWatch(io, SIGUSR1);
  Promise<int> after = io.onSignal(SIGUSR1);
  std::raise(SIGUSR1);
  REQUIRE(before.poll(scope));
  REQUIRE(after.poll(scope));
  CHECK(std::move(before).wait(scope) == SIGUSR1);
  CHECK(std::move(after).wait(scope) == SIGUSR1);
  for (int i = 0; i < 2; ++i) {
    CHECK(watch->next().wait(scope) == SIGUSR1);
    std::raise(SIGUSR1);
  }
}

TEST_CASE_FIXTURE(IoTest, "a wait that is cancelled, even when it is ready, leaves the signal for the next") {
  auto watch = newSignalWatch(io, SIGUSR1);
  {
    Promise<int> pending = watch->next();
    REQUIRE(!pending.poll(scope));
  }
  {
    Promise<int> ready = watch->next();
    REQUIRE(!ready.poll(scope));
    std::raise(SIGUSR1);
    REQUIRE(ready.poll(scope));
  }
  CHECK(watch->next().wait(scope) == SIGUSR1);
}

TEST_CASE_FIXTURE(IoTest, "a watch that is destroyed rejects the wait that is pending, with its place") {
  auto watch = newSignalWatch(io, SIGUSR1);
  Promise<int> next = watch->next();
  REQUIRE(!next.poll(scope));
  watch.reset();
  CHECK(hasDefaultAction(SIGUSR1)); // whoever still has the promise
  const Exception e = failureOf(std::move(next), scope);
  CHECK((e.kind() == Exception::Kind::DISCONNECTED));
  CHECK(contains(e.description(), "SignalWatch::next"));
  CHECK(madeIn(e, "signal_test.cc"));
}

TEST_CASE_FIXTURE(IoTest, "a wait that is ready keeps its signal when the watch goes, and may go after it unheard") {
  auto watch = newSignalWatch(io, SIGUSR1);
  Promise<int> taken = watch->next();
  CHECK(takeAfter(taken, scope, [] { std::raise(SIGUSR1); }) == SIGUSR1);
  auto other = newSignalWatch(io, SIGUSR2);
  Promise<int> ready = other->next();
  Promise<int> unheard = watch->next();
  REQUIRE(!ready.poll(scope));
  std::raise(SIGUSR2);
  REQUIRE(ready.poll(scope));
  other.reset();
  watch.reset();
  CHECK(std::move(ready).wait(scope) == SIGUSR2);
}

TEST_CASE_FIXTURE(IoTest, "a watch that goes with a signal on its way to it is heard by nobody (R5)") {
  auto watch = newSignalWatch(io, SIGUSR1);
  std::raise(SIGUSR1); // it is in libuv's pipe now
  watch.reset();
  scope.poll();
  CHECK(sleeps(*this));
}

TEST_CASE_FIXTURE(IoTest, "the default action of a signal is back when its watch has gone") {
  REQUIRE(hasDefaultAction(SIGUSR1));
  auto watch = newSignalWatch(io, SIGUSR1);
  CHECK(!hasDefaultAction(SIGUSR1));
  watch.reset();
  CHECK(hasDefaultAction(SIGUSR1));
}

TEST_CASE_FIXTURE(IoTest, "a second wait is refused while one is pending or not taken") {
  auto watch = newSignalWatch(io, SIGUSR1);
  Promise<int> next = watch->next();
  for (int i = 0; i < 2; ++i) {
    const Exception e = thrownBy([&] { watch->next().poll(scope); });
    CHECK((e.kind() == Exception::Kind::FAILED));
    CHECK(contains(e.description(), "SignalWatch::next"));
    CHECK(madeIn(e, "signal_test.cc"));
    std::raise(SIGUSR1);
    REQUIRE(next.poll(scope));
  }
  CHECK(std::move(next).wait(scope) == SIGUSR1);
}

TEST_CASE_FIXTURE(IoTest, "a signal that cannot be caught is refused with its number, and the others are let go") {
  for (const int number : {SIGKILL, SIGSTOP, 0, -1, 1000}) {
    CAPTURE(number);
    const Exception e = thrownBy([&] { newSignalWatch(io, SIGUSR1, number); });
    CHECK((e.kind() == Exception::Kind::FAILED));
    CHECK(contains(e.description(), "watching signal " + std::to_string(number)));
    CHECK(madeIn(e, "signal_test.cc"));
    CHECK(hasDefaultAction(SIGUSR1));
  }
  CHECK((thrownBy([&] { newSignalWatch(io, std::span<const int>()); }).kind() == Exception::Kind::FAILED));
}

TEST_CASE_FIXTURE(IoTest, "a signal that tells of a fault is refused: the fault would come again and again") {
  for (const int number : {SIGBUS, SIGFPE, SIGILL, SIGSEGV}) {
    struct sigaction before {};
    struct sigaction after {};
    REQUIRE(sigaction(number, nullptr, &before) == 0);
    const Exception e = thrownBy([&] { newSignalWatch(io, number); });
    CHECK((e.kind() == Exception::Kind::FAILED));
    CHECK(contains(e.description(), "watching signal " + std::to_string(number)));
    CHECK(madeIn(e, "signal_test.cc"));
    REQUIRE(sigaction(number, nullptr, &after) == 0);
    CHECK((before.sa_sigaction == after.sa_sigaction));
  }
}

TEST_CASE("a watch keeps a host's loop alive, until it goes") {
  const NothingLeft nothingLeft;
  uv_loop_t loop;
  REQUIRE(uv_loop_init(&loop) == 0);
  {
    HostedAsyncIoContext hosted = setupAsyncIo(&loop);
    auto watch = newSignalWatch(hosted, SIGUSR1);
    CHECK(uv_run(&loop, UV_RUN_NOWAIT) != 0);
    watch.reset();
    CHECK(uv_run(&loop, UV_RUN_DEFAULT) == 0);
  }
  CHECK(uv_run(&loop, UV_RUN_DEFAULT) == 0);
  CHECK(uv_loop_close(&loop) == 0);
}

TEST_CASE_FIXTURE(IoTest, "a number that is given twice counts once") {
  auto watch = newSignalWatch(io, SIGUSR1, SIGUSR1);
  std::raise(SIGUSR1);
  CHECK(watch->next().wait(scope) == SIGUSR1);
  Promise<int> next = watch->next();
  CHECK(!next.poll(scope));
}

TEST_CASE("waiting for signals may be cancelled everywhere") {
  cancelSweep([](IoTest& test) -> Promise<void> {
    auto watch = newSignalWatch(test.io, SIGUSR1, SIGUSR2);
    std::raise(SIGUSR1);
    CHECK(co_await watch->next() == SIGUSR1);
    Promise<int> next = watch->next();
    std::raise(SIGUSR2);
    CHECK(co_await std::move(next) == SIGUSR2);
  });
}
