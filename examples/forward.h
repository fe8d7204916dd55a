// SPDX-License-Identifier: MIT
// For the examples: a client's connection and one to a target, with a pump each way.
#pragma once

#include <troth/net/network.h>
#include <troth/runtime/join.h>
#include <troth/runtime/task_set.h>

#include <cstdio>

// The end of the stream is passed on, too: a client that has sent everything still gets its answer.
inline troth::Promise<void> forward(troth::AsyncIoStream& from, troth::AsyncIoStream& to) {
  co_await from.pumpTo(to);
  to.shutdownWrite();
}

// Serves a client. Each direction ends on its own; if one fails the other is cancelled, and both connections close.
inline troth::Promise<void> forwardTo(troth::NetworkAddress& target, std::unique_ptr<troth::AsyncIoStream> client) {
  const std::unique_ptr<troth::AsyncIoStream> server = co_await target.connect();
  co_await troth::joinPromisesFailFast(forward(*client, *server), forward(*server, *client));
}

// Peers that go away are no news; a target that cannot be reached is.
class ForwardLog : public troth::TaskSet::ErrorHandler {
public:
  explicit ForwardLog(const char* program) : program_(program) {}
  void taskFailed(troth::Exception e) override {
    if (e.kind() != troth::Exception::Kind::DISCONNECTED || e.description().starts_with("cannot connect"))
      std::fprintf(stderr, "%s: %s\n", program_, e.what());
  }

private:
  const char* program_;
};
