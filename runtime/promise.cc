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

// When the destructor of a local throws, the coroutine takes it for an exception of its body and ends at its final
// suspension: then it is destroyed once more. A cancelled coroutine has nobody to tell of the exception.
void CoroutineNode::destroy() noexcept {
  if (isFiring()) destroyedWhileFiring();
  if (slot_ != nullptr) *slot_ = nullptr; // the dependency has been destroyed already
  slot_ = nullptr;
  resetSource(nullptr); // nobody may hear of that end
  const std::coroutine_handle<> frame = frame_;
  bool gone = false;
  frame_ = std::coroutine_handle<>::from_address(&gone);
  dying_ = true;
  try {
    frame.destroy();
    if (!gone) frame.destroy();
  } catch (...) {
    // The destructor of a parameter threw.
  }
}

} // namespace detail
} // namespace v0
} // namespace troth
