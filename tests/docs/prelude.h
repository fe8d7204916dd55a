// SPDX-License-Identifier: MIT
// What the snippets of the documentation may take for granted: headers, names, a loop, a timer, a network.
#pragma once

#include "helpers.h"

#include <troth/io/async_io.h>
#include <troth/io/buffered.h>
#include <troth/io/file.h>
#include <troth/io/pipe.h>
#include <troth/io/process.h>
#include <troth/io/stream.h>
#include <troth/io/testing.h>
#include <troth/net/datagram.h>
#include <troth/net/network.h>
#include <troth/runtime/canceler.h>
#include <troth/runtime/channel.h>
#include <troth/runtime/defer.h>
#include <troth/runtime/event_loop.h>
#include <troth/runtime/event_loop_local.h>
#include <troth/runtime/event_loop_observer.h>
#include <troth/runtime/exception.h>
#include <troth/runtime/join.h>
#include <troth/runtime/promise.h>
#include <troth/runtime/queue.h>
#include <troth/runtime/require.h>
#include <troth/runtime/result.h>
#include <troth/runtime/sync.h>
#include <troth/runtime/task_set.h>
#include <troth/timers/manual_timer.h>
#include <troth/timers/timer.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstdio>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <tuple>
#include <utility>
#include <variant>
#include <vector>

using namespace troth;
using namespace std::chrono_literals;

namespace troth::docs {

/// The error handler called `log`: counts, and remembers the last failure.
class Log final : public TaskSet::ErrorHandler {
public:
  int failures = 0;
  std::string last;

  void taskFailed(Exception exception) override {
    ++failures;
    last = exception.description();
  }
};

/// For snippets of the kind `run`: `scope`, `loop`, a `timer` whose time they move, and `log`.
struct Snippet : test::LoopTest {
  ManualTimer timer;
  Log log;
};

/// For snippets of the kind `io`: `io`, `scope`, the real `timer`, a `network`, and `log`.
struct IoSnippet : test::IoTest {
  Timer& timer = io.timer();
  std::unique_ptr<Network> networkOwner = newNetwork(io);
  Network& network = *networkOwner;
  Log log;
};

/// For snippets of the kind `throws`.
inline void expectThrow(const std::function<void()>& body, std::string_view text) {
  const Exception thrown = test::thrownBy(body);
  CHECK_MESSAGE(test::contains(thrown.what(), text), thrown.what());
}

/// For snippets of the kind `aborts`.
inline void expectAbort(const std::function<void()>& body, std::string_view text) {
  const test::ChildEnd end = test::runInChild(body);
  CHECK(end.aborted);
  CHECK_MESSAGE(test::contains(end.errors, text), end.errors);
}

} // namespace troth::docs
