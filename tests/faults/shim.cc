// SPDX-License-Identifier: MIT
// An LD_PRELOAD library that makes input and output short, or every k-th call of it fail.
//
// A program that copes shows no sign of it. Only stream sockets are touched, and pipes and files if
// that is wanted; everything else behaves as ever, so a program starts and logs normally. What a
// faulty call reports is always something that a kernel may report: a transfer of fewer bytes than
// asked (at least one), EINTR, or EAGAIN on a descriptor that a level-triggered poll then finds
// ready again. The shim itself loses no byte.
//
//   TROTH_SHIM_SHORTEN=N           each transfer moves a pseudo-random number of bytes from 1 to N
//   TROTH_SHIM_FAIL_EVERY=K        every K-th call (accept included) fails without doing anything,
//   TROTH_SHIM_ERRNO=EINTR|EAGAIN  with this (default EINTR); EAGAIN only if the call may not block
//   TROTH_SHIM_FILES=1             pipes and files are touched, too, by calls for more than PIPE_BUF
//                                  bytes: what is not larger goes into a pipe as a whole or not at all
//   TROTH_SHIM_BUFFERS=BYTES       accepted sockets get this SO_SNDBUF and SO_RCVBUF
//   TROTH_SHIM_SEED=S              where the pseudo-random lengths begin
//   TROTH_SHIM_REPORT=PATH         counts of the faults (see Report), so that a test can tell that
//                                  they happened

#include <atomic>
#include <cerrno>
#include <climits>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include <dlfcn.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

