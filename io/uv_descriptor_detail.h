// SPDX-License-Identifier: MIT
// How a descriptor comes to a stream: what kind it is, and who owns it when.
#pragma once

#include <troth/io/descriptor.h>
#include <troth/io/tty.h>

#include <uv.h>

#include <memory>
#include <source_location>
#include <string>
#include <string_view>

namespace troth {
inline namespace v0 {
namespace detail {

/// A descriptor of which a stream is to be made.
struct DescriptorRequest {
  std::string_view function; // of the user's, for errors
  int descriptor;
  Ownership ownership;
  std::source_location where;

  /// "newInputStream: descriptor 7"
  std::string subject() const;
  [[noreturn]] void refuse(std::string_view why) const;
  [[noreturn]] void fail(int status) const;
};

enum class DescriptorKind {
  TCP,
  SOCKET, // any other connected stream socket
  PIPE,
  TERMINAL,
  DEVICE, // can be waited for
  FILE    // is always ready, as far as one can ask: for the thread pool
};

/// Throws FAILED if no stream can be made of it.
DescriptorKind kindOfDescriptor(uv_loop_t* loop, const DescriptorRequest& request);

/// The descriptor that the stream is going to work on. Until settle() nothing has changed for the caller's.
class DescriptorClaim {
public:
  DescriptorClaim(const DescriptorRequest& request, DescriptorKind kind);
  DescriptorClaim(const DescriptorClaim&) = delete;
  DescriptorClaim& operator=(const DescriptorClaim&) = delete;
  ~DescriptorClaim();

  int get() const noexcept { return ours_.get(); }
  /// The stream has been made: get() belongs to it, and a descriptor that was to be taken is.
  int settle() noexcept;

private:
  const DescriptorRequest& request_;
  OwnedDescriptor ours_;
};

/// A duplicate that is closed on exec and is none of the standard ones, which libuv would not close.
OwnedDescriptor duplicateDescriptor(const DescriptorRequest& request);

/// Closes the one that was to be taken, when the stream works on a duplicate.
void closeTaken(const DescriptorRequest& request) noexcept;

/// Makes a stream of `descriptor` by `make(number)`, which takes it; if that throws, it is closed.
template <typename Make>
auto handOver(OwnedDescriptor descriptor, Make&& make) {
  auto stream = make(descriptor.get());
  descriptor.release();
  return stream;
}

/// Two connected Unix sockets, non-blocking.
struct SocketPair {
  OwnedDescriptor left;
  OwnedDescriptor right;
};
SocketPair newSocketPair(std::string_view function, std::source_location where);

std::unique_ptr<AsyncIoStream> newIoStream(uv_loop_t* loop, const DescriptorRequest& request);

/// Of a TERMINAL.
std::unique_ptr<Tty> openTty(uv_loop_t* loop, const DescriptorRequest& request);

/// Of a FILE.
std::unique_ptr<AsyncInputStream> newFileInput(uv_loop_t* loop, DescriptorClaim& claim);
std::unique_ptr<AsyncOutputStream> newFileOutput(uv_loop_t* loop, DescriptorClaim& claim);

} // namespace detail
} // namespace v0
} // namespace troth
