#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Pins the instructions per operation: instructions.py COUNTER COMPILER VERSION [--print].

Runs COUNTER (count_operations) under callgrind and fails if an operation takes more than 15 % above what is recorded
for the compiler, with malloc, `wait()` and all. `--print` prints what is counted, to be recorded after a change that
was meant. Exit status 77, "skipped", where there is no valgrind or nothing is recorded.
"""
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

TIMES = 200
MARGIN = 1.15
SLACK = 5  # instructions, for operations that have hardly any
SKIPPED = 77

# Instructions per operation as counted on x86-64 with glibc, at -O2; the columns are those of COMPILERS.
COMPILERS = [("gcc", "12"), ("clang", "16")]
RECORDED = {
    "ready": (83, 77),
    "immediate": (140, 134),
    "then": (282, 230),
    "then_10": (1117, 1043),
    "then_promise": (847, 846),
    "rejected": (658, 622),
    "eval_later": (341, 318),
    "coroutine": (214, 174),
    "await_ready": (524, 455),
    "await_coroutine": (647, 541),
    "await_100_coroutines": (20432, 16574),
    "recursion_20": (6904, 5528),
    "fulfiller": (255, 259),
    "await_fulfiller": (689, 626),
    "adapted_cancelled": (115, 102),
    "fork_2": (1074, 1000),
    "exclusive_join": (696, 685),
    "join_10": (2518, 2661),
    "join_10_variadic": (2490, 2488),
    "race_10": (2911, 2874),
    "task_set": (450, 412),
    "canceler": (493, 498),
    "queue": (247, 251),
    "timer": (342, 306),
    "timer_cancelled": (246, 202),
    "timeout_not_reached": (1105, 1076),
}

# To check the counting itself by.
NOTHING = "nothing"
THOUSAND = "thousand_instructions"


def skip(why):
    print(f"skipped: {why}")
    sys.exit(SKIPPED)


def count(counter, names):
    """Instructions per operation, by name, less those of calling an empty one."""
    names = [NOTHING, THOUSAND, *names]
    with tempfile.TemporaryDirectory(prefix="troth-budget-") as directory:
        profile = Path(directory) / "callgrind.out"
        # A dump at each end of counting, numbered from 1.
        subprocess.run(["valgrind", "--quiet", "--tool=callgrind", "--zero-before=countingBegins",
                        "--dump-before=countingEnds", f"--callgrind-out-file={profile}",
                        counter, str(TIMES), *names], check=True)
        counted = {}
        for number, name in enumerate(names, 1):
            total = re.search(r"^totals: (\d+)", Path(f"{profile}.{number}").read_text(), re.M)
            counted[name] = int(total[1]) / TIMES
    nothing = counted.pop(NOTHING)
    return {name: instructions - nothing for name, instructions in counted.items()}


def main():
    counter, compiler, version = sys.argv[1:4]
    if shutil.which("valgrind") is None:
        skip("valgrind is not installed")
    if platform.machine() != "x86_64" or platform.libc_ver()[0] != "glibc":
        skip(f"nothing is recorded for {platform.machine()} with {platform.libc_ver()[0] or 'this C library'}")
    if "--print" in sys.argv:
        for name, instructions in count(counter, RECORDED).items():
            print(f"{name:24} {instructions:8.0f}")
        return 0
    column = (compiler, version.split(".")[0])
    if column not in COMPILERS:
        skip(f"nothing is recorded for {compiler} {version}")

    counted = count(counter, RECORDED)
    thousand = counted.pop(THOUSAND)
    failures = 0
    if not 990 <= thousand <= 1010:
        print(f"FAILED: the counting is off: 1000 instructions were counted as {thousand:.0f}")
        failures += 1
    for name, instructions in counted.items():
        recorded = RECORDED[name][COMPILERS.index(column)]
        bound = recorded * MARGIN + SLACK
        good = instructions <= bound
        failures += not good
        print(f"{'ok' if good else 'FAILED'}: {name}: {instructions:.0f} instructions, {recorded} recorded, "
              f"at most {bound:.0f} allowed")
    # In doctest's words, which tools/count_tests.py adds up.
    cases = len(counted) + 1
    print(f"test cases: {cases} | {cases - failures} passed | {failures} failed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
