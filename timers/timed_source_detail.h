// SPDX-License-Identifier: MIT
// TimedSource: what gives one value after the other, each when its time has come, to whoever asks.
#pragma once

#include <troth/runtime/promise.h>
#include <troth/runtime/waiter_detail.h>
#include <troth/timers/alarm_detail.h>

#include <optional>
#include <source_location>

namespace troth {
inline namespace v0 {
namespace detail {

/// The part that Ticker, Debouncer and Throttler share. The value is made when the result of the promise is *taken*,
/// not when its time comes: a promise that is ready and destroyed leaves everything as it was, and the next one is
/// ready with the same. One promise at a time.
template <typename T>
class TimedSource : private Alarm {
protected:
  /// `name` is that of the function whose promises these are, for messages and traces.
  TimedSource(Timer& timer, const char* name) noexcept : Alarm(timer), name_(name) {}

  using Alarm::timer;

  /// When there will be a value; nothing if that is not known yet. It may become earlier or later: see changed().
  virtual std::optional<TimePoint> dueAt() noexcept = 0;
  /// Makes the value, which is due.
  virtual T take() noexcept = 0;

  void require(const char* what, const std::source_location& where) { home_.require(what, where); }

  /// A promise for the next value. Throws FAILED if there is one already.
  Promise<T> newPromise(std::source_location where) {
    home_.require("next() was called", where);
    if (!line_.isEmpty())
      throwMisuse("one promise at a time: the one before is still pending, or was not taken", where);
    OwnNode owner(new Node(*this, where));
    Node& node = static_cast<Node&>(*owner);
    line_.add(node);
    serve(timer().now());
    return PromiseAccess::wrap<T>(std::move(owner));
  }

  /// dueAt() gives something else. Should the timer throw, the promise fails with that.
  void changed() noexcept { onAlarm(timer().now()); }

  /// A promise that is ready gets its value now, whatever is changed next.
  void settle() noexcept {
    if (Node* node = pending(); node != nullptr && node->isReady()) node->settle();
  }

  /// To be called by the destructor.
  void close(const char* why) noexcept {
    stopAlarm();
    if (Node* node = pending(); node != nullptr && node->isReady()) {
      home_.requireOrAbort("what a promise waits for was destroyed", node->where());
      node->settle();
    }
    line_.disconnectAll(why);
  }

private:
  class Node final : public Waiter {
  public:
    Node(TimedSource& source, std::source_location where) noexcept
        : Waiter(where), source_(source), name_(source.name_) {}

    using Waiter::setReady;

    void settle() noexcept {
      value_.value.emplace(source_.take());
      unlink();
    }
    ResultBase& get(ResultBase*) noexcept override {
      if (isLinked()) {
        source_.home_.requireOrAbort("a promise's result was taken", where());
        settle();
      }
      return value_;
    }
    void destroy() noexcept override {
      if (isLinked()) {
        source_.home_.requireOrAbort("a promise was destroyed", where());
        unlink();
        source_.stopAlarm();
      }
      delete this;
    }
    const char* name() const noexcept override { return name_; }

  private:
    TimedSource& source_; // alive while this is linked
    const char* name_;
    Result<T> value_;

    ResultBase& result() noexcept override { return value_; }
  };

  const char* name_;
  HomeLoop home_;
  WaiterList line_; // of one: a promise that is pending, or is ready and was not taken

  Node* pending() noexcept { return line_.isEmpty() ? nullptr : &static_cast<Node&>(line_.front()); }

  void serve(TimePoint now) {
    Node* node = pending();
    if (node == nullptr || node->isReady()) return;
    const std::optional<TimePoint> due = dueAt();
    if (!due) return;
    if (*due > now) return setAlarm(*due, node->where());
    stopAlarm();
    node->setReady();
  }

  void onAlarm(TimePoint now) noexcept override {
    try {
      serve(now);
    } catch (...) {
      line_.failAll(Exception::fromCurrent());
    }
  }
  void onAlarmFailed(const Exception& exception) noexcept override { line_.failAll(exception); }
};

} // namespace detail
} // namespace v0
} // namespace troth
