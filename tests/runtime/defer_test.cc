// SPDX-License-Identifier: MIT
// TROTH_DEFER, defer() and UnwindDetector: when deferred code runs, what becomes of its exceptions.
#include "helpers.h"

#include <troth/runtime/defer.h>

#include <memory>
#include <stdexcept>

using namespace troth;
using namespace troth::test;

namespace {

/// Calls a function in its destructor, which says whether it is unwinding.
template <typename Func>
class AtExit {
public:
  explicit AtExit(Func f) : f_(std::move(f)) {}
  AtExit(const AtExit&) = delete;
  AtExit& operator=(const AtExit&) = delete;
  ~AtExit() noexcept(false) { f_(unwind_); }

private:
  Func f_;
  UnwindDetector unwind_;
};

} // namespace

static_assert(std::is_nothrow_destructible_v<Deferred<void (*)()>>);
static_assert(std::is_nothrow_move_constructible_v<Deferred<void (*)()>>);
static_assert(!std::is_copy_constructible_v<Deferred<void (*)()>>);
static_assert(!std::is_move_assignable_v<Deferred<void (*)()>>);

TEST_CASE("deferred blocks run at the end of the scope, last to first") {
  std::string log;
  {
    TROTH_DEFER { log += "first "; };
    TROTH_DEFER { log += "second "; };
    TROTH_DEFER { log += "third "; };
    log += "body ";
  }
  CHECK(log == "body third second first ");
}

TEST_CASE("a deferred block runs on return and on an exception, and may hold another") {
  std::string log;
  const auto leave = [&](int way) {
    TROTH_DEFER {
      TROTH_DEFER { log += "inner "; };
      log += "outer ";
    };
    if (way == 0) return;
    if (way == 1) throw std::out_of_range("x");
    log += "end ";
  };
  leave(0);
  CHECK(log == "outer inner ");
  log.clear();
  CHECK_THROWS_AS(leave(1), std::out_of_range);
  CHECK(log == "outer inner ");
  log.clear();
  leave(2);
  CHECK(log == "end outer inner ");
}

TEST_CASE("a deferred block that is not reached does not run") {
  int ran = 0;
  const auto leave = [&](bool early) {
    if (early) return;
    TROTH_DEFER { ++ran; };
  };
  leave(true);
  CHECK(ran == 0);
  leave(false);
  CHECK(ran == 1);
}

TEST_CASE("defer runs its function once: when it goes, or by run") {
  int ran = 0;
  {
    const auto guard = defer([&] { ++ran; });
    CHECK(ran == 0);
  }
  CHECK(ran == 1);
  {
    auto guard = defer([&] { ++ran; });
    guard.run();
    CHECK(ran == 2);
    guard.run();
    CHECK(ran == 2);
  }
  CHECK(ran == 2);
}

TEST_CASE("a cancelled function does not run, and what it holds goes at once") {
  int ran = 0;
  auto held = std::make_shared<int>(1);
  {
    auto guard = defer([&ran, held] { ++ran; });
    CHECK(held.use_count() == 2);
    guard.cancel();
    CHECK(held.use_count() == 1);
    guard.run();
  }
  CHECK(ran == 0);
  auto guard = defer([&ran, held] { ++ran; });
  guard.run();
  CHECK(held.use_count() == 1);
  CHECK(ran == 1);
}

TEST_CASE("moving passes the duty on") {
  int ran = 0;
  {
    auto guard = defer([&, one = std::make_unique<int>(1)] { ran += *one; });
    {
      const auto moved = std::move(guard);
      CHECK(ran == 0);
    }
    CHECK(ran == 1);
    guard.run();
  }
  CHECK(ran == 1);
}

TEST_CASE("the function may run or cancel its own guard") {
  int ran = 0;
  struct Holder {
    int& ran;
    std::unique_ptr<Deferred<std::function<void()>>> guard;
  } holder{ran, nullptr};
  holder.guard = std::make_unique<Deferred<std::function<void()>>>([&] {
    ++ran;
    holder.guard->run();
    holder.guard->cancel();
  });
  holder.guard->run();
  holder.guard.reset();
  CHECK(ran == 1);
}

TEST_CASE("what the function throws in run goes to the caller, and it does not run again") {
  int ran = 0;
  {
    auto guard = defer([&] {
      ++ran;
      throw std::out_of_range("x");
    });
    CHECK_THROWS_AS(guard.run(), std::out_of_range);
  }
  CHECK(ran == 1);
}

TEST_CASE("what a deferred block throws while another exception is in flight is dropped") {
  int ran = 0;
  const auto body = [&] {
    TROTH_DEFER { ++ran; };
    TROTH_DEFER {
      ++ran;
      throw std::logic_error("second");
    };
    throw std::out_of_range("first");
  };
  CHECK_THROWS_AS(body(), std::out_of_range);
  CHECK(ran == 2);
}

TEST_CASE("what a deferred block throws otherwise is thrown from the end of the scope") {
  int ran = 0;
  const auto body = [&] {
    TROTH_DEFER { ++ran; };
    TROTH_DEFER { throw std::out_of_range("broken cleaning"); };
  };
  CHECK_THROWS_AS(body(), std::out_of_range);
  CHECK(ran == 1);
}