namespace {

/// What the report file holds: native 64-bit counts, written through a shared mapping, so that they
/// are there however the process ends.
struct Report {
  std::atomic<std::uint64_t> calls;     ///< calls that came through here and could be touched
  std::atomic<std::uint64_t> shortened; ///< of these, calls that were asked to move less than they wanted
  std::atomic<std::uint64_t> failed;    ///< of these, calls that failed by injection
};

struct Settings {
  std::size_t shorten = 0;
  std::uint64_t failEvery = 0;
  int error = EINTR;
  bool files = false;
  int buffers = 0;
  std::atomic<std::uint64_t> random{1};
  Report* report = nullptr;
};

std::uint64_t numberFromEnvironment(const char* name) {
  const char* text = std::getenv(name);
  return text == nullptr ? 0 : std::strtoull(text, nullptr, 10);
}

Report* mapReport() {
  static Report unshared{};
  const char* path = std::getenv("TROTH_SHIM_REPORT");
  if (path == nullptr) return &unshared;
  int fd = ::open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0) return &unshared;
  void* memory = MAP_FAILED;
  if (::ftruncate(fd, sizeof(Report)) == 0) {
    memory = ::mmap(nullptr, sizeof(Report), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  }
  ::close(fd);
  return memory == MAP_FAILED ? &unshared : static_cast<Report*>(memory);
}

// Initialized at compile time: calls come before this library's constructors have run.
constinit Settings settings;
constinit std::atomic<bool> ready{false};

/// Runs when the library is loaded; calls that come earlier (a sanitizer's) pass untouched.
__attribute__((constructor)) void setUp() {
  settings.shorten = static_cast<std::size_t>(numberFromEnvironment("TROTH_SHIM_SHORTEN"));
  settings.failEvery = numberFromEnvironment("TROTH_SHIM_FAIL_EVERY");
  settings.files = numberFromEnvironment("TROTH_SHIM_FILES") != 0;
  settings.buffers = static_cast<int>(numberFromEnvironment("TROTH_SHIM_BUFFERS"));
  settings.random = numberFromEnvironment("TROTH_SHIM_SEED") * 2 + 1;
  const char* error = std::getenv("TROTH_SHIM_ERRNO");
  settings.error = error != nullptr && std::strcmp(error, "EAGAIN") == 0 ? EAGAIN : EINTR;
  settings.report = mapReport();
  ready = true;
}

/// The next definition of a function: libc's, or a sanitizer's interceptor in front of it.
void* findNext(const char* name, std::atomic<void*>& cached) {
  void* found = cached.load(std::memory_order_acquire);
  if (found == nullptr) {
    found = ::dlsym(RTLD_NEXT, name);
    cached.store(found, std::memory_order_release);
  }
  return found;
}

#define TROTH_NEXT(name)                                                                                               \
  ([] {                                                                                                                \
    static constinit std::atomic<void*> cached{nullptr};                                                               \
    return reinterpret_cast<decltype(&::name)>(findNext(#name, cached));                                               \
  }())

bool isStreamSocket(int fd) {
  int type = 0;
  socklen_t length = sizeof type;
  return ::getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &length) == 0 && type == SOCK_STREAM;
}

bool isPipeOrFile(int fd) {
  struct stat status;
  return ::fstat(fd, &status) == 0 && (S_ISFIFO(status.st_mode) || S_ISREG(status.st_mode));
}

/// Whether a call for `size` bytes may be touched.
bool isTouched(int fd, std::size_t size) {
  int saved = errno;
  bool yes = isStreamSocket(fd) || (settings.files && size > PIPE_BUF && isPipeOrFile(fd));
  errno = saved;
  return yes;
}

bool blocks(int fd, int flags) {
  int saved = errno;
  int mode = ::fcntl(fd, F_GETFL);
  errno = saved;
  return mode >= 0 && (mode & O_NONBLOCK) == 0 && (flags & MSG_DONTWAIT) == 0;
}

/// The fate of one call: fail now, or move at most `limit` bytes.
struct Fate {
  bool fails = false;
  std::size_t limit = SIZE_MAX;
};

std::uint64_t randomNumber() {
  std::uint64_t z = settings.random.fetch_add(0x9e3779b97f4a7c15U, std::memory_order_relaxed);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
  return z ^ (z >> 31);
}

Fate decide(int fd, std::size_t size, int flags = 0) {
  Fate fate;
  if (!ready.load(std::memory_order_acquire) || !isTouched(fd, size)) return fate;
  std::uint64_t count = settings.report->calls.fetch_add(1, std::memory_order_relaxed) + 1;
  if (settings.failEvery != 0 && count % settings.failEvery == 0 && (settings.error == EINTR || !blocks(fd, flags))) {
    settings.report->failed.fetch_add(1, std::memory_order_relaxed);
    errno = settings.error;
    fate.fails = true;
  } else if (settings.shorten != 0) {
    fate.limit = 1 + static_cast<std::size_t>(randomNumber() % settings.shorten);
  }
  return fate;
}

std::size_t total(const iovec* pieces, int count) {
  std::size_t size = 0;
  for (int i = 0; i < count; ++i) size += pieces[i].iov_len;
  return size;
}

std::size_t cut(std::size_t wanted, const Fate& fate) {
  if (wanted <= fate.limit) return wanted;
  settings.report->shortened.fetch_add(1, std::memory_order_relaxed);
  return fate.limit;
}

/// A copy of the front of an iovec array, with at most as many bytes as the fate allows. Pieces
/// after the 64th are left out, which is only another way of being short.
struct CutVector {
  iovec pieces[64];
  std::size_t count = 0;

  CutVector(const iovec* from, std::size_t number, const Fate& fate) {
    std::size_t left = fate.limit;
    bool short_ = false;
    for (std::size_t i = 0; i < number; ++i) {
      if (left == 0 || count == 64) {
        short_ = true;
        break;
      }
      pieces[count] = from[i];
      if (pieces[count].iov_len > left) {
        pieces[count].iov_len = left;
        short_ = true;
      }
      left -= pieces[count].iov_len;
      ++count;
    }
    if (short_) settings.report->shortened.fetch_add(1, std::memory_order_relaxed);
  }
};

void shrinkBuffers(int fd) {
  if (fd < 0 || settings.buffers == 0) return;
  int saved = errno;
  ::setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &settings.buffers, sizeof settings.buffers);
  ::setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &settings.buffers, sizeof settings.buffers);
  errno = saved;
}

} // namespace

