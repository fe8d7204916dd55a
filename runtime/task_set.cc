// SPDX-License-Identifier: MIT
// TaskSet: a doubly-linked list of events, each of which owns one promise.
#include <troth/runtime/task_set.h>

#include <fmt/format.h>

namespace troth {
inline namespace v0 {

class TaskSet::Task final : public detail::Event, public detail::Pooled {
public:
  Task(TaskSet& set, detail::OwnNode node, std::source_location where)
      : Event(EventLoop::current(where)), set_(set), node_(std::move(node)), where_(where) {}

  // The promise goes before anybody, such as a trace, can see it half destroyed.
  ~Task() override {
    requireThreadToGo(where_);
    if (!node_) return;
    const detail::DestroyingChain destroying;
    node_ = detail::OwnNode();
  }

  void start() {
    if (node_.listen(this)) armBreadthFirst();
  }

  Task* next = nullptr;
  Task** link = nullptr; // what points to this task

private:
  TaskSet& set_;
  detail::OwnNode node_;
  std::source_location where_; // where it was added

  const detail::PromiseNode* awaits() const noexcept override { return node_.get(); }
  void describe(detail::Trace& trace) const noexcept override { trace.add("task", where_); }

  // Takes the result, destroys the work and then itself, so that the handler may do with the set what it
  // likes. While the work's last step runs this is the firing event, and destroying the set is caught.
  void fire() noexcept override {
    detail::ResultBase& result = detail::resolve(*node_);
    detail::ExceptionRef exception;
    if (result.exception) exception = std::move(result.exception);
    node_ = detail::OwnNode();
    TaskSet& set = set_;
    set.remove(*this);
    doneFiring();
    delete this;
    if (exception)
      set.reportFailure(Exception(std::move(exception)));
    else
      set.noticeEmpty();
  }
};

// What user code is called under that may destroy the set.
class TaskSet::Watch {
public:
  explicit Watch(TaskSet& set) noexcept : set_(&set), outer_(std::exchange(set.watch_, this)) {}
  Watch(const Watch&) = delete;
  Watch& operator=(const Watch&) = delete;
  ~Watch() {
    if (set_ != nullptr) set_->watch_ = outer_;
  }

  bool setIsGone() const noexcept { return set_ == nullptr; }

  /// The set goes: tells this one and those around it.
  void noticeSetGoes() noexcept {
    for (Watch* watch = this; watch != nullptr; watch = watch->outer_) watch->set_ = nullptr;
  }

private:
  TaskSet* set_;
  Watch* outer_;
};

TaskSet::~TaskSet() {
  detail::requireDestructorsAllowed("a TaskSet");
  closing_ = true;
  if (watch_ != nullptr) std::exchange(watch_, nullptr)->noticeSetGoes();
  clear();
}

void TaskSet::add(Promise<void> task, std::source_location where) {
  detail::OwnNode node = detail::PromiseAccess::take(task, where);
  if (closing_) return;
  auto* added = new Task(*this, std::move(node), where);
  added->next = first_;
  added->link = &first_;
  if (first_ != nullptr) first_->link = &added->next;
  first_ = added;
  ++size_;
  try {
    added->start();
  } catch (...) {
    remove(*added);
    delete added;
    throw;
  }
}

void TaskSet::remove(Task& task) noexcept {
  *task.link = task.next;
  if (task.next != nullptr) task.next->link = task.link;
  --size_;
}

void TaskSet::clear() {
  const bool wasClosing = std::exchange(closing_, true);
  const Watch watch(*this);
  while (first_ != nullptr) {
    Task* task = first_;
    remove(*task);
    delete task;
    if (watch.setIsGone()) return;
  }
  closing_ = wasClosing;
  noticeEmpty();
}

void TaskSet::reportFailure(Exception exception) {
  {
    const Watch watch(*this);
    try {
      handler_.taskFailed(std::move(exception));
    } catch (...) {
      const Exception thrown = Exception::fromCurrent();
      detail::fatal(fmt::format("the error handler of a TaskSet threw: {}", thrown.what()), thrown.where());
    }
    if (watch.setIsGone()) return;
  }
  noticeEmpty();
}

std::string TaskSet::trace() const {
  std::string text;
  for (const Task* task = first_; task != nullptr; task = task->next) text += detail::traceRoot(*task);
  return text;
}

void TaskSet::noticeEmpty() {
  if (first_ != nullptr || emptyFulfiller_ == nullptr) return;
  auto fulfiller = std::move(emptyFulfiller_);
  fulfiller->fulfill();
}

Promise<void> TaskSet::onEmpty(std::source_location where) {
  if (first_ == nullptr) return READY_NOW;
  if (emptyFulfiller_ != nullptr && emptyFulfiller_->isWaiting())
    detail::throwMisuse("TaskSet::onEmpty() was called while another onEmpty() is pending", where);
  auto pair = newPromiseAndFulfiller<void>(where);
  emptyFulfiller_ = std::move(pair.fulfiller);
  return std::move(pair.promise);
}

} // namespace v0
} // namespace troth
