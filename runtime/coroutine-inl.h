// SPDX-License-Identifier: MIT
// Coroutines that return Promise<T>: the promise type, and what co_await does.
#pragma once

#ifndef TROTH_RUNTIME_PROMISE_H
#error "include <troth/runtime/promise.h> instead"
#endif

#include <coroutine>

namespace troth {
inline namespace v0 {
namespace detail {

/// Locks of threads: std::lock_guard, unique_lock, scoped_lock and shared_lock, and what looks like them.
template <typename Lock>
    struct IsLockGuard : std::bool_constant < requires {
  typename Lock::mutex_type;
} > {};
template <template <typename...> typename Lock, typename First, typename Second, typename... Rest>
  requires requires(First& mutex) {
    mutex.lock();
    mutex.unlock();
  } && (!std::is_move_constructible_v<Lock<First, Second, Rest...>>)
struct IsLockGuard<Lock<First, Second, Rest...>> : std::true_type {}; // scoped_lock of several

/// A coroutine's frame, of which the owner of this is a part.
struct CoroutineFrame {
  std::coroutine_handle<> handle;
  bool* gone = nullptr; // set when this goes, if somebody wants to know

  ~CoroutineFrame() {
    if (gone != nullptr) [[unlikely]]
      *gone = true;
  }
};

/// The part of a coroutine that has no type: a source (of its result) and an event (that resumes it).
/// What it awaits is its `dependency_`, so a chain of coroutines is destroyed like any other.
///
/// The body runs at once until its first co_await, which always suspends: so a caller can rely on nothing
/// happening behind its back. Later awaits of ready promises go on in place, within the turn's budget.
class CoroutineNode : private Event, public SourceNode {
public:
  /// Whether something that is ready may be taken in place.
  bool awaitReadyNow() noexcept { return hasSuspended() && takeInlineBudget(); }

  /// Whether the promise in `slot` is ready to be taken in place; otherwise the coroutine suspends, holds the
  /// promise as its dependency meanwhile, and will be resumed.
  bool awaitReady(PromiseNode*& slot) {
    PromiseNode& node = sourceOf(*slot);
    if (!node.is(SOURCE)) return suspendSlowly(slot);
    auto& source = static_cast<SourceNode&>(node);
    if (!source.listenFirst(this)) {
      if (!source.isReady()) return suspendSlowly(slot);
      return awaitReadyNow() || suspendOnReady(slot);
    }
    suspend(slot);
    return false;
  }

  /// Gives an awaited promise back to its awaiter, to be taken and destroyed there.
  void endAwait(PromiseNode* node) noexcept {
    if (dependency_ != node) return;
    dependency_ = nullptr;
    slot_ = nullptr;
  }

  /// The body has ended. Whoever waits for it goes on without a trip through the queue, if it would be the next.
  void finish() noexcept { setReadyAtEndOfTurn(); }

  /// Notes where the coroutine waits, for traces.
  void waitAt(std::source_location where) noexcept { where_ = where; }

  const char* name() const noexcept final { return "coroutine"; }

  void destroy() noexcept final {
    if (isReady() && !hasSuspended())
      frame_.handle.destroy();
    else
      destroySuspended();
  }

protected:
  explicit CoroutineNode(std::coroutine_handle<> frame) : CoroutineNode(frame, EventLoop::current()) {}
  CoroutineNode(std::coroutine_handle<> frame, EventLoop& loop)
      : Event(loop, Unlisted()), SourceNode(std::source_location(), &loop), frame_{frame} {}

private:
  CoroutineFrame frame_;
  PromiseNode** slot_ = nullptr; // the awaiter's pointer to the dependency

  // An event from its first suspension on. (Many a coroutine ends without one.)
  bool hasSuspended() const noexcept { return isListed(); }

  void suspend(PromiseNode*& slot) noexcept {
    if (!isListed()) enlist();
    dependency_ = slot;
    slot_ = &slot;
  }
  bool suspendOnReady(PromiseNode*& slot) noexcept; // false
  bool suspendSlowly(PromiseNode*& slot);

  void destroySuspended() noexcept;
  void fire() final { frame_.handle.resume(); }
  const PromiseNode* computes() const noexcept final { return this; }
  const PromiseNode* awaits() const noexcept final { return dependency_; }
};

/// Owns a promise from the co_await until its result is taken, but for the time in which the coroutine is
/// suspended on it. There may be several at a time: of `co_await a + co_await b` g++ 12 makes both awaiters
/// before it waits for either, and takes the results after both.
template <typename U>
class PromiseAwaiter {
public:
  PromiseAwaiter(CoroutineNode& coroutine, OwnNode promise) noexcept
      : coroutine_(coroutine), node_(promise.release()) {}
  PromiseAwaiter(const PromiseAwaiter&) = delete;
  PromiseAwaiter& operator=(const PromiseAwaiter&) = delete;
  ~PromiseAwaiter() {
    if (node_ != nullptr) drop();
  }

  bool await_ready() {
    if constexpr (std::is_void_v<U>) {
      if (node_ == &readyNode && coroutine_.awaitReadyNow()) {
        node_ = nullptr;
        return true;
      }
    }
    return coroutine_.awaitReady(node_);
  }
  void await_suspend(std::coroutine_handle<>) noexcept {}
  U await_resume() {
    if constexpr (std::is_void_v<U>) {
      if (node_ == nullptr) return;
    }
    ResultBase& result = resolve(*node_);
    if (result.exception) [[unlikely]]
      fail(result);
    if constexpr (std::is_void_v<U>) {
      drop();
    } else if constexpr (std::is_nothrow_move_constructible_v<U>) {
      U value = std::move(*static_cast<Result<U>&>(result).value);
      drop();
      return value;
    } else {
      return U(std::move(*static_cast<Result<U>&>(result).value)); // the destructor drops the promise
    }
  }

private:
  CoroutineNode& coroutine_;
  PromiseNode* node_;

  void drop() noexcept {
    PromiseNode* node = std::exchange(node_, nullptr);
    coroutine_.endAwait(node);
    destroyTakenTop(*node);
  }

  [[noreturn, gnu::noinline, gnu::cold]] void fail(ResultBase& result) {
    const ExceptionRef exception = std::move(result.exception);
    drop();
    exception.rethrowFromAwait();
  }
};

/// Awaits a fork by a branch in the coroutine's frame.
template <typename U>
class ForkAwaiter {
public:
  ForkAwaiter(CoroutineNode& coroutine, TypedForkHub<U>& hub, std::source_location where) noexcept
      : branch_(hub, where), awaiter_(coroutine, OwnNode(&branch_)) {}
  bool await_ready() { return awaiter_.await_ready(); }
  void await_suspend(std::coroutine_handle<>) noexcept {}
  U await_resume() { return awaiter_.await_resume(); }

private:
  FrameBranch<U> branch_;
  PromiseAwaiter<U> awaiter_;
};

/// Where a coroutine's result goes. (A base: see EventState.)
template <typename T>
struct ResultHolder {
  Result<T> result_;
};

template <typename T>
class CoroutinePromiseBase : public CoroutineNode, protected ResultHolder<FixVoid<T>> {
  static_assert(alignof(FixVoid<T>) <= alignof(std::max_align_t), "an over-aligned value cannot be held by a promise");

public:
  explicit CoroutinePromiseBase(std::coroutine_handle<> frame) : CoroutineNode(frame) {}

  static void* operator new(std::size_t size) { return allocate(size); }
  static void operator delete(void* frame, std::size_t size) noexcept { deallocate(frame, size); }

  Promise<T> get_return_object() noexcept { return PromiseAccess::wrap<T>(static_cast<PromiseNode*>(this)); }
  std::suspend_never initial_suspend() noexcept { return {}; }
  void unhandled_exception() noexcept { this->result_.exception = failureFromCurrent(); }

  struct FinalAwaiter {
    CoroutineNode& coroutine;
    bool await_ready() noexcept { return false; }
    void await_suspend(std::coroutine_handle<>) noexcept { coroutine.finish(); }
    void await_resume() noexcept {}
  };
  FinalAwaiter final_suspend() noexcept { return {*this}; }

  /// Consumes the promise; a failure is thrown from the co_await in its original type.
  template <typename U>
  PromiseAwaiter<U> await_transform(Promise<U>&& promise,
                                    std::source_location where = std::source_location::current()) {
    waitAt(where);
    return PromiseAwaiter<U>(*this, PromiseAccess::take(promise, where));
  }
  template <typename U>
  PromiseAwaiter<U> await_transform(Promise<U>&) = delete; // a promise is consumed: co_await std::move(promise)

  /// Waits for a fork; others may, too.
  template <typename U>
  ForkAwaiter<U> await_transform(const ForkedPromise<U>& fork,
                                 std::source_location where = std::source_location::current()) {
    waitAt(where);
    return ForkAwaiter<U>(*this, PromiseAccess::hub(fork, where), where);
  }

  PromiseAwaiter<void> await_transform(ReadyNowConstant,
                                       std::source_location where = std::source_location::current()) noexcept {
    waitAt(where);
    return PromiseAwaiter<void>(*this, OwnNode(&readyNode));
  }
  PromiseAwaiter<void> await_transform(NeverDoneConstant,
                                       std::source_location where = std::source_location::current()) noexcept {
    waitAt(where);
    return PromiseAwaiter<void>(*this, OwnNode(&neverNode));
  }

  ResultBase& get(ResultBase*) noexcept override { return this->result_; }
};

// The constructors are user-declared: g++ 12 initialises an aggregate promise from the coroutine's
// parameters (https://gcc.gnu.org/bugzilla/show_bug.cgi?id=104031 and its kin).
template <typename T>
class CoroutinePromise final : public CoroutinePromiseBase<T> {
public:
  CoroutinePromise() : CoroutinePromiseBase<T>(std::coroutine_handle<CoroutinePromise>::from_promise(*this)) {}

  template <typename U = T>
    requires std::constructible_from<T, U>
  void return_value(U&& value) {
    this->result_.value.emplace(std::forward<U>(value));
  }
};

template <>
class CoroutinePromise<void> final : public CoroutinePromiseBase<void> {
public:
  CoroutinePromise() : CoroutinePromiseBase<void>(std::coroutine_handle<CoroutinePromise>::from_promise(*this)) {}

  void return_void() noexcept { result_.value.emplace(); }
};

} // namespace detail
} // namespace v0
} // namespace troth

template <typename T, typename... Args>
struct std::coroutine_traits<troth::Promise<T>, Args...> {
  static_assert((!std::is_same_v<troth::WaitScope, std::remove_cvref_t<Args>> && ...),
                "a coroutine must not take a WaitScope: it cannot block; co_await instead");
  static_assert((!troth::detail::IsLockGuard<std::remove_cvref_t<Args>>::value && ...),
                "a coroutine must not take a lock: other code runs while it is suspended; use an AsyncMutex");
  static_assert((std::is_nothrow_destructible_v<Args> && ...),
                "the destructor of a coroutine's parameter must not throw: it may be destroyed when it is cancelled");
  using promise_type = troth::detail::CoroutinePromise<T>;
};