TEST_CASE_FIXTURE(LoopTest, "what a deferred block of a coroutine throws rejects it, or is dropped if it is cancelled") {
  const auto body = [](Promise<void> until) -> Promise<void> {
    TROTH_DEFER { throw std::out_of_range("broken cleaning"); };
    co_await std::move(until);
  };
  CHECK_THROWS_AS(body(READY_NOW).wait(scope), std::out_of_range);
  Promise<void> cancelled = body(NEVER_DONE);
  scope.poll();
}

TEST_CASE("what a function throws in the destructor of its guard ends the program, with its text and place") {
  const ChildEnd end = runInChild([] { auto guard = defer([] { throw std::logic_error("broken cleaning"); }); });
  CHECK(end.aborted);
  CHECK(contains(end.errors, "a deferred function threw: broken cleaning"));
  CHECK(contains(end.errors, "defer_test.cc:"));
}

TEST_CASE("UnwindDetector tells an exception from the other ways out") {
  std::string log;
  const auto leave = [&](bool byException) {
    AtExit guard([&](const UnwindDetector& unwind) { log += unwind.isUnwinding() ? "exception " : "end "; });
    if (byException) throw std::out_of_range("x");
  };
  leave(false);
  CHECK_THROWS_AS(leave(true), std::out_of_range);
  try {
    throw std::logic_error("handled");
  } catch (const std::logic_error&) {
    leave(false);
  }
  CHECK(log == "end exception end ");
}

TEST_CASE("UnwindDetector is right in functions that a destructor calls during unwinding") {
  std::string log;
  const auto leave = [&](bool byException) {
    AtExit guard([&](const UnwindDetector& unwind) { log += unwind.isUnwinding() ? "exception " : "end "; });
    if (byException) throw std::logic_error("inner");
  };
  const auto outer = [&] {
    AtExit guard([&](const UnwindDetector& unwind) {
      leave(false);
      try {
        leave(true);
      } catch (const std::logic_error&) {
        log += "caught ";
      }
      log += unwind.isUnwinding() ? "exception " : "end ";
    });
    throw std::out_of_range("outer");
  };
  CHECK_THROWS_AS(outer(), std::out_of_range);
  CHECK(log == "end exception caught exception ");
}

TEST_CASE("catchExceptionsIfUnwinding drops an exception exactly while another one is in flight") {
  int ran = 0;
  const auto leave = [&](bool byException) {
    AtExit guard([&](const UnwindDetector& unwind) {
      unwind.catchExceptionsIfUnwinding([&] {
        ++ran;
        throw std::logic_error("from the destructor");
      });
    });
    if (byException) throw std::out_of_range("first");
  };
  CHECK_THROWS_AS(leave(false), std::logic_error);
  CHECK_THROWS_AS(leave(true), std::out_of_range);
  CHECK(ran == 2);
}

TEST_CASE_FIXTURE(LoopTest, "deferred blocks of a coroutine run when it is cancelled, last to first") {
  std::string log;
  const auto body = [&]() -> Promise<void> {
    TROTH_DEFER { log += "outer "; };
    co_await READY_NOW;
    TROTH_DEFER { log += "inner "; };
    co_await NEVER_DONE;
    log += "never ";
  };
  {
    Promise<void> promise = body();
    scope.poll();
    CHECK(log.empty());
  }
  CHECK(log == "inner outer ");
}

TEST_CASE_FIXTURE(LoopTest, "a cancelled coroutine is not unwinding, one that throws is") {
  std::string log;
  const auto body = [&](Promise<void> promise) -> Promise<void> {
    AtExit guard([&](const UnwindDetector& unwind) { log += unwind.isUnwinding() ? "exception " : "end "; });
    co_await std::move(promise);
  };
  {
    Promise<void> promise = body(NEVER_DONE);
    scope.poll();
  }
  CHECK(log == "end ");
  log.clear();
  failureOf(body(Exception(Exception::Kind::FAILED, "x")), scope);
  CHECK(log == "exception ");
  log.clear();
  body(READY_NOW).wait(scope);
  CHECK(log == "end ");
}

TEST_CASE_FIXTURE(LoopTest, "a coroutine that is cancelled by an exception of its owner is unwinding") {
  std::string log;
  const auto body = [&]() -> Promise<void> {
    AtExit guard([&](const UnwindDetector& unwind) {
      log += unwind.isUnwinding() ? "exception " : "end ";
      unwind.catchExceptionsIfUnwinding([] { throw std::logic_error("dropped"); });
    });
    TROTH_DEFER { throw std::logic_error("dropped too"); };
    co_await NEVER_DONE;
  };
  const auto owner = [&] {
    Promise<void> promise = body();
    scope.poll();
    throw std::out_of_range("owner");
  };
  CHECK_THROWS_AS(owner(), std::out_of_range);
  CHECK(log == "exception ");
}

TEST_CASE_FIXTURE(LoopTest, "a guard attached to a promise runs when the promise is done with or cancelled") {
  int ran = 0;
  Promise<int> done = Promise<int>(3).attach(defer([&] { ++ran; }));
  CHECK(ran == 0);
  CHECK(std::move(done).wait(scope) == 3);
  CHECK(ran == 1);
  {
    Promise<void> pending = Promise<void>(NEVER_DONE).attach(defer([&] { ++ran; }));
    scope.poll();
    CHECK(ran == 1);
  }
  CHECK(ran == 2);
}
