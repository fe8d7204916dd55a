// SPDX-License-Identifier: MIT
// The sizes of promises, nodes and coroutine frames.
#include "counting.h"
#include "operations.h"

#include <troth/io/chunk.h>
#include <troth/runtime/canceler.h>
#include <troth/runtime/pool_detail.h>
#include <troth/runtime/promise.h>
#include <troth/runtime/task_set.h>

#include <doctest/doctest.h>

#include <memory>
#include <string>
#include <tuple>
#include <utility>

namespace troth::budget {
namespace {

static_assert(sizeof(void*) != 8 || sizeof(Promise<void>) == 8);
static_assert(sizeof(void*) != 8 || sizeof(Promise<int>) == 8);
static_assert(sizeof(void*) != 8 || sizeof(Promise<std::string>) == 8);
static_assert(sizeof(void*) != 8 || sizeof(Promise<std::unique_ptr<int>>) == 8);
static_assert(sizeof(void*) != 8 || sizeof(Promise<std::tuple<std::string, std::string>>) == 8);

TEST_CASE("a promise and a fork are one pointer, whatever their type") {
  CHECK(sizeof(Promise<void>) == sizeof(void*));
  CHECK(sizeof(Promise<std::string>) == sizeof(void*));
  CHECK(sizeof(ForkedPromise<void>) == sizeof(void*));
  CHECK(sizeof(ForkedPromise<std::string>) == sizeof(void*));
}

TEST_CASE("values that are passed around are small") {
  CHECK(sizeof(Exception) <= 16); // std::exception's virtual table, and a pointer
  CHECK(sizeof(Result<void>) <= 8);
  CHECK(sizeof(Result<int>) <= 16);
  CHECK(sizeof(Canceler) <= 24);
  CHECK(sizeof(TaskSet) <= 48);
  CHECK(sizeof(Chunk) <= 16);
  CHECK(sizeof(PromiseFulfillerPair<int>) <= 16);
}

TEST_CASE("nodes keep their size") {
  CHECK(sizeof(detail::PromiseNode) <= 32);
  CHECK(sizeof(detail::SourceNode) <= 40);
  CHECK(sizeof(detail::Event) <= 48);
  CHECK(sizeof(detail::ChainNode) <= 96);
  CHECK(sizeof(detail::ImmediateNode<int>) <= 56);
  CHECK(sizeof(detail::CoroutineNode) <= 112);
  CHECK(sizeof(detail::CoroutinePromise<void>) <= 128);
  CHECK(sizeof(detail::PromiseAwaiter<int>) <= 16);
  CHECK(sizeof(detail::Result<detail::Void>) <= 16);
}

// --- Frames: coroutines whose promise is the library's, but for its type, and notes what size is asked for.

std::size_t frameSize = 0;

template <typename T>
class MeasuredPromise;

template <typename T>
struct Measured {
  using promise_type = MeasuredPromise<T>; // NOLINT: the standard's name

  Promise<T> promise;
};

template <typename T>
class MeasuredPromiseBase : public detail::CoroutinePromiseBase<T> {
public:
  using detail::CoroutinePromiseBase<T>::CoroutinePromiseBase;

  static void* operator new(std::size_t size) {
    frameSize = size;
    return detail::allocate(size);
  }
  static void operator delete(void* frame, std::size_t size) noexcept { detail::deallocate(frame, size); }

  Measured<T> get_return_object() noexcept { return {detail::CoroutinePromiseBase<T>::get_return_object()}; }
};

template <typename T>
class MeasuredPromise final : public MeasuredPromiseBase<T> {
public:
  MeasuredPromise() : MeasuredPromiseBase<T>(std::coroutine_handle<MeasuredPromise>::from_promise(*this)) {}
  void return_value(T value) { this->result_.value.emplace(std::move(value)); }
};

template <>
class MeasuredPromise<void> final : public MeasuredPromiseBase<void> {
public:
  MeasuredPromise() : MeasuredPromiseBase<void>(std::coroutine_handle<MeasuredPromise>::from_promise(*this)) {}
  void return_void() noexcept { result_.value.emplace(); }
};

static_assert(sizeof(MeasuredPromise<int>) == sizeof(detail::CoroutinePromise<int>));
static_assert(sizeof(MeasuredPromise<void>) == sizeof(detail::CoroutinePromise<void>));

[[gnu::noinline]] Promise<int> someValue() { return 1; }

Measured<void> nothingAtAll() { co_return; }

Measured<int> aValue() { co_return 42; }

Measured<int> oneAwait() { co_return co_await someValue(); }

Measured<int> localAcrossAwait() {
  int local = 1;
  keep(local);
  const int value = co_await someValue();
  co_return value + local;
}

Measured<int> arrayAcrossAwait() {
  int array[64] = {};
  keep(array);
  const int value = co_await someValue();
  keep(array);
  co_return value;
}

Measured<int> threeAwaits() {
  int sum = co_await someValue();
  sum += co_await someValue();
  sum += co_await someValue();
  co_return sum;
}

Measured<void> awaitOfConstant() { co_await READY_NOW; }

Measured<int> promiseParameter(Promise<int> promise) { co_return co_await std::move(promise); }

template <typename Coroutine, typename... Args>
std::size_t frameOf(Coroutine coroutine, Args... args) {
  EventLoop loop;
  WaitScope scope(loop);
  auto measured = coroutine(Promise<int>(std::move(args))...);
  std::move(measured.promise).wait(scope);
  return frameSize;
}

// Bytes that a frame has beside the coroutine's promise: the compiler's own, and the temporaries of a co_await, which
// g++ keeps in a place of their own for each and clang does not.
#ifdef __clang__
constexpr std::size_t ADMINISTRATION = 24;
constexpr std::size_t FIRST_AWAIT = 24;
constexpr std::size_t FURTHER_AWAIT = 8;
constexpr std::size_t INT_LOCAL = 8;
#else
constexpr std::size_t ADMINISTRATION = 40;
constexpr std::size_t FIRST_AWAIT = 32;
constexpr std::size_t FURTHER_AWAIT = 48;
constexpr std::size_t INT_LOCAL = 16;
#endif
constexpr std::size_t PROMISE = sizeof(detail::CoroutinePromise<int>);

TEST_CASE("a coroutine's frame is its promise and little else") {
  CHECK(frameOf(nothingAtAll) <= sizeof(detail::CoroutinePromise<void>) + ADMINISTRATION);
  CHECK(frameOf(aValue) <= PROMISE + ADMINISTRATION);
}

TEST_CASE("a frame grows by little with each co_await and each local") {
  const std::size_t one = PROMISE + ADMINISTRATION + FIRST_AWAIT;
  CHECK(frameOf(oneAwait) <= one);
  CHECK(frameOf(awaitOfConstant) <= one);
  CHECK(frameOf(promiseParameter, 1) <= one + sizeof(Promise<int>));
  CHECK(frameOf(localAcrossAwait) <= one + INT_LOCAL);
  CHECK(frameOf(threeAwaits) <= one + 2 * FURTHER_AWAIT);
}

TEST_CASE("a frame that holds more is seen to be larger") {
  const std::size_t small = frameOf(oneAwait);
  CHECK(frameOf(arrayAcrossAwait) >= small + sizeof(int[64]));
}

} // namespace
} // namespace troth::budget
