// SPDX-License-Identifier: MIT
// The rare paths of lists of waiters: failing, misuse, waiters that are served out of their order.
#include <troth/runtime/waiter_detail.h>

#include <string>

namespace troth {
inline namespace v0 {
namespace detail {

namespace {

// `what` is done elsewhere than at home.
std::string notAtHome(const char* what) {
  return std::string(what) + " on another thread, or for another loop, than the one that the object belongs to";
}

} // namespace

void HomeLoop::settle(EventLoop* current, const char* what, const std::source_location& where) {
  if (loop_ != nullptr) throwMisuse(notAtHome(what), where);
  loop_ = current;
}

void HomeLoop::abortIfElsewhere(const char* what, const std::source_location& where) const noexcept {
  if (EventLoop::currentOrNull() == nullptr && !EventLoop::isInUse(loop_)) return;
  fatal(notAtHome(what), where);
}

void WaiterList::failAll(const Exception& exception) noexcept {
  while (!isEmpty()) front().fail(exception);
}

void WaiterList::disconnectAll(const char* why) noexcept {
  while (!isEmpty()) {
    Waiter& waiter = front();
    if (!waiter.isOnOwnThread())
      fatal("what a promise waits in was destroyed on another thread than the one whose loop the promise belongs to",
            waiter.where());
    waiter.fail(Exception(Exception::Kind::DISCONNECTED, why, {}, waiter.where()));
  }
}

std::size_t WaiterList::countBefore(const Waiter& waiter, std::size_t size) const noexcept {
  const WaiterLinks& links = waiter;
  const WaiterLinks* before = links.prev;
  const WaiterLinks* behind = links.next;
  for (std::size_t steps = 0;; ++steps) {
    if (before == &ring_) return steps;
    if (behind == &ring_) return size - 1 - steps;
    before = before->prev;
    behind = behind->next;
  }
}

} // namespace detail
} // namespace v0
} // namespace troth
