// SPDX-License-Identifier: MIT
// TaskSet: owns background tasks, reports their failures, cancels them when it is destroyed.
#pragma once

#include <troth/runtime/promise.h>

#include <memory>
#include <source_location>
#include <string>

namespace troth {
inline namespace v0 {

/// A set of promises that run in the background, such as the connections of a server.
///
/// A task leaves the set when it is done; a failure goes to the ErrorHandler. Destroying the set cancels
/// every task: when the destructor returns, none will run. Declare it after what its tasks refer to.
class TaskSet {
public:
  class ErrorHandler {
  public:
    virtual ~ErrorHandler() = default;
    /// A task failed; it is destroyed already. May add tasks, and may clear or destroy the set. Must not throw: that
    /// ends the program.
    virtual void taskFailed(Exception exception) = 0;
  };

  /// `handler` must outlive the set.
  explicit TaskSet(ErrorHandler& handler) noexcept : handler_(handler) {}
  ~TaskSet();
  TaskSet(const TaskSet&) = delete;
  TaskSet& operator=(const TaskSet&) = delete;

  /// Runs `task` to its end, unless the set is destroyed or cleared before. A task that is added while
  /// the set is being torn down is cancelled at once.
  void add(Promise<void> task, std::source_location where = std::source_location::current());

  /// Cancels all tasks.
  void clear();

  /// What each task waits for, the newest task first, one step a line; the first line of a task says where it was
  /// added.
  std::string trace() const;

  bool isEmpty() const noexcept { return first_ == nullptr; }
  std::size_t size() const noexcept { return size_; }

  /// Completes: when the set has no tasks; at once if it has none. One such promise at a time: a second
  ///               call throws FAILED while the first is pending.
  /// Cancellation: clean.
  Promise<void> onEmpty(std::source_location where = std::source_location::current());

private:
  class Task;
  friend class Task;
  class Watch;
  friend class Watch;

  ErrorHandler& handler_;
  Task* first_ = nullptr;
  std::size_t size_ = 0;
  bool closing_ = false;
  Watch* watch_ = nullptr; // the innermost one, while user code runs that may destroy the set
  std::unique_ptr<PromiseFulfiller<void>> emptyFulfiller_;

  void remove(Task& task) noexcept;
  void reportFailure(Exception exception);
  void noticeEmpty();
};

} // namespace v0
} // namespace troth
