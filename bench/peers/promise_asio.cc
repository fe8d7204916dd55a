// SPDX-License-Identifier: MIT
// A peer in the promise benchmark: standalone Asio's awaitables, where they have the case.

// Waiting is `io_context::run()`, so each operation begins with `co_spawn` and ends with a context that has run out of
// work. Asio calls nothing a promise: what is ready already has no counterpart here.

#include "../case_runner.h"

#include <asio/associated_cancellation_slot.hpp>
#include <asio/async_result.hpp>
#include <asio/awaitable.hpp>
#include <asio/co_spawn.hpp>
#include <asio/detached.hpp>
#include <asio/error.hpp>
#include <asio/experimental/awaitable_operators.hpp>
#include <asio/experimental/channel.hpp>
#include <asio/experimental/deferred.hpp>
#include <asio/experimental/parallel_group.hpp>
#include <asio/io_context.hpp>
#include <asio/post.hpp>
#include <asio/use_awaitable.hpp>
#include <asio/version.hpp>

#include <cstdlib>
#include <exception>
#include <optional>
#include <string>
#include <utility>
#include <variant>

namespace {

using asio::awaitable;
using asio::use_awaitable;

// A result that one coroutine waits for, and that is made by hand: what is nearest to a promise with a fulfiller.
class Slot {
public:
  explicit Slot(asio::io_context& context) : context_(context) {}

  awaitable<int> wait() {
    return asio::async_initiate<const asio::use_awaitable_t<>, void(int)>(
        [this](auto handler) { waiting_.emplace(std::move(handler)); }, use_awaitable);
  }

  void fulfill(int value) {
    asio::post(context_, [handler = std::move(*waiting_), value]() mutable { std::move(handler)(value); });
    waiting_.reset();
  }

private:
  using Handler = asio::async_result<asio::use_awaitable_t<>, void(int)>::handler_type;

  asio::io_context& context_;
  std::optional<Handler> waiting_;
};

// What outlives a single operation.
struct World {
  asio::io_context context{1};
  Slot slot{context};
  asio::experimental::channel<void(asio::error_code, int)> queue{context, 1};
  int one = 1;
  std::size_t count = 0;

