// SPDX-License-Identifier: MIT
// Trace: the steps of work that wait for one another, with their places.
#pragma once

#include <cstddef>
#include <source_location>
#include <string>
#include <string_view>

namespace troth {
inline namespace v0 {
namespace detail {

class Event;
class PromiseNode;

/// One step: what it is ("then", "coroutine", …) and where it was made, or where it waits.
struct TraceStep {
  const char* what; // a literal
  std::source_location where;
};

/// Collects steps without allocating, so that it may run while something fails. What does not fit is counted.
class Trace {
public:
  static constexpr std::size_t CAPACITY = 32;

  void add(const char* what, const std::source_location& where, unsigned depth = 0) noexcept;
  bool isEmpty() const noexcept { return size_ == 0; }
  const TraceStep* begin() const noexcept { return steps_; }
  const TraceStep* end() const noexcept { return steps_ + size_; }

  /// A node that tells an event when it is ready, and what waits for it, to the task or wait() at the end.
  void addSource(const PromiseNode& source) noexcept;
  /// What the event computes, and what waits for that.
  void addEvent(const Event& event) noexcept;
  /// The continuations and coroutines that are on the stack now, and what waits for them.
  void addCurrent() noexcept;
  /// The promise and what it waits for.
  void addDependencies(const PromiseNode& node, unsigned depth = 0) noexcept;

  /// One line a step: "then at file.cc:12 in function", indented where joins branch.
  std::string toString() const;

private:
  TraceStep steps_[CAPACITY];
  unsigned char depths_[CAPACITY];
  std::size_t size_ = 0;
  std::size_t left_ = 0; // that did not fit

  static constexpr unsigned MAX_DEPTH = 16;

  /// So much is left out already that counting on would only take time.
  bool isOverfull() const noexcept { return left_ >= CAPACITY; }
  void addNode(const PromiseNode& node, unsigned depth = 0) noexcept;
  void addLazies(const PromiseNode* top, const PromiseNode* source) noexcept;
};

/// A chain that is being evaluated on this thread. By recursion: its top, from which dependencies lead down to the node
/// whose continuation is running, which has none any more. By the loop: that node, and what leads up to the top.
struct Resolving {
  const PromiseNode* top = nullptr;
  const PromiseNode* node = nullptr;
  const PromiseNode* above = nullptr;
  const Resolving* outer;
};

extern constinit thread_local const Resolving* resolving;

/// The lines of an event that computes no promise, and of what it waits for.
std::string traceRoot(const Event& event);

/// The name of the file in `where`, from the project's top folder on if that is where it was compiled.
std::string_view fileName(const std::source_location& where) noexcept;

/// The lines of some steps, as Trace::toString() writes them.
std::string formatSteps(const TraceStep* steps, std::size_t count);

} // namespace detail
} // namespace v0
} // namespace troth
