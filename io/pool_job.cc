// SPDX-License-Identifier: MIT
// The way of a PoolJob through libuv's pool and back.
#include <troth/io/uv_pool_job_detail.h>

namespace troth {
inline namespace v0 {
namespace detail {

void PoolJob::submit(uv_loop_t* loop, std::unique_ptr<PoolJob> job) noexcept {
  job->request_.data = job.get();
  const auto run = [](uv_work_t* request) noexcept {
    PoolJob& running = *static_cast<PoolJob*>(request->data);
    try {
      running.result_ = running.run();
    } catch (...) { // std::bad_alloc: nothing else is thrown there
      running.result_ = UV_ENOMEM;
    }
  };
  const auto finish = [](uv_work_t* request, int status) noexcept {
    const std::unique_ptr<PoolJob> ended(static_cast<PoolJob*>(request->data));
    if (status == UV_ECANCELED)
      ended->withdrawn();
    else
      ended->done(ended->result_);
  };
  uv_queue_work(loop, &job->request_, run, finish); // fails only without a function
  job.release();
}

} // namespace detail
} // namespace v0
} // namespace troth
