// SPDX-License-Identifier: MIT
// Waits for delays of all sorts and says how often one was early: run by clock_test.py under clocks that misbehave.

// usage: delays. Takes about a second of the process's own monotonic clock. Prints, when they are over, the sum of the
// delays in milliseconds, "early" if one was, and "jumped" if the date has meanwhile gone some other way than the clock.
#include <troth/io/async_io.h>
#include <troth/timers/timer.h>

#include <cstdio>

using namespace troth;
using namespace std::chrono_literals;

namespace {

struct Seen {
  Duration sum = 0ns;
  bool early = false;
  bool jumped = false;
};

Promise<void> wait(Timer& timer, Duration delay, Seen& seen) {
  const auto date = std::chrono::system_clock::now();
  const auto start = std::chrono::steady_clock::now();
  co_await timer.afterDelay(delay);
  const auto took = std::chrono::steady_clock::now() - start;
  const auto dateMoved = std::chrono::system_clock::now() - date;
  seen.sum += delay;
  seen.early = seen.early || took < delay;
  seen.jumped = seen.jumped || dateMoved > took + 1h || dateMoved < took - 1h;
}

Promise<void> waits(Timer& timer, Seen& seen) {
  Promise<void> beside = wait(timer, 900ms, seen);
  for (int i = 0; i < 10; ++i) {
    co_await wait(timer, 90ms, seen);
    co_await wait(timer, 2500us, seen);
    co_await wait(timer, 300us, seen);
    co_await wait(timer, 0ns, seen);
  }
  co_await std::move(beside);
}

} // namespace

int main() {
  AsyncIoContext io = setupAsyncIo();
  Seen seen;
  std::puts("begins");
  std::fflush(stdout);
  waits(io.timer(), seen).wait(io.waitScope());
  std::printf("%lld%s%s\n", static_cast<long long>(seen.sum / 1ms), seen.early ? " early" : "", seen.jumped ? " jumped" : "");
}