extern "C" {

ssize_t read(int fd, void* buffer, size_t size) {
  Fate fate = decide(fd, size);
  return fate.fails ? -1 : TROTH_NEXT(read)(fd, buffer, cut(size, fate));
}

ssize_t write(int fd, const void* buffer, size_t size) {
  Fate fate = decide(fd, size);
  return fate.fails ? -1 : TROTH_NEXT(write)(fd, buffer, cut(size, fate));
}

ssize_t recv(int fd, void* buffer, size_t size, int flags) {
  Fate fate = decide(fd, size, flags);
  return fate.fails ? -1 : TROTH_NEXT(recv)(fd, buffer, cut(size, fate), flags);
}

ssize_t send(int fd, const void* buffer, size_t size, int flags) {
  Fate fate = decide(fd, size, flags);
  return fate.fails ? -1 : TROTH_NEXT(send)(fd, buffer, cut(size, fate), flags);
}

ssize_t recvfrom(int fd, void* buffer, size_t size, int flags, sockaddr* address, socklen_t* addressLength) {
  Fate fate = decide(fd, size, flags);
  return fate.fails ? -1 : TROTH_NEXT(recvfrom)(fd, buffer, cut(size, fate), flags, address, addressLength);
}

ssize_t sendto(int fd, const void* buffer, size_t size, int flags, const sockaddr* address, socklen_t addressLength) {
  Fate fate = decide(fd, size, flags);
  return fate.fails ? -1 : TROTH_NEXT(sendto)(fd, buffer, cut(size, fate), flags, address, addressLength);
}

ssize_t readv(int fd, const iovec* pieces, int count) {
  Fate fate = decide(fd, total(pieces, count));
  if (fate.fails) return -1;
  if (fate.limit == SIZE_MAX || count <= 0) return TROTH_NEXT(readv)(fd, pieces, count);
  CutVector front(pieces, static_cast<std::size_t>(count), fate);
  return TROTH_NEXT(readv)(fd, front.pieces, static_cast<int>(front.count));
}

ssize_t writev(int fd, const iovec* pieces, int count) {
  Fate fate = decide(fd, total(pieces, count));
  if (fate.fails) return -1;
  if (fate.limit == SIZE_MAX || count <= 0) return TROTH_NEXT(writev)(fd, pieces, count);
  CutVector front(pieces, static_cast<std::size_t>(count), fate);
  return TROTH_NEXT(writev)(fd, front.pieces, static_cast<int>(front.count));
}

ssize_t recvmsg(int fd, msghdr* message, int flags) {
  Fate fate = decide(fd, 0, flags); // only sockets have messages
  if (fate.fails) return -1;
  if (fate.limit == SIZE_MAX || message == nullptr) return TROTH_NEXT(recvmsg)(fd, message, flags);
  CutVector front(message->msg_iov, message->msg_iovlen, fate);
  msghdr shorter = *message;
  shorter.msg_iov = front.pieces;
  shorter.msg_iovlen = front.count;
  ssize_t result = TROTH_NEXT(recvmsg)(fd, &shorter, flags);
  message->msg_namelen = shorter.msg_namelen;
  message->msg_controllen = shorter.msg_controllen;
  message->msg_flags = shorter.msg_flags;
  return result;
}

ssize_t sendmsg(int fd, const msghdr* message, int flags) {
  Fate fate = decide(fd, 0, flags); // only sockets have messages
  if (fate.fails) return -1;
  if (fate.limit == SIZE_MAX || message == nullptr) return TROTH_NEXT(sendmsg)(fd, message, flags);
  CutVector front(message->msg_iov, message->msg_iovlen, fate);
  msghdr shorter = *message;
  shorter.msg_iov = front.pieces;
  shorter.msg_iovlen = front.count;
  return TROTH_NEXT(sendmsg)(fd, &shorter, flags);
}

ssize_t sendfile(int to, int from, off_t* offset, size_t size) noexcept {
  Fate fate = decide(to, size);
  return fate.fails ? -1 : TROTH_NEXT(sendfile)(to, from, offset, cut(size, fate));
}

int accept(int fd, sockaddr* address, socklen_t* addressLength) {
  if (decide(fd, 0).fails) return -1;
  int accepted = TROTH_NEXT(accept)(fd, address, addressLength);
  shrinkBuffers(accepted);
  return accepted;
}

int accept4(int fd, sockaddr* address, socklen_t* addressLength, int flags) {
  if (decide(fd, 0).fails) return -1;
  int accepted = TROTH_NEXT(accept4)(fd, address, addressLength, flags);
  shrinkBuffers(accepted);
  return accepted;
}

} // extern "C"
