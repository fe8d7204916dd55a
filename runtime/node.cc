// SPDX-License-Identifier: MIT
// The loops that resolve and destroy chains of nodes, and the nodes that are no templates.
#include <troth/runtime/node_detail.h>

#include <fmt/format.h>

#include <algorithm>

namespace troth {
inline namespace v0 {
namespace detail {

constinit thread_local const Resolving* resolving = nullptr;

namespace {

constexpr unsigned MAX_RECURSION = 32;

} // namespace

ResultBase& resolveLazy(PromiseNode& top) noexcept {
  const Resolving now{.top = &top, .outer = resolving};
  resolving = &now;
  ResultBase& result = top.evaluate(MAX_RECURSION);
  resolving = now.outer;
  return result;
}

// Down: each lazy node's dependency pointer is turned to its parent. Up: it is turned back just before the
// node computes, because computing destroys the dependency. The source at the bottom is not written to,
// so that the shared nodes may stand there.
ResultBase& resolveChain(PromiseNode& top) noexcept {
  PromiseNode* parent = nullptr;
  PromiseNode* node = &top;
  while (node->is(PromiseNode::LAZY)) {
    PromiseNode* below = node->dependency_;
    node->dependency_ = parent;
    parent = node;
    node = below;
  }
  ResultBase* result = &node->get(nullptr);
  Resolving now{.outer = resolving};
  resolving = &now;
  do {
    PromiseNode* above = parent->dependency_;
    parent->dependency_ = node;
    now.node = parent;
    now.above = above;
    result = &parent->get(result);
    node = parent;
    parent = above;
  } while (parent != nullptr);
  resolving = now.outer;
  return *result;
}

constinit thread_local DestroyingChain* DestroyingChain::innermost = nullptr;

bool DestroyingChain::has(const PromiseNode* node) noexcept {
  for (const DestroyingChain* chain = innermost; chain != nullptr; chain = chain->outer_)
    for (const PromiseNode* left = chain->left; left != nullptr; left = left->dependency_)
      if (left == node) return true;
  return false;
}

void destroyLongChain(PromiseNode* node) noexcept {
  DestroyingChain chain;
  PromiseNode* parent = nullptr;
  for (;;) {
    for (;;) {
      PromiseNode* below = node->is(PromiseNode::SEVERAL) ? node->takeDependency() : node->dependency_;
      if (below == nullptr) break;
      node->dependency_ = parent;
      parent = node;
      node = below;
    }
    chain.left = parent;
    node->destroy();
    if (parent == nullptr) return;
    node = parent;
    parent = std::exchange(node->dependency_, nullptr);
    // The next round goes down to the node's next dependency, or destroys it.
  }
}

void destroyedElsewhere(const EventLoop* loop, std::source_location where) noexcept {
  if (!EventLoop::isInUse(loop)) return;
  fatal(
      "a promise was destroyed on another thread than the one whose loop it belongs to; a promise stays on its thread",
      where);
}

constinit thread_local const char* destructorsDisallowed = nullptr;

void destroyedWhileDisallowed(const char* what, std::source_location where) noexcept {
  fatal(fmt::format("{} was destroyed where that is not allowed: {}", what, destructorsDisallowed), where);
}

namespace {

std::string formatStep(const TraceStep& step) {
  if (step.where.line() == 0) return fmt::format("{}\n", step.what);
  std::string_view function = step.where.function_name();
  // g++ calls a coroutine's body "name(name(parameters)::_ZN…Frame*)".
  if (function.ends_with(".Frame*)")) function = function.substr(0, function.find('('));
  return fmt::format("{} at {}:{} in {}\n", step.what, fileName(step.where), step.where.line(), function);
}

Exception wrongThread(std::string_view what, const std::source_location& where) noexcept {
  try {
    return Exception(
        Exception::Kind::FAILED,
        fmt::format("{} on another thread than the one whose loop it belongs to; a promise stays on its thread", what),
        {}, where);
  } catch (const std::bad_alloc&) {
    return Exception(outOfMemory());
  }
}

} // namespace

namespace {

constinit Immortal<OutOfMemoryNode> outOfMemoryImmortal;

} // namespace

OwnNode makeBroken(ExceptionRef exception, std::source_location where) noexcept {
  try {
    return OwnNode(NodeAccess::make<BrokenNode>(std::move(exception), where));
  } catch (const std::bad_alloc&) {
    return OwnNode(&outOfMemoryImmortal.node);
  }
}

// Whoever takes the result moves the exception out of it.
ResultBase& OutOfMemoryNode::get(ResultBase*) noexcept {
  static thread_local ResultBase result;
  result.exception = outOfMemory();
  return result;
}

constinit Immortal<ReadyNode> readyImmortal;
constinit Immortal<SharedNode> neverImmortal(SharedNode::Kind::NEVER);
constinit Immortal<SharedNode> yieldImmortal(SharedNode::Kind::YIELD);
constinit Immortal<SharedNode> lastImmortal(SharedNode::Kind::LAST);
constinit Immortal<SharedNode> wouldSleepImmortal(SharedNode::Kind::WOULD_SLEEP);

inline bool SharedNode::onReady(Event* event) noexcept {
  if (event == nullptr) return false;
  switch (kind_) {
  case Kind::NEVER:
    break;
  case Kind::YIELD:
    event->armBreadthFirst();
    break;
  case Kind::LAST:
    event->armLast();
    break;
  case Kind::WOULD_SLEEP:
    event->armWhenWouldSleep();
    break;
  }
  return false;
}

const char* SharedNode::name() const noexcept {
  switch (kind_) {
  case Kind::NEVER:
    return "NEVER_DONE";
  case Kind::YIELD:
    return "the end of the queue";
  case Kind::LAST:
    return "an empty queue";
  case Kind::WOULD_SLEEP:
    return "nothing left to do";
  }
  return "";
}

// ---------------------------------------------------------------------------------------- SourceNode

bool SourceNode::onReady(Event* event) noexcept {
  if (state_ == READY) return true;
  state_ = event != nullptr ? reinterpret_cast<std::uintptr_t>(event) : unwaited(loop());
  return false;
}

void throwAwaitedForeign(OwnNode promise) { throw wrongThread("a promise was awaited", promise.release()->where()); }

bool listenToSlowly(PromiseNode*& slot, Event* event) {
  PromiseNode& source = sourceOf(*slot);
  if (source.is(PromiseNode::SHARED)) return static_cast<SharedNode&>(source).SharedNode::onReady(event);
  const EventLoop* own = source.loop();
  if (own != nullptr && own != &event->loop()) [[unlikely]]
    throwAwaitedForeign(OwnNode(std::exchange(slot, nullptr)));
  return source.onReady(event);
}

void SourceNode::setFailed(ResultBase& result, Exception exception) noexcept {
  result.exception = std::move(exception).takeRef();
  if (waiter() != nullptr && !result.exception.hasTrace()) {
    Trace trace;
    trace.addSource(*this);
    result.exception.setTrace(trace);
  }
  setReady();
}

ExceptionRef failureFromCurrent() noexcept {
  ExceptionRef exception = Exception::fromCurrent().takeRef();
  if (!exception.hasTrace()) {
    Trace trace;
    trace.addCurrent();
    exception.setTrace(trace);
  }
  return exception;
}

void SourceNode::requireThreadToGoSlowly() const noexcept { requireOwnThread(SourceNode::loop(), where_); }

void SourceNode::throwWrongThread(std::string_view what) const { throw wrongThread(what, where_); }

// ----------------------------------------------------------------------------------------- ChainNode

void ChainNode::start() {
  if (listenTo(dependency_, this)) armBreadthFirst();
}

bool ChainNode::onReady(Event* event) noexcept {
  waiter_ = event;
  return false;
}

inline PromiseNode* ChainNode::takeInner() noexcept {
  ResultBase& outer = resolve(*dependency_);
  if (outer.exception) [[unlikely]]
    return takeFailure(outer);
  PromiseNode* inner = static_cast<Result<OwnNode>&>(outer).value->release();
  destroyTaken(*std::exchange(dependency_, nullptr));
  if (inner == nullptr || isForeign(*inner, &Event::loop())) [[unlikely]]
    return refuse(inner);
  return inner;
}

PromiseNode* ChainNode::takeFailure(ResultBase& outer) noexcept {
  ExceptionRef exception = std::move(outer.exception);
  destroyTaken(*std::exchange(dependency_, nullptr));
  return makeBroken(std::move(exception), where_).release();
}

PromiseNode* ChainNode::refuse(const PromiseNode* inner) const noexcept {
  if (inner == nullptr)
    return makeBroken(Exception(Exception::Kind::FAILED, "a continuation returned a promise that was consumed already",
                                {}, where_)
                          .ref(),
                      where_)
        .release();
  // A foreign promise could be destroyed only on its thread.
  return makeBroken(wrongThread("a promise was returned by a continuation", inner->where()).ref(), where_).release();
}

// Puts `inner` where a chain stands or stood, and hands the waiter on to it.
inline void ChainNode::settle(PromiseNode*& slot, PromiseNode* inner, Event* waiter) noexcept {
  if (inner->is(PromiseNode::CHAIN)) [[unlikely]] {
    // A chain that has settled already is only a stand-in: leave it out.
    while (inner->is(PromiseNode::CHAIN) && inner->is(PromiseNode::LAZY)) {
      const OwnNode standIn(std::exchange(inner, inner->dependency_));
      standIn.get()->dependency_ = nullptr;
    }
    if (inner->is(PromiseNode::CHAIN)) static_cast<ChainNode*>(inner)->place_ = &slot;
  }
  slot = inner;
  if (waiter != nullptr && listenTo(slot, waiter)) waiter->armBreadthFirst();
}

void ChainNode::fire() noexcept {
  PromiseNode* const inner = takeInner();
  PromiseNode** slot = &dependency_;
  Event* const waiter = waiter_;
  if (place_ != nullptr) {
    slot = place_;
    doneFiring();
    destroy();
  } else {
    flags_ |= LAZY | THROUGH;
  }
  settle(*slot, inner, waiter);
}

// --------------------------------------------------------------------------------- ExclusiveJoinNode

ExclusiveJoinNode::ExclusiveJoinNode(EventLoop& loop, OwnNode&& right, std::source_location where) noexcept
    : PromiseNode(where, SEVERAL), leftReady_(*this, loop), rightReady_(*this, loop), right_(right.release()) {}

void ExclusiveJoinNode::start() {
  if (listenTo(dependency_, &leftReady_)) leftReady_.armBreadthFirst();
  if (listenTo(right_, &rightReady_)) rightReady_.armBreadthFirst();
}

const PromiseNode* ExclusiveJoinNode::BranchReady::awaits() const noexcept {
  return this == &join_.leftReady_ ? join_.dependency_ : join_.right_;
}

bool ExclusiveJoinNode::onReady(Event* event) noexcept {
  if (is(LAZY)) return true; // the winner may be one that is ready once only, such as evalLater's
  waiter_ = event;
  return false;
}

void ExclusiveJoinNode::decide(BranchReady& winner) noexcept {
  {
    const DestroyingChain destroying;
    if (&winner == &leftReady_) {
      destroyChain(std::exchange(right_, nullptr));
      rightReady_.disarm(); // after: a dying operation may still have settled
    } else {
      destroyChain(std::exchange(dependency_, nullptr));
      leftReady_.disarm();
      dependency_ = std::exchange(right_, nullptr);
    }
  }
  flags_ = static_cast<std::uint16_t>((flags_ | LAZY) & ~SEVERAL);
  if (waiter_ != nullptr) waiter_->armAtEndOfTurn();
}

// -------------------------------------------------------------------------------------------- traces

void Trace::add(const char* what, const std::source_location& where, unsigned depth) noexcept {
  if (size_ == CAPACITY) {
    ++left_;
    return;
  }
  depths_[size_] = static_cast<unsigned char>(depth < MAX_DEPTH ? depth : MAX_DEPTH);
  steps_[size_++] = {what, where};
}

// The lazy nodes between an event and the source that it listens to are pointed to from above: they are added from
// the top, and then turned round.
void Trace::addLazies(const PromiseNode* top, const PromiseNode* source) noexcept {
  const std::size_t first = size_;
  for (const PromiseNode* node = top; node != nullptr && node != source && node->is(PromiseNode::LAZY) && !isOverfull();
       node = node->dependency_)
    addNode(*node);
  std::reverse(steps_ + first, steps_ + size_);
}

// A lazy node without a place, such as `attach`, is not worth a line.
void Trace::addNode(const PromiseNode& node, unsigned depth) noexcept {
  if (!node.is(PromiseNode::LAZY) || node.where_.line() != 0) add(node.name(), node.where_, depth);
}

void Trace::addSource(const PromiseNode& source) noexcept {
  addNode(source);
  const PromiseNode* node = &source;
  for (const Event* event = node->waiter(); event != nullptr && !isOverfull(); event = node->waiter()) {
    addLazies(event->awaits(), node);
    node = event->computes();
    if (node == nullptr) return event->describe(*this);
    addNode(*node);
  }
}

void Trace::addEvent(const Event& event) noexcept {
  if (const PromiseNode* node = event.computes())
    addSource(*node);
  else
    event.describe(*this);
}

void Trace::addCurrent() noexcept {
  const EventLoop* loop = EventLoop::currentOrNull();
  const Event* firing = loop != nullptr ? static_cast<const Event*>(loop->firing_) : nullptr;
  // A promise that is destroyed by the code that it is running, which aborts soon, has nothing to tell any more.
  if (firing != nullptr && DestroyingChain::has(firing->computes())) return;
  for (const Resolving* now = resolving; now != nullptr; now = now->outer)
    if (DestroyingChain::has(now->top != nullptr ? now->top : now->node)) return;
  for (const Resolving* now = resolving; now != nullptr; now = now->outer) {
    if (now->top != nullptr) {
      addLazies(now->top, nullptr);
      continue;
    }
    addNode(*now->node);
    for (const PromiseNode* node = now->above; node != nullptr && !isOverfull(); node = node->dependency_)
      addNode(*node);
  }
  if (loop == nullptr) return;
  if (firing != nullptr)
    addEvent(*firing);
  else if (loop->evaluatingAt_.line() != 0)
    add("wait", loop->evaluatingAt_);
}

void Trace::addDependencies(const PromiseNode& top, unsigned depth) noexcept {
  for (const PromiseNode* node = &top; node != nullptr && !isOverfull(); node = node->dependencyAt(0)) {
    addNode(*node, depth);
    if (node->dependencyAt(1) == nullptr || depth == MAX_DEPTH) continue;
    for (std::size_t i = 0; !isOverfull(); ++i) {
      const PromiseNode* branch = node->dependencyAt(i);
      if (branch == nullptr) break;
      addDependencies(*branch, depth + 1);
    }
    return;
  }
}

std::string traceRoot(const Event& event) {
  Trace trace;
  event.describe(trace);
  if (const PromiseNode* node = event.awaits()) trace.addDependencies(*node, 1);
  return trace.toString();
}

std::string formatSteps(const TraceStep* steps, std::size_t count) {
  std::string text;
  for (std::size_t i = 0; i < count; ++i) text += formatStep(steps[i]);
  return text;
}

std::string Trace::toString() const {
  std::string text;
  for (std::size_t i = 0; i < size_; ++i) {
    text.append(2U * depths_[i], ' ');
    text += formatStep(steps_[i]);
  }
  if (left_ != 0) text += "…\n";
  return text;
}

} // namespace detail
} // namespace v0
} // namespace troth
