// SPDX-License-Identifier: MIT
// The loops that resolve and destroy chains of nodes, and the nodes that are no templates.
#include <troth/runtime/node_detail.h>

#include <fmt/format.h>

namespace troth {
inline namespace v0 {
namespace detail {

// Down: each lazy node's dependency pointer is turned to its parent. Up: it is turned back just before the
// node computes, because computing destroys the dependency. The source at the bottom is not written to,
// so that the shared nodes may stand there.
ResultBase& resolveChain(PromiseNode& top) noexcept {
  PromiseNode* parent = nullptr;
  PromiseNode* node = &top;
  while (node->lazy_) {
    PromiseNode* below = node->dependency_;
    node->dependency_ = parent;
    parent = node;
    node = below;
  }
  ResultBase* result = &node->get(nullptr);
  while (parent != nullptr) {
    PromiseNode* above = parent->dependency_;
    parent->dependency_ = node;
    result = &parent->get(result);
    node = parent;
    parent = above;
  }
  return *result;
}

void destroyLongChain(PromiseNode* node) noexcept {
  PromiseNode* parent = nullptr;
  for (;;) {
    while (node->dependency_ != nullptr) {
      PromiseNode* below = node->dependency_;
      node->dependency_ = parent;
      parent = node;
      node = below;
    }
    node->destroy();
    if (parent == nullptr) return;
    node = parent;
    parent = std::exchange(node->dependency_, nullptr);
    // node has no dependency now: the next round destroys it.
  }
}

namespace {

Exception wrongThread(std::string_view what, const std::source_location& where) {
  return Exception(
      Exception::Kind::FAILED,
      fmt::format("{} on another thread than the one whose loop it belongs to; a promise stays on its thread", what),
      {}, where);
}

} // namespace

constinit ImmortalNode readyImmortal(SharedNode::Kind::READY);
constinit ImmortalNode neverImmortal(SharedNode::Kind::NEVER);
constinit ImmortalNode yieldImmortal(SharedNode::Kind::YIELD);
constinit ImmortalNode lastImmortal(SharedNode::Kind::LAST);

bool SharedNode::onReady(Event* event) noexcept {
  switch (kind_) {
  case Kind::READY:
    return true;
  case Kind::NEVER:
    break;
  case Kind::YIELD:
    if (event != nullptr) event->armBreadthFirst();
    break;
  case Kind::LAST:
    if (event != nullptr) event->armLast();
    break;
  }
  return false;
}

void* NodeAccess::roomBehind(PromiseNode& newest, std::size_t size) noexcept {
  if (newest.blockUsed_ + size > newest.blockSize_) return nullptr; // always so for one that owns no block
  return reinterpret_cast<std::byte*>(&newest) - newest.blockOffset_ + newest.blockUsed_;
}

void NodeAccess::takeBlock(PromiseNode& node, PromiseNode& below, std::size_t size) noexcept {
  node.blockOffset_ = below.blockUsed_;
  node.blockUsed_ = static_cast<std::uint16_t>(below.blockUsed_ + size);
  node.blockSize_ = std::exchange(below.blockSize_, std::uint16_t(0));
}

// ---------------------------------------------------------------------------------------- SourceNode

EventLoop* SourceNode::loop() const noexcept {
  if (state_ == READY) return nullptr;
  if ((state_ & NO_WAITER) != 0) return reinterpret_cast<EventLoop*>(state_ & ~NO_WAITER);
  return &reinterpret_cast<Event*>(state_)->loop();
}

bool SourceNode::onReady(Event* event) noexcept {
  if (state_ == READY) return true;
  state_ = event != nullptr ? reinterpret_cast<std::uintptr_t>(event) : unwaited(loop());
  return false;
}

bool listenToSlowly(PromiseNode*& slot, Event* event) {
  if (isForeign(*slot, event->loop()))
    throw wrongThread("a promise was awaited", std::exchange(slot, nullptr)->where());
  return listen(*slot, event);
}

bool SourceNode::isOnOwnThread() const noexcept {
  EventLoop* own = loop();
  return own == nullptr || own == EventLoop::currentOrNull();
}

void SourceNode::requireThread(std::string_view what) const {
  if (!isOnOwnThread()) throw wrongThread(what, where_);
}

// ----------------------------------------------------------------------------------------- ChainNode

void ChainNode::start() {
  if (listenTo(dependency_, this)) armBreadthFirst();
}

bool ChainNode::onReady(Event* event) noexcept {
  waiter_ = event;
  return false;
}

OwnNode ChainNode::takeInner() noexcept {
  ResultBase& outer = resolve(*dependency_);
  OwnNode inner;
  ExceptionRef exception = std::move(outer.exception);
  if (!exception) inner = std::move(*static_cast<Result<OwnNode>&>(outer).value);
  destroyChain(std::exchange(dependency_, nullptr));
  if (exception) return broken(std::move(exception));
  if (!inner)
    return broken(
        Exception(Exception::Kind::FAILED, "a continuation returned a promise that was consumed already", {}, where_)
            .ref());
  if (isForeign(*inner, Event::loop())) {
    // It could be destroyed only on its thread.
    return broken(wrongThread("a promise was returned by a continuation", inner.release()->where()).ref());
  }
  return inner;
}

OwnNode ChainNode::broken(ExceptionRef exception) const noexcept {
  try {
    return OwnNode(NodeAccess::makeAlone<BrokenNode>(std::move(exception), where_));
  } catch (...) {
    fatal("out of memory while a promise failed", where_);
  }
}

// Puts `inner` where a chain stands or stood, and hands the waiter on to it.
void ChainNode::settle(PromiseNode*& slot, OwnNode inner, Event* waiter) noexcept {
  // A chain that has settled already is only a stand-in: leave it out.
  while (inner.get()->chain_ && inner.get()->lazy_) {
    OwnNode below(std::exchange(inner.get()->dependency_, nullptr));
    inner = std::move(below);
  }
  slot = inner.release();
  if (slot->chain_) static_cast<ChainNode*>(slot)->place_ = &slot;
  if (waiter != nullptr && listen(*slot, waiter)) waiter->armBreadthFirst();
}

void ChainNode::fire() noexcept {
  OwnNode inner = takeInner();
  if (place_ == nullptr) {
    lazy_ = through_ = true;
    settle(dependency_, std::move(inner), waiter_);
    return;
  }
  PromiseNode*& place = *place_;
  Event* waiter = waiter_;
  doneFiring();
  destroy();
  settle(place, std::move(inner), waiter);
}

// --------------------------------------------------------------------------------- ExclusiveJoinNode

void ExclusiveJoinNode::start() {
  if (listenTo(dependency_, &leftReady_)) leftReady_.armBreadthFirst();
  if (right_.listen(&rightReady_)) rightReady_.armBreadthFirst();
}

bool ExclusiveJoinNode::onReady(Event* event) noexcept {
  if (lazy_) return true; // the winner may be one that is ready once only, such as evalLater's
  waiter_ = event;
  return false;
}

void ExclusiveJoinNode::decide(BranchReady& winner) noexcept {
  if (&winner == &leftReady_) {
    right_ = OwnNode();
    rightReady_.disarm(); // after: a dying operation may still have settled
  } else {
    destroyChain(std::exchange(dependency_, nullptr));
    leftReady_.disarm();
    dependency_ = right_.release();
  }
  lazy_ = true;
  if (waiter_ != nullptr) waiter_->armDepthFirst();
}

} // namespace detail
} // namespace v0
} // namespace troth
