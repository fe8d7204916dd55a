// SPDX-License-Identifier: MIT
// Canceler: cancels promises that others hold.
#pragma once

#include <troth/runtime/promise.h>

#include <source_location>
#include <string_view>

namespace troth {
inline namespace v0 {

namespace detail {

/// A wrapped promise, as its Canceler knows it.
class CancelerLink {
public:
  CancelerLink() noexcept = default;
  CancelerLink(const CancelerLink&) = delete;
  CancelerLink& operator=(const CancelerLink&) = delete;

  /// Destroys the work, and rejects the promise.
  virtual void cancel(const Exception& reason) noexcept = 0;

  void linkBehind(CancelerLink*& head) noexcept {
    next_ = head;
    link_ = &head;
    if (head != nullptr) head->link_ = &next_;
    head = this;
  }
  /// Puts all of one list in front of another.
  static void moveInFront(CancelerLink*& from, CancelerLink*& to) noexcept;
  void unlink() noexcept {
    if (link_ == nullptr) return;
    *link_ = next_;
    if (next_ != nullptr) next_->link_ = link_;
    link_ = nullptr;
  }

protected:
  ~CancelerLink() { unlink(); }

private:
  CancelerLink* next_ = nullptr;
  CancelerLink** link_ = nullptr; // what points to this one, while it can be cancelled
};

[[noreturn]] void destroyedWhileCancelling(std::source_location where) noexcept;

template <typename T>
class CancelableNode final : public EagerNode<T>, public CancelerLink {
public:
  explicit CancelableNode(std::source_location where) : EagerNode<T>(where, PromiseNode::SEVERAL) {}

  // Destroyed together with its work, it cannot be cancelled any more by that work's destructors.
  PromiseNode* takeDependency() noexcept override {
    CancelerLink::unlink();
    return std::exchange(this->dependency_, nullptr);
  }

  void cancel(const Exception& reason) noexcept override {
    if (this->isFiring()) Event::destroyedWhileFiring();
    Event::requireThreadToGo(this->where());
    cancelling_ = true;
    {
      const DestroyingChain destroying;
      destroyChain(std::exchange(this->dependency_, nullptr));
    }
    this->disarm(); // after: a dying operation may still have settled
    cancelling_ = false;
    this->setFailed(this->result_, reason);
  }
  void destroy() noexcept override {
    Event::requireThreadToGo(this->where());
    NodeAccess::destroy(this);
  }
  const char* name() const noexcept override { return "Canceler::wrap"; }
  friend class NodeAccess;

private:
  bool cancelling_ = false;

  ~CancelableNode() override {
    if (cancelling_) destroyedWhileCancelling(this->where());
  }

  void fire() noexcept override {
    EagerNode<T>::fire();
    CancelerLink::unlink();
  }
};

} // namespace detail

/// Cancels work whose promises others hold, for example because an object goes that the work refers to:
///
///     Promise<Reply> Client::ask() { return canceler_.wrap(doAsk()); }
///
/// When cancel(), or the destructor, returns, what was wrapped and had not ended *has been* destroyed, and whoever
/// holds the promise sees the reason. (Destructors of that work must not destroy the promise itself: that aborts.) A
/// member of this type belongs at the end of its class, so that it is destroyed first. Belongs to one thread.
class Canceler {
public:
  Canceler() noexcept = default;
  /// As cancel(), with DISCONNECTED "operation canceled", or the exception because of which it is destroyed.
  ~Canceler();
  Canceler(const Canceler&) = delete;
  Canceler& operator=(const Canceler&) = delete;

  /// The same work, which runs as soon as it can and which this can cancel until it has ended. Destroying the
  /// promise cancels it, too.
  template <typename T>
  Promise<T> wrap(Promise<T> promise, std::source_location where = std::source_location::current()) {
    detail::OwnNode taken = detail::PromiseAccess::take(promise, where);
    detail::requireOwnLoop(taken);
    auto* node = detail::NodeAccess::append<detail::CancelableNode<T>>(std::move(taken), where);
    detail::OwnNode owner(node);
    node->start();
    node->linkBehind(first_);
    return detail::PromiseAccess::wrap<T>(std::move(owner));
  }

  /// Destroys the work of all that is wrapped, and rejects the promises with `reason`, or with DISCONNECTED and that
  /// text. What is wrapped meanwhile, by destructors, is not cancelled. One of these may cancel again: that destroys
  /// all but the work that is being destroyed already.
  void cancel(Exception reason);
  void cancel(std::string_view reason, std::source_location where = std::source_location::current());

  /// Leaves all that is wrapped, and is not being destroyed, to its holders.
  void release() noexcept;

  /// Whether there is nothing to cancel.
  bool isEmpty() const noexcept { return first_ == nullptr && cancelled_ == nullptr; }

private:
  detail::CancelerLink* first_ = nullptr;
  detail::CancelerLink* cancelled_ = nullptr; // what cancel() has still to destroy
  bool* gone_ = nullptr;                      // tells a cancel() that the canceler was destroyed
};

} // namespace v0
} // namespace troth
