// SPDX-License-Identifier: MIT
// What a context is made of, in the order in which it must be destroyed; signals.
#include <troth/io/async_io.h>

#include <troth/runtime/uv/uv_event_port.h>
#include <troth/timers/uv_timer.h>

#include <fmt/format.h>

#include <optional>
#include <vector>

namespace troth {
inline namespace v0 {

// Destroyed from the bottom up: the timer closes its handle while the loop and port are there; the scope is
// left; the loop checks that nothing waits on it; the port closes the libuv loop, or leaves the host's.
struct AsyncIo::Parts {
  explicit Parts(std::source_location where) : loop(port), waitScope(std::in_place, loop, where), timer(port) {}

  Parts(uv_loop_t* hostLoop, std::source_location where)
      : port(hostLoop), loop(port), hostedScope(std::in_place, loop, where), timer(port) {
    port.serve(&loop);
  }

  ~Parts() {
    loop.cancelAllDetached(); // while the timer is there, to which they may refer
    if (hostedScope) port.serve(nullptr);
  }

  UvEventPort port;
  EventLoop loop;
  std::optional<WaitScope> waitScope;
  std::optional<EventLoopScope> hostedScope;
  UvTimer timer;
};

AsyncIo::AsyncIo(std::unique_ptr<Parts> parts) noexcept : parts_(std::move(parts)) {}
AsyncIo::AsyncIo(AsyncIo&&) noexcept = default;
AsyncIo::~AsyncIo() = default;

Timer& AsyncIo::timer() noexcept { return parts_->timer; }
void AsyncIo::setTimerSlack(Duration slack, std::source_location where) { parts_->timer.setSlack(slack, where); }
EventLoop& AsyncIo::eventLoop() noexcept { return parts_->loop; }
UvEventPort& AsyncIo::uvEventPort() noexcept { return parts_->port; }
WaitScope& AsyncIoContext::waitScope() noexcept { return *parts_->waitScope; }

int AsyncIoContext::pollableFd() const noexcept { return parts_->port.pollableFd(); }

// Also zero while libuv has not told the kernel of all that is to be watched: uv_backend_timeout() sees to that.
std::optional<std::chrono::milliseconds> AsyncIoContext::nextTimeout() const noexcept {
  if (parts_->loop.isRunnable()) return std::chrono::milliseconds::zero();
  return parts_->port.nextTimeout();
}

std::size_t AsyncIoContext::runOnce(std::source_location where) {
  constexpr std::size_t MOST_TURNS = 1000;
  return parts_->waitScope->poll(MOST_TURNS, where);
}

AsyncIoContext setupAsyncIo(std::source_location where) {
  return AsyncIoContext(std::make_unique<AsyncIo::Parts>(where));
}

HostedAsyncIoContext setupAsyncIo(uv_loop_s* hostLoop, std::source_location where) {
  return HostedAsyncIoContext(std::make_unique<AsyncIo::Parts>(hostLoop, where));
}

// ------------------------------------------------------------------------------------------- signals

namespace {

/// One uv_signal_t for each signal; they are closed with the promise.
class SignalAdapter {
public:
  SignalAdapter(PromiseFulfiller<int>& fulfiller, uv_loop_t* loop, std::span<const int> signals)
      : fulfiller_(fulfiller) {
    for (const int signal : signals) {
      UvHandle<uv_signal_t>& handle = handles_.emplace_back(
          "uv_signal_init", [loop](uv_signal_t* uninitialised) { return uv_signal_init(loop, uninitialised); });
      handle.setData(this);
      uvCheck(uv_signal_start_oneshot(
                  handle.get(),
                  [](uv_signal_t* fired, int number) {
                    if (auto* adapter = static_cast<SignalAdapter*>(fired->data))
                      adapter->fulfiller_.fulfill(int(number));
                  },
                  signal),
              fmt::format("waiting for signal {}", signal));
    }
  }

private:
  PromiseFulfiller<int>& fulfiller_;
  std::vector<UvHandle<uv_signal_t>> handles_;
};

} // namespace

Promise<int> AsyncIo::onSignals(std::span<const int> signals) {
  return evalNow([&] { return newAdaptedPromise<int, SignalAdapter>(parts_->port.uvLoop(), signals); });
}

} // namespace v0
} // namespace troth
