// SPDX-License-Identifier: MIT
// The part that ProducerConsumerQueue and Channel share: items, and the promises that take them.
#pragma once

#include <troth/runtime/promise.h>
#include <troth/runtime/waiter_detail.h>

#include <algorithm>
#include <bit>
#include <cstddef>
#include <memory>
#include <new>
#include <optional>
#include <type_traits>
#include <utility>

namespace troth {
inline namespace v0 {
namespace detail {

/// A double-ended queue in one block, which grows and stays.
template <typename T>
class Ring {
public:
  Ring() noexcept = default;
  Ring(const Ring&) = delete;
  Ring& operator=(const Ring&) = delete;
  ~Ring() {
    while (size_ > 0) popBack();
    if (slots_ != nullptr) deallocate(slots_, capacity_ * sizeof(T));
  }

  std::size_t size() const noexcept { return size_; }
  T& operator[](std::size_t index) noexcept { return slots_[(first_ + index) & (capacity_ - 1)]; }

  /// Throws std::bad_alloc, and has done nothing then.
  void pushBack(T&& item) {
    if (size_ == capacity_) [[unlikely]]
      grow();
    ::new (static_cast<void*>(&(*this)[size_])) T(std::move(item));
    ++size_;
  }

  void popFront() noexcept {
    std::destroy_at(&(*this)[0]);
    ++first_;
    --size_;
  }
  void popBack() noexcept { std::destroy_at(&(*this)[--size_]); }

  /// Moves as many items as there are between this one and the nearer end.
  void erase(std::size_t index) noexcept {
    std::destroy_at(&(*this)[index]);
    --size_;
    if (index <= size_ / 2) {
      for (std::size_t i = index; i > 0; --i) relocate((*this)[i - 1], &(*this)[i]);
      ++first_;
    } else {
      for (std::size_t i = index; i < size_; ++i) relocate((*this)[i + 1], &(*this)[i]);
    }
  }

private:
  static constexpr std::size_t FIRST_CAPACITY = std::bit_floor(std::max<std::size_t>(4, 64 / sizeof(T)));

  T* slots_ = nullptr;
  std::size_t capacity_ = 0; // a power of two, or 0
  std::size_t first_ = 0;    // counts on: only its lower bits matter
  std::size_t size_ = 0;

  static void relocate(T& from, T* to) noexcept {
    ::new (static_cast<void*>(to)) T(std::move(from));
    std::destroy_at(&from);
  }

  void grow() {
    const std::size_t capacity = capacity_ == 0 ? FIRST_CAPACITY : 2 * capacity_;
    auto* slots = static_cast<T*>(allocate(capacity * sizeof(T)));
    for (std::size_t i = 0; i < size_; ++i) relocate((*this)[i], &slots[i]);
    if (slots_ != nullptr) deallocate(slots_, capacity_ * sizeof(T));
    slots_ = slots;
    capacity_ = capacity;
    first_ = 0;
  }
};

// Items stay in the ring, and takers (promises) in a list, until a taker's result is taken. The rule that gives all
// others:
//
//     of the takers that there are, the i-th will get the i-th item that there is.
//
// A taker is ready as soon as there is an item for it, but which one is found out when the result is taken. So a
// ready taker that is destroyed needs to give nothing back: those behind it move up, and the items keep their order.
// The price is counting the takers in front, which costs nothing as long as results are taken in the order of the
// takers.
//
// Invariant: `ready_` holds the first takers, `waiting_` those behind them. If somebody waits, each item has its ready
// taker. Without ENDS there are never more ready takers than items; with it, those for whom there is no item, and who
// are ready all the same because of endWaiting(), get an empty value.
template <typename Item, bool ENDS>
class ItemQueue {
public:
  using Value = std::conditional_t<ENDS, std::optional<Item>, Item>;

  static_assert(std::is_nothrow_move_constructible_v<Item> && std::is_nothrow_destructible_v<Item>,
                "moving or destroying an item must not throw: put it into a std::unique_ptr");
  static_assert(alignof(Item) <= alignof(std::max_align_t), "an over-aligned item belongs behind a pointer");

  ItemQueue() = default;

  /// Ready takers get what they were promised; the others fail.
  ~ItemQueue() {
    if (!ready_.isEmpty()) home_.requireOrAbort("a queue was destroyed", ready_.front().where());
    serveReady();
    waiting_.disconnectAll(ENDS ? "the channel was destroyed while a receive waited"
                                : "the queue was destroyed while a pop waited");
  }

  /// Throws FAILED on another thread.
  void require(const char* what, const std::source_location& where) { home_.require(what, where); }
  void requireOrAbort(const char* what) const noexcept { home_.requireOrAbort(what, std::source_location()); }

  /// The number of items that are left for takers to come.
  std::size_t unclaimed() const noexcept { return items_.size() > readyCount_ ? items_.size() - readyCount_ : 0; }
  bool isAwaited() const noexcept { return !waiting_.isEmpty(); }

  /// Throws std::bad_alloc.
  void push(Item&& item) {
    items_.pushBack(std::move(item));
    if (!waiting_.isEmpty()) readyNext();
  }

  /// A new taker; if there is nothing for it, it waits, or with `atEnd` gets an empty value.
  PromiseNode* take(bool atEnd, std::source_location where) {
    auto* taker = new Taker(*this, where);
    if (items_.size() > readyCount_ || (ENDS && atEnd))
      makeReady(*taker);
    else
      waiting_.add(*taker);
    return taker;
  }

  /// As a taker that is served at once.
  std::optional<Item> tryTake() noexcept {
    std::optional<Item> item;
    if (unclaimed() > 0) {
      item.emplace(std::move(items_[readyCount_]));
      items_.erase(readyCount_);
    }
    return item;
  }

  void failWaiting(const Exception& exception) noexcept { waiting_.failAll(exception); }

  void endWaiting() noexcept {
    static_assert(ENDS);
    while (!waiting_.isEmpty()) readyNext();
  }

  /// Gives the ready takers what they were promised, and destroys all other items.
  void clear() noexcept {
    serveReady();
    while (items_.size() > 0) {
      // What an item's destructor may do to this queue meets it in order.
      [[maybe_unused]] const Item last = std::move(items_[items_.size() - 1]);
      items_.popBack();
    }
  }

private:
  class Taker final : public Waiter {
  public:
    Taker(ItemQueue& queue, std::source_location where) noexcept : Waiter(where), queue_(queue) {}

    using Waiter::setReady;
    Result<Value> value;

    ResultBase& get(ResultBase*) noexcept override {
      if (isLinked()) {
        queue_.home_.requireOrAbort("a promise's result was taken", where());
        queue_.serve(*this);
      }
      return value;
    }
    void destroy() noexcept override {
      if (isLinked()) queue_.withdraw(*this);
      delete this;
    }
    const char* name() const noexcept override { return ENDS ? "Channel::receive" : "ProducerConsumerQueue::pop"; }

  private:
    ItemQueue& queue_; // alive while this is linked

    ResultBase& result() noexcept override { return value; }
  };

  HomeLoop home_;
  Ring<Item> items_;
  WaiterList ready_;
  std::size_t readyCount_ = 0;
  WaiterList waiting_;

  void makeReady(Taker& taker) noexcept {
    taker.setReady();
    ready_.add(taker);
    ++readyCount_;
  }

  void readyNext() noexcept {
    auto& taker = static_cast<Taker&>(waiting_.front());
    taker.unlink();
    makeReady(taker);
  }

  void serveReady() noexcept {
    while (!ready_.isEmpty()) serve(static_cast<Taker&>(ready_.front()));
  }

  /// Gives a ready taker its value.
  void serve(Taker& taker) noexcept {
    if (!ready_.isFront(taker) || items_.size() == 0) [[unlikely]]
      return serveOther(taker);
    taker.value.value.emplace(std::move(items_[0]));
    items_.popFront();
    taker.unlink();
    --readyCount_;
  }

  /// One that is not the first, or for whom there is no item.
  [[gnu::noinline]] void serveOther(Taker& taker) noexcept {
    const std::size_t index = ready_.countBefore(taker, readyCount_);
    taker.unlink();
    --readyCount_;
    if constexpr (ENDS) {
      if (index >= items_.size()) {
        taker.value.value.emplace();
        return;
      }
    }
    taker.value.value.emplace(std::move(items_[index]));
    items_.erase(index);
  }

  [[gnu::noinline]] void withdraw(Taker& taker) noexcept {
    home_.requireOrAbort("a promise was destroyed", taker.where());
    taker.unlink();
    if (!taker.isReady()) return;
    --readyCount_;
    if (!waiting_.isEmpty()) readyNext();
  }
};

} // namespace detail
} // namespace v0
} // namespace troth
