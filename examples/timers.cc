// SPDX-License-Identifier: MIT
// The first rung: promises that become ready at a time, a time-out, and cancellation by destruction.
//
//   timers
#include <troth/io/async_io.h>
#include <troth/timers/timer.h>

#include <cstdio>

using namespace troth;
using namespace std::chrono_literals;

Promise<int> countTo(Timer& timer, int last) {
  for (int i = 1; i <= last; ++i) {
    co_await timer.afterDelay(10ms);
    std::printf("%d\n", i);
  }
  co_return last;
}

int main() {
  AsyncIoContext io = setupAsyncIo();
  WaitScope& scope = io.waitScope();
  Timer& timer = io.timer();

  // A coroutine starts at once; wait() runs the loop until it is done.
  std::printf("counted to %d\n", countTo(timer, 3).wait(scope));

  // Two counts at the same time. The one that takes too long is cancelled, and says no more.
  Promise<int> slow = timer.timeoutAfter(25ms, countTo(timer, 1'000'000));
  try {
    std::move(slow).wait(scope);
  } catch (const Exception& e) {
    std::printf("%s\n", std::string(e.description()).c_str());
  }

  // Nobody needs to be told: destroying the promise is the cancellation.
  {
    Promise<int> unwanted = countTo(timer, 1'000'000);
    timer.afterDelay(15ms).wait(scope);
  }
  timer.afterDelay(30ms).wait(scope);
  std::printf("done\n");
}
