// SPDX-License-Identifier: MIT
// Event: something that the loop will run once after it was armed. The base of whatever waits.
#pragma once

#include <troth/runtime/event_loop.h>
#include <troth/runtime/trace_detail.h>

namespace troth {
inline namespace v0 {
namespace detail {

/// Aborts if `loop`, which may be gone, is in use on another thread: a promise that was made at `where` was destroyed
/// on this one.
void destroyedElsewhere(const EventLoop* loop, std::source_location where) noexcept;

/// The same; null stands for any loop.
inline void requireOwnThread(const EventLoop* loop, std::source_location where) noexcept {
  if (loop != nullptr && loop != EventLoop::currentOrNull()) [[unlikely]]
    destroyedElsewhere(loop, where);
}

/// An event's place in the queue and in the loop's list of events. (Not part of Event, so that the destructors of
/// events need not say once more which virtual functions they have.)
class EventState : private EventLinks, private LiveLinks {
public:
  EventState(const EventState&) = delete;
  EventState& operator=(const EventState&) = delete;

  /// Runs this event next, behind those that this turn armed so before. No effect if armed already.
  void armDepthFirst() noexcept {
    if (next != nullptr) return;
    insertAfter(*loop_.depthAfter_);
    loop_.depthAfter_ = this;
    if (!loop_.runnable_) loop_.becameRunnable();
  }

  /// The same, as the last act of another event's fire(): without the queue if this one would be the first in it.
  void armAtEndOfTurn() noexcept {
    if (loop_.depthAfter_ == &loop_.start_ && next == nullptr)
      loop_.following_ = this;
    else
      armDepthFirst();
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

protected:
  explicit EventState(EventLoop& loop) noexcept : loop_(loop) { enlist(); }
  /// An event that may not be needed: enlist() comes before anything else.
  struct Unlisted {};
  EventState(EventLoop& loop, Unlisted) noexcept : loop_(loop) {}

  ~EventState() {
    if (!isListed()) return;
    if (isFiring()) [[unlikely]]
      destroyedWhileFiring();
    disarm();
    prevLive->nextLive = nextLive;
    nextLive->prevLive = prevLive;
  }

  /// Adds the event to those that the loop knows.
  void enlist() noexcept {
    nextLive = loop_.live_.nextLive;
    prevLive = &loop_.live_;
    nextLive->prevLive = this;
    loop_.live_.nextLive = this;
  }
  bool isListed() const noexcept { return nextLive != nullptr; }

  /// To be called first when the event, or what it is a part of, is destroyed: aborts if this is not its thread. What
  /// was made at `where` is destroyed.
  void requireThreadToGo(std::source_location where) const noexcept {
    if (&loop_ != EventLoop::currentOrNull()) [[unlikely]]
      destroyedElsewhere(&loop_, where);
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

/// Non-template, intrusive: arming never allocates. Belongs to the loop that was current when it was made.
class Event : public EventState {
public:
  using EventState::EventState;

  /// The promise that this event computes, if it does.
  virtual const PromiseNode* computes() const noexcept { return nullptr; }
  /// The promise that this event waits for, if it is the owner.
  virtual const PromiseNode* awaits() const noexcept { return nullptr; }
  /// What a trace says of an event that computes no promise, such as a wait() or a task.
  virtual void describe(Trace& trace) const noexcept { (void)trace; }

protected:
  virtual ~Event() = default; // virtual for the compilers' sake alone

private:
  friend class v0::EventLoop;

  virtual void fire() = 0; // throws nothing; what says so needs a frame for it
};

} // namespace detail
} // namespace v0
} // namespace troth
