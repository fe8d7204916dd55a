// SPDX-License-Identifier: MIT
// Promise nodes: what a promise is made of, how nodes share an arena, are resolved and destroyed.
#pragma once

#include <troth/runtime/event_detail.h>
#include <troth/runtime/pool_detail.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <optional>
#include <source_location>
#include <type_traits>
#include <utility>

namespace troth {
inline namespace v0 {
namespace detail {

/// The value of a Promise<void>.
struct Void {};

/// A result without its value. Whoever reads one looks at `exception` before casting to Result<T>: a
/// failed result may be a bare ResultBase.
class ResultBase {
public:
  ExceptionRef exception;
};

template <typename T>
class Result : public ResultBase {
  static_assert(std::is_nothrow_destructible_v<T>, "the destructor of what a promise gives must not throw");

public:
  std::optional<T> value;
};

// There are two sorts of nodes. A *source* becomes ready by itself (an operation, a coroutine) and tells
// one event. A *lazy* node (a `then` whose continuation returns a value, `attach`) has exactly one
// dependency, is ready when that is, and computes when asked. To wait for a promise is to listen to the
// source at the bottom of its lazies (`listen`); to take its result is to evaluate them upwards
// (`resolve`). Evaluation recurses for some nodes; beyond these, and in destruction (`destroyChain`), loops turn
// the dependency pointers round on the way down and back on the way up, so a chain of any length needs
// neither stack nor memory.
//
// Arena: a node lives in a block; `then()` puts its node behind the one it consumes, in the same block if
// it fits. The newest node of a block owns it (`blockSize_` is not 0), and nodes are destroyed innermost
// first, so the block goes last.
class PromiseNode {
public:
  /// What a node is, in bits.
  enum Flags : std::uint16_t {
    LAZY = 1,     // the result is made from the dependency's
    THROUGH = 2,  // ready when the dependency is; with LAZY only
    SOURCE = 4,   // is a SourceNode
    CHAIN = 8,    // is a ChainNode
    SEVERAL = 16, // takeDependency() tells what to destroy first
    JOIN = 128,   // is a JoinNode
    POLLED = 256, // is a PolledNode
    SHARED = 64,  // belongs to no loop
    TRIVIAL = 32  // destroy() does nothing but free the block, if the node owns one
  };

  constexpr PromiseNode(std::source_location where, unsigned flags) noexcept
      : where_(where), flags_(static_cast<std::uint16_t>(flags)) {}
  PromiseNode(const PromiseNode&) = delete;
  PromiseNode& operator=(const PromiseNode&) = delete;

  /// Asked of what sourceOf() gives. If the result is there, returns true and forgets the event; otherwise arms
  /// `event`, which is of the same loop, once it is (null: no event any more) and returns false.
  virtual bool onReady(Event* event) noexcept = 0;

  /// The loop that this node belongs to; null if that does not matter, since it is ready or shared by all.
  virtual EventLoop* loop() const noexcept = 0;

  /// The result, which the caller moves out before it destroys the node. Called once, when ready. For a
  /// lazy node `in` is its dependency's result.
  virtual ResultBase& get(ResultBase* in) noexcept = 0;

  /// Of a lazy node: evaluates its dependency, and so on, and then itself. Recursion is cheaper than resolveChain()'s
  /// loop, and is used for `depth` nodes.
  virtual ResultBase& evaluate(unsigned depth) noexcept { return get(&evaluateDependency(depth)); }

  /// Destroys and frees this node alone; its dependency is gone already.
  virtual void destroy() noexcept = 0;

  /// Of a node with several dependencies: gives away the next one to be destroyed before the node is; null when there
  /// is none left, or only what others own too.
  virtual PromiseNode* takeDependency() noexcept { return nullptr; }

  bool is(Flags flag) const noexcept { return (flags_ & flag) != 0; }

  bool hasDependency() const noexcept { return dependency_ != nullptr; }

  /// Whether destroying the node would change nothing.
  bool isGone() const noexcept { return is(TRIVIAL) && blockSize_ == 0 && dependency_ == nullptr; }

  const std::source_location& where() const noexcept { return where_; }

  // For traces: what the node is, the event that waits for it, and its dependencies beginning at 0.
  virtual const char* name() const noexcept = 0;
  virtual const Event* waiter() const noexcept { return nullptr; }
  virtual const PromiseNode* dependencyAt(std::size_t index) const noexcept {
    return index == 0 ? dependency_ : nullptr;
  }

protected:
  virtual ~PromiseNode() = default; // virtual for the compilers' sake alone: destroy() is the way

  PromiseNode* dependency_ = nullptr; // owned
  std::source_location where_;        // where the promise was made
  std::uint16_t flags_;

  ResultBase& evaluateDependency(unsigned depth) noexcept;

  friend class OwnNode;
  friend class NodeAccess;
  friend class ChainNode;
  friend class DestroyingChain;
  friend class Trace;
  friend ResultBase& resolve(PromiseNode& node) noexcept;
  friend ResultBase& resolveChain(PromiseNode& node) noexcept;
  friend void destroyChain(PromiseNode* node) noexcept;
  friend void destroyLongChain(PromiseNode* node) noexcept;
  friend PromiseNode& sourceOf(PromiseNode& node) noexcept;

private:
  std::uint16_t blockOffset_ = 0; // from the block's start to this node
  std::uint16_t blockUsed_ = 0;   // bytes of the block in use, as far as its owner knows
  std::uint16_t blockSize_ = 0;   // 0: not the owner
};

/// The node that tells when the promise is ready.
inline PromiseNode& sourceOf(PromiseNode& node) noexcept {
  PromiseNode* n = &node;
  while (n->is(PromiseNode::THROUGH)) n = n->dependency_;
  return *n;
}

/// Asks for `event` to be armed when the promise, which is of the event's loop, is ready; true if it is already
/// (nothing is armed then).
inline bool listen(PromiseNode& node, Event* event) noexcept { return sourceOf(node).onReady(event); }

ResultBase& resolveLazy(PromiseNode& node) noexcept;
ResultBase& resolveChain(PromiseNode& node) noexcept;
void destroyLongChain(PromiseNode* node) noexcept;

/// Evaluates a ready promise and gives its result. Runs user code.
inline ResultBase& resolve(PromiseNode& node) noexcept {
  return node.is(PromiseNode::LAZY) ? resolveLazy(node) : node.get(nullptr);
}

inline ResultBase& PromiseNode::evaluateDependency(unsigned depth) noexcept {
  PromiseNode& below = *dependency_;
  if (!below.is(LAZY)) return below.get(nullptr);
  return depth != 0 ? below.evaluate(depth - 1) : resolveChain(below);
}

/// A chain, or what waits for one, that is half destroyed on this thread. Destructors must not run the loop, nor trace
/// what is left: they might come upon the other half.
class DestroyingChain {
public:
  DestroyingChain() noexcept : outer_(std::exchange(innermost, this)) {}
  DestroyingChain(const DestroyingChain&) = delete;
  DestroyingChain& operator=(const DestroyingChain&) = delete;
  ~DestroyingChain() { innermost = outer_; }

  /// Whether there is any.
  static bool any() noexcept { return innermost != nullptr; }
  /// Whether `node` is left of one.
  static bool has(const PromiseNode* node) noexcept;

  PromiseNode* left = nullptr; // what leads up to the top of the chain

private:
  static constinit thread_local DestroyingChain* innermost;
  DestroyingChain* outer_;
};

/// Why promises must not be destroyed on this thread at present, if so.
extern constinit thread_local const char* destructorsDisallowed;
[[noreturn]] void destroyedWhileDisallowed(const char* what, std::source_location where) noexcept;
/// To be called when `what` is destroyed, which was made at `where`: aborts if that is disallowed.
inline void requireDestructorsAllowed(const char* what, std::source_location where = {}) noexcept {
  if (destructorsDisallowed != nullptr) [[unlikely]]
    destroyedWhileDisallowed(what, where);
}

/// Destroys a node and all that it waits for, the innermost first. Null is allowed.
inline void destroyChain(PromiseNode* node) noexcept {
  if (node == nullptr || node->isGone()) return;
  requireDestructorsAllowed("a promise", node->where());
  if (node->dependency_ == nullptr)
    node->destroy();
  else
    destroyLongChain(node);
}

/// destroyChain() for a promise whose result was taken. Of a chain's inner nodes many have nothing to destroy then
/// (isGone), of its top few.
inline void destroyTakenTop(PromiseNode& node) noexcept {
  if (!node.hasDependency())
    node.destroy();
  else
    destroyLongChain(&node);
}
inline void destroyTaken(PromiseNode& node) noexcept {
  if (!node.isGone()) destroyTakenTop(node);
}

/// destroyTaken() for one who is not a node.
inline void destroyWaitedFor(PromiseNode& node) noexcept {
  requireDestructorsAllowed("a promise", node.where());
  destroyTakenTop(node);
}

/// Owns a chain of nodes.
class OwnNode {
public:
  OwnNode() noexcept = default;
  explicit OwnNode(PromiseNode* node) noexcept : node_(node) {}
  OwnNode(OwnNode&& other) noexcept : node_(std::exchange(other.node_, nullptr)) {}
  OwnNode& operator=(OwnNode&& other) noexcept {
    PromiseNode* old = std::exchange(node_, std::exchange(other.node_, nullptr));
    if (old != nullptr) destroyChain(old);
    return *this;
  }
  ~OwnNode() {
    if (node_ != nullptr) destroyChain(node_);
  }

  PromiseNode* get() const noexcept { return node_; }
  PromiseNode& operator*() const noexcept { return *node_; }
  PromiseNode* release() noexcept { return std::exchange(node_, nullptr); }
  explicit operator bool() const noexcept { return node_ != nullptr; }

  /// As listenTo().
  bool listen(Event* event);

private:
  PromiseNode* node_ = nullptr;
};

inline constexpr std::size_t ARENA_SIZE = 16 * POOL_GRAIN - POOL_SHORT; // a block of the pool

/// The same node, of which the compiler does not know which one it is: g++ 12 warns of what append() would do with one
/// that is in no arena (-Warray-bounds), had it not looked.
inline PromiseNode* unknown(PromiseNode& node) noexcept {
  PromiseNode* pointer = &node;
#if defined(__GNUC__)
  asm("" : "+r"(pointer));
#endif
  return pointer;
}

/// Makes nodes and hands them their dependency.
class NodeAccess {
public:
  /// A node in a block of its own, sized for it alone: for nodes that nobody chains `then` to.
  template <typename Node, typename... Args>
  static Node* makeAlone(Args&&... args) {
    return inNewBlock<Node>(sizeof(Node), std::forward<Args>(args)...);
  }

  /// A node in a new arena with room for some `then`s.
  template <typename Node, typename... Args>
  static Node* make(Args&&... args) {
    return inNewBlock<Node>(sizeof(Node) > ARENA_SIZE ? sizeof(Node) : ARENA_SIZE, std::forward<Args>(args)...);
  }

  /// A node on top of `dependency`, in its arena if there is room.
  template <typename Node, typename... Args>
  static Node* append(OwnNode&& dependency, Args&&... args) {
    PromiseNode* const below = unknown(*dependency);
    constexpr std::size_t SIZE = (sizeof(Node) + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    static_assert(alignof(Node) <= ALIGNMENT, "an over-aligned value cannot be held by a promise");
    const std::size_t used = below->blockUsed_;
    Node* node;
    if (used + SIZE <= below->blockSize_) [[likely]] { // 0 for one that owns no block
      node = new (reinterpret_cast<std::byte*>(below) - below->blockOffset_ + used) Node(std::forward<Args>(args)...);
      PromiseNode& base = *node;
      base.blockOffset_ = static_cast<std::uint16_t>(used);
      base.blockUsed_ = static_cast<std::uint16_t>(used + SIZE);
      base.blockSize_ = std::exchange(below->blockSize_, 0);
    } else {
      node = make<Node>(std::forward<Args>(args)...);
    }
    static_cast<PromiseNode&>(*node).dependency_ = dependency.release();
    return node;
  }

  /// The same, on top of a node that is in no arena.
  template <typename Node, typename... Args>
  static Node* append(PromiseNode& constant, Args&&... args) {
    Node* node = make<Node>(std::forward<Args>(args)...);
    static_cast<PromiseNode&>(*node).dependency_ = &constant;
    return node;
  }

  /// Ends a node made by one of the above: the body of its destroy().
  template <typename Node>
  static void destroy(Node* node) noexcept {
    const PromiseNode& base = *node;
    std::byte* block = reinterpret_cast<std::byte*>(node) - base.blockOffset_;
    const std::size_t size = base.blockSize_;
    node->~Node();
    if (size != 0) deallocate(block, size);
  }

private:
  static constexpr std::size_t ALIGNMENT = alignof(std::max_align_t);

  template <typename Node, typename... Args>
  static Node* inNewBlock(std::size_t size, Args&&... args) {
    static_assert(alignof(Node) <= ALIGNMENT, "an over-aligned value cannot be held by a promise");
    // A node too large for the counters gets a block that nothing is appended to.
    struct Block {
      std::size_t size;
      void* memory = allocate(size);
      ~Block() {
        if (memory != nullptr) deallocate(memory, size);
      }
    } block{size};
    static_assert(sizeof(Node) + ALIGNMENT <= UINT16_MAX, "a value or continuation of 64 KiB belongs behind a pointer");
    Node* node = new (block.memory) Node(std::forward<Args>(args)...);
    block.memory = nullptr;
    PromiseNode& base = *node;
    base.blockUsed_ = static_cast<std::uint16_t>((sizeof(Node) + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT);
    base.blockSize_ = static_cast<std::uint16_t>(size);
    return node;
  }
};

/// A node that becomes ready by itself. One word says who waits: the loop it belongs to (tagged) while
/// nobody does, then the event, then that it is ready.
class SourceNode : public PromiseNode {
public:
  bool onReady(Event* event) noexcept final;
  EventLoop* loop() const noexcept final {
    if (state_ == READY) return nullptr;
    if ((state_ & NO_WAITER) != 0) return reinterpret_cast<EventLoop*>(state_ & ~NO_WAITER);
    return &reinterpret_cast<Event*>(state_)->loop();
  }

  /// The usual case of onReady: not ready, nobody waits yet, and `event` is of the same loop.
  bool listenFirst(Event* event) noexcept {
    if (state_ != unwaited(&event->loop())) return false;
    state_ = reinterpret_cast<std::uintptr_t>(event);
    return true;
  }

  bool isReady() const noexcept { return state_ == READY; }

  const Event* waiter() const noexcept override {
    return (state_ & NO_WAITER) != 0 ? nullptr : reinterpret_cast<const Event*>(state_);
  }

  /// Whether this thread is the one whose loop the node belongs to, as far as that is known. A thread without a loop is
  /// as good while no thread has entered that one.
  bool isOnOwnThread() const noexcept {
    EventLoop* own = SourceNode::loop();
    return own == nullptr || own == EventLoop::currentOrNull() ||
           (EventLoop::currentOrNull() == nullptr && !EventLoop::isInUse(own));
  }

protected:
  explicit SourceNode(std::source_location where, unsigned flags = 0) noexcept
      : SourceNode(where, EventLoop::currentOrNull(), flags) {}
  SourceNode(std::source_location where, EventLoop* loop, unsigned flags = 0) noexcept
      : PromiseNode(where, SOURCE | flags), state_(unwaited(loop)) {}

  /// A node that is ready from the beginning.
  struct AlwaysReady {};
  constexpr SourceNode(std::source_location where, AlwaysReady, unsigned flags = 0) noexcept
      : PromiseNode(where, SOURCE | flags), state_(READY) {}

  /// The result is there: the waiter runs next.
  void setReady() noexcept {
    const std::uintptr_t state = std::exchange(state_, READY);
    if ((state & NO_WAITER) == 0) reinterpret_cast<Event*>(state)->armDepthFirst();
  }

  /// The same, as the last act of an event's fire().
  void setReadyAtEndOfTurn() noexcept {
    const std::uintptr_t state = std::exchange(state_, READY);
    if ((state & NO_WAITER) == 0) reinterpret_cast<Event*>(state)->armAtEndOfTurn();
  }

  /// The result is an exception: as setReady(), and the exception learns what waited for it.
  void setFailed(ResultBase& result, Exception exception) noexcept;

  /// Makes an embedded source usable again, as new.
  void resetSource(EventLoop* loop) noexcept { state_ = unwaited(loop); }

  /// To be called when the node is destroyed: aborts if it is not ready and this is not its thread.
  void requireThreadToGo() const noexcept {
    if (state_ != READY && state_ != unwaited(EventLoop::currentOrNull())) [[unlikely]]
      requireThreadToGoSlowly();
  }

  /// Throws FAILED if this thread is not the one that the node belongs to.
  void requireThread(std::string_view what) const {
    if (!isOnOwnThread()) [[unlikely]]
      throwWrongThread(what);
  }

private:
  static constexpr std::uintptr_t NO_WAITER = 1;
  static constexpr std::uintptr_t READY = 3; // has the bit of NO_WAITER

  std::uintptr_t state_;

  [[noreturn]] void throwWrongThread(std::string_view what) const;
  void requireThreadToGoSlowly() const noexcept;
  static std::uintptr_t unwaited(EventLoop* loop) noexcept {
    return reinterpret_cast<std::uintptr_t>(loop) | NO_WAITER;
  }
};

bool listenToSlowly(PromiseNode*& slot, Event* event);

/// listen() for the owner of a promise of unknown loop. Throws FAILED if that is another one than the event's: then
/// the promise, which could be destroyed only on its thread, has been let go of.
inline bool listenTo(PromiseNode*& slot, Event* event) {
  PromiseNode& node = sourceOf(*slot);
  if (node.is(PromiseNode::SOURCE)) [[likely]] {
    auto& source = static_cast<SourceNode&>(node);
    if (source.listenFirst(event)) return false;
    if (source.isReady()) return true;
  }
  return listenToSlowly(slot, event);
}

/// The loop that the promise belongs to; null if that does not matter.
inline EventLoop* loopOf(PromiseNode& promise) noexcept {
  PromiseNode& node = sourceOf(promise);
  if (node.is(PromiseNode::SOURCE)) return static_cast<SourceNode&>(node).SourceNode::loop();
  return node.is(PromiseNode::SHARED) ? nullptr : node.loop();
}

/// Whether the promise belongs to another loop than this one.
inline bool isForeign(PromiseNode& promise, const EventLoop* loop) noexcept {
  const EventLoop* own = loopOf(promise);
  return own != nullptr && own != loop;
}

[[noreturn]] void throwAwaitedForeign(OwnNode promise);

/// Throws FAILED if the promise belongs to another loop than this thread's; it has been let go of then. For nodes that
/// listen: before they take the promise's arena over.
inline void requireOwnLoop(OwnNode& promise) {
  if (isForeign(*promise, EventLoop::currentOrNull())) [[unlikely]]
    throwAwaitedForeign(std::move(promise));
}

/// Whether the result is there for certain.
inline bool isReadyNow(PromiseNode& promise) noexcept {
  PromiseNode& node = sourceOf(promise);
  return node.is(PromiseNode::SOURCE) && static_cast<SourceNode&>(node).isReady();
}

inline bool OwnNode::listen(Event* event) { return listenTo(node_, event); }

/// The exception being handled, which learns, if it has not yet, what waits for the code that threw it.
ExceptionRef failureFromCurrent() noexcept;

/// A node that is ready when its dependency is, and computes when asked.
class LazyNode : public PromiseNode {
public:
  // listen() goes past it to the source.
  bool onReady(Event* event) noexcept final { return listen(*this, event); }
  EventLoop* loop() const noexcept final { return nullptr; }

protected:
  explicit LazyNode(std::source_location where, unsigned flags = 0) noexcept
      : PromiseNode(where, LAZY | THROUGH | flags) {}
};

/// What Promise::poll() puts on top of a promise, which may be moved, consumed or destroyed by what runs meanwhile.
class PolledNode final : public LazyNode {
public:
  PolledNode() noexcept : LazyNode(std::source_location(), POLLED) {}
  ResultBase& get(ResultBase* in) noexcept override { return *in; }
  void destroy() noexcept override {
    if (poller != nullptr) *poller = nullptr;
    NodeAccess::destroy(this);
  }
  const char* name() const noexcept override { return "poll"; }

  PromiseNode** poller = nullptr; // where the poll() that is going on points to this node
};

/// A failed promise of any type. Without memory, it is one that says so.
OwnNode makeBroken(ExceptionRef exception, std::source_location where) noexcept;

/// A failed promise of any type.
class BrokenNode final : public SourceNode {
public:
  BrokenNode(ExceptionRef exception, std::source_location where) noexcept : SourceNode(where, AlwaysReady()) {
    result_.exception = std::move(exception);
  }
  ResultBase& get(ResultBase*) noexcept override { return result_; }
  void destroy() noexcept override { NodeAccess::destroy(this); }
  const char* name() const noexcept override { return "failed promise"; }

private:
  ResultBase result_;
};

/// The promises READY_NOW. As the other shared nodes it has no state: any number of promises on any thread may hold it.
class ReadyNode final : public SourceNode {
public:
  constexpr ReadyNode() noexcept : SourceNode(std::source_location(), AlwaysReady(), TRIVIAL) {
    result_.value.emplace();
  }
  ResultBase& get(ResultBase*) noexcept override { return result_; }
  void destroy() noexcept override {}
  const char* name() const noexcept override { return "READY_NOW"; }

private:
  Result<Void> result_; // consumers do not write to a Void, nor to an exception that is null
};

/// A promise that fails for want of memory; any number of promises on any thread may hold it.
class OutOfMemoryNode final : public SourceNode {
public:
  constexpr OutOfMemoryNode() noexcept : SourceNode(std::source_location(), AlwaysReady(), TRIVIAL) {}
  ResultBase& get(ResultBase*) noexcept override;
  void destroy() noexcept override {}
  const char* name() const noexcept override { return "failed promise"; }
};

/// The promises that are never ready, ready after the queue, after all else, or when the loop would sleep.
class SharedNode final : public PromiseNode {
public:
  enum class Kind : std::uint8_t { NEVER, YIELD, LAST, WOULD_SLEEP };

  explicit constexpr SharedNode(Kind kind) noexcept
      : PromiseNode(std::source_location(), TRIVIAL | SHARED), kind_(kind) {
    result_.value.emplace();
  }
  bool onReady(Event* event) noexcept override;
  EventLoop* loop() const noexcept override { return nullptr; }
  ResultBase& get(ResultBase*) noexcept override { return result_; }
  void destroy() noexcept override {}
  const char* name() const noexcept override;

private:
  Kind kind_;
  Result<Void> result_;
};

/// Never destroyed: a promise may be the last thing to go in a program.
template <typename Node>
union Immortal {
  Node node;
  template <typename... Args>
  explicit constexpr Immortal(Args... args) noexcept : node(args...) {}
  ~Immortal() {}
};

extern constinit Immortal<ReadyNode> readyImmortal;
extern constinit Immortal<SharedNode> neverImmortal;
extern constinit Immortal<SharedNode> yieldImmortal;
extern constinit Immortal<SharedNode> lastImmortal;
extern constinit Immortal<SharedNode> wouldSleepImmortal;
inline constexpr ReadyNode& readyNode = readyImmortal.node;
inline constexpr SharedNode& neverNode = neverImmortal.node;
inline constexpr SharedNode& yieldNode = yieldImmortal.node;
inline constexpr SharedNode& lastNode = lastImmortal.node;
inline constexpr SharedNode& wouldSleepNode = wouldSleepImmortal.node;

/// Waits for a promise for a promise and then becomes a lazy stand-in for the inner one. A chain that is
/// itself the inner one of another puts its own inner promise in its place and goes, so that a loop by
/// tail calls (`return loop();`) stays as long as one step.
class ChainNode final : public PromiseNode, private Event {
public:
  explicit ChainNode(std::source_location where) : PromiseNode(where, CHAIN), Event(EventLoop::current(where)) {}

  /// After construction, when the dependency (which gives a Result<OwnNode>) is set.
  void start();

  bool onReady(Event* event) noexcept override;
  EventLoop* loop() const noexcept override { return &Event::loop(); }
  ResultBase& get(ResultBase* in) noexcept override { return *in; }
  void destroy() noexcept override {
    Event::requireThreadToGo(where_);
    NodeAccess::destroy(this);
  }
  const char* name() const noexcept override { return "then, for a promise"; }
  const Event* waiter() const noexcept override { return waiter_; }

private:
  Event* waiter_ = nullptr;
  PromiseNode** place_ = nullptr; // the slot in the outer chain that holds this one, if one does

  void fire() noexcept override;
  const PromiseNode* computes() const noexcept override { return this; }
  const PromiseNode* awaits() const noexcept override { return dependency_; }
  PromiseNode* takeInner() noexcept;
  PromiseNode* takeFailure(ResultBase& outer) noexcept;
  PromiseNode* refuse(const PromiseNode* inner) const noexcept;
  static void settle(PromiseNode*& slot, PromiseNode* inner, Event* waiter) noexcept;
};

/// The first of two promises of the same type to be ready; the other is destroyed before anybody hears. The left
/// one is the node's dependency, so that a tower of joins (a time-out around a time-out …) is a chain like others.
class ExclusiveJoinNode final : public PromiseNode {
public:
  ExclusiveJoinNode(EventLoop& loop, OwnNode&& right, std::source_location where) noexcept;

  /// After construction, when the dependency is set.
  void start();

  bool onReady(Event* event) noexcept override;
  EventLoop* loop() const noexcept override { return &leftReady_.loop(); }
  ResultBase& get(ResultBase* in) noexcept override { return *in; }
  PromiseNode* takeDependency() noexcept override {
    // The right one goes first, as in KJ; what leads up to the top is kept in dependency_ then.
    return std::exchange(right_, std::exchange(dependency_, nullptr));
  }
  void destroy() noexcept override {
    requireOwnThread(&leftReady_.loop(), where_);
    right_ != nullptr ? destroyLongChain(this) : NodeAccess::destroy(this);
  }
  const char* name() const noexcept override { return "exclusiveJoin"; }
  const Event* waiter() const noexcept override { return waiter_; }
  const PromiseNode* dependencyAt(std::size_t index) const noexcept override {
    return index == 0 ? dependency_ : index == 1 ? right_ : nullptr;
  }

private:
  class BranchReady final : public Event {
  public:
    BranchReady(ExclusiveJoinNode& join, EventLoop& loop) noexcept : Event(loop), join_(join) {}

  private:
    ExclusiveJoinNode& join_;
    void fire() noexcept override { join_.decide(*this); }
    const PromiseNode* computes() const noexcept override { return &join_; }
    const PromiseNode* awaits() const noexcept override;
  };

  BranchReady leftReady_;
  BranchReady rightReady_;
  PromiseNode* right_; // owned
  Event* waiter_ = nullptr;

  void decide(BranchReady& winner) noexcept;
};

} // namespace detail
} // namespace v0
} // namespace troth
