// SPDX-License-Identifier: MIT
// ServerConnection: a connection of a server, from its beginning to its end.
#pragma once

#include <troth/io/stream.h>
#include <troth/net/http/exchange_detail.h>
#include <troth/net/http/server_core_detail.h>
#include <troth/runtime/event_detail.h>
#include <troth/runtime/node_detail.h>
#include <troth/runtime/ref_detail.h>

#include <cstdint>
#include <memory>

namespace troth {
inline namespace v0 {
namespace http {
namespace detail {

/// It is one of two things. Idle, it waits for bytes, and is as small as it can be. Active, it has an Exchange, which
/// deals with requests until there is none left.
///
/// It is an event, which waits for bytes, for a handler or for a step of the exchange that takes time, and deletes itself
/// at its end: thousands of them cost no coroutine and no task each. Owned by its ServerCore. What its promise does must not destroy it; that is for
/// events of their own, such as a time-out's.
class ServerConnection final : public troth::detail::Event, public troth::detail::Pooled {
public:
  ServerConnection(ServerCore& core, std::unique_ptr<AsyncIoStream> stream, Semaphore::Permit place);
  ~ServerConnection() override;

  void start();
  bool isIdle() const noexcept { return !exchange_; }

  /// A deadline of this connection has come; it may be gone after this.
  void expired(ConnectionTimeout& timeout);
  /// The client is not to take what it has got for the whole.
  void reset() noexcept;

  ServerCore& core() const noexcept { return core_; }
  std::uint64_t& served() noexcept { return served_; }

  ConnectionTimeout reading{*this}, writing{*this};

private:
  friend class ServerCore;

  ServerCore& core_;
  ServerConnection* next_ = nullptr;
  ServerConnection** link_ = nullptr;     // what points to this one
  std::unique_ptr<AsyncIoStream> stream_; // while idle
  troth::detail::Ref<Exchange> exchange_; // while active
  troth::detail::OwnNode waiting_;        // for the stream's bytes, or what the exchange waits for; it goes before them
  std::uint64_t served_ = 0;              // requests
  Semaphore::Permit place_;
  bool awaitsHandler_ = false; // and not a Promise<Next>

  void fire() noexcept override;
  const troth::detail::PromiseNode* awaits() const noexcept override { return waiting_.get(); }
  void describe(troth::detail::Trace& trace) const noexcept override;

  void read(Timeout timeout);
  bool received();
  Next ready();
  bool goOn(Next step);
  void failed(const Exception& failure);
  void stopWaiting() noexcept;
};

} // namespace detail
} // namespace http
} // namespace v0
} // namespace troth
