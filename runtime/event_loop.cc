// SPDX-License-Identifier: MIT
// The event queue: one turn, running until a promise is ready, and the thread's current loop.
//
// Invariants: an event is in the ring exactly while its `next` is set; `depthAfter_` points to start_ or
// to an event in front of lastStart_ that is still queued; `runnable_` is true whenever an event is
// queued (and always without a port, whom it is for). One turn costs a pop, four stores and one virtual call; nothing
// here allocates.
#include <troth/runtime/event_loop.h>

#include <troth/runtime/event_detail.h>
#include <troth/runtime/event_loop_local.h>
#include <troth/runtime/event_loop_observer.h>
#include <troth/runtime/node_detail.h>
#include <troth/runtime/task_set.h>

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <mutex>
#include <new>
#include <vector>

namespace troth {
inline namespace v0 {
namespace {

// Turns between two looks at I/O while events keep coming: a flood of ready promises delays I/O by some
// tens of microseconds and no more. A turn that takes long asks for a look itself (yieldToIo).
constexpr std::size_t TURNS_PER_POLL = 1000;

// Awaits of ready promises that one turn may complete without a trip through the queue.
constexpr unsigned INLINE_AWAITS_PER_TURN = 64;

} // namespace

namespace detail {

/// What wait() and poll() wait with: each loop has one, since they do not nest.
class WaitEvent final : public Event {
public:
  explicit WaitEvent(EventLoop& loop) noexcept : Event(loop) {}

  bool fired = false;

  /// From now on it stands for a wait for `node`.
  void begin(PromiseNode*& node, std::source_location where) noexcept {
    fired = false;
    node_ = &node;
    where_ = where;
  }

  /// The waiting has ended, if only because a port threw: the promise must not know the event any longer.
  void end() noexcept {
    if (!fired) endUnfired();
    node_ = nullptr;
  }

private:
  PromiseNode** node_ = nullptr;
  std::source_location where_;

  void endUnfired() noexcept {
    if (*node_ != nullptr) {
      PromiseNode& source = sourceOf(**node_);
      if (source.waiter() == this) source.onReady(nullptr);
    }
    disarm();
  }
  void fire() noexcept override { fired = true; }
  const PromiseNode* awaits() const noexcept override { return node_ != nullptr ? *node_ : nullptr; }
  void describe(Trace& trace) const noexcept override {
    if (node_ != nullptr) trace.add("wait", where_);
  }
};

/// What few loops have: detached promises, and locals in the order in which they were made.
struct LoopExtras {
  struct Failures : TaskSet::ErrorHandler {
    void taskFailed(Exception exception) override;
  };
  Failures failures;
  TaskSet detached{failures};
  std::vector<LoopLocal> locals;
};

} // namespace detail

constinit thread_local EventLoop* EventLoop::current_ = nullptr;

EventLoop::EventLoop() noexcept : depthAfter_(&start_), port_(nullptr) {
  start_.next = start_.prev = &lastStart_;
  lastStart_.next = lastStart_.prev = &start_;
  sleepers_.next = sleepers_.prev = &sleepers_;
  live_.nextLive = live_.prevLive = &live_;
  static_assert(sizeof waitEvent_ == sizeof(detail::WaitEvent));
  new (waitEvent_) detail::WaitEvent(*this);
}

inline detail::WaitEvent& EventLoop::waitEvent() noexcept {
  return *std::launder(reinterpret_cast<detail::WaitEvent*>(waitEvent_));
}

EventLoop::EventLoop(EventPort& port) noexcept : EventLoop() {
  port_ = &port;
  runnable_ = false;
}

EventLoop::~EventLoop() {
  if (running_) detail::fatal("an EventLoop was destroyed from inside one of its events");
  if (entered_) detail::fatal("an EventLoop was destroyed while it is the thread's current loop");
  if (extras_ != nullptr) destroyExtras();
  const std::size_t live = liveEvents();
  waitEvent().~WaitEvent();
  if (live != 0) {
    detail::Trace trace;
    trace.addEvent(static_cast<const detail::Event&>(*live_.nextLive));
    detail::fatal(fmt::format("an EventLoop was destroyed while {} promise(s) or coroutine(s) still wait on it; "
                              "destroy them first; the newest:\n{}",
                              live, trace.toString()),
                  trace.isEmpty() ? std::source_location() : trace.begin()->where);
  }
}

std::size_t EventLoop::liveEvents() const noexcept {
  std::size_t count = 0; // of all but waitEvent()
  for (const detail::LiveLinks* live = live_.nextLive; live != &live_; live = live->nextLive) ++count;
  return count - 1;
}

void EventLoop::throwNoLoop(std::source_location where) {
  detail::throwMisuse("no event loop on this thread: make an AsyncIoContext (setupAsyncIo) or a WaitScope first",
                      where);
}

std::string EventLoop::traceTasks() const {
  std::string text;
  for (const detail::LiveLinks* live = live_.prevLive; live != &live_; live = live->prevLive) {
    const auto& event = static_cast<const detail::Event&>(*live);
    if (event.computes() == nullptr) text += detail::traceRoot(event);
  }
  return text;
}

bool EventLoop::isRunnable() const noexcept { return hasTurns() || sleepers_.next != &sleepers_; }

bool EventLoop::wakeSleepers() noexcept {
  if (sleepers_.next == &sleepers_) return false;
  detail::EventLinks& last = *lastStart_.prev;
  last.next = sleepers_.next;
  last.next->prev = &last;
  lastStart_.prev = sleepers_.prev;
  lastStart_.prev->next = &lastStart_;
  sleepers_.next = sleepers_.prev = &sleepers_;
  return true;
}

// -------------------------------------------------------------------------- detached promises, locals

detail::LoopExtras& EventLoop::extras() {
  if (extras_ == nullptr) extras_ = std::make_unique<detail::LoopExtras>();
  return *extras_;
}

void EventLoop::cancelAllDetached() {
  if (extras_ != nullptr) extras_->detached.clear();
}

// Destructors may want the loop, and may make new locals and detach more promises.
void EventLoop::destroyExtras() noexcept {
  EventLoop* const outer = std::exchange(current_, this);
  extras_->detached.clear();
  while (!extras_->locals.empty()) {
    const detail::LoopLocal local = extras_->locals.back();
    extras_->locals.pop_back();
    local.destroy(local.object);
    extras_->detached.clear();
  }
  extras_.reset();
  current_ = outer;
}

namespace detail {

void LoopExtras::Failures::taskFailed(Exception exception) {
  fatal(fmt::format("the error handler of a detached promise has thrown: {}", exception.what()), exception.where());
}

} // namespace detail

void* EventLoop::findLocal(const void* key) const noexcept {
  if (extras_ == nullptr) return nullptr;
  for (const detail::LoopLocal& local : extras_->locals)
    if (local.key == key) return local.object;
  return nullptr;
}

void EventLoop::addLocal(const detail::LoopLocal& local) { extras().locals.push_back(local); }

void EventLoop::detach(Promise<void> promise, std::source_location where) {
  extras().detached.add(std::move(promise), where);
}

void EventLoop::becameRunnable() noexcept {
  runnable_ = true;
  port_->setRunnable(true);
}

void EventLoop::settleRunnable() noexcept {
  if (port_ == nullptr) return;
  const bool runnable = isRunnable();
  if (runnable == runnable_) return;
  runnable_ = runnable;
  port_->setRunnable(runnable);
}

inline bool EventLoop::turn() noexcept {
  detail::EventState* event = following_;
  if (event != nullptr) [[unlikely]] {
    following_ = nullptr;
  } else {
    detail::EventLinks* first = start_.next;
    if (first == &lastStart_) {
      first = lastStart_.next;
      if (first == &start_) return false;
    }
    event = static_cast<detail::EventState*>(first);
    event->unlink();
    depthAfter_ = &start_;
  }
  inlineBudget_ = INLINE_AWAITS_PER_TURN;
  firing_ = event;
  static_cast<detail::Event*>(event)->fire();
  return true;
}

// A turn that is timed, for the observer. What it runs may be gone afterwards, so it is traced before.
bool EventLoop::timedTurn() noexcept {
  const detail::EventState* next = following_;
  if (next == nullptr) {
    const detail::EventLinks* first = start_.next != &lastStart_ ? start_.next : lastStart_.next;
    if (first == &start_) return false;
    next = static_cast<const detail::EventState*>(first);
  }
  detail::Trace trace;
  trace.addEvent(static_cast<const detail::Event&>(*next));
  EventLoopObserver* const observer = observer_;
  const auto begin = std::chrono::steady_clock::now();
  turn();
  const auto duration = std::chrono::steady_clock::now() - begin;
  if (observer == nullptr || observer_ != observer || duration <= slowTurnLimit_) return true; // taken away meanwhile
  try {
    observer->onSlowTurn(duration, trace.toString());
  } catch (const std::bad_alloc&) {
    observer->onSlowTurn(duration, "");
  }
  return true;
}

void EventLoop::setObserver(EventLoopObserver* observer) noexcept {
  observer_ = observer;
  slowTurnLimit_ = observer != nullptr ? observer->slowTurnLimit() : std::chrono::nanoseconds::max();
  timed_ = slowTurnLimit_ != std::chrono::nanoseconds::max();
}

std::size_t EventLoop::timedTurns(const bool& done) noexcept {
  std::size_t turns = 0;
  while (turns < turnsPerBatch_ && timedTurn()) {
    ++turns;
    if (done) break;
  }
  return turns;
}

// Runs turns until `done`, which is false yet, or one asks for a look at I/O, at most `maxTurns` (not 0), and returns
// how many.
[[gnu::always_inline]] inline std::size_t EventLoop::runTurns(std::size_t maxTurns, const bool& done) noexcept {
  std::size_t turns = 0;
  running_ = true;
  turnsPerBatch_ = maxTurns;
  if (timed_) [[unlikely]] {
    turns = timedTurns(done);
  } else {
    while (turn()) [[likely]] {
      ++turns;
      if (done || turns >= turnsPerBatch_) break;
    }
  }
  running_ = false;
  eventsInBatch_ = turns;
  firing_ = nullptr;
  if (following_ != nullptr) std::exchange(following_, nullptr)->armDepthFirst();
  depthAfter_ = &start_; // what is armed from outside of turns runs next, too
  return turns;
}

std::size_t EventLoop::run(std::size_t maxTurns) {
  if (running_) detail::throwMisuse("EventLoop::run() was called from inside an event");
  if (detail::DestroyingChain::any())
    detail::throwMisuse("EventLoop::run() was called by a destructor while a promise is being destroyed");
  if (current_ != this)
    detail::throwMisuse(
        "EventLoop::run() was called on another thread than the loop's, or of a loop that is not entered");
  const std::size_t turns = maxTurns != 0 ? runTurns(maxTurns, false) : 0;
  settleRunnable();
  return turns;
}

Promise<void> yieldToIo() noexcept {
  if (EventLoop* const loop = EventLoop::currentOrNull()) loop->turnsPerBatch_ = 0;
  return yield();
}

namespace {

class ObservedWait {
public:
  explicit ObservedWait(EventLoopObserver* observer) noexcept : observer_(observer) {
    if (observer_ != nullptr) observer_->onWaitStart();
  }
  ObservedWait(const ObservedWait&) = delete;
  ObservedWait& operator=(const ObservedWait&) = delete;
  ~ObservedWait() {
    if (observer_ != nullptr) observer_->onWaitEnd();
  }

private:
  EventLoopObserver* observer_;
};

[[noreturn]] void throwDeadlock(bool hasPort, std::source_location where) {
  detail::throwMisuse(hasPort
                          ? "deadlock: the promise cannot become ready, since nothing is queued and no I/O, timer or "
                            "signal is pending"
                          : "deadlock: the promise cannot become ready, since nothing is queued and this loop has no "
                            "event port",
                      where);
}

} // namespace

[[gnu::always_inline]] inline void EventLoop::runUntil(const bool& done, std::source_location where) {
  for (;;) {
    runTurns(TURNS_PER_POLL, done);
    if (done) break;
    if (hasTurns()) {
      if (port_ != nullptr) port_->poll();
      continue;
    }
    if (sleepers_.next != &sleepers_) {
      if (port_ != nullptr) port_->poll();
      if (!hasTurns()) wakeSleepers();
      continue;
    }
    settleRunnable();
    if (port_ == nullptr) throwDeadlock(false, where);
    const ObservedWait observed(observer_);
    if (!port_->wait()) throwDeadlock(true, where);
  }
  settleRunnable();
}

// Runs what is queued and what I/O has already happened, until `done` or until both are exhausted.
void EventLoop::runWhileReady(const bool& done) {
  while (!done) {
    runTurns(TURNS_PER_POLL, done);
    if (done) break;
    const bool isBehind = hasTurns(); // then it has not looked for the sleepers
    if (port_ != nullptr) port_->poll();
    if (!isBehind && !hasTurns() && !wakeSleepers()) break;
  }
  settleRunnable();
}

namespace {

// The loops that threads have entered: few.
constinit std::mutex enteredMutex;
constinit EventLoop* enteredLoops = nullptr;

} // namespace

bool EventLoop::isInUse(const EventLoop* loop) noexcept {
  const std::lock_guard lock(enteredMutex);
  for (const EventLoop* entered = enteredLoops; entered != nullptr; entered = entered->nextEntered_)
    if (entered == loop) return true;
  return false;
}

EventLoopScope::EventLoopScope(EventLoop& loop, std::source_location where) : loop_(loop) {
  if (EventLoop::current_ != nullptr)
    detail::throwMisuse("this thread already has an event loop; a thread can have only one at a time", where);
  if (loop.entered_) detail::throwMisuse("this event loop is already in use on another thread", where);
  loop.entered_ = true;
  EventLoop::current_ = &loop;
  const std::lock_guard lock(enteredMutex);
  loop.nextEntered_ = std::exchange(enteredLoops, &loop);
}

EventLoopScope::~EventLoopScope() {
  if (EventLoop::current_ != &loop_)
    detail::fatal("an event loop's scope was left on another thread than the one that entered it");
  EventLoop::current_ = nullptr;
  loop_.entered_ = false;
  const std::lock_guard lock(enteredMutex);
  EventLoop** link = &enteredLoops;
  while (*link != &loop_) link = &(*link)->nextEntered_;
  *link = loop_.nextEntered_;
}

WaitScope::WaitScope(EventLoop& loop, std::source_location where) : EventLoopScope(loop, where) {}

namespace {

[[noreturn, gnu::cold, gnu::noinline]] void throwNotOutside(bool running, std::string_view what,
                                                            std::source_location where) {
  if (running)
    detail::throwMisuse(
        fmt::format("{} was called from inside a continuation or coroutine: only code outside of the loop, "
                    "such as main(), may block; return or co_await the promise instead",
                    what),
        where);
  if (detail::DestroyingChain::any())
    detail::throwMisuse(fmt::format("{} was called by a destructor while a promise is being destroyed", what), where);
  detail::throwMisuse(fmt::format("{} was called on another thread than the one of its WaitScope", what), where);
}

inline void requireOutside(bool running, EventLoop& loop, std::string_view what, std::source_location where) {
  if (running || &loop != EventLoop::currentOrNull() || detail::DestroyingChain::any()) [[unlikely]]
    throwNotOutside(running, what, where);
}

} // namespace

namespace {

struct EndWaiting {
  detail::WaitEvent& event;
  ~EndWaiting() { event.end(); }
};

/// Watches a node, which what runs in a poll() may destroy.
struct Polling {
  mutable detail::PromiseNode* watched; // null when it is gone

  explicit Polling(detail::PolledNode& node) noexcept : watched(&node) { node.poller = &watched; }
  Polling(const Polling&) = delete;
  Polling& operator=(const Polling&) = delete;
  ~Polling() {
    if (watched != nullptr) static_cast<detail::PolledNode*>(watched)->poller = nullptr;
  }
};

} // namespace

std::size_t WaitScope::poll(std::size_t maxTurns, std::source_location where) {
  EventLoop& l = loop();
  requireOutside(l.running_, l, "WaitScope::poll()", where);
  std::size_t turns = 0;
  while (turns < maxTurns) {
    turns += l.runTurns(std::min(maxTurns - turns, TURNS_PER_POLL), false);
    if (turns >= maxTurns) break;
    if (l.port_ != nullptr) l.port_->poll();
    if (!l.hasTurns() && !l.wakeSleepers()) break;
  }
  l.settleRunnable();
  return turns;
}

void WaitScope::waitFor(detail::PromiseNode*& node, std::source_location where) try {
  EventLoop& l = loop();
  requireOutside(l.running_, l, "wait()", where);
  detail::WaitEvent& event = l.waitEvent();
  event.begin(node, where);
  const EndWaiting end{event};
  if (detail::listenTo(node, &event)) {
    if (!l.hasTurns()) { // nothing could run before it anyway
      event.fired = true;
      return;
    }
    event.armBreadthFirst();
  }
  l.runUntil(event.fired, where);
} catch (...) {
  // A promise of another thread, which could be destroyed only there, is let go of.
  if (node != nullptr && !detail::isForeign(*node, EventLoop::currentOrNull())) detail::destroyChain(node);
  throw;
}

bool WaitScope::pollFor(detail::OwnNode& node, std::source_location where) {
  EventLoop& l = loop();
  requireOutside(l.running_, l, "poll()", where);
  detail::requireOwnLoop(node);
  if (!node.get()->is(detail::PromiseNode::POLLED))
    node = detail::OwnNode(detail::NodeAccess::append<detail::PolledNode>(std::move(node)));
  const Polling polling(static_cast<detail::PolledNode&>(*node));
  detail::WaitEvent& event = l.waitEvent();
  event.begin(polling.watched, where);
  const EndWaiting end{event};
  if (detail::listenTo(polling.watched, &event)) event.armBreadthFirst();
  l.runWhileReady(event.fired);
  if (polling.watched == nullptr) detail::throwMisuse("a promise was destroyed while it was polled", where);
  return event.fired;
}

namespace detail {

void EventState::destroyedWhileFiring() noexcept {
  fatal("a promise was destroyed by the code that it is running; let the code finish first, for example by "
        "handing the promise to a TaskSet or by destroying it in evalLater");
}

} // namespace detail
} // namespace v0
} // namespace troth
