// SPDX-License-Identifier: MIT
// Joins: one event for each promise, in a block of their own.
#include <troth/runtime/join.h>

namespace troth {
inline namespace v0 {
namespace detail {

void JoinNode::expect(std::size_t count) {
  capacity_ = count;
  if (count != 0) branches_ = static_cast<Branch*>(allocate(count * sizeof(Branch)));
}

void JoinNode::add(OwnNode node) {
  new (branches_ + count_) Branch(loop_, *this, node.release());
  ++count_;
}

void JoinNode::start() {
  pending_ = count_;
  if (count_ == 0) return setReady();
  for (Branch* branch = branches_; branch != branches_ + count_; ++branch)
    if (listenTo(branch->node, branch)) branch->armBreadthFirst();
}

void JoinNode::branchReady(Branch& branch) noexcept {
  --pending_;
  if (mode_ == Mode::ALL) {
    // Joins of joins, evaluated in the end, would recurse.
    if (PromiseNode& source = sourceOf(*branch.node); source.is(JOIN)) static_cast<JoinNode&>(source).evaluateIfAll();
    if (pending_ == 0) setReadyAtEndOfTurn();
    return;
  }
  if (isReady()) return; // it has failed already
  // The node stays in its place while it is evaluated, so that user code that destroys this promise meets the firing
  // event.
  ResultBase& part = resolve(*branch.node);
  ExceptionRef failure;
  if (part.exception)
    failure = std::move(part.exception);
  else if (hasValues_)
    collect(static_cast<std::size_t>(&branch - branches_), part, failure);
  destroyTaken(*std::exchange(branch.node, nullptr));
  if (mode_ == Mode::FAIL_FAST ? !failure && pending_ != 0 : failure && pending_ != 0) {
    failure_ = std::move(failure); // of a race: perhaps the last one
    return;
  }
  failure_ = std::move(failure);
  if (mode_ == Mode::RACE) cancelAll();
  if (pending_ == 0 || mode_ == Mode::RACE) taken_ = count_;
  setReadyAtEndOfTurn();
}

void JoinNode::cancelAll() noexcept {
  for (Branch* branch = branches_; branch != branches_ + count_; ++branch) {
    if (branch->node == nullptr) continue;
    const DestroyingChain destroying;
    destroyChain(std::exchange(branch->node, nullptr));
    branch->disarm(); // after: a dying operation may still have settled
  }
}

ExceptionRef JoinNode::collectAll() noexcept {
  evaluateIfAll();
  return std::move(failure_);
}

void JoinNode::evaluateIfAll() noexcept {
  if (mode_ != Mode::ALL) return;
  const Resolving now{.node = this, .outer = resolving};
  resolving = &now;
  for (std::size_t i = 0; i < count_; ++i) {
    PromiseNode* node = branches_[i].node;
    if (node == nullptr) break; // done already
    ResultBase& part = resolve(*node);
    ExceptionRef exception;
    if (part.exception) exception = std::move(part.exception); // a constant's must not be written to
    if (!exception && !failure_) collect(i, part, exception);
    if (exception && !failure_) failure_ = std::move(exception);
  }
  for (std::size_t i = 0; i < count_; ++i)
    if (PromiseNode* node = std::exchange(branches_[i].node, nullptr)) destroyTaken(*node);
  resolving = now.outer;
}

ResultBase& VoidJoinNode::get(ResultBase*) noexcept {
  result_.exception = collectAll();
  if (!result_.exception) result_.value.emplace();
  return result_;
}

PromiseNode* JoinNode::takeDependency() noexcept {
  while (taken_ < count_)
    if (PromiseNode* node = std::exchange(branches_[taken_++].node, nullptr)) return node;
  return nullptr;
}

void JoinNode::destroy() noexcept {
  requireOwnThread(&loop_, where());
  if (taken_ < count_) return destroyLongChain(this);
  for (std::size_t i = 0; i < count_; ++i) branches_[i].~Branch();
  if (branches_ != nullptr) deallocate(branches_, capacity_ * sizeof(Branch));
  destroyNode();
}

const PromiseNode* JoinNode::dependencyAt(std::size_t index) const noexcept {
  for (std::size_t i = 0; i < count_; ++i)
    if (branches_[i].node != nullptr && index-- == 0) return branches_[i].node;
  return nullptr;
}

const char* JoinNode::name() const noexcept {
  switch (mode_) {
  case Mode::ALL:
    return "joinPromises";
  case Mode::FAIL_FAST:
    return "joinPromisesFailFast";
  case Mode::RACE:
    return "raceSuccessful";
  }
  return "";
}

void throwEmptyRace(std::source_location where) {
  throwMisuse("raceSuccessful() was given no promises, so that none can win", where);
}

} // namespace detail
} // namespace v0
} // namespace troth
