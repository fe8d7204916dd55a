// SPDX-License-Identifier: MIT
// A system in which one call fails: for what the real one does on bad days only.
#pragma once

#include "fixtures.h"

#ifdef __linux__

#include <cstddef>
#include <functional>
#include <iterator>
#include <thread>

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

namespace troth::test {

/// A call of the system, and the errno with which it fails.
struct FailingCall {
  unsigned number;
  unsigned error;
  unsigned flags = 0; // if not 0: only calls that have one of these in their third argument (on a little-endian machine)
};

/// Runs `body` on a thread for which `failing` fails. Where the system does not allow it, nothing is run.
inline void withFailing(const FailingCall& failing, const std::function<void()>& body) {
  std::thread([&] {
    const unsigned flags = failing.flags == 0 ? ~0U : failing.flags;
    const unsigned subject = failing.flags == 0 ? offsetof(seccomp_data, nr) : offsetof(seccomp_data, args[2]);
    sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, failing.number, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, subject),
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, flags, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | failing.error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const sock_fprog program{std::size(filter), filter};
    REQUIRE(::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    if (::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) {
      MESSAGE("this system has no seccomp: not tested");
      return;
    }
    body();
  }).join();
}

} // namespace troth::test

#endif
