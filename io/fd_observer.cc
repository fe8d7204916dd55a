// SPDX-License-Identifier: MIT
// FdObserver on a uv_poll_t.
//
// What libuv watches (`watched_`) is at least what somebody waits for. It grows when somebody waits for something new,
// and shrinks when something has come that nobody waits for: each change costs two epoll_ctl, so a loop that waits for
// the same again pays for none. A waiter that goes costs nothing either.
//
// libuv 1.44 reports EPOLLERR as UV_EBADF, whatever it is, and stops the handle (uv__poll_io); EPOLLHUP, and EPOLLERR
// if urgent data is watched for, as all that is watched for. All who wait are woken by either, in the one case because
// an error wakes everybody, in the other because what they wait for is watched for.
//
// Ownership: the observer owns the handle and the descriptor. A waiter is its promise's, and knows the observer only as
// long as it is linked, that is, until it is done or the observer goes.
#include <troth/io/fd_observer.h>

#include <troth/io/async_io.h>
#include <troth/io/uv_descriptor_detail.h>
#include <troth/runtime/uv/uv_event_port.h>
#include <troth/runtime/waiter_detail.h>

#include <array>
#include <utility>

namespace troth {
inline namespace v0 {
namespace {

/// What can be waited for: an event of libuv, and the function that waits for it.
struct Kind {
  int event;
  const char* function;
};

constexpr std::array<Kind, 4> KINDS = {{{UV_READABLE, "whenBecomesReadable"},
                                        {UV_WRITABLE, "whenBecomesWritable"},
                                        {UV_DISCONNECT, "whenHungUp"},
                                        {UV_PRIORITIZED, "whenUrgentDataAvailable"}}};
enum : std::size_t { READABLE, WRITABLE, HUNG_UP, URGENT };

class UvFdObserver final : public FdObserver, public detail::Pooled {
public:
  void watch(uv_loop_t* loop, const detail::DescriptorRequest& request);
  ~UvFdObserver() override;

  Promise<void> whenBecomesReadable(std::source_location where) override { return wait(READABLE, where); }
  Promise<void> whenBecomesWritable(std::source_location where) override { return wait(WRITABLE, where); }
  Promise<void> whenHungUp(std::source_location where) override { return wait(HUNG_UP, where); }
  Promise<void> whenUrgentDataAvailable(std::source_location where) override { return wait(URGENT, where); }
  int descriptor() const noexcept override { return descriptor_.get(); }

private:
  class Asker;

  detail::HomeLoop home_;
  int watched_ = 0;
  std::array<detail::WaiterList, KINDS.size()> askers_;
  OwnedDescriptor descriptor_; // destroyed after the handle that watches it
  UvHandle<uv_poll_t> poll_;

  Promise<void> wait(std::size_t kind, std::source_location where);
  int watchFor(int events) noexcept;
  void keepLoopAliveIfNeeded() noexcept;
  void onEvent(int status, int events) noexcept;
};

class UvFdObserver::Asker final : public detail::Waiter {
public:
  Asker(UvFdObserver& observer, std::size_t kind, std::source_location where) noexcept
      : Waiter(where), observer_(observer), kind_(kind) {
    observer.askers_[kind].add(*this);
  }

  void complete() noexcept {
    unlink();
    result_.value.emplace();
    setReady();
  }
  detail::ResultBase& get(detail::ResultBase*) noexcept override { return result_; }
  void destroy() noexcept override {
    requireThreadToGo();
    if (isLinked()) {
      unlink();
      observer_.keepLoopAliveIfNeeded();
    }
    delete this;
  }
  const char* name() const noexcept override { return KINDS[kind_].function; }

private:
  UvFdObserver& observer_; // there while this is linked
  std::size_t kind_;
  detail::Result<detail::Void> result_;

  detail::ResultBase& result() noexcept override { return result_; }
};

UvHandle<uv_poll_t> newPoll(uv_loop_t* loop, int descriptor, const detail::DescriptorRequest& request) {
  int status = 0;
  try {
    return UvHandle<uv_poll_t>(
        request.subject(), [&](uv_poll_t* poll) { return status = uv_poll_init(loop, poll, descriptor); },
        request.where);
  } catch (const Exception&) {
    if (status == UV_EPERM) request.refuse("is always ready, as files are: there is nothing to wait for (EPERM)");
    if (status == UV_EEXIST) request.refuse("is watched on this loop already (EEXIST)");
    throw;
  }
}

/// Nothing can fail once the descriptor has been taken.
void UvFdObserver::watch(uv_loop_t* loop, const detail::DescriptorRequest& request) {
  home_.require("an FdObserver was made", request.where);
  detail::DescriptorClaim claim(request, detail::DescriptorKind::DEVICE);
  poll_ = newPoll(loop, claim.get(), request);
  poll_.setData(this);
  uv_unref(poll_.base());
  descriptor_ = OwnedDescriptor(claim.settle());
}

UvFdObserver::~UvFdObserver() {
  for (std::size_t kind = 0; kind < KINDS.size(); ++kind)
    askers_[kind].disconnectAll("FdObserver: the observer was destroyed while somebody waited");
}

Promise<void> UvFdObserver::wait(std::size_t kind, std::source_location where) {
  home_.require("an FdObserver was used", where);
  auto* asker = new Asker(*this, kind, where);
  Promise<void> promise = detail::PromiseAccess::wrap<void>(asker);
  if (const int status = watchFor(watched_ | KINDS[kind].event); status < 0)
    asker->fail(uvDescriptorException(status, KINDS[kind].function, descriptor_.get(), where));
  keepLoopAliveIfNeeded();
  return promise;
}

/// Watches for these, and for nothing else. Returns a negative status on error.
int UvFdObserver::watchFor(int events) noexcept {
  if (watched_ == events) return 0;
  watched_ = events;
  const int status = detail::pollHandle(poll_.get(), events, [](uv_poll_t* poll, int result, int found) {
    if (auto* observer = static_cast<UvFdObserver*>(poll->data)) observer->onEvent(result, found);
  });
  if (status < 0) watched_ = 0;
  return status;
}

void UvFdObserver::keepLoopAliveIfNeeded() noexcept {
  for (const detail::WaiterList& askers : askers_)
    if (!askers.isEmpty()) return uv_ref(poll_.base());
  uv_unref(poll_.base());
}

void UvFdObserver::onEvent(int status, int events) noexcept {
  int unwanted = status < 0 ? watched_ : 0;
  for (std::size_t kind = 0; kind < KINDS.size(); ++kind) {
    if (status >= 0 && (events & KINDS[kind].event) == 0) continue;
    detail::WaiterList& askers = askers_[kind];
    if (askers.isEmpty()) unwanted |= KINDS[kind].event;
    while (!askers.isEmpty()) static_cast<Asker&>(askers.front()).complete();
  }
  watchFor(watched_ & ~unwanted);
  keepLoopAliveIfNeeded();
}

} // namespace

std::unique_ptr<FdObserver> newFdObserver(AsyncIo& io, int descriptor, Ownership ownership,
                                          std::source_location where) {
  auto observer = std::make_unique<UvFdObserver>();
  observer->watch(io.uvEventPort().uvLoop(where), {"newFdObserver", descriptor, ownership, where});
  return observer;
}

std::unique_ptr<FdObserver> newFdObserver(AsyncIo& io, OwnedDescriptor descriptor, std::source_location where) {
  return detail::handOver(std::move(descriptor),
                          [&](int taken) { return newFdObserver(io, taken, Ownership::TAKE, where); });
}

} // namespace v0
} // namespace troth
