// SPDX-License-Identifier: MIT
// The event queue: one turn, running until a promise is ready, and the thread's current loop.
//
// Invariants: an event is in the ring exactly while its `next` is set; `depthAfter_` points to start_ or
// to an event in front of lastStart_ that is still queued; `runnable_` is true whenever an event is
// queued. One turn costs a pop, four stores and one virtual call; nothing here allocates.
#include <troth/runtime/event_loop.h>

#include <troth/runtime/event_detail.h>
#include <troth/runtime/node_detail.h>

#include <fmt/format.h>

#include <algorithm>

namespace troth {
inline namespace v0 {
namespace {

// Turns between two looks at I/O while events keep coming: a flood of ready promises delays I/O by some
// tens of microseconds and no more.
constexpr std::size_t TURNS_PER_POLL = 1000;

// Awaits of ready promises that one turn may complete without a trip through the queue.
constexpr unsigned INLINE_AWAITS_PER_TURN = 64;

// An event that notes that it fired: what wait() and poll() wait with.
class FlagEvent final : public detail::Event {
public:
  explicit FlagEvent(EventLoop& loop) noexcept : Event(loop) {}
  bool fired = false;

private:
  void fire() noexcept override { fired = true; }
};

} // namespace

constinit thread_local EventLoop* EventLoop::current_ = nullptr;

EventLoop::EventLoop() noexcept : depthAfter_(&start_), port_(nullptr) {
  start_.next = start_.prev = &lastStart_;
  lastStart_.next = lastStart_.prev = &start_;
}

EventLoop::EventLoop(EventPort& port) noexcept : EventLoop() { port_ = &port; }

EventLoop::~EventLoop() {
  if (running_) detail::fatal("an EventLoop was destroyed from inside one of its events");
  if (entered_) detail::fatal("an EventLoop was destroyed while it is the thread's current loop");
  if (liveEvents_ != 0)
    detail::fatal(fmt::format("an EventLoop was destroyed while {} promise(s) or coroutine(s) still wait on it; "
                              "destroy them first",
                              liveEvents_));
}

EventLoop& EventLoop::current(std::source_location where) {
  if (current_ == nullptr)
    detail::throwMisuse("no event loop on this thread: make an AsyncIoContext (setupAsyncIo) or a WaitScope first",
                        where);
  return *current_;
}

bool EventLoop::isRunnable() const noexcept { return start_.next != &lastStart_ || lastStart_.next != &start_; }

void EventLoop::becameRunnable() noexcept {
  runnable_ = true;
  if (port_ != nullptr) port_->setRunnable(true);
}

void EventLoop::settleRunnable() noexcept {
  const bool runnable = isRunnable();
  if (runnable == runnable_) return;
  runnable_ = runnable;
  if (port_ != nullptr) port_->setRunnable(runnable);
}

inline bool EventLoop::turn() noexcept {
  detail::EventLinks* first = start_.next;
  if (first == &lastStart_) {
    first = lastStart_.next;
    if (first == &start_) return false;
  }
  auto& event = static_cast<detail::Event&>(*first);
  event.unlink();
  depthAfter_ = &start_;
  inlineBudget_ = INLINE_AWAITS_PER_TURN;
  firing_ = &event;
  event.fire();
  firing_ = nullptr;
  depthAfter_ = &start_; // what is armed from outside of turns runs next, too
  return true;
}

std::size_t EventLoop::run(std::size_t maxTurns) {
  if (running_) detail::throwMisuse("EventLoop::run() was called from inside an event");
  running_ = true;
  std::size_t turns = 0;
  while (turns < maxTurns && turn()) ++turns;
  running_ = false;
  settleRunnable();
  return turns;
}

namespace {

[[noreturn]] void throwDeadlock(bool hasPort, std::source_location where) {
  detail::throwMisuse(hasPort
                          ? "deadlock: the promise cannot become ready, since nothing is queued and no I/O, timer or "
                            "signal is pending"
                          : "deadlock: the promise cannot become ready, since nothing is queued and this loop has no "
                            "event port",
                      where);
}

} // namespace

void EventLoop::runUntil(const bool& done, std::source_location where) {
  for (std::size_t turns = 0; !done;) {
    running_ = true;
    while (!done && turns < TURNS_PER_POLL && turn()) ++turns;
    running_ = false;
    if (done) break;
    if (turns == TURNS_PER_POLL) {
      turns = 0;
      if (port_ != nullptr) port_->poll();
    } else {
      settleRunnable();
      turns = 0;
      if (port_ == nullptr || !port_->wait()) throwDeadlock(port_ != nullptr, where);
    }
  }
  settleRunnable();
}

// Runs what is queued and what I/O has already happened, until `done` or until both are exhausted.
void EventLoop::runWhileReady(const bool& done) {
  while (!done) {
    std::size_t turns = 0;
    running_ = true;
    while (!done && turns < TURNS_PER_POLL && turn()) ++turns;
    running_ = false;
    if (done) break;
    if (port_ != nullptr) port_->poll();
    if (turns < TURNS_PER_POLL && !isRunnable()) break;
  }
  settleRunnable();
}

EventLoopScope::EventLoopScope(EventLoop& loop, std::source_location where) : loop_(loop) {
  if (EventLoop::current_ != nullptr)
    detail::throwMisuse("this thread already has an event loop; a thread can have only one at a time", where);
  if (loop.entered_) detail::throwMisuse("this event loop is already in use on another thread", where);
  loop.entered_ = true;
  EventLoop::current_ = &loop;
}

EventLoopScope::~EventLoopScope() {
  if (EventLoop::current_ != &loop_)
    detail::fatal("an event loop's scope was left on another thread than the one that entered it");
  EventLoop::current_ = nullptr;
  loop_.entered_ = false;
}

WaitScope::WaitScope(EventLoop& loop, std::source_location where) : EventLoopScope(loop, where) {}

namespace {

void requireOutside(bool running, EventLoop& loop, std::string_view what, std::source_location where) {
  if (running)
    detail::throwMisuse(
        fmt::format("{} was called from inside a continuation or coroutine: only code outside of the loop, "
                    "such as main(), may block; return or co_await the promise instead",
                    what),
        where);
  if (&loop != EventLoop::currentOrNull())
    detail::throwMisuse(fmt::format("{} was called on another thread than the one of its WaitScope", what), where);
}

} // namespace

namespace {

// Whatever ends the waiting (a port may throw), the promise must not keep the address of an event on the stack.
struct StopListening {
  detail::OwnNode& node;
  const bool& fired;
  ~StopListening() {
    if (!fired) detail::listen(*node, nullptr);
  }
};

} // namespace

std::size_t WaitScope::poll(std::size_t maxTurns, std::source_location where) {
  EventLoop& l = loop();
  requireOutside(l.running_, l, "WaitScope::poll()", where);
  std::size_t turns = 0;
  while (turns < maxTurns) {
    const std::size_t ran = l.run(std::min(maxTurns - turns, TURNS_PER_POLL));
    turns += ran;
    if (turns >= maxTurns) break;
    if (l.port_ != nullptr) l.port_->poll();
    if (!l.isRunnable()) break;
  }
  return turns;
}

void WaitScope::waitFor(detail::OwnNode& node, std::source_location where) {
  EventLoop& l = loop();
  requireOutside(l.running_, l, "wait()", where);
  FlagEvent event(l);
  if (node.listen(&event)) {
    if (!l.isRunnable()) return; // nothing could run before it anyway
    event.armBreadthFirst();
  }
  const StopListening stop{node, event.fired};
  l.runUntil(event.fired, where);
}

bool WaitScope::pollFor(detail::OwnNode& node, std::source_location where) {
  EventLoop& l = loop();
  requireOutside(l.running_, l, "poll()", where);
  FlagEvent event(l);
  if (node.listen(&event)) event.armBreadthFirst();
  const StopListening stop{node, event.fired};
  l.runWhileReady(event.fired);
  return event.fired;
}

namespace detail {

void Event::destroyedWhileFiring() noexcept {
  fatal("a promise was destroyed by the code that it is running; let the code finish first, for example by "
        "handing the promise to a TaskSet or by destroying it in evalLater");
}

} // namespace detail
} // namespace v0
} // namespace troth
