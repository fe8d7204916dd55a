// SPDX-License-Identifier: MIT
// SignalWatch on a uv_signal_t for each number.
#include <troth/io/signal.h>

#include <troth/io/async_io.h>
#include <troth/io/collector_detail.h>
#include <troth/runtime/uv/uv_event_port.h>

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <vector>

namespace troth {
inline namespace v0 {
namespace {

/// Throws FAILED for what the system raises when an instruction fails: it is tried again when the handler returns.
void requireNoFault(int signal, std::source_location where) {
  constexpr std::array<int, 4> FAULTS = {SIGBUS, SIGFPE, SIGILL, SIGSEGV};
  if (std::find(FAULTS.begin(), FAULTS.end(), signal) == FAULTS.end()) return;
  detail::throwMisuse(fmt::format("watching signal {}: it tells of a fault, which would come again and again", signal),
                      where);
}

class SignalCollector final : public detail::Collector<int> {
public:
  SignalCollector() noexcept : Collector("SignalWatch::next") {}

  void watch(uv_loop_t* loop, std::span<const int> signals, std::source_location where) {
    came_.reserve(signals.size()); // the callbacks allocate nothing
    for (const int signal : signals) {
      requireNoFault(signal, where);
      UvHandle<uv_signal_t>& handle =
          handles_.emplace_back("uv_signal_init", [loop](uv_signal_t* h) { return uv_signal_init(loop, h); });
      handle.setData(this);
      const int status = uv_signal_start(
          handle.get(),
          [](uv_signal_t* fired, int number) {
            if (auto* collector = static_cast<SignalCollector*>(fired->data)) collector->onSignal(number);
          },
          signal);
      uvCheck(status, fmt::format("watching signal {}", signal), where);
    }
  }

private:
  std::vector<UvHandle<uv_signal_t>> handles_;
  std::vector<int> came_; // no number twice

  void onSignal(int number) noexcept {
    if (std::find(came_.begin(), came_.end(), number) == came_.end()) came_.push_back(number);
    arrived();
  }

  bool hasItems() const noexcept override { return !came_.empty(); }
  int takeItems() override {
    const int first = came_.front();
    came_.erase(came_.begin());
    return first;
  }
  void stop() noexcept override { handles_.clear(); }
};

class UvSignalWatch final : public SignalWatch, public detail::Pooled {
public:
  UvSignalWatch() : collector_(*new SignalCollector) {}
  ~UvSignalWatch() override { collector_.close(); }

  void watch(uv_loop_t* loop, std::span<const int> signals, std::source_location where) {
    collector_.watch(loop, signals, where);
  }
  Promise<int> next(std::source_location where) override { return collector_.next(where); }

private:
  SignalCollector& collector_;
};

} // namespace

std::unique_ptr<SignalWatch> newSignalWatch(AsyncIo& io, std::span<const int> signals, std::source_location where) {
  if (signals.empty()) detail::throwMisuse("newSignalWatch: there are no signals to watch", where);
  auto watch = std::make_unique<UvSignalWatch>();
  watch->watch(io.uvEventPort().uvLoop(where), signals, where);
  return watch;
}

} // namespace v0
} // namespace troth
