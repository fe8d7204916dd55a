// SPDX-License-Identifier: MIT
// A program of someone else's, built against the installed library.
#include <troth/io/async_io.h>
#include <troth/timers/timer.h>

#include <cstdio>

troth::Promise<int> answer(troth::Timer& timer) {
  co_await timer.afterDelay(std::chrono::milliseconds(1));
  co_return 42;
}

int main() {
  troth::AsyncIoContext io = troth::setupAsyncIo();
  std::printf("%d\n", answer(io.timer()).wait(io.waitScope()));
}
