// SPDX-License-Identifier: MIT
// EventLoop, the queue that runs a thread's promises; EventPort, what it asks of the world; WaitScope.
#pragma once

#include <troth/runtime/exception.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <source_location>
#include <string>

namespace troth {
inline namespace v0 {

class EventLoop;
class EventLoopObserver;
template <typename T>
class Promise;

namespace detail {

class Event;
class EventState;
class OwnNode;
class PromiseNode;
class Trace;

struct EventLinks {
  EventLinks* next = nullptr;
  EventLinks* prev = nullptr;
};

struct LiveLinks {
  LiveLinks* nextLive = nullptr;
  LiveLinks* prevLive = nullptr;
};

struct LoopExtras;
class WaitEvent;
struct LoopLocal;

} // namespace detail

/// What an EventLoop asks of the world outside: the source of events such as I/O and time.
///
/// UvEventPort implements it on libuv. A port's callbacks only fulfil promises (which arms events); they
/// never run user code themselves. All functions but wake() are called on the loop's thread.
class EventPort {
public:
  virtual ~EventPort() = default;

  /// Blocks until something has happened that may have armed an event, or wake() was called. Returns false if
  /// nothing can ever happen (a deadlock).
  virtual bool wait() = 0;

  /// Takes notice, without blocking, of what has happened.
  virtual void poll() = 0;

  /// Makes a wait() on the loop's thread return soon. May be called from any thread.
  virtual void wake() const = 0;

  /// Called when the loop's queue becomes non-empty (true) or has been run empty (false), so that a port
  /// inside a host's loop can have the turns run. Must not run turns itself.
  virtual void setRunnable(bool runnable) noexcept { (void)runnable; }
};

/// One thread's queue of events. Everything made on a thread while the loop is entered (by a WaitScope,
/// or by a hosted loop for all its life) belongs to it and must be destroyed before it.
///
/// Order: a continuation whose promise just resolved runs next (depth-first, in the order in which they
/// resolved); `evalLater` and continuations of promises that were ready already run after what is queued
/// (breadth-first); `evalLast` after all else.
class EventLoop {
public:
  /// A loop without a world: wait() throws when the queue is empty, since nothing else can ever happen.
  EventLoop() noexcept;
  /// A loop that gets its events from `port`, which must outlive it.
  explicit EventLoop(EventPort& port) noexcept;
  /// Cancels detached promises, destroys the loop's locals, and aborts, with a message that says where it was made,
  /// if a promise that waits on this loop is still alive: it would dangle.
  ~EventLoop();

  EventLoop(const EventLoop&) = delete;
  EventLoop& operator=(const EventLoop&) = delete;

  /// Runs at most `maxTurns` events and returns how many ran: fewer also behind one that wants the loop to look for I/O
  /// (yieldToIo), though more are queued. For ports and tests; throws FAILED when called from inside an event, on
  /// another thread, or before the loop is entered.
  std::size_t run(std::size_t maxTurns = SIZE_MAX);

  /// Whether an event is queued.
  bool isRunnable() const noexcept;

  /// How many events the loop has run since it asked its port for something last. For ports.
  std::size_t eventsInBatch() const noexcept { return eventsInBatch_; }

  /// Of a port that has looked at the outside world and found nothing: runs what waits for that moment
  /// (yieldUntilWouldSleep) next. Returns whether there was any.
  bool wakeSleepers() noexcept;

  /// Destroys the promises that were given away with Promise::detach().
  void cancelAllDetached();

  /// `observer`, which must outlive the loop (null: none), is told when the loop waits, and of slow turns.
  void setObserver(EventLoopObserver* observer) noexcept;
  EventLoopObserver* observer() const noexcept { return observer_; }

  /// For Promise::detach(): the loop owns `promise` from now on.
  void detach(Promise<void> promise, std::source_location where);

  /// For EventLoopLocal: objects that the loop destroys when it is destroyed, the newest first.
  void* findLocal(const void* key) const noexcept;
  void addLocal(const detail::LoopLocal& local);

  /// What runs on this loop, the oldest first: each wait(), each task of its TaskSets and each detached promise, and,
  /// indented, what it waits for, one step a line.
  std::string traceTasks() const;

  /// Whether an event is being run: user code of this loop is on the stack.
  bool isRunning() const noexcept { return running_; }

  /// The loop that is entered on this thread. Throws FAILED if there is none.
  static EventLoop& current(std::source_location where = std::source_location::current()) {
    if (current_ == nullptr) [[unlikely]]
      throwNoLoop(where);
    return *current_;
  }
  /// The same, or null.
  static EventLoop* currentOrNull() noexcept { return current_; }

  /// Whether a thread has entered `loop`, which may be gone. Any thread.
  static bool isInUse(const EventLoop* loop) noexcept;

  /// Events that exist on this loop, queued or not: what waits, and each coroutine that has waited. For tests.
  std::size_t liveEvents() const noexcept;

private:
  friend class detail::EventState;
  friend class detail::Trace;
  friend class EventLoopScope;
  friend class WaitScope;
  friend Promise<void> yieldToIo() noexcept;

  static constinit thread_local EventLoop* current_;
  [[noreturn]] static void throwNoLoop(std::source_location where);

  // The queue is a ring: start_, the normal events, lastStart_, the `evalLast` events, back to start_.
  detail::EventLinks start_;
  detail::EventLinks lastStart_;
  detail::EventLinks sleepers_;    // a ring of their own: what waits until the loop would sleep
  detail::EventLinks* depthAfter_; // the next depth-first event goes behind this; reset every turn
  detail::EventState* firing_ = nullptr;
  detail::EventState* following_ = nullptr; // what goes before the queue: armed by the last act of a turn
  EventPort* port_;
  EventLoopObserver* observer_ = nullptr;
  std::unique_ptr<detail::LoopExtras> extras_; // made when needed
  detail::LiveLinks live_;                     // a ring of all listed events
  alignas(void*) std::byte waitEvent_[72];     // a detail::WaitEvent
  std::source_location evaluatingAt_;          // the wait() whose promise is being evaluated
  unsigned inlineBudget_ = 0;                  // awaits of ready promises that this turn may still complete in place
  std::size_t turnsPerBatch_ = 0;              // after so many turns it looks for I/O; 0 once a turn has asked for that
  std::size_t eventsInBatch_ = 0;              // that have run, once it is over
  bool runnable_ = true;                       // what the port was told last; true without a port
  bool running_ = false;                       // user code is on the stack: no wait() may nest in it
  bool entered_ = false;
  bool timed_ = false;                       // the observer wants to hear of slow turns
  std::chrono::nanoseconds slowTurnLimit_{}; // from when on they are slow
  EventLoop* nextEntered_ = nullptr;         // in a list of all threads' loops

  void noticeDisarmed() noexcept {
    // Inside run() and wait() the port is told at the end.
    if (runnable_ && !running_) settleRunnable();
  }
  bool hasTurns() const noexcept { return start_.next != &lastStart_ || lastStart_.next != &start_; }
  detail::LoopExtras& extras();
  void destroyExtras() noexcept;
  detail::WaitEvent& waitEvent() noexcept;
  bool turn() noexcept;
  bool timedTurn() noexcept;
  std::size_t timedTurns(const bool& done) noexcept;
  std::size_t runTurns(std::size_t maxTurns, const bool& done) noexcept;
  void becameRunnable() noexcept;
  void settleRunnable() noexcept;
  void runUntil(const bool& done, std::source_location where);
  void runWhileReady(const bool& done);
};

/// Makes a loop the current one of this thread while it lives. The base of WaitScope; a hosted loop holds
/// one without the right to wait.
class EventLoopScope {
public:
  /// Throws FAILED if another loop is current on this thread.
  explicit EventLoopScope(EventLoop& loop, std::source_location where = std::source_location::current());
  ~EventLoopScope();
  EventLoopScope(const EventLoopScope&) = delete;
  EventLoopScope& operator=(const EventLoopScope&) = delete;

  EventLoop& loop() const noexcept { return loop_; }

private:
  EventLoop& loop_;
};

/// The right to block this thread on promises: `main` holds one, and functions that block say so by
/// taking it as a parameter. Continuations and coroutines must not have one; using it there throws.
class WaitScope : public EventLoopScope {
public:
  explicit WaitScope(EventLoop& loop, std::source_location where = std::source_location::current());

  /// Runs queued events, and what I/O has already happened, without blocking; at most `maxTurns` events.
  /// Returns how many ran. Throws FAILED when called from inside an event.
  std::size_t poll(std::size_t maxTurns = SIZE_MAX, std::source_location where = std::source_location::current());

  /// For Promise::wait: whether this is the thread and the place to wait, and nothing is queued.
  bool isIdle() const noexcept {
    const EventLoop& l = loop();
    return !l.running_ && EventLoop::current_ == &l && !l.hasTurns();
  }

  /// For Promise::wait, which owns the node; destroys it before it throws.
  void waitFor(detail::PromiseNode*& node, std::source_location where);
  /// For Promise::poll.
  bool pollFor(detail::OwnNode& node, std::source_location where);

  /// For Promise::wait: marks that user code runs, in which no wait() may nest.
  class Evaluating {
  public:
    Evaluating(WaitScope& scope, std::source_location where) noexcept : loop_(scope.loop()) {
      loop_.evaluatingAt_ = where;
      loop_.running_ = true;
    }
    ~Evaluating() {
      loop_.running_ = false;
      loop_.evaluatingAt_ = {};
    }
    Evaluating(const Evaluating&) = delete;
    Evaluating& operator=(const Evaluating&) = delete;

  private:
    EventLoop& loop_;
  };
};

} // namespace v0
} // namespace troth
