// SPDX-License-Identifier: MIT
// The plug-in: a context in the host's loop, a server on it, and the border where exceptions become texts.
#include "plugin.h"

#include "when_closed.h"

#include <troth/io/async_io.h>

#include <cstdio>
#include <optional>
#include <utility>

using namespace troth;

struct plugin final : private TaskSet::ErrorHandler {
  plugin(uv_loop_t* loop, LineServer::Answer answer, plugin_events events) : loop_(loop), events_(events) {
    guest_.emplace(*this, std::move(answer));
  }

  void listen(const char* address) {
    guest_->tasks.add(guest_->server.listen(address).then([this](std::uint16_t port) { heard(port_ = port, nullptr); },
                                                          [this](Exception e) { heard(0, e.what()); }));
  }

  void stop(std::chrono::milliseconds grace) noexcept {
    if (std::exchange(stopping_, true)) return;
    guest_->tasks.add(guest_->server.stop(grace).ignoreResult().then([this] { leave(); }));
  }

  std::uint16_t port() const noexcept { return port_; }
  plugin_counters counters() const noexcept {
    if (!guest_) return counters_;
    const LineServer::Counters& total = guest_->server.counters();
    return {guest_->server.connections(), total.accepted, total.answered, total.failed};
  }

private:
  /// What is in the loop, and leaves it some iterations before the host is told and may forget the plug-in.
  struct Guest {
    Guest(plugin& self, LineServer::Answer answer)
        : io(setupAsyncIo(self.loop_)), server(io, std::move(answer)), tasks(self) {}

    HostedAsyncIoContext io; // outlives what uses it
    LineServer server;
    TaskSet tasks;
  };

  uv_loop_t* loop_;
  plugin_events events_;
  std::uint16_t port_ = 0;
  bool stopping_ = false;
  plugin_counters counters_ = {}; // when the guest has left
  std::optional<Guest> guest_;

  void heard(std::uint16_t port, const char* error) const {
    if (events_.listening != nullptr) events_.listening(events_.host, port, error);
  }

  // This runs in a turn of the context, which cannot destroy itself: first out of here, then out of the loop.
  void leave() {
    whenClosed(loop_, [this] {
      counters_ = counters();
      guest_.reset();
      whenClosed(loop_, [this] {
        const plugin_events events = events_;
        delete this;
        if (events.stopped != nullptr) events.stopped(events.host);
      });
    });
  }

  void taskFailed(Exception e) override { std::fprintf(stderr, "plug-in: %s\n", e.what()); }
};

plugin* startPlugin(uv_loop_t* loop, const char* address, LineServer::Answer answer, plugin_events events, char* error,
                    std::size_t errorSize) noexcept try {
  auto started = std::make_unique<plugin>(loop, std::move(answer), events);
  started->listen(address);
  return started.release();
} catch (...) {
  std::snprintf(error, errorSize, "%s", Exception::fromCurrent().what());
  return nullptr;
}

std::uint16_t plugin_port(const plugin* self) { return self->port(); }
plugin_counters plugin_get_counters(const plugin* self) { return self->counters(); }
void plugin_stop(plugin* self, unsigned graceMs) { self->stop(std::chrono::milliseconds(graceMs)); }
