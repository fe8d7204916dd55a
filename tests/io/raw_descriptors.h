// SPDX-License-Identifier: MIT
// Descriptors of the system for tests of what is made of them.
#pragma once

#include "fixtures.h"

#include <troth/io/descriptor.h>

#include <fcntl.h>
#include <sys/socket.h>
#include <termios.h>
#include <unistd.h>

#include <cstdlib>

namespace troth::test {

struct RawPair {
  OwnedDescriptor out; // of a pipe: the end to read from
  OwnedDescriptor in;
};

inline RawPair rawPipe() {
  int ends[2];
  REQUIRE(pipe2(ends, O_CLOEXEC) == 0);
  return {OwnedDescriptor(ends[0]), OwnedDescriptor(ends[1])};
}

inline RawPair rawSocketpair(int type = SOCK_STREAM) {
  int ends[2];
  REQUIRE(socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, ends) == 0);
  return {OwnedDescriptor(ends[0]), OwnedDescriptor(ends[1])};
}

struct PseudoTerminal {
  OwnedDescriptor emulator; // what a terminal emulator has
  OwnedDescriptor terminal; // what a program has
};

inline PseudoTerminal newPseudoTerminal() {
  OwnedDescriptor emulator(posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC));
  REQUIRE(emulator);
  REQUIRE(grantpt(emulator.get()) == 0);
  REQUIRE(unlockpt(emulator.get()) == 0);
  OwnedDescriptor terminal(open(ptsname(emulator.get()), O_RDWR | O_NOCTTY | O_CLOEXEC));
  REQUIRE(terminal);
  return {std::move(emulator), std::move(terminal)};
}

/// Lets every byte through as it is, both ways.
inline void makeRaw(int terminal) {
  termios settings{};
  REQUIRE(tcgetattr(terminal, &settings) == 0);
  cfmakeraw(&settings);
  REQUIRE(tcsetattr(terminal, TCSANOW, &settings) == 0);
}

inline bool isOpen(int fd) { return fcntl(fd, F_GETFD) >= 0; }
inline bool isNonBlocking(int fd) { return (fcntl(fd, F_GETFL) & O_NONBLOCK) != 0; }
inline bool isClosedOnExec(int fd) { return (fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0; }

/// Puts `fd` into the place of a standard descriptor while it lives.
class Standard {
public:
  Standard(int number, int fd) : number_(number), before_(fcntl(number, F_DUPFD_CLOEXEC, 100)) { REQUIRE(dup2(fd, number) == number); }
  Standard(const Standard&) = delete;
  Standard& operator=(const Standard&) = delete;
  ~Standard() {
    if (before_)
      dup2(before_.get(), number_);
    else
      ::close(number_);
  }

private:
  int number_;
  OwnedDescriptor before_;
};

} // namespace troth::test