  void run() {
    context.run();
    context.restart();
  }
};

// Runs a coroutine to its end.
int wait(World& world, awaitable<int> coroutine) {
  int result = 0;
  asio::co_spawn(world.context, std::move(coroutine), [&](const std::exception_ptr& failure, int value) {
    BENCH_CHECK(!failure);
    result = value;
  });
  world.run();
  return result;
}

void empty(World& world) {
  bench::keep(world.one);
  BENCH_CHECK(world.one == 1);
}

// --- Coroutines -------------------------------------------------------------------------------------------------

[[gnu::noinline]] awaitable<int> returnAnswer() { co_return 42; }

[[gnu::noinline]] awaitable<void> returnNothing() { co_return; }

[[gnu::noinline]] awaitable<int> awaitAnswer() { co_return co_await returnAnswer(); }

[[gnu::noinline]] awaitable<int> awaitAnswers() {
  int sum = 0;
  for (int i = 0; i < 100; ++i) sum += co_await returnAnswer();
  co_return sum;
}

[[gnu::noinline]] awaitable<int> pow2(int n) {
  if (n == 0) co_return 1;
  co_return 2 * co_await pow2(n - 1);
}

[[gnu::noinline]] awaitable<int> awaitSlot(Slot& slot) { co_return co_await slot.wait(); }

[[gnu::noinline]] awaitable<void> countOne(std::size_t& count) {
  ++count;
  co_return;
}

void coroutine(World& world) { BENCH_CHECK(wait(world, returnAnswer()) == 42); }

void coroutineAwaitsCoroutine(World& world) { BENCH_CHECK(wait(world, awaitAnswer()) == 42); }

void coroutineAwaits100Coroutines(World& world) { BENCH_CHECK(wait(world, awaitAnswers()) == 4200); }

void recursion20(World& world) { BENCH_CHECK(wait(world, pow2(20)) == 1 << 20); }

void coroutineAwaitsFulfiller(World& world) {
  int result = 0;
  asio::co_spawn(world.context, awaitSlot(world.slot), [&](const std::exception_ptr&, int value) { result = value; });
  world.context.poll();
  world.slot.fulfill(42);
  world.run();
  BENCH_CHECK(result == 42);
}

// --- Several at once --------------------------------------------------------------------------------------------

// Ends only when it is cancelled.
awaitable<void> never(asio::io_context& context) {
  return asio::async_initiate<const asio::use_awaitable_t<>, void(asio::error_code)>(
      [&context](auto handler) {
        auto slot = asio::get_associated_cancellation_slot(handler);
        slot.assign([&context, waiting = std::optional(std::move(handler))](asio::cancellation_type) mutable {
          asio::post(context, [ended = std::move(*waiting)]() mutable {
            std::move(ended)(asio::error_code(asio::error::operation_aborted));
          });
          waiting.reset();
        });
      },
      use_awaitable);
}

awaitable<int> firstOfTwo(asio::io_context& context) {
  using namespace asio::experimental::awaitable_operators;
  auto result = co_await (returnAnswer() || never(context));
  co_return std::get<0>(result);
}

void exclusiveJoin(World& world) { BENCH_CHECK(wait(world, firstOfTwo(world.context)) == 42); }

// Ten operations, each a coroutine, as one.
template <typename Make>
auto groupOf10(asio::io_context& context, Make make) {
  auto operation = [&] { return asio::co_spawn(context, make(), asio::experimental::deferred); };
  return asio::experimental::make_parallel_group(operation(), operation(), operation(), operation(), operation(),
                                                 operation(), operation(), operation(), operation(), operation());
}

void join10(World& world) {
  std::size_t failures = 1;
  groupOf10(world.context, [] {
    return returnNothing();
  }).async_wait(asio::experimental::wait_for_one_error(), [&](auto&&, auto&&... errors) {
    failures = (std::size_t{0} + ... + static_cast<std::size_t>(errors != nullptr));
  });
  world.run();
  BENCH_CHECK(failures == 0);
}

void race10(World& world) {
  int result = 0;
  groupOf10(world.context, [] { return returnAnswer(); })
      .async_wait(asio::experimental::wait_for_one_success(),
                  [&](auto&&, const std::exception_ptr& failure, int first, auto&&...) {
                    BENCH_CHECK(!failure);
                    result = first;
                  });
  world.run();
  BENCH_CHECK(result == 42);
}

// --- Tasks and queues -------------------------------------------------------------------------------------------

void taskSet(World& world) {
  std::size_t before = world.count;
  asio::co_spawn(world.context, countOne(world.count), asio::detached);
  world.run();
  BENCH_CHECK(world.count == before + 1);
}

void evalLater(World& world) {
  int result = 0;
  asio::post(world.context, [&] { result = 42; });
  world.run();
  BENCH_CHECK(result == 42);
}

void queue(World& world) {
  int result = 0;
  bool sent = world.queue.try_send(asio::error_code(), 42);
  world.queue.async_receive([&](asio::error_code, int value) { result = value; });
  world.run();
  BENCH_CHECK(sent && result == 42);
}

std::string version() {
  return "Asio " + std::to_string(ASIO_VERSION / 100000) + "." + std::to_string(ASIO_VERSION / 100 % 1000) + "." +
         std::to_string(ASIO_VERSION % 100);
}

} // namespace

int main(int argc, char** argv) {
  World world;
  return bench::runCases(argc, argv, version(),
                         {
                             bench::makeCase<empty>("empty", world),
                             bench::makeCase<coroutine>("coroutine", world),
                             bench::makeCase<coroutineAwaitsCoroutine>("await_coroutine", world),
                             bench::makeCase<coroutineAwaits100Coroutines>("await_100_coroutines", world),
                             bench::makeCase<recursion20>("recursion_20", world),
                             bench::makeCase<coroutineAwaitsFulfiller>("await_fulfiller", world),
                             bench::makeCase<exclusiveJoin>("exclusive_join", world),
                             bench::makeCase<join10>("join_10", world),
                             bench::makeCase<race10>("race_10", world),
                             bench::makeCase<taskSet>("task_set", world),
                             bench::makeCase<evalLater>("eval_later", world),
                             bench::makeCase<queue>("queue", world),
                         });
}
