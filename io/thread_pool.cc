// SPDX-License-Identifier: MIT
// The way of a task through libuv's thread pool.
#include <troth/io/thread_pool.h>

#include <troth/io/async_io.h>
#include <troth/runtime/uv/uv_request.h>

namespace troth {
inline namespace v0 {
namespace detail {

void PoolTask::runGuarded() noexcept {
  try {
    run();
  } catch (...) {
    thrown_ = Exception::fromCurrent();
  }
}

void PoolTask::rethrow() {
  if (thrown_) thrown_->rethrow();
}

Promise<std::unique_ptr<PoolTask>> runTask(AsyncIo& io, std::unique_ptr<PoolTask> task, std::source_location where) {
  using Owned = std::unique_ptr<PoolTask>;
  return uvRequest<uv_work_t>(
      io.uvEventPort(), "uv_queue_work", std::move(task),
      [](uv_loop_t* loop, uv_work_t* request, Owned&, auto done) {
        return uv_queue_work(
            loop, request, [](uv_work_t* running) { (*static_cast<Owned*>(running->data))->runGuarded(); }, done);
      },
      TakeState(), where);
}

} // namespace detail
} // namespace v0
} // namespace troth
