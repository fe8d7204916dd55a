// SPDX-License-Identifier: MIT
// Joins of many promises: all of them, all or the first failure, the first success.
#pragma once

#include <troth/runtime/promise.h>

#include <cstddef>
#include <memory>
#include <source_location>
#include <span>
#include <tuple>
#include <variant>
#include <vector>

namespace troth {
inline namespace v0 {
namespace detail {

/// What a joined vector of promises gives.
template <typename T>
struct JoinedVector {
  using Type = std::vector<T>;
};
template <>
struct JoinedVector<void> {
  using Type = void;
};

/// What stands for a part in a tuple of results.
template <typename T>
using JoinedPart = std::conditional_t<std::is_void_v<T>, std::monostate, T>;

} // namespace detail

/// Waits for all of `promises`, also when some fail. Gives their values in order, or the failure of the first one (in
/// order) that failed. Trailing `then`s of the promises that return no promise run when the result is asked for, in
/// order; of joins in a join, when that hears of them.
///
/// Cancellation: cancels them all. An empty vector is ready at once.
template <typename T>
Promise<typename detail::JoinedVector<T>::Type>
joinPromises(std::vector<Promise<T>> promises, std::source_location where = std::source_location::current());

/// Waits for all of `promises`, but fails as soon as one of them does; the others are cancelled when the failed
/// promise has been consumed or destroyed. Each promise is evaluated as soon as it is ready.
template <typename T>
Promise<typename detail::JoinedVector<T>::Type>
joinPromisesFailFast(std::vector<Promise<T>> promises, std::source_location where = std::source_location::current());

/// Waits for the first of `promises` that succeeds, and cancels the others before its value is seen. If all fail, so
/// does the race, with the last failure. Throws FAILED for an empty vector, which nothing could win.
template <typename T>
Promise<T> raceSuccessful(std::vector<Promise<T>> promises,
                          std::source_location where = std::source_location::current());

/// The same for promises of different types: gives a tuple, with std::monostate for a `void`. (Which of `f(), g()` is
/// called first is the compiler's choice: g++ calls `g` first.)
template <typename First, typename... Rest>
Promise<std::tuple<detail::JoinedPart<First>, detail::JoinedPart<Rest>...>> joinPromises(Promise<First> first,
                                                                                         Promise<Rest>... rest);
template <typename First, typename... Rest>
Promise<std::tuple<detail::JoinedPart<First>, detail::JoinedPart<Rest>...>> joinPromisesFailFast(Promise<First> first,
                                                                                                 Promise<Rest>... rest);

/// The same for promises that were not in a vector.
template <typename T, typename... Rest>
  requires(std::same_as<Promise<T>, Promise<Rest>> && ...)
Promise<T> raceSuccessful(Promise<T> first, Promise<Rest>... rest);

namespace detail {

/// The part of a join that has no type: an event for each promise. With one that is done before all are, it is an
/// event of the loop that evaluates the promise; then the node of the promise is destroyed.
class JoinNode : public SourceNode {
public:
  enum class Mode : std::uint8_t { ALL, FAIL_FAST, RACE };

  void destroy() noexcept final;
  PromiseNode* takeDependency() noexcept final;
  const PromiseNode* dependencyAt(std::size_t index) const noexcept final;
  const char* name() const noexcept final;

  /// After construction: so many promises will be added; then start() begins to wait for them.
  void expect(std::size_t count);
  void add(OwnNode node);
  void start();

protected:
  class Branch final : public Event {
  public:
    Branch(EventLoop& loop, JoinNode& join, PromiseNode* ownedNode) noexcept
        : Event(loop), node(ownedNode), join_(join) {}

    PromiseNode* node; // owned

  private:
    JoinNode& join_;

    void fire() noexcept override { join_.branchReady(*this); }
    const PromiseNode* computes() const noexcept override { return &join_; }
    const PromiseNode* awaits() const noexcept override { return node; }
  };

  JoinNode(Mode mode, bool hasValues, std::source_location where)
      : SourceNode(where, SEVERAL | JOIN), mode_(mode), hasValues_(hasValues), loop_(EventLoop::current(where)) {}

  /// Moves the value of a part to where it belongs; sets `exception` if that fails.
  virtual void collect(std::size_t index, ResultBase& part, ExceptionRef& exception) noexcept = 0;
  virtual void destroyNode() noexcept = 0;
  std::size_t count() const noexcept { return count_; }

  /// For get(): evaluates what is still to be evaluated. Returns the failure, if there is one.
  ExceptionRef collectAll() noexcept;

private:
  const Mode mode_;
  const bool hasValues_; // there is something to collect
  EventLoop& loop_;
  std::size_t capacity_ = 0;
  std::size_t count_ = 0;
  std::size_t pending_ = 0;
  std::size_t taken_ = 0; // branches whose nodes takeDependency() has given away
  Branch* branches_ = nullptr;
  ExceptionRef failure_;

  void branchReady(Branch& branch) noexcept;
  void cancelAll() noexcept;
  void evaluateIfAll() noexcept;
};

template <typename T>
class VectorJoinNode final : public JoinNode {
public:
  VectorJoinNode(Mode mode, std::size_t count, std::source_location where) : JoinNode(mode, true, where) {
    if (mode == Mode::FAIL_FAST)
      slots_ = std::vector<std::optional<T>>(count);
    else
      values_.reserve(count);
  }
  ResultBase& get(ResultBase*) noexcept override {
    result_.exception = collectAll();
    if (result_.exception) return result_;
    try {
      values_.reserve(count());
      for (std::optional<T>& slot : slots_) values_.push_back(std::move(*slot));
      result_.value.emplace(std::move(values_));
    } catch (...) {
      result_.exception = failureFromCurrent();
    }
    return result_;
  }

private:
  std::vector<std::optional<T>> slots_; // values that come in any order
  std::vector<T> values_;
  Result<std::vector<T>> result_;

  void push(T& value, ExceptionRef& exception) noexcept {
    try {
      values_.push_back(std::move(value));
    } catch (...) {
      exception = failureFromCurrent();
    }
  }
  void collect(std::size_t index, ResultBase& part, ExceptionRef& exception) noexcept override {
    T& value = *static_cast<Result<T>&>(part).value;
    if (slots_.empty())
      push(value, exception);
    else
      moveInto(slots_[index], exception, value);
  }
  void destroyNode() noexcept override { NodeAccess::destroy(this); }
};

class VoidJoinNode final : public JoinNode {
public:
  VoidJoinNode(Mode mode, std::source_location where) : JoinNode(mode, false, where) {}
  ResultBase& get(ResultBase*) noexcept override;

private:
  Result<Void> result_;

  void collect(std::size_t, ResultBase&, ExceptionRef&) noexcept override {}
  void destroyNode() noexcept override { NodeAccess::destroy(this); }
};

template <typename T>
class RaceNode final : public JoinNode {
public:
  explicit RaceNode(std::source_location where) : JoinNode(Mode::RACE, true, where) {}
  ResultBase& get(ResultBase*) noexcept override {
    if (ExceptionRef failure = collectAll()) result_.exception = std::move(failure);
    return result_;
  }

private:
  Result<FixVoid<T>> result_;

  void collect(std::size_t, ResultBase& part, ExceptionRef& exception) noexcept override {
    moveResult<T>(result_, part);
    exception = std::move(result_.exception);
  }
  void destroyNode() noexcept override { NodeAccess::destroy(this); }
};

template <typename... Ts>
class TupleJoinNode final : public JoinNode {
public:
  TupleJoinNode(Mode mode, std::source_location where) : JoinNode(mode, true, where) {}
  ResultBase& get(ResultBase*) noexcept override {
    result_.exception = collectAll();
    if (!result_.exception) gather(std::index_sequence_for<Ts...>());
    return result_;
  }

private:
  std::tuple<std::optional<JoinedPart<Ts>>...> slots_;
  Result<std::tuple<JoinedPart<Ts>...>> result_;

  template <std::size_t... I>
  void gather(std::index_sequence<I...>) noexcept {
    try {
      result_.value.emplace(std::move(*std::get<I>(slots_))...);
    } catch (...) {
      result_.exception = failureFromCurrent();
    }
  }

  template <std::size_t I>
  void collectPart(ResultBase& part, ExceptionRef& exception) noexcept {
    using T = std::tuple_element_t<I, std::tuple<Ts...>>;
    if constexpr (std::is_void_v<T>)
      std::get<I>(slots_).emplace();
    else
      moveInto(std::get<I>(slots_), exception, *static_cast<Result<T>&>(part).value);
  }
  template <std::size_t... I>
  void collectOneOf(std::index_sequence<I...>, std::size_t index, ResultBase& part, ExceptionRef& exception) noexcept {
    ((index == I ? collectPart<I>(part, exception) : void()), ...);
  }
  void collect(std::size_t index, ResultBase& part, ExceptionRef& exception) noexcept override {
    collectOneOf(std::index_sequence_for<Ts...>(), index, part, exception);
  }
  void destroyNode() noexcept override { NodeAccess::destroy(this); }
};

/// Gives a new join its promises.
template <typename R, typename Node, typename T>
Promise<R> startJoin(Node* join, std::span<Promise<T>> promises, std::source_location where) {
  Promise<R> owner = PromiseAccess::wrap<R>(join);
  join->expect(promises.size());
  for (Promise<T>& promise : promises) join->add(PromiseAccess::take(promise, where));
  join->start();
  return owner;
}
template <typename R, typename Node, typename... Ts>
Promise<R> startJoin(Node* join, Promise<Ts>&... promises) {
  Promise<R> owner = PromiseAccess::wrap<R>(join);
  join->expect(sizeof...(Ts));
  (join->add(PromiseAccess::take(promises, join->where())), ...);
  join->start();
  return owner;
}

template <typename T>
Promise<typename JoinedVector<T>::Type> joinVector(JoinNode::Mode mode, std::span<Promise<T>> promises,
                                                   std::source_location where) {
  if constexpr (std::is_void_v<T>)
    return startJoin<void>(NodeAccess::make<VoidJoinNode>(mode, where), promises, where);
  else
    return startJoin<std::vector<T>>(NodeAccess::make<VectorJoinNode<T>>(mode, promises.size(), where), promises,
                                     where);
}

template <typename... Ts>
Promise<std::tuple<JoinedPart<Ts>...>> joinTuple(JoinNode::Mode mode, Promise<Ts>&... promises) {
  const std::source_location where = PromiseAccess::whereOfFirst(promises...);
  return startJoin<std::tuple<JoinedPart<Ts>...>>(NodeAccess::make<TupleJoinNode<Ts...>>(mode, where), promises...);
}

[[noreturn]] void throwEmptyRace(std::source_location where);

} // namespace detail

template <typename T>
Promise<typename detail::JoinedVector<T>::Type> joinPromises(std::vector<Promise<T>> promises,
                                                             std::source_location where) {
  return detail::joinVector<T>(detail::JoinNode::Mode::ALL, promises, where);
}

template <typename T>
Promise<typename detail::JoinedVector<T>::Type> joinPromisesFailFast(std::vector<Promise<T>> promises,
                                                                     std::source_location where) {
  return detail::joinVector<T>(detail::JoinNode::Mode::FAIL_FAST, promises, where);
}

template <typename T>
Promise<T> raceSuccessful(std::vector<Promise<T>> promises, std::source_location where) {
  if (promises.empty()) detail::throwEmptyRace(where);
  return detail::startJoin<T>(detail::NodeAccess::make<detail::RaceNode<T>>(where), std::span(promises), where);
}

template <typename First, typename... Rest>
Promise<std::tuple<detail::JoinedPart<First>, detail::JoinedPart<Rest>...>> joinPromises(Promise<First> first,
                                                                                         Promise<Rest>... rest) {
  return detail::joinTuple(detail::JoinNode::Mode::ALL, first, rest...);
}

template <typename First, typename... Rest>
Promise<std::tuple<detail::JoinedPart<First>, detail::JoinedPart<Rest>...>>
joinPromisesFailFast(Promise<First> first, Promise<Rest>... rest) {
  return detail::joinTuple(detail::JoinNode::Mode::FAIL_FAST, first, rest...);
}

template <typename T, typename... Rest>
  requires(std::same_as<Promise<T>, Promise<Rest>> && ...)
Promise<T> raceSuccessful(Promise<T> first, Promise<Rest>... rest) {
  const std::source_location where = detail::PromiseAccess::whereOfFirst(first);
  return detail::startJoin<T>(detail::NodeAccess::make<detail::RaceNode<T>>(where), first, rest...);
}

} // namespace v0
} // namespace troth
