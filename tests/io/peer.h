// SPDX-License-Identifier: MIT
// The other end of a stream, as plain POSIX calls, and pairs of a stream and such a peer.
#pragma once

#include "fixtures.h"

#include <troth/io/stream.h>

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>

namespace troth::test {

/// A socket that the test works with by POSIX calls. It does not block; where the kernel may need a moment to
/// carry bytes over, the functions wait for the socket to be ready, and fail the test after ten seconds.
class Peer {
public:
  explicit Peer(int fd = -1) noexcept : fd_(fd) {}
  Peer(Peer&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Peer& operator=(Peer&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Peer() { close(); }

  int fd() const noexcept { return fd_; }
  int release() noexcept { return std::exchange(fd_, -1); }
  void close() noexcept;

  /// Sends what the socket has room for; returns how much that was.
  std::size_t sendSome(std::string_view text);
  /// Sends all of it, which must fit.
  void send(std::string_view text);
  /// What has arrived already, at most `most` bytes.
  std::string receiveSome(std::size_t most = 65536);
  /// Exactly `count` bytes.
  std::string receive(std::size_t count);
  /// Whether the other side has ended the stream, with nothing left to read.
  bool isAtEnd();
  /// Whether the other side has closed: the end of the stream or a reset, with nothing left to read.
  bool isClosed();
  /// Whether there is something to read (or an end) right now.
  bool isReadable() const;

  void shutdownWrite();
  /// Closes so that the other side gets a reset.
  void reset();

private:
  int fd_;

  void waitReadable() const;
};

/// A stream of the library and its peer.
struct Pair {
  std::unique_ptr<AsyncIoStream> stream;
  Peer peer;
};

/// The two ends of a local connection, both of the library.
struct StreamPair {
  std::unique_ptr<AsyncIoStream> left;
  std::unique_ptr<AsyncIoStream> right;
};

/// What bounds the bytes under way between two ends; 0 is the system's choice.
struct Buffers {
  int send = 0;
  int receive = 0;
};

/// Over socketpair(): bytes are with the other end when the call that sent them returns.
Pair newPair(AsyncIo& io, Buffers buffers = {});
StreamPair newStreamPair(AsyncIo& io, Buffers buffers = {});
/// Over TCP on 127.0.0.1, with what only TCP has (resets).
Pair newTcpPair(AsyncIo& io, Buffers buffers = {});
StreamPair newTcpStreamPair(AsyncIo& io);

/// A text as a buffer to read into: what a read has touched is seen at once.
inline std::span<std::byte> bufferOf(std::string& text) { return std::as_writable_bytes(std::span(text.data(), text.size())); }

/// `count` bytes that tell their place in the stream, from the one with number `first` on.
std::string numberedBytes(std::size_t count, std::size_t first = 0);
/// Whether `bytes` are those with the numbers from `first` on.
bool areNumbered(std::string_view bytes, std::size_t first = 0);

/// Reads at most `most` bytes from the peer while the loop runs, `step` at a time; ends when the peer has them, or
/// when nothing more comes although the loop has nothing to do.
std::string receiveWhileRunning(IoTest& test, Peer& peer, std::size_t most, std::size_t step = 65536);

/// Runs the loop until nothing happens, and tells whether it would sleep then: nothing is ready for it, so that
/// it does not turn round for nothing.
bool sleeps(IoTest& test);

/// The active handles of one libuv type (UV_TCP, …), by its name: "tcp", "timer".
std::size_t activeHandles(IoTest& test, std::string_view type);

/// Whether `e` was made in the file `file` (the end of its path).
bool madeIn(const Exception& e, std::string_view file);

/// While it lives, no descriptor can be made with a number of `spare` above the lowest free one or more.
/// With `spare` 0 none can be made at all.
class DescriptorLimit {
public:
  explicit DescriptorLimit(std::size_t spare = 0);
  /// Not even one that replaces another: the limit is below all that are open.
  static DescriptorLimit none();
  DescriptorLimit(const DescriptorLimit&) = delete;
  DescriptorLimit& operator=(const DescriptorLimit&) = delete;
  ~DescriptorLimit() { lift(); }
  void lift();

private:
  struct Absolute {
    std::size_t limit;
  };
  explicit DescriptorLimit(Absolute limit);
  std::size_t before_ = 0;
  bool lifted_ = false;
};

/// Keeps all threads of libuv's pool busy while it lives, on the loop of a test: what is handed to the pool
/// meanwhile stays queued.
class BusyThreadPool {
public:
  explicit BusyThreadPool(AsyncIo& io);
  BusyThreadPool(const BusyThreadPool&) = delete;
  BusyThreadPool& operator=(const BusyThreadPool&) = delete;
  ~BusyThreadPool();
  void release();

private:
  struct Jobs;
  std::shared_ptr<Jobs> jobs_;
};

} // namespace troth::test
