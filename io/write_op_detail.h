// SPDX-License-Identifier: MIT
// WriteOp: a write that waits, whatever takes its bytes.
#pragma once

#include <troth/io/pieces_detail.h>
#include <troth/runtime/node_detail.h>
#include <troth/runtime/promise.h>
#include <troth/runtime/ref_detail.h>

#include <source_location>
#include <utility>

namespace troth {
inline namespace v0 {
namespace detail {

/// A write that its stream could not do at once, in a block of its own. It holds a reference to the stream's `State`,
/// which inherits Counted, knows it by a pointer until it is done, and has
///
///     void writeCancelled(WriteOp<State>& op) noexcept; // the write is destroyed before it was done
template <typename State>
class WriteOp final : public SourceNode {
public:
  WriteOp(State& state, Pieces bytes, std::source_location where) noexcept
      : SourceNode(where), pieces(std::move(bytes)), state_(state) {}

  /// What is still to be written.
  Pieces pieces;

  void complete() noexcept {
    result_.value.emplace();
    setReady();
  }
  void fail(const Exception& exception) noexcept { setFailed(result_, exception); }

  ResultBase& get(ResultBase*) noexcept override { return result_; }
  void destroy() noexcept override {
    requireThreadToGo();
    if (!isReady()) state_->writeCancelled(*this);
    NodeAccess::destroy(this);
  }
  const char* name() const noexcept override { return "write"; }

private:
  Ref<State> state_;
  Result<Void> result_;
};

} // namespace detail
} // namespace v0
} // namespace troth
