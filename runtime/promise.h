// SPDX-License-Identifier: MIT
// Promise<T>: a value that arrives later, the work that makes it, and the right to cancel that work.
#pragma once
#define TROTH_RUNTIME_PROMISE_H

#include <troth/runtime/event_loop.h>
#include <troth/runtime/exception.h>
#include <troth/runtime/node_detail.h>
#include <troth/runtime/result.h>

#include <concepts>
#include <functional>
#include <memory>
#include <source_location>
#include <tuple>
#include <type_traits>
#include <utility>

namespace troth {
inline namespace v0 {

template <typename T>
class Promise;
template <typename T>
class PromiseFulfiller;
template <typename T>
class ForkedPromise;
template <typename T>
class Result;

namespace detail {

template <typename T>
class TypedForkHub;

template <typename T>
struct UnwrapPromise {
  using Type = T;
  static constexpr bool IS_PROMISE = false;
};
template <typename T>
struct UnwrapPromise<Promise<T>> {
  using Type = T;
  static constexpr bool IS_PROMISE = true;
};

struct ReadyNowConstant;
struct NeverDoneConstant;
/// A function that returns one of the constants gives a Promise<void>.
template <>
struct UnwrapPromise<ReadyNowConstant> : UnwrapPromise<Promise<void>> {};
template <>
struct UnwrapPromise<NeverDoneConstant> : UnwrapPromise<Promise<void>> {};

template <typename T>
using FixVoid = std::conditional_t<std::is_void_v<T>, Void, T>;

template <typename Func, typename T>
struct ContinuationResult {
  using Type = std::invoke_result_t<Func, T>;
};
template <typename Func>
struct ContinuationResult<Func, void> {
  using Type = std::invoke_result_t<Func>;
};

/// What a continuation of a Promise<T> returns, and the promise that `then` makes of it.
template <typename Func, typename T>
using ReturnOf = typename ContinuationResult<Func, T>::Type;
template <typename R>
using PromiseOf = Promise<typename UnwrapPromise<std::remove_cvref_t<R>>::Type>;

/// What a Promise<T> can be made from as a value.
template <typename U, typename T>
concept ValueOf =
    !std::is_void_v<T> && std::convertible_to<U, T> && !std::same_as<std::remove_cvref_t<U>, Exception> &&
    !std::same_as<std::remove_cvref_t<U>, Promise<T>> && !std::same_as<std::remove_cvref_t<U>, NeverDoneConstant>;

/// The default error handler: passes the error on.
struct PropagateException {};

struct PromiseAccess;

} // namespace detail

/// Owns the work that will produce a T, and cancels that work when it is destroyed.
///
/// When the destructor returns, no continuation of this promise will run, no callback will fire, and no
/// buffer or reference that was handed to it is touched again; what the work held is destroyed, what a
/// step waits for before the step itself. There is nothing else to do for cancellation.
///
/// A promise is consumed by awaiting it or chaining to it (`&&` functions: `std::move(p).then(…)`);
/// using a consumed promise throws FAILED. Promises belong to the thread (the EventLoop) that they were
/// made on. Most chains and results cost no heap allocation: nodes come from a per-thread pool. A value, and the
/// captures of a continuation, may have up to 64 KiB each and the alignment of `std::max_align_t`; their destructors
/// must not throw.
///
/// Any function that returns a Promise may be a coroutine: it starts at once, and the promise owns it.
template <typename T>
class [[nodiscard("destroying a promise cancels its work: await it, or hand it to a TaskSet")]] Promise {
  static_assert(!std::is_reference_v<T>, "a promise carries a value; use a pointer or std::reference_wrapper");
  static_assert(!detail::UnwrapPromise<T>::IS_PROMISE, "a promise for a promise is just a promise");

public:
  using ValueType = T;

  /// A promise that is ready with `value` (for `T` = `void`: use READY_NOW).
  template <detail::ValueOf<T> U = T>
  Promise(U&& value, std::source_location where = std::source_location::current());

  /// A promise that has failed.
  Promise(Exception exception, std::source_location where = std::source_location::current()) noexcept;

  Promise(Promise&&) noexcept = default;
  Promise& operator=(Promise&&) noexcept = default;
  /// Cancels the work, unless the promise was consumed.
  ~Promise() = default;

  /// Runs `func` with the value once there is one; gives a promise for what it returns.
  ///
  /// If `func` returns a promise, the result waits for that too, and `func` runs as soon as it can;
  /// otherwise `func` runs only when somebody waits for the result. A failure skips `func` and travels
  /// on, without being thrown, to `onError(Exception)` if given, whose result must convert to `func`'s.
  /// What either throws becomes the failure of the result. This promise's work is destroyed before
  /// `func` runs; `func` itself after the promise that it is part of.
  template <typename Func, typename OnError = detail::PropagateException>
  auto
  then(Func&& func, OnError&& onError = {},
       std::source_location where = std::source_location::current()) && -> detail::PromiseOf<detail::ReturnOf<Func, T>>;

  /// Handles a failure: `onError(Exception)` returns a T (or a promise for one), or throws.
  template <typename OnError>
  Promise<T> catch_(OnError&& onError, std::source_location where = std::source_location::current()) &&;

  /// The same work without its value.
  Promise<void> ignoreResult(std::source_location where = std::source_location::current()) &&;

  /// Keeps `attachments` alive until the promise is consumed or destroyed: they are destroyed after the
  /// work that may refer to them.
  template <typename... Attachments>
  Promise<T> attach(Attachments&&... attachments) &&;

  /// Runs the whole chain as soon as it can, even if nobody waits for the result. `onError` sees a
  /// failure (nobody else may); pass `nullptr` if whoever holds the promise will await it.
  template <typename OnError>
  Promise<T> eagerlyEvaluate(OnError&& onError, std::source_location where = std::source_location::current()) &&;
  Promise<T> eagerlyEvaluate(std::nullptr_t, std::source_location where = std::source_location::current()) &&;

  /// The same work for several who wait, each of whom gets a copy of the value, or the exception. The work runs as
  /// soon as it can; destroying the fork and all its branches cancels it.
  ForkedPromise<T> fork(std::source_location where = std::source_location::current()) &&;

  /// Of a promise for a std::tuple (or pair): a std::tuple of promises, one for each element; of an element that is
  /// itself a promise, what that comes to. The work is cancelled when all of them are destroyed.
  auto split(std::source_location where = std::source_location::current()) &&;

  /// The same work, but a failure is a value: `Result<T> result = co_await std::move(promise).asResult();`
  Promise<Result<T>> asResult() &&;

  /// Gives the work to the event loop, which cancels it when it is destroyed; `onError(Exception)` sees a failure, and
  /// must not throw. Discouraged: nobody can cancel it before, and what it refers to must live as long as the loop.
  /// A TaskSet that is a member of what the work refers to has neither fault.
  template <typename OnError>
  void detach(OnError&& onError, std::source_location where = std::source_location::current()) &&;

  /// What this promise waits for, one step a line, the last step being what it began with.
  std::string trace() const;

  /// The first of the two to be ready, successful or not; the other one is cancelled before the result
  /// is seen.
  Promise<T> exclusiveJoin(Promise<T>&& other, std::source_location where = std::source_location::current()) &&;

  /// Runs the loop until this promise is ready, and returns its value or throws its exception (in its
  /// original type). Throws FAILED when called from inside a continuation or coroutine, and when nothing
  /// is left that could make the promise ready.
  T wait(WaitScope& scope, std::source_location where = std::source_location::current()) &&;

  /// Runs the loop until this promise is ready or nothing more can be done without blocking. Returns
  /// whether it is ready; `wait()` and `co_await` then have it at once.
  bool poll(WaitScope& scope, std::source_location where = std::source_location::current());

private:
  detail::OwnNode node_;

  explicit Promise(detail::OwnNode node) noexcept : node_(std::move(node)) {}

  friend struct detail::PromiseAccess;
};

/// A promise for several who wait (Promise::fork). Not for use after it was moved from: that throws FAILED.
///
/// A coroutine may also await the fork itself, `co_await fork`, without making a branch.
template <typename T>
class ForkedPromise {
public:
  ForkedPromise(ForkedPromise&& other) noexcept : hub_(std::exchange(other.hub_, nullptr)) {}
  ForkedPromise& operator=(ForkedPromise&& other) noexcept {
    drop(std::exchange(hub_, std::exchange(other.hub_, nullptr)));
    return *this;
  }
  ~ForkedPromise() { drop(hub_); }

  /// One more promise for the result; also when that is there already.
  Promise<T> addBranch(std::source_location where = std::source_location::current()) const;

  /// Whether any branch exists, or a coroutine awaits the fork: if not, nobody needs the result yet.
  bool hasBranches() const noexcept;

private:
  detail::TypedForkHub<T>* hub_;

  explicit ForkedPromise(detail::TypedForkHub<T>* hub) noexcept;
  detail::TypedForkHub<T>& hub(std::source_location where) const;
  static void drop(detail::TypedForkHub<T>* hub) noexcept;

  friend class Promise<T>;
  friend struct detail::PromiseAccess;
};

namespace detail {
struct ReadyNowConstant {
  operator Promise<void>() const noexcept; // NOLINT: a constant that is a promise
};
struct NeverDoneConstant {
  template <typename T>
  operator Promise<T>() const noexcept; // NOLINT
  /// Runs the loop for ever; throws FAILED once nothing else is left that could happen.
  [[noreturn]] void wait(WaitScope& scope, std::source_location where = std::source_location::current()) const;
};
} // namespace detail

/// A Promise<void> that is ready. Costs nothing.
inline constexpr detail::ReadyNowConstant READY_NOW{};
/// A promise of any type that is never ready. Costs nothing.
inline constexpr detail::NeverDoneConstant NEVER_DONE{};

/// Calls `func` now and gives a promise for its result, failed if it throws.
template <typename Func>
auto evalNow(Func&& func) noexcept -> detail::PromiseOf<std::invoke_result_t<Func>>;

/// Calls `func` from the loop, after the events that are queued when somebody begins to wait for it.
template <typename Func>
auto evalLater(Func&& func, std::source_location where = std::source_location::current())
    -> detail::PromiseOf<std::invoke_result_t<Func>>;

/// Calls `func` when nothing else is queued, before the loop looks for I/O. Of several, the one that was
/// waited for last runs first.
template <typename Func>
auto evalLast(Func&& func, std::source_location where = std::source_location::current())
    -> detail::PromiseOf<std::invoke_result_t<Func>>;

/// A promise that is ready with the constant `VALUE`. Costs nothing.
template <typename T, T VALUE>
Promise<T> constPromise() noexcept;

/// Ready when all that is queued now has run (as evalLater). Costs nothing.
Promise<void> yield() noexcept;
/// The same, but the loop looks for I/O behind the event that has called it: for a computation between whose steps not
/// only what is queued has to go on, but timers and connections, too. Costs a system call or two.
Promise<void> yieldToIo() noexcept;
/// Ready when nothing else is queued, before the loop looks for I/O (as evalLast). Costs nothing.
Promise<void> yieldUntilQueueEmpty() noexcept;
/// Ready when nothing is queued and the loop, having looked, has found no I/O either. Costs nothing.
Promise<void> yieldUntilWouldSleep() noexcept;

/// Calls `func` as evalLater does and, should what it returns fail with DISCONNECTED, once more: for a request on a
/// connection that may have been closed while it was idle.
template <typename Func>
auto retryOnDisconnect(Func func, std::source_location where = std::source_location::current())
    -> detail::PromiseOf<std::invoke_result_t<Func&>>;

/// For lambdas that are coroutines: gives a callable, to be called once, whose promise keeps the captures of `func`
/// alive. Without it they die with the lambda, often before the coroutine has ended. A second call throws FAILED.
template <typename Func>
auto coCapture(Func func);

/// What is being computed on this thread, one step a line: the continuation or coroutine that runs, what waits for it,
/// and so on to the task or wait() at the end. Empty outside of the loop.
std::string getAsyncTrace();

/// The producer's end of a promise. Only the first of fulfill() and reject() counts. Destroying a
/// fulfiller that did neither rejects the promise with FAILED, or with the exception because of which it is
/// destroyed (see Exception::rethrow). Belongs to the promise's thread; using it
/// on another throws FAILED.
template <typename T>
class PromiseFulfiller {
public:
  virtual ~PromiseFulfiller() = default;

  /// Makes the promise ready with `value`.
  virtual void fulfill(T value) = 0;
  /// Makes the promise fail.
  virtual void reject(Exception exception) = 0;
  /// Whether the promise still exists and has no result: false means that further work is useless. (In the destructor
  /// of a cancelled adapter it is still true; what is settled there is heard by nobody.)
  virtual bool isWaiting() const = 0;

  /// Calls `func` and rejects the promise if it throws; returns whether it did not.
  template <typename Func>
  bool rejectIfThrows(Func&& func);
};

template <>
class PromiseFulfiller<void> {
public:
  virtual ~PromiseFulfiller() = default;
  virtual void fulfill() = 0;
  virtual void reject(Exception exception) = 0;
  virtual bool isWaiting() const = 0;
  template <typename Func>
  bool rejectIfThrows(Func&& func);
};

template <typename T>
struct PromiseFulfillerPair {
  detail::PromiseOf<T> promise;
  std::unique_ptr<PromiseFulfiller<T>> fulfiller;
};

/// A promise and its fulfiller. Destroying the promise makes the fulfiller useless, nothing more. With
/// `T` = `Promise<U>` the fulfiller takes a promise, and the other end is a Promise<U> for what that comes to.
template <typename T>
PromiseFulfillerPair<T> newPromiseAndFulfiller(std::source_location where = std::source_location::current());

/// A promise whose work is an `Adapter`, made in place as `Adapter(PromiseFulfiller<T>&, args…)`: its
/// constructor starts the operation, callbacks fulfil, and its destructor must undo or detach what is
/// still running. The adapter is destroyed with the promise, or after the result was taken.
template <typename T, typename Adapter, typename... Args>
detail::PromiseOf<T> newAdaptedPromise(Args&&... args);

} // namespace v0
} // namespace troth

#include <troth/runtime/promise-inl.h> // IWYU pragma: export

#include <troth/runtime/fork-inl.h> // IWYU pragma: export

// On top of it:
#include <troth/runtime/coroutine-inl.h> // IWYU pragma: export
