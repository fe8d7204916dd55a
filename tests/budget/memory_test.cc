// SPDX-License-Identifier: MIT
// Bytes of heap that a pending promise holds.
#include "counting.h"
#include "operations.h"

#include <troth/runtime/join.h>
#include <troth/runtime/pool_detail.h>

#include <doctest/doctest.h>

#include <chrono>
#include <memory>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

namespace troth::budget {
namespace {

using namespace std::chrono_literals;

constexpr std::size_t MANY = 10'000;

/// The bytes for each of many promises, or other things, that `make` makes and that all exist at a time.
/// `release` destroys those that the result of `make` does not own.
template <typename Make, typename Release = void (*)()>
std::uint64_t bytesEach(
    Make&& make, Release&& release = [] {}) {
  using Made = decltype(make());
  std::vector<Made> all;
  all.reserve(MANY);
  detail::trimPool(); // so that blocks come from the heap
  const auto blocks = detail::liveBlocks();
  const HeapUse use = heapUseOf([&] {
    for (std::size_t i = 0; i < MANY; ++i) all.push_back(make());
  });
  CHECK(detail::liveBlocks() > blocks);
  all.clear();
  release();
  CHECK(detail::liveBlocks() == blocks);
  return use.bytes / MANY;
}

class Idle {
public:
  explicit Idle(PromiseFulfiller<int>&) {}
};

Promise<int> pending() { return newAdaptedPromise<int, Idle>(); }

int increment(int value) { return value + 1; }

Promise<int> waits() { co_return co_await pending(); }

Promise<int> waitsForWaiting() { co_return co_await waits(); }

#ifdef __clang__
constexpr std::size_t FRAME = 192;
#else
constexpr std::size_t FRAME = 256;
#endif

// 512 bytes is an arena, in which a source has room for the continuations that are chained to it.

TEST_CASE_FIXTURE(World, "a pending operation holds one arena, with some continuations at no cost") {
  CHECK(bytesEach(pending) <= 512);
  CHECK(bytesEach([] { return pending().then(increment); }) <= 512);
  CHECK(bytesEach([] { return pending().then(increment).then(increment).then(increment); }) <= 512);
  CHECK(bytesEach([] { return pending().then([](int) { return pending(); }); }) <= 512);
  CHECK(bytesEach([] { return pending().attach(1).eagerlyEvaluate(nullptr); }) <= 512);
}

TEST_CASE_FIXTURE(World, "a fulfiller costs no more than a pending operation and itself") {
  CHECK(bytesEach([] { return newPromiseAndFulfiller<int>(); }) <= 512 + 64);
}

TEST_CASE_FIXTURE(World, "a suspended coroutine holds its frame and what it waits for") {
  CHECK(bytesEach(waits) <= FRAME + 512);
  CHECK(bytesEach(waitsForWaiting) <= 2 * FRAME + 512);
}

TEST_CASE_FIXTURE(World, "a fork lives in the arena of its work, and a branch in one of its own") {
  CHECK(bytesEach([] { return pending().fork(); }) <= 512);
  CHECK(bytesEach([] {
          auto fork = pending().fork();
          auto first = fork.addBranch();
          return std::tuple(std::move(fork), std::move(first), fork.addBranch());
        }) <= 3 * 512);
}

TEST_CASE_FIXTURE(World, "joins hold their parts and little else") {
  CHECK(bytesEach([] { return pending().exclusiveJoin(NEVER_DONE); }) <= 512);
  CHECK(bytesEach([] { return joinPromises(pending(), pending(), pending()); }) <= 3 * 512 + 704);
}

TEST_CASE_FIXTURE(World, "what a Canceler wraps lives in the arena of the work, a task in a small block beside it") {
  CHECK(bytesEach([this] { return canceler.wrap(pending()); }) <= 512);
  CHECK(bytesEach(
            [this] {
              tasks.add(pending().ignoreResult());
              return 0;
            },
            [this] { tasks.clear(); }) <= 512 + 128);
}

TEST_CASE_FIXTURE(
    World, "a timer holds a block of two cache lines and its place in the queue, which may have grown on the way") {
  CHECK(bytesEach([this] { return timer.afterDelay(1h); }) <= 128 + 96);
}

TEST_CASE_FIXTURE(World, "work that has not begun holds one arena") {
  CHECK(bytesEach([] { return evalLater([] { return 1; }); }) <= 512);
}

} // namespace
} // namespace troth::budget
