// SPDX-License-Identifier: MIT
// What every test stands on: a loop that must end with nothing left, and helpers that state order.
#pragma once

#include <troth/io/async_io.h>
#include <troth/runtime/event_loop.h>
#include <troth/runtime/promise.h>

#include <doctest/doctest.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

namespace troth::test {

/// The number of open descriptors of this process.
std::size_t openDescriptors();

/// Checks, when it goes, that what was made since it came is gone: blocks of the pool and descriptors.
class NothingLeft {
public:
  NothingLeft();
  ~NothingLeft();

private:
  std::int64_t blocks_;
  std::size_t descriptors_;
};

/// A loop without a world, for tests of promises. Use by `TEST_CASE_FIXTURE(LoopTest, "…")`.
class LoopTest {
public:
  LoopTest() : scope(loop) {}

private:
  NothingLeft nothingLeft_; // first, so it looks last

public:
  EventLoop loop;
  WaitScope scope;
};

/// A loop on libuv, for tests of adapters. That `uv_loop_close` returned 0 is checked by the port itself,
/// which aborts otherwise.
class IoTest {
public:
  IoTest() : io(setupAsyncIo()), scope(io.waitScope()) {}

  /// One step: an event if one is queued, else whatever libuv reports next (blocking, but not for ever: every
  /// caller has something pending).
  void step();

private:
  NothingLeft nothingLeft_;

public:
  AsyncIoContext io;
  WaitScope& scope;
};

/// Asserts that `promise` is pending, calls `cause`, asserts that it is ready, and takes its result.
template <typename T, typename Cause>
T takeAfter(Promise<T>& promise, WaitScope& scope, Cause&& cause) {
  REQUIRE_MESSAGE(!promise.poll(scope), "the promise was ready before its cause");
  cause();
  REQUIRE_MESSAGE(promise.poll(scope), "the promise was not ready after its cause");
  return std::move(promise).wait(scope);
}

/// The exception with which a promise fails; fails the test if it does not.
template <typename T>
Exception failureOf(Promise<T> promise, WaitScope& scope) {
  try {
    std::move(promise).wait(scope);
  } catch (const Exception& e) {
    return e;
  }
  FAIL("the promise did not fail");
  return Exception(Exception::Kind::FAILED, "unreachable");
}

/// The exception that `call` throws; fails the test if it throws none.
template <typename Call>
Exception thrownBy(Call&& call) {
  try {
    call();
  } catch (const Exception& e) {
    return e;
  }
  FAIL("nothing was thrown");
  return Exception(Exception::Kind::FAILED, "unreachable");
}

/// Whether `text` has `part` in it.
inline bool contains(std::string_view text, std::string_view part) { return text.find(part) != std::string_view::npos; }

/// Cancels everywhere: runs `body` to its end, counting the steps, then again for each k, destroying its
/// promise after k steps. Each run has a fixture of its own, which checks that nothing is left. `body` may keep
/// its state in whatever its promise owns. Returns the number of steps of the full run.
std::size_t cancelSweep(const std::function<Promise<void>(LoopTest&)>& body);
std::size_t cancelSweep(const std::function<Promise<void>(IoTest&)>& body);

} // namespace troth::test
