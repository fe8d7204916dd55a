// SPDX-License-Identifier: MIT
// The operations whose cost is pinned: what allocation_test.cc and instructions.py count.
#pragma once

#include <troth/runtime/canceler.h>
#include <troth/runtime/channel.h>
#include <troth/runtime/event_loop.h>
#include <troth/runtime/promise.h>
#include <troth/runtime/queue.h>
#include <troth/runtime/sync.h>
#include <troth/runtime/task_set.h>
#include <troth/timers/manual_timer.h>

#include <cstddef>
#include <source_location>
#include <span>
#include <string_view>

namespace troth::budget {

class AbortOnFailure final : public TaskSet::ErrorHandler {
public:
  void taskFailed(Exception exception) override;
};

/// What outlives a single operation.
struct World {
  EventLoop loop;
  WaitScope scope{loop};
  AbortOnFailure handler;
  TaskSet tasks{handler};
  Canceler canceler;
  ProducerConsumerQueue<int> queue;
  Channel<int> channel{1};
  AsyncMutex mutex;
  Semaphore semaphore{1};
  ManualTimer timer;
  std::size_t count = 0;
};

/// One operation, which checks its result itself.
struct Operation {
  std::string_view name;
  int allocations; // from the heap, in the steady state
  void (*run)(World& world);
};

/// All operations. Those that tools/bench compares with peers have the names that they have there.
std::span<const Operation> operations() noexcept;

[[noreturn]] void wrongResult(std::source_location where) noexcept;

/// Aborts unless `right`: the cost of something that does not work is of no interest.
inline void expect(bool right, std::source_location where = std::source_location::current()) noexcept {
  if (!right) [[unlikely]]
    wrongResult(where);
}

} // namespace troth::budget
