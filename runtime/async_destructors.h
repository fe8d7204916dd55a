// SPDX-License-Identifier: MIT
// Scopes in which promises must not be destroyed: a check for code that thinks it owns none.
#pragma once

#include <troth/runtime/node_detail.h>

#include <utility>

namespace troth {
inline namespace v0 {

/// While it lives, destroying a promise that holds anything, or consuming it, aborts on this thread with `reason` (a
/// literal, or as long-lived): for places that run on a thread that is not the loop's, or inside a callback that must
/// not cancel anything. The same goes for a fulfiller that is still wanted, a TaskSet, a Canceler, and whatever derives
/// from AsyncObject.
class DisallowAsyncDestructorsScope {
public:
  explicit DisallowAsyncDestructorsScope(const char* reason) noexcept
      : outer_(std::exchange(detail::destructorsDisallowed, reason)) {}
  ~DisallowAsyncDestructorsScope() { detail::destructorsDisallowed = outer_; }
  DisallowAsyncDestructorsScope(const DisallowAsyncDestructorsScope&) = delete;
  DisallowAsyncDestructorsScope& operator=(const DisallowAsyncDestructorsScope&) = delete;

private:
  const char* outer_;
};

/// A base for classes whose destructors belong to a loop, so that a DisallowAsyncDestructorsScope notices them.
class AsyncObject {
protected:
  AsyncObject() noexcept = default;
  AsyncObject(const AsyncObject&) noexcept = default;
  AsyncObject& operator=(const AsyncObject&) noexcept = default;
  ~AsyncObject() { detail::requireDestructorsAllowed("an AsyncObject"); }
};

/// Lifts the ban while it lives.
class AllowAsyncDestructorsScope {
public:
  AllowAsyncDestructorsScope() noexcept : outer_(std::exchange(detail::destructorsDisallowed, nullptr)) {}
  ~AllowAsyncDestructorsScope() { detail::destructorsDisallowed = outer_; }
  AllowAsyncDestructorsScope(const AllowAsyncDestructorsScope&) = delete;
  AllowAsyncDestructorsScope& operator=(const AllowAsyncDestructorsScope&) = delete;

private:
  const char* outer_;
};

} // namespace v0
} // namespace troth
