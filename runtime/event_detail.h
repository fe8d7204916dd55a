// SPDX-License-Identifier: MIT
// Event: something that the loop will run once after it was armed. The base of whatever waits.
#pragma once

#include <troth/runtime/event_loop.h>
#include <troth/runtime/trace_detail.h>

namespace troth {
inline namespace v0 {
namespace detail {

/// Non-template, intrusive: arming never allocates. Belongs to the loop that was current when it was made.
class Event : private EventLinks, private LiveLinks {
public:
  explicit Event(EventLoop& loop) noexcept : loop_(loop) {
    nextLive = loop.live_.nextLive;
    prevLive = &loop.live_;
    nextLive->prevLive = this;
    loop.live_.nextLive = this;
  }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;

  /// Runs this event next, behind those that this turn armed so before. No effect if armed already.
  void armDepthFirst() noexcept {
    if (next != nullptr) return;
    insertAfter(*loop_.depthAfter_);
    loop_.depthAfter_ = this;
    if (!loop_.runnable_) loop_.becameRunnable();
  }

  /// Runs this event after all that is queued now (but before those armed last).
  void armBreadthFirst() noexcept {
    if (next != nullptr) return;
    insertAfter(*loop_.lastStart_.prev);
    if (!loop_.runnable_) loop_.becameRunnable();
  }

  /// Runs this event when nothing else is queued. Of several, the one armed last runs first (as in KJ).
  void armLast() noexcept {
    if (next != nullptr) return;
    insertAfter(loop_.lastStart_);
    if (!loop_.runnable_) loop_.becameRunnable();
  }

  /// Runs this event when nothing else is queued and a look at the outside world has found nothing.
  void armWhenWouldSleep() noexcept {
    if (next != nullptr) return;
    insertAfter(*loop_.sleepers_.prev);
    if (!loop_.runnable_) loop_.becameRunnable();
  }

  void disarm() noexcept {
    if (next == nullptr) return;
    if (loop_.depthAfter_ == this) loop_.depthAfter_ = prev;
    unlink();
    loop_.noticeDisarmed();
  }

  bool isArmed() const noexcept { return next != nullptr; }
  EventLoop& loop() const noexcept { return loop_; }

  /// The promise that this event computes, if it does.
  virtual const PromiseNode* computes() const noexcept { return nullptr; }
  /// The promise that this event waits for, if it is the owner.
  virtual const PromiseNode* awaits() const noexcept { return nullptr; }
  /// What a trace says of an event that computes no promise, such as a wait() or a task.
  virtual void describe(Trace& trace) const noexcept { (void)trace; }

protected:
  virtual ~Event() {
    if (isFiring()) [[unlikely]]
      destroyedWhileFiring();
    disarm();
    prevLive->nextLive = nextLive;
    nextLive->prevLive = prevLive;
  }

  /// Whether this event's fire() is on the stack.
  bool isFiring() const noexcept { return loop_.firing_ == this; }

  /// To be called by a fire() that destroys its own event as its last act.
  void doneFiring() noexcept { loop_.firing_ = nullptr; }

  /// Aborts: a promise was destroyed by the code that it is running.
  [[noreturn]] static void destroyedWhileFiring() noexcept;

  /// Whether an await that finds its promise ready may go on in place. Bounded per turn, so that a loop
  /// over ready promises cannot starve the rest.
  bool takeInlineBudget() noexcept {
    if (loop_.inlineBudget_ == 0) return false;
    --loop_.inlineBudget_;
    return true;
  }

private:
  friend class v0::EventLoop;

  EventLoop& loop_;

  virtual void fire() noexcept = 0;

  void insertAfter(EventLinks& place) noexcept {
    prev = &place;
    next = place.next;
    place.next = this;
    next->prev = this;
  }

  void unlink() noexcept {
    next->prev = prev;
    prev->next = next;
    next = nullptr;
  }
};

} // namespace detail
} // namespace v0
} // namespace troth
