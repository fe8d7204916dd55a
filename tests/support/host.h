// SPDX-License-Identifier: MIT
// A host's libuv loop with troth on it, and what the tests of embedding share.
#pragma once

#include "fixtures.h"

#include <troth/runtime/uv/uv_event_port.h>

#include <uv.h>

#include <sys/types.h>
#include <unistd.h>

#include <optional>

namespace troth::test {

/// A host's libuv loop with troth on it. The host's `data` is marked, and the loop must close at the end.
class HostTest {
  NothingLeft nothingLeft_;

public:
  uv_loop_t host;
  int mark = 0;
  std::optional<HostedAsyncIoContext> io;

  HostTest() {
    REQUIRE(uv_loop_init(&host) == 0);
    host.data = &mark;
    io.emplace(setupAsyncIo(&host));
  }
  HostTest(const HostTest&) = delete;
  HostTest& operator=(const HostTest&) = delete;
  ~HostTest() {
    io.reset();
    CHECK(uv_run(&host, UV_RUN_DEFAULT) == 0);
    CHECK(uv_loop_close(&host) == 0);
    CHECK(host.data == &mark);
  }

  /// uv_run(NOWAIT) some times: what must happen soon happens, and a loop that never ends does not hang the test.
  void runSome(int times = 20) {
    for (int i = 0; i < times; ++i) uv_run(&host, UV_RUN_NOWAIT);
  }
};

/// Becomes ready when `fd` is readable.
class Readable {
public:
  Readable(PromiseFulfiller<void>& fulfiller, uv_loop_t* loop, int fd)
      : fulfiller_(fulfiller), handle_("uv_poll_init", [&](uv_poll_t* h) { return uv_poll_init(loop, h, fd); }) {
    handle_.setData(this);
    uvCheck(uv_poll_start(handle_.get(), UV_READABLE,
                          [](uv_poll_t* h, int, int) {
                            uv_poll_stop(h);
                            if (auto* self = static_cast<Readable*>(h->data)) self->fulfiller_.fulfill();
                          }),
            "uv_poll_start");
  }

private:
  PromiseFulfiller<void>& fulfiller_;
  UvHandle<uv_poll_t> handle_;
};

struct Pipe {
  int ends[2];
  Pipe() { REQUIRE(pipe(ends) == 0); }
  Pipe(const Pipe&) = delete;
  Pipe& operator=(const Pipe&) = delete;
  ~Pipe() {
    close(ends[0]);
    close(ends[1]);
  }
  void put() const { REQUIRE(write(ends[1], "x", 1) == 1); }
};

/// All that are on the loop, those that are closing among them.
inline std::size_t countHandles(uv_loop_t* loop) {
  std::size_t count = 0;
  uv_walk(loop, [](uv_handle_t*, void* c) { ++*static_cast<std::size_t*>(c); }, &count);
  return count;
}

} // namespace troth::test
