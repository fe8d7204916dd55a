// SPDX-License-Identifier: MIT
// The bodies of promise.h's templates: typed nodes, and Promise's functions in terms of them.
#pragma once

#ifndef TROTH_RUNTIME_PROMISE_H
#error "include <troth/runtime/promise.h> instead"
#endif

namespace troth {
inline namespace v0 {
namespace detail {

[[noreturn]] void throwConsumed(std::source_location where);

/// Destroys a promise that has failed, and throws its exception.
[[noreturn]] void throwResult(ResultBase& result, OwnNode promise);

struct PromiseAccess {
  template <typename T>
  static Promise<T> wrap(OwnNode node) noexcept {
    return Promise<T>(std::move(node));
  }
  template <typename T>
  static Promise<T> wrap(PromiseNode* node) noexcept {
    return Promise<T>(OwnNode(node));
  }
  /// Takes the node out; throws if the promise was consumed.
  template <typename T>
  static OwnNode take(Promise<T>& promise, std::source_location where) {
    if (!promise.node_) [[unlikely]]
      throwConsumed(where);
    return std::move(promise.node_);
  }
  /// Takes the node out; null if the promise was consumed.
  template <typename T>
  static OwnNode release(Promise<T>&& promise) noexcept {
    return std::move(promise.node_);
  }
  template <typename T>
  static TypedForkHub<T>& hub(const ForkedPromise<T>& fork, std::source_location where) {
    return fork.hub(where);
  }
  /// Where a promise was made; nowhere if it was consumed.
  template <typename T, typename... Rest>
  static std::source_location whereOfFirst(const Promise<T>& promise, const Rest&...) noexcept {
    const PromiseNode* node = promise.node_.get();
    while (node != nullptr && node->where().line() == 0 && node->is(PromiseNode::LAZY)) node = node->dependencyAt(0);
    return node != nullptr ? node->where() : std::source_location();
  }
  template <typename T>
  static OwnNode& peek(Promise<T>& promise, std::source_location where) {
    if (!promise.node_) [[unlikely]]
      throwConsumed(where);
    return promise.node_;
  }
};

/// Moves a value; if its constructor throws, that is the result.
template <typename T>
void moveInto(std::optional<T>& to, ExceptionRef& exception, T& from) noexcept {
  if constexpr (std::is_nothrow_move_constructible_v<T>) {
    to.emplace(std::move(from));
  } else {
    try {
      to.emplace(std::move(from));
    } catch (...) {
      exception = failureFromCurrent();
    }
  }
}

/// Moves a resolved promise's result.
template <typename T>
void moveResult(Result<FixVoid<T>>& to, ResultBase& from) noexcept {
  if (from.exception)
    to.exception = std::move(from.exception);
  else if constexpr (std::is_void_v<T>)
    to.value.emplace();
  else
    moveInto(to.value, to.exception, *static_cast<Result<T>&>(from).value);
}

template <typename T>
class ImmediateNode final : public SourceNode {
public:
  template <typename U>
  ImmediateNode(std::source_location where, U&& value)
      : SourceNode(where, AlwaysReady(), std::is_trivially_destructible_v<T> ? TRIVIAL : 0) {
    result_.value.emplace(std::forward<U>(value));
  }
  ResultBase& get(ResultBase*) noexcept override { return result_; }
  void destroy() noexcept override { NodeAccess::destroy(this); }
  const char* name() const noexcept override { return "value"; }

private:
  Result<T> result_;
};

/// A value that is part of the program, as the nodes of READY_NOW and its kin are.
template <typename T, T VALUE>
class ConstantNode final : public SourceNode {
  static_assert(std::is_trivially_copyable_v<T>, "who takes the value must leave it as it was");

public:
  constexpr ConstantNode() noexcept : SourceNode(std::source_location(), AlwaysReady(), TRIVIAL) {
    result_.value.emplace(VALUE);
  }
  ResultBase& get(ResultBase*) noexcept override { return result_; }
  void destroy() noexcept override {}
  const char* name() const noexcept override { return "constPromise"; }

private:
  Result<T> result_;
};

template <typename T, T VALUE>
inline constinit Immortal<ConstantNode<T, VALUE>> constantImmortal;

std::string traceOf(const PromiseNode* node);

// ------------------------------------------------------------------------------------------ then()

/// Calls a continuation (a value, nothing, or an Exception as argument) into a result. Promises that it
/// returns become nodes, so that the chain above needs no type. Returns whether nothing was thrown.
template <typename Stored, typename Func, typename... Args>
bool callInto(Result<Stored>& out, Func& func, Args&&... args) noexcept {
  try {
    if constexpr (std::is_void_v<std::invoke_result_t<Func, Args...>>) {
      std::invoke(std::forward<Func>(func), std::forward<Args>(args)...);
      out.value.emplace();
    } else if constexpr (std::is_same_v<Stored, OwnNode>) {
      PromiseOf<std::invoke_result_t<Func, Args...>> promise =
          std::invoke(std::forward<Func>(func), std::forward<Args>(args)...);
      out.value.emplace(PromiseAccess::release(std::move(promise)));
    } else {
      out.value.emplace(std::invoke(std::forward<Func>(func), std::forward<Args>(args)...));
    }
    return true;
  } catch (...) {
    out.exception = failureFromCurrent();
    return false;
  }
}

/// The node of `then`. `In` is the dependency's value, `Out` what is kept of the continuation's return.
template <typename Out, typename In, typename Func, typename OnError, typename Returned>
class TransformNode final : public LazyNode {
public:
  static constexpr bool IS_TRIVIAL = std::is_trivially_destructible_v<Func> &&
                                     std::is_trivially_destructible_v<OnError> && std::is_trivially_destructible_v<Out>;

  template <typename F, typename E>
  TransformNode(std::source_location where, F&& func, E&& onError)
      : LazyNode(where, IS_TRIVIAL ? TRIVIAL : 0), func_(std::forward<F>(func)), onError_(std::forward<E>(onError)) {}

  ResultBase& get(ResultBase* in) noexcept override {
    if (in->exception) [[unlikely]] {
      getFailed(*in);
    } else if constexpr (std::is_void_v<In>) {
      dropDependency();
      if (!callInto(result_, func_)) [[unlikely]]
        hasFailed();
    } else if constexpr (std::is_nothrow_move_constructible_v<In>) {
      In value = std::move(*static_cast<Result<In>*>(in)->value);
      dropDependency();
      if (!callInto(result_, func_, std::move(value))) [[unlikely]]
        hasFailed();
    } else {
      std::optional<In> value;
      moveInto(value, result_.exception, *static_cast<Result<In>*>(in)->value);
      dropDependency();
      if (!value || !callInto(result_, func_, std::move(*value))) hasFailed();
    }
    return result_;
  }

  ResultBase& evaluate(unsigned depth) noexcept override { return TransformNode::get(&evaluateDependency(depth)); }
  void destroy() noexcept override { NodeAccess::destroy(this); }
  const char* name() const noexcept override { return "then"; }

private:
  [[no_unique_address]] Func func_;
  [[no_unique_address]] OnError onError_;
  Result<Out> result_;

  void dropDependency() noexcept { destroyTaken(*std::exchange(dependency_, nullptr)); }

  // An exception is to be destroyed, or moved out.
  void hasFailed() noexcept { flags_ &= static_cast<std::uint16_t>(~TRIVIAL); }

  [[gnu::noinline, gnu::cold]] void getFailed(ResultBase& in) noexcept {
    ExceptionRef exception = std::move(in.exception);
    dropDependency();
    hasFailed();
    if constexpr (std::is_same_v<OnError, PropagateException>)
      result_.exception = std::move(exception);
    else
      handle(Exception(std::move(exception)));
  }

  void handle(Exception exception) noexcept {
    using Handled = std::invoke_result_t<OnError, Exception>;
    if constexpr (std::is_void_v<Handled> && !std::is_void_v<typename UnwrapPromise<Returned>::Type>) {
      // A handler that returns nothing where a value is wanted can only throw.
      callOnly(std::move(exception));
    } else if constexpr (std::is_same_v<Out, OwnNode> && !UnwrapPromise<std::remove_cvref_t<Handled>>::IS_PROMISE) {
      auto asPromise = [this](Exception e) -> Returned {
        if constexpr (std::is_void_v<Handled>) {
          std::invoke(std::forward<OnError>(onError_), std::move(e));
          return READY_NOW;
        } else {
          return std::invoke(std::forward<OnError>(onError_), std::move(e));
        }
      };
      callInto(result_, asPromise, std::move(exception));
    } else {
      callInto(result_, onError_, std::move(exception));
    }
  }

  void callOnly(Exception exception) noexcept {
    Exception original = exception;
    try {
      std::invoke(std::forward<OnError>(onError_), std::move(exception));
      result_.exception =
          Exception(Exception::Kind::FAILED, "an error handler that gives no value must throw", {}, where_).ref();
    } catch (...) {
      result_.exception = failureFromCurrent();
    }
  }
};

template <typename T>
struct Identity {
  T operator()(T value) const { return value; }
};
template <>
struct Identity<void> {
  void operator()() const {}
};

/// A promise for what the promise that `node` gives (a Result<OwnNode>) comes to.
template <typename T>
Promise<T> chain(OwnNode node, std::source_location where) {
  requireOwnLoop(node);
  auto* made = NodeAccess::append<ChainNode>(std::move(node), where);
  OwnNode own(made);
  made->start();
  return PromiseAccess::wrap<T>(std::move(own));
}

/// A promise's `then`. The dependency is the promise's nodes, or, by reference, one that is in no arena.
template <typename T, typename Dependency, typename Func, typename OnError>
auto transform(Dependency&& dependency, Func&& func, OnError&& onError, std::source_location where) {
  using Bare = std::remove_cvref_t<ReturnOf<Func, T>>;
  using Unwrapped = UnwrapPromise<Bare>;
  using Returned = std::conditional_t<Unwrapped::IS_PROMISE, PromiseOf<Bare>, Bare>;
  using Stored = std::conditional_t<Unwrapped::IS_PROMISE, OwnNode, FixVoid<Returned>>;
  static_assert(std::is_nothrow_destructible_v<std::decay_t<Func>> && std::is_nothrow_destructible_v<Stored>,
                "the destructors of a continuation's captures and of its result must not throw");
  if constexpr (!std::is_same_v<std::decay_t<OnError>, PropagateException>) {
    using Handled = std::invoke_result_t<std::decay_t<OnError>, Exception>;
    static_assert(std::is_void_v<Handled> || std::is_convertible_v<Handled, Returned>,
                  "the error handler must return what the continuation returns (or nothing, if it always throws)");
  }
  using Node = TransformNode<Stored, T, std::decay_t<Func>, std::decay_t<OnError>, Returned>;
  OwnNode node(NodeAccess::append<Node>(std::forward<Dependency>(dependency), where, std::forward<Func>(func),
                                        std::forward<OnError>(onError)));
  if constexpr (Unwrapped::IS_PROMISE) {
    return chain<typename Unwrapped::Type>(std::move(node), where);
  } else {
    return PromiseAccess::wrap<Returned>(std::move(node));
  }
}

// -------------------------------------------------------------------------- attach, eagerlyEvaluate

template <typename... Attachments>
class AttachNode final : public LazyNode {
  static_assert((std::is_nothrow_destructible_v<Attachments> && ...),
                "the destructor of what is attached must not throw");

public:
  template <typename... A>
  explicit AttachNode(A&&... attachments)
      : LazyNode(std::source_location()), attachments_(std::forward<A>(attachments)...) {}
  ResultBase& get(ResultBase* in) noexcept override { return *in; }
  void destroy() noexcept override { NodeAccess::destroy(this); }
  const char* name() const noexcept override { return "attach"; }

private:
  std::tuple<Attachments...> attachments_;
};

template <typename T>
class AsResultNode final : public LazyNode {
public:
  AsResultNode() : LazyNode(std::source_location()) {}
  ResultBase& get(ResultBase* in) noexcept override {
    ExceptionRef exception;
    if (in->exception) exception = std::move(in->exception); // a constant's must not be written to
    if constexpr (std::is_void_v<T>) {
      if (!exception) result_.value.emplace();
    } else if (!exception) {
      try {
        result_.value.emplace(std::move(*static_cast<detail::Result<T>*>(in)->value));
      } catch (...) {
        exception = failureFromCurrent();
      }
    }
    if (exception) result_.value.emplace(Exception(std::move(exception)));
    return result_;
  }
  void destroy() noexcept override { NodeAccess::destroy(this); }
  const char* name() const noexcept override { return "asResult"; }

private:
  detail::Result<v0::Result<T>> result_;
};

/// Takes the result as soon as it is there, and destroys the work that made it.
template <typename T>
class EagerNode : public SourceNode, protected Event {
public:
  explicit EagerNode(std::source_location where, unsigned flags = 0)
      : SourceNode(where, flags), Event(EventLoop::current(where)) {}

  void start() {
    if (listenTo(this->dependency_, this)) armBreadthFirst();
  }

  ResultBase& get(ResultBase*) noexcept override { return result_; }
  void destroy() noexcept override {
    Event::requireThreadToGo(where());
    NodeAccess::destroy(this);
  }
  const char* name() const noexcept override { return "eagerlyEvaluate"; }

protected:
  Result<FixVoid<T>> result_;

  void fire() noexcept override {
    // The dependency stays in its place while it is resolved, so that user code that destroys this
    // promise meets the firing event.
    moveResult<T>(result_, resolve(*dependency_));
    destroyTaken(*std::exchange(dependency_, nullptr));
    setReadyAtEndOfTurn();
  }

private:
  const PromiseNode* computes() const noexcept final { return this; }
  const PromiseNode* awaits() const noexcept final { return dependency_; }
};

// ----------------------------------------------------------------------------------------- adapters

/// What is kept of a T that a fulfiller is given: of a promise, its nodes.
template <typename T>
using StoredOf = std::conditional_t<UnwrapPromise<T>::IS_PROMISE, OwnNode, FixVoid<T>>;

/// A source with a typed result that somebody fulfils.
template <typename T>
class FulfillableBase : public SourceNode, public PromiseFulfiller<T> {
  static constexpr bool OF_PROMISE = UnwrapPromise<T>::IS_PROMISE;

public:
  explicit FulfillableBase(std::source_location where) : SourceNode(where, OF_PROMISE ? SEVERAL : 0) {}

  /// The promise that it was fulfilled with, if nobody has taken that.
  PromiseNode* takeDependency() noexcept final {
    if constexpr (OF_PROMISE) {
      if (result_.value) return result_.value->release();
    }
    return nullptr;
  }
  /// Whether destroy() has that to destroy first.
  bool holdsPromise() const noexcept {
    if constexpr (OF_PROMISE)
      return result_.value && *result_.value;
    else
      return false;
  }

  void reject(Exception exception) final {
    if (isReady()) return;
    requireThread("a promise was rejected");
    setFailed(result_, std::move(exception));
  }
  bool isWaiting() const final { return !isReady(); }
  ResultBase& get(ResultBase*) noexcept final { return result_; }
  const char* name() const noexcept final { return "fulfiller"; }

protected:
  Result<StoredOf<T>> result_;
};

template <typename T>
class FulfillableNode : public FulfillableBase<T> {
public:
  using FulfillableBase<T>::FulfillableBase;

  void fulfill(T value) final {
    if (this->isReady()) return;
    this->requireThread("a promise was fulfilled");
    if constexpr (UnwrapPromise<T>::IS_PROMISE)
      this->result_.value.emplace(PromiseAccess::release(std::move(value)));
    else
      this->result_.value.emplace(std::move(value));
    this->setReady();
  }
};

template <>
class FulfillableNode<void> : public FulfillableBase<void> {
public:
  using FulfillableBase<void>::FulfillableBase;

  void fulfill() final {
    if (isReady()) return;
    requireThread("a promise was fulfilled");
    result_.value.emplace();
    setReady();
  }
};

template <typename T, typename Adapter>
class AdapterNode final : public FulfillableNode<T> {
public:
  template <typename... Args>
  explicit AdapterNode(Args&&... args)
      : FulfillableNode<T>(std::source_location()),
        adapter_(static_cast<PromiseFulfiller<T>&>(*this), std::forward<Args>(args)...) {}
  void destroy() noexcept override {
    this->requireThreadToGo();
    this->holdsPromise() ? destroyLongChain(this) : NodeAccess::destroy(this);
  }

private:
  Adapter adapter_;
};

/// The promise of a new source of a T; of a promise, the promise that it comes to.
template <typename T>
auto wrapSource(PromiseNode* source, std::source_location where) -> Promise<typename UnwrapPromise<T>::Type> {
  if constexpr (UnwrapPromise<T>::IS_PROMISE)
    return chain<typename UnwrapPromise<T>::Type>(OwnNode(source), where);
  else
    return PromiseAccess::wrap<T>(source);
}

/// Why a promise fails whose fulfiller was destroyed.
Exception droppedFulfiller(std::source_location where) noexcept;

/// The two ends of newPromiseAndFulfiller know each other until one of them goes.
template <typename T>
class PairNode;

template <typename T>
class PairFulfillerBase : public PromiseFulfiller<T>, public Pooled {
public:
  ~PairFulfillerBase() override {
    if (node_ != nullptr) drop();
  }
  void reject(Exception exception) final {
    PairNode<T>* node = node_;
    if (node == nullptr) return;
    node->reject(std::move(exception));
    leave(*node);
  }
  bool isWaiting() const final { return node_ != nullptr; }

  /// Has settled the promise, and has nothing to do with it any more.
  void leave(PairNode<T>& node) noexcept {
    node_ = nullptr;
    node.fulfiller_ = nullptr;
  }

  PairNode<T>* node_ = nullptr;

private:
  [[gnu::noinline]] void drop() noexcept {
    requireDestructorsAllowed("a fulfiller", node_->where());
    if (!node_->isOnOwnThread())
      fatal("the fulfiller of a promise was destroyed on another thread than the one whose loop the promise belongs to",
            node_->where());
    node_->fulfiller_ = nullptr;
    node_->reject(droppedFulfiller(node_->where()));
  }
};

template <typename T>
class PairFulfiller final : public PairFulfillerBase<T> {
public:
  void fulfill(T value) override {
    PairNode<T>* node = this->node_;
    if (node == nullptr) return;
    node->fulfill(std::move(value));
    this->leave(*node);
  }
};

template <>
class PairFulfiller<void> final : public PairFulfillerBase<void> {
public:
  void fulfill() override;
};

template <typename T>
class PairNode final : public FulfillableNode<T> {
public:
  explicit PairNode(std::source_location where, PairFulfiller<T>& fulfiller)
      : FulfillableNode<T>(where), fulfiller_(&fulfiller) {
    fulfiller.node_ = this;
  }
  ~PairNode() override {
    if (fulfiller_ != nullptr) fulfiller_->node_ = nullptr;
  }
  void destroy() noexcept override {
    this->requireThreadToGo();
    this->holdsPromise() ? destroyLongChain(this) : NodeAccess::destroy(this);
  }

  PairFulfillerBase<T>* fulfiller_;
};

inline void PairFulfiller<void>::fulfill() {
  PairNode<void>* node = node_;
  if (node == nullptr) return;
  node->fulfill();
  leave(*node);
}

inline ReadyNowConstant::operator Promise<void>() const noexcept { return PromiseAccess::wrap<void>(&readyNode); }

template <typename T>
NeverDoneConstant::operator Promise<T>() const noexcept {
  return PromiseAccess::wrap<T>(&neverNode);
}

inline void NeverDoneConstant::wait(WaitScope& scope, std::source_location where) const {
  PromiseNode* node = &neverNode;
  scope.waitFor(node, where);
  fatal("a promise that is never ready became ready");
}

} // namespace detail

// ------------------------------------------------------------------------------------------ Promise

template <typename T>
template <detail::ValueOf<T> U>
Promise<T>::Promise(U&& value, std::source_location where)
    : node_(detail::NodeAccess::make<detail::ImmediateNode<T>>(where, std::forward<U>(value))) {}

template <typename T>
Promise<T>::Promise(Exception exception, std::source_location where) noexcept
    : node_(detail::makeBroken(std::move(exception).takeRef(), where)) {}

template <typename T>
template <typename Func, typename OnError>
auto Promise<T>::then(Func&& func, OnError&& onError,
                      std::source_location where) && -> detail::PromiseOf<detail::ReturnOf<Func, T>> {
  return detail::transform<T>(detail::PromiseAccess::take(*this, where), std::forward<Func>(func),
                              std::forward<OnError>(onError), where);
}

template <typename T>
template <typename OnError>
Promise<T> Promise<T>::catch_(OnError&& onError, std::source_location where) && {
  using Handled = std::invoke_result_t<std::decay_t<OnError>, Exception>;
  if constexpr (detail::UnwrapPromise<std::remove_cvref_t<Handled>>::IS_PROMISE) {
    if constexpr (std::is_void_v<T>)
      return std::move(*this).then([]() -> Promise<void> { return READY_NOW; }, std::forward<OnError>(onError), where);
    else
      return std::move(*this).then([](T value) -> Promise<T> { return value; }, std::forward<OnError>(onError), where);
  } else {
    return std::move(*this).then(detail::Identity<T>(), std::forward<OnError>(onError), where);
  }
}

template <typename T>
Promise<void> Promise<T>::ignoreResult(std::source_location where) && {
  if constexpr (std::is_void_v<T>)
    return detail::PromiseAccess::wrap<void>(detail::PromiseAccess::take(*this, where));
  else
    return std::move(*this).then([](T&&) {}, detail::PropagateException(), where);
}

template <typename T>
template <typename... Attachments>
Promise<T> Promise<T>::attach(Attachments&&... attachments) && {
  using Node = detail::AttachNode<std::decay_t<Attachments>...>;
  return detail::PromiseAccess::wrap<T>(detail::NodeAccess::append<Node>(
      detail::PromiseAccess::take(*this, std::source_location()), std::forward<Attachments>(attachments)...));
}

template <typename T>
template <typename OnError>
Promise<T> Promise<T>::eagerlyEvaluate(OnError&& onError, std::source_location where) && {
  return std::move(*this).catch_(std::forward<OnError>(onError), where).eagerlyEvaluate(nullptr, where);
}

template <typename T>
Promise<T> Promise<T>::eagerlyEvaluate(std::nullptr_t, std::source_location where) && {
  detail::OwnNode promise = detail::PromiseAccess::take(*this, where);
  detail::requireOwnLoop(promise);
  auto* node = detail::NodeAccess::append<detail::EagerNode<T>>(std::move(promise), where);
  detail::OwnNode own(node);
  node->start();
  return detail::PromiseAccess::wrap<T>(std::move(own));
}

template <typename T>
Promise<T> Promise<T>::exclusiveJoin(Promise<T>&& other, std::source_location where) && {
  detail::OwnNode left = detail::PromiseAccess::take(*this, where);
  detail::OwnNode right = detail::PromiseAccess::take(other, where);
  detail::requireOwnLoop(left);
  EventLoop& loop = EventLoop::current(where);
  auto* node = detail::NodeAccess::append<detail::ExclusiveJoinNode>(std::move(left), loop, std::move(right), where);
  detail::OwnNode own(node);
  node->start();
  return detail::PromiseAccess::wrap<T>(std::move(own));
}

template <typename T>
T Promise<T>::wait(WaitScope& scope, std::source_location where) && {
  detail::PromiseNode* node = detail::PromiseAccess::take(*this, where).release();
  if (!detail::isReadyNow(*node) || !scope.isIdle()) scope.waitFor(node, where);
  WaitScope::Evaluating evaluating(scope, where);
  detail::ResultBase& result = detail::resolve(*node);
  if (result.exception) [[unlikely]]
    detail::throwResult(result, detail::OwnNode(node));
  if constexpr (!std::is_void_v<T>) {
    // The work is destroyed before anybody sees its value, if moving that cannot fail.
    auto& value = *static_cast<detail::Result<T>&>(result).value;
    if constexpr (std::is_nothrow_move_constructible_v<T>) {
      T moved = std::move(value);
      detail::destroyWaitedFor(*node);
      return moved;
    } else {
      const detail::OwnNode owner(node);
      return std::move(value);
    }
  } else {
    detail::destroyWaitedFor(*node);
  }
}

template <typename T>
bool Promise<T>::poll(WaitScope& scope, std::source_location where) {
  return scope.pollFor(detail::PromiseAccess::peek(*this, where), where);
}

template <typename T>
Promise<Result<T>> Promise<T>::asResult() && {
  return detail::PromiseAccess::wrap<Result<T>>(
      detail::NodeAccess::append<detail::AsResultNode<T>>(detail::PromiseAccess::take(*this, std::source_location())));
}

template <typename T>
template <typename OnError>
void Promise<T>::detach(OnError&& onError, std::source_location where) && {
  EventLoop::current(where).detach(std::move(*this).ignoreResult(where).catch_(std::forward<OnError>(onError), where),
                                   where);
}

template <typename T>
std::string Promise<T>::trace() const {
  return detail::traceOf(node_.get());
}

// ----------------------------------------------------------------------------------- free functions

template <typename T, T VALUE>
Promise<T> constPromise() noexcept {
  return detail::PromiseAccess::wrap<T>(&detail::constantImmortal<T, VALUE>.node);
}

inline Promise<void> yield() noexcept { return detail::PromiseAccess::wrap<void>(&detail::yieldNode); }
inline Promise<void> yieldUntilQueueEmpty() noexcept { return detail::PromiseAccess::wrap<void>(&detail::lastNode); }
inline Promise<void> yieldUntilWouldSleep() noexcept {
  return detail::PromiseAccess::wrap<void>(&detail::wouldSleepNode);
}

template <typename Func>
auto retryOnDisconnect(Func func, std::source_location where) -> detail::PromiseOf<std::invoke_result_t<Func&>> {
  using P = detail::PromiseOf<std::invoke_result_t<Func&>>;
  auto shared = std::make_shared<Func>(std::move(func)); // a second try must not depend on the first one's life
  auto attempt = [shared]() -> P {
    if constexpr (std::is_void_v<std::invoke_result_t<Func&>>) {
      (*shared)();
      return READY_NOW;
    } else {
      return (*shared)();
    }
  };
  return evalLater(attempt, where)
      .catch_(
          [attempt](Exception e) -> P {
            if (e.kind() == Exception::Kind::DISCONNECTED) return attempt();
            return e;
          },
          where)
      .attach(shared); // a second try may be a coroutine that refers to its captures
}

template <typename Func>
auto coCapture(Func func) {
  struct Kept : detail::Pooled {
    explicit Kept(Func&& f) : func(std::move(f)) {}
    Func func;
  };
  return [kept = std::make_unique<Kept>(std::move(func))]<typename... Args>(Args&&... args) mutable {
    if (kept == nullptr) detail::throwMisuse("what coCapture() gives was called a second time");
    auto promise = std::invoke(kept->func, std::forward<Args>(args)...);
    return std::move(promise).attach(std::move(kept));
  };
}

template <typename Func>
auto evalNow(Func&& func) noexcept -> detail::PromiseOf<std::invoke_result_t<Func>> {
  using Returned = std::invoke_result_t<Func>;
  try {
    if constexpr (std::is_void_v<Returned>) {
      std::invoke(std::forward<Func>(func));
      return READY_NOW;
    } else {
      return std::invoke(std::forward<Func>(func));
    }
  } catch (...) {
    return Exception::fromCurrent();
  }
}

template <typename Func>
auto evalLater(Func&& func, std::source_location where) -> detail::PromiseOf<std::invoke_result_t<Func>> {
  return detail::transform<void>(detail::yieldNode, std::forward<Func>(func), detail::PropagateException(), where);
}

template <typename Func>
auto evalLast(Func&& func, std::source_location where) -> detail::PromiseOf<std::invoke_result_t<Func>> {
  return detail::transform<void>(detail::lastNode, std::forward<Func>(func), detail::PropagateException(), where);
}

template <typename T>
PromiseFulfillerPair<T> newPromiseAndFulfiller(std::source_location where) {
  auto fulfiller = std::make_unique<detail::PairFulfiller<T>>();
  auto* node = detail::NodeAccess::make<detail::PairNode<T>>(where, *fulfiller);
  return {detail::wrapSource<T>(node, where), std::move(fulfiller)};
}

template <typename T, typename Adapter, typename... Args>
detail::PromiseOf<T> newAdaptedPromise(Args&&... args) {
  return detail::wrapSource<T>(detail::NodeAccess::make<detail::AdapterNode<T, Adapter>>(std::forward<Args>(args)...),
                               std::source_location());
}

template <typename T>
template <typename Func>
bool PromiseFulfiller<T>::rejectIfThrows(Func&& func) {
  try {
    std::invoke(std::forward<Func>(func));
    return true;
  } catch (...) {
    reject(Exception::fromCurrent());
    return false;
  }
}

template <typename Func>
bool PromiseFulfiller<void>::rejectIfThrows(Func&& func) {
  try {
    std::invoke(std::forward<Func>(func));
    return true;
  } catch (...) {
    reject(Exception::fromCurrent());
    return false;
  }
}

} // namespace v0
} // namespace troth
