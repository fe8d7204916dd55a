// SPDX-License-Identifier: MIT
// The timer heap.
//
// heap_[i]'s children are heap_[4i+1 … 4i+4]; no child fires before its parent; each node knows its index,
// so that it can be taken out from the middle. Four children halve the depth of a binary heap, and a
// node's children share one or two cache lines. Deadlines stand in the array: comparing does not touch
// the nodes. (Entries of 16 bytes, with the sequence in the node, were measured to be no faster.)
//
// When a good part of all deadlines is due at once they are sorted instead, which touches each node once.
#include <troth/timers/timer_queue_detail.h>

#include <algorithm>
#include <new>

namespace troth {
inline namespace v0 {
namespace detail {

namespace {

// Entries for which the array is kept, however few are left.
constexpr std::size_t SMALL = 256;

// Deadlines that are taken out one by one before it is asked how many there are.
constexpr std::size_t FEW = 32;

// So far ahead nodes are fetched from memory that are about to fire.
constexpr std::ptrdiff_t PREFETCHED = 8;

void prefetch([[maybe_unused]] const void* address) noexcept {
#ifdef __GNUC__
  __builtin_prefetch(address, 1);
#endif
}

} // namespace

class TimerNode final : public SourceNode {
public:
  TimerNode(TimerQueue& queue, std::source_location where) : SourceNode(where), queue_(&queue) {}

  void fire() noexcept {
    queue_ = nullptr;
    result_.value.emplace();
    setReady();
  }

  void abandon(const Exception& exception) noexcept {
    queue_ = nullptr;
    setFailed(result_, exception);
  }

  ResultBase& get(ResultBase*) noexcept override { return result_; }
  const char* name() const noexcept override { return "timer"; }

  void destroy() noexcept override {
    requireThreadToGo();
    TimerQueue* queue = queue_;
    if (queue != nullptr) queue->removeAt(index);
    NodeAccess::destroy(this);
    if (queue != nullptr) queue->onRemoved();
  }

  std::size_t index = 0;

private:
  TimerQueue* queue_; // null once fired
  Result<Void> result_;
};

TimerQueue::~TimerQueue() {
  if (heap_.empty()) return;
  const Exception gone(Exception::Kind::DISCONNECTED, "the timer was destroyed before the time came");
  for (Entry& entry : heap_) entry.node->abandon(gone);
}

Promise<void> TimerQueue::add(TimePoint deadline, std::source_location where) {
  if (heap_.size() == heap_.capacity()) [[unlikely]]
    resize(std::max<std::size_t>(2 * heap_.size(), 4));
  auto* node = NodeAccess::makeAlone<TimerNode>(*this, where);
  heap_.emplace_back();
  siftUp(heap_.size() - 1, Entry{deadline, nextSequence_++, node});
  return PromiseAccess::wrap<void>(node);
}

void TimerQueue::advanceTo(TimePoint now) noexcept {
  for (std::size_t fired = 0; !heap_.empty() && heap_.front().deadline <= now; ++fired) {
    if (fired == FEW && countDue(0, now) > heap_.size() / 8) {
      fireMany(now);
      return;
    }
    TimerNode* node = heap_.front().node;
    removeAt(0);
    node->fire();
  }
}

// How many are due of the entry at `index` and those below it: below what is not due nothing is. (The recursion is as
// deep as the heap.)
std::size_t TimerQueue::countDue(std::size_t index, TimePoint now) const noexcept {
  if (index >= heap_.size() || heap_[index].deadline > now) return 0;
  std::size_t count = 1;
  for (std::size_t child = 4 * index + 1; child <= 4 * index + 4; ++child) count += countDue(child, now);
  return count;
}

// To take out the first moves an entry on each level, and tells its node. Nothing comes in between here: to fire runs
// nobody's code.
void TimerQueue::fireMany(TimePoint now) noexcept {
  const auto due =
      std::partition(heap_.begin(), heap_.end(), [now](const Entry& entry) { return entry.deadline > now; });
  std::sort(due, heap_.end(), [](const Entry& a, const Entry& b) { return a.before(b); });
  for (auto entry = due; entry != heap_.end(); ++entry) {
    if (heap_.end() - entry > PREFETCHED) prefetch(entry[PREFETCHED].node);
    entry->node->fire();
  }
  heap_.erase(due, heap_.end());
  if (heap_.size() < shrinkBelow_) shrink();
  restoreHeap();
}

// From the last entry to the first: what is below one is a heap already.
void TimerQueue::restoreHeap() noexcept {
  for (std::size_t index = heap_.size(); index-- > 0;) siftDown(index, heap_[index]);
}

void TimerQueue::place(std::size_t index, Entry entry) noexcept {
  heap_[index] = entry;
  entry.node->index = index;
}

void TimerQueue::siftUp(std::size_t index, Entry entry) noexcept {
  while (index > 0) {
    const std::size_t parent = (index - 1) / 4;
    if (!entry.before(heap_[parent])) break;
    place(index, heap_[parent]);
    index = parent;
  }
  place(index, entry);
}

void TimerQueue::siftDown(std::size_t index, Entry entry) noexcept {
  const std::size_t size = heap_.size();
  for (;;) {
    const std::size_t firstChild = 4 * index + 1;
    if (firstChild >= size) break;
    const std::size_t end = std::min(firstChild + 4, size);
    std::size_t best = firstChild;
    for (std::size_t child = firstChild + 1; child < end; ++child)
      if (heap_[child].before(heap_[best])) best = child;
    if (!heap_[best].before(entry)) break;
    place(index, heap_[best]);
    index = best;
  }
  place(index, entry);
}

void TimerQueue::removeAt(std::size_t index) noexcept {
  const Entry last = heap_.back();
  heap_.pop_back();
  if (heap_.size() < shrinkBelow_) [[unlikely]]
    shrink();
  if (index != heap_.size()) fill(index, last);
}

// Puts what was the last entry where one was taken out.
void TimerQueue::fill(std::size_t index, Entry entry) noexcept {
  if (index > 0 && entry.before(heap_[(index - 1) / 4]))
    siftUp(index, entry);
  else
    siftDown(index, entry);
}

void TimerQueue::resize(std::size_t capacity) {
  std::vector<Entry> resized;
  resized.reserve(capacity);
  resized.assign(heap_.begin(), heap_.end());
  heap_.swap(resized);
  shrinkBelow_ = capacity > SMALL ? capacity / 4 : 0;
}

// To half, when a quarter is left: so as many deadlines as were moved must come or go before they are moved again.
void TimerQueue::shrink() noexcept {
  try {
    resize(std::max(2 * heap_.size(), SMALL));
  } catch (const std::bad_alloc&) {
    // It stays as large as it is, then.
  }
}

} // namespace detail
} // namespace v0
} // namespace troth
