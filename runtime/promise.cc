// SPDX-License-Identifier: MIT
// The parts of promises and coroutines that need no type.
#include <troth/runtime/promise.h>

namespace troth {
inline namespace v0 {
namespace detail {

void throwConsumed(std::source_location where) {
  throwMisuse("a promise was used after it had been consumed (by co_await, then, wait or a move)", where);
}

bool CoroutineNode::awaitedIsReady() noexcept {
  if (hasSuspended_ && takeInlineBudget()) return true;
  armBreadthFirst();
  return false;
}

void CoroutineNode::throwAwaited(ResultBase& result) {
  ExceptionRef exception = std::move(result.exception);
  endAwait();
  exception.rethrow();
}

void CoroutineNode::destroy() noexcept {
  if (isFiring()) destroyedWhileFiring();
  try {
    frame_.destroy();
  } catch (...) {
    // A cancelled coroutine has nobody to tell that the destructor of a local threw.
  }
}

} // namespace detail
} // namespace v0
} // namespace troth
