// SPDX-License-Identifier: MIT
// The parts of promises and coroutines that need no type.
#include <troth/runtime/promise.h>

namespace troth {
inline namespace v0 {
namespace detail {

void throwConsumed(std::source_location where) {
  throwMisuse("a promise was used after it had been consumed (by co_await, then, wait or a move)", where);
}

void throwResult(ResultBase& result, OwnNode promise) {
  const ExceptionRef exception = std::move(result.exception);
  promise = OwnNode();
  exception.rethrow();
}

Exception droppedFulfiller(std::source_location where) noexcept {
  if (ExceptionRef cause = exceptionInFlight()) {
    const Exception exception(std::move(cause));
    try {
      return exception.withContext("the fulfiller of a promise was destroyed by an exception");
    } catch (const std::bad_alloc&) {
      return exception;
    }
  }
  return Exception(Exception::Kind::FAILED,
                   std::uncaught_exceptions() == 0
                       ? "the fulfiller of a promise was destroyed without fulfilling it"
                       : "the fulfiller of a promise was destroyed by an exception, without fulfilling it",
                   {}, where);
}

// --------------------------------------------------------------------------------------------- forks

void ForkHub::requireThread(std::source_location where) const {
  if (loop() != EventLoop::currentOrNull())
    throwMisuse(
        "a fork was used on another thread than the one whose loop it belongs to; a promise stays on its thread",
        where);
}

ForkBranch::ForkBranch(ForkHub& hub, std::source_location where) noexcept
    : SourceNode(where, &hub.Event::loop(), SEVERAL), hub_(&hub) {
  hub.addOwner();
  if (hub.ready_) {
    setReady();
  } else {
    link_ = hub.last_;
    *link_ = this;
    hub.last_ = &next_;
  }
}

PromiseNode* ForkBranch::takeDependency() noexcept {
  ForkHub* hub = std::exchange(hub_, nullptr);
  if (hub == nullptr) return nullptr;
  requireOwnThread(hub->loop(), where_);
  if (link_ != nullptr) {
    *link_ = next_;
    if (next_ != nullptr)
      next_->link_ = link_;
    else
      hub->last_ = link_;
  }
  return hub->dropOwner() ? hub : nullptr;
}

const PromiseNode* ForkBranch::dependencyAt(std::size_t index) const noexcept { return index == 0 ? hub_ : nullptr; }

void ForkHub::fire() noexcept {
  store(resolve(*dependency_));
  destroyTaken(*std::exchange(dependency_, nullptr));
  ready_ = true;
  while (ForkBranch* branch = first_) {
    first_ = branch->next_;
    branch->link_ = nullptr;
    branch->setReady();
  }
  last_ = &first_;
}

// ---------------------------------------------------------------------------------------- coroutines

bool CoroutineNode::suspendOnReady(PromiseNode*& slot) noexcept {
  armBreadthFirst();
  suspend(slot);
  return false;
}

bool CoroutineNode::suspendSlowly(PromiseNode*& slot) {
  if (listenToSlowly(slot, this)) return awaitReadyNow() || suspendOnReady(slot);
  suspend(slot);
  return false;
}

// When the destructor of a local throws, the coroutine takes it for an exception of its body and ends at its final
// suspension: then it is destroyed once more. A cancelled coroutine has nobody to tell of the exception.
void CoroutineNode::destroySuspended() noexcept {
  Event::requireThreadToGo(where_);
  if (isReady()) [[likely]]
    return frame_.handle.destroy();
  if (isFiring()) destroyedWhileFiring();
  if (slot_ != nullptr) *slot_ = nullptr; // the dependency has been destroyed already
  slot_ = nullptr;
  resetSource(nullptr); // nobody may hear of that end
  const std::coroutine_handle<> frame = frame_.handle;
  bool gone = false;
  frame_.gone = &gone;
  frame.destroy();
  if (!gone) frame.destroy();
}

std::string traceOf(const PromiseNode* node) {
  if (node == nullptr) return "a promise that was consumed\n";
  Trace trace;
  trace.addDependencies(*node);
  return trace.toString();
}

} // namespace detail

std::string getAsyncTrace() {
  detail::Trace trace;
  trace.addCurrent();
  return trace.toString();
}

} // namespace v0
} // namespace troth
