// SPDX-License-Identifier: MIT
// Deadline: a time by which something must be done, handed from each part of a work to the next.
#pragma once

#include <troth/runtime/promise.h>
#include <troth/timers/timer.h>

#include <functional>
#include <memory>
#include <source_location>
#include <string>
#include <type_traits>
#include <utility>

namespace troth {
inline namespace v0 {

/// A point in time together with the timer that knows it. A value: pass it on as a parameter, to whatever should see
/// how much time is left. (There is no hidden context that carries it along: what does not take a Deadline has none,
/// though it is cancelled all the same with the promise that waits for it.)
///
///     Promise<Page> fetch(Client& client, Deadline deadline) {
///       Promise<Session> logIn = client.logIn(deadline.earlier(1s));  // at most a second, and no more than is left
///       Session session = co_await std::move(logIn);
///       co_return co_await deadline.limit(session.get("/"), "reading the page");
///     }
///
/// A deadline is made from another one only by making it earlier, so no part can take more time than the whole has.
/// The timer must outlive it.
class Deadline {
public:
  /// The time `delay` from now (timer.now()). A delay that is not positive is over at once.
  static Deadline in(Timer& timer, Duration delay);
  /// A fixed time.
  static Deadline at(Timer& timer, TimePoint time);
  /// No deadline: it never comes.
  static Deadline none(Timer& timer) noexcept;

  Timer& timer() const noexcept { return *timer_; }
  /// The time itself; TimePoint::max() if there is none.
  TimePoint time() const noexcept { return time_; }
  bool isNone() const noexcept { return time_ == TimePoint::max(); }

  /// How much time is left: zero when it is over, Duration::max() if there is none.
  Duration left() const;
  bool isOver() const { return left() == Duration::zero(); }

  /// This deadline, or the time `delay` from now if that comes first.
  Deadline earlier(Duration delay) const;
  /// The one of the two that comes first. They must be of the same timer: throws FAILED otherwise.
  Deadline earlier(const Deadline& other, std::source_location where = std::source_location::current()) const;

  /// Completes:    as `promise` does, if it is ready in time.
  /// Errors:       its own, and OVERLOADED ("timed out after 2s: reading the page") when the time comes first; the
  ///               duration is the one that the deadline was made with. `promise` has been destroyed by then.
  /// Cancellation: that of `promise`.
  template <typename T>
  Promise<T> limit(Promise<T> promise, std::string what = {},
                   std::source_location where = std::source_location::current()) const {
    if (isNone()) return promise;
    return std::move(promise).exclusiveJoin(
        timer_->atTime(time_, where).then([given = given_, what = std::move(what), where]() -> T {
          throwTimedOut(given, what, where);
        }),
        where);
  }

  /// Throws what limit() fails with if the time is over: for work that computes for long without waiting.
  void check(const std::string& what = {}, std::source_location where = std::source_location::current()) const {
    if (isOver()) throwTimedOut(given_, what, where);
  }

private:
  Timer* timer_;
  TimePoint time_;
  Duration given_; // how much time there was when it was made

  Deadline(Timer& timer, TimePoint time, Duration given) noexcept : timer_(&timer), time_(time), given_(given) {}

  [[noreturn]] static void throwTimedOut(Duration given, const std::string& what, std::source_location where);
};

/// Calls `func(Deadline)` and limits what it returns: `func` and the parts that it passes the deadline to see how much
/// time is left, and all of it is cancelled when there is none.
///
///     co_await withDeadline(timer, 2s, [&](Deadline deadline) { return fetch(client, deadline); }, "the page");
///
/// `func` may be a lambda that is a coroutine: its captures live as long as the promise.
///
/// Completes:    as the promise that `func` returns, if it is ready in time.
/// Errors:       its own, what `func` throws, and as Deadline::limit().
/// Cancellation: that of the promise that `func` returns.
template <typename Func>
auto withDeadline(Timer& timer, Duration delay, Func func, std::string what = {},
                  std::source_location where = std::source_location::current())
    -> detail::PromiseOf<std::invoke_result_t<Func&, Deadline>>;

/// The same within another deadline: the earlier of the two holds.
template <typename Func>
auto withDeadline(const Deadline& outer, Duration delay, Func func, std::string what = {},
                  std::source_location where = std::source_location::current())
    -> detail::PromiseOf<std::invoke_result_t<Func&, Deadline>>;

// --- Implementation.

namespace detail {

template <typename Func>
auto callWithin(const Deadline& deadline, Func&& func, std::string&& what, const std::source_location& where)
    -> PromiseOf<std::invoke_result_t<Func&, Deadline>> {
  struct Kept : Pooled {
    explicit Kept(Func&& f) : func(std::move(f)) {}
    Func func;
  };
  auto kept = std::make_unique<Kept>(std::move(func));
  auto promise = evalNow([&] { return std::invoke(kept->func, deadline); });
  return deadline.limit(std::move(promise).attach(std::move(kept)), std::move(what), where);
}

} // namespace detail

template <typename Func>
auto withDeadline(Timer& timer, Duration delay, Func func, std::string what, std::source_location where)
    -> detail::PromiseOf<std::invoke_result_t<Func&, Deadline>> {
  return detail::callWithin(Deadline::in(timer, delay), std::move(func), std::move(what), where);
}

template <typename Func>
auto withDeadline(const Deadline& outer, Duration delay, Func func, std::string what, std::source_location where)
    -> detail::PromiseOf<std::invoke_result_t<Func&, Deadline>> {
  return detail::callWithin(outer.earlier(delay), std::move(func), std::move(what), where);
}

} // namespace v0
} // namespace troth
