// SPDX-License-Identifier: MIT
// runInThreadPool: a function that blocks or computes, run by a thread of libuv's pool.
#pragma once

#include <troth/runtime/pool_detail.h>
#include <troth/runtime/promise.h>

#include <memory>
#include <optional>
#include <source_location>
#include <type_traits>
#include <utility>

namespace troth {
inline namespace v0 {

class AsyncIo;

namespace detail {

/// What is done there. It is made and destroyed on the loop's thread, and called once, on another.
class PoolTask : public Pooled {
public:
  PoolTask() noexcept = default;
  PoolTask(const PoolTask&) = delete;
  PoolTask& operator=(const PoolTask&) = delete;
  virtual ~PoolTask() = default;
  virtual void run() = 0;

  /// Runs it and keeps what it throws.
  void runGuarded() noexcept;

protected:
  void rethrow();

private:
  std::optional<Exception> thrown_;
};

template <typename Func>
class FuncTask final : public PoolTask {
public:
  using Result = std::invoke_result_t<Func&>;

  explicit FuncTask(Func&& func) : func_(std::move(func)) {}

  void run() override {
    if constexpr (std::is_void_v<Result>)
      func_();
    else
      result_.emplace(func_());
  }

  Result take() {
    rethrow();
    if constexpr (!std::is_void_v<Result>) return std::move(*result_);
  }

private:
  Func func_;
  std::optional<FixVoid<Result>> result_;
};

Promise<std::unique_ptr<PoolTask>> runTask(AsyncIo& io, std::unique_ptr<PoolTask> task, std::source_location where);

} // namespace detail

/// Runs `func()` in a thread of libuv's pool (four threads unless UV_THREADPOOL_SIZE says otherwise, shared with files
/// and look-ups of names) and gives what it returns. `func` is moved or copied into the work and must own what it uses:
/// it may go on when its promise is gone, and the end of `io` (of its host's loop, if it has one) waits for it. What it
/// captures is destroyed on the loop's thread.
///
/// Completes:    when the function has returned; never inside this call.
/// Errors:       what the function throws, thrown again as itself. On another thread than that of `io`, FAILED is
///               thrown here.
/// Cancellation: deferred: a function that no thread has begun is never called; one that has begun goes on, and its
///               result is dropped.
template <typename Func>
auto runInThreadPool(AsyncIo& io, Func func, std::source_location where = std::source_location::current())
    -> Promise<std::invoke_result_t<Func&>> {
  using Result = std::invoke_result_t<Func&>;
  static_assert(!std::is_reference_v<Result>, "a function for the thread pool returns a value, not a reference");
  static_assert(
      !detail::UnwrapPromise<Result>::IS_PROMISE,
      "a function for the thread pool cannot return a promise, which would belong to a thread without a loop");
  using Task = detail::FuncTask<Func>;
  return detail::runTask(io, std::make_unique<Task>(std::move(func)), where)
      .then([](std::unique_ptr<detail::PoolTask> task) { return static_cast<Task&>(*task).take(); });
}

} // namespace v0
} // namespace troth
