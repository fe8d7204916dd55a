// SPDX-License-Identifier: MIT
// A lambda that is a coroutine and could block its own loop.
// EXPECT: a coroutine must not take a WaitScope: it cannot block; co_await instead
#include <troth/runtime/promise.h>

using namespace troth;

#if WRONG
[[maybe_unused]] const auto body = [](int, WaitScope& scope) -> Promise<void> {
  (void)scope;
  co_await yield();
};
#else
[[maybe_unused]] const auto body = [](int, EventLoop& loop) -> Promise<void> {
  (void)loop;
  co_await yield();
};
#endif
