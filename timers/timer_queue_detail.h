// SPDX-License-Identifier: MIT
// TimerQueue: deadlines and the promises that wait for them, as an array heap with four children.
#pragma once

#include <troth/timers/timer.h>

#include <cstdint>
#include <optional>
#include <vector>

namespace troth {
inline namespace v0 {
namespace detail {

class TimerNode;

/// Pure: it knows no clock and is driven from outside (`nextEvent`, `advanceTo`). Insertion and cancellation are
/// O(log n) and allocate nothing but the promise's node and, when there are more deadlines than ever or fewer than
/// a quarter of them, the array.
class TimerQueue {
public:
  TimerQueue() = default;
  virtual ~TimerQueue();
  TimerQueue(const TimerQueue&) = delete;
  TimerQueue& operator=(const TimerQueue&) = delete;

  /// A promise for `deadline`. Destroying it takes it out of the queue.
  Promise<void> add(TimePoint deadline, std::source_location where);

  std::optional<TimePoint> nextEvent() const noexcept {
    if (heap_.empty()) return std::nullopt;
    return heap_.front().deadline;
  }
  bool isEmpty() const noexcept { return heap_.empty(); }
  std::size_t size() const noexcept { return heap_.size(); }
  /// For how many deadlines the array has room at present.
  std::size_t capacity() const noexcept { return heap_.capacity(); }

  /// Makes every promise ready whose deadline is not after `now`, in the order of their deadlines and, among equal
  /// ones, of their creation. `now` may be any time, also one before that of the last call.
  void advanceTo(TimePoint now) noexcept;

protected:
  /// A promise was cancelled and left the queue.
  virtual void onRemoved() noexcept {}

private:
  friend class TimerNode;

  struct Entry {
    TimePoint deadline;
    std::uint64_t sequence; // breaks ties: first set, first fired
    TimerNode* node;

    bool before(const Entry& other) const noexcept {
      return deadline != other.deadline ? deadline < other.deadline : sequence < other.sequence;
    }
  };

  std::vector<Entry> heap_;
  std::uint64_t nextSequence_ = 0;
  std::size_t shrinkBelow_ = 0; // when so few are left the array is made smaller

  void removeAt(std::size_t index) noexcept;
  std::size_t countDue(std::size_t index, TimePoint now) const noexcept;
  void fireMany(TimePoint now) noexcept;
  void restoreHeap() noexcept;
  void fill(std::size_t index, Entry entry) noexcept;
  void resize(std::size_t capacity);
  void shrink() noexcept;
  void siftUp(std::size_t index, Entry entry) noexcept;
  void siftDown(std::size_t index, Entry entry) noexcept;
  void place(std::size_t index, Entry entry) noexcept;
};

} // namespace detail
} // namespace v0
} // namespace troth
