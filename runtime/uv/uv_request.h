// SPDX-License-Identifier: MIT
// uvRequest: a promise for one of libuv's requests (uv_random, uv_getnameinfo, uv_fs_stat, …), in a few lines.
#pragma once

#include <troth/runtime/pool_detail.h>
#include <troth/runtime/promise.h>
#include <troth/runtime/uv/uv_error.h>
#include <troth/runtime/uv/uv_event_port.h>

#include <uv.h>

#include <memory>
#include <source_location>
#include <string>
#include <type_traits>
#include <utility>

namespace troth {
inline namespace v0 {
namespace detail {

/// Those that uv_cancel takes back while no thread has begun them.
template <typename Request>
inline constexpr bool IS_CANCELLABLE_REQUEST =
    std::is_same_v<Request, uv_fs_t> || std::is_same_v<Request, uv_work_t> || std::is_same_v<Request, uv_random_t> ||
    std::is_same_v<Request, uv_getaddrinfo_t> || std::is_same_v<Request, uv_getnameinfo_t>;

template <typename Request, typename State>
class RequestAdapter;

/// A request with all that it uses. libuv's callback owns it, and frees it if nobody waits any more.
template <typename Request, typename State>
class RequestBlock final : public Request, public Pooled {
public:
  template <typename... Args>
  using Callback = void (*)(Request*, Args...);

  /// Becomes the callback of whatever signature a function of libuv wants.
  struct Done {
    template <typename... Args>
    operator Callback<Args...>() const noexcept {
      return &onDone<Args...>;
    }
  };

  RequestBlock(RequestAdapter<Request, State>& adapter, State&& taken)
      : Request(), state(std::move(taken)), adapter_(&adapter) {
    this->data = &state;
  }
  RequestBlock(const RequestBlock&) = delete;
  RequestBlock& operator=(const RequestBlock&) = delete;
  ~RequestBlock() {
    if constexpr (std::is_same_v<Request, uv_fs_t>) uv_fs_req_cleanup(this);
    if constexpr (std::is_same_v<Request, uv_getaddrinfo_t>) uv_freeaddrinfo(this->addrinfo);
  }

  void detach() noexcept {
    adapter_ = nullptr;
    if constexpr (IS_CANCELLABLE_REQUEST<Request>) uv_cancel(reinterpret_cast<uv_req_t*>(static_cast<Request*>(this)));
  }

  State state;

private:
  RequestAdapter<Request, State>* adapter_;

  template <typename... Args>
  static void onDone(Request* request, Args... args) noexcept {
    std::unique_ptr<RequestBlock> self(static_cast<RequestBlock*>(request));
    if (RequestAdapter<Request, State>* adapter = self->adapter_; adapter != nullptr)
      adapter->end(std::move(self), statusOf(*request, args...));
  }

  static int statusOf(const Request& request, auto... args) noexcept {
    if constexpr (std::is_same_v<Request, uv_fs_t>)
      return request.result < 0 ? static_cast<int>(request.result) : 0;
    else
      return firstOf(args...);
  }
  static int firstOf(int status, auto...) noexcept { return status; }
};

template <typename Request, typename State>
class RequestAdapter {
public:
  using Block = RequestBlock<Request, State>;

  template <typename Start>
  RequestAdapter(PromiseFulfiller<std::unique_ptr<Block>>& fulfiller, uv_loop_t* loop, std::string operation,
                 State&& state, Start& start, std::source_location where)
      : fulfiller_(fulfiller), operation_(std::move(operation)), where_(where) {
    auto block = std::make_unique<Block>(*this, std::move(state));
    uvCheck(start(loop, static_cast<Request*>(block.get()), block->state, typename Block::Done()), operation_, where);
    block_ = block.release();
  }
  RequestAdapter(const RequestAdapter&) = delete;
  RequestAdapter& operator=(const RequestAdapter&) = delete;
  ~RequestAdapter() {
    if (block_ != nullptr) block_->detach();
  }

  void end(std::unique_ptr<Block> block, int status) noexcept {
    block_ = nullptr;
    if (status < 0)
      fulfiller_.reject(uvException(status, operation_, where_));
    else
      fulfiller_.fulfill(std::move(block));
  }

private:
  PromiseFulfiller<std::unique_ptr<Block>>& fulfiller_;
  std::string operation_;
  std::source_location where_;
  Block* block_ = nullptr; // while libuv has it
};

struct TakeState {
  template <typename Request, typename State>
  State operator()(Request&, State& state) const {
    return std::move(state);
  }
};

} // namespace detail

/// Starts a request of libuv, and gives what comes of it:
///
///     Promise<std::string> randomBytes(UvEventPort& port, std::size_t size) {
///       return uvRequest<uv_random_t>(
///           port, "uv_random", std::string(size, '\0'),
///           [](uv_loop_t* loop, uv_random_t* request, std::string& bytes, auto done) {
///             return uv_random(loop, request, bytes.data(), bytes.size(), 0, done);
///           });
///     }
///
/// `state` is all that the request uses, such as its buffers: it is moved to where it stays until libuv has called
/// back. `start(loop, request, state, done)` gives the request to libuv, with `done` as its callback, of whatever type
/// that is, and returns the status; `request->data` points to the state. `finish(request, state)`, a continuation like
/// any other, makes the result of the promise; without it, the state is the result. What libuv allocated for an
/// `uv_fs_t` or an `uv_getaddrinfo_t` is freed after it.
///
/// Completes:    when libuv has called back; never inside this call.
/// Errors:       the status of `start` or of the callback, as uvException() with `operation`; what `finish` throws, and
///               what `start` throws before it has given the request away. On another thread than that of `port`, and
///               if its host has closed the loop, FAILED is thrown here.
/// Cancellation: deferred. What no thread has begun is taken back (uv_cancel); in any case the state stays alive until
///               libuv has called back, and `finish` is not called.
template <typename Request, typename State, typename Start, typename Finish = detail::TakeState>
auto uvRequest(UvEventPort& port, std::string operation, State state, Start start, Finish finish = {},
               std::source_location where = std::source_location::current()) {
  using Adapter = detail::RequestAdapter<Request, State>;
  using Owned = std::unique_ptr<typename Adapter::Block>;
  uv_loop_t* loop = port.uvLoop(where);
  return evalNow([&] {
           return newAdaptedPromise<Owned, Adapter>(loop, std::move(operation), std::move(state), start, where);
         })
      .then([finish = std::move(finish)](Owned block) mutable {
        return finish(static_cast<Request&>(*block), block->state);
      });
}

} // namespace v0
} // namespace troth
