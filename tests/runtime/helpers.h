// SPDX-License-Identifier: MIT
// Helpers of the promise and timer tests: logs of order, deaths in a child process, small stacks, memory in use.
#pragma once

#include "fixtures.h"

#include <troth/runtime/task_set.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

namespace troth::test {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr bool SANITIZED = true;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
inline constexpr bool SANITIZED = true;
#else
inline constexpr bool SANITIZED = false;
#endif
#else
inline constexpr bool SANITIZED = false;
#endif

/// Adds `name` to a log when it goes. Moving it hands that duty on.
class Noted {
public:
  Noted(std::string& log, std::string name) : log_(&log), name_(std::move(name)) {}
  Noted(Noted&& other) noexcept : log_(std::exchange(other.log_, nullptr)), name_(std::move(other.name_)) {}
  Noted& operator=(Noted&& other) noexcept {
    std::swap(log_, other.log_);
    std::swap(name_, other.name_);
    return *this;
  }
  ~Noted() {
    if (log_ != nullptr) *log_ += name_ + " ";
  }

private:
  std::string* log_;
  std::string name_;
};

/// Calls a function when it goes. Moving it hands that duty on.
class OnExit {
public:
  explicit OnExit(std::function<void()> f) : f_(std::move(f)) {}
  OnExit(OnExit&& other) noexcept : f_(std::exchange(other.f_, nullptr)) {}
  OnExit& operator=(OnExit&&) = delete;
  ~OnExit() {
    if (f_) f_();
  }

private:
  std::function<void()> f_;
};

/// For task sets of which no task may fail.
struct FailOnError final : TaskSet::ErrorHandler {
  void taskFailed(Exception exception) override;
};

/// Move-only, not default-constructible, not assignable, and counted.
class Item {
public:
  explicit Item(int number) : number_(std::make_unique<const int>(number)) { ++alive; }
  Item(Item&& other) noexcept : number_(std::move(other.number_)) { ++alive; }
  Item& operator=(Item&&) = delete;
  ~Item() { --alive; }

  int number() const { return *number_; }

  static inline int alive = 0;

private:
  std::unique_ptr<const int> number_;
};

/// How a child process ended that ran a body.
struct ChildEnd {
  bool finished = false; // the body returned and the process ended without a signal
  bool aborted = false;  // by SIGABRT
  std::string errors;    // its standard error
};

/// Runs `body` in a forked child. For what must abort, and for what a bug might make abort.
ChildEnd runInChild(const std::function<void()>& body);

/// Runs `body` on a thread with a stack of `bytes`.
void onStackOf(std::size_t bytes, const std::function<void()>& body);

/// This process's resident memory in bytes.
std::size_t residentBytes();

/// Calls of global operator new by this process; always 0 under a sanitizer, which has its own.
std::uint64_t heapAllocations() noexcept;

/// While it lives, calls of operator new fail: after so many that do not, one or all. Without effect under a sanitizer,
/// which has its own heap.
class NoMemory {
public:
  enum Failing { ONE, ALL };
  explicit NoMemory(std::uint64_t after = 0, Failing failing = ALL) noexcept;
  /// Whether any has failed.
  static bool hasFailed() noexcept;
  NoMemory(const NoMemory&) = delete;
  NoMemory& operator=(const NoMemory&) = delete;
  ~NoMemory();
};

/// malloc() and calloc() that NoMemory makes fail, too: for uv_replace_allocator().
void* starvedMalloc(std::size_t size);
void* starvedCalloc(std::size_t count, std::size_t size);

/// Lets every allocation of `body` fail once: runs it with memory for 0, 1, 2, … allocations until that is enough,
/// once so that one fails and once so that all after it do. Each run has a fixture of its own, which checks that
/// nothing is left; in it `body` must throw OVERLOADED, DISCONNECTED or bad_alloc, or succeed nevertheless, and then,
/// with memory, succeed. `body` must end by itself, also if what it waits for fails. Returns how many allocations
/// could fail; under a sanitizer, where NoMemory has no effect, 0.
std::size_t starveSweep(const std::function<void(LoopTest&)>& body);
std::size_t starveSweep(const std::function<void(IoTest&)>& body);

/// The name of the kind of `e`. (doctest cannot print a Kind: it finds troth::toString, whose result it cannot add to.)
inline std::string kindName(const Exception& e) { return std::string(troth::kindName(e.kind())); }

/// The name of the file in `where`, without its folders.
inline std::string_view fileOf(const Exception& e) {
  const std::string_view path = e.where().file_name();
  const std::size_t slash = path.rfind('/');
  return slash == std::string_view::npos ? path : path.substr(slash + 1);
}

} // namespace troth::test
