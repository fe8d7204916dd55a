// SPDX-License-Identifier: MIT
// TROTH_DEFER and defer(): code that runs when a scope is left; UnwindDetector: whether an exception is the cause.
#pragma once

#include <troth/runtime/unique_name_detail.h>

#include <concepts>
#include <exception>
#include <optional>
#include <source_location>
#include <type_traits>
#include <utility>

/// Runs the block that follows when the enclosing scope is left, in whatever way: by its end, by `return`, by an
/// exception, or because the coroutine that it is in was cancelled.
///
///     TROTH_DEFER { ::close(fd); };
///
/// The block refers to the variables around it. Several in a scope run last to first. What it throws is thrown from the
/// end of the scope; it is dropped if another exception is in flight already, or if the coroutine was cancelled.
#define TROTH_DEFER                                                                                                    \
  [[maybe_unused]] const auto TROTH_DETAIL_UNIQUE_NAME(trothDeferred) = ::troth::detail::DeferHere() % [&]() -> void

namespace troth {
inline namespace v0 {
namespace detail {

/// Ends the program with the exception being handled, unless another one is in flight.
void deferredFunctionThrew(const std::source_location& where) noexcept;

} // namespace detail

/// A function that runs once: at the latest when this is destroyed, unless it is cancelled. Made by defer().
///
/// Owns the function, and destroys it as soon as it has run or is cancelled. May be moved, which passes the duty on,
/// and so may be attached to a promise: the function runs when the promise is done with or cancelled.
///
/// The destructor does not throw. If the function throws there, the exception is dropped if another one is in
/// flight on this thread, which is then the one to know of; otherwise the program ends with a message that names the
/// exception and the place of the defer(). Cleaning up that may fail goes into run(), where its error has a
/// receiver; the destructor is for the ways out that are errors already.
template <std::invocable Func>
class [[nodiscard("the function would run at once")]] Deferred {
public:
  explicit Deferred(Func function, std::source_location where = std::source_location::current())
      : function_(std::move(function)), where_(where) {}
  Deferred(Deferred&& other) noexcept(std::is_nothrow_move_constructible_v<Func>)
      : function_(std::move(other.function_)), where_(other.where_) {
    other.function_.reset();
  }
  Deferred& operator=(Deferred&&) = delete;
  ~Deferred() {
    if (!function_) return;
    try {
      (*function_)();
    } catch (...) {
      detail::deferredFunctionThrew(where_);
    }
  }

  /// Runs the function now, unless it has run or was cancelled. What it throws goes to the caller.
  void run() {
    if (!function_) return;
    Func function = std::move(*function_);
    function_.reset();
    function();
  }

  /// The function will not run.
  void cancel() noexcept { function_.reset(); }

private:
  std::optional<Func> function_;
  std::source_location where_;
};

/// Runs `function` when the result is destroyed: `auto rollback = defer([&] { … }); …; rollback.cancel();`.
template <typename Func>
Deferred<std::decay_t<Func>> defer(Func&& function, std::source_location where = std::source_location::current()) {
  return Deferred<std::decay_t<Func>>(std::forward<Func>(function), where);
}

/// Tells a destructor whether it runs because of an exception: a member of the class whose destructor asks.
///
/// It counts the exceptions in flight on its thread when it is made, so that an object that is made and destroyed
/// within a destructor, itself called by an exception, counts as not affected. An object that is made during such a
/// time and outlives it (as a coroutine may that is started there) no longer notices one exception.
class UnwindDetector {
public:
  UnwindDetector() noexcept : before_(std::uncaught_exceptions()) {}

  /// Whether an exception is in flight that was not when this was made. A coroutine that is cancelled is not unwinding,
  /// unless its promise is destroyed by an exception.
  bool isUnwinding() const noexcept { return std::uncaught_exceptions() > before_; }

  /// Calls `func`. What it throws goes to the caller, but is dropped if an exception is in flight already.
  template <std::invocable Func>
  void catchExceptionsIfUnwinding(Func&& func) const {
    if (!isUnwinding()) {
      std::forward<Func>(func)();
      return;
    }
    try {
      std::forward<Func>(func)();
    } catch (...) {
      // The exception in flight is the one to know of.
    }
  }

private:
  int before_;
};

namespace detail {

/// The block of a TROTH_DEFER.
template <typename Func>
class DeferredBlock {
public:
  explicit DeferredBlock(Func function) : function_(std::move(function)) {}
  DeferredBlock(const DeferredBlock&) = delete;
  DeferredBlock& operator=(const DeferredBlock&) = delete;
  ~DeferredBlock() noexcept(false) { unwind_.catchExceptionsIfUnwinding(function_); }

private:
  Func function_;
  UnwindDetector unwind_;
};

/// What TROTH_DEFER puts before its lambda.
struct DeferHere {
  template <typename Func>
  friend DeferredBlock<Func> operator%(DeferHere, Func function) {
    return DeferredBlock<Func>(std::move(function));
  }
};

} // namespace detail
} // namespace v0
} // namespace troth
