// SPDX-License-Identifier: MIT
// PoolJob: work for libuv's thread pool that owns all it uses, so that whoever wanted it may go at any time.
#pragma once

#include <troth/runtime/pool_detail.h>

#include <uv.h>

#include <memory>

namespace troth {
inline namespace v0 {
namespace detail {

/// Something that blocks, for a thread of libuv's pool. What no thread has begun can be taken back; all else ends in
/// the background.
class PoolJob : public Pooled {
public:
  PoolJob() noexcept = default;
  PoolJob(const PoolJob&) = delete;
  PoolJob& operator=(const PoolJob&) = delete;
  virtual ~PoolJob() = default;

  /// Hands `job` to the pool. It is destroyed on the loop's thread, after done() or withdrawn().
  static void submit(uv_loop_t* loop, std::unique_ptr<PoolJob> job) noexcept;

  /// Takes it back, if no thread has begun it. withdrawn() is called later.
  void withdraw() noexcept { uv_cancel(reinterpret_cast<uv_req_t*>(&request_)); }

private:
  uv_work_t request_;
  int result_ = 0;

  /// In a thread of the pool: does it, and gives a result or a status of libuv. What it throws counts as UV_ENOMEM.
  virtual int run() = 0;
  /// On the loop's thread: it has been run.
  virtual void done(int result) noexcept = 0;
  /// On the loop's thread: it was taken back.
  virtual void withdrawn() noexcept {}
};

} // namespace detail
} // namespace v0
} // namespace troth
