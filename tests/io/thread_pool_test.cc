// SPDX-License-Identifier: MIT
// runInThreadPool: results, exceptions, threads, and what is dropped.
#include "../runtime/helpers.h"

#include <troth/io/thread_pool.h>
#include <troth/runtime/join.h>
#include <troth/runtime/uv/uv_event_port.h>

#include <atomic>
#include <future>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

using namespace troth;
using namespace troth::test;

TEST_CASE_FIXTURE(IoTest, "a function runs on another thread and its result comes back") {
  const auto here = std::this_thread::get_id();
  CHECK(runInThreadPool(io, [] { return std::this_thread::get_id(); }).wait(scope) != here);
  CHECK(runInThreadPool(io, [n = std::make_unique<int>(7)]() mutable { return std::move(n); }).wait(scope) != nullptr);
  bool ran = false;
  runInThreadPool(io, [&] { ran = true; }).wait(scope);
  CHECK(ran);
  CHECK(runInThreadPool(io, [] { return Item(3); }).wait(scope).number() == 3);
  CHECK(Item::alive == 0);
}

TEST_CASE_FIXTURE(IoTest, "what a function in the thread pool throws is thrown again as itself") {
  CHECK_THROWS_AS(runInThreadPool(io, [] { throw std::out_of_range("far"); }).wait(scope), std::out_of_range);
  const Exception e = failureOf(
      runInThreadPool(io, []() -> int { throw Exception(Exception::Kind::UNIMPLEMENTED, "not here"); }), scope);
  CHECK(kindName(e) == "UNIMPLEMENTED");
  CHECK(e.description() == "not here");
}

TEST_CASE_FIXTURE(IoTest, "a function that is running when its promise goes ends, and what it has goes on the loop's thread (R14)") {
  auto entered = std::make_shared<std::promise<void>>();
  auto leave = std::make_shared<std::promise<void>>();
  std::thread::id destroyedOn;
  const auto note = std::make_shared<OnExit>([&] { destroyedOn = std::this_thread::get_id(); });
  {
    Promise<std::shared_ptr<OnExit>> running = runInThreadPool(io, [entered, leave, note]() mutable {
      entered->set_value();
      leave->get_future().wait();
      return std::move(note);
    });
    entered->get_future().wait();
  }
  std::weak_ptr<OnExit> watch = note;
  const_cast<std::shared_ptr<OnExit>&>(note).reset();
  CHECK_FALSE(watch.expired());
  leave->set_value();
  for (int i = 0; i < 1000 && !watch.expired(); ++i) io.uvEventPort().wait();
  CHECK(watch.expired());
  CHECK(destroyedOn == std::this_thread::get_id());
}

TEST_CASE_FIXTURE(IoTest, "many functions share the pool, and those that nobody waits for any more are never called") {
  std::vector<Promise<int>> all;
  std::atomic<int> calls = 0;
  for (int i = 0; i < 200; ++i) all.push_back(runInThreadPool(io, [&calls, i] { ++calls; return i; }));
  const std::vector<int> results = joinPromises(std::move(all)).wait(scope);
  for (int i = 0; i < 200; ++i) CHECK(results[static_cast<std::size_t>(i)] == i);
  CHECK(calls == 200);

  auto leave = std::make_shared<std::promise<void>>();
  const std::shared_future<void> open = leave->get_future().share();
  std::vector<Promise<void>> blocking;
  for (int i = 0; i < 64; ++i) blocking.push_back(runInThreadPool(io, [open] { open.wait(); }));
  { Promise<void> dropped = runInThreadPool(io, [&calls] { ++calls; }); }
  leave->set_value();
  joinPromises(std::move(blocking)).wait(scope);
  CHECK(calls == 200);
}

TEST_CASE("cancelling functions in the thread pool at every step leaves nothing") {
  CHECK(cancelSweep([](IoTest& test) -> Promise<void> {
    CHECK(co_await runInThreadPool(test.io, [] { return std::string("one"); }) == "one");
    try {
      co_await runInThreadPool(test.io, [] { throw std::runtime_error("two"); });
    } catch (const std::runtime_error&) {
    }
  }) >= 2);
}
