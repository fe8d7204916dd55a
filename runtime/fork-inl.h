// SPDX-License-Identifier: MIT
// Forks and splits: a hub that takes the result once, and a branch for each who waits for it.
#pragma once

#ifndef TROTH_RUNTIME_PROMISE_H
#error "include <troth/runtime/promise.h> instead"
#endif

namespace troth {
inline namespace v0 {
namespace detail {

class ForkHub;

/// One who waits for a hub. It shares the ownership of the hub: the last to go destroys it first, as any node its
/// dependency.
class ForkBranch : public SourceNode {
public:
  PromiseNode* takeDependency() noexcept final;
  const PromiseNode* dependencyAt(std::size_t index) const noexcept final;
  const char* name() const noexcept final { return "branch"; }

protected:
  ForkBranch(ForkHub& hub, std::source_location where) noexcept;

  ForkHub* hub_; // null when it was left

private:
  friend class ForkHub;

  ForkBranch* next_ = nullptr;
  ForkBranch** link_ = nullptr; // what points to this branch, while it waits
};

/// The part of a fork that has no type. Its dependency is the forked promise, until that is ready.
class ForkHub : public PromiseNode, private Event {
public:
  explicit ForkHub(std::source_location where) : PromiseNode(where, 0), Event(EventLoop::current(where)) {}

  /// After construction, when the dependency is set.
  void start() {
    if (listenTo(dependency_, this)) armBreadthFirst();
  }

  /// Throws FAILED on another thread than the hub's.
  void requireThread(std::source_location where) const;

  void addOwner() noexcept { ++owners_; }
  /// Gives up an ownership; true if it was the last, and the hub is to be destroyed.
  bool dropOwner() noexcept { return --owners_ == 0; }
  std::size_t owners() const noexcept { return owners_; }

  // Nobody listens to a hub or asks it for its result: branches do that.
  bool onReady(Event*) noexcept final { return false; }
  EventLoop* loop() const noexcept final { return &Event::loop(); }
  const char* name() const noexcept final { return "fork"; }
  const Event* waiter() const noexcept final { return first_ != nullptr ? first_->waiter() : nullptr; }

protected:
  /// Moves the result to where branches find it.
  virtual void store(ResultBase& result) noexcept = 0;

private:
  friend class ForkBranch;

  std::size_t owners_ = 0;
  bool ready_ = false;
  ForkBranch* first_ = nullptr; // those who wait, in their order
  ForkBranch** last_ = &first_;

  void fire() noexcept final;
  const PromiseNode* computes() const noexcept final { return this; }
  const PromiseNode* awaits() const noexcept final { return dependency_; }
};

template <typename T>
class TypedForkHub final : public ForkHub {
public:
  using ForkHub::ForkHub;
  ResultBase& get(ResultBase*) noexcept override { return result; }
  void destroy() noexcept override {
    requireOwnThread(this->loop(), this->where());
    NodeAccess::destroy(this);
  }

  Result<FixVoid<T>> result;

private:
  void store(ResultBase& from) noexcept override { moveResult<T>(result, from); }
};

/// A branch that gets a copy.
template <typename T>
class CopyBranch : public ForkBranch {
public:
  CopyBranch(TypedForkHub<T>& hub, std::source_location where) noexcept : ForkBranch(hub, where), typedHub_(hub) {}

  ResultBase& get(ResultBase*) noexcept final {
    const Result<FixVoid<T>>& from = typedHub_.result;
    if (from.exception) {
      result_.exception = from.exception;
    } else if constexpr (std::is_nothrow_copy_constructible_v<FixVoid<T>>) {
      result_.value.emplace(*from.value);
    } else {
      try {
        result_.value.emplace(*from.value);
      } catch (...) {
        result_.exception = failureFromCurrent();
      }
    }
    return result_;
  }
  void destroy() noexcept override { hub_ != nullptr ? destroyLongChain(this) : NodeAccess::destroy(this); }

private:
  TypedForkHub<T>& typedHub_;
  Result<FixVoid<T>> result_;
};

/// A branch inside a coroutine's frame, which ends with the frame.
template <typename T>
class FrameBranch final : public CopyBranch<T> {
public:
  using CopyBranch<T>::CopyBranch;
  void destroy() noexcept override {
    if (this->hub_ != nullptr) destroyLongChain(this);
  }
};

/// A branch that gets one element of a tuple, which nobody else gets.
template <typename Tuple, std::size_t I>
class SplitBranch final : public ForkBranch {
  using T = std::tuple_element_t<I, Tuple>;

public:
  SplitBranch(TypedForkHub<Tuple>& hub, std::source_location where) noexcept : ForkBranch(hub, where), typedHub_(hub) {}

  ResultBase& get(ResultBase*) noexcept override {
    Result<Tuple>& from = typedHub_.result;
    if (from.exception)
      result_.exception = from.exception;
    else if constexpr (UnwrapPromise<T>::IS_PROMISE)
      result_.value.emplace(PromiseAccess::release(std::move(std::get<I>(*from.value))));
    else
      moveInto(result_.value, result_.exception, std::get<I>(*from.value));
    return result_;
  }
  void destroy() noexcept override { hub_ != nullptr ? destroyLongChain(this) : NodeAccess::destroy(this); }

private:
  TypedForkHub<Tuple>& typedHub_;
  Result<StoredOf<T>> result_;
};

/// The hub of a promise that is taken for it.
template <typename T>
TypedForkHub<T>* makeHub(OwnNode promise, std::source_location where) {
  requireOwnLoop(promise);
  auto* hub = NodeAccess::append<TypedForkHub<T>>(std::move(promise), where);
  OwnNode owner(hub);
  hub->start();
  owner.release();
  return hub;
}

template <typename Tuple, std::size_t... I>
auto splitTuple(TypedForkHub<Tuple>& hub, [[maybe_unused]] std::source_location where, std::index_sequence<I...>) {
  hub.addOwner(); // should making a branch fail, those made already must not be the last
  struct Release {
    TypedForkHub<Tuple>& hub;
    ~Release() {
      if (hub.dropOwner()) destroyChain(&hub);
    }
  } release{hub};
  return std::tuple<PromiseOf<std::tuple_element_t<I, Tuple>>...>{
      wrapSource<std::tuple_element_t<I, Tuple>>(NodeAccess::make<SplitBranch<Tuple, I>>(hub, where), where)...};
}

} // namespace detail

template <typename T>
ForkedPromise<T> Promise<T>::fork(std::source_location where) && {
  static_assert(std::is_copy_constructible_v<detail::FixVoid<T>>,
                "each branch of a fork gets a copy: fork a promise for a std::shared_ptr, or split() a tuple");
  return ForkedPromise<T>(detail::makeHub<T>(detail::PromiseAccess::take(*this, where), where));
}

template <typename T>
ForkedPromise<T>::ForkedPromise(detail::TypedForkHub<T>* hub) noexcept : hub_(hub) {
  hub_->addOwner();
}

template <typename T>
void ForkedPromise<T>::drop(detail::TypedForkHub<T>* hub) noexcept {
  if (hub == nullptr) return;
  detail::requireOwnThread(hub->loop(), hub->where());
  if (hub->dropOwner()) detail::destroyChain(hub);
}

template <typename T>
detail::TypedForkHub<T>& ForkedPromise<T>::hub(std::source_location where) const {
  if (hub_ == nullptr) detail::throwConsumed(where);
  hub_->requireThread(where);
  return *hub_;
}

template <typename T>
Promise<T> ForkedPromise<T>::addBranch(std::source_location where) const {
  return detail::PromiseAccess::wrap<T>(detail::NodeAccess::make<detail::CopyBranch<T>>(hub(where), where));
}

template <typename T>
bool ForkedPromise<T>::hasBranches() const noexcept {
  return hub_ != nullptr && hub_->owners() > 1;
}

template <typename T>
auto Promise<T>::split(std::source_location where) && {
  static_assert(
      requires { std::tuple_size<T>::value; }, "split() is for a promise for a std::tuple or std::pair");
  auto* hub = detail::makeHub<T>(detail::PromiseAccess::take(*this, where), where);
  return detail::splitTuple(*hub, where, std::make_index_sequence<std::tuple_size_v<T>>());
}

} // namespace v0
} // namespace troth
