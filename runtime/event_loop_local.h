// SPDX-License-Identifier: MIT
// EventLoopLocal<T>: a variable of which each event loop has its own.
#pragma once

#include <troth/runtime/event_loop.h>

#include <concepts>
#include <memory>

namespace troth {
inline namespace v0 {

namespace detail {

struct LoopLocal {
  const void* key;
  void* object;
  void (*destroy)(void* object) noexcept;
};

} // namespace detail

/// A variable of static storage duration of which each event loop has its own, such as a cache of connections.
///
/// The object of a loop is made, with `T()`, when it is first asked for, and destroyed with the loop: after its
/// detached promises and before the locals that were made earlier. Looking it up takes time in proportion to the
/// number of locals that the loop has.
template <std::default_initializable T>
class EventLoopLocal {
public:
  constexpr EventLoopLocal() noexcept = default;
  EventLoopLocal(const EventLoopLocal&) = delete;
  EventLoopLocal& operator=(const EventLoopLocal&) = delete;

  /// The object of this thread's loop. Throws FAILED if the thread has none.
  T& get(std::source_location where = std::source_location::current()) const {
    EventLoop& loop = EventLoop::current(where);
    if (void* object = loop.findLocal(this)) return *static_cast<T*>(object);
    auto made = std::make_unique<T>();
    loop.addLocal({this, made.get(), [](void* object) noexcept { delete static_cast<T*>(object); }});
    return *made.release();
  }
  T& operator*() const { return get(); }
  T* operator->() const { return &get(); }
};

} // namespace v0
} // namespace troth
