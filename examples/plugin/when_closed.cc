// SPDX-License-Identifier: MIT
// Waiting for two rounds of close callbacks.
#include "when_closed.h"

#include <memory>
#include <utility>

namespace {

struct Farewell {
  uv_timer_t handle;
  int rounds;
  std::function<void()> then;
};

void closed(uv_handle_t* handle) noexcept;

void closeOnce(uv_loop_t* loop, Farewell* farewell) noexcept {
  uv_timer_init(loop, &farewell->handle);
  farewell->handle.data = farewell;
  uv_close(reinterpret_cast<uv_handle_t*>(&farewell->handle), closed);
}

void closed(uv_handle_t* handle) noexcept {
  std::unique_ptr<Farewell> farewell(static_cast<Farewell*>(handle->data));
  if (--farewell->rounds > 0)
    closeOnce(handle->loop, farewell.release());
  else
    farewell->then();
}

} // namespace

// In one iteration libuv calls all close callbacks that are due, in no particular order. So what was closed before the
// first round's handle has gone when the second round's goes.
void whenClosed(uv_loop_t* loop, std::function<void()> then) {
  closeOnce(loop, new Farewell{.handle = {}, .rounds = 2, .then = std::move(then)});
}
