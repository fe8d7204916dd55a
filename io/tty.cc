// SPDX-License-Identifier: MIT
// A Tty is a libuv stream on a uv_tty_t, and what only a terminal has.
#include <troth/io/tty.h>

#include <troth/io/async_io.h>
#include <troth/io/forwarding_detail.h>
#include <troth/io/uv_descriptor_detail.h>
#include <troth/io/uv_stream.h>
#include <troth/runtime/uv/uv_event_port.h>

namespace troth {
inline namespace v0 {
namespace {

class UvTty final : public detail::ForwardingStream<Tty, std::unique_ptr<AsyncIoStream>> {
public:
  explicit UvTty(UvHandle<uv_tty_t>&& handle) : UvTty(handle.get(), std::move(handle)) {}
  ~UvTty() override { uv_tty_set_mode(tty_, UV_TTY_MODE_NORMAL); }

  void setMode(Mode mode, std::source_location where) override {
    uvCheck(uv_tty_set_mode(tty_, mode == Mode::RAW ? UV_TTY_MODE_RAW : UV_TTY_MODE_NORMAL), "setMode", where);
  }
  WindowSize windowSize(std::source_location where) const override {
    WindowSize size{};
    uvCheck(uv_tty_get_winsize(tty_, &size.columns, &size.rows), "windowSize", where);
    return size;
  }

private:
  uv_tty_t* tty_; // the stream's

  UvTty(uv_tty_t* tty, UvHandle<uv_tty_t>&& handle)
      : ForwardingStream(newUvStream(std::move(handle).toStream())), tty_(tty) {}
};

} // namespace

namespace detail {

// uv_tty_init opens the terminal anew, and puts that into the place of the descriptor it was given as well: so it gets
// a duplicate, and the caller's stays what it is.
std::unique_ptr<Tty> openTty(uv_loop_t* loop, const DescriptorRequest& request) {
  OwnedDescriptor duplicate = duplicateDescriptor(request);
  UvHandle<uv_tty_t> handle(request.subject(),
                            [&](uv_tty_t* tty) { return uv_tty_init(loop, tty, duplicate.get(), 0); });
  uv_os_fd_t used = -1;
  uv_fileno(handle.base(), &used);
  if (used == duplicate.get()) duplicate.release(); // it could not be opened anew
  auto tty = std::make_unique<UvTty>(std::move(handle));
  if (request.ownership == Ownership::TAKE) closeTaken(request);
  return tty;
}

} // namespace detail

std::unique_ptr<Tty> newTty(AsyncIo& io, int descriptor, Ownership ownership, std::source_location where) {
  uv_loop_t* loop = io.uvEventPort().uvLoop(where);
  const detail::DescriptorRequest request{"newTty", descriptor, ownership, where};
  if (detail::kindOfDescriptor(loop, request) != detail::DescriptorKind::TERMINAL) request.refuse("is not a terminal");
  return detail::openTty(loop, request);
}

} // namespace v0
} // namespace troth
