// SPDX-License-Identifier: MIT
// A system call that tells its failure in another way than by -1.
// EXPECT: TROTH_SYSCALL is for calls that give a number, and -1 with errno set if they fail
#include <troth/runtime/require.h>

using namespace troth;

#if WRONG
bool operate();
#else
int operate();
#endif

void run() { TROTH_SYSCALL(operate()); }
